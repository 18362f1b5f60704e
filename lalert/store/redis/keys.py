"""The keys of the log and of what belongs to all."""

from __future__ import annotations

from typing import Final

from lalert.store.redis.finding import TAG

META: Final = f"{TAG}:meta"
"""A hash: the epoch, the format of all keys together, and what is written only to be waited for."""
LOG: Final = f"{TAG}:log"
"""The stream of entries."""
IDS: Final = f"{TAG}:ids"
"""A hash: an alert's id -> digest of its bytes and id in the stream, apart by a space."""
MARKS: Final = f"{TAG}:marks"
"""A short stream for the followers: up to where the log is on disk, canaries, hints, a new epoch."""
TRIMMED: Final = f"{TAG}:trimmed"
"""The highest offset of what was deleted because it was over."""

RESTORING: Final = "restoring"
"""A field of META while a backup is taken in: nobody else may open the store then."""

MARKS_KEPT: Final = 1000
FORMAT: Final = 1
"""A node refuses to open what a newer one has written."""

LAST: Final = """
    local function last(key)
      if redis.call('EXISTS', key) == 0 then return '0-0' end
      local info = redis.call('XINFO', 'STREAM', key)
      for n = 1, #info, 2 do
        if info[n] == 'last-generated-id' then return info[n + 1] end
      end
    end
"""
"""In Lua: the last id that a stream ever gave."""
