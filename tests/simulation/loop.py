"""Virtual time: one clock, and any number of processes, each with an event loop of its own.

A process can be frozen while time, the network and the other processes go on: between two turns of its loop
(``Kernel.freeze``), and in the middle of a callback (``Kernel.block``), as by a stop signal, a garbage collection or a blocking
call.

Nothing depends on real time, on addresses of objects or on the hash seed: tasks and futures, which asyncio keeps in sets, hash
by the order in which they were made.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Kernel", "Livelock", "ProcessLoop", "Timer"]

MAX_TURNS = 20_000
"""Turns of loops at one instant after which somebody is spinning."""


TURN = 1e-6
"""Seconds that one turn takes."""


class Livelock(Exception):
    """A process goes on for ever without waiting for anything."""


class Timer:
    """A call to come."""

    __slots__ = ("_args", "_callback", "_order", "when")

    def __init__(self, when: float, order: int, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.when = when
        self._order = order
        self._callback: Callable[..., object] | None = callback
        self._args = args

    def __lt__(self, other: Timer) -> bool:
        return (self.when, self._order) < (other.when, other._order)

    def cancel(self) -> None:
        self._callback = None

    def fire(self) -> None:
        if self._callback is not None:
            self._callback(*self._args)


class Kernel:
    """Runs whatever is next; ``now`` is in seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.processes: list[ProcessLoop] = []
        self._timers: list[Timer] = []
        self._order = itertools.count()
        self._turns = 0

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> Timer:
        timer = Timer(max(when, self.now), next(self._order), callback, args)
        heapq.heappush(self._timers, timer)
        return timer

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Timer:
        return self.call_at(self.now + delay, callback, *args)

    def run(self, until: float) -> None:
        """Runs everything that happens up to that time. Raises ``Livelock``."""
        while True:
            if (process := self._runnable()) is not None:
                self._turns += 1
                if self._turns > MAX_TURNS:
                    raise Livelock(f"process {process.name} spins at {self.now:.6f}")
                process.turn()
                self.now += TURN
                continue
            if self._timers and self._timers[0].when <= self.now:
                heapq.heappop(self._timers).fire()
                continue
            when = self._next()
            if when > until:
                self.now = max(self.now, until)
                return
            self.now = when
            self._turns = 0

    def _next(self) -> float:
        """When something happens next."""
        wakes = [process.wakes_at() for process in self.processes if not process.frozen]
        return min([*wakes, *(timer.when for timer in self._timers[:1])], default=float("inf"))

    def _runnable(self) -> ProcessLoop | None:
        for process in self.processes:
            if not process.frozen and process.wakes_at() <= self.now:
                return process
        return None

    def freeze(self, process: ProcessLoop, seconds: float) -> None:
        """Stops a process between two turns of its loop; it goes on after that time."""
        self._stop(process)
        self.call_later(seconds, self._thaw, process)

    def block(self, process: ProcessLoop, seconds: float) -> None:
        """To be called by code of the process: does not return for that long. Everybody else goes on."""
        self._stop(process)
        with process.set_aside():
            self.run(self.now + seconds)
            while process.frozen > 1:
                self.run(self._next())
        self._thaw(process)

    def _stop(self, process: ProcessLoop) -> None:
        process.frozen += 1
        if process.frozen == 1:
            process.on_freeze()

    def _thaw(self, process: ProcessLoop) -> None:
        process.frozen -= 1
        if process.frozen == 0:
            process.on_thaw()


class ProcessLoop(asyncio.BaseEventLoop):
    """The event loop of one simulated process."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.kernel = kernel
        self.name = name
        self.frozen = 0
        self.on_freeze: Callable[[], object] = lambda: None
        self.on_thaw: Callable[[], object] = lambda: None
        self.errors: list[dict[str, Any]] = []
        """What reached the exception handler."""
        self._numbers = itertools.count(1)
        self._arrived: list[asyncio.Handle] = []
        super().__init__()
        self._selector = self
        self._clock_resolution = 1e-9
        self.set_debug(False)
        self.set_task_factory(_make_task)
        self.set_exception_handler(lambda _, context: self.errors.append(context))
        kernel.processes.append(self)

    def post(self, callback: Callable[..., object], *args: Any) -> None:
        """From outside: what the process finds when it next looks at its sockets."""
        self._arrived.append(asyncio.Handle(callback, args, self))

    def wakes_at(self) -> float:
        """When there is something to do for this loop, unless something arrives before."""
        inner: Any = self
        if inner._ready or self._arrived:
            return self.kernel.now
        while inner._scheduled and inner._scheduled[0]._cancelled:
            inner._timer_cancelled_count -= 1
            heapq.heappop(inner._scheduled)._scheduled = False
        return inner._scheduled[0]._when if inner._scheduled else float("inf")

    def turn(self) -> None:
        """One turn of the loop."""
        inner: Any = self
        asyncio._set_running_loop(self)
        inner._thread_id = threading.get_ident()
        try:
            inner._run_once()
        finally:
            inner._thread_id = None
            asyncio._set_running_loop(None)

    def tasks(self) -> list[str]:
        """The names of the tasks that have not ended."""
        return sorted(str(task.get_coro()) for task in asyncio.all_tasks(self))

    def cancel_all(self) -> bool:
        """Cancels what runs here; whether there was anything."""
        tasks = sorted(asyncio.all_tasks(self), key=hash)
        for task in tasks:
            task.cancel()
        return bool(tasks)

    def set_aside(self) -> _Aside:
        """Makes room for other loops while this one is in the middle of a callback."""
        return _Aside(self)

    def next_number(self) -> int:
        return next(self._numbers)

    # asyncio.BaseEventLoop.

    def time(self) -> float:
        return self.kernel.now

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(self)

    def select(self, timeout: float | None) -> list[asyncio.Handle]:
        arrived, self._arrived = self._arrived, []
        return arrived

    def _process_events(self, handles: list[asyncio.Handle]) -> None:
        inner: Any = self
        inner._ready.extend(handles)

    def _write_to_self(self) -> None:
        pass


class _Aside:
    def __init__(self, loop: ProcessLoop) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        asyncio._set_running_loop(None)
        if sys.version_info >= (3, 12):
            self._task = asyncio.tasks._swap_current_task(self._loop, None)

    def __exit__(self, *_: object) -> None:
        if sys.version_info >= (3, 12):
            asyncio.tasks._swap_current_task(self._loop, self._task)
        asyncio._set_running_loop(self._loop)


class _Future(asyncio.Future[Any]):
    def __init__(self, loop: ProcessLoop) -> None:
        self._number = loop.next_number()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class _Task(asyncio.Task[Any]):
    def __init__(self, coroutine: Coroutine[Any, Any, Any], loop: ProcessLoop, **options: Any) -> None:
        self._number = loop.next_number()
        super().__init__(coroutine, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> _Task:
    assert isinstance(loop, ProcessLoop)
    return _Task(coroutine, loop, **options)
