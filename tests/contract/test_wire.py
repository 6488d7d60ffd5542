"""Frames that no client should send, and the words that are not frames."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

import pytest

from .wire import (
    BAD_VERSION,
    CHECK,
    CREATE,
    EXISTS,
    GET_DATA,
    INVALID_ACL,
    MARSHALLING_ERROR,
    OK,
    PING,
    SET_DATA,
    SET_WATCHES,
    UNIMPLEMENTED,
    Closed,
    Reply,
    create,
    integer,
    string,
    versioned,
)

if TYPE_CHECKING:
    from .conftest import Dial
    from .wire import Session


async def test_srvr(dial: Dial) -> None:
    wire = await dial()
    wire.write(b"srvr")
    answer = await wire.read_all()
    assert re.match(rb"Zookeeper version: 3\.8\.0-.*\n", answer)
    assert b"\nMode: standalone\n" in answer
    assert re.search(rb"\nZxid: 0x[0-9a-f]+\n", answer)
    assert re.search(rb"\nNode count: \d+\n", answer)


@pytest.mark.parametrize("length", [-1, -(2**31), 0x100000, 2**31 - 1])
async def test_impossible_length(dial: Dial, session: Session, length: int) -> None:
    stranger = await dial()
    stranger.write(integer(length))
    assert await stranger.read_all() == b""
    await session.quiet()
    session.wire.write(integer(length))
    with pytest.raises(Closed):
        await session.wire.read()


async def test_largest_frame(session: Session, root: str) -> None:
    overhead = len(create(f"{root}/a", b"")) + 8
    data = bytes(0xFFFFF - overhead)
    await session.create(f"{root}/a", data)
    assert (await session.stat(f"{root}/a")).data_length == len(data)


@pytest.mark.parametrize("payload", [b"", b"\0\0\0", struct.pack(">iqi", 0, 0, 4000), bytes(20)])
async def test_truncated_connect_request(dial: Dial, payload: bytes) -> None:
    wire = await dial()
    wire.write_frame(payload)
    assert await wire.read_all() == b""


@pytest.mark.parametrize("payload", [b"", b"\0\0\0\1", b"\0\0\0\1\0\0\0"])
async def test_truncated_header(session: Session, payload: bytes) -> None:
    session.wire.write_frame(payload)
    with pytest.raises(Closed):
        await session.wire.read()


@pytest.mark.parametrize("opcode", [EXISTS, GET_DATA, CREATE, SET_DATA])
@pytest.mark.parametrize("body", [b"", integer(5) + b"/a", integer(-2), integer(2**31 - 1), string(None), string("/a")])
async def test_truncated_body(session: Session, opcode: int, body: bytes) -> None:
    before = (await session.ask(PING, xid=-2)).zxid
    reply = await session.ask(opcode, body)
    assert (reply.code, reply.raw) == (MARSHALLING_ERROR, b"")
    taken = 1 if opcode in (CREATE, SET_DATA) else 0
    assert reply.zxid == before + taken
    await session.quiet()


async def test_impossible_vector(session: Session) -> None:
    for length in (-2, 2**31 - 1):
        body = string("/a") + string("") + integer(length)
        assert await session.refused(CREATE, body) == MARSHALLING_ERROR


async def test_null_vectors(session: Session) -> None:
    assert await session.refused(CREATE, string("/a") + string("") + integer(-1) + integer(0)) == INVALID_ACL
    assert await session.refused(SET_WATCHES, bytes(8) + 3 * integer(-1)) == MARSHALLING_ERROR


async def test_check_outside_a_multi_is_not_answered(session: Session, root: str) -> None:
    session.wire.send(CHECK, versioned(root))
    assert (await session.wire.ask(PING, xid=-2)).code == OK
    assert await session.refused(CHECK, versioned(root, 7)) == BAD_VERSION


@pytest.mark.parametrize("opcode", [0, 10, 99, -1, -2, 12345])
async def test_unknown_opcode(session: Session, opcode: int) -> None:
    reply = await session.ask(opcode, xid=5)
    assert reply == Reply(5, -1, UNIMPLEMENTED, b"")
    with pytest.raises(Closed):
        await session.wire.read()


async def test_frames_in_pieces(session: Session, root: str) -> None:
    payload = struct.pack(">ii", 9, EXISTS) + string(root) + b"\0"
    frame = integer(len(payload)) + payload
    for byte in frame[:-1]:
        session.wire.write(bytes([byte]))
        await session.wire.flush()
    session.wire.write(frame[-1:] + frame)
    assert [(await session.wire.reply()).xid for _ in "ab"] == [9, 9]
