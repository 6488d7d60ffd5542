"""Where faults happen: a real ensemble, contenders as separate processes, and proxies between, several for each contender.

The proxies run in the event loop of the test, so nothing here may block it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aioelect
from aioelect.testing.proxy import FaultProxy
from aioelect.testing.recorder import Interval, LeadershipRecorder
from aioelect.testing.zookeeper import ZooKeeperEnsemble

PATIENCE = 30.0
"""Seconds after which what was waited for will not come any more."""

TICK = 0.2
"""The servers' tickTime, in seconds. They grant sessions of 0.4 to 16 s."""

STEADY = 0.7
"""The part of the session timeout for which a leader is proven right after a renewal, when all is well, or more."""

Said = dict[str, Any]
"""What a contender told of itself."""

_numbers = itertools.count()


class Stuck(Exception):
    """What was waited for did not happen."""


class Contender:
    """A contender process and its network. It may be started again after it was killed."""

    def __init__(self, identity: str, proxies: list[FaultProxy], news: Callable[[], object]) -> None:
        self.identity = identity
        self.proxies = proxies
        """Its way to each member, in their order."""
        self.said: list[Said] = []
        self.halts: list[tuple[float, float]] = []
        """From when to when it was frozen, the last one perhaps for ever."""
        self._news = news
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, *options: str) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.contender"),
            *("--hosts", ",".join(proxy.hosts for proxy in self.proxies), "--identity", self.identity, *options),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            start_new_session=True,
            cwd=Path(__file__).parents[2],
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def stop(self) -> None:
        """Lets the process leave, and kills it when it takes too long; nothing when there is none."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 8)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL."""
        process, reading = self._process, self._reading
        assert process is not None
        assert reading is not None
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading
        self._note({"event": "Killed", "at": time.monotonic()})
        self._process = None

    def resume_with(self, session_timeout: float) -> None:
        """Lets it resume its session with another timeout."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{session_timeout}\n".encode())

    def freeze(self) -> None:
        """SIGSTOP."""
        assert self._process is not None
        self.halts.append((time.monotonic(), float("inf")))
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self.halts[-1] = (self.halts[-1][0], time.monotonic())
        self._process.send_signal(signal.SIGCONT)

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._note(json.loads(line))

    def _note(self, said: Said) -> None:
        self.said.append(said)
        self._news()

    # What is known of it

    def last(self, *names: str) -> Said | None:
        """The newest of these events of its current process."""
        for said in reversed(self.said):
            if said["event"] in names:
                return said
            if said["event"] == "Killed":
                break
        return None

    def since(self, at: float, *names: str) -> list[Said]:
        return [said for said in self.said if said["event"] in names and said["at"] >= at]

    @property
    def runs(self) -> bool:
        return self._process is not None

    @property
    def leads(self) -> bool:
        said = self.last("Leads", "Stops")
        return said is not None and said["event"] == "Leads"

    @property
    def token(self) -> int | None:
        """That of its znode; None while it has none that it knows of."""
        said = self.last("Queued", "Lost", "Released", "Expired")
        return said["token"] if said is not None and said["event"] == "Queued" else None

    @property
    def seat(self) -> int | None:
        """The index of the member that it is connected to."""
        said = self.last("Connected", "Reconnected", "Disconnected")
        if said is None or said["event"] == "Disconnected":
            return None
        return [proxy.hosts for proxy in self.proxies].index(said["server"])

    def bodies(self) -> Iterator[Interval]:
        """When its bodies ran, from their first step to their last; what was frozen did not run, and is told of apart."""
        begun: Said | None = None
        for said in [*self.said, {"event": "Stops", "at": time.monotonic()}]:
            if said["event"] == "Leads":
                begun = said
            elif said["event"] in ("Stops", "Killed") and begun is not None:
                end = min([said["at"], *(frozen for frozen, _ in self.halts if begun["at"] < frozen < said["at"])])
                yield Interval(begun["at"], end, self.identity, begun["token"], 0, True)
                begun = None


class Cast:
    """Contenders of one election with one session timeout, in seconds, and the records of their terms.

    ``credulous`` ones believe in their leases for too long.
    """

    def __init__(self, session_timeout: float, folder: Path, *, credulous: bool = False) -> None:
        self.session_timeout = session_timeout
        self.credulous = credulous
        self.election = f"/faults-{next(_numbers)}"
        self.records = folder / self.election[1:]
        self.recorder = LeadershipRecorder(self.records)
        self.contenders: list[Contender] = []

    async def start(self, contender: Contender) -> None:
        await contender.start(
            *("--election", self.election, "--session-timeout", str(self.session_timeout)),
            *("--recorder", str(self.records), *(["--credulous"] if self.credulous else [])),
        )

    @property
    def leader(self) -> Contender | None:
        """The one that leads, if it is one."""
        leaders = [contender for contender in self.contenders if contender.leads]
        return leaders[0] if len(leaders) == 1 else None

    def story(self, since: float = 0.0) -> str:
        """What the contenders told from a second before ``since``, in order, with the seconds after it."""
        told = sorted(
            ((said["at"], contender.identity, said) for contender in self.contenders for said in contender.said),
            key=lambda each: each[0],
        )
        lines: list[str] = []
        for at, identity, said in told:
            if at < since - 1:
                continue
            facts = {k: v for k, v in said.items() if k not in ("at", "event", "identity", "election", "path")}
            lines.append(f"{at - since:8.3f} {identity} {said['event']} {facts}")
        return "\n".join(lines)


class Stage:
    """An ensemble, and a cast that is reused from fault to fault. An async context manager."""

    def __init__(self, contenders: int = 3) -> None:
        # A follower that was cut off goes on answering for 25 ticks, 5 s. Each attempt in vain to form a quorum, and there is one
        # now and then when members are linked through proxies, costs a new ZooKeeper leader 5 ticks.
        self.ensemble = ZooKeeperEnsemble(tick_time=TICK, sync_limit=25, init_limit=5, max_session_timeout=16.0)
        self._count = contenders
        self._cast: Cast | None = None
        self._network = contextlib.AsyncExitStack()
        self._stack = contextlib.AsyncExitStack()
        self._news = asyncio.Event()
        self._admin: aioelect.Client | None = None

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aioelect-faults-")))
            await stack.enter_async_context(self.ensemble)
            self._admin = await stack.enter_async_context(aioelect.connect(self.ensemble.hosts, session_timeout=4.0))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.dismiss()
        finally:
            await self._stack.aclose()

    async def cast(self, session_timeout: float, *, credulous: bool = False) -> Cast:
        """The cast of this kind: the present one, or a new one."""
        present = self._cast
        if present is None or (present.session_timeout, present.credulous) != (session_timeout, credulous):
            await self.dismiss()
            self._cast = cast = Cast(session_timeout, self._folder, credulous=credulous)
            async with contextlib.AsyncExitStack() as network:
                for number in range(self._count):
                    proxies = [
                        await network.enter_async_context(FaultProxy(member.hosts)) for member in self.ensemble.members
                    ]
                    cast.contenders.append(Contender(f"c{number}", proxies, self._news.set))
                self._network = network.pop_all()
            for contender in cast.contenders:
                await cast.start(contender)
            return cast
        return present

    async def dismiss(self) -> None:
        """Ends the cast; the next one starts with clean records."""
        cast, self._cast = self._cast, None
        if cast is not None:
            try:
                for proxy in self._proxies(cast):
                    proxy.heal()
                await asyncio.gather(*(contender.stop() for contender in cast.contenders))
            finally:
                await self._network.aclose()

    def _proxies(self, cast: Cast) -> Iterator[FaultProxy]:
        for contender in cast.contenders:
            yield from contender.proxies

    # Waiting

    async def until(self, what: str, condition: Callable[[], object], within: float = PATIENCE) -> None:
        """Returns when what the contenders said makes ``condition`` true."""
        try:
            async with asyncio.timeout(within):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise Stuck(f"{what}: not within {within:g} s") from None

    async def settle(self, cast: Cast) -> Contender:
        """Returns the leader when one leads, with a warm lease, and all others stand in the queue; servers and clients agree."""

        def placed() -> bool:
            return cast.leader is not None and all(
                contender.token is not None and contender.seat is not None for contender in cast.contenders
            )

        end = time.monotonic() + PATIENCE
        while True:
            await self.until("everybody has a place", placed)
            leader = cast.leader
            if leader is not None and await self._agrees(cast, leader):
                await self.warm(cast, leader)
                if leader is cast.leader:
                    return leader
            if time.monotonic() > end:
                raise Stuck("contenders and servers do not agree who stands in the queue")
            await asyncio.sleep(0.05)

    async def _agrees(self, cast: Cast, leader: Contender) -> bool:
        assert self._admin is not None
        try:
            standing = await aioelect.get_standing(self._admin, cast.election)
        except aioelect.AioelectError:
            return False
        tokens = [contender.token for contender in standing.contenders]
        return tokens[:1] == [leader.token] and set(tokens) == {contender.token for contender in cast.contenders}

    async def warm(self, cast: Cast, leader: Contender) -> None:
        """Returns when the leader has just renewed its lease to what it is when all is well."""
        since = time.monotonic()
        await self.until(
            "a full lease",
            lambda: (
                any(renewed["remaining"] > STEADY * cast.session_timeout for renewed in leader.since(since, "Renewed"))
                or leader is not cast.leader
            ),
        )

    # Setting up and clearing away

    async def follower(self) -> int:
        """The index of a ZooKeeper follower."""
        return (await asyncio.to_thread(self.ensemble.followers))[0]

    async def zookeeper_leader(self) -> int:
        """The index of the ZooKeeper leader."""
        return await asyncio.to_thread(self.ensemble.leader_index)

    async def new_zookeeper_leader(self) -> float:
        """When ZooKeeper's members that are not cut off have a leader again."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(LookupError):
                await self.zookeeper_leader()
                return time.monotonic()
            await asyncio.sleep(0.05)
        raise Stuck(f"ZooKeeper elected no leader within {PATIENCE:g} s")

    async def put_on(self, cast: Cast, contender: Contender, member: int) -> None:
        """Lets a contender move to a member."""
        if contender.seat != member:
            for index, proxy in enumerate(contender.proxies):
                if index != member:
                    proxy.cut()
            await self.until(f"{contender.identity} sits on member {member}", lambda: contender.seat == member)
            for proxy in contender.proxies:
                proxy.heal()
            await self.warm(cast, contender)

    async def heal(self, cast: Cast) -> None:
        """Ends all faults: the network is whole, all servers and contenders run."""
        for proxy in self._proxies(cast):
            proxy.heal()
        for index, member in enumerate(self.ensemble.members):
            self.ensemble.heal(index)
            try:
                member.resume()
            except RuntimeError:  # killed
                await asyncio.to_thread(member.launch)
        for contender in cast.contenders:
            if not contender.runs:
                await cast.start(contender)
            elif contender.halts and contender.halts[-1][1] == float("inf"):
                contender.thaw()
        await self.ensemble.await_ready()
