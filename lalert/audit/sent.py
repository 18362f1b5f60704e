"""How many deliveries of each alert were settled, by channel and outcome: counts alone, whoever the recipients are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from lalert.store import DeliveryState
from lalert.store.audit import HUB, Action, Note

PAUSES: Final = (timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1))
"""When what is settled so far is written although not everything is: after each of these, and then every hour."""

KEPT: Final = 1_000
"""So many channels' counts are remembered when everything is settled: a confirmation that comes later still finds its alert."""

CONFIRMED: Final = "confirmed"
SUBSCRIBERS: Final = "subscribers"
LIVE: Final = "live"
"""The streams, as a channel."""


@dataclass(slots=True)
class _Tally:
    org: str
    alert: str
    since: datetime
    waiting: int = 0
    pauses: int = 0
    told: bool = False
    counts: Counter[str] = field(default_factory=Counter)


class Sent:
    """Counts since the last line, by position and channel. A node that is killed loses the counts that it has not written."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], _Tally] = {}
        self._closed: dict[tuple[str, str], _Tally] = {}

    def began(self, now: datetime, position: str, channel: str, org: str, alert: str) -> None:
        """Note that a delivery waits to be sent."""
        tally = self._tally(now, position, channel, org, alert)
        tally.waiting += 1
        tally.told = False

    def settled(self, now: datetime, position: str, channel: str, state: DeliveryState) -> None:
        """Note what became of one; of one that was never said to wait, nothing is known and nothing noted."""
        tally = self._known(now, position, channel)
        if tally is not None:
            tally.waiting = max(0, tally.waiting - 1)
            tally.counts[str(state)] += 1

    def withdrawn(self, position: str, channel: str) -> None:
        """Note that one waits no longer here: another node sends it, or it will be planned anew."""
        tally = self._open.get((position, channel))
        if tally is not None:
            tally.waiting = max(0, tally.waiting - 1)

    def confirmed(self, now: datetime, position: str, channel: str) -> None:
        """Note that the far end confirmed one."""
        tally = self._known(now, position, channel)
        if tally is not None:
            tally.counts[CONFIRMED] += 1

    def streamed(self, now: datetime, position: str, org: str, alert: str, subscribers: int) -> None:
        """Note to how many live subscribers an alert was written; that there were none leaves no line."""
        if subscribers:
            self._tally(now, position, LIVE, org, alert).counts[SUBSCRIBERS] += subscribers

    def due(self, now: datetime, *, ending: bool = False) -> list[Note]:
        """Return what is to be written now, and count it no longer; all of it when the node is `ending`."""
        notes: list[Note] = []
        for key, tally in list(self._open.items()):
            # When all is settled, at once; what trickles in after that has its pauses too, or each confirmation would be a line.
            done = not tally.waiting and not tally.told
            pause = PAUSES[min(tally.pauses, len(PAUSES) - 1)]
            if tally.counts and (ending or done or not tally.since <= now < tally.since + pause):
                notes.append(_note(now, key, tally))
                tally.counts = Counter()
                tally.since = now
                tally.pauses = 0 if done else tally.pauses + 1
                tally.told = done or tally.told
            if not tally.waiting and not tally.counts:
                self._closed[key] = self._open.pop(key)
        while len(self._closed) > KEPT:
            del self._closed[next(iter(self._closed))]
        return notes

    def _tally(self, now: datetime, position: str, channel: str, org: str, alert: str) -> _Tally:
        known = self._known(now, position, channel)
        if known is None:
            known = self._open[position, channel] = _Tally(org, alert, now)
        return known

    def _known(self, now: datetime, position: str, channel: str) -> _Tally | None:
        key = (position, channel)
        tally = self._open.get(key)
        if tally is None and (tally := self._closed.pop(key, None)) is not None:
            tally.since = now
            self._open[key] = tally
        return tally


def _note(now: datetime, key: tuple[str, str], tally: _Tally) -> Note:
    position, channel = key
    details: dict[str, str | int] = {"position": position, "channel": channel, **tally.counts}
    if channel != LIVE:
        details["waiting"] = tally.waiting
    return Note(now, HUB, Action.SENT, tally.alert, tally.org, details)
