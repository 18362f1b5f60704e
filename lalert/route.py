"""The dry run: who would get an alert, how many, and why, by the very functions that would send it, and without sending it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from lalert import cap, matching
from lalert.dispatch import Bar, Reached, Turns
from lalert.errors import BadRequest, InvalidGeometry, LalertError, NotFound, Refused, Unavailable
from lalert.geo import Gazetteer
from lalert.hub import Foresight, Hub
from lalert.matching import Reason, Rule
from lalert.model import Entry, Filter, OriginKind, Subscription, Tenant
from lalert.plugin import Listing
from lalert.tenancy import Caller, sender_allowed

LISTED: Final = 100
"""So many targets of each channel, places and feeds are listed unless more are asked for."""

MAX_LISTED: Final = 1_000

MAX_WAITING: Final = 16
"""So many dry runs may be under way; over seventy thousand subscriptions each takes about a second."""

Stream = Literal["sse", "websocket"]


class Hearers(Protocol):
    """Who listens now (`live.Live`)."""

    async def hearers(
        self, entry: Entry, lineage: Sequence[Entry]
    ) -> Sequence[tuple[Filter, Stream, int]]: ...


class Targets(Protocol):
    """Who is sent what they subscribed to (`dispatch.Dispatcher`)."""

    async def foresee(self, entry: Entry, lineage: Sequence[Entry]) -> Sequence[Reached]: ...


@dataclass(frozen=True, slots=True)
class Counted:
    """How many are told by one rule: `area` is the code that they follow, where it was one; `again` says that they are told because they were told before."""

    rule: Rule
    area: str | None
    again: bool
    number: int


@dataclass(frozen=True, slots=True)
class Streams:
    """Who listens to this node now and would be told, in all and by kind of stream."""

    total: int
    kinds: Mapping[Stream, int]
    counts: tuple[Counted, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """A target that may be shown, and why it is told."""

    subscription: Subscription
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class ChannelReach:
    """The targets of one channel that the alert is for. With a `bar` none of them is sent it. `shown` of them may be shown; `listed` are the first of those."""

    channel: str
    bar: Bar | None
    total: int
    shown: int
    counts: tuple[Counted, ...]
    listed: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one filter would make of the alert: by which rules it wants it, or which keep it away."""

    filter: Filter
    wanted: bool
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """What would become of a document. Where it would be refused, `error` says so, and it would reach nobody.

    `streams` is None where no node runs: nobody listens then.
    """

    error: LalertError | None = None
    foresight: Foresight | None = None
    streams: Streams | None = None
    channels: tuple[ChannelReach, ...] = ()
    feeds: tuple[str, ...] = ()
    asked: Answer | None = None

    @property
    def total(self) -> int:
        """Return how many streams and targets would be told."""
        heard = self.streams.total if self.streams else 0
        return heard + sum(reach.total for reach in self.channels if reach.bar is None)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked beside the document. `viewer` is the organisation whose targets may be shown, None for whoever runs the hub; `limit` bounds each list."""

    viewer: str | None
    limit: int = LISTED
    filter: Filter | None = None


class Router:
    """Answers dry runs. Without `hearers` no node runs, and nobody listens."""

    def __init__(
        self, hub: Hub, hearers: Hearers | None, targets: Targets, listings: Sequence[Listing]
    ) -> None:
        self._hub = hub
        self._hearers = hearers
        self._targets = targets
        self._listings = listings
        self._one = asyncio.Lock()
        self._waiting = 0

    @property
    def gazetteer(self) -> Gazetteer:
        """Return what names the places of an answer."""
        return self._hub.gazetteer

    async def route(
        self, raw: bytes, caller: Caller, kind: OriginKind, question: Question, remote: str | None = None
    ) -> Route:
        """Return what would become of a document of the caller's; raises `Unavailable`, as a post would, and where too many ask at once.

        Gives everybody else a turn every two milliseconds, but in the matching itself, which takes as long as for a real alert.
        """
        try:
            foresight = await self._hub.foresee(raw, caller, kind, remote)
        except Refused as error:
            return Route(error, asked=_nobody(question))
        if not foresight.fresh:
            # An exact repeat is told to nobody again.
            return Route(foresight=foresight, asked=_nobody(question))
        if self._waiting >= MAX_WAITING:
            raise Unavailable("too many dry runs are under way: ask again in a moment", retry_after=1.0)
        self._waiting += 1
        try:
            # One after the other: a real alert never has more than one of them to wait for.
            async with self._one:
                return await self._audience(foresight, question)
        finally:
            self._waiting -= 1

    async def _audience(self, foresight: Foresight, question: Question) -> Route:
        why = _Why(self._hub, foresight)
        return Route(
            foresight=foresight,
            streams=await self._streams(foresight, why),
            channels=await self._channels(foresight, why, question),
            feeds=await self._feeds(foresight),
            asked=self._answer(foresight, question.filter) if question.filter else None,
        )

    def sender(self, raw: bytes, org: str | None) -> Tenant:
        """Return the organisation that a document is judged for where no key says so: the one named, else the only one that may use its CAP sender.

        Raises `NotFound` for a name that is not known, `BadRequest` where none or several can be meant.
        """
        tenants = sorted(self._hub.keyring.tenants(), key=lambda tenant: tenant.id)
        if org is not None:
            found = next((tenant for tenant in tenants if tenant.id == org), None)
            if found is None:
                raise NotFound(f"there is no organisation {org[:50]!r}; lalert org list shows them")
            return found
        if not tenants:
            raise BadRequest("this hub has no organisation yet: make one with lalert org create")
        alert = cap.examine(raw).alert if len(raw) <= cap.MAX_BYTES else None
        if alert is None:
            return tenants[0]  # it cannot be read, whoever sends it
        able = [tenant for tenant in tenants if sender_allowed(tenant, alert.sender)]
        if len(able) == 1 or len(tenants) == 1:
            return (able or tenants)[0]
        names = ", ".join(tenant.id for tenant in (able or tenants)[:10])
        raise BadRequest(f"say with --org as which organisation it would be sent: {names}")

    async def _streams(self, foresight: Foresight, why: _Why) -> Streams | None:
        if self._hearers is None:
            return None
        hearing = await self._hearers.hearers(foresight.entry, foresight.lineage)
        kinds: Counter[Stream] = Counter()
        for _, kind, number in hearing:
            kinds[kind] += number
        counts = await why.counted((filter, number) for filter, _, number in hearing)
        return Streams(kinds.total(), kinds, counts)

    async def _channels(
        self, foresight: Foresight, why: _Why, question: Question
    ) -> tuple[ChannelReach, ...]:
        return tuple(
            [
                await _reach(reached, why, question)
                for reached in await self._targets.foresee(foresight.entry, foresight.lineage)
            ]
        )

    async def _feeds(self, foresight: Foresight) -> tuple[str, ...]:
        entry, lineage = foresight.entry, foresight.lineage
        turns, statuses = Turns(), frozenset({entry.alert.status})
        places: list[str] = []
        reached = (told.facts.reach - told.facts.ended for told in (entry, *lineage))
        for code in sorted(frozenset().union(*reached)):
            here = Filter(areas=frozenset({code}), statuses=statuses)
            if matching.wants(here, entry, lineage, self._hub.gazetteer):
                places.append(code)
            await turns.give()
        return tuple(path for listing in self._listings for path in listing.listed_at(entry, lineage, places))

    def _answer(self, foresight: Foresight, filter: Filter) -> Answer:
        of = (filter, foresight.entry, foresight.lineage, self._hub.gazetteer)
        reasons = matching.explain(*of)
        return Answer(filter, bool(reasons), tuple(reasons or matching.hindrances(*of)))


def _nobody(question: Question) -> Answer | None:
    return Answer(question.filter, wanted=False, reasons=()) if question.filter else None


async def _reach(reached: Reached, why: _Why, question: Question) -> ChannelReach:
    turns = Turns()
    listed: list[Told] = []
    shown = 0
    for filter, group in reached.targets:
        own = [one for one in group if question.viewer is None or one.tenant == question.viewer]
        shown += len(own)
        if own and len(listed) < question.limit:
            reasons = why.of(filter)
            listed += [Told(one, reasons) for one in own[: question.limit - len(listed)]]
        await turns.give()
    numbers = [(filter, len(group)) for filter, group in reached.targets]
    return ChannelReach(
        reached.channel,
        reached.bar,
        sum(number for _, number in numbers),
        shown,
        await why.counted(numbers),
        tuple(listed),
    )


class _Why:
    """Explains filters that want an alert."""

    def __init__(self, hub: Hub, foresight: Foresight) -> None:
        self._gazetteer = hub.gazetteer
        self._foresight = foresight

    def of(self, filter: Filter) -> tuple[Reason, ...]:
        entry, lineage = self._foresight.entry, self._foresight.lineage
        try:
            reasons = tuple(matching.explain(filter, entry, lineage, self._gazetteer))
        except InvalidGeometry:
            reasons = ()
        # What cannot be judged is told all the same.
        return reasons or (_UNJUDGED,)

    async def counted(self, numbers: Iterable[tuple[Filter, int]]) -> tuple[Counted, ...]:
        """Return how many are told by which rule, the most first; each filter counts for the first rule by which it wants the alert itself."""
        turns = Turns()
        counts: Counter[tuple[Rule, str | None, bool]] = Counter()
        for filter, number in numbers:
            counts[_key(self.of(filter))] += number
            await turns.give()
        ordered = sorted(counts.items(), key=lambda one: (-one[1], str(one[0])))
        return tuple(Counted(*key, number) for key, number in ordered)


_UNJUDGED: Final = Reason(
    Rule.UNJUDGED, "the filter cannot be judged, so it is told", "条件を判定できないため、念のため配信します"
)


def _key(reasons: Iterable[Reason]) -> tuple[Rule, str | None, bool]:
    first = min(reasons, key=lambda reason: reason.earlier is not None)
    return first.rule, first.area, first.earlier is not None
