"""What follows from who is calling: pure decisions, no store and no clock."""

from __future__ import annotations

from fnmatch import fnmatchcase

from lalert.errors import Forbidden, Unauthenticated
from lalert.model import Entry, Role, Scope, Tenant
from lalert.tenancy.keys import Caller


def require(caller: Caller, *roles: Role) -> Caller:
    """Return the caller if its key has one of `roles`; raises `Unauthenticated` without a key, `Forbidden` with another."""
    wanted = " or ".join(roles)
    if caller.key is None:
        raise Unauthenticated(f"this needs a {wanted} key: send it as `Authorization: Bearer KEY`")
    if caller.key.role not in roles:
        raise Forbidden(f"a {caller.key.role} key may not do this; use a {wanted} key", code="wrong-role")
    return caller


def sender_allowed(tenant: Tenant, sender: str) -> bool:
    """Say whether an organisation may use this CAP sender; patterns are those of a shell, case matters."""
    return any(fnmatchcase(sender, pattern) for pattern in tenant.senders)


def may_see(audience: str | None, entry: Entry) -> bool:
    """Say whether an audience may have an entry: Public for everybody, Restricted and Private only for the organisation that issued it.

    CAP 3.2.1 <scope>: who else is entitled to a Restricted or Private message is an agreement that the hub does not know yet, so it tells nobody else.
    """
    return entry.alert.scope is Scope.PUBLIC or (audience is not None and audience == entry.origin.tenant)
