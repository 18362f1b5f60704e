"""Geocodes of foreign schemes: known by the names that senders really write, lying roughly where they should, and never in Japan."""

from __future__ import annotations

import importlib.util
import re
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
import shapely

from lalert import cap, matching
from lalert.config import parse
from lalert.errors import ConfigError, LalertError
from lalert.geo import Gazetteer, Located, read_geocodes
from lalert.geo.abroad import Abroad
from lalert.matching import facts_of
from lalert.model import Alert, Area, Entry, Filter, NamedValue, Origin, OriginKind
from lalert.resources import abroad_csv, former_codes_csv, gazetteer_csv
from lalert.testing import make_alert
from lalert.texts.public import alert_geojson

ROOT = Path(__file__).resolve().parents[2]
ABROAD = Abroad.from_csv(abroad_csv())
NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)

LOS_ANGELES, NEW_YORK, HONOLULU, ADAK, ATTU = (
    (-118.24, 34.05),
    (-74.0, 40.7),
    (-157.86, 21.31),
    (-176.63, 51.88),
    (172.93, 52.9),
)
PARIS, SYDNEY, TORONTO, TAIPEI, BUSAN, VLADIVOSTOK = (
    (2.35, 48.86),
    (151.2, -33.87),
    (-79.38, 43.65),
    (121.56, 25.03),
    (129.07, 35.18),
    (131.9, 43.12),
)
HITOYOSHI, TSUSHIMA, WAKKANAI, NEMURO, YONAGUNI = (
    (130.76, 32.21),
    (129.29, 34.20),
    (141.67, 45.41),
    (145.58, 43.33),
    (123.0, 24.47),
)
JAPAN = (HITOYOSHI, TSUSHIMA, WAKKANAI, NEMURO, YONAGUNI)


@cache
def world() -> Gazetteer:
    return Gazetteer.from_csv(gazetteer_csv(), former_codes_csv(), abroad_csv())


def located(name: str, value: str) -> Located:
    found = ABROAD.locate(name, value)
    assert found is not None
    return found


def covers(name: str, value: str, point: tuple[float, float]) -> bool:
    geometry = located(name, value).geometry
    assert geometry is not None
    return bool(geometry.covers(shapely.Point(point)))


@pytest.mark.parametrize(
    ("name", "value", "inside", "outside"),
    [
        # As written in messages of the National Weather Service, of California, of Environment Canada and others.
        ("SAME", "006037", LOS_ANGELES, NEW_YORK),
        ("SAME", "406037", LOS_ANGELES, NEW_YORK),  # a part of the county
        ("FIPS6", "036061", NEW_YORK, LOS_ANGELES),
        ("FIPS", "36061", NEW_YORK, LOS_ANGELES),
        ("SAME", "000000", HONOLULU, TORONTO),
        ("SAME", "002016", ADAK, LOS_ANGELES),
        ("SAME", "002016", ATTU, LOS_ANGELES),  # beyond the 180th meridian
        ("UGC", "HIZ007", HONOLULU, LOS_ANGELES),
        ("UGC", "CAC037", LOS_ANGELES, HONOLULU),
        ("UGC", "NYZ072 NJZ006", NEW_YORK, LOS_ANGELES),
        ("UGC", "PKZ175", (179.0, 53.0), LOS_ANGELES),  # marine: about Alaska
        ("UGC", "GMZ856", (-88.0, 27.0), NEW_YORK),  # marine: Gulf of Mexico
        ("SAME", "077856", (-88.0, 27.0), NEW_YORK),
        ("SAME", "072001", (-66.1, 18.4), LOS_ANGELES),  # Puerto Rico
        ("ISO 3166-1", "FR", PARIS, SYDNEY),
        ("ISO3166-2", "US-CA", LOS_ANGELES, NEW_YORK),
        ("urn:oasis:names:tc:emergency:cap:1.2:profile:CAP-AU:1.0:ISO3166-2", "AU-NSW", SYDNEY, PARIS),
        ("http://www.iso.org/iso/country_codes.html", "AU-NSW", SYDNEY, PARIS),
        ("AMOC-AreaCode", "NSW_PW002", SYDNEY, PARIS),
        ("layer:EC-MSC-SMC:1.0:CLC", "041420", TORONTO, LOS_ANGELES),
        ("profile:CAP-CP:Location:0.3", "3520005", TORONTO, LOS_ANGELES),
        ("Taiwan_Geocode_100", "1000512", TAIPEI, PARIS),
        ("EMMA_ID", "FR033", PARIS, SYDNEY),
        ("EMMA_ID", "UK012", (-0.13, 51.5), PARIS),
        ("NUTS3", "EL303", (23.73, 37.98), PARIS),
        ("NUTS2", "FR10", PARIS, SYDNEY),
        ("WARNCELLID", "809276000", (10.0, 51.0), PARIS),
        ("ISO3166-1", "KR", BUSAN, PARIS),
        ("iso3166", "ru", VLADIVOSTOK, PARIS),
    ],
)
def test_a_foreign_code_lies_roughly_where_it_should_and_not_in_japan(
    name: str, value: str, inside: tuple[float, float], outside: tuple[float, float]
) -> None:
    assert covers(name, value, inside)
    assert not covers(name, value, outside)
    assert not any(covers(name, value, home) for home in JAPAN)
    assert located(name, value).rough


def test_no_outline_abroad_meets_the_territory_of_any_municipality() -> None:
    assert len(ABROAD.places) == 306
    for place in sorted(ABROAD.places):
        geometry = ABROAD._shape(place)
        assert geometry is not None
        assert shapely.is_valid(geometry)
        assert not geometry.is_empty
        west, south, east, north = geometry.bounds
        assert -180 <= west < east <= 180
        assert -90 <= south < north <= 90
        assert world().codes_of(geometry) == frozenset(), place


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAME", "abc"),
        ("SAME", "6037"),
        ("SAME", ""),
        ("UGC", "432032"),
        ("UGC", "CAX001"),
        ("ISO 3166-1", "日本"),
        ("EMMA_ID", "1"),
        ("JISX0402", "432032"),
        ("市区町村コード", "432032"),
        ("Spásvæði", "Höfuðborgarsvæðið"),
        ("SAMEday", "006037"),
        ("", "006037"),
    ],
)
def test_what_is_no_code_or_no_known_scheme_is_not_located(name: str, value: str) -> None:
    assert ABROAD.locate(name, value) is None


def test_a_code_that_the_table_does_not_have_is_somewhere_all_the_same() -> None:
    # A number that no state has is of the USA still, and a country that is too small to be drawn is no place of ours.
    assert covers("SAME", "099001", LOS_ANGELES)
    assert located("ISO 3166-1", "ZZ") == Located()


def test_japan_in_iso_3166_is_its_prefectures() -> None:
    assert located("ISO3166-2", "JP-43").codes == {"43"}
    assert len(located("ISO 3166-1", "JP").codes) == 47
    assert located("ISO3166-2", "JP-48") == Located()


@pytest.mark.parametrize("spoilt", [b"place,number", b"FR,,"])
def test_a_spoilt_table_is_refused(spoilt: bytes) -> None:
    with pytest.raises(LalertError, match="the table of places abroad, line "):
        Abroad.from_csv(abroad_csv().replace(spoilt, b"x", 1))


def alert(*geocodes: tuple[str, str], polygon: tuple[tuple[float, float], ...] = ()) -> Alert:
    area = Area(
        "there",
        geocodes=tuple(NamedValue(name, value) for name, value in geocodes),
        polygons=(polygon,) if polygon else (),
    )
    return make_alert(areas=(area,), raw=b"")


def entry(one: Alert, gazetteer: Gazetteer | None = None) -> Entry:
    facts = facts_of(one, gazetteer or world(), frozenset({"43"}))
    return Entry(one.id, NOW, NOW, one, Origin(OriginKind.HTTP), one.id, facts)


def reaches(one: Entry, *points: tuple[float, float]) -> bool:
    return matching.wants(Filter(points=points), one, (), world())


def square(lon: float, lat: float, side: float = 0.1) -> tuple[tuple[float, float], ...]:
    return ((lon, lat), (lon + side, lat), (lon + side, lat + side), (lon, lat + side), (lon, lat))


def test_an_alert_abroad_is_for_those_there_and_for_nobody_in_japan() -> None:
    one = entry(alert(("SAME", "006037"), ("UGC", "CAC037")))
    assert reaches(one, LOS_ANGELES)
    assert not reaches(one, NEW_YORK)
    assert not any(reaches(one, home) for home in JAPAN)
    assert not matching.wants(Filter(areas=frozenset({"432032", "43"})), one, (), world())
    assert matching.wants(Filter(), one, (), world())
    assert not one.facts.nowhere
    # Without a known scheme it is nowhere, and so for all of its sender's places.
    assert entry(alert(("Spásvæði", "x"))).facts.nowhere
    # A scheme without a map is no reason to tell everybody at home.
    unmapped = entry(alert(("ISO 3166-1", "ZZ")))
    assert not unmapped.facts.nowhere
    assert not reaches(unmapped, HITOYOSHI)


def test_no_two_alerts_share_a_prepared_geometry_and_the_gazetteers_own_stays_as_it_is() -> None:
    for gazetteer, geocode in ((world(), ("SAME", "006037")), (own(), ("川の区間", "k-2"))):
        one, other = (entry(alert(geocode), gazetteer).facts.drawn for _ in range(2))
        place = gazetteer.locate(*geocode)
        assert one is not None
        assert place is not None
        assert place.geometry is not None
        assert one is not other
        assert shapely.is_prepared(one)
        assert not shapely.is_prepared(place.geometry)


def test_a_map_shows_a_rough_place_as_approximate_and_an_exact_one_not() -> None:
    rough = alert_geojson(entry(alert(("SAME", "006037"))))
    assert rough["geometry"] is not None
    assert rough["properties"]["approximate"] is True
    exact = alert_geojson(entry(alert(("SAME", "006037")), own()))
    assert exact["properties"]["approximate"] is False


def test_a_rough_code_does_not_widen_what_is_drawn_or_coded() -> None:
    drawn = entry(alert(("SAME", "006037"), polygon=square(*LOS_ANGELES)))
    assert reaches(drawn, (-118.2, 34.1))
    assert not reaches(drawn, (-122.42, 37.77))  # San Francisco
    coded = entry(alert(("JISX0402", "432032"), ("ISO 3166-1", "JP")))
    assert coded.facts.codes == {"432032"}
    assert not reaches(coded, TSUSHIMA)


def test_a_prefecture_by_iso_3166_reaches_its_followers_and_its_ground() -> None:
    one = entry(alert(("ISO3166-2", "JP-43")))
    assert one.facts.codes == {"43"}
    assert reaches(one, HITOYOSHI)
    assert not reaches(one, TSUSHIMA)


SAMPLES = ROOT.parent / "shared" / "data" / "cap-samples"


@pytest.mark.shared
def test_every_real_alert_that_names_a_place_is_somewhere_and_concerns_nobody_in_japan() -> None:
    judged = 0
    for file in SAMPLES.rglob("*"):
        for raw in re.findall(
            rb"<(?:cap:)?alert[ >].*?</(?:cap:)?alert>",
            file.read_bytes() if file.is_file() else b"",
            re.DOTALL,
        ):
            if b"geocode>" not in raw:
                continue
            try:
                found = cap.parse(raw, tolerant=True)
            except LalertError:
                continue
            facts = facts_of(found, world())
            assert not facts.nowhere, file
            assert facts.drawn is not None, file
            assert facts.codes == frozenset(), file
            judged += 1
    assert judged >= 80


TABLE = """scheme,value,codes,polygon,circle
川の区間,k-1,432032 43501,,
川の区間,k-2,,"32.2,130.7 32.2,130.8 32.3,130.8","32.5,130.6 2"
SAME,006037,,"34.0,-118.3 34.0,-118.2 34.1,-118.2 34.0,-118.3",
zone,A1*,43,,
zone,A*,13,,
"""


def own() -> Gazetteer:
    table, mistakes = read_geocodes(TABLE)
    assert mistakes == []
    return world().with_locator(table)


def test_an_operators_table_tells_where_codes_lie_exactly_and_goes_before_what_is_shipped() -> None:
    one = entry(alert(("川の区間", "k-1")), own())
    assert one.facts.codes == {"432032", "435015"}
    two = entry(alert(("川の区間", "k-2")), own())
    assert reaches(two, (130.77, 32.21))
    assert reaches(two, (130.6, 32.515))
    assert not reaches(two, (130.9, 32.25))
    exact = entry(alert(("SAME", "006037")), own())
    assert reaches(exact, (-118.22, 34.05))
    assert not reaches(exact, (-118.5, 34.05))
    assert entry(alert(("SAME", "006001")), own()).facts.drawn is not None
    assert own().locate("zone", "A17") == Located(frozenset({"43"}), None, rough=False)
    assert own().locate("zone", "A2") == Located(frozenset({"13"}), None, rough=False)
    assert own().locate("zone", "B") is None


def test_what_an_operator_says_exactly_adds_to_what_is_drawn() -> None:
    both = entry(alert(("川の区間", "k-1"), polygon=square(139.7, 35.6)), own())
    assert {"432032", "435015"} <= both.facts.codes
    assert reaches(both, (139.75, 35.65))
    assert reaches(both, HITOYOSHI)


def test_every_mistake_of_an_operators_table_is_named_with_its_line() -> None:
    _, mistakes = read_geocodes(
        "scheme,value,codes,polygon,circle\n"
        "a,1,432033,,\n"
        "a,2,,,\n"
        ",3,43,,\n"
        'a,4,,"32.2,130.7 32.2",\n'
        'a,5,,"32.2,130.7 32.3,130.8 32.2,130.8 32.3,130.7",\n'
        'a,6,,,"32.5,130.6"\n'
        'a,7,,,"132.5,30.6 2"\n'
        "a,8,43,,\n"
        "a,8,43,,\n"
        "a,9,43,,,,\n"
    )
    assert [mistake.partition(":")[0] for mistake in mistakes] == [
        f"line {line}" for line in (2, 3, 4, 5, 6, 7, 8, 10, 11)
    ]
    assert "the check digit of 43203 is 2, not 3" in mistakes[0]
    assert read_geocodes("name,code\n")[1] == [
        "line 1: the columns are scheme, value, codes, polygon, circle, not 'name, code'"
    ]
    assert len(read_geocodes("scheme,value\n" + "a,\n" * 1000)[1]) == 20


def test_the_configuration_names_the_table_and_its_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text(TABLE, encoding="utf-8")
    assert parse(f'[gazetteer]\ngeocodes = "{file}"\n').gazetteer.geocodes == str(file)
    file.write_text("scheme,value,codes\na,1,432033\na,2,\n", encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        parse(f'[gazetteer]\ngeocodes = "{file}"\n')
    assert len(refused.value.mistakes) == 2
    assert all(f"gazetteer.geocodes: {file}: line " in mistake for mistake in refused.value.mistakes)
    with pytest.raises(ConfigError, match="cannot be read"):
        parse('[gazetteer]\ngeocodes = "nowhere.csv"\n')


def test_the_script_takes_no_other_files_than_those_it_knows(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("build_abroad", ROOT / "scripts" / "build_abroad.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    for name in script.SOURCES:
        with pytest.raises(SystemExit, match="is missing"):
            script.member(tmp_path, name, "x.json")
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(SystemExit, match="sha256 differs"):
            script.member(tmp_path, name, "x.json")


def test_the_table_in_the_documentation_is_one() -> None:
    page = (ROOT / "docs" / "gazetteer.md").read_text(encoding="utf-8")
    table = page.partition("```csv\n")[2].partition("```")[0]
    found, mistakes = read_geocodes(table)
    assert mistakes == []
    first = found.locate("川の区間", "kuma-1")
    assert first is not None
    assert first.codes == {"432032", "435015"}
