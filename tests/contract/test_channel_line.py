"""LINE under the suites that every channel and endpoint must pass, against a platform on loopback that enforces what LINE documents.

The rules of `Platform` are those of the Messaging API reference and of "Retry failed API requests" (developers.line.biz): at most five messages a push, altText
of at most 1,500 UTF-16 code units, bubbles of at most 30 KB, labels of 40 and addresses of 1,000 characters, a retry key that is a UUID and stands for the first request
that was accepted, none with a reply, a monthly quota, 2,000 requests a second.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import msgspec
import pytest
from aiohttp import web

from lalert.config import Settings
from lalert.dispatch import guarded_session
from lalert.errors import BadRequest, ConfigError, DeliveryError, PermanentFailure, TemporaryFailure
from lalert.hub import AdapterHub
from lalert.model import Area, Delivery, Entry, Facts, Filter, MsgType, Severity, Status, Subscription
from lalert.plugin import CANARY_TITLE, HubApi, Room, Text
from lalert.testing import FakeClock, make_cap
from lalert.testing.alerts import HITOYOSHI
from lalert.testing.channel import Answer, ChannelContract, Received, delivery, subscription, until
from lalert.testing.endpoint import EndpointContract, serving
from lalert.testing.hub import FakeHub
from lalert.testing.node import running_node
from lalert_adapters.line import Line, LineConfig
from lalert_adapters.line.config import MAX_CHOICES, MAX_WORD
from lalert_adapters.line.friends import CHOOSE, WELCOME

LOOPBACK = ip_network("127.0.0.0/8")
TOKEN = "token-that-nobody-may-see/+="
SECRET = "8c570fa6dd201bb328f1c1eac23a96d8"
USER = "U" + "4af4980629" * 3 + "ab"
GROUP = "C" + "4af4980629" * 3 + "cd"
STATUS = {Answer.TEMPORARY: 500, Answer.PERMANENT: 400}
COLOUR = re.compile("#[0-9A-F]{6}")


def units(text: str) -> int:
    return len(text.encode("utf-16-be")) // 2


@dataclass
class Platform:
    """LINE's side: takes what its documentation allows, counts it, and knows each retry key."""

    token: str = TOKEN
    status: int = 0
    silent: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "Told to refuse"
    details: list[dict[str, str]] = field(default_factory=list)
    quota: int | None = 200
    used: int = 0
    per_second: int = 2_000
    reply_tokens: set[str] = field(default_factory=set)
    pushes: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    """Key, receiver and body of every push that reached it, whatever was answered."""
    accepted: dict[str, str] = field(default_factory=dict)
    delivered: list[dict[str, Any]] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    requests: Counter[int] = field(default_factory=Counter)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        if request.path == "/v2/bot/message/push":
            body = json.loads(raw)
            self.pushes.append((request.headers.get("X-Line-Retry-Key", ""), body.get("to", ""), body))
        if self.silent:
            await asyncio.Event().wait()
        if self.status:
            said = {"message": self.message, "details": self.details}
            return web.json_response(said, status=self.status, headers=self.headers)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return self._refuse(
                401,
                "Authentication failed. Confirm that the access token in the authorization header is valid.",
            )
        second = int(asyncio.get_running_loop().time())
        self.requests[second] += 1
        if self.requests[second] > self.per_second:
            return self._refuse(429, "The API rate limit has been exceeded. Try again later.")
        match request.method, request.path:
            case "POST", "/v2/bot/message/push":
                return self._push(request, json.loads(raw))
            case "POST", "/v2/bot/message/reply":
                return self._reply(request, json.loads(raw))
            case "GET", "/v2/bot/message/quota":
                limited = {"type": "limited", "value": self.quota}
                return web.json_response({"type": "none"} if self.quota is None else limited)
            case "GET", "/v2/bot/message/quota/consumption":
                return web.json_response({"totalUsage": self.used})
        return self._refuse(404, "Not found")

    def _push(self, request: web.Request, body: dict[str, Any]) -> web.Response:
        key = request.headers.get("X-Line-Retry-Key")
        wrong = list(self._wrong(request, body))
        if wrong:
            return self._refuse(400, wrong[0])
        if key in self.accepted:
            again = {"X-Line-Accepted-Request-Id": self.accepted[key]}
            return self._refuse(409, "The retry key is already accepted", **again)
        if self.quota is not None and self.used >= self.quota:
            return self._refuse(429, "You have reached your monthly limit.")
        self.used += 1  # people are counted, not messages
        self.delivered.append(body)
        request_id = str(uuid4())
        if key:
            self.accepted[key] = request_id
        sent = [{"id": str(n), "quoteToken": "q"} for n, _ in enumerate(body["messages"])]
        return web.json_response({"sentMessages": sent}, headers={"X-Line-Request-Id": request_id})

    def _reply(self, request: web.Request, body: dict[str, Any]) -> web.Response:
        if "X-Line-Retry-Key" in request.headers:
            return self._refuse(400, "The retry key is not supported")
        if body["replyToken"] not in self.reply_tokens:
            return self._refuse(400, "Invalid reply token")
        self.reply_tokens.remove(body["replyToken"])
        [message] = body["messages"]
        if message["type"] != "text" or not 1 <= units(message["text"]) <= 5_000:
            return self._refuse(400, "The request body has 1 error(s)")
        self.replies.append(message["text"])
        return web.json_response({})

    def _wrong(self, request: web.Request, body: dict[str, Any]) -> Iterator[str]:
        if request.content_type != "application/json":
            yield f"The content type, {request.content_type}, is not supported"
        key = request.headers.get("X-Line-Retry-Key")
        if key is not None and str(UUID(key)) != key:
            yield "The retry key is invalid"
        if not re.fullmatch("[UCR][0-9a-f]{32}", body["to"]):
            yield "The property, 'to', in the request body is invalid (line: -, column: -)"
        if not 1 <= len(body["messages"]) <= 5:
            yield "messages: size must be between 1 and 5"
        for message in body["messages"]:
            if message["type"] == "text":
                continue
            if message["type"] != "flex" or not 1 <= units(message["altText"]) <= 1_500:
                yield "altText: length must be between 1 and 1500"
            if len(json.dumps(message["contents"], ensure_ascii=False).encode()) > 30 * 1024:
                yield "contents: at most 30 KB"
            yield from self._wrong_parts(message["contents"])

    def _wrong_parts(self, part: Any) -> Iterator[str]:
        if isinstance(part, list):
            for item in part:
                yield from self._wrong_parts(item)
        if not isinstance(part, dict):
            return
        if part.get("type") == "text" and not part["text"].strip():
            yield "text: must be specified"
        if part.get("type") == "uri" and not (
            part["uri"].startswith(("https://", "http://", "line://", "tel:")) and len(part["uri"]) <= 1_000
        ):
            yield "uri: invalid uri"
        if part.get("type") == "uri" and not 1 <= len(part["label"]) <= 40:
            yield "label: length must be between 1 and 40"
        for name in ("color", "backgroundColor"):
            if name in part and not COLOUR.fullmatch(part[name]):
                yield f"{name}: invalid color"
        for value in part.values():
            yield from self._wrong_parts(value)

    @staticmethod
    def _refuse(status: int, message: str, **headers: str) -> web.Response:
        return web.json_response({"message": message}, status=status, headers=headers)


@dataclass
class LineRig:
    channel: Line
    subscription: Subscription
    platform: Platform
    hub: FakeHub
    token_file: Path

    def answer(self, how: Answer) -> None:
        self.platform.silent = how is Answer.SILENCE
        self.platform.status = STATUS.get(how, 0)

    def received(self) -> Sequence[Received]:
        return [Received(key, json.dumps(body, ensure_ascii=False)) for key, _, body in self.platform.pushes]


@asynccontextmanager
async def make_rig(
    folder: Path,
    *,
    hub: FakeHub | None = None,
    used: int = 0,
    quota: int | None = 200,
    token: str = TOKEN,
    **config: Any,
) -> AsyncIterator[LineRig]:
    token_file = folder / "token"
    token_file.write_text(TOKEN + "\n")
    async with (
        running(Platform(used=used, quota=quota, token=token)) as platform,
        guarded_session([LOOPBACK]) as session,
    ):
        fake = hub or FakeHub(base_url="https://hub.example")
        fake.session = session
        chosen = msgspec.convert({"token_file": str(token_file), "api": platform.url} | config, LineConfig)
        async with Line("line", chosen, fake) as channel:
            yield LineRig(channel, subscription("line", USER), platform, fake, token_file)


@asynccontextmanager
async def running(platform: Platform) -> AsyncIterator[Platform]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", platform.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        platform.port = runner.addresses[0][1]
        yield platform
    finally:
        await runner.cleanup()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text(SECRET)
    return tmp_path


class TestLine(ChannelContract):
    answers = frozenset(Answer) - {Answer.GONE}  # who leaves is told by the webhook alone

    @pytest.fixture(autouse=True)
    def _in(self, folder: Path) -> None:
        self.folder = folder

    def rig(self) -> Any:
        return make_rig(self.folder)


class TestLinesWebhook(EndpointContract):
    @pytest.fixture(autouse=True)
    def _in(self, folder: Path) -> None:
        self.folder = folder

    def make(self, hub: HubApi) -> Line:
        (self.folder / "token").write_text(TOKEN)
        return Line("line", config(self.folder), hub)


def config(folder: Path, **more: Any) -> LineConfig:
    files = {"token_file": str(folder / "token"), "secret_file": str(folder / "secret")}
    return msgspec.convert(files | more, LineConfig)


def graded(sent: Delivery, level: int | None = 4, **alert: Any) -> Delivery:
    """The same delivery of an alert with a 警戒レベル."""
    entry = replace(sent.entry, facts=Facts(level=level), alert=replace(sent.entry.alert, **alert))
    return replace(sent, entry=entry)


# What is pushed


async def test_a_push_is_one_bubble_with_the_level_in_its_colour_the_text_and_a_link(folder: Path) -> None:
    async with make_rig(folder) as rig:
        sent = graded(delivery(rig.subscription))
        outcome = await rig.channel.deliver(sent)
        [body] = rig.platform.delivered
    text = rig.hub.text(sent.entry)
    [message] = body["messages"]
    bubble = message["contents"]
    assert body["to"] == USER
    assert message["altText"] == text.title
    assert bubble["header"]["backgroundColor"] == "#AA00AA"
    assert bubble["header"]["contents"][0]["text"] == "警戒レベル4"
    assert [part["text"] for part in bubble["body"]["contents"]] == [text.title, text.body]
    uri = bubble["footer"]["contents"][0]["action"]["uri"]
    assert uri == f"https://hub.example/alerts/{sent.entry.alert.id}"
    assert outcome.detail == f"HTTP 200 {next(iter(rig.platform.accepted.values()))}"


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
async def test_every_level_is_a_message_that_the_platform_takes(folder: Path, level: int) -> None:
    async with make_rig(folder) as rig:
        await rig.channel.deliver(graded(delivery(rig.subscription), level))
        assert f"警戒レベル{level}" in json.dumps(rig.platform.delivered, ensure_ascii=False)


@pytest.mark.parametrize(
    "changed",
    [{"status": Status.EXERCISE}, {"status": Status.TEST}, {"msg_type": MsgType.CANCEL}],
    ids=["exercise", "test", "cancel"],
)
async def test_a_drill_and_a_cancel_have_no_level_in_colour(folder: Path, changed: dict[str, Any]) -> None:
    async with make_rig(folder) as rig:
        await rig.channel.deliver(graded(delivery(rig.subscription), 5, **changed))
        [body] = rig.platform.delivered
    assert "header" not in body["messages"][0]["contents"]


async def test_a_drill_is_marked_where_a_locked_telephone_shows_it(folder: Path) -> None:
    async with make_rig(folder) as rig:
        await rig.channel.deliver(delivery(rig.subscription, status=Status.EXERCISE))
        [body] = rig.platform.delivered
    assert body["messages"][0]["altText"].startswith("【訓練】")
    assert body["messages"][0]["contents"]["body"]["contents"][0]["text"].startswith("【訓練】")


async def test_without_a_public_address_there_is_no_link(folder: Path) -> None:
    async with make_rig(folder, hub=FakeHub(base_url="http://127.0.0.1:8080")) as rig:
        await rig.channel.deliver(delivery(rig.subscription))
        [body] = rig.platform.delivered
    assert "footer" not in body["messages"][0]["contents"]


async def test_the_retry_key_is_a_uuid_made_from_the_deliverys_key(folder: Path) -> None:
    async with make_rig(folder) as rig:
        await rig.channel.deliver(delivery(rig.subscription))
        await rig.channel.deliver(delivery(rig.subscription, 2))
    one, two = (UUID(key) for key, _, _ in rig.platform.pushes)
    assert one != two


async def test_what_the_platform_took_without_our_hearing_of_it_is_sent_once(folder: Path) -> None:
    async with make_rig(folder) as rig:
        sent = delivery(rig.subscription)
        await rig.channel.deliver(sent)
        outcome = await rig.channel.deliver(replace(sent, attempt=2))
        accepted = next(iter(rig.platform.accepted.values()))
    assert outcome.detail == f"accepted before as {accepted}"
    assert len(rig.platform.delivered) == rig.platform.used == 1


@pytest.mark.parametrize("part", ["headline", "description"])
async def test_the_hub_makes_a_long_text_fit_and_it_is_read_in_utf_16(folder: Path, part: str) -> None:
    async with make_rig(folder) as rig:
        sent = delivery(rig.subscription)
        # 𩸽 is one letter of two UTF-16 units
        more: dict[str, Any] = {part: "𩸽を焼くと危険です。" * 1_000, "language": "ja"}
        long = replace(sent.entry.alert.infos[0], **more)
        await rig.channel.deliver(graded(sent, infos=(long,)))
        [body] = rig.platform.delivered
    [message] = body["messages"]
    assert 1 <= units(message["altText"]) <= 400
    assert units(message["contents"]["body"]["contents"][1]["text"]) <= 2_000


class Verbose(FakeHub):
    """A hub that does not heed the room."""

    def text(self, entry: Entry, lang: str | None = None, room: Room | None = None) -> Text:
        long = super().text(entry, lang)
        return (
            replace(long, body="危" * 2_001)
            if entry.position.endswith("1")
            else replace(long, title="危" * 401)
        )


@pytest.mark.parametrize(("number", "limit"), [(1, "2000 UTF-16 units"), (2, "400 UTF-16 units")])
async def test_a_text_that_does_not_fit_all_the_same_is_refused_with_the_limit(
    folder: Path, number: int, limit: str
) -> None:
    async with make_rig(folder, hub=Verbose()) as rig:
        with pytest.raises(PermanentFailure, match=limit):
            await rig.channel.deliver(delivery(rig.subscription, number))
    assert rig.platform.pushes == []


async def test_many_areas_in_many_languages_fit(folder: Path) -> None:
    async with make_rig(folder) as rig:
        sent = delivery(rig.subscription)
        areas = tuple(Area(f"人吉市大畑町{n}丁目") for n in range(400))
        infos = tuple(
            replace(
                sent.entry.alert.infos[0], language=lang, areas=areas, instruction="逃げてください。" * 100
            )
            for lang in ("ja", "en", "zh", "ko")
        )
        await rig.channel.deliver(graded(sent, infos=infos))
    assert len(rig.platform.delivered) == 1


# What an answer means


async def failure(rig: LineRig) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await rig.channel.deliver(delivery(rig.subscription))
    assert TOKEN not in caught.value.detail
    return caught.value


@pytest.mark.parametrize("status", [301, 302, 404, 408, 409, 429, 500, 502, 503])
async def test_what_may_pass_is_temporary(folder: Path, status: int) -> None:
    async with make_rig(folder) as rig:
        rig.platform.status = status
        error = await failure(rig)
    assert type(error) is TemporaryFailure
    assert error.detail == f"HTTP {status}: Told to refuse"
    assert rig.channel.health().detail == error.detail


@pytest.mark.parametrize("status", [400, 413, 415])
async def test_a_message_that_the_platform_does_not_take_is_permanent(folder: Path, status: int) -> None:
    async with make_rig(folder) as rig:
        rig.platform.status = status
        assert type(await failure(rig)) is PermanentFailure


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_named_and_can_be_mended_while_the_alert_is_in_force(
    folder: Path, status: int
) -> None:
    async with make_rig(folder) as rig:
        rig.platform.token = "renewed"
        rig.platform.status = 0 if status == 401 else status
        error = await failure(rig)
        assert type(error) is TemporaryFailure
        assert "token_file" in error.detail
        rig.platform.status = 0
        rig.token_file.write_text("renewed")
        await failure(rig)  # the file was read before it was changed
        await rig.channel.deliver(delivery(rig.subscription))
    assert len(rig.platform.delivered) == 1


async def test_a_token_file_that_was_lost_meanwhile_leaves_the_failure_temporary(folder: Path) -> None:
    async with make_rig(folder) as rig:
        rig.platform.token = "renewed"
        rig.token_file.unlink()
        assert type(await failure(rig)) is TemporaryFailure


@pytest.mark.parametrize(("said", "seconds"), [("7", 7.0), ("999999999", 86_400.0), ("soon", None)])
async def test_a_pause_that_the_platform_asks_for_is_passed_on(
    folder: Path, said: str, seconds: float | None
) -> None:
    async with make_rig(folder) as rig:
        rig.platform.status, rig.platform.headers = 429, {"Retry-After": said}
        error = await failure(rig)
    assert isinstance(error, TemporaryFailure)
    assert error.retry_after == seconds


async def test_more_than_the_platform_takes_in_a_second_is_tried_again(folder: Path) -> None:
    async with make_rig(folder) as rig:
        rig.platform.per_second = 0
        assert "rate limit" in (await failure(rig)).detail


async def test_a_month_that_is_used_up_says_what_to_do(folder: Path) -> None:
    async with make_rig(folder) as rig:
        rig.platform.quota = 0
        error = await failure(rig)
        assert type(error) is TemporaryFailure
        assert "larger plan" in error.detail
        rig.platform.quota = 200
        await rig.channel.deliver(delivery(rig.subscription))


async def test_a_reason_that_repeats_whom_it_was_for_is_not_passed_on(folder: Path) -> None:
    async with make_rig(folder) as rig:
        rig.platform.status, rig.platform.message = 400, f"unknown {USER}\r\n"
        assert (await failure(rig)).detail == "HTTP 400: unknown […]"


async def test_a_platform_that_says_nothing_is_a_temporary_failure_after_the_configured_time(
    folder: Path,
) -> None:
    async with make_rig(folder) as rig:
        hasty = msgspec.structs.replace(config(folder), api=rig.platform.url, timeout_s=0.05)
        rig.answer(Answer.SILENCE)
        with pytest.raises(TemporaryFailure, match=r"LINE did not answer within 0\.05 s"):
            await Line("line", hasty, rig.hub).deliver(delivery(rig.subscription))


async def test_a_platform_that_is_not_there_is_a_temporary_failure(folder: Path) -> None:
    async with make_rig(folder, api="http://127.0.0.1:1") as rig:
        assert "cannot connect to LINE" in (await failure(rig)).detail


async def test_the_history_has_what_was_sent_and_what_was_answered(folder: Path) -> None:
    async with make_rig(folder) as rig:
        sent = delivery(rig.subscription)
        first = await rig.channel.deliver(sent)
        again = await rig.channel.deliver(sent)
        rig.platform.status, rig.platform.headers = 429, {"Retry-After": "3"}
        error = await failure(rig)
    [key] = {key for key, _, _ in rig.platform.pushes}
    assert first.request == again.request == error.request
    assert re.fullmatch(rf"POST push, [0-9]+ bytes, X-Line-Retry-Key {key}", first.request)
    assert first.response == "HTTP 200"
    assert again.response == "HTTP 409: The retry key is already accepted"
    assert error.response == "HTTP 429, Retry-After 3: Told to refuse"


async def test_a_refusal_says_which_part_of_the_message_it_is_about(folder: Path) -> None:
    async with make_rig(folder) as rig:
        rig.platform.status, rig.platform.message = 400, "The request body has 1 error(s)"
        rig.platform.details = [{"message": "must be less than 30 KB", "property": "messages[0].contents"}]
        assert (await failure(rig)).detail.endswith("error(s); messages[0].contents: must be less than 30 KB")


# The budget


@pytest.mark.parametrize(
    ("used", "quota", "ok", "says"),
    [
        (0, 200, True, "0 of 200 messages of this month are used (0 %)"),
        (159, 200, True, "159 of 200 messages of this month are used (79 %)"),
        (160, 200, True, "warning: 160 of 200 messages of this month are used (80 %)"),
        (200, 200, False, "200 of 200 messages of this month are used (100 %): nobody is told"),
        (0, 0, False, "nobody is told"),
        (70_000, None, True, "70000 messages this month, without a limit"),
    ],
)
async def test_the_budget_is_shown_with_a_warning_in_time(
    folder: Path, used: int, quota: int | None, ok: bool, says: str
) -> None:
    async with make_rig(folder, used=used, quota=quota) as rig:
        await until(lambda: rig.channel.health().detail)
        health = rig.channel.health()
    assert health.ok is ok
    assert says in health.detail
    assert health.detail.startswith("warning") == says.startswith("warning")


async def test_what_is_pushed_counts_before_the_budget_is_asked_for_again(folder: Path) -> None:
    async with make_rig(folder, quota=2) as rig:
        await until(lambda: rig.channel.health().detail)
        await rig.channel.deliver(delivery(rig.subscription))
        assert "1 of 2" in rig.channel.health().detail
        await rig.channel.deliver(delivery(rig.subscription, 2))
        assert not rig.channel.health().ok


async def test_the_budget_is_asked_for_again_every_ten_minutes(folder: Path) -> None:
    clock = FakeClock()
    async with make_rig(folder, hub=FakeHub(clock=clock)) as rig:
        await until(lambda: "0 of 200" in rig.channel.health().detail)
        await until(lambda: clock.sleeping)
        rig.platform.used, rig.platform.quota = 70, 100
        await clock.advance(599)
        assert "0 of 200" in rig.channel.health().detail
        await clock.advance(1)
        await until(lambda: "70 of 100" in rig.channel.health().detail)


async def test_a_budget_that_cannot_be_asked_for_is_said_and_stops_nothing(folder: Path) -> None:
    async with make_rig(folder, token="renewed") as rig:
        await until(lambda: rig.channel.health().detail)
        health = rig.channel.health()
        assert not health.ok
        assert "token_file" in health.detail
        rig.platform.token = TOKEN
        await rig.channel.deliver(delivery(rig.subscription))
        assert rig.channel.health().ok


# The canary and the preview


async def test_a_canary_is_pushed_as_a_text_under_a_key_of_its_own(folder: Path) -> None:
    async with make_rig(folder) as rig:
        await rig.channel.canary(GROUP, "token-1")
        await rig.channel.canary(GROUP, "token-1")
        [body] = rig.platform.delivered
    assert body["to"] == GROUP
    assert body["messages"][0]["text"].startswith(CANARY_TITLE)
    assert body["messages"][0]["text"].endswith("token-1")


async def test_a_preview_is_what_is_sent(folder: Path) -> None:
    async with make_rig(folder) as rig:
        sent = graded(delivery(rig.subscription))
        shown = rig.channel.preview(sent.entry, None)
        await rig.channel.deliver(sent)
        [body] = rig.platform.delivered
    bubble = body["messages"][0]["contents"]
    assert [(part.name, part.text) for part in shown.parts] == [
        ("heading", bubble["header"]["contents"][0]["text"]),
        ("title", bubble["body"]["contents"][0]["text"]),
        ("text", bubble["body"]["contents"][1]["text"]),
        ("button", bubble["footer"]["contents"][0]["action"]["uri"]),
    ]


# Friends and groups


@dataclass
class Webhook:
    """LINE's side of the webhook: signs what happens and calls the hub."""

    rig: LineRig
    url: str
    http: aiohttp.ClientSession
    clock: FakeClock
    secret: str = SECRET

    async def call(
        self, *events: dict[str, Any], signature: str | None = None, raw: bytes | None = None
    ) -> int:
        body = json.dumps({"destination": USER, "events": events}).encode() if raw is None else raw
        right = base64.b64encode(hmac.digest(self.secret.encode(), body, hashlib.sha256)).decode()
        headers = {"x-line-signature": right if signature is None else signature}
        async with self.http.post(f"{self.url}/line/line", data=body, headers=headers) as answer:
            return answer.status

    def event(self, type: str, target: str = USER, *, ago: float = 0, **more: Any) -> dict[str, Any]:
        kind = {"U": "user", "C": "group", "R": "room"}[target[0]]
        token = uuid4().hex
        self.rig.platform.reply_tokens.add(token)
        return {
            "type": type,
            "timestamp": int((self.clock.now().timestamp() - ago) * 1_000),
            "mode": "active",
            "source": {"type": kind, f"{kind}Id": target},
            "replyToken": token,
            "webhookEventId": "01FZ74A0TDDPYRVKNK77XKC3ZR",
            "deliveryContext": {"isRedelivery": False},
        } | more

    def says(self, text: str, target: str = USER, **more: Any) -> dict[str, Any]:
        return self.event("message", target, message={"type": "text", "id": "1", "text": text}, **more)

    @property
    def held(self) -> list[Subscription]:
        return list(self.rig.hub.saved.values())


@asynccontextmanager
async def make_webhook(folder: Path, **more: Any) -> AsyncIterator[Webhook]:
    clock = FakeClock()
    hub = FakeHub(base_url="https://hub.example", clock=clock)
    async with (
        make_rig(folder, hub=hub, secret_file=str(folder / "secret"), **more) as rig,
        serving(rig.channel) as url,
        aiohttp.ClientSession() as http,
    ):
        yield Webhook(rig, url, http, clock)


async def test_a_new_friend_is_subscribed_to_what_the_configuration_says_and_told_so(folder: Path) -> None:
    async with make_webhook(folder, areas=["432032"], min_severity="Severe", lang="ja") as line:
        assert await line.call(line.event("follow")) == 200
        [made] = line.held
        assert (made.channel, made.target, made.lang) == ("line", USER, "ja")
        assert made.filter == Filter(areas=frozenset({"432032"}), min_severity=Severity.SEVERE)
        assert line.rig.channel.check_subscription(made) == made
        assert USER not in made.id
        [said] = line.rig.platform.replies
    assert "お届けします" in said


async def test_a_group_is_subscribed_when_it_is_joined_and_dropped_when_it_is_left(folder: Path) -> None:
    async with make_webhook(folder, areas=["43"], groups=True) as line:
        await line.call(line.event("join", GROUP))
        assert [one.target for one in line.held] == [GROUP]
        await line.call(line.event("leave", GROUP))
        assert line.held == []


async def test_a_group_costs_nobody_anything_unless_the_configuration_wants_groups(folder: Path) -> None:
    async with make_webhook(folder, areas=["43"]) as line:
        await line.call(line.event("join", GROUP))
        assert line.held == []
        assert line.rig.platform.replies == []


async def test_who_blocks_the_account_is_dropped_however_they_were_subscribed(folder: Path) -> None:
    async with make_webhook(folder, areas=["432032"]) as line:
        by_key = Subscription("sub-1", "line", USER, Filter(), line.clock.now())
        other = Subscription("sub-2", "line", GROUP, Filter(), line.clock.now())
        line.rig.hub.saved |= {"sub-1": by_key, "sub-2": other}
        await line.call(line.event("follow"))
        line.clock.move(1)
        await line.call(line.event("unfollow"))
        assert line.held == [other]


async def test_an_old_event_that_comes_late_undoes_nothing(folder: Path) -> None:
    async with make_webhook(folder, areas=["43"], choices={"人吉市": "432032"}) as line:
        await line.call(line.event("follow"), line.says("人吉市"))
        chosen = line.held
        await line.call(line.event("unfollow", ago=60), line.event("follow", ago=60))
        assert line.held == chosen


async def test_who_leaves_and_comes_back_within_one_call_is_subscribed_anew(folder: Path) -> None:
    async with make_webhook(folder, areas=["43"], choices={"人吉市": "432032"}) as line:
        await line.call(line.event("follow", ago=9), line.says("人吉市", ago=8))
        await line.call(line.event("unfollow", ago=3), line.event("follow", ago=2))
        assert [one.filter.areas for one in line.held] == [frozenset({"43"})]
        await line.call(line.event("follow", ago=1), line.event("unfollow"))
        assert line.held == []


async def test_a_friend_chooses_an_area_by_a_word(folder: Path) -> None:
    async with make_webhook(folder, choices={"人吉市": "432032", "kumamoto": "43"}) as line:
        await line.call(line.event("follow"))
        assert line.held == []
        await line.call(line.says("こんにちは"))
        assert line.held == []
        await line.call(line.says(" 人吉市 "))
        assert [one.filter.areas for one in line.held] == [frozenset({"432032"})]
        line.clock.move(1)
        await line.call(line.says("ＫUMAMOTO"))
        assert [one.filter.areas for one in line.held] == [frozenset({"43"})]
        first, second, third, fourth = line.rig.platform.replies
    assert "人吉市、kumamoto" in first
    assert second == first
    assert "「人吉市」" in third
    assert "「kumamoto」" in fourth


async def test_a_group_that_talks_is_not_answered(folder: Path) -> None:
    async with make_webhook(folder, choices={"人吉市": "432032"}) as line:
        assert await line.call(line.says("人吉市", GROUP)) == 200
        assert line.held == []
        assert line.rig.platform.replies == []


async def test_without_areas_or_choices_nobody_is_subscribed_by_themselves(folder: Path) -> None:
    async with make_webhook(folder) as line:
        assert await line.call(line.event("follow"), line.says("人吉市")) == 200
        assert line.held == []
        assert line.rig.platform.replies == []


async def test_an_account_that_another_system_answers_for_is_left_to_it(folder: Path) -> None:
    async with make_webhook(folder, areas=["43"]) as line:
        await line.call(line.event("follow", mode="standby"))
        assert line.held == []


@pytest.mark.parametrize("status", [400, 500])
async def test_an_answer_that_is_lost_loses_no_subscription(folder: Path, status: int) -> None:
    async with make_webhook(folder, areas=["43"]) as line:
        line.rig.platform.status = status
        assert await line.call(line.event("follow")) == 200
        assert len(line.held) == 1


async def test_the_consoles_verification_and_unknown_events_are_answered(folder: Path) -> None:
    async with make_webhook(folder, areas=["43"]) as line:
        assert await line.call() == 200
        assert await line.call(line.event("somethingNew"), {"type": "beacon", "timestamp": 2**62}) == 200
        assert line.held == []


@pytest.mark.parametrize("signature", ["", "x", "é", base64.b64encode(bytes(32)).decode()])
async def test_nobody_but_the_platform_is_believed(folder: Path, signature: str) -> None:
    async with make_webhook(folder, areas=["43"]) as line:
        assert await line.call(line.event("follow"), signature=signature) == 403
        line.secret = "another"
        assert await line.call(line.event("follow")) == 403
        assert line.held == []


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"events": 1}', b'{"events": [{"source": []}]}', b"\xff", b"[" * 5_000]
)
async def test_a_signed_body_that_is_no_call_is_refused(folder: Path, raw: bytes) -> None:
    async with make_webhook(folder, areas=["43"]) as line:
        assert await line.call(raw=raw) == 400


async def test_a_body_that_is_too_large_is_refused_before_it_is_judged(folder: Path) -> None:
    async with make_webhook(folder, areas=["43"]) as line:
        assert await line.call(raw=b" " * 300_000) == 413


async def test_a_whole_hub_takes_a_friend_tells_them_and_lets_them_go(folder: Path) -> None:
    (folder / "token").write_text(TOKEN)
    files = {"token_file": str(folder / "token"), "secret_file": str(folder / "secret")}
    async with running(Platform()) as platform:
        block = files | {"api": platform.url, "areas": [HITOYOSHI]}
        async with running_node(folder / "data", Settings(adapters={"line": block})) as node:
            rig: Any = SimpleNamespace(platform=platform)
            line = Webhook(rig, node.url, node.http, FakeClock(datetime.now(UTC)))
            assert await line.call(line.event("follow"), signature="") == 403
            assert await line.call(line.event("follow")) == 200
            [made] = await node.node.hub.dispatcher.subscriptions()
            other = AdapterHub(node.node.hub, "webhook", None, node.http)
            assert await other.subscription(made.id) is None, "another instance's own"
            assert not await other.drop_subscription(made.id)
            await node.post(make_cap(headline="避難指示"))
            await until(lambda: platform.delivered)
            assert (platform.delivered[0]["to"], platform.delivered[0]["messages"][0]["altText"]) == (
                USER,
                "避難指示",
            )
            assert await line.call(line.event("unfollow")) == 200
            assert await node.node.hub.dispatcher.subscriptions() == []


async def test_without_the_secret_there_is_no_address(folder: Path) -> None:
    async with make_rig(folder) as rig:
        assert rig.channel.routes() == []


# What may be subscribed and configured


@pytest.mark.parametrize("target", ["", "U123", "u" + "0" * 32, "U" + "A" * 32, "U" + "0" * 33, "@hitoyoshi"])
async def test_what_is_no_id_of_the_platform_is_refused(folder: Path, target: str) -> None:
    async with make_rig(folder) as rig:
        with pytest.raises(BadRequest, match=r"^target: "):
            rig.channel.check_subscription(replace(rig.subscription, target=target))


async def test_an_option_or_another_format_is_refused(folder: Path) -> None:
    async with make_rig(folder) as rig:
        with pytest.raises(BadRequest, match=r"options\.silent"):
            rig.channel.check_subscription(replace(rig.subscription, options={"silent": "yes"}))
        with pytest.raises(BadRequest, match="format"):
            rig.channel.check_subscription(replace(rig.subscription, format="cap"))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"api": "http://api.line.example"}, "https"),
        ({"api": "https://api.line.me/v2"}, "host alone"),
        ({"areas": ["432031"]}, "check digit"),
        ({"areas": ["4320"]}, "areas"),
        ({"choices": {"人吉市": "432031"}}, "check digit"),
        ({"choices": {"ＡＢ": "432032"}}, "full-width"),
        ({"choices": {f"{n}": "43" for n in range(101)}}, "at most 100"),
        ({"areas": ["43"], "secret_file": ""}, "secret_file"),
        ({"groups": True}, "groups"),
        ({"timeout_s": 60}, "19"),
        ({"tokn_file": "x"}, "unknown"),
    ],
)
def test_a_configuration_that_will_not_do_is_refused(folder: Path, more: dict[str, Any], reason: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=reason):
        config(folder, **more)


@pytest.mark.parametrize("held", [None, "", "two words", "トークン", "a\nb"])
async def test_a_token_file_that_will_not_do_stops_the_start_and_is_named(
    folder: Path, held: str | None
) -> None:
    (folder / "token").unlink(missing_ok=True)
    if held is not None:
        (folder / "token").write_text(held, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"adapters\.line\.token_file"):
        async with Line("line", config(folder), FakeHub()):
            pass


def test_the_hint_of_as_many_choices_as_are_allowed_fits_into_one_message() -> None:
    words = "、".join("𩸽" * MAX_WORD for _ in range(MAX_CHOICES))
    assert units(f"{WELCOME}\n\n{CHOOSE.format(words=words)}") <= 5_000
