"""Who adds or blocks the account, as the platform's webhook tells it, and which area a friend chooses."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import msgspec
from aiohttp import web

from lalert.errors import BadRequest, Forbidden, TooLarge
from lalert.model import Filter, Subscription
from lalert.plugin import HubApi
from lalert_adapters.line.api import Api
from lalert_adapters.line.config import LineConfig, plain

MAX_BODY: Final = 262_144
BODY_S: Final = 5.0
LEAVING: Final = frozenset({"unfollow", "leave"})

WELCOME: Final = "災害情報をお届けします。止めるには、このアカウントをブロックしてください。\nAlerts will be sent here. Block this account to stop them."
CHOSEN: Final = "「{word}」の災害情報をお届けします。\nAlerts for {word} will be sent here."
CHOOSE: Final = (
    "地域を選ぶには、次のどれかを送ってください。\nSend one of these to choose your area:\n{words}"
)


class _Source(msgspec.Struct, frozen=True, rename="camel"):
    type: str = ""
    user_id: str = ""
    group_id: str = ""
    room_id: str = ""

    @property
    def target(self) -> str:
        return {"user": self.user_id, "group": self.group_id, "room": self.room_id}.get(self.type, "")


class _Message(msgspec.Struct, frozen=True):
    type: str = ""
    text: str = ""


class _Event(msgspec.Struct, frozen=True, rename="camel"):
    type: str = ""
    timestamp: int = 0
    mode: str = "active"
    source: _Source = _Source()
    message: _Message = _Message()
    reply_token: str = ""


class _Call(msgspec.Struct, frozen=True):
    events: tuple[_Event, ...] = ()


class Friends:
    """Keeps one subscription for each friend or group that the configuration wants one for, and drops all that go to who has left.

    Events may come twice and late: what was kept after an event happened is not dropped by it.
    """

    def __init__(self, name: str, config: LineConfig, hub: HubApi, api: Api) -> None:
        self._name = name
        self._config = config
        self._hub = hub
        self._api = api
        self._secret = b""
        self._one_by_one = asyncio.Lock()

    def open(self, secret: str) -> None:
        self._secret = secret.encode()

    async def post(self, request: web.Request) -> web.Response:
        """Take a call of the platform. Raises `Forbidden` without its signature, `BadRequest`, `TooLarge`, `Unavailable`."""
        body = await _body(request)
        self._check(body, request.headers.get("X-Line-Signature", ""))
        try:
            events = msgspec.json.decode(body, type=_Call).events
        except (msgspec.DecodeError, RecursionError):
            raise BadRequest("the body is not what LINE sends to a webhook") from None
        if events:  # the console's "verify" sends none
            replies = await self._heed_all(events)
            await asyncio.gather(*(self._api.reply(token, text) for token, text in replies if token and text))
        return web.Response()

    async def _heed_all(self, events: Sequence[_Event]) -> list[tuple[str, str]]:
        known = [event for event in events if event.source.target]
        async with self._one_by_one:
            replies = [(event.reply_token, await self._heed(event)) for event in known]
            left = {event.source.target: self._when(event) for event in known if event.type in LEAVING}
            if left:
                # Also those made with a key; one look at all of them for the whole call.
                for one in await self._hub.subscriptions():
                    if one.target in left and one.created <= left[one.target]:
                        await self._hub.drop_subscription(one.id)
        return replies

    def _check(self, body: bytes, given: str) -> None:
        right = base64.b64encode(hmac.digest(self._secret, body, hashlib.sha256))
        if not self._secret or not hmac.compare_digest(right, given.encode(errors="replace")):
            raise Forbidden("the signature is not that of this LINE channel")

    async def _heed(self, event: _Event) -> str:
        """Do what an event asks for and return what to answer; "" for nothing. An account that another system answers for is in `standby`."""
        own = await self._hub.subscription(self._id(event))
        if event.type in LEAVING:
            if own is not None and own.created <= self._when(event):
                await self._hub.drop_subscription(own.id)
            return ""
        if event.mode != "active":
            return ""
        if event.type == "follow" or (event.type == "join" and self._config.groups):
            return await self._welcome(event, own)
        if event.type == "message" and event.source.type == "user" and event.message.type == "text":
            return await self._choose(event, own)
        return ""

    async def _welcome(self, event: _Event, own: Subscription | None) -> str:
        said = []
        if self._config.areas:
            if own is None:
                await self._keep(event, own, frozenset(self._config.areas))
            said.append(WELCOME)
        if self._config.choices and event.source.type == "user":
            said.append(self._words())
        return "\n\n".join(said)

    async def _choose(self, event: _Event, own: Subscription | None) -> str:
        if not self._config.choices:
            return ""
        word = plain(event.message.text)
        code = self._config.choices.get(word)
        if code is None:
            return self._words()
        if own is not None and own.created > self._when(event):
            return ""
        await self._keep(event, own, frozenset({code}))
        return CHOSEN.format(word=word)

    async def _keep(self, event: _Event, own: Subscription | None, areas: frozenset[str]) -> None:
        filter = Filter(areas=areas, min_severity=self._config.min_severity)
        when = self._when(event)
        made = (
            replace(own, filter=filter, created=when)
            if own is not None
            else Subscription(
                self._id(event), self._name, event.source.target, filter, when, lang=self._config.lang
            )
        )
        await self._hub.save_subscription(made)

    def _words(self) -> str:
        return CHOOSE.format(words="、".join(self._config.choices))

    def _id(self, event: _Event) -> str:
        # Not the person's own id: it is personal, and a subscription's id stands in logs.
        named = f"{self._name}\0{event.source.target}".encode()
        return f"line-{hashlib.sha256(named).hexdigest()[:24]}"

    def _when(self, event: _Event) -> datetime:
        """Return when an event happened, never later than now."""
        now = self._hub.clock.now().timestamp()
        return datetime.fromtimestamp(min(max(event.timestamp / 1_000, 0.0), now), UTC)


async def _body(request: web.Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY:
                    raise TooLarge(f"a call of LINE's webhook is at most {MAX_BODY} bytes long")
    except TimeoutError:
        raise BadRequest(f"the body did not arrive within {BODY_S:g} s") from None
    return body
