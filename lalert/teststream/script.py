"""What the test stream says at each step: an alert, an update that adds a place, a cancellation, and again.

Pure: the same step is the same alert on every node and after every restart, so that a receiver may go on at any of them.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from lalert import cap
from lalert.model import (
    JST,
    Alert,
    Area,
    Certainty,
    Info,
    MsgType,
    NamedValue,
    Reference,
    Scope,
    Severity,
    Status,
    Urgency,
)

EVERY_SECONDS: Final = 10.0

STEPS: Final = 3
"""Of one round."""

SENDER: Final = "test-stream@lalert.invalid"
"""No domain can ever be called so (RFC 2606)."""

VALID: Final = timedelta(minutes=5)

_ACTS: Final = (MsgType.ALERT, MsgType.UPDATE, MsgType.CANCEL)
_CITY: Final = Area("熊本県人吉市", geocodes=(NamedValue("JIS_X_0402", "432032"),))
_TOWN: Final = Area("熊本県水俣市", geocodes=(NamedValue("JIS_X_0402", "432059"),))
_NAMES: Final = {"ja": ("熊本県人吉市", "熊本県水俣市"), "en": ("Hitoyoshi City", "Minamata City")}
_TEXTS: Final = {
    "ja": (
        "配信試験",
        ("配信試験の情報を発表", "配信試験の対象に水俣市を追加", "配信試験の情報を取り消し"),
        "これは受信の確認のための試験です。実際の災害ではありません。発表、更新、取消を10秒ごとに繰り返します。",
        "何もする必要はありません。",
    ),
    "en": (
        "Stream test",
        ("Stream test issued", "Stream test: Minamata City added", "Stream test cancelled"),
        "This is a test for receivers. There is no disaster. An alert, an update and a cancellation follow each other every 10 seconds.",
        "Nothing has to be done.",
    ),
}


def step_at(now: datetime, every: float = EVERY_SECONDS) -> int:
    """Return the number of the last step that was due."""
    return int(now.timestamp() // every)


def due(step: int, every: float = EVERY_SECONDS) -> datetime:
    """Return when a step is due."""
    return datetime.fromtimestamp(step * every, UTC)


def alert_at(step: int, every: float = EVERY_SECONDS) -> Alert:
    """Return the alert of a step, with its document."""
    act = step % STEPS
    sent = _sent(step, every)
    alert = Alert(
        identifier=f"test-{step}",
        sender=SENDER,
        sent=sent,
        sent_text=sent.isoformat(),
        status=Status.TEST,
        msg_type=_ACTS[act],
        scope=Scope.PUBLIC,
        note=_TEXTS["ja"][1][act] if act else None,
        references=tuple(_reference(earlier, every) for earlier in range(step - act, step)),
        infos=tuple(_info(language, act, sent) for language in ("ja", "en")),
    )
    return cap.parse(cap.render(alert))


def _reference(step: int, every: float) -> Reference:
    sent = _sent(step, every)
    return Reference(SENDER, f"test-{step}", sent.isoformat(), sent)


def _sent(step: int, every: float) -> datetime:
    return due(step, every).astimezone(JST).replace(microsecond=0)  # CAP writes whole seconds


def _info(language: str, act: int, sent: datetime) -> Info:
    event, headlines, description, instruction = _TEXTS[language]
    areas = (_CITY,) if act == 0 else (_CITY, _TOWN)
    named = zip(areas, _NAMES[language], strict=False)
    return Info(
        language=language,
        categories=("Other",),
        event=event,
        response_types=("AllClear" if _ACTS[act] is MsgType.CANCEL else "None",),
        # Whoever takes it for real in spite of its status shall not find it urgent.
        urgency=Urgency.PAST if _ACTS[act] is MsgType.CANCEL else Urgency.UNKNOWN,
        severity=Severity.MINOR,
        certainty=Certainty.UNLIKELY,
        effective=sent,
        expires=sent + VALID,
        sender_name="lalert",
        headline=headlines[act],
        parameters=(NamedValue("jp:kind", "general"),),
        description=description,
        instruction=instruction,
        areas=tuple(replace(area, area_desc=name) for area, name in named),
    )
