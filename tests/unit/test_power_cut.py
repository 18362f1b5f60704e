"""The power is cut at random points of a store's work: what it has promised is there, and the file is sound."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from lalert.clock import SystemClock
from lalert.errors import StoreError, Unavailable
from lalert.store.sqlite import SqliteStore, files
from lalert.store.sqlite.checkpoints import Checkpoints
from lalert.testing import revive
from lalert.testing.store import ignore
from tests.system.promises import Promised, check, write
from tests.unit.power_cut import SURVIVALS, PowerCut, Survival, nothing

FILE = "lalert.db"
CUTS_TO_A_FILE = 10


@pytest.fixture(autouse=True)
def small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is moved into the database all the time, so that the power is cut in the middle of that too."""
    monkeypatch.setattr("lalert.store.sqlite.checkpoints.SOON_PAGES", 4)
    monkeypatch.setattr("lalert.store.sqlite.checkpoints.FULL_PAGES", 24)
    monkeypatch.setattr("lalert.store.sqlite.checkpoints.IDLE_SECONDS", 0.005)
    monkeypatch.setattr("lalert.store.sqlite.files.WAL_KEPT_BYTES", 65_536)


@pytest.mark.parametrize("survival", SURVIVALS)
@pytest.mark.parametrize("sync_fails", [0.0, 0.05], ids=["", "syncs-fail"])
async def test_what_was_promised_is_there_after_the_power_was_cut(
    tmp_path: Path, survival: Survival, sync_fails: float
) -> None:
    seen = await cut_again_and_again(tmp_path, random.Random(7), survival, sync_fails, CUTS_TO_A_FILE)
    # The cuts fell into all of its work, moving and beginning the log anew included.
    assert {"write lalert.db", "sync lalert.db", "write lalert.db-wal", "sync lalert.db-wal"} <= set(seen)


def test_pages_that_a_failed_sync_has_lost_are_still_in_the_log(tmp_path: Path) -> None:
    """SQLite counts pages as moved before it has synced them, and syncs after the last pass only: when that fails, what earlier passes wrote is lost too."""
    path = tmp_path / "before" / FILE
    files.prepare(path)
    with PowerCut(random.Random(1), after=10**9) as disk:
        db, other = files.open_for_writing(path, disk.name), files.open_for_reading(path, disk.name)
        db.execute("CREATE TABLE t (number INTEGER PRIMARY KEY, text TEXT)")
        moving = Checkpoints(files.open_for_checkpoints(path, disk.name))

        def add(first: int) -> None:
            db.executemany("INSERT INTO t VALUES (?, ?)", [(first + n, "x" * 5_000) for n in range(20)])

        add(0)
        other.execute("BEGIN; SELECT count(*) FROM t").fetchall()
        add(100)
        moved = moving._move(moving._db)
        assert 0 < moved < db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0], "a pass to the middle"
        other.execute("COMMIT")
        disk.failing = FILE
        moving._move(moving._db)
        disk.failing = ""
        moving._move(moving._db)
        for first in range(200, 1_000, 100):
            add(first)
        disk.leave(tmp_path / "after", nothing)
        files.close(other)
        moving.close()
        files.close(db)
    with closing(apsw.Connection(str(tmp_path / "after" / FILE))) as left:
        assert left.pragma("integrity_check") == "ok"
        assert left.execute("SELECT count(*) FROM t").get == 200


@pytest.mark.slow
@pytest.mark.timeout(7_200)
async def test_what_was_promised_is_there_after_thousands_of_cuts(tmp_path: Path) -> None:
    for number in range(250):
        for survival in SURVIVALS:
            seed = random.randrange(2**32)
            print(f"{survival.__name__}: seed {seed}")
            folder = tmp_path / f"{number}-{survival.__name__}"
            dice = random.Random(seed)
            await cut_again_and_again(folder, dice, survival, dice.choice([0.0, 0.02, 0.2]), CUTS_TO_A_FILE)


async def cut_again_and_again(
    folder: Path, dice: random.Random, survival: Survival, sync_fails: float, times: int
) -> Counter[str]:
    """Cut the power of a file so many times, each time on what the last cut has left; returns how often each operation was done."""
    promised = Promised()
    seen: Counter[str] = Counter()
    for number in range(times):
        before, after = folder / f"{number}", folder / f"{number + 1}"
        with PowerCut(dice, after=int(10 ** dice.uniform(0.5, 3)), sync_fails=sync_fails) as disk:
            await work(before / FILE, disk, promised)
            disk.leave(after, survival)
        seen.update(disk.operations)
        await check(after / FILE, promised)
    assert promised.alerts
    return seen


async def work(path: Path, disk: PowerCut, promised: Promised) -> None:
    """Write until the power is gone, wherever that may be; what failed of it is nobody's promise."""
    store = SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock(), vfs=disk.name)
    with contextlib.suppress(StoreError, Unavailable):
        async with store:
            writing = asyncio.ensure_future(write(store, promised.take))
            try:
                async with asyncio.timeout(30):
                    while not disk.gone.is_set():
                        await asyncio.sleep(0.002)
                await asyncio.sleep(0.002)  # for answers that are on their way
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
