"""Guarded processes, and those who wait for their deaths."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import aioelect
from aioelect.testing.zookeeper import ZooKeeperServer
from aioelect.zookeeper import wire
from tests import processes
from tests.elections import PATIENCE, Tape, eventually, soon

T = 10.0
"""The session timeout, in seconds: what takes less than half of it did not wait for it."""

FAST = T / 2

Said = dict[str, Any]


class Guarded:
    """A running ``tests.guard.program``."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.pid = process.pid
        self.said: list[Said] = []
        self._news = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def start(
        cls,
        hosts: str,
        election: str,
        session_timeout: float,
        guard: str = "yes",
        *options: str,
        within: Sequence[str] = (),
        **how: Any,
    ) -> Guarded:
        """``within``: a command, with arguments, that runs what follows it."""
        process = await asyncio.create_subprocess_exec(
            *within,
            *(sys.executable, "-m", "tests.guard.program", hosts, election, str(session_timeout), guard, *options),
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,
            cwd=Path(__file__).parents[2],
            **how,
        )
        return cls(process)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.said.append(json.loads(line))
            self._news.set()

    async def hear(self, name: str, count: int = 1) -> Said:
        """The ``count``-th thing of that kind that it says."""

        async def look() -> Said:
            while len(found := [said for said in self.said if said["event"] == name]) < count:
                self._news.clear()
                await self._news.wait()
            return found[count - 1]

        return await soon(look())

    async def leads(self) -> int:
        """Waits until it leads; its guard's process id."""
        guard = (await self.hear("Leads"))["guard"]
        return int(guard) if guard is not None else 0

    def order(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())

    def kill(self, number: int = signal.SIGKILL) -> float:
        """When it was killed."""
        at = time.monotonic()
        os.kill(self.pid, number)  # asyncio's own way may reap it, and then wonders where it is
        return at

    async def end(self) -> int:
        """Waits for the process, and kills what it has forked."""
        for said in self.said:
            if said["event"] == "Forked":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(said["pid"], signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            if self.process.returncode is None:
                os.kill(self.pid, signal.SIGKILL)
        code = await soon(self.process.wait())
        await soon(self._reading)
        return code


@contextlib.asynccontextmanager
async def guarded(
    hosts: str, election: str, session_timeout: float, guard: str = "yes", *options: str, **how: Any
) -> AsyncIterator[Guarded]:
    """A process that is killed in the end, at the latest, and its guard's end waited for."""
    program = await Guarded.start(hosts, election, session_timeout, guard, *options, **how)
    try:
        yield program
    finally:
        await program.end()
        for said in program.said:
            if said.get("guard"):
                await gone(said["guard"])


class Successor:
    """A contender in this process, next in line."""

    def __init__(self, client: aioelect.Client, election: str) -> None:
        self.tape = Tape()
        self._led: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._contend(client, election))

    async def _contend(self, client: aioelect.Client, election: str) -> None:
        async with aioelect.leadership(client, election, on_event=self.tape):
            self._led.set_result(time.monotonic())
            await asyncio.Event().wait()

    @property
    def leads(self) -> bool:
        return self._led.done()

    async def led(self, timeout: float = PATIENCE) -> float:
        """When it led."""
        return await asyncio.wait_for(asyncio.shield(self._led), timeout)

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


@contextlib.asynccontextmanager
async def successor(client: aioelect.Client, election: str) -> AsyncIterator[Successor]:
    """Returns when it is next in line and could lead at once."""
    contender = Successor(client, election)
    try:
        async with asyncio.timeout(PATIENCE):
            while not [event for event in contender.tape.events if type(event).__name__ == "NextInLine"]:
                await asyncio.sleep(0.01)
            await warm(client)
        yield contender
    finally:
        await contender.leave()


async def check_takes_over(client: aioelect.Client, path: str, die: Callable[[], float]) -> None:
    """The successor leads long before the session could have expired."""
    async with successor(client, path) as next_one:
        at = die()
        took = await next_one.led() - at
        print(f"took over after {1000 * took:.1f} ms")
        assert took < FAST


async def warm(client: aioelect.Client) -> None:
    """Returns when the lease is proven for most of its time."""
    session = client.session
    await eventually(lambda: session.lease.remaining(session.world.clock()) > session.timing.ride_out / 2)


def is_running(pid: int) -> bool:
    """Whether there is such a process that is no zombie."""
    try:
        return processes.state(Path(f"/proc/{pid}/stat")) != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def guards_of(parent: int) -> list[int]:
    """The process ids of the guards of a process."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if command[3].endswith(b"/guard/child.py") and int(command[4]) == parent:
                found.append(int(process.name))
    return found


def is_there(pid: int) -> bool:
    """Whether there is such a process, or a zombie."""
    return Path(f"/proc/{pid}").exists()


def rss(pid: int) -> float:
    """Megabytes."""
    return int(status(pid, "VmRSS")) / 1024


def status(pid: int, name: str) -> str:
    """What the kernel says about a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def shown_of(pid: int) -> bytes:
    """What anybody, or its owner, can see of a process."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))


async def settled_rss(pid: int) -> float:
    """Megabytes, when it grows no more."""
    size, before = 0.0, -1.0
    while size != before:
        before = size
        await asyncio.sleep(0.5)
        size = rss(pid)
    return size


async def gone(pid: int) -> None:
    """Returns when there is no such process, or a zombie at the most."""
    await eventually(lambda: not is_running(pid))


async def is_over(server: ZooKeeperServer, resume: bytes) -> bool:
    """Whether a session that is asked for has ended."""
    host, port = server.hosts.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(resume)
        size = int.from_bytes(await reader.readexactly(4), "big")
        return wire.parse_connect_reply(await reader.readexactly(size)).session_id == 0
    except (asyncio.IncompleteReadError, ConnectionError):  # its owner has just taken it to another connection
        return False
    finally:
        writer.close()


def resume_frame(session_id: int, password: bytes) -> bytes:
    return wire.connect_frame(last_zxid=0, timeout=10.0, session_id=session_id, password=password, read_only=False)


async def end_session(server: ZooKeeperServer, session_id: int, password: bytes) -> None:
    """As an expiry does."""
    resume = resume_frame(session_id, password)
    while not await is_over(server, resume + wire.close_frame(1)):
        pass
