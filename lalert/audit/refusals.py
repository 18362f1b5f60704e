"""Refused submissions, counted so that a flood of them cannot fill a disk: one line a minute for each key and code."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from lalert.store.audit import NOBODY, Action, Actor, Note

WINDOW: Final = timedelta(minutes=1)

MAX_KINDS: Final = 1_000
"""So many kinds (key and code) are told apart; what is beyond them is counted by its code alone."""


@dataclass(slots=True)
class _Count:
    first: datetime
    network: str | None
    times: int = 0


class Refusals:
    """A kind's first refusal is due at once, and what follows it within `WINDOW` together at the end of that."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, Actor, str], datetime] = {}
        self._counts: dict[tuple[str, Actor, str], _Count] = {}

    def add(self, now: datetime, org: str, actor: Actor, code: str, network: str | None) -> None:
        """Count one refusal; `code` is that of the error (docs/errors.md)."""
        kind = (org, actor, code)
        if kind not in self._counts and len(self._counts) >= MAX_KINDS:
            kind = ("", NOBODY, code)
        self._counts.setdefault(kind, _Count(now, network)).times += 1

    def due(self, now: datetime, *, ending: bool = False) -> list[Note]:
        """Return what is to be written now, and count it no longer; all of it when the node is `ending`."""
        self._open = {kind: until for kind, until in self._open.items() if now < until <= now + WINDOW}
        ready = [kind for kind in self._counts if ending or kind not in self._open]
        notes = [_note(kind, self._counts.pop(kind)) for kind in ready]
        self._open |= dict.fromkeys(ready, now + WINDOW)
        return notes


def _note(kind: tuple[str, Actor, str], count: _Count) -> Note:
    org, actor, code = kind
    details = {"network": count.network, "times": count.times}
    return Note(count.first, actor, Action.REFUSED, code, org, details)
