"""The public testing kit: alerts to order, a clock that obeys, and the suites that every store and bus must pass.

Nothing here needs pytest to be imported: the suites are plain classes whose methods a test runner finds. Fakes and suites for adapters, and a whole
hub inside a test, are in the modules beside this one, because they bring the rest of the hub with them.
"""

from lalert.testing.alerts import HITOYOSHI, SENDER, declared_facts, make_alert, make_cap, revive
from lalert.testing.audit import AuditContract
from lalert.testing.bus import BusContract, HintsContract
from lalert.testing.clock import FakeClock
from lalert.testing.keeping import KeepingContract, PortableContract
from lalert.testing.leases import LedgerContract
from lalert.testing.store import StoreContract

__all__ = [
    "HITOYOSHI",
    "SENDER",
    "AuditContract",
    "BusContract",
    "FakeClock",
    "HintsContract",
    "KeepingContract",
    "LedgerContract",
    "PortableContract",
    "StoreContract",
    "declared_facts",
    "make_alert",
    "make_cap",
    "revive",
]
