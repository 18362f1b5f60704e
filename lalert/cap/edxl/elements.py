"""The elements of EDXL-DE 1.0 as data, and how to get at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from lxml import etree

from lalert.cap.grammar import NAMESPACES
from lalert.cap.rules import SPACE
from lalert.cap.trees import content_of, name_of
from lalert.model import MsgType

NAMESPACE: Final = "urn:oasis:names:tc:emergency:EDXL:DE:1.0"
COMMONS: Final = "http://xml.publiccommons.ne.jp/xml/edxl/"
"""The extension of L-Alert: a targetArea of municipality codes, and a contentObject with more about the document."""

EDXL: Final = "EDXL-DE 1.0"
"""The name of what is read and written here."""
EDXL_TYPE: Final = "application/edxl+xml"
OPEN: Final = "UNCLASSIFIED AND NOT SENSITIVE"
"""The <combinedConfidentiality> of what everybody may see."""

TYPES: Final[Mapping[MsgType, str]] = {
    MsgType.ALERT: "Report",
    MsgType.UPDATE: "Update",
    MsgType.CANCEL: "Cancel",
    MsgType.ACK: "Ack",
    MsgType.ERROR: "Error",
}
"""The distributionType that goes with each msgType."""

STATUSES = ("Actual", "Exercise", "System", "Test")
ALL_TYPES = (
    *("Report", "Update", "Cancel", "Request", "Response", "Dispatch", "Ack", "Error"),
    *("SensorConfiguration", "SensorControl", "SensorStatus", "SensorDetection"),
)
ROOT = "EDXLDistribution"
ANY_VERSION = "urn:oasis:names:tc:emergency:EDXL:DE:"
XMLENC = "http://www.w3.org/2001/04/xmlenc#"
ALERTS: Final = tuple(f"{{{namespace}}}alert" for namespace in NAMESPACES)
"""The root elements of all versions of CAP."""

_VALUES = ("valueListUrn!", "value+")
CONTENTS: Final[Mapping[str, Sequence[str]]] = {
    # `!` for exactly one, `+` for one or more, `*` for any number, else at most one, in this order (EDXL-DE 1.0, 3.3).
    ROOT: (
        *("distributionID!", "senderID!", "dateTimeSent!", "distributionStatus!", "distributionType!"),
        *("combinedConfidentiality!", "language", "senderRole*", "recipientRole*", "keyword*"),
        *("distributionReference*", "explicitAddress*", "targetArea*", "contentObject*"),
    ),
    "senderRole": _VALUES,
    "recipientRole": _VALUES,
    "keyword": _VALUES,
    "contentKeyword": _VALUES,
    "originatorRole": _VALUES,
    "consumerRole": _VALUES,
    "explicitAddress": ("explicitAddressScheme!", "explicitAddressValue+"),
    "targetArea": ("circle*", "polygon*", "country*", "subdivision*", "locCodeUN*"),
    "contentObject": (
        *("contentDescription", "contentKeyword*", "incidentID", "incidentDescription", "originatorRole*"),
        *("consumerRole*", "confidentiality", "xmlContent", "nonXMLContent"),
    ),
    "xmlContent": ("keyXMLContent*", "embeddedXMLContent*"),
    "nonXMLContent": ("mimeType!", "size", "digest", "uri", "contentData"),
}


class Slot(NamedTuple):
    """The place of an element in its container; `extension` says that it is L-Alert's."""

    rank: int
    name: str
    repeats: bool
    extension: bool = False


class Content(NamedTuple):
    """What may stand in one container, by qualified tag, and what must."""

    name: str
    slots: Mapping[str, Slot]
    required: Sequence[str]


def _grammar_of(container: str, specs: Sequence[str]) -> Content:
    slots: dict[str, Slot] = {}
    for rank, spec in enumerate(specs):
        name = spec.rstrip("!+*")
        slots[f"{{{NAMESPACE}}}{name}"] = Slot(rank, name, spec[-1] in "+*")
        if name in ("targetArea", "contentObject"):
            slots[f"{{{COMMONS}}}{name}"] = Slot(rank, name, repeats=True, extension=True)
    return Content(container, slots, [spec[:-1] for spec in specs if spec[-1] in "!+"])


GRAMMAR: Final[Mapping[str, Content]] = {name: _grammar_of(name, specs) for name, specs in CONTENTS.items()}


def tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def first(parent: etree._Element, name: str) -> tuple[str, etree._Element] | None:
    element = parent.find(tag(name))
    return None if element is None or not content_of(element) else (content_of(element), element)


def text_of(parent: etree._Element, name: str) -> str:
    return (parent.findtext(tag(name)) or "").strip(SPACE)


def path_of(element: etree._Element) -> str:
    name = name_of(element)
    parent = element.getparent()
    if parent is None:
        return f"/{name}"
    tag = element.tag
    number = sum(1 for _ in element.itersiblings(tag, preceding=True)) + 1
    several = number > 1 or name in _SEVERAL or next(element.itersiblings(tag), None) is not None
    return f"{path_of(parent)}/{name}[{number}]" if several else f"{path_of(parent)}/{name}"


_SEVERAL = frozenset(spec[:-1] for specs in CONTENTS.values() for spec in specs if spec[-1] in "+*")
