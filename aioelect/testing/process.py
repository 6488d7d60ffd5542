"""A contender in a process of its own, as the one sees it who has started it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from typing import Any

from aioelect.testing.contender import FAREWELL, JOIN, RESIGN, Part

__all__ = ["ContenderProcess"]

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from aioelect.testing.contender import main
sys.exit(main())
"""
"""As ``multiprocessing`` has it: with the module search path of this process, so that both run the same code."""


class ContenderProcess:
    """Runs ``aioelect.testing.contender``, which says what words mean; ``hear`` gets each event that it tells of.

    The last one is ``Ended``, with the exit ``status``.
    """

    def __init__(self, process: Process, hear: Callable[[dict[str, Any]], object]) -> None:
        self.pid = process.pid
        self._process = process
        self._hear = hear
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, part: Part, hear: Callable[[dict[str, Any]], object]) -> ContenderProcess:
        """Starts it; it connects at once, and contends when it is told to."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", _PROGRAM, json.dumps(sys.path)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            start_new_session=True,  # Ctrl-C is for the one that has started it, which lets it leave in good order
        )
        contender = cls(process, hear)
        contender._say(part.encode())
        return contender

    def join(self) -> None:
        """Tells it to contend, for one term."""
        self._say(JOIN)

    def resign(self) -> None:
        """Tells it to end its term."""
        self._say(RESIGN)

    async def leave(self) -> None:
        """Lets it leave, and kills it when that takes too long."""
        assert self._process.stdin is not None  # noqa: S101  # asked for above
        self._process.stdin.close()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL + 1):
                    await self._process.wait()
        finally:
            await self.kill()

    async def kill(self) -> float:
        """Kills it with SIGKILL, and waits for its end; gives the time just before (``time.monotonic``)."""
        at = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reading
        return at

    def _say(self, line: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101  # asked for above
        self._process.stdin.write(line)

    async def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  # asked for above
        async for line in self._process.stdout:
            self._hear(json.loads(line))
        self._hear({"event": "Ended", "at": time.monotonic(), "status": await self._process.wait()})
