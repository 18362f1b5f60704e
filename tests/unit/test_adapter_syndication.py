"""Feeds as a reader sees them: what is in them, what is not, and when there is nothing new."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import feedparser
import msgspec
import pytest
from lxml import etree

from lalert import cap, resources
from lalert.errors import Unavailable
from lalert.geo import Gazetteer
from lalert.matching import facts_of
from lalert.model import Alert, Area, Circle, Entry, Filter, Origin, OriginKind
from lalert.testing import FakeClock, make_alert
from lalert.testing.clock import START
from lalert.testing.endpoint import serving
from lalert.testing.hub import FakeHub
from lalert_adapters.syndication import KINDS, MAX_SUMMARY, Syndication, SyndicationConfig

POLYGON = ((130.74, 32.19), (130.78, 32.19), (130.78, 32.23), (130.74, 32.19))


@pytest.fixture(scope="module")
def gazetteer() -> Gazetteer:
    return Gazetteer.from_csv(resources.gazetteer_csv())


@dataclass
class Log:
    """A hub's log that a test writes: one entry a second."""

    hub: FakeHub
    gazetteer: Gazetteer

    @property
    def clock(self) -> FakeClock:
        assert isinstance(self.hub.clock, FakeClock)
        return self.hub.clock

    def add(
        self, *, after: timedelta = timedelta(seconds=1), incident: Entry | None = None, **changes: Any
    ) -> Entry:
        """Let time pass, and take in an alert that `make_alert` makes."""
        self.clock.move(after.total_seconds())
        now = self.hub.clock.now()
        alert: Alert = make_alert(**{"sent": now, **changes})
        entry = Entry(
            f"e-{len(self.hub.entries) + 1}",
            now,
            now,
            alert,
            Origin(OriginKind.HTTP),
            incident.incident if incident else alert.id,
            facts_of(alert, self.gazetteer, frozenset({"432032"})),
        )
        self.hub.add(entry)
        return entry


@dataclass
class Answer:
    status: int
    body: bytes
    headers: Any

    @property
    def feed(self) -> Any:
        """The feed as a reader understands it; what is no well-formed feed fails here."""
        parsed = feedparser.parse(self.body)
        assert not parsed.bozo, parsed.get("bozo_exception")
        return parsed

    @property
    def titles(self) -> list[str]:
        return [item.title for item in self.feed.entries]


Get = Callable[..., Awaitable[Answer]]


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub(clock=FakeClock())


@pytest.fixture
def log(hub: FakeHub, gazetteer: Gazetteer) -> Log:
    return Log(hub, gazetteer)


@asynccontextmanager
async def reader(hub: FakeHub, config: SyndicationConfig | None = None) -> AsyncIterator[Get]:
    adapter = Syndication("feeds", config or SyndicationConfig(), hub)
    async with serving(adapter) as url, aiohttp.ClientSession() as http:

        async def get(path: str, **headers: str) -> Answer:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            async with http.get(url + path, headers=names) as response:
                return Answer(response.status, await response.read(), response.headers)

        await asyncio.sleep(0)
        yield get


@pytest.fixture
async def get(hub: FakeHub) -> AsyncIterator[Get]:
    async with reader(hub) as getter:
        yield getter


# What a reader sees


@pytest.mark.parametrize("format", ["atom", "rss"])
async def test_a_reader_understands_the_feed(format: str, get: Get, log: Log) -> None:
    entry = log.add(headline="人吉市に避難指示", category=["Safety", "Met"])
    answer = await get(f"/feeds/all.{format}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == f"application/{format}+xml; charset=utf-8"
    feed = answer.feed
    assert feed.feed.title == "災害情報"
    assert feed.version == {"atom": "atom10", "rss": "rss20"}[format]
    (item,) = feed.entries
    assert item.title == "人吉市に避難指示"
    assert item.id == f"urn:lalert:alert:{entry.alert.id}"
    assert item.link == f"http://hub.example/alerts/{entry.alert.id}"
    assert "球磨川の水位が上がっています。" in item.summary
    (enclosure,) = item.enclosures
    assert (enclosure.type, enclosure.href) == ("application/cap+xml", item.link)
    assert int(enclosure.length) == len(entry.alert.raw)
    assert {(tag.term, tag.scheme) for tag in item.tags} == {
        ("Safety", "urn:oasis:names:tc:emergency:cap:1.2"),
        ("Met", "urn:oasis:names:tc:emergency:cap:1.2"),
        ("Alert", "urn:lalert:msgType"),
        ("Actual", "urn:lalert:status"),
        ("evacuation", "urn:lalert:kind"),
        ("4", "urn:lalert:level"),
    }
    if format == "atom":
        assert ("alternate", "application/cap+xml") in {(link.rel, link.type) for link in item.links}
    year, month, day, hour, minute, second = item.published_parsed[:6]
    assert datetime(year, month, day, hour, minute, second, tzinfo=UTC) == entry.alert.sent


async def test_markup_in_a_headline_stays_text(get: Get, log: Log) -> None:
    log.add(headline="<script>&amp;]]>", description="<x/>")
    for format in ("atom", "rss"):
        root = etree.fromstring((await get(f"/feeds/all.{format}")).body)
        titles = [element.text for element in root.iter("{*}title")]
        assert "<script>&amp;]]>" in titles


async def test_entries_are_the_newest_first_and_bounded(hub: FakeHub, log: Log) -> None:
    for number in range(5):
        log.add(headline=f"{number}")
    async with reader(hub, SyndicationConfig(limit=3)) as get:
        for format in ("atom", "rss"):
            assert (await get(f"/feeds/all.{format}")).titles == ["4", "3", "2"]


async def test_a_feed_has_its_address_its_language_and_its_hub(get: Get, log: Log) -> None:
    log.add()
    atom, rss = (await get("/feeds/432032.atom")).feed.feed, (await get("/feeds/432032.rss")).feed.feed
    assert {(link.rel, link.href) for link in atom.links} == {
        ("self", "http://hub.example/feeds/432032.atom"),
        ("hub", "http://hub.example/websub"),
        ("alternate", "http://hub.example/"),
    }
    assert atom.id == "http://hub.example/feeds/432032.atom"
    assert rss.link == "http://hub.example/"
    assert ("hub", "http://hub.example/websub") in {(link.rel, link.href) for link in rss.links}
    assert (atom.language, rss.language) == ("ja", "ja")
    assert atom.title == "災害情報 432032"


async def test_what_is_drawn_once_is_a_polygon_or_circle_and_the_rest_a_box(get: Get, log: Log) -> None:
    circle = Circle(130.76, 32.21, 1500.4)
    log.add(headline="drawn", areas=[Area("x", polygons=(POLYGON,))])
    log.add(headline="drawn and coded", polygon=POLYGON, codes=["432032"])
    log.add(headline="circle", areas=[Area("x", circles=(circle,))])
    log.add(headline="both", areas=[Area("x", polygons=(POLYGON,), circles=(circle,))])
    log.add(headline="by code", codes=["432032"])
    log.add(headline="twice", areas=[Area("x", polygons=(POLYGON, POLYGON))])
    log.add(headline="nowhere", areas=[Area("x")])
    for format, title in (("atom", "{*}title"), ("rss", "title")):
        root = etree.fromstring((await get(f"/feeds/all.{format}")).body)
        places = {
            entry.findtext(title): {
                etree.QName(place).localname: [float(number) for number in (place.text or "").split()]
                for place in entry.iterfind("{http://www.georss.org/georss}*")
                if not etree.QName(place).localname.startswith("feature")
            }
            for entry in root.iter("{*}entry", "item")
        }
        assert places["drawn"] == {"polygon": [32.19, 130.74, 32.19, 130.78, 32.23, 130.78, 32.19, 130.74]}
        assert places["drawn and coded"] == places["drawn"]
        assert places["circle"] == {"point": [32.21, 130.76], "radius": [1501.0]}
        assert places["both"].keys() == {"box"}
        assert places["twice"] == {"box": [32.19, 130.74, 32.23, 130.78]}
        south, west, north, east = places["by code"]["box"]
        assert south < 32.21 < north
        assert west < 130.76 < east
        assert places["nowhere"] == {}


async def test_a_reader_finds_every_place_with_its_name(get: Get, log: Log) -> None:
    log.add(
        headline="polygon", areas=[Area("人吉市\u202e", polygons=(POLYGON,)), Area("川", polygons=(POLYGON,))]
    )
    log.add(headline="circle", areas=[Area("x", circles=(Circle(130.76, 32.21, 100.0),))])
    islands = (Circle(179.9, -16.0, 20_000.0), Circle(-179.9, -16.0, 20_000.0))
    log.add(headline="box", areas=[Area("フィジー", circles=islands)])
    for format in ("atom", "rss"):
        items = {item.title: item for item in (await get(f"/feeds/all.{format}")).feed.entries}
        assert items["polygon"].where.type == "Polygon"
        assert items["polygon"].where.coordinates[0][0] == (130.74, 32.19)
        assert items["polygon"].georss_featurename == "人吉市、川"
        assert (items["circle"].where.type, items["circle"].where.coordinates) == ("Point", (130.76, 32.21))
        assert items["circle"].georss_radius == "100"
        # From west to east across the 180th meridian.
        (west, south), (east, north) = items["box"].where.coordinates
        assert 179 < west < 180
        assert -180 < east < -179
        assert south < -16 < north


# Which alerts


async def test_feeds_are_per_place(get: Get, log: Log) -> None:
    log.add(headline="人吉", codes=["432032"])
    log.add(headline="水俣", codes=["432059"])
    for place, titles in {
        "all": ["水俣", "人吉"],
        "43": ["水俣", "人吉"],
        "430005": ["水俣", "人吉"],
        "432032": ["人吉"],
        "43205": ["水俣"],
        "40": [],
    }.items():
        assert (await get(f"/feeds/{place}.atom")).titles == titles, place


async def test_feeds_are_per_kind(get: Get, log: Log) -> None:
    log.add(headline="order", event="避難指示")
    log.add(headline="river", event="氾濫注意水位", codes=["432059"])
    assert (await get("/feeds/kind/evacuation.rss")).titles == ["order"]
    assert (await get("/feeds/43/river-level.atom")).titles == ["river"]
    assert (await get("/feeds/432032/river-level.atom")).titles == []
    assert (await get("/feeds/432059/river-level.atom")).feed.feed.title == "災害情報 432059 河川水位"


def test_every_kind_has_a_feed_of_its_name() -> None:
    assert {kind.name: kind.title_ja for kind in cap.KINDS.values()} == KINDS


def test_every_kind_that_is_found_by_itself_has_a_feed() -> None:
    events = ["避難指示", "避難所開設", "災害対策本部設置", "被害状況", "氾濫注意水位", "大雨", "断水"]
    found = {cap.kind(make_alert(event=event)) for event in events} | {
        cap.kind(make_alert(event="x", category="Met"))
    }
    assert found == set(KINDS)


async def test_a_senders_own_kind_has_a_feed_once_it_is_named(hub: FakeHub, log: Log) -> None:
    log.add(headline="クマ出没", parameters=[("jp:kind", "bear")])
    async with reader(hub, SyndicationConfig(kinds={"bear": "クマ出没情報"})) as get:
        answer = await get("/feeds/kind/bear.atom")
        assert (answer.feed.feed.title, answer.titles) == ("災害情報 クマ出没情報", ["クマ出没"])


async def test_drills_have_feeds_of_their_own_that_say_so(get: Get, log: Log) -> None:
    log.add(headline="本番")
    log.add(headline="避難指示", status="Exercise")
    log.add(headline="配信", status="Test")
    log.add(headline="内部", status="System")
    assert (await get("/feeds/all.atom")).titles == ["本番"]
    exercise, test = await get("/feeds/all.atom?status=exercise"), await get("/feeds/all.rss?status=test")
    assert (exercise.feed.feed.title, exercise.titles) == ("【訓練】災害情報", ["【訓練】避難指示"])
    assert exercise.feed.feed.id == "http://hub.example/feeds/all.atom?status=exercise"
    assert exercise.feed.entries[0].summary.startswith("【訓練】")
    assert (test.feed.feed.title, test.titles) == ("【試験】災害情報", ["【試験】配信"])


@pytest.mark.parametrize("scope", ["Restricted", "Private"])
async def test_only_what_is_public_is_shown(scope: str, hub: FakeHub, log: Log) -> None:
    log.add(headline="public")
    for _ in range(3):
        log.add(headline="not for you", scope=scope, restriction="x", addresses=["x"])
    async with reader(hub, SyndicationConfig(limit=1)) as get:
        answer = await get("/feeds/all.atom")
        assert answer.titles == ["public"]
        assert b"not for you" not in answer.body


async def test_what_has_expired_leaves_by_itself(get: Get, log: Log) -> None:
    log.add(headline="short", expires=START + timedelta(minutes=10))
    log.add(headline="endless", expires=None)
    assert (await get("/feeds/all.atom")).titles == ["endless", "short"]
    log.clock.move(600)
    assert (await get("/feeds/all.atom")).titles == ["endless"]


async def test_an_update_stands_in_the_place_of_what_it_updates(get: Get, log: Log) -> None:
    first = log.add(headline="避難指示")
    second = log.add(headline="拡大", msg_type="Update", references=[first], incident=first)
    assert (await get("/feeds/all.atom")).titles == ["【更新】拡大"]
    log.add(headline="解除", msg_type="Cancel", references=[second], incident=first)
    assert (await get("/feeds/all.atom")).titles == ["【取消】解除"]


async def test_what_was_updated_does_not_come_back_when_the_update_expires(get: Get, log: Log) -> None:
    first = log.add(headline="避難指示", expires=None)
    log.add(
        headline="拡大",
        msg_type="Update",
        references=[first],
        incident=first,
        expires=START + timedelta(minutes=1),
    )
    log.clock.move(60)
    assert (await get("/feeds/all.atom")).titles == []


async def test_an_acknowledgement_is_no_news(get: Get, log: Log) -> None:
    first = log.add(headline="避難指示")
    log.add(msg_type="Ack", references=[first], incident=first, infos=())
    assert (await get("/feeds/all.atom")).titles == ["避難指示"]


async def test_a_cancel_without_infos_is_in_the_feed_of_what_it_cancels(get: Get, log: Log) -> None:
    first = log.add(headline="避難指示")
    log.add(msg_type="Cancel", references=[first], incident=first, infos=())
    assert (await get("/feeds/kind/evacuation.atom")).titles == ["【取消】先に発表した情報を取り消しました"]
    assert (await get("/feeds/kind/rain.atom")).titles == []


async def test_a_cancel_of_something_forgotten_is_in_every_feed(get: Get, log: Log) -> None:
    log.add(msg_type="Cancel", references=[make_alert()], infos=())
    for kind in KINDS:
        assert len((await get(f"/feeds/kind/{kind}.atom")).titles) == 1


async def test_the_infos_are_those_of_the_configured_language(hub: FakeHub, log: Log) -> None:
    info = make_alert().infos[0]
    log.add(infos=[info, replace(info, language="en", headline="Evacuate")])
    async with reader(hub, SyndicationConfig(language="en")) as get:
        assert (await get("/feeds/all.rss")).titles == ["Evacuate"]


# Hostile senders


async def test_nothing_that_a_sender_writes_breaks_the_feed(get: Get, log: Log) -> None:
    evil = "\x00\x08\ufffe\ud800\x1b[2J]]><![CDATA[</feed>&#0;\u202e" + "あ" * 5_000
    log.add(headline="good")
    log.add(
        headline=evil,
        description=evil,
        sender_name=evil,
        event=evil,
        category=[evil],
        area_desc=evil,
        note=evil,
        parameters=[("jp:kind", evil)],
        raw=b"x",
    )
    log.add(infos=(), msg_type="Cancel", note=evil, raw=b"x")
    log.add(headline="\x00", event="\x00", sender_name="\x00", description=None, instruction=None, raw=b"x")
    for format in ("atom", "rss"):
        answer = await get(f"/feeds/all.{format}")
        assert answer.status == 200
        assert len(answer.feed.entries) == 4
        assert "good" in answer.titles
        assert len(answer.body) < 10 * (MAX_SUMMARY * 3)


# Asking again


@pytest.mark.parametrize("path", ["/feeds/all.atom", "/feeds/432032.rss", "/feeds/40.atom"])
async def test_a_reader_who_has_it_gets_304(path: str, get: Get, log: Log) -> None:
    log.add()
    first = await get(path)
    tag = first.headers["ETag"]
    for condition in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = await get(path, If_None_Match=condition)
        assert (again.status, again.body) == (304, b""), condition
        assert again.headers["ETag"] == tag
        assert again.headers["Cache-Control"] == "public, max-age=15"
    for condition in ('"other"', tag[1:-1] + "x", "", "W/"):
        assert (await get(path, If_None_Match=condition)).status == 200, condition


async def test_a_reader_who_knows_only_the_time_gets_304_too(get: Get, log: Log) -> None:
    entry = log.add()
    first = await get("/feeds/all.atom")
    stamp = first.headers["Last-Modified"]
    assert stamp == entry.stored.strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert (await get("/feeds/all.atom", If_Modified_Since=stamp)).status == 304
    log.add(after=timedelta(seconds=1))
    assert (await get("/feeds/all.atom", If_Modified_Since=stamp)).status == 200


async def test_a_tag_goes_before_a_time(get: Get, log: Log) -> None:
    log.add()
    stamp = (await get("/feeds/all.atom")).headers["Last-Modified"]
    answer = await get("/feeds/all.atom", If_None_Match='"other"', If_Modified_Since=stamp)
    assert answer.status == 200


async def test_two_alerts_within_one_second_are_not_mistaken_for_one(get: Get, log: Log) -> None:
    log.add(headline="one")
    stamp = (await get("/feeds/all.atom")).headers["Last-Modified"]
    log.add(headline="two", after=timedelta(milliseconds=500))
    answer = await get("/feeds/all.atom", If_Modified_Since=stamp)
    assert answer.status == 200
    assert answer.titles == ["two", "one"]
    assert answer.headers["Last-Modified"] == stamp


async def test_an_expiry_is_a_change_for_those_who_know_only_the_time(get: Get, log: Log) -> None:
    log.add(expires=START + timedelta(minutes=10))
    stamp = (await get("/feeds/all.atom")).headers["Last-Modified"]
    log.clock.move(600)
    answer = await get("/feeds/all.atom", If_Modified_Since=stamp)
    assert (answer.status, answer.titles) == (200, [])
    assert (await get("/feeds/all.atom", If_Modified_Since=answer.headers["Last-Modified"])).status == 304


@pytest.mark.parametrize("stamp", ["yesterday", "", "Thu, 99 Foo 2026 00:00:00 GMT", "0"])
async def test_a_time_that_does_not_read_is_passed_over(stamp: str, get: Get, log: Log) -> None:
    log.add()
    assert (await get("/feeds/all.atom", If_Modified_Since=stamp)).status == 200


@pytest.mark.parametrize("format", ["atom", "rss"])
async def test_the_same_alerts_give_the_same_bytes_after_a_restart(
    format: str, hub: FakeHub, log: Log
) -> None:
    for number in range(3):
        log.add(headline=f"{number}", expires=START + timedelta(days=1, seconds=number))
    answers = []
    for _ in range(2):
        async with reader(hub) as get:
            answers.append(await get(f"/feeds/all.{format}"))
        log.clock.move(3_600)
    first, second = answers
    assert first.body == second.body
    assert first.headers["ETag"] == second.headers["ETag"]
    assert first.headers["Last-Modified"] == second.headers["Last-Modified"]


async def test_an_empty_feed_is_a_feed(get: Get) -> None:
    for format in ("atom", "rss"):
        answer = await get(f"/feeds/all.{format}")
        assert (answer.status, answer.titles) == (200, [])
        assert "Last-Modified" not in answer.headers
        assert (await get(f"/feeds/all.{format}", If_None_Match=answer.headers["ETag"])).status == 304


async def test_pages_of_other_sites_may_read_it(get: Get) -> None:
    assert (await get("/feeds/all.atom")).headers["Access-Control-Allow-Origin"] == "*"


async def test_only_the_head_can_be_asked_for(hub: FakeHub, log: Log) -> None:
    log.add()
    async with (
        serving(Syndication("feeds", SyndicationConfig(), hub)) as url,
        aiohttp.ClientSession() as http,
        http.get(f"{url}/feeds/all.atom") as whole,
        http.head(f"{url}/feeds/all.atom") as head,
    ):
        assert (head.status, await head.read()) == (200, b"")
        for name in ("ETag", "Last-Modified", "Content-Length", "Content-Type"):
            assert head.headers[name] == whole.headers[name]


# What it costs


class CountingHub(FakeHub):
    """Counts how often the log is looked through."""

    asked = 0

    async def recent(self, filter: Filter, limit: int = 100) -> list[Entry]:
        self.asked += 1
        await asyncio.sleep(0)
        return await super().recent(filter, limit)


async def test_a_feed_is_made_once_until_something_changes(gazetteer: Gazetteer) -> None:
    hub = CountingHub(clock=FakeClock())
    log = Log(hub, gazetteer)
    log.add(headline="one")
    async with reader(hub) as get:
        await asyncio.gather(*(get("/feeds/all.atom") for _ in range(10)))
        assert hub.asked == 1
        log.add(headline="two")
        assert (await get("/feeds/all.atom")).titles == ["two", "one"]
        assert hub.asked == 2


class DeafHub(CountingHub):
    """Lets nobody follow the log."""

    @asynccontextmanager
    async def subscribe(
        self, filter: Filter, after: str | None = None
    ) -> AsyncIterator[AsyncIterator[Entry]]:
        if filter.anywhere and after is None:
            raise Unavailable("not now")
        async with super().subscribe(filter, after) as entries:
            yield entries


async def test_without_news_from_the_log_nothing_old_is_served(gazetteer: Gazetteer) -> None:
    hub = DeafHub(clock=FakeClock())
    log = Log(hub, gazetteer)
    async with reader(hub) as get:
        assert (await get("/feeds/all.atom")).titles == []
        log.add(headline="one")
        assert (await get("/feeds/all.atom")).titles == ["one"]


async def test_what_is_kept_is_bounded(hub: FakeHub, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lalert_adapters.syndication.MAX_KEPT", 3)
    log.add()
    adapter = Syndication("feeds", SyndicationConfig(), hub)
    async with serving(adapter) as url, aiohttp.ClientSession() as http:
        for place in ("all", "43", "40", "13", "01"):
            async with http.get(f"{url}/feeds/{place}.atom") as response:
                assert response.status == 200
    assert [feed.place for feed in adapter._kept] == ["40", "13", "01"]
    assert adapter._bytes == sum(len(kept.body) for kept in adapter._kept.values())


# Wrong addresses


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/feeds/432033.atom", 404, "the check digit of 43203 is 2"),
        ("/feeds/48.atom", 404, "is no place"),
        ("/feeds/00.atom", 404, "is no place"),
        ("/feeds/4320.atom", 404, "is no place"),
        ("/feeds/hitoyoshi.atom", 404, "is no place"),
        ("/feeds/４３.atom", 404, "is no place"),
        ("/feeds/all/evacuation.atom", 404, "is no place"),
        ("/feeds/kind.atom", 404, "is no place"),
        ("/feeds/kind/evacuations.atom", 404, "kinds are evacuation, shelter"),
        ("/feeds/432032/x.rss", 404, "there is no kind"),
        ("/feeds/all.json", 404, "ends in .atom or .rss"),
        ("/feeds/all.atom?area=432032", 400, "area: unknown parameter"),
        ("/feeds/all.atom?status=all", 400, "status: 'all' must be one of actual, exercise, test"),
        ("/feeds/all.atom?status=test&status=exercise", 400, "once"),
    ],
)
async def test_a_wrong_address_is_answered_with_the_right_one(
    path: str, status: int, said: str, get: Get
) -> None:
    answer = await get(path)
    assert answer.status == status
    assert said in msgspec.json.decode(answer.body)["detail"]


@pytest.mark.parametrize(
    "block",
    [
        {"titel": "x"},
        {"limit": 0},
        {"limit": 201},
        {"title": ""},
        {"language": "日本語"},
        {"kinds": {"Bear": "クマ"}},
    ],
)
def test_a_configuration_that_does_not_hold_is_refused(block: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(block, SyndicationConfig)


def test_the_example_of_the_documentation_holds() -> None:
    import tomllib
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "adapters" / "syndication.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    block = tomllib.loads(example)["adapters"]["feeds"]
    assert block.pop("type") == "syndication"
    assert set(block) == {field.name for field in msgspec.structs.fields(SyndicationConfig)}
    msgspec.convert(block, SyndicationConfig)
