"""An operator's own table of geocodes: where the codes of a scheme lie that the hub does not know, or knows only roughly."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Final

import shapely

from lalert.errors import InvalidCode, InvalidGeometry
from lalert.geo.abroad import Located
from lalert.geo.codes import normalise_code
from lalert.geo.shapes import circle_geometry, polygon_geometry

COLUMNS: Final = ("scheme", "value", "codes", "polygon", "circle")
MAX_ROWS: Final = 100_000
MAX_MISTAKES: Final = 20


class Geocodes:
    """Where geocodes lie, by valueName and value; a value that ends in `*` stands for all that begin so, the longest first."""

    def __init__(self, places: Mapping[tuple[str, str], Located]) -> None:
        self._places = places
        self._schemes = {scheme for scheme, _ in places}

    def locate(self, name: str, value: str) -> Located | None:
        """Return where a geocode lies, exactly as the operator says, or None of what is not in the table."""
        if name not in self._schemes:
            return None
        value = value.strip()
        found = self._places.get((name, value))
        ends = range(min(len(value), 100), -1, -1)
        return found or next(
            (one for end in ends if (one := self._places.get((name, f"{value[:end]}*")))), None
        )


def read_geocodes(table: str) -> tuple[Geocodes, list[str]]:
    """Return what a table holds and its mistakes, a sentence for each with its line, the first 20 of them.

    The table is CSV with the columns `scheme` (the valueName), `value`, `codes` (municipality codes with spaces between),
    `polygon` (as in CAP: `lat,lon lat,lon ...`; several with `;` between) and `circle` (`lat,lon km`; several likewise). The last three may be
    left out or empty, but not all of a row.
    """
    mistakes: list[str] = []
    places: dict[tuple[str, str], Located] = {}
    for line, row in _rows(table, mistakes):
        key = (row.get("scheme", "").strip(), row.get("value", "").strip())
        if not all(key):
            mistakes.append(f"line {line}: scheme and value must both be given")
        elif key in places:
            mistakes.append(f"line {line}: {key[0]} {key[1]} stands twice")
        else:
            places[key] = _located(row, line, mistakes)
        if len(mistakes) >= MAX_MISTAKES:
            break
    return Geocodes(places), mistakes


def _rows(table: str, mistakes: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(io.StringIO(table.removeprefix("\ufeff")))
    try:
        columns = [name.strip() for name in next(reader, [])]
        unknown = [name for name in columns if name not in COLUMNS]
        if unknown or not {"scheme", "value"} <= set(columns):
            mistakes.append(f"line 1: the columns are {', '.join(COLUMNS)}, not {', '.join(columns)[:100]!r}")
            return
        for number, row in enumerate(reader, 1):
            if number > MAX_ROWS:
                mistakes.append(f"line {reader.line_num}: more than {MAX_ROWS} rows")
                return
            if len(row) > len(columns):
                mistakes.append(
                    f"line {reader.line_num}: more cells than columns; quote what has commas in it"
                )
            elif row:
                yield reader.line_num, dict(zip(columns, row, strict=False))
    except csv.Error as error:
        mistakes.append(f"line {reader.line_num}: {error}")


def _located(row: Mapping[str, str], line: int, mistakes: list[str]) -> Located:
    before = len(mistakes)
    codes = set()
    for word in row.get("codes", "").split():
        try:
            codes.add(normalise_code(word))
        except InvalidCode as error:
            mistakes.append(f"line {line}: codes: {error.detail}")
    shapes = []
    for column, read in (("polygon", _polygon), ("circle", _circle)):
        for text in filter(str.strip, row.get(column, "").split(";")):
            try:
                shapes.append(read(text))
            except InvalidGeometry as error:
                mistakes.append(f"line {line}: {column}: {error.detail}")
            except ValueError:
                mistakes.append(
                    f"line {line}: {column}: {text.strip()[:60]!r} does not read; latitude comes first"
                )
    if not codes and not shapes and len(mistakes) == before:
        mistakes.append(f"line {line}: says nothing of the place: give codes, polygon or circle")
    return Located(frozenset(codes), shapely.union_all(shapes) if shapes else None, rough=False)


def _polygon(text: str) -> shapely.Geometry:
    pairs = [tuple(map(float, pair.split(","))) for pair in text.split()]
    ring = tuple((lon, lat) for lat, lon in pairs)
    return polygon_geometry(ring if ring[0] == ring[-1] else (*ring, ring[0]))


def _circle(text: str) -> shapely.Geometry:
    centre, radius_km = text.split()
    lat, lon = map(float, centre.split(","))
    return circle_geometry(lon, lat, float(radius_km) * 1_000)
