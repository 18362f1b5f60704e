"""Look for a document that breaks an invariant: `python -m fuzz.examine [seconds]`, or `make fuzz`.

With atheris (libFuzzer) new documents grow out of those that reached new lines of lalert/cap; without it mutants are drawn at random. What is
found is written to .fuzz/ (`crash-…`): shorten it, put it into tests/data/fuzz, and mend what it shows.
"""

from __future__ import annotations

import importlib
import secrets
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".fuzz"
SEEDS = (ROOT / "tests" / "data" / "cap", ROOT / "tests" / "data" / "fuzz")


class Drawn(Random):
    """Draws from given bytes, so that a fuzzer that changes a byte changes one decision; when they are used up, always the first choice."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data = data
        self._at = 0

    def getrandbits(self, k: int, /) -> int:
        """Return the next k bits."""
        size = (k + 7) // 8
        taken = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(taken, "big") >> (8 * len(taken) - k) if len(taken) == size else 0

    def random(self) -> float:
        """Return the next two bytes as a fraction."""
        return self.getrandbits(16) / 65_536


def document(data: bytes) -> bytes:
    """Return the document that a fuzzer's bytes stand for: as they are, or as decisions about a mutant."""
    from fuzz.mutants import garbled, mutant

    kind = data[:1]
    if kind == b"\x01":
        return mutant(Drawn(data[1:]))
    return garbled(Drawn(data[1:])) if kind == b"\x02" else data


def main(seconds: int = 60) -> None:
    """Fuzz for so long and end with an error if something was found."""
    WORK.mkdir(exist_ok=True)
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        print("atheris is not installed: mutants are drawn at random instead", flush=True)
        _draw(seconds)
        return
    with atheris.instrument_imports(include=["lalert.cap"]):
        from fuzz.invariants import broken

    def one(data: bytes) -> None:
        if said := broken(document(data)):
            raise AssertionError(said)

    corpus = WORK / "corpus"
    corpus.mkdir(exist_ok=True)
    options = [f"-max_total_time={seconds}", "-max_len=16384", "-timeout=10", f"-artifact_prefix={WORK}/"]
    words = ["-print_final_stats=1", str(corpus), *map(str, (s for s in SEEDS if s.is_dir()))]
    atheris.Setup([sys.argv[0], *options, *words], one)
    atheris.Fuzz()


def _draw(seconds: int) -> None:
    from fuzz.invariants import broken
    from fuzz.mutants import garbled, mutant

    tried = 0
    seed = secrets.randbits(64)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        raw = (garbled if tried % 2 else mutant)(Random(seed + tried))
        tried += 1
        if said := broken(raw):
            file = WORK / f"crash-{seed + tried - 1}"
            file.write_bytes(raw)
            sys.exit(f"{file}: {said}")
    print(f"{tried:,} documents, nothing found")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
