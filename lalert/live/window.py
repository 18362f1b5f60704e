"""The newest entries that this node has heard of: what the fan-out, whoever catches up, and every follower read from.

There is one window and many readers that remember only how far they are. So nobody has a queue of its own, and a reader that is
too far behind is told so instead of being kept in memory.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import NamedTuple

from lalert.model import Entry

Order = tuple[int, ...]
"""What makes two positions comparable (`AlertLog.order`)."""


class Mark(NamedTuple):
    """A place in the log: how it compares, and how it is called."""

    order: Order
    position: str


class Heard(NamedTuple):
    """An entry with its place."""

    mark: Mark
    entry: Entry


class Window:
    """Everything after `floor` up to `newest`, bounded in entries and in bytes of raw documents."""

    def __init__(self, newest: Mark, max_entries: int, max_bytes: int) -> None:
        self.floor = newest
        self.newest = newest
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._heard: deque[Heard] = deque()

    def __len__(self) -> int:
        return len(self._heard)

    def add(self, mark: Mark, entry: Entry) -> bool:
        """Hear of an entry; returns False, and changes nothing, if it is not after all others (it was heard of before)."""
        if mark.order <= self.newest.order:
            return False
        self._heard.append(Heard(mark, entry))
        self.newest = mark
        self._bytes += len(entry.alert.raw)
        # The newest stays even when it alone passes the bound: the fan-out must always find it here.
        while len(self._heard) > self._max_entries or (
            self._bytes > self._max_bytes and len(self._heard) > 1
        ):
            gone = self._heard.popleft()
            self.floor = gone.mark
            self._bytes -= len(gone.entry.alert.raw)
        return True

    def after(self, order: Order, limit: int) -> list[Heard] | None:
        """Return up to `limit` entries that follow, rising; None if some of them are no longer here."""
        if order < self.floor.order:
            return None
        start = bisect_right(self._heard, order, key=_order)
        return [self._heard[n] for n in range(start, min(start + limit, len(self._heard)))]


def _order(heard: Heard) -> Order:
    return heard.mark.order
