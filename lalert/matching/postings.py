"""What an index keeps of filters: rows that come as they come, and the same rows sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

from lalert.matching import curve
from lalert.matching.columns import Column, Flags, Floats, Numbers, Places, stretches
from lalert.matching.drawn import Drawn
from lalert.matching.surfaces import Surfaces, boxes_of

Ids = npt.NDArray[np.int32]

T = TypeVar("T", bound=np.generic)

_SIZES: Final = 360 / 4.0 ** np.arange(8, -1, -1)
"""Degrees: a surface is searched for among those of its size, which lie no further from what they meet than that."""

_FEW_SPOTS: Final = 2_048
"""Positions around what is drawn that cost no more to look at one by one than to be searched."""

_FEW_SURFACES: Final = 16_384
"""Surfaces of one size around what is drawn whose boxes cost no more to look at one by one than to be searched."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which filters are meant: by the ids of codes and leaves, and by what is drawn. `wanted` says of each number whether it matters."""

    codes: Ids
    leaves: Ids
    drawn: Drawn | None
    wanted: Callable[[Numbers], Flags]


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns. The same number may stand in several rows of each kind: one for each code, leaf, position and surface of a filter."""

    codes: Ids
    code_numbers: Numbers
    leaves: Ids
    leaf_numbers: Numbers
    anywhere: Numbers
    spots: Floats
    spot_numbers: Numbers
    surfaces: Surfaces
    surface_numbers: Numbers

    def find(self, question: Question) -> Iterator[Numbers]:
        """Yield the numbers of all that are meant, looking at every row; those found by code or leaf are not asked whether they matter."""
        yield self.anywhere
        if len(self.codes) and len(question.codes):
            yield self.code_numbers[np.isin(self.codes, question.codes)]
        if len(self.leaves) and len(question.leaves):
            yield self.leaf_numbers[np.isin(self.leaves, question.leaves)]
        if question.drawn is not None and len(self.spots):
            yield self.spot_numbers[question.drawn.has(self.spots)]
        if question.drawn is not None and len(self.surface_numbers):
            which = np.flatnonzero(question.drawn.may_meet(self.surfaces.boxes))
            which = which[question.wanted(self.surface_numbers[which])]
            yield self.surface_numbers[self.surfaces.meeting(which, question.drawn)]

    def numbers(self) -> tuple[Numbers, ...]:
        """Return the columns of numbers."""
        return self.code_numbers, self.leaf_numbers, self.anywhere, self.spot_numbers, self.surface_numbers

    def shaped(self) -> Numbers:
        """Return the numbers that have a position or surface."""
        return np.concatenate((self.spot_numbers, self.surface_numbers))


class Overlay:
    """Rows as they come."""

    def __init__(self) -> None:
        self._codes = Column(np.int32)
        self._code_numbers = Column(np.int32)
        self._leaves = Column(np.int32)
        self._leaf_numbers = Column(np.int32)
        self._anywhere = Column(np.int32)
        self._spots = Column(np.float64, 2)
        self._spot_numbers = Column(np.int32)
        self._corners = Column(np.float64, 2)
        self._starts = Column(np.int64)
        self._lengths = Column(np.int32)
        self._boxes = Column(np.float32, 4)
        self._span_starts = Column(np.int32)
        self._span_boxes = Column(np.float32, 4)
        self._surface_numbers = Column(np.int32)

    def add_code(self, code: int, number: int) -> None:
        self._codes.add(code)
        self._code_numbers.add(number)

    def add_leaves(self, leaves: Sequence[int], number: int) -> None:
        self._leaves.extend(leaves)
        self._leaf_numbers.extend([number] * len(leaves))

    def add_anywhere(self, number: int) -> None:
        self._anywhere.add(number)

    def add_spot(self, lon: float, lat: float, number: int) -> None:
        self._spots.add((lon, lat))
        self._spot_numbers.add(number)

    def add_surface(self, corners: Floats, number: int) -> None:
        spans = boxes_of(corners)
        self._starts.add(len(self._corners.view))
        self._lengths.add(len(corners))
        self._boxes.add((*spans[:, :2].min(axis=0), *spans[:, 2:].max(axis=0)))
        self._span_starts.add(len(self._span_boxes.view))
        self._span_boxes.extend(spans)
        self._corners.extend(corners)
        self._surface_numbers.add(number)

    def rows(self) -> Rows:
        """Return everything as it is now; what is added later does not show."""
        return Rows(
            self._codes.view,
            self._code_numbers.view,
            self._leaves.view,
            self._leaf_numbers.view,
            self._anywhere.view,
            self._spots.view,
            self._spot_numbers.view,
            Surfaces(
                self._corners.view,
                self._starts.view,
                self._lengths.view,
                self._boxes.view,
                self._span_starts.view,
                self._span_boxes.view,
            ),
            self._surface_numbers.view,
        )

    def after(self, rows: Rows) -> Overlay:
        """Return what came after `rows` was taken."""
        later = Overlay()
        later._codes = self._codes.after(len(rows.codes))
        later._code_numbers = self._code_numbers.after(len(rows.code_numbers))
        later._leaves = self._leaves.after(len(rows.leaves))
        later._leaf_numbers = self._leaf_numbers.after(len(rows.leaf_numbers))
        later._anywhere = self._anywhere.after(len(rows.anywhere))
        later._spots = self._spots.after(len(rows.spots))
        later._spot_numbers = self._spot_numbers.after(len(rows.spot_numbers))
        corners = len(rows.surfaces.corners)
        later._corners = self._corners.after(corners)
        later._starts = self._starts.after(len(rows.surfaces.starts))
        later._starts.view[:] -= corners
        later._lengths = self._lengths.after(len(rows.surfaces.lengths))
        later._boxes = self._boxes.after(len(rows.surfaces.boxes))
        spans = len(rows.surfaces.span_boxes)
        later._span_starts = self._span_starts.after(len(rows.surfaces.span_starts))
        later._span_starts.view[:] -= spans
        later._span_boxes = self._span_boxes.after(spans)
        later._surface_numbers = self._surface_numbers.after(len(rows.surface_numbers))
        return later


@dataclass(frozen=True, slots=True)
class Base:
    """Rows sorted: by code, by leaf, positions along the curve, surfaces by size and then along the curve. Nothing in it ever changes."""

    rows: Rows
    code_starts: Places
    leaf_starts: Places
    spot_keys: curve.Keys
    surface_keys: curve.Keys
    sizes: Places

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """Sort rows."""
        by_code = np.lexsort((rows.code_numbers, rows.codes))
        by_leaf = np.lexsort((rows.leaf_numbers, rows.leaves))
        spot_keys = curve.keys_of(rows.spots)
        by_spot = np.argsort(spot_keys, kind="stable")
        surfaces = rows.surfaces
        boxes = surfaces.boxes.astype(np.float64)
        extents = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
        sizes = np.searchsorted(_SIZES, extents)
        surface_keys = curve.ranked(curve.keys_of(surfaces.corners[surfaces.starts]), sizes)
        by_surface = np.argsort(surface_keys, kind="stable")
        return cls(
            Rows(
                rows.codes[:0].copy(),
                rows.code_numbers[by_code],
                rows.leaves[:0].copy(),
                rows.leaf_numbers[by_leaf],
                rows.anywhere.copy(),
                rows.spots[by_spot],
                rows.spot_numbers[by_spot],
                surfaces.taken(by_surface),
                rows.surface_numbers[by_surface],
            ),
            _starts(rows.codes),
            _starts(rows.leaves),
            spot_keys[by_spot],
            surface_keys[by_surface],
            np.unique(sizes),
        )

    def find(self, question: Question) -> Iterator[Numbers]:
        """Yield the numbers of all that are meant; those found by code or leaf are not asked whether they matter."""
        yield self.rows.anywhere
        yield _listed(self.rows.code_numbers, self.code_starts, question.codes)
        yield _listed(self.rows.leaf_numbers, self.leaf_starts, question.leaves)
        if question.drawn is not None and len(self.spot_keys):
            yield from self._spots(question.drawn)
        if question.drawn is not None and len(self.surface_keys):
            yield from self._surfaces(question.drawn, question.wanted)

    def _spots(self, drawn: Drawn) -> Iterator[Numbers]:
        starts, held = curve.around(self.spot_keys, np.zeros(1, np.int64), drawn.box, np.zeros(1))
        if held.sum() > _FEW_SPOTS:
            found = curve.search(self.spot_keys, drawn)
            yield self.rows.spot_numbers[found.inside]
            which = found.border
        else:
            which = stretches(starts[0], held[0])
        yield self.rows.spot_numbers[which[drawn.has(self.rows.spots.take(which, axis=0))]]

    def _surfaces(self, drawn: Drawn, wanted: Callable[[Numbers], Flags]) -> Iterator[Numbers]:
        numbers = self.rows.surface_numbers
        in_doubt: list[Places] = []
        starts, held = curve.around(self.surface_keys, self.sizes, drawn.box, _SIZES[self.sizes])
        many = held.sum(axis=1) > _FEW_SURFACES
        for size in self.sizes[many].tolist():
            found = curve.search(self.surface_keys, drawn, _SIZES[size], size)
            yield numbers[found.inside]
            in_doubt.append(found.border)
        in_doubt.append(stretches(starts[~many].reshape(-1), held[~many].reshape(-1)))
        which = np.concatenate(in_doubt)
        which = which[drawn.may_meet(self.rows.surfaces.boxes.take(which, axis=0))]
        which = which[wanted(numbers[which])]
        yield numbers[self.rows.surfaces.meeting(which, drawn)]

    def with_rows(self, rows: Rows, alive: Flags) -> Base:
        """Return a base of all rows of this one and of `rows` whose numbers are alive."""
        mine = self.rows
        return Base.of(
            _joined(
                Rows(
                    np.repeat(
                        np.arange(len(self.code_starts) - 1, dtype=np.int32), np.diff(self.code_starts)
                    ),
                    mine.code_numbers,
                    np.repeat(
                        np.arange(len(self.leaf_starts) - 1, dtype=np.int32), np.diff(self.leaf_starts)
                    ),
                    mine.leaf_numbers,
                    mine.anywhere,
                    mine.spots,
                    mine.spot_numbers,
                    mine.surfaces,
                    mine.surface_numbers,
                ),
                rows,
                alive,
            )
        )


def _joined(one: Rows, other: Rows, alive: Flags) -> Rows:
    """Return the living rows of both; of dead surfaces the corners stay until they are sorted."""

    def both(mine: npt.NDArray[T], theirs: npt.NDArray[T], keep: Flags) -> npt.NDArray[T]:
        return np.concatenate((mine, theirs))[keep]

    def living(mine: Numbers, theirs: Numbers) -> Flags:
        return alive[np.concatenate((mine, theirs))]

    codes = living(one.code_numbers, other.code_numbers)
    leaves = living(one.leaf_numbers, other.leaf_numbers)
    anywhere = living(one.anywhere, other.anywhere)
    spots = living(one.spot_numbers, other.spot_numbers)
    surfaces = living(one.surface_numbers, other.surface_numbers)
    return Rows(
        both(one.codes, other.codes, codes),
        both(one.code_numbers, other.code_numbers, codes),
        both(one.leaves, other.leaves, leaves),
        both(one.leaf_numbers, other.leaf_numbers, leaves),
        both(one.anywhere, other.anywhere, anywhere),
        both(one.spots, other.spots, spots),
        both(one.spot_numbers, other.spot_numbers, spots),
        Surfaces(
            np.concatenate((one.surfaces.corners, other.surfaces.corners)),
            both(one.surfaces.starts, other.surfaces.starts + len(one.surfaces.corners), surfaces),
            both(one.surfaces.lengths, other.surfaces.lengths, surfaces),
            both(one.surfaces.boxes, other.surfaces.boxes, surfaces),
            both(
                one.surfaces.span_starts,
                other.surfaces.span_starts + np.int32(len(one.surfaces.span_boxes)),
                surfaces,
            ),
            np.concatenate((one.surfaces.span_boxes, other.surfaces.span_boxes)),
        ),
        both(one.surface_numbers, other.surface_numbers, surfaces),
    )


def _starts(ids: Ids) -> Places:
    """Return where each id's numbers begin among the sorted ones, and where the last one's end."""
    starts: Places = np.concatenate(([0], np.cumsum(np.bincount(ids)))).astype(np.intp)
    return starts


def _listed(numbers: Numbers, starts: Places, ids: Ids) -> Numbers:
    ids = ids[ids < len(starts) - 1]
    if not len(ids):
        return numbers[:0]
    if len(ids) == 1:
        return numbers[starts[ids[0]] : starts[ids[0] + 1]]
    return numbers[stretches(starts[ids], starts[ids + 1] - starts[ids])]
