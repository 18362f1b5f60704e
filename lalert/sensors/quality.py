"""Is a reading to be believed? Pure: a doubtful one is kept and shown with the reason, and triggers nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from lalert.model import Reading
from lalert.sensors.station import Station

CLOCK_AHEAD: Final = timedelta(minutes=10)
STALE: Final = timedelta(hours=6)
DEEPEST_M: Final = -50.0
OVER_TOP_M: Final = 20.0
HIGHEST_M: Final = 2_500.0
FASTEST_M_PER_MINUTE: Final = 0.5
"""A river rises metres in an hour; half a metre a minute is a float that jumped or a unit that changed."""

SPIKE_M: Final = 1.0
"""Differences below this are never called a spike, however close together two readings are."""


def doubt(
    station: Station, reading: Reading, received: datetime, last: tuple[datetime, float] | None
) -> str | None:
    """Return a word for what is wrong with a water level, or None. `last` is the last good (device time, level in metres)."""
    assert reading.level_m is not None
    if reading.time > received + CLOCK_AHEAD:
        return "clock-ahead"
    if reading.time < received - STALE:
        return "stale"
    if last is not None and reading.time <= last[0]:
        return "out-of-order"
    top = max(station.levels.values(), default=HIGHEST_M)
    if not DEEPEST_M <= reading.level_m <= min(HIGHEST_M, top + OVER_TOP_M):
        return "out-of-range"
    if last is not None and _jumped(reading, last):
        return "spike"
    return None


def _jumped(reading: Reading, last: tuple[datetime, float]) -> bool:
    assert reading.level_m is not None
    rise = abs(reading.level_m - last[1])
    minutes = (reading.time - last[0]).total_seconds() / 60
    return rise > SPIKE_M and rise > FASTEST_M_PER_MINUTE * minutes
