"""What a person reads of an alert: a title and a body, from its own words in one language."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from lalert import cap
from lalert.model import JST, SEVERITY_RANK, Alert, Info, MsgType
from lalert.plugin import Room, Text
from lalert.texts.breaks import without_addresses
from lalert.texts.fit import MIN_PIECE, Block, Fits, Part, cut, fill, prose, whole
from lalert.texts.languages import DEFAULT, chosen, one_text, primary
from lalert.texts.marks import is_japanese, mark, mark_before, unmarked
from lalert.texts.plain import clean, readable

_Say = Callable[[str], str]
"""Makes a text of the sender one that may be said here."""

MAX_AREA_NAMES: Final = 30

SAID_WITHOUT_INFOS: Final = ("ja", "en")
"""The languages in which `alert_text` has words for a message that has none of its own."""

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


def alert_text(
    alert: Alert, lang: str | None = None, *, correction: bool = False, room: Room | None = None
) -> Text:
    """Return the alert as a text in `lang`, in Japanese where none is asked for; what it has no info for comes in every language it has.

    `correction` is what the hub has found (`Entry.correction`): a mark in <code> alone makes none. The title says whether it updates, corrects or cancels something, the body of a Cancel why; title and every part of the body begin with the drill mark where
    one is due. Control codes and what would reorder the words are gone. What does not fit into `room` is cut (docs/texts.md).
    """
    infos = one_text(alert.infos, lang)
    if not infos:
        return _without_infos(alert, lang, correction, room or _ENDLESS)
    gravest = max(infos, key=lambda info: SEVERITY_RANK[info.severity])
    return _Telling(alert, gravest, correction, room or _ENDLESS).text(infos)


_ENDLESS: Final = Room()


def fits_into(limit: int | None, measure: Callable[[str], int]) -> Fits:
    """Return whether a text is no longer than `limit`."""
    return lambda text: limit is None or measure(text) <= limit


class _Telling:
    """One alert on its way to being a text in one room."""

    def __init__(self, alert: Alert, gravest: Info, correction: bool, room: Room) -> None:
        self._alert = alert
        self._gravest = gravest
        self._said = readable if room.urls else _without_addresses
        self._headline = _headline(gravest, self._said)
        self._words = _words(self._headline, gravest.language)
        self._announcement = _announcement(self._words, alert, correction=correction)
        self._fits_title = fits_into(room.title, room.measure)
        self._fits_body = fits_into(room.body, room.measure)

    def text(self, infos: list[Info]) -> Text:
        title, is_whole = self._title()
        body = "\n\n".join(
            filter(
                None, (self._whole_block(info, with_headline=self._tells(info, is_whole)) for info in infos)
            )
        )
        if not self._fits_body(body):
            ordered = sorted(
                infos, key=lambda info: (info is not self._gravest, -SEVERITY_RANK[info.severity])
            )
            body = fill(
                [self._block(info, with_headline=self._tells(info, is_whole)) for info in ordered],
                self._fits_body,
            )
        return Text(title, body, self._gravest.language)

    def _tells(self, info: Info, title_is_whole: bool) -> bool:
        return info is not self._gravest or not title_is_whole

    def _title(self) -> tuple[str, bool]:
        """Return the title, and whether it says the whole headline."""
        alert = self._alert
        # A headline that a writer had begun with the mark or the announcement would else show it twice.
        plain = unmarked(self._headline, alert.status).removeprefix(self._announcement.strip()).strip()
        whole_title = mark(self._announcement + plain, alert.status, self._gravest.language)
        if self._fits_title(whole_title):
            return whole_title, True
        before = (
            mark_before(self._announcement + plain, alert.status, self._gravest.language) + self._announcement
        )
        event = _one_line(self._said(self._gravest.event))
        return title_within(before, _one_line(plain), event, self._fits_title), False

    def _whole_block(self, info: Info, *, with_headline: bool) -> str:
        said = self._free_texts(info, with_headline)
        words = _words("".join(said) or _headline(info, self._said), info.language)
        paragraphs = [text for text in said if text]
        paragraphs.append("\n".join(_particulars(words, self._alert, info, self._said)))
        return mark("\n\n".join(paragraphs), self._alert.status, info.language)

    def _free_texts(self, info: Info, with_headline: bool) -> list[str]:
        said = [_headline(info, self._said)] if with_headline else []
        return said + [self._said(text) for text in (info.description, info.instruction) if text]

    def _block(self, info: Info, *, with_headline: bool) -> Block:
        """Return what an info says as parts: why it is over; what to do, if lives depend on it, or what has happened; where; the rest."""
        alert = self._alert
        free = self._free_texts(info, with_headline)
        words = _words("".join(free) or _headline(info, self._said), info.language)
        headline = _headline(info, self._said) if with_headline else ""
        description, instruction = (self._said(text or "") for text in (info.description, info.instruction))
        first, then = (
            ([instruction, headline], [description])
            if _urgent(alert, info)
            else ([headline, description], [instruction])
        )
        texts = [unmarked(text, alert.status).strip() for text in (_reason(words, alert, self._said), *first)]
        parts = [prose(text) for text in texts if text]
        parts += _area_part(words, info, self._said)
        parts += [prose(plain) for text in then if (plain := unmarked(text, alert.status).strip())]
        if info.expires:
            parts.append(whole(words.until + _time(info.expires, words)))
        parts.append(whole(_issued(words, alert, info.sender_name, self._said)))
        return Block(mark_before("".join(free), alert.status, info.language), parts)


@dataclass(frozen=True, slots=True)
class OwnWords:
    """What senders have written, marked: as `paragraphs` where there is room, and as `blocks` to fit."""

    paragraphs: list[str]
    blocks: list[Block]


def own_words(alert: Alert, lang: str, *, urls: bool) -> OwnWords:
    """Return headline, description and instruction of an alert as they are written, to go under a text in `lang` that the hub has made."""
    say = readable if urls else _without_addresses
    paragraphs, blocks = [], []
    for info in chosen(alert.infos, lang):
        free = [say(text) for text in (info.description, info.instruction) if text]
        said = [
            text
            for text in (_headline(info, say), *(reversed(free) if _urgent(alert, info) else free))
            if text
        ]
        paragraphs.append(mark("\n\n".join(said), alert.status, info.language))
        plain = [prose(rest) for text in said if (rest := unmarked(text, alert.status).strip())]
        blocks.append(Block(mark_before("".join(said), alert.status, info.language), plain))
    return OwnWords(paragraphs, blocks)


def title_within(before: str, headline: str, event: str, fits: Fits) -> str:
    """Return a title that begins with `before`: the headline by whole sentences, else the whole event, else the headline cut by phrase.

    What is left out of it belongs into the body. Without room for any of that it is `before`, or nothing.
    """

    def fits_behind(text: str) -> bool:
        return fits(before + text)

    if not fits_behind(""):
        return next((part for part in _shorter(before) if fits(part)), "")
    said = cut(headline, fits_behind)
    if said.endswith("…") and not headline.endswith("…") and event and fits_behind(event):
        said = event
    return (before + (said or cut(event, fits_behind))).strip()


def _shorter(before: str) -> Iterator[str]:
    """Yield what has to go before a title, and then the mark alone: that it is a drill goes before everything."""
    yield before.strip()
    if mark_alone := _MARK.match(before):
        yield mark_alone[0]


_MARK: Final = re.compile(r"【[^】]*】|\[[^\]]*\]")


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


def _without_infos(alert: Alert, lang: str | None, correction: bool, room: Room) -> Text:
    language = lang if lang and primary(lang) != DEFAULT else DEFAULT
    words = _JAPANESE if primary(language) == DEFAULT else _ENGLISH
    say = readable if room.urls else _without_addresses
    lines = [_reason(words, alert, say) or say(alert.note or ""), _issued(words, alert, None, say)]
    if alert.references:
        lines.append(words.concerns + words.comma.join(say(ref.identifier) for ref in alert.references))
    lines = [line for line in lines if line]
    announcement = _announcement(words, alert, correction=correction)
    said = words.nothing_said[alert.msg_type]
    title = mark(announcement + said, alert.status, language)
    if not (fits := fits_into(room.title, room.measure))(title):
        title = title_within(mark_before(said, alert.status, language) + announcement, said, "", fits)
    body = mark("\n".join(lines), alert.status, language)
    if not (fits := fits_into(room.body, room.measure))(body):
        plain = [unmarked(line, alert.status).strip() for line in lines]
        body = fill(
            [Block(mark_before(body, alert.status, language), [prose(line) for line in plain if line])], fits
        )
    return Text(title=title, body=body, lang=DEFAULT if words is _JAPANESE else "en")


def _urgent(alert: Alert, info: Info) -> bool:
    """Say whether people have to do something at once: from 警戒レベル3, or where the sender says so."""
    return (cap.level(alert) or 0) >= 3 or not _ACTS.isdisjoint(info.response_types)


_ACTS: Final = {"Shelter", "Evacuate", "Execute", "Avoid"}


def _without_addresses(text: str) -> str:
    return without_addresses(readable(text))


def _announcement(words: _Words, alert: Alert, *, correction: bool) -> str:
    return words.corrects if correction else words.announces.get(alert.msg_type, "")


def _reason(words: _Words, alert: Alert, say: _Say = readable) -> str:
    """Return why something is cancelled, empty where that is not said or nothing is cancelled."""
    note = say(alert.note or "") if alert.msg_type is MsgType.CANCEL else ""
    return words.reason + note if note else ""


def _particulars(words: _Words, alert: Alert, info: Info, say: _Say) -> Iterator[str]:
    if reason := _reason(words, alert, say):
        yield reason
    if names := _area_names(info, say):
        yield _areas(words, names, MAX_AREA_NAMES)
    yield _issued(words, alert, info.sender_name, say)
    if info.expires:
        yield words.until + _time(info.expires, words)


def _area_names(info: Info, say: _Say) -> list[str]:
    return list(dict.fromkeys(name for area in info.areas if (name := say(area.area_desc))))


def _areas(words: _Words, names: list[str], count: int) -> str:
    more = [words.more.format(count=len(names) - count)] if len(names) > count else []
    return words.areas + words.comma.join([*names[:count], *more])


def _area_part(words: _Words, info: Info, say: _Say) -> list[Part]:
    names = [_one_line(name) for said in _area_names(info, say) for name in _parted(said)]
    return [Part(min(len(names), MAX_AREA_NAMES), lambda n: _areas(words, names, n + 1))] if names else []


def _parted(name: str) -> list[str]:
    """Return the names that a long one lists."""
    if len(name) <= MIN_PIECE:
        return [name]
    return [part for part in _LISTED.split(name) if part]


_LISTED: Final = re.compile(r"[、，,;；\n]\s*")


def _issued(words: _Words, alert: Alert, sender_name: str | None, say: _Say = readable) -> str:
    return f"{words.issued}{say(sender_name or alert.sender)} {_time(alert.sent, words)}"


def _headline(info: Info, say: _Say = readable) -> str:
    return say(info.headline or "") or say(info.event)


def _words(text: str, language: str) -> _Words:
    return _JAPANESE if is_japanese(text, language) else _ENGLISH


def _time(when: datetime, words: _Words) -> str:
    """Return a time as clocks in Japan show it, in whatever offset the sender wrote it."""
    local = when.astimezone(JST)
    if words is _JAPANESE:
        return f"{local.year}年{local.month}月{local.day}日{local.hour}時{local.minute:02}分"
    return f"{local:%Y-%m-%d %H:%M} JST"
