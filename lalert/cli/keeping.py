"""`lalert backup` and `lalert restore`: a whole hub in one file, and back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from lalert.app import offline_backup, restore_backup
from lalert.cli.admin import NoNodeError, ask_node
from lalert.cli.settings import node_options, settings
from lalert.model import JST


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@node_options
def backup(file: Path, force: bool, config_file: Path | None, data: Path | None) -> None:
    """Copy everything that the store holds to FILE, also while the node runs.

    FILE is whole, checked and on disk when the command ends, or it is not there. It holds no key, only their digests; but it holds where subscriptions go and
    what signs them: keep it as safe as the data directory.
    """
    chosen, target = settings(config_file, data), file.absolute()
    try:
        size = ask_node(Path(chosen.hub.data), lambda office: office.backup(target, force=force))
    except NoNodeError:
        size = asyncio.run(offline_backup(chosen, target, force=force))
    click.echo(f"{file}: {size / 1e6:,.1f} MB")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--force",
    is_flag=True,
    help="Move what is in the data directory aside, and restore in its place; in Redis, begin an unfinished restore anew.",
)
@node_options
def restore(file: Path, force: bool, config_file: Path | None, data: Path | None) -> None:
    """Make the store that the configuration names out of the backup FILE. The node must be stopped; a Redis must hold no hub.

    What was delivered is not delivered again, and what has expired meanwhile is not sent. Streams resume with a gap and a snapshot, because what was
    accepted after the backup is missing.
    """
    restored = restore_backup(settings(config_file, data), file, force=force)
    newest = restored.newest
    until = f", the newest accepted at {newest.astimezone(JST):%Y-%m-%d %H:%M:%S} JST" if newest else ""
    click.echo(f"restored {restored.entries:,} alerts{until}")
    if restored.moved is not None:
        click.echo(f"what was there before is in {restored.moved}")
    if restored.damaged:
        offsets = ", ".join(map(str, restored.damaged[:20]))
        click.echo(
            f"lalert: {len(restored.damaged)} documents were damaged before the backup was made and cannot be read (offsets {offsets})",
            err=True,
        )
