"""``connect()`` and ``Client``: hosts, chroots, credentials, arguments, and calls that are cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import aiozk
import pytest
from aiozk import exc, protocol
from aiozk.protocol.acl import AUTHED_UNRESTRICTED

import aioelect
from aioelect import AioelectError, AuthenticationFailed, Client, Digest, connect
from aioelect import events as ev
from aioelect.ports import Address, World
from aioelect.testing.proxy import FaultProxy
from aioelect.testing.zookeeper import ZooKeeperServer
from aioelect.zookeeper.client import STATS

from .conftest import Open, Record, until

DELETED = protocol.WatchEvent.DELETED
CREATE2 = 15


def test_the_client_is_aiozks() -> None:
    assert issubclass(Client, aiozk.ZKClient)


async def test_connect_is_awaited_or_entered(zookeeper: ZooKeeperServer) -> None:
    awaited = await connect(zookeeper.hosts)
    async with awaited:
        assert await awaited.exists("/")
    with pytest.raises(aioelect.ClientClosed):
        await awaited.exists("/")
    async with connect(zookeeper.hosts) as entered:
        assert await entered.exists("/")
    with pytest.raises(aioelect.ClientClosed):
        await entered.exists("/")


async def test_a_client_may_be_opened_in_one_task_and_closed_in_another(zookeeper: ZooKeeperServer) -> None:
    client = await asyncio.create_task(_open(zookeeper.hosts))
    await asyncio.create_task(client.close())
    assert not client.session.started


async def _open(hosts: str) -> Client:
    return await connect(hosts)


# Hosts


async def test_names_are_resolved_afresh_at_each_connect(
    zookeeper: ZooKeeperServer, open_client: Open, record: Record
) -> None:
    async with FaultProxy(zookeeper.hosts) as first, FaultProxy(zookeeper.hosts) as second:
        behind = first
        asked: list[str] = []

        async def resolve(host: str, port: int) -> Sequence[Address]:
            asked.append(f"{host}:{port}")
            return [("127.0.0.1", behind.port)]

        client = await open_client("zk.example:2181", world=World(resolve=resolve), on_event=record)
        behind = second
        first.cut()
        await record.wait(ev.Reconnected)
        assert set(asked) == {"zk.example:2181"}
        assert second.connections == 1
        await client.close()


async def test_all_addresses_behind_a_name_are_tried(zookeeper: ZooKeeperServer, open_client: Open) -> None:
    async with FaultProxy(zookeeper.hosts) as dead:
        dead.refuse()

        async def resolve(host: str, port: int) -> Sequence[Address]:
            return [("127.0.0.1", dead.port), ("127.0.0.1", zookeeper.port)]

        assert await (await open_client("zk.example", world=World(resolve=resolve))).exists("/")
        assert dead.connections


async def test_a_name_without_address_is_a_trouble_like_others(zookeeper: ZooKeeperServer, open_client: Open) -> None:
    async def resolve(host: str, port: int) -> Sequence[Address]:
        if host == "nowhere":
            raise OSError("no such name")
        return [] if host == "empty" else [("127.0.0.1", port)]

    with pytest.raises(aioelect.ConnectTimeout) as caught:
        await connect("nowhere,empty", world=World(resolve=resolve), timeout=0.3)
    assert "no such name" in str(caught.value)
    assert "has no address" in str(caught.value)
    client = await open_client(f"nowhere,empty,localhost:{zookeeper.port}", world=World(resolve=resolve))
    assert await client.exists("/")


async def test_ipv6_in_brackets(zookeeper: ZooKeeperServer, open_client: Open) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            back, forth = await asyncio.open_connection("127.0.0.1", zookeeper.port)
            with contextlib.closing(forth):
                tasks = [asyncio.create_task(_pump(reader, forth)), asyncio.create_task(_pump(back, writer))]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()

    server = await asyncio.start_server(relay, "::1", 0)
    async with server:
        client = await open_client(f"[::1]:{server.sockets[0].getsockname()[1]}")
        assert client.session.conn is not None
        assert client.session.conn.server.startswith("[::1]:")
        assert await client.exists("/")
        await client.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)


@pytest.mark.parametrize(
    "hosts", ["", "zk:", "zk:0", "zk:x", "zk:65536", ",", "::1", "[::1", "zk/a/", "zk//a", "a..b", "a b"]
)
def test_malformed_hosts_are_refused_at_the_call(hosts: str) -> None:
    with pytest.raises(ValueError, match="hosts"):
        connect(hosts)


@pytest.mark.parametrize("name", ["session_timeout", "timeout", "request_timeout"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_malformed_times_are_refused_at_the_call(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        connect("zk", **{name: value})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=name):
        connect("zk", **{name: "5"})  # type: ignore[arg-type]


# Chroots


async def test_a_chroot_in_the_hosts_is_made_and_kept_to(
    zookeeper: ZooKeeperServer, open_client: Open, other: Client, path: str
) -> None:
    client = await open_client(f"{zookeeper.hosts}{path}/app")
    assert await other.exists(f"{path}/app")
    assert await client.create("/a") == "/a"
    assert await other.exists(f"{path}/app/a")
    assert await client.get_children("/") == ["a"]
    gone = client.wait_for_events([DELETED], "/a")
    await client.exists("/a", watch=True)
    await other.delete(f"{path}/app/a")
    await asyncio.wait_for(gone, 5)
    assert await client.create("/s-", sequential=True) == "/s-0000000001"


async def test_a_chroot_survives_a_reconnect(proxy: FaultProxy, open_client: Open, record: Record, path: str) -> None:
    client = await open_client(f"{proxy.hosts}{path}", on_event=record)
    proxy.sever()
    await record.wait(ev.Reconnected)
    assert await client.create("/a") == "/a"


def test_a_chroot_does_not_swallow_the_start_of_a_longer_name() -> None:
    client = Client("zk:2181/app")
    assert client.denormalize_path("/app/a") == "/a"
    assert client.denormalize_path("/app") == "/"
    assert client.denormalize_path("/application") == "/application"
    assert client.normalize_path("/a") == "/app/a"
    assert client.normalize_path("/") == "/app"
    assert Client("zk/app", chroot="below").chroot == "/app/below"
    assert Client("zk", chroot="/").chroot is None


# Credentials


async def test_digest_credentials_are_sent_on_every_connection(
    proxy: FaultProxy, open_client: Open, other: Client, record: Record, path: str
) -> None:
    client = await open_client(proxy.hosts, auth=Digest("user", "secret"), on_event=record)
    await client.create(path, b"data", acl=[AUTHED_UNRESTRICTED])
    with pytest.raises(exc.NoAuth):
        await other.get_data(path)
    for count in (1, 2):
        proxy.sever()
        await record.wait(ev.Reconnected, count)
        assert await client.get_data(path) == b"data"
    # The server takes any digest for somebody's: a wrong one is refused by the ACL, not at the connect.
    stranger = await open_client(proxy.hosts, auth=[Digest("user", "wrong"), Digest("other", "secret")])
    with pytest.raises(exc.NoAuth):
        await stranger.get_data(path)
    await client.delete(path)


async def test_watches_on_guarded_znodes_survive_a_reconnect(
    proxy: FaultProxy, open_client: Open, record: Record, path: str
) -> None:
    client = await open_client(proxy.hosts, auth=Digest("user", "secret"), on_event=record)
    owner = await open_client(proxy.hosts, auth=Digest("user", "secret"))
    await client.create(path, acl=[AUTHED_UNRESTRICTED])
    gone = client.wait_for_events([DELETED], path)
    await client.get(path, watch=True)
    proxy.sever()
    await record.wait(ev.Reconnected)
    await owner.delete(path)
    await asyncio.wait_for(gone, 5)


async def test_refused_credentials_end_the_client(proxy: FaultProxy, record: Record) -> None:
    class Unknown(Digest):
        def request(self) -> Any:
            return protocol.AuthRequest(type=0, scheme="no-such-scheme", auth=b"x")

    with pytest.raises(AuthenticationFailed, match="'user'"):
        await connect(proxy.hosts, auth=Unknown("user", "secret"), on_event=record, timeout=10)
    assert proxy.connections == 1
    assert len(record.of(ev.Closed)) == 1


def test_credentials_are_checked_and_not_shown() -> None:
    assert "secret" not in repr(Digest("user", "secret"))
    for user in ("", "a:b"):
        with pytest.raises(ValueError, match="digest user"):
            Digest(user, "secret")


# Arguments


@pytest.mark.parametrize("path", ["/a/../b", "/a\0", "/\ud800", "/a/.", "."])
async def test_malformed_paths_are_refused_at_the_call(other: Client, path: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: other.exists(path),
        lambda: other.create(path),
        lambda: other.delete(path),
        lambda: other.get(path),
        lambda: other.set_data(path, b""),
        lambda: other.get_children(path),
        lambda: other.ensure_path(path),
        lambda: other.get_acl(path),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="path"):
            await call()
    with pytest.raises(ValueError, match="path"):
        other.wait_for_events([DELETED], path)


async def test_too_much_data_is_refused_at_the_call(other: Client, path: str) -> None:
    for call in (other.create(path, bytes(1_000_001)), other.set_data("/", "ä" * 500_001)):
        with pytest.raises(ValueError, match=r"1 ?000 ?00[12]|1 MiB"):
            await call
    with pytest.raises(TypeError, match="int"):
        await other.create(path, 5)  # type: ignore[arg-type]
    assert await other.create(path, bytes(1_000_000)) == path
    assert await other.get_data(path) == bytes(1_000_000)
    await other.delete(path)


async def test_the_calls_of_aiozk(other: Client, path: str) -> None:
    await other.ensure_path(f"{path}/a/b")
    await other.create(f"{path}/x", "text", ephemeral=True)
    data, stat = await other.get(f"{path}/x")
    assert (data, stat.version, stat.ephemeral_owner) == (b"text", 0, other.session.session_id)
    assert (await other.set(f"{path}/x", b"new", 0)).version == 1
    await other.set_data(f"{path}/x", None)
    assert await other.get_data(f"{path}/x") in (None, b"")
    assert sorted(await other.get_children(path)) == ["a", "x"]
    acl = await other.get_acl(path)
    await other.set_acl(path, acl)
    transaction = other.begin_transaction()
    transaction.check_version(path, version=0)
    transaction.create(f"{path}/t")
    assert (await transaction.commit()).created == {f"{path}/t"}
    with pytest.raises(exc.NodeExists):
        await other.create(path)
    with pytest.raises(exc.NoNode):
        await other.delete(f"{path}/none")
    await other.deleteall(path)
    assert not await other.exists(path)
    assert other.features.containers
    assert other.features.create_with_stat


async def test_a_write_without_force_needs_the_version_seen_last(
    open_client: Open, other: Client, path: str, zookeeper: ZooKeeperServer
) -> None:
    client = await open_client(zookeeper.hosts)
    await client.create(path)
    await other.set_data(path, b"other")
    with pytest.raises(exc.BadVersion):
        await client.delete(path)
    await client.delete(path, force=True)


async def test_the_stat_cache_is_bounded(other: Client) -> None:
    class Seen:
        version = 1

    for number in range(3 * STATS):
        other._remember(f"/{number}", Seen())  # type: ignore[arg-type]
    assert len(other.stat_cache) == STATS
    assert f"/{3 * STATS - 1}" in other.stat_cache


# Cancellation


@pytest.mark.parametrize("sequential", [False, True])
async def test_a_create_can_be_cancelled_at_any_step(
    zookeeper: ZooKeeperServer, open_client: Open, other: Client, path: str, sequential: bool
) -> None:
    client = await open_client(zookeeper.hosts)
    await client.create(path)
    finished = 0
    for steps in range(40):
        task = asyncio.create_task(client.create(f"{path}/n-", sequential=sequential, ephemeral=not sequential))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            assert await other.get_children(path) == []
        else:
            finished += 1
            await client.delete(task.result())
    assert len(client.janitor) == 0
    await client.delete(path)


async def test_a_create_that_is_cancelled_while_its_answer_is_late_is_taken_back(
    proxy: FaultProxy, open_client: Open, other: Client, path: str
) -> None:
    client = await open_client(proxy.hosts, session_timeout=10.0)
    proxy.freeze("down")
    task = asyncio.create_task(client.create(path))
    await until(lambda: any(request.opcode == CREATE2 for request in proxy.requests))
    task.cancel()
    await asyncio.wait([task])  # bounded: the clean-up goes on by itself
    assert len(client.janitor) == 1
    proxy.thaw()
    await until(lambda: not len(client.janitor))
    assert not await other.exists(path)


async def test_a_create_that_is_cancelled_before_it_was_sent_is_never_sent(
    proxy: FaultProxy, open_client: Open, other: Client, record: Record, path: str
) -> None:
    client = await open_client(proxy.hosts, on_event=record)
    proxy.cut()
    await until(lambda: not client.session.connected)
    task = asyncio.create_task(client.create(path))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    proxy.heal()
    await record.wait(ev.Reconnected)
    assert not await other.exists(path)
    assert CREATE2 not in [request.opcode for request in proxy.requests]


async def test_cancelled_reads_and_waits_leave_nothing(
    zookeeper: ZooKeeperServer, open_client: Open, path: str
) -> None:
    client = await open_client(zookeeper.hosts)
    for steps in range(10):
        wait = client.wait_for_events([DELETED], path)
        task = asyncio.create_task(client.exists(path, watch=True))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        wait.cancel()
        await asyncio.wait([task])
    assert await client.exists("/")
    assert not client.session.watch_callbacks
    assert client.session.conn is not None
    assert client.session.conn.oldest_request is None


def test_errors_are_aiozks_and_ours() -> None:
    assert issubclass(aioelect.ConnectionLoss, exc.ConnectError)
    assert issubclass(aioelect.ConnectionLoss, AioelectError)
    assert issubclass(aioelect.ServerSilent, exc.TimeoutError)
    assert issubclass(aioelect.SessionExpired, exc.SessionLost)
