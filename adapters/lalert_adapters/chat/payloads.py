"""One alert as each product wants it, so that no text of an alert can call people, draw a link or lay itself out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from lalert.model import Entry, MsgType, Status
from lalert.plugin import Room, Text, utf16


class Kind(StrEnum):
    """The products whose payload and answers this adapter knows."""

    SLACK = "slack"
    TEAMS = "teams"
    DISCORD = "discord"
    MATTERMOST = "mattermost"


@dataclass(frozen=True, slots=True)
class Message:
    """What is said: `level` is the 警戒レベル in words and `colour` its colour (24 bits), both None of a drill; `link` is the alert's page."""

    title: str
    body: str
    lang: str
    level: str | None = None
    colour: int | None = None
    link: str | None = None

    @property
    def link_label(self) -> str:
        return "くわしく見る" if _japanese(self.lang) else "Details"


# The colours of the Cabinet Office and the JMA for the five 警戒レベル.
_COLOURS: Final = {1: 0xFFFFFF, 2: 0xF2E700, 3: 0xFF2800, 4: 0xAA00AA, 5: 0x0C000C}

_GROWING: Final = "&<>@\\`*_~|#[]-+"
_GROWTH: Final = 4
_LINE: Final = 16


def cost(text: str) -> int:
    """Return no less than the UTF-16 units that a text takes in any of the products, with what is put before signs of layout.

    A line costs sixteen more: in a card of Teams it is an element of its own.
    """
    growing = sum(text.count(character) for character in _GROWING)
    return utf16(text) + _GROWTH * growing + _LINE * text.count("\n")


ROOM: Final = Room(title=250, body=2_800, measure=cost)
"""The least that any of them has: 3,000 in a section of Slack, 2,000 and 4,096 in Discord, 28 KB in Teams, 4,000 in an old Mattermost."""


def message(entry: Entry, text: Text, link: str | None) -> Message:
    """Return what is said of an alert. No level in colour of a drill, which could be taken for real, nor of what is taken back."""
    alert = entry.alert
    shown = alert.status is Status.ACTUAL and alert.msg_type in (MsgType.ALERT, MsgType.UPDATE)
    level = entry.facts.level if shown else None
    if level is None:
        return Message(text.title, text.body, text.lang, link=link)
    word = f"警戒レベル{level}" if _japanese(text.lang) else f"Alert level {level}"
    return Message(text.title, text.body, text.lang, word, _COLOURS[level], link)


def payload(kind: Kind, said: Message) -> dict[str, Any]:
    """Return the JSON object that is posted."""
    return _PAYLOADS[kind](said)


def _slack(said: Message) -> dict[str, Any]:
    """Slack: `&`, `<` and `>` escaped, which is all that calls people or makes links; `plain_text` has no layout."""
    blocks: list[dict[str, Any]] = []
    if said.level:
        blocks.append({"type": "context", "elements": [_slack_text(said.level)]})
    if said.body:
        blocks.append({"type": "section", "text": _slack_text(said.body)})
    if said.link:
        label = f"<{_slack_escaped(said.link)}|{said.link_label}>"
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": label}})
    attachment: dict[str, Any] = {"blocks": blocks}
    if said.colour is not None:
        attachment["color"] = f"#{said.colour:06X}"
    return {
        "text": _slack_escaped(said.title),
        "mrkdwn": False,
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
        "attachments": [attachment] if blocks else [],
    }


def _slack_text(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": _slack_escaped(text), "emoji": False}


def _slack_escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_TEAMS_STYLES: Final = {
    0xF2E700: "warning",
    0xFF2800: "attention",
    0xAA00AA: "attention",
    0x0C000C: "attention",
}


def _teams(said: Message) -> dict[str, Any]:
    """Teams: a `TextRun` knows no Markdown, and a mention needs an entry among `entities`, which this card does not have."""
    body: list[dict[str, Any]] = []
    if said.level:
        style = _TEAMS_STYLES.get(said.colour or 0, "default")
        items = [_teams_text(said.level, weight="Bolder")]
        body.append({"type": "Container", "style": style, "bleed": True, "items": items})
    body.append(_teams_text(said.title, weight="Bolder", size="Large"))
    body += [_teams_text(line) for line in said.body.split("\n") if line.strip()]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": said.title,
        "msteams": {"width": "Full"},
        "body": body,
    }
    if said.link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": said.link_label, "url": said.link}]
    attachment = {
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": None,
        "content": card,
    }
    return {"type": "message", "attachments": [attachment]}


def _teams_text(text: str, **style: str) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **style}]}


# A web address stays as it is, or it could not be followed; then whatever Markdown reads, wherever it stands, and signs of a list at a line's beginning.
_MARKDOWN = re.compile(r"https?://[!-;=?-\[\]_a-z~]+|[\\`*_~|>#\[\]<]|^[-+](?=\s)", re.MULTILINE)


def _discord(said: Message) -> dict[str, Any]:
    """Discord: nobody is called whatever stands there (`allowed_mentions`), and Markdown is escaped."""
    embed: dict[str, Any] = {}
    if said.level:
        embed["author"] = {"name": said.level}
    if said.colour is not None:
        embed["color"] = said.colour
    if said.body:
        embed["description"] = _discord_escaped(said.body)
    if said.link:
        embed |= {"title": said.link_label, "url": said.link}
    return {
        "content": _discord_escaped(said.title),
        "allowed_mentions": {"parse": []},
        "embeds": [embed] if embed else [],
    }


def _discord_escaped(text: str) -> str:
    return _MARKDOWN.sub(lambda found: found[0] if "://" in found[0] else f"\\{found[0]}", text)


_BREAK: Final = "\u200b"
"""A space of no width: it parts a sign from the word that it would make a call of."""
# Not after a letter or digit of a mail address, where Mattermost sees no call.
_MENTION = re.compile(r"(?<![A-Za-z0-9])@")


def _mattermost(said: Message) -> dict[str, Any]:
    """Mattermost: it has no switch against calls, so that `@` is parted from what follows; Markdown is escaped, and with it Slack's `<!channel>`, which it knows too."""
    attachment: dict[str, Any] = {"fallback": _mattermost_escaped(said.title)}
    if said.level:
        attachment["author_name"] = said.level
    if said.colour is not None:
        attachment["color"] = f"#{said.colour:06X}"
    if said.body:
        attachment["text"] = _mattermost_escaped(said.body)
    if said.link:
        attachment |= {"title": said.link_label, "title_link": said.link}
    return {"text": _mattermost_escaped(said.title), "attachments": [attachment]}


def _mattermost_escaped(text: str) -> str:
    return _MENTION.sub(f"@{_BREAK}", _MARKDOWN.sub(_mattermost_part, text))


def _mattermost_part(found: re.Match[str]) -> str:
    return found[0].replace("@", "%40") if "://" in found[0] else f"\\{found[0]}"


_PAYLOADS: Final[Mapping[Kind, Callable[[Message], dict[str, Any]]]] = {
    Kind.SLACK: _slack,
    Kind.TEAMS: _teams,
    Kind.DISCORD: _discord,
    Kind.MATTERMOST: _mattermost,
}


def _japanese(lang: str) -> bool:
    return lang.partition("-")[0].lower() == "ja"
