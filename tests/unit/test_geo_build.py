"""The script that makes the gazetteer: its spelling rule, its outlines, and that it takes no other packages than those it knows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import shapely

from lalert.geo import Gazetteer, PlaceKind
from lalert.geo.territories import outline_geometry
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


def test_an_outline_is_read_as_it_was_written(script: ModuleType) -> None:
    scale = 1 / 0.84
    square = shapely.transform(shapely.box(130.5, 32.5, 130.9, 32.9), script.mercator)
    far = shapely.transform(shapely.box(131.5, 32.5, 131.6, 32.6), script.mercator)
    text = script.outline(shapely.union(square, far), scale)
    read = outline_geometry(text)
    assert text.count(";") == 1
    assert shapely.is_valid(read)
    # Widened by 3 km, less what simplifying takes from its round corners and rounding everywhere.
    wide = shapely.transform(shapely.union(square, far).buffer(2_000 * scale), script.from_mercator)
    assert read.buffer(0.001).covers(shapely.box(130.5, 32.5, 130.9, 32.9).buffer(0.015))
    assert read.buffer(0.001).covers(wide)
    assert (
        shapely.box(130.46, 32.46, 130.94, 32.94)
        .union(shapely.box(131.46, 32.46, 131.64, 32.64))
        .covers(read)
    )


def test_a_package_with_other_contents_is_refused(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is missing"):
        script.open_wheel(tmp_path, "japancode")
    (tmp_path / "japancode-0.1.0-py3-none-any.whl").write_bytes(b"something else")
    with pytest.raises(SystemExit, match="sha256 differs"):
        script.open_wheel(tmp_path, "japancode")
