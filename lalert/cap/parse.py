"""Bytes to an `Alert`, and every problem of the document with its place: the schema first, then one pass over the tree for all that it cannot say."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Final, NamedTuple, TypeVar, cast

from lxml import etree

from lalert.cap import edxl, rules
from lalert.cap.catalogue import RULES
from lalert.cap.grammar import ALL_VALUES, GRAMMARS, VERY_LIKELY, XMLDSIG, Content, Grammar, Slot, grammar
from lalert.cap.opening import Unreadable, forbid_xinclude, open_document
from lalert.cap.rules import SPACE, Fault, fault, printable, shown
from lalert.cap.tolerance import DECIDING, GRADES, IDLE, UNAMBIGUOUS, Repair, repair_of
from lalert.cap.trees import complaint, content_of, line_of, name_of, validator
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

MAX_PROBLEMS: Final = 200
"""As many problems of one document are reported; who sends more faults than that has a fault in the program, not in the text."""

LIMITS: Final = {"info": 500, "area": 4_000, "polygon": 5_000, "circle": 2_000, "resource": 1_000}
"""So many of these at most in one document: every municipality in two languages is 3,800 areas."""

MAX_RINGS: Final = 1_920
"""So many different polygons at most: one for every municipality and ward. Those of an info in another language are the same."""

MAX_CHILDREN: Final = 8_000
"""So many elements directly in one at most."""

MAX_FORGIVEN: Final = 2_500
"""As many faults of one document a tolerant policy forgives: a typo in the area of every municipality is one program's one mistake."""

_WALKED = 20_000  # elements looked at for attributes and stray text, once a document is known to be wrong
_MANY_CHILDREN = 1_000
_MANY_INSIDE = 50  # elements within one out of place: more are no typo
_MANY_REPAIRS = 100  # polygons of one document that are repaired
# Characters of polygons with faults that are looked at closely, and what each of them counts at least: a thousand points may cost ten
# milliseconds, five half a one. Of the others that cross themselves the convex hull is taken.
_LOOKED_AT = 20_000
_A_LOOK = 300
# Above this many bytes reading comes before the schema: libxml2 notes every error of a document, and there may be tens of thousands.
_SCHEMA_FIRST = 32_768


@dataclass(frozen=True, slots=True)
class Report:
    """What an examination found: the version of CAP (None if it is none), all problems, and the alert.

    There is an alert whenever the document can be read and is safe. It is valid only if no problem is an error; one with errors is for those alone who
    tolerate its sender's (docs/cap-rules.md): what was made of each faulty place is then told in the `repair` of the problem.
    """

    version: str | None
    problems: tuple[Problem, ...]
    alert: Alert | None
    envelope: edxl.Envelope | None = None

    @property
    def valid(self) -> bool:
        """Say whether the document is an alert without errors; warnings and advice do not count."""
        return self.alert is not None and not has_errors(self.problems)


def has_errors(problems: Iterable[Problem]) -> bool:
    """Say whether there is an error among the problems."""
    return any(problem.severity is ProblemSeverity.ERROR for problem in problems)


def parse(raw: bytes, *, tolerant: bool = False, ground: edxl.Ground | None = None) -> Alert:
    """Return the alert that a document is, with its bytes in `raw` and its problems in `defects`: its errors, if it is tolerated, and warnings.

    How it could be better is not of interest to those whom it is for: of a valid alert, advice is told by `examine` alone.

    Raises `NotXml` for what cannot or must not be read (not well-formed, a DOCTYPE, beyond a limit) and `InvalidAlert`
    with every problem found for what is no valid CAP 1.0, 1.1 or 1.2; tolerant, only for what no policy forgives. `ground`
    returns the territory of a municipality code, for the target area of an EDXL envelope where one side is drawn and the other coded. Takes about
    0.1 ms for an alert of 5 kB; above 64 kB call it from a thread.
    """
    report = _examined(raw, ground, advise=False)
    if report.alert is None or (report.problems and not tolerant and not report.valid):
        raise InvalidAlert(report.problems)
    return report.alert


def examine(raw: bytes, *, ground: edxl.Ground | None = None) -> Report:
    """Return everything there is to say about a document; never raises for what is in it. `ground` is as in `parse`."""
    try:
        return _examined(raw, ground, advise=True)
    except Unreadable as unreadable:
        return Report(None, (unreadable.problem,), None)


def _examined(raw: bytes, ground: edxl.Ground | None, *, advise: bool) -> Report:
    root, data = open_document(raw, indented=False)
    if root.tag not in GRAMMARS and edxl.is_envelope(root):
        return _enveloped(edxl.unwrap(*open_document(raw)), ground, advise=advise)
    return _document(root, data, raw, advise=advise)


def _enveloped(envelope: edxl.Envelope, ground: edxl.Ground | None, *, advise: bool) -> Report:
    """Return what is found in an envelope and in the document that it holds; the alert's bytes are the document's."""
    inner = Report(None, (), None)
    if envelope.document is not None:
        try:
            opened = open_document(envelope.document, indented=False)
            inner = _document(*opened, envelope.document, advise=advise)
        except Unreadable as unreadable:
            inner = Report(None, (unreadable.problem,), None)
    problems, alert = envelope.judge(inner.problems, inner.alert, ground)
    return Report(inner.version, problems, alert, envelope)


def _document(root: etree._Element, data: bytes, raw: bytes, *, advise: bool) -> Report:
    version = GRAMMARS.get(root.tag)
    if version is None:
        name = etree.QName(root)
        where, where_ja = " without a namespace", "(名前空間なし)"
        if name.namespace:
            namespace = shown(name.namespace)
            where, where_ja = f" in the namespace {namespace}", f"(名前空間{namespace})"
        tag = f"<{name_of(root)}>"
        found = fault("CAP-ROOT", found=f"{tag}{where}", found_ja=f"{tag}{where_ja}")
        return Report(None, (_problem(found, f"/{name_of(root)}", line_of(root)),), None)
    reader = _Reader(root, version, data)
    alert = reader.read(raw, advise=advise)
    problems = reader.problems() if alert is None else alert.defects
    return Report(reader.grammar.version, problems, alert)


def _marks_in(data: bytes) -> tuple[bool, bool]:
    """Say whether a text may hold what `rules.judge_text` looks for (HTML needs a reference or a CDATA section), and whether a control character."""
    # Single bytes first, because those are found at once.
    references = b"&" in data
    markup = references or (b"!" in data and b"<![CDATA[" in data)
    controls = (references and b"&#" in data) or b"\x7f" in data
    if not controls and b"\xe2" in data:
        controls = any(control in data for control in _BIDI)
    if not controls and b"\xc2" in data:
        controls = any(control in data for control in _C1)
    return markup or controls, controls


_BIDI = tuple(chr(code).encode() for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))
_C1 = tuple(chr(code).encode() for code in range(0x80, 0xA0))


_WARNINGS = frozenset(rule.id for rule in RULES.values() if rule.severity is ProblemSeverity.WARNING)
# Faults of a resource by which a part of it is of no use.
_NOT_TO_BE_USED = frozenset({"CAP-URI", "CAP-DEREF", "CAP-DIGEST"})

UNDETERMINED: Final = "und"
"""The language of a text whose language is not known (ISO 639-2)."""

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
        {text: _certainty(text) for text in values["certainty"]},
    )


def _certainty(text: str) -> Certainty:
    # CAP 1.1 replaced "Very Likely" by "Observed" and says that it is to be read as Likely.
    return Certainty.LIKELY if text == VERY_LIKELY else Certainty(text)


class _TooManyErrors(Exception):
    """Enough errors are known; reading on would only cost time."""


class _Reader:
    """One reading of one document: builds the alert and notes every fault with its element."""

    _msg_type: MsgType | None = None
    _dropped = False
    _strangers = 0
    _repairs = 0
    _looked_at = 0
    _forgiven = 0
    _last_times: object = ()
    _times_found: Sequence[Fault] = ()
    _last_web = ""

    def __init__(self, root: etree._Element, grammar: Grammar, data: bytes) -> None:
        self.root = root
        self.grammar = grammar
        self._containers = grammar.containers
        self._words = _words(grammar.namespace)
        self._tag = f"{{{grammar.namespace}}}"
        self._look_at_texts, self._controls = _marks_in(data)
        self._errors: list[tuple[Fault, etree._Element]] = []
        self._remarks: list[tuple[Fault, etree._Element]] = []
        # The infos of one alert in several languages have the same areas and times.
        self._rings: dict[str, Ring | Fault] = {}
        self._times: dict[str, datetime | Fault] = {}
        self._counts: dict[str, int] = {}
        # What the schema has found to be in its place needs no second look there.
        self._schema_first = len(data) <= _SCHEMA_FIRST
        self._sound = self._schema_first and validator(grammar.schema).validate(root)

    def read(self, raw: bytes, *, advise: bool) -> Alert | None:
        """Return the alert, None if it has an error that no policy forgives; `problems` then says which.

        Unless told to `advise`, of a sound one only the warnings are listed.
        """
        try:
            alert = self._alert(raw)
            if not self._sound and (self._errors or not self._agrees_with_the_schema()):
                self._explain_the_rest()
                if not self._errors:
                    self._name_the_schema()
        except _TooManyErrors:
            return None
        if self._remarks and not advise and not self._errors:
            self._remarks = [each for each in self._remarks if each[0].rule in _WARNINGS]
        if alert is None or not (self._errors or self._remarks):
            return alert
        if any(self._repair(found, element) is None for found, element in self._errors):
            return None
        return replace(alert, defects=self.problems())

    def problems(self) -> tuple[Problem, ...]:
        """Return what was found, in the order of the document; errors come before remarks where not all can be listed."""
        places = _Places(self.grammar)
        found = [*self._errors, *self._remarks]
        listed = [
            _problem(f, places.path(e), line_of(e), self._repair(f, e)) for f, e in found[:MAX_PROBLEMS]
        ]
        listed.sort(key=lambda problem: problem.line)
        if self._dropped or len(found) > MAX_PROBLEMS:
            listed.append(_problem(fault("CAP-TOO-MANY", shown=str(len(listed))), "/alert", 0))
        return tuple(listed)

    def _repair(self, found: Fault, element: etree._Element) -> Repair | None:
        """Return what is made of the place of an error under a tolerant policy, None if no policy forgives it, or if it is no error."""
        if RULES[found.rule].severity is not ProblemSeverity.ERROR:
            return None
        parent = element.getparent()
        return repair_of(found, name_of(element), "" if parent is None else name_of(parent), self._msg_type)

    # alert

    def _alert(self, raw: bytes) -> Alert | None:
        root, words = self.root, self._words
        try:
            fields, parts = self._children(root, self.grammar.alert)
        except KeyError:
            # An element of another namespace: the schema lets signatures be among the children of the root.
            fields, parts = self._judged_children(root, self.grammar.alert)
        identifier = self._name_text(fields, "identifier")
        sender = self._name_text(fields, "sender")
        sent = self._time(root, fields, "sent")
        status = words.status.get(fields.get("status", ""))
        msg_type = self._msg_type = words.msg_type.get(fields.get("msgType", ""))
        scope = words.scope.get(fields.get("scope", ""))
        if status is None:
            self._no_value(root, fields, "status")
        if msg_type is None:
            self._no_value(root, fields, "msgType")
        if scope is None:
            scope = self._no_scope(fields)
        addresses = self._items(fields, "addresses") if "addresses" in fields else ()
        incidents = self._items(fields, "incidents") if "incidents" in fields else ()
        codes = (
            tuple([text for element in parts["code"] if (text := content_of(element))])
            if "code" in parts
            else ()
        )
        restriction = fields.get("restriction") or None
        note = fields.get("note") or None
        if "scope" in fields and (scope is not Scope.PUBLIC or restriction):
            self._note(rules.judge_scope(scope, restriction=restriction, addresses=addresses), root)
        if note is None:
            self._note(rules.judge_note(status, msg_type), root)
        if "password" in fields:
            self._add(fault("CAP-PASSWORD", "password"), root)
        references: tuple[Reference, ...] = ()
        if "references" in fields or msg_type is not MsgType.ALERT:
            me = None
            if identifier and sender and sent:
                me = Reference(sender, identifier, fields["sent"], sent)
            references = self._references(fields, msg_type, me)
        if self._look_at_texts:
            self._check_texts(root, fields)
            for element in parts.get("code", ()):
                self._note(rules.judge_text("code", content_of(element)), element)
        infos = self._infos(parts.get("info", ()), sent)
        if (
            not infos
            and msg_type not in (MsgType.ACK, MsgType.ERROR)
            and not (msg_type is MsgType.CANCEL and note)
        ):
            self._add(fault("CAP-INFO-MISSING"), root)  # what a Cancel tells people is its reason
        if identifier is None or sender is None or sent is None:
            return None
        if status is None or msg_type is None or scope is None:
            return None
        return Alert(  # by position, in the order of the model: names would cost half a microsecond
            identifier,
            sender,
            sent,
            status,
            msg_type,
            scope,
            fields["sent"] if self._times[fields["sent"]] is sent else rules.written(sent),
            self.grammar.version,
            fields.get("source") or None,
            restriction,
            addresses,
            codes,
            note,
            references,
            incidents,
            infos,
            raw,
        )

    def _name_text(self, fields: _Fields, name: str) -> str | None:
        """Return identifier or sender as written: white space round them counts, since references repeat them."""
        if not fields.get(name):
            self._empty(self.root, fields, name)
            return None
        first = self.root[name == "sender"] if self._sound else self.root.find(self._tag + name)
        text = first.text or "" if first is not None else ""
        if found := rules.judge_name(name, text):
            self._note(found, self.root)
            return text.strip(SPACE)
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
        # Whatever it says of itself, it is not its own predecessor.
        return tuple(found) if me is None else tuple(ref for ref in found if not rules.same(ref, me))

    def _infos(self, elements: Sequence[etree._Element], sent: datetime | None) -> tuple[Info, ...]:
        self._count("info", elements)
        infos: list[Info] = []
        texts: list[tuple[str, _Fields]] = []
        for element in elements:
            fields, parts = self._children(element, self.grammar.info)
            language = fields.get("language") or "en-US"
            texts.append((language, fields))
            infos.append(self._info(element, fields, parts, language, sent))
        if len(texts) > 1 and (len(texts) > 2 or rules.repeated(texts[0][1], texts[1][1])):
            for n, found in rules.judge_translations(texts):
                self._add(found, elements[n])
        return tuple(infos)

    # info

    def _info(
        self, element: etree._Element, fields: _Fields, parts: _Parts, language: str, sent: datetime | None
    ) -> Info:
        words = self._words
        event = fields.get("event")
        if not event:
            self._empty(element, fields, "event")
            event = rules.event_instead(fields)
        categories = self._listed(fields, parts, "category")
        if len(categories) > 1:
            self._note(rules.judge_categories(categories), element, parts)
        responses = self._listed(fields, parts, "responseType")
        urgency = words.urgency.get(fields.get("urgency", "")) or Urgency(
            self._no_value(element, fields, "urgency")
        )
        severity = words.severity.get(fields.get("severity", "")) or Severity(
            self._no_value(element, fields, "severity")
        )
        certainty = words.certainty.get(fields.get("certainty", "")) or _certainty(
            self._no_value(element, fields, "certainty")
        )
        effective = self._time(element, fields, "effective") if "effective" in fields else None
        onset = self._time(element, fields, "onset") if "onset" in fields else None
        expires = self._time(element, fields, "expires") if "expires" in fields else None
        web = fields.get("web") or None
        if language not in rules.USUAL_LANGUAGES and (found := rules.judge_language(language)):
            self._note(found, element)
            if found[0].rule == "CAP-LANGUAGE-FORM":
                language = UNDETERMINED
        times = (effective, onset, expires)
        if times != self._last_times:
            self._last_times, self._times_found = times, rules.judge_times(sent, effective, onset, expires)
        if found := self._times_found:
            self._note(found, element)
            if any(fault.rule == "CAP-EXPIRES-BEFORE" for fault in found):
                expires = None
        if found := rules.judge_info(fields, self.grammar.version):
            self._note(found, element)
        if web is not None and web != self._last_web:
            if found := rules.judge_web(web):
                self._note(found, element)
                web = None
            else:
                self._last_web = web
        if self._look_at_texts:
            self._check_texts(element, fields)
        areas: tuple[Area, ...] = ()
        if "area" in parts:
            self._count("area", parts["area"])
            areas = tuple([self._area(e) for e in parts["area"]])
        else:
            self._add(fault("CAP-AREA-MISSING"), element)
        if "resource" in parts:
            self._count("resource", parts["resource"])
        get = fields.get
        return Info(  # by position, in the order of the model: names would cost a microsecond
            event,
            categories,
            urgency,
            severity,
            certainty,
            language,
            responses,
            get("audience") or None,
            self._pairs(parts["eventCode"]) if "eventCode" in parts else (),
            effective,
            onset,
            expires,
            get("senderName") or None,
            get("headline") or None,
            get("description") or None,
            get("instruction") or None,
            web,
            get("contact") or None,
            self._pairs(parts["parameter"]) if "parameter" in parts else (),
            tuple([self._resource(e) for e in parts["resource"]]) if "resource" in parts else (),
            areas,
        )

    def _pairs(self, elements: Sequence[etree._Element]) -> tuple[NamedValue, ...]:
        found = []
        plain = self._sound and self.grammar.pairs
        for element in elements:
            if plain:
                # Nearly all pairs, and there may be thousands; _pair would say the same.
                first, second = element
                key, value = first.text, second.text
                if key and value and (key := key.strip(SPACE)) and (value := value.strip(SPACE)):
                    found.append(NamedValue(key, value))
                    if self._look_at_texts and self._suspicious(key + value):
                        self._check_texts(element, {"valueName": key, "value": value})
                    continue
            pair = self._pair(element)
            if pair is not None:
                found.append(pair)
        return tuple(found)

    def _pair(self, element: etree._Element) -> NamedValue | None:
        """Return a name and its value, None where one of the two is not there at all."""
        if not self.grammar.pairs:
            read = self._accept(rules.pair(content_of(element)), element)
            if read is not None and not read.value:
                self._add(fault("CAP-PAIR-EMPTY", name="value", parent=name_of(element)), element)
            return read
        fields, _ = self._children(element, self.grammar.pair)
        for name, text in fields.items():
            if not text:
                self._add(fault("CAP-PAIR-EMPTY", name, name=name, parent=name_of(element)), element)
        if self._look_at_texts:
            self._check_texts(element, fields)
        return NamedValue(fields["valueName"], fields["value"]) if len(fields) == 2 else None

    # resource

    def _resource(self, element: etree._Element) -> Resource:
        fields, _ = self._children(element, self.grammar.resource)
        desc, mime_type = fields.get("resourceDesc"), fields.get("mimeType")
        if not desc:
            self._empty(element, fields, "resourceDesc")
        if not mime_type:
            self._empty(element, fields, "mimeType")
        elif found := rules.judge_mime_type(mime_type):
            self._note(found, element)
            mime_type = None
        size = None
        if "size" in fields:
            size = self._accept(rules.size(fields["size"]), element, "size")
        given = {name: fields.get(name) or None for name in ("uri", "derefUri", "digest")}
        for wrong in rules.judge_resource(
            uri=given["uri"], deref_uri=given["derefUri"], size=size, digest=given["digest"]
        ):
            self._add(wrong, element)
            if wrong.rule in _NOT_TO_BE_USED:
                given[wrong.at] = None
        if given["derefUri"] is None and not rules.is_absolute(given["uri"] or ""):
            given["uri"] = None  # a name in the content that was not to be used
        if self._look_at_texts:
            self._check_texts(element, fields)
        return Resource(desc or "", mime_type or None, size, *given.values())

    # area

    def _area(self, element: etree._Element) -> Area:
        fields, parts = self._children(element, self.grammar.area)
        desc = fields.get("areaDesc")
        if not desc:
            self._empty(element, fields, "areaDesc")
            desc = ""
        if not parts or len(desc) > rules.MAX_AREA_DESC:
            self._note(rules.judge_area(desc, placed=bool(parts)), element)
        geocodes = self._pairs(parts["geocode"]) if "geocode" in parts else ()
        circles = self._circles(parts["circle"]) if "circle" in parts else ()
        polygons: tuple[Ring, ...] = ()
        if "polygon" in parts:
            polygons = self._polygons(parts["polygon"], elsewhere=bool(geocodes or circles))
        altitude = ceiling = None
        if "altitude" in fields:
            altitude = self._accept(rules.height(fields["altitude"]), element, "altitude")
        if "ceiling" in fields:
            ceiling = self._accept(rules.height(fields["ceiling"]), element, "ceiling")
            written = "altitude" in fields
            if found := rules.judge_heights(altitude, ceiling, altitude_written=written):
                self._note(found, element)
                ceiling = None
            if altitude is None:
                ceiling = None  # without a lower end it means nothing
        if self._look_at_texts:
            self._check_texts(element, fields)
        return Area(desc, polygons, circles, geocodes, altitude, ceiling)

    def _polygons(self, elements: Sequence[etree._Element], *, elsewhere: bool) -> tuple[Ring, ...]:
        """Return the rings of an area; `elsewhere` says whether the area is a place without them."""
        self._count("polygon", elements)
        if (
            len(elements) > MAX_RINGS
            and (different := len({element.text for element in elements})) > MAX_RINGS
        ):
            self._refuse("polygon", different, MAX_RINGS, elements[-1])
        found: list[Ring] = []
        empty: list[tuple[Fault, etree._Element]] = []
        for element in elements:
            text = element.text or ""
            read = self._rings.get(text)
            if read is None:
                read = self._rings[text] = rules.ring(text, mend=self._mending)
                if isinstance(read, Fault):
                    self._repairs += 1
                    self._looked_at += _A_LOOK + len(text)
                if len(self._rings) > MAX_RINGS:
                    self._refuse("polygon", len(self._rings), MAX_RINGS, element)
            if not isinstance(read, Fault):
                found.append(read)
            elif read.value is rules.NOBODY:
                empty.append((read, element))
            else:
                self._add(read, element)
                found.extend(cast(tuple[Ring, ...], read.value or ()))
        for unfilled, element in empty:
            # Nobody is inside of it. What matters is that the area is a place without it.
            self._add(replace(unfilled, value=() if found or elsewhere else None), element)
        return tuple(found)

    @property
    def _mending(self) -> rules.Mending:
        if self._repairs >= _MANY_REPAIRS:
            return rules.Mending.HARDLY
        return rules.Mending.CLOSELY if self._looked_at < _LOOKED_AT else rules.Mending.ROUGHLY

    def _circles(self, elements: Sequence[etree._Element]) -> tuple[Circle, ...]:
        self._count("circle", elements)
        found = []
        for element in elements:
            read: object = rules.circle(element.text or "", old=not self.grammar.pairs)
            if isinstance(read, Fault):
                self._add(read, element)
                read = read.value
            if isinstance(read, Circle):
                if remarks := rules.judge_circle(read):
                    self._note(remarks, element)
                found.append(read)
        return tuple(found)

    # What all elements have in common

    def _children(self, parent: etree._Element, content: Content) -> tuple[_Fields, _Parts]:
        """Return the children by name: the text of each (of the first, if it may be repeated) and the elements that may be repeated.

        White space round a text is dropped: indentation is not part of what was said. Notes all that is out of place, unless the schema has found
        that nothing is.
        """
        if not self._sound:
            return self._judged_children(parent, content)
        fields: _Fields = {}
        parts: _Parts = {}
        single, repeated = content.single, content.repeated
        for child in parent:
            tag = child.tag
            if tag in single:
                fields[single[tag]] = (child.text or "").strip(SPACE)
                continue
            name = repeated[tag]
            if name in parts:
                parts[name].append(child)
            else:
                parts[name] = [child]
                fields[name] = (child.text or "").strip(SPACE)
        return fields, parts

    def _judged_children(self, parent: etree._Element, content: Content) -> tuple[_Fields, _Parts]:
        if len(parent) > MAX_CHILDREN:
            self._refuse(name_of(parent), len(parent), MAX_CHILDREN, parent)
        fields: _Fields = {}
        parts: _Parts = {}
        slots, containers = content.slots, self._containers
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
            text = child.text
            if len(child) and name not in containers:
                text = "".join(child.itertext())  # type: ignore[arg-type]  # the stubs allow for bytes
            text = text.strip(SPACE) if text else ""
            if name not in fields:
                fields[name] = text
                if repeats:
                    parts[name] = [child]
            elif repeats:
                parts[name].append(child)
            else:
                fields[name] = self._duplicate(child, parent, name, fields[name], text)
        if not in_order:
            self._disorder(parent, slots)
        if not fields.keys() >= content.required:
            for name in sorted(content.required - fields.keys()):
                self._add(fault("CAP-ELEMENT-MISSING", name=name, parent=name_of(parent)), parent)
        return fields, parts

    def _duplicate(
        self, child: etree._Element, parent: etree._Element, name: str, first: str, text: str
    ) -> str:
        """Note that an element stands twice; returns the text that a tolerant policy takes."""
        args = {"name": name, "parent": name_of(parent)}
        self._add(Fault("CAP-ELEMENT-DUPLICATE", "", 0, args, "same" if text == first else None), child)
        grades = GRADES.get(name)
        if grades and {first, text} <= set(grades):
            return min(first, text, key=grades.index)
        return first or text

    def _count(self, name: str, elements: Sequence[etree._Element]) -> None:
        """Refuse more of an element, in the whole document, than any alert has: each costs time."""
        if self._sound and name != "info":
            return  # there is no room for so many in a document that small
        count = self._counts[name] = self._counts.get(name, 0) + len(elements)
        if count > LIMITS[name]:
            self._refuse(name, count, LIMITS[name], elements[-1])

    def _refuse(self, name: str, count: int, limit: int, element: etree._Element) -> None:
        self._add(fault("CAP-LIMIT", name=name, count=str(count), limit=str(limit)), element)
        raise _TooManyErrors

    def _stranger(self, child: etree._Element, parent: etree._Element, content: Content) -> None:
        if not self._strangers:
            forbid_xinclude(self.root)
        self._strangers += 1
        name = etree.QName(child)
        if name.namespace == XMLDSIG and content is self.grammar.alert:
            if self._strangers == rules.MAX_SIGNATURES + 1:
                limit = str(rules.MAX_SIGNATURES)
                count = str(len(parent.findall(f"{{{XMLDSIG}}}*")))
                self._add(fault("CAP-LIMIT", name="Signature", count=count, limit=limit), child)
            follower = child.getnext()
            if follower is not None and follower.tag in content.slots:
                where = {"where": "after", "where_ja": "後ろ", "other": "info"}
                self._add(fault("CAP-ELEMENT-ORDER", name=name_of(child), **where), child)
        elif name.namespace == self.grammar.namespace:
            args = {"name": name_of(child), "parent": name_of(parent), "version": self.grammar.version}
            self._add(Fault("CAP-ELEMENT-UNKNOWN", "", 0, args, _idle(child)), child)
        else:
            namespace, namespace_ja = (
                (shown(name.namespace),) * 2 if name.namespace else ("no namespace", "名前空間なし")
            )
            args = {"name": name_of(child), "namespace": namespace, "namespace_ja": namespace_ja}
            self._add(Fault("CAP-ELEMENT-FOREIGN", "", 0, args, _idle(child)), child)

    def _disorder(self, parent: etree._Element, slots: Mapping[str, Slot]) -> None:
        """Name the fewest elements that would have to move (of very many, all that stand after one that belongs behind them)."""
        children = [(slot.rank, child) for child in parent if (slot := slots.get(child.tag)) is not None]
        order = [rank for rank, _ in children]
        staying = _longest_rise(order) if len(order) <= _MANY_CHILDREN else _first_rise(order)
        kept = [children[n] for n in staying]
        ranks = [rank for rank, _ in kept]
        stays = set(staying)
        for n, (rank, child) in enumerate(children):
            if n in stays:
                continue
            after = bisect_right(ranks, rank)
            where, where_ja = ("before", "前") if after < len(kept) else ("after", "後ろ")
            other = name_of(kept[min(after, len(kept) - 1)][1])
            args = {"name": name_of(child), "where": where, "where_ja": where_ja, "other": other}
            self._add(fault("CAP-ELEMENT-ORDER", **args), child)

    def _empty(self, parent: etree._Element, fields: _Fields, name: str) -> None:
        """Note that a required text is empty; one that is not there at all is noted as missing."""
        if name in fields:
            self._add(fault("CAP-TEXT-EMPTY", name, name=name), parent)

    def _no_value(self, parent: etree._Element, fields: _Fields, name: str) -> str:
        """Note that a text is none of the element's values; returns the one that is meant, if that is beyond doubt, else Unknown."""
        if name not in fields:
            return "Unknown"
        found = rules.no_value(name, fields[name], self.grammar.values[name], ALL_VALUES[name])
        self._add(found, parent, name)
        return cast(str, found.value or "Unknown")

    def _time(self, parent: etree._Element, fields: _Fields, name: str) -> datetime | None:
        text = fields.get(name)
        if text is None:
            return None
        read = self._times.get(text)
        if read is None:
            read = self._times[text] = rules.instant(text)
        if text.endswith("+00:00"):
            self._add(fault("CAP-TIME-UTC", name), parent)
        if isinstance(read, Fault):
            self._add(read, parent, name)
            return cast(datetime | None, read.value or None)
        return read

    def _listed(self, fields: _Fields, parts: _Parts, name: str) -> tuple[str, ...]:
        elements = parts.get(name)
        if elements is None:
            return ()
        if self._sound and len(elements) == 1:
            return (fields[name],)
        allowed = self.grammar.values[name]
        found = []
        for element in elements:
            text = content_of(element)
            if text in allowed:
                found.append(text)
            else:
                wrong = rules.no_value(name, text, allowed, ALL_VALUES[name])
                self._add(wrong, element)
                if isinstance(wrong.value, str):
                    found.append(wrong.value)
        return tuple(found)

    def _check_texts(self, parent: etree._Element, fields: _Fields) -> None:
        if not self._suspicious("".join(fields.values())):
            return
        for name, text in fields.items():
            if name not in _NOT_TEXT:
                self._note(rules.judge_text(name, text), parent)

    def _suspicious(self, text: str) -> bool:
        """Say whether `rules.judge_text` can find anything."""
        return "&" in text or "<" in text or (self._controls and rules.has_control(text))

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
        if len(notes) == MAX_PROBLEMS and not is_error:
            self._dropped = True
            return
        name = found.at if at is None else at
        child = element.find(self._tag + name) if name else None
        place = element if child is None else child
        if len(notes) < MAX_PROBLEMS:
            notes.append((found, place))
        else:
            self._one_more_error(found, place)

    def _one_more_error(self, found: Fault, element: etree._Element) -> None:
        """Read on only while all that is wrong may be forgiven: else what more there is would only cost time."""
        self._dropped = True
        unforgiven = not self._forgiven and any(self._repair(*error) is None for error in self._errors)
        self._forgiven += 1
        if unforgiven or self._forgiven > MAX_FORGIVEN or self._repair(found, element) is None:
            raise _TooManyErrors

    # The second judge

    def _agrees_with_the_schema(self) -> bool:
        # Where the schema came first, it has said no.
        return not self._schema_first and validator(self.grammar.schema).validate(self.root)

    def _name_the_schema(self) -> None:
        """Note what the schema says of a document in which nothing else was found."""
        reason, element = complaint(self.grammar.schema, self.root, self.grammar.namespace)
        self._add(fault("CAP-SCHEMA", version=self.grammar.version, reason=reason), element)

    def _explain_the_rest(self) -> None:
        """Find what reading passes over because valid documents have none of it: attributes, text between elements, elements in texts."""
        forbid_xinclude(self.root)  # it may hide inside a text, where reading does not look
        contents = self._containers
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
                if allowed and child.text not in allowed and content_of(child) in allowed:
                    self._add(rules.no_value(slot.name, child.text or "", allowed, allowed), child)
                if slot.name == "language" and child.text and not content_of(child):
                    # Empty it would mean en-US; of white space alone it is no language (XML Schema, default values).
                    self._add(fault("CAP-LANGUAGE-FORM", text=shown(child.text)), child)
                if len(child):
                    idle = len(child) <= _MANY_INSIDE and all(map(_idle, child))
                    args = {"name": slot.name}
                    self._add(Fault("CAP-ELEMENT-NESTED", "", 0, args, IDLE if idle else None), child)

    def _attributes(self, element: etree._Element) -> None:
        for name in element.attrib:
            if name not in _ALLOWED_ATTRIBUTES:
                local = etree.QName(name).localname
                args = {"name": name_of(element), "attribute": printable(local[:60])}
                decides = local.lower() in DECIDING or args["name"] in UNAMBIGUOUS
                self._add(Fault("CAP-ATTRIBUTE", "", 0, args, None if decides else IDLE), element)

    def _stray_text(self, parent: etree._Element) -> None:
        texts = itertools.chain((parent.text,), (child.tail for child in parent))
        stray = next((text for text in texts if text and text.strip(SPACE)), None)
        if stray is not None:
            self._add(fault("CAP-TEXT-STRAY", name=name_of(parent), text=shown(stray.strip(SPACE))), parent)


_XSI = "http://www.w3.org/2001/XMLSchema-instance"
# Hints where a schema might be found; nothing is ever fetched.
_ALLOWED_ATTRIBUTES = frozenset({f"{{{_XSI}}}schemaLocation", f"{{{_XSI}}}noNamespaceSchemaLocation"})


class _Places:
    """Element paths as people write them: an index where there may be several."""

    def __init__(self, grammar: Grammar) -> None:
        self._containers = grammar.containers
        self._numbers: dict[tuple[etree._Element, str], dict[etree._Element, int]] = {}

    def path(self, element: etree._Element) -> str:
        parent = element.getparent()
        if parent is None:
            return f"/{name_of(element)}"
        return f"{self.path(parent)}/{self._label(parent, element)}"

    def _label(self, parent: etree._Element, element: etree._Element) -> str:
        tag = element.tag
        numbers = self._numbers.get((parent, tag))
        if numbers is None:
            # Of all siblings at once: counting them anew for each of many problems would take squares of time.
            numbers = {child: n for n, child in enumerate(parent.iterchildren(tag), 1)}
            self._numbers[parent, tag] = numbers
        content = self._containers.get(name_of(parent))
        slot = content.slots.get(tag) if content else None
        many = len(numbers) > 1 or (slot is not None and slot.repeats)
        return f"{name_of(element)}[{numbers[element]}]" if many else name_of(element)


def _problem(found: Fault, path: str, line: int, repair: Repair | None = None) -> Problem:
    rule = RULES[found.rule]
    text, text_ja = repair or ("", "")
    return Problem(
        rule.id,
        rule.severity,
        path,
        line,
        rule.message.format_map(found.args),
        rule.message_ja.format_map(found.args),
        rule.help,
        rule.help_ja,
        text,
        text_ja,
    )


def _idle(element: etree._Element) -> str | None:
    """Say whether an element out of place, with all that is in it, has no name of one that decides something."""
    inside = itertools.islice(element.iter(), _MANY_INSIDE + 1)
    names = [etree.QName(each).localname.lower() for each in inside]
    return IDLE if len(names) <= _MANY_INSIDE and DECIDING.isdisjoint(names) else None


def _first_rise(ranks: Sequence[int]) -> list[int]:
    """Return the indexes of what is never below anything before it."""
    highest = list(itertools.accumulate(ranks, max))
    return [n for n, rank in enumerate(ranks) if rank == highest[n]]


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
