"""The audit chain: who did what and when, each line bound by its hash to all that were written before it.

A line's hash is SHA-256 over the hash before it and the line's text, so whoever knows the newest hash knows the whole chain: a line that is
changed, taken out, put in or moved no longer fits. Who can write to the store can make a whole new chain; that is found out by a head that
somebody kept outside. How it is used: docs/audit.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final

import orjson

from lalert.model import OriginKind

Detail = str | int | bool | None | Sequence[str]

IPV4_BITS: Final = 24
IPV6_BITS: Final = 48
"""So much of a remote address is kept: whose network it was, not which machine. The whole address is with the entry, for as long as that is kept."""


class Action(StrEnum):
    """What can be done that leaves a line."""

    ACCEPTED = "alert.accepted"
    REFUSED = "alert.refused"
    SENT = "alert.sent"
    ORG_CREATED = "org.created"
    ORG_CHANGED = "org.changed"
    KEY_CREATED = "key.created"
    KEY_REVOKED = "key.revoked"
    SUBSCRIBED = "subscription.saved"
    UNSUBSCRIBED = "subscription.dropped"
    TESTED = "subscription.tested"
    REDELIVERED = "delivery.repeated"
    TICKED = "checklist.ticked"
    STATION_SAVED = "station.saved"
    STATION_FORGOTTEN = "station.forgotten"
    PROPOSAL_APPROVED = "proposal.approved"
    PROPOSAL_REJECTED = "proposal.rejected"
    STARTED = "node.started"
    STOPPED = "node.stopped"
    BACKED_UP = "store.backed-up"
    RESTORED = "store.restored"
    TRIMMED = "store.trimmed"


class ActorKind(StrEnum):
    """Who can do something: a key's holder, an adapter, a gauge's rule, whoever works on the hub's own machine or has its set-up link, the hub, or nobody known."""

    KEY = "key"
    ADAPTER = "adapter"
    STATION = "station"
    LOCAL = "local"
    SET_UP = "set-up"
    HUB = "hub"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it; `name` is the key's public id, the adapter's or the station's name, else empty."""

    kind: ActorKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)


LOCAL: Final = Actor(ActorKind.LOCAL)
SET_UP: Final = Actor(ActorKind.SET_UP)
HUB: Final = Actor(ActorKind.HUB)
NOBODY: Final = Actor(ActorKind.NOBODY)


def actor_of(kind: str, key_id: str | None, remote: str | None) -> Actor:
    """Return who handed something in: `kind` is an `OriginKind`, or a word that a newer lalert knows."""
    if key_id is not None:
        return Actor(ActorKind.KEY, key_id)
    if kind == OriginKind.SENSOR:
        return Actor(ActorKind.STATION, remote or "")
    if kind == OriginKind.ADAPTER:
        return Actor(ActorKind.ADAPTER, remote or "")
    return NOBODY


@lru_cache(maxsize=1024)
def network_of(remote: str | None) -> str | None:
    """Return the network of an address, which is all of it that is kept; None for what is no address."""
    try:
        address = ip_address((remote or "").partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None) or address
    return str(ip_network((mapped, IPV4_BITS if mapped.version == 4 else IPV6_BITS), strict=False))


@dataclass(frozen=True, slots=True)
class Note:
    """Something done, before it has its place in the chain. `org` is whose line it is, "" where it concerns the hub alone; `subject` is what it was done to.

    Neither a document's text nor a target's address belongs into `details`: lines are kept for good.
    """

    time: datetime
    actor: Actor
    action: Action
    subject: str
    org: str = ""
    details: Mapping[str, Detail] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends: the number of its last line (None: not known) and that line's hash. Written as `NUMBER:HASH`."""

    number: int | None
    hash: bytes

    def __str__(self) -> str:
        return self.hash.hex() if self.number is None else f"{self.number}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read a head, or a hash alone; raises `ValueError`."""
        found = re.fullmatch(r"(?:([0-9]{1,18}):)?([0-9A-Fa-f]{64})", text.strip(), re.ASCII)
        if found is None:
            raise ValueError(f"{text[:80]!r} is no head such as 128:{'0' * 60}…")
        return cls(None if found[1] is None else int(found[1]), bytes.fromhex(found[2]))


EMPTY: Final = Head(0, bytes(32))
"""The head of a chain without lines."""


@dataclass(frozen=True, slots=True)
class KeptLine:
    """A line as it is kept: its place, its text (canonical JSON, UTF-8), and its hash. Nothing says that it is sound before `Check` has said so."""

    number: int
    text: bytes
    hash: bytes

    @property
    def head(self) -> Head:
        return Head(self.number, self.hash)


@dataclass(frozen=True, slots=True)
class AuditLine:
    """A line as it is read. `actor` and `action` are texts, because a newer lalert may have written it."""

    number: int
    time: datetime
    org: str
    actor: str
    action: str
    subject: str
    details: Mapping[str, Detail]


def chained(head: Head, notes: Sequence[Note]) -> list[KeptLine]:
    """Return notes as the lines that follow a head, which has a number."""
    assert head.number is not None
    lines: list[KeptLine] = []
    previous = head.hash
    for number, note in enumerate(notes, head.number + 1):
        text = encode(number, note)
        previous = link(previous, text)
        lines.append(KeptLine(number, text, previous))
    return lines


def encode(number: int, note: Note) -> bytes:
    """Return the one text of a line; what is no character of Unicode becomes a question mark."""
    members: dict[str, object] = {
        "number": number,
        "time": note.time.astimezone(UTC).isoformat(timespec="microseconds"),
        "org": note.org,
        "actor": str(note.actor),
        "action": str(note.action),
        "subject": note.subject,
        "details": dict(note.details),
    }
    try:
        return orjson.dumps(members, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        details = {name: _readable(value) for name, value in note.details.items()}
        members |= {"subject": _readable(note.subject), "details": details}
        return orjson.dumps(members, option=orjson.OPT_SORT_KEYS)


def decode(text: bytes) -> AuditLine:
    """Read a line's text; raises `ValueError` if it is none, which only a line can be that `Check` does not find sound."""
    try:
        members = orjson.loads(text)
        org, actor, action, subject = (str(members[name]) for name in ("org", "actor", "action", "subject"))
        time, details = datetime.fromisoformat(members["time"]), dict(members["details"])
        return AuditLine(int(members["number"]), time, org, actor, action, subject, details)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("this is no line of an audit chain") from error


def link(previous: bytes, text: bytes) -> bytes:
    """Return the hash of a line with this text, after a line with the hash `previous`."""
    return hashlib.sha256(previous + text).digest()


class Flaw(StrEnum):
    """What is wrong at the first bad place of a chain."""

    CHANGED = "changed"
    MISSING = "missing"
    OUT_OF_ORDER = "out-of-order"
    REWRITTEN = "rewritten"
    """The chain fits by itself, and is not the one of which a head is known."""
    CUT_OFF = "cut-off"
    """A head is known that the chain does not reach, or does not hold."""
    DOCUMENT = "document"
    """The chain is sound, and the log holds another document than was accepted."""
    UNKNOWN = "unknown"
    """The chain is sound, and the log holds an alert that was never accepted."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The first bad line of a chain, by the number that it has or should have there (0: there is none); `alert` is the id of the one whose document it is about."""

    number: int
    flaw: Flaw
    alert: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """What the log holds now at a position, of an alert that has its line: the alert's permanent id and the SHA-256 of the bytes."""

    position: str
    alert: str
    sha256: bytes


class Check:
    """Reads a chain line by line and finds its first fault. `heads` are heads that it is known to have had."""

    def __init__(self, heads: Iterable[Head] = ()) -> None:
        self.head = EMPTY
        self.fault: Fault | None = None
        self._hashes: dict[int, set[bytes]] = {}
        self._unplaced: set[bytes] = set()
        for head in heads:
            if head.number is None:
                self._unplaced.add(head.hash)
            else:
                self._hashes.setdefault(head.number, set()).add(head.hash)
        if self._hashes.get(0, {EMPTY.hash}) != {EMPTY.hash}:
            self.fault = Fault(1, Flaw.REWRITTEN)

    def take(self, line: KeptLine) -> None:
        """Look at the next line."""
        if self.fault is not None:
            # What seemed to be missing was only put elsewhere.
            if self.fault.flaw is Flaw.MISSING and line.number == self.fault.number:
                self.fault = Fault(self.fault.number, Flaw.OUT_OF_ORDER)
            return
        assert self.head.number is not None
        number = self.head.number + 1
        flaw = self._flaw(line, number)
        if flaw is not None:
            self.fault = Fault(number, flaw)
            return
        self.head = line.head
        self._unplaced.discard(line.hash)

    def end(self) -> Fault | None:
        """Return the first fault, now that all lines were taken; None where the chain is sound."""
        assert self.head.number is not None
        beyond = any(number > self.head.number for number in self._hashes)
        if self.fault is None and (beyond or self._unplaced - {EMPTY.hash}):
            self.fault = Fault(self.head.number + 1, Flaw.CUT_OFF)
        return self.fault

    def _flaw(self, line: KeptLine, number: int) -> Flaw | None:
        if line.number != number:
            return Flaw.MISSING if line.number > number else Flaw.OUT_OF_ORDER
        if link(self.head.hash, line.text) != line.hash:
            return Flaw.OUT_OF_ORDER if _number_in(line.text) not in (None, number) else Flaw.CHANGED
        if self._hashes.get(number, {line.hash}) != {line.hash}:
            return Flaw.REWRITTEN
        return None


class Accepted:
    """What a sound chain says of every document that was accepted: the last time, where one came again after it had been deleted."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[int, bytes]] = {}

    def take(self, line: KeptLine) -> None:
        """Look at the next line."""
        try:
            read = decode(line.text)
            if read.action == Action.ACCEPTED:
                self._lines[read.subject] = (read.number, bytes.fromhex(str(read.details.get("sha256", ""))))
        except ValueError:
            # A line with the right hash that none of us has written: its document then has none, and that is found.
            return

    def fault(self, document: Document) -> Fault | None:
        """Say what is wrong with a document of the log."""
        number, sha256 = self._lines.get(document.alert, (0, b""))
        if sha256 == document.sha256:
            return None
        return Fault(number, Flaw.DOCUMENT if number else Flaw.UNKNOWN, document.alert)


def verify(lines: Iterable[KeptLine], heads: Iterable[Head] = ()) -> Fault | None:
    """Return the first fault of a whole chain, in the order in which it is kept; None if it is sound and holds every one of `heads`."""
    check = Check(heads)
    for line in lines:
        check.take(line)
    return check.end()


def _number_in(text: bytes) -> int | None:
    try:
        return decode(text).number
    except ValueError:
        return None


def _readable(value: Detail) -> Detail:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if value is None or isinstance(value, int):
        return value
    return [item.encode(errors="replace").decode() for item in value]
