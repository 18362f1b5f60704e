"""Entries kept in memory: the newest without a gap, so that live replay needs no disk, and old ones that somebody asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from lalert.model import Entry


class Ring:
    """Every entry whose offset is above `floor`, up to bounds in number and in bytes of documents. For the loop's thread alone."""

    def __init__(self, entries: int, max_bytes: int, floor: int) -> None:
        self._max_entries = entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._offsets: list[int] = []
        self._entries: dict[int, tuple[str, Entry]] = {}
        self._ids: dict[str, int] = {}
        self._lineages: dict[int, tuple[int, ...]] = {}
        self.floor = floor

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def room(self) -> int:
        return self._max_entries - len(self._offsets)

    def add(self, offset: int, alert_id: str, entry: Entry, lineage: tuple[int, ...]) -> None:
        """Add the newest entry; the oldest make room."""
        self._offsets.append(offset)
        self._keep(offset, alert_id, entry)
        if lineage:
            self._lineages[offset] = lineage
        surplus = 0
        while len(self._offsets) - surplus > 1 and (
            len(self._offsets) - surplus > self._max_entries or self._bytes > self._max_bytes
        ):
            self.floor = self._offsets[surplus]
            self._drop(self.floor)
            surplus += 1
        del self._offsets[:surplus]

    def extend_back(self, older: Sequence[tuple[int, str, Entry]]) -> None:
        """Put entries before the oldest: they rise, end at the floor and leave out nothing. As many as there is room for stay."""
        for offset, alert_id, entry in reversed(older):
            if self.room <= 0 or self._bytes + len(entry.alert.raw) > self._max_bytes:
                return
            self._offsets.insert(0, offset)
            self._keep(offset, alert_id, entry)
            self.floor = offset - 1

    def get(self, offset: int) -> Entry | None:
        kept = self._entries.get(offset)
        return None if kept is None else kept[1]

    def find(self, alert_id: str) -> Entry | None:
        offset = self._ids.get(alert_id)
        return None if offset is None else self._entries[offset][1]

    def after(self, offset: int, limit: int) -> list[Entry]:
        """Return what follows `offset`, which is not below the floor."""
        start = bisect_right(self._offsets, offset)
        return [self._entries[o][1] for o in self._offsets[start : start + limit]]

    def latest(self, limit: int) -> list[Entry]:
        return [self._entries[o][1] for o in self._offsets[-limit:]]

    def lineage(self, offset: int) -> tuple[int, ...] | None:
        """Return the lineage that was worked out when the entry was appended; None where that is not known (any more)."""
        return self._lineages.get(offset)

    def forget(self, offsets: Iterable[int]) -> None:
        """Drop entries that are no longer kept, wherever they are named."""
        known = [offset for offset in offsets if offset in self._entries]
        for offset in known:
            self._drop(offset)
        if known:
            self._offsets = [offset for offset in self._offsets if offset in self._entries]
            self._lineages.clear()

    def forget_lineages(self) -> None:
        """Drop all lineages, after a late alert has joined chains anew."""
        self._lineages.clear()

    def _keep(self, offset: int, alert_id: str, entry: Entry) -> None:
        self._entries[offset] = (alert_id, entry)
        self._ids[alert_id] = offset
        self._bytes += len(entry.alert.raw)

    def _drop(self, offset: int) -> None:
        alert_id, entry = self._entries.pop(offset)
        del self._ids[alert_id]
        self._bytes -= len(entry.alert.raw)
        self._lineages.pop(offset, None)


class Old:
    """Entries from below the ring that were read lately, so that what is in force for long is not parsed for every question."""

    def __init__(self, entries: int, max_bytes: int) -> None:
        self._max_entries = entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[int, Entry] = OrderedDict()

    def get(self, offset: int) -> Entry | None:
        entry = self._entries.get(offset)
        if entry is not None:
            self._entries.move_to_end(offset)
        return entry

    def forget(self, offsets: Iterable[int]) -> None:
        """Drop entries that are no longer kept."""
        for offset in offsets:
            entry = self._entries.pop(offset, None)
            if entry is not None:
                self._bytes -= len(entry.alert.raw)

    def add(self, offset: int, entry: Entry) -> None:
        if offset in self._entries:
            return
        self._entries[offset] = entry
        self._bytes += len(entry.alert.raw)
        while self._bytes > self._max_bytes or len(self._entries) > self._max_entries:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= len(oldest.alert.raw)
