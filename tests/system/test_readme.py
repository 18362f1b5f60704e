"""The README's tour, word for word: every block marked `tour`, in one shell, against a hub started as the README says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.test_cli import serving

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh tour\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder like a fresh clone after `make run`: the environment, the examples, and nothing else."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    bin_dir = Path(sys.executable).parent
    (tmp_path / ".venv" / "bin" / "activate").write_text(f'PATH="{bin_dir}:$PATH"\n')
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


def test_the_tour_has_its_blocks() -> None:
    assert len(BLOCKS) == 6


def test_the_five_minute_tour_does_what_it_says(place: Path) -> None:
    with serving(place / "data") as (_, url):
        separator = r"printf '\n----- %s\n' $?"
        script = "set -u\n" + f"\n{separator}\n".join(BLOCKS) + f"\n{separator}\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=place,
            env={**os.environ, "HUB": url},
            capture_output=True,
            timeout=50,
            check=False,
        )
    said, complaints = done.stdout.decode(), done.stderr.decode()
    assert complaints == ""
    parts = re.split(r"^----- (\d+)\n", said, flags=re.MULTILINE)
    outputs, codes = [part.strip() for part in parts[0::2]], parts[1::2]
    assert codes == ["0"] * len(BLOCKS), said
    prepared, _, posted, shown, refused, subscribed, _ = outputs
    assert prepared.startswith("hitoyoshi: 人吉市")
    assert posted.splitlines()[-1] == "the broadcaster heard it"
    assert json.loads(posted.splitlines()[0])["url"].startswith("/alerts/")
    listed, mapped, feed = shown.split("\n", 2)
    assert json.loads(listed)["alerts"][0]["level"] == 4
    assert json.loads(mapped)["features"][0]["properties"]["level"] == 4
    assert "人吉市 球磨川沿いに避難指示" in feed
    repeat, problem = refused.split("\n", 1)
    assert repeat == "200"
    assert {"/alert/info[1]/urgency", "/alert/info[1]/area[1]/polygon[1]"} <= {
        found["path"] for found in json.loads(problem)["problems"]
    }
    assert json.loads(subscribed)["options"]["secret"].startswith("whsec_")


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_of_the_readme_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\btests/[a-z_/]+(?:\.py)?", README))))
def test_every_proof_that_the_readme_names_is_there(path: str) -> None:
    assert (ROOT / path).exists()
