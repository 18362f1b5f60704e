from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from lalert import intake
from lalert.clock import Clock
from lalert.geo import Gazetteer
from lalert.hub import Follower, Hub
from lalert.model import Entry, Filter
from lalert.store import Store
from lalert.tenancy import KeyRing
from tests.signing_kit import Signs


class GrowsWhileRead:
    """A log that is still empty when it is read, and has its first entry before the answer is made."""

    newest = "epoch-0"

    async def read(self, after: str | None, limit: int) -> Sequence[Entry]:
        self.newest = "epoch-1"
        return []


async def test_what_arrives_while_an_empty_log_is_read_is_not_skipped_by_the_next_page() -> None:
    nothing = cast("Any", None)
    hub = Hub(
        store=cast("Store", GrowsWhileRead()),
        live=cast("Follower", nothing),
        keyring=cast("KeyRing", nothing),
        gazetteer=cast("Gazetteer", nothing),
        policy=intake.Policy(),
        clock=cast("Clock", nothing),
        signing=Signs(),
        base_url=str,
    )
    page = await hub.page(Filter(), None, None, 10)
    assert (page.entries, page.next) == ((), "epoch-0")
