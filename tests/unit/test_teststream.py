from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lalert import cap, resources, texts
from lalert.errors import BadRequest, UnknownPosition
from lalert.geo import Gazetteer
from lalert.model import Entry, MsgType, Status
from lalert.testing import FakeClock
from lalert.teststream import EVERY_SECONDS, TestLog, play
from lalert.teststream.log import KEPT, MISSED

NOON = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def gazetteer() -> Gazetteer:
    return Gazetteer.from_csv(resources.gazetteer_csv())


async def one_round(log: TestLog) -> list[Entry]:
    """Return the entries of the last whole round."""
    entries = await log.read(None, KEPT)
    first = max(n for n, entry in enumerate(entries[:-2]) if entry.alert.msg_type is MsgType.ALERT)
    return entries[first : first + 3]


async def test_a_round_is_an_alert_an_update_and_a_cancellation_all_marked_as_tests(
    gazetteer: Gazetteer,
) -> None:
    log = TestLog(gazetteer, FakeClock(NOON))
    alert, update, cancel = await one_round(log)
    assert [e.alert.msg_type for e in (alert, update, cancel)] == [
        MsgType.ALERT,
        MsgType.UPDATE,
        MsgType.CANCEL,
    ]
    assert {e.incident for e in (alert, update, cancel)} == {alert.alert.id}
    assert [e.replaced for e in (alert, update, cancel)] == [(), (alert.alert.id,), (update.alert.id,)]
    assert update.changes is not None
    assert update.changes.issued == ("432059",)
    for entry in (alert, update, cancel):
        assert entry.alert.status is Status.TEST
        public = texts.alert_json(entry)
        assert public["mark"] == "試験"
        for info in public["info"]:
            mark = {"ja": "【試験】", "en": "[TEST]"}[info["language"]]
            assert all(info[text].startswith(mark) for text in ("headline", "description", "instruction"))


async def test_every_document_is_without_a_finding_by_the_standard_and_the_profile(
    gazetteer: Gazetteer,
) -> None:
    for entry in await one_round(TestLog(gazetteer, FakeClock(NOON))):
        assert entry.alert.defects == ()
        assert cap.judge(entry.alert, cap.PROFILES["jp"], gazetteer.place) == ()
        found = cap.examine(entry.alert.raw).problems
        assert [problem for problem in found if problem.severity in texts.DEFECTS] == []


async def test_every_node_and_every_start_says_the_same_at_the_same_position(gazetteer: Gazetteer) -> None:
    one, other = (
        TestLog(gazetteer, FakeClock(NOON)),
        TestLog(gazetteer, FakeClock(NOON + timedelta(seconds=95))),
    )
    assert [e.alert.raw for e in await one.read(None, KEPT)][9:] == [
        e.alert.raw for e in await other.read(None, KEPT - 9)
    ]
    assert await one.entry(one.newest) == await other.entry(one.newest)
    # Ten seconds ahead is a clock; a minute is nobody's.
    assert one.order(f"test-{one.step + 1}") > one.order(one.newest)
    assert await one.entry(f"test-{one.step + 1}") is not None
    with pytest.raises(UnknownPosition):
        one.order(other.newest)


async def test_it_goes_back_five_minutes_and_no_more(gazetteer: Gazetteer) -> None:
    log = TestLog(gazetteer, FakeClock(NOON))
    oldest = f"test-{log.step - KEPT}"
    log.require_kept(oldest)
    assert len(await log.read(oldest, 100)) == KEPT
    assert [e.position for e in await log.read(oldest, 2)] == [f"test-{log.step - KEPT + n}" for n in (1, 2)]
    assert KEPT * EVERY_SECONDS == 300
    with pytest.raises(UnknownPosition):
        log.require_kept(f"test-{log.step - KEPT - 1}")
    for text in ("e-1", "test-", "test-x", "test-1 ", "", "test-" + "9" * 19):
        with pytest.raises(BadRequest):
            log.order(text)


async def test_what_is_in_force_is_the_newest_until_it_is_cancelled_and_what_led_to_it_its_lineage(
    gazetteer: Gazetteer,
) -> None:
    for seconds, act in ((0, 0), (10, 1), (20, 2)):
        start = datetime.fromtimestamp(NOON.timestamp() // 30 * 30 + seconds, UTC)
        log = TestLog(gazetteer, FakeClock(start))
        newest = await log.entry(log.newest)
        assert newest is not None
        assert await log.active(start) == ([] if act == 2 else [newest])
        assert [e.position for e in await log.lineage(newest)] == [
            f"test-{log.step - n}" for n in range(act, 0, -1)
        ]


async def test_it_is_told_when_it_is_due_and_a_clock_that_jumps_does_no_harm(gazetteer: Gazetteer) -> None:
    clock = FakeClock(NOON)
    log = TestLog(gazetteer, clock)
    told: list[str] = []
    playing = asyncio.ensure_future(
        play(log, lambda entries: told.extend(entry.position for entry in entries), clock)
    )
    await asyncio.sleep(0)
    first = log.step
    for _ in range(3):
        await clock.advance(EVERY_SECONDS)
    assert told == [f"test-{first + n}" for n in (1, 2, 3)]
    told.clear()
    assert log.go_on(NOON - timedelta(hours=1)) == []
    assert log.step == first + 3
    later = log.go_on(clock.now() + timedelta(days=1))
    assert [e.position for e in later] == [f"test-{log.step - n}" for n in range(MISSED - 1, -1, -1)]
    playing.cancel()
    await asyncio.gather(playing, return_exceptions=True)


def test_the_documentation_gives_the_pace_that_holds() -> None:
    text = (Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8")
    assert f"every {EVERY_SECONDS:g} s" in text
    assert f"{KEPT * EVERY_SECONDS / 60:g} minutes" in text
