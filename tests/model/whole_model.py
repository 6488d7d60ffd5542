"""Queue and lease together: several contenders, each with a real ``Candidacy`` and a real ``Lease``, and one clock.

Coarser than the two models of the parts: requests are answered in no time, and links don't stall. What remains is what the parts
don't see of each other: sessions that die while another contender's machine, told of a deletion, begins to lead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from aioelect import candidacy as c
from aioelect.candidacy import Candidacy, State
from aioelect.lease import Lease
from aioelect.naming import NATIVE, Dialect
from tests.model.lease_model import DEAD, DOOMED, freeze, learn, thaw
from tests.model.queue_model import FIELDS, STATE, TOKEN, Operation, feed, occupant, tree

__all__ = ["WholeModel"]


class Contender(NamedTuple):
    """A contender, its session at the ZooKeeper leader, and its member. ``news``: deletions it was not told of yet;
    ``touched``: for how long the member has had a touch in its table, or None."""

    machine: tuple[Any, ...]
    lease: tuple[Any, ...]
    expiry: int
    news: tuple[str, ...] = ()
    touched: int | None = None
    cut: bool = False
    knows: bool = True
    """Whether it still takes its session to live."""


class World(NamedTuple):
    """A state. ``led``: the highest token of a believer so far."""

    log: tuple[Operation, ...]
    contenders: tuple[Contender, ...]
    cuts: int
    resumes: int
    led: int = 0


@dataclass(frozen=True)
class WholeModel:
    """``cuts`` of members and ``resumes`` (of a session, at a member that is not cut off) bound how many of each happen."""

    lease: Callable[[], Lease] = Lease
    machine: Callable[[Dialect, int], Candidacy] = Candidacy
    contenders: int = 3
    tick: int = 1
    timeout: int = 2
    cuts: int = 1
    resumes: int = 1

    def initial(self) -> World:
        """Sessions of this instant, and a queue that stands."""
        lease = self.lease()
        lease.opened(0, self.timeout)
        lease_of_now = freeze(lease, 0, self.timeout)
        machine = vars(self.machine(NATIVE, 0))
        fresh = Contender(tuple(machine[name] for name in FIELDS), lease_of_now, self.timeout)
        world = World((), (fresh,) * self.contenders, self.cuts, self.resumes)
        for n in range(self.contenders):
            world = self.tell(world, n, c.Enter())
        return world

    # The shell, and a server that answers at once

    def tell(self, world: World, n: int, *events: c.Event) -> World:
        """The machine takes events; what it asks for is answered until it asks no more."""
        inbox = list(events)
        while inbox:
            machine, commands = feed(self.machine, NATIVE, world.contenders[n].machine, (inbox.pop(0),))
            world = put(world, n, world.contenders[n]._replace(machine=machine))
            for command in commands:
                now = tree(world.log)
                match command:
                    case c.Create(entry) if n not in now.ended:
                        name = f"n_{now.counter:010d}"
                        world = world._replace(log=(*world.log, ("+", name, n, entry)))
                        inbox.append(c.Entered(entry, name, len(world.log)))
                    case c.WatchOwn(entry, name):
                        inbox.append(c.OwnSeen(entry, name in now.znodes))
                    case c.ListFolder(entry):
                        inbox.append(c.Listed(entry, tuple(now.znodes)))
                    case c.WatchPredecessor(entry, name):
                        inbox.append(c.PredecessorSeen(entry, name, occupant(now.znodes.get(name), n)))
                    case c.LookAhead(entry, name):
                        inbox.append(c.AheadSeen(entry, name, name in now.znodes))
        led = [each.machine[TOKEN] for each in self.believers(world)]
        return world._replace(led=max([world.led, *led]))

    def learn(self, contender: Contender, event: str) -> Contender:
        """The lease takes an event of this instant."""
        return contender._replace(
            lease=learn(self.lease, self.tick, self.timeout, contender.lease, event, 0, self.timeout)
        )

    # What may happen

    def steps(self, world: World) -> Iterator[tuple[str, World]]:
        """Every step that is possible now."""
        for n, contender in enumerate(world.contenders):
            yield from self.normal_steps(world, n, contender)
            yield from self.server_steps(world, n, contender)
        if all(self.may_wait(each) for each in world.contenders):
            yield "a unit of time passes", self.advance(world)

    def normal_steps(self, world: World, n: int, contender: Contender) -> Iterator[tuple[str, World]]:
        if contender.news and not contender.cut:
            told = put(world, n, contender._replace(news=contender.news[1:]))
            yield f"{n} is told that {contender.news[0]} was deleted", self.tell(told, n, c.Deleted(contender.news[0]))
        if contender.expiry == DEAD and contender.knows:
            ended = contender._replace(knows=False, news=())
            yield f"{n} learns that its session ended", self.tell(put(world, n, ended), n, c.SessionEnded())
        if not contender.knows:
            return
        touched = contender._replace(touched=None if contender.cut else contender.touched or 0)
        yield f"{n} pings", self.note(put(world, n, self.learn(touched, "ping")))
        if contender.expiry != DEAD and not contender.cut:
            yield f"{n} renews", self.note(put(world, n, self.learn(touched, "renewal")))
        if world.resumes and contender.expiry != DEAD:
            yield f"{n} resumes at another member", self.resume(world._replace(resumes=world.resumes - 1), n)

    def resume(self, world: World, n: int) -> World:
        """The connect request touches the ZooKeeper leader directly; watches are set again, so no news is lost."""
        contender = self.learn(self.learn(world.contenders[n], "disconnect"), "resume")
        expiry = DOOMED if contender.expiry == DOOMED else self.timeout
        return self.note(put(world, n, contender._replace(expiry=expiry, cut=False, touched=None)))

    def server_steps(self, world: World, n: int, contender: Contender) -> Iterator[tuple[str, World]]:
        if contender.touched is not None and not contender.cut:
            expiry = contender.expiry if contender.expiry in (DOOMED, DEAD) else self.timeout
            yield f"{n}'s member hands its table over", put(world, n, contender._replace(touched=None, expiry=expiry))
        if contender.expiry == 0:
            yield f"the bucket of {n}'s session is taken", put(world, n, contender._replace(expiry=DOOMED))
        if contender.expiry == DOOMED:
            yield f"{n}'s session is closed", self.close(world, n)
        if world.cuts and not contender.cut:
            cut = contender._replace(cut=True)
            yield f"{n}'s member is cut off", put(world._replace(cuts=world.cuts - 1), n, cut)

    def close(self, world: World, n: int) -> World:
        """The session's znode goes, and everybody else will hear of it, unless a member that was cut off is between."""
        world = put(world, n, world.contenders[n]._replace(expiry=DEAD))
        name = next(name for name, znode in tree(world.log).znodes.items() if znode[1] == n)
        world = world._replace(log=(*world.log, ("end", n)))
        for other, each in enumerate(world.contenders):
            if other != n and each.knows:
                world = put(world, other, each._replace(news=(*each.news, name)))
        return world

    def may_wait(self, contender: Contender) -> bool:
        """A table is handed over in less than a tick, and an expired bucket is closed in no time."""
        late = contender.touched is not None and contender.touched + 1 >= self.tick and not contender.cut
        return contender.expiry != DOOMED and not late

    def advance(self, world: World) -> World:
        return world._replace(
            contenders=tuple(
                self.learn(each, "clock")._replace(
                    expiry=max(each.expiry - 1, 0) if each.expiry >= 0 else each.expiry,
                    touched=None if each.touched is None or each.cut else each.touched + 1,
                )
                for each in world.contenders
            )
        )

    # What must hold

    def believers(self, world: World) -> list[Contender]:
        """Those who lead, and whose lease says so now."""
        return [
            each
            for each in world.contenders
            if each.machine[STATE] is State.LEADING
            and each.knows
            and thaw(self.lease, self.tick, each.lease).deadline > 0
        ]

    def note(self, world: World) -> World:
        """Keeps the highest token of a believer."""
        return world._replace(led=max([world.led, *(each.machine[TOKEN] for each in self.believers(world))]))

    def violation(self, world: World) -> str | None:
        """At most one believes, and tokens grow."""
        believers = self.believers(world)
        if len(believers) > 1:
            return "two believe at once"
        if believers and believers[0].machine[TOKEN] < world.led:
            return "a token is lower than that of a believer before"
        return None

    def settle(self, world: World) -> tuple[str, World] | None:
        """No more faults: who sits on a member that is cut off goes elsewhere, and everybody is told."""
        for n, each in enumerate(world.contenders):
            if each.expiry == DOOMED:
                return f"{n}'s session is closed", self.close(world, n)
            if each.cut and each.expiry != DEAD:
                return f"{n} resumes at another member", self.resume(world, n)
            for step, after in self.normal_steps(world, n, each):
                if "learns" in step or "told" in step:
                    return step, after
        return None

    def unsettled(self, world: World) -> str | None:
        """Exactly one leads, if any session lives."""
        living = [each for each in world.contenders if each.knows]
        leading = [each for each in living if each.machine[STATE] is State.LEADING]
        return f"{len(leading)} lead for ever, {len(living)} contend" if living and len(leading) != 1 else None

    def render(self, world: World) -> str:
        """One line of a trace."""
        return "  ".join(
            f"{each.machine[STATE].value} lease {thaw(self.lease, self.tick, each.lease).deadline:g}"
            + {DOOMED: " doomed", DEAD: " dead"}.get(each.expiry, f" session {each.expiry}")
            + (" cut" if each.cut else "")
            for each in world.contenders
        )


def put(world: World, n: int, contender: Contender) -> World:
    """The world with another contender ``n``."""
    return world._replace(contenders=(*world.contenders[:n], contender, *world.contenders[n + 1 :]))
