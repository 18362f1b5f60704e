"""`/v1/stream` and `/v1/ws`: who may listen to what, and then over to the live part."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from lalert import matching
from lalert.errors import BadRequest, Forbidden
from lalert.hub import Hub
from lalert.model import Filter, Role
from lalert.tenancy import require
from lalert.web.api import take
from lalert.web.request import identify


class Streams(Protocol):
    """What the live part offers to HTTP."""

    async def sse(
        self,
        request: web.Request,
        filter: Filter,
        *,
        after: str | None = None,
        lang: str | None = None,
        format: str = "json",
        key_id: str | None = None,
        audience: Hashable = None,
    ) -> web.StreamResponse: ...

    async def websocket(
        self,
        request: web.Request,
        filter: Filter,
        *,
        after: str | None = None,
        lang: str | None = None,
        format: str = "json",
        key_id: str | None = None,
        audience: Hashable = None,
    ) -> web.StreamResponse: ...


def routes(hub: Hub, streams: Streams) -> list[web.RouteDef]:
    """Return the two streams over one hub."""

    async def sse(request: web.Request) -> web.StreamResponse:
        wanted, options = _options(request)
        return await streams.sse(request, wanted, **options)

    async def websocket(request: web.Request) -> web.StreamResponse:
        _same_origin(request)
        wanted, options = _options(request)
        return await streams.websocket(request, wanted, **options)

    def _options(request: web.Request) -> tuple[Filter, dict[str, str]]:
        caller = identify(request, hub.keyring, hub.clock)
        if caller.key is not None:
            require(caller, Role.RECEIVER, Role.SENDER, Role.ADMIN)
        own, pairs = take(request, "after", "lang", "format")
        if own.get("format", "json") not in ("json", "cap"):
            raise BadRequest(f"format: {own['format'][:20]!r} must be json or cap")
        if caller.key is not None and caller.audience is not None:
            own |= {"key_id": caller.key.id, "audience": caller.audience}
        if own.get("format") == "cap":
            own["format"] = "json+cap"
        return matching.parse_filter(pairs), own

    return [web.get("/v1/stream", sse), web.get("/v1/ws", websocket)]


def _same_origin(request: web.Request) -> None:
    # A page of another site could open a WebSocket with this site's cookies (there is no CORS for it): aiohttp does not look.
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and _host(origin) != request.host:
        raise Forbidden(
            "a page of another site may not open this WebSocket; use /v1/stream, which allows it",
            code="foreign-origin",
        )


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # such as `http://[`
        return None
