"""Longitude and latitude at every door: one place that is wider than high, far from where the two would be the same if they were swapped."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import feedparser
import pytest_asyncio
from lxml import etree

from lalert import cap
from lalert.model import Area, Circle, Role
from lalert.testing import make_alert
from lalert.testing.node import RunningNode, running_node

WEST, SOUTH, EAST, NORTH = 130.5, 32.1, 130.9, 32.2
RING = ((WEST, SOUTH), (EAST, SOUTH), (EAST, NORTH), (WEST, NORTH), (WEST, SOUTH))
CIRCLE = Circle(130.75, 32.15, 500.0)
CAP = "{urn:oasis:names:tc:emergency:cap:1.2}"


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path / "data") as running:
        await running.org("kumamoto", ["all"], ["*@pref.example"])
        running.keys[Role.SENDER] = await running.key(Role.SENDER, "kumamoto")
        yield running


async def post(node: RunningNode, area: Area) -> str:
    """Hand in a CAP document whose coordinates were written by hand, and return its position."""
    drawn = "".join(f"<polygon>{' '.join(f'{y},{x}' for x, y in ring)}</polygon>" for ring in area.polygons)
    drawn += "".join(f"<circle>{one.lat},{one.lon} {one.radius_m / 1000}</circle>" for one in area.circles)
    raw = make_alert(sender="bousai@pref.example", areas=[replace(area, polygons=(), circles=())]).raw
    written = raw.replace(b"</areaDesc>", b"</areaDesc>" + drawn.encode())
    status, accepted = await node.post(written)
    assert status == 201, accepted
    return str(accepted["position"])


async def listed(node: RunningNode, **filter: str) -> int:
    status, page = await node.get(f"/v1/alerts?{urlencode(filter)}")
    assert status == 200, page
    return len(page["alerts"])


async def geojson(node: RunningNode, path: str) -> dict[str, Any]:
    async with node.http.get(node.url + path, headers={"Accept": "application/geo+json"}) as response:
        assert response.content_type == "application/geo+json"
        assert response.headers["Vary"] == "Accept"
        body: dict[str, Any] = json.loads(await response.read())
        return body


async def test_cap_comes_in_and_goes_out_with_latitude_first(node: RunningNode) -> None:
    position = await post(node, Area("川", polygons=(RING,), circles=(CIRCLE,)))
    entry = await node.node.store.entry(position)
    assert entry is not None
    [area] = entry.alert.infos[0].areas
    assert (area.polygons, area.circles) == ((RING,), (CIRCLE,))
    root = etree.fromstring(cap.render(entry.alert))
    assert (root.findtext(f".//{CAP}polygon") or "").split()[:2] == ["32.1,130.5", "32.1,130.9"]
    assert root.findtext(f".//{CAP}circle") == "32.15,130.75 0.5"
    assert entry.facts.bbox == (WEST, SOUTH, EAST, NORTH)


async def test_json_and_geojson_have_longitude_first(node: RunningNode) -> None:
    position = await post(node, Area("川", polygons=(RING,), circles=(CIRCLE,)))
    _, alert = await node.get(f"/v1/alerts/{position}", Accept="application/json")
    [area] = alert["info"][0]["areas"]
    assert area["polygons"] == [[list(corner) for corner in RING]]
    assert area["circles"] == [{"lon": 130.75, "lat": 32.15, "radius_m": 500.0}]
    assert alert["bbox"] == [WEST, SOUTH, EAST, NORTH]
    one, page = await geojson(node, f"/v1/alerts/{position}"), await geojson(node, "/v1/alerts")
    assert (page["type"], page["next"], page["features"]) == ("FeatureCollection", position, [one])
    assert one["bbox"] == [WEST, SOUTH, EAST, NORTH]
    assert one["geometry"]["type"] == "Polygon"
    assert {(x, y) for x, y in one["geometry"]["coordinates"][0]} == set(RING)
    assert one["properties"]["circles"] == area["circles"]
    async with node.http.get(f"{node.url}/v1/alerts", headers={"Accept": "application/json"}) as response:
        assert response.headers["Vary"] == "Accept"


async def test_filters_ask_for_points_and_polygons_latitude_first_and_for_boxes_west_first(
    node: RunningNode,
) -> None:
    await post(node, Area("川", polygons=(RING,)))
    assert await listed(node, point="32.15,130.85") == 1
    assert await listed(node, point="32.25,130.85") == 0
    assert await listed(node, point="32.15,130.95") == 0
    assert await listed(node, polygon="32.15,130.85 32.15,131.00 32.19,131.00") == 1
    assert await listed(node, polygon="32.25,130.85 32.25,131.00 32.29,131.00") == 0
    assert await listed(node, bbox="130.85,32.15,131.0,32.19") == 1
    assert await listed(node, bbox="130.95,32.15,131.0,32.19") == 0
    for swapped in ({"point": "130.85,32.15"}, {"polygon": "130.85,32.15 131.00,32.15 131.00,32.19"}):
        status, problem = await node.get(f"/v1/alerts?{urlencode(swapped)}")
        assert (status, "latitude comes first" in problem["detail"]) == (400, True)
    body = {
        "channel": "webhook",
        "target": "https://receiver.example/",
        "filter": {"point": "32.15,130.85", "bbox": "130.85,32.15,131,32.19"},
    }
    async with node.http.post(
        f"{node.url}/v1/subscriptions", json=body, headers=node.headers(Role.RECEIVER)
    ) as response:
        kept = (await response.json())["filter"]
    assert kept == {"point": ["32.15,130.85"], "bbox": ["130.85,32.15,131.0,32.19"]}


async def test_feeds_have_latitude_first(node: RunningNode) -> None:
    await post(node, Area("川", polygons=(RING,)))
    await post(node, Area("円", circles=(CIRCLE,)))
    await post(node, Area("両方", polygons=(RING,), circles=(CIRCLE,)))
    async with node.http.get(f"{node.url}/feeds/all.atom") as response:
        raw = await response.read()
    written = [
        place.text or ""
        for place in etree.fromstring(raw).iter("{http://www.georss.org/georss}*")
        if etree.QName(place).localname in ("polygon", "point", "box")
    ]
    assert written == [
        "32.100000 130.500000 32.200000 130.900000",
        "32.150000 130.750000",
        "32.100000 130.500000 32.100000 130.900000 32.200000 130.900000 32.200000 130.500000 32.100000 130.500000",
    ]
    read = [entry.where.coordinates for entry in feedparser.parse(raw).entries]
    assert read == [((WEST, SOUTH), (EAST, NORTH)), (130.75, 32.15), (list(RING),)]
