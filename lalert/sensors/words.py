"""What is said when rain, a quick rise, a forecast or rain upstream decides, of which no stage is the cause; Japanese and English. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lalert.model import Certainty, Severity, Urgency
from lalert.sensors.combine import FORECAST, RISE, UPSTREAM
from lalert.sensors.rules import RAIN, Act, Decision
from lalert.sensors.settings import Grade, Window
from lalert.sensors.station import STAGES, Stage, Station


@dataclass(frozen=True, slots=True)
class Words:
    """How a decision is spoken of in one language, and how grave it is in CAP's words."""

    event: str
    headline: str
    description: str
    instruction: str
    severity: Severity
    urgency: Urgency
    certainty: Certainty
    response: str


WINDOWS: Final[Mapping[Window, tuple[str, str, str]]] = {
    Window.TEN_MINUTES: ("10分間", "10 minutes", "rain_10min_mm"),
    Window.HOUR: ("1時間", "1 hour", "rain_1h_mm"),
    Window.DAY: ("24時間", "24 hours", "rain_24h_mm"),
    Window.TOTAL: ("降り始めから", "since it began", "rain_total_mm"),
}
"""Window -> Japanese, English, name of the parameter."""

EARLY: Final[Mapping[str, tuple[str, str]]] = {
    RISE: ("水位が急上昇", "water rising quickly"),
    FORECAST: ("このまま上昇すると{name}に達する見込み", "expected to reach {name_en} at this rate"),
    UPSTREAM: ("上流で大雨、増水に注意", "heavy rain upstream, beware of rising water"),
}
BEWARE: Final = (
    "川の水が急に増えるおそれがあります。川や水路に近づかず、今後の水位と市町村からの情報に注意してください。",
    "The river may rise quickly. Keep away from rivers and channels. Watch the water level and what your municipality says.",
)
RAINING: Final = {
    Grade.HEAVY: (
        "川の増水や低い土地の浸水に注意し、気象情報と市町村からの情報を確かめてください。",
        "Beware of rising rivers and of flooding in low places. Check weather news and what your municipality says.",
    ),
    Grade.SEVERE: (
        "土砂災害や浸水のおそれがあります。危険な場所から離れ、市町村からの避難情報に従ってください。",
        "Landslides and flooding are possible. Leave dangerous places and follow your municipality's orders.",
    ),
}
AFTER_RAIN: Final = (
    "雨は弱まりましたが、川の増水や土砂災害はこれから起こることもあります。避難情報は市町村の発表を確かめてください。",
    "The rain has eased, but rivers may still rise and slopes may still slide. Check what your municipality says about evacuation.",
)


def words(station: Station, decision: Decision, language: str) -> Words | None:
    """Return what is said of a decision, or None where the stage of the river is what counts."""
    if decision.rule == RAIN:
        return _rain(station, decision, 0 if language == "ja" else 1)
    if decision.act is Act.LIFT or decision.stage in STAGES:
        return None
    return _early(station, decision, 0 if language == "ja" else 1)


def _early(station: Station, decision: Decision, i: int) -> Words:
    ahead = decision.outlook.crossing
    name = STAGES[Stage(ahead.stage)] if ahead else STAGES[Stage.CAUTION]
    said = EARLY[decision.rule][i].format(name=name.name, name_en=name.name_en)
    level = decision.evidence.reading.level_m
    observed = (f"観測水位は{level:.2f}mです。", f"Observed {level:.2f} m. ")[i]
    closing = ("自動観測による速報値です。", "Automatic observation, not yet verified.")[i]
    return Words(
        ("河川水位", "River level")[i],
        f"{place(station, i)}{(' ', ': ')[i]}{said}",
        f"{observed}{because(decision, i)}{closing}",
        BEWARE[i],
        Severity.MODERATE,
        Urgency.EXPECTED,
        Certainty.LIKELY if decision.rule == FORECAST else Certainty.OBSERVED,
        "Monitor",
    )


def because(decision: Decision, i: int) -> str:
    """Return sentences on what the last hour says besides the stage, "" if nothing: 0 Japanese, 1 English. A forecast is called an estimate."""
    found, ahead = decision.outlook, decision.outlook.crossing
    said: list[str] = []
    if found.rise is not None:
        metres, minutes = found.rise
        said.append(
            (
                f"過去{minutes:.0f}分で{metres:.2f}m上昇しました。",
                f"Risen {metres:.2f} m in {minutes:.0f} minutes. ",
            )[i]
        )
    if ahead is not None:
        name = STAGES[Stage(ahead.stage)]
        said.append(
            (
                f"最近の上昇が続いた場合、約{ahead.minutes:.0f}分で{name.name}({ahead.level_m:.2f}m)に達する見込みです(推定)。",
                f"At its present rate it would reach {name.name_en} ({ahead.level_m:.2f} m) in about {ahead.minutes:.0f} minutes (estimate). ",
            )[i]
        )
    if found.upstream is not None:
        mm = found.upstream[1]
        said.append((f"上流の雨量は{mm:.0f}mmです。", f"Rain upstream: {mm:.0f} mm. ")[i])
    return "".join(said)


def _rain(station: Station, decision: Decision, i: int) -> Words:
    fallen = "、".join if i == 0 else ", ".join
    sums = fallen(
        f"{WINDOWS[window][i]}{' ' * i}{mm:.0f}{' ' * i}mm" for window, mm in decision.fallen.items()
    )
    description = (
        f"観測雨量は{sums}です。自動観測による速報値です。",
        f"Rain measured: {sums}. Automatic observation, not yet verified.",
    )[i]
    level = decision.rain_level
    event = ("雨量", "Rain")[i]
    if decision.act is Act.LIFT or level is None:
        headline = (
            f"{station.name} 大雨が弱まり、注意喚起を解除",
            f"{_name(station, 1)}: rain warning lifted",
        )[i]
        return Words(
            event,
            headline,
            description,
            AFTER_RAIN[i],
            Severity.MINOR,
            Urgency.PAST,
            Certainty.OBSERVED,
            "AllClear",
        )
    mm = decision.fallen[level.window]
    headline = (
        f"{station.name} {WINDOWS[level.window][0]}の雨量{mm:.0f}mm",
        f"{_name(station, 1)}: {mm:.0f} mm of rain, {WINDOWS[level.window][1]}",
    )[i]
    severe = decision.grade is Grade.SEVERE
    return Words(
        event,
        headline,
        description,
        RAINING[decision.grade][i],
        Severity.SEVERE if severe else Severity.MODERATE,
        Urgency.EXPECTED,
        Certainty.OBSERVED,
        "Prepare" if severe else "Monitor",
    )


def rain_parameters(decision: Decision) -> list[tuple[str, str]]:
    """Return the sums as CAP parameters."""
    return [(WINDOWS[window][2], f"{mm:.1f}") for window, mm in decision.fallen.items()]


def place(station: Station, i: int) -> str:
    """Return the river and the name of the gauge: 0 Japanese, 1 English."""
    if i == 0:
        return f"{station.river} {station.name}".strip()
    return f"{station.river_en or station.river} at {_name(station, 1)}".removeprefix(" at ")


def _name(station: Station, i: int) -> str:
    return (station.name_en or station.name) if i else station.name
