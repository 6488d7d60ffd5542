"""How fast leadership changes hands on your servers: :class:`FailoverMeter`."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from types import TracebackType
from typing import Any, Self

from aioelect.cleanup import finish
from aioelect.errors import AioelectError, ZooKeeperError
from aioelect.naming import check_path
from aioelect.testing.chroot import ChrootMissing, check_chroot
from aioelect.testing.cluster import Cluster
from aioelect.testing.contender import Part
from aioelect.testing.jute import Code, code_of
from aioelect.testing.process import ContenderProcess

__all__ = ["FailoverMeter", "MeasurementFailed"]

PATIENCE = 20.0
"""Seconds, besides three session timeouts, that anything may take on a slow machine."""

CLEANING = 5.0
"""Seconds that removing the folder may take."""

SETTLE = 0.01
"""Seconds for all processes to fall asleep once the last watch is set."""

HEARD = ("Ready", "Joins", "NextInLine", "Leads", "Left")
"""What contenders tell: nothing else, for they are measured."""


class MeasurementFailed(Exception):
    """Something that should have been measured did not happen, or the folder can't be used or removed; the message says what."""


class FailoverMeter:
    """Lets two contenders, each a process of its own, take over from each other, and tells how long it takes.

    ::

        async with FailoverMeter("zk1:2181,zk2:2181,zk3:2181") as meter:
            handovers = [await meter.hand_over() for _ in range(100)]
        print(summarise(handovers), summarise(meter.writes))

    ``cluster``          a hosts string, or a :class:`Cluster` with credentials, which reach the contenders through pipes. Its
                         chroot, if any, must be there.
    ``folder``           the znode to work below, made here and removed in the end; its parent must be there, and it must not.
                         By default it stands at the top, with random digits.
    ``session_timeout``  seconds, to be asked for.
    ``guard``            whether contenders have a guard (docs/guard.md), so that a kill need not wait for the session timeout.
    ``timeout``          seconds within which the servers must be reached.

    An async context manager. Entering it starts the contenders; when it is left, for whatever reason, they have ended, and the
    servers hold nothing of it. Should its own process be killed, the contenders leave, and the servers remove what is left.

    Raises ``ValueError`` and ``TypeError`` at the call, ``MeasurementFailed``, what ZooKeeper answers (``aiozk.exc``), and when
    entered as :func:`aioelect.connect` does.
    """

    def __init__(
        self,
        cluster: Cluster | str,
        folder: str | None = None,
        *,
        session_timeout: float = 10.0,
        guard: bool = False,
        timeout: float = 30.0,
    ) -> None:
        self.cluster = Cluster(cluster) if isinstance(cluster, str) else cluster
        self.folder = check_path(folder or f"/aioelect-bench-{secrets.token_hex(4)}", "folder")
        if self.folder == "/":
            raise ValueError(
                "folder must not be '/', since it is made and removed: give a path below, such as '/bench'"
            )
        self.session_timeout = session_timeout
        """Seconds: what was asked for and, once it has begun, what the servers have granted."""
        self.joins: list[float] = []
        """Seconds from the call that contends, on an open session, to being next in line; measured whenever somebody joins."""
        self.writes: list[float] = []
        """Seconds that a small write took, asked for by this process: nothing that ZooKeeper agrees on is faster. Some are made
        before each change of leaders."""
        self._guard = guard
        self._timeout = timeout
        self._mark = secrets.token_bytes(16)
        # Both are made for their checks of arguments as well.
        self._connecting = self.cluster.connect(session_timeout=session_timeout, timeout=timeout)
        self.cluster.connect(session_timeout=session_timeout, guard=guard)
        self._started = 0
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await check_chroot(self.cluster, timeout=self._timeout)
        except ChrootMissing as e:
            raise MeasurementFailed(str(e)) from None
        async with contextlib.AsyncExitStack() as stack:
            self._client = await stack.enter_async_context(self._connecting)
            self.session_timeout = self._client.session.timeout
            await self._make_folder(stack)
            self._players: list[_Player] = []
            stack.push_async_callback(self._dismiss)
            for _ in range(2):
                self._players.append(await self._start())
            await self._take_places()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await finish(self._stack.__aexit__(kind, error, traceback), bound=None)  # every step of it is bounded

    # What is measured

    async def hand_over(self) -> float:
        """The leader resigns: seconds from the call, in one process, to the first line of the next leader's body, in the other.

        The one that has resigned queues up again.
        """
        leader, heir = self._players
        await self._settle()
        asked = time.monotonic()
        leader.process.resign()
        led = await self._succession(asked, "resign")
        resigned = await leader.hear("Left")
        self._players = [heir, leader]
        await self._join(leader)
        return led - resigned

    async def kill(self) -> float:
        """``kill -9`` of the leader's process: seconds from the system call to the first line of the next leader's body.

        A new process takes its place. Without a guard that takes about a session timeout.
        """
        leader, heir = self._players
        await self._settle()
        killed = await leader.process.kill()
        led = await self._succession(killed, "be killed")
        self._players = [heir, await self._start()]
        await self._join(self._players[1])
        return led - killed

    async def write(self) -> float:
        """Seconds for a small write; see ``writes``."""
        began = time.monotonic()
        await self._client.set(f"{self.folder}/write", b"0123456789abcdef", version=-1)
        took = time.monotonic() - began
        self.writes.append(took)
        return took

    # The cast

    async def _start(self) -> _Player:
        self._started += 1
        part = Part(
            self.cluster,
            f"{self.folder}/election",
            f"contender-{self._started}",
            self.session_timeout,
            guard=self._guard,
            tells=HEARD,
        )
        player = _Player(part, 3 * self.session_timeout + PATIENCE)
        await player.start()
        return player

    async def _take_places(self) -> None:
        for player in self._players:
            await player.hear("Ready")
        leader, heir = self._players
        leader.process.join()
        await leader.hear("Leads")
        await self._join(heir)

    async def _join(self, player: _Player) -> None:
        player.process.join()
        began = await player.hear("Joins")
        self.joins.append(await player.hear("NextInLine") - began)

    async def _settle(self) -> None:
        """Who is next in line still asks the servers whether a change of leaders was asked for: that needs two round trips."""
        for _ in range(2):
            await self.write()
        await asyncio.sleep(SETTLE)

    async def _succession(self, asked: float, what: str) -> float:
        """When the heir began to lead; ``what`` was asked of the leader when the clock showed ``asked``.

        An heir that led before that answers nothing: the leader had lost its session, or its lease, by itself.
        """
        leader, heir = self._players
        led = await heir.hear("Leads")
        if led < asked:
            raise MeasurementFailed(
                f"{heir.identity} led {asked - led:.3f} s before {leader.identity} was to {what}: leadership was lost by itself. "
                "See that servers and this machine are well, or give a longer session timeout, and measure again with a new meter"
            )
        return led

    async def _dismiss(self) -> None:
        await asyncio.gather(*(player.process.leave() for player in reversed(self._players)))

    # The folder

    async def _make_folder(self, stack: contextlib.AsyncExitStack) -> None:
        """Containers, and an ephemeral: even if nobody is left to remove them, the servers do so."""
        client, folder = self._client, self.folder
        if await client.exists(folder):
            raise self._taken()
        parent = folder.rpartition("/")[0]
        if parent and not await client.exists(parent):
            raise MeasurementFailed(f"{parent} does not exist: create it first, or give another path than {folder}")
        stack.push_async_callback(self._remove)  # it may have come to be where no answer says so, too
        try:
            await client.create(folder, self._mark, container=True)
        except ZooKeeperError as e:
            if code_of(e) == Code.NODE_EXISTS:
                raise self._taken() from None
            raise
        await client.create(f"{folder}/write", ephemeral=True)

    def _taken(self) -> MeasurementFailed:
        return MeasurementFailed(
            f"{self.folder} exists already: give a path that nobody uses, which is made and removed"
        )

    async def _is_ours(self) -> bool:
        """Whether the folder is there, and made by this meter: somebody else may have made one of that name."""
        try:
            return await self._client.get_data(self.folder) == self._mark
        except ZooKeeperError as e:
            if code_of(e) in (Code.NO_NODE, Code.NO_AUTH):  # what we make we may read
                return False
            raise

    async def _remove(self) -> None:
        try:
            async with asyncio.timeout(CLEANING):
                while await self._is_ours():
                    with contextlib.suppress(ZooKeeperError):  # somebody's last znode has just come, or gone
                        await self._client.deleteall(self.folder)
        except (TimeoutError, AioelectError, ZooKeeperError) as e:
            raise MeasurementFailed(
                f"{self.folder} could not be removed ({type(e).__name__}: {e}): delete it when the servers can be reached"
            ) from e


class _Player:
    """A contender, and what it has told that nobody has asked for yet."""

    def __init__(self, part: Part, patience: float) -> None:
        self.identity = part.identity
        self._part = part
        self._patience = patience
        self._told: deque[dict[str, Any]] = deque()
        self._news = asyncio.Event()

    async def start(self) -> None:
        self.process = await ContenderProcess.start(self._part, self._hear)

    def _hear(self, event: dict[str, Any]) -> None:
        self._told.append(event)
        self._news.set()

    async def hear(self, name: str) -> float:
        """Waits until it tells of ``name``, and gives the time that goes with it. What it has told before is dropped."""
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    while self._told:
                        event = self._told.popleft()
                        if event["event"] == name:
                            return float(event["at"])
                        self._check(event)
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise MeasurementFailed(
                f"{self.identity} did not come to {name!r} within {self._patience:g} s: are the servers well?"
            ) from None

    def _check(self, event: dict[str, Any]) -> None:
        if event["event"] == "Failed":
            raise MeasurementFailed(f"{self.identity} gave up: {event['error']}")
        if event["event"] == "Ended":
            raise MeasurementFailed(f"{self.identity} ended by itself, with status {event['status']}")
