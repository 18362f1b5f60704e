"""A coarse picture of what an alert has drawn: cells that its border runs through, cells within and cells without.

Most corners, edges and boxes of many surfaces are settled by looking at cells; only what lies near the border needs geometry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from lalert.matching.columns import Flags, Floats, Places, stretches
from lalert.matching.drawn import Drawn

_HAIR: Final = 1e-6
"""Of a cell: how much wider a piece of the border is taken to be, far more than rounding does to it."""

_LEAST_EXTENT: Final = 1e-6
"""Degrees."""

OUTSIDE: Final = 0
INSIDE: Final = 1
BORDER: Final = 2

States = npt.NDArray[np.int8]
Cells = npt.NDArray[np.int32]
"""A row each of column and row; what lies outside of the picture, or is NaN, is in its frame, which is OUTSIDE."""


@dataclass(frozen=True, slots=True)
class Raster:
    """The box around what is drawn, in rows and columns of cells with a frame around.

    `touched` counts, from the south-western corner on, the cells that are not outside, `bordered` those of the border.
    """

    origin: Floats
    scale: Floats
    states: States
    touched: npt.NDArray[np.int32]
    bordered: npt.NDArray[np.int32]

    @classmethod
    def of(cls, drawn: Drawn, cells: int) -> Self:
        """Draw the picture with so many rows and columns."""
        extent = np.maximum(drawn.box[2:] - drawn.box[:2], _LEAST_EXTENT)
        # A little wider than the box, so that no border lies on the edge of the picture.
        origin = drawn.box[:2] - extent * _HAIR
        scale = cells / (extent * (1 + 2 * _HAIR))
        states = np.zeros((cells, cells), dtype=np.int8)
        states[_crossed(drawn, origin, scale, cells)] = BORDER
        _fill(states, drawn, origin, scale)
        framed = np.pad(states, 1)
        return cls(origin, scale, framed, _sums(framed != OUTSIDE), _sums(framed == BORDER))

    def cells(self, positions: Floats) -> Cells:
        """Return the cells of positions."""
        cells = (positions - self.origin) * self.scale
        cells += 1
        # Of NaN and a number, fmin and fmax give the number.
        np.fmin(cells, len(self.states) - 1, out=cells)
        np.fmax(cells, 0, out=cells)
        return cells.astype(np.int32)

    def at(self, cells: Cells) -> States:
        """Return the states of cells."""
        states: States = self.states.reshape(-1).take(cells[:, 1] * np.int32(len(self.states)) + cells[:, 0])
        return states

    def may_meet(self, boxes: Floats) -> Flags:
        """Say of each box whether a cell that is not outside lies in it; those in which none does meet nothing."""
        return _any(self.touched, self.cells(boxes[:, :2]), self.cells(boxes[:, 2:]))

    def near_border(self, one: Cells, other: Cells) -> Flags:
        """Say of what lies between cells whether the border may run there."""
        return _any(self.bordered, np.minimum(one, other), np.maximum(one, other))


def _any(sums: npt.NDArray[np.int32], low: Cells, high: Cells) -> Flags:
    width = np.int32(sums.shape[1])
    flat = sums.reshape(-1)
    south, north = low[:, 1] * width, (high[:, 1] + 1) * width
    west, east = low[:, 0], high[:, 0] + 1
    some: Flags = flat.take(north + east) - flat.take(south + east) > flat.take(north + west) - flat.take(
        south + west
    )
    return some


def _crossed(drawn: Drawn, origin: Floats, scale: Floats, cells: int) -> tuple[Places, Places]:
    """Return row and column of each cell that the border runs through, some of them more than once."""
    starts, ends = ((end - origin) * scale for end in drawn.pieces())
    swap = starts[:, 1] > ends[:, 1]
    starts[swap], ends[swap] = ends[swap], starts[swap]
    first = np.clip(np.floor(starts[:, 1] - _HAIR), 0, cells - 1).astype(np.int64)
    last = np.clip(np.floor(ends[:, 1] + _HAIR), 0, cells - 1).astype(np.int64)
    rows = stretches(first, last - first + 1)
    piece = np.repeat(np.arange(len(first)), last - first + 1)
    start, end = starts[piece], ends[piece]
    rise = end[:, 1] - start[:, 1]
    level = rise <= _HAIR
    slope = np.divide(end[:, 0] - start[:, 0], rise, out=np.zeros(len(rise)), where=~level)
    low = np.clip(rows - _HAIR, start[:, 1], end[:, 1])
    high = np.clip(rows + 1 + _HAIR, start[:, 1], end[:, 1])
    one = start[:, 0] + slope * (low - start[:, 1])
    other = np.where(level, end[:, 0], start[:, 0] + slope * (high - start[:, 1]))
    west = np.clip(np.floor(np.minimum(one, other) - _HAIR), 0, cells - 1).astype(np.int64)
    east = np.clip(np.floor(np.maximum(one, other) + _HAIR), 0, cells - 1).astype(np.int64)
    return np.repeat(rows, east - west + 1), stretches(west, east - west + 1)


def _fill(states: States, drawn: Drawn, origin: Floats, scale: Floats) -> None:
    """Mark what lies inside. Of cells in a row with no border between them all lie inside, or none: one is asked for each run."""
    free = states != BORDER
    begins = free.copy()
    begins[:, 1:] &= ~free[:, :-1]
    row, column = np.nonzero(begins)
    inside = drawn.has(origin + (np.column_stack((column, row)) + 0.5) / scale)
    run = np.cumsum(begins) - 1
    cells = np.flatnonzero(free)
    states.reshape(-1)[cells[inside[run[cells]]]] = INSIDE


def _sums(flags: Flags) -> npt.NDArray[np.int32]:
    sums = np.zeros((len(flags) + 1, len(flags) + 1), dtype=np.int32)
    np.cumsum(flags, axis=0, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    return sums
