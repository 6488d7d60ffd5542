"""What is said about a list of measured times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Latency", "percentile", "summarise"]


def percentile(samples: Sequence[float], part: float) -> float:
    """The smallest sample that ``part`` (0 to 1) of all do not exceed. Raises ``IndexError`` where there is none."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Latency:
    """``count`` samples in short, in the samples' unit."""

    count: int
    median: float
    p99: float
    worst: float


def summarise(samples: Sequence[float]) -> Latency:
    """Median, 99th percentile and worst of ``samples``. Raises ``IndexError`` where there is none."""
    return Latency(len(samples), percentile(samples, 0.5), percentile(samples, 0.99), max(samples))
