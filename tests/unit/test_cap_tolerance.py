"""What a tolerant policy makes of real alerts' faults: nothing that decides is guessed, and no warning is lost over the rest."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from lalert import cap
from lalert.cap.rules import Fault, ring
from lalert.cap.tolerance import _ALWAYS, _BY_VALUE, TOLERABLE, repair_of
from lalert.errors import InvalidAlert, NotXml, ProblemSeverity
from lalert.model import Alert, Certainty, Circle, MsgType, Reference, Scope, Severity, Urgency

DATA = Path(__file__).parents[1] / "data" / "cap"
ORDER = (DATA / "good" / "evacuation-order.xml").read_text(encoding="utf-8")
POLYGON = ORDER[ORDER.index("<polygon>") : ORDER.index("</polygon>") + len("</polygon>")]
GEOCODE = ORDER[ORDER.index("<geocode>") : ORDER.index("</geocode>") + len("</geocode>")]
CIRCLE = "<circle>32.21,130.76 2.5</circle>"
ORDER_HEADLINE = cap.parse(ORDER.encode()).infos[0].headline
SENT = "<sent>2026-07-04T02:20:00+09:00</sent>"


def changed(*pairs: tuple[str, str]) -> bytes:
    text = ORDER
    for old, new in pairs:
        assert text.count(old) == 1, (text.count(old), old)
        text = text.replace(old, new)
    return text.encode()


def tolerated(*pairs: tuple[str, str]) -> Alert:
    """Return what is made of a changed order: refused when strict, accepted when tolerant, with every error told."""
    raw = changed(*pairs)
    with pytest.raises(InvalidAlert):
        cap.parse(raw)
    alert = cap.parse(raw, tolerant=True)
    errors = [p for p in alert.defects if p.severity is ProblemSeverity.ERROR]
    assert errors
    assert all(p.repair and p.repair_ja for p in errors)
    assert alert.raw == raw
    return alert


def refused(*pairs: tuple[str, str]) -> None:
    with pytest.raises(InvalidAlert):
        cap.parse(changed(*pairs), tolerant=True)


@pytest.mark.parametrize("file", sorted((DATA / "good").glob("*.xml")), ids=lambda file: file.stem)
def test_a_sound_alert_is_the_same_under_either_policy(file: Path) -> None:
    assert cap.parse(file.read_bytes(), tolerant=True) == cap.parse(file.read_bytes())


# The faults that real alerts have most.


def test_elements_in_the_wrong_order_are_read() -> None:
    info = cap.parse(ORDER.encode()).infos[0]
    headline = ORDER[ORDER.index("<headline>") : ORDER.index("</headline>") + len("</headline>")]
    moved = tolerated((headline, ""), ("<event>", headline + "<event>"))
    assert moved.infos[0] == info


def test_words_in_an_altitude_do_not_lose_a_warning_not_even_in_every_area() -> None:
    area = ORDER[ORDER.index("<area>") : ORDER.index("</area>") + len("</area>")]
    broken = area.replace("</area>", "<altitude>sea level</altitude></area>")
    assert tolerated((area, broken)).infos[0].areas[0].altitude is None
    alert = tolerated((area, broken * 1_900))
    assert len(alert.infos[0].areas) == 1_900
    assert len(alert.defects) == 201


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-07-04T02:20:00Z", datetime(2026, 7, 4, 2, 20, tzinfo=UTC)),
        ("2026-07-04T02:20:00.987+09:00", datetime(2026, 7, 3, 17, 20, tzinfo=UTC)),
        ("2026-07-04T02:20:00+0900", datetime(2026, 7, 3, 17, 20, tzinfo=UTC)),
        ("2026-07-04 02:20:00+09:00", datetime(2026, 7, 3, 17, 20, tzinfo=UTC)),
    ],
)
def test_a_time_of_another_form_is_read_where_it_can_mean_one_time_alone(text: str, meant: datetime) -> None:
    alert = tolerated((SENT, f"<sent>{text}</sent>"))
    assert alert.sent == meant
    again = cap.parse(cap.render(alert))  # what the hub passes on is written as it should be
    assert again.sent == meant
    assert again.id == alert.id


@pytest.mark.parametrize(
    "text",
    [
        "2026-07-04T02:20:00",
        "2026-07-04T02:20:00,09:00",
        "2026-02-30T02:20:00+09:00",
        "4 July",
        "",
        "07/04/2026",
    ],
)
def test_a_time_that_cannot_be_read_is_refused_under_any_policy(text: str) -> None:
    refused((SENT, f"<sent>{text}</sent>"))
    if text:
        expires = ORDER[ORDER.index("<expires>") : ORDER.index("</expires>")]
        refused((expires, f"<expires>{text}"))


def test_html_and_elements_in_a_text_leave_the_text() -> None:
    headline = ORDER[ORDER.index("<headline>") : ORDER.index("</headline>")]
    alert = tolerated((headline, "<headline>川が<b>あふれ</b>ます"))
    assert alert.infos[0].headline == "川があふれます"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a@example.jp,old-1,2026-07-04T01:00:00.5+09:00", "2026-07-04T01:00:00+09:00"),
        ("a@example.jp,old-1,2026-07-03T16:00:00Z", "2026-07-03T16:00:00-00:00"),
    ],
)
def test_a_reference_with_a_time_of_another_form_is_found(written: str, meant: str) -> None:
    alert = tolerated(
        ("<msgType>Alert", "<msgType>Update"), ("</scope>", f"</scope><references>{written}</references>")
    )
    instant = datetime(2026, 7, 3, 16, tzinfo=UTC)
    assert alert.references == (Reference("a@example.jp", "old-1", meant, instant),)


def test_an_update_of_nothing_is_told_and_a_cancel_of_nothing_is_not() -> None:
    assert tolerated(("<msgType>Alert", "<msgType>Update")).references == ()
    for kind in ("Cancel", "Ack", "Error"):
        refused(("<msgType>Alert", f"<msgType>{kind}"))
        refused(
            ("<msgType>Alert", f"<msgType>{kind}"),
            ("</scope>", "</scope><references>somebody's</references>"),
        )


def test_empty_elements_of_templates_say_nothing() -> None:
    alert = tolerated(
        (POLYGON, POLYGON + "<polygon/><circle/>"),
        ("</scope>", "</scope><references/>"),
        ("<expires>2026-07-04T14:20:00+09:00</expires>", "<expires/>"),
    )
    sound = cap.parse(ORDER.encode())
    assert alert.infos[0].areas == sound.infos[0].areas
    assert alert.references == ()
    assert alert.infos[0].expires is None


def test_a_value_in_other_capitals_is_read_and_an_unknown_one_is_unknown() -> None:
    alert = tolerated(
        ("<urgency>Immediate", "<urgency>IMMEDIATE"),
        ("<severity>Extreme", "<severity>Catastrophic"),
        ("<certainty>Likely", "<certainty>Very Likely"),
        ("<category>Met", "<category>Weather"),
    )
    info = alert.infos[0]
    assert (info.urgency, info.severity, info.certainty) == (
        Urgency.IMMEDIATE,
        Severity.UNKNOWN,
        Certainty.LIKELY,
    )
    assert info.categories == ()


# Geometry.


def rings_of(alert: Alert) -> tuple[object, ...]:
    return alert.infos[0].areas[0].polygons


def test_a_bow_tie_becomes_an_area_that_holds_everybody() -> None:
    alert = tolerated((POLYGON, "<polygon>32,130 33,131 32,131 33,130 32,130</polygon>"))
    (ring,) = alert.infos[0].areas[0].polygons
    assert shapely.Polygon(ring).equals(shapely.box(130, 32, 131, 33))


@given(st.permutations(range(8)))
@settings(max_examples=40)
def test_no_order_of_points_loses_anybody_inside(order: list[int]) -> None:
    corners = [(32 + math.sin(n), 130 + math.cos(n)) for n in (math.tau * k / 8 for k in range(8))]
    drawn = [corners[n] for n in (*order, order[0])]
    text = " ".join(f"{lat!r},{lon!r}" for lat, lon in drawn)
    alert = cap.parse(changed((POLYGON, f"<polygon>{text}</polygon>")), tolerant=True)
    held = shapely.union_all([shapely.Polygon(ring) for ring in alert.infos[0].areas[0].polygons])
    assert held.buffer(1e-9).covers(shapely.Polygon([(lon, lat) for lat, lon in corners]))


def test_an_open_ring_is_closed() -> None:
    alert = tolerated((POLYGON, "<polygon>32,130 32,131 33,131 33,130</polygon>"))
    (ring,) = alert.infos[0].areas[0].polygons
    assert ring[0] == ring[-1]
    assert shapely.Polygon(ring).equals(shapely.box(130, 32, 131, 33))


def test_points_and_circles_with_other_separators_are_read() -> None:
    alert = tolerated(
        (
            POLYGON,
            "<polygon>32, 130; 32 , 131; 33,131;33,130; 32,130</polygon><circle>32.5, 130.5, 2.5 km</circle>",
        )
    )
    area = alert.infos[0].areas[0]
    assert area.polygons == (((130.0, 32.0), (131.0, 32.0), (131.0, 33.0), (130.0, 33.0), (130.0, 32.0)),)
    assert area.circles == (Circle(130.5, 32.5, 2500.0), Circle(130.76, 32.21, 2500.0))


@pytest.mark.parametrize(
    "text",
    [
        "32 130 32 131 33 131 33 130 32 130",
        "32,130, 32,131, 33,131, 33,130, 32,130,",
        "32,130;32,131;33,131;33,130;32,130",
    ],
)
def test_numbers_that_end_where_they_began_are_a_ring_however_they_are_parted(text: str) -> None:
    square = ((130.0, 32.0), (131.0, 32.0), (131.0, 33.0), (130.0, 33.0), (130.0, 32.0))
    assert rings_of(tolerated((POLYGON, f"<polygon>{text}</polygon>"))) == (square,)


@pytest.mark.parametrize(
    "place",
    [
        "<polygon>人吉市の全域</polygon>",
        "<polygon>91,130 32,131 33,131 91,130</polygon>",
        "<polygon>130,32 131,32 131,33 130,32</polygon>",
        "<polygon>32 130 32 131 33 131 33 130</polygon>",
        "<polygon>32,130 32,131 33,131 32,130 7</polygon>",
        "<polygon>nan,130 32,131 33,131 nan,130</polygon>",
        "<circle>32.5,130.5</circle>",
        "<circle>32.5,130.5 -3</circle>",
        "<circle>132.5,30.5 3</circle>",
        "<geocode><value>432032</value></geocode>",
        "<polygon><point>32,130</point></polygon>",
        "<polygn>32,130 33,131 32,131 32,130</polygn>",
    ],
)
def test_a_place_that_cannot_be_read_is_refused_under_any_policy(place: str) -> None:
    refused((POLYGON, POLYGON + place))


def test_what_encloses_nobody_may_go_if_the_area_is_a_place_without_it() -> None:
    flat = "<polygon>32,130 33,130 34,130 32,130</polygon>"
    assert rings_of(tolerated((POLYGON, flat))) == ()
    refused((POLYGON, flat), (GEOCODE, ""), (CIRCLE, ""))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<areaDesc>", '<polygon xmlns="">32,130 33,131 32,131 32,130</polygon><areaDesc>'),
        ("<areaDesc>", '<x:point xmlns:x="urn:x">32,130</x:point><areaDesc>'),
        ("<info>", '<info xmlns=""/><info>'),
        ("<status>", '<x:status xmlns:x="urn:x">Exercise</x:status><status>'),
        ("<headline>", "<headline><expires>2026-07-04T03:00:00+09:00</expires>"),
        ("<headline>", "<headline><b><area/></b>"),
        ("<areaDesc>", "<areaDesc><circle>32,130 5</circle>"),
        ("<headline>", "<headline><b>" + "<b/>" * 60 + "</b>"),
    ],
)
def test_what_decides_is_not_passed_over_because_it_stands_in_the_wrong_place(old: str, new: str) -> None:
    refused((old, new))


def test_an_extension_of_others_is_passed_over() -> None:
    extension = '<x:colour xmlns:x="urn:x"><x:code>red</x:code></x:colour>'
    assert tolerated(("<area>", extension + "<area>")).infos == cap.parse(ORDER.encode()).infos


def test_an_area_outside_of_every_info_is_not_lost_unseen() -> None:
    area = ORDER[ORDER.index("<area>") : ORDER.index("</area>") + len("</area>")]
    refused((area, ""), ("<info>", area + "<info>"))


# What decides is never guessed.


@pytest.mark.parametrize("name", ["status", "msgType", "scope"])
@pytest.mark.parametrize("value", ["", "actual", " Exercise", "Real", "None"])
def test_status_type_and_scope_are_exact_or_the_alert_is_refused(name: str, value: str) -> None:
    element = ORDER[ORDER.index(f"<{name}>") : ORDER.index(f"</{name}>")]
    refused((element, f"<{name}>{value}"))
    refused((f"{element}</{name}>", ""))


@pytest.mark.parametrize("name", ["identifier", "sender", "sent", "status", "msgType", "scope"])
def test_two_different_answers_to_who_when_and_whether_are_refused(name: str) -> None:
    element = ORDER[ORDER.index(f"<{name}>") : ORDER.index(f"</{name}>") + len(f"</{name}>")]
    other = {
        "sent": "2026-07-04T02:21:00+09:00",
        "status": "Exercise",
        "msgType": "Cancel",
        "scope": "Private",
    }
    refused((element, f"{element}<{name}>{other.get(name, 'other')}</{name}>"))
    tolerated((element, element + element))


def test_who_may_read_it_is_never_widened() -> None:
    assert tolerated(("<scope>Public", "<scope>Private")).scope is Scope.PRIVATE
    assert tolerated(("<scope>Public", "<scope>Restricted")).scope is Scope.RESTRICTED
    refused(("</scope>", "</scope><restriction>内部</restriction>"))


def test_of_two_severities_the_gravest_counts_and_of_two_texts_the_first() -> None:
    alert = tolerated(
        ("<severity>Extreme</severity>", "<severity>Minor</severity><severity>Extreme</severity>"),
        ("<headline>", "<headline>先</headline><headline>"),
    )
    assert alert.infos[0].severity is Severity.EXTREME
    assert alert.infos[0].headline == "先"
    assert tolerated(("<headline>", "<headline/><headline>")).infos[0].headline == ORDER_HEADLINE
    assert [p.repair for p in alert.defects if p.repair] == ["the gravest one counts", "the first one counts"]


def test_two_different_ends_are_refused() -> None:
    refused(("<expires>", "<expires>2026-07-04T03:00:00+09:00</expires><expires>"))


def test_an_end_before_the_beginning_does_not_end_a_warning() -> None:
    assert tolerated(("<expires>2026-07-04T14", "<expires>2026-07-03T14")).infos[0].expires is None


def test_an_address_that_must_not_be_opened_is_not_passed_on() -> None:
    web = ORDER[ORDER.index("<web>") : ORDER.index("</web>")]
    assert tolerated((web, "<web>javascript:alert(1)")).infos[0].web is None


def test_an_event_that_is_missing_is_told_by_its_headline() -> None:
    event = ORDER[ORDER.index("<event>") : ORDER.index("</event>") + len("</event>")]
    alert = tolerated((event, ""))
    assert alert.infos[0].event == alert.infos[0].headline


def test_attacks_are_refused_under_any_policy() -> None:
    for raw in (b"<!DOCTYPE alert>" + ORDER.partition("?>")[2].encode(), b"<alert/>", b"not XML"):
        with pytest.raises((InvalidAlert, NotXml)):
            cap.parse(raw, tolerant=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<status>", '<status mode="Exercise">'),
        ("<scope>", '<scope of="Private">'),
        ("<info>", '<info expires="2026-07-04T03:00:00+09:00">'),
        ("<alert ", '<alert status="Exercise" '),
    ],
)
def test_an_attribute_that_might_decide_is_passed_over_under_no_policy(old: str, new: str) -> None:
    refused((old, new))


@pytest.mark.parametrize("corners", [3, 4])
def test_however_many_rings_are_left_open_all_of_them_are_closed(corners: int) -> None:
    area = ORDER[ORDER.index("<area>") : ORDER.index("</area>") + len("</area>")]
    rings = []
    for number in range(250):
        west, east = f"{130 + number / 100:.3f}", f"{130 + number / 100 + 0.005:.3f}"
        rings.append([f"32.1,{west}", f"32.1,{east}", f"32.2,{east}", f"32.2,{west}"][:corners])
    areas = "".join(area.replace(POLYGON, f"<polygon>{' '.join(ring)}</polygon>") for ring in rings)
    read = tolerated((area, areas)).infos[0].areas
    assert [len(each.polygons) for each in read] == [1] * 250
    assert all(ring[0] == ring[-1] for each in read for ring in each.polygons)


@pytest.mark.parametrize(
    "text",
    [
        "50,5 10,5 50,6 10,5 50,6 10,7 50,5 10,5",
        "50,5;10,5 50,6;10,5 50,6;10,7 50,5;10,5",
        "50,5 10,5 50,6 10,5 50,6 10,7",
    ],
)
def test_numbers_that_may_have_commas_for_decimal_points_are_no_place_that_is_beyond_doubt(text: str) -> None:
    refused((POLYGON, f"<polygon>{text}</polygon>"))


def test_a_hundred_large_rings_that_cross_themselves_are_repaired_soon_and_nobody_inside_is_missed() -> None:
    area = ORDER[ORDER.index("<area>") : ORDER.index("</area>") + len("</area>")]
    rings = [_with_loops(500, 40, 30 + number / 100) for number in range(100)]
    texts = [" ".join(f"{lat:.4f},{lon:.4f}" for lon, lat in points) for points in rings]
    began = time.process_time()
    assert all(isinstance(ring(text), Fault) for text in texts)
    closely = time.process_time() - began
    raw = changed((area, "".join(area.replace(POLYGON, f"<polygon>{text}</polygon>") for text in texts)))
    began = time.process_time()
    alert = cap.parse(raw, tolerant=True)
    spent = time.process_time() - began
    for points, read in zip(rings, alert.infos[0].areas, strict=True):
        held = shapely.union_all([shapely.Polygon(each) for each in read.polygons])
        line = shapely.LineString(points)
        inside = shapely.union_all(shapely.get_parts(shapely.polygonize([shapely.union_all(line)])))
        assert inside.difference(held.buffer(0.001)).is_empty
    assert spent < closely * 0.7


def _with_loops(count: int, loops: int, south: float) -> list[tuple[float, float]]:
    """Return a circle of points of which some have changed places with their neighbours."""
    angles = [n / count * math.tau for n in range(count)]
    for n in range(1, count - 1, count // loops):
        angles[n], angles[n + 1] = angles[n + 1], angles[n]
    points = [(130 + math.cos(angle) / 10, south + math.sin(angle) / 10) for angle in angles]
    return [*points, points[0]]


def test_more_faults_than_any_typo_explains_are_refused() -> None:
    area = ORDER[ORDER.index("<area>") : ORDER.index("</area>") + len("</area>")]
    refused((area, area.replace("</area>", "<altitude>x</altitude></area>") * 3_000))


def test_the_table_of_what_is_forgiven_names_errors_that_exist() -> None:
    for rule in {*_ALWAYS, *_BY_VALUE}:
        assert cap.RULES[rule].severity is ProblemSeverity.ERROR
    assert not _ALWAYS.keys() & _BY_VALUE.keys()
    for rule, entry in cap.RULES.items():
        if rule.startswith("CAP-XML") or rule in {
            "CAP-ROOT",
            "CAP-LIMIT",
            "CAP-TIME-VALUE",
            "CAP-POINT-SWAPPED",
        }:
            found = Fault(rule, "", 0, {"name": "x", "parent": "y"}, "value")
            assert repair_of(found, "x", "y", MsgType.ALERT) is None, entry


def test_the_documentation_has_every_rule_that_may_be_forgiven() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cap-rules.md").read_text(encoding="utf-8")
    section = text.partition("## What a tolerant policy forgives")[2].partition("\n## ")[0]
    cells = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    named = re.findall(r"`(CAP-[A-Z-]+)`", " ".join(cells))
    assert len(named) == len(set(named))
    assert set(named) == TOLERABLE


# With an error and without, at random.


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_nothing_that_decides_ever_changes_when_other_elements_are_dropped_doubled_or_moved(
    data: st.DataObject,
) -> None:
    lines = ORDER.splitlines(keepends=True)
    leaves = [n for n, line in enumerate(lines) if line.strip().startswith("<") and "</" in line]
    for _ in range(data.draw(st.integers(1, 4))):
        n = data.draw(st.sampled_from(leaves))
        lines[n] = data.draw(
            st.sampled_from(["", lines[n] * 2, lines[n].replace(">", "> ", 1), lines[leaves[0]]])
        )
    raw = "".join(lines).encode()
    report = cap.examine(raw)
    sound = cap.parse(ORDER.encode())
    if report.alert is not None:
        alert = report.alert
        assert (alert.status, alert.msg_type, alert.scope) == (sound.status, sound.msg_type, sound.scope)
        assert (alert.sender, alert.sent) == (sound.sender, sound.sent)
        assert report.valid or any(p.repair for p in alert.defects)
        for info in alert.infos:
            for area in info.areas:
                assert set(area.polygons) <= set(sound.infos[0].areas[0].polygons)
