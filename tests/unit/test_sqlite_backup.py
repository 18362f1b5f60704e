"""A backup is whole or absent, made while alerts come in; a restore takes nothing away and tells nobody twice."""

from __future__ import annotations

import asyncio
import fcntl
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from lalert.clock import SystemClock
from lalert.errors import BadRequest, Conflict, LalertError, StoreError, Unavailable, UnknownPosition
from lalert.model import Reading
from lalert.store import DeliveryState
from lalert.store.sqlite import SqliteStore
from lalert.store.sqlite.backup import back_up, restore
from lalert.store.sqlite.files import Lock, open_for_reading, open_for_writing, prepare
from lalert.store.sqlite.schema import STEPS, migrate
from lalert.testing import make_alert, revive
from lalert.testing.store import append, delivery, ignore, subscription
from tests.unit.faulty_disk import FaultyDisk, failing

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TABLES = (
    "entry",
    "link",
    "refers",
    "subscription",
    "delivery",
    "reading",
    "adapter_state",
    "sqlite_sequence",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "lalert.db"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "monday.lalert"


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    with FaultyDisk() as disk:
        yield disk


def opened(path: Path, vfs: str | None = None) -> SqliteStore:
    return SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock(), vfs=vfs)


async def fill(store: SqliteStore) -> None:
    """Keep some of everything."""
    first = make_alert()
    entry = (await append(store, first)).entry
    await append(store, make_alert(msg_type="Update", references=[first]))
    await append(store, make_alert())
    await store.save_subscription(subscription("s"), entry.position)
    await store.record([delivery("s-1", "s", entry.position, DeliveryState.RETRY)], {"s": entry.position})
    await store.append_readings("org", [Reading("gauge", NOW, level_m=1.5)], NOW)
    await store.put("adapter", "key", b"value")


def content(path: Path) -> dict[str, list[Any]]:
    with closing(open_for_reading(path, None)) as db:
        return {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}


def damage(path: Path, what: bytes) -> None:
    data = path.read_bytes()
    assert what in data
    path.write_bytes(data.replace(what, bytes(len(what))))


async def test_a_backup_is_one_private_file_with_everything_in_it(path: Path, target: Path) -> None:
    async with opened(path) as store:
        await fill(store)
        size = await store.backup(str(target))
        expected = content(path)
    assert content(target) == expected
    assert target.stat().st_size == size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(each.name for each in target.parent.iterdir()) == ["data", target.name]


@pytest.mark.parametrize(
    "megabytes", [24, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
async def test_appends_go_on_during_a_backup_and_none_waits_long(
    path: Path, target: Path, megabytes: int
) -> None:
    waits: list[float] = []
    async with opened(path) as store:
        for n in range(megabytes):
            await asyncio.gather(*(store.put("a", f"{n}-{m}", bytes([m]) * 62_500) for m in range(16)))
        copying = asyncio.ensure_future(store.backup(str(target)))
        while not copying.done():
            begun = time.monotonic()
            await append(store, make_alert())
            waits.append(time.monotonic() - begun)
        assert await copying > megabytes * 1_000_000
    waits.sort()
    print(
        f"{megabytes} MB: {len(waits)} appends meanwhile, longest {waits[-1] * 1e3:.1f} ms, p99 {waits[int(len(waits) * 0.99)] * 1e3:.1f} ms"
    )
    assert len(waits) >= 20
    assert waits[len(waits) // 2] < 0.1
    assert waits[-1] < 3.0
    # One state, of when it began: a few may have been quicker than it.
    async with opened(target) as copy:
        assert len(await copy.read(None, 1000)) == copy.order(copy.newest)[0] < 10


async def test_what_exists_is_replaced_only_by_force_and_never_the_store_itself(
    path: Path, target: Path
) -> None:
    target.write_text("mine")
    async with opened(path) as store:
        await fill(store)
        with pytest.raises(Conflict, match="--force"):
            await store.backup(str(target))
        assert target.read_text() == "mine"
        await store.backup(str(target), force=True)
        for name in (path, path.with_name("lalert.db-wal"), path.parent / ".." / "data" / "lalert.db"):
            with pytest.raises(Conflict, match="the store itself"):
                await store.backup(str(name), force=True)
        with pytest.raises(BadRequest, match="no folder"):
            await store.backup(str(target.parent / "away" / "file"))
        with pytest.raises(BadRequest, match="no plain file"):
            await store.backup(str(path.parent), force=True)
    assert content(target) == content(path)


@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError])
async def test_a_disk_that_fails_leaves_no_file_and_the_store_goes_on(
    path: Path, target: Path, disk: FaultyDisk, error: type[apsw.Error]
) -> None:
    async with opened(path, disk.name) as store:
        await fill(store)
        disk.on_write = failing(error, "main")
        with pytest.raises(Unavailable, match="the backup failed"):
            await store.backup(str(target))
        await append(store, make_alert())
        assert [each.name for each in target.parent.iterdir()] == ["data"]
        disk.heal()
        await store.backup(str(target))


async def test_a_backup_that_is_called_off_leaves_no_file(path: Path, target: Path, disk: FaultyDisk) -> None:
    began, go_on = threading.Event(), threading.Event()

    def wait(kind: str) -> None:
        if kind == "main":
            began.set()
            go_on.wait(10)

    async with opened(path, disk.name) as store:
        await asyncio.gather(*(store.put("a", str(m), bytes(62_500)) for m in range(60)))
        disk.on_write = wait
        copying = asyncio.ensure_future(store.backup(str(target)))
        assert await asyncio.to_thread(began.wait, 10)
        copying.cancel()
        await asyncio.sleep(0)
        disk.heal()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await copying
    assert [each.name for each in target.parent.iterdir()] == ["data"]


async def test_what_a_killed_backup_has_left_goes_with_the_next_and_what_another_writes_stays(
    path: Path, target: Path
) -> None:
    left = [
        target.with_name(f".{target.name}.{name}") for name in ("0badcafe.partial", "0badcafe.partial-wal")
    ]
    other = target.with_name(f".{target.name}.1badcafe.partial")
    for each in (*left, other):
        each.write_bytes(b"half")
    with other.open("rb") as writing:
        fcntl.flock(writing, fcntl.LOCK_SH)
        async with opened(path) as store:
            await store.backup(str(target))
    assert [each.exists() for each in (*left, other, target)] == [False, False, True, True]


async def test_a_damaged_store_gives_no_backup(path: Path, target: Path) -> None:
    async with opened(path) as store:
        await asyncio.gather(*(append(store, make_alert(identifier=f"page-{n}")) for n in range(60)))
    data = bytearray(path.read_bytes())
    for page in range(20, len(data) // 8192):
        data[page * 8192 : page * 8192 + 64] = b"\xff" * 64
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"damaged|cannot be copied"):
        back_up(path, target)
    assert not target.exists()


async def test_a_restored_hub_has_everything_under_a_new_epoch_and_owes_what_it_owed(
    path: Path, target: Path, tmp_path: Path
) -> None:
    async with opened(path) as store:
        await fill(store)
        old = store.newest
        await store.backup(str(target))
        [owed] = await store.unsettled()
        await append(store, make_alert())
    fresh = tmp_path / "new" / "lalert.db"
    fresh.parent.mkdir()
    restored = restore(target, fresh, now=NOW)
    assert (restored.entries, restored.damaged, restored.moved) == (3, (), None)
    assert restored.newest is not None
    assert content(fresh) == content(target)
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o600
    async with opened(fresh) as store:
        epoch = store.newest.split("-")[0]
        assert epoch != old.split("-")[0]
        assert store.newest == f"{epoch}-3"
        with pytest.raises(UnknownPosition):
            store.order(old)
        [lane] = await store.lanes()
        assert lane.cursor == f"{epoch}-1"
        [again] = await store.unsettled()
        assert (again.key, again.position, again.due) == (owed.key, f"{epoch}-1", owed.due)
        assert (await append(store, make_alert())).entry.position == f"{epoch}-4"
        [reading] = await store.append_readings(
            "org", [Reading("gauge", NOW + timedelta(hours=1), level_m=2)], NOW
        )
        assert reading is not None
        assert reading.number == 2


async def test_a_store_that_is_there_is_moved_aside_with_all_that_its_log_still_holds(
    path: Path, target: Path
) -> None:
    async with opened(path) as store:
        await append(store, make_alert())
        await store.backup(str(target))
    # As after kill -9: what was committed last is in the log beside the file alone.
    with closing(open_for_writing(path, None)) as keep:
        keep.execute("INSERT INTO adapter_state VALUES ('late', 'key', x'01')")
        spare = [(each, each.read_bytes()) for each in path.parent.glob("lalert.db*")]
    for each, data in spare:
        each.write_bytes(data)
    with pytest.raises(Conflict, match="--force"):
        restore(target, path, now=NOW)
    moved = restore(target, path, force=True, now=NOW).moved
    assert moved is not None
    assert moved.name.startswith("before-restore-20261124T120000Z")
    with closing(open_for_writing(moved / "lalert.db", None)) as old:
        assert old.execute("SELECT count(*) FROM adapter_state").get == 1
    assert content(path) == content(target)


async def test_a_restore_that_is_broken_off_anywhere_loses_nothing(
    path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as store:
        await fill(store)
        expected = content(path)
        await store.backup(str(target))
    real = Path.replace
    for fails_at in (1, 2):
        calls = 0

        def replace(self: Path, to: Path, fails_at: int = fails_at) -> Path:
            nonlocal calls
            calls += 1
            if calls == fails_at:
                raise OSError(5, "the disk of this test")
            return real(self, to)

        monkeypatch.setattr(Path, "replace", replace)
        with pytest.raises(LalertError, match="disk of this test"):
            restore(target, path, force=True, now=NOW)
        monkeypatch.setattr(Path, "replace", real)
        [whole] = [each for each in path.parent.rglob("lalert.db") if each.stat().st_size]
        assert content(whole) == expected
        assert not list(path.parent.glob(".*"))
        assert calls == fails_at
    restore(target, path, now=NOW)
    assert content(path) == expected


def test_a_store_that_a_node_holds_is_not_restored_into(path: Path, target: Path) -> None:
    prepare(path)
    lock = Lock(path)
    lock.acquire()
    with pytest.raises(StoreError, match="is held by process"):
        restore(target, path, force=True, now=NOW)
    lock.release()


@pytest.mark.parametrize(
    "what", ["text", "missing", "another program's", "newer", "cut off", "damaged", "torn"]
)
async def test_what_is_no_sound_backup_is_refused_and_changes_nothing(
    path: Path, target: Path, what: str
) -> None:
    async with opened(path) as store:
        await asyncio.gather(*(append(store, make_alert()) for _ in range(60)))
        await store.record([delivery("key-torn", "s", store.newest)], {})
        expected = content(path)
        await store.backup(str(target))
    match what:
        case "text":
            target.write_text("no database at all, but long enough to be taken for one" * 100)
        case "missing":
            target.unlink()
        case "cut off":
            target.write_bytes(target.read_bytes()[: 20 * 8192])
        case "damaged":
            data = bytearray(target.read_bytes())
            for page in range(20, len(data) // 8192):
                data[page * 8192 : page * 8192 + 64] = b"\xff" * 64
            target.write_bytes(data)
        case "torn":
            # A row whose index says otherwise: nothing but a whole check finds it.
            target.write_bytes(target.read_bytes().replace(b"key-torn", b"key-TORN", 1))
        case _:
            pragma = (
                "application_id = 7" if what.startswith("another") else f"user_version = {len(STEPS) + 1}"
            )
            with closing(apsw.Connection(str(target))) as db:
                db.execute(f"PRAGMA {pragma}")
    with pytest.raises(StoreError):
        restore(target, path, force=True, now=NOW)
    assert content(path) == expected
    assert {each.name.removesuffix("-wal").removesuffix("-shm") for each in path.parent.iterdir()} == {
        "lalert.db",
        "lalert.db.lock",
    }


def test_a_backup_of_an_older_version_is_brought_up_to_this_one(path: Path, target: Path) -> None:
    with closing(apsw.Connection(str(target))) as db:
        migrate(db, STEPS[:1])
    path.parent.mkdir()
    restore(target, path, now=NOW)
    with closing(open_for_reading(path, None)) as db:
        assert db.pragma("user_version") == len(STEPS)


async def test_documents_that_were_damaged_before_are_named(path: Path, target: Path, tmp_path: Path) -> None:
    async with opened(path) as store:
        await append(store, make_alert())
        await append(store, make_alert(headline="flip this"))
        await store.backup(str(target))
    damage(target, b"flip this")
    fresh = tmp_path / "new" / "lalert.db"
    fresh.parent.mkdir()
    assert restore(target, fresh, now=NOW).damaged == (2,)
