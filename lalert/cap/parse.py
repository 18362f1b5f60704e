"""Bytes to an `Alert`, or every problem of the document with its place: one pass over the tree, then the schema as the second judge."""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Final, NamedTuple, Protocol, TypeVar, cast

from lxml import etree

from lalert.cap import rules
from lalert.cap.catalogue import RULES
from lalert.cap.grammar import NAMESPACES, VERY_LIKELY, XMLDSIG, Content, Grammar, Slot, grammar
from lalert.cap.opening import Unreadable, forbid_xinclude, open_document
from lalert.cap.rules import SPACE, Fault, fault, shown
from lalert.errors import InvalidAlert, Problem, ProblemSeverity
from lalert.model import (
    Alert,
    Area,
    Certainty,
    Circle,
    Info,
    MsgType,
    NamedValue,
    Reference,
    Resource,
    Ring,
    Scope,
    Severity,
    Status,
    Urgency,
)
from lalert.resources import schema

MAX_PROBLEMS: Final = 200
"""As many problems of one document are reported; who sends more faults than that has a fault in the program, not in the text."""

_WALKED = 20_000  # elements looked at for attributes and stray text, once a document is known to be wrong


@dataclass(frozen=True, slots=True)
class Report:
    """What an examination found: the version of CAP (None if it is none), all problems, and the alert if there is no error."""

    version: str | None
    problems: tuple[Problem, ...]
    alert: Alert | None

    @property
    def valid(self) -> bool:
        """Say whether the document is an alert without errors; warnings and advice do not count."""
        return self.alert is not None


def parse(raw: bytes) -> Alert:
    """Return the alert that a document is, with its warnings in `defects` and its bytes in `raw`.

    Raises `NotXml` for what cannot or must not be read (not well-formed, a DOCTYPE, beyond a limit) and `InvalidAlert`
    with every problem found for what is no valid CAP 1.0, 1.1 or 1.2. Takes about 0.2 ms for an alert of 5 kB; above 64 kB call it from a thread.
    """
    report = _examined(raw)
    if report.alert is None:
        raise InvalidAlert(report.problems)
    return report.alert


def examine(raw: bytes) -> Report:
    """Return everything there is to say about a document; never raises for what is in it."""
    try:
        return _examined(raw)
    except Unreadable as unreadable:
        return Report(None, (unreadable.problem,), None)


def _examined(raw: bytes) -> Report:
    root, data = open_document(raw)
    name = etree.QName(root)
    if name.localname != "alert" or name.namespace not in NAMESPACES:
        where = f" in the namespace {shown(name.namespace)}" if name.namespace else " without a namespace"
        tag = name.localname[:60]
        found = fault("CAP-ROOT", found=f"<{tag}>{where}")
        return Report(None, (_problem(found, f"/{tag}", _line(root)),), None)
    reader = _Reader(root, grammar(name.namespace), texts_need_a_look=any(mark in data for mark in _MARKS))
    alert = reader.read(raw)
    problems = reader.problems() if alert is None else alert.defects
    return Report(reader.grammar.version, problems, alert)


# Without one of these bytes a text can hold no HTML (which needs a reference or a CDATA section) and, in UTF-8, no control character
# of _CONTROL in rules.py. Single bytes, because those are found at once.
_MARKS = (b"&", b"!", b"\x7f", b"\xc2", b"\xe2")

_NOT_TEXT = frozenset({"web", "uri", "derefUri", "digest", "size", "sent", "effective", "onset", "expires"})

_Value = TypeVar("_Value")
_Fields = dict[str, str]
_Parts = dict[str, list[etree._Element]]


class _Words(NamedTuple):
    """The values of one version of CAP, text -> value."""

    status: Mapping[str, Status]
    msg_type: Mapping[str, MsgType]
    scope: Mapping[str, Scope]
    urgency: Mapping[str, Urgency]
    severity: Mapping[str, Severity]
    certainty: Mapping[str, Certainty]


@cache
def _words(namespace: str) -> _Words:
    values = grammar(namespace).values
    return _Words(
        {text: Status(text) for text in values["status"]},
        {text: MsgType(text) for text in values["msgType"]},
        {text: Scope(text) for text in values["scope"]},
        {text: Urgency(text) for text in values["urgency"]},
        {text: Severity(text) for text in values["severity"]},
        # CAP 1.1 replaced "Very Likely" by "Observed" and says that it is to be read as Likely.
        {t: Certainty.LIKELY if t == VERY_LIKELY else Certainty(t) for t in values["certainty"]},
    )


class _TooManyErrors(Exception):
    """Enough errors are known; reading on would only cost time."""


class _Reader:
    """One reading of one document: builds the alert and notes every fault with its element."""

    def __init__(self, root: etree._Element, grammar: Grammar, *, texts_need_a_look: bool) -> None:
        self.root = root
        self.grammar = grammar
        self._look_at_texts = texts_need_a_look
        self._errors: list[tuple[Fault, etree._Element]] = []
        self._remarks: list[tuple[Fault, etree._Element]] = []
        self._dropped = False
        self._strangers = 0
        self._words = _words(grammar.namespace)
        self._tag = f"{{{grammar.namespace}}}"
        self._name_tag = f"{self._tag}valueName"
        self._value_tag = f"{self._tag}value"
        # The infos of one alert in several languages have the same areas and times.
        self._rings: dict[str, Ring | Fault] = {}
        self._times: dict[str, datetime | Fault] = {}

    def read(self, raw: bytes) -> Alert | None:
        """Return the alert, None if it has an error; `problems` then says which."""
        try:
            alert = self._alert(raw)
            if alert is None:
                self._explain_the_rest()
            elif not self._agrees_with_the_schema():
                return None
        except _TooManyErrors:
            return None
        return alert

    def problems(self) -> tuple[Problem, ...]:
        """Return what was found, in the order of the document; errors come before remarks where not all can be listed."""
        places = _Places(self.grammar)
        found = [*self._errors, *self._remarks]
        listed = [_problem(f, places.path(e), _line(e)) for f, e in found[:MAX_PROBLEMS]]
        listed.sort(key=lambda problem: problem.line)
        if self._dropped or len(found) > MAX_PROBLEMS:
            listed.append(_problem(fault("CAP-TOO-MANY", shown=str(len(listed))), "/alert", 0))
        return tuple(listed)

    # alert

    def _alert(self, raw: bytes) -> Alert | None:
        root, words = self.root, self._words
        fields, parts = self._children(root, self.grammar.alert)
        identifier = self._name_text(fields, "identifier")
        sender = self._name_text(fields, "sender")
        sent = self._time(root, fields, "sent")
        status = words.status.get(fields.get("status", ""))
        msg_type = words.msg_type.get(fields.get("msgType", ""))
        scope = words.scope.get(fields.get("scope", ""))
        if status is None:
            self._no_value(root, fields, "status")
        if msg_type is None:
            self._no_value(root, fields, "msgType")
        if scope is None:
            scope = self._no_scope(fields)
        addresses = self._items(fields, "addresses") if "addresses" in fields else ()
        incidents = self._items(fields, "incidents") if "incidents" in fields else ()
        codes = tuple(text for element in parts.get("code", ()) if (text := _content(element)))
        restriction = fields.get("restriction") or None
        note = fields.get("note") or None
        if "scope" in fields:
            self._note(rules.judge_scope(scope, restriction=restriction, addresses=addresses), root)
        self._note(rules.judge_note(status, msg_type, note), root)
        if "password" in fields:
            self._add(fault("CAP-PASSWORD", "password"), root)
        me = None
        if identifier and sender and sent:
            me = Reference(sender, identifier, fields["sent"], sent)
        references: tuple[Reference, ...] = ()
        if "references" in fields or msg_type is not MsgType.ALERT:
            references = self._references(fields, msg_type, me)
        if self._look_at_texts:
            self._check_texts(root, fields)
            for element in parts.get("code", ()):
                self._note(rules.judge_text("code", _content(element)), element)
        infos = self._infos(parts.get("info", ()), sent, msg_type)
        if self._errors or identifier is None or sender is None or sent is None:
            return None
        if status is None or msg_type is None or scope is None:
            return None
        return Alert(
            identifier=identifier,
            sender=sender,
            sent=sent,
            status=status,
            msg_type=msg_type,
            scope=scope,
            sent_text=fields["sent"],
            version=self.grammar.version,
            source=fields.get("source") or None,
            restriction=restriction,
            addresses=addresses,
            codes=codes,
            note=note,
            references=references,
            incidents=incidents,
            infos=infos,
            raw=raw,
            defects=self.problems() if self._remarks else (),
        )

    def _name_text(self, fields: _Fields, name: str) -> str | None:
        """Return identifier or sender as written: white space round them counts, since references repeat them."""
        if not fields.get(name):
            self._empty(self.root, fields, name)
            return None
        text = self.root.findtext(self._tag + name)
        assert text is not None
        faults = rules.judge_name(name, text)
        self._note(faults, self.root)
        return text

    def _no_scope(self, fields: _Fields) -> Scope | None:
        if "scope" not in fields and self.grammar.version == "1.0":
            # Optional in CAP 1.0, whose default nobody wrote down: what may not be meant for everybody is not shown to everybody.
            self._add(fault("CAP-SCOPE-MISSING"), self.root)
            return Scope.RESTRICTED
        self._no_value(self.root, fields, "scope")
        return None

    def _items(self, fields: _Fields, name: str) -> tuple[str, ...]:
        return self._accept(rules.items(fields[name], name), self.root, name) or ()

    def _references(
        self, fields: _Fields, msg_type: MsgType | None, me: Reference | None
    ) -> tuple[Reference, ...]:
        text = fields.get("references")
        found: list[Reference] = []
        if text is not None:
            found, faults = rules.references(text, self.grammar.version)
            for unreadable in faults:
                self._add(unreadable, self.root, "references")
        written = text is not None
        self._note(rules.judge_references(found, written=written, msg_type=msg_type, me=me), self.root)
        return tuple(found)

    def _infos(
        self, elements: Sequence[etree._Element], sent: datetime | None, msg_type: MsgType | None
    ) -> tuple[Info, ...]:
        if not elements and msg_type not in (MsgType.ACK, MsgType.ERROR):
            self._add(fault("CAP-INFO-MISSING"), self.root)
        infos: list[Info] = []
        texts: list[tuple[str, _Fields]] = []
        for element in elements:
            fields, parts = self._children(element, self.grammar.info)
            language = fields.get("language") or "en-US"
            texts.append((language, fields))
            info = self._info(element, fields, parts, language, sent)
            if info is not None:
                infos.append(info)
        if len(texts) > 1:
            for n, found in rules.judge_translations(texts):
                self._add(found, elements[n])
        return tuple(infos)

    # info

    def _info(
        self, element: etree._Element, fields: _Fields, parts: _Parts, language: str, sent: datetime | None
    ) -> Info | None:
        words = self._words
        event = fields.get("event")
        if not event:
            self._empty(element, fields, "event")
        categories = self._listed(parts, "category")
        if len(categories) > 1:
            self._note(rules.judge_categories(categories), element, parts)
        responses = self._listed(parts, "responseType")
        urgency = words.urgency.get(fields.get("urgency", ""))
        severity = words.severity.get(fields.get("severity", ""))
        certainty = words.certainty.get(fields.get("certainty", ""))
        if urgency is None:
            self._no_value(element, fields, "urgency")
        if severity is None:
            self._no_value(element, fields, "severity")
        if certainty is None:
            self._no_value(element, fields, "certainty")
        effective = self._time(element, fields, "effective")
        onset = self._time(element, fields, "onset")
        expires = self._time(element, fields, "expires")
        web = fields.get("web") or None
        self._note(rules.judge_language(language), element)
        self._note(rules.judge_times(sent, effective, onset, expires), element)
        self._note(rules.judge_info(fields, self.grammar.version), element)
        if web is not None:
            self._note(rules.judge_web(web), element)
        if self._look_at_texts:
            self._check_texts(element, fields)
        event_codes = self._pairs(parts, "eventCode")
        parameters = self._pairs(parts, "parameter")
        resources = tuple([self._resource(e) for e in parts.get("resource", ())])
        areas = tuple([self._area(e) for e in parts.get("area", ())])
        if not areas:
            self._add(fault("CAP-AREA-MISSING"), element)
        if self._errors or event is None or urgency is None or severity is None or certainty is None:
            return None
        return Info(
            event=event,
            categories=categories,
            urgency=urgency,
            severity=severity,
            certainty=certainty,
            language=language,
            response_types=responses,
            audience=fields.get("audience") or None,
            event_codes=event_codes,
            effective=effective,
            onset=onset,
            expires=expires,
            sender_name=fields.get("senderName") or None,
            headline=fields.get("headline") or None,
            description=fields.get("description") or None,
            instruction=fields.get("instruction") or None,
            web=web,
            contact=fields.get("contact") or None,
            parameters=parameters,
            resources=resources,
            areas=areas,
        )

    def _pairs(self, parts: _Parts, name: str) -> tuple[NamedValue, ...]:
        elements = parts.get(name)
        if elements is None:
            return ()
        found = []
        for element in elements:
            if len(element) == 2:
                # Nearly all pairs, and there may be thousands; _pair would say the same.
                first, second = element
                if first.tag == self._name_tag and second.tag == self._value_tag:
                    key, value = _content(first), _content(second)
                    if key and value and not self._look_at_texts:
                        found.append(NamedValue(key, value))
                        continue
            found.append(self._pair(element))
        return tuple(found)

    def _pair(self, element: etree._Element) -> NamedValue:
        if not self.grammar.pairs:
            return self._accept(rules.pair(_content(element)), element) or NamedValue("", "")
        fields, _ = self._children(element, self.grammar.pair)
        for name, text in fields.items():
            if not text:
                self._add(fault("CAP-PAIR-EMPTY", name, name=name, parent=_name(element)), element)
        if self._look_at_texts:
            self._check_texts(element, fields)
        return NamedValue(fields.get("valueName", ""), fields.get("value", ""))

    # resource

    def _resource(self, element: etree._Element) -> Resource:
        fields, _ = self._children(element, self.grammar.resource)
        desc, mime_type = fields.get("resourceDesc"), fields.get("mimeType")
        if not desc:
            self._empty(element, fields, "resourceDesc")
        if mime_type:
            self._note(rules.judge_mime_type(mime_type), element)
        else:
            self._empty(element, fields, "mimeType")
        size = None
        if "size" in fields:
            size = self._accept(rules.size(fields["size"]), element, "size")
        uri, deref_uri = fields.get("uri") or None, fields.get("derefUri") or None
        digest = fields.get("digest") or None
        self._note(rules.judge_resource(uri=uri, deref_uri=deref_uri, size=size, digest=digest), element)
        if self._look_at_texts:
            self._check_texts(element, fields)
        return Resource(desc or "", mime_type, size, uri, deref_uri, digest)

    # area

    def _area(self, element: etree._Element) -> Area:
        fields, parts = self._children(element, self.grammar.area)
        desc = fields.get("areaDesc")
        if not desc:
            self._empty(element, fields, "areaDesc")
        self._note(rules.judge_area(desc, placed=bool(parts)), element)
        polygons = self._polygons(parts["polygon"]) if "polygon" in parts else ()
        circles = self._circles(parts["circle"]) if "circle" in parts else ()
        geocodes = self._pairs(parts, "geocode")
        altitude = self._height(element, fields, "altitude") if "altitude" in fields else None
        ceiling = self._height(element, fields, "ceiling") if "ceiling" in fields else None
        if "ceiling" in fields:
            written = "altitude" in fields
            self._note(rules.judge_heights(altitude, ceiling, altitude_written=written), element)
        if self._look_at_texts:
            self._check_texts(element, fields)
        return Area(desc or "", polygons, circles, geocodes, altitude, ceiling)

    def _polygons(self, elements: Iterable[etree._Element]) -> tuple[Ring, ...]:
        found = []
        for element in elements:
            text = element.text or ""
            read = self._rings.get(text)
            if read is None:
                read = self._rings[text] = rules.ring(text)
            if isinstance(read, Fault):
                self._add(read, element)
            else:
                found.append(read)
        return tuple(found)

    def _circles(self, elements: Iterable[etree._Element]) -> tuple[Circle, ...]:
        found = []
        for element in elements:
            circle = self._accept(rules.circle(element.text or ""), element)
            if circle is not None:
                self._note(rules.judge_circle(circle), element)
                found.append(circle)
        return tuple(found)

    def _height(self, parent: etree._Element, fields: _Fields, name: str) -> float | None:
        return self._accept(rules.height(fields[name]), parent, name)

    # What all elements have in common

    def _children(self, parent: etree._Element, content: Content) -> tuple[_Fields, _Parts]:
        """Return the children by name: the text of each (of the first, if it may be repeated) and the elements that may be repeated.

        White space round a text is dropped: indentation is not part of what was said. Notes all that is out of place.
        """
        fields: _Fields = {}
        parts: _Parts = {}
        slots = content.slots
        last = -1
        in_order = True
        for child in parent:
            slot = slots.get(child.tag)
            if slot is None:
                self._stranger(child, parent, content)
                continue
            rank, name, repeats = slot
            if rank < last:
                in_order = False
            last = rank
            if name not in fields:
                text = child.text
                fields[name] = text.strip(SPACE) if text else ""
                if repeats:
                    parts[name] = [child]
            elif repeats:
                parts[name].append(child)
            else:
                self._add(fault("CAP-ELEMENT-DUPLICATE", name=name, parent=_name(parent)), child)
        if not in_order:
            self._disorder(parent, slots)
        if not fields.keys() >= content.required:
            for name in sorted(content.required - fields.keys()):
                self._add(fault("CAP-ELEMENT-MISSING", name=name, parent=_name(parent)), parent)
        return fields, parts

    def _stranger(self, child: etree._Element, parent: etree._Element, content: Content) -> None:
        if not self._strangers:
            forbid_xinclude(self.root)
        self._strangers += 1
        name = etree.QName(child)
        if name.namespace == XMLDSIG and content is self.grammar.alert:
            if self._strangers == rules.MAX_SIGNATURES + 1:
                limit = str(rules.MAX_SIGNATURES)
                self._add(
                    fault("CAP-LIMIT", name="Signature", count=f"more than {limit}", limit=limit), child
                )
            follower = child.getnext()
            if follower is not None and follower.tag in content.slots:
                where = {"where": "after", "where_ja": "後ろ", "other": "info"}
                self._add(fault("CAP-ELEMENT-ORDER", name=name.localname, **where), child)
        elif name.namespace == self.grammar.namespace:
            self._add(
                fault(
                    "CAP-ELEMENT-UNKNOWN",
                    name=name.localname[:60],
                    parent=_name(parent),
                    version=self.grammar.version,
                ),
                child,
            )
        else:
            namespace = shown(name.namespace) if name.namespace else "no namespace"
            self._add(fault("CAP-ELEMENT-FOREIGN", name=name.localname[:60], namespace=namespace), child)

    def _disorder(self, parent: etree._Element, slots: Mapping[str, Slot]) -> None:
        """Name the fewest elements that would have to move."""
        children = [(slot.rank, child) for child in parent if (slot := slots.get(child.tag)) is not None]
        staying = _longest_rise([rank for rank, _ in children])
        kept = [children[n] for n in staying]
        ranks = [rank for rank, _ in kept]
        stays = set(staying)
        for n, (rank, child) in enumerate(children):
            if n in stays:
                continue
            after = bisect_right(ranks, rank)
            where, where_ja = ("before", "前") if after < len(kept) else ("after", "後ろ")
            other = _name(kept[min(after, len(kept) - 1)][1])
            args = {"name": _name(child), "where": where, "where_ja": where_ja, "other": other}
            self._add(fault("CAP-ELEMENT-ORDER", **args), child)

    def _empty(self, parent: etree._Element, fields: _Fields, name: str) -> None:
        """Note that a required text is empty; one that is not there at all is noted as missing."""
        if name in fields:
            self._add(fault("CAP-TEXT-EMPTY", name, name=name), parent)

    def _no_value(self, parent: etree._Element, fields: _Fields, name: str) -> None:
        if name in fields:
            self._add(rules.no_value(name, fields[name], self.grammar.values[name]), parent, name)

    def _time(self, parent: etree._Element, fields: _Fields, name: str) -> datetime | None:
        text = fields.get(name)
        if text is None:
            return None
        read = self._times.get(text)
        if read is None:
            read = self._times[text] = rules.instant(text)
        if text.endswith("+00:00"):
            self._add(fault("CAP-TIME-UTC", name), parent)
        return self._accept(read, parent, name) if isinstance(read, Fault) else read

    def _listed(self, parts: _Parts, name: str) -> tuple[str, ...]:
        elements = parts.get(name)
        if elements is None:
            return ()
        allowed = self.grammar.values[name]
        found = []
        for element in elements:
            text = _content(element)
            if text in allowed:
                found.append(text)
            else:
                self._add(rules.no_value(name, text, allowed), element)
        return tuple(found)

    def _check_texts(self, parent: etree._Element, fields: _Fields) -> None:
        for name, text in fields.items():
            if name not in _NOT_TEXT:
                self._note(rules.judge_text(name, text), parent)

    def _accept(self, read: _Value | Fault, element: etree._Element, name: str = "") -> _Value | None:
        if isinstance(read, Fault):
            self._add(read, element, name)
            return None
        return read

    def _note(self, faults: Sequence[Fault], element: etree._Element, parts: _Parts | None = None) -> None:
        for found in faults:
            if parts and found.at in parts:
                self._add(found, parts[found.at][found.n], "")
            else:
                self._add(found, element, found.at)

    def _add(self, found: Fault, element: etree._Element, at: str | None = None) -> None:
        """Note a fault of an element, or of its child `at` (else the one that the fault names), as far as that is there."""
        is_error = RULES[found.rule].severity is ProblemSeverity.ERROR
        notes = self._errors if is_error else self._remarks
        if len(notes) == MAX_PROBLEMS:
            self._dropped = True
            if is_error:
                raise _TooManyErrors
            return
        name = found.at if at is None else at
        child = element.find(self._tag + name) if name else None
        notes.append((found, element if child is None else child))

    # The second judge

    def _agrees_with_the_schema(self) -> bool:
        validator = _validators.of(self.grammar.version)
        if validator.validate(self.root):
            return True
        self._explain_the_rest()
        if not self._errors:
            entry = cast(Sequence[_SchemaError], validator.error_log)[0]
            reason = " ".join(entry.message.replace(f"{{{self.grammar.namespace}}}", "").split())[:200]
            element = next((e for e in self.root.iter() if _line(e) == entry.line), self.root)
            self._add(fault("CAP-SCHEMA", version=self.grammar.version, reason=reason), element)
        return False

    def _explain_the_rest(self) -> None:
        """Find what reading passes over because valid documents have none of it: attributes, text between elements, elements in texts."""
        forbid_xinclude(self.root)  # it may hide inside a text, where reading does not look
        contents = self.grammar.containers
        waiting = [(self.root, self.grammar.alert)]
        walked = 0
        while waiting and walked < _WALKED:
            parent, content = waiting.pop()
            self._attributes(parent)
            self._stray_text(parent)
            for child in parent:
                walked += 1
                slot = content.slots.get(child.tag)
                if slot is None:
                    continue
                if slot.name in contents:
                    waiting.append((child, contents[slot.name]))
                    continue
                self._attributes(child)
                allowed = self.grammar.values.get(slot.name)
                if allowed and child.text not in allowed and _content(child) in allowed:
                    self._add(rules.no_value(slot.name, child.text or "", allowed), child)
                if slot.name == "language" and child.text and not _content(child):
                    # Empty it would mean en-US; of white space alone it is no language (XML Schema, default values).
                    self._add(fault("CAP-LANGUAGE-FORM", text=shown(child.text)), child)
                if len(child):
                    self._add(fault("CAP-ELEMENT-NESTED", name=slot.name), child)

    def _attributes(self, element: etree._Element) -> None:
        for name in element.attrib:
            if name not in _ALLOWED_ATTRIBUTES:
                attribute = etree.QName(name).localname[:60]
                self._add(fault("CAP-ATTRIBUTE", name=_name(element), attribute=attribute), element)

    def _stray_text(self, parent: etree._Element) -> None:
        texts = itertools.chain((parent.text,), (child.tail for child in parent))
        stray = next((text for text in texts if text and text.strip(SPACE)), None)
        if stray is not None:
            self._add(fault("CAP-TEXT-STRAY", name=_name(parent), text=shown(stray.strip(SPACE))), parent)


_XSI = "http://www.w3.org/2001/XMLSchema-instance"
# Hints where a schema might be found; nothing is ever fetched.
_ALLOWED_ATTRIBUTES = frozenset({f"{{{_XSI}}}schemaLocation", f"{{{_XSI}}}noNamespaceSchemaLocation"})


class _SchemaError(Protocol):
    """An entry of libxml2's log, which the stubs of lxml leave out."""

    message: str
    line: int


class _Validators(threading.local):
    """The compiled schemas of a thread: a validator keeps the errors of its last document, so no two threads may share one."""

    def __init__(self) -> None:
        self._compiled: dict[str, etree.XMLSchema] = {}

    def of(self, version: str) -> etree.XMLSchema:
        validator = self._compiled.get(version)
        if validator is None:
            validator = etree.XMLSchema(etree.fromstring(schema(f"cap-{version}.xsd")))
            self._compiled[version] = validator
        return validator


_validators = _Validators()


class _Places:
    """Element paths as people write them: an index where there may be several."""

    def __init__(self, grammar: Grammar) -> None:
        self._containers = grammar.containers
        self._numbers: dict[tuple[etree._Element, str], dict[etree._Element, int]] = {}

    def path(self, element: etree._Element) -> str:
        parent = element.getparent()
        if parent is None:
            return f"/{_name(element)}"
        return f"{self.path(parent)}/{self._label(parent, element)}"

    def _label(self, parent: etree._Element, element: etree._Element) -> str:
        tag = element.tag
        numbers = self._numbers.get((parent, tag))
        if numbers is None:
            # Of all siblings at once: counting them anew for each of many problems would take squares of time.
            numbers = {child: n for n, child in enumerate(parent.iterchildren(tag), 1)}
            self._numbers[parent, tag] = numbers
        content = self._containers.get(_name(parent))
        slot = content.slots.get(tag) if content else None
        many = len(numbers) > 1 or (slot is not None and slot.repeats)
        return f"{_name(element)}[{numbers[element]}]" if many else _name(element)


def _problem(found: Fault, path: str, line: int) -> Problem:
    rule = RULES[found.rule]
    return Problem(
        rule.id,
        rule.severity,
        path,
        line,
        rule.message.format_map(found.args),
        rule.message_ja.format_map(found.args),
        rule.help,
        rule.help_ja,
    )


def _content(element: etree._Element) -> str:
    return (element.text or "").strip(SPACE)


def _name(element: etree._Element) -> str:
    return etree.QName(element).localname[:60]


def _line(element: etree._Element) -> int:
    return cast(int | None, element.sourceline) or 0


def _longest_rise(ranks: Sequence[int]) -> list[int]:
    """Return the indexes of a longest subsequence that never falls."""
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for n, rank in enumerate(ranks):
        place = bisect_right(tails, rank)
        before.append(ends[place - 1] if place else -1)
        tails[place : place + 1] = [rank]
        ends[place : place + 1] = [n]
    rise: list[int] = []
    n = ends[-1] if ends else -1
    while n >= 0:
        rise.append(n)
        n = before[n]
    return rise[::-1]
