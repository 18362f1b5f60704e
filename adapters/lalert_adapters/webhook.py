"""Webhooks: one signed HTTP POST per alert, as in Standard Webhooks 1.0.0 (docs/adapters/webhook.md)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec

from lalert.errors import BadRequest, ConfigError, DeliveryError, Gone, PermanentFailure, TemporaryFailure
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

MAX_URL: Final = 2_048
MAX_SECRETS: Final = 4
KEY_BYTES: Final = range(24, 65)
SECRET_BYTES: Final = 32
MAX_DRAIN: Final = 4_096
MAX_SAID: Final = 300
"""Bytes of a body that are kept for the history."""
DRAIN_S: Final = 1.0
MAX_RETRY_AFTER: Final = 86_400.0
FORMATS: Final = {"json": "application/json", "cap": "application/cap+xml"}
OPTIONS: Final = frozenset({"secret"})

PASSING: Final = frozenset({302, 303, 307, 404, 408, 421, 425, 429})
"""Answers below 500 after which another try is worth it.

A temporary redirect says that this address stays the right one (RFC 9110, 15.4.3, 15.4.8); a 404 says nothing about for how long (15.5.5), and is what
gateways answer while the application behind them restarts. An alert that was given up is worse than a request a minute until it expires.
"""


class WebhookConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[adapters.NAME] of type webhook."""

    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=20)] = 15.0
    """Seconds that one call may take, connecting included."""
    user_agent: Annotated[str, msgspec.Meta(pattern="^[!-~]([ -~]{0,198}[!-~])?$")] = "lalert-webhook/1"
    allow_http: bool = False
    """Take `http:` targets too: everybody on the way can then read the alert. The signature still shows a change."""
    canary_secret_file: str = ""
    """The signing secrets of the canary's recipient, as in a subscription's option `secret`."""


class Webhook:
    """Posts JSON or CAP to the subscription's target, signed with the secrets in its option `secret` (several, parted by spaces, while one is replaced)."""

    Config: ClassVar[type[WebhookConfig]] = WebhookConfig
    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(per_target=1, in_flight=64, timeout=20.0)

    def __init__(self, name: str, config: WebhookConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub
        self._canary_keys: list[bytes] = []

    async def __aenter__(self) -> Self:
        if self._config.canary_secret_file:
            self._canary_keys = await asyncio.to_thread(self._read_canary_secret)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nothing to release: the session is the hub's."""

    def check_subscription(self, subscription: Subscription) -> Subscription:
        """Return the subscription, with a new secret where none was given; raises `BadRequest` if the address, the format or an option does not hold."""
        _check_url(subscription.target, allow_http=self._config.allow_http)
        if subscription.format not in FORMATS:
            raise BadRequest(f"format: must be one of {', '.join(FORMATS)} for a webhook")
        unknown = sorted(set(subscription.options) - OPTIONS)
        if unknown:
            raise BadRequest(
                f"options.{unknown[0][:40]}: unknown for a webhook; known: {', '.join(sorted(OPTIONS))}"
            )
        if "secret" not in subscription.options:
            secret = "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
            return replace(subscription, options={**subscription.options, "secret": secret})
        _keys(subscription)
        return subscription

    async def deliver(self, delivery: Delivery) -> Outcome:
        """Post one alert; only a 2xx is a success, whatever its body says. Redirects are not followed."""
        subscription = delivery.subscription
        body = self._body(delivery.entry, subscription)
        headers = self._headers(delivery.key, body, _keys(subscription))
        headers["Content-Type"] = FORMATS[subscription.format]
        return await self._post(subscription.target, body, headers)

    def preview(self, entry: Entry, lang: str | None) -> Preview:
        """Return the body in JSON; in CAP it is the document itself."""
        body = self._around("alert", entry.stored, self._hub.body(entry, "json", lang)).decode()
        return Preview((Part("body", body),), self._hub.text(entry, lang).lang)

    async def canary(self, target: str, token: str) -> None:
        """Post an event of type `lalert.canary`, signed with the secrets of `canary_secret_file`."""
        if not self._canary_keys:
            raise PermanentFailure("canary_secret_file: names no secret to sign the canary with")
        data = {
            "token": token,
            "title": CANARY_TITLE,
            "note": CANARY_NOTE,
            "answer": f"{self._hub.base_url}/v1/canaries/{token}",
        }
        body = self._around("lalert.canary", self._hub.clock.now(), msgspec.json.encode(data))
        headers = self._headers(token, body, self._canary_keys)
        await self._post(target, body, headers)

    def _read_canary_secret(self) -> list[bytes]:
        file = self._config.canary_secret_file
        where = f"adapters.{self.name}.canary_secret_file"
        try:
            return _keys_of(Path(file).read_text(encoding="ascii"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([f"{where}: {file} cannot be read ({type(error).__name__})"]) from None
        except BadRequest as error:
            raise ConfigError([f"{where}: {error.detail}"]) from None

    async def _post(self, target: str, body: bytes, headers: dict[str, str]) -> Outcome:
        request = f"POST {headers['Content-Type']}, {len(body)} bytes, webhook-id {headers['webhook-id']}"
        try:
            return replace(await self._call(target, body, headers), request=request)
        except DeliveryError as error:
            error.request = request
            raise

    async def _call(self, target: str, body: bytes, headers: dict[str, str]) -> Outcome:
        try:
            async with self._hub.http.post(
                target,
                data=body,
                headers=headers,
                allow_redirects=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=self._config.timeout_s),
            ) as response:
                said = _said(response, await _drain(response))
                retry_after = response.headers.get("Retry-After")
                return _judge(response.status, retry_after, self._hub.clock.now(), said)
        except DeliveryError:
            raise
        except TimeoutError:
            raise TemporaryFailure(f"no answer within {self._config.timeout_s:g} s") from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise PermanentFailure("the target is not an address that can be called") from None
        except (aiohttp.ClientError, OSError) as error:
            raise TemporaryFailure(_cause(error)) from None

    def _body(self, entry: Entry, subscription: Subscription) -> bytes:
        body = self._hub.body(entry, subscription.format, subscription.lang)
        if subscription.format != "json":
            return body
        # `timestamp` is the event's, so that every attempt carries the same body.
        return self._around("alert", entry.stored, body)

    @staticmethod
    def _around(kind: str, when: datetime, data: bytes) -> bytes:
        """Return an event as Standard Webhooks wants it, put around bytes that all targets share."""
        time = when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return f'{{"type":"{kind}","timestamp":"{time}","data":'.encode() + data + b"}"

    def _headers(self, id: str, body: bytes, keys: list[bytes]) -> dict[str, str]:
        sent = str(int(self._hub.clock.now().timestamp()))
        signed = b".".join((id.encode(), sent.encode(), body))
        return {
            "Content-Type": FORMATS["json"],
            "User-Agent": self._config.user_agent,
            "Accept-Encoding": "identity",
            "webhook-id": id,
            "webhook-timestamp": sent,
            "webhook-signature": " ".join(f"v1,{_sign(key, signed)}" for key in keys),
        }


if TYPE_CHECKING:
    _: type[Channel] = Webhook
    _previewing: type[Previewing] = Webhook
    _canarying: type[Canarying] = Webhook


def _check_url(target: str, *, allow_http: bool) -> None:
    schemes = ("https", "http") if allow_http else ("https",)
    if len(target) > MAX_URL or not target.isascii() or not target.isprintable() or " " in target:
        raise BadRequest(
            f"target: must be a URL of at most {MAX_URL} printable ASCII characters without spaces"
        )
    try:
        url = urlsplit(target)
        port = url.port
    except ValueError:
        raise BadRequest(
            "target: is not a URL; write for instance https://receiver.example.jp/alerts"
        ) from None
    if url.scheme not in schemes:
        hint = "" if allow_http else " (an operator may allow http with allow_http = true)"
        raise BadRequest(f"target: must begin with {' or '.join(f'{s}://' for s in schemes)}{hint}")
    if not url.hostname or port == 0:
        raise BadRequest("target: names no host; write for instance https://receiver.example.jp/alerts")
    if "@" in url.netloc:
        raise BadRequest("target: must hold no user name or password; the signature says who calls")
    if "#" in target:
        raise BadRequest("target: must have no fragment (#...): it is never sent")


def _keys(subscription: Subscription) -> list[bytes]:
    return _keys_of(subscription.options.get("secret", ""))


def _keys_of(text: str) -> list[bytes]:
    given = text.split()
    if not 1 <= len(given) <= MAX_SECRETS:
        raise BadRequest(
            f"options.secret: 1 to {MAX_SECRETS} signing secrets are needed, parted by spaces, each whsec_ and then Base64"
        )
    return [_key(secret) for secret in given]


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith("whsec_") or len(key) not in KEY_BYTES:
        raise BadRequest(
            f"options.secret: each must be whsec_ and then Base64 of {KEY_BYTES.start} to {KEY_BYTES.stop - 1} random bytes (Standard Webhooks 1.0.0)"
        )
    return key


def _sign(key: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


async def _drain(response: aiohttp.ClientResponse) -> bytes:
    """Return the beginning of a short body, read so that the connection can be used again; one that is long or slow is closed: the status has said everything."""
    begun = b""
    try:
        async with asyncio.timeout(DRAIN_S):
            left = MAX_DRAIN
            while left > 0 and (chunk := await response.content.read(left)):
                left -= len(chunk)
                begun = begun or chunk[:MAX_SAID]
    except (TimeoutError, aiohttp.ClientError, OSError):
        left = 0
    if left <= 0:
        response.close()
    return begun


def _said(response: aiohttp.ClientResponse, begun: bytes) -> str:
    """Return an answer in a line: its status, what pause it asks for, and how its body begins."""
    pause = response.headers.get("Retry-After")
    parts = [f"HTTP {response.status}", f"Retry-After {pause[:40]}" if pause else ""]
    return ", ".join(filter(None, (*parts, " ".join(begun.decode(errors="replace").split()))))


def _judge(status: int, retry_after: str | None, now: datetime, said: str) -> Outcome:
    """Return or raise what an answer means (RFC 9110, 15; Standard Webhooks, "Delivery success and failure")."""
    if 200 <= status <= 299:
        return Outcome(f"HTTP {status}", response=said)
    failure: DeliveryError = PermanentFailure(f"HTTP {status}")
    if status == 410:
        failure = Gone("HTTP 410")
    elif status in PASSING or status >= 500:
        failure = TemporaryFailure(f"HTTP {status}", retry_after=_seconds(retry_after, now))
    failure.response = said
    raise failure


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    """Return Retry-After in seconds: a number or an HTTP date (RFC 9110, 10.2.3), None for anything else."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return min(float(text), MAX_RETRY_AFTER)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    wait = ((when if when.tzinfo else when.replace(tzinfo=UTC)) - now).total_seconds()
    return min(max(wait, 0.0), MAX_RETRY_AFTER)


def _cause(error: Exception) -> str:
    """Return why a call failed, without the address: it may carry a token."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return "TLS failed: the certificate or the protocol was not accepted"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or type(error.os_error).__name__}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer"
    return f"the connection failed: {type(error).__name__}"
