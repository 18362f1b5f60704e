"""The words of the pages in each language, which one a visitor wants, and how times are written for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from lalert.model import JST

LANGUAGES: Final = ("ja", "en")
"""Each has a file in locales/; the first is what a visitor gets who asks for none of them."""

_LOCALES = Path(__file__).parent / "locales"
_TAG = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8}){0,4}")


class Wording:
    """The catalogue of one language; a key is a path such as `card.until`. A missing key is a mistake of ours and raises KeyError."""

    def __init__(self, catalogue: Mapping[str, Any]) -> None:
        self.catalogue = catalogue
        self.lang: str = catalogue["lang"]

    def __call__(self, key: str, **values: object) -> str:
        section, _, name = key.partition(".")
        text: str = self.catalogue[section][name]
        return fill(text, values)

    def has(self, key: str) -> bool:
        """Say whether a key of two parts exists."""
        section, _, name = key.partition(".")
        return name in self.catalogue[section]

    def grade(self, level: int | None, kind: str, severity: str) -> str:
        """Return how grave something is, in words: 警戒レベル of an order, 相当 of an observation from level 3 on, else the severity."""
        words = self.catalogue["grade"]
        if level is None:
            return str(words["severity"].get(severity, words["severity"]["Unknown"]))
        # A gauge or the weather service never issues the mayor's level: from 3 on theirs are 相当 (内閣府 避難情報に関するガイドライン).
        ordered = kind == "evacuation" or level < 3
        return fill(words["level" if ordered else "equivalent"], {"n": level})

    def moment(self, when: datetime, style: str = "stamp") -> str:
        """Return a time as people in Japan read it: `stamp` (day and minute), `date`, `clock`, `exact` (to the second)."""
        words, local = self.catalogue["time"], when.astimezone(JST)
        values = {
            "month": words["months"][local.month - 1],
            "day": local.day,
            "weekday": words["weekdays"][local.isoweekday() % 7],
            "hour": local.hour,
            "minute": f"{local.minute:02}",
            "second": f"{local.second:02}",
        }
        return fill(words[style], values)


def fill(text: str, values: Mapping[str, object]) -> str:
    """Replace `{name}` by values, in one pass: a value that holds braces is never read again. static/js/wording.js does the same."""
    return re.sub(r"\{(\w+)\}", lambda found: str(values.get(found[1], found[0])), text)


@cache
def wordings() -> Mapping[str, Wording]:
    """Read every language, once."""
    return {
        lang: Wording(json.loads((_LOCALES / f"{lang}.json").read_text(encoding="utf-8")))
        for lang in LANGUAGES
    }


def language_tag(text: str) -> str | None:
    """Return a well-formed language tag (RFC 5646, shortened) as given, or None."""
    return text if _TAG.fullmatch(text) else None


def choose(asked: str | None, accepted: str) -> Wording:
    """Return the wording for `?lang=` first, then for an Accept-Language header, then Japanese."""
    for tag in (asked or "", *_by_preference(accepted)):
        primary = tag.partition("-")[0].lower()
        if primary in LANGUAGES:
            return wordings()[primary]
    return wordings()[LANGUAGES[0]]


def _by_preference(header: str) -> Iterator[str]:
    """Yield the tags of an Accept-Language header (RFC 9110, 12.5.4), the most wanted first, refused ones left out."""
    wanted: list[tuple[float, str]] = []
    for part in header[:500].split(","):
        tag, _, quality = part.strip().partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            continue
        if tag and 0 < weight <= 1:
            wanted.append((weight, tag))
    wanted.sort(key=lambda pair: -pair[0])
    yield from (tag for _, tag in wanted)
