"""A whole hub, and senders who sign: what it asks of them, what it keeps of it, and what it tells."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lalert import cap
from lalert.model import SignaturePolicy
from lalert.testing import make_alert, make_cap
from lalert.testing.node import RunningNode, running_node
from tests.signing_kit import Signer, signer

SENDER = "bousai@hitoyoshi.example"
ORG = "hitoyoshi"
TOWN = signer()
FINGERPRINT = cap.read_certificate(TOWN.certificate).fingerprint


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path / "data") as running:
        yield running


async def asks(node: RunningNode, policy: SignaturePolicy, tolerant: tuple[str, ...] = ()) -> None:
    await node.node.administration.update_org(
        ORG, signatures=policy, certificates=[TOWN.certificate], tolerant=tolerant
    )
    await node.node.keyring.refresh()


def signed(raw: bytes, by: Signer = TOWN) -> bytes:
    return cap.sign(raw, by.key, by.certificate)


async def test_a_signature_that_holds_is_kept_and_told_with_its_certificate(tmp_path: Path) -> None:
    raw = signed(make_cap(sender=SENDER))
    async with running_node(tmp_path / "data") as node:
        await asks(node, SignaturePolicy.REQUIRE)
        status, answer = await node.post(raw)
        assert status == 201, answer
        position = answer["position"]
    async with running_node(tmp_path / "data") as node:
        _, kept = await node.get(f"/v1/alerts/{position}", Accept="application/json")
        assert kept["signature"] == {"status": "verified", "certificate": FINGERPRINT}
        async with node.http.get(f"{node.url}/v1/alerts/{position}") as response:
            assert await response.read() == raw


@pytest.mark.parametrize("policy", SignaturePolicy)
@pytest.mark.parametrize("tolerant", [(), ("*@hitoyoshi.example",)], ids=["strict", "tolerant"])
async def test_what_is_asked_decides(
    node: RunningNode, policy: SignaturePolicy, tolerant: tuple[str, ...]
) -> None:
    await asks(node, policy, tolerant)
    plain, good = make_cap(sender=SENDER), signed(make_cap(sender=SENDER))
    stranger = signed(make_cap(sender=SENDER), signer("stranger"))
    changed = signed(make_cap(sender=SENDER, headline="before")).replace(b"before", b"after")
    looked_at = policy is not SignaturePolicy.IGNORE
    expected = {
        plain: "CAP-SIGNATURE-MISSING" if policy is SignaturePolicy.REQUIRE else None,
        good: None,
        stranger: "CAP-SIGNATURE-UNTRUSTED" if looked_at else None,
        changed: "CAP-SIGNATURE-BROKEN" if looked_at else None,
    }
    for raw, rule in expected.items():
        status, answer = await node.post(raw)
        found = [p["rule"] for p in answer.get("problems", []) if p["severity"] == "error"]
        assert (status, found) == ((201, []) if rule is None else (422, [rule])), answer


async def test_a_forged_alert_leaves_nothing_and_says_in_two_languages_what_to_do(node: RunningNode) -> None:
    await asks(node, SignaturePolicy.VERIFY)
    _, answer = await node.post(signed(make_cap(sender=SENDER), signer("stranger")))
    (problem,) = answer["problems"]
    assert problem["path"] == "/alert/Signature"
    assert problem["line"] > 0
    assert "hub's administrator" in problem["help"]
    assert "管理者" in problem["help_ja"]
    _, listed = await node.get("/v1/alerts?status=all")
    assert listed["alerts"] == []


async def test_without_a_look_nothing_is_claimed(node: RunningNode) -> None:
    _, answer = await node.post(signed(make_cap(sender=SENDER)))
    _, kept = await node.get(f"/v1/alerts/{answer['position']}", Accept="application/json")
    assert kept["signature"] is None


async def test_a_large_signed_alert_is_verified_too(node: RunningNode) -> None:
    await asks(node, SignaturePolicy.REQUIRE)
    areas = make_alert(area_desc="人吉市").infos[0].areas * 700
    raw = signed(make_cap(sender=SENDER, areas=areas))
    assert len(raw) > 65_536
    assert (await node.post(raw))[0] == 201
    forged = raw.replace("人吉市".encode(), "八代市".encode(), 1)
    assert (await node.post(forged))[0] == 422


async def test_an_alert_signed_before_its_certificate_began_is_refused(node: RunningNode) -> None:
    await asks(node, SignaturePolicy.REQUIRE)
    early = datetime(2025, 12, 31, tzinfo=UTC)
    raw = signed(make_cap(sender=SENDER, sent=early, expires=datetime.now(UTC) + timedelta(hours=6)))
    status, answer = await node.post(raw)
    assert (status, answer["problems"][0]["rule"]) == (422, "CAP-SIGNATURE-EXPIRED")
