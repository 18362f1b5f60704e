"""EDXL-DE 1.0 out: each CAP document unchanged in an envelope, as a file in a folder or by HTTP POST (docs/adapters/edxl.md)."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Self
from urllib.parse import urlsplit

import msgspec
from lxml import etree

from lalert.errors import DeliveryError, PermanentFailure, TemporaryFailure
from lalert.model import Delivery, Entry, Filter, Outcome, Status, Subscription
from lalert.plugin import (
    CANARY_NOTE,
    CANARY_TITLE,
    Canarying,
    Channel,
    Health,
    Healthy,
    HubApi,
    Limits,
    Part,
    Preview,
    Previewing,
    Source,
)
from lalert_adapters.configured import Configured
from lalert_adapters.drops import Drop, File, check_token, post, write
from lalert_adapters.threads import Threads

MEDIA_TYPE: Final = "application/edxl+xml"
NAMESPACE: Final = "urn:oasis:names:tc:emergency:EDXL:DE:1.0"
DRILLS: Final = frozenset({Status.EXERCISE, Status.TEST})
THREADS: Final = 8


class Outlet(Drop, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[adapters.NAME.outlets]]: a system that takes envelopes, and of which places."""

    areas: tuple[Annotated[str, msgspec.Meta(pattern=r"^([0-9]{2}|[0-9]{6})$")], ...] = ()
    """Codes of municipalities and prefectures; none means everywhere."""
    drills: bool = False
    """Hand over exercises and tests too; the envelope says what they are."""

    @property
    def filter(self) -> Filter:
        statuses = frozenset({Status.ACTUAL}) | (DRILLS if self.drills else frozenset())
        return Filter(areas=frozenset(self.areas), statuses=statuses)


class EdxlConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[adapters.NAME] of type edxl."""

    outlets: tuple[Outlet, ...]
    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=25)] = 15.0
    """Seconds that one envelope may take."""

    def __post_init__(self) -> None:
        names = [outlet.name for outlet in self.outlets]
        if not names or len(set(names)) < len(names):
            raise ValueError("outlets: at least one is needed, and each name once")


class Edxl:
    """Hands an envelope to each configured outlet. The subscriptions, one for each outlet, are its own: nobody else can make one."""

    Config: ClassVar[type[EdxlConfig]] = EdxlConfig
    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(per_target=1, in_flight=8, timeout=30.0)

    def __init__(self, name: str, config: EdxlConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub
        self._outlets = {outlet.name: outlet for outlet in config.outlets}
        self._configured = Configured(name, {each.name: each.filter for each in config.outlets}, hub)
        self._threads = Threads(f"{name} writes", THREADS)
        self._failing: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        for outlet in self._config.outlets:
            await asyncio.to_thread(check_token, outlet)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nothing to release: the session is the hub's."""

    async def run(self) -> None:
        """Keep one subscription for each outlet, as the configuration says, and no other."""
        await self._configured.run()

    def check_subscription(self, subscription: Subscription) -> Subscription:
        """Return a subscription of this adapter's own; raises `BadRequest` for any other: its outlets are not for everybody to write to."""
        self._configured.check(subscription)
        return subscription

    async def deliver(self, delivery: Delivery) -> Outcome:
        """Hand over one envelope; the same alert has the same bytes and the same file name on every attempt."""
        outlet = self._outlet(delivery.subscription.target)
        body = await self._envelope(delivery.entry)
        file = File(_name(delivery.entry.stored, delivery.entry.alert.id), body, MEDIA_TYPE)
        return Outcome(await self._put(outlet, file, delivery.key))

    def preview(self, entry: Entry, lang: str | None) -> Preview:
        """Return the envelope, and before it what it is about, marked, since the document itself is never changed."""
        text = self._hub.text(entry, lang)
        document = self._hub.body(entry, "edxl").decode()
        return Preview((Part("about", text.title), Part("document", document)), text.lang)

    async def canary(self, target: str, token: str) -> None:
        """Hand an envelope without any alert to an outlet; its distributionStatus is System."""
        now = self._hub.clock.now()
        sender = f"lalert@{urlsplit(self._hub.base_url).hostname or 'localhost'}"
        file = File(f"canary-{token}.xml", _check(token, sender, now), MEDIA_TYPE)
        await self._put(self._outlet(target), file, token)

    def health(self) -> Health:
        """Return what the last call of each outlet came to."""
        troubles = [f"outlet {name}: {why}" for name, why in sorted(self._failing.items())]
        return Health(not troubles, "; ".join(troubles))

    def _outlet(self, name: str) -> Outlet:
        outlet = self._outlets.get(name)
        if outlet is None:
            raise PermanentFailure("the outlet is not in the configuration any more")
        return outlet

    async def _envelope(self, entry: Entry) -> bytes:
        if entry.alert.large:
            return await asyncio.to_thread(self._hub.body, entry, "edxl")
        return self._hub.body(entry, "edxl")

    async def _put(self, outlet: Outlet, file: File, key: str) -> str:
        try:
            done = await self._handed(outlet, file, key)
        except DeliveryError as error:
            self._failing[outlet.name] = error.detail
            raise
        self._failing.pop(outlet.name, None)
        return done

    async def _handed(self, outlet: Outlet, file: File, key: str) -> str:
        timeout_s = self._config.timeout_s
        if outlet.url:
            return await post(self._hub.http, outlet, file, key, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                await self._threads.run(partial(write, Path(outlet.folder), [file]))
        except TimeoutError:
            raise TemporaryFailure(f"the folder does not answer within {timeout_s:g} s") from None
        return "written"


if TYPE_CHECKING:
    _: type[Channel] = Edxl
    _source: type[Source] = Edxl
    _previewing: type[Previewing] = Edxl
    _canarying: type[Canarying] = Edxl
    _healthy: type[Healthy] = Edxl


def _name(stored: datetime, alert_id: str) -> str:
    """Return a name that sorts as alerts were accepted, and stays the same for the same alert."""
    return f"{stored.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{alert_id}.xml"


def _check(token: str, sender: str, now: datetime) -> bytes:
    """Return an envelope that checks the way: `System` is for what is about the network itself (EDXL-DE 1.0, 3.2.1)."""
    root = etree.Element(f"{{{NAMESPACE}}}EDXLDistribution", nsmap={"de": NAMESPACE})
    head = {
        "distributionID": token,
        "senderID": sender,
        "dateTimeSent": now.astimezone(UTC).isoformat(timespec="seconds"),
        "distributionStatus": Status.SYSTEM.value,
        "distributionType": "Report",
        "combinedConfidentiality": "UNCLASSIFIED AND NOT SENSITIVE",
    }
    for name, text in head.items():
        etree.SubElement(root, f"{{{NAMESPACE}}}{name}").text = text
    content = etree.SubElement(root, f"{{{NAMESPACE}}}contentObject")
    etree.SubElement(content, f"{{{NAMESPACE}}}contentDescription").text = CANARY_TITLE
    note = etree.SubElement(content, f"{{{NAMESPACE}}}nonXMLContent")
    etree.SubElement(note, f"{{{NAMESPACE}}}mimeType").text = "text/plain"
    encoded = base64.b64encode(f"{CANARY_TITLE} {token}\n{CANARY_NOTE}\n".encode()).decode()
    etree.SubElement(note, f"{{{NAMESPACE}}}contentData").text = encoded
    etree.indent(root)
    made: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True) + b"\n"
    return made
