"""Setting stations up over HTTP, by an admin key of their organisation, and on the local socket by whoever runs the hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import orjson
from aiohttp import hdrs, web

from lalert.errors import BadRequest, NotFound
from lalert.hub import Hub
from lalert.model import Role, Tenant
from lalert.stations import Desk
from lalert.store.audit import LOCAL, Actor, ActorKind
from lalert.tenancy import Caller, require
from lalert.web.request import identify, read_json

LIST_BYTES = 16 * 1024 * 1024


class StationList(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /stations` on the local socket."""

    org: str
    stations: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=20_000)]
    dry_run: bool = False


class StationChange(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /stations/set` on the local socket: a merge patch."""

    org: str
    station: str
    patch: dict[str, Any]


def routes(hub: Hub, desk: Desk) -> list[web.RouteDef]:
    """Return the public routes."""

    def permitted(request: web.Request) -> tuple[Tenant, Actor]:
        caller: Caller = require(identify(request, hub.keyring, hub.clock), Role.ADMIN)
        assert caller.tenant is not None
        assert caller.key is not None
        return caller.tenant, Actor(ActorKind.KEY, caller.key.id)

    async def setup(request: web.Request) -> web.Response:
        tenant, _ = permitted(request)
        return _json(await desk.setup(tenant.id, request.match_info["id"]))

    async def put(request: web.Request) -> web.Response:
        permitted(request)
        asked: dict[str, Any] = await read_json(request, dict[str, Any])
        tenant, by = permitted(request)
        name = request.match_info["id"]
        if asked.setdefault("id", name) != name:
            raise BadRequest("id: must be that of the address")
        made, new = await desk.put(tenant, asked, by)
        return _json(made, 201 if new else 200)

    async def change(request: web.Request) -> web.Response:
        permitted(request)
        patch: dict[str, Any] = await read_json(request, dict[str, Any])
        tenant, by = permitted(request)
        return _json(await desk.change(tenant, request.match_info["id"], patch, by))

    async def forget(request: web.Request) -> web.Response:
        tenant, by = permitted(request)
        await desk.forget(tenant, request.match_info["id"], by)
        return web.Response(status=204)

    return [
        web.get("/v1/stations/{id}/setup", setup),
        web.put("/v1/stations/{id}", put),
        web.patch("/v1/stations/{id}", change),
        web.delete("/v1/stations/{id}", forget),
    ]


def local_routes(desk: Desk, tenant_of: Callable[[str], Tenant | None]) -> list[web.RouteDef]:
    """Return the routes of the local socket."""

    def known(org: str) -> Tenant:
        return require_org(tenant_of(org), org)

    async def take(request: web.Request) -> web.Response:
        order: StationList = await read_json(request, StationList, LIST_BYTES)
        found = await desk.take(known(order.org), order.stations, LOCAL, dry_run=order.dry_run)
        return _json({"mistakes": found})

    async def change(request: web.Request) -> web.Response:
        order: StationChange = await read_json(request, StationChange)
        return _json(await desk.change(known(order.org), order.station, order.patch, LOCAL))

    async def setups(request: web.Request) -> web.Response:
        return _json({"stations": await desk.setups(request.query.get("org"))})

    return [
        web.post("/stations", take),
        web.post("/stations/set", change),
        web.get("/stations", setups),
    ]


def require_org(tenant: Tenant | None, org: str) -> Tenant:
    """Return the organisation; raises `NotFound`."""
    if tenant is None:
        raise NotFound(f"there is no organisation {org[:64]}; `lalert org list` shows them")
    return tenant


def _json(body: Mapping[str, Any] | Sequence[Any], status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(body) + b"\n",
        content_type="application/json",
        headers={hdrs.CACHE_CONTROL: "no-store"},
    )
