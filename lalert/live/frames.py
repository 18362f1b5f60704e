"""What goes over the wire: the envelope of an event, as an SSE event inside its HTTP chunk or as a WebSocket frame.

Pure: bytes in, bytes out. An event is one JSON object; on SSE its kind is the `event:` field, on WebSocket the member `type`. A frame is made once for
all subscribers of a group, so nothing in here knows a subscriber.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Final

import orjson


class Wire(StrEnum):
    """How frames travel: SSE inside HTTP/1.1 chunks, SSE until the connection ends (HTTP/1.0, nginx's default to its upstream), WebSocket."""

    SSE = "sse"
    SSE_PLAIN = "sse-plain"
    WS = "ws"


class Kind(StrEnum):
    """The kinds of event of the streams (INTERFACE: `event:` and `type`)."""

    ALERT = "alert"
    EXPIRED = "expired"
    SNAPSHOT = "snapshot"
    GAP = "gap"
    HEARTBEAT = "heartbeat"
    PONG = "pong"
    BYE = "bye"


class Close(IntEnum):
    """Why a connection ends. The range is the advice: 1001 and 4000-4099 connect again, 4100-4199 do not until something was changed.

    RFC 6455, 7.4.2 leaves 4000-4999 to applications; SSE carries the same number in the `bye` event.
    """

    GOING_AWAY = 1001
    TOO_SLOW = 4001
    STALLED = 4002
    RESYNC = 4003
    KEY_REVOKED = 4101
    BAD_MESSAGE = 4102
    TOO_MANY_MESSAGES = 4103

    @property
    def reason(self) -> str:
        """Return the stable word that goes with the code."""
        return self.name.lower().replace("_", "-")

    @property
    def again(self) -> bool:
        """Say whether the receiver should connect again by itself."""
        return self is Close.GOING_AWAY or self < 4100


@dataclass(frozen=True, slots=True)
class Bye:
    """The end of a connection: `position` is the last one that everything up to was offered, `reconnect` in seconds."""

    code: Close
    detail: str
    position: str | None
    reconnect: float | None


SSE_LINE_END: Final = b"\n\n"
PIECE_BYTES: Final = 65_536
"""Bytes of one piece of a long event (a snapshot): what is copied for one connection at a time."""

_TEXT, _CONTINUATION, _CLOSE, _PONG = 0x1, 0x0, 0x8, 0xA
_FIN = 0x80


def event(wire: Wire, kind: Kind, data: bytes, position: str | None = None) -> bytes:
    """Frame one event. `data` is a JSON object with members, on one line; `position` becomes the SSE `id:`, from which a browser resumes by itself."""
    head, tail = _envelope(wire, kind, position)
    return _whole(wire, b"".join((head, data[1:], tail)))


def pieces(wire: Wire, kind: Kind, parts: Iterable[bytes], position: str) -> Iterator[bytes]:
    """Frame one long event as pieces of about 64 kB that may be written with pauses: HTTP chunks, or WebSocket fragments (RFC 6455, 5.4).

    `parts` are consecutive bytes of the JSON object after its opening brace, the closing brace included. Nothing but WebSocket
    control frames may be written between the pieces.
    """
    head, tail = _envelope(wire, kind, position)
    buffer = bytearray(head)
    opcode = _TEXT
    for part in parts:
        buffer += part
        if len(buffer) >= PIECE_BYTES:
            yield _piece(wire, bytes(buffer), opcode)
            buffer.clear()
            opcode = _CONTINUATION
    buffer += tail
    yield _piece(wire, bytes(buffer), opcode | _FIN)


def heartbeat(wire: Wire, position: str, now: datetime, name: str | None = None) -> bytes:
    """Frame the sign of life: everything up to `position` was examined, at the server's time `now`; with a `name`, it may be answered."""
    data = {"position": position, "time": utc_text(now)} | ({} if name is None else {"id": name})
    return event(wire, Kind.HEARTBEAT, orjson.dumps(data), position)


def answer(wire: Wire, name: str, now: datetime) -> bytes:
    """Frame the answer to a receiver's own ping with this name."""
    return event(wire, Kind.PONG, orjson.dumps({"id": _text(name), "time": utc_text(now)}))


def gap(wire: Wire, reason: str, requested: str, position: str, detail: str) -> bytes:
    """Frame the admission that what was asked for cannot be resumed.

    It has no SSE `id:`: if the connection breaks before the snapshot came, the client must ask in the same way again.
    """
    data = {"reason": reason, "requested": _text(requested), "position": position, "detail": _text(detail)}
    return event(wire, Kind.GAP, orjson.dumps(data))


def bye(wire: Wire, end: Bye) -> bytes:
    """Frame the farewell, on WebSocket with the Close frame right behind it."""
    code = end.code
    data = {
        "reason": code.reason,
        "code": int(code),
        "position": end.position,
        "detail": _text(end.detail),
        "reconnect": end.reconnect,
    }
    frame = event(wire, Kind.BYE, orjson.dumps(data))
    return frame + close(code) if wire is Wire.WS else frame


def close(code: Close) -> bytes:
    """Return the WebSocket Close frame (RFC 6455, 5.5.1)."""
    return _ws(_CLOSE | _FIN, struct.pack("!H", code) + code.reason.encode())


def pong(payload: bytes) -> bytes:
    """Return the WebSocket answer to a ping (RFC 6455, 5.5.3)."""
    return _ws(_PONG | _FIN, payload)


def hello(wire: Wire, retry: float) -> bytes:
    """Return what opens an SSE stream: after how many seconds a browser tries again (spread, so that a restart is no storm)."""
    return _whole(wire, f"retry: {round(retry * 1000)}\n\n".encode())


def with_hops(body: bytes, received: datetime, stored: datetime, sent: datetime) -> bytes:
    """Return the JSON object of an alert with `hops` as its first member: when the hub had received it, had it durably, and framed it."""
    times = b'{"hops":{"received":"%b","stored":"%b","sent":"%b"},'
    return (
        times % tuple(utc_text(each, "microseconds").encode() for each in (received, stored, sent)) + body[1:]
    )


def utc_text(moment: datetime, timespec: str = "milliseconds") -> str:
    """Return RFC 3339 in UTC."""
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def _envelope(wire: Wire, kind: Kind, position: str | None) -> tuple[bytes, bytes]:
    """Return what stands before the object's first member and after its closing brace."""
    if wire is Wire.WS:
        return b'{"type":"%b",' % kind.encode(), b""
    identity = b"" if position is None else b"id: %b\n" % position.encode()
    return b"%bevent: %b\ndata: {" % (identity, kind.encode()), SSE_LINE_END


def _whole(wire: Wire, payload: bytes) -> bytes:
    return _piece(wire, payload, _TEXT | _FIN)


def _piece(wire: Wire, payload: bytes, first: int) -> bytes:
    if wire is Wire.WS:
        return _ws(first, payload)
    if wire is Wire.SSE:
        return b"%x\r\n%b\r\n" % (len(payload), payload)
    return payload


def _ws(first: int, payload: bytes) -> bytes:
    """Return a frame as a server sends it: unmasked (RFC 6455, 5.2)."""
    length = len(payload)
    if length < 126:
        return struct.pack("!BB", first, length) + payload
    if length < 65_536:
        return struct.pack("!BBH", first, 126, length) + payload
    return struct.pack("!BBQ", first, 127, length) + payload


def _text(text: str) -> str:
    # aiohttp decodes header bytes with surrogateescape, and a lone surrogate is no text that JSON can carry.
    return text.encode("utf-8", "backslashreplace").decode()
