"""From readings over HTTP to what people find: the image that a warning names is there, and is the one that it means."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from lalert.config import Hub, Settings, Station, Thresholds
from lalert.model import Reading, Role, Status
from lalert.sensors import Stage
from lalert.sensors import Station as EngineStation
from lalert.sensors.proposals import WAITS_S
from lalert.sensors.rules import Act, Decision
from lalert.sensors.settings import Mode, Rules
from lalert.store import StoredReading
from lalert.testing import make_cap
from lalert.testing.node import RunningNode, running_node

pytestmark = pytest.mark.asyncio(loop_scope="module")
ADDRESS = "https://hub.example"
GAUGE = Station(
    "hitoyoshi",
    "人吉",
    "hitoyoshi",
    "gauge@hitoyoshi.example",
    ("432032",),
    130.76,
    32.21,
    river="球磨川",
    thresholds=Thresholds(caution_m=3.0, evacuation_m=3.2, danger_m=3.4, flooding_m=4.7),
    rule=Rules(propose_from=3),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    others = [
        msgspec.structs.replace(GAUGE, id=name) for name in ("lower", "upper", "falling", "race", "race2")
    ]
    trial = msgspec.structs.replace(GAUGE, id="trial", status="Exercise")
    settings = Settings(hub=Hub(base_url=ADDRESS + "/"), stations=(GAUGE, trial, *others))
    async with running_node(tmp_path_factory.mktemp("sensors") / "data", settings) as running:
        yield running


async def river(node: RunningNode, *levels: float, station: str = GAUGE.id) -> None:
    """Send levels that were measured 10 minutes apart, the last one now."""
    now = datetime.now(UTC)
    readings = [
        {"station": station, "time": (now - timedelta(minutes=10 * back)).isoformat(), "level_m": level}
        for back, level in zip(range(len(levels) - 1, -1, -1), levels, strict=True)
    ]
    url, headers = f"{node.url}/v1/readings", node.headers(Role.SENSOR)
    async with node.http.post(url, json=readings, headers=headers) as response:
        assert (await response.json())["accepted"] == len(levels)


async def newest(node: RunningNode, stage: str, station: str = GAUGE.id) -> dict[str, Any]:
    """Wait for a station's warning of a stage and return it."""
    async with asyncio.timeout(10):
        while True:
            _, page = await node.get("/v1/alerts?status=all&limit=500")
            for alert in reversed(page["alerts"]):
                named = {p["valueName"]: p["value"] for p in alert["info"][0]["parameters"]}
                if (named.get("station"), named.get("stage")) == (station, stage):
                    return cast("dict[str, Any]", alert)
            await asyncio.sleep(0.01)


async def test_the_image_that_a_warning_names_is_served_as_it_was_told(node: RunningNode) -> None:
    await river(node, 2.4, 2.6, 2.9, 3.05)
    warned = await newest(node, "caution")
    for info in warned["info"]:
        [resource] = info["resources"]
        assert resource["uri"].startswith(f"{ADDRESS}/alerts/{warned['id']}/")
        async with node.http.get(node.url + resource["uri"].removeprefix(ADDRESS)) as response:
            image = await response.read()
            assert response.status == 200
            assert response.content_type == resource["mimeType"]
            assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert len(image) == resource["size"]
        assert hashlib.sha1(image, usedforsecurity=False).hexdigest() == resource["digest"]


async def test_an_alert_without_levels_has_no_image(node: RunningNode) -> None:
    _, accepted = await node.post(make_cap(sender="bousai@hitoyoshi.example"))
    alert_id = accepted["url"].rpartition("/")[2]
    for path in (f"/alerts/{alert_id}/hydrograph.ja.svg", "/alerts/none/hydrograph.ja.svg"):
        async with node.http.get(node.url + path) as response:
            assert response.status == 404


async def proposed(node: RunningNode, station: str, level: int, state: str = "open") -> dict[str, Any]:
    """Wait for a proposal of a station at a state and return it."""
    async with asyncio.timeout(10):
        while True:
            _, page = await node.get(f"/v1/proposals?state={state}", Role.SENDER)
            for one in page["proposals"]:
                if (one["station"], one["level"]) == (station, level):
                    return cast("dict[str, Any]", one)
            await asyncio.sleep(0.01)


async def decide(
    node: RunningNode, path: str, body: object = None, key: str | Role = Role.SENDER
) -> tuple[int, Any]:
    url = f"{node.url}/v1/proposals/{path}"
    async with node.http.post(url, json=body, headers=node.headers(key)) as response:
        return response.status, await response.json(content_type=None)


async def test_an_officer_approves_and_the_order_goes_out_once_in_their_name(node: RunningNode) -> None:
    await river(node, 2.4, 2.9, 3.25, station="lower")
    one = await proposed(node, "lower", 3)
    assert one["info"][0]["event"] == "高齢者等避難"
    assert "3.25m" in one["info"][0]["description"]
    assert one["evidence"]["level_m"] == "3.25"
    _, before = await node.get("/v1/alerts?limit=500")
    assert [a for a in before["alerts"] if a["level"] and a["identifier"] == one["id"]] == []
    async with node.http.get(node.url + one["hydrograph"], headers=node.headers(Role.SENDER)) as response:
        assert (await response.read()).startswith(b"<svg")
    status, approved = await decide(node, f"{one['id']}/approve")
    assert status == 201
    assert approved["state"] == "approved"
    assert approved["by"].startswith("key-")
    again, repeated = await decide(node, f"{one['id']}/approve")
    assert again == 200
    assert repeated["alert"] == approved["alert"]
    _, order = await node.get(approved["alert"]["url"], Accept="application/json")
    assert (order["level"], order["codes"], order["msgType"]) == (3, ["432032"], "Alert")
    assert order["info"][0]["resources"][0]["uri"].startswith(ADDRESS + approved["alert"]["url"])
    status, refused = await decide(node, f"{one['id']}/reject", {"reason": "too late"})
    assert (status, refused["code"]) == (409, "proposal-decided")
    _, lines = await node.get("/v1/audit?limit=500", Role.ADMIN)
    told = [line for line in lines["lines"] if line["subject"] == one["id"]]
    assert [(line["action"], line["actor"]) for line in told] == [
        ("proposal.approved", f"key:{approved['by']}")
    ]

    await river(node, 3.5, station="lower")
    higher = await proposed(node, "lower", 4)
    _, update = await decide(node, f"{higher['id']}/approve")
    _, order = await node.get(update["alert"]["url"], Accept="application/json")
    assert (order["level"], order["msgType"]) == (4, "Update")
    assert one["id"] in str(order["references"])


async def test_a_proposal_that_is_overtaken_is_replaced_and_one_whose_water_fell_is_withdrawn(
    node: RunningNode,
) -> None:
    await river(node, 3.3, station="falling")
    low = await proposed(node, "falling", 3)
    await river(node, 3.5, station="falling")
    high = await proposed(node, "falling", 4)
    assert (await proposed(node, "falling", 3, "replaced"))["id"] == low["id"]
    await river(node, 2.5, station="falling")
    assert (await proposed(node, "falling", 4, "withdrawn"))["id"] == high["id"]
    status, refused = await decide(node, f"{high['id']}/approve")
    assert (status, refused["code"]) == (409, "proposal-decided")
    _, page = await node.get("/v1/proposals", Role.ADMIN)
    assert [one for one in page["proposals"] if one["station"] == "falling"] == []


async def test_a_rejection_needs_a_reason_and_stays(node: RunningNode) -> None:
    await river(node, 3.45, station="upper")
    one = await proposed(node, "upper", 4)
    for body in ({}, {"reason": " "}, {"reason": "a" * 301}):
        assert (await decide(node, f"{one['id']}/reject", body))[0] == 400
    status, rejected = await decide(node, f"{one['id']}/reject", {"reason": "現地で異常なし"})
    assert (status, rejected["state"], rejected["reason"]) == (200, "rejected", "現地で異常なし")
    assert (await decide(node, f"{one['id']}/reject", {"reason": "other"}))[1] == rejected
    assert (await decide(node, f"{one['id']}/approve"))[0] == 409


async def test_only_senders_of_the_organisation_decide_and_a_key_for_drills_decides_drills(
    node: RunningNode,
) -> None:
    await river(node, 3.3, station=GAUGE.id)
    await river(node, 3.3, station="trial")
    real, drill = await proposed(node, GAUGE.id, 3), await proposed(node, "trial", 3)
    await node.org("minamata", ("432059",), ("*@minamata.example",))
    foreign = await node.key(Role.SENDER, "minamata")
    learner = await node.key(Role.SENDER, exercise_only=True)
    assert (await node.get(f"/v1/proposals/{real['id']}", foreign))[0] == 404
    assert (await node.get("/v1/proposals", foreign))[1] == {"proposals": []}
    for path, body in (("approve", None), ("reject", {"reason": "no"})):
        answers = [
            await decide(node, f"{real['id']}/{path}", body, key)
            for key in (foreign, Role.ADMIN, Role.RECEIVER, learner)
        ]
        assert [status for status, _ in answers] == [404, 403, 403, 403]
    assert (await proposed(node, GAUGE.id, 3))["id"] == real["id"]
    status, approved = await decide(node, f"{drill['id']}/approve", key=learner)
    assert (status, approved["status"]) == (201, "Exercise")


async def test_many_clicks_at_once_are_one_order(node: RunningNode) -> None:
    await river(node, 3.3, station="race")
    one = await proposed(node, "race", 3)
    clicks = [decide(node, f"{one['id']}/approve") for _ in range(8)]
    clicks.append(decide(node, f"{one['id']}/reject", {"reason": "at the same moment"}))
    answers = await asyncio.gather(*clicks)
    *approvals, rejection = answers
    assert sorted(status for status, _ in approvals) in ([200] * 7 + [201], [409] * 8)
    assert rejection[0] == (200 if approvals[0][0] == 409 else 409)
    _, page = await node.get("/v1/alerts?limit=500")
    sent = [alert for alert in page["alerts"] if alert["identifier"] == one["id"]]
    assert len(sent) == (0 if rejection[0] == 200 else 1)


async def test_what_a_node_approved_and_did_not_live_to_send_is_sent_by_another(node: RunningNode) -> None:
    await river(node, 3.3, station="race2")
    one = await proposed(node, "race2", 3)
    hub, now = node.node, datetime.now(UTC)
    key = next(key for key in await hub.store.keys() if key.role is Role.SENDER)
    await hub.store.decide_proposal(one["id"], "approved", key.id, now - timedelta(seconds=10))
    assert (await proposed(node, "race2", 3, "approved"))["alert"] is None
    for _ in range(2):
        await hub.proposals.look()
    made_up_for = await proposed(node, "race2", 3, "approved")
    status, repeated = await decide(node, f"{one['id']}/approve")
    assert (status, repeated["alert"]) == (200, made_up_for["alert"])
    _, page = await node.get("/v1/alerts?limit=500")
    [sent] = [alert for alert in page["alerts"] if alert["identifier"] == one["id"]]
    entry = await hub.store.find(sent["id"])
    assert entry is not None
    assert entry.origin.key_id == key.id


async def test_an_approved_order_that_is_refused_is_written_down_once_however_often_it_is_tried(
    node: RunningNode,
) -> None:
    proposals, store = node.node.proposals, node.node.store
    decision = Decision(Act.WARN, Stage.DANGER, Stage.CALM, arrived(4_001, 3.5), None, Mode.PROPOSE)
    await proposals.propose(engine_station("refused"), decision)
    one = await proposed(node, "refused", 4)
    await node.key(Role.SENDER, exercise_only=True)
    learner = [key for key in await store.keys() if key.exercise_only]
    await store.decide_proposal(
        one["id"], "approved", learner[0].id, datetime.now(UTC) - timedelta(minutes=1)
    )
    for _ in range(3):
        await proposals.look()
    _, lines = await node.get("/v1/audit?limit=500", Role.ADMIN)
    assert [line["action"] for line in lines["lines"] if line["subject"] == one["id"]] == [
        "proposal.approved"
    ]
    assert await proposals.sent(await proposals.one("hitoyoshi", one["id"])) is None


async def test_the_operator_is_told_of_a_proposal_that_nobody_decides(node: RunningNode) -> None:
    proposals, now = node.node.proposals, datetime.now(UTC)
    old = replace((await node.node.store.proposals(None, None, 1))[0], id="old", state="open", decided=None)
    old = replace(old, by=None, made=now - timedelta(seconds=WAITS_S + 1))
    await node.node.store.save_proposal(old)
    with capture_logs() as lines:
        for _ in range(2):
            await proposals.look()
    told = [line for line in lines if line.get("proposal") == "old"]
    assert [(line["log_level"], line["level"]) for line in told] == [("error", old.level)]
    async with node.http.get(f"{node.url}/metrics") as response:
        figures = dict(line.split() for line in (await response.text()).splitlines() if line[0] != "#")
    assert float(figures["lalert_proposals_open"]) >= 1
    assert float(figures["lalert_proposals_oldest_open_seconds"]) >= WAITS_S


async def test_what_is_judged_again_after_a_crash_is_proposed_once_and_brings_nothing_back(
    node: RunningNode,
) -> None:
    station = engine_station("again")
    first, second, over = (
        Decision(act, stage, Stage.CALM, arrived(number, level), None, Mode.PROPOSE)
        for act, stage, number, level in (
            (Act.WARN, Stage.EVACUATION, 1_001, 3.3),
            (Act.CHANGE, Stage.DANGER, 1_002, 3.5),
            (Act.LIFT, Stage.CALM, 1_003, 2.0),
        )
    )
    proposals = node.node.proposals

    async def states() -> list[tuple[int, str]]:
        found = await proposals.of("hitoyoshi", None, 500)
        return sorted((one.level, one.state) for one in found if one.station == "again")

    await proposals.propose(station, first)
    assert await states() == [(3, "open")]
    for decision in (second, first, second):
        await proposals.propose(station, decision)
        assert await states() == [(3, "replaced"), (4, "open")]
    for decision in (over, first, second, over):
        await proposals.propose(station, decision)
        assert await states() == [(3, "replaced"), (4, "withdrawn")]


async def test_a_crash_between_two_proposals_leaves_the_newer_one(node: RunningNode) -> None:
    station = engine_station("between")
    low, high = (
        Decision(Act.WARN, stage, Stage.CALM, arrived(number, level), None, Mode.PROPOSE)
        for stage, number, level in ((Stage.EVACUATION, 2_001, 3.3), (Stage.DANGER, 2_002, 3.5))
    )
    proposals, store = node.node.proposals, node.node.store
    await proposals.propose(station, low)
    [first] = [one for one in await proposals.of("hitoyoshi", "open", 500) if one.station == "between"]
    # As though the node had died after saving the second and before it had replaced the first.
    await store.save_proposal(replace(first, id=first.id.replace("2001", "2002"), level=4))
    for decision in (low, high):
        await proposals.propose(station, decision)
    found = [one for one in await proposals.of("hitoyoshi", None, 500) if one.station == "between"]
    assert sorted((one.level, one.state) for one in found) == [(3, "replaced"), (4, "open")]


async def test_an_order_of_a_drill_that_holds_keeps_no_real_proposal_back(node: RunningNode) -> None:
    real = engine_station("tried")
    drill = replace(real, status=Status.EXERCISE)
    decisions = [
        Decision(Act.WARN, Stage.DANGER, Stage.CALM, arrived(number, 3.5), None, Mode.PROPOSE)
        for number in (3_001, 3_002)
    ]
    proposals = node.node.proposals
    await proposals.propose(drill, decisions[0])
    assert (await decide(node, f"{(await proposed(node, 'tried', 4))['id']}/approve"))[0] == 201
    await proposals.propose(real, decisions[1])
    one = await proposed(node, "tried", 4)
    assert (one["status"], one["continues"]) == ("Actual", [])


def engine_station(name: str) -> EngineStation:
    levels = {Stage.EVACUATION: 3.2, Stage.DANGER: 3.4}
    return EngineStation(
        name, "人吉", "hitoyoshi", "gauge@hitoyoshi.example", ("432032",), 130.76, 32.21, levels=levels
    )


def arrived(number: int, level: float) -> StoredReading:
    now = datetime.now(UTC)
    return StoredReading(number, "hitoyoshi", Reading("again", now, level_m=level), now)
