"""What hostile callers throw at a running node: odd bytes, keys that die while a body comes in, documents that would run in a browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from lalert.config import Settings, Station, Thresholds
from lalert.model import Role
from lalert.testing import make_cap
from lalert.testing.node import RunningNode, running_node
from lalert.web.request import ANYBODYS_BYTES, Room, bounded

SENDER = "bousai@hitoyoshi.example"
GAUGE = Station(
    id="hitoyoshi",
    name="人吉",
    org="hitoyoshi",
    sender="gauge@hitoyoshi.example",
    codes=("432032",),
    lon=130.762,
    lat=32.214,
    thresholds=Thresholds(caution_m=3.0),
)
WEBSOCKET = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    async with running_node(
        tmp_path_factory.mktemp("attacks") / "data", Settings(stations=(GAUGE,))
    ) as running:
        yield running


async def answer(node: RunningNode, head: bytes, *body: bytes, pause: asyncio.Event | None = None) -> bytes:
    """Send raw bytes, the body's pieces apart, the last only after `pause`; return all that comes back."""
    host, _, port = node.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(10):
            writer.write(head + b"Host: hub\r\n\r\n")
            for piece in body[:-1]:
                writer.write(piece)
            if pause is not None:
                await pause.wait()
            if body:
                writer.write(body[-1])
            received = await reader.readuntil(b"\r\n\r\n")
            length = int(received.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return received + await reader.readexactly(length)
    finally:
        writer.close()


def bearer(secret: str) -> bytes:
    return f"Authorization: Bearer {secret}\r\n".encode()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /v1/alerts HTTP/1.1\r\nContent-Length: 1\r\nAuthorization: Bearer \xff\xfe\r\n", 401),
        (b"GET /v1/ws HTTP/1.1\r\nContent-Length: 1\r\nOrigin: http://[\r\n" + WEBSOCKET, 403),
        (b"POST /v1/alerts HTTP/1.1\r\nContent-Length: 1\r\nContent-Type: \xff/x\r\nKEY", 415),
        (
            b"POST /v1/alerts HTTP/1.1\r\nContent-Length: 1\r\nContent-Type: text/xml\r\nContent-Encoding: \xff\r\nKEY",
            415,
        ),
    ],
)
async def test_a_header_that_is_no_text_is_answered_as_a_problem(
    node: RunningNode, head: bytes, status: int
) -> None:
    received = await answer(node, head.replace(b"KEY", bearer(node.keys[Role.SENDER])), b"x")
    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert b"application/problem+json" in received


@pytest.mark.parametrize(
    ("address", "role", "media", "body"),
    [
        ("/v1/alerts", Role.SENDER, "application/cap+xml", make_cap(sender=SENDER)),
        (
            "/v1/readings",
            Role.SENSOR,
            "application/json",
            b'{"station": "hitoyoshi", "time": "2026-06-03T10:20:00+09:00", "level_m": 1}',
        ),
        (
            "/v1/subscriptions",
            Role.RECEIVER,
            "application/json",
            b'{"channel": "webhook", "target": "http://127.0.0.1:9/"}',
        ),
    ],
)
async def test_a_key_revoked_while_a_body_comes_in_is_refused(
    node: RunningNode, address: str, role: Role, media: str, body: bytes
) -> None:
    secret, rest = await node.key(role), asyncio.Event()
    head = f"POST {address} HTTP/1.1\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n".encode()
    newest = node.node.store.newest
    call = asyncio.create_task(answer(node, head + bearer(secret), body[:10], body[10:], pause=rest))
    await node.get("/livez-is-no-address")  # a round trip: the slow call has been let in by now
    await node.node.administration.revoke_key(secret)
    await node.node.keyring.refresh()
    rest.set()
    assert (await call).startswith(b"HTTP/1.1 401 ")
    assert node.node.store.newest == newest


async def test_a_document_of_a_stranger_cannot_run_as_the_hubs_own_page(node: RunningNode) -> None:
    script = (
        b'<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:Object>'
        b'<script xmlns="http://www.w3.org/1999/xhtml">alert(1)</script></ds:Object></ds:Signature></alert>'
    )
    status, receipt = await node.post(make_cap(sender=SENDER).replace(b"</alert>", script))
    assert status == 201
    for media in ("text/xml", "application/xml", "application/cap+xml"):
        for address in (receipt["url"], f"/v1/alerts/{receipt['position']}"):
            async with node.http.get(node.url + address, headers={"Accept": media}) as response:
                assert b"<script" in await response.read()
                assert "sandbox" in response.headers["Content-Security-Policy"].split("; ")
                assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_sensor_key_reads_no_more_than_everybody(node: RunningNode) -> None:
    status, receipt = await node.post(make_cap(sender=SENDER, scope="Restricted", restriction="staff"))
    assert status == 201
    for address in (receipt["url"], f"/v1/alerts/{receipt['position']}"):
        json = {"Accept": "application/json"}
        assert (await node.get(address, node.keys[Role.RECEIVER], **json))[0] == 200
        assert (await node.get(address, node.keys[Role.SENSOR], **json))[0] == 404
    for key, seen in ((Role.RECEIVER, True), (Role.SENSOR, False), (None, False)):
        _, listed = await node.get("/v1/alerts", key)
        assert (receipt["position"] in [alert["position"] for alert in listed["alerts"]]) is seen


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-12:00"])
async def test_a_time_outside_the_calendar_is_rejected_and_the_station_stays_readable(
    node: RunningNode, time: str
) -> None:
    async with node.http.post(
        f"{node.url}/v1/readings",
        json={"station": "hitoyoshi", "time": time, "level_m": 1},
        headers=node.headers(Role.SENSOR),
    ) as response:
        assert response.status == 200
        assert (await response.json())["rejected"] == [{"index": 0, "code": "bad-time"}]
    assert (await node.get("/v1/stations/hitoyoshi/readings"))[0] == 200


async def test_who_has_no_key_takes_no_room_that_alerts_need_however_slowly_it_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A form is read before its token can be looked at, and anybody can invent a key for each call."""
    monkeypatch.setattr(Room.__init__, "__defaults__", (2 * ANYBODYS_BYTES, 4))
    async with running_node(tmp_path / "data") as node:
        host, _, port = node.url.removeprefix("http://").partition(":")
        writers = []
        try:
            for number in range(5):
                _, writer = await asyncio.open_connection(host, int(port))
                writers.append(writer)
                writer.write(
                    f"POST /setup HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer x{number}\r\n".encode()
                    + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\na=b"
                )
            await node.get("/v1/alerts")  # a round trip: they have been let in by now
            assert (await node.post(make_cap(sender=SENDER)))[0] == 201
            status, _ = await node.post(b"<alert/>", "no-key")
            assert status == 503
        finally:
            for writer in writers:
                writer.close()


async def test_what_adapters_read_by_themselves_counts_before_it_comes() -> None:
    anybody = Room(total=4 * ANYBODYS_BYTES, bodies=100)
    used: list[int] = []

    async def handler(_request: web.Request) -> web.Response:
        used.append(anybody.used)
        return web.Response()

    admit = bounded(Room(), anybody, lambda _: None)
    for length, counted in ((b"300", 300), (b"9000000", ANYBODYS_BYTES), (None, ANYBODYS_BYTES)):
        headers = {"Content-Length": length.decode()} if length else {"Transfer-Encoding": "chunked"}
        payload = StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**16)
        request = make_mocked_request("POST", "/line/line", headers=headers, payload=payload)
        await admit(request, handler)
        assert used.pop() == counted
    assert (anybody.used, anybody.number) == (0, 0)
