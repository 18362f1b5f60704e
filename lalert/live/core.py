"""`Live`: the streams as the rest of the hub sees them."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final, Literal, Protocol, Self

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from lalert.bus import Bus
from lalert.clock import Clock, SystemClock
from lalert.errors import BadRequest
from lalert.live import ends, frames, resume
from lalert.live.audience import Audience, Bodies, Body, Lineage, MaySee, Wants, nobody
from lalert.live.connection import Connection, Lines, Subscriber
from lalert.live.ends import Ends
from lalert.live.fanout import FanOut, Streamed, never, uncounted
from lalert.live.follow import EndFollower, Follower
from lalert.live.frames import Close, Wire
from lalert.live.lanes import NewIndex
from lalert.live.limits import Limits
from lalert.live.resume import Resume
from lalert.live.settings import LiveSettings
from lalert.live.websocket import MAX_POSITION, Ack, Listener, LiveSocket, OnAck, OnRoundTrip
from lalert.model import Entry, Filter

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.02

HEARERS_AT_ONCE: Final = 50
"""How many connections that catch up are looked at before everybody else has a turn: about a millisecond."""


class Log(resume.Log, ends.Log, Protocol):
    """What the streams need of the store (`store.AlertLog`)."""


def _always(_key_id: str) -> bool:
    return True


def _unheard(_heard: Ack | float) -> None:
    pass


class Live:
    """Everybody who listens now: SSE, WebSocket and followers inside the process. An async context manager that owns its tasks.

    Handed in: `index` makes an empty filter index, `wants` decides for one filter, `body` writes an entry as one JSON object on one line,
    `key_valid` says whether a key still holds (asked twice a second), `may_see` whether an audience may see an entry that is not Public,
    `lineage` finds the earlier entries of an entry's incidents (the log's own by default), `on_ack` hears of acknowledgements, `on_round_trip`
    of answers to heartbeats, `streamed` to how many each entry was written. `storing` says whether a thread of the store is at work on an alert.
    """

    def __init__(
        self,
        log: Log,
        bus: Bus,
        *,
        index: NewIndex,
        wants: Wants,
        body: Body,
        key_valid: Callable[[str], bool] = _always,
        may_see: MaySee = nobody,
        lineage: Lineage | None = None,
        on_ack: OnAck = _unheard,
        on_round_trip: OnRoundTrip = _unheard,
        streamed: Streamed = uncounted,
        storing: Callable[[], bool] = never,
        clock: Clock | None = None,
        settings: LiveSettings | None = None,
    ) -> None:
        self._log = log
        self._bus = bus
        self._index = index
        self._key_valid = key_valid
        self._on_ack = on_ack
        self._on_round_trip = on_round_trip
        self._streamed = streamed
        self._storing = storing
        self._clock = clock or SystemClock()
        self._settings = settings or LiveSettings()
        self._audience = Audience(wants, may_see, lineage or log.lineage, self._clock)
        self._bodies = Bodies(body, self._clock, self._settings.body_cache_bytes)
        self._lines = Lines(self._settings, self._clock)
        self._limits = Limits(self._settings)
        self._acks = 0

    async def __aenter__(self) -> Self:
        """Begin to hear of entries; the log must be open."""
        parts = (self._bodies, self._lines, self._settings, self._clock)
        self._fan_out = FanOut(self._log, self._index, self._audience, *parts, self._streamed, self._storing)
        self._resume = Resume(self._log, self._fan_out, self._audience, *parts)
        self._listener = Listener(
            self._log,
            self._lines,
            self._clock,
            self._settings.messages_per_s,
            self._heard,
            self._on_round_trip,
        )
        self._ends = Ends(self._log, self._fan_out, self._clock)
        self._detach = self._bus.attach(self._fan_out.hear, name="live", watcher=self._fan_out.watch)
        self._detach_ends = self._bus.attach(self._ends.hear)
        self._tasks = (
            asyncio.create_task(self._fan_out.run(), name="live fan-out"),
            asyncio.create_task(self._ends.run(), name="live ends"),
            asyncio.create_task(self._watch(), name="live watch"),
            asyncio.create_task(self._renew(), name="live index"),
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self.drain()
        finally:
            self._detach()
            self._detach_ends()
            self._lines.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drain(self, seconds: float | None = None) -> None:
        """Take no more streams, offer what was heard of, say farewell with 1001 and a position, and reset who is not gone in `seconds`. May be repeated."""
        seconds = self._settings.stop_s if seconds is None else seconds
        begun = self._clock.monotonic()
        deadline = begun + seconds
        self._limits.stopping = True
        while not self._fan_out.idle and self._clock.monotonic() < begun + seconds / 2:
            await self._clock.sleep(POLL_SECONDS)
        self._fan_out.stop()
        for conn in list(self._lines.all):
            self._say_farewell(conn)
        while not self._lines.gone and self._clock.monotonic() < deadline:
            await self._clock.sleep(POLL_SECONDS)
        self._lines.reset_all()

    async def sse(
        self,
        request: web.Request,
        filter: Filter,
        *,
        after: str | None = None,
        lang: str | None = None,
        format: str = "json",
        key_id: str | None = None,
        audience: Hashable = None,
        address: str | None = None,
        snapshot: bool = False,
        embeddable: bool | None = None,
        heed_last_event_id: bool = True,
        seconds: float | None = None,
    ) -> web.StreamResponse:
        """Serve one SSE stream until it ends.

        Resumes from the header `Last-Event-ID`, else from `after`; None of both means from now on (with `snapshot`, after what is in force).
        `embeddable` lets pages of other sites read it (by default a stream without a key). After
        `seconds`, it is sent to resume. Raises, before anything was sent, `BadRequest` for what cannot be a position, `Unavailable` and `TooManyRequests` at the limits.
        """
        after = _position((heed_last_event_id and request.headers.get("Last-Event-ID")) or after)
        public = key_id is None if embeddable is None else embeddable
        response = web.StreamResponse(headers=_sse_headers(public=public))
        response.force_close()
        if request.method == hdrs.METH_HEAD:
            await response.prepare(request)
            return response
        wire = Wire.SSE if request.version >= (1, 1) else Wire.SSE_PLAIN
        with self._limits.admit(key_id, address or request.remote, lang) as lang:
            drain = await response.prepare(request)
            if drain is None:
                raise ConnectionResetError("the client left before the stream began")
            about = Subscriber(filter, format, lang, key_id, address or request.remote, audience)
            conn = self._connect(request, wire, about, seconds)
            try:
                self._lines.offer(conn, frames.hello(wire, random.uniform(*self._settings.retry_s)))  # noqa: S311  # spreads a load
                await self._resume.go_live(conn, after, drain, snapshot=snapshot)
                await conn.over
            finally:
                self._disconnect(conn)
        return response

    async def websocket(
        self,
        request: web.Request,
        filter: Filter,
        *,
        after: str | None = None,
        lang: str | None = None,
        format: str = "json",
        key_id: str | None = None,
        audience: Hashable = None,
        address: str | None = None,
        snapshot: bool = False,
        seconds: float | None = None,
    ) -> web.StreamResponse:
        """Serve one WebSocket until it ends; as `sse`. Whether its `Origin` may connect is judged before."""
        after = _position(after)
        socket = LiveSocket(self._lines)
        with self._limits.admit(key_id, address or request.remote, lang) as lang:
            drain = await _shaken(socket, request)
            about = Subscriber(filter, format, lang, key_id, address or request.remote, audience)
            conn = self._connect(request, Wire.WS, about, seconds)
            try:
                socket.conn = conn
                if after is None and not snapshot:
                    self._resume.begin_now(conn)
                    await self._listener.listen(socket, conn)
                else:
                    catching_up = self._resume.go_live(conn, after, drain, snapshot=snapshot)
                    await self._listen_meanwhile(socket, conn, catching_up)
            finally:
                self._disconnect(conn)
        return socket

    def follow(
        self, filter: Filter, after: str | None = None, *, audience: Hashable = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Entry]]:
        """Follow what `filter` wants inside this process, in position order without a gap; from now on, or from after a position.

        Entering raises `UnknownPosition` or `BadRequest` for a position that cannot be resumed from. The iterator raises `Unavailable` when the follower
        fell more than a window (1,000 entries or 16 MB) behind, or when the hub stops: it then follows again from its last position.
        """
        page_entries = self._settings.page_entries
        return Follower(
            self._log, self._fan_out, self._audience, filter, after, who=audience, page_entries=page_entries
        )

    def ends(
        self, filter: Filter, *, audience: Hashable = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Entry]]:
        """Follow what ends by itself of all that `filter` wanted, from now on; the iterator raises `Unavailable` as that of `follow`."""
        return EndFollower(self._fan_out, self._audience, filter, audience)

    async def hearers(
        self, entry: Entry, lineage: Sequence[Entry]
    ) -> list[tuple[Filter, Literal["sse", "websocket"], int]]:
        """Return how many connections to this node would be told of an entry now, by what they asked for; those that still catch up included."""
        hearing = [
            (group.key.filter, _kind(group.key.wire), len(group.members))
            for group in self._fan_out.hearing(entry, lineage)
        ]
        for number, conn in enumerate([c for c in self._lines.all if c.group is None and c.open], 1):
            about = conn.about
            if self._audience.hears(about.filter, about.audience, entry, lineage):
                hearing.append((about.filter, _kind(conn.wire), 1))
            if number % HEARERS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return hearing

    @property
    def position(self) -> str:
        """Return the newest position that was offered to everybody who hears no drills."""
        return self._fan_out.real.settled.position

    def sent(self, position: str) -> datetime | None:
        """Return when this node first told of what is at a position; None where it did not, or long ago."""
        return self._bodies.sent.get(position)

    def connections(self, key_ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
        """Return, by key, the connections at this node as JSON shows them: how far each is, what it has acknowledged, and its round trip in seconds."""
        found: dict[str, list[dict[str, Any]]] = {}
        wanted = frozenset(key_ids)
        for conn in self._lines.all:
            key_id = conn.about.key_id
            if key_id is not None and key_id in wanted and conn.open:
                shown = {
                    "stream": _kind(conn.wire),
                    "position": conn.settled or None,
                    "acknowledged": conn.acked,
                    "acknowledged_at": frames.utc_text(conn.acked_at) if conn.acked_at is not None else None,
                    "round_trip_s": conn.round_trip,
                }
                found.setdefault(key_id, []).append(shown)
        return found

    def stats(self) -> dict[str, float]:
        """Return counts for metrics, by name; none of them names a subscriber."""
        wires = dict.fromkeys(Wire, 0)
        for conn in self._lines.all:
            wires[conn.wire] += 1
        fan_out, lines = self._fan_out, self._lines
        return {
            "sse": wires[Wire.SSE] + wires[Wire.SSE_PLAIN],
            "websockets": wires[Wire.WS],
            "groups": fan_out.real.count() + fan_out.drill.count(),
            "catching_up": self._resume.under_way,
            "lagging": lines.lagging,
            "window_entries": len(fan_out.window),
            "entries": fan_out.entries,
            "ended": fan_out.ended,
            "frames": lines.frames,
            "fan_out_seconds": fan_out.seconds,
            "failures": fan_out.failures,
            "gaps": self._resume.gaps,
            "refused": self._limits.refused,
            "acks": self._acks,
            **{f"cut_{code.reason.replace('-', '_')}": lines.cut_offs[code.reason] for code in Close},
        }

    def _connect(
        self, request: web.Request, wire: Wire, about: Subscriber, seconds: float | None
    ) -> Connection:
        if request.transport is None:
            raise ConnectionResetError("the client left before the stream began")
        conn = Connection(request.transport, wire, about, self._fan_out.lane(about.filter))
        self._lines.add(conn)
        if seconds:
            end = asyncio.get_running_loop().call_later(seconds, self._send_away, conn)
            conn.over.add_done_callback(lambda _: end.cancel())
        if self._limits.stopping:
            self._say_farewell(conn)
        return conn

    async def _listen_meanwhile(
        self, socket: LiveSocket, conn: Connection, catching_up: Coroutine[None, None, None]
    ) -> None:
        # Both at once: a receiver that pings must hear its pong while it catches up, however long that takes. Not in a TaskGroup: one that is
        # cancelled keeps itself and all of the connection in a cycle (Python 3.11), which only a full collection finds.
        task = asyncio.create_task(catching_up, name="live catch-up")
        try:
            await self._listener.listen(socket, conn)
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _disconnect(self, conn: Connection) -> None:
        self._fan_out.drop(conn)
        self._lines.drop(conn)

    def _send_away(self, conn: Connection) -> None:
        self._lines.cut(conn, Close.RESYNC, "resume from your last position, as was asked for")

    def _say_farewell(self, conn: Connection) -> None:
        self._lines.cut(conn, Close.GOING_AWAY, "this node is stopping; connect again")

    def _heard(self, ack: Ack) -> None:
        self._acks += 1
        self._on_ack(ack)

    async def _watch(self) -> None:
        duties = (
            self._lines.tick,
            self._fan_out.tick,
            self._resume.tick,
            self._ends.tick,
            self._listener.tick,
            self._check_keys,
        )
        while True:
            await self._clock.sleep(self._settings.tick_s)
            for duty in duties:
                # One that fails must not keep the others from theirs: without heartbeats every receiver would leave.
                try:
                    duty()
                except Exception:
                    log.exception("the watch over the live streams failed in one of its duties")

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(self._settings.tick_s)
            try:
                await self._fan_out.renew()
            except Exception:
                log.exception("the index of the live streams cannot be made anew; it goes on, and slower")

    def _check_keys(self) -> None:
        self._lines.check_keys(self._key_valid)


async def _shaken(socket: LiveSocket, request: web.Request) -> AbstractStreamWriter:
    """Answer the handshake; raises `BadRequest` where there is none."""
    try:
        return await socket.prepare(request)
    except web.HTTPBadRequest as error:
        raise BadRequest(
            "this address speaks WebSocket (RFC 6455, version 13); /v1/stream has the same events over HTTP"
        ) from error


def _position(text: str | None) -> str | None:
    if text is not None and len(text) > MAX_POSITION:
        raise BadRequest(f"a position has at most {MAX_POSITION} characters; give it back as it came")
    return text


def _kind(wire: Wire) -> Literal["sse", "websocket"]:
    return "websocket" if wire is Wire.WS else "sse"


def _sse_headers(*, public: bool) -> dict[str, str]:
    headers = {
        hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8",
        hdrs.CACHE_CONTROL: "no-store",
        # nginx would else collect events until its buffer is full.
        "X-Accel-Buffering": "no",
    }
    if public:
        headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
    return headers
