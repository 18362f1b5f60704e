"""What became of each sender's documents, day by day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final

import apsw

from lalert.store import MAX_DAYS, MAX_SENDERS, OTHERS, Example, Reason, Score
from lalert.store.sqlite.access import Access
from lalert.store.sqlite.codec import micros, moment
from lalert.store.sqlite.statements import Row, Value, all_or_nothing, row, rows

_ADD: Final = """
INSERT INTO score VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (org, day, sender) DO UPDATE SET
    accepted = accepted + excluded.accepted, defective = defective + excluded.defective, refused = refused + excluded.refused
"""
_ADD_REASON: Final = """
INSERT INTO score_reason VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (org, day, sender, reason) DO UPDATE SET
    documents = documents + excluded.documents, first = min(first, excluded.first), last = max(last, excluded.last),
    identifier = iif(excluded.last >= last, excluded.identifier, identifier),
    path = iif(excluded.last >= last, excluded.path, path), line = iif(excluded.last >= last, excluded.line, line)
"""
# Bounds on the organisation serve both for one and for all; its id is of lower-case letters, digits and hyphens.
_DAYS: Final = """
SELECT * FROM score WHERE org BETWEEN ?1 AND ?2 AND day >= ?3 AND (?4 IS NULL OR sender = ?4) ORDER BY org, day, sender
"""
_REASONS: Final = """
SELECT * FROM score_reason WHERE org BETWEEN ?1 AND ?2 AND day >= ?3 AND (?4 IS NULL OR sender = ?4)
"""
_FORGET: Final = (
    "DELETE FROM score WHERE org = ? AND day <= ?",
    "DELETE FROM score_reason WHERE org = ? AND day <= ?",
)


class ScoreTables(Access):
    """Keeps `store.ScoreBook`."""

    async def add_scores(self, scores: Sequence[Score]) -> None:
        if not scores:
            return

        def add(db: apsw.Connection) -> None:
            with all_or_nothing(db):
                for score in scores:
                    _add(db, score)
                _forget(db, scores)

        await self._write(add, rows=len(scores) + sum(len(score.reasons) for score in scores))

    async def scores(self, org: str | None, sender: str | None, since: date) -> list[Score]:
        first, last = ("", "~") if org is None else (org, org)
        values = (first, last, since.isoformat(), sender)

        def read(db: apsw.Connection) -> tuple[list[Row], list[Row]]:
            with all_or_nothing(db):  # both tables in one state
                return rows(db, _DAYS, values), rows(db, _REASONS, values)

        days, found = await self._ask(read)
        reasons: dict[tuple[str, str, str], dict[str, Reason]] = {}
        for of, day, by, name, documents, first, last, *example in found:
            reason = Reason(documents, moment(first), moment(last), Example(*example))
            reasons.setdefault((of, day, by), {})[name] = reason
        return [
            Score(
                of, by, date.fromisoformat(day), accepted, defective, refused, reasons.get((of, day, by), {})
            )
            for of, day, by, accepted, defective, refused in days
        ]


def _add(db: apsw.Connection, score: Score) -> None:
    day = score.day.isoformat()
    key = (score.org, day, _told_apart(db, score.org, day, score.sender))
    db.execute(_ADD, (*key, score.accepted, score.defective, score.refused))
    for name, reason in score.reasons.items():
        example = reason.example
        values: tuple[Value, ...] = (
            *key,
            name,
            reason.documents,
            micros(reason.first),
            micros(reason.last),
            example.identifier,
            example.path,
            example.line,
        )
        db.execute(_ADD_REASON, values)


def _told_apart(db: apsw.Connection, org: str, day: str, sender: str) -> str:
    if row(db, "SELECT 1 FROM score WHERE org = ? AND day = ? AND sender = ?", (org, day, sender)):
        return sender
    known = row(db, "SELECT count(*) FROM score WHERE org = ? AND day = ?", (org, day))
    return OTHERS if known and known[0] >= MAX_SENDERS else sender


def _forget(db: apsw.Connection, scores: Sequence[Score]) -> None:
    newest: dict[str, date] = {}
    for score in scores:
        newest[score.org] = max(score.day, newest.get(score.org, score.day))
    for org, day in newest.items():
        before = (org, (day - timedelta(days=MAX_DAYS)).isoformat())
        for sql in _FORGET:
            db.execute(sql, before)
