"""Who believes to lead, and whether that is allowed. Sees every body of every election from its first to its last step.

The interval of a body is from its start to its last step. A process that is frozen does nothing: what counts is what its body
may do when it goes on. If leadership is proven then, by a comparison of clocks, the body has led all the time; if not, its
interval ended where the freeze began.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import aioelect
from aioelect.zookeeper.session import Session

__all__ = ["Referee", "Term"]


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
    violations: list[str] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    """Paths that an administrator has deleted: whoever led with one is exempt."""
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
        if earlier and leader.token <= max(each.leader.token for each in earlier) and leader.path not in self.deleted:
            self._object(f"the token of {term} is no larger than an earlier one")
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
        if term.ended is None and self.now() > term.deadline + 0.001:
            late = self.now() - term.deadline
            self._object(f"{term} runs {late:.3f} s past its deadline ({term.leader._reason})")

    def end(self, term: Term) -> None:
        """A body has made its last step."""
        if term.ended is None:
            self.step(term)
            term.ended = self.now()
            self.note(f"{term} ends: {term.leader._reason}")
            self.counts[f"ended: {term.leader._reason or 'by itself'}"] += 1

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
        if one.leader.path in self.deleted or other.leader.path in self.deleted:
            self.counts["overlaps after an administrator's deletion"] += 1
            return
        self._object(f"two leaders at {self.now():.4f}: {one} since {one.began:.4f}, {other} since {other.began:.4f}")

    def _object(self, what: str) -> None:
        self.violations.append(what)
        self.note(f"VIOLATION {what}")


def _lasted(term: Term, time: float) -> bool:
    """Whether its body ran after that time."""
    return term.ended is None or term.ended > time
