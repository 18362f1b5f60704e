"""Where browsers subscribe: the button for the page of a place, its service worker, and what both ask of the hub."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Final, TypeVar
from urllib.parse import quote

import msgspec
from aiohttp import hdrs, web

from lalert.errors import BadRequest, NotFound, TooLarge, TooManyRequests, UnsupportedType
from lalert.model import Filter, Subscription
from lalert.plugin import Access, HubApi, Route
from lalert_adapters.webpush.seal import Vapid

MAX_BODY: Final = 8_192
BODY_S: Final = 10.0
MAX_PLACES: Final = 20
MAX_KNOWN: Final = 20_000
SCRIPT: Final = "text/javascript"
PLACE: Final = re.compile(r"[0-9]{2}|[0-9]{6}")

_Endpoint = Annotated[str, msgspec.Meta(min_length=1, max_length=2_048)]
_Place = Annotated[str, msgspec.Meta(pattern=f"^({PLACE.pattern})$")]
_Lang = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}$")]


class _Keys(msgspec.Struct, frozen=True):
    p256dh: Annotated[str, msgspec.Meta(max_length=128)]
    auth: Annotated[str, msgspec.Meta(max_length=128)]


class _Joining(msgspec.Struct, frozen=True):
    """A browser that wants to hear of a place, or one whose address has changed: then of everything that `replaces` heard of.

    With `min_level` it hears of 警戒レベル from that on alone, at all of its places.
    """

    endpoint: _Endpoint
    keys: _Keys
    place: _Place | None = None
    min_level: Annotated[int, msgspec.Meta(ge=1, le=5)] | None = None
    lang: _Lang | None = None
    replaces: Annotated[str, msgspec.Meta(max_length=2_048)] = ""


class _Leaving(msgspec.Struct, frozen=True):
    endpoint: _Endpoint
    place: _Place | None = None


class _Asking(msgspec.Struct, frozen=True):
    endpoint: _Endpoint


_T = TypeVar("_T")


class Desk:
    """One subscription for each browser, with all of its places, so that nobody gets a note twice. Who knows a browser's address may change its places."""

    def __init__(
        self, name: str, hub: HubApi, vapid: Vapid, *, max_subscriptions: int, max_per_minute: int
    ) -> None:
        self._name = name
        self._hub = hub
        self._vapid = vapid
        self._max = max_subscriptions
        self._rate = _Rate(hub, max_per_minute)
        self._keeping = asyncio.Lock()
        self._base = f"/push/{quote(name, safe='')}"
        self._files = {
            file: Path(__file__).with_name(file).read_bytes() for file in ("button.js", "worker.js")
        }

    @property
    def script(self) -> str:
        return f"{self._base}/button.js"

    def routes(self) -> Sequence[Route]:
        return [
            Route("GET", self.script, self._button, Access.PUBLIC),
            Route("GET", f"{self._base}/worker.js", self._worker, Access.PUBLIC),
            Route("GET", f"{self._base}/settings.json", self._settings, Access.PUBLIC),
            Route("GET", f"{self._base}/{{place}}.webmanifest", self._manifest, Access.PUBLIC),
            Route("POST", f"{self._base}/subscribe", self._subscribe, Access.PUBLIC),
            Route("POST", f"{self._base}/unsubscribe", self._unsubscribe, Access.PUBLIC),
            Route("POST", f"{self._base}/places", self._places, Access.PUBLIC),
        ]

    async def _button(self, request: web.Request) -> web.Response:
        return self._file(request, "button.js")

    async def _worker(self, request: web.Request) -> web.Response:
        # A service worker lives by the policy that it was itself served with.
        policy = "default-src 'none'; connect-src 'self'"
        return self._file(request, "worker.js", {"Content-Security-Policy": policy})

    def _file(self, request: web.Request, name: str, headers: dict[str, str] | None = None) -> web.Response:
        body = self._files[name]
        etag = hashlib.sha256(body).hexdigest()[:32]
        response = web.Response(headers={hdrs.CACHE_CONTROL: "no-cache", **(headers or {})})
        response.etag = etag
        if any(tag.value == etag for tag in request.if_none_match or ()):
            response.set_status(304)
            return response
        response.content_type, response.charset, response.body = SCRIPT, "utf-8", body
        return response

    async def _settings(self, _request: web.Request) -> web.Response:
        """Answer with the key that a browser has to give to its push service."""
        return _json({"key": await self._vapid.public()})

    async def _manifest(self, request: web.Request) -> web.Response:
        """Answer with what makes the page of a place an app on a home screen, without which Safari on telephones has no notes. Raises `NotFound`."""
        place = request.match_info["place"]
        if not PLACE.fullmatch(place):
            raise NotFound("there is no such place")
        app = {
            "id": f"/place/{place}",
            "name": "災害情報",
            "short_name": "災害情報",
            "lang": "ja",
            "start_url": f"/place/{place}",
            "scope": "/",
            "display": "standalone",
            "icons": [{"src": "/static/img/mark.svg", "sizes": "any", "type": "image/svg+xml"}],
        }
        response = _json(app)
        response.content_type = "application/manifest+json"
        return response

    async def _subscribe(self, request: web.Request) -> web.Response:
        """Take a browser, or one more place of it; the same again changes nothing.

        Raises `BadRequest`, `NotFound`, `UnsupportedType`, `TooLarge`, `TooManyRequests`.
        """
        asked = await self._read(request, _Joining)
        async with self._keeping:
            before = await self._known(asked.endpoint)
            former = await self._known(asked.replaces) if asked.replaces else None
            areas = frozenset({asked.place} if asked.place else ()).union(
                *(each.filter.areas for each in (before, former) if each)
            )
            if not areas:
                raise NotFound("place: is missing, and no such browser is subscribed")
            if len(areas) > MAX_PLACES:
                raise BadRequest(f"place: one browser may follow at most {MAX_PLACES} places")
            source = before or former
            if source is None and len(await self._hub.subscriptions()) >= self._max:
                raise TooManyRequests("this hub has as many subscriptions as it takes", retry_after=3_600)
            fresh = Subscription(
                self._id(asked.endpoint),
                self._name,
                asked.endpoint,
                _filter(areas, asked.min_level if asked.place or source is None else source.filter.min_level),
                before.created if before else self._hub.clock.now(),
                lang=asked.lang or (source.lang if source else None),
                options={"p256dh": asked.keys.p256dh, "auth": asked.keys.auth},
            )
            if fresh != before:
                await self._hub.save_subscription(fresh)
            if former is not None and former.id != fresh.id:
                await self._hub.drop_subscription(former.id)
        return _told(fresh.filter)

    async def _unsubscribe(self, request: web.Request) -> web.Response:
        """Take a place away, or all of them; what is not there is no error."""
        asked = await self._read(request, _Leaving)
        async with self._keeping:
            before = await self._known(asked.endpoint)
            if before is None:
                return _told(Filter())
            areas = before.filter.areas - {asked.place} if asked.place else frozenset[str]()
            left = replace(before.filter, areas=areas)
            if not areas:
                await self._hub.drop_subscription(before.id)
            elif left != before.filter:
                await self._hub.save_subscription(replace(before, filter=left))
        return _told(left)

    async def _places(self, request: web.Request) -> web.Response:
        """Answer with the places that a browser follows."""
        asked = await self._read(request, _Asking)
        known = await self._known(asked.endpoint)
        return _told(known.filter if known else Filter())

    async def _known(self, endpoint: str) -> Subscription | None:
        return await self._hub.subscription(self._id(endpoint))

    def _id(self, endpoint: str) -> str:
        digest = hashlib.sha256(f"{self._name}\x00{endpoint}".encode(errors="replace")).digest()
        return "push-" + base64.b32encode(digest[:20]).decode().lower()

    async def _read(self, request: web.Request, kind: type[_T]) -> _T:
        self._rate.count(_network(request.remote))
        # A form of another site can send no such type without asking first, and this hub allows nobody.
        if request.content_type != "application/json":
            raise UnsupportedType("a browser asks with application/json")
        body = b""
        try:
            async with asyncio.timeout(BODY_S):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise TooLarge(f"a browser's request is at most {MAX_BODY} bytes long")
            return msgspec.json.decode(body, type=kind)
        except TimeoutError:
            raise BadRequest(f"the body did not arrive within {BODY_S:g} s") from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadRequest(f"the body does not read: {str(error)[:200]}") from None


class _Rate:
    """Counts what somebody asks in a minute, for as many as `MAX_KNOWN`."""

    def __init__(self, hub: HubApi, limit: int) -> None:
        self._hub = hub
        self._limit = limit
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, who: str) -> None:
        """Count one more; raises `TooManyRequests`."""
        now = self._hub.clock.monotonic()
        since, count = self._counts.pop(who, (now, 0))
        if now - since >= 60:
            since, count = now, 0
        self._counts[who] = (since, count + 1)
        if len(self._counts) > MAX_KNOWN:
            self._counts.popitem(last=False)
        if count >= self._limit:
            raise TooManyRequests(
                f"at most {self._limit} requests a minute for one address", retry_after=since + 60 - now
            )


def _network(remote: str | None) -> str:
    """Return by what one who asks is counted: an IPv4 address, or a /64, of which anybody has 2**64 addresses."""
    try:
        address = ip_address(remote or "")
    except ValueError:
        return remote or ""
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address)


def _filter(areas: frozenset[str], min_level: int | None) -> Filter:
    return Filter(areas=areas, min_level=min_level, level_required=min_level is not None)


def _told(filter: Filter) -> web.Response:
    """Answer with what a browser follows."""
    return _json({"places": sorted(filter.areas), "min_level": filter.min_level})


def _json(body: Mapping[str, object]) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={hdrs.CACHE_CONTROL: "no-store"},
    )
