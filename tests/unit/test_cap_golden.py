"""Every golden document gets exactly the findings that stand beside it: severity, rule, place and line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lalert import cap
from lalert.errors import InvalidAlert, NotXml, ProblemSeverity

DATA = Path(__file__).parents[1] / "data" / "cap"
GOOD = sorted((DATA / "good").glob("*.xml"))
BAD = sorted((DATA / "bad").glob("*.xml"))
ODD = sorted((DATA / "odd").glob("*.xml"))

# Judged by tests of their own, because a file for them would be a megabyte, cannot be made at all, or needs to know whom to trust.
WITHOUT_FILE = {
    "CAP-XML-SIZE",
    "CAP-XML-ENCODING",
    "CAP-XML-LIMIT",
    "CAP-LIMIT",
    "CAP-SCHEMA",
    "CAP-TOO-MANY",
    "CAP-SIGNATURE-MISSING",
    "CAP-SIGNATURE-FORM",
    "CAP-SIGNATURE-WEAK",
    "CAP-SIGNATURE-UNTRUSTED",
    "CAP-SIGNATURE-EXPIRED",
    "CAP-SIGNATURE-BROKEN",
}


def findings(report: cap.Report) -> str:
    """Return a line for each finding; `~` marks an error that a tolerant policy forgives."""
    return "".join(
        f"{p.severity} {p.rule} {p.path} {p.line}{' ~' if p.repair else ''}\n" for p in report.problems
    )


def expected(file: Path) -> str:
    return file.with_suffix(".expected").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_a_good_document_is_valid_and_has_no_findings(file: Path) -> None:
    report = cap.examine(file.read_bytes())
    assert findings(report) == ""
    assert report.valid


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_a_bad_document_is_refused_for_exactly_what_is_wrong_with_it(file: Path) -> None:
    report = cap.examine(file.read_bytes())
    assert findings(report) == expected(file)
    assert not report.valid
    errors = [problem for problem in report.problems if problem.severity is ProblemSeverity.ERROR]
    assert (report.alert is not None) == all(problem.repair for problem in errors)
    assert report.alert is None or report.alert.defects == report.problems
    with pytest.raises((InvalidAlert, NotXml)):
        cap.parse(file.read_bytes())


@pytest.mark.parametrize("file", ODD, ids=lambda file: file.stem)
def test_an_odd_document_is_valid_and_keeps_its_findings_as_defects(file: Path) -> None:
    report = cap.examine(file.read_bytes())
    assert findings(report) == expected(file)
    assert report.alert is not None
    assert report.alert.defects == report.problems


@pytest.mark.parametrize("file", [*BAD, *ODD], ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_message_is_filled_in_and_there_in_both_languages(file: Path) -> None:
    for problem in cap.examine(file.read_bytes()).problems:
        assert "{" not in problem.message + problem.message_ja + problem.help + problem.repair
        assert bool(problem.repair) == bool(problem.repair_ja)
        assert problem.message
        assert not problem.message.endswith(".")
        assert any("\u3040" <= character <= "\u30ff" for character in problem.message_ja)
        if problem.rule not in {"CAP-XML-FORM", "CAP-SCHEMA"}:  # whose reasons are those of libxml2
            words = re.sub(r'"[^"]*"|<[^>]*>', "", problem.message_ja)
            assert not re.search(r"[a-z]{2,} [a-z]{2,}", words), problem.message_ja
        assert problem.help


def test_every_rule_has_a_golden_document() -> None:
    shown = {line.split()[1] for file in (*BAD, *ODD) for line in expected(file).splitlines()}
    assert shown == set(cap.RULES) - WITHOUT_FILE
