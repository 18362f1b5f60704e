"""Readings from a broker: acknowledged to it only once they are stored, so that what a crash interrupts comes again (docs/adapters/mqtt_sensors.md)."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, Self

import msgspec
import structlog
from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from lalert.errors import BadRequest, LalertError, TemporaryFailure
from lalert.plugin import Health, Healthy, HubApi, Observed, Source

log = structlog.get_logger("lalert.mqtt_sensors")

CONNECT_S: Final = 5.0
ANSWER_S: Final = 15.0
PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 15.0)
MAX_PACKET: Final = 300_000
"""A broker keeps larger messages to itself."""
MAX_UNANSWERED: Final = 10_000
"""Messages of QoS 0 that wait: these no broker holds back."""
MAX_COMPLAINTS: Final = 10_000
MAX_TOPICS: Final = 100
_PLACE: Final = "{station}"


class Topic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[adapters.NAME.topics]]: a topic filter, and what comes there. One level may be `{station}`, whose readings need not name it."""

    topic: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    form: Literal["json", "csv", "tts", "chirpstack", "sigfox"] = "json"

    def __post_init__(self) -> None:
        levels = self.topic.split("/")
        whole = all(level == "#" or "#" not in level for level in levels) and "#" not in levels[:-1]
        if not whole or any("+" in level and level != "+" for level in levels) or "\0" in self.topic:
            raise ValueError("topic: + and # stand for whole levels, # for the last")
        if self.topic.count(_PLACE) != levels.count(_PLACE) or levels.count(_PLACE) > 1:
            raise ValueError("topic: {station} stands for one whole level, once")
        if levels[0].startswith("$share"):
            raise ValueError("topic: name the group of a shared subscription in `group`")


class MqttSensorsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[adapters.NAME] of type mqtt_sensors."""

    topics: tuple[Topic, ...]
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=253)] = "localhost"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    """0 is 8883 with TLS, 1883 without."""
    tls: bool = True
    ca_file: str | None = None
    """Authorities that the broker's certificate may come from, in PEM; None are the system's."""
    certificate_file: str | None = None
    key_file: str | None = None
    """The hub's own certificate and key, for a broker that asks for one."""
    user: str | None = None
    password_file: str | None = None
    client_id: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]{0,64}$")] = ""
    """The broker keeps what comes while the node is away under this name: the same at each start, and another for each node. Empty is the machine's name and the instance's."""
    group: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]{0,64}$")] = ""
    """Nodes of one group share the messages; without one each node takes all, and those that another has stored are known."""
    session_s: Annotated[int, msgspec.Meta(ge=60, le=2_592_000)] = 86_400
    """Seconds that the broker keeps messages for a node that is away."""
    in_flight: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 200
    """Messages that the broker may have sent and not yet seen acknowledged."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.topics) <= MAX_TOPICS:
            raise ValueError(f"topics: name 1 to {MAX_TOPICS}")


class MqttSensors:
    """Follows topics, hands what comes to the hub, and acknowledges it once that is stored."""

    Config: ClassVar[type[MqttSensorsConfig]] = MqttSensorsConfig

    def __init__(self, name: str, config: MqttSensorsConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub
        self._trouble = "not connected yet"
        self._complaints: dict[tuple[str, str], None] = {}
        self._patterns = [(_pattern(topic.topic), topic.form) for topic in config.topics]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    def health(self) -> Health:
        """Return whether the broker is connected and readings can be stored."""
        return Health(not self._trouble, self._trouble)

    async def run(self) -> None:
        """Follow for ever. A broker that is away and a store that fails are tried again; what was not stored is not acknowledged, and comes again."""
        failures = 0
        while True:
            session = Session(self._config, self._client_id, asyncio.get_running_loop())
            try:
                async with asyncio.timeout(ANSWER_S):
                    await session.open()
                self._say("")
                failures = 0
                while True:
                    await self._take(session)
            except (LalertError, TimeoutError) as error:
                self._say(str(error) or "the broker did not answer in time")
            finally:
                # Off the loop, and waited for also when cancelled: a client of the same name must not follow before this one is gone.
                await asyncio.shield(asyncio.to_thread(session.close))
            await self._hub.clock.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
            failures += 1

    @property
    def _client_id(self) -> str:
        made = re.sub(r"[^A-Za-z0-9._-]", "-", f"lalert-{self.name}-{socket.gethostname()}")
        return self._config.client_id or made[:64]

    async def _take(self, session: Session) -> None:
        """Hand in what is there, all at once, and acknowledge it in the order in which it came (MQTT 5.0, 4.6), up to the first that was not stored."""
        messages = await session.messages()
        outcomes = await asyncio.gather(*map(self._hand_in, messages), return_exceptions=True)
        for message, outcome in zip(messages, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            session.acknowledge(message)

    async def _hand_in(self, message: MQTTMessage) -> None:
        """Store a message; what says nothing is done with, as it would come again for ever. Raises `LalertError` where it may be stored later."""
        form, station = self._meaning(message.topic)
        event = message.topic.rpartition("/")[2] if form == "chirpstack" else "up"
        try:
            observed = await self._hub.take(form, bytes(message.payload), station=station, event=event)
        except BadRequest as error:
            self._complain(message.topic, error.error_code, error.detail)
        else:
            self._complain_of(message.topic, observed)

    def _meaning(self, topic: str) -> tuple[str, str | None]:
        for pattern, form in self._patterns:
            if found := pattern.fullmatch(topic):
                return form, found.groupdict().get("station")
        raise TemporaryFailure(f"the broker sent what is under none of the topics: {topic[:100]}")

    def _complain_of(self, topic: str, observed: Observed) -> None:
        for index, code in observed.rejected:
            self._complain(topic, code, observed.details.get(index, ""))

    def _complain(self, topic: str, code: str, detail: str) -> None:
        """Log once for each topic and cause: a gauge that is set up wrongly says the same every minute."""
        if (topic, code) not in self._complaints:
            if len(self._complaints) >= MAX_COMPLAINTS:
                self._complaints.clear()
            self._complaints[topic, code] = None
            log.warning("a reading was rejected", adapter=self.name, topic=topic, code=code, detail=detail)

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("readings do not come from the broker", adapter=self.name, reason=trouble)
        elif self._trouble and not trouble:
            log.info("readings come from the broker", adapter=self.name, host=self._config.host)
        self._trouble = trouble


if TYPE_CHECKING:
    _: type[Source] = MqttSensors
    _healthy: type[Healthy] = MqttSensors


class Session:
    """One connection in a session that outlives it: paho's network thread, with messages and answers as the event loop's. A broken one stays broken."""

    def __init__(self, config: MqttSensorsConfig, client_id: str, loop: asyncio.AbstractEventLoop) -> None:
        self._config = config
        self._loop = loop
        self._ready: asyncio.Future[None] = loop.create_future()
        self._news = asyncio.Event()
        self._waiting: list[MQTTMessage] = []
        self._broken: str | None = None
        self._opening = threading.Lock()
        self._closed = False
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._client.connect_timeout = CONNECT_S
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect

    async def open(self) -> None:
        """Connect, take the session up again, and subscribe; raises `TemporaryFailure`."""
        try:
            await asyncio.to_thread(self._connect)
        except ssl.SSLError:
            raise TemporaryFailure(
                "TLS failed: the broker's certificate or protocol was not accepted"
            ) from None
        except (OSError, UnicodeError) as error:
            cause = getattr(error, "strerror", None) or type(error).__name__
            raise TemporaryFailure(f"cannot connect to the broker: {cause}") from None
        await self._ready

    async def messages(self) -> list[MQTTMessage]:
        """Return what has come, at least one; raises `TemporaryFailure` once the connection is broken, for what is acknowledged no more comes again."""
        await self._news.wait()
        if self._broken is not None:
            raise TemporaryFailure(self._broken)
        self._news.clear()
        found, self._waiting = self._waiting, []
        return found

    def acknowledge(self, message: MQTTMessage) -> None:
        self._client.ack(message.mid, message.qos)

    def close(self) -> None:
        """End the connection and its thread, not the session; blocks for moments."""
        with self._opening:
            self._closed = True
            self._client.disconnect()
            self._client.loop_stop()

    def _connect(self) -> None:
        config, client = self._config, self._client
        try:
            if config.user is not None:
                client.username_pw_set(config.user, _secret(config.password_file))
            if config.tls:
                context = ssl.create_default_context(cafile=config.ca_file)
                if config.certificate_file is not None:
                    context.load_cert_chain(config.certificate_file, config.key_file)
                client.tls_set_context(context)
        except (OSError, UnicodeError) as error:
            raise TemporaryFailure(
                f"password_file, ca_file, certificate_file or key_file cannot be used: {type(error).__name__}"
            ) from None
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho types it by half
        properties.SessionExpiryInterval = config.session_s
        properties.ReceiveMaximum = config.in_flight
        properties.MaximumPacketSize = MAX_PACKET
        port = config.port or (8_883 if config.tls else 1_883)
        with self._opening:
            if self._closed:
                return  # given up before its turn came: a connection now would take the session from the one that follows
            client.connect(config.host, port, keepalive=15, clean_start=False, properties=properties)
            client.loop_start()

    def _on_connect(
        self, client: Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure:
            self._tell(self._lost, f"the broker refused the connection: {reason}")
            return
        options = SubscribeOptions(qos=1)
        share = f"$share/{self._config.group}/" if self._config.group else ""
        wanted = [(share + topic.topic.replace(_PLACE, "+"), options) for topic in self._config.topics]
        result, _ = client.subscribe(wanted)
        if result != MQTT_ERR_SUCCESS:
            self._tell(self._lost, "the connection to the broker broke")

    def _on_subscribe(
        self, _client: Client, _data: object, _mid: int, reasons: Sequence[ReasonCode], _properties: object
    ) -> None:
        for topic, reason in zip(self._config.topics, reasons, strict=False):
            if reason.is_failure:
                self._tell(self._lost, f"the broker refused the topic {topic.topic}: {reason}")
                return
        self._tell(self._subscribed)

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self._tell(self._came, message)

    def _on_disconnect(
        self, _client: Client, _data: object, _flags: object, reason: ReasonCode, _more: object
    ) -> None:
        self._tell(self._lost, f"the connection to the broker broke: {reason}")

    def _tell(self, what: Callable[..., None], *values: object) -> None:
        """Go over from the network thread to the event loop; nobody is left to be told once that is closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *values)

    def _subscribed(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def _came(self, message: MQTTMessage) -> None:
        if message.qos == 0 and len(self._waiting) >= MAX_UNANSWERED:
            return
        self._waiting.append(message)
        self._news.set()

    def _lost(self, cause: str) -> None:
        self._broken = self._broken or cause
        self._news.set()
        if not self._ready.done():
            self._ready.set_exception(TemporaryFailure(self._broken))
            self._ready.exception()  # seen: nobody may be waiting any more


def _pattern(topic: str) -> re.Pattern[str]:
    """Return what the topics of a filter look like (MQTT 5.0, 4.7.1: # stands also for the level before it)."""
    levels = topic.split("/")
    parts = {"+": "[^/]*", _PLACE: "(?P<station>[^/]+)"}
    body = "/".join(parts.get(level, re.escape(level)) for level in levels if level != "#")
    return re.compile(body + ("(/.*)?" if body else ".*") if levels[-1] == "#" else body, re.DOTALL)


def _secret(path: str | None) -> str | None:
    return None if path is None else Path(path).read_text(encoding="utf-8").strip()
