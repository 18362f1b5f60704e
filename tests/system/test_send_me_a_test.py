"""`POST /v1/subscriptions/{id}/test` through a whole hub, with a receiver that answers as it is told."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import standardwebhooks
import yaml
from aiohttp import web

from lalert import cap, resources, texts
from lalert.dispatch.trial import MOST, WINDOW_S, Pace, trial_entry
from lalert.errors import TooManyRequests
from lalert.model import Role, Status
from lalert.testing import FakeClock
from lalert.testing.node import RunningNode, running_node

OPENAPI: dict[str, Any] = yaml.safe_load(resources.schema("openapi.yaml"))
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@dataclass
class Receiver:
    status: int = 200
    bodies: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(standardwebhooks.Webhook(SECRET).verify(body, dict(request.headers)))
        return web.Response(status=self.status)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_post("/hook", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield made
    finally:
        await runner.cleanup()


async def call(node: RunningNode, path: str, key: str | Role = Role.RECEIVER, **more: Any) -> tuple[int, Any]:
    async with node.http.post(f"{node.url}{path}", headers=node.headers(key), **more) as response:
        return response.status, await response.json(content_type=None)


async def test_a_receiver_sends_itself_a_test_that_is_marked_and_is_no_alert(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with running_node(tmp_path / "data") as node:
        asked = {
            "channel": "webhook",
            "target": receiver.url,
            "filter": {"area": "432032"},
            "options": {"secret": SECRET},
        }
        _, made = await call(node, "/v1/subscriptions", json=asked)
        path = f"/v1/subscriptions/{made['id']}/test"
        status, said = await call(node, path)
        assert (status, said["state"], said["detail"]) == (200, "delivered", "HTTP 200")
        schema = {"$ref": "#/components/schemas/Trial", "components": OPENAPI["components"]}
        jsonschema.Draft202012Validator(schema).validate(said)
        assert said["response"] == "HTTP 200"
        [body] = receiver.bodies
        assert body["data"]["status"] == "Test"
        assert body["data"]["info"][0]["headline"].startswith("【試験】")
        receiver.status = 503
        assert (await call(node, path))[1]["state"] == "retry"
        receiver.status = 410
        assert (await call(node, path))[1]["state"] == "dropped"
        assert receiver.bodies[0]["data"]["id"] != receiver.bodies[1]["data"]["id"]
        assert (await node.get("/v1/alerts?status=all"))[1]["alerts"] == []
        assert (await node.get(f"/v1/subscriptions/{made['id']}/deliveries", Role.RECEIVER))[1] == {
            "deliveries": []
        }
        await node.org("other", ["432059"], ["*@other.example"])
        stranger = await node.key(Role.RECEIVER, "other")
        assert (await call(node, path, stranger))[0] == 404
        assert (await call(node, path, Role.SENDER))[0] == 403
        assert len(receiver.bodies) == 3
        answers = {(await call(node, path))[0] for _ in range(MOST)}
        assert answers == {200, 429}
        _, audit = await node.get("/v1/audit?limit=100", Role.ADMIN)
        assert len([line for line in audit["lines"] if line["action"] == "subscription.tested"]) == MOST


def test_the_document_is_valid_and_carries_the_mark_itself_for_who_gets_cap() -> None:
    entry = trial_entry(FakeClock().now(), "hitoyoshi")
    read = cap.parse(entry.alert.raw)
    assert {problem.rule for problem in read.defects} == {"CAP-AREA-PLACE"}
    assert read.status is Status.TEST
    for info in read.infos:
        assert info.headline is not None
        assert info.headline.startswith(("【試験】", "[TEST]"))
    assert texts.alert_text(read, "ja").title.count("試験") == 1
    assert entry.position != trial_entry(FakeClock().now(), None).position


def test_an_organisation_has_a_pace_of_its_own_and_gets_room_again() -> None:
    clock = FakeClock()
    pace = Pace(clock)
    for _ in range(MOST):
        pace.take("one")
    clock.move(WINDOW_S - 1)
    with pytest.raises(TooManyRequests) as caught:
        pace.take("one")
    assert caught.value.retry_after == 1
    pace.take("two")
    clock.move(1)
    pace.take("one")
