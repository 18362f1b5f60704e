"""What a fail-over has lost is put back by the nodes: each has in its view what it has seen committed.

Where nothing was appended since, they go where they were, and no position changes. Where something was, they go to the end, and the log begins a new
epoch, because positions that were told now mean something else.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from lalert.store.redis.entries import FORGET, encode, id_of, offset_of
from lalert.store.redis.keys import FORMAT, IDS, LAST, LOG, MARKS, MARKS_KEPT, META, RESTORING
from lalert.store.redis.scripts import Script
from lalert.store.redis.stream import APPEND, CONFLICT, Follower, mapping
from lalert.store.redis.wire import Wire, Word
from lalert.store.sqlite.log import Columns
from lalert.store.sqlite.view import LogView

SECONDS: Final = 2.0
AT_ONCE: Final = 100
BYTES_AT_ONCE: Final = 4 * 1024 * 1024

logger = logging.getLogger(__name__)

_PUT_BACK: Final = Script(
    "put_back",
    LAST
    + """
    -- KEYS: log, ids. ARGV: the last id that the log was seen to have; then for each entry its id, the alert's id, the digest, and eight of its fields.
    if last(KEYS[1]) ~= ARGV[1] then return 0 end
    for n = 2, #ARGV, 11 do
      redis.call('XADD', KEYS[1], ARGV[n], unpack(ARGV, n + 3, n + 10))
      redis.call('HSET', KEYS[2], ARGV[n + 1], ARGV[n + 2] .. ' ' .. ARGV[n])
    end
    return 1
    """,
    idempotent=True,
    due=True,
)
_TAKE_PLACE: Final = Script(
    "take place",
    LAST
    + f"""
    -- KEYS: log. ARGV: the last id that the log was seen to have, up to where nodes have read it: what comes must come after that.
    if last(KEYS[1]) ~= ARGV[1] then return 0 end
    redis.call('XADD', KEYS[1], ARGV[2], 'v', '1', '{FORGET}', '[]')
    return 1
    """,
    idempotent=True,
    due=True,
)
_NEW_EPOCH: Final = Script(
    "new_epoch",
    f"""
    -- KEYS: meta, marks. ARGV: the epoch that is over, the one that begins.
    if redis.call('HGET', KEYS[1], 'epoch') == ARGV[1] then
      redis.call('HSET', KEYS[1], 'epoch', ARGV[2])
      redis.call('XADD', KEYS[2], 'MAXLEN', {MARKS_KEPT}, '*', 'epoch', ARGV[2])
    end
    return redis.call('HGET', KEYS[1], 'epoch')
    """,
    idempotent=True,
    due=True,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a server says of the log: its epoch, the last offset that it ever gave, and whether it has the entry that this node read last."""

    epoch: str
    """Empty where lalert has never written, or all is lost."""
    format: int
    last: int
    has_ours: bool
    restoring: bool = False
    """A backup is being taken in, or was not taken in whole."""


async def standing(wire: Wire, ours: int) -> Standing:
    """Ask a server how its log stands; `ours` is the offset that this node read last, 0 for none."""
    epoch, format, restoring = await wire.call("HMGET", META, "epoch", "format", RESTORING, seconds=SECONDS)
    last, has_ours = 0, not ours
    if await wire.call("EXISTS", LOG, seconds=SECONDS):
        answer = await wire.call("XINFO", "STREAM", LOG, seconds=SECONDS)
        info = dict(zip(answer[::2], answer[1::2], strict=True))
        last = offset_of(info[b"last-generated-id"])
        # What retention has deleted is not lost.
        has_ours = has_ours or (last >= ours and ours <= offset_of(info[b"max-deleted-entry-id"]))
        if not has_ours:
            has_ours = bool(await wire.call("XRANGE", LOG, id_of(ours), id_of(ours), seconds=SECONDS))
    return Standing(
        epoch.decode() if epoch else "", int(format or FORMAT), last, has_ours, restoring is not None
    )


async def put_back(wire: Wire, follower: Follower, there: Standing) -> str:
    """Give the server what it has lost of what this node knows to be committed; returns the epoch that then holds."""
    view = follower.view
    with suppress(TimeoutError):
        async with asyncio.timeout(SECONDS):
            await follower.caught_up()
    while there.last < follower.read and await _nothing_came(wire, view, there.last):
        if await _in_place(wire, view, there.last):
            follower.rewind(view.offset)
            return there.epoch
        # Another was quicker, with all of it or a part.
        there = await standing(wire, follower.read)
        if there.has_ours:
            return there.epoch
    if moved := await _at_the_end(wire, view):
        logger.error(
            "the store had lost %d entries in a fail-over; they are put back with new positions", moved
        )
        epoch: bytes = await _call(wire, _NEW_EPOCH, (META, MARKS), (there.epoch, secrets.token_hex(4)))
        return epoch.decode()
    follower.rewind(view.offset)
    return there.epoch


async def _nothing_came(wire: Wire, view: LogView, last: int) -> bool:
    """Return whether the log ends, at `last`, with what the view has there. By a clock that is behind, a stranger may stand among what was lost."""
    known = await view.last(last, 1)
    place = (known[0].offset or 0) if known else 0
    if place == last:
        return True
    if known and await _place_of(wire, known[0]) != place:
        return False
    if view.offset <= last:
        return True
    found = await wire.call("XRANGE", LOG, id_of(last), id_of(last), seconds=SECONDS)
    return not found or FORGET.encode() in mapping(found[0][1])


async def _in_place(wire: Wire, view: LogView, last: int) -> bool:
    """Append what follows `last` with the ids that it had; False where something else has come since."""
    number = 0
    while lost := _together(await view.again(last, AT_ONCE)):
        args: list[Word] = [id_of(last)]
        for new in lost:
            assert new.offset is not None
            args += [id_of(new.offset), new.id, new.digest.hex(), *encode(new)]
            last = new.offset
        if not await _call(wire, _PUT_BACK, (LOG, IDS), args):
            return False
        number += len(lost)
    if last < view.offset and not await _call(wire, _TAKE_PLACE, (LOG,), (id_of(last), id_of(view.offset))):
        return False
    logger.warning("the store had lost %d entries in a fail-over; they are put back where they were", number)
    return True


def _together(lost: Sequence[Columns]) -> Sequence[Columns]:
    """Return the first of them, as many as the server takes in one go without keeping others waiting for long."""
    size = 0
    for count, new in enumerate(lost):
        size += len(new.raw)
        if count and size > BYTES_AT_ONCE:
            return lost[:count]
    return lost


async def _at_the_end(wire: Wire, view: LogView) -> int:
    """Append what the log does not know; returns how many entries are not where this node has seen them."""
    # Back to where both agree, then forward again, so that what refers to another comes after it.
    agreed, page = 0, await view.last(view.offset, AT_ONCE)
    while page:
        first = page[0].offset or 0
        if await _place_of(wire, page[0]) == first:
            agreed = first
            break
        page = await view.last(first - 1, AT_ONCE)
    moved = 0
    while batch := await view.again(agreed, AT_ONCE):
        for new in batch:
            place = await _place_of(wire, new)
            if place is None:
                kind, _ = await _call(wire, APPEND, (LOG, IDS), (new.id, new.digest.hex(), *encode(new)))
                if kind == CONFLICT:
                    logger.error(
                        "an alert that was accepted has been replaced by another of its identity: %s", new.id
                    )
            moved += place != new.offset
            agreed = new.offset or 0
    return moved


async def _place_of(wire: Wire, new: Columns) -> int | None:
    known: bytes | None = await wire.call("HGET", IDS, new.id, seconds=SECONDS)
    return None if known is None else offset_of(known.split()[1])


async def _call(wire: Wire, script: Script, keys: Sequence[str], args: Sequence[Word]) -> Any:  # noqa: ANN401  # what a script replies
    return await wire.call("EVAL", script.source, len(keys), *keys, *args, seconds=SECONDS)
