"""lalert.toml -> Settings: every mistake of a file reported at once, each with its place and the nearest right word."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from lalert import texts, uplinks
from lalert.cap import PROFILES
from lalert.errors import ConfigError, InvalidCode
from lalert.geo import Geocodes, normalise_code, read_geocodes
from lalert.sensors import settings as sensor_settings
from lalert.sensors import upkeep
from lalert.sensors.upkeep import Datum, Maintenance, Post

S = TypeVar("S")

_CAP_NAME = re.compile(r"[^\s,<&]{1,64}")


class Hub(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[hub]: where the node listens and what it is called."""

    name: str = "lalert"
    host: str = "127.0.0.1"
    port: int = 8080
    data: str = "data"
    base_url: str = ""
    """The public address, when a proxy stands in front; else made from host and port."""
    signing_key_file: str = ""
    signing_certificate_file: str = ""
    """PEM files of the key that the hub signs its own warnings with, and of its certificate; else it makes a key of its own."""


class References(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[intake.references]: what is done about a reference to what is unknown, over, cancelled or replaced (docs/life.md)."""

    unknown: Literal["accept", "warn", "refuse"] = "warn"
    expired: Literal["accept", "warn", "refuse"] = "warn"
    cancelled: Literal["accept", "warn", "refuse"] = "warn"
    superseded: Literal["accept", "warn", "refuse"] = "accept"


class Intake(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[intake]: what is judged of an alert beyond CAP. Seconds and metres."""

    profile: str = "cap"
    """The national rules that everything handed in is judged by: `jp`, or `cap` for none."""
    future_s: float = 300.0
    past_s: float | None = None
    border_buffer_m: float = 2_000.0
    approximate_buffer_m: float = 20_000.0
    references: References = References()


class Gazetteer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[gazetteer]: what this hub knows of places beyond what is shipped."""

    geocodes: str = ""
    """A CSV file of where geocodes of other schemes lie (docs/gazetteer.md); read at the start, every mistake in it is one of the configuration."""


class Texts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[texts]: what people read in languages that an alert itself has not (docs/texts.md)."""

    languages: tuple[str, ...] = ("ja", "en")
    """The languages of the templates that are used. Those left out here by default have been read by nobody who grew up with them."""
    templates: str = ""
    """A folder of templates that go before those that are shipped; read at the start, every mistake in it is one of the configuration."""


class Store(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[store]: where everything durable is. Without a URL in the data directory; with one in Redis or Valkey, for any number of nodes (docs/nodes.md)."""

    url: str = ""
    """`redis://`, `rediss://`, `redis+sentinel://host:port,host:port/SERVICE` or `redis+cluster://host:port`."""
    durability: Literal["disk", "memory"] = "disk"
    """`memory` accepts a server that may lose in a power cut what was acknowledged; `/readyz` says so."""
    replicas: int = 0
    """How many replicas must have an alert on their disk, beside the primary, before its sender is told."""
    password_file: str = ""
    ca_file: str = ""
    """PEM file of the authorities to trust in place of the system's, for `rediss`."""


class Live(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[live]: bounds of the streams. Seconds and bytes."""

    heartbeat_s: float = 15.0
    max_connections: int = 20_000
    max_per_address: int = 1_000
    max_per_key: int = 1_000
    buffer_bytes: int = 262_144
    stall_s: float = 10.0
    writers: int = 0
    """Threads that write to very many streams at once; 0 is one for each core, at most two."""


class Outbound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[outbound]: networks that the hub may call although they are not public, such as a receiver inside the town hall."""

    allow: tuple[str, ...] = ()


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[retention]: after how many days what is over is archived and deleted; 0 keeps it for good (docs/operations.md)."""

    days: int = 0
    archive: str = ""
    """The folder that alerts go to before they are deleted; else `archive` in the data directory."""
    readings_days: int = 0


class Map(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[map]: a tile server for the pages; none by default, the map then draws its own points and areas."""

    tiles: str = ""
    attribution: str = ""


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Water levels of a station in metres above its zero, rising: 水防団待機, 氾濫注意, 避難判断, 氾濫危険, 氾濫発生."""

    standby_m: float | None = None
    caution_m: float | None = None
    evacuation_m: float | None = None
    danger_m: float | None = None
    flooding_m: float | None = None


class Station(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[stations]]: a gauge, whose warnings go out in the name of `org` as `sender`."""

    id: str
    name: str
    org: str
    sender: str
    codes: tuple[str, ...]
    lon: float
    lat: float
    river: str = ""
    name_en: str = ""
    river_en: str = ""
    area: str = ""
    area_en: str = ""
    sender_name: str = ""
    sender_name_en: str = ""
    contact: str = ""
    thresholds: Thresholds = Thresholds()
    rule: sensor_settings.Rules = sensor_settings.Rules()
    quality: sensor_settings.Quality = sensor_settings.Quality()
    status: str = "Actual"
    """`Exercise` while a station is tried out: its warnings then go only to those who ask for drills."""
    source: str = ""
    """The station whose readings this one judges by, where it has none of its own."""
    shared: tuple[str, ...] = ()
    """Organisations that may judge by its readings."""
    maintenance: Maintenance | None = None
    datum: tuple[Datum, ...] = ()
    posts: tuple[Post, ...] = ()
    """Which device measures here from when on (see [[devices]])."""


class LayoutValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[layouts.NAME.values]]: where a quantity is found in what a device sends (docs/sensors.md)."""

    quantity: str
    channel: int = 0
    type: str = ""
    """With the channel, for `cayenne`."""
    bit: int = 0
    bits: int = 0
    signed: bool = False
    endian: Literal["big", "little"] = "big"
    header: bool = False
    """With the bits, for `binary`."""
    field: str = ""
    """Its name in what the network's own decoder gives, with dots between levels, for `fields`."""
    scale: float = 1.0
    offset: float = 0.0
    missing: float | None = None
    """What stands there while there is no measurement, before scale and offset."""
    period_s: int | None = None


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[layouts.NAME]: what a type of device sends."""

    form: uplinks.Form
    values: tuple[LayoutValue, ...]
    port: int | None = None
    header_bytes: int = 0
    record_bytes: int = 0
    every_s: int = 0
    oldest_first: bool = False
    low_battery: float | None = None
    """Below what a battery is low, in the unit that the values have it in: 20 where that is percent, never where it is volts."""


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[devices]]: which station a device of an LPWA network measures for."""

    id: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]{1,64}$")]
    """The devEui or the Sigfox id, in any case of letters."""
    station: str
    layout: str
    org: str = ""
    """Whose it is; needed for a station that is not in this file."""
    offset_m: float = 0.0
    """Added to its levels: the height above the station's zero at which it hangs."""


class Canary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[adapters.NAME.canary]: a check of the way, to a recipient kept for it (docs/operations.md). Seconds."""

    target: Annotated[str, msgspec.Meta(max_length=2_048)] = ""
    target_file: str = ""
    """Where the target is, in place of it: some targets are secrets, as the address of a chat room."""
    every_s: Annotated[float, msgspec.Meta(ge=30, le=86_400)] = 900.0
    within_s: Annotated[float, msgspec.Meta(ge=1, le=3_600)] = 60.0
    """Within what time it must have arrived."""
    observe: bool = False
    """Count only what the far end has answered; else it is enough that the next hop took it."""

    def __post_init__(self) -> None:
        if bool(self.target) == bool(self.target_file):
            raise ValueError("target: give it, or target_file")
        if self.within_s > self.every_s:
            raise ValueError("within_s: must not be more than every_s")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. Adapters: one block `[adapters.NAME]` is one instance; `type` names the adapter, the name itself where it is left out."""

    hub: Hub = Hub()
    store: Store = Store()
    intake: Intake = Intake()
    gazetteer: Gazetteer = Gazetteer()
    texts: Texts = Texts()
    live: Live = Live()
    outbound: Outbound = Outbound()
    retention: Retention = Retention()
    map: Map = Map()
    stations: tuple[Station, ...] = ()
    devices: tuple[Device, ...] = ()
    layouts: dict[str, Layout] = {}
    adapters: dict[str, dict[str, Any]] = {}

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Return `outbound.allow` as networks."""
        return tuple(ip_network(text) for text in self.outbound.allow)


DEFAULT_ADAPTERS: Mapping[str, Mapping[str, str]] = {
    "webhook": {"type": "webhook"},
    "feeds": {"type": "syndication"},
}
"""On unless a block of the same name says `enabled = false`."""


def load(path: Path) -> Settings:
    """Read a configuration file; raises `ConfigError` with every mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read ({error.strerror})"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text (byte {error.start})"]) from error
    return parse(text)


def parse(text: str) -> Settings:
    """Read a configuration; raises `ConfigError` with every mistake."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"not TOML: {error}"]) from error
    mistakes: list[str] = []
    settings = read(Settings, raw, "", mistakes)
    if settings is not None:
        mistakes += _contradictions(settings)
    if mistakes or settings is None:
        raise ConfigError(mistakes)
    return settings


def read(struct: type[S], raw: Mapping[str, Any], where: str, mistakes: list[str]) -> S | None:
    """Make a struct of a table, adding one sentence to `mistakes` for each thing that does not hold; None if any did not."""
    before = len(mistakes)
    fields = _fields(struct)
    for key in raw:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f", did you mean {near[0]}?" if near else f"; known here: {', '.join(sorted(fields))}"
            mistakes.append(f"{where}{key}: unknown key{hint}")
    values: dict[str, Any] = {}
    for name, (attribute, kind, required) in fields.items():
        if name in raw:
            values[attribute] = _value(kind, raw[name], f"{where}{name}", mistakes)
        elif required:
            mistakes.append(f"{where}{name}: is missing")
    if len(mistakes) > before:
        return None
    try:
        return struct(**values)
    except ValueError as error:  # what two settings say together, from the struct's own __post_init__
        mistakes.append(f"{where}{error}")
        return None


def _fields(struct: type[Any]) -> dict[str, tuple[str, Any, bool]]:
    """Return what a table may have: key -> attribute, type, whether it must be given."""
    if issubclass(struct, msgspec.Struct):
        return {
            field.encode_name: (field.name, field.type, field.required)
            for field in msgspec.structs.fields(struct)
        }
    kinds = get_type_hints(struct)
    return {
        field.name: (field.name, kinds[field.name], field.default is dataclasses.MISSING)
        for field in dataclasses.fields(struct)
    }


def _is_table(kind: object) -> bool:
    return isinstance(kind, type) and (issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind))


def _value(kind: Any, raw: Any, where: str, mistakes: list[str]) -> Any:  # noqa: ANN401  # as untyped as TOML is
    if _is_table(kind):
        if isinstance(raw, Mapping):
            return read(kind, raw, f"{where}.", mistakes)
        mistakes.append(f"{where}: must be a table")
        return None
    inner = get_args(kind)
    if get_origin(kind) is tuple and inner and _is_table(inner[0]):
        if isinstance(raw, list):
            return tuple(_value(inner[0], item, f"{where}[{i}]", mistakes) for i, item in enumerate(raw, 1))
        mistakes.append(f"{where}: must be a list of tables")
        return None
    if get_origin(kind) is dict and isinstance(inner[1], type) and issubclass(inner[1], msgspec.Struct):
        if isinstance(raw, Mapping):
            return {name: _value(inner[1], table, f"{where}.{name}", mistakes) for name, table in raw.items()}
        mistakes.append(f"{where}: must be a table of tables")
        return None
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        mistakes.append(f"{where}: {error}")
        return None


def _contradictions(settings: Settings) -> list[str]:
    mistakes: list[str] = []
    if not 0 <= settings.hub.port <= 65_535:
        mistakes.append(f"hub.port: {settings.hub.port} is no TCP port (0 to 65535)")
    if settings.intake.profile not in PROFILES:
        mistakes.append(
            f"intake.profile: {settings.intake.profile[:40]!r} is no profile; known: {', '.join(PROFILES)}"
        )
    if bool(settings.hub.signing_key_file) != bool(settings.hub.signing_certificate_file):
        mistakes.append("hub.signing_key_file, hub.signing_certificate_file: give both, or neither")
    store = settings.store
    if not store.url and store != Store():
        mistakes.append(
            "store: the embedded store takes no settings; give store.url, or leave the others out"
        )
    if store.url and settings.stations and not settings.hub.signing_key_file:
        mistakes.append(
            "hub.signing_key_file: the nodes of one store sign the gauges' warnings with the same key; give it and its certificate (docs/signatures.md)"
        )
    mistakes += _out_of_bounds(settings)
    if settings.gazetteer.geocodes:
        mistakes += read_geocode_file(settings.gazetteer.geocodes)[1]
    mistakes += texts.load(settings.texts.languages, settings.texts.templates)[1]
    days, past = settings.retention.days, settings.intake.past_s
    if days and past is not None and past > days * 86_400:
        mistakes.append(
            f"intake.past_s: {past:g} must not be more than retention.days ({days * 86_400}): what was deleted would be taken as new"
        )
    for number, network in enumerate(settings.outbound.allow, 1):
        try:
            ip_network(network)
        except ValueError as error:
            mistakes.append(f"outbound.allow[{number}]: {error}; write a network such as 10.1.0.0/16")
    seen: set[str] = set()
    for number, station in enumerate(settings.stations, 1):
        where = f"stations[{number}]"
        if station.id in seen:
            mistakes.append(f"{where}.id: {station.id!r} stands twice")
        seen.add(station.id)
        mistakes += _station_mistakes(station, where)
    mistakes += _device_mistakes(settings, seen)
    for name, block in settings.adapters.items():
        if not isinstance(block.get("type", name), str):
            mistakes.append(f"adapters.{name}.type: must be the name of an adapter")
    return mistakes


def library_of(settings: Settings, *, every: bool = False) -> texts.Library:
    """Return the texts of a configuration, with `every` in the languages too that are not on; raises `ConfigError` for what has gone wrong with its folder since it was read."""
    library, mistakes = texts.load(None if every else settings.texts.languages, settings.texts.templates)
    if mistakes:
        raise ConfigError(mistakes)
    return library


def read_geocode_file(name: str) -> tuple[Geocodes, list[str]]:
    """Return the table of `gazetteer.geocodes`, and its mistakes."""
    try:
        table = Path(name).read_text(encoding="utf-8")
    except OSError as error:
        return Geocodes({}), [f"gazetteer.geocodes: {name}: cannot be read ({error.strerror})"]
    except UnicodeDecodeError as error:
        return Geocodes({}), [f"gazetteer.geocodes: {name}: is not UTF-8 text (byte {error.start})"]
    geocodes, mistakes = read_geocodes(table)
    return geocodes, [f"gazetteer.geocodes: {name}: {mistake}" for mistake in mistakes]


def read_station(raw: Mapping[str, Any]) -> tuple[Station | None, list[str]]:
    """Return a station that is set up while the hub runs, None where it does not hold, and its mistakes."""
    mistakes: list[str] = []
    station = read(Station, raw, "station.", mistakes)
    if station is not None:
        mistakes += _station_mistakes(station, "station")
    return (None if mistakes else station), mistakes


def station_document(station: Station) -> bytes:
    """Return a station as it is kept; what is as by default is left out."""
    values = [(field, getattr(station, field.name)) for field in _STATION_FIELDS]
    told = {field.encode_name: value for field, value in values if value != field.default}
    return msgspec.json.encode(_without_nulls(msgspec.to_builtins(told)))


def _without_nulls(told: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_nulls(value) if isinstance(value, dict) else value
        for name, value in told.items()
        if value is not None
    }


def station_of(document: bytes) -> Station:
    """Return a station that was kept, less what this version does not know of it; raises `ValueError`."""
    raw = msgspec.json.decode(document)
    known = {
        field.encode_name: raw[field.encode_name] for field in _STATION_FIELDS if field.encode_name in raw
    }
    return msgspec.convert(known, Station)


_STATION_FIELDS = msgspec.structs.fields(Station)


def _out_of_bounds(settings: Settings) -> list[str]:
    mistakes: list[str] = []
    for name, value, low, high in (
        ("intake.future_s", settings.intake.future_s, 0, 86_400),
        ("intake.past_s", settings.intake.past_s, 60, 10**9),
        ("intake.border_buffer_m", settings.intake.border_buffer_m, 0, 100_000),
        ("intake.approximate_buffer_m", settings.intake.approximate_buffer_m, 0, 100_000),
        ("store.replicas", settings.store.replicas, 0, 10),
        ("live.heartbeat_s", settings.live.heartbeat_s, 1, 60),
        ("live.max_connections", settings.live.max_connections, 1, 10**6),
        ("live.max_per_address", settings.live.max_per_address, 1, 10**6),
        ("live.max_per_key", settings.live.max_per_key, 1, 10**6),
        ("live.buffer_bytes", settings.live.buffer_bytes, 4_096, 2**30),
        ("live.stall_s", settings.live.stall_s, 1, 300),
        ("live.writers", settings.live.writers, 0, 4),
        ("retention.days", settings.retention.days, 0, 36_500),
        ("retention.readings_days", settings.retention.readings_days, 0, 36_500),
    ):
        if value is not None and not low <= value <= high:  # also what is no number: TOML has nan
            mistakes.append(f"{name}: {value} must be {low} to {high}")
    return mistakes


def device_table(settings: Settings) -> uplinks.DeviceTable:
    """Return the devices of a configuration that has no mistakes."""
    layouts = layouts_of(settings)
    orgs = {station.id: station.org for station in settings.stations}
    return uplinks.DeviceTable(
        uplinks.Device(
            one.id.lower(), one.org or orgs[one.station], one.station, layouts[one.layout], one.offset_m
        )
        for one in settings.devices
    )


def layouts_of(settings: Settings) -> dict[str, uplinks.Layout]:
    """Return the layouts of a configuration that has no mistakes."""
    return {name: _layout(name, layout) for name, layout in settings.layouts.items()}


def _layout(name: str, layout: Layout) -> uplinks.Layout:
    values: list[uplinks.Value] = []
    for value in layout.values:
        said = msgspec.structs.asdict(value)
        values.append(uplinks.Value(big=said.pop("endian") == "big", **said))
    return uplinks.Layout(name=name, **(msgspec.structs.asdict(layout) | {"values": tuple(values)}))


def _device_mistakes(settings: Settings, stations: set[str]) -> list[str]:
    mistakes = [
        f"layouts.{name}.{mistake}"
        for name, layout in settings.layouts.items()
        for mistake in uplinks.layout_mistakes(_layout(name, layout))
    ]
    seen: set[str] = set()
    for number, device in enumerate(settings.devices, 1):
        where = f"devices[{number}]"
        if device.id.lower() in seen:
            mistakes.append(f"{where}.id: {device.id!r} stands twice")
        seen.add(device.id.lower())
        if device.station not in stations and not device.org:
            mistakes.append(
                f"{where}.station: {device.station[:80]!r} is not one of [[stations]]; one that is kept elsewhere needs org too"
            )
        if device.layout not in settings.layouts:
            mistakes.append(f"{where}.layout: there is no [layouts.{device.layout[:80]}]")
        if not abs(device.offset_m) <= 10_000:
            mistakes.append(f"{where}.offset_m: {device.offset_m} must be -10000 to 10000 metres")
    return mistakes


def _station_mistakes(station: Station, where: str) -> list[str]:
    mistakes: list[str] = []
    for name, text in (("id", station.id), ("sender", station.sender)):
        # Both become part of a warning's identity (CAP 1.2, 3.2.1: no spaces, commas, < or &); readings name the id.
        if not _CAP_NAME.fullmatch(text):
            mistakes.append(
                f"{where}.{name}: {text[:80]!r} must be 1 to 64 characters without spaces, commas, < or &"
            )
    for name, text in msgspec.structs.asdict(station).items():
        # No document can hold them.
        if isinstance(text, str) and any(
            unicodedata.category(each) in ("Cc", "Cs") for each in text if each not in "\n\t"
        ):
            mistakes.append(f"{where}.{name}: holds a control character")
    for code in station.codes:
        try:
            normalise_code(code)
        except InvalidCode as error:
            mistakes.append(f"{where}.codes: {error.detail}")
    if not (-180 <= station.lon <= 180 and -90 <= station.lat <= 90):
        mistakes.append(
            f"{where}: lon {station.lon}, lat {station.lat} is no place on Earth; are they swapped?"
        )
    if station.status not in ("Actual", "Exercise", "Test"):
        mistakes.append(f"{where}.status: {station.status!r} must be Actual, Exercise or Test")
    mistakes += [f"{where}.{mistake}" for mistake in sensor_settings.mistakes(station.rule, station.quality)]
    mistakes += [
        f"{where}.{mistake}" for mistake in upkeep.mistakes(station.maintenance, station.datum, station.posts)
    ]
    if station.source and station.source == station.id:
        mistakes.append(f"{where}.source: must be another station")
    levels = [value for value in msgspec.structs.astuple(station.thresholds) if value is not None]
    if not all(map(math.isfinite, levels)) or levels != sorted(set(levels)):
        mistakes.append(
            f"{where}.thresholds: must rise from standby_m to flooding_m, each above the one before"
        )
    return mistakes
