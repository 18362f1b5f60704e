"""The words of a 緊急速報メール: in letters that every telephone shows, no longer than carriers take, without addresses."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

from lalert.errors import PermanentFailure
from lalert.plugin import full_width

GETA: Final = "〓"
FAR_TOO_LONG: Final = 4_000

_LINK = re.compile(
    r"https?[:：]//|www\.|[\w.+-]{1,64}[@＠][\w-]{1,63}\.[\w.-]|(?<![a-z0-9-])[a-z0-9-]{1,63}\.(?:jp|com|net|org)(?![a-z0-9])",
    re.IGNORECASE,
)
_HALF_KANA = re.compile(r"[｡-ﾟ]+")
_LOOK_ALIKES: Final = frozenset("～－―∥￠￡￢")
"""Letters of JIS X 0208 that other systems map to different code points than Python does."""
_FORMS: Final = {"髙": "高", "﨑": "崎"}
"""Forms of two letters of many names and places that are not in JIS X 0208, and that no normalisation knows."""


def plain(text: str) -> str:
    """Return a text in the letters that every telephone shows (ASCII and JIS X 0208): wider forms where there are such, else 〓."""
    return "".join(map(_carried, _HALF_KANA.sub(lambda kana: unicodedata.normalize("NFKC", kana[0]), text)))


def measure(text: str) -> int:
    """Return how many characters carriers count of a text once it is plain."""
    # A text of megabytes has no room in any case, and is asked about on the event loop again and again while it is cut.
    return len(text) if len(text) > FAR_TOO_LONG else full_width(plain(text))


@lru_cache(maxsize=4_096)
def _carried(letter: str) -> str:
    if letter == "\n" or _is_shown(letter):
        return letter
    if letter.isspace():
        return "\u3000" if unicodedata.east_asian_width(letter) in "FW" else " "
    wider = _FORMS.get(letter) or unicodedata.normalize("NFKC", letter)
    if all(map(_is_shown, wider)):
        return wider
    # What has no width of its own (a variation selector, a joiner, a control code) leaves no gap.
    return "" if unicodedata.category(letter) in {"Cc", "Cf", "Mn"} else GETA


def _is_shown(letter: str) -> bool:
    if letter.isascii():
        return letter.isprintable()
    try:
        # Of two bytes are those of JIS X 0208; of one byte kana of half width and the yen sign.
        return letter in _LOOK_ALIKES or len(letter.encode("shift_jis")) == 2
    except UnicodeEncodeError:
        return False


def chosen(what: str, own: str, made: str, limit: int, changes: list[str]) -> str:
    """Return the sender's words if they hold, else the hub's, in the letters that telephones show; notes in `changes` what was done to them."""
    words, text = own, plain(own)
    if own and (problem := _problem(text, limit)):
        changes.append(f"the sender's {what} {problem}: the hub's in its place")
    if not own or problem:
        words, text = made, plain(made)
        if problem := _problem(text, limit):
            raise PermanentFailure(f"the {what} {problem}")
    if lost := text.count(GETA) - words.count(GETA):
        changes.append(f"letters of the {what} that not every telephone shows: {lost} replaced with {GETA}")
    elif text != words:
        changes.append(f"letters of the {what} that not every telephone shows were written in others")
    return text


def _problem(text: str, limit: int) -> str:
    if not text:
        return "is empty"
    if full_width(text) > limit:
        return f"has {full_width(text)} characters of at most {limit}"
    return "holds an address of the web or of mail, which carriers refuse" if _LINK.search(text) else ""
