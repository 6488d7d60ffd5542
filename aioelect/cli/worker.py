"""The demo's side of one contender process: its life, its network, its commands, and what it last said of itself."""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aioelect.testing.cluster import Cluster
from aioelect.testing.contender import Part
from aioelect.testing.process import ContenderProcess
from aioelect.testing.proxy import FaultProxy
from aioelect.zookeeper.hosts import Hosts

__all__ = ["Setting", "State", "Worker"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What all contenders of a demo share; ``session_timeout`` in seconds."""

    hosts: Hosts
    election: str
    session_timeout: float
    records: Path


class State(enum.Enum):
    """Where a contender stands."""

    STARTING = "starting"
    JOINING = "joining the queue"
    WAITING = "waits"
    NEXT = "next in line"
    LEADING = "LEADS"
    STANDING_DOWN = "stands down"
    KILLED = "killed"
    LEFT = "has left"
    ENDED = "ended"


_AFTER = {
    "Connected": State.JOINING,
    "Queued": State.WAITING,
    "NextInLine": State.NEXT,
    "Leads": State.LEADING,
    "Losing": State.STANDING_DOWN,
    "Lost": State.JOINING,
    "Released": State.JOINING,
    "Expired": State.JOINING,
    "Failed": State.ENDED,
    "Ended": State.ENDED,
}
"""What an event says about where its contender stands now."""

_CONNECTED = {"Connected": True, "Reconnected": True, "Disconnected": False, "Unreachable": False}


class Worker:
    """A contender process that reaches the servers through proxies of its own. ``report`` gets each event it tells of.

    An async context manager: entering opens the network; :meth:`start` may be called again after :meth:`kill`.
    """

    def __init__(self, identity: str, setting: Setting, report: Callable[[Worker, dict[str, Any]], object]) -> None:
        self.identity = identity
        self.state = State.STARTING
        self.since = time.monotonic()
        """When it came into its state."""
        self.pid: int | None = None
        """Its process id, or that of its last process."""
        self.token: int | None = None
        """That of its znode, as far as is known."""
        self.proven_until = 0.0
        """Until when its leadership is proven, as it told last."""
        self.connected = False
        self.cut = False
        self.error: str | None = None
        self._setting = setting
        self._report = report
        self._network = contextlib.AsyncExitStack()
        self._proxies: list[FaultProxy] = []
        self._process: ContenderProcess | None = None

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            for host, port in self._setting.hosts.servers:
                self._proxies.append(await stack.enter_async_context(FaultProxy(f"{host}:{port}")))
            self._network = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.stop()
        finally:
            await self._network.aclose()

    @property
    def is_placed(self) -> bool:
        """Whether it is connected and has its place, in the queue or before it."""
        return self.connected and not self.cut and self.state in (State.WAITING, State.NEXT, State.LEADING)

    async def start(self) -> None:
        """Starts the process, which contends at once."""
        setting = self._setting
        hosts = ",".join(proxy.hosts for proxy in self._proxies) + setting.hosts.chroot
        self._turn(State.STARTING, time.monotonic())
        self.token = None
        part = Part(
            Cluster(hosts), setting.election, self.identity, setting.session_timeout, records=str(setting.records)
        )
        self._process = await ContenderProcess.start(part, self._receive)
        self.pid = self._process.pid
        self._process.join()

    async def stop(self) -> None:
        """Lets the process leave, and kills it when it takes too long; nothing when there is none."""
        if self._process is not None:
            self._turn(State.LEFT, time.monotonic())
            await self._process.leave()
            self._process, self.connected = None, False

    # What is done to it

    def resign(self) -> None:
        """Tells it to step down, and to queue again."""
        assert self._process is not None  # noqa: S101  # it leads
        self._process.resign()
        self._process.join()

    async def kill(self) -> float:
        """Kills the process with SIGKILL; gives the time just before."""
        assert self._process is not None  # noqa: S101  # it leads
        self._turn(State.KILLED, time.monotonic())
        at = await self._process.kill()
        self._process, self.connected = None, False
        return at

    def disconnect(self, *, silently: bool) -> float:
        """Cuts its network, ``silently`` (packets vanish) or by closing and refusing connections; gives the time just before."""
        at = time.monotonic()
        self.cut = True
        for proxy in self._proxies:
            if silently:
                proxy.blackhole()
            else:
                proxy.cut()
        return at

    def reconnect(self) -> None:
        """Heals its network."""
        self.cut = False
        for proxy in self._proxies:
            proxy.heal()

    # What it says

    def _receive(self, event: dict[str, Any]) -> None:
        name, at = event["event"], event["at"]
        if self.state in (State.KILLED, State.LEFT):
            return  # last words
        if (after := _AFTER.get(name)) is not None:
            self._turn(after, at)
        self.connected = _CONNECTED.get(name, self.connected)
        if name in ("Queued", "Leads"):
            self.token = event["token"]
        elif name == "Renewed":
            self.proven_until = at + event["remaining"]
        elif name == "Failed":
            self.error = event["error"]
        elif name == "Ended":
            self.error = self.error or f"exit status {event['status']}"
        if self.state is State.JOINING and not self.cut:
            self.token = None
        self._report(self, event)

    def _turn(self, state: State, at: float) -> None:
        self.state, self.since = state, at
