"""A follower inside this process: the same order and the same promises as a stream, without a socket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from types import TracebackType
from typing import Final, Self

from lalert.errors import Unavailable, UnknownPosition
from lalert.live.audience import Audience
from lalert.live.fanout import FanOut, Log
from lalert.live.window import Heard, Mark
from lalert.model import Entry, Filter

MAX_WAITING: Final = 1_000
"""As many ends wait for a follower that is slow; one that is slower is cut off."""


class Follower:
    """An async context manager and the iterator that it gives. It keeps a place in the log and at most one page of entries."""

    def __init__(
        self,
        log: Log,
        fan_out: FanOut,
        audience: Audience,
        filter: Filter,
        after: str | None,
        *,
        who: Hashable,
        page_entries: int,
    ) -> None:
        self._log = log
        self._fan_out = fan_out
        self._audience = audience
        self._filter = filter
        self._after = after
        self._who = who
        self._page_entries = page_entries
        self._at = fan_out.window.newest
        self._page: deque[Heard] = deque()
        self._caught_up = after is None
        self._news = asyncio.Event()

    async def __aenter__(self) -> AsyncIterator[Entry]:
        """Take the place in the log; raises `UnknownPosition` or `BadRequest` for a position that cannot be resumed from."""
        if self._after is None:
            self._at = self._fan_out.window.newest
        else:
            await self._log.reach(self._after)
            self._log.require_kept(self._after)
            self._at = Mark(self._log.order(self._after), self._after)
        self._end = self._fan_out.on_entry(self._news.set)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        while True:
            if not self._page:
                await self._read_on()
            mark, entry = self._page[0]
            wanted = await self._audience.concerns(self._filter, self._who, entry)
            # Moved on only after the last wait: cancelled before, the entry comes again instead of being lost.
            self._page.popleft()
            self._at = mark
            if wanted:
                return entry

    async def _read_on(self) -> None:
        while True:
            if self._fan_out.stopped:
                raise Unavailable("the hub is stopping; follow again from the last position", code="stopping")
            self._news.clear()
            window = self._fan_out.window
            page = window.after(self._at.order, self._page_entries)
            if page is None:
                page = await self._from_store(window.floor)
            elif len(page) < self._page_entries:
                self._caught_up = True
            if page:
                self._page.extend(page)
                return
            if self._at.order >= window.newest.order:
                await self._news.wait()

    async def _from_store(self, floor: Mark) -> list[Heard]:
        if self._caught_up:
            # Reading on from the store would serve, but hide for ever that somebody cannot keep up.
            raise Unavailable(
                "this follower fell too far behind; follow again from the last position", code="too-slow"
            )
        page = await self._log.read(self._at.position, self._page_entries)
        try:
            self._log.require_kept(self._at.position)
        except UnknownPosition as error:
            raise Unavailable(
                "this follower fell too far behind; follow again from the last position", code="too-slow"
            ) from error
        if not page:
            # Positions may be missing, entries are not: there are none up to where the window begins.
            self._at = floor
        return [Heard(Mark(self._log.order(entry.position), entry.position), entry) for entry in page]


class EndFollower:
    """An async context manager and the iterator that it gives: what ends by itself while it is open."""

    def __init__(self, fan_out: FanOut, audience: Audience, filter: Filter, who: Hashable) -> None:
        self._fan_out = fan_out
        self._audience = audience
        self._filter = filter
        self._who = who
        self._waiting: deque[Entry] = deque()
        self._too_slow = False
        self._news = asyncio.Event()

    async def __aenter__(self) -> AsyncIterator[Entry]:
        self._leave = (self._fan_out.on_end(self._hear), self._fan_out.on_entry(self._news.set))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for leave in self._leave:
            leave()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        while True:
            self._news.clear()
            while self._waiting:
                wanted = await self._audience.concerns(self._filter, self._who, self._waiting[0])
                entry = self._waiting.popleft()
                if wanted:
                    return entry
            if self._fan_out.stopped:
                raise Unavailable("the hub is stopping; follow again", code="stopping")
            if self._too_slow:
                raise Unavailable("this follower fell too far behind; follow again", code="too-slow")
            await self._news.wait()

    def _hear(self, entry: Entry) -> None:
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(entry)
        else:
            self._too_slow = True
        self._news.set()
