"""The WebSocket's other direction: what a receiver may say (acknowledge, ping, answer a heartbeat) and how it is held to that."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import orjson
from aiohttp import WSMsgType, web

from lalert.clock import Clock
from lalert.errors import BadRequest, UnknownPosition
from lalert.live import frames
from lalert.live.connection import Connection, Lines
from lalert.live.frames import Close
from lalert.model import Filter

MAX_MESSAGE_BYTES: Final = 4_096
BURST: Final = 20
"""Seconds' worth of messages that may come at once: who confirms each alert of a burst does nothing wrong."""

MAX_POSITION: Final = 200
"""Characters of a position that is looked at at all; ours have under 50."""

MAX_NAME: Final = 64
"""Characters of a ping's `id`."""

MAX_OWED: Final = 20
"""So many pings are remembered that come in the middle of an event of many pieces; the newest are answered behind it."""

CLOSE_SECONDS: Final = 2.0
"""How long the other side's Close frame is waited for."""


@dataclass(frozen=True, slots=True)
class Ack:
    """A receiver says that it has got everything up to `position`."""

    position: str
    received: datetime
    key_id: str | None
    address: str | None
    filter: Filter
    audience: Hashable


OnAck = Callable[[Ack], None]
"""Told, on the event loop, of each acknowledgement of more than the one before it. Must not block or wait."""

OnRoundTrip = Callable[[float], None]
"""Told the seconds from a heartbeat to its answer. Must not block or wait."""


class Positions(Protocol):
    """Knows positions (`AlertLog.order`)."""

    def order(self, position: str) -> tuple[int, ...]: ...


class LiveSocket(web.WebSocketResponse):
    """aiohttp's WebSocket, which leaves its group before a Close frame goes out: after that frame nothing may be sent (RFC 6455, 5.5.1)."""

    def __init__(self, lines: Lines) -> None:
        super().__init__(
            compress=False,
            max_msg_size=MAX_MESSAGE_BYTES,
            autoping=False,
            autoclose=False,
            timeout=CLOSE_SECONDS,
        )
        self._lines = lines
        self.conn: Connection | None = None

    async def close(self, *, code: int = 1000, message: bytes = b"", drain: bool = True) -> bool:
        conn = self.conn
        if conn is not None and not conn.open:
            return False
        if conn is not None:
            self._lines.detach(conn)
        return await super().close(code=code, message=message, drain=drain)


class Budget:
    """A token bucket: so many a second, and a burst of `BURST` seconds' worth."""

    def __init__(self, per_second: int, now: float) -> None:
        self._per_second = per_second
        self._left = float(per_second * BURST)
        self._then = now

    def spend(self, now: float) -> bool:
        """Take one; returns False when there is none left."""
        self._left = min(self._per_second * BURST, self._left + (now - self._then) * self._per_second)
        self._then = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Listener:
    """Hears what one receiver says until its connection ends."""

    def __init__(
        self,
        log: Positions,
        lines: Lines,
        clock: Clock,
        per_second: int,
        on_ack: OnAck,
        on_round_trip: OnRoundTrip,
    ) -> None:
        self._log = log
        self._lines = lines
        self._clock = clock
        self._per_second = per_second
        self._on_ack = on_ack
        self._on_round_trip = on_round_trip
        self._owed: dict[Connection, deque[str]] = {}

    async def listen(self, socket: LiveSocket, conn: Connection) -> None:
        """Read until the other side closes, or is cut off and gone."""
        budget = Budget(self._per_second, self._clock.monotonic())
        try:
            await self._listen(socket, conn, budget)
        finally:
            self._owed.pop(conn, None)

    def tick(self) -> None:
        """Answer the pings that had to wait."""
        for conn, names in list(self._owed.items()):
            if not conn.mid_event:
                del self._owed[conn]
                for name in names:
                    self._answer(conn, name)

    async def _listen(self, socket: LiveSocket, conn: Connection, budget: Budget) -> None:
        while True:
            message = await socket.receive()
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                await socket.close()
                return
            if not budget.spend(self._clock.monotonic()):
                self._lines.cut(
                    conn, Close.TOO_MANY_MESSAGES, f"more than {self._per_second} messages a second"
                )
            elif message.type is WSMsgType.PING:
                self._lines.offer(conn, frames.pong(message.data))
            elif message.type is not WSMsgType.PONG:
                self._hear(conn, message.data)

    def _hear(self, conn: Connection, text: str | bytes) -> None:
        if not conn.open:
            return
        try:
            kind, value = _said(text)
            if kind == "ack":
                self._acknowledge(conn, value)
            elif kind == "ping":
                self._answer(conn, value)
            elif (seconds := self._lines.beats.round_trip(value)) is not None:
                conn.round_trip = seconds
                self._on_round_trip(seconds)
        except BadRequest as error:
            self._lines.cut(conn, Close.BAD_MESSAGE, error.detail)

    def _acknowledge(self, conn: Connection, position: str) -> None:
        try:
            order = self._log.order(position)
            known = () if conn.acked is None else self._log.order(conn.acked)
        except UnknownPosition:
            # Another node's, or from before a restore: the receiver did nothing wrong, but there is nothing to note.
            return
        if known < order <= conn.lane.at.order:
            conn.acked, conn.acked_at = position, self._clock.now()
            about = conn.about
            self._on_ack(
                Ack(position, conn.acked_at, about.key_id, about.address, about.filter, about.audience)
            )

    def _answer(self, conn: Connection, name: str) -> None:
        if conn.mid_event:
            # Between the fragments of a message only control frames may stand (RFC 6455, 5.4).
            self._owed.setdefault(conn, deque(maxlen=MAX_OWED)).append(name)
        else:
            self._lines.offer(conn, frames.answer(conn.wire, name, self._clock.now()))


_SAYS: Final = {"ack": ("position", MAX_POSITION), "ping": ("id", MAX_NAME), "pong": ("id", MAX_NAME)}
"""What a receiver may say: the member that it needs, and how many characters that may have."""


def _said(text: str | bytes) -> tuple[str, str]:
    """Return the kind of a message and its position or id; raises `BadRequest` for anything that is no message of a receiver."""
    says = 'a receiver says {"type":"ack","position":P}, {"type":"ping","id":X} or {"type":"pong","id":X}'
    if not isinstance(text, str):
        raise BadRequest(f"{says}, as text")
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"{says}; this was no JSON") from error
    kind = message.get("type") if isinstance(message, dict) else None
    if not isinstance(kind, str) or kind not in _SAYS:
        raise BadRequest(says)
    name, most = _SAYS[kind]
    value = message.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise BadRequest(f"{says}: {name} is a text of 1 to {most} characters")
    return kind, value
