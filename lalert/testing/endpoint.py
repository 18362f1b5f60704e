"""What every adapter that answers HTTP must do, as tests to inherit."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import aiohttp
from aiohttp import web
from yarl import URL

from lalert.errors import LalertError
from lalert.plugin import Access, Adapter, Endpoint, HubApi, Route
from lalert.testing.hub import FakeHub
from lalert.web.problems import from_error

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
HOSTILE = (
    "x",
    "..",
    "%2e%2e",
    "%00",
    "%0d%0aSet-Cookie:a=b",
    "%ef%bc%91%ef%bc%90",
    "%ff%fe",
    "<script>",
    "a" * 2_000,
    "'\"\\",
)


class EndpointAdapter(Adapter, Endpoint, Protocol):
    """An adapter with routes."""


class EndpointContract:
    """Inherit it in a test module, and let `make` return the adapter under test."""

    def make(self, hub: HubApi) -> EndpointAdapter:
        """Return an instance in its default configuration."""
        raise NotImplementedError

    def test_it_is_an_endpoint(self) -> None:
        assert isinstance(self.make(FakeHub()), Endpoint)

    def test_every_route_says_who_may_call_it(self) -> None:
        for route in self.make(FakeHub()).routes():
            assert isinstance(route.access, Access), route.path
            assert route.method in METHODS, route.path
            assert route.path.startswith("/"), route.path

    def test_routes_are_the_same_each_time_and_none_stands_twice(self) -> None:
        adapter = self.make(FakeHub())
        routes = [(route.method, route.path) for route in adapter.routes()]
        assert routes == [(route.method, route.path) for route in adapter.routes()]
        assert len(set(routes)) == len(routes)

    async def test_the_routes_can_be_served(self) -> None:
        async with serving(self.make(FakeHub())) as url:
            assert url

    async def test_leaving_leaves_no_task_behind(self) -> None:
        before = asyncio.all_tasks()
        async with self.make(FakeHub()):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == before

    async def test_hostile_paths_and_queries_are_the_callers_fault(self) -> None:
        adapter = self.make(FakeHub())
        async with serving(adapter) as url, aiohttp.ClientSession(auto_decompress=False) as http:
            for route in adapter.routes():
                for word in HOSTILE:
                    for query in ("", f"?{word}", f"?{word}={word}&{word}={word}"):
                        address = f"{url}{_filled(route, word)}{query}"
                        async with http.request(
                            route.method, URL(address, encoded=True), allow_redirects=False
                        ) as answer:
                            assert answer.status < 500, (route.path, word, await answer.text())


@asynccontextmanager
async def serving(adapter: EndpointAdapter) -> AsyncIterator[str]:
    """Enter an adapter and serve its routes on a free loopback port, with errors answered as a hub answers them; yields the address."""
    async with adapter:
        app = web.Application(middlewares=[_answers_errors])
        app.add_routes(
            [web.RouteDef(route.method, route.path, route.handler, {}) for route in adapter.routes()]
        )
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


@web.middleware
async def _answers_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except LalertError as error:
        return from_error(error)


def _filled(route: Route, word: str) -> str:
    """Return the path of a route with a word for each of its variables."""
    return re.sub(r"\{[^}]*\}", lambda _: word, route.path)
