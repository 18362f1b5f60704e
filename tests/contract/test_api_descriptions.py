"""openapi.yaml and asyncapi.yaml say what the running hub does: every address both ways, and every answer by its schema."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

from lalert import resources
from lalert.config import Settings, Station, Thresholds
from lalert.errors import LalertError
from lalert.model import Role
from lalert.sensors.settings import Rules
from lalert.testing import make_cap
from lalert.testing.node import RunningNode, running_node

OPENAPI: dict[str, Any] = yaml.safe_load(resources.schema("openapi.yaml"))
SENDER = "bousai@hitoyoshi.example"
GAUGE = Station(
    "g",
    "人吉",
    "hitoyoshi",
    SENDER,
    ("432032",),
    130.7,
    32.2,
    thresholds=Thresholds(caution_m=3.0, evacuation_m=3.2),
    rule=Rules(propose_from=3),
)
PAGES = {
    "/",
    "/signage/{screen}",
    "/place/{code}",
    "/setup",
    "/stations",
    "/static/{path}",
}
STREAMS = {"/v1/stream", "/v1/ws", "/v1/stream/test", "/v1/ws/test"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    canary = {"target": "https://127.0.0.1:1/", "within_s": 1}
    settings = Settings(stations=(GAUGE,), adapters={"webhook": {"canary": canary}})
    async with running_node(tmp_path_factory.mktemp("api") / "data", settings) as running:
        yield running


def checked(body: Any, name: str) -> Any:
    schema = {"$ref": f"#/components/schemas/{name}", "components": OPENAPI["components"]}
    jsonschema.Draft202012Validator(schema).validate(body)
    return body


def test_the_description_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(OPENAPI).validate()


def _described(path: str) -> str:
    return "/feeds/{feed}" if path.startswith("/feeds/") else path


@pytest.mark.asyncio(loop_scope="module")
async def test_every_route_is_described_and_every_description_is_served(node: RunningNode) -> None:
    served = {
        (route.method, _described(re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.resource.canonical)))
        for route in node.node.application.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    described = {
        (method.upper(), path)
        for path, item in OPENAPI["paths"].items()
        for method in item
        if method in ("get", "post", "put", "patch", "delete")
    }
    own = {(method, path) for method, path in served if path not in PAGES and path not in STREAMS}
    assert own == described
    assert {path for _, path in served} >= STREAMS


@pytest.mark.asyncio(loop_scope="module")
async def test_the_answers_have_the_described_form(node: RunningNode) -> None:
    status, accepted = await node.post(make_cap(sender=SENDER, identifier="a", level=3))
    assert status == 201
    checked(accepted, "Accepted")
    status, page = await node.get("/v1/alerts")
    assert checked(page, "AlertPage")["alerts"]
    _, one = await node.get(f"/v1/alerts/{accepted['position']}", Accept="application/json")
    checked(one, "Alert")
    _, feature = await node.get(f"/v1/alerts/{accepted['position']}", Accept="application/geo+json")
    checked(feature, "Feature")
    _, features = await node.get("/v1/alerts", Accept="application/geo+json")
    assert checked(features, "FeatureCollection")["features"]
    _, devices = await node.get("/v1/devices", Role.ADMIN)
    checked(devices, "Devices")
    _, stations = await node.get("/v1/stations")
    checked(stations["stations"][0], "Station")
    _, ready = await node.get("/readyz")
    assert checked(ready, "Ready")["ready"] is True
    body = {"channel": "webhook", "target": "https://receiver.example/hook"}
    async with node.http.post(
        f"{node.url}/v1/subscriptions", json=body, headers=node.headers(Role.RECEIVER)
    ) as response:
        made = checked(await response.json(), "Subscription")
        assert made["options"]["secret"].startswith("whsec_")
    _, mine = await node.get("/v1/subscriptions", Role.RECEIVER)
    assert checked(mine["subscriptions"][0], "Subscription")["id"] == made["id"]
    assert "options" not in mine["subscriptions"][0]
    for raw in (make_cap(sender=SENDER), make_cap(sender=SENDER, identifier="a", level=5), b"<alert/>"):
        url = f"{node.url}/v1/route?as=area%3D43205"
        headers = node.headers(Role.SENDER, **{"Content-Type": "application/cap+xml"})
        async with node.http.post(url, data=raw, headers=headers) as response:
            route = checked(await response.json(), "Route")
        assert bool(route["channels"]) is route["accepted"]
    ack = {"position": accepted["position"]}
    async with node.http.post(
        f"{node.url}/v1/acks", json=checked(ack, "NewAck"), headers=node.headers(Role.RECEIVER)
    ) as response:
        assert response.status == 204
    _, receivers = await node.get("/v1/receivers", Role.ADMIN)
    assert checked(receivers, "Receivers")["receivers"][0]["alerts"]
    _, channels = await node.get("/v1/channels", Role.ADMIN)
    assert [one["name"] for one in checked(channels, "Channels")["channels"] if one["canary"]] == ["webhook"]
    async with node.http.post(f"{node.url}/v1/tickets", headers=node.headers(Role.RECEIVER)) as response:
        checked(await response.json(), "Ticket")
    status, problem = await node.post(b"<alert/>")
    assert status == 422
    assert checked(problem, "Problem")["problems"]
    _, scorecards = await node.get("/v1/scorecards", Role.SENDER)
    assert checked(scorecards, "Scorecards")["scorecards"]
    _, audit = await node.get("/v1/audit", Role.ADMIN)
    assert checked(audit, "AuditLines")["lines"]
    _, places = await node.get("/map/places.json?lang=en")
    assert ["432032", "Hitoyoshi City"] in [[place[0], place[3]] for place in checked(places, "Places")]
    _, outlines = await node.get("/map/outlines.json?area=43203&area=43&area=439991")
    assert set(checked(outlines, "Outlines")) == {"432032", "43"}
    status, problem = await node.get("/map/outlines.json")
    assert (status, checked(problem, "Problem")["code"]) == (400, "bad-request")
    measured: dict[str, Any] = {"station": "g", "time": datetime.now(UTC).isoformat(), "level_m": 3.3}
    async with node.http.post(
        f"{node.url}/v1/readings", json=measured, headers=node.headers(Role.SENSOR)
    ) as response:
        assert response.status == 200
    async with asyncio.timeout(10):
        while not (found := (await node.get("/v1/proposals", Role.SENDER))[1]["proposals"]):
            await asyncio.sleep(0.01)
    _, proposal = await node.get(f"/v1/proposals/{checked(found[0], 'Proposal')['id']}", Role.SENDER)
    checked(proposal, "Proposal")
    rejection = checked({"reason": "no"}, "Rejection")
    async with node.http.post(
        f"{node.url}/v1/proposals/{proposal['id']}/reject", json=rejection, headers=node.headers(Role.SENDER)
    ) as response:
        assert checked(await response.json(), "Proposal")["state"] == "rejected"
    _, head = await node.get("/v1/audit/head")
    assert checked(head, "AuditHeads")["number"] >= audit["lines"][-1]["number"]


def test_every_error_code_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    codes: set[str] = set()

    def collect(kind: type[LalertError]) -> None:
        for child in kind.__subclasses__():
            if child.status < 500 or child.code == "unavailable":
                codes.add(child.code)
            collect(child)

    collect(LalertError)
    for source in (Path(__file__).parents[2] / "lalert").rglob("*.py"):
        codes |= set(re.findall(r'code="([a-z-]+)"', source.read_text(encoding="utf-8")))
    missing = sorted(code for code in codes if f"`{code}`" not in text)
    assert missing == []
