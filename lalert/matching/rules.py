"""What it takes for a filter to want an entry."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import shapely

from lalert.errors import InvalidGeometry
from lalert.geo import Gazetteer, repair
from lalert.model import SEVERITY_RANK, Alert, Entry, Facts, Filter, MsgType, Ring, Severity, Status

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_FOLLOW_UPS: Final = frozenset({MsgType.UPDATE, MsgType.CANCEL, MsgType.ERROR})


@dataclass(frozen=True, slots=True)
class Places:
    """The positions and surfaces of a filter in (lon, lat) degrees, and the leaves that any of them meets; None where no gazetteer was asked."""

    shapes: tuple[BaseGeometry, ...]
    leaves: frozenset[str] | None


_NOWHERE: Final = Places((), frozenset())


@dataclass(frozen=True, slots=True)
class Voice:
    """An entry that decides who hears of something, with the leaves (`Facts.ground`) that it concerns with their whole territory."""

    entry: Entry
    ground: frozenset[str]


def wants(
    filter: Filter, entry: Entry, lineage: Sequence[Entry] = (), gazetteer: Gazetteer | None = None
) -> bool:
    """Say whether a filter wants an entry; `lineage` is what `store.lineage` returns of it, rising.

    An Update, Cancel or Error is also wanted by whoever wanted anything of its lineage, even if its area shrank, its level fell or
    it has no info. The status is never crossed that way: a drill reaches only those who asked for drills, a Draft nobody.
    The gazetteer says in which municipality a position is, and finds the ground of an entry whose facts were made without one;
    where there is none to ask, a declared code reaches every position. Raises InvalidGeometry for a filter that `parse_filter` would have refused.
    """
    return is_wanted(filter, places_of(filter, gazetteer), entry, voices(entry, lineage, gazetteer))


def is_wanted(filter: Filter, places: Places, entry: Entry, speaking: Iterable[Voice]) -> bool:
    """Answer as `wants` does, from what is worth making once: the `places_of` a filter and the `voices` of an entry."""
    return hears(filter, entry) and any(concerns(filter, places, voice) for voice in speaking)


def voices(entry: Entry, lineage: Sequence[Entry], gazetteer: Gazetteer | None) -> list[Voice]:
    """Return what decides who hears of an entry: itself, and of a follow-up everything that it continues.

    An entry without infos that refers only to known ones has no place, severity or level of its own to go by: it says that
    something has changed for those who were told, and for nobody else. If anything that it refers to is unknown, so are those who
    were told, and it speaks for itself: to its sender's whole jurisdiction.
    """
    seen: set[str] = set()
    speaking: list[Entry] = []
    for earlier in lineage:
        if _speaks_for_itself(earlier.alert, seen):
            speaking.append(earlier)
        seen.add(earlier.alert.id)
    if _speaks_for_itself(entry.alert, seen):
        speaking = [entry, *speaking] if entry.alert.msg_type in _FOLLOW_UPS else [entry]
    return [Voice(spoken, _ground(spoken.facts, gazetteer)) for spoken in speaking]


def places_of(filter: Filter, gazetteer: Gazetteer | None) -> Places:
    """Return the places of a filter that are not codes; raises InvalidGeometry for what has no finite numbers."""
    if not (filter.points or filter.polygon or filter.bbox):
        return _NOWHERE
    return _places(filter.points, filter.polygon, filter.bbox, gazetteer)


def _speaks_for_itself(alert: Alert, seen: set[str]) -> bool:
    if alert.infos or not alert.references:
        return True
    return not all(reference.id in seen for reference in alert.references)


def hears(filter: Filter, entry: Entry) -> bool:
    """Say whether a filter asks for messages of this status at all."""
    status = entry.alert.status
    return status in filter.statuses and status is not Status.DRAFT


def concerns(filter: Filter, places: Places, voice: Voice) -> bool:
    """Say whether a filter wants something because of this one voice."""
    return (
        hears(filter, voice.entry) and has_attributes(filter, voice.entry) and is_there(filter, places, voice)
    )


def has_attributes(filter: Filter, entry: Entry) -> bool:
    """Say whether each condition is met by at least one info; an alert without infos is measured by its sender alone."""
    alert, level = entry.alert, entry.facts.level
    if filter.senders and alert.sender not in filter.senders:
        return False
    if not alert.infos:
        return True
    if filter.level_required and level is None:
        return False
    if filter.min_level is not None and level is not None and level < filter.min_level:
        return False
    if filter.categories and not any(is_of_one(filter.categories, info.categories) for info in alert.infos):
        return False
    if filter.events and not any(info.event in filter.events for info in alert.infos):
        return False
    return filter.min_severity is None or any(
        is_grave(info.severity, filter.min_severity) for info in alert.infos
    )


def is_of_one(wanted: frozenset[str], categories: Collection[str]) -> bool:
    """Say whether an info with these categories passes a filter that names some."""
    # Of no category is "nobody has said", like a severity of Unknown: only CAP 1.0 and a tolerant policy let it in.
    return not categories or not wanted.isdisjoint(categories)


def is_grave(severity: Severity, least: Severity) -> bool:
    """Say whether a severity passes a filter's `min_severity`."""
    # CAP 3.2.2: Unknown is not "harmless", it is "nobody has said yet".
    return severity is Severity.UNKNOWN or SEVERITY_RANK[severity] >= SEVERITY_RANK[least]


def is_there(filter: Filter, places: Places, voice: Voice) -> bool:
    """Say whether one of a filter's places lies where a voice speaks of."""
    facts = voice.entry.facts
    if filter.anywhere or (facts.nowhere and not facts.codes):
        return True
    if not facts.reach.isdisjoint(filter.areas):
        return True
    if not places.shapes:
        return False
    if voice.ground and (places.leaves is None or not voice.ground.isdisjoint(places.leaves)):
        return True
    if facts.drawn is not None:
        return any(shapely.intersects(facts.drawn, shape) for shape in places.shapes)
    # A jurisdiction without a territory: who is in it cannot be told from a position, so nobody is left out.
    return facts.nowhere and not voice.ground


def surfaces_of(polygon: Ring | None, bbox: tuple[float, float, float, float] | None) -> list[BaseGeometry]:
    """Return the valid geometry of a filter's polygon and box; raises InvalidGeometry for what has no finite numbers."""
    surfaces: list[BaseGeometry] = []
    if polygon:
        # A bow-tie would meet nothing without a word; repaired, it meets what either half meets.
        surfaces.append(repair(polygon))
    if bbox:
        surfaces.append(_box(*bbox))
    return surfaces


def _ground(facts: Facts, gazetteer: Gazetteer | None) -> frozenset[str]:
    if facts.ground or facts.drawn is not None or gazetteer is None:
        return facts.ground
    return gazetteer.leaves(facts.codes)


@lru_cache(maxsize=4096)
def _places(
    points: tuple[tuple[float, float], ...],
    polygon: Ring | None,
    bbox: tuple[float, float, float, float] | None,
    gazetteer: Gazetteer | None,
) -> Places:
    shapes: list[BaseGeometry] = []
    if points:
        if not all(math.isfinite(number) for point in points for number in point):
            raise InvalidGeometry("a point of the filter is not a finite number")
        shapes.append(shapely.MultiPoint(points))
    shapes += surfaces_of(polygon, bbox)
    leaves = frozenset().union(*gazetteer.leaves_meeting(shapes)) if gazetteer else None
    return Places(tuple(shapes), leaves)


def _box(west: float, south: float, east: float, north: float) -> BaseGeometry:
    """Return the box, cut at the 180th meridian where it crosses that; one without width is a line or a point."""
    crosses = east + 360 - west <= 180
    if not (
        all(map(math.isfinite, (west, south, east, north))) and (west <= east or crosses) and south <= north
    ):
        raise InvalidGeometry(
            "the box of the filter has west beyond east, south beyond north, or no finite number"
        )
    if crosses:
        return shapely.union(_box(west, south, 180, north), _box(-180, south, east, north))
    return shapely.convex_hull(
        shapely.MultiPoint([(west, south), (west, north), (east, north), (east, south)])
    )
