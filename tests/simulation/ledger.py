"""What has certainly happened: the writes that were committed, in order, as the first member that applied each has seen it.

No process sees this; the referee compares with it what they believe.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from aioelect.testing import jute
from aioelect.testing.datatree import Created, Result

__all__ = ["Asked", "Gone", "How", "Ledger", "Note"]

_REQUEST = re.compile(
    r"(?P<election>.+)-control/(?:step-down|hand-over)-(?P<token>[0-9a-f]{16})-(?:(?P<successor>.+)-)?\d{10}"
)


class How(enum.Enum):
    """By whose hand a znode went."""

    EXPIRED = "its session expired"
    CLOSED = "its session was closed"
    OWN = "its session deleted it"
    FOREIGN = "somebody else deleted it"


@dataclass(frozen=True, slots=True)
class Gone:
    """The end of a znode; ``time`` in seconds of the kernel's clock."""

    zxid: int
    time: float
    how: How


@dataclass(slots=True)
class Asked:
    """A request to a leader; ``gone`` is the zxid at which it was taken back."""

    token: int
    successor: str | None
    zxid: int
    gone: int | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """What a leader wrote about its term."""

    token: int
    ended: bool
    zxid: int


@dataclass(frozen=True, slots=True)
class _Znode:
    token: int
    owner: int


class Ledger:
    """``gone`` and ``names`` by token (of those that are gone, too), ``asked`` and ``notes`` by election."""

    def __init__(self) -> None:
        self.gone: dict[int, Gone] = {}
        self.asked: dict[str, list[Asked]] = {}
        self.notes: dict[str, list[Note]] = {}
        self.names: dict[int, str] = {}
        self._znodes: dict[str, dict[str, _Znode]] = {}
        self._ever: dict[str, list[int]] = {}
        self._last = 0

    def is_new(self, zxid: int) -> bool:
        """Whether no member has applied it before; each is to be recorded once."""
        if zxid <= self._last:
            return False
        self._last = zxid
        return True

    def record(self, zxid: int, session: int, time: float, done: Sequence[tuple[jute.MultiOperation, Result]]) -> None:
        """A write has succeeded."""
        for operation, result in done:
            match operation, result:
                case jute.Create(data=data, flags=flags), Created(path):
                    self._made(path, _Znode(zxid, session if flags & jute.EPHEMERAL else 0))
                    self._written(path, data, zxid)
                case jute.SetData(path, data), _:
                    self._written(path, data, zxid)
                case jute.Delete(path), _:
                    znode = self._forget(path)
                    how = How.OWN if znode.owner == session else How.FOREIGN
                    self._went(path, znode, Gone(zxid, time, how))

    def record_end(self, zxid: int, time: float, paths: Sequence[str], *, expired: bool) -> None:
        """A session has ended, and with it these znodes."""
        for path in paths:
            self._went(path, self._forget(path), Gone(zxid, time, How.EXPIRED if expired else How.CLOSED))

    def before(self, election: str, token: int) -> list[str]:
        """The contenders that are before the one with that token."""
        return sorted(name for name, znode in self._znodes.get(election, {}).items() if znode.token < token)

    def came_first(self, election: str, token: int) -> int:
        """The zxid from which on nobody was before that one."""
        ends = [self.gone[each].zxid for each in self._ever.get(election, ()) if each < token and each in self.gone]
        return max([token, *ends])

    def holds(self, election: str, name: str) -> bool:
        """Whether that contender is in the queue."""
        return name in self._znodes.get(election, {})

    def was_deleted(self, token: int) -> bool:
        """Whether an administrator has deleted that znode."""
        gone = self.gone.get(token)
        return gone is not None and gone.how is How.FOREIGN

    def note_before(self, election: str, token: int) -> Note | None:
        """What was noted last when the leader with that token wrote its own note."""
        before = None
        for note in self.notes.get(election, ()):
            if note.token == token:
                break
            before = note
        return before

    def _made(self, path: str, znode: _Znode) -> None:
        folder, _, name = path.rpartition("/")
        self._znodes.setdefault(folder, {})[name] = znode
        if znode.owner:
            self._ever.setdefault(folder, []).append(znode.token)
            self.names[znode.token] = name
        if (request := _REQUEST.fullmatch(path)) is not None:
            asked = Asked(int(request["token"], 16), request["successor"], znode.token)
            self.asked.setdefault(request["election"], []).append(asked)

    def _forget(self, path: str) -> _Znode:
        folder, _, name = path.rpartition("/")
        return self._znodes[folder].pop(name)

    def _went(self, path: str, znode: _Znode, gone: Gone) -> None:
        self.gone[znode.token] = gone
        if (request := _REQUEST.fullmatch(path)) is not None:
            next(asked for asked in self.asked[request["election"]] if asked.zxid == znode.token).gone = gone.zxid

    def _written(self, path: str, data: bytes | None, zxid: int) -> None:
        if path.endswith("-term"):
            fields = json.loads(data or b"")
            self.notes.setdefault(path.removesuffix("-term"), []).append(Note(fields["token"], fields["ended"], zxid))
