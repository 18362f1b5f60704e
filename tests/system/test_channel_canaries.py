"""A canary through a whole hub: sent on schedule, answered by its recipient, missed and found again; with what metrics, the local socket and `/v1/channels` say."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from aiohttp import web
from click.testing import CliRunner

from lalert.cli import main
from lalert.cli.channels import COUNTS, WORDS, report
from lalert.clock import SystemClock
from lalert.config import Hub, Settings
from lalert.model import Role
from lalert.testing.channel import until
from lalert.testing.node import RunningNode, running_node
from tests.redis_kit import valkey
from tests.system.nodes_kit import nodes

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class Fast(SystemClock):
    """A second is a three-hundredth of one for whoever sleeps."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 300)


@dataclass
class Recipient:
    """The canary's own receiver, which verifies, and answers where it shall."""

    answers: bool = False
    status: int = 200
    payloads: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.payloads.append(standardwebhooks.Webhook(SECRET).verify(body, dict(request.headers)))
        return web.Response(status=self.status)


@pytest.fixture
async def recipient() -> AsyncIterator[Recipient]:
    made = Recipient()
    app = web.Application()
    app.router.add_post("/canary", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.port = runner.addresses[0][1]
        yield made
    finally:
        await runner.cleanup()


async def canary_of(node: RunningNode) -> dict[str, Any]:
    body = await node.local("/channels")
    [hook] = [channel for channel in body["channels"] if channel["name"] == "webhook"]
    found: dict[str, Any] = hook["canary"]
    return found


async def test_it_is_sent_answered_missed_and_found_again_and_readiness_never_depends_on_it(
    tmp_path: Path, recipient: Recipient
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    block = {
        "allow_http": True,
        "canary_secret_file": str(secret),
        "canary": {"target": f"http://127.0.0.1:{recipient.port}/canary", "every_s": 30, "within_s": 1},
    }
    async with running_node(tmp_path / "data", Settings(adapters={"webhook": block}), Fast()) as node:
        await until(lambda: recipient.payloads)
        # Only the last one can be answered, and on a slow machine the next is already in the air.
        while (answered := await answer(node, recipient.payloads[-1])) != 204:
            assert answered == 404
        async with node.http.post(recipient.payloads[0]["data"]["answer"] + "0") as response:
            assert response.status == 404
        assert recipient.payloads[0]["type"] == "lalert.canary"
        recipient.status = 503
        while (found := await canary_of(node))["well"]:
            pass
        assert (found["last"]["sighting"], found["last"]["detail"]) == ("missed", "HTTP 503")
        assert await metric(node, "lalert_channel_canary_well") == 0
        assert (await node.get("/readyz"))[0] == 200
        recipient.status = 200
        while not (found := await canary_of(node))["well"]:
            pass
        assert found["last"]["sighting"] == "sent"
        assert await metric(node, "lalert_channel_canary_age_seconds") < 5
        assert (await node.get("/v1/alerts"))[1]["alerts"] == []
        for role in (Role.SENDER, Role.RECEIVER, None):
            assert (await node.get("/v1/channels", role))[0] in (401, 403)
        seen = await node.get("/v1/channels", Role.ADMIN)
        assert [set(one) for one in seen[1]["channels"]] == [{"name", "drill_safe", "ok", "canary"}] * len(
            seen[1]["channels"]
        )
        [hook] = [one for one in seen[1]["channels"] if one["name"] == "webhook"]
        assert set(hook["canary"]) == {"well", "age_s"}


async def test_what_a_far_end_says_and_how_much_goes_through_are_for_whoever_runs_the_hub(
    tmp_path: Path, recipient: Recipient
) -> None:
    recipient.status = 500
    target = f"http://127.0.0.1:{recipient.port}/canary"
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    block = {
        "allow_http": True,
        "canary_secret_file": str(secret),
        "canary": {"target": target, "every_s": 30, "within_s": 1},
    }
    async with running_node(tmp_path / "data", Settings(adapters={"webhook": block}), Fast()) as node:
        while not ((found := await canary_of(node))["last"]):
            pass
        assert found["last"]["detail"]
        await node.org("elsewhere", ["13"], ["*@elsewhere.example"])
        _, body = await node.get("/v1/channels", await node.key(Role.ADMIN, "elsewhere"))
        assert "HTTP 500" not in str(body)
        assert "deliveries" not in str(body)
        said = await asyncio.to_thread(
            CliRunner().invoke, main, ["channels", "--data", str(node.node.data), "--format", "text"]
        )
        assert said.exit_code == 1, said.output
        assert "webhook: NOT WELL" in said.output
        assert "HTTP 500" in said.output
        assert "0 targets" in said.output
        assert "127.0.0.1" not in said.output
    gone = CliRunner().invoke(main, ["channels", "--data", str(tmp_path / "data")])
    assert gone.exit_code == 1
    assert "no node runs" in gone.output


def test_the_words_of_the_view_are_in_both_languages() -> None:
    row: dict[str, Any] = {
        "name": "urgentmail",
        "drill_safe": False,
        "health": {"ok": True, "detail": "the folder is there"},
        "canary": None,
        "deliveries": dict.fromkeys(("lanes", *COUNTS), 3) | {"oldest_s": 61.0},
    }
    canary = {"well": True, "age_s": 12.0, "arrived": "2026-06-03T10:20:00+09:00", "last": None}
    for lang, well, ill, drills in (
        ("en", "well", "NOT WELL", "carries no drills"),
        ("ja", "正常", "異常あり", "訓練は流しません"),
    ):
        lines = list(report([row, row | {"canary": canary | {"well": False}}], lang))
        assert lines[0] == f"urgentmail: {well}"
        assert f"urgentmail: {ill}" in lines
        assert any(drills in line for line in lines)
        assert not any("{" in line for line in lines)
    assert WORDS["en"].keys() == WORDS["ja"].keys()


async def test_of_two_nodes_one_sends_and_the_answer_may_come_to_the_other(
    tmp_path: Path, recipient: Recipient
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    block = {
        "allow_http": True,
        "canary_secret_file": str(secret),
        "canary": {"target": f"http://127.0.0.1:{recipient.port}/canary", "observe": True},
    }
    settings = Settings(hub=Hub(base_url="https://alert.example"), adapters={"webhook": block})
    (tmp_path / "valkey").mkdir()
    with valkey(tmp_path / "valkey") as server:
        async with nodes(f"redis://127.0.0.1:{server.port}", tmp_path, settings=settings) as (one, two):
            await until(lambda: recipient.payloads)
            token = recipient.payloads[0]["data"]["token"]
            for node in (one, two):
                async with node.http.post(f"{node.url}/v1/canaries/{token}") as response:
                    assert response.status == 204
            while "observed" not in [found["last"]["sighting"] for found in await lasts(one, two)]:
                pass
        assert len(recipient.payloads) == 1


async def answer(node: RunningNode, payload: dict[str, Any]) -> int:
    async with node.http.post(payload["data"]["answer"]) as response:
        return response.status


async def lasts(*some: RunningNode) -> list[dict[str, Any]]:
    return [found for node in some if (found := await canary_of(node))["last"]]


async def metric(node: RunningNode, name: str) -> float:
    async with node.http.get(f"{node.url}/metrics") as response:
        text = await response.text()
    [line] = [line for line in text.splitlines() if line.startswith(f'{name}{{channel="webhook"}}')]
    return float(line.split()[-1])
