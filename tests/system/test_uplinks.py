"""Uplinks and tables of readings at a running node: kept once, whatever comes again, late or wrong."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lalert import config
from lalert.config import Settings
from lalert.model import Role
from lalert.testing.node import ORG, RunningNode, running_node
from tests.unit.test_uplinks import EUI, chirpstack, sigfox, tts

pytestmark = pytest.mark.asyncio(loop_scope="module")
CONFIGURATION = f"""
[[stations]]
id = "g"
name = "人吉"
org = "{ORG}"
sender = "gauge@hitoyoshi.example"
codes = ["432032"]
lon = 130.7
lat = 32.2
thresholds = {{ caution_m = 3.0 }}

[[stations]]
id = "other"
name = "x"
org = "elsewhere"
sender = "gauge@elsewhere.example"
codes = ["432032"]
lon = 130.7
lat = 32.2

[layouts.ultrasonic]
form = "cayenne"
values = [
    {{ quantity = "level_m", channel = 1, type = "distance", scale = -1.0 }},
    {{ quantity = "battery_v", channel = 2, type = "analog_input" }},
]

[[devices]]
id = "{EUI}"
station = "g"
layout = "ultrasonic"
offset_m = 6.2

[[devices]]
id = "1A2B3C"
station = "g"
layout = "ultrasonic"

[[devices]]
id = "FFFFFF"
station = "other"
layout = "ultrasonic"
"""
ROOT = Path(__file__).parents[2]
NOTHING = {"accepted": 0, "duplicate": 0, "rejected": []}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    settings: Settings = config.parse(CONFIGURATION)
    async with running_node(tmp_path_factory.mktemp("uplinks") / "data", settings) as running:
        yield running


async def post(
    node: RunningNode,
    path: str,
    body: object,
    key: str | Role | None = Role.SENSOR,
    kind: str = "application/json",
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = node.headers(key, **{"Content-Type": kind})
    async with node.http.post(f"{node.url}{path}", data=data, headers=headers) as response:
        return response.status, await response.json(content_type=None)


async def test_an_uplink_is_a_reading_once_whoever_brings_it(node: RunningNode) -> None:
    now = datetime.now(UTC)
    first, later = now.isoformat(), (now + timedelta(seconds=48)).isoformat()
    assert await post(node, "/v1/uplinks/tts", tts(received_at=first)) == (200, NOTHING | {"accepted": 1})
    # ChirpStack is known to send the same uplink again three quarters of a minute later.
    for _ in range(2):
        answer = await post(node, "/v1/uplinks/chirpstack?event=up", chirpstack(time=later))
        assert answer == (200, NOTHING | {"duplicate": 1})
    # Heard before, arrived after.
    early = (now - timedelta(minutes=10)).isoformat()
    assert await post(node, "/v1/uplinks/tts", tts(received_at=early, f_cnt=6)) == (
        200,
        NOTHING | {"accepted": 1},
    )
    _, kept = await node.get("/v1/stations/g/readings")
    times = [datetime.fromisoformat(one["time"]) for one in kept["readings"]]
    assert times == sorted(times)
    assert [one["level_m"] for one in kept["readings"]] == [3.34, 3.34]
    status, heard = await node.get("/v1/devices", Role.ADMIN)
    assert status == 200
    assert heard["devices"] == [
        {
            "id": EUI.lower(),
            "station": "g",
            "time": (now + timedelta(seconds=48)).isoformat(timespec="seconds"),
            "battery": {"worth": 3.55, "unit": "V", "low": False},
            "rssi": -57,
        }
    ]
    assert [one["id"] for one in heard["gateways"]] == ["0016c001f153a14c", "gtw1"]
    assert (await node.get("/v1/devices", Role.SENSOR))[0] == 403


async def test_what_says_nothing_is_named_and_not_refused(node: RunningNode) -> None:
    for body, code in (
        (sigfox(device="abc"), "unknown-device"),
        (sigfox(device="ffffff"), "unknown-device"),
        (sigfox(data=""), "no-declared-value"),
        (sigfox(data="0182"), "bad-payload"),
    ):
        status, answer = await post(node, "/v1/uplinks/sigfox", body)
        assert status == 200
        (rejected,) = answer["rejected"]
        assert (rejected["index"], rejected["code"]) == (0, code)
        assert rejected["detail"]
    assert await post(node, "/v1/uplinks/chirpstack?event=join", chirpstack()) == (200, NOTHING)


async def test_what_is_no_uplink_is_refused(node: RunningNode) -> None:
    for path, body, status, code in (
        ("/v1/uplinks/sigfox", {}, 400, "bad-uplink"),
        ("/v1/uplinks/sigfox", b"{", 400, "bad-request"),
        ("/v1/uplinks/sigfox?x=1", sigfox(), 400, "bad-request"),
        ("/v1/uplinks/lora", sigfox(), 404, "not-found"),
        ("/v1/uplinks/sigfox", b'"' + b"x" * 70_000 + b'"', 413, "too-large"),
    ):
        answer = await post(node, path, body)
        assert (answer[0], answer[1]["code"]) == (status, code)
    assert (await post(node, "/v1/uplinks/sigfox", sigfox(), None))[0] == 401
    assert (await post(node, "/v1/uplinks/sigfox", sigfox(), Role.SENDER))[0] == 403


async def test_a_table_is_answered_as_a_list_is_with_lines_for_indexes(node: RunningNode) -> None:
    table = "time,station,level_m\r\n2026-06-03T12:00:00+09:00,g,1.5\r\n2026-06-03T12:00:00+09:00,g,1.5\r\nx,g,1\r\n2026-06-03T12:10:00+09:00,other,1\r\n"
    assert await post(node, "/v1/readings", table.encode(), kind="text/csv; charset=utf-8") == (
        200,
        {
            "accepted": 1,
            "duplicate": 1,
            "rejected": [{"index": 4, "code": "bad-time"}, {"index": 5, "code": "unknown-station"}],
        },
    )
    status, answer = await post(node, "/v1/readings", b"a,b\n1,2\n", kind="text/csv")
    assert (status, answer["code"]) == (400, "bad-csv")
    assert answer["detail"].startswith("line 1: ")


async def test_a_key_of_one_station_writes_no_other_ones_readings(node: RunningNode) -> None:
    key = await node.key(Role.SENSOR, stations=["g-*", "h"])
    table = b"station,time,level_m\ng,2026-06-03T13:00:00+09:00,1\n"
    _, answer = await post(node, "/v1/readings", table, key, "text/csv")
    assert answer == NOTHING | {"rejected": [{"index": 2, "code": "station-not-yours"}]}
    now = datetime.now(UTC).isoformat()
    heard = node.node.hub.heard.devices(ORG)
    _, answer = await post(node, "/v1/uplinks/tts", tts(received_at=now, f_cnt=99), key)
    assert [one["code"] for one in answer["rejected"]] == ["station-not-yours"]
    assert node.node.hub.heard.devices(ORG) == heard
    key = await node.key(Role.SENSOR, stations=["h", "[g]"])
    _, answer = await post(node, "/v1/uplinks/tts", tts(received_at=now, f_cnt=99), key)
    assert answer == NOTHING | {"accepted": 1}
    _, answer = await post(node, "/v1/readings", table, key, "text/csv")
    assert answer == NOTHING | {"accepted": 1}


async def test_a_late_uplink_belongs_where_its_device_stood_then(node: RunningNode) -> None:
    now = datetime.now(UTC)
    since = {"first": now - timedelta(days=2), "second": now - timedelta(hours=1)}
    for name, time in since.items():
        setup = {
            "name": name,
            "lon": 130.7,
            "lat": 32.2,
            "posts": [{"id": "c0ffee", "layout": "ultrasonic", "since": time.isoformat(), "offset_m": 5.0}],
        }
        url = f"{node.url}/v1/stations/{name}"
        async with node.http.put(url, json=setup, headers=node.headers(Role.ADMIN)) as response:
            assert response.status == 201, await response.text()
    for number, time in enumerate((now, now - timedelta(hours=2))):
        body = sigfox(device="C0FFEE", time=int(time.timestamp()), seqNumber=number)
        assert await post(node, "/v1/uplinks/sigfox", body) == (200, NOTHING | {"accepted": 1})
    for name, time in (("second", now), ("first", now - timedelta(hours=2))):
        _, kept = await node.get(f"/v1/stations/{name}/readings")
        (reading,) = kept["readings"]
        assert datetime.fromisoformat(reading["time"]) == time.replace(microsecond=0)
        assert reading["level_m"] == 2.14


async def test_the_examples_of_the_page_work(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "sensors.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"```csv\n(.*?)```", page, re.DOTALL)
    declared = "".join(re.findall(r"```toml\n(\[layouts.*?)```", page, re.DOTALL))
    stations = CONFIGURATION.split("[layouts", maxsplit=1)[0].replace('"g"', '"hitoyoshi"')
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    calls = [
        call for block in blocks for call in re.findall(r"(/v1/[a-z/]+) .*-d '(.*)'\n", block, re.DOTALL)
    ]
    async with running_node(tmp_path / "data", config.parse(stations + declared)) as node:
        for path, body in calls:
            status, answer = await post(node, path, body.encode())
            assert (status, answer["rejected"]) == (200, []), path
            assert answer["accepted"]
        status, answer = await post(node, "/v1/readings", table.encode(), kind="text/csv")
        assert (status, answer) == (200, NOTHING | {"accepted": 2})
        _, kept = await node.get("/v1/stations/hitoyoshi/readings")
    assert [one["level_m"] for one in kept["readings"] if "level_m" in one] == [2.84, 2.844, 2.91]
    assert {path for path, _ in calls} == {"/v1/readings", "/v1/uplinks/sigfox"}
