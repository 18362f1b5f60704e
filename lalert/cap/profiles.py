"""What an alert means in Japan: the 警戒レベル, the kind of information, and which geocodes are municipality codes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from lalert.model import Alert

JIS_GEOCODE_NAMES: Final = frozenset(
    {
        "JIS X 0402",
        "JISX0402",
        "JIS_X_0402",
        "JIS-X-0402",
        "JIS X0402",
        "jisX0402",
        "jisx0402",
        "jp:jisX0402",
        "jp:municipality",
        "municipalityCode",
        "市区町村コード",
        "市町村コード",
        "全国地方公共団体コード",
        "標準地域コード",
        "地方公共団体コード",
    }
)
"""The valueNames of a <geocode> whose value is a municipality code of JIS X 0401/0402, of 5 digits or of 6 with the check digit."""

LEVEL_NAMES: Final = frozenset({"警戒レベル", "jp:alertLevel", "alertLevel", "level", "Level"})
"""The valueNames of a <parameter> whose value is the mayor's 警戒レベル. 警戒レベル相当 is JMA's and another thing: never read as this."""

KIND_NAMES: Final = frozenset({"jp:kind"})

_KIND = re.compile(r"[a-z][a-z0-9-]{0,31}")

# In this order: 避難所 is a shelter though 避難 is in it, and an order to evacuate because of rain is an evacuation.
_KINDS_BY_EVENT = (
    (
        "shelter",
        re.compile(r"避難所|避難場所|滞在施設|\bshelter (?:open|clos)|\bshelter information", re.IGNORECASE),
    ),
    ("evacuation", re.compile(r"避難|緊急安全確保|\bevacuat", re.IGNORECASE)),
    ("river-level", re.compile(r"水位|氾濫|洪水|河川|\briver\b|\bflood", re.IGNORECASE)),
    ("rain", re.compile(r"雨|\brain", re.IGNORECASE)),
)


def level(alert: Alert) -> int | None:
    """Return the highest 警戒レベル (1 to 5) that a <parameter> of the alert gives, None if none does.

    Names are read generously, values strictly: one digit, half or full width. JMA's levels (相当) do not count.
    """
    return max(_levels(alert), default=None)


def _levels(alert: Alert) -> Iterator[int]:
    for value in _parameters(alert, LEVEL_NAMES):
        digit = unicodedata.normalize("NFKC", value)
        if digit in {"1", "2", "3", "4", "5"}:
            yield int(digit)


def kind(alert: Alert) -> str:
    """Return the kind of information: what a `jp:kind` parameter says, else what the events and categories suggest.

    One of `evacuation`, `river-level`, `rain`, `shelter`, `weather`, `general`, or a sender's own word of the same form.
    """
    for value in _parameters(alert, KIND_NAMES):
        if _KIND.fullmatch(value):
            return value
    for name, pattern in _KINDS_BY_EVENT:
        if any(pattern.search(info.event) for info in alert.infos):
            return name
    return "weather" if any("Met" in info.categories for info in alert.infos) else "general"


def _parameters(alert: Alert, names: frozenset[str]) -> Iterator[str]:
    for info in alert.infos:
        for parameter in info.parameters:
            if parameter.name in names:
                yield parameter.value
