"""What is right and wrong in the values of an alert: pure functions from text to values, and verdicts over values that belong together.

A function that reads text returns the value or a `Fault`; one that judges yields faults. Neither knows of XML, files or clocks: which document and
which line a fault is in, is the reader's business (parse.py).
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, auto
from functools import lru_cache
from operator import eq
from typing import Final

import numpy as np
import numpy.typing as npt
import orjson
import shapely

from lalert.geo import judged_ring, repaired_rings, ring_problem
from lalert.geo.shapes import MAX_RADIUS_M
from lalert.model import UNKNOWN_INSTANT, Circle, MsgType, NamedValue, Reference, Ring, Scope, Status

SPACE: Final = " \t\r\n"
"""White space of XML 1.0, 2.3. The ideographic space begins Japanese paragraphs and is text."""

MAX_HEADLINE: Final = 160
MAX_EVENT: Final = 35
MAX_AREA_DESC: Final = 50
HUGE_RADIUS_M: Final = 1_000_000.0
MAX_REFERENCES: Final = 1_000
MAX_ITEMS: Final = 10_000
MAX_SIGNATURES: Final = 10
MAX_POINTS: Final = 48_000

_SHOWN = 60
_MANY_POINTS = (
    1_000  # to look twice at a tangled ring of more would cost more than looking once at a sound one saves
)
_MAX_REMEMBERED = 4_096
_MAX_ODD_TEXT = 100_000  # as much is read a second time, when it is not written as it should be


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule that is broken: `at` names the child element concerned ("" for the element itself), `n` which of several (from 0).

    `value` is what the faulty text says if only one reading of it is possible, () if it says nothing at all, None if there is no telling;
    of a ring that encloses nobody, `NOBODY`.
    """

    rule: str
    at: str = ""
    n: int = 0
    args: Mapping[str, str] = field(default_factory=dict)
    value: object = field(default=None, compare=False)


NOBODY: Final = "nobody"
"""The value of the fault of a ring in which nobody can be."""


def fault(rule: str, at: str = "", /, **args: str) -> Fault:
    """Return a fault; `args` fill the messages of the rule."""
    return Fault(rule, at, 0, args)


def shown(text: str) -> str:
    """Return what a sender wrote as it may stand in a message: quoted, on one line, cut short, control characters spelled out."""
    cut = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return f'"{printable(cut)}"'


def printable(text: str) -> str:
    """Return a text on one line with its control characters spelled out: messages go to terminals and logs."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _spelled(c) for c in text)


def _spelled(character: str) -> str:
    return " " if character in SPACE else f"U+{ord(character):04X}"


def no_value(name: str, text: str, allowed: Collection[str], known: Collection[str]) -> Fault:
    """Return the fault of a text that is none of an element's values; the standard wants exact capitals and no spaces.

    Its value is the one that is meant, among those `allowed` or those `known` to another version.
    """
    bare = "".join(text.split()).lower()
    meant = next((value for value in allowed if value.replace(" ", "").lower() == bare), None)
    hint, hint_ja = (f": did you mean {meant}?", f"。{meant}ではありませんか") if meant else ("", "")
    args = {
        "name": name,
        "text": shown(text),
        "hint": hint,
        "hint_ja": hint_ja,
        "values": ", ".join(sorted(allowed)),
    }
    value = meant or next((value for value in known if value.replace(" ", "").lower() == bare), None)
    return Fault("CAP-VALUE", "", 0, args, value)


# Times


_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[-+][0-9]{2}:[0-9]{2}")
_MAX_TIME = 80
_ALMOST_TIME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?P<fraction>\.[0-9]+)?"
    r"(?P<offset>[Zz]|[-+][0-9]{2}:?[0-9]{2})?"
)


def instant(text: str) -> datetime | Fault:
    """Read a time of CAP 1.2, 3.3.2; aware, in the sender's own offset. 24:00:00 is the next midnight, as in XML Schema.

    The fault of another form has the time for its value where it names one beyond doubt: with fractions (which are dropped), with Z, or
    without the colon in the offset, but never without an offset.
    """
    if _TIME.fullmatch(text) is None:
        almost = _ALMOST_TIME.fullmatch(text) if len(text) <= _MAX_TIME else None
        args = {"text": shown(text), **_time_hint(almost)}
        return Fault("CAP-TIME-FORM", "", 0, args, _surely(almost) if text else ())
    try:
        if text[11:19] == "24:00:00":
            read = datetime.fromisoformat(f"{text[:11]}00:00:00{text[19:]}") + timedelta(days=1)
        else:
            read = datetime.fromisoformat(text)
        if text[20:] > "14:00" or text[23] > "5":
            raise ValueError
        if not 1 < read.year < 9999:
            read.astimezone(UTC)  # the first and the last hours of the calendar have no UTC
    except (ValueError, OverflowError):
        return fault("CAP-TIME-VALUE", text=shown(text))
    return read


def written(time: datetime) -> str:
    """Return a time as CAP 1.2, 3.3.2 writes it: whole seconds, no Z, UTC as -00:00."""
    text = time.replace(microsecond=0).isoformat()
    return f"{text[:-6]}-00:00" if text.endswith("+00:00") else text


def _surely(almost: re.Match[str] | None) -> datetime | None:
    if almost is None or almost["offset"] is None:
        return None
    offset = "-00:00" if almost["offset"] in "Zz" else f"{almost['offset'][:3]}:{almost['offset'][-2:]}"
    read = instant(f"{almost['day']}T{almost['time']}{offset}")
    return None if isinstance(read, Fault) else read


def _time_hint(almost: re.Match[str] | None) -> dict[str, str]:
    if almost is None:
        return {"hint": "", "hint_ja": ""}
    if almost["fraction"]:
        return {"hint": ": fractions of a second are not allowed", "hint_ja": "。秒の小数は使えません"}
    if almost["offset"] is None:
        return {"hint": ": the offset from UTC is missing", "hint_ja": "。UTCとの時差がありません"}
    if almost["offset"] in "Zz":
        return {"hint": ": Z is not allowed, write -00:00", "hint_ja": "。Zではなく-00:00と書きます"}
    if ":" in almost["offset"]:
        return {"hint": ": the day and the time are joined by T", "hint_ja": "。日付と時刻の間はTです"}
    return {"hint": ": the offset needs a colon", "hint_ja": "。時差にはコロンが必要です"}


# Geometry


_NUMBER = r"[-+]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)"
_POINTS = re.compile(rf"{_NUMBER},{_NUMBER}(?:[ \t\r\n]++{_NUMBER},{_NUMBER})*+")
_SPACES = re.compile(r"[ \t\r\n]+")
_CIRCLE = re.compile(rf"({_NUMBER}),({_NUMBER}) ({_NUMBER})")
_NOT_A_POINT = re.compile(rf"(?<![^ \t\r\n])(?!{_NUMBER},{_NUMBER}(?:[ \t\r\n]|\Z))[^ \t\r\n]+")
_DECIMAL = re.compile(_NUMBER)


class Mending(Enum):
    """What is done for a ring with a fault, by what it may cost."""

    CLOSELY = auto()
    """Of a ring that crosses itself, all that it encloses is found, which may take some milliseconds."""
    ROUGHLY = auto()
    """Such a ring becomes its convex hull."""
    HARDLY = auto()
    """Such a ring is left; one that is only open is closed."""


def ring(text: str, *, mend: Mending = Mending.CLOSELY) -> Ring | Fault:
    """Read a polygon of CAP 1.2, 3.2.4: `lat,lon lat,lon ...`; returns its points as (lon, lat).

    The fault of a ring that is open or crosses itself has for its value rings which hold everybody whom its border encloses; that of
    points which are only written oddly, the ring that they are; that of an empty text, (). `mend` says what that may cost.
    """
    sound = _remembered(text) if len(text) <= _MAX_REMEMBERED else _plain_ring(text)
    if sound is not None:
        return sound
    text = text.strip(SPACE)
    commas = text.count(",")
    if commas > MAX_POINTS:
        return _too_many("polygon", commas, MAX_POINTS)
    numbers = _plain_numbers(text)
    if numbers is None:
        if _POINTS.fullmatch(text) is None:
            return _unreadable_ring(text, mend=mend)
        numbers = [float(number) for number in ",".join(text.split()).split(",")]
    points = tuple(zip(numbers[1::2], numbers[::2], strict=True))
    flat = _flat(numbers)[:, ::-1]
    rings: tuple[Ring, ...] = ()
    if mend is Mending.HARDLY:
        problem = ring_problem(flat)
    else:
        problem, rings = judged_ring(flat, closely=mend is Mending.CLOSELY)
    if problem == "self-intersecting":
        return Fault("CAP-POLYGON-CROSSING", "", 0, {}, rings or None)
    return points if problem is None else _ring_fault(problem, points, text, mend=mend)


def _plain_ring(text: str) -> Ring | None:
    """Return a polygon in its usual form and beyond doubt, as nearly all are; None for one that needs a closer look."""
    # Counted first: the numbers of a long border would be read twice.
    numbers = _plain_numbers(text) if 4 <= text.count(",") <= _MANY_POINTS else None
    if numbers is None or numbers[:2] != numbers[-2:]:
        return None
    return tuple(zip(numbers[1::2], numbers[::2], strict=True)) if _plainly_sound(_flat(numbers)) else None


_remembered = lru_cache(maxsize=1_024)(_plain_ring)
"""One incident's messages, and one town's, draw the same areas again and again. At most 4 MB of texts and 25 MB of numbers."""


def _flat(numbers: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the points (lat, lon) as an array; packing is quicker than `np.array`, which looks at the type of each number."""
    return np.frombuffer(struct.pack(f"{len(numbers)}d", *numbers)).reshape(-1, 2)


_WITHOUT_DIGITS = str.maketrans("", "", "0123456789-")


def _plain_numbers(text: str) -> list[float] | None:
    """Return the numbers of a polygon in its usual form, decimals with one space between the points; None for any other.

    Taking the digits away shows the form at once. What is left to judge, whether there are digits on both sides of every
    decimal point and a minus sign only in front, JSON judges just as CAP does.
    """
    points = text.count(",")
    if not points or text.translate(_WITHOUT_DIGITS) != (".,. " * points)[:-1]:
        return None
    try:
        numbers: list[float] = orjson.loads(f"[{text.replace(' ', ',')}]")
    except orjson.JSONDecodeError:
        return None
    return numbers


def _plainly_sound(points: npt.NDArray[np.float64]) -> bool:
    """Say whether a closed ring of (lat, lon) is beyond doubt: `ring_problem` says the same of it at three times the cost.

    That a ring does not cross itself is as true with latitude first. What comes near the antimeridian or a pole is not plain.
    """
    line = shapely.linearrings(points)
    south, west, north, east = shapely.bounds(line).tolist()
    plain = -90 < south < north < 90 and -180 < west < east < 180 and east - west < 180
    return plain and bool(shapely.is_simple(line))


_ALMOST_POINTS = re.compile(
    rf"{_NUMBER}[ \t\r\n]*+,[ \t\r\n]*+{_NUMBER}(?:[ \t\r\n;]++{_NUMBER}[ \t\r\n]*+,[ \t\r\n]*+{_NUMBER})*+[ \t\r\n;]*+"
)
_NUMBERS = re.compile(rf"{_NUMBER}(?:[ \t\r\n,;]++{_NUMBER})*+[ \t\r\n,;]*+")
_FLOAT = re.compile(_NUMBER)


def _unreadable_ring(text: str, *, mend: Mending) -> Fault:
    found = _NOT_A_POINT.search(text)
    args = {"text": shown(found[0] if found else text)}
    return Fault(
        "CAP-POLYGON-FORM", "", 0, args, _oddly_written(text, mend) if mend is not Mending.HARDLY else None
    )


def _oddly_written(text: str, mend: Mending) -> tuple[Ring, ...] | str | None:
    """Return the ring of numbers with other separators than CAP's, if its first point is its last or its pairs are clear; () of an empty text."""
    if not text:
        return ()
    if len(text) > _MAX_ODD_TEXT or _NUMBERS.fullmatch(text) is None:
        return None
    numbers = [float(number) for number in _FLOAT.findall(text)]
    if len(numbers) % 2:
        return None
    points = tuple(zip(numbers[1::2], numbers[::2], strict=True))
    problem, rings = judged_ring(points, closely=mend is Mending.CLOSELY)
    if problem is None:
        return (points,)
    if problem == "not-closed" and _ALMOST_POINTS.fullmatch(text):
        return _closed(points, text, mend=mend)
    return rings or None


def _ring_fault(problem: str, points: Ring, text: str, *, mend: Mending) -> Fault:
    words = text.split()
    if problem in {"out-of-range", "not-finite"}:
        bad = next(n for n, point in enumerate(points) if not _on_earth(*point))
        return _point_fault(points[bad], words[bad])
    if problem == "too-few-points":
        count = {"count": str(len(points))}
        return Fault("CAP-POLYGON-POINTS", "", 0, count, _closed(points, text, mend=mend))
    if problem == "not-closed":
        args = {"first": shown(words[0]), "last": shown(words[-1])}
        return Fault("CAP-POLYGON-OPEN", "", 0, args, _closed(points, text, mend=mend))
    return Fault("CAP-POLYGON-FLAT", "", 0, {}, NOBODY)


def _closed(points: Ring, text: str, *, mend: Mending) -> tuple[Ring, ...] | str | None:
    """Return rings that hold everybody inside of points which do not close, `NOBODY` where nobody can be, None where there is no telling."""
    if _perhaps_decimal_commas(points, text):
        return None
    closed = (*points, points[0])
    problem = ring_problem(closed)
    if problem is None:
        return (closed,)
    if problem != "self-intersecting":
        return NOBODY
    if mend is Mending.HARDLY:
        return None
    return repaired_rings(points, closely=mend is Mending.CLOSELY) or NOBODY


def _perhaps_decimal_commas(points: Ring, text: str) -> bool:
    """Say whether points in whole degrees may be half as many with commas for decimal points: `50,5 10,5` is then one place, not two.

    Written so, no ring looks closed, and one of three corners has six numbers at least.
    """
    return "." not in text and len(points) >= 6 and len(points) % 2 == 0


def _on_earth(lon: float, lat: float) -> bool:
    return -90 <= lat <= 90 and -180 <= lon <= 180


def _point_fault(point: tuple[float, float], text: str) -> Fault:
    lon, lat = point
    return fault("CAP-POINT-SWAPPED" if _on_earth(lat, lon) else "CAP-POINT-RANGE", text=shown(text))


def circle(text: str, *, old: bool = False) -> Circle | Fault:
    """Read a circle of CAP 1.2, 3.2.4: `lat,lon radius`, the radius in kilometres; returns metres.

    One space stands between the two; in an `old` one, of CAP 1.0, whose schema has a list there, any white space.
    """
    text = text.strip(SPACE)
    if old:
        text = _SPACES.sub(" ", text)
    match = _CIRCLE.fullmatch(text)
    if match is None or match[3].startswith("-"):
        return Fault("CAP-CIRCLE-FORM", "", 0, {"text": shown(text)}, _oddly_written_circle(text))
    lat, lon = float(match[1]), float(match[2])
    if not _on_earth(lon, lat):
        return _point_fault((lon, lat), f"{match[1]},{match[2]}")
    # In decimals, because 0.1 km times 1000 is not 100 m for floats, and what was rendered must read the same.
    radius_m = float(Decimal(match[3]).scaleb(3))
    if radius_m > MAX_RADIUS_M:
        return fault("CAP-CIRCLE-RANGE", text=shown(match[3]))
    return Circle(lon, lat, radius_m)


_ALMOST_CIRCLE = re.compile(
    rf"({_NUMBER})[ \t\r\n]*+,[ \t\r\n]*+({_NUMBER})[ \t\r\n,;]++({_NUMBER})(?:[ \t]*+km)?+", re.IGNORECASE
)


def _oddly_written_circle(text: str) -> Circle | tuple[()] | None:
    """Return the circle of three numbers with other separators than CAP's, () of an empty text."""
    if not text:
        return ()
    match = _ALMOST_CIRCLE.fullmatch(text) if len(text) <= _MAX_ODD_TEXT else None
    if match is None or match[3].startswith("-"):
        return None
    read = circle(f"{match[1]},{match[2]} {match[3]}")
    return None if isinstance(read, Fault) else read


def judge_circle(read: Circle) -> Sequence[Fault]:
    """Remark on a circle that is hardly meant: of no size, or of a thousand kilometres."""
    if read.radius_m == 0:
        return [fault("CAP-CIRCLE-POINT")]
    if read.radius_m > HUGE_RADIUS_M:
        return [fault("CAP-CIRCLE-HUGE", text=f"{read.radius_m / 1000:g}")]
    return ()


def height(text: str) -> float | Fault:
    """Read an altitude or ceiling of CAP 1.2, 3.2.4: feet above mean sea level, negative below it."""
    text = text.strip(SPACE)
    if _DECIMAL.fullmatch(text) is None or not math.isfinite(float(text)):
        return fault("CAP-HEIGHT-FORM", text=shown(text))
    return float(text)


def judge_heights(
    altitude: float | None, ceiling: float | None, *, altitude_written: bool
) -> Sequence[Fault]:
    """CAP 1.2, 3.2.4 <ceiling>: never without an altitude, and the altitude is the lower limit."""
    if ceiling is None:
        return ()
    if not altitude_written:
        return [fault("CAP-CEILING-ALONE", "ceiling")]
    if altitude is not None and ceiling < altitude:
        return [fault("CAP-CEILING-BELOW", "ceiling")]
    return ()


def judge_area(area_desc: str | None, *, placed: bool) -> Sequence[Fault]:
    """Say whether machines can tell where the area is, and whether people can take in its name."""
    found = [] if placed else [fault("CAP-AREA-PLACE")]
    if area_desc is not None and len(area_desc) > MAX_AREA_DESC:
        found.append(_too_long("areaDesc", area_desc, MAX_AREA_DESC))
    return found


# The head of an alert


_NOT_IN_A_NAME = re.compile(r"[\s,<&]")


def judge_name(at: str, text: str) -> Sequence[Fault]:
    """CAP 1.2, 3.2.1 <identifier> and <sender>: no spaces, commas, < or &, because <references> takes them apart again."""
    found = _NOT_IN_A_NAME.search(text)
    return [fault("CAP-NAME", at, name=at, text=shown(found[0]))] if found else ()


_LIST_ITEM = re.compile(r'[ \t\r\n]*+(?:"([^"]*+)"|([^" \t\r\n]++))(?=[ \t\r\n]|\Z)')


def items(text: str, name: str) -> tuple[str, ...] | Fault:
    """Read <addresses> or <incidents> (CAP 1.2, 3.2.1): white space between the items, quotation marks round those that have some."""
    text = text.rstrip(SPACE)
    count = len(text.split())
    if count > MAX_ITEMS:
        return _too_many(name, count, MAX_ITEMS)
    found: list[str] = []
    end = 0
    while end < len(text):
        match = _LIST_ITEM.match(text, end)
        if match is None:
            return fault("CAP-LIST-QUOTE", name=name)
        found.append(match[1] if match[2] is None else match[2])
        end = match.end()
    return tuple(item for item in found if item)


def _too_many(name: str, count: int, limit: int) -> Fault:
    return fault("CAP-LIMIT", name=name, count=str(count), limit=str(limit))


def judge_scope(
    scope: Scope | None, *, restriction: str | None, addresses: Sequence[str] | None
) -> Sequence[Fault]:
    """CAP 1.2, 3.2.1: Private needs addresses, Restricted a restriction, and nothing else has one; who may read must be beyond doubt."""
    found = []
    if scope is Scope.PRIVATE and not addresses:
        found.append(fault("CAP-ADDRESSES-MISSING", "addresses"))
    if scope is Scope.RESTRICTED and not restriction:
        found.append(fault("CAP-RESTRICTION-MISSING", "restriction"))
    if restriction and scope in (Scope.PUBLIC, Scope.PRIVATE):
        found.append(fault("CAP-RESTRICTION-UNEXPECTED", "restriction", scope=scope))
    return found


def judge_note(status: Status | None, msg_type: MsgType | None) -> Sequence[Fault]:
    """CAP 1.2, 3.2.1: what a message without <note> should have said in it, an Exercise which one it is, an Error what was wrong."""
    found = []
    if status is Status.EXERCISE:
        which = {"what": "status Exercise", "about": "which exercise it belongs to"}
        found.append(fault("CAP-NOTE-MISSING", **which, what_ja="訓練(Exercise)", about_ja="どの訓練か"))
    if msg_type is MsgType.ERROR:
        why = {"what": "msgType Error", "about": "what was wrong"}
        found.append(fault("CAP-NOTE-MISSING", **why, what_ja="エラー(Error)", about_ja="誤りの内容"))
    return found


# References


def references(text: str, version: str) -> tuple[list[Reference], list[Fault]]:
    """Read <references>: triples `sender,identifier,sent` apart by white space; in CAP 1.0 `identifier/sender`.

    Among the references are those that can be meant by a faulty word; the faults have them for their values.
    """
    words = text.split()
    if len(words) > MAX_REFERENCES:
        return [], [_too_many("references", len(words), MAX_REFERENCES)]
    read = _old_reference if version == "1.0" else _reference
    found: list[Reference] = []
    faults: list[Fault] = []
    for word in words:
        reference: object = read(word)
        if isinstance(reference, Fault):
            faults.append(reference)
            reference = reference.value
        if isinstance(reference, Reference):
            found.append(reference)
    if not words:
        faults.append(_no_reference("", ": it is empty", "。空です", ()))
    return found, faults


def _reference(word: str) -> Reference | Fault:
    parts = word.split(",")
    if len(parts) != 3 or not all(parts):
        hint, hint_ja = _reference_hint(word, parts)
        return _no_reference(word, hint, hint_ja)
    sender, identifier, sent = parts
    when = instant(sent)
    if isinstance(when, Fault):
        reason = when.args.get("hint", "")
        meant = when.value
        value = Reference(sender, identifier, written(meant), meant) if isinstance(meant, datetime) else None
        return _no_reference(
            word, f": {shown(sent)} is no time of CAP{reason}", "。日時の形式が違います", value
        )
    return Reference(sender, identifier, sent, when)


def _reference_hint(word: str, parts: Sequence[str]) -> tuple[str, str]:
    # The pattern of the standard's own schema, [-,+], lets a comma through where the sign of the offset belongs.
    if len(parts) == 4 and not isinstance(instant(f"{parts[2]}+{parts[3]}"), Fault):
        return ": the offset of the time has a comma for its sign", "。時差の符号がカンマになっています"
    if len(parts) == 1 and "/" in word:
        return ": that is the form of CAP 1.0", "。CAP 1.0の形式です"
    return ": it is not sender,identifier,sent", "。発信者、識別子、日時をカンマで区切って書きます"


def _old_reference(word: str) -> Reference | Fault:
    identifier, slash, sender = word.partition("/")
    if not (identifier and slash and sender):
        triple = _reference(word)
        return _no_reference(word, "", "", triple if isinstance(triple, Reference) else None)
    return Reference(sender, identifier, "", UNKNOWN_INSTANT)


def _no_reference(word: str, hint: str, hint_ja: str, value: object = None) -> Fault:
    args = {"text": shown(word), "hint": hint, "hint_ja": hint_ja}
    return Fault("CAP-REFERENCES-FORM", "", 0, args, value)


def judge_references(
    found: Sequence[Reference], *, written: bool, msg_type: MsgType | None, me: Reference | None
) -> Sequence[Fault]:
    """CAP 1.2, 3.2.1: everything but an Alert refers to something, never to itself, and to nothing of the future.

    `me` is the alert's own triple, None where it could not be read. Messages are the same if sender, identifier and the
    instant of `sent` are: another sender may use the same identifier.
    """
    if msg_type not in (None, MsgType.ALERT) and not written:
        return [fault("CAP-REFERENCES-MISSING", msg_type=str(msg_type))]
    faults = []
    seen = set()
    for reference in found:
        triple = (reference.sender, reference.identifier, reference.instant)
        text = shown(f"{reference.sender},{reference.identifier},{reference.sent}".rstrip(","))
        if triple in seen:
            faults.append(fault("CAP-REFERENCES-DUPLICATE", "references", text=text))
        seen.add(triple)
        if me is None:
            continue
        if same(reference, me):
            faults.append(fault("CAP-REFERENCES-SELF", "references"))
        elif reference.instant > me.instant:
            faults.append(fault("CAP-REFERENCES-LATER", "references", text=text))
    return faults


def same(reference: Reference, me: Reference) -> bool:
    """Say whether two triples name one message; one that names no time stands for all of its sender and identifier."""
    names = (reference.sender, reference.identifier) == (me.sender, me.identifier)
    return names and reference.instant in (me.instant, UNKNOWN_INSTANT)


# Infos


def event_instead(texts: Mapping[str, str]) -> str:
    """Return what stands for a missing event: what the info says first."""
    said = texts.get("headline") or texts.get("description") or texts.get("instruction") or "?"
    return said if len(said) <= MAX_EVENT else said[: MAX_EVENT - 1] + "…"


def judge_times(
    sent: datetime | None, effective: datetime | None, onset: datetime | None, expires: datetime | None
) -> Sequence[Fault]:
    """Judge the order of an info's times. The standard leaves it to reason: an end before its beginning has none.

    `effective` and `expires` are of the information, `onset` is of the event (CAP 1.2, 3.2.2): a watch may have to be renewed long before what it warns
    of begins. An alert may have been effective before it was sent (many systems write the time of the observation), and agencies do
    end an alert by letting an Update expire at once. All three are remarked on at most, not refused.
    """
    found = []
    # Nearly always so, and each comparison of times with offsets costs as much as a look-up in ten tables.
    if effective is None and expires and sent and expires > sent and (onset is None or expires > onset):
        return ()
    if effective and sent and effective < sent:
        found.append(fault("CAP-EFFECTIVE-EARLY", "effective"))
    if expires is None:
        return found
    early = [
        fault("CAP-EXPIRES-BEFORE", "expires", other=other)
        for other, start in (("sent", sent), ("effective", effective))
        if start and expires < start
    ]
    if not early and expires == sent:
        found.append(fault("CAP-EXPIRES-AT-ONCE", "expires", other="sent"))
    if not early and onset and expires < onset:
        found.append(fault("CAP-EXPIRES-ONSET", "expires"))
    return found + early


_RECOMMENDED_1_0 = ("senderName", "description", "instruction", "contact")
_RECOMMENDED = dict.fromkeys(("1.1", "1.2"), ("responseType", *_RECOMMENDED_1_0)) | {"1.0": _RECOMMENDED_1_0}


def judge_info(texts: Mapping[str, str], version: str) -> Sequence[Fault]:
    """Advise on what people need to understand and to act; `texts` are the info's elements by name, empty ones too."""
    found = [] if "expires" in texts else [fault("CAP-EXPIRES-MISSING")]
    recommended = _RECOMMENDED[version]
    if not all(map(texts.get, recommended)):
        found += [fault("CAP-RECOMMENDED", name=name) for name in recommended if not texts.get(name)]
    event, headline = texts.get("event", ""), texts.get("headline", "")
    description, instruction = texts.get("description", ""), texts.get("instruction", "")
    if len(headline) > MAX_HEADLINE:
        found.append(_too_long("headline", headline, MAX_HEADLINE))
    if len(event) > MAX_EVENT:
        found.append(_too_long("event", event, MAX_EVENT))
    if description and description == headline:
        found.append(fault("CAP-TEXT-REPEATED", "description", name="headline", other="description"))
    if description and description == instruction:
        found.append(fault("CAP-TEXT-REPEATED", "instruction", name="description", other="instruction"))
    return found


def _too_long(at: str, text: str, limit: int) -> Fault:
    return fault("CAP-TEXT-LENGTH", at, name=at, length=str(len(text)), limit=str(limit))


USUAL_LANGUAGES: Final = frozenset({"ja", "en", "ja-JP", "en-US"})
"""Languages that `judge_language` has nothing to say of."""

_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*+")
# ISO 639-1: the second letters by the first, because 184 codes in a column are hard to proof-read.
_ISO_639_1 = {
    "a": "abefkmnrsvyz",
    "b": "aeghimnors",
    "c": "aehorsuvy",
    "d": "aevz",
    "e": "elnostu",
    "f": "afijory",
    "g": "adlnuv",
    "h": "aeiortuyz",
    "i": "adegikostu",
    "j": "av",
    "k": "agijklmnorsuvwy",
    "l": "abginotuv",
    "m": "ghiklnrsty",
    "n": "abdeglnorvy",
    "o": "cjmrs",
    "p": "ailst",
    "q": "u",
    "r": "mnouw",
    "s": "acdeghiklmnoqrstuvw",
    "t": "aeghiklnorstwy",
    "u": "gkrz",
    "v": "eio",
    "w": "ao",
    "x": "h",
    "y": "io",
    "z": "ahu",
}
_MISTAKEN_LANGUAGES = {"jp": "ja", "cn": "zh", "gr": "el", "cz": "cs", "dk": "da", "ua": "uk"}


def judge_language(text: str) -> Sequence[Fault]:
    """RFC 3066, 2.3: the shape is an error; a code that is none (jp is a country) a warning, for somebody can still read the text."""
    if _LANGUAGE.fullmatch(text) is None:
        return [fault("CAP-LANGUAGE-FORM", "language", text=shown(text))]
    primary = text.partition("-")[0].lower()
    if len(primary) == 2 and primary[1] in _ISO_639_1.get(primary[0], ""):
        return ()
    if len(primary) == 3 or primary in {"i", "x"}:
        return ()
    meant = _MISTAKEN_LANGUAGES.get(primary)
    hint, hint_ja = (f": did you mean {meant}?", f"。{meant}ではありませんか") if meant else ("", "")
    return [fault("CAP-LANGUAGE-CODE", "language", text=shown(text), hint=hint, hint_ja=hint_ja)]


_TRANSLATED = ("event", "headline", "description", "instruction")


def repeated(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Say whether a text that should be translated is the same, or missing, in both of two infos."""
    return any(map(eq, map(one.get, _TRANSLATED), map(other.get, _TRANSLATED)))


def judge_translations(infos: Sequence[tuple[str, Mapping[str, str]]]) -> Sequence[tuple[int, Fault]]:
    """Find texts that stand unchanged in infos of different languages; returns each info's number (from 0) with its fault.

    Each info is its language and its texts. en-US and en-GB are one language here.
    """
    found: list[tuple[int, Fault]] = []
    for name in _TRANSLATED:
        said = [fields.get(name) for _, fields in infos]
        if len(set(said)) < len(said):
            found += _untranslated(name, said, infos)
    return found


def _untranslated(
    name: str, said: Sequence[str | None], infos: Sequence[tuple[str, Mapping[str, str]]]
) -> Sequence[tuple[int, Fault]]:
    found = []
    first: dict[str, str] = {}
    for n, text in enumerate(said):
        language = infos[n][0].partition("-")[0].lower()
        if text and first.setdefault(text, language) != language:
            args = {
                "name": name,
                "language": printable(language[:_SHOWN]),
                "other": printable(first[text][:_SHOWN]),
            }
            found.append((n, fault("CAP-LANGUAGE-SAME", name, **args)))
    return found


def judge_categories(categories: Sequence[str]) -> Sequence[Fault]:
    """Find categories that are given twice."""
    last = {category: n for n, category in enumerate(categories)}
    return [
        Fault("CAP-CATEGORY-DUPLICATE", "category", n, {"text": category})
        for category, n in last.items()
        if category in categories[:n]
    ]


def pair(text: str) -> NamedValue | Fault:
    """Read CAP 1.0's `name=value`."""
    name, equals, value = text.partition("=")
    if not (equals and name.strip(SPACE)):
        return fault("CAP-PAIR-FORM", text=shown(text))
    return NamedValue(name.strip(SPACE), value.strip(SPACE))


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
# No white space, control character, angle bracket or quotation mark; every % begins a code of two digits.
_REST = r"(?:[^\x00-\x20\x7f<>\"%#]|%[0-9A-Fa-f]{2})*+"
_LINK = re.compile(
    rf"(?:https?|(ftps?))://(?:[^\x00-\x20\x7f<>\"/?#@]*@)?(?:\[[0-9a-f:.]+\]|[^\x00-\x20\x7f<>\"%/?#@:\[\]]+)(?::[0-9]{{1,5}})?"
    rf"(?:[/?]{_REST})?(?:#{_REST})?",
    re.IGNORECASE,
)
# RFC 3986, 4.2: a colon in the first segment would make a scheme of what stands before it.
_RELATIVE = re.compile(rf"(?![^/?#]*:){_REST}(?:#{_REST})?")


def judge_web(text: str) -> Sequence[Fault]:
    """CAP 1.2, 3.2.2 <web>: a full absolute URI; people click on it, so http and https only (javascript: and file: are attacks)."""
    match = _LINK.fullmatch(text)
    return () if match and not match[1] else [fault("CAP-WEB", "web", text=shown(text))]


# Resources


_MEDIA_TYPES = "application|audio|example|font|haptics|image|message|model|multipart|text|video"
_MIME = re.compile(rf"(?:{_MEDIA_TYPES})/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*(?:[ \t]*;.*)?", re.IGNORECASE)
_INTEGER = re.compile(r"\+?[0-9]{1,18}|-0+")
_SHA1 = re.compile(r"[0-9A-Fa-f]{40}")


def judge_mime_type(text: str) -> Sequence[Fault]:
    """CAP 1.2, 3.2.3 <mimeType>: a registered top-level type with a subtype."""
    return () if _MIME.fullmatch(text) else [fault("CAP-MIME", "mimeType", text=shown(text))]


def size(text: str) -> int | Fault:
    """Read the size of a resource in bytes."""
    text = text.strip(SPACE)
    return int(text) if _INTEGER.fullmatch(text) else fault("CAP-SIZE", text=shown(text))


def judge_resource(
    *, uri: str | None, deref_uri: str | None, size: int | None, digest: str | None
) -> Sequence[Fault]:
    """Judge where the file is, and whether what is embedded is what size and digest say."""
    found = []
    if uri is not None and not _acceptable_uri(uri, embedded=deref_uri is not None):
        found.append(fault("CAP-URI", "uri", text=shown(uri)))
    if uri is None and deref_uri is None:
        found.append(fault("CAP-URI-MISSING"))
    if digest is not None and _SHA1.fullmatch(digest) is None:
        found.append(fault("CAP-DIGEST", "digest", text=shown(digest)))
        digest = None
    if deref_uri is not None:
        found += _judge_content(deref_uri, size, digest)
    return found


def is_absolute(uri: str) -> bool:
    """Say whether a URI says by itself where something is (RFC 3986, 4.3)."""
    return _SCHEME.match(uri) is not None


def _acceptable_uri(text: str, *, embedded: bool) -> bool:
    if is_absolute(text):
        return _LINK.fullmatch(text) is not None
    return embedded and _RELATIVE.fullmatch(text) is not None


def _judge_content(deref_uri: str, size: int | None, digest: str | None) -> Sequence[Fault]:
    try:
        content = base64.b64decode("".join(deref_uri.split()), validate=True)
    except ValueError:
        return [fault("CAP-DEREF", "derefUri")]
    found = []
    if size is not None and size != len(content):
        found.append(fault("CAP-SIZE-WRONG", "size", text=str(size), actual=str(len(content))))
    # SHA-1 because the standard says so; it shows what got lost on the way, not who wrote it.
    if digest is not None and digest.lower() != hashlib.sha1(content, usedforsecurity=False).hexdigest():
        found.append(fault("CAP-DIGEST-WRONG", "digest"))
    return found


# Texts


_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9]*+(?:[ \t\r\n][^<>]*+)?/?>|<!--")
_CONTROL = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def has_control(text: str) -> bool:
    """Say whether there is a control character in a text, other than the white space of XML."""
    return _CONTROL.search(text) is not None


def judge_text(at: str, text: str) -> Sequence[Fault]:
    """CAP 1.2, 3.3.3: HTML has no meaning in CAP. Bidirectional overrides and control characters can make a text read as another."""
    found = (
        ("CAP-TEXT-ENTITY", _ENTITY.search(text) if "&" in text else None),
        ("CAP-TEXT-TAG", _TAG.search(text) if "<" in text else None),
        ("CAP-TEXT-CONTROL", None if text.isprintable() else _CONTROL.search(text)),
    )
    return [fault(rule, at, name=at, text=shown(match[0])) for rule, match in found if match]
