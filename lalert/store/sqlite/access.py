"""What every group of tables needs: a way to write through the one writer and a way to ask the readers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, TypeVar, cast

import apsw

from lalert.clock import Clock
from lalert.store.sqlite.codec import offset_of
from lalert.store.sqlite.readers import Readers
from lalert.store.sqlite.statements import Row, Value, row, rows
from lalert.store.sqlite.writer import Work, Writer

T = TypeVar("T")


class Opened(Protocol):
    """The parts of a store that is open."""

    clock: Clock
    writer: Writer
    readers: Readers
    epoch: str
    newest: int


class Access(ABC):
    """Base of the groups of tables. Closed, every method raises `StoreError`."""

    @property
    @abstractmethod
    def _parts(self) -> Opened: ...

    async def _write(self, work: Work[T], *, rows: int = 1, size: int = 0) -> T:
        return cast("T", await self._parts.writer.submit(work, rows=rows, size=size))

    async def _ask(self, question: Callable[[apsw.Connection], T]) -> T:
        return await self._parts.readers.ask(question)

    async def _rows(self, sql: str, *values: Value) -> list[Row]:
        return await self._ask(lambda db: rows(db, sql, values))

    async def _row(self, sql: str, *values: Value) -> Row | None:
        return await self._ask(lambda db: row(db, sql, values))

    def _offset(self, position: str) -> int:
        parts = self._parts
        return offset_of(position, parts.epoch, parts.newest)
