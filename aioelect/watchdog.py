"""The watchdog: a thread and a timer that go on where an event loop does not.

An event loop can't keep a deadline by itself. Its timers count CLOCK_MONOTONIC, which stands still while the machine is
suspended, and a body that blocks the loop stops them all. So a thread sleeps on CLOCK_BOOTTIME. ``drain`` seconds before the
deadline of a *ward* it wakes the ward's loop, and it says so when the ward is still guarded at its deadline, which nobody can
see from inside a blocked loop.

There is one such thread in a process, a daemon, for all wards. To guard one takes microseconds and wakes no thread, for that
lies between the end of a leader and the first line of its successor's body.

A process may close all of its descriptors, as daemons do, and the timer's with them. The thread that waits for it sleeps on until
that would have gone off, or for ever; another one takes its place, with a timer of its own, as soon as anybody notices.

The thread needs the GIL: while an extension keeps that, the watchdog stands still as well, and reports when it is let go.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import heapq
import itertools
import logging
import math
import os
import select
import struct
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias

__all__ = [
    "POLL",
    "UNWATCHED",
    "WATCHDOG",
    "Act",
    "Alarm",
    "Guard",
    "Guardian",
    "NoWatchdog",
    "PollingAlarm",
    "TimerAlarm",
    "Vigil",
    "Ward",
    "Watchdog",
    "boottime",
    "format_stack",
    "make_alarm",
]

log = logging.getLogger("aioelect.watchdog")

POLL = 0.02
"""Seconds between two looks at the clock, where the kernel has no timer that counts the time of a suspension."""

_Clock: TypeAlias = Callable[[], float]
_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


boottime: _Clock = partial(time.clock_gettime, _CLOCK)
"""Seconds on CLOCK_BOOTTIME, which goes on while the machine is suspended, or CLOCK_MONOTONIC where there is none."""


class Ward(Protocol):
    """What is guarded until its deadline, which may move. The watchdog holds no lock while it calls these methods."""

    @property
    def drain(self) -> float:
        """Seconds that it takes to unwind."""

    def remaining(self) -> float:
        """Seconds until the deadline, 0 when it is past; fit for any thread, and counted on the watchdog's clock."""

    def wake(self) -> None:
        """Pokes the event loop: called in the watchdog's thread ``drain`` seconds before the deadline, and again when that has
        moved. Raises ``RuntimeError`` when the loop is closed, which ends the guard."""

    def overrun(self) -> None:
        """Called in the watchdog's thread, once: it was still guarded at the deadline. Nobody else is looked at meanwhile."""


class Guard(Protocol):
    """One ward being guarded. All is fit for any thread."""

    is_over: bool
    """Whether it was released, or the ward was overrun."""

    def release(self) -> None:
        """Ends it, and forgets the ward; idempotent. A call to the ward that has begun may still be going on."""

    def expire(self, deadline: float) -> None:
        """Nothing remains, and the ward knows, whatever it says: it is overrun ``drain`` seconds from now, or at its last
        ``deadline`` on the watchdog's clock where that comes first. Only the first time counts."""


class Guardian(Protocol):
    """What guards: the watchdog, or nothing on virtual time."""

    def start(self) -> None:
        """Makes ready what :meth:`guard` would otherwise wait for; idempotent."""

    def guard(self, ward: Ward, due: float, *, knows: bool = False) -> Guard:
        """Guards ``ward`` until its guard is released, or it is overrun. ``due`` is when, on the watchdog's clock, it has no more
        than its ``drain`` left, as things stand; perhaps in the past. ``knows``: it is ending, and need not be woken for that."""


# The rule


class Act(enum.Enum):
    """What to do for a ward that was looked at."""

    NOTHING = "nothing"
    WAKE = "wake"
    OVERRUN = "overrun"


class Vigil:
    """When to look at one ward next (``due``), and what to do then. PURE: time is an argument, all of it in seconds."""

    __slots__ = ("_expired", "_woken", "due")

    def __init__(self, due: float, knows: bool = False) -> None:
        self.due = due
        self._woken = knows
        self._expired = False

    def expire(self, now: float, drain: float, deadline: float) -> None:
        """Nothing is left from ``now`` on, but ``drain`` seconds to unwind, and no more than there was anyway.

        Where the last ``deadline`` is past, after a standstill, that is what the wake gave it, if there has been one.
        """
        if self._expired:
            return
        self._expired = True
        bound = now + drain
        if deadline > now:
            bound = min(bound, deadline)
        elif self._woken:
            bound = min(bound, self.due)
        self.due = bound

    def look(self, now: float, left: float, drain: float) -> Act:
        """The ward, looked at ``now``, had ``left`` seconds."""
        if self._expired:
            return Act.OVERRUN if now >= self.due else Act.NOTHING
        if left > drain:  # the deadline has moved on
            self._woken = False
            self.due = now + left - drain
            return Act.NOTHING
        if not self._woken:
            self._woken = True
            self.due = now + drain  # also where less is left: after a standstill it has had no chance before
            return Act.WAKE
        if left > 0:
            self.due = now + left
            return Act.NOTHING
        return Act.OVERRUN


# Alarms


class Alarm(Protocol):
    """Wakes one thread at a time that other threads may change. It may break, for good."""

    def set(self, at: float) -> None:
        """Goes off at that time, in seconds, and no other: at once when it is past, never when it is infinite.

        Raises ``OSError`` when it is broken.
        """

    def wait(self) -> None:
        """Returns when it has gone off, at once until it is set again; when it is broken, at once or never."""

    def close(self) -> None:
        """Nobody waits any more."""


class TimerAlarm:
    """A timer of the Linux kernel (timerfd): to set it is one system call, and wakes nobody. It breaks when somebody closes it.

    It is never read. A thread that waits while the process is stopped (SIGSTOP) goes on with whatever file has that number by
    then, and would take from that what others wait for: the user's, or the timer that has taken this one's place.

    Raises ``OSError`` or ``AttributeError`` where there is none.
    """

    def __init__(self) -> None:
        create, self._settime = _timer_calls()
        self._timer = _lift(create())
        self._poll = select.poll()
        self._poll.register(self._timer, select.POLLIN)

    def set(self, at: float) -> None:
        self._settime(self._timer, 0 if at == math.inf else int(max(at, 0.0) * 1e9) + 1)  # 0 disarms it

    def wait(self) -> None:
        self._poll.poll()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._timer)


_HIGH = 60
"""Lower descriptors are given away first. The kernel has a table of 64 at the beginning, which may take milliseconds to grow."""


def _lift(descriptor: int) -> int:
    """The same one with a number that hardly any other file is given once this one was closed by somebody else."""
    with contextlib.suppress(OSError):  # the process may have fewer
        lifted = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH)
        os.close(descriptor)
        return lifted
    return descriptor


def _timer_calls() -> tuple[Callable[[], int], Callable[[int, int], None]]:
    """``create()``, which gives a file descriptor, and ``settime(timer, nanoseconds)``."""
    if sys.version_info >= (3, 13):

        def create() -> int:
            return os.timerfd_create(_CLOCK, flags=os.TFD_CLOEXEC)

        def settime(timer: int, at: int) -> None:
            os.timerfd_settime_ns(timer, flags=os.TFD_TIMER_ABSTIME, initial=at)

    else:
        import ctypes  # costs milliseconds, and later versions don't need it

        libc = ctypes.PyDLL(None, use_errno=True)  # keeps the GIL: to get it back may take 5 ms
        timerfd_create, timerfd_settime = libc.timerfd_create, libc.timerfd_settime
        pack = struct.Struct("@4l").pack
        absolute = 1

        def fail() -> OSError:
            return OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

        def create() -> int:
            timer: int = timerfd_create(_CLOCK, os.O_CLOEXEC)
            if timer < 0:
                raise fail()
            return timer

        def settime(timer: int, at: int) -> None:
            if timerfd_settime(timer, absolute, pack(0, 0, at // 1_000_000_000, at % 1_000_000_000), None) < 0:
                raise fail()

    return create, settime


class PollingAlarm:
    """Looks at the clock again and again while it is set, where the kernel has no timer for that clock."""

    def __init__(self, clock: _Clock = boottime) -> None:
        self._clock = clock
        self._at = math.inf
        self._news = threading.Event()

    def set(self, at: float) -> None:
        sleeps = self._at == math.inf
        self._at = at
        if sleeps:
            self._news.set()

    def wait(self) -> None:
        while (left := self._at - self._clock()) > 0:
            self._news.wait(None if left == math.inf else min(left, POLL))
            self._news.clear()

    def close(self) -> None:
        pass


def make_alarm(clock: _Clock) -> Alarm:
    """The best there is for ``clock``."""
    if clock is boottime and hasattr(time, "CLOCK_BOOTTIME"):
        with contextlib.suppress(OSError, AttributeError, ImportError):  # another system, or one that forbids it
            return TimerAlarm()
    return PollingAlarm(clock)


# The thread


class Watchdog:
    """Guards wards in a thread of its own, which starts with the first of them. In a forked child it guards nobody at first.

    ``clock`` is what the wards count on, and ``alarm`` what wakes the thread by it. The process needs but one: ``WATCHDOG``.
    """

    def __init__(self, clock: _Clock = boottime, alarm: Callable[[_Clock], Alarm] = make_alarm) -> None:
        self._clock = clock
        self._make_alarm = alarm
        self._lock = threading.Lock()
        self._patrol: _Patrol | None = None
        _watchdogs.add(self)

    def start(self) -> None:
        """Starts the thread, unless it runs."""
        self._on_duty()

    def guard(self, ward: Ward, due: float, *, knows: bool = False) -> Guard:
        return (self._patrol or self._on_duty()).guard(ward, due, knows)

    def close(self) -> None:
        """Ends the thread and all guards; the next guard starts another."""
        with self._lock:
            patrol, self._patrol = self._patrol, None
        if patrol is not None:
            patrol.end()

    def _on_duty(self) -> _Patrol:
        patrol = self._patrol
        if patrol is None:
            with self._lock:
                patrol = self._patrol
                if patrol is None:
                    patrol = self._patrol = _Patrol(self._clock, self._make_alarm)
        return patrol

    def _forget_parent(self) -> None:
        """In a forked child: the thread stayed behind, and whoever held a lock as well."""
        self._lock = threading.Lock()
        patrol, self._patrol = self._patrol, None
        if patrol is not None:
            patrol.abandon()


_watchdogs: weakref.WeakSet[Watchdog] = weakref.WeakSet()


def _after_fork() -> None:
    for watchdog in _watchdogs:
        watchdog._forget_parent()


os.register_at_fork(after_in_child=_after_fork)


class _Patrol:
    """The thread of one process, and whom it guards.

    Whoever is due first stands first in a heap. A guard that is released, or expires, leaves an entry behind, which goes when its
    turn comes; to look at somebody too early does no harm.
    """

    def __init__(self, clock: _Clock, alarm: Callable[[_Clock], Alarm]) -> None:
        self._clock = clock
        self._make_alarm = alarm
        self._over = False
        self._lock = threading.Lock()
        self._heap: list[tuple[float, int, _Guard]] = []
        self._numbers = itertools.count()
        self._begin()

    def _begin(self) -> None:
        """Another thread is on duty from now on, with an alarm of its own."""
        self._alarm = alarm = self._make_alarm(self._clock)
        self._thread = threading.Thread(target=self._run, args=(alarm,), name="aioelect watchdog", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            alarm.close()
            raise

    def guard(self, ward: Ward, due: float, knows: bool) -> Guard:
        guard = _Guard(self, ward, Vigil(due, knows))
        with self._lock:
            self._schedule(guard)
        return guard

    def expire(self, guard: _Guard, drain: float, deadline: float) -> None:
        with self._lock:
            guard.vigil.expire(self._clock(), drain, deadline)
            self._schedule(guard)

    def end(self) -> None:
        with self._lock:
            self._over = True
            self._set_alarm(0.0)
        self._thread.join()
        self._alarm.close()

    def abandon(self) -> None:
        self._over = True
        self._lock = threading.Lock()
        self._heap = []
        self._alarm.close()

    def _schedule(self, guard: _Guard) -> None:
        if not self._over:
            entry = (guard.vigil.due, next(self._numbers), guard)
            heapq.heappush(self._heap, entry)
            if self._heap[0] is entry:
                self._set_alarm(entry[0])

    def _set_alarm(self, at: float) -> None:
        try:
            self._alarm.set(at)
        except OSError:  # the thread that waits for it may never return
            self._begin()
            self._alarm.set(at)

    def _run(self, alarm: Alarm) -> None:
        while self._alarm is alarm and not self._over:
            alarm.wait()
            while (guard := self._next(alarm)) is not None:
                self._attend(guard)

    def _next(self, alarm: Alarm) -> _Guard | None:
        """Somebody who is due, or was released; sets the alarm when there is nobody. None for a thread that was replaced."""
        with self._lock:
            if self._over or self._alarm is not alarm:
                return None
            now = self._clock()
            if self._heap and (self._heap[0][0] <= now or self._heap[0][2].ward is None):
                return heapq.heappop(self._heap)[2]
            self._set_alarm(self._heap[0][0] if self._heap else math.inf)
            return None

    def _attend(self, guard: _Guard) -> None:
        ward = guard.ward
        if ward is None:
            return
        try:
            now = self._clock()
            left, drain = ward.remaining(), ward.drain
            with self._lock:
                if guard.ward is None:
                    return
                act = guard.vigil.look(now, left, drain)
                if act is Act.OVERRUN:
                    guard.release()
                else:
                    self._schedule(guard)
            if act is Act.WAKE:
                self._wake(guard, ward)
            elif act is Act.OVERRUN:
                ward.overrun()
        except BaseException:  # this thread serves others, too
            log.exception("error in %r", ward)

    def _wake(self, guard: _Guard, ward: Ward) -> None:
        try:
            ward.wake()
        except RuntimeError:  # its loop is closed
            guard.release()


class _Guard:
    __slots__ = ("_patrol", "is_over", "vigil", "ward")

    def __init__(self, patrol: _Patrol, ward: Ward, vigil: Vigil) -> None:
        self._patrol = patrol
        self.ward: Ward | None = ward
        self.vigil = vigil
        self.is_over = False

    def release(self) -> None:
        self.ward = None
        self.is_over = True

    def expire(self, deadline: float) -> None:
        ward = self.ward
        if ward is not None:
            self._patrol.expire(self, ward.drain, deadline)


class NoWatchdog:
    """Guards nobody, and is each of its guards: for virtual time, which stands still while the watchdog's goes on."""

    is_over = False

    def start(self) -> None:
        pass

    def guard(self, ward: Ward, due: float, *, knows: bool = False) -> Guard:
        return self

    def release(self) -> None:
        pass

    def expire(self, deadline: float) -> None:
        pass


WATCHDOG = Watchdog()
"""The one of this process."""

UNWATCHED = NoWatchdog()
"""In its place where time is virtual."""


def format_stack(thread_id: int) -> str:
    """What that thread is doing now, newest call last, as ``traceback`` prints it; empty when it has ended."""
    frames = sys._current_frames()
    return "".join(traceback.format_stack(frames[thread_id])) if thread_id in frames else ""
