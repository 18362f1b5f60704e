"""The few words that the hub itself adds to an alert's own, in Japanese and in English, and what an alert says put into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from lalert.model import JST, Alert, Info, MsgType
from lalert.texts.breaks import without_addresses
from lalert.texts.marks import is_japanese
from lalert.texts.plain import readable

MAX_AREA_NAMES: Final = 30

Say = Callable[[str], str]
"""Makes a text of the sender one that may be said here."""


@dataclass(frozen=True, slots=True)
class Words:
    """The few words that the hub itself adds."""

    announces: Mapping[MsgType, str]
    corrects: str
    nothing_said: Mapping[MsgType, str]
    areas: str
    issued: str
    until: str
    concerns: str
    reason: str
    comma: str
    more: str
    by: str
    level: str


JAPANESE: Final = Words(
    announces={
        MsgType.UPDATE: "【更新】",
        MsgType.CANCEL: "【取消】",
        MsgType.ERROR: "【誤り】",
        MsgType.ACK: "【受信確認】",
    },
    corrects="【訂正】",
    nothing_said={
        MsgType.ALERT: "お知らせ",
        MsgType.UPDATE: "先に発表した情報を更新しました",
        MsgType.CANCEL: "先に発表した情報を取り消しました",
        MsgType.ERROR: "先に発表した情報に誤りがありました",
        MsgType.ACK: "情報を受信しました",
    },
    areas="対象地域：",
    issued="発表：",
    until="有効期限：",
    concerns="対象の情報：",
    reason="取消理由：",
    comma="、",
    more="ほか{count}か所",
    by="（{name}発表）",
    level="警戒レベル{level} {event}",
)
ENGLISH: Final = Words(
    announces={
        MsgType.UPDATE: "Update: ",
        MsgType.CANCEL: "Cancelled: ",
        MsgType.ERROR: "Error: ",
        MsgType.ACK: "Received: ",
    },
    corrects="Correction: ",
    nothing_said={
        MsgType.ALERT: "Notice",
        MsgType.UPDATE: "an earlier alert was updated",
        MsgType.CANCEL: "an earlier alert was cancelled",
        MsgType.ERROR: "an earlier alert was wrong",
        MsgType.ACK: "an alert was received",
    },
    areas="Areas: ",
    issued="Issued: ",
    until="Until: ",
    concerns="Concerns: ",
    reason="Reason: ",
    comma=", ",
    more="{count} more",
    by=" ({name})",
    level="Alert Level {level}: {event}",
)


def words_for(text: str, language: str) -> Words:
    """Return the words that go with a text, by its language or by its letters."""
    return JAPANESE if is_japanese(text, language) else ENGLISH


def say(*, urls: bool) -> Say:
    """Return how a sender's text is said: readable, and where there may be none without addresses."""
    return readable if urls else _without_addresses


def _without_addresses(text: str) -> str:
    return without_addresses(readable(text))


def one_line(text: str) -> str:
    """Return a text without line ends."""
    return " ".join(text.split())


def headline(info: Info, say: Say = readable) -> str:
    """Return what an info is about: its headline, else its event."""
    return say(info.headline or "") or say(info.event)


def announcement(words: Words, alert: Alert, *, correction: bool) -> str:
    """Return what goes before the headline of a message that continues another, empty for a new one."""
    return words.corrects if correction else words.announces.get(alert.msg_type, "")


def reason(words: Words, alert: Alert, say: Say = readable) -> str:
    """Return why something is cancelled, empty where that is not said or nothing is cancelled."""
    note = say(alert.note or "") if alert.msg_type is MsgType.CANCEL else ""
    return words.reason + note if note else ""


def area_names(info: Info, say: Say = readable) -> list[str]:
    """Return what an info calls its areas, each once."""
    return list(dict.fromkeys(name for area in info.areas if (name := say(area.area_desc))))


def areas_line(words: Words, names: Sequence[str], count: int = MAX_AREA_NAMES) -> str:
    """Return the first `count` names, and the number of the others."""
    more = [words.more.format(count=len(names) - count)] if len(names) > count else []
    return words.areas + words.comma.join([*names[:count], *more])


def issued(words: Words, alert: Alert, sender_name: str | None, say: Say = readable) -> str:
    """Return who issued an alert, and when."""
    return f"{words.issued}{say(sender_name or alert.sender)} {moment(alert.sent, words)}"


def moment(when: datetime, words: Words) -> str:
    """Return a time as clocks in Japan show it, in whatever offset the sender wrote it."""
    local = when.astimezone(JST)
    if words is JAPANESE:
        return f"{local.year}年{local.month}月{local.day}日{local.hour}時{local.minute:02}分"
    return f"{local:%Y-%m-%d %H:%M} JST"
