"""A warning with typos, through the front door: told in spite of them where its sender is tolerated, refused in full where not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from lalert.model import Role
from lalert.testing import make_cap
from lalert.testing.node import ORG, RunningNode, running_node

SENDER = "bousai@hitoyoshi.example"


def misspelt(identifier: str) -> bytes:
    """Return an order with three faults that many real alerts have: two of capitals, and words in an altitude."""
    text = make_cap(sender=SENDER, identifier=identifier, level=4).decode()
    assert text.count("<severity>Severe") == text.count("</area>") == text.count("<category>Safety") == 1
    text = text.replace("<severity>Severe", "<severity>SEVERE").replace(
        "<category>Safety", "<category>safety"
    )
    return text.replace("</area>", "<altitude>ground level</altitude></area>").encode()


async def shown(node: RunningNode, path: str) -> dict[str, Any]:
    status, body = await node.get(path, Accept="application/json")
    assert status == 200
    return dict(body)


async def tolerate(node: RunningNode, *patterns: str) -> None:
    await node.node.administration.update_org(ORG, tolerant=patterns)
    await node.node.keyring.refresh()


async def test_a_tolerated_sender_is_heard_and_everybody_is_told_what_was_wrong(tmp_path: Path) -> None:
    raw = misspelt("typos")
    async with running_node(tmp_path / "data") as node:
        await tolerate(node, SENDER)
        async with node.http.get(f"{node.url}/v1/stream?area=432032") as stream:
            status, answer = await node.post(raw)
            assert status == 201, answer
            assert [p["rule"] for p in answer["problems"]] == ["CAP-VALUE", "CAP-VALUE", "CAP-HEIGHT-FORM"]
            line = b""
            async with asyncio.timeout(10):
                while not (line.startswith(b"data: ") and b"CAP-VALUE" in line):
                    line = await stream.content.readline()
        told = json.loads(line.removeprefix(b"data: "))
        url = f"{node.url}/v1/alerts/{answer['position']}"
        assert told["info"][0]["severity"] == "Severe"
        assert told["info"][0]["category"] == ["Safety"]
        assert [d["severity"] for d in told["defects"]] == ["error"] * 3
        assert all(
            d["repair"] and d["repair_ja"] and d["doc"] == f"/rules#{d['rule']}" for d in told["defects"]
        )
        async with node.http.get(url, headers={"Accept": "application/cap+xml"}) as response:
            assert await response.read() == raw
        before = (await shown(node, f"/v1/alerts/{answer['position']}"))["defects"]
        assert before == told["defects"]
    # What was accepted stays accepted, whatever the policy is by the next start.
    async with running_node(tmp_path / "data") as node:
        await tolerate(node)
        again = await shown(node, f"/v1/alerts/{answer['position']}")
        assert again["defects"] == before
        assert again["info"] == told["info"]
        status, answer = await node.post(misspelt("strict by now"), await node.key(Role.SENDER))
        assert status == 422
        # Nothing was made of what was refused.
        assert not any("repair" in found for found in answer["problems"])


async def test_a_strict_sender_hears_of_every_problem(tmp_path: Path) -> None:
    async with running_node(tmp_path / "data") as node:
        await tolerate(node, "somebody-else@hitoyoshi.example")
        status, answer = await node.post(misspelt("typos"))
        assert status == 422
        assert [p["rule"] for p in answer["problems"]] == ["CAP-VALUE", "CAP-VALUE", "CAP-HEIGHT-FORM"]
        assert (await shown(node, "/v1/alerts"))["alerts"] == []


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("<status>Actual", "<status>actual", 422),
        ("<scope>Public", "<scope>public", 422),
        ("<sender>bousai@hitoyoshi.example", "<sender>mayor@tokyo.example", 403),
        ("<alert ", "<!DOCTYPE alert><alert ", 400),
        ("432032", "131016", 403),
    ],
)
async def test_nothing_that_decides_is_tolerated(tmp_path: Path, old: str, new: str, status: int) -> None:
    raw = misspelt("typos").decode()
    assert old in raw
    async with running_node(tmp_path / "data") as node:
        await tolerate(node, "*@hitoyoshi.example")
        answered, answer = await node.post(raw.replace(old, new).encode(), Role.SENDER)
        assert answered == status, answer
        assert (await shown(node, "/v1/alerts?status=all"))["alerts"] == []
