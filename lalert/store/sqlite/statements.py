"""The ways in which the tables speak to SQLite beside plain statements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, TypeAlias

import apsw

Value: TypeAlias = int | float | str | bytes | None
Row: TypeAlias = Sequence[Any]
"""A row as SQLite gives it: what each column holds is stated by the STRICT tables of `schema`."""

MOST_AT_ONCE: Final = 256
"""Rows in one step: SQLite then works without the interpreter's lock for a millisecond or two."""


def rows(db: apsw.Connection, sql: str, values: Sequence[Value] = ()) -> list[Row]:
    return list(db.execute(sql, values))


def row(db: apsw.Connection, sql: str, values: Sequence[Value] = ()) -> Row | None:
    return db.execute(sql, values).fetchone()


@contextmanager
def all_or_nothing(db: apsw.Connection) -> Iterator[None]:
    """Undo what the block did if it raises (a savepoint inside the transaction under way)."""
    with db:
        yield


def execute_rows(db: apsw.Connection, sql: str, values: Sequence[Sequence[Value]]) -> None:
    """Execute a statement for many rows in one step for each `MOST_AT_ONCE` of them, in place of a step for each.

    Between two steps the thread has to win the interpreter from a busy event loop, which takes a millisecond each time. `{rows}` in `sql` stands
    for the rows of a VALUES clause; it is filled up, to one of a few sizes that are compiled once, with rows of NULL, which `sql` has to pass over.
    """
    for start in range(0, len(values), MOST_AT_ONCE):
        some = values[start : start + MOST_AT_ONCE]
        width, size = len(some[0]), 1 << (len(some) - 1).bit_length()
        flat = [value for row in some for value in row]
        flat += [None] * (width * (size - len(some)))
        db.execute(_with_rows(sql, width, size), flat)


@lru_cache
def _with_rows(sql: str, width: int, size: int) -> str:
    row = "(" + ",".join("?" * width) + ")"
    return sql.replace("{rows}", ",".join([row] * size))
