"""One connection to a broker, and the configuration that it is made from."""

from __future__ import annotations

import asyncio
import ssl
import threading
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import msgspec
from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, MQTTMessage, MQTTMessageInfo, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from lalert.errors import PermanentFailure, TemporaryFailure

MAX_IN_FLIGHT: Final = 20
CONNECT_S: Final = 5.0
OVERHEAD: Final = 2_048
"""Octets that the topic and the properties add to a payload at most."""
LASTING: Final = frozenset({0x87, 0x90, 0x95, 0x99})
"""PUBACK: not authorized, topic name invalid, packet too large, payload format invalid (MQTT 5.0, 3.4.2.1)."""


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


class Link:
    """One connection to the broker: paho's network thread, with answers as futures of the event loop. A broken one stays broken."""

    def __init__(self, config: MqttConfig, loop: asyncio.AbstractEventLoop) -> None:
        self.broken: str | None = None
        self._config = config
        self._loop = loop
        self._welcome: asyncio.Future[None] = loop.create_future()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._echoes: dict[bytes, asyncio.Future[None]] = {}
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
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
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
        except (OSError, UnicodeError) as error:
            cause = getattr(error, "strerror", None) or type(error).__name__
            raise TemporaryFailure(f"cannot connect to the broker: {cause}") from None
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

    async def echo(self, topic: str, payload: bytes, properties: Properties) -> None:
        """Publish, and wait until the broker has told it to a subscriber of the topic, which this connection is meanwhile."""
        heard = self._echoes[payload] = self._loop.create_future()
        try:
            await self._listen(topic)
            await self._publish(topic, payload, False, properties)
            await heard
        finally:
            del self._echoes[payload]
            self._client.unsubscribe(topic)

    def close(self) -> None:
        """End the connection and its thread; blocks for moments."""
        with self._opening:
            self._client.disconnect()
            self._client.loop_stop()

    def _connect(self) -> None:
        config, client = self._config, self._client
        with self._opening:
            try:
                if config.user is not None:
                    client.username_pw_set(config.user, _secret(config.password_file))
                if config.tls:
                    client.tls_set_context(ssl.create_default_context(cafile=config.ca_file))
            except (OSError, UnicodeError) as error:
                raise TemporaryFailure(
                    f"password_file or ca_file cannot be used: {type(error).__name__}"
                ) from None
            client.connect(config.host, config.port or (8_883 if config.tls else 1_883), keepalive=15)
            client.loop_start()

    async def _listen(self, topic: str) -> None:
        if self.broken is not None:
            raise TemporaryFailure(self.broken)
        # Nothing that is retained there: it is the note just published that is waited for.
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        result, mid = self._client.subscribe(topic, options=options)
        if result != MQTT_ERR_SUCCESS or mid is None:
            raise TemporaryFailure("the connection to the broker broke")
        await self._answer(mid)

    async def _answer(self, mid: int) -> None:
        answer = self._waiting[mid] = self._loop.create_future()
        try:
            await answer
        finally:
            self._waiting.pop(mid, None)

    async def _publish(self, topic: str, payload: bytes, retain: bool, properties: Properties | None) -> None:
        async with self._room:
            if self.broken is not None:
                raise TemporaryFailure(self.broken)
            if self._max_packet is not None and len(payload) + OVERHEAD > self._max_packet:
                raise PermanentFailure(f"the broker takes at most {self._max_packet} octets")
            info: MQTTMessageInfo = self._client.publish(
                topic, payload, qos=1, retain=retain, properties=properties
            )
            await self._answer(info.mid)

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

    def _on_subscribe(
        self, _client: Client, _data: object, mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        self._tell(self._acknowledged, mid, reasons[0])

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self._tell(self._echoed, message.payload)

    def _on_disconnect(
        self, _client: Client, _data: object, _flags: object, reason: ReasonCode, _more: object
    ) -> None:
        self._tell(self._lost, f"the connection to the broker broke: {reason}")

    def _tell(self, what: Callable[..., None], *values: object) -> None:
        """Go over from the network thread to the event loop; nobody is left to be told once that is closed."""
        with suppress(RuntimeError):
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

    def _echoed(self, payload: bytes) -> None:
        heard = self._echoes.get(payload)
        if heard is not None and not heard.done():
            heard.set_result(None)

    def _lost(self, cause: str) -> None:
        self.broken = self.broken or cause
        for answer in (self._welcome, *self._waiting.values(), *self._echoes.values()):
            if not answer.done():
                answer.set_exception(TemporaryFailure(self.broken))
                answer.exception()  # seen: nobody may be waiting any more


def _secret(path: str | None) -> str | None:
    return None if path is None else Path(path).read_text(encoding="utf-8").strip()
