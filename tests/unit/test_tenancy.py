from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lalert.cap import read_certificate
from lalert.errors import BadRequest, Conflict, Forbidden, InvalidCode, NotFound, Unauthenticated, Unavailable
from lalert.geo import normalise_code
from lalert.model import Key, Role, SignaturePolicy, Tenant
from lalert.store.audit import SET_UP, Note
from lalert.tenancy import (
    ANONYMOUS,
    CHANGED,
    Administration,
    Caller,
    KeyRing,
    new_secret,
    require,
    secret_digest,
    sender_allowed,
)
from lalert.tenancy.rights import patterns_meet
from lalert.testing import FakeClock
from tests.signing_kit import signer

NOW = datetime(2026, 11, 23, tzinfo=UTC)
PAST_THE_CALENDAR = datetime.fromisoformat("9999-12-31T23:59:59-12:00")


class MemoryDirectory:
    """What administration and the key ring need of a store, without one."""

    def __init__(self) -> None:
        self._tenants: dict[str, Tenant] = {}
        self._keys: dict[str, Key] = {}
        self.notes: list[Note] = []

    async def save_tenant(self, tenant: Tenant) -> None:
        if tenant.id in self._tenants:
            raise Conflict("taken")
        self._tenants[tenant.id] = tenant

    async def update_tenant(self, tenant: Tenant) -> None:
        if tenant.id not in self._tenants:
            raise NotFound("no such organisation")
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

    async def append_audit(self, notes: Sequence[Note]) -> None:
        self.notes += notes


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


async def test_every_change_leaves_its_line_and_no_secret(
    office: Administration, directory: MemoryDirectory
) -> None:
    await office.update_org("hitoyoshi", tolerant=["*@hitoyoshi.example"])
    new = await office.create_key("hitoyoshi", Role.SENDER, exercise_only=True, by=SET_UP)
    await office.revoke_key(new.secret)
    for failing in (
        office.create_org("hitoyoshi", ["43203"], ["*"]),
        office.update_org("nobody", tolerant=[]),
        office.revoke_key("no-key"),
    ):
        with pytest.raises((Conflict, NotFound)):
            await failing
    told = [(str(note.actor), str(note.action), note.org, note.subject) for note in directory.notes]
    assert told == [
        ("local", "org.created", "hitoyoshi", "hitoyoshi"),
        ("local", "org.changed", "hitoyoshi", "hitoyoshi"),
        ("set-up", "key.created", "hitoyoshi", new.key.id),
        ("local", "key.revoked", "hitoyoshi", new.key.id),
    ]
    created, changed, made, _ = (note.details for note in directory.notes)
    assert (created["codes"], created["senders"]) == (["43", "432032"], ["*@hitoyoshi.example"])
    assert changed == {"tolerant": ["*@hitoyoshi.example"]}
    assert made == {"role": "sender", "exercise_only": True, "expires": None}
    assert new.secret not in repr(directory.notes)


async def test_no_change_is_made_without_its_line(office: Administration, directory: MemoryDirectory) -> None:
    kept = await office.create_key("hitoyoshi", Role.SENDER)

    async def full(notes: Sequence[Note]) -> None:
        raise Unavailable("the disk is full")

    directory.append_audit = full  # type: ignore[method-assign]
    for changing in (
        office.create_org("minamata", ["43205"], ["*"]),
        office.update_org("hitoyoshi", tolerant=["*"]),
        office.create_key("hitoyoshi", Role.ADMIN),
        office.revoke_key(kept.key.id),
    ):
        with pytest.raises(Unavailable):
            await changing
    assert [(tenant.id, tenant.tolerant) for tenant in await office.orgs()] == [("hitoyoshi", ())]
    assert await office.keys() == [kept.key]


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
    with pytest.raises(BadRequest, match="only a sensor key"):
        await office.create_key("hitoyoshi", Role.SENDER, stations=["g"])
    for stations in (["g" * 65], [""], [str(number) for number in range(101)]):
        with pytest.raises(BadRequest, match="station: name up to 100"):
            await office.create_key("hitoyoshi", Role.SENSOR, stations=stations)
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


class SlowDirectory:
    """A directory whose answers are on their way until they are let through, or lost."""

    def __init__(self, directory: MemoryDirectory) -> None:
        self._directory = directory
        self.lost = False
        self.held: asyncio.Event | None = None
        self.asked = 0

    async def tenants(self) -> list[Tenant]:
        return await self._directory.tenants()

    async def keys(self) -> list[Key]:
        self.asked += 1
        found = list(await self._directory.keys())
        if self.held is not None:
            await self.held.wait()
        if self.lost:
            raise Unavailable("the store does not answer")
        return found


async def test_what_was_read_before_a_revocation_never_takes_the_place_of_what_was_read_after_it(
    office: Administration, directory: MemoryDirectory, clock: FakeClock
) -> None:
    new = await office.create_key("hitoyoshi", Role.SENDER)
    slow = SlowDirectory(directory)
    ring = KeyRing(slow, clock)
    slow.held = held = asyncio.Event()
    before = asyncio.create_task(ring.refresh())
    while not slow.asked:
        await asyncio.sleep(0)
    slow.held = None
    await office.revoke_key(new.key.id)
    after = asyncio.create_task(ring.refresh())
    await asyncio.sleep(0)
    held.set()
    await asyncio.gather(before, after)
    assert not ring.still_valid(new.key.id)


async def test_a_hint_is_heeded_at_once_and_a_store_that_fails_only_delays_the_news(
    office: Administration, directory: MemoryDirectory, clock: FakeClock
) -> None:
    new = await office.create_key("hitoyoshi", Role.SENDER)
    slow = SlowDirectory(directory)
    ring = KeyRing(slow, clock)
    await ring.refresh()
    heeding = asyncio.create_task(ring.heed())
    try:
        slow.lost = True
        await office.revoke_key(new.key.id)
        await _heard(ring, slow)
        assert ring.still_valid(new.key.id), "nobody is locked out because the store fails"
        slow.lost = False
        ring.hear("target", "s1")
        asked = slow.asked
        await asyncio.sleep(0.01)
        assert slow.asked == asked, "a hint of something else"
        await _heard(ring, slow)
        assert not ring.still_valid(new.key.id)
    finally:
        heeding.cancel()
        await asyncio.wait([heeding])


async def _heard(ring: KeyRing, slow: SlowDirectory) -> None:
    asked = slow.asked
    ring.hear(CHANGED, "")
    async with asyncio.timeout(5):
        while slow.asked == asked:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.001)


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


async def test_an_organisation_is_strict_and_unsigned_until_somebody_says_otherwise(
    office: Administration,
) -> None:
    (tenant,) = await office.orgs()
    assert (tenant.tolerant, tenant.signatures, tenant.certificates) == ((), SignaturePolicy.IGNORE, ())


async def test_a_policy_is_changed_in_part_and_heard_of_by_a_running_hub(
    office: Administration, directory: MemoryDirectory, clock: FakeClock
) -> None:
    ring = KeyRing(directory, clock)
    pem = signer().certificate
    await office.update_org("hitoyoshi", signatures=SignaturePolicy.VERIFY, certificates=[pem])
    changed = await office.update_org("hitoyoshi", tolerant=[" *@hitoyoshi.example ", ""])
    await ring.refresh()
    assert ring.tenant("hitoyoshi") == changed
    assert changed.tolerant == ("*@hitoyoshi.example",)
    assert (changed.name, changed.codes) == ("人吉市", frozenset({"432032", "43"}))
    assert changed.signatures is SignaturePolicy.VERIFY
    assert [read_certificate(each) for each in changed.certificates] == [read_certificate(pem)]
    strict = await office.update_org(
        "hitoyoshi", tolerant=[], signatures=SignaturePolicy.IGNORE, certificates=[]
    )
    assert (strict.tolerant, strict.signatures, strict.certificates) == ((), SignaturePolicy.IGNORE, ())


async def test_the_same_certificate_is_pinned_once_and_a_file_may_hold_several(
    office: Administration,
) -> None:
    first, second = signer().certificate, signer("other", "ec").certificate
    tenant = await office.update_org("hitoyoshi", certificates=[f"words\n{first}{second}", first])
    assert len(tenant.certificates) == 2


@pytest.mark.parametrize("policy", [SignaturePolicy.VERIFY, SignaturePolicy.REQUIRE])
async def test_signatures_are_never_asked_for_without_a_certificate_to_check_them(
    office: Administration, policy: SignaturePolicy
) -> None:
    with pytest.raises(BadRequest, match=f"{policy} needs the certificate.*--certificate"):
        await office.update_org("hitoyoshi", signatures=policy)
    with pytest.raises(BadRequest, match="--certificate"):
        await office.create_org("other", ["43203"], ["*"], signatures=policy)
    await office.update_org("hitoyoshi", signatures=policy, certificates=[signer().certificate])
    with pytest.raises(BadRequest, match="--certificate"):
        await office.update_org("hitoyoshi", certificates=[])


def damaged(pem: str) -> str:
    lines = pem.splitlines()
    return "\n".join([lines[0], *lines[2:]])


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        ("", "certificate 1: no PEM certificate"),
        ("-----BEGIN CERTIFICATE-----\n\u3042\n-----END CERTIFICATE-----", "no X.509 certificate"),
        (damaged(signer().certificate), "no X.509 certificate"),
        (signer().certificate + signer().key, "certificate 1: holds a private key"),
        (signer(ends=NOW - timedelta(days=1)).certificate, "expired on 2026-11-22"),
        (signer(bits=1024).certificate, "1024 bits can be forged"),
        (signer(kind="ed25519").certificate, "neither RSA nor ECDSA"),
        ("x" * 65_537, "65537 characters"),
    ],
    ids=["empty", "no base64", "damaged", "private key", "expired", "weak", "another kind", "long"],
)
async def test_a_certificate_that_cannot_serve_is_refused_with_the_remedy(
    office: Administration, pem: str, said: str
) -> None:
    with pytest.raises(BadRequest, match=said) as refused:
        await office.update_org("hitoyoshi", certificates=[pem])
    assert "MII" not in refused.value.detail
    assert (await office.orgs())[0].certificates == ()


async def test_a_policy_for_nobody_is_refused(office: Administration) -> None:
    with pytest.raises(NotFound, match=r"nobody.*org list"):
        await office.update_org("nobody", tolerant=["*"])
    with pytest.raises(BadRequest, match="fits none of the senders of hitoyoshi"):
        await office.update_org("hitoyoshi", tolerant=["*@yatsushiro.example"])
    with pytest.raises(BadRequest, match="101 patterns"):
        await office.update_org("hitoyoshi", tolerant=[f"{n}@hitoyoshi.example" for n in range(101)])


letters = st.text("ab@", max_size=6)
patterns = st.text("ab@*?", max_size=6) | st.text("ab*?[]!-", max_size=6)


@given(letters, patterns, patterns)
def test_patterns_that_one_text_fits_meet(text: str, one: str, other: str) -> None:
    assert patterns_meet(one, one)
    assert patterns_meet(one, other) == patterns_meet(other, one)
    if fnmatchcase(text, one) and fnmatchcase(text, other):
        assert patterns_meet(one, other)


@given(letters, st.text("ab@*?", max_size=6))
def test_a_plain_name_meets_exactly_the_patterns_that_it_fits(text: str, pattern: str) -> None:
    assert patterns_meet(text, pattern) == fnmatchcase(text, pattern)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("*@a.example", "bousai@*", True),
        ("*@a.example", "*@b.example", False),
        ("a*b", "*c", False),
        ("a*", "b*", False),
        ("*a*", "*b*", True),
        ("", "*", True),
        ("", "?", False),
    ],
)
def test_two_patterns_meet_where_a_name_could_fit_both(one: str, other: str, meet: bool) -> None:
    assert patterns_meet(one, other) is meet
