"""The channel: how a note gets to a browser's push service, and what the answer means (RFC 8030)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Self

import aiohttp
import msgspec
from yarl import URL

from lalert.errors import BadRequest, DeliveryError, Gone, PermanentFailure, TemporaryFailure
from lalert.model import Delivery, Entry, Outcome, Subscription
from lalert.plugin import (
    Canarying,
    Channel,
    Endpoint,
    Health,
    Healthy,
    HubApi,
    Limits,
    PagePart,
    Part,
    Preview,
    Previewing,
    Route,
    Text,
)
from lalert_adapters.webpush.desk import Desk
from lalert_adapters.webpush.notes import (
    CANARY_HEADERS,
    MAX_BODY,
    MAX_TITLE,
    ROOM,
    UNIT,
    canary_note,
    headers,
    json_bytes,
    payload,
)
from lalert_adapters.webpush.seal import Vapid, check_keys, sealed
from lalert_adapters.webpush.services import SERVICES, audience, check_endpoint

MAX_RETRY_AFTER: Final = 86_400.0
OPTIONS: Final = frozenset({"auth", "p256dh"})
SHARED: Final = 32
"""How many alerts, in one language each, are kept ready for the next browser."""
MAX_TROUBLES: Final = 64

COMMON: Final = {
    "Content-Type": "application/octet-stream",
    "Content-Encoding": "aes128gcm",
    "User-Agent": "lalert-webpush/1",
    "Accept-Encoding": "identity",
}

PASSING: Final = frozenset({302, 303, 307, 401, 403, 408, 421, 425, 429})
"""Answers below 500 after which another try is worth it. 401 and 403 mean that the signature was not accepted, which a hub's clock that is set right mends."""


class WebPushConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[adapters.NAME] of type webpush."""

    contact: Annotated[
        str,
        msgspec.Meta(pattern=r"^(mailto:[^@\s<>]+@[\w-]+(\.[\w-]+)+|https://[\w-]+(\.[\w-]+)+(/[!-~]*)?)$"),
    ]
    """Whom a push service asks when something goes wrong: `mailto:` or `https://` (RFC 8292, 2.1)."""
    services: tuple[Annotated[str, msgspec.Meta(pattern=r"^(\*|(\*\.)?[a-z0-9:.-]{1,253})$")], ...] = SERVICES
    """Hosts of push services that are called, `*.` before one for all below it; `*` calls whatever a visitor names."""
    max_subscriptions: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    max_per_minute: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 300
    """Requests from one address; behind a proxy everybody has the same."""
    allow_http: bool = False
    """Take `http:` addresses too: for a push service on the same machine."""
    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=20)] = 15.0


class WebPush:
    """Pushes one encrypted note per alert to the subscription's target, a push service's address of one browser."""

    Config: ClassVar[type[WebPushConfig]] = WebPushConfig
    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(per_target=1, in_flight=64, timeout=20.0)

    def __init__(self, name: str, config: WebPushConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub
        self._vapid = Vapid(hub, config.contact)
        self._desk = Desk(
            name,
            hub,
            self._vapid,
            max_subscriptions=config.max_subscriptions,
            max_per_minute=config.max_per_minute,
        )
        self._texts: OrderedDict[tuple[str, str | None], Text] = OrderedDict()
        self._troubles: OrderedDict[str, str] = OrderedDict()

    async def __aenter__(self) -> Self:
        await self._vapid.prepare()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nothing to release: the session is the hub's."""

    def routes(self) -> Sequence[Route]:
        return self._desk.routes()

    @property
    def place_script(self) -> str:
        return self._desk.script

    def check_subscription(self, subscription: Subscription) -> Subscription:
        """Return the subscription as it is; raises `BadRequest` if the address, a key of the browser or the format does not hold."""
        check_endpoint(subscription.target, self._config.services, allow_http=self._config.allow_http)
        if subscription.format != "json":
            raise BadRequest("format: leave it out for Web Push: a note is always the same")
        if unknown := sorted(set(subscription.options) - OPTIONS):
            raise BadRequest(f"options.{unknown[0][:40]}: unknown for Web Push; known: auth, p256dh")
        check_keys(subscription.options.get("p256dh", ""), subscription.options.get("auth", ""))
        return subscription

    async def deliver(self, delivery: Delivery) -> Outcome:
        """Hand one note to the push service, which keeps it until the alert expires; that the browser showed it is not known."""
        entry, subscription, now = delivery.entry, delivery.subscription, self._hub.clock.now()
        note = payload(delivery, self._text(entry, subscription.lang))
        return await self._push(subscription, note, headers(entry, now))

    async def canary(self, target: str, token: str) -> None:
        """Push a note to a browser that has subscribed; its service worker answers it once it is shown."""
        found = (each for each in await self._hub.subscriptions() if each.target == target)
        subscription = next(found, None)
        if subscription is None:
            raise PermanentFailure("no browser with this address is subscribed; press the button there")
        await self._push(subscription, canary_note(token), CANARY_HEADERS)

    def health(self) -> Health:
        """Return which push services could not be reached, or did not take what was sent, the last time."""
        troubles = [f"{URL(service).host}: {detail}" for service, detail in self._troubles.items()]
        return Health(not troubles, "; ".join(troubles[:3]))

    def preview(self, entry: Entry, lang: str | None) -> Preview:
        """Return title and body of the note."""
        text = self._hub.text(entry, lang, ROOM)
        parts = (
            Part("title", text.title, json_bytes(text.title), MAX_TITLE, UNIT),
            Part("body", text.body, json_bytes(text.body), MAX_BODY, UNIT),
        )
        return Preview(parts, text.lang)

    async def _push(self, subscription: Subscription, note: bytes, own: Mapping[str, str]) -> Outcome:
        service = audience(subscription.target)
        try:
            outcome = await self._post(subscription, note, own, service)
        except TemporaryFailure as error:
            self._troubles[service] = error.detail
            if len(self._troubles) > MAX_TROUBLES:
                self._troubles.popitem(last=False)
            raise
        self._troubles.pop(service, None)
        return outcome

    def _text(self, entry: Entry, lang: str | None) -> Text:
        key = (entry.position, lang)
        if (kept := self._texts.get(key)) is None:
            kept = self._texts[key] = self._hub.text(entry, lang, ROOM)
            if len(self._texts) > SHARED:
                self._texts.popitem(last=False)
        return kept

    async def _post(
        self, subscription: Subscription, note: bytes, own: Mapping[str, str], service: str
    ) -> Outcome:
        keys, timeout_s = subscription.options, self._config.timeout_s
        # A millisecond for each: with thousands of browsers the loop would stand still.
        body = await asyncio.to_thread(sealed, note, keys["p256dh"], keys["auth"])
        signed = await self._vapid.header(service, self._hub.clock.now())
        try:
            async with self._hub.http.post(
                URL(subscription.target, encoded=True),
                data=body,
                headers={**COMMON, "Authorization": signed, **own},
                allow_redirects=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                response.close()
                return self._judge(response.status, response.headers.get("Retry-After", ""), service)
        except DeliveryError:
            raise
        except TimeoutError:
            raise TemporaryFailure(f"no answer within {timeout_s:g} s") from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise PermanentFailure("the target is not an address that can be called") from None
        except aiohttp.ClientConnectorError as error:
            raise TemporaryFailure(
                f"cannot connect: {error.os_error.strerror or 'no reason given'}"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise TemporaryFailure(f"the connection failed: {type(error).__name__}") from None

    def _judge(self, status: int, retry_after: str, service: str) -> Outcome:
        """Return or raise what an answer means (RFC 8030, 5 and 7.3)."""
        if 200 <= status <= 299:
            return Outcome(f"HTTP {status}")
        if status in {404, 410}:
            raise Gone(f"HTTP {status}: the browser has ended this subscription")
        if status in {401, 403}:
            self._vapid.forget(service)
        if status in PASSING or status >= 500:
            raise TemporaryFailure(f"HTTP {status}", retry_after=_seconds(retry_after, self._hub.clock.now()))
        raise PermanentFailure(f"HTTP {status}")


if TYPE_CHECKING:
    _: type[Channel] = WebPush
    _endpoint: type[Endpoint] = WebPush
    _canarying: type[Canarying] = WebPush
    _healthy: type[Healthy] = WebPush
    _part: type[PagePart] = WebPush
    _previewing: type[Previewing] = WebPush


def _seconds(retry_after: str, now: datetime) -> float | None:
    """Return Retry-After in seconds: a number or an HTTP date (RFC 9110, 10.2.3), None for anything else."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return min(float(text), MAX_RETRY_AFTER)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    wait = ((when if when.tzinfo else when.replace(tzinfo=UTC)) - now).total_seconds()
    return min(max(wait, 0.0), MAX_RETRY_AFTER)
