"""A ZooKeeper client that does nothing by itself: the tests see every frame, in order.

It shares no code with the embedded server, so that a mistake in one does not hide a mistake in the other.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE = 10.0
"""Seconds after which a frame that was expected counts as missing."""

CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_ACL, SET_ACL, GET_CHILDREN, SYNC = 1, 2, 3, 4, 5, 6, 7, 8, 9
PING, GET_CHILDREN2, CHECK, MULTI, CREATE2, CHECK_WATCHES, REMOVE_WATCHES = 11, 12, 13, 14, 15, 17, 18
CREATE_CONTAINER, CREATE_TTL, AUTH, SET_WATCHES, SASL, GET_EPHEMERALS = 19, 21, 100, 101, 102, 103
GET_ALL_CHILDREN_NUMBER, CLOSE = 104, -11

EPHEMERAL, SEQUENTIAL, CONTAINER = 1, 2, 4

OK = 0
RUNTIME_INCONSISTENCY, MARSHALLING_ERROR, UNIMPLEMENTED, BAD_ARGUMENTS = -2, -5, -6, -8
NO_NODE, NO_AUTH, BAD_VERSION, NO_CHILDREN_FOR_EPHEMERALS, NODE_EXISTS = -101, -102, -103, -108, -110
NOT_EMPTY, INVALID_ACL, AUTH_FAILED, NO_WATCHER = -111, -114, -115, -121

CREATED, DELETED, DATA_CHANGED, CHILDREN_CHANGED = 1, 2, 3, 4


class ACL(NamedTuple):
    permissions: int
    scheme: str | None
    id: str | None


class Stat(NamedTuple):
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


class Event(NamedTuple):
    """A notification."""

    type: int
    path: str


class Connected(NamedTuple):
    """The reply to a connect request; ``timeout`` in milliseconds."""

    protocol: int
    timeout: int
    session_id: int
    password: bytes
    rest: bytes


OPEN: tuple[ACL, ...] = (ACL(31, "world", "anyone"),)


class Body:
    """Takes the values of a reply, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, layout: str) -> tuple[int, ...]:
        size = struct.calcsize(layout)
        values = struct.unpack(layout, self.data[:size])
        self.data = self.data[size:]
        return values

    def integer(self) -> int:
        return self.take(">i")[0]

    def buffer(self) -> bytes | None:
        length = self.integer()
        if length == -1:
            return None
        value, self.data = self.data[:length], self.data[length:]
        assert len(value) == length
        return value

    def string(self) -> str:
        value = self.buffer()
        assert value is not None
        return value.decode()

    def strings(self) -> list[str]:
        return [self.string() for _ in range(self.integer())]

    def stat(self) -> Stat:
        return Stat(*self.take(">qqqqiiiqiiq"))

    def acls(self) -> list[ACL]:
        return [ACL(self.integer(), self.string(), self.string()) for _ in range(self.integer())]


@dataclass
class Reply:
    xid: int
    zxid: int
    code: int
    raw: bytes

    @property
    def body(self) -> Body:
        return Body(self.raw)

    @property
    def stat(self) -> Stat:
        """The stat that the body ends with."""
        return Body(self.raw[-68:]).stat()

    @property
    def path(self) -> str:
        """The path that the body begins with."""
        return self.body.string()


class Closed(Exception):
    """The server closed the connection."""


def integer(value: int) -> bytes:
    return struct.pack(">i", value)


def buffer(value: bytes | None) -> bytes:
    return integer(-1) if value is None else integer(len(value)) + value


def string(value: str | None) -> bytes:
    return buffer(None if value is None else value.encode())


def strings(values: Sequence[str]) -> bytes:
    return integer(len(values)) + b"".join(map(string, values))


def watched(path: str, watch: bool = False) -> bytes:
    """The body of exists, getData, getChildren and getChildren2."""
    return string(path) + bytes([watch])


def versioned(path: str, version: int = -1) -> bytes:
    """The body of delete and check."""
    return string(path) + integer(version)


def acls(values: Sequence[ACL]) -> bytes:
    return integer(len(values)) + b"".join(
        integer(acl.permissions) + string(acl.scheme) + string(acl.id) for acl in values
    )


def create(path: str, data: bytes | None = b"", flags: int = 0, acl: Sequence[ACL] = OPEN) -> bytes:
    return string(path) + buffer(data) + acls(acl) + integer(flags)


def set_data(path: str, data: bytes | None, version: int = -1) -> bytes:
    return string(path) + buffer(data) + integer(version)


def set_acl(path: str, acl: Sequence[ACL], version: int = -1) -> bytes:
    return string(path) + acls(acl) + integer(version)


def multi(*operations: tuple[int, bytes]) -> bytes:
    parts = [struct.pack(">i?i", opcode, False, -1) + body for opcode, body in operations]
    return b"".join(parts) + struct.pack(">i?i", -1, True, -1)


def set_watches(zxid: int, data: Sequence[str] = (), exist: Sequence[str] = (), children: Sequence[str] = ()) -> bytes:
    return struct.pack(">q", zxid) + strings(data) + strings(exist) + strings(children)


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._xids = itertools.count(1)
        self.session: tuple[int, bytes] = (1, b"")
        """Id and password of the session opened or resumed here; before that, those of none."""

    @classmethod
    async def open(cls, hosts: str) -> Self:
        host, _, port = hosts.partition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def close(self) -> None:
        """Breaks the connection, without a word to the server."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            pass

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def write_frame(self, payload: bytes) -> None:
        self._writer.write(integer(len(payload)) + payload)

    async def flush(self) -> None:
        """Hands over what was written."""
        await self._writer.drain()

    async def read_frame(self) -> bytes:
        """One frame's payload; raises `Closed`."""
        async with asyncio.timeout(PATIENCE):
            try:
                length = struct.unpack(">i", await self._reader.readexactly(4))[0]
                return await self._reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise Closed from error

    async def read_all(self) -> bytes:
        """All bytes until the server closes."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read()

    async def connect(
        self,
        timeout: int = 4000,
        session_id: int = 0,
        password: bytes = bytes(16),
        zxid: int = 0,
        read_only: bytes = b"\0",
    ) -> Connected:
        """Sends a connect request, ``timeout`` in milliseconds; ``read_only`` is what follows the password."""
        head = struct.pack(">iqiq", 0, zxid, timeout, session_id)
        self.write_frame(head + buffer(password) + read_only)
        body = Body(await self.read_frame())
        protocol, timeout, session_id = body.take(">iiq")
        password = body.buffer() or b""
        if session_id:
            self.session = session_id, password
        return Connected(protocol, timeout, session_id, password, body.data)

    def send(self, opcode: int, body: bytes = b"", xid: int | None = None) -> int:
        """Sends a request, gives its xid."""
        if xid is None:
            xid = next(self._xids)
        self.write_frame(struct.pack(">ii", xid, opcode) + body)
        return xid

    async def read(self) -> Reply | Event:
        """The next frame."""
        body = Body(await self.read_frame())
        xid, zxid, code = body.take(">iqi")
        if xid != -1:
            return Reply(xid, zxid, code, body.data)
        assert (zxid, code) == (-1, OK)
        kind, state = body.take(">ii")
        assert state == 3
        event = Event(kind, body.string())
        assert not body.data
        return event

    async def event(self) -> Event:
        """The next frame, which must be a notification."""
        frame = await self.read()
        assert isinstance(frame, Event), frame
        return frame

    async def reply(self) -> Reply:
        """The next frame, which must not be a notification."""
        frame = await self.read()
        assert isinstance(frame, Reply), frame
        return frame

    async def ask(self, opcode: int, body: bytes = b"", xid: int | None = None) -> Reply:
        """Sends a request whose reply is the next frame."""
        xid = self.send(opcode, body, xid)
        reply = await self.reply()
        assert reply.xid == xid
        return reply

    async def events_before_reply(self, opcode: int, body: bytes = b"") -> list[Event]:
        """Sends a request; gives the notifications that come before its reply, which must not be an error."""
        xid = self.send(opcode, body)
        events = []
        while isinstance(frame := await self.read(), Event):
            events.append(frame)
        assert (frame.xid, frame.code) == (xid, OK)
        return events


class Session:
    """A connected session that tests make requests with."""

    def __init__(self, wire: Wire, connected: Connected) -> None:
        self.wire = wire
        self.id = connected.session_id
        self.password = connected.password
        self.timeout = connected.timeout
        self.ask = wire.ask
        self.event = wire.event
        self.events_before_reply = wire.events_before_reply

    async def done(self, opcode: int, body: bytes = b"") -> Reply:
        """Makes a request that must succeed."""
        reply = await self.wire.ask(opcode, body)
        assert reply.code == OK, reply.code
        return reply

    async def refused(self, opcode: int, body: bytes = b"") -> int:
        """Makes a request that must be refused; gives the code. Such a reply has no body."""
        reply = await self.wire.ask(opcode, body)
        assert reply.code != OK
        assert reply.raw == b""
        return reply.code

    async def create(self, path: str, data: bytes | None = b"", flags: int = 0, acl: Sequence[ACL] = OPEN) -> str:
        reply = await self.done(CREATE, create(path, data, flags, acl))
        return reply.path

    async def stat(self, path: str, watch: bool = False) -> Stat:
        return (await self.done(EXISTS, watched(path, watch))).stat

    async def quiet(self) -> None:
        """Checks that no notification is under way to this connection."""
        assert (await self.ask(PING, xid=-2)).code == OK
