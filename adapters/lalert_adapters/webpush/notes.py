"""The note that a browser gets for an alert: what it says, which page it opens, and how long it is kept for a browser that is off."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final

import msgspec

from lalert.errors import PermanentFailure
from lalert.model import Delivery, Entry, MsgType, Severity, Status, Subscription
from lalert.plugin import CANARY_NOTE, CANARY_TITLE, Room, Text
from lalert_adapters.webpush.seal import tag

MAX_PAYLOAD: Final = 3_000
"""Bytes before encryption. A push service need not take more than 4,096 of the encrypted message (RFC 8030, 7.2)."""
MAX_TITLE: Final = 300
MAX_BODY: Final = 2_000
UNIT: Final = "bytes"
DAY: Final = timedelta(days=1)
MAX_TTL: Final = timedelta(days=28)
GRAVE: Final = frozenset({Severity.EXTREME, Severity.SEVERE})
GRAVE_LEVEL: Final = 3

CANARY: Final = "canary"
CANARY_HEADERS: Final = {"TTL": "3600", "Urgency": "normal", "Topic": CANARY}

_REPLACING: Final = frozenset({MsgType.ALERT, MsgType.UPDATE, MsgType.CANCEL})


def json_bytes(text: str) -> int:
    """Return how many bytes a text takes inside a JSON string in UTF-8."""
    return len(msgspec.json.encode(text)) - 2


ROOM: Final = Room(title=MAX_TITLE, body=MAX_BODY, measure=json_bytes)


class _Note(msgspec.Struct, omit_defaults=True):
    """What the service worker gets; worker.js reads these names. Where there is an `answer`, it posts there once the note is shown."""

    key: str
    title: str
    body: str
    url: str
    tag: str
    lang: str
    status: str
    urgent: bool
    answer: str = ""


def payload(delivery: Delivery, text: Text) -> bytes:
    """Return the note as JSON; raises `PermanentFailure` where it is longer than a push service takes."""
    entry = delivery.entry
    for name, part, limit in (("title", text.title, MAX_TITLE), ("body", text.body, MAX_BODY)):
        if json_bytes(part) > limit:
            raise PermanentFailure(f"the {name} is longer than the {limit} bytes of a note")
    note = _Note(
        key=delivery.key,
        title=text.title,
        body=text.body,
        url=_page(entry, delivery.subscription),
        tag=topic(entry) or tag(entry.alert.id),
        lang=text.lang,
        status=entry.alert.status.value,
        urgent=urgent(entry),
    )
    made = msgspec.json.encode(note)
    if len(made) > MAX_PAYLOAD:
        raise PermanentFailure(f"the note is longer than {MAX_PAYLOAD} bytes")
    return made


def canary_note(token: str) -> bytes:
    """Return a note that is no alert, as JSON."""
    title = f"{CANARY_TITLE} {token}"
    answer = f"/v1/canaries/{token}"
    return msgspec.json.encode(
        _Note(token, title, CANARY_NOTE, "/", CANARY, "ja", Status.SYSTEM.value, urgent=False, answer=answer)
    )


def headers(entry: Entry, now: datetime) -> dict[str, str]:
    """Return what a push service is told of a note (RFC 8030, 5)."""
    shared = topic(entry)
    about = {"TTL": str(ttl_s(entry, now)), "Urgency": "high" if urgent(entry) else "normal"}
    return about | ({"Topic": shared} if shared else {})


def topic(entry: Entry) -> str | None:
    """Return what a later revision of the same shares, None for what must replace nothing: an Ack would take the place of the order that it is about."""
    return tag(entry.incident) if entry.alert.msg_type in _REPLACING else None


def urgent(entry: Entry) -> bool:
    """Say whether a sleeping phone shall be woken for it (RFC 8030, 5.3: "high")."""
    grave = entry.alert.severity in GRAVE or (entry.facts.level or 0) >= GRAVE_LEVEL
    return entry.alert.status is Status.ACTUAL and grave


def ttl_s(entry: Entry, now: datetime) -> int:
    """Return for how many seconds a push service keeps a note: until the alert expires, and never 0, with which it is lost if the browser is off."""
    left = entry.alert.expires - now if entry.alert.expires else DAY
    return max(math.ceil(min(left, MAX_TTL).total_seconds()), 1)


def _page(entry: Entry, subscription: Subscription) -> str:
    """Return the path of the page that a note opens: of one of the subscriber's places that the alert concerns, else of the first."""
    areas = sorted(subscription.filter.areas)
    if not areas:
        return "/"
    here = [area for area in areas if area in entry.facts.reach]
    lang = f"?lang={subscription.lang}" if subscription.lang else ""
    return f"/place/{(here or areas)[0]}{lang}"
