"""What an index keeps of surfaces: corners, and boxes around so many edges in a row."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from lalert.matching import FilterIndex
from lalert.matching.drawn import Drawn
from lalert.matching.postings import Base, Overlay
from lalert.matching.raster import Raster
from lalert.matching.surfaces import boxes_of, corners_of, spans_of
from lalert.model import Filter

positions = st.tuples(st.floats(-180, 180), st.floats(-90, 90))
EDGES = 16


def ring(corners: int, lon: float = 131.0, lat: float = 32.0) -> tuple[tuple[float, float], ...]:
    angles = [2 * math.pi * n / corners for n in range(corners)]
    around = [(lon + 0.1 * math.cos(angle), lat + 0.1 * math.sin(angle)) for angle in angles]
    return (*around, around[0])


@given(st.lists(positions, min_size=2, max_size=70))
def test_the_boxes_hold_all_corners_of_their_edges_and_are_not_wider_than_rounding_makes_them(
    line: list[tuple[float, float]],
) -> None:
    corners = np.array(line)
    boxes = boxes_of(corners)
    assert len(boxes) == spans_of(np.array([len(line)], dtype=np.int32))[0] == -(-(len(line) - 1) // EDGES)
    for number, box in enumerate(boxes.astype(np.float64)):
        own = corners[number * EDGES : number * EDGES + EDGES + 1]
        exact = np.concatenate((own.min(axis=0), own.max(axis=0)))
        assert (box[:2] <= exact[:2]).all()
        assert (box[2:] >= exact[2:]).all()
        assert box == pytest.approx(exact, abs=2e-5)


def test_the_gap_between_two_rings_widens_no_box() -> None:
    holed = shapely.Polygon(ring(14), [ring(5)])
    boxes = boxes_of(corners_of(holed))
    assert np.isfinite(boxes).all()
    assert boxes.min() > 31.8


def test_sorted_surfaces_keep_their_own_corners_and_boxes() -> None:
    overlay = Overlay()
    rings = [ring(n, 130 + n / 100) for n in (40, 3, 16, 17, 100)]
    for number, corners in enumerate(rings):
        overlay.add_surface(np.array(corners), number)
    rows = Base.of(overlay.rows()).rows
    surfaces = rows.surfaces
    assert sorted(rows.surface_numbers.tolist()) == list(range(len(rings)))
    for place, number in enumerate(rows.surface_numbers.tolist()):
        assert list(surfaces.geometry(place).exterior.coords) == list(rings[number])
        start = surfaces.span_starts[place]
        boxes = boxes_of(np.array(rings[number]))
        assert surfaces.span_boxes[start : start + len(boxes)].tolist() == boxes.tolist()


def test_a_picture_that_is_border_alone_has_nothing_inside() -> None:
    rows = [((0, n / 64), (1, n / 64)) for n in range(65)]
    columns = [((n / 64, 0), (n / 64, 1)) for n in range(65)]
    drawn = Drawn.of(shapely.MultiLineString([*rows, *columns]))
    picture = Raster.of(drawn, 16)
    assert not picture.within.any()
    assert picture.may_meet(
        np.array([[0.01, 0.01, 0.02, 0.02], [2, 2, 3, 3]], dtype=np.float32)
    ).tolist() == [
        True,
        False,
    ]


def test_a_base_holds_no_more_than_its_own_rows() -> None:
    index = FilterIndex()
    for n in range(1_000):
        index.add(Filter(polygon=ring(20, 130 + n / 1_000), areas=frozenset({f"{n % 47:02}"})))
    base = index.snapshot().rebuilt()
    columns = [getattr(base, field.name) for field in dataclasses.fields(base) if field.name != "rows"]
    for rows in (base.rows, base.rows.surfaces):
        columns += [getattr(rows, field.name) for field in dataclasses.fields(rows)]
    arrays = [column for column in columns if isinstance(column, np.ndarray)]
    held = sum((array if array.base is None else array.base).nbytes for array in arrays)
    assert held < 1_000 * (21 * 16 + 100)
