"""The Python client against a hub that a test scripts: what it keeps to, whatever the other side does."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from lalert.client import Client, Event, EventKind, SseMessage, SseParser, merged_stream
from lalert.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    InvalidAlert,
    LalertError,
    NotFound,
    NotXml,
    ProblemSeverity,
    Refused,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedType,
)

Part = dict[str, Any] | Callable[[], Awaitable[object]]
"""What a scripted connection does next: send an event, or something else."""


def alert(number: int, kind: str = "alert") -> dict[str, Any]:
    return {"type": kind, "position": f"e-{number}", "headline": f"{number}番"}


def bye(code: int, reason: str, reconnect: float | None) -> dict[str, Any]:
    return {
        "type": "bye",
        "code": code,
        "reason": reason,
        "position": "e-1",
        "detail": "because",
        "reconnect": reconnect,
    }


@dataclass
class Script:
    """A hub that plays one connection of the script after the other, and then stays silent."""

    connections: list[Sequence[Part]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    url: str = ""
    answer: Callable[[web.Request], Awaitable[web.Response]] | None = None

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    async def sse(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        if self.answer is not None:
            return await self.answer(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"retry: 1000\n\n: a comment\n\n")

        async def send(event: dict[str, Any]) -> None:
            data = json.dumps(
                {name: value for name, value in event.items() if name != "type"}, ensure_ascii=False
            )
            await response.write(
                f"id: {event.get('position')}\nevent: {event['type']}\ndata: {data}\n\n".encode()
            )

        await self._play(send)
        return response

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        if self.answer is not None:
            return await self.answer(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await self._play(socket.send_json)
        await socket.close()
        return socket

    def _note(self, request: web.Request) -> None:
        self.asked.append(dict(request.query))
        self.headers.append(dict(request.headers))

    async def _play(self, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        number = len(self.asked) - 1
        for part in self.connections[number] if number < len(self.connections) else [asyncio.Event().wait]:
            await (send(part) if isinstance(part, dict) else part())


@asynccontextmanager
async def hub(*connections: Sequence[Part], **routes: Any) -> AsyncIterator[Script]:
    script = Script(list(connections))
    app = web.Application()
    app.add_routes([web.get("/v1/stream", script.sse), web.get("/v1/ws", script.websocket)])
    for name, handler in routes.items():
        app.router.add_route(
            "POST" if name == "submit" else "GET",
            {"submit": "/v1/alerts"}.get(name, "/v1/alerts/{position}"),
            handler,
        )
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        script.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield script
    finally:
        await runner.cleanup()


async def take(
    script: Script, count: int, *, ws: bool = False, key: str | None = None, **options: Any
) -> list[Event]:
    events: list[Event] = []
    client = Client(
        script.url, key, sleep=script.sleep, rng=random.Random(1), silence=options.pop("silence", 5.0)
    )
    async with client, asyncio.timeout(5), aclosing(client.stream(ws=ws, **options)) as stream:
        async for event in stream:
            events.append(event)
            if len(events) == count:
                break
    return events


WIRES = pytest.mark.parametrize("ws", [False, True], ids=["sse", "websocket"])


@WIRES
async def test_events_come_typed_with_the_position_to_resume_from(ws: bool) -> None:
    gap = {
        "type": "gap",
        "reason": "unknown",
        "requested": "x-1",
        "position": "e-3",
        "detail": "no such epoch",
    }
    told = [
        alert(1),
        alert(2, "expired"),
        alert(3, "heartbeat"),
        gap,
        alert(4, "snapshot"),
        bye(1001, "going-away", 0),
    ]
    async with hub(told) as script:
        events = await take(script, 6, ws=ws)
    assert [(event.kind, event.position) for event in events] == [
        (EventKind.ALERT, "e-1"),
        (EventKind.EXPIRED, "e-2"),
        (EventKind.HEARTBEAT, "e-3"),
        (EventKind.GAP, None),
        (EventKind.SNAPSHOT, "e-4"),
        (EventKind.BYE, None),
    ]
    assert events[0].data == {"position": "e-1", "headline": "1番"}


@WIRES
async def test_filters_place_and_key_are_sent_as_the_hub_names_them(ws: bool) -> None:
    async with hub([alert(8)]) as script:
        await take(
            script, 1, ws=ws, key="secret", filters=[("area", "432032"), ("status", "all")], after="e-7"
        )
    assert script.asked == [{"area": "432032", "status": "all", "after": "e-7"}]
    assert script.headers[0]["Authorization"] == "Bearer secret"


@WIRES
async def test_a_broken_connection_is_resumed_after_the_last_position(ws: bool) -> None:
    async with hub([alert(1), alert(2)], [alert(3, "heartbeat")], [alert(4)]) as script:
        events = await take(script, 4, ws=ws)
    assert [event.position for event in events] == ["e-1", "e-2", "e-3", "e-4"]
    assert [asked.get("after") for asked in script.asked] == [None, "e-2", "e-3"]


@WIRES
async def test_what_comes_twice_after_a_resume_is_told_once(ws: bool) -> None:
    async with hub([alert(1), alert(2)], [alert(1), alert(2), alert(3)]) as script:
        events = await take(script, 3, ws=ws)
    assert [event.position for event in events] == ["e-1", "e-2", "e-3"]


async def test_a_gap_before_its_snapshot_came_does_not_move_the_place() -> None:
    gap = {"type": "gap", "reason": "unknown", "requested": "e-1", "position": "e-9", "detail": ""}
    async with hub([gap], [gap, alert(9, "snapshot")], [alert(10)]) as script:
        await take(script, 4, after="x-1")
    assert [asked["after"] for asked in script.asked] == ["x-1", "x-1", "e-9"]


async def test_pauses_grow_to_thirty_seconds_and_are_short_again_after_news() -> None:
    async with hub(*[[] for _ in range(8)], [alert(1)], [alert(2)]) as script:
        await take(script, 2)
    assert all(1 <= pause <= 30 for pause in script.pauses)
    first, second, *_, seventh, eighth, after_news = script.pauses
    assert 2 <= first <= 4 <= second <= 8
    assert min(seventh, eighth) >= 15
    assert 1 < after_news < 2
    assert len({pause % 1 for pause in script.pauses}) > 3, "spread, so that many clients are no storm"


async def test_a_hub_that_is_not_there_is_tried_again_until_it_is() -> None:
    async with hub([alert(1)]) as script:
        url, script.url = script.url, "http://127.0.0.1:1"
        client = Client(script.url, sleep=script.sleep)

        async def there_now(seconds: float) -> None:
            await script.sleep(seconds)
            client._url = url

        client._sleep = there_now
        async with client, asyncio.timeout(5), aclosing(client.stream()) as stream:
            assert (await anext(stream)).position == "e-1"
    assert len(script.pauses) == 1


@WIRES
async def test_a_farewell_says_when_to_come_back(ws: bool) -> None:
    async with hub([alert(1), bye(1001, "going-away", 2.5)], [alert(2)]) as script:
        await take(script, 3, ws=ws)
    assert script.pauses == [2.5]


async def test_farewells_without_any_news_between_them_are_not_a_hot_loop() -> None:
    async with hub(*[[bye(4001, "too-slow", 0)] for _ in range(4)], [alert(1)]) as script:
        await take(script, 5)
    assert all(pause >= 1 for pause in script.pauses)


@WIRES
@pytest.mark.parametrize(
    ("code", "reason", "error"), [(4101, "key-revoked", Unauthenticated), (4102, "bad-message", Refused)]
)
async def test_a_farewell_for_good_is_raised_instead_of_tried_again(
    ws: bool, code: int, reason: str, error: type[LalertError]
) -> None:
    async with hub([bye(code, reason, None)]) as script:
        with pytest.raises(error, match="because") as raised:
            await take(script, 99, ws=ws)
    assert raised.value.error_code == reason
    assert len(script.asked) == 1


async def test_without_resume_the_stream_ends_with_the_connection() -> None:
    async with hub([alert(1)]) as script:
        assert len(await take(script, 99, resume=False)) == 1
    assert script.pauses == []


@WIRES
async def test_silence_longer_than_three_heartbeats_counts_as_a_broken_connection(ws: bool) -> None:
    async with hub([alert(1), asyncio.Event().wait], [alert(2)]) as script:
        events = await take(script, 2, ws=ws, silence=0.2)
    assert [event.position for event in events] == ["e-1", "e-2"]


@WIRES
@pytest.mark.parametrize(
    ("status", "error"), [(400, BadRequest), (401, Unauthenticated), (403, Forbidden), (404, NotFound)]
)
async def test_what_another_try_would_not_change_is_raised_at_once(
    ws: bool, status: int, error: type[LalertError]
) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"detail": "area: '99' is no code", "code": "no-code"}, status=status)

    async with hub() as script:
        script.answer = refuse
        with pytest.raises(error, match="is no code" if not ws else "answered"):
            await take(script, 1, ws=ws)
    assert len(script.asked) == 1


@WIRES
@pytest.mark.parametrize("status", [429, 503])
async def test_a_hub_that_is_full_is_asked_again_when_it_says(ws: bool, status: int) -> None:
    async def full(request: web.Request) -> web.Response:
        script.answer = None
        return web.json_response({"detail": "full"}, status=status, headers={"Retry-After": "7"})

    async with hub([], [alert(1)]) as script:
        script.answer = full
        await take(script, 1, ws=ws)
    [pause] = script.pauses
    assert 7.0 < pause <= 8.0, "not before, and not all at once"


async def test_no_redirect_is_followed_because_the_key_goes_to_the_named_hub_alone() -> None:
    async def elsewhere(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"{script.url}/v1/stream?stolen"})

    async with hub() as script:
        script.answer = elsewhere
        with pytest.raises(Refused, match="307"):
            await take(script, 1, key="secret")
    assert len(script.asked) == 1


@WIRES
async def test_a_kind_of_event_that_is_not_known_yet_is_passed_over(ws: bool) -> None:
    async with hub([alert(1, "weather-on-mars"), alert(2)]) as script:
        assert [event.position for event in await take(script, 1, ws=ws)] == ["e-2"]


async def test_a_stream_of_garbage_is_left_and_tried_again() -> None:
    async def garbage(request: web.Request) -> web.Response:
        script.answer = None
        return web.Response(text="event: alert\ndata: [1, 2\n\n", content_type="text/event-stream")

    async with hub([], [alert(1)]) as script:
        script.answer = garbage
        assert [event.position for event in await take(script, 1)] == ["e-1"]


async def test_an_alert_is_submitted_and_answered_with_its_position() -> None:
    async def accept(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer secret"
        assert request.content_type == "application/cap+xml"
        return web.json_response({"position": "e-1", "bytes": (await request.read()).decode()}, status=201)

    async with hub(submit=accept) as script, Client(script.url + "/", "secret") as client:
        assert await client.submit(b"<alert/>") == {"position": "e-1", "bytes": "<alert/>"}


ANSWERS: list[tuple[int, str, type[LalertError]]] = [
    (400, "not-xml", NotXml),
    (400, "bad-request", BadRequest),
    (401, "unauthenticated", Unauthenticated),
    (403, "forbidden", Forbidden),
    (409, "conflict", Conflict),
    (413, "too-large", TooLarge),
    (415, "unsupported-type", UnsupportedType),
    (418, "teapot", Refused),
    (429, "too-many-requests", TooManyRequests),
    (500, "error", Unavailable),
    (503, "unavailable", Unavailable),
]


@pytest.mark.parametrize(("status", "code", "error"), ANSWERS)
async def test_a_refusal_becomes_the_error_that_the_hub_meant(
    status: int, code: str, error: type[LalertError]
) -> None:
    async def refuse(request: web.Request) -> web.Response:
        headers = {"Retry-After": "12"} if status in (429, 503) else {}
        return web.json_response({"detail": "so it is", "code": code}, status=status, headers=headers)

    async with hub(submit=refuse) as script, Client(script.url) as client:
        with pytest.raises(error, match="so it is") as raised:
            await client.submit(b"<alert/>")
    assert type(raised.value) is error
    assert raised.value.error_code == code
    if isinstance(raised.value, Unavailable) and status != 500:
        assert raised.value.retry_after == 12


async def test_what_is_no_xml_is_raised_with_its_rule_and_line() -> None:
    found = {
        "rule": "CAP-XML-FORM",
        "severity": "error",
        "path": "/",
        "line": 7,
        "message": "not well-formed",
    }

    async def refuse(request: web.Request) -> web.Response:
        answer = {"detail": "line 7: not well-formed", "code": "not-xml", "line": 7, "problems": [found]}
        return web.json_response(answer, status=400)

    async with hub(submit=refuse) as script, Client(script.url) as client:
        with pytest.raises(NotXml, match="line 7") as raised:
            await client.submit(b"<alert")
    assert raised.value.problem is not None
    assert (raised.value.problem.rule, raised.value.line) == ("CAP-XML-FORM", 7)


async def test_an_invalid_alert_is_raised_with_every_problem() -> None:
    problems = [
        {
            "rule": "CAP-1",
            "severity": "error",
            "path": "/alert/sent[1]",
            "line": 4,
            "message": "no time zone",
            "message_ja": "時差がない",
        },
        {"rule": "CAP-2", "severity": "advice", "path": "/alert", "line": 1, "message": "no note"},
    ]

    async def refuse(request: web.Request) -> web.Response:
        return web.json_response(
            {"detail": "invalid", "code": "invalid-alert", "problems": problems}, status=422
        )

    async with hub(submit=refuse) as script, Client(script.url) as client:
        with pytest.raises(InvalidAlert, match="no time zone") as raised:
            await client.submit(b"<alert/>")
    assert [(p.rule, p.severity, p.line) for p in raised.value.problems] == [
        ("CAP-1", ProblemSeverity.ERROR, 4),
        ("CAP-2", ProblemSeverity.ADVICE, 1),
    ]


async def test_an_alert_is_looked_up_by_its_position() -> None:
    async def look_up(request: web.Request) -> web.Response:
        return web.json_response(
            {"position": request.match_info["position"], "accept": request.headers["Accept"]}
        )

    async with hub(get=look_up) as script, Client(script.url) as client:
        assert await client.get("e-7?x=/") == {"position": "e-7?x=/", "accept": "application/json"}


async def test_a_hub_that_does_not_answer_is_unavailable_and_the_key_is_not_in_the_message() -> None:
    async with Client("http://127.0.0.1:1", "secret") as client:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1") as raised:
            await client.submit(b"<alert/>")
    assert "secret" not in str(raised.value)


async def merged(
    *scripts: Script, count: int, at_each: Callable[[], object] = lambda: None, **options: Any
) -> list[Event]:
    """Return the first events that several hubs tell together."""
    events: list[Event] = []
    async with AsyncExitStack() as stack, asyncio.timeout(5):
        clients = [
            await stack.enter_async_context(Client(script.url, sleep=script.sleep, rng=random.Random(1)))
            for script in scripts
        ]
        async with aclosing(merged_stream(clients, **options)) as stream:
            async for event in stream:
                events.append(event)
                at_each()
                if len(events) == count:
                    break
    return events


@WIRES
async def test_of_two_endpoints_whichever_is_first_tells_an_alert_and_the_other_does_not_repeat_it(
    ws: bool,
) -> None:
    told: list[int] = []
    behind = asyncio.Event()

    def let_the_other_follow() -> None:
        told.append(1)
        if len(told) == 3:
            behind.set()

    ahead: list[Part] = [alert(1), alert(2), alert(3), asyncio.Event().wait]
    async with hub(ahead) as a, hub([alert(1), behind.wait, alert(2), alert(3), alert(4)]) as b:
        events = await merged(a, b, count=4, at_each=let_the_other_follow, ws=ws, after="e-0")
    assert [event.position for event in events] == ["e-1", "e-2", "e-3", "e-4"]
    assert a.asked == [{"after": "e-0"}]


async def test_two_endpoints_go_on_as_long_as_one_of_them_does() -> None:
    later = asyncio.Event()

    async def refuse(request: web.Request) -> web.Response:
        later.set()
        return web.json_response({"detail": "not with this key"}, status=403)

    async with hub() as a, hub([later.wait, bye(1001, "going-away", 0), alert(1)], [alert(2)]) as b:
        a.answer = refuse
        events = await merged(a, b, count=1)
        assert [event.position for event in events] == ["e-2"], "a farewell of one of them is no news"
        b.answer = refuse
        with pytest.raises(Forbidden, match="not with this key"):
            await merged(a, b, count=1)


async def test_after_a_gap_of_one_endpoint_all_go_on_from_its_snapshot() -> None:
    gap = {"type": "gap", "reason": "unknown", "requested": "e-1", "position": "e-5", "detail": ""}
    told = asyncio.Event()
    # The snapshot was taken before alert 6, which the other endpoint has told of by the time it arrives.
    lagging: list[Part] = [told.wait, gap, alert(5, "snapshot"), asyncio.Event().wait]
    async with hub(lagging) as a, hub([alert(6), asyncio.Event().wait], [alert(6)]) as b:
        events = await merged(a, b, count=4, at_each=told.set, after="e-1")
    assert [(event.kind, event.position) for event in events] == [
        (EventKind.ALERT, "e-6"),
        (EventKind.GAP, None),
        (EventKind.SNAPSHOT, "e-5"),
        (EventKind.ALERT, "e-6"),
    ]
    assert [asked["after"] for asked in b.asked] == ["e-1", "e-5"]


async def test_endpoints_of_two_hubs_do_not_chase_one_another_from_gap_to_gap() -> None:
    gap = {"type": "gap", "reason": "unknown", "requested": "x", "position": "e-5", "detail": ""}
    strange: list[list[Part]] = [[gap, alert(5, "snapshot"), asyncio.Event().wait]] * 9
    async with hub(*strange) as a, hub(*strange) as b:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(merged(a, b, count=99, after="other-1"), 0.5)
    assert len(a.asked) + len(b.asked) <= 4


def parsed(*pieces: bytes) -> list[SseMessage]:
    parser = SseParser()
    return [message for piece in pieces for message in parser.feed(piece)]


def test_sse_is_read_as_the_html_standard_says() -> None:
    assert parsed(
        b"\xef\xbb\xbfdata: first\n\n",
        b": comment\nevent: add\ndata:no space\ndata:  two spaces\nid: 7\n\n",
        b"data\n\n",
        b"event: without data\n\n",
        b"id: with\0nul\ndata: x\n\n",
        b"unknown: y\ndata: z\n\n",
        b"data: never ended",
    ) == [
        SseMessage("message", "first", ""),
        SseMessage("add", "no space\n two spaces", "7"),
        SseMessage("message", "", "7"),
        SseMessage("message", "x", "7"),
        SseMessage("message", "z", "7"),
    ]


@given(
    st.lists(st.sampled_from(["data: 1", "data: 二", "event: e", "id: 3", ": c", "", "data"]), max_size=12),
    st.sampled_from(["\r", "\r\n"]),
    st.data(),
)
def test_sse_does_not_depend_on_how_lines_end_or_where_the_pieces_are_cut(
    lines: list[str], end: str, data: st.DataObject
) -> None:
    stream = "".join(line + end for line in lines).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)))))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert parsed(*pieces) == parsed("".join(line + "\n" for line in lines).encode())


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 90 + b"\n", b"x" * 90], ids=["lines", "one line"])
def test_an_event_without_an_end_is_not_collected_for_ever(piece: bytes) -> None:
    parser = SseParser(max_bytes=1_000)
    for _ in range(10):
        parser.feed(piece)
    with pytest.raises(ValueError, match="1000"):
        parser.feed(piece * 2)
