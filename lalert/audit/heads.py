"""The head of the audit chain at the end of each day, for somebody outside to keep: who then makes a whole new chain is found out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import orjson
import structlog

from lalert.errors import StoreError
from lalert.model import JST
from lalert.store.audit import Head

log = structlog.get_logger()

HEADS_FILE: Final = "audit-heads.txt"
DAYS: Final = 400
"""So many days' heads are kept in the store; the file keeps all."""

_OWNER, _KEY = "audit", "heads"


@dataclass(frozen=True, slots=True)
class DayHead:
    """The head as it stood when a day (in Japan) had ended."""

    day: date
    head: Head

    def __str__(self) -> str:
        return f"{self.day.isoformat()} {self.head}"


class Records(Protocol):
    """What is asked of the store."""

    async def audit_head(self) -> Head: ...

    async def get(self, owner: str, key: str) -> bytes | None: ...

    async def put(self, owner: str, key: str, value: bytes) -> None: ...


def yesterday(now: datetime) -> date:
    """Return the day that ended last, in Japan."""
    return now.astimezone(JST).date() - timedelta(days=1)


async def published(records: Records) -> list[DayHead]:
    """Return the heads that were published, the oldest first."""
    return read_heads(await records.get(_OWNER, _KEY))


def read_heads(kept: bytes | None) -> list[DayHead]:
    """Return the heads of what the store keeps of them; raises `StoreError` if it is none."""
    try:
        return [_read(str(line)) for line in orjson.loads(kept)] if kept else []
    except (ValueError, TypeError) as error:
        raise StoreError(
            "what the store holds of the heads of its audit chain cannot be read: somebody has changed it; restore the newest backup"
        ) from error


async def publish(records: Records, now: datetime) -> None:
    """Publish the head of the day that has ended, once; a hub that was away at midnight does it when it is back."""
    day, heads = yesterday(now), await published(records)
    if any(one.day == day for one in heads):
        return
    head = await records.audit_head()
    if head.number:
        heads.append(DayHead(day, head))
        await records.put(_OWNER, _KEY, orjson.dumps([str(one) for one in heads[-DAYS:]]))


def note_down(folder: Path, heads: Iterable[DayHead]) -> None:
    """Add those heads to the file in the data directory that are not in it, and log them. Blocks for the disk; raises `OSError`."""
    path = folder / HEADS_FILE
    known = set(heads_in(path))
    new = [one for one in heads if one not in known]
    if not new:
        return
    path.touch(mode=0o600)
    with path.open("a", encoding="ascii") as file:
        # A line that a power cut has cut short must not swallow the next one.
        file.write("" if _ends_well(path) else "\n")
        file.writelines(f"{one}\n" for one in new)
        file.flush()
        os.fsync(file.fileno())
    for one in new:
        log.info("head of the audit chain", day=one.day.isoformat(), head=str(one.head))


def heads_in(path: Path) -> list[DayHead]:
    """Return the heads that a file holds; lines that are none are passed over. Raises `OSError`, but not where there is no file."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        try:
            found.append(_read(line))
        except ValueError:
            continue
    return found


def days_json(head: Head, heads: Iterable[DayHead]) -> dict[str, Any]:
    """Return the newest head and those of the days, the newest first, as JSON."""
    days = [{"day": one.day.isoformat(), **_members(one.head)} for one in heads]
    return {**_members(head), "days": days[::-1]}


def _members(head: Head) -> dict[str, Any]:
    return {"number": head.number, "hash": head.hash.hex(), "head": str(head)}


def _read(line: str) -> DayHead:
    day, _, head = line.strip().partition(" ")
    return DayHead(date.fromisoformat(day), Head.parse(head))


def _ends_well(path: Path) -> bool:
    data = path.read_bytes()
    return not data or data.endswith(b"\n")
