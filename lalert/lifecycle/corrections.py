"""訂正: an Update that mends the words of what people were told, and nothing that they must do, so that nobody is alerted again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from lalert import cap
from lalert.model import JST, Alert, Info, MsgType

CORRECTION_CODES: Final = frozenset({"jp:correction", "訂正"})
"""What a <code> (CAP 3.2.1, "special handling") says to mark a correction; the hub itself writes the first."""

_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Major:
    """Something that a correction changes and must not: where, what it is called, and what it was and is."""

    path: str
    field: str
    before: str
    after: str


def is_correction(alert: Alert) -> bool:
    """Say whether a message claims to be a correction; whether it may be one is for `major_changes` to say."""
    return alert.msg_type is MsgType.UPDATE and not CORRECTION_CODES.isdisjoint(alert.codes)


def major_changes(before: Alert, after: Alert) -> list[Major]:
    """Return everything in which two alerts differ that decides what people must do: empty if one is a mere correction of the other.

    What may differ: the texts, names of areas, parameters other than the 警戒レベル, resources, contacts, `effective`.
    """
    found: list[Major] = []
    if before.scope is not after.scope:
        found.append(Major("/alert/scope", "scope", before.scope.value, after.scope.value))
    was, now = [[info.language for info in alert.infos] for alert in (before, after)]
    if was != now:
        return [*found, Major("/alert/info", "info", _several(was), _several(now))]
    for n, (old, new) in enumerate(zip(before.infos, after.infos, strict=True), 1):
        found += _differences(f"/alert/info[{n}]", (before, old), (after, new))
    return found


def _differences(path: str, before: tuple[Alert, Info], after: tuple[Alert, Info]) -> Iterator[Major]:
    for (field, was), (_, now) in zip(_decisive(*before), _decisive(*after), strict=True):
        if was != now:
            yield Major(f"{path}/{field}", field, was[:_SHOWN], now[:_SHOWN])
    left, reached = _ground(before[1]), _ground(after[1])
    if left != reached:
        yield Major(f"{path}/area", "area", _several(left - reached), _several(reached - left))


def _decisive(alert: Alert, info: Info) -> Iterator[tuple[str, str]]:
    """Yield what decides what people must do and by when, in the same order for every info."""
    yield "event", info.event
    yield "category", _several(sorted(set(info.categories)))
    yield "responseType", _several(sorted(set(info.response_types)))
    yield "urgency", info.urgency.value
    yield "severity", info.severity.value
    yield "certainty", info.certainty.value
    yield "audience", info.audience or ""
    for name, when in (("onset", info.onset), ("expires", info.expires)):
        yield name, "" if when is None else when.astimezone(JST).isoformat()
    one = replace(alert, infos=(info,))
    yield "parameter[警戒レベル]", str(cap.level(one) or "")
    yield "parameter[jp:kind]", cap.kind(one)


def _ground(info: Info) -> frozenset[str]:
    """Return where an info holds, piece by piece, as text; how the places are called does not count."""
    pieces: set[str] = set()
    for area in info.areas:
        height = "" if area.altitude is None else f" {area.altitude}-{area.ceiling}"
        pieces |= {f"{code.name}={code.value}{height}" for code in area.geocodes}
        pieces |= {f"polygon {ring}{height}" for ring in area.polygons}
        pieces |= {f"circle {circle.lat},{circle.lon} {circle.radius_m}{height}" for circle in area.circles}
    return frozenset(pieces)


def _several(texts: object) -> str:
    assert isinstance(texts, list | frozenset)
    return ", ".join(sorted(texts) if isinstance(texts, frozenset) else texts)[:_SHOWN]
