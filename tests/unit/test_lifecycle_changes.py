"""What an Update changed, code by code."""

from __future__ import annotations

from typing import Any

import pytest

from lalert import lifecycle, resources
from lalert.geo import Gazetteer
from lalert.matching import facts_of
from lalert.model import Area, Changes, Entry, Info, NamedValue, Origin, OriginKind
from lalert.testing import make_alert
from lalert.testing.clock import START

HITOYOSHI, NISHIKI, MINAMATA = "432032", "435015", "432059"
NOTHING = Changes()


@pytest.fixture(scope="module")
def gazetteer() -> Gazetteer:
    return Gazetteer.from_csv(resources.gazetteer_csv())


@pytest.fixture
def enter(gazetteer: Gazetteer) -> Any:
    def make(*infos: Info, msg_type: str = "Alert", **more: Any) -> Entry:
        alert = make_alert(infos=infos, msg_type=msg_type, raw=b"", **more)
        facts = facts_of(alert, gazetteer, frozenset({"43"}))
        return Entry(alert.id, START, START, alert, Origin(OriginKind.HTTP), "i", facts)

    return make


def changes(after: Entry, before: list[Entry] | None) -> Changes | None:
    return lifecycle.changes(after.alert, after.facts, before)


def info(level: int | None, *codes: str, **more: Any) -> Info:
    return make_alert(level=level, codes=codes, raw=b"", **more).infos[0]


def test_areas_are_issued_raised_lowered_and_lifted(enter: Any) -> None:
    before = enter(info(3, HITOYOSHI, NISHIKI), info(4, MINAMATA))
    after = enter(info(4, HITOYOSHI), info(3, MINAMATA, "401307"), msg_type="Update")
    assert changes(after, [before]) == Changes(("401307",), (HITOYOSHI,), (MINAMATA,), (NISHIKI,))


def test_the_same_again_changes_nothing(enter: Any) -> None:
    before = enter(info(4, HITOYOSHI))
    assert changes(enter(info(4, HITOYOSHI), msg_type="Update"), [before]) == NOTHING


def test_infos_in_two_languages_are_one(enter: Any) -> None:
    before = enter(info(4, HITOYOSHI))
    after = enter(info(4, HITOYOSHI), info(None, HITOYOSHI, language="en"), msg_type="Update")
    assert changes(after, [before]) == NOTHING


def test_a_level_that_is_not_given_is_neither_more_nor_less(enter: Any) -> None:
    before, without = enter(info(4, HITOYOSHI)), enter(info(None, HITOYOSHI), msg_type="Update")
    assert changes(without, [before]) == NOTHING
    assert changes(enter(info(3, HITOYOSHI), msg_type="Update"), [without]) == NOTHING


def test_what_is_declared_over_is_lifted(enter: Any) -> None:
    before = enter(info(4, HITOYOSHI, NISHIKI))
    after = enter(info(4, HITOYOSHI), info(None, NISHIKI, response="AllClear"), msg_type="Update")
    assert changes(after, [before]) == Changes(lifted=(NISHIKI,))
    over = enter(info(None, HITOYOSHI, NISHIKI, response="AllClear"), msg_type="Update")
    assert changes(over, [before]) == Changes(lifted=(HITOYOSHI, NISHIKI))


def test_an_update_of_several_alerts_is_compared_with_all_of_them(enter: Any) -> None:
    first, second = enter(info(4, HITOYOSHI)), enter(info(3, NISHIKI))
    joined = enter(info(4, HITOYOSHI, NISHIKI), msg_type="Update")
    assert changes(joined, [first, second]) == Changes(raised=(NISHIKI,))


def test_what_was_over_before_is_issued_again(enter: Any) -> None:
    assert changes(enter(info(4, HITOYOSHI), msg_type="Update"), []) == Changes(issued=(HITOYOSHI,))


def test_what_is_only_drawn_is_known_by_its_codes(enter: Any) -> None:
    ring = ((130.74, 32.19), (130.78, 32.19), (130.78, 32.23), (130.74, 32.19))
    drawn = make_alert(areas=[Area("x", polygons=(ring,))], level=4, raw=b"").infos[0]
    result = changes(enter(drawn, msg_type="Update"), [enter(info(3, HITOYOSHI))])
    assert result is not None
    assert result.raised == (HITOYOSHI,)
    assert result.lifted == ()


def test_what_is_only_drawn_and_declared_over_is_lifted(enter: Any) -> None:
    ring = ((130.74, 32.19), (130.78, 32.19), (130.78, 32.23), (130.74, 32.19))
    over = make_alert(areas=[Area("x", polygons=(ring,))], response="AllClear", raw=b"").infos[0]
    assert changes(enter(over, msg_type="Update"), [enter(info(3, HITOYOSHI))]) == Changes(
        lifted=(HITOYOSHI,)
    )


@pytest.mark.parametrize("kind", ["Alert", "Cancel", "Ack", "Error"])
def test_only_an_update_has_changes(kind: str, enter: Any) -> None:
    assert changes(enter(info(4, HITOYOSHI), msg_type=kind), [enter(info(4, HITOYOSHI))]) is None


def test_without_a_place_or_a_predecessor_there_is_nothing_to_compare(enter: Any) -> None:
    before = enter(info(4, HITOYOSHI))
    assert changes(enter(info(4, HITOYOSHI), msg_type="Update"), None) is None
    assert changes(enter(msg_type="Update"), [before]) is None
    placeless = make_alert(areas=[Area("どこか", geocodes=(NamedValue("x", "y"),))], raw=b"").infos[0]
    assert changes(enter(placeless, msg_type="Update"), [before]) is None
