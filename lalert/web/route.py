"""`POST /v1/route`, over HTTP for an organisation's senders and on the local socket for whoever runs the hub, and the JSON of its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import hdrs, web

from lalert import cap, matching, texts
from lalert.errors import BadRequest, Problem
from lalert.geo import Gazetteer
from lalert.hub import Foresight, Hub
from lalert.matching import Reason
from lalert.model import SEVERITY_RANK, Entry, Filter, OriginKind, Role
from lalert.route import LISTED, MAX_LISTED, Answer, ChannelReach, Counted, Question, Route, Router, Streams
from lalert.tenancy import Caller, require
from lalert.texts.plain import readable
from lalert.web.api import CORS, TAKEN_TYPES, filter_json, nothing_else, take, whole
from lalert.web.problems import shown_problems
from lalert.web.request import check_type, identify, read_body


def routes(hub: Hub, router: Router) -> list[web.RouteDef]:
    """Return the public route."""

    async def dry_run(request: web.Request) -> web.Response:
        require(identify(request, hub.keyring, hub.clock), Role.SENDER)
        check_type(request, TAKEN_TYPES)
        own, pairs = take(request, "limit", "as")
        nothing_else(pairs)
        raw = await read_body(request, cap.MAX_BYTES)
        # Again, as for a post: the key may have been revoked while the body arrived.
        caller = require(identify(request, hub.keyring, hub.clock), Role.SENDER)
        question = Question(caller.audience, _limit(own), filter_of(own.get("as")))
        route = await router.route(raw, caller, OriginKind.HTTP, question, request.remote)
        return _json(route_json(route, hub.gazetteer, question))

    return [web.post("/v1/route", dry_run)]


def local_routes(router: Router) -> list[web.RouteDef]:
    """Return the route of the local socket, where every target may be shown."""

    async def dry_run(request: web.Request) -> web.Response:
        own, pairs = take(request, "limit", "as", "org")
        nothing_else(pairs)
        raw = await read_body(request, cap.MAX_BYTES)
        return _json(await local_answer(router, raw, own.get("org"), _limit(own), filter_of(own.get("as"))))

    return [web.post("/route", dry_run)]


async def local_answer(
    router: Router, raw: bytes, org: str | None, limit: int, filter: Filter | None
) -> dict[str, Any]:
    """Answer whoever runs the hub, for a document of the organisation that is named or can be told from it; raises what `Router.sender` raises."""
    caller = Caller(router.sender(raw, org))
    question = Question(None, limit, filter)
    route = await router.route(raw, caller, OriginKind.HTTP, question)
    return route_json(route, router.gazetteer, question, caller.audience)


def filter_of(text: str | None) -> Filter | None:
    """Return the filter that stands as a query string in `as`; raises `BadRequest`."""
    if text is None:
        return None
    try:
        return matching.parse_filter(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text)))
    except ValueError as error:
        raise BadRequest("as: must be a filter such as area=43203&min_level=3") from error


def route_json(
    route: Route, gazetteer: Gazetteer, question: Question, org: str | None = None
) -> dict[str, Any]:
    """Return the answer to a dry run, with lists no longer than the question allows; `org` is the organisation that it was judged for."""
    foresight, error = route.foresight, route.error
    problems: Sequence[Problem] = ()
    if foresight is not None:
        found = (*foresight.warnings, *foresight.entry.alert.defects)
        problems = [problem for problem in found if problem.severity in texts.DEFECTS]
        status = 201 if foresight.fresh else 200
    else:
        assert error is not None
        problems, status = shown_problems(error), error.status
    return {
        "accepted": foresight is not None,
        "status": status,
        "code": error.error_code if error else None,
        "detail": error.detail if error else None,
        "problems": [problem.members() for problem in problems],
        "org": org or question.viewer,
        "total": route.total,
        "alert": _alert(foresight.entry, gazetteer, question.limit) if foresight else None,
        "continues": _continues(foresight) if foresight else None,
        "streams": _streams(route.streams, gazetteer, question.limit) if route.streams else None,
        "channels": [_channel(reach, gazetteer, question.limit) for reach in route.channels],
        "feeds": {"total": len(route.feeds), "listed": list(route.feeds[: question.limit])},
        "as": _answer(route.asked) if route.asked else None,
    }


def _alert(entry: Entry, gazetteer: Gazetteer, limit: int) -> dict[str, Any]:
    alert, facts = entry.alert, entry.facts
    gravest = max(alert.infos, key=lambda info: SEVERITY_RANK[info.severity], default=None)
    codes = sorted(facts.codes)
    return {
        "id": alert.id,
        "sender": alert.sender,
        "identifier": alert.identifier,
        "sent": alert.sent_text,
        "status": alert.status.value,
        "mark": texts.marked_word(alert.status),
        "msgType": alert.msg_type.value,
        "scope": alert.scope.value,
        "event": readable(gravest.event) if gravest else None,
        "severity": alert.severity.value,
        "level": facts.level,
        "kind": facts.kind,
        "nowhere": facts.nowhere,
        "codes": len(codes),
        "places": [{"code": code, "name": _name(code, gazetteer)} for code in codes[:limit]],
        "expires": alert.expires.isoformat() if alert.expires else None,
        "over": alert.expires is not None and alert.expires <= entry.received,
        "outdated": entry.outdated,
        "correction": entry.correction,
    }


def _continues(foresight: Foresight) -> dict[str, Any] | None:
    entry = foresight.entry
    if not (foresight.lineage or entry.replaced or entry.incident != entry.alert.id):
        return None
    return {
        "incident": entry.incident,
        "replaces": list(entry.replaced),
        "alerts": [
            {
                "id": earlier.alert.id,
                "identifier": earlier.alert.identifier,
                "msgType": earlier.alert.msg_type.value,
                "sent": earlier.alert.sent_text,
                "url": f"/alerts/{earlier.alert.id}",
            }
            for earlier in foresight.lineage
        ],
    }


def _streams(streams: Streams, gazetteer: Gazetteer, limit: int) -> dict[str, Any]:
    return {
        "total": streams.total,
        "sse": streams.kinds.get("sse", 0),
        "websocket": streams.kinds.get("websocket", 0),
        "by": _counts(streams.counts, gazetteer, limit),
    }


def _channel(reach: ChannelReach, gazetteer: Gazetteer, limit: int) -> dict[str, Any]:
    return {
        "channel": reach.channel,
        "total": reach.total,
        "bar": reach.bar.value if reach.bar else None,
        "yours": reach.shown,
        "by": _counts(reach.counts, gazetteer, limit),
        "listed": [
            {
                "id": told.subscription.id,
                "target": told.subscription.target,
                "filter": filter_json(told.subscription.filter),
                "lang": told.subscription.lang,
                "reasons": [_reason(reason) for reason in told.reasons],
            }
            for told in reach.listed
        ],
    }


def _counts(counts: Sequence[Counted], gazetteer: Gazetteer, limit: int) -> list[dict[str, Any]]:
    return [
        {
            "rule": one.rule.value,
            "area": one.area,
            "name": _name(one.area, gazetteer) if one.area else None,
            "again": one.again,
            "number": one.number,
        }
        for one in counts[:limit]
    ]


def _name(code: str, gazetteer: Gazetteer) -> str | None:
    place = gazetteer.place(code)
    return place.name if place else None


def _answer(asked: Answer) -> dict[str, Any]:
    return {
        "filter": filter_json(asked.filter),
        "wanted": asked.wanted,
        "reasons": [_reason(reason) for reason in asked.reasons],
    }


def _reason(reason: Reason) -> dict[str, str | bool]:
    return {
        "rule": reason.rule.value,
        "again": reason.earlier is not None,
        "en": readable(reason.en),
        "ja": readable(reason.ja),
    }


def _limit(own: Mapping[str, str]) -> int:
    return whole(own, "limit", LISTED, 1, MAX_LISTED)


def _json(body: Mapping[str, Any]) -> web.Response:
    headers = {**CORS, hdrs.CACHE_CONTROL: "no-store"}
    return web.Response(body=orjson.dumps(body) + b"\n", content_type="application/json", headers=headers)
