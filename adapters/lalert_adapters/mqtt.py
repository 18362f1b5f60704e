"""MQTT 5 out: one retained message per area and kind, and every alert once as it comes (docs/adapters/mqtt.md)."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import ssl
import threading
import uuid
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Self

import msgspec
import structlog
from paho.mqtt.client import Client, MQTTMessageInfo, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from lalert.errors import BadRequest, DeliveryError, PermanentFailure, TemporaryFailure, Unavailable
from lalert.model import Delivery, Entry, Filter, MsgType, Outcome, Status, Subscription
from lalert.plugin import Channel, HubApi, Limits

log = structlog.get_logger("lalert.mqtt")

MEDIA_TYPES: Final = {"json": "application/json", "cap": "application/cap+xml"}
MAX_TARGET: Final = 200
MAX_TITLE: Final = 200
MAX_IN_FLIGHT: Final = 20
MAX_TOPICS: Final = 4_000
"""Retained topics that are remembered per target, so that what is remembered fits into a value of the instance's state."""
CONNECT_S: Final = 5.0
RETRY_S: Final = 1.0
MAX_EXPIRY_S: Final = 2**32 - 1
OVERHEAD: Final = 2_048
"""Octets that the topic and the properties add to a payload at most."""
LASTING: Final = frozenset({0x87, 0x90, 0x95, 0x99})
"""PUBACK: not authorized, topic name invalid, packet too large, payload format invalid (MQTT 5.0, 3.4.2.1)."""
DRILL: Final = "drill"
_LEVEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
_EVERYTHING = Filter(statuses=frozenset(Status))


class MqttConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[adapters.NAME] of type mqtt."""

    host: Annotated[str, msgspec.Meta(min_length=1, max_length=253)] = "localhost"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    """0 is 8883 with TLS, 1883 without."""
    tls: bool = True
    ca_file: str | None = None
    """Authorities that the broker's certificate may come from, in PEM; None are the system's."""
    user: str | None = None
    password_file: str | None = None
    client_id: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]{0,64}$")] = ""
    """Empty makes one for each connection; two nodes with the same one throw each other out."""
    prefix: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$")] = "lalert"
    """Targets are this or below it, so that no receiver publishes anywhere else."""
    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=25)] = 15.0
    """Seconds that one alert may take with all its topics, connecting included."""


class Mqtt:
    """Publishes below the subscription's target with QoS 1, and reports an outcome only once the broker has acknowledged every message of the alert."""

    Config: ClassVar[type[MqttConfig]] = MqttConfig
    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(per_target=1, in_flight=16, timeout=30.0)

    def __init__(self, name: str, config: MqttConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub
        self._link: _Link | None = None
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
        return Outcome(f"{len(kept)} topics retained, {len(over)} cleared")

    async def _clear(self, link: _Link, target: str, topics: Iterable[str]) -> None:
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

    async def _connected(self) -> _Link:
        """Return the connection, made anew where it broke. One at a time; the core's schedule says when to try again."""
        async with self._connecting:
            if self._link is not None and self._link.broken is None:
                return self._link
            if self._link is not None:
                await asyncio.to_thread(self._link.close)
            self._link = None
            link = _Link(self._config, asyncio.get_running_loop())
            try:
                await link.open()
            except BaseException:
                # In its own thread, not waited for: a connect that hangs must not hold up who was cancelled.
                threading.Thread(target=link.close, name="mqtt closes", daemon=True).start()
                raise
            self._link = link
            return link


if TYPE_CHECKING:
    _: type[Channel] = Mqtt


class _Link:
    """One connection to the broker: paho's network thread, with answers as futures of the event loop. A broken one stays broken."""

    def __init__(self, config: MqttConfig, loop: asyncio.AbstractEventLoop) -> None:
        self.broken: str | None = None
        self._config = config
        self._loop = loop
        self._welcome: asyncio.Future[None] = loop.create_future()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._max_packet: int | None = None
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=config.client_id or f"lalert-{uuid.uuid4().hex[:16]}",
            protocol=MQTTv5,
            reconnect_on_failure=False,
        )
        self._client.connect_timeout = CONNECT_S
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        self._client.on_disconnect = self._on_disconnect
        self._opening = threading.Lock()

    async def open(self) -> None:
        """Connect and log in; raises `TemporaryFailure`."""
        try:
            await asyncio.to_thread(self._connect)
        except ssl.SSLError:
            raise TemporaryFailure(
                "TLS failed: the broker's certificate or protocol was not accepted"
            ) from None
        except OSError as error:
            raise TemporaryFailure(
                f"cannot connect to the broker: {error.strerror or type(error).__name__}"
            ) from None
        await self._welcome

    async def publish(
        self, messages: Iterable[tuple[str, bytes, bool]], properties: Properties | None
    ) -> None:
        """Publish (topic, payload, retained) and wait until the broker has acknowledged them all."""
        rest = iter(messages)

        async def work() -> None:
            for topic, payload, retain in rest:
                await self._publish(topic, payload, retain, properties)

        # Workers, and not a task for each: an alert of all municipalities would hold up the loop for a fifth of a second.
        results = await asyncio.gather(*(work() for _ in range(MAX_IN_FLIGHT)), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def close(self) -> None:
        """End the connection and its thread; blocks for moments."""
        with self._opening:
            self._client.disconnect()
            self._client.loop_stop()

    def _connect(self) -> None:
        config, client = self._config, self._client
        with self._opening:
            if config.user is not None:
                client.username_pw_set(config.user, _secret(config.password_file))
            if config.tls:
                client.tls_set_context(ssl.create_default_context(cafile=config.ca_file))
            client.connect(config.host, config.port or (8_883 if config.tls else 1_883), keepalive=15)
            client.loop_start()

    async def _publish(self, topic: str, payload: bytes, retain: bool, properties: Properties | None) -> None:
        async with self._room:
            if self.broken is not None:
                raise TemporaryFailure(self.broken)
            if self._max_packet is not None and len(payload) + OVERHEAD > self._max_packet:
                raise PermanentFailure(f"the broker takes at most {self._max_packet} octets")
            info: MQTTMessageInfo = self._client.publish(
                topic, payload, qos=1, retain=retain, properties=properties
            )
            answer = self._waiting[info.mid] = self._loop.create_future()
            try:
                await answer
            finally:
                self._waiting.pop(info.mid, None)

    def _on_connect(
        self,
        _client: Client,
        _data: object,
        _flags: object,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._tell(self._greeted, reason, getattr(properties, "MaximumPacketSize", None))

    def _on_publish(
        self, _client: Client, _data: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        self._tell(self._acknowledged, mid, reason)

    def _on_disconnect(
        self, _client: Client, _data: object, _flags: object, reason: ReasonCode, _more: object
    ) -> None:
        self._tell(self._lost, f"the connection to the broker broke: {reason}")

    def _tell(self, what: Callable[..., None], *values: object) -> None:
        """Go over from the network thread to the event loop; nobody is left to be told once that is closed."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, *values)

    def _greeted(self, reason: ReasonCode, max_packet: int | None) -> None:
        self._max_packet = max_packet
        if reason.is_failure:
            self._lost(f"the broker refused the connection: {reason}")
        elif not self._welcome.done():
            self._welcome.set_result(None)

    def _acknowledged(self, mid: int, reason: ReasonCode) -> None:
        answer = self._waiting.get(mid)
        if answer is None or answer.done():
            return
        if not reason.is_failure:
            answer.set_result(None)
            return
        kind = PermanentFailure if reason.value in LASTING else TemporaryFailure
        answer.set_exception(kind(f"the broker refused the message: {reason}"))

    def _lost(self, cause: str) -> None:
        self.broken = self.broken or cause
        for answer in (self._welcome, *self._waiting.values()):
            if not answer.done():
                answer.set_exception(TemporaryFailure(self.broken))
                answer.exception()  # seen: nobody may be waiting any more


def _secret(path: str | None) -> str | None:
    return None if path is None else Path(path).read_text(encoding="utf-8").strip()


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
