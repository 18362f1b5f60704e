"""The rules of a station: readings in, decisions out. Pure and replayable: the same readings give the same decisions, on every machine, at any time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from lalert.sensors import rain
from lalert.sensors.combine import NOTHING, Outlook, evacuation, outlook
from lalert.sensors.quality import agrees_with_doubted, doubt, other_scale, wrong_time
from lalert.sensors.settings import Grade, Mode, RainLevel, Window
from lalert.sensors.state import MARKS, Issued, State
from lalert.sensors.station import STAGES, Stage, Station
from lalert.sensors.trend import remember
from lalert.store import StoredReading

__all__ = ["LEVEL", "RAIN", "RENEW", "Act", "Decision", "Issued", "State", "step", "told"]

LEVEL: Final = "level"
RAIN: Final = "rain"
RENEW: Final = timedelta(hours=12)
"""After how long a warning that still holds is said again: half of what it is valid for, so that it never runs out while the river stands high."""
NOBODY: Final[Mapping[str, State]] = MappingProxyType({})


class Act(StrEnum):
    """What is to be said."""

    WARN = "Alert"
    CHANGE = "Update"
    LIFT = "Cancel"


@dataclass(frozen=True, slots=True)
class Decision:
    """Say something: `stage` has been reached, coming from `before`, which was told last; the evidence is the reading that decided it.

    `kind` tells whether it goes out or is laid before an officer: then `act` opens, changes or withdraws the proposal. `rule` is `level`, `rise`,
    `forecast`, `upstream` or `rain`; by the middle three a stage below 氾濫注意 can warn, and `outlook.rules` are all of them that hold. Of rain, `grade`
    counts and the stages say nothing; `fallen` are the sums in millimetres, `rain_level` the gravest threshold that they reach.
    """

    act: Act
    stage: Stage
    before: Stage
    evidence: StoredReading
    answers: Issued | None
    kind: Mode = Mode.WARN
    rule: str = LEVEL
    outlook: Outlook = NOTHING
    grade: Grade = Grade.NONE
    grade_before: Grade = Grade.NONE
    fallen: Mapping[Window, float] = field(default_factory=dict)
    rain_level: RainLevel | None = None


def step(
    station: Station, state: State, arrived: StoredReading, around: Mapping[str, State] = NOBODY
) -> tuple[State, tuple[Decision, ...]]:
    """Return what the rules know after a reading, and what they want said or proposed. `around` are the states of other stations.

    Whoever acts on a decision puts that into the state by `told`; what could not be said is decided again by the next reading.
    """
    state = _own(station, state)
    if arrived.reading.level_m is None:
        return _rain_step(station, state, arrived)
    wrong = doubt(station, arrived.reading, arrived.received, state, around)
    if wrong is not None:
        return _doubted(station, state, arrived, wrong), ()
    after = _believed(station, state, arrived)
    ahead = outlook(station, after, around)
    return after, (*_river(station, after, arrived, ahead), *_proposed(station, after, arrived, ahead))


def _own(station: Station, state: State) -> State:
    """Return what is known of a station as it is now: a drill's river says nothing of the real one, nor what another organisation was told of one of that id."""
    if state.org and (state.org, state.status) != (station.org, station.status.value):
        state = State(heard=state.heard)
    return replace(state, org=station.org, status=station.status.value)


def told(state: State, decision: Decision, issued: Issued | None) -> State:
    """Return the state after a decision was acted upon. `issued` is the message that went out, None after a lifting, which closes the incident."""
    if decision.kind is Mode.PROPOSE:
        if decision.rule == RAIN:
            return replace(state, rain_proposed=decision.grade)
        if decision.act is Act.LIFT:
            return replace(state, proposed=Stage.CALM, early_proposed=())
        return replace(state, proposed=decision.stage, early_proposed=decision.outlook.rules)
    if decision.rule == RAIN:
        return replace(state, rain_issued=issued, rain_said=decision.grade)
    said = decision.stage if issued is not None else None
    return replace(state, issued=issued, said=said, early=decision.outlook.rules if issued else ())


def _doubted(station: Station, state: State, arrived: StoredReading, word: str) -> State:
    reading = arrived.reading
    assert reading.level_m is not None
    marks = (*state.marks, (reading.time, word))[-MARKS:]
    if word == "out-of-order":
        # Late ones are normal, and one between two readings that agree must not part them.
        return replace(state, marks=marks)
    goes_on = agrees_with_doubted(station, reading, state) and state.doubtful is not None
    return replace(
        state,
        doubted=(
            (reading.time, reading.level_m if math.isfinite(reading.level_m) else 0.0),
            word,
        ),  # JSON has no NaN
        doubtful=state.doubtful if goes_on else reading.time,
        marks=marks,
    )


def _believed(station: Station, state: State, arrived: StoredReading) -> State:
    reading = arrived.reading
    assert reading.level_m is not None
    rule = station.rule
    seen = (*state.waiting, _stage(station, state.stage, reading.level_m))[-max(rule.of, rule.hold) :]
    same = state.last is not None and state.last[1] == reading.level_m and state.still is not None
    return replace(
        state,
        stage=_counted(state.stage, seen, rule.hold),
        # Kept by a version that did not write down what it said: it said the stage.
        said=state.stage if state.issued is not None and state.said is None else state.said,
        waiting=seen,
        last=(reading.time, reading.level_m),
        good=arrived.received,
        doubted=None,
        doubtful=None,
        still=state.still if same else reading.time,
        # From one zero to another nothing has risen.
        recent=remember(
            () if _other_zero(state, reading.level_m) else state.recent, (reading.time, reading.level_m)
        ),
    )


def _other_zero(state: State, level_m: float) -> bool:
    return state.last is not None and other_scale(level_m, state.last[1])


def _stage(station: Station, current: Stage, level_m: float) -> Stage:
    risen = station.stage_at(level_m)
    if risen >= current:
        return risen
    return min(current, station.stage_at(level_m, lowered_by=station.rule.hysteresis_m))


def _counted(current: Stage, seen: tuple[Stage, ...], hold: int) -> Stage:
    """Up by any `hold` of those seen, the newest among them, down by the newest `hold` alone: a rise is not to be missed, a fall not to be guessed."""
    if len(seen) < hold:
        return current
    up = min(seen[-1], sorted(seen, reverse=True)[hold - 1])
    return up if up > current else min(current, max(seen[-hold:]))


def _river(station: Station, after: State, arrived: StoredReading, ahead: Outlook) -> tuple[Decision, ...]:
    stage = after.stage
    said = after.said or Stage.CALM
    early = ahead.rules if station.rule.early is Mode.WARN else ()
    fresh = [name for name in early if name not in after.early]
    holds = stage in STAGES or bool(early)
    if after.issued is None:
        act = Act.WARN if holds else None
    elif _warning(stage) > _warning(said) or (holds and _since(after.issued, arrived) >= RENEW):
        act = Act.CHANGE
    elif _since(after.issued, arrived) < timedelta(minutes=station.rule.quiet_min):
        act = None
    elif not holds:
        act = Act.LIFT
    else:
        act = Act.CHANGE if _warning(stage) < _warning(said) or fresh else None
    if act is None:
        return ()
    by_stage = stage in STAGES and (_warning(stage) != _warning(said) or not fresh)
    return (
        Decision(
            act,
            stage,
            said,
            arrived,
            after.issued,
            rule=LEVEL if by_stage else next(iter((*fresh, *early)), LEVEL),
            outlook=replace(ahead, rules=early),
        ),
    )


def _warning(stage: Stage) -> Stage:
    return stage if stage in STAGES else Stage.CALM


def _since(issued: Issued, arrived: StoredReading) -> timedelta:
    return arrived.received - datetime.fromisoformat(issued.sent)


def _proposed(station: Station, after: State, arrived: StoredReading, ahead: Outlook) -> tuple[Decision, ...]:
    start = station.rule.propose_from
    by_stage = after.stage if start and after.stage >= max(start, Stage.EVACUATION) else Stage.CALM
    early = ahead.rules if station.rule.early is Mode.PROPOSE else ()
    by_early = evacuation(early, ahead.crossing)
    stage = max(by_stage, by_early)
    if stage == after.proposed:
        return ()
    act = Act.LIFT if stage is Stage.CALM else Act.CHANGE if after.proposed else Act.WARN
    rule = early[0] if early and by_early > by_stage else LEVEL
    return (
        Decision(
            act,
            stage or after.stage,
            after.proposed,
            arrived,
            None,
            Mode.PROPOSE,
            rule,
            replace(ahead, rules=early),
        ),
    )


def _rain_step(station: Station, state: State, arrived: StoredReading) -> tuple[State, tuple[Decision, ...]]:
    reading = arrived.reading
    wrong = wrong_time(station, reading, arrived.received)
    if wrong is None:
        fallen, wrong = rain.add(state.rain, reading, station.quality)
        state = replace(state, rain=fallen)
    if wrong is not None:
        return replace(state, marks=(*state.marks, (reading.time, wrong))[-MARKS:]), ()
    assert state.rain is not None
    decisions = _rainfall(station, state, state.rain, arrived)
    # Of water that is not measured any more rain says nothing: where there are thresholds, only a level is news.
    return (state if station.levels else replace(state, good=arrived.received)), decisions


def _rainfall(
    station: Station, state: State, known: rain.Rain, arrived: StoredReading
) -> tuple[Decision, ...]:
    levels = station.rule.rain
    proposes = station.rule.rainfall is Mode.PROPOSE
    said = state.rain_proposed if proposes else state.rain_said
    if not levels and said is Grade.NONE:
        return ()
    fallen = rain.sums(known, known.newest)
    risen, kept = rain.reached(levels, fallen), rain.reached(levels, fallen, lowered=True)
    grade = risen.grade if risen else Grade.NONE
    if grade < said:
        grade = min(said, kept.grade if kept else Grade.NONE)
    issued = state.rain_issued
    if grade > said:
        act = Act.CHANGE if said else Act.WARN
    elif not proposes and issued and _since(issued, arrived) >= RENEW and grade:
        act = Act.CHANGE
    elif grade == said or (issued and _since(issued, arrived) < timedelta(minutes=station.rule.quiet_min)):
        return ()
    else:
        act = Act.CHANGE if grade else Act.LIFT
    return (
        Decision(
            act,
            state.stage,
            state.stage,
            arrived,
            None if proposes else issued,
            Mode.PROPOSE if proposes else Mode.WARN,
            RAIN,
            grade=grade,
            grade_before=said,
            fallen=fallen,
            rain_level=risen or kept,
        ),
    )
