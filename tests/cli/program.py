"""Runs the ``aioelect`` command as a process, marked so that whatever it leaves behind can be found."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.processes import MARK, marked


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    status: int
    out: str
    err: str


class Program:
    """One run of ``aioelect``; its temporary files go to ``temporary``."""

    def __init__(self, temporary: Path) -> None:
        self.temporary = temporary
        self._mark = secrets.token_hex(8)

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            MARK: self._mark,
            "TMPDIR": str(self.temporary),
            "PYTHONWARNINGS": "error",
            "COLUMNS": "100",
        }

    async def start(self, *arguments: str, after: str = "") -> Process:
        """``after``: Python code that changes something first."""
        code = f"{after}\nfrom aioelect.cli import main\nmain()"
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, *arguments), stdout=PIPE, stderr=PIPE, env=self.environment
        )

    async def run(self, *arguments: str, after: str = "") -> Outcome:
        return await self.end(await self.start(*arguments, after=after))

    async def end(self, process: Process) -> Outcome:
        """Waits until it ends by itself."""
        try:
            out, err = await asyncio.wait_for(process.communicate(), 50)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Outcome(process.returncode, out.decode(), err.decode())

    def processes(self) -> list[str]:
        """The command lines of all processes that this run has started, itself included."""
        return list(marked(self._mark).values())
