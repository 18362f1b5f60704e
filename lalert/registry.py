"""Adapters found by their entry points (group `lalert.adapters`) and made from their blocks of the configuration."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import msgspec

from lalert.config import DEFAULT_ADAPTERS, Canary, read
from lalert.errors import ConfigError
from lalert.plugin import Adapter, Canarying, HubApi

GROUP = "lalert.adapters"

_Block = tuple[type[Adapter], str, Any, str | None]
"""An adapter, the name of its entry point, its checked configuration, and the organisation that it acts for."""


def installed() -> dict[str, EntryPoint]:
    """Return every adapter that is installed, by its name."""
    return {point.name: point for point in entry_points(group=GROUP)}


class Plan:
    """Which instances a configuration asks for: checked before anything starts, made once the hub is there."""

    def __init__(self, blocks: Mapping[str, _Block], canaries: Mapping[str, Canary]) -> None:
        self._blocks = blocks
        self.canaries = canaries
        """By the name of the instance that sends them."""

    def build(self, hub_for: Callable[[str, str | None, str], HubApi]) -> list[Adapter]:
        """Construct every instance; `hub_for(name, org, type)` gives each its own view of the hub."""
        return [
            adapter(name, config, hub_for(name, org, kind))
            for name, (adapter, kind, config, org) in self._blocks.items()
        ]

    def names(self) -> list[str]:
        return list(self._blocks)


def plan(adapters: Mapping[str, Mapping[str, Any]]) -> Plan:
    """Check every `[adapters.NAME]` block against its adapter; raises `ConfigError` with every mistake.

    `type`, `enabled`, `org` and `canary` belong to the hub, the rest to the adapter's own `Config`.
    """
    points = installed()
    mistakes: list[str] = []
    blocks: dict[str, _Block] = {}
    canaries: dict[str, Canary] = {}
    for name, block in ({**DEFAULT_ADAPTERS} | {**adapters}).items():
        own = dict(DEFAULT_ADAPTERS.get(name, {})) | dict(block)
        kind_name, enabled, org = own.pop("type", name), own.pop("enabled", True), own.pop("org", None)
        asked = own.pop("canary", None)
        if not isinstance(enabled, bool):
            mistakes.append(f"adapters.{name}.enabled: must be true or false, without quotation marks")
            continue
        if not (org is None or isinstance(org, str)):
            mistakes.append(f"adapters.{name}.org: must be the id of an organisation")
            continue
        if not enabled:
            continue
        point = points.get(kind_name)
        if point is None:
            near = difflib.get_close_matches(str(kind_name), points, n=1)
            hint = (
                f"did you mean {near[0]}?"
                if near
                else f"installed are: {', '.join(sorted(points)) or 'none'}"
            )
            mistakes.append(f"adapters.{name}: no adapter {kind_name!r} is installed, {hint}")
            continue
        kind = _load(point, name, mistakes)
        if kind is not None:
            config = read(kind.Config, own, f"adapters.{name}.", mistakes)
            blocks[name] = (kind, kind_name, config, org)
            canary = _canary(asked, kind, f"adapters.{name}.canary", mistakes)
            if canary is not None:
                canaries[name] = canary
    if mistakes:
        raise ConfigError(mistakes)
    return Plan(blocks, canaries)


def _canary(asked: object, kind: type[Adapter], where: str, mistakes: list[str]) -> Canary | None:
    if asked is None:
        return None
    if not issubclass(kind, Canarying):
        mistakes.append(f"{where}: this adapter has no canary to send")
        return None
    if not isinstance(asked, Mapping):
        mistakes.append(f"{where}: must be a table")
        return None
    canary = read(Canary, asked, f"{where}.", mistakes)
    if canary is None or not canary.target_file:
        return canary
    try:
        target = Path(canary.target_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        mistakes.append(f"{where}.target_file: {canary.target_file}: cannot be read ({type(error).__name__})")
        return None
    if not target:
        mistakes.append(f"{where}.target_file: {canary.target_file}: holds nothing")
        return None
    return msgspec.structs.replace(canary, target=target, target_file="")


def _load(point: EntryPoint, name: str, mistakes: list[str]) -> type[Adapter] | None:
    try:
        kind: type[Adapter] = point.load()
    except ImportError as error:
        extra = ",".join(point.extras) or point.name
        mistakes.append(f"adapters.{name}: {error}; install what it needs: pip install 'lalert[{extra}]'")
        return None
    return kind
