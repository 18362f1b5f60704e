"""The store of many nodes: a stream of Redis or Valkey is the log, and each node keeps a view of it to answer from.

docs/nodes.md says how the nodes work together, docs/adr/0008-a-view-for-each-node.md why so.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from lalert.clock import Clock
from lalert.errors import BadRequest, Conflict, StoreError, Unavailable, UnknownPosition
from lalert.model import Alert, Changes, Entry, Facts, Origin
from lalert.store import Appended, Foreseen, OnAppend, Revive, Store
from lalert.store.redis import repair
from lalert.store.redis.backup import BackupTables
from lalert.store.redis.entries import encode, id_of
from lalert.store.redis.entries import offset_of as offset_of_id
from lalert.store.redis.finding import Finder, parse_url
from lalert.store.redis.keys import FORMAT, IDS, LAST, LOG, MARKS, MARKS_KEPT, META, TRIMMED
from lalert.store.redis.ledger import RedisLedger
from lalert.store.redis.link import Bounds, Durability, Link
from lalert.store.redis.retention import FORGOTTEN
from lalert.store.redis.scripts import Script
from lalert.store.redis.server import require_sound_server
from lalert.store.redis.stream import APPEND, CONFLICT, FRESH, Fields, Follower
from lalert.store.redis.tickets import RedisShelf
from lalert.store.redis.wire import Wire
from lalert.store.sqlite import log
from lalert.store.sqlite.codec import offset_of as offset_in
from lalert.store.sqlite.opened import Memory, Open
from lalert.store.sqlite.view import LogView

__all__ = ["Bounds", "Finder", "RedisStore", "parse_url"]

logger = logging.getLogger(__name__)

CHECK_SECONDS: Final = 2.0
VIEW_SECONDS: Final = 5.0
"""How long a sender waits for this node's view to come to what is on disk already."""
REACH_SECONDS: Final = 2.0

_SETTLE: Final = Script(
    "settle",
    LAST
    + """
    -- KEYS: log, meta. What is written here comes after all that the log holds; once it is on disk, so is that.
    redis.call('HINCRBY', KEYS[2], 'settled', 1)
    return last(KEYS[1])
    """,
    idempotent=True,
    due=True,
)
_CANARY: Final = Script(
    "canary",
    f"""
    -- KEYS: meta, marks. ARGV: a token, which every follower then meets.
    redis.call('HSET', KEYS[1], 'canary', ARGV[1])
    return redis.call('XADD', KEYS[2], 'MAXLEN', {MARKS_KEPT}, '*', 'canary', ARGV[1])
    """,
    idempotent=True,
)


OnHint = Callable[[str, str], None]
"""Called on the event loop with the kind and subject of a hint that a node gave. Must not block, wait or raise."""


def _ignore(_kind: str, _subject: str) -> None:
    return


class RedisStore(BackupTables):
    """Keeps everything in Redis or Valkey, for any number of nodes; `path` is the file of this node's view, which is thrown away.

    `lost` is set when this process can never use the store again: the log has begun a new epoch, so every position that it has told is void.
    """

    def __init__(
        self,
        finder: Finder,
        path: Path,
        *,
        revive: Revive,
        on_append: OnAppend,
        clock: Clock,
        durability: Durability = "disk",
        replicas: int = 0,
        bounds: Bounds | None = None,
        memory: Memory | None = None,
        on_hint: OnHint = _ignore,
    ) -> None:
        self.lost = asyncio.Event()
        self._finder = finder
        self._path = path
        self._revive = revive
        self._on_append = on_append
        self._on_hint = on_hint
        self._clock = clock
        self._memory = memory
        self._durability: Durability = durability
        self._wait = ("WAITAOF", 1, replicas, int(REACH_SECONDS * 500)) if durability == "disk" else None
        self._link = Link(
            finder,
            durability=durability,
            replicas=replicas,
            bounds=bounds,
            on_connect=self._greet,
            on_confirmed=self._confirmed,
        )
        self._epoch = ""
        self._broken = ""
        self._view: LogView | None = None
        self._follower: Follower | None = None
        self._answering: set[asyncio.Future[Any]] = set()
        self._canaries: dict[bytes, asyncio.Future[None]] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(
                self._link
            )  # left by `__aexit__` before all others; twice is harmless
            self._view = await stack.enter_async_context(
                LogView(
                    self._path,
                    self._epoch,
                    revive=self._revive,
                    on_append=self._on_append,
                    clock=self._clock,
                    memory=self._memory,
                )
            )
            self._follower = Follower(
                self._link.dial,
                self._view,
                self._clock,
                greet=self._greet,
                settle=self._settle,
                marked=self._marked,
            )
            stack.push_async_callback(self._follower.close)
            await self._follower.load(await self._settle())
            self._view.parts.trimmed = int(await self._link.ask("GET", TRIMMED) or 0)
            following = asyncio.create_task(self._follower.run(), name="lalert-store-follower")
            stack.push_async_callback(_end, following)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        # First what was taken is written, then whoever waits for it is answered, and only then does the following end.
        await self._link.__aexit__(*exc)
        async with _no_longer_than(VIEW_SECONDS):
            while self._answering:
                await asyncio.wait(self._answering)
        await self._stack.aclose()
        self._view = self._follower = None

    async def check(self) -> None:
        token = secrets.token_hex(8).encode()
        met = self._canaries[token] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self._link.write(_CANARY, (META, MARKS), (token,))
                await met
                await self._following.caught_up()
        except TimeoutError as error:
            unseen = (
                "this node's view of the log does not go on"
                if met.done() and not met.cancelled()
                else "what is written is not seen in the log"
            )
            why = self._broken or self._link.trouble or unseen
            raise Unavailable(f"the store has not answered within {CHECK_SECONDS:g} s ({why})") from error
        finally:
            del self._canaries[token]

    async def append(
        self,
        alert: Alert,
        origin: Origin,
        received: datetime,
        facts: Facts,
        jurisdiction: frozenset[str],
        *,
        changes: Changes | None = None,
        correction: bool = False,
    ) -> Appended:
        new = log.prepare(alert, origin, received.astimezone(UTC), facts, jurisdiction, changes, correction)
        parts, view, follower = self._parts, self._opened_view, self._following
        await view.require_bounded(new)
        new.stored = self._clock.now()
        fields = encode(new)
        follower.expect(new)
        try:
            kind, stream_id = await self._link.write(
                APPEND,
                (LOG, IDS),
                (new.id, new.digest.hex(), *fields),
                urgent=True,
            )
        except BaseException:
            follower.forget(new)
            raise
        if kind != FRESH:
            follower.forget(new)
        if kind == CONFLICT:
            raise Conflict(log.conflict_of(new))
        seen = asyncio.ensure_future(parts.entries([offset_of_id(stream_id)]))
        self._answering.add(seen)
        seen.add_done_callback(self._answering.discard)
        try:
            async with asyncio.timeout(VIEW_SECONDS):
                found = await seen
        except TimeoutError as error:
            raise Unavailable(
                "it is stored, but this node cannot follow the log now; send it again to be sure"
            ) from error
        if not found:
            raise Unavailable("it was known, and has just been deleted; send it again")
        return Appended(found[0], fresh=kind == FRESH)

    async def foresee(
        self,
        alert: Alert,
        origin: Origin,
        received: datetime,
        facts: Facts,
        jurisdiction: frozenset[str],
        *,
        changes: Changes | None = None,
        correction: bool = False,
    ) -> Foreseen:
        # Another node may just have taken the same: then this one comes to know of it.
        await self.find(alert.id)
        return await super().foresee(
            alert, origin, received, facts, jurisdiction, changes=changes, correction=correction
        )

    def ledger(self, lease: float) -> RedisLedger:
        """Return where the nodes write down who holds which share, for `lease` seconds at a time."""
        return RedisLedger(self._link, lease)

    def shelf(self, seconds: float, most: int) -> RedisShelf:
        """Return where the nodes keep unused tickets, each for so many seconds and of one key no more than `most`."""
        return RedisShelf(self._link, seconds, most)

    def hint(self, kind: str, subject: str) -> None:
        """Tell every node's `on_hint`, this one's too, as far as the connection holds."""
        self._link.note("XADD", MARKS, "MAXLEN", MARKS_KEPT, "*", "hint", kind, "subject", subject)

    async def reach(self, position: str) -> None:
        parts = self._parts
        try:
            offset = offset_in(position, parts.epoch, 2**63 - 1)
        except (BadRequest, UnknownPosition):
            return
        # Only asked, never written: a position costs whoever invents it nothing.
        if offset > parts.newest and offset <= await self._end_of_log():
            await self._come_to(offset)

    async def find(self, alert_id: str) -> Entry | None:
        entry = await super().find(alert_id)
        if entry is None and (known := await self._link.ask("HGET", IDS, alert_id)) is not None:
            # Another node has just taken it: what refers to it, or asks for it, may come to this one at once.
            await self._come_to(offset_of_id(known.split()[1]))
            entry = await super().find(alert_id)
        return entry

    @property
    def storing(self) -> bool:
        return False  # the server makes it durable, and nobody's thread waits here

    @property
    def _parts(self) -> Open:
        if self._broken:
            raise Unavailable(self._broken, retry_after=1.0)
        return self._opened_view.parts

    @property
    def _opened_view(self) -> LogView:
        if self._view is None:
            raise StoreError("the store is not open")
        return self._view

    @property
    def _following(self) -> Follower:
        if self._follower is None:
            raise StoreError("the store is not open")
        return self._follower

    async def _end_of_log(self) -> int:
        """Return the offset of the last entry that there is, on disk or not yet."""
        last = await self._link.ask("XREVRANGE", LOG, "+", "-", "COUNT", 1)
        return offset_of_id(last[0][0]) if last else 0

    async def _settle(self) -> int:
        """Make durable what the log holds, and return up to where that is."""
        return offset_of_id(await self._link.write(_SETTLE, (LOG, META), (), urgent=True))

    async def _level(self, *, at_least: bool = False) -> int | None:
        upto = await self._settle()
        await self._come_to(upto)
        there = self._parts.newest
        return upto if there == upto or (at_least and there > upto) else None

    async def _come_to(self, offset: int) -> None:
        async with _no_longer_than(REACH_SECONDS):
            await self._following.wait_for(offset)

    def _confirmed(self, replies: Sequence[tuple[Script, Any]]) -> None:
        upto = 0
        for script, reply in replies:
            if script is APPEND and reply[0] != CONFLICT:
                upto = max(upto, offset_of_id(reply[1]))
            elif (script is _SETTLE or script is FORGOTTEN) and reply:
                upto = max(upto, offset_of_id(reply))
        if upto and self._follower is not None and upto > self._follower.committed:
            self._follower.commit(upto)
            self._link.note("XADD", MARKS, "MAXLEN", MARKS_KEPT, "*", "upto", id_of(upto))

    def _marked(self, fields: Fields) -> None:
        if (kind := fields.get(b"hint")) is not None:
            self._on_hint(kind.decode(), fields[b"subject"].decode())
        if fields.get(b"epoch", self._epoch.encode()) != self._epoch.encode():
            self._lose()
        met = self._canaries.get(fields.get(b"canary", b""))
        if met is not None and not met.done():
            met.set_result(None)

    # What is looked at on every new connection

    async def _greet(self, wire: Wire) -> None:
        """Make sure that this is the log that this node knows, as far as it knows it; put back what a fail-over has lost."""
        if self._broken:
            raise StoreError(self._broken)
        await require_sound_server(wire, self._durability)
        there = await repair.standing(wire, self._follower.read if self._follower is not None else 0)
        if there.format > FORMAT:
            raise StoreError(
                f"the store was written by a newer lalert (format {there.format}, this one knows {FORMAT}); upgrade this node"
            )
        if there.restoring:
            raise StoreError(
                "a backup is being restored into this Redis, or was not restored whole: lalert restore --force begins it anew"
            )
        if not self._epoch:
            self._epoch = there.epoch or await self._begin(wire)
        elif not there.epoch:
            # Keys and subscriptions are gone with it, and only a person can say what that means.
            raise StoreError(
                "Redis has lost everything that lalert kept in it: stop the nodes and restore the newest backup"
            )
        elif there.epoch != self._epoch:
            raise self._lose()
        elif self._follower is not None and there.has_ours:
            self._follower.doubt(there.last)
        elif self._follower is not None:
            epoch = await repair.put_back(wire, self._follower, there)
            if epoch != self._epoch:
                raise self._lose()
            if self._wait is not None:
                await wire.call(*self._wait, seconds=REACH_SECONDS)

    async def _begin(self, wire: Wire) -> str:
        await wire.call("HSETNX", META, "format", FORMAT, seconds=REACH_SECONDS)
        await wire.call("HSETNX", META, "epoch", secrets.token_hex(4), seconds=REACH_SECONDS)
        epoch: bytes = await wire.call("HGET", META, "epoch", seconds=REACH_SECONDS)
        return epoch.decode()

    def _lose(self) -> StoreError:
        if not self._broken:
            self._broken = "the log has begun a new epoch: this node begins again"
            logger.error(self._broken)
            self.lost.set()
        return StoreError(self._broken)


@asynccontextmanager
async def _no_longer_than(seconds: float) -> AsyncIterator[None]:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            yield


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


if TYPE_CHECKING:

    def _keeps_the_contract(store: RedisStore) -> Store:
        return store
