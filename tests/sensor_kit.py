"""Stations and readings for the tests of the sensors' pure core, and a hub that acts on decisions without any hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from lalert.model import Reading
from lalert.sensors import Stage, Station
from lalert.sensors.rules import Act, Decision, Issued, State, step, told
from lalert.sensors.settings import QUALITY, RULES, Mode, Quality, Rules
from lalert.store import StoredReading

START = datetime(2026, 6, 3, 1, 0, tzinfo=UTC)
LEVELS = {
    Stage.STANDBY: 1.5,
    Stage.CAUTION: 2.0,
    Stage.EVACUATION: 3.0,
    Stage.DANGER: 4.0,
    Stage.FLOODING: 5.0,
}


def gauge(
    name: str = "g",
    rule: Rules = RULES,
    quality: Quality = QUALITY,
    levels: Mapping[Stage, float] = LEVELS,
) -> Station:
    return Station(
        id=name,
        name="橋",
        name_en="Bridge",
        river="川",
        river_en="River",
        sender_name="川の事務所",
        sender_name_en="River Office",
        contact="https://o.example",
        org="o",
        sender="gauge@o.example",
        codes=("432032",),
        lon=130.7,
        lat=32.2,
        levels=levels,
        rule=rule,
        quality=quality,
    )


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def level(minutes: float, metres: float, station: str = "g", late: float = 0.0) -> StoredReading:
    return StoredReading(0, "o", Reading(station, at(minutes), level_m=metres), at(minutes + late))


def rain(minutes: float, mm: float, period_min: float = 10, station: str = "g") -> StoredReading:
    reading = Reading(station, at(minutes), rain_mm=mm, period_s=round(period_min * 60))
    return StoredReading(0, "o", reading, at(minutes))


def counter(minutes: float, total: float, station: str = "g") -> StoredReading:
    return StoredReading(0, "o", Reading(station, at(minutes), rain_total_mm=total), at(minutes))


@dataclass
class Played:
    """Feeds readings to stations and acts on what is decided, as the engine does."""

    stations: Sequence[Station]
    states: dict[str, State] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)

    def feed(self, *readings: StoredReading) -> Played:
        known = {station.id: station for station in self.stations}
        for arrived in readings:
            name = arrived.reading.station
            state, made = step(known[name], self.states.get(name, State()), arrived, self.states)
            for decision in made:
                self.decisions.append(decision)
                state = told(state, decision, self._issued(decision))
            self.states[name] = state
        return self

    def _issued(self, decision: Decision) -> Issued | None:
        if decision.act is Act.LIFT or decision.kind is Mode.PROPOSE:
            return None
        received = decision.evidence.received
        return Issued("gauge@o.example", f"{len(self.decisions)}", received.isoformat())

    def state(self, name: str = "g") -> State:
        return self.states.get(name, State())

    @property
    def said(self) -> list[tuple[str, str, str]]:
        """(kind, act, stage or grade) of each decision."""
        return [
            (d.kind.value, d.act.name, d.grade.name if d.rule == "rain" else d.stage.name)
            for d in self.decisions
        ]

    @property
    def doubts(self) -> list[str]:
        return [word for state in self.states.values() for _, word in state.marks]


def play(station: Station, readings: Iterable[StoredReading]) -> Played:
    return Played([station]).feed(*readings)


def river(metres: Iterable[float], every: float = 10.0) -> list[StoredReading]:
    return [level(number * every, value) for number, value in enumerate(metres)]
