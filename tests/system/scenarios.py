"""What is done to nodes under load. Each scenario takes a folder, a source of chance and how many times, and returns the report of the run.

The tests run them a few times; `make torture` runs them many times.
"""

from __future__ import annotations

import asyncio
import random
import resource
import time
from pathlib import Path

from tests.system.fault_kit import Hub, Report, Trial, trial

READY_SECONDS = 5.0
"""Within which /readyz must know that the disk takes nothing."""

DRAIN_SECONDS = 10.0
MARGIN = 3
"""How many times longer a busy machine may take than is promised."""

FILE_BYTES = 4_096
"""So small a bound on its files stops a node's every commit, and still lets it write its log and its lock."""


async def kills(folder: Path, dice: random.Random, times: int) -> Report:
    """kill -9 the node at random moments, and start it again."""
    hub = Hub(folder / "node")
    async with trial(hub) as this:
        for _ in range(times):
            await this.accepted(dice.randint(1, 60))
            await asyncio.sleep(dice.random() * 0.05)
            await hub.kill()
            await hub.start()
        await this.accepted(10)
        return await this.finish()


async def stops(folder: Path, dice: random.Random, times: int) -> Report:
    """Ask the node to stop (SIGTERM): it drains in time, and tells every stream so with a position."""
    hub = Hub(folder / "node")
    async with trial(hub) as this:
        wrong = []
        for round in range(1, times + 1):
            await this.accepted(dice.randint(20, 60))
            took = await hub.terminate()
            if took > DRAIN_SECONDS * MARGIN:
                wrong.append(f"the node took {took:.1f} s to stop")
            for listener in this.listeners:
                last = listener.farewells[-1] if listener.farewells else {}
                if len(listener.farewells) < round or last["code"] != 1001 or not last["position"]:
                    wrong.append(f"{listener.stream.name}: was told {last} when the node stopped")
            await hub.start()
        await this.accepted(10)
        report = await this.finish()
        report.verdict.wrong += wrong
        return report


async def bad_disk(folder: Path, dice: random.Random, times: int) -> Report:
    """Take the disk away in each of many ways under load, and give it back."""
    hub = Hub(folder / "node", module="tests.system.faulty_hub")
    async with trial(hub) as this:
        wrong: list[str] = []
        for _ in range(times):
            for word in ("full", "read-only", "io", "sync"):
                await this.accepted(dice.randint(1, 30))
                hub.order(word)
                wrong += await refused(this, hub, word)
                hub.order("heal")
                wrong += await well_again(this, hub, word)
            for word in ("once", "every-third-sync"):
                hub.order(word)
                await this.accepted(dice.randint(10, 30))
                hub.order("heal")
            before = resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, (FILE_BYTES, before[1]))
            wrong += await refused(this, hub, "a file at its limit")
            resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, before)
            wrong += await well_again(this, hub, "a file at its limit")
        await hub.kill()
        await hub.start()
        await this.accepted(10)
        report = await this.finish()
        report.verdict.wrong += wrong
        return report


async def refused(this: Trial, hub: Hub, cause: str) -> list[str]:
    """Wait until the node says that it is not ready, and see that nothing is accepted meanwhile; returns what was not so."""
    begun = time.monotonic()
    status, state = await this.ready(hub)
    while status != 503 and time.monotonic() - begun < READY_SECONDS:
        await asyncio.sleep(0.05)
        status, state = await this.ready(hub)
    if status != 503:
        return [f"{cause}: /readyz still says {state} after {READY_SECONDS:g} s"]
    await asyncio.sleep(0.05)  # for what was answered before
    accepted, answers = len(this.load.accepted_at), len(this.load.statuses)
    await asyncio.sleep(0.3)
    told = this.load.statuses[answers:]
    if len(this.load.accepted_at) > accepted or set(told) != {503}:
        return [f"{cause}: senders were answered {told}"]
    return []


async def well_again(this: Trial, hub: Hub, cause: str) -> list[str]:
    took = await this.accepted(5)
    status, state = await this.ready(hub)
    wrong = [] if status == 200 else [f"{cause}: is over, and /readyz says {state}"]
    return wrong + ([f"{cause}: is over, and it took {took:.1f} s"] if took > READY_SECONDS * MARGIN else [])
