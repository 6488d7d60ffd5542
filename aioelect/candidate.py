"""One contender: ``Candidate``.

``candidacy`` decides about the queue, ``lease`` about time, ``control`` about what was asked of leaders; this shell performs what
they say. When nobody is before it, nothing was asked against it and its lease is proven, there is a ``Leader``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Self

import anyio

from aioelect import candidacy, events
from aioelect.cleanup import BOUND, finish, linger
from aioelect.errands import Errands
from aioelect.errors import AuthenticationFailed, ClientClosed, ForeignContender, SequenceExhausted
from aioelect.events import OnEvent
from aioelect.handover import check_handover_delay
from aioelect.leader import Leader, OnOverrun, check_on_overrun
from aioelect.lookout import Lookout
from aioelect.model import LossReason, Timing
from aioelect.naming import NATIVE, ZnodeData, check_identity, check_path
from aioelect.succession import Succession
from aioelect.zookeeper.access import Acl
from aioelect.zookeeper.client import Client
from aioelect.zookeeper.folder import Folder, Place
from aioelect.zookeeper.observers import guarded

__all__ = ["Candidate"]

log = logging.getLogger("aioelect.election")

AT_THE_TOP = (0, 1)
"""The positions of who leads, or may be about to."""

LOOK_EVERY = 0.32
"""Of the session timeout: before the third is over after which an idle connection is pinged."""


class Candidate:
    """One contender of one election, without a cancel scope: it may be entered in one task and left in another.

    ``candidate = await Candidate.enter(client, path)``, ``leader = await candidate.wait_elected()``, ``await leader.lost()``,
    ``await candidate.withdraw()``. As an async context manager it enters and withdraws.
    """

    __slots__ = (
        "__weakref__",
        "_announced",
        "_creating",
        "_departed",
        "_drain",
        "_errands",
        "_failure",
        "_has_joined",
        "_idle",
        "_inbox",
        "_leave_until",
        "_leaving",
        "_lookout",
        "_machine",
        "_nonce",
        "_on_event",
        "_outbox",
        "_payload",
        "_place",
        "_started",
        "_succession",
        "_told_lost",
        "_trigger",
        "_waiters",
        "_withdrawing",
        "access",
        "client",
        "election",
        "folder",
        "handover_delay",
        "identity",
        "on_overrun",
        "session",
    )

    def __init__(
        self,
        client: Client,
        election: str,
        *,
        identity: str | None = None,
        data: bytes = b"",
        acl: Acl | None = None,
        drain: float | None = None,
        handover_delay: float = 0.0,
        on_overrun: OnOverrun = "report",
        on_event: OnEvent | None = None,
    ) -> None:
        """As :func:`leadership`; nothing is sent before :meth:`enter`, ``async with`` or :meth:`start`."""
        if not isinstance(client, Client):
            raise TypeError(f"client must be an aioelect.Client (or, for leadership(), a hosts string), not {client!r}")
        if check_path(election, "election path") == "/":
            raise ValueError(
                "election path must not be '/': give the election a folder of its own, such as '/election'"
            )
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data must be bytes, not {data!r}")
        if on_event is not None and not callable(on_event):
            raise TypeError(f"on_event must be callable, not {on_event!r}")
        self.client = client
        self.session = client.session
        self.election = election
        self.access = client.make_access(acl)
        self.folder = Folder(client, election, self.access.acl)
        host, pid, random = socket.gethostname(), os.getpid(), self.session.world.random
        self.identity = check_identity(f"{host}:{pid}:{random.getrandbits(24):06x}" if identity is None else identity)
        self._nonce = f"{random.getrandbits(128):032x}"
        self._payload = ZnodeData(self.identity, bytes(data), host, pid, self._nonce).encode()
        self._drain = drain
        _check_drain(drain, self.session.timing)
        self.handover_delay = check_handover_delay(handover_delay)
        self.on_overrun = check_on_overrun(on_overrun)
        self._on_event = on_event
        self._machine = candidacy.Candidacy(NATIVE)
        self._place: Place | None = None
        self._errands = Errands(self._fail)
        self._lookout = Lookout(self.folder, self._errands, self._post, self._is_alive)
        self._succession = Succession(
            self, self.folder, drain, self._errands, elected=self._elected, passed_over=self._passed_over
        )
        self._announced = False
        self._failure: Exception | None = None
        self._inbox: list[candidacy.Event] = []
        self._outbox: list[candidacy.Command] = []
        self._creating = 0
        self._idle: asyncio.TimerHandle | None = None
        self._trigger = 0.0
        self._waiters: list[asyncio.Future[None]] = []
        self._started = self._has_joined = False
        self._departed = False
        self._leaving: asyncio.Future[None] | None = None
        self._leave_until = 0.0
        self._withdrawing: asyncio.Task[None] | None = None
        self._told_lost: int | None = None

    def __repr__(self) -> str:
        return f"<Candidate {self.identity!r} of {self.election}, {self._machine.state.value}>"

    # Life

    @classmethod
    async def enter(
        cls,
        client: Client,
        election: str,
        *,
        identity: str | None = None,
        data: bytes = b"",
        acl: Acl | None = None,
        drain: float | None = None,
        handover_delay: float = 0.0,
        on_overrun: OnOverrun = "report",
        on_event: OnEvent | None = None,
    ) -> Candidate:
        """Joins the queue; returns when the znode is made. Arguments and errors as :func:`leadership`."""
        candidate = cls(
            client,
            election,
            identity=identity,
            data=data,
            acl=acl,
            drain=drain,
            handover_delay=handover_delay,
            on_overrun=on_overrun,
            on_event=on_event,
        )
        await candidate.start()
        return candidate

    async def start(self) -> None:
        """Joins the queue; returns when the znode is made. When it fails, or is cancelled, no znode is left."""
        if self._started:
            raise RuntimeError(f"{self!r} has been started before: make another Candidate to contend again")
        self._started = True
        if self.client.closing:
            raise ClientClosed(f"{self!r} can't contend: its client is being closed")
        anyio.get_cancelled_exc_class()  # anyio loads its backend at first use: now, not between the election and the block
        self.session.world.watchdog.start()
        self.session.observe(self)
        self.client.dependents[self] = None
        try:
            self._post(candidacy.Enter())
            await self._until(lambda: self._has_joined)
        except BaseException:
            await self.withdraw()
            raise

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.withdraw()

    async def wait_elected(self) -> Leader:
        """Waits until this contender leads and can prove it; the deadline is watched from then on.

        Raises ``ForeignContender``, ``SequenceExhausted``, ``ClientClosed``, or what ZooKeeper answers (``aiozk.exc``).
        """
        while True:
            while (leader := self._succession.leader) is None:
                await self._next_change()
            if self._announced:
                return leader
            if leader._reason is None and leader.remaining() > self.drain:
                self._announced = True
                leader._begin()
                return leader
            self._check_contending()
            self._lapsed(leader)

    async def wait_placed(self) -> int | None:
        """Waits until it is known whether anybody is before this contender, and gives :attr:`position`."""
        await self._until(lambda: self._machine.is_placed)
        return self._machine.position

    async def withdraw(self) -> None:
        """Leaves the queue, or the leadership. Waits a second or so until the znode is gone; if no server confirms it by then,
        it goes at the next connection, or with the session. Idempotent."""
        self.depart()
        interrupted: asyncio.CancelledError | None = None
        if self._leaving is not None and self._withdrawing is None:
            try:
                # Nothing else is done meanwhile: servers and the next leader need CPUs.
                await linger(self._leaving, self._leave_until)
            except asyncio.CancelledError as e:
                interrupted = e
        if self._withdrawing is None:
            self._withdrawing = asyncio.ensure_future(self._withdraw())
        await finish(self._withdrawing, bound=None)
        if interrupted is not None:
            raise interrupted

    def depart(self) -> None:
        """Nobody acts on this candidacy any more: asks for the deletion of its znode, before all else, since somebody may be
        waiting for that. :meth:`withdraw` does the rest. Idempotent."""
        if self._departed:
            return
        self._departed = True
        term = self._succession.renounce()
        self._begin_to_leave()
        if term is not None:
            term._conclude()
            if term._reason is not None and term._reason is not LossReason.RESIGNED:
                self._tell_lost(term.token, term._reason)
        self._machine.receive([candidacy.Withdraw()])
        self.session.unobserve(self)

    def _begin_to_leave(self) -> None:
        place = self._place
        if place is not None and self._leaving is None and place.session_id == self.session.session_id:
            self._leaving = self._succession.leave(place)
            self._leave_until = asyncio.get_running_loop().time() + BOUND

    async def _withdraw(self) -> None:
        self._succession.unwatch()
        self._lookout.forget()
        if self._idle is not None:
            self._idle.cancel()
        try:
            await self._errands.stop()
            self._begin_to_leave()  # in case that the znode was just being made
            place, self._place = self._place, None
            if place is not None and self._leaving is not None:
                left = self._leave_until - asyncio.get_running_loop().time()
                gone = await finish(asyncio.shield(self._leaving), left)
                self.emit(events.Released, token=place.token, confirmed=gone)
        finally:
            self._succession.release_lease()
            self.client.dependents.pop(self, None)
            self._wake()

    async def stand_down(self) -> bool:
        """The client is being closed: contends no longer, ends the term, and tells whether its leader has ended in ``drain``.

        A block ends by itself; who holds a ``Candidate`` may still act until it withdraws.
        """
        leader = self._succession.leader
        if leader is None or not leader._begun or self._departed:
            self._succession.revoke()
            self._fail(ClientClosed(f"the client was closed while {self!r} contended"))
            return True
        leader._end(LossReason.CLIENT_CLOSED)
        with anyio.move_on_after(self.drain + 0.5):
            while self in self.client.dependents:
                await self._change()
        return self not in self.client.dependents

    @property
    def position(self) -> int | None:
        """How many were before this contender when it last looked; None while that is unknown, and where it was two or more that
        nobody has counted."""
        return self._machine.position

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._next_change()

    def _next_change(self) -> Coroutine[Any, Any, None]:
        """As :meth:`_change`, and :meth:`_check_contending`."""
        self._check_contending()
        return self._change()

    def _check_contending(self) -> None:
        """Raises what has ended the candidacy, if it is over."""
        if self._failure is not None:
            raise self._failure
        if self._departed:
            raise ClientClosed(f"{self!r} has withdrawn: make another Candidate to contend again")

    async def _change(self) -> None:
        """Returns at the next :meth:`_wake`. (As with an ``asyncio.Event``, which takes three quarters of a kilobyte.)"""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def drain(self) -> float:
        """Seconds that the body has to unwind."""
        return self.session.timing.drain if self._drain is None else self._drain

    @property
    def is_heard(self) -> bool:
        """Whether anybody hears of its events."""
        return self._on_event is not None or log.isEnabledFor(logging.DEBUG)

    def emit(self, kind: Callable[..., events.ElectionEvent], **facts: Any) -> None:
        """Hands an event on to the user's handler."""
        if not self.is_heard:
            return
        event = kind(at=self.session.world.monotonic(), election=self.election, identity=self.identity, **facts)
        log.debug("%s", event)
        if self._on_event is not None:
            with guarded(f"the on_event handler of {self.election}"):
                self._on_event(event)

    # Events in, commands out

    def _post(self, event: candidacy.Event) -> None:
        """What arrives in one turn of the event loop is one batch: after a reconnect its order means nothing."""
        if not self._inbox:
            asyncio.get_running_loop().call_soon(self._pump)
        if isinstance(event, candidacy.Deleted):
            self._trigger = self.session.world.monotonic()
        self._inbox.append(event)

    def _pump(self) -> None:
        batch, self._inbox = self._inbox, []
        if self._departed:
            return
        try:
            self._outbox.extend(self._machine.receive(batch))
            while self._outbox:
                self._perform(self._outbox.pop(0))
                if self._outbox and self._succession.leader is not None:  # it can wait until the body has begun
                    asyncio.get_running_loop().call_soon(self._pump)
                    return
        except Exception as e:
            self._fail(e)
        if self._machine.predecessor is None:
            self._lookout.forget_predecessor()
        elif self._machine.state is candidacy.State.NEXT and not self._lookout.is_expecting:
            foreseen = self._machine.foresee(candidacy.Deleted(self._machine.predecessor))
            self._lookout.expect(self._machine.predecessor, partial(self._succeed, *foreseen))

    def _succeed(self, machine: candidacy.Candidacy, commands: list[candidacy.Command]) -> None:
        """The predecessor is gone, and it was foreseen what follows from that: leads. The rest can wait until the body has begun,
        when the event has made its way to :meth:`_pump`."""
        if self._inbox or self._departed:
            return  # the rule has to see all that came together
        self._trigger = self.session.world.monotonic()
        self._machine = machine
        lead, *self._outbox = commands
        try:
            self._perform(lead)
        except Exception as e:
            self._fail(e)

    def _perform(self, command: candidacy.Command) -> None:
        match command:
            case candidacy.Lead():
                if self._machine.state is candidacy.State.LEADING:  # and what came with the news is no reason not to
                    self._succession.claim(self._own_place())
            case candidacy.Create(entry):
                self._errands.start(self._create, entry)
            case candidacy.WatchOwn(entry):
                self._lookout.watch_own(entry, self._own_place())
            case candidacy.ListFolder(entry):
                self._lookout.list(entry, self._own_place())
            case candidacy.WatchPredecessor(entry, name):
                self._lookout.watch_predecessor(entry, name, self._own_place())
            case candidacy.LookAhead(entry, name):
                self._lookout.look_ahead(entry, name, self._own_place())
            case candidacy.Announce(position):
                self._announce(position)
            case candidacy.Exorcise(name):
                self.folder.leave(Place(name, 0, self._own_place().session_id))
            case candidacy.Lose(reason):
                self._lose(reason)
            case candidacy.Refuse(refusal, name):
                self._refuse(refusal, name)

    def _own_place(self) -> Place:
        assert self._place is not None  # noqa: S101  # the machine watches and leads only with a znode
        return self._place

    def _fail(self, error: Exception) -> None:
        log.info("%r gives up: %s", self, error)
        self._failure = self._failure or error
        self._succession.bar()
        self._wake()

    async def _create(self, entry: int) -> None:
        self._creating += 1
        try:
            place = await self.folder.enter(NATIVE.prefix, self._payload, self._nonce)
        finally:
            self._creating -= 1
        self._place = place
        await self.access.learn(self.folder.locate(place.name), place.session_id)
        await self.access.check(self.folder.location, place.session_id)
        _check_drain(self._drain, self.session.timing)  # the server may have granted another session timeout
        self._has_joined = True
        self._post(candidacy.Entered(entry, place.name, place.token))
        if place.session_id != self.session.session_id:
            self._post(candidacy.SessionEnded())
        self._wake()

    def _is_alive(self, name: str) -> bool:
        """Whether a candidate of this client has that znode, or may have: one whose create is not settled yet."""
        path = self.folder.locate(name)
        for other in self.client.dependents:
            if isinstance(other, Candidate) and (
                other._creating or (other._place is not None and other.folder.locate(other._place.name) == path)
            ):
                return True
        return False

    def _announce(self, position: int | None) -> None:
        place = self._own_place()
        path = self.folder.display(place.name)
        self.emit(events.Queued, path=path, token=place.token, position=position)
        self._trigger = self.session.world.monotonic()
        if position in AT_THE_TOP:
            self._succession.stand_by(place)
        else:
            self._look_ahead_later()
        if position == 1:
            self.emit(events.NextInLine, token=place.token)
        self._wake()

    def _look_ahead_later(self) -> None:
        """In place of an idle ping: the request touches the session just the same."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(LOOK_EVERY * self.session.timeout, self._look_ahead_now)

    def _look_ahead_now(self) -> None:
        self._idle = None
        if not self._departed and self._failure is None and self._machine.position not in AT_THE_TOP:
            self._post(candidacy.Idle())
            self._look_ahead_later()

    def _lose(self, reason: LossReason) -> None:
        place = self._own_place()
        self._lookout.forget()
        self._succession.stand_back()
        if reason is not LossReason.FOREIGN_CONTENDER:  # beside a foreigner it stands until the body has ended
            self._place = None
        leader = self._succession.leader
        if leader is not None:
            if reason is LossReason.NODE_DELETED and not leader.is_leader:
                reason = LossReason.DEADLINE_PASSED  # it went with the session while this process stood still
            leader._end(reason, void=True)
        self._tell_lost(place.token, reason)
        if leader is None and self._machine.state is candidacy.State.GONE:
            self._contend_anew()
        self._wake()

    def _tell_lost(self, token: int, reason: LossReason) -> None:
        if token != self._told_lost:
            self._told_lost = token
            self.emit(events.Lost, token=token, reason=reason)

    def _lapsed(self, leader: Leader) -> None:
        """Elected, but no longer proven when somebody came for it, as after a freeze: nobody has acted, so contend on."""
        leader._end(LossReason.DEADLINE_PASSED, void=True)
        self._succession.revoke()
        self._tell_lost(leader.token, leader._reason or LossReason.DEADLINE_PASSED)
        self._contend_anew()

    def _contend_anew(self) -> None:
        """Nobody was before us, and nobody was told: back to the end of the queue."""
        self._lookout.forget()
        self._succession.stand_back()
        place, self._place = self._place, None
        if place is not None:
            self._succession.leave(place)
        self._machine = candidacy.Candidacy(NATIVE, self._machine.entry)
        self._outbox.clear()
        self._post(candidacy.Enter())

    def _refuse(self, refusal: candidacy.Refusal, name: str) -> None:
        error = ForeignContender if refusal is candidacy.Refusal.FOREIGN else SequenceExhausted
        self._fail(error(self.election, name))

    def _elected(self, leader: Leader) -> None:
        self.emit(events.Elected, path=leader.path, token=leader.token, trigger=self._trigger)
        self._wake()

    def _passed_over(self) -> None:
        self._tell_lost(self._own_place().token, LossReason.STEP_DOWN_REQUESTED)
        self._contend_anew()

    # The session's observer

    def session_suspended(self) -> None:
        self.emit(events.Suspended)

    def session_resumed(self) -> None:
        self.emit(events.Resumed)
        self._succession.resumed()

    def session_ended(self) -> None:
        if self._succession.leader is not None:
            self._succession.leader._end(LossReason.SESSION_EXPIRED, void=True)
        if self._place is not None:
            self._post(candidacy.SessionEnded())

    def session_opened(self) -> None:
        pass

    def session_closed(self) -> None:
        failure = self.session.failure
        if self._succession.leader is not None:
            reason = LossReason.CLIENT_CLOSED if failure is None else LossReason.SESSION_EXPIRED
            if isinstance(failure, AuthenticationFailed):
                reason = LossReason.AUTHENTICATION_FAILED
            self._succession.leader._end(reason, void=True)
        self._fail(failure or ClientClosed(f"the client was closed while {self!r} contended"))


def _check_drain(drain: float | None, timing: Timing) -> None:
    if drain is not None:
        if isinstance(drain, bool) or not isinstance(drain, (int, float)):
            raise TypeError(f"drain must be a number of seconds, not {drain!r}")
        dataclasses.replace(timing, drain=drain)
