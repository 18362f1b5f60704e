"""The log of alerts as SQL: appending, and which entry is the newest state of which chain of references.

A chain is named by the id of the alert it began with, known or still awaited. An entry belongs to every chain of what it refers to, so that an
Update that joins two incidents continues both, and a Cancel of several ends them all. The newest state of a chain is its head; what is in force are
the heads that have not ended. A fresh alert that refers to nothing has no rows here: it is the head of its own chain until something refers to it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import apsw
import orjson

from lalert.clock import Clock
from lalert.errors import Conflict, InvalidAlert
from lalert.findings import HUB
from lalert.model import JST, UNKNOWN_INSTANT, Alert, Changes, Facts, MsgType, Origin, Reference, alert_id
from lalert.store.sqlite.codec import (
    encode_about,
    encode_codes,
    is_state,
    micros,
    moment,
    name_of,
    scope_of,
    until_of,
)
from lalert.store.sqlite.statements import MOST_AT_ONCE, Row, Value, all_or_nothing, execute_rows, row, rows

MAX_REFERENCES: Final = 2000
"""How many alerts one may refer to, and how many incidents it may continue: more than Japan has municipalities."""

MAX_AWAITED: Final = 100_000
"""As many ids that are referred to and have not arrived are remembered; beyond, each append has a look at the disk."""

MAX_RAISED: Final = 10_000
"""How many successors are ranked anew when an alert comes after them; more than any chain has."""

NAMES_AT_ONCE: Final = 2_000
"""How many entries one write gives an index of names: about 10 ms, so that no append waits long behind it."""

LINEAGE: Final = 100
"""Of a long chain, this many of its first states and as many of its last."""

_INSERT_FRESH: Final = """
INSERT INTO entry (offset, id, sent, until, head, scope, incident, stored, places, about, digest, raw)
VALUES (?, ?, ?, ?, ?, ?, NULL, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING
"""
# An id that is known leaves a hole.
_INSERT_MANY: Final = """
INSERT INTO entry (offset, id, sent, until, head, scope, incident, stored, places, about, digest, raw)
SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL
ON CONFLICT (id) DO NOTHING
"""
_INSERT_LINKED: Final = """
INSERT INTO entry (offset, id, sent, until, head, scope, incident, stored, places, about, digest, raw)
VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?)
"""
_WAITING: Final = """
SELECT coalesce(e.incident, e.id), EXISTS (SELECT 1 FROM link l WHERE l.offset = e.offset AND l.state = 1)
FROM awaited a JOIN entry e ON e.offset = a.offset WHERE a.alert = ? AND a.scope = ? ORDER BY a.offset
"""
_KNOWN: Final = "SELECT offset, coalesce(incident, id), digest, scope, sent, head FROM entry WHERE id = ?"
_TOP: Final = """
SELECT l.offset FROM link l JOIN entry e ON e.offset = l.offset WHERE l.scope = ? AND l.chain = ? AND l.state = 1
ORDER BY l.rank DESC, e.sent DESC, e.id DESC LIMIT 1
"""
# Names are indexed only when somebody asks (`index_names`): no alert is kept slower for it. What came since is looked through.
_NAMED: Final = """
SELECT offset, id FROM entry WHERE offset IN (
    SELECT offset FROM named WHERE name = ?1
    UNION ALL SELECT offset FROM entry WHERE offset > (SELECT value FROM meta WHERE key = 'named')
) AND CAST(about AS TEXT) ->> 'sender' = ?2 AND CAST(about AS TEXT) ->> 'identifier' = ?3
"""
_NAMELESS: Final = """
SELECT offset, CAST(about AS TEXT) ->> 'sender', CAST(about AS TEXT) ->> 'identifier'
FROM entry WHERE offset > (SELECT value FROM meta WHERE key = 'named') ORDER BY offset LIMIT ?
"""
_REFERRERS: Final = """
SELECT r.offset, e.id FROM refers r JOIN entry e ON e.offset = r.offset WHERE r.alert = ? AND r.scope = ? AND r.offset <> ?
"""
# Named, because without statistics SQLite would rather read the whole table in order than sort the few that it needs.
IN_FORCE: Final = "SELECT offset FROM entry INDEXED BY entry_in_force WHERE head = 1 AND until > ?"
_FIRST_STATES: Final = """
SELECT offset FROM link WHERE scope = ? AND chain = ? AND state = 1 AND offset < ? ORDER BY rank, offset LIMIT ?
"""
_LAST_STATES: Final = """
SELECT offset FROM link WHERE scope = ? AND chain = ? AND state = 1 AND offset < ? ORDER BY rank DESC, offset DESC LIMIT ?
"""
NEXT_END: Final = """
SELECT min(until) FROM entry INDEXED BY entry_in_force WHERE head = 1 AND until > ? AND until < 9223372036854775807
"""
ENDED: Final = """
SELECT offset FROM entry INDEXED BY entry_in_force WHERE head = 1 AND until > ? AND until <= ? ORDER BY until, offset LIMIT ?
"""
_ENTRIES: Final = """
SELECT e.offset, coalesce(e.incident, e.id), e.stored, p.codes, f.outdated, f.replaced, e.about, e.digest, e.raw
FROM entry e LEFT JOIN places p ON p.id = e.places LEFT JOIN effect f ON f.offset = e.offset
"""


@dataclass(slots=True, eq=False, kw_only=True)
class Columns:
    """An entry as the log keeps it, with all that can be worked out before its turn comes.

    `references` are the ids of the alerts that it continues or speaks of, each once; of one that names no time (CAP 1.0), the id is the one that `unnamed` gives, and `timeless`
    has it with sender and identifier. `offset` and `stored` are set where another log has given them already.
    """

    id: str
    sender: str
    identifier: str
    sent: int
    until: int
    state: bool
    scope: str
    jurisdiction: frozenset[str]
    about: bytes
    digest: bytes
    raw: bytes
    references: tuple[str, ...]
    timeless: Mapping[str, tuple[str, str]]
    offset: int | None = None
    stored: datetime | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class NewEntry(Columns):
    """The columns with the values that they were made of."""

    alert: Alert
    origin: Origin
    received: datetime
    facts: Facts
    changes: Changes | None
    correction: bool


@dataclass(slots=True, eq=False)
class Placed:
    """Where an append ended up, and what it did to the newest states. `lineage` are the offsets of earlier entries of its chains; `joined` says that others had awaited it."""

    new: Columns
    offset: int
    fresh: bool
    incident: str
    stored: datetime
    lineage: tuple[int, ...] = ()
    joined: bool = False
    outdated: bool = False
    replaced: tuple[str, ...] = ()


def prepare(
    alert: Alert,
    origin: Origin,
    received: datetime,
    facts: Facts,
    jurisdiction: frozenset[str],
    changes: Changes | None = None,
    correction: bool = False,
) -> NewEntry:
    """Work out an entry's columns, on the loop's side. Raises `InvalidAlert` for more references than `MAX_REFERENCES`."""
    id = alert.id
    if len(alert.references) > MAX_REFERENCES:
        raise _too_many(
            f"refers to {len(alert.references)} alerts", f"{len(alert.references)}件の文書を参照しています"
        )
    references: dict[str, None] = {}
    timeless: dict[str, tuple[str, str]] = {}
    for reference in _continued(alert):
        if reference.timeless:
            key = unnamed(reference.sender, reference.identifier)
            timeless[key] = (reference.sender, reference.identifier)
            references[key] = None
        elif reference.id != id:
            references[reference.id] = None
    return NewEntry(
        alert=alert,
        origin=origin,
        received=received,
        facts=facts,
        jurisdiction=jurisdiction,
        id=id,
        sender=alert.sender,
        identifier=alert.identifier,
        raw=alert.raw,
        sent=micros(alert.sent),
        until=until_of(alert),
        state=is_state(alert),
        scope=scope_of(alert, origin),
        about=encode_about(alert, origin, received, changes, correction),
        digest=digest_of(alert.raw),
        references=tuple(references),
        timeless=timeless,
        changes=changes,
        correction=correction,
    )


def _continued(alert: Alert) -> Sequence[Reference]:
    """Return what a message continues, ends or speaks of: all that it refers to.

    An Alert only mentions others (CAP 1.2, 3.2.1 <msgType>: to supersede is an Update's). Who was told of these does not hear of it, so it must not end them either.
    """
    return () if alert.msg_type is MsgType.ALERT else alert.references


def unnamed(sender: str, identifier: str) -> str:
    """Return what stands for the id of a message of which only sender and identifier are known; no id looks like it."""
    return "~" + alert_id(sender, identifier, UNKNOWN_INSTANT)


def conflict_of(new: Columns) -> str:
    """Return what the sender of an alert is told whose identity was used before for another."""
    return (
        f"{new.identifier} of {new.sender}, sent {moment(new.sent).astimezone(JST).isoformat()}, was accepted before with other content; "
        "give a changed message an identifier or time of its own"
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
        self._unnamed = any(alert.startswith("~") for (alert,) in found)

    def forget(self) -> None:
        """Drop what may have been rolled back."""
        self._places.clear()

    def append(self, db: apsw.Connection, new: Columns) -> Placed:
        """Keep an alert, or find it; raises `Conflict` for its identity with other bytes. Leaves nothing when it raises."""
        now = new.stored or self._clock.now()
        places = self._place(db, new.jurisdiction)
        if self._is_plain(new):
            values = (
                new.offset,
                new.id,
                new.sent,
                new.until,
                new.state,
                new.scope,
                micros(now),
                places,
                new.about,
                new.digest,
                new.raw,
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
            raise Conflict(conflict_of(new))
        return Placed(new, offset, False, incident, now)

    def append_many(self, db: apsw.Connection, news: Sequence[Columns]) -> list[Placed | None]:
        """Keep all that are fresh and refer to nothing, in one step; None stands for each that must be appended by itself."""
        now = self._clock.now()
        stored = micros(now)
        plain = [new for new in news if self._is_plain(new)][:MOST_AT_ONCE]
        before = self._last
        values: list[Sequence[Value]] = [
            (
                offset,
                new.id,
                new.sent,
                new.until,
                new.state,
                new.scope,
                None,
                stored,
                self._place(db, new.jurisdiction),
                new.about,
                new.digest,
                new.raw,
            )
            for offset, new in enumerate(plain, before + 1)
        ]
        execute_rows(db, _INSERT_MANY, values)
        self._last += len(plain)
        kept: Container[int] = range(before + 1, self._last + 1)
        if values and db.changes() != len(values):
            kept = {offset for (offset,) in rows(db, "SELECT offset FROM entry WHERE offset > ?", (before,))}
        offsets = {id(new): at for at, new in enumerate(plain, before + 1) if at in kept}
        return [
            Placed(new, at, True, new.id, now) if (at := offsets.get(id(new))) is not None else None
            for new in news
        ]

    def _is_plain(self, new: Columns) -> bool:
        if new.references or self._awaited is None or new.id in self._awaited:
            return False
        return not self._unnamed or unnamed(new.sender, new.identifier) not in self._awaited

    def _await(self, missing: Iterable[str]) -> None:
        if self._awaited is not None:
            self._awaited.update(missing)
            self._unnamed = self._unnamed or any(alert.startswith("~") for alert in missing)
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


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """Where an append would end up. Not itself a `Placed`, which the writer would tell everybody of."""

    placed: Placed


def rehearse(db: apsw.Connection, new: Columns, now: datetime) -> Rehearsed:
    """Append an alert and take it back again; raises what `Appender.append` raises."""
    known = row(db, _KNOWN, (new.id,))
    if known is not None:
        offset, incident, digest, *_ = known
        if digest != new.digest:
            raise Conflict(conflict_of(new))
        return Rehearsed(Placed(new, offset, False, incident, now))
    db.execute("SAVEPOINT rehearsal")
    try:
        return Rehearsed(_Linking(db, new).append(now, None))
    finally:
        # A full disk may have ended the whole transaction already, and this with it.
        if db.in_transaction:
            db.execute("ROLLBACK TO rehearsal")
            db.execute("RELEASE rehearsal")


class _Linking:
    """Appends one alert that refers to others, or that others have referred to before it came."""

    def __init__(self, db: apsw.Connection, new: Columns) -> None:
        self._db = db
        self._new = new
        self._chains: dict[str, None] = {}
        self._rank = new.sent
        self._direct: list[int] = []
        self._edges: dict[str, None] = {}
        self._tops: dict[str, int | None] = {}
        self.missing: list[str] = []
        self._incident: str | None = None

    def append(self, now: datetime, places: int | None) -> Placed:
        db, new = self._db, self._new
        for reference in new.references:
            meant = self._meant(reference)
            if meant is not None:
                self._follow(meant)
        names = {
            name: found
            for name in (new.id, unnamed(new.sender, new.identifier))
            if (found := rows(db, _WAITING, (name, new.scope)))
        }
        waiting = [one for found in names.values() for one in found]
        if not self._chains:
            self._chains[new.id] = None
        if len(self._chains) > MAX_REFERENCES:
            if new.offset is None:
                raise _too_many(
                    f"continues {len(self._chains)} incidents",
                    f"{len(self._chains)}件の事案を引き継いでいます",
                )
            # Accepted already: every view of it must come out alike.
            self._chains = dict.fromkeys(list(self._chains)[:MAX_REFERENCES])
        # A late alert takes the incident of the Update that came before it, so that both are told as one.
        incident = self._incident or next((name for name, is_state in waiting if is_state), new.id)
        for chain in (*self._chains, *names):
            self._remember_top(chain)
        db.execute(
            _INSERT_LINKED,
            (
                new.offset,
                new.id,
                new.sent,
                new.until,
                new.scope,
                None if incident == new.id else incident,
                micros(now),
                places,
                new.about,
                new.digest,
                new.raw,
            ),
        )
        offset = db.last_insert_rowid()
        raised = self._raise_successors(offset, names)
        for name in names:
            self._take_over(name)
        for chain in self._chains:
            db.execute(
                "INSERT INTO link VALUES (?, ?, ?, ?, ?)", (new.scope, chain, new.state, self._rank, offset)
            )
        for reference in self.missing:
            db.execute("INSERT INTO awaited VALUES (?, ?, ?)", (reference, new.scope, offset))
        for reference in self._edges:
            db.execute("INSERT INTO refers VALUES (?, ?, ?)", (reference, new.scope, offset))
        heads, replaced = self._crown({offset, *raised, *self._tops.values()})
        outdated = new.state and offset not in heads
        if outdated or replaced:
            db.execute("INSERT INTO effect VALUES (?, ?, ?)", (offset, outdated, " ".join(replaced)))
        lineage = _lineage(db, new.scope, self._chains, self._direct, offset)
        return Placed(
            new, offset, True, incident, now, lineage, bool(waiting), outdated=outdated, replaced=replaced
        )

    def _meant(self, reference: str) -> str | None:
        """Return the id of the one alert that a reference without a time can mean, None for several; the reference itself where none is here yet."""
        who = self._new.timeless.get(reference)
        if who is None:
            return reference
        found = [id for _, id in rows(self._db, _NAMED, (name_of(*who), *who)) if id != self._new.id]
        scoped = [id for id in found if row(self._db, _KNOWN, (id,))[3] == self._new.scope]  # type: ignore[index]  # it was just found
        return reference if not scoped else scoped[0] if len(scoped) == 1 else None

    def _follow(self, reference: str) -> None:
        """Join the chains of an alert that is referred to, or the one that will begin with it when it comes."""
        db, scope = self._db, self._new.scope
        self._edges[reference] = None
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
            self._rank = max(self._rank, rank + 1)

    def _raise_successors(self, offset: int, names: Iterable[str]) -> list[int]:
        """Rank all that came earlier by referring to the alert, and what refers to that, after it; returns what had to be raised.

        Every rank is then what it would be, had all come in the order of their references.
        """
        db, new = self._db, self._new
        raised: list[int] = []
        todo = deque((name, self._rank + 1) for name in names)
        # Bounded, because alerts may refer to each other in a circle.
        while todo and len(raised) < MAX_RAISED:
            name, least = todo.popleft()
            for successor, id in rows(db, _REFERRERS, (name, new.scope, offset)):
                rank = db.execute("SELECT max(rank) FROM link WHERE offset = ?", (successor,)).get
                if rank is None or rank >= least:
                    continue
                for (chain,) in rows(db, "SELECT chain FROM link WHERE offset = ?", (successor,)):
                    self._remember_top(chain)
                db.execute("UPDATE link SET rank = ? WHERE offset = ?", (least, successor))
                raised.append(successor)
                todo.append((id, least + 1))
        return raised

    def _take_over(self, awaited: str) -> None:
        """Make the alert's chains those of all that came earlier by referring to it, in place of the chain that awaited it."""
        db, new = self._db, self._new
        if awaited not in self._chains:
            for chain in self._chains:
                db.execute(
                    "DELETE FROM link WHERE scope = ?1 AND chain = ?2 "
                    "AND offset IN (SELECT offset FROM link WHERE scope = ?1 AND chain = ?3)",
                    (new.scope, chain, awaited),
                )
                db.execute(
                    "INSERT INTO link SELECT scope, ?, state, rank, offset FROM link WHERE scope = ? AND chain = ?",
                    (chain, new.scope, awaited),
                )
            db.execute("DELETE FROM link WHERE scope = ? AND chain = ?", (new.scope, awaited))
        db.execute("DELETE FROM awaited WHERE scope = ? AND alert = ?", (new.scope, awaited))
        if awaited != new.id:
            # From now on it has an id, by which what comes still later finds its successors.
            db.execute(
                "UPDATE OR REPLACE refers SET alert = ? WHERE alert = ? AND scope = ?",
                (new.id, awaited, new.scope),
            )

    def _remember_top(self, chain: str) -> None:
        if chain not in self._tops:
            self._tops[chain] = self._top(chain)

    def _top(self, chain: str) -> int | None:
        top = row(self._db, _TOP, (self._new.scope, chain))
        return None if top is None else int(top[0])

    def _crown(self, concerned: Iterable[int | None]) -> tuple[set[int], tuple[str, ...]]:
        """Note which of those concerned are now the newest state of one of their chains; returns them, and the ids of those that no longer are."""
        db = self._db
        tops: dict[str, int | None] = {}
        heads: set[int] = set()
        replaced: list[str] = []
        for offset in sorted({one for one in concerned if one is not None}):
            for (chain,) in rows(db, "SELECT chain FROM link WHERE offset = ?", (offset,)):
                if chain not in tops:
                    tops[chain] = self._top(chain)
                if tops[chain] == offset:
                    heads.add(offset)
            was, id = rows(db, "SELECT head, id FROM entry WHERE offset = ?", (offset,))[0]
            if was and offset not in heads:
                replaced.append(id)
            db.execute(
                "UPDATE entry SET head = ?1 WHERE offset = ?2 AND head <> ?1", (offset in heads, offset)
            )
        return heads, tuple(replaced)


def require_bounded(db: apsw.Connection, new: Columns) -> None:
    """Raise `InvalidAlert` for an entry that would continue more than `MAX_REFERENCES` incidents, before it is given an offset."""
    ids = orjson.dumps(new.references).decode()
    known = "SELECT e.offset FROM entry e JOIN json_each(?) r ON e.id = r.value WHERE e.scope = ?"
    offsets = [offset for (offset,) in rows(db, known, (ids, new.scope))]
    links = rows(
        db,
        "SELECT l.offset, l.chain FROM link l JOIN json_each(?) k ON l.offset = k.value",
        (orjson.dumps(offsets).decode(),),
    )
    # What is not here yet begins a chain, and so does what nothing has referred to.
    total = len(new.references) - len({offset for offset, _ in links}) + len({chain for _, chain in links})
    if total > MAX_REFERENCES:
        raise _too_many(f"continues {total} incidents", f"{total}件の事案を引き継いでいます")


def in_force(db: apsw.Connection, now: datetime) -> list[int]:
    """Return the offsets of what is in force, rising; read from an index alone."""
    return sorted(offset for (offset,) in rows(db, IN_FORCE, (micros(now),)))


def next_end(db: apsw.Connection, after: datetime) -> datetime | None:
    """Return when the next of the newest states ends; read from an index alone."""
    until = db.execute(NEXT_END, (micros(after),)).get
    return None if until is None else moment(until)


def ended(db: apsw.Connection, after: datetime, upto: datetime, limit: int | None) -> list[int]:
    """Return the offsets of the newest states that ended in between, by their ends; read from an index alone."""
    return [
        offset for (offset,) in rows(db, ENDED, (micros(after), micros(upto), -1 if limit is None else limit))
    ]


def heads_of(db: apsw.Connection, scope: str, offset: int) -> list[int]:
    """Return the offsets of the newest states of the chains of an entry, rising."""
    chains = [chain for (chain,) in rows(db, "SELECT chain FROM link WHERE offset = ?", (offset,))]
    tops = {int(top[0]) for chain in chains if (top := row(db, _TOP, (scope, chain))) is not None}
    return sorted(tops) if chains else [offset]


def index_names(db: apsw.Connection) -> bool:
    """Note the names of the next `NAMES_AT_ONCE` entries that have none; returns whether there may be more."""
    found = rows(db, _NAMELESS, (NAMES_AT_ONCE,))
    if found:
        with all_or_nothing(db):
            names = [(name_of(sender, identifier), offset) for offset, sender, identifier in found]
            db.executemany("INSERT INTO named VALUES (?, ?) ON CONFLICT DO NOTHING", names)
            db.execute("UPDATE meta SET value = ? WHERE key = 'named'", (found[-1][0],))
    return len(found) == NAMES_AT_ONCE


def named(db: apsw.Connection, sender: str, identifier: str, limit: int) -> list[int]:
    """Return the offsets of the first entries with this sender and identifier, rising."""
    found = rows(
        db, _NAMED + "ORDER BY offset LIMIT ?", (name_of(sender, identifier), sender, identifier, limit)
    )
    return [offset for offset, _ in found]


def lineage_of(db: apsw.Connection, alert: Alert, origin: Origin, offset: int) -> tuple[int, ...]:
    """Return the offsets of earlier entries of every chain of an entry, rising."""
    scope = scope_of(alert, origin)
    chains = [chain for (chain,) in rows(db, "SELECT chain FROM link WHERE offset = ?", (offset,))]
    known = (row(db, _KNOWN, (reference.id,)) for reference in _continued(alert))
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


def trimmed(db: apsw.Connection) -> int:
    """Return the highest offset of what was deleted because it was over, 0 if nothing was."""
    found = row(db, "SELECT value FROM meta WHERE key = 'trimmed'")
    return 0 if found is None else int(found[0])


def digest_of(raw: bytes) -> bytes:
    """Return the SHA-256 of a document."""
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
