"""Finds the filters that want an entry at a cost that grows with those it may concern, not with those there are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import numpy.typing as npt
import shapely

from lalert.geo import Gazetteer
from lalert.matching.rules import Places, Voice, is_wanted, places_of, voices
from lalert.model import Entry, Filter

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

K = TypeVar("K")
Cell = tuple[int, int]


class FilterIndex:
    """Answers exactly as `wants` asked of every filter would. Equal filters are one; adding or discarding one touches only its own places.

    Codes are looked up by hash, positions and surfaces by the cells of a grid; `wants` then decides on what was found.
    """

    def __init__(self, gazetteer: Gazetteer | None = None) -> None:
        self._gazetteer = gazetteer
        self._numbers: dict[Filter, int] = {}
        self._filters: dict[int, tuple[Filter, Places]] = {}
        self._next = 0
        self._anywhere: set[int] = set()
        self._by_code: dict[str, set[int]] = {}
        self._by_leaf: dict[str, set[int]] = {}
        self._shaped: set[int] = set()
        self._grid = _Grid()

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, filter: Filter) -> bool:
        return filter in self._numbers

    def add(self, filter: Filter) -> None:
        """Take a filter in; once more changes nothing. Raises InvalidGeometry for one that `parse_filter` would have refused."""
        if filter in self._numbers:
            return
        places = places_of(filter, self._gazetteer)
        number, self._next = self._next, self._next + 1
        self._numbers[filter] = number
        self._filters[number] = (filter, places)
        if filter.anywhere:
            self._anywhere.add(number)
        for code in filter.areas:
            self._by_code.setdefault(code, set()).add(number)
        if places.shapes:
            self._shaped.add(number)
            self._grid.add(number, places.shapes)
        for leaf in places.leaves or ():
            self._by_leaf.setdefault(leaf, set()).add(number)

    def discard(self, filter: Filter) -> None:
        """Forget a filter, if it is there."""
        number = self._numbers.pop(filter, None)
        if number is None:
            return
        _, places = self._filters.pop(number)
        self._anywhere.discard(number)
        for code in filter.areas:
            _discard(self._by_code, code, number)
        if places.shapes:
            self._shaped.discard(number)
            self._grid.discard(number, places.shapes)
        for leaf in places.leaves or ():
            _discard(self._by_leaf, leaf, number)

    def match(self, entry: Entry, lineage: Sequence[Entry] = ()) -> set[Filter]:
        """Return the filters that want an entry; `lineage` as for `wants`."""
        speaking = voices(entry, lineage, self._gazetteer)
        candidates: set[int] = set()
        for voice in speaking:
            candidates |= self._candidates(voice)
        found = (self._filters[number] for number in candidates)
        return {wanted for wanted, places in found if is_wanted(wanted, places, entry, speaking)}

    def _candidates(self, voice: Voice) -> set[int]:
        facts = voice.entry.facts
        if facts.nowhere and not facts.codes:
            return set(self._filters)
        numbers = set(self._anywhere)
        for code in (
            facts.reach if len(facts.reach) < len(self._by_code) else self._by_code.keys() & facts.reach
        ):
            numbers |= self._by_code.get(code, _NONE)
        for leaf in voice.ground:
            numbers |= self._by_leaf.get(leaf, _NONE)
        if facts.drawn is not None:
            numbers |= self._grid.near(facts.drawn)
        if (facts.nowhere and not voice.ground) or (voice.ground and self._gazetteer is None):
            numbers |= self._shaped
        return numbers


class _Grid:
    """Numbers by the cells that their bounds cover: a small place in small cells, a large one in cells of its own size, at most four of them."""

    SMALLEST: Final = 1 / 16
    """Degrees, about 6 km: a point's cell holds the subscribers of a part of a town."""

    def __init__(self) -> None:
        self._levels: dict[int, dict[Cell, set[int]]] = {}

    def add(self, number: int, shapes: Iterable[BaseGeometry]) -> None:
        for level, cell in self._cells(shapes):
            self._levels.setdefault(level, {}).setdefault(cell, set()).add(number)

    def discard(self, number: int, shapes: Iterable[BaseGeometry]) -> None:
        for level, cell in self._cells(shapes):
            if level in self._levels:
                _discard(self._levels[level], cell, number)
                if not self._levels[level]:
                    del self._levels[level]

    def near(self, geometry: BaseGeometry) -> set[int]:
        """Return every number whose bounds meet those of a part of the geometry, and some others."""
        numbers: set[int] = set()
        bounds = shapely.bounds(_parts(geometry))
        for level, cells in self._levels.items():
            ranges = np.unique(np.floor(bounds / (self.SMALLEST * 2**level)).astype(np.int64), axis=0)
            spans = ranges[:, 2:] - ranges[:, :2] + 1
            if spans.prod(axis=1).sum() <= len(cells):
                hit: Iterable[Cell] = {cell for span in ranges.tolist() for cell in _cells_in(*span)}
            else:
                west, south = ranges[:, :2].min(axis=0).tolist()
                east, north = ranges[:, 2:].max(axis=0).tolist()
                hit = [cell for cell in cells if west <= cell[0] <= east and south <= cell[1] <= north]
            for cell in hit:
                numbers |= cells.get(cell, _NONE)
        return numbers

    def _cells(self, shapes: Iterable[BaseGeometry]) -> Iterator[tuple[int, Cell]]:
        for shape in shapes:
            for west, south, east, north in shapely.bounds(_parts(shape)).tolist():
                size = max(east - west, north - south)
                level = max(0, math.ceil(math.log2(size / self.SMALLEST))) if size else 0
                width = self.SMALLEST * 2**level
                span = [math.floor(bound / width) for bound in (west, south, east, north)]
                for cell in _cells_in(*span):
                    yield level, cell


_NONE: Final[frozenset[int]] = frozenset()


def _cells_in(west: int, south: int, east: int, north: int) -> Iterator[Cell]:
    for x in range(west, east + 1):
        for y in range(south, north + 1):
            yield x, y


def _parts(geometry: BaseGeometry) -> npt.NDArray[np.object_]:
    """Return the single points, lines and polygons: a territory of islands has bounds that are mostly sea."""
    parts: npt.NDArray[np.object_] = shapely.get_parts(shapely.get_parts(geometry))
    return parts


def _discard(buckets: dict[K, set[int]], key: K, number: int) -> None:
    bucket = buckets.get(key)
    if bucket is not None:
        bucket.discard(number)
        if not bucket:
            del buckets[key]
