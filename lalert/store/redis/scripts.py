"""Scripts that change something, so written that sending one again after a lost answer changes nothing more."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

from lalert.store.redis.finding import TAG
from lalert.store.redis.wire import Word, pack

REMEMBERED_SECONDS: Final = 120
"""How long the reply to an operation is kept for who asks again: many times as long as anybody does (`Bounds.stall_seconds`)."""

_DUE: Final = "#!lua flags=allow-oom\n"
_ONCE: Final = """
local operation = table.remove(KEYS, 1)
local known = redis.call('GET', operation)
if known then
  -- Also a repeat writes: what was written before may not be on disk yet, and WAITAOF waits only for its own connection's writes.
  redis.call('PEXPIRE', operation, %d)
  return cmsgpack.unpack(known)
end
local function work(KEYS, ARGV)
%s
end
local reply = work(KEYS, ARGV)
redis.call('SET', operation, cmsgpack.pack(reply), 'PX', %d)
return reply
"""


class Script:
    """A Lua script that writes. It looks at everything before it changes anything: what was changed before an error stays.

    A server without memory refuses it, unless it is `due` all the same: what was accepted must be told, delivered and at last let go of.

    The server remembers what it replied to an operation and replies the same again, unless the script is `idempotent` by itself; such a one must
    write something every time. A refusal is a reply like any other, not an error. A reply is made of strings, integers below 2**53 and lists.
    """

    __slots__ = ("name", "once", "sha", "source")

    def __init__(self, name: str, body: str, *, idempotent: bool = False, due: bool = False) -> None:
        self.name = name
        self.once = not idempotent
        kept = REMEMBERED_SECONDS * 1000
        source = body if idempotent else _ONCE % (kept, body, kept)
        self.source = (_DUE + source if due else source).encode()
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], args: Sequence[Word]) -> bytes:
        """Return a call as it goes over the wire, as often as it has to be sent."""
        if self.once:
            keys = (f"{TAG}:op:{secrets.token_hex(8)}", *keys)
        return pack(("EVALSHA", self.sha, len(keys), *keys, *args))

    def __repr__(self) -> str:
        return f"<script {self.name}>"
