"""The lease of one session against ZooKeeper's session tracking: ``aioelect.lease.Lease`` is the real one.

Time is counted in whole units and is *relative*: every stamp in a state says how long ago, so that states repeat and the search
comes to an end. What is modelled, and where ZooKeeper does it:

* the ZooKeeper leader's clock for the session; it may run out any time from the last touch + timeout on (``ExpiryQueue``
  rounds up). Then its bucket is closed one session at a time (``SessionTrackerImpl.run``): for an instant the session is
  *doomed*, still takes touches and commits writes, and dies all the same;
* members, each with a table of touched sessions that goes to the leader in less than a tick (``Learner.ping``), on the same
  first-in-first-out link as forwarded writes and resumes, which may stall; a member that is cut off from the leader goes on
  answering pings (``FinalRequestProcessor``);
* forwarded writes, which do not touch at the leader, and are committed unless the session is closing;
* packets that touch when they arrive, long after they were sent, and replies that are read long after that;
* resumes, which touch the leader directly (``Leader.revalidateSession``), with a timeout of their own;
* a new ZooKeeper leader, who counts every session anew, by the timeout that it was created with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from aioelect.lease import COLD, Lease

__all__ = ["LeaseModel"]

DOOMED, DEAD = -1, -2
RENEWAL, RESUME = 0, -1
"""What travels on a member's link to the leader, beside touches, which are the (positive) timeouts of their sessions."""

UNDER_WAY, ARRIVED, ANSWERED = 0, 1, 2


class Packet(NamedTuple):
    """A ping, a renewal or a connect request of the client, until its answer was read."""

    kind: str
    sent: int
    stage: int = UNDER_WAY


class Connection(NamedTuple):
    """The client's side of its only connection."""

    member: int
    timeout: int
    flight: tuple[Packet, ...]


class Member(NamedTuple):
    """A ZooKeeper follower. ``touched``: the timeout in its table, or 0; ``age``: how long that has been there."""

    touched: int = 0
    age: int = 0
    link: tuple[int, ...] = ()
    cut: bool = False


class World(NamedTuple):
    """A state. ``expiry``: time left at the ZooKeeper leader, ``DOOMED`` or ``DEAD``; ``faults``: how many may still happen."""

    lease: tuple[Any, ...]
    expiry: int
    connection: Connection | None
    members: tuple[Member, ...]
    faults: tuple[int, int, int]


@dataclass(frozen=True)
class LeaseModel:
    """``flight``: how many packets of the client may be under way. ``cuts``, ``disconnects`` and ``changes`` (of the ZooKeeper
    leader) bound how many of each happen in one history; time is not bounded.

    Two assumptions can be dropped: ``handover`` is the time within which a member hands its table over, a tick if all is well,
    and with ``slow_close`` any time may pass from the taking of a bucket to the closing of the session.
    """

    lease: Callable[[], Lease] = Lease
    tick: int = 2
    timeout: int = 4
    resumed_timeouts: tuple[int, ...] = (4,)
    members: int = 2
    flight: int = 1
    cuts: int = 1
    disconnects: int = 1
    changes: int = 0
    handover: int = 2
    slow_close: bool = False

    def initial(self) -> World:
        """A session of this instant, connected to the first member."""
        lease = self.lease()
        lease.opened(0, self.timeout)
        connection = Connection(0, self.timeout, ())
        members = (Member(),) * self.members
        return World(
            freeze(lease, 0, self.horizon),
            self.timeout,
            connection,
            members,
            (self.cuts, self.disconnects, self.changes),
        )

    def learn(self, world: World, event: str, sent: int = 0, timeout: int = 0) -> tuple[Any, ...]:
        """The lease after it was told of an event."""
        return learn(self.lease, self.tick, self.horizon, world.lease, event, sent, timeout)

    @property
    def horizon(self) -> int:
        """What is longer ago than this proves nothing, whenever it was."""
        return max(self.timeout, *self.resumed_timeouts)

    # What may happen

    def steps(self, world: World) -> Iterator[tuple[str, World]]:
        """Every step that is possible now."""
        yield from self.client_steps(world)
        for n in range(self.members):
            yield from self.member_steps(world, n)
        if world.expiry == 0:
            yield "the ZooKeeper leader takes the expired bucket", world._replace(expiry=DOOMED)
        if world.expiry == DOOMED:
            yield "the session is closed", world._replace(expiry=DEAD)
        if self.clock_may_advance(world):
            yield "a unit of time passes", self.advance(world)
        yield from self.faults(world)

    def client_steps(self, world: World) -> Iterator[tuple[str, World]]:
        connection = world.connection
        if connection is None:
            for n, member in enumerate(world.members):
                for timeout in self.resumed_timeouts:
                    if not member.cut and world.expiry != DEAD:
                        dialled = Connection(n, timeout, (Packet("resume", 0),))
                        yield f"resume sent to member {n}, timeout {timeout}", world._replace(connection=dialled)
            return
        flight = connection.flight
        if flight and flight[0].stage == ANSWERED:
            yield f"answer to {flight[0].kind} of {-flight[0].sent} ago is read", self.read(world, connection)
        if len(flight) < self.flight and not (flight and flight[0].kind == "resume"):
            for kind in ("ping", "renewal"):
                if Packet(kind, 0) not in flight:
                    sent = connection._replace(flight=(*flight, Packet(kind, 0)))
                    yield f"{kind} sent", world._replace(connection=sent)

    def read(self, world: World, connection: Connection) -> World:
        """The client reads the first answer: this is where the lease learns."""
        kind, sent, _ = connection.flight[0]
        lease = self.learn(world, kind, sent, connection.timeout)
        return world._replace(lease=lease, connection=connection._replace(flight=connection.flight[1:]))

    def member_steps(self, world: World, n: int) -> Iterator[tuple[str, World]]:
        member, connection = world.members[n], world.connection
        if connection is not None and connection.member == n:
            under_way = next((i for i, packet in enumerate(connection.flight) if packet.stage == UNDER_WAY), None)
            if under_way is not None:
                yield f"{connection.flight[under_way].kind} arrives", self.arrive(world, connection, under_way)
        if member.touched and not member.cut:
            # Touches in a row are as good as the last of them, since a session may always outlive its time.
            link = member.link if member.link[-1:] == (member.touched,) else (*member.link, member.touched)
            yield f"member {n} hands its table over", put(world, n, Member(link=link))
        if member.link:
            yield f"the ZooKeeper leader hears from member {n}", self.hear(world, n)

    def arrive(self, world: World, connection: Connection, i: int) -> World:
        """The member takes the client's next packet."""
        n, packet = connection.member, connection.flight[i]
        member = world.members[n]
        stage = ANSWERED if packet.kind == "ping" else ARRIVED
        world = world._replace(connection=stamp(connection, i, stage))
        if packet.kind != "resume":
            member = member._replace(touched=connection.timeout)
        if packet.kind != "ping" and not member.cut:
            member = member._replace(link=(*member.link, RESUME if packet.kind == "resume" else RENEWAL))
        return put(world, n, Member(cut=True) if member.cut else member)

    def hear(self, world: World, n: int) -> World:
        """The ZooKeeper leader takes what came first on a member's link."""
        item, *rest = world.members[n].link
        world = put(world, n, world.members[n]._replace(link=tuple(rest)))
        if world.expiry == DEAD:
            return world
        connection = world.connection
        if item in (RENEWAL, RESUME):
            assert connection is not None
            i = next(i for i, packet in enumerate(connection.flight) if packet.stage == ARRIVED)
            world = world._replace(connection=stamp(connection, i, ANSWERED))
            item = connection.timeout if item == RESUME else 0
        return world._replace(expiry=item) if item and world.expiry != DOOMED else world

    def clock_may_advance(self, world: World) -> bool:
        """A table is handed over in less than a tick, and an expired bucket is closed in no time."""
        prompt = world.expiry != DOOMED or self.slow_close
        return prompt and all(not m.touched or m.age + 1 < self.handover for m in world.members)

    def advance(self, world: World) -> World:
        connection = world.connection
        if connection is not None:
            flight = tuple(p._replace(sent=max(p.sent - 1, -self.horizon)) for p in connection.flight)
            connection = connection._replace(flight=flight)
        return world._replace(
            lease=self.learn(world, "clock"),
            expiry=max(world.expiry - 1, 0) if world.expiry >= 0 else world.expiry,
            connection=connection,
            members=tuple(m._replace(age=m.age + 1) if m.touched else m for m in world.members),
        )

    def faults(self, world: World) -> Iterator[tuple[str, World]]:
        cuts, disconnects, changes = world.faults
        if cuts:
            for n, member in enumerate(world.members):
                if not member.cut:
                    cut = put(world, n, Member(cut=True))
                    yield f"member {n} is cut off", cut._replace(faults=(cuts - 1, disconnects, changes))
        if disconnects and world.connection is not None:
            yield (
                "the client's connection ends",
                self.disconnect(world)._replace(faults=(cuts, disconnects - 1, changes)),
            )
        if changes:
            changed = self.disconnect(world)._replace(
                expiry=world.expiry if world.expiry == DEAD else self.timeout,
                members=(Member(),) * self.members,
                faults=(cuts, disconnects, changes - 1),
            )
            yield "another ZooKeeper leader", changed

    def disconnect(self, world: World) -> World:
        members = tuple(m._replace(link=tuple(item for item in m.link if item > 0)) for m in world.members)
        return world._replace(lease=self.learn(world, "disconnect"), connection=None, members=members)

    # What must hold

    def believes(self, world: World) -> bool:
        """Whether the lease says that leadership may be believed now."""
        return thaw(self.lease, self.tick, world.lease).deadline > 0

    def violation(self, world: World) -> str | None:
        """A dead session may not be believed in."""
        return "believes in a dead session" if world.expiry == DEAD and self.believes(world) else None

    def settle(self, world: World) -> tuple[str, World] | None:
        """A faultless run: whatever is under way arrives, the client renews, and time passes until the lease is warm."""
        if world.expiry in (DOOMED, DEAD) or self.believes(world):
            return None
        connection = world.connection
        if connection is not None and world.members[connection.member].cut:
            return "the client gives the member up", self.disconnect(world)
        at_once = [step for n in range(self.members) for step in self.member_steps(world, n)]
        at_once += [step for step in self.client_steps(world) if not step[0].endswith(" sent")]
        if at_once:
            return at_once[0]
        touches = world.lease[1]
        if touches and touches[-1][0] == 0:
            return "a unit of time passes", self.advance(world)
        return next(step for step in self.client_steps(world) if step[0] == "renewal sent")

    def unsettled(self, world: World) -> str | None:
        """A session that lives must be believed in."""
        return None if world.expiry in (DOOMED, DEAD) or self.believes(world) else "the lease stays cold"

    def render(self, world: World) -> str:
        """One line of a trace."""
        deadline = thaw(self.lease, self.tick, world.lease).deadline
        left = {DOOMED: "doomed", DEAD: "dead"}.get(world.expiry, f"{world.expiry} left")
        return f"lease {deadline:g}, session {left}"


def freeze(lease: Lease, elapsed: int, horizon: int) -> tuple[Any, ...]:
    """The lease's fields, with every time ``elapsed`` longer ago; what is beyond ``horizon`` is all the same.

    What it remembers of a session that has ended is left out: a model's lease has one session, and is never told of its end.
    """

    def ago(stamp: float) -> float:
        return max(stamp - elapsed, -horizon)

    pairs = [lease._unconfirmed] if lease._unconfirmed else []
    touches, unconfirmed = (
        tuple((ago(sent), ago(acknowledged)) for sent, acknowledged in times if ago(acknowledged) > -horizon)
        for times in (lease._touches, pairs)
    )
    return (
        COLD if lease._proven - elapsed <= -horizon else lease._proven - elapsed,
        touches,
        unconfirmed,
        None if lease._resumed is None else ago(lease._resumed),
        lease.session_timeout,
    )


def thaw(new_lease: Callable[[], Lease], tick: int, frozen: tuple[Any, ...]) -> Lease:
    """The lease whose fields these are."""
    lease = new_lease()
    lease.tick = tick
    lease._proven, touches, unconfirmed, lease._resumed, lease.session_timeout = frozen
    lease._touches = deque(touches)
    lease._unconfirmed = next(iter(unconfirmed), None)
    return lease


@cache
def learn(
    new_lease: Callable[[], Lease],
    tick: int,
    horizon: int,
    frozen: tuple[Any, ...],
    event: str,
    sent: int,
    timeout: int,
) -> tuple[Any, ...]:
    """The real lease takes an event, at the time 0."""
    lease = thaw(new_lease, tick, frozen)
    match event:
        case "ping":
            lease.touched(sent, 0)
        case "renewal":  # the session reports every answer as a touch, too
            lease.touched(sent, 0)
            lease.renewed(sent, 0)
        case "resume":
            lease.resumed(sent, 0, timeout)
        case "disconnect":
            lease.disconnected()
    return freeze(lease, 1 if event == "clock" else 0, horizon)


def put(world: World, n: int, member: Member) -> World:
    """The world with another member ``n``."""
    return world._replace(members=(*world.members[:n], member, *world.members[n + 1 :]))


def stamp(connection: Connection, i: int, stage: int) -> Connection:
    """The connection with its ``i``-th packet at another stage."""
    flight = connection.flight
    return connection._replace(flight=(*flight[:i], flight[i]._replace(stage=stage), *flight[i + 1 :]))
