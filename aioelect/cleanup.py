"""Clean-up that can neither be cancelled half-way nor hang."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any

import anyio

__all__ = ["BOUND", "finish", "linger"]

BOUND = 1.0
"""Seconds that clean-up is waited for; what is not done by then goes on by itself."""


async def finish(work: Coroutine[Any, Any, object] | asyncio.Future[Any], bound: float | None = BOUND) -> bool:
    """Runs ``work`` to its end, whatever cancellation comes, and waits for it for ``bound`` seconds at the most.

    ``bound`` None is for work that has bounds of its own. Returns whether it ended in time; otherwise it is cancelled. A
    cancellation that came meanwhile is raised afterwards, so that it is not lost. Errors of ``work`` are raised.
    """
    task = asyncio.ensure_future(work)
    interrupted: asyncio.CancelledError | None = None
    loop = asyncio.get_running_loop()
    deadline = math.inf if bound is None else loop.time() + bound
    with anyio.CancelScope(shield=True):
        while not task.done() and (left := deadline - loop.time()) > 0:
            try:
                await asyncio.wait([task], timeout=None if bound is None else left)
            except asyncio.CancelledError as e:
                interrupted = e
        if not task.done():
            task.cancel()
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError as e:
                    interrupted = e
    if interrupted is not None:
        if not task.cancelled():
            task.exception()
        raise interrupted
    if task.cancelled():
        return False
    task.result()
    return True


async def linger(work: asyncio.Future[Any], until: float) -> None:
    """Waits until ``work`` is done, or the loop's clock shows ``until``: in few instructions, and without cancelling it."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def end(_: object) -> None:
        if not over.done():
            over.set_result(None)

    timer = loop.call_at(until, end, None)
    work.add_done_callback(end)
    try:
        await over
    finally:
        timer.cancel()
        work.remove_done_callback(end)
