"""What an Update changed: the areas that it adds, raises, lowers and lifts, told apart by comparing it with what it replaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lalert import cap
from lalert.matching import declared_codes
from lalert.model import Entry, MsgType

Levels = dict[str, int | None]
"""Code -> 警戒レベル, or None where none is given."""


def changes(entry: Entry, lineage: Sequence[Entry]) -> dict[str, list[str]] | None:
    """Return `{issued, raised, lowered, lifted}` of an Update, each the codes concerned, sorted; None of any other message.

    Compared with the newest entry of its lineage (rising, as `store.lineage` returns it) that says where it holds; None if there is
    none, or if the Update itself names no place. A level that is not given is neither higher nor lower than another. What an
    info declares over (CAP 3.2.2 <responseType> AllClear) is not in force there.
    """
    before = next((earlier for earlier in reversed(lineage) if _says_where(earlier)), None)
    if entry.alert.msg_type is not MsgType.UPDATE or not _says_where(entry) or before is None:
        return None
    old, new = _in_force(before), _in_force(entry)
    steps = {
        code: (old[code] or 0, new[code] or 0) for code in old.keys() & new.keys() if old[code] and new[code]
    }
    return {
        "issued": sorted(new.keys() - old.keys()),
        "raised": sorted(code for code, (was, now) in steps.items() if now > was),
        "lowered": sorted(code for code, (was, now) in steps.items() if now < was),
        "lifted": sorted(old.keys() - new.keys()),
    }


def _says_where(entry: Entry) -> bool:
    return not entry.facts.nowhere and entry.alert.msg_type in {MsgType.ALERT, MsgType.UPDATE}


def _in_force(entry: Entry) -> Levels:
    """Return where the entry holds and at what level, the highest where several infos speak of one code."""
    levels: Levels = {}
    over: set[str] = set()
    for info in entry.alert.infos:
        codes = frozenset().union(*(declared_codes(area) for area in info.areas))
        if "AllClear" in info.response_types:
            over |= codes
            continue
        level = cap.level(replace(entry.alert, infos=(info,)))
        for code in codes:
            levels[code] = max(level or 0, levels.get(code) or 0) or None
    # What is only drawn has its codes from the geometry, for the whole alert at once.
    drawn = entry.facts.codes - levels.keys() - over
    everything_over = all("AllClear" in info.response_types for info in entry.alert.infos)
    return levels if everything_over else levels | dict.fromkeys(drawn, entry.facts.level)
