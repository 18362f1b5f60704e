"""The rules over a real flood, of which readings and stations are no part of the project: what docs/sensors-rules.md says of it is so."""

from __future__ import annotations

from pathlib import Path

import pytest

from lalert.cli.rehearsal import figures
from lalert.sensors import recorded
from lalert.sensors.settings import QUALITY, Rules
from lalert.sensors.whatif import Rehearsal, summary

pytestmark = pytest.mark.shared

RIVER = Path(__file__).resolve().parents[3] / "shared" / "data" / "river"
PAGE = (Path(__file__).parents[2] / "docs" / "sensors-rules.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "rule",
    [
        Rules(),
        Rules(hysteresis_m=0.0),
        Rules(hold=2),
        Rules(forecast_min=60.0),
        Rules(forecast_min=120.0),
        Rules(hold=2, of=3, forecast_min=120.0),
    ],
)
def test_the_figures_of_the_docs_are_those_of_the_flood(rule: Rules) -> None:
    stations = recorded.stations((RIVER / "stations.csv").read_text(encoding="utf-8"), rule, QUALITY)
    rehearsal = Rehearsal(stations)
    told = list(
        rehearsal.play(recorded.readings((RIVER / "readings_2026-06-03.csv").read_text(encoding="utf-8")))
    )
    said = summary(rehearsal)
    assert len(told) == said.warnings + said.updates + said.lifted
    early = sum(lead.total_seconds() > 0 for lead in said.leads)
    cells = (said.warned, said.warnings, said.updates, said.lifted, said.flaps, said.missed, early)
    assert f"| {' | '.join(map(str, cells))} |" in PAGE, list(figures(said))
    assert said.doubted.total() == 0
