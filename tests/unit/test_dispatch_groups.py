"""Planning asks the index for whom an alert is, and misses nobody where the index cannot say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest

from lalert.dispatch.groups import FORGOTTEN_AT_ONCE, Groups
from lalert.dispatch.lanes import Lane, Mark
from lalert.matching import FilterIndex
from lalert.matching.columns import Numbers
from lalert.model import Entry, Filter, Origin, OriginKind, Status, Subscription
from lalert.testing import declared_facts, make_alert

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
HERE = Filter(areas=frozenset({"432032"}))
ELSEWHERE = Filter(areas=frozenset({"132209"}))
NO_PLACE = Filter(bbox=(1.0, float("nan"), 2.0, 2.0))


def lane(id: str, filter: Filter) -> Lane:
    return Lane(Subscription(id, "fake", f"https://{id}.example", filter, NOW), Mark((), ""), 1)


def entry(**about: Any) -> Entry:
    alert = make_alert(codes=["432032"], **about)
    return Entry("e-1", NOW, NOW, alert, Origin(OriginKind.HTTP), "i", declared_facts(alert))


def made(index: FilterIndex | None, *filters: Filter) -> Groups:
    groups = Groups(index)
    for number, filter in enumerate(filters):
        groups.join(lane(f"s{number}", filter))
    return groups


def test_who_wants_an_alert_is_found_and_nobody_else_is_asked() -> None:
    groups = made(FilterIndex(), HERE, ELSEWHERE, Filter())
    assert groups.candidates(entry(), ()) == {HERE: True, Filter(): True}


def test_without_an_index_everybody_is_asked() -> None:
    assert made(None, HERE, ELSEWHERE).candidates(entry(), ()) == {HERE: False, ELSEWHERE: False}


def test_a_filter_that_no_index_takes_is_asked_each_time_until_it_is_gone() -> None:
    groups = made(FilterIndex(), HERE, ELSEWHERE)
    odd = lane("odd", NO_PLACE)
    groups.join(odd)
    assert groups.candidates(entry(), ()) == {HERE: True, NO_PLACE: False}
    groups.leave(odd)
    assert groups.candidates(entry(), ()) == {HERE: True}


def test_a_filter_over_which_the_index_breaks_is_asked_each_time_for_all_who_have_it() -> None:
    class Broken(FilterIndex):
        def add(self, filter: Filter) -> NoReturn:
            raise ZeroDivisionError

    groups = made(Broken(), HERE, HERE)
    assert groups.candidates(entry(), ()) == {HERE: False}
    assert [lane.id for lane in groups.lanes(HERE)] == ["s0", "s1"]


def test_where_the_index_fails_everybody_is_asked() -> None:
    class Broken(FilterIndex):
        def match(self, entry: Entry, lineage: object = ()) -> NoReturn:
            raise ZeroDivisionError

    assert made(Broken(), HERE, ELSEWHERE).candidates(entry(), ()) == {HERE: False, ELSEWHERE: False}


def test_an_index_that_finds_too_much_sends_no_drill_to_whoever_did_not_ask() -> None:
    class Generous(FilterIndex):
        def match(self, entry: Entry, lineage: object = ()) -> Numbers:
            return super().match(
                Entry("e-1", NOW, NOW, make_alert(codes=["432032"]), entry.origin, "i", entry.facts)
            )

    drills = Filter(statuses=frozenset(Status))
    groups = made(Generous(), HERE, drills)
    assert groups.candidates(entry(status="Exercise"), ()) == {drills: True}


def test_equal_filters_stay_until_the_last_lane_has_left() -> None:
    index = FilterIndex()
    groups, lanes = Groups(index), [lane("a", HERE), lane("b", HERE)]
    for one in lanes:
        groups.join(one)
    groups.leave(lanes[0])
    groups.leave(lanes[0])
    assert groups.lanes(HERE) == [lanes[1]]
    assert groups.candidates(entry(), ()) == {HERE: True}
    groups.leave(lanes[1])
    assert not groups
    assert len(index) == 0


async def test_what_was_lost_is_out_at_once_and_forgotten_little_by_little() -> None:
    index = FilterIndex()
    groups = Groups(index)
    lanes = [lane(f"s{n}", Filter(points=((130 + n / 1000, 32),))) for n in range(FORGOTTEN_AT_ONCE + 10)]
    for one in lanes:
        groups.join(one)
        one.lost = True
    again = lane("again", lanes[0].subscription.filter)
    groups.leave_lost()
    assert not any(groups.lanes(one.subscription.filter) for one in lanes)
    groups.join(again)
    await groups.renew()
    assert len(index) == 11
    await groups.renew()
    assert len(index) == 1
    assert groups.lanes(again.subscription.filter) == [again]


@pytest.mark.parametrize("come", [100, 3_000])
async def test_the_index_is_made_anew_when_many_have_come(come: int) -> None:
    class Watched(FilterIndex):
        made = 0

        def renewal(self) -> Callable[[], Callable[[], None]] | None:
            make = super().renewal()
            self.made += make is not None
            return make

    index = Watched()
    groups = made(index, *(Filter(points=((130 + n / 10_000, 32),)) for n in range(come)))
    for _ in range(2):
        await groups.renew()
    assert index.made == (come > 2_048)
    assert not index.due
