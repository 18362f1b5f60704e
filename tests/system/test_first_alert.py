"""The main job, through the front door: posted, kept, geo-filtered, and seen by every kind of receiver."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import feedparser
import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from lalert import cap
from lalert.config import Settings, Station, Thresholds
from lalert.model import Role
from lalert.sensors.settings import Rules
from lalert.testing import make_cap
from lalert.testing.node import RunningNode, running_node

SENDER = "bousai@hitoyoshi.example"
GAUGE = Station(
    id="hitoyoshi",
    name="人吉",
    org="hitoyoshi",
    sender="gauge@hitoyoshi.example",
    codes=("432032",),
    lon=130.762,
    lat=32.214,
    river="球磨川",
    thresholds=Thresholds(1.5, 3.0, 3.2, 3.4, 4.7),
    rule=Rules(quiet_min=0.0),
)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path / "data", Settings(stations=(GAUGE,))) as running:
        yield running


class Stream:
    """Reads one SSE connection event by event."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self, *kinds: str) -> dict[str, Any]:
        """Return the next event of one of `kinds` (all but heartbeats where none is named): its id, kind and data."""
        async with asyncio.timeout(10):
            while True:
                event: dict[str, Any] = {}
                async for line in self._response.content:
                    text = line.decode().rstrip("\n")
                    if not text:
                        break
                    name, _, value = text.partition(": ")
                    event[name] = json.loads(value) if name == "data" else value
                if "data" in event and (event["event"] in kinds if kinds else event["event"] != "heartbeat"):
                    return event


@pytest.fixture
async def stream(node: RunningNode) -> AsyncIterator[Stream]:
    async with node.http.get(f"{node.url}/v1/stream?area=43203") as response:
        assert response.status == 200
        yield Stream(response)


async def test_a_posted_alert_is_kept_and_reaches_whoever_is_concerned(
    node: RunningNode, stream: Stream
) -> None:
    raw = make_cap(sender=SENDER, identifier="first", level=4)
    status, answer = await node.post(raw)
    assert status == 201
    assert answer["identifier"] == "first"

    event = await stream.next()
    assert event["event"] == "alert"
    assert event["id"] == answer["position"]
    assert event["data"]["identifier"] == "first"
    assert event["data"]["level"] == 4
    assert event["data"]["codes"] == ["432032"]

    async with node.http.get(f"{node.url}/v1/alerts/{answer['position']}") as response:
        assert response.content_type == "application/cap+xml"
        assert await response.read() == raw
    _, listed = await node.get("/v1/alerts?active=true")
    assert [alert["identifier"] for alert in listed["alerts"]] == ["first"]
    hops = event["data"].pop("hops")
    assert hops["received"] < hops["stored"] < hops["sent"]
    assert listed["alerts"][0] == event["data"]


async def test_who_lives_elsewhere_hears_nothing(node: RunningNode) -> None:
    async with (
        node.http.get(f"{node.url}/v1/stream?area=432059") as elsewhere,
        node.http.get(f"{node.url}/v1/stream?area=43") as prefecture,
        node.http.get(f"{node.url}/v1/stream?point=32.21,130.75") as point,
    ):
        await node.org("minamata", ["432059"], ["*@minamata.example"])
        key = await node.key(Role.SENDER, "minamata")
        assert (await node.post(make_cap(sender=SENDER, identifier="here")))[0] == 201
        there = make_cap(sender="b@minamata.example", identifier="there", codes=["432059"], polygon=None)
        assert (await node.post(there, key))[0] == 201
        assert (await Stream(elsewhere).next())["data"]["identifier"] == "there"
        assert (await Stream(point).next())["data"]["identifier"] == "here"
        both = Stream(prefecture)
        assert [(await both.next())["data"]["identifier"] for _ in range(2)] == ["here", "there"]


async def test_the_same_alert_comes_over_a_websocket(node: RunningNode) -> None:
    async with node.http.ws_connect(f"{node.url}/v1/ws?area=43203") as ws:
        _, answer = await node.post(make_cap(sender=SENDER))
        while (message := await ws.receive_json(timeout=10))["type"] != "alert":
            pass
        assert message["position"] == answer["position"]


async def test_a_gauge_warns_by_itself_and_lifts_by_itself(node: RunningNode, stream: Stream) -> None:
    levels = [2.3, 3.1, 3.5, 2.6]
    warned: list[dict[str, Any]] = []
    for number, level in enumerate(levels):
        # Device times rise by a second each; the differences stay under what is called a spike.
        reading = {
            "station": "hitoyoshi",
            "time": _now(number - len(levels)),
            "level_m": level,
            "seq": number,
        }
        headers = node.headers(Role.SENSOR)
        async with node.http.post(f"{node.url}/v1/readings", json=reading, headers=headers) as response:
            assert (response.status, await response.json()) == (
                200,
                {"accepted": 1, "duplicate": 0, "rejected": []},
            )
        if number == 2:
            warned = [await stream.next(), await stream.next()]
    assert [event["data"]["msgType"] for event in warned] == ["Alert", "Update"]
    assert warned[0]["data"]["info"][0]["headline"] == "球磨川 人吉 氾濫注意水位に到達"
    assert warned[0]["data"]["level"] is None
    lifted = await stream.next()
    assert lifted["data"]["msgType"] == "Cancel"
    assert lifted["data"]["incident"] == warned[0]["data"]["id"]
    assert (await node.get("/v1/alerts?active=true"))[1]["alerts"] == []


async def test_a_recording_is_played_into_a_node_and_warns_there(
    node: RunningNode, stream: Stream, tmp_path: Path
) -> None:
    file, key = tmp_path / "flood.csv", tmp_path / "key"
    rows = [f"2026-06-03T10:{minute}:00+09:00,hitoyoshi,{level}" for minute, level in ((10, 2.9), (20, 3.1))]
    file.write_text("\n".join(["obs_time,code,level_m", *rows, "2026-06-03T10:20:00+09:00,nobody,1.0"]))
    key.write_text(await node.key(Role.SENSOR))
    done = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lalert", "sensors", "replay", file, "--hub", node.url, "--key-file", key,
        "--speed", "1000", stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await done.communicate()
    assert (done.returncode, said.decode()) == (
        1,
        "2 accepted, 0 known already, 1 rejected\n  unknown-station: 1\n",
    )
    assert (await stream.next())["data"]["info"][0]["headline"] == "球磨川 人吉 氾濫注意水位に到達"


def _now(seconds: float) -> str:
    from datetime import datetime, timedelta

    return (datetime.now().astimezone() + timedelta(seconds=seconds)).isoformat()


async def test_a_webhook_receives_it_signed_and_a_feed_shows_it(node: RunningNode) -> None:
    received: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def hook(request: web.Request) -> web.Response:
        received.put_nowait((dict(request.headers), await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/", hook)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        target = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        body = {"channel": "webhook", "target": target, "filter": {"area": "43203"}}
        async with node.http.post(
            f"{node.url}/v1/subscriptions", json=body, headers=node.headers(Role.RECEIVER)
        ) as response:
            assert response.status == 201, await response.text()
            made = await response.json()
        _, answer = await node.post(make_cap(sender=SENDER, headline="人吉市に避難指示"))
        headers, payload = await asyncio.wait_for(received.get(), 10)
    finally:
        await runner.cleanup()
    verified = Webhook(made["options"]["secret"]).verify(payload.decode(), headers)
    assert verified["data"]["position"] == answer["position"]
    async with node.http.get(f"{node.url}/feeds/432032.atom") as response:
        feed = feedparser.parse(await response.read())
    assert [entry.title for entry in feed.entries] == ["人吉市に避難指示"]


async def test_what_was_accepted_is_there_after_a_restart_and_a_stream_goes_on(tmp_path: Path) -> None:
    async with running_node(tmp_path / "data") as node:
        keys = node.keys
        _, first = await node.post(make_cap(sender=SENDER, identifier="one"))
        await node.post(make_cap(sender=SENDER, identifier="two"))
    async with running_node(tmp_path / "data") as node:
        node.keys = keys
        await node.post(make_cap(sender=SENDER, identifier="three"))
        headers = {"Last-Event-ID": first["position"]}
        async with node.http.get(f"{node.url}/v1/stream", headers=headers) as response:
            stream = Stream(response)
            assert [(await stream.next())["data"]["identifier"] for _ in range(2)] == ["two", "three"]


async def test_an_unknown_position_is_answered_with_a_gap_and_the_state_of_now(node: RunningNode) -> None:
    await node.post(make_cap(sender=SENDER, identifier="here"))
    async with node.http.get(f"{node.url}/v1/stream?after=0000dead-7") as response:
        stream = Stream(response)
        assert (await stream.next())["event"] == "gap"
        snapshot = await stream.next()
        assert snapshot["event"] == "snapshot"
        assert [alert["identifier"] for alert in snapshot["data"]["alerts"]] == ["here"]


async def test_a_drill_reaches_only_those_who_asked_and_carries_its_mark(
    node: RunningNode, stream: Stream
) -> None:
    async with node.http.get(f"{node.url}/v1/stream?status=exercise") as response:
        drills = Stream(response)
        await node.post(make_cap(sender=SENDER, identifier="drill", status="Exercise", headline="避難指示"))
        await node.post(make_cap(sender=SENDER, identifier="real"))
        assert (await stream.next())["data"]["identifier"] == "real"
        drill = (await drills.next())["data"]
    assert drill["identifier"] == "drill"
    assert drill["mark"] == "訓練"
    assert drill["info"][0]["headline"] == "【訓練】避難指示"
    async with node.http.get(f"{node.url}/feeds/all.atom") as response:
        assert "drill" not in await response.text()


async def test_a_revoked_key_fails_within_a_second_and_its_open_stream_ends(node: RunningNode) -> None:
    key = await node.key(Role.RECEIVER)
    async with node.http.get(f"{node.url}/v1/stream", headers=node.headers(key)) as response:
        await node.node.administration.revoke_key(key)
        async with asyncio.timeout(3):
            assert (await Stream(response).next("bye"))["data"]["reconnect"] is None
            await response.content.read()
    assert (await node.get("/v1/alerts", key))[0] == 401


async def test_an_update_that_leaves_a_place_is_told_there_and_is_not_in_force_there(
    node: RunningNode, stream: Stream
) -> None:
    await node.org("county", ["432032", "435015"], ["c@county.example"])
    key = await node.key(Role.SENDER, "county")
    first = make_cap(sender="c@county.example", identifier="wide", codes=["432032", "435015"], polygon=None)
    await node.post(first, key)
    moved = make_cap(
        sender="c@county.example",
        identifier="moved",
        msg_type="Update",
        references=[cap.parse(first)],
        codes=["435015"],
        polygon=None,
    )
    assert (await node.post(moved, key))[0] == 201
    assert [(await stream.next())["data"]["identifier"] for _ in range(2)] == ["wide", "moved"]
    for code, identifiers in (("432032", []), ("435015", ["moved"])):
        _, listed = await node.get(f"/v1/alerts?active=true&area={code}")
        assert [alert["identifier"] for alert in listed["alerts"]] == identifiers
        async with node.http.get(f"{node.url}/v1/stream?after=0000dead-7&area={code}") as response:
            snapshot = await Stream(response).next("snapshot")
        assert [alert["identifier"] for alert in snapshot["data"]["alerts"]] == identifiers
