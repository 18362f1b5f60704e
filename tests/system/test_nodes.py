"""Two whole nodes on one Valkey: any of them may be asked for anything, and what only one may do is done by one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from lalert import cap
from lalert.app import stores
from lalert.bus.leases import LeaseTimes
from lalert.config import Hub, Settings, Station, Store, Thresholds
from lalert.model import Role
from lalert.testing import make_cap
from lalert.testing.node import RunningNode, running_node
from tests.redis_kit import free_port, valkey
from tests.signing_kit import signer
from tests.system import fault_kit

SENDER = "bousai@hitoyoshi.example"
TARGETS = 24
QUICK = LeaseTimes(renewal=0.15, hurry=0.05)
GAUGE = Station(
    id="hitoyoshi", name="人吉", org="hitoyoshi", sender="gauge@hitoyoshi.example", codes=("432032",),
    lon=130.762, lat=32.214, river="球磨川", thresholds=Thresholds(caution_m=3.0, evacuation_m=3.2, danger_m=3.4),
)  # fmt: skip


@dataclass
class Receiver:
    """Takes every webhook, and says by whom which alert came to which target."""

    url: str
    came: list[tuple[str, str]] = field(default_factory=list)
    """(target, identifier)"""

    async def take(self, request: web.Request) -> web.Response:
        self.came.append((request.match_info["target"], (await request.json())["data"]["identifier"]))
        return web.Response(status=204)

    def of(self, identifier: str) -> Counter[str]:
        return Counter(target for target, told in self.came if told == identifier)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    port = free_port()
    receiver = Receiver(f"http://127.0.0.1:{port}")
    app = web.Application()
    app.router.add_post("/{target}", receiver.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield receiver
    finally:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def quick_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "LEASE", QUICK)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not true():
            await asyncio.sleep(0.01)


async def until_async(true: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(15):
        while not await true():
            await asyncio.sleep(0.05)


def lanes(node: RunningNode) -> float:
    return node.node.dispatcher.stats()["lanes"]


async def subscribe(node: RunningNode, target: str) -> str:
    body = {"channel": "webhook", "target": target}
    url, headers = f"{node.url}/v1/subscriptions", node.headers(Role.RECEIVER)
    async with node.http.post(url, json=body, headers=headers) as answer:
        assert answer.status == 201
        return str((await answer.json())["id"])


async def call(node: RunningNode, method: str, path: str, **body: Any) -> int:
    url, headers = f"{node.url}/v1/subscriptions/{path}", node.headers(Role.RECEIVER)
    async with node.http.request(method, url, json=body or None, headers=headers) as answer:
        return answer.status


async def post(node: RunningNode, identifier: str) -> None:
    status, body = await node.post(make_cap(sender=SENDER, identifier=identifier))
    assert status == 201, body


async def test_two_nodes_share_the_targets_and_either_takes_what_is_asked_of_the_other(
    tmp_path: Path,
) -> None:
    with valkey(tmp_path / "server") as server:
        shared = Settings(store=Store(url=f"redis://127.0.0.1:{server.port}"))
        async with receiving() as receiver, running_node(tmp_path / "a", shared) as one:
            ids = {f"t{n}": await subscribe(one, f"{receiver.url}/t{n}") for n in range(TARGETS)}
            async with running_node(tmp_path / "b", shared) as two:
                two.keys = one.keys
                await until(lambda: lanes(one) + lanes(two) == TARGETS and lanes(one) and lanes(two))
                await post(two, "first")
                await until(lambda: len(receiver.of("first")) == TARGETS)

                # Whoever runs its lane, one of the two is asked at the wrong node.
                late = {
                    await subscribe(node, f"{receiver.url}/late-{n}"): n for n, node in enumerate((one, two))
                }
                for node in (one, two):
                    _, body = await node.get("/v1/subscriptions", Role.RECEIVER)
                    assert {s["id"] for s in body["subscriptions"]} == {*ids.values(), *late}
                await post(one, "second")
                await until(lambda: len(receiver.of("second")) == TARGETS + 2)
                gone = ids.pop("t0"), ids.pop("t1")
                assert [
                    await call(node, "DELETE", id) for node, id in zip((one, two), gone, strict=True)
                ] == [204, 204]
                await until(lambda: lanes(one) + lanes(two) == TARGETS)

                async def settled() -> bool:
                    _, body = await two.get(f"/v1/subscriptions/{ids['t2']}/deliveries", Role.RECEIVER)
                    return [row["state"] for row in body["deliveries"]] == ["delivered", "delivered"]

                await until_async(settled)
                _, body = await one.get(f"/v1/subscriptions/{ids['t2']}/deliveries", Role.RECEIVER)
                for times, node in enumerate((one, two), 2):
                    key = body["deliveries"][0]["key"]
                    assert await call(node, "POST", f"{ids['t2']}/redeliver", key=key) == 202
                    await until(lambda: receiver.of("second")["t2"] == times)  # noqa: B023
                    await until_async(settled)

            # One has stopped: the other runs all, at once, and repeats nothing.
            await until(lambda: lanes(one) == TARGETS)
            await post(one, "third")
            await until(lambda: len(receiver.of("third")) == TARGETS)
            assert set(receiver.of("third").values()) == set(receiver.of("first").values()) == {1}
            assert not {"t0", "t1"} & set(receiver.of("third"))


async def test_a_reading_given_to_either_node_is_judged_once_and_both_tell_the_stage(tmp_path: Path) -> None:
    with valkey(tmp_path / "server") as server:
        made = signer("hub")
        (tmp_path / "key.pem").write_text(made.key)
        (tmp_path / "certificate.pem").write_text(made.certificate)
        shared = Settings(
            hub=Hub(
                signing_key_file=str(tmp_path / "key.pem"),
                signing_certificate_file=str(tmp_path / "certificate.pem"),
            ),
            store=Store(url=f"redis://127.0.0.1:{server.port}"),
            stations=(GAUGE,),
        )
        async with running_node(tmp_path / "a", shared) as one, running_node(tmp_path / "b", shared) as two:
            two.keys = one.keys
            for node, level, minutes in ((one, 3.1, 20), (two, 3.3, 10)):
                time = datetime.now(UTC) - timedelta(minutes=minutes)
                reading = {"station": "hitoyoshi", "time": time.isoformat(), "level_m": level}
                headers = node.headers(Role.SENSOR)
                async with node.http.post(f"{node.url}/v1/readings", json=reading, headers=headers) as answer:
                    assert (await answer.json())["accepted"] == 1

            async def told_by_both() -> bool:
                bodies = [(await node.get("/v1/stations"))[1] for node in (one, two)]
                return all(body["stations"][0]["stage"] == "evacuation" for body in bodies)

            await until_async(told_by_both)
            said = [entry.alert for entry in await two.node.store.latest(10)]
            assert [alert.msg_type.value for alert in said] == ["Alert", "Update"]
            for node in (one, two):
                async with node.http.get(f"{node.url}/v1/certificate") as answer:
                    pem = await answer.text()
                assert all(cap.verify(alert.raw, [pem], datetime.now(UTC), alert).signed for alert in said)


@pytest.mark.slow
async def test_the_targets_of_a_node_that_is_killed_are_told_by_the_other_within_ten_seconds(
    tmp_path: Path,
) -> None:
    with valkey(tmp_path / "server") as server:
        store = f'[store]\nurl = "redis://127.0.0.1:{server.port}"\n'
        hubs = [fault_kit.Hub(tmp_path / name, store) for name in "ab"]
        async with fault_kit.running(*hubs), receiving() as receiver, aiohttp.ClientSession() as http:
            sender, key = await hubs[0].keys()
            await asyncio.sleep(1)
            for number in range(TARGETS):
                async with http.post(
                    f"{hubs[number % 2].url}/v1/subscriptions",
                    json={"channel": "webhook", "target": f"{receiver.url}/t{number}"},
                    headers={"Authorization": f"Bearer {key}"},
                ) as answer:
                    assert answer.status == 201

            async def post(identifier: str) -> float:
                headers = {"Authorization": f"Bearer {sender}", "Content-Type": "application/cap+xml"}
                raw = make_cap(sender=SENDER, identifier=identifier)
                async with http.post(f"{hubs[1].url}/v1/alerts", data=raw, headers=headers) as answer:
                    assert answer.status == 201
                return asyncio.get_running_loop().time()

            await asyncio.sleep(5)
            await post("before")
            await until(lambda: len(receiver.of("before")) == TARGETS)
            await hubs[0].kill()
            posted = await post("after")
            await asyncio.sleep(1)
            assert len(receiver.of("after")) < TARGETS
            await until(lambda: len(receiver.of("after")) == TARGETS)
            took = asyncio.get_running_loop().time() - posted
            print(f"taken over in {took:.1f} s")
            assert took < 10
