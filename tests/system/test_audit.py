"""The audit chain through the front door: what is done leaves its line, for its own organisation alone, and nothing can be undone unseen."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import apsw
import pytest
from click.testing import CliRunner

from lalert.cli import main
from lalert.errors import Unavailable
from lalert.model import Role
from lalert.store.audit import Head, Note
from lalert.store.sqlite import SqliteStore
from lalert.testing import FakeClock, make_cap, revive
from lalert.testing.node import RunningNode, running_node
from lalert.testing.store import ignore

SENDER = "bousai@hitoyoshi.example"


async def lines_of(
    node: RunningNode, key: str | Role = Role.ADMIN, query: str = "after=0"
) -> list[dict[str, Any]]:
    status, body = await node.get(f"/v1/audit?{query}", key)
    assert status == 200
    return list(body["lines"])


async def line(node: RunningNode, action: str, times: int = 1) -> dict[str, Any]:
    """Wait for a line that is written behind an answer."""
    for _ in range(100):
        found = [one for one in await lines_of(node) if one["action"] == action]
        if len(found) >= times:
            return found[-1]
        await asyncio.sleep(0.1)
    raise AssertionError(f"no line {action}")


def lalert(data: Path, *words: str, code: int = 0) -> str:
    """Run a command in this process; in a thread, because it has an event loop of its own."""
    done = CliRunner().invoke(main, [*words, "--data", str(data)])
    assert done.exit_code == code, done.output
    return done.stdout


async def test_what_is_done_leaves_its_line_for_its_own_organisation(tmp_path: Path) -> None:
    async with running_node(tmp_path / "data") as node:
        await node.org("minamata", ["432059"], ["*@minamata.example"])
        neighbour = await node.key(Role.ADMIN, "minamata")
        _, accepted = await node.post(make_cap(sender=SENDER, identifier="one"))
        kept = await line(node, "alert.accepted")
        assert (kept["org"], kept["details"]["position"]) == ("hitoyoshi", accepted["position"])
        assert kept["subject"] == accepted["url"].removeprefix("/alerts/")
        assert kept["actor"].startswith("key:key-")
        assert (kept["details"]["network"], kept["details"]["status"]) == ("127.0.0.0/24", "Actual")

        lines = await lines_of(node)
        assert [one["action"] for one in lines[:2]] == ["org.created", "key.created"]
        assert {one["org"] for one in lines} == {"hitoyoshi"}
        assert await lines_of(node, query="limit=1") == lines[-1:]
        assert await lines_of(node, query=f"before={lines[-1]['number']}&limit=1") == lines[-2:-1]
        assert {one["org"] for one in await lines_of(node, neighbour)} == {"minamata"}
        for role, refused in ((None, 401), (Role.RECEIVER, 403), (Role.SENSOR, 403), (Role.SENDER, 403)):
            assert (await node.get("/v1/audit", role))[0] == refused
        for mistake in ("after=-1", "after=0&before=9", "limit=0", "limit=501", "org=minamata", "after=x"):
            assert (await node.get(f"/v1/audit?{mistake}", Role.ADMIN))[0] == 400


async def test_refusals_leave_one_line_a_minute_for_each_key_and_code(tmp_path: Path) -> None:
    async with running_node(tmp_path / "data") as node:
        async with node.http.get(f"{node.url}/metrics") as metrics:
            assert "lalert_audit_unwritten 0.0" in await metrics.text()
        for _ in range(20):
            assert (await node.post(b"<alert/>"))[0] == 422
        for _ in range(3):
            assert (await node.post(make_cap(sender="someone@else.example")))[0] == 403
        assert (await node.post(make_cap(sender=SENDER), Role.SENSOR))[0] == 403
        assert (await node.post(make_cap(sender=SENDER), "lk_nobody"))[0] == 401
        await node.node.audit.flush()
        refused = [one for one in await lines_of(node) if one["action"] == "alert.refused"]
        told = {(one["subject"], one["actor"]): one["details"]["times"] for one in refused}
        sensor = node.node.keyring.identify(node.keys[Role.SENSOR], node.node.clock.now()).key
        assert sensor is not None
        assert ("wrong-role", f"key:{sensor.id}") in told
        assert {code for code, _ in told} == {"invalid-alert", "sender-not-yours", "wrong-role"}
        unknown = [json.loads(one.text) for one in await node.node.store.audit_lines(0, 1_000, "")]
        [nobody] = [one for one in unknown if one["action"] == "alert.refused"]
        assert (nobody["subject"], nobody["actor"]) == ("unauthenticated", "nobody")
    async with running_node(tmp_path / "data") as node:
        admin = await node.key(Role.ADMIN)
        counts = [one for one in await lines_of(node, admin) if one["subject"] == "invalid-alert"]
        assert sum(one["details"]["times"] for one in counts) == 20
        assert len(counts) <= 2


async def test_subscriptions_and_what_is_sent_again_leave_their_lines(tmp_path: Path) -> None:
    async with running_node(tmp_path / "data") as node:
        body = {
            "channel": "webhook",
            "target": "http://127.0.0.1:9/a-secret-path",
            "filter": {"area": "432032"},
        }
        headers = node.headers(Role.RECEIVER)
        async with node.http.post(f"{node.url}/v1/subscriptions", json=body, headers=headers) as response:
            made = await response.json()
        saved = await line(node, "subscription.saved")
        assert (saved["subject"], saved["details"]) == (made["id"], {"channel": "webhook"})
        url = f"{node.url}/v1/subscriptions/{made['id']}"
        await node.post(make_cap(sender=SENDER, identifier="one"))
        rows: list[dict[str, Any]] = []
        while not rows:
            async with node.http.get(f"{url}/deliveries", headers=headers) as response:
                rows = (await response.json())["deliveries"]
            await asyncio.sleep(0.05)
        key = {"key": rows[0]["key"]}
        async with node.http.post(f"{url}/redeliver", json=key, headers=headers) as response:
            assert response.status == 202
        again = await line(node, "delivery.repeated")
        assert (again["subject"], again["details"]["subscription"]) == (rows[0]["key"], made["id"])
        async with node.http.delete(url, headers=headers) as response:
            assert response.status == 204
        assert (await line(node, "subscription.dropped"))["subject"] == made["id"]
        text = b"".join(one.text for one in await node.node.store.audit_lines(0, 1_000))
        assert b"a-secret-path" not in text


async def test_a_subscription_whose_line_cannot_be_written_is_not_made(tmp_path: Path) -> None:
    async with running_node(tmp_path / "data") as node:
        written = node.node.store.append_audit

        async def full(notes: Sequence[Note]) -> Head:
            raise Unavailable("the disk is full")

        body = {"channel": "webhook", "target": "http://127.0.0.1:9/", "filter": {"area": "432032"}}
        headers, url = node.headers(Role.RECEIVER), f"{node.url}/v1/subscriptions"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(node.node.store, "append_audit", full)
            async with node.http.post(url, json=body, headers=headers) as response:
                assert response.status == 503
        assert node.node.store.append_audit == written
        _, mine = await node.get("/v1/subscriptions", Role.RECEIVER)
        assert mine["subscriptions"] == []


async def test_what_was_sent_is_counted_by_channel_and_for_the_streams(tmp_path: Path) -> None:
    async with running_node(tmp_path / "data") as node:
        body = {"channel": "webhook", "target": "http://127.0.0.1:9/", "filter": {"area": "432032"}}
        headers = node.headers(Role.RECEIVER)
        async with node.http.post(f"{node.url}/v1/subscriptions", json=body, headers=headers) as response:
            assert response.status == 201
        async with (
            node.http.get(f"{node.url}/v1/stream") as one,
            node.http.get(f"{node.url}/v1/stream?status=all") as other,
        ):
            for stream in (one, other):
                while b"heartbeat" not in await stream.content.readline():
                    pass
            await node.post(make_cap(sender=SENDER, identifier="one"))
            live = await line(node, "alert.sent")
            assert (live["details"]["channel"], live["details"]["subscribers"]) == ("live", 2)
            assert (live["org"], live["actor"]) == ("hitoyoshi", "hub")
    async with running_node(tmp_path / "data") as node:
        admin = await node.key(Role.ADMIN)
        sent = [one for one in await lines_of(node, admin) if one["action"] == "alert.sent"]
        hook = {
            key: value
            for one in sent
            for key, value in one["details"].items()
            if one["details"]["channel"] == "webhook"
        }
        assert (hook["planned"], hook["waiting"]) == (1, 1)
        assert live["subject"] in {one["subject"] for one in sent}


async def test_the_heads_are_public_and_kept_in_a_file(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running_node(data) as node:
        async with asyncio.timeout(10):
            while not (data / "audit-heads.txt").exists():
                await asyncio.sleep(0.1)
        _, head = await node.get("/v1/audit/head")
        [day] = head["days"]
        assert (data / "audit-heads.txt").read_text() == f"{day['day']} {day['head']}\n"
        assert str(Head(day["number"], bytes.fromhex(day["hash"]))) == day["head"]
        assert head["number"] >= day["number"]


async def test_the_command_line_verifies_the_node_the_store_and_a_copy(tmp_path: Path) -> None:
    data, copy, export = tmp_path / "data", tmp_path / "copy.lalert", tmp_path / "lines.json"

    async def told(*words: str, code: int = 0) -> str:
        return await asyncio.to_thread(lalert, data, "audit", *words, code=code)

    async with running_node(data) as node:
        await node.post(make_cap(sender=SENDER, identifier="one"))
        await line(node, "alert.accepted")
        assert "監査記録は" in await told("verify")
        await asyncio.to_thread(lalert, data, "backup", str(copy))
        assert "alert.accepted" in await told("show", "--org", "hitoyoshi")
        _, head = await node.get("/v1/audit/head")
    sound = "The audit chain is sound"
    assert sound in await told("verify", "--lang", "en", "--head", head["head"])
    assert sound in await told("verify", "--lang", "en", "--file", str(copy))
    export.write_text(await told("show", "--format", "json"), encoding="utf-8")
    lines = [json.loads(text) for text in export.read_text(encoding="utf-8").splitlines()]
    assert [lines[0]["action"], lines[-1]["action"]] == ["node.started", "node.stopped"]
    assert "store.backed-up" in {one["action"] for one in lines}
    assert await told("show", "--since", "2999-01-01") == ""
    await told("verify", "--file", str(export))

    lines[2]["subject"] = "somebody else"
    export.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert await told("verify", "--file", str(export), code=1) == "3行目が書き換えられています。\n"
    await told("verify", "--head", "not-a-head", code=2)
    export.write_text("{}\n", encoding="utf-8")
    assert await told("verify", "--file", str(export), code=1) == ""


TAMPERING = {
    "UPDATE audit SET text = replace(text, 'org.created', 'org.changed') WHERE number = 2": (
        "2行目が書き換えられています。",
        "Line 2 was changed.",
    ),
    "UPDATE audit SET hash = zeroblob(32) WHERE number = 4": (
        "4行目が書き換えられています。",
        "Line 4 was changed.",
    ),
    "DELETE FROM audit WHERE number = 3": (
        "3行目がありません。",
        "Line 3 is missing.",
    ),
    "UPDATE audit SET (text, hash) = (SELECT text, hash FROM audit WHERE number = 4) WHERE number = 3": (
        "3行目の場所に別の行があります。",
        "Another line stands in the place of line 3",
    ),
    "INSERT INTO audit SELECT -5, text, hash FROM audit WHERE number = 2": (
        "1行目の場所に別の行があります。",
        "Another line stands in the place of line 1",
    ),
    "INSERT INTO audit SELECT 0, text, hash FROM audit WHERE number = 2": (
        "1行目の場所に別の行があります。",
        "Another line stands in the place of line 1",
    ),
    "DELETE FROM audit WHERE number >= 5": (
        "5行目から先がありません。",
        "From line 5 on there is nothing",
    ),
}


async def test_whatever_is_done_to_the_table_is_named_by_its_line(tmp_path: Path) -> None:
    sound = tmp_path / "sound"
    async with running_node(sound):
        pass
    for number, (sql, told) in enumerate(TAMPERING.items()):
        data = tmp_path / f"{number}"
        shutil.copytree(sound, data)
        with closing(apsw.Connection(str(data / "lalert.db"))) as db:
            db.execute(sql)
        for lang, sentence in zip(("ja", "en"), told, strict=True):
            said = await asyncio.to_thread(lalert, data, "audit", "verify", "--lang", lang, code=1)
            assert said.startswith(sentence)


async def test_a_document_that_is_not_the_one_accepted_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running_node(data) as node:
        await node.post(make_cap(sender=SENDER, identifier="one"))
        _, accepted = await node.post(make_cap(sender=SENDER, identifier="two"))
        kept = await line(node, "alert.accepted", 2)

        async def verified(*words: str, code: int = 0) -> str:
            return await asyncio.to_thread(lalert, data, "audit", "verify", "--lang", "en", *words, code=code)

        assert "The 2 alerts in the log are what was accepted." in await verified()
        # While it runs, and with all that the log itself says of the document set right.
        forged = make_cap(sender=SENDER, identifier="two", headline="all is well")
        with closing(apsw.Connection(str(data / "lalert.db"))) as db:
            db.set_busy_timeout(5_000)
            db.execute(
                "UPDATE entry SET raw = ?, digest = ? WHERE offset = 2", (forged, sha256(forged).digest())
            )
        alert = accepted["url"].removeprefix("/alerts/")
        expected = (
            f"The document of alert {alert} is not the one that was accepted (line {kept['number']}).\n"
        )
        assert await verified(code=1) == expected
    assert await verified(code=1) == expected
    assert await verified("--file", str(data / "lalert.db"), code=1) == expected
    with closing(apsw.Connection(str(data / "lalert.db"))) as db:
        db.execute("UPDATE entry SET id = 'never-seen' WHERE offset = 2")
    assert (
        await verified(code=1) == "Alert never-seen is in the log, but no line says that it was accepted.\n"
    )


async def test_a_cursor_that_was_set_back_hides_no_document(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running_node(data) as node:
        await node.post(make_cap(sender=SENDER, identifier="one"))
        _, accepted = await node.post(make_cap(sender=SENDER, identifier="two"))
        kept = await line(node, "alert.accepted", 2)
    with closing(apsw.Connection(str(data / "lalert.db"))) as db:
        db.execute("UPDATE entry SET raw = ? WHERE offset = 2", (b"<alert/>",))
        db.execute("UPDATE meta SET value = 0 WHERE key = 'audited'")
    alert = accepted["url"].removeprefix("/alerts/")
    for words in ((), ("--file", str(data / "lalert.db"))):
        said = await asyncio.to_thread(lalert, data, "audit", "verify", "--lang", "en", *words, code=1)
        assert said == (
            f"The document of alert {alert} is not the one that was accepted (line {kept['number']}).\n"
        )


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("UPDATE meta SET value = 'x' WHERE key = 'audit'", "its audit chain ends"),
        ("DELETE FROM meta WHERE key = 'audit'", "its audit chain ends"),
        ("UPDATE meta SET value = 'x' WHERE key = 'audited'", "its audit chain goes"),
        ("DELETE FROM meta WHERE key = 'audited'", "its audit chain goes"),
        ("UPDATE adapter_state SET value = x'7b' WHERE owner = 'audit'", "heads of its audit chain"),
        ("UPDATE adapter_state SET value = x'5b315d' WHERE owner = 'audit'", "heads of its audit chain"),
    ],
)
async def test_what_the_store_says_of_its_chain_and_cannot_be_read_is_told_in_one_sentence(
    tmp_path: Path, sql: str, told: str
) -> None:
    async with SqliteStore(
        tmp_path / "lalert.db", revive=revive, on_append=ignore, clock=FakeClock()
    ) as store:
        await store.put("audit", "heads", b"[]")
    with closing(apsw.Connection(str(tmp_path / "lalert.db"))) as db:
        db.execute(sql)
    for words in ((), ("--file", str(tmp_path / "lalert.db"))):
        done = await asyncio.to_thread(
            CliRunner().invoke, main, ["audit", "verify", "--data", str(tmp_path), *words]
        )
        assert (done.exit_code, done.stdout) == (1, "")
        assert told in done.stderr
        assert done.stderr.count("\n") == 1


async def test_where_no_hub_is_none_is_called_sound_and_none_is_made(tmp_path: Path) -> None:
    for command in ("verify", "show"):
        done = await asyncio.to_thread(
            CliRunner().invoke, main, ["audit", command, "--data", str(tmp_path / "typo")]
        )
        assert (done.exit_code, done.stdout) == (1, "")
        assert "there is no hub in" in done.stderr
    (tmp_path / "lines.json").touch()
    done = await asyncio.to_thread(
        CliRunner().invoke, main, ["audit", "verify", "--file", str(tmp_path / "lines.json")]
    )
    assert (done.exit_code, done.stdout) == (1, "")
    assert "holds no line" in done.stderr
    assert not (tmp_path / "typo").exists()


async def test_a_chain_made_anew_is_found_by_a_head_that_was_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running_node(data) as node:
        _, head = await node.get("/v1/audit/head")
    # What whoever can write to the whole data directory can do: everything that the hub itself knows of the end of the chain goes with the lines.
    with closing(apsw.Connection(str(data / "lalert.db"))) as db:
        [(number, hash)] = db.execute("SELECT number, hash FROM audit WHERE number = 3")
        db.execute("DELETE FROM audit WHERE number > 3; DELETE FROM adapter_state WHERE owner = 'audit'")
        db.execute("UPDATE meta SET value = ? WHERE key = 'audit'", (str(Head(number, hash)),))
    (data / "audit-heads.txt").unlink(missing_ok=True)
    assert "3行すべて" in await asyncio.to_thread(lalert, data, "audit", "verify")
    words = ("audit", "verify", "--lang", "en", "--head", head["head"])
    said = await asyncio.to_thread(lalert, data, *words, code=1)
    assert said.startswith("From line 4 on there is nothing")


async def test_a_restored_hub_says_so_and_its_heads_begin_anew(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.lalert"
    async with running_node(data):
        await asyncio.to_thread(lalert, data, "backup", str(copy))
    (data / "audit-heads.txt").write_text(f"2026-01-01 999:{'0' * 64}\n")
    assert await asyncio.to_thread(lalert, data, "audit", "verify", code=1)
    await asyncio.to_thread(lalert, data, "restore", "--force", str(copy))
    await asyncio.to_thread(lalert, data, "audit", "verify")
    assert "store.restored  copy.lalert" in await asyncio.to_thread(lalert, data, "audit", "show")
