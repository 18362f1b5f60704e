"""A canary for each channel that has one: a note that is no alert goes to a recipient kept for it, on a schedule, and whoever runs the hub learns when it does not arrive.

One node flies them (a lease); what came of each stands in the store, so that a restart, or another node, goes on with the schedule and every node
can show it. A recipient that can answer does so at any node, by the token (`answered`).
"""

from __future__ import annotations

import asyncio
import re
import secrets
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

import orjson
import structlog

from lalert.clock import Clock
from lalert.errors import DeliveryError, LalertError, NotFound, TemporaryFailure
from lalert.plugin import Limits
from lalert.store import StateStore

log = structlog.get_logger("lalert.canary")

OWNER: Final = "lalert/canaries"
"""Under this name the store keeps what came of them; no adapter instance can have it: it holds a slash."""
PREFIX: Final = "canary-"
TOKEN: Final = re.compile(r"canary-[0-9a-f]{32}")
PAUSES: Final = (2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds between tries within one flight: an alert would be tried again too."""
LOOK_S: Final = 1.0
"""How often an answer is looked for that another node may have taken."""
AGAIN_S: Final = 60.0
"""After a flight that did not arrive the next one comes so soon, so that it is known soon that all is well again."""
READ_S: Final = 15.0
"""How often a node reads what the one that flies has found."""
LATE_S: Final = 60.0
"""So much later than planned a canary may be before it counts as overdue, as when another node takes over."""


class Flyer(Protocol):
    """What is asked of a channel that can send one (`plugin.Canarying`)."""

    @property
    def limits(self) -> Limits: ...

    async def canary(self, target: str, token: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """To whom, how often, and within what time it must have arrived; with `observe` only an answer of the far end counts. Seconds."""

    target: str
    every: float = 900.0
    within: float = 60.0
    observe: bool = False


class Sighting(StrEnum):
    """What came of a flight: the next hop took it, the far end had it, or it did not arrive."""

    SENT = "sent"
    OBSERVED = "observed"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Flight:
    """The last one that ended: when it began, what came of it after `took` seconds, and why where it was missed."""

    token: str
    began: datetime
    sighting: Sighting
    took: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of a channel: since when it is watched, the last flight, when one last arrived, and since when they have been missed."""

    since: datetime
    last: Flight | None = None
    arrived: datetime | None = None
    missed_since: datetime | None = None

    def age(self, now: datetime) -> float:
        """Return the seconds since one last arrived, or since it is watched."""
        return max(0.0, (now - (self.arrived or self.since)).total_seconds())

    def well(self, now: datetime, schedule: Schedule) -> bool:
        """Say whether the last one arrived and is not overdue."""
        return self.missed_since is None and self.age(now) <= schedule.every + schedule.within + LATE_S


class ChannelCanaries:
    """Flies them and knows how they fared. `run` is for one node at a time, `follow` for every node."""

    def __init__(
        self,
        store: StateStore,
        clock: Clock,
        channels: Mapping[str, Flyer],
        schedules: Mapping[str, Schedule],
    ) -> None:
        self._store = store
        self._clock = clock
        self._channels = channels
        self.schedules = schedules
        self._begun = clock.now()
        self._records: dict[str, Record] = {}
        self._one = asyncio.Lock()
        """Who reads a record while it is written would remember the old one over the new one."""

    def record(self, channel: str) -> Record | None:
        """Return what this node knows of a channel, at most `READ_S` old; None where it has no canary."""
        return self._records.get(channel, Record(self._begun)) if channel in self.schedules else None

    def gauges(self) -> dict[str, dict[str, float]]:
        """Return what metrics show, by metric and channel. May be called from another thread."""
        now = self._clock.now()
        known = {name: self._records.get(name, Record(self._begun)) for name in self.schedules}
        return {
            "canary_age_seconds": {name: record.age(now) for name, record in known.items()},
            "canary_well": {
                name: float(record.well(now, self.schedules[name])) for name, record in known.items()
            },
        }

    async def answered(self, token: str) -> None:
        """Note that the far end has this canary; raises `NotFound` unless it is the last one of a channel, `Unavailable`."""
        for channel in self.schedules if TOKEN.fullmatch(token) else ():
            flown = await self._store.get(OWNER, f"flight/{channel}") or b""
            if secrets.compare_digest(flown, token.encode()):
                if await self._answer(channel, token) is None:
                    answer = orjson.dumps([token, self._clock.now()])
                    await self._store.put(OWNER, f"answer/{channel}", answer)
                await self._read(channel)
                return
        raise NotFound("no such canary is in the air")

    async def run(self) -> None:
        """Fly on schedule until cancelled."""
        async with asyncio.TaskGroup() as group:
            for channel in self.schedules:
                group.create_task(self._tend(channel))

    async def follow(self) -> None:
        """Keep up with what the node that flies has written, until cancelled."""
        while True:
            for channel in self.schedules:
                await self._read(channel)
            await self._clock.sleep(READ_S)

    async def _tend(self, channel: str) -> None:
        schedule = self.schedules[channel]
        cause = ""
        while True:
            try:
                record = await self._read(channel)
                await self._clock.sleep(_due_in(record, schedule, self._clock.now()))
                await self._fly(channel, schedule)
                cause = ""
            except LalertError as error:
                if cause != error.detail:
                    cause = error.detail
                    log.error("what came of a canary cannot be kept", channel=channel, cause=cause)
                await self._clock.sleep(PAUSES[0])

    async def _fly(self, channel: str, schedule: Schedule) -> None:
        token, began, since = PREFIX + secrets.token_hex(16), self._clock.now(), self._clock.monotonic()
        before = await self._read(channel)
        # Before it is sent: the answer may be quicker than the sending.
        await self._store.put(OWNER, f"flight/{channel}", token.encode())
        sighting, detail = await self._sighting(channel, schedule, token, since + schedule.within)
        flight = Flight(token, began, sighting, self._clock.monotonic() - since, detail)
        if sighting is Sighting.MISSED:
            after = replace(before, last=flight, missed_since=before.missed_since or began)
        else:
            after = replace(before, last=flight, arrived=self._clock.now(), missed_since=None)
        self._say(channel, before, after)
        async with self._one:
            self._records[channel] = after
            await self._store.put(OWNER, f"record/{channel}", orjson.dumps(after))

    async def _sighting(
        self, channel: str, schedule: Schedule, token: str, until: float
    ) -> tuple[Sighting, str]:
        trouble = await self._send(channel, schedule, token, until)
        if await self._answer(channel, token) is not None:
            return Sighting.OBSERVED, ""
        if trouble:
            return Sighting.MISSED, trouble
        if not schedule.observe:
            return Sighting.SENT, ""
        while (left := until - self._clock.monotonic()) > 0:
            await self._clock.sleep(min(LOOK_S, left))
            if await self._answer(channel, token) is not None:
                return Sighting.OBSERVED, ""
        return Sighting.MISSED, f"it was sent, and the far end gave no answer within {schedule.within:g} s"

    async def _send(self, channel: str, schedule: Schedule, token: str, until: float) -> str:
        """Try until it is sent; returns why it was not."""
        tries = 0
        while True:
            try:
                await self._attempt(channel, schedule.target, token)
                return ""
            except TemporaryFailure as error:
                trouble, pause = error.detail, error.retry_after or 0.0
            except DeliveryError as error:
                return _without(error.detail, schedule.target)
            pause = max(pause, PAUSES[min(tries, len(PAUSES) - 1)])
            if self._clock.monotonic() + pause >= until:
                return _without(trouble, schedule.target)
            await self._clock.sleep(pause)
            tries += 1

    async def _attempt(self, channel: str, target: str, token: str) -> None:
        flyer = self._channels[channel]
        try:
            async with asyncio.timeout(flyer.limits.timeout):
                await flyer.canary(target, token)
        except TimeoutError:
            raise TemporaryFailure(f"no answer within {flyer.limits.timeout:g} s") from None
        except DeliveryError:
            raise
        except Exception as error:  # noqa: BLE001  # a defect of an adapter is a miss, and no end of the others' checks
            # No text and no traceback: a stranger's exception may hold the target's address.
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            raise TemporaryFailure(f"the adapter failed: {type(error).__name__} at {where}") from None

    async def _answer(self, channel: str, token: str) -> datetime | None:
        raw = await self._store.get(OWNER, f"answer/{channel}")
        answered, when = orjson.loads(raw) if raw else ("", "")
        return datetime.fromisoformat(when) if answered == token else None

    async def _read(self, channel: str) -> Record:
        async with self._one:
            record = self._records[channel] = await self._stored(channel)
        return record

    async def _stored(self, channel: str) -> Record:
        """Return what the store says of a channel, an answer that came after the flight had ended included."""
        raw = await self._store.get(OWNER, f"record/{channel}")
        record = _record(orjson.loads(raw)) if raw else Record(self._begun)
        last = record.last
        if last is None or last.sighting is not Sighting.SENT:
            return record
        when = await self._answer(channel, last.token)
        if when is None:
            return record
        took = (when - last.began).total_seconds()
        seen = replace(last, sighting=Sighting.OBSERVED, took=took, detail="")
        return replace(record, last=seen, arrived=when, missed_since=None)

    @staticmethod
    def _say(channel: str, before: Record, after: Record) -> None:
        """Log a change, not each flight."""
        last, earlier = after.last, before.last
        if last is None:
            return
        if last.sighting is not Sighting.MISSED:
            if before.missed_since is not None:
                log.info("a channel's canary arrives again", channel=channel, sighting=str(last.sighting))
        elif before.missed_since is None or earlier is None or earlier.detail != last.detail:
            log.error("a channel's canary does not arrive", channel=channel, cause=last.detail)


def _due_in(record: Record, schedule: Schedule, now: datetime) -> float:
    if record.last is None:
        return 0.0
    pause = schedule.every if record.missed_since is None else min(schedule.every, AGAIN_S)
    # Never longer than that, whatever became of the wall clock meanwhile.
    return min(pause, (record.last.began + timedelta(seconds=pause) - now).total_seconds())


def _without(detail: str, target: str) -> str:
    """Return a detail without the target, which may hold a token."""
    return detail.replace(target, "[…]")[:200]


def _record(kept: Mapping[str, object]) -> Record:
    last = kept["last"]
    return Record(
        since=_time(kept["since"]),
        last=_flight(last) if isinstance(last, dict) else None,
        arrived=_time(kept["arrived"]) if kept["arrived"] else None,
        missed_since=_time(kept["missed_since"]) if kept["missed_since"] else None,
    )


def _flight(kept: Mapping[str, object]) -> Flight:
    took = kept["took"]
    assert isinstance(took, float | int)
    return Flight(
        str(kept["token"]),
        _time(kept["began"]),
        Sighting(str(kept["sighting"])),
        float(took),
        str(kept["detail"]),
    )


def _time(text: object) -> datetime:
    return datetime.fromisoformat(str(text))
