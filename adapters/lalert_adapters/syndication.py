"""Atom and RSS feeds per place and kind, made from the log when something has changed and served from memory until then."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self
from urllib.parse import parse_qs, urlsplit

import msgspec
import structlog
from aiohttp import hdrs, web
from feedgen.ext.base import BaseEntryExtension, BaseExtension
from feedgen.feed import FeedGenerator
from lxml import etree

from lalert.errors import BadRequest, NotFound, Unavailable
from lalert.model import Delivery, Entry, Filter, MsgType, Outcome, Scope, Status, Subscription
from lalert.plugin import Access, Channel, Endpoint, HubApi, Limits, Listing, Route
from lalert_adapters.syndication_websub import PATH, Document, Topics, WebSub, WebSubConfig

KINDS: Final[Mapping[str, str]] = {
    "evacuation": "避難情報",
    "shelter": "避難所",
    "headquarters": "災害対策本部",
    "damage": "被害情報",
    "river-level": "河川水位",
    "rain": "雨量",
    "weather": "気象情報",
    "general": "お知らせ",
}
STATUSES: Final[Mapping[str, tuple[Status, str]]] = {
    "actual": (Status.ACTUAL, ""),
    "exercise": (Status.EXERCISE, "【訓練】"),
    "test": (Status.TEST, "【試験】"),
}
MEDIA_TYPES: Final[Mapping[str, str]] = {"atom": "application/atom+xml", "rss": "application/rss+xml"}

MAX_AGE_S: Final = 15
"""How long a cache on the way may serve a feed without asking again: no longer than live subscribers wait for a sign of life."""
MAX_WINDOW: Final = 1_600
"""How many of the newest alerts of a place are looked at in search of enough that are in force."""
MAX_KEPT: Final = 2_000
MAX_KEPT_BYTES: Final = 32 * 2**20
MAX_TITLE: Final = 300
MAX_SUMMARY: Final = 4_000
MAX_CORNERS: Final = 200
RETRY_S: Final = 1.0
MAX_HEARD: Final = 1_000
ATOM: Final = "http://www.w3.org/2005/Atom"

_FOLLOW_UPS: Final = frozenset({MsgType.UPDATE, MsgType.CANCEL, MsgType.ERROR})
_REPLACING: Final = frozenset({MsgType.UPDATE, MsgType.CANCEL})
_EVERYTHING: Final = Filter(statuses=frozenset(Status) - {Status.DRAFT})
# XML 1.0, 2.2: one such character from one sender, and no reader could parse the feed of everybody. The second part would show the
# words of a name in another order.
_UNFIT: Final = re.compile(
    "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u202a-\u202e\u2066-\u2069]"
)

log = structlog.get_logger("lalert.syndication")


class SyndicationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[adapters.feeds]: `title` stands before every feed's place and kind, `language` picks the infos, `limit` bounds a feed.

    `kinds` names further kinds, as a sender's `jp:kind` parameter spells them, with what they are called in a title.
    """

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] = "災害情報"
    language: Annotated[str, msgspec.Meta(pattern="^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}$")] = "ja"
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 100
    kinds: dict[
        Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{0,31}$")],
        Annotated[str, msgspec.Meta(min_length=1, max_length=100)],
    ] = {}
    websub: WebSubConfig = WebSubConfig()


@dataclass(frozen=True, slots=True)
class _Feed:
    """One address: `place` is a code or None for everywhere, `kind` a known kind or None for all."""

    place: str | None
    kind: str | None
    status: str
    format: str

    @property
    def path(self) -> str:
        stem = f"{self.place or 'kind'}/{self.kind}" if self.kind else self.place or "all"
        return f"/feeds/{stem}.{self.format}" + (f"?status={self.status}" if self.status != "actual" else "")

    @property
    def filter(self) -> Filter:
        areas = frozenset({self.place}) if self.place else frozenset[str]()
        return Filter(areas=areas, statuses=frozenset({STATUSES[self.status][0]}))


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A feed's bytes, and for how long they are right: until the log grows beyond `version` or something in it expires."""

    body: bytes
    etag: str
    changed: datetime | None
    ambiguous: bool
    version: int
    good_until: datetime | None


class Syndication:
    """The endpoint `/feeds/…`: what is in force and public, newest first; and the WebSub hub that pushes it."""

    Config: ClassVar[type[SyndicationConfig]] = SyndicationConfig
    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(per_target=1, in_flight=64, timeout=15.0)

    def __init__(self, name: str, config: SyndicationConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub
        self._kinds = {**KINDS, **config.kinds}
        self._kept: OrderedDict[_Feed, _Rendered] = OrderedDict()
        self._bytes = 0
        self._building = asyncio.Lock()
        self._version = 0
        self._heard: OrderedDict[str, None] = OrderedDict()
        self._websub = WebSub(name, config.websub, hub, self)
        self._following = False
        self._follower: asyncio.Task[None] | None = None
        self._started = datetime.min.replace(tzinfo=UTC)

    async def __aenter__(self) -> Self:
        self._started = self._hub.clock.now().replace(microsecond=0)
        self._follower = asyncio.create_task(self._follow(), name=f"{self.name}: follow the log")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        await self._websub.close()

    def routes(self) -> Sequence[Route]:
        paths = ("/feeds/{place}.{format}", "/feeds/{place}/{kind}.{format}")
        feeds = [Route("GET", path, self.get, Access.PUBLIC) for path in paths]
        return [*feeds, *([Route("POST", PATH, self._websub.post, Access.PUBLIC)] if self._pushes else [])]

    @property
    def _pushes(self) -> bool:
        return self._config.websub.enabled

    def check_subscription(self, subscription: Subscription) -> Subscription:
        return self._websub.check_subscription(subscription)

    async def deliver(self, delivery: Delivery) -> Outcome:
        return await self._websub.deliver(delivery)

    def filter(self, topic: str) -> Filter:
        return self._topic(topic).filter

    async def document(self, topic: str, entry: Entry) -> Document:
        # The delivery may be quicker than the follower: what was rendered before this entry would go out as if it were the newest.
        self._hear(entry)
        feed = self._topic(topic)
        rendered = await self._rendered(feed)
        return Document(rendered.body, rendered.etag, f"{MEDIA_TYPES[feed.format]}; charset=utf-8")

    def _topic(self, topic: str) -> _Feed:
        try:
            url = urlsplit(topic)
            query = parse_qs(url.query, keep_blank_values=True)
        except ValueError:
            raise NotFound("hub.topic: is no address of a feed") from None
        stem, _, format = url.path.removeprefix("/feeds/").rpartition(".")
        place, _, kind = stem.partition("/")
        feed = _feed(place, kind or None, format, query, self._kinds)
        if feed.path != topic:
            raise NotFound(f"hub.topic: this feed's own address (rel=self) ends in {feed.path}")
        return feed

    def listed_at(self, entry: Entry, lineage: Sequence[Entry], places: Collection[str]) -> Sequence[str]:
        """Return the paths of the feeds that would change."""
        alert = entry.alert
        statuses = [word for word, (status, _) in STATUSES.items() if status is alert.status]
        silent = not _in_force([entry], self._hub.clock.now())
        if not statuses or alert.scope is not Scope.PUBLIC or (silent and not entry.replaced):
            return ()
        told = [entry, *reversed(lineage)]
        kinds = [kind for kind in self._kinds if any(one is entry for one in _of_kind(told, kind))]
        return [
            _Feed(place, kind, statuses[0], format).path
            for place in (None, *sorted(places))
            for kind in (None, *kinds)
            for format in MEDIA_TYPES
        ]

    async def get(self, request: web.Request) -> web.Response:
        """Answer with a feed, or with 304 to a reader who has it. Raises `NotFound`, `BadRequest`."""
        info, query = request.match_info, request.query
        fields = {name: query.getall(name) for name in query}
        feed = _feed(info["place"], info.get("kind"), info["format"], fields, self._kinds)
        rendered = await self._rendered(feed)
        headers = {
            hdrs.CACHE_CONTROL: f"public, max-age={MAX_AGE_S}",
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
            "X-Content-Type-Options": "nosniff",
        }
        if self._pushes:
            headers[hdrs.LINK] = self._websub.links(feed.path)
        response = web.Response(headers=headers)
        response.etag = rendered.etag
        response.last_modified = rendered.changed
        if _has_it(request, rendered):
            response.set_status(304)
            return response
        response.content_type = MEDIA_TYPES[feed.format]
        response.charset = "utf-8"
        response.body = rendered.body
        return response

    async def _follow(self) -> None:
        """Count what is added to the log, so that a feed is made anew only when it may have changed."""
        cause = ""
        while True:
            try:
                async with self._hub.subscribe(_EVERYTHING) as entries:
                    self._version += 1
                    self._following = True
                    cause = ""
                    async for entry in entries:
                        self._hear(entry)
            except Unavailable as error:
                # Too far behind, or the hub is stopping: a feed made for each request is slower, and just as right.
                log.info("feeds no longer hear of the log; following it again", reason=error.detail)
            except Exception as error:
                if cause != repr(error):
                    cause = repr(error)
                    log.exception("feeds do not hear of the log, so that each request makes its own")
            finally:
                self._following = False
            await self._hub.clock.sleep(RETRY_S)

    def _hear(self, entry: Entry) -> None:
        if entry.position not in self._heard:
            self._heard[entry.position] = None
            self._version += 1
            if len(self._heard) > MAX_HEARD:
                self._heard.popitem(last=False)

    async def _rendered(self, feed: _Feed) -> _Rendered:
        kept = self._current(feed)
        if kept is None:
            # One at a time: a hundred readers who come for the same new alert share one rendering.
            async with self._building:
                kept = self._current(feed)
                if kept is None:
                    kept = await self._render(feed)
                    self._keep(feed, kept)
        return kept

    def _current(self, feed: _Feed) -> _Rendered | None:
        kept = self._kept.get(feed)
        if kept is None or not self._following or kept.version != self._version:
            return None
        if kept.good_until is not None and self._hub.clock.now() >= kept.good_until:
            return None
        self._kept.move_to_end(feed)
        return kept

    def _keep(self, feed: _Feed, rendered: _Rendered) -> None:
        old = self._kept.pop(feed, None)
        self._kept[feed] = rendered
        self._bytes += len(rendered.body) - (len(old.body) if old else 0)
        while self._bytes > MAX_KEPT_BYTES or len(self._kept) > MAX_KEPT:
            self._bytes -= len(self._kept.popitem(last=False)[1].body)

    async def _render(self, feed: _Feed) -> _Rendered:
        version = self._version
        now = self._hub.clock.now()
        window, shown = await self._entries(feed, now)
        events = _events(window, now)
        changed = max(events, default=None)
        body = self._write(feed, shown, changed or self._started)
        return _Rendered(
            body=body,
            etag=hashlib.sha256(body).hexdigest()[:32],
            changed=changed,
            ambiguous=events.count(changed) > 1 if changed else False,
            version=version,
            good_until=min((end for entry in shown if (end := entry.alert.expires)), default=None),
        )

    async def _entries(self, feed: _Feed, now: datetime) -> tuple[list[Entry], list[Entry]]:
        """Return what concerns the feed, newest first, and of that what is in force, at most `limit`."""
        limit = ask = self._config.limit
        while True:
            found = await self._hub.recent(feed.filter, ask)
            window = _of_kind([entry for entry in found if entry.alert.scope is Scope.PUBLIC], feed.kind)
            shown = _in_force(window, now)
            if len(shown) >= limit or len(found) < ask or ask >= MAX_WINDOW:
                return window, shown[:limit]
            ask = min(4 * ask, MAX_WINDOW)

    def _write(self, feed: _Feed, entries: Iterable[Entry], changed: datetime) -> bytes:
        base = self._hub.base_url
        words = [self._config.title, feed.place or "", self._kinds[feed.kind] if feed.kind else ""]
        generator = FeedGenerator()
        generator.load_extension("geo")
        generator.register_extension("links", BaseExtension, _EntryLinks, rss=False)
        generator.id(base + feed.path)
        generator.title(STATUSES[feed.status][1] + " ".join(word for word in words if word))
        generator.description("現在発表中の情報を新しい順に配信しています。")
        generator.language(self._config.language)
        generator.generator("lalert")
        generator.updated(changed)
        generator.link(href=base + feed.path, rel="self", type=MEDIA_TYPES[feed.format])
        if self._pushes:
            generator.register_extension("hub", _HubLink, atom=False)
            generator.hub.address = base + PATH
            generator.link(href=base + PATH, rel="hub")
        generator.link(href=base + "/", rel="alternate", type="text/html")  # the last one is RSS's own <link>
        for entry in entries:
            self._write_entry(generator.add_entry(order="append"), entry)
        body: bytes = generator.atom_str() if feed.format == "atom" else generator.rss_str()
        return body

    def _write_entry(self, item: Any, entry: Entry) -> None:  # noqa: ANN401  # feedgen has no types
        alert = entry.alert
        text = self._hub.text(entry, self._config.language)
        address = f"{self._hub.base_url}/alerts/{alert.id}"
        senders = [info.sender_name for info in alert.infos if info.sender_name]
        # Not the address: it changes with the hub's name, and every reader would take every alert for a new one.
        item.id(f"urn:lalert:alert:{alert.id}")
        item.title(_xml(text.title, MAX_TITLE) or alert.id)
        item.description(_xml(text.body, MAX_SUMMARY), isSummary=True)
        item.author(name=_xml((senders or [alert.sender])[0], MAX_TITLE) or alert.id)
        item.published(alert.sent)
        item.updated(alert.sent)
        # Readers open only an alternate that is a page, or does not say what it is; programs look for the type.
        item.link(href=address, rel="alternate")
        item.link(href=address, rel="alternate", type="application/cap+xml")
        item.link(href=address, rel="enclosure", type="application/cap+xml", length=str(len(alert.raw)))
        item.links.attributes = item.link()
        item.category(_categories(entry))
        _write_place(item, entry)


if TYPE_CHECKING:
    _: type[Endpoint] = Syndication
    __: type[Listing] = Syndication
    ___: type[Channel] = Syndication
    ____: type[Topics] = Syndication


class _HubLink(BaseExtension):  # type: ignore[misc]  # feedgen has no types
    """Names the hub in RSS too, where feedgen writes rel=self alone."""

    address = ""

    def extend_rss(self, feed: Any) -> Any:  # noqa: ANN401
        etree.SubElement(feed[0], f"{{{ATOM}}}link", href=self.address, rel="hub")
        return feed


class _EntryLinks(BaseEntryExtension):  # type: ignore[misc]  # feedgen has no types
    """Writes rel, type and length of an Atom entry's links, which feedgen 1.0.0 loses (lkiesow/python-feedgen #135)."""

    def __init__(self) -> None:
        self.attributes: list[dict[str, str]] = []

    def extend_atom(self, entry: Any) -> Any:  # noqa: ANN401
        for element, attributes in zip(entry.iterchildren("link"), self.attributes, strict=True):
            element.attrib.update(attributes)
        return entry


def _feed(
    place: str, kind: str | None, format: str, query: Mapping[str, Sequence[str]], kinds: Mapping[str, str]
) -> _Feed:
    status = _status(query)
    if format not in MEDIA_TYPES:
        raise NotFound(f"a feed ends in .atom or .rss, not in .{format[:20]}")
    if kind is not None and kind not in kinds:
        raise NotFound(f"there is no kind {kind[:40]!r}; kinds are {', '.join(kinds)}")
    everywhere = place == ("kind" if kind else "all")
    return _Feed(None if everywhere else _code(place), kind, status, format)


def _status(query: Mapping[str, Sequence[str]]) -> str:
    for name in query:
        if name != "status":
            raise BadRequest(
                f"{name[:50]}: unknown parameter; a feed takes status alone, its place and kind stand in the path"
            )
    values = query.get("status", ["actual"])
    if len(values) > 1 or values[0] not in STATUSES:
        raise BadRequest(f"status: {values[0][:20]!r} must be one of {', '.join(STATUSES)}, once")
    return values[0]


def _code(text: str) -> str:
    """Return a code as filters have it: 2 digits for a prefecture, else 6 (JIS X 0402 with the check digit)."""
    if not (text.isascii() and text.isdigit() and len(text) in {2, 5, 6} and 1 <= int(text[:2]) <= 47):
        raise NotFound(f"{text[:20]!r} is no place: write all, kind, or a code of 2, 5 or 6 digits")
    if len(text) == 2 or text[2:5] == "000":
        return text[:2]
    total = sum(weight * int(digit) for weight, digit in zip((6, 5, 4, 3, 2), text[:5], strict=True))
    code = f"{text[:5]}{(11 - total % 11) % 10}"
    if not code.startswith(text):
        raise NotFound(f"{text} is no place: the check digit of {text[:5]} is {code[5]}")
    return code


def _of_kind(entries: list[Entry], kind: str | None) -> list[Entry]:
    """Return the entries of a kind, with everything that updates or cancels one: a Cancel seldom says what it was about."""
    if kind is None:
        return entries
    told = {entry.incident for entry in entries if entry.alert.infos}
    concerned = {entry.incident for entry in entries if entry.facts.kind == kind and entry.alert.infos}
    return [
        entry
        for entry in entries
        if entry.incident in concerned or (entry.incident not in told and entry.alert.msg_type in _FOLLOW_UPS)
    ]


def _in_force(entries: Iterable[Entry], now: datetime) -> list[Entry]:
    """Return what has not expired, was not superseded by a later one (CAP 3.2.1 <references>) and was not old when it came.

    An Error is shown beside what it is about; an Ack tells nobody anything.
    """
    shown: list[Entry] = []
    superseded: set[str] = set()
    for entry in entries:  # newest first
        alert = entry.alert
        if alert.msg_type in _REPLACING:
            superseded.update(reference.id for reference in alert.references)
        superseded.update(entry.replaced)
        expired = alert.expires is not None and alert.expires <= now
        silent = alert.msg_type is MsgType.ACK or expired or entry.outdated
        if not silent and alert.id not in superseded:
            shown.append(entry)
    return shown


def _events(entries: Iterable[Entry], now: datetime) -> list[datetime]:
    """Return the moments, in whole seconds, at which a feed of these entries changed: one came, or one expired.

    Made from the entries alone, so that every node, and one that was restarted, gives the same Last-Modified.
    """
    moments = [entry.stored for entry in entries]
    moments += [end for entry in entries if (end := entry.alert.expires) is not None and end <= now]
    return [moment.astimezone(UTC).replace(microsecond=0) for moment in moments]


def _has_it(request: web.Request, rendered: _Rendered) -> bool:
    """Say whether the reader's copy is this one (RFC 9110, 13.2.2: If-None-Match goes before If-Modified-Since)."""
    if hdrs.IF_NONE_MATCH in request.headers:
        return any(tag.value in {rendered.etag, "*"} for tag in request.if_none_match or ())
    since = request.if_modified_since
    if since is None or rendered.changed is None or since < rendered.changed:
        return False
    # Two alerts in one second share a Last-Modified: a reader who came between them must not be told that nothing has changed.
    return not (rendered.ambiguous and since == rendered.changed)


def _categories(entry: Entry) -> list[dict[str, str]]:
    alert, facts = entry.alert, entry.facts
    terms = [
        (category, "urn:oasis:names:tc:emergency:cap:1.2")
        for info in alert.infos
        for category in info.categories
    ]
    terms += [(alert.msg_type.value, "urn:lalert:msgType"), (alert.status.value, "urn:lalert:status")]
    terms += [(facts.kind, "urn:lalert:kind")] if facts.kind else []
    terms += [(str(facts.level), "urn:lalert:level")] if facts.level else []
    return [{"term": _xml(term, 50), "scheme": scheme} for term, scheme in dict.fromkeys(terms)]


def _write_place(item: Any, entry: Entry) -> None:  # noqa: ANN401  # feedgen has no types
    """Add GeoRSS Simple (OGC 17-002r1), latitude first, distances in metres.

    An entry has one geometry there: the polygon or circle if the sender drew a single one of moderate size, else the box around everything.
    """
    if entry.facts.nowhere or entry.facts.bbox is None:
        return
    areas = [area for info in entry.alert.infos for area in info.areas]
    item.geo.featurename(_xml("、".join(dict.fromkeys(area.area_desc for area in areas)), MAX_TITLE))
    drawn = {(area.polygons, area.circles) for area in areas}
    polygons, circles = drawn.pop() if len(drawn) == 1 else ((), ())
    if len(polygons) == 1 and not circles and len(polygons[0]) <= MAX_CORNERS:
        item.geo.polygon(" ".join(f"{lat:.6f} {lon:.6f}" for lon, lat in polygons[0]))
    elif len(circles) == 1 and not polygons:
        [circle] = circles
        item.geo.point(f"{circle.lat:.6f} {circle.lon:.6f}")
        item.geo.radius(math.ceil(circle.radius_m))
    else:
        west, south, east, north = entry.facts.bbox
        item.geo.box(f"{south:.6f} {west:.6f} {north:.6f} {east:.6f}")


def _xml(text: str, limit: int) -> str:
    text = _UNFIT.sub("", text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"
