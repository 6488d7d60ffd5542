"""The queue: three real ``aioelect.candidacy.Candidacy`` machines against an ensemble whose members lag.

There is no clock here. Whether a session lives is known at once: a leader is *believed* as long as its znode exists, which is
what the lease proves (``lease_model``). What is modelled, and where ZooKeeper does it:

* one history of writes (the log; a zxid is a place in it), and for each contender a member of its own that has applied some
  beginning of it. A write is answered when the own member has applied it, reads are answered from what it has applied, and all
  answers and events come in order (``CommitProcessor``), some time;
* watches, one-shot, kept by a connection, fired when the member applies the deletion;
* disconnects: nobody knows what became of the requests under way. Reads and deletions are repeated, a create is looked for by
  ``sync`` and ``getEphemerals``;
* reconnects, to a member that has applied at least what the client has seen (``ZooKeeperServer.processConnectRequest``), and
  SetWatches there: one batch of events in the order of a list (``DataTree.setWatches``);
* sessions that expire while their client does not know, resignations, an administrator who deletes any znode, or the whole
  folder, so that numbers begin anew when the next contender makes it again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from aioelect import candidacy as c
from aioelect.candidacy import Candidacy, State
from aioelect.naming import NATIVE, Dialect

__all__ = ["ALIKE", "FIELDS", "OTHER", "OURS", "Faults", "QueueModel", "ShellFaults", "Tree", "feed", "tree"]

OURS, OTHER = "n_", "candidate-" + 32 * "0" + "-"
"""Contenders of one folder need not have the same kind of name: one that has another is guessed by nobody."""

ALIKE = (OURS, OURS, OURS)
"""The usual case: everybody can be guessed."""

Request = tuple[Any, ...]
Operation = tuple[Any, ...]


class Tree(NamedTuple):
    """The folder after some operations: name -> (token, session, entry); the counter; sessions that ended; tokens that were
    ever the lowest."""

    znodes: dict[str, tuple[int, int, int]]
    counter: int
    ended: frozenset[int]
    crowned: frozenset[int]


@cache
def tree(log: tuple[Operation, ...]) -> Tree:
    """Applies the operations: ``+ name session entry``, ``- name``, ``end session``, and ``wipe`` for an empty folder
    that is deleted and made again."""
    if not log:
        return Tree({}, 0, frozenset(), frozenset())
    before = tree(log[:-1])
    znodes, counter, ended = dict(before.znodes), before.counter, before.ended
    match log[-1]:
        case ("+", name, session, entry):
            znodes[name] = (len(log), session, entry)
            counter += 1
        case ("-", name):
            znodes.pop(name, None)
        case ("end", session):
            znodes = {name: znode for name, znode in znodes.items() if znode[1] != session}
            ended |= {session}
        case _:
            counter = 0
    crowned = before.crowned
    if znodes:
        crowned |= {znodes[min(znodes, key=number)][0]}
    return Tree(znodes, counter, ended, crowned)


class Item(NamedTuple):
    """What a server has sent: the answer to the oldest request (``reply``), an event, or the events of SetWatches (``batch``)."""

    kind: str
    content: Any
    zxid: int


class Contender(NamedTuple):
    """One contender, its connection, and the member on the other side of it."""

    machine: tuple[Any, ...]
    session: int
    connected: bool = True
    requests: tuple[Request, ...] = ()
    handled: int = 0
    awaits: int = 0
    """The place in the log at which a write that is under way is answered."""
    inbox: tuple[Item, ...] = ()
    watches: frozenset[str] = frozenset()
    applied: int = 0
    seen: int = 0


class Faults(NamedTuple):
    """How many of each may still happen."""

    disconnects: int = 0
    expiries: int = 0
    deletions: int = 0
    wipes: int = 0
    resignations: int = 0
    idles: int = 0
    """No fault, but it would go on for ever."""


NO_FAULTS = Faults()


class World(NamedTuple):
    """A state. ``led``: the highest token of a believed leader so far."""

    log: tuple[Operation, ...]
    contenders: tuple[Contender, ...]
    faults: Faults
    led: int = 0


@dataclass(frozen=True)
class ShellFaults:
    """What the shell around the machine may do wrong; the real one does none of it."""

    forgets_watches: bool = False
    splits_batches: bool = False
    repeats_creates: bool = False


FIELDS = tuple(name for name in vars(Candidacy(NATIVE)) if name != "dialect")
STATE, ENTRY, NAME, TOKEN, PREDECESSOR, OWN_WATCHED, PREDECESSOR_WATCHED = (
    FIELDS.index(name)
    for name in ("state", "entry", "name", "token", "predecessor", "_own_watched", "_predecessor_watched")
)


@cache
def feed(
    new_machine: Callable[[Dialect, int], Candidacy],
    dialect: Dialect,
    frozen: tuple[Any, ...],
    events: tuple[c.Event, ...],
) -> tuple[tuple[Any, ...], tuple[c.Command, ...]]:
    """The real machine takes events; its fields afterwards, and its commands."""
    machine = new_machine(dialect, 0)
    vars(machine).update(zip(FIELDS, frozen, strict=True))
    commands = machine.receive(events)
    return tuple(vars(machine)[name] for name in FIELDS), tuple(commands)


@dataclass(frozen=True)
class QueueModel:
    """``faults`` bounds how many of each happen in one history. ``settled``: it begins when the queue stands, otherwise when
    everybody has just decided to contend. ``laggards``: the contenders whose members may be behind. ``shuffled``: a contender's
    requests reach its member in any order. ``returns``: who resigned contends again, on the same session. ``prefixes``: what
    the names of each contender begin with."""

    faults: Faults = NO_FAULTS
    contenders: int = 3
    prefixes: tuple[str, ...] = (OURS, OTHER, OURS)
    settled: bool = False
    returns: bool = False
    shuffled: bool = False
    laggards: frozenset[int] = frozenset({0, 1, 2})
    machine: Callable[[Dialect, int], Candidacy] = Candidacy
    dialect: Dialect = NATIVE
    shell: ShellFaults = ShellFaults()

    def initial(self) -> World:
        """Nothing has failed yet."""
        fresh = tuple(vars(self.machine(self.dialect, 0))[name] for name in FIELDS)
        contenders = (self.tell(Contender(fresh, n), (c.Enter(),)) for n in range(self.contenders))
        world = World((), tuple(contenders), self.faults)
        while self.settled and (step := self.settle(world)) is not None:
            world = step[1]
        return world

    # The shell around the machine, as far as it matters

    def tell(self, contender: Contender, events: tuple[c.Event, ...]) -> Contender:
        """The machine takes events, and its commands become requests."""
        machine, commands = feed(self.machine, self.dialect, contender.machine, events)
        requests = contender.requests
        for command in commands:
            match command:
                case c.Create(entry):
                    requests += (("create", entry),)
                case c.WatchOwn(entry, name):
                    requests += (("own", entry, name),)
                case c.ListFolder(entry):
                    requests += (("list", entry),)
                case c.WatchPredecessor(entry, name):
                    requests += (("predecessor", entry, name),)
                case c.LookAhead(entry, name):
                    requests += (("ahead", entry, name),)
                case c.Exorcise(name):
                    requests += (("delete", name),)
                case c.Refuse():
                    raise AssertionError(f"refused: {command}")
        return contender._replace(machine=machine, requests=requests)

    def receive(self, contender: Contender) -> Contender:
        """The client reads the first thing that its server has sent."""
        item, *rest = contender.inbox
        contender = contender._replace(inbox=tuple(rest), seen=max(contender.seen, item.zxid))
        if item.kind == "event":
            return self.tell(contender, (c.Deleted(item.content),))
        if item.kind == "batch":
            deleted = tuple(c.Deleted(name) for name in item.content)
            return self.tell(contender, deleted)
        request, *others = contender.requests
        contender = contender._replace(requests=tuple(others), handled=contender.handled - 1)
        match request, item.content:
            case ("delete", _), _:
                return contender
            case ("find", entry), None:
                if self.wants(contender, entry):
                    return contender._replace(requests=(*contender.requests, ("create", entry)))
                return contender
            case (("create" | "find"), entry), (name, token):
                if self.wants(contender, entry):
                    return self.tell(contender, (c.Entered(entry, name, token),))
                return contender._replace(requests=(*contender.requests, ("delete", name)))
            case ("own", entry, _), found:
                alive = found is not None and found[0] == contender.machine[TOKEN]
                return self.tell(contender, (c.OwnSeen(entry, alive),))
            case ("list", entry), names:
                return self.tell(contender, (c.Listed(entry, names),))
            case ("ahead", entry, name), found:
                return self.tell(contender, (c.AheadSeen(entry, name, found is not None),))
            case ("predecessor", entry, name), found:
                return self.tell(contender, (c.PredecessorSeen(entry, name, occupant(found, contender.session)),))
        raise AssertionError(request)

    def wants(self, contender: Contender, entry: int) -> bool:
        """Whether the machine still waits for the znode of that entry; otherwise it must go."""
        return contender.machine[STATE] is State.ENTERING and contender.machine[ENTRY] == entry

    def disconnect(self, contender: Contender) -> Contender:
        """What was under way is lost, in part before the server took it, in part after."""
        lost = "create" if self.shell.repeats_creates else "find"
        requests = tuple((lost, r[1]) if r[0] == "create" else r for r in contender.requests)
        return Contender(
            contender.machine, contender.session, False, requests, applied=contender.seen, seen=contender.seen
        )

    def reconnect(self, world: World, contender: Contender, applied: int) -> Contender:
        """A member that has applied that much resumes the session, or the ensemble says that it has ended."""
        contender = contender._replace(connected=True, applied=applied)
        if contender.session in tree(world.log).ended:
            contender = contender._replace(session=contender.session + self.contenders, requests=())
            return self.tell(contender, (c.SessionEnded(),))
        if self.shell.forgets_watches:
            return contender
        machine, znodes = contender.machine, tree(world.log[:applied]).znodes
        watched: dict[str, int | None] = {}
        if machine[PREDECESSOR_WATCHED]:
            watched[machine[PREDECESSOR]] = None
        if machine[OWN_WATCHED] and machine[STATE] is not State.GONE:
            watched[machine[NAME]] = machine[TOKEN]
        # One made anew has other children than before, says SetWatches: of the own one that means that it was deleted.
        gone = tuple(
            name
            for name, token in watched.items()
            if name not in znodes or (token is not None and znodes[name][0] != token)
        )
        inbox = [Item("batch", gone, 0)] if gone else []
        if self.shell.splits_batches:
            inbox = [Item("event", name, 0) for name in gone]
        return contender._replace(inbox=tuple(inbox), watches=frozenset(watched) - frozenset(gone))

    # The server's side

    def handle(self, world: World, n: int) -> World:
        """The member takes the contender's next request."""
        contender = world.contenders[n]
        request = contender.requests[contender.handled]
        now, view = tree(world.log), tree(world.log[: contender.applied]).znodes
        operation: Operation | None = None
        answer: Any = None
        match request:
            case ("create" | "find" | "delete", *_) if contender.session in now.ended:
                return put(world, n, self.disconnect(contender))
            case ("create", entry):
                operation = ("+", f"{self.prefixes[n]}{now.counter:010d}", contender.session, entry)
            case ("delete", name):
                if name in now.znodes and now.znodes[name][1] == contender.session:
                    operation = ("-", name)
            case ("find", entry):
                mine = (contender.session, entry)
                answer = next(((name, znode[0]) for name, znode in view.items() if znode[1:] == mine), None)
            case ("list", _):
                answer = tuple(view)
            case (kind, _, name):
                answer = view.get(name)
                if answer is not None and kind != "ahead":
                    contender = contender._replace(watches=contender.watches | {name})
        contender = contender._replace(handled=contender.handled + 1)
        if operation is None:
            reply = Item("reply", answer, contender.applied)
            return put(world, n, contender._replace(inbox=(*contender.inbox, reply)))
        contender = contender._replace(awaits=len(world.log) + 1)
        return self.commit(put(world, n, contender), operation)

    def commit(self, world: World, operation: Operation) -> World:
        """A write: members that don't lag apply it at once."""
        world = world._replace(log=(*world.log, operation))
        for n, contender in enumerate(world.contenders):
            while n not in self.laggards and contender.connected and contender.applied < len(world.log):
                world = self.apply(world, n)
                contender = world.contenders[n]
        return world

    def apply(self, world: World, n: int) -> World:
        """The contender's member applies the next write: watches fire, and the write of the contender itself is answered."""
        contender = world.contenders[n]
        zxid = contender.applied + 1
        operation = world.log[zxid - 1]
        if operation == ("end", contender.session):
            return put(world, n, self.disconnect(contender))
        before, after = tree(world.log[: zxid - 1]).znodes, tree(world.log[:zxid]).znodes
        gone = sorted(name for name in contender.watches if name in before and name not in after)
        inbox = [*contender.inbox, *(Item("event", name, 0) for name in gone)]
        awaits = contender.awaits
        if awaits == zxid:
            inbox.append(Item("reply", (operation[1], zxid) if operation[0] == "+" else None, zxid))
            awaits = 0
        contender = contender._replace(
            applied=zxid, inbox=tuple(inbox), watches=contender.watches.difference(gone), awaits=awaits
        )
        return put(world, n, contender)

    # What may happen

    def steps(self, world: World) -> Iterator[tuple[str, World]]:
        """Every step that is possible now."""
        for n, contender in enumerate(world.contenders):
            yield from self.normal_steps(world, n, contender)
        yield from self.fault_steps(world)

    def normal_steps(self, world: World, n: int, contender: Contender) -> Iterator[tuple[str, World]]:
        """What happens to one contender without any fault."""
        if not contender.connected:
            ahead = range(len(world.log), contender.seen - 1 if n in self.laggards else len(world.log) - 1, -1)
            if contender.session in tree(world.log).ended:
                ahead = range(len(world.log), len(world.log) - 1, -1)
            for applied in ahead:
                yield (
                    f"{n} reconnects, {len(world.log) - applied} behind",
                    put(world, n, self.reconnect(world, contender, applied)),
                )
            return
        if contender.inbox:
            item = contender.inbox[0]
            what = (
                f"{item.kind} to {contender.requests[0][0]}"
                if item.kind == "reply"
                else f"{item.kind} {short(item.content)}"
            )
            yield f"{n} reads: {what}", self.note(put(world, n, self.receive(contender)))
        if contender.applied < len(world.log):
            yield f"{n}'s member applies {short(world.log[contender.applied])}", self.apply(world, n)
        if contender.awaits:
            return
        for i in range(contender.handled, len(contender.requests) if self.shuffled else contender.handled + 1):
            request = contender.requests[i : i + 1]
            if request and (
                request[0][0] != "find" or contender.applied == len(world.log)
            ):  # a find begins with a sync
                requests = contender.requests[:i] + contender.requests[i + 1 :]
                requests = requests[: contender.handled] + request + requests[contender.handled :]
                taken = self.handle(put(world, n, contender._replace(requests=requests)), n)
                yield f"{n}'s member takes {short(request[0])}", taken

    def fault_steps(self, world: World) -> Iterator[tuple[str, World]]:
        faults, now = world.faults, tree(world.log)
        for n, contender in enumerate(world.contenders):
            if faults.disconnects and contender.connected:
                after = world._replace(faults=faults._replace(disconnects=faults.disconnects - 1))
                yield f"{n} is disconnected", put(after, n, self.disconnect(contender))
            if faults.expiries and contender.session not in now.ended:
                after = world._replace(faults=faults._replace(expiries=faults.expiries - 1))
                yield f"{n}'s session expires", self.commit(after, ("end", contender.session))
            if faults.idles and contender.machine[STATE] is State.WAITING:
                after = world._replace(faults=faults._replace(idles=faults.idles - 1))
                yield f"{n} has been idle", put(after, n, self.tell(contender, (c.Idle(),)))
            if faults.resignations and contender.machine[STATE] is not State.GONE:
                after = world._replace(faults=faults._replace(resignations=faults.resignations - 1))
                yield f"{n} resigns", put(after, n, self.resign(contender))
        if faults.deletions:
            after = world._replace(faults=faults._replace(deletions=faults.deletions - 1))
            for name in now.znodes:
                yield f"the administrator deletes {short(name)}", self.commit(after, ("-", name))
        if faults.wipes and now.znodes:
            after = world._replace(faults=faults._replace(wipes=faults.wipes - 1))
            for names, how in (
                (sorted(now.znodes, key=number), "the first first"),
                (sorted(now.znodes, key=number, reverse=True), "the last first"),
            ):
                wiped = after
                for operation in (*(("-", name) for name in names), ("wipe",)):
                    wiped = self.commit(wiped, operation)
                yield f"the administrator wipes the folder, {how}", wiped

    def resign(self, contender: Contender) -> Contender:
        name, entry = contender.machine[NAME], contender.machine[ENTRY]
        contender = self.tell(contender, (c.Withdraw(),))
        if name is not None:
            contender = contender._replace(requests=(*contender.requests, ("delete", name)))
        if self.returns:
            again = vars(self.machine(self.dialect, entry))
            contender = self.tell(contender._replace(machine=tuple(again[name] for name in FIELDS)), (c.Enter(),))
        return contender

    # What must hold

    def believers(self, world: World) -> list[Contender]:
        """Those who lead, and whose znode exists: exempt are those whose session ended, or whom an administrator deleted."""
        znodes = tree(world.log).znodes
        return [
            each
            for each in world.contenders
            if each.machine[STATE] is State.LEADING
            and each.machine[NAME] in znodes
            and znodes[each.machine[NAME]][0] == each.machine[TOKEN]
        ]

    def note(self, world: World) -> World:
        """Keeps the highest token of a believer."""
        return world._replace(led=max([world.led, *(each.machine[TOKEN] for each in self.believers(world))]))

    def violation(self, world: World) -> str | None:
        """At most one leads, by a znode that was the lowest at some time, and tokens grow."""
        crowned = tree(world.log).crowned
        for n, each in enumerate(world.contenders):
            if each.machine[STATE] is State.LEADING and each.machine[TOKEN] not in crowned:
                return f"{n} leads by a znode that was never the lowest"
        believers = self.believers(world)
        if len(believers) > 1:
            return "two lead at once"
        if believers and believers[0].machine[TOKEN] < world.led:
            return "a token is lower than that of a leader before"
        return None

    def settle(self, world: World) -> tuple[str, World] | None:
        """No more faults: whatever is under way arrives, in one order of many."""
        steps = (step for n, each in enumerate(world.contenders) for step in self.normal_steps(world, n, each))
        return next(steps, None)

    def unsettled(self, world: World) -> str | None:
        """Exactly one leads, if anybody contends; all others know whom they wait for; every contender has a znode, and no other
        is there."""
        contending = [each for each in world.contenders if each.machine[STATE] is not State.GONE]
        leading = [each for each in contending if each.machine[STATE] is State.LEADING]
        if contending and (len(leading) != 1 or leading != self.believers(world)):
            return f"{len(leading)} lead for ever, {len(contending)} contend"
        searching = [
            n for n, each in enumerate(world.contenders) if each.machine[STATE] in (State.ENTERING, State.PLACING)
        ]
        if searching:
            return f"{searching[0]} looks for its place for ever"
        owned = {(each.machine[NAME], each.machine[TOKEN]) for each in contending}
        there = {(name, znode[0]) for name, znode in tree(world.log).znodes.items()}
        return (
            None if owned == there else f"for ever: ghosts {there - owned}, contenders without a znode {owned - there}"
        )

    def render(self, world: World) -> str:
        """One line of a trace."""
        states = " ".join(each.machine[STATE].value + ("" if each.connected else "*") for each in world.contenders)
        return f"[{states}] folder: {short(tuple(tree(world.log).znodes))}"


def occupant(found: tuple[int, int, int] | None, session: int) -> c.Occupant:
    """Who was found on the predecessor's znode: of our own session, it can only be left over."""
    if found is None:
        return c.Occupant.NOBODY
    return c.Occupant.GHOST if found[1] == session else c.Occupant.CONTENDER


def number(name: str) -> str:
    """What orders the queue."""
    return name[-10:]


def put(world: World, n: int, contender: Contender) -> World:
    """The world with another contender ``n``."""
    return world._replace(contenders=(*world.contenders[:n], contender, *world.contenders[n + 1 :]))


def short(content: Any) -> str:
    """Names without their zeros."""
    if isinstance(content, str):
        return re.sub(r"0{2,}(?=\d)", "", content.replace("candidate-" + 32 * "0", "candidate"))
    if isinstance(content, Iterable):
        return " ".join(short(each) for each in content)
    return str(content)
