"""Running a coroutine until it ends or a signal asks to leave; clean-up runs in both cases."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["Signalled", "run"]

T = TypeVar("T")


class Signalled(Exception):
    """A signal asked to leave, and everything was cleaned up. ``status`` is what a shell expects as exit status."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.name = signal.Signals(number).name
        self.status = 128 + number


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` that takes SIGINT, SIGTERM and SIGHUP for one cancellation of ``main``, and further ones for nothing.

    Raises ``Signalled`` when ``main`` has ended because of it. Clean-up in ``main`` must be bounded.
    """
    return asyncio.run(_run(main))


async def _run(main: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    task = loop.create_task(main)
    received: list[int] = []

    def leave(number: int) -> None:
        if not received:
            received.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays in force
            loop.add_signal_handler(number, leave, number)
    try:
        return await task
    except asyncio.CancelledError:
        if received:
            raise Signalled(received[0]) from None
        raise
