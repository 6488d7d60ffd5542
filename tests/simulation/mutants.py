"""Mistakes that one could make in the library, each put in for a while. The simulation has to notice those that it can reach."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from aioelect.candidacy import Candidacy
from aioelect.candidate import Candidate, Leader
from aioelect.leadership import _Body
from aioelect.lease import Lease
from aioelect.model import LossReason
from aioelect.naming import Dialect, Queue
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


def _events_taken_one_by_one() -> contextlib.AbstractContextManager[Any]:
    honest = Candidate._post

    def post(self: Candidate, event: Any) -> None:
        honest(self, event)
        self._pump()

    return mock.patch.object(Candidate, "_post", post)


def _deadline_not_watched() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(Leader, "_watch_deadline", return_value=None)


def _term_begins_too_late() -> contextlib.AbstractContextManager[Any]:
    honest = Candidate._lead_if_proven

    def lead_if_proven(self: Candidate) -> None:
        with mock.patch.object(Lease, "ripe_at", 0.0):
            honest(self)

    return mock.patch.object(Candidate, "_lead_if_proven", lead_if_proven)


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
        if self._leader is not None:
            self._leader._end(LossReason.CLIENT_CLOSED)
        return True

    with mock.patch.object(Candidate, "stand_down", stand_down):
        yield


MUTANTS: dict[str, Mutant] = {
    "lease counted from the renewal's own send time": _renewal_counts_from_its_own_send_time,
    "lease counted from the renewal's receive time": _renewal_counts_from_its_receive_time,
    "pair without the tick between": _pair_without_the_tick,
    "ping taken for proof": _ping_taken_for_proof,
    "T of the newest connection": _timeout_of_the_newest_connection,
    "resume counted after a lapse": _resume_counted_after_a_lapse,
    "resume counted before a renewal went through": _resume_counted_at_once,
    "no watches set again after a reconnect": _no_watches_after_a_reconnect,
    "names sorted as text": _names_sorted_as_text,
    "DELETED used before the own watch is confirmed": _deleted_used_before_the_own_watch,
    "SetWatches events taken one by one": _events_taken_one_by_one,
    "deadline not watched": _deadline_not_watched,
    "term begun without time for the next proof": _term_begins_too_late,
    "body started without a last look at the clock": _body_starts_unproven,
    "body not cut short at its deadline": _body_not_cut_short,
    "client closed under its leaders": _client_closes_under_its_leaders,
}
"""By name; those of the list in docs/proof-simulation.md first, then the mistakes that were there and were found here."""
