"""`/v1/proposals`: what sensors propose to an organisation's officers, and what they decide."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Protocol

import msgspec
import orjson
from aiohttp import hdrs, web

from lalert import cap
from lalert.errors import BadRequest, NotFound
from lalert.hub import Hub
from lalert.model import Entry, Proposal, Role
from lalert.tenancy import Caller, require
from lalert.texts import hydrograph
from lalert.web.api import MAX_PAGE, SANDBOX, nothing_else, take, whole
from lalert.web.request import identify, read_json

STATES = ("open", "approved", "rejected", "replaced", "withdrawn")


class Rejection(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/proposals/{id}/reject`."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=300, pattern=r"\S")]


class Proposals(Protocol):
    """What keeps proposals and carries out decisions (`sensors.Proposals`)."""

    async def of(self, org: str | None, state: str | None, limit: int) -> list[Proposal]: ...

    async def one(self, org: str | None, proposal_id: str) -> Proposal: ...

    async def sent(self, proposal: Proposal) -> Entry | None: ...

    async def approve(self, proposal_id: str, caller: Caller, remote: str | None) -> tuple[Entry, bool]: ...

    async def reject(self, proposal_id: str, caller: Caller, reason: str) -> Proposal: ...


def routes(hub: Hub, proposals: Proposals) -> list[web.RouteDef]:
    """Return the routes."""

    def reader(request: web.Request) -> Caller:
        return require(identify(request, hub.keyring, hub.clock), Role.SENDER, Role.ADMIN)

    def officer(request: web.Request) -> Caller:
        return require(identify(request, hub.keyring, hub.clock), Role.SENDER)

    async def shown(proposal: Proposal) -> dict[str, Any]:
        return _proposal(proposal, await proposals.sent(proposal), hub.clock.now())

    async def listed(request: web.Request) -> web.Response:
        caller = reader(request)
        own, pairs = take(request, "state", "limit")
        nothing_else(pairs)
        state = own.get("state", "open")
        if state not in (*STATES, "all"):
            raise BadRequest(f"state: {state[:20]!r} is none of {', '.join(STATES)}, all")
        limit = whole(own, "limit", 50, 1, MAX_PAGE)
        found = await proposals.of(caller.audience, None if state == "all" else state, limit)
        return _json({"proposals": [await shown(proposal) for proposal in found]})

    async def single(request: web.Request) -> web.Response:
        caller = reader(request)
        nothing_else(take(request)[1])
        proposal = await proposals.one(caller.audience, request.match_info["id"])
        return _json({**await shown(proposal), "document": proposal.document})

    async def image(request: web.Request) -> web.Response:
        caller = reader(request)
        nothing_else(take(request)[1])
        proposal = await proposals.one(caller.audience, request.match_info["id"])
        for info in cap.parse(proposal.document.encode()).infos:
            drawn = hydrograph.image(info) if info.language == request.match_info["language"] else None
            if drawn is not None:
                headers = {"Content-Security-Policy": SANDBOX, hdrs.CACHE_CONTROL: "no-store"}
                return web.Response(body=drawn, content_type=hydrograph.MEDIA_TYPE, headers=headers)
        raise NotFound("this proposal has no hydrograph")

    async def approve(request: web.Request) -> web.Response:
        caller = officer(request)
        nothing_else(take(request)[1])
        proposal_id = request.match_info["id"]
        entry, fresh = await proposals.approve(proposal_id, caller, request.remote)
        proposal = await proposals.one(caller.audience, proposal_id)
        url = f"/alerts/{entry.alert.id}"
        body = _proposal(proposal, entry, hub.clock.now())
        return _json(body, status=201 if fresh else 200, headers={hdrs.LOCATION: url})

    async def reject(request: web.Request) -> web.Response:
        officer(request)
        nothing_else(take(request)[1])
        body: Rejection = await read_json(request, Rejection)
        # Again: the key may have been revoked while the body came.
        caller = officer(request)
        proposal = await proposals.reject(request.match_info["id"], caller, body.reason.strip())
        return _json(await shown(proposal))

    return [
        web.get("/v1/proposals", listed),
        web.get("/v1/proposals/{id}", single),
        web.get("/v1/proposals/{id}/hydrograph.{language:ja|en}.svg", image),
        web.post("/v1/proposals/{id}/approve", approve),
        web.post("/v1/proposals/{id}/reject", reject),
    ]


def _proposal(proposal: Proposal, sent: Entry | None, now: datetime) -> dict[str, Any]:
    draft = cap.parse(proposal.document.encode())
    return {
        "id": proposal.id,
        "station": proposal.station,
        "state": proposal.state,
        "status": draft.status.value,
        "level": proposal.level,
        "areas": list(proposal.areas),
        "made": _text(proposal.made),
        "age_s": round(((proposal.decided or now) - proposal.made).total_seconds(), 1),
        "headline": proposal.headline,
        "info": [
            {
                "language": info.language,
                "event": info.event,
                "headline": info.headline,
                "description": info.description,
                "instruction": info.instruction,
            }
            for info in draft.infos
        ],
        "evidence": {
            parameter.name: parameter.value
            for parameter in draft.infos[0].parameters
            if parameter.name in ("observed", "received", "level_m", "trend", "rise_m_per_h", "thresholds")
        },
        "hydrograph": f"/v1/proposals/{proposal.id}/hydrograph.ja.svg"
        if hydrograph.read(draft.infos[0])
        else None,
        "continues": [reference.id for reference in draft.references],
        "decided": _text(proposal.decided),
        "by": proposal.by,
        "reason": proposal.reason,
        "alert": sent
        and {
            "position": sent.position,
            "id": sent.alert.id,
            "sender": sent.alert.sender,
            "identifier": sent.alert.identifier,
            "sent": sent.alert.sent_text,
            "url": f"/alerts/{sent.alert.id}",
        },
    }


def _text(when: datetime | None) -> str | None:
    return when.isoformat(timespec="milliseconds") if when else None


def _json(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(body) + b"\n",
        content_type="application/json",
        headers={hdrs.CACHE_CONTROL: "no-store", **(headers or {})},
    )
