from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import shapely

from lalert import intake, resources
from lalert.errors import Forbidden, InvalidAlert, Problem, Unauthenticated
from lalert.geo import Gazetteer
from lalert.intake import Case, Policy, judge, jurisdiction
from lalert.lifecycle import Handling, ReferencePolicy
from lalert.matching import facts_of
from lalert.model import (
    UNKNOWN_INSTANT,
    Alert,
    Area,
    Circle,
    Entry,
    Key,
    MsgType,
    NamedValue,
    Origin,
    OriginKind,
    Reference,
    Ring,
    Role,
    Scope,
    Severity,
    Status,
    Tenant,
)
from lalert.tenancy import ANONYMOUS, Caller
from lalert.testing import make_alert

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
SILENT = ReferencePolicy(Handling.ACCEPT, Handling.ACCEPT, Handling.ACCEPT, Handling.ACCEPT)
CITY = Tenant("hitoyoshi", "人吉市", frozenset({"432032"}), ("*@hitoyoshi.example",))
STATE = Tenant("state", "国", frozenset(), ("*",), everywhere=True)
KEY = Key("key-1", "hitoyoshi", Role.SENDER, b"", NOW)
SENDER = "bousai@hitoyoshi.example"
IN_THE_CITY: Ring = ((130.74, 32.20), (130.77, 32.20), (130.77, 32.22), (130.74, 32.20))
TOKYO: Ring = ((139.6, 35.6), (139.8, 35.6), (139.8, 35.7), (139.6, 35.6))
KYUSHU: Ring = ((129.5, 31.0), (132.0, 31.0), (132.0, 34.0), (129.5, 34.0), (129.5, 31.0))


@pytest.fixture(scope="module")
def gazetteer() -> Gazetteer:
    return Gazetteer.from_csv(resources.gazetteer_csv(), resources.former_codes_csv(), resources.abroad_csv())


class Judge:
    """Judges an alert that is good but for what a test changes."""

    def __init__(self, gazetteer: Gazetteer) -> None:
        self._gazetteer = gazetteer

    def __call__(
        self,
        alert: Alert,
        caller: Caller = Caller(CITY, KEY),  # noqa: B008  # frozen
        known: Mapping[str, Entry] | None = None,
        policy: Policy = Policy(),  # noqa: B008  # frozen
        **more: Any,
    ) -> tuple[Problem, ...]:
        return judge(Case(alert, caller, NOW, known or {}, self._gazetteer, policy, **more))

    def code(self, alert: Alert, caller: Caller = Caller(CITY, KEY)) -> str:  # noqa: B008  # frozen
        with pytest.raises(Forbidden) as caught:
            self(alert, caller)
        return caught.value.error_code


@pytest.fixture
def judged(gazetteer: Gazetteer) -> Judge:
    return Judge(gazetteer)


def good(**changes: object) -> Alert:
    alert = make_alert(sender=SENDER, sent=NOW)
    return replace(alert, **changes)  # type: ignore[arg-type]


def with_area(area: Area) -> Alert:
    alert = good()
    return replace(alert, infos=(replace(alert.infos[0], areas=(area,)),))


def code_area(code: str) -> Area:
    return Area("somewhere", geocodes=(NamedValue("JISX0402", code),))


def test_a_good_alert_passes_without_a_word(judged: Judge) -> None:
    assert judged(good()) == ()


def test_an_alert_of_nobody_is_refused(judged: Judge) -> None:
    with pytest.raises(Unauthenticated):
        judged(good(), ANONYMOUS)


def test_only_a_sender_key_submits(judged: Judge) -> None:
    for role in (Role.RECEIVER, Role.SENSOR, Role.ADMIN):
        assert judged.code(good(), Caller(CITY, replace(KEY, role=role))) == "wrong-role"


def test_a_sender_of_somebody_else_is_refused(judged: Judge) -> None:
    assert judged.code(good(sender="bousai@nishiki.example")) == "sender-not-yours"


def test_a_drill_key_cannot_send_anything_real(judged: Judge) -> None:
    drill = Caller(CITY, replace(KEY, exercise_only=True))
    for status in (Status.ACTUAL, Status.SYSTEM):
        assert judged.code(good(status=status), drill) == "exercise-only-key"
    for status in (Status.EXERCISE, Status.TEST):
        assert judged(good(status=status), drill) == ()


def rules_of(
    judged: Judge, alert: Alert, known: Mapping[str, Entry] | None = None, policy: Policy | None = None
) -> list[str]:
    with pytest.raises(InvalidAlert) as caught:
        judged(alert, known=known, policy=policy or Policy())
    return [problem.rule for problem in caught.value.problems]


def test_a_draft_never_goes_out(judged: Judge) -> None:
    assert rules_of(judged, good(status=Status.DRAFT)) == ["HUB-STATUS-DRAFT"]


def test_the_clock_guard_stands_at_five_minutes(judged: Judge) -> None:
    assert judged(good(sent=NOW + timedelta(minutes=5))) == ()
    assert rules_of(judged, good(sent=NOW + timedelta(minutes=5, seconds=1))) == ["HUB-SENT-FUTURE"]


def test_findings_give_times_as_clocks_in_japan_show_them(judged: Judge) -> None:
    with pytest.raises(InvalidAlert) as refused:
        judged(good(sent=NOW + timedelta(hours=9)))
    assert "2026-11-23T12:00:00+09:00" in refused.value.problems[0].message_ja
    first = over(good())
    [found] = judged(update_of(first), known={first.id: entry_of(first)}, heads={first.id: [entry_of(first)]})
    assert "+09:00" in found.message_ja


def test_old_alerts_pass_unless_the_operator_sets_a_limit(judged: Judge) -> None:
    old = good(sent=NOW - timedelta(days=365))
    assert judged(old) == ()
    assert rules_of(judged, old, policy=Policy(past=timedelta(minutes=5))) == ["HUB-SENT-PAST"]


@pytest.mark.parametrize("code", ["432032", "43203"])
def test_its_own_code_passes_in_both_spellings(judged: Judge, code: str) -> None:
    assert judged(with_area(code_area(code))) == ()


def test_an_old_code_is_as_good_as_all_its_successors(judged: Judge) -> None:
    def of(*codes: str) -> Caller:
        return Caller(replace(CITY, codes=frozenset(codes)), KEY)

    old = with_area(code_area("193411"))  # 上九一色村, divided among 甲府市 and 富士河口湖町
    assert judged(old, of("192015", "194301")) == judged(old, of("19")) == judged(old, of("193411")) == ()
    for codes in (("192015",), ("194301",), ("432032",)):
        assert judged.code(old, of(*codes)) == "area-not-yours"
    # And an organisation that has an old code may alert for what became of it.
    assert judged(with_area(code_area("431010")), of("432016")) == ()
    assert judged.code(with_area(code_area("432024")), of("432016")) == "area-not-yours"


def test_a_place_abroad_is_beyond_everybody_but_those_who_alert_everywhere(judged: Judge) -> None:
    abroad = Area("there", geocodes=(NamedValue("SAME", "006037"),))
    unmapped = Area("there", geocodes=(NamedValue("ISO 3166-1", "ZZ"),))
    for area in (abroad, unmapped):
        assert judged.code(with_area(area)) == "area-not-yours"
        assert judged(with_area(area), Caller(replace(STATE, senders=(SENDER,)), KEY)) == ()
    # What else the area says of its place is better, and what the country is, no sender is held to.
    at_home = code_area("432032")
    for other in (NamedValue("ISO 3166-1", "JP"), NamedValue("SAME", "006037")):
        assert judged(with_area(replace(at_home, geocodes=(*at_home.geocodes, other)))) == ()
    assert (
        judged.code(with_area(Area("Japan", geocodes=(NamedValue("ISO 3166-1", "JP"),)))) == "area-not-yours"
    )
    own = Caller(replace(CITY, codes=frozenset({"43"})), KEY)
    assert judged(with_area(Area("Kumamoto", geocodes=(NamedValue("ISO3166-2", "JP-43"),))), own) == ()


@pytest.mark.parametrize("code", ["435015", "43", "430005", "131016"])
def test_a_code_beyond_its_own_is_refused(judged: Judge, code: str) -> None:
    assert judged.code(with_area(code_area(code))) == "area-not-yours"


def test_a_prefecture_may_alert_for_its_municipalities_and_a_city_for_its_wards(judged: Judge) -> None:
    kumamoto = Caller(replace(CITY, codes=frozenset({"43"})), KEY)
    assert judged(with_area(code_area("432032")), kumamoto) == ()
    assert judged.code(with_area(code_area("131016")), kumamoto) == "area-not-yours"
    city = Caller(replace(CITY, codes=frozenset({"431001"})), KEY)
    assert judged(with_area(code_area("431010")), city) == ()
    ward = Caller(replace(CITY, codes=frozenset({"431010"})), KEY)
    assert judged.code(with_area(code_area("431001")), ward) == "area-not-yours"


def test_a_drawn_area_must_lie_at_home_by_the_facts_as_well(judged: Judge, gazetteer: Gazetteer) -> None:
    inside = with_area(Area("home", polygons=(IN_THE_CITY,)))
    two = replace(inside, infos=(*inside.infos, *with_area(Area("far", polygons=(TOKYO,))).infos))
    assert judged(inside, facts=facts_of(inside, gazetteer)) == ()
    with pytest.raises(Forbidden, match=r"/alert/info\[2\]/area\[1\]: the drawn area reaches beyond"):
        judged(two, facts=facts_of(two, gazetteer))
    foreign = with_area(Area("home", polygons=(IN_THE_CITY,), geocodes=code_area("435015").geocodes))
    with pytest.raises(Forbidden, match="435015"):
        judged(foreign, facts=facts_of(foreign, gazetteer))


def test_two_threads_that_judge_at_once_ask_no_prepared_territory_in_common(
    judged: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GEOS ends the process, or answers wrongly, where two threads ask one prepared geometry at the same time.
    asked: list[shapely.Geometry] = []
    own = intake._home_of

    def noted(case: Case) -> shapely.Geometry:
        asked.append(own(case))
        return asked[-1]

    monkeypatch.setattr(intake, "_home_of", noted)
    alert = with_area(Area("home", polygons=(IN_THE_CITY,)))
    judged(alert)
    here = list(asked)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(judged, alert).result() == ()
    there = asked[len(here) :]
    assert here
    assert there
    assert not {id(home) for home in here} & {id(home) for home in there}
    assert all(shapely.is_prepared(home) for home in asked)
    assert all(shapely.equals(home, here[0]) for home in there)


def test_what_lies_at_home_as_a_whole_is_not_drawn_again(
    judged: Judge, gazetteer: Gazetteer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(*_: object) -> None:
        raise AssertionError("an area was drawn again")

    inside = with_area(Area("home", polygons=(IN_THE_CITY,)))
    monkeypatch.setattr("lalert.intake.area_geometry", drawn)
    assert judged(inside, facts=facts_of(inside, gazetteer)) == ()


def test_a_drawn_area_must_lie_at_home(judged: Judge) -> None:
    assert judged(with_area(Area("home", polygons=(IN_THE_CITY,)))) == ()
    assert judged(with_area(Area("home", circles=(Circle(130.75, 32.21, 3_000.0),)))) == ()
    for far in (TOKYO, KYUSHU):
        assert judged.code(with_area(Area("far", polygons=(far,)))) == "area-not-yours"
    assert (
        judged.code(with_area(Area("wide", circles=(Circle(130.75, 32.21, 200_000.0),)))) == "area-not-yours"
    )
    assert (
        judged.code(with_area(Area("both", polygons=(TOKYO,), geocodes=code_area("432032").geocodes)))
        == "area-not-yours"
    )


def test_the_margin_is_narrow_only_around_what_has_an_official_border(gazetteer: Gazetteer) -> None:
    def with_official(code: str) -> Judge:
        place = gazetteer.geometry(code)
        feature = {
            "type": "Feature",
            "properties": {"code": code[:5]},
            "geometry": shapely.geometry.mapping(place),
        }
        return Judge(gazetteer.with_boundaries(json.dumps({"features": [feature]}).encode()))

    home = gazetteer.geometry("432032")
    assert home is not None
    west, _, _, _ = home.bounds
    off = west - 10_000 / intake.METRES_PER_DEGREE
    beyond = with_area(
        Area("10 km beyond", polygons=(((off, 32.2), (off + 0.01, 32.2), (off, 32.21), (off, 32.2)),))
    )
    assert with_official("131016")(beyond) == ()  # somebody else's: this border is as doubtful as before
    assert with_official("432032").code(beyond) == "area-not-yours"


def test_who_may_alert_everywhere_may(judged: Judge) -> None:
    assert (
        judged(with_area(Area("far", polygons=(TOKYO,))), Caller(STATE, replace(KEY, tenant="state"))) == ()
    )


def entry_of(alert: Alert, tenant: str = "hitoyoshi") -> Entry:
    return Entry("e-1", NOW, NOW, alert, Origin(OriginKind.HTTP, tenant), alert.id)


def update_of(alert: Alert, **changes: object) -> Alert:
    reference = Reference(alert.sender, alert.identifier, alert.sent_text, alert.sent)
    return good(**{"msg_type": MsgType.UPDATE, "references": (reference,)} | changes)


def test_an_update_of_its_own_alert_passes(judged: Judge) -> None:
    first = good()
    assert judged(update_of(first), known={first.id: entry_of(first)}) == ()


def test_an_update_of_an_unknown_alert_passes_with_a_warning(judged: Judge) -> None:
    assert [p.rule for p in judged(update_of(good()))] == ["HUB-REFERENCE-UNKNOWN"]


def test_another_organisations_alert_cannot_be_cancelled(judged: Judge) -> None:
    first = good()
    with pytest.raises(Forbidden) as caught:
        judged(update_of(first), known={first.id: entry_of(first, "nishiki")})
    assert caught.value.error_code == "reference-not-yours"


def test_a_drill_cannot_cancel_what_is_real(judged: Judge) -> None:
    first = good()
    drill = replace(update_of(first, status=Status.EXERCISE), msg_type=MsgType.CANCEL, note="訓練終了")
    assert rules_of(judged, drill, {first.id: entry_of(first)}) == ["HUB-REFERENCE-STATUS"]


def over(alert: Alert) -> Alert:
    return replace(alert, infos=(replace(alert.infos[0], expires=NOW - timedelta(minutes=1)),))


def judged_with(
    judged: Judge, alert: Alert, first: Alert, *heads: Alert, policy: Policy | None = None
) -> list[tuple[str, str]]:
    found = judged(
        alert,
        known={first.id: entry_of(first)},
        policy=policy or Policy(),
        heads={first.id: [replace(entry_of(head), position=head.id) for head in heads or (first,)]},
    )
    assert all(problem.message_ja and problem.help_ja and problem.path for problem in found)
    return [(problem.rule, problem.severity.value) for problem in found]


@pytest.mark.parametrize("kind", [MsgType.UPDATE, MsgType.CANCEL])
def test_what_everybody_was_told_of_is_ended_before_everybody(judged: Judge, kind: MsgType) -> None:
    first = good()
    message = update_of(first, msg_type=kind, note="x")
    hidden = replace(message, scope=Scope.RESTRICTED, restriction="staff")
    assert rules_of(judged, hidden, known={first.id: entry_of(first)}) == ["HUB-REFERENCE-SCOPE"]
    inside = replace(first, scope=Scope.RESTRICTED)
    assert judged(hidden, known={inside.id: entry_of(inside)}) == ()
    assert judged(message, known={inside.id: entry_of(inside)}) == ()


def test_what_is_no_mere_correction_is_told_as_new_where_its_sender_is_tolerated(
    judged: Judge,
) -> None:
    first = good()
    changed = replace(first.infos[0], severity=Severity.MINOR)
    marked = update_of(first, codes=("jp:correction",), infos=(changed,))
    around: dict[str, Any] = {"known": {first.id: entry_of(first)}, "heads": {first.id: [entry_of(first)]}}
    with pytest.raises(InvalidAlert) as refused:
        judged(marked, **around)
    assert [found.rule for found in refused.value.problems] == ["HUB-CORRECTION-MAJOR"]
    [found] = judged(marked, Caller(replace(CITY, tolerant=(SENDER,)), KEY), **around)
    assert (found.rule, found.severity, bool(found.repair_ja)) == ("HUB-CORRECTION-MAJOR", "warning", True)


def test_an_alert_that_refers_is_asked_whether_it_meant_to_replace(judged: Judge) -> None:
    first = good()
    alert = replace(update_of(first), msg_type=MsgType.ALERT)
    assert judged_with(judged, alert, first) == [("HUB-ALERT-REFERS", "warning")]
    assert [found.rule for found in judged(alert)] == ["HUB-ALERT-REFERS"]
    drill = replace(first, status=Status.EXERCISE)
    assert "HUB-REFERENCE-STATUS" in rules_of(judged, alert, known={drill.id: entry_of(drill)})


def test_an_update_of_what_is_over_passes_with_a_warning(judged: Judge) -> None:
    first = over(good())
    assert judged_with(judged, update_of(first), first) == [("HUB-REFERENCE-EXPIRED", "warning")]


def test_an_update_of_what_was_cancelled_passes_with_a_warning(judged: Judge) -> None:
    first = good()
    cancel = replace(update_of(first), msg_type=MsgType.CANCEL, infos=())
    assert judged_with(judged, update_of(first), first, cancel) == [("HUB-REFERENCE-CANCELLED", "warning")]


def test_what_is_over_may_be_cancelled_confirmed_and_doubted_without_a_word(judged: Judge) -> None:
    first = over(good())
    cancel = replace(update_of(first), msg_type=MsgType.CANCEL, infos=(), note="解除済みのため")
    for kind in (MsgType.CANCEL, MsgType.ACK, MsgType.ERROR):
        assert judged_with(judged, replace(cancel, msg_type=kind), first) == []
        assert judged_with(judged, replace(cancel, msg_type=kind), first, cancel) == []


def test_a_cancel_without_a_reason_is_told_so(judged: Judge) -> None:
    first = good()
    for note in (None, "", " \n"):
        cancel = replace(update_of(first), msg_type=MsgType.CANCEL, infos=(), note=note)
        assert judged_with(judged, cancel, first) == [("HUB-CANCEL-REASON", "warning")]


def test_who_names_the_newest_revision_too_hears_nothing_of_older_ones(judged: Judge) -> None:
    first = good()
    second = update_of(first)
    tell = Policy(references=ReferencePolicy(superseded=Handling.WARN))
    both = update_of(first)
    both = replace(both, references=(*both.references, *update_of(second).references))
    known = {alert.id: entry_of(alert) for alert in (first, second)}
    heads = {alert.id: [entry_of(second)] for alert in (first, second)}
    assert judged(both, known=known, heads=heads, policy=tell) == ()
    assert judged_with(judged, update_of(first), first, second) == []
    stale = judged_with(judged, update_of(first), first, second, policy=tell)
    assert stale == [("HUB-REFERENCE-SUPERSEDED", "warning")]


@pytest.mark.parametrize("condition", ["unknown", "expired", "cancelled", "superseded"])
@pytest.mark.parametrize("handling", Handling)
def test_each_condition_is_handled_as_the_operator_says(
    judged: Judge, condition: str, handling: Handling
) -> None:
    first = over(good()) if condition == "expired" else good()
    newer = update_of(first)
    head = {"cancelled": replace(newer, msg_type=MsgType.CANCEL, infos=()), "superseded": newer}.get(
        condition, first
    )
    policy = Policy(references=replace(SILENT, **{condition: handling}))
    known = {} if condition == "unknown" else {first.id: entry_of(first)}
    heads = {first.id: [entry_of(head)]}
    rule = f"HUB-REFERENCE-{condition.upper()}"
    if handling is Handling.REFUSE:
        with pytest.raises(InvalidAlert) as caught:
            judged(update_of(first), known=known, heads=heads, policy=policy)
        assert [problem.rule for problem in caught.value.problems] == [rule]
        return
    found = judged(update_of(first), known=known, heads=heads, policy=policy)
    assert [problem.rule for problem in found] == ([rule] if handling is Handling.WARN else [])


def test_what_could_mean_several_alerts_is_refused_unless_it_says_something_by_itself(judged: Judge) -> None:
    vague = Reference(SENDER, "x", "", UNKNOWN_INSTANT)
    update = good(msg_type=MsgType.UPDATE, references=(vague,))
    assert [p.severity for p in judged(update, ambiguous=frozenset({vague.id}))] == ["warning"]
    for kind in (MsgType.CANCEL, MsgType.ACK, MsgType.ERROR):
        with pytest.raises(InvalidAlert) as caught:
            judged(replace(update, msg_type=kind, note="x"), ambiguous=frozenset({vague.id}))
        assert [p.rule for p in caught.value.problems] == ["HUB-REFERENCE-AMBIGUOUS"]


def test_everything_about_the_references_is_said_at_once(judged: Judge) -> None:
    first, second = over(good()), good(status=Status.TEST)
    references = (*update_of(first).references, *update_of(second).references, *update_of(good()).references)
    update = good(msg_type=MsgType.UPDATE, references=references)
    with pytest.raises(InvalidAlert) as caught:
        judged(update, known={first.id: entry_of(first), second.id: entry_of(second)})
    rules = [problem.rule for problem in caught.value.problems]
    assert rules == ["HUB-REFERENCE-EXPIRED", "HUB-REFERENCE-STATUS", "HUB-REFERENCE-UNKNOWN"]
    assert [problem.message.split(" (")[0] for problem in caught.value.problems[::2]] == [
        "reference 1",
        "reference 3",
    ]


def test_an_alert_without_a_place_concerns_the_whole_jurisdiction() -> None:
    assert jurisdiction(Caller(CITY, KEY)) == {"432032"}
    assert len(jurisdiction(Caller(STATE))) == 47
    assert jurisdiction(ANONYMOUS) == frozenset()
