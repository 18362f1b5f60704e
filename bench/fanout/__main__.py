"""Measure and print; see the package."""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench import fanout
from bench.fanout import servers
from bench.fanout.load import Crowd, Load, Sender, Unavailable, compiled
from bench.fanout.servers import Place, Server, Start

PAUSE_SECONDS: Final = 0.03
TICKS: Final = os.sysconf("SC_CLK_TCK")

SERVERS: Final[dict[str, tuple[Start, int]]] = {
    "floor": (servers.floor, 1),
    "hub": (servers.hub, 1),
    "naive": (servers.naive, 1),
    "websockets": (servers.websockets, 1),
    "nchan": (servers.nchan, 1),
    "floor2": (servers.floor, 2),
    "hub2": (servers.hub, 2),
    "nchan2": (servers.nchan, 2),
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
    others: int
    singles: int
    burst: int

    def crowd(self, server: Server) -> Crowd:
        return Crowd(self.wire, self.wanting, server.path, self.others, server.other_path)


def measure(name: str, plan: Plan) -> Result:
    """Start a server, connect everybody, publish, and collect the receipts."""
    start, cores = SERVERS[name]
    with (
        tempfile.TemporaryDirectory(prefix="lalert-bench-") as folder,
        start(Place(Path(folder), frozenset(_cores()[:cores]), plan.wire)) as server,
    ):
        before = resident_kb(server.process)
        crowd = plan.crowd(server)
        with Load(plan.client, server.port, crowd, {_cores()[-1]}) as load, _sender(server) as sender:
            connect = load.connected()
            time.sleep(0.5)
            kb = (resident_kb(server.process) - before) / crowd.total
            return _publish(server, load, sender, plan, kb, connect)


def _publish(server: Server, load: Load, sender: Sender, plan: Plan, kb: float, connect: float) -> Result:
    singles, burst, warm = plan.singles, plan.burst, 2
    requests = [server.request(number) for number in range(warm + singles + burst)]
    user, system = cpu_seconds(server.process)
    since, answers, missing, receipts = [], [], 0, 0
    for number in range(warm + singles):
        load.expect(number, 1)
        begun, answered = sender.post(requests[number])
        times = load.receipts().times[0]
        came = times[times > 0]
        receipts += len(came)
        if number == warm:
            user, system = cpu_seconds(server.process)
            receipts = 0
        if number >= warm:
            missing += load.crowd.wanting - load.crowd.stalled - len(came)
            since.append((came - begun) / 1e6)
            answers.append((answered - begun) / 1e6)
        time.sleep(PAUSE_SECONDS)
    load.expect(warm + singles, burst)
    posted = [sender.post(request) for request in requests[warm + singles :]]
    table = load.receipts().times
    came = table[table > 0]
    receipts += len(came)
    missing += burst * (load.crowd.wanting - load.crowd.stalled) - len(came)
    used = [after - before for after, before in zip(cpu_seconds(server.process), (user, system), strict=True)]
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
        kb=kb,
        connect=connect,
        missing=missing,
    )


@contextmanager
def _sender(server: Server) -> Iterator[Sender]:
    sender = Sender(server.posts)
    try:
        yield sender
    finally:
        sender.close()


def processes(root: int) -> list[int]:
    """Return a process and its children."""
    found = [root]
    for task in Path(f"/proc/{root}/task").iterdir():
        found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def cpu_seconds(root: int) -> tuple[float, float]:
    """Return what a server has used of user and of system time."""
    stats = [
        Path(f"/proc/{one}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        for one in processes(root)
    ]
    return sum(int(stat[11]) for stat in stats) / TICKS, sum(int(stat[12]) for stat in stats) / TICKS


def resident_kb(root: int) -> float:
    """Return what a server has in memory, what its processes share counted once."""
    total = 0.0
    for one in processes(root):
        lines = Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii").splitlines()
        total += next(float(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


COLUMNS: Final = (
    ("first", "first", 8), ("median", "p50", 8), ("p99", "p99", 8), ("last", "last", 8), ("answer", "answer", 8),
    ("burst_p99", "burst p99", 10), ("burst_answer", "answer", 8), ("spread", "spread", 8), ("user_us", "user us", 8),
    ("sys_us", "sys us", 8), ("kb", "kB/conn", 8), ("connect", "connect s", 10), ("missing", "missing", 8),
)  # fmt: skip


def main() -> None:
    """Parse the options, measure in turns, print as it goes."""
    parser = argparse.ArgumentParser(description=(fanout.__doc__ or "").splitlines()[0])
    parser.add_argument("--subscribers", type=int, nargs="+", default=[1_000])
    parser.add_argument("--wires", nargs="+", choices=("sse", "ws"), default=["sse", "ws"])
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--rounds", type=int, default=1, help="of every server in turn")
    parser.add_argument("--singles", type=int, default=20, help="alerts one after another")
    parser.add_argument("--burst", type=int, default=50, help="alerts at once")
    parser.add_argument(
        "--matching", type=float, default=1.0, help="share of the subscribers that want the alerts"
    )
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="lalert-bench-") as folder:
        try:
            client = compiled("client.c", Path(folder))
        except Unavailable as error:
            sys.exit(f"bench.fanout: not run: {error}")
        for subscribers in options.subscribers:
            wanting = max(1, round(subscribers * options.matching))
            for wire in options.wires:
                plan = Plan(client, wire, wanting, subscribers - wanting, options.singles, options.burst)
                compare(plan, options.servers, options.rounds)


def compare(plan: Plan, names: Sequence[str], rounds: int) -> None:
    """Measure every server in turn, some rounds, and print each figure's median with its ratio to the floor of its round."""
    print(f"\n{plan.wanting + plan.others} subscribers over {plan.wire}, {plan.wanting} of them wanting")
    titles = "".join(f"{title:>{width}}" for _, title, width in COLUMNS)
    print(f"{'':12}{titles}   last/floor burst/floor", flush=True)
    found: defaultdict[str, list[Result]] = defaultdict(list)
    ratios: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(rounds):
        base: Result | None = None
        for name in names:
            try:
                result = measure(name, plan)
            except Unavailable as error:
                print(f"{name:12} not run: {error}", flush=True)
                continue
            base = result if name == "floor" else base
            found[name].append(result)
            if base is not None:
                ratios[name].append((result.last / base.last, result.burst_p99 / base.burst_p99))
            print(_row(name, [result], ratios[name][-1:]), flush=True)
    for name, results in found.items() if rounds > 1 else ():
        print(_row(f"= {name}", results, ratios[name]), flush=True)


def _row(name: str, results: list[Result], ratios: list[tuple[float, float]]) -> str:
    cells = [
        f"{statistics.median(getattr(one, field) for one in results):{width}.2f}"
        for field, _, width in COLUMNS
    ]
    last, burst = (
        (statistics.median(column) for column in zip(*ratios, strict=True)) if ratios else (0.0, 0.0)
    )
    return f"{name:12}" + "".join(cells) + f"   {last:10.2f} {burst:11.2f}"


if __name__ == "__main__":
    main()
