"""Where the water is going: a robust slope of late, and when the next threshold is reached at this rate. Pure; always an estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from statistics import median
from typing import Final

Point = tuple[datetime, float]
"""Device time and metres."""

HOUR: Final = timedelta(hours=1)
KEPT: Final = timedelta(minutes=75)
APART: Final = timedelta(minutes=4)
"""Points are kept no closer than this, so that a gauge that reports every second fills no memory: 20 at most."""
FEWEST: Final = 3
SPARSE: Final = timedelta(hours=6)
"""Of a gauge that reports less often than that, the newest three are taken, if they are no older."""
SHORTEST: Final = timedelta(minutes=15)
"""From fewer points, or within less, no slope is told."""
FARTHEST: Final = timedelta(hours=6)
"""Nothing is forecast further ahead."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """At the present rate the water reaches `level_m` (of the stage with that number) in `minutes`."""

    stage: int
    level_m: float
    minutes: float


def remember(points: Sequence[Point], newest: Point) -> tuple[Point, ...]:
    """Return the points with one that is later than all of them: those of the last 75 minutes, thinned, and three of the last 6 hours in any case."""
    recent = [point for point in points if newest[0] - point[0] <= KEPT]
    sparse = [point for point in points[1 - FEWEST :] if newest[0] - point[0] <= SPARSE]
    kept = max(recent, sparse, key=len)
    if len(kept) >= 2 and kept[-1][0] - kept[-2][0] < APART:
        kept.pop()
    return (*kept, newest)


def slope(points: Sequence[Point]) -> float | None:
    """Return metres per hour over the last hour (of a gauge that reports seldom, over its newest three points), or None where too little is known.

    The median of the slopes between all pairs (Theil, Sen): one wild value in five does not move it.
    """
    if not points:
        return None
    recent = [point for point in points if points[-1][0] - point[0] <= HOUR]
    recent = recent if len(recent) >= FEWEST else list(points[-FEWEST:])
    if len(recent) < FEWEST or recent[-1][0] - recent[0][0] < SHORTEST:
        return None
    return median((b[1] - a[1]) / ((b[0] - a[0]) / HOUR) for a, b in combinations(recent, 2))


def risen(points: Sequence[Point], window: timedelta) -> float | None:
    """Return by how many metres the newest point is above the lowest one within the window before it; None if there is no other."""
    if not points:
        return None
    newest = points[-1]
    before = [level for time, level in points[:-1] if newest[0] - time <= window]
    return newest[1] - min(before) if before else None


def crossing(
    level_m: float, per_hour: float | None, stage: int, thresholds: Sequence[tuple[int, float]]
) -> Crossing | None:
    """Return when the lowest threshold above the water and above the stage is reached, if the water rises and it is less than 6 hours away."""
    ahead = [(of, at) for of, at in thresholds if of > stage and at > level_m]
    if per_hour is None or per_hour <= 0 or not ahead:
        return None
    of, at = min(ahead, key=lambda pair: pair[1])
    hours = (at - level_m) / per_hour
    return Crossing(of, at, hours * 60) if hours <= FARTHEST / HOUR else None
