"""Opening, resuming, losing and closing sessions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from .wire import (
    AUTH,
    CLOSE,
    CREATE,
    DELETED,
    EPHEMERAL,
    EXISTS,
    GET_EPHEMERALS,
    NO_NODE,
    OK,
    PING,
    SYNC,
    Closed,
    Event,
    buffer,
    create,
    integer,
    string,
    watched,
)

if TYPE_CHECKING:
    from .conftest import Connect, Dial
    from .wire import Session

DENIED = (0, 0, 0, bytes(16))


async def until_gone(session: Session, path: str) -> None:
    """Waits until a znode is deleted; the requests keep the session alive."""
    if (await session.ask(EXISTS, watched(path, watch=True))).code == OK:
        assert await session.event() == (DELETED, path)


async def test_new_session(dial: Dial) -> None:
    wire = await dial()
    connected = await wire.connect(timeout=1000)
    assert connected.protocol == 0
    assert connected.timeout == 1000
    assert connected.session_id > 0
    assert len(connected.password) == 16
    assert connected.password != bytes(16)
    assert connected.rest == b"\0", "not read-only"


async def test_two_sessions_differ(connect: Connect) -> None:
    one, other = await connect(), await connect()
    assert one.id != other.id
    assert one.password != other.password


async def test_new_session_takes_a_zxid(connect: Connect, session: Session) -> None:
    before = (await session.ask(PING, xid=-2)).zxid
    await connect()
    assert (await session.ask(PING, xid=-2)).zxid == before + 1


async def test_client_that_does_not_know_read_only(dial: Dial) -> None:
    assert (await (await dial()).connect(read_only=b"")).rest == b""


async def test_client_that_would_read_only(dial: Dial) -> None:
    assert (await (await dial()).connect(read_only=b"\1")).rest == b"\0"


async def test_null_password_for_a_new_session(dial: Dial) -> None:
    wire = await dial()
    assert (await wire.connect(password=b"")).session_id > 0


@pytest.mark.parametrize(
    ("asked", "granted"), [(1, 400), (-5, 400), (400, 400), (1234, 1234), (4000, 4000), (10_000, 4000)]
)
async def test_timeout_is_negotiated(connect: Connect, asked: int, granted: int) -> None:
    assert (await connect(timeout=asked)).timeout == granted


async def test_resume(connect: Connect, session: Session, root: str) -> None:
    await session.create(f"{root}/e", flags=EPHEMERAL)
    await session.wire.close()
    again = await connect(session_id=session.id, password=session.password, timeout=800)
    assert (again.id, again.password, again.timeout) == (session.id, session.password, 800)
    assert (await again.done(GET_EPHEMERALS, string(root))).body.strings() == [f"{root}/e"]


async def test_resumed_session_has_the_new_timeout(connect: Connect, session: Session, root: str) -> None:
    brief = await connect(timeout=4000)
    await brief.create(f"{root}/e", flags=EPHEMERAL)
    again = await connect(session_id=brief.id, password=brief.password, timeout=400)
    begun = time.monotonic()
    await again.wire.close()
    await until_gone(session, f"{root}/e")
    assert time.monotonic() - begun < 3, "not after the old timeout"


async def test_wrong_password(connect: Connect, dial: Dial, root: str) -> None:
    owner = await connect()
    await owner.create(f"{root}/e", flags=EPHEMERAL)
    thief = await dial()
    assert (await thief.connect(session_id=owner.id, password=b"x" * 16)) == (*DENIED, b"\0")
    with pytest.raises(Closed):
        await thief.read()
    with pytest.raises(Closed):  # ZooKeeper looks at the password after it has closed the old connection.
        await owner.wire.read()
    again = await connect(session_id=owner.id, password=owner.password)
    assert again.id == owner.id
    assert (await again.stat(f"{root}/e")).ephemeral_owner == owner.id


async def test_unknown_session(dial: Dial) -> None:
    wire = await dial()
    assert (await wire.connect(session_id=0x1234, password=bytes(16), read_only=b"")) == (*DENIED, b"")
    with pytest.raises(Closed):
        await wire.read()


async def test_zxid_ahead_of_the_server(dial: Dial) -> None:
    wire = await dial()
    with pytest.raises(Closed):
        await wire.connect(zxid=1 << 62)


async def test_zxid_ahead_keeps_the_session(connect: Connect, dial: Dial, session: Session) -> None:
    with pytest.raises(Closed):
        await (await dial()).connect(zxid=1 << 62, session_id=session.id, password=session.password)
    await session.quiet()
    again = await connect(session_id=session.id, password=session.password)
    assert again.id == session.id


async def test_moving_closes_the_old_connection(connect: Connect, session: Session, root: str) -> None:
    await session.done(EXISTS, watched(root, watch=True))
    again = await connect(session_id=session.id, password=session.password)
    with pytest.raises(Closed):
        await session.wire.read()
    await again.create(f"{root}/e", flags=EPHEMERAL)
    assert (await again.stat(f"{root}/e")).ephemeral_owner == session.id


async def test_closing_a_session(connect: Connect, session: Session, root: str, dial: Dial) -> None:
    leaver = await connect()
    await leaver.create(f"{root}/a", flags=EPHEMERAL)
    await leaver.create(f"{root}/b")
    await session.stat(f"{root}/a", watch=True)
    before = (await leaver.ask(PING, xid=-2)).zxid
    reply = await leaver.ask(CLOSE, xid=77)
    assert (reply.xid, reply.zxid, reply.code, reply.raw) == (77, before + 1, OK, b"")
    with pytest.raises(Closed):
        await leaver.wire.read()
    assert await session.event() == (DELETED, f"{root}/a")
    assert await session.refused(EXISTS, watched(f"{root}/a")) == NO_NODE
    await session.stat(f"{root}/b")
    late = await dial()
    assert (await late.connect(session_id=leaver.id, password=leaver.password))[:4] == DENIED


async def test_requests_after_close_are_not_done(connect: Connect, session: Session, root: str) -> None:
    """ZooKeeper answers them with an error, or not at all."""
    leaver = await connect()
    leaver.wire.send(CLOSE)
    leaver.wire.send(CREATE, create(f"{root}/late"))
    assert (await leaver.wire.reply()).code == OK
    await leaver.wire.read_all()
    assert await session.refused(EXISTS, watched(f"{root}/late")) == NO_NODE


async def test_own_watches_fire_before_the_close_is_answered(connect: Connect, root: str) -> None:
    leaver = await connect()
    await leaver.create(f"{root}/e", flags=EPHEMERAL)
    await leaver.stat(f"{root}/e", watch=True)
    assert await leaver.events_before_reply(CLOSE) == [(DELETED, f"{root}/e")]


async def test_expiry(connect: Connect, session: Session, root: str, dial: Dial) -> None:
    silent = await connect(timeout=1000)
    names = {f"{root}/{name}" for name in "abc"}
    for name in sorted(names):
        await silent.create(name, flags=EPHEMERAL)
        for watcher in (session, silent):
            await watcher.stat(name, watch=True)
    begun = time.monotonic()
    fired = {(await session.event()) for _ in names}
    assert fired == {Event(DELETED, name) for name in names}
    # The last packet came before `begun`, so only the delay of the machine can shorten this.
    assert 0.5 < time.monotonic() - begun < 4
    await silent.wire.read_all()  # ZooKeeper closes, and seldom gets the events of its own watches out before.
    for name in names:
        assert await session.refused(EXISTS, watched(name)) == NO_NODE
    wire = await dial()
    assert (await wire.connect(session_id=silent.id, password=silent.password))[:4] == DENIED


async def test_every_packet_prolongs(connect: Connect, session: Session, root: str) -> None:
    brief = await connect(timeout=1000)
    await brief.create(f"{root}/e", flags=EPHEMERAL)
    begun = time.monotonic()
    while time.monotonic() - begun < 1.5:
        assert (await brief.ask(PING, xid=-2)).code == OK
        assert (await session.ask(SYNC, string("/"))).code == OK
    await session.stat(f"{root}/e")


async def test_authentication_does_not_prolong(connect: Connect, session: Session, root: str) -> None:
    brief = await connect(timeout=400)
    await brief.create(f"{root}/e", flags=EPHEMERAL)
    begun = time.monotonic()

    async def authenticate_again_and_again() -> None:
        while time.monotonic() - begun < 3:
            brief.wire.send(AUTH, integer(0) + string("digest") + buffer(b"alice:secret"), xid=-4)
            assert (await brief.wire.reply()).code == OK
            assert (await session.ask(PING, xid=-2)).code == OK

    with pytest.raises(Closed):
        await authenticate_again_and_again()
    assert await session.refused(EXISTS, watched(f"{root}/e")) == NO_NODE


async def test_session_outlives_its_connection(connect: Connect, session: Session, root: str) -> None:
    brief = await connect(timeout=1000)
    await brief.create(f"{root}/e", flags=EPHEMERAL)
    await session.stat(f"{root}/e", watch=True)
    await brief.wire.close()
    await session.quiet()
    assert await session.event() == (DELETED, f"{root}/e")


async def test_ping(session: Session) -> None:
    reply = await session.ask(PING, xid=-2)
    assert (reply.xid, reply.code, reply.raw) == (-2, OK, b"")
