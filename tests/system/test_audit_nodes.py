"""Nodes that share a store write one audit chain, in which everything stands once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from click.testing import CliRunner

from lalert.cli import main
from lalert.config import Settings, Store
from lalert.model import Role
from lalert.store.audit import Action, AuditLine, decode, verify
from lalert.testing import make_cap
from lalert.testing.node import RunningNode, running_node
from tests.redis_kit import kill, valkey

SENDER = "bousai@hitoyoshi.example"
EACH = 15


async def chain(node: RunningNode) -> list[AuditLine]:
    head = await node.node.store.audit_head()
    lines = await node.node.store.audit_lines(0, 10_000)
    assert verify(lines, [head]) is None
    return [decode(line.text) for line in lines]


async def test_two_nodes_write_one_chain_and_any_of_them_shows_it(tmp_path: Path) -> None:
    with valkey(tmp_path / "server") as server:
        shared = Settings(store=Store(url=f"redis://127.0.0.1:{server.port}"))
        async with (
            running_node(tmp_path / "a", shared) as one,
            running_node(tmp_path / "b", shared) as other,
        ):
            other.keys = one.keys
            posts = [(node, f"{name}{n}") for n in range(EACH) for node, name in ((one, "a"), (other, "b"))]
            answers = await asyncio.gather(
                *(node.post(make_cap(sender=SENDER, identifier=identifier)) for node, identifier in posts),
                *(node.post(b"<alert/>") for node in (one, other)),
            )
            assert Counter(status for status, _ in answers) == {201: 2 * EACH, 422: 2}
            accepted = {body["url"].removeprefix("/alerts/") for status, body in answers if status == 201}
            async with asyncio.timeout(20):
                while len({line.subject for line in await chain(other)} & accepted) < 2 * EACH:
                    await asyncio.sleep(0.1)
            told = Counter(line.subject for line in await chain(one) if line.action == Action.ACCEPTED)
            assert told == dict.fromkeys(accepted, 1)
            _, here = await one.get("/v1/audit?limit=500", Role.ADMIN)
            _, there = await other.get("/v1/audit?limit=500", Role.ADMIN)
            numbers = [[line["number"] for line in body["lines"]] for body in (here, there)]
            assert set(numbers[0]) <= set(numbers[1])
            words = ["audit", "verify", "--lang", "en", "--data", str(tmp_path / "b")]
            said = await asyncio.to_thread(CliRunner().invoke, main, words)
            assert "The audit chain is sound" in said.stdout
        async with running_node(tmp_path / "c", shared) as third:
            actions = Counter(line.action for line in await chain(third))
            assert (actions["node.started"], actions["node.stopped"]) == (3, 2)
            assert actions["alert.accepted"] == 2 * EACH
            assert actions["alert.refused"] == 2


async def test_a_server_that_is_killed_costs_no_line_and_doubles_none(tmp_path: Path) -> None:
    with valkey(tmp_path / "server") as server:
        shared = Settings(store=Store(url=f"redis://127.0.0.1:{server.port}"))
        async with (
            running_node(tmp_path / "a", shared) as one,
            running_node(tmp_path / "b", shared) as other,
        ):
            other.keys = one.keys
            accepted: set[str] = set()
            stopping = asyncio.Event()

            async def send(node: RunningNode, name: str) -> None:
                for number in range(10_000):
                    if stopping.is_set():
                        return
                    document = make_cap(sender=SENDER, identifier=f"{name}-{number}")
                    status, body = await node.post(document)
                    while status == 503:
                        status, body = await node.post(document)
                    assert status in (200, 201), body
                    accepted.add(body["url"].removeprefix("/alerts/"))

            async with asyncio.timeout(40), asyncio.TaskGroup() as group:
                for sender in range(6):
                    group.create_task(send((one, other)[sender % 2], f"s{sender}"))
                for _ in range(2):
                    before = len(accepted)
                    # Some of the lines are on their way while it dies.
                    await asyncio.sleep(1.2)
                    kill(server)
                    server.start()
                    while len(accepted) < before + 50:
                        await asyncio.sleep(0.05)
                stopping.set()
            async with asyncio.timeout(20):
                while len({line.subject for line in await chain(other)} & accepted) < len(accepted):
                    await asyncio.sleep(0.2)
            told = Counter(line.subject for line in await chain(one) if line.action == Action.ACCEPTED)
            assert set(told) >= accepted
            assert set(told.values()) == {1}
