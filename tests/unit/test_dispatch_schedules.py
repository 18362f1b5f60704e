"""Durable delivery under random schedules on one node: floods planned side by side, far ends that fail, filters that change, restarts and crashes at any moment."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest

from lalert.bus.local import LocalBus, LocalLeases
from lalert.clock import SystemClock
from lalert.dispatch import Dispatcher, DispatchSettings
from lalert.dispatch.planning import Pace
from lalert.errors import TemporaryFailure, Unavailable
from lalert.matching import FilterIndex, wants
from lalert.model import Delivery, Entry, Filter, Origin, OriginKind, Outcome, Status, Subscription
from lalert.plugin import Limits
from lalert.store.sqlite import SqliteStore
from lalert.testing import declared_facts, make_alert, revive

ORIGIN = Origin(OriginKind.HTTP, tenant="hitoyoshi")
PLACES = ("432032", "131016", "011002")
EVERY = frozenset(Status)
PATIENCE = 20.0


class Quick(SystemClock):
    """Pauses of the schedule are short, so that what failed is tried again within the test."""

    def monotonic(self) -> float:
        return super().monotonic() * 50

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 50)


class FarEnd:
    """Takes, fails or dawdles, as the dice say; one that fails may have taken it all the same."""

    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(per_target=1, in_flight=8, timeout=60.0)

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.taken: list[tuple[int, str, str]] = []
        """In which life of the hub, by whom, and what."""
        self.life = 0
        self.failing = 0.1

    def check_subscription(self, subscription: Subscription) -> Subscription:
        return subscription

    async def deliver(self, delivery: Delivery) -> Outcome:
        await asyncio.sleep(self.dice.choice([0, 0, 0.002]))
        if self.dice.random() < self.failing:
            raise TemporaryFailure("not now")
        self.taken.append((self.life, delivery.subscription.id, delivery.entry.alert.identifier))
        return Outcome()


class Mortal:
    """The store of a hub that may be killed: then nothing more is written."""

    def __init__(self, store: SqliteStore, dice: Random) -> None:
        self.store, self.dice, self.dead = store, dice, False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.store, name)
        return self._written(found) if name in ("record", "put", "delete", "drop_subscription") else found

    def _written(self, write: Callable[..., Any]) -> Callable[..., Any]:
        async def guarded(*arguments: Any) -> Any:
            if self.dead:
                raise Unavailable("killed")
            await asyncio.sleep(self.dice.choice([0, 0, 0.003]))
            if self.dead:
                raise Unavailable("killed")
            return await write(*arguments)

        return guarded


@dataclass
class Schedule:
    """One run: a hub that lives several times on one file, and what everybody is owed."""

    path: Path
    dice: Random
    settings: DispatchSettings
    far: FarEnd = field(init=False)
    log: list[Entry] = field(default_factory=list)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    owed: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    crashes: int = 0

    def __post_init__(self) -> None:
        self.far = FarEnd(self.dice)

    async def live(self, acts: int, *, crash: bool, last: bool = False) -> None:
        bus = LocalBus()
        async with SqliteStore(self.path, revive=revive, on_append=bus.publish, clock=SystemClock()) as store:
            mortal = Mortal(store, self.dice)
            dispatcher = Dispatcher(
                mortal,
                bus,
                {"far": self.far},
                leases=LocalLeases(),
                wants=wants,
                index=FilterIndex,
                clock=Quick(),
                settings=self.settings,
                random=self.dice.random,
            )
            async with dispatcher:
                while len(self.subscriptions) < 20:
                    await self._join(dispatcher)
                for _ in range(acts):
                    await self._act(store, dispatcher)
                    for _ in range(self.dice.randrange(12)):
                        await asyncio.sleep(0)
                if last:
                    self.far.failing = 0.0
                    await self._settled(dispatcher)
                mortal.dead = crash
                self.crashes += crash
            self.far.life += 1

    async def _act(self, store: SqliteStore, dispatcher: Dispatcher) -> None:
        act = self.dice.choices(["alert", "join", "change", "tidy", "rest"], [8, 3, 3, 2, 3])[0]
        if act == "alert":
            await self._alert(store)
        elif act == "join":
            for _ in range(self.dice.choice([1, 15])):
                await self._join(dispatcher)
        elif act == "change" and self.subscriptions:
            one = self.subscriptions[self.dice.choice(sorted(self.subscriptions))]
            # Wider: what it was owed it still is.
            filter = replace(one.filter, areas=frozenset() if self.dice.random() < 0.5 else frozenset(PLACES))
            if filter != one.filter:
                await dispatcher.subscribe(replace(one, filter=filter))
                self.subscriptions[one.id] = replace(one, filter=filter)
        elif act == "tidy":
            with suppress(Unavailable):
                await dispatcher._tidy()
        else:
            await asyncio.sleep(0.01)

    async def _join(self, dispatcher: Dispatcher) -> None:
        areas = frozenset({self.dice.choice(PLACES)}) if self.dice.random() < 0.7 else frozenset[str]()
        filter = Filter(areas=areas, statuses=EVERY)
        number = len(self.subscriptions)
        one = Subscription(f"s{number:03}", "far", f"https://far.example/{number}", filter, datetime.now(UTC))
        await dispatcher.subscribe(one)
        self.subscriptions[one.id] = one

    async def _alert(self, store: SqliteStore) -> None:
        status = self.dice.choice(["Actual", "Actual", "Exercise"])
        same = [e for e in self.log if e.alert.status.value == status]
        kind = self.dice.choice(["Alert", "Alert", "Update", "Cancel"]) if same else "Alert"
        about = [self.dice.choice(same[-4:])] if kind != "Alert" else []
        alert = make_alert(
            identifier=f"a{len(self.log):03}",
            sent=datetime.now(UTC) - timedelta(hours=1) + timedelta(seconds=len(self.log)),
            status=status,
            msg_type=kind,
            severity=self.dice.choice(["Minor", "Severe", "Extreme"]),
            codes=[self.dice.choice(PLACES)],
            references=about,
        )
        facts = declared_facts(alert)
        entry = (await store.append(alert, ORIGIN, datetime.now(UTC), facts, frozenset())).entry
        lineage = await store.lineage(entry)
        self.log.append(entry)
        for one in self.subscriptions.values():
            if wants(one.filter, entry, lineage):
                self.owed[one.id].add(alert.identifier)

    async def _settled(self, dispatcher: Dispatcher) -> None:
        async with asyncio.timeout(PATIENCE):
            quiet = 0
            while quiet < 5:
                stats = dispatcher.stats()
                busy = stats["waiting"] or stats["in_flight"] or stats["unrecorded"] or not stats["caught_up"]
                busy = busy or dispatcher._real.busy or dispatcher._drills.busy
                quiet = 0 if busy else quiet + 1
                await asyncio.sleep(0.005)

    def check(self) -> None:
        number = {entry.alert.identifier: n for n, entry in enumerate(self.log)}
        incident = {e.alert.identifier: (e.incident, e.alert.status is Status.ACTUAL) for e in self.log}
        names = {entry.alert.id: entry.alert.identifier for entry in self.log}
        over = {e.alert.identifier for e in self.log if e.outdated}
        for entry in self.log:
            over |= {names[id] for id in entry.replaced}
            over |= {names[ref.id] for ref in entry.alert.references}
        for id, owed in self.owed.items():
            told = [(life, name) for life, by, name in self.far.taken if by == id]
            missing = owed - {name for _, name in told} - over
            assert not missing, f"{id} was never told of {missing}"
            assert len(told) - len({name for _, name in told}) <= self.crashes, (
                f"{id}, {self.crashes} crashes: {told}"
            )
            for life in {life for life, _ in told}:
                here = [name for when, name in told if when == life]
                assert len(here) == len(set(here)), f"{id} was told twice in one life: {here}"
                for chain in set(incident.values()):
                    order = [number[name] for name in here if incident[name] == chain]
                    assert order == sorted(order), f"{id}: an incident out of order: {here}"


async def run(path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> Schedule:
    dice = Random(seed)
    monkeypatch.setattr("lalert.dispatch.planning.TURN", dice.choice([2, 5, 50]))
    rest = Pace.rest

    async def long_rest(self: Pace, patience: int = 0) -> None:
        # As beside a busy loop: several alerts are being planned at any time.
        if self.spent:
            await asyncio.sleep(dice.choice([0, 0, 0.002]))
        await rest(self, patience)

    monkeypatch.setattr(Pace, "rest", long_rest)
    rows = dice.choice([0, 0, 2_000])
    schedule = Schedule(
        path, dice, DispatchSettings(grace_s=5.0, journal_lanes=rows, batch=dice.choice([3, 250]))
    )
    for _ in range(3):
        await schedule.live(12, crash=dice.random() < 0.6)
    await schedule.live(6, crash=False, last=True)
    schedule.check()
    return schedule


@pytest.mark.parametrize("seed", [6])
async def test_whatever_happens_each_is_told_all_of_it_in_order_and_a_crash_repeats_one_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    schedule = await run(tmp_path / "hub.db", seed, monkeypatch)
    assert schedule.owed


@pytest.mark.slow
@pytest.mark.timeout(1_200)
async def test_whatever_happens_at_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(100):
        try:
            await run(tmp_path / f"{seed}.db", seed, monkeypatch)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"seed {seed}: {error}") from error
