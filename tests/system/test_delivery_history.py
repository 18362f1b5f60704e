"""What a receiver sees of its own deliveries over HTTP: each attempt, the dead letters, and all of them again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from aiohttp import web

from lalert import resources
from lalert.model import Role
from lalert.testing import make_cap
from lalert.testing.node import RunningNode, running_node

OPENAPI: dict[str, Any] = yaml.safe_load(resources.schema("openapi.yaml"))
PATH = "/hook/token-that-nobody-may-see"


@dataclass
class Receiver:
    status: int = 200
    keys: list[str] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers["webhook-id"])
        return web.Response(status=self.status, text=f"no {request.path} here")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_post(PATH, made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}{PATH}"
        yield made
    finally:
        await runner.cleanup()


async def call(node: RunningNode, path: str, body: Any) -> tuple[int, Any]:
    headers = node.headers(Role.RECEIVER)
    async with node.http.post(f"{node.url}{path}", json=body, headers=headers) as response:
        return response.status, await response.json(content_type=None) if response.content_length else None


async def until_states(node: RunningNode, path: str, *states: str) -> list[dict[str, Any]]:
    while True:
        _, body = await node.get(path, Role.RECEIVER)
        rows: list[dict[str, Any]] = body["deliveries"]
        if sorted(row["state"] for row in rows) == sorted(states):
            return rows


async def test_dead_letters_are_listed_explained_and_sent_again(tmp_path: Path, receiver: Receiver) -> None:
    receiver.status = 400
    async with running_node(tmp_path / "data") as node:
        _, made = await call(node, "/v1/subscriptions", {"channel": "webhook", "target": receiver.url})
        own = f"/v1/subscriptions/{made['id']}"
        for name in ("one", "two"):
            sent = make_cap(sender="bousai@hitoyoshi.example", identifier=name, level=3)
            assert (await node.post(sent))[0] == 201
        dead = await until_states(node, f"{own}/deliveries?state=dead", "dead", "dead")
        assert (await node.get(f"{own}/deliveries?state=retry", Role.RECEIVER))[1] == {"deliveries": []}
        assert (await node.get(f"{own}/deliveries?state=lost", Role.RECEIVER))[0] == 400
        one = await tries(node, f"{own}/deliveries/{dead[0]['key']}", 1)
        [attempt] = one["tries"]
        assert (attempt["state"], attempt["detail"]) == ("dead", "HTTP 400")
        assert attempt["response"].startswith("HTTP 400, no /hook/[…]")
        assert "token-that" not in str(one)
        assert attempt["request"].startswith("POST application/json, ")
        assert (await node.get(f"{own}/deliveries/none", Role.RECEIVER))[0] == 404
        receiver.status = 200
        for body in ({}, {"key": "k", "state": "dead"}, {"state": "delivered"}, {"state": "lost"}):
            assert (await call(node, f"{own}/redeliver", body))[0] == 400
        await nobody_else(node, own, dead[0]["key"])
        receiver.keys.clear()
        status, said = await call(node, f"{own}/redeliver", {"state": "dead"})
        assert (status, said) == (202, {"repeated": [row["key"] for row in reversed(dead)], "refused": []})
        await until_states(node, f"{own}/deliveries", "delivered", "delivered")
        assert sorted(receiver.keys) == sorted(row["key"] for row in dead)
        assert [
            each["state"] for each in (await tries(node, f"{own}/deliveries/{dead[0]['key']}", 2))["tries"]
        ] == [
            "dead",
            "delivered",
        ]


async def nobody_else(node: RunningNode, own: str, key: str) -> None:
    """Another organisation does not even learn that there is such a subscription, and what only sends or measures may ask for none."""
    if "other" not in [tenant.id for tenant in await node.node.administration.orgs()]:
        await node.org("other", ["13"], ["*@other.example"])
    reads = (own, f"{own}/deliveries", f"{own}/deliveries/{key}")
    writes = (f"{own}/redeliver", f"{own}/test")
    strangers = [await node.key(role, "other") for role in (Role.RECEIVER, Role.ADMIN)]
    for status, callers in ((404, strangers), (403, [node.keys[Role.SENDER], node.keys[Role.SENSOR]])):
        for caller in callers:
            assert [(await node.get(path, caller))[0] for path in reads] == [status] * len(reads)
            for path in writes:
                for body in ({"key": key}, {"state": "dead"}):
                    headers = node.headers(caller)
                    async with node.http.post(f"{node.url}{path}", json=body, headers=headers) as response:
                        assert response.status == status
            async with node.http.delete(f"{node.url}{own}", headers=node.headers(caller)) as response:
                assert response.status == status


async def test_a_key_that_is_revoked_while_all_are_sent_again_sends_none_of_the_rest(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.status = 400
    async with running_node(tmp_path / "data") as node:
        _, made = await call(node, "/v1/subscriptions", {"channel": "webhook", "target": receiver.url})
        own = f"/v1/subscriptions/{made['id']}"
        for name in ("one", "two", "three"):
            assert (await node.post(make_cap(sender="bousai@hitoyoshi.example", identifier=name)))[0] == 201
        await until_states(node, f"{own}/deliveries", "dead", "dead", "dead")
        redelivered: list[str] = []

        async def redeliver(key: str) -> None:
            redelivered.append(key)
            await node.node.administration.revoke_key(node.keys[Role.RECEIVER])
            await node.node.keyring.refresh()

        monkeypatch.setattr(node.node.dispatcher, "redeliver", redeliver)
        assert (await call(node, f"{own}/redeliver", {"state": "dead"}))[0] == 401
        assert len(redelivered) == 1


async def tries(node: RunningNode, path: str, number: int) -> dict[str, Any]:
    """Wait until the history of a delivery has been written, and hold it against its description."""
    schema = {"$ref": "#/components/schemas/DeliveryHistory", "components": OPENAPI["components"]}
    while True:
        status, body = await node.get(path, Role.RECEIVER)
        assert status == 200
        jsonschema.Draft202012Validator(schema).validate(body)
        if len(body["tries"]) == number:
            found: dict[str, Any] = body
            return found
