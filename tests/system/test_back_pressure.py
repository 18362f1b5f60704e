"""A disk that cannot keep up: senders are told to come back, nothing piles up, and what was accepted is there once."""

from __future__ import annotations

import asyncio
import io
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from lalert.app import stores
from lalert.model import Role
from lalert.store.sqlite import Bounds, SqliteStore
from lalert.testing import make_cap
from lalert.testing.node import SENDERS, RunningNode, running_node
from lalert.web.request import Room
from tests.unit.faulty_disk import FaultyDisk, Hang

SENDER = SENDERS[0].replace("*", "bousai")
WAITING = 16
STALL_S = 1.0
SLOW_S = 0.05


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    with FaultyDisk(everywhere=True) as disk:
        yield disk


@pytest.fixture
async def node(
    tmp_path: Path, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningNode]:
    bounds = Bounds(waiting=WAITING, batch_rows=4, stall_seconds=STALL_S)
    monkeypatch.setattr(stores, "SqliteStore", partial(SqliteStore, bounds=bounds))
    async with running_node(tmp_path / "data") as node:
        yield node


class Answers:
    """What senders were told, and after how long."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node
        self.statuses: Counter[int] = Counter()
        self.accepted: list[str] = []
        self.longest = 0.0
        self._documents: dict[str, bytes] = {}

    async def post(self, identifier: str) -> int:
        """Post an alert; a second time it is the very same document."""
        headers = self._node.headers(Role.SENDER, **{"Content-Type": "application/cap+xml"})
        document = self._documents.setdefault(identifier, make_cap(sender=SENDER, identifier=identifier))
        raw = io.BytesIO(document)
        begun = time.monotonic()
        async with self._node.http.post(f"{self._node.url}/v1/alerts", data=raw, headers=headers) as response:
            body = await response.json(content_type=None)
            self.longest = max(self.longest, time.monotonic() - begun)
            self.statuses[response.status] += 1
            if response.status == 503:
                assert int(response.headers["Retry-After"]) >= 1
                assert body["code"] == "unavailable"
            else:
                assert response.status in (200, 201), body
                self.accepted.append(identifier)
            return response.status

    async def kept(self) -> list[str]:
        return [entry.alert.identifier for entry in await self._node.node.store.read(None, 10_000)]


async def most(seen: Callable[[], int], found: list[int]) -> None:
    while True:
        found.append(seen())
        await asyncio.sleep(0.005)


async def test_a_slow_disk_makes_senders_come_back_and_nothing_piles_up(
    node: RunningNode, disk: FaultyDisk
) -> None:
    answers = Answers(node)
    writer = node.node.store._parts.writer  # type: ignore[attr-defined]
    waited: list[int] = []
    watch = asyncio.ensure_future(most(lambda: len(writer._open), waited))
    disk.on_sync = lambda _kind: time.sleep(SLOW_S)
    await asyncio.gather(*(answers.post(f"a{n}") for n in range(150)))
    watch.cancel()
    assert answers.statuses[503] > 0
    assert answers.statuses[201] >= WAITING
    assert max(waited) <= WAITING
    # Whoever was taken waited for those before it and no longer, whoever was not hardly at all.
    assert answers.longest < WAITING * SLOW_S + 5
    disk.heal()
    assert await answers.post("later") == 201
    kept = await answers.kept()
    assert sorted(kept) == sorted(answers.accepted)


async def test_a_disk_that_hangs_is_told_to_everybody_in_time_and_repeats_are_recognised(
    node: RunningNode, disk: FaultyDisk
) -> None:
    answers = Answers(node)
    hang = Hang()
    disk.on_sync = hang
    try:
        begun = time.monotonic()
        await asyncio.gather(*(answers.post(f"a{n}") for n in range(60)))
        assert answers.statuses == {503: 60}
        assert time.monotonic() - begun < STALL_S + 5
        begun = time.monotonic()
        await answers.post("b")
        assert time.monotonic() - begun < STALL_S
    finally:
        disk.heal()
        hang.end()
    # What had waited may be kept by now: whoever sends it again is told of that, and nothing is there twice.
    for n in range(60):
        async with asyncio.timeout(10):
            while await answers.post(f"a{n}") == 503:
                await asyncio.sleep(0.02)
    assert Counter(await answers.kept()) == Counter(answers.accepted)
    assert len(answers.accepted) == 60


async def test_bodies_beyond_the_room_are_refused_and_the_room_comes_back(
    node: RunningNode, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms: list[Room] = []
    monkeypatch.setattr(Room, "take", _remember(rooms, Room.take))
    answers = Answers(node)
    await answers.post("first")
    [room] = rooms
    monkeypatch.setattr(room, "_total", 40_000)
    hang = Hang()
    disk.on_sync = hang
    waiting = [asyncio.ensure_future(answers.post(f"a{n}")) for n in range(12)]
    try:
        await asyncio.to_thread(hang.began.wait, 10)
        slow = make_cap(sender=SENDER, identifier="large", description="長" * 10_000)
        status, body = await node.post(slow)
        assert (status, body["code"]) == (503, "unavailable")
        assert "coming in" in body["detail"]
        assert room.used <= 40_000
    finally:
        disk.heal()
        hang.end()
    await asyncio.gather(*waiting)
    assert (room.used, room.number) == (0, 0)
    status, _ = await node.post(slow)
    assert status == 503  # half of so small a room is still too little for it
    monkeypatch.setattr(room, "_total", 80_000)
    status, _ = await node.post(slow)
    assert status == 201


def _remember(rooms: list[Room], take: Callable[..., None]) -> Callable[..., None]:
    def remembered(room: Room, *about: object) -> None:
        if room not in rooms:
            rooms.append(room)
        take(room, *about)

    return remembered
