"""Who gets an entry, and the bytes of it: what the fan-out and the resume must decide alike."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from datetime import datetime
from typing import Final

import orjson

from lalert.clock import Clock
from lalert.errors import LalertError
from lalert.live import frames
from lalert.live.frames import Kind, Wire
from lalert.model import Entry, Filter, Scope

log = logging.getLogger(__name__)

Wants = Callable[[Filter, Entry, Sequence[Entry]], bool]
"""Whether a filter wants an entry, given the earlier entries of its incidents (`matching.wants`)."""

MaySee = Callable[[Hashable, Entry], bool]
"""Whether an audience may see an entry whose scope is not Public."""

Body = Callable[[Entry, str, str | None], bytes]
"""An entry as one JSON object on one line, in a format and language."""

Lineage = Callable[[Entry], Awaitable[Sequence[Entry]]]
"""The earlier entries of every incident that an entry continues (`AlertLog.lineage`)."""

MAX_SENT: Final = 2_000
"""Of so many alerts it is remembered when they were told."""

LINEAGE_PAUSES = (0.05, 0.2, 1.0)
"""Seconds between tries while the store does not answer; the last goes on."""


def nobody(_audience: Hashable, _entry: Entry) -> bool:
    """Say no: what holds while nobody was named to decide who sees alerts that are not public."""
    return False


class Audience:
    """Decides for one filter at a time; for all at once there is the lane's index."""

    def __init__(self, wants: Wants, may_see: MaySee, lineage: Lineage, clock: Clock) -> None:
        self._wants = wants
        self._may_see = may_see
        self._lineage = lineage
        self._clock = clock
        self._last: tuple[str, Sequence[Entry]] = ("", ())

    def may_see(self, audience: Hashable, entry: Entry) -> bool:
        """Say whether an audience may see an entry at all; whoever cannot be asked about may not."""
        if entry.alert.scope is Scope.PUBLIC:
            return True
        try:
            return self._may_see(audience, entry)
        except Exception:
            log.exception("it cannot be decided who may see entry %s", entry.position)
            return False

    def stands(self, filter: Filter, audience: Hashable, entry: Entry) -> bool:
        """Say whether an entry that is in force is so for a filter: by itself, whoever was told of what it replaced."""
        return self.hears(filter, audience, entry, ())

    async def concerns(self, filter: Filter, audience: Hashable, entry: Entry) -> bool:
        """Say whether an entry goes to a filter of an audience."""
        return self._is_open(filter, audience, entry) and self._decided(
            filter, entry, await self.lineage(entry)
        )

    def hears(self, filter: Filter, audience: Hashable, entry: Entry, lineage: Sequence[Entry]) -> bool:
        """Say the same as `concerns` of an entry whose lineage is known."""
        return self._is_open(filter, audience, entry) and self._decided(filter, entry, lineage)

    def _is_open(self, filter: Filter, audience: Hashable, entry: Entry) -> bool:
        return entry.alert.status in filter.statuses and self.may_see(audience, entry)

    def _decided(self, filter: Filter, entry: Entry, lineage: Sequence[Entry]) -> bool:
        try:
            return self._wants(filter, entry, lineage)
        except Exception:
            # As in the fan-out: told too much is better than told nothing.
            log.exception(
                "entry %s cannot be matched; it goes to whoever may hear of its status", entry.position
            )
            return True

    async def lineage(self, entry: Entry) -> Sequence[Entry]:
        """Return the earlier entries of the incidents; asks again while the store does not answer, because who was told before must hear of this."""
        if not entry.alert.references:
            return ()
        if self._last[0] == entry.position:
            return self._last[1]
        tries = 0
        while True:
            try:
                found = await self._lineage(entry)
            except LalertError:
                if tries == 0:
                    log.exception(
                        "the lineage of %s cannot be read; live delivery waits for it", entry.position
                    )
                await self._clock.sleep(LINEAGE_PAUSES[min(tries, len(LINEAGE_PAUSES) - 1)])
                tries += 1
            else:
                self._last = (entry.position, found)
                return found


class Bodies:
    """Makes each body once for all who ask the same, and keeps the last ones for those who resume."""

    def __init__(self, body: Body, clock: Clock, max_bytes: int) -> None:
        self._body = body
        self._clock = clock
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str, str | None], bytes] = OrderedDict()
        self.sent: OrderedDict[str, datetime] = OrderedDict()
        """By position, when the last alerts were first written down to be told."""

    async def prepare(self, entry: Entry, variants: Iterable[tuple[str, str | None]]) -> None:
        """Make the bodies of a large alert in a thread, in each format and language; `get` and `frame` then find them."""
        if not entry.large:
            return
        for format, lang in dict.fromkeys(variants):
            if (entry.position, format, lang) not in self._kept:
                try:
                    self._keep(
                        (entry.position, format, lang),
                        await asyncio.to_thread(self._body, entry, format, lang),
                    )
                except Exception as error:  # noqa: BLE001  # whoever asks for the body meets it too, and knows what to do
                    log.debug("entry %s cannot be prepared as %s: %r", entry.position, format, error)

    def get(self, entry: Entry, format: str, lang: str | None) -> bytes:
        """Return an entry as one JSON object; raises what the writer of bodies raises."""
        key = (entry.position, format, lang)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        return self._keep(key, self._body(entry, format, lang))

    def timed(self, entry: Entry, format: str, lang: str | None) -> bytes:
        """Return the same with its hop times; `sent` is now, for all who are written these bytes. Raises as `get`."""
        body, now = self.get(entry, format, lang), self._clock.now()
        if entry.position not in self.sent:
            self.sent[entry.position] = now
            if len(self.sent) > MAX_SENT:
                self.sent.popitem(last=False)
        return frames.with_hops(body, entry.received, entry.stored, now)

    def _keep(self, key: tuple[str, str, str | None], body: bytes) -> bytes:
        if not body.startswith(b'{"') or b"\n" in body or b"\r" in body:
            # It would tear the envelope of SSE apart.
            raise ValueError("a body must be a JSON object with members, on one line")
        self._kept[key] = body
        self._bytes += len(body)
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._kept.popitem(last=False)[1])
        return body

    def frame(
        self, entry: Entry, format: str, lang: str | None, wire: Wire, *, ended: str | None = None
    ) -> bytes:
        """Return the event that tells of an entry: `alert`, or `expired` if it is over or was old when it came.

        With `ended`, the event that tells that what was told before has ended by itself: it carries that position, up to which everything was
        offered, in place of the entry's own.

        An entry that cannot be written down becomes a gap that names it: its receivers must know that there is something.
        """
        try:
            kind = Kind.EXPIRED if entry.outdated or self.expired(entry) else Kind.ALERT
            data = self.timed(entry, format, lang)
            if ended is None:
                return frames.event(wire, kind, data, entry.position)
            when = entry.alert.expires
            told = orjson.loads(data) | {
                "position": ended,
                "ended": frames.utc_text(when) if when is not None else None,
            }
            return frames.event(wire, Kind.EXPIRED, orjson.dumps(told), ended)
        except Exception:
            log.exception("entry %s cannot be written as %s for the live streams", entry.position, format)
            detail = f"an alert could not be shown in this format: fetch /v1/alerts/{entry.position}"
            return frames.gap(wire, "unreadable", entry.position, entry.position, detail)

    def expired(self, entry: Entry) -> bool:
        """Say whether an alert is over: it is then never told as a new one."""
        expires = entry.alert.expires
        return expires is not None and expires <= self._clock.now()
