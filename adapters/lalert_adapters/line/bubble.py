"""The Flex message of an alert: its level in the official colour, title, text, and a link to the whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lalert.errors import PermanentFailure
from lalert.model import Entry, MsgType, Status
from lalert.plugin import Room, Text, utf16

ROOM: Final = Room(title=400, body=2_000, measure=utf16)
"""The title is what a telephone shows before the message is opened: the reference allows 1,500, its older editions and the published schema 400. The body's bound is
ours, about six screens; with it a bubble stays far below the 30 KB that LINE takes."""
MAX_URI: Final = 1_000

# The colours of the Cabinet Office and the JMA for the five 警戒レベル, each with what can be read on it.
_COLOURS: Final[Mapping[int, tuple[str, str]]] = {
    1: ("#FFFFFF", "#333333"),
    2: ("#F2E700", "#333333"),
    3: ("#FF2800", "#FFFFFF"),
    4: ("#AA00AA", "#FFFFFF"),
    5: ("#0C000C", "#FFFFFF"),
}


def flex(entry: Entry, text: Text, link: str | None) -> dict[str, Any]:
    """Return the message; raises `PermanentFailure` naming the limit where a text is longer than `ROOM`."""
    for name, part, limit in (("title", text.title, ROOM.title), ("text", text.body, ROOM.body)):
        if limit is not None and utf16(part) > limit:
            raise PermanentFailure(f"the {name} is longer than {limit} UTF-16 units")
    parts = [_text(text.title, weight="bold", size="lg")]
    if text.body:
        parts.append(_text(text.body, size="md", margin="lg"))
    bubble: dict[str, Any] = {"type": "bubble", "size": "giga", "body": _box(*parts)}
    if level := shown_level(entry):
        ground, ink = _COLOURS[level]
        word = _text(level_word(level, text.lang), weight="bold", size="xl", color=ink)
        bubble["header"] = _box(word, backgroundColor=ground, paddingAll="md")
    if link is not None and len(link) <= MAX_URI:
        action = {"type": "uri", "label": "くわしく見る" if _japanese(text.lang) else "Details", "uri": link}
        bubble["footer"] = _box({"type": "button", "style": "link", "action": action})
    return {"type": "flex", "altText": text.title, "contents": bubble}


def level_word(level: int, lang: str) -> str:
    """Return the heading."""
    return f"警戒レベル{level}" if _japanese(lang) else f"Alert level {level}"


def shown_level(entry: Entry) -> int | None:
    """Return the level to show in colour: not of a drill, whose colour alone could be taken for real, and not of what is taken back."""
    alert = entry.alert
    shown = alert.status is Status.ACTUAL and alert.msg_type in (MsgType.ALERT, MsgType.UPDATE)
    return entry.facts.level if shown else None


def _box(*contents: dict[str, Any], **style: str) -> dict[str, Any]:
    return {"type": "box", "layout": "vertical", "contents": list(contents), **style}


def _text(text: str, **style: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "wrap": True, "scaling": True, **style}


def _japanese(lang: str) -> bool:
    return lang.partition("-")[0].lower() == "ja"
