from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lalert import resources
from lalert.errors import Forbidden, InvalidAlert, Problem, Unauthenticated
from lalert.geo import Gazetteer
from lalert.intake import Case, Policy, judge, jurisdiction
from lalert.model import (
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
    Status,
    Tenant,
)
from lalert.tenancy import ANONYMOUS, Caller
from lalert.testing import make_alert

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
CITY = Tenant("hitoyoshi", "人吉市", frozenset({"432032"}), ("*@hitoyoshi.example",))
STATE = Tenant("state", "国", frozenset(), ("*",), everywhere=True)
KEY = Key("key-1", "hitoyoshi", Role.SENDER, b"", NOW)
SENDER = "bousai@hitoyoshi.example"
IN_THE_CITY: Ring = ((130.74, 32.20), (130.77, 32.20), (130.77, 32.22), (130.74, 32.20))
TOKYO: Ring = ((139.6, 35.6), (139.8, 35.6), (139.8, 35.7), (139.6, 35.6))
KYUSHU: Ring = ((129.5, 31.0), (132.0, 31.0), (132.0, 34.0), (129.5, 34.0), (129.5, 31.0))


@pytest.fixture(scope="module")
def gazetteer() -> Gazetteer:
    return Gazetteer.from_csv(resources.gazetteer_csv())


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
    ) -> tuple[Problem, ...]:
        return judge(Case(alert, caller, NOW, known or {}, self._gazetteer, policy))

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


def test_old_alerts_pass_unless_the_operator_sets_a_limit(judged: Judge) -> None:
    old = good(sent=NOW - timedelta(days=365))
    assert judged(old) == ()
    assert rules_of(judged, old, policy=Policy(past=timedelta(minutes=5))) == ["HUB-SENT-PAST"]


@pytest.mark.parametrize("code", ["432032", "43203"])
def test_its_own_code_passes_in_both_spellings(judged: Judge, code: str) -> None:
    assert judged(with_area(code_area(code))) == ()


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


def test_who_may_alert_everywhere_may(judged: Judge) -> None:
    assert (
        judged(with_area(Area("far", polygons=(TOKYO,))), Caller(STATE, replace(KEY, tenant="state"))) == ()
    )


def entry_of(alert: Alert, tenant: str = "hitoyoshi") -> Entry:
    return Entry("e-1", NOW, NOW, alert, Origin(OriginKind.HTTP, tenant), alert.id)


def update_of(alert: Alert, **changes: object) -> Alert:
    reference = Reference(alert.sender, alert.identifier, alert.sent_text, alert.sent)
    return good(msg_type=MsgType.UPDATE, references=(reference,), **changes)


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
    drill = replace(update_of(first, status=Status.EXERCISE), msg_type=MsgType.CANCEL)
    assert rules_of(judged, drill, {first.id: entry_of(first)}) == ["HUB-REFERENCE-STATUS"]


def test_an_alert_without_a_place_concerns_the_whole_jurisdiction() -> None:
    assert jurisdiction(Caller(CITY, KEY)) == {"432032"}
    assert len(jurisdiction(Caller(STATE))) == 47
    assert jurisdiction(ANONYMOUS) == frozenset()
