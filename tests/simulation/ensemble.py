"""A ZooKeeper ensemble: one leader, and followers that lag behind it or are cut off from it.

What is modelled, with the ZooKeeper class that the rule is from:

* One log. A write is numbered by the leader, appended to the logs of a majority, committed, and applied by each member in
  order, with lag (``Leader``, ``Follower``, ``CommitProcessor``). Reads and watches are served from the member's own tree.
* A follower answers pings by itself and remembers whom it has heard of in its touch table (``LearnerSessionTracker``), which
  it hands over when the leader pings it, every half tick (``Leader.lead``, ``Learner.ping``). A forwarded request does not
  touch.
* The leader expires sessions by buckets of a tick, rounded up (``ExpiryQueue``), and closes those of one bucket one after the
  other (``SessionTrackerImpl.run``). A session that is closing or unknown is refused (``checkSession``), as is one that was
  moved to another member (``setOwner``, ``SessionMovedException``).
* A resumed session is validated by the leader, which touches it (``Leader.revalidateSession``), with the timeout of the new
  connection.
* A new leader restarts every session with the timeout that it was created with (``ZKDatabase.getSessionWithTimeOuts``).
* A member that hears nothing of the others for ``syncLimit`` ticks closes its clients and looks for a leader; until then it
  serves (``Learner``'s read timeout, ``Leader.lead``'s check of its quorum).
* A client that has seen more than the member has is refused (``ZooKeeperServer.processConnectRequest``).
* The leader deletes containers that have become empty, now and then (``ContainerManager``).

Not modelled: the messages of the election itself, disks, observers, access lists, authentication.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from aioelect.testing import jute
from aioelect.testing.datatree import Caller, DataTree, MultiRefused, Refused, Result
from aioelect.testing.embedded import _opcode, _rendered
from aioelect.testing.jute import Code, Identity, WatchEvent

from .ledger import Ledger
from .loop import Kernel, Timer
from .network import Connection, Network

__all__ = ["Ensemble", "Member"]

SESSION_EXPIRED = cast("Code", -112)
SESSION_MOVED = cast("Code", -118)
"""``KeeperException.Code``."""

EPOCH = 1_700_000_000_000
"""Milliseconds: the servers' wall clock when the kernel's stands at 0."""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A new session, with its timeout in seconds."""

    timeout: float


@dataclass(frozen=True, slots=True)
class EndSession:
    """A session is closed, or has expired."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A write that was refused before it was looked at."""

    code: Code


Change = jute.MultiOperation | jute.Multi | jute.SetACL | OpenSession | EndSession | Failed
Origin = tuple["Member", int] | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the log; ``origin`` is the member, and the request there, that waits for it."""

    zxid: int
    session: int
    change: Change
    time: int
    origin: Origin


class Link:
    """The connection between the leader and a follower."""

    def __init__(self, network: Network, leader: Member, follower: Member) -> None:
        self.up = network.pipe(follower.name, leader.name)
        self.down = network.pipe(leader.name, follower.name)

    def close(self) -> None:
        """Both directions are gone; who is told, and when, is the caller's business."""
        self.up.close()
        self.down.close()


class Tracker:
    """The leader's view of all sessions: who is alive until when, and on which member (``SessionTrackerImpl``)."""

    def __init__(
        self, kernel: Kernel, tick: float, pace: float, expire: Callable[[int], None], source: random.Random
    ) -> None:
        self._kernel = kernel
        self._tick = tick
        self._pace = pace
        self._expire = expire
        self._random = source
        self._bucket: dict[int, int] = {}
        self._buckets: dict[int, dict[int, None]] = {}
        self._closing: set[int] = set()
        self._timer: Timer | None = None
        self.owners: dict[int, object] = {}

    def add(self, session: int, timeout: float) -> None:
        self._put(session, timeout)

    def touch(self, session: int, timeout: float) -> bool:
        """Prolongs a session's life; whether there is such a session."""
        if session not in self._bucket or session in self._closing:
            return False
        self._put(session, timeout)
        return True

    def refusal(self, session: int, owner: object) -> Code | None:
        """Why a write of that session, coming through ``owner``, is refused (``checkSession``)."""
        if session not in self._bucket or session in self._closing:
            return SESSION_EXPIRED
        if self.owners.setdefault(session, owner) is not owner:
            return SESSION_MOVED
        return None

    def close(self, session: int) -> None:
        self._closing.add(session)

    def is_closing(self, session: int) -> bool:
        return session in self._closing

    def remove(self, session: int) -> None:
        self._leave_bucket(session)
        self._bucket.pop(session, None)
        self.owners.pop(session, None)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _put(self, session: int, timeout: float) -> None:
        self._leave_bucket(session)
        bucket = math.floor((self._kernel.now + timeout) / self._tick) + 1
        self._bucket[session] = bucket
        self._buckets.setdefault(bucket, {})[session] = None
        self._schedule()

    def _leave_bucket(self, session: int) -> None:
        bucket = self._bucket.get(session)
        if bucket is not None and bucket in self._buckets:
            self._buckets[bucket].pop(session, None)
            if not self._buckets[bucket]:
                del self._buckets[bucket]

    def _schedule(self) -> None:
        if not self._buckets:
            return
        due = min(self._buckets) * self._tick
        if self._timer is None or due < self._timer.when:
            self.stop()
            self._timer = self._kernel.call_at(due, self._poll)

    def _poll(self) -> None:
        """One bucket's sessions, one after the other: who is touched meanwhile is closed all the same."""
        self._timer = None
        for bucket in sorted(bucket for bucket in self._buckets if bucket * self._tick <= self._kernel.now):
            delay = 0.0
            for session in self._buckets.pop(bucket):
                self._kernel.call_later(delay, self._expire, session)
                delay += self._random.random() * self._pace
        self._schedule()


class Leading:
    """The part of a member that leads."""

    def __init__(self, member: Member, epoch: int) -> None:
        self.member = member
        self.epoch = epoch
        self.followers: dict[Member, Following] = {}
        self._ensemble = ensemble = member.ensemble
        self._kernel = ensemble.kernel
        self._counter = 0
        self._heard: dict[Member, float] = {}
        self._acknowledged: dict[Member, int] = {}
        self._syncs: deque[tuple[int, Origin]] = deque()
        self._open = True
        self.committed = len(member.log)
        self.pinged_at = self._kernel.now
        self.tracker = Tracker(self._kernel, ensemble.tick, ensemble.pace, self.expire, ensemble.random)
        for session, timeout in member.sessions.items():
            self.tracker.add(session, timeout)
        self._beat()
        self._kernel.call_later(ensemble.reap_every, self._reap)

    def stop(self) -> None:
        self._open = False
        self.tracker.stop()
        for following in list(self.followers.values()):
            following.link.down.send(following.hung_up)
        self.followers.clear()

    # What a member does for its clients.

    def touch(self, session: int, timeout: float) -> bool:
        return self.tracker.touch(session, timeout)

    def open_session(self, session: int, timeout: float, origin: Origin) -> None:
        self.opening(self, session, timeout, origin)

    def request(self, session: int, change: Change | jute.Sync, origin: Origin) -> None:
        self.requested(self, session, change, origin)

    def revalidate(self, session: int, timeout: float, answer: Callable[[bool], None]) -> None:
        answer(self.revalidating(self, session, timeout))

    # What followers ask for, and clients through them.

    def opening(self, owner: object, session: int, timeout: float, origin: Origin) -> None:
        self.tracker.add(session, timeout)
        self.tracker.owners[session] = owner
        self.propose(session, OpenSession(timeout), origin)

    def revalidating(self, owner: object, session: int, timeout: float) -> bool:
        if not self.tracker.touch(session, timeout):
            return False
        self.tracker.owners[session] = owner
        return True

    def requested(self, owner: object, session: int, change: Change | jute.Sync, origin: Origin) -> None:
        if not self._open:
            return
        if isinstance(change, EndSession):
            self.tracker.close(session)
            self.propose(session, change, origin)
            return
        refusal = self.tracker.refusal(session, owner) if session else None
        if isinstance(change, jute.Sync):
            self._syncs.append((len(self.member.log), origin))
            self._answer_syncs()
        else:
            self.propose(session, change if refusal is None else Failed(refusal), origin)

    def expire(self, session: int) -> None:
        if self._open:
            self._ensemble.note(f"{self.member.name} expires {session:#x}")
            self.tracker.close(session)
            self.propose(session, EndSession(), None)

    def touches(self, follower: Member, table: dict[int, float]) -> None:
        for session, timeout in table.items():
            self.tracker.touch(session, timeout)

    # The log.

    def propose(self, session: int, change: Change, origin: Origin) -> None:
        if not self._open:
            return
        self._counter += 1
        now = EPOCH + round(self._kernel.now * 1000)
        entry = Entry(self.epoch << 32 | self._counter, session, change, now, origin)
        self.member.log.append(entry)
        for following in self.followers.values():
            following.link.down.send(partial(following.proposed, len(self.member.log), entry))
        self._commit()

    def acknowledged(self, follower: Member, length: int) -> None:
        if self._open and follower in self.followers:
            self._acknowledged[follower] = length
            self._commit()

    def _commit(self) -> None:
        lengths = sorted([len(self.member.log), *(self._acknowledged.get(each, 0) for each in self.followers)])
        missing = self._ensemble.majority - 1
        committed = lengths[-1 - missing] if len(lengths) > missing else 0
        if committed > self.committed:
            self.committed = committed
            for following in self.followers.values():
                following.link.down.send(partial(following.committed, committed))
            self.member.apply(committed)
        self._answer_syncs()

    def _answer_syncs(self) -> None:
        while self._syncs and self._syncs[0][0] <= self.committed:
            _, origin = self._syncs.popleft()
            if origin is not None:
                if origin[0] is self.member:
                    self.member.settle(origin, Code.OK, b"")
                elif (following := self.followers.get(origin[0])) is not None:
                    following.link.down.send(partial(following.synced, origin))

    def _reap(self) -> None:
        """Deletes the containers that have become empty, unless somebody enters one before that is done."""
        if self._open:
            tree = self.member.tree
            for path in [path for path in tree._containers if tree._is_reapable(tree.node(path))]:
                self.propose(0, jute.Delete(path, -1), None)
            self._kernel.call_later(self._ensemble.reap_every, self._reap)

    # The quorum.

    def adopt(self, follower: Member) -> Following:
        """A member joins: it gets the log behind everything else that goes over its link."""
        following = Following(follower, self, Link(self._ensemble.network, self.member, follower))
        self.followers[follower] = following
        self._heard[follower] = self._kernel.now
        self._acknowledged[follower] = 0
        follower.role = following
        following.link.down.send(partial(following.joined, list(self.member.log), self.committed))
        return following

    def heard(self, follower: Member) -> None:
        self._heard[follower] = self._kernel.now

    def left(self, follower: Member, following: Following) -> None:
        following.link.close()
        if self.followers.get(follower) is following:
            del self.followers[follower]

    def _beat(self) -> None:
        """Pings the followers twice a tick, and steps down when too few of them have been heard of for a while."""
        if not self._open:
            return
        patience = self._ensemble.sync_limit * self._ensemble.tick
        synced = [each for each in self.followers if self._kernel.now - self._heard[each] <= patience]
        if len(synced) + 1 < self._ensemble.majority and self._kernel.now - self.member.changed > patience:
            self.member.look("too few followers")
            return
        self.pinged_at = self._kernel.now
        for following in list(self.followers.values()):
            following.link.down.send(following.pinged)
        self._kernel.call_later(self._ensemble.tick / 2, self._beat)


class Following:
    """The part of a member that follows, and its link with the leader: the owner of the sessions that come through it."""

    def __init__(self, member: Member, leading: Leading, link: Link) -> None:
        self.member = member
        self.link = link
        self.ready = False
        self._leading = leading
        self._ensemble = member.ensemble
        self._kernel = member.ensemble.kernel
        self._table: dict[int, float] = {}
        self._heard = self._kernel.now
        self._open = True
        self._watch()

    def stop(self) -> None:
        self._open = False
        self.link.up.send(partial(self._leading.left, self.member, self))

    # What a member does for its clients.

    def touch(self, session: int, timeout: float) -> bool:
        self._table[session] = timeout
        return True

    def open_session(self, session: int, timeout: float, origin: Origin) -> None:
        self._tell(partial(self._leading.opening, self, session, timeout, origin))

    def request(self, session: int, change: Change | jute.Sync, origin: Origin) -> None:
        self._tell(partial(self._leading.requested, self, session, change, origin))

    def revalidate(self, session: int, timeout: float, answer: Callable[[bool], None]) -> None:
        def ask() -> None:
            valid = self._leading.revalidating(self, session, timeout)
            self.link.down.send(partial(self._if_open, partial(answer, valid)))

        self._tell(ask)

    def _tell(self, packet: Callable[[], object]) -> None:
        def arrive() -> None:
            if self._leading._open:
                self._leading.heard(self.member)
                packet()

        if self._open:
            self.link.up.send(arrive)

    def _if_open(self, act: Callable[[], object]) -> None:
        self._heard = self._kernel.now
        if self._open:
            act()

    # What comes from the leader.

    def joined(self, log: list[Entry], committed: int) -> None:
        self._if_open(partial(self._join, log, committed))

    def _join(self, log: list[Entry], committed: int) -> None:
        self.member.adopt_log(log, committed)
        self.member.epoch = self._leading.epoch
        self.ready = True
        self._tell(partial(self._leading.acknowledged, self.member, len(log)))

    def proposed(self, length: int, entry: Entry) -> None:
        def append() -> None:
            self.member.log.append(entry)
            assert len(self.member.log) == length
            self._tell(partial(self._leading.acknowledged, self.member, length))

        self._if_open(append)

    def committed(self, length: int) -> None:
        self._if_open(partial(self.member.apply_later, length))

    def synced(self, origin: Origin) -> None:
        assert origin is not None
        self._if_open(partial(self.member.do_later, partial(self.member.settle, origin, Code.OK, b"")))

    def pinged(self) -> None:
        def answer() -> None:
            table, self._table = self._table, {}
            self._tell(partial(self._leading.touches, self.member, table))

        self._if_open(answer)

    def hung_up(self) -> None:
        if self._open:
            self.member.look("the leader has gone")

    def _watch(self) -> None:
        if not self._open:
            return
        silent_at = self._heard + self._ensemble.sync_limit * self._ensemble.tick
        if self._kernel.now >= silent_at:
            self.member.look("the leader is silent")
        else:
            self._kernel.call_at(silent_at, self._watch)


class Member:
    """One server."""

    def __init__(self, ensemble: Ensemble, number: int) -> None:
        self.ensemble = ensemble
        self.number = number
        self.name = f"z{number}"
        self.role: Leading | Following | None = None
        self.running = True
        self.reachable = True
        self.changed = ensemble.kernel.now
        self.epoch = 0
        """That of the last leader whose log it has taken over."""
        self.lag = 0.0
        """Seconds that it takes to apply what was committed."""
        self.shortest_timeout = 2 * ensemble.tick
        """Its minSessionTimeout."""
        self.tree = DataTree()
        self.log: list[Entry] = []
        self.sessions: dict[int, float] = {}
        self.connections: dict[Service, None] = {}
        self.by_session: dict[int, Service] = {}
        self.waiting: dict[int, Callable[[Code, bytes], None]] = {}
        self._applied = 0
        self._last = 0.0
        self._life = 0
        self._requests = 0
        self._sessions = 0

    @property
    def serving(self) -> bool:
        return isinstance(self.role, Leading) or (isinstance(self.role, Following) and self.role.ready)

    # Life.

    def look(self, why: str) -> None:
        """Ends its role, closes its clients, and looks for a leader."""
        self.ensemble.note(f"{self.name} looks for a leader: {why}")
        self._end_role()
        for connection in list(self.connections):
            connection.close()
        self.ensemble.elect_soon()

    def _end_role(self) -> None:
        role, self.role = self.role, None
        self.changed = self.ensemble.kernel.now
        self._life += 1
        self.waiting.clear()
        if role is not None:
            role.stop()

    def crash(self, *, silent: bool) -> None:
        """Dies; ``silent``: with its host, so that nobody is told."""
        self.running, self.reachable = False, not silent
        role = self.role
        for connection in list(self.connections):
            if silent:
                connection.forget()
            else:
                connection.close()
        if silent and isinstance(role, Following):
            role.link.close()
        if silent and isinstance(role, Leading):
            for following in role.followers.values():
                following.link.close()
        self._end_role()

    def restart(self) -> None:
        """Comes back with what is on its disk."""
        self.running = self.reachable = True
        self.changed = self.ensemble.kernel.now
        self.ensemble.elect_soon()

    # The log.

    def adopt_log(self, log: list[Entry], committed: int) -> None:
        assert log[: self._applied] == self.log[: self._applied], "a committed record was lost"
        self.log = log
        self.apply(committed)

    def apply_later(self, length: int) -> None:
        self.do_later(partial(self.apply, length))

    def do_later(self, act: Callable[[], object]) -> None:
        """In order, when what was committed before is applied."""
        kernel, life = self.ensemble.kernel, self._life

        def do() -> None:
            if life == self._life:
                act()

        self._last = max(self._last, kernel.now + self.lag)
        if self._last <= kernel.now:
            do()
        else:
            kernel.call_at(self._last, do)

    def apply(self, length: int) -> None:
        while self._applied < length:
            entry = self.log[self._applied]
            self._applied += 1
            self._perform(entry)

    def _perform(self, entry: Entry) -> None:
        tree, change = self.tree, entry.change
        tree.zxid = entry.zxid - 1
        code, body = Code.OK, b""
        caller = Caller(entry.session)
        done: list[tuple[jute.MultiOperation, Result]] = []
        left_behind = tree.ephemerals(entry.session) if isinstance(change, EndSession) else ()
        try:
            match change:
                case OpenSession(timeout):
                    tree.take_zxid()
                    self.sessions[entry.session] = timeout
                case EndSession():
                    self._end_session(entry)
                case Failed():
                    tree.take_zxid()
                    code = change.code
                case jute.Multi(operations):
                    try:
                        results = tree.multi(operations, caller, entry.time)
                    except MultiRefused as refusal:
                        body = jute.multi_errors(refusal.codes)
                    else:
                        body = jute.multi_results(
                            (_opcode(operation), _rendered(operation, result))
                            for operation, result in zip(operations, results, strict=True)
                        )
                        done.extend(zip(operations, results, strict=True))
                case jute.SetACL():
                    body = _rendered(change, tree.write(change, caller, entry.time))
                case _:
                    result = tree.write(change, caller, entry.time)
                    body = _rendered(change, result)
                    done.append((change, result))
        except Refused as refusal:
            code = refusal.code
        ledger, time = self.ensemble.ledger, (entry.time - EPOCH) / 1000
        if ledger.is_new(entry.zxid):
            ledger.record(entry.zxid, entry.session, time, done)
            ledger.record_end(entry.zxid, time, left_behind, expired=entry.origin is None)
        if entry.origin is not None and entry.origin[0] is self:
            self.settle(entry.origin, code, body)
        if isinstance(change, EndSession) and (left := self.by_session.get(entry.session)) is not None:
            left.close()

    def _end_session(self, entry: Entry) -> None:
        self.sessions.pop(entry.session, None)
        if isinstance(self.role, Leading):
            self.role.tracker.remove(entry.session)
        connection = self.by_session.get(entry.session)
        if connection is not None and (entry.origin is None or entry.origin[0] is not self):
            connection.close()
        self.tree.close_session(entry.session)

    def settle(self, origin: Origin, code: Code, body: bytes) -> None:
        """A request of a client of ours is done."""
        assert origin is not None
        done = self.waiting.pop(origin[1], None)
        if done is not None:
            done(code, body)

    def wait(self, done: Callable[[Code, bytes], None]) -> Origin:
        self._requests += 1
        self.waiting[self._requests] = done
        return self, self._requests

    # Clients.

    def accept(self, connection: Connection) -> Service | None:
        return Service(self, connection) if self.running else None

    def new_session(self) -> int:
        self._sessions += 1
        return (self.number + 1) << 56 | self._life << 24 | self._sessions


@dataclass(slots=True)
class _Pending:
    """A request of a client, answered in order: ``reply`` is None while it waits."""

    xid: int
    request: jute.Request
    reply: tuple[Code, bytes] | None = None


class Service:
    """A member's end of a client's connection, and the watcher of its watches."""

    identities: tuple[Identity, ...] = ()

    def __init__(self, member: Member, connection: Connection) -> None:
        self._member = member
        self._connection = connection
        self._buffer = bytearray()
        self._session: int | None = None
        self._timeout = 0.0
        self._greeted = False
        self._open = True
        self._queue: deque[_Pending] = deque()
        member.connections[self] = None

    def close(self) -> None:
        """Says goodbye."""
        if self._open:
            self.forget()
            self._connection.hang_up()

    def forget(self) -> None:
        """Ends without a word."""
        member = self._member
        self._open = False
        self._queue.clear()
        member.tree.forget_watcher(self)
        member.connections.pop(self, None)
        if self._session is not None and member.by_session.get(self._session) is self:
            del member.by_session[self._session]

    def closed(self) -> None:
        if self._open:
            self.forget()

    def notify(self, event: WatchEvent) -> None:
        if self._open:
            self._connection.tell(jute.notification(event))

    def received(self, data: bytes) -> None:
        self._buffer += data
        while self._open and len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < end:
                return
            frame = bytes(self._buffer[4:end])
            del self._buffer[:end]
            if self._greeted:
                self._serve(frame)
            else:
                self._greeted = True
                self._connect(jute.parse_connect_request(frame))

    # The session.

    def _connect(self, request: jute.ConnectRequest) -> None:
        member = self._member
        role = member.role
        if not member.serving or role is None or request.last_zxid > member.tree.zxid:
            self.close()
            return
        ensemble = member.ensemble
        timeout = min(max(request.timeout / 1000, member.shortest_timeout), ensemble.longest_timeout)
        if request.session_id == 0:
            session = member.new_session()
            origin = member.wait(lambda code, body: self._accepted(session, timeout))
            role.open_session(session, timeout, origin)
            return
        session = request.session_id
        if (older := member.by_session.get(session)) is not None:
            older.close()
        if request.password != _password(session):
            self._refused()
        else:
            role.revalidate(
                session,
                timeout,
                lambda valid: self._accepted(session, timeout) if valid else self._refused(),
            )

    def _accepted(self, session: int, timeout: float) -> None:
        if self._open:
            self._session, self._timeout = session, timeout
            self._member.by_session[session] = self
            self._connection.tell(jute.connect_reply(round(timeout * 1000), session, _password(session), False))

    def _refused(self) -> None:
        if self._open:
            self._connection.tell(jute.connect_reply(0, 0, bytes(16), False))
            self.close()

    # Requests.

    def _serve(self, frame: bytes) -> None:
        role, session = self._member.role, self._session
        reader = jute.Reader(frame)
        xid, opcode = reader.integer(), reader.integer()
        request = jute.parse_request(opcode, reader)
        if role is None or session is None or not role.touch(session, self._timeout):
            return  # ZooKeeperServer.submitRequestNow drops the request of a session that it does not know
        pending = _Pending(xid, request)
        self._queue.append(pending)
        match request:
            case jute.CloseSession():
                role.request(session, EndSession(), self._member.wait(partial(self._settled, pending)))
            case (
                jute.Sync()
                | jute.Create()
                | jute.Delete()
                | jute.SetData()
                | jute.Check()
                | jute.Multi()
                | jute.SetACL()
            ):
                role.request(session, request, self._member.wait(partial(self._settled, pending)))
            case _:
                self._drain()

    def _settled(self, pending: _Pending, code: Code, body: bytes) -> None:
        if not self._open:
            return
        if code == SESSION_MOVED:  # FinalRequestProcessor closes the connection
            self.close()
            return
        if code == SESSION_EXPIRED and isinstance(pending.request, jute.Multi):
            code, body = Code.OK, jute.multi_errors([SESSION_EXPIRED] * len(pending.request.operations))
        elif isinstance(pending.request, jute.Sync):
            body = jute.string(pending.request.path)
        pending.reply = (code, body)
        self._drain()

    def _drain(self) -> None:
        """Answers in order: a read waits for the writes before it (``CommitProcessor``)."""
        while self._queue and self._open:
            pending = self._queue[0]
            if pending.reply is None:
                if _is_write(pending.request):
                    return
                try:
                    pending.reply = Code.OK, self._read(pending.request)
                except Refused as refusal:
                    pending.reply = refusal.code, b""
            self._queue.popleft()
            code, body = pending.reply
            self._connection.tell(jute.reply(pending.xid, self._member.tree.zxid, code, body))
            if isinstance(pending.request, jute.CloseSession):
                self.close()

    def _read(self, request: jute.Request) -> bytes:
        tree, caller = self._member.tree, Caller(self._session or 0)
        match request:
            case jute.Ping():
                return b""
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
            case jute.GetEphemerals(prefix):
                return jute.strings(tree.ephemerals(caller.session, prefix))
            case jute.SetWatches():
                tree.set_watches(request, self)
                return b""
        raise Refused(Code.UNIMPLEMENTED, "")


def _is_write(request: jute.Request) -> bool:
    """Whether it is answered when it was committed, or, for a sync, when the leader says so."""
    return isinstance(
        request,
        (
            jute.CloseSession,
            jute.Sync,
            jute.Create,
            jute.Delete,
            jute.SetData,
            jute.Check,
            jute.Multi,
            jute.SetACL,
        ),
    )


def _password(session: int) -> bytes:
    return session.to_bytes(8, "big") * 2


class Ensemble:
    """All members. ``tick`` in seconds, ``sync_limit`` in ticks."""

    def __init__(
        self,
        kernel: Kernel,
        network: Network,
        source: random.Random,
        *,
        tick: float,
        ledger: Ledger,
        size: int = 3,
        sync_limit: int = 5,
        reap_every: float = 60.0,
        note: Callable[[str], None] = lambda what: None,
    ) -> None:
        self.kernel = kernel
        self.network = network
        self.random = source
        self.ledger = ledger
        self.tick = tick
        self.sync_limit = sync_limit
        self.reap_every = reap_every
        """Seconds between two looks for empty containers (znode.container.checkIntervalMs)."""
        self.pace = 0.002
        """Seconds, at most, between the ends of two sessions that expire together."""
        self.longest_timeout = 20 * max(tick, 1.0)
        self.majority = size // 2 + 1
        self.note = note
        self.members = [Member(self, number) for number in range(size)]
        for member in self.members:
            network.listeners[member.name] = member
        self._epoch = 0
        self._electing: Timer | None = None
        self._elect()

    @property
    def hosts(self) -> str:
        return ",".join(f"{member.name}:2181" for member in self.members)

    @property
    def leading(self) -> Leading | None:
        """The newest leader."""
        found = [member.role for member in self.members if isinstance(member.role, Leading)]
        return max(found, key=lambda leading: leading.epoch, default=None)

    def write(self, change: Change) -> bool:
        """An administrator's write, at the leader itself; whether there is one."""
        leading = self.leading
        if leading is not None:
            leading.propose(0, change, None)
        return leading is not None

    def elect_soon(self) -> None:
        if self._electing is None:
            self._electing = self.kernel.call_later(self.random.uniform(0.05, 0.5), self._elect)

    def _elect(self) -> None:
        """Members without a role join the newest leader they can talk to, or make one of a majority among them."""
        self._electing = None
        talk = self.network.both_open
        leaders = [member.role for member in self.members if isinstance(member.role, Leading)]
        for member in self._looking():
            for leading in sorted(leaders, key=lambda each: -each.epoch):
                if leading.epoch >= member.epoch and talk(member.name, leading.member.name):
                    leading.adopt(member)
                    break
        looking = self._looking()
        for best in sorted(looking, key=_credentials):
            group = [each for each in looking if each is best or talk(each.name, best.name)]
            if len(group) >= self.majority:
                self._lead(best, group)
                break
        if self._looking():
            self.elect_soon()

    def _looking(self) -> list[Member]:
        return [member for member in self.members if member.running and member.role is None]

    def _lead(self, best: Member, group: Sequence[Member]) -> None:
        self._epoch += 1
        self.note(f"{best.name} leads epoch {self._epoch}")
        for member in group:
            member.epoch = self._epoch
            member.changed = self.kernel.now
            member.adopt_log(list(best.log), len(best.log))
        best.role = leading = Leading(best, self._epoch)
        for member in group:
            if member is not best:
                leading.adopt(member)


def _credentials(member: Member) -> tuple[int, int, int]:
    """Who should lead: the newest epoch counts before the newest record (``FastLeaderElection.totalOrderPredicate``)."""
    return -member.epoch, -(member.log[-1].zxid if member.log else 0), member.number
