"""Where stations are set up, changed and given up, each organisation its own, inside its own places."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from shapely.geometry import Point

from lalert import uplinks
from lalert.clock import Clock
from lalert.config import Station as Setup
from lalert.config import read_station, station_document
from lalert.errors import BadRequest, Conflict, Forbidden, InvalidCode, NotFound, Refused
from lalert.geo import Gazetteer, normalise_code
from lalert.model import Tenant
from lalert.sensors import Roster
from lalert.store import KeptStation
from lalert.store.audit import Action, Actor, Head, Note
from lalert.tenancy import sender_allowed

MAX_STATIONS: Final = 100_000
"""So many a hub holds, those of all organisations: each costs a node 1.3 kB of memory."""
AT_ONCE: Final = 500
"""So many are written in one step, so that alerts need not wait for a long list."""


class Shelf(Protocol):
    """What the desk asks of the store."""

    async def save_stations(self, stations: Sequence[KeptStation]) -> None: ...

    async def forget_station(self, station: str, org: str) -> bool: ...

    async def stations(self, org: str | None = None) -> list[KeptStation]: ...

    async def station(self, station: str) -> KeptStation | None: ...

    async def append_audit(self, notes: Sequence[Note]) -> Head: ...


class Desk:
    """Decides what an organisation may set up, and keeps it; `layouts` are the names of the configuration's.

    `signs` says whether this hub has the key for the warnings of gauges: without it no station can be set up (docs/signatures.md).
    """

    def __init__(
        self,
        shelf: Shelf,
        roster: Roster,
        gazetteer: Gazetteer,
        clock: Clock,
        *,
        layouts: Collection[str] = (),
        signs: bool = True,
    ) -> None:
        self._shelf = shelf
        self._roster = roster
        self._gazetteer = gazetteer
        self._clock = clock
        self._layouts = layouts
        self._signs = signs

    async def put(self, tenant: Tenant, asked: Mapping[str, Any], by: Actor) -> tuple[dict[str, Any], bool]:
        """Set a station up, or replace it as a whole; returns it and whether it is new. Raises `BadRequest` with every mistake, `Forbidden`, `Conflict`."""
        name = str(asked.get("id"))
        known = await self._shelf.station(name)
        self._require_own(tenant, name, known)
        setup = await asyncio.to_thread(self._judged, tenant, asked)
        await self._save(tenant, [setup], by)
        return shown(setup), known is None

    async def change(self, tenant: Tenant, name: str, patch: Mapping[str, Any], by: Actor) -> dict[str, Any]:
        """Change some of a station (RFC 7396: what is null goes back to its default). Raises `NotFound` and what `put` raises."""
        asked = merged(await self.setup(tenant.id, name), patch)
        if asked.get("id") != name:
            raise BadRequest("id: a station keeps its id")
        return (await self.put(tenant, asked, by))[0]

    async def forget(self, tenant: Tenant, name: str, by: Actor) -> None:
        """Give a station up; its readings stay. Raises `NotFound`, and `Conflict` for one of the configuration."""
        self._require_own(tenant, name, known := await self._shelf.station(name))
        if known is None:
            raise NotFound("there is no such station of yours")
        await self._shelf.append_audit([self._note(Action.STATION_FORGOTTEN, name, tenant.id, by)])
        await self._shelf.forget_station(name, tenant.id)
        await self._tell()

    async def setup(self, org: str, name: str) -> dict[str, Any]:
        """Return how an organisation's station is set up; raises `NotFound`, and `Conflict` for one of the configuration."""
        if self._roster.configured(name) and self._roster[name].org == org:
            raise Conflict(_CONFIGURED)
        known = await self._shelf.station(name)
        if known is None or known.org != org or known.document is None:
            raise NotFound("there is no such station of yours")
        return _decoded(known.document)

    async def setups(self, org: str | None) -> list[dict[str, Any]]:
        """Return how the stations of an organisation (None: of all) are set up, by id; those of the configuration left out."""
        return [_decoded(each.document) for each in await self._shelf.stations(org) if each.document]

    async def take(
        self, tenant: Tenant, rows: Sequence[Mapping[str, Any]], by: Actor, *, dry_run: bool = False
    ) -> list[tuple[str, ...]]:
        """Set up a list of stations, or with `dry_run` only judge it; returns the mistakes of each. With any mistake none is set up."""
        names = {str(row.get("id")) for row in rows}
        known = {each.id: each for each in await self._shelf.stations()}

        def judge_all() -> list[tuple[Setup | None, tuple[str, ...]]]:
            return [self._mistakes_of(tenant, row, known.get(str(row.get("id"))), names) for row in rows]

        found = await asyncio.to_thread(judge_all)
        setups = [setup for setup, _ in found if setup is not None]
        if len(setups) == len(rows) and not dry_run:
            await self._save(tenant, setups, by)
        return [mistakes for _, mistakes in found]

    def _mistakes_of(
        self, tenant: Tenant, asked: Mapping[str, Any], known: KeptStation | None, also: Collection[str]
    ) -> tuple[Setup | None, tuple[str, ...]]:
        try:
            self._require_own(tenant, str(asked.get("id")), known)
            return self._judged(tenant, asked, also), ()
        except _ManyMistakes as error:
            return None, error.mistakes
        except Refused as error:
            return None, (error.detail,)

    def _require_own(self, tenant: Tenant, name: str, known: KeptStation | None) -> None:
        if not self._signs:
            raise Conflict(
                "the nodes of one store sign the gauges' warnings with the same key: give hub.signing_key_file and its certificate first (docs/signatures.md)"
            )
        if self._roster.configured(name):
            raise Conflict(_CONFIGURED)
        if known is not None and known.org != tenant.id:
            raise Conflict(f"the id {name[:64]} is another organisation's: choose another")
        if known is None and len(self._roster) >= MAX_STATIONS:
            raise Conflict(f"this hub holds {MAX_STATIONS} stations, which is as many as it may")

    def _judged(self, tenant: Tenant, asked: Mapping[str, Any], also: Collection[str] = ()) -> Setup:
        whole = self._completed(tenant, asked)
        setup, mistakes = read_station(whole)
        mistakes = [each.removeprefix("station.") for each in mistakes]
        if setup is not None:
            mistakes += self._beyond(tenant, setup, also)
        if setup is None or mistakes:
            raise _ManyMistakes(mistakes)
        if not sender_allowed(tenant, setup.sender):
            raise Forbidden(
                f"sender {setup.sender!r} is not one of {tenant.id}'s senders", code="sender-not-yours"
            )
        if problem := self._outside(tenant, setup):
            raise Forbidden(problem, code="area-not-yours")
        return setup

    def _completed(self, tenant: Tenant, asked: Mapping[str, Any]) -> dict[str, Any]:
        whole = {"org": tenant.id, **asked}
        whole.setdefault("sender", _sender(tenant))
        lon, lat = whole.get("lon"), whole.get("lat")
        if not whole.get("codes") and isinstance(lon, int | float) and isinstance(lat, int | float):
            whole["codes"] = self._codes_at(tenant, lon, lat)
        return whole

    def _codes_at(self, tenant: Tenant, lon: float, lat: float) -> list[str]:
        """Return where it stands: of several (by a border, or where only outlines are known) the one whose office is nearest."""
        if not (-180 <= lon <= 180 and -90 <= lat <= 90):
            return []
        here = self._gazetteer.codes_of(Point(lon, lat))
        if not tenant.everywhere:
            here &= self._gazetteer.leaves(tenant.codes)

        def distance(code: str) -> tuple[float, str]:
            place = self._gazetteer.place(code)
            return (0.0 if place is None else Point(place.lon, place.lat).distance(Point(lon, lat)), code)

        return sorted(here, key=distance)[:1]

    def _beyond(self, tenant: Tenant, setup: Setup, also: Collection[str]) -> list[str]:
        mistakes = []
        if setup.org != tenant.id:
            mistakes.append(f"org: {setup.org[:64]!r} is not {tenant.id}")
        if not setup.codes:
            mistakes.append(
                "codes: no municipality of this organisation is known at this place; give its code"
            )
        mistakes += [
            f"posts: there is no [layouts.{post.layout[:64]}] in the configuration"
            for post in setup.posts
            if post.layout not in self._layouts
        ]
        source = self._roster.get(setup.source)
        if (
            setup.source
            and setup.source not in also
            and (source is None or (source.org != tenant.id and tenant.id not in source.shared))
        ):
            mistakes.append(
                f"source: there is no station {setup.source[:64]!r} that is yours or shared with you"
            )
        return mistakes

    def _outside(self, tenant: Tenant, setup: Setup) -> str | None:
        codes = [normalise_code(code) for code in setup.codes]
        for code in codes:
            if self._gazetteer.place(code) is None:
                raise InvalidCode(
                    f"codes: {code} is well formed, but no municipality, ward or prefecture has it"
                )
        if tenant.everywhere:
            return None
        own = self._gazetteer.leaves(tenant.codes)
        if strange := sorted(self._gazetteer.leaves(codes) - own):
            return f"codes: {strange[0]} is none of {tenant.id}'s places"
        if not setup.source and not self._gazetteer.codes_of(Point(setup.lon, setup.lat)) & own:
            return f"lon, lat: {setup.lon}, {setup.lat} lies outside {tenant.id}'s places; are they swapped?"
        return None

    async def _save(self, tenant: Tenant, setups: Sequence[Setup], by: Actor) -> None:
        for start in range(0, len(setups), AT_ONCE):
            some = setups[start : start + AT_ONCE]
            await self._shelf.append_audit(
                [self._note(Action.STATION_SAVED, each.id, tenant.id, by) for each in some]
            )
            await self._shelf.save_stations(
                [KeptStation(each.id, tenant.id, station_document(each)) for each in some]
            )
        await self._tell()

    def _note(self, action: Action, name: str, org: str, by: Actor) -> Note:
        return Note(self._clock.now(), by, action, name, org)

    async def _tell(self) -> None:
        await self._roster.refresh()
        self._roster.changed()


class KnownDevices:
    """Devices of the configuration, and those that are posted at stations; of both the configuration's counts."""

    def __init__(
        self, configured: uplinks.Devices, roster: Roster, layouts: Mapping[str, uplinks.Layout]
    ) -> None:
        self._configured = configured
        self._roster = roster
        self._layouts = layouts

    def device(self, id: str, time: datetime, org: str) -> uplinks.Device | None:
        if (known := self._configured.device(id, time, org)) is not None:
            return known
        # A device that is exchanged in a minute may be heard before.
        found = self._roster.posted(id, time + timedelta(minutes=1), org)
        if found is None or found[1].layout not in self._layouts:
            return None
        station, post = found
        return uplinks.Device(id.lower(), station.org, station.id, self._layouts[post.layout], post.offset_m)


class _ManyMistakes(BadRequest):
    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = tuple(mistakes)


_CONFIGURED: Final = "this station stands in the configuration: change it there"


def merged(known: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with a merge patch in it (RFC 7396)."""
    whole = dict(known)
    for name, value in patch.items():
        if value is None:
            whole.pop(name, None)
        elif isinstance(value, Mapping):
            before = whole.get(name)
            whole[name] = merged(before if isinstance(before, Mapping) else {}, value)
        else:
            whole[name] = value
    return whole


def shown(setup: Setup) -> dict[str, Any]:
    """Return a setup as it is kept, ready for JSON."""
    return _decoded(station_document(setup))


def _decoded(document: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(document)
    return found


def _sender(tenant: Tenant) -> str:
    """Return as whom a station speaks that is not told: the first sender that is no pattern, else `sensor` under the first that is one for all of a domain."""
    plain = next((sender for sender in tenant.senders if not set(sender) & set("*?[")), None)
    pattern = next((sender for sender in tenant.senders if sender.startswith("*@")), None)
    return plain or (pattern.replace("*", "sensor", 1) if pattern else "")


if TYPE_CHECKING:
    _: type[uplinks.Devices] = KnownDevices
