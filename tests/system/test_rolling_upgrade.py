"""From the version before to this one: node by node under load over one Valkey, and with the data directory of a single node."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from tests.system.fault_kit import ROOT, Hub, Report, Trial, trial
from tests.system.history import Jump, offset
from tests.system.scenarios import nodes

BEFORE = "dee941af769ceb87f9913413fbd6b969fa54e162"
"""The first version that runs on Redis or Valkey."""
NUMBERS = itertools.count(1)
TREES = ("lalert", "adapters", "schemas", "pyproject.toml")


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tree of the version before."""
    git = ["git", "-C", str(ROOT), "archive", BEFORE, *TREES]
    try:
        made = subprocess.run(git, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"needs the history up to {BEFORE[:7]} (git fetch --unshallow)")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=BytesIO(made.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


async def test_nodes_are_upgraded_one_by_one_under_load_and_nobody_notices(
    tmp_path: Path, before: Path
) -> None:
    async with nodes(tmp_path, 2) as (_, hubs, _):
        for hub in hubs:
            hub.root = before
        async with trial(*hubs) as this:
            for hub in hubs:
                await this.accepted(30)
                await _upgrade(this, hub)
                await _both_serve(this)
            report = await this.finish()
        _nobody_noticed(this, report)


async def test_the_data_directory_of_the_version_before_is_taken_over_whole(
    tmp_path: Path, before: Path
) -> None:
    hub = Hub(tmp_path / "node", root=before)
    async with trial(hub) as this:
        await this.accepted(60)
        await _upgrade(this, hub)
        await this.accepted(30)
        report = await this.finish()
    _nobody_noticed(this, report)


async def _upgrade(this: Trial, hub: Hub) -> None:
    assert "durability" not in (await this.ready(hub))[1]
    await hub.terminate()
    hub.root = ROOT
    await hub.start()
    assert "durability" in (await this.ready(hub))[1]


async def _both_serve(this: Trial) -> None:
    """Send to either node; each must take it, and soon have what the other took."""
    for _ in range(20):
        for hub in this.hubs:
            taken = await this.load.send(f"to-each-{next(NUMBERS)}", hub)
            assert taken is hub
    newest = max([offset(await this.position(number)) for number in range(len(this.hubs))])
    async with asyncio.timeout(5):
        for number in range(len(this.hubs)):
            while offset(await this.position(number)) < newest:
                await asyncio.sleep(0.02)


def _nobody_noticed(this: Trial, report: Report) -> None:
    assert report.verdict.good, report
    assert report.verdict.accepted >= 90
    assert not [event for each in this.listeners for event in each.stream.events if isinstance(event, Jump)]
