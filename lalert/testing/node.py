"""A whole hub inside a test: real store, real sockets, a free port, and the keys that a test needs."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from lalert.app import Node
from lalert.clock import Clock
from lalert.config import Outbound, Settings
from lalert.model import Role
from lalert.web.admin import socket_path

ORG = "hitoyoshi"
CODES = ("432032",)
SENDERS = ("*@hitoyoshi.example",)


@dataclass
class RunningNode:
    """A node with an HTTP session to it; `post`, `get` and `keys` are what most tests do."""

    node: Node
    http: aiohttp.ClientSession
    keys: dict[Role, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.node.url

    async def org(self, org: str, codes: Sequence[str], senders: Sequence[str]) -> None:
        """Add an organisation."""
        await self.node.administration.create_org(org, codes, senders)
        await self.node.keyring.refresh()

    async def key(
        self, role: Role, org: str = ORG, *, exercise_only: bool = False, stations: Sequence[str] = ()
    ) -> str:
        """Make a key and return its secret."""
        made = await self.node.administration.create_key(
            org, role, exercise_only=exercise_only, stations=stations
        )
        await self.node.keyring.refresh()
        return made.secret

    def headers(self, key: str | Role | None, **more: str) -> dict[str, str]:
        """Return the headers of a caller: a secret, the standing key of a role, or nobody."""
        secret = self.keys[key] if isinstance(key, Role) else key
        return ({"Authorization": f"Bearer {secret}"} if secret else {}) | more

    async def local(self, path: str) -> dict[str, Any]:
        """Ask the local socket for something, as the command line does."""
        with socket_path(self.node.data) as socket:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session,
                session.get(f"http://node{path}", raise_for_status=True) as response,
            ):
                body: dict[str, Any] = await response.json()
        return body

    async def post(
        self, raw: bytes, key: str | Role | None = Role.SENDER, content_type: str = "application/cap+xml"
    ) -> tuple[int, dict[str, Any]]:
        """Submit a document; returns status and body."""
        headers = self.headers(key, **{"Content-Type": content_type})
        async with self.http.post(f"{self.url}/v1/alerts", data=io.BytesIO(raw), headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def get(self, path: str, key: str | Role | None = None, **headers: str) -> tuple[int, Any]:
        """Fetch JSON; returns status and body."""
        async with self.http.get(f"{self.url}{path}", headers=self.headers(key, **headers)) as response:
            return response.status, await response.json(content_type=None)


@asynccontextmanager
async def running_node(
    data: Path, settings: Settings | None = None, clock: Clock | None = None
) -> AsyncIterator[RunningNode]:
    """Run a node on a free loopback port with its data in `data`; 人吉市 has a key of each role, made at the first start."""
    chosen = settings or Settings()
    chosen = msgspec.structs.replace(
        chosen,
        hub=msgspec.structs.replace(chosen.hub, host="127.0.0.1", port=0, data=str(data)),
        adapters={"webhook": {"allow_http": True}, **chosen.adapters},
        outbound=Outbound(allow=("127.0.0.0/8", *chosen.outbound.allow)),
    )
    async with Node(chosen, clock) as node, aiohttp.ClientSession() as http:
        running = RunningNode(node, http)
        if node.keyring.empty:
            await running.org(ORG, CODES, SENDERS)
            for role in Role:
                running.keys[role] = await running.key(role)
        yield running
