"""Regions of the Japan Meteorological Agency: each is the municipalities in it, and nobody in it is left out."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest

from lalert.errors import InvalidCode, LalertError
from lalert.geo import REGION_NAMES, Gazetteer, Located, region_prefecture
from lalert.geo.regions import Regions
from lalert.matching import facts_of
from lalert.model import Area, NamedValue
from lalert.resources import abroad_csv, former_codes_csv, gazetteer_csv, jma_regions_csv
from lalert.testing import make_alert

ROOT = Path(__file__).resolve().parents[2]
REGIONS = Regions.from_csv(jma_regions_csv())
GAZETTEER = Gazetteer.from_csv(gazetteer_csv(), former_codes_csv(), abroad_csv(), jma_regions_csv())

KUMAMOTO_CITY, HITOYOSHI, AMAKUSA, ASO = "431001", "432032", "432156", "432148"


def codes(value: str, name: str = "jp:jmaRegion") -> frozenset[str]:
    found = REGIONS.locate(name, value)
    assert found is not None
    assert not found.rough
    return found.codes


def test_every_place_of_today_lies_in_a_region() -> None:
    within = frozenset().union(*(codes(f"{number:02d}0000") for number in range(1, 48)))
    reached = GAZETTEER.reach(within)
    missing = [place.name for place in GAZETTEER.places() if place.code not in reached]
    # 北方領土 has no forecasts.
    assert missing == ["色丹村", "泊村", "留夜別村", "留別村", "紗那村", "蘂取村"]


@pytest.mark.parametrize(
    ("region", "inside", "outside"),
    [
        ("430010", KUMAMOTO_CITY, HITOYOSHI),  # 熊本地方
        ("430020", ASO, KUMAMOTO_CITY),  # 阿蘇地方
        ("430030", AMAKUSA, KUMAMOTO_CITY),  # 天草・芦北地方
        ("430040", HITOYOSHI, ASO),  # 球磨地方
        ("430011", KUMAMOTO_CITY, HITOYOSHI),  # 市町村等をまとめた地域
        ("430000", HITOYOSHI, "401307"),  # 熊本県
        ("011011", "012149", "011002"),  # 宗谷北部: 稚内市, not 札幌市
        ("014100", "012068", "012076"),  # 釧路・根室: 釧路市, not 帯広市
        ("014030", "012076", "012068"),  # 十勝
        ("016000", "011002", "012025"),  # 石狩・空知・後志: 札幌市, not 函館市
        ("460100", "462012", "462225"),  # 鹿児島県（奄美地方除く）: 鹿児島市, not 奄美市
        ("460040", "462225", "462012"),
        ("471000", "472018", "472140"),  # 沖縄本島: 那覇市, not 宮古島市
        ("473000", "472140", "472018"),
        ("100000", "102016", "112089"),  # 群馬県
    ],
)
def test_a_region_is_the_municipalities_in_it(region: str, inside: str, outside: str) -> None:
    assert inside in codes(region)
    assert outside not in codes(region)
    for name in REGION_NAMES:
        assert codes(region, name) == codes(region)


def test_a_municipality_on_both_sides_of_a_border_of_regions_is_in_both() -> None:
    assert "012084" in codes("013010") & codes("013020")  # 北見市
    times = Counter(code for number in range(1, 48) for code in codes(f"{number:02d}0000"))
    assert set(times.values()) == {1}


def test_an_unknown_region_is_its_prefecture_and_what_is_none_is_not_located() -> None:
    assert REGIONS.locate("jp:jmaRegion", "439990") == Located(frozenset({"43"}), rough=False)
    for value in ("43001", "4300100", "990000", "人吉"):
        assert REGIONS.locate("jp:jmaRegion", value) is None
        with pytest.raises(InvalidCode):
            region_prefecture(value)
    assert REGIONS.locate("JISX0402", "430010") is None


def test_an_alert_for_a_region_concerns_its_municipalities_and_what_they_lie_in() -> None:
    area = Area("熊本県球磨地方", geocodes=(NamedValue("jp:jmaRegion", "430040"),))
    facts = facts_of(make_alert(areas=(area,), raw=b""), GAZETTEER)
    assert HITOYOSHI in facts.codes
    assert {HITOYOSHI, "43"} <= facts.reach
    assert facts.reach.isdisjoint({KUMAMOTO_CITY, ASO})
    assert HITOYOSHI in facts.ground
    both = Area("人吉市", geocodes=(*area.geocodes, NamedValue("JISX0402", "432024")))
    assert {HITOYOSHI, "432024"} <= facts_of(make_alert(areas=(both,), raw=b""), GAZETTEER).codes


def test_a_spoilt_table_is_refused() -> None:
    with pytest.raises(LalertError, match="the table of regions, line "):
        Regions.from_csv(jma_regions_csv().replace(b"region,codes", b"region,places"))


def test_the_script_takes_no_other_files_than_those_it_knows(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("build_regions", ROOT / "scripts" / "build_regions.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    for name in script.SOURCES:
        with pytest.raises(SystemExit, match="is missing"):
            script.checked(tmp_path / name)
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(SystemExit, match="sha256 differs"):
            script.checked(tmp_path / name)
