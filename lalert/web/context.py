"""What the pages may ask of the hub: only what is meant for everybody, and the one-time set-up."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lalert import matching, texts
from lalert.clock import Clock
from lalert.errors import Conflict, Forbidden
from lalert.geo import Place
from lalert.hub import Hub, Page
from lalert.model import Entry, Filter, Role
from lalert.store.audit import SET_UP
from lalert.tenancy import Administration
from lalert.web import pages
from lalert.web.api import Overview, Stations

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


class FirstKeys:
    """The one-time right to make the first organisation and its keys; it ends with its first use."""

    def __init__(
        self, administration: Administration, token: str | None, done: Callable[[], Awaitable[None]]
    ) -> None:
        self._administration = administration
        self._token = token
        self._done = done
        self._one = asyncio.Lock()

    def open(self, token: str) -> bool:
        """Say whether this token may still be used; compares in constant time."""
        return self._token is not None and hmac.compare_digest(self._token.encode(), token.encode())

    async def claim(self, token: str, form: pages.SetupForm) -> pages.Claimed:
        """Make the organisation and a key of each role. Raises `Forbidden` where the right is gone, `Refused` for a form that does not hold."""
        async with self._one:
            if not self.open(token) or await self._administration.keys():
                raise Forbidden("this link has been used or is not the newest one", code="setup-closed")
            # A set-up that was broken off after the organisation may leave one; no key exists, so nobody else uses it.
            with suppress(Conflict):
                await self._administration.create_org(
                    form.org, form.codes, form.senders, form.name, by=SET_UP
                )
            made = [await self._administration.create_key(form.org, role, by=SET_UP) for role in Role]
            self._token = None
            await self._done()
        return pages.Claimed(form.org, tuple(pages.MadeKey(new.key.role, new.secret) for new in made))


class PagesContext:
    """The pages' view of one hub."""

    def __init__(self, hub: Hub, site: pages.Site, first_keys: FirstKeys, stations: Stations) -> None:
        self._hub = hub
        self._site = site
        self._first_keys = first_keys
        self._stations = stations

    @property
    def site(self) -> pages.Site:
        return self._site

    @property
    def base_url(self) -> str:
        return self._hub.base_url

    @property
    def clock(self) -> Clock:
        return self._hub.clock

    def parse_filter(self, pairs: Iterable[tuple[str, str]]) -> Filter:
        return matching.parse_filter(pairs)

    async def active(self, filter: Filter) -> Page:
        return await self._hub.active(filter, None)

    def alert_json(self, entry: Entry) -> Mapping[str, Any]:
        return texts.alert_json(entry)

    def place(self, code: str) -> Place | None:
        return self._hub.gazetteer.place(code)

    def places(self) -> Iterable[Place]:
        return self._hub.gazetteer.places()

    @property
    def official_boundaries(self) -> bool:
        return self._hub.gazetteer.boundaries == "official"

    def approximate(self, code: str) -> bool:
        return self._hub.gazetteer.approximate(code)

    def geometry(self, code: str) -> BaseGeometry | None:
        return self._hub.gazetteer.geometry(code)

    async def gravest(self, code: str | None, limit: int) -> Overview:
        return await self._stations.gravest(code, limit)

    def setup_open(self, token: str) -> bool:
        return self._first_keys.open(token)

    async def claim(self, token: str, form: pages.SetupForm) -> pages.Claimed:
        return await self._first_keys.claim(token, form)


if TYPE_CHECKING:
    _: type[pages.Context] = PagesContext
