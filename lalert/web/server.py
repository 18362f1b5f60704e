"""Everything the node answers over HTTP, put together from its parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Protocol

from aiohttp import hdrs, web

from lalert import cap, resources
from lalert.checklist import Checklist
from lalert.errors import LalertError
from lalert.hub import Hub
from lalert.model import Role
from lalert.plugin import Access, Endpoint, Route
from lalert.route import Router
from lalert.stations import Desk
from lalert.tenancy import Administration, Tickets, require
from lalert.web import (
    admin,
    audit,
    channels,
    checklist,
    health,
    hydrographs,
    pages,
    proposals,
    receivers,
    route,
    stations,
    streams,
)
from lalert.web.api import CORS, Api, Scorecards, Stations
from lalert.web.context import FirstKeys, PagesContext
from lalert.web.health import Metrics
from lalert.web.problems import Handler, middleware
from lalert.web.request import Room, bounded, identify

ROLES: dict[Access, Role] = {
    Access.SENDER: Role.SENDER,
    Access.RECEIVER: Role.RECEIVER,
    Access.SENSOR: Role.SENSOR,
    Access.ADMIN: Role.ADMIN,
}


@dataclass
class Site:
    """What the HTTP side is made of; the app fills it in."""

    hub: Hub
    router: Router
    test_streams: streams.TestStreams
    streams: streams.Streams
    tickets: Tickets
    receivers: receivers.Confirmations
    stations: Stations
    desk: Desk
    metrics: Metrics
    canary: health.Watch
    channel_canaries: channels.Canaries
    checklist: Checklist
    proposals: proposals.Proposals
    first_keys: FirstKeys
    pages: pages.Site
    scores: Scorecards
    endpoints: Sequence[Endpoint] = field(default_factory=list)
    room: Room = field(default_factory=Room)
    anybodys_room: Room = field(default_factory=Room)
    stopping: Callable[[], bool] = lambda: False
    durability: str = "disk"


def make_app(site: Site) -> web.Application:
    """Return the public application."""
    people = pages.Pages(PagesContext(site.hub, site.pages, site.first_keys, site.stations))
    admit = bounded(site.room, site.anybodys_room, partial(_holder, site.hub))
    app = web.Application(client_max_size=cap.MAX_BYTES, middlewares=[middleware(people.error), admit])
    app.on_response_prepare.append(_security_headers)
    app.add_routes(health.routes(site.hub.store, site.canary, site.metrics, site.durability, site.stopping))
    app.add_routes(Api(site.hub, site.stations, site.metrics, site.scores).routes())
    app.add_routes(hydrographs.routes(site.hub))
    app.add_routes(stations.routes(site.hub, site.desk))
    app.add_routes(channels.routes(site.hub, site.channel_canaries))
    app.add_routes(checklist.routes(site.hub, site.checklist))
    app.add_routes(proposals.routes(site.hub, site.proposals))
    app.add_routes(route.routes(site.hub, site.router))
    app.add_routes(audit.routes(site.hub))
    app.add_routes(streams.routes(site.hub, site.streams, site.tickets))
    app.add_routes(streams.rehearsal_routes(site.test_streams))
    app.add_routes(receivers.routes(site.hub, site.receivers, site.streams))
    app.add_routes(_descriptions())
    app.add_routes(people.routes())
    for endpoint in site.endpoints:
        app.add_routes([_guarded(site.hub, each) for each in endpoint.routes()])
    return app


class Kept(admin.BackedUp, audit.Chain, Protocol):
    """What the local socket shows and copies of the store itself."""


def make_admin_app(
    administration: Administration,
    changed: Callable[[], Awaitable[None]],
    scores: Scorecards,
    store: Kept,
    noted: admin.Audit,
    site: Site,
) -> web.Application:
    """Return the application of the local socket."""
    app = web.Application(client_max_size=cap.MAX_BYTES, middlewares=[middleware(lambda *_: None)])
    app.add_routes(admin.routes(administration, changed, scores, store, noted))
    app.add_routes(stations.local_routes(site.desk, site.hub.keyring.tenant))
    app.add_routes(audit.local_routes(store))
    app.add_routes(route.local_routes(site.router))
    app.add_routes(channels.local_routes(site.hub, site.channel_canaries))
    return app


def _descriptions() -> list[web.RouteDef]:
    def serve(name: str) -> web.RouteDef:
        text = resources.schema(name)

        async def description(request: web.Request) -> web.Response:
            return web.Response(
                body=text, headers={**CORS, hdrs.CONTENT_TYPE: "application/yaml; charset=utf-8"}
            )

        return web.get(f"/{name}", description)

    return [serve("openapi.yaml"), serve("asyncapi.yaml")]


def _holder(hub: Hub, request: web.Request) -> str | None:
    """Return whose key a request comes with; None without a good one."""
    try:
        caller = identify(request, hub.keyring, hub.clock)
    except LalertError:
        return None
    return caller.key.id if caller.key is not None else None


def _guarded(hub: Hub, route: Route) -> web.RouteDef:
    handler: Handler = route.handler
    if route.access is not Access.PUBLIC:
        role = ROLES[route.access]

        async def guarded(request: web.Request) -> web.StreamResponse:
            require(identify(request, hub.keyring, hub.clock), role)
            return await route.handler(request)

        handler = guarded
    return web.RouteDef(route.method, route.path, handler, {})


async def _security_headers(request: web.Request, response: web.StreamResponse) -> None:
    if response.status == HTTPStatus.SWITCHING_PROTOCOLS:
        return  # no browser shows what is no page, and a stream keeps its headers for as long as it lasts
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
