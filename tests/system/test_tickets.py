"""Tickets over HTTP: a stream for where no header can be set."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lalert.model import Role
from lalert.testing import make_cap
from lalert.testing.node import RunningNode, running_node
from tests.system.nodes_kit import listening

SENDER = "bousai@hitoyoshi.example"


async def ticket(node: RunningNode, key: str | Role | None = Role.RECEIVER) -> tuple[int, dict[str, Any]]:
    async with node.http.post(f"{node.url}/v1/tickets", headers=node.headers(key)) as response:
        if response.status == 201:
            assert response.headers["Cache-Control"] == "no-store"
        return response.status, await response.json(content_type=None)


async def status(node: RunningNode, headers: dict[str, str] | None = None, **query: str) -> int:
    async with node.http.get(f"{node.url}/v1/stream", params=query, headers=headers) as response:
        return response.status


async def test_a_ticket_hears_what_its_key_hears_once_and_until_the_key_is_revoked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_node(tmp_path / "data") as node, AsyncExitStack() as stack:
        key = await node.key(Role.RECEIVER)
        secrets = [(await ticket(node, key))[1]["ticket"] for _ in range(3)]
        ears = [
            await stack.enter_async_context(listening(node, ws=ws, ticket=secret))
            for ws, secret in zip((False, True), secrets, strict=False)
        ]
        raw = make_cap(sender=SENDER, identifier="own", scope="Restricted", restriction="防災関係者")
        assert (await node.post(raw))[0] == 201
        for ear, secret in zip(ears, secrets, strict=False):
            assert (await ear.next("alert"))["identifier"] == "own"
            assert await status(node, ticket=secret) == 401
        await node.node.administration.revoke_key(key)
        for ear in ears:
            assert (await ear.next("bye"))["code"] == 4101
        assert await status(node, ticket=secrets[2]) == 401
    records = repr([record.__dict__ for record in caplog.records])
    told = "".join((caplog.text, records, *capfd.readouterr()))
    assert [secret for secret in secrets if secret in told] == []


async def test_who_gets_a_ticket_and_what_does_not_use_it_up(tmp_path: Path) -> None:
    async with running_node(tmp_path / "data") as node:
        assert (await ticket(node, None))[1]["code"] == "unauthenticated"
        assert (await ticket(node, Role.SENSOR))[1]["code"] == "wrong-role"
        made, answer = await ticket(node, Role.SENDER)
        assert made == 201
        secret = answer["ticket"]
        assert await status(node, ticket=secret, bbox="nonsense") == 400
        assert await status(node, node.headers(Role.SENDER), ticket=secret) == 400
        async with node.http.head(f"{node.url}/v1/stream", params={"ticket": secret}) as response:
            assert response.status == 400
        assert await status(node, ticket=secret) == 200


async def test_a_page_of_another_site_opens_either_stream_with_a_ticket(tmp_path: Path) -> None:
    foreign = {"Origin": "https://television.example"}
    async with running_node(tmp_path / "data") as node:
        _, made = await ticket(node)
        async with node.http.get(
            f"{node.url}/v1/stream", params={"ticket": made["ticket"]}, headers=foreign
        ) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "*"
        _, made = await ticket(node)
        params = {"ticket": made["ticket"]}
        async with node.http.ws_connect(f"{node.url}/v1/ws", params=params, headers=foreign) as socket:
            async with asyncio.timeout(5):
                assert (await socket.receive_json())["type"] == "heartbeat"
        for used in ({}, params):
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await node.http.ws_connect(f"{node.url}/v1/ws", params=used, headers=foreign)
