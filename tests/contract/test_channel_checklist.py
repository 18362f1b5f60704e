"""The checklist under the suite that every channel must pass, and through a whole hub: open until it is ticked, with name and time, by whom it may be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lalert import cap, checklist, registry, resources
from lalert.clock import SystemClock
from lalert.config import Settings
from lalert.errors import BadRequest
from lalert.model import (
    Delivery,
    Entry,
    Filter,
    MsgType,
    Origin,
    OriginKind,
    Outcome,
    Role,
    Status,
    Subscription,
)
from lalert.store import DeliveryRow, DeliveryState
from lalert.testing import make_alert, make_cap
from lalert.testing.channel import Answer, ChannelContract, Received, subscription
from lalert.testing.hub import FakeHub
from lalert.testing.node import RunningNode, running_node
from lalert_adapters.checklist import Checklist, ChecklistConfig

OPENAPI: dict[str, Any] = yaml.safe_load(resources.schema("openapi.yaml"))
SENDER = "bousai@hitoyoshi.example"
TASK = "防災行政無線で放送"


class Shown(Checklist):
    """Notes what a person reads in the row."""

    rows: list[Received]

    async def deliver(self, delivery: Delivery) -> Outcome:
        outcome = await super().deliver(delivery)
        shown = self.preview(delivery.entry, delivery.subscription.lang)
        self.rows.append(Received(delivery.key, "\n".join(part.text for part in shown.parts)))
        return outcome


@dataclass
class Rig:
    channel: Shown
    subscription: Subscription = field(default_factory=lambda: subscription("checklist", TASK))

    def answer(self, how: Answer) -> None:
        assert how is Answer.OK

    def received(self) -> Sequence[Received]:
        return self.channel.rows


@asynccontextmanager
async def make_rig() -> AsyncIterator[Rig]:
    async with Shown("checklist", ChecklistConfig(), FakeHub()) as channel:
        channel.rows = []
        yield Rig(channel)


class TestChecklist(ChannelContract):
    # A row is there or not: nobody can refuse it.
    answers = frozenset({Answer.OK})

    def rig(self) -> Any:
        return make_rig()


@pytest.mark.parametrize(
    "changes",
    [{"target": " "}, {"target": "x" * 101}, {"target": "a\nb"}, {"format": "cap"}, {"options": {"a": "b"}}],
)
async def test_a_task_that_cannot_be_shown_in_a_line_is_refused(changes: dict[str, Any]) -> None:
    async with make_rig() as rig:
        with pytest.raises(BadRequest):
            rig.channel.check_subscription(replace(rig.subscription, **changes))


# A whole hub


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningNode]:
    point = EntryPoint("checklist", "lalert_adapters.checklist:Checklist", registry.GROUP)
    known = registry.installed() | {"checklist": point}
    monkeypatch.setattr(registry, "installed", lambda: known)
    monkeypatch.setattr(checklist, "LOOK_S", 0.02)
    async with running_node(tmp_path / "data", Settings(adapters={"checklist": {}})) as running:
        for status in ("actual", "exercise"):
            body = {"channel": "checklist", "target": f"{TASK} {status}", "filter": {"status": status}}
            assert (await call(running, "/v1/subscriptions", body, Role.RECEIVER))[0] == 201
        yield running


async def call(
    node: RunningNode, path: str, body: Any, key: str | Role | None = Role.SENDER
) -> tuple[int, Any]:
    async with node.http.post(f"{node.url}{path}", json=body, headers=node.headers(key)) as response:
        return response.status, await response.json(content_type=None)


async def rows(node: RunningNode, number: int, query: str = "") -> list[dict[str, Any]]:
    """Wait until there are so many, and hold each against its description."""
    schema = {"$ref": "#/components/schemas/ChecklistItem", "components": OPENAPI["components"]}
    while True:
        status, body = await node.get(f"/v1/checklist{query}", Role.SENDER)
        assert status == 200
        if len(body["items"]) == number:
            for item in body["items"]:
                jsonschema.Draft202012Validator(schema).validate(item)
            found: list[dict[str, Any]] = body["items"]
            return found


async def metric(node: RunningNode, name: str) -> float:
    async with node.http.get(f"{node.url}/metrics") as response:
        text = await response.text()
    [line] = [line for line in text.splitlines() if line.startswith(f'{name}{{channel="checklist"}}')]
    return float(line.split()[-1])


async def until_unticked(node: RunningNode, number: int) -> None:
    while await metric(node, "lalert_channel_unticked") != number:
        pass


async def test_a_row_is_open_and_counted_until_somebody_ticks_it_with_name_and_time(
    node: RunningNode,
) -> None:
    sent = make_cap(sender=SENDER, identifier="one", level=4, headline="避難指示を発令")
    assert (await node.post(sent))[0] == 201
    [row] = await rows(node, 1)
    assert (row["task"], row["state"], row["ticked"], row["words"]) == (f"{TASK} actual", "open", None, "")
    assert "避難指示を発令" in row["alert"]["title"]
    await until_unticked(node, 1)
    assert await metric(node, "lalert_channel_oldest_unticked_seconds") > 0
    await refuses_what_cannot_be_true(node, row["key"])
    done = datetime.now(UTC).replace(microsecond=0)
    tick = {"name": "防災課 山田", "at": done.isoformat(), "note": "2回放送"}
    status, ticked = await call(node, f"/v1/checklist/{row['key']}", tick)
    assert (status, ticked["state"]) == (200, "ticked")
    assert ticked["words"] == f"防災課 山田, {done.isoformat()}: 2回放送"
    assert (await call(node, f"/v1/checklist/{row['key']}", {"name": "佐藤"}))[1]["words"] == ticked["words"]
    await rows(node, 0)
    assert [item["words"] for item in await rows(node, 1, "?state=all")] == [ticked["words"]]
    await until_unticked(node, 0)
    path = f"/v1/subscriptions/{row['subscription']}/deliveries"
    [delivery] = (await node.get(path, Role.RECEIVER))[1]["deliveries"]
    assert (delivery["confirmed"], delivery["detail"]) == (ticked["ticked"], ticked["words"])
    _, audit = await node.get("/v1/audit?limit=100", Role.ADMIN)
    lines = [line for line in audit["lines"] if line["action"] == "checklist.ticked"]
    assert [line["subject"] for line in lines] == [row["key"]] * 2
    assert "山田" not in str(audit)


async def refuses_what_cannot_be_true(node: RunningNode, key: str) -> None:
    now = datetime.now(UTC)
    for body in (
        {},
        {"name": " "},
        {"name": "x" * 61},
        {"name": "a\nb"},
        {"name": "山田", "at": (now + timedelta(minutes=5)).isoformat()},
        {"name": "山田", "at": (now - timedelta(minutes=5)).isoformat()},
        {"name": "山田", "at": "2026-06-03T10:20:00"},
        {"name": "山田", "more": 1},
    ):
        assert (await call(node, f"/v1/checklist/{key}", body))[0] == 400, body
    assert (await node.get("/v1/checklist?state=ticked", Role.SENDER))[0] == 400
    assert [item["state"] for item in await rows(node, 1)] == ["open"]


async def test_what_is_replaced_before_anybody_ticked_it_was_missed_and_a_cancel_has_to_be_ticked(
    node: RunningNode,
) -> None:
    first = make_cap(sender=SENDER, identifier="one", level=4)
    assert (await node.post(first))[0] == 201
    await rows(node, 1)
    cancel = make_cap(sender=SENDER, identifier="two", msg_type=MsgType.CANCEL, references=[cap.parse(first)])
    assert (await node.post(cancel))[0] == 201
    both = await rows(node, 2, "?state=all")
    assert [(row["alert"]["msgType"], row["state"]) for row in both] == [
        ("Alert", "missed"),
        ("Cancel", "open"),
    ]
    await until_unticked(node, 1)


async def test_only_who_may_send_for_the_organisation_ticks_and_a_key_for_drills_only_drills(
    node: RunningNode,
) -> None:
    assert (await node.post(make_cap(sender=SENDER, identifier="real", level=4)))[0] == 201
    drill = make_cap(sender=SENDER, identifier="drill", level=4, status=Status.EXERCISE)
    assert (await node.post(drill))[0] == 201
    real, exercise = sorted(await rows(node, 2), key=lambda row: str(row["alert"]["status"]))
    assert exercise["alert"]["title"].startswith("【訓練】")
    await node.org("other", ["432059"], ["*@other.example"])
    stranger = await node.key(Role.SENDER, "other")
    path, tick = f"/v1/checklist/{real['key']}", {"name": "山田"}
    assert (await node.get("/v1/checklist", stranger))[1] == {"items": []}
    assert (await call(node, path, tick, stranger))[0] == 404
    assert (await call(node, "/v1/checklist/none", tick))[0] == 404
    for nobody in (Role.RECEIVER, None):
        assert (await call(node, path, tick, nobody))[0] in (401, 403)
        assert (await node.get("/v1/checklist", nobody))[0] in (401, 403)
    trainee = await node.key(Role.SENDER, exercise_only=True)
    assert (await call(node, path, tick, trainee))[1]["code"] == "exercise-only-key"
    assert (await call(node, f"/v1/checklist/{exercise['key']}", tick, trainee))[0] == 200
    assert (await call(node, path, tick, Role.ADMIN))[0] == 200


async def test_what_is_open_is_shown_and_counted_however_much_came_after_it() -> None:
    now = datetime.now(UTC)
    task = Subscription("s", "by-hand", TASK, Filter(), now, tenant="hitoyoshi")
    log: list[Entry] = []
    for number in range(checklist.SHOWN + 2):
        alert, stored = make_alert(identifier=f"{number}"), now - timedelta(minutes=200 - number)
        log.append(Entry(f"p{number}", stored, stored, alert, Origin(OriginKind.HTTP), alert.id))
    read: list[str] = []

    class Rows:
        async def subscriptions(self) -> list[Subscription]:
            return [task]

        async def history(self, subscription_id: str, limit: int = 100) -> list[DeliveryRow]:
            rows = [
                DeliveryRow(e.alert.id, "s", e.position, DeliveryState.DELIVERED, 1, None, "", e.stored, None)
                for e in reversed(log)
            ]
            return rows[:limit]

        async def confirm(self, key: str, words: str = "") -> None:
            raise AssertionError

        async def entry(self, position: str) -> Entry | None:
            read.append(position)
            return next(e for e in log if e.position == position)

        async def active(self, now: datetime) -> list[Entry]:
            return [log[0]]

        async def delivery(self, key: str) -> DeliveryRow | None:
            return None

    made = checklist.Checklist(Rows(), Rows(), SystemClock(), ["by-hand"])
    assert [item.entry.position for item in await made.items("hitoyoshi")] == ["p0"]
    assert len(read) == checklist.SHOWN + 1
    assert [item.entry.position for item in await made.items("hitoyoshi")] == ["p0"]
    await made._look()
    assert len(read) == checklist.SHOWN + 1, "what is over is not read again"
    assert made.gauges()["unticked"] == {"by-hand": 1.0}
    everything = await made.items("hitoyoshi", everything=True)
    assert len(everything) == checklist.SHOWN + 1
    assert everything[0].entry.position == "p0"
    assert await made.items("other", everything=True) == []
