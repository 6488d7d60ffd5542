"""Znodes of ours that must go: waiting for it is bounded, the cleaning is not.

A lowest ghost stops everyone, so a deletion that was not confirmed is repeated on the next connection, until ZooKeeper
confirms it or the session, and the znode with it, has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from aiozk import exc, protocol

from aioelect.errors import ClientClosed, ConnectionLoss, SessionExpired
from aioelect.zookeeper.session import Session

__all__ = ["Janitor"]

log = logging.getLogger("aioelect.session")


class Janitor:
    """Deletes znodes of one client's sessions."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sweeping: dict[tuple[int, str], asyncio.Task[None]] = {}
        self._working: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._working)

    async def delete(self, path: str, session_id: int) -> None:
        """Returns when the znode, which that session made, is certainly gone or going with it.

        Cancelling this gives up the waiting alone. ``path`` as the server knows it.
        """
        key = (session_id, path)
        task = self._sweeping.get(key)
        if task is None:
            task = self._sweeping[key] = self.spawn(self._sweep(path, session_id))
            task.add_done_callback(lambda _: self._sweeping.pop(key, None))
        await asyncio.shield(task)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs clean-up that outlives whoever asked for it; it has to end when the client is closed."""
        task = asyncio.ensure_future(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return task

    async def wait_idle(self) -> None:
        """Returns when nothing is left to do, as is soon the case after the session was closed."""
        while self._working:
            await asyncio.wait(self._working)

    async def _sweep(self, path: str, session_id: int) -> None:
        first = True
        while True:
            try:
                if not first and not await self._still_ours(path, session_id):
                    return
                first = False
                await self._session.ask(protocol.DeleteRequest(path=path, version=-1), session_id=session_id)
                return
            except (exc.NoNode, SessionExpired, ClientClosed):
                return
            except ConnectionLoss as e:
                log.info("deletion of %r: %s", path, e)
            except exc.ZKError as e:
                log.warning("can't delete %r (%r): it goes with the session", path, e)
                return

    async def _still_ours(self, path: str, session_id: int) -> bool:
        """The first try may have worked, and the name may belong to somebody else by now."""
        reply = await self._session.ask(protocol.ExistsRequest(path=path, watch=False), session_id=session_id)
        return bool(reply.record.stat.ephemeral_owner == session_id)
