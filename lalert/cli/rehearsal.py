"""`lalert sensors replay` and `what-if`: recorded readings played into a hub, or past rules that are not switched on yet."""

from __future__ import annotations

import asyncio
import sys
import tomllib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median_high
from typing import Any, Final, TypeVar

import click
import orjson

from lalert import config
from lalert.cli.alerts import the_key, with_key
from lalert.errors import ConfigError, Unavailable
from lalert.model import JST
from lalert.sensors import Stage, Station, recorded
from lalert.sensors.settings import Quality, Rules, mistakes
from lalert.sensors.whatif import Happening, Rehearsal, Summary, Verdict, summary
from lalert.stations.table import read_table
from lalert.store import StoredReading

BATCH: Final = 500
TRIES: Final = 5
S = TypeVar("S")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--hub", required=True, envvar="LALERT_HUB", help="Address of the hub.")
@with_key
@click.option(
    "--speed",
    type=click.FloatRange(min=0.01, max=1e6),
    default=1.0,
    show_default=True,
    help="So many times as fast as recorded; the hub sees the river move as much faster.",
)
def replay(file: Path, hub: str, key: str | None, key_file: Path | None, speed: float) -> None:
    """Play recorded readings into a hub, the first of them now; exit 1 if any was rejected or the hub was not to be reached.

    FILE is CSV: station (or code), time (or obs_time), and level_m, or rain_mm with period_s, or rain_total_mm. Play into stations whose status is
    Exercise, unless the warnings are to be taken for real.
    """
    readings = recorded.readings(file.read_text(encoding="utf-8-sig"))
    sys.exit(asyncio.run(_replay(readings, hub, the_key(key, key_file), speed)))


async def _replay(readings: Sequence[StoredReading], hub: str, key: str | None, speed: float) -> int:
    from lalert.client import Client

    async with Client(hub, key) as client:
        accepted, duplicate, rejected = await play(readings, client.observe, speed)
    click.echo(f"{accepted} accepted, {duplicate} known already, {rejected.total()} rejected")
    for code, count in rejected.most_common():
        click.echo(f"  {code}: {count}")
    return 1 if rejected else 0


async def play(
    readings: Sequence[StoredReading],
    observe: Callable[[Sequence[dict[str, Any]]], Awaitable[dict[str, Any]]],
    speed: float,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> tuple[int, int, Counter[str]]:
    """Hand in readings as they become due, those due together in one batch; returns how many were accepted, known already, and rejected by code."""
    accepted = duplicate = 0
    rejected: Counter[str] = Counter()
    if not readings:
        return accepted, duplicate, rejected
    start, first, at = now(), min(arrived.reading.time for arrived in readings), 0
    while at < len(readings):
        due = recorded.compressed(readings[at].received, first, start, speed)
        await sleep(max(0.0, (due - now()).total_seconds()))
        batch = [
            arrived for arrived in readings[at : at + BATCH] if _due(arrived, first, start, speed) <= now()
        ]
        batch = batch or [readings[at]]
        answer = await _insist([_body(arrived, first, start, speed) for arrived in batch], observe, sleep)
        accepted += answer["accepted"]
        duplicate += answer["duplicate"]
        rejected.update(item["code"] for item in answer["rejected"])
        at += len(batch)
    return accepted, duplicate, rejected


def _due(arrived: StoredReading, first: datetime, start: datetime, speed: float) -> datetime:
    return recorded.compressed(arrived.received, first, start, speed)


def _body(arrived: StoredReading, first: datetime, start: datetime, speed: float) -> dict[str, Any]:
    reading = arrived.reading
    period = reading.period_s
    values = {
        "station": reading.station,
        "time": recorded.compressed(reading.time, first, start, speed).isoformat(),
        "level_m": reading.level_m,
        "rain_mm": reading.rain_mm,
        "period_s": None if period is None else max(1, round(period / speed)),
        "rain_total_mm": reading.rain_total_mm,
    }
    return {name: value for name, value in values.items() if value is not None}


async def _insist(
    batch: Sequence[dict[str, Any]],
    observe: Callable[[Sequence[dict[str, Any]]], Awaitable[dict[str, Any]]],
    sleep: Callable[[float], Awaitable[object]],
) -> dict[str, Any]:
    for attempt in range(TRIES):
        try:
            return await observe(batch)
        except Unavailable:
            if attempt == TRIES - 1:
                raise
            await sleep(2.0**attempt)
    raise AssertionError


@click.command("what-if")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--stations",
    "table",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV of stations, as for `import` (docs/stations.md).",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="lalert.toml, whose stations and rules are tried in place of a table.",
)
@click.option(
    "--rule",
    default="",
    help="Rules of the stations of a table: 'hold = 2, forecast_min = 60' (docs/sensors-rules.md).",
)
@click.option("--quality", default="", help="What is believed of their readings, written in the same way.")
@click.option("--station", "only", multiple=True, help="Only this station. Repeatable.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--summary", "short", is_flag=True, help="Only the figures at the end.")
def what_if(
    file: Path,
    table: Path | None,
    config_file: Path | None,
    rule: str,
    quality: str,
    only: Sequence[str],
    form: str,
    short: bool,
) -> None:
    """Say what stations would have warned of, had these readings come: when, how early before 氾濫発生, and how often for nothing.

    Nothing is sent. FILE is as for `replay`.
    """
    if (table is None) == (config_file is None):
        raise click.UsageError("give --stations or --config")
    if config_file is not None and (rule or quality):
        raise click.UsageError(
            "--rule and --quality are for a table of stations; the configuration has its own"
        )
    stations = _configured(config_file) if config_file else _listed(table, rule, quality)
    chosen = [station for station in stations if not only or station.id in only]
    if missing := set(only) - {station.id for station in chosen}:
        raise click.UsageError(f"no station {', '.join(sorted(missing))}")
    readings = recorded.readings(file.read_text(encoding="utf-8-sig"))
    if only:
        readings = [arrived for arrived in readings if arrived.reading.station in only]
    rehearsal = Rehearsal(chosen)
    for happening in rehearsal.play(readings):
        if not short:
            click.echo(orjson.dumps(_json(happening)).decode() if form == "json" else _line(happening))
    said = summary(rehearsal)
    if form == "json":
        click.echo(orjson.dumps(_figures_json(said)).decode())
        return
    if not short:
        for verdict in rehearsal.verdicts.values():
            if verdict.flooded is not None or verdict.flaps:
                click.echo(_of_station(verdict))
    for line in figures(said):
        click.echo(line)


def _configured(config_file: Path | None) -> list[Station]:
    from lalert.app import stations_of

    assert config_file is not None
    return stations_of(config.load(config_file))


def _listed(table: Path | None, rule: str, quality: str) -> list[Station]:
    assert table is not None
    rules, believed = _settings(Rules, "rule", rule), _settings(Quality, "quality", quality)
    if wrong := mistakes(rules, believed):
        raise ConfigError(wrong)
    return listed(table.read_bytes(), rules, believed)


def listed(raw: bytes, rule: Rules, quality: Quality) -> list[Station]:
    """Return the stations of a table as `lalert sensors import` reads it, with these settings where it says none; raises `ConfigError` with every mistake."""
    rows = read_table(raw)
    if wrong := [f"line {row.line}: {mistake}" for row in rows for mistake in row.mistakes]:
        raise ConfigError(wrong)
    return [_station(row.asked, rule, quality) for row in rows]


def _station(asked: Mapping[str, Any], rule: Rules, quality: Quality) -> Station:
    return Station(
        id=asked["id"],
        name=asked.get("name", asked["id"]),
        org="",
        sender="",
        codes=(),
        lon=asked.get("lon", 0.0),
        lat=asked.get("lat", 0.0),
        levels={
            stage: asked["thresholds"][name]
            for stage in Stage
            if (name := f"{stage.name.lower()}_m") in asked.get("thresholds", {})
        },
        rule=replace(rule, **asked.get("rule", {})),
        quality=replace(quality, **asked.get("quality", {})),
    )


def _settings(kind: type[S], name: str, text: str) -> S:
    try:
        raw = tomllib.loads(f"x = {{ {text} }}")["x"]
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"--{name}: {error}"]) from error
    wrong: list[str] = []
    settings = config.read(kind, raw, f"{name}.", wrong)
    if settings is None:
        raise ConfigError(wrong)
    return settings


def _line(happening: Happening) -> str:
    decision, station = happening.decision, happening.station
    reading = decision.evidence.reading
    if reading.level_m is not None:
        value = f"{reading.level_m:.2f} m"
    else:
        value = ", ".join(f"{window.value} {mm:.0f} mm" for window, mm in decision.fallen.items())
    reached = decision.grade.name if decision.rule == "rain" else decision.stage.name
    ahead = decision.outlook.crossing
    forecast = f", {Stage(ahead.stage).name.lower()} in about {ahead.minutes:.0f} min" if ahead else ""
    return (
        f"{happening.time.astimezone(JST):%Y-%m-%d %H:%M} {station.id} {station.name}: "
        f"{decision.kind.value} {decision.act.value.lower()} {reached.lower()} ({decision.rule}; {value}{forecast})"
    )


def _json(happening: Happening) -> dict[str, Any]:
    decision = happening.decision
    reading = decision.evidence.reading
    ahead = decision.outlook.crossing
    return {
        "time": happening.time.isoformat(),
        "station": happening.station.id,
        "kind": decision.kind.value,
        "act": decision.act.value,
        "rule": decision.rule,
        "stage": decision.stage.name.lower(),
        "before": decision.before.name.lower(),
        "grade": decision.grade.name.lower(),
        "level_m": reading.level_m,
        "rain_mm": {window.value: round(mm, 1) for window, mm in decision.fallen.items()},
        "per_hour_m": decision.outlook.per_hour_m,
        "forecast": {"stage": Stage(ahead.stage).name.lower(), "minutes": round(ahead.minutes, 1)}
        if ahead
        else None,
    }


def _of_station(verdict: Verdict) -> str:
    if verdict.flooded is None:
        told = f"warned {verdict.warnings} times"
    elif verdict.lead is None:
        told = "flooded and never warned"
    elif verdict.high:
        told = "flooded at its first reading, warned at once"
    else:
        told = f"warned {_span(verdict.lead)} before it flooded"
    return f"{verdict.station.id} {verdict.station.name}: {told}, {verdict.flaps} flaps"


def figures(said: Summary) -> Iterator[str]:
    """Yield the figures of a rehearsal as lines for people."""
    yield f"stations with readings: {said.stations}; readings: {said.readings}, of unknown stations: {said.strangers}"
    yield f"warned: {said.warned} stations, {said.warnings} incidents, {said.updates} updates, {said.lifted} lifted; proposals: {said.proposed}"
    yield f"flapped (warned again within 6 h of a lifting): {said.flapped} stations, {said.flaps} times"
    doubted = ", ".join(f"{word} {count}" for word, count in said.doubted.most_common()) or "none"
    yield f"doubted readings: {said.doubted.total()} ({doubted})"
    yield f"flooded: {said.flooded} stations, of these never warned: {said.missed}"
    if said.leads:
        early = [lead for lead in said.leads if lead > timedelta()]
        yield (
            f"not flooded at their first reading: {len(said.leads)}; warned before: {len(early)}, "
            f"median {_span(median_high(early)) if early else '-'}, all: median {_span(median_high(said.leads))}"
        )


def _figures_json(said: Summary) -> dict[str, Any]:
    plain = {name: getattr(said, name) for name in said.__slots__ if name not in ("doubted", "leads")}
    return {
        "summary": {
            **plain,
            "doubted": dict(said.doubted),
            "leads_min": [round(lead.total_seconds() / 60) for lead in said.leads],
        }
    }


def _span(length: timedelta) -> str:
    minutes = round(length.total_seconds() / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
