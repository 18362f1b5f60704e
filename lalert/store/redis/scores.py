"""What became of each sender's documents, day by day."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import date, timedelta
from typing import Final

import orjson

from lalert.store import MAX_DAYS, MAX_SENDERS, OTHERS, Example, Reason, Score
from lalert.store.redis.access import Tables, key, ordered, require_plain, unordered
from lalert.store.redis.scripts import Script
from lalert.store.redis.wire import Word
from lalert.store.sqlite.codec import micros, moment

DAYS: Final = key("score-days")
"""A sorted set of every `day NUL organisation` that has counts; `score-days:ORG` has the days of one."""

HASHES: Final = 50
"""So many days' counts are asked for at a time."""

# One hash for an organisation and day. Its fields are `sender NUL count` for the three counts and `sender NUL reason NUL part` for the reasons.
# Numbers come as texts: those of microseconds are too long for Lua's JSON.
_ADD: Final = Script(
    "add scores",
    """
    local days, prefix, most, others = KEYS[1], ARGV[3], tonumber(ARGV[4]), ARGV[5]
    for _, score in ipairs(cjson.decode(ARGV[1])) do
      local org, day, sender = score[1], score[2], score[3]
      local counts = prefix .. 'score:' .. org .. ':' .. day
      local senders = prefix .. 'score-senders:' .. org .. ':' .. day
      if redis.call('SISMEMBER', senders, sender) == 0 and redis.call('SCARD', senders) >= most then sender = others end
      redis.call('SADD', senders, sender)
      redis.call('ZADD', days, 0, day .. '\\0' .. org)
      redis.call('ZADD', days .. ':' .. org, 0, day)
      for n, name in ipairs({'accepted', 'defective', 'refused'}) do
        redis.call('HINCRBY', counts, sender .. '\\0' .. name, score[3 + n])
      end
      for _, reason in ipairs(score[7]) do
        local field = sender .. '\\0' .. reason[1] .. '\\0'
        local first, last = reason[3], reason[4]
        local known = redis.call('HMGET', counts, field .. 'first', field .. 'last')
        redis.call('HINCRBY', counts, field .. 'documents', reason[2])
        if not known[1] or first < known[1] then redis.call('HSET', counts, field .. 'first', first) end
        if not known[2] or last >= known[2] then
          redis.call('HSET', counts, field .. 'last', last, field .. 'identifier', reason[5], field .. 'path', reason[6], field .. 'line', reason[7])
        end
      end
    end
    for _, old in ipairs(cjson.decode(ARGV[2])) do
      local org, upto = old[1], old[2]
      for _, day in ipairs(redis.call('ZRANGEBYLEX', days .. ':' .. org, '-', '[' .. upto, 'LIMIT', 0, 400)) do
        redis.call('UNLINK', prefix .. 'score:' .. org .. ':' .. day, prefix .. 'score-senders:' .. org .. ':' .. day)
        redis.call('ZREM', days .. ':' .. org, day)
        redis.call('ZREM', days, day .. '\\0' .. org)
      end
    end
    return 1
    """,
)


class ScoreTables(Tables):
    """Keeps `store.ScoreBook`."""

    async def add_scores(self, scores: Sequence[Score]) -> None:
        if not scores:
            return
        for score in scores:
            require_plain(score.sender)
        added = orjson.dumps([_words(score) for score in scores])
        newest: dict[str, date] = {}
        for score in scores:
            newest[score.org] = max(score.day, newest.get(score.org, score.day))
        old = [[org, (day - timedelta(days=MAX_DAYS)).isoformat()] for org, day in newest.items()]
        words: list[Word] = [added, orjson.dumps(old), key(""), MAX_SENDERS, OTHERS]
        await self._change(_ADD, [DAYS], words)

    async def scores(self, org: str | None, sender: str | None, since: date) -> list[Score]:
        found = []
        async for days in self._days(org, since):
            for start in range(0, len(days), HASHES):
                some = days[start : start + HASHES]
                asked = [("HGETALL", key("score", of, day)) for of, day in some]
                for (of, day), fields in zip(some, await self._look_all(asked), strict=True):
                    found += _scores(of, date.fromisoformat(day), fields)
        wanted = (score for score in found if sender is None or score.sender == sender)
        return sorted(wanted, key=lambda score: (score.org, score.day, score.sender))

    async def _days(self, org: str | None, since: date) -> AsyncIterator[list[tuple[str, str]]]:
        first = b"[" + since.isoformat().encode()
        if org is not None:
            async for page in self._members(f"{DAYS}:{org}", first, b"+"):
                yield [(org, day.decode()) for day in page]
            return
        async for page in self._members(DAYS, first, b"+"):
            yield [(of, day) for day, _, of in (member.decode().partition("\0") for member in page)]


def _words(score: Score) -> list[object]:
    reasons = [
        [
            name,
            str(reason.documents),
            ordered(micros(reason.first)),
            ordered(micros(reason.last)),
            reason.example.identifier,
            reason.example.path,
            str(reason.example.line),
        ]
        for name, reason in score.reasons.items()
    ]
    counts = (score.accepted, score.defective, score.refused)
    return [score.org, score.day.isoformat(), score.sender, *map(str, counts), reasons]


def _scores(org: str, day: date, fields: Sequence[bytes]) -> list[Score]:
    counts: dict[str, dict[str, int]] = {}
    reasons: dict[str, dict[str, dict[str, str]]] = {}
    texts = iter(fields)
    for field, value in zip(texts, texts, strict=True):
        sender, *names = field.decode().split("\0")
        if len(names) == 1:
            counts.setdefault(sender, {})[names[0]] = int(value)
        else:
            name, part = names
            reasons.setdefault(sender, {}).setdefault(name, {})[part] = value.decode()
    return [
        Score(
            org,
            sender,
            day,
            count["accepted"],
            count["defective"],
            count["refused"],
            {name: _reason(parts) for name, parts in reasons.get(sender, {}).items()},
        )
        for sender, count in counts.items()
    ]


def _reason(parts: dict[str, str]) -> Reason:
    return Reason(
        int(parts["documents"]),
        moment(unordered(parts["first"])),
        moment(unordered(parts["last"])),
        Example(parts["identifier"], parts["path"], int(parts["line"])),
    )
