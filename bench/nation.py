"""What a nation asks of the hub, by a simulation: N nodes over one log, with the costs of each step as `bench.scaling` measures them.

    python -m bench.nation [--nodes 2 4 8 16] [--seed 1] [--units FILE] ...

No clock of the machine and no chance but the seed's: the same arguments print the same table. docs/scaling.md quotes it.

A node is one event loop that does one thing at a time, in turns: posts, entries of other nodes, slices of the fan-out, launches of deliveries. The log
server is one more, which writes whatever came in since its last turn to the disk at once. What a node's threads do counts as if the loop did it.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import io
import json
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Final

from lalert.resources import gazetteer_csv

SLICE_SECONDS: Final = 0.004
"""How long a fan-out keeps the loop (`live.fanout`)."""
LAUNCHES: Final = 16
"""Deliveries that begin in one turn (`dispatch.dispatcher`)."""
IN_FLIGHT: Final = 64
"""Webhooks under way at one node (`lalert_adapters.webhook`)."""
BATCH: Final = 256
"""Appends in one batch of a node (`store.redis.link`)."""
PAGE: Final = 500
"""Entries that a node takes into its view at once (`store.redis.stream`)."""
READINGS_IN_POST: Final = 100
NORTHERN: Final = {f"{code:05}" for code in range(1695, 1701)}
"""Villages without an office: the 1,741 do not count them."""

Call = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Units:
    """Seconds of one processor, and bytes, each for one of what its name says; `server` is the log server."""

    post: float = 550e-6
    post_alone: float = 1500e-6
    follow: float = 290e-6
    follow_batch: float = 1000e-6
    match: float = 125e-6
    encode: float = 68e-6
    receipt_sse: float = 12e-6
    receipt_ws: float = 12.5e-6
    attempt: float = 205e-6
    reading: float = 28e-6
    server_append: float = 50e-6
    server_ship: float = 2e-6
    server_sync: float = 150e-6
    server_attempt: float = 26e-6
    server_reading: float = 12e-6
    load: float = 40e-6
    node_bytes: float = 110e6
    sse_bytes: float = 14.0e3
    ws_bytes: float = 19.8e3
    lane_bytes: float = 1.7e3
    view_entry_bytes: float = 4.7e3
    server_entry_bytes: float = 4.4e3
    server_reading_bytes: float = 0.12e3
    server_attempt_bytes: float = 0.43e3
    entry_bytes: float = 6.3e3
    client_post: float = 200e-6
    client_receipt: float = 6.5e-6


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of how many nodes. Seconds."""

    nodes: int = 8
    posts: int = 1741
    within: float = 1.0
    """Over how long the posts are spread, by lot."""
    places: int = 1741
    subscribers: int = 1_000_000
    skew: float = 0.0
    """Subscribers of the place of rank r are as r to the power of minus this: 0 is as many everywhere, 1 about as Japan's towns are."""
    receivers: int = 1_400
    national: int = 140
    """Receivers that take all of Japan; each of the others takes one prefecture. Each has a live stream and a webhook."""
    webhooks: int = 1
    """0 for receivers that have a stream alone."""
    answer: float = 0.05
    """How long a receiver's server takes to answer a webhook."""
    sensors: int = 100_000
    every: float = 600.0
    hop: float = 0.0002
    """One way between a node and the log server."""
    seed: int = 1
    shared_cores: int = 0
    """For the check against what was measured: everything, the load client too, on one machine of so many processors; 0 for a machine each."""
    one_by_one: bool = False
    """Each post waits until the one before it has reached everybody."""


@dataclass(slots=True)
class Found:
    """What came of it; latencies are from the moment at which the sender posts. Weighted: (seconds, how many)."""

    live: list[tuple[float, int]] = field(default_factory=list)
    answered: list[tuple[float, int]] = field(default_factory=list)
    durable: list[tuple[float, int]] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    """Of each post, when its last live receipt was."""
    got: list[int] = field(default_factory=list)
    due: list[int] = field(default_factory=list)
    """Of each post, how many live receipts there were and how many there should be."""
    delivered: int = 0
    deliveries_due: int = 0
    readings: int = 0
    longest_fanout: int = 0
    longest_follow: int = 0
    longest_lane: int = 0
    busiest: float = 0.0
    """Seconds of processor of the busiest node, and of the log server, until the last live receipt."""
    server: float = 0.0
    seconds: float = 0.0
    ended: float = 0.0


# --- the machinery ------------------------------------------------------------------------------------------------------------


class Loop:
    """Events in the order of their times; those of the same time in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._line: list[tuple[float, int, Call]] = []
        self._number = 0

    def after(self, seconds: float, call: Call) -> None:
        self._number += 1
        heapq.heappush(self._line, (self.now + seconds, self._number, call))

    def run(self) -> None:
        while self._line:
            self.now, _, call = heapq.heappop(self._line)
            call()


class Machine:
    """So many processors; whoever finds none free waits for its turn."""

    def __init__(self, cores: int) -> None:
        self._free = cores
        self._waiting: deque[Call] = deque()

    def take(self, call: Call) -> None:
        if self._free:
            self._free -= 1
            call()
        else:
            self._waiting.append(call)

    def give(self) -> None:
        if self._waiting:
            self._waiting.popleft()()
        else:
            self._free += 1


class Process:
    """Does one thing at a time, in the order asked for, while it has a processor of its machine; `used` is its time on it."""

    def __init__(self, loop: Loop, machine: Machine) -> None:
        self.loop = loop
        self.used = 0.0
        self._machine = machine
        self._tasks: deque[tuple[float, Call]] = deque()
        self._idle = True

    def do(self, seconds: float, then: Call) -> None:
        self._tasks.append((seconds, then))
        if self._idle:
            self._idle = False
            self._machine.take(self._begin)

    def _begin(self) -> None:
        seconds, then = self._tasks.popleft()
        self.used += seconds
        self.loop.after(seconds, partial(self._end, then))

    def _end(self, then: Call) -> None:
        self._machine.give()
        then()
        if self._tasks:
            self._machine.take(self._begin)
        else:
            self._idle = True


# --- what is simulated --------------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Post:
    """An alert: its number, its place, when it was posted, the node that took it."""

    number: int
    place: int
    at: float
    node: Node | None = None


class Server:
    """The log: takes what has come in, writes it to the disk in one go, answers, and passes it on to every node."""

    def __init__(self, process: Process, units: Units, hop: float) -> None:
        self.process = process
        self.nodes: list[Node] = []
        self._units = units
        self._hop = hop
        self._arrived: list[tuple[Node, list[Post]]] = []
        self._busy = False

    def append(self, node: Node, batch: list[Post]) -> None:
        self._arrived.append((node, batch))
        if not self._busy:
            self._turn()

    def other_work(self, seconds: float) -> None:
        self.process.do(seconds, _nothing)

    def _turn(self) -> None:
        self._busy = True
        batches, self._arrived = self._arrived, []
        number = sum(len(batch) for _, batch in batches)
        each = self._units.server_append + len(self.nodes) * self._units.server_ship
        self.process.do(number * each + self._units.server_sync, partial(self._written, batches))

    def _written(self, batches: list[tuple[Node, list[Post]]]) -> None:
        for writer, batch in batches:
            self.process.loop.after(self._hop, partial(writer.confirmed, batch))
        # The others wait for the mark, which the writers set once they were answered: two ways more.
        entries = [post for _, batch in batches for post in batch]
        for node in self.nodes:
            own_only = len(batches) == 1 and batches[0][0] is node
            self.process.loop.after(self._hop * (1 if own_only else 3), partial(node.hear, entries))
        self._busy = False
        if self._arrived:
            self._turn()


class Node:
    """A node: takes posts, follows the log, tells its live subscribers and its share of the durable ones."""

    def __init__(self, process: Process, server: Server, world: World) -> None:
        self.process = process
        self._server = server
        self._world = world
        self._units = world.units
        self._hop = world.question.hop
        self._waiting: list[Post] = []
        self._sending = False
        self._heard: deque[Post] = deque()
        self._applying = False
        self._told: deque[Post] = deque()
        self._telling = False
        self.lanes: dict[int, deque[Post]] = {}
        """Of each receiver whose lane this node runs, what it is still to get; the first is under way where the receiver is busy."""
        self._due: deque[int] = deque()
        self._busy_lanes: set[int] = set()
        self._flying = 0
        self._launching = False

    # Posts

    def post(self, post: Post) -> None:
        post.node = self
        alone = self._world.question.one_by_one
        self.process.do(self._units.post_alone if alone else self._units.post, partial(self._judged, post))

    def readings(self, number: int) -> None:
        self.process.do(number * self._units.reading, partial(self._readings_kept, number))

    def _readings_kept(self, number: int) -> None:
        self._world.found.readings += number
        self._server.other_work(number * self._units.server_reading)

    def _judged(self, post: Post) -> None:
        self._waiting.append(post)
        self._send()

    def _send(self) -> None:
        if not self._sending and self._waiting:
            self._sending = True
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            self.process.loop.after(self._hop, partial(self._server.append, self, batch))

    def confirmed(self, _batch: list[Post]) -> None:
        self._sending = False
        self._send()

    # The log

    def hear(self, entries: Sequence[Post]) -> None:
        self._heard.extend(entries)
        self._world.found.longest_follow = max(self._world.found.longest_follow, len(self._heard))
        if not self._applying:
            self._apply()

    def _apply(self) -> None:
        self._applying = bool(self._heard)
        if not self._heard:
            return
        batch = [self._heard.popleft() for _ in range(min(PAGE, len(self._heard)))]
        self._read(batch, 0)

    def _read(self, batch: list[Post], at: int) -> None:
        """Read one entry of another node after the other; a thread does, so the loop has turns in between. One's own need not be read."""
        while at < len(batch) and batch[at].node is self:
            at += 1
        if at < len(batch):
            self.process.do(self._units.follow, partial(self._read, batch, at + 1))
        else:
            # What a batch of one's own costs is in the cost of the posts already.
            others = any(post.node is not self for post in batch)
            self.process.do(self._units.follow_batch if others else 0.0, partial(self._applied, batch))

    def _applied(self, batch: list[Post]) -> None:
        now = self.process.loop.now
        for post in batch:
            if post.node is self:
                self._world.found.answered.append((now - post.at, 1))
        self._told.extend(batch)
        self._world.found.longest_fanout = max(self._world.found.longest_fanout, len(self._told))
        if not self._telling:
            self._tell()
        if self.lanes:
            for post in batch:
                self.process.do(self._units.match, partial(self._plan, post))
        self._apply()

    # Live subscribers

    def _tell(self) -> None:
        self._telling = bool(self._told)
        if self._told:
            post = self._told.popleft()
            number = self._world.subscribers(post, self)
            costs = self._units.match + (self._units.encode if number else 0.0)
            self.process.do(costs, partial(self._tell_slice, post, number))

    def _tell_slice(self, post: Post, left: int) -> None:
        if not left:
            self._tell()
            return
        each = self._world.receipt
        number = min(left, max(1, int(SLICE_SECONDS / each)))
        self.process.do(number * each, partial(self._written, post, number, left - number))

    def _written(self, post: Post, number: int, left: int) -> None:
        self._world.received(post, number)
        self._tell_slice(post, left)

    # Durable receivers

    def _plan(self, post: Post) -> None:
        for receiver in self._world.wanting(post, self):
            lane = self.lanes[receiver]
            lane.append(post)
            self._world.found.longest_lane = max(self._world.found.longest_lane, len(lane))
            if receiver not in self._busy_lanes:
                self._busy_lanes.add(receiver)
                self._due.append(receiver)
        self._launch()

    def _launch(self) -> None:
        if self._launching or not self._due or self._flying >= IN_FLIGHT:
            return
        self._launching = True
        number = min(LAUNCHES, len(self._due), IN_FLIGHT - self._flying)
        self._flying += number
        receivers = [self._due.popleft() for _ in range(number)]
        self.process.do(number * self._units.attempt, partial(self._launched, receivers))

    def _launched(self, receivers: list[int]) -> None:
        self._launching = False
        self.process.loop.after(self._world.question.answer, partial(self._landed, receivers))
        self._launch()

    def _landed(self, receivers: list[int]) -> None:
        self._flying -= len(receivers)
        for receiver in receivers:
            lane = self.lanes[receiver]
            self._world.found.durable.append((self.process.loop.now - lane.popleft().at, 1))
            self._world.found.delivered += 1
            if lane:
                self._due.append(receiver)
            else:
                self._busy_lanes.discard(receiver)
        self._server.other_work(len(receivers) * self._units.server_attempt)
        self._launch()


def _nothing() -> None:
    return


class World:
    """Everything, and who listens where."""

    def __init__(self, question: Question, units: Units) -> None:
        self.question = question
        self.units = units
        self.found = Found()
        self.receipt = (units.receipt_sse + units.receipt_ws) / 2
        self.loop = Loop()
        self._dice = random.Random(question.seed)
        prefectures = municipalities()
        self._prefecture = [prefectures[place % len(prefectures)] for place in range(question.places)]
        self._shares = shares_of(question)
        shared = Machine(question.shared_cores) if question.shared_cores else None

        def process() -> Process:
            return Process(self.loop, shared or Machine(1))

        self.server = Server(process(), units, question.hop)
        self.nodes = [Node(process(), self.server, self) for _ in range(question.nodes)]
        self.server.nodes = self.nodes
        self.client = process() if shared else None
        self._number = {node: number for number, node in enumerate(self.nodes)}
        self._wanting_at: list[dict[str, list[int]]] = [{} for _ in self.nodes]
        self._place_receivers()

    def run(self) -> Found:
        posts = self._posts()
        self.found.got = [0] * len(posts)
        self.found.last = [0.0] * len(posts)
        self.found.due = [self._live_total(post) for post in posts]
        if self.question.webhooks:
            self.found.deliveries_due = sum(
                len(self.wanting(post, node)) for post in posts for node in self.nodes
            )
        self._left = sum(self.found.due)
        if self.question.one_by_one:
            self._rest = deque(posts)
            self._next_post()
        else:
            for post in posts:
                self.loop.after(post.at, partial(self._post, post))
        if self.question.sensors:
            self._observe(0)
        self.loop.run()
        self.found.ended = self.loop.now
        return self.found

    # Who listens

    def subscribers(self, post: Post, node: Node) -> int:
        """Return how many live connections of a node an alert goes to: its place's people, spread evenly, and receivers."""
        number, nodes = self._number[node], len(self.nodes)
        everybody = self._shares[post.place]
        mine = everybody // nodes + ((number + post.place) % nodes < everybody % nodes)
        return mine + len(self._wanting_at[number].get(self._prefecture[post.place], ()))

    def wanting(self, post: Post, node: Node) -> Sequence[int]:
        """Return the receivers that want an alert and whose lanes a node runs."""
        return self._wanting_at[self._number[node]].get(self._prefecture[post.place], ())

    def received(self, post: Post, number: int) -> None:
        if self.client is not None:
            self.client.do(number * self.units.client_receipt, partial(self._note, post, number))
        else:
            self._note(post, number)

    def _note(self, post: Post, number: int) -> None:
        now, found = self.loop.now, self.found
        found.live.append((now - post.at, number))
        found.got[post.number] += number
        found.last[post.number] = now - post.at
        self._left -= number
        if not self._left:
            found.seconds = now
            found.busiest = max(node.process.used for node in self.nodes)
            found.server = self.server.process.used
        if self.question.one_by_one and found.got[post.number] == found.due[post.number]:
            self._next_post()

    def _live_total(self, post: Post) -> int:
        return sum(self.subscribers(post, node) for node in self.nodes)

    def _place_receivers(self) -> None:
        names = sorted(set(self._prefecture))
        for receiver in range(self.question.receivers):
            at = receiver % len(self.nodes)
            if self.question.webhooks:
                self.nodes[at].lanes[receiver] = deque()
            takes = names if receiver < self.question.national else [names[receiver % len(names)]]
            for name in takes:
                self._wanting_at[at].setdefault(name, []).append(receiver)

    # Who sends

    def _posts(self) -> list[Post]:
        question = self.question
        moments = sorted(self._dice.random() * question.within for _ in range(question.posts))
        places = list(range(question.places))
        self._dice.shuffle(places)
        return [Post(number, places[number % len(places)], at) for number, at in enumerate(moments)]

    def _post(self, post: Post) -> None:
        node = self._dice.choice(self.nodes)
        if self.client is not None:
            self.client.do(self.units.client_post, partial(node.post, post))
        else:
            node.post(post)

    def _next_post(self) -> None:
        if self._rest:
            post = self._rest.popleft()
            post.at = self.loop.now
            self._post(post)

    def _observe(self, turn: int) -> None:
        """Take a list of readings, and the next one when it is due, as long as somebody still waits for an alert."""
        self.nodes[turn % len(self.nodes)].readings(READINGS_IN_POST)
        if self._left:
            pause = self.question.every / self.question.sensors * READINGS_IN_POST
            self.loop.after(pause, partial(self._observe, turn + 1))


def simulate(question: Question, units: Units) -> Found:
    """Return what comes of a question."""
    return World(question, units).run()


def municipalities() -> list[str]:
    """Return the prefecture of each of the 1,741."""
    rows = csv.DictReader(io.StringIO(gazetteer_csv().decode()))
    return [
        row["prefecture"]
        for row in rows
        if row["kind"] in ("municipality", "city-with-wards") and row["code5"] not in NORTHERN
    ]


def shares_of(question: Question) -> list[int]:
    """Return how many subscribers each place has, all together as many as are asked for."""
    weights = [1 / (rank + 1) ** question.skew for rank in range(question.places)]
    upto, given, total, shares = 0.0, 0, sum(weights), []
    for weight in weights:
        upto += weight
        share = round(question.subscribers * upto / total) - given
        given += share
        shares.append(share)
    return shares


def quantile(weighted: Sequence[tuple[float, int]], q: float) -> float:
    """Return the least value that the given part of all does not exceed; 0 of none."""
    ordered = sorted(weighted)
    wanted = q * sum(number for _, number in ordered)
    seen = 0
    for value, number in ordered:
        seen += number
        if seen >= wanted:
            return value
    return 0.0


# --- what is printed ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Year:
    """What a year brings. `flood_days`: on so many a sensor reports every so many seconds, else once a day."""

    alerts: int = 500_000
    flood_days: int = 10
    sensors: int = 100_000
    every: float = 600.0
    webhooks: int = 167
    """Deliveries of one alert: 140 to those who take everything, 27 to those who take its prefecture."""

    def readings(self, days: int) -> int:
        """Return the readings of the last so many days; the days of flood are among them."""
        flood = min(self.flood_days, days)
        return round(self.sensors * (flood * 86_400 / self.every + days - flood))


COSTS: Final = {
    "post": "node: a post, from HTTP to the answer, in a crowd",
    "post_alone": "node: a post that comes alone",
    "follow": "node: an entry of another node, read and taken into the view",
    "follow_batch": "node: more for each batch of them",
    "match": "node: who wants an alert, of 100,000 different filters",
    "encode": "node: an alert written down once for all who get the same",
    "receipt_sse": "node: a live receipt, SSE",
    "receipt_ws": "node: a live receipt, WebSocket",
    "attempt": "node: a webhook delivered and recorded",
    "reading": "node: a reading taken and judged, in lists of 100",
    "server_append": "log server: an append",
    "server_ship": "log server: an entry passed on to one node",
    "server_sync": "log server: one write to its disk",
    "server_attempt": "log server: a delivery recorded",
    "server_reading": "log server: a reading kept",
    "load": "node that starts: an entry of history",
    "node_bytes": "node: itself",
    "sse_bytes": "node: a live connection, SSE",
    "ws_bytes": "node: a live connection, WebSocket",
    "lane_bytes": "node: a durable target",
    "entry_bytes": "node: an entry of the newest 1,000",
    "view_entry_bytes": "node's disk: an entry of 4 kB in the view",
    "server_entry_bytes": "log server: an entry of 4 kB",
    "server_reading_bytes": "log server: a reading",
    "server_attempt_bytes": "log server: what became of a delivery",
}


def costs(units: Units) -> Iterator[str]:
    """Say what the model is told of one of each thing."""
    yield from _head("one", "processor or memory")
    for name, what in COSTS.items():
        value = getattr(units, name)
        shown = f"{value / 1e3:,.2f} kB" if name.endswith("_bytes") else f"{value * 1e6:,.0f} µs"
        yield f"| {what} | {shown} |"


HEAD: Final = (
    "live connections of a node",
    "201: p50, p99 s",
    "live receipt: p50, p99, last s",
    "webhook: p50, p99, last s",
    "busy s: a node, the log server",
    "longest line: to read, to tell",
    "memory of a node GB",
)


def crowd(question: Question, units: Units, numbers: Sequence[int]) -> Iterator[str]:
    """Say, for each number of nodes, what comes of everybody posting at once."""
    yield from _head("nodes", *HEAD)
    for number in numbers:
        yield _row(str(number), replace(question, nodes=number), units)


def others(question: Question, units: Units) -> Iterator[str]:
    """Say what comes of other days, at the same number of nodes."""
    yield from _head(f"what, with {question.nodes} nodes", *HEAD)
    for what, asked in (
        ("in the same second", question),
        ("subscribers as unequal as towns", replace(question, skew=1.0)),
        ("nobody has a webhook", replace(question, webhooks=0)),
        ("within 5 seconds", replace(question, within=5.0)),
        ("within a minute", replace(question, within=60.0)),
        ("an hour of the drill of 2021", replace(question, posts=1_246, places=1_442, within=3_600.0)),
    ):
        yield _row(what, asked, units)


def _head(*cells: str) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"
    yield "|" + "---|" * len(cells)


def _row(what: str, asked: Question, units: Units) -> str:
    found = simulate(asked, units)
    cells = [
        what,
        f"{(asked.subscribers + asked.receivers) // asked.nodes:,}",
        _seconds(found.answered, 0.5, 0.99),
        _seconds(found.live, 0.5, 0.99, 1),
        _seconds(found.durable, 0.5, 0.99, 1),
        f"{found.busiest:.2f}, {found.server:.2f}",
        f"{found.longest_follow:,}, {found.longest_fanout:,}",
        f"{memory(asked, units) / 1e9:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _seconds(weighted: Sequence[tuple[float, int]], *quantiles: float) -> str:
    return ", ".join(f"{quantile(weighted, q):.2f}" for q in quantiles) if weighted else "-"


def memory(question: Question, units: Units) -> float:
    """Return the bytes that a node needs: itself, its connections, its lanes, and the entries that it keeps at hand."""
    connections = (question.subscribers + question.receivers) / question.nodes
    kept = min(question.posts, 1_000) * units.entry_bytes
    return (
        units.node_bytes
        + connections * (units.sse_bytes + units.ws_bytes) / 2
        + question.receivers / question.nodes * units.lane_bytes
        + kept
    )


def log_server(year: Year, units: Units) -> Iterator[str]:
    """Say what there is after a year, by `[retention]`: how many days are kept, 0 for all."""
    yield from _head(
        "`days`, `readings_days`",
        "alerts",
        "readings",
        "deliveries",
        "memory of the log server GB: alerts, readings, deliveries",
        "file of a node's view GB",
        "start of a node s",
    )
    for days, of_readings in ((0, 0), (400, 30), (90, 30), (30, 7)):
        alerts = year.alerts * min(days or 365, 365) // 365
        # Where alerts are deleted, so is what became of deliveries, after thirty days; else never.
        told = year.alerts * min(days, 30) // 365 if days else alerts
        readings, deliveries = year.readings(min(of_readings or 365, 365)), told * year.webhooks
        held = (
            alerts * units.server_entry_bytes,
            readings * units.server_reading_bytes,
            deliveries * units.server_attempt_bytes,
        )
        cells = [
            f"{days}, {of_readings}",
            f"{alerts:,}",
            f"{readings:,}",
            f"{deliveries:,}",
            ", ".join(f"{each / 1e9:.1f}" for each in held),
            f"{alerts * units.view_entry_bytes / 1e9:.1f}",
            f"{alerts * units.load:.0f}",
        ]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for each in fields(Question):
        if each.name != "nodes":
            word = f"--{each.name.replace('_', '-')}"
            if each.type == "bool":
                parser.add_argument(word, action="store_true")
            else:
                parser.add_argument(word, type=type(each.default), default=each.default)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    parser.add_argument("--units", type=Path, help="the costs that `bench.scaling --units` has written")
    options = vars(parser.parse_args())
    numbers, file = options.pop("nodes"), options.pop("units")
    units = Units(**json.loads(file.read_text(encoding="utf-8"))) if file else Units()
    question = Question(**options)
    for table in (
        costs(units),
        crowd(question, units, numbers),
        others(replace(question, nodes=numbers[len(numbers) // 2]), units),
        log_server(Year(), units),
    ):
        print(*table, "", sep="\n")


if __name__ == "__main__":
    main()
