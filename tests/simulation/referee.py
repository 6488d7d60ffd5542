"""Who believes to lead, and whether that is allowed. Sees every body of every election from its first to its last step.

The interval of a body is from its start to its last step. A process that is frozen does nothing: what counts is what its body
may do when it goes on. If leadership is proven then, by a comparison of clocks, the body has led all the time; if not, its
interval ended where the freeze began.

What a body takes for granted when it starts is compared with the ledger: that nobody is before it, that nothing was asked
against it, and that it waited, if it had to, for what the one before has left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import aioelect
from aioelect.zookeeper.session import Session

from .ledger import How, Ledger

__all__ = ["Referee", "Term"]

SLACK = 0.002
"""Seconds: the ledger counts milliseconds."""

_MISFORTUNES = (
    aioelect.LossReason.DEADLINE_PASSED,
    aioelect.LossReason.SESSION_EXPIRED,
    aioelect.LossReason.NODE_DELETED,
)


@dataclass(slots=True, eq=False)
class Term:
    """One body. Times in seconds of the kernel's clock."""

    process: str
    election: str
    leader: aioelect.Leader
    session: Session
    began: float
    session_id: int | None
    deadline: float
    ended: float | None = None
    frozen_at: float | None = None

    def __str__(self) -> str:
        return f"{self.process} with token {self.leader.token:#x} of {self.election}"


@dataclass(slots=True)
class Referee:
    """``violations`` is what must stay empty."""

    now: Callable[[], float]
    note: Callable[[str], None]
    ledger: Ledger
    handover_delay: float = 0.0
    """Seconds, the same for all contenders."""
    well_since: float = float("inf")
    """When the last fault was over, and what was left of the leases of that time: from then on no term is lost."""
    violations: list[str] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)
    delayed: set[int] = field(default_factory=set)
    """The tokens of those who said that they wait for what the one before has left."""
    counts: Counter[str] = field(default_factory=Counter)

    def leading(self, election: str) -> list[Term]:
        """The bodies that run now."""
        return [term for term in self.terms if term.election == election and term.ended is None]

    def begin(self, process: str, leader: aioelect.Leader, session: Session) -> Term:
        """A body starts."""
        now = self.now()
        term = Term(process, leader.election, leader, session, now, session.session_id, session.lease.deadline)
        self.note(f"{term} begins")
        self.counts["terms"] += 1
        earlier = [each for each in self.terms if each.election == term.election]
        if earlier and leader.token <= max(each.leader.token for each in earlier) and not self._is_exempt(term):
            self._object(f"the token of {term} is no larger than an earlier one")
        self._check_queue(term)
        if self.handover_delay:
            self._check_handover(term, max(earlier, key=lambda each: each.leader.token, default=None))
        self.terms.append(term)
        for other in self.leading(term.election):
            if other.frozen_at is None:
                self._compare(other, term)
        return term

    def step(self, term: Term) -> None:
        """A body does something: it has to be in time.

        What seemed to have ended in a freeze may go on: the proof was on its way, and the session has lived all along.
        """
        if term.ended is not None and term.leader._reason is None and term.leader.is_leader:
            term.ended = None
            self.note(f"{term} goes on")
            for other in self.terms:
                if other.election == term.election and other.began > term.began:
                    self._compare(term, other)
        deadline = term.session.lease.deadline
        if term.session.session_id == term.session_id and deadline > float("-inf"):
            term.deadline = deadline
        if term.ended is None and self.now() > term.deadline + 0.001 and not self._is_exempt(term):
            late = self.now() - term.deadline
            self._object(f"{term} runs {late:.3f} s past its deadline ({term.leader._reason})")

    def end(self, term: Term) -> None:
        """A body has made its last step."""
        if term.ended is None:
            self.step(term)
            term.ended = self.now()
            self.note(f"{term} ends: {term.leader._reason}")
            self.counts[f"ended: {term.leader._reason or 'by itself'}"] += 1
            self._check_end(term)

    def gave_way(self, process: str, election: str, token: int) -> None:
        """A contender was asked not to lead any more, or not to begin."""
        name = self.ledger.names.get(token, "")
        requests = self.ledger.asked.get(election, ())
        if not any(each.token == token or each.successor not in (None, name) for each in requests):
            self._object(f"{process} gives way with token {token:#x} in {election}, and nobody asked for that")
        self.counts["gave way"] += 1

    def asked(self, process: str, election: str) -> None:
        """Somebody who asked for another leader has got one, or asks no longer."""
        if self.now() > self.well_since:
            for request in self.ledger.asked.get(election, ()):
                if request.gone is None:
                    self._object(f"{process} has left a request behind: {request}")

    def _check_queue(self, term: Term) -> None:
        """Whether its turn had come, and it was not somebody else who was chosen before that."""
        ledger, election, token = self.ledger, term.election, term.leader.token
        if before := ledger.before(election, token):
            self._object(f"{term} begins though {before} are before it")
        name = term.leader.path.rpartition("/")[2]
        came_first = ledger.came_first(election, token)
        seen = [each for each in ledger.asked.get(election, ()) if each.gone is None or each.gone > came_first]
        certain = {
            each.successor
            for each in seen
            if each.zxid < came_first and each.gone is None and ledger.holds(election, each.successor or "")
        }
        if certain and not any(each.successor == name for each in seen):
            self._object(f"{term} begins though {certain} shall lead")

    def _check_handover(self, term: Term, before: Term | None) -> None:
        """Whether it has noted that it begins, and waited before, if and only if the last one has not ended by itself."""
        ledger, election, token = self.ledger, term.election, term.leader.token
        notes = ledger.notes.get(election, ())
        if not any(note.token == token and not note.ended for note in notes):
            self._object(f"{term} begins without a note of it")
            return
        last = ledger.note_before(election, token)
        was_clean = last is None or last.ended
        if was_clean == (token in self.delayed):
            self._object(f"{term} {'waits after a clean' if was_clean else 'does not wait after an unclean'} end")
        if before is None:
            return
        gone = ledger.gone.get(before.leader.token)
        if any(note.token == before.leader.token and note.ended for note in notes):
            self.counts["terms after a clean end"] += 1
        elif gone is None or self.now() < gone.time + self.handover_delay - SLACK:
            self._object(f"{term} begins too soon after the unclean end of {before} ({gone})")
        else:
            self.counts["terms after an unclean end"] += 1

    def _check_end(self, term: Term) -> None:
        """Whether there was a reason to end, and the znode has stayed until then."""
        reason, token = term.leader._reason, term.leader.token
        if reason is aioelect.LossReason.STEP_DOWN_REQUESTED:
            if not any(each.token == token for each in self.ledger.asked.get(term.election, ())):
                self._object(f"{term} has stepped down, and nobody asked for that")
        elif reason in _MISFORTUNES and term.began > self.well_since:
            self._object(f"{term} is lost though nothing was wrong: {reason}")
        gone = self.ledger.gone.get(token)
        if gone is not None and gone.how in (How.OWN, How.CLOSED) and gone.time < self.now() - SLACK:
            self._object(f"{term} runs on {self.now() - gone.time:.3f} s after {gone.how.value}")

    def _is_exempt(self, term: Term) -> bool:
        """Whoever led with a znode that an administrator has deleted."""
        return self.ledger.was_deleted(term.leader.token)

    def froze(self, process: str) -> None:
        """A process stops."""
        for term in self.terms:
            if term.process == process and term.ended is None and term.frozen_at is None:
                term.frozen_at = self.now()

    def thawed(self, process: str) -> None:
        """A process goes on."""
        for term in self.terms:
            if term.process == process and term.ended is None and term.frozen_at is not None:
                frozen_at, term.frozen_at = term.frozen_at, None
                if not term.leader.is_leader:
                    term.ended = frozen_at
                    self.note(f"{term} had ended at {frozen_at:.4f}, before a freeze")
                    self.counts["ended: in a freeze"] += 1
                    continue
                for other in self.terms:
                    if other.election == term.election and other.frozen_at is None and _lasted(other, frozen_at):
                        self._compare(term, other)

    def _compare(self, one: Term, other: Term) -> None:
        """Two bodies overlap."""
        if one is other:
            return
        if self._is_exempt(one) or self._is_exempt(other):
            self.counts["overlaps after an administrator's deletion"] += 1
            return
        self._object(f"two leaders at {self.now():.4f}: {one} since {one.began:.4f}, {other} since {other.began:.4f}")

    def _object(self, what: str) -> None:
        self.violations.append(what)
        self.note(f"VIOLATION {what}")


def _lasted(term: Term, time: float) -> bool:
    """Whether its body ran after that time."""
    return term.ended is None or term.ended > time
