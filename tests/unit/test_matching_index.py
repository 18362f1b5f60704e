"""The index answers as every filter asked in turn would, whatever is added and discarded in between."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from lalert import resources
from lalert.cap import JIS_GEOCODE_NAMES
from lalert.errors import InvalidGeometry
from lalert.geo import Gazetteer
from lalert.matching import FilterIndex, explain, facts_of, hindrances, wants
from lalert.matching.rules import voices
from lalert.model import (
    Area,
    Circle,
    Entry,
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


@given(st.lists(filters, max_size=12), st.sets(st.integers(0, 11)), chains())
@settings(deadline=None)
def test_the_index_agrees_with_asking_every_filter(
    wanted: list[Filter], dropped: set[int], chain: list[Entry]
) -> None:
    index = FilterIndex(gazetteer())
    for one in wanted:
        index.add(one)
    gone = {one for number, one in enumerate(wanted) if number in dropped}
    for one in gone:
        index.discard(one)
    *lineage, entry = chain
    assert index.match(entry, lineage) == {
        one for one in wanted if one not in gone and wants(one, entry, lineage, gazetteer())
    }


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
    index = FilterIndex(gazetteer())
    for _ in range(2):
        index.add(Filter(areas=frozenset({"432032"}), points=((130.76, 32.21),)))
    assert len(index) == 1
    assert Filter(areas=frozenset({"432032"}), points=((130.76, 32.21),)) in index
    index.discard(Filter(areas=frozenset({"432032"}), points=((130.76, 32.21),)))
    assert len(index) == 0
    assert index.match(entry_of("432032")) == set()


def test_discarding_what_is_not_there_changes_nothing() -> None:
    index = FilterIndex(gazetteer())
    index.add(Filter())
    index.discard(Filter(areas=frozenset({"43"})))
    assert index.match(entry_of("432032")) == {Filter()}


def test_everything_that_was_added_can_be_forgotten() -> None:
    index = FilterIndex(gazetteer())
    kinds = [
        Filter(),
        Filter(areas=frozenset({"43", "40"})),
        Filter(points=((130.76, 32.21), (139.7, 35.7))),
        Filter(polygon=((130.0, 32.0), (150.0, 32.0), (150.0, 40.0), (130.0, 32.0))),
        Filter(bbox=(130.0, 32.0, 130.0, 32.0)),
    ]
    for one in kinds:
        index.add(one)
    assert any(leftovers(index))
    for one in kinds:
        index.discard(one)
    assert not any(leftovers(index))


def leftovers(index: FilterIndex) -> list[object]:
    return [
        value
        for part in (index, index._grid)
        for value in vars(part).values()
        if isinstance(value, dict | set)
    ]


def test_matching_leaves_the_index_as_it_was() -> None:
    index, gone = FilterIndex(gazetteer()), Filter(areas=frozenset({"43"}))
    for one in (Filter(), gone):
        index.add(one)
    assert index.match(entry_of("432032")) == {Filter(), gone}
    index.discard(gone)
    assert index.match(entry_of("432032")) == {Filter()}


@pytest.mark.parametrize("home", [frozenset[str](), frozenset({"439991"})])
def test_an_alert_without_a_place_finds_those_whom_nothing_rules_out(home: frozenset[str]) -> None:
    alert = make_alert(infos=())
    entry = Entry("e-1", NOW, NOW, alert, Origin(OriginKind.HTTP), "i", facts_of(alert, gazetteer(), home))
    index = FilterIndex(gazetteer())
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
    index = FilterIndex(gazetteer())
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
    index = FilterIndex(gazetteer())
    for one in (*corners, Filter(points=((129.0, 35.0),))):
        index.add(one)
    assert index.match(entry) == set(corners)


def test_a_broken_filter_is_refused_and_leaves_nothing_behind() -> None:
    index = FilterIndex(gazetteer())
    broken = Filter(areas=frozenset({"43"}), bbox=(131.0, 32.0, 130.0, 33.0))
    with pytest.raises(InvalidGeometry):
        index.add(broken)
    assert broken not in index
    assert index.match(entry_of("43")) == set()


def test_the_cost_grows_with_what_may_match_and_not_with_what_exists() -> None:
    dice = random.Random(1)
    index = FilterIndex(gazetteer())
    for _ in range(5_000):
        index.add(Filter(points=((dice.uniform(129, 146), dice.uniform(31, 45)),)))
    for number in range(1_000):
        index.add(Filter(areas=frozenset({f"{10_000 + number}0"})))
    whole_nation = entry_of(*(f"{prefecture:02}" for prefecture in range(1, 48)))
    assert len(index.match(whole_nation)) > 1_000
    (voice,) = voices(entry_of("432032"), (), gazetteer())
    assert len(index._candidates(voice)) < 100


def test_a_place_takes_at_most_four_cells_however_large_it_is() -> None:
    for width, height in ((1e-6, 1e-6), (1 / 16, 1 / 16), (20.0, 1e-3), (1e-3, 20.0), (360.0, 180.0)):
        index = FilterIndex(gazetteer())
        index.add(Filter(bbox=(-180.0, -90.0, -180.0 + width, -90.0 + height)))
        assert 1 <= sum(len(cells) for cells in index._grid._levels.values()) <= 4, (width, height)
