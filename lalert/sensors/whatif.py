"""What would it have done: rules played over recorded readings, before they are switched on. Pure: the readings are given, nothing is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from lalert.sensors.rules import Act, Decision, Issued, State, step, told
from lalert.sensors.settings import Mode
from lalert.sensors.station import Stage, Station
from lalert.sensors.upkeep import levelled
from lalert.store import StoredReading

FLAP: Final = timedelta(hours=6)
"""A warning that comes so soon after the last one was lifted need not have been lifted."""


@dataclass(frozen=True, slots=True)
class Happening:
    """What a station would have said or proposed at a reading."""

    station: Station
    decision: Decision

    @property
    def time(self) -> datetime:
        """When the deciding reading was taken, by the device."""
        return self.decision.evidence.reading.time


@dataclass(slots=True)
class Verdict:
    """What became of one station. Times are the device's.

    `first` is its first warning, `flooded` the first believed reading at 氾濫発生 or above, `flaps` how often it warned again within 6 hours of a lifting.
    """

    station: Station
    readings: int = 0
    warnings: int = 0
    updates: int = 0
    lifted: int = 0
    proposed: int = 0
    flaps: int = 0
    doubts: Counter[str] = field(default_factory=Counter)
    first: datetime | None = None
    flooded: datetime | None = None
    high: bool = False
    """Whether the very first reading was at 氾濫発生 already: no rule could have been earlier."""

    @property
    def lead(self) -> timedelta | None:
        """How long before 氾濫発生 the first warning came; None where one of both is missing."""
        if self.first is None or self.flooded is None:
            return None
        return self.flooded - self.first


class Rehearsal:
    """Plays readings, in the order of their arrival, and acts on what is decided as a hub would whose every message goes out."""

    def __init__(self, stations: Iterable[Station]) -> None:
        self.stations = {station.id: station for station in stations}
        self.states: dict[str, State] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.strangers: Counter[str] = Counter()
        """Readings of stations that are not known."""
        self._lifted: dict[str, datetime] = {}
        self._messages = 0

    def play(self, readings: Iterable[StoredReading]) -> Iterator[Happening]:
        """Yield what would have been said, as the readings are taken."""
        for arrived in readings:
            station = self.stations.get(arrived.reading.station)
            if station is None:
                self.strangers[arrived.reading.station] += 1
                continue
            yield from self._take(station, replace(arrived, reading=levelled(station.datum, arrived.reading)))

    def _take(self, station: Station, arrived: StoredReading) -> Iterator[Happening]:
        before = self.states.get(station.id, State())
        state, decisions = step(station, before, arrived, self.states)
        verdict = self.verdicts.setdefault(station.id, Verdict(station))
        verdict.readings += 1
        if state.marks != before.marks:
            verdict.doubts[state.marks[-1][1]] += 1
        elif self._flooding(station, arrived) and verdict.flooded is None:
            verdict.flooded = arrived.reading.time
            verdict.high = verdict.readings == 1
        for decision in decisions:
            self._messages += 1
            state = told(state, decision, self._issued(station, decision))
            self._count(verdict, decision)
            yield Happening(station, decision)
        self.states[station.id] = state

    def _flooding(self, station: Station, arrived: StoredReading) -> bool:
        level, top = arrived.reading.level_m, station.levels.get(Stage.FLOODING)
        return level is not None and top is not None and level >= top

    def _issued(self, station: Station, decision: Decision) -> Issued | None:
        if decision.act is Act.LIFT or decision.kind is Mode.PROPOSE:
            return None
        return Issued(station.sender, str(self._messages), decision.evidence.received.isoformat())

    def _count(self, verdict: Verdict, decision: Decision) -> None:
        time = decision.evidence.reading.time
        if decision.kind is Mode.PROPOSE:
            verdict.proposed += decision.act is Act.WARN
        elif decision.act is Act.WARN:
            verdict.warnings += 1
            verdict.first = verdict.first or time
            lifted = self._lifted.get(f"{verdict.station.id} {decision.rule == 'rain'}")
            verdict.flaps += lifted is not None and time - lifted <= FLAP
        elif decision.act is Act.CHANGE:
            verdict.updates += 1
        else:
            verdict.lifted += 1
            self._lifted[f"{verdict.station.id} {decision.rule == 'rain'}"] = time


@dataclass(frozen=True, slots=True)
class Summary:
    """The verdicts of all stations in figures; `leads` are those of stations that flooded and had not done so at their first reading, rising."""

    stations: int
    readings: int
    strangers: int
    warned: int
    warnings: int
    updates: int
    lifted: int
    proposed: int
    flapped: int
    flaps: int
    doubted: Counter[str]
    flooded: int
    missed: int
    """Stations that flooded and never warned."""
    leads: tuple[timedelta, ...]


def summary(rehearsal: Rehearsal) -> Summary:
    """Return what a rehearsal came to."""
    verdicts: Sequence[Verdict] = tuple(rehearsal.verdicts.values())
    leads = [v.lead for v in verdicts if v.lead is not None and not v.high]
    return Summary(
        stations=len(verdicts),
        readings=sum(v.readings for v in verdicts),
        strangers=sum(rehearsal.strangers.values()),
        warned=sum(v.warnings > 0 for v in verdicts),
        warnings=sum(v.warnings for v in verdicts),
        updates=sum(v.updates for v in verdicts),
        lifted=sum(v.lifted for v in verdicts),
        proposed=sum(v.proposed for v in verdicts),
        flapped=sum(v.flaps > 0 for v in verdicts),
        flaps=sum(v.flaps for v in verdicts),
        doubted=sum((v.doubts for v in verdicts), Counter()),
        flooded=sum(v.flooded is not None for v in verdicts),
        missed=sum(v.flooded is not None and not v.warnings for v in verdicts),
        leads=tuple(sorted(leads)),
    )
