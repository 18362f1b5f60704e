"""What a server must be before an alert is entrusted to it."""

from __future__ import annotations

import re
from typing import Final

from redis.exceptions import ResponseError

from lalert.errors import StoreError
from lalert.store.redis.link import Durability
from lalert.store.redis.wire import Wire

ANSWER_SECONDS: Final = 3.0
OLDEST: Final = (7, 2)
"""The first version with WAITAOF, and needed in memory too: on 7.0.15 a fence refuses the very node that holds the lease. Valkey gives 7.2.4 here and its own version elsewhere."""

_MEMORY: Final = 'or write `durability = "memory"` under [store] if it may lose alerts'


async def require_sound_server(wire: Wire, durability: Durability) -> None:
    """Raise `StoreError` if the server is too old, may throw away what it keeps, or (durability "disk") does not have on disk what it has confirmed."""
    info = _parse(await wire.call("INFO", seconds=ANSWER_SECONDS))
    version = info.get("redis_version", "")
    if not (match := re.match(r"(\d+)\.(\d+)", version)) or (int(match[1]), int(match[2])) < OLDEST:
        raise StoreError(
            f"{wire.place} runs Redis {version or '(unknown)'}: lalert needs Redis 7.2 or any Valkey (7.2 brought WAITAOF)"
        )
    policy = info.get("maxmemory_policy", "")
    if policy.startswith("allkeys-"):
        raise StoreError(
            f"{wire.place} has maxmemory-policy {policy}, which throws alerts away when memory is short: set it to noeviction"
        )
    if durability == "memory":
        return
    if info.get("aof_enabled") != "1":
        raise StoreError(
            f"{wire.place} has appendonly no and keeps nothing on disk: set appendonly yes, {_MEMORY}"
        )
    fsync = await _appendfsync(wire)
    if fsync != "always":
        raise StoreError(
            f"{wire.place} has appendfsync {fsync}, so that a power cut loses alerts: set appendfsync always, {_MEMORY}"
        )


async def _appendfsync(wire: Wire) -> str:
    try:
        answer = await wire.call("CONFIG", "GET", "appendfsync", seconds=ANSWER_SECONDS)
    except ResponseError as error:
        raise StoreError(
            f"{wire.place} does not let this user read appendfsync ({error}): allow it with ACL SETUSER ... +config|get, {_MEMORY}"
        ) from error
    return str(answer[1].decode()) if len(answer) > 1 else "(unknown)"


def _parse(info: bytes) -> dict[str, str]:
    lines = info.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
