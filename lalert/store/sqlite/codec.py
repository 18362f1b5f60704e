"""Values to columns and back: times as microseconds, small structures as JSON, nothing lost either way."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Final

import orjson

from lalert.errors import BadRequest, Problem, ProblemSeverity, UnknownPosition
from lalert.model import (
    Alert,
    Changes,
    Filter,
    Key,
    MsgType,
    Origin,
    OriginKind,
    Reading,
    Role,
    Severity,
    SignaturePolicy,
    Status,
    Subscription,
    Tenant,
)
from lalert.store import DeliveryRow, DeliveryState, StoredReading
from lalert.store.sqlite.statements import Row, Value

NEVER: Final = 2**63 - 1
"""`until` of an entry that has no end."""

_ABOUT_OTHERS: Final = frozenset({MsgType.ACK, MsgType.ERROR})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Wide enough for the positions of every store, so that one of another kind is "unknown", which sends the reader to a snapshot, and not "malformed".
_POSITION: Final = re.compile(r"([0-9a-z]{1,32})-(0|[1-9][0-9]{0,19})(-[0-9]{1,20})?", re.ASCII)


def micros(moment: datetime) -> int:
    """Return an aware time as microseconds since 1970 UTC."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment(micros: int) -> datetime:
    """Return microseconds since 1970 as an aware time in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def position(epoch: str, offset: int) -> str:
    return f"{epoch}-{offset}"


def offset_of(position: str, epoch: str, newest: int) -> int:
    """Return the offset that a position of this log stands for.

    Raises `BadRequest` for what is no position, `UnknownPosition` for one of another log or of the future.
    """
    match = _POSITION.fullmatch(position)
    if match is None:
        raise BadRequest(
            f"{position[:80]!r} is no position; give one that this hub has sent, such as {epoch}-{newest}"
        )
    if match[1] != epoch or match[3] or int(match[2]) > newest:
        raise UnknownPosition(f"position {position[:80]} is not of this log; start again from a snapshot")
    return int(match[2])


def name_of(sender: str, identifier: str) -> int:
    """Return what an alert is found by without the time it was sent: a number, so that the index stays small."""
    digest = hashlib.blake2b(f"{sender}\0{identifier}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def scope_of(alert: Alert, origin: Origin) -> str:
    """Return what two alerts must share to change each other's state: a drill never touches what is real, nor one organisation another's alert."""
    return f"{alert.status}/{origin.tenant or ''}"


def is_state(alert: Alert) -> bool:
    """Say whether the alert can be the newest state of an incident; an Ack or Error is only about one."""
    return alert.msg_type not in _ABOUT_OTHERS


def until_of(alert: Alert) -> int:
    """Return the microsecond from which the alert is no longer in force."""
    if alert.msg_type is MsgType.CANCEL or not is_state(alert):
        return 0
    expires = alert.expires
    return NEVER if expires is None else micros(expires)


def encode_about(
    alert: Alert, origin: Origin, received: datetime, changes: Changes | None = None, correction: bool = False
) -> bytes:
    """Return what the document itself does not say: origin, time of receipt, what the hub made of its references, and the defects that intake found beside the parser's.

    Sender and identifier are there for people who look into the file.
    """
    about: dict[str, object] = {
        "sender": alert.sender,
        "identifier": alert.identifier,
        "received": micros(received),
        "kind": origin.kind,
        "tenant": origin.tenant,
        "key_id": origin.key_id,
        "remote": origin.remote,
    }
    if origin.signer is not None:
        about["signer"] = origin.signer
    if alert.defects:
        about["defects"] = [astuple(problem) for problem in alert.defects]
    if alert.references:
        found = {
            str(n): micros(reference.instant)
            for n, reference in enumerate(alert.references)
            if not (reference.sent or reference.timeless)
        }
        if found:
            about["instants"] = found
    if changes is not None:
        about["changes"] = astuple(changes)
    if correction:
        about["correction"] = True
    return orjson.dumps(about)


@dataclass(frozen=True, slots=True)
class About:
    """What `encode_about` was given; `alert` has the defects it was accepted with and what its references were found to mean."""

    alert: Alert
    origin: Origin
    received: datetime
    changes: Changes | None
    correction: bool


def decode_about(about: bytes, alert: Alert) -> About:
    """Give back what was kept of a document that was parsed again."""
    fields: dict[str, Any] = orjson.loads(about)
    defects = tuple(
        Problem(rule, ProblemSeverity(severity), *rest) for rule, severity, *rest in fields.get("defects", ())
    )
    origin = Origin(
        OriginKind(fields["kind"]), fields["tenant"], fields["key_id"], fields["remote"], fields.get("signer")
    )
    instants: dict[str, int] = fields.get("instants", {})
    references = tuple(
        replace(reference, instant=moment(instants[str(n)])) if str(n) in instants else reference
        for n, reference in enumerate(alert.references)
    )
    changes = fields.get("changes")
    return About(
        replace(alert, defects=defects, references=references),
        origin,
        moment(fields["received"]),
        None if changes is None else Changes(*(tuple(codes) for codes in changes)),
        bool(fields.get("correction")),
    )


def encode_codes(codes: frozenset[str]) -> str:
    return " ".join(sorted(codes))


def decode_codes(codes: str | None) -> frozenset[str]:
    return frozenset(codes.split(" ")) if codes else frozenset()


def encode_filter(filter: Filter) -> bytes:
    """Return a filter as JSON; equal filters give equal bytes."""
    return orjson.dumps(
        {
            "areas": sorted(filter.areas),
            "points": filter.points,
            "polygon": filter.polygon,
            "bbox": filter.bbox,
            "min_severity": filter.min_severity,
            "min_level": filter.min_level,
            "level_required": filter.level_required,
            "categories": sorted(filter.categories),
            "events": sorted(filter.events),
            "senders": sorted(filter.senders),
            "statuses": sorted(filter.statuses),
        }
    )


@lru_cache(maxsize=1024)
def decode_filter(text: bytes) -> Filter:
    """Return the filter; of the same text the same one, because most of seventy thousand residents ask for what others ask for."""
    fields: dict[str, Any] = orjson.loads(text)
    polygon, bbox, severity = fields["polygon"], fields["bbox"], fields["min_severity"]
    return Filter(
        areas=frozenset(fields["areas"]),
        points=_pairs(fields["points"]),
        polygon=None if polygon is None else _pairs(polygon),
        bbox=None if bbox is None else tuple(bbox),
        min_severity=None if severity is None else Severity(severity),
        min_level=fields["min_level"],
        level_required=fields["level_required"],
        categories=frozenset(fields["categories"]),
        events=frozenset(fields["events"]),
        senders=frozenset(fields["senders"]),
        statuses=frozenset(Status(status) for status in fields["statuses"]),
    )


def encode_tenant(tenant: Tenant) -> tuple[Value, ...]:
    return (
        tenant.id,
        tenant.name,
        orjson.dumps(sorted(tenant.codes)),
        orjson.dumps(tenant.senders),
        tenant.everywhere,
        orjson.dumps(tenant.tolerant),
        tenant.signatures,
        orjson.dumps(tenant.certificates),
    )


def decode_tenant(row: Row) -> Tenant:
    id, name, codes, senders, everywhere, tolerant, signatures, certificates = row
    return Tenant(
        id,
        name,
        frozenset(orjson.loads(codes)),
        tuple(orjson.loads(senders)),
        everywhere=bool(everywhere),
        tolerant=tuple(orjson.loads(tolerant)),
        signatures=SignaturePolicy(signatures),
        certificates=tuple(orjson.loads(certificates)),
    )


def encode_key(key: Key) -> tuple[Value, ...]:
    return (
        key.id,
        key.tenant,
        key.role,
        key.digest,
        micros(key.created),
        key.exercise_only,
        _micros(key.expires),
        _micros(key.revoked),
        orjson.dumps(key.stations).decode(),
    )


def decode_key(row: Row) -> Key:
    id, tenant, role, digest, created, exercise_only, expires, revoked, *stations = row
    return Key(
        id,
        tenant,
        Role(role),
        digest,
        moment(created),
        exercise_only=bool(exercise_only),
        expires=_moment(expires),
        revoked=_moment(revoked),
        stations=tuple(orjson.loads(stations[0])) if stations else (),
    )


def encode_subscription(subscription: Subscription) -> tuple[Value, ...]:
    return (
        subscription.id,
        subscription.channel,
        subscription.target,
        encode_filter(subscription.filter),
        micros(subscription.created),
        subscription.tenant,
        subscription.format,
        subscription.lang,
        _mapping(subscription.options),
    )


def decode_subscription(row: Row) -> Subscription:
    id, channel, target, filter, created, tenant, format, lang, options = row
    return Subscription(
        id,
        channel,
        target,
        decode_filter(filter),
        moment(created),
        tenant,
        format,
        lang,
        orjson.loads(options),
    )


def encode_delivery(row: DeliveryRow, offset: int) -> tuple[Value, ...]:
    return (
        row.key,
        row.subscription,
        offset,
        row.state,
        row.attempts,
        _micros(row.due),
        row.detail,
        micros(row.updated),
        _micros(row.confirmed),
    )


def decode_delivery(row: Row, epoch: str) -> DeliveryRow:
    key, subscription, offset, state, attempts, due, detail, updated, confirmed = row
    return DeliveryRow(
        key=key,
        subscription=subscription,
        position=position(epoch, offset),
        state=DeliveryState(state),
        attempts=attempts,
        due=_moment(due),
        detail=detail,
        updated=moment(updated),
        confirmed=_moment(confirmed),
    )


def encode_reading(tenant: str, reading: Reading, received: datetime) -> tuple[Value, ...]:
    """Return a reading's columns; the device's own offset from UTC is kept, because people read local time."""
    away = reading.time.utcoffset()
    assert away is not None
    return (
        tenant,
        reading.station,
        micros(reading.time),
        int(away.total_seconds()),
        reading.level_m,
        reading.rain_mm,
        reading.period_s,
        reading.rain_total_mm,
        reading.seq,
        micros(received),
        reading.by,
    )


def decode_reading(row: Row) -> StoredReading:
    # A store of many nodes leaves `by` out where a device read it: a node of before knows no such column.
    number, tenant, station, time, away, level_m, rain_mm, period_s, rain_total_mm, seq, received, *more = row
    local = moment(time).astimezone(timezone(timedelta(seconds=away)) if away else UTC)
    reading = Reading(station, local, level_m, rain_mm, period_s, rain_total_mm, seq, *more)
    return StoredReading(number, tenant, reading, moment(received))


def _pairs(points: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((lon, lat) for lon, lat in points)


def _mapping(options: Mapping[str, str]) -> bytes:
    return orjson.dumps(dict(options))


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else micros(moment)


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else moment(micros)
