"""One connection: frames in any pieces, broken frames, and whom they cost what."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any

import pytest
from aiozk import exc, protocol

from aioelect import ConnectionLoss, Executed
from aioelect import events as ev
from aioelect.testing.proxy import FaultProxy
from aioelect.testing.zookeeper import ZooKeeperServer
from aioelect.zookeeper import wire
from aioelect.zookeeper.connection import FEW, MAX_FRAME, Answer, Connection

from .conftest import Open, Record, until


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.writes = 0
        self.aborted = False
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
        self.writes += 1

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Owner:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.events: list[Any] = []
        self.ends: list[str] = []

    def replied(self, connection: Connection, answer: Answer) -> None:
        self.answers.append(answer)

    def notified(self, connection: Connection, event: Any) -> None:
        self.events.append(event)

    def ended(self, connection: Connection, why: str) -> None:
        self.ends.append(why)


def reply(xid: int, zxid: int = 7, error: int = 0, record: bytes = b"") -> bytes:
    return wire.frame(struct.pack("!iqi", xid, zxid, error) + record)


def connect_reply(session_id: int = 0x1234, timeout: int = 4000) -> bytes:
    return wire.frame(struct.pack("!iiqi", 0, timeout, session_id, 16) + bytes(16) + b"\0")


def event(kind: int, path: bytes) -> bytes:
    return reply(-1, -1, 0, struct.pack("!iii", kind, 3, len(path)) + path)


STAT = struct.pack("!qqqqiiiqiiq", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)


class Talk:
    """A connection that was dialled, with the two ends it talks to."""

    def __init__(self) -> None:
        self.owner, self.transport = Owner(), Transport()
        self.connection = Connection(("server", 1), time.monotonic, self.owner)
        self.connection.connection_made(self.transport)
        self.greeting = self.connection.greet(b"")

    def greeted(self) -> Talk:
        self.connection.data_received(connect_reply())
        return self


CONVERSATION = (
    connect_reply()
    + event(protocol.WatchEvent.DELETED, "/ä".encode())
    + reply(1, record=STAT)
    + reply(-2)
    + reply(-4)
    + reply(2, error=exc.NoNode.error_code)
    + reply(3, record=struct.pack("!i", 3) + b"abc" + STAT)
)


def ask_all(talk: Talk) -> list[asyncio.Future[Any]]:
    """The requests that CONVERSATION answers."""
    connection = talk.connection
    connection.ping()
    return [
        connection.request(protocol.ExistsRequest(path="/a", watch=True), 1),
        connection.request(protocol.AuthRequest(type=0, scheme="digest", auth=b"a:b"), 0),
        connection.request(protocol.ExistsRequest(path="/b", watch=False), 2),
        connection.request(protocol.GetDataRequest(path="/c", watch=False), 3),
    ]


async def check(talk: Talk, answers: list[asyncio.Future[Any]]) -> None:
    assert (await talk.greeting).session_id == 0x1234
    assert (await answers[0]).record.stat.created_zxid == 1
    await answers[1]
    with pytest.raises(exc.NoNode):
        await answers[2]
    assert (await answers[3]).record.data == b"abc"
    assert [event.path for event in talk.owner.events] == ["/ä"]
    assert [answer.error for answer in talk.owner.answers] == [0, 0, 0, exc.NoNode.error_code, 0]
    assert not talk.owner.ends


async def test_few_requests_are_written_at_once_and_what_is_more_of_one_turn_together() -> None:
    talk = Talk().greeted()
    before, sent = talk.transport.writes, []
    for xid in range(1, FEW + 4):
        request = protocol.ExistsRequest(path="/a", watch=False)
        sent.append(wire.frame(request.serialize(xid)))
        talk.connection.request(request, xid)
        assert talk.transport.writes - before == min(xid, FEW)
    talk.connection.ping()
    talk.connection.data_received(b"".join(reply(xid, record=STAT) for xid in range(1, FEW + 1)))
    last = protocol.ExistsRequest(path="/last", watch=False)
    talk.connection.request(last, FEW + 4)
    assert talk.transport.writes - before == FEW, "it would overtake those that wait"
    await asyncio.sleep(0)
    assert talk.transport.writes - before == FEW + 1
    sent += [wire.frame(protocol.PingRequest().serialize(wire.PING_XID)), wire.frame(last.serialize(FEW + 4))]
    assert talk.transport.written == b"".join(sent)
    talk.connection.request(last, FEW + 5)
    assert talk.transport.writes - before == FEW + 2


async def test_what_is_not_yet_written_when_the_connection_ends_is_never_written() -> None:
    talk = Talk().greeted()
    answers = [talk.connection.request(protocol.DeleteRequest(path="/a", version=-1), xid) for xid in range(FEW + 2)]
    written = bytes(talk.transport.written)
    talk.connection.abort()
    await asyncio.sleep(0)
    assert talk.transport.written == written
    assert all(isinstance(answer.exception(), ConnectionLoss) for answer in answers)


async def test_frames_may_be_split_at_every_byte() -> None:
    for at in range(len(CONVERSATION) + 1):
        talk = Talk()
        answers = ask_all(talk)
        talk.connection.data_received(CONVERSATION[:at])
        talk.connection.data_received(CONVERSATION[at:])
        await check(talk, answers)


async def test_frames_may_come_byte_by_byte_and_many_at_once() -> None:
    for size in (1, 2, 3, 5, len(CONVERSATION)):
        talk = Talk()
        answers = ask_all(talk)
        for at in range(0, len(CONVERSATION), size):
            talk.connection.data_received(CONVERSATION[at : at + size])
        await check(talk, answers)


DELETED: int = protocol.WatchEvent.DELETED


def foretell(path: str) -> tuple[Talk, list[str]]:
    """A connection that expects a deletion, with watches set, and who was told of it, in order."""
    talk, told = Talk().greeted(), list[str]()
    talk.connection.request(protocol.ExistsRequest(path=path, watch=True), 1)
    talk.connection.request(protocol.ExistsRequest(path="/other", watch=True), 2)
    talk.connection.data_received(reply(1, record=STAT) + reply(2, record=STAT))
    talk.connection.foretold = {wire.foreseen(wire.deletion_event(path)): lambda: told.append("first of all")}
    talk.owner.notified = lambda connection, event: told.append(event.path)  # type: ignore[method-assign]
    return talk, told


@pytest.mark.parametrize("zxid", [-1, 77])  # servers before 3.9, and since
async def test_who_waits_for_one_deletion_alone_is_told_first_and_the_others_a_turn_later(zxid: int) -> None:
    talk, told = foretell("/é")
    told_of = reply(-1, zxid, 0, struct.pack("!iii", DELETED, 3, 3) + "/é".encode())
    talk.connection.data_received(told_of)
    assert told == ["first of all"]
    await asyncio.sleep(0)
    assert told == ["first of all", "/é"]


async def test_what_arrives_in_between_is_told_after_it() -> None:
    talk, told = foretell("/a")
    talk.connection.data_received(event(DELETED, b"/a"))
    talk.connection.data_received(event(DELETED, b"/other"))
    assert told == ["first of all", "/a", "/other"]
    await asyncio.sleep(0)
    assert told == ["first of all", "/a", "/other"]


@pytest.mark.parametrize(
    "pieces",
    [
        [event(DELETED, b"/a") + event(DELETED, b"/other")],
        [event(DELETED, b"/other") + event(DELETED, b"/a")],
        [event(DELETED, b"/a")[:20], event(DELETED, b"/a")[20:]],
        [event(protocol.WatchEvent.DATA_CHANGED, b"/a")],
        [event(DELETED, b"/other")],
    ],
)
async def test_nobody_is_told_first_when_more_has_arrived_or_something_else(pieces: list[bytes]) -> None:
    talk, told = foretell("/a")
    for piece in pieces:
        talk.connection.data_received(piece)
    assert told
    assert "first of all" not in told


async def test_a_connection_that_is_ended_by_who_is_told_first_tells_nobody_else() -> None:
    talk, told = foretell("/a")
    [key] = talk.connection.foretold
    talk.connection.foretold = {key: talk.connection.abort}
    talk.connection.data_received(event(DELETED, b"/a"))
    await asyncio.sleep(0)
    assert told == []
    assert len(talk.owner.ends) == 1


async def test_an_end_of_file_in_the_middle_of_a_frame_ends_the_connection_once() -> None:
    for at in range(len(CONVERSATION)):
        talk = Talk()
        answers = ask_all(talk)
        talk.connection.data_received(CONVERSATION[:at])
        talk.connection.eof_received()
        talk.connection.connection_lost(None)
        assert talk.owner.ends == ["the server closed it"]
        assert talk.transport.aborted
        for answer in answers:
            assert answer.done()
            answer.exception()
        if talk.greeting.done():
            talk.greeting.exception()
        await talk.connection.wait_closed()


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!i", -1),
        struct.pack("!i", MAX_FRAME + 1),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff" * 100,
        wire.frame(b""),
        wire.frame(b"\0\0"),
        reply(2, record=STAT),  # not the oldest
        reply(99),
        reply(1),  # too short for its record
        reply(1, record=STAT[:-1]),
        reply(-4),  # nobody has authenticated
        reply(-2) * 2,  # one ping, two answers
        reply(-1, record=b"\xff\xff\xff\xff"),
        event(1, b"\xff\xfe"),  # no UTF-8
        reply(3, record=struct.pack("!i", 2**31 - 1) + b"abc"),
        reply(3, record=struct.pack("!i", -5) + b"abc"),
    ],
)
async def test_what_zookeeper_never_sends_costs_the_connection_and_nothing_else(data: bytes) -> None:
    talk = Talk().greeted()
    talk.connection.ping()
    first = talk.connection.request(protocol.ExistsRequest(path="/", watch=False), 1)
    second = talk.connection.request(protocol.DeleteRequest(path="/", version=-1), 2)
    talk.connection.data_received(data)
    [why] = talk.owner.ends
    assert "never sends" in why
    for answer, fate in ((first, Executed.NO), (second, Executed.UNKNOWN)):
        error = answer.exception()
        assert isinstance(error, ConnectionLoss)
        assert error.executed is fate
    talk.connection.data_received(CONVERSATION)  # nothing more is read
    assert len(talk.owner.answers) <= 1


async def test_an_answer_before_any_question_costs_the_connection() -> None:
    owner, transport = Owner(), Transport()
    connection = Connection(("server", 1), time.monotonic, owner)
    connection.connection_made(transport)
    connection.data_received(connect_reply())
    assert len(owner.ends) == 1


async def test_a_cancelled_request_is_forgotten_when_its_reply_comes() -> None:
    talk = Talk().greeted()
    first = talk.connection.request(protocol.ExistsRequest(path="/", watch=False), 1)
    second = talk.connection.request(protocol.ExistsRequest(path="/", watch=False), 2)
    first.cancel()
    assert talk.connection.oldest_request is not None
    talk.connection.data_received(reply(1, record=STAT) + reply(2, record=STAT))
    assert second.done()
    assert talk.connection.oldest_request is None


async def test_an_unknown_error_code_is_an_error_of_that_request_alone(capsys: pytest.CaptureFixture[str]) -> None:
    talk = Talk().greeted()
    answer = talk.connection.request(protocol.ExistsRequest(path="/", watch=False), 1)
    talk.connection.data_received(reply(1, error=-4711))
    with pytest.raises(exc.UnknownError) as caught:
        await answer
    assert caught.value.error_code == -4711
    assert not talk.owner.ends
    assert capsys.readouterr().out == ""


async def test_stamps_frame_the_way_to_the_server_and_back() -> None:
    now = iter(range(100))
    owner = Owner()
    connection = Connection(("server", 1), lambda: float(next(now)), owner)
    connection.connection_made(Transport())
    connection.greet(b"")
    connection.data_received(connect_reply())
    answer = connection.request(protocol.ExistsRequest(path="/", watch=False), 1)
    connection.data_received(reply(1, record=STAT))
    result = await answer
    assert result.sent < result.acknowledged
    assert (owner.answers[0].sent, owner.answers[0].acknowledged) == (result.sent, result.acknowledged)


async def test_requests_on_an_ended_connection_fail_unexecuted() -> None:
    talk = Talk().greeted()
    talk.connection.abort("enough")
    talk.connection.abort("again")
    assert talk.owner.ends == ["enough"]
    with pytest.raises(ConnectionLoss) as caught:
        await talk.connection.request(protocol.DeleteRequest(path="/", version=-1), 1)
    assert caught.value.executed is Executed.NO
    with pytest.raises(ConnectionLoss):
        await talk.connection.greet(b"")
    talk.connection.ping()
    assert not await talk.connection.finish(1)
    assert not talk.transport.written


async def test_what_aiozk_does_with_a_read_loop_pauses_reading() -> None:
    talk = Talk().greeted()
    talk.connection.read_loop_task.cancel()
    assert talk.transport.paused
    talk.connection.read_loop_task = None  # as aiozk's users do
    await talk.connection.close(1)
    assert talk.owner.ends


# The client of a server that sends nonsense


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        struct.pack("!i", -5),
        struct.pack("!i", 2**31 - 1),
        connect_reply()[:-9],
        connect_reply() + b"\xff" * 50,
        connect_reply() + reply(77),
        connect_reply(timeout=0),
        connect_reply(timeout=-1),
    ],
)
async def test_a_server_of_nonsense_costs_the_connection_to_it_and_no_busy_loop(
    zookeeper: ZooKeeperServer, open_client: Open, record: Record, nonsense: bytes
) -> None:
    talks = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal talks
        talks += 1
        await reader.read(100)
        writer.write(nonsense)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, FaultProxy(zookeeper.hosts) as good:
        port = server.sockets[0].getsockname()[1]
        client = await open_client(f"127.0.0.1:{port},{good.hosts}", on_event=record)
        good.refuse()
        good.sever()
        await asyncio.sleep(1)
        assert 2 <= talks <= 12
        good.heal()
        await until(lambda: client.session.connected and client.session.conn and client.session.conn.port == good.port)
        assert await client.exists("/")
        await client.close()
    assert record.of(ev.Disconnected)
