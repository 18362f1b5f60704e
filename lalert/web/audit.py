"""The audit chain over HTTP: its heads for everybody, an organisation's own lines for its admin keys, and all of it on the local socket."""

from __future__ import annotations

import re
from typing import Any, Protocol

import orjson
from aiohttp import hdrs, web

from lalert.audit import days_json, line_json, published, raw_json
from lalert.errors import BadRequest
from lalert.hub import Hub
from lalert.model import Role
from lalert.store.audit import Document, Head, KeptLine
from lalert.tenancy import require
from lalert.web.api import CORS, MAX_PAGE, nothing_else, take, whole
from lalert.web.request import identify

DAYS_SHOWN = 31
LOCAL_PAGE = 1_000


class Chain(Protocol):
    """What holds the chain (`store.AuditLog`, `store.StateStore`)."""

    async def audit_lines(self, after: int, limit: int, org: str | None = None) -> list[KeptLine]: ...

    async def documents(self, after: str | None, limit: int) -> list[Document]: ...

    async def audit_head(self) -> Head: ...

    async def get(self, owner: str, key: str) -> bytes | None: ...

    async def put(self, owner: str, key: str, value: bytes) -> None: ...


def routes(hub: Hub) -> list[web.RouteDef]:
    """Return the public routes."""

    async def head(request: web.Request) -> web.Response:
        identify(request, hub.keyring, hub.clock)
        days = (await published(hub.store))[-DAYS_SHOWN:]
        return _json(days_json(await hub.store.audit_head(), days), {hdrs.CACHE_CONTROL: "no-cache"})

    async def lines(request: web.Request) -> web.Response:
        """What was done in the caller's own organisation; what is done in another is for nobody else."""
        caller = require(identify(request, hub.keyring, hub.clock), Role.ADMIN)
        assert caller.tenant is not None
        own, pairs = take(request, "after", "before", "limit")
        nothing_else(pairs)
        if "after" in own and "before" in own:
            raise BadRequest("after, before: give one of them")
        limit, org = whole(own, "limit", 100, 1, MAX_PAGE), caller.tenant.id
        if "after" in own:
            found = await hub.store.audit_lines(_number(own["after"], "after"), limit, org)
        else:
            before = _number(own["before"], "before") if "before" in own else None
            found = await hub.store.latest_audit_lines(limit, before, org)
        return _json({"lines": [line_json(line) for line in found]}, {hdrs.CACHE_CONTROL: "no-store"})

    return [web.get("/v1/audit", lines), web.get("/v1/audit/head", head)]


def local_routes(chain: Chain) -> list[web.RouteDef]:
    """Return the routes of the local socket, which give the chain as it is, sound or not."""

    async def lines(request: web.Request) -> web.Response:
        after = _number(request.query.get("after", ""), "after")
        found = await chain.audit_lines(after, LOCAL_PAGE)
        return _json({"lines": [raw_json(line) for line in found]})

    async def heads(request: web.Request) -> web.Response:
        known = [await chain.audit_head(), *(one.head for one in await published(chain))]
        return _json({"heads": [str(head) for head in known]})

    async def documents(request: web.Request) -> web.Response:
        found = await chain.documents(request.query.get("after"), LOCAL_PAGE)
        return _json({"documents": [(one.position, one.alert, one.sha256.hex()) for one in found]})

    return [
        web.get("/audit", lines),
        web.get("/audit/heads", heads),
        web.get("/audit/documents", documents),
    ]


def _number(text: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise BadRequest(f"{name}: {text[:20]!r} must be the number of a line")
    return int(text)


def _json(body: dict[str, Any], headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(body) + b"\n", content_type="application/json", headers={**CORS, **(headers or {})}
    )
