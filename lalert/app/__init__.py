"""The composition root: the only place that builds things. A `Node` is a whole hub, also inside a test."""

from __future__ import annotations

import asyncio
import platform
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import msgspec
import shapely
import structlog
from aiohttp import web

from lalert import cap, intake, matching, registry, resources, texts
from lalert.app.rehearsal import open_test_streams
from lalert.app.stores import DATABASE, OFFLINE_VIEW, open_ground, restore_store
from lalert.audit import HEADS_FILE, Auditor, read_heads
from lalert.bus.leases import only_here
from lalert.bus.local import LocalBus
from lalert.canary import Canary
from lalert.channel_canary import ChannelCanaries, Schedule
from lalert.checklist import Checklist
from lalert.clock import Clock, SystemClock
from lalert.config import Settings, device_table, layouts_of, library_of, read_geocode_file, station_of
from lalert.config import Station as StationConfig
from lalert.dispatch import Dispatcher, StoredTargets, guarded_session
from lalert.errors import ConfigError, LalertError, NotFound, StoreError, Unavailable
from lalert.geo import Gazetteer, normalise_code
from lalert.hub import AdapterHub, Hub
from lalert.lifecycle import Handling, ReferencePolicy
from lalert.live import Live, LiveSettings
from lalert.matching import FilterIndex
from lalert.model import Alert, Entry, Facts, Filter, Lease, OriginKind, Status, Subscription, Tenant
from lalert.plugin import Adapter, ByHand, Canarying, Channel, Endpoint, Listing, PagePart, Source
from lalert.receivers import Receivers
from lalert.retention import Archive, Retention
from lalert.route import Router
from lalert.scores import Scores
from lalert.sensors import Engine, Proposals, Roster, Stage, Station
from lalert.signing import Signing
from lalert.stations import Desk, KnownDevices
from lalert.store import Store
from lalert.store.audit import LOCAL, Action, Detail, Document, Head, KeptLine, Note
from lalert.store.sqlite.audit import chain_in
from lalert.store.sqlite.backup import Restored
from lalert.tenancy import CHANGED, Administration, Caller, KeyRing, Tickets, may_see
from lalert.web import admin, pages
from lalert.web.context import FirstKeys
from lalert.web.health import Metrics
from lalert.web.server import Site, make_admin_app, make_app

log = structlog.get_logger()

STOP_SECONDS = 10.0
ARCHIVE = "archive"
BOUNDARIES = "boundaries"
SETUP_LINK = "setup-link"
PARTS = {"live": "the live streams", "deliveries": "the durable deliveries"}
"""Who has to hear of every alert, by the name under which it is watched."""


class Node:
    """One hub process: store, fan-out, adapters, sensors and HTTP, started and stopped together.

    `async with Node(settings) as node:` serves until the block ends. Raises `ConfigError` and `StoreError` before anything is opened to the
    network.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.data = Path(settings.hub.data)
        self.setup_link: Path | None = None
        self._plan = registry.plan(settings.adapters)
        self.texts = library_of(settings)
        self._stack = AsyncExitStack()
        self._port = settings.hub.port
        self._stopping = False

    @property
    def url(self) -> str:
        """Return where the node listens."""
        host = self.settings.hub.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    @property
    def settled(self) -> Settings:
        """Return the settings with the port that was taken."""
        return msgspec.structs.replace(
            self.settings, hub=msgspec.structs.replace(self.settings.hub, port=self._port)
        )

    @property
    def base_url(self) -> str:
        """Return the public address: the configured one, else where the node listens."""
        return self.settings.hub.base_url.rstrip("/") or self.url

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping = True
        await self._stack.aclose()

    async def _start(self) -> None:
        enter = self._stack.enter_async_context
        make_private(self.data)
        await asyncio.to_thread(self.texts.warm)
        gazetteer = await asyncio.to_thread(_warm_gazetteer, self.data, self.settings.gazetteer.geocodes)
        ground = await enter(
            open_ground(self.settings.store, self.data, partial(_revive, gazetteer), self.clock)
        )
        self.store, self.lost, bus, leases = ground.store, ground.lost, ground.bus, ground.leases
        self._hint = bus.hint
        self.audit = await enter(Auditor(self.store, self.clock, self.data, platform.node()))
        self.signing = await self._prepared_signing()
        self.keyring = KeyRing(self.store, self.clock)
        await self.keyring.refresh()
        self.administration = Administration(self.store, normalise_code, self.clock)
        self.scores = await enter(Scores(self.store, self.clock))
        metrics = Metrics(self._gauges, self.scores.found, self._channel_gauges)
        self.receivers = await enter(
            Receivers(
                self.store,
                self.store,
                self.keyring,
                self.clock,
                wants=self._wants,
                sent=self._sent,
                observe=lambda hop, seconds: metrics.hops.labels(hop).observe(seconds),
            )
        )
        tasks = await enter(background())

        bounds = LiveSettings(**msgspec.structs.asdict(self.settings.live))
        self.live = await enter(
            Live(
                self.store,
                bus,
                index=partial(FilterIndex, gazetteer),
                wants=partial(_wants, gazetteer),
                body=texts.body,
                may_see=_may_see,
                key_valid=self.keyring.still_valid,
                streamed=self._streamed,
                storing=lambda: self.store.storing,
                on_ack=self.receivers.hear,
                on_round_trip=metrics.round_trip.observe,
                clock=self.clock,
                settings=bounds,
            )
        )
        self.test_streams = await enter(open_test_streams(gazetteer, bounds, self.clock, tasks.start))
        self.hub = Hub(
            store=self.store,
            live=self.live,
            keyring=self.keyring,
            gazetteer=gazetteer,
            policy=_policy(self.settings),
            clock=self.clock,
            signing=self.signing,
            base_url=lambda: self.base_url,
            library=self.texts,
        )
        session = await enter(guarded_session(self.settings.networks))
        planned = self._plan.build(lambda name, org, kind: AdapterHub(self.hub, name, org, session, kind))
        adapters: list[Adapter] = [await enter(adapter) for adapter in planned]
        self.hub.channels = {adapter.name: adapter for adapter in adapters if isinstance(adapter, Channel)}
        self.channel_canaries = ChannelCanaries(
            self.store,
            self.clock,
            {name: one for name, one in self.hub.channels.items() if isinstance(one, Canarying)},
            {
                name: Schedule(one.target, one.every_s, one.within_s, one.observe)
                for name, one in self._plan.canaries.items()
            },
        )
        self.hub.canaries = self.channel_canaries
        self.dispatcher = await enter(
            Dispatcher(
                self.store,
                bus,
                self.hub.channels,
                leases=leases,
                tally=self.audit,
                wants=partial(_wants, gazetteer),
                index=partial(FilterIndex, gazetteer),
                may_see=_owner_may_see,
                clock=self.clock,
            )
        )
        listings = [adapter for adapter in adapters if isinstance(adapter, Listing)]
        router = Router(self.hub, self.live, self.dispatcher, listings)
        self.hub.dispatcher = self.dispatcher
        roster = Roster(self.store, stations_of(self.settings), _kept_station, bus)
        await roster.refresh()
        self.proposals = Proposals(
            self.store,
            self.clock,
            self.audit,
            self.keyring,
            issue=lambda raw, caller, remote: self.hub.issue(raw, caller, OriginKind.HTTP, remote),
            foresee=lambda raw, caller, remote: self.hub.foresee(
                raw, caller, OriginKind.HTTP, remote, own=True
            ),
            public_address=lambda: self.settings.hub.base_url.rstrip("/"),
            datum_of=roster.datum_of,
        )
        engine = self.engine = Engine(
            self.store,
            roster,
            self._warn,
            self.clock,
            bus,
            self.proposals.propose,
            public_address=lambda: self.settings.hub.base_url.rstrip("/"),
        )
        self.hub.sensors = engine
        layouts = layouts_of(self.settings)
        self.hub.devices = KnownDevices(device_table(self.settings), roster, layouts)
        desk = Desk(
            self.store,
            roster,
            gazetteer,
            self.clock,
            layouts=layouts,
            signs=self.signing.given or not self.settings.store.url,
        )
        self.hub.scores = self.scores
        self.hub.audit = self.audit
        tasks.start("scorecards", self.scores.run)
        tasks.start("receivers", self.receivers.run)
        tasks.start("audit", self.audit.run)
        alone = partial(only_here, leases)
        tasks.start("audit of what is accepted", partial(alone, "audit", lambda _: self.audit.follow()))
        self._stack.callback(bus.attend(self.keyring.hear))
        tasks.start("keys", self.keyring.watch)
        tasks.start("hints of keys", self.keyring.heed)
        tasks.start("changes of stations", roster.follow)
        tasks.start("proposals", self.proposals.watch)
        tasks.start("sensors", partial(alone, "stations", engine.run))
        self.checklist = Checklist(
            self.dispatcher,
            self.store,
            self.clock,
            [name for name, one in self.hub.channels.items() if isinstance(one, ByHand) and one.by_hand],
        )
        if self.checklist.channels:
            tasks.start("open rows of checklists", self.checklist.watch)
        if self._plan.canaries:
            tasks.start("canaries of channels", partial(alone, "canaries", self._fly_canaries))
            tasks.start("what came of canaries", self.channel_canaries.follow)
        keeping = self.settings.retention
        if keeping.days or keeping.readings_days:
            archive = Archive(Path(keeping.archive) if keeping.archive else self.data / ARCHIVE)
            retention = Retention(
                self.store,
                archive,
                self.clock,
                days=keeping.days,
                readings_days=keeping.readings_days,
            )
            tasks.start("retention", partial(alone, "retention", lambda _: retention.run()))
        for adapter in adapters:
            if isinstance(adapter, Source):
                tasks.start(f"adapter {adapter.name}", adapter.run)
        token = secrets.token_urlsafe(32) if self.keyring.empty else None
        self.canary = await enter(Canary(self.store, bus, self.clock, PARTS))
        site = Site(
            hub=self.hub,
            router=router,
            streams=self.live,
            test_streams=self.test_streams,
            tickets=Tickets(ground.shelf, self.keyring, self.clock),
            receivers=self.receivers,
            stations=engine,
            desk=desk,
            metrics=metrics,
            canary=self.canary,
            channel_canaries=self.channel_canaries,
            checklist=self.checklist,
            proposals=self.proposals,
            scores=self.scores,
            first_keys=FirstKeys(self.administration, token, self._claimed),
            pages=pages.Site(
                self.settings.hub.name,
                gazetteer.attribution,
                self.settings.map.tiles,
                self.settings.map.attribution,
                tuple(adapter.place_script for adapter in adapters if isinstance(adapter, PagePart)),
            ),
            endpoints=[adapter for adapter in adapters if isinstance(adapter, Endpoint)],
            stopping=lambda: self._stopping,
            durability=self.settings.store.durability,
        )
        self.application = make_app(site)
        await self._serve(
            self.application,
            make_admin_app(
                self.administration,
                self._directory_changed,
                self.scores,
                self.store,
                self.audit,
                site,
            ),
        )
        self._write_setup_link(token)

    async def _prepared_signing(self) -> Signing:
        """Return the hub's signing key, ready before a gauge needs it. What is wrong with the operator's is a mistake; a warning does not wait for our own."""
        signing = _signing(self.settings, self.data, self.clock)
        if signing.given or self.settings.stations or await self.store.stations_after(0, 1):
            try:
                await signing.signer()
            except StoreError as error:
                log.error("this hub's own warnings go out unsigned", detail=error.detail)
        return signing

    async def _serve(self, public: web.Application, local: web.Application) -> None:
        runner = web.AppRunner(
            public, handler_cancellation=True, access_log=None, shutdown_timeout=STOP_SECONDS / 5
        )
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        self._stack.push_async_callback(self._drain)
        listener = web.TCPSite(runner, self.settings.hub.host, self.settings.hub.port, backlog=4096)
        try:
            await listener.start()
        except OSError as error:
            address = f"{self.settings.hub.host}:{self.settings.hub.port}"
            raise ConfigError(
                [
                    f"hub.host, hub.port: cannot listen on {address} ({error.strerror}); choose others, such as --port 0 for a free one"
                ]
            ) from error
        self._port = runner.addresses[0][1]
        local_runner = web.AppRunner(local, access_log=None, shutdown_timeout=1.0)
        await local_runner.setup()
        self._stack.push_async_callback(local_runner.cleanup)
        with admin.socket_path(self.data) as path:
            path.unlink(missing_ok=True)
            await web.UnixSite(local_runner, path).start()
            path.chmod(0o600)
        self._stack.callback((self.data / admin.SOCKET_NAME).unlink, missing_ok=True)

    async def _drain(self) -> None:
        await asyncio.gather(self.live.drain(), self.test_streams.drain())

    async def _warn(self, raw: bytes, station: Station) -> object:
        return await self.hub.issue(
            raw, Caller(self.keyring.tenant(station.org)), OriginKind.SENSOR, station.id
        )

    async def _fly_canaries(self, _lease: Lease) -> None:
        await self.channel_canaries.run()

    async def _wants(self, wanted: Filter, entry: Entry) -> bool:
        return await self.hub.wants(wanted, entry)

    def _sent(self, position: str) -> datetime | None:
        return self.live.sent(position)

    def _streamed(self, entry: Entry, subscribers: int) -> None:
        self.audit.streamed(entry, subscribers)
        self.receivers.streamed(entry, subscribers)

    def _gauges(self) -> dict[str, float]:
        live = {f"live_{name}": float(value) for name, value in self.live.stats().items()}
        dispatch = {f"dispatch_{name}": float(value) for name, value in self.dispatcher.stats().items()}
        canary = {f"canary_{name}": value for name, value in self.canary.stats().items()}
        return (
            live
            | dispatch
            | canary
            | self.proposals.gauges()
            | self.engine.gauges()
            | {
                "audit_unwritten": float(self.audit.unwritten),
                "texts_template_failures": float(self.texts.failures.total()),
                "test_streams": sum(self.test_streams.stats()[wire] for wire in ("sse", "websockets")),
                "confirmations_dropped": float(self.receivers.dropped),
                "devices_low_battery": float(self.hub.heard.low()),
            }
        )

    def _channel_gauges(self) -> Mapping[str, Mapping[str, float]]:
        stats = self.dispatcher.by_channel()
        return {
            **self.channel_canaries.gauges(),
            **self.checklist.gauges(),
            "oldest_undelivered_seconds": {name: one.oldest_s for name, one in stats.items()},
            "waiting": {name: float(one.waiting) for name, one in stats.items()},
            "failing_lanes": {name: float(one.failing) for name, one in stats.items()},
        }

    def _write_setup_link(self, token: str | None) -> None:
        path = self.data / SETUP_LINK
        path.unlink(missing_ok=True)
        if token is not None:
            path.touch(mode=0o600, exist_ok=False)
            path.write_text(f"{self.base_url}/setup?token={token}\n", encoding="utf-8")
            self.setup_link = path

    async def _directory_changed(self) -> None:
        await self.keyring.refresh()
        self._hint(CHANGED, "")

    async def _claimed(self) -> None:
        await self._directory_changed()
        (self.data / SETUP_LINK).unlink(missing_ok=True)
        self.setup_link = None


class Tasks:
    """The node's background work: each task is restarted with a pause when it fails, and said so once per cause."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._running: list[asyncio.Task[None]] = []

    def start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self._running.append(self._group.create_task(self._keep(name, work), name=name))

    def stop(self) -> None:
        for task in self._running:
            task.cancel()

    @staticmethod
    async def _keep(name: str, work: Callable[[], Awaitable[None]]) -> None:
        pause, cause = 0.5, ""
        while True:
            try:
                await work()
            except Exception as error:
                if cause != repr(error):
                    cause, pause = repr(error), 0.5
                    # What is foreseen says itself what is wrong; where it came from helps with a defect alone.
                    detail = error.detail if isinstance(error, LalertError) else None
                    log.error(
                        "background work failed; it is started again",
                        work=name,
                        cause=detail,
                        exc_info=detail is None,
                    )
            await asyncio.sleep(pause)
            pause = min(pause * 2, 30.0)


@asynccontextmanager
async def background() -> AsyncIterator[Tasks]:
    """Own background tasks for as long as the block lasts."""
    async with asyncio.TaskGroup() as group:
        tasks = Tasks(group)
        try:
            yield tasks
        finally:
            tasks.stop()


def make_private(folder: Path) -> None:
    """Create the data directory for its owner alone; raises `StoreError` if that cannot be."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be made a data directory ({error.strerror}); choose another with --data"
        ) from error


def load_gazetteer(data: Path, geocodes: str = "") -> Gazetteer:
    """Return the gazetteer, with the official boundaries that are installed in the data directory; of two files the later name wins.

    `geocodes` names the operator's own table, if there is one; raises `ConfigError` with its mistakes.
    """
    gazetteer = Gazetteer.from_csv(
        resources.gazetteer_csv(),
        resources.former_codes_csv(),
        resources.abroad_csv(),
        resources.jma_regions_csv(),
    )
    if geocodes:
        table, mistakes = read_geocode_file(geocodes)
        if mistakes:
            raise ConfigError(mistakes)
        gazetteer = gazetteer.with_locator(table)
    for file in sorted((data / BOUNDARIES).glob("*.geojson")):
        gazetteer = gazetteer.with_boundaries(file.read_bytes())
    return gazetteer


def _warm_gazetteer(data: Path, geocodes: str) -> Gazetteer:
    """Load it with its outlines and their index made: the first alert of a flood must not be the one that waits for them."""
    gazetteer = load_gazetteer(data, geocodes)
    gazetteer.codes_of(shapely.Point(139.69, 35.69))
    gazetteer.leaves_meeting([shapely.Point(139.69, 35.69)])
    gazetteer.reach(["13"])
    return gazetteer


def _revive(gazetteer: Gazetteer, raw: bytes, jurisdiction: frozenset[str]) -> tuple[Alert, Facts]:
    alert = cap.parse(raw, tolerant=True)  # it was accepted once, whatever the policy is by now
    return alert, matching.facts_of(alert, gazetteer, jurisdiction)


def _signing(settings: Settings, data: Path, clock: Clock) -> Signing:
    hub = settings.hub
    return Signing(
        data,
        clock,
        key_file=hub.signing_key_file,
        certificate_file=hub.signing_certificate_file,
        name=hub.name,
        shared=bool(settings.store.url),
    )


def _policy(settings: Settings) -> intake.Policy:
    limits = settings.intake
    handling = {name: Handling(word) for name, word in msgspec.structs.asdict(limits.references).items()}
    return intake.Policy(
        timedelta(seconds=limits.future_s),
        _oldest(settings),
        limits.border_buffer_m,
        limits.approximate_buffer_m,
        cap.PROFILES[limits.profile],
        ReferencePolicy(**handling),
    )


def _oldest(settings: Settings) -> timedelta | None:
    """Return how old an alert may be. What retention has deleted is not recognised any more, and must not come in again as new."""
    bounds = [settings.intake.past_s, settings.retention.days * 86_400 or None]
    known = [bound for bound in bounds if bound is not None]
    return timedelta(seconds=min(known)) if known else None


def _wants(gazetteer: Gazetteer, filter: Filter, entry: Entry, lineage: Sequence[Entry] = ()) -> bool:
    return matching.wants(filter, entry, lineage, gazetteer)


def _may_see(audience: Hashable, entry: Entry) -> bool:
    return may_see(audience if isinstance(audience, str) else None, entry)


def _owner_may_see(subscription: Subscription, entry: Entry) -> bool:
    return may_see(subscription.tenant, entry)


def stations_of(settings: Settings) -> list[Station]:
    """Return the stations of a configuration as the rules know them."""
    return [_station(station) for station in settings.stations]


def _station(config: StationConfig) -> Station:
    thresholds = config.thresholds
    levels = {
        Stage.STANDBY: thresholds.standby_m,
        Stage.CAUTION: thresholds.caution_m,
        Stage.EVACUATION: thresholds.evacuation_m,
        Stage.DANGER: thresholds.danger_m,
        Stage.FLOODING: thresholds.flooding_m,
    }
    return Station(
        id=config.id,
        name=config.name,
        org=config.org,
        sender=config.sender,
        codes=tuple(normalise_code(code) for code in config.codes),
        lon=config.lon,
        lat=config.lat,
        river=config.river,
        name_en=config.name_en,
        river_en=config.river_en,
        area=config.area,
        area_en=config.area_en,
        sender_name=config.sender_name,
        sender_name_en=config.sender_name_en,
        contact=config.contact,
        levels={stage: level for stage, level in levels.items() if level is not None},
        rule=config.rule,
        quality=config.quality,
        status=Status(config.status),
        source=config.source,
        shared=config.shared,
        maintenance=config.maintenance,
        datum=config.datum,
        posts=config.posts,
    )


def _kept_station(document: bytes) -> Station:
    return _station(station_of(document))


@asynccontextmanager
async def _offline_store(settings: Settings) -> AsyncIterator[Store]:
    data = Path(settings.hub.data)
    make_private(data)
    revive = partial(_revive, load_gazetteer(data, settings.gazetteer.geocodes))
    async with open_ground(settings.store, data, revive, SystemClock(), view=OFFLINE_VIEW) as ground:
        yield ground.store


@asynccontextmanager
async def offline_administration(settings: Settings) -> AsyncIterator[tuple[Administration, Scores, Store]]:
    """Open the store for administration, scorecards and the audit chain alone; raises `StoreError` while a node holds the data directory's."""
    clock = SystemClock()
    async with _offline_store(settings) as store:
        yield Administration(store, normalise_code, clock), Scores(store, clock), store


@asynccontextmanager
async def offline_desk(settings: Settings) -> AsyncIterator[tuple[Desk, dict[str, Tenant]]]:
    """Open the store for setting up stations while no node runs; raises `StoreError` while one holds the data directory's."""
    gazetteer = load_gazetteer(Path(settings.hub.data), settings.gazetteer.geocodes)
    async with _offline_store(settings) as store:
        roster = Roster(store, map(_station, settings.stations), _kept_station, LocalBus())
        await roster.refresh()
        desk = Desk(
            store,
            roster,
            gazetteer,
            SystemClock(),
            layouts=layouts_of(settings),
            signs=bool(settings.hub.signing_key_file) or not settings.store.url,
        )
        yield desk, {tenant.id: tenant for tenant in await store.tenants()}


@asynccontextmanager
async def offline_router(settings: Settings) -> AsyncIterator[Router]:
    """Open the store for dry runs while no node runs; raises `NotFound` where there is no store, `StoreError` while a node holds it."""
    require_hub(settings)
    data, clock = Path(settings.hub.data), SystemClock()
    planned = registry.plan(settings.adapters)
    gazetteer = load_gazetteer(data, settings.gazetteer.geocodes)
    async with (
        open_ground(settings.store, data, partial(_revive, gazetteer), clock, view=OFFLINE_VIEW) as ground,
        guarded_session(settings.networks) as session,
    ):
        keyring = KeyRing(ground.store, clock)
        await keyring.refresh()
        hub = Hub(
            store=ground.store,
            live=_NobodyListens(),
            keyring=keyring,
            gazetteer=gazetteer,
            policy=_policy(settings),
            clock=clock,
            signing=_signing(settings, data, clock),
            base_url=lambda: settings.hub.base_url.rstrip("/"),
        )
        # Made, and never entered: they are only asked what they are.
        adapters = planned.build(lambda name, org, kind: AdapterHub(hub, name, org, session, kind))
        targets = StoredTargets(
            ground.store,
            {adapter.name: adapter.drill_safe for adapter in adapters if isinstance(adapter, Channel)},
            wants=partial(_wants, gazetteer),
            may_see=_owner_may_see,
            clock=clock,
        )
        yield Router(hub, None, targets, [one for one in adapters if isinstance(one, Listing)])


class _NobodyListens:
    """The live part of a hub that does not run."""

    def follow(self, *_: object, **__: object) -> NoReturn:
        raise Unavailable("no node runs")

    ends = follow


def require_hub(settings: Settings) -> None:
    """Raise `NotFound` where no embedded store is: a command that only reads would make an empty one, and call it well."""
    data = Path(settings.hub.data)
    if not settings.store.url and not (data / DATABASE).is_file():
        raise NotFound(f"there is no hub in {data}; name its data directory with --data")


async def offline_backup(settings: Settings, target: Path, *, force: bool) -> int:
    """Back up the store, as `Portable.backup` does; raises `NotFound` where there is none, `StoreError` while a node holds the data directory's."""
    require_hub(settings)
    async with _offline_store(settings) as store:
        size = await store.backup(str(target), force=force)
        await _noted(store, Action.BACKED_UP, target.name, {"bytes": size})
        return size


def restore_backup(settings: Settings, file: Path, *, force: bool) -> Restored:
    """Make the store that the settings name out of a backup; raises `StoreError` while a node holds the data directory's, and for what is no sound backup.

    With `force` the data directory's former store is moved aside; a store of many nodes must be empty, or hold a restore that was not finished.
    """
    data = Path(settings.hub.data)
    make_private(data)
    revive = partial(_revive, load_gazetteer(data, settings.gazetteer.geocodes))
    restored = asyncio.run(restore_store(settings.store, data, file, revive, SystemClock(), force=force))
    heads = data / HEADS_FILE
    if restored.moved is not None and heads.exists():
        # They are those of the chain that was moved aside.
        heads.rename(restored.moved / HEADS_FILE)
    asyncio.run(_note_restored(settings, file.name, restored))
    return restored


async def _note_restored(settings: Settings, name: str, restored: Restored) -> None:
    async with _offline_store(settings) as store:
        await _noted(store, Action.RESTORED, name, {"entries": restored.entries})


async def _noted(store: Store, action: Action, subject: str, details: Mapping[str, Detail]) -> None:
    await store.append_audit([Note(SystemClock().now(), LOCAL, action, subject, "", details)])


@contextmanager
def audit_of_file(file: Path) -> Iterator[tuple[Iterator[KeptLine], list[Head], Iterator[Document]]]:
    """Open the audit chain of a backup: its lines, the heads that it says it had, and the documents. Raises `StoreError` for what is no backup."""
    with chain_in(file) as chain:
        yield chain.lines, [chain.head, *(one.head for one in read_heads(chain.days))], chain.documents
