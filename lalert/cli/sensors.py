"""`lalert sensors`: what is done with stations and their readings on the command line."""

from __future__ import annotations

import click

from lalert.cli.rehearsal import replay, what_if


@click.group()
def sensors() -> None:
    """Stations and their readings."""


sensors.add_command(replay)
sensors.add_command(what_if)
