"""The index answers as every filter asked in turn would, whatever is added and discarded in between."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.errors import GEOSException

from lalert import resources
from lalert.cap import JIS_GEOCODE_NAMES
from lalert.errors import InvalidGeometry
from lalert.geo import Gazetteer
from lalert.matching import FilterIndex, curve, explain, facts_of, hindrances, surfaces, wants
from lalert.matching.drawn import Drawn
from lalert.matching.postings import Overlay
from lalert.matching.rules import places_of
from lalert.matching.surfaces import corners_of
from lalert.model import (
    Area,
    Circle,
    Entry,
    Facts,
    Filter,
    MsgType,
    NamedValue,
    Origin,
    OriginKind,
    Reference,
    Ring,
    Severity,
    Status,
)
from lalert.testing import make_alert

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
CODES = ("43", "432032", "435015", "432059", "401307", "401323", "40", "01", "439991")
GEOCODE = min(JIS_GEOCODE_NAMES)
BASE = make_alert()


@cache
def gazetteer() -> Gazetteer:
    return Gazetteer.from_csv(resources.gazetteer_csv())


# A coarse lattice, so that borders touch, corners coincide and boxes are all but empty far more often than by chance.
longitudes = st.integers(0, 24).map(lambda n: 130.0 + n / 16)
latitudes = st.integers(0, 24).map(lambda n: 31.5 + n / 16)
positions = st.tuples(longitudes, latitudes)


@st.composite
def rings(draw: st.DrawFn) -> Ring:
    hull = shapely.convex_hull(shapely.MultiPoint(draw(st.lists(positions, min_size=3, max_size=6))))
    if hull.geom_type != "Polygon":
        lon, lat = draw(positions)
        hull = shapely.box(lon, lat, lon + draw(st.sampled_from([1 / 16, 1, 20])), lat + 1 / 16)
    return tuple(hull.exterior.coords)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    west, south = draw(positions)
    return west, south, west + draw(st.integers(0, 8)) / 16, south + draw(st.integers(0, 8)) / 16


filters = st.builds(
    Filter,
    areas=st.frozensets(st.sampled_from(CODES), max_size=2),
    points=st.lists(positions, max_size=2, unique=True).map(tuple),
    polygon=st.none() | rings(),
    bbox=st.none() | boxes(),
    min_severity=st.none() | st.sampled_from(Severity),
    min_level=st.none() | st.integers(1, 5),
    level_required=st.booleans(),
    categories=st.frozensets(st.sampled_from(["Met", "Fire"]), max_size=1),
    events=st.frozensets(st.sampled_from(["避難指示", "大雨"]), max_size=1),
    senders=st.frozensets(st.sampled_from(["a@x.example", "b@x.example"]), max_size=1),
    statuses=st.sampled_from([frozenset({Status.ACTUAL}), frozenset({Status.EXERCISE}), frozenset(Status)]),
)
areas = st.builds(
    Area,
    area_desc=st.just("x"),
    polygons=st.lists(rings(), max_size=2).map(tuple),
    circles=st.lists(
        st.builds(Circle, longitudes, latitudes, st.sampled_from([0.0, 500.0, 30_000.0])), max_size=1
    ).map(tuple),
    geocodes=st.lists(st.builds(NamedValue, st.just(GEOCODE), st.sampled_from(CODES)), max_size=2).map(tuple),
)


@st.composite
def chains(draw: st.DrawFn) -> list[Entry]:
    """Draw alerts each of which may continue earlier ones, known or not."""
    chain: list[Entry] = []
    for number in range(draw(st.integers(1, 3))):
        info = replace(
            BASE.infos[0],
            event=draw(st.sampled_from(["避難指示", "大雨"])),
            categories=(draw(st.sampled_from(["Met", "Fire"])),),
            severity=draw(st.sampled_from(Severity)),
            areas=tuple(draw(st.lists(areas, max_size=2))),
        )
        known = draw(st.lists(st.sampled_from(chain), max_size=2)) if chain else []
        references = [Reference(e.alert.sender, e.alert.identifier, "", e.alert.sent) for e in known]
        if draw(st.integers(0, 5)) == 0:
            references.append(Reference("x", "lost", "", NOW))
        alert = replace(
            BASE,
            identifier=f"alert-{number}",
            sender=draw(st.sampled_from(["a@x.example", "b@x.example"])),
            status=draw(st.sampled_from([Status.ACTUAL, Status.ACTUAL, Status.EXERCISE])),
            msg_type=draw(st.sampled_from(MsgType)),
            references=tuple(references),
            infos=(info,) if draw(st.integers(0, 3)) else (),
        )
        home = draw(
            st.sampled_from(
                [frozenset[str](), frozenset({"432032"}), frozenset({"40"}), frozenset({"439991"})]
            )
        )
        facts = replace(facts_of(alert, gazetteer(), home), level=draw(st.none() | st.integers(1, 5)))
        chain.append(Entry(f"e-{number}", NOW, NOW, alert, Origin(OriginKind.HTTP), "i", facts))
    return chain


class Named:
    """An index that says the filters themselves, and is made anew when it is told to."""

    def __init__(self, *wanted: Filter) -> None:
        self.index = FilterIndex(gazetteer())
        self.filters: dict[int, Filter] = {}
        for one in wanted:
            self.add(one)

    def add(self, filter: Filter) -> None:
        number = self.index.add(filter)
        assert self.filters.setdefault(number, filter) == filter, "two filters have one number"

    def discard(self, filter: Filter) -> None:
        number = self.index.number(filter)
        self.index.discard(filter)
        if number is not None:
            del self.filters[number]

    def match(self, entry: Entry, lineage: Sequence[Entry] = ()) -> set[Filter]:
        numbers = self.index.match(entry, lineage).tolist()
        assert numbers == sorted(set(numbers))
        return {self.filters[number] for number in numbers}

    def begin_anew(self) -> Callable[[], None]:
        snapshot = self.index.snapshot()
        return partial(self.index.adopt, snapshot, snapshot.rebuilt())

    def make_anew(self) -> None:
        self.begin_anew()()


steps = st.lists(
    st.tuples(st.just("add"), filters)
    | st.tuples(st.sampled_from(["discard", "discard"]), st.integers(0, 11))
    | st.tuples(st.sampled_from(["begin", "adopt"]), st.none()),
    max_size=20,
)


PICTURED = patch.object(surfaces, "_FEW", 0)
"""Few surfaces are held against a picture too, as many are."""


@given(steps, chains(), st.sampled_from([PICTURED, nullcontext()]))
@settings(deadline=None)
def test_the_index_agrees_with_asking_every_filter(
    done: list[tuple[str, Filter | int | None]], chain: list[Entry], how: AbstractContextManager[Any]
) -> None:
    index, there = Named(), dict[Filter, None]()
    adopt: Callable[[], None] | None = None
    for step, what in done:
        if isinstance(what, Filter):
            index.add(what)
            there[what] = None
        elif isinstance(what, int) and there:
            gone = list(there)[what % len(there)]
            index.discard(gone)
            del there[gone]
        elif step == "begin" and adopt is None:
            adopt = index.begin_anew()
        elif step == "adopt" and adopt is not None:
            adopt()
            adopt = None
    *lineage, entry = chain
    with how:
        matched = index.match(entry, lineage)
    assert matched == {one for one in there if wants(one, entry, lineage, gazetteer())}
    assert len(index.index) == len(there)


@given(filters, chains())
@settings(deadline=None)
def test_whoever_hears_and_whoever_does_not_is_told_why(wanted: Filter, chain: list[Entry]) -> None:
    *lineage, entry = chain
    hears = wants(wanted, entry, lineage, gazetteer())
    reasons = explain(wanted, entry, lineage, gazetteer()) or hindrances(wanted, entry, lineage, gazetteer())
    assert bool(explain(wanted, entry, lineage, gazetteer())) is hears
    assert bool(hindrances(wanted, entry, lineage, gazetteer())) is not hears
    assert all(reason.en and reason.ja for reason in reasons)


@given(filters, chains())
@settings(deadline=None)
def test_who_was_told_hears_of_what_follows(wanted: Filter, chain: list[Entry]) -> None:
    *lineage, entry = chain
    told = any(wants(wanted, earlier, lineage[:n], gazetteer()) for n, earlier in enumerate(lineage))
    if told and entry.alert.msg_type in {MsgType.UPDATE, MsgType.CANCEL, MsgType.ERROR}:
        assert wants(wanted, entry, lineage, gazetteer()) is (entry.alert.status in wanted.statuses)


def entry_of(*codes: str) -> Entry:
    alert = make_alert(codes=codes)
    return Entry("e-1", NOW, NOW, alert, Origin(OriginKind.HTTP), "i", facts_of(alert, gazetteer()))


def test_equal_filters_are_one() -> None:
    index = Named()
    for _ in range(2):
        index.add(Filter(areas=frozenset({"432032"}), points=((130.76, 32.21),)))
    assert len(index.index) == 1
    assert Filter(areas=frozenset({"432032"}), points=((130.76, 32.21),)) in index.index
    index.discard(Filter(areas=frozenset({"432032"}), points=((130.76, 32.21),)))
    assert len(index.index) == 0
    assert index.match(entry_of("432032")) == set()


def test_discarding_what_is_not_there_changes_nothing() -> None:
    index = Named()
    index.add(Filter())
    index.discard(Filter(areas=frozenset({"43"})))
    assert index.match(entry_of("432032")) == {Filter()}


def test_matching_leaves_the_index_as_it_was() -> None:
    index, gone = Named(), Filter(areas=frozenset({"43"}))
    for one in (Filter(), gone):
        index.add(one)
    assert index.match(entry_of("432032")) == {Filter(), gone}
    index.discard(gone)
    assert index.match(entry_of("432032")) == {Filter()}


@pytest.mark.parametrize("home", [frozenset[str](), frozenset({"439991"})])
def test_an_alert_without_a_place_finds_those_whom_nothing_rules_out(home: frozenset[str]) -> None:
    alert = make_alert(infos=())
    entry = Entry("e-1", NOW, NOW, alert, Origin(OriginKind.HTTP), "i", facts_of(alert, gazetteer(), home))
    index = Named()
    wanted = [
        Filter(),
        Filter(points=((139.7, 35.7),)),
        Filter(bbox=(0, 0, 1, 1)),
        Filter(areas=frozenset({"40"})),
    ]
    for one in wanted:
        index.add(one)
    assert index.match(entry) == set(wanted if not home else wanted[:3])


def test_those_who_were_told_before_are_found() -> None:
    first = entry_of("432032")
    alert = make_alert(codes=["401307"], msg_type="Update", references=[first])
    update = Entry("e-2", NOW, NOW, alert, Origin(OriginKind.HTTP), "i", facts_of(alert, gazetteer()))
    index = Named()
    told = [Filter(areas=frozenset({"432032"})), Filter(points=((130.76, 32.21),))]
    for one in (*told, Filter(areas=frozenset({"432059"}))):
        index.add(one)
    assert index.match(update, [first]) == set(told)


def test_a_large_area_finds_what_lies_in_each_of_its_corners() -> None:
    west, south, east, north = 130.01, 31.01, 139.99, 39.99
    alert = make_alert(
        polygon=((west, south), (east, south), (east, north), (west, north), (west, south)), codes=()
    )
    entry = Entry("e-1", NOW, NOW, alert, Origin(OriginKind.HTTP), "i", facts_of(alert, gazetteer()))
    corners = [Filter(points=((lon, lat),)) for lon in (west, east) for lat in (south, north)]
    index = Named()
    for one in (*corners, Filter(points=((129.0, 35.0),))):
        index.add(one)
    assert index.match(entry) == set(corners)


def test_a_broken_filter_is_refused_and_leaves_nothing_behind() -> None:
    index = Named()
    broken = Filter(areas=frozenset({"43"}), bbox=(131.0, 32.0, 130.0, 33.0))
    with pytest.raises(InvalidGeometry):
        index.add(broken)
    assert broken not in index.index
    assert index.match(entry_of("43")) == set()


class Moody(Gazetteer):
    """Places no triangle while it has an error: as where GEOS gives up on a shape, or, for good, for want of memory."""

    error: Exception | None = None

    def leaves_meeting(self, shapes: Sequence[BaseGeometry]) -> list[frozenset[str]]:
        if self.error is not None and any(0 < shape.area < 0.9 * shape.envelope.area for shape in shapes):
            raise self.error
        return super().leaves_meeting(shapes)


def moody(error: Exception) -> Moody:
    places = Moody.from_csv(resources.gazetteer_csv())
    places.error = error
    return places


def triangles(count: int) -> list[Filter]:
    """Return triangles in Hitoyoshi."""
    west, south = 130.7626, 32.2100
    return [
        Filter(polygon=((west, south), (west + n / 1e4, south), (west, south + 1e-3), (west, south)))
        for n in range(1, count + 1)
    ]


def in_hitoyoshi(index: FilterIndex) -> set[int]:
    return set(index.match(entry_of("432032")).tolist())


def test_a_shape_that_cannot_be_placed_is_placed_by_its_bounds_and_forgets_none_beside_it() -> None:
    index = FilterIndex(moody(GEOSException("side location conflict")))
    beside = Filter(points=((130.7626, 32.2100),))
    assert {index.add(one) for one in (*triangles(3), beside)} == in_hitoyoshi(index)


def test_where_placing_fails_for_a_while_nothing_is_forgotten_and_nothing_half_taken_in() -> None:
    places = moody(MemoryError())
    index = FilterIndex(places)
    taken = {}
    for one in triangles(20):
        try:
            taken[one] = index.add(one)
        except MemoryError:
            assert one not in index
    with pytest.raises(MemoryError):
        index.match(entry_of("432032"))
    places.error = None
    assert 0 < len(taken) < 20
    assert set(taken.values()) == in_hitoyoshi(index)


def star(centre: tuple[float, float], radius: float, corners: int, dice: random.Random) -> Ring:
    angles = [2 * math.pi * n / corners for n in range(corners)]
    reach = [radius * dice.uniform(0.3, 1.0) for _ in angles]
    ring = [
        (centre[0] + r * math.cos(angle), centre[1] + r * math.sin(angle))
        for r, angle in zip(reach, angles, strict=True)
    ]
    return (*ring, ring[0])


def entry_drawn(drawn: BaseGeometry) -> Entry:
    """Return an entry that concerns what is drawn, and nothing besides."""
    return Entry("e-1", NOW, NOW, BASE, Origin(OriginKind.HTTP), "i", Facts(drawn=drawn))


@cache
def crowd() -> list[Filter]:
    """Return so many places in one region that nothing of the search is left out: cells are split, sizes searched, and surfaces taken in portions."""
    dice = random.Random(5)

    def somewhere() -> tuple[float, float]:
        return dice.uniform(130, 132), dice.uniform(31, 33)

    surfaces = [
        Filter(
            polygon=star(
                somewhere(), dice.choice([0.001, 0.01, 0.04, 0.2]), dice.choice([4, 16, 17, 90]), dice
            )
        )
        for _ in range(3_000)
    ]
    crossed = [Filter(polygon=(*(somewhere() for _ in range(5)), (131.0, 32.0))) for _ in range(20)]
    boxes = [Filter(bbox=(130.0, 31.0, 130.0 + n / 8, 31.0 + (n % 3) / 8)) for n in range(9)]
    spots = [Filter(points=(somewhere(),)) for _ in range(3_000)]
    corners = [Filter(points=((130 + n / 8, 31 + n / 8), (131.0, 32.0))) for n in range(16)]
    return [*surfaces, *crossed, *boxes, *spots, *corners]


def drawings() -> dict[str, BaseGeometry]:
    dice = random.Random(7)
    whole = shapely.Polygon(star((131, 32), 0.8, 60, dice))
    return {
        "a large star": whole,
        "a small one": shapely.Polygon(star((131, 32), 0.05, 60, dice)),
        "one with a hole": shapely.difference(whole, shapely.box(130.8, 31.8, 131.2, 32.2)),
        "two far apart": shapely.union(
            shapely.box(130, 31, 130.25, 31.25), shapely.box(131.75, 32.75, 132, 33)
        ),
        "a box on the lattice": shapely.box(130.5, 31.5, 131.5, 32.5),
        "a sliver": shapely.box(130, 32, 132, 32 + 1e-7),
        "a point": shapely.Point(131.0, 32.0),
        "a point and a surface": shapely.union(
            shapely.Point(130.125, 31.125), shapely.box(131, 32, 131.1, 32.1)
        ),
        "everything": shapely.box(-180, -90, 180, 90),
        "nothing that is there": shapely.box(10, 10, 11, 11),
    }


@cache
def crowded() -> tuple[FilterIndex, list[int], npt.NDArray[np.object_], npt.NDArray[np.intp]]:
    index = FilterIndex()
    numbers = [index.add(one) for one in crowd()]
    snapshot = index.snapshot()
    index.adopt(snapshot, snapshot.rebuilt())
    shapes = [places_of(one, None).shapes for one in crowd()]
    owners = [number for number, own in zip(numbers, shapes, strict=True) for _ in own]
    return index, numbers, np.array([shape for own in shapes for shape in own]), np.array(owners)


@pytest.mark.parametrize("name", drawings())
def test_of_a_crowd_those_are_found_whom_what_is_drawn_meets(name: str) -> None:
    index, _, shapes, owners = crowded()
    drawn = drawings()[name]
    shapely.prepare(drawn)
    expected = np.unique(owners[shapely.intersects(drawn, shapes)])
    assert index.match(entry_drawn(drawn)).tolist() == expected.tolist()


def test_a_hole_in_a_surface_is_no_part_of_it() -> None:
    ring = shapely.box(130, 31, 131, 32).exterior.coords
    hole = shapely.box(130.4, 31.4, 130.6, 31.6).exterior.coords
    holed = shapely.Polygon(ring, [hole])
    overlay = Overlay()
    overlay.add_surface(corners_of(holed), 7)
    rows = overlay.rows()
    for drawn, meets in (
        (shapely.box(130.45, 31.45, 130.55, 31.55), False),
        (shapely.box(130.3, 31.3, 130.7, 31.7), True),
        (shapely.box(130.1, 31.1, 130.2, 31.2), True),
        (shapely.box(129, 30, 132, 33), True),
        # All of it lies in one cell on the border, and the gap before its hole is in the middle of its corners.
        (shapely.box(129.9, 30.9, 179.9, 80.9), True),
    ):
        assert bool(shapely.intersects(holed, drawn)) is meets
        for how in (PICTURED, nullcontext()):
            with how:
                assert bool(len(rows.surfaces.meeting(np.array([0]), Drawn.of(drawn)))) is meets


def test_those_who_come_while_the_index_is_made_anew_are_found_and_those_who_go_are_not() -> None:
    dice = random.Random(2)
    early, late, gone = (
        Filter(points=((130.76, 32.21 + n / 1000),), polygon=star((130.76, 32.21), 0.001, 5, dice))
        for n in range(3)
    )
    index = Named(early, gone)
    adopt = index.begin_anew()
    index.add(late)
    index.discard(gone)
    for _ in range(3):
        assert index.match(entry_of("432032")) == {early, late}
        assert index.match(entry_drawn(shapely.box(130.75, 32.2, 130.77, 32.2095))) == {early, late}
        adopt()
        adopt = index.begin_anew()


def test_a_number_is_given_again_only_when_nothing_of_its_first_filter_is_left() -> None:
    index = FilterIndex(gazetteer())
    old, new = Filter(areas=frozenset({"432032"})), Filter(areas=frozenset({"432059"}))
    number = index.add(old)
    snapshot = index.snapshot()
    index.discard(old)
    index.adopt(snapshot, snapshot.rebuilt())
    assert index.add(new) != number
    snapshot = index.snapshot()
    index.adopt(snapshot, snapshot.rebuilt())
    assert index.add(Filter(areas=frozenset({"43"}))) == number
    assert index.match(entry_of("432059")).tolist() == [number, number + 1]


def test_a_new_base_is_due_when_many_have_come_or_gone_and_then_the_rest_takes_no_room() -> None:
    index = FilterIndex()
    many = [Filter(points=((130 + n / 10_000, 32),), events=frozenset({str(n % 7)})) for n in range(2_100)]
    assert index.renewal() is None
    for one in many:
        index.add(one)
    make = index.renewal()
    assert make is not None
    make()()
    assert not index.due
    for one in many:
        index.discard(one)
    make = index.renewal()
    assert make is not None
    make()()
    assert index.renewal() is None
    assert len(index) == 0
    assert not any(
        len(column) for column in (*index.snapshot().rows.numbers(), *index.snapshot().base.rows.numbers())
    )
    assert not any(wish is not None for wish in index._wishes.filters)


def test_the_cost_grows_with_what_may_match_and_not_with_what_exists() -> None:
    spots = np.random.default_rng(3).uniform((130, 31), (132, 33), (100_000, 2))
    keys = curve.keys_of(spots)
    keys.sort()
    town = curve.search(keys, Drawn.of(shapely.box(131.0, 32.0, 131.05, 32.05)))
    assert len(town.inside) + len(town.border) < len(keys) / 100
    region = curve.search(keys, Drawn.of(shapely.box(130.01, 31.01, 131.99, 32.99)))
    assert len(region.border) < len(keys) / 3 < len(region.inside)
