"""The three ways in which the tables speak to SQLite beside plain statements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import apsw

Value: TypeAlias = int | float | str | bytes | None
Row: TypeAlias = Sequence[Any]
"""A row as SQLite gives it: what each column holds is stated by the STRICT tables of `schema`."""


def rows(db: apsw.Connection, sql: str, values: Sequence[Value] = ()) -> list[Row]:
    return list(db.execute(sql, values))


def row(db: apsw.Connection, sql: str, values: Sequence[Value] = ()) -> Row | None:
    return db.execute(sql, values).fetchone()


@contextmanager
def all_or_nothing(db: apsw.Connection) -> Iterator[None]:
    """Undo what the block did if it raises (a savepoint inside the transaction under way)."""
    with db:
        yield
