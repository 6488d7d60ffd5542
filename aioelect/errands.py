"""The tasks in which one candidate asks the server something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from aioelect.errors import SessionExpired

__all__ = ["Errands"]

P = ParamSpec("P")


class Errands:
    """Runs them until it is stopped. An answer that nobody can go on with goes to ``failed``."""

    __slots__ = ("_failed", "_tasks")

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(
        self, work: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Task[None]:
        """Runs ``work(*args)`` in a task of its own. That a session has expired is no failure: its observers are told."""

        async def guarded() -> None:
            try:
                await work(*args, **kwargs)
            except SessionExpired:
                pass
            except Exception as e:
                self._failed(e)

        task = asyncio.ensure_future(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Cancels what runs, and waits until it has ended."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
