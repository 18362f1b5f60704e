"""The edge of the sensors part: readings are kept, then judged in order of arrival, and what the rules decide is submitted like any other alert.

Keeping and judging are apart, and judging always starts from the store: after a crash the same readings give the same
decisions and the same documents, which the log recognises as repeats. So nothing fires twice and nothing is forgotten.
Of several nodes all keep readings and tell how the stations stand, and the one that holds the lease judges.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import nsmallest
from itertools import islice
from typing import Any, Protocol

import msgspec
import structlog

from lalert import cap
from lalert.bus import Hints
from lalert.clock import Clock
from lalert.errors import Conflict, LalertError, Refused, Unavailable
from lalert.model import Alert, Lease, Reading
from lalert.plugin import Observed
from lalert.sensors.evidence import with_evidence
from lalert.sensors.quality import DOUBTS
from lalert.sensors.roster import Roster
from lalert.sensors.rules import Act, Decision, Issued, State, step, told
from lalert.sensors.settings import Mode
from lalert.sensors.silence import SLICE, Condition, Watch, age, condition
from lalert.sensors.station import STAGES, Station
from lalert.sensors.upkeep import Datum, Maintenance, levelled, under
from lalert.sensors.warning import warning
from lalert.store import StoredReading

log = structlog.get_logger()

BATCH = 500
EVIDENCE = 500
"""So many of a station's newest readings are looked through for what goes with a warning."""
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
READINGS = "readings"
"""The hint that there are new ones."""
HINT_SECONDS = 0.02
"""A node hints no more often than this: a hundred thousand gauges would be thousands of hints a second."""
SOON_SECONDS = 0.1
LOOK_SECONDS = 2.0
"""When new readings are looked for without a hint: once soon after one, for those that came too close behind it, and then now and then."""
FRESH_SECONDS = 1.0
"""How long a node that does not judge shows the states that it has read."""
RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)

Submit = Callable[[bytes, Station], Awaitable[object]]
"""Hand in a station's CAP document; raises `Refused` where it may never go out, another `LalertError` where it may later."""


Propose = Callable[[Station, Decision], Awaitable[object]]
"""Lay a decision before the officers of the station's organisation; called twice with the same one, it is laid before them once."""


OVERVIEW_SECONDS = 5.0
MAX_OVERVIEWS = 500


@dataclass(frozen=True, slots=True)
class Overview:
    """The rows that matter most, of how many, and how many of those are without data."""

    rows: list[dict[str, Any]]
    total: int
    silent: int


class SensorLog(Protocol):
    """What the engine asks of the store."""

    async def append_readings(
        self, tenant: str, readings: Sequence[Reading], received: datetime
    ) -> list[StoredReading | None]: ...

    async def readings(self, station: str, limit: int) -> list[StoredReading]: ...

    async def readings_after(self, number: int, limit: int) -> list[StoredReading]: ...

    async def rule_states(self) -> dict[str, bytes]: ...

    async def save_rule_states(
        self, states: Mapping[str, bytes], judged: int, fence: Lease | None = None
    ) -> None: ...

    async def judged(self) -> int: ...


class Engine:
    """Keeps the readings that this node is given; `run` judges those of all nodes."""

    def __init__(
        self,
        store: SensorLog,
        stations: Roster,
        submit: Submit,
        clock: Clock,
        hints: Hints,
        propose: Propose | None = None,
        *,
        public_address: Callable[[], str] = lambda: "",
    ) -> None:
        """`public_address` is that of the hub, such as `https://hub.example`, or "" where it has none."""
        self._store = store
        self._stations = stations
        self._submit = submit
        self._propose = propose
        self._clock = clock
        self._hints = hints
        self._public_address = public_address
        self._judges = False
        self._seen: float | None = None
        self._hinted: float | None = None
        self._states: dict[str, State] = {}
        self._kept: Mapping[str, State] = {}
        self._refusals: dict[str, str] = {}
        self._watch = Watch()
        self._overviews: dict[tuple[str | None, int], tuple[float, Overview]] = {}
        self._overviewing = asyncio.Lock()
        self._defects: dict[str, str] = {}
        self._news = asyncio.Event()

    async def observe(self, tenant: str, readings: Sequence[Reading]) -> Observed:
        """Keep an organisation's readings; answers once they are durable, the rules follow at once.

        Rejected by index: `unknown-station` (another organisation's is answered alike: stations are public, who owns which is
        nobody's guess by writing to them) and `bad-time`, a time without offset or outside the calendar that can be kept.
        """
        if any(reading.station not in self._stations for reading in readings):
            # It may have been set up a moment ago at another node.
            await self._stations.refresh()
        good: list[Reading] = []
        rejected: list[tuple[int, str]] = []
        for index, reading in enumerate(readings):
            station = self._stations.get(reading.station)
            if station is None or station.org != tenant or station.source:
                rejected.append((index, "unknown-station"))
            elif not _can_be_kept(reading.time):
                # Kept, it could not be read again, and one such reading would stop the rules of every station for good.
                rejected.append((index, "bad-time"))
            else:
                good.append(reading)
        good.sort(key=lambda reading: reading.time)  # a device often sends its newest first
        kept = await self._store.append_readings(tenant, good, self._clock.now()) if good else []
        fresh = sum(stored is not None for stored in kept)
        if fresh:
            self._news.set()
            self._hint()
        return Observed(fresh, len(kept) - fresh, tuple(rejected))

    def _hint(self) -> None:
        now = self._clock.monotonic()
        if not self._judges and (self._hinted is None or now - self._hinted >= HINT_SECONDS):
            self._hinted = now
            self._hints.hint(READINGS, "")

    async def run(self, lease: Lease) -> None:
        """Judge what is in the store, then whatever comes, until cancelled; raises `Fenced` when another node does so."""
        detach = self._hints.attend(lambda kind, _: self._news.set() if kind == READINGS else None)
        self._judges = True
        try:
            await self._judge_all(lease)
        finally:
            self._judges = False
            detach()

    async def _judge_all(self, lease: Lease) -> None:
        self._states = await self._read_states()
        self._watch = Watch()
        judged, pause = await self._store.judged(), LOOK_SECONDS
        while True:
            self._news.clear()
            while batch := await self._store.readings_after(judged, BATCH):
                if any(arrived.reading.station not in self._stations for arrived in batch):
                    await self._stations.refresh()
                changed: dict[str, bytes] = {}
                for arrived in batch:
                    for station in self._stations.judges_of(arrived.reading.station):
                        await self._judge(station, arrived)
                        if station.id in self._states:
                            changed[station.id] = msgspec.json.encode(self._states[station.id])
                judged = batch[-1].number
                await self._store.save_rule_states(changed, judged, lease)
                self._watch.look(self._stations, self._states, self._clock.now())
            self._watch.look(self._stations, self._states, self._clock.now())
            try:
                async with asyncio.timeout(pause):
                    await self._news.wait()
                pause = SOON_SECONDS
            except TimeoutError:
                pause = LOOK_SECONDS

    async def _read_states(self) -> dict[str, State]:
        return {name: _decode(raw) for name, raw in (await self._store.rule_states()).items()}

    async def _judge(self, station: Station, said: StoredReading) -> None:
        # By both times: what was measured while a hand was in the water may come when it is out again.
        own = self._stations.get(said.reading.station, station)
        times = (said.reading.time, said.received)
        before = self._states.get(station.id, State())
        before = replace(before, heard=max(before.heard or said.received, said.received))
        if any(under(each.maintenance, time) for each in (station, own) for time in times):
            self._states[station.id] = before
            return
        arrived = replace(said, reading=levelled(own.datum, said.reading))
        # One station's defect must not stop the warnings of all others, as it would with every reading anew.
        try:
            state, decisions = step(station, before, arrived, self._states)
        except Exception as error:  # noqa: BLE001  # logged, once for each defect
            self._log_defect(station, error)
            self._states[station.id] = before
            return
        self._states[station.id] = state
        for decision in decisions:
            try:
                state = self._states[station.id] = await self._act(station, state, decision)
            except Exception as error:  # noqa: BLE001  # logged, once for each defect
                # Neither told nor proposed: the next reading asks again.
                self._log_defect(station, error)

    async def _act(self, station: Station, state: State, decision: Decision) -> State:
        if decision.kind is Mode.PROPOSE:
            if self._propose is None:
                return state
            await self._propose(station, decision)
            return told(state, decision, None)
        try:
            return told(state, decision, await self._say(station, state, decision))
        except Refused as error:
            self._log_refusal(station, error)
        if decision.act is Act.CHANGE:
            # What it refers to may no longer be this station's to change, as after a trial that ended (status) or a new owner:
            # an incident that nobody can continue must not silence the gauge.
            with suppress(Refused):
                anew = replace(decision, act=Act.WARN, answers=None)
                return told(state, anew, await self._say(station, state, anew))
        # Not told: the next reading asks again, and what was refused is said once its cause is mended.
        return state

    def _log_defect(self, station: Station, error: Exception) -> None:
        if self._defects.get(station.id) != repr(error):
            self._defects[station.id] = repr(error)
            log.error(
                "a station cannot be judged; each reading tries again", station=station.id, exc_info=error
            )

    def _log_refusal(self, station: Station, error: Refused) -> None:
        if self._refusals.get(station.id) != error.error_code:
            self._refusals[station.id] = error.error_code
            log.error(
                "a station's warning was refused; each reading tries again",
                station=station.id,
                code=error.error_code,
                detail=error.detail,
            )

    async def _say(self, station: Station, state: State, decision: Decision) -> Issued | None:
        alert: Alert | None = None
        attempt = 0
        while True:
            try:
                # Once: what is said again after a refusal for now is the same document.
                alert = alert or await self._evidenced(station, state, decision)
                await self._submit(cap.render(alert), station)
            except Conflict:
                # Said before a crash, and the station's name or our wording has changed since: it is out, only in other words.
                assert alert is not None
                return _issued(decision, alert)
            except Refused:
                raise
            except LalertError as error:
                pause = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                log.warning(
                    "a station's warning must wait", station=station.id, detail=error.detail, again_in=pause
                )
                attempt += 1
                await self._clock.sleep(pause)
            else:
                self._refusals.pop(station.id, None)
                return _issued(decision, alert)

    async def _evidenced(self, station: Station, state: State, decision: Decision) -> Alert:
        alert = warning(station, decision)
        data = self._stations.datum_of(station)
        kept = await self._store.readings(station.source or station.id, EVIDENCE)
        readings = [replace(each, reading=levelled(data, each.reading)) for each in kept]
        try:
            doubted = {time for time, _ in state.marks}
            return with_evidence(alert, station, decision, readings, self._public_address(), doubted)
        except Exception:
            # A defect of ours in drawing: a warning is worth more than its image.
            log.exception("a station's warning goes out without its evidence", station=station.id)
            return alert

    async def stations(
        self, *, org: str | None = None, code: str | None = None, after: str = "", limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Return stations by id with their thresholds and how they stand, ready for JSON; at a node that does not judge up to a second late.

        `code` is a municipality or prefecture that they concern; `after` the last id of the page before.
        """
        states, now = await self._known_states(), self._clock.now()
        names = sorted(self._stations)
        found = (self._stations[name] for name in names[bisect_right(names, after) :])
        wanted = (each for each in found if (org is None or each.org == org) and _concerns(each, code))
        return [_station_json(each, states.get(each.id, State()), now) for each in islice(wanted, limit)]

    async def gravest(self, code: str | None, limit: int) -> Overview:
        """Return the stations that matter most: those in a stage that warns, then those without data, then the rest; up to some seconds late.

        Very many are gone through a slice at a time, and once for all who ask within `OVERVIEW_SECONDS`.
        """
        async with self._overviewing:
            kept = self._overviews.get((code, limit))
            if kept is None or self._clock.monotonic() - kept[0] >= OVERVIEW_SECONDS:
                if len(self._overviews) >= MAX_OVERVIEWS:
                    self._overviews.clear()
                kept = self._clock.monotonic(), await self._overview(code, limit)
                self._overviews[code, limit] = kept
            return kept[1]

    async def _overview(self, code: str | None, limit: int) -> Overview:
        states, now = await self._known_states(), self._clock.now()
        found: list[tuple[int, str, str, str]] = []
        silent = 0
        for number, station in enumerate(list(self._stations.values())):
            if number % SLICE == 0:
                await asyncio.sleep(0)
            if not _concerns(station, code):
                continue
            state = states.get(station.id, State())
            known = condition(station, state, now) is Condition.LIVE
            silent += not known
            rank = -2 * state.stage
            if not known:
                # After those of which it is known, and never after 水防団待機: what stood high may stand higher.
                rank = min(rank + 1, -3)
            found.append((rank, station.river, station.name, station.id))
        some = (self._stations.get(each[3]) for each in nsmallest(limit, found))
        rows = [_station_json(each, states.get(each.id, State()), now) for each in some if each is not None]
        return Overview(rows, len(found), silent)

    def gauges(self) -> dict[str, float]:
        """Return figures of all stations, at the node that judges; elsewhere none."""
        return self._watch.gauges(self._clock.now()) if self._judges else {}

    async def _known_states(self) -> Mapping[str, State]:
        return self._states if self._judges else await self._states_kept()

    async def _states_kept(self) -> Mapping[str, State]:
        """Return what the node that judges has kept, up to a second ago, or what was known last while the store cannot be asked."""
        now = self._clock.monotonic()
        if self._seen is None or now - self._seen >= FRESH_SECONDS:
            with suppress(Unavailable):
                # Never into the states that are judged by: judging may begin here while they are read.
                self._kept = await self._read_states()
            self._seen = now
        return self._kept

    async def station(self, name: str) -> dict[str, Any] | None:
        """Return one station as `stations` does, None where there is none of that id."""
        station = self._stations.get(name)
        if station is None:
            return None
        states = await self._known_states()
        return _station_json(station, states.get(name, State()), self._clock.now())

    async def history(self, station: str, limit: int) -> list[dict[str, Any]]:
        """Return a station's newest readings by device time, rising, ready for JSON."""
        states = await self._known_states()
        marks = dict(states.get(station, State()).marks)
        own = self._stations.get(station)
        if own is not None and own.source:
            heard = self._stations.get(own.source)
            own = heard if heard is not None and own.hears(heard) else None
        if own is None:
            return []
        return [
            _reading_json(stored, marks, own.datum) for stored in await self._store.readings(own.id, limit)
        ]


def _concerns(station: Station, code: str | None) -> bool:
    return code is None or any(each == code or each[:2] == code for each in station.codes)


def _station_json(station: Station, state: State, now: datetime) -> dict[str, Any]:
    last, doubted = state.last, state.doubted
    how, silence = condition(station, state, now), age(state, now)
    # Of a gauge that says nothing nobody knows how the water stands.
    known = how is Condition.LIVE
    return {
        "id": station.id,
        "name": station.name,
        "river": station.river,
        "org": station.org,
        "lon": station.lon,
        "lat": station.lat,
        "codes": list(station.codes),
        "status": station.status.value,
        "levels": {stage.name.lower(): level for stage, level in station.levels.items()},
        "condition": how.value,
        "heard": state.heard.isoformat(timespec="seconds") if state.heard else None,
        "age_s": round(silence.total_seconds()) if silence is not None else None,
        "stage": state.stage.name.lower() if known else "no-data",
        "last_stage": state.stage.name.lower(),
        "stage_name": STAGES[state.stage].name if known and state.stage in STAGES else None,
        "time": last[0].isoformat(timespec="seconds") if last else None,
        "level_m": last[1] if last else None,
        "doubt": doubted[1] if doubted else None,
        "doubt_ja": DOUBTS[doubted[1]].ja if doubted and doubted[1] in DOUBTS else None,
        "doubt_en": DOUBTS[doubted[1]].en if doubted and doubted[1] in DOUBTS else None,
        "warning": state.issued.identifier if state.issued else None,
        "source": station.source or None,
        "maintenance": _maintenance_json(station.maintenance),
    }


def _maintenance_json(maintenance: Maintenance | None) -> dict[str, Any] | None:
    if maintenance is None:
        return None
    return {
        "since": maintenance.since.isoformat(timespec="seconds"),
        "until": maintenance.until.isoformat(timespec="seconds"),
        "reason": maintenance.reason,
    }


def _issued(decision: Decision, alert: Alert) -> Issued | None:
    return None if decision.act is Act.LIFT else Issued(alert.sender, alert.identifier, alert.sent_text)


def _can_be_kept(time: datetime) -> bool:
    try:
        return time.tzinfo is not None and time.astimezone(UTC) >= EARLIEST
    except OverflowError:
        return False


def _decode(raw: bytes) -> State:
    try:
        return msgspec.json.decode(raw, type=State)
    except msgspec.MsgspecError as error:
        # It then says once more what holds: better than one station's memory stopping the rules of all.
        log.error("what the rules knew of a station does not read", detail=str(error))
        return State()


def _reading_json(
    stored: StoredReading, marks: Mapping[datetime, str], data: Sequence[Datum]
) -> dict[str, Any]:
    reading = levelled(data, stored.reading)
    said = stored.reading.level_m
    values = {
        "level_m": reading.level_m,
        "said_m": said if said != reading.level_m else None,
        "rain_mm": reading.rain_mm,
        "period_s": reading.period_s,
        "rain_total_mm": reading.rain_total_mm,
        "seq": reading.seq,
        "manual": True if reading.by is not None else None,
        "by": reading.by,
        "doubt": marks.get(reading.time),
    }
    return {
        "time": reading.time.isoformat(timespec="seconds"),
        "received": stored.received.isoformat(timespec="milliseconds"),
        **{name: value for name, value in values.items() if value is not None},
    }
