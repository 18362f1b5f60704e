"""A far end that speaks HTTP, on loopback, for the tests of channels: it answers as it is told and keeps what it got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Final

from aiohttp import web

from lalert.dispatch import guarded_session
from lalert.model import Subscription
from lalert.plugin import Channel, HubApi
from lalert.testing.channel import Answer, Received, subscription
from lalert.testing.hub import FakeHub

STATUS: Final[Mapping[Answer, int]] = {
    Answer.OK: 200,
    Answer.TEMPORARY: 503,
    Answer.PERMANENT: 400,
    Answer.GONE: 410,
}
LOOPBACK: Final = ip_network("127.0.0.0/8")
PATH: Final = "/targets/that-nobody-may-see"


@dataclass(frozen=True, slots=True)
class Call:
    """A request that reached the far end."""

    headers: Mapping[str, str]
    body: str


@dataclass(slots=True)
class HttpRig:
    """A channel with a far end that answers by HTTP status; a `Rig` for `ChannelContract`. `key_header` is where the channel puts a delivery's key."""

    key_header: str
    calls: list[Call] = field(default_factory=list)
    how: Answer = Answer.OK
    url: str = ""
    channel: Channel = field(init=False)
    subscription: Subscription = field(init=False)

    def answer(self, how: Answer) -> None:
        self.how = how

    def received(self) -> Sequence[Received]:
        return [Received(call.headers[self.key_header], call.body) for call in self.calls]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(Call(request.headers, await request.text()))
        if self.how is Answer.SILENCE:
            await asyncio.Event().wait()
        return web.Response(status=STATUS[self.how])


@asynccontextmanager
async def http_rig(
    make: Callable[[HubApi], AbstractAsyncContextManager[Channel]],
    *,
    key_header: str,
    format: str = "json",
    **options: str,
) -> AsyncIterator[HttpRig]:
    """Give the channel that `make` returns for a fake hub, and a far end at `rig.url`, which is the subscription's target."""
    rig = HttpRig(key_header)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", rig._handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        rig.url = f"http://127.0.0.1:{runner.addresses[0][1]}{PATH}"
        async with guarded_session([LOOPBACK]) as session, make(FakeHub(session=session)) as channel:
            rig.channel = channel
            rig.subscription = subscription("contract", rig.url, format, **options)
            yield rig
    finally:
        await runner.cleanup()
