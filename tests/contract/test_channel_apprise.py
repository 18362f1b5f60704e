"""Apprise under the suite of every channel, with its own `@notify` as the far end, and what is its own: which addresses, threads, lengths, secrets."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import socket
import subprocess
import sys
import threading
import tomllib
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import apprise
import pytest
import requests

from lalert.config import read
from lalert.errors import BadRequest, ConfigError, PermanentFailure, TemporaryFailure
from lalert.model import Delivery, Entry, Scope, Status, Subscription
from lalert.testing import make_alert
from lalert.testing.channel import CANARY_KEY, Answer, ChannelContract, Received, delivery, subscription
from lalert.testing.hub import FakeHub
from lalert_adapters import apprise as module
from lalert_adapters.apprise import FIXED, Apprise, AppriseConfig

ROOT = Path(__file__).parents[2]
SECRET = "lalerttest://token-that-nobody-may-see"


@dataclass
class FarEnd:
    """What the scheme `lalerttest` calls."""

    how: Answer = Answer.OK
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    going: threading.Event = field(default_factory=threading.Event)


FAR = FarEnd()


@pytest.fixture(scope="module", autouse=True)
def far_end_of_apprise() -> Iterator[None]:
    services = apprise.manager_plugins.NotificationManager()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        # It looks for a module of the standard library that ends with Python 3.13.
        warnings.simplefilter("ignore", DeprecationWarning)
        services.load_modules()  # type: ignore[no-untyped-call]

    @apprise.decorators.notify(on="lalerttest")  # type: ignore[no-untyped-call,untyped-decorator]
    def call(body: str, title: str, notify_type: Any, *args: Any, **more: Any) -> bool:
        FAR.threads.append(threading.current_thread())
        FAR.calls.append((title, body, str(notify_type)))
        if FAR.how is Answer.SILENCE:
            assert FAR.going.wait(20)
        return FAR.how is Answer.OK

    yield
    services.remove("lalerttest")  # type: ignore[no-untyped-call]


@pytest.fixture(autouse=True)
def far() -> Iterator[FarEnd]:
    FAR.how, FAR.calls, FAR.threads = Answer.OK, [], []
    FAR.going.clear()
    yield FAR
    FAR.going.set()


@dataclass
class NotifyRig:
    channel: Apprise
    subscription: Subscription = field(default_factory=lambda: subscription("everything", "duty"))

    def answer(self, how: Answer) -> None:
        FAR.how = how

    def received(self) -> Sequence[Received]:
        """Notifications have no key; what is the same on every attempt and tells alerts apart is the address of the alert."""
        return [
            Received("".join(re.findall(r"/(?:alerts|canaries)/(\S+)", body)), f"{title}\n{body}")
            for title, body, _ in list(FAR.calls)
        ]


@asynccontextmanager
async def open_apprise(
    folder: Path, url: str = SECRET, hub: FakeHub | None = None, **changes: Any
) -> AsyncIterator[Apprise]:
    file = folder / "duty"
    file.write_text(url + "\n", encoding="utf-8")
    config = AppriseConfig(targets={"duty": str(file)}, **changes)
    async with Apprise("everything", config, hub or FakeHub(base_url="https://hub.example")) as channel:
        yield channel


class TestApprise(ChannelContract):
    answers = frozenset({Answer.OK, Answer.TEMPORARY, Answer.SILENCE})

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Any]:
        async with open_apprise(self.path) as channel:
            yield NotifyRig(channel)


def a_delivery(target: str = "duty", **changes: Any) -> Delivery:
    first = delivery(subscription("everything", target))
    return replace(first, entry=replace(first.entry, alert=make_alert(**changes)))


# Which addresses are called


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "syslog://",
        "dbus://",
        "blink1://",
        "json://127.0.0.1/",
        "jsons://169.254.169.254/latest",
        "xml://localhost",
        "form://10.0.0.1",
        "mailto://user:pass@localhost",
        "apprise://127.0.0.1/token",
        "http://127.0.0.1/",
        "slack://127.0.0.1/",
        "fcm://project/device?keyfile=http://127.0.0.1/",
        "acs://a@b.example/key/127.0.0.1",
        "lalerttest://token",
        "tgram://123456789:abcdefghijklmnopqrstuvwxyz123456789/1?verify=no",
        "tgram://123456789:abcdefghijklmnopqrstuvwxyz123456789/1#x",
        "tgram://123456789:abcdefghijklmnopqrstuvwxyz123456789/1 json://127.0.0.1",
        "tgram://123456789:abcdefghijklmnopqrstuvwxyz123456789/1\njson://127.0.0.1",
        "TGRAM://123456789:abcdefghijklmnopqrstuvwxyz123456789/1",
        "tgram://nonsense",
        "tgram://123456789:abcdefghijklmnopqrstuvwxyz123456789/1/2/3",
        "tgram://" + "1" * 600,
        "unknown-name",
        "",
    ],
)
async def test_a_subscriber_can_point_the_hub_at_nothing_but_the_schemes_that_are_allowed(
    target: str, tmp_path: Path
) -> None:
    async with open_apprise(tmp_path, schemes=("tgram",)) as channel:
        with pytest.raises(BadRequest, match="target"):
            channel.check_subscription(subscription("everything", target))
        # Also what was kept before the configuration changed, and what came in by another way.
        with pytest.raises(PermanentFailure):
            await channel.deliver(a_delivery(target))
    assert not FAR.calls


async def test_an_allowed_scheme_is_taken_and_without_it_is_not(tmp_path: Path) -> None:
    good = subscription("everything", "tgram://123456789:abcdefghijklmnopqrstuvwxyz123456789/12315544")
    async with open_apprise(tmp_path, schemes=("tgram",)) as channel:
        assert channel.check_subscription(good) == good
    async with open_apprise(tmp_path) as channel:
        with pytest.raises(BadRequest, match="must be one of duty"):
            channel.check_subscription(good)


@pytest.mark.parametrize(
    "scheme", ["json", "file", "syslog", "mailto", "slack", "sns", "acs", "zulip", "fcm"]
)
def test_a_scheme_whose_host_can_be_chosen_cannot_be_allowed(scheme: str) -> None:
    mistakes: list[str] = []
    read(AppriseConfig, {"schemes": [scheme]}, "", mistakes)
    assert any(scheme in one and "targets" in one for one in mistakes)


SAMPLES = {
    "bulksms": "bulksms://{t}:{t}@15551230987",
    "clicksend": "clicksend://user:{t}@15551230987",
    "d7sms": "d7sms://{t}@15551230987",
    "msgbird": "msgbird://{a}/15551230987/15551230986",
    "nexmo": "nexmo://{h}:{a}@15551230987/15551230986",
    "plivo": "plivo://{p}@{x}/15551230987/15551230986",
    "pover": "pover://{u}@{u}",
    "seven": "seven://{a}/15551230987",
    "tgram": "tgram://123456789:abcdefghijklmnopqrstuvwxyz123456789/12315544",
    "threema": "threema://*THEGWID@{a}/15551230987",
    "twilio": "twilio://AC{x}:{x}@15551230987/15551230986",
    "viber": "viber://{t}/{t}",
    "vonage": "vonage://{h}:{a}@15551230987/15551230986",
    "whatsapp": "whatsapp://{w}@{n}/15551230987",
}
PARTS = {
    "t": "token0123456789",
    "a": "a" * 25,
    "h": "a1b2c3d4",
    "p": "P" * 25,
    "u": "u" * 30,
    "x": "a" * 32,
    "w": "w" * 40,
    "n": "1" * 16,
}


@dataclass
class Calls:
    """Whom Apprise would have called, and whether without following a redirect and with a look at the certificate."""

    hosts: list[str] = field(default_factory=list)
    safe: list[bool] = field(default_factory=list)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()

    def send(self: requests.Session, request: requests.PreparedRequest, **more: Any) -> requests.Response:
        calls.hosts.append(urlsplit(request.url or "").hostname or "")
        calls.safe.append(more["allow_redirects"] is False and bool(more["verify"]))
        raise requests.ConnectionError("nobody is called in this test")

    monkeypatch.setattr(requests.Session, "send", send)
    monkeypatch.setattr(apprise.NotifyBase, "throttle", lambda *_, **__: None)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("a connection of its own"))
    return calls


def test_every_scheme_that_can_be_allowed_has_a_sample() -> None:
    assert SAMPLES.keys() == FIXED.keys()


@pytest.mark.parametrize("scheme", FIXED)
@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "/@127.0.0.1",
        "/..%2f..%2f@127.0.0.1:80%2f",
        "/%23@127.0.0.1",
        "/%3fregion=127.0.0.1%26host=127.0.0.1",
    ],
)
async def test_an_allowed_scheme_calls_its_own_host_whatever_is_in_the_address(
    scheme: str, hostile: str, web: Calls, tmp_path: Path
) -> None:
    target = SAMPLES[scheme].format(**PARTS) + hostile
    async with open_apprise(tmp_path, schemes=(scheme,)) as channel:
        if not hostile:
            channel.check_subscription(subscription("everything", target))
            with pytest.raises(TemporaryFailure):
                await channel.deliver(a_delivery(target))
            assert web.hosts
            assert all(web.safe)
    # Below everything that the hub checks itself.
    plugin = apprise.Apprise.instantiate(target)
    assert plugin or hostile
    if plugin:
        apprise.Apprise(plugin).notify(body="body", title="title")
    assert set(web.hosts) <= {FIXED[scheme]}


# Threads


async def test_a_service_that_hangs_costs_a_thread_and_no_more_than_there_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "THREADS", 3)
    FAR.how = Answer.SILENCE
    async with open_apprise(tmp_path, timeout_s=0.1) as channel:
        for _ in range(3):
            with pytest.raises(TemporaryFailure, match="may have been sent"):
                await channel.deliver(a_delivery())
        with pytest.raises(TemporaryFailure, match="all 3 threads"):
            await channel.deliver(a_delivery())
        assert not channel.health().ok
        assert len(FAR.calls) == 3
        # Not those of a pool, for which the process would wait at its end.
        assert {thread.name for thread in FAR.threads} == {"everything notifies"}
        assert all(thread.daemon for thread in FAR.threads)
        FAR.how = Answer.OK
        FAR.going.set()
        async with asyncio.timeout(5):
            while not channel.health().ok:
                await asyncio.sleep(0.005)
        assert (await channel.deliver(a_delivery())).detail == "notified"


async def test_the_loop_goes_on_while_a_service_hangs(tmp_path: Path) -> None:
    FAR.how = Answer.SILENCE
    async with open_apprise(tmp_path) as channel:
        going = asyncio.ensure_future(channel.deliver(a_delivery()))
        async with asyncio.timeout(5):
            while not FAR.calls:
                await asyncio.sleep(0.005)
        assert not going.done()
        FAR.how = Answer.OK
        FAR.going.set()
        assert (await going).sent


@pytest.mark.slow
def test_a_service_that_hangs_does_not_hold_up_the_end_of_the_process(tmp_path: Path) -> None:
    program = """
import asyncio, sys, threading
sys.path[:0] = sys.argv[1:3]
import apprise
from pathlib import Path
from lalert.errors import TemporaryFailure
from lalert.testing.channel import delivery, subscription
from lalert.testing.hub import FakeHub
from lalert_adapters.apprise import Apprise, AppriseConfig

@apprise.decorators.notify(on="hangs")
def call(*args, **more):
    threading.Event().wait()

async def main():
    Path(sys.argv[3]).write_text("hangs://x")
    config = AppriseConfig(targets={"duty": sys.argv[3]}, timeout_s=0.2)
    async with Apprise("everything", config, FakeHub()) as channel:
        try:
            await channel.deliver(delivery(subscription("everything", "duty")))
        except TemporaryFailure:
            print("given up")

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT), str(ROOT / "adapters"), str(tmp_path / "duty")],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "given up\n"


# Words


class Tight(apprise.NotifyBase):  # type: ignore[no-untyped-call]
    """A service with little room, as SMS has."""

    service_name = "Tight"  # type: ignore[assignment]
    secure_protocol = "tight"  # type: ignore[assignment]
    title_maxlen = 0
    body_maxlen = 70
    sent: list[str] = []  # noqa: RUF012  # read by the test alone
    templates = ("{schema}://",)  # type: ignore[assignment]

    @staticmethod
    def parse_url(url: str, *args: Any, **more: Any) -> Any:
        return apprise.NotifyBase.parse_url(url, verify_host=False)

    def url(self, *args: Any, **more: Any) -> str:
        return "tight://"

    def send(self, body: str, title: str = "", notify_type: Any = None, **more: Any) -> bool:
        assert not title
        self.sent.append(body)
        return True


@pytest.fixture
def tight() -> Iterator[type[Tight]]:
    services = apprise.manager_plugins.NotificationManager()  # type: ignore[no-untyped-call]
    services.add(Tight, schemas="tight")  # type: ignore[no-untyped-call]
    Tight.sent = []
    yield Tight
    services.remove("tight")  # type: ignore[no-untyped-call]


async def test_one_delivery_is_one_notification_that_fits(tight: type[Tight], tmp_path: Path) -> None:
    async with open_apprise(tmp_path, "tight://") as channel:
        await channel.deliver(
            a_delivery(status=Status.EXERCISE, description="球磨川の水位が上がっています。" * 20)
        )
        await channel.canary("duty", CANARY_KEY)
    text, canary = tight.sent
    assert text.startswith("【訓練】")
    assert text.count("【訓練】") >= 2, "title and body are marked"
    assert 30 < len(text) <= 70
    assert "危険な場所から全員避難してください。" in text
    assert CANARY_KEY in canary
    assert len(canary) <= 70


async def test_what_does_not_fit_is_a_failure_that_names_the_limit(
    tight: type[Tight], tmp_path: Path
) -> None:
    class Verbose(FakeHub):
        def text(self, entry: Entry, lang: str | None = None, room: Any = None) -> Any:
            return super().text(entry, lang)

    async with open_apprise(tmp_path, "tight://", Verbose()) as channel:
        with pytest.raises(PermanentFailure, match="at most 70"):
            await channel.deliver(a_delivery(description="球磨川の水位が上がっています。" * 20))
    assert not tight.sent


async def test_words_are_sent_as_they_are(tmp_path: Path) -> None:
    async with open_apprise(tmp_path) as channel:
        await channel.deliver(
            a_delivery(headline="川:fire:\\n<b>1&2</b>", scope=Scope.RESTRICTED, restriction="x")
        )
        await channel.deliver(a_delivery(msg_type="Cancel", references=[make_alert()]))
    [(title, body, kind), (_, _, other)] = FAR.calls
    assert title == "川:fire:\\n<b>1&2</b>"
    assert "https://hub.example" not in body, "what is not public has no page that anybody can open"
    assert (kind, other) == ("warning", "info")


# Secrets


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Return what a program's own log gets to see; pytest's hangs itself also where nothing is passed on."""
    root, seen = logging.getLogger(), io.StringIO()
    handler, level = logging.StreamHandler(seen), root.level
    root.addHandler(handler)
    root.setLevel(1)
    yield seen
    root.removeHandler(handler)
    root.setLevel(level)


async def test_nothing_secret_is_logged(
    tmp_path: Path, logged: io.StringIO, capfd: pytest.CaptureFixture[str], web: Calls
) -> None:
    token = "123456789:abcdefghijklmnopqrstuvwxyz123456789"
    async with open_apprise(tmp_path, f"tgram://{token}/12315544", schemes=("plivo",)) as channel:
        with pytest.raises(TemporaryFailure) as failed:
            await channel.deliver(a_delivery())
        with pytest.raises(BadRequest) as refused:
            channel.check_subscription(subscription("everything", "plivo://0123456789@98765/1555/1666"))
    shown = logged.getvalue() + "".join(capfd.readouterr()) + str(failed.value) + str(refused.value)
    assert token not in shown
    assert "98765" not in shown


async def test_what_a_service_answers_is_said_in_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(self: requests.Session, request: requests.PreparedRequest, **more: Any) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer._content, answer.request = 401, b"{}", request
        return answer

    monkeypatch.setattr(requests.Session, "send", send)
    async with open_apprise(tmp_path, SAMPLES["tgram"]) as channel:
        with pytest.raises(TemporaryFailure, match="HTTP 401"):
            await channel.deliver(a_delivery())


# Settings


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "not an address",
        "tgram://",
        b"\xff\xfe",
        SAMPLES["tgram"] + "/12315545",
        SAMPLES["tgram"] + "?retry=2",
    ],
)
async def test_a_target_that_does_not_hold_is_found_at_the_start(
    content: str | bytes | None, tmp_path: Path
) -> None:
    file = tmp_path / "target"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=r"targets\.duty"):
        async with Apprise("everything", AppriseConfig(targets={"duty": str(file)}), FakeHub()):
            pass


@pytest.mark.parametrize(
    ("block", "mistake"),
    [({}, "give one of them"), ({"targets": {"Duty!": "/x"}}, "a name is"), ({"timeout_s": 51}, "timeout_s")],
)
def test_mistakes_of_the_configuration(block: dict[str, Any], mistake: str) -> None:
    mistakes: list[str] = []
    read(AppriseConfig, block, "", mistakes)
    assert any(mistake in one for one in mistakes), mistakes


async def test_a_subscription_has_no_format_and_no_options(tmp_path: Path) -> None:
    async with open_apprise(tmp_path) as channel:
        for bad in (subscription("everything", "duty", "cap"), subscription("everything", "duty", a="b")):
            with pytest.raises(BadRequest, match="format"):
                channel.check_subscription(bad)


def test_the_page_shows_a_block_that_holds() -> None:
    page = (ROOT / "docs" / "adapters" / "apprise.md").read_text(encoding="utf-8")
    block = tomllib.loads(page.split("```toml\n")[1].split("```")[0])["adapters"]["apprise"]
    mistakes: list[str] = []
    read(AppriseConfig, block, "", mistakes)
    assert not mistakes
    for scheme, host in FIXED.items():
        assert f"| `{scheme}` | {host} |" in page
