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

Keys = npt.NDArray[np.uint32] | npt.NDArray[np.int64]
"""Places on the curve, or that and a number above it (`ranked`)."""

Cells = npt.NDArray[np.int64]

_BITS: Final = 16
_SMALLEST: Final = 360 / 2**_BITS
"""Degrees, about 600 m; a power of two of 45 degrees, so that the borders of cells are exact."""

_FEW: Final = 256
"""Positions in a cell that cost no more to look at one by one than the cell to be split."""

_ACROSS: Final = 5
"""Cells at most across a box that is looked for as a whole."""

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


def ranked(keys: Keys, ranks: Cells) -> Keys:
    """Return keys that are in order of rank first, then along the curve."""
    return keys + (ranks << 2 * _BITS)


def around(keys: Keys, ranks: Cells, box: Floats, margins: Floats) -> tuple[Places, Places]:
    """Return where stretches of sorted keys begin and how long they are, a row for each rank.

    They hold all of that rank that lies in the box, or not further from it than the rank's margin, and some that lies further away.
    """
    reach = margins[:, None] + _HAIR
    bounds = np.stack((box[:2] - reach, box[2:] + reach), axis=2)
    np.clip(bounds, -180, 180, out=bounds)
    extents = (bounds[:, :, 1] - bounds[:, :, 0]).max(axis=1)
    levels = np.clip(np.log2(360 * (_ACROSS - 1.01) / extents), 0, _BITS).astype(np.int64)
    bounds += 180
    bounds *= (np.left_shift(1, levels) / 360)[:, None, None]
    cells = np.minimum(bounds.astype(np.int64), (np.left_shift(1, levels) - 1)[:, None, None])
    across = cells[:, :, :1] + np.arange(_ACROSS)
    there = across <= cells[:, :, 1:]
    spread = _SPREAD.take(across, mode="clip")
    shifts = (2 * (_BITS - levels))[:, None, None]
    first = ((spread[:, 0, :, None] | spread[:, 1, None, :] << 1) << shifts) + (ranks << 2 * _BITS)[
        :, None, None
    ]
    starts, held = _stretch(keys, first, shifts)
    held *= there[:, 0, :, None] & there[:, 1, None, :]
    return starts.reshape(-1, _ACROSS**2), held.reshape(-1, _ACROSS**2)


def search(keys: Keys, drawn: Drawn, margin: float = 0.0, rank: int = 0) -> Found:
    """Find among sorted keys of one rank those that lie in what is drawn, or not further from it than the margin, in degrees.

    Everything that lies further away is left out, save for some that is not worth asking about.
    """
    inside: list[tuple[Places, Places]] = []
    border: list[tuple[Places, Places]] = []
    level, x, y = _around(drawn, margin)
    while len(x):
        size = 360 / 2**level
        shift = 2 * (_BITS - level)
        first = (_woven(x, y) << shift) + (rank << 2 * _BITS)
        starts, held = _stretch(keys, first, shift)
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


def _stretch(keys: Keys, first: Cells, shift: Cells | int) -> tuple[Places, Places]:
    """Return where the keys of cells begin and how many they are, given the first that each may hold."""
    starts = np.searchsorted(keys, first.astype(keys.dtype))
    ends = np.searchsorted(keys, (first + (1 << shift) - 1).astype(keys.dtype), side="right")
    return starts, ends - starts


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
    return _SPREAD[x] | _SPREAD[y] << 1


def _spread(bits: Cells) -> Cells:
    bits = (bits | bits << 8) & 0x00FF00FF
    bits = (bits | bits << 4) & 0x0F0F0F0F
    bits = (bits | bits << 2) & 0x33333333
    return (bits | bits << 1) & 0x55555555


_SPREAD: Final = _spread(np.arange(2**_BITS))
