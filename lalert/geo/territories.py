"""Where places are: official boundaries as far as installed, approximate ones for the rest, and an index of who is to be told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import shapely

from lalert.errors import InvalidGeometry
from lalert.geo.shapes import union

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

OUTLINE_UNIT: Final = 1_000
"""Outlines are written in thousandths of a degree."""

BOUNDARY_UNIT: Final = 10_000
"""Approximate boundaries are written in ten-thousandths of a degree."""

AGREEMENT: Final = {"iou": 0.79, "covered": 0.92, "told": 0.997}
"""How well the approximate boundaries agree with N03-2025: of the median municipality the intersection over the union, and the share of
its area that is covered; and of the municipalities that small random polygons touch, the share that the catchments find."""


class Territories:
    """The territories of leaves: municipalities without wards, and wards.

    Each has two forms. Its `boundary` is what is shown: official, or approximate. Its catchment (`leaves`) decides who is told:
    the official boundary, or a generous outline around the approximate one.

    `boundaries` and `outlines` are the texts of the gazetteer, by leaf; `wards` the leaves of each designated city; `official` what
    was installed, by leaf or by city, codes that the gazetteer does not know included.
    """

    def __init__(
        self,
        boundaries: Mapping[str, str],
        outlines: Mapping[str, str],
        wards: Mapping[str, Iterable[str]],
        official: Mapping[str, BaseGeometry],
    ) -> None:
        self._boundaries = boundaries
        self._outlines = outlines
        self._wards = {city: tuple(codes) for city, codes in wards.items()}
        self._city_of = {ward: city for city, wards in self._wards.items() for ward in wards}
        self._official = official
        self._drawn: dict[str, BaseGeometry] = {}

    @cached_property
    def leaves(self) -> dict[str, BaseGeometry]:
        """Return leaf code -> catchment in (lon, lat) degrees."""
        known = {code: read_territory(text, OUTLINE_UNIT) for code, text in self._outlines.items()}
        known |= {code: g for code, g in self._official.items() if code not in self._wards}
        for city, wards in self._wards.items():
            if city in self._official:
                exact = self._official.keys() & wards
                known |= _shares(self._official[city], {ward: known[ward] for ward in wards}, exact)
        return known

    def boundary(self, leaf: str) -> BaseGeometry:
        """Return what is shown of a leaf. A ward without a boundary of its own has its part of the official one of its city."""
        if leaf in self._official:
            return self._official[leaf]
        if leaf not in self._drawn:
            city = self._city_of.get(leaf, "")
            together = self._wards[city] if city in self._official else (leaf,)
            drawn = {code: read_territory(self._boundaries[code], BOUNDARY_UNIT) for code in together}
            if city in self._official:
                exact = {ward: self._official[ward] for ward in together if ward in self._official}
                drawn = _shares(self._official[city], drawn | exact, exact)
            self._drawn |= drawn
        return self._drawn[leaf]

    def together(self, leaves: Collection[str]) -> BaseGeometry:
        """Return what is shown of leaves as one geometry."""
        made = [self.boundary(leaf) for leaf in sorted(leaves) if not self.within_official(leaf)]
        exact = [self.boundary(leaf) for leaf in sorted(leaves) if self.within_official(leaf)]
        # Approximate boundaries share their borders point by point, which takes a fraction of the time of a union of anything.
        return (
            union([shapely.coverage_union_all(made), *exact]) if exact else shapely.coverage_union_all(made)
        )

    def within_official(self, leaf: str) -> bool:
        """Say whether the leaf's catchment ends at an official boundary: its own, or that of its city."""
        return leaf in self._official or self._city_of.get(leaf) in self._official

    def city(self, code: str) -> BaseGeometry:
        """Return the catchment of a designated city: its own boundary if installed, else that of its wards."""
        if code in self._official:
            return self._official[code]
        return shapely.union_all([self.leaves[ward] for ward in self._wards[code]])

    @cached_property
    def _index(
        self,
    ) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.object_], npt.NDArray[np.bool_], BaseGeometry]:
        codes = np.array(list(self.leaves))
        shapes = np.array(list(self.leaves.values()), dtype=object)
        exact = np.array([code in self._official for code in self.leaves])
        return codes, shapes, exact, shapely.STRtree(shapes)

    def touching(self, geometry: BaseGeometry) -> frozenset[str]:
        """Return the leaves that a geometry concerns.

        With a surface, an official boundary that is only touched does not count: neighbours share it. A point or line on a
        boundary concerns both sides, as does everything that reaches a generous outline. Raises InvalidGeometry, because an
        invalid polygon would silently meet nothing, and one with NaN everything.
        """
        if not shapely.is_valid(geometry):
            raise InvalidGeometry(f"the area is not valid: {shapely.is_valid_reason(geometry)}")
        codes, shapes, exact, tree = self._index
        hits = tree.query(geometry, predicate="intersects")
        if shapely.get_dimensions(geometry) == 2:
            shared = exact[hits]
            shared[shared] = shapely.touches(shapes[hits[shared]], geometry)
            hits = hits[~shared]
        return frozenset(codes[hits].tolist())


def read_territory(text: str, unit: int) -> BaseGeometry:
    """Return a territory from its text: parts apart by `;`, their rings by `:`, in each the first point and then steps, in 1/unit degrees."""
    parts = [
        shapely.Polygon(outer, inner)
        for part in text.split(";")
        for outer, *inner in [[_ring(ring, unit) for ring in part.split(":")]]
    ]
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _ring(text: str, unit: int) -> npt.NDArray[np.float64]:
    return np.cumsum(np.fromstring(text, dtype=np.int64, sep=" ").reshape(-1, 2), axis=0) / unit


def _shares(
    city: BaseGeometry, wards: Mapping[str, BaseGeometry], exact: Collection[str]
) -> dict[str, BaseGeometry]:
    """Return the wards within the official boundary of their city, those with one of their own as they are; what none reaches is everybody's."""
    nobodys = shapely.difference(city, shapely.union_all(list(wards.values())))
    own = {code: ward if code in exact else shapely.intersection(city, ward) for code, ward in wards.items()}
    return own if nobodys.is_empty else {code: shapely.union(ward, nobodys) for code, ward in own.items()}
