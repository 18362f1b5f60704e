from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lalert.client import EventKind, SseParser
from lalert.live import frames
from lalert.live.frames import Bye, Close, Kind, Wire

NOON = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


def unframed(data: bytes) -> list[tuple[int, bytes]]:
    """Take WebSocket frames apart: first byte and payload of each."""
    found = []
    while data:
        first, length = data[0], data[1]
        assert length < 128, "a server must not mask (RFC 6455, 5.1)"
        start = {126: 4, 127: 10}.get(length, 2)
        if start > 2:
            length = int.from_bytes(data[2:start], "big")
        found.append((first, data[start : start + length]))
        data = data[start + length :]
    return found


def unchunked(data: bytes) -> bytes:
    """Take HTTP chunks apart."""
    body = b""
    while data:
        size, data = data.split(b"\r\n", 1)
        length = int(size, 16)
        body += data[:length]
        assert data[length : length + 2] == b"\r\n"
        data = data[length + 2 :]
    return body


def test_an_sse_event_has_id_kind_and_one_line_of_json_inside_one_chunk() -> None:
    frame = frames.event(Wire.SSE, Kind.ALERT, b'{"a":1}', "e-7")
    assert unchunked(frame) == b'id: e-7\nevent: alert\ndata: {"a":1}\n\n'


def test_on_http_1_0_an_event_stands_alone() -> None:
    assert (
        frames.event(Wire.SSE_PLAIN, Kind.ALERT, b'{"a":1}', "e-7")
        == b'id: e-7\nevent: alert\ndata: {"a":1}\n\n'
    )


def test_a_websocket_frame_is_the_same_object_with_its_type_first() -> None:
    frame = frames.event(Wire.WS, Kind.ALERT, b'{"a":1}', "e-7")
    assert unframed(frame) == [(0x81, b'{"type":"alert","a":1}')]


@pytest.mark.parametrize("size", [100, 125, 126, 65_535, 65_536, 200_000])
def test_a_websocket_frame_tells_its_length_in_the_shortest_form(size: int) -> None:
    overhead = len(b'{"type":"alert","a":""}')
    text = b"x" * (size - overhead)
    frame = frames.event(Wire.WS, Kind.ALERT, b'{"a":"%b"}' % text, "e-7")
    assert len(frame) == size + (2 if size < 126 else 4 if size < 65_536 else 10)
    assert unframed(frame) == [(0x81, b'{"type":"alert","a":"%b"}' % text)]


def test_a_heartbeat_carries_the_position_as_sse_id_so_that_a_resume_skips_what_was_examined() -> None:
    frame = frames.heartbeat(Wire.SSE_PLAIN, "e-7", NOON)
    assert (
        frame == b'id: e-7\nevent: heartbeat\ndata: {"position":"e-7","time":"2026-11-23T03:00:00.000Z"}\n\n'
    )


@pytest.mark.parametrize("wire", list(Wire))
def test_gap_and_bye_have_no_sse_id_so_that_a_browser_asks_again_from_where_it_was(wire: Wire) -> None:
    gap = frames.gap(wire, "unknown", "x-1", "e-7", "no such epoch")
    bye = frames.bye(wire, Bye(Close.GOING_AWAY, "stopping", "e-7", 2.5))
    assert b"id: " not in gap + bye


@pytest.mark.parametrize("code", list(Close))
def test_a_farewell_on_websocket_is_the_bye_event_and_the_close_frame_with_the_same_code(code: Close) -> None:
    bye, close = unframed(frames.bye(Wire.WS, Bye(code, "why", "e-7", None)))
    assert bye[0] == 0x81
    assert json.loads(bye[1]) == {
        "type": "bye",
        "reason": code.reason,
        "code": int(code),
        "position": "e-7",
        "detail": "why",
        "reconnect": None,
    }
    assert close == (0x88, int(code).to_bytes(2, "big") + code.reason.encode())


def test_the_range_of_a_close_code_says_whether_to_connect_again() -> None:
    assert {int(code): code.again for code in Close} == {
        1001: True,
        4001: True,
        4002: True,
        4003: True,
        4101: False,
        4102: False,
        4103: False,
    }


def test_a_position_of_hostile_bytes_is_told_back_without_breaking_the_envelope() -> None:
    gap = frames.gap(Wire.SSE_PLAIN, "malformed", "\udcff\n\n0 event: alert", "e-7", "no position")
    assert gap.count(b"\n") == 3
    assert json.loads(gap.split(b"data: ")[1])["requested"] == "\\udcff\n\n0 event: alert"


@given(st.lists(st.binary(max_size=40_000).map(bytes.hex).map(str.encode), max_size=12))
def test_a_long_event_is_the_same_event_in_pieces(parts: list[bytes]) -> None:
    whole = b'"alerts":["%b"]}' % b'","'.join(parts)
    cut = [b'"alerts":["', b'","'.join(parts), b'"]}']
    plain = b"".join(frames.pieces(Wire.SSE_PLAIN, Kind.SNAPSHOT, cut, "e-7"))
    assert plain == b"id: e-7\nevent: snapshot\ndata: {" + whole + b"\n\n"
    assert unchunked(b"".join(frames.pieces(Wire.SSE, Kind.SNAPSHOT, cut, "e-7"))) == plain
    fragments = unframed(b"".join(frames.pieces(Wire.WS, Kind.SNAPSHOT, cut, "e-7")))
    assert b"".join(payload for _, payload in fragments) == b'{"type":"snapshot",' + whole
    firsts = [first for first, _ in fragments]
    assert firsts in ([0x81], [0x01, *[0x00] * (len(firsts) - 2), 0x80])


def test_the_client_knows_every_kind_of_event_that_the_hub_sends_unasked() -> None:
    assert {kind.value for kind in EventKind} == {kind.value for kind in Kind if kind is not Kind.PONG}


@given(st.lists(st.text(max_size=30).map(lambda text: json.dumps({"t": text})), max_size=5), st.data())
def test_what_is_framed_as_sse_is_read_back_from_pieces_cut_anywhere(
    bodies: list[str], data: st.DataObject
) -> None:
    stream = b"".join(
        frames.event(Wire.SSE_PLAIN, Kind.ALERT, body.encode(), f"e-{n}") for n, body in enumerate(bodies)
    )
    parser = SseParser()
    found = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += parser.feed(stream[:cut])
        stream = stream[cut:]
    assert [(message.id, message.event, message.data) for message in found] == [
        (f"e-{n}", "alert", body) for n, body in enumerate(bodies)
    ]
