"""Looking on without contending: ``get_standing()`` and ``observe()``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from aioelect.errors import ForeignContender
from aioelect.model import Contender, Standing
from aioelect.naming import NATIVE, ZnodeData, check_path
from aioelect.zookeeper.client import Client
from aioelect.zookeeper.folder import Folder, Listing

__all__ = ["Standings", "get_standing", "observe", "open_client"]


def get_standing(client: Client | str, election: str) -> Coroutine[Any, Any, Standing]:
    """Who leads and who waits, in order; an empty standing where nobody contends or there is no such folder.

    ``client`` may be a hosts string. Raises ``ForeignContender`` where the folder holds another recipe's contenders, and
    ``ValueError`` or ``TypeError`` at the call.
    """
    check_path(election, "election path")
    return _get_standing(*open_client(client), election)


async def _get_standing(client: Client, owned: AbstractAsyncContextManager[object], election: str) -> Standing:
    async with owned:
        return await _Reader(client, election).read(await Folder(client, election).list())


def observe(client: Client | str, election: str) -> AbstractAsyncContextManager[Standings]:
    """``async with observe(...) as standings: async for standing in standings``: the standing now and after each change.

    Always the newest one: what a slow reader misses is skipped, never queued. It goes on through reconnects and new sessions, and
    ends when the block is left, also for other tasks that read it.
    Arguments and errors as :func:`get_standing`.
    """
    check_path(election, "election path")
    return _observe(*open_client(client), election)


@asynccontextmanager
async def _observe(
    client: Client, owned: AbstractAsyncContextManager[object], election: str
) -> AsyncIterator[Standings]:
    async with owned:
        standings = Standings(client, election)
        try:
            yield standings
        finally:
            standings._stop()


def open_client(client: Client | str) -> tuple[Client, AbstractAsyncContextManager[object]]:
    """The client, and what has to be entered around its use: a client of our own, or nothing."""
    if isinstance(client, str):
        opened = Client(client, timeout=30.0)
        return opened, opened
    if not isinstance(client, Client):
        raise TypeError(f"client must be an aioelect.Client or a hosts string, not {client!r}")
    return client, contextlib.nullcontext()


class _Reader:
    """Reads contenders; what is written once is read once."""

    def __init__(self, client: Client, election: str) -> None:
        self._election = election
        self._folder = Folder(client, election)
        self._known: dict[str, Contender] = {}
        self._known_in = 0

    async def read(self, listing: Listing | None) -> Standing:
        if listing is None:
            return Standing()
        if listing.token != self._known_in:
            self._known.clear()
            self._known_in = listing.token
        queue = NATIVE.queue(listing.names)
        if queue.foreign:
            raise ForeignContender(self._election, queue.foreign[0])
        new = [name for name in queue.contenders if name not in self._known]
        read = await asyncio.gather(*map(self._contender, new))
        found = self._known | {name: contender for name, contender in zip(new, read, strict=True) if contender}
        self._known = {name: found[name] for name in queue.contenders if name in found}
        return Standing(tuple(self._known.values()))

    async def _contender(self, name: str) -> Contender | None:
        znode = await self._folder.read(name)
        if znode is None:
            return None
        said = ZnodeData.decode(znode.data)
        return Contender(
            identity=said.identity,
            data=said.data,
            token=znode.token,
            path=self._folder.display(name),
            joined=znode.created,
            host=said.host,
            pid=said.pid,
        )


class Standings:
    """An async iterator of :class:`Standing`; each differs from the one before. It ends when the ``observe()`` block is left.

    It listens from just before it reads until it hears that there is news, and no longer: a change costs one list, and nothing
    while nobody asks.
    """

    def __init__(self, client: Client, election: str) -> None:
        self._client = client
        self._folder = Folder(client, election)
        self._reader = _Reader(client, election)
        self._stale = asyncio.Event()
        self._stale.set()
        self._stopped = False
        self._last: Standing | None = None
        self._unlisten: Callable[[], None] | None = None
        client.session.observe(self)

    def __aiter__(self) -> Standings:
        return self

    async def __anext__(self) -> Standing:
        while True:
            await self._stale.wait()
            if self._stopped:
                raise StopAsyncIteration
            self._stale.clear()
            self._unlisten = self._folder.on_changed(lambda _: self._outdate())
            try:
                standing = await self._reader.read(await self._folder.list_and_watch())
            except BaseException:
                self._outdate()
                raise
            if standing != self._last:
                self._last = standing
                return standing

    def _outdate(self) -> None:
        """What was read, or is being read, is not the newest: the next read begins to listen before it asks."""
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        self._stale.set()

    def _stop(self) -> None:
        self._stopped = True
        self._outdate()
        self._client.session.unobserve(self)

    # The session's observer

    def session_suspended(self) -> None:
        pass

    def session_resumed(self) -> None:
        pass

    def session_ended(self) -> None:
        pass

    def session_opened(self) -> None:
        self._outdate()

    def session_closed(self) -> None:
        self._outdate()  # the next read says that the client is closed
