"""Stations that are kept here, beside those of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lalert.errors import Conflict
from lalert.store import KeptStation
from lalert.store.redis.access import PAGE, Tables, key
from lalert.store.redis.scripts import Script
from lalert.store.redis.wire import Word

STATIONS: Final = key("stations")
"""A hash: id -> organisation, revision and document (none: forgotten), apart by line ends."""

REVISIONS: Final = key("station-revisions")
"""A sorted set of the ids by revision."""

LAST_REVISION: Final = key("station-revision")

_OF: Final = "'^([^\\n]*)\\n%d+\\n(.*)$'"
_SAVE: Final = Script(
    "save stations",
    f"""
    -- ARGV: of each station id, organisation, document. Returns the id of one that is another organisation's, or nothing.
    for at = 1, #ARGV, 3 do
      local known = redis.call('HGET', KEYS[1], ARGV[at])
      if known then
        local org, document = known:match({_OF})
        if document ~= '' and org ~= ARGV[at + 1] then return ARGV[at] end
      end
    end
    for at = 1, #ARGV, 3 do
      local revision = redis.call('INCR', KEYS[3])
      redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1] .. '\\n' .. revision .. '\\n' .. ARGV[at + 2])
      redis.call('ZADD', KEYS[2], revision, ARGV[at])
    end
    return ''
    """,
)
_FORGET: Final = Script(
    "forget station",
    f"""
    -- ARGV: id, organisation.
    local known = redis.call('HGET', KEYS[1], ARGV[1])
    if not known then return 0 end
    local org, document = known:match({_OF})
    if document == '' or org ~= ARGV[2] then return 0 end
    local revision = redis.call('INCR', KEYS[3])
    redis.call('HSET', KEYS[1], ARGV[1], org .. '\\n' .. revision .. '\\n')
    redis.call('ZADD', KEYS[2], revision, ARGV[1])
    return 1
    """,
)
# Read in one step: what is changed between two looks would be passed over.
_AFTER: Final = """
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'LIMIT', 0, ARGV[2])
if #ids == 0 then return {} end
return {ids, redis.call('HMGET', KEYS[1], unpack(ids))}
"""


class StationTable(Tables):
    """Keeps `store.Stations`."""

    async def save_stations(self, stations: Sequence[KeptStation]) -> None:
        words: list[Word] = []
        for each in stations:
            words += [each.id, each.org, each.document or b""]
        if words and (taken := await self._change(_SAVE, [STATIONS, REVISIONS, LAST_REVISION], words)):
            raise Conflict(f"the station {taken.decode()} belongs to another organisation")

    async def forget_station(self, station: str, org: str) -> bool:
        return bool(await self._change(_FORGET, [STATIONS, REVISIONS, LAST_REVISION], [station, org]))

    async def stations(self, org: str | None = None) -> list[KeptStation]:
        found = [_decode(id, value) for id, value in (await self._hash(STATIONS)).items()]
        wanted = [each for each in found if each.document is not None and org in (None, each.org)]
        return sorted(wanted, key=lambda each: each.id)

    async def station(self, station: str) -> KeptStation | None:
        value = await self._look("HGET", STATIONS, station)
        found = None if value is None else _decode(station, value)
        return None if found is None or found.document is None else found

    async def stations_after(self, revision: int, limit: int) -> list[KeptStation]:
        found: list[KeptStation] = []
        while len(found) < limit:
            count = min(PAGE, limit - len(found))
            page = await self._look("EVAL", _AFTER, 2, STATIONS, REVISIONS, revision, count)
            found += [_decode(id.decode(), value) for id, value in zip(*page, strict=True)] if page else []
            if not page or len(page[0]) < count:
                break
            revision = found[-1].revision
        return found


def _decode(id: str, value: bytes) -> KeptStation:
    org, revision, document = value.split(b"\n", 2)
    return KeptStation(id, org.decode(), document or None, int(revision))
