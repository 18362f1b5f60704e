"""An envelope opened: the alert in it, what is wrong with the envelope, and where the two disagree."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from lxml import etree

from lalert.cap import rules
from lalert.cap.catalogue import RULES
from lalert.cap.edxl.catalogue import ENVELOPE_RULES
from lalert.cap.edxl.cutting import Inside, cut
from lalert.cap.edxl.elements import (
    ALERTS,
    ALL_TYPES,
    ANY_VERSION,
    COMMONS,
    GRAMMAR,
    NAMESPACE,
    OPEN,
    ROOT,
    STATUSES,
    TYPES,
    XMLENC,
    Content,
    first,
    path_of,
    tag,
    text_of,
)
from lalert.cap.edxl.target import (
    ISO_PLACE,
    ISO_PREFECTURE,
    MAX_PLACES,
    MAX_POINTS,
    Ground,
    Target,
    judge_target,
    shape_of,
)
from lalert.cap.grammar import NAMESPACES, XMLDSIG
from lalert.cap.opening import forbid_xinclude, refusal
from lalert.cap.rules import Fault, printable, shown
from lalert.cap.trees import complaint, content_of, line_of, name_of, validator
from lalert.errors import InvalidCode, Problem, ProblemSeverity
from lalert.geo import normalise_code
from lalert.model import Alert, Area, Circle, Ring, Scope

SCHEMA: Final = "edxl-de-1.0.xsd"
MAX_CONTENTS: Final = 1_000
MAX_FINDINGS: Final = 100
"""As many problems of the envelope itself are reported, of each kind."""

_CAP_TYPES = frozenset({"application/cap+xml", "application/common-alerting-protocol+xml"})
_XML_TYPES = frozenset({"application/xml", "text/xml"})
_UNUSED = frozenset({"recipientRole", "explicitAddress", "keyXMLContent"})
# An envelope's form is not what people are warned by. What says whether it is real, new or over, and where, is never passed over.
_FORGIVEN: Final = frozenset(
    {
        *("EDXL-ELEMENT-UNKNOWN", "EDXL-ELEMENT-ORDER", "EDXL-ELEMENT-DUPLICATE", "EDXL-ELEMENT-MISSING"),
        *("EDXL-SCHEMA", "EDXL-TIME-FORM", "EDXL-TARGET-FORM"),
    }
)
_OPENED = ("the envelope was opened all the same", "そのまま封筒を開いて受け付けました")
_DECIDING = frozenset({"distributionStatus", "distributionType"})


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope as read: the CAP document that it holds, and what is to be said of the envelope itself.

    `document` is the alert's own bytes, None where there is not exactly one to be read; `path` and `line` are where it begins, and `encoded`
    says that it was base64, whose lines are not those of the received document. `hidden` says that there are more errors than are listed.
    """

    problems: tuple[Problem, ...]
    document: bytes | None = None
    path: str = ""
    line: int = 0
    encoded: bool = False
    hidden: bool = False
    said: _Said | None = field(default=None, repr=False)

    def judge(
        self, problems: Iterable[Problem], alert: Alert | None, ground: Ground | None = None
    ) -> tuple[tuple[Problem, ...], Alert | None]:
        """Return all that is to be said of the whole, in the order of the received document, and the alert if it may pass.

        `problems` and `alert` are what was found of the document inside. The alert's defects are then those of the whole. It does not pass if there
        is an error that no policy forgives, such as a drill in a real envelope.
        """
        found = [*self.problems, *map(self.placed, problems)]
        if alert is not None and self.said is not None:
            found += _disagreements(self.said, alert, ground)
        found.sort(key=lambda problem: problem.line)
        found.sort(key=lambda problem: problem.rule == "CAP-TOO-MANY")
        fatal = any(p.severity is ProblemSeverity.ERROR and not p.repair for p in found)
        if alert is None or fatal or self.hidden:
            return tuple(found), None
        return tuple(found), replace(alert, defects=tuple(found))

    def placed(self, problem: Problem) -> Problem:
        """Return a problem of the document as one of the received whole: its path and line in the envelope."""
        line = self.line if self.encoded or not problem.line else self.line + problem.line - 1
        return replace(problem, path=self.path + problem.path.removesuffix("/"), line=line)


def is_envelope(root: etree._Element) -> bool:
    """Say whether the root element is that of an EDXL envelope, of whatever version."""
    name = etree.QName(root)
    return name.localname == ROOT and (name.namespace or "").startswith(ANY_VERSION)


def unwrap(root: etree._Element, data: bytes) -> Envelope:
    """Open an envelope; `root` and `data` are what `open_document` returned for it. Raises `Unreadable` for an XInclude and for too much."""
    forbid_xinclude(root)
    return _Opening(root, data).envelope()


class _Notes:
    """What is found wrong, within bounds: of faults that a policy forgives, of others, and of remarks each, so that none hides another kind."""

    def __init__(self) -> None:
        self._kinds: dict[str, list[Problem]] = {"fatal": [], "forgiven": [], "remark": []}
        self._dropped = False
        self.hidden = False

    def add(self, rule: str, element: etree._Element, /, **args: str) -> None:
        problem = ENVELOPE_RULES[rule]
        error = problem.severity is ProblemSeverity.ERROR
        kind = ("forgiven" if _forgivable(rule, args) else "fatal") if error else "remark"
        if len(self._kinds[kind]) < MAX_FINDINGS:
            self._kinds[kind].append(_problem(rule, element, args))
        else:
            self._dropped = True
            # Nobody forgives what he has not seen.
            self.hidden = self.hidden or error

    @property
    def errors(self) -> bool:
        return bool(self._kinds["fatal"] or self._kinds["forgiven"])

    @property
    def problems(self) -> tuple[Problem, ...]:
        found = [problem for kind in self._kinds.values() for problem in kind]
        if self._dropped:
            found.append(RULES["CAP-TOO-MANY"].finding(f"/{ROOT}", shown=str(len(found))))
        return tuple(found)


def _forgivable(rule: str, args: Mapping[str, str]) -> bool:
    return rule in _FORGIVEN and args.get("name") not in _DECIDING


def _problem(rule: str, element: etree._Element, args: Mapping[str, str]) -> Problem:
    problem = ENVELOPE_RULES[rule].finding(path_of(element), line_of(element), **args)
    if not _forgivable(rule, args):
        return problem
    return replace(problem, repair=_OPENED[0], repair_ja=_OPENED[1])


@dataclass(frozen=True, slots=True)
class _Said:
    """What an envelope says of its content, each with where it says so; None where it does not, or where it cannot be read."""

    status: tuple[str, etree._Element] | None
    type: tuple[str, etree._Element] | None
    sender: tuple[str, etree._Element] | None
    sent: tuple[str, datetime, etree._Element] | None
    secrets: tuple[tuple[str, etree._Element], ...]
    target: Target | None


class _Opening:
    """One envelope being opened."""

    def __init__(self, root: etree._Element, data: bytes) -> None:
        self._root = root
        self._data = data
        self._notes = _Notes()
        contents = sum(1 for _ in root.iter(*_COUNTED))
        if contents > MAX_CONTENTS:
            raise refusal("CAP-XML-LIMIT", what="contents", what_ja="内容", limit=str(MAX_CONTENTS))

    def envelope(self) -> Envelope:
        root = self._root
        namespace = etree.QName(root).namespace
        if namespace != NAMESPACE:
            self._notes.add("EDXL-VERSION", root, namespace=shown(namespace or ""))
            return Envelope(self._notes.problems)
        plain = self._judge_form(root)
        said = self._said()
        found = self._alerts()
        if plain and not self._notes.errors and not validator(SCHEMA).validate(root):
            reason, element = complaint(SCHEMA, root, NAMESPACE)
            self._notes.add("EDXL-SCHEMA", element, reason=reason)
        if len(found) != 1:
            if found:
                self._notes.add("EDXL-CAP-SEVERAL", found[1].holder, count=str(len(found)))
            return Envelope(self._notes.problems)
        inside = found[0]
        path, encoded = path_of(inside.holder), inside.document is not None
        document, line = (inside.document, line_of(inside.holder)) if encoded else cut(self._data, inside)
        notes = self._notes
        return Envelope(notes.problems, document, path, line, encoded, notes.hidden, said)

    # The form

    def _judge_form(self, root: etree._Element) -> bool:
        """Judge every element of the envelope itself; say whether it is plain EDXL-DE, which the schema can judge too."""
        plain = True
        waiting = [root]
        while waiting:
            parent = waiting.pop()
            known, extended = self._judge_children(parent)
            plain = plain and not extended
            waiting += reversed(known)
        return plain

    def _judge_children(self, parent: etree._Element) -> tuple[list[etree._Element], bool]:
        """Judge the children of a container; return those that are containers, and whether an extension is among them."""
        content = GRAMMAR[etree.QName(parent).localname]
        first: dict[str, etree._Element] = {}
        twice: set[str] = set()
        containers: list[etree._Element] = []
        extended = False
        last, last_name = -1, ""
        for child in parent:
            slot = content.slots.get(child.tag)
            if slot is None:
                extended = self._stranger(child, content) or extended
                continue
            extended = extended or slot.extension
            if slot.rank < last:
                self._notes.add("EDXL-ELEMENT-ORDER", child, name=slot.name, other=last_name)
            else:
                last, last_name = slot.rank, slot.name
            if slot.name not in first:
                first[slot.name] = child
            elif not slot.repeats and slot.name not in twice:
                twice.add(slot.name)
                self._notes.add("EDXL-ELEMENT-DUPLICATE", child, name=slot.name, parent=content.name)
            if slot.name in GRAMMAR:
                containers.append(child)
        for name in content.required:
            if name not in first or not content_of(first[name]):
                self._notes.add("EDXL-ELEMENT-MISSING", parent, name=name, parent=content.name)
        for name in _UNUSED & first.keys():
            self._notes.add("EDXL-IGNORED", first[name], name=name)
        return containers, extended

    def _stranger(self, child: etree._Element, content: Content) -> bool:
        """Judge an element that is not of its container; say whether it may stand there all the same, though the schema does not know it."""
        name = etree.QName(child)
        if name.namespace == COMMONS and name.localname not in _DECIDING:
            return True
        if name.namespace == XMLDSIG and content.name in (ROOT, "contentObject"):
            self._notes.add("EDXL-SIGNATURE", child)
            return True
        # After its content a contentObject may have whatever else (EDXL-DE 1.0, 3.2.3); of what is encrypted, _alerts says so.
        allowed = content.name == "contentObject" and name.namespace != NAMESPACE
        if not allowed and name.namespace != XMLENC:
            self._notes.add(
                "EDXL-ELEMENT-UNKNOWN", child, name=printable(name.localname[:60]), parent=content.name
            )
        return False

    # What it says

    def _said(self) -> _Said:
        root = self._root
        secrets = [
            (text, element)
            for element in root.iter(tag("combinedConfidentiality"), tag("confidentiality"))
            if (text := content_of(element)) and not _is_open(text)
        ]
        return _Said(
            status=self._word("distributionStatus", STATUSES),
            type=self._word("distributionType", ALL_TYPES),
            sender=first(root, "senderID"),
            sent=self._sent(),
            secrets=tuple(secrets[:1]),
            target=self._target(),
        )

    def _word(self, name: str, values: Sequence[str]) -> tuple[str, etree._Element] | None:
        found = first(self._root, name)
        if found is None or found[1].text in values:
            return found
        text, element = found
        meant = next((value for value in values if value.lower() == text.lower()), None)
        hint, hint_ja = (f": did you mean {meant}?", f"。{meant}ではありませんか") if meant else ("", "")
        said = {
            "text": shown(element.text or ""),
            "hint": hint,
            "hint_ja": hint_ja,
            "values": ", ".join(values),
        }
        self._notes.add("EDXL-VALUE", element, name=name, **said)
        return None

    def _sent(self) -> tuple[str, datetime, etree._Element] | None:
        found = first(self._root, "dateTimeSent")
        if found is None:
            return None
        text, element = found
        moment = _moment(text)
        if moment is None:
            self._notes.add("EDXL-TIME-FORM", element, text=shown(text))
            return None
        return text, moment, element

    def _target(self) -> Target | None:
        elements = [*self._root.iterchildren(tag("targetArea"), f"{{{COMMONS}}}targetArea")]
        if not elements:
            return None
        rings: list[Ring] = []
        circles: list[Circle] = []
        codes: set[str] = set()
        coarse: set[str] = set()
        abroad = unread = False
        for place in (place for element in elements for place in element):
            name, text = etree.QName(place).localname, content_of(place)
            if name == "polygon" and text.count(",") > MAX_POINTS:
                unread = True
            elif name == "polygon":
                ring = rules.ring(text, mend=rules.Mending.HARDLY)
                unread = unread or isinstance(ring, Fault)
                if isinstance(ring, Fault):
                    self._unreadable(place, name, ring)
                else:
                    rings.append(ring)
            elif name == "circle":
                circle = rules.circle(text)
                unread = unread or isinstance(circle, Fault)
                if isinstance(circle, Fault):
                    self._unreadable(place, name, circle)
                else:
                    circles.append(circle)
            elif name == "jisX0402":
                try:
                    codes.add(normalise_code(text))
                except InvalidCode as error:
                    unread = True
                    reason_ja = f"{shown(text)}は市区町村コードではありません"
                    self._notes.add(
                        "EDXL-TARGET-FORM", place, name=name, reason=error.detail, reason_ja=reason_ja
                    )
            elif name in ("country", "subdivision"):
                prefecture = ISO_PREFECTURE.fullmatch(text)
                if text == "JP" or prefecture:
                    coarse.add(prefecture[1] if prefecture else text)
                elif ISO_PLACE.fullmatch(text):
                    abroad = True
                else:
                    unread = True
            elif name == "locCodeUN":
                unread = True
        many = len(rings) + len(circles) > MAX_PLACES or sum(map(len, rings)) > MAX_POINTS
        shape = None if many else shape_of(Area("", tuple(rings), tuple(circles)))
        unread = unread or many
        return Target(elements[0], shape, frozenset(codes), frozenset(coarse), abroad, unread)

    def _unreadable(self, element: etree._Element, name: str, found: Fault) -> None:
        rule = RULES[found.rule]
        reason, reason_ja = (text.format_map(found.args) for text in (rule.message, rule.message_ja))
        self._notes.add("EDXL-TARGET-FORM", element, name=name, reason=reason, reason_ja=reason_ja)

    # What is inside

    def _alerts(self) -> list[Inside]:
        """Return the CAP documents inside, and note everything else that is."""
        found: list[Inside] = []
        others: list[etree._Element] = []
        clear = True
        for element in self._root.iter(f"{{{XMLENC}}}EncryptedData"):
            self._notes.add("EDXL-ENCRYPTED", element)
            clear = False
            break
        # The parser of the places counts all of them, wherever they stand; those of an envelope in the envelope are not looked into.
        for number, holder in enumerate(self._root.iter(tag("embeddedXMLContent"))):
            if _is_holder(holder):
                found += [Inside(child, holder, number) for child in holder if child.tag in ALERTS]
                others += [c for c in holder if c.tag not in ALERTS and not _is_encrypted(c)]
        for holder in self._root.iter(tag("nonXMLContent")):
            inside = self._encoded(holder) if _is_holder(holder) else []
            found += inside or []
            clear = clear and inside is not None
        if found:
            for element in others[:MAX_FINDINGS]:
                self._notes.add("EDXL-CONTENT-LOST", element)
            self._find_another(found)
        elif clear:
            misplaced = next(self._root.iter(*ALERTS), None)
            if misplaced is not None:
                self._notes.add("EDXL-CAP-PLACE", misplaced, name=_wrapper(misplaced))
            else:
                self._notes.add("EDXL-CAP-MISSING", self._root)
        return found

    def _find_another(self, found: Sequence[Inside]) -> None:
        """Refuse an alert beside those that are read: it would be lost, and nobody would know."""
        # An alert in an alert is that one's own fault.
        read = {alert for inside in found for alert in inside.element.iter(*ALERTS)}
        others = (alert for alert in self._root.iter(*ALERTS) if alert not in read)
        for number, alert in enumerate(others, 1):
            # What is in a key is there to find the content by. Of very many, one will be none.
            if number > MAX_FINDINGS or next(alert.iterancestors(tag("keyXMLContent")), None) is None:
                self._notes.add("EDXL-CAP-PLACE", alert, name=_wrapper(alert))
                return

    def _encoded(self, holder: etree._Element) -> list[Inside] | None:
        """Return the CAP document in a <nonXMLContent>, none where it is something else, None where it should be one and cannot be taken out."""
        media = (text_of(holder, "mimeType") or "").partition(";")[0].strip().lower()
        if media not in _CAP_TYPES | _XML_TYPES:
            self._notes.add("EDXL-CONTENT-LOST", holder)
            return []
        data = holder.find(tag("contentData"))
        if data is None:
            linked = (
                "it is only linked to, and links are not followed",
                "リンクだけがあり、リンク先は読み込みません",
            )
            missing = ("there is no <contentData>", "<contentData>がありません")
            reason, reason_ja = linked if holder.find(tag("uri")) is not None else missing
            self._notes.add("EDXL-DATA", holder, reason=reason, reason_ja=reason_ja)
            return None
        try:
            content = base64.b64decode("".join((data.text or "").split()), validate=True)
        except (binascii.Error, ValueError):
            self._notes.add("EDXL-DATA", data, reason="it is not base64", reason_ja="base64ではありません")
            return None
        if media in _XML_TYPES and not _looks_like_cap(content):
            self._notes.add("EDXL-CONTENT-LOST", holder)
            return []
        self._judge_data(holder, content)
        return [Inside(data, data, 0, content)]

    def _judge_data(self, holder: etree._Element, content: bytes) -> None:
        digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        for name, actual in (("size", str(len(content))), ("digest", digest)):
            text = text_of(holder, name)
            if text and text.lower().lstrip("0+") != actual.lstrip("0"):
                self._notes.add("EDXL-DATA-WRONG", holder, name=name, text=shown(text), actual=actual)


_COUNTED = tuple(
    f"{{{namespace}}}{name}"
    for namespace in (NAMESPACE, COMMONS)
    for name in ("contentObject", "embeddedXMLContent", "keyXMLContent")
)


# Whether they agree


def _disagreements(said: _Said, alert: Alert, ground: Ground | None) -> Iterator[Problem]:
    if said.status and said.status[0] != alert.status:
        yield _at("EDXL-STATUS", said.status[1], text=said.status[0], other=alert.status)
    if said.type and said.type[0] != TYPES[alert.msg_type]:
        args = {"text": said.type[0], "other": alert.msg_type.value, "expected": TYPES[alert.msg_type]}
        yield _at("EDXL-TYPE", said.type[1], **args)
    if said.sender and said.sender[0] != alert.sender:
        yield _at("EDXL-SENDER", said.sender[1], text=shown(said.sender[0]), other=shown(alert.sender))
    if said.sent and said.sent[1] < alert.sent:
        yield _at("EDXL-TIME-BEFORE", said.sent[2], text=said.sent[0], other=alert.sent_text)
    if alert.scope is Scope.PUBLIC:
        for text, element in said.secrets:
            yield _at("EDXL-CONFIDENTIALITY", element, text=shown(text))
    if said.target is not None:
        verdict = judge_target(said.target, [area for info in alert.infos for area in info.areas], ground)
        if verdict is not None:
            yield _at(verdict, said.target.element)


def _at(rule: str, element: etree._Element, /, **args: str) -> Problem:
    return _problem(rule, element, args)


# Elements


_OPEN_WORDS = frozenset(
    {OPEN.lower(), "unclassified", "u", "not sensitive", "notsensitive", "nonsensitive", "public"}
)


def _is_open(text: str) -> bool:
    return " ".join(text.lower().split()) in _OPEN_WORDS


_XML_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,12})?(?:Z|[-+][0-9]{2}:[0-9]{2})"
)


def _moment(text: str) -> datetime | None:
    """Read a time of XML Schema that has an offset."""
    read = rules.instant(text)
    if not isinstance(read, Fault):
        return read
    if _XML_TIME.fullmatch(text) is None:
        return None
    whole = rules.instant(re.sub(r"\.[0-9]+", "", text).replace("Z", "-00:00"))
    return None if isinstance(whole, Fault) else whole


def _looks_like_cap(content: bytes) -> bool:
    letters = content.replace(b"\0", b"")  # of UTF-16
    return any(namespace.encode() in letters for namespace in NAMESPACES)


def _is_holder(element: etree._Element) -> bool:
    """Say whether an <embeddedXMLContent> or <nonXMLContent> is of this envelope, not of one inside it."""
    depth = sum(1 for _ in element.iterancestors())
    return depth == (3 if element.tag == tag("embeddedXMLContent") else 2)


def _wrapper(alert: etree._Element) -> str:
    """Return the name of what an alert that is not read is wrapped in."""
    around = list(alert.iterancestors())
    inside = [n for n, element in enumerate(around) if element.tag == tag("embeddedXMLContent") and n]
    return name_of(around[inside[-1] - 1] if inside else around[0])


def _is_encrypted(element: etree._Element) -> bool:
    return etree.QName(element).namespace == XMLENC
