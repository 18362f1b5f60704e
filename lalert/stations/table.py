"""A table of stations (CSV) -> what is asked of each, every cell that does not read named by its line. Pure."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lalert.errors import BadRequest

MAX_ROWS: Final = 20_000

TEXTS: Final = (
    "id",
    "name",
    "river",
    "name_en",
    "river_en",
    "area",
    "area_en",
    "sender",
    "sender_name",
    "sender_name_en",
    "contact",
    "status",
    "source",
)
NUMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "lon": ("lon",),
    "lat": ("lat",),
    "standby_m": ("thresholds", "standby_m"),
    "caution_m": ("thresholds", "caution_m"),
    "evacuation_m": ("thresholds", "evacuation_m"),
    "danger_m": ("thresholds", "danger_m"),
    "flooding_m": ("thresholds", "flooding_m"),
    "hysteresis_m": ("rule", "hysteresis_m"),
    "start_m": ("quality", "start_m"),
}
LISTS: Final = ("codes", "shared")
COLUMNS: Final = (*TEXTS, *NUMBERS, *LISTS, "hold")

FOREIGN: Final[Mapping[str, str]] = {
    "code": "id",
    "town_code5": "codes",
    "start_level": "start_m",
    "warn_level": "danger_m",
    "flood_level": "flooding_m",
}
"""Columns of the lists of 危機管理型水位計, by what they are here: 観測開始水位, 危険水位 and 氾濫開始水位 among them."""
PASSED_OVER: Final = frozenset({"kana", "addr_kana", "pref", "city", "town"})

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{0,12})?")
_WHOLE: Final = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class Row:
    """What a line of the table asks for, as it would be asked for in JSON, and what of it does not read."""

    line: int
    asked: Mapping[str, Any]
    mistakes: tuple[str, ...] = ()


def read_table(raw: bytes) -> list[Row]:
    """Read a table in UTF-8, with or without a mark, whose first line names its columns; raises `BadRequest` where the whole does not read."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"is not UTF-8 text (byte {error.start}); save it as CSV UTF-8") from error
    cells = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    try:
        names = _header(next(cells, []))
        rows += [_row(cells.line_num, names, row) for row in cells if any(map(str.strip, row))]
    except csv.Error as error:
        raise BadRequest(f"line {cells.line_num}: {error}") from error
    if not 1 <= len(rows) <= MAX_ROWS:
        raise BadRequest(f"holds {len(rows)} stations; give 1 to {MAX_ROWS} at a time")
    return _twice(rows)


def _header(cells: Sequence[str]) -> list[str]:
    names = [FOREIGN.get(cell.strip().lower(), cell.strip().lower()) for cell in cells]
    for name, cell in zip(names, cells, strict=True):
        if name not in COLUMNS and name not in PASSED_OVER:
            raise BadRequest(f"line 1: {cell[:40]!r} is no column; known: {', '.join(COLUMNS)}")
        if names.count(name) > 1:
            raise BadRequest(f"line 1: {name} stands twice")
    if missing := [name for name in ("id", "name", "lon", "lat") if name not in names]:
        raise BadRequest(f"line 1: the column {missing[0]} is missing")
    return names


def _row(line: int, names: Sequence[str], cells: Sequence[str]) -> Row:
    if len(cells) != len(names):
        return Row(line, {}, (f"{len(cells)} cells under {len(names)} columns",))
    asked: dict[str, Any] = {}
    mistakes: list[str] = []
    for name, cell in zip(names, cells, strict=True):
        text = cell.strip()
        if not text or name in PASSED_OVER:
            continue
        if name in TEXTS:
            asked[name] = text
        elif name in LISTS:
            asked[name] = text.split()
        elif (value := _number(name, text)) is None:
            mistakes.append(f"{name}: {text[:40]!r} is no number")
        else:
            *groups, last = ("rule", "hold") if name == "hold" else NUMBERS[name]
            table = asked
            for group in groups:
                table = table.setdefault(group, {})
            table[last] = value
    return Row(line, asked, tuple(mistakes))


def _number(name: str, text: str) -> float | None:
    if name == "hold":
        return int(text) if _WHOLE.fullmatch(text) else None
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    return None if math.isnan(value) else value


def _twice(rows: Iterable[Row]) -> list[Row]:
    seen: dict[str, int] = {}
    found: list[Row] = []
    for row in rows:
        first = seen.setdefault(str(row.asked.get("id")), row.line)
        again = () if first == row.line or "id" not in row.asked else (f"id: stands in line {first} too",)
        found.append(Row(row.line, row.asked, row.mistakes + again))
    return found
