"""One run, replayed by its seed: faults for a while, then calm, then everybody leaves."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from .asker import Asker
from .chaos import KINDS, Chaos
from .contender import Process
from .ensemble import Ensemble
from .ledger import Ledger
from .loop import Kernel, Livelock
from .network import Network
from .referee import Referee

__all__ = ["Report", "Setting", "Simulation", "simulate"]

TICKS = ((2.0, 0.2), (2.0, 0.2), (4.0, 0.2), (4.0, 2.0), (10.0, 2.0), (2.0, 2.0))
"""Session timeouts that are asked for, with the members' tickTime. At least two ticks are granted."""

GRACE = 5.0
"""Seconds beyond the session timeout and two ticks after which there has to be one leader again."""


@dataclass(slots=True)
class Report:
    """What came of a run; ``violations`` is empty where the promises held, ``digest`` is that of the whole log."""

    seed: int
    violations: list[str]
    faults: Counter[str]
    counts: Counter[str]
    seconds: float
    digest: str
    log: list[str] = field(repr=False)
    gap: float = 0.0
    """Seconds from when nothing was wrong any more, servers included, until every election had one leader, for good."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is decided before a run begins. Times in seconds."""

    session_timeout: float
    """As clients ask for it; the members grant two ticks at least."""
    tick: float
    """The members' tickTime."""
    tick_time: float | None = None
    """What clients are told of it."""
    drain_share: float | None = None
    """Part of ``session_timeout`` that bodies have to unwind."""
    elections: tuple[str, ...] = ("/one",)
    processes: int = 3
    sync_limit: int = 5
    generous: tuple[int, float] | None = None
    """A member that grants no shorter sessions than so many times those of the others."""
    handover_delay: float = 0.0
    """For all contenders."""
    reap_every: float = 60.0
    """How often the ZooKeeper leader looks for empty containers."""
    hiccups: float = 0.0
    """The chance that a process freezes where it reads its clock."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Which faults there are: few kinds, far apart, find what many would bury."""
    pause: float = 0.4
    """Session timeouts between two faults."""

    @classmethod
    def draw(cls, source: random.Random) -> Setting:
        """By chance."""
        session_timeout, tick = source.choice(TICKS)
        few = source.random() < 0.5
        return cls(
            session_timeout=session_timeout,
            tick=tick,
            tick_time=tick if source.random() < 0.3 and session_timeout >= 2 * tick else None,
            drain_share=source.choice([None, 0.05, 0.15]),
            elections=("/one",) if source.random() < 0.7 else ("/one", "/two"),
            processes=source.randint(3, 5),
            sync_limit=source.choice([2, 5, 5]),
            generous=(source.randrange(3), source.choice([1.5, 2.0, 3.0])) if source.random() < 0.2 else None,
            handover_delay=session_timeout * source.choice([0.0, 0.0, 0.2, 1.0]),
            reap_every=source.choice([60.0, 60.0, 3.0]),
            hiccups=source.choice([0.0, 0.0, 0.001, 0.005]),
            kinds=tuple(source.sample(sorted(KINDS), source.randint(1, 3))) if few else tuple(KINDS),
            pause=source.choice([0.6, 1.5]) if few else 0.4,
        )

    @property
    def granted(self) -> float:
        """The session timeout that most members grant."""
        return max(self.session_timeout, 2 * self.tick)


class Simulation:
    """The run of one seed; nothing has happened yet."""

    calm = False
    hiccups = 0.0

    def __init__(self, seed: int, setting: Setting | None = None) -> None:
        self.seed = seed
        self.random = source = random.Random(seed)
        self.setting = setting = setting or Setting.draw(source)
        self.kernel = Kernel(1000 + 10 * source.random())
        self.log: list[str] = []
        self.ledger = Ledger()
        self.referee = Referee(lambda: self.kernel.now, self.note, self.ledger, setting.handover_delay)
        self.network = Network(self.kernel, random.Random(source.random()))
        self.ensemble = Ensemble(
            self.kernel,
            self.network,
            random.Random(source.random()),
            tick=setting.tick,
            ledger=self.ledger,
            sync_limit=setting.sync_limit,
            reap_every=setting.reap_every,
            note=self.note,
        )
        self.hosts = self.ensemble.hosts
        self.session_timeout, self.tick_time = setting.session_timeout, setting.tick_time
        self.drain_share, self.handover_delay = setting.drain_share, setting.handover_delay
        self.elections = setting.elections
        self.longest = setting.granted
        if setting.generous is not None:
            member, factor = setting.generous
            self.longest = self.ensemble.members[member].shortest_timeout = setting.granted * factor
        self.processes = [
            Process(
                f"c{number}",
                self.kernel,
                self.network,
                self.referee,
                self,
                self,
                random.Random(source.random()),
            )
            for number in range(setting.processes)
        ]
        self.chaos = Chaos(
            self.kernel,
            self.network,
            self.ensemble,
            self.processes,
            self.referee,
            random.Random(source.random()),
            setting.granted,
            self.ask,
        )
        self.askers: list[Asker] = []
        self.gap = 0.0

    def note(self, what: str) -> None:
        """Adds a line to the log."""
        self.log.append(f"{self.kernel.now:11.4f} {what}")

    def run(self, storm: Callable[[Simulation], None] | None = None) -> Report:
        """The whole of it; ``storm`` in place of faults by chance."""
        began = self.kernel.now
        try:
            self.kernel.run(began + 1 + self.setting.granted / 2)
            if storm is None:
                self._storm()
            else:
                storm(self)
            self._calm()
            self._hand_on()
            self._leave()
        except Livelock as e:
            self._object(str(e))
        report = Report(
            self.seed,
            list(self.referee.violations),
            self.chaos.counts,
            self.referee.counts,
            self.kernel.now - began,
            hashlib.sha256("\n".join(self.log).encode()).hexdigest(),
            list(self.log),
            self.gap,
        )
        self._clear_away()
        return report

    def ask(self, election: str, hands_over: bool, patience: float) -> Asker:
        """A process of its own asks for another leader from now on."""
        asker = Asker(
            f"a{len(self.askers)}",
            self.kernel,
            self.network,
            self.referee,
            self,
            random.Random(self.random.random()),
            election,
            hands_over=hands_over,
            patience=patience,
        )
        self.askers.append(asker)
        return asker

    def until(self, condition: Callable[[], object], bound: float = 60.0, step: float = 0.001) -> bool:
        """Runs until that is so, for ``bound`` seconds at the most; whether it came to be."""
        end = self.kernel.now + bound
        while not condition():
            if self.kernel.now >= end:
                return False
            self.kernel.run(self.kernel.now + step)
        return True

    def _object(self, what: str) -> None:
        self.referee._object(what)

    def _storm(self) -> None:
        """Faults come and go."""
        self.hiccups = self.setting.hiccups
        self.chaos.begin(self.setting.kinds, self.setting.pause)
        self.kernel.run(self.kernel.now + max(20.0, 10 * self.setting.granted))

    def _calm(self) -> None:
        """When the faults have stopped and the servers work again, exactly one leads soon, and goes on leading."""
        self.note("calm")
        self.calm, self.hiccups = True, 0.0
        self.chaos.calm()
        for asker in self.askers:
            asker.give_up()
        while any(process.loop.frozen for process in self.processes):
            self.kernel.run(self.kernel.now + 0.1)
        patience = 2 * self.setting.sync_limit * self.setting.tick + GRACE
        if not self.until(lambda: all(member.serving for member in self.ensemble.members), patience):
            raise RuntimeError(f"seed {self.seed}: the simulated ensemble does not recover")
        since = self.kernel.now
        self.referee.well_since = since + self.longest
        bound = since + self.longest + 2 * self.setting.tick + 2 * self.handover_delay + GRACE
        while self.kernel.now < bound:
            self.kernel.run(self.kernel.now + 0.05)
            if not self._settled():
                self.gap = self.kernel.now - since
        before = [self.referee.leading(election) for election in self.elections]
        for election, leaders in zip(self.elections, before, strict=True):
            if len(leaders) != 1:
                names = ", ".join(map(str, leaders)) or "nobody"
                self._object(f"{bound - since:.1f} s after the last fault, {names} leads {election}")
        self.kernel.run(self.kernel.now + self.longest)
        if [self.referee.leading(election) for election in self.elections] != before:
            self._object("a leader was replaced though nothing was wrong")

    def _hand_on(self) -> None:
        """When nothing is wrong, whoever asks for another leader gets one, unless the chosen one leaves the queue."""
        for election in self.elections:
            asker = self.ask(election, self.random.random() < 0.5, self.longest)
            self.until(asker.main.done, self.longest + GRACE, step=0.02)
            if asker.outcome not in ("another leads", "the chosen one leads", "NotContending"):
                self._object(f"{asker.name} asked for another leader of {election}: {asker.outcome or 'no answer'}")
            if not self.until(partial(self._is_led, election), self.longest + GRACE, step=0.02):
                self._object(f"nobody leads {election} after a planned change")

    def _settled(self) -> bool:
        return all(self._is_led(election) for election in self.elections)

    def _is_led(self, election: str) -> bool:
        return len(self.referee.leading(election)) == 1

    def _leave(self) -> None:
        """When all clients have been closed, nothing is left of them."""
        self.note("leave")
        for process in self.processes:
            process.stop()
        bound = self.kernel.now + 2 * self.longest + GRACE
        while self.kernel.now < bound and not all(process.main.done() for process in self._living):
            self.kernel.run(self.kernel.now + 0.1)
        self.kernel.run(self.kernel.now + 1.0)
        for member in self.ensemble.members:
            for election in self.elections:
                for folder in (election, f"{election}-control"):
                    if folder in member.tree and (left := sorted(member.tree.node(folder).children)):
                        self._object(f"znodes are left in {folder} on {member.name}: {left}")
        gc.collect()
        for living in self._living:
            if not living.main.done():
                self._object(f"{living.name} does not end")
            elif living.main.exception() is not None:
                self._object(f"{living.name} ended with {living.main.exception()!r}")
            if left_over := living.loop.tasks():
                self._object(f"{living.name} leaves tasks: {left_over}")
            for context in living.loop.errors:
                self._object(f"{living.name}: {context.get('message')} {context.get('exception')!r}")
        if self.network.connections:
            self._object(f"{len(self.network.connections)} connections are left")

    @property
    def _living(self) -> list[Process | Asker]:
        return [*self.processes, *(asker for asker in self.askers if not asker.crashed)]

    def _clear_away(self) -> None:
        """After a crash or a failure there may be tasks; they must not run once their loop is closed."""
        everybody: list[Process | Asker] = [*self.processes, *self.askers]
        for process in everybody:
            process.loop.frozen = 0
        for _ in range(20):
            running = [process for process in everybody if process.loop.cancel_all()]
            if not running:
                break
            with contextlib.suppress(Livelock):
                self.kernel.run(self.kernel.now + 1.0)
        for process in everybody:
            process.loop.close()


def simulate(seed: int) -> Report:
    """Runs one seed."""
    return Simulation(seed).run()
