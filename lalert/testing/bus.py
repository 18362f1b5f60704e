"""What every bus must do, as tests to inherit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final

from lalert.bus import Bus, Hints
from lalert.model import JST, Entry, Origin, OriginKind
from lalert.testing.alerts import declared_facts, make_alert

PATIENCE: Final = 10.0


class BusContract:
    """Inherit it in a test module (the class's name begins with Test), and let `open_bus` return your bus.

    The methods are coroutines: run them with a plug-in for asyncio tests. None of them waits longer than `PATIENCE` seconds.
    """

    def open_bus(self) -> AbstractAsyncContextManager[Bus]:
        """Return a context manager that gives a bus nobody listens to yet."""
        raise NotImplementedError

    async def test_every_listener_hears_every_entry_in_order(self) -> None:
        async with self.open_bus() as bus:
            first: list[Entry] = []
            second: list[Entry] = []
            bus.attach(first.append)
            bus.attach(second.append)
            entries = make_entries(50)
            for start in range(0, 50, 7):
                bus.publish(entries[start : start + 7])
            await eventually(lambda: len(first) == len(second) == 50)
            assert first == second == entries

    async def test_a_listener_hears_only_what_is_published_after_it_attached(self) -> None:
        async with self.open_bus() as bus:
            early: list[Entry] = []
            late: list[Entry] = []
            before, after = make_entries(2)
            bus.attach(early.append)
            bus.publish([before])
            await eventually(lambda: early == [before])
            bus.attach(late.append)
            bus.publish([after])
            await eventually(lambda: early == [before, after])
            assert late == [after]

    async def test_one_that_attaches_while_entries_are_told_hears_only_later_ones(self) -> None:
        async with self.open_bus() as bus:
            newcomer: list[Entry] = []
            attached: list[Callable[[], None]] = []

            def attach_another(_: Entry) -> None:
                if not attached:
                    attached.append(bus.attach(newcomer.append))

            bus.attach(attach_another)
            *told, later = make_entries(4)
            bus.publish(told)
            await eventually(lambda: bool(attached))
            bus.publish([later])
            await eventually(lambda: later in newcomer)
            assert newcomer == [later]

    async def test_who_detached_hears_nothing_more_and_may_detach_twice(self) -> None:
        async with self.open_bus() as bus:
            stays: list[Entry] = []
            leaves: list[Entry] = []
            bus.attach(stays.append)
            detach = bus.attach(leaves.append)
            first, second = make_entries(2)
            bus.publish([first])
            await eventually(lambda: leaves == [first])
            detach()
            detach()
            bus.publish([second])
            await eventually(lambda: stays == [first, second])
            assert leaves == [first]

    async def test_the_same_listener_attached_twice_hears_twice_until_each_is_detached(self) -> None:
        async with self.open_bus() as bus:
            heard: list[Entry] = []
            detach = bus.attach(heard.append)
            bus.attach(heard.append)
            first, second = make_entries(2)
            bus.publish([first])
            await eventually(lambda: heard == [first, first])
            detach()
            bus.publish([second])
            await eventually(lambda: heard == [first, first, second])

    async def test_a_listener_may_detach_another_while_it_is_told(self) -> None:
        async with self.open_bus() as bus:
            heard: list[Entry] = []
            ends: list[Entry] = []
            detach: list[Callable[[], None]] = []
            bus.attach(lambda _: detach[0]())
            detach.append(bus.attach(heard.append))
            bus.attach(ends.append)
            entries = make_entries(3)
            bus.publish(entries)
            await eventually(lambda: ends == entries)
            assert heard == []

    async def test_a_listener_that_fails_hurts_nobody_and_hears_on(self) -> None:
        async with self.open_bus() as bus:
            broken: list[Entry] = []
            sound: list[Entry] = []

            def fail(entry: Entry) -> None:
                broken.append(entry)
                raise RuntimeError("a listener's own fault")

            bus.attach(fail)
            bus.attach(sound.append)
            entries = make_entries(3)
            bus.publish(entries)
            await eventually(lambda: sound == entries)
            assert broken == entries

    async def test_what_a_listener_publishes_comes_after_what_is_being_told(self) -> None:
        async with self.open_bus() as bus:
            heard: list[Entry] = []
            *told, answer = make_entries(4)

            def publish_an_answer(entry: Entry) -> None:
                if entry == told[0]:
                    bus.publish([answer])

            bus.attach(publish_an_answer)
            bus.attach(heard.append)
            bus.publish(told)
            await eventually(lambda: len(heard) == 4)
            assert heard == [*told, answer]

    async def test_publishing_nothing_or_to_nobody_is_harmless(self) -> None:
        async with self.open_bus() as bus:
            bus.publish(make_entries(1))
            heard: list[Entry] = []
            bus.attach(heard.append)
            bus.publish([])
            [entry] = make_entries(1)
            bus.publish([entry])
            await eventually(lambda: bool(heard))
            assert heard == [entry]


class HintsContract:
    """Inherit it likewise, and let `open_hints` return yours."""

    def open_hints(self) -> AbstractAsyncContextManager[Hints]:
        """Return a context manager that gives hints nobody attends to yet."""
        raise NotImplementedError

    async def test_hints_reach_all_who_attend_whatever_one_of_them_does(self) -> None:
        async with self.open_hints() as hints:
            heard: list[tuple[str, str]] = []

            def fail(_kind: str, _subject: str) -> None:
                raise RuntimeError("a listener's own fault")

            detach = [hints.attend(fail), hints.attend(lambda kind, subject: heard.append((kind, subject)))]
            hints.hint("target", "s1")
            await eventually(lambda: heard == [("target", "s1")])
            for end in (*detach, *detach):
                end()
            later: list[str] = []
            hints.attend(lambda _, subject: later.append(subject))
            hints.hint("target", "s2")
            await eventually(lambda: later == ["s2"])
            assert len(heard) == 1


def make_entries(number: int) -> Sequence[Entry]:
    """Return entries with rising positions, as a store would have made them."""
    now = datetime.now(JST)
    origin = Origin(OriginKind.HTTP, "hitoyoshi")
    alerts = [make_alert() for _ in range(number)]
    return [
        Entry(f"0badcafe-{n}", now, now, alert, origin, alert.id, declared_facts(alert))
        for n, alert in enumerate(alerts, 1)
    ]


async def eventually(claim: Callable[[], bool]) -> None:
    """Wait until the claim holds; a bus of many processes needs a moment."""
    async with asyncio.timeout(PATIENCE):
        while not claim():  # noqa: ASYNC110  # any claim, not only one that an event could announce
            await asyncio.sleep(0.005)
