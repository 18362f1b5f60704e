"""Chat under the suite that every channel must pass, against four rooms on loopback that take, refuse and call people as the products document it.

Sources: Slack, "Sending messages using incoming webhooks", "Formatting message text" and the block reference; Discord, Execute Webhook, Message Object and error codes;
Microsoft, "Create incoming webhooks with Workflows", the Teams connector's limits and the Adaptive Cards schema; Mattermost, incoming webhooks, mentions and message attachments.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from lalert.config import Settings
from lalert.dispatch import guarded_session
from lalert.errors import BadRequest, DeliveryError, Gone, PermanentFailure, TemporaryFailure
from lalert.model import Delivery, Entry, Facts, MsgType, Outcome, Role, Status, Subscription
from lalert.plugin import CANARY_TITLE, Room, Text
from lalert.testing import make_cap
from lalert.testing.alerts import HITOYOSHI
from lalert.testing.channel import Answer, ChannelContract, Received, delivery, subscription, until
from lalert.testing.hub import FakeHub
from lalert.testing.node import running_node
from lalert_adapters.chat import Chat, ChatConfig
from lalert_adapters.chat.payloads import Kind, Message, payload

LOOPBACK = ip_network("127.0.0.0/8")
PATH = "/services/T0000/B0000/token-that-nobody-may-see"
KINDS = ("slack", "teams", "discord", "mattermost")
GONE: dict[str, tuple[int, str]] = {
    "slack": (404, "no_service"),
    "teams": (404, '{"error":{"code":"WorkflowNotFound","message":"The workflow could not be found."}}'),
    "discord": (404, '{"message": "Unknown Webhook", "code": 10015}'),
    "mattermost": (404, '{"id":"app.channel.get.existing.app_error","status_code":404}'),
}
MARKDOWN = re.compile(r"\\([\\`*_~|>#\[\]<+-])")


class Refused(Exception):
    """What a room does not take, with its answer."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(body)
        self.status, self.body = status, body


@dataclass(frozen=True)
class Shown:
    """What people in a room read, and whom it called."""

    title: str
    body: str
    calls: list[str]
    link: str | None = None
    level: str | None = None
    colour: str | int | None = None


def slack(body: dict[str, Any], query: dict[str, str]) -> tuple[int, str, Shown]:
    calls: list[str] = []

    def read(text: str, most: int) -> str:
        calls.extend(re.findall(r"<.*", text))  # whatever stands in these is Slack's to read
        if not 1 <= len(text) <= most:
            raise Refused(400, "invalid_payload")
        # The three entities that Slack reads; a stray & is shown as it is.
        return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")

    if body.get("link_names"):
        calls += re.findall(r"@\w+", body["text"])
    title = read(body["text"], 40_000)
    parts: dict[str, str] = {}
    link = colour = None
    for attachment in body["attachments"]:
        colour = attachment.get("color")
        for block in attachment["blocks"]:
            texts = block["elements"] if block["type"] == "context" else [block["text"]]
            for text in texts:
                if text["type"] == "mrkdwn":
                    [link] = re.findall(r"<(https:[^|>]+)\|[^>]+>", text["text"])
                else:
                    parts[block["type"]] = read(text["text"], 2_000 if block["type"] == "context" else 3_000)
    return 200, "ok", Shown(title, parts.get("section", ""), calls, link, parts.get("context"), colour)


def teams(body: dict[str, Any], query: dict[str, str]) -> tuple[int, str, Shown]:
    if len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()) > 28_000:
        raise Refused(413, '{"error":{"code":"RequestEntityTooLarge"}}')
    [attachment] = body["attachments"]
    card = attachment["content"]
    assert body["type"] == "message"
    assert (attachment["contentType"], card["type"]) == (
        "application/vnd.microsoft.card.adaptive",
        "AdaptiveCard",
    )
    calls = [str(entity) for entity in card["msteams"].get("entities", [])]
    level, lines = None, []
    for element in card["body"]:
        if element["type"] == "Container":
            [item] = element["items"]
            level = item["inlines"][0]["text"]
        else:
            assert element["type"] == "RichTextBlock", "a TextBlock reads Markdown"
            [run] = element["inlines"]
            assert run["type"] == "TextRun"
            assert "\n" not in run["text"]
            lines.append(run["text"])
    link = card["actions"][0]["url"] if "actions" in card else None
    return 202, "", Shown(lines[0], "\n".join(lines[1:]), calls, link, level)


def discord(body: dict[str, Any], query: dict[str, str]) -> tuple[int, str, Shown]:
    def read(text: str, most: int) -> str:
        if len(text) > most:
            raise Refused(400, '{"message": "Invalid Form Body", "code": 50035}')
        assert not re.search(r"(?<!\\)(\*\*|__|\|\||```)", re.sub(r"https?://\S+", "", text)), "layout"
        return MARKDOWN.sub(r"\1", text)

    called = re.findall(r"@everyone|@here|<@[!&]?\d+>", body["content"])
    calls = called if body.get("allowed_mentions") != {"parse": []} else []
    title, embed = read(body["content"], 2_000), (body["embeds"] or [{}])[0]
    if not title and not body["embeds"]:
        raise Refused(400, '{"message": "Cannot send an empty message", "code": 50006}')
    text = read(embed.get("description", ""), 4_096)
    shown = Shown(
        title, text, calls, embed.get("url"), embed.get("author", {}).get("name"), embed.get("color")
    )
    if sum(map(len, (text, embed.get("title", ""), embed.get("author", {}).get("name", "")))) > 6_000:
        raise Refused(400, '{"message": "Invalid Form Body", "code": 50035}')
    return (200, '{"id": "1"}', shown) if query.get("wait") == "true" else (204, "", shown)


def mattermost(body: dict[str, Any], query: dict[str, str]) -> tuple[int, str, Shown]:
    calls: list[str] = []

    def read(text: str) -> str:
        if len(text) > 4_000:
            raise Refused(400, '{"id":"model.post.is_valid.msg.app_error","status_code":400}')
        for word in ("channel", "here", "all"):
            text = text.replace(f"<!{word}>", f"@{word}")
        text = re.sub(r"<@(\w+)>", r"@\1", text)
        for word in re.findall(r"[\w:.\-@]+", text):
            calls.extend(part for part in re.split("[:.-]", word.lstrip(":.-_")) if re.match("@[a-z]", part))
            calls.extend(re.findall(r"(?<=[^\x00-\x7f])@[a-z]+", word.replace("\u200b", " ")))
        assert not re.search(r"(?<!\\)(\*\*|__|```)", re.sub(r"https?://\S+", "", text)), "layout"
        return MARKDOWN.sub(r"\1", text).replace("\u200b", "").replace("%40", "@")

    title = read(body["text"])
    [attachment] = body["attachments"]
    read(attachment["fallback"])
    text = read(attachment.get("text", ""))
    link, level, colour = (attachment.get(name) for name in ("title_link", "author_name", "color"))
    return 200, "ok", Shown(title, text, calls, link, level, colour)


ROOMS: dict[str, Callable[[dict[str, Any], dict[str, str]], tuple[int, str, Shown]]] = {
    "slack": slack,
    "teams": teams,
    "discord": discord,
    "mattermost": mattermost,
}


@dataclass
class Server:
    """An incoming webhook that answers as its product does, or as it is told."""

    kind: str
    posts: list[tuple[str, str]] = field(default_factory=list)
    """Key and body of everything that came."""
    shown: list[Shown] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    told: tuple[int, str, dict[str, str]] | None = None
    silent: bool = False
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    def tell(self, status: int, body: str = "", **headers: str) -> None:
        self.told = status, body, headers

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.text()
        assert request.content_type == "application/json"
        self.posts.append((request.headers["Idempotency-Key"], raw))
        self.queries.append(dict(request.query))
        self.paths.append(request.raw_path)
        if self.silent:
            await asyncio.Event().wait()
        if self.told:
            status, body, headers = self.told
            return web.Response(status=status, text=body, headers=headers)
        try:
            status, body, shown = ROOMS[self.kind](json.loads(raw), dict(request.query))
        except Refused as refused:
            return web.Response(status=refused.status, text=refused.body)
        self.shown.append(shown)
        return web.Response(status=status, text=body)


@dataclass
class ChatRig:
    channel: Chat
    subscription: Subscription
    server: Server
    hub: FakeHub

    def answer(self, how: Answer) -> None:
        self.server.silent = how is Answer.SILENCE
        self.server.told = None
        if how is Answer.GONE:
            self.server.tell(*GONE[self.server.kind])
        elif how in (Answer.TEMPORARY, Answer.PERMANENT):
            self.server.tell(503 if how is Answer.TEMPORARY else 400)

    def received(self) -> Sequence[Received]:
        return [Received(key, body) for key, body in self.server.posts]


@asynccontextmanager
async def make_rig(
    kind: str, *, hub: FakeHub | None = None, config: ChatConfig | None = None
) -> AsyncIterator[ChatRig]:
    async with running(Server(kind)) as server, guarded_session([LOOPBACK]) as session:
        fake = hub or FakeHub(base_url="https://hub.example")
        fake.session = session
        chosen = config or msgspec.convert({"kind": kind, "allow_http": True}, ChatConfig)
        async with Chat("chat", chosen, fake) as channel:
            yield ChatRig(channel, subscription("chat", server.url, kind=kind), server, fake)


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    app = web.Application(client_max_size=2**20)
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()


class RoomContract(ChannelContract):
    kind: ClassVar[str]

    def rig(self) -> Any:
        return make_rig(self.kind)


class TestSlack(RoomContract):
    kind = "slack"


class TestTeams(RoomContract):
    kind = "teams"


class TestDiscord(RoomContract):
    kind = "discord"


class TestMattermost(RoomContract):
    kind = "mattermost"


def saying(
    sent: Delivery, headline: str, description: str, level: int | None = None, **alert: Any
) -> Delivery:
    info = replace(sent.entry.alert.infos[0], language="ja", headline=headline, description=description)
    changed = replace(sent.entry.alert, infos=(info,), **alert)
    return replace(sent, entry=replace(sent.entry, alert=changed, facts=Facts(level=level)))


async def posted(kind: str, headline: str, description: str, **more: Any) -> Shown:
    async with make_rig(kind) as rig:
        await rig.channel.deliver(saying(delivery(rig.subscription), headline, description, **more))
        [shown] = rig.server.shown
        return shown


# What a room reads


@pytest.mark.parametrize("kind", KINDS)
async def test_a_room_reads_the_hubs_text_with_the_level_and_a_link(kind: str) -> None:
    async with make_rig(kind) as rig:
        sent = saying(delivery(rig.subscription), "避難指示", "球磨川が氾濫します。", level=4)
        outcome = await rig.channel.deliver(sent)
        [shown] = rig.server.shown
    text = rig.hub.text(sent.entry)
    assert shown.title == text.title
    assert shown.body.split() == text.body.split()
    assert shown.level == "警戒レベル4"
    assert shown.link == f"https://hub.example/alerts/{sent.entry.alert.id}"
    assert (
        shown.colour
        == {"slack": "#AA00AA", "mattermost": "#AA00AA", "discord": 0xAA00AA, "teams": None}[kind]
    )
    assert outcome == Outcome("HTTP 202" if kind == "teams" else "HTTP 200")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "changed", [{"status": Status.EXERCISE}, {"msg_type": MsgType.CANCEL}], ids=["exercise", "cancel"]
)
async def test_a_drill_and_a_cancel_have_no_level(kind: str, changed: dict[str, Any]) -> None:
    shown = await posted(kind, "避難指示", "球磨川が氾濫します。", level=5, **changed)
    assert (shown.level, shown.colour) == (None, None)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_drill_is_marked_in_title_and_text(kind: str) -> None:
    shown = await posted(kind, "避難指示", "球磨川が氾濫します。", status=Status.EXERCISE)
    assert shown.title.startswith("【訓練】")
    assert shown.body.startswith("【訓練】")


@pytest.mark.parametrize("kind", KINDS)
async def test_without_a_public_address_there_is_no_link(kind: str) -> None:
    async with make_rig(kind, hub=FakeHub(base_url="http://127.0.0.1:8080")) as rig:
        await rig.channel.deliver(delivery(rig.subscription))
        assert rig.server.shown[0].link is None


HOSTILE = (
    "@everyone @here @channel @all @admin",
    "<!channel> <!here> <!everyone> <@U024BE7LH> <!subteam^S123> <#C123>",
    "<@123456789012345678> <@&123456789012345678> <@!1>",
    "<at>Everyone</at>",
    "危険@channel 至急(@all)、.@here -@channel _@all_ a.@channel :@here",
    "\\@everyone \\<!channel> *@channel* `@all` ~@here~",
    "https://evil.example/@channel https://evil.example/?a=@all",
    "&lt;!channel&gt; &amp;lt;!here&amp;gt;",
    "＠channel @\u200bchannel",
)


@pytest.mark.parametrize("kind", KINDS)
async def test_no_text_of_an_alert_calls_anybody_and_it_is_read_as_it_was_written(kind: str) -> None:
    async with make_rig(kind) as rig:
        for text in HOSTILE:
            await rig.channel.deliver(saying(delivery(rig.subscription), text, f"x\n{text}"))
            shown = rig.server.shown.pop()
            assert shown.calls == [], text
            assert shown.title.replace("\u200b", "") == text.replace("\u200b", "")
            assert text.replace("\u200b", "") in shown.body.replace("\u200b", "")


SIGNS = (
    *(
        "@",
        "<",
        "<!",
        "<@",
        ">",
        "\\",
        "*",
        "**",
        "__",
        "~",
        "`",
        "||",
        "#",
        "[",
        "](",
        ")",
        "- ",
        "+ ",
        "&",
        "&lt;",
    ),
    *(
        "all",
        "channel",
        "here",
        "everyone",
        "U12",
        "危",
        " ",
        "\n",
        ":",
        ".",
        "1",
        "https://b.example/",
        "http://c",
    ),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(SIGNS), min_size=1, max_size=9).map(lambda signs: "".join(signs).strip()))
def test_signs_in_any_order_call_nobody_and_are_read_as_they_were_written(text: str) -> None:
    for kind in Kind:
        posted = payload(kind, Message("x", f"x{text}", "ja"))
        _, _, shown = ROOMS[kind](json.loads(json.dumps(posted)), {})
        assert shown.calls == [], kind
        lines = [line for line in f"x{text}".split("\n") if line.strip() or kind is not Kind.TEAMS]
        assert shown.body == "\n".join(lines), kind


@pytest.mark.parametrize("kind", KINDS)
async def test_layout_is_read_as_it_was_written_and_addresses_can_be_followed(kind: str) -> None:
    text = "# **氾濫** __危険__ ||x|| `a` > [b](https://c.example/@d_e_f) bousai@hitoyoshi.example\n- 1\n+ 2"
    async with make_rig(kind) as rig:
        await rig.channel.deliver(saying(delivery(rig.subscription), "見出し", text))
        [shown] = rig.server.shown
        [(_, body)] = rig.server.posts
    assert text in shown.body
    assert ("https://c.example/%40d_e_f" if kind == "mattermost" else "https://c.example/@d_e_f") in body
    assert "bousai@hitoyoshi.example" in body


@dataclass
class Brimful(FakeHub):
    """A hub whose texts use the whole room with one thing repeated."""

    filler: str = ""

    def text(self, entry: Entry, lang: str | None = None, room: Room | None = None) -> Text:
        assert room is not None
        assert room.title is not None
        assert room.body is not None

        def most(limit: int, filler: str) -> str:
            full = filler * (limit // room.measure(filler))
            assert room.measure(full) <= limit < room.measure(full + filler)
            return full

        return Text(most(room.title, self.filler.strip()), most(room.body, self.filler), "ja")


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_fills_the_room_that_the_hub_is_told_of_each_product_takes(kind: str) -> None:
    hub = Brimful(base_url="https://hub.example")
    async with make_rig(kind, hub=hub) as rig:
        for filler in ("&", "<", "*", "@", "a\n", "-\n", "\\", "𩸽", "危", "https://a.example/@b_c "):
            hub.filler = filler
            await rig.channel.deliver(saying(delivery(rig.subscription), "", "", level=5))
            assert rig.server.shown.pop().body.count(filler.strip()) > 60


class Verbose(FakeHub):
    """A hub that does not heed the room."""

    def text(self, entry: Entry, lang: str | None = None, room: Room | None = None) -> Text:
        long = super().text(entry, lang)
        return (
            replace(long, body="*" * 600) if entry.position.endswith("1") else replace(long, title="&" * 51)
        )


@pytest.mark.parametrize(
    ("number", "limit"), [(1, "text is longer than 2800"), (2, "title is longer than 250")]
)
async def test_a_text_that_does_not_fit_all_the_same_is_refused_with_the_limit(
    number: int, limit: str
) -> None:
    async with make_rig("slack", hub=Verbose()) as rig:
        with pytest.raises(PermanentFailure, match=limit):
            await rig.channel.deliver(delivery(rig.subscription, number))
    assert rig.server.posts == []


async def test_discord_says_whether_the_message_was_saved_and_a_thread_is_kept() -> None:
    async with make_rig("discord") as rig:
        threaded = replace(rig.subscription, target=f"{rig.server.url}?thread_id=42&wait=false")
        await rig.channel.deliver(delivery(threaded))
        assert rig.server.queries == [{"thread_id": "42", "wait": "true"}]


async def test_an_address_is_called_as_it_was_given() -> None:
    async with make_rig("teams") as rig:
        sas = replace(
            rig.subscription, target=f"{rig.server.url}?sp=%2Ftriggers%2Fmanual%2Frun&sig=a%2Bb-_%3D"
        )
        await rig.channel.deliver(delivery(sas))
        assert [rig.server.url + path.removeprefix(PATH) for path in rig.server.paths] == [sas.target]


# What an answer means


async def failure(rig: ChatRig) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await rig.channel.deliver(delivery(rig.subscription))
    assert "token-that" not in caught.value.detail
    return caught.value


@pytest.mark.parametrize(
    ("kind", "status", "body", "meaning", "detail"),
    [
        ("slack", 404, "no_team", Gone, "HTTP 404 no_team"),
        ("slack", 404, "channel_not_found", Gone, "HTTP 404 channel_not_found"),
        ("slack", 410, "channel_is_archived", Gone, "HTTP 410 channel_is_archived"),
        ("slack", 404, "<html>not here</html>", TemporaryFailure, "HTTP 404"),
        ("slack", 403, "action_prohibited", PermanentFailure, "HTTP 403 action_prohibited"),
        ("slack", 400, "invalid_payload", PermanentFailure, "HTTP 400 invalid_payload"),
        ("slack", 500, "rollup_error", TemporaryFailure, "HTTP 500 rollup_error"),
        ("discord", 404, '{"code": 10015}', Gone, "HTTP 404 10015"),
        ("discord", 404, '{"code": 10003}', TemporaryFailure, "HTTP 404 10003"),
        ("discord", 401, '{"code": 50027}', PermanentFailure, "HTTP 401 50027"),
        ("discord", 400, '{"code": 50035}', PermanentFailure, "HTTP 400 50035"),
        ("discord", 502, "[" * 4_000, TemporaryFailure, "HTTP 502"),
        ("teams", 410, "", Gone, "HTTP 410"),
        ("teams", 404, "", TemporaryFailure, "HTTP 404"),
        (
            "teams",
            400,
            '{"error": {"code": "WorkflowTriggerIsNotEnabled"}}',
            TemporaryFailure,
            "HTTP 400 WorkflowTriggerIsNotEnabled",
        ),
        (
            "teams",
            401,
            '{"error": {"code": "DirectApiAuthorizationRequired"}}',
            PermanentFailure,
            "HTTP 401 Direct",
        ),
        (
            "mattermost",
            501,
            '{"id": "web.incoming_webhook.disabled.app_error"}',
            TemporaryFailure,
            "HTTP 501 web.",
        ),
        (
            "mattermost",
            400,
            '{"id": "web.incoming_webhook.invalid.app_error"}',
            TemporaryFailure,
            "HTTP 400 web.",
        ),
        (
            "mattermost",
            400,
            '{"id": "web.incoming_webhook.text.app_error"}',
            PermanentFailure,
            "HTTP 400 web.",
        ),
        ("mattermost", 302, "", TemporaryFailure, "HTTP 302"),
        ("mattermost", 301, "", PermanentFailure, "HTTP 301"),
        ("mattermost", 500, "x" * 500_000, TemporaryFailure, "HTTP 500"),
    ],
)
async def test_an_answer_means_what_the_product_says_of_it(
    kind: str, status: int, body: str, meaning: type[DeliveryError], detail: str
) -> None:
    async with make_rig(kind) as rig:
        rig.server.tell(status, body, Location="/elsewhere")
        error = await failure(rig)
    assert type(error) is meaning
    assert error.detail.startswith(detail)
    assert len(error.detail) < 120
    assert len(rig.server.posts) == 1, "a redirect was followed"


@pytest.mark.parametrize(
    ("kind", "body", "header", "seconds"),
    [
        ("slack", "", "30", 30.0),
        ("discord", '{"retry_after": 0.64, "global": false}', "1", 0.64),
        ("discord", '{"retry_after": -1}', "1", 0.0),
        ("discord", '{"retry_after": 1e300}', "", 86_400.0),
        ("discord", "error code: 1015", "12", 12.0),
        ("teams", "", "soon", None),
        ("teams", "", "inf", None),
        ("mattermost", "limit exceeded", "", None),
    ],
)
async def test_a_pause_that_a_product_asks_for_is_passed_on(
    kind: str, body: str, header: str, seconds: float | None
) -> None:
    async with make_rig(kind) as rig:
        rig.server.tell(429, body, **{"Retry-After": header})
        error = await failure(rig)
    assert isinstance(error, TemporaryFailure)
    assert error.retry_after == seconds


async def test_the_history_has_what_was_sent_and_what_was_answered() -> None:
    async with make_rig("discord") as rig:
        sent = delivery(rig.subscription)
        outcome = await rig.channel.deliver(sent)
        rig.server.tell(429, '{"retry_after": 0.5, "code": 0}')
        error = await failure(rig)
        rig.server.tell(404, '{"code": 10015}')
        gone = await failure(rig)
        [size] = {len(body.encode()) for _, body in rig.server.posts}
    request = f"POST application/json, {size} bytes, Idempotency-Key {sent.key}"
    assert {outcome.request, error.request, gone.request} == {request}
    assert outcome.response == "HTTP 200"
    assert error.response == "HTTP 429 0, a pause of 0.5 s"
    assert gone.response == "HTTP 404 10015"


@pytest.mark.parametrize(
    "body", ["token-that-nobody-may-see", '{"id": "token-that-nobody-may-see"}', "\r\nx: y"]
)
async def test_an_answer_that_repeats_the_address_is_not_passed_on(body: str) -> None:
    for kind in KINDS:
        async with make_rig(kind) as rig:
            rig.server.tell(400, body)
            assert (await failure(rig)).detail == "HTTP 400"


async def test_a_room_that_says_nothing_is_a_temporary_failure_after_the_configured_time() -> None:
    async with make_rig("slack", config=ChatConfig(timeout_s=0.05, allow_http=True)) as rig:
        rig.answer(Answer.SILENCE)
        assert (await failure(rig)).detail == "no answer within 0.05 s"


async def test_a_compressed_answer_is_not_unpacked() -> None:
    """A receiver key names the host, and a few bytes may stand for very many."""
    asked: list[str | None] = []

    class Packing(Server):
        async def handle(self, request: web.Request) -> web.Response:
            asked.append(request.headers.get("Accept-Encoding"))
            headers = {"Content-Encoding": "gzip"}
            return web.Response(status=404, body=gzip.compress(b"no_service"), headers=headers)

    async with make_rig("slack") as rig, running(Packing("slack")) as server:
        with pytest.raises(TemporaryFailure) as error:
            await rig.channel.deliver(delivery(replace(rig.subscription, target=server.url)))
    assert (asked, error.value.detail) == (["identity"], "HTTP 404")


async def test_a_room_that_is_not_there_is_a_temporary_failure() -> None:
    async with make_rig("slack") as rig:
        nowhere = replace(rig.subscription, target="http://127.0.0.1:1/token-that-nobody-may-see")
        with pytest.raises(TemporaryFailure, match="cannot connect") as caught:
            await rig.channel.deliver(delivery(nowhere))
    assert "token" not in caught.value.detail


async def test_a_whole_hub_posts_to_a_room_and_drops_one_that_is_gone_and_nothing_shows_its_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(adapters={"chat": {"kind": "mattermost", "allow_http": True}})
    async with running(Server("mattermost")) as server, running_node(tmp_path, settings) as node:
        asked = {"channel": "chat", "target": server.url, "filter": {"area": HITOYOSHI}}
        headers = node.headers(Role.RECEIVER)
        async with node.http.post(f"{node.url}/v1/subscriptions", json=asked, headers=headers) as answer:
            assert answer.status == 201
            path = f"/v1/subscriptions/{(await answer.json())['id']}"
        await node.post(make_cap(headline="避難指示 @all"))
        await until(lambda: server.shown)
        assert (server.shown[0].title, server.shown[0].calls) == ("避難指示 @all", [])
        server.tell(502, server.url)
        await node.post(make_cap(identifier="second"))
        await until(lambda: len(server.posts) > 1)
        async with asyncio.timeout(5):
            while "HTTP 502" not in (kept := str(await node.get(f"{path}/deliveries", Role.RECEIVER))):
                await asyncio.sleep(0.01)
            server.tell(*GONE["mattermost"])
            await node.post(make_cap(identifier="third"))  # a new alert is tried at once
            while await node.node.hub.dispatcher.subscriptions():
                await asyncio.sleep(0.01)
    shown = capsys.readouterr()
    assert "token-that" not in kept + shown.out + shown.err


# The canary and the preview


@pytest.mark.parametrize("kind", KINDS)
async def test_a_canary_is_a_note_in_the_room(kind: str) -> None:
    async with make_rig(kind) as rig:
        await rig.channel.canary(rig.server.url, "canary-token")
        [shown] = rig.server.shown
    assert shown.title == CANARY_TITLE
    assert shown.body.endswith("canary-token")


async def test_a_canary_to_an_address_that_does_not_tell_its_product_says_what_to_set() -> None:
    async with make_rig("mattermost", config=ChatConfig(allow_http=True)) as rig:
        with pytest.raises(PermanentFailure, match="kind"):
            await rig.channel.canary(rig.server.url, "canary-token")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_preview_is_what_is_read(kind: str) -> None:
    async with make_rig(kind) as rig:
        sent = saying(delivery(rig.subscription), "*避難指示*", "@channel", level=3)
        seen = rig.channel.preview(sent.entry, None)
        await rig.channel.deliver(sent)
        [shown] = rig.server.shown
    parts = {part.name: part.text for part in seen.parts}
    assert parts.pop("text").split() == shown.body.split()
    assert parts == {"level": shown.level, "title": shown.title, "link": shown.link}


# What may be subscribed


def chat(**config: Any) -> Chat:
    return Chat("chat", msgspec.convert(config, ChatConfig), FakeHub())


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("https://hooks.slack.com/services/T/B/X", "slack"),
        ("https://discord.com/api/webhooks/1/x", "discord"),
        ("https://ptb.discord.com/api/webhooks/1/x", "discord"),
        (
            "https://prod-05.japaneast.logic.azure.com:443/workflows/x/triggers/manual/paths/invoke?sig=x",
            "teams",
        ),
        (
            "https://x.1.environment.api.powerplatform.com/powerautomate/automations/direct/workflows/x",
            "teams",
        ),
    ],
)
def test_a_known_host_tells_the_product(target: str, kind: str) -> None:
    asked = replace(subscription("chat", target), options={})
    kept = chat(kind="mattermost").check_subscription(asked)
    assert kept.options == {"kind": kind}
    assert chat().check_subscription(kept) == kept


def test_another_host_needs_a_word_in_the_subscription_or_the_configuration() -> None:
    asked = subscription("chat", "https://chat.hitoyoshi.example/hooks/x")
    with pytest.raises(BadRequest, match=r"options\.kind: must be one of slack, teams, discord, mattermost"):
        chat().check_subscription(asked)
    assert chat(kind="mattermost").check_subscription(asked).options == {"kind": "mattermost"}
    named = replace(asked, options={"kind": "slack"})
    assert chat(kind="mattermost").check_subscription(named).options == {"kind": "slack"}
    with pytest.raises(BadRequest, match=r"options\.kind"):
        chat().check_subscription(replace(asked, options={"kind": "irc"}))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://hooks.slack.com/services/x", "https"),
        ("https:///services/x", "host"),
        ("https://hooks.slack.com:0/x", "host"),
        ("https://hooks.slack.com:99999/x", "URL"),
        ("https://[::1/x", "URL"),
        ("https://u:p@hooks.slack.com/x", "password"),
        ("https://hooks.slack.com/x#y", "fragment"),
        ("https://hooks.slack.com/x y", "printable"),
        ("https://hooks.slack.com/" + "x" * 2_048, "2048"),
        ("", "https"),
    ],
)
def test_an_address_that_will_not_do_is_refused_with_the_reason(target: str, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason) as caught:
        chat().check_subscription(subscription("chat", target, kind="slack"))
    assert caught.value.detail.startswith("target: ")


def test_an_unknown_option_or_a_format_is_refused() -> None:
    known = subscription("chat", "https://hooks.slack.com/services/x", kind="slack")
    with pytest.raises(BadRequest, match="chanel"):
        chat().check_subscription(replace(known, options={"chanel": "#a"}))
    with pytest.raises(BadRequest, match="format"):
        chat().check_subscription(replace(known, format="cap"))


@pytest.mark.parametrize("config", [{"timeout_s": 60}, {"kind": "irc"}, {"knd": "slack"}])
def test_a_configuration_that_will_not_do_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        chat(**config)
