"""The queue: which znode a contender awaits, and when nobody is before it. PURE: events in, commands out.

Theory of operation
-------------------
A candidacy enters the queue with one ephemeral sequential znode, puts a watch on it, and watches exactly one other, the one just
before its own. Then it sleeps until that is deleted.

* Who that is, it *guesses*, since a list of the folder grows with the queue. All contenders share one counter, whatever their
  names look like. So where number k - 1 is there under the name that we would have given it, nobody stands between. Number 0
  has nobody before it: who finds it there is at position 1. Otherwise one look at k - 2 tells whether the predecessor
  has somebody before it: then we are far behind, at a position that nobody has counted (None: two or more).
* That k - 1 or k - 2 is *not* there proves nothing: it has gone, or has a name of another kind, or was never a contender. Then
  the folder is listed. Number 0 has nobody to guess, and lists a folder that is next to empty.
* Who stands at position 1 is *next*: its predecessor leads, and the predecessor's deletion alone proves that nobody is before
  it. While the own znode lives the folder can't be made anew and numbers only grow, so "all lower names are gone" never becomes
  false again, however old the answer of a lagging server is. It leads without a list, and looks for foreigners afterwards.
* Otherwise the deletion only says that the queue moved: list. Whether the predecessor leads meanwhile, no watch tells: when
  nothing else happens, ask now and then for the znode before the predecessor's, and list once it is gone.
* The watch on the own znode must be confirmed before a deletion of the predecessor may be used: someone may have deleted both,
  and others may have taken both numbers in a new folder. Of events that arrive together (after a reconnect they come in the
  order of a list, not of zxids: ``DataTree.setWatches``) the own deletion counts first.
* A predecessor that our own session owns, though no living candidate of this client does, is a ghost of a lost reply: it is
  deleted, or everybody would wait for it as long as we live.
* A znode lost while waiting (the session expired, or somebody deleted it) is not an error: the contender queues again.

Every entry into the queue has a number, and answers that belong to an earlier entry are ignored.
"""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable, Sequence
from typing import TypeAlias

from aioelect.model import LossReason
from aioelect.naming import LAST_SEQUENCE, Dialect
from aioelect.value import value

__all__ = [
    "TRANSITIONS",
    "AheadSeen",
    "Announce",
    "Candidacy",
    "Command",
    "Create",
    "Deleted",
    "Enter",
    "Entered",
    "Event",
    "Exorcise",
    "Idle",
    "Lead",
    "ListFolder",
    "Listed",
    "LookAhead",
    "Lose",
    "Occupant",
    "OwnSeen",
    "PredecessorSeen",
    "Refusal",
    "Refuse",
    "SessionEnded",
    "State",
    "WatchOwn",
    "WatchPredecessor",
    "Withdraw",
]


class State(enum.StrEnum):
    """Where a candidacy stands."""

    OUT = "out"
    ENTERING = "entering"
    PLACING = "placing"
    WAITING = "waiting"
    NEXT = "next"
    LEADING = "leading"
    GONE = "gone"


class Occupant(enum.Enum):
    """Who was found on the predecessor's znode."""

    NOBODY = "nobody"
    CONTENDER = "contender"
    GHOST = "ghost"
    SQUATTER = "squatter"
    """Not ephemeral: no contender made it, and it will not go by itself."""


class Refusal(enum.Enum):
    """Why a candidacy must not go on."""

    FOREIGN = "foreign"
    SEQUENCE = "sequence"


# Events


@value
class Enter:
    """Contend."""


@value
class Entered:
    """The own znode was created."""

    entry: int
    name: str
    token: int


@value
class OwnSeen:
    """The watch on the own znode was set; ``alive`` says whether it was there."""

    entry: int
    alive: bool


@value
class Listed:
    """The names in the election folder."""

    entry: int
    names: tuple[str, ...]


@value
class PredecessorSeen:
    """The watch on ``name`` was set, or, where nobody is there, was not."""

    entry: int
    name: str
    occupant: Occupant


@value
class Idle:
    """Nothing has been sent for some time, so that something should be, or the session would not be touched."""


@value
class AheadSeen:
    """Whether ``name``, which stood before the predecessor or would have, was there."""

    entry: int
    name: str
    alive: bool


@value
class Deleted:
    """A watched znode was deleted."""

    name: str


@value
class SessionEnded:
    """The session that the own znode belonged to has ended."""


@value
class Withdraw:
    """Contend no longer."""


Event: TypeAlias = (
    Enter | Entered | OwnSeen | Listed | PredecessorSeen | Idle | AheadSeen | Deleted | SessionEnded | Withdraw
)

# Commands


@value
class Create:
    """Make the own znode, on whatever session lives, and answer ``Entered``."""

    entry: int


@value
class WatchOwn:
    """Set a watch on the own znode and answer ``OwnSeen``."""

    entry: int
    name: str


@value
class ListFolder:
    """List the folder and answer ``Listed``."""

    entry: int


@value
class WatchPredecessor:
    """Set a watch on ``name`` and answer ``PredecessorSeen``."""

    entry: int
    name: str


@value
class LookAhead:
    """Look whether ``name`` is there, without a watch, and answer ``AheadSeen``."""

    entry: int
    name: str


@value
class Announce:
    """Tell how many are before us (None: two or more); at 1 the lease should be kept warm."""

    position: int | None


@value
class Exorcise:
    """Delete the ghost ``name``; its watch is set, so the deletion comes back as ``Deleted``."""

    name: str


@value
class Lead:
    """Nobody is before us."""


@value
class Lose:
    """The own znode is gone, or may not be used any more; ``requeue`` says that a new ``Create`` follows."""

    reason: LossReason
    requeue: bool


@value
class Refuse:
    """This folder can't be used, because of ``name``; the candidacy has ended."""

    refusal: Refusal
    name: str


Command: TypeAlias = (
    Create | WatchOwn | ListFolder | WatchPredecessor | LookAhead | Announce | Exorcise | Lead | Lose | Refuse
)

S = State
TRANSITIONS: dict[tuple[State, type[Event]], frozenset[State]] = {
    (S.OUT, Enter): frozenset({S.ENTERING}),
    (S.ENTERING, Entered): frozenset({S.PLACING, S.GONE}),
    (S.ENTERING, SessionEnded): frozenset({S.ENTERING}),
    (S.PLACING, OwnSeen): frozenset({S.PLACING, S.NEXT, S.LEADING, S.ENTERING}),
    (S.PLACING, Listed): frozenset({S.PLACING, S.WAITING, S.NEXT, S.LEADING, S.ENTERING, S.GONE}),
    (S.PLACING, PredecessorSeen): frozenset({S.PLACING, S.WAITING, S.NEXT, S.LEADING, S.GONE}),
    (S.PLACING, AheadSeen): frozenset({S.PLACING, S.WAITING}),
    (S.PLACING, Deleted): frozenset({S.PLACING, S.LEADING, S.ENTERING}),
    (S.WAITING, OwnSeen): frozenset({S.WAITING, S.NEXT, S.ENTERING}),
    (S.WAITING, Idle): frozenset({S.WAITING}),
    (S.WAITING, AheadSeen): frozenset({S.WAITING}),
    (S.WAITING, Listed): frozenset({S.WAITING, S.NEXT, S.ENTERING, S.GONE}),
    (S.WAITING, Deleted): frozenset({S.PLACING, S.ENTERING, S.WAITING}),
    (S.NEXT, Deleted): frozenset({S.LEADING, S.ENTERING, S.NEXT}),
    (S.LEADING, Deleted): frozenset({S.GONE, S.LEADING}),
    (S.LEADING, Listed): frozenset({S.LEADING, S.GONE}),
    **{(state, SessionEnded): frozenset({S.ENTERING}) for state in (S.PLACING, S.WAITING, S.NEXT)},
    (S.LEADING, SessionEnded): frozenset({S.GONE}),
    **{(state, Withdraw): frozenset({S.GONE}) for state in S},
}
"""Every state, every event that means something in it, and the states that it may lead to. What is not here is ignored."""


class Candidacy:
    """One contender of one election.

    Feed it with :meth:`receive` and perform, in order, the commands that come out. It never leads by a wrapped number, beside a
    foreigner that it has seen, by the deletion of a predecessor before its own znode is watched, or twice by one entry.
    """

    def __init__(self, dialect: Dialect, entry: int = 0) -> None:
        self.dialect = dialect
        self.state = State.OUT
        self.entry = entry
        self.name: str | None = None
        self.token: int | None = None
        self.position: int | None = None
        self.predecessor: str | None = None
        self.ahead: str | None = None
        self.is_placed = False
        """Whether it is known if nobody is before us, only the predecessor, or others as well."""
        self._own_watched = False
        self._predecessor_watched = False
        self._clear_ahead = False

    def receive(self, events: Sequence[Event]) -> list[Command]:
        """Takes events that arrived together, in any order, and returns what to do."""
        commands: list[Command] = []
        for event in events if len(events) == 1 else sorted(events, key=self._urgency):
            before, kind = self.state, type(event)
            allowed = TRANSITIONS.get((before, kind))
            if allowed is None or getattr(event, "entry", self.entry) != self.entry:
                continue
            commands += self._handlers[kind](self, event)
            if self.state not in allowed:
                raise AssertionError(f"{before} went to {self.state} on {event}")
        return commands

    def foresee(self, event: Event) -> tuple[Candidacy, list[Command]]:
        """What it would be after ``event``, and what it would say; it stays as it is."""
        then = copy.copy(self)
        return then, then.receive([event])

    def _urgency(self, event: Event) -> int:
        """The session's end, which takes the znode along, comes before the znode's, and both before all else."""
        if isinstance(event, SessionEnded):
            return 0
        return 1 if isinstance(event, Deleted) and event.name == self.name else 2

    def _enter(self, event: Enter) -> list[Command]:
        return [self._queue_anew()]

    def _entered(self, event: Entered) -> list[Command]:
        number = self.dialect.sequence(event.name)
        self.name, self.token = event.name, event.token
        if number is None or number > LAST_SEQUENCE:
            self.state = State.GONE
            return [Refuse(Refusal.SEQUENCE, event.name)]
        self.state = State.PLACING
        return [WatchOwn(self.entry, event.name), *self._guess(number)]

    def _guess(self, number: int) -> list[Command]:
        """Asks for the two who would be before us, in place of a list."""
        if number == 0:
            return [ListFolder(self.entry)]
        self.predecessor = self.dialect.numbered(number - 1)
        commands: list[Command] = [WatchPredecessor(self.entry, self.predecessor)]
        if number > 1:
            self.ahead = self.dialect.numbered(number - 2)
            commands.append(LookAhead(self.entry, self.ahead))
        return commands

    def _own_seen(self, event: OwnSeen) -> list[Command]:
        if not event.alive:
            return self._lost_place(LossReason.NODE_DELETED)
        self._own_watched = True
        return self._lead() if self._clear_ahead else self._wait()

    def _listed(self, event: Listed) -> list[Command]:
        queue = self.dialect.queue(event.names)
        if queue.foreign:
            leading = self.state is State.LEADING
            self.state = State.GONE
            if leading:
                return [Lose(LossReason.FOREIGN_CONTENDER, requeue=False)]
            return [Refuse(Refusal.FOREIGN, queue.foreign[0])]
        if self.state is State.LEADING:
            return []
        if self.name not in queue.contenders:
            return self._lost_place(LossReason.NODE_DELETED)
        position = queue.contenders.index(self.name)
        predecessor = queue.contenders[position - 1] if position > 0 else None
        if self._predecessor_watched and predecessor != self.predecessor:
            return []  # it has just gone, which its watch will tell
        commands: list[Command] = [] if position == self.position else [Announce(position)]
        asked, self.predecessor = self.predecessor, predecessor
        self.position, self.is_placed = position, True
        self.ahead = queue.contenders[position - 2] if position > 1 else None
        if predecessor is None:
            return commands + self._lead()
        if predecessor == asked:
            return commands + self._wait()
        return [*commands, WatchPredecessor(self.entry, predecessor)]

    def _predecessor_seen(self, event: PredecessorSeen) -> list[Command]:
        if event.name != self.predecessor:
            return []
        if event.occupant is Occupant.NOBODY:
            return self._predecessor_gone()
        if event.occupant is Occupant.SQUATTER:
            self.state = State.GONE
            return [Refuse(Refusal.FOREIGN, event.name)]
        commands: list[Command] = []
        self._predecessor_watched = True
        if self.position is None and self.dialect.sequence(event.name) == 0:
            self.position, self.is_placed = 1, True
            commands.append(Announce(1))
        commands += self._wait()
        if event.occupant is Occupant.GHOST:
            commands.append(Exorcise(event.name))
        return commands

    def _idle(self, event: Idle) -> list[Command]:
        return [] if self.ahead is None else [LookAhead(self.entry, self.ahead)]

    def _ahead_seen(self, event: AheadSeen) -> list[Command]:
        if event.name != self.ahead:
            return []
        if not event.alive:
            return [ListFolder(self.entry)]
        self.is_placed = True
        return self._wait()

    def _deleted(self, event: Deleted) -> list[Command]:
        if event.name == self.predecessor:
            return self._predecessor_gone()
        if event.name == self.name:
            return self._lost_place(LossReason.NODE_DELETED)
        return []

    def _session_ended(self, event: SessionEnded) -> list[Command]:
        return self._lost_place(LossReason.SESSION_EXPIRED)

    def _withdraw(self, event: Withdraw) -> list[Command]:
        self.state = State.GONE
        return []

    def _queue_anew(self) -> Create:
        self.entry += 1
        self.state = State.ENTERING
        self.name = self.token = self.position = self.predecessor = self.ahead = None
        self.is_placed = self._own_watched = self._predecessor_watched = self._clear_ahead = False
        return Create(self.entry)

    def _lost_place(self, reason: LossReason) -> list[Command]:
        if self.state is State.LEADING:
            self.state = State.GONE
            return [Lose(reason, requeue=False)]
        if self.name is None:
            return [self._queue_anew()]
        return [Lose(reason, requeue=True), self._queue_anew()]

    def _predecessor_gone(self) -> list[Command]:
        """The znode before ours is gone: was it the only one before us?"""
        self._predecessor_watched = False
        if self.position == 1:
            return self._lead()
        self.predecessor = self.ahead = None
        self.is_placed = False
        self.state = State.PLACING
        return [ListFolder(self.entry)]

    def _wait(self) -> list[Command]:
        """Sleep, once it is known behind how many; as next in line only when both watches are set."""
        if not self.is_placed or not self._predecessor_watched or (self.position == 1 and not self._own_watched):
            return []
        before, self.state = self.state, State.NEXT if self.position == 1 else State.WAITING
        return [Announce(None)] if self.position is None and before is State.PLACING else []

    def _lead(self) -> list[Command]:
        """Nobody is before us, and never will be again."""
        self.predecessor = self.ahead = None
        if not self._own_watched:
            self._clear_ahead = True
            self.state = State.PLACING
            return []
        unlisted = self.position != 0
        self.state = State.LEADING
        self.position = 0
        # A foreigner behind everyone would never be seen without a list.
        return [Lead(), ListFolder(self.entry)] if unlisted else [Lead()]

    _handlers: dict[type[Event], Callable[..., list[Command]]] = {  # noqa: RUF012
        Enter: _enter,
        Entered: _entered,
        OwnSeen: _own_seen,
        Listed: _listed,
        PredecessorSeen: _predecessor_seen,
        Idle: _idle,
        AheadSeen: _ahead_seen,
        Deleted: _deleted,
        SessionEnded: _session_ended,
        Withdraw: _withdraw,
    }
