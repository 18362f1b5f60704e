"""The count at the end of a run, which closes CI's output, is the same however many processes ran the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import pytest

@pytest.mark.slow
def test_long(): ...

@pytest.mark.slow
def test_longer(): ...

@pytest.mark.skipif(True, reason="no river here")
def test_elsewhere(): ...

@pytest.mark.parametrize("n", range(3))
def test_short(n): ...

def test_wrong(): assert not 1
"""
SETTINGS = '[tool.pytest.ini_options]\naddopts = ["-m", "not slow"]\nmarkers = ["slow: long"]\n'


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_did_not_run_is_counted_with_its_reason(tmp_path: Path, workers: str) -> None:
    suite = tmp_path / "one" / "tests"
    suite.mkdir(parents=True)
    shutil.copy(Path(__file__).parents[1] / "conftest.py", suite)
    (suite / "test_few.py").write_text(SUITE)
    (suite.parent / "pyproject.toml").write_text(SETTINGS)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "xdist", "-n", workers]
    quickly = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(words, cwd=suite.parent, env=quickly, capture_output=True, text=True, check=False)
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED
    told = ran.stdout.partition("what ran")[2].splitlines()[1:4]
    assert told == [
        "3 passed, 1 failed, 3 did not run",
        "     2 x not selected by -m 'not slow'",
        "     1 x no river here",
    ]
