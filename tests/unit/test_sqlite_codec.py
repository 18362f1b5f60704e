"""What goes into the embedded store comes out as it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lalert.errors import BadRequest, UnknownPosition
from lalert.model import Filter, Origin, OriginKind, Reading, Severity, Status
from lalert.store.sqlite import codec
from lalert.testing import make_alert

coordinates = st.tuples(st.floats(-180, 180), st.floats(-90, 90))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=zones)  # noqa: DTZ001  # hypothesis adds the zone
filters = st.builds(
    Filter,
    areas=st.frozensets(texts),
    points=st.lists(coordinates, max_size=5).map(tuple),
    polygon=st.none() | st.lists(coordinates, max_size=9).map(tuple),
    bbox=st.none() | st.tuples(*[st.floats(-180, 180)] * 4),
    min_severity=st.none() | st.sampled_from(Severity),
    min_level=st.none() | st.integers(1, 5),
    level_required=st.booleans(),
    categories=st.frozensets(texts),
    events=st.frozensets(texts),
    senders=st.frozensets(texts),
    statuses=st.frozensets(st.sampled_from(Status)),
)


@given(filters)
def test_a_filter_comes_back_equal_and_groups_with_its_like(filter: Filter) -> None:
    again = codec.decode_filter(codec.encode_filter(filter))
    assert codec.decode_filter(codec.encode_filter(filter)) is again, "one value for all who ask for the same"
    assert again == filter
    assert hash(again) == hash(filter)
    assert codec.encode_filter(again) == codec.encode_filter(filter)


@given(times)
def test_a_time_comes_back_to_the_microsecond(time: datetime) -> None:
    again = codec.moment(codec.micros(time))
    assert again == time
    assert again.utcoffset() == timedelta(0)


@given(times, st.floats(-10, 10) | st.none(), st.integers(0, 2**40) | st.none())
def test_a_reading_comes_back_with_the_devices_own_offset(
    time: datetime, level: float | None, seq: int | None
) -> None:
    reading = Reading("gauge", time, level_m=level, seq=seq)
    stored = codec.decode_reading((7, *codec.encode_reading("org", reading, time)))
    assert stored.reading == reading
    assert stored.reading.time.utcoffset() == time.utcoffset()
    assert (stored.number, stored.tenant, stored.received) == (7, "org", time)


@given(st.frozensets(st.text("0123456789", min_size=2, max_size=6)))
def test_codes_come_back(codes: frozenset[str]) -> None:
    assert codec.decode_codes(codec.encode_codes(codes)) == codes


@given(st.integers(0, 10**12))
def test_a_position_of_this_log_is_its_offset(offset: int) -> None:
    assert codec.offset_of(codec.position("0badcafe", offset), "0badcafe", offset) == offset
    with pytest.raises(UnknownPosition):
        codec.offset_of(codec.position("0badcafe", offset + 1), "0badcafe", offset)
    with pytest.raises(UnknownPosition):
        codec.offset_of(codec.position("0badcaff", offset), "0badcafe", offset)


@given(st.text(max_size=60))
def test_any_text_is_a_position_or_is_refused(text: str) -> None:
    with pytest.raises((BadRequest, UnknownPosition)):
        codec.offset_of(text, "nowhere", 10)


def test_a_position_has_one_spelling() -> None:
    with pytest.raises(BadRequest):
        codec.offset_of("0badcafe-007", "0badcafe", 10)


def test_a_long_text_that_is_no_position_is_not_repeated_whole() -> None:
    with pytest.raises(BadRequest) as caught:
        codec.offset_of("x" * 10_000, "0badcafe", 10)
    assert len(caught.value.detail) < 300


def test_times_before_1970_have_their_place() -> None:
    assert codec.micros(datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)) == -1


@pytest.mark.parametrize("signer", [None, "ab" * 32])
def test_an_origin_comes_back_with_the_certificate_that_signed(signer: str | None) -> None:
    alert = make_alert()
    origin = Origin(OriginKind.HTTP, "hitoyoshi", "key-1", "192.0.2.1", signer)
    about = codec.encode_about(alert, origin, alert.sent)
    assert codec.decode_about(about, alert).origin == origin
    # Records of before have no word on it.
    assert (b"signer" in about) is (signer is not None)
