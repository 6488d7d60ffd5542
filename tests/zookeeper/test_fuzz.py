"""Whatever bytes come, in whatever pieces: every future is settled, the owner is told once, and the work is linear in the bytes.

``RECORDED`` is what the embedded server said to ``ask``; the mutations are of that. What was found by fuzzing stands in
``test_connection.py`` and ``test_hostile.py`` under its own name.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
from aiozk import exc, protocol
from hypothesis import given, settings
from hypothesis import strategies as st

from aioelect import ConnectionLoss
from aioelect.testing.embedded import EmbeddedServer
from aioelect.zookeeper import wire
from aioelect.zookeeper.connection import Connection

from .test_connection import Owner, Transport, connect_reply, reply

ADDRESS = ("server", 1)
bounded = settings(max_examples=300, deadline=None)

# A conversation


def transaction() -> Any:
    request = protocol.TransactionRequest()
    request.add(protocol.CheckVersionRequest(path="/a", version=-1))
    request.add(protocol.SetDataRequest(path="/a", data=b"more", version=-1))
    request.add(protocol.DeleteRequest(path="/a/b", version=-1))
    return request


def create(path: str) -> Any:
    request = protocol.Create2Request(path=path, data=b"data", acl=[protocol.UNRESTRICTED_ACCESS])
    request.set_flags(ephemeral=path == "/a/b")
    return request


def requests() -> list[Any]:
    """One of every kind, with two events among the answers."""
    return [
        protocol.ExistsRequest(path="/a", watch=True),
        create("/a"),
        protocol.GetChildren2Request(path="/a", watch=True),
        create("/a/b"),
        protocol.GetDataRequest(path="/a", watch=False),
        protocol.GetChildrenRequest(path="/a", watch=False),
        protocol.GetACLRequest(path="/a"),
        wire.GetEphemeralsRequest(path="/"),
        protocol.SyncRequest(path="/a"),
        protocol.SetWatchesRequest(relative_zxid=0, data_watches=["/a"], exist_watches=[], child_watches=["/c"]),
        transaction(),
        protocol.SetACLRequest(path="/a", acl=[protocol.UNRESTRICTED_ACCESS], version=-1),
        protocol.ExistsRequest(path="/a/b", watch=False),
    ]


def ask(connection: Connection) -> list[asyncio.Future[Any]]:
    """Everything at once."""
    connect = wire.connect_frame(last_zxid=0, timeout=4, session_id=0, password=bytes(16), read_only=False)
    futures: list[asyncio.Future[Any]] = [connection.greet(connect)]
    connection.ping()
    auth = protocol.AuthRequest(type=0, scheme="digest", auth=b"user:password")
    futures.append(connection.request(auth, wire.AUTH_XID))
    futures += [connection.request(request, xid) for xid, request in enumerate(requests(), 1)]
    connection.ping()
    return futures


class Recorder(Connection):
    """Keeps what it reads."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(ADDRESS, time.monotonic, owner)
        self.read = bytearray()

    def data_received(self, data: bytes) -> None:
        self.read += data
        super().data_received(data)


async def record() -> bytes:
    async with EmbeddedServer() as server:
        host, _, port = server.hosts.partition(":")
        recorder = Recorder(Owner())
        await asyncio.get_running_loop().create_connection(lambda: recorder, host, int(port))
        await asyncio.wait(ask(recorder))
        recorder.ping()
        async with asyncio.timeout(10):
            while recorder.oldest_request is not None:
                await asyncio.sleep(0.001)
        recorder.abort()
        await recorder.wait_closed()
        return bytes(recorder.read)


@cache
def recorded() -> tuple[bytes, ...]:
    """The frames of a good conversation, without the answer to the last ping."""
    data = asyncio.run(record())
    frames = []
    while data:
        size = 4 + int.from_bytes(data[:4])
        frames.append(data[:size])
        data = data[size:]
    return tuple(frames[:-1])


class Heard:
    """What became of a conversation."""

    def __init__(self, owner: Owner, futures: Sequence[asyncio.Future[Any]]) -> None:
        self.owner = owner
        self.told = len(owner.answers) + len(owner.events)
        self.results = [future.exception() or future.result() for future in futures]
        [self.why] = owner.ends


async def converse(pieces: Sequence[bytes]) -> Heard:
    """Hears ``pieces``, and then the end; nothing may be raised, and nothing may be left open."""
    owner, transport = Owner(), Transport()
    connection = Connection(ADDRESS, time.monotonic, owner)
    connection.connection_made(transport)
    futures = ask(connection)
    for piece in pieces:
        connection.data_received(piece)
    connection.eof_received()
    connection.connection_lost(None)
    await connection.wait_closed()
    assert all(future.done() for future in futures)
    assert connection.closing
    assert connection.oldest_request is None
    assert transport.aborted
    return Heard(owner, futures)


def hear(pieces: Sequence[bytes]) -> Heard:
    heard = asyncio.run(converse(pieces))
    assert heard.why.isprintable()
    assert len(heard.why) < 500
    assert heard.told <= sum(map(len, pieces)) / 20
    for result in heard.results:
        assert not isinstance(result, Exception) or isinstance(result, (ConnectionLoss, exc.ResponseError))
    return heard


def test_the_recorded_conversation_is_a_good_one() -> None:
    heard = hear(recorded())
    assert heard.why == "the server closed it"
    assert not [result for result in heard.results if isinstance(result, ConnectionLoss)]
    assert len(heard.owner.events) >= 2


# Bytes

cuts = st.lists(st.integers(0, 2**16), max_size=8)


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    """``data`` in pieces."""
    ends = [*sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@bounded
@given(cuts)
def test_pieces_make_no_difference(at: list[int]) -> None:
    heard, whole = hear(cut(b"".join(recorded()), at)), hear(recorded())
    assert heard.why == whole.why
    assert [answer.record for answer in heard.owner.answers] == [answer.record for answer in whole.owner.answers]


@bounded
@given(st.binary(max_size=300), st.booleans(), cuts)
def test_arbitrary_bytes(data: bytes, greeted: bool, at: list[int]) -> None:
    hear(cut(recorded()[0] * greeted + data, at))


# Mutations


def flip(frames: list[bytes], where: int, what: int) -> None:
    """One byte, of a length or not."""
    frame = bytearray(frames[where % len(frames)])
    frame[what % len(frame)] ^= what >> 8 & 0xFF or 1
    frames[where % len(frames)] = bytes(frame)


def number(frames: list[bytes], where: int, what: int) -> None:
    """Four bytes become a number that lengths had better not be."""
    frame = bytearray(frames[where % len(frames)])
    at = (what >> 4) % (len(frame) - 3)
    frame[at : at + 4] = struct.pack("!i", NUMBERS[what % len(NUMBERS)])
    frames[where % len(frames)] = bytes(frame)


def cut_off(frames: list[bytes], where: int, what: int) -> None:
    """Bytes at the end, and the length says so."""
    payload = frames[where % len(frames)][4:]
    frames[where % len(frames)] = wire.frame(payload[: what % (len(payload) + 1)])


def insert(frames: list[bytes], where: int, what: int) -> None:
    frame = frames[where % len(frames)]
    at = (what >> 8) % (len(frame) + 1)
    frames[where % len(frames)] = frame[:at] + bytes([what & 0xFF]) + frame[at:]


def delete(frames: list[bytes], where: int, what: int) -> None:
    del frames[where % len(frames)]


def duplicate(frames: list[bytes], where: int, what: int) -> None:
    frames.insert(what % (len(frames) + 1), frames[where % len(frames)])


def reorder(frames: list[bytes], where: int, what: int) -> None:
    frames.insert(what % len(frames), frames.pop(where % len(frames)))


NUMBERS = (-(2**31), -112, -5, -4, -2, -1, 0, 1, 4, 16, 255, 2**16, 2**24, 2**26, 2**31 - 1)
Mutation = Callable[[list[bytes], int, int], None]
mutations = st.lists(
    st.tuples(
        st.sampled_from([flip, number, cut_off, insert, delete, duplicate, reorder]),
        st.integers(0, 2**16),
        st.integers(0, 2**16),
    ),
    min_size=1,
    max_size=4,
)


@settings(bounded, max_examples=1000)
@given(mutations, cuts)
def test_mutations_of_a_good_conversation(changes: list[tuple[Mutation, int, int]], at: list[int]) -> None:
    frames = list(recorded())
    for mutate, where, what in changes:
        if frames:
            mutate(frames, where, what)
    hear(cut(b"".join(frames), at))


# Frames that look right

numbers = st.sampled_from(NUMBERS) | st.integers(-(2**31), 2**31 - 1)
fields = st.one_of(
    numbers.map(lambda value: struct.pack("!i", value)),
    st.integers(-(2**63), 2**63 - 1).map(lambda value: struct.pack("!q", value)),
    st.booleans().map(lambda value: bytes([value])),
    st.binary(max_size=20).map(wire.frame),
    st.tuples(numbers, st.binary(max_size=20)).map(lambda field: struct.pack("!i", field[0]) + field[1]),
    st.text(max_size=10).map(lambda text: wire.frame(text.encode("utf-8", "surrogatepass"))),
    st.just(bytes(68)),
    st.tuples(st.sampled_from([-1, 1, 2, 5, 13, 14, 15]), st.booleans(), numbers).map(
        lambda header: struct.pack("!i?i", *header)
    ),
)
records = st.lists(fields, max_size=6).map(b"".join)
xids = st.sampled_from([wire.WATCH_XID, wire.PING_XID, wire.AUTH_XID, 0, *range(1, 15)]) | numbers
errors = st.just(0) | st.sampled_from([exc.NoNode.error_code, exc.SessionExpired.error_code, -4711]) | numbers
packets = st.builds(lambda xid, error, record: reply(xid, 7, error, record), xids, errors, records)


@settings(bounded, max_examples=400)
@given(st.lists(packets, max_size=12), cuts)
def test_frames_of_jute(frames: list[bytes], at: list[int]) -> None:
    hear(cut(recorded()[0] + b"".join(frames), at))


@settings(bounded, max_examples=400)
@given(st.data())
def test_answers_in_their_order_with_any_record(data: st.DataObject) -> None:
    asked = range(1, len(requests()) + 1)
    hear([recorded()[0], *(reply(xid, 7, data.draw(errors), data.draw(records)) for xid in asked)])


@settings(bounded, max_examples=1000)
@given(st.sampled_from(requests()), st.binary(max_size=100) | records)
def test_a_record_is_read_as_aiozk_reads_it_or_not_at_all(request: Any, record: bytes) -> None:
    payload = bytes(wire.HEADER) + record
    try:
        read = wire.parse_reply(request, payload)
    except wire.Malformed:
        return
    theirs = protocol.response_xref[request.opcode].deserialize(record)
    if isinstance(request, protocol.TransactionRequest):
        read, theirs = ([str(result) for result in each.responses] for each in (read, theirs))
    assert read == theirs


@bounded
@given(st.binary(max_size=60) | records)
def test_events_and_greetings_are_read_or_refused(data: bytes) -> None:
    for parse in (wire.parse_event, wire.parse_connect_reply):
        try:
            parse(bytes(wire.HEADER) + data)
        except wire.Malformed:
            pass


# Work


class Counted(bytearray):
    """A buffer that counts how many bytes are moved in it."""

    moved = 0

    def __iadd__(self, data: Any) -> Counted:  # type: ignore[misc]
        self.moved += len(data)
        return super().__iadd__(data)

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        self.moved += len(self)


def work(frames: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Bytes moved and frames looked at, to read so many tiny frames in pieces."""
    looks = 0
    check = Connection._check

    def counting(self: Connection, size: int, at: int) -> None:
        nonlocal looks
        looks += 1
        check(self, size, at)

    async def run() -> int:
        owner = Owner()
        connection = Connection(ADDRESS, time.monotonic, owner)
        connection.connection_made(Transport())
        connection.greet(b"")
        connection.data_received(connect_reply())
        buffer = connection._buffer = Counted()
        for _ in range(frames):
            connection.ping()
        data = reply(wire.PING_XID) * frames
        for at in range(0, len(data), piece):
            connection.data_received(data[at : at + piece])
        assert len(owner.answers) == frames
        assert not owner.ends
        return buffer.moved

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "_check", counting)
        return asyncio.run(run()), looks


TINY = len(reply(wire.PING_XID))


@pytest.mark.parametrize(
    ("frames", "piece"),
    [(200_000, 200_000 * TINY), (200_000, 65_536), (200_000, TINY + 1), (20_000, 1)],
)
def test_the_work_is_linear(frames: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    total = frames * TINY
    pieces = -(-total // piece)
    moved, looks = work(frames, piece, monkeypatch)
    assert moved <= total + pieces * TINY
    assert looks <= frames + pieces
