"""How much may be on its way in at once, and that nobody takes all of it."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from lalert.errors import Unavailable
from lalert.web.request import Room


def test_bytes_are_counted_as_they_come_and_given_back_at_the_end() -> None:
    room = Room(total=100)
    with room.guest("a") as a, room.guest("b") as b:
        a.take(30)
        a.take(20)
        b.take(50)
        assert room.used == 100
        with room.guest("c") as c, pytest.raises(Unavailable) as refused:
            c.take(1)
        assert refused.value.retry_after >= 1
    assert (room.used, room.number) == (0, 0)
    with room.guest("c") as c:
        c.take(50)


def test_nobody_takes_more_than_half_however_slowly_it_is_sent() -> None:
    room = Room(total=100, bodies=10)
    with ExitStack() as stack:
        greedy = [stack.enter_context(room.guest("greedy")) for _ in range(5)]
        with pytest.raises(Unavailable), room.guest("greedy"):
            pass
        for guest in greedy:
            guest.take(10)
        with pytest.raises(Unavailable):
            greedy[0].take(1)
        with room.guest("other") as other:
            other.take(49)


def test_there_is_an_end_to_how_many_there_may_be() -> None:
    room = Room(bodies=4)
    with ExitStack() as stack:
        for name in "abcd":
            stack.enter_context(room.guest(name))
        with pytest.raises(Unavailable), room.guest("e"):
            pass
    with room.guest("e"):
        assert room.number == 1
