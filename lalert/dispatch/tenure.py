"""Which shares of the lanes are this node's to run, and under which leases. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lalert.bus import Held, Shares
from lalert.model import Lease
from lalert.store import share_of

KIND = "lanes"


class Tenure:
    """What is run here follows what is held, never the other way about: a share is struck as soon as it is lost, and loaded before it counts as run."""

    def __init__(self, shares: Shares) -> None:
        self.sole = shares.sole
        self._shares = shares
        self._run: dict[int, Lease] = {}
        self._refused: set[Lease] = set()

    @property
    def run(self) -> Held:
        """Return the shares whose lanes are here."""
        return dict(self._run)

    def lease_of(self, subscription_id: str) -> Lease | None:
        """Return under which lease a subscription's lane is run here; None if it is not."""
        return self._run.get(share_of(subscription_id))

    def gained(self) -> Held:
        """Return what is held and not run yet."""
        held = self._shares.held
        self._refused &= set(held.values())
        return {n: lease for n, lease in held.items() if n not in self._run and lease not in self._refused}

    def begin(self, gained: Held) -> None:
        """Run these shares from now on."""
        self._run |= gained

    def lost(self) -> frozenset[Lease]:
        """Return, and run no longer, what is not held any more."""
        if self.sole:
            return frozenset()
        held = self._shares.held
        return self._end(lease for number, lease in self._run.items() if held.get(number) != lease)

    def refused(self, names: Collection[str]) -> frozenset[Lease]:
        """Return, and run no longer, what the store says is another node's, whatever this node believes to hold."""
        taken = self._end(lease for lease in self._run.values() if lease.name in names)
        self._refused |= taken
        return taken

    def end(self, leases: Collection[Lease]) -> None:
        """Run these no longer."""
        self._end(leases)

    def _end(self, leases: Iterable[Lease]) -> frozenset[Lease]:
        ended = frozenset(leases)
        self._run = {number: lease for number, lease in self._run.items() if lease not in ended}
        return ended
