"""What a validator of CAP has to know, claim by claim: tests/data/cap/claims.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lalert import cap
from lalert.errors import ProblemSeverity

DATA = Path(__file__).parents[1] / "data" / "cap"
CLAIMS: Sequence[dict[str, Any]] = tomllib.loads((DATA / "claims.toml").read_text(encoding="utf-8"))["claim"]


def document(claim: dict[str, Any]) -> bytes:
    text = (DATA / "good" / f"{claim.get('base', 'evacuation-order')}.xml").read_text(encoding="utf-8")
    for old, new in claim["change"]:
        assert old in text, f"{claim['says']}: {old!r} is not in the document"
        text = text.replace(old, new)
    if prefix := claim.get("prefix"):
        text = re.sub(r"<(/?)(?=[a-zA-Z])", rf"<\1{prefix}:", text)
    return text.encode(claim.get("encoding", "utf-8"), "xmlcharrefreplace")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim["says"])
def test_every_bad_document_is_caught_and_no_good_one_refused(claim: dict[str, Any]) -> None:
    report = cap.examine(document(claim))
    errors = {p.rule for p in report.problems if p.severity is ProblemSeverity.ERROR}
    remarks = {p.rule for p in report.problems if p.severity is not ProblemSeverity.ERROR}
    assert errors == set(claim.get("errors", [])), report.problems
    assert report.valid == (not errors)
    assert remarks >= set(claim.get("remarks", [])), report.problems


def test_no_claim_is_made_twice_or_without_effect() -> None:
    names = [claim["says"] for claim in CLAIMS]
    assert len(names) == len(set(names))
    assert {name for claim in CLAIMS for name in claim} <= {
        *("says", "base", "change", "errors", "remarks", "after", "encoding", "prefix")
    }
    assert {
        rule for claim in CLAIMS for rule in (*claim.get("errors", []), *claim.get("remarks", []))
    } <= set(cap.RULES)
    good = {file.stem: file.read_bytes() for file in (DATA / "good").glob("*.xml")}
    for claim in CLAIMS:
        assert document(claim) != good[claim.get("base", "evacuation-order")], claim["says"]
