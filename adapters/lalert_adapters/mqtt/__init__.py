"""MQTT 5 out: one retained message per area and kind, and every alert once as it comes (docs/adapters/mqtt.md)."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import threading
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Final, Self

import msgspec
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from lalert.errors import BadRequest, DeliveryError, TemporaryFailure, Unavailable
from lalert.model import Delivery, Entry, Filter, MsgType, Outcome, Status, Subscription
from lalert.plugin import (
    CANARY_NOTE,
    CANARY_TITLE,
    Canarying,
    Channel,
    Health,
    Healthy,
    HubApi,
    Limits,
    Part,
    Preview,
    Previewing,
)
from lalert_adapters.mqtt.link import Link, MqttConfig

__all__ = ["Mqtt", "MqttConfig"]

log = structlog.get_logger("lalert.mqtt")

MEDIA_TYPES: Final = {"json": "application/json", "cap": "application/cap+xml"}
MAX_TARGET: Final = 200
MAX_TITLE: Final = 200
MAX_TOPICS: Final = 4_000
"""Retained topics that are remembered per target, so that what is remembered fits into a value of the instance's state."""
RETRY_S: Final = 1.0
MAX_EXPIRY_S: Final = 2**32 - 1
DRILL: Final = "drill"
CANARY: Final = "canary"
_LEVEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
_EVERYTHING = Filter(statuses=frozenset(Status))


class Mqtt:
    """Publishes below the subscription's target with QoS 1, and reports an outcome only once the broker has acknowledged every message of the alert."""

    Config: ClassVar[type[MqttConfig]] = MqttConfig
    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(per_target=1, in_flight=16, timeout=30.0)

    def __init__(self, name: str, config: MqttConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub
        self._link: Link | None = None
        self._trouble = ""
        self._connecting = asyncio.Lock()
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._follower: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._follower = asyncio.create_task(self._follow(), name=f"{self.name} follows ends")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        if self._link is not None:
            await asyncio.to_thread(self._link.close)

    def check_subscription(self, subscription: Subscription) -> Subscription:
        """Return the subscription as it is; raises `BadRequest` if the topic, the format or an option does not hold."""
        target, prefix = subscription.target, self._config.prefix
        levels = target.split("/")
        if len(target) > MAX_TARGET or not all(_LEVEL.fullmatch(level) for level in levels):
            raise BadRequest(
                f"target: must be a topic of at most {MAX_TARGET} characters, levels of A-Z a-z 0-9 . _ - parted by /"
            )
        if target != prefix and not target.startswith(f"{prefix}/"):
            raise BadRequest(f"target: must be {prefix} or a topic below it")
        if DRILL in levels:
            raise BadRequest(f"target: no level may be {DRILL!r}: drills have topics of their own there")
        if subscription.format not in MEDIA_TYPES:
            raise BadRequest(f"format: must be one of {', '.join(MEDIA_TYPES)} for MQTT")
        if subscription.options:
            raise BadRequest(
                f"options.{min(subscription.options)[:40]}: unknown, a subscription to MQTT has none"
            )
        return subscription

    async def deliver(self, delivery: Delivery) -> Outcome:
        """Publish one alert, retain it where it holds, and clear what it ends. A broker that is down or that refuses the login is a `TemporaryFailure`."""
        entry, target = delivery.entry, delivery.subscription.target
        body = self._hub.body(entry, delivery.subscription.format, delivery.subscription.lang)
        properties = self._properties(delivery)
        try:
            async with asyncio.timeout(self._config.timeout_s):
                link = await self._connected()
                async with self._changing[target]:
                    held = await self._held(target)
                    kept = self._topics(entry)
                    over = [topic for topic in _owned(held, _ended(entry)) if topic not in kept]
                    # Noted before it is sent: what is retained and not noted could not be cleared by a Cancel.
                    await self._hold(target, held | dict.fromkeys(kept, _short(entry.alert.id)))
                    base = f"{target}/{DRILL}" if entry.alert.status is not Status.ACTUAL else target
                    messages = [(f"{base}/alerts", body, False)]
                    messages += [(f"{target}/{topic}", body, True) for topic in kept]
                    await link.publish(messages, properties)
                    await self._clear(link, target, over)
        except TimeoutError:
            raise TemporaryFailure(
                f"the broker did not acknowledge within {self._config.timeout_s:g} s"
            ) from None
        request = f"{len(messages)} messages of {len(body)} bytes with QoS 1"
        said = f"{len(kept)} topics retained, {len(over)} cleared"
        return Outcome(said, request=request, response="acknowledged")

    def health(self) -> Health:
        """Return whether the connection stands, or stood when it was last needed."""
        broken = self._link.broken if self._link is not None else None
        trouble = broken or self._trouble
        return Health(not trouble, trouble)

    def preview(self, entry: Entry, lang: str | None) -> Preview:
        """Return the topics below the target, the title, and the payload in JSON; in CAP it is the document itself."""
        drill = f"{DRILL}/" if entry.alert.status is not Status.ACTUAL else ""
        text = self._hub.text(entry, lang)
        title = _line(text.title)
        parts = (
            Part("topics", "\n".join((f"{drill}alerts", *self._topics(entry)))),
            Part("title", title, len(title), MAX_TITLE),
            Part("payload", self._hub.body(entry, "json", lang).decode()),
        )
        return Preview(parts, text.lang)

    async def canary(self, target: str, token: str) -> None:
        """Publish a note at `canary` below the target, and see it come back as the broker tells it to every subscriber."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho types it by half
        properties.ContentType = MEDIA_TYPES["json"]
        properties.UserProperty = [("key", token), ("title", CANARY_TITLE)]
        data = {"type": "lalert.canary", "token": token, "title": CANARY_TITLE, "note": CANARY_NOTE}
        try:
            async with asyncio.timeout(self._config.timeout_s):
                link = await self._connected()
                await link.echo(f"{target}/{CANARY}", msgspec.json.encode(data), properties)
        except TimeoutError:
            raise TemporaryFailure(
                f"the broker did not hand the canary on within {self._config.timeout_s:g} s"
            ) from None
        await self._hub.confirm(token)

    async def _clear(self, link: Link, target: str, topics: Iterable[str]) -> None:
        """Take retained messages away: an empty retained payload does it, and tells whoever listens (MQTT 5.0, 3.3.1.3)."""
        over = frozenset(topics)
        if over:
            await link.publish([(f"{target}/{topic}", b"", True) for topic in sorted(over)], None)
            held = await self._held(target)
            await self._hold(target, {topic: owner for topic, owner in held.items() if topic not in over})

    async def _follow(self) -> None:
        """Clear what ends by itself. The broker drops it by its expiry too: this tells those who listen, and mends nothing that fails."""
        cause = ""
        while True:
            try:
                async with self._hub.ended(_EVERYTHING) as entries:
                    async for entry in entries:
                        await self._end(entry)
                        cause = ""
            except (DeliveryError, TimeoutError, Unavailable) as error:
                if cause != str(error):
                    cause = str(error)
                    log.warning(
                        "ended alerts were not cleared; the broker drops them by their expiry", reason=cause
                    )
            except Exception:
                log.exception("ended alerts are not cleared; the broker drops them by their expiry")
            await self._hub.clock.sleep(RETRY_S)

    async def _end(self, entry: Entry) -> None:
        for target in sorted({subscription.target for subscription in await self._hub.subscriptions()}):
            async with asyncio.timeout(self._config.timeout_s), self._changing[target]:
                over = _owned(await self._held(target), {_short(entry.alert.id)})
                if over:
                    await self._clear(await self._connected(), target, over)

    async def _held(self, target: str) -> dict[str, str]:
        """Return what is retained below a target: the short id of the alert, by topic."""
        packed = await self._hub.state.get(_state_key(target))
        return msgspec.json.decode(zlib.decompress(packed), type=dict[str, str]) if packed else {}

    async def _hold(self, target: str, held: Mapping[str, str]) -> None:
        newest = dict(list(held.items())[-MAX_TOPICS:])
        if newest:
            await self._hub.state.put(_state_key(target), zlib.compress(msgspec.json.encode(newest)))
        else:
            await self._hub.state.delete(_state_key(target))

    def _topics(self, entry: Entry) -> list[str]:
        """Return the topics, below the target, that hold the alert while it is in force."""
        alert = entry.alert
        over = alert.expires is not None and alert.expires <= self._hub.clock.now()
        if alert.msg_type not in {MsgType.ALERT, MsgType.UPDATE} or entry.outdated or over:
            return []
        drill = f"{DRILL}/" if alert.status is not Status.ACTUAL else ""
        kind = re.sub(r"[^A-Za-z0-9_-]", "-", entry.facts.kind) or "other"
        return [f"{drill}area/{code}/{kind}" for code in sorted(entry.facts.codes) or ["unknown"]]

    def _properties(self, delivery: Delivery) -> Properties:
        alert, subscription = delivery.entry.alert, delivery.subscription
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho types it by half
        properties.ContentType = MEDIA_TYPES[subscription.format]
        properties.UserProperty = [
            ("key", delivery.key),
            ("id", alert.id),
            ("position", delivery.entry.position),
            ("status", alert.status.value),
            ("msgType", alert.msg_type.value),
            ("title", _line(self._hub.text(delivery.entry, subscription.lang).title)),
        ]
        if alert.expires is not None:
            left = math.ceil((alert.expires - self._hub.clock.now()).total_seconds())
            properties.MessageExpiryInterval = min(max(left, 1), MAX_EXPIRY_S)
        return properties

    async def _connected(self) -> Link:
        """Return the connection, made anew where it broke. One at a time; the core's schedule says when to try again."""
        async with self._connecting:
            if self._link is not None and self._link.broken is None:
                return self._link
            if self._link is not None:
                await asyncio.to_thread(self._link.close)
            self._link = None
            link = Link(self._config, asyncio.get_running_loop())
            try:
                await link.open()
            except BaseException as error:
                if isinstance(error, DeliveryError):
                    self._trouble = error.detail
                # In its own thread, not waited for: a connect that hangs must not hold up who was cancelled.
                threading.Thread(target=link.close, name="mqtt closes", daemon=True).start()
                raise
            self._link, self._trouble = link, ""
            return link


if TYPE_CHECKING:
    _: type[Channel] = Mqtt
    _healthy: type[Healthy] = Mqtt
    _previewing: type[Previewing] = Mqtt
    _canarying: type[Canarying] = Mqtt


def _ended(entry: Entry) -> set[str]:
    """Return the short ids of the alerts that an Update or a Cancel takes the place of (CAP 1.2, 3.2.1)."""
    ids = set(entry.replaced)
    if entry.alert.msg_type in {MsgType.UPDATE, MsgType.CANCEL}:
        ids.update(reference.id for reference in entry.alert.references)
    return {_short(alert_id) for alert_id in ids}


def _owned(held: Mapping[str, str], owners: set[str]) -> list[str]:
    return [topic for topic, owner in held.items() if owner in owners]


def _short(alert_id: str) -> str:
    return hashlib.sha256(alert_id.encode()).hexdigest()[:12]


def _state_key(target: str) -> str:
    return f"retained/{hashlib.sha256(target.encode()).hexdigest()}"


def _line(text: str) -> str:
    """Return a text without control characters, which a broker may refuse (MQTT 5.0, 1.5.4)."""
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_TITLE]
