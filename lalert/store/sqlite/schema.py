"""The tables of the embedded store, and the ordered steps that bring an older file up to them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final

import apsw

from lalert.errors import StoreError
from lalert.store.audit import EMPTY

Step = Callable[[apsw.Connection], None]

APPLICATION_ID: Final = 0x4C414C54
"""Marks the file as ours (`LALT`), so that another program's database is refused instead of migrated."""

_FIRST: Final = """
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- Jurisdictions are few and long; entries name them.
CREATE TABLE places (
    id    INTEGER PRIMARY KEY,
    codes TEXT NOT NULL UNIQUE
) STRICT;

-- Times are microseconds since 1970 UTC. `scope` is status/organisation: entries of different scopes never touch one another.
-- `until` is when the entry stops being in force: 0 for what never is (Cancel, Ack, Error), 2^63-1 for what has no end.
-- `head` is 1 while it is the newest state of at least one chain. `incident` is NULL where it is the entry's own id.
-- `about` holds, as JSON, what is only ever read together with the document, which comes last so that scans pass over it.
CREATE TABLE entry (
    offset   INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL UNIQUE,
    sent     INTEGER NOT NULL,
    until    INTEGER NOT NULL,
    head     INTEGER NOT NULL,
    scope    TEXT NOT NULL,
    incident TEXT,
    stored   INTEGER NOT NULL,
    places   INTEGER REFERENCES places (id),
    about    BLOB NOT NULL,
    digest   BLOB NOT NULL,
    raw      BLOB NOT NULL
) STRICT;
CREATE INDEX entry_in_force ON entry (until) WHERE head = 1;

-- A chain is an alert (known or not) with all that goes back to it by references; it has rows from the first reference on.
-- `rank` orders the states of one chain: the sender's time, but never before what the entry refers to.
CREATE TABLE link (
    scope  TEXT NOT NULL,
    chain  TEXT NOT NULL,
    state  INTEGER NOT NULL,
    rank   INTEGER NOT NULL,
    offset INTEGER NOT NULL REFERENCES entry (offset),
    PRIMARY KEY (scope, chain, state, rank, offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX link_of_entry ON link (offset);

-- References to alerts that have not arrived.
CREATE TABLE awaited (
    alert  TEXT NOT NULL,
    scope  TEXT NOT NULL,
    offset INTEGER NOT NULL REFERENCES entry (offset),
    PRIMARY KEY (alert, scope, offset)
) STRICT, WITHOUT ROWID;

CREATE TABLE tenant (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    codes      BLOB NOT NULL,
    senders    BLOB NOT NULL,
    everywhere INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE key (
    id            TEXT PRIMARY KEY,
    tenant        TEXT NOT NULL REFERENCES tenant (id),
    role          TEXT NOT NULL,
    digest        BLOB NOT NULL UNIQUE,
    created       INTEGER NOT NULL,
    exercise_only INTEGER NOT NULL,
    expires       INTEGER,
    revoked       INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX key_of_tenant ON key (tenant);

-- A subscription is its own lane: `cursor` is the offset up to which everything is settled or has a row in `delivery`.
CREATE TABLE subscription (
    id      TEXT PRIMARY KEY,
    channel TEXT NOT NULL,
    target  TEXT NOT NULL,
    filter  BLOB NOT NULL,
    created INTEGER NOT NULL,
    tenant  TEXT,
    format  TEXT NOT NULL,
    lang    TEXT,
    options BLOB NOT NULL,
    cursor  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- History outlives its subscription, hence no foreign key.
CREATE TABLE delivery (
    key          TEXT PRIMARY KEY,
    subscription TEXT NOT NULL,
    offset       INTEGER NOT NULL,
    state        TEXT NOT NULL,
    attempts     INTEGER NOT NULL,
    due          INTEGER,
    detail       TEXT NOT NULL,
    updated      INTEGER NOT NULL,
    confirmed    INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_of_subscription ON delivery (subscription, offset);
CREATE INDEX delivery_waiting ON delivery (subscription) WHERE state = 'retry';

CREATE TABLE reading (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant        TEXT NOT NULL,
    station       TEXT NOT NULL,
    time          INTEGER NOT NULL,
    time_offset   INTEGER NOT NULL,
    level_m       REAL,
    rain_mm       REAL,
    period_s      INTEGER,
    rain_total_mm REAL,
    seq           INTEGER,
    received      INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX reading_at ON reading (station, time, (level_m IS NULL), (rain_mm IS NULL));
CREATE INDEX reading_seq ON reading (station, seq, time) WHERE seq IS NOT NULL;

CREATE TABLE rule_state (
    station TEXT PRIMARY KEY,
    state   BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE adapter_state (
    owner TEXT NOT NULL,
    key   TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (owner, key)
) STRICT, WITHOUT ROWID;
"""


def _create(db: apsw.Connection) -> None:
    db.execute(_FIRST)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    # The epoch tells positions of this log from those of every other log; a restored copy gets a new one.
    db.execute("INSERT INTO meta VALUES ('epoch', ?), ('judged', 0)", (secrets.token_hex(4),))


def _keep_sender_policy(db: apsw.Connection) -> None:
    # X'5B5D' is the empty list of JSON. Who was there before keeps what held then: strict, signatures not looked at.
    db.execute(
        """
        ALTER TABLE tenant ADD COLUMN tolerant BLOB NOT NULL DEFAULT X'5B5D';
        ALTER TABLE tenant ADD COLUMN signatures TEXT NOT NULL DEFAULT 'ignore';
        ALTER TABLE tenant ADD COLUMN certificates BLOB NOT NULL DEFAULT X'5B5D';
        """
    )


_LIFE: Final = """
-- What an alert is found by where only its sender and identifier are known (CAP 1.0): for entries up to the offset in meta's `named`.
CREATE TABLE named (
    name   INTEGER NOT NULL,
    offset INTEGER NOT NULL REFERENCES entry (offset),
    PRIMARY KEY (name, offset)
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('named', 0);

-- Which entries refer to an alert: what is ranked anew when it comes after them.
CREATE TABLE refers (
    alert  TEXT NOT NULL,
    scope  TEXT NOT NULL,
    offset INTEGER NOT NULL REFERENCES entry (offset),
    PRIMARY KEY (alert, scope, offset)
) STRICT, WITHOUT ROWID;
INSERT INTO refers SELECT alert, scope, offset FROM awaited;

-- How an entry found the log, where that was otherwise than usual: whether it was old news, and the ids of the states that it replaced, apart by spaces.
CREATE TABLE effect (
    offset   INTEGER PRIMARY KEY REFERENCES entry (offset),
    outdated INTEGER NOT NULL,
    replaced TEXT NOT NULL
) STRICT;
"""


def _know_lives(db: apsw.Connection) -> None:
    db.execute(_LIFE)


def _keep_scores(db: apsw.Connection) -> None:
    db.execute(
        """
        -- What became of each sender's documents on one day (in Japan), and why; `reason` is a rule or an error code.
        CREATE TABLE score (
            org       TEXT NOT NULL,
            day       TEXT NOT NULL,
            sender    TEXT NOT NULL,
            accepted  INTEGER NOT NULL,
            defective INTEGER NOT NULL,
            refused   INTEGER NOT NULL,
            PRIMARY KEY (org, day, sender)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE score_reason (
            org        TEXT NOT NULL,
            day        TEXT NOT NULL,
            sender     TEXT NOT NULL,
            reason     TEXT NOT NULL,
            documents  INTEGER NOT NULL,
            first      INTEGER NOT NULL,
            last       INTEGER NOT NULL,
            identifier TEXT NOT NULL,
            path       TEXT NOT NULL,
            line       INTEGER NOT NULL,
            PRIMARY KEY (org, day, sender, reason)
        ) STRICT, WITHOUT ROWID;
        """
    )


def _keep_audit(db: apsw.Connection) -> None:
    # `audit` is the head of the chain, `audited` the offset up to which every entry has its line: those from before get theirs, too.
    db.execute(
        """
        CREATE TABLE audit (
            number INTEGER PRIMARY KEY,
            text   TEXT NOT NULL,
            hash   BLOB NOT NULL
        ) STRICT;
        CREATE INDEX audit_of_org ON audit (text ->> 'org', number);
        """
    )
    db.execute("INSERT INTO meta VALUES ('audit', ?), ('audited', 0)", (str(EMPTY),))


def _keep_well(db: apsw.Connection) -> None:
    # `trimmed` is the highest offset of an entry that was deleted when it was over. By these indexes an entry is found wherever it is named.
    db.execute(
        """
        CREATE INDEX awaited_of_entry ON awaited (offset);
        CREATE INDEX refers_of_entry ON refers (offset);
        CREATE INDEX named_of_entry ON named (offset);
        INSERT INTO meta VALUES ('trimmed', 0);

        CREATE TABLE proposal (
            id       TEXT PRIMARY KEY,
            station  TEXT NOT NULL,
            tenant   TEXT NOT NULL,
            made     INTEGER NOT NULL,
            level    INTEGER NOT NULL,
            areas    BLOB NOT NULL,
            headline TEXT NOT NULL,
            state    TEXT NOT NULL,
            decided  INTEGER,
            by       TEXT
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX proposal_of_tenant ON proposal (tenant, made);
        """
    )


def _keep_confirmations(db: apsw.Connection) -> None:
    # An entry that is forgotten was confirmed all the same.
    db.execute(
        """
        CREATE TABLE confirmation (
            key       TEXT NOT NULL,
            offset    INTEGER NOT NULL,
            alert     TEXT NOT NULL,
            received  INTEGER NOT NULL,
            stored    INTEGER NOT NULL,
            sent      INTEGER,
            confirmed INTEGER NOT NULL,
            PRIMARY KEY (key, offset)
        ) STRICT, WITHOUT ROWID;
        """
    )


def _keep_attempts(db: apsw.Connection) -> None:
    db.execute(
        """
        CREATE TABLE attempt (
            key      TEXT NOT NULL,
            number   INTEGER NOT NULL,
            began    INTEGER NOT NULL,
            took     REAL NOT NULL,
            state    TEXT NOT NULL,
            detail   TEXT NOT NULL,
            request  TEXT NOT NULL,
            response TEXT NOT NULL,
            PRIMARY KEY (key, number)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX attempt_began ON attempt (began);
        """
    )


def _keep_stations(db: apsw.Connection) -> None:
    # One that is forgotten stays without a document, so that other nodes come to know of it.
    db.execute(
        """
        CREATE TABLE station (
            id       TEXT PRIMARY KEY,
            org      TEXT NOT NULL,
            revision INTEGER NOT NULL UNIQUE,
            document BLOB
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX station_of_org ON station (org) WHERE document IS NOT NULL;
        """
    )


def _limit_keys(db: apsw.Connection) -> None:
    # Keys that were there before are for all stations of their organisation, as they were. JSON, an empty list where there is no limit.
    db.execute("ALTER TABLE key ADD COLUMN stations TEXT NOT NULL DEFAULT '[]'")


def _keep_drafts(db: apsw.Connection) -> None:
    db.execute(
        """
        ALTER TABLE proposal ADD COLUMN document TEXT NOT NULL DEFAULT '';
        ALTER TABLE proposal ADD COLUMN reason TEXT NOT NULL DEFAULT '';
        """
    )


def _keep_readers(db: apsw.Connection) -> None:
    # Who read a gauge by eye; NULL where a device did.
    db.execute("ALTER TABLE reading ADD COLUMN by TEXT")


STEPS: Final[tuple[Step, ...]] = (
    _create,
    _keep_sender_policy,
    _know_lives,
    _keep_scores,
    _keep_audit,
    _keep_well,
    _keep_confirmations,
    _keep_attempts,
    _keep_stations,
    _limit_keys,
    _keep_drafts,
    _keep_readers,
)
"""Step n brings a file from version n to n + 1. A step that has been released is never edited: add another."""


def migrate(db: apsw.Connection, steps: Sequence[Step] = STEPS) -> None:
    """Bring the file up to the newest version, each step in a transaction of its own.

    Raises `StoreError` for a file of a newer lalert or of another program. A step that fails leaves its version as it was.
    """
    version = int(db.pragma("user_version"))
    if db.pragma("application_id") != APPLICATION_ID and (
        version or db.execute("SELECT 1 FROM sqlite_schema").get
    ):
        raise StoreError(f"{db.filename} is a database of another program; choose another data directory")
    if version > len(steps):
        raise StoreError(
            f"{db.filename} was written by a newer lalert (format {version}, this one knows {len(steps)}); "
            "install that version again, or restore a backup made before the upgrade"
        )
    for number in range(version, len(steps)):
        db.execute("BEGIN IMMEDIATE")
        try:
            steps[number](db)
            db.execute(f"PRAGMA user_version = {number + 1}")
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")


def epoch_of(db: apsw.Connection) -> str:
    """Return the epoch of this log; raises `StoreError` if the file has lost it."""
    epoch = db.execute("SELECT value FROM meta WHERE key = 'epoch'").get
    if not isinstance(epoch, str):
        raise StoreError(f"{db.filename} has lost its epoch; restore the newest backup")
    return epoch
