"""Reading an alert: what is kept of it, what is said about it, and how much is said at most."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lalert import cap
from lalert.errors import InvalidAlert, NotXml, ProblemSeverity
from lalert.model import (
    JST,
    Certainty,
    Circle,
    Info,
    MsgType,
    NamedValue,
    Reference,
    Resource,
    Scope,
    Severity,
    Status,
    Urgency,
)

DATA = Path(__file__).parents[1] / "data" / "cap"
ORDER = (DATA / "good" / "evacuation-order.xml").read_text(encoding="utf-8")


def golden(name: str) -> bytes:
    return (DATA / "good" / name).read_bytes()


def changed(*pairs: tuple[str, str]) -> bytes:
    text = ORDER
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text.encode()


def rules_of(raw: bytes) -> list[str]:
    return [problem.rule for problem in cap.examine(raw).problems]


def test_everything_that_an_alert_says_is_kept() -> None:
    raw = golden("everything.xml")
    alert = cap.parse(raw)
    sent = datetime(2026, 7, 4, 2, 20, tzinfo=JST)
    assert (alert.identifier, alert.sender, alert.sent, alert.sent_text) == (
        "hitoyoshi-20260704-0001",
        "bousai@city.hitoyoshi.example.jp",
        sent,
        "2026-07-04T02:20:00+09:00",
    )
    assert (alert.status, alert.msg_type, alert.scope) == (Status.ACTUAL, MsgType.UPDATE, Scope.RESTRICTED)
    assert alert.source == "河川水位計 人吉観測所"
    assert alert.restriction == "防災関係機関に限る"
    assert alert.addresses == ("bousai@example.jp", "人吉市 消防団")
    assert alert.codes == ("example-profile-1", "example-profile-2")
    assert alert.note == "続報"
    assert alert.incidents == ("令和8年 7月豪雨", "KUMA-2026")
    earlier = datetime(2026, 7, 3, 20, tzinfo=JST)
    assert alert.references == tuple(
        Reference("bousai@city.hitoyoshi.example.jp", name, "2026-07-03T20:00:00+09:00", earlier)
        for name in ("hitoyoshi-20260703-0009", "hitoyoshi-20260703-0008")
    )
    assert alert.version == "1.2"
    assert alert.raw is raw
    assert alert.defects == ()
    info = alert.infos[0]
    assert (info.language, info.categories, info.event) == ("ja", ("Met",), "避難指示")
    assert (info.response_types, info.audience) == (("Evacuate",), "球磨川沿いの住民")
    assert (info.urgency, info.severity, info.certainty) == (
        Urgency.IMMEDIATE,
        Severity.EXTREME,
        Certainty.LIKELY,
    )
    assert (info.effective, info.onset) == (sent, sent)
    assert info.expires == datetime(2026, 7, 4, 14, 20, tzinfo=JST)
    assert info.expires.utcoffset() == timedelta(hours=9)
    assert info.event_codes == (NamedValue("例", "E4"),)
    assert info.parameters == (NamedValue("警戒レベル", "4"),)
    assert info.sender_name == "人吉市"
    assert info.headline == "球磨川の氾濫に備え、直ちに避難してください。"
    assert info.description == "球磨川の水位が上がり、氾濫のおそれが高まっています。"
    assert info.instruction == "危険な場所から全員避難してください。"
    assert info.web == "https://www.city.hitoyoshi.example.jp/bousai/"
    assert info.contact == "人吉市防災課 0966-00-0000"
    assert info.resources == (
        Resource(
            "避難所の地図",
            "text/plain; charset=utf-8",
            3,
            "map.txt",
            "44GC",
            "98fdfc0a7426bbb0fca0b106fd1a6c907446d7c0",
        ),
    )
    area = info.areas[0]
    assert area.area_desc == "人吉市 球磨川沿い"
    assert area.polygons == (
        ((130.74, 32.2), (130.78, 32.2), (130.78, 32.23), (130.74, 32.23), (130.74, 32.2)),
    )
    assert area.circles == (Circle(130.76, 32.21, 2500.0),)
    assert area.geocodes == (NamedValue("JIS X 0402", "432032"),)
    assert (area.altitude, area.ceiling) == (-10.5, 350.0)
    assert alert.infos[1].language == "en"
    assert alert.infos[1].headline == "Leave dangerous places now: the Kuma river may overflow."


@pytest.mark.parametrize("name", ["prefixed.xml", "commented.xml", "cdata.xml", "signed.xml"])
def test_another_way_to_write_the_same_is_the_same_alert(name: str) -> None:
    assert cap.parse(golden(name)) == cap.parse(golden("evacuation-order.xml"))


def test_a_comment_does_not_cut_a_text_short() -> None:
    alert = cap.parse(
        changed(("直ちに避難してください。</headline>", "<!-- x -->直ちに避難してください。</headline>"))
    )
    assert alert.infos[0].headline == "球磨川の氾濫に備え、直ちに避難してください。"


def test_indentation_is_no_part_of_a_text_but_the_ideographic_space_is() -> None:
    alert = cap.parse(changed(("<headline>", "<headline>\n      　"), ("</headline>", "\n    </headline>")))
    assert alert.infos[0].headline == "　球磨川の氾濫に備え、直ちに避難してください。"


def test_an_empty_optional_element_is_as_if_it_were_absent() -> None:
    raw = changed(("人吉市防災課 0966-00-0000", ""), ("<language>ja</language>", "<language/>"))
    info = cap.parse(raw).infos[0]
    assert info.contact is None
    assert info.language == "en-US"


def test_a_language_of_white_space_alone_is_refused_by_name() -> None:
    assert rules_of(changed(("<language>ja</language>", "<language> </language>"))) == ["CAP-LANGUAGE-FORM"]


def test_midnight_may_be_written_as_24_o_clock() -> None:
    assert cap.parse(golden("midnight-24.xml")).infos[0].expires == datetime(2026, 7, 5, tzinfo=JST)


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_the_version_is_told_by_the_namespace(version: str) -> None:
    name = "evacuation-order.xml" if version == "1.2" else f"{version}.xml"
    report = cap.examine(golden(name))
    assert report.alert is not None
    assert report.version == report.alert.version == version
    assert cap.level(report.alert) == 4


def test_cap_1_0_reads_into_the_same_model() -> None:
    alert = cap.parse(golden("1.0.xml"))
    assert alert.infos[0].certainty is Certainty.LIKELY  # "Very Likely"
    assert alert.infos[0].parameters == (NamedValue("警戒レベル", "4"),)
    assert alert.infos[0].areas[0].geocodes == (NamedValue("JIS X 0402", "432032"),)


def test_cap_1_0_without_a_scope_is_not_public() -> None:
    assert cap.parse((DATA / "odd" / "1.0-without-scope.xml").read_bytes()).scope is Scope.RESTRICTED


def test_a_reference_of_cap_1_0_names_identifier_and_sender_alone() -> None:
    text = golden("1.0.xml").decode()
    text = text.replace("<msgType>Alert", "<msgType>Update")
    text = text.replace("</scope>", "</scope><references>old-1/a@example.jp old-2/a@example.jp</references>")
    references = cap.parse(text.encode()).references
    assert [(r.identifier, r.sender, r.sent) for r in references] == [
        ("old-1", "a@example.jp", ""),
        ("old-2", "a@example.jp", ""),
    ]
    assert len({r.id for r in references}) == 2


def test_a_document_that_is_no_xml_raises_not_xml_with_its_line() -> None:
    with pytest.raises(NotXml, match=r"line 43: the document is not well-formed XML: .*mismatch") as caught:
        cap.parse(ORDER.replace("</info>", "</inf>").encode())
    assert caught.value.line == 43
    assert caught.value.status == 400


def test_an_invalid_alert_raises_with_every_problem() -> None:
    raw = (DATA / "bad" / "several.xml").read_bytes()
    with pytest.raises(InvalidAlert) as caught:
        cap.parse(raw)
    assert caught.value.problems == cap.examine(raw).problems
    assert len(caught.value.problems) == 6
    assert caught.value.detail.startswith("/alert/sent: ")


def test_an_invalid_alert_is_told_its_warnings_too() -> None:
    raw = changed(("<status>Actual", "<status>actual"), ("<language>ja", "<language>jp"))
    assert rules_of(raw) == ["CAP-VALUE", "CAP-LANGUAGE-CODE"]


def test_places_are_named_as_people_count_them() -> None:
    area = ORDER[ORDER.index("    <area>") : ORDER.index("  </info>")]
    broken = area.replace("32.20,130.74</polygon>", "32.20,130.75</polygon>")
    raw = ORDER.replace(area, area + area + broken).encode()
    (problem,) = cap.examine(raw).problems
    assert problem.path == "/alert/info[1]/area[3]/polygon[1]"
    assert raw.decode().splitlines()[problem.line - 1].strip().startswith("<polygon>")
    assert problem.severity is ProblemSeverity.ERROR


def test_an_element_that_is_expected_once_has_no_number_unless_there_are_more() -> None:
    raw = changed(("<scope>Public</scope>", "<scope>Public</scope><scope>Private</scope>"))
    assert [p.path for p in cap.examine(raw).problems] == ["/alert/scope[2]"]


def test_only_the_element_that_would_have_to_move_is_out_of_order() -> None:
    raw = changed(
        ("    <web>https://www.city.hitoyoshi.example.jp/bousai/</web>\n", ""),
        ("    <language>", "    <web>https://www.city.hitoyoshi.example.jp/bousai/</web>\n    <language>"),
    )
    (problem,) = cap.examine(raw).problems
    assert problem.path == "/alert/info[1]/web"
    assert problem.message == "<web> is in the wrong place: the order of CAP puts it before <contact>"


def test_a_value_that_differs_in_capitals_alone_is_answered_with_the_right_one() -> None:
    (problem,) = cap.examine(changed(("<scope>Public", "<scope>PUBLIC"))).problems
    assert '"PUBLIC" is no value of <scope>: did you mean Public?' in problem.message
    assert "Publicではありませんか" in problem.message_ja


def test_swapped_coordinates_are_answered_with_that_guess() -> None:
    (problem,) = cap.examine(changed(("<circle>32.21,130.76", "<circle>130.76,32.21"))).problems
    assert problem.rule == "CAP-POINT-SWAPPED"
    assert '"130.76,32.21" has longitude first' in problem.message


def test_what_a_sender_wrote_is_quoted_short_and_without_control_characters() -> None:
    problem = cap.examine(changed(("<status>Actual", "<status>\u202e" + "x" * 500))).problems[0]
    assert "\u202e" not in problem.message
    assert "U+202E" in problem.message
    assert len(problem.message) < 200


def test_at_most_200_errors_are_listed_and_it_is_said_that_there_are_more() -> None:
    raw = changed(("      <circle>", "      <circle>x</circle>" * 500 + "<circle>"))
    problems = cap.examine(raw).problems
    assert len(problems) == 201
    assert problems[-1].rule == "CAP-TOO-MANY"
    assert "200" in problems[-1].message


def test_remarks_never_hide_an_error() -> None:
    raw = changed(
        ("      <circle>", "      <circle>32.21,130.76 0</circle>" * 500 + "<circle>"),
        (
            "<value>432032</value>\n      </geocode>",
            "<value>432032</value>\n      </geocode>\n<ceiling>9</ceiling>",
        ),
    )
    report = cap.examine(raw)
    assert not report.valid
    assert "CAP-CEILING-ALONE" in [problem.rule for problem in report.problems]
    assert len(report.problems) == 201


def test_remarks_without_end_do_not_make_an_alert_invalid() -> None:
    raw = changed(("      <circle>", "      <circle>32.21,130.76 0</circle>" * 500 + "<circle>"))
    assert len(cap.examine(raw).problems) == 201
    alert = cap.parse(raw)
    assert alert.defects == ()  # how it could be better is not the matter of those whom it is for
    assert len(alert.infos[0].areas[0].circles) == 501


def test_a_nationwide_alert_is_read() -> None:
    area = ORDER[ORDER.index("    <area>") : ORDER.index("  </info>")]
    alert = cap.parse(ORDER.replace(area, area.replace(" 球磨川沿い", "") * 1741).encode())
    assert len(alert.infos[0].areas) == 1741


@pytest.mark.parametrize(
    ("element", "count", "limit"), [("references", 1001, 1000), ("addresses", 10001, 10000)]
)
def test_a_list_has_an_end(element: str, count: int, limit: int) -> None:
    item = "a@example.jp,b,2026-07-03T20:00:00+09:00" if element == "references" else "a"
    text = " ".join([item] * count)
    raw = changed(("</scope>", f"</scope><{element}>{text}</{element}>"))
    errors = [p for p in cap.examine(raw).problems if p.severity is ProblemSeverity.ERROR]
    assert [(p.rule, p.path) for p in errors] == [("CAP-LIMIT", f"/alert/{element}")]
    assert str(limit) in errors[0].message


def test_two_signatures_are_fine_and_a_dozen_is_not() -> None:
    signature = '<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/>'
    assert cap.examine(changed(("</alert>", signature * 2 + "</alert>"))).valid
    assert rules_of(changed(("</alert>", signature * 12 + "</alert>"))) == ["CAP-LIMIT"]


def test_what_only_the_schema_refuses_is_still_refused_and_placed() -> None:
    # An element of CAP inside a signature is checked laxly: if the schema knows it, it must be right.
    signature = (
        '<s:Signature xmlns:s="http://www.w3.org/2000/09/xmldsig#"><s:Object>'
        '<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"/></s:Object></s:Signature>'
    )
    (problem,) = cap.examine(changed(("</alert>", signature + "</alert>"))).problems
    assert problem.rule == "CAP-SCHEMA"
    assert problem.path == "/alert/Signature/Object/alert"
    assert problem.line == 44


def test_the_same_document_read_twice_is_the_same_alert() -> None:
    assert cap.parse(ORDER.encode()) == cap.parse(ORDER.encode())
    assert cap.parse(ORDER.encode()).id == cap.parse(golden("prefixed.xml")).id


def test_the_sender_s_offset_is_kept_and_the_instant_is_right() -> None:
    alert = cap.parse(changed(("<sent>2026-07-04T02:20:00+09:00", "<sent>2026-07-03T17:20:00-00:00")))
    assert alert.sent == datetime(2026, 7, 3, 17, 20, tzinfo=UTC)
    assert alert.sent_text == "2026-07-03T17:20:00-00:00"
    assert alert.id == cap.parse(ORDER.encode()).id


def test_a_value_of_the_model_is_made_as_any_dataclass_is() -> None:
    plain = Info("event", ("Met",), Urgency.PAST, Severity.MINOR, Certainty.LIKELY)
    named = Info(
        certainty=Certainty.LIKELY,
        severity=Severity.MINOR,
        urgency=Urgency.PAST,
        categories=("Met",),
        event="event",
    )
    assert plain == named
    assert (plain.language, plain.areas, plain.expires) == ("en-US", (), None)
    assert replace(plain, event="other").event == "other"
    with pytest.raises(FrozenInstanceError):
        plain.event = "x"  # type: ignore[misc]
    with pytest.raises(TypeError, match="event"):
        Info()  # type: ignore[call-arg]


def test_half_a_pair_is_remarked_on_in_every_version() -> None:
    old = (DATA / "good" / "1.0.xml").read_bytes()
    halves = (
        (old, b"JIS X 0402=432032", b"JIS X 0402="),
        (ORDER.encode(), b"<value>432032</value>", b"<value/>"),
    )
    for raw, whole, half in halves:
        assert raw.count(whole) == 1
        report = cap.examine(raw.replace(whole, half))
        assert [p.rule for p in report.problems if p.severity is ProblemSeverity.WARNING] == [
            "CAP-PAIR-EMPTY"
        ]


def test_a_cancel_that_gives_its_reason_needs_no_info() -> None:
    start, end = ORDER.index("  <info>"), ORDER.index("</alert>")
    bare = (ORDER[:start] + ORDER[end:]).replace("<msgType>Alert", "<msgType>Cancel")
    note, reference = (
        "<note>水位が下がったため</note>",
        "<references>a@example.jp,b,2026-07-04T01:00:00+09:00</references>",
    )
    with_reason = bare.replace("</scope>", f"</scope>{note}{reference}").encode()
    without = bare.replace("</scope>", f"</scope>{reference}").encode()
    assert rules_of(with_reason) == []
    assert rules_of(without) == ["CAP-INFO-MISSING"]
