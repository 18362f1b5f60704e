"""CAP documents one after another over TCP or TLS, with heartbeats that name the last of them (docs/adapters/tcp.md)."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from html import escape
from ipaddress import ip_network
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Self
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
import structlog

from lalert.errors import BadRequest, ConfigError, LalertError, Unavailable, UnknownPosition
from lalert.model import Entry, Filter, Scope, Severity, Status
from lalert.plugin import Adapter, HubApi

MAX_LINE: Final = 256
NAMED: Final = 10
"""How many of the last alerts a heartbeat names."""
HANDSHAKE_S: Final = 10.0
CLOSING_S: Final = 1.0
KERNEL_BYTES: Final = 2**18
END: Final = b"\0"
"""Ends each document: XML 1.0, 2.2 allows no NUL, so it stands in none, not even within CDATA or a comment."""
_AFTER = re.compile(rb"AFTER ([!-~]{1,200})\r?\n")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_WORD = re.compile(r"[^\s,]+")

log = structlog.get_logger("lalert.tcp")

Seconds = Annotated[float, msgspec.Meta(gt=0, le=60)]


class TcpConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[adapters.tcp]: one block is one port. Empty `areas` are everywhere; `client_ca_file` asks each receiver for a certificate of that authority."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 8091
    areas: tuple[Annotated[str, msgspec.Meta(pattern="^[0-9]{2}([0-9]{4})?$")], ...] = ()
    min_severity: Severity | None = None
    drills: bool = False
    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    heartbeat_s: Seconds = 15.0
    hello_s: Seconds = 2.0
    stall_s: Seconds = 30.0
    max_connections: Annotated[int, msgspec.Meta(ge=1, le=5_000)] = 200
    per_address: Annotated[int, msgspec.Meta(ge=1, le=5_000)] = 10

    def __post_init__(self) -> None:
        if bool(self.cert_file) != bool(self.key_file) or (self.client_ca_file and not self.cert_file):
            raise ValueError("cert_file and key_file belong together, and client_ca_file needs both")
        for code in self.areas:
            # JIS X 0402: with a slip of the pen the port would stay silent.
            total = sum(weight * int(digit) for weight, digit in zip((6, 5, 4, 3, 2), code[:5], strict=False))
            if len(code) == 6 and int(code[5]) != (11 - total % 11) % 10:
                raise ValueError(f"areas: the check digit of {code[:5]} is {(11 - total % 11) % 10}")

    @property
    def filter(self) -> Filter:
        statuses = {Status.ACTUAL, Status.EXERCISE, Status.TEST} if self.drills else {Status.ACTUAL}
        return Filter(
            areas=frozenset(self.areas), min_severity=self.min_severity, statuses=frozenset(statuses)
        )


class Tcp:
    """Listens on one port. Each connection follows the log by itself, so that a slow one holds up nobody and resumes where it was."""

    Config: ClassVar[type[TcpConfig]] = TcpConfig

    def __init__(self, name: str, config: TcpConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._by_address: Counter[str] = Counter()

    @property
    def port(self) -> int:
        """Return the port listened on, also where the configuration has 0."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        config = self._config
        try:
            context = _context(config)
            self._server = await asyncio.start_server(
                self._accept,
                config.host,
                config.port,
                limit=MAX_LINE,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_S if context else None,
                ssl_shutdown_timeout=CLOSING_S if context else None,
            )
        except OSError as error:
            raise ConfigError(
                [
                    f"adapters.{self.name}: {error}; see host and port, and that cert_file, key_file and client_ca_file can be read"
                ]
            ) from None
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = _address(writer)
        if len(self._tasks) >= self._config.max_connections:
            return self._turn_away(writer, "too many connections to this port; try again later")
        if self._by_address[address] >= self._config.per_address:
            return self._turn_away(writer, "too many connections from this address")
        self._by_address[address] += 1
        task = asyncio.create_task(self._serve(reader, writer), name=f"{self.name}: a receiver")
        self._tasks.add(task)

        def over(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

        task.add_done_callback(over)
        return None

    def _turn_away(self, writer: asyncio.StreamWriter, why: str) -> None:
        writer.write(_frame(self._system((), why), ""))
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _vanish_early(writer)
        try:
            await self._stream(reader, writer)
        except (BadRequest, UnknownPosition, Unavailable) as error:
            writer.write(_frame(self._system((), _advice(error)), ""))
        except TimeoutError:
            writer.transport.abort()  # too slow: it resumes from its last position
        except (OSError, EOFError):
            pass  # gone
        except Exception:
            log.exception("a receiver was cut off by a fault of the hub", adapter=self.name)
        finally:
            await _close(writer)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it is over.

        The place in the log is taken before the first line is waited for, and the last alerts are read before that: what comes meanwhile is sent.
        """
        config = self._config
        last = self._shown(await self._hub.recent(config.filter, 100))
        position = last[0].position if last else ""
        async with self._hub.subscribe(config.filter, position or None) as entries:
            after = await self._first_line(reader)
            if after is None:
                last = last or self._shown(await self._hub.recent(config.filter, 100))
                return await self._follow(reader, writer, entries, position, last)
        async with self._hub.subscribe(config.filter, after) as entries:
            return await self._follow(reader, writer, entries, after, last)

    async def _first_line(self, reader: asyncio.StreamReader) -> str | None:
        """Return the position to go on after, None where none came in time; raises `BadRequest` for anything else."""
        try:
            async with asyncio.timeout(self._config.hello_s):
                line = await reader.readuntil(b"\n")
        except TimeoutError:
            return None
        except asyncio.LimitOverrunError:
            line = b""
        found = _AFTER.fullmatch(line)
        if found is None:
            raise BadRequest("the first line is AFTER and a position, or nothing is sent at all")
        return found[1].decode("ascii")

    async def _follow(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        entries: AsyncIterator[Entry],
        position: str,
        last: Iterable[Entry],
    ) -> None:
        named = deque(reversed(list(last)[:NAMED]), maxlen=NAMED)
        loop = asyncio.get_running_loop()
        coming = asyncio.ensure_future(anext(entries))
        spoke = asyncio.ensure_future(reader.read(1))
        due = loop.time()
        try:
            while True:
                if due <= loop.time():
                    await self._write(writer, _frame(self._system(named), position))
                    due = loop.time() + self._config.heartbeat_s
                await asyncio.wait(
                    {coming, spoke},
                    timeout=max(0.0, due - loop.time()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if spoke.done():
                    if spoke.result():
                        raise BadRequest("nothing is read after the first line, which comes at once")
                    return
                if coming.done():
                    entry = coming.result()
                    coming = asyncio.ensure_future(anext(entries))
                    position = entry.position
                    if self._shown([entry]):
                        await self._write(writer, _frame(_document(self._hub.body(entry, "cap")), position))
                        if entry.alert.id not in {earlier.alert.id for earlier in named}:
                            named.append(entry)
        finally:
            coming.cancel()
            spoke.cancel()
            await asyncio.gather(coming, spoke, return_exceptions=True)

    async def _write(self, writer: asyncio.StreamWriter, frame: bytes) -> None:
        """Write what the receiver must take within `stall_s`; raises `TimeoutError`, which is an OSError."""
        writer.write(frame)
        async with asyncio.timeout(self._config.stall_s):
            await writer.drain()

    def _shown(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return those that may go out here: what is not Public only to receivers with a certificate, nothing that is over or was old when it came."""
        now = self._hub.clock.now()
        return [
            entry
            for entry in entries
            if (entry.alert.scope is Scope.PUBLIC or self._config.client_ca_file)
            and not entry.outdated
            and (entry.alert.expires is None or entry.alert.expires > now)
        ]

    def _system(self, named: Iterable[Entry], note: str = "") -> bytes:
        """Return a heartbeat: a CAP alert of status System (3.2.1), which is never about an emergency."""
        words = [(e.alert.sender, e.alert.identifier, e.alert.sent_text) for e in named]
        references = " ".join(",".join(w) for w in words if all(_WORD.fullmatch(part) for part in w))
        sent = self._hub.clock.now().isoformat(timespec="seconds").replace("+00:00", "-00:00")
        sender = f"lalert@{urlsplit(self._hub.base_url).hostname or 'hub'}"
        lines = [
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">',
            f"<identifier>heartbeat-{uuid4()}</identifier><sender>{escape(sender)}</sender><sent>{sent}</sent>",
            "<status>System</status><msgType>Alert</msgType><scope>Public</scope>",
            f"<note>{escape(note, quote=False)}</note>" if note else "",
            f"<references>{escape(references, quote=False)}</references>" if references else "",
            "</alert>",
        ]
        return "\n".join(line for line in lines if line).encode()


if TYPE_CHECKING:
    _: type[Adapter] = Tcp


def _frame(document: bytes, position: str) -> bytes:
    """Return a document as it goes out. The position is a comment, which a signature over the whole document leaves out (XML-DSig, 4.4.3.3)."""
    comment = f"\n<!-- position {position} -->" if position else ""
    return document + comment.encode() + b"\n" + END


def _document(raw: bytes) -> bytes:
    """Return the bytes as received; of UTF-16, whose letters hold NUL, the same in UTF-8."""
    if END not in raw:
        return raw
    return _DECLARATION.sub("", raw.decode("utf-16")).encode()


def _advice(error: LalertError) -> str:
    if isinstance(error, UnknownPosition):
        return "unknown position: connect without AFTER, and fetch what the heartbeat names and you miss"
    return str(error)


def _address(writer: asyncio.StreamWriter) -> str:
    """Return what is counted as one address: of IPv6 the network of 64 bits, of which one receiver has all."""
    host = str((writer.get_extra_info("peername") or ("",))[0]).partition("%")[0]
    return str(ip_network((host, 64), strict=False)) if ":" in host else host


def _vanish_early(writer: asyncio.StreamWriter) -> None:
    """Let the kernel give up who acknowledges nothing for 30 s and keep little for who is slow, and nothing wait unseen in the process."""
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        if (option := getattr(socket, "TCP_USER_TIMEOUT", None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, 30_000)
    writer.transport.set_write_buffer_limits(high=0)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Let what was written go out, for a second, then be gone."""
    writer.close()
    try:
        async with asyncio.timeout(CLOSING_S):
            await writer.wait_closed()
    except OSError:
        pass
    finally:
        writer.transport.abort()


def _context(config: TcpConfig) -> ssl.SSLContext | None:
    if not config.cert_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config.cert_file, config.key_file)
    if config.client_ca_file:
        context.load_verify_locations(config.client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
