"""The rules besides the stage: a quick rise, a threshold that is near at this rate, rain upstream while the water here is high. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from lalert.sensors.rain import SINKING, sums
from lalert.sensors.state import State
from lalert.sensors.station import STAGES, Stage, Station
from lalert.sensors.trend import Crossing, crossing, risen, slope

RISE: Final = "rise"
FORECAST: Final = "forecast"
UPSTREAM: Final = "upstream"
FRESH: Final = timedelta(hours=1)
"""Rain upstream that was told longer ago holds no rule: it is not known."""
FORECAST_KEPT: Final = 2.0
"""A forecast that was told holds until the threshold is so many times further away than it must be to be told."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What else the last hour says: `per_hour_m` the slope, `crossing` when the next threshold that warns is reached at that rate, and which rules hold.

    `rise` is (metres, minutes) of the rise rule that holds, `upstream` the (station, millimetres) of the rain that does.
    """

    per_hour_m: float | None = None
    crossing: Crossing | None = None
    rules: tuple[str, ...] = ()
    rise: tuple[float, float] | None = None
    upstream: tuple[str, float] | None = None


NOTHING: Final = Outlook()


def outlook(station: Station, state: State, around: Mapping[str, State]) -> Outlook:
    """Return what holds besides the stage after a good reading, which `state` has as its last; what was told holds somewhat longer."""
    if state.last is None:
        return NOTHING
    at, level = state.last
    per_hour = slope(state.recent)
    ahead = [(int(stage), threshold) for stage, threshold in station.levels.items() if stage in STAGES]
    next_crossing = crossing(level, per_hour, int(state.stage), ahead)
    rise = _rise(station, state)
    upstream = _upstream(station, state, level, at, around)
    near = _near(station, state, next_crossing)
    holding = ((RISE, rise is not None), (FORECAST, near), (UPSTREAM, upstream is not None))
    return Outlook(per_hour, next_crossing, tuple(name for name, holds in holding if holds), rise, upstream)


def _told(state: State) -> tuple[str, ...]:
    return (*state.early, *state.early_proposed)


def _rise(station: Station, state: State) -> tuple[float, float] | None:
    part = SINKING if RISE in _told(state) else 1.0
    for rule in station.rule.rises:
        metres = risen(state.recent, timedelta(minutes=rule.minutes))
        if metres is not None and metres >= rule.metres * part:
            return metres, rule.minutes
    return None


def _near(station: Station, state: State, ahead: Crossing | None) -> bool:
    told = FORECAST in _told(state)
    if told and state.last is not None and station.stage_at(state.last[1]) > state.stage:
        return True  # it has come true, and does not count yet
    within = station.rule.forecast_min * (FORECAST_KEPT if told else 1.0)
    return ahead is not None and ahead.minutes <= within


def _upstream(
    station: Station, state: State, level: float, at: datetime, around: Mapping[str, State]
) -> tuple[str, float] | None:
    told = UPSTREAM in _told(state)
    for rule in station.rule.upstream:
        other = around.get(rule.station)
        if other is None or other.rain is None or abs(at - other.rain.newest) > FRESH:
            continue
        if not station.believes(other.status):
            continue
        if level < rule.level_m - (station.rule.hysteresis_m if told else 0.0):
            continue
        mm = sums(other.rain, other.rain.newest)[rule.window]
        if mm >= rule.mm * (SINKING if told else 1.0):
            return rule.station, mm
    return None


def evacuation(names: tuple[str, ...], ahead: Crossing | None) -> Stage:
    """Return the stage that these rules would have an evacuation proposed for: that of the forecast, else the first one for which there is an order."""
    if not names:
        return Stage.CALM
    forecast = Stage(ahead.stage) if FORECAST in names and ahead is not None else Stage.EVACUATION
    return max(forecast, Stage.EVACUATION)
