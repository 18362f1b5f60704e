"""The fan-out: one task that takes each entry, in the order of positions, to every group that wants it.

An entry is matched once per lane, encoded once per format and language, framed once per wire; then the same bytes object is written to each socket. There is
no task, queue or copy per subscriber. A long fan-out lets the loop breathe every few milliseconds, but the next entry of a
lane never starts before the last one is done: interleaved fan-outs make everybody late. What has come meanwhile is then told together.
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from lalert.clock import Clock
from lalert.errors import LalertError, UnknownPosition
from lalert.live.audience import Audience, Bodies
from lalert.live.connection import Connection, Lines
from lalert.live.frames import Close, Wire
from lalert.live.lanes import Group, Lane, NewIndex, hears_drills
from lalert.live.settings import LiveSettings
from lalert.live.window import Heard, Mark, Window
from lalert.model import Entry, Filter

log = logging.getLogger(__name__)

SLICE_SECONDS: Final = 0.004
"""How long a fan-out may keep the loop at most before other work gets a turn."""

FIRST_SECONDS: Final = 0.00025
"""How long its first turn is."""

REQUEST_TURNS: Final = 3
"""Turns of the loop in which a request gets from its socket to the store, or from the store to its answer."""

STORING_MS: Final = 1
"""How long it stands still for an alert that is being stored."""

MOST_AHEAD_SECONDS: Final = 0.02
"""What others may have of the loop before the fan-out has had as much."""

LONG_SECONDS: Final = 0.002
"""Of a turn for which it pays to wake another thread."""

LOOK_EVERY: Final = 16
"""Writes between two looks at the time: about 0.15 ms."""

MOST_TOGETHER: Final = 8
TOGETHER_BYTES: Final = 32_768
"""So many entries that wait, and bytes of their documents, are told in one write to each who wants them: it takes the kernel little longer than one."""

PLAN_SECONDS: Final = 0.001
"""How long more of them are made ready; the loop stands still meanwhile."""

BEATS_AT_ONCE: Final = 64
"""Heartbeats written before the fan-out looks again whether an alert has come: under a millisecond."""

ENDS_PAUSE_SECONDS: Final = 1.0
"""Before what has ended is looked up again in a store that could not be read."""

RESTART_SECONDS: Final = 0.1
"""Between a failure of the fan-out and its next start."""


class Log(Protocol):
    """What live needs of the store (`store.AlertLog`)."""

    @property
    def newest(self) -> str: ...

    def order(self, position: str) -> tuple[int, ...]: ...

    async def reach(self, position: str) -> None: ...

    def require_kept(self, after: str) -> None: ...

    async def read(self, after: str | None, limit: int) -> list[Entry]: ...

    async def lineage(self, entry: Entry) -> list[Entry]: ...

    async def entry(self, position: str) -> Entry | None: ...


Streamed = Callable[[Entry, int], None]
"""Hears to how many subscribers an entry was written; must not block, wait or raise."""


def uncounted(_entry: Entry, _subscribers: int) -> None:
    """Hear it and keep nothing."""


def never() -> bool:
    """Say no."""
    return False


class Job(NamedTuple):
    """The frame of an event, or of several one behind the other, and who gets it. The list is taken at one moment, so that nobody who joins later is in it."""

    frame: bytes
    conns: list[Connection]
    events: int = 1


class Turn:
    """How long the fan-out may keep the loop before other work gets a turn.

    The first turns are short and each is twice as long as the last: whoever sent the alert has its answer after the first few, and a long fan-out loses little by them.
    When something has come in from outside, a turn ends early, and what came in has the loop for as many turns as a request takes, and the store's
    thread the processor. But by how much the others are ahead is counted: once that is much, the fan-out keeps the loop at least as long as they just did.
    """

    def __init__(self, storing: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._storing = storing
        self._waiting = waiting(self._loop)
        self.begin()

    def begin(self) -> None:
        """Begin with a short turn, after a rest."""
        self._ahead = 0.0
        self._length = FIRST_SECONDS
        self._set_out(self._loop.time(), 0.0)

    @property
    def long(self) -> bool:
        """Say whether this is one of the longer turns."""
        return self._length >= LONG_SECONDS

    def over(self) -> bool:
        """Say whether others should have the loop now."""
        now = self._loop.time()
        return now >= self._end or (now >= self._soonest and self._waiting(0))

    async def pass_on(self) -> None:
        """Let all who are ready have the loop once, and whoever asks for it early for a whole request."""
        passed_on = self._loop.time()
        self._ahead = max(0.0, self._ahead - (passed_on - self._begun))
        early = passed_on < self._end
        await asyncio.sleep(0)
        if early:
            end = passed_on + SLICE_SECONDS
            await self._let_on(end)
            # Where all share one core, the store's thread would have it back after the disk only when this one is made to stop, which is after 4 ms.
            if self._storing() and self._waiting(STORING_MS):
                await self._let_on(end)
        now = self._loop.time()
        self._ahead += now - passed_on
        self._length = FIRST_SECONDS if early else min(2 * self._length, SLICE_SECONDS)
        self._set_out(now, now - passed_on)

    async def _let_on(self, end: float) -> None:
        for _ in range(REQUEST_TURNS):
            if self._loop.time() >= end:
                return
            await asyncio.sleep(0)

    def _set_out(self, now: float, others: float) -> None:
        least = min(others, SLICE_SECONDS) if self._ahead > MOST_AHEAD_SECONDS else 0.0
        self._begun = now
        self._soonest = now + least
        self._end = now + max(self._length, least)


def waiting(loop: asyncio.AbstractEventLoop) -> Callable[[int], bool]:
    """Return what says whether something has come to the loop from outside that it has not looked at yet, or comes in so many milliseconds.

    Where that cannot be seen, nothing ever has.
    """
    # What asyncio and uvloop wait at; there is no public way to it. An epoll or kqueue is itself readable when one of those that it watches is ready.
    if hasattr(loop, "_get_backend_id"):
        descriptor = loop._get_backend_id()
    elif hasattr(loop, "_selector") and hasattr(loop._selector, "fileno"):
        descriptor = loop._selector.fileno()
    else:
        return lambda _milliseconds: False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return lambda milliseconds: bool(poll.poll(milliseconds))


def together(heard: Sequence[Heard]) -> Sequence[Heard]:
    """Return the first of some entries and those behind it that are told with it.

    One that refers to others goes alone, and so does a large one: what they wait for is not the others' matter.
    """
    size = 0
    for count, (_, entry) in enumerate(heard):
        alone = entry.large or bool(entry.alert.references)
        size += len(entry.alert.raw)
        if count and (alone or size > TOGETHER_BYTES):
            return heard[:count]
        if alone:
            return heard[:1]
    return heard


def merged(plans: Sequence[Sequence[Job]]) -> Sequence[Job]:
    """Return one write for everybody who gets several frames: in the order of the entries, and joined once for all who get the same."""
    if len(plans) == 1:
        return plans[0]
    wanted: dict[int, tuple[list[Connection], list[bytes]]] = {}
    for jobs in plans:
        for frame, conns, _ in jobs:
            wanted.setdefault(id(conns), (conns, []))[1].append(frame)
    made: dict[tuple[int, ...], bytes] = {}
    merged: list[Job] = []
    for conns, parts in wanted.values():
        key = tuple(map(id, parts))
        if key not in made:
            made[key] = b"".join(parts)
        merged.append(Job(made[key], conns, len(parts)))
    return merged


class FanOut:
    """Hears of entries and serves the two lanes."""

    def __init__(
        self,
        log: Log,
        index: NewIndex,
        audience: Audience,
        bodies: Bodies,
        lines: Lines,
        settings: LiveSettings,
        clock: Clock,
        streamed: Streamed = uncounted,
        storing: Callable[[], bool] = never,
    ) -> None:
        self._log = log
        self._audience = audience
        self._bodies = bodies
        self._lines = lines
        self._clock = clock
        self._streamed = streamed
        self._page = settings.page_entries
        start = Mark(log.order(log.newest), log.newest)
        self.window = Window(start, settings.window_entries, settings.window_bytes)
        self.real = Lane(start, index())
        self.drill = Lane(start, index())
        self.entries = 0
        self.failures = 0
        self.stopped = False
        self.seconds = 0.0
        """How long the last entry took in the lane without drills."""
        self.told = clock.now()
        """Up to when ends were told of, or are about to be, to everybody who is in a group by then."""
        self.ended = 0
        self._ended: deque[str] = deque()
        self._ends_wait = 0.0
        self._wake = asyncio.Event()
        self._listeners: dict[Callable[[], None], None] = {}
        self._end_listeners: dict[Callable[[Entry], None], None] = {}
        self._slots: list[dict[Connection, None]] = [
            {} for _ in range(max(1, round(settings.heartbeat_s / settings.tick_s)))
        ]
        self._slot = 0
        self._due: deque[Connection] = deque()
        self._turn = Turn(storing)
        self._canaries: list[Callable[[], None]] = []

    def lane(self, filter: Filter) -> Lane:
        """Return the lane that serves a filter."""
        return self.drill if hears_drills(filter) else self.real

    def join(self, conn: Connection) -> None:
        """Go live with a connection that was offered everything up to where its lane is; its first event is a heartbeat, from which it can resume."""
        if not conn.open:
            return
        conn.lane.join(conn)
        conn.slot = self._slot
        self._slots[conn.slot][conn] = None
        self._lines.offer(conn, self._lines.beats.frame(conn.wire, conn.lane.at.position))

    def drop(self, conn: Connection) -> None:
        """Forget a connection."""
        self._slots[conn.slot].pop(conn, None)

    def on_entry(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have `call` called whenever the window grew; returns what ends it."""
        self._listeners[call] = None
        return lambda: self._listeners.pop(call, None)

    def on_end(self, call: Callable[[Entry], None]) -> Callable[[], None]:
        """Have `call` called with whatever has just ended by itself; returns what ends it."""
        self._end_listeners[call] = None
        return lambda: self._end_listeners.pop(call, None)

    def stop(self) -> None:
        """Let every follower know that nothing more comes."""
        self.stopped = True
        for call in list(self._listeners):
            call()

    def tick(self) -> None:
        """Make the next slot's heartbeats due; called every `tick_s`, so that each connection has one every `heartbeat_s`."""
        self._slot = (self._slot + 1) % len(self._slots)
        if len(self._due) < len(self._lines.all):
            self._due.extend(self._slots[self._slot])
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Say whether everything heard of was offered to everybody in both lanes."""
        newest = self.window.newest.order
        return self.real.settled.order >= newest and self.drill.settled.order >= newest

    @property
    def pressing(self) -> bool:
        """Say whether somebody who hears no drills still waits for an entry: whoever catches up then takes less of the loop."""
        return self.real.settled.order < self.window.newest.order

    async def run(self) -> None:
        """Fan out until cancelled."""
        while True:
            try:
                await self._pump()
            except Exception:
                # Nobody knows who was offered the entry under way, so everybody in its lane resumes from before it.
                self.failures += 1
                log.exception("the live fan-out failed and starts again")
                for lane in (self.real, self.drill):
                    if lane.settled != lane.at:
                        self._start_anew(lane, lane.at)
                await self._clock.sleep(RESTART_SECONDS)

    async def renew(self) -> None:
        """Have the indices made anew aside, if many have come and gone."""
        for lane in (self.real, self.drill):
            make = lane.index.renewal()
            if make is not None:
                adopt = await asyncio.to_thread(make)
                adopt()

    def hear(self, entry: Entry) -> None:
        """Take note of an entry just published; it is fanned out soon. Entries heard of before are passed over."""
        if self.window.add(Mark(self._log.order(entry.position), entry.position), entry):
            self._wake.set()
            for call in list(self._listeners):
                call()

    def watch(self, sighted: Callable[[], None]) -> None:
        """Call `sighted` once the next entry was offered to everybody in its lane, or none is left to be."""
        self._canaries.append(sighted)
        self._wake.set()

    def end(self, positions: Iterable[str], now: datetime) -> None:
        """Take note of what ended by itself up to `now`; it is told soon, between entries."""
        self._ended.extend(positions)
        self.told = now
        self._wake.set()

    async def _pump(self) -> None:
        while True:
            self._wake.clear()
            self._turn.begin()
            while await self._work():
                await self._breathe()
            self._sight()
            await self._wake.wait()

    async def _work(self) -> bool:
        """Do what is most urgent; returns whether there was anything to do."""
        beaten = self._beat()
        served = await self._step(self.real)
        # One end after each real entry, so that neither waits for all of the other.
        served = await self._tell_end() or served
        return served or await self._step(self.drill) or beaten

    async def _step(self, lane: Lane) -> bool:
        """Serve a lane's next entry; returns whether there was one."""
        if lane.at.order >= self.window.newest.order:
            return False
        page = self.window.after(lane.at.order, MOST_TOGETHER)
        if page:
            await self._serve(lane, together(page))
            return True
        rest = await self._fetch(lane)
        while rest:
            served = await self._serve(lane, together(rest))
            rest = rest[served:]
        return True

    async def _fetch(self, lane: Lane) -> Sequence[Heard]:
        """Return the next entries of a lane that fell out of the window: nothing is lost, it only takes a look into the store."""
        try:
            page = await self._log.read(lane.at.position, self._page)
            self._log.require_kept(lane.at.position)
        except UnknownPosition:
            page = []
        except LalertError:
            log.exception("the store cannot be read; live delivery waits for it")
            await self._clock.sleep(1.0)
            return ()
        if not page:
            # What the lane still had to tell is in no store any more: its receivers come back, and a gap tells them so.
            self._start_anew(lane, self.window.newest)
        return [Heard(Mark(self._log.order(entry.position), entry.position), entry) for entry in page]

    def _start_anew(self, lane: Lane, mark: Mark) -> None:
        for conn in [conn for group in lane.groups() for conn in group.members]:
            self._lines.cut(conn, Close.RESYNC, "the hub lost its place in the log")
        lane.at = lane.settled = mark

    async def _serve(self, lane: Lane, batch: Sequence[Heard]) -> int:
        """Tell everybody of entries that can be told together; returns of how many."""
        [entry, *_] = entries = [heard.entry for heard in batch]
        lineage = await self._audience.lineage(entry)
        if entry.large:
            await self._bodies.prepare(entry, lane.variants())
        started = now = asyncio.get_running_loop().time()
        plans: list[list[Job]] = []
        # Nothing waits between these two: whoever joined before is in a job, and whoever joins after has been offered the entry.
        while len(plans) < len(batch) and now - started < PLAN_SECONDS:
            lane.at = batch[len(plans)].mark
            plans.append(self._plan(lane, entries[len(plans)], lineage))
            now = asyncio.get_running_loop().time()
        await self._write(lane, merged(plans))
        lane.settled = lane.at
        for entry, jobs in zip(entries, plans, strict=False):
            self._streamed(entry, sum(len(job.conns) for job in jobs))
        if lane is self.real:
            self.entries += len(plans)
            self.seconds = asyncio.get_running_loop().time() - started
        return len(plans)

    def _sight(self) -> None:
        canaries, self._canaries = self._canaries, []
        for sighted in canaries:
            sighted()

    async def _tell_end(self) -> bool:
        """Tell of the next end; returns whether there was one.

        Only between entries, as heartbeats, and with the position up to which everything was offered: who resumes from it skips nothing and gets
        nothing twice. A lane that has not come to the entry yet will tell it as over in its place.
        """
        if not self._ended or self._clock.monotonic() < self._ends_wait:
            return False
        position = self._ended[0]
        if not (self.real.count() or self.drill.count() or self._end_listeners):
            self._ended.popleft()
            return True
        try:
            entry = await self._log.entry(position)
        except LalertError:
            log.exception("the store cannot be read; what has ended is told when it can")
            # Entries go on meanwhile; a tick wakes this again.
            self._ends_wait = self._clock.monotonic() + ENDS_PAUSE_SECONDS
            return False
        self._ended.popleft()
        if entry is None:
            return True
        for call in list(self._end_listeners):
            call(entry)
        try:
            await self._write_end(entry)
        except Exception:
            # Nobody knows who was told, or got half of it: whoever resumes is told of all that has ended since.
            for lane in (self.real, self.drill):
                self._start_anew(lane, lane.at)
            raise
        self.ended += 1
        return True

    async def _write_end(self, entry: Entry) -> None:
        order, lineage = self._log.order(entry.position), await self._audience.lineage(entry)
        for lane in (self.real, self.drill):
            if order <= lane.settled.order:
                if entry.large:
                    await self._bodies.prepare(entry, lane.variants())
                await self._write(lane, self._plan(lane, entry, lineage, ended=True))

    def _plan(self, lane: Lane, entry: Entry, lineage: Sequence[Entry], *, ended: bool = False) -> list[Job]:
        jobs: list[Job] = []
        made: dict[tuple[str, str | None, Wire], bytes] = {}
        for group in self._hearing(lane, entry, lineage):
            key = group.key
            frame = made.get((key.format, key.lang, key.wire))
            if frame is None:
                at = lane.settled.position if ended else None
                frame = self._bodies.frame(entry, key.format, key.lang, key.wire, ended=at)
                made[key.format, key.lang, key.wire] = frame
            jobs.append(Job(frame, group.everybody()))
        return jobs

    def hearing(self, entry: Entry, lineage: Sequence[Entry]) -> Iterator[Group]:
        """Yield the groups that an entry would be written to now."""
        for lane in (self.real, self.drill):
            yield from self._hearing(lane, entry, lineage)

    def _hearing(self, lane: Lane, entry: Entry, lineage: Sequence[Entry]) -> Iterator[Group]:
        for group in self._wanting(lane, entry, lineage):
            if self._audience.may_see(group.key.audience, entry):
                yield group

    def _wanting(self, lane: Lane, entry: Entry, lineage: Sequence[Entry]) -> Iterable[Group]:
        try:
            return lane.wanting(entry, lineage)
        except Exception:
            # Told too much is better than told nothing; only the gate between drills and the real thing stays shut.
            log.exception(
                "entry %s cannot be matched; it goes to everybody who may hear of its status", entry.position
            )
            return [group for group in lane.groups() if entry.alert.status in group.key.filter.statuses]

    async def _write(self, lane: Lane, jobs: Sequence[Job]) -> None:
        for frame, conns, events in jobs:
            rest = iter(conns)
            while not self._lines.write(frame, rest, self._turn, LOOK_EVERY, events):
                await self._turn.pass_on()
                while lane is self.drill and await self._step(self.real):
                    pass

    async def _breathe(self) -> None:
        """Give other work a turn, if this one has lasted long enough."""
        if self._turn.over():
            await self._turn.pass_on()

    def _beat(self) -> bool:
        """Write some of the heartbeats that are due. Only between entries: a heartbeat says that everything before it was offered."""
        if not self._due:
            return False
        made: dict[tuple[Lane, Wire], bytes] = {}
        for _ in range(min(BEATS_AT_ONCE, len(self._due))):
            conn = self._due.popleft()
            key = (conn.lane, conn.wire)
            if key not in made:
                made[key] = self._lines.beats.frame(conn.wire, conn.lane.at.position)
            self._lines.offer(conn, made[key])
        return True
