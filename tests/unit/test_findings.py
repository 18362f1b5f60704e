"""One place knows every rule that a finding can carry, and everything that explains rules agrees with it."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from lalert.cap import Rule
from lalert.errors import ProblemSeverity
from lalert.findings import HUB, RULES, TABLES

ROOT = Path(__file__).parents[2]
_ID = re.compile(r"\"((?:" + "|".join(table.prefix for table in TABLES) + r")[A-Z0-9]+(?:-[A-Z0-9]+)*)\"")


def test_every_rule_that_the_code_names_is_in_a_table() -> None:
    named = {
        (found, source.name)
        for source in (ROOT / "lalert").rglob("*.py")
        if "testing" not in source.parts
        for found in _ID.findall(source.read_text(encoding="utf-8"))
    }
    assert {(found, where) for found, where in named if found not in RULES} == set()


def test_every_rule_that_is_made_is_in_a_registered_table() -> None:
    made = {
        id
        for source in (ROOT / "lalert").rglob("*.py")
        for id in re.findall(r"\bRule\(\s*\"([^\"]+)\"", source.read_text(encoding="utf-8"))
    }
    assert made == set(RULES)


def test_no_two_tables_know_the_same_rule_and_each_rule_is_of_its_table() -> None:
    assert len(RULES) == sum(len(table.rules) for table in TABLES)
    assert [id for table in TABLES for id in table.rules if not id.startswith(table.prefix)] == []


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_a_rule_speaks_both_languages_and_says_what_to_do(rule: Rule) -> None:
    assert all((rule.clause, rule.message, rule.message_ja, rule.help, rule.help_ja))
    assert re.search(r"[ぁ-ん]", rule.message_ja)
    assert re.search(r"[ぁ-ん]", rule.help_ja)
    places, places_ja = (
        {name for _, name, _, _ in string.Formatter().parse(text) if name}
        for text in (rule.message, rule.message_ja)
    )
    assert {name.removesuffix("_ja") for name in places_ja} <= places


def test_docs_list_exactly_the_findings_of_the_hub() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert dict(re.findall(r'^\| <a id="(HUB-[A-Z-]+)"></a>`\1` \| (\w+) \|', text, re.MULTILINE)) == {
        rule.id: rule.severity.value for rule in HUB.values()
    }


def test_every_rule_has_a_row_in_the_documentation() -> None:
    rows = "\n".join(
        line
        for page in (ROOT / "docs").glob("*.md")
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    )
    assert [id for id in RULES if f"`{id}`" not in rows] == []


def test_a_finding_is_its_rule_with_the_places_filled() -> None:
    found = HUB["HUB-SENT-FUTURE"].finding("/alert/sent", 7, minutes="6", now="2026-07-04T02:20:00+00:00")
    assert (found.rule, found.severity, found.path, found.line) == (
        "HUB-SENT-FUTURE",
        ProblemSeverity.ERROR,
        "/alert/sent",
        7,
    )
    assert found.message == "sent is 6 minutes ahead of the hub's clock (2026-07-04T02:20:00+00:00)"
    assert "6分先" in found.message_ja
    assert found.help_ja
