"""Maintenance, a moved zero and a device that is exchanged: pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from lalert.bus.local import LocalBus
from lalert.model import Reading
from lalert.sensors import Roster, Station
from lalert.sensors.upkeep import Datum, Maintenance, Post, levelled, mistakes, under
from lalert.store import KeptStation

TEN = datetime(2026, 6, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Empty:
    async def stations_after(self, revision: int, limit: int) -> list[KeptStation]:
        return []


def roster(*stations: Station) -> Roster:
    return Roster(Empty(), stations, lambda _: stations[0], LocalBus())


def station(id: str, **about: object) -> Station:
    told = {"name": id, "org": "org", "sender": "a@b", "codes": (), "lon": 130.0, "lat": 32.0, **about}
    return Station(id=id, **told)  # type: ignore[arg-type]


def test_maintenance_holds_from_its_beginning_until_before_its_end() -> None:
    work = Maintenance(TEN, TEN + HOUR)
    moments = [TEN - timedelta(seconds=1), TEN, TEN + HOUR - timedelta(seconds=1), TEN + HOUR]
    assert [under(work, when) for when in moments] == [False, True, True, False]
    assert not under(None, TEN)


def test_a_level_counts_from_the_zero_that_held_when_it_was_measured() -> None:
    data = (Datum(TEN, 0.35), Datum(TEN + HOUR, -0.1))
    times = (TEN - HOUR, TEN, TEN + HOUR)
    levels = [levelled(data, Reading("g", when, level_m=2.0)).level_m for when in times]
    assert levels == [2.0, 2.35, 1.9]
    rain = Reading("g", TEN, rain_mm=1.0, period_s=600)
    assert levelled(data, rain) is rain


@pytest.mark.parametrize(
    ("maintenance", "data", "posts", "said"),
    [
        (Maintenance(TEN, TEN), (), (), "maintenance.until"),
        (Maintenance(TEN, TEN + timedelta(days=32)), (), (), "maintenance.until"),
        (Maintenance(TEN.replace(tzinfo=None), TEN), (), (), "maintenance: give times"),
        (None, (Datum(TEN, 0.1), Datum(TEN, 0.2)), (), "datum: must rise"),
        (None, (Datum(TEN, float("nan")),), (), "datum.offset_m"),
        (None, (), (Post("a", "l", TEN), Post("b", "l", TEN - HOUR)), "posts: must rise"),
    ],
)
def test_what_cannot_be_meant_is_named(
    maintenance: Maintenance | None, data: tuple[Datum, ...], posts: tuple[Post, ...], said: str
) -> None:
    [mistake] = mistakes(maintenance, data, posts)
    assert mistake.startswith(said)
    assert not list(mistakes(Maintenance(TEN, TEN + HOUR), (Datum(TEN, 1.0),), (Post("a", "l", TEN),)))


def test_a_device_measures_where_it_came_to_last() -> None:
    old, new = Post("AA01", "l", TEN), Post("BB02", "l", TEN + HOUR)
    known = roster(
        station("a", posts=(old, new)),
        station("b", posts=(Post("aa01", "l", TEN + 2 * HOUR),)),
        # Whoever else names a device, later too, takes nobody's readings away.
        station(
            "thief", posts=(Post("aa01", "l", TEN + HOUR / 2), Post("bb02", "l", TEN + 9 * HOUR)), org="thief"
        ),
    )

    def where(device: str, when: datetime) -> str | None:
        found = known.posted(device, when, known["a"].org)
        return found[0].id if found else None

    assert where("aa01", TEN - HOUR) is None
    assert where("aa01", TEN) == "a"
    assert where("aa01", TEN + HOUR) is None
    assert where("bb02", TEN + HOUR) == "a"
    assert where("AA01", TEN + 2 * HOUR) == "b"
    assert where("aa01", TEN + HOUR / 2) == "a"
    assert where("bb02", TEN + 9 * HOUR) == "a"


def test_only_who_is_allowed_judges_by_the_readings_of_another() -> None:
    known = roster(
        station("up", shared=("friend",)),
        station("mine", source="up"),
        station("theirs", source="up", org="friend"),
        station("stranger", source="up", org="stranger"),
    )
    assert [each.id for each in known.judges_of("up")] == ["up", "mine", "theirs"]
    assert known.judges_of("mine") == []
    assert known.judges_of("nobody") == []
