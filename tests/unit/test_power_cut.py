"""The power is cut at random points of a store's work: what it has promised is there, and the file is sound."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from lalert.store.sqlite import files
from lalert.store.sqlite.checkpoints import Checkpoints
from tests.unit.power_cut import (
    FILE,
    SURVIVALS,
    PowerCut,
    Survival,
    cut_again_and_again,
    keep_the_log_small,
    nothing,
)


@pytest.fixture(autouse=True)
def small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_the_log_small(monkeypatch)


@pytest.mark.parametrize("survival", SURVIVALS)
@pytest.mark.parametrize("sync_fails", [0.0, 0.05], ids=["", "syncs-fail"])
async def test_what_was_promised_is_there_after_the_power_was_cut(
    tmp_path: Path, survival: Survival, sync_fails: float
) -> None:
    promised, done = await cut_again_and_again(tmp_path, random.Random(7), survival, sync_fails, 10)
    assert promised.alerts
    # The cuts fell into all of its work, moving and beginning the log anew included.
    assert {"write lalert.db", "sync lalert.db", "write lalert.db-wal", "sync lalert.db-wal"} <= set(done)


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
