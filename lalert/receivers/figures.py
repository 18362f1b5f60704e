"""The figures of one receiver, from what it has confirmed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Any, Final

from lalert.store import Confirmation

HOPS: Final = ("stored", "sent", "confirmed")
"""What is measured: the seconds from one to the next, the first from the receipt of the document."""

TOTAL: Final = "total"
"""From the receipt of the document to the confirmation."""

_SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def receiver_json(
    confirmations: Sequence[Confirmation], alerts: int, position: str | None = None
) -> dict[str, Any]:
    """Return how far a receiver is, its last `alerts` alerts (or the one at `position`) and the latency of all that are given, the newest position first."""
    newest = confirmations[0] if confirmations else None
    shown = [each for each in confirmations if position in (None, each.position)][:alerts]
    return {
        "position": newest.position if newest else None,
        "confirmed": _text(newest.confirmed) if newest else None,
        "alerts": [_alert(each) for each in shown],
        "latency": latency(confirmations),
    }


def latency(confirmations: Sequence[Confirmation]) -> dict[str, dict[str, float] | None]:
    """Return seconds by hop: the smallest values that half, nine tenths, 99 % and all stay within; None for a hop of which nothing is known."""
    taken: dict[str, list[float]] = {hop: [] for hop in (*HOPS, TOTAL)}
    for each in confirmations:
        for hop, seconds in seconds_by_hop(each):
            taken[hop].append(seconds)
    return {hop: _shares(sorted(seconds)) if seconds else None for hop, seconds in taken.items()}


def seconds_by_hop(confirmation: Confirmation) -> Iterator[tuple[str, float]]:
    """Yield what each hop took; never less than nothing, although the clocks of two nodes may differ."""
    hops = [
        ("stored", confirmation.received, confirmation.stored),
        ("sent", confirmation.stored, confirmation.sent),
        ("confirmed", confirmation.sent, confirmation.confirmed),
        (TOTAL, confirmation.received, confirmation.confirmed),
    ]
    for hop, begin, end in hops:
        if begin is not None and end is not None:
            yield hop, max(0.0, (end - begin).total_seconds())


def _shares(seconds: Sequence[float]) -> dict[str, float]:
    return {name: round(seconds[ceil(share * len(seconds)) - 1], 6) for name, share in _SHARES.items()}


def _alert(confirmation: Confirmation) -> dict[str, str | None]:
    return {
        "position": confirmation.position,
        "id": confirmation.alert,
        "received": _text(confirmation.received),
        "stored": _text(confirmation.stored),
        "sent": _text(confirmation.sent) if confirmation.sent is not None else None,
        "confirmed": _text(confirmation.confirmed),
    }


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
