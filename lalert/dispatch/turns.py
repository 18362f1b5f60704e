"""Long work on the event loop, a little at a time."""

from __future__ import annotations

import asyncio
from typing import Final

SECONDS: Final = 0.002


class Turns:
    """Gives everybody else a turn whenever this one has lasted `SECONDS`."""

    def __init__(self) -> None:
        self._time = asyncio.get_running_loop().time
        self._end = self._time() + SECONDS

    async def give(self) -> None:
        """Go on, or go on in the next turn."""
        if self._time() >= self._end:
            await asyncio.sleep(0)
            self._end = self._time() + SECONDS
