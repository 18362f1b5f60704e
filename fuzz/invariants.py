"""What holds of every document, whoever wrote it; a fuzzer's finding is a document of which `broken` says something."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Sequence
from typing import Final

import shapely
from lxml import etree

from bench.judges import there
from lalert import cap
from lalert.errors import InvalidAlert, NotXml, Problem, ProblemSeverity
from lalert.model import Alert, Area

SMALL: Final = 64 * 1024
SECONDS: Final = 0.1
"""As long as a small document may take: above that the event loop would notice."""


_JP: Final = cap.PROFILES["jp"]
_RULES: Final = {**cap.RULES, **cap.ENVELOPE_RULES, **_JP.rules}


def broken(raw: bytes) -> str:
    """Return what is wrong with how the hub reads a document, "" if nothing is; an exception is a finding too."""
    report, seconds = _examined(raw)
    if len(raw) < SMALL and seconds > SECONDS:
        return f"took {seconds * 1000:.0f} ms"
    return (
        _problems(raw, report.problems)
        or _judged(raw, report)
        or (_valid(raw, report) if report.valid else _invalid(raw, report))
    )


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


def _judged(raw: bytes, report: cap.Report) -> str:
    """Say what is wrong with the judgement of the Japanese profile, which may find anything in an alert of any country."""
    alert = report.alert
    if alert is None:
        return ""
    start = time.thread_time()
    found: Iterable[Problem] = cap.judge(alert, _JP)
    seconds = time.thread_time() - start
    if len(raw) < SMALL and seconds > SECONDS:
        return f"the profile took {seconds * 1000:.0f} ms"
    if report.envelope is not None:
        found = map(report.envelope.placed, found)
    # What a tolerant reading left out is not counted, so that what comes after it has another number in the document.
    tolerated = any(problem.severity is ProblemSeverity.ERROR for problem in alert.defects)
    return "" if tolerated else _problems(raw, found)


def _problems(raw: bytes, problems: Iterable[Problem]) -> str:
    root = _tree(raw)
    lines = raw.count(b"\n") + raw.count(b"\r") + 1
    for problem in problems:
        said = f"{problem.rule} {problem.path} {problem.line}"
        rule = _RULES.get(problem.rule)
        if rule is None or rule.severity is not problem.severity:
            return f"{said}: not in the catalogue"
        words = (problem.message, problem.message_ja, problem.help, problem.help_ja)
        if not all(words):
            return f"{said}: a message is empty"
        if any(len(text) > 600 or not all(map(_printed, text)) for text in words):
            return f"{said}: a message is too long or has a character that is not printed: {words}"
        json.dumps(problem.members()).encode()
        if problem.line > lines:
            return f"{said}: there are {lines} lines"
        if root is None or problem.rule == "CAP-TOO-MANY" or "/contentData/" in problem.path:
            continue  # what base64 holds is not in the tree
        if not there(root, problem):
            return f"{said}: no such place"
    return ""


def _printed(character: str) -> bool:
    return character.isprintable() or character == "\u3000"


def _tree(raw: bytes) -> etree._Element | None:
    """Return the document as any other program would see it; None if it would not, as with UTF-7, where only we say more."""
    if b"<!DOCTYPE" in raw or b"\0" in raw:
        return None
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True, collect_ids=False
    )
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
    if alert.defects != tuple(p for p in report.problems if p.severity is ProblemSeverity.WARNING):
        return "the defects of the alert are not the warnings of the report"
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
    for tolerant in (False, True):
        try:
            alert = cap.parse(raw, tolerant=tolerant)
        except InvalidAlert as invalid:
            if invalid.problems != report.problems or (tolerant and report.alert):
                return f"parse and examine find different problems, tolerant {tolerant}"
        except NotXml:
            if report.version is not None or not report.problems:
                return "parse and examine differ on whether it is XML"
        else:
            if not tolerant or alert != report.alert:
                return f"invalid, but parsed, tolerant {tolerant}"
    return _tolerated(report.alert, report.problems) if report.alert else ""


_HEAD: Final = ("identifier", "sender", "status", "msgType", "scope")
_SPACE: Final = " \t\r\n"


def _tolerated(alert: Alert, problems: Sequence[Problem]) -> str:
    """Hold an alert that is tolerated against its document: nothing that decides may be guessed or lost."""
    for problem in problems:
        if problem.severity is ProblemSeverity.ERROR and not (problem.repair and problem.repair_ja):
            return f"{problem.rule} at {problem.path} was forgiven, and nobody says how"
    root = _tree(alert.raw)  # without its envelope
    if root is None:
        return ""
    cap_ns = f"{{{etree.QName(root).namespace}}}"
    said = (alert.identifier, alert.sender, alert.status, alert.msg_type, alert.scope)
    for name, value in zip(_HEAD, said, strict=True):
        texts = {(e.text or "").strip(_SPACE) for e in root.iterchildren(cap_ns + name)}
        if texts != {str(value)} and not (name == "scope" and not texts and alert.version == "1.0"):
            return f"{name} was guessed: {texts} was read as {value}"
    infos = list(root.iterchildren(f"{cap_ns}info"))
    if len(infos) != len(alert.infos):
        return f"{len(infos)} infos were read as {len(alert.infos)}"
    for element, info in zip(infos, alert.infos, strict=True):
        areas = list(element.iterchildren(f"{cap_ns}area"))
        if len(areas) != len(info.areas):
            return f"{len(areas)} areas were read as {len(info.areas)}"
        for place, area in zip(areas, info.areas, strict=True):
            if lost := _lost(place, area, cap_ns):
                return lost
    return ""


_POINT = re.compile(r"([-+]?\d+\.?\d*)[,\s]+([-+]?\d+\.?\d*)")


def _lost(place: etree._Element, area: Area, cap_ns: str) -> str:
    """Say what of a place the area that was read does not have."""
    written = {
        name: [e.text or "" for e in place.iterchildren(cap_ns + name) if (e.text or "").strip(_SPACE)]
        for name in ("polygon", "circle")
    }
    if len(written["circle"]) != len(area.circles):
        return f"of {len(written['circle'])} circles {len(area.circles)} are left"
    if any(written.values()) and not (area.polygons or area.circles or area.geocodes):
        return f"an area lost its place: {written}"
    rings = [shapely.Polygon(ring) for ring in area.polygons]
    for text in written["polygon"]:
        points = [(float(lon), float(lat)) for lat, lon in _POINT.findall(text)]
        flat = shapely.convex_hull(shapely.MultiPoint(points)).area == 0
        if flat or not rings or any(abs(lon) > 170 or abs(lat) > 85 for lon, lat in points):
            continue  # encloses nobody; or is laid out anew at the antimeridian or a pole, which tests of geo judge
        if any(min(ring.distance(shapely.Point(point)) for ring in rings) > 1e-6 for point in points):
            return f"a corner of {text[:80]} is outside of {area.polygons}"
    return ""
