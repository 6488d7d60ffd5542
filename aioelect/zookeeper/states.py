"""Whether a session can be used, and waiting until it can: for aiozk's recipes, and for ourselves."""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiozk import exc
from aiozk.states import SessionStateMachine, States

from aioelect.errors import ClientClosed

__all__ = ["SessionState", "States"]


class Droppable(Protocol):
    """What has the state."""

    def drop(self, why: str, *, silent: bool = False) -> None:
        """Ends the connection; the session goes on on the next one."""


class SessionState(SessionStateMachine):  # type: ignore[misc]  # aiozk has no types
    """aiozk's state machine, without its growth: a cancelled wait is forgotten. It knows when waiting is in vain, too."""

    def __init__(self, session: Droppable) -> None:
        super().__init__(session=session)
        self.current_state: str
        self.started = False
        """From the start until the session is being closed, or has failed."""
        self._session = session
        self._failure: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Future[None] | None = None

    __hash__ = None  # type: ignore[assignment]  # as in aiozk, it compares equal to the name of its state

    @property
    def failure(self) -> Exception | None:
        """What has ended the session by itself, and no retry could mend."""
        return self._failure

    def start(self) -> None:
        """From now on this is the session's event loop, and waiting makes sense."""
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        self._failure = None
        self.started = True

    def fail(self, error: Exception) -> None:
        """Everybody gets ``error``, which no retry can mend."""
        self._failure = error
        self.started = False

    def end(self) -> None:
        """The session is no longer ours, closed or failed: those who wait for it learn it."""
        self.moved_to(States.LOST)
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def check_open(self) -> None:
        """Raises ``ClientClosed``, or what has failed, where requests make no sense, and as :meth:`check_loop`."""
        if self._failure is not None:
            raise self._failure
        if not self.started:
            raise ClientClosed("the client is closed, or not started: use 'await aioelect.connect(...)', or start() it")
        self.check_loop()

    def check_loop(self) -> None:
        """Raises ``RuntimeError`` in any event loop but the session's own."""
        if self._loop is not None and asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "this client belongs to another event loop, where it was connected: connect one in each loop"
            )

    async def reach(self, *states: str) -> None:
        """Waits for one of ``states``, for ever if need be; raises as :meth:`check_open` where there is no hope."""
        self.check_open()
        while self.current_state not in states:
            assert self._over is not None  # noqa: S101
            waiting = self.wait_for(*states)
            try:
                await asyncio.wait([waiting, self._over], return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
            self.check_open()

    def transition_to(self, state: str) -> None:
        """For aiozk's users: to suspend is to end the connection. The session itself uses :meth:`moved_to`."""
        if state in (States.SUSPENDED, States.LOST) and self.current_state in (
            States.CONNECTED,
            States.READ_ONLY,
        ):
            self._session.drop("suspended by request", silent=True)
        else:
            raise exc.InvalidStateTransition(
                f"the session can't be moved from {self.current_state} to {state} from outside"
            )

    def moved_to(self, state: str) -> None:
        """Wakes those who wait for ``state``."""
        if state != self.current_state:
            self.current_state = state
            for future in list(self.futures.pop(state, ())):
                if not future.done():
                    future.set_result(None)

    def wait_for(self, *states: str) -> asyncio.Future[None]:
        """A future that is done when one of ``states`` is reached."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.current_state in states:
            future.set_result(None)
        else:
            for state in states:
                self.futures[state].add(future)
            future.add_done_callback(lambda done: self.remove_waiting(done, *states))
        return future

    def remove_waiting(self, future: asyncio.Future[None], *states: str) -> None:
        """Forgets a wait; no error if it is forgotten already."""
        for state in states:
            waiting = self.futures.get(state)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self.futures[state]
