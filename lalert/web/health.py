"""`/livez`, `/readyz` and `/metrics`: whether the process runs, whether it can do its work, and how it fares."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Protocol

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lalert.canary import WELL, Report
from lalert.errors import LalertError

CANARY_SECONDS = 0.5
"""How long figures wait for a canary in the air."""


class Metrics:
    """The node's own registry: few series, no label per subscriber (9,000 lines cost 70 ms of the loop, so they are made in a thread)."""

    def __init__(
        self,
        gauges: Callable[[], Mapping[str, float]],
        defects: Mapping[str, int],
        channels: Callable[[], Mapping[str, Mapping[str, float]]] = dict,
    ) -> None:
        self.registry = CollectorRegistry()
        self.accepted = Counter(
            "lalert_alerts_accepted", "Alerts accepted, by status.", ["status"], registry=self.registry
        )
        self.refused = Counter(
            "lalert_alerts_refused", "Submissions refused, by code.", ["code"], registry=self.registry
        )
        self.submit_seconds = Histogram(
            "lalert_submit_seconds",
            "From the whole body at the door to the durable commit.",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
            registry=self.registry,
        )
        self.hops = Histogram(
            "lalert_alert_hop_seconds",
            "What each hop of an alert took, from the one before it: stored (from receipt), sent (by this node), confirmed (by a receiver).",
            ["hop"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
            registry=self.registry,
        )
        self.round_trip = Histogram(
            "lalert_live_round_trip_seconds",
            "From a heartbeat on a WebSocket to the receiver's answer.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.readings = Counter(
            "lalert_readings", "Readings, by outcome.", ["outcome"], registry=self.registry
        )
        self.registry.register(_Gauges(gauges))
        self.registry.register(_Defects(defects))
        self.registry.register(_Channels(channels))

    async def text(self) -> bytes:
        """Return the exposition."""
        return await asyncio.to_thread(generate_latest, self.registry)


class _Gauges(Collector):
    def __init__(self, read: Callable[[], Mapping[str, float]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        for name, value in sorted(self._read().items()):
            yield GaugeMetricFamily(f"lalert_{name}", name.replace("_", " "), value=value)


class _Defects(Collector):
    """One series for each rule that was broken since the start: the rules are a few hundred, whoever sends."""

    def __init__(self, found: Mapping[str, int]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "lalert_defects", "Documents by rule broken or code of refusal.", labels=["rule"]
        )
        for rule, number in sorted(dict(self._found).items()):
            family.add_metric([rule], number)
        yield family


class _Channels(Collector):
    """A few series for each channel of the configuration: metric -> channel -> value."""

    def __init__(self, read: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        for name, values in sorted(self._read().items()):
            family = GaugeMetricFamily(f"lalert_channel_{name}", name.replace("_", " "), labels=["channel"])
            for channel, value in sorted(values.items()):
                family.add_metric([channel], value)
            yield family


class Newest(Protocol):
    """What the health page shows of the log."""

    @property
    def newest(self) -> str: ...


class Watch(Protocol):
    """What knows whether alerts get through (`lalert.canary.Canary`)."""

    @property
    def age(self) -> float: ...

    async def report(self) -> Report: ...


def routes(
    log: Newest, canary: Watch, metrics: Metrics, durability: str, stopping: Callable[[], bool]
) -> list[web.RouteDef]:
    """Return the three routes; `stopping` makes the node unready while it drains, so that a balancer sends nobody more.

    `durability` is what the configuration asks of the store: "memory" says that a power cut may take what was accepted.
    """

    async def livez(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        report = await canary.report()
        checks = {**report.checks, "serving": "stopping" if stopping() else WELL}
        position = _position(log)
        ready = position is not None and all(state == WELL for state in checks.values())
        shown = {
            "ready": ready,
            "checks": checks,
            "canary": {"age_s": round(canary.age, 3), "took_ms": round(1_000 * report.took, 1)},
            "durability": durability,
            "position": position,
        }
        body = orjson.dumps(shown) + b"\n"
        return web.Response(status=200 if ready else 503, body=body, content_type="application/json")

    async def exposition(request: web.Request) -> web.Response:
        # So that its figures are of now; but figures are wanted most of all when it does not come back.
        with suppress(TimeoutError):
            async with asyncio.timeout(CANARY_SECONDS):
                await canary.report()
        return web.Response(body=await metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", exposition)]


def _position(log: Newest) -> str | None:
    try:
        return log.newest
    except LalertError:  # the log has begun a new epoch, and this node is about to begin again
        return None
