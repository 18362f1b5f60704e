"""What the tests of the live streams share: a log in memory, a served `Live`, and readers on raw sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from aiohttp import web

from lalert.bus import Listener
from lalert.errors import BadRequest, LalertError, UnknownPosition
from lalert.live import Live, LiveSettings
from lalert.matching import FilterIndex, parse_filter, wants
from lalert.model import (
    Alert,
    Area,
    Certainty,
    Entry,
    Facts,
    Info,
    MsgType,
    NamedValue,
    Origin,
    OriginKind,
    Reference,
    Scope,
    Severity,
    Status,
    Urgency,
)

SENT = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
CITY = "432032"
ELSEWHERE = "131016"


def make_entry(
    number: int,
    *,
    area: str = CITY,
    status: Status = Status.ACTUAL,
    msg_type: MsgType = MsgType.ALERT,
    scope: Scope = Scope.PUBLIC,
    refers_to: Entry | None = None,
    expires: datetime | None = None,
    padding: int = 0,
    epoch: str = "e",
) -> Entry:
    """Make the entry at offset `number` of a log, already with its facts."""
    info = Info(
        event="避難指示",
        categories=("Met",),
        urgency=Urgency.IMMEDIATE,
        severity=Severity.SEVERE,
        certainty=Certainty.LIKELY,
        language="ja-JP",
        expires=expires or datetime.now(UTC) + timedelta(hours=6),
        headline=f"{number}番" + "あ" * padding,
        areas=(Area("", geocodes=(NamedValue("JIS_X_0402", area),)),),
    )
    references: tuple[Reference, ...] = ()
    if refers_to is not None:
        earlier = refers_to.alert
        references = (Reference(earlier.sender, earlier.identifier, earlier.sent_text, earlier.sent),)
    alert = Alert(
        identifier=f"alert-{number}",
        sender="bousai@example.jp",
        sent=SENT,
        sent_text=SENT.isoformat(),
        status=status,
        msg_type=msg_type,
        scope=scope,
        references=references,
        infos=(info,),
        raw=b"<alert/>" + b" " * padding,
    )
    incident = refers_to.incident if refers_to is not None else alert.id
    facts = Facts(codes=frozenset({area}), reach=frozenset({area, area[:2]}))
    return Entry(f"{epoch}-{number}", SENT, SENT, alert, Origin(OriginKind.HTTP), incident, facts)


def body(entry: Entry, format: str, lang: str | None) -> bytes:
    """Write an entry down, as small as a test allows."""
    info = entry.alert.infos[0]
    return orjson.dumps(
        {"position": entry.position, "format": format, "lang": lang, "headline": info.headline}
    )


class MemoryLog:
    """The part of a store that live needs. Every read gives up the loop a few times, so that schedules really interleave."""

    def __init__(self, epoch: str = "e") -> None:
        self.epoch = epoch
        self.entries: list[Entry] = []
        self.oldest = 0
        self.missing: set[str] = set()
        self.pauses = 1
        self.broken = False
        self.reads = 0

    @property
    def newest(self) -> str:
        return self.entries[-1].position if self.entries else f"{self.epoch}-0"

    def order(self, position: str) -> tuple[int, ...]:
        epoch, dash, offset = position.partition("-")
        if not dash or not offset.isascii() or not offset.isdigit():
            raise BadRequest(f"position: {position[:40]!r} is none")
        if epoch != self.epoch or int(offset) > len(self.entries):
            raise UnknownPosition(f"position {position} is not of this log")
        return (int(offset),)

    def append(self, **about: Any) -> Entry:
        entry = make_entry(len(self.entries) + 1, epoch=self.epoch, **about)
        self.entries.append(entry)
        return entry

    async def reach(self, position: str) -> None:
        """There is only this node."""

    def require_kept(self, after: str) -> None:
        if self.order(after)[0] < self.oldest:
            raise UnknownPosition("trimmed")

    async def read(self, after: str | None, limit: int) -> list[Entry]:
        self.reads += 1
        await self._pause()
        start = self.oldest if after is None else max(self.oldest, self.order(after)[0])
        page = [entry for entry in self.entries[start:] if entry.position not in self.missing][:limit]
        await self._pause()
        return page

    async def active(self, now: datetime) -> list[Entry]:
        await self._pause()
        last = {entry.incident: entry for entry in self.entries[self.oldest :]}
        await self._pause()
        over = (MsgType.CANCEL, MsgType.ACK, MsgType.ERROR)
        return sorted(
            (e for e in last.values() if e.alert.msg_type not in over and (e.alert.expires or now) > now),
            key=lambda e: self.order(e.position),
        )

    async def entry(self, position: str) -> Entry | None:
        await self._pause()
        return next((entry for entry in self.entries if entry.position == position), None)

    async def next_end(self, after: datetime) -> datetime | None:
        ends = [e.alert.expires for e in await self.active(after) if e.alert.expires is not None]
        return min(ends, default=None)

    async def ended(self, after: datetime, upto: datetime, limit: int | None = None) -> list[str]:
        ends = [(e.alert.expires, e.position) for e in await self.active(after) if e.alert.expires]
        return [position for end, position in sorted(ends) if after < end <= upto][:limit]

    async def lineage(self, entry: Entry) -> list[Entry]:
        await self._pause()
        wanted = {reference.id for reference in entry.alert.references}
        incidents = {e.incident for e in self.entries if e.alert.id in wanted}
        at = self.order(entry.position)
        return [e for e in self.entries if e.incident in incidents and self.order(e.position) < at]

    async def _pause(self) -> None:
        if self.broken:
            raise LalertError("the disk is gone")
        for _ in range(self.pauses):
            await asyncio.sleep(0)


class MemoryBus:
    """Tells listeners at once."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def publish(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            for listener in list(self._listeners):
                listener(entry)

    def attach(self, listener: Listener, **_watch: Any) -> Any:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None


class Refusal(Exception):
    """The hub did not open a WebSocket; holds the head of its answer."""


@dataclass
class Served:
    """A `Live` behind aiohttp on a loopback port."""

    live: Live
    log: MemoryLog
    bus: MemoryBus
    port: int = 0
    clients: list[Connected] = field(default_factory=list)
    valid: set[str] = field(default_factory=lambda: {"key"})
    acks: list[Any] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def sse(
        self, query: str = "", *, version: str = "1.1", sock: socket.socket | None = None, **headers: str
    ) -> SseReader:
        """Open an SSE stream; header names are given with underscores."""
        reader = SseReader(*await self.connect(http(f"/v1/stream?{query}", _named(headers), version), sock))
        await reader.open()
        return reader

    async def ws(self, query: str = "", *, sock: socket.socket | None = None, **headers: str) -> WsReader:
        """Open a WebSocket by hand; raises `Refusal` with the answer if there is none."""
        upgrade = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode()),
        ]
        reader, writer = await self.connect(http(f"/v1/ws?{query}", upgrade + _named(headers)), sock)
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head:
            raise Refusal(head.decode())
        assert b"permessage-deflate" not in head
        return WsReader(reader, writer)

    async def connect(
        self, request: bytes, sock: socket.socket | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection and send a request; it is closed with the hub."""
        if sock is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        else:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
            reader, writer = await asyncio.open_connection(sock=sock)
        self.clients.append(Connected(reader, writer))
        writer.write(request)
        return reader, writer

    def publish(self, **about: Any) -> Entry:
        """Append and tell, as the store and the bus do after a commit."""
        entry = self.log.append(**about)
        self.bus.publish([entry])
        return entry


FAST = LiveSettings(
    heartbeat_s=0.5,
    tick_s=0.05,
    stall_s=0.4,
    flush_s=0.4,
    retry_s=(0.01, 0.02),
    stop_s=2.0,
)
"""Everything that takes seconds, in tenths."""


@asynccontextmanager
async def served(
    settings: LiveSettings = FAST,
    log: Any = None,
    *,
    bus: Any = None,
    handler_cancellation: bool = True,
    on_prepare: Any = None,
    **handed_in: Any,
) -> AsyncIterator[Served]:
    """Serve `/v1/stream` and `/v1/ws` on a free port; the caller is given by the headers `X-Key`, `X-Audience` and `X-Address`."""
    log = log if log is not None else MemoryLog()
    bus = bus if bus is not None else MemoryBus()
    valid = {"key"}
    acks: list[Any] = []
    options: dict[str, Any] = {
        "index": FilterIndex,
        "wants": wants,
        "body": body,
        "key_valid": valid.__contains__,
        "may_see": lambda audience, entry: audience == "town",
        "on_ack": acks.append,
    } | handed_in
    live = Live(log, bus, settings=settings, **options)
    running = Served(live, log, bus, valid=valid, acks=acks)

    def handler(serve: Any) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            own = {name: request.query[name] for name in ("after", "lang", "format") if name in request.query}
            pairs = [pair for pair in request.query.items() if pair[0] not in (*own, "snapshot")]
            try:
                response: web.StreamResponse = await serve(
                    request,
                    parse_filter(pairs),
                    key_id=request.headers.get("X-Key"),
                    audience=request.headers.get("X-Audience"),
                    address=request.headers.get("X-Address"),
                    snapshot="snapshot" in request.query,
                    **own,
                )
            except LalertError as error:
                retry = {"Retry-After": str(error.retry_after)} if hasattr(error, "retry_after") else {}
                problem = {"title": error.detail, "code": error.error_code, "detail": error.detail}
                return web.json_response(problem, status=error.status, headers=retry)
            return response

        return handle

    app = web.Application()
    if on_prepare is not None:
        app.on_response_prepare.append(on_prepare)
    async with live:
        app.add_routes([web.get("/v1/stream", handler(live.sse)), web.get("/v1/ws", handler(live.websocket))])
        runner = web.AppRunner(
            app, handler_cancellation=handler_cancellation, access_log=None, shutdown_timeout=0.5
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            running.port = runner.addresses[0][1]
            yield running
        finally:
            for client in running.clients:
                client.close()
            await live.drain()
            await runner.cleanup()


@dataclass
class Event:
    """One event as it came: `id` is SSE's, None where it had none."""

    kind: str
    data: dict[str, Any]
    id: str | None = None


class Connected:
    """The client's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def close(self) -> None:
        """Vanish without a word."""
        self.writer.transport.abort()


class Reader(Connected):
    """Reads events off a connection."""

    async def next(self, *kinds: str, within: float = 5.0) -> Event:
        """Return the next event of one of `kinds` (all but heartbeats where none is named); raises EOFError at the end."""
        async with asyncio.timeout(within):
            while True:
                event = await self.event()
                if event.kind in kinds if kinds else event.kind != "heartbeat":
                    return event

    async def rest(self) -> list[Event]:
        """Return every event up to the end of the stream, however it ends."""
        events: list[Event] = []
        try:
            while True:
                events.append(await self.event())
        except (EOFError, ConnectionError):
            return events

    async def event(self) -> Event:
        """Return the next event."""
        raise NotImplementedError


class SseReader(Reader):
    """Reads a raw SSE stream, and knows nothing of how the hub writes one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.retry: int | None = None
        self._chunk = b""

    async def open(self) -> None:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(head[0].split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)

    async def event(self) -> Event:
        while True:
            fields: dict[str, str] = {}
            while line := await self._line():
                name, _, value = line.partition(": ")
                fields[name] = value
            if "retry" in fields:
                self.retry = int(fields["retry"])
            if "data" in fields:
                return Event(fields["event"], json.loads(fields["data"]), fields.get("id"))

    async def _line(self) -> str:
        while b"\n" not in self._chunk:
            self._chunk += await self._more()
        line, self._chunk = self._chunk.split(b"\n", 1)
        return line.decode()

    async def _more(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            if data := await self.reader.read(65_536):
                return data
            raise EOFError
        size = await self.reader.readline()
        if not size:
            raise EOFError("the stream broke off")
        data = await self.reader.readexactly(int(size, 16) + 2)
        if len(data) == 2:
            raise EOFError
        return data[:-2]


def receive_buffer(size: int) -> socket.socket:
    """Make a client's socket with a small receive buffer, so that a stalled reader fills up soon."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    sock.setblocking(False)
    return sock


def http(
    path: str, headers: Iterable[tuple[str, str]] = (), version: str = "1.1", method: str = "GET"
) -> bytes:
    """Write a request by hand."""
    lines = [f"{method} {path} HTTP/{version}", "Host: hub", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class WsReader(Reader):
    """Reads a raw WebSocket, fragments and control frames included."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self.close_code: int | None = None
        self.frames: list[int] = []

    async def event(self) -> Event:
        data = json.loads(await self._message())
        return Event(data.pop("type"), data, data.get("position"))

    async def frame(self) -> tuple[int, bytes]:
        """Return the first byte and the payload of the next frame."""
        try:
            first, length = await self.reader.readexactly(2)
            assert length < 128, "a server must not mask (RFC 6455, 5.1)"
            if length == 126:
                (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
            self.frames.append(first)
            return first, await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise EOFError from error

    def send(self, payload: bytes, first: int = 0x81) -> None:
        """Send a masked frame."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
        length = len(payload)
        head = (
            bytes([first, 0x80 | length]) if length < 126 else struct.pack("!BBH", first, 0x80 | 126, length)
        )
        self.writer.write(head + mask + masked)

    async def _message(self) -> bytes:
        message = b""
        while True:
            first, payload = await self.frame()
            if first == 0x88:
                self.close_code = int.from_bytes(payload[:2], "big")
                raise EOFError
            if first & 0x0F in (0x9, 0xA):
                continue
            message += payload
            if first & 0x80:
                return message


def _named(headers: dict[str, str]) -> list[tuple[str, str]]:
    return [(name.replace("_", "-"), value) for name, value in headers.items()]


async def until(condition: Any, within: float = 5.0) -> None:
    """Wait until something holds, looking every few milliseconds."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)
