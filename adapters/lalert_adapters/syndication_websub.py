"""The WebSub hub of the feeds (W3C Recommendation, 23 January 2018): verified subscriptions with a lease, and the whole feed pushed when it has changed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Annotated, Final, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import msgspec
import structlog
from aiohttp import web
from yarl import URL

from lalert.errors import (
    BadRequest,
    DeliveryError,
    Gone,
    LalertError,
    NotFound,
    PermanentFailure,
    TemporaryFailure,
    TooLarge,
    TooManyRequests,
    UnsupportedType,
)
from lalert.model import Delivery, Entry, Filter, Outcome, Subscription
from lalert.plugin import HubApi

PATH: Final = "/websub"
MIN_LEASE_S: Final = 3_600
MAX_LEASE_S: Final = 14 * 86_400
DEFAULT_LEASE_S: Final = 7 * 86_400
MAX_URL: Final = 2_048
MAX_SECRET: Final = 199
"""Bytes (WebSub, 5.1: less than 200)."""
MAX_FORM: Final = 16_384
FORM_S: Final = 10.0
CALL_S: Final = 10.0
CALLS: Final = 16
"""How many callbacks are asked at once; so many more as `WAITING` wait, and nobody else is taken."""
WAITING: Final = 256
MAX_KNOWN: Final = 20_000
AT_ONCE: Final = 200
"""Subscriptions that are looked at in one turn of the loop: about a millisecond."""
PASSING: Final = frozenset({302, 303, 307, 404, 408, 421, 425, 429})
"""Answers below 500 after which another try is worth it: they do not say that the address is wrong for good (RFC 9110, 15.4 and 15.5.5)."""
USER_AGENT: Final = "lalert-websub/1"

log = structlog.get_logger("lalert.websub")


class WebSubConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[adapters.feeds.websub]: how many subscriptions there may be, in all and for one callback host; `http:` callbacks only where they are allowed.

    `max_per_minute` bounds the requests of one address, and those for one callback host: each leads to one call at most.
    """

    enabled: bool = True
    allow_http: bool = False
    max_subscriptions: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 10_000
    max_per_host: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 500
    max_per_minute: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 60


@dataclass(frozen=True, slots=True)
class Document:
    """A feed as it is pushed."""

    body: bytes
    etag: str
    content_type: str


class Topics(Protocol):
    """What the hub asks of the feeds; a topic is the path of a feed's own address."""

    def filter(self, topic: str) -> Filter:
        """Return what changes a feed; raises `NotFound` or `BadRequest` where there is no such feed."""
        ...

    async def document(self, topic: str, entry: Entry) -> Document:
        """Return a feed as it is now that `entry` is in the log."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request that reads."""

    mode: str
    callback: str
    topic: str
    lease_s: int
    secret: str

    @property
    def host(self) -> str:
        return _host(self.callback)


class WebSub:
    """Takes subscriptions at `PATH` and pushes topics. Subscriptions are the hub's own durable ones, so that retry, circuits and history are the core's."""

    def __init__(self, name: str, config: WebSubConfig, hub: HubApi, topics: Topics) -> None:
        self._name = name
        self._config = config
        self._hub = hub
        self._topics = topics
        self._calls: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(CALLS)
        self._keeping = asyncio.Lock()
        self._askers = _Rate(hub, config.max_per_minute)
        self._hosts = _Rate(hub, config.max_per_minute)
        self._sent: OrderedDict[str, tuple[str, str]] = OrderedDict()
        """Of each subscription the last document that was taken, and under which key: what has not changed since is not sent again."""

    async def close(self) -> None:
        """Break off every call that is under way: who was not verified asks again."""
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    def links(self, topic: str) -> str:
        """Return the Link header of a feed (WebSub, 4)."""
        base = self._hub.base_url
        return f'<{base}{PATH}>; rel="hub", <{base}{topic}>; rel="self"'

    # Subscribing

    async def post(self, request: web.Request) -> web.Response:
        """Take a request to subscribe or unsubscribe; nothing of it holds before the callback has confirmed it.

        Raises `BadRequest`, `NotFound`, `UnsupportedType`, `TooLarge`, `TooManyRequests`.
        """
        self._askers.count(_network(request.remote))
        asked = self._read(await _form(request))
        if len(self._calls) >= WAITING + CALLS:
            raise TooManyRequests(
                "too many callbacks wait to be asked; try again in a minute", retry_after=60
            )
        self._hosts.count(asked.host)
        call = asyncio.create_task(self._settle(asked), name=f"{self._name}: verify intent")
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return web.Response(status=202)

    def _read(self, form: Mapping[str, str]) -> _Asked:
        mode = form.get("hub.mode", "")
        if mode not in {"subscribe", "unsubscribe"}:
            raise BadRequest(
                "hub.mode: must be subscribe or unsubscribe; this hub publishes only its own feeds"
            )
        callback, url = form.get("hub.callback", ""), form.get("hub.topic", "")
        check_callback(callback, "hub.callback", allow_http=self._config.allow_http)
        base = self._hub.base_url
        if not url.startswith(f"{base}/"):
            raise NotFound(
                f"hub.topic: must be the address of a feed of this hub, as its rel=self says: {base}/feeds/all.atom"
            )
        topic = url.removeprefix(base)
        self._topics.filter(topic)
        secret = form.get("hub.secret", "")
        if len(secret.encode()) > MAX_SECRET:
            raise BadRequest(f"hub.secret: must be at most {MAX_SECRET} bytes long")
        return _Asked(mode, callback, topic, _lease(form.get("hub.lease_seconds", "")), secret)

    async def _settle(self, asked: _Asked) -> None:
        try:
            async with self._room:
                await (self._subscribe(asked) if asked.mode == "subscribe" else self._unsubscribe(asked))
        except LalertError as error:
            log.warning("a subscription could not be settled", mode=asked.mode, cause=error.detail)
        except Exception:
            log.exception("a subscription could not be settled", mode=asked.mode)

    async def _subscribe(self, asked: _Asked) -> None:
        if reason := await self._full(asked):
            await self._deny(asked.callback, asked.topic, reason)
            return
        if not await self._verified(asked):
            return
        async with self._keeping:
            # Again, since a hundred others may have been verified meanwhile.
            if reason := await self._full(asked):
                await self._deny(asked.callback, asked.topic, reason)
                return
            now = self._hub.clock.now()
            options = {"topic": asked.topic, "until": (now + timedelta(seconds=asked.lease_s)).isoformat()}
            await self._hub.save_subscription(
                Subscription(
                    subscription_id(self._name, asked.callback, asked.topic),
                    self._name,
                    asked.callback,
                    self._topics.filter(asked.topic),
                    now,
                    options=options | ({"secret": asked.secret} if asked.secret else {}),
                )
            )

    async def _unsubscribe(self, asked: _Asked) -> None:
        id = subscription_id(self._name, asked.callback, asked.topic)
        # Who is not subscribed is not called: there is nothing to end.
        if await self._hub.subscription(id) is not None and await self._verified(asked):
            await self._hub.drop_subscription(id)
            self._sent.pop(id, None)

    async def _full(self, asked: _Asked) -> str:
        """Return why there is no room for one more subscription, "" where there is; drops those whose lease has run out."""
        now, id = self._hub.clock.now(), subscription_id(self._name, asked.callback, asked.topic)
        others = of_host = 0
        for number, each in enumerate(await self._hub.subscriptions()):
            if number % AT_ONCE == 0:
                # Anybody may ask, again and again, and alerts must not wait for who does.
                await asyncio.sleep(0)
            if _until(each) <= now:
                await self._hub.drop_subscription(each.id)
            elif each.id != id:
                others += 1
                of_host += _host(each.target) == asked.host
        if others >= self._config.max_subscriptions:
            return "this hub has as many subscriptions as it takes"
        return (
            "this host has as many subscriptions as it may have"
            if of_host >= self._config.max_per_host
            else ""
        )

    async def _verified(self, asked: _Asked) -> bool:
        """Ask the callback whether it wants this (WebSub, 5.3): it does if it answers 2xx with the challenge and nothing else."""
        challenge = secrets.token_urlsafe(32)
        words = {
            "hub.mode": asked.mode,
            "hub.topic": self._hub.base_url + asked.topic,
            "hub.challenge": challenge,
        }
        if asked.mode == "subscribe":
            words["hub.lease_seconds"] = str(asked.lease_s)
        return await self._call(asked.callback, words, len(challenge) + 1) == challenge.encode()

    async def _deny(self, callback: str, topic: str, reason: str) -> None:
        words = {"hub.mode": "denied", "hub.topic": self._hub.base_url + topic, "hub.reason": reason}
        await self._call(callback, words, 0)

    async def _call(self, callback: str, words: Mapping[str, str], read: int) -> bytes | None:
        """Return the beginning of what a callback answers, None where that is no 2xx. Redirects are not followed."""
        url = URL(f"{callback}{'&' if '?' in callback else '?'}{urlencode(words)}", encoded=True)
        try:
            async with self._hub.http.get(
                url,
                allow_redirects=False,
                auto_decompress=False,
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=CALL_S),
            ) as response:
                body = b""
                while len(body) < read and (chunk := await response.content.read(read - len(body))):
                    body += chunk
                response.close()
                return body if 200 <= response.status <= 299 else None
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            return None

    # Pushing

    def check_subscription(self, subscription: Subscription) -> Subscription:
        """Return a subscription that this hub has verified; raises `BadRequest` for any other: its callback has not been asked."""
        check_callback(subscription.target, "target", allow_http=self._config.allow_http)
        topic = subscription.options.get("topic", "")
        # Only this hub gives ids of this form: others are drawn by lot.
        if subscription.id != subscription_id(self._name, subscription.target, topic):
            raise BadRequest(
                f"channel: subscribe to a feed at {PATH}, so that the callback can confirm it (WebSub)"
            )
        return subscription

    async def deliver(self, delivery: Delivery) -> Outcome:
        """Push the feed as it is now. What was taken already is not sent again, so that alerts that waited together arrive as one document."""
        subscription = delivery.subscription
        topic = subscription.options["topic"]
        if _until(subscription) <= self._hub.clock.now():
            raise Gone("the lease has run out")
        if not self._config.enabled:
            raise PermanentFailure("WebSub is turned off in the configuration")
        try:
            document = await self._topics.document(topic, delivery.entry)
        except (NotFound, BadRequest):
            await self._deny(subscription.target, topic, "there is no such feed any more")
            raise Gone("there is no such feed any more") from None
        etag, key = self._sent.get(subscription.id, ("", ""))
        if etag == document.etag and key != delivery.key:
            return Outcome("unchanged since the last push")
        outcome = await self._push(delivery, topic, document)
        self._sent[subscription.id] = (document.etag, delivery.key)
        self._sent.move_to_end(subscription.id)
        if len(self._sent) > MAX_KNOWN:
            self._sent.popitem(last=False)
        return outcome

    async def _push(self, delivery: Delivery, topic: str, document: Document) -> Outcome:
        subscription = delivery.subscription
        headers = {
            "Content-Type": document.content_type,
            "Link": self.links(topic),
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
            "X-Lalert-Delivery": delivery.key,
        }
        if secret := subscription.options.get("secret"):
            digest = hmac.digest(secret.encode(), document.body, hashlib.sha256).hex()
            headers["X-Hub-Signature"] = f"sha256={digest}"
        try:
            async with self._hub.http.post(
                URL(subscription.target, encoded=True),
                data=document.body,
                headers=headers,
                allow_redirects=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=CALL_S),
            ) as response:
                response.close()
                return _judge(response.status, response.headers.get("Retry-After", ""))
        except DeliveryError:
            raise
        except TimeoutError:
            raise TemporaryFailure(f"no answer within {CALL_S:g} s") from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise PermanentFailure("the callback is not an address that can be called") from None
        except aiohttp.ClientConnectorError as error:
            raise TemporaryFailure(
                f"cannot connect: {error.os_error.strerror or 'no reason given'}"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise TemporaryFailure(f"the connection failed: {type(error).__name__}") from None


class _Rate:
    """Counts what somebody asks in a minute, for as many as `MAX_KNOWN`."""

    def __init__(self, hub: HubApi, limit: int) -> None:
        self._hub = hub
        self._limit = limit
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, who: str) -> None:
        """Count one more; raises `TooManyRequests`."""
        now = self._hub.clock.monotonic()
        since, count = self._counts.pop(who, (now, 0))
        if now - since >= 60:
            since, count = now, 0
        self._counts[who] = (since, count + 1)
        if len(self._counts) > MAX_KNOWN:
            self._counts.popitem(last=False)
        if count >= self._limit:
            raise TooManyRequests(
                f"at most {self._limit} requests a minute for one address and one callback host",
                retry_after=since + 60 - now,
            )


def subscription_id(name: str, callback: str, topic: str) -> str:
    """Return the id of a subscription: the same for the same callback and topic, so that a renewal replaces."""
    digest = hashlib.sha256(f"{name}\x00{callback}\x00{topic}".encode()).digest()
    return "websub-" + base64.b32encode(digest[:20]).decode().lower()


def check_callback(callback: str, field: str, *, allow_http: bool) -> None:
    """Raise `BadRequest` unless a callback may be called; where it leads is checked when the hub connects."""
    if (
        not 0 < len(callback) <= MAX_URL
        or not callback.isascii()
        or not callback.isprintable()
        or " " in callback
    ):
        raise BadRequest(f"{field}: must be a URL of at most {MAX_URL} printable ASCII characters")
    try:
        url = urlsplit(callback)
        port = url.port
        URL(callback, encoded=True)
    except ValueError:
        raise BadRequest(f"{field}: is not a URL") from None
    if url.scheme not in ({"https", "http"} if allow_http else {"https"}):
        raise BadRequest(
            f"{field}: must begin with https:// (an operator may allow http with websub.allow_http)"
        )
    if not url.hostname or port == 0 or "@" in url.netloc or "#" in callback:
        raise BadRequest(f"{field}: must name a host, and hold no user name, password or fragment")


async def _form(request: web.Request) -> dict[str, str]:
    if request.content_type != "application/x-www-form-urlencoded":
        raise UnsupportedType("a WebSub request is application/x-www-form-urlencoded")
    body = b""
    try:
        async with asyncio.timeout(FORM_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_FORM:
                    raise TooLarge(f"a WebSub request is at most {MAX_FORM} bytes long")
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=50)
    except TimeoutError:
        raise BadRequest(f"the body did not arrive within {FORM_S:g} s") from None
    except ValueError:
        raise BadRequest("the body is no form in UTF-8 of at most 50 fields") from None
    if len({name for name, _ in pairs}) < len(pairs):
        raise BadRequest("a field stands twice")
    return dict(pairs)


def _lease(text: str) -> int:
    if not text:
        return DEFAULT_LEASE_S
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadRequest("hub.lease_seconds: must be a whole number of seconds")
    return min(max(int(text), MIN_LEASE_S), MAX_LEASE_S)


def _until(subscription: Subscription) -> datetime:
    return datetime.fromisoformat(subscription.options["until"])


def _host(callback: str) -> str:
    return (urlsplit(callback).hostname or "").lower()


def _network(remote: str | None) -> str:
    """Return by what one who asks is counted: an IPv4 address, or a /64, of which anybody has 2**64 addresses."""
    try:
        address = ip_address(remote or "")
    except ValueError:
        return remote or ""
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address)


def _judge(status: int, retry_after: str) -> Outcome:
    if 200 <= status <= 299:
        return Outcome(f"HTTP {status}")
    if status == 410:
        raise Gone("HTTP 410")
    if status in PASSING or status >= 500:
        pause = (
            float(retry_after)
            if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 6
            else None
        )
        raise TemporaryFailure(f"HTTP {status}", retry_after=pause)
    raise PermanentFailure(f"HTTP {status}")
