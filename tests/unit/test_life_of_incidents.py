"""Which states count, asked of the store and of a model that looks at all messages at once and knows no order of arrival."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lalert.clock import SystemClock
from lalert.model import JST, Alert, MsgType, Origin, OriginKind
from lalert.store.sqlite import SqliteStore
from lalert.testing import declared_facts, make_alert, revive
from lalert.testing.alerts import timeless

TEN = datetime(2026, 6, 1, 10, 0, tzinfo=JST)
NOON = TEN + timedelta(hours=2)
ORIGIN = Origin(OriginKind.HTTP, "hitoyoshi")
STATES = (MsgType.ALERT, MsgType.UPDATE, MsgType.CANCEL)
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Many small files that need no disk."""


@dataclass(frozen=True)
class Said:
    """One message as it is drawn: `refers` are numbers of earlier ones, `second` is when it says that it was sent."""

    kind: MsgType
    second: int
    refers: tuple[int, ...] = ()
    salt: int = 0
    old: bool = False
    hours: int | None = None


@dataclass(frozen=True)
class Plan:
    """Messages, and two orders in which some of them arrive."""

    said: tuple[Said, ...]
    orders: tuple[tuple[int, ...], ...]

    def alerts(self) -> list[Alert]:
        alerts: list[Alert] = []
        for number, said in enumerate(self.said):
            references = [alerts[of] for of in said.refers]
            alerts.append(
                make_alert(
                    identifier=f"m-{said.salt}-{number}",
                    sent=TEN + timedelta(seconds=said.second),
                    msg_type=said.kind,
                    references=map(timeless, references) if said.old else references,
                    version="1.0" if said.old else "1.2",
                    response=() if said.old else "Evacuate",
                    expires=None if said.hours is None else TEN + timedelta(hours=said.hours),
                    note="x",
                )
            )
        return alerts


@st.composite
def plans(draw: st.DrawFn, *, honest: bool = False) -> Plan:
    """Draw a history: messages refer to earlier ones, some never come, some share a second; unless they are `honest`, clocks are wrong."""
    said: list[Said] = []
    for number in range(draw(st.integers(2, 8))):
        kind = draw(st.sampled_from(MsgType)) if number else MsgType.ALERT
        refers: tuple[int, ...] = ()
        if kind is not MsgType.ALERT:
            refers = tuple(draw(st.lists(st.integers(0, number - 1), min_size=1, max_size=3, unique=True)))
        second = number if honest else draw(st.integers(0, 12))
        salt, old = draw(st.integers(0, 99)), draw(st.integers(0, 3)) == 3
        said.append(Said(kind, second, refers, salt, old, draw(st.sampled_from([None, 1, 3]))))
    coming = sorted(draw(st.sets(st.integers(0, len(said) - 1), min_size=1)))
    orders = tuple(tuple(draw(st.permutations(coming))) for _ in range(2))
    return Plan(tuple(said), orders)


Name = tuple[str, ...]


def in_force_by_model(alerts: Sequence[Alert]) -> set[str]:
    """Say what is in force once all these have come. Identifiers are unique here, so they stand for messages."""
    here: dict[Name, Alert] = {(alert.identifier,): alert for alert in alerts}

    def referred(alert: Alert) -> list[Name]:
        known = [(reference.identifier,) for reference in alert.references]
        # Of one that is not there, nobody can tell whether a reference without a time and one with a time mean the same.
        return [
            name if name in here else (*name, reference.sent)
            for name, reference in zip(known, alert.references, strict=True)
        ]

    def chains(name: Name) -> set[Name]:
        before = referred(here[name]) if name in here else []
        return set().union(*(chains(one) for one in before)) if before else {name}

    def rank(name: Name) -> tuple[datetime, datetime, str]:
        alert = here[name]
        least = [rank(one)[0] + timedelta(microseconds=1) for one in referred(alert) if one in here]
        return max([alert.sent, *least]), alert.sent, alert.id

    newest: dict[Name, Name] = {}
    for name, alert in here.items():
        if alert.msg_type in STATES:
            for chain in chains(name):
                newest[chain] = max(newest.get(chain, name), name, key=rank)
    heads = [here[name] for name in newest.values()]
    return {
        head.id
        for head in heads
        if head.msg_type is not MsgType.CANCEL and (head.expires is None or head.expires > NOON)
    }


async def arrive(alerts: Sequence[Alert], *, reopen: bool) -> tuple[set[str], set[str]]:
    """Let them arrive in this order; returns what is in force, and what is on the screen of somebody who followed the stream."""
    in_force: set[str] = set()
    screen: set[str] = set()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "hub.db"
        for part in (alerts[: len(alerts) // 2], alerts[len(alerts) // 2 :]) if reopen else (alerts,):
            async with SqliteStore(
                path, revive=revive, on_append=lambda _: None, clock=SystemClock()
            ) as store:
                for alert in part:
                    appended = await store.append(alert, ORIGIN, NOON, declared_facts(alert), frozenset())
                    entry = appended.entry
                    screen.difference_update(entry.replaced)
                    shown = alert.msg_type in (MsgType.ALERT, MsgType.UPDATE) and not entry.outdated
                    if shown and not (alert.expires is not None and alert.expires <= NOON):
                        screen.add(alert.id)
                in_force = {entry.alert.id for entry in await store.active(NOON)}
    return in_force, screen


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(plans(), st.booleans())
def test_no_order_of_arrival_changes_what_is_in_force(plan: Plan, reopen: bool) -> None:
    alerts = plan.alerts()
    model = in_force_by_model([alerts[n] for n in plan.orders[0]])
    for order in plan.orders:
        in_force, _ = asyncio.run(arrive([alerts[n] for n in order], reopen=reopen))
        assert in_force == model


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(plans(honest=True))
def test_who_only_follows_the_stream_shows_what_is_in_force(plan: Plan) -> None:
    alerts = plan.alerts()
    for order in plan.orders:
        in_force, screen = asyncio.run(arrive([alerts[n] for n in order], reopen=False))
        assert screen == in_force
