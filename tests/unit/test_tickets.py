from __future__ import annotations

import pytest

from lalert.errors import TooManyRequests, Unauthenticated
from lalert.geo import normalise_code
from lalert.model import Role
from lalert.tenancy import Administration, KeyRing, Tickets
from lalert.tenancy.tickets import MAX_TICKETS, TICKET_SECONDS, LocalShelf
from lalert.testing import FakeClock
from tests.unit.test_tenancy import MemoryDirectory


class Office:
    """Tickets over a directory in memory."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        directory = MemoryDirectory()
        self.administration = Administration(directory, normalise_code, self.clock)
        self.ring = KeyRing(directory, self.clock)
        self.shelf = LocalShelf(self.clock)
        self.tickets = Tickets(self.shelf, self.ring, self.clock)

    async def key(self) -> str:
        if not self.ring.tenants():
            await self.administration.create_org("town", ["432032"], ["*"])
        made = await self.administration.create_key("town", Role.RECEIVER)
        await self.ring.refresh()
        return made.key.id


async def refused(office: Office, secret: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await office.tickets.redeem(secret)
    assert caught.value.error_code == "bad-ticket"
    assert not secret or secret not in caught.value.detail


async def test_a_ticket_is_its_keys_right_and_serves_once() -> None:
    office = Office()
    key = await office.key()
    made, other = await office.tickets.issue(key), await office.tickets.issue(key)
    assert (made.ends - office.clock.now()).total_seconds() == TICKET_SECONDS
    assert made.secret != other.secret
    assert len(made.secret) == 46  # 256 bits in base64url, and the prefix
    caller = await office.tickets.redeem(made.secret)
    assert caller.key is not None
    assert (caller.key.id, caller.audience) == (key, "town")
    await refused(office, made.secret)
    await office.tickets.redeem(other.secret)


async def test_what_is_no_ticket_is_refused_without_a_word_why() -> None:
    office = Office()
    await office.key()
    for text in ("", "lt_", "lt_" + "A" * 43, "A" * 10_000, "lt_\udc80"):
        await refused(office, text)


async def test_a_ticket_ends_after_its_time_and_with_its_key() -> None:
    office = Office()
    key = await office.key()
    late, bare = await office.tickets.issue(key), await office.tickets.issue(key)
    office.clock.move(TICKET_SECONDS - 1)
    await office.tickets.redeem(bare.secret)
    office.clock.move(1)
    await refused(office, late.secret)
    orphan = await office.tickets.issue(key)
    await office.administration.revoke_key(key)
    await office.ring.refresh()
    await refused(office, orphan.secret)


async def test_a_key_has_so_many_unused_tickets_and_no_more_and_takes_none_from_another() -> None:
    office = Office()
    key, other = await office.key(), await office.key()
    first, *_ = [await office.tickets.issue(key) for _ in range(MAX_TICKETS)]
    with pytest.raises(TooManyRequests):
        await office.tickets.issue(key)
    await office.tickets.issue(other)
    await office.tickets.redeem(first.secret)
    await office.tickets.issue(key)
    with pytest.raises(TooManyRequests):
        await office.tickets.issue(key)
    office.clock.move(TICKET_SECONDS)
    await office.tickets.issue(key)
    assert len(office.shelf._ends) == 1, "what is too old is let go of"
