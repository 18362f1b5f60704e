"""The stations that a node knows: the configuration's, and those of the store, wherever they were changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import pytest

from lalert.bus.local import LocalBus
from lalert.config import Station as StationConfig
from lalert.config import Thresholds, read_station, station_document, station_of
from lalert.errors import Unavailable
from lalert.sensors import Roster, Station
from lalert.store import KeptStation


class Shelf:
    """Stations in memory, as the stores keep them."""

    def __init__(self) -> None:
        self.kept: dict[str, KeptStation] = {}
        self.well = True

    def save(self, station: str, document: bytes | None) -> None:
        revision = 1 + max((each.revision for each in self.kept.values()), default=0)
        self.kept[station] = KeptStation(station, "org", document, revision)

    async def stations_after(self, revision: int, limit: int) -> list[KeptStation]:
        if not self.well:
            raise Unavailable("the disk is full")
        news = sorted(self.kept.values(), key=lambda each: each.revision)
        return [each for each in news if each.revision > revision][:limit]


def station(id: str, name: str = "") -> Station:
    return Station(id, name, "org", "gauge@org.example", ("432032",), 130.7, 32.2)


def decode(document: bytes) -> Station:
    name = document.decode()
    if name == "unread":
        raise ValueError("written by a newer version")
    return station(name.split("-")[0], name)


def roster(shelf: Shelf, bus: LocalBus | None = None, configured: Sequence[Station] = ()) -> Roster:
    return Roster(shelf, configured, decode, bus or LocalBus())


async def test_what_was_saved_changed_and_forgotten_is_taken_in() -> None:
    shelf = Shelf()
    known = roster(shelf)
    for number in range(1_500):
        shelf.save(f"s{number}", f"s{number}-1".encode())
    await known.refresh()
    assert len(known) == 1_500
    shelf.save("s7", b"s7-2")
    shelf.save("s8", None)
    await known.refresh()
    assert known["s7"].name == "s7-2"
    assert "s8" not in known
    assert len(known) == 1_499


async def test_the_configuration_goes_before_the_store() -> None:
    shelf = Shelf()
    shelf.save("a", b"a-stored")
    known = roster(shelf, configured=[station("a", "configured")])
    await known.refresh()
    shelf.save("a", None)
    await known.refresh()
    assert known["a"].name == "configured"
    assert known.configured("a")


async def test_a_station_that_this_version_cannot_read_stays_as_it_was_known() -> None:
    shelf = Shelf()
    known = roster(shelf)
    shelf.save("a", b"a-1")
    await known.refresh()
    shelf.save("a", b"unread")
    shelf.save("b", b"b-1")
    await known.refresh()
    assert known["a"].name == "a-1"
    assert known["b"].name == "b-1"


async def test_a_change_at_another_node_is_followed_by_its_hint() -> None:
    shelf, bus = Shelf(), LocalBus()
    here, there = roster(shelf, bus), roster(shelf, bus)
    following = asyncio.create_task(here.follow())
    await asyncio.sleep(0)
    try:
        shelf.well = False
        there.changed()
        await asyncio.sleep(0.01)
        shelf.well = True
        shelf.save("a", b"a-1")
        there.changed()
        async with asyncio.timeout(2):
            while "a" not in here:
                await asyncio.sleep(0.005)
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


def test_a_kept_station_reads_back_and_says_no_more_than_it_must() -> None:
    told = StationConfig(
        "a", "人吉", "org", "a@b", ("432032",), 130.7, 32.2, thresholds=Thresholds(caution_m=3.0)
    )
    document = station_document(told)
    assert station_of(document) == told
    assert b"hysteresis" not in document
    newer = msgspec.json.encode({**msgspec.json.decode(document), "not_yet": 1})
    assert station_of(newer) == told
    with pytest.raises(ValueError, match="name"):
        station_of(b'{"id": "a"}')


def test_every_mistake_of_a_station_is_named() -> None:
    good = {
        "id": "a",
        "name": "人吉",
        "org": "org",
        "sender": "a@b",
        "codes": ["43203"],
        "lon": 130.7,
        "lat": 32.2,
    }
    assert read_station(good)[1] == []
    assert read_station({**good, "nmae": "x"})[1] == ["station.nmae: unknown key, did you mean name?"]
    bad, mistakes = read_station({**good, "name": "a\x00b", "lat": 132.2, "codes": ["432031"]})
    assert bad is None
    assert [each.split(" ")[0] for each in mistakes] == ["station.name:", "station.codes:", "station:"]
