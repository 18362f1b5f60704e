"""Which infos of an alert are shown to somebody who asks for a language."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from lalert.model import Info

DEFAULT: Final = "ja"


def chosen(infos: Sequence[Info], lang: str | None) -> list[Info]:
    """Return the infos in `lang`: those with the very tag, else with the same primary language, else all: an alert is never hidden.

    Without `lang`, all.
    """
    return (_in_language(infos, lang) if lang else []) or list(infos)


def one_text(infos: Sequence[Info], lang: str | None) -> list[Info]:
    """Return the infos that make one text: as `chosen`, but without `lang` those in Japanese, else in the language of the first.

    Of `ja` and a plain-Japanese `ja-x-easy`, which say the same twice, the first is taken.
    """
    if lang:
        found = _in_language(infos, lang)
        if not found:
            return list(infos)
    else:
        found = [info for info in infos if primary(info.language) == DEFAULT] or list(infos)
    return [info for info in found if variety(info.language) == variety(found[0].language)]


def written_for(infos: Iterable[Info], lang: str) -> bool:
    """Say whether an alert has words of its own for who reads `lang`. Who needs plain Japanese is not served by Japanese; else the primary language is enough."""
    own = [info for info in infos if primary(info.language) == primary(lang)]
    return any("-x-" not in lang.lower() or variety(info.language) == variety(lang) for info in own)


def primary(tag: str) -> str:
    """Return the primary language of a tag (RFC 5646, 2.2.1), lower-case."""
    return tag.partition("-")[0].lower()


def _in_language(infos: Sequence[Info], lang: str) -> list[Info]:
    same = [info for info in infos if info.language.lower() == lang.lower()]
    return same or [info for info in infos if primary(info.language) == primary(lang)]


def variety(tag: str) -> str:
    """Return a tag without its region, lower-case: `ja` and `ja-JP` are read by the same people."""
    first, *more = tag.lower().split("-")
    return "-".join([first, *(part for part in more if len(part) != 2)])
