"""An `Alert` as a CAP document in the version that it is of, always the same bytes for the same alert."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, TypeVar, cast

from lxml import etree

from lalert.cap import rules
from lalert.cap.grammar import NAMESPACES, PAIRS, VERY_LIKELY, Content, Grammar, grammar
from lalert.model import (
    UNKNOWN_INSTANT,
    Alert,
    Area,
    Certainty,
    Circle,
    Info,
    NamedValue,
    Resource,
    Ring,
    Scope,
)

UNSAID: Final = "not said"
"""What stands in the <restriction> of a restricted alert that had none, where the version asked for wants one."""

_GRAMMARS: Final[Mapping[str, str]] = {version: namespace for namespace, version in NAMESPACES.items()}
_Value = TypeVar("_Value")
_UNKNOWN_TYPE = "application/octet-stream"
_MAX_OFFSET = timedelta(hours=14)


def render(alert: Alert, version: str | None = None) -> bytes:
    """Return the alert as a CAP document in UTF-8; without a version in its own, and `parse` then gives it back.

    (Of a document close to `MAX_BYTES` what is rendered may be longer than `parse` takes.) Numbers are the shortest that read the same, polygons lat,lon and radii in kilometres, infos in their order. An empty text that may be
    left out is; white space round a text and fractions of a second are no part of what CAP can say and are dropped. What cannot be
    written raises ValueError that names the place: a character that XML has not, a number that is none, a name with a comma in a reference.

    In another version than its own, what that has no words for is said as nearly as can be: a category that it does not know is Other, a
    response that it does not know is left out, Observed is Very Likely in CAP 1.0 (which reads as Likely), a <derefUri> and the times of references are left
    out there, and what must be there and is not (category, type of a resource, restriction) is Other, application/octet-stream and "not said". A status is never
    changed, and a reference never left out: where they cannot be said, it raises ValueError.
    """
    wanted = version or alert.version
    if wanted not in _GRAMMARS:
        raise ValueError(f"version: {wanted!r} is none of {', '.join(sorted(_GRAMMARS))}")
    return _Writer(grammar(_GRAMMARS[wanted]), another=wanted != alert.version).document(alert)


class _Writer:
    """Writes one alert by one grammar; `another` is true where the alert is of another version, whose words it may have to translate."""

    def __init__(self, grammar: Grammar, *, another: bool) -> None:
        self._grammar = grammar
        self._another = another
        self._namespace = f"{{{grammar.namespace}}}"

    def document(self, alert: Alert) -> bytes:
        # The stubs of lxml do not know the default namespace.
        nsmap = cast(dict[str, str], {None: self._grammar.namespace})
        root = etree.Element(f"{self._namespace}alert", nsmap=nsmap)
        self._alert(root, alert)
        etree.indent(root)
        return etree.tostring(root, encoding="UTF-8", xml_declaration=True) + b"\n"

    def _alert(self, root: etree._Element, alert: Alert) -> None:
        self._required(root, "identifier", alert.identifier)
        self._required(root, "sender", alert.sender)
        if rules.instant(alert.sent_text) != alert.sent:
            raise _unwritable(root, "sent", f"{alert.sent_text!r} is not how CAP writes {alert.sent}")
        self._required(root, "sent", alert.sent_text)
        self._value(root, "status", alert.status)
        self._value(root, "msgType", alert.msg_type)
        self._text(root, "source", alert.source)
        restriction = alert.restriction
        if not self._scope_unsaid(alert):
            self._value(root, "scope", alert.scope)
            if self._another and alert.scope is Scope.RESTRICTED:
                restriction = restriction or UNSAID
        self._text(root, "restriction", restriction)
        self._items(root, "addresses", alert.addresses)
        for code in alert.codes:
            self._text(root, "code", code)
        self._text(root, "note", alert.note)
        self._references(root, alert)
        self._items(root, "incidents", alert.incidents)
        for info in alert.infos:
            self._info(self._container(root, "info"), info)

    def _scope_unsaid(self, alert: Alert) -> bool:
        # Of CAP 1.0, where <scope> may be missing, the parser makes it Restricted: nobody said so, and no restriction was given.
        return self._grammar.version == "1.0" and alert.scope is Scope.RESTRICTED and not alert.restriction

    def _references(self, root: etree._Element, alert: Alert) -> None:
        references = alert.references
        if not references:
            return
        old = self._grammar.version == "1.0"
        if old:
            text = " ".join(f"{reference.identifier}/{reference.sender}" for reference in references)
        else:
            text = " ".join(f"{r.sender},{r.identifier},{r.sent}" for r in references)
        read = tuple(rules.references(text, self._grammar.version)[0])
        if old:
            # What a hub has found a reference without a time to mean, is not the document's to say.
            references = tuple(r if r.sent else replace(r, instant=UNKNOWN_INSTANT) for r in references)
        if old and self._another:
            references = tuple(replace(r, sent="", instant=UNKNOWN_INSTANT) for r in references)
        if read != references:
            raise _unwritable(root, "references", f"CAP {self._grammar.version} cannot say them: {text[:80]}")
        self._required(root, "references", text)

    def _info(self, parent: etree._Element, info: Info) -> None:
        self._required(parent, "language", info.language)
        self._values(parent, "category", info.categories, instead="Other")
        if self._another and not info.categories and "category" in self._grammar.info.required:
            self._required(parent, "category", "Other")
        self._required(parent, "event", info.event)
        self._values(parent, "responseType", info.response_types, instead=None)
        self._value(parent, "urgency", info.urgency)
        self._value(parent, "severity", info.severity)
        certainty: str = info.certainty
        if self._another and self._grammar.version == "1.0" and info.certainty is Certainty.OBSERVED:
            certainty = VERY_LIKELY
        self._value(parent, "certainty", certainty)
        self._text(parent, "audience", info.audience)
        self._pairs(parent, "eventCode", info.event_codes)
        self._time(parent, "effective", info.effective)
        self._time(parent, "onset", info.onset)
        self._time(parent, "expires", info.expires)
        self._text(parent, "senderName", info.sender_name)
        self._text(parent, "headline", info.headline)
        self._text(parent, "description", info.description)
        self._text(parent, "instruction", info.instruction)
        self._text(parent, "web", info.web)
        self._text(parent, "contact", info.contact)
        self._pairs(parent, "parameter", info.parameters)
        for resource in info.resources:
            self._resource(self._container(parent, "resource"), resource)
        for area in info.areas:
            self._area(self._container(parent, "area"), area)

    def _resource(self, parent: etree._Element, resource: Resource) -> None:
        self._required(parent, "resourceDesc", resource.resource_desc)
        mime_type = resource.mime_type
        if not mime_type and "mimeType" in self._grammar.resource.required:
            if not self._another:
                raise _unwritable(
                    parent, "mimeType", f"CAP {self._grammar.version} wants the type of every resource"
                )
            mime_type = _UNKNOWN_TYPE
        self._text(parent, "mimeType", mime_type)
        if resource.size is not None:
            if resource.size < 0:
                raise _unwritable(parent, "size", f"{resource.size} is no number of bytes")
            self._required(parent, "size", str(resource.size))
        self._text(parent, "uri", resource.uri)
        if resource.deref_uri and self._knows(self._grammar.resource, parent, "derefUri"):
            self._text(parent, "derefUri", resource.deref_uri)
        self._text(parent, "digest", resource.digest)

    def _area(self, parent: etree._Element, area: Area) -> None:
        self._required(parent, "areaDesc", area.area_desc)
        for ring in area.polygons:
            self._geometry(parent, "polygon", polygon_text, ring)
        for circle in area.circles:
            self._geometry(parent, "circle", circle_text, circle)
        self._pairs(parent, "geocode", area.geocodes)
        for name, height in (("altitude", area.altitude), ("ceiling", area.ceiling)):
            if height is not None:
                self._geometry(parent, name, _number, height)

    def _geometry(
        self, parent: etree._Element, name: str, text_of: Callable[[_Value], str], value: _Value
    ) -> None:
        try:
            text = text_of(value)
        except ValueError as error:
            raise _unwritable(parent, name, str(error)) from error
        self._required(parent, name, text)

    def _pairs(self, parent: etree._Element, name: str, pairs: Iterable[NamedValue]) -> None:
        assert name in PAIRS
        for pair in pairs:
            if self._grammar.pairs:
                element = self._container(parent, name)
                self._required(element, "valueName", pair.name)
                self._required(element, "value", pair.value)
                continue
            text = f"{pair.name}={pair.value}"
            read = rules.pair(text)
            if read == pair:
                self._required(parent, name, text)
            elif not self._another or pair.name:
                raise _unwritable(parent, name, f"CAP 1.0 cannot say {text[:80]!r} as name=value")

    def _items(self, parent: etree._Element, name: str, items: Sequence[str]) -> None:
        """Write a list of CAP 1.2, 3.2.1 <addresses>: items with white space are quoted."""
        if not items:
            return
        text = " ".join(f'"{item}"' if item.split() != [item] else item for item in items)
        if rules.items(text, name) != tuple(items):
            raise _unwritable(
                parent, name, "an item is empty or has a quotation mark in it, or there are too many"
            )
        self._required(parent, name, text)

    def _values(self, parent: etree._Element, name: str, values: Sequence[str], instead: str | None) -> None:
        """Write values of an enumeration; `instead` is what another version's is turned into, None where it is left out."""
        known = self._grammar.values.get(name, frozenset())
        written: list[str] = []
        for value in values:
            if value in known or not self._another:
                written.append(value)
            elif instead and instead not in (*values, *written):
                written.append(instead)
        for value in written:
            self._value(parent, name, value)

    def _value(self, parent: etree._Element, name: str, value: str) -> None:
        known = self._grammar.values.get(name, frozenset())
        if value not in known:
            values = ", ".join(sorted(known)) or "none"
            raise _unwritable(parent, name, f"CAP {self._grammar.version} has no {value} there, but {values}")
        self._required(parent, name, value)

    def _knows(self, content: Content, parent: etree._Element, name: str) -> bool:
        if f"{self._namespace}{name}" in content.slots:
            return True
        if not self._another:
            raise _unwritable(parent, name, f"CAP {self._grammar.version} has no such element")
        return False

    def _time(self, parent: etree._Element, name: str, time: datetime | None) -> None:
        if time is None:
            return
        offset = time.utcoffset()
        if offset is None or abs(offset) > _MAX_OFFSET or offset % timedelta(minutes=1):
            raise _unwritable(
                parent, name, f"{time} has no offset from UTC that CAP can write (whole minutes, to 14:00)"
            )
        self._required(parent, name, rules.written(time))

    def _container(self, parent: etree._Element, name: str) -> etree._Element:
        return etree.SubElement(parent, self._namespace + name)

    def _text(self, parent: etree._Element, name: str, text: str | None) -> None:
        if text:
            self._required(parent, name, text)

    def _required(self, parent: etree._Element, name: str, text: str) -> None:
        element = etree.SubElement(parent, self._namespace + name)
        try:
            element.text = text
        except ValueError as error:
            raise _unwritable(parent, name, "it has a character that XML has not") from error


def _unwritable(parent: etree._Element, name: str, reason: str) -> ValueError:
    return ValueError(f"{_path(parent)}/{name}: {reason}")


def _path(element: etree._Element) -> str:
    name = etree.QName(element).localname
    parent = element.getparent()
    if parent is None:
        return f"/{name}"
    number = sum(1 for _ in element.itersiblings(element.tag, preceding=True)) + 1
    return f"{_path(parent)}/{name}[{number}]"


def polygon_text(ring: Ring) -> str:
    """Return a ring of (lon, lat) as CAP and EDXL write it; raises ValueError for one without points or with something that is no number."""
    if not ring:
        raise ValueError("it has no points")
    return " ".join(f"{_number(lat)},{_number(lon)}" for lon, lat in ring)


def circle_text(circle: Circle) -> str:
    """Return a circle as CAP and EDXL write it; raises ValueError for something that is no number or no radius."""
    lat, lon = _number(circle.lat), _number(circle.lon)
    if not 0 <= circle.radius_m < math.inf:
        raise ValueError(f"{circle.radius_m} m is no radius")
    radius_km = Decimal(repr(circle.radius_m)).scaleb(-3)
    return f"{lat},{lon} {radius_km.normalize():f}"


def _number(number: float) -> str:
    """Return the shortest decimal that reads the same, never with an exponent, which CAP does not know."""
    if not math.isfinite(number):
        raise ValueError(f"{number} is no number of degrees or feet")
    text = repr(float(number))
    return f"{Decimal(text):f}" if "e" in text else text
