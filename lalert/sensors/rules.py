"""The threshold rule: readings in, decisions out. Pure and replayable: the same readings give the same decisions, on every machine, at any time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from lalert.sensors.quality import doubt
from lalert.sensors.station import STAGES, Stage, Station
from lalert.store import StoredReading


@dataclass(frozen=True, slots=True)
class Issued:
    """A message that a rule has sent, as its successor must refer to it."""

    sender: str
    identifier: str
    sent: str


@dataclass(frozen=True, slots=True)
class State:
    """What the rule remembers of one station between two readings.

    `stage` is what counts now, after holding and hysteresis; `waiting` the stages of the newest readings that do not count yet; `last` the last
    good reading; `doubts` how many doubtful ones came since; `issued` the last message of the incident that is open, if one is.
    """

    stage: Stage = Stage.CALM
    waiting: tuple[Stage, ...] = ()
    last: tuple[datetime, float] | None = None
    doubted: tuple[tuple[datetime, float], str] | None = None
    issued: Issued | None = None


class Act(StrEnum):
    """What is to be said."""

    WARN = "Alert"
    CHANGE = "Update"
    LIFT = "Cancel"


@dataclass(frozen=True, slots=True)
class Decision:
    """Say something: `stage` has been reached, coming from `before`; the evidence is the reading that decided it."""

    act: Act
    stage: Stage
    before: Stage
    evidence: StoredReading
    answers: Issued | None


def step(station: Station, state: State, arrived: StoredReading) -> tuple[State, Decision | None]:
    """Return what the rule knows after a reading, and what it wants said.

    Going up counts once the newest `hold` readings all stand at the stage or above, going down once they all stand below its level by the
    hysteresis. Whoever acts on a decision puts the message into the state by `told`.
    """
    reading = arrived.reading
    if reading.level_m is None:
        return state, None
    wrong = doubt(station, reading, arrived.received, state.last)
    if wrong == "spike" and state.doubted is not None and _agrees(state.doubted[0], reading.level_m):
        # Two readings in a row that agree are the river (or a moved datum), not a jumping float: a real wave must not be explained away.
        wrong = None
    if wrong is not None:
        return replace(state, doubted=((reading.time, reading.level_m), wrong)), None
    seen = (*state.waiting, _stage(station, state.stage, reading.level_m))[-station.hold :]
    stage = _counted(state.stage, seen, station.hold)
    after = replace(state, stage=stage, waiting=seen, last=(reading.time, reading.level_m), doubted=None)
    return after, _decision(state, stage, arrived)


def told(state: State, issued: Issued | None) -> State:
    """Return the state after a decision's message went out; None after a lifting, which closes the incident."""
    return replace(state, issued=issued)


def _stage(station: Station, current: Stage, level_m: float) -> Stage:
    risen = station.stage_at(level_m)
    if risen >= current:
        return risen
    return min(current, station.stage_at(level_m, lowered_by=station.hysteresis_m))


def _counted(current: Stage, seen: tuple[Stage, ...], hold: int) -> Stage:
    if len(seen) < hold:
        return current
    if min(seen) > current:
        return min(seen)
    if max(seen) < current:
        return max(seen)
    return current


def _agrees(doubted: tuple[datetime, float], level_m: float) -> bool:
    return abs(doubted[1] - level_m) <= 0.5


RENEW: Final = timedelta(hours=12)
"""After how long a warning that still holds is said again: half of what it is valid for, so that it never runs out while the river stands high."""


def _decision(state: State, stage: Stage, arrived: StoredReading) -> Decision | None:
    warns = stage in STAGES
    if state.issued is None:
        act = Act.WARN if warns and stage > state.stage else None
    elif stage != state.stage:
        act = Act.CHANGE if warns else Act.LIFT
    elif warns and arrived.received - datetime.fromisoformat(state.issued.sent) >= RENEW:
        act = Act.CHANGE
    else:
        act = None
    return Decision(act, stage, state.stage, arrived, state.issued) if act else None
