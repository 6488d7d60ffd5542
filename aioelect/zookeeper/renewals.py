"""One stream of renewals per client, however many elections it leads: it keeps the session's lease warm.

See ``aioelect.lease`` for what a renewal proves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiozk import exc, protocol

from aioelect.errors import AioelectError
from aioelect.zookeeper.connection import Reply
from aioelect.zookeeper.session import Session

__all__ = ["Renewals"]

log = logging.getLogger("aioelect.lease")


class Renewals:
    """Renews while anybody keeps a znode here.

    A renewal checks one own ephemeral znode; that proves the session, and so the lease of all. A refused check says that the
    znode is gone, and the next one is tried at once; or that it may not be read any more, and the next renewal takes the next
    one. Whoever has nothing to do about a proof is not told of it, so that a renewal costs no more with thousands of leaders.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._keepers: dict[str, float | None] = {}
        """The time to drain of each."""
        self._told: dict[str, Callable[[], bool]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._probe: asyncio.Task[None] | None = None
        self._probed: set[str] = set()

    def keep(self, path: str, drain: float | None, proven: Callable[[], bool]) -> None:
        """Renews with the own ephemeral ``path`` (as the server knows it), in time for a body that takes ``drain`` seconds to
        unwind (None: the usual), and calls ``proven`` after each proof, until that returns False: it need not be told again.
        """
        if not self._keepers:
            self._session.observe(self)
            self._session.be_patient(self._session.timing.ride_out / 2)
        self._keepers[path] = drain
        self._told[path] = proven
        if self._timer is None:
            self._renew()

    def release(self, path: str) -> None:
        """Ends :meth:`keep`; nothing where it was not kept."""
        if path not in self._keepers:
            return
        del self._keepers[path]
        self._told.pop(path, None)
        if not self._keepers:
            self._session.unobserve(self)
            self._session.be_patient(None)
            self._stop()
            if self._probe is not None:
                self._probe.cancel()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _renew(self) -> None:
        """Sends one renewal and sets the clock for the next, which does not wait for the answer."""
        self._stop()
        session = self._session
        if not self._keepers or not session.connected:
            return
        path = next(iter(self._keepers))
        request = protocol.TransactionRequest()
        request.add(protocol.CheckVersionRequest(path=path, version=-1))
        answer = session.submit(request)
        answer.add_done_callback(lambda done: self._answered(path, done))
        loop = asyncio.get_running_loop()
        now = session.world.clock()
        wait = session.timing.renew_every
        latest = max(map(session.timing.ahead, set(self._keepers.values())))
        if session.lease.remaining(now) <= latest + wait:  # cold, or too short to wait: as soon as the rule allows
            ripens_in = session.lease.ripe_at - now
            wait = min(wait, ripens_in if ripens_in > 0 else session.timing.tick_time / 16)
        self._timer = loop.call_later(wait, self._renew)
        self._learn_tick(loop)

    def _answered(self, path: str, answer: asyncio.Future[Reply]) -> None:
        if answer.cancelled():
            return
        answer.exception()  # seen, even if it does not matter any more
        if not self._keepers:
            return
        try:
            reply = answer.result()
            verdict: Any = reply.record.responses[0]
        except (AioelectError, exc.ZKError) as e:
            verdict = e
        if isinstance(verdict, protocol.CheckVersionResponse):
            if self._session.lease.renewed(reply.sent, reply.acknowledged):
                for told, proven in list(self._told.items()):
                    if not proven():
                        self._told.pop(told, None)
        else:
            log.info("renewal with %r was refused: %r", path, verdict)
            if isinstance(verdict, (exc.NoNode, exc.NoAuth)) and path in self._keepers:
                self._keepers[path] = self._keepers.pop(path)  # the next one's turn
            if isinstance(verdict, exc.NoNode) and next(iter(self._keepers)) != path:
                self._renew()

    def _learn_tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """Asks each server once for its tickTime, off the critical path, unless the user has stated it."""
        conn = self._session.conn
        if self._session.tick_is_stated or conn is None or conn.server in self._probed or self._probe is not None:
            return
        self._probed.add(conn.server)
        self._probe = loop.create_task(self._ask_tick(conn.server), name="aioelect tick probe")

    async def _ask_tick(self, server: str) -> None:
        try:
            await self._session.probe_tick()
            self._session.be_patient(self._session.timing.ride_out / 2)
        except asyncio.CancelledError:
            self._probed.discard(server)  # asked again when it matters again
            raise
        except (OSError, AioelectError) as e:
            log.info("the server's tickTime stays unknown: %s", e)
        finally:
            self._probe = None

    # The session's observer

    def session_suspended(self) -> None:
        self._stop()

    def session_resumed(self) -> None:
        self._renew()

    def session_opened(self) -> None:
        self._renew()

    def session_ended(self) -> None:
        self._stop()

    def session_closed(self) -> None:
        self._stop()
        if self._probe is not None:
            self._probe.cancel()
