"""Measure and print; see the package."""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench import fanout
from bench.fanout.churning import churn
from bench.fanout.load import Unavailable, compiled
from bench.fanout.measuring import SERVERS, Plan, Result, measure
from bench.fanout.stalling import stall

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
    parser.add_argument(
        "--stalled", type=float, help="share that stops reading: measure instead what becomes of them"
    )
    parser.add_argument(
        "--churn", type=int, metavar="N", help="measure instead what is left when N have come and gone"
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
                if options.churn:
                    show_churn(plan, options.servers, options.churn)
                elif options.stalled:
                    compare_stalled(
                        replace(plan, stalled=max(1, round(wanting * options.stalled))), options.servers
                    )
                else:
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


def compare_stalled(plan: Plan, names: Sequence[str]) -> None:
    """Print what each server does with those who stop reading, and what that does to the others."""
    print(f"\n{plan.wanting} subscribers over {plan.wire}, {plan.stalled} of them read nothing")
    print(
        f"{'':12}{'burst p99':>10}{'stalled: kernel kB':>20}{'cut off':>9}{'healthy: cut off':>18}   burst/floor"
    )
    base = 0.0
    for name in names:
        try:
            found = stall(name, plan)
        except Unavailable as error:
            print(f"{name:12} not run: {error}", flush=True)
            continue
        base = base or found.burst_p99
        print(
            f"{name:12}{found.burst_p99:10.2f}{found.kernel_kb:20.1f}{found.cut_off:9}{found.healthy_cut_off:18}   {found.burst_p99 / base:11.2f}",
            flush=True,
        )


def show_churn(plan: Plan, names: Sequence[str], connections: int) -> None:
    """Print each server's memory while crowds come and go."""
    print(f"\n{plan.wanting} at a time over {plan.wire}: megabytes resident after each tenth of them")
    for name in names:
        try:
            found = churn(name, plan, connections)
        except Unavailable as error:
            print(f"{name:12} not run: {error}", flush=True)
            continue
        print(
            f"{name:12}{found.connections:10}" + "".join(f"{kb / 1024:8.1f}" for kb in found.kb), flush=True
        )


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
