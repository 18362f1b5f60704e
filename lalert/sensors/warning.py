"""The CAP alert that a decision becomes: Japanese first, English second, made from the decision alone, so that the same decision is the same document."""

from __future__ import annotations

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
from lalert.sensors.rules import RAIN, Act, Decision
from lalert.sensors.station import STAGES, Stage, Station
from lalert.sensors.words import Words, because, place, rain_parameters, words

VALID: Final = timedelta(hours=24)
"""How long a warning stands if nothing more is heard: a gauge that has gone silent must not look like a river that has gone down."""

GEOCODE: Final = "JISX0402"

MOVES: Final = {
    "ja": {1: "に到達", 0: "以上が継続", -1: "まで低下"},
    "en": {1: "reached", 0: "still at or above", -1: "fallen to"},
}

LIFTED: Final = {
    "ja": "水位は下がりましたが、流れの速い川や冠水した場所には近づかないでください。避難情報は市町村の発表を確かめてください。",
    "en": "The water has fallen, but keep away from fast rivers and flooded places. Check what your municipality says about evacuation.",
}


def warning(station: Station, decision: Decision) -> Alert:
    """Return the alert for a decision.

    Identifier and sent come from the reading, so that a decision made again after a crash is the same message, which the store knows already.
    """
    evidence = decision.evidence
    sent = evidence.received.astimezone(JST).replace(microsecond=0)
    measured = evidence.reading.time.astimezone(JST)
    return Alert(
        identifier=f"{station.id}-{measured:%Y%m%dT%H%M%S%f}-{_subject(decision)}",
        sender=station.sender,
        sent=sent,
        sent_text=sent.isoformat(timespec="seconds"),
        status=station.status,
        msg_type=MsgType(decision.act.value),
        scope=Scope.PUBLIC,
        source=f"lalert station {station.id}",
        note=_note(station, decision),
        references=_references(decision),
        infos=tuple(_info(station, decision, language) for language in ("ja", "en")),
    )


def _subject(decision: Decision) -> str:
    return f"rain-{int(decision.grade)}" if decision.rule == RAIN else decision.stage.name.lower()


def _references(decision: Decision) -> tuple[Reference, ...]:
    issued = decision.answers
    if issued is None:
        return ()
    return (Reference(issued.sender, issued.identifier, issued.sent, datetime.fromisoformat(issued.sent)),)


def _note(station: Station, decision: Decision) -> str | None:
    if decision.act is not Act.LIFT:
        return None
    if decision.rule == RAIN:
        return f"{station.name}の雨が弱まったため、雨量についての注意喚起を解除します。"
    if decision.before not in STAGES:
        return f"{_place(station, 'ja')}の増水のおそれが小さくなったため、注意喚起を解除します。"
    return f"{_place(station, 'ja')}の水位が{STAGES[Stage.CAUTION].name}を下回ったため、水位についての注意喚起を解除します。"


def _info(station: Station, decision: Decision, language: str) -> Info:
    japanese = language == "ja"
    evidence = decision.evidence
    sent = evidence.received.astimezone(JST).replace(microsecond=0)
    said = words(station, decision, language) or _of_stage(station, decision, language)
    return Info(
        language=language,
        categories=("Met",),
        event=said.event,
        response_types=(said.response,),
        urgency=said.urgency,
        severity=said.severity,
        certainty=said.certainty,
        effective=sent,
        onset=evidence.reading.time.astimezone(JST).replace(microsecond=0),
        expires=sent + VALID,
        sender_name=(station.sender_name if japanese else station.sender_name_en)
        or station.sender_name
        or None,
        contact=station.contact or None,
        headline=said.headline,
        description=said.description,
        instruction=said.instruction,
        parameters=_parameters(station, decision),
        areas=(_area(station, language),),
    )


def _of_stage(station: Station, decision: Decision, language: str) -> Words:
    japanese = language == "ja"
    text = STAGES.get(decision.stage)
    return Words(
        "河川水位" if japanese else "River level",
        _headline(station, decision, language),
        _description(station, decision, language),
        (text.advice if japanese else text.advice_en) if text else LIFTED[language],
        text.severity if text else Severity.MINOR,
        text.urgency if text else Urgency.PAST,
        Certainty.OBSERVED,
        "AllClear" if text is None else "Monitor" if decision.stage is Stage.CAUTION else "Prepare",
    )


def _headline(station: Station, decision: Decision, language: str) -> str:
    where, text = _place(station, language), STAGES.get(decision.stage)
    if language == "ja":
        if text is None and decision.before not in STAGES:
            return f"{where} 増水のおそれが小さくなり、注意喚起を解除"
        if text is None:
            return f"{where} {STAGES[Stage.CAUTION].name}を下回り、注意喚起を解除"
        return f"{where} {text.name}{MOVES['ja'][_move(decision)]}"
    if text is None:
        return f"{where}: river level warning lifted"
    return f"{where}: {MOVES['en'][_move(decision)]} {text.name_en}"


def _move(decision: Decision) -> int:
    """Return 1 for a rise, -1 for a fall, 0 for a warning that is said again because it still holds."""
    return (decision.stage > decision.before) - (decision.stage < decision.before)


def _description(station: Station, decision: Decision, language: str) -> str:
    reading = decision.evidence.reading
    assert reading.level_m is not None
    measured = reading.time.astimezone(JST)
    level = station.levels.get(decision.stage)
    text = STAGES.get(decision.stage)
    if language == "ja":
        named = f"({text.name} {level:.2f}m)" if text and level is not None else ""
        return f"{measured.month}月{measured.day}日{measured.hour}時{measured.minute:02d}分の観測水位は{reading.level_m:.2f}mです{named}。{because(decision, 0)}自動観測による速報値です。"
    named = f" ({text.name_en} {level:.2f} m)" if text and level is not None else ""
    return f"Observed {reading.level_m:.2f} m at {measured:%H:%M} JST on {measured:%d %B}{named}. {because(decision, 1)}Automatic observation, not yet verified."


def _parameters(station: Station, decision: Decision) -> tuple[NamedValue, ...]:
    reading = decision.evidence.reading
    of_what = (
        [("kind", "rain"), *rain_parameters(decision)]
        if reading.level_m is None
        else [
            ("kind", "river-level"),
            ("stage", decision.stage.name.lower()),
            ("level_m", f"{reading.level_m:.2f}"),
        ]
    )
    named = [
        *of_what,
        ("station", station.id),
        ("observed", reading.time.astimezone(JST).isoformat(timespec="seconds")),
        ("received", decision.evidence.received.astimezone(JST).isoformat(timespec="milliseconds")),
    ]
    if decision.rule != RAIN and decision.stage in STAGES:
        # 相当: what the level corresponds to. It is not the mayor's 警戒レベル, which only an order carries.
        named.append(("警戒レベル相当", str(int(decision.stage))))
        # A threshold that was taken away meanwhile is no longer named.
        if decision.stage in station.levels:
            named.append(("threshold_m", f"{station.levels[decision.stage]:.2f}"))
    return tuple(NamedValue(name, value) for name, value in named)


def _area(station: Station, language: str) -> Area:
    described = (station.area if language == "ja" else station.area_en) or _place(station, language)
    if station.codes:
        return Area(described, geocodes=tuple(NamedValue(GEOCODE, code) for code in station.codes))
    return Area(described, circles=(Circle(station.lon, station.lat, 5_000.0),))


def _place(station: Station, language: str) -> str:
    return place(station, 0 if language == "ja" else 1)
