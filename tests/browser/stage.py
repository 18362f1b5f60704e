"""A stand-in for a hub, made of the real pages and a stream that does what a test says: lose its listeners, refuse them, forget positions."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from aiohttp import web

from lalert import resources
from lalert.clock import SystemClock
from lalert.errors import Forbidden
from lalert.geo import Gazetteer
from lalert.matching import parse_filter
from lalert.model import (
    Alert,
    Certainty,
    Entry,
    Facts,
    Filter,
    Info,
    MsgType,
    Origin,
    OriginKind,
    Role,
    Scope,
    Severity,
    Status,
    Urgency,
)
from lalert.sensors.engine import Overview
from lalert.web.pages import Claimed, MadeKey, Pages, SetupForm, Site
from lalert.web.problems import middleware

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from lalert.web.pages import Context

TOKEN = "token-of-the-first-set-up"
HITOYOSHI = "432032"


def info(**overrides: Any) -> dict[str, Any]:
    """Return one info of an alert's JSON: an evacuation order of 人吉市 unless told otherwise."""
    now = datetime.now(UTC)
    return {
        "language": "ja",
        "category": ["Met"],
        "event": "避難指示",
        "urgency": "Immediate",
        "severity": "Severe",
        "certainty": "Likely",
        "effective": None,
        "onset": None,
        "expires": (now + timedelta(hours=6)).isoformat(),
        "senderName": "人吉市",
        "headline": "球磨川沿いの地区に避難指示を発令しました",
        "description": "球磨川の水位が氾濫危険水位を超え、さらに上昇しています。",
        "instruction": "ただちに危険な場所から避難してください。",
        "web": None,
        "parameters": [],
        "resources": [],
        "areas": [area()],
    } | overrides


def area(name: str = "人吉市 下薩摩瀬町", **overrides: Any) -> dict[str, Any]:
    return {"areaDesc": name, "polygons": [], "circles": [], "geocodes": []} | overrides


def alert(number: int = 1, **overrides: Any) -> dict[str, Any]:
    """Return the JSON of an alert as INTERFACE names its members; `number` makes its identity, incident and time."""
    identity = hashlib.sha256(str(number).encode()).hexdigest()[:32]
    moment = datetime.now(UTC) - timedelta(minutes=20) + timedelta(seconds=number)
    return {
        "position": "",
        "id": identity,
        "received": moment.isoformat(timespec="milliseconds"),
        "stored": moment.isoformat(timespec="milliseconds"),
        "sender": "bousai@hitoyoshi.example",
        "identifier": f"alert-{number}",
        "sent": moment.astimezone().isoformat(timespec="seconds"),
        "status": "Actual",
        "msgType": "Alert",
        "scope": "Public",
        "references": [],
        "info": [info()],
        "level": 4,
        "kind": "evacuation",
        "codes": [HITOYOSHI],
        "bbox": [130.72, 32.18, 130.8, 32.24],
        "defects": [],
        "changes": None,
        "reason": None,
        "correction": False,
        "replaced": [],
        "outdated": False,
        "mark": None,
        "incident": f"incident-{number}",
        "url": f"/alerts/{identity}",
    } | overrides


def drill(number: int = 50, **overrides: Any) -> dict[str, Any]:
    """Return an exercise, its texts marked as the hub marks them."""
    marked = info(headline="【訓練】避難指示を発令しました", instruction="【訓練】避難してください。")
    return alert(number, **{"status": "Exercise", "mark": "訓練", "info": [marked]} | overrides)


@cache
def _gazetteer() -> Gazetteer:
    return Gazetteer.from_csv(resources.gazetteer_csv(), resources.former_codes_csv())


@dataclass
class Hub:
    """The pages' context and the scripted stream in one. What `emit` tells is in force until `cancel` or its expiry."""

    site: Site = field(
        default_factory=lambda: Site("人吉・球磨 防災情報ハブ", attribution="市区町村の一覧: 試験用")
    )
    base_url: str = "http://hub.example"
    clock: SystemClock = field(default_factory=SystemClock)
    log: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    listeners: set[asyncio.Queue[bytes | None]] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    snapshots: int = 0
    refusing: int | None = None
    token: str | None = TOKEN
    heartbeat_s: float = 0.5
    epoch: str = "e1"
    gazetteer: Gazetteer = field(default_factory=_gazetteer)
    more: list[web.RouteDef] = field(default_factory=list)
    gauges: list[dict[str, Any]] = field(default_factory=list)
    """Routes of adapters."""

    def parse_filter(self, pairs: Iterable[tuple[str, str]]) -> Filter:
        return parse_filter(pairs)

    async def active(self, filter: Filter) -> Active:
        entries = tuple(_entry(data) for data in self.in_force(filter))
        return Active(entries, self.newest)

    def alert_json(self, entry: Entry) -> Mapping[str, Any]:
        return next(data for position, data in self.log if position == entry.position)

    def place(self, code: str) -> Any:
        return self.gazetteer.place(code)

    def places(self) -> Iterable[Any]:
        return self.gazetteer.places()

    @property
    def official_boundaries(self) -> bool:
        return self.gazetteer.boundaries == "official"

    def approximate(self, code: str) -> bool:
        return self.gazetteer.approximate(code)

    def geometry(self, code: str) -> BaseGeometry | None:
        return self.gazetteer.geometry(code)

    async def gravest(self, code: str | None, limit: int) -> Overview:
        wanted = [each for each in self.gauges if code is None or code in each["codes"]]
        silent = sum(each["condition"] != "live" for each in wanted)
        return Overview(wanted[:limit], len(wanted), silent)

    def setup_open(self, token: str) -> bool:
        return token == self.token

    async def claim(self, token: str, form: SetupForm) -> Claimed:
        if token != self.token:
            raise Forbidden("used")
        self.token = None
        keys = tuple(
            MadeKey(role, f"lk_{role}_0123456789abcdefghijklmnopqrstuvwxyz-ABCDE")
            for role in (Role.ADMIN, Role.SENDER)
        )
        return Claimed(form.org, keys)

    @property
    def newest(self) -> str:
        return self.log[-1][0] if self.log else f"{self.epoch}-0"

    def in_force(self, filter: Filter) -> list[dict[str, Any]]:
        last: dict[tuple[str, str], dict[str, Any]] = {}
        for _, data in self.log:
            last[data["status"], data["incident"]] = data
        return [
            data
            for data in last.values()
            if data["msgType"] in ("Alert", "Update")
            and Status(data["status"]) in filter.statuses
            and _concerns(filter, data)
        ]

    def emit(self, data: dict[str, Any], kind: str = "alert") -> str:
        """Accept an alert and tell every listener; returns its position."""
        position = f"{self.epoch}-{len(self.log) + 1}"
        stored = {**data, "position": position}
        self.log.append((position, stored))
        self._tell(event(kind, stored, position))
        return position

    def expire(self, data: dict[str, Any]) -> None:
        """Tell that an alert has ended by itself, with the newest position, as the hub does."""
        self._tell(event("expired", {**data, "position": self.newest}, self.newest))

    def cancel(self, data: dict[str, Any], reason: str | None = None) -> str:
        """Accept the cancellation of an alert and of its update, which refers to it and says nothing but why."""
        gone = [data["id"], "u" + data["id"][1:]]
        ending = {
            "id": "c" + data["id"][1:],
            "msgType": "Cancel",
            "info": [],
            "replaced": gone,
            "reason": reason,
        }
        return self.emit({**data, **ending, "references": [{"id": data["id"]}]})

    def beat(self) -> None:
        self._tell(
            event("heartbeat", {"position": self.newest, "time": datetime.now(UTC).isoformat()}, self.newest)
        )

    def cut(self) -> None:
        """End every stream without a farewell; what is emitted after this reaches only those who come back."""
        self._tell(None)
        self.listeners.clear()

    def _tell(self, frame: bytes | None) -> None:
        for queue in self.listeners:
            queue.put_nowait(frame)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        after = request.query.get("after", "")
        self.asked.append(after)
        if self.refusing:
            raise web.HTTPServiceUnavailable
        pairs = [pair for pair in request.query.items() if pair[0] != "after"]
        wanted = parse_filter(pairs)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.listeners.add(queue)
        try:
            await response.prepare(request)
            for missed in self._missed(after, wanted):
                await response.write(missed)
            while (frame := await queue.get()) is not None:
                await response.write(frame)
        except ConnectionResetError:
            pass
        finally:
            self.listeners.discard(queue)
        if request.transport is not None:
            request.transport.abort()
        return response

    def _missed(self, after: str, wanted: Filter) -> Iterable[bytes]:
        positions = [position for position, _ in self.log]
        if after and after not in positions and after != f"{self.epoch}-0":
            yield event("gap", {"reason": "unknown", "requested": after, "position": self.newest})
            alerts = self.in_force(wanted)
            yield event("snapshot", {"position": self.newest, "alerts": alerts}, self.newest)
        elif after:
            start = positions.index(after) + 1 if after in positions else 0
            for position, data in self.log[start:]:
                yield event("alert", data, position)
        yield event(
            "heartbeat", {"position": self.newest, "time": datetime.now(UTC).isoformat()}, self.newest
        )

    async def alerts(self, request: web.Request) -> web.Response:
        self.snapshots += 1
        if self.refusing:
            raise web.HTTPServiceUnavailable
        wanted = parse_filter([pair for pair in request.query.items() if pair[0] != "active"])
        return web.json_response({"alerts": self.in_force(wanted), "next": self.newest})


@dataclass(frozen=True)
class Active:
    """What is in force, as `Context` wants it."""

    entries: tuple[Entry, ...]
    next: str


if TYPE_CHECKING:
    _: type[Context] = Hub


def event(kind: str, data: Mapping[str, Any], position: str | None = None) -> bytes:
    identity = f"id: {position}\n" if position else ""
    return f"{identity}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _entry(data: Mapping[str, Any]) -> Entry:
    sent = datetime.fromisoformat(data["sent"])
    infos = tuple(
        Info(
            event="",
            categories=(),
            urgency=Urgency.UNKNOWN,
            severity=Severity(one["severity"]) if one["severity"] in set(Severity) else Severity.UNKNOWN,
            certainty=Certainty.UNKNOWN,
        )
        for one in data["info"]
    )
    message = Alert(
        data["identifier"],
        data["sender"],
        sent,
        Status(data["status"]),
        MsgType.ALERT,
        Scope.PUBLIC,
        data["sent"],
        infos=infos,
    )
    stored = datetime.fromisoformat(data["stored"])
    facts = Facts(level=data["level"])
    return Entry(data["position"], stored, stored, message, Origin(OriginKind.HTTP), data["incident"], facts)


def _concerns(filter: Filter, data: Mapping[str, Any]) -> bool:
    return not filter.areas or any(code in filter.areas or code[:2] in filter.areas for code in data["codes"])


@asynccontextmanager
async def staged(hub: Hub) -> AsyncIterator[str]:
    """Serve a hub on a free port; gives its address."""
    pages = Pages(hub)
    app = web.Application(middlewares=[middleware(pages.error)])
    app.add_routes(pages.routes())
    app.add_routes([web.get("/v1/stream", hub.stream), web.get("/v1/alerts", hub.alerts), *hub.more])
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    beats = asyncio.create_task(_beats(hub))
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        beats.cancel()
        hub.cut()
        await runner.cleanup()


async def _beats(hub: Hub) -> None:
    while True:
        await asyncio.sleep(hub.heartbeat_s)
        hub.beat()
