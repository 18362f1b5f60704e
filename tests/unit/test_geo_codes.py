"""Codes: what is taken, how it is spelled afterwards, and what a wrong one is told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lalert.errors import InvalidCode
from lalert.geo import Gazetteer, check_digit, normalise_code
from lalert.resources import gazetteer_csv

SIX_DIGIT_CODES = [p.code for p in Gazetteer.from_csv(gazetteer_csv()).places() if len(p.code) == 6]


@pytest.mark.parametrize(
    ("code5", "digit"),
    [("01100", "2"), ("13101", "6"), ("22138", "4"), ("43000", "5"), ("43202", "4"), ("47382", "1")],
)
def test_check_digit_is_that_of_the_official_list(code5: str, digit: str) -> None:
    assert check_digit(code5) == digit


@pytest.mark.parametrize("text", ["", "1234", "123456", "4310x", "４３１００"])
def test_check_digit_refuses_all_but_five_digits(text: str) -> None:
    with pytest.raises(InvalidCode, match="five digits"):
        check_digit(text)


@pytest.mark.parametrize("text", ["43", "43000", "430005", " 43 ", "４３", "４３０００５"])
def test_a_prefecture_has_one_spelling(text: str) -> None:
    assert normalise_code(text) == "43"


@pytest.mark.parametrize("text", ["43202", "432024", "\t43202\n", "４３２０２"])
def test_a_municipality_has_one_spelling(text: str) -> None:
    assert normalise_code(text) == "432024"


def test_every_code_of_the_table_is_taken_with_and_without_its_check_digit() -> None:
    assert len(SIX_DIGIT_CODES) > 1900
    for code in SIX_DIGIT_CODES:
        assert normalise_code(code) == normalise_code(code[:5]) == code


def test_every_wrong_check_digit_of_every_code_is_refused_and_the_right_one_named() -> None:
    for code in SIX_DIGIT_CODES:
        for wrong in set("0123456789") - {code[5]}:
            with pytest.raises(InvalidCode) as refused:
                normalise_code(code[:5] + wrong)
            assert f"the check digit of {code[:5]} is {code[5]}, not {wrong}" in refused.value.detail


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a code"),
        ("4", r"was a leading zero lost \(04\)"),
        ("1100", r"was a leading zero lost \(01100\)"),
        ("11002", r"was a leading zero lost \(011002\)"),
        ("431", "is not a code"),
        ("4310011", "is not a code"),
        ("00", "no prefecture 00"),
        ("48", "no prefecture 48"),
        ("99100", "no prefecture 99"),
        ("4³", "is not a code"),
        ("-43", "is not a code"),
        ("熊本県", "is not a code"),
        ("x" * 10_000, "is not a code"),
    ],
)
def test_what_is_no_code_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidCode, match=reason) as refused:
        normalise_code(text)
    assert len(refused.value.detail) < 200


@settings(deadline=None)  # the machine may be busy
@given(st.one_of(st.text(max_size=8), st.from_regex(r"\A[0-9０-９]{1,7}\Z")))
def test_whatever_is_taken_is_spelled_so_that_it_is_taken_again(text: str) -> None:
    try:
        code = normalise_code(text)
    except InvalidCode:
        return
    assert len(code) in {2, 6}
    assert normalise_code(code) == code
