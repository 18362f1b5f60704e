"""Codes that ended: each leads to places of today, both ways, whatever number of steps lies between."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest
import shapely
from click.testing import CliRunner

from lalert.cli.gazetteer import show
from lalert.errors import InvalidCode, LalertError
from lalert.geo import Change, Former, Gazetteer, PlaceKind, normalise_code
from lalert.geo.former import read_former
from lalert.resources import former_codes_csv, gazetteer_csv

TABLE = former_codes_csv()
FORMER = read_former(TABLE)
GAZETTEER = Gazetteer.from_csv(gazetteer_csv(), TABLE)
ROOT = Path(__file__).resolve().parents[2]

OHASAMA, ISHIDORIYA, HANAMAKI, IWATE = "033413", "033421", "032051", "03"
KAMIKUISHIKI, KOFU, FUJIKAWAGUCHIKO = "193411", "192015", "194301"
NORTH_WARD, CENTRAL_WARD, HAMANA_WARD, HAMAMATSU = "221350", "221384", "221392", "221309"


def test_every_old_code_leads_to_places_of_today() -> None:
    today = {place.code for place in GAZETTEER.places()}
    for code, former in FORMER.items():
        assert code == former.code == normalise_code(code)
        assert code not in today
        assert former.successors
        assert today.issuperset(former.successors), former
        assert len(code) == 6
        assert date(1970, 4, 1) <= former.ended <= date(2024, 1, 1)
        with pytest.raises(InvalidCode):
            normalise_code(code[:5] + str((int(code[5]) + 1) % 10))


def test_the_table_is_whole() -> None:
    assert len(FORMER) == 2067
    assert sum(former.ended >= date(1999, 4, 1) for former in FORMER.values()) == 1836
    assert Counter(former.change for former in FORMER.values()) == {
        Change.MERGED: 1924,
        Change.RENUMBERED: 114,
        Change.DESIGNATED: 13,
        Change.WARDS: 12,
        Change.SPLIT: 4,
    }
    wards = {
        place.code for place in Gazetteer.from_csv(gazetteer_csv())._by_code.values() if place.successors
    }
    assert wards <= FORMER.keys()


# As 「廃置分合等情報」 of e-Stat tells them.
@pytest.mark.parametrize(
    ("code", "name", "change", "ended", "successors"),
    [
        ("01542", "女満別町", Change.MERGED, "2006-03-31", ["01564"]),
        ("01338", "亀田町", Change.RENUMBERED, "1971-11-01", ["01202"]),  # by way of 亀田市
        ("01232", "亀田市", Change.MERGED, "1973-12-01", ["01202"]),
        ("01439", "幌加内町", Change.RENUMBERED, "2010-04-01", ["01472"]),  # to another 支庁
        ("01301", "広島町", Change.RENUMBERED, "1996-09-01", ["01234"]),  # as 北広島市
        ("01640", "忠類村", Change.MERGED, "2006-02-06", ["01643"]),
        ("02386", "小泊村", Change.MERGED, "2005-03-28", ["02387"]),
        ("03305", "滝沢村", Change.RENUMBERED, "2014-01-01", ["03216"]),
        ("04423", "富谷町", Change.RENUMBERED, "2016-10-10", ["04216"]),
        ("08523", "石下町", Change.MERGED, "2006-01-01", ["08211"]),
        ("14209", "相模原市", Change.DESIGNATED, "2010-04-01", ["14150"]),
        ("15201", "新潟市", Change.DESIGNATED, "2007-04-01", ["15100"]),
        ("19341", "上九一色村", Change.SPLIT, "2006-03-01", ["19201", "19430"]),
        ("20431", "山口村", Change.MERGED, "2005-02-13", ["21206"]),  # to another prefecture
        ("22131", "浜松市中区", Change.WARDS, "2024-01-01", ["22138"]),
        ("22202", "浜松市", Change.DESIGNATED, "2007-04-01", ["22130"]),
        ("22382", "蒲原町", Change.MERGED, "2006-03-31", ["22103"]),  # into a ward
        ("22462", "春野町", Change.MERGED, "2005-07-01", ["22130"]),
        ("27201", "堺市", Change.DESIGNATED, "2006-04-01", ["27140"]),
        ("28665", "丹南町", Change.MERGED, "1999-04-01", ["28221"]),
        ("33201", "岡山市", Change.DESIGNATED, "2009-04-01", ["33100"]),
        ("40102", "北九州市小倉区", Change.SPLIT, "1974-04-01", ["40106", "40107"]),
        ("40305", "那珂川町", Change.RENUMBERED, "2018-10-01", ["40231"]),
        ("43201", "熊本市", Change.DESIGNATED, "2012-04-01", ["43100"]),
        ("47374", "伊良部町", Change.MERGED, "2005-10-01", ["47214"]),
    ],
)
def test_what_became_of_a_code(
    code: str, name: str, change: Change, ended: str, successors: list[str]
) -> None:
    former = FORMER[normalise_code(code)]
    assert (former.name, former.change, former.ended) == (name, change, date.fromisoformat(ended))
    assert former.successors == tuple(map(normalise_code, successors))


def test_an_old_code_concerns_the_followers_of_its_successors_and_theirs() -> None:
    reach = GAZETTEER.reach([OHASAMA])
    assert {OHASAMA, HANAMAKI, IWATE, ISHIDORIYA} <= reach
    assert reach == GAZETTEER.reach([HANAMAKI])
    assert "032018" not in reach  # 盛岡市
    assert GAZETTEER.reach([KAMIKUISHIKI]) == GAZETTEER.reach([KOFU, FUJIKAWAGUCHIKO])
    assert {CENTRAL_WARD, HAMANA_WARD, HAMAMATSU, "22"} <= GAZETTEER.reach([NORTH_WARD])
    assert "221406" not in GAZETTEER.reach([NORTH_WARD])  # 天竜区


def test_a_designated_city_by_its_old_code_is_the_city_with_all_its_wards() -> None:
    assert GAZETTEER.reach(["432016"]) == GAZETTEER.reach(["431001"]) >= {"431010", "431052", "43"}


def test_whoever_follows_an_old_code_gets_what_concerns_its_successors() -> None:
    for code in (HANAMAKI, IWATE):
        assert OHASAMA in GAZETTEER.reach([code])
    assert OHASAMA not in GAZETTEER.reach(["032018"])
    assert KAMIKUISHIKI in GAZETTEER.reach([KOFU]) & GAZETTEER.reach([FUJIKAWAGUCHIKO])
    # Only his city is known of somebody who follows 春野町, so an alert for any of its wards is for him.
    assert "224626" in GAZETTEER.reach([CENTRAL_WARD])


def test_old_codes_and_those_of_today_concern_one_another_both_ways() -> None:
    known = [place.code for place in GAZETTEER.places()] + list(FORMER)
    reach = {code: GAZETTEER.reach([code]) for code in known}
    for code in known:
        assert code in reach[code]
        for other in reach[code]:
            assert code in reach[other]


def test_an_old_place_lies_where_its_successors_are() -> None:
    def ground(code: str) -> shapely.Geometry:
        found = GAZETTEER.catchment(code)
        assert found is not None
        return found

    assert ground(OHASAMA).equals(ground(HANAMAKI))
    assert ground(KAMIKUISHIKI).equals(ground(KOFU).union(ground(FUJIKAWAGUCHIKO)))
    for former in FORMER.values():
        office = shapely.Point(former.lon, former.lat)
        # 山口村, 蒲原町 and 由比町 too; where only some point near by is known, it may lie just beyond.
        assert ground(former.code).distance(office) < 0.01, former


def test_what_is_former_is_a_place_but_none_of_today() -> None:
    place = GAZETTEER.place(OHASAMA)
    assert place is not None
    assert (place.name, place.kind, place.successors) == ("大迫町", PlaceKind.FORMER, (HANAMAKI,))
    assert place.ended == date(2006, 1, 1)
    assert place not in GAZETTEER.places()
    assert GAZETTEER.search("大迫町") == ()
    assert GAZETTEER.former(HANAMAKI) is GAZETTEER.former("999999") is None
    ward = GAZETTEER.place(NORTH_WARD)
    assert ward is not None
    assert (ward.kind, ward.ended) == (PlaceKind.FORMER_WARD, date(2024, 1, 1))
    assert GAZETTEER.today([OHASAMA, NORTH_WARD, IWATE, "439991"]) == {
        HANAMAKI,
        CENTRAL_WARD,
        HAMANA_WARD,
        IWATE,
        "439991",
    }


def test_official_boundaries_of_today_are_the_ground_of_old_codes_and_old_ones_of_nobody() -> None:
    feature = (
        '{"type": "Feature", "properties": {"code": "%s"}, "geometry": {"type": "Polygon", '
        '"coordinates": [[[141.0, 39.3], [141.2, 39.3], [141.2, 39.5], [141.0, 39.3]]]}}'
    )
    features = ", ".join(feature % code for code in ("03205", "03341"))
    official = GAZETTEER.with_boundaries(
        f'{{"type": "FeatureCollection", "features": [{features}]}}'.encode()
    )
    assert official.official(HANAMAKI)
    assert not official.official(OHASAMA)
    assert official.geometry(OHASAMA) == official.geometry(HANAMAKI)
    assert official.reach([OHASAMA]) == GAZETTEER.reach([OHASAMA])


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        (b"merged,2006", b"eaten,2006"),
        (b"2006-03-31", b"2006-03-32"),
        (b"successors", b"heirs"),
        (b"014397,", b"014397"),
    ],
)
def test_a_spoilt_table_is_refused_with_the_line(spoilt: bytes, reason: bytes) -> None:
    assert spoilt in TABLE
    with pytest.raises(LalertError, match="the table of former codes, line "):
        read_former(TABLE.replace(spoilt, reason, 1))


def test_show_tells_what_became_of_an_old_code_and_when(tmp_path: Path) -> None:
    def shown(code: str) -> str:
        return CliRunner().invoke(show, [code, "--data", str(tmp_path)], catch_exceptions=False).output

    assert "2006-01-01, merged with others" in shown("03341")
    assert "花巻市 (032051)" in shown(OHASAMA)
    assert "甲府市 (192015), 富士河口湖町 (194301)" in shown(KAMIKUISHIKI)
    assert "2012-04-01, made a city with wards" in shown("432016")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "scripts" / "build_former_codes.py"
    spec = importlib.util.spec_from_file_location("build_former_codes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


def test_the_script_takes_no_other_files_than_those_it_knows(script: ModuleType, tmp_path: Path) -> None:
    for name in script.SOURCES:
        with pytest.raises(SystemExit, match="is missing"):
            script.checked(tmp_path / name)
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(SystemExit, match="sha256 differs"):
            script.checked(tmp_path / name)


def test_the_script_writes_what_is_read(script: ModuleType) -> None:
    past = script.Past("03341", "岩手県", "大迫", "大迫町", "", "2006-01-01", 141.29, 39.46, "")
    table = script.encode([script.Row(past, "merged", ("03205",))])
    assert read_former(table) == {
        OHASAMA: Former(OHASAMA, "大迫町", Change.MERGED, date(2006, 1, 1), (HANAMAKI,), 141.29, 39.46)
    }
