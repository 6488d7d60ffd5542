"""Queue machines, and shells around them, that are wrong in one point each. The search must tell every one from the real one."""

from __future__ import annotations

from collections.abc import Iterable

from aioelect.candidacy import AheadSeen, Candidacy, Command, Deleted, Occupant, PredecessorSeen
from aioelect.naming import NATIVE, Dialect, Queue
from tests.model.queue_model import ALIKE, OTHER, OURS, Faults, QueueModel, ShellFaults

__all__ = ["QUEUE_MUTANTS"]


class TextDialect(Dialect):
    """Sorts names as text, so that a longer prefix comes before a lower number."""

    def queue(self, names: Iterable[str]) -> Queue:
        """As text."""
        return Queue(tuple(sorted(names)))


class LeadsUnwatched(Candidacy):
    """Uses the predecessor's DELETED before the own watch is confirmed."""

    def _deleted(self, event: Deleted) -> list[Command]:
        self._own_watched = self._own_watched or event.name == self.predecessor
        return super()._deleted(event)

    _handlers = {**Candidacy._handlers, Deleted: _deleted}  # noqa: RUF012


class LeadsAtAnyDeletion(Candidacy):
    """Takes the predecessor's deletion for proof, though others stood before that."""

    def _wait(self) -> list[Command]:
        if self._predecessor_watched:
            self.position = 1
        return super()._wait()


class ForgetsOwnDeletion(Candidacy):
    """Does not mind that its own znode was deleted."""

    def _deleted(self, event: Deleted) -> list[Command]:
        return [] if event.name == self.name else super()._deleted(event)

    _handlers = {**Candidacy._handlers, Deleted: _deleted}  # noqa: RUF012


class LeadsByMissingGuess(Candidacy):
    """Takes it for proof that nobody has the name that it guessed for its predecessor."""

    def _predecessor_seen(self, event: PredecessorSeen) -> list[Command]:
        if self.position is None and event.occupant is Occupant.NOBODY:
            self.position = 1
        return super()._predecessor_seen(event)

    _handlers = {**Candidacy._handlers, PredecessorSeen: _predecessor_seen}  # noqa: RUF012


class WaitsForMissingGuess(Candidacy):
    """Goes on waiting where nobody has the name that it guessed for its predecessor."""

    def _predecessor_seen(self, event: PredecessorSeen) -> list[Command]:
        if self.position is None and event.occupant is Occupant.NOBODY:
            return []
        return super()._predecessor_seen(event)

    _handlers = {**Candidacy._handlers, PredecessorSeen: _predecessor_seen}  # noqa: RUF012


class NextByGuess(Candidacy):
    """Takes any predecessor that it guessed for the leader, not number 0 alone."""

    def _predecessor_seen(self, event: PredecessorSeen) -> list[Command]:
        if self.position is None and event.occupant is not Occupant.NOBODY:
            self.position, self.is_placed = 1, True
        return super()._predecessor_seen(event)

    _handlers = {**Candidacy._handlers, PredecessorSeen: _predecessor_seen}  # noqa: RUF012


class NextByMissingAhead(Candidacy):
    """Takes its predecessor for the leader where nobody has the name that it guessed for the one before that."""

    def _ahead_seen(self, event: AheadSeen) -> list[Command]:
        if event.name != self.ahead or event.alive:
            return super()._ahead_seen(event)
        self.position, self.is_placed = 1, True
        return []

    _handlers = {**Candidacy._handlers, AheadSeen: _ahead_seen}  # noqa: RUF012


class GuessesUnwatched(Candidacy):
    """Takes the watch on the own znode for confirmed when that on its predecessor is."""

    def _predecessor_seen(self, event: PredecessorSeen) -> list[Command]:
        self._own_watched = True
        return super()._predecessor_seen(event)

    _handlers = {**Candidacy._handlers, PredecessorSeen: _predecessor_seen}  # noqa: RUF012


AT_ONCE = frozenset[int]()
"""No member is ever behind."""

QUEUE_MUTANTS: dict[str, QueueModel] = {
    "names sorted as text": QueueModel(
        Faults(resignations=1),
        settled=True,
        prefixes=(OURS, OURS, OTHER),
        dialect=TextDialect(NATIVE.name, NATIVE.prefix, NATIVE.pattern),
    ),
    "DELETED used before the own watch is confirmed": QueueModel(
        Faults(wipes=1), contenders=2, laggards=AT_ONCE, shuffled=True, prefixes=(OTHER, OTHER), machine=LeadsUnwatched
    ),
    "SetWatches events taken one by one": QueueModel(
        Faults(disconnects=1, expiries=1, deletions=1), settled=True, shell=ShellFaults(splits_batches=True)
    ),
    "no re-check after a reconnect": QueueModel(
        Faults(disconnects=1, resignations=1), settled=True, shell=ShellFaults(forgets_watches=True)
    ),
    "a create whose reply was lost is repeated": QueueModel(
        Faults(disconnects=1), contenders=2, laggards=AT_ONCE, shell=ShellFaults(repeats_creates=True)
    ),
    "any deletion of a predecessor elects": QueueModel(
        Faults(resignations=1), settled=True, machine=LeadsAtAnyDeletion
    ),
    "the own deletion is not heeded": QueueModel(Faults(deletions=1), settled=True, machine=ForgetsOwnDeletion),
    "nobody at k - 1 means nobody is before us": QueueModel(laggards=AT_ONCE, machine=LeadsByMissingGuess),
    "nobody at k - 1 is waited for": QueueModel(laggards=AT_ONCE, machine=WaitsForMissingGuess),
    "somebody at k - 1 leads, whatever k is": QueueModel(
        Faults(resignations=1), settled=True, prefixes=ALIKE, machine=NextByGuess
    ),
    "nobody at k - 2 means that k - 1 leads": QueueModel(
        Faults(resignations=1), settled=True, prefixes=(OTHER, OURS, OURS), machine=NextByMissingAhead
    ),
    "guess used before the own watch is confirmed": QueueModel(
        Faults(expiries=1, deletions=1), contenders=2, laggards=AT_ONCE, shuffled=True, machine=GuessesUnwatched
    ),
}
"""The mutants, each in a small world in which it is seen to be wrong."""
