"""What follows from who is calling: pure decisions, no store and no clock."""

from __future__ import annotations

import re
from collections.abc import Collection
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


def sender_tolerated(tenant: Tenant, sender: str) -> bool:
    """Say whether the alerts of this CAP sender are taken in spite of errors that do not hide what they say."""
    return any(fnmatchcase(sender, pattern) for pattern in tenant.tolerant)


def station_allowed(stations: Collection[str], station: str) -> bool:
    """Say whether a key that is limited to these stations may write readings of this one; where none are named, of every one."""
    return not stations or any(station == pattern or fnmatchcase(station, pattern) for pattern in stations)


def patterns_meet(one: str, other: str) -> bool:
    """Say whether some text can fit both shell patterns; a set such as [a-z] counts as any one character."""
    first, second = _tokens(one), _tokens(other)
    # Which lengths of `second` can be used up together with what has been read of `first`.
    reached = _skip_stars({0}, second)
    for token in first:
        if token == _MANY:
            reached = set(range(min(reached), len(second) + 1)) if reached else reached
        else:
            step = {
                at + (second[at] != _MANY)
                for at in reached
                if at < len(second) and (token == _ONE or second[at] in (token, _ONE, _MANY))
            }
            reached = _skip_stars(step, second)
    return len(second) in reached


_ONE, _MANY = "?", "*"
_TOKEN = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)


def _tokens(pattern: str) -> list[str]:
    return [token if len(token) == 1 else _ONE for token in _TOKEN.findall(pattern)]


def _skip_stars(reached: set[int], tokens: list[str]) -> set[int]:
    more = set(reached)
    for at in sorted(reached):
        here = at
        while here < len(tokens) and tokens[here] == _MANY:
            here += 1
            more.add(here)
    return more


def may_see(audience: str | None, entry: Entry) -> bool:
    """Say whether an audience may have an entry: Public for everybody, Restricted and Private only for the organisation that issued it.

    CAP 3.2.1 <scope>: who else is entitled to a Restricted or Private message is an agreement that the hub does not know yet, so it tells nobody else.
    """
    return entry.alert.scope is Scope.PUBLIC or (audience is not None and audience == entry.origin.tenant)
