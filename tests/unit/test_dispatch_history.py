"""Attempts on their way to the store: in batches, bounded, and in order after the store was full."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from structlog.testing import capture_logs

from lalert.clock import SystemClock
from lalert.dispatch import history
from lalert.dispatch.history import BATCH, PAUSE_S, WAITING, History
from lalert.errors import Unavailable
from lalert.store import ATTEMPTS_KEPT, Attempt
from lalert.store.sqlite import SqliteStore
from lalert.testing import FakeClock, revive
from lalert.testing.store import attempt, ignore


class Book:
    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.full = False

    @property
    def numbers(self) -> list[int]:
        return [number for batch in self.batches for number in batch]

    async def add_attempts(self, attempts: Sequence[Attempt]) -> None:
        if self.full:
            raise Unavailable("the disk is full")
        self.batches.append([each.number for each in attempts])

    async def attempts(self, key: str) -> list[Attempt]:
        raise NotImplementedError(key)


async def test_what_gathers_is_written_together() -> None:
    book, clock = Book(), FakeClock()
    kept = History(book, clock)
    running = asyncio.create_task(kept.run())
    for number in range(BATCH + 1):
        kept.note(attempt("k", number))
    await asyncio.sleep(0)
    assert book.batches == []
    await clock.advance(history.GATHER_S)
    assert [len(batch) for batch in book.batches] == [BATCH, 1]
    running.cancel()


async def test_while_the_store_is_full_the_newest_are_kept_and_it_is_said_once() -> None:
    book, clock = Book(), FakeClock()
    kept = History(book, clock)
    running = asyncio.create_task(kept.run())
    book.full = True
    with capture_logs() as logs:
        for number in range(WAITING + 10):
            kept.note(attempt("k", number))
        await asyncio.sleep(0)
        await clock.advance(5 * PAUSE_S)
        kept.note(attempt("k", WAITING + 10))
        book.full = False
        await clock.advance(2 * PAUSE_S)
    assert len(logs) == 1
    assert book.numbers == list(range(11, WAITING + 11))
    running.cancel()


async def test_the_embedded_store_forgets_what_is_older_than_a_month(tmp_path: Path) -> None:
    path = tmp_path / "lalert.db"
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        old = attempt("old", 1)
        await store.add_attempts([old])
        await store.add_attempts([Attempt("new", 1, old.began + ATTEMPTS_KEPT, 0.0, old.state, "")])
        assert len(await store.attempts("old")) == 1
        later = old.began + ATTEMPTS_KEPT + timedelta(seconds=1)
        await store.add_attempts([Attempt("new", 2, later, 0.0, old.state, "")])
        assert await store.attempts("old") == []
        assert len(await store.attempts("new")) == 2
