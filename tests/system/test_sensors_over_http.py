"""From readings over HTTP to what people find: the image that a warning names is there, and is the one that it means."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
import pytest
import pytest_asyncio

from lalert.config import Hub, Settings, Station, Thresholds
from lalert.model import Role
from lalert.testing import make_cap
from lalert.testing.node import RunningNode, running_node

pytestmark = pytest.mark.asyncio(loop_scope="module")
ADDRESS = "https://hub.example"
GAUGE = Station(
    "hitoyoshi",
    "人吉",
    "hitoyoshi",
    "gauge@hitoyoshi.example",
    ("432032",),
    130.76,
    32.21,
    river="球磨川",
    thresholds=Thresholds(caution_m=3.0, evacuation_m=3.2, danger_m=3.4, flooding_m=4.7),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    trial = msgspec.structs.replace(GAUGE, id="trial", status="Exercise")
    settings = Settings(hub=Hub(base_url=ADDRESS + "/"), stations=(GAUGE, trial))
    async with running_node(tmp_path_factory.mktemp("sensors") / "data", settings) as running:
        yield running


async def river(node: RunningNode, *levels: float, station: str = GAUGE.id) -> None:
    """Send levels that were measured 10 minutes apart, the last one now."""
    now = datetime.now(UTC)
    readings = [
        {"station": station, "time": (now - timedelta(minutes=10 * back)).isoformat(), "level_m": level}
        for back, level in zip(range(len(levels) - 1, -1, -1), levels, strict=True)
    ]
    url, headers = f"{node.url}/v1/readings", node.headers(Role.SENSOR)
    async with node.http.post(url, json=readings, headers=headers) as response:
        assert (await response.json())["accepted"] == len(levels)


async def newest(node: RunningNode, stage: str, station: str = GAUGE.id) -> dict[str, Any]:
    """Wait for a station's warning of a stage and return it."""
    async with asyncio.timeout(10):
        while True:
            _, page = await node.get("/v1/alerts?status=all&limit=500")
            for alert in reversed(page["alerts"]):
                named = {p["valueName"]: p["value"] for p in alert["info"][0]["parameters"]}
                if (named.get("station"), named.get("stage")) == (station, stage):
                    return cast("dict[str, Any]", alert)
            await asyncio.sleep(0.01)


async def test_the_image_that_a_warning_names_is_served_as_it_was_told(node: RunningNode) -> None:
    await river(node, 2.4, 2.6, 2.9, 3.05)
    warned = await newest(node, "caution")
    for info in warned["info"]:
        [resource] = info["resources"]
        assert resource["uri"].startswith(f"{ADDRESS}/alerts/{warned['id']}/")
        async with node.http.get(node.url + resource["uri"].removeprefix(ADDRESS)) as response:
            image = await response.read()
            assert response.status == 200
            assert response.content_type == resource["mimeType"]
            assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert len(image) == resource["size"]
        assert hashlib.sha1(image, usedforsecurity=False).hexdigest() == resource["digest"]


async def test_an_alert_without_levels_has_no_image(node: RunningNode) -> None:
    _, accepted = await node.post(make_cap(sender="bousai@hitoyoshi.example"))
    alert_id = accepted["url"].rpartition("/")[2]
    for path in (f"/alerts/{alert_id}/hydrograph.ja.svg", "/alerts/none/hydrograph.ja.svg"):
        async with node.http.get(node.url + path) as response:
            assert response.status == 404
