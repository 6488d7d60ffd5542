"""One contender, as a process of its own: what runs there. :class:`aioelect.testing.process.ContenderProcess` is the other end.

The first line on stdin says who it is and to what servers it goes (:class:`Part`), so that no password stands in its
arguments or its environment. Then come words, one a line: ``join`` lets it contend for one term, ``resign`` ends that. It leaves
at the end of stdin, so that it never outlives who started it. What happens to it goes to stdout, a JSON object a line:
aioelect's own events, and

- ``Ready``: it is connected;
- ``Joins``: it begins to contend;
- ``Leads`` and ``Stops``: the first and the last step of a term;
- ``Left``: the term has ended, its znode is gone; ``at`` is when its resignation was called for;
- ``Failed``: the error that ended it all.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path

import aioelect
from aioelect.events import Event
from aioelect.testing.cluster import Cluster
from aioelect.testing.recorder import LeadershipRecorder

__all__ = ["FAREWELL", "JOIN", "RESIGN", "Part", "main"]

JOIN, RESIGN = b"join\n", b"resign\n"

FAREWELL = 5
"""Seconds that leaving may take, before the kernel ends the process."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """What a contender is told first.

    ``records`` is the folder of a :class:`LeadershipRecorder`, ``tells`` the names of the events that are worth a line (None: all
    are): each costs some microseconds, and the leader writes while the next one waits.
    """

    cluster: Cluster
    election: str
    identity: str
    session_timeout: float
    guard: bool = False
    records: str | None = None
    tells: tuple[str, ...] | None = None

    def encode(self) -> bytes:
        """A line."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Part:
        """Reads what :meth:`encode` has written."""
        said = json.loads(line)
        return cls(**{**said, "cluster": Cluster(**said["cluster"])})


class _Contender:
    def __init__(self, part: Part) -> None:
        self._part = part
        self._recorder = None if part.records is None else LeadershipRecorder(Path(part.records))
        self._leader: aioelect.Leader | None = None
        self._joins = asyncio.Semaphore(0)
        self._resigned_at = 0.0

    def _tell(self, name: str, at: float, **facts: object) -> None:
        if self._part.tells is None or name in self._part.tells:
            _write(name, at=at, **facts)

    def _tell_event(self, event: Event) -> None:
        self._tell(type(event).__name__, **dataclasses.asdict(event))

    async def run(self, commands: asyncio.StreamReader) -> None:
        contending = asyncio.ensure_future(self._contend())
        obeying = asyncio.ensure_future(self._obey(commands, contending))
        try:
            await contending
        except asyncio.CancelledError:
            await obeying
        finally:
            obeying.cancel()

    async def _contend(self) -> None:
        part = self._part
        async with part.cluster.connect(
            session_timeout=part.session_timeout, guard=part.guard, on_event=self._tell_event
        ) as client:
            self._tell("Ready", time.monotonic())
            while True:
                await self._joins.acquire()
                self._tell("Joins", time.monotonic())
                await aioelect.campaign(
                    client, part.election, self._lead, identity=part.identity, on_event=self._tell_event
                )
                self._tell("Left", self._resigned_at)

    async def _lead(self, leader: aioelect.Leader) -> None:
        at = time.monotonic()
        self._leader = leader
        try:
            async with self._recorder.leading(leader, every=0.005) if self._recorder else contextlib.nullcontext():
                self._tell("Leads", at, token=leader.token)
                await asyncio.Event().wait()
        finally:
            self._leader = None
            self._tell("Stops", time.monotonic(), token=leader.token)

    async def _obey(self, commands: asyncio.StreamReader, contending: asyncio.Future[None]) -> None:
        async for command in commands:
            if command == JOIN:
                self._joins.release()
            elif self._leader is not None:
                self._resigned_at = time.monotonic()
                self._leader.resign()
        signal.alarm(FAREWELL)
        contending.cancel()


def _write(name: str, **facts: object) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more: stdin says so too
        os.write(1, json.dumps({"event": name, **facts}).encode() + b"\n")


async def _run() -> None:
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin.buffer)
    if part := await commands.readline():
        await _Contender(Part.decode(part)).run(commands)


def main() -> int:
    """The exit status: 0, or 1 after ``Failed``."""
    try:
        asyncio.run(_run())
    except Exception as e:
        _write("Failed", at=time.monotonic(), error=f"{type(e).__name__}: {e}")
        return 1
    return 0
