"""How the parts of every node hear of a new entry in position order, give each other hints, and divide work that only one node may do.

`bus.local` serves one process; with many nodes the store's stream is the bus, and leases stand in the store. `lalert.testing` has a contract suite for
each: `BusContract`, `LedgerContract`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from lalert.model import Entry, Lease

Listener = Callable[[Entry], None]
"""Called on the event loop for each entry in position order. Must not block or wait; what it raises is logged and hurts nobody else."""

Watcher = Callable[[Callable[[], None]], None]
"""Called on the event loop with what to call, once, when the watcher has dealt with an entry that it heard before, or has none left. Must not block, wait or raise."""

HintListener = Callable[[str, str], None]
"""Called on the event loop with the kind and the subject of a hint. Must not block or wait; what it raises is logged and hurts nobody else."""

Held = Mapping[int, Lease]
"""The shares that a node holds, by number; never changed in place."""

Release = Callable[[Collection[Lease]], Awaitable[None]]
"""Finish what is being done under these leases, and begin nothing more: they are given back when it returns, or soon after in any case."""


class Bus(Protocol):
    """One publisher side (the store, after the commit), many listeners."""

    def publish(self, entries: Sequence[Entry]) -> None:
        """Tell every listener of entries just made durable, in order."""
        ...

    def attach(
        self, listener: Listener, *, name: str = "", watcher: Watcher | None = None
    ) -> Callable[[], None]:
        """Hear of everything published from now on; returns what ends it (calling it twice is harmless). A `watcher` watches for canaries under its `name`."""
        ...


class Aviary(Protocol):
    """Where canaries are released (`lalert.canary`): they go to whoever hears of entries, and to nobody else."""

    def release(self, sighted: Callable[[str], None]) -> frozenset[str]:
        """Tell every watcher; returns the names of those that are going to call `sighted` with theirs."""
        ...


class Hints(Protocol):
    """What the nodes call out to each other. Nothing may depend on it: a hint may be lost or come twice, and what it is about stands in the store."""

    def hint(self, kind: str, subject: str) -> None:
        """Tell every node, this one too, that it is worth its while to look at something in the store."""
        ...

    def attend(self, listener: HintListener) -> Callable[[], None]:
        """Hear hints from now on; returns what ends it (calling it twice is harmless)."""
        ...


class Shares(Protocol):
    """This node's part in one kind of work, for as long as the context lasts: it takes part in the division when the context is entered, and gives everything back at its end."""

    @property
    def sole(self) -> bool:
        """Say whether there can be no other node, now or later: then every share is held for good."""
        ...

    @property
    def held(self) -> Held:
        """Return the leases held at this moment by this node's own clock, also where it was frozen until just now."""
        ...

    def attach(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call on the event loop, at once, after leases were gained or lost; returns what ends it. It must not block, wait or raise."""
        ...


class Leases(Protocol):
    """Divides work that only one node may do at a time."""

    def divide(
        self, kind: str, count: int, *, release: Release | None = None
    ) -> AbstractAsyncContextManager[Shares]:
        """Take part in dividing the shares 0 to `count` - 1 of a kind of work among the living nodes; `count` is the same on every node.

        A lease that could not be renewed in time is lost by this node's own clock before another node may take it. `release` is awaited, for a bounded
        time, before a lease is given back to a node that has fewer.
        """
        ...


class Ledger(Protocol):
    """Where the nodes of a store write down who holds which share: what `bus.leases` asks of a store.

    Its clock alone decides when a lease or a sign of life has run out; each method is one step that no other node's step interrupts, and raises
    `LalertError` where the store cannot be asked. A lease is taken with a higher token than any before it for the same name.
    """

    async def beat(
        self, kind: str, node: str, held: Collection[Lease], *, short: bool = False
    ) -> tuple[Collection[Lease], int, int]:
        """Renew this node's sign of life, with whether it is short of its part, and those of its leases that are still its own.

        Returns these leases, how many nodes live, and how many of them were short when they were last heard of, this one included.
        """
        ...

    async def take(self, kind: str, count: int, node: str, most: int) -> Collection[Lease]:
        """Give this node up to `most` of the shares 0 to `count` - 1 that nobody holds, or whose lease has run out; named `kind/number`."""
        ...

    async def give(self, kind: str, node: str, leases: Collection[Lease], *, leaves: bool = False) -> None:
        """Give back leases, as far as they are still this node's: anybody may take them at once. `leaves` ends its sign of life too."""
        ...
