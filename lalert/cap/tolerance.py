"""What a tolerant policy forgives: for each broken rule what the hub makes of the place, or that no policy forgives it.

A real warning must not be lost over a typo, and nothing that people act on may be guessed. So what is readable is read, what explains is kept or left
out, and what decides (identity, status, msgType, scope, place and time) is forgiven only where a single reading is possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from lalert.cap.rules import Fault
from lalert.model import MsgType


class Repair(NamedTuple):
    """What was done with a faulty place so that the document could be accepted, in English and Japanese."""

    text: str
    text_ja: str


_IGNORED: Final = Repair("it was passed over", "読み飛ばして受け付けました")
_LEFT_OUT: Final = Repair("it was left out", "この項目を除いて受け付けました")
_AS_IT_STANDS: Final = Repair("it was read as it stands", "そのまま読み取りました")
_FIRST: Final = Repair("the first one counts", "最初のものを採りました")
_GRAVEST: Final = Repair("the gravest one counts", "最も重いものを採りました")
_TEXT_ALONE: Final = Repair(
    "its text was read without the elements in it", "中の要素を除き、文字だけを読み取りました"
)
_NOT_SHOWN: Final = Repair(
    "it is shown to the sender's own organisation alone", "発信者の組織だけに表示します"
)
_UNKNOWN: Final = Repair("Unknown stands for it", "Unknownとして扱います")
_NO_CATEGORY: Final = Repair(
    "the alert passes every filter by category", "categoryによる絞り込みでは除外されません"
)
_EVENT: Final = Repair("the headline stands for it", "見出しで補いました")
_EMPTY: Final = Repair("it stays empty", "空のまま受け付けました")
_SUPERSET: Final = Repair(
    "an area that holds everybody whom the border encloses was taken",
    "境界で囲まれた全員が入る区域に広げました",
)
_CLOSED: Final = Repair("the ring was closed", "始点に戻る線を補って閉じました")
_NO_END: Final = Repair(
    "the end was left out: the alert holds until it is cancelled or replaced",
    "終了時刻を除きました。取消または更新まで有効です",
)
_NEW: Final = Repair(
    "it is told beside the earlier ones, which it does not replace", "以前の情報は置き換えず、並べて伝えます"
)
_READ: Final = Repair(
    "it was read as what can be meant by it alone", "ほかに読みようがないため、そのとおり読み取りました"
)
_UNDETERMINED: Final = Repair("the language und (undetermined) stands for it", "言語不明(und)として扱います")

_ALWAYS: Final[Mapping[str, Repair]] = {
    "CAP-ADDRESSES-MISSING": _NOT_SHOWN,
    "CAP-CEILING-ALONE": _LEFT_OUT,
    "CAP-CEILING-BELOW": _LEFT_OUT,
    "CAP-DEREF": _LEFT_OUT,
    "CAP-DIGEST": _LEFT_OUT,
    "CAP-ELEMENT-ORDER": _AS_IT_STANDS,
    "CAP-EXPIRES-BEFORE": _NO_END,
    "CAP-HEIGHT-FORM": _LEFT_OUT,
    "CAP-LANGUAGE-FORM": _UNDETERMINED,
    "CAP-LIST-QUOTE": _LEFT_OUT,
    "CAP-MIME": _LEFT_OUT,
    # A space or comma in a name makes it hard to refer to, not hard to tell from others.
    "CAP-NAME": _AS_IT_STANDS,
    "CAP-RESTRICTION-MISSING": _NOT_SHOWN,
    "CAP-SCHEMA": _AS_IT_STANDS,
    "CAP-SIZE": _LEFT_OUT,
    "CAP-URI": _LEFT_OUT,
    "CAP-WEB": _LEFT_OUT,
}

_TEXTS: Final = frozenset(
    {
        *("source", "note", "event", "audience", "senderName", "headline", "description", "instruction"),
        *("web", "contact", "resourceDesc", "areaDesc"),
    }
)
"""What explains: where it stands twice the first one counts, and an element in it is passed over."""

GRADES: Final[Mapping[str, tuple[str, ...]]] = {
    "urgency": ("Immediate", "Expected", "Future", "Past", "Unknown"),
    "severity": ("Extreme", "Severe", "Moderate", "Minor", "Unknown"),
    "certainty": ("Observed", "Very Likely", "Likely", "Possible", "Unlikely", "Unknown"),
}
"""The values of what has grades, gravest first."""

IDLE: Final = "idle"
"""The value of a fault about an element out of place that decides nothing, nor anything in it."""

DECIDING: Final = frozenset(
    {
        *(
            "identifier",
            "sender",
            "sent",
            "status",
            "msgtype",
            "scope",
            "restriction",
            "addresses",
            "references",
        ),
        *("effective", "onset", "expires", "info", "area", "polygon", "circle", "geocode"),
    }
)
"""Elements (in lower case) that say who, where, when or whether it is real. Where nobody looks for one, what it says would be lost unseen."""

UNAMBIGUOUS: Final = frozenset({"status", "msgType", "scope"})
"""Elements that say one word and nothing beside it, not even in an attribute."""


def repair_of(found: Fault, name: str, container: str, msg_type: MsgType | None) -> Repair | None:
    """Return what is made of the place of a fault, None if no policy forgives it.

    `name` is the local name of the element that the fault is about and `container` that of the element around it.
    """
    rule = found.rule
    if rule in _ALWAYS:
        return _ALWAYS[rule]
    if rule in _BY_VALUE:
        if found.value is None:
            return None
        if found.value == ():
            return None if name == "sent" else _LEFT_OUT
        return _BY_VALUE[rule]
    if rule in {"CAP-ELEMENT-UNKNOWN", "CAP-ELEMENT-FOREIGN"}:
        return _IGNORED if found.value is IDLE and container != "area" else None
    if rule == "CAP-TEXT-STRAY":
        return None if name == "area" else _IGNORED
    if rule == "CAP-ELEMENT-NESTED":
        return _TEXT_ALONE if found.value is IDLE and name in _TEXTS else None
    if rule == "CAP-ELEMENT-DUPLICATE":
        return _duplicate(found, name)
    if rule in {"CAP-ELEMENT-MISSING", "CAP-TEXT-EMPTY"}:
        return _OF_A_PAIR.get(name) or _MISSING.get(found.args["name"])
    if rule == "CAP-PAIR-FORM":
        return _OF_A_PAIR.get(name)
    if rule == "CAP-VALUE":
        return _value(found, name)
    if rule == "CAP-REFERENCES-MISSING":
        # A real warning is told. A Cancel of nothing would leave its sender in the belief that something was cancelled.
        return _NEW if msg_type is MsgType.UPDATE else None
    if rule in {"CAP-REFERENCES-SELF", "CAP-REFERENCES-FORM"}:
        if found.value is not None and found.value != ():
            return _READ
        return _LEFT_OUT if msg_type in {MsgType.ALERT, MsgType.UPDATE} else None
    return None


# Forgiven where reading the faulty text came to one value, or to the certainty that it says nothing, which is (), or decides nothing.
_BY_VALUE: Final[Mapping[str, Repair]] = {
    "CAP-ATTRIBUTE": _IGNORED,
    "CAP-CIRCLE-FORM": _READ,
    "CAP-POLYGON-CROSSING": _SUPERSET,
    "CAP-POLYGON-FLAT": _LEFT_OUT,
    "CAP-POLYGON-FORM": _READ,
    "CAP-POLYGON-OPEN": _CLOSED,
    "CAP-POLYGON-POINTS": _CLOSED,
    "CAP-TIME-FORM": _READ,
}

# Half a geocode may be the half that says where.
_OF_A_PAIR: Final[Mapping[str, Repair]] = {"parameter": _LEFT_OUT, "eventCode": _LEFT_OUT}

_MISSING: Final[Mapping[str, Repair]] = {
    "category": _NO_CATEGORY,
    "event": _EVENT,
    "urgency": _UNKNOWN,
    "severity": _UNKNOWN,
    "certainty": _UNKNOWN,
    "areaDesc": _EMPTY,
    "resourceDesc": _EMPTY,
    "mimeType": _EMPTY,
}


TOLERABLE: Final = frozenset(
    {
        *_ALWAYS,
        *_BY_VALUE,
        *(
            "CAP-ELEMENT-DUPLICATE",
            "CAP-ELEMENT-FOREIGN",
            "CAP-ELEMENT-MISSING",
            "CAP-ELEMENT-NESTED",
            "CAP-ELEMENT-UNKNOWN",
        ),
        *("CAP-PAIR-FORM", "CAP-REFERENCES-FORM", "CAP-REFERENCES-MISSING", "CAP-REFERENCES-SELF"),
        *("CAP-TEXT-EMPTY", "CAP-TEXT-STRAY", "CAP-VALUE"),
    }
)
"""The rules of which a breach may be forgiven, everywhere or in some places."""


def _duplicate(found: Fault, name: str) -> Repair | None:
    if found.value == "same" or name in _TEXTS:
        return _FIRST
    return _GRAVEST if name in GRADES else None


def _value(found: Fault, name: str) -> Repair | None:
    if name in {"category", "responseType"}:
        return _READ if found.value else _LEFT_OUT
    if name in GRADES:
        return _READ if found.value else _UNKNOWN
    return None
