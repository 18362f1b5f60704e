"""The kinds of information as data: what each is called, which parameters it has, in which form, and which of them it needs.

A parameter may be written with or without the prefix `jp:`; the tables hold the names without it. Where a thing has several properties (a shelter,
a kind of damage), one parameter is one thing, written as a record: `name=第一小学校体育館; state=open; occupancy=42`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from lalert.cap import rules

MAX_RECORD: Final = 2_000
PREFIX: Final = "jp:"


@dataclass(frozen=True, slots=True)
class Form:
    """How a value is written: in words, and as a test."""

    words: str
    words_ja: str
    holds: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Field:
    """One property of a record. A record without one that is needed says nothing."""

    name: str
    form: Form
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a kind; `fields` where its value is a record, `many` where there may be several in one info."""

    name: str
    form: Form
    needed: bool = False
    many: bool = False
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of information, as feeds and pages know it by `name`; an alert of some kinds must say until when it holds."""

    name: str
    title: str
    title_ja: str
    parameters: tuple[Parameter, ...] = ()
    expires: bool = False


class Fault(NamedTuple):
    """What is wrong with a value, in both languages."""

    text: str
    text_ja: str


# How values are written


def whole(text: str) -> int | None:
    """Return a whole number of people, households or things."""
    return int(text) if _WHOLE.fullmatch(text) else None


def decimal(text: str) -> float | None:
    """Return a decimal number, which may be negative: a gauge's zero is seldom the bottom of the river."""
    return float(text) if _DECIMAL.fullmatch(text) else None


def amount(text: str) -> float | None:
    """Return a decimal number that is not negative."""
    return decimal(text) if not text.startswith("-") else None


def time(text: str) -> datetime | None:
    """Return a time written as CAP writes them (CAP 1.2, 3.3.2)."""
    read = rules.instant(text)
    return read if isinstance(read, datetime) else None


def position(text: str) -> tuple[float, float] | None:
    """Return (lon, lat) of a point written `lat,lon`, as CAP writes points."""
    lat, comma, lon = text.partition(",")
    read = (decimal(lon), decimal(lat)) if comma else (None, None)
    if read[0] is None or read[1] is None or abs(read[0]) > 180 or abs(read[1]) > 90:
        return None
    return read[0], read[1]


def digit(text: str) -> int | None:
    """Return a level, one digit from 1 to 5, half or full width."""
    plain = unicodedata.normalize("NFKC", text)
    return int(plain) if plain in {"1", "2", "3", "4", "5"} else None


_WHOLE = re.compile(r"[0-9]{1,8}")
_DECIMAL = re.compile(r"-?[0-9]{1,5}(?:\.[0-9]{1,8})?")
_KANA = re.compile(r"[ぁ-ゖゝゞァ-ヺー・、，,\s\u30fd\u30fe0-9０-９]+")


def one_of(meanings: Mapping[str, str]) -> Form:
    """Return the form of a choice between words, each with what it means in Japanese."""
    explained = "、".join(f"{word}({meaning})" for word, meaning in meanings.items())
    return Form(f"one of {', '.join(meanings)}", f"{explained}のいずれか", meanings.__contains__)


TEXT: Final = Form("a text", "文字列", bool)
WHOLE: Final = Form(
    "a whole number in plain digits", "半角数字の整数(単位や桁区切りなし)", lambda t: whole(t) is not None
)
WHOLE_OR_UNKNOWN: Final = Form(
    "a whole number in plain digits, or unknown",
    "半角数字の整数、または不明を示すunknown",
    lambda t: t == "unknown" or whole(t) is not None,
)
METRES: Final = Form(
    "a number of metres without a unit", "メートル単位の数値(単位なし)", lambda t: decimal(t) is not None
)
MILLIMETRES: Final = Form(
    "a number of millimetres without a unit", "ミリ単位の数値(単位なし)", lambda t: amount(t) is not None
)
TIME: Final = Form(
    "a time such as 2026-07-04T02:20:00+09:00",
    "2026-07-04T02:20:00+09:00の形の日時",
    lambda t: time(t) is not None,
)
POSITION: Final = Form(
    "a point as latitude,longitude", "「緯度,経度」の形の位置", lambda t: position(t) is not None
)
LEVEL: Final = Form("one digit from 1 to 5", "1から5までの1桁の数字", lambda t: digit(t) is not None)
KANA: Final = Form("hiragana or katakana", "ひらがなまたはカタカナ", lambda t: _KANA.fullmatch(t) is not None)
TRENDS: Final[Mapping[str, str]] = {
    "rising": "上昇",
    "steady": "横ばい",
    "falling": "下降",
    "unknown": "不明",
}
YES_NO: Final = one_of({"yes": "はい", "no": "いいえ"})
RECORD: Final = Form("a record: key=value; key=value", "「項目=値; 項目=値」の形", bool)


def record(text: str, fields: Iterable[Field]) -> tuple[dict[str, str], list[Fault]]:
    """Return what a record says and everything that is wrong with it; what is wrong is not among what it says."""
    known = {field.name: field for field in fields}
    said: dict[str, str] = {}
    faults: list[Fault] = []
    if len(text) > MAX_RECORD:
        return {}, [Fault(f"longer than {MAX_RECORD} characters", f"{MAX_RECORD}文字を超えています")]
    for part in re.split("[;；]", text):
        if not part.strip():
            continue
        key, equals, value = (piece.strip() for piece in re.sub("＝", "=", part, count=1).partition("="))
        shown = rules.shown(part.strip())
        field = known.get(key)
        if not equals or field is None:
            names = ", ".join(known)
            faults.append(
                Fault(
                    f"{shown} is none of {names} with its value",
                    f"{shown}は「項目=値」ではありません({names})",
                )
            )
        elif key in said:
            faults.append(Fault(f"{key} stands twice", f"{key}が2回あります"))
        elif not field.form.holds(value):
            faults.append(
                Fault(f"{key} must be {field.form.words}", f"{key}は{field.form.words_ja}にしてください")
            )
        else:
            said[key] = value
    faults += [
        Fault(f"{field.name} is missing", f"{field.name}がありません")
        for field in known.values()
        if field.needed and field.name not in said and not any(f.text.startswith(field.name) for f in faults)
    ]
    return said, faults


# The words of the values, with what they mean

HAZARDS: Final[Mapping[str, str]] = {
    "flood": "洪水",
    "inland-flood": "内水氾濫",
    "landslide": "土砂災害",
    "storm-surge": "高潮",
    "tsunami": "津波",
    "volcano": "火山噴火",
    "earthquake": "地震",
    "fire": "火災",
    "other": "その他",
}
LEVELLED: Final = frozenset({"flood", "inland-flood", "landslide", "storm-surge"})
"""The hazards that 警戒レベル is for; of the others an order is given without a level (避難情報に関するガイドライン)."""

SHELTER_STATES: Final[Mapping[str, str]] = {"open": "開設中", "full": "満員", "closed": "閉鎖"}
SHELTER_TYPES: Final[Mapping[str, str]] = {
    "designated": "指定避難所",
    "emergency": "指定緊急避難場所",
    "welfare": "福祉避難所",
    "voluntary": "自主避難所",
    "temporary": "臨時避難所",
    "stay": "一時滞在施設",
}
HEADQUARTERS_STATES: Final[Mapping[str, str]] = {"established": "設置", "dissolved": "廃止"}
DAMAGE_ITEMS: Final[Mapping[str, str]] = {
    "dead": "死者",
    "missing": "行方不明者",
    "injured-seriously": "重傷者",
    "injured-slightly": "軽傷者",
    "injured": "負傷者",
    "houses-destroyed": "住家全壊",
    "houses-half-destroyed": "住家半壊",
    "houses-partly-damaged": "住家一部破損",
    "houses-flooded-above-floor": "床上浸水",
    "houses-flooded-below-floor": "床下浸水",
    "buildings": "非住家被害",
    "roads": "道路被害",
    "landslides": "がけ崩れ",
    "isolated": "孤立集落",
    "water-cut": "断水戸数",
    "power-cut": "停電戸数",
    "evacuees": "避難者",
    "other": "その他",
}
TOPICS: Final[Mapping[str, str]] = {
    "traffic": "交通",
    "lifeline": "ライフライン",
    "living": "生活情報",
    "public-relations": "広報",
    "other": "その他",
}
STAGES: Final[Mapping[str, tuple[str, int | None]]] = {
    "calm": ("平常", None),
    "standby": ("水防団待機水位", 1),
    "caution": ("氾濫注意水位", 2),
    "evacuation": ("避難判断水位", 3),
    "danger": ("氾濫危険水位", 4),
    "flooding": ("氾濫発生", 5),
}
"""The stages of a river: what each is called, and the 警戒レベル相当 that it corresponds to."""

RAIN: Final = ("rain_10min_mm", "rain_1h_mm", "rain_3h_mm", "rain_24h_mm", "rain_total_mm")

_EQUIVALENT: Final = Parameter("警戒レベル相当", LEVEL)

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind(
            "evacuation",
            "evacuation orders",
            "避難情報",
            (
                Parameter("警戒レベル", LEVEL),
                Parameter("hazard", one_of(HAZARDS)),
                Parameter("households", WHOLE),
                Parameter("people", WHOLE),
            ),
            expires=True,
        ),
        Kind(
            "shelter",
            "shelters",
            "避難所",
            (
                Parameter(
                    "shelter",
                    RECORD,
                    needed=True,
                    many=True,
                    fields=(
                        Field("name", TEXT, needed=True),
                        Field("state", one_of(SHELTER_STATES), needed=True),
                        Field("kana", KANA),
                        Field("occupancy", WHOLE),
                        Field("capacity", WHOLE),
                        Field("households", WHOLE),
                        Field("at", POSITION),
                        Field("address", TEXT),
                        Field("type", one_of(SHELTER_TYPES)),
                        Field("since", TIME),
                        Field("accessible", YES_NO),
                        Field("pets", YES_NO),
                    ),
                ),
                Parameter("as_of", TIME),
            ),
        ),
        Kind(
            "headquarters",
            "disaster headquarters",
            "災害対策本部",
            (
                Parameter(
                    "headquarters",
                    RECORD,
                    needed=True,
                    many=True,
                    fields=(
                        Field("name", TEXT, needed=True),
                        Field("state", one_of(HEADQUARTERS_STATES), needed=True),
                        Field("kana", KANA),
                        Field("since", TIME),
                    ),
                ),
            ),
        ),
        Kind(
            "damage",
            "damage reports",
            "被害情報",
            (
                Parameter("as_of", TIME, needed=True),
                Parameter("report", WHOLE),
                Parameter(
                    "damage",
                    RECORD,
                    needed=True,
                    many=True,
                    fields=(
                        Field("item", one_of(DAMAGE_ITEMS), needed=True),
                        Field("count", WHOLE_OR_UNKNOWN, needed=True),
                        Field("note", TEXT),
                    ),
                ),
            ),
        ),
        Kind("general", "notices", "お知らせ", (Parameter("topic", one_of(TOPICS)),)),
        Kind(
            "river-level",
            "river levels",
            "河川水位",
            (
                Parameter("station", TEXT, needed=True),
                Parameter("observed", TIME, needed=True),
                Parameter("level_m", METRES, needed=True),
                Parameter("stage", one_of({stage: name for stage, (name, _) in STAGES.items()})),
                Parameter("threshold_m", METRES),
                Parameter("trend", one_of(TRENDS)),
                Parameter("rise_m_per_h", METRES),
                Parameter("history", TEXT),
                Parameter("thresholds", TEXT),
                _EQUIVALENT,
            ),
            expires=True,
        ),
        Kind(
            "rain",
            "rain",
            "雨量",
            (
                Parameter("station", TEXT, needed=True),
                Parameter("observed", TIME, needed=True),
                *(Parameter(name, MILLIMETRES) for name in RAIN),
                _EQUIVALENT,
            ),
            expires=True,
        ),
        Kind("weather", "weather", "気象情報", (_EQUIVALENT,)),
    )
}
