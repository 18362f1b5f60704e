"""The pure decisions of a lane: what comes next, what is dropped, when the target is let rest, and how far the cursor may go."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from lalert.dispatch.lanes import Lane, Mark, Planned, Tries, delivery_key
from lalert.model import SEVERITY_RANK, Filter, Severity, Subscription

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def half() -> float:
    return 0.5


def planned(
    number: int,
    *,
    incident: str = "",
    severity: Severity = Severity.SEVERE,
    actual: bool = True,
    replaces: Sequence[int] = (),
    outdated: bool = False,
    expires: datetime | None = NOON + HOUR,
) -> Planned:
    """The `number`-th entry of a log; alert ids are a1, a2, ..."""
    return Planned(
        position=f"e-{number}",
        order=(number,),
        before=Mark((number - 1,), f"e-{number - 1}"),
        alert_id=f"a{number}",
        incident=incident or f"i{number}",
        actual=actual,
        supersedes=frozenset(f"a{n}" for n in replaces),
        outdated=outdated,
        urgency=(not actual, -SEVERITY_RANK[severity], (-number,)),
        stored=NOON,
        expires=expires,
        deadline=expires or NOON + 24 * HOUR,
    )


def lane(*waiting: Planned, per_target: int = 1) -> Lane:
    made = Lane(
        Subscription("s", "webhook", "https://x.example", Filter(), NOON), Mark((0,), "e-0"), per_target
    )
    for item in waiting:
        made.add(item)
    return made


def deliver_all(target: Lane, now: float = 0.0) -> list[str]:
    sent = []
    while (item := target.choose(now)) is not None:
        target.take_off(item)
        target.answered(item)
        sent.append(item.alert_id)
    return sent


def test_a_key_is_made_from_the_subscription_and_the_alert_alone() -> None:
    digest = hashlib.sha256(b"sub\x00alert").digest()[:20]
    assert delivery_key("sub", "alert") == base64.b32encode(digest).decode().lower()


def test_real_alerts_go_before_drills_then_the_gravest_then_the_newest() -> None:
    target = lane(
        planned(1, actual=False, severity=Severity.EXTREME),
        planned(2, severity=Severity.MINOR),
        planned(3, severity=Severity.SEVERE),
        planned(4, severity=Severity.SEVERE),
        planned(5, severity=Severity.UNKNOWN),
        planned(6, actual=False, severity=Severity.MINOR),
    )
    assert deliver_all(target) == ["a4", "a3", "a2", "a5", "a1", "a6"]


def test_within_an_incident_the_order_of_the_log_wins_over_severity() -> None:
    target = lane(
        planned(1, incident="i", severity=Severity.MINOR),
        planned(2, incident="i", severity=Severity.EXTREME),
        planned(3, severity=Severity.MODERATE),
    )
    assert deliver_all(target) == ["a3", "a1", "a2"]


def test_the_next_revision_waits_until_the_one_under_way_is_settled() -> None:
    target = lane(planned(1, incident="i"), per_target=4)
    first = target.choose(0.0)
    assert first is not None
    target.take_off(first)
    update = planned(2, incident="i", replaces=[1])
    assert target.replaced_by(update) == [], "what is under way is left to finish"
    target.add(update)
    assert target.choose(0.0) is None
    target.answered(first)
    assert target.choose(0.0) is update


def test_a_revision_that_joins_two_incidents_does_not_overtake_what_it_replaces_in_the_other() -> None:
    target = lane(planned(1, incident="x"), per_target=4)
    first = target.choose(0.0)
    assert first is not None
    target.take_off(first)
    target.add(planned(2, incident="y", replaces=[1]))
    assert target.choose(0.0) is None


def test_an_update_replaces_what_it_refers_to_and_nothing_else() -> None:
    target = lane(planned(1, incident="i"), planned(2, incident="i"), planned(3))
    assert [p.alert_id for p in target.replaced_by(planned(4, incident="i", replaces=[1, 3]))] == ["a1", "a3"]


def test_a_drill_never_replaces_a_real_alert_nor_holds_up_its_update() -> None:
    target = lane(planned(1, incident="i"))
    drill = planned(2, incident="i", actual=False, replaces=[1])
    assert target.replaced_by(drill) == []
    assert not target.superseded(planned(1, incident="i"))
    target = lane(drill, planned(3, incident="i"))
    assert deliver_all(target)[0] == "a3"


def test_a_drill_under_way_makes_way_for_a_real_alert() -> None:
    drill, real = planned(1, actual=False), planned(2, severity=Severity.MINOR)
    target = lane(drill)
    target.take_off(drill)
    assert target.must_yield(0.0) is None
    target.add(real)
    assert target.must_yield(0.0) is drill
    target.put_back(drill)
    assert target.choose(0.0) is real


def test_a_drill_does_not_make_way_for_what_is_not_due() -> None:
    real, drill = planned(1), planned(2, actual=False)
    target = lane(real, drill)
    target.take_off(real)
    target.failed(real, 0.0, half)
    assert target.choose(0.0) is drill, "the second opinion"
    target.take_off(drill)
    assert target.must_yield(100.0) is None, "or the two would throw each other out for ever"


def test_one_target_is_asked_one_thing_at_a_time() -> None:
    target = lane(planned(1), planned(2))
    first = target.choose(0.0)
    assert first is not None
    target.take_off(first)
    assert target.choose(0.0) is None
    assert target.wakes_at() is None


def test_a_result_that_is_not_durable_holds_the_lane() -> None:
    target = lane(planned(1))
    target.held = 1
    assert target.choose(0.0) is None
    target.held = 0
    assert target.choose(0.0) is not None


def fail(target: Lane, now: float, asked: float = 0.0, took: float = 0.0) -> str:
    item = target.choose(now)
    assert item is not None
    target.take_off(item)
    target.failed(item, now, half, asked=asked, took=took)
    return item.alert_id


def test_a_dead_target_is_probed_on_schedule_with_the_most_urgent_alert() -> None:
    target = lane(planned(1))
    at, times = 0.0, []
    for _ in range(10):
        assert fail(target, at) == "a1"
        times.append(at)
        wake = target.wakes_at()
        assert wake is not None
        assert target.choose(wake - 0.001) is None
        at = wake
    assert times == [0, 1, 2, 5, 10, 20, 30, 60, 114, 168]


def test_after_a_failure_another_delivery_is_tried_before_the_target_is_called_dead() -> None:
    target = lane(planned(1, severity=Severity.EXTREME), planned(2), planned(3))
    assert fail(target, 0.0) == "a1"
    assert target.suspect == "e-1"
    assert fail(target, 0.0) == "a3"
    assert target.down
    assert target.choose(0.5) is None
    assert fail(target, 1.0) == "a1", "the most urgent first, each round"
    assert fail(target, 1.0) == "a2", "and as a second opinion whoever was tried least"


def test_a_target_that_hangs_is_seldom_asked_for_anything_but_the_most_urgent() -> None:
    target = lane(planned(1, severity=Severity.EXTREME), planned(2))
    now, sent = 0.0, []
    for _ in range(14):
        sent.append(fail(target, now, took=15.0))
        now = max(now, target.wakes_at() or 0.0)
    assert sent == ["a1", "a2", *["a1"] * 3, "a2", *["a1"] * 4, "a2", *["a1"] * 3]


def test_an_alert_that_its_target_cannot_digest_holds_up_no_other() -> None:
    target = lane(planned(1, severity=Severity.EXTREME), planned(2), planned(3), planned(4))
    assert fail(target, 0.0) == "a1"
    assert deliver_all(target, 0.0) == ["a4", "a3", "a2"]
    assert target.choose(0.9) is None
    assert fail(target, 1.0) == "a1"


def test_a_target_that_returns_gets_everything_at_once_in_order() -> None:
    target = lane(planned(1, severity=Severity.EXTREME), planned(2), planned(3, severity=Severity.MINOR))
    now = 0.0
    for _ in range(20):
        fail(target, now)
        now = max(now, target.wakes_at() or 0.0)
    assert target.suspect is None
    for tries in target.tries.values():
        tries.due = now + 30
    assert deliver_all(target, now) == ["a1", "a2", "a3"], (
        "what failed while it was down waits for no time of its own"
    )


def test_what_was_found_at_fault_waits_even_when_the_target_returns() -> None:
    target = lane(planned(1, severity=Severity.EXTREME), planned(2))
    fail(target, 0.0)
    fail(target, 0.0)
    assert fail(target, 1.0) == "a1"
    assert deliver_all(target, 1.0) == ["a2"]


def test_a_new_alert_for_a_dead_target_starts_the_dense_minute_afresh() -> None:
    target = lane(planned(1))
    now = 0.0
    for _ in range(12):
        fail(target, now)
        now = target.wakes_at() or 0.0
    target.add(planned(2, severity=Severity.MINOR))
    waited = now - 50.0
    assert target.choose(waited) is not None, "its first attempt is at once"


def test_peace_that_the_peer_asked_for_is_kept_even_when_something_new_arrives() -> None:
    target = lane(planned(1))
    fail(target, 0.0, asked=30.0)
    target.add(planned(2, severity=Severity.EXTREME))
    assert target.choose(29.9) is None
    assert target.choose(30.0) is not None


def test_what_is_overdue_is_named_and_what_is_under_way_is_not() -> None:
    soon, later = planned(1, expires=NOON), planned(2, expires=NOON + HOUR)
    target = lane(soon, later)
    assert target.overdue(NOON) == [soon]
    target.take_off(soon)
    assert target.overdue(NOON) == []


def test_what_a_person_asked_for_again_outlives_its_expiry() -> None:
    target = lane()
    target.add(planned(1, expires=NOON), Tries(3, recorded=True, until=NOON + HOUR))
    assert target.overdue(NOON + HOUR / 2) == []
    assert len(target.overdue(NOON + HOUR)) == 1


def test_the_cursor_stops_before_the_first_that_is_neither_settled_nor_in_a_row() -> None:
    first, second = planned(3), planned(7)
    target = lane(first, second)
    assert target.blocker() is first
    assert target.blocker({"e-3"}) is second
    target.tries["e-3"] = Tries(1, recorded=True)
    assert target.blocker() is second
    target.remove(second)
    assert target.blocker() is None


def test_the_cursor_does_not_pass_what_is_under_way() -> None:
    target = lane(planned(3))
    target.take_off(target.waiting[0])
    assert target.blocker() is target.waiting[0]


CHAINS = ("x", "y", "z")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_happens_order_holds_nothing_is_lost_and_every_lane_comes_to_rest(
    data: st.DataObject,
) -> None:
    """A target that fails at random, alerts that update each other at random, one thing at a time or three."""
    target = lane(per_target=data.draw(st.sampled_from([1, 3])))
    now, number = 0.0, 0
    delivered: list[Planned] = []
    dropped: list[Planned] = []
    for _ in range(data.draw(st.integers(1, 40))):
        step = data.draw(st.sampled_from(["arrive", "send", "ok", "fail", "wait"]))
        if step == "arrive":
            number += 1
            chain = data.draw(st.sampled_from(CHAINS))
            actual = data.draw(st.booleans())
            known = [p for p in [*target.waiting, *delivered, *dropped] if p.incident == chain]
            replaces = [p.order[0] for p in data.draw(st.sets(st.sampled_from(known)))] if known else []
            new = planned(
                number,
                incident=chain,
                actual=actual,
                replaces=replaces,
                severity=data.draw(st.sampled_from(Severity)),
            )
            for old in target.replaced_by(new):
                target.remove(old)
                dropped.append(old)
            target.add(new)
        elif step == "send" and (item := target.choose(now)) is not None:
            _check_choice(target, item, delivered)
            target.take_off(item)
        elif step in ("ok", "fail") and target.flying:
            item = data.draw(st.sampled_from(target.flying))
            if step == "ok":
                target.answered(item)
                delivered.append(item)
            else:
                asked, took = (
                    data.draw(st.sampled_from([0.0, 0.0, 20.0])),
                    data.draw(st.sampled_from([0.0, 15.0])),
                )
                target.failed(item, now, half, asked=asked, took=took)
                if target.superseded(item):
                    target.remove(item)
                    dropped.append(item)
        elif step == "wait":
            now += data.draw(st.floats(0, 90))
        assert len(target.flying) <= target.per_target
        blocker = target.blocker()
        assert blocker is (target.waiting[0] if target.waiting else None), (
            "the cursor passed what is still owed"
        )
        assert target.waiting == sorted(target.waiting, key=lambda w: w.order)
    for item in list(target.flying):
        target.answered(item)
        delivered.append(item)
    while target.waiting:
        wake = target.wakes_at()
        assert wake is not None, "something waits and nothing will ever wake the lane"
        now = max(now, wake)
        nxt = target.choose(now)
        assert nxt is not None, "the lane said it had something by now"
        _check_choice(target, nxt, delivered)
        target.take_off(nxt)
        target.answered(nxt)
        delivered.append(nxt)
    assert {p.order[0] for p in delivered} | {p.order[0] for p in dropped} == set(range(1, number + 1))
    assert target.blocker() is None
    for item in dropped:
        assert any(item.alert_id in p.supersedes and p.actual == item.actual for p in [*delivered, *dropped])


def _check_choice(target: Lane, chosen: Planned, delivered: list[Planned]) -> None:
    for other in target.waiting:
        if (other.incident, other.actual) == (chosen.incident, chosen.actual):
            assert other.order >= chosen.order, "an earlier revision waits"
    assert chosen not in target.flying
    for earlier in delivered:
        assert chosen.alert_id not in earlier.supersedes or earlier.actual != chosen.actual, (
            "sent after what replaces it"
        )


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=60), st.integers(1, 3))
def test_what_a_lane_remembers_to_be_next_is_what_it_would_find_anew(
    steps: list[tuple[int, int]], per_target: int
) -> None:
    target = lane(per_target=per_target)
    now = 0.0
    for what, number in steps:
        waiting = [w for w in target.waiting if w not in target.flying]
        if what <= 1 and target.find((number,)) is None:
            own = f"a{number}" if number % 3 else f"a{number // 2}"
            target.add(
                planned(number, severity=list(Severity)[number % 5], incident=own, actual=number % 5 > 0)
            )
        elif what == 2 and waiting:
            target.remove(waiting[number % len(waiting)])
        elif what == 3 and (chosen := target.choose(now)) is not None:
            target.take_off(chosen)
        elif what == 4 and target.flying:
            target.answered(target.flying[number % len(target.flying)])
        elif what == 5 and target.flying:
            target.failed(target.flying[number % len(target.flying)], now, lambda: 0.0)
        now += number
        known = target.choose(now)
        target._choice = None
        assert target.choose(now) == known
