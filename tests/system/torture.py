"""`make torture`: everything that the fault tests do a few times, many times, with a table of what was accepted, lost and doubled."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system import scenarios
from tests.system.fault_kit import Report
from tests.system.history import Verdict
from tests.system.test_store_kill import kill_and_check
from tests.unit.power_cut import SURVIVALS, cut_again_and_again, keep_the_log_small

Scenario = Callable[[Path, random.Random, int], Awaitable[Report]]

STANDARD_RUNS = 200
HEAD = f"{'scenario':36} {'runs':>6} {'accepted':>9} {'lost':>5} {'duplicated':>10} {'wrong':>6} {'longest outage':>14} {'took':>7}"


@dataclass(frozen=True, slots=True)
class Row:
    """A scenario, how often it is done when a node is killed 200 times, and how often to the same data."""

    name: str
    scenario: Scenario
    runs: int
    together: int


async def power_cuts(folder: Path, dice: random.Random, times: int) -> Report:
    """Cut the power of the embedded store in the middle of its work; some of its disks fail to sync besides."""
    with pytest.MonkeyPatch.context() as patch:
        keep_the_log_small(patch)
        survival, sync_fails = dice.choice(SURVIVALS), dice.choice([0.0, 0.02, 0.2])
        promised, _ = await cut_again_and_again(folder, dice, survival, sync_fails, times)
    return Report(Verdict(len(promised.alerts)), 0.0)


async def store_kills(folder: Path, dice: random.Random, times: int) -> Report:
    """kill -9 a process that has nothing but the embedded store, and writes as fast as it takes."""
    promised = await kill_and_check(folder / "lalert.db", dice, times)
    return Report(Verdict(len(promised.alerts)), 0.0)


ROWS = (
    Row("kill -9 of a node", scenarios.kills, 200, 10),
    Row("kill -9 of the embedded store", store_kills, 200, 20),
    Row("power cut", power_cuts, 2_000, 10),
    Row("disk full, read-only, failing", scenarios.bad_disk, 20, 2),
    Row("SIGTERM", scenarios.stops, 20, 5),
    Row("kill -9 of Valkey", scenarios.valkey_kills, 100, 10),
    Row("Valkey frozen, full, a replica", scenarios.valkey_troubles, 20, 4),
    Row("bad network to Valkey", scenarios.bad_network, 20, 4),
    Row("one killed, one frozen, one cut off", scenarios.three_nodes, 20, 4),
    Row("fail-over to a replica", scenarios.fail_overs, 20, 4),
)


async def torture(row: Row, runs: int, seed: int) -> bool:
    """Do a scenario so often and print its line; returns whether every promise was kept."""
    total, outage, done, begun = Verdict(), 0.0, 0, time.monotonic()
    while done < runs:
        times = min(row.together, runs - done)
        folder = Path(tempfile.mkdtemp(prefix="lalert-torture-"))
        try:
            report = await row.scenario(folder, random.Random(f"{seed} {row.name} {done}"), times)
        except Exception:  # noqa: BLE001  # whatever went wrong, the other scenarios are done all the same
            traceback.print_exc()
            total.wrong.append(f"run {done + 1} did not come to its end")
            print(f"from run {done + 1}, data in {folder}", file=sys.stderr)
        else:
            total.accepted += report.verdict.accepted
            total.lost += report.verdict.lost
            total.duplicated += report.verdict.duplicated
            total.wrong += report.verdict.wrong
            outage = max(outage, report.outage)
            if report.verdict.good:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                print(f"from run {done + 1}, data in {folder}:\n{report.verdict}", file=sys.stderr)
        done += times
    print(
        f"{row.name:36} {done:6} {total.accepted:9} {len(total.lost):5} {len(total.duplicated):10} {len(total.wrong):6}"
        f" {outage:12.2f} s {time.monotonic() - begun:5.0f} s",
        flush=True,
    )
    return total.good


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "runs", type=int, nargs="?", default=STANDARD_RUNS, help="kills of a node; the rest in proportion"
    )
    parser.add_argument("--only", default="", help="scenarios with this in their name")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print(f"seed {options.seed}\n{HEAD}", flush=True)
    good = True
    for row in ROWS:
        if options.only in row.name:
            runs = max(1, round(row.runs * options.runs / STANDARD_RUNS))
            good = await torture(row, runs, options.seed) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
