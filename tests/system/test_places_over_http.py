"""Places through the front door: what is drawn badly is answered with its rule, and a filter finds what it should whatever language it asks for."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from lalert.testing import make_alert, make_cap
from lalert.testing.node import RunningNode, running_node

SENDER = "bousai@hitoyoshi.example"
BOW_TIE = "32.20,130.74 32.22,130.76 32.20,130.76 32.22,130.74 32.20,130.74"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path_factory.mktemp("places") / "data") as running:
        yield running


def placed(place: str) -> bytes:
    return re.sub(rb"<polygon>.*</polygon>", place.encode(), make_cap(sender=SENDER))


async def found(node: RunningNode, **query: str) -> list[str]:
    async with node.http.get(f"{node.url}/v1/alerts?{urlencode(query)}") as response:
        assert response.status == 200, await response.text()
        return [one["identifier"] for one in (await response.json())["alerts"]]


@pytest.mark.parametrize(
    ("place", "rule"),
    [
        (f"<polygon>{BOW_TIE}</polygon>", "CAP-POLYGON-CROSSING"),
        ("<polygon>130.74,32.20 130.76,32.20 130.76,32.22 130.74,32.20</polygon>", "CAP-POINT-SWAPPED"),
        ("<circle>130.76,32.21 1</circle>", "CAP-POINT-SWAPPED"),
        ("<polygon>nan,130.74 32.20,130.76 32.22,130.76 nan,130.74</polygon>", "CAP-POLYGON-FORM"),
        ("<circle>32.21,130.76 inf</circle>", "CAP-CIRCLE-FORM"),
        ("<polygon>32.20,130.74 32.20,130.74 32.20,130.74 32.20,130.74</polygon>", "CAP-POLYGON-FLAT"),
    ],
)
async def test_who_draws_badly_is_told_by_which_rule_in_two_languages(
    node: RunningNode, place: str, rule: str
) -> None:
    status, answer = await node.post(placed(place))
    assert status == 422
    (problem,) = [problem for problem in answer["problems"] if problem["severity"] == "error"]
    assert problem["rule"] == rule
    assert problem["message"]
    assert problem["message_ja"]


async def test_lang_chooses_the_texts_and_never_whether_an_alert_is_sent(node: RunningNode) -> None:
    alert = make_alert(sender=SENDER, language="ja-JP")
    assert (await node.post(alert.raw))[0] == 201
    for lang in ("ja", "en", "fr", "nobody-speaks-this"):
        assert alert.identifier in await found(node, lang=lang, area="43203")
        assert alert.identifier not in await found(node, lang=lang, area="43205")


async def test_an_alert_by_code_is_found_by_position_and_a_drawn_one_by_code(node: RunningNode) -> None:
    by_code = make_alert(sender=SENDER, codes=["432032"], polygon=None)
    drawn = make_alert(
        sender=SENDER, codes=[], polygon=((130.74, 32.2), (130.76, 32.2), (130.76, 32.22), (130.74, 32.2))
    )
    for alert in (by_code, drawn):
        assert (await node.post(alert.raw))[0] == 201
    assert {by_code.identifier, drawn.identifier} <= set(await found(node, point="32.205,130.755"))
    assert {by_code.identifier, drawn.identifier} <= set(await found(node, area="43203"))
    assert {by_code.identifier, drawn.identifier} <= set(await found(node, bbox="130.7,32.1,130.8,32.3"))
    assert not await found(node, point="35.68,139.75")
