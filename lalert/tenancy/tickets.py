"""Tickets: a key's right to open one stream, for where no header can be set, such as a browser's EventSource and WebSocket."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from lalert.clock import Clock
from lalert.errors import TooManyRequests, Unauthenticated
from lalert.tenancy.keys import MAX_SECRET, Caller, KeyRing, secret_digest

PREFIX: Final = "lt_"

TICKET_SECONDS: Final = 300.0

MAX_TICKETS: Final = 1_000
"""So many of one key may be unused at once: as many as it may have streams."""

RETRY_SECONDS: Final = 10.0


class Shelf(Protocol):
    """Where the digests of unused tickets are until `TICKET_SECONDS` have passed: one for all nodes of a hub."""

    async def put(self, digest: bytes, key_id: str) -> bool:
        """Keep a ticket of a key; returns False where it has `MAX_TICKETS` already. Raises `Unavailable`."""
        ...

    async def take(self, digest: bytes) -> str | None:
        """Return the key that a ticket belongs to, once and to one who asks; raises `Unavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket just made; `secret` is shown once and kept nowhere."""

    secret: str
    ends: datetime


class Tickets:
    """Makes tickets for the holders of keys, and says whose one is."""

    def __init__(self, shelf: Shelf, keyring: KeyRing, clock: Clock) -> None:
        self._shelf = shelf
        self._keyring = keyring
        self._clock = clock

    async def issue(self, key_id: str) -> Ticket:
        """Make a ticket of 256 random bits; raises `TooManyRequests` where its key has too many unused, `Unavailable`."""
        secret = PREFIX + secrets.token_urlsafe(32)
        ends = self._clock.now() + timedelta(seconds=TICKET_SECONDS)
        if not await self._shelf.put(secret_digest(secret), key_id):
            raise TooManyRequests(
                f"this key has {MAX_TICKETS} tickets that nobody has used yet", retry_after=RETRY_SECONDS
            )
        return Ticket(secret, ends)

    async def redeem(self, secret: str) -> Caller:
        """Return who holds the key of a ticket, which is then used up; raises `Unauthenticated`, which does not say why, and `Unavailable`."""
        wrong = len(secret) > MAX_SECRET or not secret.startswith(PREFIX)
        key_id = None if wrong else await self._shelf.take(secret_digest(secret))
        caller = self._keyring.holder(key_id) if key_id is not None else None
        if caller is None:
            raise Unauthenticated(
                "the ticket is not known, was used, or is too old: ask for another with POST /v1/tickets",
                code="bad-ticket",
            )
        return caller


class LocalShelf:
    """The shelf of a hub of one node. A restart empties it: whoever held a ticket asks for another."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends: dict[bytes, tuple[float, str]] = {}
        self._unused: Counter[str] = Counter()

    async def put(self, digest: bytes, key_id: str) -> bool:
        self._clear()
        if self._unused[key_id] >= MAX_TICKETS:
            return False
        self._unused[key_id] += 1
        self._ends[digest] = (self._clock.monotonic() + TICKET_SECONDS, key_id)
        return True

    async def take(self, digest: bytes) -> str | None:
        self._clear()
        return self._drop(digest) if digest in self._ends else None

    def _clear(self) -> None:
        # In the order in which they were put, and all last equally long: the oldest end first.
        now = self._clock.monotonic()
        while self._ends:
            digest, (ends, _) = next(iter(self._ends.items()))
            if ends > now:
                return
            self._drop(digest)

    def _drop(self, digest: bytes) -> str:
        _, key_id = self._ends.pop(digest)
        self._unused[key_id] -= 1
        if not self._unused[key_id]:
            del self._unused[key_id]
        return key_id


if TYPE_CHECKING:
    _: type[Shelf] = LocalShelf
