"""Znodes of ours that must go: waiting for it is bounded, the cleaning is not.

A lowest ghost stops everyone, so a deletion that was not confirmed is repeated on the next connection, until ZooKeeper
confirms it or the session, and the znode with it, has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any

from aiozk import exc, protocol

from aioelect.errors import AioelectError, ClientClosed, ConnectionLoss, SessionExpired
from aioelect.zookeeper import wire
from aioelect.zookeeper.connection import Reply
from aioelect.zookeeper.session import Session

__all__ = ["Janitor"]

log = logging.getLogger("aioelect.session")


class Janitor:
    """Deletes znodes of one client's sessions."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._going: dict[tuple[int, str], asyncio.Future[None]] = {}
        """The znodes that are being deleted."""
        self._sweeps: set[asyncio.Task[None]] = set()
        self._working: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._working) + len(self._going)

    async def delete(self, path: str, session_id: int) -> None:
        """Returns when the znode, which that session made, is certainly gone or going with it.

        Cancelling this gives up the waiting alone. ``path`` as the server knows it.
        """
        await asyncio.shield(self.begin(path, session_id))

    def begin(self, path: str, session_id: int) -> asyncio.Future[None]:
        """Writes the request before it returns, if there is a connection; done when :meth:`delete` would return.

        To be shielded by whoever awaits it: others may.
        """
        key = (session_id, path)
        gone = self._going.get(key)
        if gone is None:
            asked = self._session.submit(wire.DeleteRequest(path), session_id) if self._session.started else None
            gone = self._going[key] = asyncio.get_running_loop().create_future()
            gone.add_done_callback(lambda _: self._going.pop(key))
            if asked is not None:
                asked.add_done_callback(partial(self._answered, path, session_id, gone))
            else:
                gone.set_result(None)
        return gone

    def _answered(self, path: str, session_id: int, gone: asyncio.Future[None], answer: asyncio.Future[Reply]) -> None:
        if _is_final(path, answer.exception()):
            gone.set_result(None)
        else:
            sweep = asyncio.ensure_future(self._sweep(path, session_id))
            self._sweeps.add(sweep)
            sweep.add_done_callback(self._sweeps.discard)
            sweep.add_done_callback(lambda _: gone.set_result(None))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs clean-up that outlives whoever asked for it; it has to end when the client is closed."""
        task = asyncio.ensure_future(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return task

    async def wait_idle(self) -> None:
        """Returns when nothing is left to do, as is soon the case after the session was closed."""
        while left := {*self._working, *self._going.values()}:
            await asyncio.wait(left)

    async def _sweep(self, path: str, session_id: int) -> None:
        """The first answer was lost."""
        done = False
        while not done:
            error: BaseException | None = None
            try:
                if await self._still_ours(path, session_id):
                    await self._session.ask(wire.DeleteRequest(path), session_id=session_id)
            except (AioelectError, exc.ZKError) as e:
                error = e
            done = _is_final(path, error)

    async def _still_ours(self, path: str, session_id: int) -> bool:
        """The first try may have worked, and the name may belong to somebody else by now."""
        reply = await self._session.ask(protocol.ExistsRequest(path=path, watch=False), session_id=session_id)
        return bool(reply.record.stat.ephemeral_owner == session_id)


def _is_final(path: str, error: BaseException | None) -> bool:
    """Whether a request to delete ``path`` with such an outcome leaves nothing to do."""
    if isinstance(error, (ConnectionLoss, exc.SessionMoved)):
        log.info("deletion of %r: %r", path, error)
        return False
    if error is not None and not isinstance(error, (exc.NoNode, exc.SessionExpired, SessionExpired, ClientClosed)):
        log.warning("can't delete %r (%r): it goes with the session", path, error)
    return True
