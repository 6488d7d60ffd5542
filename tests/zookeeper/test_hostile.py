"""A server, or somebody between, that sends whatever it likes: each time, it costs that connection and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import struct
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import pytest
from aiozk import exc, protocol

from aioelect import ConnectionLoss, Executed
from aioelect import events as ev
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.proxy import FaultProxy
from aioelect.zookeeper import wire
from aioelect.zookeeper.connection import MAX_EVENT, MAX_FRAME, MAX_SMALL, Answer, Connection
from aioelect.zookeeper.dispatch import Dispatch
from aioelect.zookeeper.watches import Watches

from .conftest import Open, Record, until
from .test_connection import STAT, Owner, Talk, Transport, connect_reply, event, reply

CHANGED = protocol.WatchEvent.DATA_CHANGED


def claim(size: int, xid: int) -> bytes:
    """The beginning of a frame."""
    return struct.pack("!ii", size, xid)


def names(*values: bytes) -> bytes:
    return struct.pack("!i", len(values)) + b"".join(struct.pack("!i", len(value)) + value for value in values)


def check_told(talk: Talk, *words: str) -> None:
    """The connection ended once, and a person can read why."""
    [why] = talk.owner.ends
    assert all(word in why for word in ("what ZooKeeper never sends", *words)), why
    assert why.isprintable()
    assert len(why) < 500
    assert talk.transport.aborted


# Frames


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (struct.pack("!i", -1), "a frame of -1 bytes"),
        (struct.pack("!i", -(2**31)), "a frame of -2147483648 bytes"),
        (struct.pack("!i", MAX_FRAME + 1), f"a frame of {MAX_FRAME + 1} bytes"),
        (wire.frame(b""), "a frame of 0 bytes"),
        (wire.frame(bytes(15)), "a frame of 15 bytes"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "b'HTTP/1.1 400 Bad Request'"),
        (b"\x15\x03\x03\x00\x02\x02\x46", r"b'\x15\x03\x03"),
        (b"\x1b[2J\x1b]0;owned\x07", r"b'\x1b[2J"),
        (claim(MAX_EVENT + 1, wire.WATCH_XID), f"a frame of {MAX_EVENT + 1} bytes"),
        (claim(MAX_SMALL + 1, wire.PING_XID), f"a frame of {MAX_SMALL + 1} bytes"),
        (claim(MAX_SMALL + 1, wire.AUTH_XID), "a reply to request -4"),
        (claim(1_000_000, 7), "a reply to request 7"),
        (claim(1_000_000, 0), "a reply to request 0"),
        (connect_reply(), "a reply to request 0"),
        (reply(2, record=STAT), "a reply to request 2"),
        (reply(wire.PING_XID) * 2, "an answer to a ping that was not sent"),
        (event(CHANGED, b"/") * 2, "more events than watches were set"),
        (event(CHANGED, b"\xff\xfe"), "UnicodeDecodeError"),
        (reply(wire.WATCH_XID, record=struct.pack("!iii", CHANGED, 3, -1)), "null where there must be text"),
        (reply(wire.WATCH_XID, record=struct.pack("!iii", CHANGED, 3, 2**31 - 1)), "a field of 2147483647 bytes"),
        (reply(wire.WATCH_XID, record=struct.pack("!iii", CHANGED, 3, -2)), "a field of -2 bytes"),
        (reply(1), "ExistsResponse can't be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_no_server_sends_costs_the_connection_as_soon_as_it_shows(data: bytes, word: str) -> None:
    talk = Talk().greeted()
    talk.connection.ping()
    answer = talk.connection.request(protocol.ExistsRequest(path="/", watch=True), 1)
    talk.connection.data_received(data)
    check_told(talk, word)
    error = answer.exception()
    assert isinstance(error, ConnectionLoss)
    assert error.executed is Executed.NO


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (struct.pack("!i", MAX_SMALL + 1), f"a frame of {MAX_SMALL + 1} bytes"),
        (struct.pack("!i", -1), "a frame of -1 bytes"),
        (wire.frame(b""), "can't be read"),
        (connect_reply(timeout=0), "a session timeout of 0 s"),
        (connect_reply(timeout=-1), "a session timeout of -0.001 s"),
        (connect_reply(timeout=1), "a session timeout of 0.001 s"),
        (connect_reply(timeout=2**31 - 1), "a session timeout of 2.14748e+06 s"),
        (wire.frame(struct.pack("!iiqi", 0, 4000, 1, 2**31 - 1) + bytes(16)), "a field of 2147483647 bytes"),
        (wire.frame(struct.pack("!iiqi", 0, 4000, 1, -2) + bytes(16)), "a field of -2 bytes"),
        (event(CHANGED, b"/"), "a session timeout of"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "b'HTTP/1.1 400 Bad Request'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_no_first_answer_costs_the_connection(data: bytes, word: str) -> None:
    talk = Talk()
    talk.connection.data_received(data)
    check_told(talk, word)
    assert isinstance(talk.greeting.exception(), ConnectionLoss)


async def test_an_answer_before_the_first_request_is_not_read() -> None:
    owner = Owner()
    connection = Connection(("server", 1), time.monotonic, owner)
    connection.connection_made(Transport())
    connection.data_received(connect_reply())
    assert "an answer before the first request" in owner.ends[0]


async def test_the_password_of_a_session_is_not_told() -> None:
    talk = Talk()
    talk.connection.data_received(wire.frame(struct.pack("!iiqi", 0, -1, 1, 16) + b"secret secret se"))
    assert "secret" not in talk.owner.ends[0]


# Records

CREATE = protocol.Create2Request(path="/a", data=b"", acl=[], flags=0)


@pytest.mark.parametrize(
    ("request_", "record", "word"),
    [
        (protocol.GetChildrenRequest(path="/"), struct.pack("!i", 2**31 - 1), "a list of 2147483647"),
        (protocol.GetChildrenRequest(path="/"), struct.pack("!i", -(2**31)), "a list of -2147483648"),
        (protocol.GetChildrenRequest(path="/"), struct.pack("!iii", 2, -1, -1), "a name of -1 bytes"),
        (protocol.GetChildrenRequest(path="/"), struct.pack("!iii", 2, 0, 0), "a name of 0 bytes"),
        (protocol.GetChildrenRequest(path="/"), struct.pack("!ii", 1, 2**31 - 1), "a name of 2147483647 bytes"),
        (protocol.GetChildren2Request(path="/"), names(b"\xed\xa0\x80") + STAT, "UnicodeDecodeError"),
        (protocol.GetChildren2Request(path="/"), names(b"a") + STAT[:-1], "GetChildren2Response can't be read"),
        (protocol.GetDataRequest(path="/"), struct.pack("!i", 2**31 - 1), "a field of 2147483647 bytes"),
        (protocol.GetDataRequest(path="/"), struct.pack("!i", -5) + STAT, "a field of -5 bytes"),
        (protocol.GetACLRequest(path="/"), struct.pack("!i", 2**31 - 1) + STAT, "a list of 2147483647"),
        (protocol.GetACLRequest(path="/"), struct.pack("!iii", 1, 31, -1) + STAT, "null where there must be text"),
        (CREATE, struct.pack("!i", -1) + STAT, "null where there must be text"),
        (wire.GetEphemeralsRequest(path="/"), names(b"/a", b"\xff"), "UnicodeDecodeError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_false_lengths_and_counts_cost_the_connection_and_no_memory(
    request_: Any, record: bytes, word: str
) -> None:
    talk = Talk().greeted()
    answer = talk.connection.request(request_, 1)
    tracemalloc.start()
    try:
        talk.connection.data_received(reply(1, record=record))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    check_told(talk, word)
    assert isinstance(answer.exception(), ConnectionLoss)
    assert most < 1_000_000


CHECKED = struct.pack("!i?i", 13, False, 0)
CREATED = struct.pack("!i?ii", 1, False, 0, 2) + b"/a"
REFUSED = struct.pack("!i?ii", -1, False, exc.NoNode.error_code, exc.NoNode.error_code)
END = struct.pack("!i?i", -1, True, -1)


def multi() -> Any:
    request = protocol.TransactionRequest()
    request.add(protocol.CheckVersionRequest(path="/a", version=-1))
    request.add(CREATE)
    return request


@pytest.mark.parametrize(
    ("results", "word"),
    [
        (END, "0 results of 2 operations"),
        (CHECKED + END, "1 results of 2 operations"),
        (CHECKED + CREATED + CHECKED + END, "more results than the 2 operations have"),
        (CHECKED * 100_000 + END, "a result of type 13 for an operation of type 15"),
        (CREATED + CHECKED + END, "a result of type 1 for an operation of type 13"),
        (CHECKED + CREATED, "MultiHeader can't be read"),
        (CHECKED + CREATED + END[:-1], "can't be read"),
        (CHECKED + struct.pack("!i?i", 4711, False, 0) + END, "a result of type 4711"),
        (CHECKED + struct.pack("!i?ii", 1, False, 0, -1) + END, "null where there must be text"),
        (b"", "can't be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_multi_has_one_result_of_its_kind_for_each_operation(results: bytes, word: str) -> None:
    talk = Talk().greeted()
    answer = talk.connection.request(multi(), 1)
    talk.connection.data_received(reply(1, record=results))
    check_told(talk, word)
    error = answer.exception()
    assert isinstance(error, ConnectionLoss)
    assert error.executed is Executed.UNKNOWN


async def test_good_results_of_a_multi_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    talk = Talk().greeted()
    first, second = talk.connection.request(multi(), 1), talk.connection.request(multi(), 2)
    strange = struct.pack("!i?ii", -1, False, -4711, -4711)
    talk.connection.data_received(reply(1, record=CHECKED + CREATED + END) + reply(2, record=REFUSED + strange + END))
    checked, created = (await first).record.responses
    assert isinstance(checked, protocol.CheckVersionResponse)
    assert created.path == "/a"
    refused, unknown = (await second).record.responses
    assert isinstance(refused, exc.NoNode)
    assert unknown.error_code == -4711
    assert capsys.readouterr().out == ""  # aiozk prints codes that it does not know


# Memory


async def test_a_claim_takes_no_memory_before_its_bytes_are_there() -> None:
    talk = Talk().greeted()
    talk.connection.request(protocol.GetDataRequest(path="/", watch=False), 1)
    tracemalloc.start()
    try:
        talk.connection.data_received(claim(MAX_FRAME, 1) + bytes(1000))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        for _ in range(1000):
            talk.connection.data_received(bytes(1000))
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert not talk.owner.ends


async def test_a_flood_of_events_ends_with_the_watches_that_were_set() -> None:
    talk = Talk().greeted()
    for xid in range(1, 4):
        talk.connection.request(protocol.GetDataRequest(path=f"/{xid}", watch=True), xid)
    watches = protocol.SetWatchesRequest(
        relative_zxid=0, data_watches=["/a"], exist_watches=["/b"], child_watches=["/c"]
    )
    talk.connection.request(watches, 4)
    talk.connection.request(protocol.GetDataRequest(path="/other", watch=False), 5)
    talk.connection.data_received(event(CHANGED, b"/1") * 100_000)
    assert len(talk.owner.events) == 6
    check_told(talk, "more events than watches were set")


async def test_an_ended_connection_keeps_nothing_of_what_comes_yet() -> None:
    talk = Talk().greeted()
    talk.connection.data_received(reply(1))
    tracemalloc.start()
    try:
        for _ in range(100):
            talk.connection.data_received(bytes(100_000))
        left = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert left < 1_000_000


async def test_events_before_a_connection_is_ready_are_kept_for_those_who_listen_alone() -> None:
    heard: list[str] = []
    watches = Watches()
    watches.add(CHANGED, "/ours", heard.append)
    dispatch = Dispatch(watches, lambda request: None)
    dispatch.expect()
    tracemalloc.start()
    try:
        for number in range(10_000):
            dispatch.postpone(protocol.WatchEvent(type=CHANGED, state=3, path=f"/theirs/{number}"))
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
    dispatch.postpone(protocol.WatchEvent(type=CHANGED, state=3, path="/ours"))
    dispatch.catch_up()
    assert heard == ["/ours"]


async def test_a_watch_is_set_again_once_however_many_events_ask_for_it() -> None:
    sent: list[Any] = []
    watches = Watches()
    watches.add(CHANGED, "/ours", lambda path: None)
    dispatch = Dispatch(watches, sent.append)

    async def flood() -> None:
        for _ in range(100):
            dispatch.happened(protocol.WatchEvent(type=CHANGED, state=3, path="/ours"))
            await asyncio.sleep(0)

    await flood()
    assert len(sent) == 1
    record = wire.parse_reply(sent[0], bytes(wire.HEADER) + STAT)
    dispatch.answered(Answer(sent[0], record, 0, 7, 1.0, 2.0))  # it is set: the next event uses it up
    await flood()
    assert len(sent) == 2
    dispatch.catch_up()  # on the next connection nothing is on its way any more
    await flood()
    assert len(sent) == 3


# The whole client, and somebody in between


class Impostor:
    """Stands before a server: passes everything on, says what it likes besides, and changes what the server says."""

    def __init__(self, hosts: str) -> None:
        self.changes: list[Callable[[bytes], bytes | None]] = []
        """For one of the next frames from the server each: what the client gets instead (None: as it is, try the next)."""
        self.talks = 0
        self._target = hosts.partition(":")
        self._clients: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def say(self, data: bytes) -> None:
        """To all clients, at once."""
        for client in self._clients:
            client.write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.talks += 1
        self._clients.add(writer)
        up, down = await asyncio.open_connection(self._target[0], int(self._target[2]))
        passing = [asyncio.ensure_future(self._pass(reader, down)), asyncio.ensure_future(self._change(up, writer))]
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in passing:
                each.cancel()
            await asyncio.wait(passing)
            self._clients.discard(writer)
            self._tasks.discard(task)
            for end in (writer, down):
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)

    async def _change(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                size = await reader.readexactly(4)
                frame = size + await reader.readexactly(int.from_bytes(size))
                changed = self.changes[0](frame) if self.changes else None
                if changed is not None:
                    del self.changes[0]
                writer.write(frame if changed is None else changed)


@pytest.fixture
async def quiet_loop() -> AsyncIterator[None]:
    """Nothing reaches the event loop's handler, and no future's error is lost."""
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    yield
    gc.collect()
    await asyncio.sleep(0)
    assert not problems


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(tick_time=0.1) as server:
        yield server


@pytest.fixture
async def good(server: EmbeddedServer) -> AsyncIterator[FaultProxy]:
    """The way to the server on which nobody stands."""
    async with FaultProxy(server.hosts) as good:
        yield good


@pytest.fixture
async def impostor(server: EmbeddedServer) -> AsyncIterator[Impostor]:
    async with Impostor(server.hosts) as impostor:
        yield impostor


Attack = Callable[[Impostor], None]


def says(data: bytes) -> Attack:
    return lambda impostor: impostor.say(data)


def twice(frame: bytes) -> bytes:
    return frame * 2


def xid_of(frame: bytes) -> int:
    xid, _, _ = wire.parse_header(frame[4:])
    return xid


ATTACKS: dict[str, tuple[Attack, str]] = {
    "garbage": (says(b"\xff" * 1000), "a frame of -1 bytes"),
    "another protocol": (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "HTTP/1.1 400"),
    "a zero-length frame": (says(bytes(4)), "a frame of 0 bytes"),
    "a huge claim": (says(struct.pack("!i", 2**31 - 1)), "a frame of 2147483647 bytes"),
    "a large claim that no request waits for": (says(claim(MAX_FRAME, 99)), "a reply to request 99"),
    "a second first answer": (says(connect_reply()), "a reply to request 0"),
    "a reply to nothing": (says(reply(4711)), "a reply to request 4711"),
    "a forged ping": (says(reply(wire.PING_XID)), "a ping that was not sent"),
    "events of what nobody watches": (says(event(CHANGED, b"/theirs") * 50_000), "more events than watches"),
    "events of what we watch": (says(event(CHANGED, b"/watched") * 50_000), "more events than watches"),
    "a reply twice": (lambda impostor: impostor.changes.append(twice), "which is not the oldest one waiting"),
    "a reply cut short": (lambda impostor: impostor.changes.append(lambda f: wire.frame(f[4:-9])), "can't be read"),
}


@pytest.mark.parametrize(("attack", "word"), ATTACKS.values(), ids=ATTACKS)
async def test_the_client_goes_on_elsewhere(
    quiet_loop: None,
    server: EmbeddedServer,
    good: FaultProxy,
    impostor: Impostor,
    open_client: Open,
    record: Record,
    attack: Attack,
    word: str,
) -> None:
    good.refuse()
    heard: list[str] = []
    client = await open_client(f"127.0.0.1:{impostor.port},{good.hosts}", session_timeout=2.0, on_event=record)
    await client.ensure_path("/watched")
    client.session.add_watch_callback(CHANGED, "/watched", heard.append)
    assert await client.exists("/watched", watch=True)
    session_id, deadline = client.session.session_id, client.session.lease.deadline
    good.heal()
    attack(impostor)
    asking = [asyncio.ensure_future(client.exists("/watched")) for _ in range(20)]
    disconnected = await record.wait(ev.Disconnected)
    assert "what ZooKeeper never sends" in disconnected.why
    assert word in disconnected.why
    assert disconnected.why.isprintable()
    assert len(disconnected.why) < 500
    assert client.session.lease.deadline <= deadline
    assert await asyncio.gather(*asking) == [True] * 20
    await until(lambda: client.session.connected)
    assert client.session.conn is not None
    assert client.session.conn.port == good.port
    assert client.session.session_id == session_id
    assert len(heard) <= 1
    await client.set_data("/watched", b"x", force=True)  # the watch was carried over
    await until(lambda: heard)


GREETINGS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "silence": (lambda frame: b"", "no answer within"),
    "a byte": (lambda frame: frame[:1], "no answer within"),
    "half": (lambda frame: frame[:20], "no answer within"),
    "no time": (lambda frame: connect_reply(timeout=0), "a session timeout of 0 s"),
    "less than no time": (lambda frame: connect_reply(timeout=-(2**31)), "a session timeout of -2.14748e+06 s"),
    "all the time": (lambda frame: connect_reply(timeout=2**31 - 1), "a session timeout of 2.14748e+06 s"),
    "another session": (lambda frame: connect_reply(session_id=0x666), "asked for its session, it gave 0x666"),
    "a long password": (lambda frame: struct.pack("!i", 5_000) + frame[4:], "a frame of 5000 bytes"),
    "a longer password": (lambda frame: frame[:20] + struct.pack("!i", 2**30) + frame[24:], "a field of 1073741824"),
    "two": (twice, "a reply to request 0"),
    "an event first": (lambda frame: event(CHANGED, b"/") + frame, "a session timeout of"),
    "events next": (lambda frame: frame + event(CHANGED, b"/watched") * 10_000, "more events than watches"),
    "a ping next": (lambda frame: frame + reply(wire.PING_XID), "a ping that was not sent"),
}


@pytest.mark.parametrize(("change", "word"), GREETINGS.values(), ids=GREETINGS)
async def test_a_false_greeting_costs_an_attempt(
    quiet_loop: None,
    server: EmbeddedServer,
    good: FaultProxy,
    impostor: Impostor,
    open_client: Open,
    record: Record,
    change: Callable[[bytes], bytes],
    word: str,
) -> None:
    client = await open_client(f"127.0.0.1:{impostor.port},{good.hosts}", session_timeout=2.0, on_event=record)
    session_id = client.session.session_id
    heard: list[str] = []
    client.session.add_watch_callback(CHANGED, "/", heard.append)
    assert await client.exists("/", watch=True)
    talks = impostor.talks
    impostor.changes += [change] * 100  # every greeting from now on; nothing else gets through
    good.refuse()
    good.sever()
    impostor.say(b"\xff" * 4)
    unreachable = await record.wait(ev.Unreachable)
    await until(lambda: any(word in each.why for each in record.of(ev.Unreachable)))
    assert unreachable.why.isprintable()
    assert talks < impostor.talks < talks + 30  # no busy loop
    good.heal()
    await until(lambda: client.session.connected and client.session.conn and client.session.conn.port == good.port)
    assert client.session.session_id == session_id
    assert await client.exists("/")


async def drip(impostor: Impostor, data: bytes) -> None:
    """A byte now and then, for ever."""
    for at in range(len(data)):
        impostor.say(data[at : at + 1])
        await asyncio.sleep(0.02)
    while True:
        impostor.say(b"\0")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("start", [lambda xid: claim(MAX_FRAME, xid), lambda xid: claim(MAX_EVENT, wire.WATCH_XID)])
async def test_an_answer_that_never_ends_is_given_up(
    quiet_loop: None,
    server: EmbeddedServer,
    good: FaultProxy,
    impostor: Impostor,
    open_client: Open,
    record: Record,
    start: Callable[[int], bytes],
) -> None:
    good.refuse()
    client = await open_client(f"127.0.0.1:{impostor.port},{good.hosts}", session_timeout=1.0, on_event=record)
    assert await client.exists("/", watch=True)
    good.heal()
    impostor.changes += [lambda frame: b""] * 1000
    asking = asyncio.ensure_future(client.session.ask(protocol.ExistsRequest(path="/", watch=False)))
    await asyncio.sleep(0)
    dripping = asyncio.ensure_future(drip(impostor, start(client.session.xid)))
    try:
        disconnected = await record.wait(ev.Disconnected)
    finally:
        dripping.cancel()
    assert "no answer for" in disconnected.why
    assert (await asking).record.stat.ephemeral_owner == 0
    assert client.session.conn is not None
    assert client.session.conn.port == good.port


# The lease


@pytest.mark.parametrize(
    ("forge", "proves"),
    [
        (lambda xid: reply(xid, record=CHECKED + END), True),  # so that the others can fail
        (lambda xid: reply(wire.PING_XID) * 100, False),
        (lambda xid: reply(xid, record=END), False),
        (lambda xid: reply(xid, record=CHECKED + CHECKED + END), False),
        (lambda xid: reply(xid, record=CHECKED), False),
        (lambda xid: reply(xid, record=CREATED + END), False),
        (lambda xid: reply(xid + 1, record=CHECKED + END), False),
        (lambda xid: reply(xid, record=REFUSED + END), False),
        (lambda xid: reply(xid, error=exc.NoNode.error_code), False),
    ],
)
async def test_what_is_no_renewal_proves_nothing(
    quiet_loop: None,
    server: EmbeddedServer,
    impostor: Impostor,
    open_client: Open,
    forge: Callable[[int], bytes],
    proves: bool,
) -> None:
    client = await open_client(f"127.0.0.1:{impostor.port}", session_timeout=2.0, tick_time=0.1)
    path = await client.create("/own", ephemeral=True)
    lease, connection = client.session.lease, client.session.conn
    assert connection is not None
    await until(lambda: lease.ripe_at < client.session.world.clock())
    impostor.changes += [lambda frame: b""] * 100_000  # no true answer from now on
    deadline = lease.deadline
    renewed: list[None] = []

    def proven() -> bool:
        renewed.append(None)
        return True

    client.renewals.keep(path, 0.1, proven)
    xid = client.session.xid
    impostor.say(forge(xid))
    await until(lambda: connection.closing or connection.oldest_request is None)
    client.renewals.release(path)
    impostor.changes.clear()
    assert bool(renewed) == (lease.deadline > deadline) == proves


async def test_a_false_zxid_keeps_nobody_away_from_the_other_servers(
    quiet_loop: None,
    server: EmbeddedServer,
    good: FaultProxy,
    open_client: Open,
    record: Record,
) -> None:
    """Servers refuse whoever has seen more than they have."""
    good.refuse()
    talks = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal talks
        talks += 1
        await reader.read(1000)
        if talks == 1:
            writer.write(connect_reply(timeout=1000))
            xid = struct.unpack_from("!i", await reader.read(1000), 4)[0]
            writer.write(reply(xid))  # to SetWatches
            xid = struct.unpack_from("!i", await reader.read(1000), 4)[0]
            writer.write(reply(xid, zxid=2**62, record=STAT))
        elif talks == 2:
            writer.write(wire.frame(struct.pack("!iiqi", 0, 0, 0, 16) + bytes(17)))  # the session has ended
        writer.close()

    evil = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with evil:
        hosts = f"127.0.0.1:{evil.sockets[0].getsockname()[1]},{good.hosts}"
        client = await open_client(hosts, session_timeout=1.0, on_event=record)
        assert await client.exists("/")
        await record.wait(ev.Expired)
        good.heal()
        await until(lambda: client.session.connected)
        assert client.session.conn is not None
        assert client.session.conn.port == good.port
