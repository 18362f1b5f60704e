"""What a person reads of an alert: a title and a body, from its own words in one language."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from lalert import cap
from lalert.model import SEVERITY_RANK, Alert, Info
from lalert.plugin import Room, Text
from lalert.texts.fit import MIN_PIECE, Block, Part, fill, fits_into, prose, title_within, whole, within_reach
from lalert.texts.languages import DEFAULT, chosen, one_text, primary, variety
from lalert.texts.marks import mark, mark_before, unmarked
from lalert.texts.words import (
    ENGLISH,
    JAPANESE,
    MAX_AREA_NAMES,
    announcement,
    area_names,
    areas_line,
    headline,
    issued,
    moment,
    one_line,
    reason,
    say,
    words_for,
)

SAID_WITHOUT_INFOS: Final = ("ja", "en")
"""The languages in which `alert_text` has words for a message that has none of its own."""

ENDLESS: Final = Room()


def alert_text(
    alert: Alert, lang: str | None = None, *, correction: bool = False, room: Room = ENDLESS
) -> Text:
    """Return the alert as a text in `lang`, in Japanese where none is asked for; what it has no info for comes in every language it has.

    `correction` is what the hub has found (`Entry.correction`): a mark in <code> alone makes none. The title says whether it updates, corrects or cancels something, the body of a Cancel why; title and every part of the body begin with the drill mark where
    one is due. Control codes and what would reorder the words are gone. What does not fit into `room` is cut (docs/texts.md).
    """
    infos = one_text(alert.infos, lang)
    if not infos:
        return _without_infos(alert, lang, correction, room)
    gravest = max(infos, key=lambda info: SEVERITY_RANK[info.severity])
    if not room.mixed:
        infos = [info for info in infos if variety(info.language) == variety(gravest.language)]
    title, is_whole = _title(alert, gravest, correction, room)
    tellings = [
        _Telling(alert, info, room, with_headline=info is not gravest or not is_whole) for info in infos
    ]
    body = "\n\n".join(block for telling in tellings if (block := telling.whole()))
    fits = fits_into(room.body, room.measure)
    if not fits(body):
        first = sorted(
            tellings, key=lambda telling: (telling.info is not gravest, -SEVERITY_RANK[telling.info.severity])
        )
        body = fill([telling.block() for telling in first], fits)
    return Text(title, body, gravest.language)


def _title(alert: Alert, info: Info, correction: bool, room: Room) -> tuple[str, bool]:
    """Return the title, and whether it says the whole headline."""
    said = headline(info, say(urls=room.urls))
    announced = announcement(words_for(said, info.language), alert, correction=correction)
    # A headline that a writer had begun with the mark or the announcement would else show it twice.
    plain = unmarked(said, alert.status).removeprefix(announced.strip()).strip()
    title = mark(announced + plain, alert.status, info.language)
    fits = fits_into(room.title, room.measure)
    if fits(title):
        return title, True
    before = mark_before(announced + plain, alert.status, info.language) + announced
    return title_within(
        before, within_reach(one_line(plain), room.title), _events(alert, info, room), fits
    ), False


def _events(alert: Alert, info: Info, room: Room) -> list[str]:
    """Return what may be said for a headline that is too long: the event with its 警戒レベル, then without."""
    event = one_line(say(urls=room.urls)(info.event))
    level = cap.level(replace(alert, infos=(info,)))
    if not level or not event or re.search("レベル|level", event, re.IGNORECASE):
        return [event]
    return [words_for(event, info.language).level.format(level=level, event=event), event]


class _Telling:
    """One info on its way into a body: whole, or as parts from which those are taken that there is room for."""

    def __init__(self, alert: Alert, info: Info, room: Room, *, with_headline: bool) -> None:
        self.info = info
        self._alert = alert
        self._say = say(urls=room.urls)
        self._limit = room.body
        self._headline = headline(info, self._say) if with_headline else ""
        self._description = self._say(info.description or "")
        self._instruction = self._say(info.instruction or "")
        self._free = [text for text in (self._headline, self._description, self._instruction) if text]
        self._words = words_for("".join(self._free) or headline(info, self._say), info.language)

    def whole(self) -> str:
        """Return all that the info says."""
        paragraphs = [*self._free, "\n".join(self._particulars())]
        return mark("\n\n".join(paragraphs), self._alert.status, self.info.language)

    def _particulars(self) -> Iterator[str]:
        if why := reason(self._words, self._alert, self._say):
            yield why
        if names := area_names(self.info, self._say):
            yield areas_line(self._words, names)
        yield self._issued()
        if self.info.expires:
            yield self._until()

    def block(self) -> Block:
        """Return its parts: why it is over; what to do, if lives depend on it, or what has happened; where; the rest."""
        urgent = _urgent(self._alert, self.info)
        why = reason(self._words, self._alert, self._say)
        early, late = self._description, self._instruction
        first = (why, late, self._headline) if urgent else (why, self._headline, early)
        parts = [*self._prose(*first), *self._areas(), *self._prose(early if urgent else late)]
        parts += [whole(line) for line in ([self._until()] if self.info.expires else []) + [self._issued()]]
        return Block(mark_before("".join(self._free), self._alert.status, self.info.language), parts)

    def _prose(self, *texts: str) -> list[Part]:
        return _parts(self._alert, texts, self._limit)

    def _areas(self) -> list[Part]:
        names = [one_line(part) for name in area_names(self.info, self._say) for part in _parted(name)]
        count = min(len(names), MAX_AREA_NAMES)
        return [Part(count, lambda n: areas_line(self._words, names, n + 1))] if names else []

    def _until(self) -> str:
        return self._words.until + moment(self.info.expires, self._words) if self.info.expires else ""

    def _issued(self) -> str:
        return issued(self._words, self._alert, self.info.sender_name, self._say)


def _parts(alert: Alert, texts: Sequence[str], limit: int | None) -> list[Part]:
    return [prose(plain, limit) for text in texts if (plain := unmarked(text, alert.status).strip())]


def _parted(name: str) -> list[str]:
    """Return the names that a long one lists."""
    return [name] if len(name) <= MIN_PIECE else [part for part in _LISTED.split(name) if part]


_LISTED: Final = re.compile(r"[、，,;；\n]\s*")


def _urgent(alert: Alert, info: Info) -> bool:
    """Say whether people have to do something at once: from 警戒レベル3, or where the sender says so."""
    return (cap.level(alert) or 0) >= 3 or not _ACTS.isdisjoint(info.response_types)


_ACTS: Final = {"Shelter", "Evacuate", "Execute", "Avoid"}


@dataclass(frozen=True, slots=True)
class OwnWords:
    """What senders have written, marked: as `paragraphs` where there is room, and as `blocks` to fit."""

    paragraphs: list[str]
    blocks: list[Block]


def own_words(alert: Alert, lang: str, room: Room) -> OwnWords:
    """Return headline, instruction and description of an alert as they are written, to go under a text in `lang` that the hub has made, if they may."""
    paragraphs, blocks = [], []
    for info in chosen(alert.infos, lang) if room.mixed else ():
        said = [
            text
            for text in map(
                say(urls=room.urls),
                (info.headline or info.event, info.instruction or "", info.description or ""),
            )
            if text
        ]
        paragraphs.append(mark("\n\n".join(said), alert.status, info.language))
        blocks.append(
            Block(mark_before("".join(said), alert.status, info.language), _parts(alert, said, room.body))
        )
    return OwnWords(paragraphs, blocks)


def _without_infos(alert: Alert, lang: str | None, correction: bool, room: Room) -> Text:
    language = lang if lang and primary(lang) != DEFAULT else DEFAULT
    words = JAPANESE if primary(language) == DEFAULT else ENGLISH
    own = say(urls=room.urls)
    lines = [reason(words, alert, own) or own(alert.note or ""), issued(words, alert, None, own)]
    if alert.references:
        lines.append(words.concerns + words.comma.join(own(ref.identifier) for ref in alert.references))
    lines = [line for line in lines if line]
    announced = announcement(words, alert, correction=correction)
    said = words.nothing_said[alert.msg_type]
    title = mark(announced + said, alert.status, language)
    if not (fits := fits_into(room.title, room.measure))(title):
        title = title_within(mark_before(said, alert.status, language) + announced, said, (), fits)
    body = mark("\n".join(lines), alert.status, language)
    if not (fits := fits_into(room.body, room.measure))(body):
        before = mark_before(body, alert.status, language)
        body = fill([Block(before, _parts(alert, lines, room.body))], fits)
    return Text(title=title, body=body, lang=DEFAULT if words is JAPANESE else "en")
