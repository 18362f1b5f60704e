"""One connection to one server: commands out, answers back in their order, and an end to every wait.

What is sent again, when and where, is decided by who uses the connection.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Iterable
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar, cast

from redis.exceptions import ConnectionError as Lost
from redis.exceptions import InvalidResponse, ResponseError

from lalert.store.redis.resp import Reader, Reply, Word, pack

__all__ = ["Login", "Place", "Reply", "Wire", "Word", "pack"]

T = TypeVar("T")

CLOSE_SECONDS: Final = 1.0


class Place(NamedTuple):
    """Where a server is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Login(NamedTuple):
    """How a server is spoken to. `ca_file` ("": the system's) says whom to trust where there is TLS."""

    username: str = ""
    password: str = ""
    db: int = 0
    tls: bool = False
    ca_file: str = ""

    def __repr__(self) -> str:
        return f"Login({self.username!r}, tls={self.tls})"


class Wire:
    """A connection. After any error but a `ResponseError`, and after a cancellation, it can only be closed: what comes next may be an old answer.

    Raises `redis.exceptions.ConnectionError`, `OSError` or `TimeoutError` when the server is not there or has not answered in time.
    """

    def __init__(self, place: Place, login: Login) -> None:
        self.place = place
        self._login = login
        self._line: _Line | None = None
        self._spoiled = False

    @property
    def usable(self) -> bool:
        return self._line is not None and self._line.fault is None and not self._spoiled

    async def open(self, seconds: float) -> None:
        """Connect and log in."""
        await self._to_its_end(self._open(seconds), seconds)

    async def send(self, packed: Iterable[bytes], *, seconds: float) -> None:
        """Send commands in one go, each as `pack` made it; each has one answer, to be taken by `receive`."""
        await self._to_its_end(self._usable_line().send(b"".join(packed)), seconds)

    async def receive(self, count: int, *, seconds: float) -> list[Reply]:
        """Return the next `count` answers; what the server refused is a `ResponseError` among them, not raised."""
        return await self._to_its_end(self._usable_line().receive(count), seconds)

    async def call(self, *command: Word, seconds: float) -> Reply:
        """Send one command and return its answer; raises `ResponseError` where it is refused."""
        await self.send([pack(command)], seconds=seconds)
        [answer] = await self.receive(1, seconds=seconds)
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    async def close(self) -> None:
        """Close it; what was sent on one that has failed, and has not gone out yet, never does."""
        line, self._line, spoiled, self._spoiled = self._line, None, self._spoiled, True
        if line is not None:
            await line.close(at_once=spoiled)

    async def _open(self, seconds: float) -> None:
        login = self._login
        context = _trusting(login.ca_file) if login.tls else None
        _, self._line = await asyncio.get_running_loop().create_connection(
            lambda: _Line(self.place), self.place.host, self.place.port, ssl=context
        )
        if login.password:
            words = ("AUTH", login.username, login.password) if login.username else ("AUTH", login.password)
            await self.call(*words, seconds=seconds)
        if login.db:
            await self.call("SELECT", login.db, seconds=seconds)

    def _usable_line(self) -> _Line:
        if self._line is None or self._spoiled:
            raise Lost(f"the connection to {self.place} is closed")
        return self._line

    async def _to_its_end(self, work: Awaitable[T], seconds: float) -> T:
        try:
            async with asyncio.timeout(seconds):
                return await work
        except BaseException:
            self._spoiled = True
            raise


class _Line(asyncio.Protocol):
    """The transport's other side."""

    def __init__(self, place: Place) -> None:
        self.fault: Exception | None = None
        self._place = place
        self._reader = Reader()
        self._answers: deque[Reply] = deque()
        self._come: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = asyncio.Event()

    async def send(self, data: bytes) -> None:
        self._transport.write(data)
        await self._writable.wait()
        if self.fault is not None:
            raise self.fault

    async def receive(self, count: int) -> list[Reply]:
        while len(self._answers) < count:
            if self.fault is not None:
                raise self.fault
            self._come = asyncio.get_running_loop().create_future()
            await self._come
        answers = [self._answers.popleft() for _ in range(count)]
        for answer in answers:
            # Not this command is refused, but whoever speaks here: not logged in, or nothing is loaded yet.
            if isinstance(answer, Lost):
                raise answer
        return answers

    async def close(self, *, at_once: bool) -> None:
        if at_once:
            self._transport.abort()
        else:
            self._transport.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if (plain := transport.get_extra_info("socket")) is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        try:
            self._answers += self._reader.feed(data)
        except InvalidResponse as error:
            self._fail(Lost(f"{self._place}: {error}"))
            self._transport.abort()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Lost(f"the connection to {self._place} is lost ({exc or 'it was closed'})"))
        self._writable.set()
        self._ended.set()
        self._wake()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _fail(self, fault: Exception) -> None:
        self.fault = self.fault or fault

    def _wake(self) -> None:
        if self._come is not None and not self._come.done():
            self._come.set_result(None)


@lru_cache(maxsize=8)
def _trusting(ca_file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file or None)
