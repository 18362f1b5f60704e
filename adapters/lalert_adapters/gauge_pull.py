"""Readings fetched from somebody's public JSON, again and again (docs/adapters/gauge_pull.md)."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self

import aiohttp
import msgspec
import structlog
from aiohttp import hdrs

from lalert.errors import LalertError, PermanentFailure, TemporaryFailure
from lalert.model import Reading
from lalert.plugin import Health, Healthy, HubApi, Source

log = structlog.get_logger("lalert.gauge_pull")

FETCH_S: Final = 30.0
AT_ONCE: Final = 1_000
LARGE_BYTES: Final = 65_536
"""What is larger is read in a thread."""
MAX_SEEN: Final = 200_000
LONGEST_PAUSE_S: Final = 3_600.0
LARGEST: Final = 1e6
LARGEST_SAID: Final = 1e15
"""In whatever unit; a whole number may be longer than any float."""
KEY: Final = "$key"
_Path = Annotated[str, msgspec.Meta(max_length=200)]


class GaugePullConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[adapters.NAME] of type gauge_pull. Paths are names with dots between levels; an empty one is the document itself."""

    url: Annotated[str, msgspec.Meta(pattern="^https?://[^\\s@]+$", max_length=2_048)]
    station: _Path
    """Where each entry names its station; `$key` where the list is an object of entries by station."""
    time: _Path
    """RFC 3339, or as `time_format` says, or seconds since 1970."""
    list: _Path = ""
    level: _Path | None = None
    rain: _Path | None = None
    rain_total: _Path | None = None
    period_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] | None = None
    """Over how long `rain` was measured."""
    level_scale: float = 1.0
    """What one of their units is in metres: 0.01 for centimetres."""
    missing: tuple[float, ...] = ()
    """What stands there while there is no measurement."""
    time_format: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    """As Python's strptime has it, such as `%Y/%m/%d %H:%M`."""
    utc_offset: Annotated[str, msgspec.Meta(pattern="^[+-][0-9]{2}:[0-9]{2}$")] | None = None
    """The offset of times that are written without one, such as `+09:00`."""
    stations: dict[str, str] = {}
    """Their names of stations and ours; what is not here is passed over. Without any, theirs are ours."""
    every_s: Annotated[float, msgspec.Meta(ge=10, le=86_400)] = 60.0
    max_bytes: Annotated[int, msgspec.Meta(ge=1_024, le=67_108_864)] = 8_388_608

    def __post_init__(self) -> None:
        if self.level is None and self.rain is None and self.rain_total is None:
            raise ValueError("level: name it, or rain, or rain_total")
        if (self.rain is None) != (self.period_s is None):
            raise ValueError("period_s: goes with rain, and with nothing else")


class GaugePull:
    """Asks every so often, with what makes the answer short where nothing has changed, and hands in what is new."""

    Config: ClassVar[type[GaugePullConfig]] = GaugePullConfig

    def __init__(self, name: str, config: GaugePullConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub
        self._trouble = "not asked yet"
        self._said = ""
        self._validators: dict[str, str] = {}
        self._seen: dict[tuple[str, str], datetime] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    def health(self) -> Health:
        """Return whether the last time that was asked, readings came and were stored, or nothing had changed."""
        return Health(not self._trouble, self._trouble)

    async def run(self) -> None:
        """Ask for ever. What fails is tried again at the next time; nobody is asked sooner than he wants to be."""
        while True:
            pause = self._config.every_s
            try:
                await self._pull()
                self._say("")
            except TemporaryFailure as error:
                pause = min(max(pause, error.retry_after or 0.0), LONGEST_PAUSE_S)
                self._say(error.detail)
            except LalertError as error:
                self._say(error.detail)
            await self._hub.clock.sleep(pause)

    async def _pull(self) -> None:
        """Fetch and hand in. What stands for the answer is kept only once all of it is stored: else a failure would be taken for no change."""
        raw, validators = await self._fetch()
        if raw is None:
            return
        if len(raw) > LARGE_BYTES:
            readings, skipped = await asyncio.to_thread(readings_of, self._config, raw)
        else:
            readings, skipped = readings_of(self._config, raw)
        fresh = [one for one in readings if self._seen.get(_of(one)) != one.time]
        for start in range(0, len(fresh), AT_ONCE):
            part = fresh[start : start + AT_ONCE]
            observed = await self._hub.observe(part)
            skipped.update(code for _, code in observed.rejected)
            if len(self._seen) > MAX_SEEN:
                self._seen.clear()
            self._seen.update((_of(one), one.time) for one in part)
        self._validators = validators
        self._say_skipped(skipped, len(readings))

    async def _fetch(self) -> tuple[bytes | None, dict[str, str]]:
        """Return the document and what to ask with the next time; None where it has not changed."""
        timeout = aiohttp.ClientTimeout(total=FETCH_S)
        headers = {hdrs.ACCEPT: "application/json", **self._validators}
        try:
            async with self._hub.http.get(self._config.url, headers=headers, timeout=timeout) as response:
                if response.status == 304:
                    return None, {}
                if response.status != 200:
                    said = f"the answer was {response.status}"
                    raise TemporaryFailure(said, retry_after=_retry_after(response))
                return await self._body(response), _validators(response)
        except TimeoutError:
            raise TemporaryFailure(f"no answer within {FETCH_S:.0f} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise TemporaryFailure(f"cannot be fetched: {type(error).__name__}") from None

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_chunked(65_536):
            size += len(chunk)
            if size > self._config.max_bytes:
                raise PermanentFailure(f"the answer is larger than max_bytes ({self._config.max_bytes})")
            chunks.append(chunk)
        return b"".join(chunks)

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("readings were not fetched", adapter=self.name, reason=trouble)
        self._trouble = trouble

    def _say_skipped(self, skipped: Counter[str], taken: int) -> None:
        """Log what says nothing, once for each set of causes: with a whole country in one document that is ordinary, and all of it is not."""
        said = ", ".join(sorted(skipped))
        if said != self._said and said:
            log.warning("entries were passed over", adapter=self.name, causes=dict(skipped), readings=taken)
        self._said = said


if TYPE_CHECKING:
    _: type[Source] = GaugePull
    _healthy: type[Healthy] = GaugePull


def readings_of(config: GaugePullConfig, raw: bytes) -> tuple[list[Reading], Counter[str]]:
    """Return what a document says of stations that are asked for, and how many entries say nothing, by cause. Raises `PermanentFailure`."""
    try:
        entries = _at(msgspec.json.decode(raw), config.list)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PermanentFailure(f"the answer is no JSON: {type(error).__name__}") from None
    if isinstance(entries, Mapping) and config.station == KEY:
        pairs: Any = entries.items()
    elif isinstance(entries, list) and config.station != KEY:
        pairs = ((_at(entry, config.station), entry) for entry in entries)
    else:
        raise PermanentFailure(f"list: {config.list or 'the document'} leads to no list of entries")
    readings: list[Reading] = []
    skipped: Counter[str] = Counter()
    strangers = 0
    for theirs, entry in pairs:
        station = _station(config, theirs)
        if station is None:
            strangers += 1
            continue
        time = _time(config, _at(entry, config.time))
        found = list(_values(config, entry))
        if time is None or not station or not found:
            skipped["bad-time" if time is None else "no-value" if station else "bad-station"] += 1
            continue
        for name, value in found:
            period = config.period_s if name == "rain_mm" else None
            readings.append(
                Reading(station=station, time=time, period_s=period, seq=None, by=None, **{name: value})
            )
    if strangers and not readings and not skipped:
        raise PermanentFailure(
            f"none of the {len(config.stations)} stations is among the {strangers} of the answer"
        )
    return readings, skipped


def _station(config: GaugePullConfig, theirs: object) -> str | None:
    """Return our name of a station, "" for what is none, None for one that nobody asked for."""
    name = str(theirs) if isinstance(theirs, str | int) else ""
    if config.stations:
        return config.stations.get(name)
    return name if len(name) <= 64 else ""


def _values(config: GaugePullConfig, entry: object) -> Iterator[tuple[str, float]]:
    for name, path, scale in (
        ("level_m", config.level, config.level_scale),
        ("rain_mm", config.rain, 1.0),
        ("rain_total_mm", config.rain_total, 1.0),
    ):
        raw = _number(_at(entry, path)) if path is not None else None
        if raw is not None and raw not in config.missing and abs(raw * scale) < LARGEST:
            yield name, round(raw * scale, 6)


def _number(value: object) -> float | None:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,12}(\.[0-9]{0,12})?\s*", value, re.ASCII):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST_SAID:
        return None
    return float(value)


def _time(config: GaugePullConfig, value: object) -> datetime | None:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if not isinstance(value, str) or len(value) > 60:
            return None
        if config.time_format is not None:
            when = datetime.strptime(value, config.time_format)  # noqa: DTZ007  # the offset follows
        else:
            when = datetime.fromisoformat(value)
    except (ValueError, OverflowError, OSError):
        return None
    if when.tzinfo is None and config.utc_offset is not None:
        hours, minutes = config.utc_offset[1:].split(":")
        off = timedelta(hours=int(hours), minutes=int(minutes))
        return when.replace(tzinfo=timezone(-off if config.utc_offset[0] == "-" else off))
    return when if when.tzinfo is not None else None


def _at(value: Any, path: str) -> Any:  # noqa: ANN401  # as untyped as JSON is
    """Return what stands at a path, None where nothing does."""
    for name in path.split(".") if path else ():
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _of(reading: Reading) -> tuple[str, str]:
    kind = "level" if reading.level_m is not None else "rain" if reading.rain_mm is not None else "total"
    return reading.station, kind


def _validators(response: aiohttp.ClientResponse) -> dict[str, str]:
    found = {
        hdrs.IF_NONE_MATCH: response.headers.get(hdrs.ETAG),
        hdrs.IF_MODIFIED_SINCE: response.headers.get(hdrs.LAST_MODIFIED),
    }
    return {name: value for name, value in found.items() if value is not None}


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get(hdrs.RETRY_AFTER, "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 8 else None
