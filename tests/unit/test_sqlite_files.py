"""The embedded store's file: private, locked, of this program, of this version, on an SQLite that can be trusted."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from lalert.clock import SystemClock
from lalert.errors import StoreError
from lalert.model import Tenant
from lalert.store.sqlite import SqliteStore
from lalert.store.sqlite.files import Lock, open_for_reading, open_for_writing, prepare, require_sound_sqlite
from lalert.store.sqlite.schema import APPLICATION_ID, STEPS, epoch_of, migrate
from lalert.testing import make_alert, revive
from lalert.testing.store import append, ignore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "lalert.db"


def opened(path: Path) -> SqliteStore:
    return SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock())


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "3.7.0", "3.51.2.9"])
def test_an_sqlite_that_can_lose_commits_is_refused_with_the_remedy(version: str) -> None:
    with pytest.raises(StoreError, match=rf"{version}.*WAL-reset.*3\.51\.3"):
        require_sound_sqlite(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.53.0", "3.54.1", "4.0.0"])
def test_a_sound_sqlite_is_taken(version: str) -> None:
    require_sound_sqlite(version)


async def test_files_are_nobody_elses_to_read(path: Path) -> None:
    before = os.umask(0)
    try:
        async with opened(path) as store:
            await append(store, make_alert())
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert set(modes) == {"lalert.db", "lalert.db-wal", "lalert.db-shm", "lalert.db.lock"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_one_file_is_open_once_and_the_refusal_names_the_process_and_the_remedy(path: Path) -> None:
    async with opened(path) as store:
        with pytest.raises(StoreError, match=rf"process {os.getpid()}\b.*one node.*directory of its own"):
            async with opened(path):
                pass
        with pytest.raises(StoreError, match="open already"):
            await store.__aenter__()
        await append(store, make_alert())
    async with opened(path) as store:
        assert len(await store.read(None, 10)) == 1


async def test_a_store_can_be_opened_again_after_it_was_closed(path: Path) -> None:
    store = opened(path)
    for number in range(3):
        async with store:
            await append(store, make_alert())
            assert len(await store.read(None, 10)) == number + 1


def test_the_lock_of_a_process_that_died_is_free(path: Path) -> None:
    prepare(path)
    code = (
        "import os, pathlib, sys; from lalert.store.sqlite.files import Lock;"
        "lock = Lock(pathlib.Path(sys.argv[1])); lock.acquire(); print(os.getpid(), flush=True); os.kill(os.getpid(), 9)"
    )
    died = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=False, capture_output=True, text=True, timeout=30
    )
    assert died.returncode == -9
    assert Path(f"{path}.lock").read_text().strip() == died.stdout.strip()
    lock = Lock(path)
    lock.acquire()
    assert Path(f"{path}.lock").read_text().strip() == str(os.getpid())
    lock.release()
    lock.release()


@pytest.fixture
def damaged(path: Path) -> Path:
    path.parent.mkdir()
    path.write_bytes(b"not a database, " * 1000)
    return path


async def test_a_store_that_cannot_be_opened_gives_its_lock_back(damaged: Path) -> None:
    for _ in range(2):
        with pytest.raises(StoreError, match=r"cannot be opened.*backup"):
            async with opened(damaged):
                pass


async def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with apsw.Connection(str(path)) as db:
        db.execute("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
    db.close()
    with pytest.raises(StoreError, match="another program"):
        async with opened(path):
            pass
    with apsw.Connection(str(path)) as db:
        assert db.execute("SELECT count(*) FROM theirs").get == 1
        assert db.pragma("user_version") == 0
    db.close()


async def test_a_place_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/lalert\.db.*permissions"):
        async with opened(tmp_path / "file" / "lalert.db"):
            pass


async def test_opening_that_is_cancelled_leaves_no_lock_behind(path: Path) -> None:
    opening = asyncio.ensure_future(opened(path).__aenter__())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    async with opened(path) as store:
        assert await store.read(None, 1) == []


async def test_closing_that_is_cancelled_still_closes(path: Path) -> None:
    store = opened(path)
    await store.__aenter__()
    appending = [asyncio.ensure_future(append(store, make_alert())) for _ in range(20)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(store.__aexit__())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    kept = {answer.entry.position for answer in await asyncio.gather(*appending)}
    async with opened(path) as again:
        assert {entry.position for entry in await again.read(None, 100)} == kept


def test_commits_are_synced_and_what_is_durable_is_stated(path: Path) -> None:
    prepare(path)
    db = open_for_writing(path, None)
    migrate(db)
    assert db.pragma("journal_mode") == "wal"
    assert db.pragma("synchronous") == 2
    assert db.pragma("foreign_keys") == 1
    assert db.pragma("fullfsync") == 1
    assert db.pragma("wal_autocheckpoint") == 0
    assert db.pragma("application_id") == APPLICATION_ID
    reading = open_for_reading(path, None)
    with pytest.raises(apsw.ReadOnlyError):
        reading.execute("DELETE FROM meta")
    reading.close()
    db.close()


@pytest.fixture
def db(path: Path) -> apsw.Connection:
    prepare(path)
    return open_for_writing(path, None)


def test_each_log_has_an_epoch_of_its_own(db: apsw.Connection, tmp_path: Path) -> None:
    migrate(db)
    other = open_for_writing(_prepared(tmp_path / "other.db"), None)
    migrate(other)
    assert len(epoch_of(db)) == 8
    assert epoch_of(db) != epoch_of(other)
    db.execute("DELETE FROM meta")
    with pytest.raises(StoreError, match="epoch"):
        epoch_of(db)
    db.close()
    other.close()


def test_a_file_is_brought_up_step_by_step_and_keeps_what_it_holds(db: apsw.Connection) -> None:
    migrate(db)
    epoch = epoch_of(db)
    ran: list[str] = []

    def add_a_table(db: apsw.Connection) -> None:
        ran.append("table")
        db.execute("CREATE TABLE later (x INTEGER) STRICT")

    def fill_it(db: apsw.Connection) -> None:
        ran.append("fill")
        db.execute("INSERT INTO later SELECT count(*) FROM meta")

    held = db.execute("SELECT count(*) FROM meta").get
    migrate(db, (*STEPS, add_a_table, fill_it))
    migrate(db, (*STEPS, add_a_table, fill_it))
    assert ran == ["table", "fill"]
    assert db.pragma("user_version") == len(STEPS) + 2
    assert db.execute("SELECT x FROM later").get == held
    assert epoch_of(db) == epoch
    db.close()


async def test_who_was_there_before_sender_policy_is_strict_and_unsigned(path: Path) -> None:
    prepare(path)
    db = open_for_writing(path, None)
    migrate(db, STEPS[:1])
    db.execute("INSERT INTO tenant VALUES ('town', '町', ?, ?, 0)", (b'["43"]', b'["*"]'))
    db.close()
    async with opened(path) as store:
        assert await store.tenants() == [Tenant("town", "町", frozenset({"43"}), ("*",))]


def test_a_step_that_fails_leaves_the_file_as_it_was(db: apsw.Connection) -> None:
    migrate(db)

    def fail(db: apsw.Connection) -> None:
        db.execute("CREATE TABLE half (x)")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        migrate(db, (*STEPS, fail))
    assert db.pragma("user_version") == len(STEPS)
    assert not db.table_exists(None, "half")
    migrate(db, (*STEPS, lambda _: None))
    assert db.pragma("user_version") == len(STEPS) + 1
    db.close()


def test_a_file_of_a_newer_program_is_refused_with_the_remedy(db: apsw.Connection) -> None:
    migrate(db, (*STEPS, lambda _: None))
    with pytest.raises(StoreError, match=r"newer lalert.*install"):
        migrate(db)
    db.close()


def _prepared(path: Path) -> Path:
    prepare(path)
    return path


def test_what_an_older_file_awaits_is_ranked_after_it_when_it_comes(db: apsw.Connection) -> None:
    migrate(db, STEPS[:1])
    db.execute("INSERT INTO entry VALUES (1, 'b', 5, 9, 1, 'Actual/x', NULL, 0, NULL, x'7b7d', x'00', x'00')")
    db.execute("INSERT INTO awaited VALUES ('a', 'Actual/x', 1)")
    migrate(db)
    assert list(db.execute("SELECT alert, scope, offset FROM refers")) == [("a", "Actual/x", 1)]
    db.close()
