"""A ZooKeeper server inside this process, for tests and demonstrations."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import logging
import math
import secrets
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, cast

from aioelect.testing import jute
from aioelect.testing.datatree import Caller, Created, DataTree, MultiRefused, Refused, Result
from aioelect.testing.jute import Code, Identity, JuteError, Opcode, UnknownOpcode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from ssl import SSLContext

VERSION = "3.8.0"
"""The ZooKeeper release whose behaviour is copied, and which ``srvr`` reports."""

_log = logging.getLogger(__name__)
_NO_PASSWORD = bytes(16)
_WRITES = frozenset(
    {
        Opcode.CREATE,
        Opcode.CREATE2,
        Opcode.CREATE_CONTAINER,
        Opcode.DELETE,
        Opcode.SET_DATA,
        Opcode.SET_ACL,
        Opcode.CHECK,
        Opcode.MULTI,
    }
)


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session as the server knows it."""

    id: int
    password: bytes = field(repr=False)
    timeout: float
    """Seconds, as negotiated last."""
    expires: float
    """When it expires unless a packet arrives, on the server's clock."""
    connected: bool


class _Session:
    __slots__ = ("bucket", "connection", "id", "password", "timeout")

    def __init__(self, session_id: int) -> None:
        self.id = session_id
        self.password = secrets.token_bytes(16)
        self.timeout = 0.0
        self.bucket = 0
        self.connection: _Connection | None = None


class _Sessions:
    """Live sessions, by id and by the tick that they expire after (``SessionTrackerImpl``, ``ExpiryQueue``)."""

    def __init__(self, tick_time: float) -> None:
        self._tick_time = tick_time
        self._by_id: dict[int, _Session] = {}
        self._buckets: defaultdict[int, dict[_Session, None]] = defaultdict(dict)

    def __iter__(self) -> Iterator[_Session]:
        return iter(tuple(self._by_id.values()))

    def get(self, session_id: int) -> _Session | None:
        return self._by_id.get(session_id)

    def expires(self, session: _Session) -> float:
        return session.bucket * self._tick_time

    def next_expiry(self) -> float:
        """When the next session expires unless it is touched."""
        return min(self._buckets, default=math.inf) * self._tick_time

    def overdue(self, now: float) -> Sequence[_Session]:
        buckets = sorted(bucket for bucket in self._buckets if bucket * self._tick_time <= now)
        return tuple(itertools.chain.from_iterable(self._buckets[bucket] for bucket in buckets))

    def touch(self, session: _Session, now: float) -> None:
        """Adds or prolongs: it lives for its timeout, and on to the end of the tick that this falls into."""
        self._by_id[session.id] = session
        self._leave_bucket(session)
        session.bucket = math.floor((now + session.timeout) / self._tick_time) + 1
        self._buckets[session.bucket][session] = None

    def remove(self, session: _Session) -> None:
        del self._by_id[session.id]
        self._leave_bucket(session)

    def _leave_bucket(self, session: _Session) -> None:
        if bucket := self._buckets.get(session.bucket):
            bucket.pop(session, None)
            if not bucket:
                del self._buckets[session.bucket]


class EmbeddedServer:
    """A server that speaks ZooKeeper's protocol on the loopback interface, in the running event loop.

    It is not a database: it keeps everything in memory, in one process; there is no quorum and no durability.
    The contract tests check what it answers against ZooKeeper 3.8.0. Left out are znodes with a time to
    live, persistent watches, SASL, reconfiguration, quotas, and access lists of addresses.

    Args:
        port: The port to listen on; 0 takes a free one.
        tick_time: Seconds; sessions expire at the end of a tick. The default is shorter than ZooKeeper's 2.
        min_session_timeout: Seconds, the shortest session timeout to grant; 2 ticks by default, as in ZooKeeper.
        max_session_timeout: Seconds, the longest to grant; by default 60, and not ZooKeeper's 20 ticks, which
            would be only 4 seconds here.
        container_check_interval: Seconds between two reaps of containers that are empty again.
        clock: Tells the seconds by which sessions expire.
        wall_clock: Tells the seconds since the epoch, for ``ctime`` and ``mtime``.
        ssl: Takes TLS connections with this context, and no others.

    The tree and the sessions outlive `stop`: a server that is started again goes on with them, on the same
    port, and every session has its whole timeout again, as when ZooKeeper restarts.
    """

    def __init__(
        self,
        port: int = 0,
        tick_time: float = 0.2,
        min_session_timeout: float | None = None,
        max_session_timeout: float | None = None,
        *,
        container_check_interval: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        ssl: SSLContext | None = None,
    ) -> None:
        if tick_time <= 0:
            raise ValueError(f"tick_time must be positive, not {tick_time}")
        self._min_timeout = 2 * tick_time if min_session_timeout is None else min_session_timeout
        self._max_timeout = 60.0 if max_session_timeout is None else max_session_timeout
        if not 0 < self._min_timeout <= self._max_timeout:
            raise ValueError(
                f"session timeouts from {self._min_timeout} to {self._max_timeout} s are no range; "
                "raise max_session_timeout, or lower min_session_timeout or tick_time"
            )
        self.tree = DataTree()
        """The znodes; whatever is changed here fires watches as a client's change does."""
        self._port = port
        self._container_check_interval = container_check_interval
        self._clock = clock
        self._wall_clock = wall_clock
        self._ssl = ssl
        self._sessions = _Sessions(tick_time)
        # SessionTrackerImpl.initializeNextSessionId: unlikely to repeat those of an earlier server.
        self._session_ids = itertools.count(1 << 56 | (int(wall_clock() * 1000) & 0xFFFFFFFFFF) << 16)
        self._connections: set[_Connection] = set()
        self._listener: asyncio.Server | None = None
        self._stopped = False
        self._paused = False
        self._next_expiry = math.inf
        self._expiry_timer: asyncio.TimerHandle | None = None
        self._reap_timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """The port that the server listens on, or 0 when it never did."""
        return self._port

    @property
    def hosts(self) -> str:
        """Where clients connect: ``127.0.0.1:PORT``."""
        if not self._port:
            raise RuntimeError("the server has no port yet; start it first")
        return f"127.0.0.1:{self._port}"

    @property
    def sessions(self) -> Mapping[int, SessionInfo]:
        """The live sessions by id, as they are now."""
        return {
            session.id: SessionInfo(
                session.id,
                session.password,
                session.timeout,
                self._sessions.expires(session),
                session.connection is not None,
            )
            for session in self._sessions
        }

    async def start(self) -> None:
        """Listens; raises OSError when the port is taken."""
        if self._listener:
            raise RuntimeError(f"the server listens on {self.hosts} already")
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            self.accept, "127.0.0.1", self._port, ssl=self._ssl, start_serving=False
        )
        self._port = self._listener.sockets[0].getsockname()[1]
        for session in self._sessions:
            self._sessions.touch(session, self._clock())
        self._stopped = False
        self._schedule_expiry()
        self._schedule_reaping()
        await self._listener.start_serving()

    async def stop(self) -> None:
        """Closes all connections and stops listening; without effect on a server that is stopped."""
        self._stopped = True
        self._paused = False
        for timer in (self._expiry_timer, self._reap_timer):
            if timer:
                timer.cancel()
        listener, self._listener = self._listener, None
        if listener:
            listener.close()
        lost = [connection.lost for connection in self._connections]
        self.drop_connections()
        if lost:
            await asyncio.wait(lost)
        if listener:
            await listener.wait_closed()

    def accept(self) -> asyncio.Protocol:
        """The server's end of a new connection, for a transport of one's own: one in memory, or a socket pair.

        Such connections are served without `start` too; containers are then reaped only by `reap_containers`.
        """
        return _Connection(self)

    def drop_connections(self) -> None:
        """Breaks all connections; the sessions stay."""
        for connection in tuple(self._connections):
            connection.abort()

    def pause(self) -> None:
        """Freezes the server: connections are accepted, nothing is read or answered, and no session expires.

        Time goes on: sessions that are overdue expire in `resume`, before anything is read that their clients
        have sent meanwhile. Only what is done here by hand, with `expire` or `tree`, is still told to watchers.
        """
        self._paused = True
        self._schedule_expiry()
        for connection in self._connections:
            connection.update_reading()

    def resume(self) -> None:
        """Ends a `pause`."""
        self._paused = False
        self._expire_overdue()
        for connection in self._connections:
            connection.update_reading()

    def expire(self, session_id: int) -> None:
        """Expires a session now: its ephemeral znodes go, its connection is closed; raises KeyError."""
        session = self._sessions.get(session_id)
        if session is None:
            raise KeyError(f"no live session 0x{session_id:x}")
        # First the connection: ZooKeeper closes it before it gets out the events of the session's own watches.
        if session.connection:
            session.connection.close()
        self._end(session)

    def reap_containers(self) -> Sequence[str]:
        """Deletes the containers that had children and are empty again, now; gives their paths."""
        return self.tree.reap_containers()

    # What connections need.

    def _connect(self, request: jute.ConnectRequest, connection: _Connection) -> _Session | None:
        """A new session, or the one that the request names; None when there is no such session."""
        if request.session_id == 0:
            session = _Session(next(self._session_ids))
            self.tree.take_zxid()
        else:
            known = self._sessions.get(request.session_id)
            if known is None:
                return None
            # ZooKeeperServer.processConnectRequest closes the old connection before it looks at the password.
            if known.connection:
                known.connection.close()
            if request.password != known.password:
                return None
            session = known
        session.timeout = min(max(request.timeout / 1000, self._min_timeout), self._max_timeout)
        session.connection = connection
        self._touch(session)
        return session

    def _touch(self, session: _Session) -> None:
        self._sessions.touch(session, self._clock())
        if self._sessions.expires(session) < self._next_expiry:
            self._schedule_expiry()

    def _end(self, session: _Session) -> None:
        self._sessions.remove(session)
        self.tree.close_session(session.id)

    def _now(self) -> int:
        return int(self._wall_clock() * 1000)

    def _catch_up(self) -> None:
        """To be called before anything is read: in a loop that was blocked, the timer comes too late."""
        if self._clock() >= self._next_expiry:
            self._expire_overdue()

    def _expire_overdue(self) -> None:
        for session in self._sessions.overdue(self._clock()):
            _log.debug("session 0x%x has expired", session.id)
            self.expire(session.id)
        self._schedule_expiry()

    def _schedule_expiry(self) -> None:
        if self._expiry_timer:
            self._expiry_timer.cancel()
        self._next_expiry = math.inf if self._paused else self._sessions.next_expiry()
        if self._next_expiry < math.inf:
            delay = max(0.0, self._next_expiry - self._clock())
            self._expiry_timer = asyncio.get_running_loop().call_later(delay, self._expire_overdue)

    def _schedule_reaping(self) -> None:
        def reap() -> None:
            if not self._paused:
                self.reap_containers()
            self._schedule_reaping()

        loop = asyncio.get_running_loop()
        self._reap_timer = loop.call_later(self._container_check_interval, reap)


class _Connection(asyncio.Protocol):
    """One client's connection: frames in, frames out. Broken frames end the connection, and nothing else."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._tree = server.tree
        self._buffer = bytearray()
        self._session: _Session | None = None
        self.identities: tuple[Identity, ...] = ()
        """Those that the client has proved on this connection."""
        self._congested = False
        self._transport: asyncio.Transport
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection is closed."""

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server._connections.add(self)
        if self._server._stopped:
            self.abort()
        else:
            self.update_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._detach()
        self._server._connections.discard(self)
        self.lost.set_result(None)

    def pause_writing(self) -> None:
        self._congested = True
        self.update_reading()

    def resume_writing(self) -> None:
        self._congested = False
        self.update_reading()

    def data_received(self, data: bytes) -> None:
        self._server._catch_up()
        self._buffer += data
        while len(self._buffer) >= 4 and not self._transport.is_closing():
            length = int.from_bytes(self._buffer[:4], signed=True)
            if self._session is None and (answer := self._probed(bytes(self._buffer[:4]))):
                self._transport.write(answer)
                self.close()
            elif not 0 <= length <= jute.MAX_FRAME:
                _log.warning("frame of %d bytes, longer than %d; closing", length, jute.MAX_FRAME)
                self.close()
            elif len(self._buffer) < 4 + length:
                return
            else:
                frame = bytes(self._buffer[4 : 4 + length])
                del self._buffer[: 4 + length]
                self._receive(frame)

    # What the server needs.

    def update_reading(self) -> None:
        """Reads unless the server is frozen or the client does not take its replies."""
        if self._transport.is_closing():
            return
        if self._congested or self._server._paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def notify(self, event: jute.WatchEvent) -> None:
        """Sends a watch event; ZooKeeper does so before the reply of the request that caused it."""
        self._transport.write(jute.notification(event))

    def close(self) -> None:
        """Sends what was written, then closes; what arrives meanwhile is ignored."""
        self._detach()
        self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self._detach()
        self._transport.abort()

    def _detach(self) -> None:
        self._tree.forget_watcher(self)
        if self._session and self._session.connection is self:
            self._session.connection = None

    # The protocol.

    def _probed(self, word: bytes) -> bytes | None:
        match word:
            case b"ruok":
                return b"imok"
            case b"srvr":
                return (
                    f"Zookeeper version: {VERSION}-embedded, built on 2022-02-25 08:49 UTC\n"
                    f"Connections: {len(self._server._connections)}\n"
                    f"Zxid: 0x{self._tree.zxid:x}\n"
                    "Mode: standalone\n"
                    f"Node count: {len(self._tree)}\n"
                ).encode()
        return None

    def _receive(self, frame: bytes) -> None:
        try:
            if self._session is None:
                self._connect(jute.parse_connect_request(frame))
            else:
                self._serve(self._session, frame)
        except JuteError as error:
            _log.warning("closing a connection: %s", error)
            self.close()

    def _connect(self, request: jute.ConnectRequest) -> None:
        if request.last_zxid > self._tree.zxid:
            _log.info("client has seen zxid 0x%x, later than 0x%x", request.last_zxid, self._tree.zxid)
            self.close()
            return
        self._session = self._server._connect(request, self)
        # A server that is not read-only says False to clients that know the field.
        read_only = None if request.read_only is None else False
        if self._session:
            session = self._session
            timeout = round(session.timeout * 1000)
            self._transport.write(jute.connect_reply(timeout, session.id, session.password, read_only))
        else:
            self._transport.write(jute.connect_reply(0, 0, _NO_PASSWORD, read_only))
            self.close()

    def _serve(self, session: _Session, frame: bytes) -> None:
        reader = jute.Reader(frame)
        xid, opcode = reader.integer(), reader.integer()
        if opcode not in (Opcode.AUTH, Opcode.SASL):
            # Neither prolongs the session (ZooKeeperServer.processPacket).
            self._server._touch(session)
        try:
            request = jute.parse_request(opcode, reader)
        except UnknownOpcode as error:
            _log.warning("closing a connection: %s", error)
            self._transport.write(jute.reply(xid, -1, Code.UNIMPLEMENTED))
            self.close()
            return
        except JuteError as error:
            _log.warning("can't read a request: %s", error)
            if opcode in _WRITES:
                self._tree.take_zxid()
            self._transport.write(jute.reply(xid, self._tree.zxid, Code.MARSHALLING_ERROR))
            return
        match request:
            case jute.Ping():
                self._transport.write(jute.reply(jute.PING_XID, self._tree.zxid, Code.OK))
            case jute.Auth():
                self._authenticate(xid, request)
            case jute.Sasl():
                # ZooKeeper without a JAAS configuration accepts anybody, as nobody.
                self._transport.write(jute.reply(xid, 0, Code.OK, jute.buffer(None)))
            case jute.CloseSession():
                self._server._end(session)
                self._transport.write(jute.reply(xid, self._tree.zxid, Code.OK))
                self.close()
            case _:
                try:
                    code, body = Code.OK, self._perform(session, request)
                except Refused as refusal:
                    code, body = refusal.code, b""
                if isinstance(request, jute.Check) and code is Code.OK:
                    # ZooKeeper can't render what a check outside a multi gives, and does not answer it.
                    return
                self._transport.write(jute.reply(xid, self._tree.zxid, code, body))

    def _authenticate(self, xid: int, request: jute.Auth) -> None:
        if request.scheme == "digest":
            secret = request.auth or b""
            user = secret.partition(b":")[0].decode(errors="replace")
            digest = base64.b64encode(hashlib.sha1(secret).digest()).decode()
            identity = Identity("digest", f"{user}:{digest}")
            if identity not in self.identities:
                self.identities += (identity,)
            self._transport.write(jute.reply(xid, 0, Code.OK))
        else:
            self._transport.write(jute.reply(xid, 0, Code.AUTH_FAILED))
            self.close()

    def _perform(self, session: _Session, request: jute.Request) -> bytes:
        """Does what is asked, and gives the body of the reply; raises `Refused`."""
        tree = self._tree
        caller = Caller(session.id, self.identities)
        match request:
            case jute.Create() | jute.Delete() | jute.SetData() | jute.Check() | jute.SetACL():
                return _rendered(request, tree.write(request, caller, self._server._now()))
            case jute.CreateTTL():
                tree.take_zxid()
                raise Refused(Code.UNIMPLEMENTED, "")
            case jute.Multi(operations):
                try:
                    results = tree.multi(operations, caller, self._server._now())
                except MultiRefused as refusal:
                    return jute.multi_errors(refusal.codes)
                return jute.multi_results(
                    (_opcode(operation), _rendered(operation, result))
                    for operation, result in zip(operations, results, strict=True)
                )
            case jute.Exists(path, watch):
                return jute.stat(tree.exists(path, self if watch else None))
            case jute.GetData(path, watch):
                data, stat = tree.get_data(path, caller, self if watch else None)
                return jute.buffer(data) + jute.stat(stat)
            case jute.GetChildren(path, watch, with_stat):
                children, stat = tree.get_children(path, caller, self if watch else None)
                return jute.strings(children) + (jute.stat(stat) if with_stat else b"")
            case jute.GetACL(path):
                acl, stat = tree.get_acl(path, caller)
                return jute.acls(acl) + jute.stat(stat)
            case jute.GetAllChildrenNumber(path):
                return jute.integer(tree.count_descendants(path, caller))
            case jute.GetEphemerals(prefix):
                return jute.strings(tree.ephemerals(session.id, prefix))
            case jute.Sync(path):
                return jute.string(path)
            case jute.SetWatches():
                tree.set_watches(request, self)
            case jute.CheckWatches(path, kind):
                tree.check_watches(path, kind, self)
            case jute.RemoveWatches(path, kind):
                tree.remove_watches(path, kind, self)
        return b""


def _opcode(operation: jute.MultiOperation) -> Opcode:
    """The opcode that a multi's reply names."""
    match operation:
        case jute.Create(opcode=Opcode.CREATE_CONTAINER):
            return Opcode.CREATE2
        case jute.Create():
            return Opcode.CREATE
        case jute.Delete():
            return Opcode.DELETE
        case jute.SetData():
            return Opcode.SET_DATA
        case jute.Check():
            return Opcode.CHECK


def _rendered(request: jute.MultiOperation | jute.SetACL, result: Result) -> bytes:
    """The body of the reply to a write."""
    match result:
        case Created(path, stat):
            plain = isinstance(request, jute.Create) and request.opcode is Opcode.CREATE
            return jute.string(path) + (b"" if plain else jute.stat(stat))
        case jute.Stat():
            return jute.stat(result)
        case None:
            return b""
