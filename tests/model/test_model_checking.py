"""The real machines in every state of small worlds, and wrong ones, which the same search must find out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioelect.lease import Lease
from tests.model.checker import Model, explore
from tests.model.lease_model import freeze, learn, thaw
from tests.model.scopes import ASSUMPTIONS, MUTANTS, SCOPES, without_mutation

LIMIT = 25_000
"""States of each world that a test visits; ``python -m tests.model`` visits many more."""


@pytest.mark.parametrize("scope", SCOPES)
def test_the_real_machines_hold_in_every_state(scope: str) -> None:
    report = explore(SCOPES[scope], limit=LIMIT)
    assert report.violation is None, f"\n{report}"


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_search_finds_a_wrong_machine_out(mutant: str) -> None:
    report = explore(MUTANTS[mutant], limit=2 * LIMIT)
    print(f"{mutant}: {report}")
    assert report.violation is not None, report
    assert report.trace
    assert explore(without_mutation(MUTANTS[mutant]), limit=report.states).violation is None


@pytest.mark.parametrize("assumption", ASSUMPTIONS)
def test_the_proof_needs_its_assumptions(assumption: str) -> None:
    report = explore(ASSUMPTIONS[assumption], limit=10 * LIMIT)
    print(f"without: {assumption}: {report}")
    assert report.violation is not None, report


# The search itself


@dataclass(frozen=True)
class Counter:
    """Counts up by one or two, and stands still at ``end``."""

    end: int
    forbidden: int = -1
    good: int = -1

    def initial(self) -> int:
        return 0

    def steps(self, state: int) -> list[tuple[str, int]]:
        return [(f"+{n}", state + n) for n in (1, 2) if state + n <= self.end]

    def violation(self, state: int) -> str | None:
        return "forbidden" if state == self.forbidden else None

    def settle(self, state: int) -> tuple[str, int] | None:
        return ("+1", state + 1) if state < self.end else None

    def unsettled(self, state: int) -> str | None:
        return "bad end" if state != self.good else None

    def render(self, state: int) -> str:
        return str(state)


def search(model: Model[Any], limit: int = 100) -> tuple[int, bool, str | None, list[str]]:
    report = explore(model, limit=limit)
    return report.states, report.complete, report.violation, [step for step, _ in report.trace]


def test_the_search_visits_every_state() -> None:
    assert search(Counter(9, good=9)) == (10, True, None, [])


def test_a_search_that_is_cut_short_says_so() -> None:
    assert search(Counter(9, good=9), limit=5) == (5, False, None, [])


def test_the_shortest_way_to_a_violation_comes_out() -> None:
    assert search(Counter(9, forbidden=4)) == (5, False, "forbidden", ["begin", "+2", "+2"])


def test_a_world_that_settles_badly_is_found() -> None:
    states, complete, violation, trace = search(Counter(2, good=1))
    assert (states, complete, violation) == (3, True, "bad end")
    assert trace == ["begin", "(no more faults) +1", "(no more faults) +1"]


def test_a_world_that_never_settles_is_found() -> None:
    class Wheel(Counter):
        def settle(self, state: int) -> tuple[str, int] | None:
            return "turn", (state + 1) % 3

    assert search(Wheel(2))[2] == "the world never settles"


# The states hold all there is


def test_a_state_holds_every_field_of_the_lease() -> None:
    lease = Lease()
    assert set(vars(lease)) == {
        "tick",
        "margin",
        "session_timeout",
        "_proven",
        "_touches",
        "_resumed",
        "_unconfirmed",
        "_ended_with",  # left out: no model's lease is told that its session has ended
    }, "aioelect.lease has changed: teach freeze() and thaw() of lease_model the same"


@given(st.lists(st.tuples(st.sampled_from(["ping", "renewal", "resume", "disconnect", "clock"]), st.integers(-4, 0))))
def test_a_lease_in_relative_time_believes_as_one_in_absolute_time(events: list[tuple[str, int]]) -> None:
    lease, now, timeout = Lease(), 0, 4
    lease.tick = 2
    lease.opened(0, timeout)
    frozen = freeze(lease, 0, timeout)
    newest = 0
    for event, ago in events:
        newest = sent = max(newest, now + ago)
        frozen = learn(Lease, 2, timeout, frozen, event, sent - now, timeout)
        match event:
            case "ping":
                lease.touched(sent, now)
            case "renewal":
                lease.touched(sent, now)
                lease.renewed(sent, now)
            case "resume":
                lease.resumed(sent, now, timeout)
            case "disconnect":
                lease.disconnected()
            case "clock":
                now += 1
        assert thaw(Lease, 2, frozen).remaining(0) == lease.remaining(now)
