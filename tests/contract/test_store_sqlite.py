"""The embedded store keeps every promise of a store, on a real file."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from lalert.clock import Clock, SystemClock
from lalert.store import OnAppend, Store
from lalert.store.sqlite import Memory, SqliteStore
from lalert.testing import AuditContract, StoreContract, revive
from lalert.testing.keeping import KeepingContract
from lalert.testing.store import ignore


class TestSqliteStore(StoreContract, AuditContract, KeepingContract):
    """With everything in memory that a test can append."""

    memory = Memory()

    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "data" / "lalert.db"

    def open_store(
        self, *, on_append: OnAppend = ignore, clock: Clock | None = None
    ) -> AbstractAsyncContextManager[Store]:
        return SqliteStore(
            self.path, revive=revive, on_append=on_append, clock=clock or SystemClock(), memory=self.memory
        )


class TestSqliteStoreWithoutMemory(TestSqliteStore):
    """With next to nothing in memory, so that every answer comes from the disk."""

    memory = Memory(newest=1, newest_bytes=1, old=1, old_bytes=1)
