"""A filter as names and values, the same in a query string, a request body and on a command line: read at the door and written back."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Final, NoReturn, TypeVar

from lalert.errors import BadRequest, InvalidCode
from lalert.geo import normalise_code, ring_problem
from lalert.model import Filter, Ring, Severity, Status

V = TypeVar("V")

MAX_AREAS: Final = 500
MAX_POINTS: Final = 100
MAX_CORNERS: Final = 1_000
MAX_TEXTS: Final = 100
MAX_TEXT: Final = 500

CATEGORIES: Final = (
    "Geo",
    "Met",
    "Safety",
    "Security",
    "Rescue",
    "Fire",
    "Health",
    "Env",
    "Transport",
    "Infra",
    "CBRNE",
    "Other",
)
"""CAP 1.2, 3.2.2 <category>."""

_STATUSES: Final[Mapping[str, frozenset[Status]]] = {
    "actual": frozenset({Status.ACTUAL}),
    "exercise": frozenset({Status.EXERCISE}),
    "test": frozenset({Status.TEST}),
    "system": frozenset({Status.SYSTEM}),
    "all": frozenset(Status) - {Status.DRAFT},
}
_NUMBER = re.compile(r"[+-]?\d{1,4}(\.\d{1,20})?([eE][+-]?\d{1,3})?", re.ASCII)
_RING_PROBLEMS: Final[Mapping[str, str]] = {
    "too-few-points": "needs at least three different corners",
    "zero-area": "encloses nothing: all its corners lie on one line",
    "self-intersecting": "crosses or touches itself: give the corners in the order in which one walks round it",
}


def parse_filter(pairs: Iterable[tuple[str, str]]) -> Filter:
    """Return the filter that a request asks for; no pairs at all are "every Actual alert".

    `area`, `point`, `category`, `event`, `sender` and `status` may be repeated; `area`, `category` and `status` also take several values
    with commas between. Raises BadRequest that names the parameter and says what it should be, also for one that does not exist.
    """
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in _PARAMETERS:
            _unknown(name)
        if not value.strip():
            raise BadRequest(f"{name}: is empty; leave it out, or give it a value")
        given.setdefault(name, []).append(value.strip())
    for name in _SINGLE:
        if len(given.get(name, ())) > 1:
            raise BadRequest(f"{name}: stands twice")

    def one(name: str) -> str | None:
        return given.get(name, [None])[0]

    polygon, box, severity, level = one("polygon"), one("bbox"), one("min_severity"), one("min_level")
    return Filter(
        areas=_areas(_listed(given.get("area", []))),
        points=tuple(sorted({_position("point", text) for text in _bounded("point", given, MAX_POINTS)})),
        polygon=_polygon(polygon) if polygon else None,
        bbox=_box(box) if box else None,
        min_severity=_choice("min_severity", severity, {str(s): s for s in Severity}) if severity else None,
        min_level=_level(level) if level else None,
        level_required=_is_required(one("level")),
        categories=frozenset(
            _choice("category", text, {category: category for category in CATEGORIES})
            for text in _listed(given.get("category", []))
        ),
        events=_texts("event", given),
        senders=_texts("sender", given),
        statuses=_statuses(_listed(given.get("status", ["actual"]))),
    )


def filter_pairs(filter: Filter) -> list[tuple[str, str]]:
    """Return the pairs that `parse_filter` makes this filter of, in one fixed order."""
    pairs = [("area", code) for code in sorted(filter.areas)]
    pairs += [("point", _lat_lon(*point)) for point in filter.points]
    if filter.polygon:
        pairs.append(("polygon", " ".join(_lat_lon(*corner) for corner in filter.polygon)))
    if filter.bbox:
        pairs.append(("bbox", ",".join(map(repr, filter.bbox))))
    if filter.min_severity:
        pairs.append(("min_severity", filter.min_severity.value))
    if filter.min_level is not None:
        pairs.append(("min_level", str(filter.min_level)))
    if filter.level_required:
        pairs.append(("level", "required"))
    pairs += [("category", category) for category in sorted(filter.categories)]
    pairs += [("event", event) for event in sorted(filter.events)]
    pairs += [("sender", sender) for sender in sorted(filter.senders)]
    if filter.statuses == _STATUSES["all"]:
        pairs.append(("status", "all"))
    elif filter.statuses != _STATUSES["actual"]:
        pairs += [("status", status.value.lower()) for status in sorted(filter.statuses)]
    return pairs


_SINGLE: Final = ("polygon", "bbox", "min_severity", "min_level", "level")
_PARAMETERS: Final = ("area", "point", "category", "event", "sender", "status", *_SINGLE)


def _unknown(name: str) -> NoReturn:
    near = difflib.get_close_matches(name.lower()[:50], _PARAMETERS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"filters are {', '.join(sorted(_PARAMETERS))}"
    raise BadRequest(f"{name[:50]}: unknown parameter, {hint}")


def _listed(values: Iterable[str]) -> list[str]:
    return [text.strip() for value in values for text in value.split(",")]


def _bounded(name: str, given: Mapping[str, list[str]], limit: int) -> list[str]:
    values = given.get(name, [])
    if len(values) > limit:
        raise BadRequest(f"{name}: stands {len(values)} times, at most {limit} are taken")
    return values


def _areas(texts: list[str]) -> frozenset[str]:
    if len(texts) > MAX_AREAS:
        raise BadRequest(
            f"area: holds {len(texts)} codes, at most {MAX_AREAS} are taken; a prefecture has a code of its own"
        )
    try:
        return frozenset(normalise_code(text) for text in texts)
    except InvalidCode as error:
        raise BadRequest(f"area: {error.detail}", code=error.code) from error


def _position(name: str, text: str) -> tuple[float, float]:
    """Return (lon, lat) of `lat,lon`."""
    numbers = [_number(name, part) for part in text.split(",")[:3]]
    if len(numbers) != 2:
        raise BadRequest(f"{name}: {text[:60]!r} must be lat,lon in degrees, such as 32.21,130.76")
    lat, lon = numbers
    if abs(lat) > 90 and abs(lon) <= 90:
        raise BadRequest(
            f"{name}: {text[:60]!r} has no such latitude; latitude comes first: {lon:g},{lat:g}?"
        )
    if abs(lat) > 90 or abs(lon) > 180:
        raise BadRequest(
            f"{name}: {text[:60]!r} is not on the globe: latitude -90 to 90, then longitude -180 to 180"
        )
    return lon, lat


def _number(name: str, text: str) -> float:
    if not _NUMBER.fullmatch(text.strip()):
        raise BadRequest(f"{name}: {text.strip()[:20]!r} is not a number of degrees, such as 130.76")
    return float(text)


def _polygon(text: str) -> Ring:
    corners = text.split()
    if len(corners) > MAX_CORNERS:
        raise BadRequest(f"polygon: has {len(corners)} corners, at most {MAX_CORNERS} are taken; simplify it")
    ring = tuple(_position("polygon", corner) for corner in corners)
    if ring[0] != ring[-1]:
        ring += ring[:1]
    problem = ring_problem(ring)
    if problem:
        raise BadRequest(f"polygon: {_RING_PROBLEMS[problem]}", code="invalid-geometry")
    return ring


def _box(text: str) -> tuple[float, float, float, float]:
    numbers = [_number("bbox", part) for part in text.split(",")[:5]]
    if len(numbers) != 4:
        raise BadRequest(
            f"bbox: {text[:60]!r} must be west,south,east,north in degrees, such as 130.6,32.1,130.9,32.3"
        )
    west, south, east, north = numbers
    # A box over the 180th meridian has its west in the east (RFC 7946, 5.2); one of more than half the globe is two numbers in the wrong order.
    width = east - west if west <= east else east + 360 - west
    fits = max(abs(west), abs(east)) <= 180 and (west < east or 0 < width <= 180)
    if not (fits and -90 <= south < north <= 90):
        raise BadRequest(
            f"bbox: {text[:60]!r} must be west,south,east,north with west < east within -180 to 180, south < north within -90 to 90; "
            "west may be beyond east only where the box crosses the 180th meridian"
        )
    return west, south, east, north


def _choice(name: str, text: str, known: Mapping[str, V]) -> V:
    for word, value in known.items():
        if word.lower() == text.lower():
            return value
    near = difflib.get_close_matches(text[:50].capitalize(), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it must be one of {', '.join(known)}"
    raise BadRequest(f"{name}: {text[:50]!r} is unknown, {hint}")


def _level(text: str) -> int:
    if text not in {"1", "2", "3", "4", "5"}:
        raise BadRequest(f"min_level: {text[:20]!r} must be a 警戒レベル from 1 to 5")
    return int(text)


def _is_required(text: str | None) -> bool:
    if text not in {None, "required"}:
        raise BadRequest(
            f"level: {text[:20]!r} must be required (to leave out alerts without a 警戒レベル); for the level itself use min_level"
        )
    return text is not None


def _texts(name: str, given: Mapping[str, list[str]]) -> frozenset[str]:
    values = _bounded(name, given, MAX_TEXTS)
    if any(len(value) > MAX_TEXT for value in values):
        raise BadRequest(f"{name}: is longer than {MAX_TEXT} characters")
    return frozenset(values)


def _statuses(texts: list[str]) -> frozenset[Status]:
    if "draft" in (text.lower() for text in texts):
        raise BadRequest("status: a Draft is never sent out; it must be one of " + ", ".join(_STATUSES))
    return frozenset().union(*(_choice("status", text, _STATUSES) for text in texts))


def _lat_lon(lon: float, lat: float) -> str:
    return f"{lat!r},{lon!r}"
