"""CAP 1.0 refers without a time: over the hub's own door, in either order, and what the sender is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lalert.model import Alert
from lalert.testing import make_alert
from lalert.testing.alerts import timeless
from lalert.testing.node import running_node


def old(identifier: str, refers: Alert | None = None, **more: object) -> Alert:
    return make_alert(
        identifier=identifier,
        version="1.0",
        response=(),
        references=[] if refers is None else [timeless(refers)],
        **more,  # type: ignore[arg-type]
    )


def rules(answer: Any) -> list[str]:
    return [rule for found in answer["problems"] if (rule := found["rule"]).startswith("HUB-")]


async def test_an_update_of_cap_1_0_replaces_the_one_alert_that_it_can_mean(tmp_path: Path) -> None:
    first = old("a-1")
    update = old("a-2", first, msg_type="Update")
    async with running_node(tmp_path) as node:
        assert (await node.post(first.raw))[0] == 201
        status, answer = await node.post(update.raw)
        assert (status, answer.get("problems")) == (201, None)
        _, page = await node.get("/v1/alerts?active=true")
        assert [alert["identifier"] for alert in page["alerts"]] == ["a-2"]
        (shown,) = page["alerts"]
        assert [reference["id"] for reference in shown["references"]] == [first.id]
        assert shown["replaced"] == [first.id]
        assert shown["changes"] == {"issued": [], "raised": [], "lowered": [], "lifted": []}


async def test_an_alert_of_cap_1_0_that_comes_after_its_cancel_is_never_in_force(tmp_path: Path) -> None:
    first = old("a-1")
    cancel = old("a-2", first, msg_type="Cancel", infos=(), note="誤報のため")
    async with running_node(tmp_path) as node:
        status, answer = await node.post(cancel.raw)
        assert (status, rules(answer)) == (201, ["HUB-REFERENCE-UNKNOWN"])
        status, answer = await node.post(first.raw)
        assert (status, rules(answer)) == (201, ["HUB-REVISION-OLD"])
        assert (await node.get("/v1/alerts?active=true"))[1]["alerts"] == []


async def test_a_cancel_of_cap_1_0_that_could_mean_two_alerts_is_refused(tmp_path: Path) -> None:
    one, again = (old("a-1", sent=f"2026-06-01T10:0{n}:00+09:00", expires=None) for n in range(2))
    cancel = old("a-2", one, msg_type="Cancel", infos=(), note="誤報のため")
    update = old("a-3", one, msg_type="Update")
    async with running_node(tmp_path) as node:
        for alert in (one, again):
            assert (await node.post(alert.raw))[0] == 201
        status, answer = await node.post(cancel.raw)
        assert (status, rules(answer)) == (422, ["HUB-REFERENCE-AMBIGUOUS"])
        status, answer = await node.post(update.raw)
        assert (status, answer["problems"][0]["severity"]) == (201, "warning")
        _, page = await node.get("/v1/alerts?active=true")
        assert [alert["identifier"] for alert in page["alerts"]] == ["a-1", "a-1", "a-3"]
