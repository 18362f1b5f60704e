"""Nodes over one Valkey, and what happens to them under load: nothing that was accepted is lost or doubled, whoever dies, freezes or cannot be reached."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.system import scenarios
from tests.system.fault_kit import Report

pytestmark = pytest.mark.timeout(180)


def judge(report: Report) -> None:
    print(report)
    assert report.verdict.good, str(report)
    assert report.verdict.accepted > 20


async def test_a_valkey_that_is_killed_and_comes_back_has_everything(tmp_path: Path) -> None:
    judge(await scenarios.valkey_kills(tmp_path, random.Random(1), 2))


async def test_a_network_that_delays_cuts_and_loses_answers_loses_and_doubles_nothing(tmp_path: Path) -> None:
    judge(await scenarios.bad_network(tmp_path, random.Random(1), 1))


async def test_of_three_nodes_one_is_killed_one_frozen_and_one_cut_off(tmp_path: Path) -> None:
    judge(await scenarios.three_nodes(tmp_path, random.Random(1), 1))


async def test_a_replica_takes_over_with_all_that_was_accepted(tmp_path: Path) -> None:
    judge(await scenarios.fail_overs(tmp_path, random.Random(1), 1))


@pytest.mark.slow
async def test_a_valkey_that_takes_nothing_is_told_to_every_sender(tmp_path: Path) -> None:
    judge(await scenarios.valkey_troubles(tmp_path, random.Random(1), 1))
