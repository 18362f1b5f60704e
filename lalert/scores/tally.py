"""Counting while alerts come in: a few additions in memory for each document, written to the store every second and at the end.

A hub that is killed loses the last second of this; no answer to a sender ever waits for it.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import Final, Self

import structlog

from lalert.clock import Clock
from lalert.errors import InvalidAlert, LalertError, NotXml, Problem, Refused
from lalert.model import JST, Alert, Tenant
from lalert.scores.cards import Cards, cards_of
from lalert.store import MAX_DAYS, MAX_SENDERS, OTHERS, UNKNOWN, Example, Reason, Score, ScoreBook
from lalert.tenancy import sender_allowed
from lalert.texts import DEFECTS

log = structlog.get_logger()

FLUSH_SECONDS: Final = 1.0
ROWS_AT_ONCE: Final = 100
"""Days of senders written in one go: a few milliseconds of the writer that alerts wait for too."""

_LOOK_BYTES = 16_384
# A refused document was not read as an alert, so its own words for itself are looked for as text. Only a sender of the caller's own is believed.
_SENDER = re.compile(rb"<(?:[\w.-]{1,40}:)?sender[ \t\r\n]*>[ \t\r\n]*([^<>&\s]{1,200})[ \t\r\n]*</")
_IDENTIFIER = re.compile(rb"<(?:[\w.-]{1,40}:)?identifier[ \t\r\n]*>[ \t\r\n]*([^<>&\s]{1,200})[ \t\r\n]*</")


@dataclass(slots=True, eq=False)
class _Day:
    """One sender's day, as far as it is not yet written."""

    accepted: int = 0
    defective: int = 0
    refused: int = 0
    reasons: dict[str, Reason] = field(default_factory=dict)


class Scores:
    """Counts for as long as it is entered; what is left is written when it is left."""

    def __init__(self, book: ScoreBook, clock: Clock) -> None:
        self._book = book
        self._clock = clock
        self._days: dict[tuple[str, date, str], _Day] = {}
        self._senders: Counter[tuple[str, date]] = Counter()
        self.found: Counter[str] = Counter()
        """Documents by rule since the start, whoever sent them."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.flush()
        except LalertError as failure:
            log.error("the last counts of the scorecards were lost", detail=failure.detail)

    async def run(self) -> None:
        """Write every second, until cancelled."""
        while True:
            await self._clock.sleep(FLUSH_SECONDS)
            await self.flush()

    def accepted(self, tenant: Tenant, alert: Alert, warnings: Sequence[Problem]) -> None:
        """Count an alert that is kept now and was not before; `warnings` were found beside its own defects."""
        now = self._clock.now()
        day = self._day(tenant, now, alert.sender)
        problems = (*alert.defects, *warnings) if alert.defects or warnings else ()
        if any(problem.severity in DEFECTS for problem in problems):
            day.defective += 1
        else:
            day.accepted += 1
        if problems:
            self._note(day, now, _clean(alert.identifier), problems)

    def refused(self, tenant: Tenant, raw: bytes, error: LalertError) -> None:
        """Count a document that was refused by the sender's fault; that the hub could not take it is none."""
        if not isinstance(error, Refused):
            return
        now = self._clock.now()
        sender = _read(_SENDER, raw)
        own = sender if sender_allowed(tenant, sender) else UNKNOWN
        day = self._day(tenant, now, own)
        day.refused += 1
        identifier = _read(_IDENTIFIER, raw)
        problems = _problems(error)
        if problems:
            self._note(day, now, identifier, problems)
        else:
            self._add(day, error.error_code, now, Example(identifier))

    async def cards(self, org: str | None, sender: str | None, days: int) -> Cards:
        """Return the scorecards of an organisation (None: of all), of one sender or all, over the last days, today included."""
        await self.flush()
        until = self._clock.now().astimezone(JST).date()
        since = until - timedelta(days=min(days, MAX_DAYS) - 1)
        return cards_of(await self._book.scores(org, sender, since), since, until)

    async def flush(self) -> None:
        """Write what was counted; what cannot be written now is kept for the next time. Raises `Unavailable` and `StoreError`."""
        while self._days:
            keys = list(self._days)[:ROWS_AT_ONCE]
            days = {key: self._days.pop(key) for key in keys}
            for org, day, _ in keys:
                self._senders[org, day] -= 1
            self._senders = +self._senders
            await self._write(days)

    async def _write(self, days: dict[tuple[str, date, str], _Day]) -> None:
        writing = asyncio.ensure_future(
            self._book.add_scores([_score(key, day) for key, day in days.items()])
        )
        gone: asyncio.CancelledError | None = None
        # To its end, also when whoever waits goes away: else nobody knows whether it was written, and it would be lost or counted twice.
        while not writing.done():
            try:
                await asyncio.wait({writing})
            except asyncio.CancelledError as cancelled:
                gone = cancelled
        failure = writing.exception()
        if failure is not None:
            self._give_back(days)
        if gone is not None:
            raise gone
        if failure is not None:
            raise failure

    def _give_back(self, days: dict[tuple[str, date, str], _Day]) -> None:
        for (org, date_, sender), counted in days.items():
            day = self._of(org, date_, sender)
            day.accepted += counted.accepted
            day.defective += counted.defective
            day.refused += counted.refused
            for name, reason in counted.reasons.items():
                newer = day.reasons.get(name)
                day.reasons[name] = reason if newer is None else reason.then(newer)

    def _day(self, tenant: Tenant, now: datetime, sender: str) -> _Day:
        return self._of(tenant.id, now.astimezone(JST).date(), sender)

    def _of(self, org: str, day: date, sender: str) -> _Day:
        found = self._days.get((org, day, sender))
        if found is None:
            # While the store cannot write, the days are not let go: their number must not follow whatever senders somebody makes up.
            if self._senders[org, day] >= MAX_SENDERS and sender != OTHERS:
                return self._of(org, day, OTHERS)
            found = self._days[org, day, sender] = _Day()
            self._senders[org, day] += 1
        return found

    def _note(self, day: _Day, now: datetime, identifier: str, problems: Iterable[Problem]) -> None:
        first: dict[str, Problem] = {}
        for problem in problems:
            # Advice is looked for only where something else is wrong: counted, it would say that all others follow it.
            if problem.severity in DEFECTS:
                first.setdefault(problem.rule, problem)
        for rule, problem in first.items():
            self._add(day, rule, now, Example(identifier, problem.path[:200], problem.line))

    def _add(self, day: _Day, name: str, now: datetime, example: Example) -> None:
        once = Reason(1, now, now, example)
        known = day.reasons.get(name)
        day.reasons[name] = once if known is None else known.then(once)
        self.found[name] += 1


def _problems(error: Refused) -> Sequence[Problem]:
    if isinstance(error, InvalidAlert):
        return error.problems
    if isinstance(error, NotXml) and error.problem is not None:
        return (error.problem,)
    return ()


def _read(pattern: re.Pattern[bytes], raw: bytes) -> str:
    found = pattern.search(raw[:_LOOK_BYTES])
    return _clean(found[1].decode("utf-8", "replace")) if found else ""


def _clean(text: str) -> str:
    return text[:200] if text.isprintable() else ""


def _score(key: tuple[str, date, str], day: _Day) -> Score:
    org, date_, sender = key
    return Score(org, sender, date_, day.accepted, day.defective, day.refused, day.reasons)
