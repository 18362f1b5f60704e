"""The archive: documents as files, byte for byte, in a folder for each day in Japan, with an index of who sent what when."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Final

import orjson

from lalert.errors import Unavailable
from lalert.model import JST, Entry

INDEX: Final = "index.jsonl"
SYNCS: Final = 16
"""So many files are waited for at a time."""


class Archive:
    """Writes to `folder`, which it makes, for its owner alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, entries: Iterable[Entry]) -> None:
        """Write entries down; blocks until they are on disk with their names and their lines in the index. Raises `Unavailable`.

        What is there already is left as it is, so that it may be called again after a crash.
        """
        try:
            for day, of_day in groupby(sorted(entries, key=_stored), _day):
                self._keep_day(self._folder / day, list(of_day))
        except OSError as error:
            raise Unavailable(
                f"{self._folder} cannot be written ({error.strerror}): nothing is deleted until the archive has it"
            ) from error

    def _keep_day(self, folder: Path, entries: list[Entry]) -> None:
        self._make(folder)
        index = folder / INDEX
        known = _ids(index)
        _write({folder / file_name(entry): entry.alert.raw for entry in entries})
        _sync(folder)
        lines = [line(entry) for entry in entries if entry.alert.id not in known]
        with os.fdopen(os.open(index, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
        _sync(folder)

    def _make(self, folder: Path) -> None:
        missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
        for each in reversed(missing):
            each.mkdir(mode=0o700, exist_ok=True)
            _sync(each.parent)


def file_name(entry: Entry) -> str:
    """Return the name of a document's file: when it was stored, in Japan, and the alert's permanent id."""
    return f"{_stored(entry):%H%M%S}-{entry.alert.id}.xml"


def line(entry: Entry) -> bytes:
    """Return an entry's line of the index."""
    alert = entry.alert
    about = {
        "file": file_name(entry),
        "position": entry.position,
        "id": alert.id,
        "sender": alert.sender,
        "identifier": alert.identifier,
        "sent": alert.sent_text,
        "stored": _stored(entry).isoformat(),
        "sha256": hashlib.sha256(alert.raw).hexdigest(),
    }
    return orjson.dumps(about) + b"\n"


def _stored(entry: Entry) -> datetime:
    return entry.stored.astimezone(JST)


def _day(entry: Entry) -> str:
    return f"{_stored(entry):%Y/%m/%d}"


def _ids(index: Path) -> set[str]:
    """Return the ids that an index names; a last line that a crash cut off is taken away."""
    try:
        whole = index.read_bytes()
    except FileNotFoundError:
        return set()
    end = whole.rfind(b"\n") + 1
    if end < len(whole):
        os.truncate(index, end)
    return set(filter(None, map(_id, whole[:end].splitlines())))


def _id(line: bytes) -> str | None:
    """Return the id that a line names; None for one that somebody else has written."""
    try:
        return str(orjson.loads(line)["id"])
    except (ValueError, TypeError, KeyError):
        return None


def _holds(path: Path, raw: bytes) -> bool:
    try:
        return path.read_bytes() == raw
    except FileNotFoundError:
        return False


def _write(documents: Mapping[Path, bytes]) -> None:
    """Give each document its file, as far as it has none that holds it: its name it gets only when it is whole and on disk."""
    missing = {path: raw for path, raw in documents.items() if not _holds(path, raw)}
    partials = {path: path.with_name(f".{path.name}.partial") for path in missing}
    with ExitStack() as files:
        written: list[int] = []
        for path, raw in missing.items():
            fd = os.open(partials[path], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            file = files.enter_context(os.fdopen(fd, "wb"))
            file.write(raw)
            file.flush()
            written.append(fd)
        # At once: a file system puts many on disk together, in a fraction of the time that it takes one after another.
        with ThreadPoolExecutor(SYNCS) as pool:
            list(pool.map(os.fsync, written))
    for path, partial in partials.items():
        partial.replace(path)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
