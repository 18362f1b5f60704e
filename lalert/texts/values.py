"""What a template knows of an alert: what the hub itself found out, in words of one language, and the sender's own words as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from lalert import cap
from lalert.matching import declared_codes
from lalert.model import JST, SEVERITY_RANK, Alert, Entry, Info, MsgType, PlaceName, Status
from lalert.texts.languages import one_text
from lalert.texts.plain import readable

SHELTER_STATES: Final = tuple(state.value for state in cap.ShelterState)
MAX_AREA_NAMES: Final = 30
MAX_THINGS: Final = 30
"""Shelters or stations that a template is told of."""
MAX_VALUE: Final = 2_000
"""Characters of one value: a longer one ends with an ellipsis. The alert's own words follow the template's in full."""

KNOWS: Final[Mapping[str, frozenset[str]]] = dict.fromkeys(
    (
        "areas", "channel", "correction", "drill", "equivalent", "event", "hazard", "headline", "instruction", "issued", "issuer", "kind",
        "kind_name", "level", "lifted", "message", "reason", "until", "written",
    ),
    frozenset[str](),
) | {"shelters": frozenset({"name", "kana", "state", "state_name"}), "rivers": frozenset({"station", "level_m", "stage"})}  # fmt: skip
"""The names of all values, and the fields of the things in a list (docs/texts.md)."""


class Language(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of languages.toml: how a language writes names and times, and the words that stand for what an alert gives as a code."""

    name: str
    checked: bool
    """Whether somebody who grew up with it has read every template."""
    names: Literal["written", "kana", "latin"]
    """Places as the sender writes them, with their readings, or in Latin letters."""
    time: str
    comma: str
    more: str
    update: str
    correction: str
    error: str
    kinds: dict[str, str]
    hazards: dict[str, str]
    shelter_states: dict[str, str]
    drill: dict[str, str] = {}
    """What goes behind the mark of a drill: most people know neither 訓練 nor EXERCISE."""

    def moment(self, when: datetime) -> str:
        """Return a time as clocks in Japan show it."""
        local = when.astimezone(JST)
        return self.time.format(
            year=local.year, month=local.month, day=local.day, hour=local.hour, minute=local.minute
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """A shelter, or the level of a river, as a template sees it."""

    name: str = ""
    kana: str = ""
    state: str = ""
    state_name: str = ""
    station: str = ""
    level_m: str = ""
    stage: str = ""


@dataclass(frozen=True, slots=True)
class Matter:
    """One thing that an alert says: what holds, or no longer holds, in some of its areas."""

    kind: str
    level: int | None
    lifted: bool
    infos: tuple[Info, ...]

    @property
    def rank(self) -> tuple[bool, int, int]:
        """Say how important it is to know of it first."""
        gravest = max((SEVERITY_RANK[info.severity] for info in self.infos), default=0)
        return not self.lifted, self.level or 0, gravest


def matters(entry: Entry) -> list[Matter]:
    """Return what an alert says, told apart by level and by whether it is over, the gravest first; of one without infos one matter of no kind."""
    alert = entry.alert
    told = one_text(alert.infos, None)
    if not told:
        return [Matter("", None, False, ())]
    found: dict[tuple[int | None, bool], list[Info]] = {}
    for info in told:
        found.setdefault((cap.level(replace(alert, infos=(info,))), cap.lifts(info)), []).append(info)
    said = [Matter(entry.facts.kind, level, lifted, tuple(infos)) for (level, lifted), infos in found.items()]
    return sorted(said, key=lambda matter: matter.rank, reverse=True)


def values(entry: Entry, matter: Matter, language: Language, channel: str, *, alone: bool) -> dict[str, Any]:
    """Return what a template is told of a matter; `alone` where the alert has no other."""
    alert, infos = entry.alert, matter.infos
    info = max(infos, key=lambda info: SEVERITY_RANK[info.severity], default=None)
    areas, written = _areas(entry, matter, language, alone)
    return {
        "areas": areas,
        "written": written,
        "channel": channel,
        "correction": entry.correction,
        "drill": alert.status not in (Status.ACTUAL, Status.SYSTEM),
        "equivalent": cap.equivalent_level(replace(alert, infos=infos)),
        "event": _line(info.event if info else ""),
        "hazard": language.hazards.get(_hazard(infos), ""),
        "headline": _line(info.headline or "" if info else ""),
        "instruction": _line(info.instruction or "" if info else ""),
        "issued": language.moment(alert.sent),
        "issuer": _line((info.sender_name if info else None) or alert.sender),
        "kind": matter.kind,
        "kind_name": language.kinds.get(matter.kind) or language.kinds["other"],
        "level": matter.level,
        "lifted": matter.lifted,
        "message": alert.msg_type.value.lower(),
        "reason": _line(alert.note or "") if alert.msg_type in (MsgType.CANCEL, MsgType.ERROR) else "",
        "rivers": _rivers(replace(alert, infos=infos)),
        "shelters": _shelters(replace(alert, infos=infos), language),
        "until": _until(alert, matter, language),
    }


def _line(text: str) -> str:
    plain = " ".join(readable(text).split())
    return plain if len(plain) <= MAX_VALUE else plain[: MAX_VALUE - 1] + "…"


def _until(alert: Alert, matter: Matter, language: Language) -> str:
    if matter.lifted or alert.msg_type in (MsgType.CANCEL, MsgType.ERROR):
        return ""
    infos = matter.infos
    ends = [info.expires for info in infos]
    known = [end for end in ends if end is not None]
    return language.moment(max(known)) if known and len(known) == len(ends) else ""


def _hazard(infos: Iterable[Info]) -> str:
    said = (
        parameter.value
        for info in infos
        for parameter in info.parameters
        if parameter.name in {"jp:hazard", "hazard"}
    )
    return next(said, "")


def _areas(entry: Entry, matter: Matter, language: Language, alone: bool) -> tuple[str, str]:
    """Return the names of the places, and what the sender calls them, where that says more."""
    own = list(
        dict.fromkeys(name for info in matter.infos for area in info.areas if (name := _line(area.area_desc)))
    )
    places = _places(entry, matter, alone)
    if language.names == "written":
        return _joined(own or [place.name for place in places], language), ""
    if language.names == "kana":
        said = {**{place.name: place.kana for place in places}, **_kana(matter.infos)}
        names = own or [place.name for place in places]
        return _joined([_with(name, said.get(name, ""), "（{}）") for name in names], language), ""
    names = [_with(place.name_en, place.name, " ({})") for place in places if place.name_en]
    known = {place.name for place in places if place.name_en}
    rest = _joined([name for name in own if name not in known], language)
    return (_joined(names, language), rest) if names else (rest, "")


def _places(entry: Entry, matter: Matter, alone: bool) -> list[PlaceName]:
    codes = {code for info in matter.infos for area in info.areas for code in declared_codes(area)}
    if not codes and alone:
        return list(entry.facts.places)
    return [place for place in entry.facts.places if place.code in codes]


def _kana(infos: Iterable[Info]) -> dict[str, str]:
    return {_line(name): _line(kana) for info in infos for name, kana in cap.readings(info).items()}


def _with(name: str, also: str, form: str) -> str:
    return name + form.format(also) if also and also != name else name


def _joined(names: Sequence[str], language: Language) -> str:
    more = (
        [language.more.replace("{count}", str(len(names) - MAX_AREA_NAMES))]
        if len(names) > MAX_AREA_NAMES
        else []
    )
    return language.comma.join([*names[:MAX_AREA_NAMES], *more])[:MAX_VALUE]


def _rivers(alert: Alert) -> tuple[Shown, ...]:
    return tuple(
        Shown(station=_line(river.station), level_m=f"{river.level_m:g}", stage=river.stage or "")
        for river in cap.river_levels(alert)[:MAX_THINGS]
    )


def _shelters(alert: Alert, language: Language) -> tuple[Shown, ...]:
    def shown() -> Iterator[Shown]:
        for shelter in cap.shelters(alert)[:MAX_THINGS]:
            state = shelter.state.value
            yield Shown(
                name=_line(shelter.name),
                kana=_line(shelter.kana or ""),
                state=state,
                state_name=language.shelter_states[state],
            )

    return tuple(shown())
