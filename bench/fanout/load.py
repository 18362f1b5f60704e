"""The load client (`client.c`) and the sender of alerts, as the measuring sees them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

PATIENCE_SECONDS = 20.0
"""Without a receipt for so long, what has not come is not waited for."""


class Unavailable(Exception):
    """Something that a measurement needs is not on this machine; the message says what to install."""


def compiled(source: str, folder: Path) -> Path:
    """Compile one of the C programs beside this module into `folder`; raises `Unavailable` without a compiler."""
    program = folder / Path(source).stem
    words = ["cc", "-O2", "-pthread", "-o", str(program), str(Path(__file__).parent / source)]
    try:
        subprocess.run(words, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise Unavailable("no C compiler: apt-get install gcc libc6-dev") from None
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{source} does not compile: {error.stderr}") from error
    return program


@contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """Have what is started meanwhile run on these cores alone."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


@dataclass(frozen=True, slots=True)
class Part:
    """So many subscribers of one port that ask for one path."""

    port: int
    count: int
    path: str


@dataclass(frozen=True, slots=True)
class Crowd:
    """Subscribers of one run. The alerts reach all of the first part, and of the second if it is `wanting` too; `stalled` of the first read nothing."""

    wire: str
    first: Part
    second: Part = Part(0, 0, "/")
    wanting: bool = False
    stalled: int = 0

    @property
    def total(self) -> int:
        return self.first.count + self.second.count

    @property
    def receipts(self) -> int:
        """Return how many receive each alert."""
        return self.first.count - self.stalled + (self.second.count if self.wanting else 0)


@dataclass(frozen=True, slots=True)
class Receipts:
    """When which subscriber had which alert: nanoseconds of CLOCK_MONOTONIC, a row for each alert, 0 for what did not come."""

    times: NDArray[np.int64]
    closed: int
    stalled_closed: int


class Load:
    """A crowd in a process of its own, pinned to `cores`; a context manager."""

    def __init__(self, program: Path, crowd: Crowd, cores: Collection[int]) -> None:
        self.crowd = crowd
        parts = [(part.port, part.count, part.path) for part in (crowd.first, crowd.second)]
        words = [program, crowd.wire, crowd.stalled, *parts[0], *parts[1]]
        with pinned(cores):
            self._process = subprocess.Popen(
                list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._orders.close()
        self._process.wait(30)
        self._answers.close()

    def connected(self) -> float:
        """Wait until everybody is connected; returns the seconds that it took."""
        return float(self._line("connected")[0])

    def expect(self, first: int, alerts: int) -> None:
        """Begin to count the receipts of some alerts; nothing is published before this returns."""
        receipts = alerts * self.crowd.receipts
        self._orders.write(b"count %d %d %d %.1f\n" % (first, alerts, receipts, PATIENCE_SECONDS))
        self._orders.flush()
        self._alerts = alerts
        self._line("ready")

    def receipts(self) -> Receipts:
        """Wait for what was expected."""
        _, closed, stalled_closed = map(int, self._line("done"))
        size = self._alerts * self.crowd.total
        times = np.frombuffer(self._answers.read(8 * size), np.int64)
        return Receipts(times.reshape(self._alerts, self.crowd.total), closed, stalled_closed)

    def closed(self) -> tuple[int, int]:
        """Return how many connections the server has ended, and how many of these were stalled."""
        self._orders.write(b"state\n")
        self._orders.flush()
        closed, stalled = map(int, self._line("state"))
        return closed, stalled

    def _line(self, word: str) -> Sequence[str]:
        said = self._answers.readline().decode().split()
        if not said or said[0] != word:
            raise ConnectionError(f"the load client said {said} instead of {word!r}")
        return said[1:]


class Sender:
    """One keep-alive connection on which alerts are posted."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def post(self, request: bytes) -> tuple[int, int]:
        """Post one alert; returns when it went and when its answer was here, in nanoseconds of CLOCK_MONOTONIC."""
        begun = time.monotonic_ns()
        self._socket.sendall(request)
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0 or len(answer) < end + 4 + _length(answer[:end]):
            more = self._socket.recv(65_536)
            if not more:
                raise ConnectionError(f"the server hung up on a sender: {answer!r}")
            answer += more
        answered = time.monotonic_ns()
        if not answer.startswith(b"HTTP/1.1 2"):
            raise ConnectionError(f"an alert was refused: {answer.decode(errors='replace')}")
        return begun, answered


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0
