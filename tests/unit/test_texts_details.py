"""What an alert says beyond its words, as the JSON tells it, held against the description of the interface."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lalert import cap
from lalert.resources import schema
from lalert.testing import make_alert
from lalert.texts.details import details

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "jp").glob("*.xml"))
DETAILS = yaml.safe_load(schema("openapi.yaml"))["components"]["schemas"]["Details"]


def of(name: str) -> dict[str, Any]:
    (file,) = (file for file in EXAMPLES if file.stem == name)
    found = details(cap.parse(file.read_bytes()))
    assert found is not None
    return found


def strict(shape: Any) -> Any:
    """Return a schema that allows no member it does not name."""
    if not isinstance(shape, dict):
        return [strict(part) for part in shape] if isinstance(shape, list) else shape
    closed = {} if "additionalProperties" in shape else {"additionalProperties": False}
    return {key: strict(part) for key, part in shape.items()} | (closed if "properties" in shape else {})


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_the_details_of_every_example_are_as_described(file: Path) -> None:
    found = details(cap.parse(file.read_bytes()))
    if found is not None:
        jsonschema.validate(found, strict(DETAILS))


def test_every_described_member_is_in_an_example() -> None:
    shown = {name for file in EXAMPLES for name in details(cap.parse(file.read_bytes())) or ()}
    assert shown == set(DETAILS["properties"])


def test_what_is_not_said_is_left_out_and_what_is_not_known_is_null() -> None:
    first, _, third = of("shelter")["shelters"]
    assert (first["occupancy"], first["pets"], first["state"]) == (138, True, "open")
    assert "occupancy" not in third
    assert {d["item"]: d["count"] for d in of("damage")["damage"]}["missing"] is None
    assert of("river-level")["equivalent"] == 3
    assert of("evacuation-lifting")["orders"][0] | {"areas": []} == {
        "level": None,
        "event": "避難指示解除",
        "lifted": True,
        "areas": [],
        "codes": ["432032"],
        "hazard": "flood",
        "expires": "2026-07-05T11:00:00+09:00",
    }


def test_an_alert_that_says_nothing_of_it_has_no_details() -> None:
    assert details(make_alert(event="クマ出没", level=None)) is None
    assert details(make_alert(infos=())) is None


def test_control_characters_are_gone() -> None:
    alert = make_alert(
        event="x", level=None, parameters=[("jp:shelter", "name=a\x07b; state=open"), ("jp:kana", "\x07c=あ")], raw=b""
    )  # fmt: skip
    assert details(alert) == {"shelters": [{"name": "ab", "state": "open"}], "readings": {"c": "あ"}}


def test_times_keep_their_offset() -> None:
    assert datetime.fromisoformat(of("damage")["as_of"]) == datetime(2026, 7, 4, tzinfo=UTC)
    assert of("damage")["as_of"].endswith("+09:00")
