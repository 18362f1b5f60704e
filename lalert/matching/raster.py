"""A coarse picture of what an alert has drawn: cells that its border runs through, cells within and cells without.

Most corners, edges and boxes of many surfaces are settled by looking at cells; only what lies near the border needs geometry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from lalert.matching.columns import Boxes, Flags, Floats, Places, stretches
from lalert.matching.drawn import Drawn

_HAIR: Final = 1e-6
"""Of a cell: how much wider a piece of the border is taken to be, far more than rounding does to it."""

_LEAST_EXTENT: Final = 1e-6
"""Degrees."""

Steps = npt.NDArray[np.int32]
Cells = tuple[Steps, Steps]
"""Columns and rows; what lies outside of the picture, or is NaN, is in its frame, where nothing is drawn."""


@dataclass(frozen=True, slots=True)
class Raster:
    """The box around what is drawn, in rows and columns of cells with a frame around: `width` of each.

    `within` says, row by row, which cells lie inside; `touched` counts, from the south-western corner on, those that do not lie outside.
    """

    origin: Floats
    scale: Floats
    width: int
    within: Flags
    touched: Steps

    @classmethod
    def of(cls, drawn: Drawn, cells: int) -> Self:
        """Draw the picture with so many rows and columns."""
        extent = np.maximum(drawn.box[2:] - drawn.box[:2], _LEAST_EXTENT)
        # A little wider than the box, so that no border lies on the edge of the picture.
        origin = drawn.box[:2] - extent * _HAIR
        scale = cells / (extent * (1 + 2 * _HAIR))
        border = np.zeros((cells + 2, cells + 2), dtype=bool)
        border[1:-1, 1:-1][_crossed(drawn, origin, scale, cells)] = True
        within = np.zeros_like(border)
        within[1:-1, 1:-1] = _filled(border[1:-1, 1:-1], drawn, origin, scale)
        return cls(origin, scale, cells + 2, within.reshape(-1), _sums(border | within))

    def cells(self, positions: Floats) -> Cells:
        """Return the cells of positions."""
        return self._steps(positions[:, 0], 0), self._steps(positions[:, 1], 1)

    def inside(self, cells: Cells) -> Flags:
        """Say of cells whether all in them lies within what is drawn."""
        columns, rows = cells
        flags: Flags = self.within.take(rows * np.int32(self.width) + columns)
        return flags

    def may_meet(self, boxes: Boxes) -> Flags:
        """Say of each box whether a cell that is not outside lies in it; those in which none does meet nothing."""
        west, south, east, north = (self._steps(boxes[:, side], side % 2) for side in range(4))
        return self._any(west, south, east, north)

    def may_cross(self, cells: Cells, edges: Places) -> Flags:
        """Say of edges, each from one of the cells to the next, whether a cell that is not outside lies in the box around it."""
        (x, y), ends = cells, edges + 1
        return self._any(
            np.minimum(x[edges], x[ends]),
            np.minimum(y[edges], y[ends]),
            np.maximum(x[edges], x[ends]),
            np.maximum(y[edges], y[ends]),
        )

    def _steps(self, along: Floats | Boxes, axis: int) -> Steps:
        steps = along - self.origin[axis]
        steps *= self.scale[axis]
        steps += 1
        # Of NaN and a number, fmin and fmax give the number.
        np.fmin(steps, self.width - 1, out=steps)
        np.fmax(steps, 0, out=steps)
        whole: Steps = steps.astype(np.int32)
        return whole

    def _any(self, west: Steps, south: Steps, east: Steps, north: Steps) -> Flags:
        width = np.int32(self.width + 1)
        south, north = south * width, (north + 1) * width
        east = east + 1
        of = self.touched.take
        some: Flags = of(north + east) - of(south + east) > of(north + west) - of(south + west)
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


def _filled(border: Flags, drawn: Drawn, origin: Floats, scale: Floats) -> Flags:
    """Say which cells lie inside. Of cells in a row with no border between them all lie inside, or none: one is asked for each run."""
    begins = ~border
    begins[:, 1:] &= border[:, :-1]
    row, column = np.nonzero(begins)
    inside = drawn.has(origin + (np.column_stack((column, row)) + 0.5) / scale)
    # Before the first run, and where there is none, stands none.
    run = np.cumsum(begins)
    filled: Flags = np.concatenate(([False], inside))[run].reshape(border.shape) & ~border
    return filled


def _sums(flags: Flags) -> Steps:
    sums = np.zeros((len(flags) + 1, len(flags) + 1), dtype=np.int32)
    np.cumsum(flags, axis=0, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    return sums.reshape(-1)
