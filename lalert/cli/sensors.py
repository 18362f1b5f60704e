"""`lalert sensors`: what is done with stations and their readings on the command line."""

from __future__ import annotations

import click

from lalert.cli.rehearsal import replay, what_if
from lalert.cli.stations import import_stations, list_stations, maintain, show_station


@click.group()
def sensors() -> None:
    """Stations and their readings."""


for command in (import_stations, list_stations, show_station, maintain):
    sensors.add_command(command)
sensors.add_command(replay)
sensors.add_command(what_if)
