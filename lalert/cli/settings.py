"""What several commands share: where the configuration and the data are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from lalert import config
from lalert.config import Settings

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def node_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config and --data."""
    data = click.option(
        "--data",
        type=click.Path(path_type=Path),
        help="Data directory (default: ./data, or the configuration's).",
    )
    file = click.option(
        "--config", "config_file", type=click.Path(path_type=Path), envvar="LALERT_CONFIG", help="lalert.toml"
    )
    return file(data(command))


def settings(config_file: Path | None, data: Path | None, **hub: object) -> Settings:
    """Return the settings of a configuration file, with what the command line says on top; raises `ConfigError`."""
    chosen = config.load(config_file) if config_file else Settings()
    given = {name: value for name, value in hub.items() if value is not None}
    if data is not None:
        given["data"] = str(data)
    return msgspec.structs.replace(chosen, hub=msgspec.structs.replace(chosen.hub, **given))
