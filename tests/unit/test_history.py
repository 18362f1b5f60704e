"""The judge of the fault tests is judged first: each kind of broken promise, forged, is found and named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.system.history import Answer, History, Jump, Receiver, Stream, Told, check


def good() -> History:
    """Return a run in which every promise was kept: three alerts, one of them asked for twice, one without an answer."""
    log = [("e-1", "a"), ("e-2", "b"), ("e-3", "c")]
    return History(
        answers=[
            Answer("a", 201, "e-1"),
            Answer("b", None),
            Answer("b", 200, "e-2"),
            Answer("c", 503),
            Answer("refused", 422),
            Answer("unheard", None),
        ],
        streams=[
            Stream("early", "e-0", [Told(position, name) for position, name in log]),
            Stream("late", "e-2", [Told("e-3", "c")]),
            Stream("short", "e-0", [Told("e-1", "a")], end="e-1"),
            Stream("gapped", "e-0", [Told("e-1", "a"), Jump("e-2", frozenset("ab")), Told("e-3", "c")]),
            Stream("moved", "d-0", [Told("d-1", "gone"), Jump("e-2", frozenset("ab")), Told("e-3", "c")]),
        ],
        receivers=[Receiver("hook", "e-1", [("k3", "c"), ("k2", "b"), ("k3", "c")])],
        log=log,
    )


def test_a_run_in_which_all_was_kept_is_good() -> None:
    verdict = check(good())
    assert str(verdict) == "accepted 2 / lost 0 / duplicated 0"
    assert verdict.good
    assert verdict.repeated == 1


def lose(history: History) -> None:
    del history.log[0]


def store_twice(history: History) -> None:
    history.log.append(("e-4", "a"))


def accept_twice(history: History) -> None:
    history.answers.append(Answer("a", 201, "e-1"))


def make_up(history: History) -> None:
    history.log.append(("e-4", "nobody's"))


def keep_what_was_refused(history: History) -> None:
    history.log.append(("e-4", "refused"))


def move(history: History) -> None:
    history.answers.append(Answer("a", 200, "e-7"))


def list_out_of_order(history: History) -> None:
    history.log.reverse()


def list_two_epochs(history: History) -> None:
    history.log[0] = ("d-1", "a")


def skip(history: History) -> None:
    del history.streams[0].events[1]


def stop_early(history: History) -> None:
    del history.streams[1].events[-1]


def tell_twice(history: History) -> None:
    history.streams[0].events.append(Told("e-2", "b"))


def tell_late(history: History) -> None:
    events = history.streams[0].events
    events[0], events[1] = events[1], events[0]


def tell_before_the_start(history: History) -> None:
    history.streams[1].events.insert(0, Told("e-1", "a"))


def tell_another(history: History) -> None:
    history.streams[0].events[1] = Told("e-2", "c")


def tell_what_is_not_there(history: History) -> None:
    history.streams[0].events.append(Told("e-9", "ghost"))


def change_the_epoch_without_a_word(history: History) -> None:
    del history.streams[4].events[1]


def leave_out_of_the_snapshot(history: History) -> None:
    history.streams[3].events[1] = Jump("e-2", frozenset("a"))


def never_deliver(history: History) -> None:
    history.receivers[0].deliveries = [("k3", "c")]


def deliver_with_a_new_key(history: History) -> None:
    history.receivers[0].deliveries.append(("k9", "c"))


def deliver_two_with_one_key(history: History) -> None:
    history.receivers[0].deliveries[0] = ("k2", "c")


def deliver_what_is_not_kept(history: History) -> None:
    history.receivers[0].deliveries.append(("k8", "unheard"))


@pytest.mark.parametrize(
    ("forge", "kind", "named"),
    [
        (lose, "lost", "a: was accepted, and is not in the log"),
        (store_twice, "duplicated", "a: is in the log 2 times"),
        (accept_twice, "duplicated", "a: was accepted as new 2 times"),
        (make_up, "wrong", "nobody's: is in the log, and nobody sent it"),
        (keep_what_was_refused, "wrong", "refused: was refused with [422], and is in the log"),
        (move, "wrong", "a: was accepted at e-7, and stands at e-1"),
        (list_out_of_order, "wrong", "a: e-1 is listed after e-2"),
        (list_two_epochs, "wrong", "the log is listed in two epochs at once"),
        (skip, "lost", "early: was not told of b at e-2"),
        (stop_early, "lost", "late: was not told of c at e-3"),
        (tell_twice, "duplicated", "early: b at e-2: was told twice"),
        (tell_late, "wrong", "early: a at e-1: came after e-2"),
        (tell_before_the_start, "wrong", "late: a at e-1: came after e-2"),
        (tell_another, "wrong", "early: c at e-2: the log has b there"),
        (tell_what_is_not_there, "wrong", "early: ghost at e-9: the log has None there"),
        (
            change_the_epoch_without_a_word,
            "wrong",
            "moved: c at e-3: is of another epoch than d-1, and no gap was told",
        ),
        (leave_out_of_the_snapshot, "lost", "gapped: was not told of b at e-2"),
        (never_deliver, "lost", "hook: never got b at e-2"),
        (deliver_with_a_new_key, "duplicated", "hook: got c with 2 keys"),
        (deliver_two_with_one_key, "wrong", "hook: got b, c with one key k2"),
        (deliver_what_is_not_kept, "wrong", "hook: got unheard, which is not in the log"),
    ],
)
def test_a_forged_history_is_found_out(forge: Callable[[History], None], kind: str, named: str) -> None:
    history = good()
    forge(history)
    verdict = check(history)
    assert not verdict.good
    assert named in getattr(verdict, kind)
    assert named in str(verdict)
