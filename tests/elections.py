"""What the tests of elections share: tapes of events, contenders in tasks of their own, ways to end a session."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest
from aiozk import exc

import aioelect
from aioelect import events
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.proxy import FaultProxy
from aioelect.zookeeper import wire

T = 2.0
"""The session timeout of the tests, in seconds."""

PATIENCE = 15.0
"""Seconds after which a condition that did not come true fails a test."""

EXISTS, GET_DATA, DELETE, PING, GET_CHILDREN, MULTI, CREATE, CREATE_CONTAINER = 3, 4, 2, 11, 12, 14, 15, 19
"""Opcodes on the wire."""

WATCH_OWN = LIST = GET_CHILDREN
"""The own znode is watched as a folder is listed."""

E = TypeVar("E", bound=events.Event)
R = TypeVar("R")


class Tape:
    """An ``on_event`` handler that remembers, and can be waited for."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._news = asyncio.Event()

    def __call__(self, event: events.Event) -> None:
        self.events.append(event)
        self._news.set()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def names(self) -> list[str]:
        """The kinds of the events, without the renewals, which come as often as time allows."""
        return [type(event).__name__ for event in self.events if not isinstance(event, events.Renewed)]

    async def wait(self, kind: type[E], count: int = 1, where: Callable[[E], bool] = lambda _: True) -> E:
        """The ``count``-th event of that kind, as soon as there is one."""

        async def look() -> E:
            while len(found := [event for event in self.of(kind) if where(event)]) < count:
                self._news.clear()
                await self._news.wait()
            return found[count - 1]

        return await soon(look())


async def soon(awaitable: Awaitable[R]) -> R:
    """Waits, with a bound that only a failing test reaches."""
    return await asyncio.wait_for(awaitable, PATIENCE)


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Waits until ``condition`` holds."""

    async def ask() -> None:
        while True:
            answer = condition()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.005)

    await soon(ask())


def is_settled(client: aioelect.Client) -> bool:
    """Whether the client's contenders sleep, or lead: they have asked the server all that they want to know."""
    return not any(dependent._errands for dependent in client.dependents if isinstance(dependent, aioelect.Candidate))


def knows_requests(client: aioelect.Client) -> bool:
    """Whether the client's contenders have read what is asked of the leader."""
    candidates = [dependent for dependent in client.dependents if isinstance(dependent, aioelect.Candidate)]
    return all(candidate._succession._control.requests is not None for candidate in candidates)


async def queue(client: aioelect.Client, path: str) -> list[str]:
    """The names of contenders in an election folder, in order."""
    try:
        names = [name for name in await client.get_children(path) if name[-10:].isdigit()]
        return sorted(names, key=lambda name: name[-10:])
    except exc.NoNode:
        return []


async def expire(client: aioelect.Client) -> None:
    """Ends a client's session from outside, as an expiry does: resumes it elsewhere and closes it, until that is done.

    The client hears nothing meanwhile: it would resume its session, and be told that its znodes are deleted.
    """
    session = client.session
    session_id, password, conn = session.session_id, session._password, session.conn
    assert session_id is not None
    assert conn is not None
    host, port = session.hosts.servers[0]
    conn.pause_reading()
    while True:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            frame = wire.connect_frame(
                last_zxid=0, timeout=T, session_id=session_id, password=password, read_only=False
            )
            writer.write(frame + wire.close_frame(1))
            size = int.from_bytes(await reader.readexactly(4), "big")
            if wire.parse_connect_reply(await reader.readexactly(size)).session_id == 0:
                break
            await reader.read()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    conn.resume_reading()


class Contending:
    """A contender in a task of its own, which leads until it is released."""

    def __init__(self, client: aioelect.Client, path: str, identity: str, **options: Any) -> None:
        self.identity = identity
        self.tape = Tape()
        self.leader: aioelect.Leader | None = None
        self._led = asyncio.Event()
        self._released = asyncio.Event()
        self.task = asyncio.create_task(self._contend(client, path, options))

    async def _contend(self, client: aioelect.Client, path: str, options: dict[str, Any]) -> None:
        election = aioelect.leadership(client, path, identity=self.identity, on_event=self.tape, **options)
        async with election as self.leader:
            self._led.set()
            await self._released.wait()

    @property
    def leads(self) -> bool:
        return self._led.is_set() and not self.task.done()

    async def queued(self, position: int | None = None) -> events.Queued:
        return await self.tape.wait(events.Queued, where=lambda event: position in (None, event.position))

    async def elected(self) -> aioelect.Leader:
        led = asyncio.ensure_future(self._led.wait())
        try:
            await soon(asyncio.wait([led, self.task], return_when=asyncio.FIRST_COMPLETED))
        finally:
            led.cancel()
        if self.task.done():
            self.task.result()
        assert self.leader is not None
        return self.leader

    async def lost(self) -> aioelect.LossReason:
        """Waits until its leadership has been lost, and says why."""
        await soon(asyncio.wait([self.task]))
        error = self.task.exception()
        assert isinstance(error, aioelect.LeadershipLost), error
        return error.reason

    async def leave(self) -> None:
        """Ends leadership, or the waiting for it."""
        self._released.set()
        if not self._led.is_set():
            self.task.cancel()
        await soon(_ended(self))


async def _ended(*contenders: Contending) -> None:
    """Waits until they have left, or an error of aioelect's has ended them, but no other."""
    ends = await asyncio.gather(*(contender.task for contender in contenders), return_exceptions=True)
    expected = (asyncio.CancelledError, aioelect.AioelectError)
    assert all(end is None or isinstance(end, expected) for end in ends), ends


@contextlib.asynccontextmanager
async def contending(clients: list[aioelect.Client], path: str, **options: Any) -> AsyncIterator[list[Contending]]:
    """One contender for each client, in that order; those still there at the end leave from the last to the first."""
    contenders: list[Contending] = []
    try:
        for number, client in enumerate(clients):
            contender = Contending(client, path, f"c{number}", **options)
            contenders.append(contender)
            await contender.queued()
        yield contenders
    finally:
        for contender in reversed(contenders):
            contender.task.cancel()
        await _ended(*contenders)


Connect = Callable[..., Awaitable[aioelect.Client]]
Intercept = Callable[..., Awaitable[FaultProxy]]


@pytest.fixture
async def embedded() -> AsyncIterator[EmbeddedServer]:
    """A server in this process, with the real one's times."""
    async with EmbeddedServer(tick_time=0.2, max_session_timeout=4.0) as server:
        yield server


@pytest.fixture(params=["embedded", "zookeeper"])
def hosts(request: pytest.FixtureRequest) -> str:
    """Where a server listens: the test runs on the embedded and on the real one."""
    found: str = request.getfixturevalue(request.param).hosts
    return found


@pytest.fixture
async def intercept(hosts: str) -> AsyncIterator[Intercept]:
    """Puts fault proxies in front of ``hosts``; they outlive the clients, which can so take their leave."""
    async with contextlib.AsyncExitStack() as stack:

        async def intercept(**options: Any) -> FaultProxy:
            return await stack.enter_async_context(FaultProxy(hosts, **options))

        yield intercept


@pytest.fixture
async def connect(hosts: str, intercept: Intercept) -> AsyncIterator[Connect]:
    """Gives clients, of ``hosts`` unless a proxy is named, and closes them in the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def connect(where: str = hosts, session_timeout: float = T, **options: Any) -> aioelect.Client:
            connecting = aioelect.connect(where, session_timeout=session_timeout, **options)
            return await stack.enter_async_context(connecting)

        yield connect


@pytest.fixture
async def client(connect: Connect) -> aioelect.Client:
    """The client whose contender the test is about."""
    return await connect()


@pytest.fixture
async def admin(connect: Connect) -> aioelect.Client:
    """A client with a session of its own, which looks on and meddles."""
    return await connect()
