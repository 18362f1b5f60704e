"""One line for a ticker: what is announced, where and by whom, as far as there is room."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from lalert.model import SEVERITY_RANK, Alert, Info
from lalert.texts.languages import DEFAULT, chosen
from lalert.texts.marks import mark, unmarked
from lalert.texts.plain import clean, readable
from lalert.texts.words import (
    ENGLISH,
    JAPANESE,
    MAX_AREA_NAMES,
    Words,
    announcement,
    area_names,
    areas_line,
    headline,
    one_line,
    reason,
    words_for,
)

MAX_TICKER: Final = 140
"""Characters of a line for a ticker, the mark included."""


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
    said = {DEFAULT: JAPANESE, "en": ENGLISH}
    return {tag: _bare_ticker(alert, words, tag, correction=correction) for tag, words in said.items()}


def _ticker(alert: Alert, info: Info, *, correction: bool) -> str:
    said = one_line(headline(info))
    words = words_for(said, info.language)
    before = announcement(words, alert, correction=correction)
    plain = unmarked(said, alert.status).removeprefix(before.strip()).strip()
    line = mark(before + (plain or words.nothing_said[alert.msg_type]), alert.status, info.language)
    unsaid = [name for name in dict.fromkeys(map(one_line, area_names(info))) if name not in line]
    why = one_line(reason(words, alert))
    line = _longer(line, [f" {why}"] if why else [])
    line = _longer(line, _area_lists(words, unsaid))
    issuer = one_line(readable(info.sender_name or ""))
    return _cut(_longer(line, [words.by.format(name=issuer)] if issuer else []))


def _bare_ticker(alert: Alert, words: Words, language: str, *, correction: bool) -> str:
    said = announcement(words, alert, correction=correction) + words.nothing_said[alert.msg_type]
    why = one_line(reason(words, alert))
    line = mark(said, alert.status, language)
    return _cut(f"{line} {why}" if why else line)


def _area_lists(words: Words, names: list[str]) -> Iterator[str]:
    """Yield the names of areas, all and then fewer and fewer of them."""
    for count in range(min(len(names), MAX_AREA_NAMES), 0, -1):
        yield f" {areas_line(words, names, count)}"


def _longer(line: str, ends: Iterable[str]) -> str:
    """Return the line with the first of `ends` that it has room for."""
    return next((line + end for end in ends if len(line) + len(end) <= MAX_TICKER), line)


def _cut(line: str) -> str:
    return line if len(line) <= MAX_TICKER else line[: MAX_TICKER - 1].rstrip() + "…"
