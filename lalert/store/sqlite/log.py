"""The log of alerts as SQL: appending, and which entry is the newest state of which chain of references.

A chain is named by the id of the alert it began with, known or still awaited. An entry belongs to every chain of what it refers to, so that an
Update that joins two incidents continues both, and a Cancel of several ends them all. The newest state of a chain is its head; what is in force are
the heads that have not ended. A fresh alert that refers to nothing has no rows here: it is the head of its own chain until something refers to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import apsw
import orjson

from lalert.clock import Clock
from lalert.errors import Conflict, InvalidAlert
from lalert.findings import HUB
from lalert.model import Alert, Facts, Origin
from lalert.store.sqlite.codec import encode_about, encode_codes, is_state, micros, scope_of, until_of
from lalert.store.sqlite.statements import Row, Value, all_or_nothing, row, rows

MAX_REFERENCES: Final = 2000
"""How many alerts one may refer to, and how many incidents it may continue: more than Japan has municipalities."""

MAX_AWAITED: Final = 100_000
"""As many ids that are referred to and have not arrived are remembered; beyond, each append has a look at the disk."""

LINEAGE: Final = 100
"""Of a long chain, this many of its first states and as many of its last."""

_INSERT_FRESH: Final = """
INSERT INTO entry (id, sent, until, head, scope, incident, stored, places, about, digest, raw)
VALUES (?, ?, ?, ?, ?, NULL, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING
"""
# Many rows in one step, during which the event loop has the interpreter to itself: ?1 is a JSON list with the columns of each row, ?2 holds their
# digests, `about`s and documents one after another, ?3 is the last offset given. An id that is known leaves a hole.
_INSERT_MANY: Final = """
INSERT INTO entry (offset, id, sent, until, head, scope, incident, stored, places, about, digest, raw)
SELECT ?3 + 1 + key, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, NULL, value ->> 5, value ->> 6,
    substr(?2, value ->> 7, value ->> 8), substr(?2, value ->> 9, value ->> 10), substr(?2, value ->> 11, value ->> 12)
FROM json_each(?1) WHERE true
ON CONFLICT (id) DO NOTHING
"""
_INSERT_LINKED: Final = """
INSERT INTO entry (id, sent, until, head, scope, incident, stored, places, about, digest, raw)
VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?)
"""
_WAITING: Final = """
SELECT coalesce(e.incident, e.id), EXISTS (SELECT 1 FROM link l WHERE l.offset = e.offset AND l.state = 1)
FROM awaited a JOIN entry e ON e.offset = a.offset WHERE a.alert = ? AND a.scope = ? ORDER BY a.offset
"""
_KNOWN: Final = "SELECT offset, coalesce(incident, id), digest, scope, sent, head FROM entry WHERE id = ?"
_TOP: Final = """
SELECT offset FROM link WHERE scope = ? AND chain = ? AND state = 1 ORDER BY rank DESC, offset DESC LIMIT 1
"""
# Named, because without statistics SQLite would rather read the whole table in order than sort the few that it needs.
IN_FORCE: Final = "SELECT offset FROM entry INDEXED BY entry_in_force WHERE head = 1 AND until > ?"
_FIRST_STATES: Final = """
SELECT offset FROM link WHERE scope = ? AND chain = ? AND state = 1 AND offset < ? ORDER BY rank, offset LIMIT ?
"""
_LAST_STATES: Final = """
SELECT offset FROM link WHERE scope = ? AND chain = ? AND state = 1 AND offset < ? ORDER BY rank DESC, offset DESC LIMIT ?
"""
_ENTRIES: Final = """
SELECT e.offset, coalesce(e.incident, e.id), e.stored, p.codes, e.about, e.digest, e.raw
FROM entry e LEFT JOIN places p ON p.id = e.places
"""


@dataclass(slots=True, eq=False)
class NewEntry:
    """An alert to be kept, with all that can be worked out before its turn comes. `references` are other alerts' ids, each once."""

    alert: Alert
    origin: Origin
    received: datetime
    facts: Facts
    jurisdiction: frozenset[str]
    id: str
    sent: int
    until: int
    state: bool
    scope: str
    about: bytes
    digest: bytes
    references: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Placed:
    """Where an append ended up. `lineage` are the offsets of earlier entries of its chains; `joined` says that others had awaited it."""

    new: NewEntry
    offset: int
    fresh: bool
    incident: str
    stored: datetime
    lineage: tuple[int, ...] = ()
    joined: bool = False


def prepare(
    alert: Alert, origin: Origin, received: datetime, facts: Facts, jurisdiction: frozenset[str]
) -> NewEntry:
    """Work out an entry's columns, on the loop's side. Raises `InvalidAlert` for more references than `MAX_REFERENCES`."""
    id = alert.id
    if len(alert.references) > MAX_REFERENCES:
        raise _too_many(
            f"refers to {len(alert.references)} alerts", f"{len(alert.references)}件の文書を参照しています"
        )
    return NewEntry(
        alert=alert,
        origin=origin,
        received=received,
        facts=facts,
        jurisdiction=jurisdiction,
        id=id,
        sent=micros(alert.sent),
        until=until_of(alert),
        state=is_state(alert),
        scope=scope_of(alert, origin),
        about=encode_about(alert, origin, received),
        digest=_digest(alert.raw),
        references=tuple({r.id: None for r in alert.references if r.id != id}) if alert.references else (),
    )


class Appender:
    """Appends, in the writer's thread. Remembers the jurisdictions it has seen, which are few, and which alerts are awaited."""

    def __init__(self, db: apsw.Connection, clock: Clock) -> None:
        self._clock = clock
        self._places: dict[frozenset[str], int] = {}
        # Ids that were awaited once, and perhaps no longer: what is not among them needs no look. None when there are too many to remember.
        found = rows(db, "SELECT DISTINCT alert FROM awaited LIMIT ?", (MAX_AWAITED + 1,))
        # Never below the last offset given, above it after a batch was rolled back.
        self._last = newest(db)
        self._awaited: set[str] | None = {alert for (alert,) in found} if len(found) <= MAX_AWAITED else None

    def forget(self) -> None:
        """Drop what may have been rolled back."""
        self._places.clear()

    def append(self, db: apsw.Connection, new: NewEntry) -> Placed:
        """Keep an alert, or find it; raises `Conflict` for its identity with other bytes. Leaves nothing when it raises."""
        now = self._clock.now()
        places = self._place(db, new.jurisdiction)
        if self._is_plain(new):
            values = (
                new.id,
                new.sent,
                new.until,
                new.state,
                new.scope,
                micros(now),
                places,
                new.about,
                new.digest,
                new.alert.raw,
            )
            db.execute(_INSERT_FRESH, values)
            if db.changes():
                self._last = max(self._last, db.last_insert_rowid())
                return Placed(new, db.last_insert_rowid(), True, new.id, now)
        known = row(db, _KNOWN, (new.id,))
        if known is None:
            with all_or_nothing(db):
                linking = _Linking(db, new)
                placed = linking.append(now, places)
            self._last = max(self._last, placed.offset)
            self._await(linking.missing)
            return placed
        offset, incident, first, *_ = known
        if first != new.digest:
            raise Conflict(
                f"{new.alert.identifier} of {new.alert.sender}, sent {new.alert.sent_text}, was accepted before with other content; "
                "give a changed message an identifier or time of its own"
            )
        return Placed(new, offset, False, incident, now)

    def append_many(self, db: apsw.Connection, news: Sequence[NewEntry]) -> list[Placed | None]:
        """Keep all that are fresh and refer to nothing, in one step; None stands for each that must be appended by itself."""
        now = self._clock.now()
        plain = [new for new in news if self._is_plain(new)]
        columns: list[tuple[Value, ...]] = []
        blobs: list[bytes] = []
        end = 1
        for new in plain:
            about, digest = end, end + len(new.about)
            raw = digest + len(new.digest)
            end = raw + len(new.alert.raw)
            blobs += (new.about, new.digest, new.alert.raw)
            columns.append(
                (
                    new.id,
                    new.sent,
                    new.until,
                    int(new.state),
                    new.scope,
                    micros(now),
                    self._place(db, new.jurisdiction),
                    about,
                    digest - about,
                    digest,
                    raw - digest,
                    raw,
                    end - raw,
                )
            )
        before = self._last
        db.execute(_INSERT_MANY, (orjson.dumps(columns).decode(), b"".join(blobs), before))
        self._last += len(plain)
        kept: Container[int] = range(before + 1, self._last + 1)
        if db.changes() != len(plain):
            kept = {offset for (offset,) in rows(db, "SELECT offset FROM entry WHERE offset > ?", (before,))}
        offsets = {id(new): offset for offset, new in enumerate(plain, before + 1) if offset in kept}
        return [
            Placed(new, offsets[id(new)], True, new.id, now) if id(new) in offsets else None for new in news
        ]

    def _is_plain(self, new: NewEntry) -> bool:
        return not new.references and self._awaited is not None and new.id not in self._awaited

    def _await(self, missing: Iterable[str]) -> None:
        if self._awaited is not None:
            self._awaited.update(missing)
            if len(self._awaited) > MAX_AWAITED:
                self._awaited = None

    def _place(self, db: apsw.Connection, codes: frozenset[str]) -> int | None:
        if not codes:
            return None
        place = self._places.get(codes)
        if place is None:
            text = encode_codes(codes)
            db.execute("INSERT INTO places (codes) VALUES (?) ON CONFLICT DO NOTHING", (text,))
            place = int(db.execute("SELECT id FROM places WHERE codes = ?", (text,)).get)
            self._places[codes] = place
        return place


class _Linking:
    """Appends one alert that refers to others, or that others have referred to before it came."""

    def __init__(self, db: apsw.Connection, new: NewEntry) -> None:
        self._db = db
        self._new = new
        self._chains: dict[str, None] = {}
        self._rank = new.sent
        self._direct: list[int] = []
        self.missing: list[str] = []
        self._incident: str | None = None

    def append(self, now: datetime, places: int | None) -> Placed:
        db, new = self._db, self._new
        for reference in new.references:
            self._follow(reference)
        waiting = rows(db, _WAITING, (new.id, new.scope))
        if not self._chains:
            self._chains[new.id] = None
        if len(self._chains) > MAX_REFERENCES:
            raise _too_many(
                f"continues {len(self._chains)} incidents",
                f"{len(self._chains)}件の事案を引き継いでいます",
            )
        # A late alert takes the incident of the Update that came before it, so that both are told as one.
        incident = self._incident or next((name for name, is_state in waiting if is_state), new.id)
        before = {self._top(chain) for chain in (*self._chains, new.id)}
        db.execute(
            _INSERT_LINKED,
            (
                new.id,
                new.sent,
                new.until,
                new.scope,
                None if incident == new.id else incident,
                micros(now),
                places,
                new.about,
                new.digest,
                new.alert.raw,
            ),
        )
        offset = db.last_insert_rowid()
        if waiting:
            self._go_before_successors()
        for chain in self._chains:
            db.execute(
                "INSERT INTO link VALUES (?, ?, ?, ?, ?)", (new.scope, chain, new.state, self._rank, offset)
            )
        for reference in self.missing:
            db.execute("INSERT INTO awaited VALUES (?, ?, ?)", (reference, new.scope, offset))
        self._crown({offset, *before})
        lineage = _lineage(db, new.scope, self._chains, self._direct, offset)
        return Placed(new, offset, True, incident, now, lineage, joined=bool(waiting))

    def _follow(self, reference: str) -> None:
        """Join the chains of an alert that is referred to, or the one that will begin with it when it comes."""
        db, scope = self._db, self._new.scope
        known = row(db, _KNOWN, (reference,))
        if known is None:
            self.missing.append(reference)
        if known is None or known[3] != scope:
            self._chains[reference] = None
            return
        offset, incident, _, _, sent, head = known
        self._incident = self._incident or incident
        self._direct.append(offset)
        links = rows(db, "SELECT chain, rank FROM link WHERE offset = ?", (offset,))
        if not links:
            db.execute("INSERT INTO link VALUES (?, ?, ?, ?, ?)", (scope, reference, head, sent, offset))
            links = [(reference, sent)]
        for chain, rank in links:
            self._chains[chain] = None
            # Whatever the senders' clocks say, what refers to an alert is newer than it.
            self._rank = max(self._rank, rank)

    def _go_before_successors(self) -> None:
        """Put the alert before all that came earlier by referring to it, and make its chains theirs in place of the awaited one."""
        db, new = self._db, self._new
        awaited = (new.scope, new.id)
        lowest = db.execute("SELECT min(rank) FROM link WHERE scope = ? AND chain = ?", awaited).get
        lift = max(0, self._rank + 1 - lowest)
        if new.id in self._chains:
            db.execute("UPDATE link SET rank = rank + ? WHERE scope = ? AND chain = ?", (lift, *awaited))
        else:
            for chain in self._chains:
                db.execute(
                    "DELETE FROM link WHERE scope = ?1 AND chain = ?2 "
                    "AND offset IN (SELECT offset FROM link WHERE scope = ?1 AND chain = ?3)",
                    (new.scope, chain, new.id),
                )
                db.execute(
                    "INSERT INTO link SELECT scope, ?, state, rank + ?, offset FROM link WHERE scope = ? AND chain = ?",
                    (chain, lift, *awaited),
                )
            db.execute("DELETE FROM link WHERE scope = ? AND chain = ?", awaited)
        db.execute("DELETE FROM awaited WHERE scope = ? AND alert = ?", awaited)

    def _top(self, chain: str) -> int | None:
        top = row(self._db, _TOP, (self._new.scope, chain))
        return None if top is None else int(top[0])

    def _crown(self, concerned: set[int | None]) -> None:
        """Note which of those concerned are now the newest state of one of their chains."""
        tops: dict[str, int | None] = {}
        for offset in concerned - {None}:
            head = False
            for (chain,) in rows(self._db, "SELECT chain FROM link WHERE offset = ?", (offset,)):
                if chain not in tops:
                    tops[chain] = self._top(chain)
                head = head or tops[chain] == offset
            self._db.execute("UPDATE entry SET head = ?1 WHERE offset = ?2 AND head <> ?1", (head, offset))


def in_force(db: apsw.Connection, now: datetime) -> list[int]:
    """Return the offsets of what is in force, rising; read from an index alone."""
    return sorted(offset for (offset,) in rows(db, IN_FORCE, (micros(now),)))


def lineage_of(db: apsw.Connection, alert: Alert, origin: Origin, offset: int) -> tuple[int, ...]:
    """Return the offsets of earlier entries of every chain of an entry, rising."""
    scope = scope_of(alert, origin)
    chains = [chain for (chain,) in rows(db, "SELECT chain FROM link WHERE offset = ?", (offset,))]
    known = (row(db, _KNOWN, (reference.id,)) for reference in alert.references)
    direct = [int(found[0]) for found in known if found is not None and found[3] == scope]
    return _lineage(db, scope, chains, direct, offset)


def _lineage(
    db: apsw.Connection, scope: str, chains: Collection[str], direct: Iterable[int], before: int
) -> tuple[int, ...]:
    found = set(direct)
    # The first states reached everybody concerned at the start, the last ones everybody since: what lies between them told the same people.
    span = max(1, LINEAGE // max(1, len(chains)))
    for chain in chains:
        for sql in (_FIRST_STATES, _LAST_STATES):
            found.update(offset for (offset,) in rows(db, sql, (scope, chain, before, span)))
    return tuple(sorted(offset for offset in found if offset < before))


def rows_after(db: apsw.Connection, offset: int, upto: int, limit: int) -> list[Row]:
    sql = _ENTRIES + "WHERE e.offset > ? AND e.offset <= ? ORDER BY e.offset LIMIT ?"
    return rows(db, sql, (offset, upto, limit))


def rows_before(db: apsw.Connection, offset: int) -> Iterator[Row]:
    """Yield entries at or before an offset, falling."""
    yield from db.execute(_ENTRIES + "WHERE e.offset <= ? ORDER BY e.offset DESC", (offset,))


def rows_at(db: apsw.Connection, offsets: Iterable[int]) -> Iterator[Row]:
    for offset in offsets:
        yield from db.execute(_ENTRIES + "WHERE e.offset = ?", (offset,))


def offset_of_id(db: apsw.Connection, alert_id: str) -> int | None:
    found = row(db, "SELECT offset FROM entry WHERE id = ?", (alert_id,))
    return None if found is None else int(found[0])


def newest(db: apsw.Connection) -> int:
    """Return the highest offset ever given, which outlives the entry itself."""
    found = row(db, "SELECT seq FROM sqlite_sequence WHERE name = 'entry'")
    return 0 if found is None else int(found[0])


def _digest(raw: bytes) -> bytes:
    # Above 2047 bytes hashlib lets go of the interpreter, and winning it back can take longer than a thousand hashes.
    if len(raw) > 65_536:
        return hashlib.sha256(raw).digest()
    hash = hashlib.sha256()
    for start in range(0, len(raw), 2047):
        hash.update(raw[start : start + 2047])
    return hash.digest()


def _too_many(what: str, what_ja: str) -> InvalidAlert:
    found = HUB["HUB-REFERENCES-MANY"].finding(
        "/alert/references", what=what, what_ja=what_ja, limit=MAX_REFERENCES
    )
    return InvalidAlert([found])
