"""How long one alert takes to the last of N live subscribers: a whole node, other servers, and a floor in C, in the same run.

    python -m bench.fanout [--subscribers 1000 5000 10000] [--rounds 1] [--servers floor hub naive ...]

Every server runs in a process of its own on the first core, the load client (C) and the sender of the alerts on the second; servers named `...2` have both. The node is
`lalert serve`, fed by `POST /v1/alerts` with validation and the durable store; the others are handed JSON of the same size, and check and keep nothing.
What a run shows is the ratios: servers take turns within a round, and each is compared with the floor of its own round.
"""

from __future__ import annotations


def marker(number: int) -> str:
    """Return what a load client looks for in the alert of that number."""
    return f"bench-{number:06d}-"
