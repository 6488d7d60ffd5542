"""Authentication and access lists."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest

from .test_multi import failed
from .wire import (
    ACL,
    AUTH,
    AUTH_FAILED,
    BAD_VERSION,
    CHECK,
    CHILDREN_CHANGED,
    CREATE,
    DATA_CHANGED,
    DELETE,
    DELETED,
    EXISTS,
    GET_ACL,
    GET_CHILDREN,
    GET_DATA,
    INVALID_ACL,
    MULTI,
    NO_AUTH,
    NO_NODE,
    OK,
    OPEN,
    PING,
    SASL,
    SET_ACL,
    SET_DATA,
    SET_WATCHES,
    Closed,
    buffer,
    create,
    integer,
    multi,
    set_acl,
    set_data,
    set_watches,
    string,
    versioned,
    watched,
)

if TYPE_CHECKING:
    from .conftest import Connect
    from .wire import Session

READ, WRITE, MAKE, REMOVE, ADMIN, ALL = 1, 2, 4, 8, 16, 31
ME = ACL(ALL, "auth", "")


def digest(user: str, password: str) -> str:
    return f"{user}:{base64.b64encode(hashlib.sha1(f'{user}:{password}'.encode()).digest()).decode()}"


ALICE = digest("alice", "secret")


async def authenticate(session: Session, secret: bytes = b"alice:secret") -> None:
    reply = await session.ask(AUTH, integer(0) + string("digest") + buffer(secret), xid=-4)
    assert (reply.xid, reply.zxid, reply.code, reply.raw) == (-4, 0, OK, b"")


async def test_default_access(session: Session, root: str) -> None:
    body = (await session.done(GET_ACL, string(root))).body
    assert body.acls() == list(OPEN)
    assert body.stat() == await session.stat(root)


async def test_auth_becomes_the_own_identities(session: Session, root: str) -> None:
    assert await session.refused(CREATE, create(f"{root}/a", acl=[ME])) == INVALID_ACL
    await authenticate(session)
    await authenticate(session, b"bob:x")
    await authenticate(session)
    path = await session.create(f"{root}/a", acl=[ME])
    acl = (await session.done(GET_ACL, string(path))).body.acls()
    assert sorted(acl) == [ACL(ALL, "digest", ALICE), ACL(ALL, "digest", digest("bob", "x"))]


async def test_digest(session: Session, connect: Connect, root: str) -> None:
    stranger = await connect()
    path = await session.create(f"{root}/a", acl=[ACL(ALL, "digest", ALICE)])
    await session.create(f"{root}/a2")
    for who in (session, stranger):
        assert await who.refused(GET_DATA, watched(path)) == NO_AUTH
        assert await who.refused(GET_CHILDREN, watched(path)) == NO_AUTH
        assert await who.refused(GET_ACL, string(path)) == NO_AUTH
        assert await who.refused(SET_DATA, set_data(path, b"")) == NO_AUTH
        assert await who.refused(SET_ACL, set_acl(path, OPEN)) == NO_AUTH
        assert await who.refused(CREATE, create(f"{path}/x")) == NO_AUTH
        assert (await who.ask(MULTI, multi((CHECK, versioned(path))))).raw == failed(NO_AUTH)
        assert (await who.ask(EXISTS, watched(path))).code == OK, "exists needs no permission"
    await authenticate(session)
    await session.create(f"{path}/x")
    await session.done(GET_DATA, watched(path))
    assert await stranger.refused(DELETE, versioned(f"{path}/x")) == NO_AUTH
    await session.done(DELETE, versioned(f"{path}/x"))
    await stranger.done(DELETE, versioned(path))  # The parent's list rules deletion.


async def test_watches_that_may_not_be_told(session: Session, connect: Connect, root: str) -> None:
    """A watcher who may not read the znode is not told, and its watch is used up (CVE-2024-23944)."""
    stranger = await connect()
    await authenticate(session)
    path = await session.create(f"{root}/a", acl=[ME])
    since = (await session.ask(PING, xid=-2)).zxid
    await stranger.stat(path, watch=True)
    await session.done(SET_DATA, set_data(path, b""))
    await stranger.quiet()
    await session.done(SET_ACL, set_acl(path, OPEN))
    await session.done(SET_DATA, set_data(path, b""))
    await stranger.quiet()
    await session.done(SET_ACL, set_acl(path, [ME]))
    assert await stranger.events_before_reply(SET_WATCHES, set_watches(since, data=[path])) == [(DATA_CHANGED, path)], (
        "SetWatches tells it"
    )


async def test_deletion_that_may_not_be_told(session: Session, connect: Connect, root: str) -> None:
    stranger, friend = await connect(), await connect()
    await authenticate(session)
    await authenticate(friend)
    path = await session.create(f"{root}/a", acl=[ME])
    for watcher in (stranger, friend):
        await watcher.stat(path, watch=True)
        await watcher.done(GET_CHILDREN, watched(root, watch=True))
    await session.done(DELETE, versioned(path))
    assert await stranger.event() == (CHILDREN_CHANGED, root)
    assert [await friend.event(), await friend.event()] == [(DELETED, path), (CHILDREN_CHANGED, root)]


async def test_wrong_password_is_another_identity(session: Session, root: str) -> None:
    path = await session.create(f"{root}/a", acl=[ACL(ALL, "digest", ALICE)])
    await authenticate(session, b"alice:wrong")
    assert await session.refused(GET_DATA, watched(path)) == NO_AUTH


@pytest.mark.parametrize("permission", [READ, WRITE, MAKE, REMOVE, ADMIN])
async def test_each_permission(session: Session, root: str, permission: int) -> None:
    path = await session.create(f"{root}/a")
    await session.create(f"{path}/old")
    await session.done(SET_ACL, set_acl(path, [ACL(permission, "world", "anyone")]))
    allowed = {
        READ: (await session.ask(GET_CHILDREN, watched(path))).code,
        WRITE: (await session.ask(SET_DATA, set_data(path, b""))).code,
        MAKE: (await session.ask(CREATE, create(f"{path}/new"))).code,
        REMOVE: (await session.ask(DELETE, versioned(f"{path}/old"))).code,
        ADMIN: (await session.ask(SET_ACL, set_acl(path, OPEN))).code,
    }
    assert [need for need, code in allowed.items() if code == OK] == [permission]
    assert set(allowed.values()) == {OK, NO_AUTH}


async def test_set_acl(session: Session, root: str) -> None:
    before = await session.stat(root)
    reply = await session.done(SET_ACL, set_acl(root, [ACL(ALL, "world", "anyone")], 0))
    assert reply.stat == before._replace(aversion=1) == await session.stat(root)
    assert await session.refused(SET_ACL, set_acl(root, OPEN, 0)) == BAD_VERSION
    assert await session.refused(SET_ACL, set_acl(root, ())) == INVALID_ACL
    assert await session.refused(SET_ACL, set_acl(f"{root}/none", OPEN)) == NO_NODE
    assert await session.refused(GET_ACL, string(f"{root}/none")) == NO_NODE


async def test_duplicates_are_dropped(session: Session, root: str) -> None:
    path = await session.create(f"{root}/a", acl=[*OPEN, *OPEN])
    assert (await session.done(GET_ACL, string(path))).body.acls() == list(OPEN)


async def test_hashes_are_for_administrators(session: Session, root: str) -> None:
    path = await session.create(f"{root}/a", acl=[ACL(ALL, "digest", ALICE), ACL(READ, "world", "anyone")])
    shown = [ACL(ALL, "digest", "alice:x"), ACL(READ, "world", "anyone")]
    assert (await session.done(GET_ACL, string(path))).body.acls() == shown
    await authenticate(session)
    assert (await session.done(GET_ACL, string(path))).body.acls()[0].id == ALICE


@pytest.mark.parametrize(
    ("scheme", "identity"),
    [("world", "somebody"), ("unheard-of", "x"), ("digest", "alice"), ("digest", "a:b:c"), (None, "x")],
)
async def test_invalid_acl(session: Session, root: str, scheme: str | None, identity: str) -> None:
    assert await session.refused(CREATE, create(f"{root}/a", acl=[ACL(ALL, scheme, identity)])) == INVALID_ACL


async def test_identities_end_with_the_connection(session: Session, connect: Connect, root: str) -> None:
    await authenticate(session)
    path = await session.create(f"{root}/a", acl=[ME])
    again = await connect(session_id=session.id, password=session.password)
    assert await again.refused(GET_DATA, watched(path)) == NO_AUTH
    await authenticate(again)
    await again.done(GET_DATA, watched(path))


async def test_unknown_scheme(session: Session) -> None:
    reply = await session.ask(AUTH, integer(0) + string("unheard-of") + buffer(b"x"), xid=-4)
    assert (reply.zxid, reply.code, reply.raw) == (0, AUTH_FAILED, b"")
    with pytest.raises(Closed):
        await session.wire.read()


async def test_sasl_without_configuration(session: Session) -> None:
    """ZooKeeper without a login configuration accepts anybody, as nobody."""
    reply = await session.ask(SASL, buffer(b""))
    assert (reply.zxid, reply.code, reply.raw) == (0, OK, buffer(None))
    await session.quiet()
