"""A backup taken into an empty Redis or Valkey: no node may open it before everything is there."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby, islice
from pathlib import Path
from typing import Final, cast

from lalert.clock import Clock
from lalert.errors import Conflict
from lalert.store import Revive
from lalert.store.audit import KeptLine, decode
from lalert.store.redis.access import PAGE, Tables, padded
from lalert.store.redis.audit import AUDITED, HEAD, LINES
from lalert.store.redis.audit import of_org as lines_of
from lalert.store.redis.confirmations import ConfirmationTable
from lalert.store.redis.directory import TENANTS, DirectoryTables
from lalert.store.redis.entries import encode, id_of
from lalert.store.redis.finding import TAG, Finder
from lalert.store.redis.keys import FORMAT, IDS, LAST, LOG, META, RESTORING, TRIMMED
from lalert.store.redis.link import Durability, Link
from lalert.store.redis.outbox import OutboxTables
from lalert.store.redis.proposals import ProposalTable
from lalert.store.redis.scores import ScoreTables
from lalert.store.redis.scripts import Script
from lalert.store.redis.sensors import COUNT, READINGS, SensorTables, words_of
from lalert.store.redis.server import require_sound_server
from lalert.store.redis.state import StateTable
from lalert.store.redis.stations import StationTable
from lalert.store.redis.wire import Wire, Word
from lalert.store.sqlite import SqliteStore
from lalert.store.sqlite.access import Opened
from lalert.store.sqlite.backup import Restored, restore

SCRATCH: Final = "restoring.db"
ALERTS: Final = 100
ROWS: Final = 500
"""So many go in one step."""

_BEGIN: Final = Script(
    "begin a restore",
    f"""
    -- KEYS: meta, log, and what no hub is without that was ever used. ARGV: a token, whether an unfinished one may be begun anew.
    if redis.call('HEXISTS', KEYS[1], 'epoch') == 1 then
      -- Whoever only looks at an empty store makes a hub of it.
      if redis.call('EXISTS', unpack(KEYS, 2)) > 0 then return 'taken' end
      redis.call('HDEL', KEYS[1], 'epoch', 'format')
    end
    local unfinished = redis.call('HEXISTS', KEYS[1], '{RESTORING}') == 1
    if unfinished and ARGV[2] ~= '1' then return 'unfinished' end
    if redis.call('EXISTS', KEYS[2]) == 1 and not unfinished then return 'taken' end
    redis.call('HSET', KEYS[1], '{RESTORING}', ARGV[1])
    return 'begun'
    """,
)
_TAKE: Final = Script(
    "take entries",
    """
    -- KEYS: log, ids. ARGV: for each entry its id, the alert's id, the digest, and eight of its fields.
    for n = 1, #ARGV, 11 do
      redis.call('XADD', KEYS[1], ARGV[n], unpack(ARGV, n + 3, n + 10))
      redis.call('HSET', KEYS[2], ARGV[n + 1], ARGV[n + 2] .. ' ' .. ARGV[n])
    end
    return 1
    """,
)
_TAKE_READINGS: Final = Script(
    "take readings",
    """
    -- ARGV: for each reading its number, and what stands for it when it is appended.
    for at = 1, #ARGV, 9 do
      local number, by_time, by_seq, kind, time, seq, _, _, row = unpack(ARGV, at, at + 8)
      redis.call('XADD', KEYS[1], number .. '-0', 'r', row)
      redis.call('ZADD', by_time, 0, time .. kind .. number)
      if seq ~= '' then redis.call('ZADD', by_seq, 0, kind .. seq .. time) end
    end
    return 1
    """,
)
_TAKE_LINES: Final = Script(
    "take audit lines",
    """
    -- ARGV: of each line number, text, hash and sorted set.
    for at = 1, #ARGV, 4 do
      redis.call('XADD', KEYS[1], ARGV[at] .. '-0', 't', ARGV[at + 1], 'h', ARGV[at + 2])
      redis.call('ZADD', ARGV[at + 3], ARGV[at], ARGV[at])
    end
    return 1
    """,
)
_END: Final = Script(
    "end a restore",
    LAST
    + f"""
    -- KEYS: meta, log, trimmed, count of readings, audit head, audited.
    -- ARGV: the token, epoch, format, the last id that the log ever gave, trimmed, readings, head ("": none), audited.
    if redis.call('HGET', KEYS[1], '{RESTORING}') ~= ARGV[1] or redis.call('HEXISTS', KEYS[1], 'epoch') == 1 then return 0 end
    if ARGV[4] ~= '0-0' and last(KEYS[2]) ~= ARGV[4] then
      redis.call('XADD', KEYS[2], ARGV[4], 'gone', '1')
      redis.call('XDEL', KEYS[2], ARGV[4])
    end
    redis.call('SET', KEYS[3], ARGV[5])
    redis.call('SET', KEYS[4], ARGV[6])
    if ARGV[7] ~= '' then redis.call('SET', KEYS[5], ARGV[7]) end
    redis.call('SET', KEYS[6], ARGV[8])
    redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'format', ARGV[3])
    redis.call('HDEL', KEYS[1], '{RESTORING}')
    return 1
    """,
)


async def restore_into(
    finder: Finder,
    file: Path,
    folder: Path,
    *,
    revive: Revive,
    clock: Clock,
    durability: Durability = "disk",
    replicas: int = 0,
    force: bool = False,
) -> Restored:
    """Take a backup into the empty store that `finder` leads to, with a new epoch; `folder` has room for a copy of the file.

    Raises `Conflict` where a hub is there already, or (without `force`) a restore that was not finished; `StoreError` for what is no sound backup. Nodes can
    open the store when it returns, and not before.
    """
    scratch = folder / SCRATCH
    _clear(scratch)
    try:
        restored = await asyncio.to_thread(restore, file, scratch, now=clock.now())

        async def greet(wire: Wire) -> None:
            await require_sound_server(wire, durability)

        async with (
            SqliteStore(scratch, revive=revive, on_append=lambda _: None, clock=clock) as source,
            Link(finder, durability=durability, replicas=replicas, on_connect=greet) as link,
        ):
            epoch = source.newest.partition("-")[0]
            await _Filling(link, epoch, clock).fill(source, force=force)
    finally:
        _clear(scratch)
    return replace(restored, moved=None)


@dataclass(slots=True)
class _Standing:
    """As much as the tables ask of a view."""

    clock: Clock
    epoch: str
    newest: int = 2**63 - 1


class _Filling(
    DirectoryTables,
    OutboxTables,
    ScoreTables,
    ConfirmationTable,
    SensorTables,
    StationTable,
    ProposalTable,
    StateTable,
    Tables,
):
    def __init__(self, link: Link, epoch: str, clock: Clock) -> None:
        self._link = link
        self._standing = _Standing(clock, epoch)

    @property
    def _parts(self) -> Opened:
        return cast("Opened", self._standing)

    async def reach(self, position: str) -> None:  # noqa: ARG002  # nobody else has told any
        return

    async def fill(self, source: SqliteStore, *, force: bool) -> None:
        token = secrets.token_hex(8)
        match await self._change(_BEGIN, [META, LOG, TENANTS, LINES, COUNT], [token, int(force)]):
            case b"taken":
                raise Conflict(
                    "there is a hub in this Redis already: name an empty one, or another db, in [store] url"
                )
            case b"unfinished":
                raise Conflict(
                    "a restore into this Redis was begun and not finished: --force begins it anew, if it no longer runs"
                )
        await self._clear()
        await self._take_alerts(source)
        await self._take_directory(source)
        await self._take_outbox(source)
        await self._take_readings(source)
        await self._take_rest(source)
        await self._take_audit(source)
        progress, head = await source.progress(), await source.audit_head()
        ended = await self._change(
            _END,
            [META, LOG, TRIMMED, COUNT, HEAD, AUDITED],
            [
                token,
                self._standing.epoch,
                FORMAT,
                id_of(progress.newest),
                padded(progress.trimmed),
                progress.readings,
                str(head) if head.number else "",
                progress.audited,
            ],
        )
        if not ended:
            raise Conflict("another restore into this Redis was begun meanwhile: empty it, and begin anew")

    async def _clear(self) -> None:
        """Remove what an unfinished restore has left."""
        cursor: Word = 0
        while True:
            cursor, names = await self._look("SCAN", cursor, "MATCH", f"{TAG}:*", "COUNT", PAGE)
            left = [name for name in names if name != META.encode()]
            if left:
                await self._look("UNLINK", *left)
            if int(cursor) == 0:
                return

    async def _take_alerts(self, source: SqliteStore) -> None:
        after: int | None = 0
        while after is not None:
            alerts, after = await source.given_alerts(after, ALERTS)
            words: list[Word] = []
            for new in alerts:
                words += [id_of(new.offset or 0), new.id, new.digest.hex(), *encode(new)]
            if words:
                await self._change(_TAKE, [LOG, IDS], words)

    async def _take_directory(self, source: SqliteStore) -> None:
        await _some_at_once(self.save_tenant(tenant) for tenant in await source.tenants())
        await _some_at_once(self.save_key(each) for each in await source.keys())

    async def _take_outbox(self, source: SqliteStore) -> None:
        await _some_at_once(
            self.save_subscription(lane.subscription, lane.cursor) for lane in await source.lanes()
        )
        last = ""
        while rows := await source.given_deliveries(last, ROWS):
            await self.record(rows, {})
            last = rows[-1].key

    async def _take_readings(self, source: SqliteStore) -> None:
        number = 0
        while page := await source.readings_after(number, ROWS):
            words: list[Word] = []
            for each in page:
                words += [each.number, *words_of(each.tenant, each.reading, each.received)]
            await self._change(_TAKE_READINGS, [READINGS], words)
            number = page[-1].number
        states = iter((await source.rule_states()).items())
        judged = await source.judged()
        while some := dict(islice(states, ROWS)):
            await self.save_rule_states(some, judged)
        await self.save_rule_states({}, judged)

    async def _take_rest(self, source: SqliteStore) -> None:
        of = ("", "")
        while page := await source.given_states(*of, ROWS):
            await _some_at_once(self.put(*state) for state in page)
            of = page[-1][:2]
        scores = await source.scores(None, None, date.min)
        for _, group in groupby(scores, key=lambda score: (score.org, score.day)):
            await self.add_scores(list(group))
        confirmed = iter(await source.confirmations())
        while some := list(islice(confirmed, ROWS)):
            await self.add_confirmations(some)
        stations = iter(await source.stations())
        while those := list(islice(stations, ROWS)):
            await self.save_stations(those)
        await _some_at_once(self.save_proposal(each) for each in await source.proposals(None, None, 2**31))

    async def _take_audit(self, source: SqliteStore) -> None:
        number = 0
        while page := await source.audit_lines(number, ROWS):
            await self._change(_TAKE_LINES, [LINES], _words(page))
            number = page[-1].number


def _words(lines: Sequence[KeptLine]) -> list[Word]:
    words: list[Word] = []
    for line in lines:
        words += [line.number, line.text, line.hash, lines_of(_org(line))]
    return words


def _org(line: KeptLine) -> str:
    with suppress(Exception):  # it was touched, and stays so: `lalert audit verify` tells
        return decode(line.text).org
    return ""


async def _some_at_once(work: Iterable[Awaitable[object]]) -> None:
    """Await all, so many at a time that they share a wait for the disk."""
    left = iter(work)
    while some := list(islice(left, ROWS)):
        await asyncio.gather(*some)


def _clear(scratch: Path) -> None:
    for name in ("", "-wal", "-shm", "-journal", ".lock"):
        with suppress(FileNotFoundError):
            scratch.with_name(scratch.name + name).unlink()
