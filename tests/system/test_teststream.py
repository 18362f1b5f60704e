"""The test stream of a whole node: it can be heard without a key, and nothing of it comes to anybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from lalert.app import rehearsal
from lalert.config import Live, Settings
from lalert.model import Role
from lalert.testing import make_cap
from lalert.testing.node import RunningNode, running_node
from lalert.web import streams
from tests.system.nodes_kit import listening

SENDER = "bousai@hitoyoshi.example"
MOST = 6

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    settings = Settings(live=Live(heartbeat_s=0.5, max_per_address=MOST))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehearsal, "EVERY_SECONDS", 0.1)
        async with running_node(tmp_path_factory.mktemp("test-stream") / "data", settings) as running:
            yield running


@pytest.mark.parametrize("ws", [False, True])
async def test_anybody_hears_rounds_of_tests_and_resumes_them(node: RunningNode, *, ws: bool) -> None:
    async with listening(node, test=True, ws=ws, area="432032") as ear:
        told = [await ear.next("alert") for _ in range(4)]
    numbers = [int(event["position"].removeprefix("test-")) for event in told]
    assert numbers == list(range(numbers[0], numbers[0] + 4))
    assert {event["msgType"] for event in told} == {"Alert", "Update", "Cancel"}
    assert {event["status"] for event in told} == {"Test"}
    assert all(event["info"][0]["headline"].startswith("【試験】") for event in told)
    assert all(event["hops"]["sent"] >= event["hops"]["stored"] for event in told)
    async with listening(node, test=True, ws=ws, after=told[0]["position"], format="cap") as ear:
        again = [await ear.next() for _ in range(3)]
    assert [event["position"] for event in again] == [event["position"] for event in told[1:]]
    assert all("<status>Test</status>" in event["cap"] for event in again)


@pytest.mark.parametrize("ws", [False, True])
async def test_a_gap_comes_for_whoever_asks_for_one_and_again_after_a_while(
    node: RunningNode, monkeypatch: pytest.MonkeyPatch, *, ws: bool
) -> None:
    monkeypatch.setattr(streams, "GAP_SECONDS", 0.1)
    async with listening(node, test=True, ws=ws, gap="true") as ear:
        gap, snapshot = await ear.next(), await ear.next()
        assert (gap["type"], gap["reason"], snapshot["type"]) == ("gap", "unknown", "snapshot")
        bye = await ear.next("bye")
    assert (bye["code"], bye["reason"]) == (4003, "resync")
    assert 1 <= bye["reconnect"] <= 5
    position = str(bye["position"])
    async with listening(node, test=True, ws=ws, gap="true", last_event_id=position) as ear:
        assert (await ear.next())["type"] == "gap"
    async with listening(node, test=True, ws=ws, after=position) as ear:
        assert (await ear.next())["type"] == "alert"


async def test_nothing_of_it_is_in_the_log_or_comes_to_another_stream_or_feed(node: RunningNode) -> None:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        ears = [
            await enter(listening(node, ws=ws, key=key, status="all"))
            for ws in (False, True)
            for key in (node.keys[Role.ADMIN], None)
        ]
        test = await enter(listening(node, test=True))
        for _ in range(4):
            await test.next("alert")
        status, answer = await node.post(make_cap(sender=SENDER, identifier="real"))
        assert status == 201
        for ear in ears:
            assert (await ear.next())["identifier"] == "real"
            assert not [event for event in ear.heard if str(event.get("position")).startswith("test-")]
        for _ in range(4):
            assert (await test.next("alert"))["status"] == "Test"
    page = (await node.get("/v1/alerts?status=all", Role.ADMIN))[1]["alerts"]
    assert [alert["position"] for alert in page] == [answer["position"]]
    assert (await node.get(f"/v1/alerts/{test.heard[-1]['position']}"))[1]["code"] == "not-found"
    assert node.node.live.stats()["entries"] == 1
    async with node.http.get(f"{node.url}/feeds/all.atom") as feed:
        assert feed.status == 200
        assert "test-stream@" not in await feed.text()


async def test_it_is_bounded_as_the_others_and_takes_nothing_from_them(node: RunningNode) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(MOST):
            await stack.enter_async_context(listening(node, test=True))
        async with node.http.get(f"{node.url}/v1/stream/test") as response:
            assert response.status == 429
        await stack.enter_async_context(listening(node))
        async with node.http.get(f"{node.url}/metrics") as response:
            assert f"lalert_test_streams {MOST}.0" in await response.text()


@pytest.mark.parametrize(
    "query", ["status=actual", "gap=yes", "ticket=x", "colour=red", "format=pdf", "area=999"]
)
async def test_what_it_does_not_know_it_does_not_pass_over(node: RunningNode, query: str) -> None:
    for path in ("/v1/stream/test", "/v1/ws/test"):
        async with node.http.get(f"{node.url}{path}?{query}") as response:
            assert response.status == 400


async def test_who_listens_to_tests_when_the_node_stops_is_told(node: RunningNode) -> None:
    # The last test of this module: nobody can listen afterwards.
    async with listening(node, test=True) as ear, listening(node) as real:
        draining = asyncio.ensure_future(node.node._drain())
        for each in (ear, real):
            assert (await each.next("bye"))["code"] == 1001
    await draining
