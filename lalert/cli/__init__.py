"""The command line: `lalert --help`."""

from __future__ import annotations

import sys

import click

from lalert import __version__
from lalert.cli import admin, alerts, gazetteer, scorecard, serving
from lalert.errors import ConfigError, LalertError


class _Group(click.Group):
    """Turns what lalert raises on purpose into one clear message and an exit code, never a traceback."""

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


for command in (
    serving.serve,
    serving.demo,
    serving.check_config,
    serving.adapters,
    alerts.validate,
    alerts.submit,
    alerts.tail,
    admin.org,
    admin.key,
    scorecard.scorecard,
    gazetteer.gazetteer,
):
    main.add_command(command)
