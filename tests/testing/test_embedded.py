"""What the embedded server offers beyond ZooKeeper; the contract tests check what both do."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from typing import TYPE_CHECKING, Self

import pytest
import uvloop
from kazoo.client import KazooClient, KazooState

from aioelect.testing.datatree import OPEN_ACL, Caller
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.jute import Create, Opcode

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 10.0
CREATE, GET_DATA, SET_DATA, CREATE_CONTAINER, DELETE, PING = 1, 4, 5, 19, 2, 11
EPHEMERAL = 1
ACL = struct.pack(">iii5si6s", 1, 31, 5, b"world", 6, b"anyone")


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">i", len(data)) + data


def create(path: str, data: bytes = b"", flags: int = 0) -> bytes:
    return text(path) + text(data) + ACL + struct.pack(">i", flags)


class Client:
    """A connection with a session, which does nothing by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.session_id = 0
        self.password = bytes(16)

    @classmethod
    async def open(
        cls, server: EmbeddedServer, timeout: float = 10.0, resume: tuple[int, bytes] = (0, bytes(16))
    ) -> Self:
        client = cls(*await asyncio.open_connection("127.0.0.1", server.port))
        await client.connect(timeout, resume)
        return client

    async def connect(self, timeout: float = 10.0, resume: tuple[int, bytes] = (0, bytes(16))) -> None:
        session_id, password = resume
        self.write(struct.pack(">iqiq", 0, 0, round(timeout * 1000), session_id) + text(password))
        _, _, self.session_id, _, self.password = struct.unpack(">iiqi16s", await self.read())

    def write(self, payload: bytes) -> None:
        self.writer.write(text(payload))

    def send(self, opcode: int, body: bytes = b"") -> None:
        self.write(struct.pack(">ii", 1, opcode) + body)

    async def read(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readexactly(*struct.unpack(">i", await self.reader.readexactly(4)))

    async def ask(self, opcode: int, body: bytes = b"") -> int:
        """The error code of the reply."""
        self.send(opcode, body)
        code: int = struct.unpack_from(">iqi", await self.read())[2]
        return code

    async def lost(self) -> bool:
        """Whether the server closes the connection, without sending anything more."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


async def test_hosts_need_a_start() -> None:
    server = EmbeddedServer()
    with pytest.raises(RuntimeError, match="start it first"):
        _ = server.hosts
    async with server:
        assert server.hosts == f"127.0.0.1:{server.port}"
        with pytest.raises(RuntimeError, match="already"):
            await server.start()


async def test_listens_on_loopback_alone() -> None:
    async with EmbeddedServer() as server:
        assert server._listener is not None
        assert [listener.getsockname() for listener in server._listener.sockets] == [("127.0.0.1", server.port)]


@pytest.mark.parametrize(("asked", "granted"), [(0.001, 0.4), (1, 1), (45, 45), (100, 60)])
async def test_default_session_timeouts(asked: float, granted: float) -> None:
    async with EmbeddedServer() as server:
        client = await Client.open(server, asked)
        assert server.sessions[client.session_id].timeout == granted
        await client.close()


def test_impossible_times() -> None:
    with pytest.raises(ValueError, match="tick_time must be positive, not 0"):
        EmbeddedServer(tick_time=0)
    with pytest.raises(ValueError, match=r"from 80 to 60\.0 s are no range; raise max_session_timeout"):
        EmbeddedServer(tick_time=40)
    with pytest.raises(ValueError, match="from 0 to"):
        EmbeddedServer(min_session_timeout=0)


async def test_sessions() -> None:
    now = 100.0
    async with EmbeddedServer(clock=lambda: now) as server:
        assert server.sessions == {}
        client = await Client.open(server, 10)
        [(session_id, info)] = server.sessions.items()
        assert session_id == info.id == client.session_id
        assert info.password == client.password
        assert (info.timeout, info.connected) == (10.0, True)
        assert info.expires == pytest.approx(110.2), "rounded up to the end of a tick"
        now = 103.0
        assert await client.ask(PING) == 0
        assert server.sessions[session_id].expires == pytest.approx(113.2)
        await client.close()
        await until(lambda: not server.sessions[session_id].connected)


async def test_expire() -> None:
    async with EmbeddedServer() as server:
        client = await Client.open(server)
        assert await client.ask(CREATE, create("/e", flags=EPHEMERAL)) == 0
        assert "/e" in server.tree
        server.expire(client.session_id)
        assert "/e" not in server.tree
        assert server.sessions == {}
        assert await client.lost()
        await client.close()
        with pytest.raises(KeyError, match=f"no live session 0x{client.session_id:x}"):
            server.expire(client.session_id)


async def test_expiry_goes_by_the_clock() -> None:
    now = 0.0
    async with EmbeddedServer(clock=lambda: now) as server:
        first, second = await Client.open(server, 5), await Client.open(server, 10)
        server.pause()
        now = 6.0
        server.resume()
        assert list(server.sessions) == [second.session_id]
        assert await first.lost()
        for client in (first, second):
            await client.close()


async def test_overdue_session_is_not_saved_by_a_packet() -> None:
    """In a blocked loop the packets come before the timer; other servers would not have waited."""
    now = 0.0
    async with EmbeddedServer(clock=lambda: now) as server:
        client = await Client.open(server, 5)
        now = 6.0
        client.send(PING)
        assert await client.lost()
        assert server.sessions == {}
        await client.close()


async def test_wall_clock() -> None:
    async with EmbeddedServer(wall_clock=lambda: 1234.5) as server:
        client = await Client.open(server)
        assert await client.ask(CREATE, create("/a")) == 0
        stat = server.tree.exists("/a")
        assert (stat.ctime, stat.mtime) == (1_234_500, 1_234_500)
        await client.close()


async def test_dropped_connections_keep_their_sessions() -> None:
    async with EmbeddedServer() as server:
        client = await Client.open(server)
        assert await client.ask(CREATE, create("/e", flags=EPHEMERAL)) == 0
        server.drop_connections()
        assert await client.lost()
        await client.close()
        assert not server.sessions[client.session_id].connected
        again = await Client.open(server, resume=(client.session_id, client.password))
        assert again.session_id == client.session_id
        assert "/e" in server.tree
        await again.close()


async def test_paused_server_answers_later() -> None:
    async with EmbeddedServer() as server:
        client = await Client.open(server)
        server.pause()
        client.send(CREATE, create("/a"))
        newcomer = asyncio.ensure_future(Client.open(server))
        # A second server that is not paused shows that the loop had time to serve.
        async with EmbeddedServer() as other:
            busy = await Client.open(other)
            for _ in range(20):
                assert await busy.ask(PING) == 0
            await busy.close()
        assert "/a" not in server.tree
        assert not newcomer.done()
        server.resume()
        await client.read()
        assert "/a" in server.tree
        await (await newcomer).close()
        await client.close()


async def test_pause_outlives_a_session() -> None:
    """Overdue sessions expire before what their clients have sent meanwhile is read."""
    now = 0.0
    async with EmbeddedServer(clock=lambda: now) as server:
        client = await Client.open(server, 5)
        assert await client.ask(CREATE, create("/e", flags=EPHEMERAL)) == 0
        server.pause()
        client.send(PING)
        await client.writer.drain()
        now = 60.0
        assert "/e" in server.tree
        server.resume()
        assert "/e" not in server.tree
        assert await client.lost()
        await client.close()


async def test_stop_and_start_again() -> None:
    now = 0.0
    server = EmbeddedServer(clock=lambda: now)
    await server.start()
    hosts = server.hosts
    client = await Client.open(server, 5)
    assert await client.ask(CREATE, create("/e", flags=EPHEMERAL)) == 0
    await server.stop()
    await server.stop()
    assert await client.lost()
    await client.close()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", server.port)
    now = 60.0
    await server.start()
    assert server.hosts == hosts
    again = await Client.open(server, 5, resume=(client.session_id, client.password))
    assert again.session_id == client.session_id, "it has its whole timeout again"
    assert "/e" in server.tree
    await again.close()
    await server.stop()


async def test_accepting_without_listening() -> None:
    server = EmbeddedServer()
    near, far = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(server.accept, far)
    client = Client(*await asyncio.open_connection(sock=near))
    await client.connect()
    assert await client.ask(CREATE, create("/e", flags=EPHEMERAL)) == 0
    assert list(server.sessions) == [client.session_id]
    await server.stop()
    assert await client.lost()
    await client.close()


async def test_session_expires_without_listening() -> None:
    server = EmbeddedServer(tick_time=0.01)
    near, far = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(server.accept, far)
    client = Client(*await asyncio.open_connection(sock=near))
    await client.connect(timeout=0.02)
    assert await client.lost()
    assert server.sessions == {}
    await client.close()
    await server.stop()


async def test_port_that_is_taken() -> None:
    async with EmbeddedServer() as server:
        with pytest.raises(OSError, match="address already in use"):
            await EmbeddedServer(server.port).start()


async def test_stop_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    async with EmbeddedServer() as server:
        clients = [await Client.open(server) for _ in range(3)]
        server.pause()
    assert asyncio.all_tasks() == before
    for client in clients:
        assert await client.lost()
        await client.close()
    assert len(server.sessions) == 3, "no timer has expired them"


async def test_tree_fires_watches() -> None:
    async with EmbeddedServer() as server:
        client = await Client.open(server)
        assert await client.ask(GET_DATA, text("/") + b"\1") == 0
        assert await client.ask(3, text("/a") + b"\1") == -101
        server.tree.write(Create(Opcode.CREATE, "/a", b"", OPEN_ACL, 0), Caller(), now=0)
        assert await client.read() == struct.pack(">iqiii", -1, -1, 0, 1, 3) + text("/a")
        await client.close()


async def test_reaping_now() -> None:
    async with EmbeddedServer() as server:
        client = await Client.open(server)
        assert await client.ask(CREATE_CONTAINER, create("/c", flags=4)) == 0
        assert await client.ask(CREATE, create("/c/x")) == 0
        assert server.reap_containers() == ()
        assert await client.ask(DELETE, text("/c/x") + struct.pack(">i", -1)) == 0
        assert server.reap_containers() == ("/c",)
        assert "/c" not in server.tree
        await client.close()


async def test_client_that_does_not_read_is_not_read_from() -> None:
    """Its replies must not pile up in memory, and others are served meanwhile."""
    async with EmbeddedServer() as server:
        glutton, modest = await Client.open(server), await Client.open(server)
        assert await modest.ask(CREATE, create("/big", bytes(500_000))) == 0
        count = 200
        for _ in range(count):
            glutton.send(GET_DATA, text("/big") + b"\0")
        glutton.send(CREATE, create("/last"))
        for _ in range(100):
            assert await modest.ask(PING) == 0
        assert "/last" not in server.tree
        for _ in range(count):
            assert len(await glutton.read()) > 500_000
        await glutton.read()
        assert "/last" in server.tree
        for client in (glutton, modest):
            await client.close()


def test_uvloop() -> None:
    async def main() -> None:
        async with EmbeddedServer() as server:
            client = await Client.open(server)
            server.pause()
            client.send(CREATE, create("/e", flags=EPHEMERAL))
            server.resume()
            await client.read()
            server.drop_connections()
            assert await client.lost()
            await client.close()
            assert "/e" in server.tree
            server.expire(client.session_id)
            assert "/e" not in server.tree

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def test_kazoo_sees_its_session_expire() -> None:
    async with EmbeddedServer() as server:
        client = KazooClient(server.hosts, timeout=5)
        lost = threading.Event()
        client.add_listener(lambda state: lost.set() if state == KazooState.LOST else None)
        await asyncio.to_thread(client.start)
        try:
            server.expire(client.client_id[0])
            assert await asyncio.to_thread(lost.wait, PATIENCE)
        finally:
            await asyncio.to_thread(client.stop)
            client.close()
