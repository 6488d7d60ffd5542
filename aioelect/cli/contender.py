"""One contender of the demo, as a process of its own: ``python -m aioelect.cli.contender``.

It obeys lines on stdin and leaves at their end, so that it never outlives the demo. What happens to it goes to stdout, a JSON
object a line: aioelect's own events, ``Leads`` and ``Stops`` as the first and the last step of a term,
and ``Failed`` with the error that ended it all.
"""

from __future__ import annotations

import argparse
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
from aioelect.testing.recorder import LeadershipRecorder

__all__ = ["RESIGN"]

RESIGN = b"resign\n"
"""The command to step down and queue again."""

FAREWELL = 5
"""Seconds that leaving may take, before the kernel ends the process."""


def _tell(name: str, **facts: object) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more: stdin says so too
        os.write(1, json.dumps({"event": name, **facts}).encode() + b"\n")


def _tell_event(event: Event) -> None:
    _tell(type(event).__name__, **dataclasses.asdict(event))


class _Contender:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._recorder = LeadershipRecorder(arguments.recorder)
        self._leader: aioelect.Leader | None = None

    async def run(self) -> None:
        contending = asyncio.ensure_future(self._contend())
        obeying = asyncio.ensure_future(self._obey(contending))
        try:
            await contending
        except asyncio.CancelledError:
            await obeying
        finally:
            obeying.cancel()

    async def _contend(self) -> None:
        arguments = self._arguments
        async with aioelect.connect(
            arguments.hosts, session_timeout=arguments.session_timeout, timeout=30, on_event=_tell_event
        ) as client:
            while True:  # a campaign ends when its leader has resigned
                await aioelect.campaign(
                    client, arguments.election, self._lead, identity=arguments.identity, on_event=_tell_event
                )

    async def _lead(self, leader: aioelect.Leader) -> None:
        try:
            async with self._recorder.leading(leader, every=0.005):
                _tell("Leads", at=time.monotonic(), token=leader.token)
                self._leader = leader
                await asyncio.Event().wait()
        finally:
            _tell("Stops", at=time.monotonic(), token=leader.token)

    async def _obey(self, contending: asyncio.Future[None]) -> None:
        commands = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(commands), sys.stdin.buffer
        )
        async for command in commands:
            if command == RESIGN and self._leader is not None:
                self._leader.resign()
        signal.alarm(FAREWELL)
        contending.cancel()


def _main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", required=True)
    parser.add_argument("--election", required=True)
    parser.add_argument("--identity", required=True)
    parser.add_argument("--session-timeout", type=float, required=True)
    parser.add_argument("--recorder", type=Path, required=True)
    try:
        asyncio.run(_Contender(parser.parse_args()).run())
    except Exception as e:
        _tell("Failed", at=time.monotonic(), error=f"{type(e).__name__}: {e}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
