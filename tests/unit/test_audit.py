"""What the hub writes down by itself: refusals and deliveries as bounded counts, accepted alerts behind the answer, a head a day."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from lalert.audit import Auditor, DayHead, heads_in, line_json, line_of, published, raw_json
from lalert.audit.heads import HEADS_FILE, note_down, publish
from lalert.audit.refusals import MAX_KINDS, WINDOW, Refusals
from lalert.audit.sent import AT_ONCE, KEPT, Sent
from lalert.errors import Unavailable
from lalert.store import DeliveryState
from lalert.store.audit import (
    EMPTY,
    HUB,
    NOBODY,
    Action,
    Actor,
    ActorKind,
    Document,
    Head,
    KeptLine,
    Note,
    chained,
    decode,
)
from lalert.testing import FakeClock

NOW = datetime(2026, 6, 1, 3, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
KEY = Actor(ActorKind.KEY, "key-1")


@dataclass(frozen=True)
class Planned:
    """A delivery, as far as it is counted."""

    org: str
    alert_id: str
    position: str


class Records:
    """A chain in memory, of a store that can be made to refuse."""

    def __init__(self) -> None:
        self.lines: list[KeptLine] = []
        self.state: dict[tuple[str, str], bytes] = {}
        self.waiting = 0
        self.full = False
        self.newest = "e-0"

    async def append_audit(self, notes: Sequence[Note]) -> Head:
        await asyncio.sleep(0)
        if self.full:
            raise Unavailable("the disk is full")
        self.lines += chained(await self.audit_head(), notes)
        return await self.audit_head()

    async def audit_accepted(self, limit: int) -> int:
        taken = min(limit, self.waiting)
        await self.append_audit([Note(NOW, KEY, Action.ACCEPTED, "alert")] * taken)
        self.waiting -= taken
        return taken

    async def documents(self, after: str | None, limit: int) -> list[Document]:
        return []

    async def audit_lines(self, after: int, limit: int, org: str | None = None) -> list[KeptLine]:
        return self.lines[after : after + limit]

    async def latest_audit_lines(
        self, limit: int, before: int | None = None, org: str | None = None
    ) -> list[KeptLine]:
        return self.lines[-limit:]

    async def audit_head(self) -> Head:
        return self.lines[-1].head if self.lines else EMPTY

    async def get(self, owner: str, key: str) -> bytes | None:
        return self.state.get((owner, key))

    async def put(self, owner: str, key: str, value: bytes) -> None:
        self.state[owner, key] = value

    async def delete(self, owner: str, key: str) -> None:
        del self.state[owner, key]

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line.text) for line in self.lines]

    def actions(self) -> list[str]:
        return [line["action"] for line in self.told()]


def told(notes: Sequence[Note]) -> list[tuple[str, Any]]:
    return [(note.subject, note.details["times"]) for note in notes]


def test_a_refusal_is_written_at_once_and_what_follows_it_once_a_minute() -> None:
    refusals = Refusals()
    refusals.add(NOW, "o", KEY, "conflict", "192.0.2.0/24")
    [first] = refusals.due(NOW)
    assert (first.time, first.org, first.actor, first.action) == (NOW, "o", KEY, Action.REFUSED)
    assert first.details == {"network": "192.0.2.0/24", "times": 1}
    for seconds in range(1, 50):
        refusals.add(NOW + seconds * SECOND, "o", KEY, "conflict", None)
        assert refusals.due(NOW + seconds * SECOND) == []
    assert told(refusals.due(NOW + WINDOW)) == [("conflict", 49)]
    assert refusals.due(NOW + 3 * WINDOW) == []


def test_each_key_and_code_is_counted_by_itself() -> None:
    refusals = Refusals()
    for code in ("conflict", "conflict", "forbidden"):
        refusals.add(NOW, "o", KEY, code, None)
    refusals.add(NOW, "", NOBODY, "conflict", None)
    assert told(refusals.due(NOW)) == [("conflict", 2), ("forbidden", 1), ("conflict", 1)]


def test_a_node_that_stops_writes_what_it_has_counted() -> None:
    refusals = Refusals()
    for _ in range(2):
        refusals.add(NOW, "o", KEY, "conflict", None)
        refusals.due(NOW)
    assert told(refusals.due(NOW, ending=True)) == [("conflict", 1)]


def test_a_clock_that_is_set_back_holds_no_refusal_back() -> None:
    refusals = Refusals()
    refusals.add(NOW, "o", KEY, "conflict", None)
    refusals.due(NOW)
    refusals.add(NOW - timedelta(days=1), "o", KEY, "conflict", None)
    assert told(refusals.due(NOW - timedelta(days=1))) == [("conflict", 1)]


def test_however_many_kinds_of_refusals_there_are_their_number_is_bounded() -> None:
    refusals = Refusals()
    for number in range(3 * MAX_KINDS):
        refusals.add(NOW, "o", Actor(ActorKind.KEY, f"key-{number}"), "conflict", None)
    notes = refusals.due(NOW)
    assert len(notes) == MAX_KINDS + 1
    assert sum(times for _, times in told(notes)) == 3 * MAX_KINDS


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc")), max_size=60))
def test_no_refusal_is_lost_or_counted_twice(events: list[tuple[int, str]]) -> None:
    refusals, now, notes = Refusals(), NOW, list[Note]()
    for seconds, code in events:
        now += seconds * SECOND
        refusals.add(now, "o", KEY, code, None)
        notes += refusals.due(now)
    notes += refusals.due(now, ending=True)
    assert sum(times for _, times in told(notes)) == len(events)


ALERT = ("o", "alert", "e-1")
SOON = NOW + 2 * SECOND


def number(note: Note, name: str) -> int:
    return int(str(note.details.get(name, 0)))


def test_one_line_for_each_channel_when_all_its_deliveries_are_settled() -> None:
    sent = Sent()
    sent.planned(NOW, *ALERT, "mail", 3)
    sent.planned(NOW, *ALERT, "hook", 1)
    sent.settled(NOW, *ALERT, "mail", DeliveryState.DELIVERED)
    sent.settled(NOW, *ALERT, "mail", DeliveryState.DEAD)
    assert sent.due(SOON) == []
    sent.settled(NOW, *ALERT, "mail", DeliveryState.DELIVERED)
    sent.settled(NOW, *ALERT, "hook", DeliveryState.EXPIRED)
    assert sent.due(NOW + SECOND) == []
    mail, hook = sent.due(SOON)
    assert (mail.org, mail.subject, mail.actor, mail.action) == ("o", "alert", HUB, Action.SENT)
    what = {"position": "e-1", "channel": "mail", "planned": 3, "delivered": 2, "dead": 1, "waiting": 0}
    assert mail.details == what
    assert hook.details == {"position": "e-1", "channel": "hook", "planned": 1, "expired": 1, "waiting": 0}
    assert sent.due(NOW + timedelta(days=1), ending=True) == []


def test_what_is_settled_while_others_wait_is_written_after_a_minute_and_then_every_hour() -> None:
    sent = Sent()
    sent.planned(NOW, *ALERT, "mail", 1000)
    lines: list[tuple[int, Note]] = []
    for minute in range(200):
        now = NOW + timedelta(minutes=minute)
        sent.settled(now, *ALERT, "mail", DeliveryState.DELIVERED)
        lines += [(minute, note) for note in sent.due(now)]
    # Each pause begins with the first that is counted after the line before.
    assert [minute for minute, _ in lines] == [1, 12, 73, 134, 195]
    lines += [(0, note) for note in sent.due(NOW, ending=True)]
    assert sum(number(note, "delivered") for _, note in lines) == 200
    assert sum(number(note, "planned") for _, note in lines) == 1000
    assert number(lines[-1][1], "waiting") == 800


def test_a_target_that_does_not_answer_makes_one_line_and_another_when_it_is_given_up() -> None:
    sent = Sent()
    sent.planned(NOW, *ALERT, "mail", 1)
    lines = [note for minute in range(1000) for note in sent.due(NOW + timedelta(minutes=minute))]
    assert [(number(note, "planned"), number(note, "waiting")) for note in lines] == [(1, 1)]
    late = NOW + timedelta(days=1)
    sent.settled(late, *ALERT, "mail", DeliveryState.DEAD)
    [note] = sent.due(late + 2 * SECOND)
    assert (number(note, "dead"), number(note, "waiting")) == (1, 0)


def test_confirmations_that_trickle_in_make_few_lines() -> None:
    sent = Sent()
    sent.planned(NOW, *ALERT, "mail", 1)
    sent.settled(NOW, *ALERT, "mail", DeliveryState.DELIVERED)
    assert len(sent.due(SOON)) == 1
    lines = []
    for second in range(0, 600, 5):
        sent.confirmed(NOW + second * SECOND, "e-1", "mail")
        lines += sent.due(NOW + (second + 3) * SECOND)
    lines += sent.due(NOW + 600 * SECOND, ending=True)
    assert len(lines) == 2
    assert sum(number(note, "confirmed") for note in lines) == 120
    sent.confirmed(NOW, "e-9", "mail")
    assert sent.due(NOW, ending=True) == []


def test_live_subscribers_are_counted_and_none_are_no_line() -> None:
    sent = Sent()
    sent.streamed(NOW, "o", "alert", "e-1", 0)
    sent.streamed(NOW, "o", "other", "e-2", 12_345)
    sent.streamed(NOW, "o", "other", "e-2", 5)
    [note] = sent.due(SOON)
    assert note.details == {"position": "e-2", "channel": "live", "subscribers": 12_350}


def test_a_clock_that_is_set_back_holds_no_count_back() -> None:
    sent = Sent()
    sent.streamed(NOW, *ALERT, 1)
    assert len(sent.due(NOW - timedelta(days=1))) == 1


async def test_a_flood_is_written_a_little_at_a_time_and_whole(tmp_path: Path) -> None:
    records, clock = Records(), FakeClock(NOW)
    async with Auditor(records, clock, tmp_path) as auditor:
        for one in range(5 * AT_ONCE + 1):
            delivery = Planned("o", f"alert-{one}", f"e-{one}")
            auditor.planned(delivery, "mail", 1)
            auditor.settled(delivery, "mail", DeliveryState.DELIVERED)
        clock.move(3)
        flushing = asyncio.ensure_future(auditor.flush())
        longest = 0
        while not flushing.done():
            before = len(records.lines) + len(auditor._pending)
            await asyncio.sleep(0)
            longest = max(longest, len(records.lines) + len(auditor._pending) - before)
        assert 0 < longest <= AT_ONCE
        assert records.actions().count("alert.sent") == 5 * AT_ONCE + 1
        for one in range(3 * AT_ONCE):
            auditor.planned(Planned("o", f"alert-{one}", f"e-{one}"), "hook", 1)
    assert records.actions().count("alert.sent") == 8 * AT_ONCE + 1
    assert (
        len({line["subject"] for line in records.told() if line["action"] == "alert.sent"}) == 5 * AT_ONCE + 1
    )


def test_what_is_written_is_forgotten() -> None:
    sent = Sent()
    for one in range(3 * KEPT):
        sent.streamed(NOW, "o", "alert", f"e-{one}", 1)
        sent.due(SOON)
    assert (len(sent._open), len(sent._written)) == (0, KEPT)


async def test_lines_that_the_store_cannot_take_are_written_when_it_can(tmp_path: Path) -> None:
    records, clock = Records(), FakeClock(NOW)
    records.full = True
    with capture_logs() as logs:
        async with Auditor(records, clock, tmp_path, "node-1") as auditor:
            auditor.refused("o", KEY, "conflict", "192.0.2.1")
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await auditor.flush()
            with pytest.raises(Unavailable):
                await auditor.note(Action.ORG_CHANGED, "o", by=KEY)
            records.full = False
            await auditor.flush()
            auditor.refused("o", KEY, "conflict", "192.0.2.1")
    assert records.actions() == ["node.started", "alert.refused", "alert.refused", "node.stopped"]
    assert records.told()[0]["subject"] == "node-1"
    assert [line["event"] for line in logs] == [
        "the audit chain cannot be written; its lines are kept in memory"
    ]


async def test_a_flush_that_is_cancelled_writes_each_line_once(tmp_path: Path) -> None:
    records = Records()
    async with Auditor(records, FakeClock(NOW), tmp_path) as auditor:
        auditor.refused("o", KEY, "conflict", None)
        flushing = asyncio.ensure_future(auditor.flush())
        await asyncio.sleep(0)
        flushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flushing
        await auditor.flush()
    assert records.actions() == ["node.started", "alert.refused", "node.stopped"]


async def test_accepted_alerts_get_their_lines_in_small_writes_with_pauses(tmp_path: Path) -> None:
    records, clock = Records(), FakeClock(NOW)
    async with Auditor(records, clock, tmp_path) as auditor:
        records.waiting, records.newest = 250, "e-250"
        following = asyncio.ensure_future(auditor.follow())
        for _ in range(20):
            await asyncio.sleep(0)
        assert records.actions().count("alert.accepted") == 100
        for _ in range(5):
            await clock.advance(0.05)
        assert records.actions().count("alert.accepted") == 250
        following.cancel()
        records.waiting = 30
    assert records.actions().count("alert.accepted") == 280


async def test_lines_of_accepted_alerts_that_cannot_be_written_come_later(tmp_path: Path) -> None:
    records, clock = Records(), FakeClock(NOW)
    async with Auditor(records, clock, tmp_path) as auditor:
        records.waiting, records.newest, records.full = 3, "e-3", True
        with capture_logs() as logs:
            following = asyncio.ensure_future(auditor.follow())
            for _ in range(5):
                await clock.advance(1)
            assert len(logs) == 1
            assert logs[0]["cause"] == "the disk is full"
        records.full = False
        await clock.advance(2)
        assert records.actions().count("alert.accepted") == 3
        following.cancel()


async def test_a_clock_that_was_wrong_for_a_day_costs_no_head(tmp_path: Path) -> None:
    records = Records()
    await records.append_audit([Note(NOW, HUB, Action.STARTED, "node")])
    for moment in (NOW, NOW + timedelta(days=400), NOW + timedelta(days=1)):
        await publish(records, moment)
        note_down(tmp_path, await published(records))
    days = [str(one.day) for one in heads_in(tmp_path / HEADS_FILE)]
    assert days == ["2026-05-31", "2027-07-05", "2026-06-01"]


async def test_each_day_has_one_head_also_after_days_without_the_hub() -> None:
    records = Records()
    await publish(records, NOW)
    assert await published(records) == []
    await records.append_audit([Note(NOW, HUB, Action.STARTED, "node")])
    evening = datetime(2026, 6, 1, 14, 59, 59, tzinfo=UTC)
    for moment in (evening, evening, evening + 2 * SECOND, evening + 3 * SECOND, evening + timedelta(days=9)):
        await publish(records, moment)
        await records.append_audit([Note(moment, HUB, Action.STOPPED, "node")])
    heads = await published(records)
    assert [(str(one.day), one.head.number) for one in heads] == [
        ("2026-05-31", 1),
        ("2026-06-01", 3),
        ("2026-06-09", 5),
    ]
    assert [one.head.hash for one in heads] == [records.lines[place].hash for place in (0, 2, 4)]


def test_the_file_of_heads_only_grows_and_survives_a_line_cut_short(tmp_path: Path) -> None:
    heads = [DayHead(date(2026, 6, day), Head(day, bytes([day]) * 32)) for day in range(1, 5)]
    note_down(tmp_path, [])
    assert not (tmp_path / HEADS_FILE).exists()
    with capture_logs() as logs:
        note_down(tmp_path, heads[:2])
        note_down(tmp_path, heads[:2])
    path = tmp_path / HEADS_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert [(line["day"], line["head"]) for line in logs] == [
        (str(one.day), str(one.head)) for one in heads[:2]
    ]
    path.write_text(path.read_text() + "2026-06-03 3:0303")
    note_down(tmp_path, heads)
    assert heads_in(path) == heads
    assert path.read_text().startswith(f"2026-06-01 1:{'01' * 32}\n2026-06-02 2:")


def test_lines_are_read_back_from_json_as_they_were() -> None:
    [line] = chained(
        EMPTY, [Note(NOW, KEY, Action.ORG_CHANGED, "人吉\u2028", "o", {"codes": ["1"], "n": None})]
    )
    shown = json.loads(json.dumps(line_json(line)))
    assert (shown["subject"], shown["details"], shown["hash"]) == (
        "人吉\u2028",
        {"codes": ["1"], "n": None},
        line.hash.hex(),
    )
    assert line_of(shown) == line == line_of(raw_json(line))
    for text in (b"\xff", b"{}", line.text.replace(b":1,", b": 1,"), line.text[:-1] + b',"z":1}'):
        bad = KeptLine(1, text, line.hash)
        assert line_of(json.loads(json.dumps(line_json(bad)))) == bad
    moved = KeptLine(2, line.text, line.hash)
    assert line_of(line_json(moved)) == moved


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"number": 1},
        {"number": 1, "hash": "zz"},
        {"number": "1", "hash": ""},
        {"number": 1, "hash": "", "text": "%"},
        [],
    ],
)
def test_what_is_no_line_is_refused(members: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of the standard library, in part
        line_of(members)


def test_every_action_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    assert [action for action in Action if f"`{action}`" not in text] == []


def test_a_line_says_when_it_was_done_and_not_when_it_was_written() -> None:
    [line] = chained(EMPTY, [Note(NOW, HUB, Action.SENT, "alert")])
    assert decode(line.text).time == NOW
