"""A simulated process that asks for another leader, and may not live to see it."""

from __future__ import annotations

import asyncio
import random

import aioelect
from aioelect.ports import Address, World
from aioelect.watchdog import UNWATCHED

from .contender import Settings
from .loop import Kernel, ProcessLoop
from .network import Network
from .referee import Referee

__all__ = ["Asker"]


class Asker:
    """One request to the leader of one election, by a client of its own; it is withdrawn after ``patience`` seconds."""

    def __init__(
        self,
        name: str,
        kernel: Kernel,
        network: Network,
        referee: Referee,
        settings: Settings,
        source: random.Random,
        election: str,
        *,
        hands_over: bool,
        patience: float,
    ) -> None:
        self.name = name
        self.loop = ProcessLoop(kernel, name)
        self.crashed = False
        self.outcome = ""
        """What came of it, at last."""
        self.random = source
        self._kernel = kernel
        self._network = network
        self._referee = referee
        self._settings = settings
        self._election = election
        self._hands_over = hands_over
        self._patience = patience
        chance = random.Random(source.random())
        self._world = World(lambda: kernel.now, self.loop.time, self._dial, self._resolve, chance, UNWATCHED)
        self._asking: asyncio.Task[str] | None = None
        self._given_up = False
        self.main = self.loop.create_task(self._main())

    # From outside.

    def give_up(self) -> None:
        """Asks no longer."""
        self.loop.post(self._give_up)

    def crash(self, *, silent: bool) -> None:
        """Dies; ``silent``: with its host, so that nobody is told."""
        if self.main.done() or self.crashed:
            return
        self._referee.note(f"{self.name} crashes")
        self.crashed = True
        self.loop.frozen += 1
        for connection in list(self._network.connections):
            if connection.client == self.name:
                if silent:
                    connection.drop()
                else:
                    connection.close()

    # The world of the client.

    async def _dial(self, protocol: asyncio.Protocol, address: Address, **_: object) -> asyncio.Transport:
        return await self._network.dial(self.loop, protocol, address)

    async def _resolve(self, host: str, port: int) -> list[Address]:
        return [(host, port)]

    # The program.

    def _give_up(self) -> None:
        self._given_up = True
        if self._asking is not None:
            self._asking.cancel()

    async def _main(self) -> None:
        self._asking = asyncio.create_task(self._ask())
        if self._given_up:
            self._asking.cancel()
        try:
            self.outcome = await self._asking
        except asyncio.CancelledError:
            self.outcome = "given up"
        self._referee.note(f"{self.name}: {self.outcome}")
        self._referee.counts[f"asked for another leader: {self.outcome}"] += 1

    async def _ask(self) -> str:
        settings = self._settings
        connecting = aioelect.connect(
            settings.hosts,
            session_timeout=settings.session_timeout,
            timeout=None,
            tick_time=settings.tick_time,
            world=self._world,
        )
        async with connecting as client:
            try:
                return await self._switch(client)
            except (aioelect.NoLeader, aioelect.NotContending, aioelect.SwitchoverTimeout) as e:
                return type(e).__name__
            finally:
                self._referee.asked(self.name, self._election)

    async def _switch(self, client: aioelect.Client) -> str:
        if not self._hands_over:
            self._referee.note(f"{self.name} asks the leader of {self._election} to step down")
            leader = await aioelect.step_down(client, self._election, timeout=self._patience)
            return "nobody else contends" if leader is None else "another leads"
        standing = await aioelect.get_standing(client, self._election)
        if not standing.contenders:
            return "NoLeader"
        chosen = self.random.choice(standing.contenders)
        to: str | aioelect.Contender = chosen if self.random.random() < 0.5 else chosen.identity
        self._referee.note(f"{self.name} asks the leader of {self._election} to hand over to {chosen.path}")
        leader = await aioelect.hand_over(client, self._election, to, timeout=self._patience)
        assert leader is not None
        if (leader.identity if isinstance(to, str) else leader) != to:
            self._referee._object(f"{self.name} was told that {leader} leads, in place of {to}")
        return "the chosen one leads"
