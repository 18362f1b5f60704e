"""The pages that people see: home with its map, signage, a municipality's page, the rules explained, the first set-up, and errors.

A page is complete as the server sends it; its scripts only keep it up to date. Nothing here decides who may see what: `Context` hands over
what is meant for everybody.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

import jinja2
import orjson
import shapely
from aiohttp import hdrs, web

from lalert.clock import Clock
from lalert.errors import BadRequest, ConfigError, Forbidden, InvalidCode, NotFound, Refused, Unauthenticated
from lalert.geo import normalise_code
from lalert.model import SEVERITY_RANK, Entry, Filter, Role, Status
from lalert.resources import web_dir
from lalert.web import rules
from lalert.web.api import Overview
from lalert.web.cards import Card, card
from lalert.web.gauges import SHOWN, code_of, gauges
from lalert.web.request import check_type, preferred, read_body
from lalert.web.wording import Wording, choose, language_tag, wordings

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

__all__ = ["Active", "Claimed", "Context", "MadeKey", "Pages", "Place", "SetupForm", "Site"]

MAX_CARDS: Final = 60
"""How many alerts a page lists; what is left out is counted, and the areas narrow it."""

MAX_OUTLINES: Final = 60
MAX_QUERY: Final = 2_000
MAX_FORM: Final = 65_536

LEAFLET: Final = "vendor/leaflet-1.9.4"
FONT: Final = "vendor/biz-udpgothic-5.3.0"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
# What mail programs and social networks add to a link that people share is not a filter that somebody mistyped.
_TRACKING = re.compile(r"utm_\w+|fbclid|gclid|yclid|twclid")
_ORG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_TILE_HOST = re.compile(r"(?:\{s\}\.)?[A-Za-z0-9.-]+(?::\d{1,5})?|\[[0-9A-Fa-f:.]+\](?::\d{1,5})?")


class Place(Protocol):
    """What pages show of a place; `code` has 2 digits for a prefecture, else 6; (lon, lat) is its office.

    One whose code `ended` on a day has `successors` among those of today.
    """

    @property
    def code(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def kana(self) -> str: ...
    @property
    def name_en(self) -> str: ...
    @property
    def lon(self) -> float: ...
    @property
    def lat(self) -> float: ...
    @property
    def successors(self) -> tuple[str, ...]: ...
    @property
    def ended(self) -> date | None: ...


class Active(Protocol):
    """What is in force, and the position after which a stream goes on from it without a gap."""

    @property
    def entries(self) -> Sequence[Entry]: ...
    @property
    def next(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Site:
    """What the operator configured. `tiles` is a Leaflet template such as `https://{s}.example/{z}/{x}/{y}.png`, empty for none.

    `attribution` names the sources of the places and outlines, `tiles_attribution` those of the tiles; both are plain text. `place_scripts` are
    the paths of modules that adapters add to the page of a place.
    """

    name: str
    attribution: str = ""
    tiles: str = ""
    tiles_attribution: str = ""
    place_scripts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetupForm:
    """What the first administrator typed, checked for form: `codes` normalised, or the one word `all`."""

    org: str
    name: str
    codes: tuple[str, ...]
    senders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key just made; `secret` is shown this once."""

    role: Role
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Claimed:
    """What the first set-up made."""

    org: str
    keys: tuple[MadeKey, ...]


class Context(Protocol):
    """All that the pages ask of the hub."""

    @property
    def site(self) -> Site: ...

    @property
    def base_url(self) -> str:
        """Return the public address, without a trailing slash."""
        ...

    @property
    def clock(self) -> Clock: ...

    def parse_filter(self, pairs: Iterable[tuple[str, str]]) -> Filter:
        """Read a query as the streams do; raises `BadRequest` naming the parameter."""
        ...

    async def active(self, filter: Filter) -> Active:
        """Return what is in force, wanted by the filter, and meant for everybody (scope Public)."""
        ...

    def alert_json(self, entry: Entry) -> Mapping[str, Any]:
        """Return the public JSON of an alert with all its infos."""
        ...

    def place(self, code: str) -> Place | None: ...

    def places(self) -> Iterable[Place]:
        """Return every prefecture, municipality and ward of today."""
        ...

    @property
    def official_boundaries(self) -> bool:
        """Say whether territories are official boundaries, or only made from the points of towns."""
        ...

    def approximate(self, code: str) -> bool:
        """Say whether a place's territory is made from the points of towns, in whole or in part."""
        ...

    def geometry(self, code: str) -> BaseGeometry | None:
        """Return a place's territory in (lon, lat) degrees; called in a thread."""
        ...

    async def gravest(self, code: str | None, limit: int) -> Overview:
        """Return the gauges that matter most, those of a municipality or prefecture if `code` is one."""
        ...

    def setup_open(self, token: str) -> bool:
        """Say whether the one-time set-up link with this token may still be used; compares in constant time."""
        ...

    async def claim(self, token: str, form: SetupForm) -> Claimed:
        """Use up the token, make the organisation and its keys; raises `Forbidden` for a token that is no longer good, else `Refused`."""
        ...


class Pages:
    """The handlers of every page, over one context. Reads all templates, words and names of files once, when it is made."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._templates = _templates()
        root = web_dir("static")
        self._static = {path.relative_to(root).as_posix(): path for path in _files(root)}
        self._tiles = _tile_origin(context.site.tiles)
        self._points = {
            lang: _Packed(orjson.dumps(_points(context, wording)), "application/json", _HOURLY)
            for lang, wording in wordings().items()
        }
        self._rules: dict[str, _Packed] = {}
        self._outlines: dict[str, Mapping[str, Any] | None] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.home),
            web.get("/place/{code}", self.place),
            web.get("/signage/{screen:[A-Za-z0-9][A-Za-z0-9_-]{0,63}}", self.signage),
            web.get("/rules", self.rules),
            web.get("/stations", self.stations),
            web.get("/setup", self.setup),
            web.post("/setup", self.claim),
            web.get("/map/places.json", self.points),
            web.get("/map/outlines.json", self.outlines),
            web.get("/static/{path:.+}", self.static),
        ]

    async def home(self, request: web.Request) -> web.Response:
        """Everything in force, as a list and on a map; takes the same filters as the streams."""
        view = self._view(request)
        pairs = [pair for pair in view.pairs if not _TRACKING.fullmatch(pair[0])]
        board = await self._board(pairs, view)
        chart = {
            "tiles": self._context.site.tiles,
            "points": f"/map/places.json?lang={view.wording.lang}",
            "official": self._context.official_boundaries,
        }
        page = view.page | board.page | chart
        return self._html("home.html", view, board=board, page=page, leaflet=LEAFLET, tiles=self._tiles)

    async def place(self, request: web.Request) -> web.Response:
        """One municipality or prefecture, for those who live there; raises `NotFound`."""
        view = self._view(request)
        asked = request.match_info["code"]
        try:
            code = normalise_code(asked)
        except InvalidCode as error:
            raise NotFound(error.detail) from error
        place = self._context.place(code)
        if place is None:
            raise NotFound(f"{code}: this hub knows no such place")
        if code != asked:
            raise web.HTTPPermanentRedirect(request.rel_url.with_path(f"/place/{code}", keep_query=True))
        pairs = [pair for pair in view.pairs if not _TRACKING.fullmatch(pair[0])]
        board = await self._board([("area", code), *pairs], view)
        heirs = [heir for each in place.successors if (heir := self._context.place(each))]
        return self._html(
            "place.html", view, board=board, page=view.page | board.page, place=place, heirs=heirs
        )

    async def signage(self, request: web.Request) -> web.Response:
        """A screen that nobody touches: the gravest alert in large type, or the time of day."""
        view = self._view(request)
        board = await self._board(view.pairs, view)
        screen = request.match_info["screen"]
        words = {lang: wording.catalogue for lang, wording in wordings().items()}
        page = view.page | board.page | {"langs": view.asked, "wordings": words}
        return self._html("signage.html", view, board=board, page=page, screen=screen, font=FONT, framed=True)

    async def rules(self, request: web.Request) -> web.Response:
        """Every rule that a finding can carry, each with an anchor of its id; the same for everybody, and without any script."""
        view = self._view(request)
        lang = view.wording.lang
        if lang not in self._rules:
            view.pairs.clear()
            page = self._html("rules.html", view, sections=rules.sections(lang))
            # Ten milliseconds of work for 160 kB that are the same for everybody: once is enough.
            self._rules[lang] = _Packed((page.text or "").encode(), "text/html", dict(page.headers))
        return self._rules[lang].response(request)

    async def stations(self, request: web.Request) -> web.Response:
        """Every gauge, the gravest first; takes `area`. Without any script: it is loaded again each minute."""
        view = self._view(request)
        found = await self._context.gravest(code_of(request.query.get("area")), SHOWN)
        listed = gauges(found, view.wording)
        return self._html("stations.html", view, listed=listed)

    async def setup(self, request: web.Request) -> web.Response:
        """Return the first-run form, for whoever has the one-time link."""
        view = self._view(request)
        token = request.query.get("token", "")
        if not self._context.setup_open(token):
            return self._setup_closed(view)
        return self._setup_form(view, token, {}, {}, HTTPStatus.OK)

    async def claim(self, request: web.Request) -> web.Response:
        """Register the first organisation, and show its keys this once."""
        view = self._view(request)
        check_type(request, ("application/x-www-form-urlencoded",))
        typed = _form(await read_body(request, MAX_FORM))
        token = typed.pop("token", "")
        if not self._context.setup_open(token):
            return self._setup_closed(view)
        form, faults = self._check_setup(typed, view.wording)
        if form is None:
            return self._setup_form(view, token, typed, faults, HTTPStatus.UNPROCESSABLE_ENTITY)
        try:
            claimed = await self._context.claim(token, form)
        except (Forbidden, NotFound, Unauthenticated):
            return self._setup_closed(view)
        except Refused as error:
            return self._setup_form(view, token, typed, {"": error.detail}, HTTPStatus.UNPROCESSABLE_ENTITY)
        return self._html("setup_done.html", view, claimed=claimed, private=True)

    async def points(self, request: web.Request) -> web.Response:
        """Return every municipality as [code, lon, lat, name], in degrees: all that the map needs where there are no tiles."""
        return self._points[choose(request.query.get("lang"), "").lang].response(request)

    async def outlines(self, request: web.Request) -> web.Response:
        """Return code -> GeoJSON geometry of up to 60 places named by `area`; a place without a known territory is left out.

        Each has a member `approximate` besides (RFC 7946, 6.1).
        """
        codes = list(dict.fromkeys(map(normalise_code, request.query.getall("area", []))))
        if not 1 <= len(codes) <= MAX_OUTLINES:
            raise BadRequest(f"area: name 1 to {MAX_OUTLINES} codes")
        found = await asyncio.to_thread(lambda: {code: self._outline(code) for code in codes})
        body = {code: outline for code, outline in found.items() if outline}
        headers = {**_SECURITY, hdrs.CACHE_CONTROL: "public, max-age=3600"}
        response = web.Response(
            body=orjson.dumps(body),
            content_type="application/json",
            headers=headers,
            zlib_executor_size=16_384,
        )
        response.enable_compression()
        return response

    async def static(self, request: web.Request) -> web.FileResponse:
        """Serve a file that was there when the node started; no other path exists, so none can lead outside."""
        name = request.match_info["path"]
        path = self._static.get(name)
        if path is None:
            raise NotFound("there is no such file")
        # Vendored folders carry their version in their name; our own files change under the same name and are asked for again (304).
        age = "public, max-age=31536000, immutable" if name.startswith("vendor/") else "no-cache"
        headers = {**_SECURITY, hdrs.CONTENT_TYPE: _TYPES[path.suffix], hdrs.CACHE_CONTROL: age}
        return web.FileResponse(path, headers=headers)

    def error(self, request: web.Request, status: int, detail: str) -> web.Response | None:
        """Return an error as a page if the caller's Accept likes HTML best, else None (it then gets problem+json)."""
        try:
            html = preferred(request, ("application/problem+json", "text/html")) == "text/html"
        except web.HTTPException:
            html = False
        if not html:
            return None
        view = _View(request, self._context)
        return self._html("error.html", view, status=status, detail=detail)

    def _view(self, request: web.Request) -> _View:
        if len(request.query_string) > MAX_QUERY:
            raise BadRequest(f"the query is longer than {MAX_QUERY} characters")
        return _View(request, self._context)

    async def _board(self, pairs: Sequence[tuple[str, str]], view: _View) -> _Board:
        wanted = self._context.parse_filter(pairs)
        active = await self._context.active(wanted)
        # Cards are made of the gravest alone: in a typhoon hundreds of alerts are in force, and everybody looks.
        shown = sorted(active.entries, key=_rank, reverse=True)[:MAX_CARDS]
        cards = [card(self._context.alert_json(entry), view.wording, view.content) for entry in shown]
        real = sum(1 for entry in active.entries if entry.alert.status is Status.ACTUAL)
        places = [place for code in sorted(wanted.areas) if (place := self._context.place(code))]
        drills = wanted.statuses != {Status.ACTUAL}
        rough = any(self._context.approximate(place.code) for place in places)
        return _Board(
            cards,
            len(active.entries),
            real,
            places,
            urlencode(pairs),
            active.next,
            drills,
            rough,
            view.wording,
        )

    def _outline(self, code: str) -> Mapping[str, Any] | None:
        """Return a territory fit for a small map: about 50 m coarse, a prefecture 1 km, in steps of 11 m."""
        if code not in self._outlines:
            if self._context.place(code) is None:
                return None
            shape = self._context.geometry(code)
            small = None if shape is None else shape.simplify(0.01 if len(code) == 2 else 0.0005)
            small = None if small is None else shapely.set_precision(small, 0.0001)
            if small is None or small.is_empty:
                self._outlines[code] = None
            else:
                rough = {"approximate": self._context.approximate(code)}
                self._outlines[code] = shapely.geometry.mapping(small) | rough
        return self._outlines[code]

    def _check_setup(
        self, typed: Mapping[str, str], wording: Wording
    ) -> tuple[SetupForm | None, dict[str, str]]:
        """Return the form, or else a sentence for each field at fault."""
        values = {name: typed.get(name, "").strip() for name in ("name", "org", "codes", "senders")}
        faults = {
            name: wording("setup.missing", field=wording(f"setup.{name}"))
            for name, value in values.items()
            if not value
        }
        if values["org"] and not _ORG.fullmatch(values["org"]):
            faults["org"] = wording("setup.org_bad")
        if len(values["name"]) > 100:
            faults["name"] = wording("setup.name_long")
        senders = tuple(line.strip() for line in values["senders"].splitlines() if line.strip())
        if len(senders) > 100 or any(len(line) > 200 for line in senders):
            faults["senders"] = wording("setup.senders_long")
        codes: tuple[str, ...] = ()
        if values["codes"]:
            try:
                codes = self._codes(values["codes"], wording)
            except InvalidCode as error:
                faults["codes"] = error.detail
        form = SetupForm(values["org"], values["name"], codes, senders)
        in_order = {name: faults[name] for name in values if name in faults}
        return (None if faults else form), in_order

    def _codes(self, text: str, wording: Wording) -> tuple[str, ...]:
        words = re.split(r"[\s,、，]+", text.strip(" \t\r\n,、，"))
        if [word.lower() for word in words] == ["all"]:
            return ("all",)
        if len(words) > 2_000:
            raise InvalidCode(wording("setup.codes_many"))
        codes: list[str] = []
        for word in words:
            try:
                code = normalise_code(word)
            except InvalidCode as error:
                raise InvalidCode(wording("setup.codes_unknown", code=word[:20])) from error
            if self._context.place(code) is None:
                raise InvalidCode(wording("setup.codes_unknown", code=word[:20]))
            codes.append(code)
        return tuple(dict.fromkeys(codes))

    def _setup_form(
        self, view: _View, token: str, typed: Mapping[str, str], faults: Mapping[str, str], status: HTTPStatus
    ) -> web.Response:
        return self._html(
            "setup.html", view, token=token, typed=typed, faults=faults, status=status, private=True
        )

    def _setup_closed(self, view: _View) -> web.Response:
        return self._html("setup_closed.html", view, status=HTTPStatus.NOT_FOUND, private=True)

    def _html(
        self,
        template: str,
        view: _View,
        *,
        status: int = HTTPStatus.OK,
        private: bool = False,
        framed: bool = False,
        **values: object,
    ) -> web.Response:
        """Render a page; `private` ones are kept by no cache, `framed` ones may stand in a frame of a signage player."""
        body = self._templates[template].render(
            t=view.wording,
            site=self._context.site,
            view=view,
            base_url=self._context.base_url,
            status=int(status),
            **values,
        )
        tiles = str(values.get("tiles", ""))
        headers = {
            **_SECURITY,
            hdrs.CACHE_CONTROL: "no-store" if private else "no-cache",
            hdrs.CONTENT_LANGUAGE: view.wording.lang,
            hdrs.VARY: "Accept, Accept-Language",
            "Content-Security-Policy": _policy(tiles, form=template == "setup.html", framed=framed),
        }
        if tiles:
            # A tile server's terms ask for a Referer; an address outside learns our origin, never a path or query.
            headers["Referrer-Policy"] = "strict-origin-when-cross-origin"
        return web.Response(text=body, status=status, content_type="text/html", headers=headers)


@dataclass(frozen=True, slots=True)
class _Board:
    """What a page shows of the state of now."""

    cards: list[Card]
    total: int
    real: int
    places: list[Place]
    query: str
    after: str
    drills: bool
    rough: bool
    """Whether the extent of any of these places is approximate."""
    wording: Wording

    @property
    def where(self) -> str:
        """Return the names of the places that the page is limited to, empty for none."""
        names = [place.name if self.wording.lang == "ja" else place.name_en for place in self.places]
        more = len(names) - 5
        if more > 0:
            names = [*names[:5], self.wording("card.more_areas", n=more)]
        return str(self.wording.catalogue["separator"]).join(names)

    @property
    def page(self) -> dict[str, Any]:
        return {
            "query": self.query,
            "after": self.after,
            "areas": [place.code for place in self.places],
            "rough": self.rough,
            "limit": MAX_CARDS,
        }


def _rank(entry: Entry) -> tuple[bool, int, datetime]:
    """Reading order, reversed: real before drills, the gravest first, then the newest. static/js/cards.js sorts by the same."""
    level = entry.facts.level
    grave = SEVERITY_RANK[entry.alert.severity] if level is None else level
    return entry.alert.status is Status.ACTUAL, grave, entry.stored


class _View:
    """One visitor's look at a page: language, query, time."""

    def __init__(self, request: web.Request, context: Context) -> None:
        # Signage takes several languages, to show in turn; every other page looks at the first.
        self.asked = [tag for tag in request.query.get("lang", "").split(",")[:8] if language_tag(tag)]
        first = self.asked[0] if self.asked else ""
        self.wording = choose(first, request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
        self.content = first or self.wording.lang
        self.now = context.clock.now()
        self.path = request.path
        self.pairs = [(name, value) for name, value in request.query.items() if name != "lang"]

    @property
    def toggle(self) -> str:
        """Return this page's address in the other language."""
        other = self.wording.catalogue["other"]["lang"]
        return f"{self.path}?{urlencode([*self.pairs, ('lang', other)])}"

    @property
    def page(self) -> dict[str, Any]:
        return {
            "lang": self.wording.lang,
            "content": self.content,
            "now": self.now.isoformat(timespec="milliseconds"),
            "wording": self.wording.catalogue,
        }


class _Packed:
    """What never changes while the node runs, compressed once."""

    def __init__(self, plain: bytes, media_type: str, headers: Mapping[str, str]) -> None:
        self._plain = plain
        self._packed = gzip.compress(plain, 6, mtime=0)
        self._media_type = media_type
        vary = ", ".join(filter(None, (headers.get(hdrs.VARY), hdrs.ACCEPT_ENCODING)))
        self._etag = hashlib.sha256(plain).hexdigest()[:32]
        own = {hdrs.ETAG: f'"{self._etag}"', hdrs.VARY: vary}
        self._headers = {k: v for k, v in headers.items() if k.lower() != "content-type"} | own

    def response(self, request: web.Request) -> web.Response:
        if any(tag.value == self._etag for tag in request.if_none_match or ()):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=self._headers)
        headers, body = self._headers, self._plain
        if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            headers, body = headers | {hdrs.CONTENT_ENCODING: "gzip"}, self._packed
        charset = "utf-8" if self._media_type.startswith("text/") else None
        return web.Response(body=body, content_type=self._media_type, charset=charset, headers=headers)


_SECURITY: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

_HOURLY: Mapping[str, str] = {**_SECURITY, hdrs.CACHE_CONTROL: "public, max-age=3600"}


def _policy(tiles: str, *, form: bool, framed: bool) -> str:
    """Return the Content-Security-Policy: nothing inline, nothing from elsewhere but map tiles that the operator chose."""
    # Leaflet replaces a tile that is no longer needed by an empty data: image.
    images = f"'self' data: {tiles}" if tiles else "'self'"
    directives = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": images,
        "font-src": "'self'",
        "connect-src": "'self'",
        "manifest-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'self'" if form else "'none'",
        # Signage players show a page inside a frame of their own; there is nothing on it that a click could be lured to.
        "frame-ancestors": "*" if framed else "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def _tile_origin(template: str) -> str:
    """Return what img-src must allow for a tile template, empty for none; raises `ConfigError`."""
    if not template:
        return ""
    try:
        parts = urlsplit(template)
    except ValueError as error:
        raise ConfigError([f"map.tiles: {error}"]) from error
    if not parts.scheme and not parts.netloc and template.startswith("/"):
        return "'self'"
    # The value goes into a header: anything but a plain host could add a directive.
    if parts.scheme not in ("http", "https") or not _TILE_HOST.fullmatch(parts.netloc):
        raise ConfigError(["map.tiles: must read like https://tiles.example/{z}/{x}/{y}.png"])
    return f"{parts.scheme}://{parts.netloc.replace('{s}', '*')}"


def _points(context: Context, wording: Wording) -> list[tuple[str, float, float, str]]:
    return [
        (p.code, round(p.lon, 4), round(p.lat, 4), p.name if wording.lang == "ja" else p.name_en)
        for p in context.places()
        if len(p.code) == 6
    ]


def _form(body: bytes) -> dict[str, str]:
    """Return the fields of an urlencoded form; raises `BadRequest`."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError as error:
        raise BadRequest("the form does not read; load the page again") from error
    return dict(pairs)


def _files(root: Path) -> Iterable[Path]:
    return (path for path in root.rglob("*") if path.suffix in _TYPES and path.is_file())


@cache
def _templates() -> Mapping[str, jinja2.Template]:
    """Compile every template, once: none is read from disk while requests are served, and a broken one stops the node at once."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(web_dir("templates")),
        autoescape=True,
        auto_reload=False,
        cache_size=-1,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return {name: environment.get_template(name) for name in environment.list_templates(extensions=["html"])}
