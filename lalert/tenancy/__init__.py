"""Who may do what: organisations, their keys, and the rights that follow."""

from lalert.tenancy.admin import Administration, NewKey
from lalert.tenancy.keys import ANONYMOUS, CHANGED, Caller, KeyRing, new_secret, secret_digest
from lalert.tenancy.rights import may_see, require, sender_allowed, sender_tolerated, station_allowed
from lalert.tenancy.tickets import Tickets

__all__ = [
    "ANONYMOUS",
    "CHANGED",
    "Administration",
    "Caller",
    "KeyRing",
    "NewKey",
    "Tickets",
    "may_see",
    "new_secret",
    "require",
    "secret_digest",
    "sender_allowed",
    "sender_tolerated",
    "station_allowed",
]
