"""From a position to live: history from the window or the store, then into the group, with no moment in between in which an entry could be lost.

The lane's position is all that has to be agreed on. A connection is offered everything up to where its lane is, and enters its group in the
same step of the event loop in which it finds that it is there: what the lane begins with later reaches it live, what the lane
began with before it has read. So nothing has to be queued for those who are not ready yet, however long they take.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import orjson

from lalert.clock import Clock
from lalert.errors import BadRequest, UnknownPosition
from lalert.live import fanout, frames
from lalert.live.audience import Audience, Bodies
from lalert.live.connection import Connection, Lines
from lalert.live.fanout import FanOut
from lalert.live.frames import Close, Kind
from lalert.live.settings import LiveSettings
from lalert.live.window import Heard, Mark
from lalert.model import Entry

log = logging.getLogger(__name__)

SLICE_SECONDS: Final = 0.002
"""How long one resuming connection may keep the loop: half of what the fan-out may."""

PRESSED_SECONDS: Final = 0.05
"""How long it stands back after each slice while the fan-out has real alerts to tell: together they then take a sixth of the loop."""

SNAPSHOT_SECONDS: Final = 1.0
"""For how long one look at what is in force serves all who need it: after a change of epoch everybody does."""


AHEAD_SECONDS: Final = 0.01
"""How often somebody who is ahead of the fan-out looks whether it has come as far."""


class Log(fanout.Log, Protocol):
    """What resuming needs of the store besides."""

    async def active(self, now: datetime) -> list[Entry]: ...

    async def ended(self, after: datetime, upto: datetime, limit: int | None = None) -> list[str]: ...


class Drain(Protocol):
    """Waits until a connection has taken enough (`aiohttp.abc.AbstractStreamWriter`)."""

    async def drain(self) -> None: ...


class Gap(Exception):
    """What was asked for cannot be resumed, and why."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is in force when everything up to `mark` is considered; `taken` in monotonic seconds."""

    mark: Mark
    entries: tuple[Entry, ...]
    taken: float


class Resume:
    """Brings connections up to live."""

    def __init__(
        self,
        log: Log,
        fan_out: FanOut,
        audience: Audience,
        bodies: Bodies,
        lines: Lines,
        settings: LiveSettings,
        clock: Clock,
    ) -> None:
        self._log = log
        self._fan_out = fan_out
        self._audience = audience
        self._bodies = bodies
        self._lines = lines
        self._settings = settings
        self._clock = clock
        self._turns = asyncio.Semaphore(settings.catch_ups)
        self._taking = asyncio.Lock()
        self._snapshot: Snapshot | None = None
        self.under_way = 0
        self.gaps = 0

    def begin_now(self, conn: Connection) -> None:
        """Put a connection that asks for nothing of before into its group: it has nothing to wait for."""
        conn.at = conn.lane.at
        self._fan_out.join(conn)

    async def go_live(
        self, conn: Connection, after: str | None, drain: Drain, *, snapshot: bool = False
    ) -> None:
        """Offer a connection what it missed and put it into its group; returns early if it ends before that.

        `after` None means from now on, with `snapshot` after what is in force. A position that cannot be resumed from is answered by a gap
        and a snapshot.
        """
        if after is None and not snapshot:
            self.begin_now(conn)
            return
        self.under_way += 1
        try:
            await self._go_live(conn, after, drain, snapshot=snapshot)
        except ConnectionError:
            self._lines.detach(conn)
        except Exception:
            # On a WebSocket nobody else would hear of it.
            log.exception("a live connection could not be brought up to date")
            self._lines.cut(conn, Close.RESYNC, "the log cannot be read at the moment")
        finally:
            self.under_way -= 1

    def tick(self) -> None:
        """Let go of a snapshot that is too old to be used again."""
        if self._snapshot is not None and not self._fresh(self._snapshot):
            self._snapshot = None

    async def _go_live(self, conn: Connection, after: str | None, drain: Drain, *, snapshot: bool) -> None:
        gap: Gap | None = None
        told = False
        begun = self._clock.now()
        conn.beat_at = self._clock.monotonic()
        try:
            conn.at = conn.lane.at if after is None else await self._place(after)
        except Gap as found:
            gap = found
        while conn.open:
            try:
                if gap is not None or (snapshot and after is None):
                    await self._send_snapshot(conn, gap, after or "", drain)
                elif after is not None and not told:
                    told = True
                    await self._tell_missed_ends(conn, after, begun, drain)
                await self._catch_up(conn, drain)
                # What ended while it caught up; later ends reach it live.
                await self._tell_ended(conn, begun, self._fan_out.told, drain)
                return
            except Gap as found:
                gap = found

    async def _tell_missed_ends(self, conn: Connection, after: str, begun: datetime, drain: Drain) -> None:
        """Tell a connection, before anything else, what ended by itself of all that it was offered up to its position.

        When it was cut off nobody knows, but it was after its position came. So an end may be told twice, which harms nobody.
        """
        last = await self._log.entry(after)
        if last is None and any(conn.at.order):
            raise Gap("unknown", "the alert at that position is no longer kept")
        if last is not None and last.stored < begun:
            await self._tell_ended(conn, last.stored, begun, drain, known=conn.at)

    async def _tell_ended(
        self, conn: Connection, since: datetime, upto: datetime, drain: Drain, known: Mark | None = None
    ) -> None:
        """Tell a connection what ended by itself in a time; of what came after `known` it hears otherwise."""
        about, most = conn.about, self._settings.replay_limit
        limit = None if known is None else most + 1
        positions = await self._log.ended(since, upto, limit) if since < upto else []
        if known is not None and len(positions) > most:
            raise Gap("too-far", f"more than {most} alerts have ended since")
        for position in positions:
            if known is not None and self._log.order(position) > known.order:
                continue
            entry = await self._log.entry(position) if conn.open else None
            if entry is not None and await self._audience.concerns(about.filter, about.audience, entry):
                await self._bodies.prepare(entry, [(about.format, about.lang)])
                frame = self._bodies.frame(entry, about.format, about.lang, conn.wire, ended=conn.settled)
                self._lines.offer(conn, frame)
                if conn.transport.get_write_buffer_size() >= self._settings.drain_bytes:
                    await drain.drain()
            await self._stand_back()

    async def _place(self, after: str) -> Mark:
        try:
            await self._log.reach(after)
            self._log.require_kept(after)
            return Mark(self._log.order(after), after)
        except UnknownPosition as error:
            raise Gap("unknown", error.detail) from error
        except BadRequest as error:
            raise Gap("malformed", error.detail) from error

    async def _catch_up(self, conn: Connection, drain: Drain) -> None:
        examined = 0
        while conn.open:
            async with self._turns:
                examined += await self._read_on(conn)
                # Nothing waits between this look and the joining: that is what closes the race with the fan-out.
                if conn.at.order == conn.lane.at.order:
                    self._fan_out.join(conn)
                    return
            if examined > self._settings.replay_limit:
                raise Gap("too-far", f"more than {self._settings.replay_limit} alerts have come since")
            self._beat(conn)
            await drain.drain()
            if conn.at.order > conn.lane.at.order:
                # It has seen more than was fanned out here: on another node, by a query, in a snapshot.
                await self._clock.sleep(AHEAD_SECONDS)
            else:
                await self._stand_back()

    async def _read_on(self, conn: Connection) -> int:
        """Offer what comes next, until something has to be waited for; returns how many entries were examined."""
        about = conn.about
        target = conn.lane.at
        page = self._fan_out.window.after(conn.at.order, self._settings.page_entries)
        if page is None:
            page = await self._from_store(conn.at)
        now = asyncio.get_running_loop().time
        slice_end = now() + SLICE_SECONDS
        for examined, (mark, entry) in enumerate(page):
            if mark.order > conn.lane.at.order:
                return examined
            if await self._audience.concerns(about.filter, about.audience, entry):
                await self._bodies.prepare(entry, [(about.format, about.lang)])
                self._lines.offer(conn, self._bodies.frame(entry, about.format, about.lang, conn.wire))
            conn.at = mark
            if not conn.open or conn.transport.get_write_buffer_size() >= self._settings.drain_bytes:
                return examined + 1
            if now() >= slice_end:
                await self._stand_back()
                slice_end = now() + SLICE_SECONDS
        if len(page) < self._settings.page_entries and conn.at.order < target.order:
            # The log has no more up to where the lane was before the look: positions may be missing, entries are not.
            conn.at = target
        return len(page)

    async def _stand_back(self) -> None:
        await self._clock.sleep(PRESSED_SECONDS if self._fan_out.pressing else 0)

    async def _from_store(self, at: Mark) -> list[Heard]:
        try:
            page = await self._log.read(at.position, self._settings.page_entries)
            # After the reading: what was deleted before it is missing in the page.
            self._log.require_kept(at.position)
        except UnknownPosition as error:
            raise Gap("unknown", error.detail) from error
        return [Heard(Mark(self._log.order(entry.position), entry.position), entry) for entry in page]

    def _beat(self, conn: Connection) -> None:
        now = self._clock.monotonic()
        if now - conn.beat_at >= self._settings.heartbeat_s:
            conn.beat_at = now
            self._lines.offer(conn, self._lines.beats.frame(conn.wire, conn.at.position))

    async def _send_snapshot(self, conn: Connection, gap: Gap | None, requested: str, drain: Drain) -> None:
        snapshot = await self._take_snapshot()
        if gap is not None:
            self.gaps += 1
            self._lines.offer(
                conn, frames.gap(conn.wire, gap.reason, requested, snapshot.mark.position, gap.detail)
            )
        async with self._turns:
            entries = await self._wanted(conn, snapshot.entries)
        for entry in entries:
            await self._bodies.prepare(entry, [(conn.about.format, conn.about.lang)])
        parts = self._parts(conn, snapshot.mark, entries)
        conn.mid_event = True
        for piece in frames.pieces(conn.wire, Kind.SNAPSHOT, parts, snapshot.mark.position):
            self._lines.offer(conn, piece)
            await drain.drain()
            await self._stand_back()
            if not conn.open:
                return
        conn.mid_event = False
        conn.at = snapshot.mark

    async def _take_snapshot(self) -> Snapshot:
        async with self._taking:
            if self._snapshot is None or not self._fresh(self._snapshot):
                # The position first, then what is in force: what comes in between is left out here and told as an alert.
                mark = self._fan_out.window.newest
                active = await self._log.active(self._clock.now())
                known = tuple(entry for entry in active if self._log.order(entry.position) <= mark.order)
                self._snapshot = Snapshot(mark, known, self._clock.monotonic())
            return self._snapshot

    def _fresh(self, snapshot: Snapshot) -> bool:
        return self._clock.monotonic() - snapshot.taken < SNAPSHOT_SECONDS

    async def _wanted(self, conn: Connection, entries: Sequence[Entry]) -> list[Entry]:
        about = conn.about
        wanted: list[Entry] = []
        now = asyncio.get_running_loop().time
        slice_end = now() + SLICE_SECONDS
        for entry in entries:
            if not self._bodies.expired(entry) and self._audience.stands(about.filter, about.audience, entry):
                wanted.append(entry)
            if now() >= slice_end:
                await self._stand_back()
                slice_end = now() + SLICE_SECONDS
        return wanted

    def _parts(self, conn: Connection, mark: Mark, entries: Sequence[Entry]) -> Iterator[bytes]:
        yield b'"position":%b,"alerts":[' % orjson.dumps(mark.position)
        for n, entry in enumerate(entries):
            if n:
                yield b","
            try:
                yield self._bodies.timed(entry, conn.about.format, conn.about.lang)
            except Exception:
                log.exception(
                    "entry %s cannot be written as %s for a snapshot", entry.position, conn.about.format
                )
                yield orjson.dumps({"position": entry.position, "id": entry.alert.id, "unreadable": True})
        yield b"]}"
