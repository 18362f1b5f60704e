"""Whatever room a channel has: the text fits, begins with the mark, says what people must do first, and no word or address is cut in two."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lalert.cap.profiles.jp.mail import length
from lalert.model import JST, Alert, MsgType, Status
from lalert.plugin import Room, full_width, utf8, utf16
from lalert.testing import make_alert
from lalert.texts import alert_text
from lalert.texts.breaks import joined, letter_ends, phrase_ends, sentence_ends, without_addresses
from lalert.texts.fit import cut

SENT = datetime(2026, 11, 23, 9, 5, tzinfo=JST)
MEASURES: list[Callable[[str], int]] = [len, full_width, utf16, utf8]
MARKS = {Status.EXERCISE: ("【訓練】", "[EXERCISE]"), Status.TEST: ("【試験】", "[TEST]")}
ADDRESS = re.compile(r"https?://\S+")

PIECES = st.sampled_from(
    ["避難指示", "を発令しました。", "直ちに", "逃げてください！", "、", "\n", " ", "Leave now. ", "Go!", "river", "1,000", "が\u3099", "👩‍👩‍👧‍👦", "🇯🇵",
     "👍🏽", "e\u0301", "https://example.jp/a?b=c. ", "mail@town.example ", "【訓練】", "각", "ﾊﾞ", "กำลัง"]
)  # fmt: skip
WRITTEN = st.lists(PIECES | st.text(max_size=8), max_size=30).map("".join)


def order(**changes: object) -> Alert:
    return make_alert(sent=SENT, raw=b"", **changes)  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(
    headline=WRITTEN, description=WRITTEN, instruction=WRITTEN, place=WRITTEN, status=st.sampled_from(Status), msg_type=st.sampled_from(MsgType),
    language=st.sampled_from(["ja", "en", "ko"]), title=st.none() | st.integers(0, 60), body=st.none() | st.integers(0, 400),
    measure=st.sampled_from(MEASURES), urls=st.booleans(), bare=st.booleans(),
)  # fmt: skip
def test_a_text_fits_and_begins_with_its_mark(
    headline: str, description: str, instruction: str, place: str, status: Status, msg_type: MsgType, language: str,
    title: int | None, body: int | None, measure: Callable[[str], int], urls: bool, bare: bool,
) -> None:  # fmt: skip
    alert = order(
        headline=headline, description=description, instruction=instruction, area_desc=place, status=status, msg_type=msg_type, language=language,
        note=place,
    )  # fmt: skip
    if bare:
        alert = replace(alert, infos=())
    text = alert_text(alert, room=Room(title, body, measure, urls))
    for said, limit in ((text.title, title), (text.body, body)):
        assert limit is None or measure(said) <= limit
        assert limit is None or limit < 20 or said
        assert urls or without_addresses(said) == said
        if status in MARKS and said:
            assert said.startswith(MARKS[status])
    full = alert_text(alert)
    if urls and (title is None or measure(full.title) <= title):
        assert text.title == full.title
        if body is None or measure(full.body) <= body:
            assert text == full


@settings(max_examples=120, deadline=None)
@given(WRITTEN, st.integers(0, 80), st.sampled_from(MEASURES))
def test_what_is_cut_ends_where_a_reader_would_pause(
    text: str, limit: int, measure: Callable[[str], int]
) -> None:
    said = cut(text, lambda part: measure(part) <= limit)
    assert measure(said) <= limit
    if said == text or not said:
        return
    kept = said.removesuffix("…")
    assert text.startswith((kept, said))
    after = text[len(kept) :].lstrip()
    at = len(text) - len(after)
    assert not joined(text, at) if 0 < at < len(text) else True
    assert not any(found.start() < len(kept) < found.end() for found in ADDRESS.finditer(text))
    if kept[-1:].isascii() and kept[-1:].isalpha():
        assert not (text[len(kept)].isascii() and text[len(kept)].isalpha())
    if kept and unicodedata.category(text[len(kept)]) in {"Mn", "Mc", "Me"}:
        assert kept == said  # an ellipsis of the writer's own
    ends = {
        text[:end].rstrip().rstrip("、，,;；:：")
        for end in (*sentence_ends(text), *phrase_ends(text), *letter_ends(text))
    }
    assert kept in ends or kept in {text[:end].rstrip() for end in sentence_ends(text)}


@pytest.mark.parametrize(
    ("text", "limit", "said"),
    [
        ("川の水位が上がっています。直ちに逃げてください。", 25, "川の水位が上がっています。直ちに逃げてください。"),
        ("川の水位が上がっています。直ちに逃げてください。", 20, "川の水位が上がっています。"),
        ("「逃げてください。」と市長。以上。", 13, "「逃げてください。」"),
        ("人吉市全域に避難指示を発令しました", 12, "人吉市全域に避難指示を…"),
        ("人吉市全域に避難指示を発令しました", 10, "人吉市全域に…"),
        ("うきは市を中心に", 7, "うきは市を…"),
        ("町、うきは市を中心に", 6, "町…"),
        ("緊急安全確保発令", 5, "緊急安全…"),
        ("人吉市发布避难指示请立即离开", 8, "人吉市发布避难…"),
        ("Leave now. Go to Mr. Sato at 3.5 km. Hurry", 38, "Leave now. Go to Mr. Sato at 3.5 km."),
        ("Leave now. Go to Mr. Sato", 20, "Leave now."),
        ("Evacuate immediately", 12, "Evacuate…"),
        ("Evacuate", 6, ""),
        ("1,000,000 people", 5, ""),
        ("see https://example.jp/very/long/path?x=1 now", 30, "see…"),
        ("見る https://example.jp/逃げる。早く。", 30, "見る https://example.jp/逃げる。早く。"),
        ("🇯🇵🇰🇷🇨🇳", 3, ""),
        ("対象は、町内全域です", 5, "対象は…"),
        ("逃げろ。", 3, "逃げ…"),
    ],
)  # fmt: skip
def test_cut(text: str, limit: int, said: str) -> None:
    assert cut(text, lambda part: len(part) <= limit) == said


def test_a_thai_vowel_is_not_parted_from_its_consonant() -> None:
    text = "ออกจากพื้นที่เสี่ยงภัยไปที่ปลอดภัย"
    assert len(letter_ends(text)) > 10
    assert not [end for end in letter_ends(text) if text[end - 1] in "เแโใไ"]


def test_what_a_room_measures() -> None:
    assert [measure("避難\n👍") for measure in MEASURES] == [4, 5, 5, 11]


@given(st.text())
def test_an_urgent_mail_is_measured_as_it_is_judged(text: str) -> None:
    assert full_width(text) == length(text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("詳細は https://example.jp/a?b=1 を見る。", "詳細は を見る。"),
        ("詳細は市のページ（https://example.jp/）を見る", "詳細は市のページを見る"),
        ("町のページをhttps://town.example/で見る", "町のページをで見る"),
        ("逃げる。\nhttps://example.jp\n早く。", "逃げる。\n早く。"),
        ("連絡はbousai@town.example.jpまで", "連絡はまで"),
        ("www.example.jp と example.or.jp/x", "と"),
        ("あ@い.うへ", "あ い.うへ"),
        ("8.5メートル、3.jpg、a@b", "8.5メートル、3.jpg、a@b"),
    ],
)  # fmt: skip
def test_addresses_go_with_the_brackets_and_lines_that_held_them(text: str, plain: str) -> None:
    assert without_addresses(text) == plain


@given(WRITTEN)
def test_without_addresses_there_are_none(text: str) -> None:
    assert without_addresses(without_addresses(text)) == without_addresses(text)


LONG = {
    "headline": "人吉市中心部に避難指示を発令しました。球磨川の水位が上がっています。",
    "description": "球磨川の水位は4.5メートルです。あと1時間で氾濫するおそれがあります。" * 4,
    "instruction": "危険な場所から全員避難してください。指定避難所は第一小学校です。車では逃げないでください。",
}


def test_where_lives_depend_on_it_what_to_do_comes_first() -> None:
    text = alert_text(order(**LONG), room=Room(18, 100))
    assert text.title == "警戒レベル4 避難指示"
    assert alert_text(order(**LONG), room=Room(10, 100)).title == "避難指示"
    said = order(event="警戒レベル４避難指示", **LONG)
    assert alert_text(said, room=Room(18, 100)).title == "警戒レベル４避難指示"
    over = order(response="AllClear", event="避難指示解除", **LONG)
    assert alert_text(over, room=Room(15, 100)).title == "避難指示解除"
    assert text.body.splitlines() == [
        "危険な場所から全員避難してください。",
        "人吉市中心部に避難指示を発令しました。",
        "対象地域：人吉市",
        "球磨川の水位は4.5メートルです。",
        "有効期限：2026年11月23日15時05分",
    ]


def test_a_notice_begins_with_what_has_happened() -> None:
    notice = order(level=None, response="Monitor", **LONG)
    lines = alert_text(notice, room=Room(None, 110)).body.splitlines()
    assert lines[0].startswith("球磨川の水位は4.5メートルです。")
    assert lines[1] == "対象地域：人吉市"
    assert lines[2].startswith("危険な場所から全員避難してください。")


def test_why_something_is_cancelled_comes_before_everything() -> None:
    cancel = order(msg_type=MsgType.CANCEL, note="水位が下がったため", **LONG)
    text = alert_text(cancel, room=Room(30, 60))
    assert text.title == "【取消】人吉市中心部に避難指示を発令しました。"
    assert text.body.startswith("取消理由：水位が下がったため\n危険な場所から全員避難してください。")


def test_places_are_left_out_with_their_number() -> None:
    towns = "、".join(f"第{n}町内会" for n in range(40))
    body = alert_text(order(area_desc=towns, description=None), room=Room(None, 120)).body
    [places] = [line for line in body.splitlines() if line.startswith("対象地域：第0町内会")]
    named, _, left = places.rpartition("、ほか")
    assert named.count("町内会") + int(left.removesuffix("か所")) == 40


def test_the_mark_counts_and_goes_before_what_it_announces() -> None:
    drill = order(status=Status.EXERCISE, msg_type=MsgType.CANCEL, **LONG)
    assert alert_text(drill, room=Room(15, 200)).title == "【訓練】【取消】避難指示"
    assert [alert_text(drill, room=Room(n, n)).title for n in (10, 8, 7, 4, 3)] == [
        "【訓練】【取消】人…", "【訓練】【取消】", "【訓練】", "【訓練】", "",
    ]  # fmt: skip
    assert [alert_text(drill, room=Room(n, n)).body for n in (4, 3)] == ["【訓練】", ""]


def test_the_graver_of_two_infos_has_the_room() -> None:
    small = order(level=None, severity="Minor", headline="注意", description="雨が降っています。" * 20)
    both = replace(small, infos=(*small.infos, *order(**LONG).infos))
    assert alert_text(both, room=Room(None, 80)).body.startswith("危険な場所から全員避難してください。")


@pytest.mark.parametrize(
    "piece", ["!", "。」", "a.", "-", "a@", "https://", "(", " ", "🇯", "あ＠い.", "a.jp ", "\n \n", "x"]
)
def test_no_text_takes_long(piece: str) -> None:
    long = "x" + piece * (20_000 // len(piece)) + "x"
    alert = order(headline=long, description=long, instruction=long, area_desc=long)
    began = perf_counter()
    for room in (Room(15, 200, full_width, urls=False), Room(80, 3_000, utf8)):
        alert_text(alert, room=room)
    assert (
        perf_counter() - began < 2.5
    )  # 0.1 s; with a pattern that begins anew at each character it was half a minute
