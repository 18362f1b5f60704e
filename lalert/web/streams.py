"""`/v1/stream`, `/v1/ws` and the tickets for them: who may listen to what, and then over to the live part."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson
from aiohttp import hdrs, web

from lalert import matching
from lalert.errors import BadRequest, Forbidden
from lalert.hub import Hub
from lalert.model import Filter, Role, Status
from lalert.tenancy import Caller, Tickets, require
from lalert.web.api import flag, nothing_else, take
from lalert.web.receivers import Connected
from lalert.web.request import identify


class Streams(Connected, Protocol):
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
        embeddable: bool | None = None,
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


class TestStreams(Protocol):
    """What a live part without keys offers: as `Streams`, each stream for so many `seconds`."""

    async def sse(
        self,
        request: web.Request,
        filter: Filter,
        *,
        after: str | None = None,
        lang: str | None = None,
        format: str = "json",
        heed_last_event_id: bool = True,
        seconds: float | None = None,
    ) -> web.StreamResponse: ...

    async def websocket(
        self,
        request: web.Request,
        filter: Filter,
        *,
        after: str | None = None,
        lang: str | None = None,
        format: str = "json",
        seconds: float | None = None,
    ) -> web.StreamResponse: ...


BEFORE_ALL = "test-0"
"""A position of the test stream from which nobody can go on."""

GAP_SECONDS = 60.0

LISTENERS = (Role.RECEIVER, Role.SENDER, Role.ADMIN)


def routes(hub: Hub, streams: Streams, tickets: Tickets) -> list[web.RouteDef]:
    """Return the two streams over one hub, and where to get a ticket for them."""

    async def sse(request: web.Request) -> web.StreamResponse:
        wanted, options, ticket = _options(request)
        caller = await _caller(request, ticket)
        # Nothing that a browser adds by itself opens a stream: with a ticket any page may read what it was given to hear.
        embeddable = caller.key is None or ticket is not None
        return await streams.sse(request, wanted, **options, **_who(caller), embeddable=embeddable)

    async def websocket(request: web.Request) -> web.StreamResponse:
        wanted, options, ticket = _options(request)
        if ticket is None:
            _same_origin(request)
        caller = await _caller(request, ticket)
        return await streams.websocket(request, wanted, **options, **_who(caller))

    async def ticket(request: web.Request) -> web.Response:
        caller = require(identify(request, hub.keyring, hub.clock), *LISTENERS)
        nothing_else(list(request.query.items()))
        assert caller.key is not None
        made = await tickets.issue(caller.key.id)
        body = (
            orjson.dumps({"ticket": made.secret, "expires": made.ends.isoformat(timespec="seconds")}) + b"\n"
        )
        headers = {hdrs.CACHE_CONTROL: "no-store"}
        return web.Response(status=201, body=body, content_type="application/json", headers=headers)

    async def _caller(request: web.Request, ticket: str | None) -> Caller:
        if ticket is None:
            caller = identify(request, hub.keyring, hub.clock)
        elif hdrs.AUTHORIZATION in request.headers:
            raise BadRequest("ticket: give a key in the header or a ticket, not both")
        elif request.method == hdrs.METH_HEAD:
            raise BadRequest("ticket: HEAD opens no stream, and would use the ticket up; ask with GET")
        else:
            caller = await tickets.redeem(ticket)
        return require(caller, *LISTENERS) if caller.key is not None else caller

    return [web.get("/v1/stream", sse), web.get("/v1/ws", websocket), web.post("/v1/tickets", ticket)]


def rehearsal_routes(streams: TestStreams) -> list[web.RouteDef]:
    """Return the two test streams. Anybody may listen, from any page: there is nothing to be protected."""

    async def sse(request: web.Request) -> web.StreamResponse:
        wanted, options = _test_options(request)
        return await streams.sse(request, wanted, **options, heed_last_event_id="seconds" not in options)

    async def websocket(request: web.Request) -> web.StreamResponse:
        wanted, options = _test_options(request)
        return await streams.websocket(request, wanted, **options)

    return [web.get("/v1/stream/test", sse), web.get("/v1/ws/test", websocket)]


def _test_options(request: web.Request) -> tuple[Filter, dict[str, Any]]:
    own, pairs = take(request, "after", "lang", "format", "gap")
    if not any(name == "status" for name, _ in pairs):
        pairs.append(("status", "test"))
    wanted = matching.parse_filter(pairs)
    if Status.TEST not in wanted.statuses:
        raise BadRequest("status: everything here is a test")
    options: dict[str, Any] = _shown(own)
    if flag(own, "gap"):
        options |= {"after": BEFORE_ALL, "seconds": GAP_SECONDS}
    options.pop("gap", None)
    return wanted, options


def _options(request: web.Request) -> tuple[Filter, dict[str, str], str | None]:
    """Return what is to be heard, how, and with which ticket; all of it is read before a ticket is used up."""
    own, pairs = take(request, "after", "lang", "format", "ticket")
    ticket = own.pop("ticket", None)
    own = _shown(own)
    return _filter(tuple(pairs)), own, ticket


@lru_cache(maxsize=1_024)
def _filter(pairs: tuple[tuple[str, str], ...]) -> Filter:
    # Ten thousand who want the same read it once, and share it.
    return matching.parse_filter(pairs)


def _shown(own: Mapping[str, str]) -> dict[str, str]:
    format = own.get("format", "json")
    if format not in ("json", "cap"):
        raise BadRequest(f"format: {format[:20]!r} must be json or cap")
    return {**own, "format": "json+cap" if format == "cap" else format}


def _who(caller: Caller) -> dict[str, Any]:
    if caller.key is None or caller.audience is None:
        return {}
    return {"key_id": caller.key.id, "audience": caller.audience}


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
