"""What holds of every document, whoever wrote it; a fuzzer's finding is a document of which `broken` says something."""

from __future__ import annotations

import json
import time
from typing import Final

from lxml import etree

from bench.judges import there
from lalert import cap
from lalert.errors import InvalidAlert, NotXml, ProblemSeverity

SMALL: Final = 64 * 1024
SECONDS: Final = 0.1
"""As long as a small document may take: above that the event loop would notice."""


def broken(raw: bytes) -> str:
    """Return what is wrong with how the hub reads a document, "" if nothing is; an exception is a finding too."""
    report, seconds = _examined(raw)
    if len(raw) < SMALL and seconds > SECONDS:
        return f"took {seconds * 1000:.0f} ms"
    return _problems(raw, report) or (_valid(raw, report) if report.valid else _invalid(raw, report))


def _examined(raw: bytes) -> tuple[cap.Report, float]:
    """Return the report and the least processor time of at most three tries: the first may load what all later ones use."""
    report, seconds = _timed(raw)
    for _ in range(2):
        if seconds > SECONDS:
            seconds = min(seconds, _timed(raw)[1])
    return report, seconds


def _timed(raw: bytes) -> tuple[cap.Report, float]:
    start = time.thread_time()
    report = cap.examine(raw)
    return report, time.thread_time() - start


def _problems(raw: bytes, report: cap.Report) -> str:
    root = _tree(raw)
    lines = raw.count(b"\n") + raw.count(b"\r") + 1
    for problem in report.problems:
        said = f"{problem.rule} {problem.path} {problem.line}"
        rule = cap.RULES.get(problem.rule) or cap.ENVELOPE_RULES.get(problem.rule)
        if rule is None or rule.severity is not problem.severity:
            return f"{said}: not in the catalogue"
        words = (problem.message, problem.message_ja, problem.help, problem.help_ja)
        if not all(words):
            return f"{said}: a message is empty"
        # libxml2's own words may quote a control character from a name.
        printed = problem.rule == "CAP-XML-FORM" or all(
            c.isprintable() or c == "\u3000" for c in "".join(words)
        )
        if not printed or any(len(text) > 600 for text in words):
            return f"{said}: a message is too long or has a character that is not printed: {words}"
        json.dumps(problem.members()).encode()
        if problem.line > lines:
            return f"{said}: there are {lines} lines"
        if root is None or problem.rule == "CAP-TOO-MANY" or "/contentData/" in problem.path:
            continue  # what base64 holds is not in the tree
        if not there(root, problem):
            return f"{said}: no such place"
    return ""


def _tree(raw: bytes) -> etree._Element | None:
    """Return the document as any other program would see it; None if it would not, as with UTF-7, where only we say more."""
    if b"<!DOCTYPE" in raw or b"\0" in raw:
        return None
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    try:
        return etree.fromstring(raw, parser)
    except etree.XMLSyntaxError:
        return None


def _valid(raw: bytes, report: cap.Report) -> str:
    if any(problem.severity is ProblemSeverity.ERROR for problem in report.problems):
        return "valid with an error"
    alert = cap.parse(raw)
    if report.envelope is not None:
        return "" if cap.parse(alert.raw) == alert else "taken out of its envelope, it is another alert"
    if alert.raw != raw:
        return "the alert has not kept its bytes"
    if alert.defects != report.problems:
        return "the defects of the alert are not the problems of the report"
    rendered = cap.render(alert)
    again = cap.examine(rendered)
    if not again.valid:
        return f"rendered, it is invalid: {[p.message for p in again.problems]}"
    if cap.parse(rendered) != alert:
        return "rendered, it is another alert"
    cap.kind(alert)
    cap.level(alert)
    return ""


def _invalid(raw: bytes, report: cap.Report) -> str:
    try:
        cap.parse(raw)
    except InvalidAlert as invalid:
        return "" if invalid.problems == report.problems else "parse and examine find different problems"
    except NotXml:
        return (
            ""
            if report.version is None and report.problems
            else "parse and examine differ on whether it is XML"
        )
    return "invalid, but parsed"
