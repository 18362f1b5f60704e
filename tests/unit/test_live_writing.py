"""Writing past the transports: every byte in its place, whoever is slow, whoever leaves, and however many threads write."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, cycle, islice, pairwise
from operator import length_hint
from typing import Any, cast

import pytest

from lalert.clock import SystemClock
from lalert.live import LiveSettings, fanout, writing
from lalert.live.connection import Connection, Lines, Subscriber
from lalert.live.fanout import Turn, never
from lalert.live.frames import Wire
from lalert.live.lanes import Lane
from lalert.live.window import Mark
from lalert.live.writing import Helper, push, writers_for
from lalert.matching import FilterIndex
from lalert.model import Filter


@dataclass
class Ending:
    """A long turn that is over when `over` says so."""

    over: Callable[[], bool]
    long: bool = True


NEVER = Ending(lambda: False)
ABOUT = Subscriber(Filter(), "json", None, None, None, None)


class Stage:
    """Connections over loopback: `lines` and `conns` are the hub's end, `clients` the other."""

    def __init__(self, writers: int) -> None:
        self.lines = Lines(LiveSettings(writers=writers, buffer_bytes=2**30), SystemClock())
        self.lane = Lane(Mark((0,), "e-0"), FilterIndex())
        self.conns: list[Connection] = []
        self.clients: list[socket.socket] = []

    async def connect(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(number):
            listening = socket.create_server(("127.0.0.1", 0))
            client = socket.create_connection(listening.getsockname())
            sock, _ = listening.accept()
            listening.close()
            sock.setblocking(False)
            transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, sock)
            conn = Connection(transport, Wire.SSE, ABOUT, self.lane)
            self.lines.add(conn)
            self.conns.append(conn)
            self.clients.append(client)

    async def taken(self, client: socket.socket, size: int) -> bytes:
        client.setblocking(False)
        data = b""
        async with asyncio.timeout(10):
            while len(data) < size:
                data += await asyncio.get_running_loop().sock_recv(client, 1 << 20)
        return data


@pytest.fixture(params=[1, 3])
async def stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr(writing, "WORTH_HELP", 1)
    async with staged(request.param) as made:
        yield made


@asynccontextmanager
async def staged(writers: int) -> AsyncIterator[Stage]:
    made = Stage(writers)
    try:
        yield made
    finally:
        made.lines.close()
        for conn in made.conns:
            conn.transport.abort()
        for client in made.clients:
            client.close()
        await asyncio.sleep(0)


async def test_everybody_gets_every_byte_in_order_also_who_takes_nothing_for_a_while(stage: Stage) -> None:
    await stage.connect(30)
    frames = [bytes([n]) * 20_000 for n in range(40)]
    endings = cycle([False, False, True])
    for frame in frames:
        rest = iter(stage.conns)
        while not stage.lines.write(frame, rest, Ending(lambda: next(endings)), 4):
            await asyncio.sleep(0)
    # 800 kB each do not fit into the kernel (SO_SNDBUF): some of it was written in part, and waits in the transports.
    assert any(conn.lagging and not conn.direct for conn in stage.conns)
    assert stage.lines.frames == 40 * 30
    for client in stage.clients:
        assert await stage.taken(client, 800_000) == b"".join(frames)


async def test_who_has_caught_up_is_written_to_directly_again(stage: Stage) -> None:
    await stage.connect(1)
    [conn], [client] = stage.conns, stage.clients
    stage.lines.write(bytes(3_000_000), iter(stage.conns), NEVER, 4)
    assert (conn.lagging, conn.direct) == (True, False)
    await stage.taken(client, 3_000_000)
    stage.lines.write(b"more", iter(stage.conns), NEVER, 4)
    assert (conn.lagging, conn.direct) == (False, True)
    assert await stage.taken(client, 4) == b"more"


async def test_a_descriptor_that_is_somebody_elses_by_now_is_not_written_to(stage: Stage) -> None:
    await stage.connect(2)
    gone, there = stage.conns
    gone.transport.abort()
    await asyncio.sleep(0)
    pair = socket.socketpair()  # is given the lowest that is free
    with pair[0], pair[1]:
        assert gone.fd in [sock.fileno() for sock in pair]
        stage.lines.write(b"frame", iter(stage.conns), NEVER, 4)
        for sock in pair:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(10)
    assert (gone.open, there.open) == (False, True)
    assert await stage.taken(stage.clients[1], 5) == b"frame"


async def test_who_has_left_is_forgotten_and_the_others_go_on(stage: Stage) -> None:
    await stage.connect(9)
    for client in stage.clients[::2]:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
    for _ in range(2):
        stage.lines.write(b"frame", iter(stage.conns), NEVER, 4)
        await asyncio.sleep(0.01)
    assert [conn.open for conn in stage.conns] == [False, True] * 4 + [False]
    for client in stage.clients[1::2]:
        assert await stage.taken(client, 10) == b"frameframe"


async def test_a_turn_that_is_over_leaves_the_rest_for_the_next() -> None:
    async with staged(1) as stage:
        await stage.connect(10)
        rest = iter(stage.conns)
        assert not stage.lines.write(b"x", rest, Ending(lambda: True), 4)
        assert len(list(rest)) == 6


async def test_the_time_is_looked_at_across_small_groups() -> None:
    async with staged(1) as stage:
        await stage.connect(3)
        looks: list[None] = []

        def look() -> bool:
            looks.append(None)
            return False

        for _ in range(6):
            assert stage.lines.write(b"x", iter(stage.conns), Ending(look), 4)
        assert len(looks) == 6 * 3 // 4


async def test_helpers_that_are_waited_for_are_done_without_for_ever_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing, "WORTH_HELP", 1)
    begun: list[int] = []
    turns = count()
    monkeypatch.setattr(Helper, "begin", lambda *_: begun.append(next(turns)))

    def finish(_: Helper) -> tuple[writing.Left, None]:
        time.sleep(3 * writing.MOST_WAITING_SECONDS)
        return [], None

    monkeypatch.setattr(Helper, "finish", finish)
    async with staged(2) as stage:
        await stage.connect(2)
        for _ in range(writing.LEAST_ALONE + writing.LEAST_ALONE * 2 + 3):
            stage.lines.write(b"x", iter(stage.conns), NEVER, 4)
            next(turns)
        waits = [after - before for before, after in pairwise(begun)]
        assert waits == [writing.LEAST_ALONE + 2, writing.LEAST_ALONE * 2 + 2]


async def test_those_that_are_no_plain_tcp_go_through_their_transports(stage: Stage) -> None:
    await stage.connect(200)
    for conn in stage.conns:
        conn.fd, conn.direct = -1, False
    assert stage.lines.write(b"frame", iter(stage.conns), NEVER, 4)
    for client in stage.clients:
        assert await stage.taken(client, 5) == b"frame"


async def test_a_connection_under_tls_is_never_written_to_directly() -> None:
    class Secure:
        def get_extra_info(self, name: str) -> Any:
            return {"socket": ours, "sslcontext": object()}.get(name)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        conn = Connection(
            cast("asyncio.Transport", Secure()), Wire.WS, ABOUT, Lane(Mark((0,), ""), FilterIndex())
        )
        assert conn.fd == -1


async def test_a_helper_stops_when_it_is_told_to_and_loses_nobody() -> None:
    async with staged(1) as stage:
        await stage.connect(50)
        helper = Helper()
        rest = iter(stage.conns * 20)
        while length_hint(rest):
            helper.begin(b"x", rest)
            assert push(b"x", islice(rest, 7), []) <= 7
            assert helper.finish() == ([], None)
        helper.end()
        for client in stage.clients:
            assert await stage.taken(client, 20) == b"x" * 20


async def test_a_helper_stops_when_it_is_told_to_with_most_left_to_do() -> None:
    async with staged(1) as stage:
        await stage.connect(1)
        helper = Helper()
        rest = iter(stage.conns * 1_000_000)
        helper.begin(b"x", rest)
        helper.finish()
        assert length_hint(rest) > 0
        helper.end()


async def test_a_helper_leaves_to_the_loop_most_of_those_that_cannot_be_written_to_directly() -> None:
    async with staged(1) as stage:
        await stage.connect(1)
        stage.conns[0].direct = False
        helper = Helper()
        rest = iter(stage.conns * 1_000)
        helper.begin(b"x", rest)
        await asyncio.to_thread(helper._idle.acquire)
        helper._idle.release()
        assert helper.finish() == ([(stage.conns[0], 0)] * writing.MOST_LEFT, None)
        assert length_hint(rest) == 1_000 - writing.MOST_LEFT
        helper.end()


async def test_what_fails_in_a_helper_fails_in_the_loop_and_the_helper_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing, "WORTH_HELP", 1)
    async with staged(2) as stage:
        await stage.connect(64)
        real, loop = os.write, threading.get_ident()
        broken = True

        def write(fd: int, data: bytes) -> int:
            if broken and threading.get_ident() != loop:
                raise RuntimeError("broken in the helper")
            return real(fd, data)

        monkeypatch.setattr(os, "write", write)

        def tell_all_until_it_fails() -> None:
            for _ in range(200):
                stage.lines.write(b"x", iter(stage.conns), NEVER, 1)

        with pytest.raises(RuntimeError, match="broken in the helper"):
            tell_all_until_it_fails()
        broken = False
        while not stage.lines.write(b"y", iter(stage.conns), NEVER, 16):
            pass
        for client in stage.clients:
            async with asyncio.timeout(10):
                while not (await stage.taken(client, 1)).endswith(b"y"):
                    pass


async def test_where_no_thread_is_to_be_had_everybody_is_written_to_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing, "WORTH_HELP", 1)

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with staged(3) as stage:
        await stage.connect(20)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            assert stage.lines.write(b"frame", iter(stage.conns), NEVER, 4)
        for client in stage.clients:
            assert await stage.taken(client, 5) == b"frame"


def test_there_is_a_writer_for_each_core_that_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, wanted, writers in [(1, 0, 1), (2, 0, 2), (64, 0, 2), (1, 3, 3), (2, 9, 4)]:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        assert writers_for(wanted) == writers


async def test_a_turn_ends_early_when_something_comes_in_and_is_long_when_nothing_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fanout, "FIRST_SECONDS", 0.001)
    monkeypatch.setattr(fanout, "SLICE_SECONDS", 10.0)
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    heard: list[bytes] = []
    with ours, theirs:
        ours.setblocking(False)
        loop.add_reader(ours, lambda: heard.append(ours.recv(10)))
        turn = Turn(never)
        for _ in range(6):
            spin_until(turn.over)
            await turn.pass_on()
        later = loop.time() + 0.002
        spin_until(lambda: loop.time() > later)
        assert not turn.over()
        theirs.send(b"news")
        assert turn.over()
        await turn.pass_on()
        assert heard == [b"news"]
        assert not turn.over()
        loop.remove_reader(ours)


async def test_the_first_turns_are_short_and_each_is_twice_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "FIRST_SECONDS", 0.002)
    monkeypatch.setattr(fanout, "SLICE_SECONDS", 0.01)
    turn = Turn(never)
    lengths = []
    for _ in range(4):
        begun = asyncio.get_running_loop().time()
        spin_until(turn.over)
        lengths.append(asyncio.get_running_loop().time() - begun)
        await turn.pass_on()
    assert all(
        0.9 * least <= length for least, length in zip((0.002, 0.004, 0.008, 0.01), lengths, strict=True)
    )


@asynccontextmanager
async def knocking(answer: Callable[[], object]) -> AsyncIterator[Callable[[], object]]:
    """Yield what makes something come in from outside, at which `answer` is called."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)

        def heard() -> None:
            ours.recv(10)
            answer()

        loop.add_reader(ours, heard)
        yield lambda: theirs.send(b"!")
        loop.remove_reader(ours)


async def test_what_comes_in_gets_as_far_as_a_request_must_without_the_fan_out_in_between() -> None:
    steps: list[str] = []

    async def request() -> None:
        steps.append("begins")
        await asyncio.sleep(0)
        steps.append("asks the store")

    tasks: list[asyncio.Task[None]] = []
    async with knocking(lambda: tasks.append(asyncio.create_task(request()))) as knock:
        turn = Turn(never)
        knock()
        assert turn.over()
        await turn.pass_on()
        assert steps == ["begins", "asks the store"]


async def test_an_alert_that_is_being_stored_is_waited_for_and_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A thread that wants the core which this one keeps busy has it after 4 ms: unless this one waits.
    monkeypatch.setattr(fanout, "SLICE_SECONDS", 5.0)
    monkeypatch.setattr(fanout, "STORING_MS", 2_000)
    loop = asyncio.get_running_loop()
    stored: asyncio.Future[None] = loop.create_future()
    answered: list[bool] = []

    def store() -> None:
        time.sleep(0.05)
        loop.call_soon_threadsafe(stored.set_result, None)

    async def request() -> None:
        thread.start()
        await stored
        answered.append(True)

    thread = threading.Thread(target=store)
    tasks: list[asyncio.Task[None]] = []
    async with knocking(lambda: tasks.append(asyncio.create_task(request()))) as knock:
        turn = Turn(thread.is_alive)
        knock()
        assert turn.over()
        await turn.pass_on()
        assert answered
        thread.join()


async def test_others_are_ahead_of_the_fan_out_by_so_much_and_then_it_has_as_much_as_they(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fanout, "MOST_AHEAD_SECONDS", 20)
    monkeypatch.setattr(fanout, "SLICE_SECONDS", 10)
    clock, turn = Clock(), Turn(never)
    turn._loop, turn._waiting = cast(Any, clock), lambda _: True
    turn.begin()
    shares = []
    for _ in range(6):
        begun = clock.now
        while not turn.over():
            clock.now += 1
        shares.append(clock.now - begun)
        asyncio.get_running_loop().call_soon(clock.work, 8)
        await turn.pass_on()
    assert shares == [0, 0, 0, 8, 8, 8], "while they are little ahead, they need not wait"


class Clock:
    """A loop's time, which stands still but for what is done."""

    def __init__(self) -> None:
        self.now = 0

    def time(self) -> int:
        return self.now

    def work(self, long: int) -> None:
        self.now += long


def spin_until(condition: Callable[[], bool]) -> None:
    while not condition():
        pass
