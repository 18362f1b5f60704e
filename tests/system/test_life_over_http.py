"""The life of incidents at the hub's own door, and three ways to the same screen."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lalert.client import Client, Event, EventKind
from lalert.hub import AdapterHub
from lalert.model import Alert
from lalert.testing import FakeClock, make_alert
from lalert.testing.node import running_node

HITOYOSHI = "432032"


def rules(answer: Any) -> list[str]:
    return [rule for found in answer.get("problems", ()) if (rule := found["rule"]).startswith("HUB-")]


@dataclass
class Screen:
    """What somebody shows who knows the rule of docs/life.md and nothing else."""

    shown: dict[str, Any] = field(default_factory=dict)
    position: str | None = None

    def take(self, event: Event) -> None:
        data = event.data
        if event.kind is EventKind.SNAPSHOT:
            self.shown = {alert["id"]: alert for alert in data["alerts"]}
        elif event.kind in (EventKind.ALERT, EventKind.EXPIRED):
            for gone in data["replaced"]:
                self.shown.pop(gone, None)
            if event.kind is EventKind.EXPIRED:
                self.shown.pop(data["id"], None)
            elif data["msgType"] in ("Alert", "Update"):
                self.shown[data["id"]] = data
        self.position = event.position or self.position


async def follow(client: Client, screen: Screen, upto: str, after: str | None) -> None:
    """Follow the stream until everything up to a position was examined, and a moment longer: ends come behind it."""
    seen = False
    async with asyncio.timeout(20):
        async for event in client.stream(after=after):
            screen.take(event)
            seen = seen or event.position == upto
            if seen and event.kind is EventKind.HEARTBEAT:
                break


def history(rng: random.Random, now: datetime, count: int) -> list[Alert]:
    """Make a random life of several incidents, in the order of sending."""
    made: list[Alert] = []
    for number in range(count):
        sent = now - timedelta(minutes=count - number)
        kinds = ["Alert", "Alert", "Update", "Update", "Update", "Cancel", "Ack", "Error"]
        kind = rng.choice(kinds) if made else "Alert"
        references = [] if kind == "Alert" else rng.sample(made, min(len(made), rng.choice([1, 1, 1, 2])))
        expires = rng.choice([None, timedelta(hours=1), timedelta(seconds=30), timedelta(seconds=-20)])
        made.append(
            make_alert(
                identifier=f"m-{number}",
                sent=sent,
                msg_type=kind,
                references=references,
                codes=[HITOYOSHI],
                expires=None if expires is None else max(now + expires, sent + timedelta(seconds=1)),
                note="訓練ではありません",
                infos=() if kind in ("Cancel", "Ack", "Error") else None,
            )
        )
    return made


@pytest.mark.parametrize("seed", range(4))
async def test_stream_snapshot_and_what_is_active_give_the_same_screen(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    now = datetime.now(UTC).replace(microsecond=0)
    clock = FakeClock(now)
    arriving = history(rng, now, 40)
    # Some come late, a few never.
    arriving = sorted(
        arriving, key=lambda alert: alert.sent + timedelta(minutes=rng.choice([0, 0, 0, 6, 15]))
    )
    arriving = [alert for alert in arriving if rng.random() > 0.05]
    async with running_node(tmp_path, clock=clock) as node, Client(node.url) as client:
        passing = asyncio.create_task(_pass(clock))
        from_start, from_snapshot = Screen(), Screen()
        halfway = len(arriving) // 2
        for alert in arriving[:halfway]:
            assert (await node.post(alert.raw))[0] == 201
        # Its position is of no store: it is answered with what is in force.
        snapshot_start = "0badcafe-1"
        at_half = node.node.store.newest
        await follow(client, from_snapshot, at_half, snapshot_start)
        for alert in arriving[halfway:]:
            assert (await node.post(alert.raw))[0] == 201
        clock.move(60)
        newest = node.node.store.newest
        await follow(client, from_start, newest, f"{newest.rpartition('-')[0]}-0")
        await follow(client, from_snapshot, newest, from_snapshot.position)
        _, page = await node.get("/v1/alerts?active=true")
        active = {alert["identifier"] for alert in page["alerts"]}
        assert {alert["identifier"] for alert in from_start.shown.values()} == active
        assert {alert["identifier"] for alert in from_snapshot.shown.values()} == active
        assert page["next"] == newest
        passing.cancel()
        with suppress(asyncio.CancelledError):
            await passing


async def _pass(clock: FakeClock) -> None:
    """Let a little time pass by itself: who catches up stands back now and then."""
    while True:
        await clock.advance(0.05)
        await asyncio.sleep(0.002)


async def test_a_correction_reaches_who_was_told_and_says_what_it_is(tmp_path: Path) -> None:
    order = make_alert(codes=[HITOYOSHI])
    mended = make_alert(
        codes=[HITOYOSHI],
        msg_type="Update",
        references=[order],
        alert_codes=["jp:correction"],
        expires=order.expires,
        description="避難所は第二中学校です。",
    )
    graver = make_alert(
        codes=[HITOYOSHI],
        msg_type="Update",
        references=[order],
        alert_codes=["jp:correction"],
        level=5,
        expires=None,
    )
    async with running_node(tmp_path) as node, Client(node.url) as client:
        assert (await node.post(order.raw))[0] == 201
        status, answer = await node.post(graver.raw)
        assert (status, rules(answer)) == (422, ["HUB-CORRECTION-MAJOR", "HUB-CORRECTION-MAJOR"])
        assert {found["path"] for found in answer["problems"] if found["rule"].startswith("HUB-CORR")} == {
            "/alert/info[1]/expires",
            "/alert/info[1]/parameter[警戒レベル]",
        }
        start = node.node.store.newest
        status, answer = await node.post(mended.raw)
        assert (status, rules(answer)) == (201, [])
        async with asyncio.timeout(10):
            async for event in client.stream([("area", HITOYOSHI)], after=start):
                if event.kind is EventKind.ALERT:
                    break
        assert (event.data["correction"], event.data["replaced"]) == (True, [order.id])
        assert event.data["changes"] == {"issued": [], "raised": [], "lowered": [], "lifted": []}


async def test_a_correction_of_nothing_known_is_told_as_new_in_words_too(tmp_path: Path) -> None:
    claimed = make_alert(
        codes=[HITOYOSHI], msg_type="Update", references=[make_alert()], alert_codes=["jp:correction"]
    )
    async with running_node(tmp_path) as node:
        status, answer = await node.post(claimed.raw)
        assert (status, rules(answer)) == (201, ["HUB-REFERENCE-UNKNOWN", "HUB-CORRECTION-UNKNOWN"])
        entry = await node.node.hub.find(claimed.id, None)
        text = AdapterHub(node.node.hub, "feeds", None, node.http).text(entry)
        assert (entry.correction, text.title[:4]) == (False, "【更新】")


async def test_a_cancel_tells_its_reason_and_one_without_is_asked_for_it(tmp_path: Path) -> None:
    order, other = make_alert(), make_alert()
    async with running_node(tmp_path) as node:
        for alert in (order, other):
            assert (await node.post(alert.raw))[0] == 201
        cancel = make_alert(
            msg_type="Cancel", references=[order], infos=(), note="水位計の故障による誤報のため"
        )
        status, answer = await node.post(cancel.raw)
        assert (status, rules(answer)) == (201, [])
        _, shown = await node.get(answer["url"], Accept="application/json")
        assert shown["reason"] == "水位計の故障による誤報のため"
        silent = make_alert(msg_type="Cancel", references=[other], infos=())
        status, answer = await node.post(silent.raw)
        assert (status, rules(answer)) == (201, ["HUB-CANCEL-REASON"])
        assert (await node.get("/v1/alerts?active=true"))[1]["alerts"] == []


async def test_updates_that_come_at_once_are_judged_one_after_the_other(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    order = make_alert(level=3, sent=now - timedelta(seconds=30))
    updates = [
        make_alert(
            level=level, msg_type="Update", references=[order], sent=now - timedelta(seconds=20 - level)
        )
        for level in (4, 5)
    ]
    async with running_node(tmp_path) as node:
        assert (await node.post(order.raw))[0] == 201
        answers = await asyncio.gather(*(node.post(update.raw) for update in updates))
        assert [status for status, _ in answers] == [201, 201]
        shown = [(await node.get(answer["url"], Accept="application/json"))[1] for _, answer in answers]
        by_order = sorted(shown, key=lambda alert: node.node.store.order(alert["position"]))
        # Whichever came first is compared with the order, the other with the first.
        assert by_order[0]["replaced"] == [order.id]
        assert [alert["changes"]["raised"] for alert in by_order] in (
            [[HITOYOSHI], [HITOYOSHI]],
            [[HITOYOSHI], []],
        )
        assert [bool(alert["outdated"]) for alert in by_order] == [False, by_order[0]["level"] == 5]


async def test_a_revision_that_comes_late_is_told_as_old(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    order = make_alert(sent=now - timedelta(minutes=9))
    older, newer = (
        make_alert(sent=now - timedelta(minutes=minutes), msg_type="Update", references=[order])
        for minutes in (5, 2)
    )
    async with running_node(tmp_path) as node, Client(node.url) as client:
        for alert in (order, newer):
            assert (await node.post(alert.raw))[0] == 201
        start = node.node.store.newest
        status, answer = await node.post(older.raw)
        assert (status, rules(answer)) == (201, ["HUB-REVISION-OLD"])
        async with asyncio.timeout(10):
            async for event in client.stream(after=start):
                if event.data.get("id") == older.id:
                    break
        assert (event.kind, event.data["outdated"]) == (EventKind.EXPIRED, True)
        _, page = await node.get("/v1/alerts?active=true")
        assert [alert["id"] for alert in page["alerts"]] == [newer.id]
