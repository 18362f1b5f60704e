"""The pure rules: texts to values, values to verdicts, and the catalogue that gives them words."""

from __future__ import annotations

import math
import re
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lalert.cap import RULES, opening, rules
from lalert.cap.parse import LIMITS, MAX_CHILDREN, MAX_RINGS
from lalert.cap.rules import Fault
from lalert.errors import ProblemSeverity
from lalert.geo import ring_problem
from lalert.model import UNKNOWN_INSTANT, Circle, MsgType, Reference

DOCS = Path(__file__).parents[2] / "docs" / "cap-rules.md"


def rule_of(read: object) -> str:
    return read.rule if isinstance(read, Fault) else "read"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-07-04T02:20:00+09:00", "read"),
        ("2026-07-03T17:20:00-00:00", "read"),
        ("2024-02-29T23:59:59+14:00", "read"),
        ("2026-07-04T24:00:00+09:00", "read"),
        ("2026-07-04T24:00:01+09:00", "CAP-TIME-VALUE"),
        ("2026-07-04T02:20:60+09:00", "CAP-TIME-VALUE"),
        ("2026-02-29T02:20:00+09:00", "CAP-TIME-VALUE"),
        ("2026-07-04T02:20:00+14:01", "CAP-TIME-VALUE"),
        ("2026-07-04T02:20:00+09:60", "CAP-TIME-VALUE"),
        ("0000-07-04T02:20:00+09:00", "CAP-TIME-VALUE"),
        ("0001-01-01T02:20:00+09:00", "CAP-TIME-VALUE"),
        ("9999-12-31T20:00:00-09:00", "CAP-TIME-VALUE"),
        ("9999-12-31T24:00:00+00:00", "CAP-TIME-VALUE"),
        ("2026-07-04T02:20:00Z", "CAP-TIME-FORM"),
        ("2026-07-04T02:20:00.0+09:00", "CAP-TIME-FORM"),
        ("2026-07-04T02:20:00+0900", "CAP-TIME-FORM"),
        ("2026-07-04 02:20:00+09:00", "CAP-TIME-FORM"),
        ("2026-W27-6T02:20:00+09:00", "CAP-TIME-FORM"),
        ("２０２６-07-04T02:20:00+09:00", "CAP-TIME-FORM"),
        ("2026-07-04T02:20:00+09:00\n", "CAP-TIME-FORM"),
        ("", "CAP-TIME-FORM"),
    ],
)
def test_a_time_has_one_form(text: str, expected: str) -> None:
    assert rule_of(rules.instant(text)) == expected


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("2026-07-04T02:20:00Z", "Z is not allowed"),
        ("2026-07-04T02:20:00.5+09:00", "fractions"),
        ("2026-07-04T02:20:00", "offset from UTC is missing"),
        ("2026-07-04T02:20:00+0900", "needs a colon"),
    ],
)
def test_the_usual_mistakes_in_a_time_are_named(text: str, hint: str) -> None:
    read = rules.instant(text)
    assert isinstance(read, Fault)
    assert hint in read.args["hint"]


@given(st.text())
def test_no_text_makes_a_reader_of_values_raise(text: str) -> None:
    for read in (rules.instant, rules.ring, rules.circle, rules.height, rules.size, rules.pair):
        read(text)
    rules.items(text, "addresses")
    rules.references(text, "1.2")
    rules.references(text, "1.0")
    rules.judge_web(text)
    rules.judge_language(text)
    rules.judge_mime_type(text)
    rules.judge_text("note", text)
    rules.judge_resource(uri=text, deref_uri=text, size=1, digest=text)


numbers = st.from_regex(r"[-+]?([0-9]{1,3}(\.[0-9]{0,4})?|\.[0-9]{1,4})", fullmatch=True)


@given(
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8),
    st.sampled_from([" ", "\n", "\t ", "\r\n    "]),
)
def test_every_way_to_write_a_number_reads_as_that_number(points: list[tuple[str, str]], space: str) -> None:
    closed = [*points, points[0]]
    read = rules.ring(space.join(",".join(point) for point in closed))
    expected = tuple((float(lon), float(lat)) for lat, lon in closed)
    problem = ring_problem(expected)
    assert isinstance(read, Fault) == (problem is not None)
    if problem is None:
        assert read == expected


def near(size: float) -> st.SearchStrategy[float]:
    return st.sampled_from([0.0, 1.0, 2.0, 3.0]).map(lambda n: n * size)


@given(
    st.lists(st.tuples(near(1), near(1)), min_size=4, max_size=8),
    st.sampled_from([(0.0, 0.0), (177.5, 0.0), (-180.0, 87.0), (100.0, -90.0), (-1.5, -1.5)]),
)
def test_the_quick_look_at_a_ring_says_the_same_as_the_thorough_one(
    points: list[tuple[float, float]], corner: tuple[float, float]
) -> None:
    ring = [(lon + corner[0], lat + corner[1]) for lon, lat in points]
    ring.append(ring[0])
    read = rules.ring(" ".join(f"{lat},{lon}" for lon, lat in ring))
    assert isinstance(read, Fault) == (ring_problem(ring) is not None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,179 1,179 1,-179 0,-179 0,179", "read"),  # over the antimeridian
        ("80,0 80,90 80,180 80,-90 80,0", "read"),  # round the pole
        ("1,1 1,2 1,2 2,2 2,1 1,1", "read"),  # a repeated point
        ("35.0,139 35,139.5 35.5,139.5 35.00,139.0", "read"),  # closed as numbers
        ("1,1 1,2 2,2 1,1 ", "read"),
        ("1,1 1,2 2,2", "CAP-POLYGON-POINTS"),
        ("1,1 1,2 2,2 2,1", "CAP-POLYGON-OPEN"),
        ("1,1 1,1 1,1 1,1", "CAP-POLYGON-FLAT"),
        ("1,1 2,2 3,3 1,1", "CAP-POLYGON-FLAT"),
        ("1,1 2,2 1,2 2,1 1,1", "CAP-POLYGON-CROSSING"),
        ("90.1,130 1,131 2,131 90.1,130", "CAP-POINT-RANGE"),
        ("1,180.1 1,2 2,2 1,180.1", "CAP-POINT-RANGE"),
        ("139,35 139,36 140,36 139,35", "CAP-POINT-SWAPPED"),
        ("1e1,1 1,2 2,2 1e1,1", "CAP-POLYGON-FORM"),
        ("inf,1 1,2 2,2 inf,1", "CAP-POLYGON-FORM"),
        ("1 1 1 2 2 2 1 1", "CAP-POLYGON-FORM"),
        ("1,1,0 1,2,0 2,2,0 1,1,0", "CAP-POLYGON-FORM"),
        ("1,1;1,2;2,2;1,1", "CAP-POLYGON-FORM"),
        ("１,１ 1,2 2,2 １,１", "CAP-POLYGON-FORM"),
        ("", "CAP-POLYGON-FORM"),
    ],
)
def test_a_polygon_is_a_closed_ring_on_earth(text: str, expected: str) -> None:
    assert rule_of(rules.ring(text)) == expected


def test_the_point_that_cannot_be_read_is_the_one_that_is_quoted() -> None:
    read = rules.ring("1,1 1,2 2.2.2 1,1")
    assert isinstance(read, Fault)
    assert read.args["text"] == '"2.2.2"'


def test_a_ring_of_thousands_of_points_is_read() -> None:
    count = 5_000
    points = [
        f"{30 + math.sin(n * math.tau / count)},{130 + math.cos(n * math.tau / count)}" for n in range(count)
    ]
    read = rules.ring(" ".join([*points, points[0]]))
    assert not isinstance(read, Fault)
    assert len(read) == count + 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("32.21,130.76 5", Circle(130.76, 32.21, 5000.0)),
        (" 32.21,130.76 0.1\n", Circle(130.76, 32.21, 100.0)),
        ("-90,-180 20000", Circle(-180.0, -90.0, 20_000_000.0)),
        ("32.21,130.76 0", Circle(130.76, 32.21, 0.0)),
        ("32.21,130.76 5km", "CAP-CIRCLE-FORM"),
        ("32.21,130.76\t5", "CAP-CIRCLE-FORM"),
        ("32.21, 130.76 5", "CAP-CIRCLE-FORM"),
        ("32.21 130.76 5", "CAP-CIRCLE-FORM"),
        ("32.21,130.76", "CAP-CIRCLE-FORM"),
        ("32.21,130.76 -1", "CAP-CIRCLE-FORM"),
        ("32.21,130.76 nan", "CAP-CIRCLE-FORM"),
        ("130.76,32.21 5", "CAP-POINT-SWAPPED"),
        ("90.5,130.76 5", "CAP-POINT-RANGE"),
        ("32.21,130.76 20000.1", "CAP-CIRCLE-RANGE"),
    ],
)
def test_a_circle_is_a_point_one_space_and_kilometres(text: str, expected: Circle | str) -> None:
    read = rules.circle(text)
    assert (read.rule if isinstance(read, Fault) else read) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("a b\n c", ("a", "b", "c")),
        ('a "b c" d', ("a", "b c", "d")),
        ('"b c"', ("b c",)),
        ('"" a', ("a",)),
        ('"b c" "d', None),
        ('a"b" c', None),
        ('"a"b', None),
    ],
)
def test_a_list_takes_quotation_marks_round_whole_items(text: str, expected: tuple[str, ...] | None) -> None:
    read = rules.items(text, "addresses")
    assert (None if isinstance(read, Fault) else read) == expected


SENT = datetime(2026, 7, 4, 2, 20, tzinfo=UTC)
ME = Reference("a@example.jp", "a-2", "", SENT)


def reference(sender: str = "a@example.jp", identifier: str = "a-1", hours: int = -1) -> Reference:
    moment = SENT + timedelta(hours=hours)
    return Reference(sender, identifier, moment.isoformat(), moment)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([reference()], []),
        ([reference(identifier="a-2", hours=0)], ["CAP-REFERENCES-SELF"]),
        ([reference("b@example.jp", "a-2", 0)], []),
        ([reference(identifier="a-2", hours=-1)], []),
        ([reference(hours=1)], ["CAP-REFERENCES-LATER"]),
        ([reference(), reference()], ["CAP-REFERENCES-DUPLICATE"]),
        ([Reference("a@example.jp", "a-2", "", UNKNOWN_INSTANT)], ["CAP-REFERENCES-SELF"]),
    ],
)
def test_an_alert_refers_to_others_that_came_before(found: list[Reference], expected: list[str]) -> None:
    faults = rules.judge_references(found, written=True, msg_type=MsgType.UPDATE, me=ME)
    assert [f.rule for f in faults] == expected


@pytest.mark.parametrize("msg_type", list(MsgType))
def test_only_an_alert_needs_no_reference(msg_type: MsgType) -> None:
    faults = rules.judge_references([], written=False, msg_type=msg_type, me=ME)
    expected = [] if msg_type is MsgType.ALERT else ["CAP-REFERENCES-MISSING"]
    assert [f.rule for f in faults] == expected


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("effective", "onset", "expires", "expected"),
    [
        (None, None, None, []),
        (SENT, SENT + HOUR, SENT + 2 * HOUR, []),
        (SENT, None, SENT, ["CAP-EXPIRES-AT-ONCE"]),
        (None, SENT + HOUR, SENT + HOUR, []),
        (None, SENT + 2 * HOUR, SENT + HOUR, ["CAP-EXPIRES-ONSET"]),
        (SENT, SENT + 2 * HOUR, SENT + HOUR, ["CAP-EXPIRES-ONSET"]),
        (SENT + HOUR, None, SENT + HOUR, []),
        (SENT - HOUR, None, SENT + HOUR, ["CAP-EFFECTIVE-EARLY"]),
        (None, None, SENT - HOUR, ["CAP-EXPIRES-BEFORE"]),
        (SENT + 2 * HOUR, SENT + 2 * HOUR, SENT + HOUR, ["CAP-EXPIRES-BEFORE"]),
    ],
)
def test_an_alert_ends_after_it_begins(
    effective: datetime | None, onset: datetime | None, expires: datetime | None, expected: list[str]
) -> None:
    assert [f.rule for f in rules.judge_times(SENT, effective, onset, expires)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ja", []),
        ("ja-JP", []),
        ("zh-Hant-TW", []),
        ("ain", []),
        ("x-yasashii", []),
        ("i-default", []),
        ("jp", ["CAP-LANGUAGE-CODE"]),
        ("japanese", ["CAP-LANGUAGE-CODE"]),
        ("ja_JP", ["CAP-LANGUAGE-FORM"]),
        ("日本語", ["CAP-LANGUAGE-FORM"]),
        ("ja-", ["CAP-LANGUAGE-FORM"]),
    ],
)
def test_a_language_is_a_code(text: str, expected: list[str]) -> None:
    assert [f.rule for f in rules.judge_language(text)] == expected


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("https://example.jp", True),
        ("HTTP://example.jp:8080/a?b=c&d=%E9%81%BF#e", True),
        ("https://例え.jp/避難", True),
        ("http://[2001:db8::1]/", True),
        ("https://user@example.jp/", True),
        ("ftp://example.jp/a", False),
        ("//example.jp/", False),
        ("www.example.jp", False),
        ("https://", False),
        ("https:///a", False),
        ("https://example.jp/a b", False),
        ("https://example.jp/%zz", False),
        ("https://example.jp/<b>", False),
        ("https://example.jp:port/", False),
        ("http://[www", False),
        ("javascript:alert(1)", False),
        ("data:text/html,a", False),
        ("mailto:a@example.jp", False),
    ],
)
def test_a_web_page_has_an_absolute_address_of_http(address: str, good: bool) -> None:
    assert (not rules.judge_web(address)) == good


@pytest.mark.parametrize(
    ("uri", "embedded", "good"),
    [
        ("https://example.jp/a.png", False, True),
        ("ftps://example.jp/a.png", False, True),
        ("a.png", True, True),
        ("a.png", False, False),
        ("a b.png", True, False),
        ("javascript:alert(1)", True, False),
        ("C:\\a.png", True, False),
        ("file:///a.png", True, False),
    ],
)
def test_a_resource_is_where_a_receiver_can_get_it(uri: str, embedded: bool, good: bool) -> None:
    faults = rules.judge_resource(uri=uri, deref_uri="QUJD" if embedded else None, size=None, digest=None)
    assert (not faults) == good


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("避難してください", []),
        ("A & B; 1 < 2 > 0", []),
        ("<bousai@example.jp>", []),
        ("1 &lt; 2", ["CAP-TEXT-ENTITY"]),
        ("&#x3042;", ["CAP-TEXT-ENTITY"]),
        ("a<br>b", ["CAP-TEXT-TAG"]),
        ("</p>", ["CAP-TEXT-TAG"]),
        ('<a href="x">', ["CAP-TEXT-TAG"]),
        ("a\u0085b", ["CAP-TEXT-CONTROL"]),
        ("a\u2066b", ["CAP-TEXT-CONTROL"]),
        ("&nbsp;<b>\u202e", ["CAP-TEXT-ENTITY", "CAP-TEXT-TAG", "CAP-TEXT-CONTROL"]),
    ],
)
def test_html_and_control_characters_in_a_text_are_remarked_on(text: str, expected: list[str]) -> None:
    assert [f.rule for f in rules.judge_text("note", text)] == expected


def test_a_category_given_thrice_is_remarked_on_once() -> None:
    faults = rules.judge_categories(["Met", "Geo", "Met", "Met"])
    assert [(f.rule, f.n) for f in faults] == [("CAP-CATEGORY-DUPLICATE", 3)]


def test_en_us_and_en_gb_are_one_language() -> None:
    same = {"headline": "Leave now"}
    assert not rules.judge_translations([("en-US", same), ("en-GB", same)])
    assert [n for n, _ in rules.judge_translations([("en-US", same), ("ja", same)])] == [1]


# The catalogue


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_complete_and_says_the_same_in_both_languages(rule: str) -> None:
    entry = RULES[rule]
    assert re.fullmatch(r"CAP(-[A-Z]+)+", rule)
    assert entry.id == rule
    assert isinstance(entry.severity, ProblemSeverity)
    assert all((entry.clause, entry.message, entry.message_ja, entry.help, entry.help_ja))
    assert "{" not in entry.help + entry.help_ja

    def fields(template: str) -> set[str]:
        return {name.removesuffix("_ja") for _, name, _, _ in string.Formatter().parse(template) if name}

    assert fields(entry.message_ja) <= fields(entry.message)


def test_the_documentation_has_every_rule_as_it_is_with_an_anchor() -> None:
    rows = {}
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        anchored = re.match(r'\| <a id="(CAP-[A-Z-]+)"></a>`\1` \| ', line)
        if anchored:
            severity, clause, message, message_ja = line[anchored.end() :].removesuffix(" |").split(" | ")
            rows[anchored[1]] = (severity, clause, message, message_ja)
    assert list(rows) == list(RULES)
    for entry in RULES.values():
        expected = [
            text.replace("<", "&lt;").replace(">", "&gt;").replace("{", "*").replace("}", "*")
            for text in (entry.message, entry.message_ja)
        ]
        assert rows[entry.id] == (entry.severity.value, entry.clause, *expected)


def test_the_documentation_has_the_limits_as_they_are() -> None:
    section = (
        DOCS.read_text(encoding="utf-8")
        .partition("## What is more than any alert needs")[2]
        .partition("\n## ")[0]
    )
    told = dict(line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| "))
    assert told["bytes"] == f"{opening.MAX_BYTES:,}"
    assert told["tags, comments and processing instructions"] == f"{opening.MAX_MARKUP:,}"
    assert told["attributes; namespace declarations"] == f"{opening.MAX_ATTRIBUTES:,} each"
    assert opening.MAX_ATTRIBUTES == opening.MAX_NAMESPACES
    assert told["different names"] == str(opening.MAX_NAMES)
    assert told["elements directly in one"] == f"{MAX_CHILDREN:,}"
    assert told["infos"] == str(LIMITS["info"])
    rings = f"{LIMITS['polygon']:,}, of them {MAX_RINGS:,} different"
    assert told["areas; polygons; circles"] == f"{LIMITS['area']:,}; {rings}; {LIMITS['circle']:,}"
    assert told["points of one polygon"] == f"{rules.MAX_POINTS:,}"
    assert told["resources"] == f"{LIMITS['resource']:,}"
    lists = f"{rules.MAX_REFERENCES:,}; {rules.MAX_ITEMS:,}; {rules.MAX_SIGNATURES}"
    assert told["references; addresses; signatures"] == lists
