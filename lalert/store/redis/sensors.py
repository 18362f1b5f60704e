"""Readings in order of arrival, and what the rules know of stations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import orjson

from lalert.model import Lease, Reading
from lalert.store import StoredReading
from lalert.store.redis.access import (
    FENCES,
    PAGE,
    Tables,
    encode,
    fence_words,
    key,
    ordered,
    require_held,
)
from lalert.store.redis.scripts import Script
from lalert.store.redis.wire import Word
from lalert.store.sqlite.codec import decode_reading, encode_reading, micros
from lalert.store.sqlite.sensors import SEQ_WINDOW_SECONDS

READINGS: Final = key("readings")
"""A stream; a reading's number is its id."""

COUNT: Final = key("readings-count")
STATES: Final = key("rule-states")
JUDGED: Final = key("judged")

_WORDS: Final = 8
"""So many arguments stand for a reading: keys of its station, kind, time, `seq` ("": none), the ends of the window in which that is the same, row."""

# Of a station, `by time` has kind, time and number of each reading, `by seq` kind, `seq` and time.
_APPEND: Final = Script(
    "append readings",
    """
    local numbers = {}
    for at = 1, #ARGV, 8 do
      local by_time, by_seq, kind, time, seq, from, to, row = unpack(ARGV, at, at + 7)
      local same = kind .. time
      local known = #redis.call('ZRANGEBYLEX', by_time, '[' .. time .. kind, '[' .. time .. kind .. '\\255', 'LIMIT', 0, 1) > 0
      if not known and seq ~= '' then
        local prefix = '[' .. kind .. seq
        known = #redis.call('ZRANGEBYLEX', by_seq, prefix .. from, prefix .. to, 'LIMIT', 0, 1) > 0
      end
      if known then
        numbers[#numbers + 1] = 0
      else
        local number = redis.call('INCR', KEYS[2])
        redis.call('XADD', KEYS[1], number .. '-0', 'r', row)
        redis.call('ZADD', by_time, 0, time .. kind .. number)
        if seq ~= '' then redis.call('ZADD', by_seq, 0, kind .. seq .. time) end
        numbers[#numbers + 1] = number
      end
    end
    return numbers
    """,
)
_SAVE: Final = Script(
    "save rule states",
    FENCES
    + """
    local names, at = lost(ARGV, 2)
    if #names > 0 then return names end
    for n = at, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1]) end
    -- A reading once judged stays judged.
    if tonumber(ARGV[1]) > tonumber(redis.call('GET', KEYS[2]) or '0') then redis.call('SET', KEYS[2], ARGV[1]) end
    return {}
    """,
)


class SensorTables(Tables):
    """Keeps `store.SensorLog`."""

    async def append_readings(
        self, tenant: str, readings: Sequence[Reading], received: datetime
    ) -> list[StoredReading | None]:
        numbers: list[int] = []
        for start in range(0, len(readings), PAGE):
            words: list[Word] = []
            for reading in readings[start : start + PAGE]:
                words += words_of(tenant, reading, received)
            numbers += await self._change(_APPEND, [READINGS, COUNT], words)
        return [
            StoredReading(number, tenant, reading, received) if number else None
            for number, reading in zip(numbers, readings, strict=True)
        ]

    async def readings(self, station: str, limit: int) -> list[StoredReading]:
        if limit <= 0:
            return []
        members = await self._look("ZREVRANGE", _by_time(station), 0, limit - 1)
        ids = [f"{member[_NUMBER_FROM:].decode()}-0" for member in reversed(members)]
        found = []
        for start in range(0, len(ids), PAGE):
            asked = [("XRANGE", READINGS, id, id) for id in ids[start : start + PAGE]]
            found += [decode_entry(*entry) for entries in await self._look_all(asked) for entry in entries]
        return found

    async def readings_after(self, number: int, limit: int) -> list[StoredReading]:
        found: list[StoredReading] = []
        while len(found) < limit:
            count = min(PAGE, limit - len(found))
            entries = await self._look("XRANGE", READINGS, f"({number}-0", "+", "COUNT", count)
            found += [decode_entry(*entry) for entry in entries]
            if len(entries) < count:
                break
            number = found[-1].number
        return found

    async def rule_state(self, station: str) -> bytes | None:
        found: bytes | None = await self._look("HGET", STATES, station)
        return found

    async def rule_states(self) -> dict[str, bytes]:
        return await self._hash(STATES)

    async def save_rule_states(
        self, states: Mapping[str, bytes], judged: int, fence: Lease | None = None
    ) -> None:
        words: list[Word] = [judged, *fence_words([] if fence is None else [fence])]
        for station, state in states.items():
            words += [station, state]
        require_held(await self._change(_SAVE, [STATES, JUDGED], words))

    async def judged(self) -> int:
        return int(await self._look("GET", JUDGED) or 0)


_NUMBER_FROM: Final = len(ordered(0)) + 2


def _by_time(station: str) -> str:
    return key("station", station, "time")


def words_of(tenant: str, reading: Reading, received: datetime) -> list[Word]:
    """Return what stands for a reading in a script (`_WORDS`)."""
    time, window = micros(reading.time), SEQ_WINDOW_SECONDS * 1_000_000
    known = reading.seq is not None
    row = encode_reading(tenant, reading, received)
    return [
        _by_time(reading.station),
        key("station", reading.station, "seq"),
        f"{reading.level_m is None:d}{reading.rain_mm is None:d}",
        ordered(time),
        ordered(reading.seq) if reading.seq is not None else "",
        ordered(time - window) if known else "",
        ordered(time + window) if known else "",
        encode(row if reading.by is not None else row[:-1]),
    ]


def decode_entry(id: bytes, fields: Sequence[bytes]) -> StoredReading:
    """Return the reading that an entry of the stream holds."""
    return decode_reading((int(id.partition(b"-")[0]), *orjson.loads(fields[1])))
