"""The page of the gauges: how each river stands, and of which nobody knows. What is silent never looks calm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from lalert.errors import BadRequest, InvalidCode
from lalert.geo import normalise_code
from lalert.web.api import Overview
from lalert.web.wording import Wording

SHOWN: Final = 300
"""So many are listed; what is left out is counted, and an area narrows it."""

_WARNING: Final = ("caution", "evacuation", "danger", "flooding")


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


def code_of(area: str | None) -> str | None:
    """Return the code that a visitor names; raises `BadRequest`."""
    try:
        return normalise_code(area) if area else None
    except InvalidCode as error:
        raise BadRequest(f"area: {error.detail}") from error


def gauges(found: Overview, t: Wording) -> Gauges:
    """Return what the page lists."""
    return Gauges([_row(station, t) for station in found.rows], found.total - len(found.rows), found.silent)


def _row(station: Mapping[str, Any], t: Wording) -> Gauge:
    state = station["condition"] if station["stage"] == "no-data" else station["stage"]
    level, last, said = station["level_m"], station["last_stage"], t(f"gauge.{state}")
    if station["stage"] == "no-data" and last in _WARNING:
        said = t("stations.last", state=said, last=t(f"gauge.{last}"))
    return Gauge(
        name=station["name"],
        river=station["river"],
        state=state,
        said=said,
        level="" if level is None else f"{level:.2f} m",
        measured=_moment(station["time"], t),
        heard=_moment(station["heard"], t) or t("stations.never"),
        drill=station["status"] != "Actual",
    )


def _moment(text: str | None, t: Wording) -> str:
    return t.moment(datetime.fromisoformat(text)) if text else ""
