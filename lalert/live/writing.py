"""The same bytes to very many sockets: nothing is done for each of them but the write, by as many threads as there are cores for it.

The event loop stands still while a turn is written, so that no transport changes meanwhile and no descriptor is closed and given to somebody else. Threads gain
because write(2) lets go of the interpreter: the kernel's part, which is nearly all of it, goes on side by side.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from operator import length_hint
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lalert.live.connection import Connection

WORTH_HELP: Final = 256
"""Writes that have to be left before it pays to wake a thread: about 2 ms of them."""

MOST_WRITERS: Final = 4
"""More threads than these wait for the interpreter more than they write."""

MOST_LEFT: Final = 64
"""Of those who could not be written to directly, before a helper stops: the loop serves them, and has to look at the time between them."""

Left = list[tuple["Connection", int]]
"""Who could not be written to directly, or had no room for all, and how many bytes of the frame have gone."""


def writers_for(wanted: int) -> int:
    """Return how many threads write at once: as many as are wanted, at most four; for 0 one for each core that is ours, at most two."""
    if wanted:
        return min(wanted, MOST_WRITERS)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 2)


class Writers:
    """The event loop's thread and its helpers.

    `serve` writes to whoever is left, from the loop's thread. After `close`, which may be repeated, there are no helpers.
    """

    def __init__(self, writers: int, serve: Callable[[Connection, bytes, int], None]) -> None:
        self._helping = writers - 1
        self._serve = serve
        self._helpers: list[Helper] = []
        self._unlooked = 0

    def write(
        self, frame: bytes, rest: Iterator[Connection], turn_over: Callable[[], bool], look_every: int
    ) -> bool:
        """Write a frame to the next of `rest` until none is left or the turn is over, which is asked after each `look_every`; returns whether none is left."""
        if not self._helping or length_hint(rest) < WORTH_HELP:
            return self._alone(frame, rest, turn_over, look_every)
        while len(self._helpers) < self._helping:
            self._helpers.append(Helper())
        for helper in self._helpers:
            helper.begin(frame, rest)
        try:
            return self._alone(frame, rest, turn_over, look_every)
        finally:
            for helper in self._helpers:
                self._serve_all(frame, helper.finish())

    def close(self) -> None:
        """End the helpers."""
        self._helping = 0
        for helper in self._helpers:
            helper.end()
        self._helpers.clear()

    def _alone(
        self, frame: bytes, rest: Iterator[Connection], turn_over: Callable[[], bool], look_every: int
    ) -> bool:
        while True:
            left: Left = []
            wanted = max(1, look_every - self._unlooked)
            written = push(frame, islice(rest, wanted), left)
            self._serve_all(frame, left)
            if written < wanted:
                self._unlooked += written
                return True
            self._unlooked = 0
            if turn_over():
                return False

    def _serve_all(self, frame: bytes, left: Left) -> None:
        for conn, sent in left:
            self._serve(conn, frame, sent)


class Helper:
    """A thread that writes between `begin` and `finish`."""

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[bytes, Iterator[Connection]] | None] = SimpleQueue()
        self._idle = Lock()
        self._left: Left = []
        self._enough = False
        self._thread = Thread(target=self._run, name="live writer", daemon=True)
        self._thread.start()

    def begin(self, frame: bytes, rest: Iterator[Connection]) -> None:
        """Take from `rest` too, from now on."""
        self._enough = False
        self._idle.acquire()
        self._work.put((frame, rest))

    def finish(self) -> Left:
        """Stop after the write under way; returns who is left."""
        self._enough = True
        with self._idle:
            left, self._left = self._left, []
            return left

    def end(self) -> None:
        """End the thread."""
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            frame, rest = work
            try:
                push(frame, self._until_enough(rest), self._left)
            finally:
                self._idle.release()

    def _until_enough(self, rest: Iterator[Connection]) -> Iterator[Connection]:
        while not self._enough and len(self._left) < MOST_LEFT:
            conn = next(rest, None)
            if conn is None:
                return
            yield conn


def push(frame: bytes, conns: Iterator[Connection], left: Left) -> int:
    """Write a frame to each connection for which nothing waits; returns how many connections there were."""
    write, size, count = os.write, len(frame), 0
    for conn in conns:
        count += 1
        sent = 0
        # The last look before the write: the descriptor of a transport that is closing may be somebody else's by now.
        if conn.direct and not conn.transport.is_closing():
            try:
                sent = write(conn.fd, frame)
            except OSError:
                sent = 0
        if sent != size:
            left.append((conn, sent))
    return count
