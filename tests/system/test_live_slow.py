"""Receivers that do not take what they are sent: bounded, cut off, really gone, and without a hole in what they got."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lalert.live import LiveSettings
from tests.system.live_kit import FAST, Reader, Served, WsReader, receive_buffer, served, until

SMALL = replace(FAST, kernel_bytes=8_192, buffer_bytes=40_000, flush_s=0.3)
ENDPOINTS = ["sse", "ws"]


@pytest.fixture(autouse=True)
def nothing_fails_unnoticed(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What a handler or a callback raises is only logged by aiohttp and asyncio: a test that passes could hide it."""
    yield
    records = caplog.get_records("call")
    assert [
        r.getMessage()
        for r in records
        if r.name.startswith(("aiohttp", "asyncio")) and r.levelno >= logging.ERROR
    ] == []


async def opened(hub: Served, endpoint: str, query: str = "", size: int = 4_096) -> Reader:
    """Connect with a small receive buffer and read no more than the first heartbeat."""
    sock = receive_buffer(size)
    reader: Reader = await (hub.sse(query, sock=sock) if endpoint == "sse" else hub.ws(query, sock=sock))
    return reader


def stop_reading(reader: Reader) -> None:
    reader.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport both reads and writes


def go_on_reading(reader: Reader) -> None:
    reader.writer.transport.resume_reading()  # type: ignore[attr-defined]


def offered(hub: Served) -> int:
    """Return the bytes that wait in this process for all connections."""
    return sum(conn.transport.get_write_buffer_size() for conn in hub.live._lines.all)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_stalled_receiver_is_reset_and_the_others_do_not_notice(endpoint: str) -> None:
    async with served(replace(SMALL, buffer_bytes=10**9)) as hub:
        stalled, healthy = await opened(hub, endpoint), await hub.sse()
        stop_reading(stalled)
        await until(lambda: hub.live.stats()["groups"] > 0)
        started = time.monotonic()
        waits = []
        for n in range(60):
            at = time.monotonic()
            hub.publish(padding=2_000)
            assert (await healthy.next()).id == f"e-{n + 1}"
            waits.append(time.monotonic() - at)
        await until(lambda: hub.live.stats()["cut_stalled"] == 1)
        assert SMALL.stall_s <= time.monotonic() - started < SMALL.stall_s + 2.0
        assert max(waits) < 0.2
        await until(lambda: len(hub.live._lines.all) == 1)
        assert offered(hub) == 0
        go_on_reading(stalled)
        assert len([event for event in await stalled.rest() if event.kind == "alert"]) < 60


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_who_overflows_gets_no_hole_a_reason_and_the_rest_after_coming_back(endpoint: str) -> None:
    async with served(replace(SMALL, stall_s=60.0, flush_s=5.0)) as hub:
        slow = await opened(hub, endpoint)
        await slow.next("heartbeat")
        stop_reading(slow)
        for _ in range(200):
            hub.publish(padding=500)
            await asyncio.sleep(0)
        await until(lambda: hub.live.stats()["cut_too_slow"] == 1)
        assert offered(hub) < SMALL.buffer_bytes * 2
        go_on_reading(slow)
        events = await slow.rest()
        told = [event.id for event in events if event.kind == "alert"]
        assert told == [f"e-{n}" for n in range(1, len(told) + 1)]
        assert 0 < len(told) < 200
        bye = events[-1]
        assert (bye.kind, bye.data["reason"], bye.data["code"]) == ("bye", "too-slow", 4001)
        assert bye.data["position"] == told[-1]
        assert bye.data["reconnect"] == 0
        again = await hub.sse(f"after={told[-1]}")
        rest = [(await again.next()).id for _ in range(200 - len(told))]
        assert told + rest == [f"e-{n}" for n in range(1, 201)]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_who_was_cut_off_and_still_takes_nothing_is_reset_after_the_time_to_flush(
    endpoint: str,
) -> None:
    async with served(replace(SMALL, stall_s=60.0)) as hub:
        slow = await opened(hub, endpoint)
        await slow.next("heartbeat")
        stop_reading(slow)
        for _ in range(200):
            hub.publish(padding=500)
            await asyncio.sleep(0)
        await until(lambda: hub.live.stats()["cut_too_slow"] == 1)
        await until(lambda: not hub.live._lines.all and not hub.live._lines._going, within=SMALL.flush_s + 1)
        go_on_reading(slow)
        assert "bye" not in [event.kind for event in await slow.rest()]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("query", ["after=e-0", "after=other-1"], ids=["history", "snapshot"])
async def test_a_slow_receiver_that_makes_progress_is_waited_for_while_it_catches_up(
    endpoint: str, query: str
) -> None:
    async with served(replace(SMALL, page_entries=20)) as hub:
        for _ in range(200):
            hub.publish(padding=1_000)
        await until(lambda: hub.live._fan_out.idle)
        reader = await opened(hub, endpoint, query)
        stop_reading(reader)
        while not hub.live.stats()["lagging"]:
            await asyncio.sleep(0.01)
        seen = 0
        for _ in range(30):
            await asyncio.sleep(SMALL.stall_s / 8)
            seen = max(seen, offered(hub))
            go_on_reading(reader)
            await asyncio.sleep(0.001)
            stop_reading(reader)
        go_on_reading(reader)
        event = await reader.next("alert", "snapshot")
        if event.kind == "snapshot":
            assert len(event.data["alerts"]) == 200
        else:
            assert [event.id, *[(await reader.next()).id for _ in range(199)]] == [
                f"e-{n}" for n in range(1, 201)
            ]
        assert 0 < seen < 200_000, "what waits is bounded, however much there is to catch up with"
        assert hub.live.stats()["cut_stalled"] == hub.live.stats()["cut_too_slow"] == 0


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("query", ["after=e-0", "after=other-1"], ids=["history", "snapshot"])
async def test_who_stalls_while_catching_up_is_reset(endpoint: str, query: str) -> None:
    async with served(SMALL) as hub:
        for _ in range(400):
            hub.publish(padding=1_000)
        await until(lambda: hub.live._fan_out.idle)
        reader = await opened(hub, endpoint, query)
        stop_reading(reader)
        await until(lambda: hub.live.stats()["cut_stalled"] == 1)
        await until(lambda: not hub.live._lines.all)
        assert hub.live.stats()["catching_up"] == 0


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_who_resets_the_connection_while_it_is_waited_for_is_let_go(endpoint: str) -> None:
    async with served(replace(SMALL, stall_s=60.0), handler_cancellation=False) as hub:
        for _ in range(400):
            hub.publish(padding=1_000)
        await until(lambda: hub.live._fan_out.idle)
        reader = await opened(hub, endpoint, "after=e-0")
        stop_reading(reader)
        await until(lambda: hub.live.stats()["lagging"] == 1)
        reader.close()
        await until(lambda: not hub.live._lines.all)


async def test_a_stop_in_the_middle_of_a_snapshot_does_not_write_into_it() -> None:
    async with served(replace(SMALL, stall_s=60.0)) as hub:
        for _ in range(400):
            hub.publish(padding=1_000)
        await until(lambda: hub.live._fan_out.idle)
        reader = await opened(hub, "ws", "snapshot")
        stop_reading(reader)
        await until(lambda: hub.live.stats()["lagging"] == 1)
        stopping = asyncio.create_task(hub.live.drain(3))
        await asyncio.sleep(0.05)
        go_on_reading(reader)
        assert await reader.rest() == [], "fragments, then a Close frame; never an event inside another"
        assert reader.close_code == 1001  # type: ignore[attr-defined]
        await stopping


async def test_who_shut_down_one_direction_and_takes_nothing_is_reset_too() -> None:
    async with served(replace(SMALL, buffer_bytes=10**9)) as hub:
        reader = await opened(hub, "sse")
        await reader.next("heartbeat")
        stop_reading(reader)
        for _ in range(20):
            hub.publish(padding=2_000)
        await until(lambda: hub.live.stats()["lagging"] == 1)
        reader.writer.write_eof()
        await until(lambda: not hub.live._lines.all and not hub.live._lines._going)


async def test_who_closes_a_websocket_and_takes_nothing_is_reset_too() -> None:
    async with served(replace(SMALL, buffer_bytes=10**9, stall_s=60.0)) as hub:
        reader = await opened(hub, "ws")
        await reader.next("heartbeat")
        stop_reading(reader)
        for _ in range(100):
            hub.publish(padding=2_000)
        await until(lambda: hub.live.stats()["lagging"] == 1)
        assert isinstance(reader, WsReader)
        reader.send((1000).to_bytes(2, "big"), 0x88)
        await until(lambda: not hub.live._lines.all and not hub.live._lines._going)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's tables of sockets")
async def test_what_was_reset_holds_nothing_in_the_kernel() -> None:
    async with served(replace(SMALL, kernel_bytes=131_072, buffer_bytes=10**9)) as hub:
        stalled = await opened(hub, "sse")
        await stalled.next("heartbeat")
        stop_reading(stalled)
        for _ in range(60):
            hub.publish(padding=2_000)
        await until(lambda: hub.live.stats()["lagging"] == 1)
        assert queued(hub.port) > 0
        await until(lambda: hub.live.stats()["cut_stalled"] == 1)
        await until(lambda: queued(hub.port) == 0)


def queued(port: int) -> int:
    """Return the bytes in the send queues of a local port, orphans included (proc(5), /proc/net/tcp)."""
    with open("/proc/net/tcp", encoding="ascii") as table:  # noqa: PTH123  # a table of the kernel, not a file
        rows = [line.split() for line in table][1:]
    return sum(int(row[4].split(":")[0], 16) for row in rows if int(row[1].split(":")[1], 16) == port)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_the_kernel_holds_no_more_than_it_was_told_to(endpoint: str) -> None:
    settings = LiveSettings()
    async with served(settings) as hub:
        reader: Reader = await (hub.sse() if endpoint == "sse" else hub.ws())
        await reader.next("heartbeat")
        (conn,) = hub.live._lines.all
        sock = conn.transport.get_extra_info("socket")
        # Linux doubles what it is asked for, to have room for its own bookkeeping (socket(7)).
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * settings.kernel_bytes
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == settings.vanished_s * 1000
