"""The benchmark of the fan-out counts what it should: its client and floor in C, and the server that it is easiest to compare with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bench.fanout import servers
from bench.fanout.load import Crowd, Load, Part, Sender, compiled
from bench.fanout.servers import Place

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled("client.c", tmp_path_factory.mktemp("client"))


@pytest.mark.parametrize("wire", ["sse", "ws"])
@pytest.mark.parametrize("server", [servers.floor, servers.naive])
def test_every_receipt_of_those_who_want_an_alert_is_counted_once(
    server: servers.Start, wire: str, client: Path, tmp_path: Path
) -> None:
    cores = frozenset(os.sched_getaffinity(0))
    with server(Place(tmp_path, cores, wire)) as running:
        wanting, others = Part(running.port, 20, running.path), Part(running.port, 5, running.other_path)
        with Load(client, Crowd(wire, wanting, others), cores) as load:
            assert load.connected() < 5
            sender = Sender(running.posts or running.port)
            load.expect(7, 3)
            begun = [sender.post(running.request(number))[0] for number in (6, 7, 8, 9, 10)]
            found = load.receipts()
            sender.close()
    assert (begun[1:4] < found.times[:, :20].T).all()
    assert not found.times[:, 20:].any()
    assert (found.closed, found.stalled_closed) == (0, 0)
