"""What a hub told its senders, subscribers and receivers, held against what its log holds afterwards.

Alerts are told apart by their identifier: whoever writes a history gives each document one of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

ACCEPTED = (200, 201)


def offset(position: str) -> int:
    return int(position.rpartition("-")[2])


def epoch(position: str) -> str:
    return position.rpartition("-")[0]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a sender was told of one attempt. `status` None: it never heard, so the alert may be kept or not."""

    identifier: str
    status: int | None
    position: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """An alert that a subscriber was told of."""

    position: str
    identifier: str


@dataclass(frozen=True, slots=True)
class Jump:
    """A gap that was admitted, and the snapshot after it: `shown` is in force of all up to `position`."""

    position: str
    shown: frozenset[str]


@dataclass(slots=True)
class Stream:
    """What one subscriber got over all its connections. It is owed what came after `start`, up to `end`."""

    name: str
    start: str
    events: list[Told | Jump] = field(default_factory=list)
    end: str | None = None
    """None: up to the end of the log."""


@dataclass(slots=True)
class Receiver:
    """What a durable receiver got, as (key, identifier) for each delivery. It is owed what came after `start`."""

    name: str
    start: str
    deliveries: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class History:
    """One run. `log` is what the hub lists afterwards, as (position, identifier) in its order."""

    answers: list[Answer] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    receivers: list[Receiver] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)

    @property
    def accepted(self) -> set[str]:
        return {answer.identifier for answer in self.answers if answer.status in ACCEPTED}


@dataclass(slots=True)
class Verdict:
    """`str()` of it is the line for a person, with every violation below it."""

    accepted: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What is neither lost nor doubled and still must not be: out of order, moved, refused and kept, made up."""
    repeated: int = 0
    """Deliveries that came again with the same key, as they may."""

    @property
    def good(self) -> bool:
        return not (self.lost or self.duplicated or self.wrong)

    def __str__(self) -> str:
        line = f"accepted {self.accepted} / lost {len(self.lost)} / duplicated {len(self.duplicated)}"
        if self.wrong:
            line += f" / wrong {len(self.wrong)}"
        return "\n".join([line, *(f"  {what}" for what in (*self.lost, *self.duplicated, *self.wrong))])


def check(history: History) -> Verdict:
    """Return everything in which the hub broke its word."""
    verdict = Verdict(len(history.accepted))
    _check_log(history, verdict)
    _check_answers(history, verdict)
    for stream in history.streams:
        _check_stream(stream, history.log, verdict)
    for receiver in history.receivers:
        _check_receiver(receiver, history.log, verdict)
    return verdict


def _check_log(history: History, verdict: Verdict) -> None:
    sent = {answer.identifier for answer in history.answers}
    for identifier, times in Counter(identifier for _, identifier in history.log).items():
        if times > 1:
            verdict.duplicated.append(f"{identifier}: is in the log {times} times")
        if identifier not in sent:
            verdict.wrong.append(f"{identifier}: is in the log, and nobody sent it")
    if len({epoch(position) for position, _ in history.log}) > 1:
        verdict.wrong.append("the log is listed in two epochs at once")
    for (before, _), (position, identifier) in zip(history.log, history.log[1:], strict=False):
        if offset(position) <= offset(before):
            verdict.wrong.append(f"{identifier}: {position} is listed after {before}")


def _check_answers(history: History, verdict: Verdict) -> None:
    kept = {identifier: position for position, identifier in history.log}
    attempts: dict[str, list[Answer]] = defaultdict(list)
    for answer in history.answers:
        attempts[answer.identifier].append(answer)
    for identifier, answers in attempts.items():
        statuses = [answer.status for answer in answers]
        if statuses.count(201) > 1:
            verdict.duplicated.append(f"{identifier}: was accepted as new {statuses.count(201)} times")
        if identifier not in kept:
            if set(statuses) & set(ACCEPTED):
                verdict.lost.append(f"{identifier}: was accepted, and is not in the log")
        elif all(status is not None and 400 <= status < 500 for status in statuses):
            verdict.wrong.append(f"{identifier}: was refused with {statuses}, and is in the log")
        else:
            verdict.wrong += _moved(answers, kept[identifier])


def _moved(answers: Iterable[Answer], position: str) -> Iterator[str]:
    for answer in answers:
        if answer.position and answer.position != position and epoch(answer.position) == epoch(position):
            yield f"{answer.identifier}: was accepted at {answer.position}, and stands at {position}"


def _check_stream(stream: Stream, log: list[tuple[str, str]], verdict: Verdict) -> None:
    kept = dict(log)
    at, known, told = stream.start, set[str](), set[str]()
    for event in stream.events:
        if isinstance(event, Jump):
            known |= event.shown
            at = event.position
            continue
        position, identifier = event.position, event.identifier
        where = f"{stream.name}: {identifier} at {position}"
        if position in told:
            verdict.duplicated.append(f"{where}: was told twice")
            continue
        if epoch(position) != epoch(at):
            verdict.wrong.append(f"{where}: is of another epoch than {at}, and no gap was told")
        elif offset(position) <= offset(at):
            verdict.wrong.append(f"{where}: came after {at}")
        # An entry that a fail-over lost may have been told; a gap has then said so.
        if kept.get(position, identifier) != identifier or (
            position not in kept and log and epoch(position) == epoch(log[0][0])
        ):
            verdict.wrong.append(f"{where}: the log has {kept.get(position)} there")
        told.add(position)
        known.add(identifier)
        at = position
    end = None if stream.end is None else offset(stream.end)
    for position, identifier in _after(log, stream.start):
        if identifier not in known and (end is None or offset(position) <= end):
            verdict.lost.append(f"{stream.name}: was not told of {identifier} at {position}")


def _check_receiver(receiver: Receiver, log: list[tuple[str, str]], verdict: Verdict) -> None:
    kept = {identifier for _, identifier in log}
    keys: dict[str, set[str]] = defaultdict(set)
    alerts: dict[str, set[str]] = defaultdict(set)
    for key, identifier in receiver.deliveries:
        keys[identifier].add(key)
        alerts[key].add(identifier)
    verdict.repeated += len(receiver.deliveries) - len(set(receiver.deliveries))
    for identifier, several in keys.items():
        if len(several) > 1:
            verdict.duplicated.append(f"{receiver.name}: got {identifier} with {len(several)} keys")
        if identifier not in kept:
            verdict.wrong.append(f"{receiver.name}: got {identifier}, which is not in the log")
    for key, names in alerts.items():
        if len(names) > 1:
            verdict.wrong.append(f"{receiver.name}: got {', '.join(sorted(names))} with one key {key}")
    for position, identifier in _after(log, receiver.start):
        if identifier not in keys:
            verdict.lost.append(f"{receiver.name}: never got {identifier} at {position}")


def _after(log: list[tuple[str, str]], start: str) -> Iterator[tuple[str, str]]:
    # Offsets rise across epochs too: what came before the start of somebody is not owed to him.
    return ((position, identifier) for position, identifier in log if offset(position) > offset(start))
