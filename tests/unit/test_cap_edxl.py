"""An alert comes out of an EDXL envelope byte for byte and goes into one; where envelope and alert disagree, it is said."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from bench.attacks import attacks
from fuzz.invariants import broken
from fuzz.mutants import mutant
from lalert import cap, resources
from lalert.errors import InvalidAlert, ProblemSeverity
from lalert.geo import Gazetteer
from lalert.model import Area, Circle, MsgType, NamedValue, Scope, Status
from lalert.testing import make_alert

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "edxl"
GOOD, ODD, BAD = (sorted((DATA / folder).glob("*.xml")) for folder in ("good", "odd", "bad"))
ALERTS = sorted((ROOT / "tests" / "data" / "cap" / "good").glob("*.xml"))
SCHEMA = etree.XMLSchema(etree.fromstring(resources.schema("edxl-de-1.0.xsd")))
EXTENDED = {"commons"}  # has elements of L-Alert, which the standard's schema does not know

ENVELOPE = (DATA / "good" / "evacuation-order.xml").read_text(encoding="utf-8")
INSIDE = ENVELOPE[ENVELOPE.index("<alert") : ENVELOPE.index("</alert>") + len("</alert>")]
HOLDER = "/EDXLDistribution/contentObject[1]/xmlContent/embeddedXMLContent[1]"


def findings(report: cap.Report) -> str:
    return "".join(f"{p.severity} {p.rule} {p.path} {p.line}\n" for p in report.problems)


def rules_of(text: str | bytes) -> list[str]:
    report = cap.examine(text.encode() if isinstance(text, str) else text)
    return [p.rule for p in report.problems]


def put(old: str, new: str, text: str = ENVELOPE) -> str:
    assert old in text
    return text.replace(old, new, 1)


def with_target(inner: str, text: str = ENVELOPE) -> str:
    return put("<subdivision>JP-43</subdivision>", inner, text)


def with_content(*contents: str) -> str:
    start, end = ENVELOPE.index("  <contentObject>"), ENVELOPE.index("</EDXLDistribution>")
    return ENVELOPE[:start] + "".join(contents) + ENVELOPE[end:]


def encoded(content: bytes, media: str = "application/cap+xml", more: str = "") -> str:
    data = base64.b64encode(content).decode()
    inner = f"<mimeType>{media}</mimeType>{more}<contentData>{data}</contentData>"
    return f"<contentObject><nonXMLContent>{inner}</nonXMLContent></contentObject>"


# Golden envelopes


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_a_good_envelope_is_valid_and_has_no_findings(file: Path) -> None:
    raw = file.read_bytes()
    report = cap.examine(raw)
    assert findings(report) == ""
    assert report.valid
    assert report.version == "1.2"
    assert report.envelope is not None
    assert SCHEMA.validate(etree.fromstring(raw)) or file.stem in EXTENDED


@pytest.mark.parametrize("file", [*ODD, *BAD], ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_an_odd_or_bad_envelope_has_exactly_the_findings_beside_it(file: Path) -> None:
    report = cap.examine(file.read_bytes())
    assert findings(report) == file.with_suffix(".expected").read_text(encoding="utf-8")
    assert report.valid == (file.parent.name == "odd")
    if report.valid:
        assert report.alert is not None
        assert report.alert.defects == report.problems


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_what_is_kept_is_the_document_as_it_stood_and_reads_the_same_on_its_own(file: Path) -> None:
    raw = file.read_bytes()
    alert = cap.parse(raw)
    assert cap.parse(alert.raw) == alert
    if file.stem not in {"base64", "prefixed", "default-namespace"}:
        assert alert.raw in raw


def test_namespaces_that_only_the_envelope_declares_are_put_in_and_nothing_else_is_touched() -> None:
    raw = (DATA / "good" / "prefixed.xml").read_bytes()
    document = cap.parse(raw).raw
    assert document.startswith(
        b'<cap:alert xmlns:cap="urn:oasis:names:tc:emergency:cap:1.2">\n          <cap:id'
    )
    assert document.replace(b' xmlns:cap="urn:oasis:names:tc:emergency:cap:1.2"', b"", 1) in raw
    renewed = raw.replace(b"hitoyoshi-de-1", b"hitoyoshi-de-2").replace(b"xmlns:unused", b"xmlns:other")
    assert cap.parse(renewed).raw == document


def test_lines_and_paths_are_those_of_the_received_document() -> None:
    text = put("<expires>2026-07-04T14:20:00+09:00<", "<expires>2026-07-04 14:20<")
    (problem,) = cap.examine(text.encode()).problems
    assert problem.path == HOLDER + "/alert/info[1]/expires"
    assert "<expires>" in text.splitlines()[problem.line - 1]


def test_the_line_of_something_encoded_is_that_of_the_code() -> None:
    text = with_content(encoded(INSIDE.replace("Immediate", "Soon").encode()))
    (problem,) = cap.examine(text.encode()).problems
    assert problem.rule == "CAP-VALUE"
    assert (
        problem.path == "/EDXLDistribution/contentObject[1]/nonXMLContent/contentData/alert/info[1]/urgency"
    )
    assert "contentData" in text.splitlines()[problem.line - 1]


FRAME, _, AFTER = cap.wrap(make_alert()).partition(b"<alert")
AFTER = AFTER[AFTER.index(b"</alert>") + len(b"</alert>") :]


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_what_is_wrong_with_a_document_is_as_wrong_in_an_envelope_and_in_its_place_there(first: int) -> None:
    compared = 0
    for seed in range(first, first + 100):
        document = mutant(Random(seed))
        alone = cap.examine(document)
        if any(p.rule.startswith(("CAP-XML-", "CAP-ROOT")) for p in alone.problems):
            continue
        document = cap.bare(document)
        alone, report = cap.examine(document), cap.examine(FRAME + document + AFTER)
        line = FRAME.count(b"\n") + 1
        expected = [(p.rule, HOLDER + p.path, p.line + line - 1 if p.line else line) for p in alone.problems]
        found = [(p.rule, p.path, p.line) for p in report.problems if p.rule.startswith("CAP-")]
        assert sorted(found) == sorted(expected), seed
        compared += 1
    assert compared > 60


# Every rule


def in_a_signature(text: str) -> str:
    around = '<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:Object>'
    return put(INSIDE, around + INSIDE + "</ds:Object></ds:Signature>", text)


SIGNATURE = '<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"/>'
ENCRYPTED = '<x:EncryptedData xmlns:x="http://www.w3.org/2001/04/xmlenc#"/>'
SITREP = '<contentObject><xmlContent><embeddedXMLContent><r xmlns="urn:x"/></embeddedXMLContent></xmlContent></contentObject>'
PICTURE = encoded(b"\x89PNG", "image/png")
DIGEST = "<size>1</size><digest>da39a3ee5e6b4b0d3255bfef95601890afd80709</digest>"
AREA = "<geocode><valueName>JIS X 0402</valueName><value>432032</value></geocode>"

REPORT = SITREP.replace('<r xmlns="urn:x"/>', f'<r xmlns="urn:x">{INSIDE}</r>')
AROUND = SIGNATURE.replace("/>", f"><ds:Object>{INSIDE}</ds:Object></ds:Signature>")
KEY = f"<keyXMLContent>{INSIDE}</keyXMLContent>"
OUT_OF_PLACE = ["EDXL-ELEMENT-UNKNOWN", "EDXL-CAP-PLACE"]
DRILL = '<distributionStatus xmlns="http://xml.publiccommons.ne.jp/xml/edxl/">Exercise</distributionStatus>'

FAULTY: list[tuple[str, str, list[str]]] = [
    ("another version", ENVELOPE.replace("DE:1.0", "DE:2.0"), ["EDXL-VERSION"]),
    ("an element of a newer version", put("<language>", "<language>"), []),
    ("an unknown element", put("  <targetArea>", "<validUntil/><targetArea>"), ["EDXL-ELEMENT-UNKNOWN"]),
    (
        "an element of nobody",
        put("  <targetArea>", '<x xmlns="urn:x"/><targetArea>'),
        ["EDXL-ELEMENT-UNKNOWN"],
    ),
    (
        "a wrong order",
        put("  <targetArea>", "<senderRole/><language>ja</language><targetArea>"),
        ["EDXL-ELEMENT-MISSING", "EDXL-ELEMENT-MISSING", "EDXL-ELEMENT-ORDER"],
    ),
    ("two senders", put("<senderID>", "<senderID>x</senderID><senderID>"), ["EDXL-ELEMENT-DUPLICATE", "EDXL-SENDER"]),
    (
        "two statuses",
        put("<distributionType>", "<distributionStatus>Exercise</distributionStatus><distributionType>"),
        ["EDXL-ELEMENT-DUPLICATE"],
    ),
    ("no id", put("hitoyoshi-de-1", " "), ["EDXL-ELEMENT-MISSING"]),
    ("no status", put("<distributionStatus>Actual</distributionStatus>", ""), ["EDXL-ELEMENT-MISSING"]),
    ("an attribute", put("<senderID>", '<senderID x="1">'), ["EDXL-SCHEMA"]),
    ("stray text", put("<targetArea>", "stray<targetArea>"), ["EDXL-SCHEMA"]),
    ("an empty holder", with_content(encoded(INSIDE.encode()), SITREP.replace('<r xmlns="urn:x"/>', "")), ["EDXL-SCHEMA"]),
    ("a wrong case", put(">Actual<", ">actual<"), ["EDXL-VALUE"]),
    ("a status with spaces", put(">Actual<", "> Actual <"), ["EDXL-VALUE"]),
    ("a draft", put(">Actual<", ">Draft<"), ["EDXL-VALUE"]),
    ("a word for a type", put(">Report<", ">Alert<"), ["EDXL-VALUE"]),
    ("no offset", put("05+09:00<", "05<"), ["EDXL-TIME-FORM"]),
    ("no alert", with_content(SITREP), ["EDXL-CAP-MISSING"]),
    ("only a picture", with_content(PICTURE), ["EDXL-CONTENT-LOST", "EDXL-CAP-MISSING"]),
    ("two alerts", put(INSIDE, INSIDE + INSIDE), ["EDXL-CAP-SEVERAL"]),
    (
        "one embedded and one encoded",
        put("</contentObject>", "</contentObject>" + encoded(INSIDE.encode())),
        ["EDXL-CAP-SEVERAL"],
    ),
    ("a signature around", in_a_signature(ENVELOPE), ["EDXL-CAP-PLACE"]),
    (
        "an alert as a key",
        ENVELOPE.replace("embeddedXMLContent", "keyXMLContent"),
        ["EDXL-IGNORED", "EDXL-CAP-PLACE"],
    ),
    ("an envelope inside", put(INSIDE, ENVELOPE[ENVELOPE.index("<EDXL") :]), ["EDXL-CAP-PLACE"]),
    ("another alert where none is read", put("<contentObject>", INSIDE + "<contentObject>"), OUT_OF_PLACE),
    ("another alert in a report", put("</EDXLD", REPORT + "</EDXLD"), ["EDXL-CONTENT-LOST", "EDXL-CAP-PLACE"]),
    ("another alert in a signature", put("</EDXLD", AROUND + "</EDXLD"), ["EDXL-SIGNATURE", "EDXL-CAP-PLACE"]),
    ("an alert that keys itself", put("<xmlContent>", f"<xmlContent>{KEY}"), ["EDXL-IGNORED"]),
    ("a drill in L-Alert's words", put("<distributionType>", DRILL + "<distributionType>"), ["EDXL-ELEMENT-UNKNOWN"]),
    ("encrypted", put(INSIDE, ENCRYPTED), ["EDXL-ENCRYPTED"]),
    ("encrypted beside", put("</contentObject>", ENCRYPTED + "</contentObject>"), ["EDXL-ENCRYPTED"]),
    ("no base64", put("PD94", "P$94", (DATA / "good" / "base64.xml").read_text(encoding="utf-8")), ["EDXL-DATA"]),
    (
        "only linked",
        with_content(encoded(b"").replace("<contentData></contentData>", "<uri>https://example.jp/a.xml</uri>")),
        ["EDXL-DATA"],
    ),
    (
        "nothing but a type",
        with_content(encoded(b"").replace("<contentData></contentData>", "")),
        ["EDXL-DATA"],
    ),
    (
        "a wrong size and digest",
        with_content(encoded(INSIDE.encode(), more=DIGEST)),
        ["EDXL-DATA-WRONG", "EDXL-DATA-WRONG"],
    ),
    ("a picture beside", put("</EDXLD", PICTURE + "</EDXLD"), ["EDXL-CONTENT-LOST"]),
    ("a report beside", put("</EDXLD", SITREP + "</EDXLD"), ["EDXL-CONTENT-LOST"]),
    ("another XML file beside", put("</EDXLD", encoded(b"<r/>", "text/xml") + "</EDXLD"), ["EDXL-CONTENT-LOST"]),
    ("a signed content", put("</contentObject>", SIGNATURE + "</contentObject>"), ["EDXL-SIGNATURE"]),
    ("a signed envelope", put("</EDXLD", SIGNATURE + "</EDXLD"), ["EDXL-SIGNATURE"]),
    ("a drill around what is real", put(">Actual<", ">Exercise<"), ["EDXL-STATUS"]),
    ("what is real around a test", put("<status>Actual", "<status>Test"), ["EDXL-STATUS"]),
    ("a cancel around an alert", put(">Report<", ">Cancel<"), ["EDXL-TYPE"]),
    ("a request around an alert", put(">Report<", ">Request<"), ["EDXL-TYPE"]),
    ("another sender", put("bousai@city", "relay@city"), ["EDXL-SENDER"]),
    ("an envelope from before", put("02:20:05+09:00", "02:19:59+09:00"), ["EDXL-TIME-BEFORE"]),
    ("something secret", put(">UNCLASSIFIED AND NOT SENSITIVE<", ">Secret<"), ["EDXL-CONFIDENTIALITY"]),
    ("an open ring", with_target("<polygon>32,130 32,131 33,131</polygon>"), ["EDXL-TARGET-FORM", "EDXL-TARGET-UNREAD"]),
    ("no circle", with_target("<circle>everywhere</circle>"), ["EDXL-TARGET-FORM", "EDXL-TARGET-UNREAD"]),
    ("elsewhere", with_target("<subdivision>JP-01</subdivision>"), ["EDXL-TARGET-ELSEWHERE"]),
    ("abroad", with_target("<country>US</country>"), ["EDXL-TARGET-ELSEWHERE"]),
    ("a port", with_target("<locCodeUN>JPHIT</locCodeUN>"), ["EDXL-TARGET-UNREAD"]),
    ("drawn around codes", with_target("<circle>32.21,130.76 5</circle>"), ["EDXL-TARGET-UNREAD"]),
    (
        "smaller",
        with_target("<subdivision>JP-43</subdivision>", put(AREA, AREA + AREA.replace("432032", "016098"))),
        ["EDXL-TARGET-SMALLER"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [pytest.param(t, e, id=name) for name, t, e in FAULTY if e])
def test_each_fault_is_named(text: str, expected: list[str]) -> None:
    report = cap.examine(text.encode())
    assert sorted(p.rule for p in report.problems) == sorted(expected)
    for problem in report.problems:
        assert "{" not in problem.message + problem.message_ja
        assert problem.path.startswith("/EDXLDistribution")
        assert problem.line > 0
    errors = {p.rule for p in report.problems if p.severity is ProblemSeverity.ERROR}
    assert report.valid == (not errors)


def test_every_rule_of_the_envelope_is_shown_by_a_fault() -> None:
    commons = (DATA / "good" / "commons.xml").read_text(encoding="utf-8")
    larger = put(
        "</commons:jisX0402>", "</commons:jisX0402><commons:jisX0402>016098</commons:jisX0402>", commons
    )
    shown = {rule for _, _, rules in FAULTY for rule in rules} | set(rules_of(larger))
    assert shown == set(cap.ENVELOPE_RULES)


def test_docs_list_exactly_the_rules_of_the_envelope() -> None:
    rows = {}
    for line in (ROOT / "docs" / "edxl.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `EDXL-"):
            rule, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
            rows[rule.strip("`")] = tuple(cells)
    assert list(rows) == list(cap.ENVELOPE_RULES)
    for entry in cap.ENVELOPE_RULES.values():
        said = [
            text.replace("<", "&lt;").replace(">", "&gt;").replace("{", "*").replace("}", "*")
            for text in (entry.message, entry.message_ja)
        ]
        assert rows[entry.id] == (entry.severity.value, entry.clause, *said)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("said", ["Actual", "Exercise", "System", "Test"])
def test_a_drill_never_passes_for_real_nor_what_is_real_for_a_drill(status: Status, said: str) -> None:
    text = put(f"<status>{Status.ACTUAL}<", f"<status>{status}<", put(">Actual<", f">{said}<"))
    report = cap.examine(text.encode())
    assert report.valid == (said == status)
    if said != status:
        assert report.alert is None
        (problem,) = [p for p in report.problems if p.severity is ProblemSeverity.ERROR]
        assert (problem.rule, problem.repair) == ("EDXL-STATUS", "")
        with pytest.raises(InvalidAlert):
            cap.parse(text.encode())


# Target areas

DRAWN = "<polygon>32.20,130.74 32.20,130.78 32.23,130.78 32.23,130.74 32.20,130.74</polygon>"


@pytest.mark.parametrize(
    ("target", "area", "expected"),
    [
        (DRAWN, DRAWN, []),
        (DRAWN, "<circle>32.21,130.76 0.1</circle>", ["EDXL-TARGET-LARGER"]),
        ("<circle>32.21,130.76 0.1</circle>", DRAWN, ["EDXL-TARGET-SMALLER"]),
        ("<circle>43.06,141.35 10</circle>", DRAWN, ["EDXL-TARGET-ELSEWHERE"]),
        ("<circle>32.21,130.76 2.5</circle>", "<circle>32.21,130.76 2.5</circle>", []),
        ("<country>JP</country>", DRAWN, ["EDXL-TARGET-UNREAD"]),
        ("<country>JP</country>", AREA, []),
        ("<country>Japan</country>", AREA, ["EDXL-TARGET-UNREAD"]),
        ("<subdivision>US-CA</subdivision>", DRAWN, ["EDXL-TARGET-UNREAD"]),
        ("<country>JP</country><country>US</country>", AREA, []),
        (JIS := "<c:jisX0402>43203</c:jisX0402>", AREA, []),
        ("<c:jisX0402>430005</c:jisX0402>", AREA, ["EDXL-TARGET-LARGER"]),
        ("<c:jisX0402>432016</c:jisX0402>", AREA, ["EDXL-TARGET-ELSEWHERE"]),
        (JIS, AREA.replace("432032", "43"), ["EDXL-TARGET-SMALLER"]),
        ("<c:jisX0402>432033</c:jisX0402>", AREA, ["EDXL-TARGET-FORM", "EDXL-TARGET-UNREAD"]),
        # A ward and its city: which belongs to which, is not in the numbers.
        ("<c:jisX0402>431001</c:jisX0402>", AREA.replace("432032", "431010"), ["EDXL-TARGET-UNREAD"]),
        (JIS, DRAWN, ["EDXL-TARGET-UNREAD"]),
        (JIS + DRAWN, DRAWN + AREA, []),
    ],
)  # fmt: skip
def test_target_areas_are_compared_like_with_like(target: str, area: str, expected: list[str]) -> None:
    text = put(AREA, area)
    around = '<c:targetArea xmlns:c="http://xml.publiccommons.ne.jp/xml/edxl/">'
    text = put("<targetArea>", around, put("</targetArea>", "</c:targetArea>", with_target(target, text)))
    assert sorted(rules_of(text)) == expected


GAZETTEER = Gazetteer.from_csv(resources.gazetteer_csv())


@pytest.mark.parametrize(
    ("target", "area", "expected"),
    [
        (JIS, DRAWN, []),
        ("<c:jisX0402>016098</c:jisX0402>", DRAWN, ["EDXL-TARGET-ELSEWHERE"]),
        ("<subdivision>JP-43</subdivision>", DRAWN, []),
        ("<subdivision>JP-01</subdivision>", DRAWN, ["EDXL-TARGET-ELSEWHERE"]),
        ("<circle>32.21,130.76 1</circle>", AREA, []),
        ("<circle>43.06,141.35 1</circle>", AREA, ["EDXL-TARGET-ELSEWHERE"]),
        ("<c:jisX0402>431001</c:jisX0402>", AREA.replace("432032", "431010"), []),
        ("<c:jisX0402>431010</c:jisX0402>", AREA.replace("432032", "431001"), []),
        ("<country>JP</country>", DRAWN, ["EDXL-TARGET-UNREAD"]),
        ("<c:jisX0402>439991</c:jisX0402>", DRAWN, ["EDXL-TARGET-UNREAD"]),
        (DRAWN, AREA.replace("432032", "439991"), ["EDXL-TARGET-UNREAD"]),
        (DRAWN, "<geocode><valueName>SAME</valueName><value>006001</value></geocode>", ["EDXL-TARGET-UNREAD"]),
        ("<c:jisX0402>016098</c:jisX0402>", AREA, ["EDXL-TARGET-ELSEWHERE"]),
    ],
)  # fmt: skip
def test_the_gazetteer_tells_whether_codes_and_what_is_drawn_touch(
    target: str, area: str, expected: list[str]
) -> None:
    around = '<c:targetArea xmlns:c="http://xml.publiccommons.ne.jp/xml/edxl/">'
    text = with_target(target, put(AREA, area))
    text = put("<targetArea>", around, put("</targetArea>", "</c:targetArea>", text))
    assert [p.rule for p in cap.examine(text.encode(), ground=GAZETTEER.catchment).problems] == expected


@pytest.mark.parametrize(("east", "expected"), [(130.81, []), (130.84, ["EDXL-TARGET-ELSEWHERE"])])
def test_two_kilometres_beside_a_border_are_still_there(east: float, expected: list[str]) -> None:
    text = with_target(f"<circle>32.2,{east} 0.1</circle>")
    report = cap.examine(text.encode(), ground=lambda _: shapely.box(130.7, 32.1, 130.8, 32.3))
    assert [p.rule for p in report.problems] == expected


def test_an_alert_without_a_place_cannot_be_compared() -> None:
    text = put(AREA, "")
    assert "EDXL-TARGET-UNREAD" in rules_of(text)


# Policies


@pytest.mark.parametrize("name", ["an unknown element", "no id", "an attribute", "no offset", "an open ring"])
def test_a_fault_of_form_alone_leaves_the_alert_to_those_who_tolerate_it(name: str) -> None:
    (text,) = [text for title, text, _ in FAULTY if title == name]
    report = cap.examine(text.encode())
    assert not report.valid
    assert report.alert is not None
    assert report.alert.raw.decode() == INSIDE
    assert [p.repair != "" for p in report.problems if p.severity is ProblemSeverity.ERROR] == [True]
    assert all(p.repair_ja for p in report.problems if p.repair)


@pytest.mark.parametrize(
    "name",
    [
        "two statuses",
        "no status",
        "a wrong case",
        "a word for a type",
        "a cancel around an alert",
        "elsewhere",
    ],
)
def test_what_decides_is_never_tolerated(name: str) -> None:
    (text,) = [text for title, text, _ in FAULTY if title == name]
    assert cap.examine(text.encode()).alert is None


def test_no_crowd_of_faults_hides_one_that_decides() -> None:
    crowd = put("<senderID>", "<x/>" * 300 + "<senderID>")
    for text in (put(">Actual<", ">Exercise<", crowd), put(">Actual<", ">real<", crowd), crowd):
        report = cap.examine(text.encode())
        assert report.alert is None
        assert report.problems[-1].rule == "CAP-TOO-MANY"


def test_remarks_alone_leave_an_envelope_valid_however_many_there_are() -> None:
    report = cap.examine(put("</EDXLD", PICTURE * 300 + "</EDXLD").encode())
    assert report.valid
    assert [p.rule for p in report.problems] == ["EDXL-CONTENT-LOST"] * 100 + ["CAP-TOO-MANY"]


# Into an envelope and out again

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=40
)


@pytest.mark.parametrize("file", ALERTS, ids=lambda file: file.stem)
def test_every_golden_alert_goes_in_and_comes_out_in_the_same_bytes(file: Path) -> None:
    alert = cap.parse(file.read_bytes())
    envelope = cap.wrap(alert)
    assert SCHEMA.validate(etree.fromstring(envelope))
    report = cap.examine(envelope)
    assert report.alert == alert
    assert report.alert is not None
    assert report.alert.raw == cap.bare(alert.raw)
    assert cap.wrap(report.alert) == cap.wrap(replace(alert, raw=report.alert.raw))
    assert [p.rule for p in report.problems if p.rule.startswith("EDXL-")] in ([], ["EDXL-TARGET-UNREAD"])


@quick
@given(TEXTS, TEXTS, st.sampled_from(["\n", "\r\n", " ", "<!-- > -->", "<?a b='>'?>", "<!--\n--> \n"]),
       st.sampled_from([Status.ACTUAL, Status.EXERCISE, Status.TEST, Status.SYSTEM]), st.sampled_from(MsgType))  # fmt: skip
def test_whatever_stands_round_and_in_the_alert_comes_back(
    headline: str, event: str, around: str, status: Status, msg_type: MsgType
) -> None:
    earlier = make_alert(identifier="earlier")
    alert = make_alert(
        headline=headline.strip() or "x",
        event=event.strip() or "y",
        status=status,
        note="県総合防災訓練",
        msg_type=msg_type,
        references=() if msg_type is MsgType.ALERT else (earlier,),
    )
    body = cap.bare(alert.raw).decode()
    raw = f'<?xml version="1.0"?>{around}{body}{around}'.encode()
    alert = cap.parse(raw)
    report = cap.examine(cap.wrap(alert))
    assert report.valid, report.problems
    assert report.alert == alert
    assert report.alert is not None
    assert report.alert.raw == cap.bare(raw) == f"{around}{body}{around}".strip().encode()


@pytest.mark.parametrize("encoding", ["utf-16", "shift_jis", "euc-jp", "iso-2022-jp", "utf-8-sig"])
def test_a_document_in_another_encoding_is_embedded_in_that_of_the_envelope(encoding: str) -> None:
    text = make_alert(headline="球磨川の氾濫", area_desc="人吉市").raw.decode()
    declared = encoding.removesuffix("-sig")
    raw = text.replace("encoding='UTF-8'", f"encoding='{declared}'").encode(encoding)
    alert = cap.parse(raw)
    again = cap.parse(cap.wrap(alert))
    assert again == alert
    assert again.raw.decode() == text[text.index("<alert") :].strip()


@pytest.mark.parametrize("encoding", ["utf-16", "shift_jis", "utf-8-sig"])
def test_an_envelope_in_another_encoding_gives_the_document_in_utf_8(encoding: str) -> None:
    declared = encoding.removesuffix("-sig")
    alert = cap.parse(ENVELOPE.replace('encoding="UTF-8"', f'encoding="{declared}"').encode(encoding))
    assert alert.raw.decode() == INSIDE


def test_line_breaks_of_a_document_are_kept_as_they_are() -> None:
    raw = ENVELOPE.replace("\n", "\r\n").encode()
    assert cap.parse(raw).raw == INSIDE.replace("\n", "\r\n").encode()


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ("<!-- <alert> -->", "<!-- </alert></embeddedXMLContent> -->", True),
        ("<?a <alert ?>", "", True),
        # What cannot stand round a document of its own is left out.
        ("<![CDATA[ ]]><!-- <alert> -->", "&#x20;", False),
    ],
)
def test_what_stands_round_the_alert_is_kept_where_it_can_be(before: str, after: str, kept: bool) -> None:
    text = put(INSIDE, before + INSIDE + after)
    text = put("<xmlContent>", "<xmlContent><!-- <embeddedXMLContent><alert/> -->", text)
    assert cap.parse(text.encode()).raw.decode() == (before + INSIDE + after if kept else INSIDE)


def test_an_envelope_says_what_the_alert_in_it_says() -> None:
    alert = make_alert(
        status=Status.EXERCISE,
        scope=Scope.RESTRICTED,
        restriction="関係機関",
        areas=(
            Area("a", circles=(Circle(130.76, 32.21, 2500.0),), geocodes=(NamedValue("JISX0402", "432032"),)),
        ),
    )
    root = etree.fromstring(cap.wrap(alert))
    said = {etree.QName(e).localname: e.text for e in root.iter() if e.text and e.text.strip()}
    assert said["distributionID"] == alert.id
    assert said["senderID"] == alert.sender
    assert said["dateTimeSent"] == alert.sent_text
    assert said["distributionStatus"] == "Exercise"
    assert said["distributionType"] == "Report"
    assert said["combinedConfidentiality"] == "Restricted"
    assert (said["circle"], said["subdivision"]) == ("32.21,130.76 2.5", "JP-43")


def test_a_draft_has_no_envelope() -> None:
    with pytest.raises(ValueError, match="Draft"):
        cap.wrap(make_alert(status=Status.DRAFT))


# Attacks (tests/unit/test_cap_attacks.py judges their verdicts and what they cost)

ATTACKS = {name: attack for name, attack in attacks().items() if name.startswith("envelope: ")}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_round_an_alert_leaves_the_alert_what_it_is(name: str) -> None:
    report = cap.examine(ATTACKS[name].document)
    assert len(report.problems) <= 2 * 100
    assert all("root:" not in p.message for p in report.problems)
    if report.alert is not None:
        assert cap.examine(report.alert.raw).alert == report.alert


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_change_of_an_envelope_makes_the_reader_fail(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(SEEDS))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(at, min(len(text), at + 60)))
        text = text[:at] + data.draw(st.sampled_from(PIECES)) + text[end:]
    assert not broken(text.encode())
    report = cap.examine(text.encode())
    assert (report.alert is None) <= bool(report.problems)
    if report.valid:
        assert report.alert is not None
        assert cap.parse(report.alert.raw) == report.alert
        assert f"<distributionStatus>{report.alert.status}<" in re.sub(r"\b(?:de|edxlde):", "", text)


SEEDS = [file.read_text(encoding="utf-8") for file in GOOD]
PIECES = [
    *("", "<", ">", "&", '"', "x", " ", "\n", "<!--", "-->", "<![CDATA[", "]]>", "<alert>", "</alert>", "<x/>"),
    *('xmlns="urn:x"', "<embeddedXMLContent>", "</embeddedXMLContent>", "Exercise", "Actual", "Test", "\x00", "あ"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("2026-07-03T17:20:00Z", []),
        ("2026-07-04T02:20:00.999+09:00", []),
        ("2026-07-04T02:19:59.999+09:00", ["EDXL-TIME-BEFORE"]),
        ("2026-07-03T24:00:00-10:00", []),
        ("2026-07-04", ["EDXL-TIME-FORM"]),
        ("2026-07-32T02:20:00+09:00", ["EDXL-TIME-FORM"]),
        ("now", ["EDXL-TIME-FORM"]),
    ],
)
def test_the_time_of_an_envelope_is_one_of_xml_schema_with_an_offset(text: str, rules: list[str]) -> None:
    assert rules_of(put("2026-07-04T02:20:05+09:00", text)) == rules


def test_only_the_words_for_open_are_open() -> None:
    for word in ("Unclassified", "U", " unclassified  and not\n sensitive ", "NotSensitive"):
        assert rules_of(put("UNCLASSIFIED AND NOT SENSITIVE", word)) == []
    for word in ("UNCLASSIFIED BUT SENSITIVE", "Restricted", "部外秘"):
        text = put("UNCLASSIFIED AND NOT SENSITIVE", word)
        assert rules_of(text) == ["EDXL-CONFIDENTIALITY"]
        closed = put(
            "<scope>Public</scope>", "<scope>Restricted</scope><restriction>関係機関</restriction>", text
        )
        assert rules_of(closed) == []


@pytest.mark.parametrize("beside", [INSIDE, DRILL])
def test_no_policy_passes_over_another_alert_nor_another_word_on_what_is_real(beside: str) -> None:
    with pytest.raises(InvalidAlert):
        cap.parse(put("  <targetArea>", beside + "<targetArea>").encode(), tolerant=True)


def test_the_envelope_of_a_drill_says_nothing_of_its_own_that_could_pass_for_real() -> None:
    real, drill = (cap.wrap(make_alert(status=status)) for status in (Status.ACTUAL, Status.EXERCISE))
    assert b"contentDescription" in real
    assert b"contentDescription" not in drill
    assert cap.examine(drill).valid
