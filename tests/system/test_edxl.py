"""EDXL envelopes through the front door: what is kept is the alert, and it is given in an envelope to whoever asks."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from lxml import etree

from lalert import cap
from lalert.cli.alerts import validate
from lalert.testing import make_alert
from lalert.testing.node import RunningNode, running_node

SENDER = "bousai@hitoyoshi.example"
DATA = Path(__file__).parents[1] / "data" / "edxl"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path / "data") as running:
        yield running


async def get(node: RunningNode, path: str, accept: str) -> tuple[str, bytes]:
    async with node.http.get(node.url + path, headers={"Accept": accept}) as response:
        assert response.status == 200
        return response.content_type, await response.read()


async def test_an_alert_in_an_envelope_is_taken_kept_and_given_back_bare_or_in_another(
    node: RunningNode,
) -> None:
    alert = make_alert(sender=SENDER, identifier="enveloped", headline="球磨川の氾濫に備えてください")
    envelope = cap.wrap(alert)
    status, answer = await node.post(envelope, content_type="application/edxl+xml")
    assert (status, answer["identifier"]) == (201, "enveloped")

    media, document = await get(node, f"/v1/alerts/{answer['position']}", "application/cap+xml")
    assert (media, document) == ("application/cap+xml", cap.bare(alert.raw))

    for path in (f"/v1/alerts/{answer['position']}", answer["url"]):
        media, given = await get(node, path, "application/edxl+xml")
        assert (media, given) == ("application/edxl+xml", cap.wrap(cap.parse(document)))
        assert cap.parse(given).raw == document

    again = envelope.replace(alert.id.encode(), b"another-distribution")
    assert again != envelope
    status, repeated = await node.post(again, content_type="application/xml")
    assert (status, repeated["position"]) == (200, answer["position"])


async def test_a_drill_in_a_real_envelope_is_refused_with_everything_that_is_wrong(node: RunningNode) -> None:
    envelope = cap.wrap(make_alert(sender=SENDER, note="訓練", status="Exercise")).replace(
        b">Exercise</de:", b">Actual</de:"
    )
    envelope = envelope.replace(b"<de:distributionType>Report", b"<de:distributionType>Cancel")
    status, answer = await node.post(envelope)
    assert (status, answer["code"]) == (422, "invalid-alert")
    found = {problem["rule"]: problem for problem in answer["problems"]}
    assert {"EDXL-STATUS", "EDXL-TYPE"} == set(found)
    assert found["EDXL-STATUS"]["path"] == "/EDXLDistribution/distributionStatus"
    assert "訓練" in found["EDXL-STATUS"]["message_ja"]
    async with node.http.get(f"{node.url}/v1/alerts?status=all") as response:
        assert (await response.json())["alerts"] == []


async def test_what_is_forbidden_in_a_document_is_forbidden_round_it(node: RunningNode) -> None:
    envelope = cap.wrap(make_alert(sender=SENDER))
    bomb = envelope.replace(b"<de:EDXL", b'<!DOCTYPE a [<!ENTITY b "c">]><de:EDXL', 1)
    status, answer = await node.post(bomb)
    assert (status, answer["code"]) == (400, "not-xml")


async def test_a_warning_about_the_envelope_stays_with_the_alert(node: RunningNode) -> None:
    envelope = cap.wrap(make_alert(sender=SENDER, identifier="relayed")).replace(
        b"<de:senderID>bousai@", b"<de:senderID>relay@"
    )
    status, answer = await node.post(envelope)
    assert status == 201
    assert [problem["rule"] for problem in answer["problems"]] == ["EDXL-SENDER"]


async def test_a_tolerated_sender_may_err_in_the_form_of_the_envelope_but_not_in_what_decides(
    node: RunningNode,
) -> None:
    await node.node.administration.update_org("hitoyoshi", tolerant=("*@hitoyoshi.example",))
    await node.node.keyring.refresh()
    envelope = cap.wrap(make_alert(sender=SENDER, identifier="clumsy"))
    clumsy = re.sub(rb"<de:distributionID>.*?</de:distributionID>", b"", envelope)
    status, answer = await node.post(clumsy)
    assert status == 201
    _, kept = await node.get(answer["url"], Accept="application/json")
    (defect,) = [d for d in kept["defects"] if d["rule"] == "EDXL-ELEMENT-MISSING"]
    assert (defect["severity"], defect["path"]) == ("error", "/EDXLDistribution")
    assert defect["repair"]
    assert defect["repair_ja"]
    status, answer = await node.post(clumsy.replace(b">Actual</de:", b">Exercise</de:"))
    assert status == 422
    assert "EDXL-STATUS" in [problem["rule"] for problem in answer["problems"]]


def test_validate_takes_envelopes_and_names_them() -> None:
    good, bad = DATA / "good" / "evacuation-order.xml", DATA / "bad" / "drill-in-a-real-envelope.xml"
    said = CliRunner().invoke(validate, [str(good), str(bad)])
    assert said.exit_code == 1
    assert f"{good}: valid CAP 1.2 in EDXL-DE 1.0\n" in said.output
    assert f"{bad}: INVALID in EDXL-DE 1.0\n" in said.output
    said = CliRunner().invoke(validate, ["--format", "json", str(good), "-"], input=b"<alert/>")
    envelope, bare = map(orjson.loads, said.output.splitlines())
    assert (envelope["valid"], envelope["version"], envelope["envelope"]) == (True, "1.2", "EDXL-DE 1.0")
    assert (bare["version"], bare["envelope"]) == (None, None)


def test_a_profile_finds_its_places_in_the_envelope() -> None:
    text = (
        (DATA / "good" / "evacuation-order.xml").read_text(encoding="utf-8").replace(">432032<", ">432033<")
    )
    said = CliRunner().invoke(validate, ["--profile", "jp", "--format", "json", "-"], input=text.encode())
    (problem,) = [p for p in orjson.loads(said.output)["problems"] if p["rule"] == "JP-CODE-CHECK-DIGIT"]
    assert problem["path"].startswith(
        "/EDXLDistribution/contentObject[1]/xmlContent/embeddedXMLContent[1]/alert/"
    )
    assert "432033" in text.splitlines()[problem["line"] - 1]


async def test_an_envelope_is_itself_sound(node: RunningNode) -> None:
    _, answer = await node.post(cap.wrap(make_alert(sender=SENDER)))
    _, given = await get(node, answer["url"], "application/edxl+xml;q=1, */*;q=0.5")
    assert etree.fromstring(given).tag == "{urn:oasis:names:tc:emergency:EDXL:DE:1.0}EDXLDistribution"
    media, _ = await get(node, answer["url"], "*/*")
    assert media == "application/cap+xml"
