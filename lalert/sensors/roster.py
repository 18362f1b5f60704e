"""Every station that there is: those of the configuration, and those of the store as they are set up, changed and forgotten at whichever node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final, Protocol

import structlog

from lalert.bus import Hints
from lalert.errors import LalertError
from lalert.sensors.station import Station
from lalert.sensors.upkeep import Datum, Post, posted
from lalert.store import KeptStation

log = structlog.get_logger()

CHANGED: Final = "stations"
"""The hint that some were changed."""
LOOK_SECONDS: Final = 5.0
"""When changes are looked for without a hint."""
PAGE: Final = 1_000

Decode = Callable[[bytes], Station]
"""Read a document of the store; raises `ValueError` for one that this version cannot read."""


class Shelf(Protocol):
    """What the roster asks of the store."""

    async def stations_after(self, revision: int, limit: int) -> list[KeptStation]: ...


class Roster(Mapping[str, Station]):
    """Stations by id, as they were known at the last look. Where both name one, the configuration's counts."""

    def __init__(self, shelf: Shelf, configured: Iterable[Station], decode: Decode, hints: Hints) -> None:
        self._shelf = shelf
        self._configured = {station.id: station for station in configured}
        self._stations: dict[str, Station] = {}
        self._hearers: dict[str, set[str]] = {}
        self._posted: dict[str, set[str]] = {}
        for station in self._configured.values():
            self._put(station)
        self._decode = decode
        self._hints = hints
        self._revision = 0
        self._one = asyncio.Lock()
        self._news = asyncio.Event()

    def __getitem__(self, station: str) -> Station:
        return self._stations[station]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stations)

    def __len__(self) -> int:
        return len(self._stations)

    def configured(self, station: str) -> bool:
        """Say whether a station stands in the configuration, where alone it can be changed."""
        return station in self._configured

    def judges_of(self, name: str) -> list[Station]:
        """Return who judges by a station's readings: itself, then those that hear it, by id."""
        station = self._stations.get(name)
        if station is None:
            return []
        hearers = (self._stations[each] for each in sorted(self._hearers.get(name, ())))
        own = [] if station.source else [station]
        return own + [each for each in hearers if each.hears(station)]

    def datum_of(self, station: Station) -> Sequence[Datum]:
        """Return the changes of zero of the device by which a station judges."""
        heard = self._stations.get(station.source) if station.source else station
        return heard.datum if heard is not None else ()

    def posted(self, device: str, time: datetime, org: str) -> tuple[Station, Post] | None:
        """Return at which station of an organisation a device measures at a time, whatever others say of it; where it is said of several stations, at the one that it came to last."""
        found = [
            (post.since, station.id, station, post)
            for name in self._posted.get(device.lower(), ())
            for station in (self._stations[name],)
            if station.org == org
            and (post := posted(station.posts, time)) is not None
            and post.id.lower() == device.lower()
        ]
        return max(found, key=lambda each: each[:2])[2:] if found else None

    async def refresh(self) -> None:
        """Take in what was changed since the last look; raises `Unavailable`."""
        # One at a time: an older look must not undo a newer one.
        async with self._one:
            while page := await self._shelf.stations_after(self._revision, PAGE):
                self._take(page)
                self._revision = page[-1].revision
                if len(page) < PAGE:
                    return

    def _take(self, page: Sequence[KeptStation]) -> None:
        for kept in page:
            if self.configured(kept.id):
                continue
            try:
                station = None if kept.document is None else self._decode(kept.document)
            except ValueError as error:
                # A newer node's, perhaps: what was known of it holds on.
                log.error("a station cannot be read", station=kept.id, detail=str(error))
                continue
            self._drop(kept.id)
            if station is not None:
                self._put(station)

    def _put(self, station: Station) -> None:
        self._stations[station.id] = station
        if station.source:
            self._hearers.setdefault(station.source, set()).add(station.id)
        for post in station.posts:
            self._posted.setdefault(post.id.lower(), set()).add(station.id)

    def _drop(self, name: str) -> None:
        station = self._stations.pop(name, None)
        if station is not None:
            self._hearers.get(station.source, set()).discard(name)
            for post in station.posts:
                self._posted.get(post.id.lower(), set()).discard(name)

    def changed(self) -> None:
        """Tell every node, this one too, to look."""
        self._hints.hint(CHANGED, "")

    async def follow(self) -> None:
        """Look at every hint, and now and then, for ever; owned by the app's task group."""
        detach = self._hints.attend(lambda kind, _: self._news.set() if kind == CHANGED else None)
        cause = ""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._news.wait()
                self._news.clear()
                cause = await self._look(cause)
        finally:
            detach()

    async def _look(self, cause: str) -> str:
        try:
            await self.refresh()
        except LalertError as error:
            if error.detail != cause:
                log.warning(
                    "the stations cannot be read; those that were known last hold", cause=error.detail
                )
            return error.detail
        return ""
