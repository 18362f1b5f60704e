"""What every group of tables needs: a way to write through the link, a way to ask, and numbers as texts that sort like numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Final

import orjson

from lalert.errors import BadRequest, Fenced
from lalert.model import Lease
from lalert.store.redis.finding import TAG
from lalert.store.redis.link import Link
from lalert.store.redis.scripts import Script
from lalert.store.redis.wire import Reply, Word
from lalert.store.sqlite.access import Access
from lalert.store.sqlite.statements import Value

PAGE: Final = 1000
"""So many are asked for at a time: a server has one thread, and who asks for more keeps everybody waiting."""

GROUP: Final = "nodes"
"""The consumer group in which leases stand (see `ledger`)."""

_LOWEST: Final = 2**63

FENCES: Final = """
-- Return the names of the leases among ARGV[first] and so on (how many; stream, item, owner, token, name of each) that are another's by now, and where they end.
local function lost(ARGV, first)
  local names = {}
  local at = first + 1
  for _ = 1, tonumber(ARGV[first]) do
    local held = redis.pcall('XPENDING', ARGV[at], 'nodes', ARGV[at + 1], ARGV[at + 1], 1)[1]
    if not held or held[2] ~= ARGV[at + 2] or held[4] ~= tonumber(ARGV[at + 3]) then
      names[#names + 1] = ARGV[at + 4]
    end
    at = at + 5
  end
  return names, at
end
"""


class Tables(Access):
    """Base of the groups of tables that stand in Redis; the rest of an `Access` is this node's view of the log. Closed, every method raises `StoreError`."""

    _link: Link

    @abstractmethod
    async def reach(self, position: str) -> None:
        """Wait a moment for the view where another node was before it (see `store.AlertLog`)."""

    async def _change(self, script: Script, keys: Sequence[str], args: Sequence[Word]) -> Reply:
        return await self._link.write(script, keys, args)

    async def _look(self, *command: Word) -> Reply:
        return await self._link.ask(*command)

    async def _look_all(self, commands: Sequence[Sequence[Word]]) -> list[Reply]:
        return await self._link.ask_all(commands) if commands else []

    async def _hash(self, key: str) -> dict[str, bytes]:
        return (await self._hashes([key]))[0]

    async def _hashes(self, keys: Sequence[str]) -> list[dict[str, bytes]]:
        """Return whole hashes, read in pages. What was changed meanwhile is there as it was before or after."""
        found: list[dict[str, bytes]] = [{} for _ in keys]
        cursors: dict[int, Word] = dict.fromkeys(range(len(keys)), 0)
        while cursors:
            numbers = list(cursors)
            asked = [("HSCAN", keys[n], cursors[n], "COUNT", PAGE) for n in numbers]
            for number, (cursor, pairs) in zip(numbers, await self._look_all(asked), strict=True):
                names = iter(pairs)
                found[number].update((name.decode(), next(names)) for name in names)
                cursors[number] = cursor
                if int(cursor) == 0:
                    del cursors[number]
        return found

    async def _members(self, key: str, first: bytes, last: bytes) -> AsyncIterator[list[bytes]]:
        """Yield the members of a sorted set from `first` (`[` or `(` before it) to `last`, in pages."""
        while page := await self._look("ZRANGEBYLEX", key, first, last, "LIMIT", 0, PAGE):
            yield page
            if len(page) < PAGE:
                return
            first = b"(" + page[-1]


def key(*parts: str | int) -> str:
    """Return the name of a key of ours."""
    return ":".join((TAG, *map(str, parts)))


def padded(number: int) -> str:
    """Return a number from 0 to 2**63 - 1 as text that sorts like the number: Lua and scores lose what is beyond 53 bits."""
    return f"{number:020}"


def ordered(number: int) -> str:
    """Return any 64-bit number as text that sorts like the number."""
    return f"{number + _LOWEST:020}"


def unordered(text: str | bytes) -> int:
    """Return the number that `ordered` was given."""
    return int(text) - _LOWEST


def encode(row: Iterable[Value]) -> bytes:
    """Return a row's columns as a JSON list; what is kept as bytes must be text (the JSON of a column's own)."""
    return orjson.dumps([value.decode() if isinstance(value, bytes) else value for value in row])


def within(prefix: str) -> tuple[bytes, bytes]:
    """Return the bounds of what begins with `prefix` and a NUL."""
    name = prefix.encode()
    return b"[" + name + b"\0", b"(" + name + b"\x01"


def require_plain(name: str) -> None:
    """Raise `BadRequest` for a name with a NUL in it, which parts names from one another in the sorted sets."""
    if "\0" in name:
        raise BadRequest("a name must not hold a NUL character")


def fence_words(fences: Collection[Lease]) -> list[Word]:
    """Return leases as `FENCES` takes them."""
    words: list[Word] = [len(fences)]
    for fence in fences:
        kind, _, number = fence.name.rpartition("/")
        words += [work_key(kind), item(int(number)), fence.owner, fence.token, fence.name]
    return words


def require_held(lost: Sequence[bytes]) -> None:
    """Raise `Fenced` for the names that a script has replied with."""
    if lost:
        raise Fenced([name.decode() for name in lost])


def work_key(kind: str) -> str:
    """Return the stream whose items are the shares of a kind of work."""
    return key("work", kind)


def item(number: int) -> str:
    """Return the id of a share in its stream (0-0 can be none)."""
    return f"0-{number + 1}"
