"""How every part of every node hears of a new entry, in position order.

`bus.local` serves one process; with many nodes the store's stream is the bus. `lalert.testing.BusContract` holds each to this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from lalert.model import Entry

Listener = Callable[[Entry], None]
"""Called on the event loop for each entry in position order. Must not block or wait; what it raises is logged and hurts nobody else."""


class Bus(Protocol):
    """One publisher side (the store, after the commit), many listeners."""

    def publish(self, entries: Sequence[Entry]) -> None:
        """Tell every listener of entries just made durable, in order."""
        ...

    def attach(self, listener: Listener) -> Callable[[], None]:
        """Hear of everything published from now on; returns what ends it (calling it twice is harmless)."""
        ...
