"""Four judges of the same documents: libxml2's XMLSchema, the xmlschema package, a plain reading of the prose, and `lalert.cap`.

Run as `python -m bench.judges [documents] [seed]`: it prints how many documents were tried, how often the judges agree, and every
document on which they do not, with the reason. tests/unit/test_cap_judges.py holds them to it.
"""

from __future__ import annotations

import copy
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Final, Protocol, cast

import xmlschema
from lxml import etree
from xmlschema.exceptions import XMLSchemaKeyError

from fuzz import prose
from fuzz.mutants import mutant
from lalert import cap, resources
from lalert.cap.grammar import NAMESPACES, XMLDSIG
from lalert.errors import Problem, ProblemSeverity

BY_SCHEMA: Final = frozenset(
    {
        "CAP-ROOT",
        "CAP-ELEMENT-UNKNOWN",
        "CAP-ELEMENT-FOREIGN",
        "CAP-ELEMENT-ORDER",
        "CAP-ELEMENT-DUPLICATE",
        "CAP-ELEMENT-MISSING",
        "CAP-ELEMENT-NESTED",
        "CAP-TEXT-STRAY",
        "CAP-ATTRIBUTE",
        "CAP-VALUE",
        "CAP-TIME-FORM",
        "CAP-SCHEMA",
    }
)
"""What the schemas say too. A document that they accept and we refuse must have an error besides these: one of the prose."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What each judge says of one document, and what is wrong with these verdicts ("" if nothing is)."""

    document: bytes
    libxml2: bool
    xmlschema: bool
    ours: bool
    reasons: frozenset[str]
    lenient: bool
    fault: str


def judged(raw: bytes) -> Verdicts:
    """Let all judge a well-formed document; the prose where the schema is content."""
    parser = etree.XMLParser(remove_comments=True, remove_pis=True, no_network=True, collect_ids=False)
    root = etree.fromstring(raw, parser)
    version = NAMESPACES.get(etree.QName(root).namespace or "", "1.2")
    first = libxml2(version)
    by_libxml2 = first.validate(root)
    entries = list(cast(Sequence[_Entry], first.error_log))
    by_xmlschema = _accepts(second(version), _spelled_out(root))
    report = cap.examine(raw)
    errors = [p for p in report.problems if p.severity is ProblemSeverity.ERROR]
    reasons = frozenset(p.rule for p in errors)
    lenient = by_xmlschema and not by_libxml2 and _only_addresses(entries)
    if by_libxml2 != by_xmlschema and not lenient:
        fault = f"libxml2 says {by_libxml2}, xmlschema {by_xmlschema}: {[e.message for e in entries][:2]}"
    elif report.valid and not by_libxml2:
        fault = f"accepted against the schema: {[e.message for e in entries][:2]}"
    elif not report.valid and not reasons:
        fault = "refused without an error"
    elif by_libxml2 and not report.valid and reasons <= BY_SCHEMA:
        fault = f"refused by {sorted(reasons)}, which the schemas accept"
    elif by_libxml2 and (unlike := _unlike(prose.errors(root, version), reasons - BY_SCHEMA)):
        fault = unlike
    elif words := [p.message for p in errors if p.rule == "CAP-SCHEMA" and not _unnamed(root, p)]:
        fault = f"refused in the schema's words: {words}"
    else:
        fault = next((f"{p.rule}: no {p.path} on line {p.line}" for p in errors if not there(root, p)), "")
    return Verdicts(raw, by_libxml2, by_xmlschema, report.valid, reasons, lenient, fault)


def _unlike(plainly: set[str], ours: frozenset[str]) -> str:
    """Say in which rules of the prose the plain reading and ours differ."""
    passed_over = {prose.UNDECIDED}
    if prose.UNDECIDED in plainly:
        passed_over |= {"CAP-POLYGON-FLAT", "CAP-POLYGON-CROSSING"}
    if "CAP-REFERENCES-FORM" in plainly:
        passed_over.add("CAP-REFERENCES-SELF")  # said of a reference that is clear in spite of its form
    missed, extra = plainly - ours - passed_over, ours - plainly - passed_over
    return f"the prose has {sorted(missed)}, we have {sorted(extra)}" if missed or extra else ""


def _unnamed(root: etree._Element, problem: Problem) -> bool:
    """Say whether what is wrong is inside a signature, where a rule of its own would be too much."""
    signed = f"{{{XMLDSIG}}}"
    places = _found(root, problem.path)
    return signed in problem.message or any(
        e.tag.startswith(signed) for place in places for e in (place, *place.iterancestors())
    )


@cache
def libxml2(version: str) -> etree.XMLSchema:
    """Return the first judge of a version of CAP."""
    return etree.XMLSchema(etree.fromstring(resources.schema(f"cap-{version}.xsd")))


@cache
def second(version: str) -> xmlschema.XMLSchema:
    """Return the second judge: another program, by other people, in another language."""
    # Without the schemas that the package brings: it would look into signatures, which the standard leaves to others ("lax").
    return xmlschema.XMLSchema(resources.schema(f"cap-{version}.xsd").decode(), use_fallback=False)


def _accepts(judge: xmlschema.XMLSchema, root: etree._Element) -> bool:
    if root.tag != f"{{{judge.target_namespace}}}alert":
        return False  # asked for the whole document, it judges any element that it finds a declaration for
    try:
        return judge.is_valid(root)
    except XMLSchemaKeyError:
        return False  # an xsi:type that names no type, to which it raises


class _Entry(Protocol):
    message: str


_VALUE = re.compile(r"Element '(?:\{[^}]*\})?(web|uri)':")


def _only_addresses(entries: Sequence[_Entry]) -> bool:
    """Say whether nothing is wrong but values of xs:anyURI.

    XML Schema lets a processor choose how much of RFC 2396 it checks: xmlschema checks little, and our own rules more than either.
    """
    return all(_VALUE.match(entry.message) for entry in entries)


_TYPED: Final = frozenset(
    {"sent", "effective", "onset", "expires", "language", "size", "altitude", "ceiling"}
)
_CONTAINERS: Final = frozenset({"alert", "info", "resource", "area", "eventCode", "parameter", "geocode"})
_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
_LONG = re.compile(r"[0-9]{20,}")  # above 10^308 it takes a decimal for none
_NOT_SPACE = re.compile(r"[^\S \t\r\n]")
_NOT_DIGIT = re.compile(r"\s|[^\x00-\x7f]")


def _spelled_out(root: etree._Element) -> etree._Element:
    """Return a copy in which what xmlschema mistakes for white space or digits is an exclamation mark, which is as wrong there.

    White space of XML is four characters and a digit is one of ten; Python's strip(), int() and Decimal() know many more.
    """
    root = copy.deepcopy(root)
    for element in root.iter("*"):
        name = etree.QName(element).localname
        if name in _TYPED and (text := (element.text or "").strip(" \t\r\n")):
            element.text = _LONG.sub("9", _NOT_DIGIT.sub("!", text))
        elif name in _CONTAINERS or len(element):
            element.text = _NOT_SPACE.sub("!", element.text or "")
        if element.tag.startswith(f"{{{_XSI}}}"):
            element.tag = "x"  # it passes over elements of that namespace
        element.tail = _NOT_SPACE.sub("!", element.tail or "")
        if element.tag.startswith(f"{{{XMLDSIG}}}"):
            # It judges a nil where there is no declaration to judge it by.
            etree.strip_attributes(element, f"{{{_XSI}}}nil")
    return root


_STEP = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<number>\d+)\])?")


def there(root: etree._Element, problem: Problem) -> bool:
    """Say whether a problem's path leads to an element, and its line is that element's."""
    if problem.path == "/":
        return True
    lines = [cast(int | None, element.sourceline) for element in _found(root, problem.path)]
    return problem.line in lines or (bool(lines) and not problem.line)


def _found(root: etree._Element, path: str) -> Iterator[etree._Element]:
    first, *rest = path.removeprefix("/").split("/")
    if etree.QName(root).localname[:60] != first:
        return
    found = [root]
    for step in rest:
        match = _STEP.fullmatch(step)
        assert match is not None, path
        found = [child for parent in found for child in _children(parent, match["name"], match["number"])]
    yield from found


def _children(parent: etree._Element, name: str, number: str | None) -> Iterator[etree._Element]:
    """Yield the children that a step may mean: one for each namespace, since paths leave those out."""
    seen: Counter[str] = Counter()
    for child in parent.iterchildren("*"):
        if etree.QName(child).localname[:60] == name:
            seen[child.tag] += 1
            if number is None or seen[child.tag] == int(number):
                yield child


def main(documents: int = 2_000, seed: int = 1) -> int:
    """Judge that many mutants, print the count, and return how many verdicts were wrong."""
    start = time.perf_counter()
    counts: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    faults = lenient = 0
    for n in range(documents):
        verdicts = judged(mutant(Random(seed * 1_000_003 + n)))
        schema = "accept" if verdicts.libxml2 else "refuse"
        counts[f"the schemas {schema}, we {'accept' if verdicts.ours else 'refuse'}"] += 1
        lenient += verdicts.lenient
        if verdicts.libxml2 and not verdicts.ours:
            rules.update(verdicts.reasons - BY_SCHEMA)
        if verdicts.fault:
            faults += 1
            print(f"seed {seed} document {n}: {verdicts.fault}\n    {verdicts.document!r}")
    print(f"{documents:,} mutants in {time.perf_counter() - start:.0f} s")
    print(
        f"libxml2 and xmlschema agree on {documents - lenient:,}; {lenient:,} differ by how much they check of xs:anyURI"
    )
    for what, count in sorted(counts.items()):
        print(f"{count:9,}  {what}")
    print("by rules of the prose alone:", ", ".join(f"{rule} {n}" for rule, n in rules.most_common()))
    print(f"{faults} verdicts that are wrong or unexplained")
    return faults


if __name__ == "__main__":
    sys.exit(1 if main(*map(int, sys.argv[1:])) else 0)
