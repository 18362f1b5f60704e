"""What was made of an entry, kept for the next who asks the same, within bounds."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from lalert.model import Entry

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class _Item(Generic[_Value]):
    entry: Entry
    value: _Value
    size: int


class Kept(Generic[_Value]):
    """The values that were last asked for; for all threads. Of an entry its document counts as well: it stays as long as what was made of it."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._items: OrderedDict[Hashable, _Item[_Value]] = OrderedDict()
        self.bytes = 0
        """How much is kept."""
        self._lock = threading.Lock()

    def get(self, key: Hashable, entry: Entry) -> _Value | None:
        """Return what was kept for this very entry: positions are unique within one store, but a process may hold several."""
        with self._lock:
            item = self._items.get(key)
            if item is None or item.entry is not entry:
                return None
            self._items.move_to_end(key)
            return item.value

    def put(self, key: Hashable, entry: Entry, value: _Value, size: int) -> None:
        """Keep a value of `size` bytes, in place of any other for the key."""
        new = _Item(entry, value, size + len(entry.alert.raw))
        with self._lock:
            old = self._items.pop(key, None)
            self._items[key] = new
            self.bytes += new.size - (old.size if old else 0)
            while self.bytes > self._max_bytes or len(self._items) > self._max_entries:
                self.bytes -= self._items.popitem(last=False)[1].size
