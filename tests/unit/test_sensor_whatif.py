"""What rules would have done over recorded readings, and how those are played into a hub."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lalert.cli import main
from lalert.cli.rehearsal import listed, play
from lalert.errors import BadRequest, ConfigError, Unavailable
from lalert.sensors import Stage, recorded
from lalert.sensors.settings import QUALITY, RULES, Quality, Rules
from lalert.sensors.whatif import Rehearsal, summary
from tests.sensor_kit import gauge, level, river

STATIONS = """code,name,lat,lon,start_level,warn_level,flood_level
g1,橋,32.2,130.7,1.0,3.0,4.0
g2,堰,32.3,130.8,,,4.0
"""
READINGS = """obs_time,code,level_m,over
2026-06-03T10:00:00+09:00,g1,1.0,1
2026-06-03T10:00:00+09:00,g2,1.0,1
2026-06-03T11:00:00+09:00,g1,2.9,1
2026-06-03T11:30:00+09:00,g1,3.1,1
2026-06-03T12:00:00+09:00,g2,4.2,1
2026-06-03T12:30:00+09:00,g1,4.1,1
2026-06-03T12:40:00+09:00,g1,4000,1
2026-06-03T13:30:00+09:00,g1,2.0,1
2026-06-03T14:30:00+09:00,g1,3.2,1
2026-06-03T14:30:00+09:00,g3,3.2,1
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    stations, readings = tmp_path / "stations.csv", tmp_path / "readings.csv"
    stations.write_text(STATIONS, encoding="utf-8")
    readings.write_text(READINGS, encoding="utf-8-sig")
    return str(readings), str(stations)


def test_it_says_when_each_would_have_fired_how_early_and_what_flapped(files: tuple[str, str]) -> None:
    said = CliRunner().invoke(main, ["sensors", "what-if", files[0], "--stations", files[1]])
    assert said.exit_code == 0, said.output
    assert said.output.splitlines() == [
        "2026-06-03 11:30 g1 橋: warn alert danger (level; 3.10 m, flooding in about 39 min)",
        "2026-06-03 12:00 g2 堰: warn alert flooding (level; 4.20 m)",
        "2026-06-03 12:30 g1 橋: warn update flooding (level; 4.10 m)",
        "2026-06-03 13:30 g1 橋: warn cancel calm (level; 2.00 m)",
        "2026-06-03 14:30 g1 橋: warn alert danger (level; 3.20 m)",
        "g1 橋: warned 1 h 00 min before it flooded, 1 flaps",
        "g2 堰: warned 0 h 00 min before it flooded, 0 flaps",
        "stations with readings: 2; readings: 9, of unknown stations: 1",
        "warned: 2 stations, 3 incidents, 1 updates, 1 lifted; proposals: 0",
        "flapped (warned again within 6 h of a lifting): 1 stations, 1 times",
        "doubted readings: 1 (unit 1)",
        "flooded: 2 stations, of these never warned: 0",
        "not flooded at their first reading: 2; warned before: 1, median 1 h 00 min, all: median 1 h 00 min",
    ]


def test_other_rules_can_be_tried_and_a_station_looked_at_alone(files: tuple[str, str]) -> None:
    words = ["sensors", "what-if", files[0], "--stations", files[1], "--format", "json", "--station", "g1"]
    said = CliRunner().invoke(main, [*words, "--rule", "hold = 2, propose_from = 4, forecast_min = 60"])
    assert said.exit_code == 0, said.output
    *happened, figures = map(json.loads, said.output.splitlines())
    assert [(h["time"][11:16], h["kind"], h["act"], h["rule"], h["stage"]) for h in happened] == [
        ("11:30", "warn", "Alert", "forecast", "calm"),
        ("12:30", "warn", "Update", "level", "danger"),
        ("12:30", "propose", "Alert", "level", "danger"),
    ]
    assert happened[0]["forecast"] == {"stage": "flooding", "minutes": pytest.approx(37.9, abs=5)}
    assert figures["summary"]["proposed"] == 1
    assert figures["summary"]["leads_min"] == [60]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rule", "holds = 2"], "rule.holds: unknown key, did you mean hold?"),
        (["--rule", "hold = 0"], "rule.hold: 0 must be 1 to 100"),
        (["--rule", "hold = ]"], "--rule: "),
        (["--quality", "stale_h = -1"], "quality.stale_h: -1"),
        (["--station", "g9"], "no station g9"),
    ],
)
def test_a_mistake_in_what_is_tried_is_said(files: tuple[str, str], words: list[str], message: str) -> None:
    said = CliRunner().invoke(main, ["sensors", "what-if", files[0], "--stations", files[1], *words])
    assert said.exit_code == 2
    assert message in said.output


def test_the_stations_of_a_configuration_can_be_tried(tmp_path: Path, files: tuple[str, str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sensors-rules.md").read_text(encoding="utf-8")
    file = tmp_path / "lalert.toml"
    file.write_text(
        page.split("```toml\n")[1].split("```")[0].replace('"hitoyoshi"', '"g1"'), encoding="utf-8"
    )
    said = CliRunner().invoke(main, ["sensors", "what-if", files[0], "--config", str(file), "--summary"])
    assert said.exit_code == 0, said.output
    assert "warned: 1 stations" in said.output


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2026-06-03T10:00:00,g1,1.0,1", "line 2: time: '2026-06-03T10:00:00' is no time with an offset"),
        ("2026-06-03T10:00:00+09:00,g1,x,1", "line 2: level_m: 'x' is no number"),
        ("2026-06-03T10:00:00+09:00,g1,nan,1", "line 2: level_m: 'nan' is no number"),
        ("2026-06-03T10:00:00+09:00,,1.0,1", "line 2: the column station (or code) is missing or empty"),
        ("2026-06-03T10:00:00+09:00,g1,,1", "line 2: give one of level_m"),
    ],
)
def test_a_bad_row_is_named(row: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        recorded.readings(f"obs_time,code,level_m,over\n{row}\n")
    assert message in caught.value.detail


def test_readings_are_played_in_the_order_of_their_arrival() -> None:
    table = """station,time,received,level_m
g,2026-06-03T10:00:00+09:00,2026-06-03T10:20:00+09:00,1.0
g,2026-06-03T10:10:00+09:00,2026-06-03T10:10:05+09:00,2.0
"""
    assert [arrived.reading.level_m for arrived in recorded.readings(table)] == [2.0, 1.0]


def test_the_stations_of_a_table_have_their_levels_and_their_own_settings_before_those_that_are_tried() -> (
    None
):
    first, second = listed(STATIONS.encode(), RULES, QUALITY)
    assert first.levels == {Stage.DANGER: 3.0, Stage.FLOODING: 4.0}
    assert first.quality == Quality(start_m=1.0)
    assert second.levels == {Stage.FLOODING: 4.0}
    assert second.quality == QUALITY
    table = b"id,name,lat,lon,caution_m,hold\ng,B,32.2,130.7,2.0,3\n"
    assert listed(table, Rules(hold=2, of=5), QUALITY)[0].rule == Rules(hold=3, of=5)
    with pytest.raises(ConfigError) as caught:
        listed(table.replace(b"2.0", b"x"), RULES, QUALITY)
    assert list(caught.value.mistakes) == ["line 2: caution_m: 'x' is no number"]


def test_a_rehearsal_counts_what_was_missed() -> None:
    rehearsal = Rehearsal([gauge(levels={Stage.FLOODING: 5.0})])
    assert len(list(rehearsal.play([*river([5.1, 5.2]), level(30, 5.1, "other")]))) == 1
    figures = summary(rehearsal)
    assert (figures.flooded, figures.missed, figures.leads, figures.strangers) == (1, 0, (), 1)


class Hub:
    """Takes readings as a hub would, and keeps the time; once it is away."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 1, tzinfo=UTC)
        self.batches: list[tuple[datetime, list[dict[str, Any]]]] = []
        self.away = 1

    async def observe(self, readings: Sequence[dict[str, Any]]) -> dict[str, Any]:
        if self.away:
            self.away -= 1
            raise Unavailable("away")
        self.batches.append((self.now, list(readings)))
        strange = [i for i, reading in enumerate(readings) if reading["station"] == "g3"]
        rejected = [{"index": index, "code": "unknown-station"} for index in strange]
        return {"accepted": len(readings) - len(strange), "duplicate": 0, "rejected": rejected}

    async def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


async def test_a_replay_begins_now_and_keeps_the_distances_at_its_speed() -> None:
    hub = Hub()
    start = hub.now
    told = await play(recorded.readings(READINGS), hub.observe, 60.0, lambda: hub.now, hub.sleep)
    assert told == (9, 0, Counter({"unknown-station": 1}))
    assert [len(batch) for _, batch in hub.batches] == [2, 1, 1, 1, 1, 1, 1, 2]
    # The hub was away for a second: nothing is lost, and the distances stay.
    assert hub.batches[0][0] == start + timedelta(seconds=1)
    assert [reading["time"] for _, batch in hub.batches for reading in batch][-1] == (
        start + timedelta(minutes=4.5)
    ).isoformat()
    assert hub.batches[-1][0] == start + timedelta(minutes=4.5)
