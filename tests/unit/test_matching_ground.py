"""Positions and surfaces are held against drawn shapes and whole municipalities as they would be against the union of both."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from lalert import resources, texts
from lalert.cap import JIS_GEOCODE_NAMES
from lalert.clock import SystemClock
from lalert.geo import Gazetteer, circle_geometry, joint_bbox, repair
from lalert.live.audience import Bodies
from lalert.matching import explain, facts_of, wants
from lalert.model import Alert, Area, Circle, Entry, Filter, MsgType, NamedValue, Origin, OriginKind, Ring
from lalert.testing import make_alert

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
GEOCODE = min(JIS_GEOCODE_NAMES)
KUMAMOTO_CITY, OLD_NORTH_WARD, HITOYOSHI, NEW = "431001", "221350", "432032", "439991"
CODES = ("43", "46", KUMAMOTO_CITY, "431010", OLD_NORTH_WARD, HITOYOSHI, "435015", NEW, "439975")


def box_of(west: float, south: float, size: float) -> Ring:
    return tuple(shapely.box(west, south, west + size, south + size).exterior.coords)


@cache
def outlines() -> Gazetteer:
    return Gazetteer.from_csv(resources.gazetteer_csv())


@cache
def official() -> Gazetteer:
    """Draw 人吉市, 錦町, the city of 熊本市 without its wards, and a municipality that the gazetteer does not know."""
    drawn = {
        "43203": box_of(130.75, 32.125, 0.125),
        "43501": box_of(130.875, 32.125, 0.125),
        "43100": box_of(130.625, 32.75, 0.125),
        "43999": box_of(131.0, 32.0, 0.125),
    }
    features = [
        {
            "type": "Feature",
            "properties": {"N03_007": code},
            "geometry": {"type": "Polygon", "coordinates": [list(map(list, ring))]},
        }
        for code, ring in drawn.items()
    ]
    return outlines().with_boundaries(
        json.dumps({"type": "FeatureCollection", "features": features}).encode()
    )


GAZETTEERS = (outlines, official)

# A coarse lattice, with the corners of the official squares on it: borders touch and corners coincide far more often than by chance.
longitudes = st.integers(0, 24).map(lambda n: 130.0 + n / 16)
latitudes = st.integers(0, 24).map(lambda n: 31.5 + n / 16)
positions = st.tuples(longitudes, latitudes)
rings = st.builds(
    lambda corners, corner, size: (
        tuple(hull.exterior.coords)
        if (hull := shapely.convex_hull(shapely.MultiPoint(corners))).geom_type == "Polygon"
        else box_of(corner[0], corner[1], size)
    ),
    st.lists(positions, min_size=3, max_size=6),
    positions,
    st.sampled_from([1 / 64, 1 / 16, 5.0]),
)
areas = st.builds(
    Area,
    area_desc=st.just("x"),
    polygons=st.lists(rings, max_size=2).map(tuple),
    circles=st.lists(
        st.builds(Circle, longitudes, latitudes, st.sampled_from([0.0, 500.0, 30_000.0])), max_size=1
    ).map(tuple),
    geocodes=st.lists(st.builds(NamedValue, st.just(GEOCODE), st.sampled_from(CODES)), max_size=2).map(tuple),
)
homes = st.sampled_from([frozenset[str](), frozenset({HITOYOSHI}), frozenset({"43"}), frozenset({"439975"})])
placed = st.one_of(
    positions.map(lambda position: Filter(points=(position,))),
    rings.map(lambda ring: Filter(polygon=ring)),
    positions.map(lambda at: Filter(bbox=(*at, at[0] + 1 / 16, at[1] + 1 / 16))),
    st.builds(lambda points: Filter(points=tuple(points)), st.lists(positions, min_size=2, max_size=4)),
)


def whole_ground(
    alert: Alert,
    gazetteer: Gazetteer,
    home: frozenset[str],
    territory: Callable[[Gazetteer, str], shapely.Geometry | None] = Gazetteer.catchment,
) -> shapely.Geometry | None:
    """Return the union of all that an alert draws and of the territories of all codes that it declares, else that of its sender's."""
    named = {geocode.value for info in alert.infos for area in info.areas for geocode in area.geocodes}
    shapes = [territory(gazetteer, code) for code in named]
    for area in (area for info in alert.infos for area in info.areas):
        shapes += [repair(ring) for ring in area.polygons]
        shapes += [circle_geometry(circle.lon, circle.lat, circle.radius_m) for circle in area.circles]
    found = [shape for shape in shapes if shape is not None]
    if not found:
        found = [shape for code in home if (shape := territory(gazetteer, code)) is not None]
    return shapely.union_all(found) if found else None


def meets(filter: Filter, ground: shapely.Geometry | None) -> bool | None:
    """Say whether any place of a filter meets the ground; None where rounding decides."""
    if ground is None:
        return True  # nothing can be told from a position
    places = [shapely.Point(point) for point in filter.points]
    places += [shapely.Polygon(filter.polygon)] if filter.polygon else []
    places += [shapely.box(*filter.bbox)] if filter.bbox else []
    if any(shapely.intersects(ground, place) for place in places):
        return True
    return None if any(shapely.distance(ground, place) < 1e-9 for place in places) else False


def entry_of(alert: Alert, gazetteer: Gazetteer, home: frozenset[str]) -> Entry:
    return Entry(
        alert.id, NOW, NOW, alert, Origin(OriginKind.HTTP), alert.id, facts_of(alert, gazetteer, home)
    )


@pytest.mark.parametrize("of", GAZETTEERS)
@given(first=st.lists(areas, max_size=2), then=st.lists(areas, max_size=2), home=homes, wanted=placed)
@settings(deadline=None, max_examples=40)
def test_a_place_is_reached_exactly_if_it_meets_the_union(
    of: Callable[[], Gazetteer], first: list[Area], then: list[Area], home: frozenset[str], wanted: Filter
) -> None:
    gazetteer = of()
    alert = make_alert(areas=first, raw=b"")
    update = make_alert(areas=then, msg_type=MsgType.UPDATE, references=(alert,), raw=b"")
    told = [meets(wanted, whole_ground(one, gazetteer, home)) for one in (alert, update)]
    entry, follow_up = (entry_of(one, gazetteer, home) for one in (alert, update))
    if told[0] is not None:
        assert wants(wanted, entry, (), gazetteer) is told[0]
        assert bool(explain(wanted, entry, (), gazetteer)) is told[0]
    if True in told or None not in told:
        assert wants(wanted, follow_up, [entry], gazetteer) is any(told)


@pytest.mark.parametrize("of", GAZETTEERS)
@given(drawn=st.lists(areas, max_size=2), home=homes)
@settings(deadline=None, max_examples=25)
def test_the_box_and_the_outline_are_those_of_the_union(
    of: Callable[[], Gazetteer], drawn: list[Area], home: frozenset[str]
) -> None:
    alert = make_alert(areas=drawn, raw=b"")
    whole = whole_ground(alert, of(), home)
    shown = whole_ground(alert, of(), home, Gazetteer.geometry)
    facts = facts_of(alert, of(), home)
    outline = facts.outline()
    if whole is None:
        assert (facts.bbox, outline) == (None, None)
    else:
        assert facts.bbox == pytest.approx(whole.bounds)
        assert outline is not None
        assert shapely.symmetric_difference(outline, shown).area < 1e-9


@pytest.mark.parametrize("of", GAZETTEERS)
def test_the_leaves_of_a_code_have_its_territory(of: Callable[[], Gazetteer]) -> None:
    gazetteer = of()
    for code in CODES:
        leaves = gazetteer.leaves([code])
        assert all(gazetteer.leaves([leaf]) == {leaf} for leaf in leaves)
        territory = gazetteer.catchment(code)
        shapes = [gazetteer.catchment(leaf) for leaf in leaves]
        if territory is None:
            assert not leaves
        else:
            assert shapely.symmetric_difference(territory, shapely.union_all(shapes)).area < 1e-9
            assert joint_bbox(gazetteer.boxes(leaves)) == pytest.approx(territory.bounds)
    assert gazetteer.leaves(CODES) == frozenset().union(*(gazetteer.leaves([code]) for code in CODES))
    assert gazetteer.leaves(()) == frozenset()


@given(shapes=st.lists(st.one_of(positions.map(shapely.Point), rings.map(shapely.Polygon)), max_size=8))
@settings(deadline=None, max_examples=25)
def test_many_shapes_find_their_leaves_as_each_would(shapes: list[shapely.Geometry]) -> None:
    gazetteer = official()
    leaves = {
        leaf: gazetteer.catchment(leaf) for leaf in gazetteer.leaves(["43", "46", "45", "40", "44", NEW])
    }
    for shape, found in zip(shapes, gazetteer.leaves_meeting(shapes), strict=True):
        assert found >= {leaf for leaf, territory in leaves.items() if shapely.intersects(territory, shape)}
        assert all(shapely.intersects(gazetteer.catchment(leaf), shape) for leaf in found)


def test_a_border_belongs_to_both_of_its_sides() -> None:
    on_the_border = shapely.Point(130.875, 32.1875)
    (found,) = official().leaves_meeting([on_the_border])
    assert {HITOYOSHI, "435015"} <= found


def test_what_takes_long_to_draw_is_large() -> None:
    def entry(*codes: str) -> Entry:
        areas = [Area("x", geocodes=tuple(NamedValue(GEOCODE, code) for code in codes))]
        return entry_of(make_alert(areas=areas, raw=b""), outlines(), frozenset())

    assert entry("43", "46").large
    assert not entry("43").large
    assert not entry(KUMAMOTO_CITY).large


async def test_the_map_of_a_nation_is_not_drawn_on_the_event_loop() -> None:
    drawn_by: list[int] = []

    def body(entry: Entry, format: str, lang: str | None) -> bytes:
        drawn_by.append(threading.get_ident())
        return texts.body(entry, format, lang)

    nation = [Area("全国", geocodes=tuple(NamedValue(GEOCODE, f"{n:02}") for n in range(1, 48)))]
    entry = entry_of(make_alert(areas=nation), outlines(), frozenset())
    bodies = Bodies(body, SystemClock(), 2**20)
    await bodies.prepare(entry, [("geojson", None)])
    assert json.loads(bodies.get(entry, "geojson", None))["geometry"]["type"] == "MultiPolygon"
    assert len(drawn_by) == 1
    assert threading.get_ident() not in drawn_by


def test_an_accepted_alert_is_never_drawn_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(*_: object) -> None:
        raise AssertionError("a territory was drawn")

    gazetteer = Gazetteer.from_csv(resources.gazetteer_csv())
    for draws in ("geometry", "together", "catchment"):
        monkeypatch.setattr(gazetteer, draws, drawn)
    nation = [Area("全国", geocodes=tuple(NamedValue(GEOCODE, f"{n:02}") for n in range(1, 48)))]
    entry = entry_of(make_alert(areas=nation, raw=b""), gazetteer, frozenset())
    assert len(entry.facts.ground) == len(gazetteer.leaves(f"{n:02}" for n in range(1, 48))) > 1_800
    assert wants(Filter(points=((130.76, 32.21),)), entry, (), gazetteer)
    assert not wants(Filter(points=((160.0, 32.21),)), entry, (), gazetteer)
    with pytest.raises(AssertionError, match="drawn"):
        entry.facts.outline()
