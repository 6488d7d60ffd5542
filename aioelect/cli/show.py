"""The demo's plot: contenders queue, and leaders resign, are killed, and lose their network, round after round."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from aioelect.cli.verdict import Kind, Takeover
from aioelect.cli.worker import Setting, State, Worker

__all__ = ["Audience", "Show"]

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds, besides three session timeouts, that anything may take on a slow machine."""


class Audience(Protocol):
    """Who looks on. ``breath`` is how many seconds it needs before the next scene."""

    breath: float

    def meet(self, workers: Sequence[Worker]) -> None:
        """The contenders, before the first starts."""

    def hear(self, worker: Worker, event: dict[str, Any]) -> None:
        """A contender told of an event."""

    def begin_round(self, number: int, rounds: int) -> None:
        """All contenders have their places."""

    def see_cause(self, kind: Kind, leader: Worker, *, silently: bool) -> None:
        """Something is done to the leader next; ``silently``: its packets are to vanish."""

    def see_takeover(self, takeover: Takeover, began: float) -> None:
        """Another contender leads since ``began``."""

    def end(self) -> None:
        """The contenders leave next."""


@dataclass(frozen=True, slots=True)
class _Term:
    worker: Worker
    token: int
    at: float


class _Mishap(Exception):
    """Something that should have happened did not."""


class Show:
    """One performance. ``takeovers`` is what happened; ``mishap`` says why it ended early, if it did."""

    def __init__(self, setting: Setting, audience: Audience, *, contenders: int, rounds: int) -> None:
        self.takeovers: list[Takeover] = []
        self.mishap: str | None = None
        self._audience = audience
        self._rounds = rounds
        self._bound = 3 * setting.session_timeout + PATIENCE
        self._workers = [Worker(f"worker-{number}", setting, self._hear) for number in range(1, contenders + 1)]
        self._terms: list[_Term] = []
        self._resigned: dict[int, float] = {}
        self._stopped: dict[int, float] = {}
        self._changed = asyncio.Event()

    async def perform(self) -> None:
        """Plays all rounds; when it returns, or is cancelled, no contender is left."""
        self._audience.meet(self._workers)
        async with contextlib.AsyncExitStack() as stack:
            for worker in self._workers:
                await stack.enter_async_context(worker)
            try:
                await self._play()
            except _Mishap as e:
                self.mishap = str(e)
            finally:
                self._audience.end()
                await self._leave()

    async def _play(self) -> None:
        for worker in self._workers:
            await worker.start()
        for number in range(1, self._rounds + 1):
            await self._settle()
            self._audience.begin_round(number, self._rounds)
            for kind in Kind:
                await self._scene(kind, silently=number % 2 == 1)
        await self._settle()  # who was killed or cut off is back

    async def _leave(self) -> None:
        """The leader last: otherwise each of the others would lead for a moment."""
        leading = [worker for worker in self._workers if worker.state is State.LEADING]
        await asyncio.gather(*(worker.stop() for worker in self._workers if worker not in leading))
        await asyncio.gather(*(worker.stop() for worker in leading))

    async def _scene(self, kind: Kind, *, silently: bool) -> None:
        await self._settle()
        await asyncio.sleep(self._audience.breath)
        old = await self._settle()
        self._audience.see_cause(kind, old.worker, silently=silently)
        terms = len(self._terms)
        match kind:
            case Kind.RESIGN:
                old.worker.resign()
                at = await self._until(lambda: self._resigned.get(old.token), f"{old.worker.identity} did not resign")
            case Kind.KILL:
                at = await old.worker.kill()
                self._stopped[old.token] = time.monotonic()
            case Kind.CUT:
                at = old.worker.disconnect(silently=silently)
        new = await self._until(
            lambda: next((term for term in self._terms[terms:] if term.worker is not old.worker), None),
            f"nobody took over after the {kind.describe()} of {old.worker.identity}",
        )
        stopped = await self._until(
            lambda: self._stopped.get(old.token),
            f"{old.worker.identity} did not stop, although {new.worker.identity} leads",
        )
        takeover = Takeover(kind, at, stopped, old.worker.identity, new.worker.identity, old.token, new.token)
        self.takeovers.append(takeover)
        self._audience.see_takeover(takeover, new.at)
        if kind is Kind.KILL:
            await old.worker.start()
        elif kind is Kind.CUT:
            old.worker.reconnect()

    async def _settle(self) -> _Term:
        """Waits until one leads and all others queue; gives the term of the one."""
        return await self._until(self._settled, "one leader, and all others in the queue behind it, did not come about")

    def _settled(self) -> _Term | None:
        leading = [worker for worker in self._workers if worker.state is State.LEADING]
        if len(leading) != 1 or not all(worker.is_placed for worker in self._workers):
            return None
        last = self._terms[-1]
        return last if last.worker is leading[0] and last.token == leading[0].token else None

    async def _until(self, condition: Callable[[], T | None], otherwise: str) -> T:
        try:
            async with asyncio.timeout(self._bound):
                while (found := condition()) is None:
                    self._check_cast()
                    self._changed.clear()
                    await self._changed.wait()
                return found
        except TimeoutError:
            raise _Mishap(f"{otherwise} within {self._bound:g} s") from None

    def _check_cast(self) -> None:
        for worker in self._workers:
            if worker.state is State.ENDED:
                raise _Mishap(f"{worker.identity} ended by itself: {worker.error}")

    def _hear(self, worker: Worker, event: dict[str, Any]) -> None:
        match event["event"]:
            case "Leads":
                self._terms.append(_Term(worker, event["token"], event["at"]))
            case "Stops":
                self._stopped[event["token"]] = event["at"]
            case "Losing" if event["reason"] == "resigned":
                self._resigned[event["token"]] = event["at"]
        self._changed.set()
        self._audience.hear(worker, event)
