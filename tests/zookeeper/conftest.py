"""Clients that are closed after the test, a proxy before the real server, and a record of events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from aioelect import Client, Leader, connect, events, leadership
from aioelect.testing.proxy import FaultProxy
from aioelect.testing.zookeeper import ZooKeeperEnsemble, ZooKeeperServer

from .certificates import Authority

E = TypeVar("E", bound=events.Event)

JAAS = """
Server {
    org.apache.zookeeper.server.auth.DigestLoginModule required user_bob="builder's" user_eva="sécret" user_kim="秘密";
};
"""
"""Users of SASL."""

Open = Callable[..., Coroutine[Any, Any, Client]]


class Record(list[events.Event]):
    """An ``on_event`` handler that remembers, and can be waited on."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def __call__(self, event: events.Event) -> None:
        self.append(event)
        self._changed.set()

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind so far."""
        return [event for event in self if isinstance(event, kind)]

    async def wait(self, kind: type[E], count: int = 1, timeout: float = 30) -> E:
        """The ``count``-th event of this kind, once it has come."""
        async with asyncio.timeout(timeout):
            while len(found := self.of(kind)) < count:
                self._changed.clear()
                await self._changed.wait()
        return found[count - 1]


async def until(condition: Callable[[], object], timeout: float = 30) -> None:
    """Returns when ``condition()`` is true."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.002)


async def until_gone(client: Client, path: str, timeout: float = 30) -> None:
    """Returns when ``client`` does not see the znode any more."""
    async with asyncio.timeout(timeout):
        while await client.exists(path):
            await asyncio.sleep(0.01)


async def lead(client: Client, path: str, record: Record) -> Leader:
    """Waits to be elected, and leads for a moment."""
    async with leadership(client, path, on_event=record) as leader:
        pass
    return leader


async def elect_twice(client: Client, proxy: FaultProxy, seen: Record, rival: Client, path: str) -> None:
    """``client``, behind ``proxy``, is elected, renewed, cut, reconnected with its session and renewed; ``rival`` is next."""
    session_id = client.session.session_id
    first, second = Record(), Record()
    async with leadership(client, path, on_event=first) as leader:
        waiting = asyncio.create_task(lead(rival, path, second))
        await second.wait(events.Queued)
        await first.wait(events.Renewed, 2)
        proxy.sever()
        await seen.wait(events.Reconnected)
        assert client.session.session_id == session_id
        await first.wait(events.Renewed, len(first.of(events.Renewed)) + 2)
        assert leader.is_leader
    assert (await asyncio.wait_for(waiting, 10)).token > leader.token


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
async def open_client() -> AsyncIterator[Open]:
    """``connect()`` with a session timeout of 3 s; what it opens is closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_client(hosts: str, **options: Any) -> Client:
            return await stack.enter_async_context(connect(hosts, **{"session_timeout": 3.0, **options}))

        yield open_client


@pytest.fixture
async def proxy(zookeeper: ZooKeeperServer) -> AsyncIterator[FaultProxy]:
    """Before the real server."""
    async with FaultProxy(zookeeper.hosts) as proxy:
        yield proxy


@pytest.fixture
async def other(zookeeper: ZooKeeperServer, open_client: Open) -> Client:
    """Somebody else, whom no fault concerns."""
    return await open_client(zookeeper.hosts)


@pytest.fixture
async def proxies(ensemble: ZooKeeperEnsemble) -> AsyncIterator[tuple[FaultProxy, ...]]:
    """One before each member of the ensemble."""
    async with contextlib.AsyncExitStack() as stack:
        yield tuple([await stack.enter_async_context(FaultProxy(member.hosts)) for member in ensemble.members])


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs certificates."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def secure_zookeeper(authority: Authority) -> Iterator[ZooKeeperServer]:
    """A real server with a TLS port, for clients with a certificate, and with SASL users; nobody must authenticate."""
    with ZooKeeperServer(tls=authority.server_tls(), jaas=JAAS) as server:
        yield server


@pytest.fixture(scope="session")
def strict_zookeeper(authority: Authority) -> Iterator[ZooKeeperServer]:
    """A real server that serves nobody who has not authenticated by SASL; its TLS is 1.3."""
    with ZooKeeperServer(
        tls=authority.server_tls(),
        jaas=JAAS,
        properties={
            "zookeeper.sessionRequireClientSASLAuth": "true",
            "zookeeper.ssl.protocol": "TLSv1.3",
            "zookeeper.ssl.enabledProtocols": "TLSv1.3",
            "zookeeper.ssl.ciphersuites": "TLS_AES_128_GCM_SHA256",
        },
    ) as server:
        yield server
