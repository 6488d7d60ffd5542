"""Faults, chosen by chance, most of them aimed at whoever leads. Each is undone after a while, all when calm is asked for."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable

from aioelect.testing import jute

from .asker import Asker
from .contender import Process
from .ensemble import Ensemble, Leading, Member
from .loop import Kernel
from .network import Network
from .referee import Referee

__all__ = ["KINDS", "Chaos"]

Undo = Callable[[], object]


class Chaos:
    """``counts`` says what was done how often; ``session_timeout`` in seconds is the measure of how long a fault lasts."""

    def __init__(
        self,
        kernel: Kernel,
        network: Network,
        ensemble: Ensemble,
        processes: list[Process],
        referee: Referee,
        source: random.Random,
        session_timeout: float,
        ask: Callable[[str, bool, float], Asker],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._kernel = kernel
        self._network = network
        self._ensemble = ensemble
        self._processes = processes
        self._referee = referee
        self._random = source
        self._measure = session_timeout
        self._ask = ask
        self._undo: dict[int, Undo] = {}
        self._numbers = itertools.count()
        self._active = False
        self._pause = 0.0
        self._kinds: tuple[str, ...] = ()

    def begin(self, kinds: tuple[str, ...], pause: float) -> None:
        """Faults of these kinds, ``pause`` session timeouts after one another on average."""
        self._active = True
        self._pause = pause * self._measure
        self._kinds = kinds
        self._next()

    def calm(self) -> None:
        """No more faults, and those there are end."""
        self._active = False
        for number in list(self._undo):
            self._undo.pop(number)()

    def _next(self) -> None:
        self._kernel.call_later(self._random.expovariate(1 / self._pause), self._strike)

    def _strike(self) -> None:
        if not self._active:
            return
        name = self._random.choices(self._kinds, [KINDS[kind][0] for kind in self._kinds])[0]
        self.inflict(name)
        self._next()

    def inflict(self, name: str) -> None:
        """Does it, and undoes it after a time by chance."""
        self._referee.note(f"fault: {name}")
        undo = KINDS[name][1](self)
        self.counts[name] += 1
        if undo is not None:
            self._undo_later(undo, self._duration())

    def _undo_later(self, undo: Undo, seconds: float) -> None:
        number = next(self._numbers)
        self._undo[number] = undo

        def end() -> None:
            if self._undo.pop(number, None) is not None:
                undo()

        self._kernel.call_later(seconds, end)

    def _duration(self) -> float:
        """Mostly of the order of a renewal up to twice the session timeout."""
        return self._measure * 0.05 * float(60 ** self._random.random())

    # Whom.

    def _process(self) -> Process:
        """A process that leads, more often than not."""
        if self._random.random() < 0.7:
            leading = [term.process for term in self._referee.terms if term.ended is None]
            found = [process for process in self._processes if process.name in leading]
            if found:
                return self._random.choice(found)
        return self._random.choice(self._processes)

    def _member_of(self, process: Process) -> Member:
        name = process.member
        found = [member for member in self._ensemble.members if member.name == name]
        return found[0] if found and self._random.random() < 0.8 else self._random.choice(self._ensemble.members)

    def block(self, *ways: tuple[str, str]) -> Undo:
        paths = [self._network.path(*way) for way in ways]
        for path in paths:
            path.block()

        def undo() -> None:
            for path in paths:
                path.unblock()

        return undo

    def between(self, one: str, others: list[str]) -> list[tuple[str, str]]:
        return [way for other in others for way in ((one, other), (other, one))]

    def peers(self, member: Member) -> list[str]:
        return [each.name for each in self._ensemble.members if each is not member]

    # Cuts.

    def cut_client(self) -> Undo:
        process = self._process()
        return self.block(*self.between(process.name, [self._member_of(process).name]))

    def cut_client_one_way(self) -> Undo:
        process = self._process()
        way = (process.name, self._member_of(process).name)
        return self.block(way if self._random.random() < 0.5 else way[::-1])

    def isolate_client(self) -> Undo:
        return self.block(*self.between(self._process().name, [each.name for each in self._ensemble.members]))

    def cut_members(self) -> Undo:
        one, other = self._random.sample(self._ensemble.members, 2)
        return self.block(*self.between(one.name, [other.name]))

    def cut_members_one_way(self) -> Undo:
        one, other = self._random.sample(self._ensemble.members, 2)
        return self.block((one.name, other.name))

    def isolate_member(self) -> Undo:
        member = self._member_of(self._process())
        return self.block(*self.between(member.name, self.peers(member)))

    def maroon(self) -> Undo:
        """A member is cut off from the others, and a client reaches nobody else."""
        process = self._process()
        member = self._member_of(process)
        ways = self.between(member.name, self.peers(member)) + self.between(process.name, self.peers(member))
        return self.block(*ways)

    def stall_then_cut(self) -> None:
        """What was sent arrives together and late; then the member that got it is cut off with its client."""
        process = self._process()
        member = self._member_of(process)
        ways = self.between(process.name, [member.name])
        stalled = self.block(*ways[: self._random.choice([1, 2])])
        cut = self.between(member.name, self.peers(member)) + self.between(process.name, self.peers(member))

        def release() -> None:
            stalled()
            pause = 0.001 + self._random.random() ** 3 * self._ensemble.tick
            self._kernel.call_later(pause, then)

        def then() -> None:
            if self._active:
                self._undo_later(self.block(*cut), self._measure * (0.5 + self._random.random()))

        self._undo_later(release, self._measure * self._random.random() * 0.5)

    # Slowness.

    def slow_path(self) -> Undo:
        """Within what the pair rule allows for: the leader's pings come no later than a tick after one another."""
        names = [*(each.name for each in self._processes), *(each.name for each in self._ensemble.members)]
        path = self._network.path(*self._random.sample(names, 2))
        slowness = self._random.random() * self._ensemble.tick / 4
        path.delay += slowness

        def undo() -> None:
            path.delay -= slowness

        return undo

    def slow_member(self) -> Undo:
        member = self._random.choice(self._ensemble.members)
        lag = self._random.random() ** 2 * self._measure / 2
        member.lag += lag

        def undo() -> None:
            member.lag = max(0.0, member.lag - lag)

        return undo

    def drop_connection(self) -> None:
        client = self._process().name
        for connection in list(self._network.connections):
            if connection.client == client:
                connection.drop()

    # Crashes.

    def _crash(self, member: Member) -> Undo | None:
        if not member.running:
            return None
        self._referee.note(f"{member.name} crashes")
        member.crash(silent=self._random.random() < 0.4)
        return member.restart

    def crash_any(self) -> Undo | None:
        return self._crash(self._member_of(self._process()))

    def crash_leader(self) -> Undo | None:
        leading = self._ensemble.leading
        return None if leading is None else self._crash(leading.member)

    def roll(self) -> None:
        delay = 0.0
        for member in sorted(self._ensemble.members, key=lambda each: isinstance(each.role, Leading)):
            self._kernel.call_later(delay, self._restart, member)
            delay += 2.0 + self._ensemble.tick

    def _restart(self, member: Member) -> None:
        if self._active and (undo := self._crash(member)) is not None:
            self._undo_later(undo, 0.5)

    # Planned changes of leaders.

    def step_down(self) -> None:
        self._switch(hands_over=False)

    def hand_over(self) -> None:
        self._switch(hands_over=True)

    def _switch(self, *, hands_over: bool) -> None:
        """Asked for; the asker may give up, die, or be cut off in the middle."""
        patience = 30.0 if self._random.random() < 0.7 else 2 * self._measure * self._random.random()
        asker = self._ask(self._random.choice(self._processes[0].elections), hands_over, patience)
        middle = 0.002 * (2 * self._measure / 0.002) ** self._random.random()
        members = [each.name for each in self._ensemble.members]
        match self._random.choices(["patience", "give up", "crash", "die silently", "cut off"], [8, 3, 2, 2, 3])[0]:
            case "give up":
                self._kernel.call_later(middle, asker.give_up)
            case "crash":
                self._kernel.call_later(middle, lambda: asker.crash(silent=False))
            case "die silently":
                self._kernel.call_later(middle, lambda: asker.crash(silent=True))
            case "cut off":
                self._kernel.call_later(middle, self._cut_off, self.between(asker.name, members))

    def _cut_off(self, ways: list[tuple[str, str]]) -> None:
        if self._active:
            self._undo_later(self.block(*ways), self._duration())

    # Processes.

    def freeze(self) -> None:
        self._kernel.freeze(self._process().loop, self._duration())

    def close_client(self) -> None:
        self._process().close_client()

    def resign(self) -> None:
        self._process().resign()

    def refuse_probes(self) -> Undo:
        process = self._random.choice(self._processes)
        process.refuses_probes = True
        return lambda: setattr(process, "refuses_probes", False)

    def delete_znode(self) -> None:
        self._change_znode(lambda path, data: jute.Delete(path, -1))

    def write_znode(self) -> None:
        """As it was, but whoever watches its data is told."""
        self._change_znode(lambda path, data: jute.SetData(path, data, -1))

    def _change_znode(self, change: Callable[[str, bytes | None], jute.Delete | jute.SetData]) -> None:
        """A leader's, or any contender's; ``change`` takes its path and its data."""
        leading = self._ensemble.leading
        if leading is None:
            return
        election = self._random.choice(self._processes[0].elections)
        if election not in leading.member.tree:
            return
        names = sorted(leading.member.tree.node(election).children, key=lambda name: name[-10:])
        if names:
            path = f"{election}/{names[0] if self._random.random() < 0.6 else self._random.choice(names)}"
            self._ensemble.write(change(path, leading.member.tree.node(path).data))


KINDS: dict[str, tuple[int, Callable[[Chaos], Undo | None]]] = {
    "client and member cut apart": (3, Chaos.cut_client),
    "client and member cut one way": (3, Chaos.cut_client_one_way),
    "client cut from all members": (2, Chaos.isolate_client),
    "members cut apart": (3, Chaos.cut_members),
    "members cut one way": (2, Chaos.cut_members_one_way),
    "member cut from its peers": (2, Chaos.isolate_member),
    "member and client cut off together": (5, Chaos.maroon),
    "path stalled, released, then member and client cut off": (5, Chaos.stall_then_cut),
    "slow path": (2, Chaos.slow_path),
    "slow member": (2, Chaos.slow_member),
    "connection dropped without a word": (2, Chaos.drop_connection),
    "member crashed": (2, Chaos.crash_any),
    "ZooKeeper leader crashed": (2, Chaos.crash_leader),
    "all members restarted one by one": (2, Chaos.roll),
    "process frozen": (4, Chaos.freeze),
    "client closed": (1, Chaos.close_client),
    "resignation": (1, Chaos.resign),
    "administrator deleted a znode": (1, Chaos.delete_znode),
    "administrator wrote to a znode": (1, Chaos.write_znode),
    "tick probe refused": (1, Chaos.refuse_probes),
    "leader asked to step down": (2, Chaos.step_down),
    "leader asked to hand over": (2, Chaos.hand_over),
}
"""All faults: how often they come in comparison with the others, and what is done."""
