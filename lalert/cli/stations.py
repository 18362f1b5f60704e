"""`lalert sensors import, list, show, maintenance`: stations that are set up here, over the running node's local socket, else on the store itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from lalert.app import offline_desk, require_hub
from lalert.cli.admin import NoNodeError, Row, ask_node, print_table
from lalert.cli.settings import node_options, settings
from lalert.errors import BadRequest, NotFound
from lalert.model import Tenant
from lalert.stations import Desk, read_table
from lalert.store.audit import LOCAL

T = TypeVar("T")


class StationOffice(Protocol):
    """What the commands ask for, whichever way it is done."""

    async def take_stations(self, org: str, stations: list[Row], *, dry_run: bool) -> list[list[str]]: ...

    async def change_station(self, org: str, station: str, patch: Row) -> Row: ...

    async def station_setups(self, org: str | None) -> list[Row]: ...


class _OnStore:
    def __init__(self, desk: Desk, tenants: dict[str, Tenant]) -> None:
        self._desk = desk
        self._tenants = tenants

    async def take_stations(self, org: str, stations: list[Row], *, dry_run: bool) -> list[list[str]]:
        found = await self._desk.take(self._tenant(org), stations, LOCAL, dry_run=dry_run)
        return [list(mistakes) for mistakes in found]

    async def change_station(self, org: str, station: str, patch: Row) -> Row:
        return await self._desk.change(self._tenant(org), station, patch, LOCAL)

    async def station_setups(self, org: str | None) -> list[Row]:
        return await self._desk.setups(org)

    def _tenant(self, org: str) -> Tenant:
        if org not in self._tenants:
            raise NotFound(f"there is no organisation {org[:64]}; `lalert org list` shows them")
        return self._tenants[org]


def _run(config_file: Path | None, data: Path | None, work: Callable[[StationOffice], Awaitable[T]]) -> T:
    chosen = settings(config_file, data)
    try:
        return ask_node(Path(chosen.hub.data), work)
    except NoNodeError:
        require_hub(chosen)

    async def on_store() -> T:
        async with offline_desk(chosen) as (desk, tenants):
            return await work(_OnStore(desk, tenants))

    return asyncio.run(on_store())


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--org", "org_id", metavar="ORG", required=True, help="Whose stations they are.")
@click.option("--dry-run", is_flag=True, help="Only say what would be wrong.")
@node_options
def import_stations(
    file: Path, org_id: str, dry_run: bool, config_file: Path | None, data: Path | None
) -> None:
    """Set up the stations of a table (CSV), or none of them if any line is wrong: then each such line is named.

    The columns are in docs/stations.md; those of lists of 危機管理型水位計 are known too.
    """
    rows = read_table(file.read_bytes())
    good = [row for row in rows if not row.mistakes]
    # What does not read is not asked about; with a mistake anywhere nothing is set up.
    only_ask = dry_run or len(good) < len(rows)
    asked = [dict(row.asked) for row in good]
    found: list[list[str]] = []
    if asked:
        found = _run(config_file, data, lambda office: office.take_stations(org_id, asked, dry_run=only_ask))
    wrong = {row.line: list(row.mistakes) for row in rows if row.mistakes}
    wrong |= {row.line: mistakes for row, mistakes in zip(good, found, strict=True) if mistakes}
    for line in sorted(wrong):
        for mistake in wrong[line]:
            click.echo(f"{file}: line {line}: {mistake}", err=True)
    if wrong:
        raise BadRequest(f"{len(wrong)} of {len(rows)} lines are wrong; no station was set up")
    click.echo(f"{len(rows)} stations {'would be' if dry_run else 'are'} set up for {org_id}")


@click.command("list")
@click.option("--org", "org_id", metavar="ORG", help="One organisation alone.")
@node_options
def list_stations(org_id: str | None, config_file: Path | None, data: Path | None) -> None:
    """List the stations that are set up here; those of the configuration stand there."""
    found = _run(config_file, data, lambda office: office.station_setups(org_id))
    print_table(
        ["id", "org", "name", "river", "codes", "maintenance"],
        [
            {
                "id": each["id"],
                "org": each["org"],
                "name": each["name"],
                "river": each.get("river", ""),
                "codes": each["codes"],
                "maintenance": _spoken(each.get("maintenance")),
            }
            for each in found
        ],
    )


@click.command("show")
@click.argument("station")
@node_options
def show_station(station: str, config_file: Path | None, data: Path | None) -> None:
    """Show how a station is set up, as JSON that PUT /v1/stations/ID takes."""
    found = _run(config_file, data, lambda office: office.station_setups(None))
    named = next((each for each in found if each["id"] == station), None)
    if named is None:
        raise NotFound(
            f"no station {station[:64]} is set up here; `lalert sensors list` shows those that are"
        )
    click.echo(json.dumps(named, ensure_ascii=False, indent=2))


@click.command("maintenance")
@click.argument("station")
@click.option("--org", "org_id", metavar="ORG", required=True, help="Whose station it is.")
@click.option("--since", help="When it begins, with its offset; now where it is left out.")
@click.option("--until", help="When it ends, with its offset: 2026-06-03T12:00:00+09:00")
@click.option("--reason", default="", help="What people read.")
@click.option("--end", is_flag=True, help="End it now.")
@node_options
def maintain(
    station: str,
    org_id: str,
    since: str | None,
    until: str | None,
    reason: str,
    end: bool,
    config_file: Path | None,
    data: Path | None,
) -> None:
    """Keep a station's readings unjudged for a time, or judge them again (--end)."""
    if end == (until is not None):
        raise click.UsageError("give --until TIME, or --end")
    begins = since or datetime.now(UTC).isoformat(timespec="seconds")
    planned: dict[str, Any] | None = None if end else {"since": begins, "until": until, "reason": reason}
    made = _run(
        config_file,
        data,
        lambda office: office.change_station(org_id, station, {"maintenance": planned}),
    )
    click.echo(f"{station}: {_spoken(made.get('maintenance')) or 'judged again'}")


def _spoken(maintenance: Row | None) -> str:
    if maintenance is None:
        return ""
    reason = f" ({maintenance['reason']})" if maintenance.get("reason") else ""
    return f"{maintenance['since']} to {maintenance['until']}{reason}"
