"""asyncapi.yaml says what the running streams send and take: each event is held against its schema."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import yaml

from lalert import resources
from lalert.config import Live, Settings
from lalert.live.frames import Close, Kind
from lalert.model import Role
from lalert.testing import make_cap
from lalert.testing.node import running_node
from tests.contract.test_api_descriptions import STREAMS
from tests.system.nodes_kit import listening

ASYNCAPI: dict[str, Any] = yaml.safe_load(resources.schema("asyncapi.yaml"))
SENDER = "bousai@hitoyoshi.example"


def checked(event: dict[str, Any]) -> dict[str, Any]:
    payload = ASYNCAPI["components"]["messages"][event["type"]]["payload"]
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    schema = payload | {"components": ASYNCAPI["components"]}
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(event)
    return event


ASKED_FOR = {"pong"}
"""What the hub says on WebSocket only, because it was asked."""


def test_every_kind_of_event_is_a_message_of_both_channels_and_every_reference_leads_somewhere() -> None:
    kinds = {str(kind) for kind in Kind}
    for channel in ASYNCAPI["channels"].values():
        assert {*channel["messages"]} >= kinds - ASKED_FOR
    websocket = ASYNCAPI["channels"]["websocket"]["messages"].keys()
    told = {_last(each) for each in ASYNCAPI["operations"]["tell"]["messages"]}
    heard = {_last(each) for each in ASYNCAPI["operations"]["confirm"]["messages"]}
    assert told == kinds
    assert told | heard == websocket
    assert websocket == ASYNCAPI["components"]["messages"].keys()
    _resolve(ASYNCAPI)


def test_every_stream_is_described_as_it_is_served() -> None:
    assert {channel["address"] for channel in ASYNCAPI["channels"].values()} == STREAMS


def test_every_close_code_that_says_do_not_come_back_is_told() -> None:
    text = ASYNCAPI["channels"]["websocket"]["description"]
    assert [str(int(code)) for code in Close if not code.again and str(int(code)) not in text] == []


async def test_what_the_streams_send_has_the_described_form(tmp_path: Path) -> None:
    async with (
        running_node(tmp_path / "data", Settings(live=Live(heartbeat_s=0.5))) as node,
        AsyncExitStack() as stack,
    ):
        key = await node.key(Role.RECEIVER)
        lost: dict[str, Any] = {"key": key, "after": "nowhere-1"}
        ears = [await stack.enter_async_context(listening(node, ws=ws, **lost)) for ws in (False, True)]
        seen = [checked(await ear.next(kind)) for ear in ears for kind in ("gap", "snapshot")]
        past = datetime.now(UTC) - timedelta(seconds=2)
        over = make_cap(sender=SENDER, identifier="over", sent=past, expires=past + timedelta(seconds=1))
        for raw in (make_cap(sender=SENDER), over):
            assert (await node.post(raw))[0] == 201
        kinds = ("alert", "expired", "heartbeat")
        seen += [checked(await ear.next(kind)) for kind in kinds for ear in ears]
        document = await stack.enter_async_context(
            listening(node, key=key, after=seen[0]["position"], format="cap")
        )
        seen.append(checked(await document.next("expired")))
        assert seen[-1]["cap"]
        socket = await stack.enter_async_context(
            node.http.ws_connect(f"{node.url}/v1/ws", headers=node.headers(key))
        )
        named = checked(await socket.receive_json())["id"]
        for said in ({"type": "pong", "id": named}, {"type": "ping", "id": "x"}):
            await socket.send_json(checked(said))
        seen.append(checked(await _answer(socket)))
        async with node.http.get(f"{node.url}/metrics") as response:
            assert "lalert_live_round_trip_seconds_count 1.0" in await response.text()
        await node.node.administration.revoke_key(key)
        seen += [checked(await ear.next("bye")) for ear in ears]
        assert {event["type"] for event in seen} == {str(kind) for kind in Kind}


async def _answer(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    while (event := await socket.receive_json(timeout=5))["type"] == "heartbeat":
        pass
    return dict(event)


def _last(reference: dict[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]


def _resolve(node: Any) -> None:
    if isinstance(node, dict):
        if "$ref" in node:
            found: Any = ASYNCAPI
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
        for each in node.values():
            _resolve(each)
    elif isinstance(node, list):
        for each in node:
            _resolve(each)
