"""The table of prefectures, municipalities and wards: names, codes, what lies in what, and where it is."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self

import shapely

from lalert.errors import LalertError
from lalert.geo.abroad import Abroad, Located
from lalert.geo.boundaries import read_boundaries
from lalert.geo.former import Former, read_former
from lalert.geo.leaves import Leaves
from lalert.geo.regions import Regions
from lalert.geo.shapes import Floats
from lalert.geo.territories import Territories

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

MAX_SEARCH_TEXT: Final = 100

_TABLE_ATTRIBUTION = (
    "市区町村の一覧と範囲: japancode (MIT), jp-prefecture (MIT), Geolonia 住所データ (CC BY 4.0), "
    "歴史的行政区域データセットβ版 (CODH, CC BY 4.0) を加工して作成"
)
_N03_ATTRIBUTION = "市区町村の境界: 「国土数値情報（行政区域データ）」（国土交通省）を加工して作成"


class PlaceKind(StrEnum):
    """What a place is. The 23 special wards of Tokyo are municipalities; what is former has no code any more today."""

    PREFECTURE = "prefecture"
    CITY_WITH_WARDS = "city-with-wards"
    MUNICIPALITY = "municipality"
    WARD = "ward"
    FORMER_WARD = "former-ward"
    FORMER = "former"


@dataclass(frozen=True, slots=True)
class Place:
    """One row of the gazetteer.

    `code` has 2 digits for a prefecture and 6 otherwise, and so has `parent`, which is what the place lies in (None for a
    prefecture). `prefecture` is the 2-digit code. `kana` is hiragana. (lon, lat) is the office, or of a prefecture the office
    of its seat, in degrees. `successors` are the places of today that took over a former one; of that no reading is known
    (`kana` is empty), and `name_en` is the name. `ended` is the first day, in Japan, without its code.
    """

    code: str
    name: str
    kana: str
    name_en: str
    prefecture: str
    kind: PlaceKind
    lon: float
    lat: float
    parent: str | None
    successors: tuple[str, ...] = ()
    ended: date | None = None


class Locator(Protocol):
    """What knows where the geocodes of some schemes lie."""

    def locate(self, name: str, value: str) -> Located | None:
        """Return where the geocode of a valueName and a value lies, or None of what it does not know."""
        ...


class Gazetteer:
    """Places by code, by name and by position. A value: installing boundaries makes another one.

    Codes are taken and given as `normalise_code` spells them: 2 digits for a prefecture, else 6.
    """

    def __init__(
        self,
        places: Iterable[Place],
        boundaries: Mapping[str, str],
        outlines: Mapping[str, str],
        official: Mapping[str, BaseGeometry] | None = None,
        former: Mapping[str, Former] | None = None,
        locators: Sequence[Locator] = (),
    ) -> None:
        self._former = former or {}
        self._locators = locators
        self._by_code = {code: _former_place(one) for code, one in self._former.items()}
        self._by_code |= {place.code: self._dated(place) for place in places}
        self._boundaries = boundaries
        self._outlines = outlines
        self._official = official or {}
        self._children: dict[str, list[Place]] = {}
        for place in self.places():
            if place.parent:
                self._children.setdefault(place.parent, []).append(place)
        wards = {
            code: [ward.code for ward in children]
            for code, children in self._children.items()
            if len(code) == 6
        }
        self._territories = Territories(boundaries, outlines, wards, self._official)
        self._joined: dict[str, BaseGeometry] = {}
        self._catchments: dict[str, BaseGeometry] = {}
        self._below: dict[str, frozenset[str]] = {}

    @classmethod
    def from_csv(cls, table: bytes, former: bytes = b"", abroad: bytes = b"", regions: bytes = b"") -> Self:
        """Return the gazetteer of a table that scripts/build_gazetteer.py made, with former codes, places abroad and regions of JMA if given.

        Those are the tables of build_former_codes.py, build_abroad.py and build_regions.py. Raises LalertError naming the line at fault.
        """
        places: list[Place] = []
        boundaries: dict[str, str] = {}
        outlines: dict[str, str] = {}
        rows = csv.reader(io.StringIO(table.decode()))
        columns = next(rows, [])
        try:
            picked = itemgetter(*(columns.index(name) for name in _COLUMNS))
            for row in rows:
                *cells, outline, boundary = picked(row)
                place = _place(*cells)
                places.append(place)
                if outline:
                    outlines[place.code], boundaries[place.code] = outline, boundary
        except (LookupError, ValueError, csv.Error) as error:
            raise LalertError(f"the gazetteer's table, line {rows.line_num}: {error}") from None
        locators: list[Locator] = [Abroad.from_csv(abroad)] if abroad else []
        locators += [Regions.from_csv(regions)] if regions else []
        gone = read_former(former) if former else None
        return cls(places, boundaries, outlines, former=gone, locators=locators)

    def with_boundaries(self, geojson: bytes) -> Self:
        """Return a gazetteer with official boundaries besides those it has; for a code that comes twice, the later file counts.

        Takes N03 GeoJSON (see `read_boundaries`). Boundaries of former places are passed over: today's are drawn otherwise.
        Raises InvalidGeometry or TooLarge.
        """
        official = {
            code: boundary
            for code, boundary in read_boundaries(geojson).items()
            if code not in self._by_code or self._by_code[code].kind not in _FORMER_KINDS
        }
        return self._with({**self._official, **official}, self._locators)

    def with_locator(self, locator: Locator) -> Self:
        """Return a gazetteer that asks another one first where the geocodes of foreign schemes lie."""
        return self._with(self._official, [locator, *self._locators])

    def _with(self, official: Mapping[str, BaseGeometry], locators: Sequence[Locator]) -> Self:
        places = (place for place in self._by_code.values() if place.kind is not PlaceKind.FORMER)
        return type(self)(places, self._boundaries, self._outlines, official, self._former, locators)

    def locate(self, name: str, value: str) -> Located | None:
        """Return where a geocode of another scheme than JIS X 0402 lies; None where nobody knows such a scheme, or the value is none of its codes."""
        found = (locator.locate(name, value) for locator in self._locators)
        return next((one for one in found if one is not None), None)

    def _dated(self, place: Place) -> Place:
        former = self._former.get(place.code)
        return replace(place, ended=former.ended) if former else place

    @property
    def boundaries(self) -> Literal["official", "points"]:
        """Say whether official boundaries were installed, or all territories are made from the points of towns."""
        return "official" if self._official else "points"

    @property
    def attribution(self) -> str:
        """Return whom to name where this data, or a map made with it, is shown."""
        return f"{_N03_ATTRIBUTION} / {_TABLE_ATTRIBUTION}" if self._official else _TABLE_ATTRIBUTION

    def place(self, code: str) -> Place | None:
        """Return the place of a code, former ones included."""
        return self._by_code.get(code)

    def former(self, code: str) -> Former | None:
        """Say what became of a code that ended; None of one in force, and of one that nobody knows."""
        return self._former.get(code)

    @cached_property
    def ended(self) -> frozenset[str]:
        """Return all codes that are not in use any more."""
        return frozenset(code for code, place in self._by_code.items() if place.kind in _FORMER_KINDS)

    def today(self, codes: Iterable[str]) -> frozenset[str]:
        """Return the codes with those that ended replaced by their successors; what is unknown stays as it is."""
        return frozenset(heir for code in codes for heir in self._heirs(code))

    def _heirs(self, code: str) -> tuple[str, ...]:
        place = self._by_code.get(code)
        return (place.successors if place else ()) or (code,)

    def places(self) -> tuple[Place, ...]:
        """Return every place of today in the order of codes, a prefecture before its municipalities."""
        return tuple(place for place in self._by_code.values() if place.kind not in _FORMER_KINDS)

    def children(self, code: str) -> tuple[Place, ...]:
        """Return the municipalities of a prefecture or the wards of a designated city."""
        return tuple(self._children.get(code, ()))

    def prefecture_of(self, code: str) -> Place | None:
        """Return the prefecture of a code, known or not; None where its first two digits are no prefecture."""
        return self._by_code.get(code[:2])

    def reach(self, codes: Iterable[str]) -> frozenset[str]:
        """Return the codes with everything above and below them: whom an alert for them concerns, and the other way about.

        A city's alert concerns its wards, a ward's alert whoever follows the city or the prefecture. A code that ended stands for
        its successors, in an alert as in what somebody follows. An unknown code stays as it is and concerns its prefecture.
        """
        reached: set[str] = set()
        for code in codes:
            reached |= self._relations.get(code) or {code, code[:2]}
        return frozenset(reached)

    @cached_property
    def _relations(self) -> dict[str, set[str]]:
        relations = {place.code: {place.code} for place in self.places()}
        for code in tuple(relations):
            above = self._by_code[code].parent
            while above:
                relations[code].add(above)
                relations[above].add(code)
                above = self._by_code[above].parent
        gone = [place for place in self._by_code.values() if place.kind in _FORMER_KINDS]
        predecessors: dict[str, set[str]] = {}
        for place in gone:
            for heir in place.successors:
                predecessors.setdefault(heir, set()).add(place.code)
        for code, own in relations.items():
            relations[code] = own.union(*(predecessors[other] for other in own & predecessors.keys()))
        for place in gone:
            first, *others = (relations[heir] for heir in place.successors)
            relations[place.code] = first.union(*others) if others else first
        return relations

    def search(self, text: str, limit: int = 20) -> tuple[Place, ...]:
        """Return at most `limit` places of today whose name, reading, English name or code has the text in it, best first.

        Kanji, kana of either kind and romaji are taken, with or without the prefecture's name before; long vowels may be
        written in any way. The whole name comes before its beginning, that before its middle, the larger place before the smaller.
        """
        wanted = _fold(text[:MAX_SEARCH_TEXT])
        if not wanted:
            return ()
        found = [
            (min(_rank(key, wanted) for key in keys.split("\n")), size, place.code)
            for size, place, keys in self._keys
            if wanted in keys
        ]
        return tuple(self._by_code[code] for *_, code in sorted(found)[: max(limit, 0)])

    @cached_property
    def _keys(self) -> list[tuple[int, Place, str]]:
        sizes = {kind: size for size, kind in enumerate(PlaceKind)}
        return [
            (sizes[place.kind], place, "\n".join(dict.fromkeys(map(_fold, self._names(place)))))
            for place in self.places()
        ]

    def _names(self, place: Place) -> Iterator[str]:
        """Yield what a place may be called: with and without its kind (市, Town), its prefecture and its city."""
        yield from (place.name, place.kana, place.name_en, place.code, place.name[:-1])
        yield re.sub(r" (City|Town|Village|Prefecture|Ward, .*)$", "", place.name_en)
        if place.parent:
            yield self._by_code[place.prefecture].name + place.name
            yield place.name.removeprefix(self._by_code[place.parent].name)
            yield place.kana.removeprefix(self._by_code[place.parent].kana)

    def official(self, code: str) -> bool:
        """Say whether the territory of this very code is an official boundary, rather than made from points or joined."""
        return code in self._official

    def approximate(self, code: str) -> bool:
        """Say whether `geometry` of this code is made from points, in whole or in part; False of an unknown code."""
        if code in self._official or code not in self._by_code:
            return False
        parts = self._parts(code)
        return not parts or any(map(self.approximate, parts))

    def within_official(self, leaf: str) -> bool:
        """Say whether a leaf's catchment ends at an official boundary: its own, or that of its city."""
        return self._territories.within_official(leaf)

    def geometry(self, code: str) -> BaseGeometry | None:
        """Return the territory of a place as it is shown, in (lon, lat) degrees, or None of an unknown code.

        The official boundary where one is installed, else the one made from the points of its towns (`approximate` tells). A city
        is the union of its wards, a prefecture that of its municipalities, a former place that of its successors. Who is told is
        decided by `catchment`.
        """
        if code in self._official:
            return self._official[code]
        if code not in self._joined and code in self._by_code:
            self._joined[code] = self._drawn(code)
        return self._joined.get(code)

    def _drawn(self, code: str) -> BaseGeometry:
        parts = self._parts(code)
        return self._territories.together(self.leaves(parts)) if parts else self._territories.boundary(code)

    def together(self, leaves: Collection[str]) -> BaseGeometry | None:
        """Return what is shown of leaves in one geometry, or None of none; in steps of a few milliseconds."""
        known = self.leaves(leaves)
        return self._territories.together(known) if known else None

    def catchment(self, code: str) -> BaseGeometry | None:
        """Return the ground on which people are told of what concerns a place, in (lon, lat) degrees, or None of an unknown code.

        The official boundary where one is installed. Else an outline that is wider than `geometry` by about as much as that may be
        off, so that it errs on the side of telling people (docs/gazetteer.md).
        """
        if code in self._territories.leaves:
            return self._territories.leaves[code]
        if code not in self._catchments and code in self._by_code:
            self._catchments[code] = self._join(self._by_code[code])
        return self._catchments.get(code)

    def _join(self, place: Place) -> BaseGeometry:
        if place.kind is PlaceKind.CITY_WITH_WARDS:
            return self._territories.city(place.code)
        return shapely.union_all([self.catchment(part) for part in self._parts(place.code)])

    def _parts(self, code: str) -> Sequence[str]:
        """Return what a place that is no leaf consists of."""
        return self._by_code[code].successors or [child.code for child in self.children(code)]

    def leaves(self, codes: Iterable[str]) -> frozenset[str]:
        """Return the municipalities without wards, and the wards, whose territories together are those of the codes.

        A city stands for its wards, a prefecture for all in it, a former ward for its successors; a code without a territory for nothing.
        """
        return frozenset().union(*map(self._leaves_of, codes))

    def _leaves_of(self, code: str) -> frozenset[str]:
        if code not in self._below and (code in self._territories.leaves or code in self._by_code):
            self._below[code] = self._find_leaves(code)
        return self._below.get(code, frozenset())

    def _find_leaves(self, code: str) -> frozenset[str]:
        if code in self._territories.leaves:
            return frozenset({code})
        return self.leaves(self._parts(code))

    def leaves_meeting(self, shapes: Sequence[BaseGeometry]) -> list[frozenset[str]]:
        """Return for each valid shape in (lon, lat) degrees the leaves whose territory it meets; a border belongs to both sides."""
        return self._leaves.meeting(shapes)

    def boxes(self, leaves: Collection[str]) -> Floats:
        """Return the bounds of the leaves' territories, a row each of west, south, east, north in degrees."""
        return self._leaves.boxes(leaves)

    @cached_property
    def _leaves(self) -> Leaves:
        return Leaves(self._territories.leaves)

    def codes_of(self, geometry: BaseGeometry) -> frozenset[str]:
        """Return the 6-digit codes of the municipalities and wards that a geometry in (lon, lat) degrees touches.

        Wards stand for their city. Where a boundary is official, a surface must share more than the border with it; where it is not,
        meeting the generous outline is enough. A point or line counts for both sides of a border. Raises InvalidGeometry for a
        geometry that is not valid.
        """
        return self._territories.touching(geometry)


_FORMER_KINDS = frozenset({PlaceKind.FORMER_WARD, PlaceKind.FORMER})
_COLUMNS = (
    "code6",
    "kind",
    "parent",
    "name",
    "kana",
    "name_en",
    "lon",
    "lat",
    "successors",
    "outline",
    "boundary",
)
_KINDS = {str(kind): kind for kind in PlaceKind}


def _place(
    code: str,
    kind: str,
    parent: str,
    name: str,
    kana: str,
    name_en: str,
    lon: str,
    lat: str,
    successors: str,
) -> Place:
    prefecture = code[:2]
    return Place(
        code=prefecture if kind == "prefecture" else code,
        name=name,
        kana=kana,
        name_en=name_en,
        prefecture=prefecture,
        kind=_KINDS[kind],
        lon=float(lon),
        lat=float(lat),
        parent=parent or None,
        successors=tuple(successors.split()),
    )


def _former_place(one: Former) -> Place:
    return Place(
        code=one.code,
        name=one.name,
        kana="",
        name_en=one.name,
        prefecture=one.code[:2],
        kind=PlaceKind.FORMER,
        lon=one.lon,
        lat=one.lat,
        parent=one.code[:2],
        successors=one.successors,
        ended=one.ended,
    )


def _rank(key: str, wanted: str) -> int:
    if key == wanted:
        return 0
    if key.startswith(wanted):
        return 1
    return 2 if wanted in key else 3


_KATAKANA_TO_HIRAGANA = {katakana: katakana - 0x60 for katakana in range(ord("ァ"), ord("ヶ") + 1)}
_SPELLINGS = _KATAKANA_TO_HIRAGANA | str.maketrans({"ヶ": "け", "ゖ": "け", "\u0302": None, "\u0304": None})
_SOUNDS = re.compile(r"o(?:u|o|h(?![aiueo]))+|uu|n(?=[bmp])")
_SEPARATORS = re.compile(r"[\s'’,・-]+")


def _fold(text: str) -> str:
    """Return the text without what people spell in several ways: width, case, kana, long vowels (ō, ou, oo, oh), n or m, small ヶ."""
    if not text.isascii():
        # Decomposed to lose the macron of ō, and composed again to keep the marks of が.
        text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text)).translate(_SPELLINGS)
        text = unicodedata.normalize("NFC", text)
    plain = _SEPARATORS.sub("", text.casefold())
    return _SOUNDS.sub(lambda sound: sound[0][0] if sound[0] != "n" else "m", plain)
