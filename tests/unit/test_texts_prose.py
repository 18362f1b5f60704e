"""What a person reads: title and body in the right language, marked, and nothing hidden."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lalert.model import JST, Alert, Area, Info, MsgType, Severity, Status
from lalert.testing import make_alert
from lalert.texts import alert_text
from lalert.texts.ticker import MAX_TICKER, tickers

SENT = datetime(2026, 11, 23, 9, 5, tzinfo=JST)


def multilingual(**changes: object) -> Alert:
    alert = make_alert(sent=SENT, raw=b"")
    japanese = alert.infos[0]
    english = replace(
        japanese,
        language="en",
        event="Evacuation order",
        headline="Evacuate now",
        description="The river is rising.",
        instruction="Go to a shelter.",
        sender_name="Hitoyoshi City",
        areas=(replace(japanese.areas[0], area_desc="Hitoyoshi"),),
    )
    easy = replace(japanese, language="ja-x-easy", headline="にげて ください")
    return replace(alert, infos=(japanese, english, easy), **changes)  # type: ignore[arg-type]


def with_info(**changes: object) -> Alert:
    alert = make_alert(sent=SENT, raw=b"")
    return replace(alert, infos=(replace(alert.infos[0], **changes),))  # type: ignore[arg-type]


def test_without_a_language_it_is_japanese() -> None:
    text = alert_text(multilingual())
    assert (text.title, text.lang) == ("人吉市に避難指示を発令しました", "ja-JP")
    assert text.body == (
        "球磨川の水位が上がっています。\n\n危険な場所から全員避難してください。\n\n"
        "対象地域：人吉市\n発表：人吉市 2026年11月23日9時05分\n有効期限：2026年11月23日15時05分"
    )


def test_an_info_in_the_language_asked_for_is_taken() -> None:
    text = alert_text(multilingual(), "en-GB")
    assert (text.title, text.lang) == ("Evacuate now", "en")
    assert text.body == (
        "The river is rising.\n\nGo to a shelter.\n\n"
        "Areas: Hitoyoshi\nIssued: Hitoyoshi City 2026-11-23 09:05 JST\nUntil: 2026-11-23 15:05 JST"
    )


def test_the_very_tag_goes_before_the_same_language() -> None:
    assert alert_text(multilingual(), "ja-x-easy").title == "にげて ください"
    assert alert_text(multilingual(), "JA-jp").title == "人吉市に避難指示を発令しました"


def test_plain_japanese_is_not_said_beside_japanese() -> None:
    assert "にげて" not in alert_text(multilingual()).body
    assert "にげて" not in alert_text(multilingual(), "ja").body


def test_a_language_that_the_alert_lacks_hides_nothing() -> None:
    body = alert_text(multilingual(), "vi").body
    assert "球磨川の水位" in body
    assert "The river is rising." in body


def test_two_infos_of_one_language_are_both_there_and_the_graver_one_is_the_title() -> None:
    first = make_alert(sent=SENT, raw=b"", severity=Severity.MODERATE, headline="高齢者等避難").infos[0]
    second = replace(
        first, language="ja", severity=Severity.EXTREME, headline="緊急安全確保", description="命の危険"
    )
    text = alert_text(replace(make_alert(raw=b""), infos=(first, second)))
    assert text.title == "緊急安全確保"
    assert text.body.index("高齢者等避難") < text.body.index("命の危険")
    assert text.body.count("緊急安全確保") == 0


@pytest.mark.parametrize(
    ("kind", "headline", "title"),
    [
        (MsgType.UPDATE, "避難指示を拡大", "【更新】避難指示を拡大"),
        (MsgType.CANCEL, "避難指示", "【取消】避難指示"),
        (MsgType.CANCEL, "【取消】避難指示", "【取消】避難指示"),
        (MsgType.ERROR, "避難指示", "【誤り】避難指示"),
        (MsgType.CANCEL, "Evacuation order", "Cancelled: Evacuation order"),
        (MsgType.UPDATE, "Update: evacuate", "Update: evacuate"),
    ],
)
def test_the_title_says_that_it_continues_something(kind: MsgType, headline: str, title: str) -> None:
    language = "ja" if not headline.isascii() else "en"
    alert = replace(with_info(headline=headline, language=language), msg_type=kind)
    assert alert_text(alert).title == title


def test_a_missing_headline_is_the_event() -> None:
    assert alert_text(with_info(headline=None)).title == "避難指示"
    assert alert_text(with_info(headline=" \x01 ")).title == "避難指示"


@pytest.mark.parametrize("status", [Status.EXERCISE, Status.TEST])
def test_every_text_of_a_drill_begins_with_the_mark(status: Status) -> None:
    word = {
        "ja": {"Exercise": "【訓練】", "Test": "【試験】"},
        "en": {"Exercise": "[EXERCISE] ", "Test": "[TEST] "},
    }
    for lang in ("ja", "en"):
        text = alert_text(multilingual(status=status), lang)
        assert text.title.startswith(word[lang][status])
        assert text.body.startswith(word[lang][status])
    for block in alert_text(multilingual(status=status), "vi").body.split("\n\n発表")[0].split("\n\n\n"):
        assert block.startswith("【")


def test_mark_and_announcement_come_in_one_order_however_they_were_written() -> None:
    alert = replace(
        with_info(headline="【訓練】【取消】避難指示"), status=Status.EXERCISE, msg_type=MsgType.CANCEL
    )
    assert alert_text(alert).title == "【訓練】【取消】避難指示"


@pytest.mark.parametrize(
    ("lang", "title", "language"),
    [
        (None, "【訓練】【取消】先に発表した情報を取り消しました", "ja"),
        ("ja-JP", "【訓練】【取消】先に発表した情報を取り消しました", "ja"),
        ("en-US", "[EXERCISE] Cancelled: an earlier alert was cancelled", "en"),
        ("vi", "[EXERCISE] Cancelled: an earlier alert was cancelled", "en"),
    ],
)
def test_a_cancel_without_infos_says_what_it_does(lang: str | None, title: str, language: str) -> None:
    first = make_alert(identifier="the-first")
    cancel = make_alert(
        infos=(),
        msg_type="Cancel",
        status="Exercise",
        references=[first],
        note="誤って発表しました" if language == "ja" else "Sent by mistake",
        raw=b"",
        sent=SENT,
    )
    text = alert_text(cancel, lang)
    assert (text.title, text.lang) == (title, language)
    assert text.body.startswith(title[: title.index("】" if language == "ja" else "]") + 1])
    assert ("誤って発表しました" if language == "ja" else "Sent by mistake") in text.body
    assert "the-first" in text.body


@pytest.mark.parametrize("with_infos", [True, False])
def test_a_cancel_says_why(with_infos: bool) -> None:
    about: dict[str, Any] = {"msg_type": "Cancel", "references": [make_alert()], "raw": b"", "sent": SENT}
    if not with_infos:
        about["infos"] = ()
    assert "取消理由：水位計の故障" in alert_text(make_alert(note="水位計の故障", **about)).body
    assert "取消理由" not in alert_text(make_alert(note=" ", **about)).body
    about["msg_type"] = "Update"
    assert "取消理由" not in alert_text(make_alert(note="水位計の故障", **about)).body


def test_a_correction_is_called_one() -> None:
    about: dict[str, Any] = {"msg_type": "Update", "alert_codes": ["jp:correction"], "raw": b""}
    japanese = make_alert(headline="避難所の開設状況", references=[make_alert()], **about)
    assert alert_text(japanese, correction=True).title == "【訂正】避難所の開設状況"
    english = make_alert(headline="Shelters", language="en-US", references=[make_alert()], **about)
    assert alert_text(english, "en", correction=True).title == "Correction: Shelters"


def test_what_only_claims_to_be_a_correction_is_called_an_update() -> None:
    about: dict[str, Any] = {"msg_type": "Update", "alert_codes": ["jp:correction"], "raw": b""}
    claimed = make_alert(headline="避難指示", references=[make_alert()], **about)
    assert alert_text(claimed).title == "【更新】避難指示"
    assert alert_text(replace(claimed, msg_type=MsgType.ALERT)).title == "避難指示"


def test_control_codes_and_what_would_reorder_the_words_are_gone() -> None:
    text = alert_text(
        with_info(
            headline="避難\x00指示\u202e中止\u2066",
            description="川\x1b[2Jが\x9b危険",
            areas=(Area("人\x07吉"),),
        )
    )
    assert text.title == "避難指示中止"
    assert "川[2Jが危険" in text.body
    assert "対象地域：人吉" in text.body


def test_a_hundred_areas_are_named_in_part_and_counted() -> None:
    areas = tuple(Area(f"{n}区") for n in [*range(100), *range(100)])
    assert "29区、ほか70か所" in alert_text(with_info(areas=areas)).body


def test_times_are_those_of_japan_whatever_offset_the_sender_wrote() -> None:
    alert = replace(make_alert(raw=b"", expires=None), sent=datetime(2026, 11, 22, 15, 5, tzinfo=UTC))
    assert "2026年11月23日0時05分" in alert_text(alert).body


def test_an_info_with_nothing_to_say_still_says_from_whom_and_until_when() -> None:
    bare: Info = replace(
        make_alert(sent=SENT, raw=b"").infos[0], description=None, instruction=None, areas=()
    )
    body = alert_text(replace(make_alert(sent=SENT, raw=b""), infos=(bare,))).body
    assert body == "発表：人吉市 2026年11月23日9時05分\n有効期限：2026年11月23日15時05分"


def test_a_ticker_is_one_line_in_each_language_and_says_what_where_and_by_whom() -> None:
    assert tickers(multilingual()) == {
        "ja-JP": "人吉市に避難指示を発令しました（人吉市発表）",
        "en": "Evacuate now Areas: Hitoyoshi (Hitoyoshi City)",
        "ja-x-easy": "にげて ください 対象地域：人吉市（人吉市発表）",
    }
    assert tickers(multilingual(), "en").keys() == {"en"}
    assert tickers(multilingual(), "fr").keys() == {"ja-JP", "en", "ja-x-easy"}


def test_a_ticker_says_first_that_it_is_a_drill_then_what_it_does_to_an_earlier_one() -> None:
    drill = multilingual(status=Status.EXERCISE, msg_type=MsgType.CANCEL, note="水位が\n下がったため")
    assert tickers(drill)["ja-JP"] == (
        "【訓練】【取消】人吉市に避難指示を発令しました 取消理由：水位が 下がったため（人吉市発表）"
    )
    assert tickers(drill)["en"].startswith("[EXERCISE] Cancelled: Evacuate now Reason: ")
    corrected = tickers(multilingual(msg_type=MsgType.UPDATE), correction=True)
    assert corrected["ja-JP"].startswith("【訂正】人吉市")
    bare = tickers(replace(drill, infos=()))
    assert bare == {
        "ja": "【訓練】【取消】先に発表した情報を取り消しました 取消理由：水位が 下がったため",
        "en": "[EXERCISE] Cancelled: an earlier alert was cancelled Reason: 水位が 下がったため",
    }


def test_a_ticker_takes_the_gravest_info_of_a_language() -> None:
    minor = replace(with_info(headline="小さい").infos[0], severity=Severity.MINOR)
    alert = with_info(headline="大きい", severity=Severity.EXTREME)
    assert tickers(replace(alert, infos=(minor, *alert.infos)))["ja-JP"].startswith("大きい")


def test_a_ticker_that_is_too_long_leaves_out_areas_with_their_number_then_words() -> None:
    area = with_info().infos[0].areas[0]
    towns = tuple(replace(area, area_desc=f"第{n}町") for n in range(60))
    [line] = tickers(with_info(headline="洪水", areas=towns, sender_name=None)).values()
    assert line.startswith("洪水 対象地域：第0町、第1町、")
    assert line.endswith("か所")
    left = int(line.rpartition("ほか")[2].removesuffix("か所"))
    assert left + line.count("、") == len(towns)
    assert MAX_TICKER - 5 <= len(line) <= MAX_TICKER
    [cut] = tickers(with_info(headline="長" * 500)).values()
    assert cut == "長" * (MAX_TICKER - 1) + "…"
    [drill] = tickers(replace(with_info(headline="長" * 500), status=Status.TEST)).values()
    assert drill.startswith("【試験】長")
    assert len(drill) == MAX_TICKER


@settings(max_examples=60, deadline=None)
@given(
    st.text(max_size=200),
    st.text(max_size=200),
    st.text(max_size=40),
    st.sampled_from(list(MsgType)),
    st.sampled_from([Status.ACTUAL, Status.EXERCISE, Status.TEST]),
    st.sampled_from(["ja-JP", "en-US", "ko"]),
)
def test_whatever_is_written_a_ticker_is_one_short_line_with_its_mark(
    headline: str, place: str, sender: str, msg_type: MsgType, status: Status, language: str
) -> None:
    alert = with_info(headline=headline, sender_name=sender, language=language)
    info = replace(alert.infos[0], areas=(replace(alert.infos[0].areas[0], area_desc=place),))
    [line] = tickers(replace(alert, infos=(info,), msg_type=msg_type, status=status, note=place)).values()
    assert 0 < len(line) <= MAX_TICKER
    assert len(line.splitlines()) == 1
    assert not set(line) & {chr(code) for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}
    if status is not Status.ACTUAL:
        marks = {Status.EXERCISE: ("【訓練】", "[EXERCISE] "), Status.TEST: ("【試験】", "[TEST] ")}[status]
        assert line.startswith(marks)
        assert line.removeprefix(marks[0]).removeprefix(marks[1]).startswith(marks) is False
