"""Rings, circles and areas: what is sound, what is not and why, and that nobody inside is ever missed."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lalert.errors import InvalidGeometry
from lalert.geo import (
    area_geometry,
    bbox,
    circle_geometry,
    joint_bbox,
    polygon_geometry,
    repair,
    repaired_rings,
    ring_problem,
    to_geojson,
    union,
    with_twins,
)
from lalert.model import Area, Circle, NamedValue

NAN, INF = float("nan"), float("inf")

SQUARE = ((130.0, 32.0), (131.0, 32.0), (131.0, 33.0), (130.0, 33.0), (130.0, 32.0))
BOW_TIE = ((130.0, 32.0), (131.0, 33.0), (131.0, 32.0), (130.0, 33.0), (130.0, 32.0))
POLAR_CAP = ((0.0, 60.0), (90.0, 60.0), (180.0, 60.0), (-90.0, 60.0), (0.0, 60.0))

Ring = Sequence[tuple[float, float]]
coordinates = st.tuples(st.integers(-20, 20).map(float), st.integers(-20, 20).map(float))


def star(lon: float, lat: float, radii: Sequence[float]) -> list[tuple[float, float]]:
    """Return a ring around a centre that never crosses itself, its longitudes as they come (beyond 180 too)."""
    angles = [2 * math.pi * i / len(radii) for i in range(len(radii))]
    ring = [(lon + r * math.cos(a), lat + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]
    return [*ring, ring[0]]


def wrapped(lon: float) -> float:
    return (lon + 180) % 360 - 180


def distance_m(a: tuple[float, float], b: tuple[float, float]) -> float:
    (lon_a, lat_a), (lon_b, lat_b) = [(math.radians(x), math.radians(y)) for x, y in (a, b)]
    h = math.sin((lat_b - lat_a) / 2) ** 2
    h += math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    return 2 * 6_371_008.8 * math.asin(math.sqrt(min(h, 1)))


def winding(ring: Ring, x: float, y: float) -> int:
    """Return how often a closed ring goes round a point that is not on it."""
    turns = 0
    for (x1, y1), (x2, y2) in pairwise(ring):
        side = (x2 - x1) * (y - y1) - (x - x1) * (y2 - y1)
        if y1 <= y < y2 and side > 0:
            turns += 1
        elif y2 <= y < y1 and side < 0:
            turns -= 1
    return turns


@pytest.mark.parametrize(
    ("ring", "problem"),
    [
        (SQUARE, None),
        (tuple(reversed(SQUARE)), None),
        ([(0, 0), (0, 0), (1, 0), (1, 0), (1, 1), (0, 0), (0, 0)], None),  # repeated points
        (POLAR_CAP, None),
        ([(-180, -90), (180, -90), (180, 90), (-180, 90), (-180, -90)], None),  # the whole globe
        ([(-180, 60), (180, 60), (180, 90), (-180, 90), (-180, 60)], None),
        ([(179, 0), (-179, 0), (-179, 1), (179, 1), (179, 0)], None),
        (BOW_TIE, "self-intersecting"),
        ([(0, 0), (2, 0), (2, 2), (1, 0), (0, 2), (0, 0)], "self-intersecting"),  # touches its own border
        ([(0, 0), (1, 0), (1, 1), (1, 0), (0, 0)], "self-intersecting"),  # there and back
        ([(179, 0), (-179, 1), (-179, 0), (179, 1), (179, 0)], "self-intersecting"),  # a bow-tie at 180
        ([(0, 0), (1, 1), (2, 2), (0, 0)], "zero-area"),
        ([(5, 5)] * 4, "zero-area"),
        ([(179, 5), (-179, 5), (180, 5), (179, 5)], "zero-area"),
        ([], "too-few-points"),
        ([(0, 0), (1, 0), (0, 0)], "too-few-points"),
        ([(180, 0), (-180, 0), (180, 0)], "too-few-points"),
        ([(0, 0), (1, 0), (1, 1), (0, 1)], "not-closed"),
        ([(0, 0), (1, 0), (1, 1), (0, 1e-9)], "not-closed"),
        ([(0, 0), (1, 0), (NAN, 1), (0, 0)], "not-finite"),
        ([(0, 0), (1, 0), (1, -INF), (0, 0)], "not-finite"),
        ([(NAN, NAN)], "not-finite"),
        ([(0, 0), (1, 0), (1, 91), (0, 0)], "out-of-range"),
        ([(0, 0), (180.0001, 0), (1, 1), (0, 0)], "out-of-range"),
        ([(32.0, 130.0), (32.0, 131.0), (33.0, 131.0), (32.0, 130.0)], "out-of-range"),  # lat, lon
    ],
)
def test_the_problem_of_a_ring_is_named(ring: Ring, problem: str | None) -> None:
    assert ring_problem(ring) == problem
    if problem is None:
        geometry = polygon_geometry(ring)
        assert shapely.is_valid(geometry)
        assert geometry.equals(repair(ring))
        return
    with pytest.raises(InvalidGeometry, match="not usable"):
        polygon_geometry(ring)


def test_a_ring_with_undefined_numbers_never_becomes_a_geometry_that_meets_everything() -> None:
    ring = [(130.0, 32.0), (131.0, NAN), (131.0, 33.0), (130.0, 32.0)]
    for make in (polygon_geometry, repair):
        with pytest.raises(InvalidGeometry, match="not a finite number"):
            make(ring)


def test_a_border_that_slips_once_is_repaired_to_what_it_encloses() -> None:
    slip = (
        (0.0, 0.0),
        (10.0, 0.0),
        (10.0, 10.0),
        (4.0, 10.0),
        (4.1, 10.1),
        (3.9, 10.1),
        (0.0, 10.0),
        (0.0, 0.0),
    )
    crossing = ((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (4.0, 10.1), (4.2, 10.1), (0.0, 9.9), (0.0, 0.0))
    for ring in (slip, crossing):
        repaired = repair(ring)
        assert shapely.is_valid(repaired)
        assert repaired.covers(shapely.box(0, 0, 10, 9.9))
        assert repaired.area < 102


@given(st.permutations(range(7)))
def test_whatever_order_the_points_of_a_ring_have_nobody_inside_is_missed(order: list[int]) -> None:
    corners = [(130 + math.cos(n), 32 + math.sin(n)) for n in (math.tau * k / 7 for k in range(7))]
    drawn = [corners[n] for n in order]
    assert repair([*drawn, drawn[0]]).buffer(1e-9).covers(shapely.Polygon(corners))


@given(st.integers(0, 59), st.permutations(range(5)))
def test_a_few_points_in_the_wrong_order_widen_a_ring_only_there(place: int, order: list[int]) -> None:
    corners = [(130 + math.cos(n), 32 + math.sin(n)) for n in (math.tau * k / 60 for k in range(60))]
    corners = corners[place:] + corners[:place]
    drawn = [corners[n] for n in order] + corners[5:]
    whole = shapely.Polygon(corners)
    repaired = repair([*drawn, drawn[0]])
    assert repaired.buffer(1e-9).covers(whole)
    assert repaired.area < 1.001 * whole.area


def test_a_bay_stays_a_bay_when_the_border_slips_elsewhere() -> None:
    horseshoe = [(3 * math.cos(a), 3 * math.sin(a)) for a in (math.pi * k / 20 for k in range(31))]
    horseshoe += [(2 * math.cos(a), 2 * math.sin(a)) for a in (math.pi * k / 20 for k in range(30, -1, -1))]
    horseshoe[10], horseshoe[11] = horseshoe[11], horseshoe[10]
    repaired = repair([*horseshoe, horseshoe[0]])
    assert not repaired.covers(shapely.Point(0, 0))


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=3, max_size=12))
def test_repaired_rings_are_sound_and_hold_all_that_is_enclosed(points: list[tuple[int, int]]) -> None:
    ring = [(float(x), float(y)) for x, y in points]
    rings = repaired_rings(ring)
    assert all(ring_problem(one) is None for one in rings)
    held = shapely.union_all([shapely.Polygon(one) for one in rings])
    edges = shapely.union_all(shapely.LineString([*ring, ring[0]]))
    for face in shapely.get_parts(shapely.polygonize([edges])):
        assert held.buffer(1e-9).covers(face)


def test_what_a_ring_encloses_twice_is_not_lost_in_the_repair() -> None:
    # A pentagram: the odd-even rule would cut the pentagon in its middle out.
    tips = [(10 * math.sin(a), 10 * math.cos(a)) for a in (4 * math.pi * i / 5 for i in range(5))]
    assert repair([*tips, tips[0]]).covers(shapely.Point(0, 0))


def test_an_open_ring_is_closed_and_a_flat_one_becomes_its_line_or_point() -> None:
    assert repair(SQUARE[:-1]).equals(shapely.Polygon(SQUARE))
    assert repair([(1, 1), (3, 3), (2, 2)]).equals(shapely.LineString([(1, 1), (3, 3)]))
    assert repair([(1, 1)]).equals(shapely.Point(1, 1))
    assert repair([(0, 0), (1, 0), (1, 1), (1, 0), (0, 0)]).covers(shapely.Point(1, 1))
    across = repair([(179, 0), (-179, 0)])
    assert across.length == pytest.approx(2)


def test_no_points_at_all_cannot_be_repaired() -> None:
    with pytest.raises(InvalidGeometry, match="no points"):
        repair([])
    with pytest.raises(InvalidGeometry, match="leaves longitude"):
        repair([(200, 0), (201, 0), (200, 1), (200, 0)])


@settings(deadline=None)  # the machine may be busy
@given(st.lists(coordinates, min_size=3, max_size=12), st.lists(coordinates, min_size=1, max_size=30))
def test_nobody_whom_a_ring_goes_round_is_missed_by_its_repair(
    points: list[tuple[float, float]], people: list[tuple[float, float]]
) -> None:
    ring = [*points, points[0]]
    repaired = repair(ring)
    assert shapely.is_valid(repaired)
    assert not repaired.is_empty
    assert shapely.convex_hull(shapely.MultiPoint(ring)).buffer(1e-9).covers(repaired)
    border = shapely.LineString(ring)
    for x, y in people:
        person = shapely.Point(x + 0.31, y + 0.17)
        if border.distance(person) > 1e-9 and winding(ring, person.x, person.y):
            assert repaired.covers(person)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(coordinates, min_size=1, max_size=10))
def test_a_ring_is_either_sound_or_has_a_problem_and_a_repair(points: list[tuple[float, float]]) -> None:
    if ring_problem(points) is None:
        assert shapely.is_valid(polygon_geometry(points))
    else:
        with pytest.raises(InvalidGeometry):
            polygon_geometry(points)
    assert shapely.is_valid(repair(points))


radii = st.lists(st.floats(1, 60), min_size=5, max_size=12)


@settings(deadline=None)  # the machine may be busy
@given(radii, st.floats(-180, 180), st.lists(st.tuples(st.floats(-65, 65), st.floats(-65, 65)), max_size=20))
def test_a_polygon_means_the_same_wherever_on_the_globe_it_lies(
    sizes: list[float], shift: float, people: list[tuple[float, float]]
) -> None:
    plain = shapely.Polygon(star(0, 0, sizes))
    ring = [(wrapped(lon + shift), lat) for lon, lat in plain.exterior.coords]
    moved = polygon_geometry(ring)
    assert shapely.is_valid(moved)
    assert moved.area == pytest.approx(plain.area, rel=1e-9)
    west, _, east, _ = moved.bounds
    assert west >= -180
    assert east <= 180
    for lon, lat in people:
        person = shapely.Point(lon, lat)
        if plain.exterior.distance(person) > 1e-6:
            assert moved.covers(shapely.Point(wrapped(lon + shift), lat)) == plain.covers(person)


def test_a_polygon_over_the_antimeridian_does_not_cover_the_world() -> None:
    fiji = polygon_geometry([(177, -19), (-178, -19), (-178, -15), (177, -15), (177, -19)])
    assert fiji.geom_type == "MultiPolygon"
    assert fiji.area == pytest.approx(5 * 4)
    assert not fiji.intersects(shapely.Point(0, -17))
    assert bbox(fiji) == (177, -19, -178, -15)


def test_a_ring_drawn_on_both_sides_of_the_antimeridian_is_read_like_one_that_jumps_over_it() -> None:
    drawn = [(179, 0), (180, 0), (-180, 0), (-179, 0), (-179, 1), (-180, 1), (180, 1), (179, 1), (179, 0)]
    jumps = [(179, 0), (-179, 0), (-179, 1), (179, 1), (179, 0)]
    assert polygon_geometry(drawn).equals(polygon_geometry(jumps))


def test_a_polygon_that_ends_at_the_antimeridian_stays_on_its_side() -> None:
    beside = polygon_geometry([(179, 0), (-180, 0), (-180, 1), (179, 1), (179, 0)])
    assert beside.equals(shapely.box(179, 0, 180, 1))


def test_a_polygon_with_a_side_along_the_antimeridian_leaves_no_line_on_the_other_side() -> None:
    step = [(179, 0), (-179, 0), (-179, 1), (180, 1), (180, 2), (179, 2), (179, 0)]
    expected = shapely.MultiPolygon([shapely.box(179, 0, 180, 2), shapely.box(-180, 0, -179, 1)])
    assert polygon_geometry(step).geom_type == "MultiPolygon"
    assert polygon_geometry(step).equals(expected)


@pytest.mark.parametrize("ring", [POLAR_CAP, tuple(reversed(POLAR_CAP))])
def test_a_ring_round_the_earth_encloses_the_pole_of_its_side(ring: Ring) -> None:
    assert polygon_geometry(ring).equals(shapely.box(-180, 60, 180, 90))
    assert polygon_geometry([(lon, -lat) for lon, lat in ring]).equals(shapely.box(-180, -90, 180, -60))


def test_a_huge_ring_is_judged_in_a_moment() -> None:
    # 41,009 points took another implementation 25 s, because it compared every edge with every other.
    ring = star(139, 35, [1.0] * 41_008)
    started = time.perf_counter()
    assert ring_problem(ring) is None
    ring[100], ring[101] = ring[101], ring[100]
    assert ring_problem(ring) == "self-intersecting"
    assert repair(ring).area == pytest.approx(math.pi, rel=1e-4)
    assert time.perf_counter() - started < 15


def test_a_ring_in_disorder_is_repaired_in_a_moment_by_its_hull() -> None:
    chaos = random.Random(1)
    ring = [(139 + chaos.random(), 35 + chaos.random()) for _ in range(10_000)]
    started = time.perf_counter()
    assert repair(ring).equals(shapely.MultiPoint(ring).convex_hull)
    assert time.perf_counter() - started < 15


def test_a_ring_that_winds_round_the_earth_a_thousand_times_is_repaired_in_a_moment() -> None:
    spiral = [(wrapped(179.0 * i), 80 * i / 20_000) for i in range(20_000)]
    started = time.perf_counter()
    assert ring_problem([*spiral, spiral[0]]) == "self-intersecting"
    assert repair(spiral).equals(shapely.box(-180, 0, 180, 90))
    there_and_back = [(wrapped(179.0 * i), 0.0) for i in range(10_000)]
    assert ring_problem([*there_and_back, *there_and_back[::-1]]) == "zero-area"
    assert repair(there_and_back + there_and_back[::-1]).equals(shapely.LineString([(-180, 0), (180, 0)]))
    assert time.perf_counter() - started < 15


centres = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


@settings(deadline=None)  # the machine may be busy
@given(
    centres, st.floats(1, 20_000_000), st.lists(st.tuples(st.floats(0, 360), st.floats(0, 1)), max_size=30)
)
def test_nobody_within_the_radius_is_outside_the_circle(
    centre: tuple[float, float], radius_m: float, people: list[tuple[float, float]]
) -> None:
    circle = circle_geometry(*centre, radius_m)
    assert shapely.is_valid(circle)
    for bearing, share in [*people, *((bearing, 1.0) for bearing in range(0, 360, 7))]:
        assert circle.covers(shapely.Point(going(centre, bearing, share * radius_m)))


@pytest.mark.parametrize("lat", [-89.9, -80.0, 70.0, 84.9, 90.0])
@pytest.mark.parametrize("short_of_pole_m", [-50_000, 0, 100, 20_000, 300_000])
def test_nobody_is_missed_by_a_circle_that_comes_near_a_pole(lat: float, short_of_pole_m: float) -> None:
    radius_m = max(math.radians(90 - abs(lat)) * 6_371_008.8 - short_of_pole_m, 1.0)
    circle = circle_geometry(10.0, lat, radius_m)
    assert shapely.is_valid(circle)
    for tenth in range(3600):
        assert circle.covers(shapely.Point(going((10.0, lat), tenth / 10, radius_m)))


@settings(deadline=None)  # the machine may be busy
@given(st.tuples(st.floats(-180, 180), st.floats(-60, 60)), st.floats(10, 200_000), st.floats(0, 360))
def test_whoever_is_a_hundredth_further_away_is_outside_the_circle(
    centre: tuple[float, float], radius_m: float, bearing: float
) -> None:
    circle = circle_geometry(*centre, radius_m)
    assert not circle.covers(shapely.Point(going_on_wgs84(centre, bearing, radius_m * 1.012)))


def going(start: tuple[float, float], bearing: float, metres: float) -> tuple[float, float]:
    """Return where one is after so many metres on the sphere."""
    lon, lat = math.radians(start[0]), math.radians(start[1])
    angle, heading = metres / 6_371_008.8, math.radians(bearing)
    sin_lat = math.sin(lat) * math.cos(angle) + math.cos(lat) * math.sin(angle) * math.cos(heading)
    to_lat = math.asin(max(-1.0, min(1.0, sin_lat)))
    east = math.atan2(
        math.sin(heading) * math.sin(angle) * math.cos(lat), math.cos(angle) - math.sin(lat) * sin_lat
    )
    end = wrapped(math.degrees(lon + east)), math.degrees(to_lat)
    assert metres > 1e7 or distance_m(start, end) == pytest.approx(metres, rel=1e-6, abs=0.1)
    return end


@settings(deadline=None, max_examples=40)  # the machine may be busy
@given(centres, st.floats(1, 4_000_000), st.floats(0, 360))
@example((130.7, 0.0), 10_000.0, 2.8)  # where a degree of latitude is shortest, in the middle of a side
@example((136.1, 20.4), 3_000_000.0, 0.0)
def test_nobody_within_the_radius_on_the_ellipsoid_is_outside_the_circle(
    centre: tuple[float, float], radius_m: float, bearing: float
) -> None:
    circle = circle_geometry(*centre, radius_m)
    for turn in range(0, 360, 5):
        assert circle.covers(shapely.Point(going_on_wgs84(centre, bearing + turn, radius_m)))


def going_on_wgs84(start: tuple[float, float], bearing: float, metres: float) -> tuple[float, float]:
    """Return where one is after so many metres on the ellipsoid of WGS 84: the direct problem after T. Vincenty, Survey Review XXIII (1975)."""
    major, flat = 6_378_137.0, 1 / 298.257223563
    minor = major * (1 - flat)
    lon, lat, heading = (math.radians(number) for number in (*start, bearing))
    reduced = math.atan2((1 - flat) * math.sin(lat), math.cos(lat))
    sin_u, cos_u = math.sin(reduced), math.cos(reduced)
    sigma_1 = math.atan2(sin_u, cos_u * math.cos(heading))
    sin_alpha = cos_u * math.sin(heading)
    cos2_alpha = 1 - sin_alpha**2
    u2 = cos2_alpha * (major**2 - minor**2) / minor**2
    big_a = 1 + u2 / 16384 * (4096 + u2 * (-768 + u2 * (320 - 175 * u2)))
    big_b = u2 / 1024 * (256 + u2 * (-128 + u2 * (74 - 47 * u2)))
    sigma = metres / (minor * big_a)
    for _ in range(20):
        middle, sin_s, cos_s = math.cos(2 * sigma_1 + sigma), math.sin(sigma), math.cos(sigma)
        last = big_b / 6 * middle * (-3 + 4 * sin_s**2) * (-3 + 4 * middle**2)
        step = big_b * sin_s * (middle + big_b / 4 * (cos_s * (-1 + 2 * middle**2) - last))
        sigma = metres / (minor * big_a) + step
    middle, sin_s, cos_s = math.cos(2 * sigma_1 + sigma), math.sin(sigma), math.cos(sigma)
    across = sin_u * sin_s - cos_u * cos_s * math.cos(heading)
    to_lat = math.atan2(
        sin_u * cos_s + cos_u * sin_s * math.cos(heading), (1 - flat) * math.hypot(sin_alpha, across)
    )
    east = math.atan2(sin_s * math.sin(heading), cos_u * cos_s - sin_u * sin_s * math.cos(heading))
    c = flat / 16 * cos2_alpha * (4 + flat * (4 - 3 * cos2_alpha))
    turned = sigma + c * sin_s * (middle + c * cos_s * (-1 + 2 * middle**2))
    return wrapped(math.degrees(lon + east - (1 - c) * flat * sin_alpha * turned)), math.degrees(to_lat)


def test_the_way_on_the_ellipsoid_agrees_with_arcs_that_are_known() -> None:
    # A quarter of a meridian and of the equator, and the first degree of latitude.
    assert going_on_wgs84((0.0, 0.0), 0.0, 10_001_965.729) == pytest.approx((0.0, 90.0), abs=1e-6)
    assert going_on_wgs84((0.0, 0.0), 90.0, 10_018_754.171) == pytest.approx((90.0, 0.0), abs=1e-6)
    assert going_on_wgs84((0.0, 0.0), 0.0, 110_574.3886) == pytest.approx((0.0, 1.0), abs=1e-6)


def test_a_circle_has_64_sides_and_covers_a_little_more_than_the_circle() -> None:
    circle = circle_geometry(130.7, 32.8, 10_000)
    assert shapely.get_num_coordinates(circle) == 65
    square_km = circle.area * 111.195**2 * math.cos(math.radians(32.8))
    assert 1.00 < square_km / (math.pi * 10**2) < 1.02


def test_a_circle_over_the_antimeridian_is_split() -> None:
    circle = circle_geometry(179.9, 10, 50_000)
    assert circle.geom_type == "MultiPolygon"
    box = bbox(circle)
    assert box is not None
    west, _, east, _ = box
    assert 179 < west < 180
    assert -180 < east < -179


def test_a_circle_of_no_radius_is_its_centre() -> None:
    assert circle_geometry(130.7, 32.8, 0).equals(shapely.Point(130.7, 32.8))


@pytest.mark.parametrize(
    ("lon", "lat", "radius_m", "reason"),
    [
        (NAN, 0, 1, "not a finite number"),
        (0, INF, 1, "not a finite number"),
        (0, 0, NAN, "not a finite number"),
        (0, 0, INF, "not a finite number"),
        (181, 0, 1, "not on the globe"),
        (35, 139, 1, "not on the globe"),
        (0, 0, -1, "not between 0 and 20000000 m"),
        (0, 0, 20_000_001, "not between 0 and 20000000 m"),
    ],
)
def test_a_circle_that_is_none_is_refused(lon: float, lat: float, radius_m: float, reason: str) -> None:
    with pytest.raises(InvalidGeometry, match=reason):
        circle_geometry(lon, lat, radius_m)


def test_an_area_is_the_union_of_its_polygons_and_circles() -> None:
    area = Area("here", polygons=(SQUARE,), circles=(Circle(135.0, 35.0, 1000.0),))
    parts = shapely.union(polygon_geometry(SQUARE), circle_geometry(135, 35, 1000))
    assert area_geometry(area).equals(parts)
    overlapping = Area("here", polygons=(SQUARE, SQUARE))
    assert area_geometry(overlapping).equals(shapely.Polygon(SQUARE))


def test_an_area_of_codes_alone_has_no_shape() -> None:
    assert area_geometry(Area("八代市", geocodes=(NamedValue("JISX0402", "432024"),))).is_empty


def test_an_area_is_strict_unless_told_to_repair() -> None:
    area = Area("here", polygons=(BOW_TIE,))
    with pytest.raises(InvalidGeometry):
        area_geometry(area)
    assert area_geometry(area, strict=False).area == pytest.approx(1.0)
    with pytest.raises(InvalidGeometry):
        area_geometry(Area("here", polygons=(((0.0, NAN),),)), strict=False)


def test_the_box_of_nothing_is_none_and_that_of_the_globe_is_the_globe() -> None:
    assert bbox(shapely.Polygon()) is None
    assert bbox(shapely.Point(1, 2)) == (1, 2, 1, 2)
    assert bbox(shapely.box(-180, -90, 180, 90)) == (-180, -90, 180, 90)
    assert bbox(shapely.MultiPolygon([shapely.box(-180, 0, -90, 1), shapely.box(-95, 0, 180, 1)])) == (
        -180,
        0,
        180,
        1,
    )


def test_a_border_on_the_antimeridian_and_a_pole_have_their_other_positions_as_well() -> None:
    plain = shapely.box(130, 32, 131, 33)
    assert with_twins(plain) is plain
    twins = with_twins(shapely.union_all([shapely.box(179, 0, 180, 1), shapely.Point(-180, 5)]))
    assert shapely.intersects_xy(twins, [-180, -180, -180, 180, 180], [0, 1, 1.1, 5, 4]).tolist() == [
        True,
        True,
        False,
        True,
        False,
    ]
    pole = with_twins(shapely.LineString([(0, 80), (5, 90)]))
    assert shapely.intersects_xy(pole, [-180, 77, 77], [90, 90, -90]).tolist() == [True, True, False]
    assert with_twins(shapely.box(-180, -90, 180, 90)).equals(shapely.box(-180, -90, 180, 90))


def test_the_box_leaves_out_the_widest_gap() -> None:
    islands = shapely.union_all(
        [shapely.box(170, 0, 180, 1), shapely.box(-180, 0, -179, 1), shapely.box(-170, 0, -160, 1)]
    )
    assert bbox(islands) == (170, 0, -160, 1)
    assert bbox(shapely.MultiPoint([(-176, 1), (177, 2)])) == (177, 1, -176, 2)


@pytest.mark.parametrize(
    ("boxes", "around"),
    [
        ([], None),
        ([(130, 32, 131, 33), (140, 30, 141, 31)], (130, 30, 141, 33)),
        ([(170, 0, 180, 1), (100, 0, 101, 1)], (100, 0, 180, 1)),
        ([(-180, 0, -170, 1), (100, 0, 101, 1)], (100, 0, -170, 1)),
        ([(-180, 0, -170, 1), (170, 0, 180, 1)], (170, 0, -170, 1)),
        ([(-180, 0, 0, 1), (0, 0, 180, 1)], (-180, 0, 180, 1)),
        ([(-180, 0, 0, 1), (0.5, 0, 180, 1)], (0.5, 0, 0, 1)),
        ([(-176, 0, -175, 1), (177, 2, 178, 3)], (177, 0, -175, 3)),
        ([(-176, 0, -175, 1), (100, 0, 101, 1), (177, 0, 178, 1)], (100, 0, -175, 1)),
        ([(-120, 0, -100, 1), (0, 0, 100, 1)], (-120, 0, 100, 1)),
        ([(-170, 0, 170, 1)], (-170, 0, 170, 1)),
    ],
)
def test_the_box_around_boxes(
    boxes: list[tuple[float, ...]], around: tuple[float, float, float, float] | None
) -> None:
    assert joint_bbox(np.array(boxes, dtype=np.float64).reshape(-1, 4)) == around


def test_geojson_goes_round_by_the_right_hand() -> None:
    holed = shapely.Polygon(SQUARE[::-1], [[(130.2, 32.2), (130.4, 32.2), (130.4, 32.4), (130.2, 32.2)]])
    geojson = to_geojson(holed)
    assert geojson["type"] == "Polygon"
    rings = geojson["coordinates"]
    assert isinstance(rings, list)
    assert shapely.LinearRing(rings[0]).is_ccw
    assert not shapely.LinearRing(rings[1]).is_ccw


@pytest.mark.parametrize(
    "wkt",
    [
        "POINT (130 32)",
        "MULTIPOINT (130 32, 131 33)",
        "LINESTRING (130 32, 131 33)",
        "MULTILINESTRING ((130 32, 131 33), (132 32, 133 33))",
        "POLYGON ((130 32, 131 32, 131 33, 130 32))",
        "MULTIPOLYGON (((130 32, 131 32, 131 33, 130 32)), ((135 32, 136 32, 136 33, 135 32)))",
        "GEOMETRYCOLLECTION (POINT (130 32), POLYGON ((130 32, 131 32, 131 33, 130 32)))",
        "GEOMETRYCOLLECTION EMPTY",
    ],
)
def test_geojson_is_read_back_as_the_same_geometry(wkt: str) -> None:
    geometry = shapely.from_wkt(wkt)
    read = shapely.from_geojson(json.dumps(to_geojson(geometry)))
    assert read.equals(geometry)
    assert read.geom_type == geometry.geom_type


def test_geojson_of_nothing_is_an_empty_collection() -> None:
    assert to_geojson(shapely.Polygon()) == {"type": "GeometryCollection", "geometries": []}


def test_geojson_has_at_most_seven_decimals() -> None:
    text = json.dumps(to_geojson(circle_geometry(130.123456789, 32.987654321, 1234.5)))
    assert max(len(number.partition(".")[2]) for number in text.replace("]", ",").split(",")) <= 7


@settings(deadline=None)  # the machine may be busy
@given(radii, st.floats(-180, 180))
def test_geojson_of_any_polygon_keeps_its_place(sizes: list[float], lon: float) -> None:
    geometry = polygon_geometry([(wrapped(x), y) for x, y in star(lon, 0, sizes)])
    read = shapely.from_geojson(json.dumps(to_geojson(geometry)))
    assert shapely.symmetric_difference(shapely.make_valid(read), geometry).area < 1e-4


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=300))
@settings(max_examples=25, deadline=None)
def test_the_union_in_steps_is_the_union(corners: list[tuple[int, int]]) -> None:
    boxes = [shapely.box(x, y, x + 1.5, y + 1.5) for x, y in corners]
    assert union(boxes).equals(shapely.union_all(boxes))


def test_the_union_of_nothing_is_empty_and_that_of_a_point_and_a_box_holds_both() -> None:
    assert union([]).is_empty
    both = union([shapely.Point(0, 0), shapely.box(1, 1, 2, 2)])
    assert both.intersects(shapely.Point(0, 0))
    assert both.intersects(shapely.Point(1.5, 1.5))
