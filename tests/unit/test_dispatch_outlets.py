"""The room of a channel: who is next among its targets, and who has to wait for whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import ClassVar

from lalert.dispatch.lanes import Lane, Mark, Planned, delivery_key
from lalert.dispatch.outlets import Flight, Outlet
from lalert.model import Delivery, Filter, Outcome, Subscription
from lalert.plugin import Limits

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Eight:
    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(in_flight=8)

    def check_subscription(self, subscription: Subscription) -> Subscription:
        return subscription

    async def deliver(self, delivery: Delivery) -> Outcome:
        raise AssertionError("nothing is sent here")


def planned(number: int, *, rank: int = 3, actual: bool = True) -> Planned:
    return Planned(
        position=f"e-{number}",
        order=(number,),
        before=Mark((number - 1,), f"e-{number - 1}"),
        alert_id=f"a{number}",
        incident=f"i{number}",
        actual=actual,
        supersedes=frozenset(),
        outdated=False,
        urgency=(not actual, -rank, (-number,)),
        stored=NOON,
        expires=None,
        deadline=NOON + timedelta(days=1),
    )


def target(outlet: Outlet, name: str, *waiting: Planned, fails: bool = False) -> Lane:
    """A lane with something to send; one that `fails` is down, and due again."""
    lane = Lane(Subscription(name, "fake", f"https://{name}.example", Filter(), NOON), Mark((0,), "e-0"), 1)
    outlet.lanes[name] = lane
    for item in waiting:
        lane.add(item)
    if fails:
        lane.take_off(waiting[0])
        lane.failed(waiting[0], -1_000.0, lambda: 0.0)
    outlet.place(lane, 0.0)
    return lane


def launch(outlet: Outlet) -> list[Flight]:
    """Send as much as there is room for."""
    started = []
    while (found := outlet.take(0.0)) is not None:
        lane, item = found
        flight = Flight(lane, item, delivery_key(lane.id, item.alert_id), lane.doubtful)
        outlet.launch(flight)
        outlet.place(lane, 0.0)
        started.append(flight)
    return started


def names(flights: list[Flight]) -> list[str]:
    return [flight.lane.id for flight in flights]


def test_the_most_urgent_of_all_targets_goes_first() -> None:
    outlet = Outlet("fake", Eight())
    target(outlet, "drill", planned(4, actual=False))
    target(outlet, "old", planned(1))
    target(outlet, "new", planned(2))
    target(outlet, "grave", planned(1, rank=4))
    assert names(launch(outlet)) == ["grave", "new", "old", "drill"]


def test_no_more_are_under_way_than_the_channel_bears() -> None:
    outlet = Outlet("fake", Eight())
    for n in range(20):
        target(outlet, f"s{n}", planned(1))
    assert len(launch(outlet)) == 8
    assert launch(outlet) == []


def test_targets_that_fail_never_have_more_than_a_quarter_of_the_room() -> None:
    outlet = Outlet("fake", Eight())
    for n in range(20):
        target(outlet, f"dead{n}", planned(1), fails=True)
    assert len(launch(outlet)) == 2
    for n in range(20):
        target(outlet, f"s{n}", planned(1))
    assert len([name for name in names(launch(outlet)) if name.startswith("s")]) == 6


def test_a_full_channel_still_looks_whether_a_failed_target_is_back() -> None:
    outlet = Outlet("fake", Eight())
    for n in range(20):
        target(outlet, f"s{n:02}", planned(1))
    flights = launch(outlet)
    target(outlet, "failed", planned(2), fails=True)
    assert launch(outlet) == []
    outlet.land(flights[0])
    assert names(launch(outlet)) == ["failed"]


def test_a_drill_makes_room_for_a_real_alert_one_at_a_time_and_never_the_other_way_round() -> None:
    outlet = Outlet("fake", Eight())
    for n in range(8):
        target(outlet, f"drill{n}", planned(1, actual=False))
    launch(outlet)
    target(outlet, "another-drill", planned(2, actual=False))
    assert outlet.drill_in_the_way() is None
    target(outlet, "real", planned(3))
    drill = outlet.drill_in_the_way()
    assert drill is not None
    drill.call_off()
    assert outlet.drill_in_the_way() is None, "one is making room already"
    outlet.land(drill)
    drill.lane.put_back(drill.planned)
    outlet.place(drill.lane, 0.0)
    assert names(launch(outlet)) == ["real"]
    assert outlet.drill_in_the_way() is None


def test_a_target_that_has_nothing_to_send_stands_nowhere() -> None:
    outlet = Outlet("fake", Eight())
    lane = target(outlet, "s", planned(1))
    assert outlet.busy == {"s": lane}
    lane.remove(lane.waiting[0])
    outlet.place(lane, 0.0)
    assert (outlet.busy, outlet.take(0.0), outlet.wakes_at()) == ({}, None, None)


def test_a_target_that_pauses_wakes_by_itself() -> None:
    outlet = Outlet("fake", Eight())
    lane = target(outlet, "s", planned(1))
    lane.take_off(lane.waiting[0])
    lane.failed(lane.waiting[0], 0.0, lambda: 0.0)
    outlet.place(lane, 0.0)
    assert outlet.wakes_at() == 1.0
    assert outlet.take(0.9) is None
    assert outlet.take(1.0) == (lane, lane.waiting[0])
