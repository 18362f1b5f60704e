"""`/v1/channels` and `/v1/canaries`: how the channels fare, and where the far end of one says that a canary has reached it."""

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
    """Return the two routes."""

    async def channels(request: web.Request) -> web.Response:
        require(identify(request, hub.keyring, hub.clock), Role.ADMIN)
        nothing_else(take(request)[1])
        stats, now = hub.dispatcher.by_channel(), hub.clock.now()
        shown = [
            {
                "name": name,
                "drill_safe": channel.drill_safe,
                "health": _health(channel),
                "canary": _canary(canaries.record(name), canaries.schedules.get(name), now),
                "deliveries": asdict(stats[name]),
            }
            for name, channel in sorted(hub.channels.items())
        ]
        headers = {hdrs.CACHE_CONTROL: "no-store"}
        body = orjson.dumps({"channels": shown}) + b"\n"
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def answer(request: web.Request) -> web.Response:
        """Take it from whoever has the token: nobody else knows it, and nothing but this one check is said with it."""
        await canaries.answered(request.match_info["token"])
        return web.Response(status=204)

    return [web.get("/v1/channels", channels), web.post("/v1/canaries/{token}", answer)]


def _health(channel: Channel) -> dict[str, Any] | None:
    if not isinstance(channel, Healthy):
        return None
    try:
        return asdict(channel.health())
    except Exception as error:  # noqa: BLE001  # a stranger's defect may not hide how the others fare
        return {"ok": False, "detail": f"the adapter cannot say: {type(error).__name__}"}


def _canary(record: Record | None, schedule: Schedule | None, now: datetime) -> dict[str, Any] | None:
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


def _text(when: datetime | None) -> str | None:
    return when.isoformat(timespec="milliseconds") if when else None
