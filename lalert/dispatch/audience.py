"""Which durable targets an alert is for, and what keeps it from going out to them: decided here for the planning and for the dry run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import structlog

from lalert.dispatch.lanes import Planned
from lalert.dispatch.turns import Turns
from lalert.model import Entry, Filter, Scope, Subscription

log = structlog.get_logger("lalert.dispatch")


class Wants(Protocol):
    """Says whether a filter wants an entry, the former audience of what it refers to included (`matching.wants`)."""

    def __call__(self, filter: Filter, entry: Entry, lineage: Sequence[Entry], /) -> bool: ...


MaySee = Callable[[Subscription, Entry], bool]
"""Says whether the owner of a subscription may have an entry that is not Public."""


class Bar(StrEnum):
    """Why a target is not sent what it asked for."""

    NOT_DRILL_SAFE = "not-drill-safe"
    NOT_CONFIGURED = "not-configured"
    TOO_LATE = "too-late"
    OUTDATED = "outdated"


def barred(planned: Planned, now: datetime, *, drill_safe: bool) -> Bar | None:
    """Return what keeps an alert that is new to a target from being sent to it, None if nothing does."""
    if not planned.actual and not drill_safe:
        return Bar.NOT_DRILL_SAFE
    if planned.deadline <= now:
        return Bar.TOO_LATE
    return Bar.OUTDATED if planned.outdated else None


@dataclass(frozen=True, slots=True)
class Reached:
    """The targets of one channel that an alert is for, by what they asked for; with a `bar` none of them is sent it."""

    channel: str
    bar: Bar | None
    targets: Sequence[tuple[Filter, Sequence[Subscription]]]


class Audience:
    """Decides for one target at a time."""

    def __init__(self, wants: Wants, may_see: MaySee | None) -> None:
        self._wants = wants
        self._may_see = may_see

    def wanted(self, filter: Filter, entry: Entry, lineage: Sequence[Entry]) -> bool:
        """Say whether a filter wants an entry; of one that cannot be judged, that it does."""
        # The gate for drills stands here too, so that no defect in matching can send one to somebody who did not ask for it.
        if entry.alert.status not in filter.statuses:
            return False
        try:
            return self._wants(filter, entry, lineage)
        except Exception:
            # A defect over one filter must neither stop the log nor leave somebody untold.
            log.exception("a filter cannot be judged; its subscribers are told", position=entry.position)
            return True

    def permitted(self, subscription: Subscription, entry: Entry) -> bool:
        """Say whether the owner of a subscription may have an entry."""
        if entry.alert.scope is Scope.PUBLIC:
            return True
        try:
            return self._may_see is not None and self._may_see(subscription, entry)
        except Exception:
            log.exception(
                "who may see an alert cannot be judged; it is withheld",
                position=entry.position,
                subscription=subscription.id,
            )
            return False

    async def foresee(
        self,
        entry: Entry,
        planned: Planned,
        lineage: Sequence[Entry],
        subscriptions: Iterable[Subscription],
        drill_safe: Mapping[str, bool],
        now: datetime,
    ) -> list[Reached]:
        """Return which of the subscriptions an alert that is in no log yet is for; `drill_safe` says of each configured channel whether it is."""
        turns = Turns()
        reached: dict[str, list[tuple[Filter, list[Subscription]]]] = {}
        for filter, group in (await _by_filter(subscriptions, turns)).items():
            if self.wanted(filter, entry, lineage):
                channels: dict[str, list[Subscription]] = {}
                for one in group:
                    if self.permitted(one, entry):
                        channels.setdefault(one.channel, []).append(one)
                    await turns.give()
                for channel, targets in channels.items():
                    reached.setdefault(channel, []).append((filter, targets))
            await turns.give()
        return [
            Reached(
                channel,
                barred(planned, now, drill_safe=drill_safe[channel])
                if channel in drill_safe
                else Bar.NOT_CONFIGURED,
                reached[channel],
            )
            for channel in sorted(reached)
        ]


async def _by_filter(subscriptions: Iterable[Subscription], turns: Turns) -> dict[Filter, list[Subscription]]:
    groups: dict[Filter, list[Subscription]] = {}
    for subscription in subscriptions:
        groups.setdefault(subscription.filter, []).append(subscription)
        await turns.give()
    return groups
