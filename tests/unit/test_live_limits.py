from __future__ import annotations

from contextlib import ExitStack

import pytest

from lalert.errors import TooManyRequests, Unavailable
from lalert.live import LiveSettings
from lalert.live.limits import Limits


def test_a_node_that_is_full_says_when_to_come_again() -> None:
    limits = Limits(LiveSettings(max_connections=2))
    with limits.admit(None, "a"), limits.admit(None, "b"):
        with pytest.raises(Unavailable) as full, limits.admit(None, "c"):
            pass
        assert (full.value.status, full.value.error_code) == (503, "full")
        assert 10 <= full.value.retry_after <= 20
    with limits.admit(None, "c"):
        assert limits.open == 1


def test_those_who_were_refused_at_once_are_told_to_come_back_at_different_times() -> None:
    limits = Limits(LiveSettings(max_connections=0, max_per_address=0, retry_s=(1.0, 5.0)))
    for stopping, low, high in ((False, 10, 20), (True, 1, 5)):
        limits.stopping = stopping
        pauses = set()
        for _ in range(50):
            with pytest.raises(Unavailable) as refused:
                limits.admit(None, "a")
            pauses.add(refused.value.retry_after)
        assert low <= min(pauses) < max(pauses) <= high
        assert max(pauses) - min(pauses) > (high - low) / 2


def test_one_address_has_so_many_streams_and_another_is_not_touched() -> None:
    limits = Limits(LiveSettings(max_per_address=1))
    with limits.admit(None, "a"):
        with pytest.raises(TooManyRequests), limits.admit(None, "a"):
            pass
        with limits.admit(None, "b"):
            pass
    with limits.admit(None, "a"):
        pass


def test_who_has_a_key_is_counted_by_the_key_wherever_from() -> None:
    limits = Limits(LiveSettings(max_per_address=1, max_per_key=2))
    with ExitStack() as stack:
        for key_id, address in (("k", "a"), ("k", "b"), (None, "a")):
            stack.enter_context(limits.admit(key_id, address))
        with pytest.raises(TooManyRequests):
            stack.enter_context(limits.admit("k", "c"))


def test_languages_beyond_the_bound_are_served_in_all_languages_instead_of_refused() -> None:
    limits = Limits(LiveSettings(max_languages=2))
    with ExitStack() as stack:
        enter = stack.enter_context
        assert [enter(limits.admit(None, None, lang)) for lang in ("ja", "en", "ja", "tlh", None)] == [
            "ja",
            "en",
            "ja",
            None,
            None,
        ]
    with limits.admit(None, None, "tlh") as lang:
        assert lang == "tlh"
