"""緊急速報メール: one document a carrier for each new alert, in a folder or by HTTP (docs/adapters/urgentmail.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

import msgspec
import structlog

from lalert.errors import DeliveryError, PermanentFailure, TemporaryFailure
from lalert.model import JST, Alert, Delivery, Entry, Filter, MsgType, Outcome, Status, Subscription
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
    Room,
    Source,
    full_width,
)
from lalert_adapters.configured import Configured
from lalert_adapters.drops import Drop, File, check_token, post, write
from lalert_adapters.threads import Threads
from lalert_adapters.urgentmail.settings import UrgentMailConfig
from lalert_adapters.urgentmail.words import chosen, measure

__all__ = ["UrgentMail", "UrgentMailConfig"]

log = structlog.get_logger("lalert.urgentmail")

FORMAT: Final = "lalert-urgentmail/1"
CANARY_FORMAT: Final = "lalert-urgentmail-canary/1"
MEDIA_TYPE: Final = "application/json"
MAX_TITLE: Final = 15
"""Characters of full width; so is `max_body`. The carriers count a line break as two."""
REHEARSAL: Final = "dry-run"
THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class Mail:
    """What every telephone shows, and what was done to the words on the way."""

    title: str
    body: str
    changes: tuple[str, ...]


class UrgentMail:
    """Writes a document for each configured outlet. The subscriptions, one for each outlet, are its own: nobody else can make one.

    Only a new alert of status Actual goes out. Everything else is dropped with the reason, and so is what a dry run has written.
    """

    Config: ClassVar[type[UrgentMailConfig]] = UrgentMailConfig
    drill_safe: ClassVar[bool] = False
    limits: ClassVar[Limits] = Limits(per_target=1, in_flight=8, timeout=30.0)

    def __init__(self, name: str, config: UrgentMailConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub
        self._outlets = {outlet.name: outlet for outlet in config.outlets}
        wanted = Filter(areas=frozenset(config.areas), min_level=config.min_level)
        self._configured = Configured(name, dict.fromkeys(self._outlets, wanted), hub)
        self._threads = Threads(f"{name} writes", THREADS)
        self._failing: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        for outlet in self._config.outlets:
            await asyncio.to_thread(check_token, outlet)
        if self._config.dry_run:
            log.warning("dry run: no telephone will ring", adapter=self.name)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nothing to release: the session is the hub's."""

    async def run(self) -> None:
        """Keep one subscription for each outlet, as the configuration says, and no other."""
        await self._configured.run()

    def check_subscription(self, subscription: Subscription) -> Subscription:
        """Return a subscription of this adapter's own; raises `BadRequest` for any other: one more would ring every telephone once more."""
        self._configured.check(subscription)
        return subscription

    async def deliver(self, delivery: Delivery) -> Outcome:
        """Hand the document to the carrier's outlet; `delivery.key` is its id, and names its file, on every attempt."""
        entry, outlet = delivery.entry, self._outlets.get(delivery.subscription.target)
        if outlet is None:
            raise PermanentFailure("the outlet is not in the configuration any more")
        codes = _units(entry, self._config.areas)
        if reason := self._reason_against(entry, codes):
            return Outcome(f"not sent: {reason}", sent=False)
        mail = self._mail(entry)
        body = _document(delivery, mail, codes, dry_run=self._config.dry_run)
        name = f"{entry.stored.astimezone(JST):%Y%m%dT%H%M%S}-{delivery.key}.json"
        done = await self._hand_over(outlet, File(name, body, MEDIA_TYPE), delivery.key)
        detail = "; ".join([done, f"areas: {len(codes)}", *mail.changes])
        return Outcome(detail, sent=not self._config.dry_run)

    def preview(self, entry: Entry, lang: str | None) -> Preview:  # noqa: ARG002  # telephones get one language
        """Return title and body as telephones would show them, or why none would ring."""
        try:
            reason = self._reason_against(entry, _units(entry, self._config.areas))
            mail = self._mail(entry) if not reason else Mail("", "", (f"not sent: {reason}",))
        except PermanentFailure as error:
            mail = Mail("", "", (f"not sent: {error.detail}",))
        texts = (("title", mail.title, MAX_TITLE), ("body", mail.body, self._config.max_body))
        parts = [Part(name, text, full_width(text), limit) for name, text, limit in texts if text]
        return Preview((*parts, *(Part("note", change) for change in mail.changes)), "ja")

    async def canary(self, target: str, token: str) -> None:
        """Hand a document without areas to an outlet, also in a dry run; it is of another format than mails are."""
        outlet = self._outlets.get(target)
        if outlet is None:
            raise PermanentFailure("the outlet is not in the configuration")
        body = {
            "format": CANARY_FORMAT,
            "id": token,
            "title": CANARY_TITLE,
            "body": CANARY_NOTE,
            "answer": f"{self._hub.base_url}/v1/canaries/{token}",
        }
        # One name for all: a folder that nobody empties must not fill up.
        file = File("canary.json", _json(body), MEDIA_TYPE)
        await self._put(outlet, Path(outlet.folder), file, token)

    def health(self) -> Health:
        """Return what the last call of each outlet came to."""
        if self._failing:
            return Health(
                ok=False,
                detail="; ".join(f"outlet {name}: {why}" for name, why in sorted(self._failing.items())),
            )
        return Health(ok=True, detail="dry run: no telephone will ring" if self._config.dry_run else "")

    def _reason_against(self, entry: Entry, codes: Sequence[str]) -> str:
        alert = entry.alert
        if alert.status is not Status.ACTUAL:
            return "it is no real alert"
        if alert.msg_type is not MsgType.ALERT:
            return "this mail cannot update or cancel another; issue a new alert if the telephones must ring again"
        if entry.facts.kind not in self._config.kinds:
            return f"the kind {entry.facts.kind or 'other'} is not among `kinds`"
        return "" if codes else "no code of `areas` is concerned"

    def _mail(self, entry: Entry) -> Mail:
        """Return the sender's own words for the mail where they hold, else the hub's text; raises `PermanentFailure` if neither does."""
        room = Room(MAX_TITLE, self._config.max_body, measure, urls=False)
        text = self._hub.text(entry, "ja", room)
        changes: list[str] = []
        own = " ".join(_said(entry.alert, "urgent_mail_title").split("\n")).strip()
        title = chosen("title", own, " ".join(text.title.split("\n")).strip(), MAX_TITLE, changes)
        own = _said(entry.alert, "urgent_mail_body").strip()
        body = chosen("body", own, text.body.strip(), self._config.max_body, changes)
        return Mail(title, body, tuple(changes))

    async def _hand_over(self, outlet: Drop, file: File, key: str) -> str:
        if not self._config.dry_run:
            return await self._put(outlet, Path(outlet.folder), file, key)
        own = self._config.dry_run_folder
        folder = Path(own) if own else Path(outlet.folder) / REHEARSAL
        renamed = File(f"{outlet.name}-{file.name}", file.body, file.media_type)
        await self._write(folder, renamed, make=True)
        return "dry run: written, not sent"

    async def _put(self, outlet: Drop, folder: Path, file: File, key: str) -> str:
        try:
            if outlet.url:
                done = await post(self._hub.http, outlet, file, key, self._config.timeout_s)
            else:
                await self._write(folder, file)
                done = "written"
        except DeliveryError as error:
            self._failing[outlet.name] = error.detail
            raise
        self._failing.pop(outlet.name, None)
        return done

    async def _write(self, folder: Path, file: File, *, make: bool = False) -> None:
        try:
            async with asyncio.timeout(self._config.timeout_s):
                await self._threads.run(partial(write, folder, [file], make=make))
        except TimeoutError:
            raise TemporaryFailure(
                f"the folder does not answer within {self._config.timeout_s:g} s"
            ) from None


if TYPE_CHECKING:
    _: type[Channel] = UrgentMail
    _source: type[Source] = UrgentMail
    _previewing: type[Previewing] = UrgentMail
    _canarying: type[Canarying] = UrgentMail
    _healthy: type[Healthy] = UrgentMail


def _said(alert: Alert, name: str) -> str:
    """Return what the sender says in a parameter of the info in Japanese (docs/profile-jp.md)."""
    for info in alert.infos:
        if info.language.lower() in ("ja", "ja-jp"):
            for parameter in info.parameters:
                if parameter.name.removeprefix("jp:") == name:
                    return parameter.value
    return ""


def _units(entry: Entry, areas: Sequence[str]) -> list[str]:
    """Return which of the municipalities and wards are concerned; all by an alert that concerns everybody."""
    facts = entry.facts
    everybody = facts.nowhere and not facts.codes
    return sorted(code for code in areas if everybody or code in facts.codes or code in facts.ground)


def _document(delivery: Delivery, mail: Mail, codes: Sequence[str], *, dry_run: bool) -> bytes:
    entry, alert = delivery.entry, delivery.entry.alert
    names = {place.code: place.name for place in entry.facts.places}
    document = {
        "format": FORMAT,
        "id": delivery.key,
        "dry_run": dry_run,
        "outlet": delivery.subscription.target,
        "areas": [{"code": code, "name": names[code]} if code in names else {"code": code} for code in codes],
        "title": mail.title,
        "body": mail.body,
        "lengths": {"title": full_width(mail.title), "body": full_width(mail.body)},
        "changes": mail.changes,
        "alert": {
            "id": alert.id,
            "sender": alert.sender,
            "identifier": alert.identifier,
            "sent": alert.sent_text,
            "level": entry.facts.level,
            "kind": entry.facts.kind,
            "expires": alert.expires.astimezone(JST).isoformat() if alert.expires else None,
        },
    }
    return _json(document)


def _json(document: Mapping[str, object]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document)) + b"\n"
