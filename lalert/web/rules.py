"""The page that explains every rule that a finding can carry, in both languages: what `doc` of a finding leads to."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from lalert.cap import TOLERABLE, Rule
from lalert.findings import TABLES

Piece = tuple[str, bool]
"""Words as they are, or (True) the name of what stands there in a finding."""


@dataclass(frozen=True, slots=True)
class Said:
    """A rule in one language."""

    lang: str
    message: Sequence[Piece]
    help: Sequence[Piece]


@dataclass(frozen=True, slots=True)
class Explained:
    """A rule as the page shows it: first in the visitor's language, then in the other."""

    id: str
    severity: str
    clause: str
    tolerable: bool
    said: tuple[Said, Said]


@dataclass(frozen=True, slots=True)
class Section:
    """One table of rules."""

    id: str
    title: str
    rules: tuple[Explained, ...]


@cache
def sections(lang: str) -> tuple[Section, ...]:
    """Return every table for a visitor who reads Japanese ("ja") or English."""
    return tuple(
        Section(
            f"rules-{table.prefix.rstrip('-').lower()}",
            table.title_ja if lang == "ja" else table.title,
            tuple(_explained(rule, lang) for rule in table.rules.values()),
        )
        for table in TABLES
    )


def _explained(rule: Rule, lang: str) -> Explained:
    japanese = Said("ja", tuple(_pieces(rule.message_ja)), tuple(_pieces(rule.help_ja)))
    english = Said("en", tuple(_pieces(rule.message)), tuple(_pieces(rule.help)))
    said = (japanese, english) if lang == "ja" else (english, japanese)
    return Explained(rule.id, rule.severity.value, rule.clause, rule.id in TOLERABLE, said)


def _pieces(template: str) -> Iterator[Piece]:
    for words, name, _, _ in string.Formatter().parse(template):
        if words:
            yield words, False
        if name is not None:
            yield name.removesuffix("_ja"), True
