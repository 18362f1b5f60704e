"""The gazetteer as it is shipped: who is in it, what lies in what, who is concerned by what, and where it is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from lalert.errors import InvalidGeometry, LalertError
from lalert.geo import Gazetteer, Place, PlaceKind
from lalert.resources import gazetteer_csv

GAZETTEER = Gazetteer.from_csv(gazetteer_csv())
LEAVES = {PlaceKind.WARD, PlaceKind.MUNICIPALITY}

KUMAMOTO, KUMAMOTO_CITY, CHUO_WARD, KITA_WARD = "43", "431001", "431010", "431052"
YATSUSHIRO = "432024"
OLD_NORTH_WARD, HAMAMATSU, NEW_CENTRAL_WARD, HAMANA_WARD = "221350", "221309", "221384", "221392"


def _place(code: str) -> Place:
    place = GAZETTEER.place(code)
    assert place is not None
    return place


def _territory(code: str) -> shapely.Geometry:
    territory = GAZETTEER.geometry(code)
    assert territory is not None
    return territory


def test_every_prefecture_city_town_village_and_ward_is_there() -> None:
    assert Counter(place.kind for place in GAZETTEER.places()) == {
        PlaceKind.PREFECTURE: 47,
        PlaceKind.CITY_WITH_WARDS: 20,
        PlaceKind.WARD: 171,
        PlaceKind.MUNICIPALITY: 1727,  # 1,741 less the 20, and the six villages of 北方領土
    }


def test_a_place_says_what_it_is_and_where() -> None:
    ward = _place(CHUO_WARD)
    assert (ward.lon, ward.lat) == pytest.approx((130.72, 32.8), abs=0.02)
    assert replace(ward, lon=0.0, lat=0.0) == Place(
        code="431010",
        name="熊本市中央区",
        kana="くまもとしちゅうおうく",
        name_en="Chuo Ward, Kumamoto City",
        prefecture="43",
        kind=PlaceKind.WARD,
        lon=0.0,
        lat=0.0,
        parent="431001",
    )
    assert (_place(KUMAMOTO).name, _place(KUMAMOTO).name_en) == ("熊本県", "Kumamoto Prefecture")


@pytest.mark.parametrize(
    ("code", "name_en"),
    [
        ("282090", "Toyooka City"),
        ("131016", "Chiyoda City"),
        ("193461", "Ichikawamisato Town"),
        ("133621", "Toshima Village"),
        ("192082", "Minami-Alps City"),
        ("016951", "Shikotan Village"),
        ("13", "Tokyo"),
        ("27", "Osaka Prefecture"),
    ],
)
def test_english_names_are_those_that_the_places_use(code: str, name_en: str) -> None:
    assert _place(code).name_en == name_en


def test_every_place_lies_in_its_prefecture_and_every_ward_in_a_city_with_wards() -> None:
    for place in GAZETTEER.places():
        prefecture = GAZETTEER.prefecture_of(place.code)
        assert prefecture is not None
        assert prefecture.code == place.prefecture == place.code[:2]
        if place.kind is PlaceKind.PREFECTURE:
            assert place.parent is None
            continue
        assert place.parent is not None
        expected = PlaceKind.CITY_WITH_WARDS if place.kind is PlaceKind.WARD else PlaceKind.PREFECTURE
        assert _place(place.parent).kind is expected
        assert place in GAZETTEER.children(place.parent)
    assert GAZETTEER.prefecture_of("999999") is None


def test_the_children_of_a_prefecture_are_its_municipalities_and_those_of_a_city_its_wards() -> None:
    assert [child.name for child in GAZETTEER.children(KUMAMOTO_CITY)] == [
        f"熊本市{ward}区" for ward in ("中央", "東", "西", "南", "北")
    ]
    assert len(GAZETTEER.children(KUMAMOTO)) == 45
    assert GAZETTEER.children(CHUO_WARD) == ()


def test_reach_goes_up_and_down_but_never_sideways() -> None:
    assert GAZETTEER.reach([CHUO_WARD]) == {CHUO_WARD, KUMAMOTO_CITY, KUMAMOTO}
    city = GAZETTEER.reach([KUMAMOTO_CITY])
    assert city == {KUMAMOTO, KUMAMOTO_CITY} | {ward.code for ward in GAZETTEER.children(KUMAMOTO_CITY)}
    prefecture = GAZETTEER.reach([KUMAMOTO])
    assert {KUMAMOTO, KUMAMOTO_CITY, CHUO_WARD, YATSUSHIRO} <= prefecture
    assert all(code.startswith(KUMAMOTO) for code in prefecture)


def test_reach_is_symmetric_for_every_pair_of_codes() -> None:
    codes = [place.code for place in GAZETTEER.places()] + [OLD_NORTH_WARD]
    reach = {code: GAZETTEER.reach([code]) for code in codes}
    for code in codes:
        assert code in reach[code]
        for other in reach[code] & reach.keys():
            assert code in reach[other]


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.sampled_from([place.code for place in GAZETTEER.places()]), max_size=5))
def test_the_reach_of_many_is_the_union_of_the_reach_of_each(codes: list[str]) -> None:
    assert GAZETTEER.reach(codes) == frozenset().union(*(GAZETTEER.reach([code]) for code in codes))


def test_a_merged_ward_still_concerns_its_city_and_the_wards_that_took_it_over() -> None:
    today = {place.code for place in GAZETTEER.places()}
    assert GAZETTEER.reach([OLD_NORTH_WARD]) & today == {HAMANA_WARD, NEW_CENTRAL_WARD, HAMAMATSU, "22"}
    assert OLD_NORTH_WARD in GAZETTEER.reach([NEW_CENTRAL_WARD])
    assert OLD_NORTH_WARD in GAZETTEER.reach([HAMAMATSU])
    assert _place(OLD_NORTH_WARD).kind is PlaceKind.FORMER_WARD
    assert _place(OLD_NORTH_WARD) not in GAZETTEER.places()
    assert len(GAZETTEER.children(HAMAMATSU)) == 3


def test_a_code_that_nobody_knows_stays_and_concerns_its_prefecture() -> None:
    assert GAZETTEER.reach(["439991"]) == {"439991", KUMAMOTO}


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("八代市", "八代市"),
        ("八代", "八代市"),
        ("熊本県八代市", "八代市"),
        ("やつしろ", "八代市"),
        ("ヤツシロ", "八代市"),
        ("ﾔﾂｼﾛ", "八代市"),
        ("Yatsushiro", "八代市"),
        ("YATSUSHIRO CITY", "八代市"),
        ("八代　市", "八代市"),
        ("熊本市中央区", "熊本市中央区"),
        ("Ōtsu", "大津市"),
        ("otsu", "大津市"),
        ("oosaka", "大阪府"),
        ("toyooka", "豊丘村"),
        ("龍ヶ崎", "龍ケ崎市"),
        ("432024", "八代市"),
        ("43", "熊本県"),
    ],
)
def test_a_place_is_found_however_its_name_is_typed(text: str, first: str) -> None:
    assert GAZETTEER.search(text)[0].name == first


def test_a_whole_name_comes_first_and_larger_places_before_smaller() -> None:
    assert [place.name for place in GAZETTEER.search("熊本", 2)] == ["熊本県", "熊本市"]
    assert GAZETTEER.search("中央区", 1)[0].code == "131024"
    found = [place.code for place in GAZETTEER.search("中央区", 50)]
    assert CHUO_WARD in found
    assert NEW_CENTRAL_WARD in found


@pytest.mark.parametrize("text", ["", "  ", "-", "見知らぬ村", "\n", "x" * 100_000])
def test_a_search_for_nothing_finds_nothing(text: str) -> None:
    assert GAZETTEER.search(text) == ()


@pytest.mark.parametrize(("limit", "found"), [(-1, 0), (0, 0), (3, 3)])
def test_a_search_gives_no_more_than_asked_for(limit: int, found: int) -> None:
    assert len(GAZETTEER.search("市", limit)) == found


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=200))
def test_a_search_takes_any_text(text: str) -> None:
    GAZETTEER.search(text)


OFFICE_ELSEWHERE = "463035"  # 十島村 keeps its office in 鹿児島市


def test_every_catchment_is_valid_and_covers_what_is_shown_and_the_office() -> None:
    for place in GAZETTEER.places():
        if place.kind in LEAVES:
            shown, told = _territory(place.code), GAZETTEER.catchment(place.code)
            office = shapely.Point(place.lon, place.lat)
            assert shapely.is_valid(shown)
            assert shapely.is_valid(told)
            assert shapely.covers(told, shown), place.name
            assert shapely.covers(told, office), place.name
            assert shapely.covers(shown, office) or place.code == OFFICE_ELSEWHERE, place.name
            assert 0.0002 < shown.area < 0.5  # square degrees: from 2 km² to 5,000 km²
            assert 0.0005 < shapely.area(told) < 3


def test_approximate_boundaries_share_their_borders_and_leave_no_gap_or_overlap_between_them() -> None:
    leaves = [_territory(place.code) for place in GAZETTEER.places() if place.kind in LEAVES]
    assert shapely.coverage_is_valid(leaves)
    assert not any(part.interiors for part in shapely.get_parts(shapely.coverage_union_all(leaves)))


def test_a_city_is_its_wards_and_a_prefecture_its_municipalities() -> None:
    for whole in (KUMAMOTO_CITY, KUMAMOTO, "13", "47"):
        parts = shapely.union_all([_territory(child.code) for child in GAZETTEER.children(whole)])
        assert _territory(whole).equals(parts)


def test_a_former_ward_lies_where_its_successors_are() -> None:
    heirs = shapely.union_all([_territory(NEW_CENTRAL_WARD), _territory(HAMANA_WARD)])
    assert _territory(OLD_NORTH_WARD).equals(heirs)
    assert GAZETTEER.geometry("439991") is None


def test_the_office_of_every_leaf_is_found_by_its_position() -> None:
    for place in GAZETTEER.places():
        if place.kind in LEAVES:
            assert place.code in GAZETTEER.codes_of(shapely.Point(place.lon, place.lat))


def test_a_geometry_gives_wards_and_not_their_city() -> None:
    codes = GAZETTEER.codes_of(shapely.Point(130.708, 32.806).buffer(0.01))
    assert CHUO_WARD in codes
    assert KUMAMOTO_CITY not in codes
    assert all(_place(code).kind in LEAVES for code in codes)


def test_an_invalid_or_undefined_geometry_is_refused_instead_of_meeting_nothing_or_everything() -> None:
    bow_tie = shapely.Polygon([(130, 32), (131, 33), (131, 32), (130, 33)])
    with pytest.raises(InvalidGeometry, match="not valid"):
        GAZETTEER.codes_of(bow_tie)
    with np.errstate(invalid="ignore"):
        undefined = shapely.Polygon([(130, 32), (131, 33), (float("nan"), 32), (130, 32)])
    with pytest.raises(InvalidGeometry, match="not valid"):
        GAZETTEER.codes_of(undefined)


def test_an_empty_geometry_or_one_abroad_concerns_nobody() -> None:
    assert GAZETTEER.codes_of(shapely.Polygon()) == frozenset()
    assert GAZETTEER.codes_of(shapely.box(-100, 30, -90, 40)) == frozenset()


def test_the_shipped_gazetteer_says_that_its_territories_are_made_from_points_and_whom_to_name() -> None:
    assert GAZETTEER.boundaries == "points"
    assert not GAZETTEER.official(YATSUSHIRO)
    for name in ("japancode", "jp-prefecture", "Geolonia", "CC BY 4.0"):
        assert name in GAZETTEER.attribution
    assert "国土数値情報" not in GAZETTEER.attribution


def test_the_table_is_in_the_order_of_codes_and_ends_its_last_line() -> None:
    table = gazetteer_csv()
    assert table.endswith(b"\n")
    assert b"\r" not in table
    codes = [line.split(",", 1)[0] for line in table.decode().splitlines()[1:]]
    assert codes == sorted(set(codes))


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda lines: [lines[0], lines[1].replace("prefecture", "county", 1)], "line 2"),
        (lambda lines: [*lines[:3], "03100,031003"], "line 4"),
        (lambda lines: ["code5,name", "01000,北海道"], "line 1"),
        (lambda lines: [], "line 0"),
    ],
)
def test_a_damaged_table_is_refused_and_the_line_named(spoil: object, line: str) -> None:
    lines = gazetteer_csv().decode().splitlines()[:5]
    assert callable(spoil)
    with pytest.raises(LalertError, match=line):
        Gazetteer.from_csv("\n".join(spoil(lines)).encode())
