"""What the embedded store has promised is there after `kill -9`, exactly once."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest

from lalert.clock import SystemClock
from lalert.store.sqlite import SqliteStore
from lalert.testing import revive
from lalert.testing.store import ignore

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Promised:
    """What the killed processes have said, all runs together."""

    alerts: dict[str, str] = field(default_factory=dict)
    cursors: list[str] = field(default_factory=list)
    readings: set[int] = field(default_factory=set)
    note: int = 0

    def take(self, line: str) -> None:
        kind, *words = line.split()
        match kind:
            case "alert":
                assert words[0] not in self.alerts
                self.alerts[words[0]] = words[1]
            case "cursor":
                self.cursors.append(words[0])
            case "reading":
                self.readings.add(int(words[0]))
            case "note":
                self.note = int(words[0])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1])
async def test_everything_promised_before_a_kill_is_there_exactly_once(tmp_path: Path, seed: int) -> None:
    await kill_and_check(tmp_path / "data" / "lalert.db", random.Random(seed), runs=5)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_everything_promised_before_two_hundred_kills_is_there_exactly_once(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    await kill_and_check(tmp_path / "data" / "lalert.db", random.Random(seed), runs=200)


async def kill_and_check(path: Path, chance: random.Random, runs: int) -> None:
    promised = Promised()
    for _ in range(runs):
        write_and_die(path, promised, after=chance.randint(1, 400))
        await check(path, promised)
    assert len(promised.alerts) > runs * 20


def write_and_die(path: Path, promised: Promised, after: int) -> None:
    """Let a process write until it has made so many promises, and kill it there."""
    command = [sys.executable, "-m", "tests.system.store_under_fire", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(after):
            promised.take(process.stdout.readline())
        process.kill()
        rest = process.stdout.read()
    assert process.returncode == -9
    # A line without its end was cut off by the kill: nobody has been told.
    for line in rest.splitlines(keepends=True):
        if line.endswith("\n"):
            promised.take(line)


async def check(path: Path, promised: Promised) -> None:
    async with SqliteStore(path, revive=revive, on_append=ignore, clock=SystemClock()) as store:
        entries = []
        after = None
        while page := await store.read(after, 500):
            entries += page
            after = page[-1].position
        kept = {entry.alert.id: entry.position for entry in entries}
        assert max(Counter(entry.alert.id for entry in entries).values()) == 1
        lost = {id: position for id, position in promised.alerts.items() if kept.get(id) != position}
        assert not lost
        order = [store.order(entry.position) for entry in entries]
        assert order == sorted(set(order))
        for entry in entries:
            if entry.alert.references:
                assert entry.incident in kept
        [lane] = await store.lanes()
        assert store.order(lane.cursor) >= max(map(store.order, promised.cursors), default=(0,))
        readings = await store.readings_after(0, 100_000)
        assert promised.readings <= {stored.reading.seq for stored in readings}
        assert len({stored.reading.seq for stored in readings}) == len(readings)
        note = await store.get("measure", "number")
        assert int(note or 0) >= promised.note
    with apsw.Connection(str(path)) as db:
        assert db.pragma("integrity_check") == "ok"
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    db.close()
