"""A hub that judges what it takes by the Japanese profile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lalert import cap
from lalert.clock import SystemClock
from lalert.config import Intake, Settings
from lalert.demo.scenario import ORDERS, order_alert
from lalert.model import Alert, Role, Status
from lalert.testing import make_alert, make_cap
from lalert.testing.node import RunningNode, running_node

SENDER = "bousai@hitoyoshi.example"
KIND = [("jp:kind", "evacuation")]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path / "data", Settings(intake=Intake(profile="jp"))) as running:
        yield running


async def test_what_the_profile_calls_an_error_is_refused_with_its_place(node: RunningNode) -> None:
    raw = make_cap(sender=SENDER, headline="【訓練】避難指示", parameters=KIND)
    status, answer = await node.post(raw)
    assert (status, answer["code"]) == (422, "invalid-alert")
    (problem,) = (p for p in answer["problems"] if p["severity"] == "error")
    assert (problem["rule"], problem["path"]) == ("JP-DRILL-IN-ACTUAL", "/alert/info[1]/headline")
    assert "【訓練】" in raw.decode().splitlines()[problem["line"] - 1]
    assert "訓練か本番か判断できません" in problem["message_ja"]
    _, listed = await node.get("/v1/alerts?status=all")
    assert listed["alerts"] == []


async def test_what_it_calls_a_warning_stays_with_the_alert_over_a_restart(tmp_path: Path) -> None:
    settings = Settings(intake=Intake(profile="jp"))
    async with running_node(tmp_path / "data", settings) as node:
        status, answer = await node.post(make_cap(sender=SENDER, severity="Minor", parameters=KIND))
        assert status == 201, answer
        assert [p["rule"] for p in answer["problems"]] == ["JP-LEVEL-SEVERITY"]
        assert answer["problems"][0]["line"] > 0
    async with running_node(tmp_path / "data", settings) as node:
        _, listed = await node.get("/v1/alerts")
        assert [p["rule"] for p in listed["alerts"][0]["defects"]] == ["JP-LEVEL-SEVERITY"]


async def test_a_tolerated_sender_is_heard_in_spite_of_what_the_profile_finds(node: RunningNode) -> None:
    wrong = make_cap(sender=SENDER, event="高齢者等避難", parameters=KIND)
    assert (await node.post(wrong))[0] == 422
    await node.node.administration.update_org("hitoyoshi", tolerant=["*@hitoyoshi.example"])
    await node.node.keyring.refresh()
    status, answer = await node.post(wrong)
    assert status == 201, answer
    _, listed = await node.get("/v1/alerts")
    (defect,) = listed["alerts"][0]["defects"]
    assert (defect["rule"], defect["severity"]) == ("JP-LEVEL-EVENT", "error")
    assert defect["repair_ja"] == "そのまま受け付けました"


async def test_what_may_be_a_drill_is_refused_of_everybody(node: RunningNode) -> None:
    await node.node.administration.update_org("hitoyoshi", tolerant=["*@hitoyoshi.example"])
    await node.node.keyring.refresh()
    status, answer = await node.post(make_cap(sender=SENDER, headline="【訓練】避難指示", parameters=KIND))
    assert status == 422
    assert "JP-DRILL-IN-ACTUAL" in [problem["rule"] for problem in answer["problems"]]


async def test_in_an_envelope_a_finding_has_its_place_there(node: RunningNode) -> None:
    envelope = cap.wrap(make_alert(sender=SENDER, headline="【訓練】避難指示", parameters=KIND))
    status, answer = await node.post(envelope, content_type="application/edxl+xml")
    assert status == 422
    (problem,) = (p for p in answer["problems"] if p["rule"] == "JP-DRILL-IN-ACTUAL")
    assert problem["path"].startswith("/EDXLDistribution/")
    assert problem["path"].endswith("/alert/info[1]/headline")
    assert "【訓練】" in envelope.decode().splitlines()[problem["line"] - 1]


async def test_a_large_document_is_judged_too(node: RunningNode) -> None:
    areas = make_alert(area_desc="人吉市").infos[0].areas * 700
    raw = make_cap(sender=SENDER, headline="【訓練】", parameters=KIND, areas=areas)
    assert len(raw) > 65_536
    status, answer = await node.post(raw)
    assert status == 422, answer
    assert "JP-DRILL-IN-ACTUAL" in [p["rule"] for p in answer["problems"]]


async def test_without_the_profile_nothing_of_it_is_asked(tmp_path: Path) -> None:
    async with running_node(tmp_path / "data") as node:
        status, answer = await node.post(make_cap(sender=SENDER, severity="Minor", expires=None))
        assert status == 201
        assert [p["rule"] for p in answer.get("problems", [])] == []


@pytest.mark.parametrize("profile", ["cap", "jp"])
async def test_a_code_that_cannot_be_read_is_answered_with_the_right_one(
    tmp_path: Path, profile: str
) -> None:
    async with running_node(tmp_path / "data", Settings(intake=Intake(profile=profile))) as node:
        raw = make_cap(sender=SENDER, parameters=KIND, codes=["432033"])
        status, answer = await node.post(raw)
        assert status == 422, answer
        (problem,) = (p for p in answer["problems"] if p["severity"] == "error")
        assert problem["rule"] == "JP-CODE-CHECK-DIGIT"
        assert "正しければ432032です" in problem["message_ja"]
        assert "432033" in raw.decode().splitlines()[problem["line"] - 1]


async def test_who_may_not_send_at_all_hears_that_first(node: RunningNode) -> None:
    raw = make_cap(sender=SENDER, headline="【訓練】")
    assert (await node.post(raw, None))[0] == 401
    assert (await node.post(raw, Role.RECEIVER))[0] == 403


def test_the_orders_of_the_demo_are_right_by_the_profile() -> None:
    now = make_alert().sent
    sent: list[Alert] = []
    for number, order in enumerate(ORDERS):
        sent.append(order_alert(order, number, now, sent))
        problems = cap.judge(sent[-1], cap.PROFILES["jp"])
        assert [p.rule for p in problems if p.severity in {"error", "warning"}] == []
    assert {alert.status for alert in sent} == {Status.ACTUAL, Status.EXERCISE}


class ThatNight(SystemClock):
    """The clock of the night of the examples, when what they say was in force."""

    def now(self) -> datetime:
        return datetime(2026, 7, 3, 18, 0, tzinfo=UTC)


async def test_the_example_of_a_correction_is_one(tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "examples" / "jp"
    settings = Settings(intake=Intake(profile="jp"))
    async with running_node(tmp_path / "data", settings, ThatNight()) as node:
        assert (await node.post((folder / "shelter.xml").read_bytes()))[0] == 201
        status, answer = await node.post((folder / "correction.xml").read_bytes())
        assert (status, "problems" in answer) == (201, False), answer
        _, listed = await node.get("/v1/alerts")
        assert [alert["correction"] for alert in listed["alerts"]] == [False, True]
        addresses = [alert["details"]["shelters"][0]["address"] for alert in listed["alerts"]]
        assert addresses == ["人吉市下城本町", "人吉市下城本町1578-1"]


async def test_every_example_can_be_posted_to_a_hub(node: RunningNode) -> None:
    folder = Path(__file__).parents[2] / "examples" / "jp"
    for name in sorted(folder.glob("*.xml"), key=lambda file: file.name != "evacuation.xml"):
        status, answer = await node.post(name.read_bytes())
        assert status == 201, (name, answer)
