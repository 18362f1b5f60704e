"""Keys: how they are made, recognised, and found invalid within half a second of being revoked anywhere."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

import structlog

from lalert.clock import Clock
from lalert.errors import LalertError, Unauthenticated
from lalert.model import Key, Role, Tenant

PREFIX = "lk_"
MAX_SECRET = 200
REFRESH_SECONDS = 0.5
CHANGED = "directory"
"""The hint by which a node tells the others that organisations or keys have changed."""

log = structlog.get_logger()


class Directory(Protocol):
    """What the key ring reads: the store's organisations and keys."""

    async def tenants(self) -> list[Tenant]: ...

    async def keys(self) -> list[Key]: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling: the organisation and key behind a request, or nobody."""

    tenant: Tenant | None = None
    key: Key | None = None

    @property
    def role(self) -> Role | None:
        return self.key.role if self.key else None

    @property
    def audience(self) -> str | None:
        """Return what decides which scopes this caller may see: its organisation, or None for the public.

        A sensor's key sees what everybody sees: it hangs in a cabinet by the river, and reads nothing to do its work.
        """
        if self.tenant is None or self.role is Role.SENSOR:
            return None
        return self.tenant.id


ANONYMOUS = Caller()


def new_secret() -> str:
    """Return a new secret of 256 random bits; the store keeps only its digest."""
    return PREFIX + secrets.token_urlsafe(32)


def new_key_id() -> str:
    """Return a new public id of a key, fit for logs and lists."""
    return "key-" + secrets.token_hex(6)


def secret_digest(secret: str) -> bytes:
    """Return what the store keeps of a secret. A plain SHA-256 is enough for 256 random bits: there is nothing to guess."""
    # A header or argument that was no UTF-8 arrives with lone surrogates: it is a wrong key like any other, not a crash.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


class KeyRing:
    """All organisations and keys in memory, refreshed from the store.

    A key revoked by another process (the command line, another node) is refused within `REFRESH_SECONDS`, and at once where a hint comes.
    While the store cannot be asked, what was known last holds: senders are not locked out by a failure of ours.
    """

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._tenants: Mapping[str, Tenant] = MappingProxyType({})
        self._by_digest: Mapping[bytes, Key] = MappingProxyType({})
        self._by_id: Mapping[str, Key] = MappingProxyType({})
        self._one = asyncio.Lock()
        self._hinted = asyncio.Event()
        self._cause = ""

    @property
    def empty(self) -> bool:
        """Say whether no key exists yet: the hub can then only be read."""
        return not self._by_id

    async def refresh(self) -> None:
        """Read organisations and keys again."""
        # One at a time: what was read before a revocation must not be put in the place of what was read after it.
        async with self._one:
            tenants = await self._directory.tenants()
            keys = await self._directory.keys()
            self._tenants = {tenant.id: tenant for tenant in tenants}
            self._by_digest = {key.digest: key for key in keys}
            self._by_id = {key.id: key for key in keys}

    async def watch(self) -> None:
        """Refresh for ever; owned by the app's task group."""
        while True:
            await self._clock.sleep(REFRESH_SECONDS)
            await self._look()

    async def heed(self) -> None:
        """Refresh at every hint, for ever; owned by the app's task group."""
        while True:
            await self._hinted.wait()
            self._hinted.clear()
            await self._look()

    def hear(self, kind: str, _subject: str) -> None:
        """Listen to hints of the bus."""
        if kind == CHANGED:
            self._hinted.set()

    async def _look(self) -> None:
        try:
            await self.refresh()
        except LalertError as error:
            if self._cause != error.detail:
                self._cause = error.detail
                log.warning("the keys cannot be read; those that were known last hold", cause=error.detail)
        else:
            self._cause = ""

    def tenant(self, tenant_id: str) -> Tenant | None:
        return self._tenants.get(tenant_id)

    def tenants(self) -> list[Tenant]:
        return list(self._tenants.values())

    def identify(self, secret: str, now: datetime) -> Caller:
        """Return who holds `secret`.

        Raises `Unauthenticated` with one sentence for every cause, so that an answer tells nobody which keys exist. The look-up is by digest: its
        timing says nothing about the secret.
        """
        key = self._by_digest.get(secret_digest(secret)) if len(secret) <= MAX_SECRET else None
        tenant = self._tenants.get(key.tenant) if key else None
        if key is None or tenant is None or not key.valid_at(now):
            raise Unauthenticated(
                "the key is not known or no longer valid; ask your hub's administrator for a new one"
            )
        return Caller(tenant, key)

    def keys_of(self, tenant_id: str) -> list[Key]:
        """Return an organisation's keys that hold now."""
        now = self._clock.now()
        return [key for key in self._by_id.values() if key.tenant == tenant_id and key.valid_at(now)]

    def holder(self, key_id: str) -> Caller | None:
        """Return who holds a key, None where it does not hold any more."""
        key = self._by_id.get(key_id)
        tenant = self._tenants.get(key.tenant) if key else None
        if key is None or tenant is None or not key.valid_at(self._clock.now()):
            return None
        return Caller(tenant, key)

    def still_valid(self, key_id: str) -> bool:
        """Say whether an open stream may go on."""
        key = self._by_id.get(key_id)
        return key is not None and key.valid_at(self._clock.now())
