"""The mark that tells a drill from the real thing. The hub adds it, never the writer: in several national tests the writers forgot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from lalert.model import Status

_WORDS: Final[Mapping[Status, tuple[str, str]]] = {
    Status.EXERCISE: ("訓練", "EXERCISE"),
    Status.TEST: ("試験", "TEST"),
    Status.SYSTEM: ("システム", "SYSTEM"),
    Status.DRAFT: ("下書き", "DRAFT"),
}
_SYNONYMS: Final[Mapping[Status, tuple[str, ...]]] = {
    Status.EXERCISE: ("訓練", "EXERCISE", "DRILL"),
    Status.TEST: ("試験", "テスト", "TEST"),
    Status.SYSTEM: ("システム", "SYSTEM"),
    Status.DRAFT: ("下書き", "DRAFT"),
}
_OPENING, _CLOSING = r"[【\[［〔《〈＜<（(「『]", r"[】\]］〕》〉＞>）)」』]"
_FULL_WIDTH: Final = {ascii_code: chr(ascii_code + 0xFEE0) for ascii_code in range(0x21, 0x7F)}

_KANA = re.compile(r"[\u3041-\u30ff]")
_IDEOGRAPH = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def mark(text: str, status: Status, language: str) -> str:
    """Return a text that begins with the mark of its status: 【訓練】 in Japanese, `[EXERCISE] ` otherwise; an Actual one as it is.

    Never twice: what the writer put there in some other brackets, width or spacing gives way to it. A text counts as Japanese
    by what it is written in too, because CAP takes a missing <language> for en-US (3.2.2). An empty text stays empty.
    """
    if status not in _WORDS or not text.strip():
        return text
    return mark_before(text, status, language) + unmarked(text, status).lstrip()


def mark_before(text: str, status: Status, language: str) -> str:
    """Return the mark that a text has to begin with, empty where it is real."""
    if status not in _WORDS:
        return ""
    japanese, other = _WORDS[status]
    return f"【{japanese}】" if is_japanese(text, language) else f"[{other}] "


def unmarked(text: str, status: Status) -> str:
    """Return a text without the marks of its status that the writer put before it."""
    return _writers_own(status).sub("", text) if status in _WORDS else text


def marked_word(status: Status) -> str | None:
    """Return the Japanese word of the mark, or None where an alert is real."""
    return _WORDS[status][0] if status in _WORDS else None


def is_japanese(text: str, language: str) -> bool:
    """Say whether a text is to be marked in Japanese, by its language or by its letters."""
    primary = language.partition("-")[0].lower()
    if primary == "ja" or _KANA.search(text):
        return True
    return primary not in {"zh", "ko"} and _IDEOGRAPH.search(text) is not None


@cache
def _writers_own(status: Status) -> re.Pattern[str]:
    words = "|".join(_loose(word) for word in _SYNONYMS[status])
    return re.compile(rf"^(?:\s*{_OPENING}\s*(?:{words})\s*{_CLOSING}\s*)+", re.IGNORECASE)


def _loose(word: str) -> str:
    """Return a pattern of the word in half or full width, with or without spaces between its letters."""
    return r"\s*".join(f"[{letter}{letter.translate(_FULL_WIDTH)}]" for letter in word)
