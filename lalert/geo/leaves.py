"""Which municipalities and wards a shape meets, for many shapes at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import shapely

from lalert.geo.shapes import Floats

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


class Leaves:
    """An index over the territories of leaves: municipalities without wards, and wards; by code, in (lon, lat) degrees."""

    def __init__(self, territories: Mapping[str, BaseGeometry]) -> None:
        self._codes = list(territories)
        self._numbers = {code: number for number, code in enumerate(self._codes)}
        shapes = np.array(list(territories.values()), dtype=object)
        self._tree = shapely.STRtree(shapes)
        self._boxes: Floats = shapely.bounds(shapes)

    def meeting(self, shapes: Sequence[BaseGeometry]) -> list[frozenset[str]]:
        """Return for each shape the leaves whose territory it meets, as `shapely.intersects` says: a border belongs to both sides.

        The shapes must be valid. Equal answers are one object, so that a million points in one town hold its code once.
        """
        given, met = self._tree.query(np.array(shapes, dtype=object), predicate="intersects")
        ends = np.searchsorted(given, np.arange(len(shapes) + 1)).tolist()
        codes = [self._codes[number] for number in met.tolist()]
        known: dict[frozenset[str], frozenset[str]] = {}
        answers = []
        for number in range(len(shapes)):
            answer = frozenset(codes[ends[number] : ends[number + 1]])
            answers.append(known.setdefault(answer, answer))
        return answers

    def boxes(self, codes: Collection[str]) -> Floats:
        """Return west, south, east, north of each leaf's territory, a row each; codes of no leaf are passed over."""
        numbers = [self._numbers[code] for code in codes if code in self._numbers]
        boxes: Floats = self._boxes[numbers]
        return boxes
