"""Heartbeats with names, so that the answer to one tells how long both were under way."""

from __future__ import annotations

from typing import Final

from lalert.clock import Clock
from lalert.live import frames
from lalert.live.frames import Wire

LONGEST_SECONDS: Final = 60.0
"""An answer that comes later says nothing of the line any more."""

_DIGITS: Final = frozenset("0123456789abcdef")
_MAX_DIGITS: Final = 16


class Beats:
    """Makes heartbeats. Nothing is remembered of one: its name is the moment at which it was made."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()

    def frame(self, wire: Wire, position: str) -> bytes:
        """Return a heartbeat of now; on a wire that can be answered it has a name."""
        name = f"{self._micros():x}" if wire is Wire.WS else None
        return frames.heartbeat(wire, position, self._clock.now(), name)

    def round_trip(self, name: str) -> float | None:
        """Return the seconds since the heartbeat with this name; None for a name that was never given, or too long ago."""
        if not name or len(name) > _MAX_DIGITS or not _DIGITS.issuperset(name):
            return None
        seconds = (self._micros() - int(name, 16)) / 1e6
        return seconds if 0 <= seconds <= LONGEST_SECONDS else None

    def _micros(self) -> int:
        return round((self._clock.monotonic() - self._began) * 1e6)
