"""A backup is a file of the embedded store: this node's view of the log as it is at one moment, and all else put beside it.

What is read later is newer. So it is read in the order in which nothing can fall between: a lane's cursor before its rows, the rules' state with the
number up to which it goes, the audit chain with the offset up to which it goes. What speaks of entries that the copy does not hold is cut back to its end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Final

import apsw

from lalert.errors import Unavailable
from lalert.store import SHARES, Score
from lalert.store.audit import EMPTY, Head
from lalert.store.redis.access import PAGE, key
from lalert.store.redis.attempts import AttemptTable
from lalert.store.redis.audit import AUDITED, HEAD
from lalert.store.redis.confirmations import ConfirmationTable
from lalert.store.redis.directory import DirectoryTables
from lalert.store.redis.keys import TRIMMED
from lalert.store.redis.proposals import ProposalTable
from lalert.store.redis.retention import RetentionTables
from lalert.store.redis.scores import ScoreTables
from lalert.store.redis.sensors import COUNT, JUDGED, STATES
from lalert.store.redis.state import StateTable
from lalert.store.redis.stations import StationTable
from lalert.store.sqlite import log
from lalert.store.sqlite.backup import back_up
from lalert.store.sqlite.codec import (
    encode_delivery,
    encode_key,
    encode_reading,
    encode_subscription,
    encode_tenant,
    micros,
)
from lalert.store.sqlite.confirmations import encode_confirmation
from lalert.store.sqlite.proposals import encode_proposal
from lalert.store.sqlite.statements import Value, all_or_nothing

Insert = tuple[str, Sequence[tuple[Value, ...]]]
"""A statement and the rows that it is executed with."""

_META: Final = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_UNCOUNTED: Final = "DELETE FROM sqlite_sequence WHERE name = ?"
_COUNTED: Final = "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)"
# Read in one step: what the rules have judged and what they know of it belong together.
_RULES: Final = "return {redis.call('GET', KEYS[2]) or '0', redis.call('HGETALL', KEYS[1])}"


class BackupTables(
    RetentionTables,
    DirectoryTables,
    AttemptTable,
    ScoreTables,
    ConfirmationTable,
    StationTable,
    ProposalTable,
    StateTable,
):
    """Keeps `store.Portable`."""

    _path: Path

    async def backup(self, target: str, *, force: bool = False) -> int:
        # What was accepted by now, on whichever node, has to be in it.
        if await self._level(at_least=True) is None:
            raise Unavailable("this node cannot follow the log now; try again, or on another node")
        loop, stop = asyncio.get_running_loop(), threading.Event()

        def fill(copy: apsw.Connection) -> None:
            inserts = self._inserts(log.newest(copy))
            while (insert := asyncio.run_coroutine_threadsafe(_next(inserts), loop).result()) is not None:
                sql, rows = insert
                with all_or_nothing(copy):
                    copy.executemany(sql, rows)

        copying = asyncio.ensure_future(
            asyncio.to_thread(back_up, self._path, Path(target), force=force, stop=stop, fill=fill)
        )
        try:
            return await asyncio.shield(copying)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.gather(copying, return_exceptions=True)
            raise

    async def _inserts(self, newest: int) -> AsyncIterator[Insert]:
        """Yield all that is not the log; `newest` is the offset that the copy of the log ends with."""
        # No offset that this log has given may be given again.
        yield _UNCOUNTED, [("entry",)]
        yield _COUNTED, [("entry", self._parts.newest)]
        yield _META, [("trimmed", min(newest, int(await self._look("GET", TRIMMED) or 0)))]
        keys = await self.keys()  # before the organisations that they need
        yield _into("tenant", 8), [encode_tenant(tenant) for tenant in await self.tenants()]
        yield _into("key", 9), [encode_key(each) for each in keys]
        yield (
            _into("subscription", 10),
            [
                (*encode_subscription(lane.subscription), min(newest, _offset(lane.cursor)))
                for lane in await self.lanes()
            ],
        )
        for share in range(SHARES):
            async for members in self._members(key("history", share), b"-", b"+"):
                rows = [(row, _offset(row.position)) for row in await self._read(members)]
                yield (
                    _into("delivery", 9),
                    [encode_delivery(row, offset) for row, offset in rows if offset <= newest],
                )
        judged, states = await self._look("EVAL", _RULES, 2, STATES, JUDGED)
        names = iter(states)
        yield _into("rule_state", 2), [(name.decode(), next(names)) for name in names]
        yield _META, [("judged", int(judged))]
        number = 0
        while page := await self.readings_after(number, PAGE):
            yield (
                _into("reading", 12),
                [(each.number, *encode_reading(each.tenant, each.reading, each.received)) for each in page],
            )
            number = page[-1].number
        yield _UNCOUNTED, [("reading",)]
        yield _COUNTED, [("reading", max(number, int(await self._look("GET", COUNT) or 0)))]
        async for insert in self._states():
            yield insert
        for score in await self.scores(None, None, date.min):
            for insert in _score(score):
                yield insert
        confirmed = [(each, _offset(each.position)) for each in await self.confirmations()]
        yield (
            _into("confirmation", 7),
            [encode_confirmation(each, offset) for each, offset in confirmed if offset <= newest],
        )
        stations = await self.stations()
        yield (
            _into("station", 4),
            [(each.id, each.org, number, each.document) for number, each in enumerate(stations, 1)],
        )
        yield _into("proposal", 12), list(map(encode_proposal, await self.proposals(None, None, 2**31)))
        async for insert in self._chain_of_lines(newest):
            yield insert

    async def _states(self) -> AsyncIterator[Insert]:
        prefix, cursor = key("state", ""), 0
        while True:
            cursor, names = await self._look("SCAN", cursor, "MATCH", prefix + "*", "COUNT", PAGE)
            owners = [name.decode() for name in names]
            for owner, values in zip(owners, await self._hashes(owners), strict=True):
                rows = [(owner.removeprefix(prefix), name, value) for name, value in values.items()]
                # A scan may give a name twice.
                yield "INSERT OR REPLACE INTO adapter_state VALUES (?, ?, ?)", rows
            if int(cursor) == 0:
                return

    async def _chain_of_lines(self, newest: int) -> AsyncIterator[Insert]:
        head, audited = await self._look("MGET", HEAD, AUDITED)
        until = EMPTY if head is None else Head.parse(head.decode())
        number, last = 0, until.number or 0
        while page := await self.audit_lines(number, min(PAGE, last - number)):
            yield (
                "INSERT INTO audit VALUES (?, CAST(? AS TEXT), ?)",
                [(line.number, line.text, line.hash) for line in page],
            )
            number = page[-1].number
        yield _META, [("audit", str(until)), ("audited", min(newest, int(audited or 0)))]


async def _next(inserts: AsyncIterator[Insert]) -> Insert | None:
    with suppress(StopAsyncIteration):
        return await anext(inserts)
    return None


def _score(score: Score) -> Iterator[Insert]:
    of = (score.org, score.day.isoformat(), score.sender)
    yield _into("score", 6), [(*of, score.accepted, score.defective, score.refused)]
    yield (
        _into("score_reason", 10),
        [
            (
                *of,
                name,
                reason.documents,
                micros(reason.first),
                micros(reason.last),
                reason.example.identifier,
                reason.example.path,
                reason.example.line,
            )
            for name, reason in score.reasons.items()
        ],
    )


def _into(table: str, columns: int) -> str:
    return f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})"  # noqa: S608  # names of our own


def _offset(position: str) -> int:
    return int(position.rpartition("-")[2])
