"""Readings fetched from a real HTTP server: new ones once, failures as trouble, and nothing remembered that was not stored."""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from lalert import config
from lalert.clock import SystemClock
from lalert.dispatch import guarded_session
from lalert.errors import LalertError, PermanentFailure, Unavailable
from lalert.model import Reading
from lalert.plugin import Observed
from lalert.testing.channel import until
from lalert.testing.hub import FakeHub
from lalert_adapters.gauge_pull import GaugePull, GaugePullConfig, readings_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
PAGE = (Path(__file__).parents[2] / "docs" / "adapters" / "gauge_pull.md").read_text(encoding="utf-8")
AT = datetime(2026, 6, 3, 1, 20, tzinfo=UTC)


class Steps(SystemClock):
    """Sleeps until it is told to go on."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.go: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.go.get()


@dataclass
class Hub(FakeHub):
    clock: Any = field(default_factory=Steps)
    taken: list[Reading] = field(default_factory=list)
    failing: bool = False

    async def observe(self, readings: Sequence[Reading]) -> Observed:
        if self.failing:
            raise Unavailable("the disk hangs")
        self.taken += readings
        return Observed(len(readings), 0)


class Far:
    """The far end: answers what it is set to, and remembers how it was asked."""

    def __init__(self) -> None:
        self.body: bytes = b"[]"
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.headers))
        tag = self.headers.get("ETag")
        if tag is not None and request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=self.headers)
        return web.Response(body=self.body, status=self.status, headers=self.headers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[tuple[TestServer, list[Far]]]:
    far: list[Far] = []

    async def answer(request: web.Request) -> web.Response:
        return await far[-1].answer(request)

    app = web.Application()
    app.router.add_get("/gauges.json", answer)
    running = TestServer(app)
    async with running:
        yield running, far


@asynccontextmanager
async def pulling(
    server: tuple[TestServer, list[Far]], far: Far, **more: Any
) -> AsyncIterator[tuple[GaugePull, Hub]]:
    server[1].append(far)
    given = {"url": str(server[0].make_url("/gauges.json")), "station": "id", "time": "t", "level": "m"}
    settings = msgspec.convert(given | more, GaugePullConfig)
    async with guarded_session([ip_network("127.0.0.0/8")]) as session:
        hub = Hub(session=session)
        async with GaugePull("pull", settings, hub) as source:
            running = asyncio.create_task(source.run())
            await until(lambda: hub.clock.slept)
            try:
                yield source, hub
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)


async def again(hub: Hub) -> None:
    """Let it ask once more."""
    number = len(hub.clock.slept)
    hub.clock.go.put_nowait(None)
    await until(lambda: len(hub.clock.slept) > number)


def entries(*levels: float, at: datetime = AT) -> bytes:
    return json.dumps(
        [{"id": f"g{number}", "t": at.isoformat(), "m": level} for number, level in enumerate(levels)]
    ).encode()


async def test_what_is_new_is_handed_in_once(server: tuple[TestServer, list[Far]]) -> None:
    far = Far()
    far.body = entries(1.5, 2.5)
    async with pulling(server, far, every_s=30) as (source, hub):
        assert source.health().ok
        assert hub.clock.slept == [30]
        assert hub.taken == [Reading("g0", AT, level_m=1.5), Reading("g1", AT, level_m=2.5)]
        await again(hub)
        assert len(hub.taken) == 2
        later = AT + timedelta(minutes=10)
        far.body = entries(1.7, at=later)
        await again(hub)
        assert hub.taken[2:] == [Reading("g0", later, level_m=1.7)]


async def test_an_unchanged_document_is_not_sent_again_but_one_that_was_not_stored_is(
    server: tuple[TestServer, list[Far]],
) -> None:
    far = Far()
    far.body, far.headers = entries(1.5), {"ETag": '"1"', "Last-Modified": "Wed, 03 Jun 2026 01:20:00 GMT"}
    async with pulling(server, far) as (source, hub):
        await again(hub)
        assert "If-None-Match" not in far.asked[0]
        assert far.asked[1]["If-None-Match"] == '"1"'
        assert far.asked[1]["If-Modified-Since"] == "Wed, 03 Jun 2026 01:20:00 GMT"
        assert source.health().ok
        # The next document arrives, and cannot be stored.
        far.body, far.headers = entries(1.8, at=AT + timedelta(minutes=10)), {"ETag": '"2"'}
        hub.failing = True
        await again(hub)
        assert source.health().detail == "the disk hangs"
        hub.failing = False
        await again(hub)
        assert far.asked[3]["If-None-Match"] == '"1"'
        assert [one.level_m for one in hub.taken] == [1.5, 1.8]
        await again(hub)
        assert far.asked[4]["If-None-Match"] == '"2"'


async def test_trouble_is_shown_and_passes(server: tuple[TestServer, list[Far]]) -> None:
    far = Far()
    far.status, far.headers = 503, {"Retry-After": "120"}
    async with pulling(server, far, max_bytes=1_024, stations={"g0": "ours"}) as (source, hub):
        assert source.health().detail == "the answer was 503"
        assert hub.clock.slept == [120]
        far.status, far.headers = 200, {}
        for body, said in (
            (b"[" + b" " * 2_000 + b"]", "larger than max_bytes"),
            (b"{", "no JSON"),
            (b"{}", "no list of entries"),
            (entries(1)[:-1].replace(b"g0", b"gx") + b"]", "none of the 1 stations"),
        ):
            far.body = body
            await again(hub)
            assert said in source.health().detail
        far.status = 302
        far.headers = {"Location": "http://127.0.0.1:1/"}
        await again(hub)
        assert not source.health().ok
        far.status, far.headers, far.body = 200, {}, entries(1.5)
        await again(hub)
        assert source.health().ok
        assert hub.taken == [Reading("ours", AT, level_m=1.5)]


def parsed(raw: object, **more: Any) -> tuple[list[Reading], dict[str, int]]:
    given = {"url": "https://x.example/", "station": "id", "time": "t", "level": "m"} | more
    found, skipped = readings_of(msgspec.convert(given, GaugePullConfig), json.dumps(raw).encode())
    return found, dict(skipped)


async def test_the_example_of_the_page_reads() -> None:
    block = tomllib.loads(PAGE.split("```toml\n")[1].split("```")[0])["adapters"]["prefecture"]
    mistakes: list[str] = []
    own = {name: value for name, value in block.items() if name not in ("type", "org")}
    settings = config.read(GaugePullConfig, own, "", mistakes)
    assert settings is not None, mistakes
    found, skipped = readings_of(settings, PAGE.split("```json\n")[1].split("```")[0].encode())
    assert found == [Reading("hitoyoshi", AT, level_m=2.84)]
    assert dict(skipped) == {"no-value": 1}
    named = {field.encode_name for field in msgspec.structs.fields(GaugePullConfig)}
    assert {name for name in named if f"`{name}" not in PAGE} == set()


async def test_an_object_of_entries_and_rain_read_too() -> None:
    body = {"a": {"t": AT.timestamp(), "r": 2.5, "s": 10}, "b": {"t": "x", "r": 1}, "": {"t": 0, "r": 1}}
    found, skipped = parsed(body, station="$key", level=None, rain="r", period_s=600, rain_total="s")
    assert found == [Reading("a", AT, rain_mm=2.5, period_s=600), Reading("a", AT, rain_total_mm=10)]
    assert skipped == {"bad-time": 1, "bad-station": 1}


@pytest.mark.parametrize(
    "time", ["2026-06-03T10:20:00", None, True, "x", 1e300, "2026-06-03T10:20:00+09:00" * 9]
)
async def test_a_time_that_is_none_is_never_guessed(time: object) -> None:
    assert parsed([{"id": "a", "t": time, "m": 1}]) == ([], {"bad-time": 1})


@pytest.mark.parametrize("level", ["-", "", "1e3", "nan", None, True, [], 1e7, 10**400])
async def test_a_level_that_is_none_is_never_guessed(level: object) -> None:
    assert parsed([{"id": "a", "t": AT.isoformat(), "m": level}]) == ([], {"no-value": 1})


async def test_a_configuration_that_cannot_be_is_a_mistake() -> None:
    for more, said in (
        ({"level": None}, "level: name it, or rain, or rain_total"),
        ({"rain": "r"}, "period_s: goes with rain, and with nothing else"),
        ({"url": "https://user:secret@x.example/"}, "url"),
        ({"utc_offset": "JST"}, "utc_offset"),
    ):
        mistakes: list[str] = []
        given = {"url": "https://x.example/", "station": "id", "time": "t", "level": "m"} | more
        assert config.read(GaugePullConfig, {k: v for k, v in given.items() if v}, "", mistakes) is None
        assert said in mistakes[0]


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        2**70,
        1e300,
        "",
        "1",
        "é",
        [],
        {},
        {"id": "a", "t": 0, "m": 1},
        "2026-06-03T10:20:00Z",
    ]
)


@given(st.lists(ODD | st.fixed_dictionaries({"id": ODD, "t": ODD, "m": ODD}), max_size=3), st.booleans())
@settings(max_examples=60, deadline=None)
async def test_no_document_raises_anything_but_its_own_error(rows: list[Any], keyed: bool) -> None:
    with suppress(LalertError):
        if keyed:
            parsed(dict(enumerate(rows)), station="$key")
        else:
            parsed(rows)
    with pytest.raises(PermanentFailure):
        parsed(rows, list="data")
