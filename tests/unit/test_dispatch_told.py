"""Notes of who was told of what ahead of a cursor: kept, read again, and dropped when nobody needs them."""

from __future__ import annotations

import pytest

from lalert.dispatch.told import MAX_BYTES, Told
from lalert.errors import Unavailable


class Values:
    """Small values, as the store keeps them."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}
        self.full = False

    async def get(self, owner: str, key: str) -> bytes | None:
        return self.kept.get((owner, key))

    async def put(self, owner: str, key: str, value: bytes) -> None:
        assert len(value) <= MAX_BYTES
        if self.full:
            raise Unavailable("the disk is full")
        self.kept[owner, key] = value

    async def delete(self, owner: str, key: str) -> None:
        self.kept.pop((owner, key), None)


async def again(values: Values) -> Told:
    told = Told(values)
    await told.load()
    return told


async def test_what_was_noted_is_known_after_a_restart_and_nothing_else() -> None:
    values = Values()
    told = await again(values)
    await told.note([("s1", "a1"), ("s2", "a1"), ("s1", "a2")])
    await told.note([("s2", "a3")])
    assert len(values.kept) == 2
    told = await again(values)
    known = {(s, a) for s in ("s1", "s2", "s3") for a in ("a1", "a2", "a3") if told.knows(s, a)}
    assert known == {("s1", "a1"), ("s2", "a1"), ("s1", "a2"), ("s2", "a3")}


async def test_notes_go_on_after_those_of_before() -> None:
    values = Values()
    await (await again(values)).note([("s1", "a1")])
    await (await again(values)).note([("s2", "a1")])
    told = await again(values)
    assert told.knows("s1", "a1")
    assert told.knows("s2", "a1")


async def test_one_that_is_too_large_for_the_store_becomes_several() -> None:
    values = Values()
    pairs = [(f"sub-{n:064}", f"a{n % 3}") for n in range(3_000)]
    await (await again(values)).note(pairs)
    assert len(values.kept) > 1
    told = await again(values)
    assert all(told.knows(*pair) for pair in pairs)


async def test_what_the_store_cannot_take_is_raised_and_can_be_noted_again() -> None:
    values = Values()
    told = await again(values)
    values.full = True
    with pytest.raises(Unavailable):
        await told.note([("s1", "a1")])
    values.full = False
    await told.note([("s1", "a1")])
    assert (await again(values)).knows("s1", "a1")


async def test_they_are_dropped_together_unless_another_has_come() -> None:
    values = Values()
    told = await again(values)
    for n in range(250):
        await told.note([(f"s{n}", "a")])
    seen = told.notes
    await told.note([("late", "a")])
    await told.forget(seen)
    assert (await again(values)).knows("late", "a")
    await told.forget(told.notes)
    assert values.kept == {}
    await told.note([("s", "b")])
    assert (await again(values)).knows("s", "b")
