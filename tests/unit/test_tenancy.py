from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lalert.errors import BadRequest, Conflict, Forbidden, InvalidCode, NotFound, Unauthenticated
from lalert.geo import normalise_code
from lalert.model import Key, Role, Tenant
from lalert.tenancy import (
    ANONYMOUS,
    Administration,
    Caller,
    KeyRing,
    new_secret,
    require,
    secret_digest,
    sender_allowed,
)
from lalert.testing import FakeClock

NOW = datetime(2026, 11, 23, tzinfo=UTC)
PAST_THE_CALENDAR = datetime.fromisoformat("9999-12-31T23:59:59-12:00")


class MemoryDirectory:
    """What administration and the key ring need of a store, without one."""

    def __init__(self) -> None:
        self._tenants: dict[str, Tenant] = {}
        self._keys: dict[str, Key] = {}

    async def save_tenant(self, tenant: Tenant) -> None:
        if tenant.id in self._tenants:
            raise Conflict("taken")
        self._tenants[tenant.id] = tenant

    async def tenants(self) -> list[Tenant]:
        return list(self._tenants.values())

    async def save_key(self, key: Key) -> None:
        if key.tenant not in self._tenants:
            raise NotFound("no such organisation")
        self._keys[key.id] = key

    async def keys(self) -> list[Key]:
        return list(self._keys.values())

    async def revoke_key(self, key_id: str, now: datetime) -> None:
        self._keys[key_id] = replace(self._keys[key_id], revoked=now)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def directory() -> MemoryDirectory:
    return MemoryDirectory()


@pytest.fixture
async def office(directory: MemoryDirectory, clock: FakeClock) -> Administration:
    made = Administration(directory, normalise_code, clock)
    await made.create_org("hitoyoshi", ["43203", "43"], ["*@hitoyoshi.example"], "人吉市")
    return made


def test_a_secret_has_256_random_bits_and_never_repeats() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(secret.startswith("lk_") and len(secret) == 46 for secret in secrets)


async def test_codes_are_kept_in_their_one_form(office: Administration) -> None:
    (tenant,) = await office.orgs()
    assert tenant.codes == {"432032", "43"}
    assert not tenant.everywhere


async def test_the_word_all_means_everywhere(office: Administration) -> None:
    assert (await office.create_org("state", ["all"], ["*"])).everywhere


@pytest.mark.parametrize(
    ("org", "codes", "senders", "error"),
    [
        ("Hitoyoshi!", ["43203"], ["*"], BadRequest),
        ("x", [], ["*"], BadRequest),
        ("x", ["43203"], [" "], BadRequest),
        ("x", ["432033"], ["*"], InvalidCode),
        ("x", ["all", "43203"], ["*"], InvalidCode),
        ("hitoyoshi", ["43203"], ["*"], Conflict),
    ],
)
async def test_an_organisation_that_does_not_hold_is_refused(
    office: Administration, org: str, codes: list[str], senders: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await office.create_org(org, codes, senders)
    assert len(await office.orgs()) == 1


async def test_the_store_never_sees_a_secret(office: Administration, directory: MemoryDirectory) -> None:
    new = await office.create_key("hitoyoshi", Role.SENDER)
    (kept,) = await directory.keys()
    assert kept.digest == secret_digest(new.secret)
    assert new.secret not in repr(kept)


async def test_a_key_must_hold(office: Administration) -> None:
    with pytest.raises(NotFound):
        await office.create_key("nobody", Role.SENDER)
    with pytest.raises(BadRequest, match="in the past"):
        await office.create_key("hitoyoshi", Role.SENDER, expires=NOW)
    with pytest.raises(BadRequest, match="offset"):
        await office.create_key("hitoyoshi", Role.SENDER, expires=datetime(2027, 1, 1))  # noqa: DTZ001
    with pytest.raises(BadRequest, match="calendar"):
        await office.create_key("hitoyoshi", Role.SENDER, expires=PAST_THE_CALENDAR)
    with pytest.raises(BadRequest, match="sender key"):
        await office.create_key("hitoyoshi", Role.RECEIVER, exercise_only=True)


async def test_a_key_is_recognised_until_it_expires(
    office: Administration, directory: MemoryDirectory, clock: FakeClock
) -> None:
    new = await office.create_key("hitoyoshi", Role.SENDER, expires=NOW + timedelta(hours=1))
    ring = KeyRing(directory, clock)
    assert ring.empty
    await ring.refresh()
    caller = ring.identify(new.secret, NOW)
    assert (caller.audience, caller.role) == ("hitoyoshi", Role.SENDER)
    assert ring.still_valid(new.key.id)
    with pytest.raises(Unauthenticated):
        ring.identify(new.secret, NOW + timedelta(hours=1))


async def test_every_bad_key_gets_the_same_sentence(
    office: Administration, directory: MemoryDirectory, clock: FakeClock
) -> None:
    new = await office.create_key("hitoyoshi", Role.SENDER)
    await office.revoke_key(new.secret)
    ring = KeyRing(directory, clock)
    await ring.refresh()
    sentences = set()
    for secret in (new.secret, "lk_unknown", "x" * 10_000, "\udcff", new.key.id):
        with pytest.raises(Unauthenticated) as caught:
            ring.identify(secret, NOW)
        sentences.add(caught.value.detail)
    assert len(sentences) == 1
    assert not ring.still_valid(new.key.id)


async def test_a_key_is_revoked_by_id_too_and_an_unknown_one_is_named(office: Administration) -> None:
    new = await office.create_key("hitoyoshi", Role.SENDER)
    await office.revoke_key(new.key.id)
    assert [key.revoked for key in await office.keys("hitoyoshi")] == [NOW]
    with pytest.raises(NotFound, match="key list"):
        await office.revoke_key("key-000000000000")


def test_rights_name_the_role_that_is_needed() -> None:
    with pytest.raises(Unauthenticated, match="sender key"):
        require(ANONYMOUS, Role.SENDER)
    tenant = Tenant("t", "t", frozenset({"432032"}), ("*",))
    receiver = Caller(tenant, Key("k", "t", Role.RECEIVER, b"", NOW))
    with pytest.raises(Forbidden, match="receiver key may not"):
        require(receiver, Role.SENDER, Role.ADMIN)
    assert require(receiver, Role.RECEIVER) is receiver


@pytest.mark.parametrize(
    ("pattern", "sender", "allowed"),
    [
        ("*@a.example", "x@a.example", True),
        ("*@a.example", "x@b.example", False),
        ("*@a.example", "x@a.example.evil", False),
        ("x@a.example", "X@a.example", False),
        ("gauge-?", "gauge-7", True),
    ],
)
def test_sender_patterns_are_those_of_a_shell(pattern: str, sender: str, allowed: bool) -> None:
    assert sender_allowed(Tenant("t", "t", frozenset(), (pattern,)), sender) is allowed
