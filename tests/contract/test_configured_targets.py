"""Adapters whose targets only the configuration names, in a whole hub: their subscriptions make themselves, and everybody else is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from lalert import registry
from lalert.config import Settings
from lalert.model import Role
from lalert.store import DeliveryState
from lalert.testing import make_alert
from lalert.testing.node import RunningNode, running_node
from lalert_adapters.speakers import sound

ADAPTERS = {
    "urgentmail": "lalert_adapters.urgentmail:UrgentMail",
    "speakers": "lalert_adapters.speakers:Speakers",
}


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the registry find the adapters also where the package was installed before them, and the voice make no sound."""
    points = {name: EntryPoint(name, where, registry.GROUP) for name, where in ADAPTERS.items()}
    found = registry.installed() | points
    monkeypatch.setattr(registry, "installed", lambda: found)

    def speak(sentences: Sequence[str], speed: float) -> Any:
        return sound.silence(0.01)

    monkeypatch.setattr("lalert_adapters.speakers.sound.speak", speak)


async def until(true: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(10):
        while not (found := await true()):
            await asyncio.sleep(0.01)
    return found


async def rows_of(node: RunningNode, subscription: str) -> dict[str, tuple[DeliveryState, str]]:
    """Return what became of each alert, by its identifier."""
    rows = await node.node.dispatcher.history(subscription)
    entries = {row.position: await node.node.store.entry(row.position) for row in rows}
    return {
        entry.alert.identifier: (row.state, row.detail)
        for row in rows
        if (entry := entries[row.position]) is not None
    }


async def test_an_order_and_its_cancel_reach_what_the_configuration_names(tmp_path: Path) -> None:
    mail, hill = tmp_path / "mail", tmp_path / "hill"
    mail.mkdir()
    hill.mkdir()
    settings = Settings(
        adapters={
            "urgentmail": {
                "areas": ["432032"],
                "dry_run": False,
                "outlets": [{"name": "one", "folder": str(mail)}],
            },
            "speakers": {
                "speakers": [{"name": "hill", "areas": ["43"], "folder": str(hill), "drills": True}]
            },
        }
    )
    async with running_node(tmp_path / "data", settings) as node:
        await until(lambda: _has(node, {"urgentmail.one", "speakers.hill"}))
        body = {"channel": "urgentmail", "target": "one", "filter": {}}
        headers = node.headers(Role.RECEIVER)
        async with node.http.post(f"{node.url}/v1/subscriptions", json=body, headers=headers) as answer:
            assert answer.status == 400
            assert "configuration" in (await answer.json())["detail"]

        order = make_alert(identifier="order", parameters=[("jp:kind", "evacuation")])
        assert (await node.post(order.raw))[0] == 201
        await until(lambda: _files(mail, 1))
        await until(lambda: _files(hill, 2))
        drill = make_alert(identifier="drill", status="Exercise", parameters=[("jp:kind", "evacuation")])
        assert (await node.post(drill.raw))[0] == 201
        await until(lambda: _files(hill, 4))
        cancel = make_alert(identifier="cancel", msg_type="Cancel", references=[order], infos=(), note="誤報")
        assert (await node.post(cancel.raw))[0] == 201
        await until(lambda: _files(hill, 6))
        rows = await until(lambda: _rows(node, "urgentmail.one", {"order", "cancel"}))
    assert rows["order"][0] is DeliveryState.DELIVERED
    assert rows["cancel"][0] is DeliveryState.DROPPED
    assert "cannot update or cancel" in rows["cancel"][1]
    assert "drill" not in rows, "nobody asked for it, and the channel is not drill-safe"
    [document] = [json.loads(path.read_text(encoding="utf-8")) for path in mail.iterdir()]
    assert [area["name"] for area in document["areas"]] == ["人吉市"]
    said = [path.read_text(encoding="utf-8") for path in sorted(hill.glob("*.txt"))]
    assert sum("これは訓練です。" in text for text in said) == 1
    assert sum("取り消しのお知らせです。" in text for text in said) == 1
    assert sum("ヒトヨシシに避難指示を発令しました。" in text for text in said) == 2, "order and drill"


async def _has(node: RunningNode, ids: set[str]) -> bool:
    return {subscription.id for subscription in await node.node.dispatcher.subscriptions()} == ids


async def _files(folder: Path, number: int) -> bool:
    return len([path for path in folder.iterdir() if not path.name.startswith(".")]) >= number


async def _rows(
    node: RunningNode, subscription: str, names: set[str]
) -> dict[str, tuple[DeliveryState, str]] | None:
    found = await rows_of(node, subscription)
    return found if names <= found.keys() else None
