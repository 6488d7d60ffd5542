"""Creating, reading, changing and deleting znodes, and what is refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from .wire import (
    BAD_ARGUMENTS,
    BAD_VERSION,
    CHECK,
    CONTAINER,
    CREATE,
    CREATE2,
    CREATE_CONTAINER,
    CREATE_TTL,
    DELETE,
    DELETED,
    EPHEMERAL,
    EXISTS,
    GET_ALL_CHILDREN_NUMBER,
    GET_CHILDREN,
    GET_CHILDREN2,
    GET_DATA,
    GET_EPHEMERALS,
    INVALID_ACL,
    NO_CHILDREN_FOR_EPHEMERALS,
    NO_NODE,
    NODE_EXISTS,
    NOT_EMPTY,
    OK,
    PING,
    SEQUENTIAL,
    SET_DATA,
    SYNC,
    UNIMPLEMENTED,
    create,
    set_data,
    string,
    versioned,
    watched,
)

if TYPE_CHECKING:
    from .conftest import Connect
    from .wire import Session


async def test_stat_of_a_new_znode(session: Session, root: str) -> None:
    earliest = int(time.time() * 1000)
    reply = await session.done(CREATE2, create(f"{root}/a", b"data"))
    body = reply.body
    assert body.string() == f"{root}/a"
    stat = body.stat()
    assert not body.data
    assert (stat.czxid, stat.mzxid, stat.pzxid) == (reply.zxid,) * 3
    assert stat.ctime == stat.mtime
    assert earliest - 1 <= stat.ctime <= time.time() * 1000 + 1
    assert (stat.version, stat.cversion, stat.aversion, stat.ephemeral_owner) == (0, 0, 0, 0)
    assert (stat.data_length, stat.children) == (4, 0)
    assert await session.stat(f"{root}/a") == stat


async def test_create_answers_with_the_path_alone(session: Session, root: str) -> None:
    reply = await session.done(CREATE, create(f"{root}/a"))
    assert reply.raw == string(f"{root}/a")


async def test_data(session: Session, root: str) -> None:
    path = await session.create(f"{root}/a", b"\0\xff")
    body = (await session.done(GET_DATA, watched(path))).body
    assert body.buffer() == b"\0\xff"
    assert body.stat() == await session.stat(path)


async def test_no_data(session: Session, root: str) -> None:
    path = await session.create(f"{root}/a", None)
    body = (await session.done(GET_DATA, watched(path))).body
    assert body.buffer() is None
    assert body.stat().data_length == 0


async def test_ephemeral(session: Session, root: str) -> None:
    path = await session.create(f"{root}/a", flags=EPHEMERAL)
    assert (await session.stat(path)).ephemeral_owner == session.id
    assert await session.refused(CREATE, create(f"{path}/b")) == NO_CHILDREN_FOR_EPHEMERALS


async def test_sequence_counts_creations(session: Session, root: str) -> None:
    async def number() -> int:
        path = await session.create(f"{root}/n_", flags=SEQUENTIAL)
        assert path.startswith(f"{root}/n_")
        assert len(path) == len(f"{root}/n_") + 10
        return int(path[-10:])

    assert [await number(), await number()] == [0, 1]
    await session.done(DELETE, versioned(f"{root}/n_0000000001"))
    assert await number() == 2, "a deletion does not count"
    await session.create(f"{root}/other")
    assert await number() == 4, "every creation counts, sequential or not"
    await session.create(f"{root}/n_0000000006")
    assert await session.refused(CREATE, create(f"{root}/n_", flags=SEQUENTIAL)) == NODE_EXISTS
    assert await session.refused(CREATE, create(f"{root}/other")) == NODE_EXISTS
    await session.done(DELETE, versioned(f"{root}/n_0000000006"))
    assert await number() == 6, "what was refused does not count"


async def test_sequence_begins_again_with_a_new_parent(session: Session, root: str) -> None:
    parent = await session.create(f"{root}/p")
    first = await session.create(f"{parent}/", flags=EPHEMERAL | SEQUENTIAL)
    before = await session.stat(first)
    await session.done(DELETE, versioned(first))
    await session.done(DELETE, versioned(parent))
    await session.create(parent)
    again = await session.create(f"{parent}/", flags=EPHEMERAL | SEQUENTIAL)
    assert again == first == f"{parent}/0000000000"
    assert (await session.stat(again)).czxid > before.czxid


async def test_czxid_grows(session: Session, root: str) -> None:
    zxids = [(await session.done(CREATE2, create(f"{root}/n", flags=SEQUENTIAL))).stat.czxid for _ in "abc"]
    assert zxids == [zxids[0], zxids[0] + 1, zxids[0] + 2]


async def test_parent_after_create_and_delete(session: Session, root: str) -> None:
    one = await session.done(CREATE, create(f"{root}/a"))
    stat = await session.stat(root)
    assert (stat.cversion, stat.children, stat.pzxid) == (1, 1, one.zxid)
    two = await session.done(CREATE, create(f"{root}/b"))
    stat = await session.stat(root)
    assert (stat.cversion, stat.children, stat.pzxid) == (2, 2, two.zxid)
    three = await session.done(DELETE, versioned(f"{root}/a"))
    stat = await session.stat(root)
    assert (stat.cversion, stat.children, stat.pzxid) == (3, 1, three.zxid)
    await session.done(SET_DATA, set_data(f"{root}/b", b"x"))
    assert await session.stat(root) == stat, "a child's data is not the parent's business"


async def test_set_data(session: Session, root: str) -> None:
    created = await session.stat(root)
    reply = await session.done(SET_DATA, set_data(root, b"new", 0))
    assert reply.stat == await session.stat(root)
    assert (reply.stat.version, reply.stat.mzxid, reply.stat.data_length) == (1, reply.zxid, 3)
    assert (reply.stat.czxid, reply.stat.ctime, reply.stat.pzxid) == (
        created.czxid,
        created.ctime,
        created.pzxid,
    )
    assert reply.stat.mtime >= created.mtime
    assert (await session.done(SET_DATA, set_data(root, None))).stat.version == 2
    assert await session.refused(SET_DATA, set_data(root, b"", 1)) == BAD_VERSION
    assert await session.refused(SET_DATA, set_data(f"{root}/none", b"")) == NO_NODE
    assert (await session.stat(root)).version == 2


async def test_delete(session: Session, root: str) -> None:
    path = await session.create(f"{root}/a")
    await session.create(f"{path}/b")
    assert await session.refused(DELETE, versioned(path)) == NOT_EMPTY
    assert await session.refused(DELETE, versioned(path, 3)) == BAD_VERSION
    reply = await session.done(DELETE, versioned(f"{path}/b", 0))
    assert reply.raw == b""
    await session.done(DELETE, versioned(path))
    assert await session.refused(DELETE, versioned(path)) == NO_NODE
    assert await session.refused(DELETE, versioned(f"{path}/b")) == NO_NODE


async def test_missing(session: Session, root: str) -> None:
    missing = f"{root}/none"
    for opcode in (EXISTS, GET_DATA, GET_CHILDREN, GET_CHILDREN2):
        assert await session.refused(opcode, watched(missing)) == NO_NODE
    assert await session.refused(GET_ALL_CHILDREN_NUMBER, string(missing)) == NO_NODE
    assert await session.refused(CREATE, create(f"{missing}/a")) == NO_NODE
    assert await session.refused(CREATE, create(f"{missing}/a", flags=SEQUENTIAL)) == NO_NODE


async def test_children(session: Session, root: str) -> None:
    for name in "cab":
        await session.create(f"{root}/{name}")
    await session.create(f"{root}/a/x")
    assert sorted((await session.done(GET_CHILDREN, watched(root))).body.strings()) == ["a", "b", "c"]
    body = (await session.done(GET_CHILDREN2, watched(root))).body
    assert sorted(body.strings()) == ["a", "b", "c"]
    assert body.stat() == await session.stat(root)
    assert not body.data
    assert (await session.done(GET_ALL_CHILDREN_NUMBER, string(root))).body.integer() == 4
    assert (await session.done(GET_CHILDREN, watched(f"{root}/b"))).body.strings() == []


async def test_root(session: Session, root: str) -> None:
    children = (await session.done(GET_CHILDREN, watched("/"))).body.strings()
    assert {root[1:], "zookeeper"} <= set(children)
    assert (await session.stat("/")).czxid == 0
    assert await session.refused(CREATE, create("/")) == NODE_EXISTS
    assert await session.refused(DELETE, versioned("/")) == BAD_ARGUMENTS
    assert await session.refused(DELETE, versioned("/zookeeper")) == BAD_ARGUMENTS
    assert sorted((await session.done(GET_CHILDREN, watched("/zookeeper"))).body.strings()) == [
        "config",
        "quota",
    ]


@pytest.mark.parametrize(
    "name", ["", "a/", ".", "..", "a/..", "a/.", "nul\0", "tab\t", "\x7f", "\ue000", "\ufff0", "😀"]
)
async def test_bad_path(session: Session, root: str, name: str) -> None:
    await session.create(f"{root}/a")
    assert await session.refused(CREATE, create(f"{root}/{name}")) == BAD_ARGUMENTS
    assert await session.refused(SET_DATA, set_data(f"{root}/{name}", b"")) == BAD_ARGUMENTS


@pytest.mark.parametrize("name", ["a//b", "a/../b", "a/./b"])
async def test_bad_path_above(session: Session, root: str, name: str) -> None:
    """A create looks for the parent before it looks at the path."""
    await session.create(f"{root}/a")
    assert await session.refused(CREATE, create(f"{root}/{name}")) == NO_NODE
    assert await session.refused(SET_DATA, set_data(f"{root}/{name}", b"")) == BAD_ARGUMENTS


@pytest.mark.parametrize("name", ["...", ".a", "a.", "a..", "a b", "ä€", "-", "a:b"])
async def test_good_path(session: Session, root: str, name: str) -> None:
    path = await session.create(f"{root}/{name}")
    assert (await session.done(GET_CHILDREN, watched(root))).body.strings() == [name]
    await session.done(DELETE, versioned(path))


async def test_path_without_slash(session: Session) -> None:
    assert await session.refused(CREATE, create("a")) == BAD_ARGUMENTS
    assert await session.refused(DELETE, versioned("a")) == BAD_ARGUMENTS
    assert await session.refused(EXISTS, watched("a")) == NO_NODE
    assert await session.refused(EXISTS, watched("a\0")) == BAD_ARGUMENTS


async def test_slash_at_the_end_of_a_sequential(session: Session, root: str) -> None:
    assert await session.create(f"{root}/", flags=SEQUENTIAL) == f"{root}/0000000000"


@pytest.mark.parametrize("flags", [7, 8, -1])
async def test_unknown_flags(session: Session, root: str, flags: int) -> None:
    assert await session.refused(CREATE, create(f"{root}/a", flags=flags)) == BAD_ARGUMENTS


async def test_time_to_live_is_not_implemented(session: Session, root: str) -> None:
    assert await session.refused(CREATE, create(f"{root}/a", flags=5)) == UNIMPLEMENTED
    lifetime = (1000).to_bytes(8)
    assert await session.refused(CREATE_TTL, create(f"{root}/a", flags=5) + lifetime) == UNIMPLEMENTED
    await session.quiet()


async def test_empty_acl(session: Session, root: str) -> None:
    assert await session.refused(CREATE, create(f"{root}/a", acl=())) == INVALID_ACL


async def test_refused_writes_take_a_zxid(session: Session, root: str) -> None:
    before = (await session.ask(PING, xid=-2)).zxid
    replies = [
        await session.ask(CREATE, create(root)),
        await session.ask(DELETE, versioned(f"{root}/none")),
        await session.ask(SET_DATA, set_data(root, b"", 9)),
        await session.ask(CHECK, versioned(root, 9)),
        await session.ask(CREATE, create(f"{root}/a", flags=5)),
    ]
    assert OK not in [reply.code for reply in replies]
    assert [reply.zxid - before for reply in replies] == [1, 2, 3, 4, 5]
    assert (await session.ask(EXISTS, watched(f"{root}/none"))).zxid == before + 5, "reads take none"


async def test_sync(session: Session, root: str) -> None:
    assert (await session.done(SYNC, string(root))).raw == string(root)
    assert (await session.done(SYNC, string("/none"))).raw == string("/none")


async def test_pipeline_is_answered_in_order(session: Session, root: str) -> None:
    xids = [session.wire.send(CREATE, create(f"{root}/n", flags=SEQUENTIAL)) for _ in range(50)]
    xids.append(session.wire.send(GET_CHILDREN, watched(root)))
    replies = [await session.wire.reply() for _ in xids]
    assert [reply.xid for reply in replies] == xids
    assert [reply.path for reply in replies[:-1]] == [f"{root}/n{number:010d}" for number in range(50)]
    assert len(replies[-1].body.strings()) == 50


async def test_get_ephemerals(session: Session, connect: Connect, root: str) -> None:
    other = await connect()
    mine = {await session.create(f"{root}/e{number}", flags=EPHEMERAL) for number in range(3)}
    await session.create(f"{root}/persistent")
    await other.create(f"{root}/e9", flags=EPHEMERAL)

    async def ephemerals(prefix: str | None) -> set[str]:
        session.wire.send(SYNC, string(root))
        session.wire.send(GET_EPHEMERALS, string(prefix))
        await session.wire.reply()
        return set((await session.wire.reply()).body.strings())

    assert await ephemerals(f"{root}/") == mine
    assert await ephemerals(f"{root}/e1") == {f"{root}/e1"}
    assert await ephemerals(f"{root}/x") == set()
    for everything in ("/", "", " ", None):
        assert await ephemerals(everything) == mine
    await session.done(DELETE, versioned(f"{root}/e1"))
    assert await ephemerals(root) == mine - {f"{root}/e1"}


async def test_container_is_reaped_once_it_had_children(session: Session, root: str) -> None:
    reply = await session.done(CREATE_CONTAINER, create(f"{root}/c", flags=CONTAINER))
    assert reply.path == f"{root}/c"
    assert reply.stat.ephemeral_owner == 0
    unused = (await session.done(CREATE_CONTAINER, create(f"{root}/unused", flags=CONTAINER))).path
    await session.create(f"{root}/c/child", flags=EPHEMERAL)
    await session.stat(f"{root}/c", watch=True)
    await session.done(DELETE, versioned(f"{root}/c/child"))
    assert await session.event() == (DELETED, f"{root}/c")
    assert await session.refused(EXISTS, watched(f"{root}/c")) == NO_NODE
    await session.stat(unused)
    await session.create(f"{unused}/child")


async def test_opcode_makes_the_container_not_the_flag(session: Session, root: str) -> None:
    """A plain create with the container's flag makes a persistent znode, which is not reaped."""
    path = await session.create(f"{root}/p", flags=CONTAINER)
    reaped = (await session.done(CREATE_CONTAINER, create(f"{root}/c"))).path
    for parent in (path, reaped):
        await session.create(f"{parent}/child")
    await session.stat(reaped, watch=True)
    for parent in (path, reaped):
        await session.done(DELETE, versioned(f"{parent}/child"))
    assert await session.event() == (DELETED, reaped)
    await session.stat(path)
