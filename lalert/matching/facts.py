"""What the hub derives from an alert once: the codes and the ground that it concerns, its level and its kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
import shapely

from lalert import cap
from lalert.errors import InvalidCode, InvalidGeometry
from lalert.geo import (
    Gazetteer,
    Located,
    bbox,
    circle_geometry,
    joint_bbox,
    polygon_geometry,
    repair,
    union,
    with_twins,
)
from lalert.geo.shapes import Floats
from lalert.model import Alert, Area, Facts, NamedValue, PlaceName, Ring

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


def facts_of(alert: Alert, gazetteer: Gazetteer, jurisdiction: frozenset[str] = frozenset()) -> Facts:
    """Return whom an accepted alert concerns. Never raises for what the alert holds: the rules of `cap` have reported it.

    An area is the union of its polygons, circles and geocodes (CAP 1.2, 3.2.4), the alert's that of all its areas. An area that
    declares no code gets the codes of what it is drawn on; one that declares codes gets further ones only where official
    boundaries say so, because the generous outlines would add every neighbour. A ring that does not hold is repaired to
    something that encloses at least as much; a geocode that is no code is passed over; a code that the gazetteer does not know is carried.
    A geocode of a foreign scheme lies where the gazetteer locates it; somewhere abroad is not nowhere, even if nobody can say where.

    `jurisdiction` is all that the sender may alert for: what an alert concerns that names no place at all, or none
    that this hub can find. Where it is empty too, such an alert concerns everybody (`nowhere` without codes).
    """
    areas = _distinct_areas(alert)
    located = [located_geocodes(area, gazetteer) for area in areas]
    placed = [_place(area, found) for area, found in zip(areas, located, strict=True)]
    shapes = [(shape, codes) for codes, shape in placed if shape is not None]
    codes: frozenset[str] = frozenset().union(*(own for own, _ in placed))
    known = frozenset(code for code in codes if _is_known(code, gazetteer))
    nowhere = not known and not shapes and not any(located)
    plain = _union([shape for shape, _ in shapes])
    if nowhere:
        codes = jurisdiction | codes if jurisdiction else frozenset()
    else:
        codes |= _found(shapes, plain, known, gazetteer)
    drawn = with_twins(plain) if plain is not None else None
    shapely.prepare(drawn)
    ground = _ground(gazetteer, jurisdiction if nowhere else known)
    reach, ended = _reach(gazetteer, codes)
    return Facts(
        codes=codes,
        reach=reach,
        ended=ended,
        level=cap.level(alert),
        kind=cap.kind(alert),
        bbox=_bbox(gazetteer, plain, ground),
        drawn=drawn,
        ground=ground,
        outline=partial(outline, gazetteer, plain, ground),
        nowhere=nowhere,
        approximate=_is_approximate(gazetteer, ground) or _is_rough(located),
        places=_names(gazetteer, codes),
    )


def _names(gazetteer: Gazetteer, codes: Iterable[str]) -> tuple[PlaceName, ...]:
    found = (gazetteer.place(code) for code in sorted(codes))
    return tuple(
        _name(place.code, place.name, place.kana, place.name_en) for place in found if place is not None
    )


@lru_cache(maxsize=8_192)
def _name(code: str, name: str, kana: str, name_en: str) -> PlaceName:
    """Return the one object that all alerts for a place share."""
    return PlaceName(code, name, kana, name_en)


def declared_codes(area: Area) -> frozenset[str]:
    """Return the municipality and prefecture codes among an area's geocodes, as `normalise_code` spells them; of a 町丁目 its municipality."""
    codes = set()
    for geocode in area.geocodes:
        try:
            code = cap.declared_code(geocode)
        except InvalidCode:
            continue
        if code is not None:
            codes.add(code)
    return frozenset(codes)


def located_geocodes(area: Area, gazetteer: Gazetteer) -> tuple[tuple[NamedValue, Located], ...]:
    """Return the geocodes of foreign schemes that say where an area is, and where they lie.

    One that is known only roughly counts only where nothing else tells the place: a warning for a few square miles, drawn, must
    not go to the whole state because it names the county too.
    """
    foreign = [geocode for geocode in area.geocodes if geocode.name not in cap.PLACE_GEOCODE_NAMES]
    found = [
        (geocode, place)
        for geocode in foreign
        if (place := gazetteer.locate(geocode.name, geocode.value)) is not None
    ]
    exact = tuple((geocode, place) for geocode, place in found if not place.rough)
    return exact if exact or declared_codes(area) or area.polygons or area.circles else tuple(found)


def placed_exactly(area: Area, gazetteer: Gazetteer) -> bool:
    """Say whether geocodes of foreign schemes tell where an area is, and not only roughly."""
    return any(not place.rough for _, place in located_geocodes(area, gazetteer))


def _place(
    area: Area, located: Iterable[tuple[NamedValue, Located]]
) -> tuple[frozenset[str], BaseGeometry | None]:
    """Return the codes and the shape of an area, those of its foreign geocodes among them."""
    codes, drawn = declared_codes(area), drawn_geometry(area)
    # Of a hundred counties of one state its outline is had once.
    shapes = {id(place.geometry): place.geometry for _, place in located if place.geometry is not None}
    if drawn is not None:
        shapes[id(drawn)] = drawn
    whole = _union(list(shapes.values()))
    if whole is not None and whole is not drawn and id(whole) in shapes:
        # A copy: what facts hold is prepared, and two threads that ask one prepared geometry at once end the process.
        whole = shapely.from_wkb(shapely.to_wkb(whole))
    return codes.union(*(place.codes for _, place in located)), whole


def drawn_geometry(area: Area) -> BaseGeometry | None:
    """Return the union of an area's polygons and circles in (lon, lat) degrees, repaired where need be; None where it has none that reads."""
    shapes: list[BaseGeometry] = []
    for ring in area.polygons:
        try:
            shapes.append(_polygon(ring))
        except InvalidGeometry:
            continue
    for circle in area.circles:
        try:
            shapes.append(circle_geometry(circle.lon, circle.lat, circle.radius_m))
        except InvalidGeometry:
            continue
    return _union(shapes)


def _polygon(ring: Ring) -> BaseGeometry:
    try:
        return polygon_geometry(ring)
    except InvalidGeometry:
        return repair(ring)


def _distinct_areas(alert: Alert) -> list[Area]:
    """Return the areas without those that an info in another language draws a second time."""
    return list(dict.fromkeys(replace(area, area_desc="") for info in alert.infos for area in info.areas))


def _is_known(code: str, gazetteer: Gazetteer) -> bool:
    return gazetteer.place(code) is not None or bool(gazetteer.leaves([code]))


def _found(
    drawn: Sequence[tuple[BaseGeometry, frozenset[str]]],
    whole: BaseGeometry | None,
    known: frozenset[str],
    gazetteer: Gazetteer,
) -> frozenset[str]:
    """Return the codes that what is drawn lies on; `whole` is the union of all of it, which need not be made again."""
    shapes = [shape for shape, codes in drawn if not codes & known]
    bare = whole if len(shapes) == len(drawn) else _union(shapes)
    found = gazetteer.codes_of(bare) if bare is not None else frozenset()
    if len(shapes) < len(drawn) and gazetteer.boundaries == "official":
        coded = _union([shape for shape, codes in drawn if codes & known]) if shapes else whole
        if coded is not None:
            found |= {code for code in gazetteer.codes_of(coded) if gazetteer.official(code)}
    return found


@lru_cache(maxsize=256)
def _reach(gazetteer: Gazetteer, codes: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Remembered so that a nation's alerts hold its 4,000 codes once."""
    reach = gazetteer.reach(codes)
    return reach, gazetteer.ended & reach


@lru_cache(maxsize=256)
def _ground(gazetteer: Gazetteer, codes: frozenset[str]) -> frozenset[str]:
    """Remembered so that a nation's alerts hold its 1,900 leaves once."""
    return gazetteer.leaves(codes)


@lru_cache(maxsize=256)
def _is_approximate(gazetteer: Gazetteer, ground: frozenset[str]) -> bool:
    return not all(map(gazetteer.official, ground))


def _is_rough(located: Iterable[Iterable[tuple[NamedValue, Located]]]) -> bool:
    return any(place.rough and place.geometry is not None for found in located for _, place in found)


def _bbox(
    gazetteer: Gazetteer, drawn: BaseGeometry | None, ground: frozenset[str]
) -> tuple[float, float, float, float] | None:
    if not ground:
        return bbox(drawn) if drawn is not None else None
    boxes = _box_of_ground(gazetteer, ground)
    if drawn is not None:
        boxes = np.vstack((boxes, shapely.bounds(shapely.get_parts(drawn))))
    return joint_bbox(boxes)


@lru_cache(maxsize=256)
def _box_of_ground(gazetteer: Gazetteer, ground: frozenset[str]) -> Floats:
    boxes = gazetteer.boxes(ground)
    return np.hstack((boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0))).reshape(1, 4)


def outline(gazetteer: Gazetteer, drawn: BaseGeometry | None, ground: frozenset[str]) -> BaseGeometry | None:
    """Return what is drawn together with what is shown of the leaves, or None of nothing; a tenth of a second the first time for a nation."""
    parts = [drawn, territory(gazetteer, ground)]
    return _union([part for part in parts if part is not None])


@lru_cache(maxsize=64)
def territory(gazetteer: Gazetteer, leaves: frozenset[str]) -> BaseGeometry | None:
    """Return what is shown of leaves in one geometry, or None of none."""
    by_prefecture: dict[str, list[str]] = {}
    for leaf in leaves:
        by_prefecture.setdefault(leaf[:2], []).append(leaf)
    parts = [_in_one_prefecture(gazetteer, frozenset(own)) for own in by_prefecture.values()]
    return _union([part for part in parts if part is not None])


@lru_cache(maxsize=256)
def _in_one_prefecture(gazetteer: Gazetteer, leaves: frozenset[str]) -> BaseGeometry | None:
    """Remembered, and a step of at most 8 ms: GEOS holds the interpreter while it makes a union."""
    return gazetteer.together(leaves)


def _union(shapes: list[BaseGeometry]) -> BaseGeometry | None:
    if len(shapes) <= 1:
        return shapes[0] if shapes else None
    whole = union(shapes)
    if not shapely.is_valid(whole):
        # Of borders nearer to each other than numbers can tell; invalid, it would meet nothing without a word.
        whole = shapely.make_valid(whole)
    return None if whole.is_empty else whole
