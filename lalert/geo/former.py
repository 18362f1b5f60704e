"""Codes that ended: when, why, and which places of today took over."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from operator import itemgetter

from lalert.errors import LalertError


class Change(StrEnum):
    """Why a code ended.

    merged: with others into a new municipality, or into one that went on. renumbered: the same place has another number, as it
    became a city or went to another district. designated: the city became one with wards. wards: wards were joined. split: the
    place was divided among several.
    """

    MERGED = "merged"
    RENUMBERED = "renumbered"
    DESIGNATED = "designated"
    WARDS = "wards"
    SPLIT = "split"


@dataclass(frozen=True, slots=True)
class Former:
    """A code that ended on a day (in Japan), and the codes of today that stand for it, those in between passed over.

    `code` and `successors` have 6 digits. (lon, lat) is where its office was, in degrees. No code was ever given to another place.
    """

    code: str
    name: str
    change: Change
    ended: date
    successors: tuple[str, ...]
    lon: float
    lat: float


def read_former(table: bytes) -> dict[str, Former]:
    """Return the former codes of a table that scripts/build_former_codes.py made. Raises LalertError naming the line at fault."""
    rows = csv.reader(io.StringIO(table.decode()))
    columns = next(rows, [])
    former: dict[str, Former] = {}
    try:
        picked = itemgetter(*(columns.index(name) for name in _COLUMNS))
        for row in rows:
            one = _former(*picked(row))
            former[one.code] = one
    except (LookupError, ValueError, csv.Error) as error:
        raise LalertError(f"the table of former codes, line {rows.line_num}: {error}") from None
    return former


_COLUMNS = ("code6", "name", "kind", "date", "successors", "lon", "lat")
_CHANGES = {str(change): change for change in Change}


def _former(code: str, name: str, kind: str, ended: str, successors: str, lon: str, lat: str) -> Former:
    return Former(
        code=code,
        name=name,
        change=_CHANGES[kind],
        ended=date.fromisoformat(ended),
        successors=tuple(successors.split()),
        lon=float(lon),
        lat=float(lat),
    )
