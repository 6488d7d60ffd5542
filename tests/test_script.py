"""The five-line script of the README, two copies of it as processes, and what can happen to the one that leads."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from aioelect.testing.proxy import FaultProxy
from aioelect.testing.zookeeper import ZooKeeperServer

SCRIPT = """\
import asyncio, os, sys, aioelect
async def main():
    async with aioelect.leadership(sys.argv[1], "/x"):
        print("leading", flush=True); await asyncio.sleep(60)
asyncio.run(main())
"""

T = 4.0
"""The session timeout: the script asks for 10 s, and a server with a tickTime of 0.2 s grants no more."""


@pytest.fixture(scope="module")
def server() -> Iterator[ZooKeeperServer]:
    with ZooKeeperServer(tick_time=T / 20) as server:
        yield server


class Copy:
    """One running copy of the script, with a network connection of its own."""

    def __init__(self, process: Process, proxy: FaultProxy) -> None:
        self.process = process
        self.proxy = proxy
        self.leading = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())
        self.errors = ""

    @classmethod
    async def start(cls, script: Path, proxy: FaultProxy) -> Copy:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            proxy.hosts,
            stdout=PIPE,
            stderr=PIPE,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        return cls(process, proxy)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        async for line in self.process.stdout:
            assert line == b"leading\n"
            self.leading.set()
        self.errors = (await self.process.stderr.read()).decode()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def end(self) -> int:
        """Waits for its end by itself."""
        code = await asyncio.wait_for(self.process.wait(), 30)
        await self._reading
        return code

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
        await self.process.wait()
        await self._reading


async def interrupted(leader: Copy, successor: Copy) -> None:
    leader.signal(signal.SIGINT)
    began = time.monotonic()
    await successor.leading.wait()
    assert time.monotonic() - began < 2  # it left its znode at once, not with its session
    assert await leader.end() != 0
    assert "KeyboardInterrupt" in leader.errors


async def killed(leader: Copy, successor: Copy) -> None:
    leader.signal(signal.SIGKILL)
    await asyncio.wait_for(successor.leading.wait(), T + 2)


async def frozen(leader: Copy, successor: Copy) -> None:
    leader.signal(signal.SIGSTOP)
    await asyncio.wait_for(successor.leading.wait(), T + 2)
    leader.signal(signal.SIGCONT)
    assert await leader.end() == 1
    assert "aioelect.errors.LeadershipLost: leadership of" in leader.errors


async def session_lost(leader: Copy, successor: Copy) -> None:
    leader.proxy.blackhole()
    await asyncio.wait_for(successor.leading.wait(), T + 2)
    assert await leader.end() == 1
    assert "could not confirm it before its deadline" in leader.errors


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fate", [interrupted, killed, frozen, session_lost])
async def test_second_copy_takes_over_when_the_first_is(
    fate: Callable[[Copy, Copy], Awaitable[None]], server: ZooKeeperServer, path: str, tmp_path: Path
) -> None:
    script = tmp_path / "five_lines.py"
    script.write_text(SCRIPT.replace("/x", path))
    async with FaultProxy(server.hosts) as one, FaultProxy(server.hosts) as two:
        first = await Copy.start(script, one)
        await asyncio.wait_for(first.leading.wait(), 20)
        second = await Copy.start(script, two)
        try:
            while not any(request.opcode == 4 for request in two.requests):
                await asyncio.sleep(0.01)  # until it watches its predecessor
            await fate(first, second)
        finally:
            await first.stop()
            await second.stop()
