"""A sender's scorecard through the front door: what was posted is counted, shown to its own organisation alone, and outlives the node."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from lalert.model import Role
from lalert.testing import make_cap
from lalert.testing.node import RunningNode, running_node

SENDER = "bousai@hitoyoshi.example"


async def post_a_mixed_lot(node: RunningNode) -> None:
    good = make_cap(sender=SENDER, identifier="good")
    assert (await node.post(good))[0] == 201
    assert (await node.post(good))[0] == 200
    warned = make_cap(sender=SENDER, identifier="warned").replace(b"</headline>", b" &amp;nbsp;</headline>")
    assert (await node.post(warned))[0] == 201
    wrong = make_cap(sender=SENDER, identifier="wrong").replace(b"<status>Actual<", b"<status>actual<")
    assert (await node.post(wrong))[0] == 422
    assert (await node.post(b"<alert"))[0] == 400
    assert (await node.post(make_cap(sender="someone@else.example")))[0] == 403


async def test_a_sender_sees_how_its_own_documents_fared_and_nobody_elses(tmp_path: Path) -> None:
    async with running_node(tmp_path / "data") as node:
        await node.org("minamata", ["432059"], ["*@minamata.example"])
        neighbour = await node.key(Role.SENDER, "minamata")
        await post_a_mixed_lot(node)
        status, body = await node.get("/v1/scorecards", Role.SENDER)
        assert status == 200
        cards = {card["sender"]: card for card in body["scorecards"]}
        own = cards[SENDER]
        assert (own["name"], own["documents"]) == ("hitoyoshi", 3)
        assert (own["accepted"], own["defective"], own["refused"]) == (1, 1, 1)
        reasons = {reason["rule"]: reason for reason in own["reasons"]}
        assert reasons["CAP-VALUE"]["example"]["identifier"] == "wrong"
        assert reasons["CAP-VALUE"]["example"]["path"] == "/alert/status"
        assert reasons["CAP-VALUE"]["doc"] == "/rules#CAP-VALUE"
        assert reasons["CAP-TEXT-ENTITY"]["severity"] == "warning"
        unknown = cards[None]
        assert (unknown["refused"], {r["rule"] for r in unknown["reasons"]}) == (
            2,
            {"CAP-XML-FORM", "sender-not-yours"},
        )
        assert (await node.get("/v1/scorecards", Role.ADMIN))[1] == body
        assert (await node.get(f"/v1/scorecards?sender={SENDER}&days=1", Role.SENDER))[1]["scorecards"] == [
            own
        ]

        assert (await node.get("/v1/scorecards", neighbour))[1]["scorecards"] == []
        assert (await node.get("/v1/scorecards?org=hitoyoshi", neighbour))[0] == 403
        for role, refused in ((None, 401), (Role.RECEIVER, 403), (Role.SENSOR, 403)):
            assert (await node.get("/v1/scorecards", role))[0] == refused
        for mistake in ("days=0", "days=367", "day=3"):
            assert (await node.get(f"/v1/scorecards?{mistake}", Role.SENDER))[0] == 400

        async with node.http.get(f"{node.url}/metrics") as metrics:
            assert 'lalert_defects_total{rule="CAP-VALUE"} 1.0' in await metrics.text()
    async with running_node(tmp_path / "data") as node:
        again = await node.key(Role.SENDER)
        assert (await node.get("/v1/scorecards", again))[1]["scorecards"] == body["scorecards"]


async def test_what_a_tolerant_policy_forgave_is_a_defect_on_the_card(tmp_path: Path) -> None:
    async with running_node(tmp_path / "data") as node:
        await node.node.administration.update_org("hitoyoshi", tolerant=[SENDER])
        await node.node.keyring.refresh()
        wrong = make_cap(sender=SENDER).replace(b"<urgency>Immediate<", b"<urgency>IMMEDIATE<")
        assert (await node.post(wrong))[0] == 201
        (card,) = (await node.get("/v1/scorecards", Role.SENDER))[1]["scorecards"]
        assert (card["accepted"], card["defective"], card["refused"]) == (0, 1, 0)
        assert [(r["rule"], r["severity"]) for r in card["reasons"]] == [("CAP-VALUE", "error")]


async def test_the_command_line_writes_the_letter_with_and_without_a_node(tmp_path: Path) -> None:
    data = tmp_path / "data"

    def scorecard(*words: str) -> str:
        command = [sys.executable, "-m", "lalert", "scorecard", "--data", str(data), *words]
        return subprocess.run(command, capture_output=True, check=True, text=True, encoding="utf-8").stdout

    async with running_node(data) as node:
        await post_a_mixed_lot(node)
        told = await asyncio.to_thread(scorecard, "--sender", SENDER)
        assert told.startswith(f"hitoyoshi(hitoyoshi)　発信者：{SENDER}\n期間：")
        assert "文書：3件(問題なし1件、警告などがあったが配信1件、受け付けず1件)" in told
        assert "規則：CAP-VALUE" in told
    whole = json.loads(scorecard("--format", "json", "--org", "hitoyoshi"))
    assert {card["sender"]: card["documents"] for card in whole["scorecards"]} == {None: 2, SENDER: 3}
    assert scorecard("--org", "nobody") == "この期間に受け取った文書はありません。\n"
