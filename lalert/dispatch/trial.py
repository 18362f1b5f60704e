"""A test message that a receiver asks for: marked as one, urgent to nobody, and in no log."""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from lalert import cap
from lalert.clock import Clock
from lalert.errors import TooManyRequests
from lalert.model import (
    JST,
    Alert,
    Area,
    Certainty,
    Entry,
    Info,
    MsgType,
    NamedValue,
    Origin,
    OriginKind,
    Scope,
    Severity,
    Status,
    Urgency,
)
from lalert.store import DeliveryState

SENDER: Final = "delivery-test@lalert.invalid"
"""No domain can ever be called so (RFC 2606)."""
VALID: Final = timedelta(minutes=10)
MOST: Final = 10
WINDOW_S: Final = 60.0
"""So many in so many seconds for each organisation, at each node."""

_TEXTS: Final = {
    "ja": (
        "配信試験",
        "【試験】受信できています",
        "これは申し込み先への試験送信です。警報でも訓練でもありません。このメッセージが見えていれば、この宛先に届いています。",
        "何もする必要はありません。",
        "この宛先のみ",
    ),
    "en": (
        "Delivery test",
        "[TEST] You can be reached",
        "This is a test sent to a subscription. It is neither an alert nor a drill. Who can see it is reached at this address.",
        "Nothing has to be done.",
        "This address alone",
    ),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a test: `RETRY` stands for what would be tried again if it were an alert. `took` in seconds, the rest as in `store.Attempt`."""

    key: str
    state: DeliveryState
    detail: str
    took: float
    request: str = ""
    response: str = ""


def trial_entry(now: datetime, tenant: str | None) -> Entry:
    """Return a test message with its document. Its position is of no log, and another one each time: what is made of an entry is kept by it."""
    number = secrets.randbelow(10**15)
    sent = now.astimezone(JST).replace(microsecond=0)  # CAP writes whole seconds
    alert = Alert(
        identifier=f"delivery-test-{number}",
        sender=SENDER,
        sent=sent,
        sent_text=sent.isoformat(),
        status=Status.TEST,
        msg_type=MsgType.ALERT,
        scope=Scope.PUBLIC,
        infos=tuple(_info(language, sent) for language in _TEXTS),
    )
    # That it names no place is meant so.
    alert = replace(cap.parse(cap.render(alert)), defects=())
    return Entry(f"trial-{number}", now, now, alert, Origin(OriginKind.HTTP, tenant), alert.id)


def _info(language: str, sent: datetime) -> Info:
    event, headline, description, instruction, area = _TEXTS[language]
    return Info(
        language=language,
        categories=("Other",),
        event=event,
        response_types=("None",),
        urgency=Urgency.UNKNOWN,
        severity=Severity.MINOR,
        certainty=Certainty.UNLIKELY,
        effective=sent,
        expires=sent + VALID,
        sender_name="lalert",
        headline=headline,
        description=description,
        instruction=instruction,
        areas=(Area(area),),
        parameters=(NamedValue("jp:kind", "general"),),
    )


class Pace:
    """Bounds how many tests an organisation sends."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: dict[str, deque[float]] = {}

    def take(self, org: str) -> None:
        """Count one; raises `TooManyRequests` where there were `MOST` within `WINDOW_S`."""
        now = self._clock.monotonic()
        sent = self._sent.setdefault(org, deque())
        while sent and sent[0] <= now - WINDOW_S:
            sent.popleft()
        if len(sent) >= MOST:
            raise TooManyRequests(
                f"{MOST} tests a minute are enough for an organisation", retry_after=sent[0] + WINDOW_S - now
            )
        sent.append(now)
