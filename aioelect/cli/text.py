"""Words and numbers for people; nothing that others wrote reaches a terminal unescaped."""

from __future__ import annotations

from typing import Any

from aioelect.model import LossReason

__all__ = ["clean", "count", "describe", "seconds"]


LONGEST = 2_000
"""Characters of a text that are shown: others may have written a million."""


def clean(text: str) -> str:
    """``text``, if need be its beginning, with everything that a terminal could obey, or that can't be seen, spelled out."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:LONGEST])
    return shown if len(text) <= LONGEST else f"{shown}... ({len(text)} characters)"


def seconds(duration: float) -> str:
    """``duration``, in milliseconds where it is short."""
    if abs(duration) >= 1:
        return f"{duration:.2f} s"
    return f"{duration * 1000:.{0 if abs(duration) >= 0.1 else 1}f} ms"


def count(others: int | None) -> str:
    """How many others there are, with the verb; None: two or more."""
    return {None: "two or more are", 0: "nobody is", 1: "one is"}.get(others, f"{others} are")


def describe(event: dict[str, Any]) -> str | None:
    """What a contender told, as the rest of a sentence; None for what happens all the time."""
    match event["event"]:
        case "Queued":
            return f"queues: {count(event['position'])} before it"
        case "NextInLine":
            return "is next in line, and keeps its lease warm"
        case "Leads":
            return f"LEADS with token {event['token']:#x}"
        case "Losing":
            return f"stands down: {LossReason(event['reason']).describe()}"
        case "Disconnected":
            return f"lost its connection: {clean(event['why'])}"
        case "Reconnected":
            return "is back, with the same session"
        case "Expired":
            return "learns that its session has ended, and opens a new one"
        case "Failed":
            return f"gives up: {clean(event['error'])}"
    return None
