"""Arrays that grow at their end, and stretches of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int32]
"""Of filters, as `FilterIndex` gives them."""

Places = npt.NDArray[np.intp]
"""Indices into columns."""

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

Boxes = npt.NDArray[np.float32]
"""Rows of west, south, east and north in degrees: never less than what they are around, and at most a rounding more."""

T = TypeVar("T", bound=np.generic)

_FIRST_ROOM = 16


class Column(Generic[T]):
    """An array that grows at its end. A view stays as it was when it was taken, whatever is added later, also for another thread."""

    def __init__(self, kind: type[T], width: int | None = None) -> None:
        self._room: npt.NDArray[T] = np.empty(_FIRST_ROOM if width is None else (_FIRST_ROOM, width), kind)
        self._count = 0

    @property
    def view(self) -> npt.NDArray[T]:
        """Return all that was added so far."""
        return self._room[: self._count]

    def add(self, value: float | tuple[float, ...]) -> None:
        """Add one row."""
        if self._count == len(self._room):
            self._grow(1)
        self._room[self._count] = value
        self._count += 1

    def extend(self, values: Sequence[Any] | npt.NDArray[Any]) -> None:
        """Add many rows."""
        if self._count + len(values) > len(self._room):
            self._grow(len(values))
        self._room[self._count : self._count + len(values)] = values
        self._count += len(values)

    def after(self, count: int) -> Self:
        """Return a column of what comes after the first `count` rows."""
        column = type(self).__new__(type(self))
        column._room = self.view[count:].copy()
        column._count = len(column._room)
        return column

    def _grow(self, more: int) -> None:
        # A new array, never the old one in place: views of it are still read.
        room = np.empty(
            (max(2 * self._count, self._count + more, _FIRST_ROOM), *self._room.shape[1:]), self._room.dtype
        )
        room[: self._count] = self.view
        self._room = room


def stretches(starts: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> Places:
    """Return the indices of all stretches, one after another."""
    ends = lengths.cumsum(dtype=np.intp)
    if not len(ends):
        return ends
    places: Places = (starts - ends + lengths).repeat(lengths)
    places += np.arange(len(places))
    return places
