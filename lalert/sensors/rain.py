"""How much rain has fallen: over 10 minutes, an hour, a day, and since it began. Pure.

Reports come as sums over periods, which may overlap, or as a counter, which may start again or wrap. Nothing is counted twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from lalert.model import Reading
from lalert.sensors.settings import DRY_HOURS, Quality, RainLevel, Window

TEN_MINUTES: Final = timedelta(minutes=10)
DAY: Final = timedelta(hours=24)
DRY: Final = timedelta(hours=DRY_HOURS)
WINDOWS: Final = {Window.TEN_MINUTES: TEN_MINUTES, Window.HOUR: timedelta(hours=1), Window.DAY: DAY}
WRAPS: Final = (100.0, 256.0, 655.36, 1_000.0, 6_553.6, 10_000.0, 65_536.0)
"""Where counters of tipping buckets are known to begin again at 0: 2 to 5 digits, 8 and 16 bits of 1, 0.1 and 0.01 mm."""
STEPPED_BACK: Final = 0.8
"""A counter that stands above this part of what it said before was set right, or is another device's: from 0 it has not come so far."""
RESTARTED: Final = 1 / 3
"""Of the most that can fall, so much is believed of a counter that began again: what it says more may be what it brought along."""
MOST_FALLS: Final = 200
"""More than a gauge has that reports every 10 minutes, and as many as one may have that reports every second."""
SINKING: Final = 0.8
"""A rain threshold no longer holds below this part of it."""


@dataclass(frozen=True, slots=True)
class Fall:
    """Millimetres that fell between two times."""

    start: datetime
    end: datetime
    mm: float


@dataclass(frozen=True, slots=True)
class Rain:
    """What is known of a station's rain: wet periods of a day, rising and apart; the counter when it was last read; the event that goes on."""

    newest: datetime
    falls: tuple[Fall, ...] = ()
    counter: tuple[datetime, float] | None = None
    began: datetime | None = None
    wet: datetime | None = None
    total_mm: float = 0.0


def add(rain: Rain | None, reading: Reading, quality: Quality) -> tuple[Rain, str | None]:
    """Return what is known after a rain reading, and a word for what is wrong with it, if something is: it then adds nothing."""
    known = rain or Rain(reading.time)
    value = reading.rain_mm if reading.rain_mm is not None else reading.rain_total_mm
    assert value is not None
    if not math.isfinite(value):
        return known, "not-a-number"
    if value < 0:
        return known, "out-of-range"
    if reading.rain_mm is not None:
        return _period(known, reading.time, reading.period_s or 0, value, quality)
    return _counted(known, reading.time, value, quality)


def _period(rain: Rain, end: datetime, seconds: int, mm: float, quality: Quality) -> tuple[Rain, str | None]:
    if not 0 < seconds <= DAY.total_seconds():
        return rain, "out-of-range"
    fall = Fall(end - timedelta(seconds=seconds), end, mm)
    if _too_much(fall, quality):
        return rain, "out-of-range"
    return _with(rain, fall), None


def _counted(rain: Rain, time: datetime, total: float, quality: Quality) -> tuple[Rain, str | None]:
    if rain.counter is None:
        return replace(rain, counter=(time, total), newest=max(rain.newest, time)), None
    before, last = rain.counter
    if time <= before:
        return rain, "out-of-order"
    moved = replace(rain, counter=(time, total))
    part = 1.0
    if total >= last:
        mm = total - last
    elif (wrapped := _past_its_end(last, total)) is not None:
        mm = wrapped
    else:
        mm, part = total, RESTARTED
        if total > STEPPED_BACK * last:
            return moved, "counter-jump"
    fall = Fall(before, time, mm)
    if _too_much(fall, quality, part):
        # A device that was changed, or a digit that was lost: from here on it is counted again.
        return moved, "counter-jump"
    return _with(moved, fall), None


def _past_its_end(last: float, total: float) -> float | None:
    """Return what fell while a counter went from `last` past its end to the smaller `total`, None if it stood before no end."""
    for wrap in WRAPS:
        if 0 < wrap - last <= 0.1 * wrap and total <= 0.1 * wrap:
            return wrap - last + total
    return None


def _too_much(fall: Fall, quality: Quality, part: float = 1.0) -> bool:
    periods = max(1.0, (fall.end - fall.start) / TEN_MINUTES)
    # What falls in ten minutes does not go on for hours: the most that is possible rises with the root of the time.
    return fall.mm > quality.most_mm_per_10min * part * math.sqrt(periods)


def _with(rain: Rain, fall: Fall) -> Rain:
    newest = max(rain.newest, fall.end)
    new = _not_known_yet(rain.falls, fall)
    falls = _compact([*rain.falls, *new], newest)
    after = replace(rain, newest=newest, falls=falls)
    for piece in new:
        after = _in_event(after, piece)
    return after


def _not_known_yet(falls: Sequence[Fall], fall: Fall) -> list[Fall]:
    """Return the parts of a fall that no other covers, with what it says beyond what they say."""
    overlapping = [known for known in falls if known.start < fall.end and fall.start < known.end]
    gaps, at = [], fall.start
    for known in overlapping:
        if known.start > at:
            gaps.append((at, known.start))
        at = max(at, known.end)
    if at < fall.end:
        gaps.append((at, fall.end))
    mm = fall.mm - sum(_share(known, fall.start, fall.end) for known in overlapping)
    length = sum(((end - start) for start, end in gaps), timedelta())
    if mm <= 1e-6 or not length:
        return []
    return [Fall(start, end, mm * ((end - start) / length)) for start, end in gaps]


def _in_event(rain: Rain, piece: Fall) -> Rain:
    if rain.began is None or rain.wet is None or piece.start - rain.wet >= DRY:
        return replace(rain, began=piece.start, wet=piece.end, total_mm=piece.mm)
    if rain.began - piece.end >= DRY:
        return rain
    return replace(
        rain,
        began=min(rain.began, piece.start),
        wet=max(rain.wet, piece.end),
        total_mm=rain.total_mm + piece.mm,
    )


def _compact(falls: Iterable[Fall], newest: datetime) -> tuple[Fall, ...]:
    """Return the falls of the last day, those that touch joined the more the older they are, and at most `MOST_FALLS`."""
    kept = sorted((fall for fall in falls if newest - fall.end < DAY), key=lambda fall: fall.start)
    joined = _joined(kept, newest, apart=False)
    # Of a gauge that reports moments, none touches the next: what lay between two of them is then taken for measured.
    return joined if len(joined) <= MOST_FALLS else _joined(joined, newest, apart=True)


def _joined(falls: Iterable[Fall], newest: datetime, *, apart: bool) -> tuple[Fall, ...]:
    kept: list[Fall] = []
    for fall in falls:
        last = kept[-1] if kept else None
        width = _width(newest - fall.end)
        if last is not None and (apart or last.end == fall.start) and fall.end - last.start <= width:
            kept[-1] = Fall(last.start, fall.end, last.mm + fall.mm)
        else:
            kept.append(fall)
    return tuple(kept)


def _width(age: timedelta) -> timedelta:
    if age < timedelta(minutes=20):
        return timedelta(minutes=1)
    return TEN_MINUTES if age < timedelta(minutes=90) else timedelta(hours=1)


def _share(fall: Fall, start: datetime, end: datetime) -> float:
    overlap = min(fall.end, end) - max(fall.start, start)
    return fall.mm * max(0.0, overlap / (fall.end - fall.start))


def sums(rain: Rain, at: datetime) -> dict[Window, float]:
    """Return the millimetres over each window that ends at a time."""
    told = {
        window: sum(_share(fall, at - length, at) for fall in rain.falls)
        for window, length in WINDOWS.items()
    }
    goes_on = rain.wet is not None and at - rain.wet < DRY
    return {**told, Window.TOTAL: rain.total_mm if goes_on else 0.0}


def reached(
    levels: Sequence[RainLevel], fallen: dict[Window, float], lowered: bool = False
) -> RainLevel | None:
    """Return the gravest threshold that the sums reach, lowered to where it stops holding if asked."""
    part = SINKING if lowered else 1.0
    holding = [level for level in levels if fallen[level.window] >= level.mm * part]
    return max(holding, key=lambda level: (level.grade, fallen[level.window] / level.mm), default=None)
