"""E-mail under the suite that every channel must pass, against a real SMTP server that misbehaves; and what is its own: message, addresses, replies, TLS, leaving."""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
import sys
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, cast

import aiohttp
import msgspec
import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from lalert import registry
from lalert.config import Hub, Settings, read
from lalert.errors import (
    BadRequest,
    ConfigError,
    DeliveryError,
    Gone,
    PermanentFailure,
    TemporaryFailure,
)
from lalert.model import Role, Status, Subscription
from lalert.plugin import CANARY_NOTE, CANARY_TITLE, HubApi
from lalert.testing import make_alert
from lalert.testing.channel import Answer, ChannelContract, Received, delivery, subscription, until
from lalert.testing.endpoint import EndpointContract, serving
from lalert.testing.hub import FakeHub
from lalert.testing.node import running_node
from lalert_adapters.email import Email, EmailConfig

ROOT = Path(__file__).parents[2]
TARGET = "resident-4711@mail.town.example"
SENDER = "alert@town.example"
REPLIES = {
    Answer.TEMPORARY: "451 4.3.0 try later",
    Answer.PERMANENT: f"550 5.7.1 <{TARGET}> no mail from you",
    Answer.GONE: f"550 5.1.1 <{TARGET}> unknown user",
}


@dataclass
class Mailbox:
    """A mail server on loopback that answers each command as it is told, and keeps what it got."""

    letters: list[tuple[Envelope, EmailMessage]] = field(default_factory=list)
    replies: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    drops: bool = False
    pause: float = 0.0
    """Seconds before each reply."""
    connections: int = 0
    port: int = 0
    open: set[asyncio.Transport] = field(default_factory=set)

    async def handle_MAIL(  # noqa: N802  # aiosmtpd finds it by this name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        await asyncio.sleep(self.pause)
        if (reply := self.replies.get("MAIL")) is None:
            envelope.mail_from, envelope.mail_options = address, options
        return reply or "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        await asyncio.sleep(self.pause)
        reply = self.refused.get(address, self.replies.get("RCPT"))
        if reply is None:
            envelope.rcpt_tos.append(address)
        return reply or "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        await asyncio.sleep(self.pause)
        content = cast("bytes", envelope.original_content)
        message = email.message_from_bytes(content, policy=email.policy.SMTPUTF8)
        self.letters.append((envelope, message))
        if self.drops:
            cast("asyncio.Transport", server.transport).abort()
        if self.silent:
            await asyncio.Event().wait()
        return self.replies.get("DATA", "250 2.0.0 queued")

    def hang_up(self) -> None:
        """Close every connection, as servers do that have waited long enough."""
        for transport in self.open:
            transport.abort()


class Counted(SMTP):
    """Notes its connections in the mailbox."""

    def connection_made(self, transport: Any) -> None:
        if transport.get_extra_info("sslcontext") is None or self._tls_protocol is None:
            self.event_handler.connections += 1
            self.event_handler.open.add(transport)
        super().connection_made(transport)


@asynccontextmanager
async def mail_server(tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[Mailbox]:
    loop = asyncio.get_running_loop()
    mailbox = Mailbox()
    server = await loop.create_server(
        lambda: Counted(mailbox, hostname="mx.example", loop=loop, **options), "127.0.0.1", 0, ssl=tls
    )
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        mailbox.hang_up()
        server.close()
        await asyncio.sleep(0)


@dataclass
class EmailRig:
    channel: Email
    subscription: Subscription
    mailbox: Mailbox

    def answer(self, how: Answer) -> None:
        self.mailbox.silent = how is Answer.SILENCE
        self.mailbox.replies = {"RCPT": REPLIES[how]} if how in REPLIES else {}

    def received(self) -> Sequence[Received]:
        return [
            Received(str(message["Message-ID"]), f"{message['Subject']}\n{parts(message)['text/plain']}")
            for _, message in self.mailbox.letters
        ]


@asynccontextmanager
async def make_rig(
    hub: HubApi | None = None,
    server: dict[str, Any] | None = None,
    implicit: ssl.SSLContext | None = None,
    **config: Any,
) -> AsyncIterator[EmailRig]:
    async with mail_server(implicit, **(server or {})) as mailbox:
        defaults = {"host": "127.0.0.1", "port": mailbox.port, "tls": "none", "sender": SENDER}
        chosen = msgspec.convert(defaults | config, EmailConfig)
        async with Email("email", chosen, hub or FakeHub()) as channel:
            yield EmailRig(channel, subscription("email", TARGET), mailbox)


class TestEmail(ChannelContract):
    def rig(self) -> Any:
        return make_rig()


async def test_a_preview_is_what_arrives() -> None:
    async with make_rig() as rig:
        sent = delivery(rig.subscription, status=Status.EXERCISE)
        shown = {part.name: part.text for part in rig.channel.preview(sent.entry, "ja").parts}
        await rig.channel.deliver(replace(sent, subscription=replace(rig.subscription, lang="ja")))
        [(_, message)] = rig.mailbox.letters
        assert message["Subject"] == shown["subject"]
        assert parts(message)["text/plain"].replace("\r\n", "\n") == shown["text"]
        assert [part.get_filename() for part in message.iter_attachments()] == [shown["attachment"]]


async def test_a_canary_says_in_subject_and_text_that_it_is_none_and_nobody_answers_it() -> None:
    async with make_rig() as rig:
        await rig.channel.canary(TARGET, "canary-1")
        [(envelope, message)] = rig.mailbox.letters
        assert envelope.rcpt_tos == [TARGET]
        assert message["Subject"] == f"{CANARY_TITLE} canary-1"
        assert CANARY_NOTE in message.get_content().replace("\r\n", "\n")
        assert message["Message-ID"] == "<canary-1@town.example>"
        assert message["Auto-Submitted"] == "auto-generated"
        assert list(message.iter_attachments()) == []


async def test_health_is_about_the_server_and_not_about_one_recipient() -> None:
    async with make_rig() as rig:
        rig.answer(Answer.GONE)
        with pytest.raises(Gone):
            await rig.channel.canary(TARGET, "canary-1")
        assert rig.channel.health().ok
        rig.mailbox.hang_up()
        rig.mailbox.drops = True
        rig.channel._server._login = replace(rig.channel._server._login, port=1)  # type: ignore[union-attr]
        with pytest.raises(TemporaryFailure):
            await rig.channel.canary(TARGET, "canary-2")
        assert "mail server" in rig.channel.health().detail


class TestUnsubscribing(EndpointContract):
    def make(self, hub: HubApi) -> Email:
        return Email("email", EmailConfig(host="127.0.0.1", tls="none", sender=SENDER), hub)


def parts(message: EmailMessage) -> dict[str, str]:
    return {
        part.get_content_type(): cast("str", part.get_content())
        for part in message.walk()
        if part.get_content_maintype() == "text"
    }


async def sent(rig: EmailRig, **facts: Any) -> EmailMessage:
    await rig.channel.deliver(delivery(rig.subscription, **facts))
    return rig.mailbox.letters[-1][1]


# The message


async def test_text_html_and_the_cap_document_arrive_in_one_message() -> None:
    async with make_rig(sender_name="人吉市 防災") as rig:
        one = delivery(rig.subscription)
        await rig.channel.deliver(one)
        [(envelope, message)] = rig.mailbox.letters
    headline = one.entry.alert.infos[0].headline
    assert headline
    assert (envelope.mail_from, envelope.rcpt_tos) == (SENDER, [TARGET])
    assert message["To"] == TARGET
    assert message["From"].addresses[0].display_name == "人吉市 防災"
    assert headline in message["Subject"]
    assert headline in parts(message)["text/plain"]
    assert headline in parts(message)["text/html"]
    [attached] = message.iter_attachments()
    assert attached.get_content_type() == "application/cap+xml"
    assert attached.get_content() == one.entry.alert.raw
    assert message.defects == []


async def test_nothing_answers_it_by_itself() -> None:
    async with make_rig() as rig:
        message = await sent(rig)
    assert (message["Auto-Submitted"], message["Precedence"]) == ("auto-generated", "bulk")


async def test_lines_are_short_ascii_that_every_server_takes() -> None:
    async with make_rig() as rig:
        await sent(rig)
        content = cast("bytes", rig.mailbox.letters[0][0].original_content)
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 200
    assert b"\n" not in content.replace(b"\r\n", b"")


async def test_every_attempt_is_the_same_message_but_for_its_boundaries() -> None:
    async with make_rig() as rig:
        one = delivery(rig.subscription)
        await rig.channel.deliver(one)
        await rig.channel.deliver(replace(one, attempt=2))
        first, second = (message for _, message in rig.mailbox.letters)
    assert first["Message-ID"] == f"<{one.key}@town.example>"
    assert [(k, v) for k, v in first.items() if k != "Content-Type"] == [
        (k, v) for k, v in second.items() if k != "Content-Type"
    ]


async def test_the_subject_of_a_drill_begins_with_the_mark_and_is_cut_behind_it() -> None:
    async with make_rig() as rig:
        one = delivery(rig.subscription, status=Status.EXERCISE)
        info = replace(one.entry.alert.infos[0], headline="避難指示" * 100)
        alert = replace(one.entry.alert, infos=(info,))
        await rig.channel.deliver(replace(one, entry=replace(one.entry, alert=alert)))
        [(_, message)] = rig.mailbox.letters
    assert message["Subject"].startswith("【訓練】")
    assert message["Subject"].endswith("…")
    assert len(message["Subject"]) == 150
    assert "避難指示" * 100 in parts(message)["text/plain"]


async def test_a_headline_can_neither_add_a_header_nor_html() -> None:
    async with make_rig() as rig:
        one = delivery(rig.subscription)
        info = replace(
            one.entry.alert.infos[0], headline="flood\r\nBcc: x@evil.example\r\n\r\n<script>x</script>"
        )
        alert = replace(one.entry.alert, infos=(info,))
        await rig.channel.deliver(replace(one, entry=replace(one.entry, alert=alert)))
        [(envelope, message)] = rig.mailbox.letters
    assert message["Bcc"] is None
    assert envelope.rcpt_tos == [TARGET]
    assert message["Subject"].startswith("flood Bcc: x@evil.example")
    assert "<script>" not in parts(message)["text/html"]


async def test_two_languages_of_one_alert_are_two_texts() -> None:
    async with make_rig() as rig:
        one = delivery(rig.subscription)
        info = one.entry.alert.infos[0]
        english = replace(info, language="en", headline="Evacuate now")
        japanese = replace(info, language="ja", headline="避難してください")
        entry = replace(one.entry, alert=replace(one.entry.alert, infos=(japanese, english)))
        for lang in ("en", "ja"):
            await rig.channel.deliver(
                replace(one, entry=entry, subscription=replace(rig.subscription, lang=lang))
            )
        subjects = [str(message["Subject"]) for _, message in rig.mailbox.letters]
        languages = [str(message["Content-Language"]) for _, message in rig.mailbox.letters]
    assert subjects == ["Evacuate now", "避難してください"]
    assert languages == ["en", "ja"]


async def test_a_long_document_arrives_whole() -> None:
    async with make_rig() as rig:
        one = delivery(rig.subscription)
        raw = one.entry.alert.raw + b"<!-- " + b"x" * 100_000 + b" -->"
        alert = replace(one.entry.alert, raw=raw)
        await rig.channel.deliver(replace(one, entry=replace(one.entry, alert=alert)))
        [(_, message)] = rig.mailbox.letters
    [attached] = message.iter_attachments()
    assert attached.get_content() == raw


# Leaving


async def test_a_hub_with_an_https_address_offers_one_click_and_the_click_ends_it() -> None:
    hub = FakeHub(base_url="https://alert.town.example")
    async with make_rig(hub, unsubscribe="stop@town.example") as rig:
        await hub.save_subscription(rig.subscription)
        message = await sent(rig)
        click, mailto = str(message["List-Unsubscribe"]).split(", ")
        assert mailto == "<mailto:stop@town.example?subject=unsubscribe>"
        assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert "https://alert.town.example/alerts/" in parts(message)["text/plain"]
        again = Email("email", EmailConfig(host="127.0.0.1", tls="none", sender=SENDER), hub)
        async with serving(again) as url, aiohttp.ClientSession() as http:
            address = url + click.strip("<>").removeprefix("https://alert.town.example")
            async with http.get(address) as answer:
                assert answer.status == 200
            assert hub.saved, "a program that only looked at the link has unsubscribed"
            async with http.post(address[:-1] + ("0" if address[-1] != "0" else "1")) as answer:
                assert answer.status == 404
            assert hub.saved, "somebody else's link has unsubscribed"
            for _ in range(2):
                async with http.post(address, data={"List-Unsubscribe": "One-Click"}) as answer:
                    assert answer.status == 200
    assert not hub.saved


async def test_without_such_an_address_one_leaves_by_mail_or_not_at_all() -> None:
    async with make_rig(unsubscribe="stop@town.example") as rig:
        message = await sent(rig)
    assert message["List-Unsubscribe"] == "<mailto:stop@town.example?subject=unsubscribe>"
    assert message["List-Unsubscribe-Post"] is None
    async with make_rig() as rig:
        message = await sent(rig)
    assert message["List-Unsubscribe"] is None


# What a reply means


@pytest.mark.parametrize(
    ("command", "reply", "kind"),
    [
        ("MAIL", "421 4.3.2 closing", TemporaryFailure),
        ("MAIL", "451 4.3.0 later", TemporaryFailure),
        ("MAIL", "530 5.7.0 authenticate first", TemporaryFailure),
        ("MAIL", "550 5.7.1 sender not allowed", TemporaryFailure),
        ("MAIL", "552 5.3.4 too big", PermanentFailure),
        ("RCPT", "421 4.7.0 too many", TemporaryFailure),
        ("RCPT", "450 4.2.1 busy", TemporaryFailure),
        ("RCPT", "451 4.7.1 greylisted", TemporaryFailure),
        ("RCPT", "452 4.5.3 too many recipients", TemporaryFailure),
        ("RCPT", "530 5.7.0 authenticate first", TemporaryFailure),
        ("RCPT", "550 5.1.1 unknown", Gone),
        ("RCPT", "551 5.1.6 moved", Gone),
        ("RCPT", "556 5.1.10 takes no mail", Gone),
        ("RCPT", "550 unknown user", PermanentFailure),
        ("RCPT", "550 5.7.1 spam", PermanentFailure),
        ("RCPT", "550 5.1.11 something new", PermanentFailure),
        ("RCPT", "552 too many", TemporaryFailure),
        ("RCPT", "552 5.2.2 mailbox full", TemporaryFailure),
        ("RCPT", "550 5.2.2 mailbox full", TemporaryFailure),
        ("RCPT", "553 5.1.3 bad address", PermanentFailure),
        ("RCPT", "554 5.7.1 relay access denied", PermanentFailure),
        ("DATA", "421 4.3.2 closing", TemporaryFailure),
        ("DATA", "452 4.3.1 no room", TemporaryFailure),
        ("DATA", "550 5.1.1 said too late to be about one recipient", PermanentFailure),
        ("DATA", "552 5.3.4 too big", PermanentFailure),
        ("DATA", "554 5.6.0 refused", PermanentFailure),
    ],
)
async def test_a_refusal_is_classified_and_the_next_message_arrives(
    command: str, reply: str, kind: type[DeliveryError]
) -> None:
    async with make_rig() as rig:
        rig.mailbox.replies = {command: reply}
        with pytest.raises(DeliveryError) as caught:
            await rig.channel.deliver(delivery(rig.subscription))
        assert type(caught.value) is kind
        assert f"SMTP {reply[:3]}" in caught.value.detail
        rig.mailbox.replies = {}
        outcome = await rig.channel.deliver(delivery(rig.subscription, 2))
    assert outcome.detail == "SMTP 250 2.0.0"


async def test_one_refused_recipient_costs_the_others_nothing() -> None:
    async with make_rig() as rig:
        rig.mailbox.refused = {"b@town.example": "550 5.1.1 unknown", "d@town.example": "451 4.3.0 later"}
        deliveries = [
            delivery(replace(rig.subscription, id=name, target=f"{name}@town.example")) for name in "abcdef"
        ]
        results = await asyncio.gather(
            *(rig.channel.deliver(one) for one in deliveries), return_exceptions=True
        )
    assert [type(result).__name__ for result in results] == [
        "Outcome",
        "Gone",
        "Outcome",
        "TemporaryFailure",
        "Outcome",
        "Outcome",
    ]
    assert all(len(envelope.rcpt_tos) == 1 for envelope, _ in rig.mailbox.letters)


# Connections


async def test_many_messages_share_one_connection() -> None:
    async with make_rig(connections=1) as rig:
        await asyncio.gather(*(rig.channel.deliver(delivery(rig.subscription, n)) for n in range(1, 21)))
        assert len(rig.mailbox.letters) == 20
        assert rig.mailbox.connections == 1


async def test_no_more_connections_are_open_than_allowed() -> None:
    async with make_rig(connections=3) as rig:
        await asyncio.gather(*(rig.channel.deliver(delivery(rig.subscription, n)) for n in range(1, 21)))
        assert rig.mailbox.connections == 3


async def test_a_connection_that_the_server_has_closed_meanwhile_costs_no_attempt() -> None:
    async with make_rig() as rig:
        await sent(rig)
        rig.mailbox.hang_up()
        await rig.channel.deliver(delivery(rig.subscription, 2))
        assert len(rig.mailbox.letters) == 2
        assert rig.mailbox.connections == 2


async def test_a_connection_that_breaks_in_the_message_is_a_temporary_failure() -> None:
    async with make_rig() as rig:
        rig.mailbox.drops = True
        with pytest.raises(TemporaryFailure, match="broke"):
            await rig.channel.deliver(delivery(rig.subscription))
        rig.mailbox.drops = False
        await rig.channel.deliver(delivery(rig.subscription, 2))


async def test_a_server_that_is_slow_at_every_step_is_a_temporary_failure_and_is_hung_up_on() -> None:
    async with make_rig(timeout_s=1.0) as rig:
        rig.mailbox.pause = 0.4
        with pytest.raises(TemporaryFailure, match="no answer within 1 s"):
            await rig.channel.deliver(delivery(rig.subscription))
        await until(lambda: all(transport.is_closing() for transport in rig.mailbox.open))


async def test_a_refusal_costs_no_connection() -> None:
    async with make_rig() as rig:
        rig.mailbox.replies = {"RCPT": "550 5.1.1 unknown"}
        for number in (1, 2, 3):
            with pytest.raises(Gone):
                await rig.channel.deliver(delivery(rig.subscription, number))
        assert rig.mailbox.connections == 1


async def test_a_server_that_is_not_there_is_a_temporary_failure() -> None:
    async with make_rig(port=1) as rig:
        with pytest.raises(TemporaryFailure, match="cannot connect"):
            await rig.channel.deliver(delivery(rig.subscription))


# TLS and login


@dataclass
class Certificates:
    server: ssl.SSLContext
    file: str
    other_file: str


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder: Path = tmp_path_factory.mktemp("ca")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    stranger.cert_pem.write_to_path(str(folder / "other.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return Certificates(context, str(folder / "ca.pem"), str(folder / "other.pem"))


def only_secret(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"hub", b"s3cret-word")
    return AuthResult(success=good, handled=False)


@pytest.fixture
def login(certificates: Certificates, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "password").write_text("s3cret-word\n")
    return {
        "tls": "starttls",
        "ca_file": certificates.file,
        "user": "hub",
        "password_file": str(tmp_path / "password"),
    }


def wants_login(certificates: Certificates) -> dict[str, Any]:
    return {
        "tls_context": certificates.server,
        "require_starttls": True,
        "auth_required": True,
        "authenticator": only_secret,
    }


async def test_login_happens_inside_starttls(certificates: Certificates, login: dict[str, Any]) -> None:
    async with make_rig(server=wants_login(certificates), **login) as rig:
        await sent(rig)
        await rig.channel.deliver(delivery(rig.subscription, 2))
        assert rig.mailbox.connections == 1


async def test_a_refused_login_is_tried_again_later_and_shows_no_secret(
    certificates: Certificates, login: dict[str, Any]
) -> None:
    Path(login["password_file"]).write_text("wrong-word")
    async with make_rig(server=wants_login(certificates), **login) as rig:
        with pytest.raises(TemporaryFailure, match="refuses the login") as caught:
            await rig.channel.deliver(delivery(rig.subscription))
        assert not rig.mailbox.letters
    assert caught.value.retry_after == 60.0
    assert "word" not in caught.value.detail.replace("password_file", "")


async def test_a_server_without_starttls_gets_nothing(certificates: Certificates) -> None:
    async with make_rig(tls="starttls", ca_file=certificates.file) as rig:
        with pytest.raises(TemporaryFailure, match="does not offer"):
            await rig.channel.deliver(delivery(rig.subscription))
        assert not rig.mailbox.letters


async def test_tls_from_the_first_byte(certificates: Certificates) -> None:
    async with make_rig(implicit=certificates.server, tls="implicit", ca_file=certificates.file) as rig:
        await sent(rig)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_certificate_of_somebody_else_gets_nothing(certificates: Certificates, tls: str) -> None:
    implicit = certificates.server if tls == "implicit" else None
    server = {} if implicit else {"tls_context": certificates.server}
    async with make_rig(server=server, implicit=implicit, tls=tls, ca_file=certificates.other_file) as rig:
        with pytest.raises(TemporaryFailure, match="certificate"):
            await rig.channel.deliver(delivery(rig.subscription))
        assert not rig.mailbox.letters


# Addresses and settings


async def test_an_international_address_is_written_to_where_the_server_can() -> None:
    async with make_rig(server={"enable_SMTPUTF8": True}) as rig:
        kept = rig.channel.check_subscription(replace(rig.subscription, target="防災@人吉.example"))
        assert kept.target == "防災@xn--gmq42k.example"
        await rig.channel.deliver(delivery(kept))
        [(envelope, message)] = rig.mailbox.letters
    assert envelope.rcpt_tos == [kept.target]
    assert message["To"] == kept.target


async def test_where_it_cannot_that_is_final() -> None:
    async with make_rig() as rig:
        abroad = replace(rig.subscription, target="防災@town.example")
        with pytest.raises(PermanentFailure, match="international"):
            await rig.channel.deliver(delivery(abroad))
        await rig.channel.deliver(delivery(rig.subscription, 2))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a@b.example", "a@b.example"),
        ("First.Last+alerts@Mail.Town.EXAMPLE", "First.Last+alerts@mail.town.example"),
        ("o'neil@b.example", "o'neil@b.example"),
        ("が@b.example", "が@b.example"),
    ],
)
def test_an_address_is_kept_in_one_form(given: str, kept: str) -> None:
    assert channel().check_subscription(subscription("email", given)).target == kept


@pytest.mark.parametrize(
    "target",
    [
        "",
        "a",
        "@b.example",
        "a@",
        "a@localhost",
        "a@b..example",
        "a@-b.example",
        "a@127.0.0.1",
        "a@[127.0.0.1]",
        "a b@c.example",
        '"a b"@c.example',
        "a@b.example, c@d.example",
        "a@b.example,c@d.example",
        "a@c@b.example",
        "Name <a@b.example>",
        "a@b.example\r\nBcc: c@d.example",
        "a@b.example\n",
        "a\r\nRCPT TO:<c@d.example>@b.example",
        "a\u202eb@c.example",
        "a\u200bb@c.example",
        ".a@b.example",
        "a..b@c.example",
        "x" * 65 + "@b.example",
        "あ" * 22 + "@b.example",
        "a@" + "b." * 130 + "example",
    ],
)
def test_what_is_not_one_plain_address_is_refused(target: str) -> None:
    with pytest.raises(BadRequest, match=r"^target: "):
        channel().check_subscription(subscription("email", target))


def test_a_format_or_an_option_is_refused_as_there_is_none() -> None:
    with pytest.raises(BadRequest, match="format"):
        channel().check_subscription(subscription("email", TARGET, "cap"))
    with pytest.raises(BadRequest, match=r"options\.secret"):
        channel().check_subscription(subscription("email", TARGET, secret="x"))


@pytest.mark.parametrize(
    ("block", "mistake"),
    [
        ({}, "adapters.email.host: is missing"),
        (
            {"host": "mx.example", "tls": "none"},
            'adapters.email.tls: "none" is for a server on the same machine',
        ),
        ({"host": "mx.example", "sender": "town"}, "adapters.email.sender: must be one plain e-mail address"),
        (
            {"host": "mx.example", "sender": "a@Town.example"},
            "adapters.email.sender: write it as a@town.example",
        ),
        ({"host": "mx.example", "bounces": "防@town.example"}, "adapters.email.bounces: must be ASCII"),
        ({"host": "mx.example", "unsubscribe": "no"}, "adapters.email.unsubscribe: must be one plain"),
        (
            {"host": "mx.example", "sender_name": "a\r\nBcc: b"},
            "adapters.email.sender_name: must be one line",
        ),
        ({"host": "mx.example", "user": "hub"}, "adapters.email.user: needs password_file"),
        ({"host": "mx.example", "connections": 9}, "adapters.email.connections: "),
        ({"host": "mx.example", "tls": "yes"}, "adapters.email.tls: "),
    ],
)
def test_settings_that_do_not_hold_are_named(block: dict[str, Any], mistake: str) -> None:
    mistakes: list[str] = []
    assert read(EmailConfig, {"sender": SENDER} | block, "adapters.email.", mistakes) is None
    assert mistakes[0].startswith(mistake)


@pytest.mark.parametrize("key", ["password_file", "ca_file"])
async def test_a_file_that_cannot_be_read_is_named_before_anything_is_sent(key: str) -> None:
    block = {"host": "mx.example", "sender": SENDER, key: "/nowhere/at/all"}
    config = msgspec.convert(block | ({"user": "hub"} if key == "password_file" else {}), EmailConfig)
    with pytest.raises(ConfigError, match=f"adapters.email.{key}"):
        async with Email("email", config, FakeHub()):
            pass


def channel() -> Email:
    return Email("email", EmailConfig(host="127.0.0.1", tls="none", sender=SENDER), FakeHub())


def test_the_blocks_in_the_documentation_and_in_the_example_hold() -> None:
    page = (ROOT / "docs/adapters/email.md").read_text(encoding="utf-8")
    example = (ROOT / "examples/lalert.toml").read_text(encoding="utf-8")
    documented = tomllib.loads(page.split("```toml\n")[1].split("```")[0])["adapters"]["email"]
    lines = example.split("# [adapters.email]\n")[1].split("\n\n")[0].splitlines()
    shown = tomllib.loads("\n".join(line.removeprefix("# ") for line in lines))
    assert set(documented) == {field.name for field in msgspec.structs.fields(EmailConfig)}
    for block in (documented, shown):
        mistakes: list[str] = []
        config = read(EmailConfig, block, "adapters.email.", mistakes)
        assert config is not None, mistakes
    defaults = EmailConfig(host="x", sender=SENDER)
    for name in ("bounces", "tls", "port", "ca_file", "connections", "timeout_s"):
        assert documented[name] == getattr(defaults, name), name


def test_without_the_extra_the_advice_is_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    installs_email(monkeypatch)
    monkeypatch.setitem(sys.modules, "aiosmtplib", None)
    for name in [name for name in sys.modules if name.startswith("lalert_adapters.email")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigError, match=r"pip install 'lalert\[email\]'"):
        registry.plan({"email": {"host": "mx.example", "sender": SENDER}})


async def test_a_node_writes_to_a_subscriber_who_then_leaves_by_one_click(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installs_email(monkeypatch)
    async with mail_server() as mailbox:
        settings = Settings(
            hub=Hub(base_url="https://alert.town.example"),
            adapters={"email": {"host": "127.0.0.1", "port": mailbox.port, "tls": "none", "sender": SENDER}},
        )
        async with running_node(tmp_path, settings) as node:
            body = {"channel": "email", "target": TARGET, "filter": {"area": ["432032"]}, "lang": "ja"}
            headers = node.headers(Role.RECEIVER)
            async with node.http.post(f"{node.url}/v1/subscriptions", json=body, headers=headers) as answer:
                assert answer.status == 201, await answer.text()
            status, _ = await node.post(make_alert().raw)
            assert status == 201
            await until(lambda: mailbox.letters)
            [(envelope, message)] = mailbox.letters
            click = str(message["List-Unsubscribe"]).strip("<>").removeprefix("https://alert.town.example")
            async with node.http.post(node.url + click, data={"List-Unsubscribe": "One-Click"}) as answer:
                assert answer.status == 200, await answer.text()
            _, left = await node.get("/v1/subscriptions", Role.RECEIVER)
    assert envelope.rcpt_tos == [TARGET]
    assert message["Subject"]
    assert TARGET not in str(left)


def installs_email(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the registry find the adapter also where the package was installed before the adapter was there."""
    point = EntryPoint("email", "lalert_adapters.email:Email", registry.GROUP)
    found = registry.installed()
    monkeypatch.setattr(registry, "installed", lambda: found | {"email": point})
