"""Which watches are set, and what they become when a connection is replaced.

ZooKeeper's watches are one-shot and belong to a connection. A new connection sets them again with SetWatches, which also
reports what happened meanwhile (``DataTree.setWatches``): a watch on a znode that existed goes under ``data`` and reports its
deletion, one on a znode that did not goes under ``exist`` and reports its creation. Only the answer to the request that set the
watch tells which.

An event uses up the watches of its kind on its path, also for those who wait for another event: they need a new one. What
happened before that was set, no event tells; the answer does, by the czxid, which no two znodes share. (Of a znode that was
deleted and made again during a disconnection, the server reports a change of data or of children alone.)

Only watches that somebody listens to are kept: the registry shrinks when listeners leave.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Any

from aiozk import protocol
from aiozk.exc import NoNode

__all__ = ["Kind", "WatchCallback", "Watches"]

WatchCallback = Callable[[str], object]

CHUNK = 128 * 1024
"""Bytes of paths in one SetWatches request, as in ZooKeeper's own client (``ClientCnxn.SET_WATCHES_MAX_LENGTH``)."""

_CREATED: int = protocol.WatchEvent.CREATED
_DELETED: int = protocol.WatchEvent.DELETED
_DATA_CHANGED: int = protocol.WatchEvent.DATA_CHANGED
_CHILDREN_CHANGED: int = protocol.WatchEvent.CHILDREN_CHANGED


class Kind(enum.Enum):
    """Under which heading SetWatches sets a watch."""

    DATA = "data"
    EXIST = "exist"
    CHILD = "child"


_USED_UP = {
    _CREATED: (Kind.DATA, Kind.EXIST),
    _DELETED: (Kind.DATA, Kind.EXIST, Kind.CHILD),
    _DATA_CHANGED: (Kind.DATA, Kind.EXIST),
    _CHILDREN_CHANGED: (Kind.CHILD,),
}


_ABSENT, _UNKNOWN = -1, 0
"""In place of a czxid: no znode; a znode whose czxid is not known, since only the event of its creation was seen."""


class Watches:
    """The watches of one client and those who listen. Tuples, since there are many paths, each with one or two of anything."""

    def __init__(self) -> None:
        self.callbacks: dict[tuple[int, str], tuple[WatchCallback, ...]] = {}
        self._listeners: dict[str, int] = {}
        self._armed: dict[str, tuple[Kind, ...]] = {}
        self._known: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._listeners) + len(self._armed) + len(self._known)

    def __contains__(self, path: object) -> bool:
        """Whether anybody listens to what happens there."""
        return path in self._listeners

    def add(self, event_type: int, path: str, callback: WatchCallback) -> None:
        """Calls ``callback(path)`` at every such event until it is removed."""
        callbacks = self.callbacks.get((event_type, path), ())
        if callback not in callbacks:
            self.callbacks[event_type, path] = (*callbacks, callback)
            self._listeners[path] = self._listeners.get(path, 0) + 1

    def remove(self, event_type: int, path: str, callback: WatchCallback) -> None:
        """Does nothing where there is no such callback."""
        callbacks = self.callbacks.get((event_type, path), ())
        if callback not in callbacks:
            return
        if rest := tuple(other for other in callbacks if other != callback):
            self.callbacks[event_type, path] = rest
        else:
            del self.callbacks[event_type, path]
        self._listeners[path] -= 1
        if not self._listeners[path]:
            del self._listeners[path]
            self._armed.pop(path, None)
            self._known.pop(path, None)

    def listening(self, event_type: int, path: str) -> Iterator[WatchCallback]:
        """Whom to call: those who still listen when their turn comes."""
        for callback in self.callbacks.get((event_type, path), ()):
            if callback in self.callbacks.get((event_type, path), ()):
                yield callback

    def answered(self, request: Any, record: Any, error: int) -> list[int]:
        """Takes note of the watch that a request has set. Returns the events that its answer proves to have been missed."""
        path = getattr(request, "path", None)
        if not getattr(request, "watch", False) or path not in self._listeners or error not in (0, NoNode.error_code):
            return []
        if error == 0:
            is_list = isinstance(request, (protocol.GetChildrenRequest, protocol.GetChildren2Request))
            self._arm(path, Kind.CHILD if is_list else Kind.DATA)
        elif isinstance(request, protocol.ExistsRequest):
            self._arm(path, Kind.EXIST)
        if error == 0 and not hasattr(record, "stat"):
            return []
        now = _ABSENT if error else record.stat.created_zxid
        before = self._known.get(path, now)
        self._known[path] = now
        if now == before or (before == _UNKNOWN and now != _ABSENT):
            return []
        return [event for event, happened in ((_DELETED, before != _ABSENT), (_CREATED, now != _ABSENT)) if happened]

    def _arm(self, path: str, kind: Kind) -> None:
        armed = self._armed.get(path, ())
        if kind not in armed:
            self._armed[path] = (*armed, kind)

    def fired(self, event_type: int, path: str) -> None:
        """An event came: it has used its watches up."""
        armed = self._armed.get(path, ())
        if left := tuple(kind for kind in armed if kind not in _USED_UP.get(event_type, ())):
            self._armed[path] = left
        elif armed:
            del self._armed[path]
        if path in self._known and event_type in (_CREATED, _DELETED):
            self._known[path] = _UNKNOWN if event_type == _CREATED else _ABSENT

    def missing(self, path: str) -> list[Kind]:
        """The kinds of watch that listeners of ``path`` need and that are not set. Of a deletion every kind tells."""
        armed = self._armed.get(path, ())
        missing = []
        if self._is_awaited(path, _CREATED, _DATA_CHANGED) and Kind.DATA not in armed and Kind.EXIST not in armed:
            missing.append(Kind.DATA)
        if self._is_awaited(path, _CHILDREN_CHANGED) and Kind.CHILD not in armed:
            missing.append(Kind.CHILD)
        if not armed and not missing and self._is_awaited(path, _DELETED):
            missing.append(Kind.DATA)
        return missing

    def used_up(self) -> list[str]:
        """The paths whose watches were set once and are missing now."""
        return [path for path in self._known if self.missing(path)]

    def _is_awaited(self, path: str, *events: int) -> bool:
        return any((event, path) in self.callbacks for event in events)

    def set_watches(self, zxid: int, chunk: int = CHUNK) -> list[Any]:
        """The SetWatches requests, in the order of our own registration, that carry all watches over to a new connection."""
        requests: list[Any] = []
        room = 0
        for path in self._listeners:
            cost = len(path.encode()) + 4
            for kind in self._armed.get(path, ()):
                if room < cost:
                    requests.append(
                        protocol.SetWatchesRequest(
                            relative_zxid=zxid, data_watches=[], exist_watches=[], child_watches=[]
                        )
                    )
                    room = chunk
                room -= cost
                getattr(requests[-1], f"{kind.value}_watches").append(path)
        return requests
