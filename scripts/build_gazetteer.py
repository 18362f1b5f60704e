"""Makes lalert/geo/data/municipalities.csv from two published packages, the same bytes at every run (see docs/gazetteer.md).

    python scripts/build_gazetteer.py                     downloads both packages, checks them, writes the table
    python scripts/build_gazetteer.py --packages FOLDER   takes the two wheels from a folder instead
    python scripts/build_gazetteer.py --check             writes nothing; exit 1 if the table would change

Needs what lalert needs (numpy, shapely) and pip; takes about half a minute.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely

from lalert.geo import check_digit

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

TARGET = Path(__file__).parent.parent / "lalert" / "geo" / "data" / "municipalities.csv"

PACKAGES = {
    "japancode": ("0.1.0", "018cbd49becabe01a2c9a7aeca9c3994a58e52655360f9afaa0397b609a3a46b"),
    "jp-prefecture": ("0.7.9.1", "8382976b55e0a99e215ffa1d4a9342ec13fdf6e0dafc4d02d0ae3242a52cf469"),
}

COLUMNS = (
    "code5",
    "code6",
    "kind",
    "parent",
    "prefecture",
    "name",
    "kana",
    "name_en",
    "lon",
    "lat",
    "point",
    "successors",
    "outline",
    "boundary",
)

# 浜松市 went from seven wards to three on 2024-01-01, after both packages were made. The new offices are those of the old
# wards named here. 三方原地区 (seven towns of 北区) went to 中央区, the rest of 北区 to 浜名区.
HAMAMATSU = "22130"
HAMAMATSU_WARDS = {  # new ward: (name, kana, old ward whose office it uses)
    "22138": ("浜松市中央区", "ちゅうおうく", "22131"),
    "22139": ("浜松市浜名区", "はまなく", "22136"),
    "22140": ("浜松市天竜区", "てんりゅうく", "22137"),
}
HAMAMATSU_SUCCESSORS = {
    "22131": ("22138",),
    "22132": ("22138",),
    "22133": ("22138",),
    "22134": ("22138",),
    "22135": ("22139", "22138"),
    "22136": ("22139",),
    "22137": ("22140",),
}
MIKATAHARA = ("初生町", "三方原町", "東三方町", "豊岡町", "三幸町", "大原町", "根洗町")

# The six villages of 北方領土 have codes but no office today: a point by hand, to a hundredth of a degree, within each.
NORTHERN_VILLAGES = {
    "01695": ("色丹村", "しこたんむら", 146.83, 43.87),
    "01696": ("泊村", "とまりむら", 145.49, 43.74),
    "01697": ("留夜別村", "るよべつむら", 146.05, 44.25),
    "01698": ("留別村", "るべつむら", 147.75, 45.07),
    "01699": ("紗那村", "しゃなむら", 147.88, 45.23),
    "01700": ("蘂取村", "しべとろむら", 148.50, 45.40),
}

# The seat of a prefecture is its first designated city (x100), else its first city (x201), but for these three.
SEATS = {"13": "13104", "35": "35203", "40": "40130"}

# Hepburn drops the second of two like vowels; in these names the two belong to different words, and both are written.
ENGLISH_STEMS = {
    "01560": "Takinoue",
    "01571": "Toyoura",
    "01642": "Hiroo",
    "12218": "Katsuura",
    "19208": "Minami-Alps",
    "20303": "Koumi",
    "20416": "Toyooka",
    "20561": "Yamanouchi",
    "21382": "Wanouchi",
    "28209": "Toyooka",
    "30421": "Nachikatsuura",
    "31371": "Kotoura",
    "33212": "Setouchi",
    "36301": "Katsuura",
    "42208": "Matsuura",
    "46213": "Nishinoomote",
    "46217": "Soo",
    "46525": "Setouchi",
}

EARTH_RADIUS_M = 6_371_008.8
REACH_M = 30_000  # how far from its outermost town or office a territory may extend
LONE_REACH_M = 60_000  # the same where the office is the only point known
WIDEN_CELLS = (
    1.2  # how far an outline is widened, in widths of the cell at its edge, from the least to the most
)
WIDEN_LEAST_M = 600
WIDEN_MOST_M = 6_000
LAND_SPACINGS = 0.8  # how far from a point there is land for sure, in distances to the nearest other point
LAND_LEAST_M = 300
LAND_MOST_M = 3_000
FEW_POINTS = 4  # a village of no more than so many points may be an island: there the next point says little of its size
FEW_LAND_M = 1_500
LONE_LAND_M = 10_000  # the same for a village far from anything, known by one point
CLOSE_M = 2_500  # gaps narrower than twice this are land too
BAND_M = 100_000
BOUNDARY_SIMPLIFY_M = 200
BOUNDARY_UNIT = 10_000  # boundaries are written in ten-thousandths of a degree, outlines in thousandths
OUTLINE_UNIT = 1_000
LEAST_AREA = 4  # smaller slivers, in squares of the unit, are what rounding left

Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class Row:
    """One place, as it stands in the table; `code` has 5 digits."""

    code: str
    kind: str
    name: str
    kana: str
    name_en: str
    lon: float
    lat: float
    point: str
    parent: str = ""
    successors: tuple[str, ...] = ()
    outline: str = ""
    boundary: str = ""


@dataclass(frozen=True, slots=True)
class Sources:
    """What the two packages hold, as read."""

    prefectures: list[dict[str, Any]]
    municipalities: list[dict[str, Any]]
    alphabets: dict[str, str]
    towns: list[tuple[str, str, float, float]]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packages", type=Path, help="a folder that holds the two wheels")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the table would change"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheels = arguments.packages or download(Path(folder))
        sources = read_sources(wheels)
    rows = table(sources)
    add_outlines(rows, sources.towns)
    data = encode(rows, sources)
    print(f"{TARGET.name}: {len(rows)} rows, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
    if arguments.check:
        same = TARGET.is_file() and TARGET.read_bytes() == data
        print("unchanged" if same else "the table in the tree differs: run this script without --check")
        return 0 if same else 1
    TARGET.write_bytes(data)
    return 0


def download(folder: Path) -> Path:
    wanted = [f"{name}=={version}" for name, (version, _) in PACKAGES.items()]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "--dest", str(folder), *wanted], check=False)
    if done.returncode:
        sys.exit("pip could not download the packages: check the network, or hand them over with --packages")
    return folder


def read_sources(folder: Path) -> Sources:
    japancode = open_wheel(folder, "japancode")
    jp_prefecture = open_wheel(folder, "jp-prefecture")
    cities = csv.DictReader(io.StringIO(jp_prefecture.read("jp_prefecture/data/cities.csv").decode()))
    towns = csv.DictReader(io.StringIO(jp_prefecture.read("jp_prefecture/data/towns.csv").decode()))
    return Sources(
        prefectures=json.loads(japancode.read("japancode/data/prefectures.json")),
        municipalities=json.loads(japancode.read("japancode/data/municipalities.json")),
        alphabets={row["cityCode"]: row["cityAlphabet"] for row in cities},
        towns=[
            (row["cityCode"], row["town"], float(row["longitude"]), float(row["latitude"])) for row in towns
        ],
    )


def open_wheel(folder: Path, package: str) -> zipfile.ZipFile:
    version, digest = PACKAGES[package]
    path = folder / f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
    if not path.is_file():
        sys.exit(f"{path} is missing")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        sys.exit(f"{path.name} is not the file that this script was written for (sha256 differs)")
    return zipfile.ZipFile(io.BytesIO(data))


def table(sources: Sources) -> dict[str, Row]:
    rows = municipality_rows(sources.municipalities)
    rows |= {
        code: Row(code, "municipality", name, kana, english(code, name, kana), lon, lat, "hand", "01")
        for code, (name, kana, lon, lat) in NORTHERN_VILLAGES.items()
    }
    reorganise_hamamatsu(rows)
    for source in sources.prefectures:
        number = str(source["pid"]).zfill(2)
        seat = rows[SEATS.get(number) or (f"{number}100" if f"{number}100" in rows else f"{number}201")]
        code = number + "000"
        if str(source["lgcode"]).zfill(6) != code + check_digit(code):
            sys.exit(f"{source['pref']}: the code {source['lgcode']} has a wrong check digit")
        name_en = source["pref_en"] if number in {"01", "13"} else f"{source['pref_en']} Prefecture"
        rows[code] = Row(
            code, "prefecture", source["pref"], source["prefkana"], name_en, seat.lon, seat.lat, "seat"
        )
    return dict(sorted(rows.items()))


def municipality_rows(municipalities: Iterable[Mapping[str, Any]]) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    cities: dict[tuple[str, str], str] = {}
    for source in municipalities:
        code = str(source["cid"]).zfill(5)
        if str(source["lgcode"]).zfill(6) != code + check_digit(code):
            sys.exit(f"{source['city']}: the code {source['lgcode']} has a wrong check digit")
        city, _, ward = source["city"].partition(" ")
        city_kana, _, ward_kana = source["citykana"].partition(" ")
        cities.setdefault((code[:2], city), code)
        parent = cities[code[:2], city] if ward else code[:2]
        name_en = english(code, ward or city, ward_kana or city_kana)
        if ward:
            rows[parent].kind = "city-with-wards"
            name_en = f"{name_en.removesuffix(' City')} Ward, {rows[parent].name_en}"
        rows[code] = Row(
            code=code,
            kind="ward" if ward else "municipality",
            name=city + ward,
            kana=city_kana + ward_kana,
            name_en=name_en,
            lon=source["lng"],
            lat=source["lat"],
            point="office",
            parent=parent,
        )
    return rows


def reorganise_hamamatsu(rows: dict[str, Row]) -> None:
    city = rows[HAMAMATSU]
    for code, (name, kana, office) in HAMAMATSU_WARDS.items():
        old = rows[office]
        name_en = f"{english(code, name, kana).removesuffix(' City')} Ward, {city.name_en}"
        rows[code] = Row(code, "ward", name, city.kana + kana, name_en, old.lon, old.lat, "office", HAMAMATSU)
    for code, successors in HAMAMATSU_SUCCESSORS.items():
        rows[code].kind = "former-ward"
        rows[code].successors = successors


def english(code: str, name: str, kana: str) -> str:
    """Return the English name: the stem in Hepburn without long marks, and City, Town or Village for 市 and 区, 町, 村."""
    endings = {"市": ("し",), "区": ("く",), "町": ("ちょう", "まち"), "村": ("むら", "そん")}[name[-1]]
    stem = next(kana.removesuffix(ending) for ending in endings if kana.endswith(ending))
    kind = {"市": "City", "区": "City", "町": "Town", "村": "Village"}[name[-1]]
    return f"{ENGLISH_STEMS.get(code) or hepburn(stem).capitalize()} {kind}"


_ROMAN = {
    kana: consonant + vowel
    for consonant, row in {
        "": "あいうえお",
        "k": "かきくけこ",
        "s": "さ すせそ",
        "t": "た  てと",
        "n": "なにぬねの",
        "h": "はひ へほ",
        "m": "まみむめも",
        "y": "や ゆ よ",
        "r": "らりるれろ",
        "w": "わ   を",
        "g": "がぎぐげご",
        "z": "ざ ずぜぞ",
        "d": "だ  でど",
        "b": "ばびぶべぼ",
        "p": "ぱぴぷぺぽ",
    }.items()
    for vowel, kana in zip("aiueo", row, strict=True)
    if kana != " "
} | {
    "し": "shi",
    "ち": "chi",
    "つ": "tsu",
    "ふ": "fu",
    "じ": "ji",
    "ぢ": "ji",
    "づ": "zu",
    "を": "o",
    "ん": "n",
}


def hepburn(kana: str) -> str:
    """Return hiragana in the Hepburn spelling of road signs: no long marks, m before b, m and p."""
    text = ""
    for here, following in zip(kana, kana[1:] + "っ", strict=True):
        if here in "ゃゅょ":
            vowel = {"ゃ": "a", "ゅ": "u", "ょ": "o"}[here]
            text = text[:-1] + ("" if text.endswith(("shi", "chi", "ji")) else "y") + vowel
        elif here == "っ":
            onset = _ROMAN[following][0]
            text += "t" if onset == "c" else onset
        elif here != "ー":
            text += _ROMAN[here]
    text = re.sub("n(?=[bmp])", "m", text)
    return re.sub("ou|oo", "o", text).replace("uu", "u")


def add_outlines(rows: dict[str, Row], towns: Iterable[tuple[str, str, float, float]]) -> None:
    """Give each leaf (a ward, or a municipality without wards) its approximate boundary and the wider outline that is told.

    Both are joined Voronoi cells of all town points and offices: what is nearer to one of its towns than to any other's. The
    boundary is cut off where the land seems to end and simplified with the borders kept common. The outline reaches `REACH_M`
    from the points and is widened by about the size of the cells at its edge, because that is how far a border may be off.
    All of it in Mercator metres: the projection is conformal, so that "nearest" holds locally.
    """
    leaves = [row for row in rows.values() if row.kind in {"ward", "municipality"}]
    points = town_points(leaves, rows, towns)
    span = shapely.box(*(shapely.total_bounds(points.shapes) + np.array([-1, -1, 1, 1]) * 2e6))
    cells = shapely.get_parts(
        shapely.voronoi_polygons(shapely.multipoints(points.metres), extend_to=span, ordered=True)
    )
    ashore = cut_off(cells, land_around(points))
    for row, text in zip(leaves, boundaries(points.joined(ashore)), strict=True):
        row.boundary = text

    sizes = np.sqrt(shapely.area(ashore))
    widths = np.clip(WIDEN_CELLS * sizes, WIDEN_LEAST_M * points.scale, WIDEN_MOST_M * points.scale)
    reach = np.where(points.alike == 1, LONE_REACH_M, REACH_M) * points.scale
    near = shapely.intersection(cells, shapely.buffer(points.shapes, reach, quad_segs=4))
    wide = points.joined(shapely.buffer(near, widths, quad_segs=2))
    coarse = points.least(widths) / 3
    for row, territory, tolerance in zip(leaves, wide, coarse, strict=True):
        row.outline = outline(territory, tolerance)


@dataclass(frozen=True, slots=True)
class Points:
    """All towns and offices, each point once: Mercator metres, how long a metre is there, and the number of the leaf it belongs to."""

    metres: Floats
    scale: Floats
    owners: npt.NDArray[np.int64]

    @property
    def alike(self) -> npt.NDArray[np.int64]:
        """Return how many points the leaf of each point has."""
        return np.bincount(self.owners)[self.owners]

    @property
    def shapes(self) -> npt.NDArray[np.object_]:
        return np.asarray(shapely.points(self.metres))

    def joined(self, cells: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
        """Return the union of the cells of each leaf."""
        return np.array([shapely.union_all(group) for group in self._groups(cells)], dtype=object)

    def least(self, values: Floats) -> Floats:
        return np.array([group.min() for group in self._groups(values)])

    def _groups(self, values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        order = np.argsort(self.owners, kind="stable")
        return np.split(values[order], np.cumsum(np.bincount(self.owners))[:-1])


def town_points(
    leaves: Sequence[Row], rows: Mapping[str, Row], towns: Iterable[tuple[str, str, float, float]]
) -> Points:
    number = {row.code: index for index, row in enumerate(leaves)}
    owners, places = list(number.values()), [(row.lon, row.lat) for row in leaves]
    for code, town, lon, lat in towns:
        heir = rows[code].successors
        owner = code if not heir else heir[-1] if town.startswith(MIKATAHARA) else heir[0]
        owners.append(number[owner])
        places.append((lon, lat))
    metres = np.round(mercator(np.array(places)))
    # Two places may share a point (a village's office in the neighbouring city): the first in the order of codes keeps it.
    metres, first = np.unique(metres, axis=0, return_index=True)
    owner_of = np.array(owners)[first]
    scale = 1 / np.cos(np.radians(np.array(places)[first, 1]))
    return Points(metres, scale, owner_of)


def land_around(points: Points) -> BaseGeometry:
    """Return where the land seems to be: around each point as far as its nearest neighbour, and whatever lies between or within.

    Towns stand close where the coast is near, and far apart in mountains, which are filled: all land belongs to somebody.
    """
    shapes = points.shapes
    tree = shapely.STRtree(shapes)
    (own, _), apart = tree.query_nearest(shapes, exclusive=True, return_distance=True, all_matches=False)
    nearest = np.empty(len(shapes))
    nearest[own] = apart
    least = np.where(points.alike <= FEW_POINTS, FEW_LAND_M, LAND_LEAST_M) * points.scale
    radius = np.clip(LAND_SPACINGS * nearest, least, LAND_MOST_M * points.scale)
    lone = (points.alike == 1) & (nearest > LONE_LAND_M * points.scale)
    radius = np.where(lone, LONE_LAND_M * points.scale, radius)
    wide = filled(shapely.union_all(shapely.buffer(shapes, radius + CLOSE_M * points.scale, quad_segs=3)))
    return narrowed(wide, CLOSE_M)


def narrowed(land: BaseGeometry, by_m: float) -> BaseGeometry:
    """Return land without a margin of so many metres, in bands of latitude: a metre's length in Mercator changes with it."""
    west, south, east, north = shapely.bounds(land)
    bands = []
    for low in np.arange(south, north, BAND_M):
        high = low + BAND_M
        scale = 1 / np.cos(np.radians(from_mercator(np.array([[0.0, (low + high) / 2]]))[0, 1]))
        margin = 4 * by_m * scale
        around = shapely.clip_by_rect(land, west - 1, low - margin, east + 1, high + margin)
        bands.append(
            shapely.intersection(
                shapely.buffer(around, -by_m * scale, quad_segs=2), shapely.box(west, low, east, high)
            )
        )
    return shapely.union_all(bands)


def cut_off(cells: npt.NDArray[np.object_], land: BaseGeometry) -> npt.NDArray[np.object_]:
    """Return the part of each cell that is land; most are wholly inside, and the others are compared with the land near them."""
    shapely.prepare(land)
    ashore = cells.copy()
    for number in np.flatnonzero(~shapely.contains_properly(land, cells)):
        near = shapely.clip_by_rect(land, *shapely.bounds(cells[number]))
        ashore[number] = shapely.intersection(cells[number], near)
    return ashore


def filled(geometry: BaseGeometry) -> BaseGeometry:
    return shapely.union_all([shapely.Polygon(part.exterior) for part in shapely.get_parts(geometry)])


def boundaries(territories: npt.NDArray[np.object_]) -> list[str]:
    """Return the text of each territory, simplified together so that neighbours keep one border."""
    whole = shapely.set_precision(territories, 1.0)
    simple = shapely.coverage_simplify(whole, BOUNDARY_SIMPLIFY_M)
    return [text_of(geometry, BOUNDARY_UNIT) for geometry in simple]


def text_of(territory: BaseGeometry, unit: int) -> str:
    """Return a territory as text: parts apart by `;`, their rings by `:`, in each the first point and then steps, in 1/unit degrees."""
    parts = [
        ":".join(ring_text(ring.coords, unit) for ring in (part.exterior, *part.interiors))
        for part in shapely.get_parts(rounded(territory, unit))
    ]
    return ";".join(sorted(parts))


def rounded(territory: BaseGeometry, unit: int) -> BaseGeometry:
    """Return it in degrees to 1/unit, each point for itself, so that neighbours still agree; repaired where that closed a neck."""
    degrees = shapely.transform(territory, lambda metres: np.round(from_mercator(metres) * unit) / unit)
    repaired = shapely.make_valid(degrees)
    parts = shapely.get_parts(shapely.get_parts(repaired))
    areas = parts[shapely.area(parts) * unit**2 > LEAST_AREA]
    whole = shapely.normalize(shapely.union_all(areas))
    assert shapely.is_valid(whole)
    assert not whole.is_empty
    return whole


def ring_text(points: Iterable[tuple[float, float]], unit: int) -> str:
    whole = np.round(np.array(points) * unit).astype(int)[:-1]
    steps = np.diff(whole, axis=0, prepend=np.zeros((1, 2), dtype=int))
    return " ".join(str(step) for step in steps.ravel().tolist())


def mercator(degrees: Floats) -> Floats:
    lon, lat = np.radians(degrees).T
    return EARTH_RADIUS_M * np.column_stack((lon, np.log(np.tan(np.pi / 4 + lat / 2))))


def from_mercator(metres: Floats) -> Floats:
    x, y = metres.T / EARTH_RADIUS_M
    lonlat: Floats = np.degrees(np.column_stack((x, 2 * np.arctan(np.exp(y)) - np.pi / 2)))
    return lonlat


def outline(territory: BaseGeometry, tolerance: float) -> str:
    """Return the text of a widened territory, filled and simplified."""
    return text_of(filled(shapely.simplify(filled(territory), tolerance)), OUTLINE_UNIT)


def encode(rows: Mapping[str, Row], sources: Sources) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows.values():
        writer.writerow(
            (
                row.code,
                row.code + check_digit(row.code),
                row.kind,
                canonical(row.parent),
                rows[row.code[:2] + "000"].name,
                row.name,
                row.kana,
                row.name_en,
                degrees(row.lon),
                degrees(row.lat),
                row.point,
                " ".join(canonical(code) for code in row.successors),
                row.outline,
                row.boundary,
            )
        )
    report(rows, sources)
    return text.getvalue().encode()


def canonical(code: str) -> str:
    """Return the spelling that the hub works with: six digits for all but a prefecture."""
    return code + check_digit(code) if len(code) == 5 else code


def degrees(value: float) -> str:
    """Return a coordinate to a metre."""
    return f"{value:.5f}".rstrip("0").rstrip(".")


def report(rows: Mapping[str, Row], sources: Sources) -> None:
    """Print the counts that docs/gazetteer.md states."""
    print("kinds:", dict(Counter(row.kind for row in rows.values())))
    print("points:", dict(Counter(row.point for row in rows.values())))
    print("outline points:", sum(len(row.outline.split()) // 2 for row in rows.values()))
    print("boundary points:", sum(len(row.boundary.split()) // 2 for row in rows.values()))
    towns = {code for code, *_ in sources.towns}
    leaves = [row for row in rows.values() if row.outline]
    print(
        "outlines from the office alone:",
        [r.name for r in leaves if r.code not in towns and r.kind == "municipality"],
    )
    spelling = Counter(
        english_origin(row, sources.alphabets) for row in rows.values() if row.kind != "prefecture"
    )
    print("English names:", dict(spelling))


def english_origin(row: Row, alphabets: Mapping[str, str]) -> str:
    """Say how the English name relates to the romanised one of jp-prefecture."""
    alphabet = alphabets.get(row.code)
    if alphabet is None:
        return "by our rule, not in jp-prefecture"
    if row.code in ENGLISH_STEMS:
        return "corrected by hand"
    romanised = re.split("[ -]", re.sub("^.*-(gun|shi) ", "", alphabet))[0]
    return "as in jp-prefecture" if row.name_en.startswith(f"{romanised} ") else f"differs: {alphabet}"


if __name__ == "__main__":
    sys.exit(main())
