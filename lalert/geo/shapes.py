"""Rings, circles and areas of an alert as shapely geometry, and geometry as GeoJSON; everything in (lon, lat) degrees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import shapely

from lalert.errors import InvalidGeometry

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from lalert.model import Area, Ring

MAX_RADIUS_M: Final = 20_000_000.0
EARTH_RADIUS_M: Final = 6_371_008.8
DECIMALS: Final = 7
"""Of a coordinate in GeoJSON: a centimetre."""

_CIRCLE_SIDES = 64
_BIG_CIRCLE_SIDES = 256
_BIG_CIRCLE_M = 500_000
# A degree of latitude is up to 0.56 % shorter on the ellipsoid of WGS 84, at the equator, than on the sphere, and the side of a polygon, straight
# in degrees, cuts off a sliver of a great circle: 0.6 per cent more, and nobody within the radius is missed.
_CIRCLE_MARGIN = 1.006
# Nearer to a pole than this, sides that are straight in degrees follow the circle too badly.
_POLAR_LATITUDE = 85.0
# Joining the pieces of a ring that crosses itself costs time and memory for each crossing: 10,000 points in disorder have 25 million.
_MAX_LOOPS = 200
_UNION_STEP = 128
_MAX_REPAIRED_POINTS = 10_000
# Rings of more points are probed for crossings first, if their edges are longer than this share of their extent.
_MANY_POINTS = 1_000
_LONG_EDGE = 0.02
_PROBES = 3
_BEYOND_DOUBT = 1e-9  # square degrees: far above what rounding does to products of numbers up to 360

# A sound ring round the earth is 360 degrees long, and wiggles; one that goes round many times overlaps itself.
_MAX_SPAN = 720

_SENTENCES = {
    "not-finite": "it has a coordinate that is not a finite number",
    "out-of-range": "it leaves longitude -180..180 or latitude -90..90; was (lon, lat) taken for (lat, lon)?",
    "too-few-points": "a ring needs at least four points, the last the same as the first",
    "not-closed": "its last point must be the same as its first",
    "zero-area": "all its points lie on one line, so that it encloses nothing",
    "self-intersecting": "its border touches or crosses itself",
}

_LIMITS = np.array((180.0, 90.0))

Floats = npt.NDArray[np.float64]


def ring_problem(ring: Sequence[tuple[float, float]] | Floats) -> str | None:
    """Return what is wrong with a ring, as a word, or None.

    `not-finite`, `out-of-range`, `too-few-points`, `not-closed`, `zero-area` or `self-intersecting` (CAP 1.2, 3.2.4 <polygon>:
    at least four points, first and last the same). Repeated points, the antimeridian and a pole inside are fine.
    """
    return _Ring.of(_points(ring)).problem


def polygon_geometry(ring: Sequence[tuple[float, float]]) -> BaseGeometry:
    """Return the polygon of a ring, split in two where it crosses the antimeridian.

    An edge longer than 180 degrees of longitude is taken to go the other way, over the antimeridian; a ring that goes once round
    the earth encloses the pole of its side. Raises InvalidGeometry for every `ring_problem`.
    """
    read = _Ring.of(_points(ring))
    if read.problem:
        raise InvalidGeometry(f"the polygon is not usable: {_SENTENCES[read.problem]}")
    return _within_180(shapely.Polygon(read.flat))


def repair(ring: Sequence[tuple[float, float]], *, closely: bool = True) -> BaseGeometry:
    """Return a valid geometry in which nobody whom the ring encloses is missed; of a sound ring, `polygon_geometry`.

    An open ring is closed. One that crosses itself in a few short loops becomes all that it encloses, with the convex hull of each loop; one
    whose points are in disorder, or that is not looked at `closely`, its own convex hull, which costs next to nothing. A ring without area becomes its line or point.
    Raises InvalidGeometry for no points, and for coordinates that are no numbers or out of range: there is no telling what was meant.
    """
    points = _points(ring)
    if not len(points):
        raise InvalidGeometry("the polygon has no points")
    read = _Ring.of(np.vstack((points, points[:1])))
    if read.problem in {"not-finite", "out-of-range"}:
        raise InvalidGeometry(f"the polygon is not usable: {_SENTENCES[read.problem]}")
    if read.problem in {"too-few-points", "zero-area"}:
        return _within_180(shapely.convex_hull(shapely.MultiPoint(read.flat)))
    if read.problem == "self-intersecting":
        return _within_180(_enclosed(read.flat, closely=closely))
    return _within_180(shapely.Polygon(read.flat))


def repaired_rings(ring: Sequence[tuple[float, float]], *, closely: bool = True) -> tuple[Ring, ...]:
    """Return sound rings in which nobody whom a ring encloses is missed (`repair`); none where it encloses nothing.

    Raises InvalidGeometry as `repair` does.
    """
    return _outlines(repair(ring, closely=closely))


def judged_ring(
    ring: Sequence[tuple[float, float]] | Floats, *, closely: bool = True
) -> tuple[str | None, tuple[Ring, ...]]:
    """Return what `ring_problem` says of a ring and, of one that crosses itself, its `repaired_rings`, which look at it only once."""
    read = _Ring.of(_points(ring))
    if read.problem != "self-intersecting":
        return read.problem, ()
    return read.problem, _outlines(_within_180(_enclosed(read.flat, closely=closely)))


def _outlines(geometry: BaseGeometry) -> tuple[Ring, ...]:
    parts = shapely.get_parts(geometry)
    outlines = shapely.get_exterior_ring(parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON])
    return tuple(
        tuple((lon, lat) for lon, lat in shapely.get_coordinates(outline).tolist()) for outline in outlines
    )


def circle_geometry(lon: float, lat: float, radius_m: float) -> BaseGeometry:
    """Return a polygon around a circle on the globe; of radius 0 the point.

    64 sides (more for radii that matter to nobody on the ground) that lie outside the circle, 0.6 per cent away: whoever is within the
    radius on WGS 84 is in the polygon. A circle that comes near a pole becomes its whole band of latitudes. Raises InvalidGeometry for a
    centre or radius that is no finite number or out of range (0 to 20,000 km).
    """
    if not all(map(math.isfinite, (lon, lat, radius_m))):
        raise InvalidGeometry("the circle is not usable: its centre or radius is not a finite number")
    if not (abs(lon) <= 180 and abs(lat) <= 90):
        raise InvalidGeometry(
            f"the circle is not usable: its centre {lon:g}, {lat:g} is not on the globe (lon, lat)"
        )
    if not 0 <= radius_m <= MAX_RADIUS_M:
        raise InvalidGeometry(
            f"the circle is not usable: its radius of {radius_m:g} m is not between 0 and {MAX_RADIUS_M:.0f} m"
        )
    if radius_m == 0:
        return shapely.Point(lon, lat)
    # Below a metre the corners of the polygon would no longer be told apart in degrees, and it would meet nothing.
    radius_m = max(radius_m, 1.0)
    sides = _CIRCLE_SIDES if radius_m <= _BIG_CIRCLE_M else _BIG_CIRCLE_SIDES
    angle = radius_m / EARTH_RADIUS_M * _CIRCLE_MARGIN / math.cos(math.pi / sides)
    south, north = lat - math.degrees(angle), lat + math.degrees(angle)
    if north > _POLAR_LATITUDE or south < -_POLAR_LATITUDE:
        return shapely.box(
            -180,
            -90 if south < -_POLAR_LATITUDE else south,
            180,
            90 if north > _POLAR_LATITUDE else north,
        )
    bearing = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    phi = math.radians(lat)
    sin_lat = math.sin(phi) * math.cos(angle) + math.cos(phi) * math.sin(angle) * np.cos(bearing)
    east = np.arctan2(
        np.sin(bearing) * math.sin(angle) * math.cos(phi), math.cos(angle) - math.sin(phi) * sin_lat
    )
    flat = np.column_stack((lon + np.degrees(east), np.degrees(np.arcsin(sin_lat))))
    return _within_180(shapely.Polygon(flat))


def area_geometry(area: Area, *, strict: bool = True) -> BaseGeometry:
    """Return the union of an area's polygons and circles; empty where it has neither (its geocodes are the gazetteer's matter).

    Strict, a ring with any `ring_problem` raises InvalidGeometry; otherwise it is repaired, so that an alert that was taken in with
    a defect still reaches everybody inside.
    """
    ring_geometry = polygon_geometry if strict else repair
    parts = [ring_geometry(ring) for ring in area.polygons]
    parts += [circle_geometry(circle.lon, circle.lat, circle.radius_m) for circle in area.circles]
    return parts[0] if len(parts) == 1 else shapely.union_all(parts)


def with_twins(geometry: BaseGeometry) -> BaseGeometry:
    """Return a geometry in -180..180 with the places on its border that have a second position: at 180 and -180, and the poles on every meridian."""
    west, south, east, north = geometry.bounds
    twins: list[BaseGeometry] = []
    for meridian in (edge for edge, reached in ((180, east), (-180, west)) if edge == reached):
        border = shapely.intersection(geometry, shapely.LineString([(meridian, -90), (meridian, 90)]))
        twins.append(shapely.transform(border, lambda lonlat, turn=2 * meridian: lonlat - (turn, 0)))
    twins += [shapely.LineString([(-180, pole), (180, pole)]) for pole in {south, north} & {-90, 90}]
    return shapely.union_all([geometry, *twins]) if twins else geometry


def union(shapes: Sequence[BaseGeometry]) -> BaseGeometry:
    """Return the union of polygons, in steps of a few milliseconds.

    GEOS makes the union of thousands in one step, during which no other thread can run.
    """
    if len(shapes) <= _UNION_STEP:
        return shapely.disjoint_subset_union_all(shapes)
    south_to_north = sorted(shapes, key=lambda shape: shape.bounds[1])
    half = len(shapes) // 2
    halves = [union(south_to_north[:half]), union(south_to_north[half:])]
    return shapely.disjoint_subset_union_all(shapely.get_parts(halves))


def bbox(geometry: BaseGeometry) -> tuple[float, float, float, float] | None:
    """Return west, south, east, north in degrees, or None of an empty geometry.

    Where that is the smaller box it goes over the antimeridian, and west is greater than east (RFC 7946, 5.2).
    """
    if geometry.is_empty:
        return None
    west, south, east, north = (float(bound) for bound in geometry.bounds)
    if east - west <= 180:
        return west, south, east, north
    return joint_bbox(shapely.bounds(shapely.get_parts(geometry)))


def joint_bbox(boxes: Floats) -> tuple[float, float, float, float] | None:
    """Return the box around several, each a row of west, south, east, north within -180..180, that leaves out the widest gap between them, as `bbox` does; None around none."""
    if not len(boxes):
        return None
    west, south = boxes[:, :2].min(axis=0).tolist()
    east, north = boxes[:, 2:].max(axis=0).tolist()
    if east - west > 180:
        west, east = _around_the_gap(boxes)
    return west, south, east, north


def to_geojson(geometry: BaseGeometry) -> dict[str, object]:
    """Return a GeoJSON geometry (RFC 7946): lon first, outer rings counterclockwise, at most `DECIMALS`."""
    if geometry.is_empty:
        return {"type": "GeometryCollection", "geometries": []}
    if geometry.geom_type == "GeometryCollection":
        return {"type": "GeometryCollection", "geometries": [to_geojson(part) for part in geometry.geoms]}
    return {"type": geometry.geom_type, "coordinates": _coordinates(shapely.orient_polygons(geometry))}


@dataclass(frozen=True, slots=True)
class _Ring:
    """A ring as read: its points without jumps at the antimeridian (`flat`, which may leave -180..180), and what is wrong with it."""

    flat: Floats
    problem: str | None

    @classmethod
    def of(cls, points: Floats) -> _Ring:
        problem = _plain_problem(points)
        if problem in {"not-finite", "out-of-range"}:
            return cls(points, problem)
        flat = _unwrapped(points)
        if problem:
            return cls(flat, problem)
        if len(flat) > _MANY_POINTS and _surely_crosses(flat):
            return cls(flat, "self-intersecting")
        polygon = shapely.Polygon(flat)
        if shapely.is_valid(polygon) and (flat is points or np.ptp(flat[:, 0]) <= _MAX_SPAN):
            return cls(flat, None)
        level = shapely.area(shapely.convex_hull(polygon)) == 0
        return cls(flat, "zero-area" if level else "self-intersecting")


def _surely_crosses(flat: Floats) -> bool:
    """Say whether one of the first edges meets one that is not its neighbour; asked where edges are so long that most rings with them do.

    To find out by GEOS alone takes a quarter of a second for a star of 40,000 points.
    """
    lengths = np.hypot(*np.diff(flat, axis=0).T)
    if lengths.mean() <= _LONG_EDGE * np.ptp(flat, axis=0).max():
        return False
    return any(_crosses(flat[n], flat[n + 1], flat[n + 2 : -1], flat[n + 3 :]) for n in range(1, 1 + _PROBES))


def _crosses(start: Floats, end: Floats, starts: Floats, ends: Floats) -> bool:
    """Say whether an edge crosses one of many beyond doubt: the ends of each lie on different sides of the other, and not nearly on it."""
    sides = (
        _side(end - start, starts - start),
        _side(end - start, ends - start),
        _side(ends - starts, start - starts),
        _side(ends - starts, end - starts),
    )
    apart = (sides[0] * sides[1] < 0) & (sides[2] * sides[3] < 0)
    return bool((apart & (np.min(np.abs(sides), axis=0) > _BEYOND_DOUBT)).any())


def _side(direction: Floats, point: Floats) -> Floats:
    side: Floats = direction[..., 0] * point[..., 1] - direction[..., 1] * point[..., 0]
    return side


def _points(ring: Sequence[tuple[float, float]] | Floats) -> Floats:
    return np.asarray(ring, dtype=np.float64).reshape(-1, 2)


def _plain_problem(points: Floats) -> str | None:
    if not (np.abs(points) <= _LIMITS).all():
        return "out-of-range" if np.isfinite(points).all() else "not-finite"
    if len(points) < 4:
        return "too-few-points"
    return None if (points[0] == points[-1]).all() else "not-closed"


def _unwrapped(points: Floats) -> Floats:
    """Return the ring with longitudes that run on over the antimeridian, closed over a pole if it goes round the earth."""
    steps = np.diff(points[:, 0])
    jumps = np.abs(steps) > 180
    if not jumps.any():
        return points
    # A step of exactly 360 is one edge along a parallel in a box round the globe, but no step at all where the ring is
    # drawn on both sides of the antimeridian: what gives a sound ring is meant.
    if (np.abs(steps[jumps]) == 360).all() and len(points) > 3 and shapely.is_valid(shapely.Polygon(points)):
        return points
    lon = points[0, 0] + np.concatenate(([0.0], np.cumsum(steps - 360 * np.round(steps / 360))))
    flat = np.column_stack((lon, points[:, 1]))
    if abs(lon[-1] - lon[0]) < 180:
        return flat
    pole = math.copysign(90, points[:, 1].mean())
    return np.vstack((flat, [(lon[-1], pole), (lon[0], pole), flat[0]]))


def _within_180(geometry: BaseGeometry) -> BaseGeometry:
    """Return the geometry cut at the antimeridian, all parts moved into -180..180."""
    west, south, east, north = geometry.bounds
    if west >= -180 and east <= 180:
        return geometry
    if east - west > _MAX_SPAN:  # only a ring to be repaired: each turn would cost a cut
        return shapely.convex_hull(shapely.MultiPoint([(x, y) for x in (-180, 180) for y in (south, north)]))
    parts = []
    for turn in range(math.floor((west + 180) / 360), math.ceil((east + 180) / 360)):
        shift = 360 * turn
        part = shapely.intersection(geometry, shapely.box(shift - 180, -90, shift + 180, 90))
        parts.append(shapely.transform(part, lambda lonlat, shift=shift: lonlat - (shift, 0)))
    return shapely.union_all(_of_highest_dimension(parts))


def _of_highest_dimension(geometries: list[BaseGeometry]) -> list[BaseGeometry]:
    """Return the parts that count: a polygon with a side along the antimeridian leaves a line on the other side."""
    parts = shapely.get_parts(shapely.get_parts(geometries))
    dimensions = shapely.get_dimensions(parts)
    return list(parts[dimensions == dimensions.max()])


def _enclosed(flat: Floats, *, closely: bool) -> BaseGeometry:
    """Return all that a ring encloses which crosses itself, whichever way it turns and whatever order the points of its loops were meant to have."""
    hull = shapely.convex_hull(shapely.linestrings(flat))
    loops = _loops(flat) if closely else None
    if loops is None:
        return hull
    faces = shapely.get_parts(shapely.polygonize([shapely.union_all(shapely.LineString(flat))]))
    # A ring that goes back the way it came has no faces, however bent.
    if not len(faces):
        return hull
    around = [shapely.convex_hull(shapely.MultiPoint(points)) for points in loops]
    return shapely.union_all(_of_highest_dimension([*faces, *around]))


def _loops(flat: Floats) -> list[Floats] | None:
    """Return the points of the loops in which a ring crosses itself; None where they are so many or so long that its points are in disorder.

    The two triangles of a bow tie hold but half of the square that was meant. Where only a few points in a row are in doubt, only what lies
    between them is.
    """
    count = len(flat) - 1
    if count > _MAX_REPAIRED_POINTS:
        return None
    edges = shapely.linestrings(np.stack((flat[:-1], flat[1:]), axis=1))
    tree = shapely.STRtree(edges)
    in_doubt = np.zeros(count, dtype=bool)
    met = 0
    for start in range(0, count, 64):
        one, other = tree.query(edges[start : start + 64], predicate="intersects")
        for first, second in zip((one + start).tolist(), other.tolist(), strict=True):
            between = (second - first) % count
            # Each pair is met twice, once from either side; an edge always meets its neighbours.
            if not 1 < between <= count / 2:
                continue
            met += 1
            if 4 * between > count or met > _MAX_LOOPS:
                return None
            in_doubt[np.arange(first, first + between + 2) % count] = True
    return _runs(flat[:-1], in_doubt)


def _runs(points: Floats, marked: npt.NDArray[np.bool_]) -> list[Floats] | None:
    """Return each run of marked points of a ring, None if one is longer than half of it."""
    if marked.all():
        return None
    begin = int(np.argmin(marked))  # a point without a mark, so that no run goes over the end
    points, marked = np.roll(points, -begin, axis=0), np.roll(marked, -begin)
    ends = np.flatnonzero(np.diff(marked.astype(np.int8), prepend=0, append=0))
    runs = [points[start:end] for start, end in ends.reshape(-1, 2).tolist()]
    return None if any(2 * len(run) > len(points) for run in runs) else runs


def _around_the_gap(boxes: Floats) -> tuple[float, float]:
    """Return the western and eastern end of boxes, so that the widest gap is outside, be it at the antimeridian or between two of them."""
    spans = boxes[np.argsort(boxes[:, 0])]
    east_so_far = np.maximum.accumulate(spans[:, 2])[:-1]
    gaps = spans[1:, 0] - east_so_far
    west, east = float(spans[0, 0]), float(spans[:, 2].max())
    if not len(gaps) or gaps.max() <= west + 360 - east:
        return west, east
    widest = int(gaps.argmax())
    return float(spans[widest + 1, 0]), float(east_so_far[widest])


def _coordinates(geometry: BaseGeometry) -> list[Any]:
    if geometry.geom_type == "Polygon":
        return [_positions(ring) for ring in (geometry.exterior, *geometry.interiors)]
    if geometry.geom_type.startswith("Multi"):
        return [_coordinates(part) for part in geometry.geoms]
    positions = _positions(geometry)
    return positions[0] if geometry.geom_type == "Point" else positions


def _positions(geometry: BaseGeometry) -> list[Any]:
    positions: list[Any] = np.round(shapely.get_coordinates(geometry), DECIMALS).tolist()
    return positions
