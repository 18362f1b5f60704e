"""`/v1`: alerts in and out, subscriptions, readings. Each handler reads the request, asks the hub, and writes the answer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Protocol

import msgspec
import orjson
from aiohttp import hdrs, web

from lalert import cap, matching, texts, uplinks
from lalert.errors import BadRequest, Conflict, Forbidden, LalertError, NotFound
from lalert.geo import normalise_code
from lalert.hub import Hub
from lalert.model import Alert, Entry, Filter, OriginKind, Role, Subscription
from lalert.plugin import Observed
from lalert.scores import Cards, cards_json
from lalert.store import MAX_DAYS, Attempt, DeliveryRow, DeliveryState
from lalert.store.audit import NOBODY, Actor, ActorKind
from lalert.tenancy import ANONYMOUS, Caller, require
from lalert.web.health import Metrics
from lalert.web.request import check_type, identify, preferred, read_body, read_json

CAP_TYPES = ("application/cap+xml", "application/xml", "text/xml")
TAKEN_TYPES = (*CAP_TYPES, cap.EDXL_TYPE)
JSON, GEOJSON, CSV = "application/json", "application/geo+json", "text/csv"
MAX_READINGS_BYTES = 262_144
MAX_UPLINK_BYTES = 65_536
MAX_PAGE = 500
MAX_STATIONS = 1_000

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2_048)]
_Values = str | int | float | list[str | int | float]


class NewSubscription(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/subscriptions`; `filter` holds the same names and values as the query of a stream."""

    channel: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    target: _Text
    filter: dict[str, _Values] = {}
    format: str = "json"
    lang: Annotated[str, msgspec.Meta(max_length=35)] | None = None
    options: dict[str, Annotated[str, msgspec.Meta(max_length=1_024)]] = {}


class Redelivery(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/subscriptions/{id}/redeliver`."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] | None = None
    state: Annotated[str, msgspec.Meta(max_length=20)] | None = None
    """`dead` or `expired`: all of them among the newest `MAX_PAGE`."""


class Overview(Protocol):
    """The stations that matter most, of how many, and how many of those are without data."""

    @property
    def rows(self) -> list[dict[str, Any]]: ...
    @property
    def total(self) -> int: ...
    @property
    def silent(self) -> int: ...


class Stations(Protocol):
    """What the API shows of sensors: JSON-ready values, made by the sensors part."""

    async def stations(
        self, *, org: str | None = None, code: str | None = None, after: str = "", limit: int | None = None
    ) -> list[dict[str, Any]]: ...

    async def gravest(self, code: str | None, limit: int) -> Overview: ...

    async def station(self, name: str) -> dict[str, Any] | None: ...

    async def history(self, station: str, limit: int) -> list[dict[str, Any]]: ...


class Scorecards(Protocol):
    """What counts each sender's documents."""

    async def cards(self, org: str | None, sender: str | None, days: int) -> Cards: ...


class Api:
    """The handlers of `/v1`, over one hub."""

    def __init__(self, hub: Hub, stations: Stations, metrics: Metrics, scores: Scorecards) -> None:
        self._hub = hub
        self._stations = stations
        self._metrics = metrics
        self._scores = scores

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/alerts", self.submit),
            web.get("/v1/alerts", self.alerts),
            web.get("/v1/alerts/{position}", self.by_position),
            web.get("/alerts/{id}", self.by_id),
            web.post("/v1/readings", self.observe),
            web.post("/v1/uplinks/{network}", self.take_uplink),
            web.get("/v1/devices", self.devices),
            web.get("/v1/certificate", self.certificate),
            web.get("/v1/stations", self.list_stations),
            web.get("/v1/stations/{id}", self.station),
            web.get("/v1/stations/{id}/readings", self.station_readings),
            web.post("/v1/subscriptions", self.subscribe),
            web.get("/v1/subscriptions", self.subscriptions),
            web.get("/v1/subscriptions/{id}", self.subscription),
            web.delete("/v1/subscriptions/{id}", self.unsubscribe),
            web.post("/v1/subscriptions/{id}/test", self.send_test),
            web.get("/v1/subscriptions/{id}/deliveries", self.deliveries),
            web.get("/v1/subscriptions/{id}/deliveries/{key}", self.delivery),
            web.post("/v1/subscriptions/{id}/redeliver", self.redeliver),
            web.get("/v1/scorecards", self.scorecards),
        ]

    def _caller(self, request: web.Request) -> Caller:
        return identify(request, self._hub.keyring, self._hub.clock)

    def _permitted(self, request: web.Request, *roles: Role) -> Caller:
        """Return the caller if its key has one of `roles`.

        Asked before a body is read and again after it: a body may take half a minute to arrive, and a key revoked meanwhile is good for nothing.
        """
        return require(self._caller(request), *roles)

    async def submit(self, request: web.Request) -> web.Response:
        try:
            raw, caller = await self._admitted(request)
            with self._metrics.submit_seconds.time():
                receipt = await self._hub.submit(raw, caller, OriginKind.HTTP, request.remote)
        except LalertError as error:
            self._metrics.refused.labels(error.error_code).inc()
            raise
        alert = receipt.entry.alert
        url = f"/alerts/{alert.id}"
        body: dict[str, Any] = {
            "position": receipt.entry.position,
            "sender": alert.sender,
            "identifier": alert.identifier,
            "sent": alert.sent_text,
            "url": url,
        }
        serious = [p for p in (*receipt.warnings, *alert.defects) if p.severity in texts.DEFECTS]
        if serious:
            body["problems"] = [problem.members() for problem in serious]
        if receipt.fresh:
            self._metrics.accepted.labels(alert.status.value).inc()
        return _json(body, status=201 if receipt.fresh else 200, headers={hdrs.LOCATION: url})

    async def _admitted(self, request: web.Request) -> tuple[bytes, Caller]:
        """Return a document that may be looked at, and who sends it."""
        caller = ANONYMOUS
        try:
            caller = self._caller(request)
            require(caller, Role.SENDER)
            check_type(request, TAKEN_TYPES)
            raw = await read_body(request, cap.MAX_BYTES)
            return raw, self._permitted(request, Role.SENDER)
        except LalertError as error:
            self._hub.turned_away(error, caller, OriginKind.HTTP, request.remote)
            raise

    async def alerts(self, request: web.Request) -> web.Response:
        caller = self._caller(request)
        media = preferred(request, (JSON, GEOJSON))
        own, pairs = take(request, "active", "after", "limit", "lang", "format")
        wanted = matching.parse_filter(pairs)
        limit = whole(own, "limit", 100, 1, MAX_PAGE)
        lang, with_cap = own.get("lang"), _format(own) == "cap"
        if flag(own, "active"):
            most = limit if "limit" in own else None
            page = await self._hub.active(wanted, caller.audience, own.get("after"), most)
        else:
            page = await self._hub.page(wanted, caller.audience, own.get("after"), limit)
        if media == GEOJSON:
            features = await asyncio.to_thread(_made, page.entries, texts.alert_geojson)
            # Members of its own may stand beside those of the standard (RFC 7946, 6.1).
            return _geojson({"type": "FeatureCollection", "features": features, "next": page.next})
        shown = partial(texts.alert_json, lang=lang, with_cap=with_cap)
        return _json({"alerts": await _each(page.entries, shown), "next": page.next}, headers=VARY)

    async def by_position(self, request: web.Request) -> web.Response:
        entry = await self._hub.entry(request.match_info["position"], self._caller(request).audience)
        return await self._one(request, entry)

    async def by_id(self, request: web.Request) -> web.Response:
        entry = await self._hub.find(request.match_info["id"], self._caller(request).audience)
        return await self._one(request, entry)

    @staticmethod
    async def _one(request: web.Request, entry: Entry) -> web.Response:
        own, pairs = take(request, "lang", "format")
        nothing_else(pairs)
        media = preferred(request, (*CAP_TYPES, JSON, GEOJSON, cap.EDXL_TYPE))
        if media == JSON:
            shown = partial(texts.alert_json, lang=own.get("lang"), with_cap=_format(own) == "cap")
            return _json((await _each([entry], shown))[0], headers=VARY)
        if media == GEOJSON:
            [feature] = await asyncio.to_thread(_made, [entry], texts.alert_geojson)
            return _geojson(feature)
        # Byte for byte as received: a signature made by the sender still verifies at the reader. The bytes are a stranger's, and a
        # browser runs an XHTML script inside a ds:Object, or a style sheet that is named, as this site's own: hence the sandbox.
        headers = {**VARY, **CORS} | {"Content-Security-Policy": SANDBOX, "Content-Type": media}
        return web.Response(body=await _document(entry.alert, media), headers=headers)

    async def observe(self, request: web.Request) -> web.Response:
        self._permitted(request, Role.SENSOR)
        check_type(request, (JSON, CSV))
        raw = await read_body(request, MAX_READINGS_BYTES)
        form = "csv" if request.content_type == CSV else "json"
        org, only = self._observer(request)
        observed = await self._hub.take(form, raw, org, only=only)
        self._count(observed)
        rejected = [{"index": index, "code": code} for index, code in observed.rejected]
        return _json({"accepted": observed.accepted, "duplicate": observed.duplicate, "rejected": rejected})

    async def take_uplink(self, request: web.Request) -> web.Response:
        self._permitted(request, Role.SENSOR)
        network = request.match_info["network"]
        if network not in uplinks.NETWORKS:
            raise NotFound(f"network: {network[:20]!r} is none of {', '.join(uplinks.NETWORKS)}")
        own, pairs = take(request, "event")
        nothing_else(pairs)
        check_type(request, (JSON,))
        raw = await read_body(request, MAX_UPLINK_BYTES)
        org, only = self._observer(request)
        observed = await self._hub.take(network, raw, org, only=only, event=own.get("event", "up"))
        self._count(observed)
        rejected = [
            {"index": index, "code": code, "detail": observed.details.get(index, "")}
            for index, code in observed.rejected
        ]
        return _json({"accepted": observed.accepted, "duplicate": observed.duplicate, "rejected": rejected})

    async def devices(self, request: web.Request) -> web.Response:
        """How the caller's own devices and gateways are; how to silence somebody's gauge is for nobody else."""
        tenant = self._permitted(request, Role.SENDER, Role.ADMIN).tenant
        assert tenant is not None
        _, pairs = take(request)
        nothing_else(pairs)
        heard = self._hub.heard
        body = {
            "devices": [_heard_json(one) for one in heard.devices(tenant.id)],
            "gateways": [
                {"id": one.id, "time": one.time.isoformat(timespec="seconds"), "device": one.device}
                for one in heard.gateways(tenant.id)
            ],
        }
        return _json(body, headers={hdrs.CACHE_CONTROL: "no-store"})

    def _observer(self, request: web.Request) -> tuple[str, Sequence[str]]:
        """Return the organisation whose readings these are, and the stations that the key is limited to; asked again when the body has come."""
        caller = self._permitted(request, Role.SENSOR)
        assert caller.tenant is not None
        assert caller.key is not None
        return caller.tenant.id, caller.key.stations

    def _count(self, observed: Observed) -> None:
        for outcome, count in (
            ("accepted", observed.accepted),
            ("duplicate", observed.duplicate),
            ("rejected", len(observed.rejected)),
        ):
            self._metrics.readings.labels(outcome).inc(count)

    async def certificate(self, request: web.Request) -> web.Response:
        self._caller(request)
        return web.Response(text=await self._hub.certificate(), content_type="application/x-pem-file")

    async def list_stations(self, request: web.Request) -> web.Response:
        self._caller(request)
        own, pairs = take(request, "area", "org", "after", "limit")
        nothing_else(pairs)
        limit = whole(own, "limit", MAX_STATIONS, 1, MAX_STATIONS)
        code = normalise_code(own["area"]) if "area" in own else None
        page = await self._stations.stations(
            org=own.get("org"), code=code, after=own.get("after", ""), limit=limit
        )
        following = page[-1]["id"] if len(page) == limit else None
        return _json({"stations": page, "next": following}, headers=CORS)

    async def station(self, request: web.Request) -> web.Response:
        self._caller(request)
        return _json(await self._station(request.match_info["id"]))

    async def station_readings(self, request: web.Request) -> web.Response:
        caller = self._caller(request)
        own, pairs = take(request, "limit")
        nothing_else(pairs)
        station = await self._station(request.match_info["id"])
        limit = whole(own, "limit", 144, 1, 1_000)
        readings = await self._stations.history(station["id"], limit)
        if caller.audience != station["org"]:
            # Who stood at the river is for their own organisation to know.
            readings = [{name: each[name] for name in each if name != "by"} for each in readings]
        return _json({"station": station["id"], "readings": readings})

    async def _station(self, station_id: str) -> dict[str, Any]:
        station = await self._stations.station(station_id)
        if station is None:
            raise NotFound("there is no such station; GET /v1/stations lists them")
        return station

    async def subscribe(self, request: web.Request) -> web.Response:
        self._permitted(request, Role.RECEIVER, Role.ADMIN)
        body: NewSubscription = await read_json(request, NewSubscription)
        caller = self._permitted(request, Role.RECEIVER, Role.ADMIN)
        if body.format not in ("json", "cap"):
            raise BadRequest(f"format: {body.format[:20]!r} must be json or cap")
        subscription = Subscription(
            id="sub-" + secrets.token_hex(8),
            channel=body.channel,
            target=body.target,
            filter=matching.parse_filter(_pairs(body.filter)),
            created=self._hub.clock.now(),
            tenant=caller.audience,
            format=body.format,
            lang=body.lang,
            options=body.options,
        )
        kept = await self._hub.subscribe(subscription, actor(caller))
        # The one time that options are shown: among them may be a secret that the channel has just made.
        body_of = _subscription_json(kept) | {"options": dict(kept.options)}
        return _json(body_of, status=201, headers={hdrs.LOCATION: f"/v1/subscriptions/{kept.id}"})

    async def subscriptions(self, request: web.Request) -> web.Response:
        caller = require(self._caller(request), Role.RECEIVER, Role.ADMIN)
        return _json({"subscriptions": [_subscription_json(s) for s in await self._own(caller)]})

    async def subscription(self, request: web.Request) -> web.Response:
        return _json(_subscription_json(await self._mine(request)))

    async def unsubscribe(self, request: web.Request) -> web.Response:
        await self._hub.unsubscribe(await self._mine(request), actor(self._caller(request)))
        return web.Response(status=204)

    async def send_test(self, request: web.Request) -> web.Response:
        trial = await self._hub.send_test(await self._mine(request), actor(self._caller(request)))
        body = {
            "key": trial.key,
            "state": trial.state.value,
            "detail": trial.detail,
            "took_ms": round(1_000 * trial.took, 1),
            "request": trial.request,
            "response": trial.response,
        }
        return _json(body, headers={hdrs.CACHE_CONTROL: "no-store"})

    async def deliveries(self, request: web.Request) -> web.Response:
        own, pairs = take(request, "limit", "state")
        nothing_else(pairs)
        subscription = await self._mine(request)
        limit, state = whole(own, "limit", 100, 1, MAX_PAGE), _state(own.get("state"))
        if state is None:
            rows = await self._hub.dispatcher.history(subscription.id, limit)
        else:
            rows = (await self._of_state(subscription, state))[:limit]
        return _json({"deliveries": [_delivery_json(row) for row in rows]})

    async def delivery(self, request: web.Request) -> web.Response:
        row = await self._own_row(await self._mine(request), request.match_info["key"])
        attempts = await self._hub.dispatcher.attempts(row.key)
        body = {**_delivery_json(row), "tries": [_attempt_json(attempt) for attempt in attempts]}
        return _json(body, headers={hdrs.CACHE_CONTROL: "no-store"})

    async def redeliver(self, request: web.Request) -> web.Response:
        await self._mine(request)
        body: Redelivery = await read_json(request, Redelivery)
        subscription, by = await self._mine(request), actor(self._caller(request))
        if (body.key is None) == (body.state is None):
            raise BadRequest("body: give either key or state")
        if body.key is not None:
            await self._hub.redeliver(await self._own_row(subscription, body.key), subscription, by)
            return web.Response(status=202)
        state = _state(body.state)
        if state not in (DeliveryState.DEAD, DeliveryState.EXPIRED):
            raise BadRequest("state: only what is dead or expired is delivered again all at once")
        repeated: list[str] = []
        refused: list[dict[str, str]] = []
        # The oldest first, as it would have come.
        for row in reversed(await self._of_state(subscription, state)):
            # Each takes a write or two, and there may be hundreds: a key revoked meanwhile sends none of the rest.
            self._permitted(request, Role.RECEIVER, Role.ADMIN)
            try:
                await self._hub.redeliver(row, subscription, by)
                repeated.append(row.key)
            except (NotFound, Conflict) as error:
                refused.append({"key": row.key, "detail": error.detail})
        return _json({"repeated": repeated, "refused": refused}, status=202)

    async def _of_state(self, subscription: Subscription, state: DeliveryState) -> list[DeliveryRow]:
        """Return the deliveries at a state among the newest, newest first."""
        rows = await self._hub.dispatcher.history(subscription.id, MAX_PAGE)
        return [row for row in rows if row.state is state]

    async def _own_row(self, subscription: Subscription, key: str) -> DeliveryRow:
        row = await self._hub.store.delivery(key)
        if row is None or row.subscription != subscription.id:
            raise NotFound("this subscription has no delivery with that key")
        return row

    async def scorecards(self, request: web.Request) -> web.Response:
        """How the caller's own organisation fares; what is written about somebody's mistakes is for nobody else."""
        caller = self._permitted(request, Role.SENDER, Role.ADMIN)
        assert caller.tenant is not None
        own, pairs = take(request, "org", "sender", "days")
        nothing_else(pairs)
        org = own.get("org", caller.tenant.id)
        if org != caller.tenant.id:
            raise Forbidden("org: a key sees the scorecards of its own organisation only")
        found = await self._scores.cards(org, own.get("sender"), whole(own, "days", 30, 1, MAX_DAYS))
        return _json(cards_json(found, {org: caller.tenant.name}), headers={hdrs.CACHE_CONTROL: "no-store"})

    async def _own(self, caller: Caller) -> list[Subscription]:
        return [s for s in await self._hub.dispatcher.subscriptions() if s.tenant == caller.audience]

    async def _mine(self, request: web.Request) -> Subscription:
        caller = require(self._caller(request), Role.RECEIVER, Role.ADMIN)
        try:
            subscription = await self._hub.dispatcher.subscription(request.match_info["id"])
        except NotFound:
            subscription = None
        if subscription is None or subscription.tenant != caller.audience:
            raise NotFound("you have no such subscription")
        return subscription


def actor(caller: Caller) -> Actor:
    """Return who calls, as the audit chain names them."""
    return Actor(ActorKind.KEY, caller.key.id) if caller.key is not None else NOBODY


async def _document(alert: Alert, media: str) -> bytes:
    if media != cap.EDXL_TYPE:
        return alert.raw
    if alert.large:
        return await asyncio.to_thread(cap.wrap, alert)
    return cap.wrap(alert)


async def _each(entries: Sequence[Entry], shown: Callable[[Entry], dict[str, Any]]) -> list[orjson.Fragment]:
    """Return each entry as JSON of what is shown of it; where one is large, all are made in a thread."""
    if any(entry.large for entry in entries):
        return await asyncio.to_thread(_made, entries, shown)
    return _made(entries, shown)


def _made(entries: Sequence[Entry], shown: Callable[[Entry], dict[str, Any]]) -> list[orjson.Fragment]:
    return [orjson.Fragment(orjson.dumps(shown(entry))) for entry in entries]


SANDBOX = "default-src 'none'; sandbox"
CORS: Mapping[str, str] = {"Access-Control-Allow-Origin": "*"}
VARY: Mapping[str, str] = {hdrs.VARY: hdrs.ACCEPT}


def take(request: web.Request, *names: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return the query's own parameters among `names`, and the other pairs in order; raises `BadRequest` for one given twice."""
    own: dict[str, str] = {}
    rest: list[tuple[str, str]] = []
    for name, value in request.query.items():
        if name not in names:
            rest.append((name, value))
        elif name in own:
            raise BadRequest(f"{name}: stands twice")
        else:
            own[name] = value
    return own, rest


def nothing_else(pairs: Sequence[tuple[str, str]]) -> None:
    if pairs:
        raise BadRequest(f"{pairs[0][0][:50]}: unknown parameter here")


def whole(own: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = own.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise BadRequest(f"{name}: {text[:20]!r} must be a whole number from {low} to {high}")
    return int(text)


def flag(own: Mapping[str, str], name: str) -> bool:
    text = own.get(name, "false")
    if text not in ("true", "false"):
        raise BadRequest(f"{name}: {text[:20]!r} must be true or false")
    return text == "true"


def _format(own: Mapping[str, str]) -> str:
    text = own.get("format", "json")
    if text not in ("json", "cap"):
        raise BadRequest(f"format: {text[:20]!r} must be json or cap")
    return text


def _pairs(filter: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in filter.items():
        pairs += [(name, str(item)) for item in (value if isinstance(value, list) else [value])]
    return pairs


def _heard_json(heard: uplinks.Heard) -> dict[str, Any]:
    battery = heard.battery
    return {
        "id": heard.device,
        "station": heard.station,
        "time": heard.time.isoformat(timespec="seconds"),
        "battery": {"worth": battery.worth, "unit": battery.unit, "low": battery.low} if battery else None,
        "rssi": heard.rssi,
    }


def filter_json(filter: Filter) -> dict[str, list[str]]:
    """Return a filter as the body of `POST /v1/subscriptions` takes it."""
    wanted: dict[str, list[str]] = {}
    for name, value in matching.filter_pairs(filter):
        wanted.setdefault(name, []).append(value)
    return wanted


def _subscription_json(subscription: Subscription) -> dict[str, Any]:
    """Return what may be shown of a subscription: never its options, which hold its secret."""
    return {
        "id": subscription.id,
        "channel": subscription.channel,
        "target": subscription.target,
        "filter": filter_json(subscription.filter),
        "format": subscription.format,
        "lang": subscription.lang,
        "created": subscription.created.isoformat(timespec="seconds"),
    }


def _state(text: str | None) -> DeliveryState | None:
    if text is None:
        return None
    try:
        return DeliveryState(text)
    except ValueError:
        raise BadRequest(f"state: {text[:20]!r} is none of {', '.join(DeliveryState)}") from None


def _attempt_json(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "began": attempt.began.isoformat(timespec="milliseconds"),
        "took_ms": round(1_000 * attempt.took, 1),
        "state": attempt.state.value,
        "detail": attempt.detail,
        "request": attempt.request,
        "response": attempt.response,
    }


def _delivery_json(row: DeliveryRow) -> dict[str, Any]:
    return {
        "key": row.key,
        "position": row.position,
        "state": row.state.value,
        "attempts": row.attempts,
        "due": row.due.isoformat(timespec="milliseconds") if row.due else None,
        "detail": row.detail,
        "updated": row.updated.isoformat(timespec="milliseconds"),
        "confirmed": row.confirmed.isoformat(timespec="milliseconds") if row.confirmed else None,
    }


def _json(
    body: Mapping[str, Any] | orjson.Fragment, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(body) + b"\n", content_type=JSON, headers={**CORS, **(headers or {})}
    )


def _geojson(body: Mapping[str, Any] | orjson.Fragment) -> web.Response:
    return web.Response(body=orjson.dumps(body) + b"\n", content_type=GEOJSON, headers={**CORS, **VARY})
