"""The simulation behind docs/scaling.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.nation import (
    Question,
    Units,
    Year,
    costs,
    crowd,
    log_server,
    municipalities,
    others,
    quantile,
    shares_of,
    simulate,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "scaling.md"
SMALL = Question(
    nodes=3, posts=120, within=0.1, places=60, subscribers=5_000, receivers=40, national=6, sensors=10_000
)
UNITS = Units()


@pytest.mark.parametrize("nodes", [1, 2, 7])
@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_every_post_is_received_by_everybody_concerned_exactly_once(nodes: int, skew: float) -> None:
    found = simulate(replace(SMALL, nodes=nodes, skew=skew), UNITS)
    assert found.got == found.due
    # Each of the 60 places posts twice; all lie in one prefecture, so every receiver takes everything.
    assert sum(found.got) == 2 * 5_000 + 120 * 40
    assert found.delivered == found.deliveries_due == len(found.durable) == 120 * 40
    assert len(found.answered) == 120


def test_subscribers_hear_of_their_own_place_alone() -> None:
    asked = replace(SMALL, posts=60, receivers=0, national=0)
    assert sorted(simulate(asked, UNITS).got) == sorted(shares_of(asked))


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    first, again = simulate(SMALL, UNITS), simulate(SMALL, UNITS)
    assert first == again
    assert simulate(replace(SMALL, seed=2), UNITS).live != first.live


@pytest.mark.parametrize("seed", range(3))
def test_more_nodes_are_never_slower_under_load(seed: int) -> None:
    loaded = replace(SMALL, posts=600, places=600, subscribers=60_000, seed=seed)
    lasts = [max(simulate(replace(loaded, nodes=nodes), UNITS).last) for nodes in (1, 2, 4, 8)]
    assert lasts == sorted(lasts, reverse=True)


def test_nobody_hears_before_the_log_has_it_on_disk() -> None:
    slow = replace(UNITS, server_sync=0.5)
    found = simulate(SMALL, slow)
    assert min(seconds for seconds, _ in found.live) >= 0.5
    assert min(seconds for seconds, _ in found.answered) >= 0.5


def test_a_receiver_gets_one_webhook_at_a_time() -> None:
    asked = replace(SMALL, posts=20, answer=1.0, national=40)
    found = simulate(asked, UNITS)
    assert found.delivered == 20 * 40
    assert quantile(found.durable, 1) >= 20 - asked.within


def test_one_machine_does_no_more_at_once_than_it_has_processors() -> None:
    asked = replace(SMALL, sensors=0, shared_cores=1, subscribers=20_000)
    found = simulate(asked, UNITS)
    work = sum(found.got) * (UNITS.receipt_sse + UNITS.receipt_ws + 2 * UNITS.client_receipt) / 2
    assert found.ended >= work
    assert max(simulate(replace(asked, shared_cores=4), UNITS).last) < max(found.last)


def test_there_are_1741_municipalities_in_47_prefectures() -> None:
    assert len(municipalities()) == 1_741
    assert len(set(municipalities())) == 47


@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_subscribers_are_all_somewhere(skew: float) -> None:
    shares = shares_of(Question(skew=skew))
    assert sum(shares) == 1_000_000
    assert min(shares) > 0
    assert (max(shares) > 100_000) == (skew == 1.0)


def test_what_is_deleted_needs_no_memory() -> None:
    year = Year()
    assert year.readings(30) < year.readings(365)
    everything, *less = list(log_server(year, UNITS))[2:]
    assert float(everything.split("|")[5].split(",")[2]) > float(less[0].split("|")[5].split(",")[2])


def test_the_document_quotes_what_the_simulation_says() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").splitlines()
    said = [*costs(UNITS), *crowd(Question(), UNITS, [32]), *log_server(Year(), UNITS)]
    assert [line for line in said if line not in text] == []


@pytest.mark.slow
def test_the_document_quotes_all_that_the_simulation_says() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").splitlines()
    said = [*crowd(Question(), UNITS, [1, 4, 8, 16, 32]), *others(Question(nodes=8), UNITS)]
    assert [line for line in said if line not in text] == []
