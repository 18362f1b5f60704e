"""Lanes by what they want: for each alert, those whose filters may want it are found, and not all of them asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import structlog

from lalert.dispatch.lanes import Lane
from lalert.errors import InvalidGeometry
from lalert.model import Entry, Filter

log = structlog.get_logger("lalert.dispatch")

FORGOTTEN_AT_ONCE: Final = 200
"""Filters that nobody has any more and that are forgotten in one go: about 2 ms."""


class Index(Protocol):
    """Finds the filters that want an entry (`matching.FilterIndex`)."""

    def add(self, filter: Filter) -> int: ...

    def discard(self, filter: Filter) -> object: ...

    def match(self, entry: Entry, lineage: Sequence[Entry]) -> npt.NDArray[np.int32]: ...

    def renewal(self) -> Callable[[], Callable[[], None]] | None: ...


class Groups:
    """Lanes by filter. Without an index, and for a filter that the index refuses, each filter has to be asked."""

    def __init__(self, index: Index | None = None) -> None:
        self._index = index
        self._lanes: dict[Filter, dict[str, Lane]] = {}
        self._numbers: dict[Filter, int] = {}
        self._filters: dict[int, Filter] = {}
        self._asked: dict[Filter, None] = {}
        self._left: deque[Filter] = deque()

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def join(self, lane: Lane) -> None:
        """Take a lane in."""
        filter = lane.subscription.filter
        if filter not in self._lanes:
            self._lanes[filter] = {}
            self._take(filter)
        self._lanes[filter][lane.id] = lane

    def leave(self, lane: Lane) -> None:
        """Take a lane out, if it is there."""
        filter = lane.subscription.filter
        group = self._lanes.get(filter)
        if group is not None and group.pop(lane.id, None) is not None and not group:
            self._forget(filter)

    def leave_lost(self) -> None:
        """Take out all lanes that are lost, in one step; the filters that only they had are forgotten by and by."""
        for filter, group in self._lanes.items():
            kept = {id: lane for id, lane in group.items() if not lane.lost}
            if len(kept) < len(group):
                self._lanes[filter] = kept
                if not kept:
                    self._left.append(filter)

    def lanes(self, filter: Filter) -> Sequence[Lane]:
        """Return the lanes of a filter."""
        return list(self._lanes.get(filter, {}).values())

    def candidates(self, entry: Entry, lineage: Sequence[Entry]) -> Mapping[Filter, bool]:
        """Return the filters that want an entry, with True, and those that have to be asked whether they do, with False."""
        if self._index is None:
            return dict.fromkeys(self._lanes, False)
        try:
            numbers = self._index.match(entry, lineage).tolist()
        except Exception:
            log.exception("an alert cannot be matched; every filter is asked", position=entry.position)
            return dict.fromkeys(self._lanes, False)
        found = [self._filters[number] for number in numbers]
        # The gate for drills stands here too, so that no defect in matching can send one to somebody who did not ask for it.
        wanted = dict.fromkeys((one for one in found if entry.alert.status in one.statuses), True)
        return wanted | dict.fromkeys(self._asked, False)

    async def renew(self) -> None:
        """Forget filters that nobody has any more, and have the index made anew aside if many have come and gone."""
        for _ in range(min(FORGOTTEN_AT_ONCE, len(self._left))):
            filter = self._left.popleft()
            if self._lanes.get(filter) == {}:
                self._forget(filter)
        make = self._index.renewal() if self._index is not None else None
        if make is not None:
            adopt = await asyncio.to_thread(make)
            adopt()

    def _take(self, filter: Filter) -> None:
        try:
            number = self._index.add(filter) if self._index is not None else None
        except InvalidGeometry:
            number = None
        except Exception:
            log.exception("a filter cannot be indexed; it is asked about each alert")
            number = None
        if number is None:
            self._asked[filter] = None
        else:
            self._numbers[filter] = number
            self._filters[number] = filter

    def _forget(self, filter: Filter) -> None:
        del self._lanes[filter]
        self._asked.pop(filter, None)
        number = self._numbers.pop(filter, None)
        if number is not None and self._index is not None:
            del self._filters[number]
            self._index.discard(filter)
