"""What the embedded store does when the disk is full, fails, hangs, or is another's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import apsw
import pytest

from lalert.clock import SystemClock
from lalert.errors import Conflict, LalertError, StoreError, Unavailable
from lalert.model import Alert, Entry, Facts
from lalert.store import Appended
from lalert.store.sqlite import Bounds, SqliteStore
from lalert.testing import declared_facts, make_alert, revive
from lalert.testing.store import ORIGIN, append, ignore
from tests.unit.faulty_disk import FaultyDisk, Hang, failing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "lalert.db"


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    with FaultyDisk() as disk:
        yield disk


@pytest.fixture
def heard() -> list[Entry]:
    return []


@pytest.fixture
async def store(path: Path, disk: FaultyDisk, heard: list[Entry]) -> AsyncIterator[SqliteStore]:
    bounds = Bounds(waiting=40, waiting_bytes=1_000_000, stall_seconds=0.2)
    async with SqliteStore(
        path, revive=revive, on_append=heard.extend, clock=SystemClock(), bounds=bounds, vfs=disk.name
    ) as store:
        yield store


@pytest.mark.parametrize("moment", ["on_write", "on_sync"])
@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError])
async def test_a_commit_that_fails_is_told_to_every_sender_and_leaves_nothing(
    store: SqliteStore, disk: FaultyDisk, heard: list[Entry], moment: str, error: type[apsw.Error]
) -> None:
    kept = (await append(store, make_alert())).entry
    refused = [make_alert() for _ in range(20)]
    setattr(disk, moment, failing(error, "wal"))
    answers = await asyncio.gather(*(append(store, alert) for alert in refused), return_exceptions=True)
    assert {type(answer) for answer in answers} == {Unavailable}
    assert all(isinstance(answer, Unavailable) and answer.retry_after >= 1 for answer in answers)
    with pytest.raises(Unavailable):
        await store.check()
    assert heard == await store.read(None, 100) == await store.active(kept.alert.sent) == [kept]
    assert store.newest == kept.position
    assert [await store.find(alert.id) for alert in refused] == [None] * 20


@pytest.mark.parametrize("moment", ["on_write", "on_sync"])
async def test_after_the_disk_has_come_back_everything_goes_on(
    store: SqliteStore, path: Path, disk: FaultyDisk, heard: list[Entry], moment: str
) -> None:
    refused = make_alert()
    setattr(disk, moment, failing(apsw.FullError, "wal"))
    with pytest.raises(Unavailable, match="full"):
        await append(store, refused)
    disk.heal()
    await store.check()
    again = await append(store, refused)
    assert again.fresh
    await append(store, make_alert())
    assert heard == await store.read(None, 10)
    assert len(heard) == 2
    await store.__aexit__()
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as reopened:
        assert await reopened.read(None, 10) == heard


async def test_a_conflict_in_a_batch_that_is_lost_is_no_conflict(
    store: SqliteStore, disk: FaultyDisk
) -> None:
    alert = make_alert()
    other = make_alert(identifier=alert.identifier, sent=alert.sent, headline="別の内容")
    disk.on_sync = failing(apsw.IOError, "wal")
    answers = await asyncio.gather(append(store, alert), append(store, other), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
    disk.heal()
    assert (await append(store, other)).fresh
    with pytest.raises(Conflict):
        await append(store, alert)


async def test_a_conflict_with_one_that_did_not_fit_is_no_conflict(
    store: SqliteStore, disk: FaultyDisk
) -> None:
    alert = make_alert()
    other = make_alert(identifier=alert.identifier, sent=alert.sent, headline="別の内容")
    hang = Hang()
    writes: list[str] = []

    def refuse_twice(kind: str) -> None:
        # The commit of both together, and then the first by itself; the second fits.
        writes.append(kind)
        if len(writes) <= 2:
            raise apsw.FullError("the disk of this test")

    disk.on_sync = hang
    first = asyncio.ensure_future(append(store, make_alert()))
    await asyncio.to_thread(hang.began.wait, 10)
    both = [asyncio.ensure_future(append(store, each)) for each in (alert, other)]
    await asyncio.sleep(0)
    disk.heal()
    disk.on_write = refuse_twice
    hang.end()
    answers = await asyncio.gather(first, *both, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Appended, Unavailable, Appended]
    kept = await store.find(other.id)
    assert kept is not None
    assert kept.alert.raw == other.raw


async def test_a_jurisdiction_that_was_rolled_back_is_kept_with_the_next_alert(
    store: SqliteStore, path: Path, disk: FaultyDisk
) -> None:
    home = frozenset({"432032", "43"})

    async def submit() -> Appended:
        alert = make_alert(areas=())
        return await store.append(alert, ORIGIN, alert.sent, declared_facts(alert, home), home)

    hang = Hang()
    disk.on_sync = hang
    first = asyncio.ensure_future(append(store, make_alert()))
    await asyncio.to_thread(hang.began.wait, 10)
    both = [asyncio.ensure_future(submit()) for _ in range(2)]
    await asyncio.sleep(0)
    disk.on_sync = failing(apsw.IOError, "wal")
    hang.end()
    answers = await asyncio.gather(first, *both, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Appended, Unavailable, Unavailable]
    disk.heal()
    position = (await submit()).entry.position
    await store.__aexit__()
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as reopened:
        entry = await reopened.entry(position)
        assert entry is not None
        assert entry.facts.codes == home


async def test_what_was_durable_before_the_rest_of_a_batch_failed_is_told_and_answered(
    store: SqliteStore, disk: FaultyDisk, heard: list[Entry]
) -> None:
    late = make_alert()
    await append(store, make_alert(msg_type="Update", references=[late]))
    hang = Hang()
    syncs: list[str] = []

    def fail_the_third(kind: str) -> None:
        syncs.append(kind)
        if len(syncs) == 1:
            hang(kind)
        if len(syncs) == 3:
            raise apsw.IOError("the disk of this test")

    disk.on_sync = fail_the_third
    first = asyncio.ensure_future(append(store, make_alert()))
    await asyncio.to_thread(hang.began.wait, 10)
    # Fresh alerts are committed in one step; the one that was awaited takes a transaction of its own after it.
    batch = [make_alert(), late, *(make_alert() for _ in range(5))]
    tasks = [asyncio.ensure_future(append(store, alert)) for alert in batch]
    await asyncio.sleep(0)
    hang.end()
    answers = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Appended, Appended, Unavailable, *[Appended] * 5]
    assert all(answer.fresh for answer in answers if isinstance(answer, Appended))
    assert len(heard) == 8
    assert heard == await store.read(None, 100)
    disk.heal()
    assert (await append(store, late)).fresh


async def test_a_line_at_its_bound_is_answered_at_once(store: SqliteStore, disk: FaultyDisk) -> None:
    hang = Hang()
    disk.on_sync = hang
    try:
        waiting = [asyncio.ensure_future(append(store, make_alert())) for _ in range(40)]
        await asyncio.to_thread(hang.began.wait, 10)
        with pytest.raises(Unavailable, match="too many") as caught:
            async with asyncio.timeout(0.1):
                await append(store, make_alert())
        assert caught.value.retry_after >= 1
    finally:
        hang.end()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (await append(store, make_alert())).fresh


async def test_a_line_is_bounded_in_bytes_too(store: SqliteStore, disk: FaultyDisk) -> None:
    hang = Hang()
    disk.on_sync = hang
    try:
        big = [make_alert(description="あ" * 100_000) for _ in range(4)]
        waiting = [asyncio.ensure_future(append(store, alert)) for alert in big[:3]]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="too many"):
            await append(store, big[3])
    finally:
        hang.end()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (await append(store, big[3])).fresh


async def test_nobody_waits_for_ever_for_a_disk_that_hangs_and_its_check_says_so(
    store: SqliteStore, disk: FaultyDisk, heard: list[Entry]
) -> None:
    await append(store, make_alert())
    hang = Hang()
    disk.on_sync = hang
    stuck = make_alert()
    try:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="stopped answering"):
            await append(store, stuck)
        with pytest.raises(Unavailable, match="stopped answering"):
            await append(store, make_alert())
        with pytest.raises(Unavailable):
            await store.check()
        assert time.monotonic() - began < 5
        assert len(heard) == 1
    finally:
        hang.end()
    async with asyncio.timeout(10):
        while len(heard) < 2:  # the writer's thread says nothing but by this
            await asyncio.sleep(0.01)
    # What was being written when its sender was sent away was kept after all: coming again, it is told so.
    again = await append(store, stuck)
    assert not again.fresh
    assert again.entry == heard[1]


async def test_a_disk_that_hangs_does_not_keep_the_node_from_stopping(path: Path, disk: FaultyDisk) -> None:
    bounds = Bounds(stall_seconds=0.2)
    store = SqliteStore(
        path, revive=revive, on_append=ignore, clock=SystemClock(), bounds=bounds, vfs=disk.name
    )
    await store.__aenter__()
    parts = store._parts
    hang = Hang()
    disk.on_sync = hang
    stuck = asyncio.ensure_future(append(store, make_alert()))
    await asyncio.to_thread(hang.began.wait, 10)
    try:
        async with asyncio.timeout(5):
            await store.__aexit__()
        with pytest.raises(StoreError, match="not open"):
            await store.check()
    finally:
        hang.end()
    await asyncio.gather(stuck, return_exceptions=True)
    await asyncio.to_thread(parts._close_files)


async def test_a_write_too_large_for_the_disk_does_not_harm_its_neighbours(
    path: Path, heard: list[Entry]
) -> None:
    async with SqliteStore(path, revive=revive, on_append=heard.extend, clock=SystemClock()) as store:
        first = make_alert()
        await append(store, first)
        db = store._parts.writer._db
        db.pragma("max_page_count", db.pragma("page_count") + 8)
        big = "大" * 200_000
        mixed = [
            make_alert(),
            make_alert(description=big),
            make_alert(),
            make_alert(description=big, msg_type="Update", references=[first]),
            make_alert(msg_type="Update", references=[first]),
        ]
        answers = await asyncio.gather(*(append(store, alert) for alert in mixed), return_exceptions=True)
        assert [type(answer) for answer in answers] == [
            Appended,
            Unavailable,
            Appended,
            Unavailable,
            Appended,
        ]
        assert all("full" in str(answer) for answer in answers if isinstance(answer, Unavailable))
        assert heard == await store.read(None, 10)
        assert [entry.alert.id for entry in heard[1:]] == [mixed[0].id, mixed[2].id, mixed[4].id]


async def test_damage_found_while_writing_closes_the_store_for_writing(
    store: SqliteStore, disk: FaultyDisk
) -> None:
    await append(store, make_alert())
    disk.on_write = failing(apsw.CorruptError, "wal")
    with pytest.raises(StoreError, match="damaged"):
        await append(store, make_alert())
    disk.heal()
    with pytest.raises(StoreError, match="damaged"):
        await append(store, make_alert())
    with pytest.raises(StoreError, match="damaged"):
        await store.check()
    assert len(await store.read(None, 10)) == 1


async def test_a_document_that_was_changed_on_disk_is_not_handed_out(path: Path) -> None:
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        entry = (await append(store, make_alert(headline="避難指示"))).entry
    with apsw.Connection(str(path)) as db:
        db.execute(
            "UPDATE entry SET raw = ?", (entry.alert.raw.replace("避難指示".encode(), "避難解除".encode()),)
        )
    db.close()
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        with pytest.raises(StoreError, match="damaged on disk"):
            await store.read(None, 10)


async def test_an_entry_that_can_no_longer_be_read_is_named(path: Path) -> None:
    def refuse(raw: bytes, jurisdiction: frozenset[str]) -> tuple[Alert, Facts]:
        raise ValueError("no longer known")

    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        position = (await append(store, make_alert())).entry.position
    async with SqliteStore(path, revive=refuse, on_append=ignore, clock=SystemClock()) as store:
        for _ in range(2):
            with pytest.raises(StoreError, match=position):
                await store.latest(10)


async def test_a_failure_of_ones_own_reaches_its_caller_and_nobody_else(path: Path) -> None:
    broken = make_alert()
    object.__setattr__(broken, "raw", "not bytes")
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        answers = await asyncio.gather(
            append(store, make_alert()),
            append(store, broken),
            append(store, make_alert()),
            return_exceptions=True,
        )
        assert [isinstance(answer, Exception) for answer in answers] == [False, True, False]
        assert not isinstance(answers[1], LalertError)
        assert len(await store.read(None, 10)) == 2


async def test_a_table_that_is_missing_is_not_blamed_on_the_disk(store: SqliteStore) -> None:
    def drop(db: apsw.Connection) -> None:
        db.execute("DROP TABLE attempt")

    await store._parts.writer.submit(drop, rows=1)
    with pytest.raises(StoreError, match=r"no such table: attempt.*restore the newest backup"):
        await store._parts.readers.ask(lambda db: db.execute("SELECT * FROM attempt").fetchall())


async def test_readers_that_wait_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lalert.store.sqlite.readers.MAX_WAITING", 5)
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        answers = await asyncio.gather(*(store.tenants() for _ in range(50)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {list, Unavailable}
        assert await store.tenants() == []


async def test_closing_on_a_failing_disk_loses_nothing_and_gives_the_lock_back(
    store: SqliteStore, path: Path, disk: FaultyDisk, heard: list[Entry]
) -> None:
    await append(store, make_alert())
    disk.on_sync = failing(apsw.IOError, "wal", "main")
    await store.__aexit__()
    disk.heal()
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as reopened:
        assert await reopened.read(None, 10) == heard


async def test_a_question_after_closing_is_refused(path: Path) -> None:
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        parts = store._parts
    with pytest.raises(StoreError, match="closed"):
        await parts.readers.ask(lambda _: None)
    with pytest.raises(StoreError, match="closed"):
        await parts.writer.submit(lambda _: None)


async def test_a_writer_that_dies_tells_all_who_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        await append(store, make_alert())

        def die(*_: object) -> None:
            raise SystemError("the thread is gone")

        monkeypatch.setattr(store._parts.writer, "_commit", die)
        answers = await asyncio.gather(
            *(append(store, make_alert()) for _ in range(5)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {StoreError}
        with pytest.raises(StoreError, match="died"):
            await store.check()


async def test_what_comes_in_one_turn_of_the_loop_is_one_commit(
    store: SqliteStore, disk: FaultyDisk, heard: list[Entry]
) -> None:
    syncs: list[str] = []
    disk.on_sync = syncs.append
    # The first goes at once, because nobody else may come; whoever comes with it shares a commit, and so does the next crowd.
    await asyncio.gather(*(append(store, make_alert()) for _ in range(11)))
    assert syncs.count("wal") <= 2
    syncs.clear()
    await asyncio.gather(*(append(store, make_alert()) for _ in range(7)))
    assert syncs.count("wal") == 1
    assert heard == await store.read(None, 100)
    assert [store.order(entry.position) for entry in heard] == [(n,) for n in range(1, 19)]
