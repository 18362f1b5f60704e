"""Codes through the front door: old ones, JMA's, and an operator's own, at a hub with the Japanese profile."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from lalert.config import Gazetteer, Intake, Settings
from lalert.model import Role
from lalert.testing import make_cap
from lalert.testing.node import RunningNode, running_node

SENDER = "bousai@kumamoto.example"
KIND = [("jp:kind", "evacuation")]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    folder = tmp_path_factory.mktemp("codes")
    table = folder / "geocodes.csv"
    table.write_text("scheme,value,codes\n川の区間,kuma-*,432032\n", encoding="utf-8")
    settings = Settings(intake=Intake(profile="jp"), gazetteer=Gazetteer(geocodes=str(table)))
    async with running_node(folder / "data", settings) as running:
        await running.org("kumamoto", ["432032", "43201"], ["*@kumamoto.example"])
        running.keys[Role.SENDER] = await running.key(Role.SENDER, "kumamoto")
        yield running


def with_geocode(name: str, value: str) -> bytes:
    raw = make_cap(sender=SENDER, parameters=KIND).decode()
    raw = re.sub(r"<polygon>.*?</polygon>", "", raw)
    geocode = f"<geocode><valueName>{name}</valueName><value>{value}</value></geocode>"
    return re.sub(r"<geocode>.*?</geocode>", geocode, raw, flags=re.DOTALL).encode()


async def followers(node: RunningNode, identifier: str, *filters: dict[str, str]) -> list[bool]:
    told = []
    for query in filters:
        _, answer = await node.get(f"/v1/alerts?{urlencode(query)}")
        told.append(identifier in [one["identifier"] for one in answer["alerts"]])
    return told


async def test_an_old_code_is_taken_with_a_warning_and_reaches_the_places_of_today(node: RunningNode) -> None:
    status, answer = await node.post(with_geocode("JISX0402", "432016"))
    assert status == 201, answer
    (told,) = (p for p in answer["problems"] if p["rule"] == "JP-CODE-FORMER")
    assert "熊本市 431001" in told["message_ja"]
    assert "2012-04-01" in told["message"]
    filters = [{"area": code} for code in ("432016", "43201", "431001", "431010", "43", "432024")]
    filters += [{"point": "32.80,130.71"}, {"point": "32.21,130.76"}]
    assert await followers(node, answer["identifier"], *filters) == [True] * 5 + [False, True, False]


async def test_jmas_code_of_a_municipality_is_taken_without_a_word(node: RunningNode) -> None:
    status, answer = await node.post(with_geocode("気象・地震・火山情報／市町村等", "4320300"))
    assert status == 201, answer
    assert [p["rule"] for p in answer.get("problems", []) if p["rule"].startswith("JP-CODE")] == []
    assert await followers(node, answer["identifier"], {"area": "432032"}, {"area": "432024"}) == [
        True,
        False,
    ]


async def test_an_operators_own_geocode_is_a_place_even_where_the_profile_asks_for_one(
    node: RunningNode,
) -> None:
    status, answer = await node.post(with_geocode("川の区間", "kuma-7"))
    assert status == 201, answer
    assert await followers(node, answer["identifier"], {"area": "432032"}, {"area": "432024"}) == [
        True,
        False,
    ]
    status, answer = await node.post(with_geocode("川の区間", "chikugo-1"))
    assert status == 422
    assert "JP-AREA-PLACE" in [p["rule"] for p in answer["problems"]]


async def test_a_foreign_code_is_no_place_that_a_municipality_may_alert_for(node: RunningNode) -> None:
    status, answer = await node.post(with_geocode("SAME", "006037"))
    assert (status, answer["code"]) in [(422, "invalid-alert"), (403, "area-not-yours")]
