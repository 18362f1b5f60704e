"""`/v1/checklist`: what people have to do for the alerts in force, and the ticks that they have."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
import orjson
from aiohttp import hdrs, web

from lalert import texts
from lalert.checklist import Checklist, Item
from lalert.errors import BadRequest, Forbidden
from lalert.hub import Hub
from lalert.model import Role, Status
from lalert.store.audit import Action
from lalert.tenancy import Caller, require
from lalert.web.api import actor, nothing_else, take
from lalert.web.request import identify, read_json


class Tick(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/checklist/{key}`: who did it, when (now where it is left out), and what there is to say of it."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=60, pattern=r"\S")]
    at: datetime | None = None
    note: Annotated[str, msgspec.Meta(max_length=80)] = ""


def routes(hub: Hub, checklist: Checklist) -> list[web.RouteDef]:
    """Return the two routes."""

    def permitted(request: web.Request) -> Caller:
        return require(identify(request, hub.keyring, hub.clock), Role.SENDER, Role.ADMIN)

    async def items(request: web.Request) -> web.Response:
        caller = permitted(request)
        own, pairs = take(request, "state", "lang")
        nothing_else(pairs)
        if own.get("state", "open") not in ("open", "all"):
            raise BadRequest("state: must be open or all")
        found = await checklist.items(caller.audience, everything=own.get("state") == "all")
        now, lang = hub.clock.now(), own.get("lang")
        return _json({"items": [_item(item, now, lang) for item in found]})

    async def tick(request: web.Request) -> web.Response:
        permitted(request)
        body: Tick = await read_json(request, Tick)
        # Again: the key may have been revoked while the body came.
        caller = permitted(request)
        if not body.name.isprintable() or not body.note.isprintable():
            raise BadRequest("name, note: must be one line of printable characters")
        if body.at is not None and body.at.tzinfo is None:
            raise BadRequest("at: must have an offset, such as 2026-06-03T10:20:00+09:00")
        item = await checklist.item(caller.audience, request.match_info["key"])
        drill = item.entry.alert.status in (Status.EXERCISE, Status.TEST)
        if caller.key is not None and caller.key.exercise_only and not drill:
            raise Forbidden("this key is for drills only", code="exercise-only-key")
        await checklist.tick(item, body.name.strip(), body.at, body.note.strip())
        org, details = caller.audience or "", {"channel": item.subscription.channel}
        await hub.audit.note(Action.TICKED, item.key, by=actor(caller), org=org, details=details)
        done = await checklist.item(caller.audience, item.key)
        return _json(_item(done, hub.clock.now(), None))

    return [web.get("/v1/checklist", items), web.post("/v1/checklist/{key}", tick)]


def _item(item: Item, now: datetime, lang: str | None) -> dict[str, Any]:
    alert = item.entry.alert
    text = texts.alert_text(alert, lang, correction=item.entry.correction)
    return {
        "key": item.key,
        "channel": item.subscription.channel,
        "subscription": item.subscription.id,
        "task": item.subscription.target,
        "state": item.state,
        "since": item.since.isoformat(timespec="milliseconds"),
        "age_s": round(((item.ticked or now) - item.since).total_seconds(), 1),
        "ticked": item.ticked.isoformat(timespec="milliseconds") if item.ticked else None,
        "words": item.words,
        "alert": {
            "id": alert.id,
            "position": item.entry.position,
            "url": f"/alerts/{alert.id}",
            "status": alert.status,
            "msgType": alert.msg_type,
            "title": text.title,
            "body": text.body,
        },
    }


def _json(body: dict[str, Any]) -> web.Response:
    headers = {hdrs.CACHE_CONTROL: "no-store"}
    return web.Response(body=orjson.dumps(body) + b"\n", content_type="application/json", headers=headers)
