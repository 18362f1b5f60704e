"""A view says of the same log what the embedded store says of it, however much of it was loaded and however much applied."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lalert.clock import SystemClock
from lalert.errors import InvalidAlert, StoreError, UnknownPosition
from lalert.model import Alert, Entry, MsgType, Origin, OriginKind
from lalert.store.sqlite import SqliteStore, log
from lalert.store.sqlite.log import NewEntry
from lalert.store.sqlite.view import LogView
from lalert.testing import declared_facts, make_alert, revive

ORIGIN = Origin(OriginKind.HTTP, "hitoyoshi", "key-1", "192.0.2.1")
NOON = datetime(2026, 6, 1, 3, tzinfo=UTC)
EPOCH = "0badcafe"
STEP = 2**21


def a_storm(seed: int, number: int) -> list[Alert]:
    """Return alerts that update, cancel, join and precede each other, in no good order."""
    dice = random.Random(seed)
    alerts: list[Alert] = []
    for n in range(number):
        referred = dice.sample(alerts, min(len(alerts), dice.choice((0, 1, 1, 2))))
        kind = (
            dice.choice((MsgType.UPDATE, MsgType.UPDATE, MsgType.CANCEL, MsgType.ERROR))
            if referred
            else MsgType.ALERT
        )
        sent = NOON + timedelta(seconds=dice.randrange(600))
        alerts.append(
            make_alert(msg_type=kind, references=referred, sent=sent, identifier=f"storm-{seed}-{n}")
        )
    dice.shuffle(alerts)
    return alerts


def new_entries(alerts: Sequence[Alert], entries: Sequence[Entry]) -> list[NewEntry]:
    made = []
    for n, (alert, entry) in enumerate(zip(alerts, entries, strict=True), 1):
        new = log.prepare(alert, ORIGIN, NOON, declared_facts(alert), frozenset())
        new.offset, new.stored = n * STEP, entry.stored
        made.append(new)
    return made


@pytest.mark.parametrize("seed", range(6))
async def test_a_view_agrees_with_the_store_on_every_state(tmp_path: Path, seed: int) -> None:
    told: list[Entry] = []
    alerts = a_storm(seed, 30)
    store = SqliteStore(tmp_path / "store.db", revive=revive, on_append=lambda _: None, clock=SystemClock())
    view = LogView(tmp_path / "view.db", EPOCH, revive=revive, on_append=told.extend, clock=SystemClock())
    async with store, view:
        entries = [
            (await store.append(alert, ORIGIN, NOON, declared_facts(alert), frozenset())).entry
            for alert in alerts
        ]
        news = new_entries(alerts, entries)
        await view.load(news[:15], 15 * STEP)
        for start in range(15, 30, 4):
            # As another node sees it: nothing but the columns.
            await view.apply([view.revived(new) for new in news[start : start + 4]])
        names = {entry.position: f"{EPOCH}-{n * STEP}" for n, entry in enumerate(entries, 1)}

        def moved(entries: Sequence[Entry]) -> list[Entry]:
            return [replace(entry, position=names[entry.position]) for entry in entries]

        assert told == moved(entries[15:])
        assert view.newest == names[entries[-1].position]
        assert await view.read(None, 100) == moved(entries)
        assert await view.active(NOON + timedelta(minutes=11)) == moved(
            await store.active(NOON + timedelta(minutes=11))
        )
        for entry in entries:
            [there] = moved([entry])
            assert await view.find(entry.alert.id) == there
            assert await view.heads(there) == moved(await store.heads(entry))
            assert await view.lineage(there) == moved(await store.lineage(entry))


async def test_an_entry_that_comes_again_is_neither_kept_nor_told_again(tmp_path: Path) -> None:
    told: list[Entry] = []
    [alert] = a_storm(1, 1)
    view = LogView(tmp_path / "view.db", EPOCH, revive=revive, on_append=told.extend, clock=SystemClock())
    async with view:
        for offset, content in (
            (STEP, alert),
            (2 * STEP, alert),
            (3 * STEP, replace(alert, raw=alert.raw + b" ")),
        ):
            new = log.prepare(content, ORIGIN, NOON, declared_facts(alert), frozenset())
            new.offset, new.stored = offset, NOON
            await view.apply([new])
        assert [entry.position for entry in told] == [f"{EPOCH}-{STEP}"]
        assert await view.read(None, 10) == told


async def test_a_view_begins_anew_and_is_gone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "view.db"
    path.write_bytes(b"left behind by a node that was killed")
    [alert] = a_storm(1, 1)
    view = LogView(path, EPOCH, revive=revive, on_append=lambda _: None, clock=SystemClock())
    async with view:
        assert await view.read(None, 10) == []
        assert view.newest == f"{EPOCH}-0"
        with pytest.raises(UnknownPosition):
            view.order(f"{EPOCH}-1")
        new = log.prepare(alert, ORIGIN, NOON, declared_facts(alert), frozenset())
        new.offset, new.stored = 7, NOON
        await view.load([new], 9)
        assert view.newest == f"{EPOCH}-9"
    assert not path.exists()
    with pytest.raises(StoreError):
        await view.read(None, 10)


async def test_a_damaged_document_is_refused(tmp_path: Path) -> None:
    [alert] = a_storm(1, 1)
    view = LogView(tmp_path / "view.db", EPOCH, revive=revive, on_append=lambda _: None, clock=SystemClock())
    async with view:
        new = log.prepare(alert, ORIGIN, NOON, declared_facts(alert), frozenset())
        new.raw = new.raw.replace(b"storm", b"sturm")
        with pytest.raises(StoreError, match="damaged"):
            view.revived(new)


async def test_who_would_continue_too_many_incidents_is_refused_before_and_cut_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [make_alert(sent=NOON, identifier=f"first-{n}") for n in range(4)]
    last = make_alert(msg_type=MsgType.UPDATE, references=first, sent=NOON + timedelta(minutes=1))
    view = LogView(tmp_path / "view.db", EPOCH, revive=revive, on_append=lambda _: None, clock=SystemClock())
    news = [log.prepare(alert, ORIGIN, NOON, declared_facts(alert), frozenset()) for alert in (*first, last)]
    for n, new in enumerate(news, 1):
        new.offset, new.stored = n, NOON
    async with view:
        await view.apply(news[:3])  # the fourth has not come: it begins a chain all the same
        await view.require_bounded(news[4])
        monkeypatch.setattr("lalert.store.sqlite.log.MAX_REFERENCES", 3)
        with pytest.raises(InvalidAlert, match="4 incidents"):
            await view.require_bounded(news[4])
        [entry] = await view.apply(news[4:])
        assert entry.replaced == (first[0].id, first[1].id, first[2].id)
