"""The Messaging API over HTTP, and what each of its answers means."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar
from uuid import NAMESPACE_URL, uuid5

import aiohttp
import msgspec
import structlog

from lalert.errors import ConfigError, DeliveryError, PermanentFailure, TemporaryFailure
from lalert.model import Outcome
from lalert.plugin import HubApi
from lalert_adapters.line.config import LineConfig, read_secret

MAX_ANSWER: Final = 4_096
MAX_REASON: Final = 200
MAX_RETRY_AFTER: Final = 86_400.0
ASK_S: Final = 600.0
REPLY_S: Final = 1.0
"""The platform waits two seconds for its webhook to be answered, and the reply is sent before that."""
MONTHLY: Final = "monthly limit"
LASTING: Final = frozenset({400, 413, 415})
_REQUEST_ID = re.compile(r"[0-9A-Za-z-]{1,64}")

log = structlog.get_logger("lalert.line")

_T = TypeVar("_T")


class _Detail(msgspec.Struct, frozen=True):
    message: str = ""
    property: str = ""


class _Said(msgspec.Struct, frozen=True):
    message: str = ""
    details: tuple[_Detail, ...] = ()


class _Quota(msgspec.Struct, frozen=True):
    type: str
    value: int = 0


class _Consumption(msgspec.Struct, frozen=True, rename="camel"):
    total_usage: int


@dataclass(frozen=True, slots=True)
class Budget:
    """Messages sent this month, and how many the account may send; `limit` is None where there is no limit."""

    used: int
    limit: int | None

    @property
    def percent(self) -> int:
        return 0 if self.limit is None else 100 if self.limit == 0 else self.used * 100 // self.limit


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    request_id: str
    accepted_id: str
    retry_after: str

    @property
    def reason(self) -> str:
        """Return what the platform says is wrong, empty where that does not read."""
        try:
            said = msgspec.json.decode(self.body, type=_Said)
        except (msgspec.DecodeError, RecursionError):
            return ""
        parts = [said.message, *(f"{one.property}: {one.message}" for one in said.details)]
        return "".join(letter for letter in "; ".join(filter(None, parts)) if letter.isprintable())[
            :MAX_REASON
        ]

    def line(self, hidden: str) -> str:
        """Return the answer in a line, without what must not be shown."""
        pause = f", Retry-After {self.retry_after[:40]}" if self.retry_after else ""
        reason = self.reason.replace(hidden, "[…]") if hidden else self.reason
        return f"HTTP {self.status}{pause}: {reason}" if reason else f"HTTP {self.status}{pause}"


class Api:
    """One channel's calls. The token is never in an error; raises `TemporaryFailure` and `PermanentFailure`."""

    def __init__(self, name: str, config: LineConfig, hub: HubApi) -> None:
        self._name = name
        self._config = config
        self._hub = hub
        self._token = ""
        self.trouble = ""
        """Why nobody can be pushed to at all; empty when LINE listened the last time."""
        self.budget: Budget | None = None
        """The month's, as LINE said it last, and what was pushed since."""

    async def open(self) -> None:
        """Read the token; raises `ConfigError`."""
        self._token = await asyncio.to_thread(read_secret, self._name, "token_file", self._config.token_file)

    async def push(self, to: str, message: dict[str, Any], key: str) -> Outcome:
        """Send one message, whatever becomes of the answer only once within 24 hours of its first attempt."""
        retry_key = str(uuid5(NAMESPACE_URL, f"lalert:{key}"))
        body = msgspec.json.encode({"to": to, "messages": [message]})
        request = f"POST push, {len(body)} bytes, X-Line-Retry-Key {retry_key}"
        try:
            answer = await self._call("POST", "push", body, {"X-Line-Retry-Key": retry_key})
            return replace(await self._judge(answer, to), request=request)
        except DeliveryError as error:
            error.request = request
            raise

    async def _judge(self, answer: _Answer, to: str) -> Outcome:
        if answer.status == 200:
            self.trouble = ""
            if self.budget is not None:
                self.budget = replace(self.budget, used=self.budget.used + 1)
            return Outcome(f"HTTP 200 {answer.request_id}".rstrip(), response=answer.line(to))
        if answer.status == 409 and answer.accepted_id:
            self.trouble = ""
            return Outcome(f"accepted before as {answer.accepted_id}", response=answer.line(to))
        raise await self._failure(answer, to)

    async def reply(self, token: str, text: str) -> None:
        """Answer what somebody sent, which costs nothing. Nothing is raised: a lost answer loses no alert."""
        try:
            body = {"replyToken": token, "messages": [{"type": "text", "text": text}]}
            answer = await self._call("POST", "reply", msgspec.json.encode(body), timeout_s=REPLY_S)
            if answer.status != 200:
                log.info("LINE took no reply", adapter=self._name, status=answer.status)
        except DeliveryError as error:
            log.info("LINE took no reply", adapter=self._name, reason=error.detail)

    async def watch(self) -> None:
        """Ask for the budget now and then, until cancelled."""
        cause = ""
        while True:
            try:
                await self._ask()
                cause = ""
            except DeliveryError as error:
                if cause != error.detail:
                    cause = error.detail
                    log.warning(
                        "LINE does not say how many messages are left", adapter=self._name, reason=cause
                    )
            await self._hub.clock.sleep(ASK_S)

    async def _ask(self) -> None:
        quota = await self._read("quota", _Quota)
        used = await self._read("quota/consumption", _Consumption)
        self.trouble = ""
        before, limit = self.budget, quota.value if quota.type == "limited" else None
        self.budget = Budget(used.total_usage, limit)
        warn = self._config.warn_percent
        if self.budget.percent >= warn and (before is None or before.percent < warn):
            log.warning(
                "most LINE messages of this month are used", adapter=self._name, used=self.budget.percent
            )

    async def _read(self, path: str, kind: type[_T]) -> _T:
        answer = await self._call("GET", path)
        if answer.status != 200:
            raise await self._failure(answer, "")
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.DecodeError, RecursionError):
            raise TemporaryFailure(f"the answer to {path} does not read") from None

    async def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = 0.0,
    ) -> _Answer:
        seconds = timeout_s or self._config.timeout_s
        try:
            async with self._hub.http.request(
                method,
                f"{self._config.api}/v2/bot/message/{path}",
                data=body,
                headers={
                    "Authorization": f"Bearer {self._token}",
                    "Content-Type": "application/json",
                    **(headers or {}),
                },
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as response:
                said = response.headers
                return _Answer(
                    response.status,
                    await _beginning(response),
                    _id(said.get("X-Line-Request-Id")),
                    _id(said.get("X-Line-Accepted-Request-Id")),
                    said.get("Retry-After", ""),
                )
        except TimeoutError:
            self.trouble = f"LINE did not answer within {seconds:g} s"
        except (aiohttp.ClientError, OSError) as error:
            self.trouble = _cause(error)
        raise TemporaryFailure(self.trouble)

    async def _failure(self, answer: _Answer, to: str) -> DeliveryError:
        detail = said = answer.line(to)
        if answer.status in LASTING:
            self.trouble = ""  # whoever is told what is wrong with a message has been let in
            failure: DeliveryError = PermanentFailure(detail)
        else:
            if answer.status in (401, 403):
                await self._read_again()
                detail += "; check token_file and the account's plan: a new token is read at the next attempt"
            elif answer.status == 429 and MONTHLY in answer.reason:
                detail += " The account needs a larger plan, or a new month."
            self.trouble = detail
            failure = TemporaryFailure(detail, retry_after=_seconds(answer.retry_after))
        failure.response = said
        return failure

    async def _read_again(self) -> None:
        try:
            await self.open()
        except ConfigError as error:
            log.error("the token was refused, and its file does not read", reason=error.detail)


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    while len(body) < MAX_ANSWER and (chunk := await response.content.read(MAX_ANSWER - len(body))):
        body += chunk
    if not response.content.at_eof():
        response.close()
    return body


def _id(text: str | None) -> str:
    return text if text and _REQUEST_ID.fullmatch(text) else ""


def _seconds(text: str) -> float | None:
    word = text.strip()
    return min(float(word), MAX_RETRY_AFTER) if word.isascii() and word.isdigit() and len(word) <= 9 else None


def _cause(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to LINE: {error.os_error.strerror or type(error.os_error).__name__}"
    return f"the connection to LINE failed: {type(error).__name__}"
