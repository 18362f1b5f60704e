"""The drill mark: always there when it is due, never twice, never on the real thing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lalert.model import Status
from lalert.texts import mark, marked_word
from lalert.texts.marks import unmarked

MARKED = [status for status in Status if status is not Status.ACTUAL]


@pytest.mark.parametrize(
    ("status", "japanese", "english"),
    [
        (Status.EXERCISE, "【訓練】避難指示", "[EXERCISE] Evacuate"),
        (Status.TEST, "【試験】避難指示", "[TEST] Evacuate"),
        (Status.SYSTEM, "【システム】避難指示", "[SYSTEM] Evacuate"),
        (Status.DRAFT, "【下書き】避難指示", "[DRAFT] Evacuate"),
        (Status.ACTUAL, "避難指示", "Evacuate"),
    ],
)
def test_the_mark_says_what_it_is(status: Status, japanese: str, english: str) -> None:
    assert mark("避難指示", status, "ja-JP") == japanese
    assert mark("Evacuate", status, "en") == english


@pytest.mark.parametrize(
    "written",
    [
        "【訓練】避難指示",
        "【 訓練 】 避難指示",
        "【訓　練】避難指示",
        "[訓練]避難指示",
        "［訓練］避難指示",
        "《訓練》避難指示",
        "〈訓練〉避難指示",
        "＜訓練＞避難指示",
        "（訓練）避難指示",
        "(訓練) 避難指示",
        "「訓練」避難指示",
        "【訓練】【訓練】避難指示",
        "  【訓練】避難指示",
        "[EXERCISE] 避難指示",
        "[Drill] 避難指示",
        "【ＥＸＥＲＣＩＳＥ】避難指示",
        "［exercise］ 【訓練】避難指示",
    ],
)
def test_what_the_writer_put_there_is_not_doubled(written: str) -> None:
    assert mark(written, Status.EXERCISE, "ja") == "【訓練】避難指示"


@pytest.mark.parametrize(
    "written",
    ["訓練のお知らせ", "【訓練です】避難指示", "【試験】避難指示", "避難指示【訓練】", "訓練】避難指示"],
)
def test_other_words_of_the_writer_stay(written: str) -> None:
    assert mark(written, Status.EXERCISE, "ja") == "【訓練】" + written


def test_the_real_thing_is_never_touched() -> None:
    assert mark("【訓練】避難指示", Status.ACTUAL, "ja") == "【訓練】避難指示"


def test_a_test_written_as_a_test_is_known_by_each_of_its_words() -> None:
    assert mark("【テスト】配信", Status.TEST, "ja") == "【試験】配信"
    assert mark("(test) delivery", Status.TEST, "en") == "[TEST] delivery"


@pytest.mark.parametrize(
    ("text", "language", "marked"),
    [
        ("避難指示", "en-US", "【訓練】避難指示"),
        ("ひなん", "en-US", "【訓練】ひなん"),
        ("Evacuate now", "ja", "【訓練】Evacuate now"),
        ("請立即疏散", "zh-Hant", "[EXERCISE] 請立即疏散"),
        ("대피하십시오", "ko", "[EXERCISE] 대피하십시오"),
        ("Hãy sơ tán", "vi", "[EXERCISE] Hãy sơ tán"),
        ("Evacuate", "", "[EXERCISE] Evacuate"),
    ],
)
def test_the_mark_is_in_the_language_of_the_text(text: str, language: str, marked: str) -> None:
    # A sender who leaves out <language> has declared en-US (CAP 1.2, 3.2.2), whatever the text is.
    assert mark(text, Status.EXERCISE, language) == marked


@pytest.mark.parametrize("empty", ["", " ", "\n\u3000"])
def test_nothing_stays_nothing(empty: str) -> None:
    assert mark(empty, Status.EXERCISE, "ja") == empty


@given(st.text(), st.sampled_from(MARKED), st.sampled_from(["ja", "en", "zh"]))
def test_marking_twice_is_marking_once(text: str, status: Status, language: str) -> None:
    once = mark(text, status, language)
    assert mark(once, status, language) == once
    assert once.endswith(unmarked(text, status).lstrip())


def test_programs_read_the_mark_as_a_word() -> None:
    assert [marked_word(status) for status in (Status.ACTUAL, Status.EXERCISE, Status.TEST)] == [
        None,
        "訓練",
        "試験",
    ]
