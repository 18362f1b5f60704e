"""How long a new alert takes after a node was killed in a flood: until the first target has it, and until all of 70,000 have, and when it goes on with what it owes.

Run it as `python -m bench.restart [--lanes N] [--missed N] [--drills N]`. A node is killed as soon as it has answered so many alerts and drills that every target wants, and started
again. As soon as it answers, somebody posts one more for all targets, while another sender posts alerts that none of them wants, as in `bench.outbox`. Each target
has a filter of its own. With neither alerts nor drills missed, the same is measured once more when all is quiet.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections import Counter
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar

import aiohttp

from bench import outbox
from bench.outbox import Post, Sender, by_point, metrics, municipalities, node, prepare, quantile
from lalert import registry
from lalert.cli.serving import run
from lalert.config import Hub, Settings
from lalert.model import Delivery, Outcome, Status
from lalert.testing import make_cap

STEADY_S = 10.0
GIVE_UP_S = 240.0


class Watched(Post):
    """Notes when the first and the last target was told of an alert."""

    drill_safe: ClassVar[bool] = True
    lanes = 0
    told: ClassVar[Counter[str]] = Counter()

    async def deliver(self, delivery: Delivery) -> Outcome:
        outcome = await super().deliver(delivery)
        name = delivery.entry.alert.identifier
        self.told[name] += 1
        if self.told[name] in (1, self.lanes):
            with Path(os.environ["WATCHED"]).open("a") as file:
                print(name, time.monotonic(), file=file)
        return outcome


def serve(data: Path, lanes: int) -> None:
    """Run the node for ever."""
    Watched.lanes = lanes
    points = registry.installed()
    points["post"] = EntryPoint("post", "bench.restart:Watched", registry.GROUP)
    registry.installed = lambda: points
    asyncio.run(run(Settings(hub=Hub(data=str(data), port=0), adapters={"post": {}})))


async def told(sender: Sender, name: str) -> tuple[float, float, float]:
    """Post an alert for everybody; returns the seconds until it was answered, until the first target had it, and until the last."""
    begun = time.monotonic()
    answered = await sender.post(wanted(name, severity="Extreme"))
    while time.monotonic() < begun + GIVE_UP_S:
        times = [float(line.split()[1]) for line in lines() if line.startswith(f"{name} ")]
        if len(times) == 2:
            return answered, times[0] - begun, times[1] - begun
        await asyncio.sleep(0.02)
    raise TimeoutError(name)


def lines() -> list[str]:
    return Path(os.environ["WATCHED"]).read_text().splitlines()


def wanted(name: str, **about: str) -> bytes:
    return make_cap(
        sender=outbox.SENDER, codes=municipalities(), polygon=outbox.CENTRE, identifier=name, **about
    )


async def caught_up(session: aiohttp.ClientSession, url: str) -> float:
    begun = time.monotonic()
    while not (await metrics(session, url))["lalert_dispatch_caught_up"]:
        await asyncio.sleep(0.2)
    return time.monotonic() - begun


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=int, default=70_000)
    parser.add_argument("--missed", type=int, default=0)
    parser.add_argument("--drills", type=int, default=0)
    options = parser.parse_args()
    filters = [replace(one, statuses=frozenset(Status)) for one in by_point(options.lanes)]
    program = f"from bench.restart import serve, Path; serve(Path({{data!r}}), {options.lanes})"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["WATCHED"] = str(folder / "told")
        (folder / "told").touch()
        key = await prepare(folder / "all", filters, options.lanes)
        async with node(folder / "all", program) as (url, _, _), aiohttp.ClientSession() as session:
            await caught_up(session, url)
            sender = Sender(session, url, key)
            drills = [wanted(f"drill-{n}", status="Exercise") for n in range(options.drills)]
            alerts = [wanted(f"missed-{n}") for n in range(options.missed)]
            await asyncio.gather(*map(sender.post, (*drills, *alerts)))
        async with node(folder / "all", program) as (url, _, loaded_s), aiohttp.ClientSession() as session:
            (folder / "told").write_text("")
            answers = time.monotonic()
            sender, other = Sender(session, url, key), Sender(session, url, key)
            print(f"{options.lanes} lanes, {options.missed} alerts and {options.drills} drills missed")
            print(f"  started in {loaded_s:.2f} s")
            steady = asyncio.create_task(other.keep_posting(STEADY_S))
            caught = asyncio.create_task(caught_up(session, url))
            say("at once", await told(sender, "new-1"))
            waits = [wait for _, wait in await steady]
            print(
                f"  others' posts: p50 {quantile(waits, 0.5):.1f}, p99 {quantile(waits, 0.99):.1f}, max {1e3 * max(waits):.1f} ms"
            )
            print(f"  caught up after {await caught:.1f} s")
            owed = [float(line.split()[1]) for line in lines() if not line.startswith("new")]
            if owed:
                print(f"  the first delivery of what was missed: {min(owed) - answers:.2f} s")
            if not (options.missed or options.drills):
                steady = asyncio.create_task(other.keep_posting(STEADY_S))
                say("in calm", await told(sender, "new-2"))
                await steady


def say(when: str, times: tuple[float, float, float]) -> None:
    answered, first, last = times
    print(f"  a new alert {when}: 201 {1e3 * answered:.0f} ms, first {first:.2f} s, last {last:.2f} s")


if __name__ == "__main__":
    asyncio.run(main())
