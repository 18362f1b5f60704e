"""A coarse picture of what an alert has drawn: cells that its border runs through, cells within and cells without.

Most corners, edges and boxes of many surfaces are settled by looking at cells; only what lies near the border needs geometry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import shapely

from lalert.matching.columns import Boxes, Flags, Floats, Places, stretches
from lalert.matching.drawn import Drawn

_HAIR: Final = 1e-6
"""Of a cell: how much wider a piece of the border is taken to be, far more than rounding does to it."""

_LEAST_EXTENT: Final = 1e-3
"""Degrees: in a smaller picture rounding would be no less than a hair."""

_LEAST_RISE: Final = 1e-12
"""Of a cell."""

Cells = npt.NDArray[np.int32]
"""One row of columns and one of rows; what lies outside of the picture, or is NaN, is in its frame, where nothing is drawn."""


@dataclass(frozen=True, slots=True)
class Raster:
    """The box around what is drawn, in rows and columns of cells with a frame around: `width` of each.

    `origin` and `scale` lead from degrees to cells, those of x and y, twice, as in boxes. `within` says, row by row, which cells lie inside;
    `touched` counts, from the south-western corner on, those that do not lie outside.
    """

    origin: Floats
    scale: Floats
    width: int
    within: Flags
    touched: npt.NDArray[np.int32]

    @classmethod
    def of(cls, drawn: Drawn, cells: int) -> Self:
        """Draw the picture with so many rows and columns."""
        extent = np.maximum(drawn.box[2:] - drawn.box[:2], _LEAST_EXTENT)
        # A little wider than the box, so that no border lies on the edge of the picture.
        scale = cells / (extent * (1 + 2 * _HAIR))
        origin = drawn.box[:2] - extent * _HAIR - 1 / scale
        width = cells + 2
        border = np.zeros(width * width, dtype=bool)
        border[_crossed(drawn, origin, scale, width)] = True
        within = _filled(border, drawn, origin, scale, width)
        touched = _sums((border | within).reshape(width, width))
        return cls(_twice(origin), _twice(scale), width, within, touched)

    def cells(self, positions: Floats) -> Cells:
        """Return the cells of positions."""
        steps = self._steps(positions)
        gaps = np.isnan(steps[0])
        if gaps.any():
            steps[:, gaps] = 0
        return steps.astype(np.int32)

    def inside(self, cells: Cells) -> Flags:
        """Say of cells whether all in them lies within what is drawn."""
        places = cells[1] * np.int32(self.width)
        places += cells[0]
        flags: Flags = self.within.take(places)
        return flags

    def may_meet(self, boxes: Boxes) -> Flags:
        """Say of each box whether a cell that is not outside lies in it; those in which none does meet nothing."""
        steps = self._steps(boxes).astype(np.int32)
        return self._any(steps[:2], steps[2:])

    def may_cross(self, cells: Cells) -> Flags:
        """Say of each edge from one of the cells to the next whether a cell that is not outside lies in the box around it."""
        one, other = cells[:, :-1], cells[:, 1:]
        return self._any(np.minimum(one, other), np.maximum(one, other))

    def _steps(self, numbers: Floats | Boxes) -> Floats:
        # Lying, because numpy is quick along long rows alone.
        count, width = numbers.shape
        steps = np.empty((width, count))
        np.subtract(numbers.T, self.origin[:width], out=steps)
        steps *= self.scale[:width]
        # Much quicker than `fmin` and `fmax`, but it leaves a NaN as it is.
        return steps.clip(0, self.width - 1, out=steps)

    def _any(self, low: Cells, high: Cells) -> Flags:
        width = np.int32(self.width + 1)
        (west, south), (east, north) = low, high + 1
        south = south * width
        north *= width
        of = self.touched.take
        some: Flags = of(north + east) - of(south + east) > of(north + west) - of(south + west)
        return some


def _crossed(drawn: Drawn, origin: Floats, scale: Floats, width: int) -> Places:
    """Return each cell that the border runs through, some of them more than once."""
    starts, ends = ((corners - origin).T * scale[:, None] for corners in drawn.pieces())
    falls = starts[1] > ends[1]
    (x, y), (end_x, end_y) = np.where(falls, ends, starts), np.where(falls, starts, ends)
    first = (y - _HAIR).astype(np.intp)
    counts = (end_y + _HAIR).astype(np.intp) - first + 1
    rows = stretches(first, counts)
    pieces = np.stack((x, y, end_x - x, np.maximum(end_y - y, _LEAST_RISE))).repeat(counts, axis=1)
    # How far along its piece of the border enters the row, and leaves it.
    ways = (rows - pieces[1] + _ENDS) / pieces[3]
    np.minimum(ways, 1, out=ways)
    np.maximum(ways, 0, out=ways)
    enters, leaves = ways * pieces[2] + pieces[0]
    west = (np.minimum(enters, leaves) - _HAIR).astype(np.intp)
    east = (np.maximum(enters, leaves) + _HAIR).astype(np.intp)
    return stretches(rows * width + west, east - west + 1)


_ENDS: Final = np.array([[-_HAIR], [1 + _HAIR]])


def _filled(border: Flags, drawn: Drawn, origin: Floats, scale: Floats, width: int) -> Flags:
    """Say which cells lie inside.

    Of cells in a row with no border between them all lie inside, or none: one is asked for each run. What runs through the frame is outside.
    """
    turns = np.flatnonzero(border[1:] != border[:-1]) + 1
    rows, columns = np.divmod(turns[1:-1:2], width)
    x, y = origin[0] + (columns + 0.5) / scale[0], origin[1] + (rows + 0.5) / scale[1]
    # A run without and a run on the border in turns, the first and the last of them through the frame.
    inside = np.zeros(len(turns) + 1, dtype=bool)
    inside[2:-1:2] = shapely.intersects_xy(drawn.geometry, x, y)
    return inside.repeat(np.diff(turns, prepend=0, append=len(border)))


def _twice(numbers: Floats) -> Floats:
    return np.concatenate((numbers, numbers))[:, None]


def _sums(flags: Flags) -> npt.NDArray[np.int32]:
    sums = np.zeros((len(flags) + 1, len(flags) + 1), dtype=np.int32)
    np.cumsum(flags, axis=0, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    return sums.reshape(-1)
