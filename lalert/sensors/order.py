"""The evacuation order that a decision would have an officer give, as a CAP alert in Japanese and English. Pure; nothing here is ever sent by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from lalert.model import (
    JST,
    Alert,
    Area,
    Certainty,
    Circle,
    Info,
    MsgType,
    NamedValue,
    Reference,
    Scope,
    Severity,
    Urgency,
)
from lalert.sensors.rules import RAIN, Decision
from lalert.sensors.settings import Grade
from lalert.sensors.station import STAGES, Station
from lalert.sensors.words import WINDOWS, because, place

VALID: Final = timedelta(hours=24)
"""How long an order stands if nothing more is said of it."""


@dataclass(frozen=True, slots=True)
class Order:
    """How one of the mayor's levels is spoken of: (Japanese, English)."""

    name: tuple[str, str]
    danger: tuple[str, str]
    act: tuple[str, str]
    severity: Severity
    urgency: Urgency
    response: str


ORDERS: Final[Mapping[int, Order]] = {
    3: Order(
        ("高齢者等避難", "Evacuation of the elderly"),
        ("災害が発生するおそれがあるため", "A disaster is possible"),
        (
            "危険な場所から高齢者や避難に時間のかかる方は避難してください。それ以外の方も、避難の準備をし、危険を感じたら早めに避難してください。",
            "Elderly people and all who need time: leave dangerous places. Everybody else: get ready, and leave early if you feel in danger.",
        ),
        Severity.SEVERE,
        Urgency.EXPECTED,
        "Evacuate",
    ),
    4: Order(
        ("避難指示", "Evacuation order"),
        ("災害が発生するおそれが高いため", "A disaster is likely"),
        (
            "危険な場所から全員避難してください。外に出ることが危険な場合は、近くの安全な建物や、建物の高い階へ移動してください。",
            "Everybody: leave dangerous places. If the way is dangerous, go to a safe building nearby or to an upper floor.",
        ),
        Severity.EXTREME,
        Urgency.IMMEDIATE,
        "Evacuate",
    ),
    5: Order(
        ("緊急安全確保", "Emergency safety measures"),
        (
            "災害がすでに発生しているか、発生が切迫しているため",
            "A disaster is happening or about to happen",
        ),
        (
            "命の危険が迫っています。直ちに安全を確保してください。避難所へ向かうことが危険な場合は、崖や川から離れた、少しでも高い所へ移動してください。",
            "Your life is in danger. Get to safety at once. If the way to a shelter is dangerous, go as high as you can, away from slopes and rivers.",
        ),
        Severity.EXTREME,
        Urgency.IMMEDIATE,
        "Shelter",
    ),
}
RAIN_LEVELS: Final[Mapping[Grade, int]] = {Grade.HEAVY: 3, Grade.SEVERE: 4}


def level_of(decision: Decision) -> int:
    """Return the level that a decision would have ordered, 0 for none: 避難判断水位 3, 氾濫危険水位 4, 氾濫発生 5; heavy rain 3, severe rain 4."""
    if decision.rule == RAIN:
        return RAIN_LEVELS.get(decision.grade, 0)
    return int(decision.stage) if int(decision.stage) in ORDERS else 0


def draft(
    station: Station, decision: Decision, identifier: str, continues: tuple[Reference, ...] = ()
) -> Alert:
    """Return the order as it would be given at the moment of the decision; one that `continues` another is its Update. Raises KeyError without a level."""
    level = level_of(decision)
    made = decision.evidence.received.astimezone(JST).replace(microsecond=0)
    infos = tuple(_info(station, decision, ORDERS[level], level, made, i) for i in (0, 1))
    return Alert(
        identifier=identifier,
        sender=station.sender,
        sent=made,
        sent_text=made.isoformat(timespec="seconds"),
        status=station.status,
        msg_type=MsgType.UPDATE if continues else MsgType.ALERT,
        scope=Scope.PUBLIC,
        source=f"lalert station {station.id}",
        references=continues,
        infos=infos,
    )


def given(order: Alert, decided: datetime) -> Alert:
    """Return a draft as an officer gives it, who decided so at that time: always the same document for the same time."""
    sent = decided.astimezone(JST).replace(microsecond=0)
    infos = tuple(replace(info, effective=sent, expires=sent + VALID) for info in order.infos)
    return replace(order, sent=sent, sent_text=sent.isoformat(timespec="seconds"), infos=infos)


def _info(station: Station, decision: Decision, order: Order, level: int, made: datetime, i: int) -> Info:
    area = _area(station, i)
    name = order.name[i]
    reading = decision.evidence.reading
    named = [
        ("jp:kind", "evacuation"),
        ("警戒レベル", str(level)),
        ("jp:hazard", "landslide" if decision.rule == RAIN else "flood"),
        ("station", station.id),
        ("observed", reading.time.astimezone(JST).isoformat(timespec="seconds")),
        ("received", decision.evidence.received.astimezone(JST).isoformat(timespec="milliseconds")),
    ]
    if reading.level_m is not None:
        named.append(("level_m", f"{reading.level_m:.2f}"))
    if i == 0:
        headline = f"{area.area_desc}に{name}"
        description = f"{_cause(station, decision, i)}{order.danger[0]}、{area.area_desc}に警戒レベル{level}{name}を発令しました。"
    else:
        headline = f"{name} for {area.area_desc}"
        description = f"{_cause(station, decision, i)}{order.danger[1]}: level {level}, {name[0].lower()}{name[1:]}, for {area.area_desc}."
    return Info(
        language=("ja", "en")[i],
        categories=("Safety",),
        event=name,
        response_types=(order.response,),
        urgency=order.urgency,
        severity=order.severity,
        certainty=Certainty.LIKELY,
        effective=made,
        expires=made + VALID,
        sender_name=(station.sender_name, station.sender_name_en)[i] or station.sender_name or None,
        contact=station.contact or None,
        headline=headline,
        description=description,
        instruction=order.act[i],
        parameters=tuple(NamedValue(*pair) for pair in named),
        areas=(area,),
    )


def _cause(station: Station, decision: Decision, i: int) -> str:
    if decision.rule == RAIN:
        return _rain(station, decision, i)
    reading = decision.evidence.reading
    assert reading.level_m is not None
    at = reading.time.astimezone(JST)
    reached = station.stage_at(reading.level_m)
    text, level = STAGES.get(reached), station.levels.get(reached)
    where = place(station, i)
    if i == 0:
        named = f"{text.name}({level:.2f}m)に達しました" if text and level is not None else "上昇しています"
        return f"{where}の水位が{at.hour}時{at.minute:02d}分に{reading.level_m:.2f}mとなり、{named}。{because(decision, i)}"
    named = f", above its {text.name_en} ({level:.2f} m)" if text and level is not None else ""
    return f"{where} stood at {reading.level_m:.2f} m at {at:%H:%M} JST{named}. {because(decision, i)}"


def _rain(station: Station, decision: Decision, i: int) -> str:
    found = decision.rain_level
    name = (station.name, station.name_en or station.name)[i]
    if found is None:
        return (f"{name}で大雨が続いています。", f"Heavy rain at {name}. ")[i]
    fallen, window = decision.fallen.get(found.window, found.mm), WINDOWS[found.window][i]
    if i == 0:
        return f"{name}で{window}に{fallen:.0f}mmの雨が降りました。"
    return f"{name}: {fallen:.0f} mm of rain {'' if found.window == 'total' else 'in '}{window}. "


def _area(station: Station, i: int) -> Area:
    described = (station.area, station.area_en)[i] or place(station, i)
    if station.codes:
        return Area(described, geocodes=tuple(NamedValue("JISX0402", code) for code in station.codes))
    return Area(described, circles=(Circle(station.lon, station.lat, 5_000.0),))
