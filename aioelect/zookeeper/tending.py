"""A connection's silence: an idle one is pinged, a server that owes an answer for too long is given up."""

from __future__ import annotations

import asyncio
import math

from aioelect.ports import Clock
from aioelect.zookeeper.connection import Connection

__all__ = ["Tending"]


class Tending:
    """Tends one connection at a time. With a ping for every third of silence, no server is silent for more than two thirds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._patience: float | None = None
        self._connection: Connection | None = None
        self._timeout = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._again_at = self._awake_since = 0.0

    def start(self, connection: Connection, session_timeout: float) -> None:
        """Tends ``connection`` until it ends or :meth:`stop`. ``session_timeout`` in seconds."""
        self._connection, self._timeout = connection, session_timeout
        self._tend()

    def stop(self) -> None:
        """Does nothing where nothing is tended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def be_patient(self, patience: float | None) -> None:
        """Seconds that a request may go unanswered; None for a third of the session timeout, which is the most."""
        self._patience = patience
        if self._timer is not None:
            self._tend()

    def _tend(self) -> None:
        """Pings or gives up, if it is time to, and sets the clock for the next look.

        Patience begins anew when this loop was blocked, or the process stopped: answers lie about unread then, and uvloop has not
        even sent what was written just before.
        """
        connection, third = self._connection, self._timeout / 3
        if connection is None or connection.closing:
            return
        now = self._clock()
        patience = third if self._patience is None else min(self._patience, third)
        if self._timer is None or now > self._again_at + patience / 4:
            self._awake_since = now
        if self._timer is not None:
            self._timer.cancel()
        if now >= connection.last_sent + third:
            connection.ping()
        silent_at = math.inf
        if (oldest := connection.oldest_request) is not None:
            silent_at = min(max(oldest, connection.last_read, self._awake_since) + patience, oldest + self._timeout)
        if now >= silent_at:
            connection.abort(f"no answer for {now - (oldest or now):.3g} s", silent=True)
            return
        self._again_at = min(silent_at, connection.last_sent + third, now + patience / 4)
        self._timer = asyncio.get_running_loop().call_later(max(self._again_at - now, 0.001), self._tend)
