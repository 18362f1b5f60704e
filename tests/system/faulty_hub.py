"""The `lalert` command on a disk that fails as a word on standard input says: `full`, `read-only`, `io`, `sync`, `every-third-sync`, `once`, `heal`."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable

import apsw

from lalert.cli import main
from tests.unit.faulty_disk import FaultyDisk, failing

KINDS = ("wal", "main")


def every(number: int, fail: Callable[[str], None]) -> Callable[[str], None]:
    """Return what fails each so many times."""
    count = itertools.count(1)

    def sometimes(kind: str) -> None:
        if next(count) % number == 0:
            fail(kind)

    return sometimes


def once(disk: FaultyDisk, fail: Callable[[str], None]) -> Callable[[str], None]:
    def first(kind: str) -> None:
        disk.heal()
        fail(kind)

    return first


def obey(disk: FaultyDisk) -> None:
    broken = failing(apsw.IOError, *KINDS)
    for line in sys.stdin:
        disk.heal()
        match line.strip():
            case "full":
                disk.on_write = failing(apsw.FullError, *KINDS)
            case "read-only":
                disk.on_write = failing(apsw.ReadOnlyError, *KINDS)
            case "io":
                disk.on_write = broken
            case "sync":
                disk.on_sync = broken
            case "every-third-sync":
                disk.on_sync = every(3, broken)
            case "once":
                disk.on_sync = once(disk, broken)


if __name__ == "__main__":
    the_disk = FaultyDisk(everywhere=True)
    threading.Thread(target=obey, args=[the_disk], daemon=True).start()
    main()
