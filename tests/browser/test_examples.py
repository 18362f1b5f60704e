"""docs/examples.md, word for word: every block marked `run`, in order, against a hub of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
import standardwebhooks
from playwright.async_api import Browser

from lalert.model import Role
from lalert.testing.node import RunningNode, running_node

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python|js) run\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
SECONDS = 50.0


@dataclass
class Reader:
    """Somebody who copies the blocks; `said` is what each printed."""

    hub: RunningNode
    place: Path
    browser: Browser
    position: str
    said: list[str] = field(default_factory=list)

    async def run(self, language: str, block: str) -> str:
        """Run a block as its reader would; returns what it printed, and fails if it does."""
        if language == "js":
            return await self._in_a_page(block)
        if language == "python":
            return await self._spawned(sys.executable, "-c", block)
        return await self._spawned("bash", "-euo", "pipefail", "-c", block)

    async def _spawned(self, *words: str) -> str:
        own = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HUB": self.hub.url,
            "SENDER": self.hub.keys[Role.SENDER],
            "RECEIVER": self.hub.keys[Role.RECEIVER],
            "POSITION": self.position,
        }
        process = await asyncio.create_subprocess_exec(
            *words, cwd=self.place, env={**os.environ, **own}, stdout=-1, stderr=-1
        )
        async with asyncio.timeout(SECONDS):
            output, complaints = await process.communicate()
        assert (process.returncode, complaints.decode()) == (0, ""), output.decode()
        return output.decode()

    async def _in_a_page(self, block: str) -> str:
        page = await self.browser.new_page()
        lines: list[str] = []
        page.on("console", lambda message: lines.append(message.text))
        await page.goto(f"{self.hub.url}/signage/lobby?area=43203")
        async with asyncio.timeout(SECONDS):
            await page.evaluate(f"async (POSITION) => {{ {block} }}", self.position)
        await page.close()
        return "\n".join(lines)


@pytest_asyncio.fixture(loop_scope="module")
async def reader(browser: Browser, tmp_path: Path) -> AsyncIterator[Reader]:
    place = tmp_path / "place"
    shutil.copytree(ROOT / "examples", place / "examples")
    async with running_node(tmp_path / "data") as hub:
        _, page = await hub.get("/readyz")
        yield Reader(hub, place, browser, page["position"])


async def test_the_page_has_its_blocks_and_none_that_nobody_runs() -> None:
    assert [language for language, _ in BLOCKS].count("js") == 2
    assert len(BLOCKS) == PAGE.count("```") // 2 == 13


async def test_every_example_does_what_the_page_says(reader: Reader) -> None:
    said = [await reader.run(language, block) for language, block in BLOCKS]
    (_, posted, again, listed, in_page, heard, in_python, in_js, twice, merged, ticket, made, verified) = said
    position = json.loads(posted)["position"]
    assert again.strip() == position, "the same bytes again are the same alert"
    assert '"identifier":"hitoyoshi-example-1"' in listed
    assert '"type":"FeatureCollection"' in listed
    assert in_page == f"1 in force; go on from {position}"
    assert f"id: {position}\nevent: alert" in heard
    assert json.loads(heard.splitlines()[-1])["position"] == position
    assert in_python.strip() == f"{position} 人吉市 球磨川沿いに避難指示"
    assert in_js == "人吉市 球磨川沿いに避難指示"
    assert json.loads(twice)["identifier"] == merged.strip() == "hitoyoshi-example-1"
    assert "event: heartbeat" in ticket
    assert verified == ""
    holds_with_a_true_signature(json.loads(made)["options"]["secret"], reader.place)


def holds_with_a_true_signature(secret: str, place: Path) -> None:
    [block] = [block for _, block in BLOCKS if "def is_from_the_hub" in block]
    names: dict[str, object] = {}
    exec(
        block.replace('"subscription.json"', repr(str(place / "subscription.json"))), names
    )  # the page's own code
    is_from_the_hub = names["is_from_the_hub"]
    assert callable(is_from_the_hub)
    body, sent = '{"id": 1}', time.time()
    signature = standardwebhooks.Webhook(secret).sign("m-1", datetime.fromtimestamp(sent, UTC), body)
    headers = {
        "webhook-id": "m-1",
        "webhook-timestamp": str(int(sent)),
        "webhook-signature": f"v1,AAAA {signature}",
    }
    assert is_from_the_hub(headers, body.encode())
    assert not is_from_the_hub(headers, body.encode() + b" ")
    assert not is_from_the_hub({**headers, "webhook-timestamp": str(int(sent) - 400)}, body.encode())
