"""The WebSocket's other direction: what a receiver may say (an acknowledgement, a ping) and how it is held to that."""

from __future__ import annotations

from collections.abc import Callable
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

MAX_MESSAGE_BYTES: Final = 4_096
BURST: Final = 20
"""Seconds' worth of messages that may come at once: who confirms each alert of a burst does nothing wrong."""

CLOSE_SECONDS: Final = 2.0
"""How long the other side's Close frame is waited for."""


@dataclass(frozen=True, slots=True)
class Ack:
    """A receiver says that it has got everything up to `position`."""

    position: str
    received: datetime
    key_id: str | None
    address: str | None


OnAck = Callable[[Ack], None]
"""Told, on the event loop, of each acknowledgement. Must not block or wait."""


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

    def __init__(self, log: Positions, lines: Lines, clock: Clock, per_second: int, on_ack: OnAck) -> None:
        self._log = log
        self._lines = lines
        self._clock = clock
        self._per_second = per_second
        self._on_ack = on_ack

    async def listen(self, socket: LiveSocket, conn: Connection) -> None:
        """Read until the other side closes, or is cut off and gone."""
        budget = Budget(self._per_second, self._clock.monotonic())
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
            position = _acknowledged(text)
            order = self._log.order(position)
        except UnknownPosition:
            # Another node's, or from before a restore: the receiver did nothing wrong, but there is nothing to note.
            return
        except BadRequest as error:
            self._lines.cut(conn, Close.BAD_MESSAGE, error.detail)
            return
        if order <= conn.lane.at.order:
            conn.acked, conn.acked_at = position, self._clock.now()
            self._on_ack(Ack(position, conn.acked_at, conn.about.key_id, conn.about.address))


def _acknowledged(text: str | bytes) -> str:
    """Return the position of `{"type":"ack","position":P}`; raises `BadRequest` for anything else."""
    said = 'the only message a receiver sends is {"type":"ack","position":P}'
    if not isinstance(text, str):
        raise BadRequest(f"{said}, as text")
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"{said}; this was no JSON") from error
    if not isinstance(message, dict) or message.get("type") != "ack":
        raise BadRequest(said)
    position = message.get("position")
    if not isinstance(position, str) or not 0 < len(position) <= 200:
        raise BadRequest(f"{said}, with a position as it came")
    return position
