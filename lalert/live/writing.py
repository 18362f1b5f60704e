"""The same bytes to very many sockets: nothing is done for each of them but the write, by as many threads as there are cores for it.

The event loop stands still while a turn is written, so that no transport changes meanwhile and no descriptor is closed and given to somebody else. Threads gain
because write(2) lets go of the interpreter: the kernel's part, which is nearly all of it, goes on side by side.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from itertools import islice
from operator import length_hint
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from lalert.live.connection import Connection

log = logging.getLogger(__name__)

WORTH_HELP: Final = 256
"""Writes that have to be left before it pays to wake a thread: about 2 ms of them."""

MOST_WRITERS: Final = 4
"""More threads than these wait for the interpreter more than they write."""

MOST_LEFT: Final = 64
"""Of those who could not be written to directly, before a helper stops: the loop serves them, and has to look at the time between them."""

MOST_WAITING_SECONDS: Final = 0.001
"""What this thread may wait for its helpers in one turn; if it was more, their cores are not free."""

LEAST_ALONE: Final = 8
MOST_ALONE: Final = 512
"""Long turns that are then written without helpers, twice as many each time: 30 ms to 2 s."""

Left = list[tuple["Connection", int]]
"""Who could not be written to directly, or had no room for all, and how many bytes of the frame have gone."""


def writers_for(wanted: int) -> int:
    """Return how many threads write at once: as many as are wanted, at most four; for 0 one for each core that is ours, at most two."""
    if wanted:
        return min(wanted, MOST_WRITERS)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 2)


class Turn(Protocol):
    """How long the loop may be kept."""

    @property
    def long(self) -> bool:
        """Whether it is worth waking a thread for."""
        ...

    def over(self) -> bool: ...


class Writers:
    """The event loop's thread and its helpers.

    `serve` writes to whoever is left, from the loop's thread. After `close`, which may be repeated, there are no helpers.
    """

    def __init__(self, writers: int, serve: Callable[[Connection, bytes, int], None]) -> None:
        self._helping = writers - 1
        self._serve = serve
        self._helpers: list[Helper] = []
        self._unlooked = 0
        self._alone_for = 0
        self._penalty = LEAST_ALONE

    def write(self, frame: bytes, rest: Iterator[Connection], turn: Turn, look_every: int) -> bool:
        """Write a frame to the next of `rest` until none is left or the turn is over, which is asked after each `look_every`; returns whether none is left."""
        if not self._helping or not turn.long or length_hint(rest) < WORTH_HELP or not self._core_free():
            return self._alone(frame, rest, turn.over, look_every)
        wall, cpu = time.monotonic(), time.thread_time()
        try:
            return self._together(frame, rest, turn, look_every)
        finally:
            self._note_waiting(time.monotonic() - wall - (time.thread_time() - cpu))

    def _core_free(self) -> bool:
        self._alone_for -= 1
        return self._alone_for < 0

    def _note_waiting(self, seconds: float) -> None:
        # A helper whose core is taken from it stands still with the interpreter in its hands, and this thread with it.
        if seconds < MOST_WAITING_SECONDS:
            self._penalty = max(self._penalty // 2, LEAST_ALONE)
        else:
            self._alone_for = self._penalty
            self._penalty = min(self._penalty * 2, MOST_ALONE)

    def _together(self, frame: bytes, rest: Iterator[Connection], turn: Turn, look_every: int) -> bool:
        self._enlist()
        try:
            for helper in self._helpers:
                helper.begin(frame, rest)
            none_left = self._alone(frame, rest, turn.over, look_every)
            for helper in self._helpers:
                helper.stop()
            # The last write of a helper may take its time: meanwhile there is something to do.
            while not none_left and any(helper.busy for helper in self._helpers):
                none_left = self._alone(frame, rest, _at_once, 1)
            return none_left
        finally:
            # All of them, before anything else may fail: none may write while the loop goes on.
            finished = [helper.finish() for helper in self._helpers]
            for left, _ in finished:
                self._serve_all(frame, left)
            for _, failure in finished:
                if failure is not None:
                    raise failure

    def _enlist(self) -> None:
        while len(self._helpers) < self._helping:
            try:
                self._helpers.append(Helper())
            except RuntimeError as error:
                # No thread is to be had: that is no reason to tell nobody.
                log.warning("a thread that writes to live streams cannot be started: %s", error)
                self._helping = len(self._helpers)

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


def _at_once() -> bool:
    return True


class Helper:
    """A thread that writes between `begin` and `finish`."""

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[bytes, Iterator[Connection]] | None] = SimpleQueue()
        self._idle = Lock()
        self._left: Left = []
        self._enough = False
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._run, name="live writer", daemon=True)
        self._thread.start()

    def begin(self, frame: bytes, rest: Iterator[Connection]) -> None:
        """Take from `rest` too, from now on."""
        self._enough = False
        self._idle.acquire()
        self._work.put((frame, rest))

    @property
    def busy(self) -> bool:
        """Whether it still writes."""
        return self._idle.locked()

    def stop(self) -> None:
        """Stop after the write under way."""
        self._enough = True

    def finish(self) -> tuple[Left, BaseException | None]:
        """Stop, wait until it has, and return who is left, and what it failed with: then nobody knows who was written to."""
        self.stop()
        with self._idle:
            left, self._left = self._left, []
            failure, self._failure = self._failure, None
            return left, failure

    def end(self) -> None:
        """End the thread."""
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            frame, rest = work
            try:
                push(frame, self._until_enough(rest), self._left)
            except BaseException as error:  # noqa: BLE001  # raised in the loop's thread; this one must live, or the loop would wait for it for ever
                self._failure = error
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
