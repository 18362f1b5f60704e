"""The channel: who is written to, with what, and how one leaves."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import ssl
from collections.abc import Sequence
from dataclasses import replace
from email.headerregistry import Address
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, Self
from urllib.parse import quote, urlsplit

import msgspec
from aiohttp import web

from lalert.errors import BadRequest, ConfigError, DeliveryError, NotFound, TemporaryFailure, Unavailable
from lalert.model import Delivery, Entry, Outcome, Subscription
from lalert.plugin import (
    Access,
    Canarying,
    Channel,
    Endpoint,
    Health,
    Healthy,
    HubApi,
    Limits,
    Part,
    Preview,
    Previewing,
    Route,
)
from lalert_adapters.email.addresses import checked
from lalert_adapters.email.letters import MAX_SUBJECT, common, note, own, plain, subject
from lalert_adapters.email.server import Login, Server

PORTS: Final = {"starttls": 587, "implicit": 465, "none": 25}
SHARED: Final = 16
"""How many alerts, in one language each, are kept ready for the next recipient."""
LONG: Final = 65_536
"""Bytes of a CAP document from which a message is put together off the event loop."""
KEY: Final = "unsubscribe-key"
FORMAT: Final = "json"


class EmailConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[adapters.NAME] of type email."""

    host: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z.:_-]{1,253}$")]
    """The mail server that takes this hub's messages and carries them on."""
    sender: str
    """The address in From."""
    sender_name: Annotated[str, msgspec.Meta(max_length=100)] = ""
    bounces: str = ""
    """Where the reports about what could not be delivered go; `sender` where it is empty."""
    unsubscribe: str = ""
    """An address that somebody reads, for whoever wants no more."""
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    """`none` is for a server on the same machine only."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    """0: 587, 465 or 25, as `tls` says."""
    ca_file: str = ""
    """Certificates to trust instead of the system's, in PEM."""
    user: str = ""
    password_file: str = ""
    connections: Annotated[int, msgspec.Meta(ge=1, le=8)] = 4
    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=50)] = 30.0
    """Seconds that one message may take, connecting included, waiting for a free connection not."""

    def __post_init__(self) -> None:
        for name, address in (
            ("sender", self.sender),
            ("bounces", self.bounces),
            ("unsubscribe", self.unsubscribe),
        ):
            if address or name == "sender":
                _own_address(name, address)
        if not self.sender_name.isprintable():
            raise ValueError("sender_name: must be one line of printable characters")
        if self.tls == "none" and not _is_loopback(self.host):
            raise ValueError(
                'tls: "none" is for a server on the same machine only; use "starttls" or "implicit"'
            )
        if bool(self.user) != bool(self.password_file):
            raise ValueError("user: needs password_file, and password_file needs user")


class Email:
    """Writes to the subscription's target in its language: text and HTML, with the CAP document attached.

    `deliver` borrows one of a few open connections, so that many messages share one; each recipient has a message, and a result, of its own.
    """

    Config: ClassVar[type[EmailConfig]] = EmailConfig
    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(per_target=1, in_flight=8, timeout=60.0)

    def __init__(self, name: str, config: EmailConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub
        local, _, self._domain = config.sender.rpartition("@")
        self._sender = Address(config.sender_name, username=local, domain=self._domain.lower())
        self._ready: dict[tuple[str, str | None], bytes] = {}
        self._server: Server | None = None
        self._key: bytes | None = None

    async def __aenter__(self) -> Self:
        self._server = Server(await asyncio.to_thread(self._login), self._config.connections)
        if await self._hub.state.get(KEY) is None:
            await self._hub.state.put(KEY, secrets.token_bytes(32))
        return self

    async def __aexit__(self, *exc: object) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.close()

    def check_subscription(self, subscription: Subscription) -> Subscription:
        """Return the subscription with its address as it is kept; raises `BadRequest` if the address, the format or an option does not hold."""
        try:
            target = checked(subscription.target)
        except ValueError as error:
            raise BadRequest(f"target: {error}") from None
        if subscription.format != FORMAT:
            raise BadRequest(
                "format: leave it out for e-mail: text, HTML and the CAP document are always sent"
            )
        if subscription.options:
            raise BadRequest(f"options.{min(subscription.options)[:40]}: unknown for e-mail, which has none")
        return replace(subscription, target=target)

    async def deliver(self, delivery: Delivery) -> Outcome:
        """Hand one message to the mail server; that it reached the mailbox is not known. The Message-ID is made from the delivery's key."""
        if self._server is None:
            raise TemporaryFailure("the channel is not open")
        subscription = delivery.subscription
        head = own(
            subscription.target,
            f"{delivery.key}@{self._domain}",
            self._config.unsubscribe or None,
            await self._one_click(subscription),
        )
        message = head + await self._common(delivery.entry, subscription.lang)
        sender = self._config.bounces or self._config.sender
        request = f"a message of {len(message)} bytes, Message-ID {delivery.key}"
        try:
            said = await self._server.send(sender, subscription.target, message)
        except DeliveryError as failure:
            failure.request, failure.response = request, failure.detail
            raise
        return Outcome(said, request=request, response=said)

    def health(self) -> Health:
        """Return whether the mail server took what was last handed to it, or refused one recipient only."""
        trouble = self._server.trouble if self._server is not None else ""
        return Health(not trouble, trouble)

    def preview(self, entry: Entry, lang: str | None) -> Preview:
        """Return subject and text; the HTML says the same."""
        text = self._hub.text(entry, lang)
        line = subject(text.title)
        parts = (
            Part("subject", line, len(line), MAX_SUBJECT),
            Part("text", plain(text, self._link(entry))),
            Part("attachment", "alert.xml"),
        )
        return Preview(parts, text.lang)

    async def canary(self, target: str, token: str) -> None:
        """Hand a note to the mail server; its Message-ID is made from the token, which its text holds too."""
        if self._server is None:
            raise TemporaryFailure("the channel is not open")
        head = own(target, f"{token}@{self._domain}", None, None)
        message = head + note(token, self._sender, self._hub.clock.now())
        await self._server.send(self._config.bounces or self._config.sender, target, message)

    def routes(self) -> Sequence[Route]:
        """Return where a recipient leaves: a page with a button, and what the button and mail programs post to (RFC 8058)."""
        path = f"/unsubscribe/{quote(self.name, safe='')}/{{id}}/{{token}}"
        return [
            Route("GET", path, self._ask, Access.PUBLIC),
            Route("POST", path, self._leave, Access.PUBLIC),
        ]

    async def _common(self, entry: Entry, lang: str | None) -> bytes:
        made = self._ready.get((entry.alert.id, lang))
        if made is None:
            cap = self._hub.body(entry, "cap")
            parts = (entry, self._hub.text(entry, lang), cap, self._sender, self._link(entry))
            made = await asyncio.to_thread(common, *parts) if len(cap) > LONG else common(*parts)
            if len(self._ready) >= SHARED:
                del self._ready[next(iter(self._ready))]
            self._ready[entry.alert.id, lang] = made
        return made

    def _link(self, entry: Entry) -> str | None:
        return f"{self._hub.base_url}/alerts/{entry.alert.id}" if self._is_public() else None

    def _is_public(self) -> bool:
        """Say whether the hub has an address that a recipient can follow; one-click needs https (RFC 8058, 3.1)."""
        return self._hub.base_url.startswith("https://")

    async def _one_click(self, subscription: Subscription) -> str | None:
        if not self._is_public():
            return None
        path = f"/unsubscribe/{quote(self.name, safe='')}/{quote(subscription.id, safe='')}"
        try:
            return f"{self._hub.base_url}{path}/{await self._token(subscription.id)}"
        except Unavailable:
            return None  # an alert does not wait for a way to unsubscribe

    async def _token(self, subscription_id: str) -> str:
        if self._key is None:
            self._key = await self._hub.state.get(KEY)
        if self._key is None:
            raise Unavailable("the key for unsubscribing is not there yet")
        return hmac.new(self._key, subscription_id.encode(errors="replace"), hashlib.sha256).hexdigest()

    async def _ask(self, request: web.Request) -> web.StreamResponse:
        """A GET never unsubscribes: programs that look for malware open every link of a message."""
        await self._meant(request)
        return _page(
            '<form method="post"><p>この宛先への災害情報メールを止めます。<br>Stop the alert e-mails to this address.</p>'
            '<button type="submit">配信を停止 / Unsubscribe</button></form>'
        )

    async def _leave(self, request: web.Request) -> web.StreamResponse:
        await self._hub.drop_subscription(await self._meant(request))
        return _page("<p>配信を停止しました。<br>You are unsubscribed.</p>")

    async def _meant(self, request: web.Request) -> str:
        subscription_id = request.match_info["id"]
        given = request.match_info["token"].encode(errors="replace")
        if not hmac.compare_digest(given, (await self._token(subscription_id)).encode()):
            raise NotFound("there is no such subscription")
        return subscription_id

    def _login(self) -> Login:
        config = self._config
        context = None
        try:
            if config.tls != "none":
                context = ssl.create_default_context(cafile=config.ca_file or None)
        except OSError as error:
            raise ConfigError(
                [f"adapters.{self.name}.ca_file: {config.ca_file} cannot be read ({error})"]
            ) from error
        return Login(
            config.host,
            config.port or PORTS[config.tls],
            urlsplit(self._hub.base_url).hostname or "localhost",
            config.timeout_s,
            config.tls == "implicit",
            context,
            config.user,
            self._password(),
        )

    def _password(self) -> str:
        file = self._config.password_file
        try:
            return Path(file).read_text(encoding="utf-8").rstrip("\r\n") if file else ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                [f"adapters.{self.name}.password_file: {file} cannot be read ({error})"]
            ) from error


if TYPE_CHECKING:
    _: type[Channel] = Email
    _endpoint: type[Endpoint] = Email
    _healthy: type[Healthy] = Email
    _previewing: type[Previewing] = Email
    _canarying: type[Canarying] = Email


def _own_address(name: str, address: str) -> None:
    try:
        kept = checked(address)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if not kept.isascii():
        raise ValueError(f"{name}: must be ASCII before the @, so that every server takes it")
    if kept != address:
        raise ValueError(f"{name}: write it as {kept}")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _page(body: str) -> web.Response:
    return web.Response(
        text=f'<!doctype html>\n<html lang="ja"><head><meta charset="utf-8"><title>配信停止 / Unsubscribe</title></head><body>{body}</body></html>\n',
        content_type="text/html",
    )
