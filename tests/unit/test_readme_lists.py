"""What the README lists is what there is: the commands, the channels, and the tests that show its promises."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest

from lalert.cli import main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_is_named() -> None:
    section = README.partition("## The command line")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(?:lalert )?([a-z][a-z-]*)`", section))
    assert isinstance(main, click.Group)
    assert named == set(main.list_commands(click.Context(main)))


def test_every_adapter_has_a_page_and_the_readme_leads_to_it() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    for name in points["lalert.adapters"]:
        page = f"docs/adapters/{name.replace('_', '-')}.md"
        assert (ROOT / page).is_file() or (ROOT / f"docs/adapters/{name}.md").is_file(), page
        assert page in README or f"docs/adapters/{name}.md" in README, page


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"\b(?:tests|docs|schemas|examples)/[\w./-]+\w", README)))
)
def test_what_the_readme_points_to_is_there(path: str) -> None:
    assert (ROOT / path).exists()
