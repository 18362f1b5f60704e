"""The JSON and GeoJSON of an entry, and the bytes that are made of them once."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lalert import cap, resources
from lalert.errors import BadRequest, Problem, ProblemSeverity
from lalert.geo import Gazetteer
from lalert.matching import facts_of
from lalert.model import (
    JST,
    UNKNOWN_INSTANT,
    Alert,
    Area,
    Changes,
    Circle,
    Entry,
    NamedValue,
    Origin,
    OriginKind,
    Reference,
    Resource,
    Status,
)
from lalert.testing import make_alert
from lalert.texts import Bodies, alert_geojson, alert_json, body

SENT = datetime(2026, 11, 23, 9, 5, tzinfo=JST)
RECEIVED = datetime(2026, 11, 23, 0, 5, 1, 234_567, tzinfo=UTC)
STORED = datetime(2026, 11, 23, 9, 5, 2, tzinfo=JST)
ORIGIN = Origin(OriginKind.HTTP, "hitoyoshi", "key-1", "192.0.2.1")


@pytest.fixture(scope="module")
def gazetteer() -> Gazetteer:
    return Gazetteer.from_csv(resources.gazetteer_csv(), resources.former_codes_csv())


def entry_of(alert: Alert, gazetteer: Gazetteer, home: frozenset[str] = frozenset()) -> Entry:
    return Entry("e-7", RECEIVED, STORED, alert, ORIGIN, "the-first", facts_of(alert, gazetteer, home))


def test_the_members_are_those_of_the_contract(gazetteer: Gazetteer) -> None:
    first = make_alert(identifier="first", sent=SENT - timedelta(hours=1))
    alert = make_alert(
        identifier="second",
        sent=SENT,
        msg_type="Update",
        references=[first],
        onset=SENT,
        web="https://hitoyoshi.example/1",
        contact=None,
        circle=Circle(130.76, 32.21, 1500.0),
        resources=[
            Resource(
                "地図", "image/png", 3, "https://hitoyoshi.example/map.png", deref_uri="AAAA", digest="0" * 40
            )
        ],
        raw=b"",
    )
    entry = entry_of(alert, gazetteer)
    assert alert_json(entry) == {
        "position": "e-7",
        "id": alert.id,
        "received": "2026-11-23T00:05:01.234Z",
        "stored": "2026-11-23T00:05:02.000Z",
        "sender": "bousai@hitoyoshi.example",
        "identifier": "second",
        "sent": "2026-11-23T09:05:00+09:00",
        "status": "Actual",
        "msgType": "Update",
        "scope": "Public",
        "note": None,
        "references": [
            {
                "sender": first.sender,
                "identifier": "first",
                "sent": "2026-11-23T08:05:00+09:00",
                "id": first.id,
            }
        ],
        "info": [
            {
                "language": "ja-JP",
                "category": ["Safety"],
                "event": "避難指示",
                "responseType": ["Evacuate"],
                "urgency": "Immediate",
                "severity": "Severe",
                "certainty": "Likely",
                "audience": None,
                "effective": None,
                "onset": "2026-11-23T09:05:00+09:00",
                "expires": "2026-11-23T15:05:00+09:00",
                "senderName": "人吉市",
                "headline": "人吉市に避難指示を発令しました",
                "description": "球磨川の水位が上がっています。",
                "instruction": "危険な場所から全員避難してください。",
                "web": "https://hitoyoshi.example/1",
                "contact": None,
                "parameters": [{"valueName": "警戒レベル", "value": "4"}],
                "resources": [
                    {
                        "resourceDesc": "地図",
                        "mimeType": "image/png",
                        "size": 3,
                        "uri": "https://hitoyoshi.example/map.png",
                        "digest": "0" * 40,
                    }
                ],
                "areas": [
                    {
                        "areaDesc": "人吉市",
                        "polygons": [
                            [
                                [130.74, 32.19],
                                [130.78, 32.19],
                                [130.78, 32.23],
                                [130.74, 32.23],
                                [130.74, 32.19],
                            ]
                        ],
                        "circles": [{"lon": 130.76, "lat": 32.21, "radius_m": 1500.0}],
                        "geocodes": [{"valueName": "JISX0402", "value": "432032"}],
                    }
                ],
            }
        ],
        "level": 4,
        "kind": "evacuation",
        "codes": ["432032"],
        "places": [{"code": "432032", "name": "人吉市", "kana": "ひとよしし", "name_en": "Hitoyoshi City"}],
        "ticker": {"ja-JP": "【更新】人吉市に避難指示を発令しました（人吉市発表）"},
        "details": {
            "orders": [
                {
                    "level": 4,
                    "event": "避難指示",
                    "lifted": False,
                    "areas": ["人吉市"],
                    "codes": ["432032"],
                    "expires": "2026-11-23T15:05:00+09:00",
                }
            ]
        },
        "bbox": list(entry.facts.bbox or ()),
        "nowhere": False,
        "mark": None,
        "incident": "the-first",
        "url": f"/alerts/{alert.id}",
        "defects": [],
        "signature": None,
        "changes": None,
        "reason": None,
        "correction": False,
        "replaced": [],
        "outdated": False,
    }


def test_a_prefecture_is_one_place_and_a_code_that_nobody_knows_none(gazetteer: Gazetteer) -> None:
    shown = alert_json(entry_of(make_alert(codes=["431001", "43", "131016"]), gazetteer))
    assert [(place["code"], place["kana"]) for place in shown["places"]] == [
        ("131016", "ちよだく"),
        ("43", "くまもとけん"),
        ("431001", "くまもとし"),
    ]
    unknown = facts_of(replace(make_alert(), infos=()), gazetteer, frozenset({"999999", "432032"}))
    assert [place.name for place in unknown.places] == ["人吉市"]


def test_a_signature_that_was_verified_is_told_with_its_certificate(gazetteer: Gazetteer) -> None:
    entry = entry_of(make_alert(), gazetteer)
    verified = replace(entry, origin=replace(entry.origin, signer="ab" * 32))
    assert alert_json(verified)["signature"] == {"status": "verified", "certificate": "ab" * 32}


def test_nothing_that_is_not_public_is_in_it(gazetteer: Gazetteer) -> None:
    alert = make_alert(resources=[Resource("x", "image/png", deref_uri="c2VjcmV0")])
    for format in ("json", "geojson"):
        made = body(entry_of(alert, gazetteer), format).decode()
        for secret in ("c2VjcmV0", "deref", "key-1", "192.0.2.1", "raw"):
            assert secret not in made


def test_every_text_of_a_drill_is_marked_and_its_codes_are_not(gazetteer: Gazetteer) -> None:
    drill = alert_json(entry_of(make_alert(status="Exercise", headline="[訓練] 避難指示"), gazetteer))
    assert drill["mark"] == "訓練"
    (info,) = drill["info"]
    assert info["headline"] == "【訓練】避難指示"
    assert info["description"] == "【訓練】球磨川の水位が上がっています。"
    assert info["instruction"] == "【訓練】危険な場所から全員避難してください。"
    assert info["event"] == "避難指示"


@pytest.mark.parametrize("missing", [None, " "])
def test_a_drill_without_a_headline_gets_its_marked_event(missing: str | None, gazetteer: Gazetteer) -> None:
    def headline(status: str) -> object:
        alert = make_alert(status=status, headline=missing, description=None, instruction=None, raw=b"")
        (info,) = alert_json(entry_of(alert, gazetteer))["info"]
        assert info["description"] is None
        return info["headline"]

    assert headline("Exercise") == "【訓練】避難指示"
    assert headline("Actual") == missing


def test_a_language_chooses_infos_and_hides_no_alert(gazetteer: Gazetteer) -> None:
    alert = make_alert(raw=b"")
    alert = replace(alert, infos=(alert.infos[0], replace(alert.infos[0], language="en")))
    entry = entry_of(alert, gazetteer)

    def shown(lang: str | None) -> list[str]:
        return [info["language"] for info in alert_json(entry, lang=lang)["info"]]

    assert shown("en-US") == ["en"]
    assert shown("ja") == ["ja-JP"]
    assert shown("vi") == shown(None) == ["ja-JP", "en"]


def test_a_prefecture_is_given_as_its_municipalities(gazetteer: Gazetteer) -> None:
    codes = alert_json(entry_of(make_alert(codes=["43"]), gazetteer))["codes"]
    assert {"432032", "435015"} <= set(codes)
    assert all(len(code) == 6 and code.startswith("43") for code in codes)
    assert codes == sorted(codes)


def test_a_code_that_ended_is_given_only_where_the_sender_wrote_it(gazetteer: Gazetteer) -> None:
    prefecture = alert_json(entry_of(make_alert(codes=["22"]), gazetteer))["codes"]
    assert gazetteer.ended.isdisjoint(prefecture)
    assert len(prefecture) == len([p for p in gazetteer.places() if p.prefecture == "22"]) - 1
    assert alert_json(entry_of(make_alert(codes=["221350"]), gazetteer))["codes"] == ["221350"]


def test_a_prefecture_that_a_municipality_lies_in_is_not_given(gazetteer: Gazetteer) -> None:
    assert alert_json(entry_of(make_alert(), gazetteer))["codes"] == ["432032"]


def test_the_document_is_put_in_as_it_came(gazetteer: Gazetteer) -> None:
    alert = make_alert()
    with_bom = replace(alert, raw=b"\xef\xbb\xbf" + alert.raw)
    for each in (alert, with_bom):
        assert alert_json(entry_of(each, gazetteer), with_cap=True)["cap"] == alert.raw.decode()


@pytest.mark.parametrize("encoding", ["utf-16", "shift_jis", "iso-2022-jp"])
def test_a_document_in_another_encoding_is_put_in_as_it_reads(encoding: str, gazetteer: Gazetteer) -> None:
    text = make_alert().raw.decode().partition("?>")[2]
    foreign = cap.parse(f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding))
    put_in = alert_json(entry_of(foreign, gazetteer), with_cap=True)["cap"]
    assert cap.parse(put_in.encode()) == foreign


def test_defects_are_told_and_advice_to_the_sender_is_not(gazetteer: Gazetteer) -> None:
    problem = Problem(
        "CAP-X", ProblemSeverity.WARNING, "/alert/note", 7, "odd", "変です", "mend it", "直してください"
    )
    advice = replace(problem, severity=ProblemSeverity.ADVICE)
    assert alert_json(entry_of(replace(make_alert(), defects=(problem, advice)), gazetteer))["defects"] == [
        {
            "rule": "CAP-X",
            "severity": "warning",
            "path": "/alert/note",
            "line": 7,
            "message": "odd",
            "message_ja": "変です",
            "help": "mend it",
            "help_ja": "直してください",
            "doc": "/rules#CAP-X",
        }
    ]


def test_what_an_update_changed_and_replaced_is_shown(gazetteer: Gazetteer) -> None:
    changed = Changes(issued=("432032",), lifted=("435015",))
    entry = replace(entry_of(make_alert(), gazetteer), changes=changed, replaced=("a", "b"), correction=True)
    shown = alert_json(entry)
    assert shown["changes"] == {"issued": ["432032"], "raised": [], "lowered": [], "lifted": ["435015"]}
    assert (shown["replaced"], shown["correction"], shown["outdated"]) == (["a", "b"], True, False)


def test_only_a_cancel_has_a_reason(gazetteer: Gazetteer) -> None:
    cancel = make_alert(msg_type="Cancel", references=[make_alert()], note="水位が下がったため")
    assert alert_json(entry_of(cancel, gazetteer))["reason"] == "水位が下がったため"
    assert alert_json(entry_of(make_alert(note="x"), gazetteer))["reason"] is None


def test_reason_and_note_of_a_drill_are_marked(gazetteer: Gazetteer) -> None:
    drill = make_alert(
        status="Exercise", msg_type="Cancel", references=[make_alert()], note="堤防が切れました", infos=()
    )
    assert alert_json(entry_of(drill, gazetteer))["reason"] == "【訓練】堤防が切れました"
    in_english = replace(drill, note="a levee broke")
    assert alert_json(entry_of(in_english, gazetteer))["reason"] == "[EXERCISE] a levee broke"
    order = make_alert(status="Exercise", note="堤防が切れました")
    assert alert_json(entry_of(order, gazetteer))["note"] == "【訓練】堤防が切れました"


def test_what_cap_1_0_refers_to_and_nobody_has_found_has_no_id(gazetteer: Gazetteer) -> None:
    vague = Reference("a@example", "x", "", UNKNOWN_INSTANT)
    first = make_alert()
    found = Reference(first.sender, first.identifier, "", first.sent)
    shown = alert_json(entry_of(replace(make_alert(), references=(vague, found)), gazetteer))
    assert [reference["id"] for reference in shown["references"]] == [None, first.id]


@given(st.text(st.characters(codec=None), max_size=30), st.sampled_from(Status))
@settings(deadline=None)
def test_any_text_can_be_encoded(text: str, status: Status) -> None:
    alert = make_alert(
        status=status,
        headline=text,
        description=text,
        event=text,
        area_desc=text,
        parameters=[(text, text)],
        raw=b"x",
    )
    entry = Entry("e-1", RECEIVED, STORED, alert, ORIGIN, "i")
    for format in ("json", "geojson"):
        made = json.loads(Bodies()(entry, format))
        assert made


def test_control_codes_are_gone_and_direction_marks_stay(gazetteer: Gazetteer) -> None:
    alert = make_alert(headline="a\x00b\x1b\x9bc\u200fd\u202ee\tf", raw=b"")
    assert alert_json(entry_of(alert, gazetteer))["info"][0]["headline"] == "abc\u200fd\u202ee\tf"


# GeoJSON


def test_a_feature_has_what_the_sender_drew(gazetteer: Gazetteer) -> None:
    alert = make_alert()
    feature = alert_geojson(entry_of(alert, gazetteer))
    assert (feature["type"], feature["id"]) == ("Feature", alert.id)
    assert feature["geometry"] == {
        "type": "Polygon",
        "coordinates": [
            [[130.74, 32.19], [130.78, 32.19], [130.78, 32.23], [130.74, 32.23], [130.74, 32.19]]
        ],
    }
    assert feature["bbox"] == [130.74, 32.19, 130.78, 32.23]
    assert feature["properties"]["headline"] == "人吉市に避難指示を発令しました"
    assert feature["properties"]["level"] == 4


def test_what_is_named_only_by_code_is_drawn_as_its_territory(gazetteer: Gazetteer) -> None:
    drawn = Area("川沿い", polygons=(((131.0, 31.0), (131.1, 31.0), (131.1, 31.1), (131.0, 31.0)),))
    by_code = Area("人吉市", geocodes=(NamedValue("JISX0402", "432032"),))
    feature = alert_geojson(entry_of(make_alert(areas=[drawn, by_code]), gazetteer))
    assert feature["geometry"]["type"] == "MultiPolygon"
    assert len(feature["geometry"]["coordinates"]) == 2


def test_an_alert_without_a_place_has_no_geometry_of_its_own(gazetteer: Gazetteer) -> None:
    feature = alert_geojson(entry_of(make_alert(areas=[Area("どこか")]), gazetteer, frozenset({"43"})))
    assert feature["geometry"] is None
    assert "bbox" not in feature
    assert "432032" in feature["properties"]["codes"]


def test_a_drill_is_marked_on_the_map_too(gazetteer: Gazetteer) -> None:
    properties = alert_geojson(entry_of(make_alert(status="Test", headline=None), gazetteer))["properties"]
    assert (properties["mark"], properties["headline"]) == ("試験", "【試験】避難指示")


def test_an_alert_without_infos_is_still_a_feature(gazetteer: Gazetteer) -> None:
    properties = alert_geojson(entry_of(make_alert(infos=(), msg_type="Cancel"), gazetteer))["properties"]
    assert (properties["headline"], properties["event"], properties["severity"]) == (None, None, "Unknown")


# Bodies


def test_a_body_is_the_json_the_document_or_the_feature(gazetteer: Gazetteer) -> None:
    entry = entry_of(make_alert(), gazetteer)
    assert orjson.loads(body(entry)) == alert_json(entry)
    assert orjson.loads(body(entry, "json", "ja")) == alert_json(entry, lang="ja")
    assert orjson.loads(body(entry, "json+cap")) == alert_json(entry, with_cap=True)
    assert orjson.loads(body(entry, "geojson")) == json.loads(json.dumps(alert_geojson(entry)))
    assert body(entry, "cap") is entry.alert.raw


def test_an_unknown_format_is_refused(gazetteer: Gazetteer) -> None:
    with pytest.raises(BadRequest, match="format: 'xml' must be one of json"):
        body(entry_of(make_alert(), gazetteer), "xml")


def test_a_body_is_made_once_for_all_who_see_the_same(gazetteer: Gazetteer) -> None:
    bodies, entry = Bodies(), entry_of(make_alert(), gazetteer)
    made = bodies(entry)
    assert bodies(entry, lang="ja") is made
    assert bodies(entry, lang="xx-invented") is made
    assert bodies(entry, "json+cap") != made


def test_another_entry_at_the_same_position_is_another_body(gazetteer: Gazetteer) -> None:
    bodies = Bodies()
    first, second = (bodies(entry_of(make_alert(identifier=name), gazetteer)) for name in ("one", "two"))
    assert first != second


def test_kept_bodies_stay_within_their_bounds(gazetteer: Gazetteer) -> None:
    entries = [replace(entry_of(make_alert(), gazetteer), position=f"e-{n}") for n in range(6)]
    size = len(body(entries[0])) + len(entries[0].alert.raw)
    by_number, by_bytes, none = (
        Bodies(max_entries=3),
        Bodies(max_bytes=3 * size + 100),
        Bodies(max_bytes=size - 1),
    )
    for entry in entries:
        for bodies in (by_number, by_bytes, none):
            bodies(entry)
    assert kept(by_number, entries) == kept(by_bytes, entries) == ["e-3", "e-4", "e-5"]
    assert kept(none, entries) == []
    assert none._kept.bytes == 0
    assert by_number._kept.bytes == sum(len(body(entry)) + len(entry.alert.raw) for entry in entries[3:])


def test_what_was_asked_for_lately_is_kept(gazetteer: Gazetteer) -> None:
    entries = [replace(entry_of(make_alert(), gazetteer), position=f"e-{n}") for n in range(3)]
    bodies = Bodies(max_entries=2)
    for n in (0, 1, 0, 2):
        bodies(entries[n])
    assert kept(bodies, entries) == ["e-0", "e-2"]


def kept(bodies: Bodies, entries: list[Entry]) -> list[Any]:
    places = {(entry.position, "json", (entry.alert.infos[0].language,)): entry for entry in entries}
    return sorted(entry.position for key, entry in places.items() if bodies._kept.get(key, entry))
