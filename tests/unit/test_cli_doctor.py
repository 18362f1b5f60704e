"""`lalert doctor`: which boundaries are installed, of how many municipalities."""

from __future__ import annotations

import json
from pathlib import Path

import shapely
from click.testing import CliRunner

from lalert.app import BOUNDARIES
from lalert.cli import main


def told(data: Path, *command: str) -> str:
    result = CliRunner().invoke(main, [*command, "--data", str(data)])
    assert result.exit_code == 0
    return result.output


def test_doctor_counts_the_official_boundaries_and_says_how_to_get_the_others(tmp_path: Path) -> None:
    assert "official for 0 of 1747 municipalities" in told(tmp_path, "doctor")
    square = shapely.geometry.mapping(shapely.box(130.5, 32.4, 130.6, 32.5))
    feature = {"type": "Feature", "properties": {"code": "43202"}, "geometry": square}
    (tmp_path / BOUNDARIES).mkdir()
    (tmp_path / BOUNDARIES / "one.geojson").write_text(json.dumps({"features": [feature]}))
    shown = told(tmp_path, "doctor")
    assert "official for 1 of 1747 municipalities / 公式の境界: 1747市区町村のうち1" in shown
    for words in ("approximate", "おおよその範囲", "79 %", "92 %", "99.7 %", "lalert gazetteer install"):
        assert words in shown
    assert "おおよその範囲" in told(tmp_path, "gazetteer", "show", "43203")
    assert "おおよその範囲" not in told(tmp_path, "gazetteer", "show", "43202")
