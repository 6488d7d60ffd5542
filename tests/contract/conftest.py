"""Every contract test runs twice: on the embedded server, and on a real ZooKeeper, which must be installed."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.zookeeper import ZooKeeperServer

from .wire import CLOSE, CREATE, Session, Wire, create

Connect = Callable[..., Awaitable[Session]]
Dial = Callable[[], Awaitable[Wire]]

_numbers = itertools.count()


@pytest.fixture(scope="session")
def zookeeper() -> Iterator[ZooKeeperServer]:
    """One real server for all tests, with the embedded server's times."""
    with ZooKeeperServer(tick_time=0.2, properties={"znode.container.checkIntervalMs": "200"}) as server:
        yield server


@pytest.fixture(params=["embedded", "zookeeper"])
async def hosts(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Where the server listens."""
    if request.param == "zookeeper":
        yield request.getfixturevalue("zookeeper").hosts
        return
    async with EmbeddedServer(tick_time=0.2, max_session_timeout=4.0, container_check_interval=0.2) as server:
        yield server.hosts


@pytest.fixture
async def dial(hosts: str) -> AsyncIterator[Dial]:
    """Opens a connection, without a session.

    All sessions are closed in the end: were they left to expire, they would take zxids in the next test.
    """
    wires: list[Wire] = []

    async def dial() -> Wire:
        wires.append(await Wire.open(hosts))
        return wires[-1]

    yield dial
    for wire in wires:
        await wire.close()
    for session_id, password in {wire.session for wire in wires}:
        wire = await Wire.open(hosts)
        if (await wire.connect(session_id=session_id, password=password)).session_id:
            await wire.ask(CLOSE)
        await wire.close()


@pytest.fixture
def connect(dial: Dial) -> Connect:
    """Opens a connection with a session; takes the arguments of `Wire.connect`."""

    async def connect(**arguments: object) -> Session:
        wire = await dial()
        return Session(wire, await wire.connect(**arguments))  # type: ignore[arg-type]

    return connect


@pytest.fixture
async def session(connect: Connect) -> Session:
    """A session of 4 seconds, the longest."""
    return await connect()


@pytest.fixture
async def root(session: Session) -> str:
    """A znode of the test's own: the real server is shared by all."""
    path = f"/contract-{os.getpid()}-{next(_numbers)}"
    await session.done(CREATE, create(path))
    return path
