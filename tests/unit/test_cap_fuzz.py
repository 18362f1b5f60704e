"""Whatever is thrown at the reader, it answers: quickly, completely, and so that a valid alert stays one. `make fuzz` goes on for longer."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.examine import document
from fuzz.invariants import broken
from fuzz.mutants import garbled, mutant

FOUND = sorted((Path(__file__).parents[1] / "data" / "fuzz").iterdir())
QUICK = settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("file", FOUND, ids=lambda file: file.name)
def test_what_a_fuzzer_once_found_is_found_no_more(file: Path) -> None:
    assert not broken(file.read_bytes())


@QUICK
@given(st.randoms(use_true_random=False))
def test_every_mutant_is_answered(random: Random) -> None:
    assert not broken(mutant(random))


@QUICK
@given(st.randoms(use_true_random=False))
def test_every_damaged_document_is_answered(random: Random) -> None:
    assert not broken(garbled(random))


@QUICK
@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_answered(data: bytes) -> None:
    assert not broken(document(data))


@pytest.mark.parametrize("draw", [mutant, garbled])
def test_five_hundred_documents_by_seed_are_answered(draw: object) -> None:
    for seed in range(500):
        raw = mutant(Random(seed)) if draw is mutant else garbled(Random(seed))
        assert not broken(raw), seed


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(1_000_000, 1_040_000, 10_000))
def test_forty_thousand_documents_by_seed_are_answered(first: int) -> None:
    for seed in range(first, first + 10_000):
        assert not broken((garbled if seed % 2 else mutant)(Random(seed))), seed
