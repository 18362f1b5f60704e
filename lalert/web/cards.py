"""What a person reads of one alert, made from its public JSON: the same rules as static/js/cards.js, which renders what arrives later."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from lalert import cap
from lalert.model import JST
from lalert.web.wording import Wording

MAX_HEADLINE: Final = 200
MAX_TEXT: Final = 2_000
MAX_AREAS: Final = 30
MAX_AREA: Final = 60
MAX_INFOS: Final = 8
PICTURES: Final = tuple(cap.KINDS)
"""Each kind has a picture (templates/_symbols.html); an alert of any other is shown with that of a notice."""

_REGION = re.compile(r"-([a-z]{2}|\d{3})(?=-|$)")
_SEVERITIES = ("Unknown", "Minor", "Moderate", "Severe", "Extreme")


@dataclass(frozen=True, slots=True)
class Section:
    """One info of an alert, cut to what a page can bear; `more_areas` counts the names that were left out. `web` is a checked http(s) address."""

    lang: str
    headline: str
    description: str
    instruction: str
    areas: tuple[str, ...]
    more_areas: int
    web: str


@dataclass(frozen=True, slots=True)
class Card:
    """One alert as a page shows it. `tone` names the colours (`l1`-`l5`, `s-severe`, ..., `drill`), `grade` and `name` say the same in words."""

    key: str
    tone: str
    shape: str
    picture: str
    grade: str
    name: str
    name_lang: str
    mark: str
    notice: str
    sections: tuple[Section, ...]
    issued: str
    until: str
    sender: str
    url: str


def card(alert: Mapping[str, Any], wording: Wording, lang: str) -> Card:
    """Return the card of an alert's JSON in the page's language; `lang` chooses among its infos."""
    infos = chosen(alert["info"], lang)
    first: Mapping[str, Any] = infos[0] if infos else {}
    severity = max((str(i.get("severity", "Unknown")) for i in infos), key=_grave, default="Unknown")
    level, kind, status = alert["level"], str(alert.get("kind", "")), str(alert["status"])
    ordered = kind == "evacuation" and level is not None
    real = status == "Actual"
    sent = _instant(alert["sent"])
    issued = (
        "corrected" if alert.get("correction") else "updated" if alert["msgType"] == "Update" else "issued"
    )
    return Card(
        key=f"{status}|{alert['incident']}",
        tone=tone(level, severity) if real else "drill",
        shape=f"level-{level}" if level else "level-none",
        picture=kind if kind in PICTURES else "general",
        grade=wording.grade(level, kind, severity),
        name=wording(f"evacuation.{level}") if ordered else _cut(str(first.get("event") or ""), MAX_HEADLINE),
        name_lang=wording.lang if ordered else str(first.get("language") or wording.lang),
        mark="" if real or not wording.has(f"mark.{status}") else wording(f"mark.{status}"),
        notice="" if real or not wording.has(f"mark.{status}.full") else wording(f"mark.{status}.full"),
        sections=tuple(_section(info, wording) for info in infos[:MAX_INFOS]) or (_section({}, wording),),
        issued=wording(f"card.{issued}", time=wording.moment(sent)),
        until=_until(infos, sent, wording),
        sender=_cut(str(first.get("senderName") or alert["sender"]), MAX_HEADLINE),
        url=str(alert["url"]),
    )


def tone(level: int | None, severity: str) -> str:
    """Return the name of the colours for a 警戒レベル, or for a severity where there is no level."""
    return f"l{level}" if level else f"s-{severity.lower() if severity in _SEVERITIES else 'unknown'}"


def chosen(infos: Sequence[Mapping[str, Any]], lang: str) -> list[Mapping[str, Any]]:
    """Return the infos in one language: the one asked for, else another of its kind, else Japanese, else that of the first."""
    by_variety = [(_variety(str(info.get("language", ""))), info) for info in infos]
    for wanted in (_variety(lang), _primary(lang), "ja"):
        found = [info for variety, info in by_variety if variety == wanted]
        if found:
            return found
        first = next((variety for variety, _ in by_variety if _primary(variety) == wanted), None)
        if first is not None:
            return [info for variety, info in by_variety if variety == first]
    return [info for variety, info in by_variety if variety == by_variety[0][0]]


def _primary(tag: str) -> str:
    return tag.lower().partition("-")[0]


def _variety(tag: str) -> str:
    """Return a tag without its region: `ja` and `ja-JP` are read by the same people, plain Japanese (`ja-x-easy`) says the same again."""
    return _REGION.sub("", tag.lower(), count=1)


def _until(infos: Sequence[Mapping[str, Any]], sent: datetime, wording: Wording) -> str:
    """Return when the last info expires, empty where one never does; the day only if it is another than that of the message."""
    ends = [info.get("expires") for info in infos]
    if not ends or not all(ends):
        return ""
    until = max(map(_instant, ends))
    same_day = until.astimezone(JST).date() == sent.astimezone(JST).date()
    return wording("card.until", time=wording.moment(until, "clock" if same_day else "stamp"))


def _section(info: Mapping[str, Any], wording: Wording) -> Section:
    areas = [str(area.get("areaDesc", "")).strip() for area in info.get("areas", ())]
    names = [name for name in dict.fromkeys(areas) if name]
    return Section(
        lang=str(info.get("language") or wording.lang),
        headline=_cut(
            str(info.get("headline") or info.get("event") or wording("card.untitled")), MAX_HEADLINE
        ),
        description=_cut(str(info.get("description") or ""), MAX_TEXT),
        instruction=_cut(str(info.get("instruction") or ""), MAX_TEXT),
        areas=tuple(_cut(name, MAX_AREA) for name in names[:MAX_AREAS]),
        more_areas=max(0, len(names) - MAX_AREAS),
        web=_web(info.get("web")),
    )


def _web(address: object) -> str:
    """Return a sender's link if a browser may follow it: `javascript:` and its like are no links."""
    if not isinstance(address, str) or len(address) > MAX_TEXT:
        return ""
    try:
        parts = urlsplit(address.strip())
    except ValueError:
        return ""
    return address.strip() if parts.scheme in ("http", "https") and parts.netloc else ""


def _grave(severity: str) -> int:
    return _SEVERITIES.index(severity) if severity in _SEVERITIES else 0


def _cut(text: str, limit: int) -> str:
    text = text.strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _instant(text: object) -> datetime:
    return datetime.fromisoformat(str(text))
