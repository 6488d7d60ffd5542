"""An exhaustive breadth-first search: every state that a model can reach, the shortest way to a violation first."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

__all__ = ["Model", "Report", "explore"]

S = TypeVar("S", bound=Hashable)


class Model(Protocol[S]):
    """A world of finitely many states."""

    def initial(self) -> S:
        """Where it begins."""

    def steps(self, state: S) -> Iterable[tuple[str, S]]:
        """Everything that may happen next, each with a name for people."""

    def violation(self, state: S) -> str | None:
        """What is wrong with this state."""

    def settle(self, state: S) -> tuple[str, S] | None:
        """The next step when nothing fails any more and every message arrives; None once all is quiet."""

    def unsettled(self, state: S) -> str | None:
        """What is wrong with this state if nothing more is to come."""

    def render(self, state: S) -> str:
        """The state in one line."""


@dataclass(frozen=True, slots=True)
class Report(Generic[S]):
    """What a search found. ``complete``: no reachable state was left out."""

    states: int
    steps: int
    depth: int
    seconds: float
    complete: bool
    violation: str | None = None
    trace: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        extent = "complete" if self.complete else f"to depth {self.depth}"
        head = f"{self.states:,} states, {self.steps:,} steps, {extent}, {self.seconds:.1f} s"
        if self.violation is None:
            return f"{head}: no violation"
        lines = [
            f"{head}: {self.violation}",
            *(f"{n:3}. {step:<52} {state}" for n, (step, state) in enumerate(self.trace)),
        ]
        return "\n".join(lines)


def explore(model: Model[S], *, limit: int) -> Report[S]:
    """Visits states in the order of their distance from the beginning, at most ``limit`` of them.

    Ends at the first violation. Where there is none, it ends at the first state from which the world does not settle well when
    faults stop.
    """
    began = time.perf_counter()
    first = model.initial()
    seen = {first}
    order = [first]
    parents: list[tuple[int, str]] = [(0, "begin")]
    depths = [0]
    steps = visited = 0

    def report(at: int, violation: str | None = None, tail: Iterable[tuple[str, S]] = ()) -> Report[S]:
        path: list[tuple[str, str]] = []
        node = at
        while violation is not None:
            path.append((parents[node][1], model.render(order[node])))
            if node == 0:
                break
            node = parents[node][0]
        path.reverse()
        path.extend((f"(no more faults) {step}", model.render(state)) for step, state in tail)
        complete = visited == len(order)
        return Report(
            visited, steps, depths[visited - 1], time.perf_counter() - began, complete, violation, tuple(path)
        )

    while visited < min(limit, len(order)):
        at, visited = visited, visited + 1
        wrong = model.violation(order[at])
        if wrong is not None:
            return report(at, wrong)
        for step, successor in model.steps(order[at]):
            steps += 1
            if successor not in seen:
                seen.add(successor)
                order.append(successor)
                parents.append((at, step))
                depths.append(depths[at] + 1)
    healthy: set[S] = set()
    for at in range(visited):
        wrong, tail = _settle(model, order[at], healthy)
        if wrong is not None:
            return report(at, wrong, tail)
    return report(visited - 1)


def _settle(model: Model[S], state: S, healthy: set[S]) -> tuple[str | None, list[tuple[str, S]]]:
    """Follows the faultless run from ``state`` to its end, or to a state whose end is known to be good."""
    run: list[tuple[str, S]] = []
    passed: set[S] = set()
    while state not in healthy:
        if state in passed:
            return "the world never settles", run
        passed.add(state)
        step = model.settle(state)
        if step is None:
            wrong = model.unsettled(state)
            if wrong is not None:
                return wrong, run
            break
        run.append(step)
        state = step[1]
    healthy |= passed
    return None, []
