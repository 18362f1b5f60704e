"""What a store must be able to do; the embedded one is in `store.sqlite`.

One contract suite (`lalert.testing.StoreContract`) holds every implementation to these promises:

- A method that writes returns only when what it wrote is durable: it survives `kill -9` and a power cut.
- Two appends never share a position, positions rise in the order of commits, and `on_append` hears of entries in that order, once each.
- A failed write leaves nothing behind.
- A full disk or a queue at its bound is `Unavailable`, never an endless wait.

Only `app.py` names a concrete store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple, Protocol
from zlib import crc32

from lalert.model import (
    Alert,
    Changes,
    Entry,
    Facts,
    Key,
    Lease,
    Origin,
    Proposal,
    Reading,
    Subscription,
    Tenant,
)
from lalert.store.audit import Document, Head, KeptLine, Note

Revive = Callable[[bytes, frozenset[str]], tuple[Alert, Facts]]
"""Rebuild what the log keeps as bytes: (raw document, jurisdiction codes) -> alert and facts. Handed in by the app."""

OnAppend = Callable[[Sequence[Entry]], None]
"""Told, on the event loop, of entries just made durable, in position order. Must not block, wait or raise."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The answer of `append`: `fresh` is False when the very same document had been accepted before."""

    entry: Entry
    fresh: bool


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What `append` would answer. `entry` has no position yet unless it is there already; `lineage` is what `AlertLog.lineage` would return of it."""

    entry: Entry
    fresh: bool
    lineage: tuple[Entry, ...] = ()


class DeliveryState(StrEnum):
    """Where a delivery stands; everything but `RETRY` is settled."""

    RETRY = "retry"
    DELIVERED = "delivered"
    DEAD = "dead"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """What is remembered of one delivery that was tried or settled out of turn; `due` is set while it waits for another try."""

    key: str
    subscription: str
    position: str
    state: DeliveryState
    attempts: int
    due: datetime | None
    detail: str
    updated: datetime
    confirmed: datetime | None = None


MAX_ATTEMPTS: Final = 20
"""Of each delivery so many attempts are kept, the newest."""

ATTEMPTS_KEPT: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of the delivery with this key: when it began, how many seconds it `took`, what came of it, what was sent and what was answered.

    `request` and `response` are short, and hold neither address nor secret; empty where the channel does not say.
    """

    key: str
    number: int
    began: datetime
    took: float
    state: DeliveryState
    detail: str
    request: str = ""
    response: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    """A target with its cursor: everything at or before it is settled for this subscription, or has a row that says how it stands."""

    subscription: Subscription
    cursor: str


SHARES: Final = 64
"""The lanes are divided into so many shares, by `share_of`: what nodes hold leases of. Part of every store's format."""


def share_of(subscription_id: str) -> int:
    """Return the share that a subscription's lane belongs to."""
    return crc32(subscription_id.encode()) % SHARES


@dataclass(frozen=True, slots=True)
class StoredReading:
    """A reading with its order of arrival (`number` rises by one for each) and the time of receipt."""

    number: int
    tenant: str
    reading: Reading
    received: datetime


UNKNOWN: Final = ""
"""The sender of documents in which no sender of the organisation's own can be read."""

OTHERS: Final = "<others>"
"""Stands for all senders beyond `MAX_SENDERS`; no CAP sender can be written so."""

MAX_SENDERS: Final = 100
"""As many senders of an organisation are told apart on one day."""

MAX_DAYS: Final = 366
"""Counts of senders are kept for so many days."""


@dataclass(frozen=True, slots=True)
class Example:
    """One document in which something was found: its identifier, the element's path and line; "" and 0 for what is not known."""

    identifier: str = ""
    path: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Reason:
    """In how many documents a rule was broken (or for which error code they were refused), when first and last, and the last one as example."""

    documents: int
    first: datetime
    last: datetime
    example: Example

    def then(self, later: Reason) -> Reason:
        """Return both together."""
        newest = max(self, later, key=lambda reason: reason.last)
        return Reason(
            self.documents + later.documents, min(self.first, later.first), newest.last, newest.example
        )


@dataclass(frozen=True, slots=True)
class Score:
    """What became of one sender's documents on one day: taken without a defect, taken with one, refused; and why, by rule or error code."""

    org: str
    sender: str
    day: date
    accepted: int
    defective: int
    refused: int
    reasons: Mapping[str, Reason]


class AlertLog(Protocol):
    """The log of accepted alerts."""

    @property
    def newest(self) -> str:
        """Return the position of the newest durable entry (`epoch-0` while there is none)."""
        ...

    @property
    def storing(self) -> bool:
        """Whether a thread of this process is making an alert durable now: it wants a processor only for moments, and whoever keeps one busy can let it have them."""
        ...

    def order(self, position: str) -> tuple[int, ...]:
        """Return what makes two positions comparable; raises `UnknownPosition` for another epoch or the future, `BadRequest` for what is no position."""
        ...

    async def append(
        self,
        alert: Alert,
        origin: Origin,
        received: datetime,
        facts: Facts,
        jurisdiction: frozenset[str],
        *,
        changes: Changes | None = None,
        correction: bool = False,
    ) -> Appended:
        """Keep an alert for good and return it with its position, once it is durable.

        De-duplicates on (sender, identifier, sent as an instant): the same bytes again give the first entry with `fresh=False`, other bytes raise
        `Conflict`. The entry's incident is the one of the first known alert it refers to, or of an earlier alert that had referred to it, else its own
        id; organisations and statuses never share one. `changes` and `correction` stay with the entry; `outdated` and `replaced` are found here.
        A reference without a time means the one alert of that sender and identifier, also one that comes later; where there
        are several, none. Raises `Unavailable` when the store cannot take it now.
        """
        ...

    async def foresee(
        self,
        alert: Alert,
        origin: Origin,
        received: datetime,
        facts: Facts,
        jurisdiction: frozenset[str],
        *,
        changes: Changes | None = None,
        correction: bool = False,
    ) -> Foreseen:
        """Return what `append` would answer now, and keep nothing: no position is used up and nobody is told. Raises what `append` raises."""
        ...

    async def reach(self, position: str) -> None:
        """Wait, a bounded time, until this node has what another node had when it told this position; what is no position of this log is left to `order`."""
        ...

    async def read(self, after: str | None, limit: int) -> list[Entry]:
        """Return up to `limit` entries that follow `after` (None: the oldest kept), rising; raises `UnknownPosition`."""
        ...

    def require_kept(self, after: str) -> None:
        """Raise `UnknownPosition` if something that followed `after` is no longer kept: whoever goes on from there would miss it without knowing.

        `read` itself does not: what is still in force stays in the log although much that came after it is gone.
        """
        ...

    async def latest(self, limit: int) -> list[Entry]:
        """Return the newest `limit` entries, rising."""
        ...

    async def active(self, now: datetime) -> list[Entry]:
        """Return what is in force at `now`, rising: the newest state of each chain of references, unless it is a Cancel or has expired.

        An Ack or Error is no state. What refers to an alert is newer than it; for the rest `sent` decides, then the id: so once all have
        come, the order in which they came makes no difference.
        """
        ...

    async def next_end(self, after: datetime) -> datetime | None:
        """Return the earliest moment after `after` at which something ends that is the newest state of its chain; None if nothing does."""
        ...

    async def ended(self, after: datetime, upto: datetime, limit: int | None = None) -> list[str]:
        """Return the positions of what is the newest state of its chain and ended after `after`, at `upto` at the latest; the earliest end first, the first `limit` of them."""
        ...

    async def heads(self, entry: Entry) -> list[Entry]:
        """Return the newest state of each chain that `entry` belongs to, rising: what to compare a message with that refers to it."""
        ...

    async def named(self, sender: str, identifier: str, limit: int) -> list[Entry]:
        """Return the first `limit` entries of a sender with this identifier, rising: more than one only if they were sent at different times."""
        ...

    async def entry(self, position: str) -> Entry | None:
        """Return the entry at a position, or None."""
        ...

    async def find(self, alert_id: str) -> Entry | None:
        """Return the entry with this permanent id, or None."""
        ...

    async def lineage(self, entry: Entry) -> list[Entry]:
        """Return the earlier entries of every incident that `entry` continues or refers to, rising: those whose audience it must reach too."""
        ...


class Directory(Protocol):
    """Organisations and their keys."""

    async def save_tenant(self, tenant: Tenant) -> None:
        """Add an organisation; raises `Conflict` if the id is taken."""
        ...

    async def update_tenant(self, tenant: Tenant) -> None:
        """Replace an organisation by what is now true of it; raises `NotFound`."""
        ...

    async def tenants(self) -> list[Tenant]: ...

    async def save_key(self, key: Key) -> None:
        """Add a key; raises `NotFound` if its organisation does not exist."""
        ...

    async def keys(self) -> list[Key]: ...

    async def revoke_key(self, key_id: str, now: datetime) -> None:
        """Revoke for good; raises `NotFound`. Revoking twice keeps the first time."""
        ...


class Outbox(Protocol):
    """Durable targets. Nothing is written when an alert is planned: a lane's cursor and the rows beyond it say all (see docs/adr)."""

    async def save_subscription(self, subscription: Subscription, cursor: str) -> None:
        """Add or replace a subscription; a new one hears everything after `cursor`, an old one keeps its own cursor."""
        ...

    async def drop_subscription(self, subscription_id: str) -> bool:
        """Forget a subscription and its lane; its delivery rows stay as history, those at `RETRY` as `DROPPED`. Returns False if there was none."""
        ...

    async def lanes(self, shares: Collection[int] | None = None) -> list[Lane]:
        """Return the lanes of these shares (None: all), the oldest first."""
        ...

    async def lane(self, subscription_id: str) -> Lane | None: ...

    async def record(
        self, rows: Sequence[DeliveryRow], cursors: Mapping[str, str], fences: Collection[Lease] = ()
    ) -> None:
        """Write delivery rows (by key, the newer `updated` stays) and move lanes' cursors (subscription id -> position), never back; all or nothing.

        What was confirmed once stays confirmed. `fences` are the leases under which this is written: raises `Fenced`, which names them, for those that are
        another's by now. A store for one node alone need not look at them. Without any it is what somebody asked for at any node (see `target_changes`).
        """
        ...

    async def unsettled(self, shares: Collection[int] | None = None) -> list[DeliveryRow]:
        """Return every row at state `RETRY`, and every settled row beyond its lane's cursor, in these shares (None: in all): what a restart must know."""
        ...

    async def unsettled_of(self, subscription_id: str) -> list[DeliveryRow]:
        """Return the same of one subscription."""
        ...

    async def target_changes(self, after: int) -> tuple[int, frozenset[str] | None]:
        """Return the number of changes so far, and the ids of the subscriptions that were changed after the number `after`.

        A change is a subscription saved or dropped, or rows recorded without a fence: what a node that holds its share has to look at. None
        stands for "any may have changed": also for a number that this store has never given, or has forgotten.
        """
        ...

    async def deliveries(self, subscription_id: str, limit: int) -> list[DeliveryRow]:
        """Return the newest rows of a subscription, newest first."""
        ...

    async def delivery(self, key: str) -> DeliveryRow | None: ...


class AttemptBook(Protocol):
    """What each attempt said. History alone: nothing is decided by it, and it is in no backup of a store of many nodes."""

    async def add_attempts(self, attempts: Sequence[Attempt]) -> None:
        """Keep attempts; the same key and number again replaces. `MAX_ATTEMPTS` of each delivery stay, for `ATTEMPTS_KEPT`. Raises `Unavailable`."""
        ...

    async def attempts(self, key: str) -> list[Attempt]:
        """Return what is kept of one delivery, the first attempt first."""
        ...


class SensorLog(Protocol):
    """Readings in order of arrival, and what the rules made of them."""

    async def append_readings(
        self, tenant: str, readings: Sequence[Reading], received: datetime
    ) -> list[StoredReading | None]:
        """Keep readings; None stands for one known already.

        Known is the same quantity (level, rain, rain counter) of the same station with the same device time, or with the same `seq` within an hour
        of it: a device that restarts counts from 0 again.
        """
        ...

    async def readings(self, station: str, limit: int) -> list[StoredReading]:
        """Return the newest `limit` readings of a station by device time, rising."""
        ...

    async def readings_after(self, number: int, limit: int) -> list[StoredReading]:
        """Return readings in order of arrival after `number`: what a restarted rule engine still has to judge."""
        ...

    async def rule_state(self, station: str) -> bytes | None: ...

    async def rule_states(self) -> dict[str, bytes]: ...

    async def save_rule_states(
        self, states: Mapping[str, bytes], judged: int, fence: Lease | None = None
    ) -> None:
        """Keep what the rules know of stations, and that every reading up to number `judged` has been judged, all or nothing; raises `Fenced`."""
        ...

    async def judged(self) -> int:
        """Return the number of the last reading that was judged; 0 at first."""
        ...


@dataclass(frozen=True, slots=True)
class KeptStation:
    """A station as it was saved: `document` is what the sensors part makes of it, None once it is forgotten; `revision` is given by the store, rising."""

    id: str
    org: str
    document: bytes | None
    revision: int = field(default=0, compare=False)


class Stations(Protocol):
    """Stations that were set up while the hub runs."""

    async def save_stations(self, stations: Sequence[KeptStation]) -> None:
        """Add or replace stations, all or nothing; raises `Conflict` for an id that is another organisation's."""
        ...

    async def forget_station(self, station: str, org: str) -> bool:
        """Forget an organisation's station; False if it has none of that id. Its readings stay."""
        ...

    async def stations(self, org: str | None = None) -> list[KeptStation]:
        """Return the stations of an organisation (None: of all), by id."""
        ...

    async def station(self, station: str) -> KeptStation | None: ...

    async def stations_after(self, revision: int, limit: int) -> list[KeptStation]:
        """Return those saved or forgotten after a revision (0: all), each as it is now, by revision: how a node follows what is changed at another."""
        ...


class ScoreBook(Protocol):
    """What became of each sender's documents, day by day; nothing of what was in them."""

    async def add_scores(self, scores: Sequence[Score]) -> None:
        """Add counts to those of the same sender and day, all or nothing.

        Of one organisation and day up to `MAX_SENDERS` are told apart, those beyond are counted as `OTHERS`. Days older than `MAX_DAYS` before one that
        is added are forgotten for its organisation.
        """
        ...

    async def scores(self, org: str | None, sender: str | None, since: date) -> list[Score]:
        """Return the days from `since` on, of an organisation (None: of all) and a sender (None: of all), by organisation, day and sender."""
        ...


MAX_CONFIRMATIONS: Final = 100
"""Of each receiver the alerts at so many positions are kept, the newest."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A receiver has an alert: its key's id, the position and permanent id of the alert, and when that passed each hop.

    `sent` is None where the node that heard of it had not told anybody of the alert itself.
    """

    key: str
    position: str
    alert: str
    received: datetime
    stored: datetime
    sent: datetime | None
    confirmed: datetime


class ConfirmationBook(Protocol):
    """What receivers have confirmed, at whichever node."""

    async def add_confirmations(self, confirmations: Sequence[Confirmation]) -> None:
        """Keep the first of each key and position, and of each key no more than `MAX_CONFIRMATIONS`; all or nothing. Raises `UnknownPosition`."""
        ...

    async def confirmations(self, keys: Collection[str] | None = None) -> list[Confirmation]:
        """Return those of some keys (None: of all), by key, the newest position first."""
        ...


class AuditLog(Protocol):
    """The audit chain (`store.audit`): lines are added, and never changed or taken away."""

    async def append_audit(self, notes: Sequence[Note]) -> Head:
        """Number the notes, link them to the chain in their order and keep them, all or nothing; returns the chain's new head."""
        ...

    async def audit_accepted(self, limit: int) -> int:
        """Give up to `limit` accepted entries that have no line yet theirs, in the order of the log; returns how many.

        Wherever it is broken off, and however many call it at once: each entry gets one line and no more.
        """
        ...

    async def documents(self, after: str | None, limit: int) -> list[Document]:
        """Return what the log holds now of up to `limit` accepted entries that have their lines, after a position (None: from the oldest kept), rising."""
        ...

    async def audit_lines(self, after: int, limit: int, org: str | None = None) -> list[KeptLine]:
        """Return up to `limit` lines after the one with the number `after` (0: from the first), rising; of one organisation, or (None) all."""
        ...

    async def latest_audit_lines(
        self, limit: int, before: int | None = None, org: str | None = None
    ) -> list[KeptLine]:
        """Return the newest `limit` lines (before the one with the number `before`), rising; of one organisation, or (None) all."""
        ...

    async def audit_head(self) -> Head:
        """Return the head that the store knows of, whether or not the lines up to it are still there."""
        ...


class StateStore(Protocol):
    """A few small values per adapter instance."""

    async def get(self, owner: str, key: str) -> bytes | None: ...

    async def put(self, owner: str, key: str, value: bytes) -> None: ...

    async def delete(self, owner: str, key: str) -> None: ...


class Proposals(Protocol):
    """What rules propose, and what was decided."""

    async def save_proposal(self, proposal: Proposal) -> None:
        """Add a proposal, or replace one that is open still; raises `Conflict` once it is decided."""
        ...

    async def proposals(self, tenant: str | None, state: str | None, limit: int) -> list[Proposal]:
        """Return the newest `limit` proposals of an organisation (None: of all) in a state (None: in any), newest first."""
        ...

    async def proposal(self, proposal_id: str) -> Proposal | None: ...

    async def decide_proposal(
        self, proposal_id: str, state: str, by: str, now: datetime, reason: str = ""
    ) -> Proposal:
        """Decide an open proposal and return it; raises `NotFound`, and `Conflict` where somebody has decided before."""
        ...


class Part(NamedTuple):
    """A group that is to go, or (a large one goes in parts, the oldest first) some of it; `newest` is the position of the group's newest member."""

    positions: Sequence[str]
    newest: str


class Retained(Protocol):
    """What can be deleted once it is over, in steps that let appends pass. Deciding when, and archiving first, is the caller's."""

    async def settled(self) -> str:
        """Return the position up to which nothing is owed: every lane's cursor is beyond it, no delivery waits for another try, and all is in the audit chain."""
        ...

    def over(self, upto: str, before: datetime, now: datetime) -> AsyncIterator[tuple[str, ...]]:
        """Yield groups of positions, rising: all that is connected by references, each at `upto` at the latest, stored and sent at `before` at the latest, and not in force."""
        ...

    async def forget(self, parts: Sequence[Part]) -> list[bool]:
        """Delete entries, each part all or nothing, in one step; returns which are gone.

        A part stays if something has referred to its group meanwhile, or if the store cannot tell. From then on `require_kept` raises for what lies before.
        """
        ...

    async def forget_deliveries(self, before: datetime) -> int:
        """Delete the settled delivery rows, last changed at `before` at the latest, of entries that are no longer kept; returns how many."""
        ...

    async def forget_readings(self, before: datetime) -> int:
        """Delete readings that were received at `before` at the latest and have been judged; returns how many."""
        ...


class Portable(Protocol):
    """What can be taken out of a store as a whole. A backup is always one file of the embedded store's format, whichever store it came from."""

    async def backup(self, target: str, *, force: bool = False) -> int:
        """Copy everything as it is at one moment to the file `target` and return its bytes; appends go on meanwhile.

        The file is whole, checked and durable, or absent. Raises `Conflict` where it exists already (unless `force`), `BadRequest` for a place that cannot be
        written to, `Unavailable` for a full disk.
        """
        ...


class Store(
    AlertLog,
    Directory,
    Outbox,
    AttemptBook,
    SensorLog,
    Stations,
    ScoreBook,
    ConfirmationBook,
    AuditLog,
    Proposals,
    Retained,
    Portable,
    StateStore,
    Protocol,
):
    """Everything that is durable, in one place, so that one commit can hold it together."""

    async def __aenter__(self) -> Store:
        """Open it; raises `StoreError` if it is locked by another node, damaged, or its SQLite cannot be trusted."""
        ...

    async def __aexit__(self, *exc: object) -> None:
        """Finish what was taken and close."""
        ...

    async def check(self) -> None:
        """Write and read a canary; raises `StoreError` or `Unavailable` when that does not work (for `/readyz`)."""
        ...
