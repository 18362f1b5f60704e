"""Positions in the order of a Z curve: any square cell of the globe is one stretch of them.

Whatever is drawn is held against cells first, the largest that matter, and only those on its border are split: one test settles all that a
cell holds.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import shapely

from lalert.matching.columns import Floats, Places, stretches
from lalert.matching.drawn import Drawn

Keys = npt.NDArray[np.uint32]
Cells = npt.NDArray[np.int64]

_BITS: Final = 16
_SMALLEST: Final = 360 / 2**_BITS
"""Degrees, about 600 m; a power of two of 45 degrees, so that the borders of cells are exact."""

_FEW: Final = 256
"""Positions in a cell that cost no more to look at one by one than the cell to be split."""

_HAIR: Final = 1e-9
"""Degrees by which cells are taken larger than they are: more than rounding may do to the cell of a position."""


class Found(NamedTuple):
    """Indices into the keys: of positions that lie within what is drawn, and of those that have to be looked at."""

    inside: Places
    border: Places


def keys_of(positions: Floats) -> Keys:
    """Return the place of each position, a row of lon and lat in degrees, on the curve."""
    cells = np.clip(np.floor((positions + 180) / _SMALLEST), 0, 2**_BITS - 1).astype(np.int64)
    return _woven(cells[:, 0], cells[:, 1]).astype(np.uint32)


def search(keys: Keys, drawn: Drawn, margin: float = 0.0) -> Found:
    """Find among sorted keys those that lie in what is drawn, or not further from it than the margin, in degrees.

    Everything that lies further away is left out, save for some that is not worth asking about.
    """
    inside: list[tuple[Places, Places]] = []
    border: list[tuple[Places, Places]] = []
    level, x, y = _around(drawn, margin)
    while len(x):
        size = 360 / 2**level
        shift = 2 * (_BITS - level)
        first = _woven(x, y) << shift
        starts = np.searchsorted(keys, first.astype(np.uint32))
        ends = np.searchsorted(keys, (first + (1 << shift) - 1).astype(np.uint32), side="right")
        held = ends - starts
        few = (held <= _FEW) | (level == _BITS) | (size <= margin / 4)
        border.append((starts[few], held[few]))
        x, y, starts, held = x[~few], y[~few], starts[~few], held[~few]
        if not len(x):
            break
        meets = shapely.intersects(drawn.geometry, _boxes(x, y, size, margin))
        x, y, starts, held = x[meets], y[meets], starts[meets], held[meets]
        within = shapely.contains_properly(drawn.geometry, _boxes(x, y, size, 0.0))
        inside.append((starts[within], held[within]))
        x, y, level = *_quarters(x[~within], y[~within]), level + 1
    return Found(_joined(inside), _joined(border))


def _around(drawn: Drawn, margin: float) -> tuple[int, Cells, Cells]:
    """Return the level at which at most four cells cover what is drawn, and those cells."""
    west, south = np.maximum(drawn.box[:2] - margin - _HAIR, -180)
    east, north = np.minimum(drawn.box[2:] + margin + _HAIR, 180)
    extent = max(east - west, north - south)
    level = max(0, min(_BITS, math.floor(math.log2(360 / extent))))
    size = 360 / 2**level
    first_x, first_y, last_x, last_y = (
        min(int((bound + 180) / size), 2**level - 1) for bound in (west, south, east, north)
    )
    cells = [(x, y) for x in range(first_x, last_x + 1) for y in range(first_y, last_y + 1)]
    x, y = np.array(cells, dtype=np.int64).T
    return level, x, y


def _quarters(x: Cells, y: Cells) -> tuple[Cells, Cells]:
    return (
        np.concatenate((2 * x, 2 * x + 1, 2 * x, 2 * x + 1)),
        np.concatenate((2 * y, 2 * y, 2 * y + 1, 2 * y + 1)),
    )


def _boxes(x: Cells, y: Cells, size: float, margin: float) -> npt.NDArray[np.object_]:
    more = margin + _HAIR
    west, south = x * size - 180, y * size - 180
    boxes: npt.NDArray[np.object_] = shapely.box(
        west - more, south - more, west + size + more, south + size + more
    )
    return boxes


def _joined(found: list[tuple[Places, Places]]) -> Places:
    if not found:
        return np.empty(0, np.intp)
    starts, lengths = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return stretches(starts, lengths)


def _woven(x: Cells, y: Cells) -> Cells:
    """Return numbers that have the bits of x and y in turns."""
    return _spread(x) | _spread(y) << 1


def _spread(bits: Cells) -> Cells:
    bits = (bits | bits << 8) & 0x00FF00FF
    bits = (bits | bits << 4) & 0x0F0F0F0F
    bits = (bits | bits << 2) & 0x33333333
    return (bits | bits << 1) & 0x55555555
