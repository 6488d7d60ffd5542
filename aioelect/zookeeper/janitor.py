"""Znodes of ours that must go: waiting for it is bounded, the cleaning is not.

A lowest ghost stops everyone, so a deletion that was not confirmed is repeated on the next connection, and one that was refused
after a pause, until ZooKeeper confirms it or the session, and the znode with it, has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any

from aiozk import exc, protocol

from aioelect.errors import AioelectError, ConnectionLoss, SessionExpired
from aioelect.zookeeper import wire
from aioelect.zookeeper.connection import Reply
from aioelect.zookeeper.session import Session
from aioelect.zookeeper.states import States

__all__ = ["Janitor"]

log = logging.getLogger("aioelect.session")

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds before what was refused, a deletion or a search, is tried again; each pause is twice as long as the one before."""


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
        """Returns when the znode, which that session made, is certainly gone or going with it: where it must not be deleted, when
        the session ends.

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
            asked = self._session.submit(wire.DeleteRequest(path), session_id) if self._session.state.started else None
            gone = self._going[key] = asyncio.get_running_loop().create_future()
            gone.add_done_callback(lambda _: self._going.pop(key))
            if asked is not None:
                asked.add_done_callback(partial(self._answered, path, session_id, gone))
            else:
                gone.set_result(None)
        return gone

    def _answered(self, path: str, session_id: int, gone: asyncio.Future[None], answer: asyncio.Future[Reply]) -> None:
        error = answer.exception()
        if self._is_final(path, error):
            gone.set_result(None)
        else:
            sweep = asyncio.ensure_future(self._sweep(path, session_id, error))
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

    async def _sweep(self, path: str, session_id: int, error: BaseException | None) -> None:
        """The first answer was lost, or it was a refusal: ``error``."""
        pause = FIRST_PAUSE
        while not self._is_final(path, error):
            if isinstance(error, exc.NoAuth):  # by the ACL of the folder: asking again does not help
                log.warning("can't delete %r (%r): it goes with the session", path, error)
                await self.pause(None)
            elif isinstance(error, (ConnectionLoss, exc.SessionMoved)):  # asked again on the next connection
                log.info("deletion of %r: %r", path, error)
            else:
                log.warning("deletion of %r was refused (%s): tried again in %g s", path, error, pause)
                await self.pause(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            error = await self._delete_if_ours(path, session_id)

    async def pause(self, seconds: float | None) -> None:
        """Waits as long, but not on when the session has ended, or is closed: then there is nothing to clean up. None: until
        then."""
        ended = self._session.state.wait_for(States.LOST)
        try:
            await asyncio.wait([ended], timeout=seconds)
        finally:
            ended.cancel()

    async def _delete_if_ours(self, path: str, session_id: int) -> Exception | None:
        """What is against it. The first try may have worked, and the name may belong to somebody else by now."""
        try:
            exists = protocol.ExistsRequest(path=path, watch=False)
            reply = await self._session.ask(exists, session_id=session_id)
            if reply.record.stat.ephemeral_owner == session_id:
                await self._session.ask(wire.DeleteRequest(path), session_id=session_id)
        except (AioelectError, exc.ZKError) as e:
            return e
        return None

    def _is_final(self, path: str, error: BaseException | None) -> bool:
        """Whether a request to delete ``path`` with such an outcome leaves nothing to do."""
        if isinstance(error, exc.NotEmpty):
            log.warning("can't delete %r (%r): it is no znode of a session", path, error)
            return True
        is_gone = error is None or isinstance(error, (exc.NoNode, exc.SessionExpired, SessionExpired))
        return is_gone or not self._session.started
