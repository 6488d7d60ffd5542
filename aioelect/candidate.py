"""One contender: ``Candidate``, and the ``Leader`` that it may become.

``candidacy`` decides about the queue, ``lease`` about time; this shell performs what they say.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, ParamSpec, Self

import anyio

from aioelect import candidacy, events
from aioelect.cleanup import finish
from aioelect.errors import ClientClosed, Deposed, ForeignContender, LeadershipLost, SequenceExhausted, SessionExpired
from aioelect.events import OnEvent
from aioelect.fencing import Fence, Transaction
from aioelect.model import LossReason, Timing
from aioelect.naming import NATIVE, ZnodeData, check_identity, check_path
from aioelect.zookeeper.client import Client
from aioelect.zookeeper.folder import Folder, Place
from aioelect.zookeeper.multi import Done, Operation

__all__ = ["Candidate", "Leader"]

P = ParamSpec("P")

log = logging.getLogger("aioelect.election")


class Leader:
    """A term of leadership, for as long as it lasts.

    ``identity`` and ``path`` of the contender, ``token`` (the fencing token: it grows from leader to leader, never repeats),
    ``election``, and ``since``, when the term began (``CLOCK_MONOTONIC``, seconds).
    """

    def __init__(self, candidate: Candidate, place: Place, since: float) -> None:
        self.identity = candidate.identity
        self.election = candidate.election
        self.path = candidate.folder.display(place.name)
        self.token = place.token
        self.since = since
        self._candidate = candidate
        self._session_id = place.session_id
        self._fence = Fence(candidate.client, self.election, self.path, self.token, self._session_id)
        self._pid = os.getpid()
        self._reason: LossReason | None = None
        self._void = False
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[LossReason] = self._loop.create_future()
        self._body: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Leader {self.identity!r} of {self.election}, token {self.token:#x}, {self._reason or 'leading'}>"

    # Asking

    def remaining(self) -> float:
        """Seconds for which leadership is proven from now on, 0 when it is not.

        A comparison of clocks: it holds before the event loop has run again, after a stop of the process or of the machine.
        """
        session = self._candidate.session
        if self._void or session.session_id != self._session_id or os.getpid() != self._pid:
            return 0.0
        return session.lease.remaining(session.world.clock())

    @property
    def is_leader(self) -> bool:
        """Whether leadership is proven right now."""
        return self.remaining() > 0

    def check(self) -> None:
        """Raises ``LeadershipLost`` unless leadership is proven right now."""
        if not self.is_leader:
            raise LeadershipLost(self._reason or LossReason.DEADLINE_PASSED, self.token, self.election)

    def transaction(self) -> Transaction:
        """ZooKeeper writes that only a leader can make: all of them happen when the block ends, or none.

        ``async with leader.transaction() as txn: txn.set("/config", b"1")``, then ``txn.results``. The server refuses it for
        a deposed leader, even after a pause that no clock saw. Raises ``Deposed``; ``TransactionRefused`` for an
        operation of yours; ``OutcomeUnknown`` where the answer was lost, for it is never sent twice; and
        ``ConnectionLoss`` where it was not executed. See ``aioelect.fencing`` for how.
        """
        return Transaction(self._commit)

    async def _commit(self, operations: Sequence[Operation]) -> tuple[Done, ...]:
        if self._void:
            raise Deposed(self.election, self.token)
        try:
            return await self._fence.commit(operations)
        except Deposed:
            self._end(LossReason.NODE_DELETED, void=True)
            raise

    async def lost(self) -> LossReason:
        """Returns when the term ends, with the reason: ``RESIGNED`` after :meth:`resign`."""
        return await asyncio.shield(self._ended)

    # Ending

    def resign(self) -> None:
        """Steps down: the body is cancelled, may drain, and the block ends without an error.

        Synchronous and idempotent, and fit for a signal handler or another thread.
        """
        if not self._ended.done():
            self._loop.call_soon_threadsafe(self._end, LossReason.RESIGNED)

    def _end(self, reason: LossReason, *, void: bool = False) -> None:
        """The term ends. ``void``: leadership is gone already, whatever the clock says."""
        self._void = self._void or void
        if self._reason is not None:
            return
        self._reason = reason
        if self._timer is not None:
            self._timer.cancel()
        self._candidate.emit(events.Losing, token=self.token, reason=reason, drain=self._candidate.drain)
        self._ended.set_result(reason)
        if self._body is not None:
            self._body()

    def _finish(self) -> None:
        """The body has ended: from here on the znode may go, and nothing is proven any more."""
        self._void = True
        if self._timer is not None:
            self._timer.cancel()
        if self._reason is None:
            self._reason = LossReason.RESIGNED
            self._ended.set_result(self._reason)

    def _watch_deadline(self) -> None:
        """Ends the term ``drain`` before the deadline, unless that has moved by then."""
        if self._reason is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        left = self.remaining() - self._candidate.drain
        if left > 0:
            self._timer = self._loop.call_later(left, self._watch_deadline)
        else:
            self._end(LossReason.DEADLINE_PASSED)


class Candidate:
    """One contender of one election, without a cancel scope: it may be entered in one task and left in another.

    ``candidate = await Candidate.enter(client, path)``, ``leader = await candidate.wait_elected()``, ``await leader.lost()``,
    ``await candidate.withdraw()``. As an async context manager it enters and withdraws.
    """

    def __init__(
        self,
        client: Client,
        election: str,
        *,
        identity: str | None = None,
        data: bytes = b"",
        drain: float | None = None,
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
        self.folder = Folder(client, election)
        host, pid, random = socket.gethostname(), os.getpid(), self.session.world.random
        self.identity = check_identity(f"{host}:{pid}:{random.getrandbits(24):06x}" if identity is None else identity)
        self._nonce = f"{random.getrandbits(128):032x}"
        self._payload = ZnodeData(self.identity, bytes(data), host, pid, self._nonce).encode()
        self._drain = drain
        _check_drain(drain, self.session.timing)
        self._on_event = on_event
        self._machine = candidacy.Candidacy(NATIVE)
        self._place: Place | None = None
        self._leader: Leader | None = None
        self._announced = False
        self._failure: Exception | None = None
        self._inbox: list[candidacy.Event] = []
        self._work: set[asyncio.Task[None]] = set()
        self._creating: asyncio.Task[None] | None = None
        self._unwatch_own: Callable[[], None] | None = None
        self._unwatch_predecessor: Callable[[], None] | None = None
        self._kept: str | None = None
        self._trigger = 0.0
        self._changed = asyncio.Event()
        self._started = False
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
        drain: float | None = None,
        on_event: OnEvent | None = None,
    ) -> Candidate:
        """Joins the queue; returns when the znode is made. Arguments and errors as :func:`leadership`."""
        candidate = cls(client, election, identity=identity, data=data, drain=drain, on_event=on_event)
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
        self.session.observe(self)
        self.client.dependents[self] = None
        try:
            self._post(candidacy.Enter())
            await self._until(lambda: self._place is not None)
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
            await self._until(lambda: self._leader is not None)
            leader = self._leader
            assert leader is not None  # noqa: S101  # what was waited for
            if self._announced or leader.remaining() > self.drain:
                self._announced = True
                return leader
            self._lapsed(leader)

    async def wait_position(self) -> int:
        """Waits until the place in the queue is known: how many are before this contender."""
        await self._until(lambda: self._machine.position is not None)
        return self._machine.position or 0

    async def withdraw(self) -> None:
        """Leaves the queue, or the leadership. Waits a second or so until the znode is gone; if no server confirms it by then,
        it goes at the next connection, or with the session. Idempotent."""
        if self._withdrawing is None:
            self._withdrawing = asyncio.ensure_future(self._withdraw())
        await finish(self._withdrawing, bound=None)

    async def _withdraw(self) -> None:
        leader = self._leader
        if leader is not None:
            leader._finish()
            if leader._reason not in (None, LossReason.RESIGNED):
                self._tell_lost(leader.token, leader._reason)
        self._machine.receive([candidacy.Withdraw()])
        self.session.unobserve(self)
        self._forget_watches()
        for task in self._work:
            task.cancel()
        place, self._place = self._place, None
        try:
            if self._work:
                await asyncio.wait(self._work)
            if place is not None and self._machine_owns(place):
                gone = await finish(self.folder.leave(place))
                self.emit(events.Released, token=place.token, confirmed=gone)
        finally:
            self._release_lease()
            self.client.dependents.pop(self, None)
            self._wake()

    def _machine_owns(self, place: Place) -> bool:
        return place.session_id == self.session.session_id

    async def stand_down(self) -> bool:
        """The client is being closed: contends no longer, ends the term, and tells whether its leader has ended in ``drain``.

        A block ends by itself; who holds a ``Candidate`` may still act until it withdraws.
        """
        leader = self._leader
        if leader is None or self._withdrawing is not None:
            self._fail(ClientClosed(f"the client was closed while {self!r} contended"))
            return True
        leader._end(LossReason.CLIENT_CLOSED)
        with anyio.move_on_after(self.drain + 0.5):
            while self in self.client.dependents:
                await self._next_change()
        return self not in self.client.dependents

    @property
    def position(self) -> int | None:
        """How many were before this contender when it last looked; None while that is unknown."""
        return self._machine.position

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._failure is not None:
                raise self._failure
            if self._withdrawing is not None:
                raise ClientClosed(f"{self!r} has withdrawn: make another Candidate to contend again")
            await self._next_change()

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()

    @property
    def drain(self) -> float:
        """Seconds that the body has to unwind."""
        return self.session.timing.drain if self._drain is None else self._drain

    def emit(self, kind: Callable[..., events.ElectionEvent], **facts: Any) -> None:
        """Hands an event on to the user's handler."""
        event = kind(at=self.session.world.monotonic(), election=self.election, identity=self.identity, **facts)
        log.debug("%s", event)
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception as e:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"aioelect: error in the on_event handler of {self.election}", "exception": e}
                )

    # Events in, commands out

    def _post(self, event: candidacy.Event) -> None:
        """What arrives in one turn of the event loop is one batch: after a reconnect its order means nothing."""
        if not self._inbox:
            asyncio.get_running_loop().call_soon(self._pump)
        self._inbox.append(event)

    def _pump(self) -> None:
        batch, self._inbox = self._inbox, []
        try:
            for command in self._machine.receive(batch):
                self._perform(command)
        except Exception as e:
            self._fail(e)

    def _perform(self, command: candidacy.Command) -> None:
        match command:
            case candidacy.Create(entry):
                self._creating = self._spawn(self._create, entry)
            case candidacy.WatchOwn(entry, name):
                self._unwatch_own = self.folder.on_deleted(name, lambda _: self._deleted(name))
                self._spawn(self._watch_own, entry, self._own_place())
            case candidacy.ListFolder(entry):
                self._spawn(self._list, entry, self._own_place())
            case candidacy.WatchPredecessor(entry, name):
                self._forget_predecessor()
                self._unwatch_predecessor = self.folder.on_deleted(name, lambda _: self._predecessor_deleted(name))
                self._spawn(self._watch_predecessor, entry, name, self._own_place())
            case candidacy.Announce(position):
                self._announce(position)
            case candidacy.Exorcise(name):
                ghost = Place(name, 0, self._own_place().session_id)
                self._spawn(self.folder.leave, ghost)
            case candidacy.Lead():
                self._forget_predecessor()
                self._keep_lease_warm()
                self._lead_if_proven()
            case candidacy.Lose(reason):
                self._lose(reason)
            case candidacy.Refuse(refusal, name):
                self._refuse(refusal, name)

    def _own_place(self) -> Place:
        assert self._place is not None  # noqa: S101  # the machine watches and leads only with a znode
        return self._place

    def _spawn(
        self, work: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Task[None]:
        """Asks the server something; an answer that the machine can't go on with ends the candidacy."""

        async def guarded() -> None:
            try:
                await work(*args, **kwargs)
            except SessionExpired:
                pass  # the observer tells the machine
            except Exception as e:
                self._fail(e)

        task = asyncio.ensure_future(guarded())
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    def _fail(self, error: Exception) -> None:
        log.info("%r gives up: %s", self, error)
        self._failure = self._failure or error
        self._wake()

    async def _create(self, entry: int) -> None:
        place = await self.folder.enter(NATIVE.prefix, self._payload, self._nonce)
        self._place = place
        _check_drain(self._drain, self.session.timing)  # the server may have granted another session timeout
        self._post(candidacy.Entered(entry, place.name, place.token))
        if place.session_id != self.session.session_id:
            self._post(candidacy.SessionEnded())
        self._wake()

    async def _watch_own(self, entry: int, place: Place) -> None:
        owner = await self.folder.watch(place.name, place.session_id)
        self._post(candidacy.OwnSeen(entry, owner == place.session_id))

    async def _list(self, entry: int, place: Place) -> None:
        names = await self.folder.names(place.session_id)
        self._post(candidacy.Listed(entry, names))

    async def _watch_predecessor(self, entry: int, name: str, place: Place) -> None:
        owner = await self.folder.watch(name, place.session_id)
        self._post(candidacy.PredecessorSeen(entry, name, self._occupant(name, owner)))

    def _occupant(self, name: str, owner: int | None) -> candidacy.Occupant:
        if owner is None:
            return candidacy.Occupant.NOBODY
        if owner == 0:
            return candidacy.Occupant.SQUATTER
        if owner != self.session.session_id or self._is_alive(name):
            return candidacy.Occupant.CONTENDER
        return candidacy.Occupant.GHOST

    def _is_alive(self, name: str) -> bool:
        """Whether a candidate of this client has that znode, or may have: one whose create is not settled yet."""
        path = self.folder.locate(name)
        for other in self.client.dependents:
            if isinstance(other, Candidate) and (
                (other._creating is not None and not other._creating.done())
                or (other._place is not None and other.folder.locate(other._place.name) == path)
            ):
                return True
        return False

    def _deleted(self, name: str) -> None:
        self._trigger = self.session.world.monotonic()
        self._post(candidacy.Deleted(name))

    def _predecessor_deleted(self, name: str) -> None:
        self._forget_predecessor()  # at once, or the watch would be set anew, on a name that never comes back
        self._deleted(name)

    def _announce(self, position: int) -> None:
        place = self._own_place()
        path = self.folder.display(place.name)
        self.emit(events.Queued, path=path, token=place.token, position=position)
        self._trigger = self.session.world.monotonic()
        if position == 1:
            self._keep_lease_warm()
            self.emit(events.NextInLine, token=place.token)
        self._wake()

    def _lose(self, reason: LossReason) -> None:
        place = self._own_place()
        self._forget_watches()
        self._release_lease()
        if reason is not LossReason.FOREIGN_CONTENDER:  # beside a foreigner it stands until the body has ended
            self._place = None
        if self._leader is not None:
            if reason is LossReason.NODE_DELETED and not self._leader.is_leader:
                reason = LossReason.DEADLINE_PASSED  # it went with the session while this process stood still
            self._leader._end(reason, void=True)
        self._tell_lost(place.token, reason)
        if self._leader is None and self._machine.state is candidacy.State.GONE:
            self._contend_anew()
        self._wake()

    def _tell_lost(self, token: int, reason: LossReason) -> None:
        if token != self._told_lost:
            self._told_lost = token
            self.emit(events.Lost, token=token, reason=reason)

    def _lapsed(self, leader: Leader) -> None:
        """Elected, but no longer proven when the news arrived, as after a freeze: nobody has acted, so contend on."""
        leader._end(LossReason.DEADLINE_PASSED, void=True)
        self._leader = None
        self._forget_watches()
        self._release_lease()
        self._tell_lost(leader.token, leader._reason or LossReason.DEADLINE_PASSED)
        self._contend_anew()

    def _contend_anew(self) -> None:
        """Elected, but lost again before anyone was told."""
        place, self._place = self._place, None
        if place is not None:
            self._spawn(self.folder.leave, place)
        self._machine = candidacy.Candidacy(NATIVE, self._machine.entry)
        self._post(candidacy.Enter())

    def _refuse(self, refusal: candidacy.Refusal, name: str) -> None:
        error = ForeignContender if refusal is candidacy.Refusal.FOREIGN else SequenceExhausted
        self._fail(error(self.election, name))

    # The lease

    def _keep_lease_warm(self) -> None:
        if self._kept is None:
            self._kept = self.folder.locate(self._own_place().name)
            self.client.renewals.keep(self._kept, self._renewed)

    def _release_lease(self) -> None:
        if self._kept is not None:
            self.client.renewals.release(self._kept)
            self._kept = None

    def _renewed(self) -> None:
        if self._leader is not None:
            self.emit(events.Renewed, token=self._leader.token, remaining=self._leader.remaining())
        elif self._machine.state is candidacy.State.LEADING:
            self._lead_if_proven()

    def _lead_if_proven(self) -> None:
        """Nobody is before us: leads, if the lease leaves the body time to run and to unwind."""
        session, place = self.session, self._own_place()
        if self._leader is not None or self._failure is not None:
            return
        # A term has to outlast the wait for the next proof and its answer, or one contender after the other would lead for a
        # moment. The time for the answer is a part of what every lease in good order has to spare: that always comes about.
        timing = session.timing
        spare = timing.ride_out + timing.drain - self.drain - timing.renew_every
        proof_due = max(session.world.clock(), session.lease.ripe_at) + max(0.0, spare / 4)
        if session.lease.deadline - self.drain > proof_due:
            leader = self._leader = Leader(self, place, session.world.monotonic())
            self.emit(events.Elected, path=leader.path, token=place.token, trigger=self._trigger)
            leader._watch_deadline()
            self._wake()

    def _forget_watches(self) -> None:
        self._forget_predecessor()
        if self._unwatch_own is not None:
            self._unwatch_own()
            self._unwatch_own = None

    def _forget_predecessor(self) -> None:
        if self._unwatch_predecessor is not None:
            self._unwatch_predecessor()
            self._unwatch_predecessor = None

    # The session's observer

    def session_suspended(self) -> None:
        self.emit(events.Suspended)

    def session_resumed(self) -> None:
        self.emit(events.Resumed)
        if self._leader is not None:  # a server that granted less has brought the deadline forward
            self._leader._watch_deadline()

    def session_ended(self) -> None:
        if self._leader is not None:
            self._leader._end(LossReason.SESSION_EXPIRED, void=True)
        if self._place is not None:
            self._post(candidacy.SessionEnded())

    def session_opened(self) -> None:
        pass

    def session_closed(self) -> None:
        if self._leader is not None:
            self._leader._end(LossReason.CLIENT_CLOSED, void=True)
        self._fail(ClientClosed(f"the client was closed while {self!r} contended"))


def _check_drain(drain: float | None, timing: Timing) -> None:
    if drain is not None:
        if isinstance(drain, bool) or not isinstance(drain, (int, float)):
            raise TypeError(f"drain must be a number of seconds, not {drain!r}")
        dataclasses.replace(timing, drain=drain)
