"""Check the change fragments in changes/, or gather them into CHANGELOG.md for a release.

A fragment is `changes/<issue>.<added|changed|fixed|security>.md`: one or two sentences in the past tense. Being one file for
each issue and kind, fragments of parallel work do not conflict.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("security", "added", "changed", "fixed")
MARK = "<!-- releases below, newest first -->\n"
MAX_CHARACTERS = 600
_NAME = re.compile(rf"([1-9]\d*)\.({'|'.join(KINDS)})\.md")


@dataclass(frozen=True, slots=True)
class Fragment:
    path: Path
    issue: int
    kind: str
    text: str


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="exit 1 if a fragment is malformed")
    release = commands.add_parser("release", help="move the fragments into CHANGELOG.md")
    release.add_argument("version")
    release.add_argument("--date", type=date.fromisoformat, help="YYYY-MM-DD, default today")
    options = parser.parse_args(argv)
    faults = list(check(ROOT / "changes"))
    if faults:
        print(*faults, sep="\n", file=sys.stderr)
        return 1
    fragments = read(ROOT / "changes")
    if options.command == "check":
        print(f"change fragments: {len(fragments)} well-formed")
        return 0
    changelog = ROOT / "CHANGELOG.md"
    day = options.date or datetime.now().astimezone().date()
    try:
        text = released(changelog.read_text(encoding="utf-8"), options.version, day, fragments)
    except ValueError as error:
        sys.exit(str(error))
    changelog.write_text(text, encoding="utf-8")
    for fragment in fragments:
        fragment.path.unlink()
    print(f"CHANGELOG.md: {options.version} with {len(fragments)} changes")
    return 0


def check(folder: Path) -> Iterator[str]:
    """Yield a sentence for each malformed fragment."""
    for path in candidates(folder):
        text = path.read_text(encoding="utf-8")
        if not _NAME.fullmatch(path.name):
            yield f"changes/{path.name}: call it <issue>.<{'|'.join(KINDS)}>.md"
        elif not text.strip():
            yield f"changes/{path.name}: empty; write one or two sentences in the past tense"
        elif len(text) > MAX_CHARACTERS:
            yield f"changes/{path.name}: {len(text)} characters; {MAX_CHARACTERS} are enough, the rest belongs into docs/"
        elif text.lstrip().startswith(("#", "-", "*")):
            yield f"changes/{path.name}: plain sentences, no heading and no list mark"
        elif not text.endswith("\n"):
            yield f"changes/{path.name}: end the last line"


def read(folder: Path) -> list[Fragment]:
    """Return the fragments by kind (security first), then by issue."""
    found = []
    for path in candidates(folder):
        if match := _NAME.fullmatch(path.name):
            text = " ".join(path.read_text(encoding="utf-8").split())
            found.append(Fragment(path, int(match[1]), match[2], text))
    return sorted(found, key=lambda fragment: (KINDS.index(fragment.kind), fragment.issue))


def candidates(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name != "README.md" and not p.name.startswith("."))


def released(changelog: str, version: str, day: date, fragments: list[Fragment]) -> str:
    """Return the changelog with a section for this release on top; ValueError if there is nothing or no place for it."""
    if not fragments:
        raise ValueError("changes/ holds no fragment: nothing to release")
    if MARK not in changelog or f"## {version} (" in changelog:
        raise ValueError(f"CHANGELOG.md lacks its mark, or has {version} already")
    section = [f"\n## {version} ({day.isoformat()})\n"]
    for kind in KINDS:
        of_kind = [fragment for fragment in fragments if fragment.kind == kind]
        if of_kind:
            section.append(f"\n### {kind.capitalize()}\n\n")
            section += [f"- {fragment.text} (#{fragment.issue})\n" for fragment in of_kind]
    head, mark, rest = changelog.partition(MARK)
    return head + mark + "".join(section) + rest


if __name__ == "__main__":
    sys.exit(main())
