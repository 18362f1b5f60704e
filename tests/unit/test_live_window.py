from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lalert.live.window import Mark, Window
from tests.system.live_kit import make_entry


def mark(number: int) -> Mark:
    return Mark((number,), f"e-{number}")


def window_of(
    *numbers: int, start: int = 0, entries: int = 1_000, size: int = 10**9, padding: int = 0
) -> Window:
    window = Window(mark(start), entries, size)
    for number in numbers:
        window.add(mark(number), make_entry(number, padding=padding))
    return window


def numbers_after(window: Window, order: int, limit: int = 100) -> list[int] | None:
    found = window.after((order,), limit)
    return None if found is None else [heard.mark.order[0] for heard in found]


def test_what_follows_a_place_comes_in_order_and_within_the_limit() -> None:
    window = window_of(1, 2, 3, 5, 8)
    assert numbers_after(window, 0, 3) == [1, 2, 3]
    assert numbers_after(window, 4) == [5, 8]
    assert numbers_after(window, 8) == []
    assert numbers_after(window, 99) == []


def test_an_entry_heard_of_twice_or_late_is_passed_over() -> None:
    window = window_of(1, 3)
    assert not window.add(mark(3), make_entry(3))
    assert not window.add(mark(2), make_entry(2))
    assert numbers_after(window, 0) == [1, 3]


def test_whoever_is_behind_what_is_kept_is_told_so_instead_of_getting_a_hole() -> None:
    window = window_of(1, 2, 3, 4, entries=2)
    assert numbers_after(window, 1) is None
    assert numbers_after(window, 2) == [3, 4]


def test_what_was_before_the_start_is_not_here() -> None:
    assert numbers_after(window_of(start=7), 6) is None
    assert numbers_after(window_of(start=7), 7) == []


def test_documents_are_bounded_in_bytes_but_the_newest_always_stays() -> None:
    window = window_of(1, 2, 3, size=250, padding=100)
    assert numbers_after(window, 1) == [2, 3]
    window.add(mark(4), make_entry(4, padding=5_000))
    assert numbers_after(window, 3) == [4]
    assert numbers_after(window, 2) is None


@given(st.lists(st.integers(1, 50)), st.integers(1, 5), st.integers(0, 50))
def test_a_place_is_answered_by_everything_after_it_or_by_none(
    numbers: list[int], entries: int, order: int
) -> None:
    window = window_of(*numbers, entries=entries)
    rising = sorted({n for at, n in enumerate(numbers) if n > max(numbers[:at], default=0)})
    found = numbers_after(window, order)
    everything = [n for n in rising if n > order]
    assert found == everything or (found is None and len(everything) > entries)
