"""Who says nothing: a gauge that is silent is shown as that, and never as calm. Pure but for what the watch remembers and logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Final

import structlog

from lalert.sensors.quality import silent_after
from lalert.sensors.state import State
from lalert.sensors.station import Station
from lalert.sensors.upkeep import under

log = structlog.get_logger()

SLICE: Final = 2_000
"""So many stations are looked at in one go: a hundred thousand would hold up an alert."""
NAMED: Final = 20
"""So many of one round are named in the log, the others counted: a gateway that is gone takes hundreds along."""


class Condition(StrEnum):
    """Whether a station is to be believed now. Only `live` says anything of the water."""

    LIVE = "live"
    SILENT = "silent"
    MAINTENANCE = "maintenance"


def condition(station: Station, state: State, now: datetime) -> Condition:
    """Return how it is with a station; one that was never heard is silent."""
    if under(station.maintenance, now):
        return Condition.MAINTENANCE
    known = _known(state)
    silent = known is None or now - known > silent_after(station, state)
    return Condition.SILENT if silent else Condition.LIVE


def age(state: State, now: datetime) -> timedelta | None:
    """Return how long nothing has come, None where nothing ever has."""
    return None if state.heard is None else max(timedelta(0), now - state.heard)


def _known(state: State) -> datetime | None:
    """Return when the newest reading was received that was believed: a gauge that talks nonsense knows no more than a silent one."""
    return state.good if state.org else state.heard


class Watch:
    """Goes round all stations, a slice at each look, and logs who falls silent and who is back."""

    def __init__(self) -> None:
        self._round: Iterator[Station] = iter(())
        self._silent: dict[str, datetime] = {}
        self._lost: list[str] = []
        self._back: list[str] = []
        self._counts: dict[Condition, int] = {}
        self._counting: dict[Condition, int] = {}
        self._first = True

    def look(self, stations: Mapping[str, Station], states: Mapping[str, State], now: datetime) -> None:
        """Look at the next stations."""
        some = list(islice(self._round, SLICE))
        for station in some:
            self._see(station, states.get(station.id, State()), now)
        if len(some) < SLICE:
            self._end_round(stations)

    def _see(self, station: Station, state: State, now: datetime) -> None:
        how = condition(station, state, now)
        self._counting[how] = self._counting.get(how, 0) + 1
        # What was never heard has not fallen silent: it is counted and shown, and no alarm.
        if how is Condition.SILENT and state.heard is not None:
            if station.id not in self._silent:
                self._lost.append(station.id)
            self._silent[station.id] = _known(state) or state.heard
        elif self._silent.pop(station.id, None) is not None and how is Condition.LIVE:
            self._back.append(station.id)

    def _end_round(self, stations: Mapping[str, Station]) -> None:
        if self._lost:
            log.warning(
                "stations are silent: no data is not no danger",
                stations=self._lost[:NAMED],
                number=len(self._lost),
                found_at_the_start=self._first,
            )
        if self._back:
            log.info("stations are heard again", stations=self._back[:NAMED], number=len(self._back))
        for gone in self._silent.keys() - stations.keys():
            del self._silent[gone]
        self._first = self._first and not self._counting
        self._counts, self._counting, self._lost, self._back = self._counting, {}, [], []
        self._round = iter(list(stations.values()))

    def gauges(self, now: datetime) -> dict[str, float]:
        """Return the figures of the last whole round, and the longest silence of those that were heard before."""
        longest = max((now - heard for heard in self._silent.values()), default=timedelta(0))
        counts = {each: float(self._counts.get(each, 0)) for each in Condition}
        return {
            "stations_live": counts[Condition.LIVE],
            "station_silent": counts[Condition.SILENT],
            "stations_in_maintenance": counts[Condition.MAINTENANCE],
            "station_silence_seconds": max(0.0, longest.total_seconds()),
        }
