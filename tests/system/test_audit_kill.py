"""A hub that is killed under load goes on with its audit chain exactly where it was: no alert without its line, and none with two."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import aiohttp
import apsw
import pytest
from click.testing import CliRunner

from lalert.cli import main
from lalert.store.audit import Action, decode
from tests.system.fault_kit import Hub, Load, running
from tests.system.history import History

SENDERS = 16


@pytest.mark.parametrize("kills", [2, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
async def test_no_alert_is_without_its_line_and_none_has_two(tmp_path: Path, kills: int) -> None:
    hub = Hub(tmp_path / "data")
    async with running(hub), aiohttp.ClientSession() as http:
        key, _ = await hub.keys()
        for _ in range(kills):
            load = Load([hub], http, key, History(), pace=0.0, patience=2.0)
            async with asyncio.TaskGroup() as group:
                for _ in range(SENDERS):
                    group.create_task(load.run())
                # In the midst of writing lines for what came in.
                await asyncio.sleep(1.3)
                load.stop()
                await hub.kill()
            assert len(load.accepted_at) > SENDERS
            await hub.start()
        await hub.terminate()
    with closing(apsw.Connection(str(hub.data / "lalert.db"))) as db:
        entries = [alert for (alert,) in db.execute("SELECT id FROM entry ORDER BY offset")]
        lines = [decode(text.encode()) for (text,) in db.execute("SELECT text FROM audit ORDER BY number")]
    assert [line.subject for line in lines if line.action == Action.ACCEPTED] == entries
    told = [line.action for line in lines if line.action in (Action.STARTED, Action.STOPPED)]
    assert told == [Action.STARTED] * (kills + 1) + [Action.STOPPED]
    said = await asyncio.to_thread(CliRunner().invoke, main, ["audit", "verify", "--data", str(hub.data)])
    assert said.exit_code == 0, said.output
