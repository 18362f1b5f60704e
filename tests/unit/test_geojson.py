"""Alerts as GeoJSON, held against RFC 7946 clause by clause."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from lalert import resources
from lalert.geo import Gazetteer
from lalert.matching import facts_of
from lalert.model import Alert, Area, Circle, Entry, NamedValue, Origin, OriginKind, Ring
from lalert.testing import make_alert
from lalert.texts import alert_geojson

NOW = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
OUTLINES = Gazetteer.from_csv(resources.gazetteer_csv())
HITOYOSHI = "432032"


def feature_of(alert: Alert, gazetteer: Gazetteer = OUTLINES) -> dict[str, Any]:
    entry = Entry("e-1", NOW, NOW, alert, Origin(OriginKind.HTTP), alert.id, facts_of(alert, gazetteer))
    feature: dict[str, Any] = json.loads(json.dumps(alert_geojson(entry)))
    return feature


def polygons_of(geometry: dict[str, Any]) -> Iterator[list[list[list[float]]]]:
    if geometry["type"] == "GeometryCollection":
        for part in geometry["geometries"]:
            assert part["type"] != "GeometryCollection"  # 3.1.8: nested ones should be avoided
            yield from polygons_of(part)
    elif geometry["type"] == "Polygon":
        yield geometry["coordinates"]
    elif geometry["type"] == "MultiPolygon":
        yield from geometry["coordinates"]


def positions_of(coordinates: Any) -> Iterator[list[float]]:
    if isinstance(coordinates[0], list):
        for part in coordinates:
            yield from positions_of(part)
    else:
        yield coordinates


def all_positions(geometry: dict[str, Any]) -> list[list[float]]:
    if geometry["type"] == "GeometryCollection":
        return [position for part in geometry["geometries"] for position in all_positions(part)]
    return list(positions_of(geometry["coordinates"]))


def turn(ring: list[list[float]]) -> float:
    """Return twice the area that a ring encloses: above zero if it runs counterclockwise."""
    return math.fsum((b[0] - a[0]) * (b[1] + a[1]) for a, b in zip(ring[1:], ring, strict=False))


def require_rfc_7946(feature: dict[str, Any]) -> None:
    """Assert what the RFC asks of a Feature."""
    assert feature["type"] == "Feature"
    assert isinstance(feature["id"], str)  # 3.2
    assert isinstance(feature["properties"], dict)
    assert "crs" not in feature  # 4
    assert not {"coordinates", "geometries", "features"} & feature.keys()  # 7.1
    geometry = feature["geometry"]
    if geometry is None:
        assert "bbox" not in feature
        return
    for ring in (ring for polygon in polygons_of(geometry) for ring in polygon):
        assert len(ring) >= 4  # 3.1.6
        assert ring[0] == ring[-1]
    for exterior, *interiors in polygons_of(geometry):
        assert turn(exterior) >= -1e-12
        assert all(turn(interior) <= 1e-12 for interior in interiors)
    west, south, east, north = feature["bbox"]  # 5
    assert max(abs(west), abs(east)) <= 180
    assert -90 <= south <= north <= 90
    for lon, lat in all_positions(geometry):
        assert abs(lon) <= 180
        assert (lon, lat) == (round(lon, 7), round(lat, 7))  # 11.2: more decimals cost more than they say
        assert south <= lat <= north
        # 5.2: a box that crosses the antimeridian has its western edge east of its eastern one.
        assert west <= lon <= east if west <= east else (lon >= west or lon <= east)


longitudes = st.one_of(
    st.floats(-180, 180), st.floats(179.9, 180), st.floats(-180, -179.9), st.sampled_from([-180.0, 180.0])
)
latitudes = st.one_of(st.floats(-90, 90), st.floats(84, 90), st.just(0.0))
circles = st.builds(Circle, longitudes, latitudes, st.one_of(st.just(0.0), st.floats(0.001, 2_000_000)))


@st.composite
def rings(draw: st.DrawFn) -> Ring:
    """Return a ring around somewhere, which may cross the antimeridian, run either way round, or cross itself."""
    lon, lat = draw(longitudes), draw(st.floats(-80, 80))
    size = draw(st.sampled_from([1e-8, 1e-4, 0.1, 5.0]))
    corners = draw(
        st.lists(st.tuples(st.floats(-size, size), st.floats(-size, size)), min_size=3, max_size=8)
    )
    ring = [((lon + x + 180) % 360 - 180, lat + y) for x, y in corners]
    return (*ring, ring[0])


codes = st.sampled_from([HITOYOSHI, "43", "401307", "473502", "999999", "x"])
areas = st.builds(
    lambda polygons, rounds, names: Area(
        "どこか", tuple(polygons), tuple(rounds), tuple(NamedValue("JISX0402", name) for name in names)
    ),
    st.lists(rings(), max_size=3),
    st.lists(circles, max_size=2),
    st.lists(codes, max_size=2),
)


@given(st.lists(areas, max_size=3))
def test_whatever_an_alert_is_drawn_as_the_feature_conforms(drawn: list[Area]) -> None:
    require_rfc_7946(feature_of(make_alert(areas=drawn, raw=b"<alert/>")))


def test_a_circle_is_the_polygon_around_it_and_its_radius_a_property() -> None:
    feature = feature_of(make_alert(areas=[Area("x", circles=(Circle(130.76, 32.21, 1500.0),))]))
    require_rfc_7946(feature)
    shape = shapely.from_geojson(json.dumps(feature["geometry"]))
    assert shape.geom_type == "Polygon"
    east = 130.76 + 1500 / (111_320 * math.cos(math.radians(32.21)))
    assert shape.contains(shapely.Point(130.76, 32.21))
    assert shape.bounds[2] == pytest.approx(east, rel=1e-5)
    assert feature["properties"]["circles"] == [{"lon": 130.76, "lat": 32.21, "radius_m": 1500.0}]


def test_what_crosses_the_antimeridian_is_cut_there_and_its_box_goes_over_it() -> None:
    ring = ((179.5, -17.0), (-179.5, -17.0), (-179.5, -16.0), (179.5, -16.0), (179.5, -17.0))
    feature = feature_of(make_alert(areas=[Area("フィジー", polygons=(ring,))]))
    require_rfc_7946(feature)
    assert feature["geometry"]["type"] == "MultiPolygon"
    assert sorted(
        sorted({lon for lon, _ in exterior}) for [exterior] in feature["geometry"]["coordinates"]
    ) == [
        [-180, -179.5],
        [179.5, 180],
    ]
    assert feature["bbox"] == [179.5, -17, -179.5, -16]


def test_islands_are_one_feature_of_several_polygons() -> None:
    squares = [
        tuple((lon + x, 30 + y) for x, y in ((0, 0), (0, 1), (1, 1), (1, 0), (0, 0))) for lon in (130, 135)
    ]
    feature = feature_of(make_alert(areas=[Area("島", polygons=(ring,)) for ring in squares]))
    require_rfc_7946(feature)
    assert feature["geometry"]["type"] == "MultiPolygon"
    assert feature["bbox"] == [130, 30, 136, 31]


def official(code: str) -> Gazetteer:
    ring = [[130.7, 32.1], [130.9, 32.1], [130.9, 32.3], [130.7, 32.3], [130.7, 32.1]]
    boundary = {
        "type": "Feature",
        "properties": {"N03_007": code},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    return OUTLINES.with_boundaries(
        json.dumps({"type": "FeatureCollection", "features": [boundary]}).encode()
    )


def test_a_boundary_that_is_not_official_is_marked_approximate() -> None:
    by_code = Area("人吉市", geocodes=(NamedValue("JISX0402", HITOYOSHI),))
    drawn = Area("川沿い", polygons=(((130.7, 32.2), (130.8, 32.2), (130.8, 32.3), (130.7, 32.2)),))

    def approximate(*areas: Area, gazetteer: Gazetteer = OUTLINES) -> object:
        return feature_of(make_alert(areas=areas), gazetteer)["properties"]["approximate"]

    assert approximate(by_code) is True
    assert approximate(drawn, by_code) is True
    assert approximate(by_code, gazetteer=official(HITOYOSHI[:5])) is False
    # What a sender has drawn is exact, whatever codes stand beside it.
    assert approximate(drawn) is False
    assert approximate(Area("x", drawn.polygons, geocodes=by_code.geocodes)) is False
    assert approximate(Area("どこか")) is False
