"""Who wants an alert, at up to a million subscriptions: the index against asking every filter in turn and against a plain STRtree, in one run.

Run it as `python -m bench.match [--sizes 1000,10000,...] [--polygons 100000,...]`; each size has a process of its own, because its memory is measured. Of
a mix like real life 80 % subscribe by municipality (and a least severity), 15 % by a position of their own, 5 % by a polygon of 4 to
500 corners; then polygons alone. Asking every filter is measured on at most 2,000 of them and scaled up. The tree holds the positions and
polygons, codes are a dictionary beside it, and an alert by code is asked as the union of the territories; every answer is compared.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import shapely

from lalert import resources
from lalert.geo import Gazetteer
from lalert.matching import FilterIndex, facts_of, wants
from lalert.matching.columns import stretches
from lalert.model import Entry, Facts, Filter, Origin, OriginKind, Ring, Severity
from lalert.testing import make_alert

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

SIZES = (1_000, 10_000, 100_000, 1_000_000)
POLYGONS = (100_000, 1_000_000)
SEVERITIES = (None, Severity.MINOR, Severity.MODERATE, Severity.SEVERE)
ASKED = 2_000
ROUNDS = 15
SEED = 20261125


class Population:
    """Draws subscriptions: most of them where towns are."""

    def __init__(self, gazetteer: Gazetteer, seed: int = SEED) -> None:
        self._dice = np.random.default_rng(seed)
        towns = [place for place in gazetteer.places() if len(place.code) == 6]
        self._codes = [place.code for place in towns]
        self._offices = np.array([(place.lon, place.lat) for place in towns])

    def mixed(self, count: int) -> list[Filter]:
        """Return the mix like real life, in disorder."""
        kinds = self._dice.choice(3, size=count, p=(0.80, 0.15, 0.05)).tolist()
        towns = self._dice.integers(len(self._codes), size=count).tolist()
        makers = (self._by_code, self._by_point, self._by_polygon)
        return [makers[kind](town) for kind, town in zip(kinds, towns, strict=True)]

    def polygons(self, count: int) -> list[Filter]:
        """Return polygons alone."""
        return [self._by_polygon(town) for town in self._dice.integers(len(self._codes), size=count).tolist()]

    def ring(self, centre: npt.NDArray[np.float64], radius: float, corners: int) -> Ring:
        """Return a ring that goes round its centre in and out, closed."""
        angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        reach = radius * self._dice.uniform(0.5, 1.0, size=(corners, 1))
        ring = np.round(centre + reach * np.column_stack((np.cos(angles), np.sin(angles))), 6)
        return tuple((lon, lat) for lon, lat in (*ring.tolist(), ring[0].tolist()))

    def _by_code(self, town: int) -> Filter:
        severity = SEVERITIES[int(self._dice.integers(len(SEVERITIES)))]
        return Filter(areas=frozenset({self._codes[town]}), min_severity=severity)

    def _by_point(self, town: int) -> Filter:
        lon, lat = self._near(town).tolist()
        return Filter(points=((lon, lat),))

    def _by_polygon(self, town: int) -> Filter:
        corners = round(math.exp(self._dice.uniform(math.log(4), math.log(500))))
        radius = math.exp(self._dice.uniform(math.log(0.005), math.log(0.2)))
        return Filter(polygon=self.ring(self._near(town), radius, corners))

    def _near(self, town: int) -> npt.NDArray[np.float64]:
        position: npt.NDArray[np.float64] = np.round(self._offices[town] + self._dice.normal(0, 0.05, 2), 6)
        return position


def alerts(gazetteer: Gazetteer) -> dict[str, Entry]:
    """Return what is asked: by code, and drawn."""
    rings = Population(gazetteer, 1)
    hitoyoshi, kumamoto, japan = (
        np.array(centre) for centre in ((130.76, 32.21), (130.75, 32.5), (137.5, 37.5))
    )
    nation = [f"{number:02}" for number in range(1, 48)]
    return {
        "a municipality by code": _entry(gazetteer, ["432032"]),
        "a prefecture by code": _entry(gazetteer, ["43"]),
        "the nation by code": _entry(gazetteer, nation),
        "a polygon of 60 points, 30 km": _entry(gazetteer, [], rings.ring(hitoyoshi, 0.16, 60)),
        "a polygon of 60 points, a prefecture": _entry(gazetteer, [], rings.ring(kumamoto, 0.8, 60)),
        "a polygon of 60 points, the nation": _entry(gazetteer, [], rings.ring(japan, 9.0, 60)),
    }


def _entry(gazetteer: Gazetteer, codes: Sequence[str], ring: Ring | None = None) -> Entry:
    now = datetime.now(UTC)
    alert = make_alert(codes=codes, polygon=ring)
    facts = facts_of(alert, gazetteer)
    return Entry("e-1", now, now, alert, Origin(OriginKind.HTTP), "incident", facts)


@dataclass(frozen=True, slots=True)
class Subscribers:
    """Who has which filter: their own numbers, those of one filter together."""

    who: npt.NDArray[np.int32]
    starts: npt.NDArray[np.intp]
    counts: npt.NDArray[np.intp]

    @classmethod
    def of(cls, numbers: npt.NDArray[np.int32]) -> Subscribers:
        counts = np.bincount(numbers)
        return cls(np.argsort(numbers, kind="stable").astype(np.int32), np.cumsum(counts) - counts, counts)

    def of_filters(self, numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        return self.who[stretches(self.starts[numbers], self.counts[numbers])]


class Plain:
    """What one would write first: a dictionary of codes, and a tree of everything else."""

    def __init__(self, filters: Sequence[Filter], gazetteer: Gazetteer) -> None:
        self._gazetteer = gazetteer
        self._by_code: dict[str, list[int]] = {}
        shapes: list[BaseGeometry] = []
        owners: list[int] = []
        for number, filter in enumerate(filters):
            for code in filter.areas:
                self._by_code.setdefault(code, []).append(number)
            if filter.points or filter.polygon:
                owners.append(number)
                shapes.append(
                    shapely.Polygon(filter.polygon) if filter.polygon else shapely.Point(filter.points[0])
                )
        self._owners = np.array(owners)
        self._tree = shapely.STRtree(shapes)

    def match(self, entry: Entry, ground: BaseGeometry) -> npt.NDArray[np.intp]:
        by_code = [number for code in entry.facts.reach for number in self._by_code.get(code, ())]
        found = self._owners[self._tree.query(ground, predicate="intersects")]
        return np.unique(np.concatenate((found, np.array(by_code, dtype=np.intp))))


def medians_ms(*calls: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Time calls in turns, so that what else the machine does slows all of them."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for own, call in zip(times, calls, strict=True):
            begun = time.perf_counter()
            call()
            own.append(time.perf_counter() - begun)
    return [sorted(own)[rounds // 2] * 1_000 for own in times]


def resident() -> int:
    """Return the bytes of memory that this process has in use."""
    # What was freed may stay with the C library (up to 64 MB at the end of its heap), however many filters there are.
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(count: int, *, polygons: bool) -> None:
    gazetteer = Gazetteer.from_csv(resources.gazetteer_csv())
    entries = alerts(gazetteer)
    gazetteer.leaves_meeting([shapely.Point(130.76, 32.21)])
    population = Population(gazetteer)
    filters = population.polygons(count) if polygons else population.mixed(count)
    corners = sum(len(filter.polygon or ()) for filter in filters)
    gc.collect()
    before = resident()
    begun = time.perf_counter()
    index = FilterIndex(gazetteer)
    numbers = np.fromiter((index.add(filter) for filter in filters), np.int32, len(filters))
    added = time.perf_counter() - begun
    begun = time.perf_counter()
    snapshot = index.snapshot()
    base = snapshot.rebuilt()
    rebuilt = time.perf_counter() - begun
    begun = time.perf_counter()
    index.adopt(snapshot, base)
    adopted = time.perf_counter() - begun
    subscribers = Subscribers.of(numbers)
    del snapshot, base
    gc.collect()
    grown = resident() - before
    print(
        f"\n{count:,} {'polygons' if polygons else 'subscriptions'}, {len(index):,} filters, {corners:,} corners"
    )
    print(
        f"  added one by one in {added:.2f} s ({added / count * 1e6:.0f} us each), rebuilt aside in {rebuilt:.2f} s, adopted in {adopted * 1e3:.2f} ms; "
        f"{grown / count:.0f} bytes each, {(grown - 16 * corners) / count:.0f} without the corners"
    )
    begun = time.perf_counter()
    plain = Plain(filters, gazetteer)
    print(f"  plain tree built in {time.perf_counter() - begun:.2f} s")
    compare(index, subscribers, plain, filters, entries, gazetteer)
    churn(index, population, polygons=polygons)


def told_ground(facts: Facts, gazetteer: Gazetteer) -> BaseGeometry:
    """Return the ground on which people are told of an alert, in one geometry."""
    parts = [*([facts.drawn] if facts.drawn is not None else []), *map(gazetteer.catchment, facts.ground)]
    return shapely.union_all(parts)


def compare(
    index: FilterIndex,
    subscribers: Subscribers,
    plain: Plain,
    filters: Sequence[Filter],
    entries: dict[str, Entry],
    gazetteer: Gazetteer,
) -> None:
    print(f"  {'':38}{'told':>9}{'index ms':>10}{'tree ms':>10}{'each ms':>10}{'tree/index':>12}")
    asked = filters[: min(ASKED, len(filters))]
    for name, entry in entries.items():
        ground = told_ground(entry.facts, gazetteer)
        shapely.prepare(ground)
        plain.match(entry, ground)  # the first query builds the tree
        told = np.sort(subscribers.of_filters(index.match(entry)))
        assert np.array_equal(told, plain.match(entry, ground)), name
        begun = time.perf_counter()
        each = sum(wants(filter, entry, (), gazetteer) for filter in asked)
        asking = (time.perf_counter() - begun) * len(filters) / len(asked) * 1_000
        assert each == np.searchsorted(told, len(asked)), name
        mine, tree = medians_ms(
            lambda entry=entry: subscribers.of_filters(index.match(entry)),  # type: ignore[misc]
            lambda entry=entry, ground=ground: plain.match(entry, ground),  # type: ignore[misc]
        )
        print(f"  {name:38}{len(told):9,}{mine:10.3f}{tree:10.2f}{asking:10.0f}{tree / mine:12.1f}")


def churn(index: FilterIndex, population: Population, *, polygons: bool) -> None:
    """Measure adding and dropping while so many are there, which is what the event loop does."""
    newcomers = population.polygons(500) if polygons else population.mixed(500)
    each = {"add": index.add, "drop": index.discard}
    for name, call in each.items():
        times = []
        for filter in newcomers:
            begun = time.perf_counter()
            call(filter)
            times.append(time.perf_counter() - begun)
        times.sort()
        print(f"  {name}: {times[len(times) // 2] * 1e6:.0f} us p50, {times[-5] * 1e6:.0f} us p99")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--polygons", default=",".join(map(str, POLYGONS)))
    parser.add_argument("--one", choices=("mixed", "polygons"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        measure(int(given.sizes), polygons=given.one == "polygons")
        return
    for kind, sizes in (("mixed", given.sizes), ("polygons", given.polygons)):
        for size in filter(None, sizes.split(",")):
            subprocess.run([sys.executable, "-m", "bench.match", "--one", kind, "--sizes", size], check=True)


if __name__ == "__main__":
    main()
