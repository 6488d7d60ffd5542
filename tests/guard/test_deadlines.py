"""The earliest of many deadlines."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from aioelect.guard.deadlines import Deadlines

MANY = 10_000


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 9).map(float)), max_size=60))
def test_the_earliest_is_that_of_those_who_are_held(steps: list[tuple[int, float | None]]) -> None:
    deadlines, held = Deadlines(), dict[int, float]()
    for term, deadline in steps:
        if deadline is None:
            deadlines.release(term)
            held.pop(term, None)
        else:
            deadlines.hold(term, deadline)
            held[term] = deadline
        assert deadlines.earliest == min(held.values(), default=math.inf)


class Compared(float):
    """Counts how often it is compared."""

    count = 0

    def __lt__(self, other: float) -> bool:
        Compared.count += 1
        return float(self) < float(other)


def comparisons() -> int:
    count, Compared.count = Compared.count, 0
    return count


def test_ten_thousand_leaders_of_one_lease_cost_no_more_each_than_one() -> None:
    deadlines = Deadlines()
    comparisons()
    for renewal in range(10):
        lease = Compared(renewal)
        for term in range(MANY):
            deadlines.hold(term, lease)
            assert deadlines.earliest == (lease if term == MANY - 1 or renewal == 0 else lease - 1)
    assert comparisons() < 100


def test_ten_thousand_leaders_with_deadlines_of_their_own_cost_little_more() -> None:
    deadlines = Deadlines()
    comparisons()
    for term in range(MANY):
        deadlines.hold(term, Compared(MANY - term))
        assert deadlines.earliest == MANY - term
    for term in range(MANY):
        deadlines.release(MANY - 1 - term)
        assert deadlines.earliest == (term + 2 if term < MANY - 1 else math.inf)
    assert comparisons() < 50 * MANY


def test_terms_that_come_and_go_leave_nothing() -> None:
    deadlines = Deadlines()
    deadlines.hold("stuck", 1.0)
    for term in range(MANY):
        deadlines.hold(term, 2.0)
        deadlines.release(term)
    assert len(deadlines._times) == len(deadlines._counts) == 2
    deadlines.release("stuck")
    assert deadlines.earliest == math.inf
    assert not deadlines._told
    assert not deadlines._times
    assert not deadlines._counts
