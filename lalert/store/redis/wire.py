"""One connection to one server: commands out, answers back in their order, and an end to every wait.

The client's own time-outs and repeats are off: what is sent again, when and where, is decided by who uses the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import ResponseError

Word = bytes | str | int | float
"""One word of a command."""

Reply: TypeAlias = Any
"""What a server replies: bytes, a number, None, or a list of these; what it is, the command says."""

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
        options: dict[str, Any] = {
            "host": place.host,
            "port": place.port,
            "db": login.db,
            "username": login.username or None,
            "password": login.password or None,
            "protocol": 2,
            "socket_timeout": None,
            "driver_info": None,
        }
        if login.tls:
            options["ssl_ca_certs"] = login.ca_file or None
        self._connection = (SSLConnection if login.tls else Connection)(**options)
        self._spoiled = False

    @property
    def usable(self) -> bool:
        return self._connection.is_connected and not self._spoiled

    async def open(self, seconds: float) -> None:
        """Connect and log in."""
        try:
            async with asyncio.timeout(seconds):
                connect: Callable[[], Awaitable[None]] = self._connection.connect
                await connect()
        except BaseException:
            self._spoiled = True
            raise

    async def send(self, packed: Iterable[bytes], *, seconds: float) -> None:
        """Send commands in one go, each as `pack` made it; each has one answer, to be taken by `receive`."""
        if not self.usable:
            raise Lost(f"the connection to {self.place} is closed")
        await self._to_its_end(
            self._connection.send_packed_command([b"".join(packed)], check_health=False), seconds
        )

    async def receive(self, count: int, *, seconds: float) -> list[Reply]:
        """Return the next `count` answers; what the server refused is a `ResponseError` among them, not raised."""
        if not self.usable:
            raise Lost(f"the connection to {self.place} is closed")
        answers: list[Reply] = []
        await self._to_its_end(self._receive(count, answers), seconds)
        return answers

    async def call(self, *command: Word, seconds: float) -> Reply:
        """Send one command and return its answer; raises `ResponseError` where it is refused."""
        await self.send([pack(command)], seconds=seconds)
        [answer] = await self.receive(1, seconds=seconds)
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    async def close(self) -> None:
        """Close it; what was sent on one that has failed, and has not gone out yet, never does."""
        if self._spoiled and (writer := self._connection._writer) is not None:  # there is no other way to it
            writer.transport.abort()
        self._spoiled = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._connection.disconnect()
        except (Lost, OSError, TimeoutError):
            return

    async def _receive(self, count: int, answers: list[Reply]) -> None:
        for _ in range(count):
            try:
                answers.append(await self._connection.read_response(disconnect_on_error=False))
            except ResponseError as error:
                answers.append(error)

    async def _to_its_end(self, work: Awaitable[None], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await work
        except BaseException:
            self._spoiled = True
            raise


def pack(command: Sequence[Word]) -> bytes:
    """Return a command as it goes over the wire; raises for what is no `Word`."""
    parts = [b"*%d\r\n" % len(command)]
    for word in command:
        text = word if isinstance(word, bytes) else _text(word)
        parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join(parts)


def _text(word: str | float) -> bytes:
    if isinstance(word, str):
        return word.encode()
    if isinstance(word, bool) or not isinstance(word, int | float):
        raise TypeError(f"{word!r} is no word of a command")
    return repr(word).encode()
