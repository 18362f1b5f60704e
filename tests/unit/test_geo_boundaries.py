"""Official boundaries: what is read, what is refused, and how they change who is concerned."""

from __future__ import annotations

import json

import pytest
import shapely
from shapely.geometry import mapping

from lalert.errors import InvalidGeometry, TooLarge
from lalert.geo import Gazetteer, boundaries, read_boundaries
from lalert.resources import gazetteer_csv

GAZETTEER = Gazetteer.from_csv(gazetteer_csv())

YATSUSHIRO, HITOYOSHI, KUMAMOTO_CITY = "432024", "432032", "431001"
WEST = shapely.box(130.5, 32.4, 130.6, 32.5)
EAST = shapely.box(130.6, 32.4, 130.7, 32.5)  # shares the border at 130.6 with WEST


def territory(gazetteer: Gazetteer, code: str) -> shapely.Geometry:
    found = gazetteer.geometry(code)
    assert found is not None
    return found


def catchment(gazetteer: Gazetteer, code: str) -> shapely.Geometry:
    found = gazetteer.catchment(code)
    assert found is not None
    return found


def n03(code: str | None, geometry: shapely.Geometry) -> dict[str, object]:
    properties = {"N03_001": "熊本県", "N03_004": "某市", "N03_007": code}
    return {"type": "Feature", "properties": properties, "geometry": mapping(geometry)}


def collection(*features: object) -> bytes:
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


NEIGHBOURS = GAZETTEER.with_boundaries(collection(n03("43202", WEST), n03("43203", EAST)))


def test_an_official_boundary_replaces_the_outline_of_its_code_alone() -> None:
    assert NEIGHBOURS.boundaries == "official"
    assert NEIGHBOURS.official(YATSUSHIRO)
    assert territory(NEIGHBOURS, YATSUSHIRO).equals(WEST)
    assert not NEIGHBOURS.official(KUMAMOTO_CITY)
    assert territory(NEIGHBOURS, KUMAMOTO_CITY).equals(territory(GAZETTEER, KUMAMOTO_CITY))
    assert GAZETTEER.boundaries == "points"
    assert "国土数値情報" in NEIGHBOURS.attribution
    assert "Geolonia" in NEIGHBOURS.attribution


def test_a_surface_that_only_touches_a_border_does_not_concern_the_other_side() -> None:
    inside = shapely.box(130.52, 32.42, 130.6, 32.48)
    assert YATSUSHIRO in NEIGHBOURS.codes_of(inside)
    assert HITOYOSHI not in NEIGHBOURS.codes_of(inside)
    assert HITOYOSHI in NEIGHBOURS.codes_of(shapely.box(130.52, 32.42, 130.601, 32.48))
    assert HITOYOSHI not in NEIGHBOURS.codes_of(WEST)


def test_a_point_or_line_on_a_border_concerns_both_sides() -> None:
    for geometry in (shapely.Point(130.6, 32.45), shapely.LineString([(130.6, 32.42), (130.6, 32.48)])):
        assert {YATSUSHIRO, HITOYOSHI} <= NEIGHBOURS.codes_of(geometry)


def test_an_outline_is_met_by_a_touch() -> None:
    outline = catchment(NEIGHBOURS, KUMAMOTO_CITY)
    _, _, east, _ = outline.bounds
    beside = shapely.box(east, 32, east + 1, 34)
    touched = {ward.code for ward in GAZETTEER.children(KUMAMOTO_CITY)} & NEIGHBOURS.codes_of(beside)
    assert touched


def test_the_simplified_form_is_read_by_its_code_or_lgcode() -> None:
    read = read_boundaries(
        collection(
            {"type": "Feature", "properties": {"code": "43202"}, "geometry": mapping(WEST)},
            {"type": "Feature", "properties": {"lgcode": "432032"}, "geometry": mapping(EAST)},
        )
    )
    assert set(read) == {YATSUSHIRO, HITOYOSHI}


def test_the_features_of_one_code_are_joined() -> None:
    read = read_boundaries(collection(n03("43202", WEST), n03("43203", EAST), n03("43202", EAST)))
    assert read[YATSUSHIRO].equals(shapely.union(WEST, EAST))


def test_a_later_file_adds_to_an_earlier_one_and_wins_where_both_have_a_code() -> None:
    again = NEIGHBOURS.with_boundaries(collection(n03("43202", EAST)))
    assert territory(again, YATSUSHIRO).equals(EAST)
    assert again.official(HITOYOSHI)


def test_a_ring_that_crosses_itself_is_repaired_and_its_spike_dropped() -> None:
    bow_tie = shapely.Polygon([(130, 32), (131, 33), (131, 32), (130, 33)])
    spiked = shapely.Polygon([(130, 32), (131, 32), (131, 33), (131, 34), (131, 33), (130, 33)])
    read = read_boundaries(collection(n03("43202", bow_tie), n03("43203", spiked)))
    assert shapely.is_valid(read[YATSUSHIRO])
    assert read[YATSUSHIRO].area == pytest.approx(0.5)
    assert read[HITOYOSHI].equals(shapely.box(130, 32, 131, 33))


def test_land_of_no_municipality_is_left_out() -> None:
    read = read_boundaries(collection(n03(None, WEST), n03("43000", WEST), n03("", WEST), n03("43203", EAST)))
    assert set(read) == {HITOYOSHI}


def test_a_municipality_newer_than_the_gazetteer_is_found_by_its_boundary() -> None:
    newer = GAZETTEER.with_boundaries(collection(n03("43299", WEST)))
    assert "432997" in newer.codes_of(WEST.centroid)
    assert territory(newer, "432997").equals(WEST)
    assert newer.place("432997") is None
    assert newer.reach(["432997"]) == {"432997", "43"}


def test_the_boundary_of_a_merged_ward_is_passed_over() -> None:
    merged = GAZETTEER.with_boundaries(collection(n03("22135", WEST), n03("43203", EAST)))
    assert not merged.official("221350")
    assert territory(merged, "221350").equals(territory(GAZETTEER, "221350"))


def test_without_boundaries_of_their_own_the_wards_share_all_of_their_citys() -> None:
    city = shapely.box(130.4, 32.5, 131.2, 33.2)  # wider than what the outlines of the wards reach
    shared = GAZETTEER.with_boundaries(collection(n03("43100", city)))
    wards = [ward.code for ward in GAZETTEER.children(KUMAMOTO_CITY)]
    assert territory(shared, KUMAMOTO_CITY).equals(city)
    assert catchment(shared, KUMAMOTO_CITY).equals(city)
    together = shapely.union_all([catchment(shared, ward) for ward in wards])
    assert shapely.symmetric_difference(together, city).area < 1e-12  # what rounding leaves along the cuts
    far_corner = shapely.Point(131.19, 32.51)
    assert set(wards) <= shared.codes_of(far_corner)
    assert KUMAMOTO_CITY not in shared.codes_of(far_corner)
    assert not set(wards) & shared.codes_of(shapely.Point(131.3, 32.51))
    ward = GAZETTEER.place(wards[0])
    assert ward is not None
    assert wards[0] in shared.codes_of(shapely.Point(ward.lon, ward.lat))


def test_what_the_boundaries_of_wards_leave_out_of_their_citys_is_everybodys() -> None:
    city = shapely.box(130.5, 32, 131, 33)
    wards = [ward.code for ward in GAZETTEER.children(KUMAMOTO_CITY)]
    strips = {code: shapely.box(130.5 + i / 10, 32, 130.59 + i / 10, 33) for i, code in enumerate(wards[1:])}
    given = [n03("43100", city), *(n03(code[:5], strip) for code, strip in strips.items())]
    both = GAZETTEER.with_boundaries(collection(*given))
    together = shapely.union_all([catchment(both, ward) for ward in wards])
    assert shapely.difference(city, together).area < 1e-12
    assert all(shapely.difference(strip, catchment(both, code)).is_empty for code, strip in strips.items())
    in_no_strip = shapely.Point(130.595, 32.01)
    assert not any(strip.intersects(in_no_strip) for strip in strips.values())
    assert both.leaves_meeting([in_no_strip])[0] & both.leaves([KUMAMOTO_CITY])


def test_wards_without_boundaries_of_their_own_are_shown_as_parts_of_their_citys() -> None:
    wards = [ward.code for ward in GAZETTEER.children(KUMAMOTO_CITY)]
    whole = territory(GAZETTEER, KUMAMOTO_CITY)
    west, south, east, north = whole.bounds
    half = shapely.box(west - 0.1, south, (west + east) / 2, north)
    shared = GAZETTEER.with_boundaries(collection(n03("43100", half)))
    together = shapely.union_all([territory(shared, ward) for ward in wards])
    assert shapely.symmetric_difference(together, half).area < 1e-12
    in_the_west = [ward for ward in wards if territory(GAZETTEER, ward).intersects(half)]
    assert 0 < len(in_the_west) < len(wards)
    for ward in in_the_west:
        assert territory(shared, ward).covers((territory(GAZETTEER, ward) & half).buffer(-1e-9))
        assert not territory(shared, ward).covers(half)


def test_a_place_is_approximate_as_long_as_any_part_of_it_is() -> None:
    assert GAZETTEER.approximate(YATSUSHIRO)
    assert not NEIGHBOURS.approximate(YATSUSHIRO)
    assert NEIGHBOURS.approximate("43")
    assert not NEIGHBOURS.approximate("439991")
    wards = [ward.code for ward in GAZETTEER.children(KUMAMOTO_CITY)]
    strips = [
        n03(code[:5], shapely.box(130.5 + i / 10, 32, 130.6 + i / 10, 33)) for i, code in enumerate(wards)
    ]
    assert GAZETTEER.with_boundaries(collection(*strips[:-1])).approximate(KUMAMOTO_CITY)
    assert not GAZETTEER.with_boundaries(collection(*strips)).approximate(KUMAMOTO_CITY)
    of_the_city = GAZETTEER.with_boundaries(collection(n03("43100", shapely.box(130.4, 32.5, 131.2, 33.2))))
    assert not of_the_city.approximate(KUMAMOTO_CITY)
    assert of_the_city.approximate(wards[0])
    assert of_the_city.within_official(wards[0])
    assert not of_the_city.within_official(YATSUSHIRO)


def test_a_city_without_a_boundary_is_the_union_of_its_wards_boundaries() -> None:
    wards = [ward.code for ward in GAZETTEER.children(KUMAMOTO_CITY)]
    strips = [shapely.box(130.5 + i / 10, 32, 130.6 + i / 10, 33) for i in range(len(wards))]
    joined = GAZETTEER.with_boundaries(
        collection(*(n03(code[:5], strip) for code, strip in zip(wards, strips, strict=True)))
    )
    assert territory(joined, KUMAMOTO_CITY).equals(shapely.union_all(strips))


@pytest.mark.parametrize(
    ("geojson", "sentence"),
    [
        (b"\xff\xfe", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a GeoJSON FeatureCollection"),
        (b'{"type": "Topology"}', "not a GeoJSON FeatureCollection"),
        (b'{"features": {}}', "not a GeoJSON FeatureCollection"),
        (b'{"features": []}', "no feature has a municipality code"),
        (collection(n03(None, WEST)), "no feature has a municipality code"),
        (collection(n03("43202", WEST), "x"), "feature 1 has no properties"),
        (collection(n03("43202", WEST), {"properties": None}), "feature 1 has no properties"),
        (collection(n03("432025", WEST)), "feature 0: 432025: the check digit of 43202 is 4"),
        (collection(n03("99202", WEST)), "feature 0: 99202: there is no prefecture 99"),
        (collection(n03("43202", shapely.Point(130, 32))), "feature 0 has the geometry Point"),
        (
            collection(n03("43202", WEST), {"properties": {"code": "43203"}}),
            "feature 1 has the geometry None",
        ),
        (collection(n03("43202", shapely.box(32.4, 130.5, 32.5, 130.6))), "feature 0 lies outside"),
        (collection(n03("43202", shapely.Polygon())), "the features of 432024 enclose nothing"),
    ],
)
def test_a_file_that_does_not_serve_is_refused_with_the_feature_and_a_remedy(
    geojson: bytes, sentence: str
) -> None:
    with pytest.raises(InvalidGeometry) as refused:
        GAZETTEER.with_boundaries(geojson)
    assert sentence in refused.value.detail
    assert len(refused.value.detail) < 300


@pytest.mark.parametrize(
    "coordinates",
    [
        "[]",
        "[[[130,32],[131,32]]]",
        "[[[130,32],[131,32],[131,33],[130]]]",
        '[[["a","b"],[131,32],[131,33],[130,32]]]',
        "[[130,32],[131,32],[131,33],[130,32]]",
        "[[[130,32],[131,32],[131,NaN],[130,32]]]",
        "[[[130,32],[131,32],[131,1e999],[130,32]]]",
        "[[[130,32],[131,32],[131,null],[130,32]]]",
        "[[[130,32],[131,32],[131,[1,2]],[130,32]]]",
        "[[[130,32],[131,32],[132,32],[130,32]]]",
        f"[[[130,32],[131,32],[{10**400},33],[130,32]]]",
        "7",
        "null",
        '{"a": 1}',
        '"text"',
    ],
)
def test_coordinates_that_enclose_nothing_are_refused(coordinates: str) -> None:
    geometry = f'{{"type": "Polygon", "coordinates": {coordinates}}}'
    feature = f'{{"properties": {{"N03_007": "43202"}}, "geometry": {geometry}}}'
    with pytest.raises(InvalidGeometry):
        read_boundaries(f'{{"features": [{feature}]}}'.encode())


@pytest.mark.parametrize(
    "geometry", ['{"type": "Polygon"}', '{"type": []}', '{"type": {}}', "{}", "[]", "null"]
)
def test_what_is_no_geometry_is_refused(geometry: str) -> None:
    feature = f'{{"properties": {{"code": "43202"}}, "geometry": {geometry}}}'
    with pytest.raises(InvalidGeometry, match="feature 0"):
        read_boundaries(f'{{"features": [{feature}]}}'.encode())


def test_heights_are_dropped() -> None:
    high = shapely.force_3d(WEST, 100.0)
    assert read_boundaries(collection(n03("43202", high)))[YATSUSHIRO].equals(WEST)
    assert not shapely.has_z(read_boundaries(collection(n03("43202", high)))[YATSUSHIRO])


def test_files_over_the_limits_are_refused_before_they_are_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundaries, "MAX_FEATURES", 2)
    with pytest.raises(TooLarge, match="3 features"):
        read_boundaries(collection(n03("43202", WEST), n03("43203", EAST), "never looked at"))
    monkeypatch.setattr(boundaries, "MAX_BYTES", 10)
    with pytest.raises(TooLarge, match="11 bytes"):
        read_boundaries(b"not { json ")
