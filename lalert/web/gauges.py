"""The page of the gauges: how each river stands, and of which nobody knows. What is silent never looks calm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from lalert.errors import BadRequest, InvalidCode
from lalert.geo import normalise_code
from lalert.web.wording import Wording

SHOWN: Final = 300
"""So many are listed; what is left out is counted, and an area narrows it."""

_STAGES: Final = ("flooding", "danger", "evacuation", "caution", "no-data", "standby", "calm")
"""The gravest first; that nothing is known comes before whatever is no danger."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """A row: `state` names its class and words; `last` is what was known last of one that is silent."""

    name: str
    river: str
    state: str
    said: str
    level: str
    measured: str
    heard: str
    drill: bool


@dataclass(frozen=True, slots=True)
class Gauges:
    """The rows, how many were left out, and how many of all are without data."""

    rows: Sequence[Gauge]
    more: int
    silent: int


def gauges(stations: Iterable[Mapping[str, Any]], area: str | None, t: Wording) -> Gauges:
    """Return what the page lists, of one municipality or prefecture if `area` is its code; raises `BadRequest`."""
    wanted = [station for station in stations if area is None or _in(station, _code(area))]
    wanted.sort(key=lambda station: (_STAGES.index(station["stage"]), station["river"], station["name"]))
    silent = sum(station["condition"] != "live" for station in wanted)
    return Gauges([_row(station, t) for station in wanted[:SHOWN]], max(0, len(wanted) - SHOWN), silent)


def _code(area: str) -> str:
    try:
        return normalise_code(area)
    except InvalidCode as error:
        raise BadRequest(f"area: {error.detail}") from error


def _in(station: Mapping[str, Any], code: str) -> bool:
    return any(each == code or each[:2] == code for each in station["codes"])


def _row(station: Mapping[str, Any], t: Wording) -> Gauge:
    state = station["condition"] if station["stage"] == "no-data" else station["stage"]
    level = station["level_m"]
    return Gauge(
        name=station["name"],
        river=station["river"],
        state=state,
        said=t(f"gauge.{state}"),
        level="" if level is None else f"{level:.2f} m",
        measured=_moment(station["time"], t),
        heard=_moment(station["heard"], t) or t("stations.never"),
        drill=station["status"] != "Actual",
    )


def _moment(text: str | None, t: Wording) -> str:
    return t.moment(datetime.fromisoformat(text)) if text else ""
