"""The janitor: what must go, goes, however often the connection breaks, and nothing else does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aioelect import Client
from aioelect.testing.proxy import FaultProxy
from aioelect.testing.zookeeper import ZooKeeperServer

from .conftest import Open, Record, until, until_gone

DELETE, EXISTS = 2, 3


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
