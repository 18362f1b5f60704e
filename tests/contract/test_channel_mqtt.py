"""MQTT under the suite that every channel must pass, and what is its own, against a real mosquitto."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from lalert import cap, registry
from lalert.config import Settings
from lalert.errors import BadRequest, PermanentFailure, TemporaryFailure
from lalert.model import (
    Alert,
    Delivery,
    Entry,
    Facts,
    MsgType,
    Origin,
    OriginKind,
    Role,
    Status,
    Subscription,
)
from lalert.testing import make_cap
from lalert.testing.alerts import make_alert
from lalert.testing.channel import Answer, ChannelContract, Received, delivery, subscription, until
from lalert.testing.hub import FakeHub
from lalert.testing.node import running_node
from lalert_adapters.mqtt import Mqtt, MqttConfig

PASSWORD = "swordfish-and-more"
ADVICE = "mosquitto is needed: scripts/setup_tests.sh, or apt-get install --no-install-recommends mosquitto"
NOW = datetime.now(UTC)


class Broker:
    """A mosquitto of the test's own on a free port of loopback, without persistence."""

    def __init__(self, folder: Path, settings: str = "allow_anonymous true") -> None:
        found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if found is None:
            pytest.fail(ADVICE)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        acl = folder / "acl"
        acl.write_text(
            "topic readwrite lalert/#\ntopic write mute/#\ntopic readwrite ping/#\ntopic read denied/#\nuser hub\ntopic readwrite #\n"
        )
        acl.chmod(0o644)
        self._file = folder / "mosquitto.conf"
        user = f"user {os.environ.get('USER', 'root')}\n" if os.getuid() == 0 else ""
        self._file.write_text(
            f"listener {self.port} 127.0.0.1\n{user}acl_file {acl}\n{settings}\nlog_type none\n"
        )
        self._command = [found, "-c", str(self._file)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._process is not None:
            return
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 5
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, "mosquitto did not start"
                assert self._process.poll() is None, "mosquitto ended at once"
                time.sleep(0.01)
            else:
                return

    def signal(self, which: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(which)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@dataclass
class Listener:
    """A subscriber to everything that keeps what it got; `messages` waits until all that was published before has come."""

    port: int
    got: list[MQTTMessage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ready = threading.Event()
        self._pongs: dict[str, threading.Event] = {}
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=uuid.uuid4().hex,
            protocol=MQTTv5,
            reconnect_on_failure=False,
        )
        self.client.on_connect = lambda client, *_: (
            client.subscribe([("lalert/#", 1), ("ping/#", 1)]) and None
        )
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.on_message = self._take
        self.client.connect("127.0.0.1", self.port)
        self.client.loop_start()
        assert self._ready.wait(5)

    def _take(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if message.topic.startswith("ping/"):
            self._pongs.get(message.topic, threading.Event()).set()
        else:
            self.got.append(message)

    def messages(self) -> list[MQTTMessage]:
        topic = f"ping/{uuid.uuid4().hex}"
        pong = self._pongs[topic] = threading.Event()
        self.client.publish(topic, b"x", qos=1)
        assert pong.wait(5), "the listener does not hear of its own message"
        return list(self.got)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def listening(broker: Broker) -> Iterator[Listener]:
    listener = Listener(broker.port)
    try:
        yield listener
    finally:
        listener.close()


def retained(broker: Broker) -> dict[str, MQTTMessage]:
    """Return what somebody who comes now is told of, by topic."""
    with listening(broker) as late:
        return {message.topic: message for message in late.messages()}


def properties(message: MQTTMessage) -> dict[str, str]:
    return dict(getattr(message.properties, "UserProperty", []))


@dataclass
class MqttRig:
    channel: Mqtt
    subscription: Subscription
    broker: Broker
    listener: Listener
    hub: FakeHub

    def answer(self, how: Answer) -> None:
        target = "denied/lalert" if how is Answer.PERMANENT else "lalert/hitoyoshi"
        self.subscription = replace(self.subscription, target=target)
        if how is Answer.TEMPORARY:
            self.broker.kill()
        else:
            self.broker.start()

    def received(self) -> Sequence[Received]:
        return [
            Received(properties(m)["key"], f"{properties(m)['title']}\n{m.payload.decode()}")
            for m in self.listener.messages()
            if m.topic.endswith(("/alerts", "/canary"))
        ]


@asynccontextmanager
async def make_rig(
    folder: Path, format: str = "json", settings: str = "allow_anonymous true", **config: Any
) -> AsyncIterator[MqttRig]:
    broker = Broker(folder, settings)
    broker.start()
    hub = FakeHub()
    patience = config.pop("timeout_s", 4.0)  # also less than a configuration may say
    given = {"host": "127.0.0.1", "port": broker.port, "tls": False} | config
    chosen = msgspec.structs.replace(msgspec.convert(given, MqttConfig), timeout_s=patience)
    try:
        with listening(broker) as listener:
            async with Mqtt("mqtt", chosen, hub) as channel:
                asked = subscription("mqtt", "lalert/hitoyoshi", format)
                hub.saved[asked.id] = asked
                yield MqttRig(channel, asked, broker, listener, hub)
    finally:
        broker.kill()


class TestMqttWithJson(ChannelContract):
    # MQTT has no word for a target that unsubscribed; silence is the broker's, tested below.
    answers = frozenset({Answer.OK, Answer.TEMPORARY, Answer.PERMANENT})

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def rig(self) -> Any:
        return make_rig(self.folder)


def told(
    rig: MqttRig,
    number: int,
    codes: Sequence[str] = ("432032",),
    kind: str = "evacuation",
    replaced: Sequence[Alert] = (),
    **more: Any,
) -> Delivery:
    alert = make_alert(identifier=f"mqtt-{number}", references=replaced, **more)
    facts = Facts(codes=frozenset(codes), kind=kind)
    entry = Entry(f"mqtt-{number}", NOW, NOW, alert, Origin(OriginKind.HTTP, "t"), alert.id, facts)
    return Delivery(f"key-{number}", entry, rig.subscription, 1)


AREA = "lalert/hitoyoshi/area"


async def test_a_canary_is_observed_as_the_broker_hands_it_on_and_stays_nowhere(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        for token in ("canary-1", "canary-2"):
            await rig.channel.canary("lalert/hitoyoshi", token)
        assert rig.hub.confirmed == ["canary-1", "canary-2"]
        topics = [m.topic for m in rig.listener.messages()]
        assert topics == ["lalert/hitoyoshi/canary"] * 2
        assert retained(rig.broker) == {}


async def test_a_canary_that_the_broker_takes_and_hands_to_nobody_does_not_come_through(
    tmp_path: Path,
) -> None:
    async with make_rig(tmp_path, timeout_s=0.3) as rig:
        with pytest.raises(TemporaryFailure, match="hand the canary on"):
            await rig.channel.canary("mute", "canary-1")
        assert rig.hub.confirmed == []


async def test_health_says_that_the_broker_is_gone_and_that_it_is_back(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        await rig.channel.canary("lalert/hitoyoshi", "canary-1")
        rig.broker.kill()
        await until(lambda: not rig.channel.health().ok)
        with pytest.raises(TemporaryFailure):
            await rig.channel.canary("lalert/hitoyoshi", "canary-2")
        assert "broker" in rig.channel.health().detail
        rig.broker.start()
        await rig.channel.canary("lalert/hitoyoshi", "canary-3")
        assert rig.channel.health().ok


async def test_a_preview_names_the_topics_that_the_alert_is_told_at(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        sent = told(rig, 1, status=Status.EXERCISE)
        shown = {part.name: part.text for part in rig.channel.preview(sent.entry, None).parts}
        await rig.channel.deliver(sent)
        got = rig.listener.messages()
        assert {f"lalert/hitoyoshi/{topic}" for topic in shown["topics"].split()} == {m.topic for m in got}
        assert {shown["title"]} == {properties(m)["title"] for m in got}
        assert {shown["payload"]} == {m.payload.decode() for m in got}


async def test_it_is_retained_for_each_area_and_told_once_to_those_who_listen(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        sent = told(rig, 1, ["432032", "43"])
        await rig.channel.deliver(sent)
        [event] = [m for m in rig.listener.messages() if m.topic == "lalert/hitoyoshi/alerts"]
        kept = retained(rig.broker)
        assert set(kept) == {f"{AREA}/432032/evacuation", f"{AREA}/43/evacuation"}
        for message in (event, *kept.values()):
            assert msgspec.json.decode(message.payload)["id"] == sent.entry.alert.id
            assert message.qos == 1
            assert properties(message) | {"title": ""} == {
                "key": "key-1",
                "id": sent.entry.alert.id,
                "position": "mqtt-1",
                "status": "Actual",
                "msgType": "Alert",
                "title": "",
            }


async def test_cap_arrives_byte_for_byte(tmp_path: Path) -> None:
    async with make_rig(tmp_path, "cap") as rig:
        sent = told(rig, 1)
        await rig.channel.deliver(sent)
        [message] = retained(rig.broker).values()
        assert message.payload == sent.entry.alert.raw
        assert getattr(message.properties, "ContentType", "") == "application/cap+xml"


async def test_a_drill_has_topics_of_its_own_and_never_clears_or_replaces_a_real_alert(
    tmp_path: Path,
) -> None:
    async with make_rig(tmp_path) as rig:
        await rig.channel.deliver(real := told(rig, 1))
        await rig.channel.deliver(told(rig, 2, status=Status.EXERCISE))
        kept = retained(rig.broker)
        drill = kept.pop("lalert/hitoyoshi/drill/area/432032/evacuation")
        assert properties(drill)["title"].startswith("【訓練】")
        [(topic, message)] = kept.items()
        assert topic == f"{AREA}/432032/evacuation"
        assert properties(message)["id"] == real.entry.alert.id
        events = [m.topic for m in rig.listener.messages() if m.topic.endswith("/alerts")]
        assert events == ["lalert/hitoyoshi/alerts", "lalert/hitoyoshi/drill/alerts"]


async def test_an_update_replaces_and_clears_the_areas_that_it_leaves(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        await rig.channel.deliver(first := told(rig, 1, ["432032", "432041"]))
        await rig.channel.deliver(
            second := told(rig, 2, msg_type=MsgType.UPDATE, replaced=[first.entry.alert])
        )
        [(topic, message)] = retained(rig.broker).items()
        assert topic == f"{AREA}/432032/evacuation"
        assert properties(message)["id"] == second.entry.alert.id


async def test_a_cancel_clears_and_those_who_listen_see_the_empty_payload(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        await rig.channel.deliver(first := told(rig, 1))
        other = told(rig, 2, ["432041"])
        await rig.channel.deliver(other)
        await rig.channel.deliver(told(rig, 3, [], "", msg_type=MsgType.CANCEL, replaced=[first.entry.alert]))
        assert set(retained(rig.broker)) == {f"{AREA}/432041/evacuation"}
        assert [m.payload for m in rig.listener.messages() if m.topic == f"{AREA}/432032/evacuation"][
            -1
        ] == b""


async def test_a_cancel_after_a_restart_of_the_hub_still_knows_what_is_retained(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        await rig.channel.deliver(first := told(rig, 1))
        config = MqttConfig(host="127.0.0.1", port=rig.broker.port, tls=False)
        async with Mqtt("mqtt", config, rig.hub) as again:
            await again.deliver(told(rig, 2, [], "", msg_type=MsgType.CANCEL, replaced=[first.entry.alert]))
        assert not retained(rig.broker)


async def test_the_end_of_an_alert_clears_what_is_its_own_and_not_what_came_after_it(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        await rig.channel.deliver(first := told(rig, 1, ["432032", "432041"]))
        await rig.channel.deliver(second := told(rig, 2))
        rig.hub.entries += [first.entry, second.entry]
        rig.hub.end(first.entry)
        await until(lambda: any(m.payload == b"" for m in rig.listener.got))
        [(topic, message)] = retained(rig.broker).items()
        assert topic == f"{AREA}/432032/evacuation"
        assert properties(message)["id"] == second.entry.alert.id


async def test_who_comes_after_the_expiry_is_told_nothing_and_before_it_how_long_is_left(
    tmp_path: Path,
) -> None:
    async with make_rig(tmp_path) as rig:
        await rig.channel.deliver(told(rig, 1, expires=datetime.now(UTC) + timedelta(seconds=1)))
        await rig.channel.deliver(told(rig, 2, ["432041"], expires=datetime.now(UTC) + timedelta(hours=1)))
        await until(lambda: set(retained(rig.broker)) == {f"{AREA}/432041/evacuation"})
        [message] = retained(rig.broker).values()
        assert 3_580 <= message.properties.MessageExpiryInterval <= 3_600  # type: ignore[union-attr]


async def test_what_is_over_already_is_told_and_not_retained(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        await rig.channel.deliver(told(rig, 1, expires=datetime.now(UTC) - timedelta(seconds=1)))
        assert not retained(rig.broker)


async def test_there_is_no_outcome_before_the_acknowledgement_and_breaking_off_does_no_harm(
    tmp_path: Path,
) -> None:
    async with make_rig(tmp_path) as rig:
        await rig.channel.deliver(told(rig, 1))
        rig.broker.signal(signal.SIGSTOP)
        try:
            waiting = asyncio.ensure_future(rig.channel.deliver(told(rig, 2)))
            done, _ = await asyncio.wait([waiting], timeout=0.3)
            assert not done
            waiting.cancel()
            done, _ = await asyncio.wait([waiting], timeout=1.0)
            assert waiting.cancelled()
        finally:
            rig.broker.signal(signal.SIGCONT)
        await rig.channel.deliver(told(rig, 2))


async def test_a_broker_that_dies_under_a_delivery_is_a_temporary_failure(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        await rig.channel.deliver(told(rig, 1))
        rig.broker.signal(signal.SIGSTOP)
        waiting = asyncio.ensure_future(rig.channel.deliver(told(rig, 2)))
        await asyncio.wait([waiting], timeout=0.1)
        rig.broker.kill()
        with pytest.raises(TemporaryFailure, match="broke"):
            await waiting
        with pytest.raises(TemporaryFailure, match="cannot connect"):
            await rig.channel.deliver(told(rig, 2))
        rig.broker.start()
        await rig.channel.deliver(told(rig, 2))


async def test_an_alert_of_a_hundred_areas_arrives_whole(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        codes = [f"{number:06}" for number in range(100)]
        await rig.channel.deliver(told(rig, 1, codes))
        assert set(retained(rig.broker)) == {f"{AREA}/{code}/evacuation" for code in codes}


async def test_what_the_broker_finds_too_large_is_a_permanent_failure(tmp_path: Path) -> None:
    async with make_rig(tmp_path, settings="allow_anonymous true\nmax_packet_size 3000") as rig:
        with pytest.raises(PermanentFailure, match="3000"):
            await rig.channel.deliver(told(rig, 1))


async def test_a_wrong_password_is_a_temporary_failure_that_does_not_show_it(tmp_path: Path) -> None:
    users, right, wrong = tmp_path / "users", tmp_path / "right", tmp_path / "wrong"
    command = ["mosquitto_passwd", "-b", "-c", str(users), "hub", PASSWORD]
    await asyncio.to_thread(lambda: subprocess.run(command, check=True, capture_output=True))
    users.chmod(0o644)
    right.write_text(PASSWORD + "\n")
    wrong.write_text("not-" + PASSWORD)
    settings = f"allow_anonymous false\npassword_file {users}"
    broker = Broker(tmp_path, settings)
    broker.start()
    try:
        for file, passes in ((wrong, False), (right, True)):
            config = MqttConfig(
                host="127.0.0.1", port=broker.port, tls=False, user="hub", password_file=str(file)
            )
            async with Mqtt("mqtt", config, FakeHub()) as channel:
                first = delivery(subscription("mqtt", "lalert"))
                if passes:
                    await channel.deliver(first)
                else:
                    with pytest.raises(TemporaryFailure, match="refused the connection") as caught:
                        await channel.deliver(first)
                    assert PASSWORD not in str(caught.value)
    finally:
        broker.kill()


@pytest.mark.parametrize(
    "files", [{"user": "hub", "password_file": "missing"}, {"tls": True, "ca_file": "missing"}]
)
async def test_a_file_that_cannot_be_read_is_named_by_its_setting(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    async with make_rig(tmp_path, **files) as rig:
        with pytest.raises(TemporaryFailure, match="password_file or ca_file"):
            await rig.channel.deliver(told(rig, 1))


# paho leaves a socket whose handshake failed to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
async def test_tls_is_spoken_and_a_certificate_of_a_stranger_is_refused(tmp_path: Path) -> None:
    ours, strangers = trustme.CA(), trustme.CA()
    files = {name: str(tmp_path / name) for name in ("chain", "key", "ours", "strangers")}
    issued = ours.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(files["chain"])
    issued.private_key_pem.write_to_path(files["key"])
    ours.cert_pem.write_to_path(files["ours"])
    strangers.cert_pem.write_to_path(files["strangers"])
    broker = Broker(tmp_path, f"allow_anonymous true\ncertfile {files['chain']}\nkeyfile {files['key']}")
    broker.start()
    try:
        for authority, passes in (("ours", True), ("strangers", False)):
            config = MqttConfig(host="127.0.0.1", port=broker.port, ca_file=files[authority])
            async with Mqtt("mqtt", config, FakeHub()) as channel:
                first = delivery(subscription("mqtt", "lalert"))
                if passes:
                    await channel.deliver(first)
                else:
                    with pytest.raises(TemporaryFailure, match="TLS"):
                        await channel.deliver(first)
    finally:
        broker.kill()


async def test_a_whole_hub_retains_what_is_posted_until_it_is_cancelled_or_ends_by_itself(
    tmp_path: Path,
) -> None:
    broker = Broker(tmp_path)
    broker.start()
    block = {"host": "127.0.0.1", "port": broker.port, "tls": False, "canary": {"target": "lalert/watch"}}
    settings = Settings(adapters={"mqtt": block})
    sender = "bousai@hitoyoshi.example"
    first = make_cap(sender=sender, identifier="first", level=4)
    cancel = make_cap(
        sender=sender, identifier="over", msg_type=MsgType.CANCEL, references=[cap.parse(first)]
    )
    try:
        async with running_node(tmp_path / "data", settings) as node:
            asked = {"channel": "mqtt", "target": "lalert/city", "filter": {"area": "432032"}}
            async with node.http.post(
                f"{node.url}/v1/subscriptions", json=asked, headers=node.headers(Role.RECEIVER)
            ) as answer:
                assert answer.status == 201, await answer.text()
            with listening(broker) as listener:

                async def cleared(raw: bytes) -> None:
                    """Wait until what is posted has been retained and then been taken away."""
                    listener.got.clear()
                    status, said = await node.post(raw)
                    assert status == 201, said
                    await until(lambda: any("/area/432032/" in m.topic and m.payload for m in listener.got))
                    if raw is first:
                        assert (await node.post(cancel))[0] == 201
                    await until(
                        lambda: any("/area/432032/" in m.topic and not m.payload for m in listener.got)
                    )

                await cleared(first)
                soon = datetime.now(UTC) + timedelta(seconds=2)
                await cleared(make_cap(sender=sender, identifier="short", level=4, expires=soon))
            shown = await node.local("/channels")
            [mqtt] = [channel for channel in shown["channels"] if channel["name"] == "mqtt"]
            assert mqtt["canary"]["last"]["sighting"] == "observed"
            assert mqtt["health"] == {"ok": True, "detail": ""}
            assert not retained(broker)
    finally:
        broker.kill()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"target": "elsewhere"}, "lalert"),
        ({"target": "lalertx"}, "lalert"),
        ({"target": "lalert/#"}, "levels"),
        ({"target": "lalert/+"}, "levels"),
        ({"target": "lalert//a"}, "levels"),
        ({"target": "lalert/" + "a/" * 200 + "a"}, "200"),
        ({"target": "lalert/drill"}, "drill"),
        ({"format": "geojson"}, "format"),
        ({"options": {"qos": "0"}}, "options.qos"),
    ],
)
def test_a_subscription_that_will_not_do_is_refused_with_the_reason(change: Any, reason: str) -> None:
    channel = Mqtt("mqtt", MqttConfig(), FakeHub())
    asked = subscription("mqtt", "lalert/hitoyoshi")
    assert channel.check_subscription(asked) == asked
    with pytest.raises(BadRequest, match=reason):
        channel.check_subscription(replace(asked, **change))


def test_without_the_library_the_advice_is_to_install_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    for module in ("lalert_adapters.mqtt", "lalert_adapters.mqtt.link"):
        monkeypatch.delitem(sys.modules, module)
    mistakes: list[str] = []
    registry._load(EntryPoint("mqtt", "lalert_adapters.mqtt:Mqtt", registry.GROUP), "mqtt", mistakes)
    assert "pip install 'lalert[mqtt]'" in mistakes[0]
