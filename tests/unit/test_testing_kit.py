"""The testing kit keeps what it says: alerts that are valid, a clock that obeys, and suites that need no pytest."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from lalert import cap
from lalert.clock import Clock
from lalert.errors import InvalidAlert
from lalert.model import (
    JST,
    Circle,
    Entry,
    MsgType,
    NamedValue,
    Origin,
    OriginKind,
    Resource,
    Scope,
    Severity,
    Status,
)
from lalert.testing import (
    HITOYOSHI,
    SENDER,
    BusContract,
    FakeClock,
    StoreContract,
    make_alert,
    make_cap,
    revive,
)
from lalert.testing.alerts import CITY_CENTRE

CLOCK: type[Clock] = FakeClock


def test_a_made_alert_is_valid_without_a_remark_and_reads_back_as_itself() -> None:
    alert = make_alert()
    read = cap.parse(alert.raw)
    assert read == alert
    assert read.defects == ()
    assert (alert.sender, alert.status, alert.msg_type, alert.scope) == (SENDER, "Actual", "Alert", "Public")
    assert cap.level(alert) == 4
    assert cap.kind(alert) == "evacuation"
    assert revive(alert.raw, frozenset())[1].codes == {HITOYOSHI}


def test_identifiers_are_unique_and_the_alert_is_sent_now() -> None:
    alerts = [make_alert() for _ in range(100)]
    assert len({alert.id for alert in alerts}) == 100
    assert abs(alerts[0].sent - datetime.now(UTC)) < timedelta(seconds=10)
    assert alerts[0].sent.microsecond == 0
    assert alerts[0].sent.utcoffset() == timedelta(hours=9)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "Exercise"},
        {"status": Status.TEST},
        {"scope": "Restricted", "restriction": "関係者"},
        {"scope": Scope.PRIVATE, "addresses": ["one", "two words"]},
        {"severity": "Minor", "urgency": "Past", "certainty": "Unknown"},
        {"level": None, "codes": [], "circle": Circle(130.76, 32.21, 1500.0)},
        {"codes": ["432032", "432059"], "polygon": CITY_CENTRE},
        {"areas": ()},
        {
            "language": "en-US",
            "event": "Evacuation",
            "headline": None,
            "description": None,
            "instruction": None,
        },
        {
            "expires": None,
            "effective": datetime(2026, 6, 1, tzinfo=JST),
            "onset": datetime(2026, 6, 1, tzinfo=UTC),
        },
        {"sent": "2026-06-01T10:00:00+09:00", "expires": datetime(2026, 6, 2, tzinfo=JST)},
        {"sent": datetime(2026, 6, 1, tzinfo=UTC), "web": "https://city.example/", "contact": "x"},
        {
            "parameters": [("a", "b")],
            "resources": [Resource("map", "image/png", 5, "https://a.example/m.png")],
        },
        {
            "category": ["Met", "Safety"],
            "response": (),
            "incidents": ["a", "b c"],
            "alert_codes": ["x"],
            "source": "y",
        },
    ],
)
def test_what_a_test_varies_is_valid_too_and_reads_back(changes: dict[str, object]) -> None:
    alert = make_alert(**changes)  # type: ignore[arg-type]
    assert cap.parse(alert.raw) == alert


def test_references_are_made_of_alerts_entries_and_themselves() -> None:
    first = make_alert(sent="2026-06-01T01:00:00-00:00")
    entry = Entry("0badcafe-1", first.sent, first.sent, first, Origin(OriginKind.HTTP), first.id)
    update = make_alert(msg_type="Update", references=[first])
    assert update.msg_type is MsgType.UPDATE
    assert [reference.id for reference in update.references] == [first.id]
    for same in ([entry], list(update.references)):
        assert make_alert(msg_type="Update", references=same).references == update.references
    assert cap.parse(update.raw) == update


def test_a_cancel_without_an_info_is_valid() -> None:
    alert = make_alert(msg_type="Cancel", references=[make_alert()], infos=())
    assert cap.parse(alert.raw) == alert


def test_the_document_alone_takes_the_same_arguments() -> None:
    raw = make_cap(identifier="x", severity="Minor", sent="2026-06-01T10:00:00+09:00")
    alert = cap.parse(raw)
    assert (alert.identifier, alert.severity) == ("x", Severity.MINOR)
    assert raw == make_cap(identifier="x", severity="Minor", sent="2026-06-01T10:00:00+09:00")


def test_an_alert_can_be_made_wrong_on_purpose() -> None:
    with pytest.raises(InvalidAlert):
        cap.parse(make_cap(identifier="with space"))
    assert make_alert(raw=b"anything").raw == b"anything"
    assert make_alert(parameters=[("警戒レベル", "5")]).infos[0].parameters[0] == NamedValue(
        "警戒レベル", "4"
    )


async def test_a_sleeper_wakes_when_the_clock_has_been_advanced_by_as_much_and_not_before() -> None:
    clock = FakeClock()
    start = clock.now()
    sleeper = asyncio.ensure_future(clock.sleep(10))
    await asyncio.sleep(0)
    assert clock.sleeping == 1
    await clock.advance(9.999)
    assert not sleeper.done()
    await clock.advance(0.001)
    assert sleeper.done()
    assert clock.now() - start == timedelta(seconds=10)
    assert clock.monotonic() == pytest.approx(10)
    assert clock.sleeping == 0


async def test_advancing_far_lets_a_loop_of_sleeps_run_each_time() -> None:
    clock = FakeClock()
    woken: list[float] = []

    async def work(every: float) -> None:
        while True:
            await clock.sleep(every)
            woken.append(clock.monotonic())

    tasks = [asyncio.ensure_future(work(every)) for every in (3, 5)]
    await asyncio.sleep(0)
    await clock.advance(10)
    assert woken == [3, 5, 6, 9, 10]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await clock.advance(100)
    assert len(woken) == 5


async def test_no_sleep_at_all_only_lets_others_run() -> None:
    clock = FakeClock(datetime(2026, 1, 1, tzinfo=JST))
    async with asyncio.timeout(1):
        await clock.sleep(0)
        await clock.sleep(-1)
    assert clock.now() == datetime(2026, 1, 1, tzinfo=JST)
    assert clock.now().utcoffset() == timedelta(0)


async def test_time_goes_back_on_the_wall_alone() -> None:
    clock = FakeClock()
    clock.move(5)
    clock.step(datetime(2020, 1, 1, tzinfo=UTC))
    assert clock.now() == datetime(2020, 1, 1, tzinfo=UTC)
    assert clock.monotonic() == 5
    with pytest.raises(ValueError, match="back"):
        clock.move(-1)
    with pytest.raises(ValueError, match="back"):
        await clock.advance(-1)
    with pytest.raises(ValueError, match="aware"):
        FakeClock(datetime(2026, 1, 1))  # noqa: DTZ001  # that is the mistake


def test_the_kit_can_be_imported_without_pytest() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None; import lalert.testing; assert lalert.testing.StoreContract"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("contract", [StoreContract, BusContract])
def test_a_suite_asks_for_what_it_tests(contract: type[StoreContract | BusContract]) -> None:
    suite = contract()
    opener = suite.open_store if isinstance(suite, StoreContract) else suite.open_bus
    with pytest.raises(NotImplementedError):
        opener()
