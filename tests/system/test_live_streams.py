"""SSE and WebSocket over real sockets: what subscribers get, in which order, and what they are told when they cannot have it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lalert.client import Client, EventKind
from lalert.live import Ack, Live
from lalert.matching import FilterIndex, wants
from lalert.model import Entry, Filter, MsgType, Scope, Status
from tests.system.live_kit import (
    CITY,
    ELSEWHERE,
    FAST,
    SENT,
    MemoryBus,
    MemoryLog,
    Reader,
    Refusal,
    Served,
    SseReader,
    WsReader,
    body,
    http,
    make_entry,
    receive_buffer,
    served,
    until,
)

UNRESUMABLE = {
    "another epoch": ("other-3", "unknown"),
    "the future": ("e-99", "unknown"),
    "trimmed": ("e-1", "unknown"),
    "no position": ("yesterday", "malformed"),
    "an empty one": ("", "malformed"),
    "Japanese": ("%E6%98%A8%E6%97%A5", "malformed"),
    "bytes that are no text": ("%FF%FE", "malformed"),
    "line breaks": ("e-1%0A%0Aevent:%20alert", "malformed"),
}


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


@pytest.fixture
async def hub() -> AsyncIterator[Served]:
    async with served() as running:
        yield running


async def positions(reader: Reader, count: int) -> list[str | None]:
    return [(await reader.next()).id for _ in range(count)]


async def test_an_alert_reaches_sse_and_websocket_in_order_and_under_its_position(hub: Served) -> None:
    readers: list[Reader] = [await hub.sse(), await hub.ws()]
    for _ in range(5):
        hub.publish()
    for reader in readers:
        assert await positions(reader, 5) == ["e-1", "e-2", "e-3", "e-4", "e-5"]


async def test_both_streams_carry_the_same_object(hub: Served) -> None:
    sse, ws = await hub.sse("lang=ja&format=cap"), await hub.ws("lang=ja&format=cap")
    hub.publish()
    expected = {"position": "e-1", "format": "cap", "lang": "ja", "headline": "1番"}
    for reader in (sse, ws):
        told = (await reader.next()).data
        assert told.pop("hops").keys() == {"received", "stored", "sent"}
        assert told == expected


async def test_every_alert_carries_its_hops_live_caught_up_in_a_snapshot_and_at_its_end() -> None:
    log, bus = MemoryLog(), MemoryBus()

    def publish(entry: Entry) -> None:
        received, stored = SENT.replace(microsecond=123), SENT.replace(microsecond=4567)
        log.entries.append(replace(entry, received=received, stored=stored))
        bus.publish(log.entries[-1:])

    async with served(log=log, bus=bus, settings=FAST) as hub:
        twins = [await hub.ws(), await hub.ws()]
        before = datetime.now(UTC)
        publish(make_entry(1))
        live = [(await reader.next()).data["hops"] for reader in twins]
        assert live[0] == live[1], "one frame for all members of a group"
        caught_up = (await (await hub.sse("after=e-0")).next()).data["hops"]
        snapshot = (await (await hub.ws("snapshot")).next()).data["alerts"][0]["hops"]
        publish(make_entry(2, expires=datetime.now(UTC) + timedelta(seconds=0.3)))
        while "ended" not in (over := (await twins[0].next()).data):
            pass
        for hops in (live[0], caught_up, snapshot, over["hops"]):
            assert hops["received"] == "2026-11-23T03:00:00.000123Z"
            assert hops["stored"] == "2026-11-23T03:00:00.004567Z"
            assert before <= datetime.fromisoformat(hops["sent"]) <= datetime.now(UTC)
        assert live[0]["sent"] < caught_up["sent"] < snapshot["sent"] < over["hops"]["sent"]


async def test_the_sse_answer_is_fit_for_browsers_and_proxies(hub: Served) -> None:
    public, keyed = await hub.sse(), await hub.sse(X_Key="key")
    assert public.status == 200
    assert public.headers["content-type"].startswith("text/event-stream")
    assert public.headers["cache-control"] == "no-store"
    assert public.headers["x-accel-buffering"] == "no"
    assert public.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in keyed.headers


async def test_nothing_is_compressed_even_when_the_client_would_take_it(hub: Served) -> None:
    assert "content-encoding" not in (await hub.sse(Accept_Encoding="gzip, deflate")).headers
    await hub.ws(Sec_WebSocket_Extensions="permessage-deflate")


async def test_reconnects_are_spread(hub: Served) -> None:
    pauses = set()
    for _ in range(8):
        reader = await hub.sse()
        await reader.next("heartbeat")
        pauses.add(reader.retry)
    low, high = FAST.retry_s
    assert all(pause is not None and low * 1000 <= pause <= high * 1000 for pause in pauses)
    assert len(pauses) > 1


async def test_the_first_event_says_from_where_on_nothing_is_missed(hub: Served) -> None:
    hub.publish()
    await until(lambda: hub.live.position == "e-1")
    for reader in (await hub.sse(), await hub.ws()):
        first = await reader.next("heartbeat", "alert")
        assert (first.kind, first.id) == ("heartbeat", "e-1")


async def test_heartbeats_come_at_their_interval_with_the_newest_position_examined_and_the_time(
    hub: Served,
) -> None:
    readers: list[Reader] = [await hub.sse(f"area={ELSEWHERE}"), await hub.ws(f"area={ELSEWHERE}")]
    hub.publish()
    for reader in readers:
        await reader.next("heartbeat")
    started = time.monotonic()
    for _ in range(3):
        for reader in readers:
            beat = await reader.next("heartbeat")
            assert beat.id == beat.data["position"] == "e-1"
            assert abs(datetime.fromisoformat(beat.data["time"]) - datetime.now(UTC)) < timedelta(seconds=2)
    # The first may come at once and the machine may be slow; what would be wrong is one a tick, or hardly any.
    assert FAST.heartbeat_s <= time.monotonic() - started <= 10 * FAST.heartbeat_s


async def test_a_subscriber_hears_only_what_its_filter_wants(hub: Served) -> None:
    here, elsewhere = await hub.sse(f"area={CITY}"), await hub.ws(f"area={ELSEWHERE}")
    for area in (CITY, ELSEWHERE, CITY):
        hub.publish(area=area)
    assert await positions(here, 2) == ["e-1", "e-3"]
    assert await positions(elsewhere, 1) == ["e-2"]


async def test_a_drill_never_reaches_who_did_not_ask_for_drills(hub: Served) -> None:
    resident, desk = await hub.sse(), await hub.sse("status=all")
    first = hub.publish()
    for status in (Status.EXERCISE, Status.TEST):
        hub.publish(status=status)
        hub.publish(status=status, msg_type=MsgType.UPDATE, refers_to=first)
    hub.publish(status=Status.DRAFT)
    hub.publish()
    assert await positions(resident, 2) == ["e-1", "e-7"]
    assert await positions(desk, 6) == ["e-1", "e-2", "e-3", "e-4", "e-5", "e-7"]
    replayed = await hub.sse("after=e-0")
    assert await positions(replayed, 2) == ["e-1", "e-7"]
    snapshot = await (await hub.sse("snapshot")).next()
    assert [alert["position"] for alert in snapshot.data["alerts"]] == ["e-7"]


@pytest.mark.parametrize("msg_type", [MsgType.UPDATE, MsgType.CANCEL, MsgType.ERROR])
async def test_an_update_reaches_who_was_told_before_even_if_its_place_moved_away(
    hub: Served, msg_type: MsgType
) -> None:
    live = await hub.sse(f"area={CITY}")
    first = hub.publish()
    hub.publish(area=ELSEWHERE, msg_type=msg_type, refers_to=first)
    assert await positions(live, 2) == ["e-1", "e-2"]
    assert await positions(await hub.ws(f"area={CITY}&after=e-1"), 1) == ["e-2"]


@pytest.mark.parametrize("count", [3, 700], ids=["from the window", "from the store"])
async def test_who_resumes_hears_what_was_missed_and_goes_on_live(count: int) -> None:
    async with served(replace(FAST, window_entries=50, page_entries=10)) as hub:
        for _ in range(count):
            hub.publish()
        readers: list[Reader] = [await hub.sse("after=e-1"), await hub.ws("after=e-1")]
        hub.publish()
        for reader in readers:
            assert await positions(reader, count) == [f"e-{n}" for n in range(2, count + 2)]


async def test_last_event_id_beats_after_and_an_empty_one_does_not(hub: Served) -> None:
    for _ in range(4):
        hub.publish()
    assert await positions(await hub.sse("after=e-0", Last_Event_ID="e-3"), 1) == ["e-4"]
    assert await positions(await hub.sse("after=e-2", Last_Event_ID=""), 1) == ["e-3"]


async def test_a_heartbeat_moves_the_place_from_which_a_client_resumes_past_what_it_did_not_want(
    hub: Served,
) -> None:
    reader = await hub.sse(f"area={CITY}")
    for _ in range(3):
        hub.publish(area=ELSEWHERE)
    await reader.next("heartbeat")
    beat = await reader.next("heartbeat")
    hub.publish()
    assert beat.id == "e-3"
    assert await positions(await hub.sse(f"area={CITY}", Last_Event_ID=beat.id), 1) == ["e-4"]


@pytest.mark.parametrize("case", UNRESUMABLE)
async def test_a_position_that_cannot_be_resumed_gets_a_gap_the_state_and_what_comes(case: str) -> None:
    requested, reason = UNRESUMABLE[case]
    log = MemoryLog()
    for area in (CITY, CITY, CITY, ELSEWHERE, CITY):
        log.append(area=area)
    log.oldest = 2
    async with served(log=log) as hub:
        query = f"area={CITY}&after={requested}"
        readers: list[Reader] = [await hub.sse(query), await hub.ws(query)]
        for reader in readers:
            gap = await reader.next()
            assert (gap.kind, gap.data["reason"], gap.data["position"]) == ("gap", reason, "e-5")
            assert gap.data["detail"]
            snapshot = await reader.next()
            assert (snapshot.kind, snapshot.id) == ("snapshot", "e-5")
            assert [alert["position"] for alert in snapshot.data["alerts"]] == ["e-3", "e-5"]
        hub.publish()
        for reader in readers:
            assert await positions(reader, 1) == ["e-6"]


async def test_a_last_event_id_of_hostile_bytes_is_answered_like_any_other_that_is_unknown(
    hub: Served,
) -> None:
    request = http("/v1/stream", [("Last-Event-ID", "\xff\xfe\x80")])
    reader = SseReader(*await hub.connect(request))
    await reader.open()
    gap = await reader.next()
    assert (gap.kind, gap.data["requested"]) == ("gap", "\\udcff\\udcfe\\udc80")


async def test_what_cannot_be_a_position_at_all_is_refused(hub: Served) -> None:
    reader = await hub.sse(f"after={'9' * 201}")
    assert reader.status == 400
    with pytest.raises(Refusal, match=" 400 "):
        await hub.ws(f"after={'9' * 201}")


async def test_what_expired_meanwhile_is_replayed_as_expired_so_that_no_position_is_missing(
    hub: Served,
) -> None:
    over = datetime.now(UTC) - timedelta(seconds=1)
    hub.publish()
    hub.publish(expires=over)
    for reader in (await hub.sse("after=e-0"), await hub.ws("after=e-0")):
        events = [await reader.next() for _ in range(2)]
        assert [(event.kind, event.id) for event in events] == [("alert", "e-1"), ("expired", "e-2")]
        assert events[1].data["headline"] == "2番"


async def test_what_is_accepted_after_it_expired_is_told_live_as_expired(hub: Served) -> None:
    reader = await hub.sse()
    hub.publish(expires=datetime.now(UTC) - timedelta(seconds=1))
    assert (await reader.next()).kind == "expired"


async def test_a_snapshot_can_be_had_first_and_then_what_comes(hub: Served) -> None:
    first = hub.publish()
    hub.publish(area=ELSEWHERE)
    hub.publish(refers_to=first, msg_type=MsgType.UPDATE)
    hub.publish(expires=datetime.now(UTC) - timedelta(seconds=1))
    for reader in (await hub.sse(f"area={CITY}&snapshot"), await hub.ws(f"area={CITY}&snapshot")):
        snapshot = await reader.next()
        assert (snapshot.kind, [alert["position"] for alert in snapshot.data["alerts"]]) == (
            "snapshot",
            ["e-3"],
        )
    hub.publish()
    assert await positions(reader, 1) == ["e-5"]


async def test_what_expires_a_moment_after_the_store_was_asked_is_in_no_snapshot(hub: Served) -> None:
    hub.publish(expires=datetime.now(UTC) + timedelta(seconds=0.4))
    first = await (await hub.sse("snapshot")).next()
    await asyncio.sleep(0.5)
    second = await (await hub.sse("snapshot")).next()
    assert [len(snapshot.data["alerts"]) for snapshot in (first, second)] == [1, 0]


async def test_a_long_snapshot_is_fragmented_and_pings_are_answered_meanwhile() -> None:
    log = MemoryLog()
    for _ in range(300):
        log.append(padding=1_000)
    async with served(log=log) as hub:
        reader = await hub.ws("snapshot")
        snapshot = await reader.next()
        assert len(snapshot.data["alerts"]) == 300
        assert [first for first in reader.frames if first != 0x81][:2] == [0x01, 0x00]
        assert 0x80 in reader.frames
        sse = await (await hub.sse("snapshot")).next()
        for alert in (*sse.data["alerts"], *snapshot.data["alerts"]):
            assert alert.pop("hops")
        assert sse.data == snapshot.data


async def test_an_alert_that_is_not_public_goes_only_to_who_is_entitled_live_replayed_and_in_the_snapshot(
    hub: Served,
) -> None:
    readers = {who: await hub.sse(X_Audience=who) for who in ("town", "others")} | {"nobody": await hub.sse()}
    hub.publish(scope=Scope.PRIVATE)
    hub.publish(scope=Scope.RESTRICTED)
    hub.publish()
    expected = {"town": ["e-1", "e-2", "e-3"], "others": ["e-3"], "nobody": ["e-3"]}
    for who, reader in readers.items():
        assert await positions(reader, len(expected[who])) == expected[who]
        assert (
            await positions(await hub.sse("after=e-0", X_Audience=who), len(expected[who])) == expected[who]
        )
        snapshot = await (await hub.ws("snapshot", X_Audience=who)).next()
        assert [alert["position"] for alert in snapshot.data["alerts"]] == expected[who]


async def test_nobody_sees_what_is_not_public_while_it_cannot_be_decided() -> None:
    def broken(audience: object, entry: Entry) -> bool:
        raise RuntimeError("no directory")

    async with served(may_see=broken) as hub:
        reader = await hub.sse(X_Audience="town")
        hub.publish(scope=Scope.PRIVATE)
        hub.publish()
        assert await positions(reader, 1) == ["e-2"]


async def test_a_revoked_key_is_cut_off_within_a_second_with_the_reason_and_others_are_not(
    hub: Served,
) -> None:
    hub.valid.add("other")
    sse, ws, other = await hub.sse(X_Key="key"), await hub.ws(X_Key="key"), await hub.sse(X_Key="other")
    readers: tuple[Reader, ...] = (sse, ws, other)
    for reader in readers:
        await reader.next("heartbeat")
    hub.valid.remove("key")
    async with asyncio.timeout(1):
        for reader in readers[:2]:
            bye = await reader.next()
            assert (bye.kind, bye.data["reason"], bye.data["code"]) == ("bye", "key-revoked", 4101)
            assert bye.data["reconnect"] is None
            with pytest.raises(EOFError):
                await reader.next()
    assert ws.close_code == 4101
    hub.publish()
    assert await positions(other, 1) == ["e-1"]


async def test_limits_are_answered_before_the_stream_begins_and_free_again_when_a_stream_ends() -> None:
    async with served(replace(FAST, max_per_address=1, max_connections=2)) as hub:
        first = await hub.sse(X_Address="192.0.2.1")
        refused = await hub.sse(X_Address="192.0.2.1")
        assert (refused.status, float(refused.headers["retry-after"]) > 0) == (429, True)
        await hub.ws(X_Address="192.0.2.2")
        full = await hub.sse(X_Address="192.0.2.3")
        assert (full.status, float(full.headers["retry-after"]) > 0) == (503, True)
        first.close()
        await until(lambda: hub.live.stats()["sse"] == 0)
        assert (await hub.sse(X_Address="192.0.2.1")).status == 200


async def test_a_node_that_stops_says_farewell_with_a_position_and_takes_nobody_more(hub: Served) -> None:
    readers: list[Reader] = [await hub.sse(), await hub.ws(), await hub.sse("status=all")]
    for reader in readers:
        await reader.next("heartbeat")
    hub.log.pauses = 50
    hub.publish(refers_to=hub.publish(), msg_type=MsgType.UPDATE)
    stopping = asyncio.create_task(hub.live.drain(5))
    for reader in readers:
        assert await positions(reader, 2) == ["e-1", "e-2"]
        bye = await reader.next()
        assert (bye.kind, bye.data["code"], bye.data["position"]) == ("bye", 1001, "e-2")
        assert 0 < bye.data["reconnect"] <= FAST.retry_s[1]
        with pytest.raises(EOFError):
            await reader.next()
        if isinstance(reader, WsReader):
            assert reader.close_code == 1001
            reader.send((1001).to_bytes(2, "big"), 0x88)
    async with asyncio.timeout(2):
        await stopping
    assert (await hub.sse()).status == 503
    assert hub.live.stats()["sse"] == hub.live.stats()["websockets"] == 0


async def test_who_comes_in_at_the_moment_of_a_stop_hears_the_farewell_too() -> None:
    preparing, stopped = asyncio.Event(), asyncio.Event()

    async def hold(request: object, response: object) -> None:
        preparing.set()
        await stopped.wait()

    async with served(on_prepare=hold) as hub:
        opening = asyncio.create_task(hub.sse())
        await preparing.wait()
        await hub.live.drain(1)
        stopped.set()
        reader = await opening
        assert (await reader.next()).data["code"] == 1001
        with pytest.raises(EOFError):
            await reader.next()


async def test_a_stop_ends_in_time_even_if_nobody_answers(hub: Served) -> None:
    for _ in range(3):
        await hub.ws()
    started = time.monotonic()
    await hub.live.drain(0.2)
    assert time.monotonic() - started < 1
    assert not hub.live._lines.all or await gone(hub)


async def gone(hub: Served) -> bool:
    await until(lambda: not hub.live._lines.all)
    return True


async def test_http_1_0_gets_its_events_without_chunks_until_the_connection_ends(hub: Served) -> None:
    reader = await hub.sse(version="1.0")
    assert "transfer-encoding" not in reader.headers
    hub.publish()
    assert await positions(reader, 1) == ["e-1"]


async def test_head_shows_the_headers_and_opens_no_stream(hub: Served) -> None:
    reader, _ = await hub.connect(http("/v1/stream", method="HEAD"))
    async with asyncio.timeout(2):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"text/event-stream" in answer
    assert answer.endswith(b"\r\n\r\n")
    assert hub.live.stats()["sse"] == 0


async def test_a_plain_request_to_the_websocket_is_told_what_to_do(hub: Served) -> None:
    reader, _ = await hub.connect(http("/v1/ws", [("Connection", "close")]))
    answer = await reader.read()
    assert b" 400 " in answer
    assert b"/v1/stream" in answer


async def test_an_acknowledgement_is_noted_with_who_and_when(hub: Served) -> None:
    reader = await hub.ws(X_Key="key", X_Address="192.0.2.7")
    hub.publish()
    event = await reader.next()
    reader.send(json.dumps({"type": "ack", "position": event.id}).encode())
    await until(lambda: hub.acks)
    (ack,) = hub.acks
    assert isinstance(ack, Ack)
    assert (ack.position, ack.key_id, ack.address) == ("e-1", "key", "192.0.2.7")
    assert datetime.now(UTC) - ack.received < timedelta(seconds=2)


@pytest.mark.parametrize("position", ["other-1", "e-99"])
async def test_an_acknowledgement_of_what_this_hub_never_sent_is_passed_over(
    hub: Served, position: str
) -> None:
    reader = await hub.ws()
    reader.send(json.dumps({"type": "ack", "position": position}).encode())
    hub.publish()
    assert await positions(reader, 1) == ["e-1"]
    assert hub.acks == []


async def test_an_acknowledgement_of_what_was_not_sent_yet_is_passed_over(hub: Served) -> None:
    reader = await hub.ws()
    hub.log.append()
    reader.send(json.dumps({"type": "ack", "position": "e-1"}).encode())
    reader.send(json.dumps({"type": "ack", "position": "e-0"}).encode())
    await until(lambda: hub.acks)
    assert [ack.position for ack in hub.acks] == ["e-0"]


async def test_what_was_acknowledged_before_is_not_noted_again(hub: Served) -> None:
    reader = await hub.ws()
    for _ in range(2):
        hub.publish()
    for position in ("e-2", "e-2", "e-1", "e-0"):
        reader.send(json.dumps({"type": "ack", "position": position}).encode())
    reader.send(b'{"type":"ping","id":"done"}')
    await reader.next("pong")
    assert [ack.position for ack in hub.acks] == ["e-2"]


async def test_a_ping_with_an_id_is_answered_with_it_and_the_hubs_time(hub: Served) -> None:
    reader = await hub.ws()
    name = "番号" + "7" * 62
    reader.send(json.dumps({"type": "ping", "id": name}).encode())
    pong = (await reader.next("pong")).data
    assert pong.keys() == {"id", "time"}
    assert pong["id"] == name
    assert abs(datetime.fromisoformat(pong["time"]) - datetime.now(UTC)) < timedelta(seconds=2)


async def test_the_answer_to_a_heartbeat_tells_the_round_trip() -> None:
    measured: list[float] = []
    async with served(settings=FAST, on_round_trip=measured.append) as hub:
        reader = await hub.ws()
        first, second = await reader.next("heartbeat"), await reader.next("heartbeat")
        assert first.data["id"] != second.data["id"]
        assert "id" not in (await (await hub.sse()).next("heartbeat")).data
        for name in ("not-one-of-ours", "f" * 64, "ffffffffffffffff"):
            reader.send(json.dumps({"type": "pong", "id": name}).encode())
        await asyncio.sleep(0.05)
        reader.send(json.dumps({"type": "pong", "id": second.data["id"]}).encode())
        reader.send(json.dumps({"type": "pong", "id": first.data["id"]}).encode())
        reader.send(b'{"type":"ping","id":"done"}')
        await reader.next("pong")
    assert 0.05 <= measured[0] < measured[1] < 5
    assert len(measured) == 2


async def test_the_python_client_answers_heartbeats_and_none_that_have_no_name() -> None:
    measured: list[float] = []
    async with (
        served(settings=FAST, on_round_trip=measured.append) as hub,
        Client(hub.url) as client,
        asyncio.timeout(5),
    ):
        for ws in (True, False):
            async with aclosing(client.stream(ws=ws)) as events:
                for _ in range(2):
                    assert (await anext(events)).kind is EventKind.HEARTBEAT
        await until(lambda: measured)
        assert 0 <= measured[0] < 1
        assert hub.live.stats()["cut_bad_message"] == 0


async def test_a_ping_in_the_middle_of_a_snapshot_is_answered_behind_it() -> None:
    log = MemoryLog()
    for _ in range(300):
        log.append(padding=1_000)
    async with served(log=log, settings=FAST) as hub:
        reader = await hub.ws("snapshot", sock=receive_buffer(16_384))
        await asyncio.sleep(0.05)
        for number in range(30):
            reader.send(json.dumps({"type": "ping", "id": str(number)}).encode())
        await asyncio.sleep(0.05)
        assert (await reader.next()).kind == "snapshot"
        answered = [(await reader.next("pong")).data["id"] for _ in range(20)]
        assert answered == [str(number) for number in range(10, 30)]


HOSTILE: dict[str, tuple[bytes, int]] = {
    "no JSON": (b"hello", 0x81),
    "not an object": (b"[]", 0x81),
    "another type": (b'{"type":"subscribe"}', 0x81),
    "no position": (b'{"type":"ack"}', 0x81),
    "a number": (b'{"type":"ack","position":7}', 0x81),
    "not a position": (b'{"type":"ack","position":"x"}', 0x81),
    "too long": (json.dumps({"type": "ack", "position": "9" * 201}).encode(), 0x81),
    "deeply nested": (b"[" * 4_000, 0x81),
    "binary": (b'{"type":"ack","position":"e-0"}', 0x82),
    "a list for a type": (b'{"type":["ack"],"position":"e-0"}', 0x81),
    "a ping without an id": (b'{"type":"ping"}', 0x81),
    "a ping with an empty id": (b'{"type":"ping","id":""}', 0x81),
    "a pong with a long id": (json.dumps({"type": "pong", "id": "9" * 65}).encode(), 0x81),
    "a lone surrogate": (rb'{"type":"ping","id":"\ud800"}', 0x81),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_anything_but_an_acknowledgement_is_answered_by_a_clear_error_and_the_end(
    hub: Served, case: str
) -> None:
    payload, first = HOSTILE[case]
    reader = await hub.ws()
    reader.send(payload, first)
    bye = await reader.next()
    assert (bye.kind, bye.data["reason"], bye.data["code"], bye.data["reconnect"]) == (
        "bye",
        "bad-message",
        4102,
        None,
    )
    assert bye.data["detail"]
    assert await reader.frame() == (0x88, (4102).to_bytes(2, "big") + b"bad-message")
    reader.send((4102).to_bytes(2, "big"), 0x88)
    with pytest.raises(EOFError):
        await reader.frame()


async def test_after_a_close_frame_no_event_is_sent(hub: Served) -> None:
    reader = await hub.ws()
    await reader.next("heartbeat")
    reader.send(b"x" * 5_000)
    while (await reader.frame())[0] != 0x88:
        pass
    hub.publish()
    with pytest.raises(EOFError):
        await reader.frame()


async def test_a_closing_client_gets_its_answer(hub: Served) -> None:
    reader = await hub.ws()
    await reader.next("heartbeat")
    reader.send((1000).to_bytes(2, "big"), 0x88)
    with pytest.raises(EOFError):
        await reader.next()
    assert reader.close_code == 1000
    await until(lambda: hub.live.stats()["websockets"] == 0)


async def test_a_ping_is_answered_with_its_payload(hub: Served) -> None:
    reader = await hub.ws()
    await reader.next("heartbeat")
    reader.send(b"number 7", 0x89)
    async with asyncio.timeout(2):
        while (frame := await reader.frame())[0] != 0x8A:
            pass
    assert frame[1] == b"number 7"


async def test_a_ping_is_answered_while_the_receiver_still_catches_up(hub: Served) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(now: datetime) -> list[Entry]:
        asked.set()
        await go_on.wait()
        return []

    hub.log.active = slow  # type: ignore[method-assign]
    reader = await hub.ws("snapshot")
    await asked.wait()
    reader.send(b"still there?", 0x89)
    async with asyncio.timeout(2):
        assert await reader.frame() == (0x8A, b"still there?")
    go_on.set()
    assert (await reader.next()).kind == "snapshot"


@pytest.mark.parametrize("how", ["a close frame", "a reset"])
async def test_who_leaves_while_it_catches_up_is_let_go(how: str) -> None:
    asked = asyncio.Event()

    async def never(now: datetime) -> list[Entry]:
        asked.set()
        await asyncio.Event().wait()
        return []

    async with served(handler_cancellation=False) as hub:
        hub.log.active = never  # type: ignore[method-assign]
        reader = await hub.ws("snapshot")
        await asked.wait()
        if how == "a reset":
            reader.close()
        else:
            reader.send((1000).to_bytes(2, "big"), 0x88)
            with pytest.raises(EOFError):
                await reader.next()
        await until(lambda: hub.live.stats()["websockets"] == hub.live.stats()["catching_up"] == 0)


async def test_a_stop_that_is_cancelled_leaves_no_task_behind() -> None:
    log, bus = MemoryLog(), MemoryBus()
    live = Live(log, bus, index=FilterIndex, wants=wants, body=body)
    entered = asyncio.Event()

    async def run() -> None:
        async with live:
            log.broken = True
            bus.publish([log.append(refers_to=log.append())])
            entered.set()

    running = asyncio.create_task(run())
    await entered.wait()
    await asyncio.sleep(0.05)
    assert not running.done(), "it waits for the fan-out, which waits for the log"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_heartbeats_go_on_when_it_cannot_be_told_whether_keys_hold() -> None:
    def broken(key_id: str) -> bool:
        raise RuntimeError("no directory")

    async with served(key_valid=broken) as hub:
        reader = await hub.sse(X_Key="key")
        for _ in range(3):
            await reader.next("heartbeat")


async def test_a_flood_of_pings_ends_the_connection() -> None:
    async with served(replace(FAST, messages_per_s=10)) as hub:
        reader = await hub.ws()
        for _ in range(300):
            reader.send(b"", 0x89)
        bye = await reader.next("bye")
        assert (bye.data["reason"], bye.data["code"]) == ("too-many-messages", 4103)
        with pytest.raises(EOFError):
            await reader.next()
        assert sum(first == 0x8A for first in reader.frames) <= 210


async def test_who_confirms_each_alert_of_a_burst_is_not_taken_for_a_flood(hub: Served) -> None:
    reader = await hub.ws()
    for _ in range(1_741):
        hub.publish()
    for _ in range(1_741):
        event = await reader.next()
        reader.send(json.dumps({"type": "ack", "position": event.id}).encode())
    await until(lambda: len(hub.acks) == 1_741)
    assert hub.acks[-1].position == "e-1741"


async def test_streams_that_end_leave_nothing_behind(hub: Served) -> None:
    readers: list[Reader] = [
        await hub.sse("lang=ja"),
        await hub.ws("status=all"),
        await hub.sse(f"area={CITY}"),
    ]
    await until(lambda: hub.live.stats()["groups"] == 3)
    for reader in readers:
        reader.close()
    await until(lambda: hub.live.stats()["groups"] == 0)
    fan_out = hub.live._fan_out
    assert not any(fan_out._slots)
    assert list(fan_out.real.filters()) == list(fan_out.drill.filters()) == []
    assert not hub.live._limits._languages
    assert not hub.live._limits._callers


async def test_without_handler_cancellation_a_heartbeat_finds_out_who_is_gone() -> None:
    async with served(handler_cancellation=False) as hub:
        reader = await hub.sse()
        await reader.next("heartbeat")
        reader.close()
        await until(lambda: hub.live.stats()["sse"] == 0, within=4 * FAST.heartbeat_s)


async def test_a_log_that_cannot_be_read_sends_a_resuming_client_back_later(hub: Served) -> None:
    hub.publish()
    hub.log.broken = True
    reader = await hub.sse("snapshot")
    bye = await reader.next("bye")
    assert (bye.data["reason"], bye.data["code"]) == ("resync", 4003)
    assert bye.data["reconnect"] > 0


async def test_those_whom_a_stopping_node_sends_away_come_back_at_different_times() -> None:
    async with served(settings=replace(FAST, retry_s=(1.0, 5.0))) as hub:
        readers: list[Reader] = [await (hub.ws() if n % 2 else hub.sse()) for n in range(30)]
        for reader in readers:
            await reader.next("heartbeat")
        stopping = asyncio.ensure_future(hub.live.drain(0.2))
        pauses = [(await reader.next("bye")).data["reconnect"] for reader in readers]
        await stopping
    assert 1 <= min(pauses) <= max(pauses) <= 5
    assert max(pauses) - min(pauses) > 2
    assert len(set(pauses)) > 20


async def test_in_one_language_and_format_an_alert_is_encoded_once_for_all() -> None:
    made: list[tuple[str, str, str | None]] = []

    def counted(entry: Entry, format: str, lang: str | None) -> bytes:
        made.append((entry.position, format, lang))
        return body(entry, format, lang)

    async with served(body=counted) as hub:
        readers: list[Reader] = [
            *[await hub.sse() for _ in range(10)],
            *[await hub.ws(f"area={CITY}") for _ in range(10)],
        ]
        hub.publish()
        for reader in readers:
            await reader.next()
        await (await hub.sse("after=e-0")).next()
        assert made == [("e-1", "json", None)]


async def test_the_index_of_filters_is_made_anew_in_a_thread_and_adopted_on_the_loop() -> None:
    made_in: list[int] = []
    adopted_in: list[int] = []

    class Due(FilterIndex):
        due = True

        def renewal(self) -> Callable[[], Callable[[], None]] | None:
            make = super().renewal()
            assert make is not None

            def noted() -> Callable[[], None]:
                made_in.append(threading.get_ident())
                adopt = make()

                def adopting() -> None:
                    adopted_in.append(threading.get_ident())
                    adopt()

                return adopting

            return noted

    async with served(index=Due) as hub:
        readers: list[Reader] = [await hub.sse(f"area={CITY}"), await hub.ws()]
        await until(lambda: len(adopted_in) > 4)
        hub.publish()
        for reader in readers:
            assert await positions(reader, 1) == ["e-1"]
    assert set(adopted_in) == {threading.get_ident()}
    assert threading.get_ident() not in made_in


async def test_a_follower_inside_the_process_hears_what_a_stream_would(hub: Served) -> None:
    reader = await hub.sse()
    async with hub.live.follow(Filter()) as entries:
        hub.publish(area=ELSEWHERE)
        hub.publish(scope=Scope.PRIVATE)
        hub.publish()
        assert (await anext(entries)).position == "e-1"
        assert (await anext(entries)).position == "e-3"
    assert await positions(reader, 2) == ["e-1", "e-3"]
