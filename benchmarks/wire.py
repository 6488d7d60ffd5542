"""As much of ZooKeeper's protocol as an election needs, in as few instructions as Python allows: what the floor is made of.

Nothing here pings, retries or reconnects by itself.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator, Sequence

__all__ = ["Contest", "RawClient", "connect_frame", "frames", "ping_frame"]

CREATE, DELETE, EXISTS, GET_CHILDREN, PING, CLOSE = 1, 2, 3, 8, 11, -11
WATCH_XID, PING_XID = -1, -2
EPHEMERAL_SEQUENTIAL = 3
NODE_EXISTS, NO_NODE = -110, -101
DELETED_EVENT = 2

_header = struct.Struct("!iqi")


def _frame(payload: bytes) -> bytes:
    return struct.pack("!i", len(payload)) + payload


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("!i", len(raw)) + raw


def connect_frame(session_timeout: float) -> bytes:
    """Asks for a new session; ``session_timeout`` in seconds."""
    return _frame(struct.pack("!iqiqi16s?", 0, 0, round(session_timeout * 1000), 0, 16, bytes(16), False))


def create_frame(xid: int, path: str, flags: int = EPHEMERAL_SEQUENTIAL) -> bytes:
    anyone = struct.pack("!ii", 1, 31) + _text("world") + _text("anyone")
    return _frame(
        struct.pack("!ii", xid, CREATE) + _text(path) + struct.pack("!i", 0) + anyone + struct.pack("!i", flags)
    )


def delete_frame(xid: int, path: str) -> bytes:
    return _frame(struct.pack("!ii", xid, DELETE) + _text(path) + struct.pack("!i", -1))


def exists_frame(xid: int, path: str, watch: bool = False) -> bytes:
    return _frame(struct.pack("!ii", xid, EXISTS) + _text(path) + struct.pack("!?", watch))


def children_frame(xid: int, path: str) -> bytes:
    return _frame(struct.pack("!ii", xid, GET_CHILDREN) + _text(path) + b"\0")


def ping_frame() -> bytes:
    return _frame(struct.pack("!ii", PING_XID, PING))


def close_frame(xid: int) -> bytes:
    return _frame(struct.pack("!ii", xid, CLOSE))


def frames(buffer: bytearray) -> Iterator[bytes]:
    """Takes the complete frames out of ``buffer``."""
    while len(buffer) >= 4:
        end = 4 + int.from_bytes(buffer[:4], "big")
        if len(buffer) < end:
            return
        payload = bytes(buffer[4:end])
        del buffer[:end]
        yield payload


def _read_names(payload: bytes) -> list[str]:
    (count,) = struct.unpack_from("!i", payload, 16)
    names, at = [], 20
    for _ in range(count):
        (size,) = struct.unpack_from("!i", payload, at)
        names.append(payload[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return names


class Contest:
    """One contender after the other of one election on one connection, without I/O: bytes in, bytes out.

    ``opened`` is called when there is a session, ``leads`` the moment it is known that nobody is before the contender,
    ``left`` when its znode is gone.
    """

    def __init__(
        self, election: str, opened: Callable[[], None], leads: Callable[[], None], left: Callable[[], None]
    ) -> None:
        self._election = election
        self._opened, self._leads, self._left = opened, leads, left
        self._buffer = bytearray()
        self._receive: Callable[[bytes], bytes] = self._greeted
        self._xid = 0
        self._own = ""
        self.is_open = False

    def join(self) -> bytes:
        self._receive = self._created
        return create_frame(self._next(), f"{self._election}/n_")

    def leave(self) -> bytes:
        self._receive = self._deleted
        return delete_frame(self._next(), self._own)

    def receive(self, data: bytes) -> bytes:
        """What came, and what to send next."""
        self._buffer += data
        return b"".join([self._take(payload) for payload in frames(self._buffer)])

    def _take(self, payload: bytes) -> bytes:
        is_ping = self._receive != self._greeted and int.from_bytes(payload[:4], "big", signed=True) == PING_XID
        return b"" if is_ping else self._receive(payload)

    def _next(self) -> int:
        self._xid += 1
        return self._xid

    def _idle(self, payload: bytes) -> bytes:
        return b""

    def _greeted(self, payload: bytes) -> bytes:
        self._receive = self._idle
        self.is_open = True
        self._opened()
        return b""

    def _created(self, payload: bytes) -> bytes:
        self._own = payload[20:].decode()
        self._receive = self._listed
        return children_frame(self._next(), self._election)

    def _listed(self, payload: bytes) -> bytes:
        own = self._own.rpartition("/")[2]
        before = [name for name in _read_names(payload) if name[-10:] < own[-10:]]
        if not before:
            self._receive = self._idle
            self._leads()
            return b""
        self._receive = self._watching
        predecessor = max(before, key=lambda name: name[-10:])
        return exists_frame(self._next(), f"{self._election}/{predecessor}", watch=True)

    def _watching(self, payload: bytes) -> bytes:
        xid, _, error = _header.unpack_from(payload)
        if error == NO_NODE or (xid == WATCH_XID and int.from_bytes(payload[16:20], "big") == DELETED_EVENT):
            self._receive = self._idle
            self._leads()
        return b""

    def _deleted(self, payload: bytes) -> bytes:
        self._receive = self._idle
        self._left()
        return b""


class RawClient:
    """A session on a blocking socket that pipelines what it is given. A context manager."""

    def __init__(self, host: str, session_timeout: float = 30.0) -> None:
        name, _, port = host.rpartition(":")
        self._socket = socket.create_connection((name, int(port)), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._xid = 0
        self._socket.sendall(connect_frame(session_timeout))
        self._read()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the session: all its znodes go at once."""
        with contextlib.suppress(OSError):
            self._ask([close_frame(self._next())])
        self._socket.close()

    def _next(self) -> int:
        self._xid += 1
        return self._xid

    def _read(self) -> bytes:
        while True:
            for payload in frames(self._buffer):
                return payload
            data = self._socket.recv(1 << 20)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._buffer += data

    def _ask(self, requests: Sequence[bytes], window: int = 500) -> list[bytes]:
        """The replies, in order; up to ``window`` requests are on their way at a time. Notifications are dropped."""
        replies: list[bytes] = []
        for start in range(0, len(requests), window):
            batch = requests[start : start + window]
            self._socket.sendall(b"".join(batch))
            wanted = len(replies) + len(batch)
            while len(replies) < wanted:
                payload = self._read()
                if int.from_bytes(payload[:4], "big", signed=True) != WATCH_XID:
                    replies.append(payload)
        return replies

    def ping(self) -> None:
        self._ask([ping_frame()])

    def make(self, *folders: str) -> None:
        """Persistent znodes, where they are missing."""
        for reply in self._ask([create_frame(self._next(), folder, flags=0) for folder in folders]):
            error = _header.unpack_from(reply)[2]
            if error not in (0, NODE_EXISTS):
                raise RuntimeError(f"ZooKeeper answered {error} to the creation of a folder")

    def contend(self, prefixes: Sequence[str]) -> list[str]:
        """Ephemeral sequential znodes; their paths."""
        replies = self._ask([create_frame(self._next(), prefix) for prefix in prefixes])
        return [reply[20:].decode() for reply in replies]

    def watch(self, paths: Sequence[str]) -> None:
        self._ask([exists_frame(self._next(), path, watch=True) for path in paths])

    def children(self, path: str) -> list[str]:
        return _read_names(self._ask([children_frame(self._next(), path)])[0])

    def owner(self, path: str) -> int:
        """The session that owns an ephemeral; 0 where there is none, or nothing."""
        [reply] = self._ask([exists_frame(self._next(), path)])
        if _header.unpack_from(reply)[2]:
            return 0
        return int(struct.unpack_from("!qqqqiiiq", reply, 16)[7])
