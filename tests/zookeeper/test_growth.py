"""Nothing grows: ten thousand cancelled waits, fired watches, cancelled requests and reads leave no object behind."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from aiozk import protocol

from aioelect import Client
from aioelect.testing.zookeeper import ZooKeeperServer

from .conftest import Open

COUNT, BATCH = 10_000, 500
KEPT = 10
"""Objects of a kind that may be more at the end: what the interpreter remembers of its first time, and packets under way."""

CREATED, DELETED = protocol.WatchEvent.CREATED, protocol.WatchEvent.DELETED


async def cancelled_waits(client: Client, other: Client, path: str, number: int) -> None:
    wait = client.wait_for_events([CREATED, DELETED], f"{path}/{number}")
    await client.exists(f"{path}/{number}", watch=True)
    wait.cancel()


async def waits_for_a_state(client: Client, other: Client, path: str, number: int) -> None:
    client.session.state.wait_for("lost", "suspended").cancel()


async def fired_watches(client: Client, other: Client, path: str, number: int) -> None:
    fired = client.wait_for_events([CREATED], f"{path}/{number}")
    await client.exists(f"{path}/{number}", watch=True)
    await other.create(f"{path}/{number}", ephemeral=True)
    await fired
    await other.delete(f"{path}/{number}")


async def cancelled_requests(client: Client, other: Client, path: str, number: int) -> None:
    asking = asyncio.ensure_future(client.exists(f"{path}/{number}", watch=True))
    await asyncio.sleep(0)
    asking.cancel()


async def cancelled_creates(client: Client, other: Client, path: str, number: int) -> None:
    creating = asyncio.ensure_future(client.create(f"{path}/{number}", ephemeral=True))
    await asyncio.sleep(0)
    creating.cancel()
    await asyncio.wait([creating])


async def reads(client: Client, other: Client, path: str, number: int) -> None:
    await client.create(f"{path}/{number}", ephemeral=True)
    await client.get(f"{path}/{number}")
    await client.get_children(path)
    await client.delete(f"{path}/{number}")


async def failures(client: Client, other: Client, path: str, number: int) -> None:
    assert not await client.exists(f"{path}/{number}")


Act = Callable[[Client, Client, str, int], Awaitable[None]]


@pytest.mark.parametrize(
    "act", [cancelled_waits, waits_for_a_state, fired_watches, cancelled_requests, cancelled_creates, reads, failures]
)
@pytest.mark.timeout(120)
async def test_nothing_grows(act: Act, zookeeper: ZooKeeperServer, open_client: Open, path: str) -> None:
    client, other = await open_client(zookeeper.hosts, session_timeout=20.0), await open_client(zookeeper.hosts)
    await other.create(path)
    await batches(act, client, other, path, 2 * BATCH)
    await objects()  # the first time leaves something behind
    before = await objects()
    await batches(act, client, other, path, COUNT)
    after = await objects()
    grown = {kind: number for kind, number in (after - before).items() if number > KEPT}
    assert not grown
    assert not client.session.watch_callbacks
    assert len(client.session._watches) == 0
    assert not client.session.state.futures
    assert client.session.conn is not None
    assert client.session.conn.oldest_request is None
    assert len(client.janitor) == 0
    assert len(client.stat_cache) <= 1_000
    await other.delete(path, force=True)


async def batches(act: Act, client: Client, other: Client, path: str, count: int) -> None:
    for start in range(0, count, BATCH):
        await asyncio.gather(*(act(client, other, path, number) for number in range(start, start + BATCH)))
    await client.exists("/")


async def objects() -> Counter[str]:
    """How many objects of each type there are."""
    await sweep_timers()
    gc.collect()
    return Counter(type(each).__qualname__ for each in gc.get_objects())


async def sweep_timers() -> None:
    """asyncio keeps timers that were cancelled until they are a hundred, and more than half of all. Now they are."""
    loop = asyncio.get_running_loop()
    for _ in range(1_000):
        loop.call_later(3600, print).cancel()
    await asyncio.sleep(0)
