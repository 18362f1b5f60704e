"""A TCP proxy on loopback that stands between two parties and does to their bytes what bad networks do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

CHUNK = 65_536


@dataclass(slots=True)
class Weather:
    """What happens to bytes. `delay` and `jitter` in seconds, `rate` in bytes per second (0: no bound)."""

    delay: float = 0.0
    jitter: float = 0.0
    rate: float = 0.0
    swallow_requests: bool = False
    """What the client says is read and goes nowhere; nobody is told (half-open)."""
    swallow_answers: bool = False
    """Requests arrive and are done, and nobody hears of it."""
    refuse: bool = False
    """New connections are closed at once."""


@dataclass(slots=True)
class Connection:
    """One client with its server. `weather` is its own: change it, or share another's."""

    weather: Weather
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    forwarded: int = 0
    """Bytes of the client that reached the server."""
    cut_after: int | None = None
    """Reset it once so many bytes in all have reached the server: in the middle of a request, if need be."""

    def reset(self) -> None:
        """End it at once for both, with what is under way lost."""
        for writer in (self.client, self.server):
            writer.transport.abort()


@dataclass(slots=True)
class Proxy:
    """Listens on `port` and passes on to `target`, which may move. New connections get the proxy's weather as it is then, and share it."""

    target: tuple[str, int]
    port: int = 0
    weather: Weather = field(default_factory=Weather)
    connections: list[Connection] = field(default_factory=list)
    accepted: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def reset_all(self) -> None:
        for connection in list(self.connections):
            connection.reset()

    def calm(self) -> None:
        """Pass on everything from now on; connections that have lost bytes are reset, as their two ends can agree on nothing any more."""
        lossy = self.weather.swallow_requests or self.weather.swallow_answers
        self.weather.delay = self.weather.jitter = self.weather.rate = 0.0
        self.weather.refuse = self.weather.swallow_requests = self.weather.swallow_answers = False
        if lossy:
            self.reset_all()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.weather.refuse:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(self.weather, writer, server_writer)
        self.connections.append(connection)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(connection, reader, server_writer))
                group.create_task(self._answer(connection, server_reader, writer))
        finally:
            self.connections.remove(connection)
            connection.reset()

    async def _forward(
        self, connection: Connection, reader: asyncio.StreamReader, server: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await _pass_time(connection.weather, len(data))
                if connection.weather.swallow_requests:
                    continue
                end = connection.cut_after
                if end is not None and connection.forwarded + len(data) >= end:
                    server.write(data[: max(0, end - connection.forwarded)])
                    await server.drain()
                    break
                connection.forwarded += len(data)
                server.write(data)
                await server.drain()
        connection.client.transport.abort()
        # An end in peace for the server: it gets all that came through, and the cut after it.
        connection.server.close()

    async def _answer(
        self, connection: Connection, reader: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await _pass_time(connection.weather, len(data))
                if not connection.weather.swallow_answers:
                    client.write(data)
                    await client.drain()
        connection.reset()


async def _pass_time(weather: Weather, size: int) -> None:
    pause = weather.delay + random.uniform(0, weather.jitter) + (size / weather.rate if weather.rate else 0)
    if pause:
        await asyncio.sleep(pause)


@asynccontextmanager
async def proxied(host: str, port: int) -> AsyncIterator[Proxy]:
    """Run a proxy before an address."""
    proxy = Proxy((host, port))
    server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.reset_all()
        for task in list(proxy._tasks):
            task.cancel()
        await asyncio.gather(*proxy._tasks, return_exceptions=True)
        await server.wait_closed()
