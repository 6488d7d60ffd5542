"""One TCP connection to one server: frames, replies matched to requests, and when it ended. No policy.

ZooKeeper answers the requests of a connection in order; pings and authentication have queues of their own, since the latter
are answered out of order. What ZooKeeper never sends costs the connection, as soon as it can be told: a frame too long for
what it begins with, a reply that matches no request, more events than watches were set.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from aiozk import exc, protocol

from aioelect.errors import ConnectionLoss, Executed, ServerSilent
from aioelect.ports import Address, Clock
from aioelect.value import value
from aioelect.zookeeper import wire
from aioelect.zookeeper.hosts import format_address

__all__ = ["Answer", "Connection", "Owner", "Reply"]

MAX_FRAME = 64 * 1024 * 1024
"""Bytes of the largest reply to a request that is read: 100,000 children take 2 to 6 MB."""

MAX_EVENT = 1024 * 1024
"""Bytes of the largest event: a path is part of a request, and ZooKeeper takes none above 1 MiB (``jute.maxbuffer``)."""

MAX_SMALL = 4096
"""Bytes of the largest first answer, and of answers to pings and authentication: ZooKeeper's have 37 and 16."""

FEW = 16
"""Requests under way, up to which the next one is written at once. Where more are, those of one turn of the event loop go
together: a system call costs more than all else that is done for a request, and one answer among many is not waited for."""

BRIEF = 1024
"""Bytes of the longest read that is looked up among the foretold, since that costs a copy."""

SHOWN = 24
"""Bytes of a bad frame that are told: what comes behind may be the session's password, or data."""

SUPPORTED = (3, 6, 0)
"""What aiozk's feature tests see: the oldest server that we support, since the protocol does not tell its version."""


@value
class Reply:
    """A successful answer; ``sent`` and ``acknowledged`` are clock readings from before the write and after the read."""

    record: Any
    sent: float
    acknowledged: float


class Owner(Protocol):
    """What a connection tells the one who made it, synchronously."""

    def replied(self, connection: Connection, answer: Answer) -> None:
        """A request or a ping was answered, with success or with an error; its future is settled after this returns."""

    def notified(self, connection: Connection, event: Any) -> None:
        """A watch fired."""

    def ended(self, connection: Connection, why: str) -> None:
        """The connection is no more; called once."""


@value
class Answer:
    """Any answer: ``request`` is None for a ping, ``record`` is None for an error, ``error`` is 0 for success."""

    request: Any
    record: Any
    error: int
    zxid: int
    sent: float
    acknowledged: float


@value
class _Pending:
    """A request that waits for its answer."""

    xid: int
    request: Any
    sent: float
    future: asyncio.Future[Reply]


class Connection(asyncio.Protocol):
    """Made by dialling; see the module's docstring.

    The attributes ``host``, ``port``, ``version_info``, ``start_read_only``, ``closing`` and ``read_loop_task``, and the methods
    ``close`` and ``abort``, are what aiozk's own connection offers to its users.
    """

    version_info = SUPPORTED

    def __init__(self, address: Address, clock: Clock, owner: Owner, name: str | None = None) -> None:
        self.host, self.port = address
        self.name = name or self.host
        """The host as the user wrote it, before its name was resolved."""
        self.error: Exception | None = None
        """What ended the connection, where that was the transport."""
        self.read_only = False
        self.last_read = self.last_sent = clock()
        self.why_ended: str | None = None
        self._clock = clock
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._unwritten: list[bytes] = []
        self._pending: deque[_Pending] = deque()
        self._pings: deque[float] = deque()
        self._auths: deque[_Pending] = deque()
        self.foretold: Mapping[bytes, Callable[[], object]] = {}
        """Whom to call first when such a packet (as :func:`wire.foreseen`) is all that has arrived, and everybody else a turn of
        the event loop later: somebody waits for just that, and nothing but that, to go on."""
        self._watches = 0
        """How many events may come yet: a watch fires once."""
        self._greeting: asyncio.Future[wire.ConnectReply] | None = None
        self._greeted = False
        self._closed = self._loop.create_future()

    def __repr__(self) -> str:
        state = f"ended: {self.why_ended}" if self.why_ended else "open"
        return f"<Connection to {self.server}, {state}>"

    @property
    def server(self) -> str:
        """``host:port``."""
        return format_address((self.host, self.port))

    @property
    def closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.why_ended is not None

    @property
    def start_read_only(self) -> bool:
        """aiozk's name of ``read_only``."""
        return self.read_only

    @property
    def read_loop_task(self) -> _Reader:
        """aiozk reads in a task; what its users cancel there stops our reading."""
        return _Reader(self)

    @read_loop_task.setter
    def read_loop_task(self, value: None) -> None:
        pass

    # Sending

    def greet(self, frame: bytes) -> asyncio.Future[wire.ConnectReply]:
        """Sends the connect request; the future gives the answer, or ``ConnectionLoss``."""
        self._greeting = self._loop.create_future()
        if self.closing:
            self._greeting.set_exception(self._loss(Executed.NO))
        else:
            self._write(frame, self._clock())
        return self._greeting

    def request(self, request: Any, xid: int) -> asyncio.Future[Reply]:
        """Sends a request; the future gives its reply, an ``aiozk.exc.ResponseError``, or ``ConnectionLoss``.

        A future that is cancelled is forgotten when its reply comes.
        """
        future: asyncio.Future[Reply]
        if self.why_ended is not None:
            future = asyncio.Future(loop=self._loop)
            future.set_exception(self._loss(Executed.NO))
            return future
        if request.special_xid is not None:
            xid = request.special_xid
        sent = self._clock()
        self._write(wire.frame(request.serialize(xid)), sent)  # first of all: no answer comes in this turn of the loop
        future = asyncio.Future(loop=self._loop)
        self._queue(xid).append(_Pending(xid, request, sent, future))
        self._watches += wire.watches_asked(request)
        return future

    def ping(self) -> None:
        """Sends a ping; its reply is reported to the owner alone."""
        if not self.closing:
            now = self._clock()
            self._pings.append(now)
            self._write(_PING, now)

    def _write(self, data: bytes, now: float) -> None:
        assert self._transport is not None  # noqa: S101  # dialled before anyone holds it
        self.last_sent = now
        if not self._unwritten and len(self._pending) < FEW:
            self._transport.write(data)
            return
        if not self._unwritten:
            self._loop.call_soon(self._write_all)
        self._unwritten.append(data)

    def _write_all(self) -> None:
        unwritten, self._unwritten = self._unwritten, []
        if self._transport is not None and not self.closing:
            self._transport.write(b"".join(unwritten))

    @property
    def oldest_request(self) -> float | None:
        """When the oldest unanswered request or ping was sent."""
        waiting = [queue[0].sent for queue in (self._pending, self._auths) if queue]
        return min([*waiting, *([self._pings[0]] if self._pings else [])], default=None)

    # Ending

    def abort(self, why: str = "closed by this side", *, silent: bool = False) -> None:
        """Ends the connection now: what is pending fails, and the owner is told before this returns."""
        if self.closing:
            return
        self.why_ended = why
        if self._transport is not None:
            self._transport.abort()
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(self._loss(Executed.NO))
        for pending in [*self._auths, *self._pending]:
            if not pending.future.done():
                fate = Executed.NO if wire.is_read(pending.request) else Executed.UNKNOWN
                pending.future.set_exception(self._loss(fate, silent=silent))
                pending.future.exception()  # nobody may be waiting any more, and that is no mistake
        self._auths.clear()
        self._pending.clear()
        self._pings.clear()
        self._buffer.clear()
        self._owner.ended(self, why)

    async def close(self, timeout: float = 0) -> None:
        """aiozk's way to end a connection: as :meth:`abort`."""
        self.abort()

    async def wait_closed(self) -> None:
        """Waits until the socket is closed, if there ever was one."""
        if self._transport is not None:
            await asyncio.shield(self._closed)

    async def finish(self, xid: int) -> bool:
        """Ends the session on the server; whether that confirmed it before the connection ended."""
        if self.closing:
            return False
        future: asyncio.Future[Reply] = self._loop.create_future()
        now = self._clock()
        self._pending.append(_Pending(xid, protocol.CloseRequest(), now, future))
        self._write(wire.close_frame(xid), now)
        try:
            await future
        except ConnectionLoss:
            return False
        except exc.ZKError:
            pass  # it is ending already
        return True

    def _loss(self, executed: Executed, *, silent: bool = False) -> ConnectionLoss:
        kind = ServerSilent if silent else ConnectionLoss
        return kind(self.host, self.port, self.why_ended or "closed", executed)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its bases
        if self.closing:
            self._transport.abort()

    def eof_received(self) -> None:
        self.abort("the server closed it")

    def connection_lost(self, error: Exception | None) -> None:
        self.error = error
        self.abort(f"{type(error).__name__}: {error}" if error else "the server closed it")
        if not self._closed.done():
            self._closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self.why_ended is not None:
            return
        self.last_read = self._clock()
        call = (
            self.foretold.get(wire.foreseen(data))
            if self.foretold and len(data) <= BRIEF and not self._buffer
            else None
        )
        self._buffer += data
        if call is None:
            self._take()
        else:
            call()
            self._loop.call_soon(self._take)

    def _take(self) -> None:
        """Takes all packets that have arrived."""
        now, buffer, start = self.last_read, self._buffer, 0
        try:
            while len(buffer) - start >= 4 and not self.closing:
                (size,) = _number.unpack_from(buffer, start)
                self._check(size, start + 4)
                end = start + 4 + size
                if len(buffer) < end:
                    break
                payload = bytes(memoryview(buffer)[start + 4 : end])
                self._received(payload, now)
                start = end
        except wire.Malformed as e:
            sent = bytes(memoryview(buffer)[start : start + SHOWN])
            self.abort(f"the server sent what ZooKeeper never sends: {e}, beginning with {sent!r}")
        del buffer[:start]

    # Receiving

    def _check(self, size: int, at: int) -> None:
        """Whether such a frame may come, as far as its first bytes, at ``at``, are here: no other is waited for."""
        least, most = wire.HEADER, MAX_FRAME
        if not self._greeted:
            least, most = 0, MAX_SMALL
            if self._greeting is None:
                raise wire.Malformed("an answer before the first request")
        elif size >= least and len(self._buffer) >= at + 4:
            (xid,) = _number.unpack_from(self._buffer, at)
            if xid == wire.WATCH_XID:
                most = MAX_EVENT
                if not self._watches:
                    raise wire.Malformed("more events than watches were set")
            elif xid == wire.PING_XID:
                most = MAX_SMALL
                if not self._pings:
                    raise wire.Malformed("an answer to a ping that was not sent")
            else:
                most = MAX_SMALL if xid == wire.AUTH_XID else MAX_FRAME
                queue = self._queue(xid)
                if not queue or queue[0].xid != xid:
                    raise wire.Malformed(f"a reply to request {xid}, which is not the oldest one waiting")
        if not least <= size <= most:
            raise wire.Malformed(f"a frame of {size} bytes")

    def _queue(self, xid: int) -> deque[_Pending]:
        return self._auths if xid == wire.AUTH_XID else self._pending

    def _received(self, payload: bytes, now: float) -> None:
        """Takes a frame that has passed :meth:`_check`."""
        if not self._greeted:
            self._received_greeting(payload)
            return
        xid, zxid, error = wire.parse_header(payload)
        if xid == wire.WATCH_XID:
            event = wire.parse_event(payload)
            self._watches -= 1
            self._owner.notified(self, event)
        elif xid == wire.PING_XID:
            self._owner.replied(self, Answer(None, None, error, zxid, self._pings.popleft(), now))
        else:
            queue = self._queue(xid)
            record = None if error else wire.parse_reply(queue[0].request, payload)
            pending = queue.popleft()
            self._owner.replied(self, Answer(pending.request, record, error, zxid, pending.sent, now))
            if not pending.future.done():
                if error:
                    pending.future.set_exception(wire.response_error(error))
                else:
                    pending.future.set_result(Reply(record, pending.sent, now))

    def _received_greeting(self, payload: bytes) -> None:
        reply = wire.parse_connect_reply(payload)
        self._greeted = True
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_result(reply)

    def pause_reading(self) -> None:
        """Reads nothing more from the socket."""
        if self._transport is not None and not self.closing:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Reads again after :meth:`pause_reading`."""
        if self._transport is not None and not self.closing:
            self._transport.resume_reading()


class _Reader:
    """Stands for the read loop task of aiozk's connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def cancel(self) -> None:
        self._connection.pause_reading()


_number = struct.Struct("!i")
_PING = wire.frame(protocol.PingRequest().serialize(wire.PING_XID))
