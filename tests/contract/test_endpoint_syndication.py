"""The feeds are an endpoint like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Self

import pytest
from aiohttp import web

from lalert.plugin import Access, HubApi, Route
from lalert.testing.endpoint import EndpointAdapter, EndpointContract
from lalert_adapters.syndication import Syndication, SyndicationConfig


class TestSyndication(EndpointContract):
    def make(self, hub: HubApi) -> EndpointAdapter:
        return Syndication("feeds", SyndicationConfig(), hub)


class _Careless(Syndication):
    """Does everything that an endpoint must not do."""

    async def __aenter__(self) -> Self:
        self.left_behind = asyncio.create_task(asyncio.sleep(60))
        return await super().__aenter__()

    def routes(self) -> Sequence[Route]:
        async def fails(request: web.Request) -> web.StreamResponse:
            return web.Response(text=str(int(request.match_info["place"])))

        careless = replace(super().routes()[0], path="feeds/{place}", access="anybody", handler=fails)  # type: ignore[arg-type]
        return [careless, careless, Route("GET", "/x/{place}", fails, Access.PUBLIC)]


class _CarelessContract(EndpointContract):
    def make(self, hub: HubApi) -> EndpointAdapter:
        return _Careless("feeds", SyndicationConfig(), hub)


@pytest.mark.parametrize(
    "check",
    [
        _CarelessContract().test_every_route_says_who_may_call_it,
        _CarelessContract().test_routes_are_the_same_each_time_and_none_stands_twice,
    ],
)
def test_the_suite_finds_careless_routes(check: Callable[[], None]) -> None:
    with pytest.raises(AssertionError):
        check()


class _Failing(_Careless):
    def routes(self) -> Sequence[Route]:
        return super().routes()[2:]


class _FailingContract(EndpointContract):
    def make(self, hub: HubApi) -> EndpointAdapter:
        return _Failing("feeds", SyndicationConfig(), hub)


@pytest.mark.parametrize(
    "check",
    [
        _FailingContract().test_leaving_leaves_no_task_behind,
        _FailingContract().test_hostile_paths_and_queries_are_the_callers_fault,
    ],
)
async def test_the_suite_finds_careless_behaviour(check: Callable[[], Awaitable[None]]) -> None:
    before = asyncio.all_tasks()
    with pytest.raises(AssertionError):
        await check()
    for task in asyncio.all_tasks() - before:
        task.cancel()
