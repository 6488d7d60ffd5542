"""The tree of znodes that `EmbeddedServer` serves: ZooKeeper's rules, without time, sockets or tasks.

The rules are those of ZooKeeper 3.8: ``PrepRequestProcessor`` (what is refused, in which order, and how a
sequential name is numbered), ``DataTree`` (what a change does, which watches it fires, in which order) and
``WatchManager``. Every write takes a zxid, refused ones too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Protocol

from aioelect.testing.jute import (
    ACL,
    CONTAINER,
    EPHEMERAL,
    SEQUENTIAL,
    Check,
    Code,
    Create,
    Delete,
    EventType,
    Identity,
    MultiOperation,
    Opcode,
    SetACL,
    SetData,
    SetWatches,
    Stat,
    WatcherType,
    WatchEvent,
)


class Watcher(Protocol):
    """A connection that leaves watches: one that registers twice for a path is told once."""

    @property
    def identities(self) -> tuple[Identity, ...]:
        """Those that it has proved; an event about a znode that they may not read is kept from it."""

    def notify(self, event: WatchEvent) -> None:
        """Takes an event, at once."""


class Permission(IntFlag):
    """``ZooDefs.Perms``."""

    READ = 1
    WRITE = 2
    CREATE = 4
    DELETE = 8
    ADMIN = 16
    ALL = 31


WORLD = Identity("world", "anyone")
OPEN_ACL = (ACL(Permission.ALL, WORLD),)
READ_ONLY_ACL = (ACL(Permission.READ, WORLD),)

MAX_CREATES = 2**31 - 1
"""How many children one znode can number."""

_RESERVED = frozenset({"", "/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"})
_FLAGS = frozenset({0, EPHEMERAL, SEQUENTIAL, EPHEMERAL | SEQUENTIAL, CONTAINER})
_TTL_FLAGS = frozenset({5, 6})
# PathUtils.validatePath: a name is not empty, not "." or "..", and free of control and private characters.
# Java counts characters beyond U+FFFF as two surrogates, which it refuses.
_PATH = re.compile(r"/|(/(?!\.{1,2}(/|\Z))[^/\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff\U00010000-\U0010ffff]+)+")


class Refused(Exception):
    """A request that ZooKeeper answers with an error code."""

    def __init__(self, code: Code, path: str) -> None:
        super().__init__(f"{code.name} {path!r}")
        self.code = code
        self.path = path


class MultiRefused(Exception):
    """A multi of which nothing was done, because one operation was refused."""

    def __init__(self, refusal: Refused, index: int, length: int) -> None:
        super().__init__(f"operation {index + 1} of {length}: {refusal}")
        rest = length - index - 1
        self.codes = (*[Code.OK] * index, refusal.code, *[Code.RUNTIME_INCONSISTENCY] * rest)
        """One code for each operation: OK before the refused one, RUNTIME_INCONSISTENCY after it."""


@dataclass(slots=True, eq=False)
class Node:
    """One znode. ``creates`` counts the children ever created, it numbers the next sequential one."""

    data: bytes | None
    acl: tuple[ACL, ...]
    owner: int = 0
    container: bool = False
    czxid: int = 0
    mzxid: int = 0
    pzxid: int = 0
    ctime: int = 0
    mtime: int = 0
    version: int = 0
    creates: int = 0
    aversion: int = 0
    children: dict[str, None] = field(default_factory=dict)

    def stat(self) -> Stat:
        return Stat(
            czxid=self.czxid,
            mzxid=self.mzxid,
            ctime=self.ctime,
            mtime=self.mtime,
            version=self.version,
            # DataNode.copyStat: creates and deletes together, every child that is gone was deleted.
            cversion=_as_int(2 * self.creates - len(self.children)),
            aversion=self.aversion,
            ephemeral_owner=self.owner,
            data_length=len(self.data or b""),
            children=len(self.children),
            pzxid=self.pzxid,
        )


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is: the session, and the identities that its connection has proved."""

    session: int = 0
    identities: tuple[Identity, ...] = ()


@dataclass(frozen=True, slots=True)
class Created:
    """What a create did."""

    path: str
    stat: Stat


Result = Created | Stat | None
"""What a write gives: `Created`, the stat after SetData or SetACL, None after Delete and Check."""


class WatchTable:
    """Watches of one kind: each fires once (``WatchManager``)."""

    def __init__(self) -> None:
        self._watchers: defaultdict[str, dict[Watcher, None]] = defaultdict(dict)
        self._paths: defaultdict[Watcher, set[str]] = defaultdict(set)

    def add(self, path: str, watcher: Watcher) -> None:
        self._watchers[path][watcher] = None
        self._paths[watcher].add(path)

    def contains(self, path: str, watcher: Watcher) -> bool:
        return path in self._paths.get(watcher, ())

    def remove(self, path: str, watcher: Watcher) -> bool:
        """Whether there was such a watch."""
        if not self.contains(path, watcher):
            return False
        self._detach(path, watcher)
        del self._watchers[path][watcher]
        if not self._watchers[path]:
            del self._watchers[path]
        return True

    def forget(self, watcher: Watcher) -> None:
        """Removes all watches of a watcher."""
        for path in tuple(self._paths.get(watcher, ())):
            self.remove(path, watcher)

    def trigger(self, event: WatchEvent, acl: Sequence[ACL], told: Collection[Watcher] = ()) -> Collection[Watcher]:
        """Uses up the watches on the event's path; gives their watchers.

        Not notified are those told already, and those whom the znode's ``acl`` lets not read it (CVE-2024-23944,
        mended in 3.8.4 and 3.9.2, and in Debian's 3.8.0).
        """
        watchers = self._watchers.pop(event.path, {})
        for watcher in watchers:
            self._detach(event.path, watcher)
        for watcher in watchers:
            if watcher not in told and _allowed(acl, Permission.READ, watcher.identities):
                watcher.notify(event)
        return watchers

    def _detach(self, path: str, watcher: Watcher) -> None:
        paths = self._paths[watcher]
        paths.remove(path)
        if not paths:
            del self._paths[watcher]


class _Transaction:
    """Writes under one zxid: they can be taken back, and watches fire only when they are kept."""

    def __init__(self, zxid: int, now: int) -> None:
        self.zxid = zxid
        self.now = now
        self._undo: list[Callable[[], None]] = []
        self._events: list[Callable[[], None]] = []

    def did(self, undo: Callable[[], None], event: Callable[[], None]) -> None:
        self._undo.append(undo)
        self._events.append(event)

    def keep(self) -> None:
        for event in self._events:
            event()

    def take_back(self) -> None:
        for undo in reversed(self._undo):
            undo()


class DataTree:
    """Znodes, the ephemeral ones of each session, and watches.

    ``now`` is the server's wall clock in milliseconds since the epoch. Refusals are raised as `Refused`.
    """

    def __init__(self) -> None:
        self.zxid = 0
        """The zxid of the last write; a new session counts as one."""
        root = Node(b"", OPEN_ACL)
        # ZooKeeper calls the root by two names, "" is the parent's name of "/a".
        self._nodes = {"": root, "/": root}
        self._ephemerals: dict[int, dict[str, None]] = {}
        self._containers: dict[str, None] = {}
        for path, acl in (("", OPEN_ACL), ("/quota", OPEN_ACL), ("/config", READ_ONLY_ACL)):
            self._link("/zookeeper" + path, Node(b"", acl))
        self._data_watches = WatchTable()
        self._child_watches = WatchTable()

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    def __len__(self) -> int:
        """How many znodes there are, ZooKeeper's own among them."""
        return len(self._nodes) - 1

    def node(self, path: str) -> Node:
        """The znode itself; raises `Refused`."""
        try:
            return self._nodes[path]
        except KeyError:
            raise Refused(Code.NO_NODE, path) from None

    # Reads.

    def exists(self, path: str, watcher: Watcher | None = None) -> Stat:
        """The stat; the watch is left on a missing znode too, and then waits for its creation."""
        if "\0" in path:
            raise Refused(Code.BAD_ARGUMENTS, path)
        if watcher:
            self._data_watches.add(path, watcher)
        return self.node(path).stat()

    def get_data(self, path: str, caller: Caller, watcher: Watcher | None = None) -> tuple[bytes | None, Stat]:
        node = self._readable(path, caller)
        if watcher:
            self._data_watches.add(path, watcher)
        return node.data, node.stat()

    def get_children(self, path: str, caller: Caller, watcher: Watcher | None = None) -> tuple[Sequence[str], Stat]:
        node = self._readable(path, caller)
        if watcher:
            self._child_watches.add(path, watcher)
        return tuple(node.children), node.stat()

    def get_acl(self, path: str, caller: Caller) -> tuple[Sequence[ACL], Stat]:
        """The access list; without ADMIN on it, the hashes of passwords are left out."""
        node = self.node(path)
        _authorise(node, Permission.READ | Permission.ADMIN, caller, path)
        if _allowed(node.acl, Permission.ADMIN, caller.identities):
            return node.acl, node.stat()
        return tuple(ACL(acl.permissions, _redacted(acl.identity)) for acl in node.acl), node.stat()

    def count_descendants(self, path: str, caller: Caller) -> int:
        self._readable(path, caller)
        if path == "/":
            return len(self) - 1
        return sum(1 for name in self._nodes if name.startswith(path + "/"))

    def ephemerals(self, session: int, prefix: str | None = None) -> Sequence[str]:
        """The paths of a session's ephemeral znodes; a prefix is a prefix of characters, not of names."""
        paths = tuple(self._ephemerals.get(session, ()))
        if prefix is None or prefix.strip() in ("", "/"):
            return paths
        return tuple(path for path in paths if path.startswith(prefix))

    # Watches.

    def set_watches(self, request: SetWatches, watcher: Watcher) -> None:
        """Leaves watches again after a reconnect, or fires those that the client has missed the event of.

        Events come in the order of the lists, not of what happened, and whoever may not read the znode is told
        all the same (``DataTree.setWatches``).
        """
        since = request.relative_zxid
        for path in request.data:
            node = self._nodes.get(path)
            if node is None:
                watcher.notify(WatchEvent(EventType.DELETED, path))
            elif node.mzxid > since:
                watcher.notify(WatchEvent(EventType.DATA_CHANGED, path))
            else:
                self._data_watches.add(path, watcher)
        for path in request.exist:
            if path in self._nodes:
                watcher.notify(WatchEvent(EventType.CREATED, path))
            else:
                self._data_watches.add(path, watcher)
        for path in request.children:
            node = self._nodes.get(path)
            if node is None:
                watcher.notify(WatchEvent(EventType.DELETED, path))
            elif node.pzxid > since:
                watcher.notify(WatchEvent(EventType.CHILDREN_CHANGED, path))
            else:
                self._child_watches.add(path, watcher)

    def check_watches(self, path: str, kind: WatcherType, watcher: Watcher) -> None:
        """Raises `Refused` unless the watcher has such a watch."""
        if not any(table.contains(path, watcher) for table in self._tables(kind)):
            raise Refused(Code.NO_WATCHER, path)

    def remove_watches(self, path: str, kind: WatcherType, watcher: Watcher) -> None:
        """Raises `Refused` unless the watcher had such a watch."""
        if True not in [table.remove(path, watcher) for table in self._tables(kind)]:
            raise Refused(Code.NO_WATCHER, path)

    def forget_watcher(self, watcher: Watcher) -> None:
        """Removes all watches of a connection that is gone."""
        for table in self._tables(WatcherType.ANY):
            table.forget(watcher)

    def _tables(self, kind: WatcherType) -> tuple[WatchTable, ...]:
        if kind is WatcherType.CHILDREN:
            return (self._child_watches,)
        if kind is WatcherType.DATA:
            return (self._data_watches,)
        return (self._child_watches, self._data_watches)

    # Writes.

    def take_zxid(self) -> int:
        """Counts a write that changes no znode: a new session, or a request that could not be read."""
        self.zxid += 1
        return self.zxid

    def close_session(self, session: int) -> None:
        """Deletes the ephemeral znodes of a session that is closed or has expired, under one zxid."""
        transaction = self._begin(now=0)
        for path in self.ephemerals(session):
            self._delete(transaction, path)
        transaction.keep()

    def reap_containers(self) -> Sequence[str]:
        """Deletes containers that had children and are empty again (``ContainerManager``); gives their paths."""
        empty = [path for path in self._containers if self._is_reapable(self._nodes[path])]
        for path in empty:
            transaction = self._begin(now=0)
            self._delete(transaction, path)
            transaction.keep()
        return tuple(empty)

    def write(self, request: MultiOperation | SetACL, caller: Caller, now: int) -> Result:
        """Performs one write."""
        transaction = self._begin(now)
        result = self._perform(transaction, request, caller)
        transaction.keep()
        return result

    def multi(self, operations: Sequence[MultiOperation], caller: Caller, now: int) -> Sequence[Result]:
        """Performs all or nothing; raises `MultiRefused`."""
        transaction = self._begin(now)
        results: list[Result] = []
        for operation in operations:
            try:
                results.append(self._perform(transaction, operation, caller))
            except Refused as refusal:
                transaction.take_back()
                raise MultiRefused(refusal, len(results), len(operations)) from refusal
        transaction.keep()
        return results

    def _begin(self, now: int) -> _Transaction:
        return _Transaction(self.take_zxid(), now)

    def _perform(self, transaction: _Transaction, request: MultiOperation | SetACL, caller: Caller) -> Result:
        match request:
            case Create():
                return self._create(transaction, request, caller)
            case Delete():
                self._check_delete(request, caller)
                self._delete(transaction, request.path)
                return None
            case SetData():
                return self._set_data(transaction, request, caller)
            case Check():
                node = self._writable(request.path, Permission.READ, caller)
                _check_version(node.version, request.version, request.path)
                return None
            case SetACL():
                return self._set_acl(request, caller)

    def _create(self, transaction: _Transaction, request: Create, caller: Caller) -> Created:
        if request.flags in _TTL_FLAGS:
            raise Refused(Code.UNIMPLEMENTED, request.path)
        if request.flags not in _FLAGS:
            raise Refused(Code.BAD_ARGUMENTS, request.path)
        path = request.path
        parent_path = _parent(path)
        acl = _resolved(request.acl, caller, path)
        parent = self.node(parent_path)
        _authorise(parent, Permission.CREATE, caller, path)
        if request.flags & SEQUENTIAL:
            path += f"{parent.creates:010d}"
        _check_path(path)
        if path in self._nodes:
            raise Refused(Code.NODE_EXISTS, path)
        if parent.owner:
            raise Refused(Code.NO_CHILDREN_FOR_EPHEMERALS, path)
        node = Node(
            request.data,
            acl,
            owner=caller.session if request.flags & EPHEMERAL else 0,
            # The opcode makes a container, not the flag (DataTree.processTxn).
            container=request.opcode is Opcode.CREATE_CONTAINER,
            czxid=transaction.zxid,
            mzxid=transaction.zxid,
            pzxid=transaction.zxid,
            ctime=transaction.now,
            mtime=transaction.now,
        )
        before = parent.creates, parent.pzxid
        self._link(path, node)
        # A count that overflows is not taken over, nor is the zxid with it (DataTree.createNode).
        if parent.creates < MAX_CREATES:
            parent.creates, parent.pzxid = parent.creates + 1, transaction.zxid

        def undo() -> None:
            self._unlink(path)
            parent.creates, parent.pzxid = before

        def event() -> None:
            self._data_watches.trigger(WatchEvent(EventType.CREATED, path), acl)
            changed = WatchEvent(EventType.CHILDREN_CHANGED, parent_path or "/")
            self._child_watches.trigger(changed, parent.acl)

        transaction.did(undo, event)
        return Created(path, node.stat())

    def _check_delete(self, request: Delete, caller: Caller) -> None:
        path = request.path
        parent_path = _parent(path)
        if path in _RESERVED:
            raise Refused(Code.BAD_ARGUMENTS, path)
        _authorise(self.node(parent_path), Permission.DELETE, caller, path)
        node = self.node(path)
        _check_version(node.version, request.version, path)
        if node.children:
            raise Refused(Code.NOT_EMPTY, path)

    def _delete(self, transaction: _Transaction, path: str) -> None:
        parent_path = _parent(path)
        parent = self._nodes[parent_path]
        before = parent.pzxid
        node = self._unlink(path)
        parent.pzxid = transaction.zxid

        def undo() -> None:
            self._link(path, node)
            parent.pzxid = before

        def event() -> None:
            deleted = WatchEvent(EventType.DELETED, path)
            told = self._data_watches.trigger(deleted, node.acl)
            self._child_watches.trigger(deleted, node.acl, told)
            changed = WatchEvent(EventType.CHILDREN_CHANGED, parent_path or "/")
            self._child_watches.trigger(changed, parent.acl)

        transaction.did(undo, event)

    def _set_data(self, transaction: _Transaction, request: SetData, caller: Caller) -> Stat:
        node = self._writable(request.path, Permission.WRITE, caller)
        _check_version(node.version, request.version, request.path)
        before = node.data, node.version, node.mzxid, node.mtime
        node.data, node.version = request.data, node.version + 1
        node.mzxid, node.mtime = transaction.zxid, transaction.now

        def undo() -> None:
            node.data, node.version, node.mzxid, node.mtime = before

        def event() -> None:
            self._data_watches.trigger(WatchEvent(EventType.DATA_CHANGED, request.path), node.acl)

        transaction.did(undo, event)
        return node.stat()

    def _set_acl(self, request: SetACL, caller: Caller) -> Stat:
        _check_path(request.path)
        acl = _resolved(request.acl, caller, request.path)
        node = self._writable(request.path, Permission.ADMIN, caller)
        _check_version(node.aversion, request.version, request.path)
        node.acl = acl
        node.aversion += 1
        return node.stat()

    # What both sides need.

    def _readable(self, path: str, caller: Caller) -> Node:
        node = self.node(path)
        _authorise(node, Permission.READ, caller, path)
        return node

    def _writable(self, path: str, permission: Permission, caller: Caller) -> Node:
        _check_path(path)
        node = self.node(path)
        _authorise(node, permission, caller, path)
        return node

    @staticmethod
    def _is_reapable(node: Node) -> bool:
        return not node.children and node.creates > 0

    def _link(self, path: str, node: Node) -> None:
        parent_path, _, name = path.rpartition("/")
        self._nodes[parent_path].children[name] = None
        self._nodes[path] = node
        if node.owner:
            self._ephemerals.setdefault(node.owner, {})[path] = None
        if node.container:
            self._containers[path] = None

    def _unlink(self, path: str) -> Node:
        parent_path, _, name = path.rpartition("/")
        del self._nodes[parent_path].children[name]
        node = self._nodes.pop(path)
        if node.owner:
            paths = self._ephemerals[node.owner]
            del paths[path]
            if not paths:
                del self._ephemerals[node.owner]
        if node.container:
            del self._containers[path]
        return node


def _as_int(value: int) -> int:
    """What is left of a number in Java's 32 bits."""
    return (value + 2**31) % 2**32 - 2**31


def _parent(path: str) -> str:
    parent, slash, _ = path.rpartition("/")
    if not slash or "\0" in path:
        raise Refused(Code.BAD_ARGUMENTS, path)
    return parent


def _check_path(path: str) -> None:
    if not _PATH.fullmatch(path):
        raise Refused(Code.BAD_ARGUMENTS, path)


def _check_version(current: int, expected: int, path: str) -> None:
    if expected not in (-1, current):
        raise Refused(Code.BAD_VERSION, path)


def _allowed(acls: Sequence[ACL], permission: Permission, identities: Sequence[Identity]) -> bool:
    return any(acl.permissions & permission and (acl.identity == WORLD or acl.identity in identities) for acl in acls)


def _authorise(node: Node, permission: Permission, caller: Caller, path: str) -> None:
    if not _allowed(node.acl, permission, caller.identities):
        raise Refused(Code.NO_AUTH, path)


def _resolved(acls: Sequence[ACL], caller: Caller, path: str) -> tuple[ACL, ...]:
    """The list to keep: ``auth`` becomes the caller's identities (``PrepRequestProcessor.fixupACL``)."""
    resolved: list[ACL] = []
    for acl in dict.fromkeys(acls):
        match acl.identity:
            case Identity("world", "anyone"):
                resolved.append(acl)
            case Identity("auth", _) if caller.identities:
                resolved += (ACL(acl.permissions, identity) for identity in caller.identities)
            case Identity("digest", str(identity)) if len(identity.rstrip(":").split(":")) == 2:
                resolved.append(acl)
            case _:
                raise Refused(Code.INVALID_ACL, path)
    if not resolved:
        raise Refused(Code.INVALID_ACL, path)
    return tuple(resolved)


def _redacted(identity: Identity) -> Identity:
    if identity.scheme != "digest" or identity.id is None:
        return identity
    return Identity("digest", identity.id.partition(":")[0] + ":x")
