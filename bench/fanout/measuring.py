"""What one server is put through, and the figures that come of it."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.fanout import servers
from bench.fanout.load import Crowd, Load, Part, Sender
from bench.fanout.servers import Place, Server, Start

PAUSE_SECONDS: Final = 0.03
TICKS: Final = os.sysconf("SC_CLK_TCK")

SERVERS: Final[dict[str, tuple[Start, int]]] = {
    "floor": (servers.floor, 1),
    "hub": (servers.hub, 1),
    "naive": (servers.naive, 1),
    "websockets": (servers.websockets, 1),
    "nchan": (servers.nchan, 1),
    "valkey": (servers.shared, 1),
    "floor2": (servers.floor, 2),
    "hub2": (servers.hub, 2),
    "nchan2": (servers.nchan, 2),
    "valkey2": (servers.shared, 2),
}
"""By name: how it is started, and on how many cores."""


@dataclass(frozen=True, slots=True)
class Result:
    """Milliseconds since the alert was posted, of single alerts unless it says burst; those of a burst count from the burst's begin."""

    first: float
    median: float
    p99: float
    last: float
    answer: float
    """From the POST to its answer, while the fan-out of that alert begins."""
    burst_p99: float
    burst_answer: float
    """The same within the burst: while the fan-out of an earlier alert runs."""
    spread: float
    """From the first to the last receipt of an alert in the burst, p99: fan-outs that overlap make it long."""
    user_us: float
    sys_us: float
    kb: float
    connect: float
    """Seconds until everybody was connected."""
    missing: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What every server of one table is put through."""

    client: Path
    wire: str
    wanting: int
    others: int = 0
    singles: int = 20
    burst: int = 50
    stalled: int = 0

    def crowd(self, server: Server) -> Crowd:
        if server.second_port:
            half = self.wanting // 2
            here, there = (Part(port, half, server.path) for port in (server.port, server.second_port))
            return Crowd(self.wire, here, there, wanting=True, stalled=self.stalled)
        wanting = Part(server.port, self.wanting, server.path)
        others = Part(server.port, self.others, server.other_path)
        return Crowd(self.wire, wanting, others, stalled=self.stalled)


@dataclass(frozen=True, slots=True)
class Run:
    """A server with its crowd connected, in `seconds`, for `kb` each."""

    server: Server
    load: Load
    sender: Sender
    seconds: float
    kb: float


@contextmanager
def running(name: str, plan: Plan) -> Iterator[Run]:
    """Start a server and connect everybody."""
    start, count = SERVERS[name]
    with (
        tempfile.TemporaryDirectory(prefix="lalert-bench-") as folder,
        start(Place(Path(folder), frozenset(cores()[:count]), plan.wire)) as server,
    ):
        before = resident_kb(server.processes)
        crowd = plan.crowd(server)
        with Load(plan.client, crowd, {cores()[-1]}) as load, sender_to(server) as sender:
            seconds = load.connected()
            time.sleep(0.5)
            kb = (resident_kb(server.processes) - before) / crowd.total
            yield Run(server, load, sender, seconds, kb)


def measure(name: str, plan: Plan) -> Result:
    """Publish single alerts and a burst, and collect the receipts."""
    with running(name, plan) as run:
        return _publish(run, plan)


def _publish(run: Run, plan: Plan) -> Result:
    server, load, sender = run.server, run.load, run.sender
    singles, burst, warm = plan.singles, plan.burst, 2
    requests = [server.request(number) for number in range(warm + singles + burst)]
    user, system = cpu_seconds(server.processes)
    since, answers, missing, receipts = [], [], 0, 0
    for number in range(warm + singles):
        load.expect(number, 1)
        begun, answered = sender.post(requests[number])
        times = load.receipts().times[0]
        came = times[times > 0]
        receipts += len(came)
        if number == warm:
            user, system = cpu_seconds(server.processes)
            receipts = 0
        if number >= warm:
            missing += load.crowd.receipts - len(came)
            since.append((came - begun) / 1e6)
            answers.append((answered - begun) / 1e6)
        time.sleep(PAUSE_SECONDS)
    load.expect(warm + singles, burst)
    posted = [sender.post(request) for request in requests[warm + singles :]]
    table = load.receipts().times
    came = table[table > 0]
    receipts += len(came)
    missing += burst * load.crowd.receipts - len(came)
    used = [
        after - before for after, before in zip(cpu_seconds(server.processes), (user, system), strict=True)
    ]
    return Result(
        first=statistics.median(float(each.min()) for each in since),
        median=float(np.median(np.concatenate(since))),
        p99=float(np.percentile(np.concatenate(since), 99)),
        last=statistics.median(float(each.max()) for each in since),
        answer=statistics.median(answers),
        burst_p99=(float(np.percentile(came, 99)) - posted[0][0]) / 1e6,
        burst_answer=statistics.median((answered - begun) / 1e6 for begun, answered in posted[1:]),
        spread=float(np.percentile([np.ptp(row[row > 0]) / 1e6 for row in table], 99)),
        user_us=used[0] * 1e6 / receipts,
        sys_us=used[1] * 1e6 / receipts,
        kb=run.kb,
        connect=run.seconds,
        missing=missing,
    )


@contextmanager
def sender_to(server: Server) -> Iterator[Sender]:
    """Connect whoever posts alerts."""
    sender = Sender(server.posts or server.port)
    try:
        yield sender
    finally:
        sender.close()


def processes(roots: Sequence[int]) -> list[int]:
    """Return processes and their children."""
    found = list(roots)
    for root in roots:
        for task in Path(f"/proc/{root}/task").iterdir():
            found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def cpu_seconds(roots: Sequence[int]) -> tuple[float, float]:
    """Return what a server has used of user and of system time."""
    stats = [
        Path(f"/proc/{one}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        for one in processes(roots)
    ]
    return sum(int(stat[11]) for stat in stats) / TICKS, sum(int(stat[12]) for stat in stats) / TICKS


def resident_kb(roots: Sequence[int]) -> float:
    """Return what a server has in memory, what its processes share counted once."""
    total = 0.0
    for one in processes(roots):
        lines = Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii").splitlines()
        total += next(float(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def cores() -> list[int]:
    """Return the cores that this process may use."""
    return sorted(os.sched_getaffinity(0))
