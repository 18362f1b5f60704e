"""A node with the embedded store is killed, stopped and starved of its disk while it works: nothing that it accepted is lost or doubled."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.system import scenarios
from tests.system.fault_kit import Report


def judge(report: Report) -> None:
    print(report)
    assert report.verdict.good, str(report)


@pytest.mark.timeout(120)
async def test_a_node_killed_under_load_keeps_its_word(tmp_path: Path) -> None:
    report = await scenarios.kills(tmp_path, random.Random(1), 3)
    judge(report)
    assert report.verdict.accepted > 50


@pytest.mark.timeout(120)
async def test_a_node_told_to_stop_under_load_drains_and_says_where_it_ended(tmp_path: Path) -> None:
    judge(await scenarios.stops(tmp_path, random.Random(1), 1))


@pytest.mark.timeout(120)
async def test_a_disk_without_room_or_that_fails_is_told_to_every_sender_and_everything_goes_on_after_it(
    tmp_path: Path,
) -> None:
    judge(await scenarios.bad_disk(tmp_path, random.Random(1), 1))
