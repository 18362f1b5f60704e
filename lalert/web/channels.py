"""`/v1/channels` and `/v1/canaries`: which channels there are and whether they are well, and where the far end of one says that a canary has reached it.

What a channel says of its far end, and how much goes through it, is all organisations' together: that is for whoever runs the hub, over the local socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Protocol

import orjson
from aiohttp import hdrs, web

from lalert.channel_canary import Record, Schedule
from lalert.hub import Hub
from lalert.model import Role
from lalert.plugin import Channel, Healthy
from lalert.tenancy import require
from lalert.web.api import nothing_else, take
from lalert.web.request import identify


class Canaries(Protocol):
    """What knows how the canaries of channels fared (`channel_canary.ChannelCanaries`)."""

    @property
    def schedules(self) -> Mapping[str, Schedule]: ...

    def record(self, channel: str) -> Record | None: ...

    async def answered(self, token: str) -> None: ...


def routes(hub: Hub, canaries: Canaries) -> list[web.RouteDef]:
    """Return the two public routes."""

    async def channels(request: web.Request) -> web.Response:
        require(identify(request, hub.keyring, hub.clock), Role.ADMIN)
        nothing_else(take(request)[1])
        now = hub.clock.now()
        shown = [_outline(name, channel, canaries, now) for name, channel in sorted(hub.channels.items())]
        return _json({"channels": shown})

    async def answer(request: web.Request) -> web.Response:
        """Take it from whoever has the token: nobody else knows it, and nothing but this one check is said with it."""
        await canaries.answered(request.match_info["token"])
        return web.Response(status=204)

    return [web.get("/v1/channels", channels), web.post("/v1/canaries/{token}", answer)]


def local_routes(hub: Hub, canaries: Canaries) -> list[web.RouteDef]:
    """Return what the local socket answers: everything that is known of each channel."""

    async def channels(request: web.Request) -> web.Response:
        stats, now = hub.dispatcher.by_channel(), hub.clock.now()
        shown = [
            {
                "name": name,
                "drill_safe": channel.drill_safe,
                "health": _health(channel),
                "canary": _canary(canaries, name, now),
                "deliveries": asdict(stats[name]),
            }
            for name, channel in sorted(hub.channels.items())
        ]
        return _json({"channels": shown})

    return [web.get("/channels", channels)]


def _outline(name: str, channel: Channel, canaries: Canaries, now: datetime) -> dict[str, Any]:
    health, canary = _health(channel), _canary(canaries, name, now)
    return {
        "name": name,
        "drill_safe": channel.drill_safe,
        "ok": health and health["ok"],
        "canary": canary and {member: canary[member] for member in ("well", "age_s")},
    }


def _health(channel: Channel) -> dict[str, Any] | None:
    if not isinstance(channel, Healthy):
        return None
    try:
        return asdict(channel.health())
    except Exception as error:  # noqa: BLE001  # a stranger's defect may not hide how the others fare
        return {"ok": False, "detail": f"the adapter cannot say: {type(error).__name__}"}


def _canary(canaries: Canaries, channel: str, now: datetime) -> dict[str, Any] | None:
    record, schedule = canaries.record(channel), canaries.schedules.get(channel)
    if record is None or schedule is None:
        return None
    last = record.last
    return {
        "well": record.well(now, schedule),
        "age_s": round(record.age(now), 1),
        "arrived": _text(record.arrived),
        "missed_since": _text(record.missed_since),
        "last": last
        and {
            "began": _text(last.began),
            "sighting": last.sighting,
            "took_s": round(last.took, 3),
            "detail": last.detail,
        },
        "every_s": schedule.every,
        "within_s": schedule.within,
        "observe": schedule.observe,
    }


def _json(body: dict[str, Any]) -> web.Response:
    headers = {hdrs.CACHE_CONTROL: "no-store"}
    return web.Response(body=orjson.dumps(body) + b"\n", content_type="application/json", headers=headers)


def _text(when: datetime | None) -> str | None:
    return when.isoformat(timespec="milliseconds") if when else None
