"""What ``on_event`` receives: every change of state, typed and timestamped.

Handlers are called synchronously on the event loop, in the order in which things happened, and must not block. An exception
from a handler goes to the event loop's exception handler and changes nothing else. ``at`` is ``CLOCK_MONOTONIC`` in seconds.
"""

from __future__ import annotations

from collections.abc import Callable

from aioelect.model import LossReason
from aioelect.value import record

__all__ = [
    "ClientEvent",
    "Closed",
    "Connected",
    "Disconnected",
    "Elected",
    "ElectionEvent",
    "Event",
    "Expired",
    "HandoverDelayed",
    "Losing",
    "Lost",
    "NextInLine",
    "OnEvent",
    "Overrun",
    "Queued",
    "Reconnected",
    "Released",
    "Renewed",
    "Resumed",
    "Suspended",
    "Unreachable",
]


@record
class Event:
    """Something happened at the monotonic time ``at``."""

    at: float


@record
class ElectionEvent(Event):
    """Something happened to one contender of one election."""

    election: str
    identity: str


@record
class Queued(ElectionEvent):
    """The contender stands in the queue with ``position`` others before it: 0 for nobody; None for two or more, which are not
    counted, since that costs as much as the queue is long."""

    path: str
    token: int
    position: int | None


@record
class NextInLine(ElectionEvent):
    """Only the leader is before this contender; it keeps its lease warm from here on."""

    token: int


@record
class HandoverDelayed(ElectionEvent):
    """Nobody is before this contender, but the last leader did not end by itself: it waits for ``delay`` seconds."""

    token: int
    delay: float


@record
class Elected(ElectionEvent):
    """The contender leads. ``trigger`` is when the event that made it so was read: the takeover took ``at - trigger``."""

    path: str
    token: int
    trigger: float


@record
class Renewed(ElectionEvent):
    """The lease was proven anew: leadership holds for ``remaining`` more seconds."""

    token: int
    remaining: float


@record
class Suspended(ElectionEvent):
    """The connection broke. The contender keeps its place while the session lives."""


@record
class Resumed(ElectionEvent):
    """The same session goes on on a new connection."""


@record
class Losing(ElectionEvent):
    """The term ends; the body is being cancelled and has ``drain`` seconds to unwind."""

    token: int
    reason: LossReason
    drain: float


@record
class Lost(ElectionEvent):
    """The contender leads no longer, or lost its place in the queue (``token`` tells which znode)."""

    token: int
    reason: LossReason


@record
class Overrun(ElectionEvent):
    """The body runs on, though its deadline has passed: it blocks the event loop, or refuses cancellation.

    ``stack`` is what the loop's thread is doing. This one goes to ``on_overrun``, in the watchdog's thread, and never to
    ``on_event``.
    """

    token: int
    stack: str

    def describe(self) -> str:
        """A report for people."""
        return (
            f"the body of {self.identity!r} runs on, though leadership of {self.election} (token {self.token:#x}) is not proven "
            "any more and somebody else may lead: it blocks the event loop, or refuses to be cancelled. The loop's thread:\n"
            f"{self.stack}"
        )


@record
class Released(ElectionEvent):
    """The znode is gone by our own hand (``confirmed``), or will go at the next connection or with the session."""

    token: int
    confirmed: bool


@record
class ClientEvent(Event):
    """Something happened to the connection or the session of a client."""

    session_id: int


@record
class Connected(ClientEvent):
    """A new session was opened, with the negotiated ``session_timeout`` in seconds."""

    server: str
    session_timeout: float


@record
class Disconnected(ClientEvent):
    """The connection to ``server`` ended because of ``why``; the session lives on."""

    server: str
    why: str


@record
class Reconnected(ClientEvent):
    """The session was resumed on ``server``."""

    server: str


@record
class Unreachable(ClientEvent):
    """No server could be reached in one round of attempts; the next round starts in ``retry_in`` seconds."""

    why: str
    retry_in: float


@record
class Expired(ClientEvent):
    """The session has ended. The client opens a new one."""


@record
class Closed(ClientEvent):
    """The client was closed."""


OnEvent = Callable[[Event], object]
