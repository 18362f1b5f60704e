"""What can be set for each station: what is believed of it, and what its rules do. The defaults are safe for a gauge of which nothing else is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum, StrEnum
from typing import Final


class Mode(StrEnum):
    """What a rule does when it holds: `warn` goes out by itself as an observation, `propose` is laid before an officer."""

    WARN = "warn"
    PROPOSE = "propose"


class Window(StrEnum):
    """Over what rain is summed. `total` is since it began to rain, which 6 dry hours end."""

    TEN_MINUTES = "10min"
    HOUR = "1h"
    DAY = "24h"
    TOTAL = "total"


class Grade(IntEnum):
    """How grave rain is by its thresholds."""

    NONE = 0
    HEAVY = 1
    SEVERE = 2


@dataclass(frozen=True, slots=True)
class Quality:
    """What is believed of a station's readings.

    `lowest_m` and `highest_m` are the ends of what the sensor can say, in metres above the station's zero: beyond them it is broken, and exactly at one of them it is
    believed only if the water came there step by step. Without them a level is believed from 50 m below zero to 20 m over the highest threshold.
    `neighbours` are ids of stations (gauges or rain) that feel the same weather: against them a sudden rise and a value that never changes are held.
    """

    lowest_m: float | None = None
    highest_m: float | None = None
    fastest_m_per_min: float = 0.2
    """The Toga River in Kobe rose 1.34 m in 10 minutes on 28 July 2008; what is quicker than 2 m in 10 minutes waits for a second reading."""
    spike_m: float = 1.0
    """A change below this is never called a spike, however close together two readings are."""
    agree_m: float = 0.5
    """Two readings in a row that differ by no more are agreed."""
    stuck_after_h: float = 3.0
    """How long a value may be exactly the same while neighbours move, or at the end of what the sensor can say."""
    moves_m: float = 0.2
    """A neighbour moves whose level differs by so much within the last hour."""
    moves_mm: float = 10.0
    """So much rain in an hour at a neighbour must be seen in the river."""
    neighbours: tuple[str, ...] = ()
    clock_ahead_min: float = 10.0
    stale_h: float = 6.0
    rhythm_h: float = 26.0
    """After how long a gauge is silent that reports daily while its river is calm."""
    flood_rhythm_min: float = 35.0
    """The same from `start_m` on, where it reports every 10 minutes: three are missing."""
    start_m: float | None = None
    """観測開始水位: from this level on the gauge reports every 10 minutes; without it, from the lowest threshold on."""
    most_mm_per_10min: float = 60.0
    """More rain than was ever measured in Japan in 10 minutes (50.0 mm, JMA's records, 2026) is a broken gauge."""


@dataclass(frozen=True, slots=True)
class Rise:
    """Holds once the water has risen by `metres` within `minutes`."""

    metres: float
    minutes: float = 60.0


@dataclass(frozen=True, slots=True)
class RainLevel:
    """Holds once so much rain has fallen over a window, until it is a fifth less."""

    window: Window
    mm: float
    grade: Grade = Grade.HEAVY


@dataclass(frozen=True, slots=True)
class Upstream:
    """Holds once so much rain has fallen at another station while the water here stands at `level_m` or above."""

    station: str
    window: Window
    mm: float
    level_m: float


@dataclass(frozen=True, slots=True)
class Rules:
    """What a station does by itself.

    A threshold counts once `hold` of the newest `of` readings (0: as many as `hold`), the newest among them, stand at it or above, and no longer once the newest `hold` all
    stand below it by the hysteresis. `propose_from` is the stage (3 避難判断, 4 氾濫危険, 5 氾濫発生) from which on an evacuation is proposed too, 0 never.
    Rules that are left out never hold.
    """

    hold: int = 1
    of: int = 0
    hysteresis_m: float = 0.2
    quiet_min: float = 10.0
    """Between two messages of an incident lies at least this, unless the stage rises."""
    propose_from: int = 0
    rises: tuple[Rise, ...] = ()
    forecast_min: float = 0.0
    """Warns when the next threshold that warns is so near at the present rate; 0: a forecast is only told with what is observed."""
    rain: tuple[RainLevel, ...] = ()
    upstream: tuple[Upstream, ...] = ()
    early: Mode = Mode.WARN
    """What rises, forecasts and rain upstream do, of which no stage is the cause."""
    rainfall: Mode = Mode.WARN


RULES: Final = Rules()
QUALITY: Final = Quality()

MOST_READINGS: Final = 100
MOST_HYSTERESIS_M: Final = 10.0
LONGEST: Final[Mapping[str, float]] = {
    "stuck_after_h": 8_784.0,
    "clock_ahead_min": 1_440.0,
    "stale_h": 8_784.0,
    "rhythm_h": 8_784.0,
    "flood_rhythm_min": 10_080.0,
    "quiet_min": 10_080.0,
    "forecast_min": 10_080.0,
}
"""Beyond these nothing is meant: a clock that runs a day ahead is wrong, and a year is a calendar's end in the sums of some."""
MOST_RULES: Final = 50
"""So many rises, sums of rain, rules of rain upstream and neighbours may be named: each is asked with each reading."""
SIGNED: Final = ("lowest_m", "highest_m", "start_m", "level_m")
DRY_HOURS: Final = 6.0
"""So long without rain ends what is summed as one event."""


def mistakes(rules: Rules, quality: Quality) -> list[str]:
    """Return one sentence for each setting that cannot be meant, beginning with its name."""
    found = [
        f"{where}.{name}: {value} must be a number, not negative"
        for where, name, value in _numbers(rules, quality)
        if not (math.isfinite(value) and (value >= 0 or name in SIGNED))
    ]
    found += [
        f"{where}.{name}: {value:g} must be at most {LONGEST[name]:g}"
        for where, name, value in _numbers(rules, quality)
        if LONGEST.get(name, math.inf) < value < math.inf
    ]
    for name, series in (
        ("rule.rises", rules.rises),
        ("rule.rain", rules.rain),
        ("rule.upstream", rules.upstream),
        ("quality.neighbours", quality.neighbours),
    ):
        if len(series) > MOST_RULES:
            found.append(f"{name}: name at most {MOST_RULES}")
    if not 1 <= rules.hold <= MOST_READINGS:
        found.append(f"rule.hold: {rules.hold} must be 1 to {MOST_READINGS} readings")
    if rules.of and not rules.hold <= rules.of <= MOST_READINGS:
        found.append(f"rule.of: {rules.of} must be 0, or rule.hold to {MOST_READINGS} readings")
    if not 0 <= rules.hysteresis_m <= MOST_HYSTERESIS_M:
        found.append(f"rule.hysteresis_m: {rules.hysteresis_m} must be 0 to {MOST_HYSTERESIS_M:g} metres")
    if rules.propose_from not in (0, 3, 4, 5):
        found.append(f"rule.propose_from: {rules.propose_from} must be 3, 4 or 5, or 0 for never")
    found += [
        f"rule.rises[{number}]: metres must be above 0, minutes above 0 and at most 60"
        for number, rise in enumerate(rules.rises, 1)
        if not (rise.metres > 0 and 0 < rise.minutes <= 60)
    ]
    found += [
        f"{where}.mm: must be above 0"
        for where, name, value in _numbers(rules, quality)
        if name == "mm" and value == 0
    ]
    lowest, highest = quality.lowest_m, quality.highest_m
    if lowest is not None and highest is not None and lowest >= highest:
        found.append("quality.highest_m: must be above quality.lowest_m")
    return found


def _numbers(rules: Rules, quality: Quality) -> Iterator[tuple[str, str, float]]:
    groups: list[tuple[str, object]] = [("rule", rules), ("quality", quality)]
    groups += [(f"rule.rises[{i}]", rise) for i, rise in enumerate(rules.rises, 1)]
    groups += [(f"rule.rain[{i}]", level) for i, level in enumerate(rules.rain, 1)]
    groups += [(f"rule.upstream[{i}]", level) for i, level in enumerate(rules.upstream, 1)]
    for where, group in groups:
        for field in fields(group):  # type: ignore[arg-type]  # each is one of this module's dataclasses
            value = getattr(group, field.name)
            if isinstance(value, float) and field.name != "hysteresis_m":  # has bounds of its own
                yield where, field.name, value
