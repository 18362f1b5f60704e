"""`/v1/acks` and `/v1/receivers`: what receivers confirm, and how they fare."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Protocol

import msgspec
import orjson
from aiohttp import hdrs, web

from lalert.errors import Forbidden
from lalert.hub import Hub
from lalert.model import Role
from lalert.receivers import receiver_json
from lalert.store import MAX_CONFIRMATIONS, Confirmation
from lalert.tenancy import Caller, require
from lalert.web.api import nothing_else, take, whole
from lalert.web.request import identify, read_json

MAX_RECEIVERS = 200
"""Shown at a time."""


class NewAck(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/acks`."""

    position: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Confirmations(Protocol):
    """What keeps confirmations (`receivers.Receivers`)."""

    async def confirm(self, position: str, caller: Caller) -> None: ...

    async def confirmed(self, keys: Collection[str]) -> Mapping[str, Sequence[Confirmation]]: ...


class Connected(Protocol):
    """What knows who listens at this node (`live.Live`)."""

    def connections(self, key_ids: Collection[str]) -> Mapping[str, Sequence[Mapping[str, Any]]]: ...


def routes(hub: Hub, confirmations: Confirmations, connected: Connected) -> list[web.RouteDef]:
    """Return the two routes."""

    async def confirm(request: web.Request) -> web.Response:
        require(identify(request, hub.keyring, hub.clock), Role.RECEIVER)
        body: NewAck = await read_json(request, NewAck)
        # Again: the key may have been revoked while the body came.
        caller = require(identify(request, hub.keyring, hub.clock), Role.RECEIVER)
        await confirmations.confirm(body.position, caller)
        return web.Response(status=204)

    async def receivers(request: web.Request) -> web.Response:
        """A receiver sees itself, an admin every receiver of its organisation."""
        caller = require(identify(request, hub.keyring, hub.clock), Role.RECEIVER, Role.ADMIN)
        own, pairs = take(request, "key", "position", "after", "limit")
        nothing_else(pairs)
        alerts = whole(own, "limit", 10, 0, MAX_CONFIRMATIONS)
        keys = _keys(caller, own.get("key"))
        left = [key for key in keys if key > own.get("after", "")]
        shown = left[:MAX_RECEIVERS]
        found, listening = await confirmations.confirmed(shown), connected.connections(shown)
        body = {
            "receivers": [
                {
                    "key": key,
                    **receiver_json(found[key], alerts, own.get("position")),
                    "connections": listening.get(key, ()),
                }
                for key in shown
            ],
            "next": shown[-1] if len(left) > len(shown) else None,
        }
        headers = {hdrs.CACHE_CONTROL: "no-store"}
        return web.Response(body=orjson.dumps(body) + b"\n", content_type="application/json", headers=headers)

    def _keys(caller: Caller, asked: str | None) -> list[str]:
        assert caller.key is not None
        own = [caller.key.id]
        if caller.role is Role.ADMIN:
            own = sorted(
                key.id for key in hub.keyring.keys_of(caller.key.tenant) if key.role is Role.RECEIVER
            )
        if asked is not None and asked not in own:
            raise Forbidden("key: this is no receiver that you may ask about")
        return own if asked is None else [asked]

    return [web.post("/v1/acks", confirm), web.get("/v1/receivers", receivers)]
