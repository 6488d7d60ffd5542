"""Frozen value types: who contends, who leads, why leadership ended, and the times that safety is made of."""

from __future__ import annotations

import enum
from dataclasses import field, fields

from aioelect.value import value

__all__ = ["Contender", "LossReason", "Standing", "Timing"]


@value
class Contender:
    """One znode in the queue.

    ``token`` is the znode's czxid: it grows from leader to leader and never repeats. ``joined`` is the server's wall clock
    when the znode was made, in seconds since the epoch. ``host`` and ``pid`` are None where another library made the znode.
    All text comes from whoever made the znode: treat it as untrusted.
    """

    identity: str
    data: bytes = field(repr=False)
    token: int
    path: str
    joined: float
    host: str | None = None
    pid: int | None = None


@value
class Standing:
    """The queue at one moment, in the order in which contenders will lead."""

    contenders: tuple[Contender, ...] = ()

    @property
    def leader(self) -> Contender | None:
        """The lowest contender, or None when nobody contends."""
        return self.contenders[0] if self.contenders else None


class LossReason(enum.StrEnum):
    """Why a term ended."""

    SESSION_EXPIRED = "session_expired"
    DEADLINE_PASSED = "deadline_passed"
    NODE_DELETED = "node_deleted"
    CLIENT_CLOSED = "client_closed"
    AUTHENTICATION_FAILED = "authentication_failed"
    FOREIGN_CONTENDER = "foreign_contender"
    STEP_DOWN_REQUESTED = "step_down_requested"
    RESIGNED = "resigned"

    def describe(self) -> str:
        """One sentence for people."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    LossReason.SESSION_EXPIRED: "ZooKeeper ended the session",
    LossReason.DEADLINE_PASSED: "the servers could not confirm it before its deadline",
    LossReason.NODE_DELETED: "somebody deleted its znode",
    LossReason.CLIENT_CLOSED: "the client was closed",
    LossReason.AUTHENTICATION_FAILED: "a server refused the client's credentials when it reconnected",
    LossReason.FOREIGN_CONTENDER: "another recipe contends in the same folder",
    LossReason.STEP_DOWN_REQUESTED: "somebody asked the leader to step down, or to hand over",
    LossReason.RESIGNED: "the leader resigned",
}


_SHARES = {"renew_every": 0.1, "margin": 0.05, "drain": 0.1}
"""The usual part of the session timeout."""


@value
class Timing:
    """The times, in seconds, that keep two leaders apart. Checked on construction: ``ValueError`` names what to change.

    ``session_timeout``  T: what the server granted; a session lives at least this long after its last touch.
    ``tick_time``        the server's tickTime, or an upper bound of it: a server hands its table of touched sessions on at
                         least once a tick (``Learner.ping``). T/2 bounds it, since a server grants no less than two ticks. The
                         ZooKeeper leader asks for the table every tickTime/2, so a tick leaves it half a tick of lateness;
                         where it may be later than that, ``tick_time`` must include it: ``margin`` does not.
    ``renew_every``      R: how often a leader renews its lease.
    ``margin``           kept free for the drift of clocks, and for rounding.
    ``drain``            how long the body may take to unwind after it was cancelled.

    While renewals succeed, the deadline is about ``T - tick_time - R - margin`` after the last one was sent; the body is
    cancelled ``drain`` before it. What remains, ``ride_out``, is how long an outage the leader survives.
    """

    session_timeout: float
    tick_time: float
    renew_every: float
    margin: float
    drain: float
    ride_out: float = field(init=False)

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.init and not 0 < getattr(self, each.name) < float("inf"):
                raise ValueError(f"{each.name} must be a positive number of seconds, not {getattr(self, each.name)!r}")
        if self.tick_time > self.session_timeout / 2:
            raise ValueError(
                f"tick_time={self.tick_time:g} is more than half of session_timeout={self.session_timeout:g}: "
                "state the servers' real tickTime, or ask for a longer session_timeout"
            )
        ride_out = self.session_timeout - self.tick_time - self.renew_every - self.margin - self.drain
        if ride_out <= self.renew_every:
            raise ValueError(
                f"no time is left between two renewals: session_timeout={self.session_timeout:g} less tick_time="
                f"{self.tick_time:g}, margin={self.margin:g} and drain={self.drain:g} must be more than twice renew_every="
                f"{self.renew_every:g}. {self._advice(self.renew_every - ride_out)}"
            )
        object.__setattr__(self, "ride_out", ride_out)

    def ahead(self, drain: float | None = None) -> float:
        """Seconds before the deadline at which a proof has to be asked for, to be there before a body must begin to unwind.

        ``drain``: what the body takes for that, where it is not the usual. The time for the answer is a part of what every lease
        in good order has to spare: that always comes about.
        """
        drain = self.drain if drain is None else drain
        return drain + max(0.0, (self.ride_out + self.drain - drain - self.renew_every) / 4)

    def _advice(self, lacking: float) -> str:
        """What to change when so many seconds are lacking: whatever is over its usual share of T; with all at theirs it works."""
        shares = {name: self.session_timeout * share for name, share in _SHARES.items()}
        lower = " and ".join(f"{name} to {share:g}" for name, share in shares.items() if getattr(self, name) > share)
        ticks = self.tick_time - lacking
        tick = f"state tick_time if the servers' is below {ticks:g}, " if ticks > 0 else ""
        return f"Lower {lower}, {tick}or ask for a longer session_timeout"

    @classmethod
    def derive(
        cls,
        session_timeout: float,
        *,
        tick_time: float | None = None,
        renew_every: float | None = None,
        margin: float | None = None,
        drain: float | None = None,
    ) -> Timing:
        """The times that follow from a negotiated session timeout: R = T/10, margin = T/20, drain = T/10, tick = T/2."""
        return cls(
            session_timeout=session_timeout,
            tick_time=session_timeout / 2 if tick_time is None else tick_time,
            renew_every=session_timeout * _SHARES["renew_every"] if renew_every is None else renew_every,
            margin=session_timeout * _SHARES["margin"] if margin is None else margin,
            drain=session_timeout * _SHARES["drain"] if drain is None else drain,
        )
