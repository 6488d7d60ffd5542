"""The janitor: what must go, goes, however often the connection breaks, and nothing else does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiozk import ACL

from aioelect import Client
from aioelect.testing import jute
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.proxy import FaultProxy
from aioelect.testing.zookeeper import ZooKeeperServer
from aioelect.zookeeper.states import States
from tests import elections, refusals

from .conftest import Open, Record, until, until_gone

DELETE, EXISTS = 2, 3

embedded = elections.embedded
refuse, read_only = refusals.refuse, refusals.read_only


async def make(client: Client, path: str) -> int:
    """An ephemeral znode; the session that owns it."""
    await client.create(path, ephemeral=True)
    assert client.session.session_id is not None
    return client.session.session_id


async def test_delete_returns_when_the_znode_is_gone(zookeeper: ZooKeeperServer, open_client: Open, path: str) -> None:
    client = await open_client(zookeeper.hosts)
    session_id = await make(client, path)
    await client.janitor.delete(path, session_id)
    assert not await client.exists(path)
    await client.janitor.delete(path, session_id)
    assert len(client.janitor) == 0


@pytest.mark.parametrize("ending", ["fin", "rst", "half", "silence"])
@pytest.mark.parametrize("lost", ["request", "reply"])
async def test_a_deletion_is_repeated_until_it_is_confirmed(
    proxy: FaultProxy, open_client: Open, other: Client, path: str, lost: str, ending: Any
) -> None:
    client = await open_client(proxy.hosts, session_timeout=1.5)
    session_id = await make(client, path)
    lose = proxy.lose_request if lost == "request" else proxy.lose_reply
    lose(DELETE, then=ending)
    await asyncio.wait_for(client.janitor.delete(path, session_id), 20)
    assert not await other.exists(path)
    assert client.session.session_id == session_id


async def test_a_znode_that_somebody_else_made_under_the_name_stays(
    proxy: FaultProxy, open_client: Open, other: Client, path: str
) -> None:
    client = await open_client(proxy.hosts)
    session_id = await make(client, path)
    lost = proxy.lose_reply(DELETE, then="silence")
    deleting = asyncio.create_task(client.janitor.delete(path, session_id))
    await asyncio.wait_for(lost.wait(), 10)
    await until_gone(other, path)
    await other.create(path, b"another")
    proxy.sever()
    await asyncio.wait_for(deleting, 10)
    assert await other.get_data(path) == b"another"


async def test_giving_up_the_waiting_does_not_give_up_the_deletion(
    proxy: FaultProxy, open_client: Open, other: Client, record: Record, path: str
) -> None:
    client = await open_client(proxy.hosts, on_event=record)
    session_id = await make(client, path)
    proxy.cut()
    await until(lambda: not client.session.connected)
    deleting = [asyncio.create_task(client.janitor.delete(path, session_id)) for _ in range(2)]
    await asyncio.sleep(0.01)
    for task in deleting:
        task.cancel()
    await asyncio.wait(deleting)
    assert len(client.janitor) == 1  # one znode, one deletion
    proxy.heal()
    await until(lambda: not len(client.janitor))
    assert not await other.exists(path)


async def test_the_end_of_the_session_is_the_end_of_the_deletion(
    proxy: FaultProxy, open_client: Open, other: Client, record: Record, path: str
) -> None:
    client = await open_client(proxy.hosts, session_timeout=0.6, on_event=record)
    session_id = await make(client, path)
    proxy.cut()
    await until(lambda: not client.session.connected)
    deleting = asyncio.create_task(client.janitor.delete(path, session_id))
    await until_gone(other, path)
    await other.create(path)
    proxy.heal()
    await asyncio.wait_for(deleting, 10)
    assert await other.exists(path)
    await other.delete(path)


async def test_a_znode_that_can_not_be_deleted_is_given_up(
    zookeeper: ZooKeeperServer, open_client: Open, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = await open_client(zookeeper.hosts)
    await client.create(path)
    await client.create(f"{path}/child")
    assert client.session.session_id is not None
    await client.janitor.delete(path, client.session.session_id)
    assert "NotEmpty" in caplog.text
    await client.deleteall(path)


@pytest.mark.parametrize("kind", [jute.Delete, jute.Exists])
async def test_a_deletion_that_a_server_refuses_for_a_moment_is_repeated(
    embedded: EmbeddedServer, open_client: Open, refuse: refusals.Refuse, path: str, kind: type
) -> None:
    client = await open_client(embedded.hosts)
    session_id = await make(client, path)
    refused = refuse((jute.Delete, kind), refusals.THROTTLED, count=3)
    await asyncio.wait_for(client.janitor.delete(path, session_id), 20)
    assert len(refused) == 3
    assert path.strip("/") not in await client.get_children("/")


async def test_a_deletion_waits_for_a_server_that_takes_writes(
    embedded: EmbeddedServer, read_only: set[str], path: str
) -> None:
    async with Client(embedded.hosts, session_timeout=3.0, allow_read_only=True) as client:
        session_id = await make(client, path)
        read_only.add(embedded.hosts)
        client.session.drop("by the test")
        await until(lambda: client.session.state.current_state == States.READ_ONLY)
        deleting = asyncio.create_task(client.janitor.delete(path, session_id))
        assert await client.exists(path)  # whatever was asked before was answered
        assert not deleting.done()
        read_only.clear()
        client.session.drop("by the test")
        await asyncio.wait_for(deleting, 20)
        assert not await client.exists(path)


async def test_a_deletion_that_is_forbidden_is_not_called_done_until_the_session_ends(
    embedded: EmbeddedServer, open_client: Open, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    client, admin = await open_client(embedded.hosts), await open_client(embedded.hosts)
    await admin.create(path)
    session_id = await make(client, f"{path}/znode")
    await admin.set_acl(path, [ACL.make("world", "anyone", read=True, create=True, admin=True)], force=True)
    deleting = asyncio.create_task(client.janitor.delete(f"{path}/znode", session_id))
    await until(lambda: "NoAuth" in caplog.text)
    await client.exists(path)
    assert not deleting.done()
    await asyncio.wait_for(client.close(), 5)
    await asyncio.wait_for(deleting, 1)
    assert not await admin.exists(f"{path}/znode")


async def test_closing_the_client_ends_all_clean_up(proxy: FaultProxy, open_client: Open, path: str) -> None:
    client = await open_client(proxy.hosts)
    session_id = await make(client, path)
    proxy.cut()
    await until(lambda: not client.session.connected)
    deleting = asyncio.create_task(client.janitor.delete(path, session_id))
    await asyncio.sleep(0.01)
    await asyncio.wait_for(client.close(), 5)
    await asyncio.wait_for(deleting, 1)
    assert len(client.janitor) == 0
