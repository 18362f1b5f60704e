"""What the embedded store has promised is there after `kill -9`, exactly once."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.promises import Promised, check

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1])
async def test_everything_promised_before_a_kill_is_there_exactly_once(tmp_path: Path, seed: int) -> None:
    await kill_and_check(tmp_path / "data" / "lalert.db", random.Random(seed), runs=5)


async def kill_and_check(path: Path, chance: random.Random, runs: int) -> Promised:
    promised = Promised()
    for _ in range(runs):
        write_and_die(path, promised, after=chance.randint(1, 400))
        await check(path, promised)
    assert len(promised.alerts) > runs * 20
    return promised


def write_and_die(path: Path, promised: Promised, after: int) -> None:
    """Let a process write until it has made so many promises, and kill it there."""
    command = [sys.executable, "-m", "tests.system.store_under_fire", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(after):
            promised.take(*process.stdout.readline().split())
        process.kill()
        rest = process.stdout.read()
    assert process.returncode == -9
    # A line without its end was cut off by the kill: nobody has been told.
    for line in rest.splitlines(keepends=True):
        if line.endswith("\n"):
            promised.take(*line.split())
