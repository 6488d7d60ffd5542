import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioelect.testing.proxy import CREATE_SESSION, Ending, FaultProxy, FrameSplitter

SOON = 10.0
CREATE, EXISTS, GET_DATA, PING = 1, 3, 4, 11
PING_XID = -2


# The splitter.


@given(payloads=st.lists(st.binary(max_size=40)), cuts=st.lists(st.integers(0, 400)))
def test_frames_come_out_whole_however_the_stream_is_cut(payloads: list[bytes], cuts: list[int]) -> None:
    frames = [frame(payload) for payload in payloads]
    stream = b"".join(frames)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    splitter = FrameSplitter()
    found = [piece for a, b in pairwise(edges) for piece in splitter.feed(stream[a:b])]
    assert found == frames
    assert splitter.rest == b""
    assert splitter.framed


def test_an_incomplete_frame_is_kept() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(frame(b"one") + frame(b"two")[:5]) == [frame(b"one")]
    assert splitter.rest == frame(b"two")[:5]


def test_a_four_letter_word_passes_as_it_is() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(b"sr") == []
    assert splitter.feed(b"vr") == [b"srvr"]
    assert splitter.feed(b"\n") == [b"\n"]
    assert not splitter.framed


# The pipe.


async def test_bytes_and_half_closes_pass_in_both_directions() -> None:
    async with pipe() as (_, client, server):
        await client.send(b"up")
        assert await server.read(2) == b"up"
        await server.send(b"down")
        assert await client.read(4) == b"down"
        client.writer.write_eof()
        assert await server.until_end() == b""
        await server.send(b"still")
        assert await client.read(5) == b"still"
        server.writer.close()
        assert await client.until_end() == b""


async def test_a_reset_is_passed_on_as_a_reset() -> None:
    async with pipe() as (_, client, server):
        reset(client)
        with pytest.raises(ConnectionResetError):
            await server.until_end()


async def test_a_connection_to_a_dead_server_is_reset() -> None:
    async with backend() as listening:
        dead = listening.hosts
    async with FaultProxy(dead) as proxy:
        client = await dial(proxy.hosts)
        with pytest.raises(ConnectionResetError):
            await client.until_end()


async def test_sever_ends_open_connections_only() -> None:
    async with backend() as listening, FaultProxy(listening.hosts) as proxy:
        client, server = await connect(proxy, listening)
        proxy.sever()
        assert await client.until_end() == b""
        assert await server.until_end() == b""
        await connect(proxy, listening)


async def test_reset_ends_open_connections_only() -> None:
    async with backend() as listening, FaultProxy(listening.hosts) as proxy:
        client, server = await connect(proxy, listening)
        proxy.reset()
        for end in (client, server):
            with pytest.raises(ConnectionResetError):
                await end.until_end()
        await connect(proxy, listening)


async def test_refuse_ends_new_connections_only() -> None:
    async with backend() as listening, FaultProxy(listening.hosts, raw=True) as proxy:
        client, server = await connect(proxy, listening)
        proxy.refuse()
        assert await (await dial(proxy.hosts)).until_end() == b""
        await client.send(b"x")
        assert await server.read(1) == b"x"
        assert proxy.connections == 2
        assert listening.ends.empty()
        proxy.heal()
        await connect(proxy, listening)


async def test_cut_ends_open_and_new_connections_until_heal() -> None:
    async with backend() as listening, FaultProxy(listening.hosts) as proxy:
        client, server = await connect(proxy, listening)
        proxy.cut()
        assert await client.until_end() == b""
        assert await server.until_end() == b""
        assert await (await dial(proxy.hosts)).until_end() == b""
        assert listening.ends.empty()
        proxy.heal()
        await connect(proxy, listening)


async def test_frozen_bytes_and_endings_are_released_together_by_thaw() -> None:
    async with pipe() as (proxy, client, server):
        proxy.freeze()
        await client.send(b"a")
        await server.send(b"b")
        await client.send(b"c")
        client.writer.write_eof()
        await never(server.read(1))
        await never(client.read(1))
        proxy.thaw()
        assert await server.until_end() == b"ac"
        assert await client.read(1) == b"b"


async def test_one_direction_can_be_frozen() -> None:
    async with pipe() as (proxy, client, server):
        proxy.freeze("down")
        await client.send(b"a")
        assert await server.read(1) == b"a"
        await server.send(b"b")
        await never(client.read(1))
        proxy.thaw("down")
        assert await client.read(1) == b"b"


async def test_a_connection_made_while_frozen_reaches_the_server_on_thaw() -> None:
    async with backend() as listening, FaultProxy(listening.hosts, raw=True) as proxy:
        proxy.freeze()
        client = await dial(proxy.hosts)
        await client.send(b"early")
        await never(listening.accept())
        proxy.thaw()
        server = await listening.accept()
        assert await server.read(5) == b"early"


async def test_a_connection_given_up_while_frozen_never_reaches_the_server() -> None:
    async with backend() as listening, FaultProxy(listening.hosts, raw=True) as proxy:
        proxy.freeze()
        early = await dial(proxy.hosts)
        await early.send(b"early")
        early.writer.close()
        await asyncio.wait_for(until(lambda: proxy.connections == 1), SOON)
        await settle()
        proxy.thaw()
        late = await dial(proxy.hosts)
        await late.send(b"late")
        server = await listening.accept()
        assert await server.read(4) == b"late"


async def test_a_frozen_path_pushes_back() -> None:
    """The proxy holds a bounded amount; then the sender's own buffers fill, as on a real stalled path."""
    async with pipe() as (proxy, client, server):
        proxy.freeze("up")
        chunk = bytes(2**20)
        client.writer.write(chunk * 32)
        await never(client.writer.drain())
        proxy.thaw()
        assert await server.read(32 * len(chunk)) == chunk * 32


async def test_a_slow_reader_pushes_back() -> None:
    async with pipe() as (_, client, server):
        chunk = bytes(2**20)
        client.writer.write(chunk * 32)
        await never(client.writer.drain())
        assert await server.read(32 * len(chunk)) == chunk * 32


async def test_dropped_bytes_are_gone() -> None:
    async with pipe() as (proxy, client, server):
        proxy.drop("up")
        await client.send(b"lost")
        await settle()
        await server.send(b"down")
        assert await client.read(4) == b"down"
        proxy.heal()
        await client.send(b"found")
        assert await server.read(5) == b"found"


async def test_a_blackhole_accepts_and_never_answers() -> None:
    async with pipe() as (proxy, client, server):
        proxy.blackhole()
        new = await dial(proxy.hosts)
        await new.send(b"hello")
        await client.send(b"lost")
        await never(new.until_end())
        await never(server.read(1))
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            await new.until_end()
        await client.send(b"found")
        assert await server.read(5) == b"found"


async def test_delay_keeps_the_order() -> None:
    async with pipe() as (proxy, client, server):
        proxy.delay(0.1, "up")
        began = time.monotonic()
        await client.send(b"a")
        await settle()
        proxy.delay(0)
        await client.send(b"b")
        await server.send(b"c")
        assert await client.read(1) == b"c"
        assert await server.read(2) == b"ab"
        assert time.monotonic() - began >= 0.1


async def test_first_bytes_can_be_rewritten() -> None:
    async with (
        backend() as listening,
        FaultProxy(listening.hosts, raw=True, rewrite_first=lambda data: data.replace(b"a", b"b")) as proxy,
    ):
        client = await dial(proxy.hosts)
        await client.send(b"a")
        server = await listening.accept()
        assert await server.read(1) == b"b"
        await client.send(b"a")
        assert await server.read(1) == b"a"


async def test_leaving_the_proxy_ends_its_connections() -> None:
    async with backend() as listening:
        async with FaultProxy(listening.hosts) as proxy:
            hosts = proxy.hosts
            client = await dial(hosts)
            server = await listening.accept()
        for end in (client, server):
            with pytest.raises(ConnectionResetError):
                await end.until_end()
        with pytest.raises(ConnectionRefusedError):
            await dial(hosts)


@pytest.mark.parametrize("target", ["localhost", "a:1,b:2/x", ":1", "a:"])
def test_a_target_must_be_one_server(target: str) -> None:
    with pytest.raises(ValueError, match="one server"):
        FaultProxy(target)


# Frames.


async def test_requests_are_logged() -> None:
    seen: list[object] = []
    async with session(on_frame=seen.append) as (proxy, client, server):
        began = time.monotonic()
        await client.send(request(1, EXISTS) + request(PING_XID, PING))
        await server.read(len(request(1, EXISTS) + request(PING_XID, PING)))
        assert [(r.opcode, r.xid) for r in proxy.requests] == [
            (CREATE_SESSION, 0),
            (EXISTS, 1),
            (PING, PING_XID),
        ]
        assert proxy.requests == seen
        assert proxy.requests[0].time <= began <= proxy.requests[1].time <= time.monotonic()


async def test_a_four_letter_word_is_answered_and_not_logged() -> None:
    async with pipe(raw=False) as (proxy, client, server):
        await client.send(b"srvr")
        assert await server.read(4) == b"srvr"
        await server.send(b"Mode: standalone")
        server.writer.close()
        assert await client.until_end() == b"Mode: standalone"
        assert proxy.requests == []


@pytest.mark.parametrize("then", ["fin", "rst", "half"])
async def test_a_lost_reply_was_carried_out_and_ends_the_connection(then: Ending) -> None:
    async with session() as (proxy, client, server):
        lost = proxy.lose_reply(CREATE, then=then)
        await client.send(request(1, EXISTS) + request(2, CREATE) + request(3, EXISTS))
        assert await server.read(36) == request(1, EXISTS) + request(2, CREATE) + request(3, EXISTS)
        assert not lost.is_set()
        await server.send(reply(1))
        assert await client.read(len(reply(1))) == reply(1)
        await server.send(reply(2) + reply(3))
        await asyncio.wait_for(lost.wait(), SOON)
        if then == "rst":
            with pytest.raises(ConnectionResetError):
                await client.until_end()
        else:
            assert await client.until_end() == (reply(2)[: len(reply(2)) // 2] if then == "half" else b"")


async def test_a_lost_reply_may_leave_the_client_in_silence() -> None:
    async with session() as (proxy, client, server):
        lost = proxy.lose_reply(CREATE, then="silence")
        await client.send(request(1, CREATE) + request(2, EXISTS))
        await server.send(reply(1) + reply(2))
        await asyncio.wait_for(lost.wait(), SOON)
        await never(client.until_end())
        await client.send(request(3, EXISTS))
        assert await server.read(36) == request(1, CREATE) + request(2, EXISTS) + request(3, EXISTS)


async def test_replies_before_the_lost_one_arrive_from_the_same_chunk() -> None:
    async with session() as (proxy, client, server):
        proxy.lose_reply(CREATE)
        await client.send(request(1, EXISTS) + request(2, CREATE))
        await server.read(24)
        await server.send(reply(1) + reply(2))
        assert await client.until_end() == reply(1)


async def test_watch_events_and_equal_xids_do_not_confuse() -> None:
    """Of two pings under way the second one's reply is lost, not the event or the first reply."""
    async with session() as (proxy, client, server):
        await client.send(request(PING_XID, PING))
        await server.read(12)
        lost = proxy.lose_reply(PING)
        await client.send(request(PING_XID, PING))
        await server.read(12)
        await server.send(reply(-1) + reply(PING_XID))
        assert await client.read(40) == reply(-1) + reply(PING_XID)
        assert not lost.is_set()
        await server.send(reply(PING_XID))
        assert await client.until_end() == b""
        assert lost.is_set()


async def test_count_replies_are_lost_over_connections() -> None:
    async with backend() as listening, FaultProxy(listening.hosts) as proxy:
        lost = proxy.lose_reply(GET_DATA, count=2)
        for happened in (False, True):
            client, server = await handshake(proxy, listening)
            await client.send(request(1, GET_DATA))
            await server.read(12)
            await server.send(reply(1))
            assert await client.until_end() == b""
            assert lost.is_set() is happened
        client, server = await handshake(proxy, listening)
        await client.send(request(1, GET_DATA))
        await server.send(reply(1))
        assert await client.read(20) == reply(1)


async def test_the_reply_to_the_connect_request_can_be_lost() -> None:
    async with backend() as listening, FaultProxy(listening.hosts) as proxy:
        lost = proxy.lose_reply(CREATE_SESSION)
        client, server = await connect(proxy, listening)
        await client.send(CONNECT)
        assert await server.read(len(CONNECT)) == CONNECT
        await server.send(CONNECTED)
        assert await client.until_end() == b""
        assert lost.is_set()


@pytest.mark.parametrize("then", ["fin", "rst", "half", "silence"])
async def test_a_lost_request_never_reaches_the_server(then: Ending) -> None:
    async with session() as (proxy, client, server):
        lost = proxy.lose_request(CREATE, then=then)
        await client.send(request(1, EXISTS) + request(2, CREATE) + request(3, EXISTS))
        assert await server.read(12) == request(1, EXISTS)
        await asyncio.wait_for(lost.wait(), SOON)
        match then:
            case "silence":
                await never(server.until_end())
            case "rst":
                with pytest.raises(ConnectionResetError):
                    await client.until_end()
            case _:
                assert await server.until_end() == (request(2, CREATE)[:6] if then == "half" else b"")
                assert await client.until_end() == b""


async def test_a_half_sent_frame_is_passed_on_before_the_end() -> None:
    async with session() as (_, client, server):
        await client.send(request(1, EXISTS)[:7])
        client.writer.write_eof()
        assert await server.until_end() == request(1, EXISTS)[:7]


async def test_heal_forgets_losses() -> None:
    async with session() as (proxy, client, server):
        lost = proxy.lose_reply(CREATE)
        proxy.heal()
        await client.send(request(1, CREATE))
        await server.send(reply(1))
        assert await client.read(20) == reply(1)
        assert not lost.is_set()


def test_a_raw_proxy_loses_no_frames() -> None:
    with pytest.raises(ValueError, match="raw"):
        FaultProxy("127.0.0.1:1", raw=True).lose_reply(CREATE)


# The scenes.


@dataclass(eq=False)
class End:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def __post_init__(self) -> None:
        ends.append(self)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), SOON)

    async def until_end(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), SOON)


ends: list[End] = []
"""Both ends of every connection of the test that runs, to be closed after it."""


@dataclass(eq=False)
class Backend:
    hosts: str = ""
    ends: asyncio.Queue[End] = field(default_factory=asyncio.Queue)

    async def accept(self) -> End:
        return await asyncio.wait_for(self.ends.get(), SOON)


@asynccontextmanager
async def backend() -> AsyncIterator[Backend]:
    """A server on loopback whose connections the test gets hold of."""
    listening = Backend()

    def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listening.ends.put_nowait(End(reader, writer))

    server = await asyncio.start_server(on_connect, "127.0.0.1", 0)
    listening.hosts = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield listening
    finally:
        server.close()
        for end in ends:
            end.writer.close()
        ends.clear()
        await server.wait_closed()


async def dial(hosts: str) -> End:
    host, port = hosts.split(":")
    return End(*await asyncio.open_connection(host, int(port)))


@asynccontextmanager
async def pipe(*, raw: bool = True) -> AsyncIterator[tuple[FaultProxy, End, End]]:
    """A connection through a proxy, with both its ends."""
    async with backend() as listening, FaultProxy(listening.hosts, raw=raw) as proxy:
        client, server = await connect(proxy, listening)
        yield proxy, client, server


async def connect(proxy: FaultProxy, listening: Backend) -> tuple[End, End]:
    """Both ends of a new connection through `proxy`."""
    client = await dial(proxy.hosts)
    return client, await listening.accept()


@asynccontextmanager
async def session(
    on_frame: Callable[[object], object] | None = None,
) -> AsyncIterator[tuple[FaultProxy, End, End]]:
    """A ZooKeeper connection after its handshake; the test plays client and server."""
    async with backend() as listening, FaultProxy(listening.hosts, on_frame=on_frame) as proxy:
        client, server = await handshake(proxy, listening)
        yield proxy, client, server


async def handshake(proxy: FaultProxy, listening: Backend) -> tuple[End, End]:
    client, server = await connect(proxy, listening)
    await client.send(CONNECT)
    assert await server.read(len(CONNECT)) == CONNECT
    await server.send(CONNECTED)
    assert await client.read(len(CONNECTED)) == CONNECTED
    return client, server


def frame(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload


CONNECT = frame(bytes(45))
CONNECTED = frame(bytes(37))


def request(xid: int, opcode: int) -> bytes:
    return frame(struct.pack(">ii", xid, opcode))


def reply(xid: int) -> bytes:
    return frame(struct.pack(">iqi", xid, 7, 0))


def reset(end: End) -> None:
    sock = end.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.writer.transport.abort()


async def never(awaitable: Awaitable[object]) -> None:
    """Nothing must come of it; a short while is all a test can watch for that."""
    with suppress(TimeoutError):
        result = await asyncio.wait_for(awaitable, 0.05)
        pytest.fail(f"came through: {result!r}")


async def settle() -> None:
    """Let the loop handle what has arrived."""
    await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)
