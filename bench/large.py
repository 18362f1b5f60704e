"""What an alert of a megabyte costs everybody else: the longest time for which the hub's event loop does nothing else while it is taken in and told.

Run it as `python -m bench.large`. A whole node, with a stream that hears the alert, runs in this process beside a watch that wakes every
millisecond; the alerts are posted by another process. The floor is the longest pause of the same loop, on the same machine, while nothing is posted.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from lalert.cap import MAX_BYTES
from lalert.cli.serving import settle
from lalert.model import Role
from lalert.resources import gazetteer_csv
from lalert.testing.node import RunningNode, running_node

AIM_MS = 10.0
ROUNDS = 5
TICK = 0.001

_INFO = """  <info>
    <language>{language}</language><category>Met</category><event>{event}</event><urgency>Expected</urgency>
    <severity>Severe</severity><certainty>Likely</certainty><expires>2099-01-01T00:00:00+09:00</expires>
    <headline>{event}</headline><description>{text}</description>
{areas}  </info>
"""


def documents() -> dict[str, str]:
    """Return alerts of nearly a megabyte: many places, one long border, one long text."""
    rows = [line.split(",") for line in gazetteer_csv().decode().splitlines()[1:] if ",municipality," in line]
    places = [(row[1], row[5], float(row[8]), float(row[9])) for row in rows]
    return {
        "every municipality by code, in two languages": _alert(
            _info("ja", "".join(_area(name, _code(code)) for code, name, *_ in places)),
            _info("en", "".join(_area(name, _code(code)) for code, name, *_ in places)),
        ),
        "every municipality by code and circle": _alert(
            _info(
                "ja",
                "".join(_area(n, f"<circle>{y:.4f},{x:.4f} 5</circle>{_code(c)}") for c, n, x, y in places),
            ),
        ),
        "1,700 polygons of 20 points": _alert(
            _info("ja", "".join(_area(n, _polygon(x, y, 20)) for _, n, x, y in places[:1_700])),
        ),
        "a border of 45,000 points": _alert(_info("ja", _area("border", _polygon(138.0, 36.0, 45_000)))),
        "a text of 900,000 characters": _alert(_info("ja", _area("東京都", _code("130001")), "x" * 900_000)),
    }


def _alert(*infos: str) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">\n'
        "  <identifier>IDENTIFIER</identifier><sender>state@hub.example</sender><sent>SENT</sent>\n"
        "  <status>Actual</status><msgType>Alert</msgType><scope>Public</scope>\n"
        + "".join(infos)
        + "</alert>\n"
    )


def _info(language: str, areas: str, text: str = "大雨") -> str:
    return _INFO.format(
        language=language, event="大雨警報" if language == "ja" else "Heavy rain", text=text, areas=areas
    )


def _area(name: str, place: str) -> str:
    return f"    <area><areaDesc>{name}</areaDesc>{place}</area>\n"


def _code(code: str) -> str:
    return f"<geocode><valueName>JIS X 0402</valueName><value>{code}</value></geocode>"


def _polygon(lon: float, lat: float, points: int) -> str:
    ring = [
        (lat + 0.1 * math.sin(n * math.tau / points), lon + 0.1 * math.cos(n * math.tau / points))
        for n in range(points)
    ]
    return "<polygon>" + " ".join(f"{y:.5f},{x:.5f}" for y, x in [*ring, ring[0]]) + "</polygon>"


class Watch:
    """Wakes every millisecond, and notes how late."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(TICK)
            now = time.perf_counter()
            self.longest = max(self.longest, now - before - TICK)
            before = now

    async def during(self, work: Awaitable[object]) -> float:
        """Return the longest pause in milliseconds while `work` goes on."""
        await asyncio.sleep(0.05)
        self.longest = 0.0
        await work
        await asyncio.sleep(0.3)  # what follows the answer is part of it
        return self.longest * 1000


async def post(node: RunningNode, document: bytes, folder: Path) -> None:
    """Post a document from another process, so that sending it takes nothing of this loop."""
    file = folder / "alert.xml"
    file.write_bytes(document)
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lalert", "submit", str(file), "--hub", node.url),
        *("--key", node.keys[Role.SENDER]),
        stdout=asyncio.subprocess.DEVNULL,
    )
    if await client.wait():
        raise SystemExit("the hub refused the alert; see above")


async def listen(node: RunningNode) -> asyncio.subprocess.Process:
    """Start somebody who hears everything, in another process."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lalert", "tail", "--hub", node.url), stdout=asyncio.subprocess.DEVNULL
    )


async def measure() -> dict[str, float]:
    """Print the figures; return the median of the longest pauses for each document, in milliseconds."""
    medians: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with running_node(folder / "data") as node, asyncio.TaskGroup() as group:
            await node.org("state", ["all"], ["state@hub.example"])
            node.keys[Role.SENDER] = await node.key(Role.SENDER, "state")
            listener = await listen(node)
            settle()
            watch = Watch()
            ticking = group.create_task(watch.run())
            await asyncio.sleep(1.0)
            idle = [await watch.during(asyncio.sleep(0.3)) for _ in range(ROUNDS)]
            print(
                f"{'nothing (the floor)':48} {'':>9} median {statistics.median(idle):6.1f} ms, longest {max(idle):6.1f} ms"
            )
            for title, text in documents().items():
                pauses, raw = [], b""
                for round in range(ROUNDS):
                    stamp = time.strftime("%Y-%m-%dT%H:%M:%S-00:00", time.gmtime())
                    raw = (
                        text.replace("IDENTIFIER", f"large-{len(medians)}-{round}")
                        .replace("SENT", stamp)
                        .encode()
                    )
                    assert len(raw) <= MAX_BYTES, (title, len(raw))
                    pauses.append(await watch.during(post(node, raw, folder)))
                medians[title] = statistics.median(pauses)
                print(
                    f"{title:48} {len(raw) / 1000:6.0f} kB median {medians[title]:6.1f} ms, longest {max(pauses):6.1f} ms"
                )
            ticking.cancel()
            listener.terminate()
            await listener.wait()
    print(f"aim: at most {AIM_MS:g} ms")
    return medians


if __name__ == "__main__":
    asyncio.run(measure())
