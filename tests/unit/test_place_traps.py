"""The ways in which a place is written wrongly or oddly: whoever is in there is told, or the writer hears what is wrong; never neither."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise

import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lalert import cap, resources
from lalert.errors import BadRequest, InvalidAlert
from lalert.geo import Gazetteer
from lalert.matching import FilterIndex, facts_of, parse_filter, wants
from lalert.model import Entry, Filter, Origin, OriginKind
from lalert.testing import make_cap
from lalert.texts import alert_geojson

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
DOCUMENT = make_cap(codes=["432032"], polygon=None).decode()
GEOCODE = re.compile(r"<geocode>.*</geocode>", re.DOTALL)

Ring = Sequence[tuple[float, float]]


@cache
def japan() -> Gazetteer:
    return Gazetteer.from_csv(resources.gazetteer_csv())


def document(*places: str) -> bytes:
    written, count = GEOCODE.subn("".join(places), DOCUMENT)
    assert count == 1
    return written.encode()


def polygon(*points: str) -> str:
    return f"<polygon>{' '.join(points)}</polygon>"


def circle(text: str) -> str:
    return f"<circle>{text}</circle>"


def alert(*places: str, tolerant: bool = False) -> Entry:
    """Return what a hub keeps of an alert with these places, which its sender may write wrongly if it is a tolerated one."""
    read = cap.parse(document(*places), tolerant=tolerant)
    return Entry(read.id, NOW, NOW, read, Origin(OriginKind.HTTP), read.id, facts_of(read, japan()))


def refused(*places: str, tolerant: bool = False) -> set[str]:
    with pytest.raises(InvalidAlert) as caught:
        cap.parse(document(*places), tolerant=tolerant)
    return {problem.rule for problem in caught.value.problems if problem.severity == "error"}


def filter_of(**pairs: str) -> Filter:
    return parse_filter(pairs.items())


def bad_filter(**pairs: str) -> str:
    with pytest.raises(BadRequest) as caught:
        filter_of(**pairs)
    return caught.value.detail


def told(entry: Entry, *lat_lons: tuple[float, float]) -> list[bool]:
    """Say for each position whether somebody who follows it hears of the entry."""
    return [wants(Filter(points=((lon, lat),)), entry, (), japan()) for lat, lon in lat_lons]


def hears(filter: Filter, lat: float, lon: float) -> bool:
    """Say whether a filter wants an alert for one position alone."""
    return wants(filter, alert(circle(f"{lat:.6f},{lon:.6f} 0")), (), japan())


def written(ring: Ring) -> list[str]:
    return [f"{lat:.6f},{lon:.6f}" for lat, lon in ring]


def star(lat: float, lon: float, radius: float, corners: int) -> list[tuple[float, float]]:
    turn = [math.tau * n / corners for n in range(corners)]
    ring = [(lat + radius * math.sin(a), lon + radius * math.cos(a)) for a in turn]
    return [*ring, ring[0]]


# Bow-ties

BOW_TIE = ("32.0,130.0", "33.0,131.0", "32.0,131.0", "33.0,130.0", "32.0,130.0")
IN_EACH_QUARTER = ((32.5, 130.2), (32.5, 130.8), (32.2, 130.5), (32.8, 130.5))


def test_bow_tie_of_an_alert_is_refused_by_name() -> None:
    assert refused(polygon(*BOW_TIE)) == {"CAP-POLYGON-CROSSING"}


def test_bow_tie_of_a_tolerated_sender_reaches_the_whole_square_that_was_meant() -> None:
    entry = alert(polygon(*BOW_TIE), tolerant=True)
    assert told(entry, *IN_EACH_QUARTER, (34.0, 130.5)) == [True, True, True, True, False]
    assert [problem.rule for problem in entry.alert.defects if problem.severity == "error"] == [
        "CAP-POLYGON-CROSSING"
    ]


def test_bow_tie_of_a_filter_is_answered_with_the_remedy() -> None:
    assert "crosses or touches itself: give the corners in the order" in bad_filter(polygon=" ".join(BOW_TIE))


def test_bow_tie_of_a_filter_from_elsewhere_reaches_all_of_it() -> None:
    kept = Filter(polygon=((130.0, 32.0), (131.0, 33.0), (131.0, 32.0), (130.0, 33.0), (130.0, 32.0)))
    assert all(hears(kept, *position) for position in IN_EACH_QUARTER)
    assert not hears(kept, 34.0, 130.5)


# Holes

OUTER = ("32.0,130.0", "32.0,131.0", "33.0,131.0", "33.0,130.0", "32.0,130.0")
INNER = ("32.4,130.4", "32.4,130.6", "32.6,130.6", "32.6,130.4", "32.4,130.4")


@pytest.mark.parametrize("outer", [OUTER, OUTER[::-1]], ids=["outer one way", "outer the other way"])
@pytest.mark.parametrize("inner", [INNER, INNER[::-1]], ids=["inner one way", "inner the other way"])
@pytest.mark.parametrize("swapped", [False, True], ids=["outer first", "inner first"])
def test_hole_a_ring_inside_a_ring_is_no_hole_whichever_way_it_turns(
    outer: tuple[str, ...], inner: tuple[str, ...], *, swapped: bool
) -> None:
    rings = [polygon(*inner), polygon(*outer)] if swapped else [polygon(*outer), polygon(*inner)]
    entry = alert(*rings)
    assert told(entry, (32.5, 130.5), (32.1, 130.1), (33.1, 130.5)) == [True, True, False]
    feature = alert_geojson(entry)["geometry"]
    assert (feature["type"], len(feature["coordinates"])) == ("Polygon", 1)
    assert shapely.LinearRing(feature["coordinates"][0]).is_ccw


KEYHOLE = (*OUTER[:-1], "32.0,130.0", "32.4,130.4", *INNER[::-1], "32.0,130.0")
TOUCHING = (*OUTER[:-1], "32.0,130.0", "32.4,130.1", "32.1,130.4", "32.0,130.0")


@pytest.mark.parametrize("ring", [KEYHOLE, TOUCHING], ids=["joined by a cut", "touching the border"])
def test_hole_in_one_ring_is_refused_or_filled(ring: tuple[str, ...]) -> None:
    assert refused(polygon(*ring)) == {"CAP-POLYGON-CROSSING"}
    within = (32.5, 130.5) if ring is KEYHOLE else (32.15, 130.15)
    assert told(alert(polygon(*ring), tolerant=True), within, (32.8, 130.8)) == [True, True]
    assert "crosses or touches itself" in bad_filter(polygon=" ".join(ring))


def test_hole_the_way_in_which_a_filter_turns_makes_no_difference() -> None:
    for corners in (OUTER, OUTER[::-1]):
        assert hears(filter_of(polygon=" ".join(corners)), 32.5, 130.5)
        assert not hears(filter_of(polygon=" ".join(corners)), 33.5, 130.5)


# NaN and infinities

NO_NUMBERS = ("nan", "NaN", "inf", "-inf", "Infinity", "1e999", "", "-", ".", "１３０", "0x82", "1_0")


@pytest.mark.parametrize("text", NO_NUMBERS)
@pytest.mark.parametrize("tolerant", [False, True])
def test_nan_in_an_alert_is_refused_by_name_whoever_sends_it(text: str, *, tolerant: bool) -> None:
    ring = polygon("32.0,130.0", f"32.0,{text}", "33.0,131.0", "32.0,130.0")
    assert refused(ring, tolerant=tolerant) == {"CAP-POLYGON-FORM"}
    for written in (f"{text},130.0 5", f"32.0,{text} 5", f"32.0,130.0 {text}"):
        assert refused(circle(written), tolerant=tolerant) == {"CAP-CIRCLE-FORM"}


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_nan_in_a_filter_is_answered_with_what_it_should_be(text: str) -> None:
    assert re.search("not a number|not on the globe|no such latitude", bad_filter(point=f"32.0,{text}"))
    assert bad_filter(polygon=f"32.0,130.0 32.0,{text} 33.0,131.0").startswith("polygon: ")
    assert bad_filter(bbox=f"130.0,32.0,{text},33.0").startswith("bbox: ")


def test_nan_a_number_beyond_the_globe_is_refused_on_either_side() -> None:
    digits = "9" * 400
    assert refused(circle(f"{digits},130.0 5")) <= {"CAP-POINT-RANGE", "CAP-CIRCLE-FORM"}
    assert refused(circle(f"32.0,130.0 {digits}")) <= {"CAP-CIRCLE-RANGE", "CAP-CIRCLE-FORM"}
    assert refused(polygon(f"32.0,{digits}", "32.0,131.0", "33.0,131.0", f"32.0,{digits}")) <= {
        "CAP-POINT-RANGE",
        "CAP-POLYGON-FORM",
    }
    assert "not a number" in bad_filter(point=f"{digits},130.0")


# The antimeridian

FIJI = ("-19,177", "-19,-178", "-15,-178", "-15,177", "-19,177")
ON_BOTH_SIDES = ((-17, 179.0), (-17, -179.5), (-17, 180.0), (-17, -180.0))


@pytest.mark.parametrize("ring", [FIJI, FIJI[::-1]])
def test_antimeridian_an_alert_over_it_reaches_both_sides_and_nobody_round_the_world(
    ring: tuple[str, ...],
) -> None:
    entry = alert(polygon(*ring))
    assert told(entry, *ON_BOTH_SIDES) == [True] * 4
    assert told(entry, (-17, 0.0), (-17, 176.0), (-17, -177.0)) == [False] * 3
    assert entry.facts.bbox == (177, -19, -178, -15)


def test_antimeridian_a_circle_over_it_reaches_both_sides() -> None:
    entry = alert(circle("0.0,179.9 50"))
    assert told(entry, (0, 179.7), (0, -179.8), (0, 180.0), (0, -180.0), (0, 0.0)) == [True] * 4 + [False]


@pytest.mark.parametrize("west", ["polygon", "bbox"])
def test_antimeridian_a_filter_over_it_hears_of_both_sides_and_nothing_round_the_world(west: str) -> None:
    wanted = filter_of(polygon=" ".join(FIJI)) if west == "polygon" else filter_of(bbox="177,-19,-178,-15")
    assert [hears(wanted, *position) for position in ON_BOTH_SIDES] == [True] * 4
    assert [hears(wanted, -17, lon) for lon in (0.0, 176.0, -177.0)] == [False] * 3


def test_antimeridian_a_box_with_its_sides_in_the_wrong_order_is_not_taken_for_one_round_the_world() -> None:
    for box in ("130.9,32.1,130.6,32.3", "10,0,-169.9,1", "180,0,-180,1", "181,0,-179,1"):
        assert "west may be beyond east only where the box crosses the 180th meridian" in bad_filter(bbox=box)


@pytest.mark.parametrize(("own", "other"), [(179, 180), (-180, -179)])
def test_antimeridian_what_ends_at_it_concerns_whoever_stands_on_it_under_either_number(
    own: int, other: int
) -> None:
    ring = (f"0,{own}", f"0,{other}", f"1,{other}", f"1,{own}", f"0,{own}")
    entry = alert(polygon(*ring))
    assert told(entry, (0.5, 180.0), (0.5, -180.0), (2, 180.0), (2, -180.0)) == [True, True, False, False]
    wanted = filter_of(polygon=" ".join(ring))
    assert [hears(wanted, 0.5, lon) for lon in (180.0, -180.0)] == [True, True]
    assert not hears(wanted, 2, 180.0)
    beyond = "179,0,180,1" if own == -180 else "-180,0,-179,1"
    across = filter_of(bbox=beyond)
    assert wants(across, entry, (), japan())
    assert entry.facts.bbox == (own, 0, other, 1)


def test_antimeridian_a_point_on_it_is_one_place_under_two_numbers() -> None:
    for alerted, followed in ((180.0, -180.0), (-180.0, 180.0), (180.0, 180.0)):
        assert told(alert(circle(f"10,{alerted} 0")), (10, followed), (10, 0.0)) == [True, False]


# Repeated points


def test_repeated_points_change_nothing_in_an_alert() -> None:
    repeated = [point for point in OUTER for _ in range(3)]
    entry = alert(polygon(*repeated))
    assert told(entry, (32.5, 130.5), (33.5, 130.5)) == [True, False]
    assert not entry.alert.defects


def test_repeated_points_change_nothing_in_a_filter() -> None:
    wanted = filter_of(polygon=" ".join(point for point in OUTER for _ in range(3)))
    assert hears(wanted, 32.5, 130.5)
    assert not hears(wanted, 33.5, 130.5)


def test_repeated_points_and_nothing_else_are_refused_on_either_side() -> None:
    assert refused(polygon(*["32.0,130.0"] * 5)) == {"CAP-POLYGON-FLAT"}
    assert refused(polygon(*["32.0,130.0"] * 5), tolerant=True) == {"CAP-POLYGON-FLAT"}
    assert "encloses nothing" in bad_filter(polygon=" ".join(["32.0,130.0"] * 5))


# Latitude and longitude swapped


@pytest.mark.parametrize("tolerant", [False, True])
def test_swapped_an_alert_is_refused_with_that_guess_whoever_sends_it(*, tolerant: bool) -> None:
    swapped = [",".join(point.split(",")[::-1]) for point in OUTER]
    assert refused(polygon(*swapped), tolerant=tolerant) == {"CAP-POINT-SWAPPED"}
    assert refused(circle("130.76,32.21 5"), tolerant=tolerant) == {"CAP-POINT-SWAPPED"}
    assert refused(circle("130.76,32.21 0"), tolerant=tolerant) == {"CAP-POINT-SWAPPED"}


def test_swapped_a_filter_is_answered_with_that_guess() -> None:
    assert "latitude comes first: 32.21,130.76?" in bad_filter(point="130.76,32.21")
    assert "latitude comes first: 32,130?" in bad_filter(polygon="130,32 131,32 131,33")
    assert "must be west,south,east,north" in bad_filter(bbox="32.1,130.6,32.3,130.9")


def test_swapped_is_told_from_the_numbers_for_every_place_of_japan() -> None:
    assert all(place.lon > 90 for place in japan().places())
    west, _, east, _ = shapely.total_bounds([japan().geometry(f"{number:02}") for number in range(1, 48)])
    assert 90 < west < east < 180


# Ten thousand points


def test_many_points_in_an_alert_are_taken_in_and_matched_in_a_moment() -> None:
    began = time.perf_counter()
    entry = alert(polygon(*written(star(32.2, 130.7, 0.1, 10_000))))
    assert told(entry, (32.2, 130.7), (32.2, 130.799), (32.2, 130.801)) == [True, True, False]
    neighbour = filter_of(polygon=" ".join(written(star(32.2, 130.9, 0.1001, 999))))
    stranger = filter_of(polygon=" ".join(written(star(32.2, 130.9, 0.0999, 999))))
    assert wants(neighbour, entry, (), japan())
    assert not wants(stranger, entry, (), japan())
    assert time.perf_counter() - began < 5


def test_many_points_in_disorder_are_refused_or_repaired_in_a_moment() -> None:
    ring = star(32.2, 130.7, 0.1, 10_000)
    ring[2_000], ring[7_000] = ring[7_000], ring[2_000]
    began = time.perf_counter()
    assert refused(polygon(*written(ring))) == {"CAP-POLYGON-CROSSING"}
    entry = alert(polygon(*written(ring)), tolerant=True)
    assert told(entry, (32.2, 130.7), (32.2, 130.79), (32.2, 130.9)) == [True, True, False]
    assert time.perf_counter() - began < 5


def test_many_points_in_a_filter_are_answered_with_the_limit() -> None:
    began = time.perf_counter()
    assert "at most 1000 are taken" in bad_filter(polygon=" ".join(written(star(32.2, 130.7, 0.1, 10_000))))
    assert time.perf_counter() - began < 1


# Circles


@pytest.mark.parametrize("radius", ["0", "0.0", "0.0000000001", "0.0005"])
def test_zero_radius_is_a_place_on_its_own(radius: str) -> None:
    entry = alert(circle(f"32.21,130.76 {radius}"))
    assert told(entry, (32.21, 130.76), (32.22, 130.76)) == [True, False]
    assert wants(filter_of(bbox="130.7,32.2,130.8,32.3"), entry, (), japan())
    assert wants(filter_of(polygon="32.2,130.7 32.2,130.8 32.3,130.8"), entry, (), japan())
    assert wants(filter_of(area="432032"), entry, (), japan())
    assert not wants(filter_of(area="432059"), entry, (), japan())


def test_zero_radius_is_remarked_upon_to_whoever_writes_it() -> None:
    found = {
        problem.rule: problem.severity for problem in cap.examine(document(circle("32.2,130.7 0"))).problems
    }
    assert found["CAP-CIRCLE-POINT"] == "advice"


def test_zero_area_of_a_filter_is_answered_with_what_it_should_be() -> None:
    assert "west < east" in bad_filter(bbox="130.7,32.2,130.7,32.3")
    assert "encloses nothing" in bad_filter(polygon="32.0,130.0 33.0,131.0 34.0,132.0")


# Poles

ROUND_THE_POLE = ("60,0", "60,90", "60,180", "60,-90", "60,0")
AROUND = ((89.0, 45.0), (61.0, -135.0), (90.0, 0.0), (90.0, 77.0), (90.0, -180.0))


def test_poles_a_ring_round_one_reaches_everybody_within_and_nobody_without() -> None:
    entry = alert(polygon(*ROUND_THE_POLE))
    assert told(entry, *AROUND, (59.0, 45.0), (-89.0, 45.0)) == [True] * 5 + [False] * 2
    wanted = filter_of(polygon=" ".join(ROUND_THE_POLE))
    assert [hears(wanted, *position) for position in AROUND] == [True] * 5
    assert not hears(wanted, 59.0, 45.0)


def test_poles_a_circle_over_one_reaches_the_other_side() -> None:
    entry = alert(circle("89.0,10.0 500"))
    assert told(entry, (88.0, -170.0), (90.0, 55.0), (80.0, 10.0)) == [True, True, False]


def test_poles_whoever_stands_on_one_is_there_under_every_longitude() -> None:
    for sign in (1, -1):
        touching = alert(polygon(f"{80 * sign},0", f"{80 * sign},10", f"{90 * sign},5", f"{80 * sign},0"))
        assert told(touching, (90 * sign, 5.0), (90 * sign, -120.0), (89 * sign, -120.0)) == [
            True,
            True,
            False,
        ]
        assert told(alert(circle(f"{90 * sign},33 0")), (90 * sign, -120.0)) == [True]


# All of them


def winding(ring: Ring, lat: float, lon: float) -> int:
    """Return how often a closed ring goes round a position that is not on it."""
    turns = 0
    for (y1, x1), (y2, x2) in pairwise(ring):
        side = (x2 - x1) * (lat - y1) - (lon - x1) * (y2 - y1)
        turns += (y1 <= lat < y2 and side > 0) - (y2 <= lat < y1 and side < 0)
    return turns


def alert_or_complaints(ring: list[str], *, tolerant: bool) -> tuple[Entry | None, set[str]]:
    try:
        return alert(polygon(*ring), tolerant=tolerant), set()
    except InvalidAlert as refusal:
        return None, {problem.rule for problem in refusal.problems}


def filter_or_complaint(ring: list[str]) -> tuple[Filter | None, str]:
    try:
        return filter_of(polygon=" ".join(ring)), ""
    except BadRequest as refusal:
        return None, refusal.detail


corners = st.tuples(st.integers(0, 8), st.integers(0, 8))


@given(st.lists(corners, min_size=1, max_size=8), corners, st.booleans())
@example([(0, 0), (8, 8), (0, 8), (8, 0)], (2, 6), True)
@settings(deadline=None, max_examples=60)
def test_whoever_a_ring_goes_round_is_told_or_its_writer_hears_what_is_wrong(
    points: list[tuple[int, int]], person: tuple[int, int], close: bool
) -> None:
    ring = [(float(lat), float(lon)) for lat, lon in [*points, *points[:close]]]
    lat, lon = person[0] + 0.31, person[1] + 0.17
    inside = bool(winding([*ring, ring[0]], lat, lon))
    text = written(ring)
    for tolerant in (False, True):
        entry, complaints = alert_or_complaints(text, tolerant=tolerant)
        if entry is None:
            assert any(rule.startswith("CAP-POLYGON-") for rule in complaints)
        else:
            assert told(entry, (lat, lon))[0] or not inside
    wanted, complaint = filter_or_complaint(text)
    if wanted is None:
        assert complaint.startswith("polygon: ")
    else:
        assert hears(wanted, lat, lon) is inside
    kept = Filter(polygon=tuple((x, y) for y, x in ring))
    assert hears(kept, lat, lon) or not inside


ODD_FILTERS = (
    {"polygon": " ".join(FIJI)},
    {"polygon": " ".join(OUTER[::-1])},
    {"polygon": " ".join(ROUND_THE_POLE)},
    {"bbox": "177,-19,-178,-15"},
    {"bbox": "179,0,180,1"},
    {"bbox": "-180,0,-179,1"},
    {"bbox": "-180,-90,180,90"},
    *({"point": f"{lat},{lon}"} for lat in (-90, -17, 0.5, 32.5, 90) for lon in (-180, 5, 130.5, 179.5, 180)),
)
ODD_ALERTS = (
    polygon(*FIJI),
    polygon(*BOW_TIE),
    polygon(*OUTER) + polygon(*INNER),
    polygon(*ROUND_THE_POLE),
    polygon("0,179", "0,180", "1,180", "1,179", "0,179"),
    polygon("0,-180", "0,-179", "1,-179", "1,-180", "0,-180"),
    polygon("80,0", "80,10", "90,5", "80,0"),
    circle("0.5,180 0"),
    circle("-90,5 0"),
    circle("0,179.9 50"),
    circle("32.5,130.5 0"),
    circle("32.5,130.5 20000"),
)


@pytest.mark.parametrize("place", ODD_ALERTS)
def test_the_index_finds_in_odd_places_whoever_is_there(place: str) -> None:
    entry = alert(place, tolerant=True)
    index = FilterIndex(japan())
    wanted = {index.add(one): one for one in (filter_of(**pairs) for pairs in ODD_FILTERS)}
    there = {one for one in wanted.values() if wants(one, entry, (), japan())}
    assert there
    assert {wanted[number] for number in index.match(entry).tolist()} == there
    snapshot = index.snapshot()
    index.adopt(snapshot, snapshot.rebuilt())
    assert {wanted[number] for number in index.match(entry).tolist()} == there


def test_what_is_drawn_oddly_is_shown_on_the_map_as_what_is_matched() -> None:
    for entry in (alert(polygon(*FIJI)), alert(polygon(*BOW_TIE), tolerant=True)):
        shown = shapely.from_geojson(json.dumps(alert_geojson(entry)["geometry"]))
        assert shapely.symmetric_difference(shown, entry.facts.drawn).area < 1e-9
