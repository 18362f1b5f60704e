"""Trouble that lasts is said once for each cause, and says no more than helps."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import cast

import pytest
import structlog

from lalert.app import background
from lalert.errors import Unavailable
from lalert.live.ends import Ends
from lalert.live.fanout import FanOut
from lalert.testing import FakeClock
from lalert.testing.store import TEN


@pytest.mark.parametrize(
    ("error", "foreseen"), [(Unavailable("the disk is full"), True), (ZeroDivisionError(), False)]
)
async def test_background_work_that_fails_is_logged_with_a_traceback_only_where_it_is_a_defect(
    error: Exception, foreseen: bool
) -> None:
    failed = asyncio.Event()

    async def work() -> None:
        failed.set()
        raise error

    with structlog.testing.capture_logs() as logs:
        async with background() as tasks:
            tasks.start("work", work)
            await failed.wait()
            await asyncio.sleep(0)
    assert [(line["cause"], line["exc_info"]) for line in logs] == [
        ("the disk is full", False) if foreseen else (None, True)
    ]


async def test_ends_that_cannot_be_found_out_are_logged_once_for_each_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        causes = ("bad", "bad", "bad", "worse", "")

        def __init__(self) -> None:
            self.asked = 0

        async def ended(self, after: datetime, upto: datetime) -> list[str]:
            cause = self.causes[self.asked]
            self.asked += 1
            if cause:
                raise ValueError(cause)
            await asyncio.Event().wait()
            raise AssertionError

        async def next_end(self, after: datetime) -> datetime | None:
            raise AssertionError

    class NoFanOut:
        told = TEN

    broken, clock = Broken(), FakeClock(TEN)
    ends = Ends(broken, cast("FanOut", NoFanOut()), clock)
    task = asyncio.create_task(ends.run())
    ends.tick()
    with caplog.at_level(logging.ERROR):
        while broken.asked < len(broken.causes):
            await clock.advance(1)
    task.cancel()
    await asyncio.wait([task])
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["bad", "worse"]
