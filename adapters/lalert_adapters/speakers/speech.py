"""What a loudspeaker says of an alert: sentences, numbers and names written so that a voice reads them rightly."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from lalert.model import Entry
from lalert.plugin import Text

AGAIN: Final = "繰り返します。"

MISREAD: Final = {
    "越水": "えっすい",
    "内水": "ないすい",
    "樋管": "ひかん",
    "給水所": "きゅうすいじょ",
    "計画高水位": "けいかくこうすいい",
    "大字": "おおあざ",
}
"""Words of such announcements that the voice reads wrongly by itself."""

_ANNOUNCED: Final = {
    "更新": "更新のお知らせです。",
    "取消": "取り消しのお知らせです。",
    "訂正": "訂正のお知らせです。",
    "誤り": "先の放送に誤りがありました。",
}
_MARKS = re.compile(r"^\s*((?:【[^】]{1,10}】\s*)+)")
_MARK = re.compile(r"【([^】]{1,10})】")
_ENDS: Final = "。！？!?"
_SPELLINGS: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern), said)
    for pattern, said in (
        (r"(?<![\d:])([01]?\d|2[0-3]):00(?![\d:])", r"\1時"),
        (r"(?<![\d:])([01]?\d|2[0-3]):([0-5]\d)(?![\d:])", r"\1時\2分"),
        (r"(?<!\d)0(\d)時", r"\1時"),
        (r"時00?分", "時"),
        (r"時0(\d)分", r"時\1分"),
        (r"(?<![\d/])(1[0-2]|0?[1-9])/(3[01]|[12]\d|0?[1-9])\s*\(([日月火水木金土])\)", r"\1月\2日\3曜日、"),
        (r"(?<!\d)0(\d)月", r"\1月"),
        (r"月0(\d)日", r"月\1日"),
        (r"\(([日月火水木金土])\)", r"、\1曜日、"),
        (r"(?<=[\d時分日階号目m])\s*[~〜]\s*(?=\d)", "から"),
        (r"\bTEL\b[.:]?", "電話、"),
        (r"\bHP\b", "ホームページ"),
        (r"\b[Ll][Vv]\.?\s*(?=\d)", "レベル"),
        (r"\bM(?=\d+(?:\.\d)?\b)", "マグニチュード"),
        (r"(\d+)F\b", r"\1階"),
        (r"\bL-?Alert\b|\bLアラート", "エルアラート"),
        (r"\bJ-?ALERT\b|\bJアラート", "ジェイアラート"),
        (r"m2\b", "平方メートル"),
        (r"[:;・|\s]+|/(?![A-Za-z])", "、"),
        (r"[〓★☆●○◎■□▲△▼▽◆◇※…—–―→⇒<>()\[\]{}「」『』【】\"'*#_=~〜]+", "、"),
        (r"、{2,}", "、"),
        (r"^、|、(?=[。！？])", ""),
    )
)
"""In this order: times and dates before their colons and slashes become pauses."""

_JAPANESE = re.compile(r"[\u3041-\u30fa\u3400-\u9fff]")
_KANJI = re.compile(r"[\u3400-\u9fff]")
_TO_KATAKANA: Final = {hiragana: hiragana + 0x60 for hiragana in range(ord("ぁ"), ord("ゖ") + 1)}


@dataclass(frozen=True, slots=True)
class Speech:
    """`sentences` for the voice, once; `text` for a person who wants to read what was said."""

    sentences: tuple[str, ...]
    text: str


def speech(
    text: Text, readings: Mapping[str, str], *, drill: bool, opening: str = "", closing: str = ""
) -> Speech:
    """Return a text of the hub as it is said once.

    That it is a drill is said first and last, in the words of the hub's own mark. Raises `ValueError` for the text of a drill without one.
    """
    found = _MARKS.match(text.title)
    written = _MARK.findall(found[1]) if found else []
    # The hub's own mark stands before everything that somebody wrote.
    drills = [f"これは{mark}です。" for mark in written[:1] if drill and mark not in _ANNOUNCED]
    if drill and not drills:
        raise ValueError("the text of a drill has no mark")
    marks = [*written[: len(drills)], *(mark for mark in written if mark in _ANNOUNCED)]
    announced = [_ANNOUNCED[mark] for mark in marks if mark in _ANNOUNCED]
    title = "、".join(
        [*(word for word in written if word not in marks), text.title[found.end() :] if found else text.title]
    )
    said = [title, *_without_marks(text.body, marks).split("\n")]
    plain = [opening, *announced, *said, closing]
    whole = _plain("\n".join(plain))
    # An alert for the nation brings the names of two thousand places.
    used = {name: kana for name, kana in readings.items() if name in whole}
    sentences = [_read(line, used) for paragraph in plain for line in _sentences(paragraph)]
    # No reading that a sender gives changes the word for a drill.
    marked = [_read(line, {}) for line in drills]
    return Speech(tuple(filter(None, [*marked, *sentences, *marked])), f"{text.title}\n\n{text.body}\n")


def readings_of(entry: Entry, own: Mapping[str, str]) -> dict[str, str]:
    """Return how names and words in an alert are read, as kana by what is written; `own`, the operator's, before the sender's, the gazetteer's and `MISREAD`."""
    found = dict(MISREAD)
    found |= {place.name: place.kana for place in entry.facts.places if place.kana}
    for info in entry.alert.infos:
        for parameter in info.parameters:
            if parameter.name.removeprefix("jp:") == "kana":
                name, _, kana = parameter.value.partition("=")
                found[name.strip()] = kana.strip()
    found |= own
    return {_plain(name): kana for name, kana in found.items() if kana and _KANJI.search(name)}


def _without_marks(body: str, marks: Iterable[str]) -> str:
    for mark in marks:
        body = body.replace(f"【{mark}】", "")
    return body


def _sentences(paragraph: str) -> list[str]:
    parts = re.findall(rf"[^{_ENDS}]+[{_ENDS}]*", paragraph.strip())
    return [part if part[-1] in _ENDS else f"{part}。" for part in parts if part.strip(f"{_ENDS} ")]


def _read(sentence: str, readings: Mapping[str, str]) -> str:
    said = _plain(sentence).strip()
    if readings:
        names = "|".join(re.escape(name) for name in sorted(readings, key=len, reverse=True))
        # 人吉市民 and 人吉市立 are words of their own, which the voice knows better.
        said = re.sub(rf"({names})(?![民立営])", lambda name: readings[name[1]].translate(_TO_KATAKANA), said)
    for pattern, spelling in _SPELLINGS:
        said = pattern.sub(spelling, said)
    # What has no Japanese letter the voice would spell or leave out.
    return said if _JAPANESE.search(said) else ""


def _plain(text: str) -> str:
    """Return a text with figures and Latin letters of one width."""
    return unicodedata.normalize("NFKC", text)
