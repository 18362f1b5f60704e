"""What people read, by template where the alert has no words of its own in the language they ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import structlog

from lalert import cap
from lalert.model import Alert, Entry, Info, MsgType
from lalert.plugin import Room, Text
from lalert.texts.fit import Block, Fits, fill, fits_into, prose, title_within
from lalert.texts.kept import Kept
from lalert.texts.languages import primary, variety, written_for
from lalert.texts.marks import mark_before, unmarked
from lalert.texts.plain import readable
from lalert.texts.prose import ENDLESS, SAID_WITHOUT_INFOS, alert_text, own_words
from lalert.texts.sandbox import Sandbox, TemplateFailed
from lalert.texts.values import Language, Matter, matters, values
from lalert.texts.words import say

MAX_KEPT: Final = 4_096
MAX_KEPT_BYTES: Final = 32 * 2**20
"""Texts that are kept, so that seventy thousand receivers of one alert are one text for each way to read it."""

log = structlog.get_logger()


class Library:
    """Templates of the languages that are on; for all threads. `failures` counts by template how often one did not become a text."""

    def __init__(self, languages: Mapping[str, Language], sandbox: Sandbox, on: Iterable[str]) -> None:
        self._languages = {tag.lower(): (tag, languages[tag]) for tag in on}
        self._sandbox = sandbox
        self.failures: Counter[str] = Counter()
        self._kept = Kept[Text](MAX_KEPT, MAX_KEPT_BYTES)

    @property
    def languages(self) -> tuple[str, ...]:
        """Return the tags of the languages that are on."""
        return tuple(tag for tag, _ in self._languages.values())

    def warm(self) -> None:
        """Compile every template that may be used: some milliseconds each, the first time in a process."""
        self._sandbox.warm(self.languages)

    def text(
        self, entry: Entry, lang: str | None = None, room: Room | None = None, channel: str = ""
    ) -> Text:
        """Return what a person reads of an alert in `lang`, within `room`, on a channel of that type.

        The alert's own words in that language go before every template. A template that fails gives way to the alert's own headline, areas and
        instruction, and `template_failed` names it.
        """
        chosen = self._chosen(entry.alert.infos, lang) if entry.alert.msg_type is not MsgType.ACK else None
        # By what is chosen where it can be: each of a thousand invented languages must not be a text of its own.
        asked = chosen[0] if chosen else f"?{lang or ''}"
        key = (entry.position, asked, channel if chosen else "", room or ENDLESS)
        kept = self._kept.get(key, entry)
        if kept is not None:
            return kept
        text = self._text(entry, lang, room or ENDLESS, channel, chosen)
        self._kept.put(key, entry, text, 4 * (len(text.title) + len(text.body)))
        return text

    def _text(
        self, entry: Entry, lang: str | None, room: Room, channel: str, chosen: tuple[str, Language] | None
    ) -> Text:
        failed = ""
        if chosen is not None:
            try:
                return self._templated(entry, *chosen, room, channel)
            except TemplateFailed as error:
                failed = error.name
                if not self.failures[failed]:
                    log.error(
                        "template failed: the alert's own words are sent in its place",
                        template=failed,
                        why=str(error),
                    )
                self.failures[failed] += 1
        own = alert_text(entry.alert, lang, correction=entry.correction, room=room)
        return replace(own, template_failed=failed) if failed else own

    def _chosen(self, infos: Collection[Info], lang: str | None) -> tuple[str, Language] | None:
        """Return the language to take templates of, None where the alert's own words are read."""
        if not lang or written_for(infos, lang) or (not infos and variety(lang) in SAID_WITHOUT_INFOS):
            return None
        for tag in (lang.lower(), variety(lang), primary(lang)):
            if tag in self._languages:
                return None if written_for(infos, tag) else self._languages[tag]
        return None

    def _templated(self, entry: Entry, tag: str, language: Language, room: Room, channel: str) -> Text:
        said = matters(entry)
        told = [
            self._lines(entry, matter, tag, language, channel, room, alone=len(said) == 1) for matter in said
        ]
        alert = entry.alert
        mark = mark_before("", alert.status, tag)
        drill = language.drill.get(alert.status.value, "")
        fits_title, fits_body = fits_into(room.title, room.measure), fits_into(room.body, room.measure)
        first, *more = told
        announcement = _announcement(entry, said[0], language)
        title = mark + drill + announcement + first[0]
        title_is_whole = fits_title(title)
        if not title_is_whole:
            title = _shorter_title((mark + drill + announcement, mark + announcement), first[0], fits_title)
        lines = [*(first[1:] if title_is_whole else first), *(line for each in more for line in each)]
        own = own_words(alert, tag, room)
        body = "\n\n".join([mark + drill + "\n".join(lines), *own.paragraphs] if lines else own.paragraphs)
        if not fits_body(body):
            body = fill([Block(mark + drill, [prose(line) for line in lines]), *own.blocks], fits_body)
        return Text(title, body, tag)

    def _lines(
        self,
        entry: Entry,
        matter: Matter,
        tag: str,
        language: Language,
        channel: str,
        room: Room,
        *,
        alone: bool,
    ) -> list[str]:
        names = list(_names(tag, channel, matter, entry.alert))
        name = next((name for name in names if name in self._sandbox), None)
        if name is None:
            raise TemplateFailed(names[-1], "there is none")
        written = self._sandbox.render(name, values(entry, matter, language, channel, alone=alone))
        said = (unmarked(line, entry.alert.status) for line in written.splitlines())
        lines = [line for line in map(say(urls=room.urls), said) if line]
        if not lines:
            raise TemplateFailed(name, "says nothing")
        return lines


def _shorter_title(befores: Sequence[str], said: str, fits: Fits) -> str:
    """Return a title that says something behind the first of `befores` that leaves room for it: the mark says in every language that it is a drill."""
    titles = [title_within(before, said, (), fits) for before in befores]
    return next(
        (title for title, before in zip(titles, befores, strict=True) if title not in before), titles[-1]
    )


def _announcement(entry: Entry, matter: Matter, language: Language) -> str:
    if entry.alert.msg_type is MsgType.ERROR:
        return language.error
    if entry.alert.msg_type is not MsgType.UPDATE or matter.lifted:
        return ""
    return language.correction if entry.correction else language.update


def _names(tag: str, channel: str, matter: Matter, alert: Alert) -> Iterator[str]:
    """Yield the names that a template may have, the most special first. What is over never falls back to what says that it holds."""
    stage = _stage(matter, alert)
    special = [f"{matter.kind}.{stage}", stage] if stage else [*_orders(matter), matter.kind, "default"]
    for folder in (f"{tag}/{channel}", tag):
        yield from (f"{folder}/{name}.txt" for name in special)


def _stage(matter: Matter, alert: Alert) -> str:
    """Return what has become of a matter, empty while it holds. A Cancel that says why withdraws; without a reason it may lift (docs/profile-jp.md)."""
    if alert.msg_type is MsgType.ERROR:
        return "error"
    if alert.msg_type is MsgType.CANCEL and (readable(alert.note or "") or not matter.lifted):
        return "cancel"
    return "clear" if matter.lifted else ""


def _orders(matter: Matter) -> list[str]:
    """Return the kind with its level; an order that has none, as for a tsunami, is known by its name."""
    event = readable(matter.infos[0].event) if matter.infos else ""
    level = matter.level or (cap.LEVEL_OF_NAME.get(event) if matter.kind == "evacuation" else None)
    return [f"{matter.kind}.{level}"] if level else []
