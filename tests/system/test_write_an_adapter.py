"""The page for whoever writes an adapter, followed word for word: its files are built, installed, tested, and found by a hub."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "write-an-adapter.md"
FILES = re.compile(r"^`(?P<name>[\w.]+)`\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
CONFIGURATION = re.compile(r"^```toml\n(\[adapters\..*?)^```$", re.MULTILINE | re.DOTALL)
MOST_LINES = 50


def files() -> dict[str, str]:
    return {match["name"]: match["text"] for match in FILES.finditer(PAGE.read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package of the page is installed in, with its test beside it."""
    package = tmp_path_factory.mktemp("package")
    for name, text in files().items():
        (package / name).write_text(text, encoding="utf-8")
    run("-m", "build", "--no-isolation", "--wheel", "--outdir", "dist", ".", cwd=package)
    [wheel] = (package / "dist").glob("*.whl")
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / "test_signboard.py").write_text(files()["test_signboard.py"], encoding="utf-8")
    return site


def run(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    found = os.pathsep.join(map(str, filter(None, (path, ROOT, ROOT / "adapters"))))
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": found},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_whole_package_has_at_most_fifty_lines() -> None:
    assert set(files()) == {"pyproject.toml", "lalert_signboard.py", "test_signboard.py"}
    lines = [line for text in files().values() for line in text.splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES


def test_its_suite_passes(site: Path) -> None:
    said = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", cwd=site, path=site)
    passed = re.search(r"^(\d+) passed", said, re.MULTILINE)
    assert passed, said
    assert int(passed[1]) >= 15, said


def test_a_hub_takes_its_block_of_the_configuration(site: Path, tmp_path: Path) -> None:
    [block] = CONFIGURATION.findall(PAGE.read_text(encoding="utf-8"))
    (tmp_path / "lalert.toml").write_text(block, encoding="utf-8")
    said = run("-m", "lalert", "check-config", "lalert.toml", cwd=tmp_path, path=site)
    assert "sign" in said, said
