"""The script that makes the gazetteer: its spelling rule, its outlines, and that it takes no other packages than those it knows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import shapely

from lalert.geo import Gazetteer, PlaceKind
from lalert.geo.territories import BOUNDARY_UNIT, OUTLINE_UNIT, read_territory
from lalert.resources import gazetteer_csv

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_gazetteer", ROOT / "scripts" / "build_gazetteer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("kana", "romaji"),
    [
        ("くまもと", "kumamoto"),
        ("きゅうしゅう", "kyushu"),
        ("おおいた", "oita"),
        ("こうち", "kochi"),
        ("ちゅうおう", "chuo"),
        ("べっぷ", "beppu"),
        ("はっちょう", "hatcho"),
        ("じょうえつ", "joetsu"),
        ("にほんまつ", "nihommatsu"),
        ("ぢづを", "jizuo"),
        ("こーひ", "kohi"),
    ],
)
def test_hiragana_is_spelled_as_on_road_signs(script: ModuleType, kana: str, romaji: str) -> None:
    assert script.hepburn(kana) == romaji


def test_every_english_name_in_the_table_follows_from_its_reading(script: ModuleType) -> None:
    for place in Gazetteer.from_csv(gazetteer_csv()).places():
        if place.kind is PlaceKind.MUNICIPALITY:
            assert place.name_en == script.english(place.code[:5], place.name, place.kana)


def test_a_boundary_is_read_as_it_was_written_with_its_hole_and_its_island(script: ModuleType) -> None:
    lake = shapely.box(130.62, 32.61, 130.77, 32.73)
    drawn = shapely.union(shapely.box(130.5, 32.5, 130.9, 32.9) - lake, shapely.box(131.5, 32.5, 131.6, 32.6))
    text = script.text_of(shapely.transform(drawn, script.mercator), BOUNDARY_UNIT)
    assert (text.count(";"), text.count(":")) == (1, 1)
    assert read_territory(text, BOUNDARY_UNIT).equals_exact(drawn, 1e-9, normalize=True)


def test_a_neck_that_rounding_closes_leaves_a_valid_territory_and_no_sliver(script: ModuleType) -> None:
    neck = shapely.union_all(
        [
            shapely.box(130.0, 32.0, 130.1, 32.1),
            shapely.box(130.2, 32.0, 130.3, 32.1),
            shapely.box(130.1, 32.05, 130.2, 32.05001),
        ]
    )
    read = read_territory(
        script.text_of(shapely.transform(neck, script.mercator), BOUNDARY_UNIT), BOUNDARY_UNIT
    )
    assert shapely.is_valid(read)
    assert len(shapely.get_parts(read)) == 2
    assert read.area == pytest.approx(0.02)


def test_an_outline_has_no_holes(script: ModuleType) -> None:
    ring = shapely.box(130.5, 32.5, 130.9, 32.9) - shapely.box(130.6, 32.6, 130.8, 32.8)
    text = script.outline(shapely.transform(ring, script.mercator), 150.0)
    assert read_territory(text, OUTLINE_UNIT).equals(shapely.box(130.5, 32.5, 130.9, 32.9))


def test_land_is_filled_between_towns_but_not_out_at_sea(script: ModuleType) -> None:
    ring = [(130.5 + 0.05 * x, 32.5 + 0.05 * y) for x in range(9) for y in range(9) if {x, y} & {0, 8}]
    metres = script.mercator(np.array(ring))
    scale = 1 / np.cos(np.radians(np.array(ring)[:, 1]))
    points = script.Points(metres, scale, np.zeros(len(ring), dtype=np.int64))
    land = shapely.transform(script.land_around(points), script.from_mercator)
    assert land.covers(shapely.box(130.5, 32.5, 130.9, 32.9))
    assert not land.intersects(shapely.Point(130.46, 32.7))  # 3.7 km off: further than any town reaches


def test_a_package_with_other_contents_is_refused(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is missing"):
        script.open_wheel(tmp_path, "japancode")
    (tmp_path / "japancode-0.1.0-py3-none-any.whl").write_bytes(b"something else")
    with pytest.raises(SystemExit, match="sha256 differs"):
        script.open_wheel(tmp_path, "japancode")
