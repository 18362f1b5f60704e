"""An `Alert` as CAP 1.2, always the same bytes for the same alert."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import cast

from lxml import etree

from lalert.model import Alert, Area, Circle, Info, NamedValue, Reference, Resource, Ring

_NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
_UNKNOWN_TYPE = "application/octet-stream"


def render(alert: Alert) -> bytes:
    """Return the alert as a CAP 1.2 document in UTF-8; `parse` of it gives the alert back.

    Numbers are the shortest that read the same, polygons lat,lon and radii in kilometres. What CAP 1.2 cannot say is left out or said
    otherwise: fractions of a second, and, of an alert of CAP 1.0, references without a time and a resource without a type. A name or text with
    characters that XML cannot hold raises ValueError.
    """
    nsmap = cast(dict[str, str], {None: _NAMESPACE})  # the stubs of lxml do not know the default namespace
    root = etree.Element(f"{{{_NAMESPACE}}}alert", nsmap=nsmap)
    _add(root, "identifier", alert.identifier)
    _add(root, "sender", alert.sender)
    _add(root, "sent", alert.sent_text)
    _add(root, "status", alert.status)
    _add(root, "msgType", alert.msg_type)
    _add(root, "source", alert.source)
    _add(root, "scope", alert.scope)
    _add(root, "restriction", alert.restriction)
    _add(root, "addresses", _items(alert.addresses))
    for code in alert.codes:
        _add(root, "code", code)
    _add(root, "note", alert.note)
    _add(root, "references", " ".join(_reference(r) for r in alert.references if r.sent) or None)
    _add(root, "incidents", _items(alert.incidents))
    for info in alert.infos:
        _info(_container(root, "info"), info)
    etree.indent(root)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True) + b"\n"


def _info(parent: etree._Element, info: Info) -> None:
    _add(parent, "language", info.language)
    for category in info.categories:
        _add(parent, "category", category)
    _add(parent, "event", info.event)
    for response in info.response_types:
        _add(parent, "responseType", response)
    _add(parent, "urgency", info.urgency)
    _add(parent, "severity", info.severity)
    _add(parent, "certainty", info.certainty)
    _add(parent, "audience", info.audience)
    _pairs(parent, "eventCode", info.event_codes)
    _add(parent, "effective", _time(info.effective))
    _add(parent, "onset", _time(info.onset))
    _add(parent, "expires", _time(info.expires))
    _add(parent, "senderName", info.sender_name)
    _add(parent, "headline", info.headline)
    _add(parent, "description", info.description)
    _add(parent, "instruction", info.instruction)
    _add(parent, "web", info.web)
    _add(parent, "contact", info.contact)
    _pairs(parent, "parameter", info.parameters)
    for resource in info.resources:
        _resource(_container(parent, "resource"), resource)
    for area in info.areas:
        _area(_container(parent, "area"), area)


def _resource(parent: etree._Element, resource: Resource) -> None:
    _add(parent, "resourceDesc", resource.resource_desc)
    _add(parent, "mimeType", resource.mime_type or _UNKNOWN_TYPE)
    _add(parent, "size", None if resource.size is None else str(resource.size))
    _add(parent, "uri", resource.uri)
    _add(parent, "derefUri", resource.deref_uri)
    _add(parent, "digest", resource.digest)


def _area(parent: etree._Element, area: Area) -> None:
    _add(parent, "areaDesc", area.area_desc)
    for ring in area.polygons:
        _add(parent, "polygon", _polygon(ring))
    for circle in area.circles:
        _add(parent, "circle", _circle(circle))
    _pairs(parent, "geocode", area.geocodes)
    _add(parent, "altitude", None if area.altitude is None else _number(area.altitude))
    _add(parent, "ceiling", None if area.ceiling is None else _number(area.ceiling))


def _pairs(parent: etree._Element, name: str, pairs: Iterable[NamedValue]) -> None:
    for pair in pairs:
        element = _container(parent, name)
        etree.SubElement(element, f"{{{_NAMESPACE}}}valueName").text = pair.name
        etree.SubElement(element, f"{{{_NAMESPACE}}}value").text = pair.value


def _container(parent: etree._Element, name: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{_NAMESPACE}}}{name}")


def _add(parent: etree._Element, name: str, text: str | None) -> None:
    if text is not None:
        etree.SubElement(parent, f"{{{_NAMESPACE}}}{name}").text = text


def _items(items: Iterable[str]) -> str | None:
    """Return a list of CAP 1.2, 3.2.1 <addresses>: items with white space are quoted."""
    return " ".join(f'"{item}"' if item.split() != [item] else item for item in items) or None


def _reference(reference: Reference) -> str:
    return f"{reference.sender},{reference.identifier},{reference.sent}"


def _time(time: datetime | None) -> str | None:
    """Return a time of CAP 1.2, 3.3.2, which has no Z and writes UTC as -00:00."""
    if time is None:
        return None
    text = time.replace(microsecond=0).isoformat()
    return f"{text[:-6]}-00:00" if text.endswith("+00:00") else text


def _polygon(ring: Ring) -> str:
    return " ".join(f"{_number(lat)},{_number(lon)}" for lon, lat in ring)


def _circle(circle: Circle) -> str:
    radius_km = Decimal(repr(circle.radius_m)).scaleb(-3)
    return f"{_number(circle.lat)},{_number(circle.lon)} {radius_km.normalize():f}"


def _number(number: float) -> str:
    """Return the shortest decimal that reads the same, never with an exponent, which CAP does not know."""
    text = repr(float(number))
    return f"{Decimal(text):f}" if "e" in text else text
