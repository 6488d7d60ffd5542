"""A simulated process: one client, and a contender for each election, each of which does what its chance says."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import aioelect
from aioelect import events
from aioelect.ports import Address, World
from aioelect.watchdog import UNWATCHED
from aioelect.zookeeper.client import Client
from aioelect.zookeeper.folder import Folder, Place

from .loop import Kernel, ProcessLoop
from .network import Network
from .referee import Referee, Term

__all__ = ["Process", "Settings", "Weather"]


class Weather(Protocol):
    """What everybody knows of the run."""

    calm: bool
    """Nothing goes wrong any more, and bodies stay."""
    hiccups: float
    """The chance that a process freezes where it reads its clock."""

    @property
    def elections(self) -> tuple[str, ...]:
        """The paths of all elections."""


class Settings(Protocol):
    """How all clients are opened; times in seconds."""

    hosts: str
    session_timeout: float
    tick_time: float | None
    drain_share: float | None
    handover_delay: float


class Mistake(Exception):
    """A body's own error."""


class _AioZKNames(Folder):
    """Names as aiozk's LeaderElection gives them: they sort before ours as text."""

    async def enter(self, prefix: str, payload: bytes, nonce: str) -> Place:
        return await super().enter(f"candidate-{nonce}-", payload, nonce)


class Process:
    """One process."""

    def __init__(
        self,
        name: str,
        kernel: Kernel,
        network: Network,
        referee: Referee,
        weather: Weather,
        settings: Settings,
        source: random.Random,
    ) -> None:
        self.name = name
        self.loop = ProcessLoop(kernel, name)
        self.loop.on_freeze = partial(referee.froze, name)
        self.loop.on_thaw = self._thawed
        self.random = source
        self.client: Client | None = None
        self.elections = weather.elections
        self.leaders: dict[str, aioelect.Leader] = {}
        self.refuses_probes = False
        self.heard: Callable[[events.Event], object] = lambda event: None
        """Called with each event, after it was noted."""
        self._kernel = kernel
        self._network = network
        self._referee = referee
        self._weather = weather
        self._settings = settings
        chance = random.Random(source.random())
        self._world = World(self._clock, self.loop.time, self._dial, self._resolve, chance, UNWATCHED)
        self._watched = False
        self._asked_to_close: asyncio.Future[None] | None = None
        self._stopping = False
        self.main = self.loop.create_task(self._main())

    # From outside.

    @property
    def member(self) -> str | None:
        """The server that the client is connected to."""
        conn = self.client.session.conn if self.client is not None and self.client.session.connected else None
        return None if conn is None else conn.host

    @property
    def session_id(self) -> int | None:
        """Of its client."""
        return None if self.client is None else self.client.session.session_id

    def close_client(self) -> None:
        """Closes the client, whatever goes on; the process opens another."""
        self.loop.post(self._close_client)

    def resign(self) -> None:
        """All leaders step down."""
        for leader in self.leaders.values():
            self.loop.post(leader.resign)

    def stop(self) -> None:
        """Everything ends in good order."""
        self._stopping = True
        self.loop.post(self._close_client)

    # The world of the client.

    def _clock(self) -> float:
        if not self._watched and self.random.random() < self._weather.hiccups:
            self._watched = True
            self._kernel.block(self.loop, self._settings.session_timeout * self.random.random() ** 4 * 1.5)
            self._watched = False
        return self._kernel.now

    def _thawed(self) -> None:
        watched, self._watched = self._watched, True
        self._referee.thawed(self.name)
        self._watched = watched

    async def _dial(self, protocol: asyncio.Protocol, address: Address, **_: object) -> asyncio.Transport:
        if self.refuses_probes and address[0] == self.member:  # only the probe dials where we are connected
            raise ConnectionRefusedError(f"{address[0]} takes no second connection")
        return await self._network.dial(self.loop, protocol, address)

    async def _resolve(self, host: str, port: int) -> list[Address]:
        return [(host, port)]

    # The program.

    def _close_client(self) -> None:
        if self._asked_to_close is not None and not self._asked_to_close.done():
            self._asked_to_close.set_result(None)

    async def _main(self) -> None:
        settings = self._settings
        while not self._stopping:
            self._asked_to_close = self.loop.create_future()
            connecting = aioelect.connect(
                settings.hosts,
                session_timeout=settings.session_timeout,
                timeout=None,
                tick_time=settings.tick_time,
                on_event=self._on_event,
                world=self._world,
            )
            async with connecting as client:
                self.client = client
                tasks = [asyncio.create_task(self._contend(client, each)) for each in self.elections]
                await self._asked_to_close
                if self.random.random() < 0.5:
                    for task in tasks:
                        task.cancel()
                else:
                    await client.close()
                await asyncio.wait(tasks)
                for task in tasks:
                    if not task.cancelled():
                        task.result()
            self.client = None

    def _on_event(self, event: events.Event) -> None:
        if not isinstance(event, events.Renewed):
            self._referee.note(f"{self.name} {_describe(event)}")
        self._referee.counts[type(event).__name__] += 1
        match event:
            case events.HandoverDelayed(token=token):
                self._referee.delayed.add(token)
            case events.Lost(reason=aioelect.LossReason.STEP_DOWN_REQUESTED, election=election, token=token):
                self._referee.gave_way(self.name, election, token)
        self.heard(event)

    async def _contend(self, client: Client, election: str) -> None:
        while True:
            enter = self.random.choice([self._lead, self._lead, self._campaign, self._stand])
            try:
                await enter(client, election)
            except aioelect.ClientClosed:
                return
            except aioelect.LeadershipLost as e:
                if e.reason is aioelect.LossReason.CLIENT_CLOSED:
                    return
            except (aioelect.ElectionTimeout, Mistake):
                pass
            await asyncio.sleep(self.random.uniform(0.0, 0.3))

    def _options(self, client: Client) -> dict[str, Any]:
        share = self._settings.drain_share
        drain = None if share is None else self._settings.session_timeout * share
        return {
            "identity": self.name,
            "drain": drain,
            "handover_delay": self._settings.handover_delay,
            "on_event": self._on_event,
        }

    async def _lead(self, client: Client, election: str) -> None:
        timeout = None if self._weather.calm or self.random.random() < 0.7 else self.random.uniform(0, 20)
        async with aioelect.leadership(client, election, timeout=timeout, **self._options(client)) as leader:
            await self._body(client, leader)

    async def _campaign(self, client: Client, election: str) -> None:
        await aioelect.campaign(client, election, partial(self._body, client), **self._options(client))

    async def _stand(self, client: Client, election: str) -> None:
        candidate = aioelect.Candidate(client, election, **self._options(client))
        if self.random.random() < 0.7:
            candidate.folder = _AioZKNames(client, election)
        async with candidate:
            leader = await candidate.wait_elected()
            work = asyncio.create_task(self._checked_body(client, leader))
            lost = asyncio.create_task(leader.lost())
            try:
                await asyncio.wait([work, lost], return_when=asyncio.FIRST_COMPLETED)
            finally:
                lost.cancel()
                work.cancel()
                await _gone(work, min(candidate.drain, leader.remaining() or candidate.drain))

    async def _checked_body(self, client: Client, leader: aioelect.Leader) -> None:
        """For a task of its own, which may begin late."""
        leader.check()
        await self._body(client, leader)

    async def _body(self, client: Client, leader: aioelect.Leader) -> None:
        term = self._referee.begin(self.name, leader, client.session)
        self.leaders[leader.election] = leader
        try:
            await self._work(client, leader, term)
        finally:
            try:
                await self._clean_up(client, term)
            finally:
                self.leaders.pop(leader.election, None)
                self._referee.end(term)

    async def _work(self, client: Client, leader: aioelect.Leader, term: Term) -> None:
        calm, chance = self._weather.calm, self.random
        stay = float("inf") if calm or chance.random() < 0.75 else chance.uniform(0, 2 * self._settings.session_timeout)
        until = self._kernel.now + stay
        while self._kernel.now < until or self._weather.calm:
            leader.check()
            self._referee.step(term)
            await asyncio.sleep(chance.uniform(0.1, 0.4) * client.session.timeout)
        if chance.random() < 0.3:
            raise Mistake("the body failed")

    async def _clean_up(self, client: Client, term: Term) -> None:
        """Takes up to nearly all of the time that it has."""
        share = self._settings.drain_share
        drain = client.session.timing.drain if share is None else self._settings.session_timeout * share
        left = drain * 0.95 * self.random.random() ** 0.3
        while left > 0.001:
            step = left if self.random.random() < 0.5 else left * self.random.random()
            await asyncio.sleep(step)
            self._referee.step(term)
            left -= step


async def _gone(work: asyncio.Task[None], bound: float) -> None:
    """Waits for a body that was cancelled for ``bound`` seconds, and then cancels it again; errors are those of the body."""
    try:
        await asyncio.wait([work], timeout=bound)
    finally:
        work.cancel()
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work])
    if not work.cancelled():
        work.result()


def _describe(event: events.Event) -> str:
    facts = [
        f"{name}={value:.4f}" if isinstance(value, float) else f"{name}={value}"
        for name in event.__dataclass_fields__
        if name not in ("at", "identity", "trigger")
        for value in [getattr(event, name)]
    ]
    return f"{type(event).__name__} {' '.join(facts)}"
