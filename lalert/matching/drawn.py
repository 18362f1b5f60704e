"""What an alert has drawn, made ready to be held against many positions and surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import shapely

from lalert.matching.columns import Boxes, Flags, Floats

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_MANY_PAIRS = 1_000_000


@dataclass(frozen=True, slots=True)
class Drawn:
    """A prepared geometry in (lon, lat) degrees.

    `parts` are connected, `boxes` their bounds; `lines` the rings of its surfaces, its lines and its points.
    """

    geometry: BaseGeometry
    box: Floats
    boxes: Floats
    parts: npt.NDArray[np.object_]
    lines: npt.NDArray[np.object_]

    @classmethod
    def of(cls, geometry: BaseGeometry) -> Self:
        """Prepare a geometry; it must not be empty."""
        shapely.prepare(geometry)
        parts = shapely.get_parts(shapely.get_parts(geometry))
        surfaces = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
        lines = shapely.get_rings(parts[surfaces])
        if not surfaces.all():
            lines = np.concatenate((lines, parts[~surfaces]))
        return cls(geometry, shapely.bounds(geometry), shapely.bounds(parts), parts, lines)

    def may_meet(self, boxes: Boxes) -> Flags:
        """Say of each box whether it meets the box around everything."""
        west, south, east, north = self.box
        meets: Flags = (
            (boxes[:, 0] <= east) & (boxes[:, 2] >= west) & (boxes[:, 1] <= north) & (boxes[:, 3] >= south)
        )
        return meets

    def may_lie_in(self, boxes: Boxes) -> Flags:
        """Say of each box whether a whole part may lie in it."""
        if len(boxes) * len(self.boxes) > _MANY_PAIRS:
            return np.ones(len(boxes), dtype=bool)
        low, high = boxes[:, None, :2], boxes[:, None, 2:]
        within = np.all((low <= self.boxes[:, :2]) & (high >= self.boxes[:, 2:]), axis=2)
        some: Flags = np.any(within, axis=1)
        return some

    def witnesses(self) -> BaseGeometry:
        """Return a point of each part."""
        corners, owners = shapely.get_coordinates(self.parts, return_index=True)
        points: BaseGeometry = shapely.multipoints(corners[np.flatnonzero(np.diff(owners, prepend=-1))])
        return points

    def pieces(self) -> tuple[Floats, Floats]:
        """Return where each straight piece of its border starts and ends; a point is a piece without length."""
        corners, owners = shapely.get_coordinates(self.lines, return_index=True)
        joined = owners[:-1] == owners[1:]
        alone = corners[(np.bincount(owners) == 1)[owners]]
        return np.concatenate((corners[:-1][joined], alone)), np.concatenate((corners[1:][joined], alone))

    def border(self) -> BaseGeometry:
        """Return a prepared geometry that a line meets exactly if it meets this one without an end in it."""
        if not (shapely.get_type_id(self.lines) == shapely.GeometryType.LINEARRING).all():
            return self.geometry
        border = shapely.multilinestrings(self.lines)
        shapely.prepare(border)
        return border

    def has(self, positions: Floats) -> Flags:
        """Say of each position, a row of lon and lat, whether it lies in it or on its border; one that is NaN does not."""
        west, south, east, north = self.box
        x, y = positions[:, 0], positions[:, 1]
        near: Flags = (x >= west) & (x <= east) & (y >= south) & (y <= north)
        near[near] = shapely.intersects_xy(self.geometry, x[near], y[near])
        return near
