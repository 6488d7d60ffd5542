"""ZooKeeper's wire format, the server's side: requests are parsed, replies are rendered.

Everything here is pure: bytes in, values out, and the other way round. The records are those of
ZooKeeper's ``zookeeper.jute``; numbers are big-endian, a length of -1 means None.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MAX_FRAME = 0xFFFFF
"""Bytes of the longest frame that is accepted, ZooKeeper's default of ``jute.maxbuffer``."""

EPHEMERAL = 1
SEQUENTIAL = 2
CONTAINER = 4
"""The flags of a create; ZooKeeper knows sums of the first two, and the third alone."""

NOTIFICATION_XID = -1
PING_XID = -2
CONNECTED = 3
"""The state that every watch event carries (``KeeperState.SyncConnected``)."""

_T = TypeVar("_T")
_BOOL = struct.Struct(">?")
_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")
_NULL = _INT.pack(-1)
_REPLY_HEADER = struct.Struct(">iqi")
_MULTI_HEADER = struct.Struct(">i?i")
_STAT = struct.Struct(">qqqqiiiqiiq")
_CONNECT_REPLY = struct.Struct(">iiq")


class JuteError(ValueError):
    """The bytes are not the record that they should be."""


class UnknownOpcode(JuteError):
    """A request of a kind that is not implemented."""


class Opcode(IntEnum):
    """``ZooDefs.OpCode``, as far as it is understood here."""

    CLOSE_SESSION = -11
    ERROR = -1
    CREATE = 1
    DELETE = 2
    EXISTS = 3
    GET_DATA = 4
    SET_DATA = 5
    GET_ACL = 6
    SET_ACL = 7
    GET_CHILDREN = 8
    SYNC = 9
    PING = 11
    GET_CHILDREN2 = 12
    CHECK = 13
    MULTI = 14
    CREATE2 = 15
    CHECK_WATCHES = 17
    REMOVE_WATCHES = 18
    CREATE_CONTAINER = 19
    CREATE_TTL = 21
    AUTH = 100
    SET_WATCHES = 101
    SASL = 102
    GET_EPHEMERALS = 103
    GET_ALL_CHILDREN_NUMBER = 104


class Code(IntEnum):
    """``KeeperException.Code``, as far as it is sent from here."""

    OK = 0
    RUNTIME_INCONSISTENCY = -2
    MARSHALLING_ERROR = -5
    UNIMPLEMENTED = -6
    BAD_ARGUMENTS = -8
    NO_NODE = -101
    NO_AUTH = -102
    BAD_VERSION = -103
    NO_CHILDREN_FOR_EPHEMERALS = -108
    NODE_EXISTS = -110
    NOT_EMPTY = -111
    INVALID_ACL = -114
    AUTH_FAILED = -115
    NO_WATCHER = -121


def code_of(error: Exception) -> int | None:
    """What a server has answered, as aiozk notes it in its errors; None where ``error`` is no answer."""
    return getattr(error, "error_code", None)


class EventType(IntEnum):
    """``Watcher.Event.EventType``."""

    CREATED = 1
    DELETED = 2
    DATA_CHANGED = 3
    CHILDREN_CHANGED = 4


class WatcherType(IntEnum):
    """``Watcher.WatcherType``: which watches CheckWatches and RemoveWatches mean."""

    CHILDREN = 1
    DATA = 2
    ANY = 3


class Identity(NamedTuple):
    """Who somebody is: ``("digest", "user:hash")``, ``("world", "anyone")``."""

    scheme: str | None
    id: str | None


class ACL(NamedTuple):
    """Permissions (a sum of `Permission` values) and who has them."""

    permissions: int
    identity: Identity


class Stat(NamedTuple):
    """What ZooKeeper tells about a znode; times are milliseconds of the wall clock since the epoch."""

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    data_length: int
    children: int
    pzxid: int


class WatchEvent(NamedTuple):
    """What happened to which path."""

    type: EventType
    path: str


class Reader:
    """Takes one value after the other from a frame; raises `JuteError` where the bytes don't fit."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def _take(self, layout: struct.Struct) -> tuple[int, ...]:
        try:
            values = layout.unpack_from(self._data, self._position)
        except struct.error as error:
            raise JuteError(f"record ends at byte {len(self._data)}, within a number") from error
        self._position += layout.size
        return values

    @property
    def exhausted(self) -> bool:
        """Whether all bytes were taken."""
        return self._position == len(self._data)

    def boolean(self) -> bool:
        return bool(self._take(_BOOL)[0])

    def integer(self) -> int:
        return self._take(_INT)[0]

    def long(self) -> int:
        return self._take(_LONG)[0]

    def optional_buffer(self) -> bytes | None:
        length = self._take(_INT)[0]
        if length == -1:
            return None
        end = self._position + length
        if length < 0 or end > len(self._data):
            raise JuteError(f"buffer of {length} bytes in a record of {len(self._data)}")
        value = self._data[self._position : end]
        self._position = end
        return value

    def optional_string(self) -> str | None:
        value = self.optional_buffer()
        try:
            return None if value is None else value.decode()
        except UnicodeDecodeError as error:
            raise JuteError(f"not UTF-8: {value!r}") from error

    def string(self) -> str:
        value = self.optional_string()
        if value is None:
            raise JuteError("null where a string must be")
        return value

    def vector(self, take: Callable[[], _T]) -> tuple[_T, ...]:
        """Takes a vector whose elements ``take`` takes; an element has 4 bytes at least."""
        length = self._take(_INT)[0]
        if length < 0 or length > (len(self._data) - self._position) // 4:
            raise JuteError(f"vector of {length} elements in a record of {len(self._data)} bytes")
        return tuple([take() for _ in range(length)])

    def acls(self) -> tuple[ACL, ...]:
        """Takes an access list; null is an empty one."""
        if self._data[self._position : self._position + 4] == _NULL:
            self._position += 4
            return ()
        return self.vector(self._acl)

    def _acl(self) -> ACL:
        return ACL(self.integer(), Identity(self.optional_string(), self.optional_string()))


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    last_zxid: int
    timeout: int
    """Milliseconds."""
    session_id: int
    password: bytes | None
    read_only: bool | None
    """None: the client is older than this field."""


@dataclass(frozen=True, slots=True)
class Create:
    opcode: Opcode
    path: str
    data: bytes | None
    acl: tuple[ACL, ...]
    flags: int


@dataclass(frozen=True, slots=True)
class Delete:
    path: str
    version: int


@dataclass(frozen=True, slots=True)
class SetData:
    path: str
    data: bytes | None
    version: int


@dataclass(frozen=True, slots=True)
class Check:
    path: str
    version: int


MultiOperation = Create | Delete | SetData | Check


@dataclass(frozen=True, slots=True)
class Multi:
    operations: tuple[MultiOperation, ...]


@dataclass(frozen=True, slots=True)
class SetACL:
    path: str
    acl: tuple[ACL, ...]
    version: int


@dataclass(frozen=True, slots=True)
class Exists:
    path: str
    watch: bool


@dataclass(frozen=True, slots=True)
class GetData:
    path: str
    watch: bool


@dataclass(frozen=True, slots=True)
class GetChildren:
    path: str
    watch: bool
    with_stat: bool


@dataclass(frozen=True, slots=True)
class GetACL:
    path: str


@dataclass(frozen=True, slots=True)
class GetAllChildrenNumber:
    path: str


@dataclass(frozen=True, slots=True)
class GetEphemerals:
    prefix: str | None


@dataclass(frozen=True, slots=True)
class Sync:
    path: str | None


@dataclass(frozen=True, slots=True)
class CheckWatches:
    path: str
    type: WatcherType


@dataclass(frozen=True, slots=True)
class RemoveWatches:
    path: str
    type: WatcherType


@dataclass(frozen=True, slots=True)
class SetWatches:
    relative_zxid: int
    data: tuple[str, ...]
    exist: tuple[str, ...]
    children: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Auth:
    scheme: str | None
    auth: bytes | None


@dataclass(frozen=True, slots=True)
class Sasl:
    token: bytes | None


@dataclass(frozen=True, slots=True)
class Ping:
    pass


@dataclass(frozen=True, slots=True)
class CloseSession:
    pass


@dataclass(frozen=True, slots=True)
class CreateTTL:
    """Never looked into: znodes with a time to live are refused, as ZooKeeper does by default."""


Request = (
    Create
    | CreateTTL
    | Delete
    | SetData
    | Check
    | Multi
    | SetACL
    | Exists
    | GetData
    | GetChildren
    | GetACL
    | GetAllChildrenNumber
    | GetEphemerals
    | Sync
    | CheckWatches
    | RemoveWatches
    | SetWatches
    | Auth
    | Sasl
    | Ping
    | CloseSession
)


def parse_connect_request(frame: bytes) -> ConnectRequest:
    """Parses the first frame of a connection."""
    reader = Reader(frame)
    reader.integer()  # the protocol version, which ZooKeeper ignores
    last_zxid, timeout, session_id = reader.long(), reader.integer(), reader.long()
    password = reader.optional_buffer()
    read_only = None if reader.exhausted else reader.boolean()
    return ConnectRequest(last_zxid, timeout, session_id, password, read_only)


def parse_request(opcode: int, reader: Reader) -> Request:
    """Parses what follows a request's header; raises `UnknownOpcode` and `JuteError`."""
    try:
        parse = _PARSERS[opcode]
    except KeyError:
        raise UnknownOpcode(f"opcode {opcode} is not implemented") from None
    return parse(reader)


def _create(opcode: Opcode) -> Callable[[Reader], Create]:
    return lambda reader: Create(opcode, reader.string(), reader.optional_buffer(), reader.acls(), reader.integer())


def _create_in_multi(reader: Reader) -> Create:
    """In a multi the flags alone tell the kind (``Op.Create``); create2 answers like create."""
    operation = _create(Opcode.CREATE)(reader)
    return replace(operation, opcode=Opcode.CREATE_CONTAINER) if operation.flags == CONTAINER else operation


def _watcher_type(reader: Reader) -> WatcherType:
    value = reader.integer()
    try:
        return WatcherType(value)
    except ValueError as error:
        raise JuteError(f"watcher type {value}, not one of 1, 2, 3") from error


def _delete(reader: Reader) -> Delete:
    return Delete(reader.string(), reader.integer())


def _set_data(reader: Reader) -> SetData:
    return SetData(reader.string(), reader.optional_buffer(), reader.integer())


def _check(reader: Reader) -> Check:
    return Check(reader.string(), reader.integer())


_MULTI_PARSERS: dict[int, Callable[[Reader], MultiOperation]] = {
    Opcode.CREATE: _create_in_multi,
    Opcode.CREATE2: _create_in_multi,
    Opcode.CREATE_CONTAINER: _create_in_multi,
    Opcode.DELETE: _delete,
    Opcode.SET_DATA: _set_data,
    Opcode.CHECK: _check,
}


def _multi(reader: Reader) -> Multi:
    operations: list[MultiOperation] = []
    while True:
        kind, done, _ = reader.integer(), reader.boolean(), reader.integer()
        if done:
            return Multi(tuple(operations))
        if kind not in _MULTI_PARSERS:
            raise JuteError(f"operation {kind} can't be part of a multi")
        operations.append(_MULTI_PARSERS[kind](reader))


_PARSERS: dict[int, Callable[[Reader], Request]] = {
    Opcode.CREATE: _create(Opcode.CREATE),
    Opcode.CREATE2: _create(Opcode.CREATE2),
    Opcode.CREATE_CONTAINER: _create(Opcode.CREATE_CONTAINER),
    Opcode.CREATE_TTL: lambda reader: CreateTTL(),
    Opcode.DELETE: _delete,
    Opcode.SET_DATA: _set_data,
    Opcode.CHECK: _check,
    Opcode.MULTI: _multi,
    Opcode.SET_ACL: lambda reader: SetACL(reader.string(), reader.acls(), reader.integer()),
    Opcode.EXISTS: lambda reader: Exists(reader.string(), reader.boolean()),
    Opcode.GET_DATA: lambda reader: GetData(reader.string(), reader.boolean()),
    Opcode.GET_CHILDREN: lambda reader: GetChildren(reader.string(), reader.boolean(), with_stat=False),
    Opcode.GET_CHILDREN2: lambda reader: GetChildren(reader.string(), reader.boolean(), with_stat=True),
    Opcode.GET_ACL: lambda reader: GetACL(reader.string()),
    Opcode.GET_ALL_CHILDREN_NUMBER: lambda reader: GetAllChildrenNumber(reader.string()),
    Opcode.GET_EPHEMERALS: lambda reader: GetEphemerals(reader.optional_string()),
    Opcode.SYNC: lambda reader: Sync(reader.optional_string()),
    Opcode.CHECK_WATCHES: lambda reader: CheckWatches(reader.string(), _watcher_type(reader)),
    Opcode.REMOVE_WATCHES: lambda reader: RemoveWatches(reader.string(), _watcher_type(reader)),
    Opcode.SET_WATCHES: lambda reader: SetWatches(
        reader.long(),
        reader.vector(reader.string),
        reader.vector(reader.string),
        reader.vector(reader.string),
    ),
    Opcode.AUTH: lambda reader: Auth(*(reader.integer(), reader.optional_string(), reader.optional_buffer())[1:]),
    Opcode.SASL: lambda reader: Sasl(reader.optional_buffer()),
    Opcode.PING: lambda reader: Ping(),
    Opcode.CLOSE_SESSION: lambda reader: CloseSession(),
}


def frame(payload: bytes) -> bytes:
    """The payload with its length before it."""
    return _INT.pack(len(payload)) + payload


def connect_reply(timeout: int, session_id: int, password: bytes, read_only: bool | None) -> bytes:
    """The frame that answers a connect request; ``timeout`` in milliseconds, no ``read_only`` if None."""
    payload = _CONNECT_REPLY.pack(0, timeout, session_id) + buffer(password)
    return frame(payload if read_only is None else payload + _BOOL.pack(read_only))


def reply(xid: int, zxid: int, code: Code, body: bytes = b"") -> bytes:
    """The frame that answers a request."""
    return frame(_REPLY_HEADER.pack(xid, zxid, code) + body)


def notification(event: WatchEvent) -> bytes:
    """The frame that tells of a watch event."""
    body = _INT.pack(event.type) + _INT.pack(CONNECTED) + string(event.path)
    return reply(NOTIFICATION_XID, -1, Code.OK, body)


def buffer(value: bytes | None) -> bytes:
    return _NULL if value is None else _INT.pack(len(value)) + value


def string(value: str | None) -> bytes:
    return buffer(None if value is None else value.encode())


def integer(value: int) -> bytes:
    return _INT.pack(value)


def strings(values: Sequence[str]) -> bytes:
    return _INT.pack(len(values)) + b"".join(map(string, values))


def stat(value: Stat) -> bytes:
    return _STAT.pack(*value)


def acls(values: Sequence[ACL]) -> bytes:
    parts = [_INT.pack(len(values))]
    for permissions, (scheme, identity) in values:
        parts += (_INT.pack(permissions), string(scheme), string(identity))
    return b"".join(parts)


def multi_results(results: Iterable[tuple[Opcode, bytes]]) -> bytes:
    """The body of a multi that was done: each operation's opcode and reply."""
    parts = [_MULTI_HEADER.pack(opcode, False, 0) + body for opcode, body in results]
    return b"".join(parts) + _MULTI_HEADER.pack(Opcode.ERROR, True, -1)


def multi_errors(codes: Iterable[Code]) -> bytes:
    """The body of a multi that was refused: one code for each operation (``OpResult.ErrorResult``)."""
    parts = [_MULTI_HEADER.pack(Opcode.ERROR, False, code) + _INT.pack(code) for code in codes]
    return b"".join(parts) + _MULTI_HEADER.pack(Opcode.ERROR, True, -1)
