"""An alert into an envelope."""

from __future__ import annotations

from lxml import etree

from lalert.cap.edxl.cutting import SPACE_BYTES
from lalert.cap.edxl.elements import NAMESPACE, OPEN, ROOT, TYPES, tag
from lalert.cap.edxl.target import codes_of
from lalert.cap.opening import open_document
from lalert.cap.render import circle_text, polygon_text
from lalert.model import Alert, Scope, Status


def wrap(alert: Alert) -> bytes:
    """Return an alert in an EDXL-DE 1.0 envelope, always the same bytes for the same alert.

    The document is embedded as it is: in UTF-8, without XML declaration and byte order mark, and otherwise untouched, so that a signature in it
    still verifies once it is taken out again. Raises ValueError for a Draft, which has no distributionStatus.
    """
    if alert.status is Status.DRAFT:
        raise ValueError("status: EDXL-DE 1.0 has no Draft")
    root = etree.Element(tag(ROOT), nsmap={"de": NAMESPACE})
    _add(root, "distributionID", alert.id)
    _add(root, "senderID", alert.sender)
    _add(root, "dateTimeSent", alert.sent_text)
    _add(root, "distributionStatus", alert.status)
    _add(root, "distributionType", TYPES[alert.msg_type])
    _add(root, "combinedConfidentiality", OPEN if alert.scope is Scope.PUBLIC else alert.scope)
    if alert.infos:
        _add(root, "language", alert.infos[0].language)
    for reference in alert.references:
        if reference.sent:
            _add(root, "distributionReference", f"{reference.id},{reference.sender},{reference.sent}")
    _add_target(root, alert)
    content = etree.SubElement(root, tag("contentObject"))
    # Of a drill no text leaves the hub but as it was received, or with its mark.
    if alert.infos and alert.status is Status.ACTUAL:
        _add(content, "contentDescription", alert.infos[0].headline or alert.infos[0].event)
    holder = etree.SubElement(etree.SubElement(content, tag("xmlContent")), tag("embeddedXMLContent"))
    holder.append(etree.Comment("alert"))
    etree.indent(root)
    frame = etree.tostring(root, encoding="UTF-8", xml_declaration=True) + b"\n"
    # No text of the frame can look like the comment: what it is made of is escaped.
    return frame.replace(b"<!--alert-->", bare(alert.raw), 1)


def bare(raw: bytes) -> bytes:
    """Return a document in UTF-8 without its XML declaration, its byte order mark and the white space round it. Raises `NotXml`."""
    _, data = open_document(raw)
    if data.startswith(b"<?xml") and data[5:6] in (b" ", b"\t", b"\r", b"\n"):
        data = data[data.index(b"?>") + 2 :]
    return data.strip(SPACE_BYTES)


_MAX_TARGET_BYTES = (
    256 * 1024
)  # a target area may be left out, and would double a document that is mostly polygons


def _add_target(root: etree._Element, alert: Alert) -> None:
    areas = [area for info in alert.infos for area in info.areas]
    prefectures = sorted({code[:2] for area in areas for code in codes_of(area)})
    circles = list(dict.fromkeys(circle for area in areas for circle in area.circles))
    rings = list(dict.fromkeys(ring for area in areas for ring in area.polygons))
    if len(alert.raw) > _MAX_TARGET_BYTES or not (prefectures or circles or rings):
        return
    target = etree.SubElement(root, tag("targetArea"))
    for circle in circles:
        _add(target, "circle", circle_text(circle))
    for ring in rings:
        _add(target, "polygon", polygon_text(ring))
    for prefecture in prefectures:
        _add(target, "subdivision", f"JP-{prefecture}")


def _add(parent: etree._Element, name: str, text: str) -> None:
    etree.SubElement(parent, tag(name)).text = text
