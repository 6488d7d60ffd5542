"""One ZooKeeper session over as many connections as it takes.

One task owns the connection state: it connects, waits until the connection ends, and connects again. Everything else asks. The
session outlives its connections; only ZooKeeper's word ends it (a connect reply with session id 0, or with too short a timeout
for the lease), or the certainty that its time has passed: after three session timeouts without a connection, a server that
refuses the old session and grants a new one.

Reads are repeated on the next connection, writes never are: what became of one is for the caller to find out.

The public part beside our own is what aiozk's recipes use of its session: ``start, close, send, ensure_safe_state, state, conn,
add_watch_callback, remove_watch_callback, xid, last_zxid``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from aiozk import exc

from aioelect import events
from aioelect.cleanup import finish
from aioelect.errors import ConnectionLoss, ConnectTimeout, Executed, SessionExpired
from aioelect.model import Timing
from aioelect.ports import Address, World
from aioelect.zookeeper import wire
from aioelect.zookeeper.connection import Answer, Connection, Reply
from aioelect.zookeeper.dispatch import Dispatch
from aioelect.zookeeper.handshake import Handshake
from aioelect.zookeeper.hosts import Hosts
from aioelect.zookeeper.observers import Observer, Observers
from aioelect.zookeeper.security import Auth, Tls
from aioelect.zookeeper.servers import Servers
from aioelect.zookeeper.states import SessionState, States
from aioelect.zookeeper.tending import Tending
from aioelect.zookeeper.terms import Terms
from aioelect.zookeeper.watches import WatchCallback, Watches

__all__ = ["Observer", "Session", "SessionState"]

log = logging.getLogger("aioelect.session")

FAREWELL = 1.0
"""Seconds that :meth:`Session.close` waits for a server at the most."""

BRIEF = 1.0
"""Seconds that a connection must live for its end to be no failed attempt."""

MUCH_LESS = 0.75
"""Of the session timeout that was asked for: a warning says so where less was granted."""

HOPELESS = 3.0
"""Session timeouts without a connection after which a refused session may be given up for a new one."""


_UNBOUNDED = contextlib.nullcontext()
"""In place of a timeout, which would be made for nothing with each request."""


class Session:
    """See the module's docstring. ``timeout`` and ``request_timeout`` in seconds."""

    def __init__(
        self,
        hosts: Hosts,
        *,
        timeout: float,
        request_timeout: float | None = None,
        timing: Callable[[float], Timing] = Timing.derive,
        allow_read_only: bool = False,
        auth: Sequence[Auth] = (),
        tls: Tls | None = None,
        world: World | None = None,
        on_event: events.OnEvent | None = None,
    ) -> None:
        self.requested_timeout = timeout
        self.request_timeout = request_timeout or timeout
        self.allow_read_only = allow_read_only
        self.world = world or World()
        self.state = SessionState(self)
        self.conn: Connection | None = None
        self.session_id: int | None = None
        self.xid = 0
        self.last_zxid: int | None = None
        self._terms = Terms(timeout, timing)
        self.lease = self._terms.lease
        self._password = bytes(16)
        self._observers = Observers(self.world.monotonic, on_event)
        self._watches = Watches()
        self._foretold: dict[bytes, Callable[[], object]] = {}
        self._dispatch = Dispatch(self._watches, self._send_unasked)
        self._servers = Servers(hosts, self.world, self._terms)
        self._handshake = Handshake(self.world, tuple(auth), tls)
        self._tending = Tending(self.world.clock)
        self._is_new = False
        self._suspended_at = 0.0
        self._owner: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._disconnected = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Session {self.session_id or 0:#x} with {self.hosts}: {self.state.current_state}>"

    @property
    def hosts(self) -> Hosts:
        """The servers, and the chroot that the user gave with them."""
        return self._servers.hosts

    @property
    def password(self) -> bytes:
        """Whoever has it, and the session's id, can resume the session."""
        return self._password

    @property
    def timeout(self) -> float:
        """The session timeout in seconds, as granted by the last connection, or asked for."""
        return self._terms.timeout

    @property
    def timing(self) -> Timing:
        """What follows from it and from the servers' tickTime."""
        return self._terms.timing

    @property
    def tick_is_stated(self) -> bool:
        """Whether the user has said what the servers' tickTime is."""
        return self._terms.tick_is_stated

    @property
    def failure(self) -> Exception | None:
        """What has ended the session by itself, such as credentials that are no longer valid."""
        return self.state.failure

    @property
    def started(self) -> bool:
        """From :meth:`start` until the session is being closed, or has failed."""
        return self.state.started

    @property
    def connected(self) -> bool:
        """Whether requests can be written right now."""
        return self.state.started and self.state.current_state == States.CONNECTED

    # Life

    async def start(self, timeout: float | None = None) -> None:
        """Connects, and returns when there is a session.

        Raises ``ConnectTimeout`` after ``timeout`` seconds (None: never), ``AuthenticationFailed``, and ``TlsError`` where no
        server can be trusted, or trusts us.
        """
        if starting := not self.started:
            self.state.start()
            self._closing = None
            self.last_zxid = None
            self._suspended_at = self.world.clock()
            self._owner = asyncio.create_task(self._own(), name="aioelect session")
            self._owner.add_done_callback(self._owner_done)
        try:
            async with asyncio.timeout(timeout):
                await self.ensure_safe_state()
        except TimeoutError:
            why = self._servers.troubles or "no attempt has ended yet"
            if starting:
                await self.close()
            raise ConnectTimeout(str(self.hosts), timeout or 0, why) from None
        except BaseException:
            if starting:
                await self.close()
            raise

    def _owner_done(self, owner: asyncio.Task[None]) -> None:
        """Only an error that no retry can mend ends the owner by itself."""
        if not owner.cancelled() and (error := owner.exception()) is not None and self.started:
            assert isinstance(error, Exception)  # noqa: S101
            log.error("session %#x is given up: %s", self.session_id or 0, error)
            self.state.fail(error)
            self._forget()

    async def close(self, *, abandon: bool = False) -> None:
        """Ends the session on the server if one can be reached within a second, and returns in any case.

        A cancellation is raised when that is done. ``abandon`` leaves the session to expire: somebody may still act in its name.
        """
        if self._owner is None:
            return
        self.check_loop()
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(self._owner, abandon), name="aioelect close")
        await finish(self._closing, 2 * FAREWELL)

    async def _close(self, owner: asyncio.Task[None], abandon: bool) -> None:
        if self.started:
            self.state.started = False
            try:
                if not abandon:
                    async with asyncio.timeout(FAREWELL):
                        await self._take_leave()
            except TimeoutError:
                log.info("no server took the end of session %#x in time; it will expire", self.session_id or 0)
            finally:
                owner.cancel()
                self._forget()
        open_yet = [connection for connection in (self.conn, self._handshake.connection) if connection is not None]
        for connection in open_yet:
            connection.abort()
        await asyncio.wait([owner])
        for connection in open_yet:
            await connection.wait_closed()
        self.conn = None

    async def _take_leave(self) -> None:
        """Ends the session on the server, on this connection or on the next."""
        while self.state.current_state != States.LOST:
            await self.state.wait_for(States.CONNECTED, States.READ_ONLY, States.LOST)
            if self.conn is not None and await self.conn.finish(self._next_xid()):
                return

    def _forget(self) -> None:
        """The session is no longer ours: fail those who wait for it."""
        self._tending.stop()
        self.lease.ended()
        session_id, self.session_id = self.session_id, None
        self._password = bytes(16)
        self.state.end()
        self._observers.tell(lambda observer: observer.session_closed())
        self._observers.report(events.Closed, session_id)

    def observe(self, observer: Observer) -> None:
        """Tells ``observer`` what happens from now on."""
        self._observers.add(observer)

    def unobserve(self, observer: Observer) -> None:
        """Does nothing where it does not observe."""
        self._observers.remove(observer)

    def check_loop(self) -> None:
        """Raises ``RuntimeError`` in any event loop but the session's own."""
        self.state.check_loop()

    # Requests

    async def ensure_safe_state(self, writing: bool = False) -> None:
        """Waits until requests can be sent, for ever if need be; raises ``ClientClosed`` where there is no hope."""
        read_only = [States.READ_ONLY] if self.allow_read_only and not writing else []
        await self.state.reach(States.CONNECTED, *read_only)

    def submit(self, request: Any, session_id: int | None = None) -> asyncio.Future[Reply]:
        """Writes a request at once. The future fails with ``ConnectionLoss`` where there is no connection that takes it: a
        read-only server takes reads alone.

        With ``session_id``, it fails with ``SessionExpired`` where that is no longer our session.
        """
        self.state.check_open()
        refusal: Exception
        if session_id is not None and session_id != self.session_id:
            refusal = SessionExpired(session_id)
        elif self.conn is not None and (
            self.state.current_state == States.CONNECTED
            or (self.state.current_state == States.READ_ONLY and wire.is_read(request))
        ):
            return self.conn.request(request, self._next_xid())
        else:
            refusal = ConnectionLoss("", 0, "not connected to a server that takes it", Executed.NO)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        future.set_exception(refusal)
        return future

    async def ask(self, request: Any, *, session_id: int | None = None, timeout: float | None = None) -> Reply:
        """Sends a request when there is a connection, and again on the next one if it can't have been executed.

        ``timeout`` in seconds, None for as long as it takes. Raises what ZooKeeper answers (``aiozk.exc``), ``ConnectionLoss``
        when time is up or the fate of a write is unknown, ``SessionExpired`` when ``session_id`` is given and has ended,
        and ``ClientClosed``.
        """
        is_read = wire.is_read(request)
        fate = Executed.NO
        try:
            async with _UNBOUNDED if timeout is None else asyncio.timeout(timeout):
                while True:
                    if self.state.current_state != States.CONNECTED:
                        if session_id is not None and session_id != self.session_id:
                            raise SessionExpired(session_id)
                        await self.ensure_safe_state(writing=not is_read)
                    fate = Executed.NO if is_read else Executed.UNKNOWN
                    try:
                        return await self.submit(request, session_id)
                    except ConnectionLoss as e:
                        if e.executed is not Executed.NO:
                            raise
                    except exc.SessionMoved:
                        pass  # refused by the server; the connection is being replaced
                    except exc.SessionExpired:
                        raise SessionExpired(session_id or self.session_id or 0) from None
                    fate = Executed.NO
        except TimeoutError:
            raise ConnectionLoss("", 0, f"no answer within {timeout:g} s", fate) from None

    def _send_unasked(self, request: Any) -> None:
        if self.connected:
            self.submit(request).add_done_callback(_disregard)

    async def send(self, request: Any) -> Any:
        """aiozk's call: the record of the reply."""
        reply = await self.ask(request, timeout=self.request_timeout)
        return reply.record

    def _next_xid(self) -> int:
        self.xid = self.xid % 0x7FFFFFFF + 1
        return self.xid

    # Watches

    def add_watch_callback(self, event_type: int, path: str, callback: WatchCallback) -> None:
        """Calls ``callback(path)`` at every such event of ``path`` (with chroot), until it is removed."""
        self._watches.add(event_type, path, callback)

    def remove_watch_callback(self, event_type: int, path: str, callback: WatchCallback) -> None:
        """Does nothing where there is no such callback."""
        self._watches.remove(event_type, path, callback)

    @property
    def watch_callbacks(self) -> dict[tuple[int, str], tuple[WatchCallback, ...]]:
        """Who listens to what; aiozk's name."""
        return self._watches.callbacks

    def foretell_deletion(self, path: str, call: Callable[[], object]) -> Callable[[], None]:
        """Calls ``call()`` when the deletion of ``path``, where a watch is set, is all that has arrived; what else has to be done
        about it is done a turn of the event loop later. Returns what ends that."""
        event = wire.foreseen(wire.deletion_event(path))
        self._foretold[event] = call

        def stop() -> None:
            self._foretold.pop(event, None)

        return stop

    # What the connection says (its Owner)

    def replied(self, connection: Connection, answer: Answer) -> None:
        if answer.zxid > 0 and connection is self.conn:
            self.last_zxid = max(self.last_zxid or 0, answer.zxid)
        if wire.touches(answer.request):
            self.lease.touched(answer.sent, answer.acknowledged)
        self._dispatch.answered(answer)
        if answer.error == exc.SessionMoved.error_code:
            asyncio.get_running_loop().call_soon(connection.abort, "the session has moved to another server")

    def notified(self, connection: Connection, event: Any) -> None:
        if not event.type:
            return
        if connection is self.conn:
            self._dispatch.happened(event)
        else:
            self._dispatch.postpone(event)

    def ended(self, connection: Connection, why: str) -> None:
        log.info("connection to %s ended: %s", connection.server, why)
        if connection is not self.conn:
            return
        self.lease.disconnected()
        self._suspended_at = self.world.clock()
        self._tending.stop()
        self._disconnected.set()
        self.state.moved_to(States.SUSPENDED)
        if self.started:
            self._observers.report(events.Disconnected, self.session_id, server=connection.server, why=why)
            self._observers.tell(lambda observer: observer.session_suspended())

    def drop(self, why: str, *, silent: bool = False) -> None:
        """Ends the connection; the session goes on on the next one."""
        if self.conn is not None:
            self.conn.abort(why, silent=silent)

    def be_patient(self, patience: float | None) -> None:
        """How long a request may go unanswered before the server is given up, and what back-off keeps below: seconds, or None."""
        self._servers.patience = patience
        self._tending.be_patient(patience)

    # Connecting (the owner task)

    async def _own(self) -> None:
        brief = 0
        while True:
            self._disconnected.clear()
            await self._servers.find(self._resume_or_open, self._in_vain)
            since = self.world.clock()
            await self._stay()
            brief = brief + 1 if self.world.clock() - since < BRIEF else 0
            if brief > 1:
                await asyncio.sleep(self._servers.delay(brief))

    async def _stay(self) -> None:
        """Returns when the connection has ended: by itself, or since it is to a read-only server and another one is not."""
        if self.conn is None or not self.conn.read_only:
            await self._disconnected.wait()
            return
        seeking = asyncio.create_task(self._seek_writable((self.conn.host, self.conn.port)), name="aioelect seek")
        try:
            await self._disconnected.wait()
        finally:
            seeking.cancel()
            await asyncio.wait([seeking])

    async def _seek_writable(self, but: Address) -> None:
        async def inquire(address: Address, name: str, bound: float) -> None:
            reply = await self._handshake.inquire(address, name, bound, self.requested_timeout)
            if reply.read_only or reply.session_id == 0:
                raise ConnectionLoss(*address, "it grants no session that can write", Executed.NO)

        await self._servers.seek(inquire, but)
        self.drop("it is read-only, and another server is not")

    def _in_vain(self, retry_in: float) -> None:
        self._observers.report(events.Unreachable, self.session_id, why=self._servers.troubles, retry_in=retry_in)

    async def _resume_or_open(self, address: Address, name: str, bound: float) -> None:
        """Resumes the session on a server, or opens a new one where there is none or it has ended."""
        try:
            has_ended = not await self._join(address, name, bound)
        except ConnectionLoss:
            if not self._is_hopeless():
                raise
            if self.session_id is None:
                self.last_zxid = None  # servers refuse whoever has seen more than they have, and it may have been a lie
                raise
            if (await self._handshake.inquire(address, name, bound, self.requested_timeout)).session_id == 0:
                raise
            # It has a quorum, since it grants a new session. If it still refuses ours, that is history, as after a wipe.
            try:
                has_ended = not await self._join(address, name, bound)
            except ConnectionLoss:
                has_ended = True
                self.last_zxid = None
        if has_ended:
            self._end_session()
            if not await self._join(address, name, bound):
                raise ConnectionLoss(*address, "the server refused a new session", Executed.NO)

    def _is_hopeless(self) -> bool:
        return self.world.clock() - self._suspended_at > HOPELESS * self.timeout

    async def _join(self, address: Address, name: str, bound: float) -> bool:
        """The stages of a connection: connect, TLS, session, authentication, watches. False: the session has ended."""
        self._dispatch.expect()
        request = wire.connect_frame(
            last_zxid=self.last_zxid or 0,
            timeout=self.requested_timeout,
            session_id=self.session_id or 0,
            password=self._password,
            read_only=self.allow_read_only,
        )
        async with self._handshake.greeted(address, name, bound, request, self) as (connection, sent, reply):
            if reply.session_id == 0:
                connection.abort("the session had ended")
                return False
            if self.session_id not in (None, reply.session_id):
                raise ConnectionLoss(*address, f"asked for its session, it gave {reply.session_id:#x}")
            try:
                self._terms.check(reply.timeout, is_new=self.session_id is None)
            except ValueError as e:
                await self._decline(e, connection, bound)
                return False
            self._adopt(reply, sent, connection)
            async with asyncio.timeout(max(bound, self.timeout / 3)):
                await self._handshake.authenticate(connection)
                await self._set_watches(connection)
            self._serve(connection)
            return True

    async def _decline(self, why: ValueError, connection: Connection, bound: float) -> None:
        """The server has granted too little. Returns where the session that we had has to end for it.

        Another server would not help that session: its timeout was changed for all of them. It is left to expire: who led by it
        may still have to end a body, and the next one must not begin beside that. Raises ``why`` on the first connection, where
        it is the user's mistake, and ``ConnectionLoss`` on a later one if the session was a new one: others may grant more.
        """
        if self.session_id is not None:
            log.warning(
                "session %#x is left to expire, %s granted too little: %s", self.session_id, connection.server, why
            )
            connection.abort("it granted too short a session timeout")
            return
        await self._handshake.dismiss(connection, bound)
        if self.conn is None:
            raise why
        raise ConnectionLoss(connection.host, connection.port, str(why), Executed.NO)

    async def probe_tick(self) -> None:
        """Learns the server's bound of its tickTime: the least timeout that it grants is two ticks.

        Raises ``OSError`` (``TimeoutError``) or ``ConnectionLoss`` where it can't be asked now.
        """
        if (conn := self.conn) is not None:
            reply = await self._handshake.inquire((conn.host, conn.port), conn.name, self.timeout / 3, 0.001)
            if reply.session_id != 0:
                self._terms.learn_tick(reply.timeout / 2)

    def _adopt(self, reply: wire.ConnectReply, sent: float, connection: Connection) -> None:
        """Takes the server's terms."""
        connection.read_only = reply.read_only
        if self.session_id is None:
            self._is_new = True
            self.session_id = reply.session_id
            self._password = reply.password
            self._terms.opened(sent, reply.timeout)
            if reply.timeout < MUCH_LESS * self.requested_timeout:
                log.warning(
                    "asked for a session timeout of %g s, %s granted %g s: outages of %.2g s are ridden out, and no longer ones. "
                    "Raise maxSessionTimeout on the servers, or ask for what they grant",
                    *(self.requested_timeout, connection.server, reply.timeout, self.timing.ride_out),
                )
        else:
            self._terms.resumed(sent, connection.last_read, reply.timeout)

    async def _set_watches(self, connection: Connection) -> None:
        requests = self._watches.set_watches(self.last_zxid or 0)
        await self._handshake.ask_first(connection, requests, self._next_xid)

    def _serve(self, connection: Connection) -> None:
        """The connection is ready: what came early is one batch, and everybody may go on."""
        if connection.closing:
            raise ConnectionLoss(connection.host, connection.port, connection.why_ended or "closed", Executed.NO)
        self.conn = connection
        connection.foretold = self._foretold
        self.state.moved_to(States.READ_ONLY if connection.read_only else States.CONNECTED)
        self._dispatch.catch_up()
        if self.state.current_state == States.SUSPENDED:
            return  # a callback has dropped the connection
        self._tending.start(connection, self.timeout)
        is_new, self._is_new = self._is_new, False
        session_id, server = self.session_id, connection.server
        log.info("session %#x is connected to %s", session_id or 0, server)
        if is_new:
            self._observers.report(events.Connected, session_id, server=server, session_timeout=self.timeout)
            self._observers.tell(lambda observer: observer.session_opened())
        else:
            self._observers.report(events.Reconnected, session_id, server=server)
            self._observers.tell(lambda observer: observer.session_resumed())

    def _end_session(self) -> None:
        """Everybody who depended on the session learns it, once."""
        session_id, self.session_id = self.session_id or 0, None
        self._password = bytes(16)
        self.lease.ended()
        self._suspended_at = self.world.clock()
        self.state.moved_to(States.LOST)
        if self.started and not self._is_new:
            log.warning("session %#x has ended", session_id)
            self._observers.report(events.Expired, session_id)
            self._observers.tell(lambda observer: observer.session_ended())


def _disregard(answer: asyncio.Future[Reply]) -> None:
    """Nobody asks how it went."""
    if not answer.cancelled():
        answer.exception()
