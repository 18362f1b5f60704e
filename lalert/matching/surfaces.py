"""Which of many surfaces meet what an alert has drawn, most of them settled without building their geometry.

A surface is a stretch of corners: a closed ring, or a line; between rings of one surface (holes) stands a corner that is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import shapely

from lalert.matching.columns import Flags, Floats, Places, stretches
from lalert.matching.drawn import Drawn
from lalert.matching.raster import INSIDE, Raster

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_TRIED_FIRST: Final = (0.0, 0.5, 0.25, 0.75)
"""Of the way along the corners: most that reach into a larger area have one of these in it."""

_CORNERS_AT_ONCE: Final = 1_000_000
"""Corners looked at together: 100 MB or so of work space."""

_GAP: Final = np.full((1, 2), np.nan)


@dataclass(frozen=True, slots=True)
class Surfaces:
    """Columns: the corners (lon, lat) of all, where each surface's begin and how many they are, and its box."""

    corners: Floats
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int32]
    boxes: Floats

    def meeting(self, which: Places, drawn: Drawn) -> Places:
        """Return those of some surfaces that share a point with what is drawn: exactly those of which `shapely.intersects` says so."""
        left = which[drawn.may_meet(self.boxes.take(which, axis=0))]
        if not len(left):
            return left
        picture = Raster.of(drawn, _cells(len(left)))
        left = left[picture.may_meet(self.boxes.take(left, axis=0))]
        met: list[Places] = []
        for share in _TRIED_FIRST:
            tried = self.starts[left] + (share * self.lengths[left]).astype(np.int64)
            reaches = picture.at(picture.cells(self.corners[tried])) == INSIDE
            met.append(left[reaches])
            left = left[~reaches]
        for some in self._portions(left):
            reaches = self._borders_meet(some, drawn, picture)
            reaches[~reaches] = self._enclose(some[~reaches], drawn)
            met.append(some[reaches])
        return np.concatenate(met)

    def geometry(self, which: int) -> BaseGeometry:
        """Return one surface."""
        start = int(self.starts[which])
        corners = self.corners[start : start + int(self.lengths[which])]
        rings = np.split(corners, np.flatnonzero(np.isnan(corners[:, 0])))
        shell, *holes = [ring[np.isfinite(ring[:, 0])] for ring in rings]
        if len(shell) < _RING:
            return shapely.LineString(shell) if len(shell) > 1 else shapely.Point(shell[0])
        return shapely.Polygon(shell, holes)

    def _portions(self, which: Places) -> Iterator[Places]:
        ends = np.cumsum(self.lengths[which]) // _CORNERS_AT_ONCE
        return iter(np.split(which, np.flatnonzero(np.diff(ends)) + 1)) if len(which) else iter(())

    def _borders_meet(self, which: Places, drawn: Drawn, picture: Raster) -> Flags:
        """Say of each surface whether its border meets what is drawn."""
        lengths = self.lengths[which]
        corners = self.corners.take(stretches(self.starts[which], lengths), axis=0)
        owners = np.repeat(np.arange(len(which)), lengths)
        cells = picture.cells(corners)
        meets = np.zeros(len(which), dtype=bool)
        meets[owners[picture.at(cells) == INSIDE]] = True
        edges = np.flatnonzero((owners[:-1] == owners[1:]) & ~meets[owners[:-1]])
        edges = edges[picture.near_border(cells[edges], cells[edges + 1])]
        # From and to the gap between two rings there is no edge, though it may seem near.
        edges = edges[np.isfinite(corners[edges, 0] + corners[edges + 1, 0])]
        if not len(edges):
            return meets
        # Edges in a row are one line: GEOS looks through a long one faster than through as many short ones. Whatever of a border is in no
        # such line lies outside; a line that does not cross the other border lies on one side of it.
        begins = np.flatnonzero(np.diff(edges, prepend=-2) > 1)
        lengths = np.diff(begins, append=len(edges)) + 1
        at = stretches(edges[begins], lengths)
        lines = shapely.linestrings(corners[at], indices=np.repeat(np.arange(len(begins)), lengths))
        reaches = shapely.intersects(drawn.border(), lines)
        reaches[~reaches] = drawn.has(corners[edges[begins[~reaches]]])
        meets[owners[edges[begins[reaches]]]] = True
        return meets

    def _enclose(self, which: Places, drawn: Drawn) -> Flags:
        """Say of each surface whose border is clear of what is drawn whether a part of that lies within it."""
        holds = drawn.may_lie_in(self.boxes[which])
        shapes = np.array([self.geometry(one) for one in which[holds].tolist()], dtype=object)
        holds[holds] = shapely.intersects(shapes, drawn.witnesses)
        return holds


def _cells(count: int) -> int:
    """Return how fine a picture is worth drawing for so many surfaces."""
    return 16 if count < 32 else 64 if count < 1024 else 256


def corners_of(surface: BaseGeometry) -> Floats:
    """Return the corners of a polygon or line as a surface keeps them."""
    rings = shapely.get_rings(surface) if shapely.get_dimensions(surface) == _AREA else [surface]
    first, *holes = [shapely.get_coordinates(ring) for ring in rings]
    return np.concatenate((first, *(part for hole in holes for part in (_GAP, hole))))


_AREA: Final = 2
_RING: Final = 4
