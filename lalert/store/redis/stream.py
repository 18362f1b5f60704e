"""The log on a stream: appending, the mark up to which it is on disk, and following it.

An entry can be read from the stream before it is on disk. So nobody is told of it until the committed mark has passed it: each writer moves
the mark once WAITAOF has answered, and where a writer died before it could, whoever sees entries wait does so in its place. What is confirmed on
one connection is so for everything written before it by whomever, because the server's append-only file has one order.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError

from lalert.clock import Clock
from lalert.errors import LalertError
from lalert.model import LARGE_BYTES
from lalert.store.redis.entries import FORGET, Unreadable, decode, id_of, offset_of
from lalert.store.redis.keys import LOG, MARKS, META
from lalert.store.redis.scripts import Script
from lalert.store.redis.wire import Wire
from lalert.store.sqlite.log import Columns, NewEntry
from lalert.store.sqlite.view import LogView

FRESH, REPEAT, CONFLICT = 1, 0, -1

APPEND: Final = Script(
    "append",
    """
    -- KEYS: log, ids. ARGV: the alert's id, the digest of its bytes, the entry's fields.
    local known = redis.call('HGET', KEYS[2], ARGV[1])
    if known then
      -- Written again, so that whoever repeats waits for the disk as the first one did.
      redis.call('HSET', KEYS[2], ARGV[1], known)
      local digest, position = string.match(known, '^(%x+) (.+)$')
      return {digest == ARGV[2] and 0 or -1, position}
    end
    local position = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 3))
    redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. position)
    return {1, position}
    """,
    idempotent=True,
)

PAGE: Final = 500
"""Entries in one look into the stream, at most: about 2 MB of ordinary ones."""
PAGE_BYTES: Final = 8 * 1024 * 1024
"""So much of documents in one look, about: the server knows a bound by number alone, so the number follows from what came last."""
FIRST_PAGE: Final = 8
AHEAD_BYTES: Final = 32 * 1024 * 1024
"""So much of documents may wait for the view before no more is read."""
BREATH_SECONDS: Final = 0.05
"""How long it is waited for room, or for marks, where as much waits."""
READ_AT_ONCE: Final = 32
"""Documents of other nodes that are read in one go in a thread: each go costs a turn of the loop, which is more than an ordinary document."""
BLOCK_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 3.0
"""How long the server may be silent beyond what it was asked to wait."""
RETRY_SECONDS: Final = 0.2
STANDING_SECONDS: Final = 1.0
ORPHAN_SECONDS: Final = 0.25
"""How long entries wait for their writer to move the mark, before another does."""

logger = logging.getLogger(__name__)

Fields = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What stands in the stream at `offset` in place of an alert: these entries, if any, are no longer kept."""

    offset: int
    offsets: tuple[int, ...]


class Follower:
    """Reads the stream and gives the view what is committed, in order, once; for the loop's thread alone.

    `settle` is asked to make durable whatever the stream holds, and returns up to where that is so.
    """

    def __init__(
        self,
        dial: Callable[[], Awaitable[Wire]],
        view: LogView,
        clock: Clock,
        *,
        greet: Callable[[Wire], Awaitable[None]],
        settle: Callable[[], Awaitable[int]],
        marked: Callable[[Fields], None],
    ) -> None:
        self._dial = dial
        self.view = view
        self._clock = clock
        self._greet = greet
        self._settle = settle
        self._marked = marked
        self._wire: Wire | None = None
        self.read = 0
        """The offset up to which the stream was read."""
        self.committed = 0
        self._marks = "0-0"
        self._checked = -math.inf
        self._page = FIRST_PAGE
        self._waiting: deque[Columns | Forgotten] = deque()
        self._waiting_bytes = 0
        self._own: dict[str, NewEntry] = {}
        self._oldest_wait = 0.0
        self._moved = asyncio.Event()
        self._advanced = asyncio.Event()

    def expect(self, new: NewEntry) -> None:
        """Take note of an entry that this node is about to append: it need not be read again when it comes by the stream."""
        self._own[new.id] = new

    def forget(self, new: NewEntry) -> None:
        self._own.pop(new.id, None)

    def commit(self, offset: int) -> None:
        """Take note that everything up to `offset` is on disk."""
        if offset > self.committed:
            self.committed = offset
            self._moved.set()

    def doubt(self, last: int) -> None:
        """Take nothing after `last` for committed: there the log of this server ends. Where it has gone on meanwhile, the marks say so again."""
        self.committed = min(self.committed, last)

    def rewind(self, offset: int) -> None:
        """Forget what was read after `offset` and is not committed: the log no longer has it."""
        while self._waiting and (self._waiting[-1].offset or 0) > offset:
            self._waiting_bytes -= _size(self._waiting.pop())
        self.read = max(self.view.offset, min(self.read, offset))
        self.committed = min(self.committed, self.read)

    async def caught_up(self) -> None:
        """Wait until the view has all that was read and is committed."""
        await self.wait_for(
            max(
                (each.offset or 0 for each in self._waiting if (each.offset or 0) <= self.committed),
                default=0,
            )
        )

    async def wait_for(self, offset: int) -> None:
        """Wait until the view has come to `offset`."""
        while self.view.offset < offset:
            advanced = self._advanced
            await advanced.wait()

    async def load(self, upto: int) -> None:
        """Read history up to a committed offset; nobody is told of it."""
        wire = await self._connected()
        while self.read < upto:
            count = self._page
            page = await wire.call(
                "XRANGE", LOG, f"({id_of(self.read)}", id_of(upto), "COUNT", count, seconds=ANSWER_SECONDS
            )
            read = [_readable(stream_id, mapping(fields)) for stream_id, fields in page]
            self._measure(sum(map(_size, read)), len(read))
            self.read = offset_of(page[-1][0]) if len(page) == count else upto
            entries: list[Columns] = []
            for found in read:
                if isinstance(found, Forgotten):
                    await self.view.load(entries, found.offset)
                    await self.view.forget(found.offsets, found.offset)
                    entries = []
                elif found is not None:
                    entries.append(found)
            await self.view.load(entries, self.read)
        self.committed = max(self.committed, upto)

    async def run(self) -> None:
        """Follow until cancelled; a connection that is lost is made again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep(self._read_on))
            group.create_task(self._keep(self._apply))
            group.create_task(self._keep(self._look_after_orphans))

    async def close(self) -> None:
        if self._wire is not None:
            await self._wire.close()

    async def _keep(self, work: Callable[[], Awaitable[None]]) -> None:
        cause = ""
        while True:
            try:
                await work()
            except (RedisError, OSError, TimeoutError, LalertError) as error:
                if str(error) != cause:
                    cause = str(error)
                    logger.warning("the log cannot be followed; it is tried again: %s", error)
            except Exception as error:
                if repr(error) != cause:
                    cause = repr(error)
                    logger.exception("a defect in following the log; it is begun again")
            await self._clock.sleep(RETRY_SECONDS)

    async def _connected(self) -> Wire:
        if self._wire is not None and self._wire.usable:
            return self._wire
        if self._wire is not None:
            await self._wire.close()
        wire = await self._dial()
        try:
            await self._greet(wire)
        except BaseException:
            await wire.close()
            raise
        # Marks are read from the first that is kept: after a fail-over their ids may begin lower.
        self._wire, self._marks = wire, "0-0"
        return wire

    async def _read_on(self) -> None:
        while True:
            wire = await self._connected()
            await self._check_standing(wire)
            seconds, streams = BLOCK_SECONDS, [LOG, MARKS, id_of(self.read), self._marks]
            if self._waiting_bytes >= AHEAD_BYTES:
                seconds, streams = BREATH_SECONDS, [MARKS, self._marks]
            block = int(seconds * 1000)
            try:
                answer = await wire.call(
                    "XREAD",
                    "COUNT",
                    self._page,
                    "BLOCK",
                    block,
                    "STREAMS",
                    *streams,
                    seconds=seconds + ANSWER_SECONDS,
                )
            except TimeoutError:
                self._page = max(1, self._page // 2)
                raise
            for stream, items in answer or ():
                if stream == LOG.encode():
                    before = self._waiting_bytes
                    for stream_id, fields in items:
                        self._take(stream_id, mapping(fields))
                    self._measure(self._waiting_bytes - before, len(items))
                else:
                    for stream_id, fields in items:
                        self._marks = stream_id.decode()
                        self._mark(mapping(fields))

    async def _check_standing(self, wire: Wire) -> None:
        """See now and then that this is still the primary and the log that is known: who was not reading just then was told of neither."""
        now = self._clock.monotonic()
        if now - self._checked < STANDING_SECONDS:
            return
        role = await wire.call("ROLE", seconds=ANSWER_SECONDS)
        if role[0] != b"master":
            await wire.close()
            raise Lost(f"{wire.place} is no primary now")
        if (epoch := await wire.call("HGET", META, "epoch", seconds=ANSWER_SECONDS)) is not None:
            self._marked({b"epoch": epoch})
        self._checked = now

    def _measure(self, size: int, count: int) -> None:
        """Let the next page be as large as what came last says: `size` bytes of documents in `count` entries."""
        fitting = PAGE_BYTES * count // max(1, size)
        self._page = max(1, min(PAGE, fitting, self._page * 2))

    def _take(self, stream_id: bytes, fields: Fields) -> None:
        columns, offset = _readable(stream_id, fields), offset_of(stream_id)
        if columns is None:
            columns = Forgotten(offset, ())  # nothing is there
        own = None if isinstance(columns, Forgotten) else self._own.pop(columns.id, None)
        if (
            own is not None
            and isinstance(columns, Columns)
            and (own.digest, own.about) == (columns.digest, columns.about)
        ):
            own.offset, own.stored = offset, columns.stored
            columns = own
        if not self._waiting:
            self._oldest_wait = self._clock.monotonic()
        self._waiting.append(columns)
        self._waiting_bytes += _size(columns)
        self.read = offset
        self._moved.set()

    def _mark(self, fields: Fields) -> None:
        if (upto := fields.get(b"upto")) is not None:
            self.commit(offset_of(upto))
        if b"epoch" in fields:
            # Which one holds now is asked: this may be a mark from before another.
            self._checked = -math.inf
        else:
            self._marked(fields)

    async def _apply(self) -> None:
        while True:
            self._moved.clear()
            batch = self._committed_batch()
            if not batch:
                self._read_ahead()
                await self._moved.wait()
                continue
            if isinstance(batch[0], Forgotten):
                await self.view.forget(batch[0].offsets, batch[0].offset)
            else:
                await self.view.apply(await self._revived(batch))
            self.view.passed(batch[-1].offset or 0)
            # Only now: what fails is begun again with the same entries. Meanwhile the line may have been cut short (`rewind`).
            applied = batch[-1].offset or 0
            while self._waiting and (self._waiting[0].offset or 0) <= applied:
                self._waiting_bytes -= _size(self._waiting.popleft())
            self._oldest_wait = self._clock.monotonic()
            self._advanced.set()
            self._advanced = asyncio.Event()

    def _committed_batch(self) -> list[Columns] | list[Forgotten]:
        """Return what is to be applied next: alerts, or alone what says that some are forgotten."""
        batch: list[Columns] = []
        for columns in self._waiting:
            assert columns.offset is not None
            if columns.offset > self.committed or len(batch) == PAGE:
                break
            if isinstance(columns, Forgotten):
                return batch or [columns]
            batch.append(columns)
        return batch

    def _read_ahead(self) -> None:
        """Read a lone alert's document while it waits for the disk."""
        if len(self._waiting) == 1:
            [columns] = self._waiting
            if isinstance(columns, Columns) and _quick(columns) and (read := self._read_again([columns])):
                self._waiting[0] = read[0]

    async def _revived(self, batch: Sequence[Columns]) -> list[NewEntry]:
        if len(batch) == 1 and _quick(batch[0]):
            return self._read_again(batch)
        news: list[NewEntry] = []
        for start in range(0, len(batch), READ_AT_ONCE):
            some = batch[start : start + READ_AT_ONCE]
            own = [columns for columns in some if isinstance(columns, NewEntry)]
            news += own if len(own) == len(some) else await asyncio.to_thread(self._read_again, some)
        return news

    def _read_again(self, some: Sequence[Columns]) -> list[NewEntry]:
        news: list[NewEntry] = []
        for columns in some:
            try:
                news.append(columns if isinstance(columns, NewEntry) else self.view.revived(columns))
            except Exception as error:  # noqa: BLE001  # whatever is wrong with one document
                logger.error("an entry of the log is passed over: %s", error)
        return news

    async def _look_after_orphans(self) -> None:
        while True:
            await self._clock.sleep(ORPHAN_SECONDS)
            waiting = self._waiting and self._waiting[-1].offset
            if (
                waiting
                and waiting > self.committed
                and self._clock.monotonic() - self._oldest_wait >= ORPHAN_SECONDS
            ):
                self.commit(await self._settle())


def _size(columns: Columns | Forgotten | None) -> int:
    return len(columns.raw) if isinstance(columns, Columns) else 0


def _quick(columns: Columns) -> bool:
    """Say whether a document is read where the loop is, as by the node that took it: a thread would take longer to ask."""
    return len(columns.raw) <= LARGE_BYTES


def _readable(stream_id: bytes, fields: Fields) -> Columns | Forgotten | None:
    try:
        if (gone := fields.get(FORGET.encode())) is not None:
            return Forgotten(offset_of(stream_id), tuple(orjson.loads(gone)))
        return decode(stream_id, fields)
    except Unreadable as error:
        logger.error("an entry of the log is passed over: %s", error)
        return None


def mapping(fields: Sequence[bytes]) -> Fields:
    return dict(zip(fields[::2], fields[1::2], strict=True))
