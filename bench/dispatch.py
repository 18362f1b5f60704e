"""A flood of messages to a town's people, with a receiver that is down: how long the last takes, and what everybody else feels.

Run it as `python -m bench.dispatch [--recipients N] [--down SECONDS]`; the night of Fukuoka (2018-07) is `--recipients 70000 --down 600`, about twelve minutes. A whole node in
its own process, with the embedded store on the disk, and three kinds of receivers:

- people: a channel that takes 10 ms for each message and 256 at a time, and answers every 500th attempt that it is asked too much (429, Retry-After 2 s), as messaging services do.
  They get 49 alerts in a burst, and five seconds later an evacuation order, the gravest, behind all that waits.
- twenty webhooks of broadcasters in another town, by the real adapter over loopback; an alert of their own comes every half second, before the flood and during it.
- one more webhook of that town, which is down from before the flood for so many seconds, and then comes back.

The floor of the flood is what the channel can take: messages x 10 ms / 256. What counts: the flood against its floor, the order against the floor of one alert, and the broadcasters' wait during the flood against theirs before it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar, Self

import aiohttp
import msgspec
from aiohttp import web

from bench.outbox import ELSEWHERE, ORG, SENDER, Sender, metrics, quantile, resident
from lalert import registry
from lalert.bus.local import LocalBus
from lalert.cli.serving import run
from lalert.clock import SystemClock
from lalert.config import Hub, Outbound, Settings
from lalert.errors import TemporaryFailure
from lalert.model import Delivery, Filter, Outcome, Role, Severity, Subscription
from lalert.plugin import HubApi, Limits
from lalert.store.sqlite import SqliteStore
from lalert.tenancy import Administration
from lalert.testing import make_cap, revive

TOWN = "432032"
ALERTS = 50
ORDER = "evacuation"
ORDER_AFTER_S = 5.0
ONE_S = 0.01
AT_ONCE = 256
REFUSED_EACH = 500
PAUSE_S = 2.0
BROADCASTERS = 20
PROBE_S = 0.5
CALM_S = 10.0
SECRET = "whsec_" + "A" * 43 + "="


class People:
    """A channel that takes what it is given a little later, now and then not at all, and keeps an account in a file."""

    class Config(msgspec.Struct):
        account: str

    drill_safe: ClassVar[bool] = False
    limits: ClassVar[Limits] = Limits(per_target=1, in_flight=AT_ONCE, timeout=15.0)

    def __init__(self, name: str, config: Config, _hub: HubApi) -> None:
        self.name = name
        self._account = Path(config.account)
        self._attempts = 0
        self._taken: Counter[str] = Counter()
        self._order: list[float] = []
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._writing = asyncio.create_task(self._write())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._writing is not None:
            self._writing.cancel()

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            new = self._account.with_suffix(".new")
            new.write_text(
                json.dumps({"taken": self._taken, "order": self._order, "attempts": self._attempts})
            )
            new.replace(self._account)

    def check_subscription(self, subscription: Subscription) -> Subscription:
        return subscription

    async def deliver(self, delivery: Delivery) -> Outcome:
        self._attempts += 1
        refused = self._attempts % REFUSED_EACH == 0
        await asyncio.sleep(ONE_S)
        if refused:
            raise TemporaryFailure("asked too much", retry_after=PAUSE_S)
        name = delivery.entry.alert.identifier
        self._taken[name] += 1
        if name == ORDER:
            self._order.append(time.time())
        return Outcome("taken")


def serve(data: Path, account: Path) -> None:
    """Run the node for ever."""
    points = registry.installed()
    points["people"] = EntryPoint("people", "bench.dispatch:People", registry.GROUP)
    registry.installed = lambda: points
    settings = Settings(
        hub=Hub(data=str(data), port=0),
        outbound=Outbound(allow=("127.0.0.0/8",)),
        adapters={"people": {"account": str(account)}, "webhook": {"allow_http": True}},
    )
    asyncio.run(run(settings))


@dataclass(slots=True)
class Receiver:
    """What the broadcasters got: of each target the identifiers in order, and when."""

    got: dict[str, list[tuple[str, float]]] = field(default_factory=dict)

    async def handle(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        self.got.setdefault(request.path, []).append((body["data"]["identifier"], time.perf_counter()))
        return web.Response(status=204)

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[int]:
        app = web.Application()
        app.router.add_post("/{tail:.*}", self.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


async def prepare(data: Path, recipients: int, urls: list[str]) -> str:
    """Fill a data directory; returns a sender's key."""
    clock = SystemClock()
    data.mkdir(mode=0o700)
    async with SqliteStore(
        data / "lalert.db", revive=revive, on_append=LocalBus().publish, clock=clock
    ) as store:
        administration = Administration(store, str, clock)
        await administration.create_org(ORG, ["43"], ["*@kumamoto.example"])
        key = await administration.create_key(ORG, Role.SENDER)
        made = datetime.now(UTC)
        town, elsewhere = (Filter(areas=frozenset({code})) for code in (TOWN, ELSEWHERE))
        wanted = [
            Subscription(f"sub-{n:016x}", "people", f"resident-{n}", town, made) for n in range(recipients)
        ]
        wanted += [
            Subscription(f"hook-{n}", "webhook", url, elsewhere, made, options={"secret": SECRET})
            for n, url in enumerate(urls)
        ]
        for first in range(0, len(wanted), 1_000):
            await asyncio.gather(
                *(store.save_subscription(one, store.newest) for one in wanted[first : first + 1_000])
            )
    return key.secret


@asynccontextmanager
async def node(data: Path, account: Path) -> AsyncIterator[tuple[str, int]]:
    """Start the node; gives its address and its process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"from bench.dispatch import serve, Path; serve(Path({str(data)!r}), Path({str(account)!r}))",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().split()[-1]
    # It says of each target that fails: who does not read that stops it.
    draining = asyncio.create_task(_drain(process.stdout))
    try:
        yield url, process.pid
    finally:
        draining.cancel()
        process.kill()
        await process.wait()


async def _drain(pipe: asyncio.StreamReader) -> None:
    while await pipe.read(65_536):
        pass


@dataclass(slots=True)
class Probes:
    """Alerts for the broadcasters' town, one every half second, until `stop`; `posted` says when each was posted."""

    sender: Sender
    posted: dict[str, float] = field(default_factory=dict)
    stop: bool = False

    async def run(self) -> None:
        while not self.stop:
            name = f"probe-{len(self.posted)}"
            raw = make_cap(sender=SENDER, codes=[ELSEWHERE], polygon=None, identifier=name)
            self.posted[name] = time.perf_counter()
            await self.sender.post(raw)
            await asyncio.sleep(PROBE_S)


async def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipients", type=int, default=5_000)
    parser.add_argument("--down", type=float, default=20.0, help="seconds that one webhook is down")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        healthy, late = Receiver(), Receiver()
        async with late.listening() as late_port:
            pass  # only its number: nobody listens there now
        async with healthy.listening() as port, aiohttp.ClientSession() as session:
            urls = [f"http://127.0.0.1:{port}/{n}" for n in range(BROADCASTERS)]
            key = await prepare(
                folder / "data", options.recipients, [*urls, f"http://127.0.0.1:{late_port}/late"]
            )
            async with node(folder / "data", folder / "account") as (url, process):
                probes = Probes(Sender(session, url, key))
                probing = asyncio.create_task(probes.run())
                down_since = time.perf_counter()
                await asyncio.sleep(CALM_S)
                before = resident(process)
                flood_at, order_at = await flood(Sender(session, url, key))
                returned: list[float] = []
                coming_back = asyncio.create_task(
                    come_back(late, late_port, down_since + options.down, probes, returned)
                )
                account, most = await drained(session, url, process, folder / "account", options.recipients)
                flood_ended = time.perf_counter()
                await coming_back
                probes.stop = True
                await probing
        missing = report(options, healthy, late, probes, account, flood_at, order_at, flood_ended, returned)
        print(f"  memory: {before / 1024:.0f} MB before the flood, {most / 1024:.0f} MB at most in it")
    return missing


async def flood(sender: Sender) -> tuple[float, float]:
    """Post the burst and then the order; returns when each was posted, the order in the clock of the wall."""
    begun = time.perf_counter()
    names = [f"notice-{n}" for n in range(ALERTS - 1)]
    await asyncio.gather(
        *(
            sender.post(
                make_cap(
                    sender=SENDER, codes=[TOWN], polygon=None, identifier=name, severity=Severity.MODERATE
                )
            )
            for name in names
        )
    )
    await asyncio.sleep(ORDER_AFTER_S)
    at = time.time()
    await sender.post(
        make_cap(sender=SENDER, codes=[TOWN], polygon=None, identifier=ORDER, severity=Severity.EXTREME)
    )
    return begun, at


async def come_back(late: Receiver, port: int, when: float, probes: Probes, returned: list[float]) -> None:
    """Let the dead webhook listen again at `when`, until it has all that was posted while it was away."""
    await asyncio.sleep(max(0.0, when - time.perf_counter()))
    owed = len(probes.posted)
    async with late.listening(port):
        returned.append(time.perf_counter())
        async with asyncio.timeout(180):
            while len({name for name, _ in late.got.get("/late", ())}) < owed:
                await asyncio.sleep(0.05)
        returned.append(time.perf_counter())


async def drained(
    session: aiohttp.ClientSession, url: str, process: int, account: Path, recipients: int
) -> tuple[dict[str, Any], float]:
    """Wait until everybody has every alert; returns the channel's account and the most memory (kB) that the node took."""
    most = 0.0
    while True:
        await asyncio.sleep(0.5)
        most = max(most, resident(process))
        said = json.loads(account.read_text())
        if sum(said["taken"].values()) >= ALERTS * recipients:
            return said, most
        if not (await metrics(session, url))["lalert_dispatch_waiting"]:
            await asyncio.sleep(1.0)
            return json.loads(account.read_text()), most


def report(
    options: argparse.Namespace,
    healthy: Receiver,
    late: Receiver,
    probes: Probes,
    account: dict[str, Any],
    flood_at: float,
    order_at: float,
    flood_ended: float,
    returned: list[float],
) -> bool:
    """Print the figures; returns whether anybody lacks anything."""
    recipients = options.recipients
    taken, one = account["taken"], recipients * ONE_S / AT_ONCE
    took = flood_ended - flood_at
    order = [at - order_at for at in account["order"]]
    print(
        f"{ALERTS} alerts to {recipients} people: {sum(taken.values())} taken in {account['attempts']} attempts, {took:.1f} s, {took / (ALERTS * one):.2f} of the channel's floor"
    )
    print(
        f"  the evacuation order, posted {ORDER_AFTER_S:.0f} s into the flood, was with half of them after {quantile(order, 0.5) / 1e3:.2f} s, with 99 % after {quantile(order, 0.99) / 1e3:.2f}, with the last after {max(order):.2f}; the channel's floor for one alert is {one:.2f}, and whom it refused waits {PAUSE_S:.0f} s"
    )
    waits: dict[bool, list[float]] = {False: [], True: []}
    lacking = 0
    for target in healthy.got.values():
        first = dict(reversed(target))
        lacking += len(probes.posted.keys() - first.keys())
        for name, at in first.items():
            posted = probes.posted[name]
            if posted < flood_ended:
                waits[posted >= flood_at].append(at - posted)
    calm, flooded = waits[False], waits[True]
    for title, times in (("before", calm), ("during", flooded)):
        print(
            f"  {BROADCASTERS} webhooks elsewhere, {title} the flood: POST to receipt p50 {quantile(times, 0.5):.1f} ms, p99 {quantile(times, 0.99):.1f}, max {1e3 * max(times):.1f}"
        )
    print(
        f"  ratio during / before: p50 {quantile(flooded, 0.5) / quantile(calm, 0.5):.2f}, p99 {quantile(flooded, 0.99) / quantile(calm, 0.99):.2f}"
    )
    names = list(dict.fromkeys(name for name, _ in late.got["/late"]))
    print(
        f"  the webhook that was down for {options.down:.0f} s got the {len(names)} alerts that it was owed within {returned[1] - returned[0]:.1f} s of its return"
    )
    short = ALERTS * recipients - sum(min(count, recipients) for count in taken.values())
    if short or lacking:
        print(f"  MISSING: {short} messages to people, {lacking} to webhooks")
    return bool(short or lacking)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
