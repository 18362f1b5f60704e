"""A whole hub, and senders who sign: what it asks of them, what it keeps of it, and what it tells."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from signxml.algorithms import CanonicalizationMethod
from signxml.signer import XMLSigner
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

from lalert import cap
from lalert.config import Hub, Settings, Station, Thresholds
from lalert.errors import ConfigError
from lalert.model import Role, SignaturePolicy
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


async def test_a_signature_holds_for_what_comes_out_of_an_envelope_and_goes_into_one(
    node: RunningNode,
) -> None:
    await asks(node, SignaturePolicy.REQUIRE)
    raw = signed(make_cap(sender=SENDER))
    status, answer = await node.post(cap.wrap(cap.parse(raw)), content_type="application/edxl+xml")
    assert status == 201, answer
    async with node.http.get(
        node.url + answer["url"], headers={"Accept": "application/edxl+xml"}
    ) as response:
        again = cap.parse(await response.read())
    assert again.raw == cap.bare(raw)
    held = cap.verify(again.raw, [TOWN.certificate], again.sent, again)
    assert held == cap.Verification(signed=True, signer=FINGERPRINT)
    plain = cap.wrap(cap.parse(make_cap(sender=SENDER)))
    assert (await node.post(plain))[0] == 422


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


async def test_what_a_tolerated_sender_signed_is_repaired_as_it_was_signed(node: RunningNode) -> None:
    await asks(node, SignaturePolicy.REQUIRE, ("*@hitoyoshi.example",))
    open_ring = make_cap(sender=SENDER).replace(b" 32.19,130.74</polygon>", b"</polygon>")
    assert open_ring.count(b"32.19,130.74") == 1
    status, answer = await node.post(signed(open_ring))
    assert status == 201, answer
    _, kept = await node.get(f"/v1/alerts/{answer['position']}", Accept="application/json")
    assert [defect["severity"] for defect in kept["defects"]] == ["error"]
    assert kept["signature"] == {"status": "verified", "certificate": FINGERPRINT}
    assert (await node.post(open_ring))[0] == 422


@pytest.mark.parametrize("c14n", CanonicalizationMethod, ids=lambda c14n: c14n.name)
async def test_what_was_signed_before_it_was_put_into_an_envelope_holds(
    node: RunningNode, c14n: CanonicalizationMethod
) -> None:
    await asks(node, SignaturePolicy.REQUIRE)
    made = XMLSigner(c14n_algorithm=c14n).sign(
        etree.fromstring(make_cap(sender=SENDER)), key=TOWN.key, cert=TOWN.certificate
    )
    raw = etree.tostring(made, encoding="UTF-8", xml_declaration=True)
    status, answer = await node.post(cap.wrap(cap.parse(raw)), content_type=cap.EDXL_TYPE)
    assert status == 201, answer
    plain = cap.wrap(cap.parse(make_cap(sender=SENDER)))
    status, answer = await node.post(plain, content_type=cap.EDXL_TYPE)
    assert (status, answer["problems"][0]["rule"]) == (422, "CAP-SIGNATURE-MISSING")


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


# What the hub itself issues

GAUGE = Station(
    id="hitoyoshi",
    name="人吉",
    org=ORG,
    sender="gauge@hitoyoshi.example",
    codes=("432032",),
    lon=130.762,
    lat=32.214,
    river="球磨川",
    thresholds=Thresholds(caution_m=3.0),
)


async def warned(node: RunningNode) -> tuple[dict[str, Any], bytes]:
    """Let the river rise; returns the warning as JSON and as the bytes that a subscriber gets."""
    reading = {"station": GAUGE.id, "time": datetime.now(UTC).isoformat(), "level_m": 3.1}
    headers = node.headers(Role.SENSOR)
    async with node.http.post(f"{node.url}/v1/readings", json=reading, headers=headers) as response:
        assert response.status < 300, await response.text()
    async with asyncio.timeout(10):
        while not (alerts := (await node.get("/v1/alerts"))[1]["alerts"]):
            await asyncio.sleep(0.02)
    async with node.http.get(f"{node.url}/v1/alerts/{alerts[0]['position']}") as response:
        return alerts[0], await response.read()


@pytest.fixture
async def gauged(tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path / "data", Settings(stations=(GAUGE,))) as running:
        yield running


async def certificate_of(node: RunningNode) -> str:
    async with node.http.get(f"{node.url}/v1/certificate") as response:
        assert (response.status, response.content_type) == (200, "application/x-pem-file")
        return await response.text()


async def test_a_subscriber_verifies_a_gauges_warning_with_the_published_certificate(
    gauged: RunningNode, tmp_path: Path
) -> None:
    # The organisation may even ask its own people to sign with a certificate of theirs: the hub is not one of them.
    await asks(gauged, SignaturePolicy.REQUIRE)
    shown, raw = await warned(gauged)
    pem = await certificate_of(gauged)
    fingerprint = cap.read_certificate(pem).fingerprint
    assert shown["signature"] == {"status": "verified", "certificate": fingerprint}

    verified = XMLVerifier().verify(
        raw, x509_cert=pem, expect_config=SignatureConfiguration(location="./", expect_references=1)
    )
    assert isinstance(verified, VerifyResult)
    assert cap.parse(verified.signed_data) == cap.parse(raw)
    assert cap.verify(raw, [pem], datetime.now(UTC), cap.parse(raw)).signer == fingerprint
    assert cap.parse(raw).sender == GAUGE.sender


@pytest.mark.skipif(shutil.which("xmlsec1") is None, reason="needs xmlsec1 (make test installs it on Debian)")
async def test_another_program_agrees_about_what_is_genuine_and_what_is_not(
    gauged: RunningNode, tmp_path: Path
) -> None:
    _, raw = await warned(gauged)
    pem, document = tmp_path / "hub.pem", tmp_path / "warning.xml"
    pem.write_text(await certificate_of(gauged))

    def holds(raw: bytes) -> bool:
        document.write_bytes(raw)
        command = ["xmlsec1", "--verify", "--pubkey-cert-pem", str(pem), str(document)]
        return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 0

    assert holds(raw)
    assert not holds(raw.replace("球磨川".encode(), "川辺川".encode()))
    await asks(gauged, SignaturePolicy.REQUIRE)
    for by in (TOWN, signer("ec", "ec")):
        theirs = signed(make_cap(sender=SENDER, headline="球磨川 <至急> & 𠮷野家"), by)
        pem.write_text(by.certificate)
        assert holds(theirs)


async def test_a_warning_goes_out_unsigned_rather_than_not_at_all(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running_node(data, Settings(stations=(GAUGE,))) as node:
        keys = dict(node.keys)
    (data / "signing.pem").write_text("damaged")
    async with running_node(data, Settings(stations=(GAUGE,))) as node:
        node.keys.update(keys)
        await asks(node, SignaturePolicy.REQUIRE)
        shown, raw = await warned(node)
        assert shown["signature"] is None
        assert b"SignatureValue" not in raw
        status, answer = await node.get("/v1/certificate")
        assert (status, answer["code"]) == (503, "unavailable")
        assert str(tmp_path) not in answer["detail"]


async def test_nobody_else_may_speak_with_the_hubs_signature(gauged: RunningNode) -> None:
    await asks(gauged, SignaturePolicy.REQUIRE)
    own = await gauged.node.signing.signer()
    status, answer = await gauged.post(own.sign(make_cap(sender=SENDER)))
    assert (status, answer["problems"][0]["rule"]) == (422, "CAP-SIGNATURE-UNTRUSTED")


async def test_an_operators_key_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    hub = Hub(
        signing_key_file=str(tmp_path / "none.pem"), signing_certificate_file=str(tmp_path / "none.pem")
    )
    with pytest.raises(ConfigError, match="signing_key_file"):
        async with running_node(tmp_path / "data", Settings(hub=hub)):
            pass
