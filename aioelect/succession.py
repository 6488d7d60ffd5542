"""From the second place in the queue to the end of a term: what one contender does while it leads, or is about to.

Nobody before it in the queue is not all that a leader needs. Its lease has to be proven for long enough, nothing may have been
asked against it (``control``), and what was not ended well before may have to rest (``handover``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from aioelect import events
from aioelect.control import Control
from aioelect.errands import Errands
from aioelect.handover import Handover
from aioelect.leader import Contending, Leader
from aioelect.model import LossReason
from aioelect.zookeeper.folder import Folder, Place

__all__ = ["Succession"]


class Succeeding(Contending, Protocol):
    """What a succession needs of its candidate."""

    handover_delay: float

    @property
    def is_heard(self) -> bool: ...


class Succession:
    """Keeps the lease of a contender at the top of the queue warm, looks what is asked of leaders, and has all at hand that
    a term needs.

    ``elected`` is called when the term begins, and ``passed_over`` when it may not, because this contender was asked to step
    down, or another was chosen to lead. ``drain`` as of ``leadership()``, None for the usual.
    """

    __slots__ = (
        "_barred",
        "_candidate",
        "_claimed",
        "_control",
        "_drain",
        "_elected",
        "_errands",
        "_folder",
        "_handover",
        "_heir",
        "_passed_over",
        "_path",
        "_place",
        "_taking_over",
        "leader",
    )

    def __init__(
        self,
        candidate: Succeeding,
        folder: Folder,
        drain: float | None,
        errands: Errands,
        *,
        elected: Callable[[Leader], None],
        passed_over: Callable[[], None],
    ) -> None:
        self._candidate = candidate
        self._folder = folder
        self._drain = drain
        self._errands = errands
        self._elected = elected
        self._passed_over = passed_over
        self._control = Control(candidate.client, folder, errands, self._requested, candidate.access)
        self._place: Place | None = None
        self._heir: Leader | None = None
        """The leader to be, when nobody or one is before us; the leader, from the election on."""
        self.leader: Leader | None = None
        self._claimed = False
        self._barred = False
        self._path: str | None = None
        """The own znode's, as the server knows it, while the lease is renewed with it."""
        self._handover: Handover | None = None
        self._taking_over: asyncio.Task[None] | None = None

    # Before the election

    def stand_by(self, place: Place) -> None:
        """Nobody, or one, is before us."""
        if self._heir is not None:
            return
        self._place = place
        self._heir = Leader(self._candidate, place, self._folder.display(place.name))
        self._control.watch()
        self._path = self._folder.locate(place.name)
        self._candidate.client.renewals.keep(self._path, self._drain, self._renewed)
        self._heir._stand_ready()

    def claim(self, place: Place) -> None:
        """Nobody is before us: leads as soon as nothing speaks against it."""
        if self._heir is None:
            self.stand_by(place)
        self._claimed = True
        if self._control.requests:
            self._control.look_again()
        self._lead_if_clear()

    def bar(self) -> None:
        """Begins no term any more."""
        self._barred = True

    def stand_back(self) -> None:
        """Others are before us again, or we are gone. A term that has begun is ended elsewhere."""
        self._claimed = False
        self._control.unwatch()
        heir, self._heir = self._heir, None
        if heir is not None and self.leader is None:
            heir._renounce()
            heir._unwatch()
        if self._taking_over is not None:
            self._taking_over.cancel()
            self._taking_over = None
        self.release_lease()

    def _lead_if_clear(self) -> None:
        if not self._claimed or self.leader is not None or self._barred or self._control.requests is None:
            return
        heir, place, control = self._heir, self._place, self._control
        assert heir is not None and place is not None  # noqa: S101, PT018  # it stands by
        if control.requests and (control.deposes(place.token) or control.prefers_another(place.name)):
            self._passed_over()
        elif self._candidate.handover_delay > 0 and not self._has_taken_over(place):
            return
        elif self._is_proven():
            self.leader = heir
            heir._elect()
            self._elected(heir)

    def _is_proven(self) -> bool:
        """Whether the lease leaves the body time to run and to unwind.

        A term has to outlast the wait for the next proof and its answer, or one contender after the other would lead for a
        moment.
        """
        session = self._candidate.client.session
        lease = session.lease
        return lease.deadline - session.timing.ahead(self._drain) > max(session.world.clock(), lease.ripe_at)

    def _has_taken_over(self, place: Place) -> bool:
        """Whether nothing is left to wait for of the term before; begins to see to it."""
        if self._handover is None or self._handover.place != place:
            candidate = self._candidate
            delay = candidate.handover_delay
            self._handover = Handover(candidate.client, candidate.election, place, delay, candidate.access)
            self._taking_over = self._errands.start(self._take_over, self._handover)
        return self._handover.is_noted

    async def _take_over(self, handover: Handover) -> None:
        candidate, token = self._candidate, handover.place.token
        delay = candidate.handover_delay
        if await handover.begin(lambda: candidate.emit(events.HandoverDelayed, token=token, delay=delay)):
            self._lead_if_clear()

    # From the election on

    def revoke(self) -> None:
        """Nobody has acted on the election, or will."""
        self.leader = None

    def renounce(self) -> Leader | None:
        """Nobody acts on it any more: gives the term, if there was or might have been one, which is to be concluded."""
        term = self.leader or self._heir
        if term is not None:
            term._renounce()
        self._barred = True
        return term

    def leave(self, place: Place) -> asyncio.Future[None]:
        """Deletes the own znode; done when it is certainly gone, however long that takes."""
        janitor, handover = self._candidate.client.janitor, self._handover
        if handover is not None and handover.place == place:
            return janitor.spawn(handover.end())
        return janitor.begin(self._path or self._folder.locate(place.name), place.session_id)

    def unwatch(self) -> None:
        """Nobody needs to know any more when the time is over, or what is asked."""
        for term in (self._heir, self.leader):
            if term is not None:
                term._unwatch()
        self._control.unwatch()

    def release_lease(self) -> None:
        """Renews no longer."""
        if self._path is not None:
            self._candidate.client.renewals.release(self._path)
            self._path = None

    # What is told

    def resumed(self) -> None:
        """The session was resumed: a server that granted less has brought the deadline forward."""
        if self._heir is not None:
            self._heir._renewed()
            self._heir._watch_anew()

    def _renewed(self) -> bool:
        """The lease was proven anew; returns whether the next proof means something to anybody, too."""
        candidate, leader = self._candidate, self.leader
        term = leader or self._heir
        if term is None or term._finished:
            return False
        if leader is not None:
            leader._renewed()
            candidate.emit(events.Renewed, token=leader.token, remaining=leader.remaining())
            return candidate.is_heard or candidate.client.guard is not None
        term._stand_ready()
        self._lead_if_clear()
        return True

    def _requested(self) -> None:
        """What is asked of leaders is known, or known anew."""
        leader = self.leader
        if leader is None:
            self._lead_if_clear()
        elif not self._control.deposes(leader.token):
            return
        elif leader._begun:
            leader._end(LossReason.STEP_DOWN_REQUESTED)
        else:
            self.revoke()
            self._passed_over()
