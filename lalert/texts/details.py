"""What an alert says beyond its words, as values for programs: orders, shelters, headquarters, damage, rivers, rain, readings (docs/profile-jp.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from lalert import cap
from lalert.model import Alert
from lalert.texts.plain import clean

_LISTS: Final[Mapping[str, Callable[[Alert], Sequence[Any]]]] = {
    "orders": cap.orders,
    "shelters": cap.shelters,
    "headquarters": cap.headquarters,
    "damage": cap.damages,
    "river_levels": cap.river_levels,
    "rain": cap.rainfalls,
}


def details(alert: Alert) -> dict[str, Any] | None:
    """Return what reads of an alert's parameters, None if nothing does; what is not said is left out.

    `equivalent` is the 警戒レベル相当 of an observation, which is never anybody's order; `readings` are the kana of areas by their names.
    """
    said: dict[str, Any] = {
        "equivalent": cap.equivalent_level(alert),
        "topic": cap.topic(alert),
        "as_of": cap.as_of(alert),
        "readings": {name: kana for info in alert.infos for name, kana in cap.readings(info).items()},
    }
    said |= {name: read(alert) for name, read in _LISTS.items()}
    plain = {name: _plain(value) for name, value in said.items() if value not in (None, (), {})}
    return plain or None


def _plain(value: Any) -> Any:  # noqa: ANN401  # values of many shapes, whose fields are what JSON shows
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {clean(key): _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, int | float):
        return value
    named = ((field.name, getattr(value, field.name)) for field in fields(value))
    # A count that is not known yet is said as null: it is not the same as one that nobody speaks of.
    return {name: _plain(item) for name, item in named if item is not None or name in ("count", "level")}
