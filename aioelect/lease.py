"""The lease: until when leadership may be believed. PURE: time is an argument.

A ping reply proves nothing: a ZooKeeper follower answers pings by itself and goes on doing so after it was cut off, while the
ZooKeeper leader expires the session. A write proves that the session lived when it was committed, not for how long it will: a
forwarded request does not touch the session at the leader. **Proof is a pair**:

1. a packet that touches the session (a ping or any request), sent at ``s1`` and acknowledged at ``a1``: by ``a1`` it stands in
   the server's table of touched sessions;
2. a *renewal*, a multi of one ``check`` on an own ephemeral znode, sent at ``s2 >= a1 + tick`` and acknowledged on the same
   connection. It travels to the ZooKeeper leader behind the table that held the touch (``Learner.ping`` hands it over at
   least once a tick, on the same first-in-first-out link), and commits only while the session is not closing.

Then the ZooKeeper leader has touched the session at some time after ``s1``, and expires it no earlier than ``s1 + T``
(``SessionTrackerImpl``; ``ExpiryQueue`` rounds up). T is the smallest timeout negotiated in the session's life.

All that holds while the session is not expiring, and before its deadline it can't be. **After a lapse** it may:
``SessionTrackerImpl.run`` takes a whole expired bucket with ``poll()`` and closes its sessions one by one, and until a
session's turn comes ``touchSession`` and ``checkSession`` let it pass. A pair whose packets arrive together in that instant, as
they do when a link had stalled, is acknowledged, and the session dies. So a pair acknowledged at ``a2``, after the deadline,
counts only

3. when another renewal, sent at ``s3 >= a2 + tick/2``, is acknowledged on the same connection, too: a bucket is closed in far
   less than half a tick, so the session was not in it when it was touched.

A connect request touches the ZooKeeper leader directly (``Leader.revalidateSession``). A new session counts from there, since its
creation is a write. A session resumed before its old deadline counts from there as soon as a renewal is acknowledged on the same
connection: a leader that was cut off from its quorum goes on resuming sessions until it notices, while another one expires them
(``LeaderZooKeeperServer.revalidateSession`` asks nobody), but it commits nothing. A session resumed after a lapse does not: the
resume may fall into that same instant.
"""

from __future__ import annotations

from collections import deque

__all__ = ["COLD", "Lease"]

COLD = float("-inf")
"""The deadline of a lease without proof."""

_GRAINS = 16
"""Of touches sent closer together than a tick divided by this only the first and the newest are kept: it costs no more than
that much of the deadline, and bounds the memory."""


class Lease:
    """What is proven of one session. All times are seconds on one clock that never stands still.

    Answers are reported in the order in which they came, which is that of their requests. ``tick`` and ``margin`` may be changed
    at any time, a new tick counts for the pairs to come; the session timeout only ever shrinks. ``deadline`` is monotone but for
    that, and for a new session.
    """

    def __init__(self) -> None:
        self.tick = float("inf")
        self.margin = 0.0
        self.session_timeout = float("inf")
        self._proven = COLD
        self._touches: deque[tuple[float, float]] = deque()
        self._resumed: float | None = None
        """When the connect request was sent, until a renewal shows who took it."""
        self._unconfirmed: tuple[float, float] | None = None
        """A pair after a lapse: when its touch was sent, and when it was acknowledged."""
        self._ended_with = COLD
        """The deadline when the session ended."""

    @property
    def deadline(self) -> float:
        """Leadership may be believed before this time and no longer; ``COLD`` when nothing is proven."""
        return self._proven + self.session_timeout - self.margin if self._proven > COLD else COLD

    @property
    def last_deadline(self) -> float:
        """The deadline; of a session that has ended the one that it had then, until another is opened.

        A session that was given up on our side alone lives on at the servers, and ends there no sooner: whoever acted in its
        name may need that time to stop, and has no more.
        """
        return max(self.deadline, self._ended_with)

    def remaining(self, now: float) -> float:
        """Seconds for which leadership is proven, 0 when it is not."""
        return max(0.0, self.deadline - now)

    @property
    def ripe_at(self) -> float:
        """When a renewal could be sent to complete a pair, or to confirm the one that waits for it, as far as is known now;
        infinity where nothing waits for a renewal."""
        if self._unconfirmed is not None:
            return self._unconfirmed[1] + self.tick / 2
        return self._touches[0][1] + self.tick if self._touches else float("inf")

    def opened(self, sent: float, session_timeout: float) -> None:
        """A new session was granted: its connect request, sent at ``sent``, is the first touch."""
        self._forget()
        self._ended_with = COLD
        self.session_timeout = session_timeout
        self._proven = sent

    def resumed(self, sent: float, answered: float, session_timeout: float) -> None:
        """The session was resumed by a connect request sent at ``sent`` and answered at ``answered``.

        That counts when a renewal has shown that the ZooKeeper leader behind this connection has a quorum.
        """
        lapsed = answered >= self.deadline
        self._forget()
        shrink = max(0.0, self.session_timeout - session_timeout)
        self.session_timeout -= shrink
        if not lapsed:  # until then the old proof stands, but for a touch with a shorter timeout
            self._proven = min(self._proven + shrink, sent)
            self._resumed = sent

    def disconnected(self) -> None:
        """The connection ended: no touch made on it can be completed to a pair any more."""
        self._forget()

    def ended(self) -> None:
        """The session ended, or was given up; idempotent."""
        self._ended_with = self.last_deadline
        self._forget()
        self._proven = COLD

    def touched(self, sent: float, acknowledged: float) -> None:
        """A packet that touches the session was sent and acknowledged on the current connection."""
        touches = self._touches
        if len(touches) >= 2 and touches[-1][0] - touches[-2][0] < self.tick / _GRAINS:
            touches.pop()
        touches.append((sent, acknowledged))
        while len(touches) > 1 and touches[1][0] + self.session_timeout < acknowledged:
            touches.popleft()

    def renewed(self, sent: float, acknowledged: float) -> bool:
        """A renewal was sent and acknowledged with a check result inside, on the current connection.

        Completes a pair with the newest touch that was acknowledged a tick before it was sent; after a lapse, that pair waits for
        a renewal to confirm it. Returns whether that proved more than was known.
        """
        before = self._proven
        self._confirm(sent)
        if acknowledged < self.deadline:
            self._complete(sent)
        else:
            self._hold(sent, acknowledged)
        self.touched(sent, acknowledged)
        return self._proven > before

    def _complete(self, sent: float) -> None:
        """Counts the resumption of the session, and every pair with a renewal sent then."""
        if self._resumed is not None:
            self._proven = max(self._proven, self._resumed)
            self._resumed = None
        while self._touches and self._touches[0][1] + self.tick <= sent:
            self._proven = max(self._proven, self._touches.popleft()[0])

    def _hold(self, sent: float, acknowledged: float) -> None:
        """Lets the best pair with a renewal after a lapse wait for its confirmation, unless another one waits."""
        self._resumed = None
        confirmed = acknowledged + self.tick / 2  # at the earliest: what is out of date by then is not worth the wait
        while self._touches and self._touches[0][0] + self.session_timeout - self.margin <= confirmed:
            self._touches.popleft()
        ripe = [touch for touch, answered in self._touches if answered + self.tick <= sent]
        if ripe and self._unconfirmed is None:
            self._unconfirmed = (ripe[-1], acknowledged)

    def _confirm(self, sent: float) -> None:
        """Counts the pair that waits, if a renewal sent then came late enough."""
        if self._unconfirmed is not None and self._unconfirmed[1] + self.tick / 2 <= sent:
            self._proven = max(self._proven, self._unconfirmed[0])
            self._unconfirmed = None

    def _forget(self) -> None:
        """No touch and no pair so far can be completed any more."""
        self._touches.clear()
        self._unconfirmed = None
        self._resumed = None
