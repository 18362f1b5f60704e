"""How many deliveries of each alert were planned and settled, by channel and outcome: counts alone, whoever the recipients are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from lalert.store import DeliveryState
from lalert.store.audit import HUB, Action, Note

QUIET: Final = timedelta(seconds=2)
"""Everything is settled when nothing more is known to wait, and nothing has happened for so long."""

PAUSES: Final = (timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1))
"""When what is settled so far is written although not everything is: after each of these, and then every hour."""

KEPT: Final = 1_000
"""So many channels' tallies are remembered when all of them is written: a confirmation that comes later still finds its alert."""

AT_ONCE: Final = 500
"""Counts that are looked at before everybody else has a turn on the loop: a flood of alerts leaves many, and a line each. About 2 ms."""

PLANNED: Final = "planned"
CONFIRMED: Final = "confirmed"
SUBSCRIBERS: Final = "subscribers"
LIVE: Final = "live"
"""The streams, as a channel."""


@dataclass(slots=True)
class _Tally:
    """`counts` are those since the last line, `since` when the first of them was counted, `last` the last; `told` when a line has said that all was settled."""

    org: str
    alert: str
    since: datetime
    last: datetime
    waiting: int = 0
    pauses: int = 0
    told: bool = False
    counts: Counter[str] = field(default_factory=Counter)


class Sent:
    """Counts since the last line, by position and channel. A node that is killed loses the counts that it has not written."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], _Tally] = {}
        self._written: dict[tuple[str, str], _Tally] = {}

    def planned(self, now: datetime, org: str, alert: str, position: str, channel: str, number: int) -> None:
        """Count deliveries that are to be made."""
        tally = self._tally(now, org, alert, position, channel)
        tally.counts[PLANNED] += number
        tally.waiting += number

    def settled(
        self, now: datetime, org: str, alert: str, position: str, channel: str, state: DeliveryState
    ) -> None:
        """Count one of which it is known what became of it."""
        tally = self._tally(now, org, alert, position, channel)
        tally.counts[str(state)] += 1
        tally.waiting -= 1

    def confirmed(self, now: datetime, position: str, channel: str) -> None:
        """Count one that the far end confirmed; of an alert of long ago nothing is known any more, and nothing counted."""
        tally = self._known(now, position, channel)
        if tally is not None:
            tally.counts[CONFIRMED] += 1

    def streamed(self, now: datetime, org: str, alert: str, position: str, subscribers: int) -> None:
        """Count the live subscribers that an alert was written to; that there were none leaves no line."""
        if subscribers:
            self._tally(now, org, alert, position, LIVE).counts[SUBSCRIBERS] += subscribers

    @property
    def slices(self) -> int:
        """Return how many calls of `due` look at all that is counted."""
        return -(-len(self._open) // AT_ONCE)

    def due(self, now: datetime, *, ending: bool = False) -> list[Note]:
        """Look at the next `AT_ONCE` counts: return what is to be written now, and count it no longer; all of it when the node is `ending`."""
        notes: list[Note] = []
        for key in list(islice(self._open, AT_ONCE)):
            # Those that are not due go to the end of the row.
            tally = self._open.pop(key)
            done = tally.waiting <= 0 and not tally.told and not tally.last <= now < tally.last + QUIET
            pause = PAUSES[min(tally.pauses, len(PAUSES) - 1)]
            # What trickles in when all was settled has its pauses too, or each confirmation would be a line.
            if ending or done or not tally.since <= now < tally.since + pause:
                notes.append(_note(now, key, tally))
                tally.counts = Counter()
                tally.pauses = 0 if done else tally.pauses + 1
                tally.told = tally.told or done
                self._written[key] = tally
            else:
                self._open[key] = tally
        while len(self._written) > KEPT:
            del self._written[next(iter(self._written))]
        return notes

    def _tally(self, now: datetime, org: str, alert: str, position: str, channel: str) -> _Tally:
        known = self._known(now, position, channel)
        if known is None:
            known = self._open[position, channel] = _Tally(org, alert, now, now)
        return known

    def _known(self, now: datetime, position: str, channel: str) -> _Tally | None:
        key = (position, channel)
        tally = self._open.get(key)
        if tally is None and (tally := self._written.pop(key, None)) is not None:
            tally.since = now
            self._open[key] = tally
        if tally is not None:
            tally.last = now
        return tally


def _note(now: datetime, key: tuple[str, str], tally: _Tally) -> Note:
    position, channel = key
    details: dict[str, str | int] = {"position": position, "channel": channel, **tally.counts}
    if channel != LIVE:
        details["waiting"] = max(0, tally.waiting)
    return Note(now, HUB, Action.SENT, tally.alert, tally.org, details)
