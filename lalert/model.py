"""The frozen values that everything speaks of: an alert and its parts, an entry of the log, a filter, a delivery.

Names follow CAP 1.2 (OASIS, 1 July 2010), in Python's spelling. Coordinates are (lon, lat) in degrees of WGS 84; CAP's (lat,lon) is
turned round when a document is parsed and again when one is rendered. Every datetime is aware; those that a sender
wrote keep the sender's own offset, because people read local time.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

from lalert.errors import Problem

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

JST: Final = timezone(timedelta(hours=9))
"""The time that clocks in Japan show: what the hub itself writes for people is in it. One offset and no summer time, so no time-zone table is needed."""

UNKNOWN_INSTANT: Final = datetime.min.replace(tzinfo=UTC)
"""The instant of a reference that names none (CAP 1.0)."""

LONG_NAME: Final = 512
"""Characters of sender and identifier together, beyond which an id is not remembered: a hostile name must not fill the memory."""

LARGE_BYTES: Final = 65_536
"""A document larger than this is worked on in a thread: about 2 ms are the most that one alert may take from everybody else."""

LARGE_GROUND: Final = 80
"""An alert of more municipalities and wards than this is drawn in a thread: so many take 2 ms the first time."""

Ring = tuple[tuple[float, float], ...]
"""A closed ring of (lon, lat): the first point is repeated as the last."""


_T = TypeVar("_T")


def _by_slot(cls: type[_T]) -> type[_T]:
    """Give a frozen, slotted dataclass a constructor that writes to its slots at half the cost of its own: an alert has a hundred of them to fill.

    The same arguments and defaults; only what `object.__setattr__` would have looked up for each is looked up once.
    """
    parameters = inspect.signature(cls).parameters.values()
    known: dict[str, object] = {f"set_{p.name}": getattr(cls, p.name).__set__ for p in parameters}
    known |= {f"default_{p.name}": p.default for p in parameters}
    given = [p.name if p.default is p.empty else f"{p.name}=default_{p.name}" for p in parameters]
    body = "".join(f"    set_{p.name}(self, {p.name})\n" for p in parameters)
    exec(f"def __init__(self, {', '.join(given)}):\n{body}", known)  # noqa: S102  # from field names alone, as dataclasses do
    cls.__init__ = known["__init__"]  # type: ignore[assignment]
    return cls


class Status(StrEnum):
    """CAP 3.2.1 <status>: how the message is to be handled."""

    ACTUAL = "Actual"
    EXERCISE = "Exercise"
    SYSTEM = "System"
    TEST = "Test"
    DRAFT = "Draft"


class MsgType(StrEnum):
    """CAP 3.2.1 <msgType>: the nature of the message."""

    ALERT = "Alert"
    UPDATE = "Update"
    CANCEL = "Cancel"
    ACK = "Ack"
    ERROR = "Error"


class Scope(StrEnum):
    """CAP 3.2.1 <scope>: the intended distribution."""

    PUBLIC = "Public"
    RESTRICTED = "Restricted"
    PRIVATE = "Private"


class Urgency(StrEnum):
    """CAP 3.2.2 <urgency>."""

    IMMEDIATE = "Immediate"
    EXPECTED = "Expected"
    FUTURE = "Future"
    PAST = "Past"
    UNKNOWN = "Unknown"


class Severity(StrEnum):
    """CAP 3.2.2 <severity>."""

    EXTREME = "Extreme"
    SEVERE = "Severe"
    MODERATE = "Moderate"
    MINOR = "Minor"
    UNKNOWN = "Unknown"


class Certainty(StrEnum):
    """CAP 3.2.2 <certainty>."""

    OBSERVED = "Observed"
    LIKELY = "Likely"
    POSSIBLE = "Possible"
    UNLIKELY = "Unlikely"
    UNKNOWN = "Unknown"


SEVERITY_RANK: Final[Mapping[Severity, int]] = {
    Severity.UNKNOWN: 0,
    Severity.MINOR: 1,
    Severity.MODERATE: 2,
    Severity.SEVERE: 3,
    Severity.EXTREME: 4,
}
"""How grave a severity is; Unknown is lowest here, and passes every `min_severity` (see `Filter`)."""


@_by_slot
@dataclass(frozen=True, slots=True)
class NamedValue:
    """CAP's valueName/value pair: <eventCode>, <parameter>, <geocode>."""

    name: str
    value: str


@_by_slot
@dataclass(frozen=True, slots=True)
class Circle:
    """CAP 3.2.4 <circle>: centre in degrees, radius in metres (CAP writes kilometres)."""

    lon: float
    lat: float
    radius_m: float


@_by_slot
@dataclass(frozen=True, slots=True)
class Area:
    """CAP 3.2.4 <area>: the place is the union of its polygons, circles and geocodes. Altitude and ceiling are in feet above mean sea level."""

    area_desc: str
    polygons: tuple[Ring, ...] = ()
    circles: tuple[Circle, ...] = ()
    geocodes: tuple[NamedValue, ...] = ()
    altitude: float | None = None
    ceiling: float | None = None


@_by_slot
@dataclass(frozen=True, slots=True)
class Resource:
    """CAP 3.2.3 <resource>: a file that goes with the alert; size in bytes."""

    resource_desc: str
    mime_type: str | None = None
    size: int | None = None
    uri: str | None = None
    deref_uri: str | None = None
    digest: str | None = None


@_by_slot
@dataclass(frozen=True, slots=True)
class Info:
    """CAP 3.2.2 <info>: what happens, for whom, in one language."""

    event: str
    categories: tuple[str, ...]
    urgency: Urgency
    severity: Severity
    certainty: Certainty
    language: str = "en-US"
    response_types: tuple[str, ...] = ()
    audience: str | None = None
    event_codes: tuple[NamedValue, ...] = ()
    effective: datetime | None = None
    onset: datetime | None = None
    expires: datetime | None = None
    sender_name: str | None = None
    headline: str | None = None
    description: str | None = None
    instruction: str | None = None
    web: str | None = None
    contact: str | None = None
    parameters: tuple[NamedValue, ...] = ()
    resources: tuple[Resource, ...] = ()
    areas: tuple[Area, ...] = ()


@_by_slot
@dataclass(frozen=True, slots=True)
class Reference:
    """One triple of CAP 3.2.1 <references>; `sent` is the text as written, `instant` what it says.

    CAP 1.0 refers by identifier and sender alone: `sent` is then empty, and `instant` is `UNKNOWN_INSTANT` until the hub has found out
    which alert is meant.
    """

    sender: str
    identifier: str
    sent: str
    instant: datetime

    @property
    def timeless(self) -> bool:
        """Say whether it is not known which message of that sender and identifier is meant."""
        return self.instant == UNKNOWN_INSTANT

    @property
    def id(self) -> str:
        """Return the permanent id of the alert that is referred to."""
        return alert_id(self.sender, self.identifier, self.instant)


@_by_slot
@dataclass(frozen=True, slots=True)
class Alert:
    """CAP 3.2.1 <alert>, immutable; `raw` is the document byte for byte as received, so that a signature still verifies.

    `sent` keeps the sender's offset and `sent_text` the sender's spelling, because references are compared as text by others.
    `defects` are the problems that did not make it invalid.
    """

    identifier: str
    sender: str
    sent: datetime
    status: Status
    msg_type: MsgType
    scope: Scope
    sent_text: str
    version: str = "1.2"
    source: str | None = None
    restriction: str | None = None
    addresses: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    note: str | None = None
    references: tuple[Reference, ...] = ()
    incidents: tuple[str, ...] = ()
    infos: tuple[Info, ...] = ()
    raw: bytes = field(default=b"", repr=False, compare=False)
    defects: tuple[Problem, ...] = field(default=(), repr=False, compare=False)

    @property
    def id(self) -> str:
        """Return the permanent id, made from (sender, identifier, sent as an instant)."""
        return alert_id(self.sender, self.identifier, self.sent)

    @property
    def large(self) -> bool:
        """Say whether what is done with the whole of it takes milliseconds, and so has to be done outside of the event loop's thread."""
        return len(self.raw) > LARGE_BYTES

    @property
    def severity(self) -> Severity:
        """Return the gravest severity of all infos; Unknown where there is none."""
        return max((i.severity for i in self.infos), key=SEVERITY_RANK.__getitem__, default=Severity.UNKNOWN)

    @property
    def expires(self) -> datetime | None:
        """Return when the last info expires, or None when at least one never does (CAP leaves that to the recipient)."""
        last: datetime | None = None
        for info in self.infos:
            if info.expires is None:
                return None
            if last is None or info.expires > last:
                last = info.expires
        return last


def alert_id(sender: str, identifier: str, sent: datetime) -> str:
    """Return the permanent public id of an alert: 32 characters that outlive every store.

    Made from the triple that CAP 3.2.1 calls the message's identity, `sent` as an instant, so that `+09:00` and `Z` spellings agree.
    """
    made = _kept_id if len(sender) + len(identifier) <= LONG_NAME else _made_id
    return made(sender, identifier, sent)


def _made_id(sender: str, identifier: str, sent: datetime) -> str:
    instant = sent.astimezone(UTC).isoformat()
    digest = hashlib.sha256(f"{sender}\x00{identifier}\x00{instant}".encode()).digest()
    return base64.b32encode(digest[:20]).decode().lower()


# An id is asked for again and again while an alert goes through the hub. Equal instants have one hash, in whatever offset they are written.
_kept_id: Final = lru_cache(maxsize=8_192)(_made_id)


class OriginKind(StrEnum):
    """By which way an alert came in."""

    HTTP = "http"
    SENSOR = "sensor"
    CONSOLE = "console"
    ADAPTER = "adapter"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who handed an alert in, and by which way; decided at the door, judged by intake.

    `tenant` is the organisation's id, `key_id` the key's public id, `node` the hub's node. An origin without a tenant
    belongs to nobody and may submit nothing. `signer` is the SHA-256 (hexadecimal) of the certificate that the alert's signature was found
    to hold with; None where it has none, or nobody asked.
    """

    kind: OriginKind
    tenant: str | None = None
    key_id: str | None = None
    remote: str | None = None
    signer: str | None = None


@dataclass(frozen=True, slots=True)
class PlaceName:
    """What a municipality or prefecture is called; `kana` is hiragana, "" where no reading is known."""

    code: str
    name: str
    kana: str
    name_en: str


def _no_outline() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the hub derives from an alert once, so that nobody derives it twice.

    `codes` are 6-digit municipality codes and 2-digit prefectures, as declared or found by geometry; `reach` is those with everything above
    and below them, for matching by hash, `ended` what in it is not in use any more; `level` is the 警戒レベル 1-5 or None; `bbox` is west, south, east, north in degrees, around
    everything below. `drawn` is the union of the polygons, the circles and what is located of foreign geocodes in (lon, lat) degrees, prepared (so that only one thread at a time may ask it), its border on the 180th meridian on both sides; `ground` are the municipalities without wards,
    and the wards, that are concerned with their whole territory, through declared codes or as the jurisdiction. `outline` draws both
    together, which takes a tenth of a second the first time for a nation (`Entry.large`).
    `nowhere` is true when the alert names no place at all: it then concerns the sender's whole jurisdiction, which `codes` holds.
    `approximate` is true where some of the ground has no official boundary here, or a foreign geocode is located only roughly. `places` are the names of
    `codes`, as far as they are known, by code.
    """

    codes: frozenset[str] = frozenset()
    reach: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()
    level: int | None = None
    kind: str = ""
    bbox: tuple[float, float, float, float] | None = None
    drawn: BaseGeometry | None = field(default=None, repr=False, compare=False)
    ground: frozenset[str] = frozenset()
    outline: Callable[[], BaseGeometry | None] = field(default=_no_outline, repr=False, compare=False)
    nowhere: bool = False
    approximate: bool = False
    places: tuple[PlaceName, ...] = field(default=(), repr=False, compare=False)


_NO_FACTS: Final = Facts()


@dataclass(frozen=True, slots=True)
class Changes:
    """What an Update changed for the codes concerned, each sorted: in force anew, at a higher or lower 警戒レベル, no longer in force."""

    issued: tuple[str, ...] = ()
    raised: tuple[str, ...] = ()
    lowered: tuple[str, ...] = ()
    lifted: tuple[str, ...] = ()


@_by_slot
@dataclass(frozen=True, slots=True)
class Entry:
    """An alert with its place in the log. `position` is opaque (`epoch-offset`); `incident` is the permanent id of the first alert of its chain.

    The rest is how it found the log when it came. `outdated`: a newer state of all that it continues was known, so it is never told as
    new. `replaced`: the permanent ids of those that it ended or took the place of. `correction`: an Update that changes nothing
    that people must do (訂正). `changes`: what an Update changed, None where that is not known.
    """

    position: str
    received: datetime
    stored: datetime
    alert: Alert
    origin: Origin
    incident: str
    facts: Facts = field(default=_NO_FACTS)
    outdated: bool = False
    replaced: tuple[str, ...] = ()
    correction: bool = False
    changes: Changes | None = None

    @property
    def large(self) -> bool:
        """Say whether writing it down or drawing its ground takes milliseconds, and so has to be done outside of the event loop's thread."""
        return self.alert.large or len(self.facts.ground) > LARGE_GROUND


@dataclass(frozen=True, slots=True)
class Filter:
    """What a subscriber wants to hear of; empty fields ask for nothing, so an empty filter is "every Actual alert".

    `areas` are normalised codes (2 digits for a prefecture, else 6); the places (`areas`, `points`, `polygon`, `bbox`) are alternatives: one
    that matches is enough. Unknown severity passes every `min_severity`; a null level passes unless `level_required`.
    `statuses` is what may be heard at all: drills only for those who ask. Equal filters are one group.
    """

    areas: frozenset[str] = frozenset()
    points: tuple[tuple[float, float], ...] = ()
    polygon: Ring | None = None
    bbox: tuple[float, float, float, float] | None = None
    min_severity: Severity | None = None
    min_level: int | None = None
    level_required: bool = False
    categories: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    senders: frozenset[str] = frozenset()
    statuses: frozenset[Status] = frozenset({Status.ACTUAL})

    @property
    def anywhere(self) -> bool:
        """Say whether the filter names no place."""
        return not (self.areas or self.points or self.polygon or self.bbox)


class Role(StrEnum):
    """What a key is for."""

    SENDER = "sender"
    RECEIVER = "receiver"
    SENSOR = "sensor"
    ADMIN = "admin"


class SignaturePolicy(StrEnum):
    """What is asked of the XML signatures of an organisation's alerts: nothing; that one holds if there is one; that there is one and it holds."""

    IGNORE = "ignore"
    VERIFY = "verify"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organisation: the codes it may alert for (`all` is the empty set with `everywhere`) and the CAP senders it may use (shell patterns).

    `tolerant` are shell patterns of those senders whose alerts are taken in spite of errors that do not hide what they say; `certificates`
    are the pinned ones (PEM) that its signatures are checked with.
    """

    id: str
    name: str
    codes: frozenset[str]
    senders: tuple[str, ...]
    everywhere: bool = False
    tolerant: tuple[str, ...] = ()
    signatures: SignaturePolicy = SignaturePolicy.IGNORE
    certificates: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the store knows it: never the secret, only its SHA-256 (256 random bits need no slow hash)."""

    id: str
    tenant: str
    role: Role
    digest: bytes = field(repr=False)
    created: datetime
    exercise_only: bool = False
    expires: datetime | None = None
    revoked: datetime | None = None
    stations: tuple[str, ...] = ()
    """Of a sensor's key: the only stations that it may write readings of, as shell patterns; none are all of the organisation's."""

    def valid_at(self, now: datetime) -> bool:
        """Say whether the key may be used at `now`."""
        return self.revoked is None and (self.expires is None or now < self.expires)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A durable push: everything that `filter` wants goes to `target` by the adapter instance `channel`.

    `options` are the adapter's own (a webhook's secret, its format): the adapter checked them when the subscription was made.
    """

    id: str
    channel: str
    target: str
    filter: Filter
    created: datetime
    tenant: str | None = None
    format: str = "json"
    lang: str | None = None
    options: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One alert for one target. `key` is the same on every attempt, so that the peer can drop a duplicate; `attempt` counts from 1."""

    key: str
    entry: Entry
    subscription: Subscription
    attempt: int


@dataclass(frozen=True, slots=True)
class Lease:
    """One node's right to a piece of work that only one node may do, until it is given back or lost.

    `name` says which piece (`lanes/17`), `owner` which node. `token` rises with every change of hands, so a write that carries the lease is refused
    (`Fenced`) once it is another's, and also once it is the same node's again after it was not.
    """

    name: str
    owner: str
    token: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A delivery that the peer took; `detail` is a word for the journal (an HTTP status, a message id).

    With `sent` False the channel has sent nothing on purpose, and `detail` says why: it is journalled as dropped, and never tried again.
    """

    detail: str = ""
    sent: bool = True
    request: str = field(default="", compare=False)
    response: str = field(default="", compare=False)
    """For the history: what was sent and what was answered, in a line each. The hub shortens them, and masks addresses and secrets."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One measurement of one station, as the device said it.

    `time` is the device's; `level_m` in metres above the station's zero; `rain_mm` over `period_s` seconds, or the running counter
    `rain_total_mm`. Exactly one of the three values is set. `by` is who read it off a staff gauge, where no device did.
    """

    station: str
    time: datetime
    level_m: float | None = None
    rain_mm: float | None = None
    period_s: int | None = None
    rain_total_mm: float | None = None
    seq: int | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a rule would have an officer order: never sent by itself (sensors propose; the mayor orders).

    `state` is `open` until somebody (`by`) decides: any other word is a decision. `document` is the CAP document that would be sent, `reason` what was
    said with the decision.
    """

    id: str
    station: str
    tenant: str
    made: datetime
    level: int
    areas: tuple[str, ...]
    headline: str
    state: str = "open"
    decided: datetime | None = None
    by: str | None = None
    document: str = ""
    reason: str = ""
