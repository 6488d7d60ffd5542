"""The same random requests to both servers: what comes back must be the same, frame by frame."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import pytest

from aioelect.testing.embedded import EmbeddedServer

from .wire import (
    ACL,
    CHECK,
    CLOSE,
    CREATE,
    CREATE2,
    DELETE,
    EPHEMERAL,
    EXISTS,
    GET_ACL,
    GET_ALL_CHILDREN_NUMBER,
    GET_CHILDREN,
    GET_CHILDREN2,
    GET_DATA,
    GET_EPHEMERALS,
    MULTI,
    OK,
    OPEN,
    PING,
    REMOVE_WATCHES,
    SEQUENTIAL,
    SET_ACL,
    SET_DATA,
    SET_WATCHES,
    Body,
    Event,
    Reply,
    Stat,
    Wire,
    create,
    integer,
    multi,
    set_acl,
    set_data,
    set_watches,
    string,
    versioned,
    watched,
)

if TYPE_CHECKING:
    from aioelect.testing.zookeeper import ZooKeeperServer

CLIENTS = 3
REQUESTS = 300
SEEDS = range(8)
REQUEST_XID = 1000


@dataclass(frozen=True)
class Request:
    """What a client asks; a `SET_WATCHES` speaks of zxids since the beginning of the run."""

    client: int
    opcode: int
    body: bytes = b""
    since: int = 0
    paths: tuple[list[str], list[str], list[str]] = field(default=([], [], []))


class Generator:
    """Makes the requests of one seed, over few paths, so that they meet."""

    def __init__(self, seed: int, root: str) -> None:
        self._random = random.Random(seed)
        self._root = root
        self._count = 0

    def request(self) -> Request:
        self._count += 1
        client = self._random.randrange(CLIENTS)
        choice = self._random.random()
        if choice < 0.02:
            return Request(client, CLOSE)
        if choice < 0.06:
            lists = tuple([self._path() for _ in range(self._random.randrange(4))] for _ in range(3))
            # Each list of watches is a set in any client.
            data, exist, children = (sorted(set(paths)) for paths in lists)
            return Request(client, SET_WATCHES, since=self._random.randrange(REQUESTS), paths=(data, exist, children))
        if choice < 0.16:
            return Request(client, MULTI, multi(*(self._write() for _ in range(self._random.randrange(5)))))
        if choice < 0.6:
            return Request(client, *self._write(multi=False))
        return Request(client, *self._read())

    def _path(self) -> str:
        depth = self._random.choice((1, 1, 2, 2, 3))
        return self._root + "".join(f"/{self._random.choice('abc')}" for _ in range(depth))

    def _version(self) -> int:
        return self._random.choice((-1, -1, -1, 0, 1, 2))

    def _write(self, multi: bool = True) -> tuple[int, bytes]:
        opcodes = [CREATE, CREATE, CREATE2, DELETE, DELETE, SET_DATA, SET_DATA]
        opcodes.append(CHECK if multi else SET_ACL)
        opcode = self._random.choice(opcodes)
        path = self._path()
        if opcode in (DELETE, CHECK):
            return opcode, versioned(path, self._version())
        if opcode == SET_DATA:
            return opcode, set_data(path, self._random.choice((None, b"", b"x", b"data")), self._version())
        if opcode == SET_ACL:
            return opcode, set_acl(path, self._acl(), self._version())
        flags = self._random.choice((0, 0, 0, EPHEMERAL, SEQUENTIAL, EPHEMERAL | SEQUENTIAL))
        return opcode, create(path, self._random.choice((None, b"", b"x")), flags, self._acl())

    def _acl(self) -> list[ACL]:
        if self._random.random() < 0.9:
            return list(OPEN)
        return [ACL(self._random.randrange(32), "world", "anyone")] * self._random.choice((0, 1, 1, 2))

    def _read(self) -> tuple[int, bytes]:
        opcodes = [EXISTS, EXISTS, GET_DATA, GET_CHILDREN, GET_CHILDREN2, GET_CHILDREN2, GET_ACL]
        opcodes += [GET_ALL_CHILDREN_NUMBER, GET_EPHEMERALS, REMOVE_WATCHES]
        opcode = self._random.choice(opcodes)
        path = self._path()
        if opcode in (GET_ACL, GET_EPHEMERALS, GET_ALL_CHILDREN_NUMBER):
            return opcode, string(path)
        if opcode == REMOVE_WATCHES:
            return opcode, string(path) + integer(self._random.randrange(4))
        return opcode, watched(path, self._random.random() < 0.6)


class Player:
    """Sends requests to one server, one at a time, and tells what every client received for it."""

    def __init__(self, hosts: str, root: str) -> None:
        self._hosts = hosts
        self._root = root
        self._wires: list[Wire] = []
        self._owners = [0]
        self._first_zxid = 0

    async def __aenter__(self) -> Self:
        for _ in range(CLIENTS):
            self._wires.append(await self._connected())
        reply = await self._wires[0].ask(CREATE, create(self._root))
        self._first_zxid = reply.zxid
        return self

    async def __aexit__(self, *_: object) -> None:
        for wire in self._wires:
            wire.send(CLOSE)
            await wire.read_all()
            await wire.close()

    async def _connected(self) -> Wire:
        wire = await Wire.open(self._hosts)
        connected = await wire.connect()
        self._owners.append(connected.session_id)
        return wire

    async def play(self, request: Request) -> list[list[object]]:
        """What the client that asks receives, and then what every client has received besides.

        Zxids are counted from the beginning of the run, and sessions are numbered.
        """
        body = request.body
        if request.opcode == SET_WATCHES:
            body = set_watches(self._first_zxid + request.since, *request.paths)
        wire = self._wires[request.client]
        wire.send(request.opcode, body, xid=REQUEST_XID)
        received = [await self._received(request.opcode, wire)]
        if request.opcode == CLOSE:
            await wire.close()
            self._wires[request.client] = await self._connected()
        for wire in self._wires:
            wire.send(PING, xid=-2)
            received.append(await self._received(request.opcode, wire))
        return received

    async def _received(self, opcode: int, wire: Wire) -> list[object]:
        """What comes up to the next reply; ephemeral znodes go in no particular order with their session."""
        events: list[object] = []
        while isinstance(frame := await wire.read(), Event):
            events.append(frame)
        return [*(sorted(events, key=repr) if opcode == CLOSE else events), self._told(opcode, frame)]

    def _told(self, opcode: int, reply: Reply) -> object:
        shown: list[Any] = [reply.xid, reply.zxid - self._first_zxid, reply.code]
        if reply.xid == REQUEST_XID and reply.code == OK:
            body = reply.body
            shown += self._results(body) if opcode == MULTI else self._result(opcode, body)
            assert not body.data, "all of it was understood"
        return shown

    def _results(self, body: Body) -> list[object]:
        shown: list[object] = []
        while True:
            opcode, done, code = body.take(">i?i")
            shown.append((opcode, done, code))
            if done:
                return shown
            shown.append(body.integer() if opcode == -1 else self._result(opcode, body))

    def _result(self, opcode: int, body: Body) -> list[object]:
        shown: list[object] = []
        if opcode in (CREATE, CREATE2):
            shown.append(body.string())
        elif opcode == GET_DATA:
            shown.append(body.buffer())
        elif opcode == GET_ACL:
            shown.append(body.acls())
        elif opcode in (GET_CHILDREN, GET_CHILDREN2, GET_EPHEMERALS):
            shown.append(sorted(body.strings()))
        elif opcode == GET_ALL_CHILDREN_NUMBER:
            shown.append(body.integer())
        if opcode in (CREATE2, EXISTS, SET_DATA, SET_ACL, GET_DATA, GET_ACL, GET_CHILDREN2):
            shown.append(self._stat(body.stat()))
        return shown

    def _stat(self, stat: Stat) -> Stat:
        return stat._replace(
            czxid=stat.czxid - self._first_zxid,
            mzxid=stat.mzxid - self._first_zxid,
            pzxid=stat.pzxid - self._first_zxid,
            ctime=0,
            mtime=int(stat.mtime >= stat.ctime),
            ephemeral_owner=self._owners.index(stat.ephemeral_owner),
        )


@pytest.mark.parametrize("seed", SEEDS)
async def test_same_answers(seed: int, zookeeper: ZooKeeperServer) -> None:
    root = f"/differential-{os.getpid()}-{seed}"
    generator = Generator(seed, root)
    async with (
        EmbeddedServer(tick_time=0.2, max_session_timeout=4.0) as embedded,
        Player(embedded.hosts, root) as copy,
        Player(zookeeper.hosts, root) as original,
    ):
        for number in range(REQUESTS):
            request = generator.request()
            received, expected = await copy.play(request), await original.play(request)
            assert received == expected, f"request {number} of seed {seed}: {request}"
