"""Write requirements/*.txt: every package pinned with the hashes of all its files, for all supported Pythons and platforms at once.

Resolved once on each supported Python with pip-tools. The lowest decides the versions, which hold for all; what only some need
gets a marker. The result names no registry host, no option and no path, so it works behind any mirror.
`lock.py` keeps the pins that still fit, `lock.py --upgrade` takes the newest of everything.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
PYTHONS = ("3.11", "3.12", "3.13")
LOCKS = ("build", "lock", "runtime", "dev")  # dev after runtime: it takes over those pins
COMPILE = (
    *("--quiet", "--allow-unsafe", "--strip-extras", "--no-config", "--no-header", "--no-annotate"),
    *("--no-emit-options", "--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links"),
)
# What only an early patch level asks for, and so none of the interpreters above (Debian 12 has 3.11.2; redis needs this there).
MARKED = {"async-timeout": 'python_full_version < "3.11.3"'}
HEAD = "# Written by `make lock`; do not edit. Install with: pip install --require-hashes\n"
_BLOCK = re.compile(r"^(?=[a-z0-9])", re.MULTILINE | re.IGNORECASE)
_PIN = re.compile(r"(?P<pin>[\w.-]+==[^\s;]+)[^\n]*\n")

Blocks = dict[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    upgrade = parser.parse_args().upgrade
    with tempfile.TemporaryDirectory() as folder:
        tools = {version: pip_tools(version, Path(folder)) for version in PYTHONS}
        for lock in LOCKS:
            by_python = resolve_everywhere(lock, tools, Path(folder), keep=not upgrade)
            (REQUIREMENTS / f"{lock}.txt").write_text(HEAD + merged(by_python), encoding="utf-8")
            print(f"requirements/{lock}.txt: {len(by_python[PYTHONS[0]])} packages", flush=True)
    return 0


def pip_tools(version: str, folder: Path) -> Path:
    """Return the interpreter of a new environment with pip-tools; end the program where that Python is not installed."""
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", ""], check=False, capture_output=True).returncode:
        sys.exit(f"python{version} is not on the PATH: a lock is resolved on each of {', '.join(PYTHONS)}")
    subprocess.run([python, "-m", "venv", folder / version], check=True)
    inside = folder / version / "bin" / "python"
    locked = REQUIREMENTS / "lock.txt"
    source = (
        ["--require-hashes", "-r", str(locked)] if locked.exists() else ["-r", str(REQUIREMENTS / "lock.in")]
    )
    subprocess.run([str(inside), "-m", "pip", "install", "--quiet", *source], check=True)
    return inside


def wanted(lock: str) -> list[str]:
    """Return the requirements to resolve: pyproject.toml is their one source where they are the package's own."""
    if lock in {"build", "lock"}:
        return (REQUIREMENTS / f"{lock}.in").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *MARKED, *(in_extra("dev", extras) if lock == "dev" else [])]


def in_extra(name: str, extras: dict[str, list[str]]) -> list[str]:
    """Return what an extra asks for, with that of the extras that it names as `lalert[a,b]`."""
    lines: list[str] = []
    for line in extras[name]:
        own = re.fullmatch(r"lalert\[(.+)\]", line)
        lines += [found for one in own[1].split(",") for found in in_extra(one, extras)] if own else [line]
    return lines


def resolve_everywhere(lock: str, tools: dict[str, Path], folder: Path, *, keep: bool) -> dict[str, Blocks]:
    """Return for each Python what it needs; hashes belong to a release, so they are fetched once and not on every Python."""
    source, target = folder / f"{lock}.in", folder / f"{lock}.txt"
    source.write_text("\n".join(wanted(lock)) + "\n", encoding="utf-8")
    current = REQUIREMENTS / target.name
    if keep and current.exists():
        shutil.copy(current, target)
    lowest, *others = PYTHONS
    bound = list(blocks(REQUIREMENTS / "runtime.txt")) if lock == "dev" else []
    by_python = {lowest: resolve(tools[lowest], source, bound)}
    for version in others:
        known = by_python[lowest]
        pins = resolve(tools[version], source, [*known], hashes=False)
        if pins.keys() <= known.keys():
            by_python[version] = {pin: known[pin] for pin in pins}
        else:
            by_python[version] = resolve(tools[version], source, [*known])
    return by_python


def resolve(python: Path, source: Path, constraints: list[str], *, hashes: bool = True) -> Blocks:
    """Return pin -> its block of the lock file, as one Python resolves it within the constraints."""
    target = source.with_suffix(".txt")
    bound = source.with_name("constraints.txt")
    bound.write_text("\n".join(constraints) + "\n", encoding="utf-8")
    command = [str(python), "-m", "piptools", "compile", *COMPILE, *(["--generate-hashes"] if hashes else [])]
    command += ["--constraint", bound.name, "--output-file", target.name, source.name]
    subprocess.run(command, check=True, cwd=source.parent)
    return blocks(target)


def blocks(path: Path) -> Blocks:
    """Return `name==version` -> its hash lines; everything that is neither is dropped."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(
        line for line in lines if not line.lstrip().startswith(("#", "--index", "--extra", "--find"))
    )
    found = {}
    for block in filter(str.strip, _BLOCK.split(text)):
        match = _PIN.match(block)
        if match is None:
            sys.exit(f"{path.name}: no pin: {block.strip()}")
        found[match["pin"]] = block[match.end() :].rstrip("\n") + "\n"
    return found


def merged(by_python: dict[str, Blocks]) -> str:
    """Return one lock file for all; a pin that some Pythons do not need is marked with those that do."""
    everything = {pin: block for found in by_python.values() for pin, block in found.items()}
    lines = []
    for pin in sorted(everything):
        users = [version for version, found in by_python.items() if pin in found]
        needed = " or ".join(f'python_version == "{version}"' for version in users)
        marker = MARKED.get(pin.partition("==")[0]) or ("" if len(users) == len(by_python) else needed)
        lines.append(f"{pin}{' ; ' if marker else ''}{marker} \\\n{everything[pin]}")
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
