"""What is rendered reads back as the same alert, always in the same bytes, and is CAP 1.2 by the schema alone."""

from __future__ import annotations

import base64
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from lalert import cap, resources
from lalert.geo import ring_problem
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

DATA = Path(__file__).parents[1] / "data" / "cap"
JST = timezone(timedelta(hours=9))
SCHEMA = etree.XMLSchema(etree.fromstring(resources.schema("cap-1.2.xsd")))

CHARACTERS = st.characters(
    min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"
) | st.sampled_from("\t\n\r&<>\"'避難")


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
)
pairs = st.lists(st.builds(NamedValue, texts(), texts()), max_size=3).map(tuple)
items = (
    st.lists(st.text(CHARACTERS, min_size=1, max_size=12), max_size=3)
    .map(lambda found: tuple(item.replace('"', "") for item in found))
    .filter(all)
)


def written(moment: datetime) -> str:
    text = moment.isoformat()
    return f"{text[:-6]}-00:00" if text.endswith("+00:00") else text


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
def areas(draw: st.DrawFn) -> Area:
    altitude = draw(heights)
    above = st.none() | st.floats(0, 1e5).map(lambda more: (altitude or 0.0) + more)
    ceiling = None if altitude is None else draw(above)
    return Area(
        area_desc=draw(filled),
        polygons=tuple(draw(st.lists(rings().filter(lambda r: ring_problem(r) is None), max_size=2))),
        circles=tuple(draw(st.lists(circles, max_size=2))),
        geocodes=draw(pairs),
        altitude=altitude,
        ceiling=ceiling,
    )


embedded = st.binary(max_size=20).map(lambda content: base64.b64encode(content).decode() or None)
resources_ = st.builds(
    Resource,
    filled,
    st.sampled_from(["image/png", "text/plain; charset=utf-8", "audio/mpeg"]),
    st.none() | st.integers(0, 10**9),
    st.sampled_from([None, "https://example.jp/a?b=%20c#d", "ftp://example.jp/避難所.pdf"]),
    embedded,
    st.none() | st.binary(min_size=20, max_size=20).map(bytes.hex),
)


@st.composite
def infos(draw: st.DrawFn, sent: datetime) -> Info:
    starts = [draw(st.none() | st.integers(-(10**5), 10**5)) for _ in range(2)]
    end = draw(st.none() | st.integers(0, 10**6))
    latest = max(0, *(start for start in starts if start is not None), 0)

    def moment(seconds: int | None) -> datetime | None:
        return None if seconds is None else (sent + timedelta(seconds=seconds)).astimezone(draw(offsets))

    return Info(
        event=draw(filled),
        categories=tuple(
            draw(st.lists(st.sampled_from(["Geo", "Met", "CBRNE", "Other"]), min_size=1, max_size=3))
        ),
        urgency=draw(st.sampled_from(Urgency)),
        severity=draw(st.sampled_from(Severity)),
        certainty=draw(st.sampled_from(Certainty)),
        language=draw(st.sampled_from(["ja", "en-US", "zh-Hans", "x-easy", "jp"])),
        response_types=tuple(draw(st.lists(st.sampled_from(["Shelter", "AllClear", "None"]), max_size=2))),
        audience=draw(optional),
        event_codes=draw(pairs),
        effective=moment(starts[0]),
        onset=moment(starts[1]),
        expires=moment(None if end is None else latest + end),
        sender_name=draw(optional),
        headline=draw(optional),
        description=draw(optional),
        instruction=draw(optional),
        web=draw(st.sampled_from([None, "https://example.jp/", "http://[::1]:8080/a?b#c"])),
        contact=draw(optional),
        parameters=draw(pairs),
        resources=tuple(draw(st.lists(resources_, max_size=2))),
        areas=tuple(draw(st.lists(areas(), max_size=2))),
    )


def reference(sender: str, identifier: str, moment: datetime) -> Reference:
    return Reference(sender, f"earlier-{identifier}", written(moment), moment)


@st.composite
def alerts(draw: st.DrawFn) -> Alert:
    sent = draw(moments)
    scope = draw(st.sampled_from(Scope))
    msg_type = draw(st.sampled_from(MsgType))
    least = 0 if msg_type is MsgType.ALERT else 1
    addresses = draw(items if scope is not Scope.PRIVATE else items.filter(bool))
    found = st.lists(st.builds(reference, names, names, moments), min_size=least, max_size=3)
    return Alert(
        identifier=draw(names),
        sender=draw(names),
        sent=sent,
        status=draw(st.sampled_from(Status)),
        msg_type=msg_type,
        scope=scope,
        sent_text=written(sent),
        source=draw(optional),
        restriction=draw(filled) if scope is Scope.RESTRICTED else None,
        addresses=addresses,
        codes=tuple(draw(st.lists(filled, max_size=2))),
        note=draw(optional),
        references=tuple(draw(found)),
        incidents=draw(items),
        infos=tuple(draw(st.lists(infos(sent), max_size=2))),
    )


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(alerts())
def test_what_is_rendered_reads_back_as_the_same_alert(alert: Alert) -> None:
    document = cap.render(alert)
    again = cap.parse(document)
    assert again == alert
    assert again.sent_text == alert.sent_text
    assert again.sent.utcoffset() == alert.sent.utcoffset()
    assert cap.render(again) == document
    assert SCHEMA.validate(etree.fromstring(document))


@pytest.mark.parametrize(
    "file",
    sorted((DATA / "good").glob("*.xml")) + sorted((DATA / "odd").glob("*.xml")),
    ids=lambda file: file.stem,
)
def test_every_golden_alert_survives_rendering(file: Path) -> None:
    alert = cap.parse(file.read_bytes())
    if alert.version == "1.0":
        restriction = "" if alert.scope is Scope.PUBLIC else "not said"
        alert = replace(alert, restriction=restriction or None)
    assert cap.parse(cap.render(alert)) == replace(alert, version="1.2")


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


def test_what_xml_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="XML"):
        cap.render(simple(headline="\x00"))
