"""The audit chain finds whatever is done to it, and names the first line to which it was done."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lalert.model import OriginKind
from lalert.store.audit import (
    EMPTY,
    HUB,
    LOCAL,
    NOBODY,
    Accepted,
    Action,
    Document,
    Fault,
    Flaw,
    Head,
    KeptLine,
    Note,
    actor_of,
    chained,
    decode,
    encode,
    link,
    network_of,
    verify,
)

NOW = datetime(2026, 6, 1, 1, 2, 3, 45678, tzinfo=UTC)
LENGTH = 7


def made(length: int = LENGTH, word: str = "subject") -> list[KeptLine]:
    notes = [
        Note(NOW + timedelta(seconds=n), HUB, Action.SENT, f"{word} {n}", "hitoyoshi", {"delivered": n})
        for n in range(length)
    ]
    return chained(EMPTY, notes)


CHAIN = made()
HEAD = CHAIN[-1].head
places = st.integers(0, LENGTH - 1)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def test_a_sound_chain_has_no_fault() -> None:
    assert verify(CHAIN) is None
    assert verify(CHAIN, [line.head for line in CHAIN] + [EMPTY, Head(None, CHAIN[2].hash)]) is None
    assert verify([], [EMPTY]) is None
    assert chained(CHAIN[2].head, []) == []


def test_every_single_bit_of_a_text_or_hash_is_found_at_its_line() -> None:
    for place, line in enumerate(CHAIN):
        for bit in range(len(line.text) * 8):
            bad = [*CHAIN[:place], replace(line, text=flipped(line.text, bit)), *CHAIN[place + 1 :]]
            fault = verify(bad)
            assert fault is not None
            assert fault.number == place + 1
        for bit in range(len(line.hash) * 8):
            bad = [*CHAIN[:place], replace(line, hash=flipped(line.hash, bit)), *CHAIN[place + 1 :]]
            assert verify(bad) == Fault(place + 1, Flaw.CHANGED)


@given(places, st.integers(0, 62))
def test_a_bit_of_a_number_is_found_at_its_line(place: int, bit: int) -> None:
    line = CHAIN[place]
    bad = [*CHAIN[:place], replace(line, number=line.number ^ (1 << bit)), *CHAIN[place + 1 :]]
    fault = verify(bad)
    assert fault is not None
    assert fault.number == place + 1


@given(places, st.integers(1, LENGTH))
def test_lines_taken_out_are_missed_at_the_first_of_them(place: int, many: int) -> None:
    left = [*CHAIN[:place], *CHAIN[place + many :]]
    at_the_end = place + many >= LENGTH
    assert verify(left, [HEAD]) == Fault(place + 1, Flaw.CUT_OFF if at_the_end else Flaw.MISSING)
    assert verify(left, [Head(None, HEAD.hash)]) == verify(left, [HEAD])
    assert (verify(left) is None) == at_the_end


@given(places, places)
def test_two_lines_that_changed_places_are_out_of_order_at_the_first(one: int, other: int) -> None:
    first, second = sorted((one, other))
    bad = list(CHAIN)
    bad[first], bad[second] = bad[second], bad[first]
    renumbered = [replace(line, number=number) for number, line in enumerate(bad, 1)]
    fault = None if first == second else Fault(first + 1, Flaw.OUT_OF_ORDER)
    assert verify(bad) == fault
    assert verify(renumbered) == fault


@given(places, places)
def test_a_line_put_in_is_found_where_it_stands(place: int, copied: int) -> None:
    stranger = replace(CHAIN[copied], number=place + 1)
    if copied == place:
        stranger = replace(stranger, text=encode(place + 1, Note(NOW, LOCAL, Action.KEY_CREATED, "key-9")))
    bad = [*CHAIN[:place], stranger, *CHAIN[place:]]
    for chain in (bad, [replace(line, number=number) for number, line in enumerate(bad, 1)]):
        fault = verify(chain)
        assert fault is not None
        assert fault.number == place + 1


def test_a_line_forged_with_its_right_hash_is_found_where_the_next_one_does_not_fit() -> None:
    [forged] = chained(CHAIN[2].head, [Note(NOW, LOCAL, Action.KEY_CREATED, "key-9")])
    assert verify([*CHAIN[:3], forged, *CHAIN[4:]]) == Fault(5, Flaw.CHANGED)


def test_a_chain_that_was_made_anew_is_found_by_a_head_that_was_kept_outside() -> None:
    other = made(word="another")
    assert verify(other) is None
    assert verify(other, [CHAIN[3].head]) == Fault(4, Flaw.REWRITTEN)
    assert verify(other, [Head(None, CHAIN[3].hash)]) == Fault(LENGTH + 1, Flaw.CUT_OFF)
    assert verify(CHAIN, [Head(0, CHAIN[0].hash)]) == Fault(1, Flaw.REWRITTEN)
    assert verify(CHAIN, [CHAIN[3].head, replace(CHAIN[3].head, hash=bytes(32))]) == Fault(4, Flaw.REWRITTEN)


def test_of_a_document_that_came_again_the_newest_line_counts() -> None:
    def accepted(alert: str, sha256: bytes) -> Note:
        return Note(NOW, HUB, Action.ACCEPTED, alert, "o", {"sha256": sha256.hex()})

    lines = chained(EMPTY, [accepted("a", b"1"), accepted("b", b"2"), accepted("a", b"3")])
    known = Accepted()
    for line in [*lines, *CHAIN, KeptLine(9, b"\xff", b""), *chained(EMPTY, [accepted("c", b"")])]:
        known.take(line)
    assert known.fault(Document("e-1", "a", b"3")) is known.fault(Document("e-2", "b", b"2")) is None
    assert known.fault(Document("e-1", "a", b"1")) == Fault(3, Flaw.DOCUMENT, "a")
    assert known.fault(Document("e-3", "d", b"1")) == Fault(0, Flaw.UNKNOWN, "d")


def test_a_text_is_canonical_and_read_back() -> None:
    note = Note(NOW, LOCAL, Action.ORG_CHANGED, "人吉", "hitoyoshi", {"b": ["x"], "a": None, "c": True})
    text = encode(3, note)
    assert text == encode(3, replace(note, details={"c": True, "a": None, "b": ["x"]}))
    assert b" " not in text
    line = decode(text)
    assert (line.number, line.time, line.subject, line.details) == (3, NOW, "人吉", dict(note.details))
    assert (
        decode(encode(1, replace(note, subject="a\udcff", details={"f": "\udc80", "l": ["\udc81"]}))).subject
        == "a?"
    )


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b'{"number": "x"}', b"\xff", b"1"])
def test_what_is_no_line_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match="no line"):
        decode(text)


def test_a_head_is_read_as_it_is_written() -> None:
    assert Head.parse(str(HEAD)) == HEAD
    assert Head.parse(HEAD.hash.hex().upper()) == Head(None, HEAD.hash)
    for wrong in ("", "7:", f"-1:{HEAD.hash.hex()}", f"７:{HEAD.hash.hex()}", HEAD.hash.hex()[:-1]):
        with pytest.raises(ValueError, match="no head"):
            Head.parse(wrong)


def test_of_an_address_only_the_network_is_kept() -> None:
    assert network_of("192.0.2.77") == "192.0.2.0/24"
    assert network_of("::ffff:192.0.2.77") == "192.0.2.0/24"
    assert network_of("2001:db8:1:2:3::4") == "2001:db8:1::/48"
    assert network_of("fe80::1%eth0") == "fe80::/48"
    assert network_of(None) is network_of("gauge-3") is network_of("") is None


def test_who_did_it_is_told_by_the_origin() -> None:
    assert str(actor_of(OriginKind.HTTP, "key-1", "192.0.2.1")) == "key:key-1"
    assert str(actor_of(OriginKind.SENSOR, None, "g1")) == "station:g1"
    assert str(actor_of(OriginKind.ADAPTER, None, "mqtt")) == "adapter:mqtt"
    assert actor_of(OriginKind.HTTP, None, None) == actor_of("of a later version", None, None) == NOBODY


def test_the_hash_is_sha256_of_the_hash_before_and_the_text() -> None:
    # Fixed for good: whoever has kept a head must be able to check it with a later version.
    expected = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
    assert link(b"hello ", b"world").hex() == expected
