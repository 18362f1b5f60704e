"""The channel: who may be pushed to, and with what."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final, Self
from urllib.parse import quote

from lalert.errors import BadRequest
from lalert.model import Delivery, Entry, Outcome, Subscription
from lalert.plugin import (
    CANARY_NOTE,
    CANARY_TITLE,
    Access,
    Canarying,
    Channel,
    Endpoint,
    Health,
    Healthy,
    HubApi,
    Limits,
    Part,
    Preview,
    Previewing,
    Route,
    utf16,
)
from lalert_adapters.line.api import Api
from lalert_adapters.line.bubble import ROOM, flex, level_word, shown_level
from lalert_adapters.line.config import LineConfig, read_secret
from lalert_adapters.line.friends import Friends

FORMAT: Final = "json"
_TARGET = re.compile("[UCR][0-9a-f]{32}")


class Line:
    """Pushes a Flex message to the subscription's target: a person (U…), a group (C…) or a room (R…).

    No multicast: it has one retry key and one answer for 500 people, and who was told could not be said of each.
    """

    Config: ClassVar[type[LineConfig]] = LineConfig
    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(per_target=1, in_flight=64, timeout=20.0)

    def __init__(self, name: str, config: LineConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub
        self._api = Api(name, config, hub)
        self._friends = Friends(name, config, hub, self._api)
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._api.open()
        if file := self._config.secret_file:
            self._friends.open(await asyncio.to_thread(read_secret, self.name, "secret_file", file))
        self._watcher = asyncio.create_task(self._api.watch(), name=f"{self.name}: ask for the budget")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)

    def check_subscription(self, subscription: Subscription) -> Subscription:
        """Return the subscription as it is; raises `BadRequest` if the target, the format or an option does not hold."""
        if not _TARGET.fullmatch(subscription.target):
            raise BadRequest(
                "target: must be the id that LINE's webhook names: U, C or R and 32 of 0-9 a-f; it is not what a person sees as their LINE ID"
            )
        if subscription.format != FORMAT:
            raise BadRequest("format: leave it out for LINE: a Flex message is always sent")
        if subscription.options:
            raise BadRequest(f"options.{min(subscription.options)[:40]}: unknown for LINE, which has none")
        return subscription

    async def deliver(self, delivery: Delivery) -> Outcome:
        """Push one message; a 409 that names the request that was accepted is a success too. Whether a telephone showed it is not known."""
        entry, subscription = delivery.entry, delivery.subscription
        text = self._hub.text(entry, subscription.lang, ROOM)
        message = flex(entry, text, self._link(entry))
        return await self._api.push(subscription.target, message, delivery.key)

    def health(self) -> Health:
        """Say what LINE refused last, or how much of the month's budget is used, with a warning from `warn_percent` on."""
        budget = self._api.budget
        if self._api.trouble:
            return Health(False, self._api.trouble)
        if budget is None:
            return Health(True)
        if budget.limit is None:
            return Health(True, f"{budget.used} messages this month, without a limit")
        said = f"{budget.used} of {budget.limit} messages of this month are used ({budget.percent} %)"
        if budget.percent >= 100:
            return Health(False, f"{said}: nobody is told any more before the plan is larger")
        if budget.percent >= self._config.warn_percent:
            return Health(True, f"warning: {said}")
        return Health(True, said)

    def preview(self, entry: Entry, lang: str | None) -> Preview:
        """Return the bubble from top to bottom."""
        text = self._hub.text(entry, lang, ROOM)
        level, link = shown_level(entry), self._link(entry)
        parts = [Part("heading", level_word(level, text.lang))] if level else []
        parts.append(Part("title", text.title, utf16(text.title), ROOM.title, "UTF-16 units"))
        parts.append(Part("text", text.body, utf16(text.body), ROOM.body, "UTF-16 units"))
        parts += [Part("button", link)] if link else []
        return Preview(tuple(parts), text.lang)

    async def canary(self, target: str, token: str) -> None:
        """Push a note, which is one message of the budget."""
        note = {"type": "text", "text": f"{CANARY_TITLE}\n\n{CANARY_NOTE}\n\n{token}"}
        await self._api.push(target, note, token)

    def _link(self, entry: Entry) -> str | None:
        base = self._hub.base_url
        return f"{base}/alerts/{entry.alert.id}" if base.startswith("https://") else None

    def routes(self) -> Sequence[Route]:
        """Return the address for the platform's webhook, where the configuration has the secret that signs it."""
        if not self._config.secret_file:
            return []
        return [Route("POST", f"/line/{quote(self.name, safe='')}", self._friends.post, Access.PUBLIC)]


if TYPE_CHECKING:
    _: type[Channel] = Line
    _endpoint: type[Endpoint] = Line
    _healthy: type[Healthy] = Line
    _previewing: type[Previewing] = Line
    _canarying: type[Canarying] = Line
