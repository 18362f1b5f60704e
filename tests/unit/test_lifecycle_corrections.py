"""A correction mends words; whatever decides what people must do makes it an ordinary Update, and the sender is told what that was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lalert import lifecycle
from lalert.lifecycle import Known, Message, ReferencePolicy
from lalert.model import Alert, Area, Changes, Entry, MsgType, NamedValue, Origin, OriginKind, Resource
from lalert.testing import declared_facts, make_alert

NOW = datetime(2026, 6, 1, 3, 0, tzinfo=UTC)
HITOYOSHI, NISHIKI = "432032", "435015"


def entry_of(alert: Alert) -> Entry:
    return Entry(
        alert.id, NOW, NOW, alert, Origin(OriginKind.HTTP, "x"), alert.id, facts=declared_facts(alert)
    )


def message(alert: Alert, *heads: Alert, first: Alert | None = None) -> Message:
    entries = [entry_of(head) for head in heads]
    known = {reference.id: Known(entry_of(first or heads[0]), entries) for reference in alert.references}
    return Message(alert, declared_facts(alert), NOW, known if heads else {})


def found(said: Message) -> list[str]:
    problems = list(lifecycle.judge(said, ReferencePolicy()))
    assert all(problem.message and problem.message_ja and problem.help_ja for problem in problems)
    return [problem.rule for problem in problems]


FIRST = make_alert(sent=NOW, expires=NOW + timedelta(hours=6))


def correction(of: Alert = FIRST, mark: str = "jp:correction", **changes: Any) -> Alert:
    about = {"msg_type": "Update", "references": [of], "alert_codes": [mark], "sent": NOW}
    return make_alert(**{"expires": NOW + timedelta(hours=6), **about, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"description": "避難所は第二中学校です。"},
        {"headline": "訂正", "instruction": "第二中学校へ避難してください。", "contact": "0966-00-0000"},
        {"parameters": [("jp:shelter", "name=第二中学校; state=open")], "web": "https://hitoyoshi.example/"},
        {"area_desc": "人吉市全域", "effective": NOW},
        {"resources": [Resource("地図", "image/png", uri="https://hitoyoshi.example/map.png")]},
        {"mark": "訂正"},
        {"expires": (NOW + timedelta(hours=6)).astimezone(UTC)},
    ],
)
def test_words_may_be_mended(changes: dict[str, Any]) -> None:
    mended = correction(**changes)
    assert found(message(mended, FIRST)) == []
    assert lifecycle.corrects(message(mended, FIRST))


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"severity": "Extreme"}, "/alert/info[1]/severity"),
        ({"urgency": "Expected"}, "/alert/info[1]/urgency"),
        ({"certainty": "Observed"}, "/alert/info[1]/certainty"),
        ({"event": "緊急安全確保"}, "/alert/info[1]/event"),
        ({"category": "Met"}, "/alert/info[1]/category"),
        ({"response": "Shelter"}, "/alert/info[1]/responseType"),
        ({"level": 5}, "/alert/info[1]/parameter[警戒レベル]"),
        ({"level": None}, "/alert/info[1]/parameter[警戒レベル]"),
        ({"expires": NOW + timedelta(hours=7)}, "/alert/info[1]/expires"),
        ({"expires": NOW + timedelta(hours=5)}, "/alert/info[1]/expires"),
        ({"expires": None}, "/alert/info[1]/expires"),
        ({"onset": NOW}, "/alert/info[1]/onset"),
        ({"codes": [HITOYOSHI, NISHIKI]}, "/alert/info[1]/area"),
        ({"polygon": None}, "/alert/info[1]/area"),
        ({"infos": ()}, "/alert/info"),
        ({"language": "en-US"}, "/alert/info"),
        ({"scope": "Private", "addresses": ["a"]}, "/alert/scope"),
    ],
)
def test_what_people_must_do_may_not(changes: dict[str, Any], path: str) -> None:
    said = message(correction(**changes), FIRST)
    problems = list(lifecycle.judge(said, ReferencePolicy()))
    major = [problem for problem in problems if problem.rule == "HUB-CORRECTION-MAJOR"]
    assert [problem.path for problem in major] == [path]
    assert {problem.severity.value for problem in major} == {"error"}
    assert not lifecycle.corrects(said)


def test_every_field_that_was_changed_is_named_with_what_it_was_and_is() -> None:
    said = message(correction(severity="Extreme", level=5), FIRST)
    severity, level = lifecycle.judge(said, ReferencePolicy())
    assert "severity (was: Severe; now: Extreme)" in severity.message
    assert "変更前: 4、変更後: 5" in level.message_ja


@pytest.mark.parametrize("reason", ["unknown", "cancelled", "over", "two", "no update"])
def test_where_nothing_in_force_can_be_corrected_it_is_told_as_new(reason: str) -> None:
    cancel = replace(correction(), msg_type=MsgType.CANCEL, codes=(), note="x")
    over = replace(FIRST, infos=(replace(FIRST.infos[0], expires=NOW),))
    heads: Sequence[Alert] = {
        "unknown": [],
        "cancelled": [cancel],
        "over": [over],
        "two": [FIRST, make_alert(sent=NOW)],
    }.get(reason, [FIRST])
    alert = correction()
    if reason == "no update":
        alert = replace(alert, msg_type=MsgType.ALERT, references=())
    said = message(alert, *heads, first=FIRST)
    assert "HUB-CORRECTION-UNKNOWN" in found(said)
    assert not lifecycle.corrects(said)


def test_a_correction_of_a_correction_is_compared_with_the_newest() -> None:
    second = correction(description="第二中学校")
    third = correction(of=FIRST, description="第三中学校")
    assert found(message(third, second, first=FIRST)) == []
    raised = replace(second, codes=(), infos=(replace(second.infos[0], event="緊急安全確保"),))
    assert found(message(third, raised, first=FIRST)) == ["HUB-CORRECTION-MAJOR"]


def test_an_update_without_the_mark_corrects_nothing() -> None:
    said = message(correction(mark="profile:x"), FIRST)
    assert found(said) == []
    assert not lifecycle.corrects(said)


def two_towns(**changes: Any) -> Alert:
    return make_alert(codes=[HITOYOSHI, NISHIKI], sent=NOW, **changes)


def test_an_area_that_a_snapshot_neither_issues_nor_lifts_is_asked_about() -> None:
    before = two_towns()
    after = make_alert(codes=[HITOYOSHI], msg_type="Update", references=[before], sent=NOW)
    assert found(message(after, before)) == ["HUB-SNAPSHOT-AREA-DROPPED"]
    assert lifecycle.replaces(message(after, before)) == Changes(lifted=(NISHIKI,))
    (problem,) = lifecycle.judge(message(after, before), ReferencePolicy())
    assert NISHIKI in problem.message


def test_an_area_that_is_lifted_in_so_many_words_is_not() -> None:
    before = two_towns()
    (info,) = make_alert(codes=[HITOYOSHI], sent=NOW).infos
    lifted = replace(
        info,
        response_types=("AllClear",),
        areas=(Area("錦町", geocodes=(NamedValue("JISX0402", NISHIKI),)),),
    )
    after = make_alert(infos=(info, lifted), msg_type="Update", references=[before], sent=NOW)
    assert found(message(after, before)) == []
    assert lifecycle.replaces(message(after, before)) == Changes(lifted=(NISHIKI,))


def test_a_lower_level_is_an_order_and_no_lifting() -> None:
    before = two_towns(level=4)
    after = two_towns(level=3, event="高齢者等避難", msg_type="Update", references=[before])
    assert found(message(after, before)) == []
    assert lifecycle.replaces(message(after, before)) == Changes(lowered=(HITOYOSHI, NISHIKI))


def test_only_evacuation_documents_are_snapshots() -> None:
    before = two_towns(event="大雨")
    after = make_alert(event="大雨", codes=[HITOYOSHI], msg_type="Update", references=[before], sent=NOW)
    assert found(message(after, before)) == []


CODES = (
    *[
        "432024",
        "432032",
        "432041",
        "432059",
        "432067",
        "432083",
        "432105",
        "432113",
        "432121",
        "432130",
        "432148",
        "432156",
        "432164",
        "433489",
    ],
)


def test_many_areas_are_counted_and_not_all_named() -> None:
    codes = CODES
    before = make_alert(codes=codes, sent=NOW)
    after = make_alert(codes=codes[:1], msg_type="Update", references=[before], sent=NOW)
    (problem,) = lifecycle.judge(message(after, before), ReferencePolicy())
    assert "(+3)" in problem.message
