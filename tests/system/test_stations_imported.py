"""`lalert sensors import, list, show, maintenance`, on the store and through a node that runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lalert.cli import main
from lalert.testing.node import running_node

NATION = Path(__file__).resolve().parents[3] / "shared" / "data" / "river" / "stations.csv"
TABLE = "id,name,lat,lon,danger_m\nohashi,人吉大橋,32.214,130.762,4.0\nkawabe,川辺,32.22,130.77,3.0\n"


def lalert(data: Path, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--data", str(data)])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    made = lalert(folder, "org", "create", "hitoyoshi", "--codes", "432032", "--senders", "*@h.example")
    assert made.exit_code == 0, made.output
    return folder


def test_a_table_is_set_up_whole_or_not_at_all(data: Path, tmp_path: Path) -> None:
    table = tmp_path / "stations.csv"
    table.write_text(TABLE + "far,遠い,43.06,141.35,1.0\nbad,悪い,x,130.7,1.0\n", encoding="utf-8")
    refused = lalert(data, "sensors", "import", str(table), "--org", "hitoyoshi")
    assert refused.exit_code == 1
    assert "line 4: codes: no municipality of this organisation" in refused.output
    assert "line 5: lat: 'x' is no number" in refused.output
    assert "2 of 4 lines are wrong; no station was set up" in refused.output
    table.write_text(TABLE, encoding="utf-8")
    asked = lalert(data, "sensors", "import", str(table), "--org", "hitoyoshi", "--dry-run")
    assert asked.output == "2 stations would be set up for hitoyoshi\n"
    done = lalert(data, "sensors", "import", str(table), "--org", "hitoyoshi")
    assert done.output == "2 stations are set up for hitoyoshi\n"
    assert [line.split()[0] for line in lalert(data, "sensors", "list").output.splitlines()] == [
        "id",
        "kawabe",
        "ohashi",
    ]
    shown = json.loads(lalert(data, "sensors", "show", "ohashi").output)
    assert (shown["codes"], shown["thresholds"]) == (["432032"], {"danger_m": 4.0})


async def test_a_running_node_hears_of_it_at_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    table = tmp_path / "stations.csv"
    table.write_text(TABLE, encoding="utf-8")
    words = ["sensors", "maintenance", "ohashi", "--org", "hitoyoshi"]
    async with running_node(data) as node:
        done = await asyncio.to_thread(lalert, data, "sensors", "import", str(table), "--org", "hitoyoshi")
        assert done.exit_code == 0, done.output
        work = await asyncio.to_thread(
            lalert,
            data,
            *words,
            "--since",
            "2026-06-03T10:00:00+09:00",
            "--until",
            "2026-06-03T12:00:00+09:00",
        )
        assert "2026-06-03T10:00:00+09:00 to 2026-06-03T12:00:00+09:00" in work.output
        assert (await node.get("/v1/stations/ohashi"))[1]["maintenance"] is not None
        ended = await asyncio.to_thread(lalert, data, *words, "--end")
        assert ended.output == "ohashi: judged again\n"
        assert (await node.get("/v1/stations/ohashi"))[1]["maintenance"] is None
        assert (await asyncio.to_thread(lalert, data, *words)).exit_code == 2


@pytest.mark.slow
@pytest.mark.shared
def test_the_national_list_is_taken_but_for_two_whose_levels_do_not_rise(tmp_path: Path) -> None:
    data = tmp_path / "data"
    lalert(data, "org", "create", "river", "--codes", "all", "--senders", "gauge@river.example")
    asked = lalert(data, "sensors", "import", str(NATION), "--org", "river", "--dry-run")
    wrong = [line.partition("stations.csv: ")[2] for line in asked.output.splitlines()[:-1]]
    assert [each.split(":")[:2] for each in wrong] == [
        ["line 3632", " thresholds"],
        ["line 3812", " thresholds"],
    ]
    lines = NATION.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "good.csv").write_text(
        "".join(lines[:3631] + lines[3632:3811] + lines[3812:]), encoding="utf-8"
    )
    done = lalert(data, "sensors", "import", str(tmp_path / "good.csv"), "--org", "river")
    assert done.output == "4051 stations are set up for river\n"
