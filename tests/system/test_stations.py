"""Stations are set up over HTTP by their own organisation, inside its places, and judged from that moment on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from lalert.config import Layout, LayoutValue, Settings, Station, Thresholds
from lalert.model import Role
from lalert.testing.node import RunningNode, running_node
from lalert.uplinks import Form

pytestmark = pytest.mark.asyncio(loop_scope="module")

THREE = {"caution_m": 3.0, "evacuation_m": 3.5, "danger_m": 4.0}
FORM: dict[str, Any] = {"name": "新しい橋", "lon": 130.762, "lat": 32.214, "thresholds": THREE}
FIXED = Station(
    "fixed", "人吉", "hitoyoshi", "gauge@hitoyoshi.example", ("432032",), 130.7, 32.2, thresholds=Thresholds()
)
LAYOUT = Layout(form=Form.FIELDS, values=(LayoutValue(quantity="level_m", field="level"),))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    settings = Settings(stations=(FIXED,), layouts={"decoded": LAYOUT})
    async with running_node(tmp_path_factory.mktemp("stations") / "data", settings) as running:
        await running.org("minamata", ["432059"], ["bousai@minamata.example"])
        yield running


async def call(
    node: RunningNode, method: str, name: str, body: object = None, key: str | Role = Role.ADMIN
) -> tuple[int, Any]:
    async with node.http.request(
        method, f"{node.url}/v1/stations/{name}", json=body, headers=node.headers(key)
    ) as response:
        return response.status, await response.json(content_type=None) if response.status != 204 else None


async def measure(node: RunningNode, station: str, *levels: float) -> dict[str, Any]:
    start = datetime.now(UTC) - timedelta(minutes=len(levels))
    body = [
        {"station": station, "time": (start + timedelta(minutes=n)).isoformat(), "level_m": level}
        for n, level in enumerate(levels)
    ]
    async with node.http.post(
        f"{node.url}/v1/readings", json=body, headers=node.headers(Role.SENSOR)
    ) as response:
        answer: dict[str, Any] = await response.json()
    return answer


async def test_a_form_and_three_numbers_make_a_gauge_that_warns(node: RunningNode) -> None:
    status, made = await call(node, "PUT", "bridge", FORM)
    assert status == 201
    assert (made["sender"], made["codes"]) == ("sensor@hitoyoshi.example", ["432032"])
    assert (await measure(node, "bridge", 2.9, 3.1))["accepted"] == 2
    async with asyncio.timeout(5):
        while (shown := (await node.get("/v1/stations/bridge"))[1])["warning"] is None:
            await asyncio.sleep(0.02)
    assert shown["stage"] == "caution"
    assert (await call(node, "PUT", "bridge", {**FORM, "name": "橋"}))[0] == 200
    assert (await node.get("/v1/stations/bridge"))[1]["name"] == "橋"


async def test_a_station_is_changed_in_part_and_given_up(node: RunningNode) -> None:
    await call(node, "PUT", "change", FORM)
    work = {"since": "2026-06-03T10:00:00+09:00", "until": "2026-06-03T12:00:00+09:00", "reason": "点検"}
    status, changed = await call(
        node, "PATCH", "change", {"maintenance": work, "thresholds": {"evacuation_m": None}}
    )
    assert status == 200
    assert changed["thresholds"] == {"caution_m": 3.0, "danger_m": 4.0}
    assert (await node.get("/v1/stations/change"))[1]["maintenance"]["reason"] == "点検"
    assert (await call(node, "GET", "change/setup"))[1] == changed
    assert "maintenance" not in (await call(node, "PATCH", "change", {"maintenance": None}))[1]
    assert (await call(node, "PATCH", "change", {"id": "other"}))[0] == 400
    assert (await call(node, "DELETE", "change"))[0] == 204
    assert (await call(node, "DELETE", "change"))[0] == 404
    assert (await node.get("/v1/stations/change"))[0] == 404
    assert (await measure(node, "change", 1.0))["rejected"] == [{"index": 0, "code": "unknown-station"}]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({**FORM, "nmae": "x"}, 400, "nmae: unknown key, did you mean name?"),
        ({"name": "橋"}, 400, "lon: is missing; lat: is missing"),
        ({**FORM, "thresholds": {"caution_m": 4, "danger_m": 3}}, 400, "thresholds: must rise"),
        ({**FORM, "lon": 130.4057, "lat": 32.2106, "codes": ["432032"]}, 403, "lies outside"),
        ({**FORM, "codes": ["432059"]}, 403, "432059 is none of hitoyoshi's places"),
        ({**FORM, "sender": "a@elsewhere.example"}, 403, "is not one of hitoyoshi's senders"),
        ({**FORM, "org": "minamata"}, 400, "org: 'minamata' is not hitoyoshi"),
        ({**FORM, "source": "nowhere"}, 400, "source: there is no station"),
        ({**FORM, "id": "other"}, 400, "id: must be that of the address"),
        ([1], 400, "body:"),
        (
            {**FORM, "posts": [{"id": "AA", "layout": "other", "since": "2026-06-01T00:00:00Z"}]},
            400,
            "posts: there is no [layouts.other]",
        ),
        (
            {**FORM, "maintenance": {"since": "2026-06-01T00:00:00Z", "until": "2027-06-01T00:00:00Z"}},
            400,
            "maintenance.until",
        ),
    ],
)
async def test_what_does_not_hold_is_said(node: RunningNode, body: object, status: int, said: str) -> None:
    answered, problem = await call(node, "PUT", "wrong", body)
    assert (answered, said in problem["detail"]) == (status, True), problem
    assert (await node.get("/v1/stations/wrong"))[0] == 404


async def test_a_station_is_its_organisations_alone(node: RunningNode) -> None:
    stranger = await node.key(Role.ADMIN, "minamata")
    await call(node, "PUT", "own", FORM)
    there = {**FORM, "lon": 130.4057, "lat": 32.2106}
    assert (await call(node, "PUT", "own", there, stranger))[0] == 409
    assert (await call(node, "PATCH", "own", {"name": "x"}, stranger))[0] == 404
    assert (await call(node, "GET", "own/setup", key=stranger))[0] == 404
    assert (await call(node, "DELETE", "own", key=stranger))[0] == 409
    assert (await call(node, "PUT", "own", FORM, Role.SENSOR))[0] == 403
    assert (await node.get("/v1/stations/own/setup"))[0] == 401
    for method in ("PUT", "PATCH", "DELETE"):
        status, problem = await call(node, method, "fixed", FORM)
        assert (status, "configuration" in problem["detail"]) == (409, True)


async def test_a_neighbour_judges_by_what_is_shared_and_by_nothing_else(node: RunningNode) -> None:
    neighbour = await node.key(Role.ADMIN, "minamata")
    await call(node, "PUT", "upstream", FORM)
    theirs = {**FORM, "source": "upstream", "codes": ["432059"], "thresholds": {"caution_m": 1.0}}
    assert (await call(node, "PUT", "theirs", theirs, neighbour))[0] == 400
    await call(node, "PATCH", "upstream", {"shared": ["minamata"]})
    assert (await call(node, "PUT", "theirs", theirs, neighbour))[0] == 201
    await measure(node, "upstream", 1.5)
    async with asyncio.timeout(5):
        while (shown := (await node.get("/v1/stations/theirs"))[1])["warning"] is None:
            await asyncio.sleep(0.02)
    alerts = (await node.get("/v1/alerts?area=432059"))[1]["alerts"]
    assert {each["sender"] for each in alerts} == {"bousai@minamata.example"}
    assert (await node.get("/v1/stations/upstream"))[1]["stage"] == "calm"
    assert shown["source"] == "upstream"


async def test_a_device_that_is_posted_at_a_station_is_heard_there(node: RunningNode) -> None:
    post = {"id": "00000000000000AA", "layout": "decoded", "since": "2026-06-01T00:00:00+09:00"}
    await call(node, "PUT", "posted", {**FORM, "posts": [post]})
    uplink = {
        "end_device_ids": {"device_id": "a", "dev_eui": "00000000000000AA"},
        "received_at": datetime.now(UTC).isoformat(),
        "uplink_message": {"f_port": 1, "f_cnt": 1, "decoded_payload": {"level": 1.25}},
    }
    url = f"{node.url}/v1/uplinks/tts"
    async with node.http.post(url, json=uplink, headers=node.headers(Role.SENSOR)) as response:
        assert (response.status, (await response.json())["accepted"]) == (200, 1)
    assert (await node.get("/v1/stations/posted/readings"))[1]["readings"][0]["level_m"] == 1.25


async def test_what_somebody_reads_off_the_staff_counts_and_is_marked(node: RunningNode) -> None:
    datum = [{"since": "2026-06-01T00:00:00+09:00", "offset_m": 1.0}]
    await call(node, "PUT", "staff", {**FORM, "datum": datum})
    when = datetime.now(UTC).replace(microsecond=0)
    device = {"station": "staff", "time": when.isoformat(), "level_m": 1.0}
    seen = {**device, "level_m": 3.2, "manual": True, "by": "消防団第3分団"}
    wrong = [{**device, "manual": True}, {**device, "by": "x"}, {**seen, "manual": False}]
    url = f"{node.url}/v1/readings"
    async with node.http.post(
        url, json=[device, seen, seen, *wrong], headers=node.headers(Role.SENSOR)
    ) as response:
        answer = await response.json()
    assert (answer["accepted"], answer["duplicate"]) == (2, 1)
    assert [each["code"] for each in answer["rejected"]] == ["bad-manual"] * 3
    readings = (await node.get("/v1/stations/staff/readings", Role.ADMIN))[1]["readings"]
    assert [(each["level_m"], each.get("by")) for each in readings] == [(2.0, None), (3.2, "消防団第3分団")]
    shown = (await node.get("/v1/stations/staff/readings", Role.SENSOR))[1]["readings"][1]
    assert (shown["manual"], "by" in shown) == (True, False)


async def test_who_set_up_what_stands_in_the_audit_chain(node: RunningNode) -> None:
    await call(node, "PUT", "noted", FORM)
    await call(node, "DELETE", "noted")
    lines = (await node.get("/v1/audit?limit=2", Role.ADMIN))[1]["lines"]
    assert [(each["action"], each["subject"]) for each in lines] == [
        ("station.saved", "noted"),
        ("station.forgotten", "noted"),
    ]


async def test_the_list_of_stations_comes_in_pages(node: RunningNode) -> None:
    await call(node, "PUT", "page-1", FORM)
    await call(node, "PUT", "page-2", FORM)
    first = (await node.get("/v1/stations?org=hitoyoshi&area=43203&limit=1&after=page"))[1]
    assert ([each["id"] for each in first["stations"]], first["next"]) == (["page-1"], "page-1")
    for bad in ("limit=0", "limit=1001", "area=99", "colour=red"):
        assert (await node.get(f"/v1/stations?{bad}"))[0] == 400
