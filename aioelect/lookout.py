"""What one candidate does in the queue at the word of ``candidacy``: it watches two znodes, lists, and looks at a third."""

from __future__ import annotations

from collections.abc import Callable

from aioelect import candidacy
from aioelect.errands import Errands
from aioelect.zookeeper.folder import Folder, Place, Znode

__all__ = ["Lookout"]


class Lookout:
    """Brings the answers, and what the watches tell, back as the events of ``candidacy``.

    ``tell`` takes such an event. ``is_alive`` says of a name whether a candidate of this client may stand behind it.
    """

    __slots__ = (
        "_errands",
        "_folder",
        "_is_alive",
        "_tell",
        "_unexpect",
        "_unwatch_own",
        "_unwatch_predecessor",
    )

    def __init__(
        self,
        folder: Folder,
        errands: Errands,
        tell: Callable[[candidacy.Event], object],
        is_alive: Callable[[str], bool],
    ) -> None:
        self._folder = folder
        self._errands = errands
        self._tell = tell
        self._is_alive = is_alive
        self._unwatch_own: Callable[[], None] | None = None
        self._unwatch_predecessor: Callable[[], None] | None = None
        self._unexpect: Callable[[], None] | None = None

    def watch_own(self, entry: int, place: Place) -> None:
        """Answers ``OwnSeen``; ``Deleted`` when it goes."""
        self._unwatch_own = self._folder.on_lost(place, lambda _: self._own_deleted(place.name))
        self._errands.start(self._watch_own, entry, place)

    async def _watch_own(self, entry: int, place: Place) -> None:
        self._tell(candidacy.OwnSeen(entry, await self._folder.watch_own(place)))

    def list(self, entry: int, place: Place) -> None:
        """Answers ``Listed``."""
        self._errands.start(self._list, entry, place)

    async def _list(self, entry: int, place: Place) -> None:
        self._tell(candidacy.Listed(entry, await self._folder.names(place.session_id)))

    def watch_predecessor(self, entry: int, name: str, place: Place) -> None:
        """Answers ``PredecessorSeen``; ``Deleted`` when it goes."""
        self.forget_predecessor()
        unwatch = self._folder.on_deleted(name, lambda _: self._predecessor_deleted(name))
        self._unwatch_predecessor = unwatch
        self._errands.start(self._watch_predecessor, entry, name, place, unwatch)

    async def _watch_predecessor(self, entry: int, name: str, place: Place, unwatch: Callable[[], None]) -> None:
        found = await self._folder.watch(name, place.session_id)
        if found is None:
            unwatch()  # or the next connection would watch for a name to appear that never can
        self._tell(candidacy.PredecessorSeen(entry, name, self._occupant(name, found, place)))

    def _occupant(self, name: str, found: Znode | None, place: Place) -> candidacy.Occupant:
        if found is None:
            return candidacy.Occupant.NOBODY
        if found.owner == 0:
            return candidacy.Occupant.SQUATTER
        if found.owner != place.session_id or self._is_alive(name):
            return candidacy.Occupant.CONTENDER
        return candidacy.Occupant.GHOST

    def look_ahead(self, entry: int, name: str, place: Place) -> None:
        """Answers ``AheadSeen``."""
        self._errands.start(self._look_ahead, entry, name, place)

    async def _look_ahead(self, entry: int, name: str, place: Place) -> None:
        self._tell(candidacy.AheadSeen(entry, name, await self._folder.holds(name, place.session_id)))

    @property
    def is_expecting(self) -> bool:
        """Whether :meth:`expect` has been called for the predecessor."""
        return self._unexpect is not None

    def expect(self, predecessor: str, succeed: Callable[[], object]) -> None:
        """To the next in line the predecessor's deletion is all that is missing: nobody leads until it is known. So ``succeed``
        is called before all that can wait; that event itself follows a turn of the event loop later, like any other."""
        self._unexpect = self._folder.on_deleted_alone(predecessor, succeed)

    def _own_deleted(self, name: str) -> None:
        self.forget_own()  # at once, or the watch would be set anew, on a name that never comes back
        self._tell(candidacy.Deleted(name))

    def _predecessor_deleted(self, name: str) -> None:
        self.forget_predecessor()  # likewise
        self._tell(candidacy.Deleted(name))

    def forget(self) -> None:
        """Ends all watches."""
        self.forget_predecessor()
        self.forget_own()

    def forget_own(self) -> None:
        """Ends the watch on the own znode, if there is one."""
        if self._unwatch_own is not None:
            self._unwatch_own()
            self._unwatch_own = None

    def forget_predecessor(self) -> None:
        """Ends the watch on the predecessor, if there is one."""
        if self._unexpect is not None:
            self._unexpect()
            self._unexpect = None
        if self._unwatch_predecessor is not None:
            self._unwatch_predecessor()
            self._unwatch_predecessor = None
