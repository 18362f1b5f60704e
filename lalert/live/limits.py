"""How many streams there may be, in all and for each caller."""

from __future__ import annotations

import random
from collections import Counter
from typing import Final, TypeVar

from lalert.errors import TooManyRequests, Unavailable
from lalert.live.settings import LiveSettings

RETRY_SECONDS: Final = (10.0, 20.0)
"""Between which it is spread when whoever finds no room shall come again: those who were refused at once must not all come back at once."""

T = TypeVar("T")


class Admission:
    """One stream that was counted in; leaving it as a context manager counts it out. Entering gives the language to encode for.

    Not a generator, as a context manager would be: there is one for each stream for as long as it lasts.
    """

    __slots__ = ("caller", "lang", "limits")

    def __init__(self, limits: Limits, caller: tuple[str, str], lang: str | None) -> None:
        self.limits = limits
        self.caller = caller
        self.lang = lang

    def __enter__(self) -> str | None:
        return self.lang

    def __exit__(self, *exc: object) -> None:
        self.limits.leave(self)


class Limits:
    """Counts streams: those with a key by the key, the others by their address."""

    def __init__(self, settings: LiveSettings) -> None:
        self._settings = settings
        self._callers: Counter[tuple[str, str]] = Counter()
        self._languages: Counter[str] = Counter()
        self.open = 0
        self.refused = 0
        self.stopping = False

    def admit(self, key_id: str | None, address: str | None, lang: str | None = None) -> Admission:
        """Count one stream in; raises `Unavailable` when the node is full or stopping, `TooManyRequests` when the caller is over the limit.

        Every language costs each alert another encoding, so that there is a bound to how many; beyond it a stream has them all.
        """
        caller, limit = self._caller(key_id, address)
        try:
            if self.stopping:
                raise Unavailable(
                    "the hub is stopping", retry_after=_spread(self._settings.retry_s), code="stopping"
                )
            if self.open >= self._settings.max_connections:
                raise Unavailable(
                    "this node has as many streams as it can serve",
                    retry_after=_spread(RETRY_SECONDS),
                    code="full",
                )
            if self._callers[caller] >= limit:
                raise TooManyRequests(
                    f"no more than {limit} streams at once from one {caller[0]}",
                    retry_after=_spread(RETRY_SECONDS),
                )
        except Unavailable:
            self.refused += 1
            raise
        if lang not in self._languages and len(self._languages) >= self._settings.max_languages:
            lang = None
        self.open += 1
        self._callers[caller] += 1
        if lang is not None:
            self._languages[lang] += 1
        return Admission(self, caller, lang)

    def leave(self, admission: Admission) -> None:
        """Count one out."""
        self.open -= 1
        _count_down(self._callers, admission.caller)
        if admission.lang is not None:
            _count_down(self._languages, admission.lang)

    def _caller(self, key_id: str | None, address: str | None) -> tuple[tuple[str, str], int]:
        if key_id is not None:
            return ("key", key_id), self._settings.max_per_key
        return ("address", address or ""), self._settings.max_per_address


def _count_down(counter: Counter[T], key: T) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def _spread(between: tuple[float, float]) -> float:
    return random.uniform(*between)  # noqa: S311  # spreads a load, guards nothing
