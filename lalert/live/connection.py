"""One live connection, and `Lines`: all of them, what may still be written to each, and who is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from datetime import datetime
from operator import length_hint
from typing import Final, NamedTuple

from lalert.clock import Clock
from lalert.live import frames
from lalert.live.beats import Beats
from lalert.live.frames import Bye, Close, Wire
from lalert.live.lanes import Group, Lane
from lalert.live.settings import LiveSettings
from lalert.live.window import Mark
from lalert.live.writing import Turn, Writers, writers_for
from lalert.model import Filter

log = logging.getLogger(__name__)

NOWHERE: Final = Mark((), "")
"""Where a connection is that was offered nothing yet and gave no position that could be resumed from."""

_RESET: Final = struct.pack("ii", 1, 0)


class Subscriber(NamedTuple):
    """Who listens, and to what. `key_id` and `address` are for limits and revocation, `audience` for what is not public."""

    filter: Filter
    format: str
    lang: str | None
    key_id: str | None
    address: str | None
    audience: Hashable


class Connection:
    """A subscriber's connection. `at` is how far it has been offered everything; while it is in a group, its lane knows that for all."""

    __slots__ = (
        "about",
        "acked",
        "acked_at",
        "at",
        "beat_at",
        "direct",
        "fd",
        "flushed",
        "group",
        "lagging",
        "lane",
        "mid_event",
        "offered",
        "open",
        "over",
        "progress_at",
        "round_trip",
        "slot",
        "transport",
        "wire",
    )

    def __init__(self, transport: asyncio.Transport, wire: Wire, about: Subscriber, lane: Lane) -> None:
        self.transport = transport
        self.wire = wire
        self.about = about
        self.lane = lane
        self.group: Group | None = None
        self.acked: str | None = None
        self.acked_at: datetime | None = None
        self.round_trip: float | None = None
        """Seconds between the last heartbeat that was answered and its answer."""
        self.slot = 0
        self.at = NOWHERE
        self.beat_at = 0.0
        self.open = True
        """False from the moment of the cut: nothing more is ever offered, so that what comes later cannot hide a hole."""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.mid_event = False
        self.fd = _plain(transport)
        self.direct = False
        """Whether bytes may go to `fd` past the transport: nothing waits in it, and it is plain TCP."""
        self.lagging = False
        self.offered = 0
        self.flushed = 0
        self.progress_at = 0.0

    @property
    def settled(self) -> str:
        """Return the position up to which everything was offered: where to resume."""
        if self.group is None or self.at.order > self.lane.settled.order:
            return self.at.position
        return self.lane.settled.position


class Lines:
    """Every open connection: the only place that writes to a socket, watches that it drains, and cuts it off."""

    def __init__(self, settings: LiveSettings, clock: Clock) -> None:
        self.all: dict[Connection, None] = {}
        self.beats = Beats(clock)
        self.cut_offs: Counter[str] = Counter()
        self.frames = 0
        self._settings = settings
        self._clock = clock
        self._options = _options(settings)
        self._lagging: dict[Connection, None] = {}
        self._going: dict[asyncio.Transport, float] = {}
        self._served = 0
        self._events = 1
        self._writers = Writers(writers_for(settings.writers), self._serve)

    def add(self, conn: Connection) -> None:
        """Take on a connection and bound what the kernel holds for it."""
        self.all[conn] = None
        conn.transport.set_write_buffer_limits(high=self._settings.drain_bytes)
        _tune(conn.transport, self._options)
        if conn.transport.get_write_buffer_size():
            self._note_lag(conn)
        else:
            conn.direct = conn.fd >= 0

    def drop(self, conn: Connection) -> None:
        """Forget a connection whose handler ends."""
        self.detach(conn)
        self.all.pop(conn, None)

    def detach(self, conn: Connection) -> None:
        """Offer nothing more to a connection, which then has `flush_s` to take what is queued; harmless when repeated."""
        conn.open = conn.direct = False
        self._going.setdefault(conn.transport, self._clock.monotonic() + self._settings.flush_s)
        if not conn.over.done():
            conn.over.set_result(None)
        if conn.group is not None:
            conn.lane.leave(conn)
        if conn.lagging:
            conn.lagging = False
            del self._lagging[conn]

    def offer(self, conn: Connection, frame: bytes) -> None:
        """Write one whole frame, or find out that the connection is gone or too slow. Never waits, never raises."""
        if not conn.open:
            return
        if conn.lagging and not self._keeps_up(conn):
            return
        if conn.transport.is_closing():
            self.detach(conn)
            return
        self._queue(conn, frame)

    def write(
        self, frame: bytes, rest: Iterator[Connection], turn: Turn, look_every: int, events: int = 1
    ) -> bool:
        """Offer the frame of so many events to the next of `rest` until none is left or the turn is over, which is asked after each `look_every`; returns whether none is left."""
        before = length_hint(rest)
        self._served, self._events = 0, events
        try:
            return self._writers.write(frame, rest, turn, look_every)
        finally:
            self.frames += events * (before - length_hint(rest) - self._served)
            self._events = 1

    def close(self) -> None:
        """End the threads that write; what is offered after that is written without them."""
        self._writers.close()

    def _serve(self, conn: Connection, frame: bytes, sent: int) -> None:
        """Do what could not be done by a mere write; `sent` bytes of the frame have gone out."""
        self._served += 1
        if sent:
            self._queue(conn, frame[sent:])
        else:
            self.offer(conn, frame)

    def _queue(self, conn: Connection, frame: bytes) -> None:
        transport = conn.transport
        try:
            transport.write(frame)
        except Exception:
            # One broken transport must not end the fan-out to all others.
            log.exception("a live connection could not be written to")
            self.detach(conn)
            self._reset(conn.transport)
            return
        self.frames += self._events
        if conn.lagging:
            conn.offered += len(frame)
        elif transport.get_write_buffer_size():
            self._note_lag(conn)

    def cut(self, conn: Connection, code: Close, detail: str) -> None:
        """End a connection for a reason: say farewell behind what is queued, and reset it when that does not go out.

        A stalled one is reset at once: it takes nothing, and only the reset frees what the kernel holds (an aborted socket alone
        keeps its send queue as an orphan).
        """
        if not conn.open:
            return
        self.cut_offs[code.reason] += 1
        end = Bye(code, detail, conn.settled or None, self._reconnect(code))
        self.detach(conn)
        if code is Close.STALLED:
            self._reset(conn.transport)
            return
        if not conn.transport.is_closing():
            # Between the fragments of a message only control frames may stand (RFC 6455, 5.4); half an SSE event takes nothing at all.
            if not conn.mid_event:
                conn.transport.write(frames.bye(conn.wire, end))
            elif conn.wire is Wire.WS:
                conn.transport.write(frames.close(code))

    def tick(self) -> None:
        """Do what time asks for: cut off the stalled, reset those who do not go."""
        now = self._clock.monotonic()
        for conn in list(self._lagging):
            if conn.lagging and not self._progresses(conn, now):
                self.cut(conn, Close.STALLED, f"nothing was taken for {self._settings.stall_s:g} s")
        self._reap(now)

    def check_keys(self, key_valid: Callable[[str], bool]) -> None:
        """Cut off everybody whose key no longer holds."""
        by_key: dict[str, list[Connection]] = {}
        for conn in self.all:
            key_id = conn.about.key_id
            if key_id is not None and conn.open:
                by_key.setdefault(key_id, []).append(conn)
        for key_id, conns in by_key.items():
            if not key_valid(key_id):
                for conn in conns:
                    self.cut(conn, Close.KEY_REVOKED, "the key was revoked or has expired")

    def reset_all(self) -> None:
        """Reset whatever is still there: the end of a graceful stop."""
        for conn in list(self.all):
            self.detach(conn)
            self._reset(conn.transport)
        for transport in list(self._going):
            self._reset(transport)
        self._going.clear()

    @property
    def gone(self) -> bool:
        """Say whether every connection has ended and everything queued has gone out."""
        self._reap(self._clock.monotonic())
        return not self.all and not self._going

    @property
    def lagging(self) -> int:
        """Return how many have bytes waiting in this process."""
        return len(self._lagging)

    def _note_lag(self, conn: Connection) -> None:
        # Not everything written has gone to the kernel: from now on it is watched.
        conn.lagging = True
        conn.direct = False
        conn.offered = conn.transport.get_write_buffer_size()
        conn.flushed = 0
        conn.progress_at = self._clock.monotonic()
        self._lagging[conn] = None

    def _keeps_up(self, conn: Connection) -> bool:
        waiting = conn.transport.get_write_buffer_size()
        if waiting == 0:
            self._catches_up(conn)
            return True
        # Compared before the write: an alert larger than the bound still goes to whoever has taken all before it.
        if waiting > self._settings.buffer_bytes:
            self.cut(conn, Close.TOO_SLOW, f"{waiting} bytes were still waiting when the next event came")
            return False
        return True

    def _catches_up(self, conn: Connection) -> None:
        conn.lagging = False
        conn.direct = conn.fd >= 0
        del self._lagging[conn]

    def _progresses(self, conn: Connection, now: float) -> bool:
        waiting = conn.transport.get_write_buffer_size()
        flushed = conn.offered - waiting
        if waiting == 0:
            self._catches_up(conn)
        elif flushed > conn.flushed:
            conn.flushed = flushed
            conn.progress_at = now
        return now - conn.progress_at < self._settings.stall_s or waiting == 0

    def _reconnect(self, code: Close) -> float | None:
        if not code.again:
            return None
        low, high = self._settings.retry_s
        return round(random.uniform(low, high), 2) if code is not Close.TOO_SLOW else 0.0  # noqa: S311  # spreads a load, guards nothing

    def _reap(self, now: float) -> None:
        for transport, deadline in list(self._going.items()):
            if transport.is_closing() and not transport.get_write_buffer_size():
                del self._going[transport]
                _let_go(transport)
            elif now >= deadline:
                self._reset(transport)
                del self._going[transport]
                _let_go(transport)

    def _reset(self, transport: asyncio.Transport) -> None:
        # SO_LINGER(1, 0) makes the close a reset, which frees the send queue now instead of after minutes of retries.
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()


def _plain(transport: asyncio.Transport) -> int:
    """Return the descriptor of a plain TCP connection, -1 for any other: past TLS, bytes would break the stream."""
    sock = transport.get_extra_info("socket")
    if sock is None or transport.get_extra_info("sslcontext") is not None:
        return -1
    return int(sock.fileno())


def _let_go(transport: asyncio.Transport) -> None:
    # asyncio's keeps a bound method of its own for what comes in, after its end too. That is a cycle, and whoever listened for longer than a young
    # collection is away would wait for a full one: 2 kB for each that ever came. Nothing is read any more, so nobody calls it.
    if hasattr(transport, "_read_ready_cb"):
        transport._read_ready_cb = None


def _options(settings: LiveSettings) -> list[tuple[int, int, int]]:
    options = [(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.kernel_bytes)]
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # A peer that vanished without a FIN acknowledges nothing: the kernel gives it up instead of retrying for a quarter of an hour.
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(settings.vanished_s * 1000)))
    return options


def _tune(transport: asyncio.Transport, options: Iterable[tuple[int, int, int]]) -> None:
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for option in options:
        with contextlib.suppress(OSError):
            sock.setsockopt(*option)
