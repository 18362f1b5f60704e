"""What a server says is read the same in whatever pieces it comes, and what is no answer of a Redis is not taken for one."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions

from lalert.store.redis.resp import Reader, pack
from lalert.store.redis.wire import Login, Place, Wire

replies = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


def said(reply: Any) -> bytes:
    """Return a reply as a server sends it."""
    match reply:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case _:
            return b"*%d\r\n" % len(reply) + b"".join(map(said, reply))


@given(st.lists(replies, max_size=4), st.lists(st.integers(0, 400), max_size=6))
def test_replies_are_read_in_whatever_pieces_they_come(sent: list[Any], cuts: list[int]) -> None:
    text = b"".join(map(said, sent))
    reader = Reader()
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    found = [reply for start, end in pairwise(places) for reply in reader.feed(text[start:end])]
    assert found == sent


def test_a_reply_byte_by_byte() -> None:
    text = b"*3\r\n+OK\r\n*2\r\n$4\r\n\r\n\r\n\r\n:-7\r\n*-1\r\n-ERR no\r\n"
    reader = Reader()
    found = [reply for n in range(len(text)) for reply in reader.feed(text[n : n + 1])]
    assert found[0] == [b"OK", [b"\r\n\r\n", -7], None]
    assert (type(found[1]), str(found[1])) == (exceptions.ResponseError, "no")


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("ERR value is not an integer", exceptions.ResponseError, "value is not an integer"),
        ("WRONGTYPE Operation against", exceptions.ResponseError, "WRONGTYPE Operation against"),
        ("MISCONF Redis is configured", exceptions.ResponseError, "MISCONF Redis is configured"),
        ("READONLY You can't write", exceptions.ReadOnlyError, "You can't write"),
        ("MOVED 3999 127.0.0.1:6381", exceptions.MovedError, "127.0.0.1:6381"),
        ("ASK 3999 [::1]:6381", exceptions.AskError, "6381"),
        ("OOM command not allowed", exceptions.OutOfMemoryError, "command not allowed"),
        ("NOSCRIPT No matching script", exceptions.NoScriptError, "No matching script"),
        ("NOAUTH Authentication required.", exceptions.AuthenticationError, "required"),
        ("WRONGPASS invalid", exceptions.AuthenticationError, "invalid"),
        ("LOADING Redis is loading", exceptions.BusyLoadingError, "loading"),
        ("CLUSTERDOWN Hash slot not served", exceptions.ClusterDownError, "Hash slot"),
        ("ERR max number of clients reached", exceptions.ConnectionError, "clients"),
    ],
)
def test_a_refusal_is_of_the_kind_that_its_first_word_says(
    text: str, kind: type[Exception], words: str
) -> None:
    [error] = Reader().feed(f"-{text}\r\n".encode())
    assert type(error) is kind
    assert words in str(error)


@pytest.mark.parametrize("text", [b"HTTP/1.1 400 Bad Request\r\n", b":seven\r\n", b"$x\r\n", b"*1\r\n%1\r\n"])
def test_what_is_no_answer_of_a_redis_is_refused(text: bytes) -> None:
    with pytest.raises(exceptions.InvalidResponse, match="no answer of a Redis"):
        Reader().feed(text)


def test_a_command_is_packed_as_a_list_of_texts() -> None:
    assert pack(("SET", b"k\x00", "日", 7, 0.5)) == (
        b"*5\r\n$3\r\nSET\r\n$2\r\nk\x00\r\n$3\r\n\xe6\x97\xa5\r\n$1\r\n7\r\n$3\r\n0.5\r\n"
    )


async def test_a_server_that_is_no_redis_is_given_up() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        wire = Wire(Place("127.0.0.1", server.sockets[0].getsockname()[1]), Login())
        await wire.open(1)
        with pytest.raises(exceptions.ConnectionError, match="no answer of a Redis"):
            await wire.call("PING", seconds=1)
        assert not wire.usable
        await wire.close()


async def test_what_came_before_a_connection_was_lost_is_still_an_answer() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b":1\r\n:2\r\n:")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        wire = Wire(Place("127.0.0.1", server.sockets[0].getsockname()[1]), Login())
        await wire.open(1)
        assert await wire.receive(2, seconds=1) == [1, 2]
        with pytest.raises(exceptions.ConnectionError, match="is lost"):
            await wire.receive(1, seconds=1)
        await wire.close()
