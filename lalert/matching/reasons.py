"""Why a filter wants an entry, or does not, in sentences for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import shapely

from lalert.geo import Gazetteer
from lalert.matching.rules import (
    Places,
    Voice,
    concerns,
    hears,
    is_grave,
    is_of_one,
    is_there,
    places_of,
    voices,
)
from lalert.model import Entry, Filter, Status

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


class Rule(StrEnum):
    """What decided: the first seven let an alert through, the rest keep it from a subscriber."""

    ANYWHERE = "anywhere"
    JURISDICTION = "jurisdiction"
    AREA = "area"
    POINT = "point"
    POLYGON = "polygon"
    BBOX = "bbox"
    UNJUDGED = "unjudged"
    STATUS = "status"
    SENDER = "sender"
    LEVEL = "level"
    SEVERITY = "severity"
    CATEGORY = "category"
    EVENT = "event"
    PLACE = "place"


@dataclass(frozen=True, slots=True)
class Reason:
    """A rule that decided about a filter, in English and Japanese.

    `area` is the filter's code that matched, where it was one; `earlier` the identifier of the former alert whose audience is told again.
    """

    rule: Rule
    en: str
    ja: str
    area: str | None = None
    earlier: str | None = None


def explain(
    filter: Filter, entry: Entry, lineage: Sequence[Entry] = (), gazetteer: Gazetteer | None = None
) -> list[Reason]:
    """Return by which rules a filter wants an entry; empty exactly where `wants` says no."""
    if not hears(filter, entry):
        return []
    places = places_of(filter, gazetteer)
    reasons: list[Reason] = []
    for voice in voices(entry, lineage, gazetteer):
        if concerns(filter, places, voice):
            found = _grounds(filter, places, voice, gazetteer)
            reasons += found if voice.entry is entry else (_told_before(r, voice.entry) for r in found)
    return reasons


def hindrances(
    filter: Filter, entry: Entry, lineage: Sequence[Entry] = (), gazetteer: Gazetteer | None = None
) -> list[Reason]:
    """Return which conditions of a filter keep an entry from it; empty exactly where `wants` says yes.

    Of a message that says something itself, its own; of one that only continues others, those of the newest that it continues.
    """
    if not hears(filter, entry):
        return [_unheard(filter, entry)]
    places = places_of(filter, gazetteer)
    speaking = voices(entry, lineage, gazetteer)
    if any(concerns(filter, places, voice) for voice in speaking):
        return []
    own = [voice for voice in speaking if voice.entry is entry]
    return [reason for voice in (own or speaking[-1:]) for reason in _missing(filter, places, voice)]


def _told_before(reason: Reason, earlier: Entry) -> Reason:
    identifier = earlier.alert.identifier
    return replace(
        reason,
        en=f"was told of {identifier}, which this one continues: {reason.en}",
        ja=f"この情報が引き継ぐ{identifier}を受け取っているため({reason.ja})",
        earlier=identifier,
    )


def _grounds(filter: Filter, places: Places, voice: Voice, gazetteer: Gazetteer | None) -> Iterator[Reason]:
    facts = voice.entry.facts
    if filter.anywhere:
        yield Reason(Rule.ANYWHERE, "the filter names no place", "条件に場所の指定がありません")
    elif facts.nowhere:
        yield Reason(
            Rule.JURISDICTION,
            "the alert names no place, so it concerns its sender's whole jurisdiction",
            "この情報には場所の指定がないため、発信者の管轄全域が対象です",
        )
    for area in sorted(filter.areas & facts.reach):
        if area in facts.codes:
            en, ja = "it", f"地域{area}が対象です"
        else:
            en, ja = _some(facts.codes), f"地域{area}は、対象の{_some(facts.codes, 'ほか{}件')}と重なります"
        yield Reason(Rule.AREA, f"area {area}: the alert concerns {en}", ja, area=area)
    points = [shapely.Point(point) for point in filter.points]
    met = _met([*points, *places.shapes[1 if points else 0 :]], voice, gazetteer)
    for (lon, lat), inside in zip(filter.points, met, strict=False):
        if inside:
            where = f"{lat:g},{lon:g}"
            yield Reason(
                Rule.POINT, f"point {where} lies in the alert's area", f"地点{where}は対象の区域内です"
            )
    for rule, inside in zip(_surfaces(filter), met[len(points) :], strict=True):
        if inside:
            yield Reason(rule, f"the {rule} meets the alert's area", f"{_JA[rule]}が対象の区域と重なります")


def _met(shapes: Sequence[BaseGeometry], voice: Voice, gazetteer: Gazetteer | None) -> list[bool]:
    """Say of each shape whether it meets what is drawn or a municipality that is concerned as a whole."""
    drawn, ground = voice.entry.facts.drawn, voice.ground
    leaves = gazetteer.leaves_meeting(shapes) if gazetteer and ground else [ground] * len(shapes)
    return [
        not ground.isdisjoint(own) or (drawn is not None and bool(shapely.intersects(drawn, shape)))
        for shape, own in zip(shapes, leaves, strict=True)
    ]


_JA = {Rule.POLYGON: "条件の多角形", Rule.BBOX: "条件の矩形"}


def _surfaces(filter: Filter) -> list[Rule]:
    surfaces = ((Rule.POLYGON, filter.polygon), (Rule.BBOX, filter.bbox))
    return [rule for rule, surface in surfaces if surface]


def _some(codes: Iterable[str], more: str = " and {} more") -> str:
    first, *rest = sorted(codes)
    return first + more.format(len(rest)) if rest else first


def _unheard(filter: Filter, entry: Entry) -> Reason:
    status = entry.alert.status
    if status is Status.DRAFT:
        return Reason(Rule.STATUS, "a Draft is never sent out", "Draft(草案)は配信されません")
    asked = ", ".join(sorted(filter.statuses))
    return Reason(
        Rule.STATUS,
        f"the message is {status}, and the filter asks for {asked}",
        f"この情報のstatusは{status}ですが、条件は{asked}です",
    )


def _missing(filter: Filter, places: Places, voice: Voice) -> Iterator[Reason]:
    entry = voice.entry
    if not hears(filter, entry):
        yield _unheard(filter, entry)
    if filter.senders and entry.alert.sender not in filter.senders:
        yield Reason(
            Rule.SENDER,
            f"the sender is {entry.alert.sender}, and the filter asks for others",
            f"発信者{entry.alert.sender}は条件にありません",
        )
    if entry.alert.infos:
        yield from _lacking(filter, entry)
    if not is_there(filter, places, voice):
        codes = _some(entry.facts.codes) if entry.facts.codes else "what it has drawn"
        codes_ja = _some(entry.facts.codes, "ほか{}件") if entry.facts.codes else "図形の区域"
        yield Reason(
            Rule.PLACE,
            f"the alert concerns {codes}, and none of the filter's places",
            f"対象は{codes_ja}で、条件の場所は含まれません",
        )


def _lacking(filter: Filter, entry: Entry) -> Iterator[Reason]:
    infos, level = entry.alert.infos, entry.facts.level
    if level is None:
        if filter.level_required:
            yield Reason(
                Rule.LEVEL,
                "the alert has no 警戒レベル, and the filter requires one",
                "警戒レベルの記載がありません(level=required)",
            )
    elif filter.min_level is not None and level < filter.min_level:
        yield Reason(
            Rule.LEVEL,
            f"警戒レベル {level} is below the filter's {filter.min_level}",
            f"警戒レベル{level}は、条件の{filter.min_level}より低い値です",
        )
    if filter.categories and not any(is_of_one(filter.categories, info.categories) for info in infos):
        asked = ", ".join(sorted(filter.categories))
        yield Reason(
            Rule.CATEGORY, f"no info is of category {asked}", f"分類(category)が{asked}ではありません"
        )
    if filter.events and not any(info.event in filter.events for info in infos):
        asked = ", ".join(sorted(filter.events))
        yield Reason(Rule.EVENT, f"no info has the event {asked}", f"事象(event)が{asked}ではありません")
    least = filter.min_severity
    if least is not None and not any(is_grave(info.severity, least) for info in infos):
        severity = entry.alert.severity
        yield Reason(
            Rule.SEVERITY,
            f"severity {severity} is below the filter's {least}",
            f"severity {severity}は、条件の{least}より低い値です",
        )
