"""Where an alert holds: codes and ground, as declared, as drawn, and as a last resort."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from lalert import resources
from lalert.cap import JIS_GEOCODE_NAMES
from lalert.cap.profiles.jp.reading import TOWN_GEOCODE_NAMES
from lalert.geo import Gazetteer
from lalert.matching import facts_of
from lalert.model import Alert, Area, Circle, NamedValue, Ring
from lalert.testing import make_alert

HITOYOSHI, NISHIKI, MINAMATA = "432032", "435015", "432059"
GEOCODE = min(JIS_GEOCODE_NAMES)
AMAKUSA_SEA: Ring = ((128.2, 31.0), (128.4, 31.0), (128.4, 31.2), (128.2, 31.0))
BOW_TIE: Ring = ((130.72, 32.2), (130.76, 32.24), (130.76, 32.2), (130.72, 32.24), (130.72, 32.2))
NO_NUMBERS: Ring = ((math.nan, 32.2), (130.76, 32.24), (130.76, 32.2), (math.nan, 32.2))


def square(west: float, south: float, size: float) -> Ring:
    return (
        (west, south),
        (west + size, south),
        (west + size, south + size),
        (west, south + size),
        (west, south),
    )


def codes(*values: str, name: str = GEOCODE) -> tuple[NamedValue, ...]:
    return tuple(NamedValue(name, value) for value in values)


def alert_of(*areas: Area) -> Alert:
    return make_alert(areas=areas, raw=b"")


@pytest.fixture(scope="module")
def outlines() -> Gazetteer:
    return Gazetteer.from_csv(resources.gazetteer_csv())


@pytest.fixture(scope="module")
def official(outlines: Gazetteer) -> Gazetteer:
    """Draw 人吉市 and 錦町 as neighbouring squares of a tenth of a degree; 人吉市 is the western one."""
    squares = {"43203": square(130.7, 32.2, 0.1), "43501": square(130.8, 32.2, 0.1)}
    features = [
        {
            "type": "Feature",
            "properties": {"N03_007": code},
            "geometry": {"type": "Polygon", "coordinates": [list(map(list, ring))]},
        }
        for code, ring in squares.items()
    ]
    return outlines.with_boundaries(json.dumps({"type": "FeatureCollection", "features": features}).encode())


@pytest.mark.parametrize("value", ["432032", "43203", "４３２０３２", " 432032 "])
def test_a_code_counts_in_each_of_its_spellings(value: str, outlines: Gazetteer) -> None:
    facts = facts_of(alert_of(Area("人吉市", geocodes=codes(value))), outlines)
    assert facts.codes == {HITOYOSHI}
    assert facts.reach == {HITOYOSHI, "43"}
    assert not facts.nowhere


def test_a_town_block_counts_as_its_municipality(outlines: Gazetteer) -> None:
    (name, *_) = sorted(TOWN_GEOCODE_NAMES)
    facts = facts_of(alert_of(Area("人吉市", geocodes=codes("432030001001", name=name))), outlines)
    assert facts.codes == facts.ground == {HITOYOSHI}


def test_a_prefecture_reaches_all_of_its_municipalities(outlines: Gazetteer) -> None:
    facts = facts_of(alert_of(Area("熊本県", geocodes=codes("43"))), outlines)
    assert facts.codes == {"43"}
    assert {HITOYOSHI, NISHIKI, MINAMATA} < facts.reach
    assert {HITOYOSHI, NISHIKI, MINAMATA} < facts.ground
    assert "43" not in facts.ground
    assert facts.drawn is None


def test_geocodes_of_other_schemes_are_no_municipalities(outlines: Gazetteer) -> None:
    facts = facts_of(
        alert_of(Area("x", geocodes=codes(HITOYOSHI, name="SAME"))), outlines, frozenset({MINAMATA})
    )
    assert HITOYOSHI not in facts.codes


def test_an_alert_by_code_has_the_ground_of_that_municipality(outlines: Gazetteer) -> None:
    facts = facts_of(alert_of(Area("人吉市", geocodes=codes(HITOYOSHI))), outlines)
    assert facts.ground == {HITOYOSHI}
    assert facts.drawn is None
    assert facts.bbox is not None
    assert facts.bbox[0] < 130.76 < facts.bbox[2]


def test_what_is_only_drawn_gets_its_codes_from_the_map(official: Gazetteer) -> None:
    facts = facts_of(alert_of(Area("川沿い", polygons=(square(130.74, 32.24, 0.01),))), official)
    assert HITOYOSHI in facts.codes
    assert facts.bbox == (130.74, 32.24, 130.75, 32.25)


def test_official_boundaries_add_the_neighbour_that_is_drawn_upon(official: Gazetteer) -> None:
    over_the_border = Area("x", polygons=(square(130.78, 32.24, 0.04),), geocodes=codes(HITOYOSHI))
    assert facts_of(alert_of(over_the_border), official).codes == {HITOYOSHI, NISHIKI}


def test_official_boundaries_are_asked_for_each_area_by_its_own_kind(official: Gazetteer) -> None:
    on_the_border = Area("x", circles=(Circle(130.8, 32.25, 0),), geocodes=codes(HITOYOSHI))
    elsewhere = Area("y", polygons=(AMAKUSA_SEA,))
    inside = Area("z", polygons=(square(130.74, 32.24, 0.01),))
    assert facts_of(alert_of(on_the_border), official).codes == {HITOYOSHI, NISHIKI}
    assert facts_of(alert_of(on_the_border, elsewhere), official).codes == {HITOYOSHI, NISHIKI}
    bare_on_the_border = replace(on_the_border, geocodes=())
    coded = replace(inside, geocodes=codes(HITOYOSHI))
    assert facts_of(alert_of(bare_on_the_border, coded), official).codes >= {HITOYOSHI, NISHIKI}


def test_a_border_that_is_only_touched_adds_no_neighbour(official: Gazetteer) -> None:
    up_to_the_border = Area("x", polygons=(square(130.75, 32.24, 0.05),), geocodes=codes(HITOYOSHI))
    assert facts_of(alert_of(up_to_the_border), official).codes == {HITOYOSHI}


def test_generous_outlines_add_nobody_to_declared_codes(outlines: Gazetteer) -> None:
    large = Area("x", polygons=(square(130.6, 32.1, 0.4),), geocodes=codes(HITOYOSHI))
    assert facts_of(alert_of(large), outlines).codes == {HITOYOSHI}
    assert facts_of(alert_of(replace(large, geocodes=())), outlines).codes > {HITOYOSHI, NISHIKI}


def test_an_area_is_the_union_of_what_it_declares_and_draws(outlines: Gazetteer) -> None:
    both = Area("x", polygons=(AMAKUSA_SEA,), circles=(Circle(129.0, 31.0, 1000),), geocodes=codes(HITOYOSHI))
    facts = facts_of(alert_of(both), outlines)
    assert facts.ground == {HITOYOSHI}
    for lon, lat in ((128.3, 31.05), (129.0, 31.005)):
        assert shapely.intersects_xy(facts.drawn, lon, lat)


def test_only_an_area_without_codes_gets_those_that_it_is_drawn_on(outlines: Gazetteer) -> None:
    coded = Area("水俣市", polygons=(square(130.74, 32.2, 0.01),), geocodes=codes(MINAMATA))
    assert facts_of(alert_of(coded), outlines).codes == {MINAMATA}
    bare = Area("川沿い", polygons=(square(130.74, 32.2, 0.01),))
    assert facts_of(alert_of(coded, bare), outlines).codes >= {MINAMATA, HITOYOSHI}
    assert facts_of(alert_of(coded, bare), outlines).ground == {MINAMATA}


def test_a_geocode_that_is_no_code_is_passed_over_beside_one_that_is(outlines: Gazetteer) -> None:
    facts = facts_of(alert_of(Area("人吉市", geocodes=codes("432033", HITOYOSHI, "人吉"))), outlines)
    assert facts.codes == {HITOYOSHI}
    assert not facts.nowhere


def test_an_open_ring_is_closed(outlines: Gazetteer) -> None:
    facts = facts_of(alert_of(Area("x", polygons=(square(130.74, 32.2, 0.01)[:-1],))), outlines)
    assert shapely.equals(facts.drawn, shapely.box(130.74, 32.2, 130.75, 32.21))


def test_areas_of_all_infos_count(outlines: Gazetteer) -> None:
    alert = alert_of(Area("人吉市", geocodes=codes(HITOYOSHI)))
    other = replace(alert.infos[0], areas=(Area("水俣市", geocodes=codes(MINAMATA)),))
    assert facts_of(replace(alert, infos=(*alert.infos, other)), outlines).codes == {HITOYOSHI, MINAMATA}


def test_at_sea_there_is_ground_but_no_code(outlines: Gazetteer) -> None:
    facts = facts_of(alert_of(Area("沖合", polygons=(AMAKUSA_SEA,))), outlines, frozenset({HITOYOSHI}))
    assert facts.codes == frozenset()
    assert not facts.nowhere
    assert facts.drawn is not None
    assert facts.ground == frozenset()


@pytest.mark.parametrize(
    "areas",
    [
        (),
        (Area("どこか"),),
        (Area("どこか", geocodes=codes("432033")),),
        (Area("どこか", geocodes=codes("人吉")),),
        (Area("どこか", geocodes=codes("439991")),),
        (Area("どこか", polygons=(NO_NUMBERS,)),),
        (Area("どこか", circles=(Circle(130.7, 32.2, math.inf),)),),
    ],
    ids=["no area", "no place", "wrong digit", "no code", "unknown code", "no numbers", "endless circle"],
)
def test_what_cannot_be_found_concerns_the_whole_jurisdiction(
    areas: tuple[Area, ...], outlines: Gazetteer
) -> None:
    home = frozenset({HITOYOSHI, MINAMATA})
    facts = facts_of(alert_of(*areas), outlines, home)
    assert facts.nowhere
    assert home <= facts.codes
    assert home <= facts.reach
    assert facts.ground == home


def test_no_infos_concern_the_whole_jurisdiction(outlines: Gazetteer) -> None:
    facts = facts_of(make_alert(infos=()), outlines, frozenset({"43"}))
    assert facts.nowhere
    assert facts.codes == {"43"}
    assert NISHIKI in facts.reach


def test_without_a_jurisdiction_nothing_narrows_it_down(outlines: Gazetteer) -> None:
    facts = facts_of(alert_of(Area("x", geocodes=codes("439991"))), outlines)
    assert facts.nowhere
    assert facts.codes == frozenset()


def test_an_unknown_code_is_carried_beside_known_ones(outlines: Gazetteer) -> None:
    facts = facts_of(alert_of(Area("x", geocodes=codes(HITOYOSHI, "43999"))), outlines)
    assert facts.codes == {HITOYOSHI, "439991"}
    assert "439991" in facts.reach


def test_an_unknown_code_alone_is_carried_to_its_followers_too(outlines: Gazetteer) -> None:
    facts = facts_of(alert_of(Area("x", geocodes=codes("43999"))), outlines, frozenset({HITOYOSHI}))
    assert facts.codes == {HITOYOSHI, "439991"}


def test_an_unknown_code_takes_nobody_away_from_what_is_drawn(outlines: Gazetteer) -> None:
    drawn = Area("x", polygons=(square(130.74, 32.2, 0.01),), geocodes=codes("43999"))
    assert {HITOYOSHI, "439991"} <= facts_of(alert_of(drawn), outlines).codes


def test_a_bow_tie_reaches_both_of_its_halves(outlines: Gazetteer) -> None:
    facts = facts_of(alert_of(Area("x", polygons=(BOW_TIE,))), outlines)
    for lon in (130.725, 130.755):
        assert shapely.intersects_xy(facts.drawn, lon, 32.22)
    assert HITOYOSHI in facts.codes


def test_a_circle_smaller_than_numbers_can_tell_is_still_a_place(outlines: Gazetteer) -> None:
    facts = facts_of(alert_of(Area("x", circles=(Circle(130.76, 32.21, 1e-12),))), outlines)
    assert facts.drawn is not None
    assert facts.drawn.is_valid
    assert shapely.distance(facts.drawn, shapely.Point(130.76, 32.21)) < 1e-9
    assert HITOYOSHI in facts.codes


def test_a_bad_ring_beside_a_good_one_takes_nobody_away(outlines: Gazetteer) -> None:
    bad = Area("x", polygons=(NO_NUMBERS, square(130.74, 32.2, 0.01), BOW_TIE))
    facts = facts_of(alert_of(bad), outlines)
    assert shapely.intersects_xy(facts.drawn, 130.745, 32.205)
    assert shapely.intersects_xy(facts.drawn, 130.725, 32.22)


def test_a_union_that_does_not_hold_is_made_to(outlines: Gazetteer, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is invalid meets nothing without a word. GEOS is not known to return it; were it to, nobody may be missed.
    monkeypatch.setattr("lalert.matching.facts.union", lambda _: shapely.Polygon(BOW_TIE))
    two = Area("x", polygons=(square(130.72, 32.2, 0.01), square(130.75, 32.2, 0.01)))
    facts = facts_of(alert_of(two), outlines)
    assert shapely.is_valid(facts.drawn)
    assert shapely.intersects_xy(facts.drawn, [130.725, 130.755], [32.22, 32.22]).all()


def test_the_same_area_in_two_languages_counts_once(outlines: Gazetteer) -> None:
    one = alert_of(Area("川沿い", polygons=(square(130.74, 32.2, 0.01),)))
    english = replace(
        one.infos[0], language="en", areas=(replace(one.infos[0].areas[0], area_desc="riverside"),)
    )
    both = facts_of(replace(one, infos=(*one.infos, english)), outlines)
    alone = facts_of(one, outlines)
    assert both == alone
    assert shapely.equals(both.drawn, alone.drawn)


numbers = st.one_of(
    st.floats(min_value=-200, max_value=200),
    st.sampled_from([130.7, 130.75, 32.2, 32.25, 0.0, 180.0, math.nan, math.inf]),
)
rings = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=7).map(tuple)
areas = st.builds(
    Area,
    area_desc=st.just("x"),
    polygons=st.lists(rings, max_size=3).map(tuple),
    circles=st.lists(st.builds(Circle, numbers, numbers, numbers), max_size=2).map(tuple),
    geocodes=st.lists(
        st.builds(
            NamedValue, st.just(GEOCODE), st.sampled_from(["432032", "43", "432033", "", "x", "43999"])
        ),
        max_size=2,
    ).map(tuple),
)


@given(areas=st.lists(areas, max_size=3))
@settings(deadline=None)
def test_no_accepted_alert_raises_or_falls_through_to_nobody(areas: list[Area], outlines: Gazetteer) -> None:
    facts = facts_of(alert_of(*areas), outlines, frozenset({MINAMATA}))
    assert facts.codes or facts.drawn is not None
    assert facts.drawn is None or facts.drawn.is_valid
    assert facts.codes <= facts.reach
