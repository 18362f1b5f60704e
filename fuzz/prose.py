"""What the text of the standard forbids beyond the schema, judged a second time: plainly, slowly, and without any code of lalert.

Takes documents that the schema accepts. Where lalert has regular expressions, floats and GEOS, this has loops, integers and fractions.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from datetime import date
from fractions import Fraction

from lxml import etree

_SPACE = " \t\r\n"
_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdefABCDEF")
_FAMILIES = frozenset(
    {"application", "audio", "example", "font", "haptics", "image"}
    | {"message", "model", "multipart", "text", "video"}
)
UNDECIDED = "undecided"
"""Stands for the shape of a ring near the antimeridian or a pole, which is judged by tests of its own."""


def errors(root: etree._Element, version: str) -> set[str]:
    """Return the ids of all rules of the prose that are broken, with `UNDECIDED` if there is a ring that is not judged."""
    return set(_alert(root, version))


def _tag(parent: etree._Element, name: str) -> str:
    return f"{{{etree.QName(parent).namespace}}}{name}"


def _text(parent: etree._Element, name: str) -> str | None:
    child = parent.find(_tag(parent, name))
    return None if child is None else (child.text or "").strip(_SPACE)


def _words(text: str) -> list[str]:
    for space in _SPACE:
        text = text.replace(space, " ")
    return [word for word in text.split(" ") if word]


def _all(parent: etree._Element, name: str) -> list[etree._Element]:
    return parent.findall(_tag(parent, name))


def _alert(root: etree._Element, version: str) -> Iterator[str]:
    for name in ("identifier", "sender"):
        element = root.find(_tag(root, name))
        assert element is not None
        text = element.text or ""
        if not text.strip(_SPACE):
            yield "CAP-TEXT-EMPTY"
        elif any(c.isspace() or c in ",<&" for c in text):
            yield "CAP-NAME"
    sent = _seconds(_text(root, "sent") or "")
    if sent is None:
        yield "CAP-TIME-VALUE"
    addresses, restriction, scope = (_text(root, name) for name in ("addresses", "restriction", "scope"))
    if scope == "Private" and not (addresses and addresses.replace('""', "").strip(_SPACE)):
        yield "CAP-ADDRESSES-MISSING"
    if scope == "Restricted" and not restriction:
        yield "CAP-RESTRICTION-MISSING"
    if restriction and scope in {"Public", "Private"}:
        yield "CAP-RESTRICTION-UNEXPECTED"
    if any(_unquoted(_text(root, name) or "") for name in ("addresses", "incidents")):
        yield "CAP-LIST-QUOTE"
        if scope == "Private":
            yield "CAP-ADDRESSES-MISSING"
    yield from _references(root, version, sent)
    for info in _all(root, "info"):
        yield from _info(info, version, sent)


def _seconds(text: str) -> int | None:
    """Return the seconds since the year 1 in UTC; None for what the calendar has not."""
    form = "dddd-dd-ddTdd:dd:dd_dd:dd"
    if len(text) != len(form):
        return None
    for character, wanted in zip(text, form, strict=True):
        if (
            (character not in _DIGITS)
            if wanted == "d"
            else character not in ("+-" if wanted == "_" else wanted)
        ):
            return None
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
    hour, minute, second = int(text[11:13]), int(text[14:16]), int(text[17:19])
    ahead, beyond = int(text[20:22]), int(text[23:25])
    if minute > 59 or second > 59 or beyond > 59 or ahead * 60 + beyond > 14 * 60:
        return None
    if hour > 24 or (hour == 24 and (minute or second)):
        return None
    try:
        days = date(year, month, day).toordinal() + (hour == 24)
    except ValueError:
        return None
    offset = (ahead * 60 + beyond) * 60 * (1 if text[19] == "+" else -1)
    utc = days * 86_400 + (hour % 24) * 3600 + minute * 60 + second - offset
    return (
        utc if days <= date.max.toordinal() and 86_400 <= utc < (date.max.toordinal() + 1) * 86_400 else None
    )


def _unquoted(text: str) -> bool:
    """Say whether a list has a quotation mark in the wrong place."""
    within = False
    for n, character in enumerate(text):
        if character != '"':
            continue
        neighbour = text[n + 1 : n + 2] if within else text[:n][-1:]
        if neighbour and neighbour not in _SPACE:
            return True
        within = not within
    return within


def _references(root: etree._Element, version: str, sent: int | None) -> Iterator[str]:
    text = _text(root, "references")
    if text is None:
        if _text(root, "msgType") != "Alert":
            yield "CAP-REFERENCES-MISSING"
        return
    words = text.split()
    if not words:
        yield "CAP-REFERENCES-FORM"
    me = (_text(root, "sender"), _text(root, "identifier"))
    sound = all(me) and sent is not None
    for word in words:
        if version == "1.0":
            identifier, slash, sender = word.partition("/")
            when = sent
            good = bool(identifier and slash and sender)
        else:
            parts = word.split(",")
            good = len(parts) == 3 and all(parts) and (when := _seconds(parts[2])) is not None
            sender, identifier = (parts[0], parts[1]) if good else ("", "")
        if not good:
            yield "CAP-REFERENCES-FORM"
        elif sound and (sender, identifier) == me and when == sent:
            yield "CAP-REFERENCES-SELF"


def _info(info: etree._Element, version: str, sent: int | None) -> Iterator[str]:
    if not _text(info, "event"):
        yield "CAP-TEXT-EMPTY"
    times = {name: _text(info, name) for name in ("effective", "onset", "expires")}
    known = {name: _seconds(text) for name, text in times.items() if text is not None}
    if None in known.values():
        yield "CAP-TIME-VALUE"
    begins = [t for t in (sent, known.get("effective")) if t is not None]
    expires = known.get("expires")
    if expires is not None and any(expires < t for t in begins):
        yield "CAP-EXPIRES-BEFORE"
    web = _text(info, "web")
    if web and not _address(web, ("http", "https")):
        yield "CAP-WEB"
    places = [geocode for area in _all(info, "area") for geocode in _all(area, "geocode")]
    if version == "1.0":
        for pair in (*_all(info, "eventCode"), *_all(info, "parameter"), *places):
            name, equals, _ = (pair.text or "").partition("=")
            if not equals or not name.strip(_SPACE):
                yield "CAP-PAIR-FORM"
    for resource in _all(info, "resource"):
        yield from _resource(resource)
    for area in _all(info, "area"):
        yield from _area(area, version)


def _address(text: str, schemes: tuple[str, ...]) -> bool:
    scheme, colon, rest = text.partition(":")
    if not colon or scheme.lower() not in schemes or not rest.startswith("//"):
        return False
    if not _plain(text.replace("#", "", 1)):
        return False
    host = rest[2:]
    for end in "/?#":
        host = host.partition(end)[0]
    host = host.rpartition("@")[2]
    if "@" in rest[2 : rest.find(host) if host else None].replace("@", "", 1):
        return False
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        if not name or not all(c in _HEX or c in ":." for c in name):
            return False
        if port and not port.startswith(":"):
            return False
        port = port[1:] if port else "0"
    else:
        name, colon, port = host.partition(":")
        if not name or any(c in "%[]" for c in name):
            return False
        port = port if colon else "0"
    return 0 < len(port) < 6 and all(c in _DIGITS for c in port)


def _plain(text: str) -> bool:
    """Say whether all characters may stand in an address and every percent sign begins a code."""
    if any(c <= " " or c in '\x7f<>"#' for c in text):
        return False
    return all(
        len(code) > 1 and code[0] in _HEX and code[1] in _HEX for code in (p[:2] for p in text.split("%")[1:])
    )


def _relative(text: str) -> bool:
    first = text
    for end in "/?#":
        first = first.partition(end)[0]
    return ":" not in first and _plain(text.replace("#", "", 1))


def _resource(resource: etree._Element) -> Iterator[str]:
    if not _text(resource, "resourceDesc"):
        yield "CAP-TEXT-EMPTY"
    kind = _text(resource, "mimeType")
    if kind is not None:
        family, slash, rest = kind.partition("/")
        subtype = rest.partition(";")[0].rstrip(" \t")
        good = bool(slash) and family.lower() in _FAMILIES and bool(subtype) and "\n" not in rest
        if good and not (subtype.isascii() and all(c.isalnum() or c in "!#$&^_.+-" for c in subtype)):
            good = False
        if not kind:
            yield "CAP-TEXT-EMPTY"
        elif not good or not subtype[0].isalnum():
            yield "CAP-MIME"
    size = _text(resource, "size")
    if size is not None and (int(size) < 0 or len(size.lstrip("+-")) > 18):
        yield "CAP-SIZE"
    uri, content, digest = (_text(resource, name) or None for name in ("uri", "derefUri", "digest"))
    if uri and ":" in uri and uri.partition(":")[0].isascii() and _is_scheme(uri.partition(":")[0]):
        if not _address(uri, ("http", "https", "ftp", "ftps")):
            yield "CAP-URI"
    elif uri and not (content and _relative(uri)):
        yield "CAP-URI"
    if digest and not (len(digest) == 40 and all(c in _HEX for c in digest)):
        yield "CAP-DIGEST"
    if content:
        try:
            letters = "".join(content.split())
            base64.b64decode(letters.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            yield "CAP-DEREF"


def _is_scheme(text: str) -> bool:
    return bool(text) and text[0].isalpha() and all(c.isalnum() or c in "+.-" for c in text)


def _area(area: etree._Element, version: str) -> Iterator[str]:
    if not _text(area, "areaDesc"):
        yield "CAP-TEXT-EMPTY"
    for polygon in _all(area, "polygon"):
        yield from _polygon(polygon.text or "")
    for circle in _all(area, "circle"):
        drawn = circle.text or ""
        # The schema of CAP 1.0 has a list here, so that any white space may stand between the parts.
        yield from _circle(" ".join(_words(drawn)) if version == "1.0" else drawn.strip(_SPACE))
    heights: dict[str, Fraction | None] = {}
    for name in ("altitude", "ceiling"):
        text = _text(area, name)
        if text is not None:
            height = _number(text)
            if height is None or abs(height) >= 1 << 1024:  # what no float can hold is no height either
                height = None
                yield "CAP-HEIGHT-FORM"
            heights[name] = height
    if "ceiling" in heights and "altitude" not in heights:
        yield "CAP-CEILING-ALONE"
    low, high = heights.get("altitude"), heights.get("ceiling")
    if low is not None and high is not None and float(high) < float(low):
        yield "CAP-CEILING-BELOW"


def _number(text: str) -> Fraction | None:
    """Read a decimal without an exponent."""
    digits = text[1:] if text[:1] in ("+", "-") and text else text
    whole, _, part = digits.partition(".")
    if not (whole or part) or any(c not in _DIGITS for c in whole + part):
        return None
    value = Fraction(int(whole or "0")) + Fraction(int(part or "0"), 10 ** len(part))
    return -value if text[0] == "-" else value


_Point = tuple[Fraction, Fraction]


def _point(word: str) -> _Point | None:
    lat, comma, lon = word.partition(",")
    y, x = _number(lat), _number(lon)
    return (x, y) if comma and x is not None and y is not None else None


def _on_earth(point: _Point) -> bool:
    return abs(point[0]) <= 180 and abs(point[1]) <= 90


def _outside(points: list[_Point]) -> str:
    first = next((p for p in points if not _on_earth(p)), None)
    if first is None:
        return ""
    return "CAP-POINT-SWAPPED" if _on_earth((first[1], first[0])) else "CAP-POINT-RANGE"


def _polygon(text: str) -> Iterator[str]:
    read = [_point(word) for word in _words(text)]
    points = [point for point in read if point is not None]
    if not points or len(points) < len(read):
        yield "CAP-POLYGON-FORM"
    elif outside := _outside(points):
        yield outside
    elif len(points) < 4:
        yield "CAP-POLYGON-POINTS"
    elif points[0] != points[-1]:
        yield "CAP-POLYGON-OPEN"
    elif any(abs(x) > 170 or abs(y) > 85 for x, y in points) or len(points) > 100:
        yield UNDECIDED
    else:
        yield from _shape(points)


def _shape(points: list[_Point]) -> Iterator[str]:
    ring = [point for n, point in enumerate(points[1:]) if point != points[n]]
    # All on one line, whatever way they run along it.
    if all(_turn(a, b, c) == 0 for a in ring[:1] for b in ring for c in ring):
        yield "CAP-POLYGON-FLAT"
        return
    sides = list(zip(ring, ring[1:] + ring[:1], strict=True))
    for n, one in enumerate(sides):
        for m, other in enumerate(sides[n + 1 :], n + 1):
            if _meet(one, other, next_to=m == n + 1 or (n == 0 and m == len(sides) - 1)):
                yield "CAP-POLYGON-CROSSING"
                return


def _turn(a: _Point, b: _Point, c: _Point) -> int:
    cross = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return (cross > 0) - (cross < 0)


def _between(p: _Point, q: _Point, r: _Point) -> bool:
    return all(sorted((p[axis], q[axis], r[axis]))[1] == r[axis] for axis in (0, 1))


def _meet(one: tuple[_Point, _Point], other: tuple[_Point, _Point], *, next_to: bool) -> bool:
    """Say whether two sides have a point in common that is not the corner between neighbours."""
    (a, b), (c, d) = one, other
    if next_to:
        corner = b if b in (c, d) else a
        far_one, far_other = (a if corner == b else b), (d if corner == c else c)
        return _turn(corner, far_one, far_other) == 0 and (
            (far_one[0] - corner[0]) * (far_other[0] - corner[0])
            + (far_one[1] - corner[1]) * (far_other[1] - corner[1])
            > 0
        )
    turns = (_turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b))
    if turns[0] != turns[1] and turns[2] != turns[3]:
        return True
    return any(
        turn == 0 and _between(p, q, r)
        for turn, p, q, r in zip(turns, (a, a, c, c), (b, b, d, d), (c, d, a, b), strict=True)
    )


def _circle(text: str) -> Iterator[str]:
    centre, _, radius = text.partition(" ")
    point, reach = _point(centre), _number(radius) if radius else None
    if point is None or reach is None or radius.startswith("-"):
        yield "CAP-CIRCLE-FORM"
    elif outside := _outside([point]):
        yield outside
    elif reach > 20_000:
        yield "CAP-CIRCLE-RANGE"
