"""A hub of entries in a list, for the tests of adapters: everything that `HubApi` names, without a store and without a network of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lalert import matching, texts
from lalert.clock import Clock, SystemClock
from lalert.errors import BadRequest, Unavailable
from lalert.model import Entry, Filter, Reading, Subscription
from lalert.plugin import HubApi, Observed, Receipt, Room, State, Text

if TYPE_CHECKING:
    import aiohttp

MAX_BEHIND: Final = 1_000


@dataclass
class FakeHub:
    """What `add` takes is at once in `recent` and with every follower; what an adapter says is in `saved`, `confirmed` and `values`.

    `session` is the HTTP session that adapters call others with. The real hub's refuses addresses that are not public: give
    `lalert.dispatch.guarded_session([ip_network("127.0.0.0/8")])` to call a server of the test. `submit` and `observe` take nothing: an adapter that
    brings alerts in is tested against a whole node.
    """

    clock: Clock = field(default_factory=SystemClock)
    base_url: str = "http://hub.example"
    entries: list[Entry] = field(default_factory=list)
    saved: dict[str, Subscription] = field(default_factory=dict)
    confirmed: list[str] = field(default_factory=list)
    followers: list[asyncio.Queue[Entry]] = field(default_factory=list)
    waiting_for_ends: list[asyncio.Queue[Entry]] = field(default_factory=list)
    values: dict[str, bytes] = field(default_factory=dict)
    session: aiohttp.ClientSession | None = None

    def add(self, *entries: Entry) -> None:
        """Let the log grow."""
        self.entries += entries
        for queue in self.followers:
            for entry in entries:
                queue.put_nowait(entry)

    @property
    def http(self) -> aiohttp.ClientSession:
        if self.session is None:
            raise Unavailable("this fake hub calls nobody: give it a session")
        return self.session

    @property
    def state(self) -> State:
        return _Values(self.values)

    async def submit(self, raw: bytes) -> Receipt:
        raise Unavailable(f"the fake hub takes no alerts ({len(raw)} bytes)")

    async def observe(self, readings: Sequence[Reading]) -> Observed:
        raise Unavailable(f"the fake hub takes no readings ({len(readings)})")

    async def take(self, form: str, raw: bytes, *, station: str | None = None, event: str = "up") -> Observed:
        raise Unavailable(f"the fake hub takes no readings ({form} {event}, {len(raw)} bytes, {station})")

    @asynccontextmanager
    async def subscribe(
        self, filter: Filter, after: str | None = None
    ) -> AsyncIterator[AsyncIterator[Entry]]:
        queue: asyncio.Queue[Entry] = asyncio.Queue()
        seen = [entry.position for entry in self.entries].index(after) + 1 if after else len(self.entries)
        for entry in self.entries[seen:]:
            queue.put_nowait(entry)
        self.followers.append(queue)
        try:
            yield self._wanted(queue, filter)
        finally:
            self.followers.remove(queue)

    @asynccontextmanager
    async def ended(self, filter: Filter) -> AsyncIterator[AsyncIterator[Entry]]:
        queue: asyncio.Queue[Entry] = asyncio.Queue()
        self.waiting_for_ends.append(queue)
        try:
            yield self._wanted(queue, filter)
        finally:
            self.waiting_for_ends.remove(queue)

    def end(self, entry: Entry) -> None:
        """Tell whoever follows ends that an entry has ended by itself."""
        for queue in self.waiting_for_ends:
            queue.put_nowait(entry)

    async def _wanted(self, queue: asyncio.Queue[Entry], filter: Filter) -> AsyncIterator[Entry]:
        while True:
            entry = await queue.get()
            if queue.qsize() > MAX_BEHIND:
                raise Unavailable("too far behind")
            if self._wants(filter, entry):
                yield entry

    async def recent(self, filter: Filter, limit: int = 100) -> list[Entry]:
        return [entry for entry in reversed(self.entries) if self._wants(filter, entry)][:limit]

    def _wants(self, filter: Filter, entry: Entry) -> bool:
        before = self.entries[: self.entries.index(entry)]
        return matching.wants(
            filter, entry, [earlier for earlier in before if earlier.incident == entry.incident]
        )

    async def save_subscription(self, subscription: Subscription) -> None:
        self.saved[subscription.id] = subscription

    async def drop_subscription(self, subscription_id: str) -> bool:
        return self.saved.pop(subscription_id, None) is not None

    async def subscription(self, subscription_id: str) -> Subscription | None:
        return self.saved.get(subscription_id)

    async def subscriptions(self) -> list[Subscription]:
        return list(self.saved.values())

    async def confirm(self, key: str) -> None:
        self.confirmed.append(key)

    def text(self, entry: Entry, lang: str | None = None, room: Room | None = None) -> Text:
        return texts.usual().text(entry, lang, room)

    def body(self, entry: Entry, format: str = "json", lang: str | None = None) -> bytes:
        return texts.body(entry, format, lang)


if TYPE_CHECKING:
    _: type[HubApi] = FakeHub


@dataclass(frozen=True, slots=True)
class _Values:
    """The instance's small values, within the hub's bounds."""

    values: dict[str, bytes]

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def put(self, key: str, value: bytes) -> None:
        if len(key) > 200 or len(value) > 65_536:
            raise BadRequest("state: keys hold at most 200 characters, values 65536 bytes")
        self.values[key] = value

    async def delete(self, key: str) -> None:
        self.values.pop(key, None)
