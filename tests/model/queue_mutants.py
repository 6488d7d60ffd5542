"""Queue machines, and shells around them, that are wrong in one point each. The search must tell every one from the real one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aioelect.candidacy import Candidacy, Command, Deleted
from aioelect.naming import NATIVE, Dialect, Queue
from tests.model.queue_model import Faults, QueueModel, ShellFaults

__all__ = ["QUEUE_MUTANTS"]


class TextDialect(Dialect):
    """Sorts names as text, so that a longer prefix comes before a lower number."""

    def queue(self, names: Iterable[str]) -> Queue:
        """As text."""
        return Queue(tuple(sorted(names)))


class LeadsUnwatched(Candidacy):
    """Uses the predecessor's DELETED before the own watch is confirmed."""

    def _deleted(self, event: Deleted) -> Iterator[Command]:
        self._own_watched = self._own_watched or event.name == self.predecessor
        yield from super()._deleted(event)

    _handlers = {**Candidacy._handlers, Deleted: _deleted}  # noqa: RUF012


class LeadsAtAnyDeletion(Candidacy):
    """Takes the predecessor's deletion for proof, though others stood before that."""

    def _wait(self) -> Iterator[Command]:
        self.position = 1
        yield from super()._wait()


class ForgetsOwnDeletion(Candidacy):
    """Does not mind that its own znode was deleted."""

    def _deleted(self, event: Deleted) -> Iterator[Command]:
        if event.name != self.name:
            yield from super()._deleted(event)

    _handlers = {**Candidacy._handlers, Deleted: _deleted}  # noqa: RUF012


AT_ONCE = frozenset[int]()
"""No member is ever behind."""

QUEUE_MUTANTS: dict[str, QueueModel] = {
    "names sorted as text": QueueModel(
        contenders=2, laggards=AT_ONCE, dialect=TextDialect(NATIVE.name, NATIVE.prefix, NATIVE.pattern)
    ),
    "DELETED used before the own watch is confirmed": QueueModel(
        Faults(expiries=1, deletions=1), contenders=2, laggards=AT_ONCE, shuffled=True, machine=LeadsUnwatched
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
}
"""The mutants, each in a small world in which it is seen to be wrong."""
