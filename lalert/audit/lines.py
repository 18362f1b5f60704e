"""Lines of the chain as JSON, and read from JSON again: what is exported can be verified elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from lalert.store.audit import KeptLine, decode


def line_json(line: KeptLine) -> dict[str, Any]:
    """Return a line with its hash; one whose text is no line any more as its bytes, which `line_of` reads too."""
    try:
        read = decode(line.text)
    except ValueError:
        return raw_json(line)
    members = {
        "number": line.number,
        "time": read.time.isoformat(timespec="microseconds"),
        "org": read.org,
        "actor": read.actor,
        "action": read.action,
        "subject": read.subject,
        "details": dict(read.details),
        "hash": line.hash.hex(),
    }
    # Said otherwise than it is kept, it would seem sound where it is not, or broken where it is sound.
    return members if line_of(members) == line else raw_json(line)


def raw_json(line: KeptLine) -> dict[str, Any]:
    """Return a line as its bytes, whatever they are."""
    return {
        "number": line.number,
        "text": base64.b64encode(line.text).decode("ascii"),
        "hash": line.hash.hex(),
    }


def line_of(members: Mapping[str, Any]) -> KeptLine:
    """Return the line that `line_json` or `raw_json` had; raises `ValueError` for what neither has made."""
    try:
        number, hash = members["number"], bytes.fromhex(members["hash"])
        if "text" in members:
            text = base64.b64decode(members["text"], validate=True)
        else:
            rest = {name: value for name, value in members.items() if name != "hash"}
            text = orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)
    except (KeyError, TypeError) as error:
        raise ValueError("this is no line of an audit chain") from error
    if not isinstance(number, int):
        raise ValueError("this is no line of an audit chain")  # noqa: TRY004  # told like all else that is wrong with it
    return KeptLine(number, text, hash)
