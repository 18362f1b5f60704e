"""What docs/live.md says in numbers is what holds."""

from __future__ import annotations

from pathlib import Path

from lalert.live import LiveSettings, limits, websocket
from lalert.receivers import confirming
from lalert.store import MAX_CONFIRMATIONS
from lalert.tenancy import tickets
from lalert.texts.ticker import MAX_TICKER
from lalert.web import streams

TEXT = " ".join((Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8").split())


def test_the_documentation_gives_the_bounds_that_hold() -> None:
    settings = LiveSettings()
    low, high = settings.retry_s
    crowded = limits.RETRY_SECONDS
    for said in (
        f"one line of at most {MAX_TICKER} characters",
        f"A ticket is good for {tickets.TICKET_SECONDS:g} s, once",
        f"A key may have {tickets.MAX_TICKETS:,} unused ones",
        f"ends after {streams.GAP_SECONDS:g} s with 4003",
        f"between {low:g} and {high:g} s ({crowded[0]:g} and {crowded[1]:g} s where there is no room)",
        f"behind it, the newest {websocket.MAX_OWED} |",
        f"An `id` has 1 to {websocket.MAX_NAME} characters",
        f"more than {settings.messages_per_s} a second, in bursts of {settings.messages_per_s * websocket.BURST:,}",
        f"Kept are the newest {MAX_CONFIRMATIONS} of each key",
        f"what came on a stream, within {'a' if confirming.FLUSH_SECONDS == 1 else '?'} second",
        f"more was confirmed at once than can wait ({confirming.MAX_WAITING:,})",
    ):
        assert said in TEXT, said
