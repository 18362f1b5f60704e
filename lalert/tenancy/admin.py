"""Making and listing organisations and keys: the same functions for the command line, the local socket and the setup page.

Each change leaves its line in the audit chain before it is made: nobody can break it off so that the change is there and its line is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from lalert.cap import read_certificate, read_certificates
from lalert.clock import Clock
from lalert.errors import BadRequest, Conflict, NotFound
from lalert.model import Key, Role, SignaturePolicy, Tenant
from lalert.store.audit import LOCAL, Action, Actor, Detail, Note
from lalert.tenancy.keys import new_key_id, new_secret, secret_digest
from lalert.tenancy.rights import patterns_meet

_ORG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_MAX_CODES = 2000
_MAX_PATTERNS = 100


class Directory(Protocol):
    """What administration writes to."""

    async def save_tenant(self, tenant: Tenant) -> None: ...

    async def update_tenant(self, tenant: Tenant) -> None: ...

    async def tenants(self) -> list[Tenant]: ...

    async def save_key(self, key: Key) -> None: ...

    async def keys(self) -> list[Key]: ...

    async def revoke_key(self, key_id: str, now: datetime) -> None: ...

    async def append_audit(self, notes: Sequence[Note]) -> object: ...


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made; `secret` is shown once and kept nowhere."""

    key: Key
    secret: str


class Administration:
    """Acts on a directory; `normalise` turns a municipality code into its one form or raises `InvalidCode`."""

    def __init__(self, directory: Directory, normalise: Callable[[str], str], clock: Clock) -> None:
        self._directory = directory
        self._normalise = normalise
        self._clock = clock

    async def create_org(
        self,
        org: str,
        codes: Sequence[str],
        senders: Sequence[str],
        name: str = "",
        *,
        tolerant: Sequence[str] = (),
        signatures: SignaturePolicy = SignaturePolicy.IGNORE,
        certificates: Sequence[str] = (),
        by: Actor = LOCAL,
    ) -> Tenant:
        """Add an organisation that may alert for `codes` (the word `all` alone: everywhere) as one of `senders`.

        Its alerts are judged strictly but for the senders that `tolerant` names, and their signatures as `signatures` says, with
        `certificates` (PEM texts). Raises `BadRequest`, `InvalidCode`, and `Conflict` if the id is taken.
        """
        if not _ORG.fullmatch(org):
            raise BadRequest(
                f"organisation id {org[:64]!r}: use 1-63 lower-case letters, digits and hyphens, such as hitoyoshi"
            )
        everywhere = list(codes) == ["all"]
        wanted = [code for code in codes if code]
        if not wanted or len(wanted) > _MAX_CODES:
            raise BadRequest(f"codes: name 1 to {_MAX_CODES} municipality codes, or the word all")
        patterns = tuple(pattern.strip() for pattern in senders if pattern.strip())
        if not patterns or len(patterns) > _MAX_PATTERNS:
            raise BadRequest(
                f"senders: name 1 to {_MAX_PATTERNS} CAP senders, such as bousai@city.example or *@city.example"
            )
        plain = Tenant(
            id=org,
            name=name or org,
            codes=frozenset() if everywhere else frozenset(self._normalise(code) for code in wanted),
            senders=patterns,
            everywhere=everywhere,
        )
        tenant = self._with_policy(plain, tolerant, signatures, certificates)
        if await self._known(org) is not None:
            raise Conflict(f"the organisation {org} exists already; choose another id")
        await self._note(Action.ORG_CREATED, org, org, by, _described(tenant))
        await self._directory.save_tenant(tenant)
        return tenant

    async def update_org(
        self,
        org: str,
        *,
        tolerant: Sequence[str] | None = None,
        signatures: SignaturePolicy | None = None,
        certificates: Sequence[str] | None = None,
        by: Actor = LOCAL,
    ) -> Tenant:
        """Change how an organisation's alerts are judged; None leaves as it is, an empty sequence takes all away.

        A running hub judges by it within half a second. Raises `NotFound` and `BadRequest`.
        """
        known = await self._known(org)
        if known is None:
            raise NotFound(f"there is no organisation {org[:64]}; `lalert org list` shows them")
        tenant = self._with_policy(known, tolerant, signatures, certificates)
        before, after = _described(known), _described(tenant)
        changed = {name: value for name, value in after.items() if value != before[name]}
        await self._note(Action.ORG_CHANGED, org, org, by, changed)
        await self._directory.update_tenant(tenant)
        return tenant

    def _with_policy(
        self,
        tenant: Tenant,
        tolerant: Sequence[str] | None,
        signatures: SignaturePolicy | None,
        certificates: Sequence[str] | None,
    ) -> Tenant:
        changed = replace(
            tenant,
            tolerant=tenant.tolerant if tolerant is None else _tolerated(tenant, tolerant),
            signatures=tenant.signatures if signatures is None else signatures,
            certificates=tenant.certificates if certificates is None else self._pinned(certificates),
        )
        if changed.signatures is not SignaturePolicy.IGNORE and not changed.certificates:
            raise BadRequest(
                f"signatures: {changed.signatures} needs the certificate that they are checked with; give it with --certificate FILE"
            )
        return changed

    def _pinned(self, texts: Sequence[str]) -> tuple[str, ...]:
        now = self._clock.now()
        found = read_certificates(texts)
        for certificate in found:
            if certificate.ends < now:
                raise BadRequest(
                    f"certificate {certificate.subject}: expired on {certificate.ends:%Y-%m-%d}; ask its owner for the one that follows it"
                )
        return tuple(certificate.pem for certificate in found)

    async def orgs(self) -> list[Tenant]:
        return await self._directory.tenants()

    async def create_key(
        self,
        org: str,
        role: Role,
        *,
        exercise_only: bool = False,
        expires: datetime | None = None,
        stations: Sequence[str] = (),
        by: Actor = LOCAL,
    ) -> NewKey:
        """Add a key; the answer is the only time that its secret is seen. Raises `NotFound` for an unknown organisation, `BadRequest`.

        A sensor's key that is given `stations`, as shell patterns, writes no other's readings.
        """
        now = self._clock.now()
        if expires is not None and expires.tzinfo is None:
            raise BadRequest("expires: give its offset too, such as 2027-03-31T23:59:59+09:00")
        try:
            expires = expires.astimezone(UTC) if expires is not None else None
        except OverflowError as error:
            # Kept, it could not be read again: no key ring could refresh any more, and no revocation would be heard of.
            raise BadRequest("expires: lies beyond the calendar in UTC; give an earlier time") from error
        if expires is not None and expires <= now:
            raise BadRequest("expires: lies in the past; give a time to come, with its offset")
        if exercise_only and role is not Role.SENDER:
            raise BadRequest("exercise-only: only a sender key can be limited to exercises")
        limits = tuple(dict.fromkeys(stations))
        if limits and role is not Role.SENSOR:
            raise BadRequest("station: only a sensor key can be limited to stations")
        if len(limits) > _MAX_PATTERNS or not all(1 <= len(station) <= 64 for station in limits):
            raise BadRequest(
                f"station: name up to {_MAX_PATTERNS} station ids, or patterns such as kuma-*, of 1 to 64 characters"
            )
        secret = new_secret()
        key = Key(
            id=new_key_id(),
            tenant=org,
            role=role,
            digest=secret_digest(secret),
            created=now,
            exercise_only=exercise_only,
            expires=expires,
            stations=limits,
        )
        if await self._known(org) is None:
            raise NotFound(f"there is no organisation {org[:64]}; create it first")
        ends = expires.isoformat(timespec="seconds") if expires is not None else None
        described: dict[str, Detail] = {"role": str(role), "exercise_only": exercise_only, "expires": ends}
        if limits:
            described["stations"] = list(limits)
        await self._note(Action.KEY_CREATED, key.id, org, by, described)
        await self._directory.save_key(key)
        return NewKey(key, secret)

    async def keys(self, org: str | None = None) -> list[Key]:
        return [key for key in await self._directory.keys() if org is None or key.tenant == org]

    async def revoke_key(self, key_id: str, *, by: Actor = LOCAL) -> None:
        """Revoke for good, by id or by the secret itself; open streams end within a second. Raises `NotFound`."""
        known = {key.id: key for key in await self._directory.keys()}
        digest = secret_digest(key_id)
        found = known.get(key_id) or next((key for key in known.values() if key.digest == digest), None)
        if found is None:
            raise NotFound("no such key; `lalert key list` shows the ids")
        await self._note(Action.KEY_REVOKED, found.id, found.tenant, by, {"role": str(found.role)})
        await self._directory.revoke_key(found.id, self._clock.now())

    async def _known(self, org: str) -> Tenant | None:
        return next((tenant for tenant in await self._directory.tenants() if tenant.id == org), None)

    async def _note(
        self, action: Action, subject: str, org: str, by: Actor, details: Mapping[str, Detail]
    ) -> None:
        await self._directory.append_audit([Note(self._clock.now(), by, action, subject, org, details)])


def _described(tenant: Tenant) -> dict[str, Detail]:
    """Return what an organisation may do, as its lines say it; of a certificate its SHA-256."""
    return {
        "name": tenant.name,
        "codes": ["all"] if tenant.everywhere else sorted(tenant.codes),
        "senders": list(tenant.senders),
        "tolerant": list(tenant.tolerant),
        "signatures": str(tenant.signatures),
        "certificates": [read_certificate(pem).fingerprint for pem in tenant.certificates],
    }


def _tolerated(tenant: Tenant, patterns: Sequence[str]) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(pattern.strip() for pattern in patterns if pattern.strip()))
    if len(wanted) > _MAX_PATTERNS:
        raise BadRequest(f"tolerant: {len(wanted)} patterns; {_MAX_PATTERNS} are the most that is kept")
    for pattern in wanted:
        if not any(patterns_meet(pattern, sender) for sender in tenant.senders):
            raise BadRequest(
                f"tolerant: {pattern!r} fits none of the senders of {tenant.id} ({', '.join(tenant.senders[:5])}); "
                "name one of these, or a part of them"
            )
    return wanted
