"""``leadership()`` and ``campaign()``: a block of code that runs only while this process leads."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, TypeVar, cast

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
    body has ended.

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
    block = _lead(opened if isinstance(client, str) else None, candidate, timeout)
    return cast("AbstractAsyncContextManager[Leader, bool]", block)  # a resignation ends the block early, without error


@asynccontextmanager
async def _lead(owned: Client | None, candidate: Candidate, timeout: float | None) -> AsyncIterator[Leader]:
    async with contextlib.AsyncExitStack() as stack:
        leader = await _win(stack, owned, candidate, timeout)
        with _Body(leader, candidate.drain):
            yield leader


async def _win(
    stack: contextlib.AsyncExitStack, owned: Client | None, candidate: Candidate, timeout: float | None
) -> Leader:
    """Contends for ``timeout`` seconds; whatever was opened goes on the stack."""
    bound = candidate.session.request_timeout if timeout == 0 else None if timeout == math.inf else timeout
    try:
        async with asyncio.timeout(bound) as limit:
            if owned is not None:
                await stack.enter_async_context(owned)
            await stack.enter_async_context(candidate)
            if timeout == 0 and await candidate.wait_position() > 0:
                raise ElectionTimeout(candidate.election, timeout, candidate.position)
            return await candidate.wait_elected()
    except TimeoutError:
        if not limit.expired():
            raise
        raise ElectionTimeout(candidate.election, timeout or 0, candidate.position) from None


class _Body:
    """The block of ``leadership()``: cancels the task that runs it, first once and softly, then for good.

    One plain cancellation lets clean-up in the body await; anyio's alone would break it off at its first await.
    """

    def __init__(self, leader: Leader, drain: float) -> None:
        self._leader = leader
        self._drain = drain
        self._cancelled = False
        self._hard: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine runs in a task
        self._task = task
        self._before = task.cancelling()
        self._scope = anyio.CancelScope()
        self._scope.__enter__()
        self._leader._body = self._stand_down
        if self._leader._reason is not None:
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
        left = self._leader.remaining() or self._drain
        self._hard = loop.call_later(LAST_CALL * min(self._drain, left), self._scope.cancel)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        leader = self._leader
        leader._body = None
        if self._hard is not None:
            self._hard.cancel()
        if self._scope.__exit__(kind, error, traceback):
            error = None
        cancelled_by_others = self._cancelled and self._task.uncancel() > self._before
        if leader._reason is None and not leader.is_leader:  # a blocked loop: nobody could say so before
            leader._end(LossReason.DEADLINE_PASSED)
        if leader._reason is None:
            return error is None
        loss = None
        if leader._reason is not LossReason.RESIGNED:
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
