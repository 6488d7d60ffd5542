"""The asyncio players' side of things: each turn is a task, told to leave by an event."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable

from benchmarks.peers.player import Commands, tell

__all__ = ["play"]


async def play(turn: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Runs ``turn(leave)`` for each ``join``, and sets ``leave`` when it is time; returns at the end of stdin."""
    loop, commands = asyncio.get_running_loop(), Commands()
    over = asyncio.Event()
    leave = asyncio.Event()
    task: asyncio.Task[None] | None = None

    async def guarded(leave: asyncio.Event) -> None:
        try:
            await turn(leave)
        except Exception as e:
            tell("failed", f"{type(e).__name__}: {e}".replace("\n", " "))
            print(repr(e), file=sys.stderr)

    def obey() -> None:
        nonlocal leave, task
        words = commands.read()
        if words is None:
            loop.remove_reader(0)
            over.set()
        for word in words or ():
            if word == "join":
                leave = asyncio.Event()
                task = asyncio.ensure_future(guarded(leave))
            else:
                leave.set()

    tell("ready")
    loop.add_reader(0, obey)
    await over.wait()
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
