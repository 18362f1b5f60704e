"""What is rendered reads back as the same alert, always in the same bytes, and is CAP of its version by the schema alone."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from lalert import cap, resources
from lalert.cap import grammar as grammars
from lalert.cap.grammar import grammar
from lalert.geo import ring_problem
from lalert.model import (
    JST,
    UNKNOWN_INSTANT,
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
from lalert.testing import make_alert

DATA = Path(__file__).parents[1] / "data" / "cap"
VERSIONS = ("1.0", "1.1", "1.2")
NAMESPACES = {version: namespace for namespace, version in grammars.NAMESPACES.items()}
SCHEMAS = {
    version: etree.XMLSchema(etree.fromstring(resources.schema(f"cap-{version}.xsd"))) for version in VERSIONS
}

CHARACTERS = st.characters(
    min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"
) | st.sampled_from("\t\n\r&<>\"'避難\u3000\x85\u2028\U0001f6a8\U0002a6d6")


def texts(max_size: int = 30) -> st.SearchStrategy[str]:
    return st.text(CHARACTERS, max_size=max_size).map(lambda text: text.strip(" \t\r\n"))


filled = texts().filter(bool)
optional = st.none() | filled
names = (
    st.text(CHARACTERS, min_size=1, max_size=20)
    .map(lambda text: "".join(c for c in text if not c.isspace() and c not in ",<&\x1c\x1d\x1e\x1f"))
    .filter(bool)
)
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.builds(
    lambda seconds, offset: datetime(2000, 1, 1, tzinfo=UTC).astimezone(offset) + timedelta(seconds=seconds),
    st.integers(0, 10**9),
    offsets,
).map(lambda moment: moment.replace(hour=0, minute=0, second=0) if moment.second % 10 == 0 else moment)
any_pairs = st.lists(st.builds(NamedValue, texts(), texts()), max_size=3).map(tuple)
# In CAP 1.0 both are written as name=value.
old_names = texts(10).map(lambda text: text.replace("=", "").strip(" \t\r\n")).filter(bool)
old_pairs = st.lists(st.builds(NamedValue, old_names, texts()), max_size=3).map(tuple)
items = (
    st.lists(st.text(CHARACTERS, min_size=1, max_size=12), max_size=3)
    .map(lambda found: tuple(item.replace('"', "") for item in found))
    .filter(all)
)


@st.composite
def spelt(draw: st.DrawFn, moment: datetime) -> str:
    return written(moment, utc=draw(st.sampled_from(["-00:00", "+00:00"])), late=draw(st.booleans()))


def written(moment: datetime, *, utc: str = "-00:00", late: bool = False) -> str:
    """Return a time as CAP writes it, on request with UTC as +00:00 and midnight as the end of the day before."""
    if late and (moment.hour, moment.minute, moment.second) == (0, 0, 0):
        text = (moment - timedelta(days=1)).isoformat().replace("T00:00:00", "T24:00:00")
    else:
        text = moment.isoformat()
    return f"{text[:-6]}{utc}" if text.endswith("+00:00") else text


@st.composite
def rings(draw: st.DrawFn) -> Ring:
    lat, lon = draw(st.floats(-70, 70)), draw(st.floats(-170, 170))
    size = draw(st.floats(1e-6, 5))
    count = draw(st.integers(3, 12))
    points = [
        (lon + size * math.cos(n * math.tau / count), lat + size * math.sin(n * math.tau / count))
        for n in range(count)
    ]
    return (*points, points[0])


circles = st.builds(
    Circle,
    st.floats(-180, 180),
    st.floats(-90, 90),
    st.floats(0, 2e7) | st.floats(0, 1) | st.integers(0, 20000).map(float),
)
heights = st.none() | st.floats(-40_000, 40_000)


@st.composite
def areas(draw: st.DrawFn, version: str) -> Area:
    altitude = draw(heights)
    above = st.none() | st.floats(0, 1e5).map(lambda more: (altitude or 0.0) + more)
    ceiling = None if altitude is None else draw(above)
    return Area(
        area_desc=draw(filled),
        polygons=tuple(draw(st.lists(rings().filter(lambda r: ring_problem(r) is None), max_size=2))),
        circles=tuple(draw(st.lists(circles, max_size=2))),
        geocodes=draw(pairs(version)),
        altitude=altitude,
        ceiling=ceiling,
    )


def pairs(version: str) -> st.SearchStrategy[tuple[NamedValue, ...]]:
    return old_pairs if version == "1.0" else any_pairs


embedded = st.binary(max_size=20).map(lambda content: base64.b64encode(content).decode() or None)
kinds = st.sampled_from(["image/png", "text/plain; charset=utf-8", "audio/mpeg"])


def resources_(version: str) -> st.SearchStrategy[Resource]:
    return st.builds(
        Resource,
        filled,
        kinds if version == "1.2" else st.none() | kinds,
        st.none() | st.integers(0, 10**9),
        st.sampled_from([None, "https://example.jp/a?b=%20c#d", "ftp://example.jp/避難所.pdf"]),
        st.none() if version == "1.0" else embedded,
        st.none() | st.binary(min_size=20, max_size=20).map(bytes.hex),
    )


def said(version: str, name: str) -> list[str]:
    return sorted(grammar(NAMESPACES[version]).values.get(name, ()))


def certainties(version: str) -> list[Certainty]:
    return [certainty for certainty in Certainty if certainty in said(version, "certainty")]


@st.composite
def infos(draw: st.DrawFn, version: str, sent: datetime) -> Info:
    starts = [draw(st.none() | st.integers(-(10**5), 10**5)) for _ in range(2)]
    end = draw(st.none() | st.integers(0, 10**6))
    latest = max(0, *(start for start in starts if start is not None), 0)
    responses = said(version, "responseType")

    def moment(seconds: int | None) -> datetime | None:
        return None if seconds is None else (sent + timedelta(seconds=seconds)).astimezone(draw(offsets))

    return Info(
        event=draw(filled),
        categories=tuple(
            draw(
                st.lists(
                    st.sampled_from(said(version, "category")),
                    min_size=0 if version == "1.0" else 1,
                    max_size=3,
                )
            )
        ),
        urgency=draw(st.sampled_from(Urgency)),
        severity=draw(st.sampled_from(Severity)),
        certainty=draw(st.sampled_from(certainties(version))),
        language=draw(st.sampled_from(["ja", "en-US", "zh-Hans", "x-easy", "jp"])),
        response_types=tuple(draw(st.lists(st.sampled_from(responses), max_size=2)) if responses else ()),
        audience=draw(optional),
        event_codes=draw(pairs(version)),
        effective=moment(starts[0]),
        onset=moment(starts[1]),
        expires=moment(None if end is None else latest + end),
        sender_name=draw(optional),
        headline=draw(optional),
        description=draw(optional),
        instruction=draw(optional),
        web=draw(st.sampled_from([None, "https://example.jp/", "http://[::1]:8080/a?b#c"])),
        contact=draw(optional),
        parameters=draw(pairs(version)),
        resources=tuple(draw(st.lists(resources_(version), max_size=2))),
        areas=tuple(draw(st.lists(areas(version), max_size=2))),
    )


referred = st.text(CHARACTERS, min_size=1, max_size=20).map(
    lambda text: "".join(c for c in text if not c.isspace() and c not in ",/\x1c\x1d\x1e\x1f") or "あ"
)


@st.composite
def references(draw: st.DrawFn, version: str) -> Reference:
    sender, identifier = draw(referred), f"earlier-{draw(referred)}"
    if version == "1.0":
        return Reference(draw(st.sampled_from(["a,b/c", sender])), identifier, "", UNKNOWN_INSTANT)
    moment = draw(moments)
    return Reference(sender, f"{identifier}/1", draw(spelt(moment)), moment)


def scopes(version: str) -> st.SearchStrategy[tuple[Scope, str | None]]:
    """Return a scope with its restriction; CAP 1.0 can leave both out, which reads as Restricted to nobody knows whom."""
    needs = {Scope.RESTRICTED: st.none() | filled if version == "1.0" else filled}
    return st.sampled_from(Scope).flatmap(
        lambda scope: st.tuples(st.just(scope), needs.get(scope, st.none()))
    )


@st.composite
def alerts(draw: st.DrawFn, versions: tuple[str, ...] = VERSIONS) -> Alert:
    version = draw(st.sampled_from(versions))
    sent = draw(moments)
    scope, restriction = draw(scopes(version))
    msg_type = draw(st.sampled_from(MsgType))
    least = 0 if msg_type is MsgType.ALERT else 1
    addresses = draw(items if scope is not Scope.PRIVATE else items.filter(bool))
    return Alert(
        identifier=draw(names.filter(lambda name: not name.startswith("earlier-"))),
        sender=draw(names),
        sent=sent,
        status=Status(draw(st.sampled_from(said(version, "status")))),
        msg_type=msg_type,
        scope=scope,
        sent_text=draw(spelt(sent)),
        version=version,
        source=draw(optional),
        restriction=restriction,
        addresses=addresses,
        codes=tuple(draw(st.lists(filled, max_size=2))),
        note=draw(optional),
        references=tuple(draw(st.lists(references(version), min_size=least, max_size=3))),
        incidents=draw(items),
        infos=tuple(draw(st.lists(infos(version, sent), max_size=2))),
    )


quick = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@quick
@given(alerts())
def test_what_is_rendered_reads_back_as_the_same_alert(alert: Alert) -> None:
    document = cap.render(alert)
    again = cap.parse(document)
    assert again == alert
    assert again.sent_text == alert.sent_text
    assert again.sent.utcoffset() == alert.sent.utcoffset()
    assert [r.sent for r in again.references] == [r.sent for r in alert.references]
    assert cap.render(again) == document
    assert SCHEMAS[alert.version].validate(etree.fromstring(document))


def blank(element: etree._Element, spaces: Iterator[str]) -> None:
    """Put white space wherever it means nothing: between elements, round texts, and between the items of a list."""
    name = etree.QName(element).localname
    if len(element):
        element.text = next(spaces)
        for child in element:
            child.tail = next(spaces)
            blank(child, spaces)
    elif name in ("references", "polygon"):
        element.text = next(spaces).join(["", *(element.text or "").split(" "), ""])
    elif name not in WRITTEN_EXACTLY:
        element.text = next(spaces) + (element.text or "") + next(spaces)


# Names are repeated by references letter by letter; the schema gives times and values of enumerations no room.
WRITTEN_EXACTLY = {"identifier", "sender", "status", "msgType", "scope", "language"}
WRITTEN_EXACTLY |= {"category", "responseType", "urgency", "severity", "certainty"}


@quick
@given(alerts(), st.lists(st.sampled_from([" ", "\n", "\t \n ", "\r\n    "]), min_size=1))
def test_white_space_that_means_nothing_changes_nothing(alert: Alert, spaces: list[str]) -> None:
    root = etree.fromstring(cap.render(alert))
    blank(root, itertools.cycle(spaces))
    again = cap.parse(etree.tostring(root, encoding="UTF-8"))
    assert again == alert
    assert cap.render(again) == cap.render(alert)


@pytest.mark.parametrize(
    "file",
    sorted((DATA / "good").glob("*.xml")) + sorted((DATA / "odd").glob("*.xml")),
    ids=lambda file: file.stem,
)
def test_every_golden_alert_survives_rendering(file: Path) -> None:
    alert = cap.parse(file.read_bytes())
    assert cap.parse(cap.render(alert)) == alert


WHEN = "2026-07-04T02:00:00+09:00"
AT = datetime(2026, 7, 4, 2, 0, tzinfo=JST)


def simple(**overrides: Any) -> Alert:
    sent = datetime(2026, 7, 4, 2, 20, tzinfo=JST)
    info = Info(
        event="避難指示",
        categories=("Met",),
        urgency=Urgency.IMMEDIATE,
        severity=Severity.EXTREME,
        certainty=Certainty.LIKELY,
        language="ja",
    )
    values: dict[str, Any] = {
        "identifier": "a-1",
        "sender": "a@example.jp",
        "sent": sent,
        "sent_text": "2026-07-04T02:20:00+09:00",
        "status": Status.ACTUAL,
        "msg_type": MsgType.ALERT,
        "scope": Scope.PUBLIC,
        "infos": (replace(info, **{k: v for k, v in overrides.items() if k in Info.__slots__}),),
    }
    return Alert(**values | {k: v for k, v in overrides.items() if k not in Info.__slots__})


def test_a_document_looks_as_a_person_would_write_it() -> None:
    area = Area(
        area_desc="人吉市",
        polygons=(((130.74, 32.2), (130.78, 32.2), (130.78, 32.23), (130.74, 32.2)),),
        circles=(Circle(130.76, 32.21, 100.0),),
        geocodes=(NamedValue("JIS X 0402", "432032"),),
    )
    assert cap.render(simple(areas=(area,), headline="<避難> & 'AT&T'")).decode() == (
        "<?xml version='1.0' encoding='UTF-8'?>\n"
        '<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">\n'
        "  <identifier>a-1</identifier>\n"
        "  <sender>a@example.jp</sender>\n"
        "  <sent>2026-07-04T02:20:00+09:00</sent>\n"
        "  <status>Actual</status>\n"
        "  <msgType>Alert</msgType>\n"
        "  <scope>Public</scope>\n"
        "  <info>\n"
        "    <language>ja</language>\n"
        "    <category>Met</category>\n"
        "    <event>避難指示</event>\n"
        "    <urgency>Immediate</urgency>\n"
        "    <severity>Extreme</severity>\n"
        "    <certainty>Likely</certainty>\n"
        "    <headline>&lt;避難&gt; &amp; 'AT&amp;T'</headline>\n"
        "    <area>\n"
        "      <areaDesc>人吉市</areaDesc>\n"
        "      <polygon>32.2,130.74 32.2,130.78 32.23,130.78 32.2,130.74</polygon>\n"
        "      <circle>32.21,130.76 0.1</circle>\n"
        "      <geocode>\n"
        "        <valueName>JIS X 0402</valueName>\n"
        "        <value>432032</value>\n"
        "      </geocode>\n"
        "    </area>\n"
        "  </info>\n"
        "</alert>\n"
    )


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 7, 4, 2, 20, tzinfo=JST), "2026-07-04T02:20:00+09:00"),
        (datetime(2026, 7, 4, 2, 20, tzinfo=UTC), "2026-07-04T02:20:00-00:00"),
        (datetime(2026, 7, 4, 2, 20, 7, 999_999, tzinfo=JST), "2026-07-04T02:20:07+09:00"),
        (
            datetime(2026, 7, 4, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
            "2026-07-04T00:00:00-03:30",
        ),
    ],
)
def test_times_are_written_as_the_standard_wants_them(moment: datetime, text: str) -> None:
    document = cap.render(simple(expires=moment + timedelta(days=1), onset=moment)).decode()
    assert f"<onset>{text}</onset>" in document


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1e-7, "0.0000001"),
        (0.1, "0.1"),
        (35.0, "35.0"),
        (-0.00001234, "-0.00001234"),
        (1e22, "10000000000000000000000"),
    ],
)
def test_numbers_have_no_exponent(number: float, text: str) -> None:
    document = cap.render(simple(areas=(Area("a", altitude=number),))).decode()
    assert f"<altitude>{text}</altitude>" in document


def test_items_with_white_space_are_quoted() -> None:
    document = cap.render(simple(incidents=("2026 flood", "KUMA"))).decode()
    assert '<incidents>"2026 flood" KUMA</incidents>' in document


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"headline": "\x00"}, r"/alert/info\[1\]/headline: it has a character"),
        ({"note": "\ud800"}, r"/alert/note: it has a character"),
        ({"sent_text": "2026-07-04T02:20:01+09:00"}, "/alert/sent: "),
        ({"sent_text": "2026-07-04 02:20"}, "/alert/sent: "),
        ({"incidents": ('say "now"',)}, "/alert/incidents: "),
        ({"addresses": ("", "a")}, "/alert/addresses: "),
        ({"references": (Reference("a,b", "c", WHEN, AT),)}, "/alert/references: CAP 1.2"),
        ({"references": (Reference("a", "b c", WHEN, AT),)}, "/alert/references: CAP 1.2"),
        ({"references": (Reference("a", "b", "", UNKNOWN_INSTANT),)}, "/alert/references: CAP 1.2"),
        ({"expires": datetime(2026, 7, 4)}, r"/alert/info\[1\]/expires: "),  # noqa: DTZ001
        ({"onset": AT.astimezone(timezone(timedelta(seconds=30)))}, r"/alert/info\[1\]/onset: "),
        ({"effective": AT.astimezone(timezone(timedelta(hours=15)))}, r"/alert/info\[1\]/effective: "),
        ({"categories": ("Flood",)}, r"/alert/info\[1\]/category: CAP 1.2 has no Flood"),
        ({"response_types": ("Run",)}, r"/alert/info\[1\]/responseType: CAP 1.2 has no Run"),
        ({"resources": (Resource("a"),)}, r"/alert/info\[1\]/resource\[1\]/mimeType: "),
        ({"resources": (Resource("a", "b/c", -1),)}, r"/alert/info\[1\]/resource\[1\]/size: "),
        ({"areas": (Area("a"), Area("b", polygons=((),)))}, r"/alert/info\[1\]/area\[2\]/polygon: "),
        ({"areas": (Area("a", polygons=(((math.nan, 1.0),),)),)}, r"/area\[1\]/polygon: nan is no number"),
        ({"areas": (Area("a", circles=(Circle(1, 1, -1.0),)),)}, r"/area\[1\]/circle: -1.0 m"),
        ({"areas": (Area("a", circles=(Circle(1, 1, math.inf),)),)}, r"/area\[1\]/circle: inf m"),
        ({"areas": (Area("a", altitude=math.inf),)}, r"/area\[1\]/altitude: inf"),
        ({"version": "1.0", "status": Status.DRAFT}, "/alert/status: CAP 1.0 has no Draft"),
        ({"version": "1.0", "categories": ("CBRNE",)}, r"/alert/info\[1\]/category: CAP 1.0"),
        ({"version": "1.0", "response_types": ("None",)}, r"/alert/info\[1\]/responseType: CAP 1.0"),
        ({"version": "1.0", "certainty": Certainty.OBSERVED}, r"/alert/info\[1\]/certainty: CAP 1.0"),
        ({"version": "1.0", "parameters": (NamedValue("a=b", "c"),)}, r"/alert/info\[1\]/parameter: CAP 1.0"),
        ({"version": "1.0", "event_codes": (NamedValue("", "c"),)}, r"/alert/info\[1\]/eventCode: CAP 1.0"),
        ({"version": "1.0", "references": (Reference("a", "b", WHEN, AT),)}, "/alert/references: CAP 1.0"),
        (
            {"version": "1.0", "references": (Reference("a", "b/c", "", UNKNOWN_INSTANT),)},
            "/alert/references: CAP 1.0",
        ),
        (
            {"version": "1.0", "resources": (Resource("a", deref_uri="YQ=="),)},
            r"/alert/info\[1\]/resource\[1\]/derefUri: CAP 1.0",
        ),
        ({"version": "1.1", "response_types": ("AllClear",)}, r"/alert/info\[1\]/responseType: CAP 1.1"),
        ({"version": "1.3"}, "version: '1.3' is none of 1.0, 1.1, 1.2"),
    ],
)
def test_what_cannot_be_written_is_refused_by_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cap.render(simple(**changes))


@quick
@given(alerts(), st.sampled_from(VERSIONS))
def test_another_version_says_the_same_as_nearly_as_it_can_or_refuses(alert: Alert, version: str) -> None:
    document, refused = b"", ""
    try:
        document = cap.render(alert, version)
    except ValueError as error:
        refused = str(error)
    if not document:
        assert version != alert.version
        assert "/status: " in refused or "/references: " in refused or "CAP 1.0 cannot say" in refused
        return
    again = cap.parse(document)
    assert again.version == version
    for name in ("identifier", "sender", "sent", "sent_text", "status", "msg_type", "scope", "addresses"):
        assert getattr(again, name) == getattr(alert, name)
    assert len(again.references) == len(alert.references)
    for new, old in zip(again.infos, alert.infos, strict=True):
        assert (
            replace(
                new,
                categories=old.categories,
                certainty=old.certainty,
                response_types=old.response_types,
                event_codes=old.event_codes,
                parameters=old.parameters,
                resources=old.resources,
                areas=old.areas,
            )
            == old
        )
        assert [area.polygons for area in new.areas] == [area.polygons for area in old.areas]
        assert [area.circles for area in new.areas] == [area.circles for area in old.areas]
    assert cap.parse(cap.render(again)) == again


def test_what_an_older_version_has_no_words_for_is_said_as_nearly_as_it_can() -> None:
    alert = simple(
        categories=("CBRNE", "Met", "Other"),
        response_types=("Avoid", "Monitor"),
        certainty=Certainty.OBSERVED,
        resources=(Resource("a", "image/png", deref_uri="YQ=="),),
        parameters=(NamedValue("a", "b"), NamedValue("", "nobody can use it")),
        references=(Reference("a", "b", WHEN, AT),),
    )
    oldest = cap.parse(cap.render(alert, "1.0"))
    assert oldest.infos[0].categories == ("Met", "Other")
    assert oldest.infos[0].response_types == ()
    assert oldest.infos[0].certainty is Certainty.LIKELY
    assert oldest.infos[0].resources == (Resource("a", "image/png"),)
    assert oldest.infos[0].parameters == (NamedValue("a", "b"),)
    assert oldest.references == (Reference("a", "b", "", UNKNOWN_INSTANT),)
    assert cap.parse(cap.render(alert, "1.1")).infos[0].response_types == ("Monitor",)


def test_what_a_newer_version_must_have_is_filled_in() -> None:
    old = simple(version="1.0", categories=(), scope=Scope.RESTRICTED, resources=(Resource("a"),))
    new = cap.parse(cap.render(old, "1.2"))
    assert new.restriction == "not said"
    assert new.infos[0].categories == ("Other",)
    assert new.infos[0].resources == (Resource("a", "application/octet-stream"),)


def test_an_order_whose_references_cannot_be_said_is_refused_rather_than_cut_loose() -> None:
    update = simple(
        version="1.0", msg_type=MsgType.UPDATE, references=(Reference("a", "b", "", UNKNOWN_INSTANT),)
    )
    with pytest.raises(ValueError, match=r"/alert/references: CAP 1\.2"):
        cap.render(update, "1.2")


def test_what_a_reference_without_a_time_was_found_to_mean_is_not_written() -> None:
    vague = Reference("a@b.example", "a-1", "", UNKNOWN_INSTANT)
    update = make_alert(version="1.0", msg_type="Update", references=[vague], response=())
    found = replace(update, references=(replace(vague, instant=update.sent),))
    assert cap.render(found) == update.raw
    assert cap.parse(update.raw).references == (vague,)
