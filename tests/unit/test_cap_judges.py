"""Independent judges: two schema processors and a plain reading of the prose agree with us on every mutant, and we name rule and place."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from bench.judges import BY_SCHEMA, judged, libxml2, second
from fuzz.mutants import GOOD, mutant
from lalert import cap
from lalert.cap.grammar import NAMESPACES, XMLDSIG

EVERYTHING = (GOOD / "everything.xml").read_bytes()
VERSIONS = sorted(NAMESPACES.values())


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False))
def test_the_judges_agree_on_every_mutant(random: Random) -> None:
    verdicts = judged(mutant(random))
    assert not verdicts.fault, verdicts.document


def test_the_judges_agree_on_every_golden_document() -> None:
    judged_ones = 0
    for file in sorted(GOOD.parent.glob("*/*.xml")):
        raw = file.read_bytes()
        if cap.examine(raw).version:  # else it is no XML, forbidden, or of no version of CAP
            verdicts = judged(raw)
            assert not verdicts.fault, file.name
            judged_ones += 1
    assert judged_ones > 100


def judge_many(documents: int, seed: int) -> Counter[tuple[bool, bool]]:
    """Return how many documents (the schemas, we) accept; seeds make a fault that is found repeatable."""
    counts: Counter[tuple[bool, bool]] = Counter()
    for n in range(documents):
        verdicts = judged(mutant(Random(seed * 1_000_003 + n)))
        assert not verdicts.fault, f"python -m bench.judges {n + 1} {seed}: {verdicts.document!r}"
        counts[verdicts.libxml2, verdicts.ours] += 1
    return counts


def test_a_thousand_mutants_are_judged_alike_and_each_kind_of_verdict_is_among_them() -> None:
    counts = judge_many(1_000, seed=0)
    assert counts[True, True] > 200  # else the mutants are too wild to show a wrong refusal
    assert counts[True, False] > 40
    assert counts[False, False] > 400
    assert not counts[False, True]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(10, 14))
def test_twenty_thousand_mutants_are_judged_alike(seed: int) -> None:
    counts = judge_many(20_000, seed)
    print(dict(counts))
    assert counts.total() == 20_000


def _remove(root: etree._Element) -> None:
    root.remove(root[0])


def _sign_too_early(root: etree._Element) -> None:
    root.insert(len(root) - 1, etree.Element(f"{{{XMLDSIG}}}Signature"))


def _stray(root: etree._Element) -> None:
    root[0].tail = "x"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("change", [_remove, _sign_too_early, _stray])
def test_each_judge_refuses_what_is_plainly_wrong(
    change: Callable[[etree._Element], None], version: str
) -> None:
    root = etree.fromstring(EVERYTHING if version == "1.2" else (GOOD / f"{version}.xml").read_bytes())
    broken = copy.deepcopy(root)
    change(broken)
    for judge in (libxml2(version), second(version)):
        accepts = judge.validate if isinstance(judge, etree.XMLSchema) else judge.is_valid
        assert accepts(root)
        assert not accepts(broken)
    assert cap.examine(etree.tostring(root)).valid
    assert not cap.examine(etree.tostring(broken)).valid


def test_a_rule_of_the_prose_is_no_rule_of_the_schema() -> None:
    assert set(cap.RULES) > BY_SCHEMA
    verdicts = judged(EVERYTHING.replace(b"2026-07-04T14:20:00+09:00", b"2026-07-04T01:20:00+09:00"))
    assert verdicts.libxml2
    assert verdicts.xmlschema
    assert not verdicts.ours
    assert verdicts.reasons == {"CAP-EXPIRES-BEFORE"}
    assert not verdicts.fault
