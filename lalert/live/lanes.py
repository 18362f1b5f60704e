"""Groups of connections that get the same bytes, in two lanes: those who hear no drills, and those who asked for them.

Each lane is served strictly in the order of positions and knows how far it is. The lane without drills is served first, and is
never behind an exercise: that is why there are two.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from lalert.live.frames import Wire
from lalert.live.window import Mark
from lalert.model import Entry, Filter, Status

if TYPE_CHECKING:
    from lalert.live.connection import Connection

DRILLS: Final = frozenset({Status.EXERCISE, Status.TEST})


class Index(Protocol):
    """Finds the filters that want an entry (`matching.FilterIndex`)."""

    def add(self, filter: Filter) -> int:
        """Take a filter in and return its number, by which it is found."""
        ...

    def discard(self, filter: Filter) -> object: ...

    def match(self, entry: Entry, lineage: Sequence[Entry]) -> npt.NDArray[np.int32]: ...

    def renewal(self) -> Callable[[], Callable[[], None]] | None:
        """Return, when it is time, what makes the index quick again: to be called in a thread, and what it returns here."""
        ...


class GroupKey(NamedTuple):
    """What decides which bytes a connection gets. `audience` is whose non-public alerts it may see: opaque here."""

    filter: Filter
    format: str
    lang: str | None
    wire: Wire
    audience: Hashable


@dataclass(slots=True, eq=False)
class Group:
    """Connections with equal keys, in the order in which they came."""

    key: GroupKey
    members: dict[Connection, None] = field(default_factory=dict)
    _listed: list[Connection] | None = None

    def add(self, conn: Connection) -> None:
        """Take one in."""
        self.members[conn] = None
        self._listed = None

    def remove(self, conn: Connection) -> None:
        """Let one go."""
        del self.members[conn]
        self._listed = None

    def everybody(self) -> list[Connection]:
        """Return who is in here now, as a list that never changes: made anew only after somebody came or went."""
        if self._listed is None:
            self._listed = list(self.members)
        return self._listed


class Lane:
    """The groups of one kind. `at` is the entry that is being served or was last; `settled` the last that everybody in here was offered."""

    def __init__(self, start: Mark, index: Index) -> None:
        self.at = start
        self.settled = start
        self.index = index
        self._numbers: dict[Filter, int] = {}
        self._groups: dict[int, dict[GroupKey, Group]] = {}

    def join(self, conn: Connection) -> None:
        """Put a connection that has been offered everything up to `at` into its group."""
        about = conn.about
        key = GroupKey(about.filter, about.format, about.lang, conn.wire, about.audience)
        number = self._numbers.get(key.filter)
        if number is None:
            number = self._numbers[key.filter] = self.index.add(key.filter)
            self._groups[number] = {}
        groups = self._groups[number]
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(key)
        group.add(conn)
        conn.group = group

    def leave(self, conn: Connection) -> None:
        """Take a connection out; an empty group goes, and with the last of its groups the filter."""
        group = conn.group
        if group is None:
            return
        conn.group = None
        group.remove(conn)
        if not group.members:
            number = self._numbers[group.key.filter]
            groups = self._groups[number]
            del groups[group.key]
            if not groups:
                del self._groups[number]
                del self._numbers[group.key.filter]
                self.index.discard(group.key.filter)

    def groups(self) -> Iterator[Group]:
        """Return all groups."""
        for groups in self._groups.values():
            yield from groups.values()

    def wanting(self, entry: Entry, lineage: Sequence[Entry]) -> Iterator[Group]:
        """Return the groups that want an entry. Raises at once what the index raises."""
        numbers = self.index.match(entry, lineage).tolist()
        return (group for number in numbers for group in self._groups[number].values())

    def filters(self) -> Collection[Filter]:
        """Return every filter that somebody in here has."""
        return self._numbers.keys()

    def variants(self) -> set[tuple[str, str | None]]:
        """Return the formats and languages that somebody in here hears."""
        return {(group.key.format, group.key.lang) for group in self.groups()}

    def count(self) -> int:
        """Return how many groups there are."""
        return sum(map(len, self._groups.values()))


def hears_drills(filter: Filter) -> bool:
    """Say in which lane a filter belongs."""
    return not DRILLS.isdisjoint(filter.statuses)


NewIndex = Callable[[], Index]
"""Makes an empty index: each lane has its own, because each is at another entry."""
