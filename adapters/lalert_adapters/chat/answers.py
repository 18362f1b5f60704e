"""What each product's answer means. The address is a secret: only the products' own short words for a failure are passed on."""

from __future__ import annotations

import math
import re
from typing import Final

import msgspec

from lalert.errors import DeliveryError, Gone, PermanentFailure, TemporaryFailure
from lalert.model import Outcome
from lalert_adapters.chat.payloads import Kind

MAX_RETRY_AFTER: Final = 86_400.0

PASSING: Final = frozenset({302, 303, 307, 404, 408, 421, 425, 429})
"""Answers below 500 after which another try is worth it; a 404 without the product's own word for "it is gone" may come from whatever stands before it."""

GONE: Final = frozenset(
    {
        # Slack: "Sending messages using incoming webhooks", errors
        (Kind.SLACK, "no_service"),
        (Kind.SLACK, "no_service_id"),
        (Kind.SLACK, "no_team"),
        (Kind.SLACK, "team_disabled"),
        (Kind.SLACK, "channel_not_found"),
        (Kind.SLACK, "channel_is_archived"),
        # Discord: "Opcodes and Status Codes", JSON error codes: Unknown Webhook
        (Kind.DISCORD, "10015"),
        (Kind.TEAMS, "WorkflowNotFound"),
        (Kind.MATTERMOST, "app.channel.get.existing.app_error"),
    }
)

MENDABLE: Final = frozenset(
    {
        # Somebody has switched the workflow off.
        (Kind.TEAMS, "WorkflowTriggerIsNotEnabled"),
        # Mattermost says this of a webhook that was deleted, and just so when its own database does not answer.
        (Kind.MATTERMOST, "web.incoming_webhook.invalid.app_error"),
    }
)

_WORD = re.compile(r"[A-Za-z0-9_.]{1,80}")


class _TeamsError(msgspec.Struct, frozen=True):
    code: str = ""


class _Said(msgspec.Struct, frozen=True):
    """The parts of an answer in JSON that any of the products may have."""

    id: str = ""
    code: int | str = ""
    error: _TeamsError = _TeamsError()
    retry_after: float | None = None


def judge(kind: Kind, status: int, retry_after: str, body: bytes) -> Outcome:
    """Return or raise what an answer means; `retry_after` is the header, `body` the beginning of the body."""
    said = _read(body)
    word = _word(kind, said, body)
    pause = _seconds(said.retry_after, retry_after)
    detail = f"HTTP {status} {word}".rstrip()
    line = detail if pause is None else f"{detail}, a pause of {pause:g} s"
    if 200 <= status <= 299:
        return Outcome(f"HTTP {status}", response=line)
    failure: DeliveryError = PermanentFailure(detail)
    if status == 410 or (kind, word) in GONE:
        failure = Gone(detail)
    elif status in PASSING or status >= 500 or (kind, word) in MENDABLE:
        failure = TemporaryFailure(detail, retry_after=pause)
    failure.response = line
    raise failure


def _read(body: bytes) -> _Said:
    try:
        return msgspec.json.decode(body, type=_Said)
    except (msgspec.DecodeError, RecursionError):
        return _Said()


def _word(kind: Kind, said: _Said, body: bytes) -> str:
    words = {
        Kind.SLACK: body.decode(errors="replace").strip(),
        Kind.DISCORD: str(said.code),
        Kind.TEAMS: said.error.code,
        Kind.MATTERMOST: said.id,
    }
    return words[kind] if _WORD.fullmatch(words[kind]) else ""


def _seconds(in_body: float | None, header: str) -> float | None:
    """Return the pause asked for in seconds: Discord says fractions of one in the body, all say whole ones in the header."""
    try:
        seconds = float(header) if in_body is None else in_body
    except ValueError:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if math.isfinite(seconds) else None
