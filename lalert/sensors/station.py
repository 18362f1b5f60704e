"""What is known of a gauge: where it stands, for whom it speaks, and from which level on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from lalert.model import Severity, Status, Urgency
from lalert.sensors.settings import QUALITY, RULES, Quality, Rules
from lalert.sensors.upkeep import Datum, Maintenance, Post


class Stage(IntEnum):
    """The designated water levels of a Japanese river, rising (水防法; the names are those of the river office)."""

    CALM = 0
    STANDBY = 1
    CAUTION = 2
    EVACUATION = 3
    DANGER = 4
    FLOODING = 5


@dataclass(frozen=True, slots=True)
class StageText:
    """How a stage is spoken of, and how grave it is in CAP's words. `headline` of a stage that goes out has {river} and {name}."""

    name: str
    name_en: str
    severity: Severity
    urgency: Urgency
    advice: str
    advice_en: str


STAGES: Final[Mapping[Stage, StageText]] = {
    Stage.CAUTION: StageText(
        "氾濫注意水位",
        "flood caution level",
        Severity.MODERATE,
        Urgency.FUTURE,
        "川に近づかないでください。今後の水位と市町村からの情報に注意してください。",
        "Keep away from the river. Watch the water level and what your municipality says.",
    ),
    Stage.EVACUATION: StageText(
        "避難判断水位",
        "evacuation decision level",
        Severity.SEVERE,
        Urgency.EXPECTED,
        "避難に時間のかかる方は、早めの避難を始めてください。市町村からの避難情報を確かめてください。",
        "If you need time to leave, start now. Check what your municipality orders.",
    ),
    Stage.DANGER: StageText(
        "氾濫危険水位",
        "flood danger level",
        Severity.EXTREME,
        Urgency.IMMEDIATE,
        "いつ氾濫してもおかしくない水位です。市町村からの避難情報に従い、ただちに身の安全を確保してください。",
        "The river may overflow at any moment. Follow your municipality's orders and get to safety now.",
    ),
    Stage.FLOODING: StageText(
        "氾濫開始相当水位",
        "overflow level",
        Severity.EXTREME,
        Urgency.IMMEDIATE,
        "氾濫しているおそれがあります。命を守るため、ただちに安全な場所へ移動してください。",
        "The river may be overflowing. Move to a safe place at once to save your life.",
    ),
}
"""The stages that warn. 水防団待機水位 concerns the flood-fighting corps only, so it is shown and warns nobody."""


@dataclass(frozen=True, slots=True)
class Station:
    """A gauge. Levels are metres above the station's own zero, rising with the stage; (lon, lat) in degrees.

    `codes` are the municipalities that its warnings concern. One with a `source` has no device of its own: it judges by the readings of that station, by
    its own thresholds and for its own organisation. `shared` are the organisations that may do so.
    """

    id: str
    name: str
    org: str
    sender: str
    codes: tuple[str, ...]
    lon: float
    lat: float
    river: str = ""
    name_en: str = ""
    river_en: str = ""
    area: str = ""
    area_en: str = ""
    sender_name: str = ""
    sender_name_en: str = ""
    contact: str = ""
    levels: Mapping[Stage, float] = field(default_factory=dict)
    rule: Rules = RULES
    quality: Quality = QUALITY
    status: Status = Status.ACTUAL
    source: str = ""
    shared: tuple[str, ...] = ()
    maintenance: Maintenance | None = None
    datum: tuple[Datum, ...] = ()
    posts: tuple[Post, ...] = ()

    def hears(self, other: Station) -> bool:
        """Say whether it judges by the readings of another: which it has named, whose organisation is its own or shares it, and which is no drill's."""
        named = self.source == other.id and (self.org == other.org or self.org in other.shared)
        return named and self.believes(other.status)

    def believes(self, status: str) -> bool:
        """Say whether what is measured at a station of this status counts here: of the real water a gauge that is tried out says nothing."""
        return self.status is not Status.ACTUAL or status in ("", Status.ACTUAL)

    def stage_at(self, level_m: float, lowered_by: float = 0.0) -> Stage:
        """Return the highest stage whose level, lowered by so many metres, the water has reached."""
        reached = [stage for stage, level in self.levels.items() if level_m >= level - lowered_by]
        return max(reached, default=Stage.CALM)
