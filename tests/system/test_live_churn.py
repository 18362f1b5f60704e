"""Receivers come, go and stop reading for years: what one held goes with it."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.fanout.churning import churn
from bench.fanout.load import Unavailable, compiled
from bench.fanout.measuring import Plan
from bench.fanout.stalling import stall
from tests.system.live_kit import FAST, Served, http, served, until

UPGRADE = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]
RESET = struct.pack("ii", 1, 0)
CLOSE_FRAME = b"\x88\x82\x00\x00\x00\x00\x03\xe8"
"""Masked with zeroes, 1000."""


async def resets(_hub: Served, sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def leaves(_hub: Served, _sock: socket.socket) -> None:
    pass


async def says_goodbye(_hub: Served, sock: socket.socket) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, CLOSE_FRAME)
    while await asyncio.get_running_loop().sock_recv(sock, 65_536):
        pass


async def says_nonsense(_hub: Served, sock: socket.socket) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, b"\x81\x82\x00\x00\x00\x00{}")
    await asyncio.sleep(0.02)


async def is_cut_off(hub: Served, _sock: socket.socket) -> None:
    hub.valid.clear()
    await until(lambda: hub.live.stats()["cut_key_revoked"] == 1)
    await asyncio.sleep(0.02)


async def stalls(hub: Served, _sock: socket.socket) -> None:
    for _ in range(100):
        hub.publish(padding=2_000)
    await until(lambda: hub.live.stats()["cut_stalled"] == 1)


PARTS = frozenset(
    {
        "Connection",
        "RequestHandler",
        "_SelectorSocketTransport",
        "LiveSocket",
        "StreamResponse",
        "Request",
        "Task",
        "frame",
    }
)
Ending = Callable[[Served, socket.socket], Awaitable[None]]


@pytest.mark.parametrize(
    ("endpoint", "ending", "query"),
    [
        ("stream", resets, ""), ("stream", leaves, ""), ("stream", is_cut_off, ""), ("stream", stalls, ""),
        ("ws", resets, ""), ("ws", leaves, ""), ("ws", is_cut_off, ""), ("ws", stalls, ""), ("ws", says_goodbye, ""),
        ("ws", says_nonsense, ""), ("stream", resets, "after=e-0"), ("ws", resets, "after=e-0"), ("ws", stalls, "snapshot"),
    ],
)  # fmt: skip
async def test_nothing_of_a_connection_that_ended_waits_for_the_collector(
    endpoint: str, ending: Ending, query: str
) -> None:
    # A full collection is rare where very much is long-lived: until then what is in a cycle stays.
    settings = replace(FAST, stall_s=0.1, flush_s=0.1, tick_s=0.02, kernel_bytes=8_192, buffer_bytes=10**9)
    async with served(settings) as hub:
        hub.publish()
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            await come_and_go(hub, endpoint, ending, query)
            left = found()
        finally:
            gc.enable()
            gc.unfreeze()
    assert left == Counter()


async def come_and_go(hub: Served, endpoint: str, ending: Ending, query: str) -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", hub.port))
        headers = [("X-Key", "key"), *(UPGRADE if endpoint == "ws" else [])]
        await loop.sock_sendall(sock, http(f"/v1/{endpoint}?{query}", headers))
        assert await loop.sock_recv(sock, 4_096)
        await until(lambda: hub.live.stats()["groups"] == 1)
        await ending(hub, sock)
    await until(lambda: not hub.live._lines.all and not hub.live._lines._going)
    await asyncio.sleep(0.05)


def found() -> Counter[str]:
    """Return what only the collector finds, by type, as far as it is a part of a connection."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        kinds = Counter(type(each).__name__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    return Counter({kind: count for kind, count in kinds.items() if kind in PARTS})


@pytest.mark.slow
@pytest.mark.parametrize("wire", ["sse", "ws"])
def test_memory_stays_where_it_is_however_many_have_come_and_gone(wire: str, tmp_path: Path) -> None:
    try:
        churned = churn("hub", Plan(compiled("client.c", tmp_path), wire, wanting=1_000), 60_000)
    except Unavailable as error:
        pytest.skip(str(error))
    # With a cycle for each connection it was 12 to 20 MB.
    _, first, *rest = churned.kb
    assert max(rest) < first + 6_000, churned.kb


@pytest.mark.slow
@pytest.mark.parametrize("wire", ["sse", "ws"])
def test_a_crowd_that_stops_reading_is_cut_off_holds_little_and_harms_nobody(
    wire: str, tmp_path: Path
) -> None:
    try:
        found = stall("hub", Plan(compiled("client.c", tmp_path), wire, wanting=1_000, stalled=50))
    except Unavailable as error:
        pytest.skip(str(error))
    assert (found.cut_off, found.healthy_cut_off) == (50, 0)
    assert 100 < found.kernel_kb <= 500
