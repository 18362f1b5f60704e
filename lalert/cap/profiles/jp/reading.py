"""What an alert means in Japan: its kind, the mayor's 警戒レベル, and what it says of orders, shelters, headquarters, damage, rivers and rain.

Everything here reads any alert, of whatever profile: what does not read is passed over (the rules of the profile report it), and
nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeVar

from lalert.cap.profiles.jp.kinds import (
    HAZARDS,
    KINDS,
    PREFIX,
    RAIN,
    STAGES,
    TOPICS,
    Field,
    amount,
    decimal,
    digit,
    position,
    record,
    time,
    whole,
)
from lalert.errors import InvalidCode
from lalert.geo import normalise_code
from lalert.model import Alert, Info, MsgType, NamedValue

_Value = TypeVar("_Value")

JIS_GEOCODE_NAMES: Final = frozenset(
    {
        "JIS X 0402",
        "JISX0402",
        "JIS_X_0402",
        "JIS-X-0402",
        "JIS X0402",
        "jisX0402",
        "jisx0402",
        "jp:jisX0402",
        "jp:municipality",
        "municipalityCode",
        "市区町村コード",
        "市町村コード",
        "全国地方公共団体コード",
        "標準地域コード",
        "地方公共団体コード",
    }
)
"""The valueNames of a <geocode> whose value is a municipality code of JIS X 0401/0402, of 5 digits or of 6 with the check digit."""

TOWN_GEOCODE_NAMES: Final = frozenset(
    {"jp:town", "町丁目コード", "大字町丁目コード", "町字コード", "ooAzaTyouTyouMoku"}
)
"""The valueNames of a <geocode> whose value is a 町丁目 code: 12 digits, of which the first five are the municipality's without check digit."""

JMA_CITY_GEOCODE_NAMES: Final = frozenset(
    {
        "jp:jmaCity",
        "気象・地震・火山情報／市町村等",
        "AreaInformationCity",
        "市町村等コード",
        "class20",
        "class20s",
    }
)
"""The valueNames of a <geocode> whose value is JMA's code of a 市町村等: 7 digits, the first five the municipality's without check digit.

They are the codeType of JMA's telegrams, the name of its table of codes, and the names in its JSON; a part of a municipality
(0120601, 釧路市釧路) counts as the whole.
"""

PLACE_GEOCODE_NAMES: Final = JIS_GEOCODE_NAMES | TOWN_GEOCODE_NAMES | JMA_CITY_GEOCODE_NAMES
"""All valueNames by which `declared_code` finds a place in Japan."""

LEVEL_NAMES: Final = frozenset({"警戒レベル", "jp:alertLevel", "alertLevel", "level", "Level"})
"""The valueNames of a <parameter> whose value is the mayor's 警戒レベル. 警戒レベル相当 is JMA's and another thing: never read as this."""

EQUIVALENT_NAMES: Final = frozenset(
    {"警戒レベル相当", "警戒レベル相当情報", "jp:alertLevelEquivalent", "alertLevelEquivalent"}
)
"""The valueNames of a <parameter> whose value is what an observation or a forecast of JMA corresponds to: nobody's order."""

LEVEL_OF_NAME: Final[Mapping[str, int]] = {"緊急安全確保": 5, "避難指示": 4, "高齢者等避難": 3}
"""What a mayor can issue (災害対策基本法, since 2021)."""

_REGION = re.compile(r"-(?:[a-z]{2}|\d{3})(?=-|$)")
_KIND = re.compile(r"[a-z][a-z0-9-]{0,31}")

# In this order: 避難所 is a shelter though 避難 is in it, and an order to evacuate because of rain is an evacuation.
_KINDS_BY_EVENT = (
    (
        "shelter",
        re.compile(r"避難所|避難場所|滞在施設|\bshelter (?:open|clos)|\bshelter information", re.IGNORECASE),
    ),
    ("headquarters", re.compile(r"(?:災害)?(?:対策|警戒)本部|\bdisaster headquarters", re.IGNORECASE)),
    ("evacuation", re.compile(r"避難|緊急安全確保|\bevacuat", re.IGNORECASE)),
    ("damage", re.compile(r"被害(?:情報|状況|報告|の状況)|\bdamage (?:report|information)", re.IGNORECASE)),
    ("river-level", re.compile(r"水位|氾濫|洪水|河川|\briver\b|\bflood", re.IGNORECASE)),
    ("rain", re.compile(r"雨|\brain", re.IGNORECASE)),
)


def level(alert: Alert) -> int | None:
    """Return the highest 警戒レベル (1 to 5) that a <parameter> of the alert gives, None if none does.

    Names are read generously, values strictly: one digit, half or full width. JMA's levels (相当) do not count, nor does what an
    info declares over (CAP 1.2, 3.2.2 <responseType> AllClear).
    """
    return max(_digits((info for info in alert.infos if not lifts(info)), LEVEL_NAMES), default=None)


def equivalent_level(alert: Alert) -> int | None:
    """Return the highest 警戒レベル相当 that a <parameter> gives: what an observation corresponds to, never an order."""
    return max(_digits((info for info in alert.infos if not lifts(info)), EQUIVALENT_NAMES), default=None)


def kind(alert: Alert) -> str:
    """Return the kind of information: what a `jp:kind` parameter says, else what the events and categories suggest.

    One of `KINDS`, or a sender's own word of the same form. Written without the prefix, only the words of `KINDS` count: alerts
    of other countries use the name `kind` for other things.
    """
    said = next((word for info in alert.infos if (word := said_kind(info))), None)
    if said:
        return said
    for name, pattern in _KINDS_BY_EVENT:
        if any(pattern.search(info.event) for info in alert.infos):
            return name
    return "weather" if any("Met" in info.categories for info in alert.infos) else "general"


def said_kind(info: Info) -> str | None:
    """Return the kind that an info itself names, None where it leaves that to be guessed."""
    for parameter in info.parameters:
        if parameter.name == "jp:kind" and kind_word(parameter.value):
            return parameter.value
        if parameter.name == "kind" and parameter.value in KINDS:
            return parameter.value
    return None


def kind_word(text: str) -> bool:
    """Say whether a text can name a kind: it becomes part of addresses."""
    return _KIND.fullmatch(text) is not None


def lifts(info: Info) -> bool:
    """Say whether an info declares something over (解除)."""
    return "AllClear" in info.response_types


# What each kind says


class ShelterState(StrEnum):
    """Whether people can go there."""

    OPEN = "open"
    FULL = "full"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Order:
    """What a mayor orders in one area or several, or lifts there; `codes` as `normalise_code` spells them."""

    level: int | None
    event: str
    lifted: bool
    areas: tuple[str, ...]
    codes: tuple[str, ...]
    hazard: str | None = None
    households: int | None = None
    people: int | None = None
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Shelter:
    """A shelter; `occupancy` and `capacity` in people, (lon, lat) in degrees, `type` one of `SHELTER_TYPES`."""

    name: str
    state: ShelterState
    kana: str | None = None
    occupancy: int | None = None
    capacity: int | None = None
    households: int | None = None
    lon: float | None = None
    lat: float | None = None
    address: str | None = None
    type: str | None = None
    since: datetime | None = None
    accessible: bool | None = None
    pets: bool | None = None


@dataclass(frozen=True, slots=True)
class Headquarters:
    """A headquarters that is at work, or dissolved; `since` when that was done."""

    name: str
    established: bool
    kana: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Damage:
    """A number of one of `DAMAGE_ITEMS`; None where it is not known yet, which is not none."""

    item: str
    count: int | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class RiverLevel:
    """A water level of a station in metres above its zero; `stage` one of `STAGES`."""

    station: str
    observed: datetime
    level_m: float
    stage: str | None = None
    threshold_m: float | None = None
    equivalent: int | None = None


@dataclass(frozen=True, slots=True)
class Rainfall:
    """Rain at a station in millimetres, by period: the names of `RAIN`."""

    station: str
    observed: datetime
    amounts_mm: Mapping[str, float]


def orders(alert: Alert) -> tuple[Order, ...]:
    """Return the evacuation orders of an alert, one for each info in one language; a Cancel lifts all that it names."""
    if kind(alert) != "evacuation" or alert.msg_type in (MsgType.ACK, MsgType.ERROR):
        return ()
    return tuple(_order(info, alert.msg_type) for info in _told(alert))


def shelters(alert: Alert) -> tuple[Shelter, ...]:
    """Return the shelters that an alert speaks of."""
    return tuple(_shelter(said) for said in _records(alert, "shelter"))


def headquarters(alert: Alert) -> tuple[Headquarters, ...]:
    """Return the headquarters that an alert speaks of."""
    return tuple(
        Headquarters(
            said["name"], said["state"] == "established", said.get("kana"), _read(time, said, "since")
        )
        for said in _records(alert, "headquarters")
    )


def damages(alert: Alert) -> tuple[Damage, ...]:
    """Return the numbers of a damage report."""
    return tuple(
        Damage(said["item"], whole(said["count"]), said.get("note")) for said in _records(alert, "damage")
    )


def as_of(alert: Alert) -> datetime | None:
    """Return the moment for which a report's numbers hold."""
    return next((when for info in _told(alert) if (when := _read(time, named(info), "as_of"))), None)


def topic(alert: Alert) -> str | None:
    """Return what a notice is about, one of `TOPICS`."""
    said = (named(info).get("topic") for info in _told(alert))
    return next((word for word in said if _known(TOPICS, word)), None)


def river_levels(alert: Alert) -> tuple[RiverLevel, ...]:
    """Return the water levels that an alert tells, one for each info that has one."""
    return tuple(found for info in _told(alert) if (found := _river_level(info)))


def rainfalls(alert: Alert) -> tuple[Rainfall, ...]:
    """Return the amounts of rain that an alert tells, one for each info that has one."""
    return tuple(found for info in _told(alert) if (found := _rainfall(info)))


def readings(info: Info) -> Mapping[str, str]:
    """Return how the names of areas are read, as the sender says: areaDesc -> kana."""
    pairs = (p.value.partition("=") for p in info.parameters if bare(p.name) == "kana")
    return {name.strip(): kana.strip() for name, _, kana in pairs if name.strip() and kana.strip()}


def bare(name: str) -> str:
    """Return a parameter's name without the prefix of the profile."""
    return name.removeprefix(PREFIX)


def named(info: Info) -> Mapping[str, str]:
    """Return an info's parameters by their names without the prefix; of several with one name the first."""
    found: dict[str, str] = {}
    for parameter in info.parameters:
        found.setdefault(bare(parameter.name), parameter.value)
    return found


def declared_code(geocode: NamedValue) -> str | None:
    """Return the municipality or prefecture code that a geocode names, as `normalise_code` spells it, or that its 町丁目 or 市町村等 of JMA lies in.

    None for a geocode of another scheme. Raises InvalidCode for what should be such a code and is none.
    """
    if geocode.name in JIS_GEOCODE_NAMES:
        return normalise_code(geocode.value)
    if geocode.name in JMA_CITY_GEOCODE_NAMES:
        return _of_jma(geocode.value)
    return town_municipality(geocode.value) if geocode.name in TOWN_GEOCODE_NAMES else None


def town_municipality(code: str) -> str:
    """Return the 6-digit code of the municipality that a 12-digit 町丁目 code lies in; raises InvalidCode for what is no such code."""
    if len(code) != 12 or not (code.isascii() and code.isdigit()):
        raise InvalidCode(f"{code[:20]!r} is no 町丁目 code: write 12 digits")
    return normalise_code(code[:5])


def _of_jma(code: str) -> str:
    if len(code) != 7 or not (code.isascii() and code.isdigit()):
        raise InvalidCode(f"{code[:20]!r} is no code of a 市町村等: write 7 digits")
    return normalise_code(code[:5])


def _digits(infos: Iterable[Info], names: frozenset[str]) -> Iterator[int]:
    for info in infos:
        for parameter in info.parameters:
            if parameter.name in names and (read := digit(parameter.value)):
                yield read


def _told(alert: Alert) -> list[Info]:
    """Return the infos in one language, plain Japanese if there are any: the others, やさしい日本語 too, say the same again."""
    varieties = [variety(info.language) for info in alert.infos]
    wanted = min(varieties, key=lambda tag: (tag != "ja", not is_japanese(tag)), default="")
    return [info for info, tag in zip(alert.infos, varieties, strict=True) if tag == wanted]


def is_japanese(language: str) -> bool:
    """Say whether a language tag is of Japanese, of whatever variety."""
    return language.partition("-")[0].lower() == "ja"


def variety(language: str) -> str:
    """Return a language tag without its region: `ja-JP` is `ja`, and `ja-x-easy` (やさしい日本語) something of its own."""
    return _REGION.sub("", language.lower(), count=1)


def _order(info: Info, msg_type: MsgType) -> Order:
    said = named(info)
    lifted = lifts(info) or msg_type is MsgType.CANCEL
    codes = (_code(geocode) for area in info.areas for geocode in area.geocodes)
    return Order(
        level=None if lifted else max(_digits((info,), LEVEL_NAMES), default=None),
        event=info.event,
        lifted=lifted,
        areas=tuple(area.area_desc for area in info.areas),
        codes=tuple(dict.fromkeys(code for code in codes if code)),
        hazard=_known(HAZARDS, said.get("hazard")),
        households=_read(whole, said, "households"),
        people=_read(whole, said, "people"),
        expires=info.expires,
    )


def _code(geocode: NamedValue) -> str | None:
    try:
        return declared_code(geocode)
    except InvalidCode:
        return None


def _shelter(said: Mapping[str, str]) -> Shelter:
    at = position(said["at"]) if "at" in said else None
    return Shelter(
        name=said["name"],
        state=ShelterState(said["state"]),
        kana=said.get("kana"),
        occupancy=_read(whole, said, "occupancy"),
        capacity=_read(whole, said, "capacity"),
        households=_read(whole, said, "households"),
        lon=at[0] if at else None,
        lat=at[1] if at else None,
        address=said.get("address"),
        type=said.get("type"),
        since=_read(time, said, "since"),
        accessible=_yes(said, "accessible"),
        pets=_yes(said, "pets"),
    )


def _river_level(info: Info) -> RiverLevel | None:
    said = named(info)
    observed, level_m = _read(time, said, "observed"), _read(decimal, said, "level_m")
    if observed is None or level_m is None or not said.get("station"):
        return None
    return RiverLevel(
        station=said["station"],
        observed=observed,
        level_m=level_m,
        stage=_known(STAGES, said.get("stage")),
        threshold_m=_read(decimal, said, "threshold_m"),
        equivalent=max(_digits((info,), EQUIVALENT_NAMES), default=None),
    )


def _rainfall(info: Info) -> Rainfall | None:
    said = named(info)
    observed = _read(time, said, "observed")
    amounts = {name: mm for name in RAIN if (mm := _read(amount, said, name)) is not None}
    if observed is None or not amounts or not said.get("station"):
        return None
    return Rainfall(said["station"], observed, amounts)


def _records(alert: Alert, name: str) -> Iterator[Mapping[str, str]]:
    fields = RECORDS[name]
    needed = {field.name for field in fields if field.needed}
    for info in _told(alert):
        for parameter in info.parameters:
            if bare(parameter.name) == name:
                said, _ = record(parameter.value, fields)
                if needed <= said.keys():
                    yield said


RECORDS: Final[Mapping[str, tuple[Field, ...]]] = {
    parameter.name: parameter.fields
    for kind in KINDS.values()
    for parameter in kind.parameters
    if parameter.fields
}
"""The parameters whose values are records, with their fields."""


def _yes(said: Mapping[str, str], name: str) -> bool | None:
    return said[name] == "yes" if name in said else None


def _known(words: Mapping[str, object], word: str | None) -> str | None:
    return word if word in words else None


def _read(read: Callable[[str], _Value | None], said: Mapping[str, str], name: str) -> _Value | None:
    return read(said[name]) if name in said else None
