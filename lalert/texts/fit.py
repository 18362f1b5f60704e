"""Makes what is to be said fit into the room there is: by sentence, the most important first."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from lalert.texts.breaks import letter_ends, phrase_ends, sentence_ends

Fits = Callable[[str], bool]
"""Says whether a text has room; what begins with a text that has none has none either."""

ELLIPSIS: Final = "…"
MIN_PIECE: Final = 40
"""Characters of a sentence that are said at least: one that is longer may end at a phrase behind them."""


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that a text says, in `count` ways: `form(0)` is the shortest, `form(count - 1)` the whole."""

    count: int
    form: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Block:
    """What is said in one language, the most important first; whatever is left of it begins with `mark`."""

    mark: str
    parts: Sequence[Part]


def fits_into(limit: int | None, measure: Callable[[str], int]) -> Fits:
    """Return whether a text is no longer than `limit`."""
    return lambda text: limit is None or measure(text) <= limit


def within_reach(text: str, limit: int | None) -> str:
    """Return what need be looked at of a text for which there is room for at most `limit` characters: of one that is longer one more, so that it never fits."""
    return text if limit is None else text[: limit + 1]


def cut(text: str, fits: Fits) -> str:
    """Return the longest beginning of a text that fits and ends with a sentence, else with a phrase and an ellipsis, empty where not a word fits.

    Only in scripts that part no words by spaces the last resort is an ellipsis between two letters.
    """
    if fits(text):
        return text
    for ends, end_mark in ((sentence_ends, ""), (phrase_ends, ELLIPSIS), (letter_ends, ELLIPSIS)):
        if said := _longest(_beginnings(text, ends(text)[:-1], end_mark), fits):
            return said
    return ""


def title_within(before: str, headline: str, events: Sequence[str], fits: Fits) -> str:
    """Return a title that begins with `before`: the headline by whole sentences, else the first of `events` that fits, else the headline cut by phrase.

    What is left out of it belongs into the body. Without room for any of that it is `before`, or nothing.
    """

    def fits_behind(text: str) -> bool:
        return fits(before + text)

    if not fits_behind(""):
        return next((part for part in _shorter(before) if fits(part)), "")
    said = cut(headline, fits_behind)
    if not said or (said.endswith("…") and not headline.endswith("…")):
        said = next((event for event in events if event and fits_behind(event)), said)
    return (before + (said or next(filter(None, (cut(event, fits_behind) for event in events)), ""))).strip()


def _shorter(before: str) -> Iterator[str]:
    """Yield what has to go before a title, and then the mark alone: that it is a drill goes before everything."""
    yield before.strip()
    if mark_alone := _MARK.match(before):
        yield mark_alone[0]


_MARK: Final = re.compile(r"【[^】]*】|\[[^\]]*\]")


def prose(text: str, limit: int | None = None) -> Part:
    """Return the ways to say a text where there is room for `limit` characters: its first sentence (of a long one the beginning), and then more and more."""
    text = within_reach(text, limit)
    ends = sentence_ends(text)
    early = [end for end in phrase_ends(text[: ends[0]])[:-1] if end >= MIN_PIECE]
    said = [*early, *ends]
    return Part(len(said), lambda n: text[: said[n]].rstrip() + (ELLIPSIS if n < len(early) else ""))


def whole(text: str) -> Part:
    """Return a text that is said whole or not at all."""
    return Part(1, lambda _n: text)


def fill(blocks: Sequence[Block], fits: Fits) -> str:
    """Return as much of the blocks as fits, each part on a line of its own.

    Of a block first every part is said in its shortest form, then they grow, both in the order they have; the next block gets what room is
    left. Where nothing fits it is the first part cut by phrase, or the mark alone, or nothing.
    """
    done = ""
    for block in blocks:
        before = f"{done}\n\n" if done else ""
        said = _fill_block(block, _behind(before, fits))
        done = before + said if said else done
    return done or _least(blocks, fits)


def _behind(before: str, fits: Fits) -> Fits:
    return lambda text: fits(before + text)


def _fill_block(block: Block, fits: Fits) -> str:
    forms = [-1] * len(block.parts)

    def fits_with(at: int, form: int) -> bool:
        return fits(_said(block, [*forms[:at], form, *forms[at + 1 :]]))

    for at in range(len(forms)):
        if fits_with(at, 0):
            forms[at] = 0
    for at, part in enumerate(block.parts):
        if forms[at] == 0:
            last = part.count - 1
            forms[at] = last if fits_with(at, last) else _last_that(part.count, partial(fits_with, at))
    return _said(block, forms)


def _said(block: Block, forms: Sequence[int]) -> str:
    lines = [part.form(form) for part, form in zip(block.parts, forms, strict=True) if form >= 0]
    return block.mark + "\n".join(lines) if lines else ""


def _least(blocks: Sequence[Block], fits: Fits) -> str:
    for block in blocks:
        for part in block.parts:
            if said := cut(part.form(part.count - 1), _behind(block.mark, fits)):
                return block.mark + said
    return next((mark for block in blocks if (mark := block.mark.strip()) and fits(mark)), "")


def _beginnings(text: str, ends: Sequence[int], end_mark: str) -> Part:
    return Part(
        len(ends), lambda n: text[: ends[n]].rstrip().rstrip("、，,;；:：" if end_mark else "") + end_mark
    )


def _longest(part: Part, fits: Fits) -> str:
    chosen = _last_that(part.count, lambda n: fits(part.form(n)))
    return part.form(chosen) if chosen >= 0 else ""


def _last_that(count: int, holds: Callable[[int], bool]) -> int:
    """Return the last of `count` for which `holds` is true, if it is true for all before it; -1 if it is for none."""
    return bisect_left(range(count), True, key=lambda n: not holds(n)) - 1
