"""What is said about a list of samples, for people."""

from __future__ import annotations

import math

from aioelect.testing.latency import percentile, summarise

__all__ = ["format_bytes", "format_seconds", "percentile", "summarise"]


def format_seconds(seconds: float) -> str:
    """Three digits, in the unit that fits."""
    if math.isinf(seconds):
        return "never"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{_three_digits(seconds / scale)} {unit}"
    return f"{seconds * 1e6:.2f} µs"


def format_bytes(count: float) -> str:
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{_three_digits(count / scale)} {unit}"
    return f"{count:.0f} B"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
