"""Recorded readings as a table: our own columns, and those of 危機管理型水位計. Pure: text in, values out."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from lalert.errors import BadRequest
from lalert.model import Reading
from lalert.store import StoredReading

NAMES: Final = {"code": "station", "obs_time": "time"}
"""What 危機管理型水位計 call our columns of readings."""


def readings(text: str) -> list[StoredReading]:
    """Read a table of readings, in the order of their arrival: by the column `received`, else by device time.

    Columns: `station` (or `code`), `time` (or `obs_time`), `level_m`, `rain_mm` with `period_s`, `rain_total_mm`, `received`; others are passed over.
    Raises `BadRequest` that names the line and the column.
    """
    found = [_reading(number, line, row) for number, (line, row) in enumerate(_rows(text), 1)]
    return sorted(found, key=lambda arrived: arrived.received)


def _rows(text: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    table = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    for row in table:
        yield (
            table.line_num,
            {
                NAMES.get(name, name): (cell or "").strip()
                for name, cell in row.items()
                if isinstance(name, str)
            },
        )


def _reading(number: int, line: int, row: Mapping[str, str]) -> StoredReading:
    if not row.get("station"):
        raise BadRequest(f"line {line}: the column station (or code) is missing or empty")
    time = _time(line, row, "time")
    period = _number(line, row, "period_s")
    reading = Reading(
        row["station"],
        time,
        level_m=_number(line, row, "level_m"),
        rain_mm=_number(line, row, "rain_mm"),
        period_s=None if period is None else round(period),
        rain_total_mm=_number(line, row, "rain_total_mm"),
    )
    values = (reading.level_m, reading.rain_mm, reading.rain_total_mm)
    if sum(value is not None for value in values) != 1:
        raise BadRequest(f"line {line}: give one of level_m, rain_mm with period_s, and rain_total_mm")
    return StoredReading(number, "", reading, _time(line, row, "received") if row.get("received") else time)


def _number(line: int, row: Mapping[str, str], name: str) -> float | None:
    if not row.get(name):
        return None
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadRequest(f"line {line}: {name}: {row[name][:40]!r} is no number")
    return value


def _time(line: int, row: Mapping[str, str], name: str) -> datetime:
    try:
        time = datetime.fromisoformat(row.get(name, ""))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise BadRequest(
            f"line {line}: {name}: {row.get(name, '')[:40]!r} is no time with an offset, such as 2026-06-03T10:20:00+09:00"
        )
    return time


def compressed(time: datetime, first: datetime, start: datetime, speed: float) -> datetime:
    """Return when a recorded time comes, of a recording that begins anew at `start` and runs `speed` times as fast."""
    return start + timedelta(seconds=(time - first).total_seconds() / speed)
