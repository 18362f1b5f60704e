"""What a server keeps of those who came and went."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.fanout.load import Crowd, Load, Part
from bench.fanout.measuring import SERVERS, Plan, cores, resident_kb, sender_to
from bench.fanout.servers import Place

PARTS: Final = 10


@dataclass(frozen=True, slots=True)
class Churned:
    """So many `connections`, one crowd after another, all reset by the client; `kb` is the memory after each tenth of them.

    One crowd of each tenth is told of an alert, and no more, because what a server keeps of the newest alerts is not what is looked for.
    """

    connections: int
    kb: list[float]


def churn(name: str, plan: Plan, connections: int) -> Churned:
    """Have crowds of `plan.wanting` come and go until there were so many."""
    start, count = SERVERS[name]
    rounds = max(PARTS, connections // plan.wanting)
    with (
        tempfile.TemporaryDirectory(prefix="lalert-bench-") as folder,
        start(Place(Path(folder), frozenset(cores()[:count]), plan.wire)) as server,
        sender_to(server) as sender,
    ):
        crowd = Crowd(plan.wire, Part(server.port, plan.wanting, server.path))
        kb: list[float] = []
        for number in range(rounds):
            with Load(plan.client, crowd, {cores()[-1]}) as load:
                load.connected()
                if number * PARTS // rounds == len(kb):
                    load.expect(number, 1)
                    sender.post(server.request(number))
                    load.receipts()
                    kb.append(0.0)
            kb[-1] = resident_kb(server.processes)
        return Churned(rounds * plan.wanting, kb)
