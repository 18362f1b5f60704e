"""The bus of one process: the store calls `publish` on the event loop, and every listener hears it there and then."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lalert.bus import Bus, Listener
from lalert.model import Entry

log = logging.getLogger(__name__)


class LocalBus:
    """Tells listeners in the order in which they attached, entry by entry. For the event loop's thread alone."""

    def __init__(self) -> None:
        self._listeners: dict[object, Listener] = {}
        self._waiting: deque[tuple[Sequence[Entry], list[tuple[object, Listener]]]] = deque()
        self._telling = False

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

    def attach(self, listener: Listener) -> Callable[[], None]:
        name = object()
        self._listeners[name] = listener

        def detach() -> None:
            self._listeners.pop(name, None)

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


if TYPE_CHECKING:
    _: type[Bus] = LocalBus
