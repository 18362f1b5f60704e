"""Finds the filters that want an entry at a cost that grows with those it may concern, not with those there are.

What was there at the last rebuild lies sorted in a base that never changes; what came since, in a small overlay that is looked through
whole; what went is only marked. Whoever owns an index makes it a new base aside, now and then (docs/matching.md).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from itertools import chain
from math import isfinite
from typing import TYPE_CHECKING, Final

import numpy as np
import shapely
from shapely.errors import GEOSException

from lalert.errors import InvalidGeometry
from lalert.geo import Gazetteer
from lalert.matching.columns import Column, Flags, Numbers
from lalert.matching.drawn import Drawn
from lalert.matching.postings import Base, Ids, Overlay, Question, Rows
from lalert.matching.rules import Voice, has_attributes, hears, surfaces_of, voices
from lalert.matching.surfaces import corners_of
from lalert.model import Entry, Filter

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_LEAST: Final = 2_048
_SHARE: Final = 1 / 8
"""So many filters, and this share of all, may come or go before a new base is due: looking through them costs some 0.1 ms."""

_AT_ONCE: Final = 16
"""Positions and surfaces whose municipalities are looked up together: a few at once cost little more than one."""

_GONE: Final = -1

Renewal = Callable[[], Callable[[], None]]
"""Makes something aside and returns what puts it to use."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An index as it was at one moment. Reading it is safe while the index goes on, also in another thread."""

    base: Base
    rows: Rows
    alive: Flags
    fresh: int
    dead: int

    def rebuilt(self) -> Base:
        """Return a base of everything: about a second's work for a million filters."""
        return self.base.with_rows(self.rows, self.alive)


class FilterIndex:
    """Answers exactly as `wants` asked of every filter would. Equal filters are one, with one number.

    The number of a filter is a small one, and is given to another only after this filter was discarded and a base was made without it. Of a
    filter the index keeps no more than what finding it takes.
    """

    def __init__(self, gazetteer: Gazetteer | None = None) -> None:
        self._gazetteer = gazetteer
        self._numbers: dict[bytes, int] = {}
        self._wishes = _Wishes()
        self._wish = Column(np.int32)
        self._ids: dict[str, int] = {}
        self._base = Base.of(Overlay().rows())
        self._overlay = Overlay()
        self._unplaced: list[tuple[int, BaseGeometry | tuple[float, float]]] = []
        self._fresh = 0
        self._dead: list[int] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, filter: Filter) -> bool:
        return self.number(filter) is not None

    def number(self, filter: Filter) -> int | None:
        """Return the number of a filter, or None if it is not there."""
        wish = self._wishes.find(_wish(filter))
        return None if wish is None else self._numbers.get(_digest(filter, wish))

    def add(self, filter: Filter) -> int:
        """Take a filter in and return its number; once more changes nothing. Raises InvalidGeometry for one that `parse_filter` would have refused."""
        asked = _wish(filter)
        wish = self._wishes.find(asked)
        digest = None if wish is None else _digest(filter, wish)
        if digest is not None and (known := self._numbers.get(digest)) is not None:
            return known
        spots, surfaces = _shapes(filter)
        if len(self._unplaced) >= _AT_ONCE:
            # First: whatever is wrong here, this filter is then not half taken in.
            self._place()
        wish = self._wishes.take(asked)
        number = self._new_number(wish)
        self._numbers[digest or _digest(filter, wish)] = number
        self._fresh += 1
        if filter.anywhere:
            self._overlay.add_anywhere(number)
        for code in filter.areas:
            self._overlay.add_code(self._id(code), number)
        for lon, lat in spots:
            self._overlay.add_spot(lon, lat, number)
        for surface in surfaces:
            self._overlay.add_surface(corners_of(surface), number)
        if self._gazetteer is not None:
            if len(spots) == 1:
                self._unplaced.append((number, spots[0]))
            elif spots:
                self._unplaced.append((number, shapely.MultiPoint(spots)))
            self._unplaced += [(number, surface) for surface in surfaces]
        return number

    def discard(self, filter: Filter) -> None:
        """Forget a filter, if it is there."""
        wish = self._wishes.find(_wish(filter))
        number = None if wish is None else self._numbers.pop(_digest(filter, wish), None)
        if wish is None or number is None:
            return
        self._wishes.drop(wish)
        self._wish.view[number] = _GONE
        self._dead.append(number)

    def match(self, entry: Entry, lineage: Sequence[Entry] = ()) -> Numbers:
        """Return the numbers of the filters that want an entry, rising; `lineage` as for `wants`."""
        self._place()
        found: list[Numbers] = []
        for voice in voices(entry, lineage, self._gazetteer):
            wanted = _Judge(self._wish.view, self._wishes.filters, (entry, voice.entry))
            meant = _distinct([*self._find(voice, wanted)], len(self._wish.view))
            found.append(meant[wanted(meant)])
        return found[0] if len(found) == 1 else _distinct(found, len(self._wish.view))

    @property
    def due(self) -> bool:
        """Say whether so much has come and gone that a new base is worth making."""
        return self._fresh + len(self._dead) > max(_LEAST, _SHARE * len(self._numbers))

    def snapshot(self) -> Snapshot:
        """Return what a new base is made from. One at a time: the next only after the base of this one was adopted, or given up."""
        self._place()
        return Snapshot(
            self._base, self._overlay.rows(), self._wish.view != _GONE, self._fresh, len(self._dead)
        )

    def adopt(self, snapshot: Snapshot, base: Base) -> None:
        """Go on with the base that was made from a snapshot, and with what has come and gone since."""
        self._place()
        self._base = base
        self._overlay = self._overlay.after(snapshot.rows)
        self._free += self._dead[: snapshot.dead]
        self._dead = self._dead[snapshot.dead :]
        self._fresh -= snapshot.fresh

    def renewal(self) -> Renewal | None:
        """Return what makes a new base, if one is due: to be called in a thread; what it returns is then called where the index is used."""
        if not self.due:
            return None
        snapshot = self.snapshot()

        def make() -> Callable[[], None]:
            return partial(self.adopt, snapshot, snapshot.rebuilt())

        return make

    def _new_number(self, wish: int) -> int:
        if self._free:
            number = self._free.pop()
            self._wish.view[number] = wish
            return number
        self._wish.add(wish)
        return len(self._wish.view) - 1

    def _id(self, code: str) -> int:
        return self._ids.setdefault(code, len(self._ids))

    def _place(self) -> None:
        """Look up in which municipalities the latest positions and surfaces are."""
        if not self._unplaced or self._gazetteer is None:
            return
        numbers, places = zip(*self._unplaced, strict=True)
        # Many points at once are made much more quickly than each by itself.
        spots = np.array([place for place in places if isinstance(place, tuple)], dtype=np.float64)
        points = iter(shapely.points(spots.reshape(-1, 2)).tolist())
        shapes = [next(points) if isinstance(place, tuple) else place for place in places]
        found = _leaves_meeting(shapes, self._gazetteer)
        self._unplaced = []
        for number, leaves in zip(numbers, found, strict=True):
            self._overlay.add_leaves([self._id(leaf) for leaf in leaves], number)

    def _find(self, voice: Voice, wanted: _Judge) -> Iterable[Numbers]:
        facts = voice.entry.facts
        if facts.nowhere and not facts.codes:
            return (np.arange(len(self._wish.view), dtype=np.int32),)
        question = Question(
            self._known(facts.reach),
            self._known(voice.ground),
            None if facts.drawn is None else Drawn.of(facts.drawn),
            wanted,
        )
        rows = self._overlay.rows()
        found = chain(self._base.find(question), rows.find(question))
        if (facts.nowhere and not voice.ground) or (voice.ground and self._gazetteer is None):
            # It cannot be told from a position who is meant, so nobody is left out.
            return chain(found, (self._base.rows.shaped(), rows.shaped()))
        return found

    def _known(self, codes: Iterable[str]) -> Ids:
        return np.array([id for code in codes if (id := self._ids.get(code)) is not None], dtype=np.int32)


class _Judge:
    """Says of numbers whether what they wish besides a place is met, asking about each wish once; of a number that is gone it is not.

    All the entries must be heard, and the last one have the attributes.
    """

    def __init__(self, wish: Ids, filters: Sequence[Filter | None], entries: Sequence[Entry]) -> None:
        self._wish = wish
        self._filters = filters
        self._entries = entries
        # One more, for the wish of a number that is gone.
        self._answers = np.full(len(filters) + 1, _UNASKED, dtype=np.int8)
        self._answers[_GONE] = False

    def __call__(self, numbers: Numbers) -> Flags:
        wishes = self._wish[numbers]
        unasked = wishes[self._answers[wishes] == _UNASKED]
        for wish in set(unasked.tolist()):
            self._answers[wish] = self._is_met(self._filters[wish])
        met: Flags = self._answers[wishes].astype(bool)
        return met

    def _is_met(self, wish: Filter | None) -> bool:
        return (
            wish is not None
            and all(hears(wish, entry) for entry in self._entries)
            and has_attributes(wish, self._entries[-1])
        )


_UNASKED: Final = 2


class _Wishes:
    """What filters ask for besides a place, each once: a filter without places, by a number that lives as long as somebody has it."""

    def __init__(self) -> None:
        self.filters: list[Filter | None] = []
        self._numbers: dict[Filter, int] = {}
        self._held: list[int] = []
        self._free: list[int] = []

    def find(self, wish: Filter) -> int | None:
        return self._numbers.get(wish)

    def take(self, wish: Filter) -> int:
        number = self._numbers.get(wish)
        if number is None:
            if self._free:
                number = self._free.pop()
                self.filters[number] = wish
            else:
                number = len(self.filters)
                self.filters.append(wish)
                self._held.append(0)
            self._numbers[wish] = number
        self._held[number] += 1
        return number

    def drop(self, number: int) -> None:
        self._held[number] -= 1
        wish = self.filters[number]
        if not self._held[number] and wish is not None:
            del self._numbers[wish]
            self.filters[number] = None
            self._free.append(number)


def _wish(filter: Filter) -> Filter:
    return replace(filter, areas=frozenset(), points=(), polygon=None, bbox=None)


def _digest(filter: Filter, wish: int) -> bytes:
    """Return what equal filters have in common, and others do not."""
    positions = [*filter.points, *(filter.polygon or ())]
    # Of a filter with -0.0 for 0.0 this is the same, as the filters are equal.
    numbers = array("d", [number + 0.0 for number in (*chain.from_iterable(positions), *(filter.bbox or ()))])
    text = f"{wish} {len(filter.points)} {len(filter.bbox or ())} {' '.join(sorted(filter.areas))}"
    return blake2b(text.encode() + b"\0" + numbers.tobytes(), digest_size=16).digest()


def _leaves_meeting(shapes: Sequence[BaseGeometry], gazetteer: Gazetteer) -> list[frozenset[str]]:
    """Return for each shape the leaves that it meets; for one that GEOS cannot judge, those that its bounds meet, so that it finds too much and not too little."""
    try:
        return gazetteer.leaves_meeting(shapes)
    except GEOSException:
        if len(shapes) > 1:
            return [*chain.from_iterable(_leaves_meeting([shape], gazetteer) for shape in shapes)]
        return gazetteer.leaves_meeting([shapely.box(*shapes[0].bounds)])


def _shapes(filter: Filter) -> tuple[list[tuple[float, float]], list[BaseGeometry]]:
    """Return the positions and the surfaces of a filter; raises InvalidGeometry for what has no finite numbers."""
    spots = list(filter.points)
    if not all(isfinite(lon) and isfinite(lat) for lon, lat in spots):
        raise InvalidGeometry("a point of the filter is not a finite number")
    surfaces: list[BaseGeometry] = []
    for shape in surfaces_of(filter.polygon, filter.bbox):
        for part in shapely.get_parts(shapely.get_parts(shape)).tolist():
            if shapely.get_dimensions(part):
                surfaces.append(part)
            else:
                spots.append((part.x, part.y))
    return spots, surfaces


def _distinct(found: Sequence[Numbers], bound: int) -> Numbers:
    """Return each number once, rising; all are below the bound."""
    numbers = np.concatenate((np.empty(0, np.int32), *found))
    if len(numbers) > _SHARE * bound:
        flags = np.zeros(bound, dtype=bool)
        flags[numbers] = True
        return np.flatnonzero(flags).astype(np.int32)
    # Quicker than numpy's `unique` at these sizes.
    numbers.sort()
    return numbers[np.diff(numbers, prepend=-1) > 0]
