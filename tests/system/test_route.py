"""The dry run against the real thing: whoever it names is told, nobody else is, and nothing is left of it."""

from __future__ import annotations

import asyncio
import io
import json
import random
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from click.testing import CliRunner

from lalert.cli import main
from lalert.cli.admin import SocketOffice
from lalert.cli.route import WORDS, report
from lalert.client import Client, EventKind
from lalert.dispatch import Bar, Reached
from lalert.errors import Refused, Unavailable
from lalert.matching import Rule
from lalert.model import JST, Alert, Circle, Entry, OriginKind, Role
from lalert.route import MAX_WAITING, Question, Route, Router
from lalert.tenancy import Caller
from lalert.testing import make_alert, make_cap
from lalert.testing.channel import until
from lalert.testing.node import RunningNode, running_node
from lalert.web.admin import socket_path

HITOYOSHI, NISHIKI, MINAMATA = "432032", "435015", "432059"
PREFECTURE = "kumamoto"
FILTERS = (
    "",
    "area=43203",
    "area=43",
    "area=43205&area=43501",
    "area=43203&min_level=5",
    "area=43203&status=all",
    "area=43203&status=exercise",
    "point=32.21,130.76",
    "point=32.21,130.40",
    "bbox=130.7,32.1,130.8,32.3&min_severity=Extreme",
    "polygon=32.20,130.75 32.22,130.75 32.22,130.77",
    "sender=bousai@pref.example",
)


@dataclass
class Receivers:
    """Webhook receivers on loopback, and readers of streams: who got which alert, by the name of the receiver."""

    node: RunningNode
    port: int = 0
    got: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    names: dict[str, str] = field(default_factory=dict)

    async def take(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        self.got[body["data"]["identifier"]].add(request.match_info["name"])
        return web.Response(status=204)

    async def subscribe(self, name: str, filter: str, key: str | Role) -> None:
        """Add a durable push and remember under which id."""
        wanted: dict[str, list[str]] = defaultdict(list)
        for pair in filter.split("&") if filter else ():
            wanted[pair.partition("=")[0]].append(pair.partition("=")[2])
        body = {"channel": "webhook", "target": f"http://127.0.0.1:{self.port}/{name}", "filter": wanted}
        headers = self.node.headers(key)
        async with self.node.http.post(
            f"{self.node.url}/v1/subscriptions", json=body, headers=headers
        ) as answer:
            assert answer.status == 201, await answer.text()
            self.names[(await answer.json())["id"]] = name

    async def listen(self, name: str, filter: str, *, ws: bool, ready: Callable[[], None]) -> None:
        pairs = [(pair.partition("=")[0], pair.partition("=")[2]) for pair in filter.split("&") if filter]
        async with (
            Client(self.node.url, self.node.keys[Role.RECEIVER]) as client,
            aclosing(client.stream(pairs, ws=ws)) as events,
        ):
            async for event in events:
                if event.kind is EventKind.HEARTBEAT:
                    ready()
                if event.kind in (EventKind.ALERT, EventKind.EXPIRED):
                    self.got[event.data["identifier"]].add(name)


@asynccontextmanager
async def receiving(node: RunningNode) -> AsyncIterator[Receivers]:
    receivers = Receivers(node)
    app = web.Application()
    app.router.add_post("/{name}", receivers.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receivers.port = runner.addresses[0][1]
    try:
        yield receivers
    finally:
        await runner.cleanup()


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path / "data") as running:
        await running.org(PREFECTURE, ["43"], ["*@pref.example"])
        yield running


async def ask(
    node: RunningNode,
    raw: bytes,
    key: str | Role | None = Role.SENDER,
    content_type: str = "application/cap+xml",
    **query: str,
) -> tuple[int, dict[str, Any]]:
    headers = node.headers(key, **{"Content-Type": content_type})
    url = f"{node.url}/v1/route?{urlencode(query)}"
    async with node.http.post(url, data=io.BytesIO(raw), headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def ask_here(node: RunningNode, raw: bytes, **query: str) -> dict[str, Any]:
    """Ask on the local socket, as whoever runs the hub."""
    with socket_path(node.node.data) as path:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            return await SocketOffice(session).route(raw, query)


async def run(*words: str, stdin: bytes = b"") -> tuple[int, str]:
    """Run a command in a process of its own; returns its exit code and standard output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "lalert",
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out.decode()


async def beside(*words: str, stdin: bytes) -> tuple[int, str]:
    """Run a command beside the loop, while no node of this process writes to standard output."""
    result = await asyncio.to_thread(CliRunner().invoke, main, list(words), input=stdin)
    return result.exit_code, result.stdout


def chain() -> list[tuple[str, Alert]]:
    """Return alerts, each with the organisation that sends it, among them all that makes an audience larger or smaller than a place."""
    begin = datetime.now(JST).replace(microsecond=0) - timedelta(minutes=30)
    order = make_alert(sent=begin)
    elsewhere = make_alert(
        sent=begin + timedelta(minutes=1),
        sender="bousai@pref.example",
        codes=[MINAMATA, NISHIKI],
        level=5,
        severity="Extreme",
    )
    shrunk = make_alert(
        sent=begin + timedelta(minutes=2),
        sender="bousai@pref.example",
        msg_type="Update",
        references=[elsewhere],
        codes=[NISHIKI],
        level=3,
        severity="Moderate",
    )
    return [
        ("hitoyoshi", order),
        (PREFECTURE, elsewhere),
        (PREFECTURE, shrunk),
        (PREFECTURE, make_alert(sender="bousai@pref.example", codes=(), circle=Circle(130.40, 32.21, 3000.0), polygon=None)),
        ("hitoyoshi", make_alert(status="Exercise")),
        ("hitoyoshi", make_alert(scope="Restricted", restriction="staff")),
        (PREFECTURE, make_alert(sender="bousai@pref.example", codes=(), polygon=None, areas=())),
        ("hitoyoshi", make_alert(msg_type="Cancel", references=[order], infos=(), note="誤り")),
        (PREFECTURE, make_alert(sender="bousai@pref.example", msg_type="Cancel", references=[shrunk], infos=())),
        ("hitoyoshi", make_alert(sent=begin, expires=begin + timedelta(minutes=5))),
    ]  # fmt: skip


async def test_whoever_is_named_is_told_and_nobody_else(node: RunningNode) -> None:
    foretold = await compare(node, FILTERS, chain())
    assert len(foretold) == len(chain())
    assert len({frozenset(named) for named in foretold.values()}) > 6


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(4))
async def test_whoever_is_named_is_told_and_nobody_else_at_length(node: RunningNode, seed: int) -> None:
    dice = random.Random(seed)
    await compare(node, [any_filter(dice) for _ in range(24)], any_alerts(dice, 40))


def any_filter(dice: random.Random) -> str:
    pairs = [
        dice.choice(
            ["", "area=43203", "area=43205", "area=43501", "area=43", "area=40", "area=43203&area=43205"]
        ),
        dice.choice(["", "", f"point={dice.uniform(32.0, 32.4):.4f},{dice.uniform(130.3, 131.0):.4f}"]),
        dice.choice(["", "", "", "bbox=130.7,32.1,130.8,32.3", "polygon=32.1,130.3 32.1,130.5 32.3,130.5"]),
        dice.choice(["", "", "min_level=4", "min_level=5", "level=required"]),
        dice.choice(["", "", "min_severity=Extreme", "min_severity=Severe"]),
        dice.choice(["", "", "", "category=Met", "event=津波", "sender=bousai@pref.example"]),
        dice.choice(["", "", "status=all", "status=exercise", "status=actual,test"]),
    ]
    return "&".join(pair for pair in pairs if pair)


def any_alerts(dice: random.Random, number: int) -> list[tuple[str, Alert]]:
    """Return alerts of the prefecture, many of which continue some of those before."""
    sent = datetime.now(JST).replace(microsecond=0) - timedelta(hours=1)
    alerts: list[Alert] = []
    for _ in range(number):
        sent += timedelta(seconds=dice.choice([0, 5, 20]))
        status = dice.choice(["Actual", "Actual", "Actual", "Exercise"])
        before = [alert for alert in alerts if alert.status == status]
        kind = dice.choice(["Alert", "Alert", "Update", "Cancel", "Error"]) if before else "Alert"
        referred = dice.sample(before, min(len(before), dice.choice([1, 1, 2]))) if kind != "Alert" else []
        bare = kind in ("Cancel", "Error") and dice.random() < 0.6
        where: dict[str, Any] = dice.choice(
            [
                {"codes": [HITOYOSHI]},
                {"codes": [MINAMATA, NISHIKI]},
                {"codes": ["43"]},
                {"codes": (), "polygon": None, "areas": ()},
                {"codes": (), "polygon": None, "circle": Circle(dice.uniform(130.3, 131.0), 32.2, 5000.0)},
            ]
        )
        alerts.append(
            make_alert(
                sent=sent,
                sender="bousai@pref.example",
                status=status,
                msg_type=kind,
                references=referred,
                scope=dice.choice(["Public", "Public", "Public", "Private"]),
                addresses=("a",),
                note="訂正" if kind == "Error" else None,
                level=dice.choice([None, 3, 4, 5]),
                severity=dice.choice(["Unknown", "Moderate", "Severe", "Extreme"]),
                category=dice.choice(["Met", "Safety"]),
                event=dice.choice(["避難指示", "津波"]),
                expires=sent + timedelta(minutes=dice.choice([1, 600, 600])),
                **({"infos": ()} if bare else where),
            )
        )
    return [(PREFECTURE, alert) for alert in alerts]


async def compare(
    node: RunningNode, filters: Sequence[str], alerts: Sequence[tuple[str, Alert]]
) -> dict[str, set[str]]:
    """Ask about each alert, post it, and require that exactly those get it who were named; returns the names by identifier."""
    keys = {"hitoyoshi": node.keys[Role.SENDER], PREFECTURE: await node.key(Role.SENDER, PREFECTURE)}
    other = await node.key(Role.RECEIVER, PREFECTURE)
    foretold: dict[str, set[str]] = {}
    async with receiving(node) as receivers, asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []
        ready: set[str] = set()
        for number, filter in enumerate(filters):
            name = f"stream-{number}"
            listening = receivers.listen(name, filter, ws=bool(number % 2), ready=partial(ready.add, name))
            tasks.append(group.create_task(listening))
            await receivers.subscribe(f"hook-{number}", filter, other if number % 3 else Role.RECEIVER)
        await until(lambda: len(ready) == len(filters))
        for org, alert in alerts:
            status, answer = await ask(node, alert.raw, keys[org])
            assert status == 200
            if not answer["accepted"]:
                assert (await node.post(alert.raw, keys[org]))[0] == answer["status"]
                continue
            assert answer["status"] == 201
            listed = await ask_here(node, alert.raw)
            assert (listed["org"], listed["total"]) == (org, answer["total"])
            named = {
                receivers.names[told["id"]]
                for channel in listed["channels"]
                if not channel["bar"]
                for told in channel["listed"]
            }
            for number, filter in enumerate(filters):
                _, one = await ask(node, alert.raw, keys[org], **{"as": filter or "status=actual"})
                seen = alert.scope == "Public" or org == "hitoyoshi"
                if one["as"]["wanted"] and seen:
                    named.add(f"stream-{number}")
                assert one["as"]["reasons"]
            assert len(named) == answer["total"]
            assert sum("stream" in name for name in named) == answer["streams"]["total"]
            foretold[alert.identifier] = named
            assert alert.identifier not in receivers.got
            assert (await node.post(alert.raw, keys[org]))[0] == 201
            await until(lambda: receivers.got[alert.identifier] >= named)  # noqa: B023  # awaited at once
        # Whatever went out to somebody else would have come by now.
        await until(
            lambda: not node.node.dispatcher.stats()["waiting"] + node.node.dispatcher.stats()["in_flight"]
        )
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
    assert {identifier: names for identifier, names in receivers.got.items() if names} == {
        identifier: names for identifier, names in foretold.items() if names
    }
    return foretold


async def test_a_dry_run_leaves_nothing_behind(node: RunningNode) -> None:
    async def traces() -> tuple[object, ...]:
        await node.node.audit.flush()
        head = await node.node.store.audit_head()
        cards = await node.node.scores.cards(None, None, 5)
        metrics = await (await node.http.get(f"{node.url}/metrics")).text()
        counted = [line for line in metrics.splitlines() if "accepted" in line or "refused" in line]
        return node.node.store.newest, head.number, cards, counted

    await node.post(make_cap())
    before = await traces()
    for raw in (make_cap(), b"<alert/>", make_cap(sender="x@elsewhere.example")):
        status, _ = await ask(node, raw)
        assert status == 200
    assert await traces() == before
    assert (await node.get("/v1/alerts"))[1]["next"] == before[0]


def refused() -> Sequence[bytes]:
    first = make_alert()
    return (
        b"no xml",
        b"<!DOCTYPE a><alert/>",
        b"<alert/>",
        make_cap(sender="x@elsewhere.example"),
        make_cap(codes=[MINAMATA]),
        make_cap(status="Draft"),
        make_cap(sent=datetime.now(JST) + timedelta(days=1)),
        first.raw,  # stands there already, as does another under its name
        make_alert(identifier=first.identifier, sent=first.sent, headline="別の内容").raw,
        make_cap(),
        make_cap(msg_type="Update", references=[make_alert()]),
    )


async def test_the_answer_is_that_of_a_real_post(node: RunningNode) -> None:
    documents = refused()
    await node.post(documents[7])
    for raw in documents:
        _, answer = await ask(node, raw)
        status, posted = await node.post(raw)
        assert answer["status"] == status
        assert answer["accepted"] is (status in (200, 201))
        assert answer["code"] == posted.get("code")
        assert answer["problems"] == posted.get("problems", [])
        if not answer["accepted"]:
            assert answer["total"] == 0
            assert (answer["alert"], answer["channels"], answer["streams"]) == (None, [], None)


async def test_a_key_that_may_not_send_may_not_ask(node: RunningNode) -> None:
    raw = make_cap()
    assert (await ask(node, raw, None))[0] == 401
    for role in (Role.RECEIVER, Role.SENSOR, Role.ADMIN):
        assert (await ask(node, raw, role))[0] == 403
    assert (await ask(node, raw, content_type="text/plain"))[0] == 415
    assert (await ask(node, b"x" * 2_000_000))[0] == 413
    for query in ({"limit": "0"}, {"limit": "1001"}, {"area": HITOYOSHI}, {"as": "aera=43"}, {"as": "43203"}):
        status, problem = await ask(node, raw, **query)
        assert (status, problem["code"]) == (400, "bad-request"), query


async def test_dry_runs_take_turns_and_too_many_are_told_to_come_back(node: RunningNode) -> None:
    class Slow:
        gate, under_way = asyncio.Event(), 0

        async def foresee(self, entry: Entry, lineage: Sequence[Entry]) -> Sequence[Reached]:
            assert not self.under_way
            self.under_way += 1
            await self.gate.wait()
            self.under_way -= 1
            return ()

    router = Router(node.node.hub, None, Slow(), ())
    caller = Caller(node.node.keyring.tenant("hitoyoshi"))

    def ask_one() -> asyncio.Future[Route]:
        return asyncio.ensure_future(router.route(make_cap(), caller, OriginKind.HTTP, Question(None)))

    asked = [ask_one() for _ in range(MAX_WAITING + 1)]
    done, pending = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    [refused] = done
    assert isinstance(refused.exception(), Unavailable)
    Slow.gate.set()
    assert {one.total for one in await asyncio.gather(*pending)} == {0}
    assert (await ask_one()).error is None


async def test_nothing_of_another_organisations_targets_is_shown(node: RunningNode) -> None:
    other = await node.key(Role.RECEIVER, PREFECTURE)
    async with receiving(node) as receivers:
        await receivers.subscribe("theirs-1", "point=32.2117,130.7613", other)
        await receivers.subscribe("theirs-2", f"area={HITOYOSHI}", other)
        await receivers.subscribe("ours", f"area={HITOYOSHI}", Role.RECEIVER)
        _, answer = await ask(node, make_cap())
        [channel] = answer["channels"]
        assert (channel["total"], channel["yours"]) == (3, 1)
        assert [receivers.names[told["id"]] for told in channel["listed"]] == ["ours"]
        assert {(one["rule"], one["area"], one["number"]) for one in channel["by"]} == {
            ("area", HITOYOSHI, 2),
            ("point", None, 1),
        }
        text = json.dumps(answer)
        theirs = [id for id, name in receivers.names.items() if name.startswith("theirs")]
        assert not [secret for secret in ("theirs", "32.2117", "130.7613", *theirs) if secret in text]
        # What is not Public is for nobody else, and they are not even counted.
        _, answer = await ask(node, make_cap(scope="Restricted", restriction="staff"))
        assert [channel["total"] for channel in answer["channels"]] == [1]


async def test_lists_are_bounded_and_numbers_are_not(node: RunningNode) -> None:
    async with receiving(node) as receivers:
        for number in range(7):
            await receivers.subscribe(f"hook-{number}", f"point=32.21,130.76{number}", Role.RECEIVER)
        _, answer = await ask(node, make_cap(codes=["432032"]), limit="3")
        [channel] = answer["channels"]
        assert (channel["total"], channel["yours"], len(channel["listed"])) == (7, 7, 3)
        assert len(answer["feeds"]["listed"]) == 3 < answer["feeds"]["total"]


async def test_the_feeds_that_are_named_change_and_their_neighbours_do_not(node: RunningNode) -> None:
    async def feeds(paths: Sequence[str]) -> dict[str, bool]:
        shown = {}
        for path in paths:
            async with node.http.get(node.url + path) as answer:
                shown[path] = "urn:lalert:alert" in await answer.text()
        return shown

    raw = make_cap(codes=[HITOYOSHI])
    _, answer = await ask(node, raw)
    named = answer["feeds"]["listed"]
    assert {f"/feeds/{HITOYOSHI}.atom", "/feeds/all.rss", "/feeds/43/evacuation.atom"} <= set(named)
    others = [
        f"/feeds/{MINAMATA}.atom",
        "/feeds/40.rss",
        "/feeds/kind/rain.atom",
        "/feeds/all.atom?status=exercise",
    ]
    assert not any((await feeds([*named, *others])).values())
    await node.post(raw)
    assert await feeds([*named, *others]) == dict.fromkeys(named, True) | dict.fromkeys(others, False)
    assert (await ask(node, make_cap(scope="Restricted", restriction="staff")))[1]["feeds"]["total"] == 0


async def test_a_channel_that_sends_nothing_says_why(node: RunningNode) -> None:
    async with receiving(node) as receivers:
        await receivers.subscribe("hook", "status=all", Role.RECEIVER)
        hour = timedelta(hours=1)
        sent = datetime.now(JST) - 2 * hour
        _, over = await ask(node, make_cap(sent=sent, expires=sent + hour))
        assert [(channel["bar"], channel["total"]) for channel in over["channels"]] == [("too-late", 1)]
        assert (over["total"], over["alert"]["over"]) == (0, True)
        first = make_alert(sent=sent)
        update = make_alert(sent=sent + hour, msg_type="Update", references=[first])
        await node.post(update.raw)
        _, late = await ask(node, first.raw)
        assert [channel["bar"] for channel in late["channels"]] == ["outdated"]
        assert late["alert"]["outdated"] is True
        _, exercise = await ask(node, make_cap(status="Exercise"))
        assert [channel["bar"] for channel in exercise["channels"]] == [None]
        assert exercise["alert"]["mark"] == "訓練"


async def test_an_officer_reads_who_would_be_told(node: RunningNode) -> None:
    raw = make_cap(codes=[HITOYOSHI])
    async with receiving(node) as receivers:
        await receivers.subscribe("hook", f"area={HITOYOSHI}", Role.RECEIVER)
        answer = await ask_here(node, raw, **{"as": "area=43205"})
        english = "\n".join(report("order.xml", answer, "en"))
        for words in (
            "order.xml: would be accepted (201); 1 would be told",
            "432032 人吉市",
            f"http://127.0.0.1:{receivers.port}/hook",
            "area 432032: the alert concerns it",
            "NO, this filter does not get it: area=432059",
            "the alert concerns 432032, and none of the filter's places",
        ):
            assert words in english
        japanese = "\n".join(report("order.xml", answer, "ja"))
        assert "受理されます(201)。配信先は1件です" in japanese
        assert "地域432032が対象です" in japanese
        code, out = await run(
            "route", "test", "-", "--hub", node.url, "--key", node.keys[Role.SENDER], stdin=raw
        )
        assert (code, out.splitlines()) == (0, list(report("-", await ask_here(node, raw), "en")))
    refused = "\n".join(report("-", await ask_here(node, b"<alert/>"), "en"))
    assert "WOULD BE REFUSED (422)" in refused
    with pytest.raises(Refused, match="there is no organisation 'nobody'"):
        await ask_here(node, raw, org="nobody")


def test_every_answer_has_words_in_both_languages() -> None:
    lets_through = list(Rule)[: list(Rule).index(Rule.STATUS)]
    for say in WORDS.values():
        assert {f"by-{rule}" for rule in lets_through} | set(Bar) <= say.keys()
    assert WORDS["ja"].keys() == WORDS["en"].keys()


def test_what_cannot_be_asked_ends_with_2(tmp_path: Path) -> None:
    file = tmp_path / "order.xml"
    file.write_bytes(make_cap())
    data = ("--data", str(tmp_path / "none"))
    missing = str(tmp_path / "missing.xml")
    for words in (
        (str(file), *data),
        (missing, *data),
        (str(file), *data, "--as", "aera=1"),
        (str(file), "--limit", "0"),
    ):
        assert CliRunner().invoke(main, ["route", "test", *words]).exit_code == 2, words


async def test_the_store_answers_while_no_node_runs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = make_alert(sent=datetime.now(JST) - timedelta(hours=1), codes=[HITOYOSHI])
    update = make_alert(msg_type="Update", references=[first], codes=[HITOYOSHI], level=3)
    async with running_node(data) as node, receiving(node) as receivers:
        await node.post(first.raw)
        await receivers.subscribe("hook", f"area={HITOYOSHI}", Role.RECEIVER)
        running = await ask_here(node, update.raw)
    words = ("route", "test", "-", "--data", str(data), "--format", "json")
    code, out = await beside(*words, stdin=update.raw)
    answer = json.loads(out)
    assert code == 0
    assert running["streams"] == {"total": 0, "sse": 0, "websocket": 0, "by": []}
    assert answer == running | {"streams": None}
    assert answer["continues"]["replaces"] == [first.id]
    assert "no node runs here" in "\n".join(report("-", answer, "en"))
    assert (await beside(*words, stdin=b"<alert/>"))[0] == 1
    async with running_node(data) as node:
        assert await node.node.store.find(update.id) is None
