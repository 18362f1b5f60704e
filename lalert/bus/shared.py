"""The bus of one node among many: entries come from its store, which follows the common log; hints go out by it and come back to every node."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lalert.bus import Bus, Hints
from lalert.bus.local import LocalBus


class SharedBus(LocalBus):
    """`send` is set to what gives a hint to all nodes, once there is a store to do so; until then a hint reaches nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.send: Callable[[str, str], None] | None = None

    def hint(self, kind: str, subject: str) -> None:
        if self.send is not None:
            self.send(kind, subject)

    def heard(self, kind: str, subject: str) -> None:
        """Tell this node's listeners of a hint that has come, from whichever node."""
        super().hint(kind, subject)


if TYPE_CHECKING:
    _: type[Bus] = SharedBus
    __: type[Hints] = SharedBus
