"""The bytes of an alert that stands in an envelope, exactly as they stand there, wherever they say the same on their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from lxml import etree

from lalert.cap.edxl.elements import NAMESPACE
from lalert.cap.grammar import NAMESPACES
from lalert.cap.opening import Unreadable, open_document
from lalert.cap.rules import SPACE
from lalert.cap.trees import line_of


@dataclass(frozen=True, slots=True)
class Inside:
    """A CAP document found inside: its element in its holder, the `number`-th <embeddedXMLContent>; or what base64 held."""

    element: etree._Element
    holder: etree._Element
    number: int
    document: bytes | None = None


def cut(data: bytes, inside: Inside) -> tuple[bytes, int]:
    """Return the bytes of an embedded alert and the line on which they begin.

    As they stand, with the comments and processing instructions round them, if they say the same on their own. Else with the namespace
    declarations that they need from the envelope, and if even that does not do, as the parser writes the element.
    """
    span = _span(data, inside.number)
    for begin, end in span.pieces(alone=_alone(inside)) if span else ():
        piece = data[begin:end].lstrip(SPACE_BYTES)
        start = end - len(piece)
        piece = piece.rstrip(SPACE_BYTES)
        line = data.count(b"\n", 0, start) + 1
        if _reads_as(piece, inside.element):
            return piece, line
        piece = _with_namespaces(piece, span.alert_start - start if span else 0, inside)
        if _reads_as(piece, inside.element):
            return piece, line
    return etree.tostring(inside.element, encoding="utf-8", with_tail=False), line_of(inside.element)


@dataclass(slots=True)
class _Span:
    """Where the content of an <embeddedXMLContent> lies among the bytes, and the alert in it."""

    start: int = -1
    alert_start: int = -1
    alert_end: int = -1
    end: int = -1

    def pieces(self, *, alone: bool) -> Sequence[tuple[int, int]]:
        """Return what may be the document: all of the content if there is nothing else in it, then the alert."""
        alert = (self.alert_start, self.alert_end)
        return [(self.start, self.end), alert] if alone else [alert]


class _Found(Exception):
    """The place is known; reading on would only cost time."""


def _span(data: bytes, number: int) -> _Span | None:
    """Return the bytes of the `number`-th <embeddedXMLContent>, None where the second parser does not see it as the first did."""
    parser = expat.ParserCreate("utf-8", " ")
    span = _Span()
    depth = count = holder = 0

    def start(name: str, _: object) -> None:
        nonlocal depth, count, holder
        depth += 1
        if name == _HOLDER:
            if count == number and not holder:
                holder = depth
                span.start = _end_of_tag(data, parser.CurrentByteIndex)
            count += 1
        elif holder and depth == holder + 1 and name in _ALERT_NAMES:
            span.alert_start = parser.CurrentByteIndex

    def end(name: str) -> None:
        nonlocal depth
        if holder and depth == holder + 1 and name in _ALERT_NAMES:
            span.alert_end = _end_of_tag(data, parser.CurrentByteIndex)
        elif depth == holder:
            span.end = parser.CurrentByteIndex
            raise _Found
        depth -= 1

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    try:
        parser.Parse(data, True)
    except _Found:
        return span if 0 <= span.start <= span.alert_start < span.alert_end <= span.end else None
    except expat.ExpatError:
        return None
    return None


_HOLDER = f"{NAMESPACE} embeddedXMLContent"
_ALERT_NAMES = frozenset(f"{namespace} alert" for namespace in NAMESPACES)

SPACE_BYTES = SPACE.encode()
_TAG = re.compile(rb"<(?:[^\"'>]++|\"[^\"]*+\"|'[^']*+')*+>")
_TAG_NAME = re.compile(rb"<[^ \t\r\n/>]++")


def _end_of_tag(data: bytes, start: int) -> int:
    match = _TAG.match(data, start)
    return match.end() if match else -1


def _alone(inside: Inside) -> bool:
    """Say whether there is nothing but the alert, comments and processing instructions in its holder."""
    texts = (inside.holder.text, inside.element.tail)
    return len(inside.holder) == 1 and not any(text and text.strip(SPACE) for text in texts)


def _reads_as(document: bytes, element: etree._Element) -> bool:
    """Say whether a document says the same on its own as the element does in its envelope."""
    try:
        root, _ = open_document(document)
    except Unreadable:
        return False
    if root.tag != element.tag:
        return False
    for here, there in zip_longest(root.iter(), element.iter()):
        if here is None or there is None or here.tag != there.tag or here.text != there.text:
            return False
        if here.attrib != there.attrib or (there is not element and here.tail != there.tail):
            return False
    return True


def _with_namespaces(piece: bytes, at: int, inside: Inside) -> bytes:
    """Return a piece with those of the envelope's namespace declarations that it uses, in its start tag at `at`."""
    outer = inside.holder.nsmap
    used: set[str | None] = set()
    for element in inside.element.iter():
        if outer.get(element.prefix) == etree.QName(element).namespace:
            used.add(element.prefix)
        for name in element.attrib:
            namespace = etree.QName(name).namespace
            used.update(prefix for prefix, known in outer.items() if prefix and known == namespace)
    tag, name_end = _TAG.match(piece, at), _TAG_NAME.match(piece, at)
    if tag is None or name_end is None:
        return piece
    added = b""
    for prefix in sorted(used, key=lambda prefix: prefix or ""):
        uri = outer.get(prefix)
        declaration = f"xmlns:{prefix}" if prefix else "xmlns"
        if uri and not re.search(rf"[ \t\r\n]{re.escape(declaration)}[ \t\r\n]*=".encode(), tag[0]):
            added += f" {declaration}={quoteattr(uri)}".encode()
    return piece[: name_end.end()] + added + piece[name_end.end() :]
