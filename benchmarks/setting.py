"""What a benchmark is given: servers, who takes part, how much to do, and where to say how far it is."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rich.progress import Progress

from aioelect.testing.zookeeper import ZooKeeperServer
from benchmarks.ensemble import Ensemble
from benchmarks.players import Lookout, Pair, Silent
from benchmarks.systems import System
from benchmarks.wire import RawClient

__all__ = ["Setting"]

T = TypeVar("T")

SESSION_TIMEOUT = 10.0
"""Seconds, the same for all."""

GIVE_UP = 3
"""Failures after which a system is measured no more."""

_numbers = itertools.count()


@dataclass
class Setting:
    """``server`` is a single server with ZooKeeper's usual tickTime, forceSync=no."""

    server: ZooKeeperServer
    ensemble: Ensemble | None
    all_systems: Sequence[System]
    progress: Progress
    quick: bool
    random: random.Random = field(default_factory=lambda: random.Random(0))

    @property
    def systems(self) -> list[System]:
        """Those that differ when nobody is killed."""
        return [system for system in self.all_systems if not system.is_for_kills]

    def some(self, quick: T, full: T) -> T:
        return quick if self.quick else full

    def track(self, what: str, total: int) -> Iterator[int]:
        """Counts, and shows how far it is."""
        task = self.progress.add_task(what, total=total)
        for number in range(total):
            yield number
            self.progress.advance(task)
        self.progress.remove_task(task)

    def new_election(self) -> str:
        """A folder that is there already, since making it is nobody's job here."""
        return self.new_elections(1)[0]

    def new_elections(self, count: int, hosts: str | None = None) -> list[str]:
        paths = [f"/benchmark-{next(_numbers)}" for _ in range(count)]
        with RawClient(hosts or self.server.hosts) as client:
            client.make(*paths)
        return paths

    @contextlib.contextmanager
    def pairs(self, systems: Iterable[System], servers: Sequence[ZooKeeperServer] = ()) -> Iterator[list[Pair]]:
        """A pair of players for each system, all alive at the same time; the two on different ``servers`` if there are two."""
        servers = servers or [self.server]
        systems = list(systems)
        elections = self.new_elections(len(systems), servers[0].hosts)
        with contextlib.ExitStack() as stack:
            pairs: list[Pair] = []
            lookout = stack.enter_context(contextlib.closing(Lookout(servers)))
            for system, election in zip(systems, elections, strict=True):
                pair = Pair(system, [server.hosts for server in servers], election, SESSION_TIMEOUT, lookout)
                pairs.append(stack.enter_context(pair))
            for pair in pairs:
                pair.begin()
            yield pairs
            for pair in pairs:
                pair.dismiss()  # all at once

    def interleave(self, what: str, pairs: Sequence[Pair], rounds: int, warm_up: int) -> dict[str, list[float]]:
        """Hand-overs of all pairs in turns, in a new order each round, so that whatever else happens on this machine happens to
        all of them. Seconds by system."""
        samples: dict[str, list[float]] = {pair.system.name: [] for pair in pairs}
        order = list(pairs)
        for number in self.track(what, warm_up + rounds):
            order = [pair for pair in order if len(pair.failures) < GIVE_UP]
            self.random.shuffle(order)
            for pair in order:
                try:
                    taken = pair.hand_over()
                    pair.again()
                except Silent as e:
                    pair.restart(str(e))
                    continue
                if number >= warm_up:
                    samples[pair.system.name].append(taken)
        return samples
