"""The rules over a real flood, of which readings and stations are no part of the project: what docs/sensors-rules.md says of it is so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median_low

import pytest

from lalert.cli.rehearsal import figures, listed
from lalert.sensors import Stage, Station, recorded
from lalert.sensors.settings import QUALITY, RULES, Rules
from lalert.sensors.whatif import Rehearsal, summary
from lalert.store import StoredReading

pytestmark = pytest.mark.shared

RIVER = Path(__file__).resolve().parents[3] / "shared" / "data" / "river"
PAGE = (Path(__file__).parents[2] / "docs" / "sensors-rules.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def stations() -> Sequence[Station]:
    return listed((RIVER / "stations.csv").read_bytes(), RULES, QUALITY)


@pytest.fixture(scope="module")
def readings() -> Sequence[StoredReading]:
    return recorded.readings((RIVER / "readings_2026-06-03.csv").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "rule",
    [
        Rules(),
        Rules(forecast_min=60.0),
        *(
            pytest.param(rule, marks=pytest.mark.slow)
            for rule in (
                Rules(hysteresis_m=0.0),
                Rules(hold=2),
                Rules(forecast_min=120.0),
                Rules(hold=2, of=3, forecast_min=120.0),
            )
        ),
    ],
)
def test_the_figures_of_the_docs_are_those_of_the_flood(
    rule: Rules, stations: Sequence[Station], readings: Sequence[StoredReading]
) -> None:
    rehearsal = Rehearsal(replace(station, rule=rule) for station in stations)
    told = list(rehearsal.play(readings))
    said = summary(rehearsal)
    assert len(told) == said.warnings + said.updates + said.lifted
    early = sum(lead.total_seconds() > 0 for lead in said.leads)
    cells = (said.warned, said.warnings, said.updates, said.lifted, said.flaps, said.missed, early)
    assert f"| {' | '.join(map(str, cells))} |" in PAGE, list(figures(said))
    assert (said.readings, said.stations, said.flooded) == (13_260, 1_427, 80)
    assert said.doubted == {"spike": 2}


def test_the_recording_is_as_coarse_as_the_docs_say(
    stations: Sequence[Station], readings: Sequence[StoredReading]
) -> None:
    rehearsal = Rehearsal(stations)
    for _ in rehearsal.play(readings):
        pass
    assert sum(verdict.high for verdict in rehearsal.verdicts.values()) == 19
    assert round(100 * sum(Stage.DANGER not in station.levels for station in stations) / len(stations)) == 36
    times: dict[str, list[datetime]] = defaultdict(list)
    for arrived in readings:
        times[arrived.reading.station].append(arrived.reading.time)
    gaps = [later - earlier for of_one in times.values() for earlier, later in pairwise(of_one)]
    assert median_low(gaps) == timedelta(minutes=100)
