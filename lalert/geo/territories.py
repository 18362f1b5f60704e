"""Where places are: official boundaries as far as installed, generous outlines for the rest, and an index over both."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import shapely

from lalert.errors import InvalidGeometry

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_OUTLINE_UNIT = 1000  # outlines are written in thousandths of a degree


class Territories:
    """The territories of leaves: municipalities without wards, and wards.

    `outlines` are the texts of the gazetteer, by leaf; `wards` the leaves of each designated city; `official` what was
    installed, by leaf or by city, codes that the gazetteer does not know included.
    """

    def __init__(
        self,
        outlines: Mapping[str, str],
        wards: Mapping[str, Iterable[str]],
        official: Mapping[str, BaseGeometry],
    ) -> None:
        self._outlines = outlines
        self._wards = {city: tuple(codes) for city, codes in wards.items()}
        self._official = official

    @cached_property
    def leaves(self) -> dict[str, BaseGeometry]:
        """Return leaf code -> territory in (lon, lat) degrees."""
        known = {code: outline_geometry(text) for code, text in self._outlines.items()}
        known |= {code: g for code, g in self._official.items() if code not in self._wards}
        for city, wards in self._wards.items():
            if city in self._official:
                exact = self._official.keys() & wards
                known |= _shares(self._official[city], {ward: known[ward] for ward in wards}, exact)
        return known

    def city(self, code: str) -> BaseGeometry:
        """Return the territory of a designated city: its own boundary if installed, else that of its wards."""
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


def outline_geometry(text: str) -> BaseGeometry:
    """Return an outline from its text: rings apart by `;`, in each the first point and then steps, in thousandths of a degree."""
    rings = [
        shapely.Polygon(
            np.cumsum(np.array(ring.split(), dtype=np.int64).reshape(-1, 2), axis=0) / _OUTLINE_UNIT
        )
        for ring in text.split(";")
    ]
    return rings[0] if len(rings) == 1 else shapely.MultiPolygon(rings)


def _shares(
    city: BaseGeometry, wards: Mapping[str, BaseGeometry], exact: Collection[str]
) -> dict[str, BaseGeometry]:
    """Return the wards within the official boundary of their city, those with one of their own as they are; what none reaches is everybody's."""
    nobodys = shapely.difference(city, shapely.union_all(list(wards.values())))
    own = {code: ward if code in exact else shapely.intersection(city, ward) for code, ward in wards.items()}
    return own if nobodys.is_empty else {code: shapely.union(ward, nobodys) for code, ward in own.items()}
