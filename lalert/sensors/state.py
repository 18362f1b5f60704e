"""What the rules remember of one station between two readings: enough to go on after a restart, and little, for there are many stations."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from lalert.sensors.rain import Rain
from lalert.sensors.settings import Grade
from lalert.sensors.station import Stage
from lalert.sensors.trend import Point

MARKS: Final = 20
"""So many of the newest doubtful readings are shown as such."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A message that a rule has sent, as its successor must refer to it."""

    sender: str
    identifier: str
    sent: str


@dataclass(frozen=True, slots=True)
class State:
    """A station's memory. New fields have defaults: what an older version has kept is read on.

    `stage` is what counts now, after holding and hysteresis; `waiting` the stages of the newest good readings; `last` the last good level;
    `still` since when it has been exactly the same; `recent` those of the last hour or so. `doubted` is the newest doubtful reading since `last` with the
    word for it, `doubtful` when those that agree with it began, `marks` the newest doubtful ones by device time.
    `issued` is the last message of the incident of the river that is open, if one is, `said` the stage that it told, `early` the rules besides the
    stage that it named; `proposed` the stage for which an evacuation is proposed, `early_proposed` the rules besides the stage that had it proposed. `rain`, `rain_issued`, `rain_said`: the same for rain.
    `heard` is when the newest reading was received, good or not, `good` when the newest one that was believed. `org` and `status` are those that the station had ("": kept by a version that did not
    write them down).
    """

    stage: Stage = Stage.CALM
    waiting: tuple[Stage, ...] = ()
    last: Point | None = None
    doubted: tuple[Point, str] | None = None
    issued: Issued | None = None
    said: Stage | None = None
    early: tuple[str, ...] = ()
    recent: tuple[Point, ...] = ()
    still: datetime | None = None
    doubtful: datetime | None = None
    marks: tuple[tuple[datetime, str], ...] = ()
    proposed: Stage = Stage.CALM
    early_proposed: tuple[str, ...] = ()
    rain: Rain | None = None
    rain_issued: Issued | None = None
    rain_said: Grade = Grade.NONE
    rain_proposed: Grade = Grade.NONE
    heard: datetime | None = None
    good: datetime | None = None
    org: str = ""
    status: str = ""
