"""The channel: which addresses are taken, and what is posted to them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from lalert.errors import BadRequest, DeliveryError, PermanentFailure, TemporaryFailure
from lalert.model import Delivery, Entry, Outcome, Subscription
from lalert.plugin import (
    CANARY_NOTE,
    CANARY_TITLE,
    Canarying,
    Channel,
    HubApi,
    Limits,
    Part,
    Preview,
    Previewing,
)
from lalert_adapters.chat.answers import judge
from lalert_adapters.chat.payloads import ROOM, Kind, Message, cost, message, payload

MAX_URL: Final = 2_048
MAX_ANSWER: Final = 4_096
DRAIN_S: Final = 1.0
FORMAT: Final = "json"
HOSTS: Final = {
    "hooks.slack.com": Kind.SLACK,
    "hooks.slack-gov.com": Kind.SLACK,
    "discord.com": Kind.DISCORD,
    "discordapp.com": Kind.DISCORD,
    "logic.azure.com": Kind.TEAMS,
    "api.powerplatform.com": Kind.TEAMS,
}
"""Hosts, and what lies below them, that say which product it is; Mattermost stands at everybody's own."""


class ChatConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[adapters.NAME] of type chat."""

    kind: Kind | None = None
    """The product at an address that does not tell it, such as a Mattermost of your own."""
    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=19)] = 15.0
    """Seconds that one call may take, connecting included."""
    allow_http: bool = False
    """Take `http:` addresses too: whoever listens on the way can then post to the room as well."""


class Chat:
    """Posts to the subscription's target, an incoming webhook of the product in its option `kind`."""

    Config: ClassVar[type[ChatConfig]] = ChatConfig
    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(per_target=1, in_flight=32, timeout=20.0)

    def __init__(self, name: str, config: ChatConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nothing to release: the session is the hub's."""

    def check_subscription(self, subscription: Subscription) -> Subscription:
        """Return the subscription with its product noted; raises `BadRequest` if the address, the format or an option does not hold."""
        _check_url(subscription.target, allow_http=self._config.allow_http)
        if subscription.format != FORMAT:
            raise BadRequest("format: leave it out for chat: each product has its own")
        if unknown := sorted(set(subscription.options) - {"kind"}):
            raise BadRequest(f"options.{unknown[0][:40]}: unknown for chat; known: kind")
        return replace(subscription, options={"kind": self._kind(subscription).value})

    async def deliver(self, delivery: Delivery) -> Outcome:
        """Post one alert. No product drops a repetition: after an answer that was lost a room may read an alert twice."""
        entry, subscription = delivery.entry, delivery.subscription
        said = self._message(entry, subscription.lang)
        return await self._post(self._kind(subscription), subscription.target, said, delivery.key)

    def preview(self, entry: Entry, lang: str | None) -> Preview:
        """Return what a room reads, before each product's escapes."""
        said = self._message(entry, lang)
        parts = [Part("level", said.level)] if said.level else []
        for name, text, limit in (("title", said.title, ROOM.title), ("text", said.body, ROOM.body)):
            parts.append(Part(name, text, cost(text), limit, "UTF-16 units with escapes"))
        parts += [Part("link", said.link)] if said.link else []
        return Preview(tuple(parts), said.lang)

    async def canary(self, target: str, token: str) -> None:
        """Post a note to a room that is kept for it."""
        kind = _kind_of(target) or self._config.kind
        if kind is None:
            raise PermanentFailure(
                "the canary's address does not tell its product: set kind in the configuration"
            )
        await self._post(kind, target, Message(CANARY_TITLE, f"{CANARY_NOTE}\n{token}", "ja"), token)

    def _message(self, entry: Entry, lang: str | None) -> Message:
        text = self._hub.text(entry, lang, ROOM)
        for name, part, limit in (("title", text.title, ROOM.title), ("text", text.body, ROOM.body)):
            if limit is not None and cost(part) > limit:
                raise PermanentFailure(f"the {name} is longer than {limit} UTF-16 units with escapes")
        base = self._hub.base_url
        link = f"{base}/alerts/{entry.alert.id}" if base.startswith("https://") else None
        return message(entry, text, link)

    def _kind(self, subscription: Subscription) -> Kind:
        given = subscription.options.get("kind")
        try:
            kind = Kind(given) if given is not None else _kind_of(subscription.target) or self._config.kind
        except ValueError:
            kind = None
        if kind is None:
            raise BadRequest(f"options.kind: must be one of {', '.join(Kind)}: the address does not tell")
        return kind

    async def _post(self, kind: Kind, target: str, said: Message, key: str) -> Outcome:
        url = URL(target, encoded=True)
        if kind is Kind.DISCORD:
            # Without it Discord answers before the message is saved, and says nothing where it is not.
            url = url.update_query(wait="true")
        body = msgspec.json.encode(payload(kind, said))
        request = f"POST application/json, {len(body)} bytes, Idempotency-Key {key}"
        try:
            return replace(await self._call(kind, url, body, key), request=request)
        except DeliveryError as error:
            error.request = request
            raise

    async def _call(self, kind: Kind, url: URL, body: bytes, key: str) -> Outcome:
        try:
            async with self._hub.http.post(
                url,
                data=body,
                headers={
                    "Content-Type": "application/json",
                    "Idempotency-Key": key,
                    "Accept-Encoding": "identity",
                },
                allow_redirects=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=self._config.timeout_s),
            ) as response:
                return judge(
                    kind, response.status, response.headers.get("Retry-After", ""), await _body(response)
                )
        except TimeoutError:
            raise TemporaryFailure(f"no answer within {self._config.timeout_s:g} s") from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise PermanentFailure("the target is not an address that can be called") from None
        except (aiohttp.ClientError, OSError) as error:
            raise TemporaryFailure(_cause(error)) from None


if TYPE_CHECKING:
    _: type[Channel] = Chat
    _previewing: type[Previewing] = Chat
    _canarying: type[Canarying] = Chat


def _kind_of(target: str) -> Kind | None:
    host = urlsplit(target).hostname or ""
    return next((kind for end, kind in HOSTS.items() if host == end or host.endswith(f".{end}")), None)


def _check_url(target: str, *, allow_http: bool) -> None:
    schemes = ("https", "http") if allow_http else ("https",)
    if len(target) > MAX_URL or not target.isascii() or not target.isprintable() or " " in target:
        raise BadRequest(
            f"target: must be a URL of at most {MAX_URL} printable ASCII characters without spaces"
        )
    try:
        url = urlsplit(target)
        port = url.port
        URL(target, encoded=True)
    except ValueError:
        raise BadRequest("target: is not a URL; copy the webhook's address as the product shows it") from None
    if url.scheme not in schemes:
        raise BadRequest(f"target: must begin with {' or '.join(f'{s}://' for s in schemes)}")
    if not url.hostname or port == 0:
        raise BadRequest("target: names no host; copy the webhook's address as the product shows it")
    if "@" in url.netloc or "#" in target:
        raise BadRequest("target: must hold no user name, password or fragment (#...)")


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Return the beginning of a body; the status has said the most, so that nobody waits for a long or slow one."""
    body = b""
    try:
        async with asyncio.timeout(DRAIN_S):
            while len(body) < MAX_ANSWER and (chunk := await response.content.read(MAX_ANSWER - len(body))):
                body += chunk
    except (TimeoutError, aiohttp.ClientError, OSError):
        response.close()
    if not response.content.at_eof():
        response.close()
    return body


def _cause(error: Exception) -> str:
    """Return why a call failed, without the address: whoever knows it can post."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return "TLS failed: the certificate or the protocol was not accepted"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or type(error.os_error).__name__}"
    return f"the connection failed: {type(error).__name__}"
