"""Several writes at once: all or nothing."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .wire import (
    BAD_VERSION,
    CHECK,
    CHILDREN_CHANGED,
    CONTAINER,
    CREATE,
    CREATE2,
    CREATE_CONTAINER,
    CREATED,
    DELETE,
    DELETED,
    EPHEMERAL,
    EXISTS,
    GET_CHILDREN,
    GET_DATA,
    MARSHALLING_ERROR,
    MULTI,
    NO_NODE,
    NODE_EXISTS,
    OK,
    PING,
    RUNTIME_INCONSISTENCY,
    SEQUENTIAL,
    SET_DATA,
    create,
    integer,
    multi,
    set_data,
    string,
    versioned,
    watched,
)

if TYPE_CHECKING:
    from .conftest import Connect
    from .wire import Session

END = struct.pack(">i?i", -1, True, -1)


def succeeded(opcode: int, body: bytes = b"") -> bytes:
    return struct.pack(">i?i", opcode, False, 0) + body


def failed(*codes: int) -> bytes:
    return b"".join(struct.pack(">i?ii", -1, False, code, code) for code in codes) + END


async def test_everything_at_once(session: Session, root: str) -> None:
    await session.create(f"{root}/old")
    before = (await session.ask(PING, xid=-2)).zxid
    reply = await session.done(
        MULTI,
        multi(
            (CREATE, create(f"{root}/a", b"1")),
            (CHECK, versioned(f"{root}/a", 0)),
            (SET_DATA, set_data(f"{root}/a", b"23", 0)),
            (CREATE, create(f"{root}/a/n", flags=SEQUENTIAL)),
            (CREATE, create(f"{root}/a/n", flags=SEQUENTIAL | EPHEMERAL)),
            (DELETE, versioned(f"{root}/old")),
            (CHECK, versioned(root)),
        ),
    )
    assert reply.zxid == before + 1
    a = await session.stat(f"{root}/a")
    # The reply holds the stat as it was in between, before the children came.
    in_between = a._replace(children=0, cversion=0, pzxid=a.czxid)
    assert reply.raw == (
        succeeded(CREATE, string(f"{root}/a"))
        + succeeded(CHECK)
        + succeeded(SET_DATA, struct.pack(">qqqqiiiqiiq", *in_between))
        + succeeded(CREATE, string(f"{root}/a/n0000000000"))
        + succeeded(CREATE, string(f"{root}/a/n0000000001"))
        + succeeded(DELETE)
        + succeeded(CHECK)
        + END
    )
    assert (a.czxid, a.mzxid, a.pzxid) == (reply.zxid,) * 3
    assert (a.version, a.cversion, a.children, a.data_length) == (1, 2, 2, 2)
    assert (await session.stat(f"{root}/a/n0000000001")).ephemeral_owner == session.id
    assert await session.refused(EXISTS, watched(f"{root}/old")) == NO_NODE


async def test_kinds_of_create(session: Session, root: str) -> None:
    """create2 answers like create, and the flag alone makes a container, which answers like create2."""
    reply = await session.done(
        MULTI,
        multi(
            (CREATE2, create(f"{root}/a")),
            (CREATE_CONTAINER, create(f"{root}/c", flags=CONTAINER)),
            (CREATE_CONTAINER, create(f"{root}/plain")),
        ),
    )
    container = struct.pack(">qqqqiiiqiiq", *await session.stat(f"{root}/c"))
    assert reply.raw == (
        succeeded(CREATE, string(f"{root}/a"))
        + succeeded(CREATE2, string(f"{root}/c") + container)
        + succeeded(CREATE, string(f"{root}/plain"))
        + END
    )


async def test_nothing_is_done_when_one_is_refused(session: Session, connect: Connect, root: str) -> None:
    watcher = await connect()
    await session.create(f"{root}/old", b"old")
    await session.create(f"{root}/e", flags=EPHEMERAL)
    paths = [root, f"{root}/old", f"{root}/e"]
    before = [await session.stat(path) for path in paths]
    await watcher.done(GET_CHILDREN, watched(root, watch=True))
    for path in (*paths, f"{root}/a"):
        await watcher.ask(EXISTS, watched(path, watch=True))
    zxid = (await session.ask(PING, xid=-2)).zxid
    reply = await session.done(
        MULTI,
        multi(
            (CREATE, create(f"{root}/a", flags=EPHEMERAL)),
            (SET_DATA, set_data(f"{root}/old", b"new")),
            (DELETE, versioned(f"{root}/old")),
            (DELETE, versioned(f"{root}/e")),
            (CREATE, create(f"{root}/n", flags=SEQUENTIAL)),
            (CHECK, versioned(f"{root}/a", 7)),
            (DELETE, versioned(f"{root}/none")),
            (CHECK, versioned(root)),
        ),
    )
    assert reply.raw == failed(OK, OK, OK, OK, OK, BAD_VERSION, RUNTIME_INCONSISTENCY, RUNTIME_INCONSISTENCY)
    assert reply.zxid == zxid + 1
    assert [await session.stat(path) for path in paths] == before
    assert (await session.done(GET_DATA, watched(f"{root}/old"))).body.buffer() == b"old"
    await watcher.quiet()
    assert await session.create(f"{root}/n", flags=SEQUENTIAL) == f"{root}/n0000000002"


async def test_watches_survive_a_refused_multi(session: Session, root: str) -> None:
    path = await session.create(f"{root}/a")
    await session.stat(path, watch=True)
    await session.done(MULTI, multi((DELETE, versioned(path)), (CHECK, versioned(path))))
    assert await session.events_before_reply(DELETE, versioned(path)) == [(DELETED, path)]


async def test_later_operations_see_the_earlier_ones(session: Session, root: str) -> None:
    path = f"{root}/a"
    reply = await session.done(
        MULTI,
        multi(
            (CREATE, create(path)),
            (DELETE, versioned(path)),
            (CREATE, create(path)),
            (CREATE, create(path)),
        ),
    )
    assert reply.raw == failed(OK, OK, OK, NODE_EXISTS)
    await session.done(MULTI, multi((CREATE, create(path)), (DELETE, versioned(path))))
    assert await session.refused(EXISTS, watched(path)) == NO_NODE


async def test_renewal(session: Session, connect: Connect, root: str) -> None:
    """One check of the own ephemeral znode: it changes nothing and fires nothing, but takes a zxid."""
    watcher = await connect()
    path = await session.create(f"{root}/e", flags=EPHEMERAL)
    stat = await watcher.stat(path, watch=True)
    zxid = (await session.ask(PING, xid=-2)).zxid
    reply = await session.done(MULTI, multi((CHECK, versioned(path))))
    assert reply.raw == succeeded(CHECK) + END
    assert reply.zxid == zxid + 1
    assert await watcher.stat(path) == stat
    await session.done(DELETE, versioned(path))
    assert await watcher.event() == (DELETED, path)
    reply = await session.ask(MULTI, multi((CHECK, versioned(path))))
    assert reply.code == OK, "the refusal is inside"
    assert reply.raw == failed(NO_NODE)


async def test_renewal_by_a_version(session: Session, root: str) -> None:
    assert (await session.done(MULTI, multi((CHECK, versioned(root, 0))))).raw == succeeded(CHECK) + END
    assert (await session.done(MULTI, multi((CHECK, versioned(root, 1))))).raw == failed(BAD_VERSION)


async def test_empty_multi(session: Session) -> None:
    assert (await session.done(MULTI, multi())).raw == END


async def test_reads_are_no_part_of_it(session: Session, root: str) -> None:
    request = multi((CHECK, versioned(root)), (GET_DATA, watched(root)))
    assert await session.refused(MULTI, request) == MARSHALLING_ERROR
    await session.quiet()


async def test_garbage_inside(session: Session, root: str) -> None:
    request = multi((CREATE, create(f"{root}/a")))[:-9] + struct.pack(">i?i", 99, False, -1) + integer(0)
    assert await session.refused(MULTI, request) == MARSHALLING_ERROR
    assert await session.refused(EXISTS, watched(f"{root}/a")) == NO_NODE


async def test_events_come_in_order_before_the_reply(session: Session, root: str) -> None:
    await session.create(f"{root}/a")
    await session.done(GET_CHILDREN, watched(root, watch=True))
    for name in "ab":
        await session.ask(EXISTS, watched(f"{root}/{name}", watch=True))
    events = await session.events_before_reply(
        MULTI, multi((CREATE, create(f"{root}/b")), (DELETE, versioned(f"{root}/a")))
    )
    assert events == [(CREATED, f"{root}/b"), (CHILDREN_CHANGED, root), (DELETED, f"{root}/a")]
