"""The shipped gazetteer held against a list of local governments and official boundaries that are not part of the project."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import shapely

from lalert import cap
from lalert.geo import Gazetteer, PlaceKind, polygon_geometry
from lalert.geo.former import read_former
from lalert.geo.regions import Regions
from lalert.geo.territories import AGREEMENT
from lalert.model import NamedValue
from lalert.resources import former_codes_csv, gazetteer_csv, jma_regions_csv

pytestmark = pytest.mark.shared

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
POINTS = Gazetteer.from_csv(gazetteer_csv())
REGIONS = Regions.from_csv(jma_regions_csv())
HAMAMATSU = "221309"  # the boundaries of wards at hand are from before it was reorganised
NEW_WARDS = {"221384", "221392", "221406"}


@pytest.fixture(scope="module")
def official() -> Gazetteer:
    municipalities = POINTS.with_boundaries((SHARED / "municipalities_n03-2025_light.geojson").read_bytes())
    return municipalities.with_boundaries((SHARED / "wards_n03-2021_1pct_5dp.geojson").read_bytes())


@pytest.fixture(scope="module")
def leaves_alone() -> Gazetteer:
    """Return the boundaries without those of cities that have boundaries of wards.

    The two files are simplified differently: what one of them has more than the other would be in each of the wards.
    """
    given = json.loads((SHARED / "municipalities_n03-2025_light.geojson").read_bytes())
    divided = {place.code for place in POINTS.places() if place.kind is PlaceKind.CITY_WITH_WARDS}
    given["features"] = [
        feature
        for feature in given["features"]
        if feature["properties"]["lgcode"] not in divided - {HAMAMATSU}
    ]
    municipalities = POINTS.with_boundaries(json.dumps(given).encode())
    return municipalities.with_boundaries((SHARED / "wards_n03-2021_1pct_5dp.geojson").read_bytes())


@pytest.fixture(scope="module")
def listed() -> Mapping[str, Mapping[str, str]]:
    """Return the rows of the other list by 6-digit code, without land of no municipality."""
    with (SHARED / "municipality_codes.csv").open(encoding="utf-8") as file:
        return {row["lgcode6"]: row for row in csv.DictReader(file) if not row["code5"].endswith("000")}


def test_codes_agree_but_for_the_wards_that_the_list_does_not_know_yet(
    listed: Mapping[str, Mapping[str, str]],
) -> None:
    ours = {place.code for place in POINTS.places() if place.kind is not PlaceKind.PREFECTURE}
    assert ours - listed.keys() == NEW_WARDS
    missing = [POINTS.place(code) for code in listed.keys() - ours]
    assert {place and place.kind for place in missing} == {PlaceKind.FORMER_WARD}
    assert len(missing) == 7


def test_names_readings_and_points_agree_everywhere(listed: Mapping[str, Mapping[str, str]]) -> None:
    for code, row in listed.items():
        place = POINTS.place(code)
        assert place is not None
        assert place.name == row["name"]
        assert place.kana == row["kana"].replace(" ", "") or not row["kana"]
        if row["lat"]:
            assert (place.lon, place.lat) == pytest.approx((float(row["lng"]), float(row["lat"])), abs=1e-5)


def test_english_names_agree_for_nearly_all(listed: Mapping[str, Mapping[str, str]]) -> None:
    compared = [
        (listed[place.code]["name_en"], place.name_en) for place in POINTS.places() if place.code in listed
    ]
    theirs = [(there, here) for there, here in compared if there]
    assert len(theirs) > 1700
    assert sum(there == here for there, here in theirs) / len(theirs) > 0.985


def test_all_but_four_offices_lie_in_their_own_municipality(official: Gazetteer) -> None:
    municipalities = [
        place
        for place in official.places()
        if place.kind in {PlaceKind.MUNICIPALITY, PlaceKind.CITY_WITH_WARDS}
    ]
    elsewhere = {
        place.name
        for place in municipalities
        if not official.geometry(place.code).covers(shapely.Point(place.lon, place.lat))  # type: ignore[union-attr]
    }
    assert len(municipalities) == 1741 + 6
    assert elsewhere == {"双葉町", "三島村", "十島村", "竹富町"}


def test_every_ward_and_municipality_is_found_by_a_point_within_its_boundary(official: Gazetteer) -> None:
    for place in official.places():
        if place.kind in {PlaceKind.WARD, PlaceKind.MUNICIPALITY} and place.code not in NEW_WARDS:
            assert official.official(place.code)
            boundary = official.geometry(place.code)
            assert boundary is not None
            assert place.code in official.codes_of(boundary.representative_point())


def test_wards_without_boundaries_share_their_citys(official: Gazetteer) -> None:
    city = official.geometry(HAMAMATSU)
    assert city is not None
    together = shapely.union_all([official.catchment(ward) for ward in sorted(NEW_WARDS)])
    assert shapely.symmetric_difference(city, together).area < 1e-12


@pytest.mark.parametrize(
    ("kilometres", "recall", "precision"),
    [((0.5, 2), 0.997, 0.54), ((2, 10), 0.997, 0.70), ((10, 40), 0.999, 0.84)],
)
def test_catchments_find_nearly_every_municipality_that_a_polygon_really_touches(
    leaves_alone: Gazetteer, kilometres: tuple[float, float], recall: float, precision: float
) -> None:
    found = wanted = both = 0
    dice = random.Random(2025)
    leaves = [
        place.code for place in POINTS.places() if place.kind in {PlaceKind.WARD, PlaceKind.MUNICIPALITY}
    ]
    for _ in range(400):
        polygon = jagged_polygon(dice, leaves_alone, dice.choice(leaves), kilometres)
        truth = cities(leaves_alone.codes_of(polygon))
        guess = cities(POINTS.codes_of(polygon))
        wanted, found, both = wanted + len(truth), found + len(guess), both + len(truth & guess)
    print(f"polygons of {kilometres} km: recall {both / wanted:.4f}, precision {both / found:.3f}")
    assert both / wanted >= recall
    assert both / found >= precision


def test_approximate_boundaries_agree_with_the_official_ones_as_the_documentation_says(
    official: Gazetteer,
) -> None:
    common, covered, areas = [], [], []
    for place in POINTS.places():
        leaf = place.kind in {PlaceKind.WARD, PlaceKind.MUNICIPALITY}
        if leaf and place.code not in NEW_WARDS:
            shown, truth = POINTS.geometry(place.code), official.geometry(place.code)
            both, either = shapely.intersection(shown, truth), shapely.union(shown, truth)
            common.append(shapely.area(both) / shapely.area(either))
            covered.append(shapely.area(both) / shapely.area(truth))
            areas.append(shapely.area(truth) * math.cos(math.radians(place.lat)))
    quartiles = np.quantile(common, [0.05, 0.25, 0.5, 0.75])
    of_all = np.average(covered, weights=areas)
    print(
        f"IoU, 5 %, quartiles: {quartiles.round(3)}; covered, median: {np.median(covered):.3f}, of all land: {of_all:.3f}"
    )
    assert quartiles == pytest.approx([0.46, 0.70, AGREEMENT["iou"], 0.85], abs=0.005)
    assert np.median(covered) == pytest.approx(AGREEMENT["covered"], abs=0.005)
    assert of_all == pytest.approx(0.87, abs=0.005)


def jagged_polygon(
    dice: random.Random, official: Gazetteer, code: str, kilometres: tuple[float, float]
) -> shapely.Geometry:
    """Return a polygon of 60 points, of a radius between the two, around a random point of a municipality."""
    territory = official.geometry(code)
    assert territory is not None
    west, south, east, north = territory.bounds
    lon, lat = west, south
    while not territory.covers(shapely.Point(lon, lat)):
        lon, lat = dice.uniform(west, east), dice.uniform(south, north)
    radius = math.exp(dice.uniform(*map(math.log, kilometres))) / 111.2
    ring = []
    for i in range(60):
        reach, angle = radius * dice.uniform(0.7, 1.3), 2 * math.pi * i / 60
        ring.append(
            (lon + reach * math.cos(angle) / math.cos(math.radians(lat)), lat + reach * math.sin(angle))
        )
    return polygon_geometry([*ring, ring[0]])


def cities(codes: frozenset[str]) -> set[str]:
    return {HAMAMATSU if code in NEW_WARDS else code for code in codes}


def test_every_area_code_of_jma_is_read_as_what_lies_in_it(
    listed: Mapping[str, Mapping[str, str]],
) -> None:
    read = 0
    for code, row in listed.items():
        for area in row["jma_class20"].split():
            assert cap.declared_code(NamedValue("jp:jmaCity", area)) == code
            read += 1
        for column in ("jma_class15", "jma_class10", "jma_pref"):
            for area in row[column].split():
                found = REGIONS.locate("jp:jmaRegion", area)
                assert found is not None
                # 京都市 is listed by its wards.
                assert code in found.codes or any(
                    place.code in found.codes for place in POINTS.children(code)
                )
                assert all(one.startswith(code[:2]) for one in found.codes)
    assert read > 1_700


def test_the_office_of_every_former_municipality_lies_with_its_successors(official: Gazetteer) -> None:
    away = []
    for former in read_former(former_codes_csv()).values():
        parts = [official.geometry(code) for code in former.successors]
        if shapely.union_all(parts).distance(shapely.Point(former.lon, former.lat)) > 0.003:
            away.append(former.name)
    assert away == []
