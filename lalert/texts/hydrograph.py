"""The water levels before a warning as an image (SVG), made from the warning's own parameters: the same bytes at any node, at any later time. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from xml.sax.saxutils import escape

from lalert.model import JST, Info, NamedValue

MEDIA_TYPE: Final = "image/svg+xml"
HOURS: Final = 6
"""So much before the deciding reading is shown."""
MOST_POINTS: Final = 100
MOST_TITLE: Final = 60

LABELS: Final[Mapping[str, tuple[str, str, str]]] = {
    "standby": ("水防団待機", "standby", "#5b6b7a"),
    "caution": ("氾濫注意", "caution", "#8a6d00"),
    "evacuation": ("避難判断", "evacuation", "#c2410c"),
    "danger": ("氾濫危険", "danger", "#8b1a9c"),
    "flooding": ("氾濫発生", "overflow", "#1a1a1a"),
}
"""Stage -> Japanese, English, colour; a line is told by its words too, never by its colour alone."""

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 52, 520, 44, 284
_NUMBER = re.compile(r"-?[0-9]{1,4}(\.[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Hydrograph:
    """`points` are (minutes before the deciding reading: 0 or negative, metres), rising; `thresholds` stage -> metres; `until` the time of minute 0."""

    until: datetime
    points: tuple[tuple[int, float], ...]
    thresholds: Mapping[str, float]


def parameters(graph: Hydrograph) -> tuple[NamedValue, ...]:
    """Return the graph as CAP parameters, `history` and `thresholds`; the time of minute 0 is the warning's `observed`."""
    history = " ".join(f"{minute}:{level:.2f}" for minute, level in graph.points)
    thresholds = " ".join(f"{stage}:{level:.2f}" for stage, level in graph.thresholds.items())
    named = [NamedValue("history", history)]
    return (*named, NamedValue("thresholds", thresholds)) if thresholds else tuple(named)


def read(info: Info) -> Hydrograph | None:
    """Return the graph that an info's parameters hold, None where they hold none that can be drawn."""
    said = {parameter.name.removeprefix("jp:"): parameter.value for parameter in info.parameters}
    points = [
        (int(minute), level)
        for minute, level in _pairs(said.get("history", ""))
        if _NUMBER.fullmatch(minute) and "." not in minute and -HOURS * 60 <= int(minute) <= 0
    ]
    thresholds = {stage: level for stage, level in _pairs(said.get("thresholds", "")) if stage in LABELS}
    try:
        until = datetime.fromisoformat(said.get("observed", ""))
    except ValueError:
        return None
    if not points or until.tzinfo is None:
        return None
    return Hydrograph(until, tuple(sorted(points)), thresholds)


def _pairs(text: str) -> list[tuple[str, float]]:
    pairs = [word.partition(":") for word in text.split()[:MOST_POINTS]]
    return [(name, float(value)) for name, _, value in pairs if _NUMBER.fullmatch(value)]


def image(info: Info) -> bytes | None:
    """Return the image for an info, with its headline and in its language (anything but Japanese is English); None where there is nothing to draw."""
    graph = read(info)
    if graph is None:
        return None
    japanese = info.language.lower().startswith("ja")
    scale = _Scale(graph)
    title = escape((info.headline or info.event)[:MOST_TITLE])
    shown = "".join(
        [
            *_hours(graph, scale),
            *_metres(scale),
            *_lines(graph, scale, japanese),
            _curve(graph, scale),
        ]
    )
    unit = "水位(m)" if japanese else "level (m)"
    hours = "時刻(日本時間)" if japanese else "time (JST)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'lang="{"ja" if japanese else "en"}" font-family="sans-serif" font-size="12">'
        f'<title>{title}</title><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        f'<text x="{LEFT}" y="20" font-size="15" font-weight="bold">{title}</text>'
        f'<text x="6" y="{TOP - 8}">{unit}</text><text x="{RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{hours}</text>'
        f"{shown}</svg>\n"
    ).encode()


class _Scale:
    """Where a minute and a level stand; what is beyond the picture's edge stands at it."""

    def __init__(self, graph: Hydrograph) -> None:
        levels = [level for _, level in graph.points]
        self.start = min(-60, graph.points[0][0])
        low, high = min(levels), max(levels)
        # The next threshold above is always in the picture: how far it is away is what the picture is looked at for.
        above = min((level for level in graph.thresholds.values() if level > high), default=high)
        near = [level for level in graph.thresholds.values() if low - 1 <= level <= above]
        low, high = min([low, *near]), max([high, *near])
        room = max(0.1, (high - low) * 0.08)
        self.low, self.high = low - room, high + room

    def x(self, minute: float) -> str:
        return f"{RIGHT - (RIGHT - LEFT) * minute / self.start:.1f}"

    def y(self, level: float) -> str:
        return f"{BOTTOM - (BOTTOM - TOP) * (level - self.low) / (self.high - self.low):.1f}"


def _hours(graph: Hydrograph, scale: _Scale) -> list[str]:
    until = graph.until.astimezone(JST)
    hour = until.replace(minute=0, second=0, microsecond=0)
    drawn: list[str] = []
    while (minute := (hour - until) / timedelta(minutes=1)) >= scale.start:
        x = scale.x(minute)
        drawn.append(
            f'<path d="M{x} {TOP}V{BOTTOM}" stroke="#ddd"/><text x="{x}" y="{BOTTOM + 16}" text-anchor="middle">{hour:%H:%M}</text>'
        )
        hour -= timedelta(hours=1)
    return drawn


def _metres(scale: _Scale) -> list[str]:
    step = next((s for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0) if (scale.high - scale.low) / s <= 8), None)
    step = step or 10.0 ** math.ceil(math.log10((scale.high - scale.low) / 8))
    first = math.ceil(scale.low / step)
    return [
        f'<path d="M{LEFT} {scale.y(n * step)}H{RIGHT}" stroke="#eee"/>'
        f'<text x="{LEFT - 6}" y="{scale.y(n * step)}" text-anchor="end" dominant-baseline="middle">{n * step:.1f}</text>'
        for n in range(first, math.floor(scale.high / step) + 1)
    ]


def _lines(graph: Hydrograph, scale: _Scale, japanese: bool) -> list[str]:
    drawn: list[str] = []
    free = float(HEIGHT)
    for stage, level in sorted(graph.thresholds.items(), key=lambda item: item[1]):
        if not scale.low <= level <= scale.high:
            continue
        ja, en, colour = LABELS[stage]
        # Names of levels that are close together stand above one another.
        free = min(float(scale.y(level)), free - 13)
        drawn.append(
            f'<path d="M{LEFT} {scale.y(level)}H{RIGHT}" stroke="{colour}" stroke-width="1.5" stroke-dasharray="7 4"/>'
            f'<text x="{RIGHT + 6}" y="{free:.1f}" fill="{colour}" dominant-baseline="middle">{ja if japanese else en} {level:.2f}</text>'
        )
    return drawn


def _curve(graph: Hydrograph, scale: _Scale) -> str:
    points = " ".join(f"{scale.x(minute)},{scale.y(level)}" for minute, level in graph.points)
    minute, level = graph.points[-1]
    x, y = scale.x(minute), scale.y(level)
    return (
        f'<polyline points="{points}" fill="none" stroke="#0b5cad" stroke-width="2.5"/><circle cx="{x}" cy="{y}" r="4.5" fill="#0b5cad"/>'
        f'<text x="{float(x) - 8:.1f}" y="{float(y) - 8:.1f}" text-anchor="end" font-weight="bold" stroke="#fff" stroke-width="4" paint-order="stroke">{level:.2f} m</text>'
    )


def thinned(points: Sequence[tuple[datetime, float]], until: datetime) -> tuple[tuple[int, float], ...]:
    """Return (device time, metres) as points of a graph: of each 5 minutes the highest, and the newest as it is."""
    highest: dict[int, float] = {}
    newest: float | None = None
    for time, level in sorted(points):
        minute = math.floor((time - until) / timedelta(minutes=1))
        if not -HOURS * 60 <= minute <= 0:
            continue
        if minute == 0:
            newest = level
            continue
        slot = minute // 5 * 5
        highest[slot] = max(level, highest.get(slot, -math.inf))
    ends = () if newest is None else ((0, newest),)
    return (*sorted(highest.items()), *ends)
