"""A node that is killed between readings and their warnings says all of them, and none twice; what it proposes is there once."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.system.fault_kit import ORG, Hub, running

STATIONS = 8
RIVER = (2.4, 3.05, 3.25, 3.45)
STAGES = ["caution", "evacuation", "danger"]
CONFIG = "".join(
    f"""
[[stations]]
id = "g{number}"
name = "人吉{number}"
org = "{ORG}"
sender = "gauge@hitoyoshi.example"
codes = ["432032"]
lon = 130.76
lat = 32.21
rule = {{ propose_from = 3 }}
thresholds = {{ caution_m = 3.0, evacuation_m = 3.2, danger_m = 3.4 }}
"""
    for number in range(STATIONS)
)


@pytest.mark.parametrize("kills", [1, pytest.param(12, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_a_node_killed_while_it_judges_says_everything_once(tmp_path: Path, kills: int) -> None:
    hub = Hub(tmp_path / "data", CONFIG)
    async with running(hub), aiohttp.ClientSession() as http:
        officer, _ = await hub.keys()
        sensor = (await hub.administer("keys", {"org": ORG, "role": "sensor"}))["secret"]
        began = datetime.now(UTC) - timedelta(minutes=40)
        for number, level in enumerate(RIVER):
            when = (began + timedelta(minutes=10 * number)).isoformat()
            body = [{"station": f"g{i}", "time": when, "level_m": level} for i in range(STATIONS)]
            headers = {"Authorization": f"Bearer {sensor}"}
            async with http.post(f"{hub.url}/v1/readings", json=body, headers=headers) as response:
                assert (await response.json())["accepted"] == STATIONS
            # The first readings warn of nothing; the last kill of one of these is in the midst of the warnings of the highest stage.
            for _ in range(kills if number == len(RIVER) - 1 else kills // 2 if number else 0):
                await asyncio.sleep(random.uniform(0.0, 0.06))
                await hub.kill()
                await hub.start()
        said = await everything(http, hub.url)
        proposals = await proposed(http, hub.url, officer)
        await hub.terminate()
    told: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for alert in said:
        named = {p["valueName"]: p["value"] for p in alert["info"][0]["parameters"]}
        told[named["station"]].append({**alert, "stage": named["stage"]})
    for number in range(STATIONS):
        messages = told[f"g{number}"]
        assert [message["stage"] for message in messages] == STAGES
        assert [message["msgType"] for message in messages] == ["Alert", "Update", "Update"]
        of = sorted((p["level"], p["state"]) for p in proposals if p["station"] == f"g{number}")
        assert of == [(3, "replaced"), (4, "open")]


async def proposed(http: aiohttp.ClientSession, url: str, key: str) -> list[dict[str, Any]]:
    """Return all proposals once nothing is left to be decided by the rules: a proposal comes after its warning."""
    headers = {"Authorization": f"Bearer {key}"}
    proposals: list[dict[str, Any]] = []
    for _ in range(500):
        async with http.get(f"{url}/v1/proposals?state=all&limit=500", headers=headers) as response:
            proposals = (await response.json())["proposals"]
        if sorted(each["state"] for each in proposals) == ["open"] * STATIONS + ["replaced"] * STATIONS:
            break
        await asyncio.sleep(0.02)
    return proposals


async def everything(http: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    """Wait until all is said, and a little for what must not be; return it in order."""
    async with asyncio.timeout(30):
        while True:
            async with http.get(f"{url}/v1/alerts?limit=500") as response:
                alerts: list[dict[str, Any]] = (await response.json())["alerts"]
            if len(alerts) >= STATIONS * len(STAGES):
                return alerts
            await asyncio.sleep(0.02)
