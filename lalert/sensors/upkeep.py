"""The daily life of a station: maintenance, a device that is exchanged, a zero that is moved. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from lalert.model import Reading

LONGEST_MAINTENANCE: Final = timedelta(days=31)
FURTHEST_M: Final = 10_000.0


@dataclass(frozen=True, slots=True)
class Maintenance:
    """From `since` until before `until` readings are kept and not judged: a hand in the water is no flood."""

    since: datetime
    until: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Datum:
    """From `since` on, by the device's time, `offset_m` is added to what the device says, so that it is metres above the station's zero."""

    since: datetime
    offset_m: float


@dataclass(frozen=True, slots=True)
class Post:
    """From `since` on the device of this devEui or Sigfox id measures here; `layout` is one of the configuration's, `offset_m` how high it hangs."""

    id: str
    layout: str
    since: datetime
    offset_m: float = 0.0


def under(maintenance: Maintenance | None, time: datetime) -> bool:
    """Say whether a station is maintained at a time."""
    return maintenance is not None and maintenance.since <= time < maintenance.until


def levelled(data: Sequence[Datum], reading: Reading) -> Reading:
    """Return a reading in metres above the station's zero, which is what a person reads off its staff; `data` are the changes of its device's zero, rising."""
    if reading.level_m is None or reading.by is not None:
        return reading
    offset = next((datum.offset_m for datum in reversed(data) if datum.since <= reading.time), 0.0)
    return replace(reading, level_m=round(reading.level_m + offset, 6)) if offset else reading


def posted(posts: Sequence[Post], time: datetime) -> Post | None:
    """Return which device measures at a time; `posts` rise."""
    return next((post for post in reversed(posts) if post.since <= time), None)


def mistakes(maintenance: Maintenance | None, data: Sequence[Datum], posts: Sequence[Post]) -> Iterator[str]:
    """Yield one sentence for each thing that cannot be meant, beginning with its name."""
    times = [("datum", datum.since) for datum in data] + [("posts", post.since) for post in posts]
    if maintenance is not None:
        times += [("maintenance", maintenance.since), ("maintenance", maintenance.until)]
    naive = sorted({name for name, time in times if time.tzinfo is None})
    if naive:
        yield from (
            f"{name}: give times with their offset, such as 2026-06-03T10:20:00+09:00" for name in naive
        )
        return
    if (
        maintenance is not None
        and not timedelta(0) < maintenance.until - maintenance.since <= LONGEST_MAINTENANCE
    ):
        yield f"maintenance.until: must come after since, by {LONGEST_MAINTENANCE.days} days at most: a station that is forgotten in maintenance warns nobody"
    for name, series in (("datum", [each.since for each in data]), ("posts", [each.since for each in posts])):
        if any(one >= other for one, other in pairwise(series)):
            yield f"{name}: must rise by since"
    for name, offsets in (
        ("datum", [each.offset_m for each in data]),
        ("posts", [each.offset_m for each in posts]),
    ):
        if any(not abs(offset) <= FURTHEST_M for offset in offsets):
            yield f"{name}.offset_m: must be {-FURTHEST_M:g} to {FURTHEST_M:g} metres"
