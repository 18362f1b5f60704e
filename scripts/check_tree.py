"""Refuse what must never be committed: a package registry's host name, or a path of the machine it was written on.

A committed registry host sends every clone to that host, and a lock file without one works behind any mirror; a path
of one machine works nowhere else. Looks at what git tracks or would add, so that it finds a fault before the commit does.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Put together here, so that this file does not find itself.
REGISTRY_HOSTS = tuple(
    ".".join(labels)
    for labels in (
        ("registry", "npmjs"),
        ("registry", "yarnpkg"),
        ("files", "pythonhosted"),
        ("test", "pypi", "org"),
        ("pypi", "org/simple"),
        ("deb", "debian", "org"),
        ("archive", "ubuntu", "com"),
    )
)
# In requirements/*.txt every option but --hash leads to a particular host or machine.
_LOCK_OPTION = re.compile(r"^\s*(?!--hash=)(--?[a-z][\w-]*|\S+ @ \S+)", re.MULTILINE)


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    faults = [
        fault for path in listed(root) for fault in check(path, path.read_bytes(), forbidden(root), root)
    ]
    print(*faults, sep="\n") if faults else print("tree: no registry host and no path of this machine")
    return 1 if faults else 0


def listed(root: Path) -> list[Path]:
    """Return the files that git tracks or would add."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout.split(b"\0")
    paths = (root / name.decode() for name in names if name)
    return [path for path in paths if path.is_file()]


def forbidden(root: Path) -> list[re.Pattern[str]]:
    """Return patterns of registry hosts, of this checkout's path and of the home folder's, each ending where a word does."""
    # A checkout right below / (a container's /app) says nothing about a machine, and Dockerfiles name such paths.
    machine = {str(Path.home()), *([str(root)] if len(root.parts) > 2 else [])} - {"/"}
    folders = [rf"(?<![\w.~-]){re.escape(path)}(?![\w-])" for path in machine]
    return [re.compile(pattern) for pattern in [*map(re.escape, REGISTRY_HOSTS), *folders]]


def check(path: Path, data: bytes, patterns: list[re.Pattern[str]], root: Path) -> Iterator[str]:
    """Yield `path:line: ...` for each finding; a file with a NUL byte is not text and is passed over."""
    if b"\0" in data:
        return
    text = data.decode("utf-8", errors="replace")
    name = path.relative_to(root).as_posix()
    found = [
        (match, "registry host or path of a machine")
        for pattern in patterns
        for match in pattern.finditer(text)
    ]
    if name.startswith("requirements/"):
        found += [(match, "a lock names packages and hashes only") for match in _LOCK_OPTION.finditer(text)]
    for match, why in found:
        line = text.count("\n", 0, match.end()) + 1
        yield f"{name}:{line}: {match[0].strip()}: {why}"


if __name__ == "__main__":
    sys.exit(main())
