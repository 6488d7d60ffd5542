"""``leadership()`` and ``campaign()``: a block of code that runs only while this process leads."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, TypeVar

import anyio

from aioelect.candidate import Candidate
from aioelect.errors import ElectionTimeout, LeadershipLost
from aioelect.events import OnEvent
from aioelect.leader import Leader, OnOverrun
from aioelect.model import LossReason
from aioelect.zookeeper.access import Acl
from aioelect.zookeeper.client import Client

__all__ = ["campaign", "leadership"]

T = TypeVar("T")

PAUSE = 0.5
"""Seconds, at most, before a campaign contends again after a loss: a random part, so that losers don't come as one."""

LAST_CALL = 0.9
"""The part of the time to drain after which a body is cancelled for good, so that it has ended when that time is over."""


def _check_timeout(timeout: float | None) -> None:
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
    if math.isnan(timeout) or timeout < 0:
        raise ValueError(f"timeout must not be negative, but None (for ever), 0 (now or never) or seconds: {timeout!r}")


def leadership(
    client: Client | str,
    election: str,
    *,
    identity: str | None = None,
    data: bytes = b"",
    timeout: float | None = None,
    acl: Acl | None = None,
    drain: float | None = None,
    handover_delay: float = 0.0,
    on_overrun: OnOverrun = "report",
    on_event: OnEvent | None = None,
) -> AbstractAsyncContextManager[Leader, bool]:
    """Waits until this contender leads; the block runs only while it does.

    ``client``    a :class:`Client`, or a hosts string: a client with default options for this block alone.
    ``election``  path of the election folder, made where it is missing.
    ``identity``  what others see of this contender; host, pid and six random digits by default.
    ``data``      anything for others to read, such as an address; up to about 700 KB.
    ``timeout``   seconds to wait for leadership: None for ever, 0 now or never.
    ``acl``       of the election's znodes, and of the folders around them: ``"open"``, ``"creator"``, ``"creator+read"`` or a
                  list of ``aiozk.ACL``; by default, what the client was given. See :func:`connect`.
    ``drain``     seconds that the body has to unwind when leadership is lost; a tenth of the session timeout by default.
    ``handover_delay``  for what can't be fenced: seconds to wait, once elected, if the leader before did not end by itself but
                  died, or was cut off. Give the same to all contenders: one without it leaves no note of how it ended.
    ``on_overrun``  what the watchdog does about a body that still runs at its deadline, since it blocks the event loop or refuses
                  to be cancelled: ``"report"`` it with the stack of the loop's thread, in the log of ``aioelect.election``;
                  ``"abort"``: end this process (SIGABRT), for somebody else may lead from then on; or call a function with an
                  :class:`aioelect.events.Overrun`, in the watchdog's thread.
    ``on_event``  called with each :class:`aioelect.events.ElectionEvent`.

    When leadership is lost, the body gets one ordinary cancellation, so that its ``finally`` blocks may await; when nine tenths
    of ``drain`` are over it is cancelled for good. Then ``LeadershipLost`` comes out, also when the body returned or swallowed
    the cancellation after the loss. What the body raises by itself comes out as itself. The znode is deleted only after the
    body has ended. An ``asyncio.TaskGroup`` in the body tells its tasks of the first cancellation alone, and waits for them;
    anyio's tells them of both.

    Raises ``ElectionTimeout``, ``ForeignContender``, ``SequenceExhausted``, ``UnexpectedAcl``, ``ClientClosed``, and
    ``ValueError`` or ``TypeError`` at the call. Enter and leave it in one task; for a fixture that does not, there is
    :class:`Candidate`.
    """
    _check_timeout(timeout)
    opened = _open(client)
    candidate = Candidate(
        opened,
        election,
        identity=identity,
        data=data,
        acl=acl,
        drain=drain,
        handover_delay=handover_delay,
        on_overrun=on_overrun,
        on_event=on_event,
    )
    return _Block(opened if isinstance(client, str) else None, candidate, timeout)


class _Block(AbstractAsyncContextManager[Leader, bool]):
    """What ``leadership()`` gives: it contends, for ``timeout`` seconds, has the body run, and leaves.

    Between two bodies lies what leaving does before it asks for the deletion of the znode, and what entering does after the
    predecessor's is gone. So all that can be made before stands ready then, and all that can wait comes later.
    """

    def __init__(self, owned: Client | None, candidate: Candidate, timeout: float | None) -> None:
        self._owned = owned
        self._candidate = candidate
        self._timeout = timeout
        self._is_used = False

    async def __aenter__(self) -> Leader:
        if self._is_used:  # perhaps a body runs
            raise RuntimeError(
                f"leadership of {self._candidate.election} has been entered before: call leadership() anew for each block"
            )
        self._is_used = True
        self._body = _Body(self._candidate)
        try:
            leader = await self._win()
        except BaseException as e:
            self._body.give_up(e)
            await self._leave()
            raise
        self._body.begin(leader)
        return leader

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            return self._body.end(kind, error, traceback)  # a resignation ends the block early, without error
        finally:
            await self._leave()

    async def _win(self) -> Leader:
        if self._timeout is None or self._timeout == math.inf:
            return await self._contend()
        try:
            async with asyncio.timeout(self._timeout or self._candidate.session.request_timeout) as limit:
                return await self._contend()
        except TimeoutError:
            if not limit.expired():
                raise
            raise ElectionTimeout(self._candidate.election, self._timeout, self._candidate.position) from None

    async def _contend(self) -> Leader:
        candidate = self._candidate
        if self._owned is not None:
            await self._owned.start()
        await candidate.start()
        if self._timeout == 0 and await candidate.wait_placed() != 0:
            raise ElectionTimeout(candidate.election, self._timeout, candidate.position)
        return await candidate.wait_elected()

    async def _leave(self) -> None:
        try:
            await self._candidate.withdraw()
        finally:
            if self._owned is not None:
                await self._owned.close()


class _Body:
    """The body of a block: cancels the task that runs it, first once and softly, then for good.

    One plain cancellation lets clean-up in the body await; anyio's alone would break it off at its first await.
    """

    def __init__(self, candidate: Candidate) -> None:
        """Before the election, in the task that will run the body: it is in the scope from here on."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine runs in a task
        self._task = task
        self._before = task.cancelling()
        self._candidate = candidate
        self._cancelled = False
        self._hard: asyncio.TimerHandle | None = None
        self._scope = anyio.CancelScope()
        self._scope.__enter__()

    def give_up(self, error: BaseException) -> None:
        """There was no election."""
        self._scope.__exit__(type(error), error, error.__traceback__)

    def begin(self, leader: Leader) -> None:
        """The body runs from now on."""
        self._leader = leader
        leader._body = self._stand_down
        if leader._reason is not None:
            self._stand_down()

    def _stand_down(self) -> None:
        loop = asyncio.get_running_loop()
        if self._leader._body is None:
            return
        if asyncio.current_task() is self._task:  # a task that cancels itself may end before it notices
            loop.call_soon(self._stand_down)
            return
        self._cancelled = True
        self._task.cancel(f"leadership of {self._leader.election} ended")
        # After a freeze less may be left than the body was promised; what is not proven any more is no reason to cut it short.
        drain = self._candidate.drain
        left = self._leader.remaining() or drain
        self._hard = loop.call_later(LAST_CALL * min(drain, left), self._scope.cancel)

    def end(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """The body has ended, with such an error: raises what comes out of the block instead, or returns whether nothing does."""
        leader = self._leader
        leader._body = None
        self._candidate.depart()
        if self._hard is not None:
            self._hard.cancel()
        if self._scope.__exit__(kind, error, traceback):
            error = None
        cancelled_by_others = self._cancelled and self._task.uncancel() > self._before
        is_swallowed = cancelled_by_others and not isinstance(error, asyncio.CancelledError)
        if is_swallowed and not self._scope.cancel_called:  # a scope may leave cancellations of its own on the count
            self._task.uncancel()  # the body took theirs for ours: both came as one
            self._task.cancel()
        loss = None
        if leader._reason is not None and leader._reason is not LossReason.RESIGNED:
            loss = LeadershipLost(leader._reason, leader.token, leader.election)
        if isinstance(error, asyncio.CancelledError) and not (self._cancelled and not cancelled_by_others):
            error.__context__ = error.__context__ or loss
            return False
        if error is not None and not isinstance(error, (asyncio.CancelledError, LeadershipLost)):
            if loss is not None:
                error.add_note(str(loss))
            return False
        if loss is None:
            return not isinstance(error, LeadershipLost)
        try:
            raise loss
        finally:
            loss.__context__ = _inner_loss(error)


def _inner_loss(error: BaseException | None) -> BaseException | None:
    """The loss of an election nested in this one, behind the cancellation that both have caused."""
    seen = error
    while seen is not None and not isinstance(seen, LeadershipLost):
        seen = seen.__context__
    return seen or error


def _open(client: Client | str) -> Client:
    return Client(client, timeout=30.0) if isinstance(client, str) else client


def campaign(
    client: Client | str,
    election: str,
    work: Callable[[Leader], Awaitable[T]],
    *,
    identity: str | None = None,
    data: bytes = b"",
    acl: Acl | None = None,
    drain: float | None = None,
    handover_delay: float = 0.0,
    on_overrun: OnOverrun = "report",
    on_event: OnEvent | None = None,
) -> Coroutine[Any, Any, T | None]:
    """Runs ``work(leader)`` for each term won, contends again after a loss, and returns what ``work`` returns.

    After a loss it waits a random part of half a second first. An error out of ``work`` ends the campaign as itself; after
    ``leader.resign()`` it returns None. Other arguments and errors as :func:`leadership`.
    """
    if not callable(work):
        raise TypeError(f"work must be a coroutine function that takes the leader, not {work!r}")
    opened = _open(client)

    def contend() -> AbstractAsyncContextManager[Leader, bool]:
        return leadership(
            opened,
            election,
            identity=identity,
            data=data,
            acl=acl,
            drain=drain,
            handover_delay=handover_delay,
            on_overrun=on_overrun,
            on_event=on_event,
        )

    contend()  # so that bad arguments are refused at the call
    return _campaign(opened if isinstance(client, str) else None, opened, contend, work)


async def _campaign(
    owned: Client | None,
    client: Client,
    contend: Callable[[], AbstractAsyncContextManager[Leader, bool]],
    work: Callable[[Leader], Awaitable[T]],
) -> T | None:
    async with owned or contextlib.nullcontext():
        while True:
            leader = None
            try:
                async with contend() as leader:
                    return await work(leader)
                return None
            except LeadershipLost as e:
                ours = leader is not None and (e.token, e.election) == (leader.token, leader.election)
                if not ours or e.reason in (LossReason.CLIENT_CLOSED, LossReason.AUTHENTICATION_FAILED):
                    raise
            await asyncio.sleep(client.session.world.random.uniform(0, PAUSE))
