"""What becomes of those who stop reading, and of the others meanwhile."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.fanout.load import Unavailable
from bench.fanout.measuring import Plan, Run, running

FILL: Final = 300
"""Alerts of 2 kB after which no server's bounds hold any longer."""

GRACE_SECONDS: Final = 20.0
"""How long a server has to end the stalled after that."""


@dataclass(frozen=True, slots=True)
class Stalled:
    """The burst is sent when the stalled have been sent a little, so that all are there still.

    The memory is the most that the kernel held for each of them at the server's end.
    """

    burst_p99: float
    kernel_kb: float
    cut_off: int
    healthy_cut_off: int


def stall(name: str, plan: Plan) -> Stalled:
    """Run a burst, then send until the stalled are full, and count them."""
    with running(name, plan) as run:
        came, begun = _send(run, 0, plan.burst)
        most = kernel_kb(run.server.port, plan.stalled)
        for number in range(plan.burst, plan.burst + FILL, plan.burst):
            _send(run, number, plan.burst)
            most = max(most, kernel_kb(run.server.port, plan.stalled))
        end = time.monotonic() + GRACE_SECONDS
        number = plan.burst + FILL
        while run.load.closed()[1] < plan.stalled and time.monotonic() < end:
            _send(run, number, 1)
            number += 1
            most = max(most, kernel_kb(run.server.port, plan.stalled))
            time.sleep(0.5)
        closed, stalled = run.load.closed()
        return Stalled(
            (float(np.percentile(came, 99)) - begun) / 1e6,
            most,
            stalled,
            closed - stalled,
        )


def kernel_kb(port: int, fullest: int) -> float:
    """Return what the kernel holds for each of the `fullest` connections at a local port, closing ones and its own bookkeeping included."""
    words = ["ss", "--tcp", "--numeric", "--memory", "--no-header", "--all", f"sport = :{port}"]
    try:
        table = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise Unavailable("no ss: apt-get install iproute2") from None
    # ss(8): f is what is set aside for the socket, w what its send queue takes.
    held = sorted(
        (int(ahead) + int(queued) for ahead, queued in re.findall(r",f(\d+),w(\d+)", table)), reverse=True
    )
    return sum(held[:fullest]) / fullest / 1_000


def _send(run: Run, first: int, alerts: int) -> tuple[NDArray[np.int64], int]:
    requests = [run.server.request(number) for number in range(first, first + alerts)]
    run.load.expect(first, alerts)
    begun = time.monotonic_ns()
    for request in requests:
        run.sender.post(request)
    times = run.load.receipts().times
    return times[times > 0], begun
