"""A process that writes to a store as fast as it can and says on a line each what it was promised, until somebody kills it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from lalert.clock import SystemClock
from lalert.store.sqlite import SqliteStore
from lalert.testing import revive
from lalert.testing.store import ignore
from tests.system import promises


async def main(path: Path) -> None:
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        await promises.write(store, say)


def say(*words: str) -> None:
    # One write for each line, past every buffer of this process: what was said before the kill is with the parent.
    os.write(1, (" ".join(words) + "\n").encode())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
