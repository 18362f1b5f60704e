"""How the embedded store works inside: batches, memory, the log file, and an event loop that never waits for the disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest
from blockbuster import blockbuster_ctx

from lalert.clock import SystemClock
from lalert.model import Alert, Entry, Facts
from lalert.store.sqlite import Bounds, Memory, SqliteStore, checkpoints, log
from lalert.store.sqlite.audit import AFTER_OF, BEFORE_OF
from lalert.store.sqlite.checkpoints import Checkpoints
from lalert.store.sqlite.files import open_for_checkpoints, open_for_reading, open_for_writing, prepare
from lalert.store.sqlite.outbox import MOVE_CURSORS, UNSETTLED
from lalert.store.sqlite.ring import Old, Ring
from lalert.store.sqlite.writer import Write, Writer
from lalert.testing import make_alert, revive
from lalert.testing.store import (
    ORIGIN,
    TEN,
    append,
    append_all,
    delivery,
    ignore,
    in_force,
    some_positions,
    subscription,
)
from tests.unit.faulty_disk import FaultyDisk, Hang


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "lalert.db"


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    with FaultyDisk() as disk:
        yield disk


class Revived:
    """Revives, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, raw: bytes, jurisdiction: frozenset[str]) -> tuple[Alert, Facts]:
        self.count += 1
        return revive(raw, jurisdiction)


@pytest.fixture
def revived() -> Revived:
    return Revived()


# Batches


async def test_what_waits_together_is_committed_together(path: Path, disk: FaultyDisk) -> None:
    told: list[int] = []
    syncs: list[str] = []

    def listen(entries: Sequence[Entry]) -> None:
        told.append(len(entries))

    async with SqliteStore(
        path, revive=revive, on_append=listen, clock=SystemClock(), vfs=disk.name
    ) as store:
        await append(store, make_alert())
        hang = Hang()
        disk.on_sync = hang
        first = asyncio.ensure_future(append(store, make_alert()))
        await asyncio.to_thread(hang.began.wait, 10)
        rest = [asyncio.ensure_future(append(store, make_alert())) for _ in range(50)]
        await asyncio.sleep(0)
        disk.on_sync = syncs.append
        hang.end()
        await asyncio.gather(first, *rest)
    assert told == [1, 1, 50]
    assert syncs.count("wal") == 2  # the end of the second batch, and the one of the third


async def test_a_batch_is_bounded_in_rows_and_bytes(path: Path, disk: FaultyDisk) -> None:
    told: list[int] = []
    bounds = Bounds(batch_rows=10, batch_bytes=100_000)
    async with SqliteStore(
        path,
        revive=revive,
        on_append=lambda entries: told.append(len(entries)),
        clock=SystemClock(),
        bounds=bounds,
        vfs=disk.name,
    ) as store:
        async with held(disk, store):
            small = [asyncio.ensure_future(append(store, make_alert())) for _ in range(25)]
            await asyncio.sleep(0)
        await asyncio.gather(*small)
        assert told == [1, 10, 10, 5]
        told.clear()
        async with held(disk, store):
            big = [
                asyncio.ensure_future(append(store, make_alert(description="あ" * 15_000))) for _ in range(4)
            ]
            huge = asyncio.ensure_future(append(store, make_alert(description="あ" * 150_000)))
            await asyncio.sleep(0)
        await asyncio.gather(*big, huge)
        assert told == [1, 2, 2, 1]


async def test_an_alert_does_not_wait_behind_the_hubs_own_notes(path: Path, disk: FaultyDisk) -> None:
    order: list[str] = []
    bounds = Bounds(batch_rows=100)
    async with SqliteStore(
        path,
        revive=revive,
        on_append=lambda _: order.append("alert"),
        clock=SystemClock(),
        bounds=bounds,
        vfs=disk.name,
    ) as store:
        [position] = await some_positions(store, 1)
        order.clear()

        async def note(number: int) -> None:
            await store.record([delivery(f"{number}-{row}", "s", position) for row in range(100)], {})
            order.append("notes")

        async with held(disk, store):
            notes = [asyncio.ensure_future(note(number)) for number in range(10)]
            await asyncio.sleep(0)
            alert = asyncio.ensure_future(append(store, make_alert()))
            # It is sent in the next turn of the loop, and handed over at the end of that one.
            for _ in range(3):
                await asyncio.sleep(0)
        await asyncio.gather(*notes, alert)
    assert order[:2] == ["alert", "alert"]  # the one that was held, and the one that came after ten notes
    assert order.count("notes") == 10


async def test_an_alert_waits_for_no_more_notes_than_are_being_written(
    path: Path, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for those that would be committed with it either."""
    batches: list[tuple[int, int]] = []
    commit = Writer._commit

    def noted(writer: Writer, batch: Sequence[Write]) -> None:
        batches.append((sum(write.urgent for write in batch), sum(write.rows for write in batch)))
        commit(writer, batch)

    async with SqliteStore(
        path, revive=revive, on_append=ignore, clock=SystemClock(), vfs=disk.name
    ) as store:
        [position] = await some_positions(store, 1)

        def notes(number: int, rows: int) -> Awaitable[None]:
            return store.record([delivery(f"{number}-{row}", "s", position) for row in range(rows)], {})

        monkeypatch.setattr(Writer, "_commit", noted)
        async with held(disk, store):
            some = [asyncio.ensure_future(notes(number, 100)) for number in range(3)]
            await asyncio.sleep(0)
            alerts = [asyncio.ensure_future(append(store, make_alert())) for _ in range(300)]
            for _ in range(3):
                await asyncio.sleep(0)
        await asyncio.gather(*some, *alerts)
        assert batches == [(1, 1), (256, 256), (0, 100), (44, 44), (0, 100), (0, 100)]
        batches.clear()
        async with held(disk, store):
            few = [asyncio.ensure_future(notes(number, 7)) for number in range(10, 13)]
            await asyncio.sleep(0)
            alert = asyncio.ensure_future(append(store, make_alert()))
            for _ in range(3):
                await asyncio.sleep(0)
        await asyncio.gather(*few, alert)
        assert batches == [(1, 1), (1, 15), (0, 7)]


async def test_it_says_whether_its_thread_is_at_work_on_an_alert(path: Path, disk: FaultyDisk) -> None:
    async with SqliteStore(
        path, revive=revive, on_append=ignore, clock=SystemClock(), vfs=disk.name
    ) as store:
        claims = [store.storing]
        async with held(disk, store):
            claims.append(store.storing)
        claims.append(store.storing)
    assert claims == [False, True, False]


async def test_alerts_do_not_starve_the_hubs_own_notes(path: Path, disk: FaultyDisk) -> None:
    order: list[str] = []
    bounds = Bounds(batch_rows=5)
    async with SqliteStore(
        path,
        revive=revive,
        on_append=lambda entries: order.extend("alert" for _ in entries),
        clock=SystemClock(),
        bounds=bounds,
        vfs=disk.name,
    ) as store:

        async def note() -> None:
            await store.put("owner", "key", b"value")
            order.append("note")

        async with held(disk, store):
            alerts = [asyncio.ensure_future(append(store, make_alert())) for _ in range(30)]
            await asyncio.sleep(0)
            noted = asyncio.ensure_future(note())
            await asyncio.sleep(0)
        await asyncio.gather(*alerts, noted)
    # Of 31 alerts, five to a batch: the note goes with the first of them, and its sender hears of it a turn of the loop later.
    assert order.index("note") < 20


async def test_a_refused_append_among_others_rolls_nothing_of_theirs_back(
    path: Path, disk: FaultyDisk
) -> None:
    async with SqliteStore(
        path, revive=revive, on_append=ignore, clock=SystemClock(), vfs=disk.name
    ) as store:
        first = make_alert(sent=TEN)
        await append(store, first)
        conflict = make_alert(
            identifier=first.identifier, sent=TEN, headline="別", msg_type="Update", references=[first]
        )
        update = make_alert(sent=TEN, msg_type="Update", references=[first])
        async with held(disk, store):
            tasks = [
                asyncio.ensure_future(append(store, alert)) for alert in (update, conflict, make_alert())
            ]
            await asyncio.sleep(0)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(answer, Exception) for answer in answers] == [False, True, False]
        assert update in await in_force(store)
        assert first not in await in_force(store)


# The event loop


async def test_the_event_loop_never_touches_the_disk_or_waits_for_a_thread(path: Path) -> None:
    with blockbuster_ctx():
        memory = Memory(newest=2, old=1)
        async with SqliteStore(
            path, revive=revive, on_append=ignore, clock=SystemClock(), memory=memory
        ) as store:
            positions = await some_positions(store, 10)
            await store.save_subscription(subscription("s"), positions[0])
            await store.record([delivery("k", "s", positions[1])], {"s": positions[1]})
            await store.read(None, 100)
            await store.active(datetime.now(UTC))
            await store.check()


async def test_reading_much_leaves_the_event_loop_free(path: Path) -> None:
    memory = Memory(newest=1, old=1)
    async with SqliteStore(
        path, revive=slow_revive, on_append=ignore, clock=SystemClock(), memory=memory
    ) as store:
        await some_positions(store, 30)
        reading = asyncio.ensure_future(store.read(None, 100))
        turns = 0
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        assert len(reading.result()) == 30
        # At least one between any two documents, each of which takes 20 ms here.
        assert turns > 30


# What is kept in memory


async def test_live_replay_and_fresh_incidents_are_answered_from_memory(
    path: Path, revived: Revived, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteStore(path, revive=revived, on_append=ignore, clock=SystemClock()) as store:
        first = make_alert(sent=TEN)
        update = make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[first])
        one, two = await append_all(store, first, update)
        monkeypatch.setattr(store._parts.readers, "_closed", True)  # whoever asks the disk now, fails
        assert await store.read(None, 10) == await store.latest(10) == [one, two]
        assert await store.read(one.position, 10) == [two]
        assert await store.lineage(one) == []
        assert await store.lineage(two) == [one]
        assert await store.find(first.id) == await store.entry(one.position) == one
        assert await store.find("unknown") is None
        monkeypatch.undo()
        assert await store.active(TEN) == [two]
        assert revived.count == 0


async def test_after_a_restart_the_newest_entries_are_read_once_for_all_who_come_back(
    path: Path, revived: Revived
) -> None:
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        positions = await some_positions(store, 50)
    async with SqliteStore(path, revive=revived, on_append=ignore, clock=SystemClock()) as store:
        assert revived.count == 0
        pages = await asyncio.gather(*(store.read(position, 100) for position in positions for _ in range(3)))
        assert [len(page) for page in pages] == [49 - number for number in range(50) for _ in range(3)]
        assert revived.count == 50


async def test_the_ring_is_filled_up_to_its_bounds_and_the_rest_is_read_from_the_disk(
    path: Path, revived: Revived
) -> None:
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        entries = await append_all(store, *(make_alert() for _ in range(20)))
    size = len(entries[0].alert.raw)
    for memory, kept in (
        (Memory(newest=5), 5),
        (Memory(newest_bytes=size * 7 + 20), 7),
        (Memory(newest_bytes=1), 0),
    ):
        async with SqliteStore(
            path, revive=revived, on_append=ignore, clock=SystemClock(), memory=memory
        ) as store:
            assert await store.latest(3) == entries[-3:]
            assert len(store._parts.ring) == kept
            assert await store.latest(100) == entries
            assert await store.read(None, 100) == entries
            [newest] = await append_all(store, make_alert())
            assert (await store.latest(2))[-1] == newest
        entries.append(newest)


async def test_filling_that_is_overtaken_by_appends_leaves_no_gap(path: Path) -> None:
    memory = Memory(newest=10)
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        positions = await some_positions(store, 30)
    async with SqliteStore(
        path, revive=slow_revive, on_append=ignore, clock=SystemClock(), memory=memory
    ) as store:
        reading = asyncio.ensure_future(store.read(positions[-5], 100))
        await asyncio.sleep(0)
        more = await some_positions(store, 15)
        got = [entry.position for entry in await reading]
        assert got == (positions + more)[26 : 26 + len(got)]
        assert [entry.position for entry in await store.read(positions[-5], 100)] == [*positions[-4:], *more]


async def test_filling_that_is_overtaken_by_large_documents_leaves_no_gap(path: Path) -> None:
    memory = Memory(newest_bytes=10_000)
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        positions = await some_positions(store, 5)
    async with SqliteStore(
        path, revive=slow_revive, on_append=ignore, clock=SystemClock(), memory=memory
    ) as store:
        reading = asyncio.ensure_future(store.read(positions[-2], 100))
        await asyncio.sleep(0)
        large = await append_all(store, *(make_alert(description="大" * 2000) for _ in range(2)))
        await reading
        got = [entry.position for entry in await store.read(positions[-2], 100)]
        assert got == [positions[-1], large[0].position, large[1].position]


@pytest.mark.parametrize("memory", [Memory(), Memory(newest=1, old=1)])
async def test_nothing_is_read_before_listeners_have_heard_of_it(path: Path, memory: Memory) -> None:
    heard: list[Entry] = []
    async with SqliteStore(
        path, revive=revive, on_append=heard.extend, clock=SystemClock(), memory=memory
    ) as store:
        first = await append_all(store, make_alert(sent=TEN), make_alert(sent=TEN))
        writer, held_back = store._parts.writer, []
        tell = writer._tell
        writer._tell = lambda *call: held_back.append(call)  # type: ignore[method-assign]
        alert = make_alert(sent=TEN)
        appending = asyncio.ensure_future(append(store, alert))
        looking = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        async with asyncio.timeout(10):
            while not held_back or looking.execute("SELECT count(*) FROM entry").get < 3:
                await asyncio.sleep(0.005)
        looking.close()
        # The commit is there for everybody to see, and the event loop does not know of it yet.
        active = asyncio.ensure_future(store.active(TEN))
        _, pending = await asyncio.wait([active], timeout=0.2)
        assert pending
        assert await store.read(None, 10) == await store.latest(10) == first == heard
        writer._tell = tell  # type: ignore[method-assign]
        for call in held_back:
            tell(*call)
        entry = (await appending).entry
        assert await active == heard == [*first, entry]


async def test_what_is_long_in_force_is_parsed_once(path: Path, revived: Revived) -> None:
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        await append_all(store, *(make_alert(sent=TEN) for _ in range(10)))
    memory = Memory(newest=1)
    async with SqliteStore(
        path, revive=revived, on_append=ignore, clock=SystemClock(), memory=memory
    ) as store:
        for _ in range(3):
            assert len(await store.active(TEN)) == 10
        assert revived.count == 10


async def test_a_fill_that_fails_is_tried_again(path: Path) -> None:
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        entries = await append_all(store, make_alert())
    faults = [ValueError("once")]

    def revive_later(raw: bytes, jurisdiction: frozenset[str]) -> tuple[Alert, Facts]:
        if faults:
            raise faults.pop()
        return revive(raw, jurisdiction)

    async with SqliteStore(path, revive=revive_later, on_append=ignore, clock=SystemClock()) as store:
        with pytest.raises(Exception, match="once"):
            await store.latest(5)
        assert await store.latest(5) == entries


def test_the_ring_drops_the_oldest_and_knows_where_it_begins() -> None:
    ring = Ring(3, 10_000_000, 0)
    entries = [make_entry() for _ in range(5)]
    for offset, entry in enumerate(entries, 1):
        ring.add(offset, entry.alert.id, entry, (offset,))
    assert (len(ring), ring.floor, ring.room) == (3, 2, 0)
    assert ring.after(2, 9) == ring.latest(9) == entries[2:]
    assert ring.after(3, 1) == entries[3:4]
    assert (ring.get(2), ring.get(3)) == (None, entries[2])
    assert (ring.find(entries[1].alert.id), ring.find(entries[2].alert.id)) == (None, entries[2])
    assert (ring.lineage(2), ring.lineage(3)) == (None, (3,))
    ring.forget_lineages()
    assert ring.lineage(3) is None


def test_the_ring_always_keeps_the_newest_however_large() -> None:
    ring = Ring(10, 1, 0)
    for offset in (1, 2, 3):
        entry = make_entry()
        ring.add(offset, entry.alert.id, entry, ())
        assert ring.latest(9) == [entry]
    assert ring.floor == 2


def test_old_entries_are_kept_up_to_bounds_by_when_they_were_asked_for() -> None:
    entries = [make_entry() for _ in range(4)]
    old = Old(3, 10_000_000)
    for offset, entry in enumerate(entries[:3]):
        old.add(offset, entry)
    assert old.get(0) == entries[0]
    old.add(3, entries[3])
    assert [old.get(offset) is not None for offset in range(4)] == [True, False, True, True]
    small = Old(3, len(entries[0].alert.raw) + 5)
    small.add(0, entries[0])
    small.add(0, entries[0])
    assert small.get(0) is not None
    small.add(1, entries[1])
    assert [small.get(0), small.get(1)] == [None, entries[1]]


# Many incidents


async def test_what_is_awaited_is_remembered_over_a_restart_and_beyond_its_bound(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    firsts = [make_alert(sent=TEN) for _ in range(6)]
    updates = [
        make_alert(sent=TEN + timedelta(minutes=1), msg_type="Update", references=[each]) for each in firsts
    ]
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        await append_all(store, *updates[:3], firsts[0])
        assert await in_force(store) == updates[:3]
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        monkeypatch.setattr("lalert.store.sqlite.log.MAX_AWAITED", 3)
        await append_all(store, firsts[1], *updates[3:], *firsts[3:])
        assert await in_force(store) == updates
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        await append_all(store, firsts[2])
        assert await in_force(store) == updates
        rows = store._parts.writer._db.execute("SELECT count(*) FROM awaited").get
        assert rows == 0


async def test_names_are_indexed_when_somebody_asks_however_many_there_are(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lalert.store.sqlite.log.NAMES_AT_ONCE", 3)
    several = [make_alert(identifier=f"a-{n}", sent=TEN) for n in range(8)]
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        await append_all(store, *several[:7])
        for alert in several[:7]:
            [entry] = await store.named(alert.sender, alert.identifier, 5)
            assert entry.alert == alert
        await append_all(store, several[7])
        plan = [
            str(row[3])
            for row in store._parts.writer._db.execute("EXPLAIN QUERY PLAN " + log._NAMED, (1, "", ""))
        ]
        assert not [line for line in plan if line.startswith("SCAN entry")], plan
        [entry] = await store.named(several[7].sender, "a-7", 5)
        assert entry.alert == several[7]


@pytest.mark.parametrize(
    "sql",
    [
        log.IN_FORCE,
        log.NEXT_END,
        log.ENDED,
        UNSETTLED,
        MOVE_CURSORS.replace("{rows}", "(?, ?), (?, ?)"),
        AFTER_OF,
        BEFORE_OF,
    ],
)
async def test_what_is_asked_often_is_found_by_indices_even_without_statistics(path: Path, sql: str) -> None:
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        db = store._parts.writer._db
        plan = [str(row[3]) for row in db.execute("EXPLAIN QUERY PLAN " + sql, (1,) * sql.count("?"))]
    looks = [line for line in plan if line.startswith(("SCAN", "SEARCH")) and not line.startswith("SCAN s")]
    assert looks
    assert all("USING" in line or "VALUES CLAUSE" in line for line in looks), plan


# The log file


@pytest.fixture
def files(path: Path) -> Iterator[tuple[apsw.Connection, Checkpoints]]:
    prepare(path)
    db = open_for_writing(path, None)
    db.execute("CREATE TABLE t (x)")
    moving = Checkpoints(open_for_checkpoints(path, None))
    db.set_wal_hook(hook(moving))
    yield db, moving
    moving.close()
    db.close()


def test_the_log_is_moved_once_it_is_quiet_and_then_begins_anew(
    path: Path, files: tuple[apsw.Connection, Checkpoints], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "IDLE_SECONDS", 0.02)
    db, moving = files
    moving.start()
    db.execute("INSERT INTO t VALUES (zeroblob(100000))")
    assert until(lambda: moving._moved == moving._pages > 0)
    length = Path(f"{path}-wal").stat().st_size
    for _ in range(5):
        db.execute("INSERT INTO t VALUES (1)")
        assert until(lambda: moving._moved == moving._pages)
    assert Path(f"{path}-wal").stat().st_size == length
    assert moving._pages < 5


def test_much_is_moved_without_waiting_for_quiet(
    files: tuple[apsw.Connection, Checkpoints], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "IDLE_SECONDS", 60)
    monkeypatch.setattr(checkpoints, "SOON_PAGES", 10)
    db, moving = files
    moving.start()
    db.execute("INSERT INTO t VALUES (1)")
    assert not until(lambda: moving._moved > 0, 0.1)
    db.execute("INSERT INTO t VALUES (zeroblob(200000))")
    assert until(lambda: moving._moved == moving._pages)


def test_under_load_without_a_pause_the_writer_keeps_the_log_bounded(
    path: Path, files: tuple[apsw.Connection, Checkpoints], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "FULL_PAGES", 40)
    monkeypatch.setattr(checkpoints, "SOON_PAGES", 10)
    db, moving = files
    for _ in range(100):
        db.execute("INSERT INTO t VALUES (zeroblob(40000))")
        moving.finish(db)
    # 160 pages are far too many: then the writer moves them all itself, and the next commit begins anew.
    assert Path(f"{path}-wal").stat().st_size < 180 * (8192 + 24)
    assert db.execute("SELECT count(*) FROM t").get == 100


def test_a_reader_in_an_old_state_holds_the_log_up_without_burning_the_processor(
    path: Path, files: tuple[apsw.Connection, Checkpoints], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(checkpoints, "SOON_PAGES", 1)
    db, moving = files
    passes: list[int] = []
    move = moving._move

    def count(db: apsw.Connection) -> int:
        passes.append(move(db))
        return passes[-1]

    monkeypatch.setattr(moving, "_move", count)
    reading = open_for_reading(path, None)
    reading.execute("BEGIN; SELECT count(*) FROM t").fetchall()
    moving.start()
    for _ in range(5):
        db.execute("INSERT INTO t VALUES (zeroblob(40000))")
    time.sleep(0.4)
    assert 1 <= len(passes) <= 12
    reading.execute("COMMIT")
    assert until(lambda: moving._moved == moving._pages)
    reading.close()


def test_a_log_that_cannot_be_moved_is_said_once_and_loses_nothing(
    path: Path, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoints, "IDLE_SECONDS", 0.02)
    prepare(path)
    db = open_for_writing(path, disk.name)
    db.execute("CREATE TABLE t (x)")
    moving = Checkpoints(open_for_checkpoints(path, disk.name))
    db.set_wal_hook(hook(moving))
    moving.start()

    def full(kind: str) -> None:
        if kind == "main":
            raise apsw.FullError("the disk of this test")

    disk.on_write = full
    for number in range(5):
        db.execute("INSERT INTO t VALUES (?)", (number,))
        time.sleep(0.03)
    assert db.execute("SELECT count(*) FROM t").get == 5
    assert until(lambda: bool(caplog.records))
    assert len([record for record in caplog.records if "cannot be moved" in record.message]) == 1
    disk.heal()
    assert until(lambda: moving._moved == moving._pages)
    moving.close()
    db.close()


@asynccontextmanager
async def held(disk: FaultyDisk, store: SqliteStore) -> AsyncIterator[None]:
    """Keep the writer busy with one append, so that all that is begun in the block waits together."""
    hang = Hang()
    disk.on_sync = hang
    first = asyncio.ensure_future(append(store, make_alert()))
    await asyncio.to_thread(hang.began.wait, 10)
    try:
        yield
    finally:
        disk.heal()
        hang.end()
    await first


def hook(moving: Checkpoints) -> Callable[[apsw.Connection, str, int], int]:
    def note(_db: apsw.Connection, _name: str, pages: int) -> int:
        moving.note(pages)
        return apsw.SQLITE_OK

    return note


def until(claim: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Say whether a claim about another thread has come true in time."""
    end = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def slow_revive(raw: bytes, jurisdiction: frozenset[str]) -> tuple[Alert, Facts]:
    end = time.thread_time() + 0.02
    while time.thread_time() < end:
        pass
    return revive(raw, jurisdiction)


def make_entry() -> Entry:
    alert = make_alert()
    now = datetime.now(UTC)
    return Entry("0badcafe-1", now, now, alert, origin=ORIGIN, incident=alert.id)
