"""The queue: which znode a contender awaits, and when nobody is before it. PURE: events in, commands out.

Theory of operation
-------------------
A candidacy enters the queue with one ephemeral sequential znode, puts a watch on it, and lists the folder. If nobody is before
it, it leads. Otherwise it watches exactly one znode, the one just before its own, and sleeps until that is deleted.

* If the listing showed exactly one lower name, that one leads and the contender is *next*: the predecessor's deletion alone
  proves that nobody is before it. While the own znode lives the folder can't be made anew and numbers only grow, so "all lower
  names are gone" never becomes false again, however old the answer of a lagging server is. No listing is needed.
* Otherwise the deletion only says that the queue moved: list again. Whether the predecessor leads meanwhile, no watch tells:
  when nothing else happens, ask now and then for the znode before the predecessor's, and list once it is gone.
* The watch on the own znode must be confirmed before a deletion of the predecessor may be used: someone may have deleted both.
  Of events that arrive together (after a reconnect they come in the order of a list, not of zxids: ``DataTree.setWatches``)
  the own deletion counts first.
* A predecessor that our own session owns, though no living candidate of this client does, is a ghost of a lost reply: it is
  deleted, or everybody would wait for it as long as we live.
* A znode lost while waiting (the session expired, or somebody deleted it) is not an error: the contender queues again.

Every entry into the queue has a number, and answers that belong to an earlier entry are ignored.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from aioelect.model import LossReason
from aioelect.naming import LAST_SEQUENCE, Dialect

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


class State(enum.Enum):
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


@dataclass(frozen=True, slots=True)
class Enter:
    """Contend."""


@dataclass(frozen=True, slots=True)
class Entered:
    """The own znode was created."""

    entry: int
    name: str
    token: int


@dataclass(frozen=True, slots=True)
class OwnSeen:
    """The watch on the own znode was set; ``alive`` says whether it was there."""

    entry: int
    alive: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """The names in the election folder."""

    entry: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PredecessorSeen:
    """The watch on ``name`` was set, or, where nobody is there, was not."""

    entry: int
    name: str
    occupant: Occupant


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing has been sent for some time, so that something should be, or the session would not be touched."""


@dataclass(frozen=True, slots=True)
class AheadSeen:
    """Whether ``name``, which stood before the predecessor, was still there."""

    entry: int
    name: str
    alive: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    """A watched znode was deleted."""

    name: str


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The session that the own znode belonged to has ended."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Contend no longer."""


Event: TypeAlias = (
    Enter | Entered | OwnSeen | Listed | PredecessorSeen | Idle | AheadSeen | Deleted | SessionEnded | Withdraw
)

# Commands


@dataclass(frozen=True, slots=True)
class Create:
    """Make the own znode, on whatever session lives, and answer ``Entered``."""

    entry: int


@dataclass(frozen=True, slots=True)
class WatchOwn:
    """Set a watch on the own znode and answer ``OwnSeen``."""

    entry: int
    name: str


@dataclass(frozen=True, slots=True)
class ListFolder:
    """List the folder and answer ``Listed``."""

    entry: int


@dataclass(frozen=True, slots=True)
class WatchPredecessor:
    """Set a watch on ``name`` and answer ``PredecessorSeen``."""

    entry: int
    name: str


@dataclass(frozen=True, slots=True)
class LookAhead:
    """Look whether ``name`` is there, without a watch, and answer ``AheadSeen``."""

    entry: int
    name: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell how many are before us; at 1 the lease should be kept warm."""

    position: int


@dataclass(frozen=True, slots=True)
class Exorcise:
    """Delete the ghost ``name``; its watch is set, so the deletion comes back as ``Deleted``."""

    name: str


@dataclass(frozen=True, slots=True)
class Lead:
    """Nobody is before us."""


@dataclass(frozen=True, slots=True)
class Lose:
    """The own znode is gone, or may not be used any more; ``requeue`` says that a new ``Create`` follows."""

    reason: LossReason
    requeue: bool


@dataclass(frozen=True, slots=True)
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
    (S.PLACING, Listed): frozenset({S.PLACING, S.LEADING, S.ENTERING, S.GONE}),
    (S.PLACING, PredecessorSeen): frozenset({S.PLACING, S.WAITING, S.NEXT, S.LEADING, S.GONE}),
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
    foreigner, by the deletion of a predecessor before its own znode is watched, or twice by one entry.
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
        self._own_watched = False
        self._predecessor_watched = False
        self._clear_ahead = False

    def receive(self, events: Iterable[Event]) -> list[Command]:
        """Takes events that arrived together, in any order, and returns what to do."""
        batch = sorted(events, key=self._urgency)
        commands: list[Command] = []
        for event in batch:
            allowed = TRANSITIONS.get((self.state, type(event)))
            if allowed is None or getattr(event, "entry", self.entry) != self.entry:
                continue
            before = self.state
            commands.extend(self._handlers[type(event)](self, event))
            if self.state not in allowed:
                raise AssertionError(f"{before} went to {self.state} on {event}")
        return commands

    def _urgency(self, event: Event) -> int:
        """The session's end, which takes the znode along, comes before the znode's, and both before all else."""
        if isinstance(event, SessionEnded):
            return 0
        return 1 if isinstance(event, Deleted) and event.name == self.name else 2

    def _enter(self, event: Enter) -> Iterator[Command]:
        yield self._queue_anew()

    def _entered(self, event: Entered) -> Iterator[Command]:
        sequence = self.dialect.sequence(event.name)
        self.name, self.token = event.name, event.token
        if sequence is None or sequence > LAST_SEQUENCE:
            self.state = State.GONE
            yield Refuse(Refusal.SEQUENCE, event.name)
            return
        self.state = State.PLACING
        yield WatchOwn(self.entry, event.name)
        yield ListFolder(self.entry)

    def _own_seen(self, event: OwnSeen) -> Iterator[Command]:
        if not event.alive:
            yield from self._lost_place(LossReason.NODE_DELETED)
            return
        self._own_watched = True
        if self._clear_ahead:
            yield from self._lead()
        elif self._predecessor_watched:
            yield from self._wait()

    def _listed(self, event: Listed) -> Iterator[Command]:
        queue = self.dialect.queue(event.names)
        if queue.foreign:
            leading = self.state is State.LEADING
            self.state = State.GONE
            yield (
                Lose(LossReason.FOREIGN_CONTENDER, requeue=False)
                if leading
                else Refuse(Refusal.FOREIGN, queue.foreign[0])
            )
            return
        if self.state is State.LEADING:
            return
        if self.name not in queue.contenders:
            yield from self._lost_place(LossReason.NODE_DELETED)
            return
        position = queue.contenders.index(self.name)
        predecessor = queue.contenders[position - 1] if position > 0 else None
        if self.state is State.WAITING and predecessor != self.predecessor:
            return  # it has just gone, which its watch will tell
        if self.state is not State.WAITING or position != self.position:
            yield Announce(position)
        self.position, self.predecessor = position, predecessor
        self.ahead = queue.contenders[position - 2] if position > 1 else None
        if predecessor is None:
            yield from self._lead()
        elif self.state is State.WAITING:
            yield from self._wait()
        else:
            yield WatchPredecessor(self.entry, predecessor)

    def _predecessor_seen(self, event: PredecessorSeen) -> Iterator[Command]:
        if event.name != self.predecessor:
            return
        match event.occupant:
            case Occupant.NOBODY:
                yield from self._predecessor_gone()
            case Occupant.SQUATTER:
                self.state = State.GONE
                yield Refuse(Refusal.FOREIGN, event.name)
            case Occupant.GHOST | Occupant.CONTENDER:
                self._predecessor_watched = True
                yield from self._wait()
                if event.occupant is Occupant.GHOST:
                    yield Exorcise(event.name)

    def _idle(self, event: Idle) -> Iterator[Command]:
        if self.ahead is not None:
            yield LookAhead(self.entry, self.ahead)

    def _ahead_seen(self, event: AheadSeen) -> Iterator[Command]:
        if event.name == self.ahead and not event.alive:
            yield ListFolder(self.entry)

    def _deleted(self, event: Deleted) -> Iterator[Command]:
        if event.name == self.name:
            yield from self._lost_place(LossReason.NODE_DELETED)
        elif event.name == self.predecessor:
            yield from self._predecessor_gone()

    def _session_ended(self, event: SessionEnded) -> Iterator[Command]:
        yield from self._lost_place(LossReason.SESSION_EXPIRED)

    def _withdraw(self, event: Withdraw) -> Iterator[Command]:
        self.state = State.GONE
        yield from ()

    def _queue_anew(self) -> Create:
        self.entry += 1
        self.state = State.ENTERING
        self.name = self.token = self.position = self.predecessor = self.ahead = None
        self._own_watched = self._predecessor_watched = self._clear_ahead = False
        return Create(self.entry)

    def _lost_place(self, reason: LossReason) -> Iterator[Command]:
        if self.state is State.LEADING:
            self.state = State.GONE
            yield Lose(reason, requeue=False)
        else:
            if self.name is not None:
                yield Lose(reason, requeue=True)
            yield self._queue_anew()

    def _predecessor_gone(self) -> Iterator[Command]:
        """The znode before ours is gone: was it the only one before us?"""
        self.predecessor = self.ahead = None
        self._predecessor_watched = False
        if self.position == 1:
            yield from self._lead()
        else:
            self.state = State.PLACING
            yield ListFolder(self.entry)

    def _wait(self) -> Iterator[Command]:
        """Sleep; as next in line only once both watches are set."""
        if self.position == 1 and not self._own_watched:
            return
        self.state = State.NEXT if self.position == 1 else State.WAITING
        yield from ()

    def _lead(self) -> Iterator[Command]:
        if not self._own_watched:
            self._clear_ahead = True
            self.state = State.PLACING
            return
        unlisted = self.position != 0
        self.state = State.LEADING
        self.position = 0
        yield Lead()
        if unlisted:  # a foreigner behind everyone would never be seen otherwise
            yield ListFolder(self.entry)

    _handlers: dict[type[Event], Callable[..., Iterator[Command]]] = {  # noqa: RUF012
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
