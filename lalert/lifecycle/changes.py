"""What an Update changes: the areas that it issues, raises, lowers and lifts, told apart by comparing it with what was in force.

A revision of an evacuation document is a full snapshot of what is issued and what is lifted: what it does not name any more is no longer in
force, whether or not the writer meant it. A lower level is another order, not a lifting.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from lalert import cap
from lalert.matching import declared_codes
from lalert.model import Alert, Changes, Entry, Facts, MsgType

Levels = dict[str, int | None]
"""Code -> 警戒レベル, or None where none is given."""

SAYS_WHERE: Final = frozenset({MsgType.ALERT, MsgType.UPDATE})


def changes(alert: Alert, facts: Facts, before: Sequence[Entry] | None) -> Changes | None:
    """Return what an Update changes of what was in force, `before`, each code in its group; None of any other message.

    None also where that cannot be told: `before` is None (nothing is known of what it refers to) or it, or the Update itself, names no place. A level that is
    not given is neither higher nor lower than another. What an info declares over (CAP 3.2.2 <responseType> AllClear) is not in force there.
    """
    if alert.msg_type is not MsgType.UPDATE or facts.nowhere or before is None:
        return None
    if any(earlier.facts.nowhere for earlier in before):
        return None
    old, new = _in_force_of(before), _in_force(alert, facts)
    steps = {
        code: (old[code] or 0, new[code] or 0) for code in old.keys() & new.keys() if old[code] and new[code]
    }
    return Changes(
        issued=_sorted(new.keys() - old.keys()),
        raised=_sorted(code for code, (was, now) in steps.items() if now > was),
        lowered=_sorted(code for code, (was, now) in steps.items() if now < was),
        lifted=_sorted(old.keys() - new.keys()),
    )


def dropped(alert: Alert, changed: Changes) -> tuple[str, ...]:
    """Return the codes that an Update ends without saying so: lifted, but in no info that declares them over."""
    return tuple(code for code in changed.lifted if code not in _declared_over(alert))


def _in_force_of(entries: Iterable[Entry]) -> Levels:
    together: Levels = {}
    for entry in entries:
        for code, level in _in_force(entry.alert, entry.facts).items():
            together[code] = max(level or 0, together.get(code) or 0) or None
    return together


def _in_force(alert: Alert, facts: Facts) -> Levels:
    """Return where an alert holds and at what level, the highest where several infos speak of one code."""
    levels: Levels = {}
    for info in alert.infos:
        if "AllClear" in info.response_types:
            continue
        level = cap.level(replace(alert, infos=(info,)))
        for code in frozenset().union(*(declared_codes(area) for area in info.areas)):
            levels[code] = max(level or 0, levels.get(code) or 0) or None
    # What is only drawn has its codes from the geometry, for the whole alert at once.
    drawn = facts.codes - levels.keys() - _declared_over(alert)
    everything_over = all("AllClear" in info.response_types for info in alert.infos)
    return levels if everything_over else levels | dict.fromkeys(drawn, facts.level)


def _declared_over(alert: Alert) -> set[str]:
    return {
        code
        for info in alert.infos
        if "AllClear" in info.response_types
        for area in info.areas
        for code in declared_codes(area)
    }


def _sorted(codes: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(codes))
