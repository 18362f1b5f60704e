"""What becomes of those who stop reading, and of the others meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.fanout.measuring import Plan, Run, running

PAGE_KB: Final = 4
FILL: Final = 300
"""Alerts of 2 kB after which no server's bounds hold any longer."""

GRACE_SECONDS: Final = 20.0
"""How long a server has to end the stalled after that."""


@dataclass(frozen=True, slots=True)
class Stalled:
    """The burst is sent when the stalled have been sent a little, so that all are there still; the memory is the most that the kernel held for each."""

    burst_p99: float
    kernel_kb: float
    cut_off: int
    healthy_cut_off: int


def stall(name: str, plan: Plan) -> Stalled:
    """Run a burst, then send until the stalled are full, and count them."""
    with running(name, plan) as run:
        before = kernel_kb()
        came, begun = _send(run, 0, plan.burst)
        most = kernel_kb()
        for number in range(plan.burst, plan.burst + FILL, plan.burst):
            _send(run, number, plan.burst)
            most = max(most, kernel_kb())
        end = time.monotonic() + GRACE_SECONDS
        number = plan.burst + FILL
        while run.load.closed()[1] < plan.stalled and time.monotonic() < end:
            _send(run, number, 1)
            number += 1
            most = max(most, kernel_kb())
            time.sleep(0.5)
        closed, stalled = run.load.closed()
        return Stalled(
            (float(np.percentile(came, 99)) - begun) / 1e6,
            (most - before) / plan.stalled,
            stalled,
            closed - stalled,
        )


def kernel_kb() -> float:
    """Return what the kernel holds for all TCP connections of this machine."""
    words = Path("/proc/net/sockstat").read_text(encoding="ascii").split("TCP:")[1].split("\n")[0].split()
    return int(words[words.index("mem") + 1]) * PAGE_KB


def _send(run: Run, first: int, alerts: int) -> tuple[NDArray[np.int64], int]:
    requests = [run.server.request(number) for number in range(first, first + alerts)]
    run.load.expect(first, alerts)
    begun = time.monotonic_ns()
    for request in requests:
        run.sender.post(request)
    times = run.load.receipts().times
    return times[times > 0], begun
