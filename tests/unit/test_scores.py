"""Counting what becomes of each sender's documents: what is counted, for whom, within which bounds, and that nothing waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lalert import cap
from lalert.cli.scorecard import letter
from lalert.errors import (
    Conflict,
    Forbidden,
    InvalidAlert,
    NotXml,
    Problem,
    ProblemSeverity,
    StoreError,
    Unavailable,
)
from lalert.findings import RULES
from lalert.model import Tenant
from lalert.scores import Scores, cards_json, cards_of
from lalert.scores.cards import REFUSALS
from lalert.store import MAX_SENDERS, OTHERS, UNKNOWN, Example, Reason, Score
from lalert.testing import FakeClock, make_alert, make_cap

TOWN = Tenant("hitoyoshi", "人吉市", frozenset({"432032"}), ("*@hitoyoshi.example",))
SENDER = "bousai@hitoyoshi.example"
NOW = datetime(2026, 6, 1, 16, 30, tzinfo=UTC)
TOMORROW_IN_JAPAN = date(2026, 6, 2)


class Book:
    """Keeps what is written; `broken` makes it refuse."""

    def __init__(self) -> None:
        self.written: list[Score] = []
        self.writes = 0
        self.broken: Exception | None = None

    async def add_scores(self, scores: Sequence[Score]) -> None:
        if self.broken:
            raise self.broken
        self.writes += 1
        self.written += scores

    async def scores(self, org: str | None, sender: str | None, since: date) -> list[Score]:
        return [
            score
            for score in self.written
            if org in (None, score.org) and sender in (None, score.sender) and score.day >= since
        ]


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def scores(book: Book) -> Scores:
    return Scores(book, FakeClock(NOW))


def problem(rule: str, severity: ProblemSeverity = ProblemSeverity.ERROR) -> Problem:
    return Problem(rule, severity, "/alert/info[1]", 9, "en")


async def written(scores: Scores, book: Book) -> Mapping[str, Score]:
    await scores.flush()
    return {score.sender: score for score in book.written}


async def test_a_document_is_counted_once_on_its_day_in_japan_by_how_it_fared(
    scores: Scores, book: Book
) -> None:
    good = make_alert(sender=SENDER)
    scores.accepted(TOWN, good, ())
    scores.accepted(TOWN, good, [problem("HUB-REFERENCE-UNKNOWN", ProblemSeverity.WARNING)])
    scores.refused(TOWN, make_cap(sender=SENDER), InvalidAlert([problem("CAP-VALUE")]))
    kept = (await written(scores, book))[SENDER]
    assert (kept.org, kept.day) == ("hitoyoshi", TOMORROW_IN_JAPAN)
    assert (kept.accepted, kept.defective, kept.refused) == (1, 1, 1)
    assert set(kept.reasons) == {"HUB-REFERENCE-UNKNOWN", "CAP-VALUE"}


async def test_advice_is_no_defect_and_counts_nowhere_since_most_alerts_are_not_asked_for_it(
    scores: Scores, book: Book
) -> None:
    scores.accepted(TOWN, make_alert(sender=SENDER), [problem("CAP-RECOMMENDED", ProblemSeverity.ADVICE)])
    scores.accepted(TOWN, make_alert(sender=SENDER), [problem("CAP-TIME-UTC", ProblemSeverity.INFO)])
    kept = (await written(scores, book))[SENDER]
    assert (kept.accepted, kept.defective, kept.reasons) == (2, 0, {})
    both = [problem("CAP-VALUE"), problem("CAP-RECOMMENDED", ProblemSeverity.ADVICE)]
    scores.refused(TOWN, make_cap(sender=SENDER), InvalidAlert(both))
    assert set((await written(scores, book))[SENDER].reasons) == {"CAP-VALUE"}


async def test_a_rule_broken_many_times_in_one_document_counts_once_with_its_first_place(
    scores: Scores, book: Book
) -> None:
    raw = make_cap(sender=SENDER, identifier="x-1")
    many = [Problem("CAP-VALUE", ProblemSeverity.ERROR, f"/alert/info[{n}]", n, "en") for n in range(1, 9)]
    scores.refused(TOWN, raw, InvalidAlert(many))
    reason = (await written(scores, book))[SENDER].reasons["CAP-VALUE"]
    assert reason == Reason(1, NOW, NOW, Example("x-1", "/alert/info[1]", 1))


async def test_the_last_document_is_the_example(book: Book) -> None:
    clock = FakeClock(NOW)
    scores = Scores(book, clock)
    for number in range(3):
        scores.refused(TOWN, make_cap(sender=SENDER, identifier=f"x-{number}"), Conflict("another one"))
        await clock.advance(60)
    reason = (await written(scores, book))[SENDER].reasons["conflict"]
    assert (reason.documents, reason.first, reason.last) == (3, NOW, NOW + timedelta(minutes=2))
    assert reason.example == Example("x-2")


@pytest.mark.parametrize(
    ("raw", "sender"),
    [
        (make_cap(sender=SENDER), SENDER),
        (make_cap(sender="bousai@minamata.example"), UNKNOWN),
        (b"<sender>" + SENDER.encode() + b"</sender>", SENDER),
        (b"<cap:sender >\n  " + SENDER.encode() + b" </cap:sender>", SENDER),
        (b"<sender>x\x1b[2J@hitoyoshi.example</sender>", UNKNOWN),
        ("<sender>x\u202e@hitoyoshi.example</sender>".encode(), UNKNOWN),
        (b"<sender>" + b"x" * 300 + b"@hitoyoshi.example</sender>", UNKNOWN),
        (b"", UNKNOWN),
        (make_cap(sender=SENDER).decode().encode("utf-16"), UNKNOWN),
    ],
)
async def test_a_refusal_is_laid_at_a_sender_only_if_it_is_one_of_the_callers_own(
    scores: Scores, book: Book, raw: bytes, sender: str
) -> None:
    scores.refused(TOWN, raw, Forbidden("no", code="sender-not-yours"))
    assert list(await written(scores, book)) == [sender]


@given(st.binary(max_size=200))
async def test_no_bytes_make_the_counting_raise(raw: bytes) -> None:
    Scores(Book(), FakeClock(NOW)).refused(TOWN, b"<sender>" + raw + b"</sender>", NotXml("no"))


async def test_what_is_no_xml_counts_under_its_rule(scores: Scores, book: Book) -> None:
    with pytest.raises(NotXml) as caught:
        cap.parse(b"<alert")
    scores.refused(TOWN, b"<alert", caught.value)
    assert set((await written(scores, book))[UNKNOWN].reasons) == {"CAP-XML-FORM"}


async def test_the_hubs_own_trouble_is_no_fault_of_a_sender(scores: Scores, book: Book) -> None:
    scores.refused(TOWN, make_cap(sender=SENDER), Unavailable("the disk is full"))
    scores.refused(TOWN, make_cap(sender=SENDER), StoreError("lost"))
    assert await written(scores, book) == {}


async def test_what_cannot_be_written_is_kept_for_the_next_time(scores: Scores, book: Book) -> None:
    book.broken = Unavailable("the disk is full")
    scores.refused(TOWN, make_cap(sender=SENDER, identifier="x-1"), Conflict("no"))
    with pytest.raises(Unavailable):
        await scores.flush()
    scores.accepted(TOWN, make_alert(sender=SENDER), ())
    scores.refused(TOWN, make_cap(sender=SENDER, identifier="x-2"), Conflict("no"))
    book.broken = None
    kept = (await written(scores, book))[SENDER]
    assert (kept.accepted, kept.refused, kept.reasons["conflict"].documents) == (1, 2, 2)


@pytest.mark.parametrize("fails", [False, True])
async def test_who_goes_away_while_it_is_written_makes_nothing_lost_or_counted_twice(fails: bool) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class SlowBook(Book):
        async def add_scores(self, scores: Sequence[Score]) -> None:
            begun.set()
            await go_on.wait()
            await super().add_scores(scores)

    book = SlowBook()
    scores = Scores(book, FakeClock(NOW))
    scores.accepted(TOWN, make_alert(sender=SENDER), ())
    flushing = asyncio.create_task(scores.flush())
    await begun.wait()
    for _ in range(2):
        flushing.cancel()
        await asyncio.sleep(0)
    book.broken = Unavailable("the disk is full") if fails else None
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await flushing
    book.broken = None
    await scores.flush()
    assert [score.accepted for score in book.written] == [1]


async def test_made_up_senders_cannot_fill_the_memory(scores: Scores, book: Book) -> None:
    for number in range(3 * MAX_SENDERS):
        raw = b"<sender>%d@hitoyoshi.example</sender>" % number
        scores.refused(TOWN, raw, Conflict("no"))
    kept = await written(scores, book)
    assert len(kept) == MAX_SENDERS + 1
    assert kept[OTHERS].refused == 2 * MAX_SENDERS
    scores.refused(TOWN, make_cap(sender=SENDER), Conflict("no"))
    assert SENDER in await written(scores, book), "once written, they take no room any more"


async def test_what_is_left_is_written_at_the_end(book: Book) -> None:
    async with Scores(book, FakeClock(NOW)) as scores:
        scores.accepted(TOWN, make_alert(sender=SENDER), ())
    assert [score.accepted for score in book.written] == [1]
    async with Scores(book, FakeClock(NOW)) as scores:
        book.broken = Unavailable("the disk is full")
        scores.accepted(TOWN, make_alert(sender=SENDER), ())


async def test_a_card_adds_up_the_days_and_the_worst_comes_first(scores: Scores, book: Book) -> None:
    today = TOMORROW_IN_JAPAN
    value = Reason(2, NOW, NOW, Example("x-1", "/alert/status", 6))
    later = Reason(1, NOW + timedelta(days=1), NOW + timedelta(days=1), Example("x-9"))
    book.written = [
        Score("hitoyoshi", "good@hitoyoshi.example", today, 9, 0, 0, {}),
        Score("hitoyoshi", SENDER, today - timedelta(days=29), 5, 1, 2, {"CAP-VALUE": value}),
        Score("hitoyoshi", SENDER, today, 1, 0, 1, {"CAP-VALUE": later, "conflict": later}),
        Score("hitoyoshi", SENDER, today - timedelta(days=30), 100, 0, 0, {}),
    ]
    found = await scores.cards("hitoyoshi", None, 30)
    assert (found.since, found.until) == (today - timedelta(days=29), today)
    worst, best = found.cards
    assert (worst.sender, worst.documents, worst.accepted, worst.defective, worst.refused) == (
        SENDER,
        10,
        6,
        1,
        3,
    )
    assert [name for name, _ in worst.reasons] == ["CAP-VALUE", "conflict"]
    assert worst.reasons[0][1] == Reason(3, NOW, NOW + timedelta(days=1), Example("x-9"))
    assert (best.sender, best.reasons) == ("good@hitoyoshi.example", ())


@pytest.mark.parametrize("name", [*RULES, *REFUSALS, "some-code-to-come"])
def test_every_reason_is_told_in_both_languages_without_open_places(name: str) -> None:
    day = TOMORROW_IN_JAPAN
    reason = Reason(1, NOW, NOW, Example("x-1", "/alert/status", 6))
    body = cards_json(cards_of([Score("a", "s", day, 0, 0, 1, {name: reason})], day, day), {"a": "甲市"})
    (card,) = body["scorecards"]
    (told,) = card["reasons"]
    for text in (told["message"], told["message_ja"], told["help"], told["help_ja"]):
        assert text
        assert "{" not in text
    assert told["doc"] == (f"/rules#{name}" if name in RULES else None)
    japanese, english = (letter(card, body["since"], body["until"], lang) for lang in ("ja", "en"))
    assert told["help_ja"] in japanese
    assert told["help"] in english


def test_the_letter_says_what_an_officer_needs() -> None:
    day = TOMORROW_IN_JAPAN
    reason = Reason(3, NOW, NOW, Example("43203-0012", "/alert/info[1]/area[1]/polygon[1]", 31))
    sent = Score("hitoyoshi", SENDER, day, 8, 1, 3, {"CAP-POLYGON-OPEN": reason})
    body = cards_json(cards_of([sent], day - timedelta(days=6), day), {"hitoyoshi": "人吉市"})
    assert letter(body["scorecards"][0], body["since"], body["until"], "ja").splitlines() == [
        "人吉市(hitoyoshi)　発信者：bousai@hitoyoshi.example",
        "期間：2026年5月27日から2026年6月2日まで",
        "文書：12件(問題なし8件、警告などがあったが配信1件、受け付けず3件)",
        "",
        "1. polygonが閉じていません。始点は…、終点は…です",
        "　　3件(25.0%)　エラー　規則：CAP-POLYGON-OPEN",
        "　　直し方：最後に最初の点をもう一度書いてください",
        "　　最後：6月2日1時30分(識別子：43203-0012、箇所：/alert/info[1]/area[1]/polygon[1]、行：31)",
    ]
