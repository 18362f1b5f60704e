"""Subscriptions that the configuration makes, for adapters whose far ends are named there and nobody else may add to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from lalert.errors import BadRequest, Unavailable
from lalert.model import Filter, Subscription
from lalert.plugin import HubApi

RETRY_S: Final = 5.0

log = structlog.get_logger("lalert.configured")


class Configured:
    """The subscriptions of one adapter instance: one for each target of its configuration, in Japanese, and no other."""

    def __init__(self, channel: str, filters: Mapping[str, Filter], hub: HubApi) -> None:
        self._channel = channel
        self._filters = filters
        self._hub = hub

    async def run(self) -> None:
        """Make what is not there yet or has changed, drop what is configured no more, and then wait to be cancelled."""
        while True:
            try:
                await self._make()
                break
            except Unavailable as error:
                log.warning("the targets have no subscriptions yet", channel=self._channel, reason=str(error))
                await self._hub.clock.sleep(RETRY_S)
        await asyncio.Event().wait()

    def check(self, subscription: Subscription) -> None:
        """Raise `BadRequest` unless it is one of these."""
        target = subscription.target
        if target not in self._filters or subscription.id != self._id(target):
            raise BadRequest("channel: this one has its targets from the hub's configuration alone")

    async def _make(self) -> None:
        kept = {subscription.id: subscription for subscription in await self._hub.subscriptions()}
        for target, wanted in self._filters.items():
            known = kept.pop(self._id(target), None)
            if known is None or (known.target, known.filter) != (target, wanted):
                now = self._hub.clock.now()
                await self._hub.save_subscription(
                    Subscription(self._id(target), self._channel, target, wanted, now, lang="ja")
                )
        for old in kept:
            await self._hub.drop_subscription(old)

    def _id(self, target: str) -> str:
        return f"{self._channel}.{target}"
