"""What receivers confirm, over the front door: who sees it, and that it outlives a restart."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from lalert.client import Client
from lalert.errors import Refused, Unauthenticated
from lalert.model import Role
from lalert.testing import make_cap
from lalert.testing.node import RunningNode, running_node

SENDER = "bousai@hitoyoshi.example"


async def submitted(node: RunningNode, identifier: str, **about: Any) -> str:
    status, answer = await node.post(make_cap(sender=SENDER, identifier=identifier, **about))
    assert status == 201
    return str(answer["position"])


async def acknowledge(
    node: RunningNode, body: object, key: str | Role | None = Role.RECEIVER
) -> tuple[int, str]:
    async with node.http.post(f"{node.url}/v1/acks", json=body, headers=node.headers(key)) as response:
        problem = await response.json(content_type=None) if response.status != 204 else {}
        return response.status, problem.get("code", "")


async def receivers(node: RunningNode, key: str | Role, query: str = "") -> list[dict[str, Any]]:
    status, body = await node.get(f"/v1/receivers{query}", key)
    assert status == 200
    assert body["next"] is None
    return list(body["receivers"])


async def test_a_receiver_confirms_on_a_stream_or_by_post_and_its_figures_outlive_a_restart(
    tmp_path: Path,
) -> None:
    async with running_node(tmp_path / "data") as node:
        silent = await node.key(Role.RECEIVER)
        async with node.http.ws_connect(f"{node.url}/v1/ws", headers=node.headers(Role.RECEIVER)) as socket:
            beat = (await socket.receive_json(timeout=5))["id"]
            first = await submitted(node, "first")
            async with asyncio.timeout(5):
                while (event := await socket.receive_json())["type"] != "alert":
                    pass
                await socket.send_json({"type": "ack", "position": event["position"]})
                await socket.send_json({"type": "pong", "id": beat})
                await socket.send_json({"type": "ping", "id": "done"})
                while (await socket.receive_json())["type"] != "pong":
                    pass
            [mine] = await receivers(node, Role.RECEIVER)
            assert mine["position"] == first == event["position"]
            [alert] = mine["alerts"]
            assert alert.items() >= event["hops"].items()
            times = [
                datetime.fromisoformat(alert[hop]) for hop in ("received", "stored", "sent", "confirmed")
            ]
            assert times == sorted(times)
            assert mine["latency"]["total"]["p99"] == (times[3] - times[0]).total_seconds()
            [connection] = mine["connections"]
            assert (connection["stream"], connection["acknowledged"]) == ("websocket", first)
            assert 0 < connection["round_trip_s"] < 5
        second = await submitted(node, "second", scope="Private", addresses=["school"])
        async with Client(node.url, node.keys[Role.RECEIVER]) as client:
            await client.confirm(second)
            with pytest.raises(Refused, match="not of this log"):
                await client.confirm("other-1")
            ticket = await client.ticket()
        async with Client(node.url) as page:
            with pytest.raises(Unauthenticated):
                await page.ticket()
            async with aclosing(page.stream([("ticket", ticket)], after=first, resume=False)) as stream:
                assert (await anext(stream)).position == second
        both = await receivers(node, Role.ADMIN)
        assert {each["key"]: each["position"] for each in both}[mine["key"]] == second
        assert [each["position"] for each in both if each["key"] != mine["key"]] == [None]
        async with node.http.get(f"{node.url}/metrics") as response:
            text = await response.text()
        assert mine["key"] not in text
        counts = {
            sample.labels["hop"]: sample.value
            for family in families(text)
            for sample in family.samples
            if sample.name == "lalert_alert_hop_seconds_count"
        }
        assert counts == {"stored": 1, "sent": 1, "confirmed": 1}
        asked = await receivers(node, Role.ADMIN, f"?position={first}")
        assert {each["key"]: [a["position"] for a in each["alerts"]] for each in asked}[mine["key"]] == [
            first
        ]
        assert sum(not each["alerts"] for each in asked) == 1, "who has not confirmed is seen"
        keys = node.keys
        await node.node.administration.revoke_key(silent)
    async with running_node(tmp_path / "data") as node:
        node.keys = keys
        [kept] = await receivers(node, Role.ADMIN, "?limit=1")
        assert kept["connections"] == []
        assert [each["position"] for each in kept["alerts"]] == [second]
        assert kept["latency"]["total"]["max"] > 0


async def test_who_may_confirm_and_who_may_look(tmp_path: Path) -> None:
    async with running_node(tmp_path / "data") as node:
        await node.org("minamata", ("432059",), ("*@minamata.example",))
        stranger, foreman = [await node.key(role, "minamata") for role in (Role.RECEIVER, Role.ADMIN)]
        hidden = await submitted(node, "hidden", scope="Private", addresses=["school"])
        own = {"position": hidden}
        assert await acknowledge(node, own, stranger) == (404, "not-found")
        assert await acknowledge(node, own, None) == (401, "unauthenticated")
        for role in (Role.SENDER, Role.SENSOR, Role.ADMIN):
            assert await acknowledge(node, own, role) == (403, "wrong-role")
        for body in (
            {},
            {"position": 7},
            {"position": ""},
            {"position": hidden, "id": "x"},
            {"position": "x"},
        ):
            assert await acknowledge(node, body) == (400, "bad-request")
        assert await acknowledge(node, {"position": "other-1"}) == (410, "unknown-position")
        for role in (Role.SENDER, Role.SENSOR):
            assert (await node.get("/v1/receivers", role))[0] == 403
        [theirs] = await receivers(node, foreman)
        assert theirs == (await receivers(node, stranger))[0]
        [ours] = await receivers(node, Role.RECEIVER)
        assert (await node.get(f"/v1/receivers?key={ours['key']}", foreman))[0] == 403
        assert (await node.get("/v1/receivers?limit=101", foreman))[0] == 400
        assert await receivers(node, Role.ADMIN, f"?key={ours['key']}") == [ours]
        assert await receivers(node, Role.ADMIN, f"?after={ours['key']}") == []
