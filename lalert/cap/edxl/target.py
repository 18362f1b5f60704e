"""The target area of an envelope beside the areas of the alert in it: like is compared with like."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import shapely
from lxml import etree
from shapely.geometry.base import BaseGeometry

from lalert.cap.profiles.jp.reading import JIS_GEOCODE_NAMES
from lalert.errors import InvalidCode, InvalidGeometry
from lalert.geo import area_geometry, normalise_code
from lalert.model import Area

MAX_PLACES: Final = 200
"""As many circles and polygons on either side are compared: putting them together takes time, and a target area is an address, not a map."""

MAX_POINTS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Target:
    """All target areas of an envelope as one place, and the first of their elements.

    `codes` are of municipalities and prefectures, `coarse` prefectures and "JP" by their ISO codes, `abroad` says that places outside Japan are
    named, `unread` that there is something which cannot be compared.
    """

    element: etree._Element
    shape: BaseGeometry | None
    codes: frozenset[str]
    coarse: frozenset[str]
    abroad: bool
    unread: bool


Ground = Callable[[str], BaseGeometry | None]
"""Returns the territory of a municipality or prefecture in (lon, lat) degrees, None of an unknown code."""


def judge_target(target: Target, areas: Sequence[Area], ground: Ground | None = None) -> str | None:
    """Return the rule that a target area breaks beside the areas of the alert, None where the two agree.

    Like is compared with like: what is drawn with what is drawn, codes with codes; a code is within its prefecture, and everything with a
    code in Japan. A country or subdivision is coarse by nature and never too large. With the `ground`, codes and what is drawn are compared
    too, but only for whether they touch: most outlines are generous.
    """
    distinct = list(dict.fromkeys(replace(area, area_desc="") for area in areas))
    coded = [codes_of(area) for area in distinct]
    many = sum(len(area.polygons) + len(area.circles) for area in distinct) > MAX_PLACES
    drawn = [shape_of(area) if target.shape is not None and not many else None for area in distinct]
    codes: frozenset[str] = frozenset().union(*coded)
    shapes = [shape for shape in drawn if shape is not None]
    shape = shapely.union_all(shapes) if shapes else None
    wanted = target.codes | target.coarse
    touching = bool(
        any(_within(code, other) or _within(other, code) for code in codes for other in wanted)
        or (shape is not None and target.shape is not None and shape.intersects(target.shape))
    )
    everywhere_coded = all(coded) and bool(distinct)
    everywhere_drawn = all(s is not None for s in drawn) and bool(distinct)
    if not touching:
        if target.unread or (target.abroad and not everywhere_coded):
            return "EDXL-TARGET-UNREAD"
        doubtful = (
            (bool(wanted) and not everywhere_coded)
            or (target.shape is not None and not everywhere_drawn)
            or any(_perhaps_within(code, other) for code in codes for other in wanted)
        )
        if not doubtful:
            return "EDXL-TARGET-ELSEWHERE"
        here = _territory(ground, wanted, target.shape) if len(wanted) <= MAX_PLACES else None
        there = None
        if here is not None and not many and 0 < len(distinct) <= MAX_PLACES and len(codes) <= MAX_PLACES:
            there = _union([_territory(ground, codes_of(area), shape_of(area)) for area in distinct])
        if here is None or there is None:
            return "EDXL-TARGET-UNREAD"
        return None if here.dwithin(there, _BORDER) else "EDXL-TARGET-ELSEWHERE"
    if target.unread or target.abroad:
        return None
    if target.shape is not None and shape is not None and not wanted and everywhere_drawn:
        return _compared(target.shape, shape)
    if target.shape is None and everywhere_coded:
        return _compared_codes(target, codes)
    return None


ISO_PREFECTURE = re.compile(r"JP-(0[1-9]|[1-3][0-9]|4[0-7])")
ISO_PLACE = re.compile(r"(?!JP)[A-Z]{2}(?:-[A-Z0-9]{1,3})?")
# A millionth of a degree is a tenth of a metre: less than anybody meant who rounded a number.
_ROUNDING = 1e-6
# About 2 km: official boundaries are exact, but not everybody draws exactly.
_BORDER = 0.02


def _territory(
    ground: Ground | None, codes: frozenset[str], shape: BaseGeometry | None
) -> BaseGeometry | None:
    """Return all the ground of codes and a shape together, None where it is not known of each."""
    parts = [None if ground is None else ground(code) for code in sorted(codes)]
    return _union([*parts, *([] if shape is None else [shape])])


def _union(parts: Sequence[BaseGeometry | None]) -> BaseGeometry | None:
    known = [part for part in parts if part is not None]
    return shapely.union_all(known) if known and len(known) == len(parts) else None


def _compared(target: BaseGeometry, shape: BaseGeometry) -> str | None:
    if not target.buffer(_ROUNDING).covers(shape):
        return "EDXL-TARGET-SMALLER"
    return None if shape.buffer(_ROUNDING).covers(target) else "EDXL-TARGET-LARGER"


def _compared_codes(target: Target, codes: frozenset[str]) -> str | None:
    wanted = target.codes | target.coarse
    if any(not any(_within(c, w) or _perhaps_within(c, w) for w in wanted) for c in codes):
        return "EDXL-TARGET-SMALLER"
    larger = any(not any(_within(w, c) or _perhaps_within(w, c) for c in codes) for w in target.codes)
    return "EDXL-TARGET-LARGER" if larger and not target.coarse else None


def _within(code: str, other: str) -> bool:
    return other in (code, code[:2], "JP")


def _perhaps_within(code: str, other: str) -> bool:
    """Say whether one may be a ward of the other: both of one prefecture's large cities, whose numbers begin with 1."""
    return len(code) == len(other) == 6 and code[:3] == other[:3] and code[2] == "1"


def codes_of(area: Area) -> frozenset[str]:
    found = set()
    for geocode in area.geocodes:
        if geocode.name in JIS_GEOCODE_NAMES:
            try:
                found.add(normalise_code(geocode.value))
            except InvalidCode:
                continue
    return frozenset(found)


def shape_of(area: Area) -> BaseGeometry | None:
    if not (area.polygons or area.circles):
        return None
    try:
        return area_geometry(area, strict=False)
    except InvalidGeometry:
        return None
