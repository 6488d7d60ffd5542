"""The earliest of many deadlines. PURE."""

from __future__ import annotations

import heapq
import math

__all__ = ["Deadlines"]


class Deadlines:
    """When each term must be over. To tell one costs next to nothing, however many there are.

    Leaders of one client share its lease: there are many terms, and few different times. Those stand in a heap, each once; one
    that nobody has any more goes when it is the earliest.
    """

    def __init__(self) -> None:
        self._told: dict[object, float] = {}
        self._times: list[float] = []
        self._counts: dict[float, int] = {}
        """How many terms have each of the times."""

    @property
    def earliest(self) -> float:
        """Infinity when there is none."""
        times, counts = self._times, self._counts
        while times and not counts[times[0]]:
            del counts[heapq.heappop(times)]
        return times[0] if times else math.inf

    def hold(self, term: object, deadline: float) -> None:
        """``term`` must be over by then, and no longer by what was told before."""
        self.release(term)
        self._told[term] = deadline
        if deadline in self._counts:
            self._counts[deadline] += 1
        else:
            self._counts[deadline] = 1
            heapq.heappush(self._times, deadline)

    def release(self, term: object) -> None:
        """It is over; nothing where it was not held."""
        deadline = self._told.pop(term, None)
        if deadline is not None:
            self._counts[deadline] -= 1
