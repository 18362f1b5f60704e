"""Who was told of what ahead of its lane's cursor: many targets in one small note, where a row for each would be millions.

While a channel with many targets works off a flood, the newest alert goes first, so the cursors stay where they are until the oldest is out. What was delivered
meanwhile has to survive a crash all the same. A note holds one batch of results; the notes are numbered from 0 without a gap, and go when no
target has anything to be told any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from lalert.store import StateStore

OWNER: Final = "dispatch.told"
MAX_BYTES: Final = 60_000
"""Of a note; the store takes a little more."""

AT_ONCE: Final = 100
"""So many notes are dropped in one go."""

Note = dict[str, list[str]]
"""The ids of subscriptions, by the id of the alert that each was told of."""


class Told:
    """Keeps the notes in the store's small values, for one node alone. What it says of an alert holds in every log, as alerts' ids outlive theirs."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._known: dict[str, set[str]] = {}
        self._one = asyncio.Lock()
        self.notes = 0

    async def load(self) -> None:
        """Read what was noted before this start."""
        self._known.clear()
        self.notes = 0
        while (raw := await self._state.get(OWNER, str(self.notes))) is not None:
            for alert, subscriptions in msgspec.json.decode(raw, type=Note).items():
                for subscription in subscriptions:
                    self._known.setdefault(subscription, set()).add(alert)
            self.notes += 1

    def knows(self, subscription_id: str, alert_id: str) -> bool:
        """Say whether it was noted before this start that a target was told of an alert."""
        known = self._known.get(subscription_id)
        return known is not None and alert_id in known

    async def note(self, told: Iterable[tuple[str, str]]) -> None:
        """Keep pairs of subscription and alert; returns once that is durable. Raises `Unavailable`."""
        note: Note = {}
        for subscription, alert in told:
            note.setdefault(alert, []).append(subscription)
        async with self._one:
            await self._put(note)

    async def forget(self, notes: int) -> None:
        """Drop all notes, if there are still no more than so many: every target's cursor tells by now what they told. Raises `Unavailable`.

        A crash may leave some of them; they are true, and are written over.
        """
        async with self._one:
            while self.notes and self.notes <= notes:
                some = range(max(0, self.notes - AT_ONCE), self.notes)
                await asyncio.gather(*(self._state.delete(OWNER, str(number)) for number in some))
                self.notes = some.start
            if not self.notes:
                self._known.clear()

    async def _put(self, note: Note) -> None:
        raw = msgspec.json.encode(note)
        if len(raw) > MAX_BYTES:
            for half in _halves(note):
                await self._put(half)
            return
        await self._state.put(OWNER, str(self.notes), raw)
        self.notes += 1


def _halves(note: Mapping[str, Sequence[str]]) -> tuple[Note, Note]:
    pairs = [(alert, subscription) for alert, many in note.items() for subscription in many]
    first: Note = {}
    second: Note = {}
    for number, (alert, subscription) in enumerate(pairs):
        (first if number < len(pairs) // 2 else second).setdefault(alert, []).append(subscription)
    return first, second
