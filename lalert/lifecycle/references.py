"""What is to be said of a message's references, given what the hub knows: unknown, ambiguous, over, cancelled, out of date.

A real warning is never lost because its reference is stale: what cannot be joined is still an alert. Refused is only what could end the wrong
thing (a Cancel that does not say of which alert) and what crosses the line between a drill and the real thing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from lalert.errors import Problem, ProblemSeverity
from lalert.findings import HUB
from lalert.lifecycle.changes import SAYS_WHERE, changes, dropped
from lalert.lifecycle.corrections import CORRECTION_CODES, is_correction, major_changes
from lalert.model import JST, Alert, Changes, Entry, Facts, MsgType, Reference, Scope

PATH: Final = "/alert/references"
MAX_NAMED: Final = 10
"""As many codes are written out in a finding."""


class Handling(StrEnum):
    """What the operator wants done about a condition: say nothing, tell the sender, or refuse the message."""

    ACCEPT = "accept"
    WARN = "warn"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class ReferencePolicy:
    """How each condition is handled; docs/life.md argues the defaults. Another organisation's alert is refused always (`Forbidden`)."""

    unknown: Handling = Handling.WARN
    expired: Handling = Handling.WARN
    cancelled: Handling = Handling.WARN
    superseded: Handling = Handling.ACCEPT


@dataclass(frozen=True, slots=True)
class Known:
    """An alert that is referred to, with the newest states of its chains (`store.heads`)."""

    entry: Entry
    heads: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Message:
    """A message with what the hub knows of its references, by their ids; `ambiguous` are those that could mean several alerts."""

    alert: Alert
    facts: Facts
    now: datetime
    known: Mapping[str, Known] = field(default_factory=dict)
    ambiguous: frozenset[str] = frozenset()


def judge(message: Message, policy: ReferencePolicy) -> Iterator[Problem]:
    """Yield every finding about the references and what the message makes of them."""
    if message.alert.msg_type is MsgType.ALERT and message.alert.references:
        yield HUB["HUB-ALERT-REFERS"].finding(PATH)
    for number, reference in enumerate(message.alert.references, 1):
        yield from _of_one(message, policy, number, reference)
    yield from _reason(message.alert)
    yield from _correction(message)
    yield from _snapshot(message)


def corrects(message: Message) -> bool:
    """Say whether the message is a correction of what is in force, and nothing more."""
    target = _target(message) if is_correction(message.alert) else None
    return target is not None and not major_changes(target.alert, message.alert)


def replaces(message: Message) -> Changes | None:
    """Return what an Update changes; None where that is not known."""
    return changes(message.alert, message.facts, _in_force(message))


def _of_one(
    message: Message, policy: ReferencePolicy, number: int, reference: Reference
) -> Iterator[Problem]:
    alert, known = message.alert, message.known.get(reference.id)
    if known is None and alert.msg_type is MsgType.ALERT:
        return  # it would have been joined to nothing
    args: dict[str, Any] = {"number": number, "identifier": reference.identifier}
    if reference.id in message.ambiguous:
        found = HUB["HUB-REFERENCE-AMBIGUOUS"].finding(PATH, **args)
        # To end nothing, or the wrong thing, without a word is worse than to ask again; an Update still says all that it has to say.
        yield _as(found, Handling.WARN if alert.msg_type is MsgType.UPDATE else Handling.REFUSE)
        return
    if known is None:
        yield from _handled(policy.unknown, HUB["HUB-REFERENCE-UNKNOWN"].finding(PATH, **args))
        return
    if known.entry.alert.status is not alert.status:
        # A drill must never change what is shown of a real alert, nor the other way about.
        yield HUB["HUB-REFERENCE-STATUS"].finding(
            PATH,
            status=alert.status,
            identifier=reference.identifier,
            other=known.entry.alert.status,
        )
        return
    if _hides_from_who_was_told(alert, known.entry.alert):
        yield HUB["HUB-REFERENCE-SCOPE"].finding(PATH, scope=alert.scope, identifier=reference.identifier)
        return
    if alert.msg_type is not MsgType.UPDATE:
        # To cancel, confirm or doubt what is over harms nobody.
        return
    standing = [head for head in known.heads if head.alert.msg_type is not MsgType.CANCEL]
    if known.heads and not standing:
        yield from _handled(policy.cancelled, HUB["HUB-REFERENCE-CANCELLED"].finding(PATH, **args))
    elif standing and all(_is_over(head, message.now) for head in standing):
        ends = max(head.alert.expires for head in standing if head.alert.expires is not None)
        found = HUB["HUB-REFERENCE-EXPIRED"].finding(PATH, **args, expires=ends.astimezone(JST).isoformat())
        yield from _handled(policy.expired, found)
    elif not _knows_the_newest(message, known):
        newest = known.heads[-1].alert.identifier
        found = HUB["HUB-REFERENCE-SUPERSEDED"].finding(PATH, **args, newest=newest)
        yield from _handled(policy.superseded, found)


def _hides_from_who_was_told(alert: Alert, told: Alert) -> bool:
    """Say whether a message would end what everybody was told of, and everybody may not know: their screens would show it for ever."""
    ends = alert.msg_type in {MsgType.UPDATE, MsgType.CANCEL}
    return ends and told.scope is Scope.PUBLIC and alert.scope is not Scope.PUBLIC


def _knows_the_newest(message: Message, known: Known) -> bool:
    named = {reference.id for reference in message.alert.references}
    return all(head.alert.id in named for head in known.heads)


def _reason(alert: Alert) -> Iterator[Problem]:
    if alert.msg_type is MsgType.CANCEL and not (alert.note or "").strip():
        yield HUB["HUB-CANCEL-REASON"].finding("/alert/note")


def _correction(message: Message) -> Iterator[Problem]:
    alert = message.alert
    if CORRECTION_CODES.isdisjoint(alert.codes):
        return
    target = _target(message) if is_correction(alert) else None
    if target is None:
        yield HUB["HUB-CORRECTION-UNKNOWN"].finding("/alert/code")
        return
    for major in major_changes(target.alert, alert):
        yield HUB["HUB-CORRECTION-MAJOR"].finding(
            major.path, field=major.field, before=major.before, after=major.after
        )


def _target(message: Message) -> Entry | None:
    """Return the one alert in force that the message refers to; None where there is none, or more than one."""
    standing = _in_force(message) or []
    same = [head for head in standing if head.alert.status is message.alert.status]
    return same[0] if len(same) == 1 else None


def _snapshot(message: Message) -> Iterator[Problem]:
    changed = replaces(message)
    if changed is None or message.facts.kind != "evacuation":
        return
    codes = dropped(message.alert, changed)
    if codes:
        more = f" (+{len(codes) - MAX_NAMED})" if len(codes) > MAX_NAMED else ""
        yield HUB["HUB-SNAPSHOT-AREA-DROPPED"].finding(
            "/alert/info", codes=", ".join(codes[:MAX_NAMED]) + more
        )


def _in_force(message: Message) -> list[Entry] | None:
    """Return what was in force of all that the message refers to; None where nothing of it is known."""
    heads = {head.position: head for known in message.known.values() for head in known.heads}
    if not heads:
        return None
    return [
        head
        for head in heads.values()
        if head.alert.msg_type in SAYS_WHERE and not _is_over(head, message.now)
    ]


def _is_over(entry: Entry, now: datetime) -> bool:
    expires = entry.alert.expires
    return expires is not None and expires <= now


def _handled(handling: Handling, found: Problem) -> Iterator[Problem]:
    if handling is not Handling.ACCEPT:
        yield _as(found, handling)


def _as(found: Problem, handling: Handling) -> Problem:
    severity = ProblemSeverity.ERROR if handling is Handling.REFUSE else ProblemSeverity.WARNING
    return replace(found, severity=severity)
