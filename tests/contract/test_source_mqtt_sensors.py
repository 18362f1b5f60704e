"""Readings from a real mosquitto: acknowledged once they are stored, again where they were not, and kept once."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tomllib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import trustme
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from lalert import config, registry
from lalert.clock import SystemClock
from lalert.config import Settings
from lalert.errors import BadRequest, TooLarge, Unavailable
from lalert.hub import AdapterHub
from lalert.plugin import Observed
from lalert.testing.channel import until
from lalert.testing.hub import FakeHub
from lalert.testing.node import ORG, RunningNode, running_node
from lalert_adapters.mqtt_sensors import MqttSensors, MqttSensorsConfig, Session
from tests.contract.test_channel_mqtt import Broker
from tests.unit.test_uplinks import EUI, chirpstack

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = Path(__file__).parents[2]
CONFIGURATION = f"""
[[stations]]
id = "g"
name = "人吉"
org = "{ORG}"
sender = "gauge@hitoyoshi.example"
codes = ["432032"]
lon = 130.7
lat = 32.2

[layouts.ultrasonic]
form = "cayenne"
values = [{{ quantity = "level_m", channel = 1, type = "distance", scale = -1.0 }}]

[[devices]]
id = "{EUI}"
station = "g"
layout = "ultrasonic"
"""


class QuickClock(SystemClock):
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.02))


@dataclass
class Store(FakeHub):
    """Takes what is handed in, or fails as it is told to; `kept` counts how often each message was stored."""

    clock: Any = field(default_factory=QuickClock)
    kept: Counter[bytes] = field(default_factory=Counter)
    failures: list[Exception] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    async def take(self, form: str, raw: bytes, *, station: str | None = None, event: str = "up") -> Observed:
        self.arrived += 1
        await self.gate.wait()
        self.kept[raw] += 1
        if self.failures:
            raise self.failures.pop()
        return Observed(1, 0)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    settings: Settings = config.parse(CONFIGURATION)
    async with running_node(tmp_path_factory.mktemp("gauges") / "data", settings) as running:
        yield running


@contextmanager
def publishing(broker: Broker) -> Iterator[Any]:
    client = Client(CallbackAPIVersion.VERSION2, client_id=uuid.uuid4().hex, protocol=MQTTv5)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()

    def publish(topic: str, *payloads: object) -> None:
        for payload in payloads:
            raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            client.publish(topic, raw, qos=1).wait_for_publish(5)

    try:
        yield publish
    finally:
        client.disconnect()
        client.loop_stop()


def chosen(broker: Broker, base: str, **more: Any) -> MqttSensorsConfig:
    given = {
        "host": "127.0.0.1",
        "port": broker.port,
        "tls": False,
        "client_id": uuid.uuid4().hex,
        "topics": [{"topic": f"{base}/{{station}}/level"}],
    }
    return msgspec.convert(given | more, MqttSensorsConfig)


@asynccontextmanager
async def following(settings: MqttSensorsConfig, hub: Any) -> AsyncIterator[MqttSensors]:
    async with MqttSensors("gauges", settings, hub) as source:
        running = asyncio.create_task(source.run())
        try:
            await until(lambda: source.health().ok)
            yield source
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def base() -> str:
    return f"lalert/{uuid.uuid4().hex}"


async def test_readings_and_uplinks_are_kept_and_what_says_nothing_holds_up_nobody(
    broker: Broker, node: RunningNode
) -> None:
    here = base()
    topics = [
        {"topic": f"{here}/{{station}}/level"},
        {"topic": f"{here}/table/#", "form": "csv"},
        {"topic": f"{here}/application/+/device/+/event/+", "form": "chirpstack"},
    ]
    hub = AdapterHub(node.node.hub, "gauges", ORG, node.http)
    now = datetime.now(UTC)
    times = [(now - timedelta(minutes=minutes)).isoformat() for minutes in range(4)]
    async with following(chosen(broker, here, topics=topics), hub):
        with publishing(broker) as publish:
            publish(f"{here}/g/level", b"{", b"\xff", {"time": times[1], "level_m": "x"}, [])
            publish(f"{here}/nobody/level", {"time": times[1], "level_m": 1})
            publish(f"{here}/g/level", {"time": times[1], "level_m": 1.25})
            publish(f"{here}/table", f"station,time,level_m\ng,{times[2]},1.5\n".encode())
            device = f"{here}/application/a/device/{EUI}/event"
            publish(f"{device}/join", chirpstack())
            publish(f"{device}/up", chirpstack(time=times[3]))

        async def kept() -> list[float]:
            _, found = await node.get("/v1/stations/g/readings")
            return [one["level_m"] for one in found["readings"]]

        async with asyncio.timeout(5):
            while len(await kept()) < 3:
                await asyncio.sleep(0.01)
        assert await kept() == [-2.86, 1.5, 1.25]


async def test_what_was_being_stored_when_the_node_stopped_comes_again(broker: Broker) -> None:
    here, hub = base(), Store()
    settings = chosen(broker, here, in_flight=2)
    hub.gate.clear()
    async with following(settings, hub):
        with publishing(broker) as publish:
            publish(f"{here}/g/level", *range(5))
        await until(lambda: hub.arrived)
    assert not hub.kept
    hub.gate.set()
    async with following(settings, hub):
        await until(lambda: hub.kept.total() == 5)
    assert set(hub.kept.values()) == {1}


@pytest.mark.parametrize("error", [Unavailable("the disk hangs"), TooLarge("x"), TimeoutError()])
async def test_what_was_not_stored_comes_again(broker: Broker, error: Exception) -> None:
    here, hub = base(), Store()
    hub.failures = [error, error]
    async with following(chosen(broker, here), hub) as source:
        with publishing(broker) as publish:
            publish(f"{here}/g/level", b"1")
        await until(lambda: hub.kept[b"1"] == 3)
        await until(lambda: source.health().ok)
    # Acknowledged at last: who takes up the session hears no more of it.
    assert hub.kept == {b"1": 3}


async def test_what_says_nothing_is_done_with(broker: Broker) -> None:
    here, hub = base(), Store()
    hub.failures = [BadRequest("line 1: no such column", code="bad-csv")]
    async with following(chosen(broker, here), hub) as source:
        with publishing(broker) as publish:
            publish(f"{here}/g/level", b"1", b"2")
        await until(lambda: hub.kept[b"2"])
        await asyncio.sleep(0.05)
        assert source.health().ok
    assert hub.kept == {b"1": 1, b"2": 1}


async def test_what_comes_while_the_node_is_away_is_kept_for_it(broker: Broker) -> None:
    here, hub = base(), Store()
    settings = chosen(broker, here)
    async with following(settings, hub):
        pass
    with publishing(broker) as publish:
        publish(f"{here}/g/level", b"1", b"2")
    async with following(settings, hub):
        await until(lambda: hub.kept == {b"1": 1, b"2": 1})
    async with following(settings, hub):
        await asyncio.sleep(0.1)
    assert hub.kept == {b"1": 1, b"2": 1}


async def test_nodes_of_a_group_share_what_comes(broker: Broker) -> None:
    here, one, other = base(), Store(), Store()
    async with (
        following(chosen(broker, here, group="hub"), one),
        following(chosen(broker, here, group="hub"), other),
    ):
        with publishing(broker) as publish:
            publish(f"{here}/g/level", *range(20))
        await until(lambda: one.kept.total() + other.kept.total() == 20)
    assert one.kept
    assert other.kept
    assert not one.kept.keys() & other.kept.keys()


async def test_a_node_of_a_group_that_is_away_is_kept_its_share(broker: Broker) -> None:
    here, one, other = base(), Store(), Store()
    away = chosen(broker, here, group="hub")
    async with following(away, other):
        pass
    async with following(chosen(broker, here, group="hub"), one):
        with publishing(broker) as publish:
            publish(f"{here}/g/level", *range(20))
        await until(lambda: one.kept.total() == 10)
    async with following(away, other):
        await until(lambda: other.kept.total() == 10)
    assert not one.kept.keys() & other.kept.keys()


async def test_a_broker_that_refuses_and_one_with_certificates(tmp_path: Path) -> None:
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("hub.example", common_name="hub")
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "server.pem", tmp_path / "server.key"
    own, own_key = tmp_path / "own.pem", tmp_path / "own.key"
    authority.cert_pem.write_to_path(ca)
    server.cert_chain_pems[0].write_to_path(cert)
    server.private_key_pem.write_to_path(key)
    client.cert_chain_pems[0].write_to_path(own)
    client.private_key_pem.write_to_path(own_key)
    tmp_path.chmod(0o755)
    for file in (ca, cert, key):
        file.chmod(0o644)
    needs = f"cafile {ca}\ncertfile {cert}\nkeyfile {key}\nrequire_certificate true\nuse_identity_as_username true"
    broker = Broker(tmp_path, needs)
    broker.start()
    try:
        hub = Store()
        bare = chosen(broker, "lalert", tls=True, ca_file=str(ca))
        async with MqttSensors("gauges", bare, hub) as source:
            running = asyncio.create_task(source.run())
            await until(lambda: "broke" in source.health().detail)
            assert not source.health().ok
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        known = chosen(
            broker, "lalert", tls=True, ca_file=str(ca), certificate_file=str(own), key_file=str(own_key)
        )
        async with following(known, hub):
            pass
    finally:
        broker.kill()


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
import msgspec
from lalert import config
from lalert.hub import AdapterHub
from lalert.testing.node import ORG, running_node
from lalert_adapters.mqtt_sensors import MqttSensors, MqttSensorsConfig, Session

async def main():
    settings = msgspec.json.decode(sys.argv[2], type=MqttSensorsConfig)
    Session.acknowledge = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    async with running_node(Path(sys.argv[1]), config.parse(sys.argv[3])) as node:
        source = MqttSensors("gauges", settings, AdapterHub(node.node.hub, "gauges", ORG, node.http))
        running = asyncio.create_task(source.run())
        while not source.health().ok:
            await asyncio.sleep(0.01)
        print("follows", flush=True)
        await running

asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_hub_killed_between_storing_and_acknowledging_has_the_reading_once(
    broker: Broker, tmp_path: Path
) -> None:
    here = base()
    settings = chosen(broker, here)
    arguments = [str(tmp_path / "data"), msgspec.json.encode(settings).decode(), CONFIGURATION]
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert killed.stdout is not None
    while b"follows" not in await killed.stdout.readline():
        assert killed.returncode is None
    with publishing(broker) as publish:
        publish(f"{here}/g/level", {"time": datetime.now(UTC).isoformat(), "level_m": 1.25})
    assert await killed.wait() == -signal.SIGKILL
    async with running_node(tmp_path / "data", config.parse(CONFIGURATION)) as node:
        _, found = await node.get("/v1/stations/g/readings")
        assert [one["level_m"] for one in found["readings"]] == [1.25]
        answers: list[Observed] = []
        hub = AdapterHub(node.node.hub, "gauges", ORG, node.http)

        class Seen(FakeHub):
            async def take(
                self, form: str, raw: bytes, *, station: str | None = None, event: str = "up"
            ) -> Observed:
                answers.append(await hub.take(form, raw, station=station, event=event))
                return answers[-1]

        async with following(settings, Seen()):
            await until(lambda: bool(answers))
        assert answers == [Observed(0, 1)]


@pytest.mark.parametrize(
    "topic", ["a/#/b", "a/b+", "a/{station}x", "{station}/{station}", "$share/a/b", "#a"]
)
async def test_a_topic_that_cannot_be_is_a_mistake(topic: str) -> None:
    mistakes: list[str] = []
    assert config.read(MqttSensorsConfig, {"topics": [{"topic": topic}]}, "adapters.x.", mistakes) is None
    assert mistakes[0].startswith("adapters.x.topics[1].topic: ")


async def test_a_source_has_topics() -> None:
    mistakes: list[str] = []
    assert config.read(MqttSensorsConfig, {"topics": []}, "adapters.x.", mistakes) is None
    assert mistakes == ["adapters.x.topics: name 1 to 100"]


async def test_the_example_of_the_page_is_a_configuration() -> None:
    page = (ROOT / "docs" / "adapters" / "mqtt_sensors.md").read_text(encoding="utf-8")
    block = tomllib.loads(page.split("```toml\n")[1].split("```")[0])["adapters"]["gauges"]
    mistakes: list[str] = []
    own = {name: value for name, value in block.items() if name not in ("type", "org")}
    assert config.read(MqttSensorsConfig, own, "", mistakes) is not None, mistakes
    named = {field.encode_name for field in msgspec.structs.fields(MqttSensorsConfig)}
    assert {name for name in named if f"`{name}`" not in page} == set()


async def test_without_the_library_the_advice_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    where = points["lalert.adapters"]["mqtt_sensors"]
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    monkeypatch.delitem(sys.modules, "lalert_adapters.mqtt_sensors")
    mistakes: list[str] = []
    registry._load(EntryPoint("mqtt_sensors", where, registry.GROUP), "gauges", mistakes)
    assert "pip install 'lalert[mqtt]'" in mistakes[0]


async def test_a_connection_that_is_given_up_before_it_began_takes_no_session_away(broker: Broker) -> None:
    settings = chosen(broker, base())
    async with following(settings, Store()) as source:
        late = Session(settings, settings.client_id, asyncio.get_running_loop())
        await asyncio.to_thread(late.close)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await late.open()
        assert source.health().ok
