"""Where a text may be parted: after a sentence, between phrases, between letters; never in an address, a number or what is read as one letter."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Final

_ADDRESSES: Final = re.compile(
    r"""
    (?:https?|ftp)[:：]/{1,2}(?:[!-;=?-~]*[\w/\#=&%~+$@*-]|[^\s\u3000、。！？「」()（）<>]{0,255})  # a name in other letters ends where words end
    | \bwww\.[!-;=?-~]*[\w/\#=&%~+$@*-]
    | (?<![\w.+-])[\w.+-]{1,64}[@＠][\w-]{1,63}(?:\.[\w-]{1,63})+
    | (?<![a-z0-9@.-])(?:[a-z0-9-]{1,63}\.){1,8}(?:jp|com|net|org)(?![a-z0-9])(?:[/?\#][!-;=?-~]*[\w/\#=&%~+$@*-]|[/])?
    """,
    re.IGNORECASE | re.VERBOSE | re.ASCII,
)
# What is left of addresses that are written in other letters, as the carriers of 緊急速報メール look for them.
_LEFT_OVER: Final = re.compile(
    r"https?[:：]//|www\.|(?<=[\w.+-])[@＠](?=[\w-]{1,63}\.[\w.-])|\.(?=(?:jp|com|net|org)(?![a-z0-9]))",
    re.IGNORECASE,
)
_SIGNS: Final = re.compile(r"[@＠:：.]")
_EMPTIED: Final = re.compile(r"[(（「『<＜【\[][\s:：、,]*[)）」』>＞】\]]")
_CLOSERS = "」』）)】］]”’\"'〉》＞>"
# Each of these begins where a run of its characters begins, so that no text takes long: an alert of 20,000 "!" would take half a minute.
_SENTENCES: Final = re.compile(
    rf"[。！？｡]+[{re.escape(_CLOSERS)}]*|(?<!\b[A-Z])(?<!\b[A-Z][a-z])(?<!\b[A-Z][a-z]{{2}})\.[{re.escape(_CLOSERS)}]*(?=\s+[^\sa-z0-9])"
    rf"|(?<![!?])[!?]++[{re.escape(_CLOSERS)}]*(?=\s)|\n\s*"
)
_PARTICLE: Final = "はがをにでへやたてるすなうくと"
_PHRASES: Final = re.compile(
    r"\s+|[、，；：・,;:](?!\d)|(?=[（(「『【［\[〈《])|(?<=[）)」』】］\]〉》])"
    # After a particle a new phrase begins, unless it is the name of a place: うきは市, せたな町.
    rf"|(?<=[{_PARTICLE}])(?=[\u3400-\u9fffァ-ヺ])(?![市区町村郡県府都道駅川山港島湾])"
)
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_LETTERS: Final = re.compile(
    rf"(?<=[{_UNSPACED}、。])(?=[{_UNSPACED}])(?![ーぁぃぅぇぉゃゅょっゎァィゥェォャュョッヮヵヶゝゞヽヾ])"
)
_JOINING = {"\u200d", "\u200c"}
_BEFORE = "เแโใไເແໂໃໄ"
"""Vowels of Thai and Lao that are written before their consonant."""


def without_addresses(text: str) -> str:
    """Return a text without web and mail addresses, and without the brackets and lines that held nothing else."""
    if not _SIGNS.search(text) or not (_ADDRESSES.search(text) or _LEFT_OVER.search(text)):
        return text
    plain = _LEFT_OVER.sub(" ", _ADDRESSES.sub("", text))
    while _LEFT_OVER.search(plain) or _ADDRESSES.search(plain):  # what has moved together may read as another
        plain = _LEFT_OVER.sub(" ", _ADDRESSES.sub(" ", plain))
    lines = (re.sub(r"[^\S\n]{2,}", " ", _EMPTIED.sub("", line)).strip() for line in plain.split("\n"))
    return "\n".join(line for line in lines if any(letter.isalnum() for letter in line))


def sentence_ends(text: str) -> list[int]:
    """Return where sentences end, the last at the end of the text."""
    return _places(text, (match.end() for match in _SENTENCES.finditer(text)))


def phrase_ends(text: str) -> list[int]:
    """Return where a phrase ends: at a space, a comma, a bracket, and in Japanese after a particle."""
    return _places(text, (match.end() for match in _PHRASES.finditer(text)))


def letter_ends(text: str) -> list[int]:
    """Return where letters of scripts that part no words by spaces may be parted."""
    return _places(text, (match.start() for match in _LETTERS.finditer(text)))


def _places(text: str, ends: Iterable[int]) -> list[int]:
    inside = _inside_addresses(text)
    found = [end for end in ends if 0 < end < len(text) and not inside(end) and not joined(text, end)]
    return [*dict.fromkeys(found), len(text)]


def _inside_addresses(text: str) -> Callable[[int], bool]:
    covered = {at for match in _ADDRESSES.finditer(text) for at in range(match.start() + 1, match.end())}
    return covered.__contains__


def joined(text: str, at: int) -> bool:
    """Say whether the characters before and after a place are read as one letter (after UAX #29), or as one end of a line."""
    before, after = text[at - 1], text[at]
    return (
        _extends(after)
        or before in _JOINING
        or before in _BEFORE
        or "\ud800" <= before <= "\udbff"
        or (before == "\r" and after == "\n")
        or (_regional(before) and _regional(after) and _flags_before(text, at) % 2 == 1)
        or ("\u1100" <= before <= "\u11ff" and "\u1100" <= after <= "\u11ff")
        or ("\uac00" <= before <= "\ud7a3" and "\u1160" <= after <= "\u11ff")
    )


def _extends(character: str) -> bool:
    return (
        unicodedata.category(character) in {"Mn", "Mc", "Me"}
        or character in _JOINING
        or character in "\uff9e\uff9f\u0e33\u0eb3"
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or "\U000e0020" <= character <= "\U000e007f"
    )


def _regional(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _flags_before(text: str, at: int) -> int:
    count = 0
    while count < at and _regional(text[at - 1 - count]):
        count += 1
    return count
