"""`lalert serve` over a log that begins a new epoch."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from lalert.cli import serving
from lalert.config import Hub, Settings
from lalert.errors import StoreError


class FakeNode:
    """Takes what happens at its start and after it from a list, one for each node that is made."""

    lives: list[Callable[[FakeNode], Awaitable[None]]]
    ports: list[int]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lost = asyncio.Event()
        self.setup_link = None
        self.ports.append(settings.hub.port)

    @property
    def url(self) -> str:
        return "http://127.0.0.1:4711"

    @property
    def settled(self) -> Settings:
        return msgspec.structs.replace(self.settings, hub=Hub(port=4711))

    async def __aenter__(self) -> FakeNode:
        await self.lives.pop(0)(self)
        return self

    async def __aexit__(self, *exc: object) -> None:
        return


async def loses_its_epoch(node: FakeNode) -> None:
    node.lost.set()


async def finds_no_store(node: FakeNode) -> None:
    raise StoreError("the store cannot be reached")


async def is_told_to_stop(node: FakeNode) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeNode.ports = []
    monkeypatch.setattr(serving, "Node", FakeNode)
    monkeypatch.setattr(serving, "settle", lambda: None)
    monkeypatch.setattr(serving, "AGAIN_SECONDS", 0.01)


async def test_a_node_begins_again_where_it_was_however_long_the_store_is_away(
    capsys: pytest.CaptureFixture[Any],
) -> None:
    FakeNode.lives = [loses_its_epoch, finds_no_store, finds_no_store, is_told_to_stop]
    await asyncio.wait_for(serving.run(Settings(hub=Hub(port=0))), 10)
    assert FakeNode.ports == [0, 4711, 4711, 4711]
    ready = [line for line in capsys.readouterr().out.splitlines() if line.startswith("lalert ready")]
    assert ready == ["lalert ready on http://127.0.0.1:4711"]


async def test_a_store_that_is_not_there_at_first_ends_it() -> None:
    FakeNode.lives = [finds_no_store]
    with pytest.raises(StoreError):
        await serving.run(Settings())


async def test_it_can_be_stopped_while_it_waits_for_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "AGAIN_SECONDS", 60.0)

    async def fails_and_is_stopped(node: FakeNode) -> None:
        await is_told_to_stop(node)
        await finds_no_store(node)

    FakeNode.lives = [loses_its_epoch, fails_and_is_stopped]
    await asyncio.wait_for(serving.run(Settings()), 10)


def test_uvloop_runs_the_node_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert serving.loop_factory() is None
    monkeypatch.setitem(sys.modules, "uvloop", SimpleNamespace(new_event_loop=asyncio.SelectorEventLoop))
    assert serving.loop_factory() is asyncio.SelectorEventLoop
