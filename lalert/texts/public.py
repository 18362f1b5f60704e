"""The JSON and GeoJSON of an entry, as INTERFACE names the members; nothing that is not public goes in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import shapely

from lalert import cap
from lalert.errors import Problem, ProblemSeverity
from lalert.geo import DECIMALS, bbox, to_geojson, union
from lalert.matching import drawn_geometry
from lalert.model import (
    SEVERITY_RANK,
    Alert,
    Area,
    Changes,
    Circle,
    Entry,
    Info,
    MsgType,
    NamedValue,
    PlaceName,
    Reference,
    Resource,
    Status,
)
from lalert.texts.details import details
from lalert.texts.languages import chosen
from lalert.texts.marks import mark, marked_word
from lalert.texts.plain import clean
from lalert.texts.ticker import tickers

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

DEFECTS: Final = frozenset({ProblemSeverity.ERROR, ProblemSeverity.WARNING})
"""What a receiver should know of. Advice on how the alert could be better is the sender's matter: `lalert validate` gives it."""

TERRITORY_TOLERANCE: Final = 0.001
"""Degrees, about 100 m: how far the drawing of a whole municipality may be off on a map. What a sender drew is never simplified."""

# Some encodings of Japanese would read as UTF-8 without an error, and as nonsense.
_ENCODING: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?<\?xml[^>]{0,200}?\sencoding\s*=\s*[\"']([^\"']{1,40})[\"']"
)
_AS_UTF_8: Final = frozenset({b"utf-8", b"us-ascii", b"ascii"})


def alert_json(
    entry: Entry,
    *,
    lang: str | None = None,
    with_cap: bool = False,
) -> dict[str, Any]:
    """Return the public JSON of an entry. `lang` chooses the infos shown, `with_cap` adds the document as text.

    Headline, description, instruction and reason of a drill carry the mark; a drill without a headline gets its marked event for one. The content that
    a resource brings along (derefUri) stays in the CAP document alone.
    """
    alert, signer = entry.alert, entry.origin.signer
    public = {
        "position": entry.position,
        "id": alert.id,
        "received": _utc(entry.received),
        "stored": _utc(entry.stored),
        "sender": alert.sender,
        "identifier": alert.identifier,
        "sent": alert.sent_text,
        "status": alert.status.value,
        "msgType": alert.msg_type.value,
        "scope": alert.scope.value,
        "note": _note(alert),
        "reason": _reason(alert),
        "correction": entry.correction,
        "references": [_reference(reference) for reference in alert.references],
        "info": [_info(info, alert.status) for info in chosen(alert.infos, lang)],
        "level": entry.facts.level,
        "kind": entry.facts.kind,
        "codes": municipalities(entry),
        "places": [_place(place) for place in entry.facts.places],
        "ticker": tickers(alert, lang, correction=entry.correction),
        "details": details(alert),
        "bbox": list(entry.facts.bbox) if entry.facts.bbox else None,
        "nowhere": entry.facts.nowhere,
        "mark": marked_word(alert.status),
        "incident": entry.incident,
        "url": f"/alerts/{alert.id}",
        "defects": [_defect(problem) for problem in alert.defects if problem.severity in DEFECTS],
        "signature": {"status": "verified", "certificate": signer} if signer else None,
        "changes": _changes(entry.changes) if entry.changes is not None else None,
        "replaced": list(entry.replaced),
        "outdated": entry.outdated,
    }
    return {**public, "cap": document_text(alert)} if with_cap else public


def alert_geojson(entry: Entry) -> dict[str, Any]:
    """Return the entry as a GeoJSON Feature (RFC 7946) for a map; up to a second the first time for a nation, so not for the event loop.

    Its geometry is what the sender drew, if that is all, a circle as a polygon around it; where an area is named only by code, it is the whole ground of
    the alert, simplified, and `approximate` unless all of it has official boundaries. An alert without any place has none, although it concerns a whole
    jurisdiction.
    """
    alert, facts = entry.alert, entry.facts
    gravest = max(alert.infos, key=lambda info: SEVERITY_RANK[info.severity], default=None)
    areas = [area for info in alert.infos for area in info.areas]
    drawn = _drawn(entry, areas)
    geometry = drawn if drawn is not None else _ground(entry)
    properties = {
        "position": entry.position,
        "id": alert.id,
        "sender": alert.sender,
        "identifier": alert.identifier,
        "sent": alert.sent_text,
        "status": alert.status.value,
        "msgType": alert.msg_type.value,
        "correction": entry.correction,
        "mark": marked_word(alert.status),
        "headline": _headline(gravest, alert.status) if gravest else None,
        "event": clean(gravest.event) if gravest else None,
        "severity": alert.severity.value,
        "urgency": gravest.urgency.value if gravest else None,
        "certainty": gravest.certainty.value if gravest else None,
        "expires": alert.expires.isoformat() if alert.expires else None,
        "areaDesc": list(dict.fromkeys(clean(area.area_desc) for area in areas)),
        "circles": _circles(dict.fromkeys(circle for area in areas for circle in area.circles)),
        "approximate": drawn is None and geometry is not None and facts.approximate,
        "level": facts.level,
        "kind": facts.kind,
        "codes": municipalities(entry),
        "incident": entry.incident,
        "url": f"/alerts/{alert.id}",
    }
    feature: dict[str, Any] = {"type": "Feature", "id": alert.id}
    if geometry is not None:
        feature["bbox"] = [round(bound, DECIMALS) for bound in bbox(geometry) or ()]
    return {
        **feature,
        "geometry": to_geojson(geometry) if geometry is not None else None,
        "properties": properties,
    }


def municipalities(entry: Entry) -> list[str]:
    """Return the 6-digit codes that an entry concerns, sorted; a prefecture as all of its municipalities of today."""
    facts = entry.facts
    prefectures = {code for code in facts.codes if len(code) == 2}
    within = {code for code in facts.reach - facts.ended if len(code) == 6 and code[:2] in prefectures}
    return sorted({code for code in facts.codes if len(code) == 6} | within)


def document_text(alert: Alert) -> str:
    """Return the CAP document as text: as received where that is UTF-8, else without the declaration of the encoding it no longer has."""
    declared = _ENCODING.match(alert.raw)
    if alert.raw and (declared is None or declared[1].lower() in _AS_UTF_8):
        try:
            return alert.raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            pass  # UTF-16 by its byte order mark
    return cap.bare(alert.raw or cap.render(alert)).decode()


def _note(alert: Alert) -> str | None:
    # A <note> names no language: its letters decide which mark it gets.
    return mark(clean(alert.note), alert.status, "en") if alert.note is not None else None


def _reason(alert: Alert) -> str | None:
    return _note(alert) if alert.msg_type is MsgType.CANCEL else None


def _info(info: Info, status: Status) -> dict[str, Any]:
    return {
        "language": info.language,
        "category": list(info.categories),
        "event": clean(info.event),
        "responseType": list(info.response_types),
        "urgency": info.urgency.value,
        "severity": info.severity.value,
        "certainty": info.certainty.value,
        "audience": _text(info.audience),
        "effective": _local(info.effective),
        "onset": _local(info.onset),
        "expires": _local(info.expires),
        "senderName": _text(info.sender_name),
        "headline": _headline(info, status),
        "description": _marked(info.description, info, status),
        "instruction": _marked(info.instruction, info, status),
        "web": _text(info.web),
        "contact": _text(info.contact),
        "parameters": _named(info.parameters),
        "resources": [_resource(resource) for resource in info.resources],
        "areas": [_area(area) for area in info.areas],
    }


def _headline(info: Info, status: Status) -> str | None:
    if marked_word(status) and not (info.headline or "").strip():
        return mark(clean(info.event), status, info.language)
    return _marked(info.headline, info, status)


def _marked(text: str | None, info: Info, status: Status) -> str | None:
    return mark(clean(text), status, info.language) if text is not None else None


def _area(area: Area) -> dict[str, Any]:
    return {
        "areaDesc": clean(area.area_desc),
        "polygons": [[list(point) for point in ring] for ring in area.polygons],
        "circles": _circles(area.circles),
        "geocodes": _named(area.geocodes),
    }


def _circles(circles: Iterable[Circle]) -> list[dict[str, float]]:
    return [{"lon": circle.lon, "lat": circle.lat, "radius_m": circle.radius_m} for circle in circles]


def _place(place: PlaceName) -> dict[str, str]:
    return {"code": place.code, "name": place.name, "kana": place.kana, "name_en": place.name_en}


def _resource(resource: Resource) -> dict[str, Any]:
    return {
        "resourceDesc": clean(resource.resource_desc),
        "mimeType": _text(resource.mime_type),
        "size": resource.size,
        "uri": _text(resource.uri),
        "digest": _text(resource.digest),
    }


def _changes(changes: Changes) -> dict[str, list[str]]:
    return {
        "issued": list(changes.issued),
        "raised": list(changes.raised),
        "lowered": list(changes.lowered),
        "lifted": list(changes.lifted),
    }


def _reference(reference: Reference) -> dict[str, str | None]:
    return {
        "sender": reference.sender,
        "identifier": reference.identifier,
        "sent": reference.sent,
        # What CAP 1.0 refers to without a time, and nobody has found, has no id.
        "id": None if reference.timeless else reference.id,
    }


def _defect(problem: Problem) -> dict[str, Any]:
    members = problem.members().items()
    return {name: clean(value) if isinstance(value, str) else value for name, value in members}


def _named(values: Sequence[NamedValue]) -> list[dict[str, str]]:
    return [{"valueName": clean(value.name), "value": clean(value.value)} for value in values]


def _text(text: str | None) -> str | None:
    return clean(text) if text is not None else None


def _utc(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _local(when: datetime | None) -> str | None:
    return when.isoformat() if when is not None else None


def _drawn(entry: Entry, areas: Sequence[Area]) -> BaseGeometry | None:
    """Return what the sender drew, None unless every area is drawn."""
    shapes = [] if entry.facts.nowhere else [drawn_geometry(area) for area in areas]
    known = [shape for shape in shapes if shape is not None]
    return union(known) if known and len(known) == len(shapes) else None


def _ground(entry: Entry) -> BaseGeometry | None:
    whole = None if entry.facts.nowhere else entry.facts.outline()
    return shapely.simplify(whole, TERRITORY_TOLERANCE, preserve_topology=True) if whole is not None else None
