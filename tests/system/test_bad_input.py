"""What the door answers to what is broken or hostile; nothing of it is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from lalert.model import Role
from lalert.testing import make_cap
from lalert.testing.node import RunningNode, running_node

SENDER = "bousai@hitoyoshi.example"
BOMB = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "xx">]><alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">&x;</alert>'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path_factory.mktemp("door") / "data") as running:
        yield running


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(autouse=True)
async def _nothing_is_kept(node: RunningNode) -> AsyncIterator[None]:
    before = node.node.store.newest
    yield
    assert node.node.store.newest == before


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"", 400, "not-xml"),
        (b"{}", 400, "not-xml"),
        (b"<alert", 400, "not-xml"),
        (BOMB, 400, "not-xml"),
        (b"<feed/>", 422, "invalid-alert"),
        (b"<!--" + b"x" * 1_100_000 + b"-->", 413, "too-large"),
    ],
)
async def test_what_is_no_alert_is_refused(node: RunningNode, raw: bytes, status: int, code: str) -> None:
    answer = await node.post(raw)
    assert (answer[0], answer[1]["code"]) == (status, code)
    if status == 413:
        return
    # What is not even read names its rule too: the sender's software needs to know only one form of answer.
    first = answer[1]["problems"][0]
    assert (first["severity"], first["doc"]) == ("error", f"/rules#{first['rule']}")
    assert first["help_ja"]
    assert answer[1].get("line") in (None, first["line"])


async def test_every_problem_of_an_alert_is_listed_with_rule_path_and_line(node: RunningNode) -> None:
    raw = make_cap(sender=SENDER)
    broken = raw.replace(b"<status>Actual</status>", b"<status>actual</status>").replace(
        b"<urgency>", b"<urgency>very"
    )
    status, body = await node.post(broken)
    assert status == 422
    paths = {problem["path"]: problem for problem in body["problems"] if problem["severity"] == "error"}
    assert {"/alert/status", "/alert/info[1]/urgency"} <= set(paths)
    for problem in paths.values():
        assert problem["rule"].startswith("CAP-")
        assert problem["line"] >= 1
        assert problem["message"]
        assert problem["message_ja"]


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/octet-stream"])
async def test_another_content_type_is_415(node: RunningNode, content_type: str) -> None:
    status, body = await node.post(make_cap(sender=SENDER), content_type=content_type)
    assert (status, body["code"]) == (415, "unsupported-type")
    assert "application/cap+xml" in body["detail"]


async def test_a_compressed_body_is_415(node: RunningNode) -> None:
    headers = node.headers(Role.SENDER, **{"Content-Type": "application/cap+xml", "Content-Encoding": "gzip"})
    async with node.http.post(
        f"{node.url}/v1/alerts", data=make_cap(sender=SENDER), headers=headers
    ) as response:
        assert response.status in (400, 415)


@pytest.mark.parametrize("key", [None, "lk_wrong"])
async def test_without_a_good_key_it_is_401_and_says_how(node: RunningNode, key: str | None) -> None:
    headers = node.headers(key, **{"Content-Type": "application/cap+xml"})
    async with node.http.post(
        f"{node.url}/v1/alerts", data=make_cap(sender=SENDER), headers=headers
    ) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert response.content_type == "application/problem+json"
        body = await response.json(content_type=None)
    assert set(body) >= {"type", "title", "status", "detail", "code"}


@pytest.mark.parametrize("role", [Role.RECEIVER, Role.SENSOR, Role.ADMIN])
async def test_a_key_of_another_role_is_403(node: RunningNode, role: Role) -> None:
    status, body = await node.post(make_cap(sender=SENDER), role)
    assert (status, body["code"]) == (403, "wrong-role")


async def test_a_foreign_sender_area_or_mode_is_403(node: RunningNode) -> None:
    assert (await node.post(make_cap(sender="x@tokyo.example")))[1]["code"] == "sender-not-yours"
    foreign = make_cap(sender=SENDER, codes=["131016"], polygon=None)
    assert (await node.post(foreign))[1]["code"] == "area-not-yours"
    drill = await node.key(Role.SENDER, exercise_only=True)
    assert (await node.post(make_cap(sender=SENDER), drill))[1]["code"] == "exercise-only-key"


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("colour=red", "colour"),
        ("area=1", "area"),
        ("area=432033", "area"),
        ("point=91,0", "point"),
        ("point=nan,0", "point"),
        ("bbox=1,2,3", "bbox"),
        ("min_severity=Awful", "min_severity"),
        ("min_level=6", "min_level"),
        ("status=real", "status"),
        ("limit=0", "limit"),
        ("limit=2&limit=3", "limit"),
        ("active=yes", "active"),
        ("after=%00", ""),
    ],
)
async def test_a_parameter_that_does_not_read_is_400_and_named(
    node: RunningNode, query: str, name: str
) -> None:
    status, body = await node.get(f"/v1/alerts?{query}")
    assert status == 400, body
    assert name in body["detail"]


@pytest.mark.parametrize(
    ("body", "rejected"),
    [
        ({"station": "x", "time": "2026-06-03T10:00:00+09:00", "level_m": 1}, "unknown-station"),
        ({"station": "x", "time": "2026-06-03T10:00:00", "level_m": 1}, "bad-time"),
        ({"station": "x", "time": 7, "level_m": 1}, "bad-time"),
        ({"station": "x", "time": "2026-06-03T10:00:00+09:00", "level_m": True}, "bad-value"),
        ({"station": "x", "time": "2026-06-03T10:00:00+09:00", "level_m": 1e9}, "bad-value"),
        ({"station": "x", "time": "2026-06-03T10:00:00+09:00"}, "no-single-value"),
        (
            {"station": "x", "time": "2026-06-03T10:00:00+09:00", "level_m": 1, "rain_total_mm": 2},
            "no-single-value",
        ),
        ({"station": "x", "time": "2026-06-03T10:00:00+09:00", "rain_mm": 2}, "bad-period"),
        ({"station": "x", "time": "2026-06-03T10:00:00+09:00", "level_m": 2, "period_s": 5}, "bad-period"),
        ({"station": "", "time": "2026-06-03T10:00:00+09:00", "level_m": 1}, "bad-station"),
        ({"station": "x", "time": "2026-06-03T10:00:00+09:00", "level_m": 1, "seq": -1}, "bad-seq"),
        ({"station": "x", "time": "2026-06-03T10:00:00+09:00", "level_m": 1, "unit": "ft"}, "unknown-field"),
        ("reading", "not-an-object"),
    ],
)
async def test_a_bad_reading_is_rejected_by_code_beside_the_good_ones(
    node: RunningNode, body: object, rejected: str
) -> None:
    async with node.http.post(
        f"{node.url}/v1/readings", json=[body, body], headers=node.headers(Role.SENSOR)
    ) as response:
        assert response.status == 200
        answer = await response.json()
    assert answer == {
        "accepted": 0,
        "duplicate": 0,
        "rejected": [{"index": 0, "code": rejected}, {"index": 1, "code": rejected}],
    }


@pytest.mark.parametrize(
    "raw", [b"", b"[", b"[" * 100_000, b"NaN", b"\xff", b"[]", b'{"a":1}' + b" " * 300_000]
)
async def test_readings_that_are_no_json_are_refused_whole(node: RunningNode, raw: bytes) -> None:
    headers = node.headers(Role.SENSOR, **{"Content-Type": "application/json"})
    async with node.http.post(f"{node.url}/v1/readings", data=raw, headers=headers) as response:
        assert response.status in (400, 413)
        assert (await response.json(content_type=None))["code"] in ("bad-request", "too-large")


@pytest.mark.parametrize(
    "body",
    [
        {"channel": "pigeon", "target": "https://receiver.example/"},
        {"channel": "webhook", "target": "ftp://receiver.example/"},
        {"channel": "webhook", "target": "https://receiver.example/", "filter": {"colour": "red"}},
        {"channel": "webhook", "target": "https://receiver.example/", "format": "pdf"},
        {"channel": "webhook"},
        {"channel": "webhook", "target": "https://receiver.example/", "extra": 1},
    ],
)
async def test_a_subscription_that_does_not_hold_is_400(node: RunningNode, body: dict[str, object]) -> None:
    headers = node.headers(Role.RECEIVER)
    async with node.http.post(f"{node.url}/v1/subscriptions", json=body, headers=headers) as response:
        assert response.status == 400
        assert (await response.json(content_type=None))["detail"]


async def test_a_page_of_another_site_cannot_open_the_websocket(node: RunningNode) -> None:
    headers = {"Origin": "https://evil.example", "Connection": "Upgrade", "Upgrade": "websocket"}
    status, body = await node.get("/v1/ws", **headers)
    assert (status, body["code"]) == (403, "foreign-origin")


async def test_what_is_not_there_is_404_in_the_same_form(node: RunningNode) -> None:
    for path in (
        "/v1/alerts/nonsense",
        "/alerts/nonsense",
        "/v1/nothing",
        "/v1/stations/x",
        "/feeds/999999.atom",
    ):
        status, body = await node.get(path)
        assert (status, body["status"]) in ((404, 404), (400, 400)), path
        assert body["code"], path
