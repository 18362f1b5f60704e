"""Several whole nodes over one Valkey, seen from outside: whichever of them a client comes to, it is one hub."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, cast

import aiohttp
import feedparser
import pytest
import pytest_asyncio

from lalert import cap
from lalert.client import Client, EventKind, merged_stream
from lalert.config import Hub, Settings
from lalert.model import Role
from lalert.testing import make_cap
from lalert.testing.node import CODES, ORG, RunningNode
from tests.redis_kit import Proxy, ask, valkey
from tests.system.fault_kit import Hub as Process
from tests.system.fault_kit import Load
from tests.system.history import History, check
from tests.system.nodes_kit import PATIENCE, Roamer, lalert, listening, nodes, until

SENDER = "bousai@hitoyoshi.example"
Pair = tuple[RunningNode, RunningNode]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    path = tmp_path_factory.mktemp("nodes")
    (path / "valkey").mkdir()
    one_hub = Settings(hub=Hub(base_url="https://alert.example"))
    with valkey(path / "valkey") as server:
        async with nodes(f"redis://127.0.0.1:{server.port}", path, settings=one_hub) as [a, b]:
            yield a, b


@pytest_asyncio.fixture(loop_scope="module")
async def pair(both: Pair) -> Pair:
    """Return the two nodes, once both know all that other tests have posted."""
    await level(both)
    return both


async def level(pair: Pair) -> None:
    """Wait until both nodes stand at one position."""
    async with asyncio.timeout(PATIENCE):
        while len({(await node.get("/readyz"))[1]["position"] for node in pair}) > 1:
            await asyncio.sleep(0.01)


async def test_a_ticket_of_one_node_serves_once_at_whichever_is_asked_first(pair: Pair) -> None:
    a, b = pair

    async def opened(node: RunningNode, ticket: str) -> int:
        async with node.http.get(f"{node.url}/v1/stream", params={"ticket": ticket}) as response:
            return response.status

    for first in (a, b):
        headers = a.headers(Role.RECEIVER)
        async with a.http.post(f"{a.url}/v1/tickets", headers=headers) as response:
            ticket = (await response.json())["ticket"]
        asked = [opened(node, ticket) for node in (first, a, b, b)]
        assert sorted(await asyncio.gather(*asked)) == [200, 401, 401, 401]


async def test_with_two_endpoints_at_once_nothing_is_late_or_lost_when_one_of_them_breaks(pair: Pair) -> None:
    a, b = pair
    async with (
        Proxy(int(a.url.rpartition(":")[2])) as breakable,
        Client(f"http://127.0.0.1:{breakable.port}") as one,
        Client(b.url) as other,
        asyncio.timeout(PATIENCE),
        aclosing(merged_stream([one, other], [("area", "43203")])) as stream,
    ):
        heard = [await anext(stream), await anext(stream)]
        assert {event.kind for event in heard} == {EventKind.HEARTBEAT}, "both are there"
        told: list[str] = []
        for number in range(6):
            if number in (2, 4):
                breakable.cut()
            status, _ = await b.post(make_cap(sender=SENDER, identifier=f"two-{number}"))
            assert status == 201
            while len(told) <= number:
                event = await anext(stream)
                if event.kind is EventKind.ALERT:
                    told.append(event.data["identifier"])
    assert told == [f"two-{number}" for number in range(6)]


async def test_what_a_receiver_confirms_at_any_node_is_known_at_all_and_the_first_time_counts(
    pair: Pair,
) -> None:
    a, b = pair
    async with listening(b) as ear:
        _, answer = await a.post(make_cap(sender=SENDER, identifier="confirmed"))
        hops = (await ear.next("alert"))["hops"]
    # Straight after the answer at a, where nobody listened; then at b, which told of it.
    for node in pair:
        body, headers = {"position": answer["position"]}, a.headers(Role.RECEIVER)
        async with node.http.post(f"{node.url}/v1/acks", json=body, headers=headers) as response:
            assert response.status == 204
    shown = []
    for node in pair:
        _, body = await node.get("/v1/receivers?limit=1", a.keys[Role.RECEIVER])
        shown.append(body["receivers"][0]["alerts"])
    assert shown[0] == shown[1]
    assert (
        shown[0][0].items() >= {"sent": None, "stored": hops["stored"], "received": hops["received"]}.items()
    )


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
        assert listed["alerts"][-1]["position"] == answer["position"]
        async with b.http.get(f"{b.url}/feeds/{CODES[0]}.atom") as response:
            feed = feedparser.parse(await response.read())
        assert feed.entries[0].title == "人吉市に避難指示"
        for ear in (events, frames):
            told = await ear.next()
            assert (told["type"], told["position"]) == ("alert", answer["position"])
            assert told.pop("hops").keys() == {"received", "stored", "sent"}
            assert told == listed["alerts"][-1] | {"type": "alert"}


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

    async def post(node: RunningNode, name: str) -> str:
        _, answer = await node.post(make_cap(sender=SENDER, identifier=name))
        return str(answer["position"])

    async with listening(a, ws=ws) as ear:
        names = [f"before-{number}-{ws}" for number in range(3)]
        for number, name in enumerate(names):
            await post(pair[number % 2], name)
        assert await ear.identifiers(3) == names
        position = ear.heard[-1]["position"]
    names = [f"away-{number}-{ws}" for number in range(3)]
    for number, name in enumerate(names):
        await post(pair[number % 2], name)
    resumed = listening(b, ws=ws, after=position) if ws else listening(b, last_event_id=position)
    async with resumed as ear:
        await post(a, f"after-{ws}")
        assert await ear.identifiers(4) == [*names, f"after-{ws}"]
    # Where the other node has told more than this one has seen, the client is neither told twice nor of a gap.
    async with listening(b, ws=ws, after=await post(a, f"ahead-{ws}")) as ear:
        await post(a, f"last-{ws}")
        assert await ear.identifiers(1) == [f"last-{ws}"]


async def test_clients_that_roam_between_nodes_under_load_get_everything_once_and_in_order(
    pair: Pair,
) -> None:
    await _roam(pair, seconds=1.2)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_clients_that_roam_between_nodes_under_load_get_everything_once_and_in_order_at_length(
    pair: Pair,
) -> None:
    await _roam(pair, seconds=30, roamers=12)


async def _roam(pair: Pair, seconds: float, roamers: int = 6) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng, history = random.Random(seed), History()
    start = (await pair[0].get("/readyz"))[1]["position"]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        hubs = cast("Sequence[Process]", pair)  # of which only the address is asked
        load = Load(hubs, http, pair[0].keys[Role.SENDER], history, pace=0.005, patience=10)
        ears = [Roamer(f"client-{n}", pair, ws=n % 2 == 1, rng=rng, history=history) for n in range(roamers)]
        async with asyncio.TaskGroup() as group:
            roaming = [group.create_task(ear.run()) for ear in ears]
            await asyncio.gather(*(ear.registered.wait() for ear in ears))
            until_when = time.monotonic() + seconds
            numbers = itertools.count(1)

            async def send() -> None:
                while time.monotonic() < until_when:
                    await load.send(f"roam-{seed}-{next(numbers)}", rng.choice(hubs))

            await asyncio.gather(*(send() for _ in range(3)))
            await level(pair)
            history.log = await _log(pair[0], start)
            assert history.log == await _log(pair[1], start)
            await until(lambda: all(ear.at == history.log[-1][0] for ear in ears))
            for task in roaming:
                task.cancel()
    verdict = check(history)
    assert verdict.good, verdict
    assert verdict.accepted == len(history.log) > 20
    assert all(ear.connections > 3 and not ear.gaps for ear in ears), [ear.connections for ear in ears]


@pytest.mark.parametrize("position", ["0000dead-7", "EPOCH-99999999999999999"])
async def test_a_position_that_is_not_of_this_log_is_answered_with_a_gap_and_the_state_of_now(
    pair: Pair, position: str
) -> None:
    a, b = pair
    _, answer = await a.post(make_cap(sender=SENDER, identifier=f"here-{position[:4]}"))
    position = position.replace("EPOCH", answer["position"].split("-")[0])
    async with listening(b, after=position) as events, listening(b, ws=True, after=position) as frames:
        for ear in (events, frames):
            assert (await ear.next())["type"] == "gap"
            snapshot = await ear.next()
            assert snapshot["type"] == "snapshot"
            # This node may hear of it a moment later than it was accepted: then it is told after the state without it.
            told = [alert["position"] for alert in snapshot["alerts"]]
            while answer["position"] not in told:
                told.append((await ear.next("alert"))["position"])


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
        newest = ""
        for node, raw in ((a, first), (b, update), (a, cancel)):
            status, answer = await node.post(raw)
            assert status == 201
            newest = answer["position"]
            # A warning here would say that the other node did not know what it refers to.
            assert not answer.get("problems"), answer
        for node in pair:
            async with asyncio.timeout(1.0):
                while newest != (await node.get("/readyz"))[1]["position"]:
                    await asyncio.sleep(0.005)
            _, listed = await node.get("/v1/alerts?active=true")
            shown = {alert["identifier"] for alert in listed["alerts"]}
            assert not shown & {f"{kind}-{number}" for kind in ("alert", "update", "cancel")}


async def test_a_dry_run_at_any_node_names_the_targets_of_all_and_knows_what_another_has_just_taken(
    pair: Pair,
) -> None:
    a, b = pair
    made = []
    for number in range(6):
        node = pair[number % 2]
        body = {"channel": "webhook", "target": f"http://127.0.0.1:9/{number}", "filter": {"area": "432032"}}
        headers = node.headers(Role.RECEIVER)
        async with node.http.post(f"{node.url}/v1/subscriptions", json=body, headers=headers) as answer:
            made.append((await answer.json())["id"])

    async def route(node: RunningNode, raw: bytes) -> dict[str, Any]:
        headers = node.headers(Role.SENDER, **{"Content-Type": "application/cap+xml"})
        async with node.http.post(f"{node.url}/v1/route", data=raw, headers=headers) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    for node in pair:
        [channel] = (await route(node, make_cap(sender=SENDER)))["channels"]
        assert {told["id"] for told in channel["listed"]} >= set(made)
    for node, other in ((a, b), (b, a)):
        first = make_cap(sender=SENDER, status="Exercise")
        update = make_cap(sender=SENDER, status="Exercise", msg_type="Update", references=[cap.parse(first)])
        assert (await node.post(first))[0] == 201
        assert (await route(other, first))["status"] == 200
        assert (await route(other, update))["continues"]["replaces"] == [cap.parse(first).id]
    for id in made:
        async with a.http.delete(f"{a.url}/v1/subscriptions/{id}", headers=a.headers(Role.RECEIVER)) as gone:
            assert gone.status == 204


async def test_the_same_alert_to_both_nodes_at_once_is_one(pair: Pair) -> None:
    a, b = pair
    for number in range(10):
        raw = make_cap(sender=SENDER, identifier=f"twin-{number}", headline="避難指示")
        answers = await asyncio.gather(a.post(raw), b.post(raw), a.post(raw), b.post(raw))
        assert sorted(status for status, _ in answers) == [200, 200, 200, 201]
        assert len({answer["position"] for _, answer in answers}) == 1
        other = raw.replace("避難指示".encode(), "避難勧告".encode())
        assert [(await node.post(other))[0] for node in pair] == [409, 409]
    for node in pair:
        assert len([name for _, name in await _log(node) if name.startswith("twin-")]) == 10


async def test_a_revoked_key_fails_within_a_second_on_every_node_and_ends_its_open_streams(
    pair: Pair,
) -> None:
    a = pair[0]
    made = await a.node.administration.create_key(ORG, Role.RECEIVER)
    await until(lambda: all(node.node.keyring.still_valid(made.key.id) for node in pair), 1.0)
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


async def test_what_the_command_line_does_at_one_node_or_at_none_holds_at_every_node(
    pair: Pair, tmp_path: Path
) -> None:
    a, b = pair
    alone = tmp_path / "lalert.toml"
    alone.write_text(
        f'[hub]\ndata = "{tmp_path}/alone"\n[store]\nurl = "{a.node.settings.store.url}"\n', encoding="utf-8"
    )
    senders = ["--senders", "*@minamata.example"]
    await run("org", "create", "minamata", "--codes", "432059", *senders, "--config", alone)
    key = await run("key", "create", "--org", "minamata", "--role", "sender", "--data", a.node.data)
    raw = make_cap(sender="b@minamata.example", codes=["432059"], polygon=None)
    # The other node was told of the key by a hint.
    assert (await b.post(raw, key))[0] == 201
    await run("key", "revoke", key, "--data", b.node.data)
    assert (await a.post(raw, key))[0] == 401


async def run(*words: str | Path) -> str:
    done = await asyncio.to_thread(lalert, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def test_a_server_without_memory_left_is_told_to_senders_and_throws_nothing_away(pair: Pair) -> None:
    a, b = pair
    port = int(a.node.settings.store.url.rpartition(":")[2])
    before = await _log(a)
    await ask(port, "CONFIG", "SET", "maxmemory", "1mb")
    try:
        raw = make_cap(sender=SENDER, identifier="no-room")
        headers = a.headers(Role.SENDER) | {"Content-Type": "application/cap+xml"}
        for node in pair:
            async with node.http.post(f"{node.url}/v1/alerts", data=raw, headers=headers) as response:
                assert response.status == 503
                assert int(response.headers["Retry-After"]) > 0
                assert "maxmemory" in (await response.json())["detail"]
    finally:
        await ask(port, "CONFIG", "SET", "maxmemory", "0")
    async with asyncio.timeout(PATIENCE):
        while (await b.post(raw))[0] != 201:
            await asyncio.sleep(0.05)
    assert (await _log(b))[:-1] == before


async def test_a_feed_is_the_same_at_every_node_so_that_what_one_gave_is_still_good_at_another(
    pair: Pair,
) -> None:
    a, b = pair
    _, answer = await a.post(make_cap(sender=SENDER, identifier="in-the-feed"))
    assert (await b.get(f"/v1/alerts?after={answer['position']}"))[0] == 200
    for name in (f"{CODES[0]}.atom", "all.rss"):
        async with a.http.get(f"{a.url}/feeds/{name}") as response:
            etag, feed = response.headers["ETag"], await response.read()
        async with b.http.get(f"{b.url}/feeds/{name}", headers={"If-None-Match": etag}) as response:
            assert response.status == 304
        async with b.http.get(f"{b.url}/feeds/{name}") as response:
            assert await response.read() == feed


async def test_what_was_refused_at_several_nodes_is_counted_together(pair: Pair) -> None:
    for number, node in enumerate((*pair, *pair)):
        foreign = make_cap(sender="x@foreign.example", identifier=f"foreign-{number}")
        assert (await node.post(foreign))[0] == 403
    for node in pair:
        async with asyncio.timeout(PATIENCE):
            while await _refused(node) != 4:
                await asyncio.sleep(0.05)


async def _refused(node: RunningNode) -> int:
    _, found = await node.get("/v1/scorecards", Role.SENDER)
    reasons = [reason for card in found["scorecards"] for reason in card["reasons"]]
    return sum(reason["documents"] for reason in reasons if reason["rule"] == "sender-not-yours")


async def _log(node: RunningNode, start: str | None = None) -> list[tuple[str, str]]:
    log: list[tuple[str, str]] = []
    after = f"&after={start}" if start else ""
    while True:
        _, page = await node.get(f"/v1/alerts?limit=500{after}")
        if not page["alerts"]:
            return log
        log += [(alert["position"], alert["identifier"]) for alert in page["alerts"]]
        after = f"&after={page['next']}"
