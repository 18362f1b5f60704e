"""The municipality and 町丁目 codes of an area: whether they read, exist, and lie in one another."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache

from lalert.cap.profiles.base import Finding, Lookup, finding
from lalert.cap.profiles.jp.reading import (
    JIS_GEOCODE_NAMES,
    PLACE_GEOCODE_NAMES,
    TOWN_GEOCODE_NAMES,
    declared_code,
    town_municipality,
)
from lalert.cap.rules import shown
from lalert.errors import InvalidCode
from lalert.geo import REGION_NAMES, Place, check_digit, normalise_code, region_prefecture
from lalert.model import Alert, Area, NamedValue

_UNREADABLE = frozenset({"JP-CODE-FORM", "JP-CODE-CHECK-DIGIT", "JP-TOWN-FORM"})
_NO_MUNICIPALITIES = frozenset({"SAME", "FIPS6", "UGC"})  # codes of six digits that others use
_CODE_LIKE = re.compile(r"[0-9]{6}")


def judge_codes(area: Area, path: str, lookup: Lookup | None) -> Iterator[Finding]:
    """Yield what is wrong with the codes of an area; `path` is the area's, `lookup` knows the municipalities, if anybody does."""
    declared = declared_codes(area)
    listed = ", ".join(sorted(declared)[:5])
    for number, geocode in enumerate(area.geocodes, 1):
        at = f"{path}/geocode[{number}]"
        if geocode.name in JIS_GEOCODE_NAMES:
            yield from _municipality(geocode.value, f"{at}/value", lookup)
        elif geocode.name in TOWN_GEOCODE_NAMES:
            rule, right = _town_fault(geocode.value, declared, lookup)
            if rule:
                where = path if rule == "JP-TOWN-ALONE" else f"{at}/value"
                yield finding(rule, where, text=shown(geocode.value), right=right, codes=listed)
        elif geocode.name in PLACE_GEOCODE_NAMES or geocode.name in REGION_NAMES:
            yield from _of_jma(geocode, f"{at}/value", lookup)
        elif _looks_like_a_code(geocode):
            yield finding("JP-CODE-NAME", f"{at}/valueName", name=shown(geocode.name))


def unreadable_codes(alert: Alert) -> Iterator[Finding]:
    """Yield the geocodes that should be a municipality's, or a 町丁目's, and are none."""
    for i, info in enumerate(alert.infos, 1):
        for a, area in enumerate(info.areas, 1):
            found = judge_codes(area, f"/alert/info[{i}]/area[{a}]", None)
            yield from (one for one in found if one.rule in _UNREADABLE)


def declared_codes(area: Area) -> frozenset[str]:
    """Return the municipality and prefecture codes of an area that read, JMA's too, those of its 町丁目 not among them."""
    return frozenset(code for geocode in area.geocodes if (code := code_of(geocode)))


def code_of(geocode: NamedValue) -> str | None:
    """Return the code of a municipality or prefecture as `normalise_code` spells it, None for anything else."""
    try:
        return None if geocode.name in TOWN_GEOCODE_NAMES else declared_code(geocode)
    except InvalidCode:
        return None


def known_place(area: Area, lookup: Lookup | None) -> Place | None:
    """Return a place that the area declares and somebody knows."""
    if lookup is None:
        return None
    return next((place for code in sorted(declared_codes(area)) if (place := lookup(code))), None)


def _municipality(text: str, path: str, lookup: Lookup | None) -> Iterator[Finding]:
    rule, args = _fault(text)
    if rule:
        yield Finding(rule, path, args)
    if rule not in _UNREADABLE and lookup is not None:
        yield from _known(args.get("right", text), text, path, lookup)


def _of_jma(geocode: NamedValue, path: str, lookup: Lookup | None) -> Iterator[Finding]:
    try:
        code = declared_code(geocode) or region_prefecture(geocode.value)
    except InvalidCode as error:
        yield finding("JP-CODE-FORM", path, text=shown(geocode.value), reason=error.detail, reason_ja="")
        return
    if lookup is not None:
        yield from _known(code, geocode.value, path, lookup)


def _known(code: str, text: str, path: str, lookup: Lookup) -> Iterator[Finding]:
    place = lookup(code)
    if place is None:
        yield finding("JP-CODE-UNKNOWN", path, text=shown(text))
    elif place.ended:
        heirs = [f"{heir.name} {heir.code}" for code in place.successors if (heir := lookup(code))]
        yield finding(
            "JP-CODE-FORMER",
            path,
            text=shown(text),
            name=place.name,
            date=f"{place.ended}",
            heirs=", ".join(heirs),
            heirs_ja="、".join(heirs),
        )


@lru_cache(maxsize=4096)
def _fault(text: str) -> tuple[str, Mapping[str, str]]:
    """Return the rule that a code breaks ("" for none) and what its messages need; many areas have the same few codes."""
    plain = unicodedata.normalize("NFKC", text).strip() if len(text) < 40 else text
    try:
        code = normalise_code(plain)
    except InvalidCode as error:
        return _why_unreadable(text, plain, error.detail)
    # 000 after the prefecture is the prefecture itself in its own 6 digits.
    if code == text or (len(code) == 2 and text == f"{code}000{check_digit(f'{code}000')}"):
        return "", {"right": code}
    return "JP-CODE-SPELLING", {"text": shown(text), "right": code}


def _why_unreadable(text: str, plain: str, reason: str) -> tuple[str, Mapping[str, str]]:
    digits = plain.isascii() and plain.isdigit()
    if digits and len(plain) == 6 and 1 <= int(plain[:2]) <= 47:
        right = plain[:5] + check_digit(plain[:5])
        if right != plain:
            return "JP-CODE-CHECK-DIGIT", {"text": shown(text), "right": right}
    zero = digits and (len(plain) in (1, 4) or (len(plain) == 5 and plain[2:] < "100"))
    reason_ja = "。先頭の0が抜けていませんか" if zero else ""
    return "JP-CODE-FORM", {"text": shown(text), "reason": reason, "reason_ja": reason_ja}


def _town_fault(text: str, declared: frozenset[str], lookup: Lookup | None) -> tuple[str, str]:
    """Return the rule that a 町丁目 code breaks ("" for none), and the municipality that it lies in."""
    try:
        municipality = town_municipality(text)
    except InvalidCode:
        return "JP-TOWN-FORM", ""
    if not declared:
        return "JP-TOWN-ALONE", municipality
    return ("" if _within(municipality, declared, lookup) else "JP-TOWN-ELSEWHERE"), municipality


def _within(municipality: str, declared: frozenset[str], lookup: Lookup | None) -> bool:
    """Say whether a municipality is a declared place or lies in one; without anybody to ask, what may be a ward of a city counts."""
    if municipality in declared or municipality[:2] in declared:
        return True
    if lookup is not None and (place := lookup(municipality)) is not None:
        return place.parent in declared or not declared.isdisjoint(place.successors)
    # Designated cities have numbers such as 100 or 130, and their wards the numbers after them.
    cities = (code for code in declared if code[2:3] == "1" and code[4:5] == "0")
    return any(code[:3] == municipality[:3] and code[:5] < municipality[:5] for code in cities)


def _looks_like_a_code(geocode: NamedValue) -> bool:
    if geocode.name in _NO_MUNICIPALITIES or _CODE_LIKE.fullmatch(geocode.value) is None:
        return False
    try:
        return normalise_code(geocode.value) == geocode.value
    except InvalidCode:
        return False
