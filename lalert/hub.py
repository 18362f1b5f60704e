"""The hub itself: the one way in for every alert and reading, and what adapters and the web see of everything behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar
from weakref import WeakValueDictionary

import structlog

from lalert import cap, intake, lifecycle, matching, texts, uplinks
from lalert.channel_canary import PREFIX
from lalert.clock import Clock
from lalert.dispatch import Pace, trial_entry
from lalert.errors import (
    BadRequest,
    LalertError,
    NotFound,
    Problem,
    Refused,
    TooLarge,
    Unavailable,
    UnknownPosition,
)
from lalert.geo import Gazetteer
from lalert.model import (
    LARGE_BYTES,
    Alert,
    Area,
    Changes,
    Entry,
    Facts,
    Filter,
    Origin,
    OriginKind,
    Reading,
    Reference,
    SignaturePolicy,
    Subscription,
    Tenant,
)
from lalert.plugin import Channel, HubApi, Observed, Receipt, Room, State, Text
from lalert.store import Attempt, DeliveryRow, Store
from lalert.store.audit import Action, Actor, ActorKind, Detail, actor_of
from lalert.tenancy import Caller, KeyRing, may_see, station_allowed

if TYPE_CHECKING:
    import aiohttp

    from lalert.dispatch import ChannelStats, Trial

K = TypeVar("K")
K_co = TypeVar("K_co", covariant=True)

log = structlog.get_logger()

MANY_BYTES = 16_384
"""Readings of more than this are read in a thread."""
MAX_COMPLAINTS = 10_000
"""Devices of which is remembered what was wrong with their uplinks."""

NAMESAKES = 50
"""How many alerts of one sender and identifier are looked at to find the one that a reference without a time means."""

SCAN_LIMIT = 2_000
"""How many entries one listing may look at: a narrow filter over a long log answers in pages, not in minutes."""


class Follower(Protocol):
    """What the hub asks of the live part."""

    def follow(
        self, filter: Filter, after: str | None = None, *, audience: Hashable = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Entry]]: ...

    def ends(
        self, filter: Filter, *, audience: Hashable = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Entry]]: ...


class Deliverer(Protocol):
    """What the hub asks of the durable part."""

    async def subscribe(self, subscription: Subscription) -> None: ...

    async def unsubscribe(self, subscription_id: str) -> bool: ...

    async def history(self, subscription_id: str, limit: int = 100) -> list[DeliveryRow]: ...

    async def attempts(self, key: str) -> list[Attempt]: ...

    async def redeliver(self, key: str) -> None: ...

    async def confirm(self, key: str, words: str = "") -> None: ...

    async def subscriptions(self) -> list[Subscription]: ...

    async def subscription(self, subscription_id: str) -> Subscription: ...

    async def send_test(self, subscription_id: str, entry: Entry) -> Trial: ...

    def by_channel(self) -> Mapping[str, ChannelStats]: ...


class Canaries(Protocol):
    """What the hub asks of the channels' canaries."""

    async def answered(self, token: str) -> None: ...


class Signing(Protocol):
    """What the hub asks of its own signing key."""

    async def signer(self) -> cap.Signer: ...


class Observer(Protocol):
    """What the hub asks of the sensors."""

    async def observe(self, tenant: str, readings: Sequence[Reading]) -> Observed: ...


class Scorer(Protocol):
    """What the hub asks of the scorecards: to count. Neither ever waits."""

    def accepted(self, tenant: Tenant, alert: Alert, warnings: Sequence[Problem]) -> None: ...

    def refused(self, tenant: Tenant, raw: bytes, error: LalertError) -> None: ...


class Audit(Protocol):
    """What the hub asks of the audit chain."""

    async def note(
        self,
        action: Action,
        subject: str,
        *,
        by: Actor,
        org: str = "",
        details: Mapping[str, Detail] | None = None,
    ) -> None:
        """Write a line, durably."""
        ...

    def refused(self, org: str, actor: Actor, code: str, remote: str | None) -> None:
        """Count a refusal; never waits."""
        ...


@dataclass(frozen=True, slots=True)
class _Referred:
    """An alert with what it refers to; what has the same `turn` is judged and kept one after the other."""

    alert: Alert
    known: dict[str, Entry]
    ambiguous: frozenset[str]
    turn: str


class Keep(Protocol[K_co]):
    """What is done with an alert that may go out: `Store.append`, or `Store.foresee`."""

    def __call__(
        self,
        alert: Alert,
        origin: Origin,
        received: datetime,
        facts: Facts,
        jurisdiction: frozenset[str],
        *,
        changes: Changes | None = None,
        correction: bool = False,
    ) -> Awaitable[K_co]: ...


@dataclass(frozen=True, slots=True)
class Foresight:
    """What would become of a document that may go out. `entry` has no position yet unless the document was accepted before (then not `fresh`)."""

    entry: Entry
    fresh: bool
    lineage: tuple[Entry, ...]
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Entries of a listing, and the position to go on after."""

    entries: tuple[Entry, ...]
    next: str


class Hub:
    """Ties intake, store, live, dispatch and sensors together. Everything that gets in, gets in by `submit` (what the hub writes itself: `issue`) and `observe`."""

    def __init__(
        self,
        *,
        store: Store,
        live: Follower,
        keyring: KeyRing,
        gazetteer: Gazetteer,
        policy: intake.Policy,
        clock: Clock,
        signing: Signing,
        base_url: Callable[[], str],
        library: texts.Library | None = None,
    ) -> None:
        self.store = store
        self.texts = library or texts.usual()
        self.live = live
        self.keyring = keyring
        self.gazetteer = gazetteer
        self.clock = clock
        self._signing = signing
        self._policy = policy
        self._why_no_certificate = ""
        self._base_url = base_url
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._trials = Pace(clock)
        self.channels: dict[str, Channel] = {}
        self.dispatcher: Deliverer
        self.canaries: Canaries
        self.sensors: Observer
        self.devices: uplinks.Devices = uplinks.DeviceTable()
        self.heard = uplinks.LastHeard()
        self._complaints: dict[str, str] = {}
        self.scores: Scorer
        self.audit: Audit

    @property
    def base_url(self) -> str:
        return self._base_url()

    async def submit(
        self, raw: bytes, caller: Caller, kind: OriginKind, remote: str | None = None
    ) -> Receipt:
        """Take a CAP document, bare or in an EDXL envelope; returns once it is durable, and the fan-out is then under way.

        What refers to other alerts waits for what is being said of the same incident, so that each is judged by what came before it.
        Raises `TooLarge`, `NotXml`, `InvalidAlert`, `Unauthenticated`, `Forbidden`, `Conflict` or `Unavailable`; nothing is kept of what was refused
        but that it was, and why (`scores`).
        """
        tenant = caller.tenant
        try:
            receipt = await self._take(raw, caller, kind, remote)
        except LalertError as error:
            if tenant is not None:
                self.scores.refused(tenant, raw, error)
            self.turned_away(error, caller, kind, remote)
            raise
        # A repeat was counted before; what the hub issues itself says nothing of a sender.
        if tenant is not None and receipt.fresh:
            self.scores.accepted(tenant, receipt.entry.alert, receipt.warnings)
        return receipt

    def turned_away(
        self, error: LalertError, caller: Caller, kind: OriginKind, remote: str | None = None
    ) -> None:
        """Note for the audit chain that a submission was refused, here or before it was read; that the hub cannot take it now is no refusal."""
        if isinstance(error, Refused):
            org = caller.tenant.id if caller.tenant else ""
            by = actor_of(kind, caller.key.id if caller.key else None, remote)
            self.audit.refused(org, by, error.error_code, remote)

    async def issue(self, raw: bytes, caller: Caller, kind: OriginKind, remote: str | None = None) -> Receipt:
        """Sign a CAP document that the hub itself has made, and submit it; raises what `submit` raises.

        Where that cannot be done it goes out unsigned, whatever its organisation asks of others: a warning is worth more than its signature.
        """
        try:
            signer = await self._signing.signer()
            raw = await asyncio.to_thread(signer.sign, raw)
        except Exception:
            log.exception("what this hub issues goes out unsigned")
            return await self._take(raw, caller, kind, remote, cap.Verification(signed=False))
        own = cap.Verification(signed=True, signer=signer.certificate.fingerprint)
        return await self._take(raw, caller, kind, remote, own)

    async def foresee(
        self,
        raw: bytes,
        caller: Caller,
        kind: OriginKind,
        remote: str | None = None,
        *,
        own: bool = False,
    ) -> Foresight:
        """Judge a CAP document just as `submit` does (`own`: as `issue` does), and keep, count and tell nothing. Raises what that raises."""
        unsigned = cap.Verification(signed=False) if own else None
        foreseen, warnings = await self._judged(raw, caller, kind, remote, unsigned, self.store.foresee)
        warnings = (*warnings, *intake.found_by_the_log(foreseen.entry))
        return Foresight(foreseen.entry, foreseen.fresh, foreseen.lineage, warnings)

    async def certificate(self) -> str:
        """Return the certificates, PEM, that readers verify with what the hub itself issues; raises `Unavailable`."""
        try:
            return (await self._signing.signer()).published
        except LalertError as error:
            # Once for each cause: anybody may ask, as often as they like.
            if error.detail != self._why_no_certificate:
                self._why_no_certificate = error.detail
                log.error("the hub's certificate cannot be given", detail=error.detail)
            raise Unavailable(
                "this hub cannot use its signing key now; the reason is in its log", retry_after=60.0
            ) from error

    async def _take(
        self,
        raw: bytes,
        caller: Caller,
        kind: OriginKind,
        remote: str | None,
        own: cap.Verification | None = None,
    ) -> Receipt:
        appended, warnings = await self._judged(raw, caller, kind, remote, own, self.store.append)
        warnings = (*warnings, *intake.found_by_the_log(appended.entry))
        return Receipt(appended.entry, appended.fresh, warnings)

    async def _judged(
        self,
        raw: bytes,
        caller: Caller,
        kind: OriginKind,
        remote: str | None,
        own: cap.Verification | None,
        keep: Keep[K],
    ) -> tuple[K, tuple[Problem, ...]]:
        """Parse and judge a document and have it kept; returns what came of that, and the warnings of intake."""
        if len(raw) > cap.MAX_BYTES:
            raise TooLarge(f"the document has {len(raw)} bytes; the limit is {cap.MAX_BYTES}")
        received = self.clock.now()
        home = intake.jurisdiction(caller)
        if len(raw) > LARGE_BYTES:
            alert, facts = await asyncio.to_thread(self.read, raw, home)
        else:
            alert, facts = self.read(raw, home)
        signature = own or await self._verified(alert, caller, received)
        origin = Origin(
            kind=kind,
            tenant=caller.audience,
            key_id=caller.key.id if caller.key else None,
            remote=remote,
            signer=signature.signer if signature else None,
        )
        if not alert.references:
            case = intake.Case(alert, caller, received, {}, self.gazetteer, self._policy, signature, facts)
            return await _kept(case, origin, home, keep)
        referred = await self._referred(alert, caller)
        async with self._turns.setdefault(referred.turn, asyncio.Lock()):
            heads = {id: await self.store.heads(entry) for id, entry in referred.known.items()}
            case = intake.Case(
                referred.alert,
                caller,
                received,
                referred.known,
                self.gazetteer,
                self._policy,
                signature,
                facts,
                heads,
                referred.ambiguous,
            )
            return await _kept(case, origin, home, keep)

    async def _referred(self, alert: Alert, caller: Caller) -> _Referred:
        """Return what the alert refers to, as far as it is here; a reference without a time gets that of the one alert it can mean."""
        known: dict[str, Entry] = {}
        ambiguous: set[str] = set()
        references: list[Reference] = []
        for reference in alert.references:
            if reference.timeless:
                named = await self.store.named(reference.sender, reference.identifier, NAMESAKES)
                # Another organisation's counts only where there is none of one's own: it is then refused as such.
                meant = [
                    e for e in named if e.origin.tenant == caller.audience and e.alert.id != alert.id
                ] or named
                if len(meant) == 1:
                    reference = replace(reference, instant=meant[0].alert.sent)  # noqa: PLW2901
                elif meant:
                    ambiguous.add(reference.id)
            references.append(reference)
            entry = None if reference.timeless else await self.store.find(reference.id)
            if entry is not None:
                known[reference.id] = entry
        first = next(iter(known.values()), None)
        turn = f"{caller.audience} {first.incident if first else references[0].id}"
        if any(reference.timeless for reference in alert.references):
            alert = replace(alert, references=tuple(references))
        return _Referred(alert, known, frozenset(ambiguous), turn)

    def read(self, raw: bytes, home: frozenset[str]) -> tuple[Alert, Facts]:
        """Parse a document, judge it by the hub's profile, and derive whom it concerns; `home` is the jurisdiction of one that names no place.

        Tolerantly: whether its sender's errors are forgiven, intake decides.
        """
        alert = cap.parse(raw, tolerant=True, ground=self.gazetteer.geometry)
        asked = self._policy.profile
        profile = asked if asked.rules else cap.CODES
        found = cap.judge(alert, profile, self.gazetteer.place, self._is_placed)
        if found and alert.raw is not raw and (envelope := cap.examine(raw).envelope):
            found = tuple(map(envelope.placed, found))
        if found:
            alert = replace(alert, defects=(*alert.defects, *found))
        return alert, matching.facts_of(alert, self.gazetteer, home)

    def _is_placed(self, area: Area) -> bool:
        return matching.placed_exactly(area, self.gazetteer)

    async def _verified(self, alert: Alert, caller: Caller, received: datetime) -> cap.Verification | None:
        """Return what became of the signature, None where the organisation's policy is not to look."""
        tenant = caller.tenant
        if tenant is None or tenant.signatures is SignaturePolicy.IGNORE:
            return None
        raw = alert.raw  # what was taken out of an envelope was signed without it
        # The first one loads the library, which takes longer than the loop may stand still.
        if len(raw) > LARGE_BYTES or not cap.signatures_loaded():
            return await asyncio.to_thread(cap.verify, raw, tenant.certificates, received, alert)
        return cap.verify(raw, tenant.certificates, received, alert)

    async def observe(self, readings: Sequence[Reading], tenant: str) -> Observed:
        """Take readings of an organisation's stations; returns once they are durable. Raises `Unavailable`."""
        return await self.sensors.observe(tenant, readings)

    async def take(
        self,
        form: str,
        raw: bytes,
        tenant: str,
        *,
        only: Collection[str] = (),
        station: str | None = None,
        event: str = "up",
    ) -> Observed:
        """Take readings as they came: `json`, `csv`, or the uplink of a network; returns once they are durable.

        `only` are the stations that the key is limited to; `station` and `event` are as `uplinks` has them. Raises `BadRequest` where the whole
        does not read, and `Unavailable`.
        """
        if form in uplinks.NETWORKS:
            return await self._take_uplink(form, raw, tenant, event, only)
        read = uplinks.read_csv if form == "csv" else uplinks.read_json
        found = await asyncio.to_thread(read, raw, station) if len(raw) > MANY_BYTES else read(raw, station)
        items = [_limited(item, only) for item in found]
        good = [(item.index, item.reading) for item in items if item.reading is not None]
        observed = await self.observe([reading for _, reading in good], tenant)
        rejected = [(good[index][0], code) for index, code in observed.rejected]
        errors = {item.index: item.error for item in items if item.error is not None}
        rejected += [(index, error.error_code) for index, error in errors.items()]
        details = {index: error.detail for index, error in errors.items()}
        return replace(observed, rejected=tuple(sorted(rejected)), details=details)

    async def _take_uplink(
        self, network: str, raw: bytes, tenant: str, event: str, only: Collection[str]
    ) -> Observed:
        """Take an uplink; one that says nothing is rejected, not refused.

        A network that is answered with errors too often ends its calls, and then those of all devices.
        """
        uplink = None
        try:
            uplink = uplinks.read_uplink(network, raw, event)
            if uplink is None:
                return Observed(0, 0)
            device = self._device(uplink, tenant)
            if not station_allowed(only, device.station):
                raise _not_yours(device.station)
            said = uplinks.signs_of(uplink, device)
        except BadRequest as error:
            if error.error_code not in uplinks.REJECTED:
                raise
            self._complain(uplink.device if uplink else network, error)
            return Observed(0, 0, ((0, error.error_code),), {0: error.detail})
        self._complaints.pop(uplink.device, None)
        observed = await self.observe(said.readings, tenant) if said.readings else Observed(0, 0)
        if self.heard.note(device, said.battery, uplink):
            log.warning(
                "a device's battery is low",
                device=device.id,
                station=device.station,
                battery=str(said.battery),
            )
        return observed

    def _device(self, uplink: uplinks.Uplink, tenant: str) -> uplinks.Device:
        device = self.devices.device(uplink.device, min(uplink.time, self.clock.now()), tenant)
        if device is None:
            raise BadRequest(
                f"{uplink.device}: no such device; [[devices]] lists them", code="unknown-device"
            )
        return device

    def _complain(self, device: str, error: BadRequest) -> None:
        """Log once what is wrong with a device's uplinks, until that is another thing or nothing."""
        if self._complaints.get(device) == error.error_code:
            return
        if len(self._complaints) >= MAX_COMPLAINTS:
            self._complaints.clear()
        self._complaints[device] = error.error_code
        log.warning("an uplink was rejected", device=device, code=error.error_code, detail=error.detail)

    async def entry(self, position: str, audience: str | None) -> Entry:
        """Return the entry at a position; raises `NotFound`, also for what the audience may not see."""
        try:
            await self.store.reach(position)
            found = await self.store.entry(position)
        except (UnknownPosition, BadRequest):
            found = None
        return self._visible(found, audience)

    async def find(self, alert_id: str, audience: str | None) -> Entry:
        """Return the entry with a permanent id; raises `NotFound`, also for what the audience may not see."""
        return self._visible(await self.store.find(alert_id), audience)

    @staticmethod
    def _visible(entry: Entry | None, audience: str | None) -> Entry:
        if entry is None or not may_see(audience, entry):
            raise NotFound("there is no such alert here")
        return entry

    async def active(
        self, filter: Filter, audience: str | None, after: str | None = None, limit: int | None = None
    ) -> Page:
        """Return what is in force now and wanted by a filter, rising, with the position from which a stream goes on without a gap.

        After a position, and up to `limit`, where they are given; `next` then leads on to the rest. Raises `UnknownPosition`, `BadRequest`.
        """
        if after is not None:
            await self.store.reach(after)
        newest = self.store.newest
        entries = await self.store.active(self.clock.now())
        # Where it is in force now decides, not who was told of it before: that an alert has left a place is told there by its Update.
        here = [e for e in entries if may_see(audience, e) and matching.wants(filter, e, (), self.gazetteer)]
        if after is not None:
            order = self.store.order
            here = [e for e in here if order(e.position) > order(after)]
        if limit is not None and len(here) > limit:
            return Page(tuple(here[:limit]), here[limit - 1].position)
        return Page(tuple(here), newest)

    async def page(self, filter: Filter, audience: str | None, after: str | None, limit: int) -> Page:
        """Return up to `limit` wanted entries after a position, rising; raises `UnknownPosition`, `BadRequest`.

        From an alert that is kept one can always go on, so that pages of what is left lead to its end.
        """
        found: list[Entry] = []
        if after is not None:
            await self.store.reach(after)
            if await self.store.entry(after) is None:
                self.store.require_kept(after)
        # Before the reading: what is appended during it must not be skipped by whoever goes on after `next`.
        newest = self.store.newest
        position, seen = after, 0
        while len(found) < limit and seen < SCAN_LIMIT:
            batch = await self.store.read(position, min(200, SCAN_LIMIT - seen))
            for entry in batch:
                seen, position = seen + 1, entry.position
                if await self._shown(filter, entry, audience):
                    found.append(entry)
                    if len(found) == limit:
                        break
            if not batch:
                break
        return Page(tuple(found), position if position is not None else newest)

    async def recent(self, filter: Filter, audience: str | None, limit: int) -> list[Entry]:
        """Return the newest `limit` wanted entries among the last `SCAN_LIMIT`, newest first."""
        found: list[Entry] = []
        for entry in reversed(await self.store.latest(SCAN_LIMIT)):
            if await self._shown(filter, entry, audience):
                found.append(entry)
                if len(found) == limit:
                    break
        return found

    async def _shown(self, filter: Filter, entry: Entry, audience: str | None) -> bool:
        return may_see(audience, entry) and await self.wants(filter, entry)

    async def wants(self, filter: Filter, entry: Entry) -> bool:
        """Say whether a filter wants an entry, the former audience of what it refers to included."""
        lineage = await self.store.lineage(entry) if entry.alert.references else []
        return matching.wants(filter, entry, lineage, self.gazetteer)

    async def subscribe(self, subscription: Subscription, by: Actor) -> Subscription:
        """Start a durable push and return it as it is kept; raises `BadRequest` where the channel does not exist or refuses the target."""
        channel = self.channels.get(subscription.channel)
        if channel is None:
            raise BadRequest(
                f"channel: {subscription.channel!r} is not one of {', '.join(sorted(self.channels)) or 'none'}"
            )
        kept = channel.check_subscription(subscription)
        # Before it is there: else a line that cannot be written leaves a push of which its owner has not been told.
        details = {"channel": kept.channel}
        await self.audit.note(Action.SUBSCRIBED, kept.id, by=by, org=kept.tenant or "", details=details)
        await self.dispatcher.subscribe(kept)
        return kept

    async def unsubscribe(self, subscription: Subscription, by: Actor) -> bool:
        """End a durable push; returns False if it had ended already. Raises `Unavailable`."""
        org, details = subscription.tenant or "", {"channel": subscription.channel}
        await self.audit.note(Action.UNSUBSCRIBED, subscription.id, by=by, org=org, details=details)
        return await self.dispatcher.unsubscribe(subscription.id)

    async def redeliver(self, row: DeliveryRow, subscription: Subscription, by: Actor) -> None:
        """Send something again because a person asks for it; raises what `Dispatcher.redeliver` does."""
        await self.dispatcher.redeliver(row.key)
        details = {"channel": subscription.channel, "subscription": subscription.id, "position": row.position}
        await self.audit.note(
            Action.REDELIVERED, row.key, by=by, org=subscription.tenant or "", details=details
        )

    async def send_test(self, subscription: Subscription, by: Actor) -> Trial:
        """Send a test to one subscription; raises `TooManyRequests`, and `Forbidden` where its channel cannot mark one."""
        org = subscription.tenant or ""
        self._trials.take(org)
        entry = trial_entry(self.clock.now(), subscription.tenant)
        trial = await self.dispatcher.send_test(subscription.id, entry)
        details = {"channel": subscription.channel, "state": trial.state}
        await self.audit.note(Action.TESTED, subscription.id, by=by, org=org, details=details)
        return trial


def _limited(item: uplinks.Item, only: Collection[str]) -> uplinks.Item:
    if item.reading is None or station_allowed(only, item.reading.station):
        return item
    return uplinks.Item(item.index, None, _not_yours(item.reading.station))


def _not_yours(station: str) -> BadRequest:
    return BadRequest(f"station: this key may not write readings of {station}", code="station-not-yours")


async def _kept(
    case: intake.Case, origin: Origin, home: frozenset[str], keep: Keep[K]
) -> tuple[K, tuple[Problem, ...]]:
    judge = partial(intake.judge, case)
    warnings = await asyncio.to_thread(judge) if case.alert.large else judge()
    message = case.message if case.alert.references else None
    kept = await keep(
        case.alert,
        origin,
        case.now,
        case.facts,
        home if case.facts.nowhere else frozenset(),
        changes=lifecycle.replaces(message) if message else None,
        correction=message is not None and lifecycle.corrects(message),
    )
    return kept, warnings


class AdapterHub:
    """One adapter instance's view of the hub: only what `HubApi` names, acting for the organisation that the instance is configured for."""

    def __init__(
        self, hub: Hub, name: str, org: str | None, http: aiohttp.ClientSession, kind: str = ""
    ) -> None:
        """`kind` is the name of the adapter's entry point: there may be templates for it."""
        self._hub = hub
        self._kind = kind or name
        self._name = name
        self._org = org
        self._http = http
        self._state = _InstanceState(hub.store, name)
        self._actor = Actor(ActorKind.ADAPTER, name)

    @property
    def base_url(self) -> str:
        return self._hub.base_url

    @property
    def clock(self) -> Clock:
        return self._hub.clock

    @property
    def http(self) -> aiohttp.ClientSession:
        return self._http

    @property
    def state(self) -> State:
        return self._state

    async def submit(self, raw: bytes) -> Receipt:
        tenant = self._hub.keyring.tenant(self._org) if self._org else None
        if tenant is None:
            raise Refused(
                f"adapter {self._name} acts for no organisation: set `org` in [adapters.{self._name}]"
            )
        return await self._hub.submit(raw, Caller(tenant), OriginKind.ADAPTER, self._name)

    async def observe(self, readings: Sequence[Reading]) -> Observed:
        if self._org is None:
            raise Refused(
                f"adapter {self._name} acts for no organisation: set `org` in [adapters.{self._name}]"
            )
        return await self._hub.observe(readings, self._org)

    async def take(self, form: str, raw: bytes, *, station: str | None = None, event: str = "up") -> Observed:
        if self._org is None:
            raise Refused(
                f"adapter {self._name} acts for no organisation: set `org` in [adapters.{self._name}]"
            )
        return await self._hub.take(form, raw, self._org, station=station, event=event)

    def subscribe(
        self, filter: Filter, after: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Entry]]:
        return self._hub.live.follow(filter, after, audience=self._org)

    def ended(self, filter: Filter) -> AbstractAsyncContextManager[AsyncIterator[Entry]]:
        return self._hub.live.ends(filter, audience=self._org)

    async def recent(self, filter: Filter, limit: int = 100) -> list[Entry]:
        return await self._hub.recent(filter, self._org, limit)

    async def save_subscription(self, subscription: Subscription) -> None:
        if subscription.channel != self._name:
            raise BadRequest(f"channel: {subscription.channel!r} is not this instance ({self._name})")
        await self._hub.subscribe(subscription, self._actor)

    async def drop_subscription(self, subscription_id: str) -> bool:
        subscription = await self.subscription(subscription_id)
        return subscription is not None and await self._hub.unsubscribe(subscription, self._actor)

    async def subscription(self, subscription_id: str) -> Subscription | None:
        try:
            subscription = await self._hub.dispatcher.subscription(subscription_id)
        except NotFound:
            return None
        return subscription if subscription.channel == self._name else None

    async def subscriptions(self) -> list[Subscription]:
        return [s for s in await self._hub.dispatcher.subscriptions() if s.channel == self._name]

    async def confirm(self, key: str) -> None:
        if key.startswith(PREFIX):
            await self._hub.canaries.answered(key)
        else:
            await self._hub.dispatcher.confirm(key)

    def text(self, entry: Entry, lang: str | None = None, room: Room | None = None) -> Text:
        return self._hub.texts.text(entry, lang, room, self._kind)

    def body(self, entry: Entry, format: str = "json", lang: str | None = None) -> bytes:
        return texts.body(entry, format, lang)


if TYPE_CHECKING:
    _: type[HubApi] = AdapterHub


class _InstanceState:
    """The store's small values, kept apart by instance."""

    MAX_KEY = 200
    MAX_VALUE = 65_536

    def __init__(self, store: Store, owner: str) -> None:
        self._store = store
        self._owner = owner

    async def get(self, key: str) -> bytes | None:
        return await self._store.get(self._owner, key)

    async def put(self, key: str, value: bytes) -> None:
        if len(key) > self.MAX_KEY or len(value) > self.MAX_VALUE:
            raise BadRequest(
                f"state: keys hold at most {self.MAX_KEY} characters, values {self.MAX_VALUE} bytes"
            )
        await self._store.put(self._owner, key, value)

    async def delete(self, key: str) -> None:
        await self._store.delete(self._owner, key)
