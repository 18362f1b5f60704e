"""The bus and the leases of one process: listeners hear on the event loop, there and then, and the one node holds every lease for good."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Self

from lalert.bus import Aviary, Bus, Held, HintListener, Hints, Leases, Listener, Release, Shares, Watcher
from lalert.model import Entry, Lease

log = logging.getLogger(__name__)


class LocalBus:
    """Tells listeners in the order in which they attached, entry by entry. For the event loop's thread alone."""

    def __init__(self) -> None:
        self._listeners: dict[object, Listener] = {}
        self._waiting: deque[tuple[Sequence[Entry], list[tuple[object, Listener]]]] = deque()
        self._telling = False
        self._attending: dict[object, HintListener] = {}
        self._watchers: dict[object, tuple[str, Watcher]] = {}

    def publish(self, entries: Sequence[Entry]) -> None:
        # Who attaches while this is told has its history to read, which ends with these entries: it hears what comes next.
        self._waiting.append((entries, list(self._listeners.items())))
        # A listener that publishes must not let others hear the later before the earlier.
        if self._telling:
            return
        self._telling = True
        try:
            while self._waiting:
                told, listeners = self._waiting.popleft()
                for entry in told:
                    self._tell(entry, listeners)
        finally:
            self._telling = False

    def attach(
        self, listener: Listener, *, name: str = "", watcher: Watcher | None = None
    ) -> Callable[[], None]:
        key = object()
        self._listeners[key] = listener
        if watcher is not None:
            self._watchers[key] = (name, watcher)

        def detach() -> None:
            self._listeners.pop(key, None)
            self._watchers.pop(key, None)

        return detach

    def release(self, sighted: Callable[[str], None]) -> frozenset[str]:
        watchers = list(self._watchers.values())
        for name, watcher in watchers:
            try:
                watcher(partial(sighted, name))
            except Exception:
                log.exception("a watcher of the bus failed: %s", name)
        return frozenset(name for name, _ in watchers)

    def hint(self, kind: str, subject: str) -> None:
        for listener in list(self._attending.values()):
            try:
                listener(kind, subject)
            except Exception:
                log.exception("a listener of the bus failed at a hint of %s", kind)

    def attend(self, listener: HintListener) -> Callable[[], None]:
        name = object()
        self._attending[name] = listener

        def detach() -> None:
            self._attending.pop(name, None)

        return detach

    def _tell(self, entry: Entry, listeners: Sequence[tuple[object, Listener]]) -> None:
        for name, listener in listeners:
            # It may have been detached by one that heard this before it.
            if name not in self._listeners:
                continue
            try:
                listener(entry)
            except Exception:
                log.exception("a listener of the bus failed at %s", entry.position)


class LocalLeases:
    """Holds everything, for good."""

    def divide(self, kind: str, count: int, *, release: Release | None = None) -> _AllShares:  # noqa: ARG002  # nothing is ever given back
        return _AllShares(kind, count)


class _AllShares:
    def __init__(self, kind: str, count: int) -> None:
        self.sole = True
        self.held: Held = {number: Lease(f"{kind}/{number}", "", 1) for number in range(count)}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.held = {}

    def attach(self, listener: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002  # there is nothing to be told
        return lambda: None


if TYPE_CHECKING:
    _: type[Bus] = LocalBus
    _____: type[Aviary] = LocalBus
    __: type[Hints] = LocalBus
    ___: type[Leases] = LocalLeases
    ____: type[Shares] = _AllShares
