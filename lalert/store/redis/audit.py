"""The audit chain in a stream: whoever appends to it says after which line, and begins again where another was quicker."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from lalert.store.audit import EMPTY, Document, Head, KeptLine, Note, chained, decode
from lalert.store.redis.access import PAGE, Tables, key
from lalert.store.redis.scripts import Script
from lalert.store.redis.wire import Word
from lalert.store.sqlite.audit import accepted_after, documents_after

LINES: Final = key("audit")
"""A stream; a line's number is its id. `audit-of:ORG` has the numbers of an organisation's own."""

HEAD: Final = key("audit-head")
AUDITED: Final = key("audited")
"""The offset of the last accepted entry that has its line."""

_APPEND: Final = Script(
    "append audit lines",
    """
    -- ARGV: the head and the offset after which this comes, those that it leads to, and of each line number, text, hash and sorted set.
    local head, audited = redis.call('GET', KEYS[2]) or '', redis.call('GET', KEYS[3]) or '0'
    if head ~= ARGV[1] or (ARGV[2] ~= '' and audited ~= ARGV[2]) then return 0 end
    for at = 5, #ARGV, 4 do
      redis.call('XADD', KEYS[1], ARGV[at] .. '-0', 't', ARGV[at + 1], 'h', ARGV[at + 2])
      redis.call('ZADD', ARGV[at + 3], ARGV[at], ARGV[at])
    end
    redis.call('SET', KEYS[2], ARGV[3])
    if ARGV[4] ~= '' then redis.call('SET', KEYS[3], ARGV[4]) end
    return 1
    """,
    due=True,
)


class AuditTable(Tables):
    """Keeps `store.AuditLog`."""

    async def append_audit(self, notes: Sequence[Note]) -> Head:
        while True:
            before = await self.audit_head()
            if not notes:
                return before
            lines = chained(before, notes)
            if await self._chain(before, lines):
                return lines[-1].head

    async def audit_accepted(self, limit: int) -> int:
        epoch = self._parts.epoch
        while True:
            offset = int(await self._look("GET", AUDITED) or 0)
            if offset >= self._parts.newest:
                return 0
            found = await self._ask(partial(accepted_after, epoch=epoch, offset=offset, limit=limit))
            if not found:
                return 0
            before = await self.audit_head()
            if await self._chain(
                before, chained(before, [note for _, note in found]), (offset, found[-1][0])
            ):
                return len(found)

    async def documents(self, after: str | None, limit: int) -> list[Document]:
        epoch, offset = self._parts.epoch, 0 if after is None else self._offset(after)
        upto = int(await self._look("GET", AUDITED) or 0)
        return await self._ask(partial(documents_after, epoch=epoch, offset=offset, upto=upto, limit=limit))

    async def audit_lines(self, after: int, limit: int, org: str | None = None) -> list[KeptLine]:
        found: list[KeptLine] = []
        while len(found) < limit:
            count, start = min(PAGE, limit - len(found)), max(0, after)
            if org is None:
                page = _lines(await self._look("XRANGE", LINES, f"({start}-0", "+", "COUNT", count))
            else:
                page = await self._numbered(
                    "ZRANGEBYSCORE", of_org(org), f"({start}", "+inf", "LIMIT", 0, count
                )
            found += page
            if len(page) < count:
                break
            after = page[-1].number
        return found

    async def latest_audit_lines(
        self, limit: int, before: int | None = None, org: str | None = None
    ) -> list[KeptLine]:
        found: list[KeptLine] = []
        while len(found) < limit and (before is None or before > 0):
            count = min(PAGE, limit - len(found))
            if org is None:
                end = "+" if before is None else f"({before}-0"
                page = _lines(await self._look("XREVRANGE", LINES, end, "-", "COUNT", count))
            else:
                end = "+inf" if before is None else f"({before}"
                page = await self._numbered("ZREVRANGEBYSCORE", of_org(org), end, "-inf", "LIMIT", 0, count)
            found += page
            if len(page) < count:
                break
            before = page[-1].number
        return found[::-1]

    async def audit_head(self) -> Head:
        head = await self._look("GET", HEAD)
        return EMPTY if head is None else Head.parse(head.decode())

    async def _chain(
        self, before: Head, lines: Sequence[KeptLine], audited: tuple[int, int] | None = None
    ) -> bool:
        words: list[Word] = ["" if before == EMPTY else str(before)]
        words += (
            ["", str(lines[-1].head), ""]
            if audited is None
            else [audited[0], str(lines[-1].head), audited[1]]
        )
        for line in lines:
            words += [line.number, line.text, line.hash, of_org(decode(line.text).org)]
        return bool(await self._change(_APPEND, [LINES, HEAD, AUDITED], words))

    async def _numbered(self, *question: Word) -> list[KeptLine]:
        ids = [number.decode() + "-0" for number in await self._look(*question)]
        found = await self._look_all([("XRANGE", LINES, id, id) for id in ids])
        return [line for entries in found for line in _lines(entries)]


def of_org(org: str) -> str:
    """Return the sorted set with the numbers of an organisation's lines."""
    return key("audit-of", org)


def _lines(entries: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[KeptLine]:
    return [KeptLine(int(id.partition(b"-")[0]), fields[1], fields[3]) for id, fields in entries]
