"""The proxy of the fault tests does what it says, and nothing when nothing is asked of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest

from tests.system.proxy import Proxy, Weather, proxied


@pytest.fixture
def heard() -> bytearray:
    return bytearray()


@pytest.fixture
async def proxy(heard: bytearray) -> AsyncIterator[Proxy]:
    """A proxy before a server that answers each byte with the same in upper case."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            while data := await reader.read(1_000_000):
                heard.extend(data)
                writer.write(data.upper())

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, proxied("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, text: bytes, seconds: float = 5) -> bytes:
        """Say something and return as much of an answer."""
        self.writer.write(text)
        return await asyncio.wait_for(self.reader.readexactly(len(text)), seconds)

    async def ended(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(), 5) == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()


@pytest.fixture
async def peer(proxy: Proxy) -> AsyncIterator[Peer]:
    async with connected(proxy) as peer:
        yield peer


async def test_in_good_weather_all_is_passed_on(peer: Peer, heard: bytearray) -> None:
    text = b"abc" * 300_000
    assert await peer.ask(text) == text.upper()
    assert heard == text


async def test_a_delay_holds_up_both_ways(proxy: Proxy, peer: Peer) -> None:
    proxy.weather.delay = 0.1
    begun = time.monotonic()
    assert await peer.ask(b"slow") == b"SLOW"
    assert 0.2 <= time.monotonic() - begun < 2


async def test_a_throttle_bounds_the_rate(proxy: Proxy, peer: Peer) -> None:
    proxy.weather.rate = 100_000
    begun = time.monotonic()
    await peer.ask(b"x" * 20_000)
    assert 0.35 <= time.monotonic() - begun < 5


async def test_an_answer_is_swallowed_after_the_request_was_done(
    proxy: Proxy, peer: Peer, heard: bytearray
) -> None:
    proxy.weather.swallow_answers = True
    with pytest.raises(TimeoutError):
        await peer.ask(b"done", 0.1)
    assert heard == b"done"
    proxy.calm()
    assert await peer.ended()


async def test_a_half_open_connection_takes_everything_and_passes_nothing_on(
    proxy: Proxy, peer: Peer, heard: bytearray
) -> None:
    assert await peer.ask(b"first") == b"FIRST"
    proxy.weather.swallow_requests = True
    with pytest.raises(TimeoutError):
        await peer.ask(b"second", 0.1)
    assert heard == b"first"


async def test_a_connection_is_cut_in_the_middle_of_a_request(
    proxy: Proxy, peer: Peer, heard: bytearray
) -> None:
    await peer.ask(b"one")
    [connection] = proxy.connections
    connection.cut_after = 5
    peer.writer.write(b"two")
    assert await peer.ended()
    async with asyncio.timeout(5):
        while len(heard) < 5:
            await asyncio.sleep(0.001)
    assert heard == b"onetw"


async def test_one_connection_can_be_reset_or_held_up_and_the_others_go_on(proxy: Proxy, peer: Peer) -> None:
    await peer.ask(b"a")
    [connection] = proxy.connections
    connection.weather = Weather(swallow_answers=True)
    async with connected(proxy) as another:
        assert await another.ask(b"b") == b"B"
    connection.reset()
    assert await peer.ended()
    async with connected(proxy) as another:
        assert await another.ask(b"again") == b"AGAIN"


async def test_new_connections_are_refused_while_it_is_told_to(proxy: Proxy) -> None:
    proxy.weather.refuse = True
    async with connected(proxy) as peer:
        assert await peer.ended()
    proxy.calm()
    async with connected(proxy) as peer:
        assert await peer.ask(b"well") == b"WELL"
    assert proxy.accepted == 2
