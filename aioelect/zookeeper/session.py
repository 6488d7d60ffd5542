"""One ZooKeeper session over as many connections as it takes.

One task owns the connection state: it connects, waits until the connection ends, and connects again. Everything else asks. The
session outlives its connections; only ZooKeeper's word ends it (a connect reply with session id 0), or the certainty that its
time has passed: after three session timeouts without a connection, a server that refuses the old session and grants a new one.

Reads are repeated on the next connection, writes never are: what became of one is for the caller to find out.

The public part beside our own is what aiozk's recipes use of its session: ``start, close, send, ensure_safe_state, state, conn,
add_watch_callback, remove_watch_callback, xid, last_zxid``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from aiozk import exc, protocol
from aiozk.states import SessionStateMachine, States

from aioelect import events
from aioelect.cleanup import finish
from aioelect.errors import (
    AuthenticationFailed,
    ClientClosed,
    ConnectionLoss,
    ConnectTimeout,
    Executed,
    SessionExpired,
)
from aioelect.lease import Lease
from aioelect.model import Timing
from aioelect.ports import Address, World
from aioelect.zookeeper import wire
from aioelect.zookeeper.connection import Answer, Connection, Reply
from aioelect.zookeeper.hosts import Hosts, format_address
from aioelect.zookeeper.security import Auth
from aioelect.zookeeper.watches import Kind, WatchCallback, Watches

__all__ = ["Observer", "Session", "SessionState"]

log = logging.getLogger("aioelect.session")

FIRST_BOUND = 0.4
"""Seconds that the first attempt at one server may take; doubled every round, up to a third of the session timeout."""

FIRST_DELAY, LONGEST_DELAY = 0.05, 1.0
"""Seconds of pause after the first fruitless round, doubled every round, and after the last."""

FAREWELL = 1.0
"""Seconds that :meth:`Session.close` waits for a server at the most."""

BRIEF = 1.0
"""Seconds that a connection must live for its end to be no failed attempt."""

HOPELESS = 3.0
"""Session timeouts without a connection after which a refused session may be given up for a new one."""


class Observer(Protocol):
    """What a session tells those who depend on it: synchronously, in this order, each thing once."""

    def session_suspended(self) -> None:
        """The connection ended; the session lives on as far as anyone knows."""

    def session_resumed(self) -> None:
        """The same session is connected again, and its watches are set."""

    def session_ended(self) -> None:
        """The session is over, with all its ephemeral znodes."""

    def session_opened(self) -> None:
        """A new session is connected."""

    def session_closed(self) -> None:
        """The session was closed by our side; nothing follows."""


class SessionState(SessionStateMachine):  # type: ignore[misc]  # aiozk has no types
    """aiozk's state machine, without its growth: a cancelled wait is forgotten."""

    def __init__(self, session: Session) -> None:
        super().__init__(session=session)
        self.current_state: str
        self._session = session

    __hash__ = None  # type: ignore[assignment]  # as in aiozk, it compares equal to the name of its state

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


class _Inquirer:
    """Owns a connection that asks one question."""

    def replied(self, connection: Connection, answer: Answer) -> None:
        pass

    def notified(self, connection: Connection, event: Any) -> None:
        pass

    def ended(self, connection: Connection, why: str) -> None:
        pass


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
        world: World | None = None,
        on_event: events.OnEvent | None = None,
    ) -> None:
        self.hosts = hosts
        self.requested_timeout = timeout
        self.timeout = timeout
        self.request_timeout = request_timeout or timeout
        self.allow_read_only = allow_read_only
        self.world = world or World()
        self.state = SessionState(self)
        self.conn: Connection | None = None
        self.session_id: int | None = None
        self.xid = 0
        self.last_zxid: int | None = None
        self.lease = Lease()
        self.timing = timing(timeout)
        self.started = False
        self._derive_timing = timing
        self._learned_tick: float | None = None
        self._auth = tuple(auth)
        self._password = bytes(16)
        self._on_event = on_event
        self._observers: dict[Observer, None] = {}
        self._watches = Watches()
        self._greeting: Connection | None = None
        self._early_events: list[Any] = []
        self._is_new = False
        self._suspended_at = 0.0
        self._connected_to: Address | None = None
        self._troubles: dict[Address, str] = {}
        self._failure: Exception | None = None
        self._patience: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner: asyncio.Task[None] | None = None
        self._tending: asyncio.TimerHandle | None = None
        self._tend_again_at = self._awake_since = 0.0
        self._closing: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._disconnected = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Session {self.session_id or 0:#x} with {self.hosts}: {self.state.current_state}>"

    # Life

    async def start(self, timeout: float | None = None) -> None:
        """Connects, and returns when there is a session.

        Raises ``ConnectTimeout`` after ``timeout`` seconds (None: never) and ``AuthenticationFailed``.
        """
        if starting := not self.started:
            self._loop = asyncio.get_running_loop()
            self._ended = self._loop.create_future()
            self._closing = None
            self.started = True
            self.last_zxid = None
            self._failure = None
            self._suspended_at = self.world.clock()
            self._owner = self._loop.create_task(self._own(), name="aioelect session")
            self._owner.add_done_callback(self._owner_done)
        try:
            async with asyncio.timeout(timeout):
                await self.ensure_safe_state()
        except TimeoutError:
            why = self._all_troubles() or "no attempt has ended yet"
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
            self._failure = error
            self.started = False
            self._forget()

    async def close(self, *, abandon: bool = False) -> None:
        """Ends the session on the server if one can be reached within a second, and returns in any case.

        A cancellation is raised when that is done. ``abandon`` leaves the session to expire: somebody may still act in its name.
        """
        if self._owner is None or self._loop is None:
            return
        self.check_loop()
        if self._closing is None:
            self._closing = self._loop.create_task(self._close(self._owner, abandon), name="aioelect close")
        await finish(self._closing, 2 * FAREWELL)

    async def _close(self, owner: asyncio.Task[None], abandon: bool) -> None:
        if self.started:
            self.started = False
            try:
                if not abandon:
                    async with asyncio.timeout(FAREWELL):
                        await self._take_leave()
            except TimeoutError:
                log.info("no server took the end of session %#x in time; it will expire", self.session_id or 0)
            finally:
                owner.cancel()
                self._forget()
        open_yet = [connection for connection in (self.conn, self._greeting) if connection is not None]
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
        if self._tending is not None:
            self._tending.cancel()
            self._tending = None
        self.lease.ended()
        session_id, self.session_id = self.session_id, None
        self._password = bytes(16)
        self.state.moved_to(States.LOST)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        self._tell(lambda observer: observer.session_closed())
        self.emit(events.Closed(at=self.world.monotonic(), session_id=session_id or 0))

    def observe(self, observer: Observer) -> None:
        """Tells ``observer`` what happens from now on."""
        self._observers[observer] = None

    def unobserve(self, observer: Observer) -> None:
        """Does nothing where it does not observe."""
        self._observers.pop(observer, None)

    def _tell(self, what: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            if observer in self._observers:
                with self._guard("what depends on a session"):
                    what(observer)

    def emit(self, event: events.Event) -> None:
        """Hands an event of the client on to the user's handler."""
        log.debug("%s", event)
        if self._on_event is not None:
            with self._guard("an on_event handler"):
                self._on_event(event)

    @contextlib.contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as e:
            assert self._loop is not None  # noqa: S101
            self._loop.call_exception_handler({"message": f"aioelect: error in {what}", "exception": e})

    def check_loop(self) -> None:
        """Raises ``RuntimeError`` in any event loop but the session's own."""
        if self._loop is not None and asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "this client belongs to another event loop, where it was connected: connect one in each loop"
            )

    # Requests

    @property
    def connected(self) -> bool:
        """Whether requests can be written right now."""
        return self.started and self.state.current_state == States.CONNECTED

    async def ensure_safe_state(self, writing: bool = False) -> None:
        """Waits until requests can be sent, for ever if need be; raises ``ClientClosed`` where there is no hope."""
        safe = [States.CONNECTED]
        if self.allow_read_only and not writing:
            safe.append(States.READ_ONLY)
        self._check_open()
        while self.state.current_state not in safe:
            assert self._ended is not None  # noqa: S101
            waiting = self.state.wait_for(*safe)
            try:
                await asyncio.wait([waiting, self._ended], return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
            self._check_open()

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if not self.started:
            raise ClientClosed("the client is closed, or not started: use 'await aioelect.connect(...)', or start() it")
        self.check_loop()

    def submit(self, request: Any, session_id: int | None = None) -> asyncio.Future[Reply]:
        """Writes a request at once. The future fails with ``ConnectionLoss`` where there is no connection.

        With ``session_id``, it fails with ``SessionExpired`` where that is no longer our session.
        """
        self._check_open()
        assert self._loop is not None  # noqa: S101
        refusal: Exception
        if session_id is not None and session_id != self.session_id:
            refusal = SessionExpired(session_id)
        elif self.conn is None or self.state.current_state not in (States.CONNECTED, States.READ_ONLY):
            refusal = ConnectionLoss("", 0, "not connected", Executed.NO)
        else:
            return self.conn.request(request, self._next_xid())
        future: asyncio.Future[Reply] = self._loop.create_future()
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
            async with asyncio.timeout(timeout):
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
    def watch_callbacks(self) -> dict[tuple[int, str], dict[WatchCallback, None]]:
        """Who listens to what; aiozk's name."""
        return self._watches.callbacks

    def _dispatch(self, event_type: int, path: str) -> None:
        self._watches.fired(event_type, path)
        self._call(event_type, path)
        if self._watches.missing(path):
            assert self._loop is not None  # noqa: S101
            self._loop.call_soon(self._rearm, path)

    def _call(self, event_type: int, path: str) -> None:
        for callback in self._watches.listening(event_type, path):
            with self._guard("a watch callback"):
                callback(path)

    def _rearm(self, path: str) -> None:
        """An event has used up a watch that somebody still needs. If this fails, the next connection does it again."""
        if self.connected:
            for kind in self._watches.missing(path):
                kind_of_request = protocol.GetChildren2Request if kind is Kind.CHILD else protocol.ExistsRequest
                self.submit(kind_of_request(path=path, watch=True)).add_done_callback(_disregard)

    # What the connection says (its Owner)

    def replied(self, connection: Connection, answer: Answer) -> None:
        if answer.zxid > 0 and connection is self.conn:
            self.last_zxid = max(self.last_zxid or 0, answer.zxid)
        if not isinstance(answer.request, protocol.AuthRequest):
            self.lease.touched(answer.sent, answer.acknowledged)
        for event_type in self._watches.answered(answer.request, answer.record, answer.error):
            self._call(event_type, answer.request.path)
        if answer.error == exc.SessionMoved.error_code:
            assert self._loop is not None  # noqa: S101
            self._loop.call_soon(connection.abort, "the session has moved to another server")

    def notified(self, connection: Connection, event: Any) -> None:
        if not event.type:
            return
        if connection is self.conn:
            self._dispatch(event.type, event.path)
        else:
            self._early_events.append(event)

    def ended(self, connection: Connection, why: str) -> None:
        log.info("connection to %s ended: %s", connection.server, why)
        if connection is not self.conn:
            return
        self.lease.disconnected()
        self._suspended_at = self.world.clock()
        if self._tending is not None:
            self._tending.cancel()
            self._tending = None
        self._disconnected.set()
        self.state.moved_to(States.SUSPENDED)
        if self.started:
            self.emit(
                events.Disconnected(
                    at=self.world.monotonic(),
                    session_id=self.session_id or 0,
                    server=connection.server,
                    why=why,
                )
            )
            self._tell(lambda observer: observer.session_suspended())

    def drop(self, why: str, *, silent: bool = False) -> None:
        """Ends the connection; the session goes on on the next one."""
        if self.conn is not None:
            self.conn.abort(why, silent=silent)

    # Silence

    def be_patient(self, patience: float | None) -> None:
        """How long a request may go unanswered before the server is given up: None for a third of the session timeout.

        Together with a ping for every third of silence, no server is silent for more than two thirds.
        """
        self._patience = patience
        if self._tending is not None:
            self._tend()

    def _tend(self) -> None:
        """Pings an idle connection and gives up a silent one.

        Patience begins anew when this loop was blocked, or the process stopped: answers lie about unread then, and uvloop has not
        even sent what was written just before.
        """
        conn = self.conn
        if conn is None or conn.closing or self._loop is None:
            return
        now = self.world.clock()
        third = self.timeout / 3
        patience = third if self._patience is None else min(self._patience, third)
        if self._tending is None or now > self._tend_again_at + patience / 4:
            self._awake_since = now
        if self._tending is not None:
            self._tending.cancel()
        if now >= conn.last_sent + third:
            conn.ping()
        silent_at = math.inf
        if (oldest := conn.oldest_request) is not None:
            silent_at = min(max(oldest, conn.last_read, self._awake_since) + patience, oldest + self.timeout)
        if now >= silent_at:
            conn.abort(f"no answer for {now - (oldest or now):.3g} s", silent=True)
            return
        self._tend_again_at = min(silent_at, conn.last_sent + third, now + patience / 4)
        self._tending = self._loop.call_later(max(self._tend_again_at - now, 0.001), self._tend)

    # Connecting (the owner task)

    async def _own(self) -> None:
        fruitless = brief = 0
        while True:
            self._disconnected.clear()
            if await self._round(self._bound(fruitless)):
                fruitless = 0
                since = self.world.clock()
                await self._disconnected.wait()
                brief = brief + 1 if self.world.clock() - since < BRIEF else 0
                if brief > 1:
                    await asyncio.sleep(self._delay(brief))
            else:
                fruitless += 1
                delay = self._delay(fruitless)
                self.emit(
                    events.Unreachable(
                        at=self.world.monotonic(),
                        session_id=self.session_id or 0,
                        why=self._all_troubles(),
                        retry_in=delay,
                    )
                )
                await asyncio.sleep(delay)

    def _bound(self, fruitless: int) -> float:
        """Seconds for one attempt: short at first, so that a dead server costs little, then long enough for a slow one."""
        return min(FIRST_BOUND * 2.0 ** min(fruitless, 16), max(FIRST_BOUND, self.timeout / 3))

    def _delay(self, failures: int) -> float:
        """Seconds until the next try, after so many in a row have failed; with a lease to save, no large part of what it lasts."""
        longest = LONGEST_DELAY if self._patience is None else min(LONGEST_DELAY, self._patience / 4)
        return min(FIRST_DELAY * 2.0 ** min(failures - 1, 16), longest) * self.world.random.uniform(0.5, 1)

    async def _round(self, bound: float) -> bool:
        """Tries every server once, in random order, the one that we just lost last; whether one took us."""
        servers = list(self.hosts.servers)
        self.world.random.shuffle(servers)
        servers.sort(key=lambda server: server == self._connected_to)
        for server in servers:
            if await self._attempt(server, bound):
                return True
        return False

    async def _attempt(self, server: Address, bound: float) -> bool:
        """Tries the addresses behind one host name, each within ``bound`` seconds."""
        try:
            async with asyncio.timeout(bound):
                addresses = await self.world.resolve(*server)
        except OSError as e:
            self._trouble(server, f"can't resolve the name ({e!r})")
            return False
        if not addresses:
            self._trouble(server, "the name has no address")
        for address in addresses:
            try:
                await self._handshake(address, bound)
            except AuthenticationFailed:
                raise
            except ConnectionLoss as e:
                self._trouble(server, e.why)
            except TimeoutError:
                self._trouble(server, f"no answer within {bound:.2g} s")
            except (OSError, exc.ZKError) as e:
                self._trouble(server, e)
            else:
                self._connected_to = server
                self._troubles.clear()
                return True
        return False

    def _trouble(self, server: Address, why: object) -> None:
        log.info("no connection to %s: %s", format_address(server), why)
        self._troubles[server] = str(why)

    def _all_troubles(self) -> str:
        return "; ".join(f"{format_address(server)}: {why}" for server, why in self._troubles.items())

    async def _handshake(self, address: Address, bound: float) -> None:
        """Resumes the session on a server, or opens a new one where there is none or it has ended."""
        try:
            has_ended = not await self._join(address, bound)
        except ConnectionLoss:
            if self.session_id is None or not self._is_hopeless():
                raise
            if (await self._inquire(address, bound, self.requested_timeout)).session_id == 0:
                raise
            # It has a quorum, since it grants a new session. If it still refuses ours, that is history, as after a wipe.
            try:
                has_ended = not await self._join(address, bound)
            except ConnectionLoss:
                has_ended = True
                self.last_zxid = None
        if has_ended:
            self._end_session()
            if not await self._join(address, bound):
                raise ConnectionLoss(*address, "the server refused a new session", Executed.NO)

    async def _join(self, address: Address, bound: float) -> bool:
        """The stages of a connection: connect, (TLS,) session, authentication, watches. False: the session has ended."""
        self._greeting = connection = Connection(address, self.world.clock, self)
        self._early_events.clear()
        try:
            frame = wire.connect_frame(
                last_zxid=self.last_zxid or 0,
                timeout=self.requested_timeout,
                session_id=self.session_id or 0,
                password=self._password,
                read_only=self.allow_read_only,
            )
            sent, reply = await self._greet(connection, address, bound, frame)
            if reply.session_id == 0:
                connection.abort("the session had ended")
                return False
            if self.session_id not in (None, reply.session_id):
                raise ConnectionLoss(*address, f"asked for its session, it gave {reply.session_id:#x}")
            self._adopt(reply, sent, connection)
            async with asyncio.timeout(max(bound, self.timeout / 3)):
                await self._authenticate(connection)
                await self._set_watches(connection)
            self._serve(connection)
            return True
        except BaseException:
            connection.abort("the handshake was given up")
            raise
        finally:
            self._greeting = None

    async def _greet(
        self, connection: Connection, address: Address, bound: float, frame: bytes
    ) -> tuple[float, wire.ConnectReply]:
        """Dials and sends a connect request; when it was sent, and the answer."""
        async with asyncio.timeout(bound):
            await self.world.dial(connection, address)
            sent = self.world.clock()
            return sent, await connection.greet(frame)

    def _is_hopeless(self) -> bool:
        return self.world.clock() - self._suspended_at > HOPELESS * self.timeout

    async def _inquire(self, address: Address, bound: float, timeout: float) -> wire.ConnectReply:
        """Asks a server for a session of its own, with ``timeout`` in seconds, and closes that again."""
        connection = Connection(address, self.world.clock, _Inquirer())
        frame = wire.connect_frame(last_zxid=0, timeout=timeout, session_id=0, password=bytes(16), read_only=False)
        try:
            _, reply = await self._greet(connection, address, bound, frame)
            if reply.session_id != 0:
                async with asyncio.timeout(bound):
                    await connection.finish(1)
            return reply
        finally:
            connection.abort("it was a question only")

    async def probe_tick(self) -> None:
        """Learns the server's bound of its tickTime: the least timeout that it grants is two ticks.

        Raises ``OSError`` (``TimeoutError``) or ``ConnectionLoss`` where it can't be asked now.
        """
        if self.conn is not None:
            reply = await self._inquire((self.conn.host, self.conn.port), self.timeout / 3, 0.001)
            if reply.session_id != 0:
                self.learn_tick(reply.timeout / 2)

    def _adopt(self, reply: wire.ConnectReply, sent: float, connection: Connection) -> None:
        """Takes the server's terms."""
        connection.read_only = reply.read_only
        self.timeout = reply.timeout
        if self.session_id is None:
            self._is_new = True
            self.session_id = reply.session_id
            self._password = reply.password
            self.lease.opened(sent, reply.timeout)
        else:
            self.lease.resumed(sent, connection.last_read, reply.timeout)
        self._set_timing()

    @property
    def tick_is_stated(self) -> bool:
        """Whether the user has said what the servers' tickTime is."""
        return self._derive_timing(self.timeout).tick_time < self.timeout / 2

    def learn_tick(self, tick_time: float) -> None:
        """A server's own bound of its tickTime, in seconds; the largest that was ever learned counts."""
        self._learned_tick = max(tick_time, self._learned_tick or 0)
        self._set_timing()

    def _set_timing(self) -> None:
        timing = self._derive_timing(self.lease.session_timeout)
        if self._learned_tick is not None and self._learned_tick < timing.tick_time:
            timing = dataclasses.replace(timing, tick_time=self._learned_tick)
        self.timing = timing
        self.lease.tick = timing.tick_time
        self.lease.margin = timing.margin

    async def _authenticate(self, connection: Connection) -> None:
        try:
            await asyncio.gather(*(connection.request(auth.request(), wire.AUTH_XID) for auth in self._auth))
        except exc.AuthFailed as e:
            raise AuthenticationFailed(
                f"{connection.server} refused the credentials of {self._auth[0].user!r}: check user and password"
            ) from e

    async def _set_watches(self, connection: Connection) -> None:
        requests = self._watches.set_watches(self.last_zxid or 0)
        await asyncio.gather(*(connection.request(request, self._next_xid()) for request in requests))

    def _serve(self, connection: Connection) -> None:
        """The connection is ready: what came early is one batch, and everybody may go on."""
        if connection.closing:
            raise ConnectionLoss(connection.host, connection.port, connection.why_ended or "closed", Executed.NO)
        self.conn = connection
        self.state.moved_to(States.READ_ONLY if connection.read_only else States.CONNECTED)
        early, self._early_events = self._early_events, []
        for event in early:
            self._dispatch(event.type, event.path)
        for path in self._watches.used_up():
            self._rearm(path)
        if self.state.current_state == States.SUSPENDED:
            return  # a callback has dropped the connection
        self._tend()
        is_new, self._is_new = self._is_new, False
        now, session_id, server = self.world.monotonic(), self.session_id or 0, connection.server
        log.info("session %#x is connected to %s", session_id, server)
        if is_new:
            self.emit(events.Connected(at=now, session_id=session_id, server=server, session_timeout=self.timeout))
            self._tell(lambda observer: observer.session_opened())
        else:
            self.emit(events.Reconnected(at=now, session_id=session_id, server=server))
            self._tell(lambda observer: observer.session_resumed())

    def _end_session(self) -> None:
        """Everybody who depended on the session learns it, once."""
        session_id, self.session_id = self.session_id or 0, None
        self._password = bytes(16)
        self.lease.ended()
        self._suspended_at = self.world.clock()
        self.state.moved_to(States.LOST)
        if self.started and not self._is_new:
            log.warning("session %#x has ended", session_id)
            self.emit(events.Expired(at=self.world.monotonic(), session_id=session_id))
            self._tell(lambda observer: observer.session_ended())


def _disregard(answer: asyncio.Future[Reply]) -> None:
    """Nobody asks how it went."""
    if not answer.cancelled():
        answer.exception()
