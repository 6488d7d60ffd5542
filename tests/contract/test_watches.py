"""Which watch fires on what, once, in which order; and what SetWatches makes of watches after a reconnect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .wire import (
    CHECK_WATCHES,
    CHILDREN_CHANGED,
    CREATE,
    CREATED,
    DATA_CHANGED,
    DELETE,
    DELETED,
    EPHEMERAL,
    EXISTS,
    GET_CHILDREN,
    GET_CHILDREN2,
    GET_DATA,
    MARSHALLING_ERROR,
    NO_NODE,
    NO_WATCHER,
    OK,
    PING,
    REMOVE_WATCHES,
    SET_DATA,
    SET_WATCHES,
    Event,
    create,
    integer,
    set_data,
    set_watches,
    string,
    versioned,
    watched,
)

if TYPE_CHECKING:
    from .conftest import Connect
    from .wire import Session

CHILDREN, DATA, ANY = 1, 2, 3


async def zxid(session: Session) -> int:
    return (await session.ask(PING, xid=-2)).zxid


@pytest.mark.parametrize("opcode", [EXISTS, GET_DATA])
async def test_data_watch_fires_on_change(session: Session, root: str, opcode: int) -> None:
    await session.done(opcode, watched(root, watch=True))
    await session.create(f"{root}/a")
    change = SET_DATA, set_data(root, b"x")
    assert await session.events_before_reply(*change) == [(DATA_CHANGED, root)]
    assert await session.events_before_reply(*change) == [], "once"


@pytest.mark.parametrize("opcode", [EXISTS, GET_DATA])
async def test_data_watch_fires_on_deletion(session: Session, root: str, opcode: int) -> None:
    path = await session.create(f"{root}/a")
    await session.done(opcode, watched(path, watch=True))
    assert await session.events_before_reply(DELETE, versioned(path)) == [(DELETED, path)]
    assert await session.events_before_reply(CREATE, create(path)) == [], "once"


async def test_change_uses_the_watch_up(session: Session, root: str) -> None:
    path = await session.create(f"{root}/a")
    await session.stat(path, watch=True)
    assert await session.events_before_reply(SET_DATA, set_data(path, b"x")) == [(DATA_CHANGED, path)]
    assert await session.events_before_reply(DELETE, versioned(path)) == []


async def test_exists_watch_fires_on_creation(session: Session, root: str) -> None:
    path = f"{root}/a"
    assert await session.refused(EXISTS, watched(path, watch=True)) == NO_NODE
    assert await session.events_before_reply(CREATE, create(path)) == [(CREATED, path)]
    assert await session.events_before_reply(DELETE, versioned(path)) == []


@pytest.mark.parametrize("opcode", [GET_DATA, GET_CHILDREN, GET_CHILDREN2])
async def test_refused_read_leaves_no_watch(session: Session, root: str, opcode: int) -> None:
    path = f"{root}/a"
    assert await session.refused(opcode, watched(path, watch=True)) == NO_NODE
    assert await session.events_before_reply(CREATE, create(path)) == []


@pytest.mark.parametrize("opcode", [GET_CHILDREN, GET_CHILDREN2])
async def test_child_watch(session: Session, root: str, opcode: int) -> None:
    async def watch() -> None:
        await session.done(opcode, watched(root, watch=True))

    await watch()
    assert await session.events_before_reply(SET_DATA, set_data(root, b"x")) == []
    assert await session.events_before_reply(CREATE, create(f"{root}/a")) == [(CHILDREN_CHANGED, root)]
    assert await session.events_before_reply(CREATE, create(f"{root}/b")) == []
    await watch()
    assert await session.events_before_reply(SET_DATA, set_data(f"{root}/a", b"x")) == []
    assert await session.events_before_reply(CREATE, create(f"{root}/a/x")) == []
    assert await session.events_before_reply(DELETE, versioned(f"{root}/a/x")) == []
    assert await session.events_before_reply(DELETE, versioned(f"{root}/a")) == [(CHILDREN_CHANGED, root)]


async def test_deletion_fires_both_kinds_of_watch_as_one_event(session: Session, root: str) -> None:
    path = await session.create(f"{root}/a")
    await session.stat(path, watch=True)
    await session.done(GET_CHILDREN, watched(path, watch=True))
    await session.done(GET_CHILDREN, watched(root, watch=True))
    assert await session.events_before_reply(DELETE, versioned(path)) == [
        (DELETED, path),
        (CHILDREN_CHANGED, root),
    ]
    await session.create(path)
    assert await session.events_before_reply(CREATE, create(f"{path}/x")) == [], "the silent one was used up"


async def test_deletion_fires_a_child_watch(session: Session, root: str) -> None:
    path = await session.create(f"{root}/a")
    await session.done(GET_CHILDREN, watched(path, watch=True))
    assert await session.events_before_reply(DELETE, versioned(path)) == [(DELETED, path)]


async def test_creation_tells_the_node_first(session: Session, root: str) -> None:
    await session.ask(EXISTS, watched(f"{root}/a", watch=True))
    await session.done(GET_CHILDREN, watched(root, watch=True))
    assert await session.events_before_reply(CREATE, create(f"{root}/a")) == [
        (CREATED, f"{root}/a"),
        (CHILDREN_CHANGED, root),
    ]


async def test_watching_twice_is_told_once(session: Session, root: str) -> None:
    for opcode in (EXISTS, EXISTS, GET_DATA):
        await session.done(opcode, watched(root, watch=True))
    assert await session.events_before_reply(SET_DATA, set_data(root, b"")) == [(DATA_CHANGED, root)]


async def test_root_is_told_of_its_children(session: Session, root: str) -> None:
    await session.done(GET_CHILDREN, watched("/", watch=True))
    assert await session.events_before_reply(DELETE, versioned(root)) == [(CHILDREN_CHANGED, "/")]


async def test_every_watcher_is_told(session: Session, connect: Connect, root: str) -> None:
    watchers = [await connect() for _ in range(3)]
    for watcher in watchers:
        await watcher.stat(root, watch=True)
    await session.done(DELETE, versioned(root))
    for watcher in watchers:
        assert await watcher.event() == (DELETED, root)
        await watcher.quiet()


async def test_watches_end_with_the_connection(session: Session, connect: Connect, root: str) -> None:
    watcher = await connect()
    await watcher.stat(root, watch=True)
    again = await connect(session_id=watcher.id, password=watcher.password)
    await session.done(SET_DATA, set_data(root, b"x"))
    await again.quiet()


async def test_closing_session_tells_parent_and_node(session: Session, connect: Connect, root: str) -> None:
    leaver = await connect()
    path = await leaver.create(f"{root}/e", flags=EPHEMERAL)
    await session.stat(path, watch=True)
    await session.done(GET_CHILDREN, watched(root, watch=True))
    leaver.wire.send(-11)
    assert [await session.event(), await session.event()] == [(DELETED, path), (CHILDREN_CHANGED, root)]
    await session.quiet()


async def test_set_watches_reports_what_was_missed(session: Session, root: str) -> None:
    """In the order of the lists, whatever the order of what happened."""
    changed, deleted, unchanged = [await session.create(f"{root}/{name}") for name in "abc"]
    parent, dead_parent, idle_parent = [await session.create(f"{root}/{name}") for name in "pqr"]
    since = await zxid(session)
    await session.create(f"{parent}/x")
    await session.done(DELETE, versioned(dead_parent))
    created = await session.create(f"{root}/new")
    await session.done(DELETE, versioned(deleted))
    await session.done(SET_DATA, set_data(changed, b"x"))
    events = await session.events_before_reply(
        SET_WATCHES,
        set_watches(
            since,
            data=[unchanged, deleted, changed],
            exist=[created, f"{root}/never"],
            children=[idle_parent, parent, dead_parent],
        ),
    )
    assert events == [
        (DELETED, deleted),
        (DATA_CHANGED, changed),
        (CREATED, created),
        (CHILDREN_CHANGED, parent),
        (DELETED, dead_parent),
    ]
    # The others wait for their events again.
    assert await session.events_before_reply(DELETE, versioned(unchanged)) == [(DELETED, unchanged)]
    assert await session.events_before_reply(CREATE, create(f"{idle_parent}/x")) == [(CHILDREN_CHANGED, idle_parent)]
    assert await session.events_before_reply(CREATE, create(f"{root}/never")) == [(CREATED, f"{root}/never")]
    # Those that fired are used up.
    assert await session.events_before_reply(SET_DATA, set_data(changed, b"y")) == []
    assert await session.events_before_reply(CREATE, create(f"{parent}/y")) == []


async def test_set_watches_goes_by_the_zxid_told(session: Session, root: str) -> None:
    changed = (await session.done(SET_DATA, set_data(root, b"x"))).zxid
    assert await session.events_before_reply(SET_WATCHES, set_watches(changed, data=[root])) == []
    assert await session.events_before_reply(SET_WATCHES, set_watches(changed - 1, data=[root])) == [
        Event(DATA_CHANGED, root)
    ]


async def test_set_watches_of_a_child_deleted_and_made_again(session: Session, root: str) -> None:
    path = await session.create(f"{root}/a")
    since = await zxid(session)
    await session.done(DELETE, versioned(path))
    await session.create(path)
    events = await session.events_before_reply(SET_WATCHES, set_watches(since, data=[path], children=[root]))
    assert events == [(DATA_CHANGED, path), (CHILDREN_CHANGED, root)], "the deletion itself is never told"


async def test_set_watches_answers_with_its_own_xid(session: Session) -> None:
    reply = await session.ask(SET_WATCHES, set_watches(0), xid=-8)
    assert (reply.xid, reply.code, reply.raw) == (-8, OK, b"")


@pytest.mark.parametrize("kind", [DATA, ANY])
async def test_removing_a_data_watch(session: Session, root: str, kind: int) -> None:
    body = string(root) + integer(kind)
    assert await session.refused(REMOVE_WATCHES, body) == NO_WATCHER
    assert await session.refused(CHECK_WATCHES, body) == NO_WATCHER
    await session.stat(root, watch=True)
    assert await session.refused(REMOVE_WATCHES, string(root) + integer(CHILDREN)) == NO_WATCHER
    assert (await session.done(CHECK_WATCHES, body)).raw == b""
    assert (await session.done(REMOVE_WATCHES, body)).raw == b""
    assert await session.refused(CHECK_WATCHES, body) == NO_WATCHER
    assert await session.events_before_reply(SET_DATA, set_data(root, b"")) == []


async def test_removing_any_removes_both(session: Session, root: str) -> None:
    await session.stat(root, watch=True)
    await session.done(GET_CHILDREN, watched(root, watch=True))
    await session.done(REMOVE_WATCHES, string(root) + integer(ANY))
    assert await session.events_before_reply(CREATE, create(f"{root}/a")) == []
    assert await session.events_before_reply(SET_DATA, set_data(root, b"")) == []


async def test_removing_spares_the_others(session: Session, connect: Connect, root: str) -> None:
    other = await connect()
    for watcher in (session, other):
        await watcher.stat(root, watch=True)
    await session.done(REMOVE_WATCHES, string(root) + integer(DATA))
    assert await session.events_before_reply(SET_DATA, set_data(root, b"")) == []
    assert await other.event() == (DATA_CHANGED, root)


async def test_unknown_kind_of_watch(session: Session, root: str) -> None:
    assert await session.refused(REMOVE_WATCHES, string(root) + integer(9)) == MARSHALLING_ERROR
