"""Who hears of an alert: places, conditions, follow-ups and drills."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest

from lalert import matching, resources
from lalert.errors import InvalidGeometry
from lalert.geo import Gazetteer
from lalert.matching import Reason, facts_of, hindrances
from lalert.model import (
    Entry,
    Facts,
    Filter,
    MsgType,
    Origin,
    OriginKind,
    Ring,
    Severity,
    Status,
)
from lalert.testing import make_alert

HITOYOSHI, NISHIKI, MINAMATA = "432032", "435015", "432059"
FUKUOKA, HAKATA = "401307", "401323"
IN_HITOYOSHI, IN_TOKYO = (130.76, 32.21), (139.75, 35.68)
NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)

Enter = Callable[..., Entry]


@cache
def japan() -> Gazetteer:
    return Gazetteer.from_csv(resources.gazetteer_csv(), resources.former_codes_csv())


@pytest.fixture(scope="module")
def gazetteer() -> Gazetteer:
    return japan()


def wants(filter: Filter, entry: Entry, lineage: Sequence[Entry] = ()) -> bool:
    return matching.wants(filter, entry, lineage, japan())


@pytest.fixture
def enter(gazetteer: Gazetteer) -> Enter:
    """Return what makes entries: of codes or a ring, in a jurisdiction, with whatever else `make_alert` takes; `bare` has no info."""

    def make(
        *codes: str,
        ring: Ring | None = None,
        home: frozenset[str] = frozenset({HITOYOSHI, MINAMATA}),
        bare: bool = False,
        **changes: Any,
    ) -> Entry:
        alert = make_alert(
            codes=codes, polygon=ring, infos=() if bare else None, level=None, raw=b"", **changes
        )
        facts = facts_of(alert, gazetteer, home)
        return Entry(alert.id, NOW, NOW, alert, Origin(OriginKind.HTTP), alert.id, facts)

    return make


def place(*areas: str, **more: object) -> Filter:
    return Filter(areas=frozenset(areas), **more)  # type: ignore[arg-type]


# Places


@pytest.mark.parametrize(
    ("declared", "followed", "told"),
    [
        (HITOYOSHI, HITOYOSHI, True),
        (HITOYOSHI, "43", True),
        ("43", HITOYOSHI, True),
        (HITOYOSHI, NISHIKI, False),
        (HITOYOSHI, "40", False),
        (HAKATA, FUKUOKA, True),
        (FUKUOKA, HAKATA, True),
        (HAKATA, "401315", False),
    ],
)
def test_a_code_reaches_up_and_down(declared: str, followed: str, *, told: bool, enter: Enter) -> None:
    assert wants(place(followed), enter(declared)) is told


def test_a_filter_without_a_place_is_for_everywhere(enter: Enter) -> None:
    assert wants(Filter(), enter(HITOYOSHI))
    assert wants(Filter(), enter(ring=square(*IN_TOKYO)))


def test_an_alert_by_code_reaches_a_point_inside_and_none_outside(enter: Enter) -> None:
    assert wants(Filter(points=(IN_TOKYO, IN_HITOYOSHI)), enter(HITOYOSHI))
    assert not wants(Filter(points=(IN_TOKYO,)), enter(HITOYOSHI))


def test_a_drawn_alert_reaches_the_followers_of_the_municipality_it_lies_in(enter: Enter) -> None:
    drawn = enter(ring=square(*IN_HITOYOSHI))
    assert wants(place(HITOYOSHI), drawn)
    assert not wants(place(MINAMATA), drawn)


def test_a_drawn_alert_reaches_a_point_inside_it_and_on_its_border_alone(enter: Enter) -> None:
    lon, lat = IN_HITOYOSHI
    drawn = enter(ring=square(lon, lat))
    assert wants(Filter(points=((lon + 0.005, lat + 0.005),)), drawn)
    assert wants(Filter(points=((lon + 0.01, lat + 0.01),)), drawn)
    assert not wants(Filter(points=((lon + 0.02, lat),)), drawn)


def test_a_declared_code_reaches_its_points_even_where_nothing_is_drawn(enter: Enter) -> None:
    # CAP 1.2, 3.2.4: the union. The point's owner is told exactly like the follower of the code.
    both = enter(HITOYOSHI, ring=square(130.70, 32.15))
    assert wants(Filter(points=(IN_HITOYOSHI,)), both)


def test_a_code_that_ended_is_its_successors_for_followers_points_and_surfaces(enter: Enter) -> None:
    old_village, kofu, fujikawaguchiko = "193411", "192015", "194301"
    in_kofu, in_fujikawaguchiko = (138.57, 35.66), (138.75, 35.50)
    old = enter(old_village)
    for code in (old_village, kofu, fujikawaguchiko, "19"):
        assert wants(place(code), old)
        assert wants(place(old_village), enter(code))
    for point in (in_kofu, in_fujikawaguchiko):
        assert wants(Filter(points=(point,)), old)
        assert wants(Filter(polygon=square(*point)), old)
        assert wants(place(old_village), enter(ring=square(*point)))
    assert not wants(place(HITOYOSHI), old)
    assert not wants(place(old_village), enter(HITOYOSHI))
    assert not wants(Filter(points=(IN_TOKYO,)), old)
    assert not wants(place(old_village), enter(ring=square(*IN_TOKYO)))


def test_surfaces_meet_what_they_overlap(enter: Enter) -> None:
    lon, lat = IN_HITOYOSHI
    drawn = enter(ring=square(lon, lat))
    assert wants(Filter(bbox=(lon - 1, lat - 1, lon + 1, lat + 1)), drawn)
    assert wants(Filter(bbox=(lon + 0.004, lat + 0.004, lon + 0.005, lat + 0.005)), drawn)
    assert wants(Filter(polygon=square(lon + 0.005, lat + 0.005)), drawn)
    assert not wants(Filter(bbox=(lon + 0.02, lat, lon + 1, lat + 1)), drawn)
    assert not wants(Filter(polygon=square(*IN_TOKYO)), drawn)


def test_places_are_alternatives(enter: Enter) -> None:
    assert wants(place(NISHIKI, points=(IN_HITOYOSHI,)), enter(HITOYOSHI))
    assert wants(place(HITOYOSHI, points=(IN_TOKYO,), bbox=(0, 0, 1, 1)), enter(HITOYOSHI))
    drawn = enter(ring=square(*IN_HITOYOSHI))
    here, far = (130.7, 32.2, 130.8, 32.3), square(*IN_TOKYO)
    assert wants(Filter(points=(IN_TOKYO,), polygon=far, bbox=here), drawn)
    assert wants(Filter(points=(IN_HITOYOSHI,), polygon=far, bbox=(0, 0, 1, 1)), drawn)
    assert not wants(Filter(points=(IN_TOKYO,), polygon=far, bbox=(0, 0, 1, 1)), drawn)


def test_a_filter_that_crosses_itself_still_meets_what_it_encloses(enter: Enter) -> None:
    lon, lat = IN_HITOYOSHI
    bow_tie = ((lon, lat), (lon + 0.04, lat + 0.04), (lon + 0.04, lat), (lon, lat + 0.04), (lon, lat))
    assert wants(Filter(polygon=bow_tie), enter(ring=square(lon + 0.03, lat + 0.01)))


def test_a_box_over_the_180th_meridian_has_its_west_in_the_east(enter: Enter) -> None:
    for west, east in ((179.0, -179.0), (90.0, -90.0), (0.0, -180.0)):
        box = Filter(bbox=(west, 0.0, east, 1.0))
        assert wants(box, enter(ring=square(west, 0.5)))
        assert wants(box, enter(ring=square(east - 0.01, 0.5) if east > -180 else square(179.99, 0.5)))
        assert not wants(box, enter(ring=square(west - 0.02, 0.5)))
        assert not wants(box, enter(ring=square(west, 1.01)))
    with pytest.raises(InvalidGeometry):
        wants(Filter(bbox=(90.0, 0.0, -89.9, 1.0)), enter(HITOYOSHI))


def test_a_box_without_width_is_a_line_or_a_point(enter: Enter) -> None:
    lon, lat = IN_HITOYOSHI
    drawn = enter(ring=square(lon, lat))
    assert wants(Filter(bbox=(lon + 0.005, lat + 0.005, lon + 0.005, lat + 0.005)), drawn)
    assert wants(Filter(bbox=(lon + 0.005, lat - 1, lon + 0.005, lat + 1)), drawn)


@pytest.mark.parametrize(
    "broken",
    [
        Filter(points=((math.nan, 32.0),)),
        Filter(polygon=((math.nan, 32.0), (130.0, 33.0), (131.0, 33.0), (math.nan, 32.0))),
        Filter(bbox=(math.nan, 32.0, 131.0, 33.0)),
        Filter(bbox=(131.0, 32.0, 130.0, 33.0)),
        Filter(bbox=(130.0, 32.0, math.inf, 33.0)),
        Filter(bbox=(130.0, 33.0, 131.0, 32.0)),
    ],
)
def test_a_filter_without_numbers_is_refused_rather_than_wanting_all_or_nothing(
    broken: Filter, enter: Enter
) -> None:
    with pytest.raises(InvalidGeometry):
        wants(broken, enter(HITOYOSHI))


def test_without_any_place_the_whole_jurisdiction_is_told(enter: Enter) -> None:
    placeless = enter()
    assert wants(place(HITOYOSHI), placeless)
    assert wants(place(MINAMATA), placeless)
    assert wants(Filter(points=(IN_HITOYOSHI,)), placeless)
    assert not wants(place(NISHIKI), placeless)
    assert not wants(Filter(points=(IN_TOKYO,)), placeless)


def test_without_any_info_the_whole_jurisdiction_is_told(enter: Enter) -> None:
    bare = enter(bare=True)
    assert wants(place(HITOYOSHI), bare)
    assert wants(Filter(points=(IN_HITOYOSHI,)), bare)
    assert not wants(place(NISHIKI), bare)


def test_without_place_and_jurisdiction_everybody_is_told(enter: Enter) -> None:
    placeless = enter(home=frozenset())
    for filter in (place(NISHIKI), Filter(points=(IN_TOKYO,)), Filter(bbox=(0, 0, 1, 1)), Filter()):
        assert wants(filter, placeless)


def test_a_jurisdiction_that_cannot_be_drawn_leaves_no_position_out(enter: Enter) -> None:
    unknown = enter(home=frozenset({"439991"}))
    assert wants(Filter(points=(IN_TOKYO,)), unknown)
    assert wants(place("439991"), unknown)
    assert not wants(place(MINAMATA), unknown)


def test_the_gazetteer_finds_the_ground_of_codes_that_came_without(enter: Enter) -> None:
    entry = replace(
        enter(HITOYOSHI), facts=Facts(codes=frozenset({HITOYOSHI}), reach=frozenset({HITOYOSHI, "43"}))
    )
    assert wants(Filter(points=(IN_HITOYOSHI,)), entry)
    assert not wants(Filter(points=(IN_TOKYO,)), entry)
    assert not matching.wants(Filter(points=(IN_HITOYOSHI,)), entry)


def test_where_no_gazetteer_is_asked_a_declared_code_leaves_no_position_out(enter: Enter) -> None:
    assert matching.wants(Filter(points=(IN_TOKYO,)), enter(HITOYOSHI))
    assert matching.explain(Filter(points=(IN_TOKYO,)), enter(HITOYOSHI))
    drawn = enter(ring=square(*IN_HITOYOSHI))
    assert matching.wants(Filter(points=(IN_HITOYOSHI,)), drawn)
    assert not matching.wants(Filter(points=(IN_TOKYO,)), drawn)
    assert matching.explain(Filter(points=(IN_TOKYO,)), drawn) == []


# Conditions


@pytest.mark.parametrize(
    ("severity", "told"),
    [
        (Severity.EXTREME, True),
        (Severity.SEVERE, True),
        (Severity.MODERATE, False),
        (Severity.MINOR, False),
        (Severity.UNKNOWN, True),
    ],
)
def test_unknown_severity_passes_every_minimum(severity: Severity, *, told: bool, enter: Enter) -> None:
    assert wants(Filter(min_severity=Severity.SEVERE), enter(HITOYOSHI, severity=severity)) is told


def test_an_unknown_severity_is_not_hidden_by_a_lesser_known_one(enter: Enter) -> None:
    entry = enter(HITOYOSHI, severity=Severity.MINOR)
    unknown = replace(entry.alert.infos[0], severity=Severity.UNKNOWN)
    entry = replace(entry, alert=replace(entry.alert, infos=(*entry.alert.infos, unknown)))
    assert wants(Filter(min_severity=Severity.SEVERE), entry)


@pytest.mark.parametrize(("level", "told"), [(5, True), (4, True), (3, False), (None, True)])
def test_no_level_passes_a_minimum(level: int | None, *, told: bool, enter: Enter) -> None:
    entry = enter(HITOYOSHI)
    entry = replace(entry, facts=replace(entry.facts, level=level))
    assert wants(Filter(min_level=4), entry) is told


def test_no_level_passes_no_filter_that_requires_one(enter: Enter) -> None:
    entry = enter(HITOYOSHI)
    without, with_level = (replace(entry, facts=replace(entry.facts, level=level)) for level in (None, 2))
    assert not wants(Filter(min_level=2, level_required=True), without)
    assert not wants(Filter(level_required=True), without)
    assert wants(Filter(min_level=2, level_required=True), with_level)
    assert not wants(Filter(min_level=3, level_required=True), with_level)


def test_category_event_and_sender_are_compared_exactly(enter: Enter) -> None:
    entry = enter(HITOYOSHI, category=("Met", "Safety"), event="避難指示", sender="a@b.example")
    for wanted in (
        Filter(categories=frozenset({"Fire", "Safety"})),
        Filter(events=frozenset({"避難指示"})),
        Filter(senders=frozenset({"a@b.example"})),
    ):
        assert wants(wanted, entry)
    for unwanted in (
        Filter(categories=frozenset({"Fire"})),
        Filter(events=frozenset({"避難"})),
        Filter(senders=frozenset({"A@b.example"})),
    ):
        assert not wants(unwanted, entry)


def test_each_condition_may_be_met_by_a_different_info(enter: Enter) -> None:
    entry = enter(HITOYOSHI, category="Met", event="大雨", severity=Severity.MINOR)
    other = replace(
        entry.alert.infos[0], categories=("Geo",), event="土砂災害", severity=Severity.EXTREME, areas=()
    )
    entry = replace(entry, alert=replace(entry.alert, infos=(*entry.alert.infos, other)))
    spread = place(
        HITOYOSHI,
        categories=frozenset({"Met"}),
        events=frozenset({"土砂災害"}),
        min_severity=Severity.EXTREME,
    )
    assert wants(spread, entry)
    assert not wants(replace(spread, categories=frozenset({"Fire"})), entry)
    assert not wants(replace(spread, events=frozenset({"津波"})), entry)
    only_minor = replace(entry, alert=replace(entry.alert, infos=entry.alert.infos[:1]))
    assert not wants(replace(spread, events=frozenset()), only_minor)


def test_an_info_of_no_category_passes_every_category(enter: Enter) -> None:
    entry = enter(HITOYOSHI)
    unsaid = replace(entry.alert.infos[0], categories=())
    assert wants(
        place(HITOYOSHI, categories=frozenset({"Fire"})),
        replace(entry, alert=replace(entry.alert, infos=(unsaid,))),
    )


def test_a_minimum_lets_itself_pass(enter: Enter) -> None:
    entry = enter(HITOYOSHI, severity=Severity.MODERATE)
    assert wants(Filter(min_severity=Severity.MODERATE), entry)
    assert not wants(Filter(min_severity=Severity.SEVERE), entry)


def test_the_language_of_an_alert_decides_nothing(enter: Enter) -> None:
    assert wants(place(HITOYOSHI), enter(HITOYOSHI, language="pt-BR"))
    assert not any("lang" in field.name for field in fields(Filter))


def test_conditions_and_place_must_both_hold(enter: Enter) -> None:
    entry = enter(HITOYOSHI, event="避難指示")
    assert not wants(place(NISHIKI, events=frozenset({"避難指示"})), entry)
    assert not wants(place(HITOYOSHI, events=frozenset({"大雨"})), entry)


# Drills


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.ACTUAL])
def test_what_is_not_real_reaches_only_those_who_asked(status: Status, enter: Enter) -> None:
    entry = enter(HITOYOSHI, status=status)
    assert not wants(Filter(), entry)
    assert wants(Filter(statuses=frozenset(Status)), entry) is (status is not Status.DRAFT)
    assert wants(Filter(statuses=frozenset({status})), entry) is (status is not Status.DRAFT)


def test_whoever_asked_for_drills_alone_hears_nothing_real(enter: Enter) -> None:
    assert not wants(Filter(statuses=frozenset({Status.EXERCISE})), enter(HITOYOSHI))


def test_no_lineage_carries_a_drill_to_somebody_who_did_not_ask(enter: Enter) -> None:
    real = enter(HITOYOSHI)
    drill = enter(HITOYOSHI, msg_type=MsgType.UPDATE, status=Status.EXERCISE, references=(real,))
    assert not wants(Filter(), drill, [real])


def test_having_asked_for_drills_is_not_having_been_told_of_the_real_thing(enter: Enter) -> None:
    drill = enter(HITOYOSHI, status=Status.EXERCISE)
    update = enter(MINAMATA, msg_type=MsgType.UPDATE, references=(drill,))
    assert not wants(place(HITOYOSHI), update, [drill])


# Follow-ups


@pytest.mark.parametrize("kind", [MsgType.UPDATE, MsgType.CANCEL, MsgType.ERROR])
def test_a_follow_up_reaches_who_was_told_though_its_area_shrank(kind: MsgType, enter: Enter) -> None:
    first = enter(HITOYOSHI, MINAMATA)
    then = enter(MINAMATA, msg_type=kind, references=(first,))
    assert wants(place(HITOYOSHI), then, [first])
    assert wants(Filter(points=(IN_HITOYOSHI,)), then, [first])
    assert not wants(place(NISHIKI), then, [first])
    assert not wants(place(HITOYOSHI), then)


def test_a_follow_up_reaches_who_was_told_though_it_became_harmless(enter: Enter) -> None:
    first = enter(HITOYOSHI, severity=Severity.EXTREME)
    then = enter(HITOYOSHI, msg_type=MsgType.UPDATE, severity=Severity.MINOR, references=(first,))
    assert wants(place(HITOYOSHI, min_severity=Severity.SEVERE), then, [first])


@pytest.mark.parametrize("kind", [MsgType.UPDATE, MsgType.CANCEL, MsgType.ERROR])
def test_a_follow_up_reaches_who_was_told_though_its_level_fell(kind: MsgType, enter: Enter) -> None:
    first, then = enter(HITOYOSHI), enter(HITOYOSHI, msg_type=kind)
    first = replace(first, facts=replace(first.facts, level=4))
    then = replace(then, facts=replace(then.facts, level=2))
    picky = place(HITOYOSHI, min_level=4, level_required=True)
    assert wants(picky, then, [first])
    assert not wants(picky, then)


@pytest.mark.parametrize("kind", [MsgType.UPDATE, MsgType.CANCEL, MsgType.ERROR])
def test_a_follow_up_reaches_whom_its_own_area_adds(kind: MsgType, enter: Enter) -> None:
    first = enter(HITOYOSHI)
    then = enter(MINAMATA, msg_type=kind, references=(first,))
    assert not wants(place(MINAMATA), first)
    assert wants(place(MINAMATA), then, [first])


@pytest.mark.parametrize("kind", [MsgType.ALERT, MsgType.ACK])
def test_what_is_no_follow_up_does_not_inherit_an_audience(kind: MsgType, enter: Enter) -> None:
    first = enter(HITOYOSHI)
    assert not wants(place(HITOYOSHI), enter(MINAMATA, msg_type=kind, references=(first,)), [first])


def test_everything_along_a_chain_counts(enter: Enter) -> None:
    first = enter(HITOYOSHI)
    second = enter(MINAMATA, msg_type=MsgType.UPDATE, references=(first,))
    third = enter(bare=True, msg_type=MsgType.CANCEL, references=(second,))
    for told in (HITOYOSHI, MINAMATA):
        assert wants(place(told), third, [first, second])


def test_a_cancel_without_infos_goes_to_those_who_were_told_and_nobody_else(enter: Enter) -> None:
    first = enter(HITOYOSHI, severity=Severity.SEVERE, event="避難指示")
    cancel = enter(bare=True, msg_type=MsgType.CANCEL, references=(first,))
    assert wants(
        place(HITOYOSHI, events=frozenset({"避難指示"}), min_severity=Severity.SEVERE), cancel, [first]
    )
    assert wants(Filter(), cancel, [first])
    assert not wants(place(MINAMATA), cancel, [first])
    assert not wants(place(HITOYOSHI, events=frozenset({"大雨"})), cancel, [first])


def test_a_cancel_of_something_unknown_goes_to_the_whole_jurisdiction(enter: Enter) -> None:
    lost, known = enter(MINAMATA), enter(HITOYOSHI)
    for lineage, references in (([], (lost,)), ([known], (known, lost))):
        cancel = enter(bare=True, msg_type=MsgType.CANCEL, references=references)
        picky = place(
            MINAMATA,
            min_severity=Severity.EXTREME,
            min_level=5,
            level_required=True,
            categories=frozenset({"Fire"}),
            events=frozenset({"津波"}),
        )
        assert wants(picky, cancel, lineage)
        assert not wants(place(NISHIKI), cancel, lineage)
        assert not wants(place(MINAMATA, senders=frozenset({"another@x.example"})), cancel, lineage)
        assert not wants(place(MINAMATA, statuses=frozenset({Status.EXERCISE})), cancel, lineage)


def test_who_heard_of_a_bare_cancel_hears_of_what_follows_it(enter: Enter) -> None:
    cancel = enter(bare=True, msg_type=MsgType.CANCEL, references=(enter(HITOYOSHI),))
    update = enter(HITOYOSHI, msg_type=MsgType.UPDATE, references=(cancel,))
    assert wants(place(MINAMATA), cancel, [])
    assert wants(place(MINAMATA), update, [cancel])


def test_a_bare_cancel_of_something_known_passes_on_no_wider_audience(enter: Enter) -> None:
    first = enter(HITOYOSHI)
    cancel = enter(bare=True, msg_type=MsgType.CANCEL, references=(first,))
    update = enter(HITOYOSHI, msg_type=MsgType.UPDATE, references=(cancel,))
    assert wants(place(HITOYOSHI), update, [first, cancel])
    assert not wants(place(MINAMATA), update, [first, cancel])


# Explanations


def said(filter: Filter, entry: Entry, lineage: Sequence[Entry] = ()) -> list[str]:
    return [reason.en for reason in matching.explain(filter, entry, lineage, japan())]


def test_an_explanation_names_each_rule_that_matched(enter: Enter) -> None:
    lon, lat = IN_HITOYOSHI
    reasons = said(
        place(HITOYOSHI, "43", points=(IN_HITOYOSHI, IN_TOKYO), bbox=(lon, lat, lon + 1, lat + 1)),
        enter(HITOYOSHI),
    )
    assert reasons == [
        f"area 43: the alert concerns {HITOYOSHI}",
        f"area {HITOYOSHI}: the alert concerns it",
        "point 32.21,130.76 lies in the alert's area",
        "the bbox meets the alert's area",
    ]


def test_an_explanation_says_by_what_somebody_was_told_before(enter: Enter) -> None:
    first = enter(HITOYOSHI)
    cancel = enter(bare=True, msg_type=MsgType.CANCEL, references=(first,))
    assert said(place(HITOYOSHI), cancel, [first]) == [
        f"was told of {first.alert.identifier}, which this one continues: area {HITOYOSHI}: the alert concerns it"
    ]
    assert said(place(NISHIKI), cancel, [first]) == []


def test_an_explanation_says_that_a_whole_jurisdiction_is_concerned(enter: Enter) -> None:
    assert "the alert names no place, so it concerns its sender's whole jurisdiction" in said(
        place(HITOYOSHI), enter()
    )


def square(west: float, south: float) -> Ring:
    """Return a square of about a kilometre."""
    return (
        (west, south),
        (west + 0.01, south),
        (west + 0.01, south + 0.01),
        (west, south + 0.01),
        (west, south),
    )


def at_level(entry: Entry, level: int) -> Entry:
    return replace(entry, facts=replace(entry.facts, level=level))


def why_not(filter: Filter, entry: Entry, lineage: Sequence[Entry] = ()) -> list[Reason]:
    return hindrances(filter, entry, lineage, japan())


@pytest.mark.parametrize(
    ("filter", "rule", "sentence"),
    [
        (place(MINAMATA), "place", f"the alert concerns {HITOYOSHI}, and none of the filter's places"),
        (place(HITOYOSHI, min_level=5), "level", "警戒レベル 4 is below the filter's 5"),
        (
            place(HITOYOSHI, min_severity=Severity.EXTREME),
            "severity",
            "severity Severe is below the filter's Extreme",
        ),
        (place(HITOYOSHI, categories=frozenset({"Geo"})), "category", "no info is of category Geo"),
        (place(HITOYOSHI, events=frozenset({"津波"})), "event", "no info has the event 津波"),
        (
            place(HITOYOSHI, senders=frozenset({"a@b"})),
            "sender",
            "the sender is bousai@hitoyoshi.example, and the filter asks for others",
        ),
        (
            place(HITOYOSHI, statuses=frozenset({Status.EXERCISE})),
            "status",
            "the message is Actual, and the filter asks for Exercise",
        ),
    ],
)
def test_whoever_does_not_hear_is_told_which_condition_it_was(
    enter: Enter, filter: Filter, rule: str, sentence: str
) -> None:
    [reason] = why_not(filter, at_level(enter(HITOYOSHI), 4))
    assert (reason.rule, reason.en) == (rule, sentence)
    assert reason.ja != reason.en


def test_every_condition_that_is_not_met_is_named(enter: Enter) -> None:
    picky = place(MINAMATA, min_level=5, min_severity=Severity.EXTREME)
    reasons = why_not(picky, at_level(enter(HITOYOSHI), 4))
    assert {reason.rule for reason in reasons} == {"place", "level", "severity"}
    [draft] = why_not(place(statuses=frozenset(Status)), enter(HITOYOSHI, status=Status.DRAFT))
    assert draft.en == "a Draft is never sent out"
    [unmarked] = why_not(place(level_required=True), enter(HITOYOSHI))
    assert unmarked.rule == "level"


def test_whoever_was_not_told_of_what_a_bare_cancel_ends_is_told_so(enter: Enter) -> None:
    first = enter(HITOYOSHI)
    cancel = enter(bare=True, msg_type=MsgType.CANCEL, references=(first,))
    [reason] = why_not(place(MINAMATA), cancel, [first])
    assert reason.rule == "place"
