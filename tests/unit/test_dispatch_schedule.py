"""The promise of INTERFACE: attempts at 0, 1, 2, 5, 10, 20, 30, 60 s, then every 60 s with jitter, Retry-After honoured, until the alert expires."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lalert.dispatch.schedule import JITTER, STEADY, deadline, patience, pause

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)


def test_the_first_minute_is_dense() -> None:
    at = [0.0]
    for failures in range(1, 8):
        at.append(at[-1] + pause(failures, lambda: 0.5))
    assert at == [0, 1, 2, 5, 10, 20, 30, 60]


@given(failures=st.integers(8, 100_000), dice=st.floats(0, 1, exclude_max=True))
def test_afterwards_it_tries_every_minute_and_never_later(failures: int, dice: float) -> None:
    assert STEADY * (1 - JITTER) <= pause(failures, lambda: dice) <= STEADY


def test_the_dice_spread_those_that_failed_together() -> None:
    assert pause(9, lambda: 0.0) != pause(9, lambda: 0.9)


@pytest.mark.parametrize(
    ("said", "granted"),
    [(None, 0.0), (0.0, 0.0), (-5.0, 0.0), (math.nan, 0.0), (7.0, 7.0), (1e12, 300.0), (math.inf, 300.0)],
)
def test_a_peer_gets_the_peace_it_asks_for_within_bounds(said: float | None, granted: float) -> None:
    assert patience(said, 300.0) == granted


def test_retry_after_makes_a_pause_longer_and_never_shorter() -> None:
    assert pause(1, lambda: 0.0, asked=30.0) == 30.0
    assert pause(9, lambda: 0.0, asked=2.0) == STEADY


def test_an_alert_is_given_up_when_it_expires() -> None:
    assert deadline(NOON, NOON + timedelta(hours=3), DAY, WEEK) == NOON + timedelta(hours=3)


def test_an_alert_without_an_expiry_is_given_up_after_its_greatest_age() -> None:
    assert deadline(NOON, None, DAY, WEEK) == NOON + DAY


def test_no_alert_is_kept_up_for_ever_whatever_its_sender_wrote() -> None:
    assert deadline(NOON, datetime(2099, 1, 1, tzinfo=UTC), DAY, WEEK) == NOON + WEEK
