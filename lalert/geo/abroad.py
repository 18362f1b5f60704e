"""Codes of places abroad: which schemes are known by their valueName, and roughly where their codes lie."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import numpy as np
import shapely

from lalert.errors import LalertError
from lalert.geo.codes import PREFECTURES

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


@dataclass(frozen=True, slots=True)
class Located:
    """Where a code of some scheme lies: codes of this hub, a shape in (lon, lat) degrees, or neither where the scheme alone is known.

    `rough` is what encloses the place and much else; whatever else an area says of its place is better.
    """

    codes: frozenset[str] = frozenset()
    geometry: BaseGeometry | None = None
    rough: bool = True


class Abroad:
    """The outlines of countries, of states of the USA and of its marine areas, by `FR`, `US-CA` and `US-PZ`; and the numbers of the last two in SAME."""

    def __init__(self, outlines: Mapping[str, str], numbers: Mapping[str, str]) -> None:
        self._outlines = outlines
        self._numbers = numbers
        self._shapes: dict[str, BaseGeometry | None] = {}

    @classmethod
    def from_csv(cls, table: bytes) -> Abroad:
        """Return what a table holds that scripts/build_abroad.py made. Raises LalertError naming the line at fault."""
        rows = csv.reader(io.StringIO(table.decode()))
        outlines: dict[str, str] = {}
        numbers: dict[str, str] = {}
        try:
            picked = itemgetter(*map(next(rows, []).index, ("place", "number", "outline")))
            for row in rows:
                place, number, outline = picked(row)
                outlines[place] = outline
                if number:
                    numbers[number] = place
        except (LookupError, ValueError, csv.Error) as error:
            raise LalertError(f"the table of places abroad, line {rows.line_num}: {error}") from None
        return cls(outlines, numbers)

    def locate(self, name: str, value: str) -> Located | None:
        """Return where a geocode lies; None where no scheme has that name, or the value is none of its codes.

        A code that the scheme may have, but this table does not, is somewhere: Located without codes and geometry.
        """
        scheme = _scheme(name)
        if scheme is None:
            return None
        found = [
            scheme(word.upper(), self._numbers) for word in re.split(r"[\s,]+", value.strip()[:_MAX_VALUE])
        ]
        if not all(found):
            return None
        places = frozenset[str]().union(*(places for places in found if places))
        return self._located(places)

    def _located(self, places: frozenset[str]) -> Located:
        codes = frozenset(code for place in places for code in _in_japan(place))
        shapes = [shape for place in sorted(places) if (shape := self._shape(place)) is not None]
        if len(shapes) <= 1:
            return Located(codes, *shapes)
        return Located(codes, shapely.union_all(shapes))

    def _shape(self, place: str) -> BaseGeometry | None:
        """Return the outline of a place, or of its country where a part of that is not in the table, or None."""
        known = place if place in self._outlines else place[:2]
        if known not in self._shapes:
            self._shapes[known] = _outline(self._outlines[known]) if known in self._outlines else None
        return self._shapes[known]

    @property
    def places(self) -> frozenset[str]:
        """Return what has an outline here."""
        return frozenset(self._outlines)


_MAX_VALUE = 10_000
_UNIT = 100  # outlines are written in hundredths of a degree

Scheme = Callable[[str, Mapping[str, str]], frozenset[str]]
"""From a code in capitals, and the numbers of the states, to places; none for what is no code of the scheme."""

_COUNTRY = re.compile(r"([A-Z]{2})(-[A-Z0-9]{1,3})?")
_MARINE: Final = frozenset(
    ["AM", "AN", "GM", "LC", "LE", "LH", "LM", "LO", "LS", "PH", "PK", "PM", "PS", "PZ", "SL"]
)
_OTHER_LETTERS: Final = {"UK": "GB", "EL": "GR"}  # of the European Union


def _country(code: str, _: Mapping[str, str]) -> frozenset[str]:
    return frozenset({code}) if _COUNTRY.fullmatch(code) else frozenset()


def _european(code: str, _: Mapping[str, str]) -> frozenset[str]:
    """EMMA_ID and NUTS begin with the letters of the country."""
    if not re.fullmatch(r"[A-Z]{2}[A-Z0-9]{0,5}", code):
        return frozenset()
    return frozenset({_OTHER_LETTERS.get(code[:2], code[:2])})


def _same(code: str, numbers: Mapping[str, str]) -> frozenset[str]:
    """SAME and FIPS6 are PSSCCC: a part of a county, a state, the county (47 CFR 11.31); 000000 is the whole USA. FIPS has no P."""
    if not re.fullmatch(r"[0-9]{5,6}", code):
        return frozenset()
    state = code[-5:-3]
    if state == "00":
        return frozenset(place for place in numbers.values() if place[3:] not in _MARINE)
    return frozenset({numbers.get(state, "US-?")})


def _ugc(code: str, _: Mapping[str, str]) -> frozenset[str]:
    """UGC is SSCNNN of a county or SSZNNN of a zone; marine areas have letters of their own in place of the state's (NWSI 10-1702)."""
    return frozenset({f"US-{code[:2]}"}) if re.fullmatch(r"[A-Z]{2}[CZ]([0-9]{3}|ALL)", code) else frozenset()


def _of(country: str) -> Scheme:
    return lambda code, _: frozenset({country}) if code else frozenset()


_SCHEMES: Final[Mapping[str, Scheme]] = {
    "same": _same,
    "fips": _same,
    "fips6": _same,
    "ugc": _ugc,
    "emmaid": _european,
    "warncellid": _of("DE"),
    "amocareacode": _of("AU"),
    "clc": _of("CA"),
}
"""By valueName in small letters, without punctuation."""

_SCHEME_PARTS: Final[tuple[tuple[str, Scheme], ...]] = (
    ("iso3166", _country),
    ("isocountrycodes", _country),
    ("nuts", _european),
    ("capcplocation", _of("CA")),
    ("taiwangeocode", _of("TW")),
)
"""By what a valueName contains: many senders write a profile and a version around it."""


@lru_cache(maxsize=1024)
def _scheme(name: str) -> Scheme | None:
    # `layer:EC-MSC-SMC:1.0:CLC` is the CLC of a layer.
    last = _plain(name.rpartition(":")[2])
    plain = _plain(name)
    for part, scheme in _SCHEME_PARTS:
        if part in plain:
            return scheme
    return _SCHEMES.get(last)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name[:200].casefold())


def _in_japan(place: str) -> Iterable[str]:
    """Yield the prefectures of `JP` and of `JP-43`, which ISO 3166-2 numbers as JIS X 0401 does."""
    prefectures = [f"{number:02d}" for number in range(1, PREFECTURES + 1)]
    if place == "JP":
        yield from prefectures
    elif place.startswith("JP-") and place[3:] in prefectures:
        yield place[3:]


def _outline(text: str) -> BaseGeometry:
    """Return an outline from its text: rings apart by `;`, in each the first point and then steps. Rounding may have made a ring touch itself."""
    rings = [
        shapely.Polygon(np.cumsum(np.array(ring.split(), dtype=np.int64).reshape(-1, 2), axis=0) / _UNIT)
        for ring in text.split(";")
    ]
    return shapely.union_all(shapely.make_valid(np.array(rings, dtype=object)))
