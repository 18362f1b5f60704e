"""The command line: `lalert --help`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Final

import click

from lalert import __version__
from lalert.errors import ConfigError, LalertError

_MODULES: Final[Mapping[str, str]] = {
    "serve": "serving",
    "demo": "serving",
    "check-config": "serving",
    "adapters": "serving",
    "validate": "alerts",
    "submit": "alerts",
    "tail": "alerts",
    "route": "route",
    "org": "admin",
    "key": "admin",
    "backup": "keeping",
    "restore": "keeping",
    "audit": "audit",
    "scorecard": "scorecard",
    "gazetteer": "gazetteer",
    "doctor": "doctor",
    "channels": "channels",
    "texts": "texts",
    "sensors": "sensors",
}
"""Command -> its module, imported when the command is called: to check a file needs no web server."""


class _Group(click.Group):
    """Turns what lalert raises on purpose into one clear message and an exit code, never a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_MODULES})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"lalert.cli.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for mistake in error.mistakes:
                click.echo(f"lalert: {mistake}", err=True)
            sys.exit(2)
        except LalertError as error:
            click.echo(f"lalert: {error.detail}", err=True)
            sys.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lalert")
def main() -> None:
    """An open disaster-alert hub: takes CAP alerts and sensor readings in, and tells everybody concerned."""
