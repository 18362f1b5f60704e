"""A hub is backed up while it serves, restored, and goes on; whoever was connected is told that something is missing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from lalert.app.stores import DATABASE
from lalert.cli import main
from lalert.dispatch.lanes import delivery_key
from lalert.model import Role
from lalert.store.sqlite import SqliteStore
from lalert.testing import FakeClock, make_alert, make_cap, revive
from lalert.testing.node import ORG, RunningNode, running_node
from lalert.testing.store import append, ignore
from lalert.web.admin import socket_path
from tests.system.test_webhook_delivery import receiving

SENDER = "bousai@hitoyoshi.example"


async def lalert(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, words)


async def events(node: RunningNode, after: str) -> list[tuple[str, Any]]:
    """Return the first two events of a stream after a position."""
    found: list[tuple[str, Any]] = []
    kind = ""
    async with node.http.get(f"{node.url}/v1/stream?after={after}") as stream:
        async for line in stream.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                found.append((kind, json.loads(value)))
                if len(found) == 2:
                    break
    return found


async def test_a_hub_is_backed_up_while_it_serves_and_its_clients_learn_of_the_restore(
    tmp_path: Path,
) -> None:
    data, file = tmp_path / "data", tmp_path / "monday.lalert"
    at = ("--data", str(data))
    lost = make_cap(sender=SENDER, identifier="lost")

    async with running_node(data) as node:
        assert (await node.post(make_cap(sender=SENDER, identifier="kept")))[0] == 201
        key = await node.key(Role.SENDER, ORG)
        done = await lalert("backup", str(file), *at)
        assert done.exit_code == 0, done.output
        again = await lalert("backup", str(file), *at)
        assert again.exit_code == 1
        assert "exists already" in again.stderr
        assert (await lalert("backup", str(file), "--force", *at)).exit_code == 0
        status, body = await node.post(lost)
        assert status == 201
        position = body["position"]
        refused = await lalert("restore", str(file), "--force", *at)
        assert refused.exit_code == 1
        assert "is held by process" in refused.stderr

    full = await lalert("restore", str(file), *at)
    assert full.exit_code == 1
    assert "--force" in full.stderr
    restored = await lalert("restore", str(file), "--force", *at)
    assert restored.exit_code == 0, restored.output
    assert "restored 1 alerts, the newest accepted at" in restored.stdout
    assert "before-restore-" in restored.stdout

    async with running_node(data) as node:
        (gap, told), (snapshot, state) = await events(node, position)
        assert (gap, told["reason"], told["requested"]) == ("gap", "unknown", position)
        assert snapshot == "snapshot"
        assert [alert["identifier"] for alert in state["alerts"]] == ["kept"]
        # The key came along, and what was lost is taken anew.
        status, body = await node.post(lost, key)
        assert status == 201
        assert body["position"] != position


async def test_what_was_owed_is_sent_after_a_restore_but_nothing_twice_and_nothing_that_is_over(
    tmp_path: Path,
) -> None:
    data, file, fresh = tmp_path / "data", tmp_path / "monday.lalert", tmp_path / "fresh"
    now = datetime.now(UTC)
    later = now + timedelta(hours=1)
    async with receiving() as receiver:
        data.mkdir()
        clock = FakeClock(now - timedelta(hours=2))
        async with SqliteStore(data / DATABASE, revive=revive, on_append=ignore, clock=clock) as store:
            sent = now - timedelta(hours=2)
            told, owed, _ = [
                (await append(store, make_alert(identifier=name, sent=sent, expires=ends))).entry
                for name, ends in (("told", later), ("owed", later), ("over", now - timedelta(hours=1)))
            ]
            await store.save_subscription(receiver.subscription("s", channel="webhook"), told.position)
            await store.backup(str(file))
        assert (await lalert("restore", str(file), "--data", str(fresh))).exit_code == 0
        async with running_node(fresh) as node:
            async with asyncio.timeout(20):
                while "owed" not in receiver.taken or await node.node.store.unsettled():
                    await asyncio.sleep(0.02)
            async with asyncio.timeout(20):
                while node.node.dispatcher.stats()["waiting"]:
                    await asyncio.sleep(0.02)
        assert [hit.identifier for hit in receiver.hits] == ["owed"]
        assert receiver.hits[0].key == delivery_key("s", owed.alert.id)


async def test_a_node_that_dies_before_it_has_answered_is_told_in_one_sentence(tmp_path: Path) -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    with socket_path(tmp_path) as path:
        async with await asyncio.start_unix_server(die, path):
            done = await lalert("backup", str(tmp_path / "monday.lalert"), "--data", str(tmp_path))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("lalert: the node went away before it had answered")
    assert done.stderr.count("\n") == 1


async def test_a_file_that_may_grow_no_more_is_told_with_its_cause(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "monday.lalert"
    async with running_node(data):
        pass
    assert (await lalert("backup", str(file), "--data", str(data))).exit_code == 0
    script = """
import resource, sys
from lalert.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
main(sys.argv[1:])
"""
    for words in (("backup", "--force"), ("restore", "--force")):
        asked = [sys.executable, "-c", script, *words, str(file), "--data", str(data)]
        done = await asyncio.to_thread(
            subprocess.run, asked, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        assert "(the disk " in done.stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "monday.lalert"]


async def test_a_restore_that_is_broken_off_has_changed_nothing(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "monday.lalert"
    async with running_node(data):
        pass
    assert (await lalert("backup", str(file), "--data", str(data))).exit_code == 0
    script = """
import os, signal, sys, time
from lalert.cli import main
from lalert.store.sqlite import backup
take = backup._take
def taken(*places):
    take(*places)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)
backup._take = taken
signal.signal(signal.SIGINT, signal.default_int_handler)
main(sys.argv[1:])
"""
    fresh = tmp_path / "fresh"
    asked = [sys.executable, "-c", script, "restore", str(file), "--data", str(fresh)]
    done = await asyncio.to_thread(
        subprocess.run, asked, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    assert [each.name for each in fresh.iterdir()] == ["lalert.db.lock"]


async def test_a_store_at_rest_is_backed_up_too_and_where_none_is_none_is_made(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "monday.lalert"
    at = ("--data", str(data))
    nothing = await lalert("backup", str(file), *at)
    assert nothing.exit_code == 1
    assert "there is no hub" in nothing.stderr
    assert not data.exists()
    assert (
        await lalert("org", "create", "a", "--codes", "43203", "--senders", "a@b.example", *at)
    ).exit_code == 0
    done = await lalert("backup", str(file), *at)
    assert done.exit_code == 0, done.output
    other = ("--data", str(tmp_path / "other"))
    assert (await lalert("restore", str(file), *other)).exit_code == 0
    listed = await lalert("org", "list", *other)
    assert listed.stdout.splitlines()[1].startswith("a ")
