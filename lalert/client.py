"""The Python client of a hub: hand alerts in, look them up, and follow the streams without losing any, whatever the connection does."""

from __future__ import annotations

import asyncio
import io
import random
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import aiohttp
import orjson

from lalert.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    InvalidAlert,
    LalertError,
    NotFound,
    NotXml,
    Problem,
    ProblemSeverity,
    Refused,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedType,
)

SILENCE_SECONDS: Final = 45.0
"""Three heartbeats: after so long without a byte the connection counts as broken."""

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0

REMEMBERED: Final = 10_000
"""Events of alerts that are remembered to drop what comes twice."""

MAX_EVENT_BYTES: Final = 64 * 2**20
"""A snapshot of everything in force in the whole country has a few megabytes."""

REQUEST_SECONDS: Final = 30.0

QUEUED: Final = 64
"""Events of several endpoints that wait to be taken; beyond, the endpoints wait."""

Pairs = Iterable[tuple[str, str]]
"""Filters as the hub names them: `[("area", "432032"), ("min_severity", "Severe")]`."""


class EventKind(StrEnum):
    """What a stream tells: see `GET /v1/stream`."""

    ALERT = "alert"
    EXPIRED = "expired"
    SNAPSHOT = "snapshot"
    GAP = "gap"
    HEARTBEAT = "heartbeat"
    BYE = "bye"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `position` is where to resume after it; None where it says nothing about that (`gap`, `bye`)."""

    kind: EventKind
    position: str | None
    data: Mapping[str, Any]


class Client:
    """A hub at an address, with a key where one is needed; an async context manager.

    `sleep` and `rng` are for tests; `silence` is in seconds.
    """

    def __init__(
        self,
        hub_url: str,
        key: str | None = None,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        rng: random.Random | None = None,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self._url = hub_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._sleep = sleep
        self._rng = rng or random.Random()  # noqa: S311  # spreads reconnects, guards nothing
        self._silence = silence

    async def __aenter__(self) -> Self:
        # No redirects are followed anywhere: the key goes to the hub that was named and nowhere else.
        self._http = aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS), trust_env=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def submit(self, raw: bytes) -> dict[str, Any]:
        """Hand in a CAP document; returns `{position, sender, identifier, sent, url}` once the hub has it durably.

        Submitting the same bytes again is harmless, and is what to do after `Unavailable`. Raises `Refused` and its kinds (`InvalidAlert` with every
        problem), `Unavailable`.
        """
        headers = {"Content-Type": "application/cap+xml"}
        return await self._json(
            self._http.post(f"{self._url}/v1/alerts", data=raw, headers=headers, allow_redirects=False)
        )

    async def observe(self, readings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Hand in up to 1,000 readings as `POST /v1/readings` takes them; returns `{accepted, duplicate, rejected}` once they are durable.

        Handing in the same ones again is harmless, and is what to do after `Unavailable`. Raises `Refused`, `Unavailable`.
        """
        headers = {"Content-Type": "application/json"}
        return await self._json(
            self._http.post(
                f"{self._url}/v1/readings",
                data=orjson.dumps(list(readings)),
                headers=headers,
                allow_redirects=False,
            )
        )

    async def route(self, raw: bytes, query: Pairs = ()) -> dict[str, Any]:
        """Ask who would get a CAP document, which is not sent; the answer is that of `POST /v1/route`. `query` may hold `limit` and `as`.

        Raises `Refused` for a key or a query that does not hold, `Unavailable`; that the document would be refused is in the answer.
        """
        headers = {"Content-Type": "application/cap+xml"}
        address = f"{self._url}/v1/route"
        return await self._json(
            self._http.post(
                address, data=io.BytesIO(raw), params=list(query), headers=headers, allow_redirects=False
            )
        )

    async def get(self, position: str) -> dict[str, Any]:
        """Return the alert at a position as JSON; raises `NotFound`, `Unavailable`."""
        address = f"{self._url}/v1/alerts/{quote(position, safe='')}"
        headers = {"Accept": "application/json"}
        return await self._json(self._http.get(address, headers=headers, allow_redirects=False))

    async def alerts(self, filters: Pairs = ()) -> dict[str, Any]:
        """Return one page `{alerts, next}` of what matches; `active`, `after` and `limit` may be among the filters."""
        address = f"{self._url}/v1/alerts"
        headers = {"Accept": "application/json"}
        return await self._json(
            self._http.get(address, params=list(filters), headers=headers, allow_redirects=False)
        )

    async def confirm(self, position: str) -> None:
        """Tell the hub that this receiver has the alert at a position, whichever way it came; returns once that is kept. The key must be a receiver's.

        Raises `NotFound`, `Refused`, `Unavailable`.
        """
        await self._json(
            self._http.post(f"{self._url}/v1/acks", json={"position": position}, allow_redirects=False)
        )

    async def ticket(self) -> str:
        """Return a ticket for `?ticket=` of one stream within 300 s: for whom this key must not be handed to, such as a page. Raises `Refused`, `Unavailable`."""
        made = await self._json(self._http.post(f"{self._url}/v1/tickets", allow_redirects=False))
        return str(made["ticket"])

    async def stream(
        self, filters: Pairs = (), *, after: str | None = None, ws: bool = False, resume: bool = True
    ) -> AsyncGenerator[Event, None]:
        """Follow a stream, over SSE or WebSocket, from now on or from after a position.

        Each position is told once, in order; an `expired` with `ended` says of an alert told before that it has ended by itself. When the
        connection breaks, the stream goes on after the last position, with pauses of 1 to 30 s; without `resume` it then ends. A `gap` is followed by a `snapshot` of what is in force. Raises `Refused` for what
        another try would not change: a wrong filter, a key that does not hold or was revoked.
        """
        pairs = list(filters)
        seen = _Seen()
        tries = 0
        while True:
            start, end = after, None
            try:
                async with aclosing(self._connection(pairs, after, ws=ws)) as events:
                    async for event in events:
                        if event.kind in (EventKind.ALERT, EventKind.EXPIRED) and not seen.fresh(event):
                            continue
                        after = event.position or after
                        end = event if event.kind is EventKind.BYE else None
                        yield event
                        if end is not None:
                            break
                pause = 0.0
            except Unavailable as error:
                if not resume:
                    raise
                pause = error.retry_after
            if not resume:
                return
            tries = 0 if after != start else tries + 1
            # A hub that was asked by many at once has told many the same whole seconds.
            spread = self._rng.uniform(0, FIRST_PAUSE) if pause else 0.0
            await self._sleep(max(pause + spread, self._pause(end, tries)))

    def _pause(self, bye: Event | None, tries: int) -> float:
        """Return how long to wait before the next connection; raises what a farewell says for good."""
        if bye is not None:
            advice = bye.data.get("reconnect")
            detail = str(bye.data.get("detail", ""))
            reason = str(bye.data.get("reason", "bye"))
            if advice is None:
                raise (
                    Unauthenticated(detail, code=reason)
                    if reason == "key-revoked"
                    else Refused(detail, code=reason)
                )
            if tries == 0 and isinstance(advice, int | float):
                return advice
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(tries + 1, 10))
        return self._rng.uniform(longest / 2, longest)

    def _connection(
        self, pairs: list[tuple[str, str]], after: str | None, *, ws: bool
    ) -> AsyncGenerator[Event, None]:
        params = [*pairs, ("after", after)] if after is not None else pairs
        return self._websocket(params) if ws else self._sse(params)

    async def _sse(self, params: list[tuple[str, str]]) -> AsyncGenerator[Event, None]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS, sock_read=self._silence)
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        parser = SseParser()
        try:
            async with self._http.get(
                f"{self._url}/v1/stream",
                params=params,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    raise _refusal(
                        response.status, await _problem(response), response.headers.get("Retry-After")
                    )
                async for chunk in response.content.iter_any():
                    for message in parser.feed(chunk):
                        event = _event(message.event, message.data)
                        if event is not None:
                            yield event
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Unavailable(f"the stream broke off: {error!r}"[:200]) from error

    async def _websocket(self, params: list[tuple[str, str]]) -> AsyncGenerator[Event, None]:
        timeout = aiohttp.ClientWSTimeout(ws_receive=self._silence, ws_close=2.0)
        try:
            async with self._http.ws_connect(
                f"{self._url}/v1/ws", params=params, timeout=timeout, max_msg_size=MAX_EVENT_BYTES
            ) as socket:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        event = _event("", message.data)
                        if event is None:
                            continue
                        # Only a hub that gives its heartbeats an id takes an answer; it measures the line by it.
                        if event.kind is EventKind.HEARTBEAT and "id" in event.data:
                            # What it said last, a farewell perhaps, is still to be read when it hears nothing more.
                            with suppress(ConnectionError, aiohttp.ClientError):
                                await socket.send_json({"type": "pong", "id": event.data["id"]})
                        yield event
        except aiohttp.WSServerHandshakeError as error:
            retry = error.headers.get("Retry-After") if error.headers else None
            raise _refusal(error.status, {}, retry) from error
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Unavailable(f"the stream broke off: {error!r}"[:200]) from error

    async def _json(self, request: aiohttp.client._RequestContextManager) -> dict[str, Any]:
        try:
            async with request as response:
                if response.status == 204:
                    return {}
                if response.status not in (200, 201):
                    raise _refusal(
                        response.status, await _problem(response), response.headers.get("Retry-After")
                    )
                answer = orjson.loads(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Unavailable(f"the hub at {self._url} does not answer: {error!r}"[:300]) from error
        return dict(answer)


async def merged_stream(
    clients: Sequence[Client], filters: Pairs = (), *, after: str | None = None, ws: bool = False
) -> AsyncGenerator[Event, None]:
    """Follow several nodes of one hub at once: each event of an alert is told once, by whichever node is first, in order.

    It goes on as long as one of them does; farewells are not told. When one of them has a `gap`, the `snapshot` after it is where all go on
    from, so that what came later is told again. Raises what the last one raised once none is left.
    """
    merged = _Merged(clients, list(filters), ws=ws)
    try:
        for number in range(len(clients)):
            merged.follow(number, after)
        while True:
            event = await merged.next()
            if event is not None:
                yield event
    finally:
        await merged.close()


class _Merged:
    """Streams side by side. A run is one following of one client; events of a run that was ended are dropped."""

    def __init__(self, clients: Sequence[Client], filters: list[tuple[str, str]], *, ws: bool) -> None:
        self._clients = clients
        self._filters = filters
        self._ws = ws
        self._queue: asyncio.Queue[tuple[int, asyncio.Task[None] | None, Event | LalertError]] = (
            asyncio.Queue(QUEUED)
        )
        self._runs: dict[int, asyncio.Task[None]] = {}
        self._sent_on: set[int] = set()
        self._seen = _Seen()

    def follow(self, number: int, after: str | None) -> None:
        if number in self._runs:
            self._runs[number].cancel()
        self._runs[number] = asyncio.create_task(self._run(number, after), name=f"endpoint {number}")

    async def close(self) -> None:
        for run in self._runs.values():
            run.cancel()
        await asyncio.gather(*self._runs.values(), return_exceptions=True)

    async def next(self) -> Event | None:
        """Return the next event if it is news; raises the error of the last endpoint."""
        number, run, event = await self._queue.get()
        if run is not self._runs.get(number):
            return None
        if isinstance(event, LalertError):
            del self._runs[number]
            if not self._runs:
                raise event
            return None
        match event.kind:
            case EventKind.BYE:
                return None
            case EventKind.ALERT | EventKind.EXPIRED:
                return event if self._seen.fresh(event) else None
            case EventKind.SNAPSHOT:
                self._begin_again(number, event)
            case EventKind.HEARTBEAT:
                self._sent_on.discard(number)
        return event

    def _begin_again(self, number: int, snapshot: Event) -> None:
        # Who keeps what is in force by these events would else lose what another endpoint has told of since the snapshot was taken.
        if number in self._sent_on:
            return
        self._seen = _Seen()
        for other in set(self._runs) - {number}:
            self._sent_on.add(other)
            self.follow(other, snapshot.position)

    async def _run(self, number: int, after: str | None) -> None:
        run = asyncio.current_task()
        try:
            stream = self._clients[number].stream(self._filters, after=after, ws=self._ws)
            async with aclosing(stream) as events:
                async for event in events:
                    await self._queue.put((number, run, event))
        except LalertError as error:
            await self._queue.put((number, run, error))


@dataclass(slots=True)
class _Seen:
    """The last events of alerts, so that what comes twice after a reconnect is told once."""

    _known: set[str] = field(default_factory=set)
    _order: deque[str] = field(default_factory=deque)

    def fresh(self, event: Event) -> bool:
        # The end of an alert carries the position of whatever came last: the alert itself tells it from others.
        own = event.position if event.kind is EventKind.ALERT else event.data.get("id") or event.position
        if own is None:
            return True
        mark = f"{event.kind} {own}"
        if mark in self._known:
            return False
        self._known.add(mark)
        self._order.append(mark)
        if len(self._order) > REMEMBERED:
            self._known.discard(self._order.popleft())
        return True


@dataclass(frozen=True, slots=True)
class SseMessage:
    """One dispatched event of an SSE stream."""

    event: str
    data: str
    id: str


class SseParser:
    """Reads text/event-stream as the HTML standard says (9.2.6), from pieces cut anywhere."""

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._scanned = 0
        self._after_cr = False
        self._first = True
        self._event = ""
        self._data: list[str] = []
        self._size = 0
        self._id = ""

    def feed(self, data: bytes) -> list[SseMessage]:
        """Take bytes and return the events that they complete; raises `ValueError` for an event without an end in sight."""
        messages: list[SseMessage] = []
        self._buffer += data
        while (line := self._line()) is not None:
            if line:
                self._field(line)
            elif self._data:
                messages.append(SseMessage(self._event or "message", "\n".join(self._data), self._id))
            if not line:
                self._event, self._data, self._size = "", [], 0
        if len(self._buffer) + self._size > self._max_bytes:
            raise ValueError(f"an event of more than {self._max_bytes} bytes")
        return messages

    def _line(self) -> str | None:
        # A line ends with CR, LF or CRLF; an LF that only completes a CR is dropped when it comes.
        if self._after_cr and self._buffer:
            self._after_cr = False
            if self._buffer[0] == 0x0A:
                del self._buffer[0]
        ends = [
            at
            for at in (self._buffer.find(b"\n", self._scanned), self._buffer.find(b"\r", self._scanned))
            if at >= 0
        ]
        if not ends:
            self._scanned = len(self._buffer)
            return None
        end = min(ends)
        self._after_cr = self._buffer[end] == 0x0D
        line = self._buffer[:end].decode(errors="replace")
        del self._buffer[: end + 1]
        self._scanned = 0
        if self._first:
            self._first = False
            line = line.removeprefix("\ufeff")
        return line

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value


def _event(kind: str, data: str | bytes) -> Event | None:
    """Return a typed event; None for a kind that a newer hub may have added. Raises `ValueError` for what is no JSON object."""
    content = orjson.loads(data)
    if not isinstance(content, dict):
        raise ValueError("an event that is no JSON object")  # noqa: TRY004  # what was received is wrong, not a type in the program
    try:
        known = EventKind(kind or content.pop("type", ""))
    except ValueError:
        return None
    position = content.get("position") if known not in (EventKind.GAP, EventKind.BYE) else None
    return Event(known, str(position) if position is not None else None, content)


async def _problem(response: aiohttp.ClientResponse) -> Mapping[str, Any]:
    try:
        body = orjson.loads(await response.content.read(1_000_000))
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


_BY_STATUS: Final[Mapping[int, type[Refused]]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    415: UnsupportedType,
}


_SEVERITIES: Final = frozenset(severity.value for severity in ProblemSeverity)


def _refusal(status: int, problem: Mapping[str, Any], retry_after: str | None) -> LalertError:
    """Return what an answer other than success means here."""
    detail = str(problem.get("detail") or f"the hub answered {status}")
    code = str(problem["code"]) if "code" in problem else None
    if status == 422 and problem.get("problems"):
        return InvalidAlert([_finding(found) for found in problem["problems"]])
    if status == 400 and code == NotXml.code:
        unread = NotXml(detail)
        if problem.get("problems"):
            unread.problem = _finding(problem["problems"][0])
            unread.line = unread.problem.line
        return unread
    if status == 429:
        return TooManyRequests(detail, retry_after=_seconds(retry_after), code=code)
    if status >= 500:
        return Unavailable(detail, retry_after=_seconds(retry_after), code=code)
    return _BY_STATUS.get(status, Refused)(detail, code=code)


def _seconds(text: str | None) -> float:
    try:
        return min(300.0, max(0.0, float(text or FIRST_PAUSE)))
    except ValueError:
        return FIRST_PAUSE


def _finding(found: Mapping[str, Any]) -> Problem:
    severity = str(found.get("severity"))
    return Problem(
        rule=str(found.get("rule", "")),
        severity=ProblemSeverity(severity)
        if severity in ProblemSeverity.__members__.values()
        else ProblemSeverity.ERROR,
        path=str(found.get("path", "")),
        line=int(found.get("line", 0)),
        message=str(found.get("message", "")),
        message_ja=str(found.get("message_ja", "")),
        help=str(found.get("help", "")),
        help_ja=str(found.get("help_ja", "")),
        repair=str(found.get("repair", "")),
        repair_ja=str(found.get("repair_ja", "")),
    )
