"""Znodes of ours that must go: waiting for it is bounded, the cleaning is not.

A lowest ghost stops everyone, so a deletion that was not confirmed is repeated on the next connection, until ZooKeeper
confirms it or the session, and the znode with it, has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from typing import Any

from aiozk import exc, protocol

from aioelect.errors import ClientClosed, ConnectionLoss, SessionExpired
from aioelect.zookeeper import wire
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
        await asyncio.shield(self.begin(path, session_id))

    def begin(self, path: str, session_id: int) -> asyncio.Task[None]:
        """As :meth:`delete`; the request is written before this returns, if there is a connection."""
        key = (session_id, path)
        task = self._sweeping.get(key)
        if task is None:
            asked = self._session.submit(wire.DeleteRequest(path), session_id) if self._session.started else None
            task = self._sweeping[key] = self.spawn(self._sweep(path, session_id, asked))
            task.add_done_callback(lambda _: self._sweeping.pop(key, None))
        return task

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

    async def _sweep(self, path: str, session_id: int, asked: Awaitable[object] | None) -> None:
        while True:
            try:
                if asked is None:
                    if not await self._still_ours(path, session_id):
                        return
                    asked = self._session.ask(wire.DeleteRequest(path), session_id=session_id)
                await asked
                return
            except (exc.NoNode, exc.SessionExpired, SessionExpired, ClientClosed):
                return
            except (ConnectionLoss, exc.SessionMoved) as e:
                log.info("deletion of %r: %r", path, e)
                asked = None
            except exc.ZKError as e:
                log.warning("can't delete %r (%r): it goes with the session", path, e)
                return

    async def _still_ours(self, path: str, session_id: int) -> bool:
        """The first try may have worked, and the name may belong to somebody else by now."""
        reply = await self._session.ask(protocol.ExistsRequest(path=path, watch=False), session_id=session_id)
        return bool(reply.record.stat.ephemeral_owner == session_id)
