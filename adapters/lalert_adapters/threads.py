"""Daemon threads for work that may never come back: a folder on a share that hangs, a library that cannot be cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from lalert.errors import TemporaryFailure

T = TypeVar("T")


class Threads:
    """Runs work in threads of its own, at most `limit` at once: what was given up counts until it ends by itself.

    The loop's own pool has few threads, and waits for them at the end of the process: what hangs there would stop more than one channel.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._under_way = 0

    @property
    def full(self) -> bool:
        """Say whether all threads are taken."""
        return self._under_way >= self._limit

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, or raise what it raises; whoever is cancelled leaves it running. Raises `TemporaryFailure` when all threads are taken."""
        if self.full:
            raise TemporaryFailure(f"all {self._limit} threads of the channel still work or hang")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def finish(tell: Callable[[], None]) -> None:
            self._under_way -= 1
            if not answer.done():
                tell()

        def call() -> None:
            try:
                tell = partial(answer.set_result, work())
            except BaseException as error:  # noqa: BLE001  # a library that exits must not leave somebody waiting for ever
                tell = partial(answer.set_exception, _carried(error))
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(finish, tell)

        self._under_way += 1
        try:
            threading.Thread(target=call, name=self._name, daemon=True).start()
        except RuntimeError:
            self._under_way -= 1
            raise TemporaryFailure("no thread is to be had now") from None
        return await answer


def _carried(error: BaseException) -> Exception:
    """Return the error as one that a future takes and nobody mistakes for the end of the process."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(type(error).__name__)
