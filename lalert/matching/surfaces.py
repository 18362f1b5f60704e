"""Which of many surfaces meet what an alert has drawn, most of them settled without building their geometry.

A surface is a stretch of corners: a closed ring, or a line; between rings of one surface (holes) stands a corner that is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import shapely

from lalert.matching.columns import Boxes, Flags, Floats, Places, stretches
from lalert.matching.drawn import Drawn
from lalert.matching.raster import Raster

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Counts = npt.NDArray[np.int32]

_SPAN: Final = 16
"""Edges in a row that have a box of their own."""

_TRIED_FIRST: Final = np.array(((0.0,), (0.5,), (0.25,), (0.75,)))
"""Of the way along the corners: most that reach into a larger area have one of these in it."""

_FEW: Final = 16_000
_PER_SURFACE: Final = 100
"""So many corners, and that for each surface, are made geometry in less time than a picture is drawn."""

_CORNERS_AT_ONCE: Final = 1_000_000
"""Corners looked at together: 100 MB or so of work space."""

_GAP: Final = np.full((1, 2), np.nan)


@dataclass(frozen=True, slots=True)
class Surfaces:
    """Columns: the corners (lon, lat) of all, where each surface's begin and how many they are, and its box; where the boxes of its spans begin."""

    corners: Floats
    starts: npt.NDArray[np.int64]
    lengths: Counts
    boxes: Boxes
    span_starts: npt.NDArray[np.int32]
    span_boxes: Boxes

    def meeting(self, which: Places, drawn: Drawn) -> Places:
        """Return those of some surfaces that share a point with what is drawn: exactly those of which `shapely.intersects` says so."""
        if not len(which):
            return which
        if _PER_SURFACE * len(which) + self.lengths[which].sum() < _FEW:
            reaches: Flags = shapely.intersects(drawn.geometry, self._geometries(which))
            return which[reaches]
        picture = Raster.of(drawn, _cells(len(which)))
        left = which[picture.may_meet(self.boxes.take(which, axis=0))]
        tried = self.starts[left] + (_TRIED_FIRST * self.lengths[left]).astype(np.intp)
        within = picture.inside(picture.cells(self.corners.take(tried.reshape(-1), axis=0)))
        reaches = np.any(within.reshape(tried.shape), axis=0)
        met = [left[reaches]]
        for some in self._portions(left[~reaches]):
            reaches = self._borders_meet(some, drawn, picture)
            clear = np.flatnonzero(~reaches)
            reaches[clear] = self._enclose(some[clear], drawn)
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

    def taken(self, which: Places) -> Surfaces:
        """Return some surfaces, and of them alone the corners and spans, in the order of `which`."""
        lengths = self.lengths[which]
        spans = spans_of(lengths)
        return Surfaces(
            self.corners[stretches(self.starts[which], lengths)],
            np.cumsum(lengths, dtype=np.int64) - lengths,
            lengths,
            self.boxes[which],
            np.cumsum(spans, dtype=np.int32) - spans,
            self.span_boxes[stretches(self.span_starts[which], spans)],
        )

    def _geometries(self, which: Places) -> npt.NDArray[np.object_]:
        lengths = self.lengths[which]
        corners = self.corners.take(stretches(self.starts[which], lengths), axis=0)
        if lengths.min() < _RING or np.isnan(corners[:, 0]).any():
            return np.array([self.geometry(one) for one in which.tolist()], dtype=object)
        owners = np.arange(len(which)).repeat(lengths)
        polygons: npt.NDArray[np.object_] = shapely.polygons(shapely.linearrings(corners, indices=owners))
        return polygons

    def _portions(self, which: Places) -> Iterator[Places]:
        ends = np.cumsum(self.lengths[which]) // _CORNERS_AT_ONCE
        return iter(np.split(which, np.flatnonzero(np.diff(ends)) + 1)) if len(which) else iter(())

    def _borders_meet(self, which: Places, drawn: Drawn, picture: Raster) -> Flags:
        """Say of each surface whether its border meets what is drawn."""
        meets = np.zeros(len(which), dtype=bool)
        counts = spans_of(self.lengths[which])
        spans = stretches(self.span_starts[which], counts)
        near = np.flatnonzero(picture.may_meet(self.span_boxes.take(spans, axis=0)))
        surfaces = np.arange(len(which)).repeat(counts)[near]
        of = which[surfaces]
        skipped = _SPAN * (spans[near] - self.span_starts[of])
        counts = np.minimum(self.lengths[of] - skipped, _SPAN + 1)
        starts = self.starts[of] + skipped
        meets[surfaces[drawn.has(self.corners.take(starts + counts // 2, axis=0))]] = True
        left = ~meets[surfaces]
        surfaces, starts, counts = surfaces[left], starts[left], counts[left]
        corners = self.corners.take(stretches(starts, counts), axis=0)
        owners = surfaces.repeat(counts)
        cells = picture.cells(corners)
        crossing = picture.may_cross(cells)
        # From a span to the next one there is no edge, nor from and to the gap between two rings.
        crossing[counts.cumsum()[:-1] - 1] = False
        finite = np.isfinite(corners[:, 0])
        crossing &= finite[:-1] & finite[1:] & ~meets[owners[:-1]]
        edges = np.flatnonzero(crossing)
        if not len(edges):
            return meets
        # Edges in a row are one line: GEOS looks through a long one faster than through as many short ones. Whatever of a border is in no
        # such line lies outside; a line that does not cross the other border lies on one side of it.
        bounds = np.concatenate(([0], np.flatnonzero(edges[1:] - edges[:-1] > 1) + 1, [len(edges)]))
        firsts, counts = edges[bounds[:-1]], bounds[1:] - bounds[:-1] + 1
        owners = owners[firsts]
        meets[owners[drawn.has(corners[firsts + counts // 2])]] = True
        left = ~meets[owners]
        firsts, counts, owners = firsts[left], counts[left], owners[left]
        line_of = np.arange(len(firsts)).repeat(counts)
        lines = shapely.linestrings(corners[stretches(firsts, counts)], indices=line_of)
        meets[owners[shapely.intersects(drawn.border(), lines)]] = True
        return meets

    def _enclose(self, which: Places, drawn: Drawn) -> Flags:
        """Say of each surface whose border is clear of what is drawn whether a part of that lies within it."""
        holds = drawn.may_lie_in(self.boxes[which])
        if holds.any():
            holds[holds] = shapely.intersects(self._geometries(which[holds]), drawn.witnesses())
        return holds


def spans_of(lengths: Counts) -> Counts:
    """Return how many spans surfaces of so many corners have."""
    spans: Counts = np.maximum(lengths + np.int32(_SPAN - 2), _SPAN) // np.int32(_SPAN)
    return spans


def boxes_of(corners: Floats) -> Boxes:
    """Return the boxes around the spans of a surface."""
    starts = np.arange(0, max(len(corners) - 1, 1), _SPAN)
    # The last corner of a span is the next one's first.
    ends = corners[np.minimum(starts + _SPAN, len(corners) - 1)]
    low = np.fmin(np.fmin.reduceat(corners, starts), ends)
    high = np.fmax(np.fmax.reduceat(corners, starts), ends)
    return np.concatenate((_rounded(low, -np.inf), _rounded(high, np.inf)), axis=1)


def _rounded(numbers: Floats, towards: float) -> Boxes:
    near = numbers.astype(np.float32)
    beyond = near > numbers if towards < 0 else near < numbers
    return np.where(beyond, np.nextafter(near, np.float32(towards)), near)


def _cells(count: int) -> int:
    """Return how fine a picture is worth drawing for so many surfaces, as measured: three cells across for each of their root."""
    return min(max(16, 1 << round(math.log2(11 * count) / 2)), 1024)


def corners_of(surface: BaseGeometry) -> Floats:
    """Return the corners of a polygon or line as a surface keeps them."""
    rings = shapely.get_rings(surface) if shapely.get_dimensions(surface) == _AREA else [surface]
    first, *holes = [shapely.get_coordinates(ring) for ring in rings]
    return np.concatenate((first, *(part for hole in holes for part in (_GAP, hole))))


_AREA: Final = 2
_RING: Final = 4
