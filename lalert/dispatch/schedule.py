"""When a delivery that failed is tried again, and when it is given up: pure decisions, with the clock and the dice handed in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

OFFSETS: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Seconds after the first attempt at which the dense attempts follow: most outages are a restart, and an evacuation order cannot wait minutes."""

STEADY: Final = 60.0
"""Seconds between attempts once the dense ones are used up."""

JITTER: Final = 0.2
"""How much of `STEADY` the dice may take away, so that a thousand targets behind one broken gateway do not come back in the same instant.
It only ever shortens: a target that returns is never kept waiting longer than `STEADY`."""


def patience(retry_after: float | None, longest: float) -> float:
    """Return how many seconds of peace a peer gets that asked for `retry_after` (RFC 9110, 10.2.3): none for nonsense, never more than `longest`.

    An evacuation order must not sleep for a day because a gateway said so.
    """
    return min(retry_after, longest) if retry_after is not None and retry_after > 0 else 0.0


def pause(failures: int, random: Callable[[], float], asked: float = 0.0) -> float:
    """Return the seconds from the end of the `failures`-th failed attempt (from 1) to the next one.

    `random` gives numbers in [0, 1); `asked` is what the peer's own wish makes of it, longer and never shorter.
    """
    if failures < len(OFFSETS):
        own = OFFSETS[failures] - OFFSETS[failures - 1]
    else:
        own = STEADY * (1.0 - JITTER * random())
    return max(own, asked)


def deadline(stored: datetime, expires: datetime | None, max_age: timedelta, longest: timedelta) -> datetime:
    """Return the instant from which an alert is sent to nobody any more.

    That is when it expires; one that never says so is kept up for `max_age`, and nothing for longer than `longest` after it was stored, so that
    an `expires` of the year 2099 does not knock on a dead door until then.
    """
    return min(expires if expires is not None else stored + max_age, stored + longest)
