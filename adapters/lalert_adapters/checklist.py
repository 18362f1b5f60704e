"""A row to tick for what no program can do: an announcement by hand, a telephone call (docs/adapters/checklist.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Self

import msgspec

from lalert.errors import BadRequest
from lalert.model import Delivery, Entry, Outcome, Subscription
from lalert.plugin import ByHand, Channel, HubApi, Limits, Part, Preview, Previewing

MAX_TARGET: Final = 100


class ChecklistConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[adapters.NAME] of type checklist, which has nothing to set."""


class Checklist:
    """Delivers by being there: the row is open until somebody ticks it, which the hub shows and counts."""

    Config: ClassVar[type[ChecklistConfig]] = ChecklistConfig
    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits()
    by_hand: ClassVar[bool] = True

    def __init__(self, name: str, config: ChecklistConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nothing to release."""

    def check_subscription(self, subscription: Subscription) -> Subscription:
        """Return the subscription as it is; raises `BadRequest` unless its target says in a line what is to be done."""
        target = subscription.target
        if not target.strip() or len(target) > MAX_TARGET or not target.isprintable():
            raise BadRequest(
                f"target: say in a line of at most {MAX_TARGET} characters what is to be done, such as 防災行政無線で放送"
            )
        if subscription.format != "json":
            raise BadRequest("format: leave it out for a checklist, which people read")
        if subscription.options:
            raise BadRequest(f"options.{min(subscription.options)[:40]}: unknown, a checklist has none")
        return subscription

    async def deliver(self, delivery: Delivery) -> Outcome:
        """Put the row there."""
        return Outcome("waits to be ticked", request=delivery.subscription.target)

    def preview(self, entry: Entry, lang: str | None) -> Preview:
        """Return what the row says."""
        text = self._hub.text(entry, lang)
        return Preview((Part("title", text.title), Part("body", text.body)), text.lang)


if TYPE_CHECKING:
    _: type[Channel] = Checklist
    _previewing: type[Previewing] = Checklist
    _by_hand: type[ByHand] = Checklist
