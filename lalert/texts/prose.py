"""What a person reads of an alert: a title and a body, from its own words in one language."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from lalert.model import JST, SEVERITY_RANK, Alert, Info, MsgType
from lalert.plugin import Text
from lalert.texts.languages import DEFAULT, chosen, one_text, primary
from lalert.texts.marks import is_japanese, mark, unmarked
from lalert.texts.plain import clean, readable

MAX_AREA_NAMES: Final = 30

MAX_TICKER: Final = 140
"""Characters of a line for a ticker, the mark included."""


@dataclass(frozen=True, slots=True)
class _Words:
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


_JAPANESE: Final = _Words(
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
)
_ENGLISH: Final = _Words(
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
)


def alert_text(alert: Alert, lang: str | None = None, *, correction: bool = False) -> Text:
    """Return the alert as a text in `lang`, in Japanese where none is asked for; what it has no info for comes in every language it has.

    `correction` is what the hub has found (`Entry.correction`): a mark in <code> alone makes none. The title says whether it updates, corrects or cancels something, the body of a Cancel why; title and every part of the body begin with the drill mark where
    one is due. Control codes and what would reorder the words are gone.
    """
    infos = one_text(alert.infos, lang)
    if not infos:
        return _without_infos(alert, lang, correction=correction)
    gravest = max(infos, key=lambda info: SEVERITY_RANK[info.severity])
    headline = _headline(gravest)
    words = _words(headline, gravest.language)
    announcement = _announcement(words, alert, correction=correction)
    # A headline that a writer had begun with the mark or the announcement would else show it twice.
    plain = unmarked(headline, alert.status).removeprefix(announcement.strip())
    blocks = [_block(alert, info, with_headline=info is not gravest) for info in infos]
    return Text(
        title=mark(announcement + plain.strip(), alert.status, gravest.language),
        body="\n\n".join(block for block in blocks if block),
        lang=gravest.language,
    )


def tickers(alert: Alert, lang: str | None = None, *, correction: bool = False) -> dict[str, str]:
    """Return by language tag one line for a ticker, of the gravest info of each language that `chosen` shows; of an alert without infos one in Japanese and one in English.

    It begins with the drill mark where one is due, and says what is announced, why it is cancelled, which areas it is for and by whom, as far as `MAX_TICKER`
    reaches: names of areas are left out with their number, a headline that is too long ends with an ellipsis.
    """
    lines: dict[str, str] = {}
    for info in sorted(chosen(alert.infos, lang), key=lambda info: -SEVERITY_RANK[info.severity]):
        if clean(info.language) not in lines:
            lines[clean(info.language)] = _ticker(alert, info, correction=correction)
    if lines:
        return lines
    said = {DEFAULT: _JAPANESE, "en": _ENGLISH}
    return {tag: _bare_ticker(alert, words, tag, correction=correction) for tag, words in said.items()}


def _ticker(alert: Alert, info: Info, *, correction: bool) -> str:
    headline = _one_line(_headline(info))
    words = _words(headline, info.language)
    announcement = _announcement(words, alert, correction=correction)
    plain = unmarked(headline, alert.status).removeprefix(announcement.strip()).strip()
    line = mark(announcement + (plain or words.nothing_said[alert.msg_type]), alert.status, info.language)
    names = dict.fromkeys(_one_line(readable(area.area_desc)) for area in info.areas)
    unsaid = [name for name in names if name and name not in line]
    reason = _one_line(_reason(words, alert))
    line = _longer(line, [f" {reason}"] if reason else [])
    line = _longer(line, _area_lists(words, unsaid))
    issuer = _one_line(readable(info.sender_name or ""))
    return _cut(_longer(line, [words.by.format(name=issuer)] if issuer else []))


def _bare_ticker(alert: Alert, words: _Words, language: str, *, correction: bool) -> str:
    said = _announcement(words, alert, correction=correction) + words.nothing_said[alert.msg_type]
    reason = _one_line(_reason(words, alert))
    line = mark(said, alert.status, language)
    return _cut(f"{line} {reason}" if reason else line)


def _area_lists(words: _Words, names: list[str]) -> Iterator[str]:
    """Yield the names of areas, all and then fewer and fewer of them."""
    for count in range(min(len(names), MAX_AREA_NAMES), 0, -1):
        left = [words.more.format(count=len(names) - count)] if count < len(names) else []
        yield f" {words.areas}{words.comma.join([*names[:count], *left])}"


def _longer(line: str, ends: Iterable[str]) -> str:
    """Return the line with the first of `ends` that it has room for."""
    return next((line + end for end in ends if len(line) + len(end) <= MAX_TICKER), line)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cut(line: str) -> str:
    return line if len(line) <= MAX_TICKER else line[: MAX_TICKER - 1].rstrip() + "…"


def _without_infos(alert: Alert, lang: str | None, *, correction: bool) -> Text:
    language = lang if lang and primary(lang) != DEFAULT else DEFAULT
    words = _JAPANESE if primary(language) == DEFAULT else _ENGLISH
    note = _reason(words, alert) or readable(alert.note or "")
    lines = [note, _issued(words, alert, None)]
    if alert.references:
        lines.append(words.concerns + words.comma.join(readable(ref.identifier) for ref in alert.references))
    said = words.nothing_said[alert.msg_type]
    return Text(
        title=mark(_announcement(words, alert, correction=correction) + said, alert.status, language),
        body=mark("\n".join(line for line in lines if line), alert.status, language),
        lang=DEFAULT if words is _JAPANESE else "en",
    )


def _block(alert: Alert, info: Info, *, with_headline: bool) -> str:
    said = [_headline(info)] if with_headline else []
    said += [readable(text) for text in (info.description, info.instruction) if text]
    words = _words("".join(said) or _headline(info), info.language)
    paragraphs = [text for text in said if text]
    paragraphs.append("\n".join(_particulars(words, alert, info)))
    return mark("\n\n".join(paragraphs), alert.status, info.language)


def _announcement(words: _Words, alert: Alert, *, correction: bool) -> str:
    return words.corrects if correction else words.announces.get(alert.msg_type, "")


def _reason(words: _Words, alert: Alert) -> str:
    """Return why something is cancelled, empty where that is not said or nothing is cancelled."""
    note = readable(alert.note or "") if alert.msg_type is MsgType.CANCEL else ""
    return words.reason + note if note else ""


def _particulars(words: _Words, alert: Alert, info: Info) -> Iterator[str]:
    if reason := _reason(words, alert):
        yield reason
    names = list(dict.fromkeys(name for area in info.areas if (name := readable(area.area_desc))))
    if names:
        more = [words.more.format(count=len(names) - MAX_AREA_NAMES)] if len(names) > MAX_AREA_NAMES else []
        yield words.areas + words.comma.join([*names[:MAX_AREA_NAMES], *more])
    yield _issued(words, alert, info.sender_name)
    if info.expires:
        yield words.until + _time(info.expires, words)


def _issued(words: _Words, alert: Alert, sender_name: str | None) -> str:
    return f"{words.issued}{readable(sender_name or alert.sender)} {_time(alert.sent, words)}"


def _headline(info: Info) -> str:
    return readable(info.headline or "") or readable(info.event)


def _words(text: str, language: str) -> _Words:
    return _JAPANESE if is_japanese(text, language) else _ENGLISH


def _time(when: datetime, words: _Words) -> str:
    """Return a time as clocks in Japan show it, in whatever offset the sender wrote it."""
    local = when.astimezone(JST)
    if words is _JAPANESE:
        return f"{local.year}年{local.month}月{local.day}日{local.hour}時{local.minute:02}分"
    return f"{local:%Y-%m-%d %H:%M} JST"
