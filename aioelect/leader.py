"""``Leader``: one term of leadership, from the election to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import select
import threading
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

from aioelect import events
from aioelect.errors import Deposed, LeadershipLost
from aioelect.fencing import Fence, Transaction
from aioelect.model import LossReason
from aioelect.watchdog import Guard, format_stack
from aioelect.zookeeper.access import Access
from aioelect.zookeeper.client import Client
from aioelect.zookeeper.folder import Place
from aioelect.zookeeper.multi import Done, Operation

__all__ = ["Leader", "OnOverrun", "check_on_overrun"]

log = logging.getLogger("aioelect.election")

STDERR = 2

OnOverrun: TypeAlias = Literal["report", "abort"] | Callable[[events.Overrun], object]
"""What the watchdog does about a body that runs on past its deadline."""


def check_on_overrun(on_overrun: OnOverrun) -> OnOverrun:
    """Raises ``ValueError`` for what is no such thing."""
    if on_overrun not in ("report", "abort") and not callable(on_overrun):
        raise ValueError(f"on_overrun must be 'report', 'abort' or a function of one argument, not {on_overrun!r}")
    return on_overrun


class Contending(Protocol):
    """What a leader needs of the candidate that it was."""

    client: Client
    identity: str
    election: str
    on_overrun: OnOverrun
    access: Access

    @property
    def drain(self) -> float: ...

    def emit(self, kind: Callable[..., events.ElectionEvent], **facts: object) -> None: ...


class Leader:
    """A term of leadership, for as long as it lasts.

    ``identity`` and ``path`` of the contender, ``token`` (the fencing token: it grows from leader to leader, never repeats),
    ``election``, and ``since``, when the term began (``CLOCK_MONOTONIC``, seconds).
    """

    def __init__(self, candidate: Contending, place: Place, path: str) -> None:
        """Of a contender that is next in line: what a term needs is there before it begins, with :meth:`_elect`."""
        self.identity = candidate.identity
        self.election = candidate.election
        self.path = path
        self.token = place.token
        self.since = math.inf
        self._candidate = candidate
        self._session = candidate.client.session
        self._session_id = place.session_id
        self._fence: Fence | None = None
        self._pid = os.getpid()
        self._reason: LossReason | None = None
        self._begun = self._void = False
        self._finished = False
        self._over_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[LossReason] = asyncio.Future(loop=self._loop)
        self._body: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ward = _Ward(self, candidate)
        self._guard: Guard | None = None

    def __repr__(self) -> str:
        return f"<Leader {self.identity!r} of {self.election}, token {self.token:#x}, {self._reason or 'leading'}>"

    # Asking

    def remaining(self) -> float:
        """Seconds for which leadership is proven from now on, 0 when it is not.

        A comparison of clocks: it holds before the event loop has run again, after a stop of the process or of the machine,
        and in any thread.
        """
        session = self._session
        if self._void or session.session_id != self._session_id or os.getpid() != self._pid:
            return 0.0
        return session.lease.remaining(session.world.clock())

    @property
    def is_leader(self) -> bool:
        """Whether leadership is proven right now."""
        return self.remaining() > 0

    def check(self) -> None:
        """Raises ``LeadershipLost`` unless leadership is proven right now."""
        if not self.is_leader:
            raise LeadershipLost(self._reason or LossReason.DEADLINE_PASSED, self.token, self.election)

    def transaction(self) -> Transaction:
        """ZooKeeper writes that only a leader can make: all of them happen when the block ends, or none.

        ``async with leader.transaction() as txn: txn.set("/config", b"1")``, then ``txn.results``. The server refuses it for
        a deposed leader, even after a pause that no clock saw. Raises ``Deposed``; ``TransactionRefused`` for an
        operation of yours; ``OutcomeUnknown`` where the answer was lost, for it is never sent twice;
        ``ConnectionLoss`` where it was not executed; and, as ``aiozk.exc``, what ZooKeeper has against the fence itself or
        against any request. See ``aioelect.fencing`` for how.
        """
        return Transaction(self._commit)

    async def _commit(self, operations: Sequence[Operation]) -> tuple[Done, ...]:
        if self._void:
            raise Deposed(self.election, self.token)
        if self._fence is None:
            client, access = self._candidate.client, self._candidate.access
            self._fence = Fence(client, self.election, self.path, self.token, self._session_id, access)
        try:
            return await self._fence.commit(operations)
        except Deposed:
            self._end(LossReason.NODE_DELETED, void=True)
            raise

    async def lost(self) -> LossReason:
        """Returns when the term ends, with the reason: ``RESIGNED`` after :meth:`resign`."""
        return await asyncio.shield(self._ended)

    # Ending

    def resign(self) -> None:
        """Steps down: the body is cancelled, may drain, and the block ends without an error.

        Synchronous and idempotent, and fit for a signal handler or another thread.
        """
        if not self._ended.done():
            self._loop.call_soon_threadsafe(self._end, LossReason.RESIGNED)

    def _stand_ready(self) -> None:
        """Has the deadline watched, by the loop's own timer and by the watchdog, if there is one and as far as it is not."""
        if self._timer is None:
            self._watch_deadline()
        if self._timer is not None and (self._guard is None or self._guard.is_over):
            self._have_guarded()

    def _have_guarded(self) -> None:
        """The watchdog guards it, in place of what it did before, until the deadline as it stands now."""
        due = self._session.lease.deadline - self._candidate.drain
        self._guard = self._session.world.watchdog.guard(self._ward, due, knows=self._reason is not None)

    def _watch_anew(self) -> None:
        """The deadline may have come nearer, also for a body that is ending."""
        if self._guard is None or self._void or (self._reason is not None and self._guard.is_over):
            return
        self._watch_deadline()
        self._guard.release()
        self._have_guarded()

    def _elect(self) -> None:
        """The term begins."""
        self.since = self._session.world.monotonic()

    def _begin(self) -> None:
        """Somebody acts on it from now on."""
        self._begun = True
        self._stand_ready()
        if self._candidate.client.guard is not None:
            self._commit_to(self._session.lease.deadline)

    def _commit_to(self, deadline: float) -> None:
        """The guard of this process, where there is one, sees to it that the body has ended by then, if there is a body."""
        guard = self._candidate.client.guard
        if guard is not None and self._begun and not self._finished:
            guard.hold(self, deadline)

    def _renewed(self) -> None:
        """The deadline has moved."""
        if not self._void:
            self._commit_to(self._session.lease.deadline)

    def _end(self, reason: LossReason, *, void: bool = False) -> None:
        """The term ends. ``void``: leadership is gone already, or was given up, whatever the clock says.

        Then the body has its time to drain from now on, but not beyond the last deadline. A session that was given up may live on
        at the servers until then, and no longer; and whoever was told of that deadline has counted on it.
        """
        if void and not self._void:
            self._void = True
            last = self._session.lease.last_deadline
            if self._guard is not None:
                self._guard.expire(last)
            self._commit_to(min(last, self._session.world.clock() + self._candidate.drain))
        if self._reason is None:
            self._reason = reason
            self._candidate.emit(events.Losing, token=self.token, reason=reason, drain=self._candidate.drain)
            self._ended.set_result(reason)
            if self._body is not None:
                self._body()

    def _renounce(self) -> None:
        """Nobody acts on it any more: from here on the znode may go, and nothing is proven. :meth:`_conclude` must follow."""
        self._over_at = self._session.world.clock()
        self._void = self._finished = True
        if self._candidate.client.guard is not None:
            self._candidate.client.guard.release(self)

    def _conclude(self) -> None:
        """Settles how the term, which was renounced, has ended."""
        if self._reason is None and self._begun and self._session.lease.remaining(self._over_at) == 0:
            self._end(LossReason.DEADLINE_PASSED)  # a blocked loop: nobody could say so before
        elif self._reason is None:
            self._reason = LossReason.RESIGNED
            self._ended.set_result(self._reason)

    def _unwatch(self) -> None:
        """Nobody needs to watch the deadline any more."""
        if self._guard is not None:
            self._guard.release()
        if self._timer is not None:
            self._timer.cancel()

    def _watch_deadline(self) -> None:
        """Ends the term, if it has begun, ``drain`` before the deadline, unless that has moved by then."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._reason is not None:
            return
        left = self.remaining() - self._candidate.drain
        if left > 0:
            self._timer = self._loop.call_later(left, self._watch_deadline)
        elif self.since < math.inf:
            self._end(LossReason.DEADLINE_PASSED)


class _Ward:
    """A leader as the watchdog sees it, from its thread."""

    def __init__(self, leader: Leader, candidate: Contending) -> None:
        self._leader = leader
        self._candidate = candidate
        self._thread = threading.get_ident()

    @property
    def drain(self) -> float:
        return self._candidate.drain

    def remaining(self) -> float:
        return self._leader.remaining()

    def wake(self) -> None:
        """The loop's own timer may be late: it stands still while the machine is suspended."""
        self._leader._loop.call_soon_threadsafe(self._leader._watch_deadline)

    def overrun(self) -> None:
        leader, on_overrun = self._leader, self._candidate.on_overrun
        if leader._finished or not leader._begun:  # since a moment ago, or not yet
            return
        if leader.remaining() > 0:  # it has just begun, with a new proof
            leader._have_guarded()
            return
        overrun = events.Overrun(
            at=leader._session.world.monotonic(),
            election=leader.election,
            identity=leader.identity,
            token=leader.token,
            stack=format_stack(self._thread),
        )
        if on_overrun == "report":
            log.error("%s", overrun.describe())
        elif on_overrun == "abort":
            _last_words(f"aioelect ends this process: {overrun.describe()}\n")
            os.abort()
        else:
            on_overrun(overrun)


def _last_words(text: str) -> None:
    """Writes to stderr what fits, if anybody reads there: neither a lock nor a full pipe may keep the process alive."""
    said = text.encode(errors="replace")
    if len(said) > select.PIPE_BUF:  # the end of a stack tells most
        said = said[:500] + b" ... " + said[505 - select.PIPE_BUF :]
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [STDERR], [], 0)[1]:
            os.write(STDERR, said)
