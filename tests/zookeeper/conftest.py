"""Clients that are closed after the test, a proxy before the real server, and a record of events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from aioelect import Client, connect, events
from aioelect.testing.proxy import FaultProxy
from aioelect.testing.zookeeper import ZooKeeperEnsemble, ZooKeeperServer

E = TypeVar("E", bound=events.Event)

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
