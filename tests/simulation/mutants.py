"""Mistakes that one could make in the library, each put in for a while. The simulation has to notice those that it can reach."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from unittest import mock

from aiozk import protocol

from aioelect import handover, switchover
from aioelect.candidacy import AheadSeen, Candidacy, Command, Occupant, PredecessorSeen, State
from aioelect.candidate import Candidate
from aioelect.control import Control
from aioelect.handover import Handover
from aioelect.leader import Leader
from aioelect.leadership import _Body
from aioelect.lease import Lease
from aioelect.model import LossReason, Timing
from aioelect.naming import Dialect, Queue
from aioelect.succession import Succession
from aioelect.zookeeper.dispatch import Dispatch
from aioelect.zookeeper.folder import Folder, Place
from aioelect.zookeeper.renewals import Renewals
from aioelect.zookeeper.session import Session

__all__ = ["MUTANTS"]

Mutant = Callable[[], contextlib.AbstractContextManager[Any]]


def _renewal_counts_from_its_own_send_time() -> contextlib.AbstractContextManager[Any]:
    def renewed(self: Lease, sent: float, acknowledged: float) -> bool:
        before, self._proven = self._proven, max(self._proven, sent)
        self.touched(sent, acknowledged)
        return self._proven > before

    return mock.patch.object(Lease, "renewed", renewed)


def _renewal_counts_from_its_receive_time() -> contextlib.AbstractContextManager[Any]:
    def renewed(self: Lease, sent: float, acknowledged: float) -> bool:
        before, self._proven = self._proven, max(self._proven, acknowledged)
        self.touched(sent, acknowledged)
        return self._proven > before

    return mock.patch.object(Lease, "renewed", renewed)


def _pair_without_the_tick() -> contextlib.AbstractContextManager[Any]:
    honest = Lease.renewed

    def renewed(self: Lease, sent: float, acknowledged: float) -> bool:
        tick, self.tick = self.tick, 0.0
        try:
            return honest(self, sent, acknowledged)
        finally:
            self.tick = tick

    return mock.patch.object(Lease, "renewed", renewed)


def _ping_taken_for_proof() -> contextlib.AbstractContextManager[Any]:
    honest = Lease.touched

    def touched(self: Lease, sent: float, acknowledged: float) -> None:
        self._proven = max(self._proven, sent)
        honest(self, sent, acknowledged)

    return mock.patch.object(Lease, "touched", touched)


def _timeout_of_the_newest_connection() -> contextlib.AbstractContextManager[Any]:
    honest = Lease.resumed

    def resumed(self: Lease, sent: float, answered: float, session_timeout: float) -> None:
        honest(self, sent, answered, session_timeout)
        self.session_timeout = session_timeout

    return mock.patch.object(Lease, "resumed", resumed)


def _resume_counted_after_a_lapse() -> contextlib.AbstractContextManager[Any]:
    def resumed(self: Lease, sent: float, answered: float, session_timeout: float) -> None:
        self._touches.clear()
        self.session_timeout = min(self.session_timeout, session_timeout)
        self._proven = max(self._proven, sent)

    return mock.patch.object(Lease, "resumed", resumed)


def _resume_counted_at_once() -> contextlib.AbstractContextManager[Any]:
    honest = Lease.resumed

    def resumed(self: Lease, sent: float, answered: float, session_timeout: float) -> None:
        honest(self, sent, answered, session_timeout)
        if self._resumed is not None:
            self._proven = max(self._proven, sent)

    return mock.patch.object(Lease, "resumed", resumed)


def _no_watches_after_a_reconnect() -> contextlib.AbstractContextManager[Any]:
    async def set_watches(self: Session, connection: Any) -> None:
        pass

    return mock.patch.object(Session, "_set_watches", set_watches)


def _used_up_watches_stay_used_up() -> contextlib.AbstractContextManager[Any]:
    def rearm(self: Dispatch, path: str) -> None:
        pass

    return mock.patch.object(Dispatch, "_rearm", rearm)


def _names_sorted_as_text() -> contextlib.AbstractContextManager[Any]:
    honest = Dialect.queue

    def queue(self: Dialect, names: Any) -> Queue:
        found = honest(self, names)
        return Queue(tuple(sorted(found.contenders)), found.foreign)

    return mock.patch.object(Dialect, "queue", queue)


def _deleted_used_before_the_own_watch() -> contextlib.AbstractContextManager[Any]:
    def trusting(self: Candidacy) -> bool:
        return True

    return mock.patch.object(Candidacy, "_own_watched", property(trusting, lambda self, value: None), create=True)


def _missing_guess_taken_for_nobody() -> contextlib.AbstractContextManager[Any]:
    def predecessor_seen(self: Candidacy, event: PredecessorSeen) -> list[Command]:
        if self.position is None and event.occupant is Occupant.NOBODY:
            self.position = 1
        return Candidacy._predecessor_seen(self, event)

    return mock.patch.dict(Candidacy._handlers, {PredecessorSeen: predecessor_seen})


def _guess_taken_for_the_leader() -> contextlib.AbstractContextManager[Any]:
    def predecessor_seen(self: Candidacy, event: PredecessorSeen) -> list[Command]:
        if self.position is None and event.occupant is not Occupant.NOBODY:
            self.position, self.is_placed = 1, True
        return Candidacy._predecessor_seen(self, event)

    return mock.patch.dict(Candidacy._handlers, {PredecessorSeen: predecessor_seen})


def _missing_ahead_taken_for_nobody() -> contextlib.AbstractContextManager[Any]:
    def ahead_seen(self: Candidacy, event: AheadSeen) -> list[Command]:
        if event.name != self.ahead or event.alive or self.state is not State.PLACING:
            return Candidacy._ahead_seen(self, event)
        self.position, self.is_placed = 1, True
        return []

    return mock.patch.dict(Candidacy._handlers, {AheadSeen: ahead_seen})


def _events_taken_one_by_one() -> contextlib.AbstractContextManager[Any]:
    honest = Candidate._post

    def post(self: Candidate, event: Any) -> None:
        honest(self, event)
        self._pump()

    return mock.patch.object(Candidate, "_post", post)


def _deadline_not_watched() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(Leader, "_watch_deadline", return_value=None)


def _term_begins_too_late() -> contextlib.AbstractContextManager[Any]:
    honest = Succession._is_proven

    def is_proven(self: Succession) -> bool:
        with mock.patch.object(Lease, "ripe_at", 0.0):
            return honest(self)

    return mock.patch.object(Succession, "_is_proven", is_proven)


def _renewals_come(ahead: Callable[[Timing, float | None], float]) -> contextlib.AbstractContextManager[Any]:
    """So many seconds before the deadline."""
    honest = Renewals._renew

    def renew(self: Renewals) -> None:
        with mock.patch.object(Timing, "ahead", ahead):
            honest(self)

    return mock.patch.object(Renewals, "_renew", renew)


def _renewals_know_no_drain() -> contextlib.AbstractContextManager[Any]:
    return _renewals_come(lambda timing, drain: timing.drain)


def _renewals_know_the_drain_alone() -> contextlib.AbstractContextManager[Any]:
    return _renewals_come(lambda timing, drain: timing.drain if drain is None else drain)


def _body_starts_unproven() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(Candidate, "_lapsed", lambda self, leader: setattr(self, "_announced", True))


@contextlib.contextmanager
def _body_not_cut_short() -> Iterator[None]:
    honest = _Body._stand_down

    def stand_down(self: _Body) -> None:
        with mock.patch.object(self._leader, "remaining", return_value=0.0):  # as if nothing were known of it
            honest(self)

    with mock.patch.object(_Body, "_stand_down", stand_down):
        yield


@contextlib.contextmanager
def _client_closes_under_its_leaders() -> Iterator[None]:
    async def stand_down(self: Candidate) -> bool:
        if self._succession.leader is not None:
            self._succession.leader._end(LossReason.CLIENT_CLOSED)
        return True

    with mock.patch.object(Candidate, "stand_down", stand_down):
        yield


def _request_taken_for_anybodys() -> contextlib.AbstractContextManager[Any]:
    def deposes(self: Control, token: int) -> bool:
        return bool(self.requests)

    return mock.patch.object(Control, "deposes", deposes)


def requests_not_looked_at_before_leading() -> contextlib.AbstractContextManager[Any]:
    read_anew = Control._read_anew

    def take_for_read(self: Control, **how: bool) -> None:
        read_anew(self, **how)
        self.requests = ()

    return mock.patch.object(Control, "_read_anew", take_for_read)


def _body_started_though_another_was_chosen() -> contextlib.AbstractContextManager[Any]:
    def prefers_another(self: Control, name: str) -> bool:
        return False

    return mock.patch.object(Control, "prefers_another", prefers_another)


def requests_not_watched() -> contextlib.AbstractContextManager[Any]:
    def on_changed(self: Folder, callback: Callable[[str], object]) -> Callable[[], None]:
        return lambda: None

    return mock.patch.object(Folder, "on_changed", on_changed)


def _request_left_behind() -> contextlib.AbstractContextManager[Any]:
    async def finish(work: Coroutine[Any, Any, object]) -> bool:
        work.close()
        return True

    return mock.patch.object(switchover, "finish", finish)


def _request_outlives_its_asker() -> contextlib.AbstractContextManager[Any]:
    honest = protocol.Create2Request.set_flags

    def set_flags(self: Any, ephemeral: bool = False, sequential: bool = False, container: bool = False) -> None:
        honest(self, ephemeral and "-control/" not in self.path, sequential, container)

    return mock.patch.object(protocol.Create2Request, "set_flags", set_flags)


def _note_written_after_the_body_started() -> contextlib.AbstractContextManager[Any]:
    honest = Succession._has_taken_over

    def has_taken_over(self: Succession, place: Place) -> bool:
        honest(self, place)
        return True

    return mock.patch.object(Succession, "_has_taken_over", has_taken_over)


def _every_end_taken_for_a_clean_one() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(handover, "_has_ended", return_value=True)


def _no_end_taken_for_a_clean_one() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(handover, "_has_ended", return_value=False)


def _remark_made_when_the_body_began() -> contextlib.AbstractContextManager[Any]:
    honest = Handover._note

    def note(self: Handover, *, ended: bool) -> bytes:
        return honest(self, ended=True)

    return mock.patch.object(Handover, "_note", note)


MUTANTS: dict[str, Mutant] = {
    "lease counted from the renewal's own send time": _renewal_counts_from_its_own_send_time,
    "lease counted from the renewal's receive time": _renewal_counts_from_its_receive_time,
    "pair without the tick between": _pair_without_the_tick,
    "ping taken for proof": _ping_taken_for_proof,
    "T of the newest connection": _timeout_of_the_newest_connection,
    "resume counted after a lapse": _resume_counted_after_a_lapse,
    "resume counted before a renewal went through": _resume_counted_at_once,
    "no watches set again after a reconnect": _no_watches_after_a_reconnect,
    "watches that an event has used up not set again": _used_up_watches_stay_used_up,
    "names sorted as text": _names_sorted_as_text,
    "nobody at k - 1 means nobody is before us": _missing_guess_taken_for_nobody,
    "somebody at k - 1 leads, whatever k is": _guess_taken_for_the_leader,
    "nobody at k - 2 means that k - 1 leads": _missing_ahead_taken_for_nobody,
    "DELETED used before the own watch is confirmed": _deleted_used_before_the_own_watch,
    "SetWatches events taken one by one": _events_taken_one_by_one,
    "deadline not watched": _deadline_not_watched,
    "term begun without time for the next proof": _term_begins_too_late,
    "next proof not in time for the body's own drain": _renewals_know_no_drain,
    "next proof not in time for its answer": _renewals_know_the_drain_alone,
    "body started without a last look at the clock": _body_starts_unproven,
    "body not cut short at its deadline": _body_not_cut_short,
    "client closed under its leaders": _client_closes_under_its_leaders,
    "request taken for anybody's": _request_taken_for_anybodys,
    "requests not looked at before leading": requests_not_looked_at_before_leading,
    "body started though another was chosen": _body_started_though_another_was_chosen,
    "requests not watched": requests_not_watched,
    "request left behind": _request_left_behind,
    "request outlives its asker": _request_outlives_its_asker,
    "note written after the body started": _note_written_after_the_body_started,
    "every end taken for a clean one": _every_end_taken_for_a_clean_one,
    "no end taken for a clean one": _no_end_taken_for_a_clean_one,
    "end remarked when the body began": _remark_made_when_the_body_began,
}
"""By name: those about the lease and the queue, about the edges of a term, and about planned changes of leaders."""
