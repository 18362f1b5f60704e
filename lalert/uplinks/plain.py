"""Readings as JSON and as CSV: what each line or object says, or the code of why it says nothing."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from lalert.errors import BadRequest
from lalert.model import Reading

MAX_READINGS: Final = 1_000
FIELDS: Final = ("station", "time", "level_m", "rain_mm", "period_s", "rain_total_mm", "seq", "manual", "by")
NUMBERS: Final = ("level_m", "rain_mm", "rain_total_mm")
LARGEST: Final = 1e6
BESIDE: Final = timedelta(microseconds=1)
_KNOWN: Final = frozenset(FIELDS)
_WHOLE = re.compile(r"[0-9]{1,16}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,12}(\.[0-9]{0,12})?")


@dataclass(frozen=True, slots=True)
class Item:
    """One reading or, in its place, the error; `index` is how the answer names it."""

    index: int
    reading: Reading | None
    error: BadRequest | None = None


def read_json(raw: bytes, station: str | None = None) -> list[Item]:
    """Read one reading or a list of up to `MAX_READINGS`, indexed from 0; raises `BadRequest` where the whole does not read.

    `station` is where readings belong that name none; one that names another is an error.
    """
    body = decode_json(raw)
    items = body if isinstance(body, list) else [body]
    _check_number(len(items))
    return [_item(index, item, station) for index, item in enumerate(items)]


def read_csv(raw: bytes, station: str | None = None) -> list[Item]:
    """Read a table with a header, in UTF-8 with or without a mark, of up to `MAX_READINGS` rows; an item's index is its line, the header's being 1.

    Empty cells say nothing and empty lines are passed over. Raises `BadRequest` where the whole does not read.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"body: is not UTF-8 text (byte {error.start})", code="bad-csv") from error
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] | None = None
    items: list[Item] = []
    try:
        line = 1
        for cells in rows:
            if any(map(str.strip, cells)):
                if names is None:
                    names = _header(cells, station)
                else:
                    items.append(_row(line, names, cells, station))
            line = rows.line_num + 1
    except csv.Error as error:
        raise BadRequest(f"line {rows.line_num}: {error}", code="bad-csv") from error
    _check_number(len(items))
    return items


def decode_json(raw: bytes) -> Any:  # noqa: ANN401  # as untyped as JSON is
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"body: {error}") from error
    except RecursionError as error:
        raise BadRequest("body: nested too deeply") from error


def instant(value: object) -> datetime:
    """Return a time with its offset; raises `BadRequest`."""
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) and len(value) <= 40 else None
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise BadRequest(
            "time must be RFC 3339 with an offset, such as 2026-06-03T10:20:00+09:00", code="bad-time"
        )
    return when


def _check_number(number: int) -> None:
    if not 1 <= number <= MAX_READINGS:
        raise BadRequest(f"body: holds {number} readings; send 1 to {MAX_READINGS} at a time")


def _item(index: int, item: object, station: str | None) -> Item:
    try:
        return Item(index, _reading(item, station))
    except BadRequest as error:
        return Item(index, None, error)


def _header(cells: Sequence[str], station: str | None) -> list[str]:
    names = [cell.strip() for cell in cells]
    for name in names:
        if name not in FIELDS:
            raise BadRequest(
                f"line 1: {name[:40]!r} is no column; known: {', '.join(FIELDS)}", code="bad-csv"
            )
        if names.count(name) > 1:
            raise BadRequest(f"line 1: {name} stands twice", code="bad-csv")
    needed = ("time",) if station is not None else ("station", "time")
    missing = [name for name in needed if name not in names]
    if missing:
        raise BadRequest(f"line 1: the column {missing[0]} is missing", code="bad-csv")
    return names


def _row(line: int, names: Sequence[str], cells: Sequence[str], station: str | None) -> Item:
    if len(cells) != len(names):
        error = BadRequest(f"line {line}: {len(cells)} cells under {len(names)} columns", code="bad-row")
        return Item(line, None, error)
    item = {
        name: _cell(name, text) for name, cell in zip(names, cells, strict=True) if (text := cell.strip())
    }
    return _item(line, item, station)


def _cell(name: str, text: str) -> object:
    """Return a cell as JSON would have it; what is no number stays text, and is refused as such."""
    if name in NUMBERS and _DECIMAL.fullmatch(text):
        return float(text)
    if name in ("period_s", "seq") and _WHOLE.fullmatch(text):
        return int(text)
    return text == "true" or text if name == "manual" else text


def _reading(item: object, station: str | None) -> Reading:
    if not isinstance(item, Mapping):
        raise BadRequest("a reading is an object", code="not-an-object")
    if not item.keys() <= _KNOWN:
        unknown = min(str(name) for name in item.keys() - _KNOWN)
        raise BadRequest(f"unknown field {unknown[:40]!r}", code="unknown-field")
    named = item.get("station", station)
    if not isinstance(named, str) or not 1 <= len(named) <= 64:
        raise BadRequest("station must be a text of 1 to 64 characters", code="bad-station")
    if station is not None and named != station:
        raise BadRequest("station is another than that of the topic", code="bad-station")
    level, rain, total = (_number(item.get(name), name) for name in NUMBERS)
    if (level is not None) + (rain is not None) + (total is not None) != 1:
        raise BadRequest("give exactly one of level_m, rain_mm, rain_total_mm", code="no-single-value")
    period, seq = item.get("period_s"), item.get("seq")
    if (rain is not None) != (period is not None) or not _is_whole(period, 1, 86_400):
        raise BadRequest("period_s, 1 to 86400, goes with rain_mm and with nothing else", code="bad-period")
    if not _is_whole(seq, 0, 2**53):
        raise BadRequest("seq must be a whole number", code="bad-seq")
    time, by = instant(item.get("time")), _reader(item)
    # What somebody reads off the staff at ten past must stand beside what a stuck device says of ten past.
    if by is not None:
        time += BESIDE
    return Reading(named, time, level, rain, period, total, seq, by)


def _reader(item: Mapping[str, object]) -> str | None:
    """Return who read it by eye, None for a device."""
    by = item.get("by")
    if item.get("manual") is None and by is None:
        return None
    if (
        item.get("manual") is not True
        or not isinstance(by, str)
        or not 1 <= len(by) <= 64
        or not by.isprintable()
    ):
        raise BadRequest(
            "a reading by eye has manual: true, and by, who read it, in 1 to 64 characters", code="bad-manual"
        )
    return by


def _number(value: object, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST < value < LARGEST:
        raise BadRequest(f"{name} must be a number", code="bad-value")
    return float(value)


def _is_whole(value: object, low: int, high: int) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and low <= value <= high)
