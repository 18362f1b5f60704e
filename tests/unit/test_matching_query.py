"""A filter at the door: what reads, what it means, and what is answered to the rest."""

from __future__ import annotations

import string
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lalert.errors import BadRequest
from lalert.geo import check_digit
from lalert.matching import filter_pairs, parse_filter
from lalert.matching.query import CATEGORIES
from lalert.model import Filter, Severity, Status

EVERY_STATUS = frozenset({Status.ACTUAL, Status.EXERCISE, Status.TEST, Status.SYSTEM})


def test_no_pairs_are_every_real_alert() -> None:
    assert parse_filter([]) == Filter()
    assert parse_filter([]).statuses == {Status.ACTUAL}


@pytest.mark.parametrize(
    "values", [["432032", "40"], ["43203,40"], ["432032 , 400009"], ["432032", "432032", "40000"]]
)
def test_areas_come_in_every_spelling_and_are_normalised(values: list[str]) -> None:
    assert parse_filter(("area", value) for value in values) == Filter(areas=frozenset({"432032", "40"}))


def test_positions_are_given_latitude_first_and_kept_longitude_first() -> None:
    wanted = parse_filter(
        [
            ("point", "32.21,130.76"),
            ("point", " 35.68, 139.75 "),
            ("point", "32.21,130.76"),
            ("polygon", "32.0,130.0 32.0,131.0  33.0,131.0"),
            ("bbox", "130.6,32.1,130.9,32.3"),
        ]
    )
    assert wanted.points == ((130.76, 32.21), (139.75, 35.68))
    assert wanted.polygon == ((130.0, 32.0), (131.0, 32.0), (131.0, 33.0), (130.0, 32.0))
    assert wanted.bbox == (130.6, 32.1, 130.9, 32.3)


def test_a_polygon_that_is_closed_already_stays_as_it_is() -> None:
    closed = parse_filter([("polygon", "32,130 32,131 33,131 32,130")])
    assert closed == parse_filter([("polygon", "32,130 32,131 33,131")])


def test_conditions_read_in_any_case() -> None:
    wanted = parse_filter(
        [
            ("min_severity", "severe"),
            ("min_level", "4"),
            ("level", "required"),
            ("category", "met,CBRNE"),
            ("category", "Safety"),
            ("event", "避難指示"),
            ("event", "大雨, 洪水"),
            ("sender", "a@b.example"),
        ]
    )
    assert wanted == Filter(
        min_severity=Severity.SEVERE,
        min_level=4,
        level_required=True,
        categories=frozenset({"Met", "CBRNE", "Safety"}),
        events=frozenset({"避難指示", "大雨, 洪水"}),
        senders=frozenset({"a@b.example"}),
    )


@pytest.mark.parametrize(
    ("values", "statuses"),
    [
        (["actual"], {Status.ACTUAL}),
        (["exercise"], {Status.EXERCISE}),
        (["Test"], {Status.TEST}),
        (["actual,exercise"], {Status.ACTUAL, Status.EXERCISE}),
        (["actual", "system"], {Status.ACTUAL, Status.SYSTEM}),
        (["all"], EVERY_STATUS),
    ],
)
def test_drills_are_heard_only_by_asking(values: list[str], statuses: set[Status]) -> None:
    assert parse_filter(("status", value) for value in values).statuses == statuses


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([("aera", "432032")], "did you mean area?"),
        ([("minlevel", "4")], "did you mean min_level?"),
        ([("xyzzy", "1")], "filters are area,"),
        ([("Area", "432032")], "did you mean area?"),
        ([("lang", "ja")], "lang: unknown parameter"),
        ([("area", "432033")], "area: 432033: the check digit of 43203 is 2"),
        ([("area", "432032,")], "area: '' is not a code"),
        ([("area", "人吉")], "area: '人吉' is not a code"),
        ([("area", "")], "area: is empty"),
        ([("event", "  ")], "event: is empty"),
        ([("area", ",".join(["432032"] * 501))], "area: holds 501 codes"),
        ([("point", "32.21")], "point: '32.21' must be lat,lon"),
        ([("point", "32.21,130.76,5")], "must be lat,lon"),
        ([("point", "130.76,32.21")], "latitude comes first: 32.21,130.76?"),
        ([("point", "95,130.76")], "is not on the globe"),
        ([("point", "32,181")], "is not on the globe"),
        ([("point", "nan,130")], "'nan' is not a number"),
        ([("point", "inf,130")], "'inf' is not a number"),
        ([("point", "3_2,130")], "'3_2' is not a number"),
        ([("point", "３２,130")], "is not a number"),
        ([("point", "32,13" + "0" * 400)], "is not a number"),
        ([("point", f"32,{n}") for n in range(101)], "point: stands 101 times"),
        ([("polygon", "32,130 33,131")], "polygon: needs at least three"),
        ([("polygon", "32,130 33,131 34,132")], "polygon: encloses nothing"),
        ([("polygon", "32,130 33,131 33,130 32,131")], "polygon: crosses or touches itself"),
        ([("polygon", "32,130 " * 1001)], "polygon: has 1001 corners"),
        ([("polygon", "32,130 32,131 33,131")] * 2, "polygon: stands twice"),
        ([("bbox", "130,32,131")], "bbox: '130,32,131' must be west,south,east,north"),
        ([("bbox", "131,32,130,33")], "with west < east"),
        ([("bbox", "130,33,131,32")], "south < north"),
        ([("bbox", "130,32,130,33")], "with west < east"),
        ([("bbox", "32,130,33,131")], "within -90 to 90"),
        ([("bbox", "130,32,131,33")] * 2, "bbox: stands twice"),
        ([("min_severity", "sever")], "did you mean Severe?"),
        ([("min_severity", "1")], "must be one of Extreme"),
        ([("min_level", "6")], "min_level: '6' must be a 警戒レベル from 1 to 5"),
        ([("min_level", "４")], "from 1 to 5"),
        ([("min_level", "4"), ("min_level", "5")], "min_level: stands twice"),
        ([("level", "4")], "for the level itself use min_level"),
        ([("category", "Meteo")], "did you mean Met?"),
        ([("category", "Met,")], "category: '' is unknown"),
        ([("status", "draft")], "a Draft is never sent out"),
        ([("status", "real")], "status: 'real' is unknown"),
        ([("event", "x" * 501)], "event: is longer than 500"),
        ([("sender", f"s{n}") for n in range(101)], "sender: stands 101 times"),
    ],
)
def test_what_does_not_read_is_named_with_its_remedy(pairs: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_filter(pairs)
    assert said in caught.value.detail
    assert caught.value.detail.startswith(pairs[0][0])
    assert len(caught.value.detail) < 400


@given(
    st.lists(
        st.tuples(st.sampled_from(["area", "point", "polygon", "bbox", "min_level", "status"]), st.text())
    )
)
@settings(deadline=None)
def test_any_text_is_a_filter_or_a_bad_request(pairs: list[tuple[str, str]]) -> None:
    with suppress(BadRequest):
        assert isinstance(parse_filter(pairs), Filter)


codes = st.one_of(
    st.integers(1, 47).map("{:02}".format),
    st.integers(1100, 47999)
    .map("{:05}".format)
    .filter(lambda code: int(code[2:]) >= 100)
    .map(lambda code: code + check_digit(code)),
)
longitudes, latitudes = st.floats(-180, 180), st.floats(-90, 90)
words = st.text(string.ascii_letters + "避難指示@.,- ", min_size=1, max_size=20).map(str.strip).filter(bool)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    west, east = sorted((draw(longitudes), draw(longitudes)))
    south, north = sorted((draw(latitudes), draw(latitudes)))
    return (west, south, east, north) if west < east and south < north else (0.0, 0.0, 1.0, 1.0)


filters = st.builds(
    Filter,
    areas=st.frozensets(codes, max_size=5),
    points=st.sets(st.tuples(longitudes, latitudes), max_size=4).map(lambda points: tuple(sorted(points))),
    polygon=st.none()
    | boxes()
    .filter(lambda box: box[2] - box[0] < 170 and min(box[2] - box[0], box[3] - box[1]) > 1e-3)
    .map(lambda b: ((b[0], b[1]), (b[2], b[1]), (b[2], b[3]), (b[0], b[1]))),
    bbox=st.none() | boxes(),
    min_severity=st.none() | st.sampled_from(Severity),
    min_level=st.none() | st.integers(1, 5),
    level_required=st.booleans(),
    categories=st.frozensets(st.sampled_from(CATEGORIES), max_size=3),
    events=st.frozensets(words, max_size=3),
    senders=st.frozensets(words, max_size=3),
    statuses=st.frozensets(st.sampled_from(sorted(EVERY_STATUS)), min_size=1),
)


@given(filters)
@settings(deadline=None)
def test_a_filter_written_and_read_again_is_the_same(wanted: Filter) -> None:
    assert parse_filter(filter_pairs(wanted)) == wanted


def test_the_default_status_is_not_written() -> None:
    assert filter_pairs(Filter()) == []
    assert filter_pairs(Filter(statuses=EVERY_STATUS)) == [("status", "all")]
