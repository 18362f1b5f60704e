"""What concerns every test: those that need data outside the project, and the count of what did not run and why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# How long an example takes is the machine's matter; what must be fast has a benchmark.
settings.register_profile("lalert", deadline=None)
settings.load_profile("lalert")

DESELECTED = pytest.StashKey[int]()
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHARED.is_dir():
        return
    absent = pytest.mark.skip(reason="needs ../shared/data (not part of the project)")
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(absent)


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count for the process that writes the summary: with workers, it collects nothing itself, and all workers collect the same."""
    if items and (told := getattr(items[0].config, "workeroutput", None)) is not None:
        told["deselected"] = told.get("deselected", 0) + len(items)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    told = getattr(node, "workeroutput", {})
    node.config.stash[DESELECTED] = max(node.config.stash.get(DESELECTED, 0), told.get("deselected", 0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many tests passed and, for each reason, how many did not run: a green line alone hides what was left out."""
    stats = terminalreporter.stats
    reasons = Counter(skip_reason(report) for report in stats.get("skipped", ()))
    if deselected := len(stats.get("deselected", ())) or config.stash.get(DESELECTED, 0):
        selection = f"-m {config.option.markexpr!r} {config.option.keyword}".rstrip()
        reasons[f"not selected by {selection}"] = deselected
    terminalreporter.section("what ran")
    passed, failed = (len(stats.get(name, ())) for name in ("passed", "failed"))
    terminalreporter.line(f"{passed} passed, {failed} failed, {reasons.total()} did not run")
    for reason, number in reasons.most_common():
        terminalreporter.line(f"{number:6} x {reason}")


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the reason of a skip; pytest keeps (path, line, "Skipped: reason")."""
    return report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else "?"
