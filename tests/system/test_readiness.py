"""`/readyz` of a whole node: true while all is well, false soon after anything on an alert's way is broken, and true again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from lalert import canary
from lalert.canary import WELL
from lalert.store import sqlite
from lalert.testing import make_cap
from lalert.testing.node import SENDERS, RunningNode, running_node
from tests.unit.faulty_disk import FaultyDisk, Hang, failing

SENDER = SENDERS[0].replace("*", "bousai")
AIM_S = 5.0


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    with FaultyDisk(everywhere=True) as disk:
        yield disk


@pytest.fixture
async def node(tmp_path: Path, disk: FaultyDisk) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path / "data") as node:
        yield node


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "EVERY_S", 0.02)
    monkeypatch.setattr(canary, "FLIGHT_S", 0.2)
    monkeypatch.setattr(sqlite, "CHECK_SECONDS", 0.2)


async def ready(node: RunningNode) -> tuple[int, dict[str, Any]]:
    async with node.http.get(f"{node.url}/readyz") as response:
        return response.status, await response.json()


async def until(node: RunningNode, claim: Callable[[int, dict[str, Any]], bool]) -> float:
    """Ask until the claim holds; returns how many seconds it took."""
    begun = time.monotonic()
    while not claim(*(answer := await ready(node))):
        assert time.monotonic() - begun < AIM_S, answer
        await asyncio.sleep(0.02)
    return time.monotonic() - begun


async def test_a_node_that_is_well_says_how_old_its_knowledge_is_and_no_receiver_hears_of_it(
    node: RunningNode,
) -> None:
    frames = node.node.live.stats()["frames"]
    status, body = await ready(node)
    assert status == 200
    assert body["ready"] is True
    assert body["checks"] == {"store": WELL, "live": WELL, "deliveries": WELL, "serving": WELL}
    assert 0 <= body["canary"]["age_s"] < 1
    assert body["canary"]["took_ms"] > 0
    assert body["durability"] == "disk"
    assert await node.node.store.read(None, 10) == []
    assert node.node.live.stats()["frames"] == frames
    async with node.http.get(f"{node.url}/metrics") as response:
        figures = await response.text()
    assert "lalert_canary_well 1.0" in figures
    assert "lalert_canary_age_seconds" in figures


async def test_a_disk_that_went_read_only_is_known_in_five_seconds_and_so_is_its_return(
    node: RunningNode, disk: FaultyDisk
) -> None:
    assert (await ready(node))[0] == 200
    disk.on_write = failing(apsw.ReadOnlyError, "wal")
    await until(node, lambda status, body: status == 503 and body["checks"]["store"] != WELL)
    disk.heal()
    await until(node, lambda status, _: status == 200)


@pytest.mark.usefixtures("quick")
async def test_a_disk_that_hangs_is_known_and_the_node_lives(node: RunningNode, disk: FaultyDisk) -> None:
    hang = Hang()
    disk.on_sync = hang
    try:
        await until(node, lambda status, body: status == 503 and "disk" in body["checks"]["store"])
        async with node.http.get(f"{node.url}/livez") as response:
            assert response.status == 200
        assert (await ready(node))[1]["checks"]["live"] == WELL
    finally:
        disk.heal()
        hang.end()
    await until(node, lambda status, _: status == 200)


@pytest.mark.usefixtures("quick")
async def test_a_planner_that_stands_still_is_known(
    node: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def for_ever(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(node.node.dispatcher._drills, "_plan", for_ever)
    assert (await ready(node))[0] == 200
    status, _ = await node.post(make_cap(sender=SENDER))
    assert status == 201
    await until(node, lambda status, body: status == 503 and "stand still" in body["checks"]["deliveries"])
    assert (await ready(node))[1]["checks"]["live"] == WELL


@pytest.mark.usefixtures("quick")
async def test_a_fan_out_that_is_dead_is_known(node: RunningNode) -> None:
    node.node.live._tasks[0].cancel()
    await until(node, lambda status, body: status == 503 and "stand still" in body["checks"]["live"])
    assert (await ready(node))[1]["checks"]["deliveries"] == WELL


@pytest.mark.usefixtures("quick")
async def test_a_part_that_no_longer_hears_of_alerts_is_known(node: RunningNode) -> None:
    node.node.live._detach()
    await until(node, lambda status, body: status == 503 and "do not hear" in body["checks"]["live"])


@pytest.mark.usefixtures("quick")
async def test_a_node_with_much_to_deliver_is_not_called_broken(
    node: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning = asyncio.Event()

    async def slowly(*_: object) -> None:
        planning.set()
        for _step in range(100):
            node.node.dispatcher._real.sight()
            await asyncio.sleep(0.01)

    monkeypatch.setattr(node.node.dispatcher._real, "_plan", slowly)
    await node.post(make_cap(sender=SENDER))
    await planning.wait()
    for _ in range(10):
        assert (await ready(node))[0] == 200
        await asyncio.sleep(0.03)
