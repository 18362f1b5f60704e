"""A few threads with a read connection each, so that no query ever blocks the event loop."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import apsw

from lalert.errors import StoreError, Unavailable
from lalert.store.sqlite.files import close
from lalert.store.sqlite.statements import all_or_nothing

T = TypeVar("T")

MAX_WAITING: Final = 10_000
"""Questions under way or waiting, at most."""


class Readers:
    """Owns its connections; each question sees one state of the database."""

    def __init__(self, connections: Sequence[apsw.Connection]) -> None:
        self._all = connections
        self._free: queue.SimpleQueue[apsw.Connection] = queue.SimpleQueue()
        for connection in connections:
            self._free.put(connection)
        self._pool = ThreadPoolExecutor(len(connections), thread_name_prefix="lalert-store-reader")
        self._waiting = 0
        self._closed = False

    async def ask(self, question: Callable[[apsw.Connection], T]) -> T:
        """Return the answer of `question`, which runs in a reader's thread and may do work on what it reads there.

        Raises `Unavailable` when too many are waiting, `StoreError` when the file is damaged or the store closed.
        """
        if self._closed:
            raise StoreError("the store is closed")
        if self._waiting >= MAX_WAITING:
            raise Unavailable("too many readers are waiting for the disk")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, question)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the threads and close the connections; blocks until the questions under way are answered."""
        self._pool.shutdown(wait=True)
        for connection in self._all:
            close(connection)

    def refuse(self) -> None:
        """Take no more questions."""
        self._closed = True

    def _answer(self, question: Callable[[apsw.Connection], T]) -> T:
        connection = self._free.get()
        try:
            with all_or_nothing(connection):
                return question(connection)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise StoreError(
                f"the store is damaged ({error}): stop this node and restore the newest backup"
            ) from error
        except apsw.SQLError as error:
            raise StoreError(
                f"the store is not as this version made it ({error}): stop this node and restore the newest backup"
            ) from error
        except apsw.Error as error:
            raise Unavailable(f"the disk does not answer now ({error})", retry_after=5.0) from error
        finally:
            self._free.put(connection)
