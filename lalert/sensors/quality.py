"""Is a reading to be believed? Pure: a doubtful one is kept and shown with the reason, and triggers nothing.

Two readings in a row that agree are the river: a sudden rise is doubted once, so that a real wave waits for one reading and no longer. What cannot be
the river (no number, no such level, another unit, a clock that is wrong) is never believed, however often it is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from lalert.model import Reading
from lalert.sensors.rain import sums
from lalert.sensors.settings import Quality, Window
from lalert.sensors.state import State
from lalert.sensors.station import Stage, Station
from lalert.sensors.trend import Point

DEEPEST_M: Final = -50.0
OVER_TOP_M: Final = 20.0
HIGHEST_M: Final = 2_500.0
LEAST_FOR_UNITS_M: Final = 0.2
"""Below this a hundred times more may be the river: 10 cm that become 10 m are no proof of centimetres."""
UNITS: Final = ((50.0, 200.0), (500.0, 2_000.0))
"""How many times larger a level is that was said in centimetres or millimetres, with what the river may have done meanwhile."""
FELL_FOR: Final = timedelta(hours=1)
"""So long must a sudden fall last before it is believed: a gauge that hangs loose must not lift a warning."""
FORGOTTEN: Final = timedelta(hours=24)
"""After so long without a good reading the last one says nothing any more against a fall or a unit."""
UNSEEN_MIN: Final = 720.0
"""So long after the last good reading a rise of more than can happen in 10 minutes waits for a second reading."""
FRESH: Final = timedelta(hours=1)
"""What a neighbour said longer ago is no evidence."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a reading is not believed, in words for people."""

    ja: str
    en: str


DOUBTS: Final[Mapping[str, Doubt]] = {
    "clock-ahead": Doubt(
        "観測時刻が未来になっています。機器の時計を確かめてください。",
        "The time of the reading lies ahead. Check the device's clock.",
    ),
    "stale": Doubt(
        "観測から長い時間がたって届きました。通信と機器の時計を確かめてください。",
        "The reading came long after it was taken. Check the connection and the device's clock.",
    ),
    "out-of-order": Doubt(
        "より新しい観測値が先に届いています。",
        "A newer reading has come before it.",
    ),
    "not-a-number": Doubt("数値ではありません。", "The value is no number."),
    "out-of-range": Doubt(
        "この地点ではありえない値です。センサーと基準高を確かめてください。",
        "No such value is possible here. Check the sensor and its datum.",
    ),
    "unit": Doubt(
        "これまでの約100倍または1000倍の値です。単位(cm、mm)を確かめてください。",
        "The value is some 100 or 1,000 times the last one. Check the unit (cm, mm).",
    ),
    "at-limit": Doubt(
        "測定範囲の端の値に急に変わりました。断線やセンサーの故障を確かめてください。",
        "The value went to the end of the sensor's range at once. Check the cable and the sensor.",
    ),
    "stuck": Doubt(
        "周辺の水位や雨が変化しているのに、値がまったく変わりません。センサーを確かめてください。",
        "The value never changes although the neighbourhood does, or stays at the end of the sensor's range. Check the sensor.",
    ),
    "spike": Doubt(
        "急すぎる変化です。次の観測値が同じなら採用します。",
        "The change is too sudden. It is believed if the next reading agrees.",
    ),
    "sudden-fall": Doubt(
        "急に下がりました。1時間続けば採用します。センサーの位置と基準高を確かめてください。",
        "The level fell all at once. It is believed once it has lasted an hour. Check the sensor's place and datum.",
    ),
    "alone": Doubt(
        "周辺の地点に変化がないのに上昇しました。次の観測値が同じなら採用します。",
        "The level rose while nothing moves at the neighbours. It is believed if the next reading agrees.",
    ),
    "counter-jump": Doubt(
        "雨量の積算値が大きく飛びました。機器の交換や故障を確かめてください。",
        "The rain counter jumped. Check whether the device was changed or is broken.",
    ),
}
"""Every word that a reading can be marked with."""


def wrong_time(station: Station, reading: Reading, received: datetime) -> str | None:
    """Return a word for a device time that cannot be, or is too long ago to warn of."""
    if reading.time > received + timedelta(minutes=station.quality.clock_ahead_min):
        return "clock-ahead"
    if reading.time < received - timedelta(hours=station.quality.stale_h):
        return "stale"
    return None


def doubt(
    station: Station, reading: Reading, received: datetime, state: State, around: Mapping[str, State]
) -> str | None:
    """Return a word (of `DOUBTS`) for what is wrong with a water level, or None. `around` are the states of other stations."""
    level = reading.level_m
    assert level is not None
    if wrong := wrong_time(station, reading, received):
        return wrong
    if state.last is not None and reading.time <= state.last[0]:
        return "out-of-order"
    if not math.isfinite(level):
        return "not-a-number"
    if state.last is not None and _other_unit(station, reading, state.last):
        return "unit"
    if not _possible(station, level):
        return "out-of-range"
    if _jumped_to_limit(station, reading, state):
        return "at-limit"
    if _stuck(station, reading, state, around):
        return "stuck"
    return _unconfirmed(station, reading, state, around)


def other_scale(level: float, last: float) -> bool:
    """Tell whether a level is so many times the last one as centimetres or millimetres would be."""
    return last >= LEAST_FOR_UNITS_M and any(low <= level / last <= high for low, high in UNITS)


def _other_unit(station: Station, reading: Reading, last: Point) -> bool:
    level, before = reading.level_m, last[1]
    assert level is not None
    if not other_scale(level, before):
        return False
    # Not where the thresholds say that such levels are meant: a zero that was moved must not silence the gauge for good.
    top = max(station.levels.values(), default=None)
    return level > top if top is not None else reading.time - last[0] < FORGOTTEN


def _possible(station: Station, level: float) -> bool:
    quality = station.quality
    top = min(HIGHEST_M, max(station.levels.values(), default=HIGHEST_M) + OVER_TOP_M)
    lowest = DEEPEST_M if quality.lowest_m is None else quality.lowest_m
    return lowest <= level <= (top if quality.highest_m is None else quality.highest_m)


def _at_limit(station: Station, level: float) -> bool:
    return level in (station.quality.lowest_m, station.quality.highest_m)


def _jumped_to_limit(station: Station, reading: Reading, state: State) -> bool:
    level = reading.level_m
    assert level is not None
    if not _at_limit(station, level):
        return False
    if state.doubted is not None and state.doubted[1] == "at-limit" and state.doubted[0][1] == level:
        return True
    return state.last is None or abs(level - state.last[1]) > station.quality.spike_m


def _stuck(station: Station, reading: Reading, state: State, around: Mapping[str, State]) -> bool:
    level = reading.level_m
    assert level is not None
    if state.last is None or state.still is None or level != state.last[1]:
        return False
    if reading.time - state.still < timedelta(hours=station.quality.stuck_after_h):
        return False
    # A calm river says the same for days: only what should move is stuck.
    return _at_limit(station, level) or any(_movements(station, reading.time, around))


def _unconfirmed(station: Station, reading: Reading, state: State, around: Mapping[str, State]) -> str | None:
    word = _sudden(station, reading, state) or _alone(station, reading, state, around)
    if word is None or not agrees_with_doubted(station, reading, state):
        return word
    if word == "sudden-fall" and state.doubtful is not None and reading.time - state.doubtful < FELL_FOR:
        return word
    return None


def agrees_with_doubted(station: Station, reading: Reading, state: State) -> bool:
    """Tell whether a level says what the doubtful one before it said, and is not that one again."""
    if state.doubted is None or reading.level_m is None:
        return False
    (time, level), word = state.doubted
    if word not in ("spike", "sudden-fall", "alone") or reading.time <= time:
        return False
    return abs(level - reading.level_m) <= station.quality.agree_m


def _sudden(station: Station, reading: Reading, state: State) -> str | None:
    if state.last is None:
        return None
    assert reading.level_m is not None
    change = reading.level_m - state.last[1]
    minutes = (reading.time - state.last[0]).total_seconds() / 60
    quality = station.quality
    if abs(change) <= quality.spike_m:
        return None
    doubted = change < 0 and state.doubted is not None and state.doubted[1] == "sudden-fall"
    if doubted and reading.time - state.last[0] < FORGOTTEN:
        # Time that passes in doubt makes no fall slow.
        return "sudden-fall"
    if change > 0 and minutes > UNSEEN_MIN:
        # One wild value of a gauge that reports daily would have had all day to rise.
        return (
            "spike"
            if change > quality.fastest_m_per_min * 10 and not _goes_on(quality, reading, state)
            else None
        )
    if abs(change) <= quality.fastest_m_per_min * minutes:
        return None
    return "spike" if change > 0 else "sudden-fall"


def _goes_on(quality: Quality, reading: Reading, state: State) -> bool:
    """Tell whether the river may have come from the doubtful level before to this one, or stayed there."""
    if state.doubted is None or state.doubted[1] != "spike" or reading.level_m is None:
        return False
    time, level = state.doubted[0]
    minutes = (reading.time - time).total_seconds() / 60
    most = max(quality.agree_m, quality.fastest_m_per_min * minutes)
    return 0 < minutes <= UNSEEN_MIN and -quality.agree_m <= reading.level_m - level <= most


def _alone(station: Station, reading: Reading, state: State, around: Mapping[str, State]) -> str | None:
    """A rise that would warn, and of which nothing is seen at any neighbour."""
    assert reading.level_m is not None
    if state.last is None or reading.level_m - state.last[1] <= station.quality.spike_m:
        return None
    if station.stage_at(reading.level_m) <= max(state.stage, Stage.STANDBY):
        return None
    moved = list(_movements(station, reading.time, around))
    return "alone" if moved and not any(moved) else None


def _movements(station: Station, at: datetime, around: Mapping[str, State]) -> Iterator[bool]:
    """Yield for each neighbour that spoke within the hour whether its water or its rain moved."""
    quality = station.quality
    for name in quality.neighbours:
        state = around.get(name)
        if state is None or not station.believes(state.status):
            continue
        levels = [level for time, level in state.recent if abs(at - time) <= FRESH]
        if len(levels) >= 2:
            yield max(levels) - min(levels) >= quality.moves_m
        if state.rain is not None and abs(at - state.rain.newest) <= FRESH:
            yield sums(state.rain, state.rain.newest)[Window.HOUR] >= quality.moves_mm


def silent_after(station: Station, state: State) -> timedelta:
    """Return how long this gauge may be silent before that is a fault: by its rhythm, which is quicker while the water stands high."""
    quality = station.quality
    start = quality.start_m if quality.start_m is not None else min(station.levels.values(), default=None)
    high = state.last is not None and start is not None and state.last[1] >= start
    if state.stage > Stage.CALM or high:
        return timedelta(minutes=quality.flood_rhythm_min)
    return timedelta(hours=quality.rhythm_h)
