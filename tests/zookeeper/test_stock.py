"""What ``aiozk.ZKClient`` gets wrong and ``aioelect.Client`` gets right: each test fails, strictly, on the stock client."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiozk
import pytest
from aiozk import exc, protocol
from aiozk.protocol.acl import AUTHED_UNRESTRICTED

from aioelect import Client, Digest
from aioelect.testing.proxy import CREATE_SESSION, FaultProxy
from aioelect.testing.zookeeper import ZooKeeperServer

Make = Callable[..., Awaitable[Any]]

CREATE2, EXISTS, SET_WATCHES = 15, 3, 101
DELETED = protocol.WatchEvent.DELETED


def row(reason: str) -> pytest.MarkDecorator:
    """A test for both clients; ``reason`` says what the stock one does."""
    stock = pytest.param(aiozk.ZKClient, marks=pytest.mark.xfail(strict=True, reason=reason), id="aiozk")
    return pytest.mark.parametrize("kind", [pytest.param(Client, id="aioelect"), stock])


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes and starts a client of either kind; in the end it is closed or, if it is a stock one, torn down."""
    clients: list[Any] = []

    async def make(kind: Any, hosts: str, session_timeout: float = 2.0, *, start: bool = True, **options: Any) -> Any:
        client = kind(hosts, session_timeout=session_timeout, **options)
        clients.append(client)
        if start:
            await asyncio.wait_for(client.start(), 5)
        return client

    yield make
    for client in clients:
        await (client.close() if isinstance(client, Client) else tear_down(client.session))
    clients.clear()
    gc.collect()


async def tear_down(session: Any) -> None:
    """A stock session may be unable to close: takes everything away from it."""
    session.closing = True
    tasks = [
        task
        for task in asyncio.all_tasks()
        if "aiozk" in getattr(task.get_coro(), "__qualname__", "") or is_aiozks(task)
    ]
    for task in tasks:
        task.cancel()
    if session.heartbeat_handle is not None:
        session.heartbeat_handle.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=5)
    if session.conn is not None and session.conn.writer is not None:
        session.conn.writer.transport.abort()
    await asyncio.sleep(0.01)


def is_aiozks(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "/aiozk/" in code.co_filename


async def reconnect(client: Any) -> None:
    """Ends the connection in a way that both clients notice, and waits for the next one."""
    await client.session.conn.close(1)
    await asyncio.wait_for(client.session.state.wait_for("suspended", "lost"), 5)
    await asyncio.wait_for(client.session.ensure_safe_state(), 5)


# The end of a connection


@row("an end of file is swallowed: the state stays 'connected' for a third of the session timeout and more")
async def test_the_end_of_a_connection_is_noticed(kind: Any, proxy: FaultProxy, make: Make) -> None:
    client = await make(kind, proxy.hosts, 10.0)
    suspended = client.session.state.wait_for("suspended")
    proxy.sever()
    await asyncio.wait_for(suspended, 1)


@row("a request that was pending at the end of file hangs")
async def test_a_request_that_was_pending_ends(kind: Any, proxy: FaultProxy, make: Make) -> None:
    client = await make(kind, proxy.hosts, 10.0)
    proxy.lose_reply(EXISTS)
    assert await asyncio.wait_for(client.exists("/"), 2)


@row("with no server to be reached, requests hang for ever")
async def test_requests_have_a_deadline(kind: Any, proxy: FaultProxy, make: Make) -> None:
    client = await make(kind, proxy.hosts, 0.6)
    proxy.cut()
    with pytest.raises(exc.ZKError):
        await asyncio.wait_for(client.exists("/"), 3)


@row("a frozen server is given up only after T and more")
async def test_a_silent_server_is_given_up_in_time(kind: Any, proxy: FaultProxy, make: Make) -> None:
    client = await make(kind, proxy.hosts, 3.0)
    suspended = client.session.state.wait_for("suspended")
    await client.exists("/")
    proxy.blackhole()
    await asyncio.wait_for(suspended, 2 + 0.5)


# Watches


@row("SetWatches leaves DELETED out")
async def test_a_watch_on_a_deletion_survives_a_reconnect(
    kind: Any, proxy: FaultProxy, make: Make, other: Client, path: str
) -> None:
    client = await make(kind, proxy.hosts)
    await other.create(path)
    gone = client.wait_for_events([DELETED], path)
    await client.exists(path, watch=True)
    await reconnect(client)
    await other.delete(path)
    await asyncio.wait_for(gone, 1)


@row("a change of its data uses the one-shot watch up: an election never sees its predecessor go")
async def test_a_deletion_after_a_change_is_seen(
    kind: Any, zookeeper: ZooKeeperServer, make: Make, other: Client, path: str
) -> None:
    client = await make(kind, zookeeper.hosts)
    await other.create(path)
    gone = client.wait_for_events([DELETED], path)
    await client.exists(path, watch=True)
    await other.set_data(path, b"changed")
    await other.delete(path)
    await asyncio.wait_for(gone, 1)


@row("its LeaderElection hangs when the predecessor's data was changed")
async def test_aiozks_own_election_goes_on_after_a_change_of_data(
    kind: Any, zookeeper: ZooKeeperServer, make: Make, other: Client, path: str
) -> None:
    first, second = await make(kind, zookeeper.hosts), await make(kind, zookeeper.hosts)
    leading, waiting = first.recipes.LeaderElection(path), second.recipes.LeaderElection(path)
    await leading.volunteer()
    volunteering = asyncio.create_task(waiting.volunteer())
    try:
        async with asyncio.timeout(5):
            while len(names := sorted(await other.get_children(path), key=lambda name: name[-10:])) < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # until it watches
        await other.set_data(f"{path}/{names[0]}", b"changed")
        await leading.resign()
        await asyncio.wait_for(asyncio.shield(waiting.wait_for_leadership()), 1.5)
        await waiting.resign()
    finally:
        volunteering.cancel()


@row("a second drop before the reply to SetWatches deadlocks the repair loop")
async def test_a_drop_while_the_watches_are_set_again(kind: Any, proxy: FaultProxy, make: Make, path: str) -> None:
    client = await make(kind, proxy.hosts, 0.6)
    client.wait_for_events([protocol.WatchEvent.CREATED], path)
    await client.exists(path, watch=True)
    lost = proxy.lose_reply(SET_WATCHES)
    proxy.sever()
    await asyncio.wait_for(lost.wait(), 5)
    await asyncio.wait_for(client.exists("/"), 3)
    assert len(proxy.requests) < 100


# Writes


@row("a create whose reply was lost is sent again: two znodes of one live session")
async def test_a_write_is_not_repeated(kind: Any, proxy: FaultProxy, make: Make, other: Client, path: str) -> None:
    client = await make(kind, proxy.hosts, 0.6)
    await other.create(path)
    proxy.lose_reply(CREATE2, then="rst")
    with contextlib.suppress(exc.ConnectError):
        await asyncio.wait_for(client.create(f"{path}/n-", sequential=True), 5)
    assert len(await other.get_children(path)) == 1


@row("a cancelled create leaves its znode")
async def test_a_cancelled_create_leaves_no_znode(
    kind: Any, zookeeper: ZooKeeperServer, make: Make, other: Client, path: str
) -> None:
    client = await make(kind, zookeeper.hosts)
    creating = asyncio.create_task(client.create(path))
    for _ in range(3):
        await asyncio.sleep(0)
    creating.cancel()
    await asyncio.wait([creating])
    await client.exists("/")
    assert not await other.exists(path)


# The session


@row("a connect reply that was lost throws the session away although it lives")
async def test_a_broken_handshake_costs_a_retry_and_not_the_session(kind: Any, proxy: FaultProxy, make: Make) -> None:
    client = await make(kind, proxy.hosts)
    session_id = client.session.session_id
    proxy.lose_reply(CREATE_SESSION)
    await reconnect(client)
    assert client.session.session_id == session_id


@row("an unanswered connect request changes the session id without LOST")
async def test_no_session_is_replaced_in_silence(kind: Any, proxy: FaultProxy, make: Make) -> None:
    client = await make(kind, proxy.hosts)
    session_id = client.session.session_id
    lost = client.session.state.wait_for("lost")
    proxy.lose_reply(CREATE_SESSION, then="silence")
    await reconnect(client)
    assert lost.done() or client.session.session_id == session_id


@row("hundreds of attempts a second, without backoff")
async def test_a_server_that_closes_at_the_handshake_is_no_busy_loop(kind: Any, proxy: FaultProxy, make: Make) -> None:
    client = await make(kind, proxy.hosts)
    proxy.lose_reply(CREATE_SESSION, count=100_000)
    await client.session.conn.close(1)
    await asyncio.wait_for(client.session.state.wait_for("suspended", "lost"), 5)
    before = proxy.connections
    await asyncio.sleep(1)
    assert 1 <= proxy.connections - before < 20


# Growth


@row("cancelled waits are kept for ever")
async def test_cancelled_waits_are_forgotten(kind: Any, zookeeper: ZooKeeperServer, make: Make, path: str) -> None:
    client = await make(kind, zookeeper.hosts)
    for number in range(100):
        client.wait_for_events([DELETED], f"{path}-{number}").cancel()
    waits = [client.session.state.wait_for("lost") for _ in range(100)]
    for wait in waits:
        wait.cancel()
    await asyncio.sleep(0)
    assert not client.session.watch_callbacks
    assert not client.session.state.futures.get("lost")


@row("the stat cache never shrinks")
async def test_the_stat_cache_is_bounded(kind: Any, zookeeper: ZooKeeperServer, make: Make, path: str) -> None:
    client = await make(kind, zookeeper.hosts)
    await client.create(path)
    await asyncio.gather(*(client.create(f"{path}/{number}", ephemeral=True) for number in range(1500)))
    assert len(client.stat_cache) <= 1000


@row("an end of file inside a frame spins for three seconds")
async def test_half_a_frame_is_no_busy_loop(kind: Any, proxy: FaultProxy, make: Make) -> None:
    client = await make(kind, proxy.hosts)
    proxy.lose_reply(EXISTS, then="half")
    asking = asyncio.create_task(client.exists("/"))
    before, spent, give_up = time.process_time(), 0.0, time.monotonic() + 2
    while spent < 0.1 and time.monotonic() < give_up:  # who spins gets as much on a busy machine, too
        await asyncio.sleep(0.1)
        spent = time.process_time() - before
    asking.cancel()
    assert spent < 0.1


# Connecting


@row("a host that accepts and never answers hangs start() for ever")
async def test_a_host_that_never_answers_is_passed_by(
    kind: Any, zookeeper: ZooKeeperServer, proxy: FaultProxy, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "sample", lambda servers, _: list(servers))  # the stock client tries them in this order
    proxy.blackhole()
    client = await make(kind, f"{proxy.hosts},{zookeeper.hosts}", start=False)
    await asyncio.wait_for(client.start(), 2)


@row("a server that comes up half a second late is found after four")
async def test_a_server_that_comes_up_late_is_found_soon(kind: Any, proxy: FaultProxy, make: Make) -> None:
    proxy.refuse()
    client = await make(kind, proxy.hosts, start=False)
    starting = asyncio.create_task(client.start())
    await asyncio.sleep(0.5)
    proxy.heal()
    await asyncio.wait_for(starting, 1.5)


@row("every connect takes two TCP connections")
async def test_a_connect_takes_one_connection(kind: Any, proxy: FaultProxy, make: Make) -> None:
    await make(kind, proxy.hosts)
    assert proxy.connections == 1


# Closing


@row("close() hangs for T and raises when the server is away")
async def test_close_returns_when_the_server_is_away(kind: Any, proxy: FaultProxy, make: Make) -> None:
    client = await make(kind, proxy.hosts, 10.0)
    proxy.cut()
    await asyncio.wait_for(client.close(), 2)


@row("requests after close() hang")
async def test_requests_after_close_fail(kind: Any, zookeeper: ZooKeeperServer, make: Make) -> None:
    client = await make(kind, zookeeper.hosts)
    await client.close()
    with pytest.raises(exc.ZKError):
        await asyncio.wait_for(client.exists("/"), 1)


# Hosts and credentials


@row("a chroot in the hosts string kills the repair loop")
async def test_a_chroot_in_the_hosts(
    kind: Any, zookeeper: ZooKeeperServer, make: Make, other: Client, path: str
) -> None:
    client = await make(kind, f"{zookeeper.hosts}{path}", start=False)
    await asyncio.wait_for(client.start(), 2)
    assert await other.exists(path)


@row("a chroot swallows the start of a longer name")
async def test_a_chroot_does_not_swallow_the_start_of_a_longer_name(kind: Any) -> None:
    assert kind("zk", chroot="/app").denormalize_path("/application") == "/application"


@row("authentication is lost at a reconnect")
async def test_authentication_survives_a_reconnect(kind: Any, proxy: FaultProxy, make: Make, path: str) -> None:
    credentials = Digest("user", "secret")
    client = await make(kind, proxy.hosts, **({"auth": credentials} if kind is Client else {}))
    if kind is not Client:
        await client.session.conn.send(credentials.request())
    await client.create(path, acl=[AUTHED_UNRESTRICTED])
    await reconnect(client)
    await asyncio.wait_for(client.get(path), 3)
