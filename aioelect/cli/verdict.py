"""Judges a demo by what was recorded: each takeover, its latency, and whether two ever led at once. No I/O."""

from __future__ import annotations

import enum
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from aioelect.testing.recorder import Interval, find_overlaps

__all__ = ["Kind", "KindSummary", "Measured", "Summary", "Takeover", "judge"]


class Kind(enum.StrEnum):
    """What is done to a leader."""

    RESIGN = "resign"
    KILL = "kill"
    CUT = "cut"

    def describe(self) -> str:
        """A few words for people."""
        return {Kind.RESIGN: "resignation", Kind.KILL: "kill -9", Kind.CUT: "network cut"}[self]


@dataclass(frozen=True, slots=True)
class Takeover:
    """Leadership went from one contender to another.

    ``at`` is when the cause was given, ``stopped`` when the old leader's block, or its process, had ended (``time.monotonic``).
    """

    kind: Kind
    at: float
    stopped: float
    before: str
    after: str
    token_before: int
    token_after: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A takeover with what was recorded of it, in seconds up to the new leader's first step.

    ``latency`` counts from the cause, ``gap`` from the end of the old leader's block: nobody was at work for so long.
    """

    takeover: Takeover
    latency: float
    gap: float


@dataclass(frozen=True, slots=True)
class KindSummary:
    """The takeovers of one kind: median and worst latency, shortest gap, in seconds; None where there was no takeover."""

    kind: Kind
    expected: int
    count: int
    median: float | None
    worst: float | None
    shortest_gap: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcome of a demo. ``problems`` says, in sentences, what was not as promised."""

    takeovers: tuple[Measured, ...]
    by_kind: tuple[KindSummary, ...]
    intervals: int
    overlaps: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every takeover happened, nothing overlapped and tokens grew."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """For programs; times in seconds, tokens as integers."""
        return {
            "ok": self.ok,
            "problems": list(self.problems),
            "takeovers": {
                each.kind.value: {
                    "expected": each.expected,
                    "count": each.count,
                    "latency_median": _rounded(each.median),
                    "latency_worst": _rounded(each.worst),
                    "gap_shortest": _rounded(each.shortest_gap),
                }
                for each in self.by_kind
            },
            "intervals": self.intervals,
            "overlaps": self.overlaps,
            "log": [
                {
                    "kind": each.takeover.kind.value,
                    "before": each.takeover.before,
                    "after": each.takeover.after,
                    "token_before": each.takeover.token_before,
                    "token_after": each.takeover.token_after,
                    "latency": _rounded(each.latency),
                    "gap": _rounded(each.gap),
                }
                for each in self.takeovers
            ],
        }


def judge(
    takeovers: Sequence[Takeover], intervals: Iterable[Interval], *, rounds: int, mishap: str | None = None
) -> Summary:
    """Weighs what was seen against what was recorded. ``mishap`` is why the demo ended early, if it did."""
    intervals = sorted(intervals)
    problems = [] if mishap is None else [mishap]
    measured = []
    for takeover in takeovers:
        found = _measure(takeover, intervals)
        if isinstance(found, Measured):
            measured.append(found)
            if found.gap < 0:
                late = f"was still at work {-found.gap * 1000:.1f} ms after {takeover.after} had begun"
                problems.append(f"{takeover.before} (token {takeover.token_before:#x}) {late}")
        else:
            problems.append(found)
    by_kind = tuple(_summarize(kind, measured, rounds) for kind in Kind)
    problems += [
        f"{each.expected - each.count} of {each.expected} takeovers after a {each.kind.describe()} did not happen"
        for each in by_kind
        if each.count < each.expected
    ]
    overlaps = find_overlaps(intervals)
    problems += [f"{_name(a)} and {_name(b)} led at once, for {_shared(a, b) * 1000:.1f} ms" for a, b in overlaps]
    problems += [
        f"tokens must grow: {_name(later)} led after {_name(earlier)}"
        for earlier, later in pairwise(intervals)
        if later.token <= earlier.token
    ]
    return Summary(tuple(measured), by_kind, len(intervals), len(overlaps), tuple(problems))


def _measure(takeover: Takeover, intervals: Sequence[Interval]) -> Measured | str:
    """The takeover as recorded, or what is wrong with it."""
    ends = []
    for identity, token in ((takeover.before, takeover.token_before), (takeover.after, takeover.token_after)):
        found = [each for each in intervals if (each.contender, each.token) == (identity, token)]
        if not found:
            return f"nothing was recorded of the leadership of {identity} (token {token:#x})"
        ends.append(found[0])
    old, new = ends
    if new.start < takeover.at:
        return f"{_name(new)} led before the {takeover.kind.describe()} of {_name(old)}, not because of it"
    return Measured(takeover, latency=new.start - takeover.at, gap=new.start - takeover.stopped)


def _summarize(kind: Kind, measured: Iterable[Measured], expected: int) -> KindSummary:
    those = [each for each in measured if each.takeover.kind is kind]
    if not those:
        return KindSummary(kind, expected, 0, None, None, None)
    latencies = [each.latency for each in those]
    return KindSummary(
        kind, expected, len(those), statistics.median(latencies), max(latencies), min(each.gap for each in those)
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _name(interval: Interval) -> str:
    return f"{interval.contender} (token {interval.token:#x})"


def _shared(a: Interval, b: Interval) -> float:
    return min(a.end, b.end) - max(a.start, b.start)
