"""The watchdog: its rule, and the thread that follows it past blocked loops, suspended clocks, forks and stops."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import math
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioelect import watchdog as wd
from aioelect.ports import World
from aioelect.watchdog import Act, Guard, Vigil, Watchdog, boottime
from tests.conftest import Logged

PATIENCE = 15.0
"""Seconds after which a condition that did not come true fails a test."""

Alarms = Callable[[Callable[[], float]], wd.Alarm]

NO_TIMER = pytest.mark.skipif(
    not isinstance(wd.make_alarm(boottime), wd.TimerAlarm), reason="the kernel has no timer for CLOCK_BOOTTIME"
)


def timer(_: Callable[[], float]) -> wd.Alarm:
    return wd.TimerAlarm()


@pytest.fixture(params=[pytest.param(timer, marks=NO_TIMER), wd.PollingAlarm], ids=["timer", "polling"])
def dog(request: pytest.FixtureRequest) -> Iterator[Watchdog]:
    """A watchdog of the test's own, with either alarm; its thread has ended afterwards."""
    others = set(threading.enumerate())
    dog = Watchdog(alarm=request.param)
    yield dog
    dog.close()
    assert set(threading.enumerate()) <= others


class Ward:
    """Notes when it was called; ``deadline`` may be moved."""

    def __init__(self, deadline: float, drain: float = 0.02, clock: Callable[[], float] = boottime) -> None:
        self.deadline = deadline
        self.drain = drain
        self.wakes: list[float] = []
        self.overruns: list[float] = []
        self.looks = 0
        self.woken = threading.Event()
        self.overran = threading.Event()
        self._clock = clock

    def remaining(self) -> float:
        self.looks += 1
        return max(0.0, self.deadline - self._clock())

    def wake(self) -> None:
        self.wakes.append(self._clock())
        self.woken.set()

    def overrun(self) -> None:
        self.overruns.append(self._clock())
        self.overran.set()


def protect(dog: Watchdog, ward: Ward) -> Guard:
    return dog.guard(ward, ward.deadline - ward.drain)


def eventually(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.002)


# The rule

DRAIN = 2.0


def vigil(deadline: float = 10.0) -> Vigil:
    return Vigil(deadline - DRAIN)


def test_a_ward_is_woken_when_no_more_than_its_drain_is_left_and_overrun_at_its_deadline() -> None:
    watch = vigil()
    assert watch.due == 8.0
    assert watch.look(8.0, 2.0, DRAIN) is Act.WAKE
    assert watch.due == 10.0
    assert watch.look(10.0, 0.0, DRAIN) is Act.OVERRUN


def test_a_deadline_that_has_moved_on_by_then_is_waited_for() -> None:
    watch = vigil()
    assert watch.look(8.0, 7.0, DRAIN) is Act.NOTHING
    assert watch.due == 13.0
    assert watch.look(13.0, 2.0, DRAIN) is Act.WAKE


def test_a_deadline_that_moves_on_after_the_wake_is_woken_for_again() -> None:
    watch = vigil()
    watch.look(8.0, 2.0, DRAIN)
    assert watch.look(10.0, 5.0, DRAIN) is Act.NOTHING
    assert watch.due == 13.0
    assert watch.look(13.0, 2.0, DRAIN) is Act.WAKE
    assert watch.look(15.0, 0.0, DRAIN) is Act.OVERRUN


def test_a_deadline_that_moves_on_by_less_than_the_drain_is_waited_for_without_another_wake() -> None:
    watch = vigil()
    watch.look(8.0, 2.0, DRAIN)
    assert watch.look(10.0, 0.5, DRAIN) is Act.NOTHING
    assert watch.due == 10.5
    assert watch.look(10.5, 0.0, DRAIN) is Act.OVERRUN


@pytest.mark.parametrize("left", [0.0, 0.5, 1.5])
def test_who_stood_still_past_the_wake_has_the_drain_from_then(left: float) -> None:
    watch = vigil()
    assert watch.look(100.0, left, DRAIN) is Act.WAKE
    assert watch.due == 102.0
    assert watch.look(102.0, 0.0, DRAIN) is Act.OVERRUN


def test_a_ward_without_time_to_unwind_is_woken_at_its_deadline() -> None:
    watch = Vigil(10.0)
    assert watch.due == 10.0
    assert watch.look(10.0, 0.0, 0.0) is Act.WAKE
    assert watch.look(10.0, 0.0, 0.0) is Act.OVERRUN


@pytest.mark.parametrize("left", [0.5 * DRAIN, 0.1])
def test_who_knows_that_it_is_ending_is_not_woken_and_overrun_at_its_deadline(left: float) -> None:
    watch = Vigil(10.0 - DRAIN, knows=True)
    assert watch.look(10.0 - left, left, DRAIN) is Act.NOTHING
    assert watch.due == pytest.approx(10.0)
    assert watch.look(10.0, 0.0, DRAIN) is Act.OVERRUN


def test_an_expired_ward_is_overrun_a_drain_later_without_a_wake() -> None:
    watch = vigil()
    watch.expire(3.0, DRAIN, 10.0)
    assert watch.due == 5.0
    assert watch.look(4.0, 0.0, DRAIN) is Act.NOTHING
    assert watch.due == 5.0
    assert watch.look(5.0, 100.0, DRAIN) is Act.OVERRUN, "whatever it says remains"


@pytest.mark.parametrize("woken", [False, True])
def test_who_expires_before_its_deadline_is_overrun_no_later_than_that(woken: bool) -> None:
    watch = vigil()
    if woken:
        watch.look(8.0, 2.0, DRAIN)
    watch.expire(9.5, DRAIN, 10.0)
    assert watch.due == 10.0
    assert watch.look(10.0, 0.0, DRAIN) is Act.OVERRUN


def test_who_expires_after_its_wake_has_the_drain_from_then_where_its_deadline_has_moved_on() -> None:
    watch = vigil()
    watch.look(8.0, 2.0, DRAIN)
    watch.expire(9.5, DRAIN, 20.0)
    assert watch.due == 11.5


def test_who_expires_when_its_deadline_is_past_has_the_drain_from_then_where_nobody_has_woken_it() -> None:
    watch = vigil()
    watch.expire(100.0, DRAIN, 10.0)
    assert watch.due == 102.0


@pytest.mark.parametrize(("looked", "left", "due"), [(8.0, 2.0, 10.0), (100.0, 0.0, 102.0)])
def test_who_expires_when_its_deadline_is_past_has_what_its_wake_gave_it_and_no_more(
    looked: float, left: float, due: float
) -> None:
    watch = vigil()
    assert watch.look(looked, left, DRAIN) is Act.WAKE
    watch.expire(due - 0.5 if left == 0 else due + 0.5, DRAIN, 10.0)
    assert watch.due == due


def test_only_the_first_expiry_counts() -> None:
    watch = vigil()
    watch.expire(3.0, DRAIN, 10.0)
    watch.expire(4.0, DRAIN, 3.5)
    assert watch.due == 5.0


SIXTEENTHS = st.integers(0, 160).map(lambda n: n / 16)


@given(
    first=SIXTEENTHS,
    drain=SIXTEENTHS,
    changes=st.lists(st.tuples(SIXTEENTHS, SIXTEENTHS), max_size=20),
    lags=st.lists(SIXTEENTHS, max_size=40),
    expires=st.none() | SIXTEENTHS,
)
def test_nobody_is_overrun_early_or_unwoken_and_nobody_is_forgotten(
    first: float, drain: float, changes: list[tuple[float, float]], lags: list[float], expires: float | None
) -> None:
    """Deadlines move at any time, the thread lags behind as much as it likes, and the ward may expire at any time."""

    def deadline(now: float) -> float:
        return first + sum(further for at, further in changes if at <= now)

    watch, now, looks, lag = Vigil(first - drain), 0.0, 0, iter(lags)
    woken_at: float | None = None
    expired_at: float | None = None
    overrun_at = 0.0
    while True:
        looks += 1
        assert looks <= 3 * (len(changes) + 2), "it would look for ever"
        if expires is not None and expired_at is None and expires <= max(now, watch.due):
            now = expired_at = max(now, expires)
            watch.expire(now, drain, deadline(now))
            if deadline(now) > now:
                overrun_at = min(now + drain, deadline(now))
            else:
                overrun_at = now + drain if woken_at is None else max(woken_at + drain, deadline(now))
        late = next(lag, 0.0)
        now = max(now, watch.due) + late
        left = max(0.0, deadline(now) - now)
        act = watch.look(now, left, drain)
        if act is Act.OVERRUN:
            break
        assert watch.due > now or act is Act.WAKE, "it looks again when something may have changed"
        if act is Act.WAKE:
            assert expired_at is None
            assert left <= drain
            woken_at = now
        else:
            assert left > 0 or expired_at is not None
            woken_at = None if left > drain else woken_at
    if expired_at is not None:
        assert now == max(expired_at, overrun_at) + late
    else:
        assert woken_at is not None
        assert now >= woken_at + drain
        assert now >= deadline(now)
        if not late:
            assert now in (woken_at + drain, deadline(now))


# Alarms

ALARMS = pytest.mark.parametrize(
    "make", [pytest.param(timer, marks=NO_TIMER), wd.PollingAlarm], ids=["timer", "polling"]
)


@ALARMS
def test_an_alarm_goes_off_in_time_and_not_before(make: Alarms) -> None:
    alarm = make(boottime)
    at = boottime() + 0.05
    alarm.set(at)
    alarm.wait()
    assert at <= boottime() < at + PATIENCE
    alarm.close()


@ALARMS
@pytest.mark.parametrize("past", [0.0, -1e9, 1e-12, -math.inf])
def test_an_alarm_set_to_the_past_goes_off_at_once(make: Alarms, past: float) -> None:
    alarm = make(boottime)
    alarm.set(past)
    alarm.wait()
    alarm.close()


@ALARMS
@pytest.mark.parametrize("before", [math.inf, 3600.0])
def test_an_alarm_is_set_anew_while_somebody_waits_for_it(make: Alarms, before: float) -> None:
    alarm = make(boottime)
    alarm.set(boottime() + before)
    waiting = threading.Thread(target=alarm.wait)
    waiting.start()
    alarm.set(boottime() + 0.02)
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    alarm.close()


@ALARMS
def test_an_alarm_that_is_put_off_does_not_go_off_at_its_old_time(make: Alarms) -> None:
    alarm = make(boottime)
    alarm.set(0.0)
    at = boottime() + 0.05
    alarm.set(at)
    alarm.wait()
    assert boottime() >= at
    alarm.close()


@NO_TIMER
def test_a_timer_has_a_number_that_is_not_given_again_soon() -> None:
    alarm = wd.TimerAlarm()
    alarm.close()
    with open(os.devnull, "rb") as other:
        assert other.fileno() < alarm._timer


@NO_TIMER
def test_a_process_that_may_have_few_files_has_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wd, "_HIGH", 1 << 30)
    alarm = wd.TimerAlarm()
    alarm.set(0.0)
    alarm.wait()
    alarm.close()


@NO_TIMER
def test_a_system_call_that_fails_says_why() -> None:
    alarm = wd.TimerAlarm()
    alarm.close()
    alarm.close()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        alarm.set(1.0)


@NO_TIMER
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python's own")
def test_a_clock_without_a_timer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wd, "_CLOCK", 77)
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        wd.TimerAlarm()


def test_without_a_timer_the_clock_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(errno.EPERM, "forbidden")

    monkeypatch.setattr(wd, "TimerAlarm", refuse)
    assert isinstance(wd.make_alarm(boottime), wd.PollingAlarm)


def test_no_timer_counts_any_other_clock() -> None:
    assert isinstance(wd.make_alarm(time.monotonic), wd.PollingAlarm)


def test_a_polling_alarm_sleeps_for_ever_until_it_is_set_and_looks_often_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alarm = wd.PollingAlarm(lambda: 100.0)
    sleeps: list[float | None] = []
    settings = iter([200.0, 100.001, 100.0])

    class News(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            sleeps.append(timeout)
            alarm.set(next(settings))
            return self.is_set()

    monkeypatch.setattr(alarm, "_news", News())
    alarm.wait()
    assert sleeps == [None, wd.POLL, pytest.approx(0.001)]


# On a clock that stands still


class StillAlarm:
    """Goes off when a test says so; counts."""

    def __init__(self) -> None:
        self.sets: list[float] = []
        self.waits = 0
        self._bell = threading.Semaphore(0)

    def set(self, at: float) -> None:
        self.sets.append(at)
        if at == 0.0:  # the watchdog is closed
            self.ring()

    def wait(self) -> None:
        self.waits += 1
        self._bell.acquire()

    def ring(self) -> None:
        self._bell.release()

    def close(self) -> None:
        pass


class FragileAlarm(StillAlarm):
    """Breaks when a test says so: whoever waits by then waits on, as at a descriptor that is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.is_broken = self.breaks_when_set = False

    def set(self, at: float) -> None:
        if self.is_broken:
            raise OSError(errno.EBADF, "closed")
        super().set(at)
        self.is_broken = self.breaks_when_set

    def wait(self) -> None:
        if not self.is_broken:
            super().wait()


class Still:
    """A watchdog on a clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.alarms: list[FragileAlarm] = []
        self.dog = Watchdog(lambda: self.now, self._make_alarm)
        self.dog.start()
        eventually(lambda: self.alarm.waits == 1)

    def _make_alarm(self, clock: Callable[[], float]) -> FragileAlarm:
        self.alarms.append(FragileAlarm())
        return self.alarm

    @property
    def alarm(self) -> FragileAlarm:
        """The newest."""
        return self.alarms[-1]

    def ward(self, deadline: float) -> Ward:
        return Ward(deadline, 1.0, lambda: self.now)

    def advance(self, to: float) -> None:
        """Until the thread sleeps again."""
        self.now, waits = to, self.alarm.waits
        self.alarm.ring()
        eventually(lambda: self.alarm.waits > waits)


@pytest.fixture
def still() -> Iterator[Still]:
    still = Still()
    yield still
    still.dog.close()


def test_a_ward_is_woken_and_overrun_exactly_in_time(still: Still) -> None:
    ward = still.ward(2000.0)
    protect(still.dog, ward)
    still.advance(1998.0)
    assert ward.wakes == []
    still.advance(1999.0)
    still.advance(1999.5)
    assert still.alarm.sets[-1] == 2000.0
    still.advance(2000.0)
    still.advance(3000.0)
    assert (ward.wakes, ward.overruns) == ([1999.0], [2000.0])
    assert still.alarm.sets[-1] == math.inf


def test_a_released_ward_is_left_alone(still: Still) -> None:
    released, other = still.ward(2000.0), still.ward(2000.0)
    guard = protect(still.dog, released)
    protect(still.dog, other)
    guard.release()
    guard.release()
    still.advance(1999.0)
    still.advance(2000.0)
    assert released.wakes == released.overruns == []
    assert other.overruns == [2000.0]


def test_a_ward_that_is_released_after_it_was_woken_is_not_overrun(still: Still) -> None:
    ward = still.ward(2000.0)
    guard = protect(still.dog, ward)
    still.advance(1999.0)
    guard.release()
    still.advance(2000.0)
    assert (ward.wakes, ward.overruns) == ([1999.0], [])


def test_a_ward_that_is_released_while_it_is_looked_at_is_left_alone(still: Still) -> None:
    class Leaving(Ward):
        guard: Guard

        def remaining(self) -> float:
            left = super().remaining()
            if left == 0:
                self.guard.release()
            return left

    ward = Leaving(2000.0, 1.0, lambda: still.now)
    ward.guard = protect(still.dog, ward)
    still.advance(2000.0)
    still.advance(2001.0)
    assert ward.wakes == ward.overruns == []


def test_a_deadline_that_moves_on_after_the_wake_wakes_again(still: Still) -> None:
    ward = still.ward(2000.0)
    protect(still.dog, ward)
    still.advance(1999.0)
    ward.deadline = 3000.0
    for now in (2000.0, 2999.0, 3000.0):
        still.advance(now)
    assert (ward.wakes, ward.overruns) == ([1999.0, 2999.0], [3000.0])


@pytest.mark.parametrize("order", [("release", "expire"), ("expire", "release"), ("expire", "expire", "release")])
def test_who_is_released_and_expired_in_any_order_is_left_alone(still: Still, order: tuple[str, ...]) -> None:
    ward = still.ward(2000.0)
    guard = protect(still.dog, ward)
    for step in order:
        guard.expire(ward.deadline) if step == "expire" else guard.release()
    for now in (1001.0, 1999.0, 2000.0):
        still.advance(now)
    assert ward.wakes == ward.overruns == []


def test_who_expires_is_overrun_once_a_drain_after_the_first_time(still: Still) -> None:
    ward = still.ward(2000.0)
    guard = protect(still.dog, ward)
    guard.expire(ward.deadline)
    still.now = 1000.5
    guard.expire(ward.deadline)
    still.advance(1000.9)
    assert ward.overruns == []
    for now in (1001.0, 1001.5, 1999.0, 2000.0):
        still.advance(now)
        guard.expire(ward.deadline)
    assert (ward.wakes, ward.overruns) == ([], [1001.0])


def test_who_expires_after_its_wake_is_overrun_at_its_deadline(still: Still) -> None:
    ward = still.ward(2000.0)
    guard = protect(still.dog, ward)
    still.advance(1999.0)
    still.now = 1999.75
    guard.expire(ward.deadline)
    for now in (2000.0, 2000.75, 2001.0):
        still.advance(now)
    assert (ward.wakes, ward.overruns) == ([1999.0], [2000.0])


def test_who_is_due_first_comes_first(still: Still) -> None:
    order: list[float] = []

    class Numbered(Ward):
        def wake(self) -> None:
            order.append(self.deadline)

    for number in (3, 1, 4, 0, 2):
        protect(still.dog, Numbered(2000.0 + number, 1.0, lambda: still.now))
    still.advance(2000.0)
    assert order == [2000.0, 2001.0], "and nobody else comes yet"
    still.advance(2500.0)
    assert order == [2000.0, 2001.0, 2002.0, 2003.0, 2004.0]


def test_only_who_is_due_before_all_others_sets_the_alarm_and_nobody_wakes_the_thread(still: Still) -> None:
    guards = [protect(still.dog, still.ward(2000.0 + number)) for number in range(10_000)]
    assert still.alarm.sets == [1999.0]
    protect(still.dog, still.ward(1500.0)).release()
    assert still.alarm.sets == [1999.0, 1499.0]
    for guard in guards:
        guard.release()
    assert still.alarm.sets == [1999.0, 1499.0]
    assert still.alarm.waits == 1


def test_ten_thousand_released_wards_cost_one_look_for_all(still: Still) -> None:
    wards = [still.ward(2000.0 + number) for number in range(10_000)]
    for ward in wards:
        protect(still.dog, ward).release()
    still.advance(1999.0)
    assert still.alarm.sets[-1] == math.inf
    assert still.alarm.waits == 2
    assert {ward.looks for ward in wards} == {0}


def test_ten_thousand_wards_that_are_renewed_cost_a_look_each(still: Still) -> None:
    wards = [still.ward(2000.0) for _ in range(10_000)]
    for ward in wards:
        protect(still.dog, ward)
        ward.deadline = 3000.0
    still.advance(1999.0)
    assert {ward.looks for ward in wards} == {1}
    assert still.alarm.waits == 2
    assert still.alarm.sets[-1] == 2999.0
    still.advance(2999.0)
    still.advance(3000.0)
    assert {(len(ward.wakes), len(ward.overruns)) for ward in wards} == {(1, 1)}
    assert still.alarm.waits == 4


# Alarms that break


def sleeping(still: Still) -> bool:
    """Whether a second thread waits for a second alarm, which is set."""
    return len(still.alarms) == 2 and still.alarm.waits == 1 and bool(still.alarm.sets)


def test_who_notices_first_that_the_alarm_is_broken_has_it_replaced(still: Still) -> None:
    wards = [still.ward(2000.0), still.ward(1900.0)]
    protect(still.dog, wards[0])
    still.alarm.is_broken = True
    protect(still.dog, wards[1])
    eventually(lambda: sleeping(still))
    assert still.alarm.sets == [1899.0]
    for now in (1899.0, 1900.0, 1999.0, 2000.0):
        still.advance(now)
    assert [ward.overruns for ward in wards] == [[2000.0], [1900.0]]
    assert len(still.alarms) == 2


def test_who_expires_may_notice_it_too(still: Still) -> None:
    ward = still.ward(2000.0)
    guard = protect(still.dog, ward)
    still.alarm.is_broken = True
    guard.expire(ward.deadline)
    eventually(lambda: sleeping(still))
    still.advance(1001.0)
    assert ward.overruns == [1001.0]


def test_the_thread_that_wakes_up_notices_it_after_its_duty(still: Still) -> None:
    ward = still.ward(2000.0)
    protect(still.dog, ward)
    first = still.alarm
    first.is_broken = True
    still.now = 1999.0
    first.ring()
    eventually(lambda: sleeping(still))
    assert ward.wakes == [1999.0]
    assert still.alarm.sets == [2000.0]
    still.advance(2000.0)
    assert ward.overruns == [2000.0]


def test_an_alarm_that_breaks_before_the_thread_waits_for_it_is_replaced(still: Still) -> None:
    ward = still.ward(2000.0)
    protect(still.dog, ward)
    first = still.alarm
    first.breaks_when_set = True
    still.now = 1999.0
    first.ring()
    eventually(lambda: sleeping(still))
    assert first.sets[-1] == still.alarm.sets[-1] == 2000.0
    still.advance(2000.0)
    assert (ward.wakes, ward.overruns) == ([1999.0], [2000.0])


def test_the_thread_of_a_broken_alarm_that_goes_off_after_all_does_nothing_more(still: Still) -> None:
    first = still.alarm
    first.is_broken = True
    ward = still.ward(2000.0)
    before = set(threading.enumerate())
    protect(still.dog, ward)
    eventually(lambda: sleeping(still))
    still.now = 1999.0
    first.ring()
    eventually(lambda: len(before & set(threading.enumerate())) == len(before) - 1)
    assert ward.wakes == []
    still.alarm.ring()
    eventually(lambda: ward.wakes == [1999.0])


def test_a_watchdog_with_a_broken_alarm_can_be_closed(still: Still) -> None:
    protect(still.dog, still.ward(2000.0))
    first = still.alarm
    first.is_broken = True
    still.dog.close()
    protect(still.dog, ward := still.ward(2000.0))
    first.ring()
    eventually(lambda: still.alarm.waits == 1)
    still.advance(1999.0)
    assert ward.wakes == [1999.0]


# On the real clock


def test_a_ward_is_woken_and_then_overrun(dog: Watchdog) -> None:
    ward = Ward(boottime() + 0.1, drain=0.04)
    protect(dog, ward)
    assert ward.overran.wait(PATIENCE)
    assert len(ward.wakes) == len(ward.overruns) == 1
    assert ward.deadline - ward.drain <= ward.wakes[0] < ward.overruns[0]
    assert ward.deadline <= ward.overruns[0]


def test_who_expires_has_its_drain_and_no_more(dog: Watchdog) -> None:
    ward = Ward(boottime() + 3600, drain=0.05)
    guard = protect(dog, ward)
    expired = boottime()
    guard.expire(ward.deadline)
    ward.deadline = 0.0
    assert ward.overran.wait(PATIENCE)
    assert ward.overruns[0] >= expired + ward.drain
    assert ward.wakes == [], "it knows"


def test_a_deadline_that_moves_while_the_thread_sleeps_is_kept(dog: Watchdog) -> None:
    ward = Ward(boottime() + 0.05, drain=0.02)
    protect(dog, ward)
    ward.deadline += 0.1
    assert ward.overran.wait(PATIENCE)
    assert ward.wakes[-1] >= ward.deadline - ward.drain
    assert ward.overruns[0] >= ward.deadline


def test_a_guard_made_while_the_thread_is_busy_is_not_missed(dog: Watchdog) -> None:
    second = Ward(boottime())

    class First(Ward):
        def wake(self) -> None:
            protect(dog, second)
            super().wake()

    protect(dog, First(boottime()))
    assert second.overran.wait(PATIENCE)


def test_a_ward_is_looked_at_when_something_may_have_changed_and_not_in_between(dog: Watchdog) -> None:
    ward = Ward(boottime() + 0.2)
    protect(dog, ward)
    assert ward.overran.wait(PATIENCE)
    assert ward.looks <= 10, "guarded, woken, overrun, and again where a clock was read a moment earlier"


# A ward's errors


class Faulty(Ward):
    """Raises ``error`` out of the method named."""

    def __init__(self, where: str, error: BaseException) -> None:
        super().__init__(boottime())
        self.where, self.error = where, error

    def fail(self, where: str) -> None:
        if where == self.where:
            raise self.error

    def wake(self) -> None:
        super().wake()
        self.fail("wake")

    def overrun(self) -> None:
        super().overrun()
        self.fail("overrun")


@pytest.mark.parametrize("where", ["wake", "overrun"])
@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3)], ids=str)
def test_an_error_is_logged_and_the_thread_goes_on(
    dog: Watchdog, where: str, error: BaseException, logged: Logged
) -> None:
    ward = Faulty(where, error)
    protect(dog, ward)
    assert ward.overran.wait(PATIENCE), "also after an error in wake()"
    protect(dog, after := Ward(boottime()))
    assert after.overran.wait(PATIENCE)
    (record,) = logged()
    assert record.name == "aioelect.watchdog"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_ward_whose_loop_is_closed_is_dropped_quietly(dog: Watchdog, logged: Logged) -> None:
    loop = asyncio.new_event_loop()
    loop.close()

    class Closed(Ward):
        def wake(self) -> None:
            super().wake()
            loop.call_soon_threadsafe(print)

    ward = Closed(boottime())
    protect(dog, ward)
    assert ward.woken.wait(PATIENCE)
    protect(dog, after := Ward(boottime() + 0.1))
    assert after.overran.wait(PATIENCE)
    assert ward.overruns == []
    assert logged() == []


def test_a_ward_may_release_and_guard_in_its_own_methods(dog: Watchdog) -> None:
    """No lock is held: it would never come back."""

    class Selfish(Ward):
        guard: Guard

        def overrun(self) -> None:
            self.guard.expire(self.deadline)
            self.guard.release()
            self.guard = protect(dog, Ward(boottime() + 3600))
            super().overrun()

    ward = Selfish(boottime() + 0.05)
    ward.guard = protect(dog, ward)
    assert ward.overran.wait(PATIENCE)


# Garbage


def forgotten(ward: weakref.ref[Ward]) -> bool:
    gc.collect()
    return ward() is None


def test_a_released_ward_is_forgotten_at_once(dog: Watchdog) -> None:
    ward = Ward(boottime() + 3600)
    guard = protect(dog, ward)
    gone = weakref.ref(ward)
    del ward
    assert gone() is not None
    guard.release()
    assert gone() is None


def test_an_overrun_ward_is_forgotten_though_its_guard_is_not(dog: Watchdog) -> None:
    ward = Ward(boottime())
    overran, gone = ward.overran, weakref.ref(ward)
    guard = protect(dog, ward)
    del ward
    assert overran.wait(PATIENCE)
    eventually(lambda: forgotten(gone))
    guard.release()


def test_the_sleeping_thread_holds_nobody(dog: Watchdog) -> None:
    ward = Ward(boottime() + 3600, drain=3599.95)  # it is woken, and has an hour then
    woken, gone = ward.woken, weakref.ref(ward)
    guard = protect(dog, ward)
    assert woken.wait(PATIENCE)
    del ward
    guard.release()
    eventually(lambda: forgotten(gone))


# Threads


def test_to_make_a_world_starts_no_thread() -> None:
    code = (
        "import sys, threading, aioelect\n"
        "from aioelect.ports import World\n"
        "from aioelect.watchdog import WATCHDOG\n"
        "assert World().watchdog is World().watchdog is WATCHDOG\n"
        "assert threading.active_count() == 1\n"
        "assert 'ctypes' not in sys.modules\n"
        "WATCHDOG.start(); WATCHDOG.start()\n"
        "assert [thread.name for thread in threading.enumerate()] == ['MainThread', 'aioelect watchdog']\n"
    )
    run(code)


def test_there_is_one_thread_whoever_starts_it(dog: Watchdog) -> None:
    before = set(threading.enumerate())
    starters = [threading.Thread(target=dog.start) for _ in range(8)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    protect(dog, Ward(boottime() + 3600))
    (thread,) = set(threading.enumerate()) - before
    assert thread.name == "aioelect watchdog"
    assert thread.daemon


def test_a_thread_that_can_not_start_leaves_no_alarm_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Alarm(StillAlarm):
        def close(self) -> None:
            closed.append(self)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    dog = Watchdog(alarm=lambda _: Alarm())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            dog.start()
    assert len(closed) == 1
    dog.start()
    dog.close()
    assert len(closed) == 2


def test_after_closing_guards_are_inert_and_another_thread_may_start(dog: Watchdog) -> None:
    ward = Ward(boottime() + 3600)
    guard = protect(dog, ward)
    dog.close()
    dog.close()
    guard.expire(ward.deadline)
    guard.release()
    protect(dog, after := Ward(boottime() + 0.1))
    assert after.overran.wait(PATIENCE)
    assert ward.wakes == ward.overruns == []


def test_unwatched_does_nothing() -> None:
    before = threading.active_count()
    wd.UNWATCHED.start()
    ward = Ward(0.0)
    guard: Guard = World(watchdog=wd.UNWATCHED).watchdog.guard(ward, 0.0)
    guard.expire(ward.deadline)
    guard.release()
    assert ward.looks == 0
    assert threading.active_count() == before


# Event loops


class NoTimeouts(selectors.DefaultSelector):
    """Waits for input alone."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(0 if timeout == 0 else None)


class SuspendedLoop(asyncio.SelectorEventLoop):
    """No timer of its own goes off: on CLOCK_MONOTONIC no time passes while the machine is suspended."""

    def __init__(self) -> None:
        super().__init__(NoTimeouts())

    def time(self) -> float:
        return 0.0


class LoopWard(Ward):
    """Wakes a loop."""

    def __init__(self, deadline: float, drain: float) -> None:
        super().__init__(deadline, drain)
        self.noticed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def wake(self) -> None:
        self._loop.call_soon_threadsafe(self.noticed.set)


def test_a_loop_whose_timers_stand_still_is_woken_in_time(dog: Watchdog) -> None:
    async def main() -> list[float]:
        late: list[float] = []
        for _ in range(7):
            ward = LoopWard(boottime() + 0.06, drain=0.03)
            own = asyncio.get_running_loop().call_later(0.001, ward.noticed.set)
            guard = protect(dog, ward)
            await ward.noticed.wait()
            late.append(boottime() - (ward.deadline - ward.drain))
            own.cancel()
            guard.release()
        return sorted(late)

    with asyncio.Runner(loop_factory=SuspendedLoop) as runner:
        late = runner.run(main())
    assert late[0] >= 0, "no timer of the loop's own went off"
    assert late[3] < 1, "0.05 is meant, but machines that run tests are busy"


async def test_a_body_that_blocks_its_loop_is_reported_with_its_stack_while_it_does(dog: Watchdog) -> None:
    stacks: list[str] = []

    class Reported(LoopWard):
        thread = threading.get_ident()

        def overrun(self) -> None:
            stacks.append(wd.format_stack(self.thread))
            super().overrun()

    ward = Reported(boottime() + 0.1, drain=0.05)

    def block_the_loop() -> bool:
        return ward.overran.wait(PATIENCE)

    protect(dog, ward)
    assert block_the_loop(), "it comes while the loop is blocked"
    assert not ward.noticed.is_set()
    (stack,) = stacks
    assert stack.startswith("  File ")
    assert stack.index("in test_a_body_that_blocks") < stack.index("in block_the_loop") < stack.index("in wait")
    assert "return ward.overran.wait(PATIENCE)" in stack
    await ward.noticed.wait()


def test_a_thread_that_has_ended_has_no_stack() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    assert thread.ident is not None
    assert thread.ident in sys._current_frames() or wd.format_stack(thread.ident) == ""


# Processes

PREAMBLE = """
import os, sys, threading, time
from aioelect import watchdog as wd
from aioelect.watchdog import Watchdog, boottime

class Ward:
    def __init__(self, deadline, drain):
        self.deadline, self.drain = deadline, drain
        self.calls = []
        self.overran = threading.Event()
    def remaining(self):
        return max(0.0, self.deadline - boottime())
    def wake(self):
        self.calls.append("wake")
        print("woken", boottime(), flush=True)
    def overrun(self):
        self.calls.append("overrun")
        print("overrun", boottime(), flush=True)
        self.overran.set()

def protect(dog, ward):
    return dog.guard(ward, ward.deadline - ward.drain)

dog = Watchdog(alarm={"timer": lambda clock: wd.TimerAlarm(), "polling": wd.PollingAlarm}[sys.argv[1]])
"""

KINDS = pytest.mark.parametrize("kind", [pytest.param("timer", marks=NO_TIMER), "polling"])


def run(code: str, *args: str) -> str:
    """The output of a program that ends well, soon and without a word of complaint."""
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", code, *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=45, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


FORK = """
ward = Ward(boottime() + 0.5, 0.3)
protect(dog, Ward(boottime() + 3600, 1.0))
guard = protect(dog, ward)
kept = protect(dog, Ward(boottime() + 3600, 0.01))
files = set(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else set()
locked, forked = threading.Event(), threading.Event()
def hold():  # in a thread that the child does not have
    with dog._lock, dog._patrol._lock:
        locked.set()
        forked.wait()
holder = threading.Thread(target=hold)
holder.start()
locked.wait()
child = os.fork()
if child == 0:
    code = 1
    try:
        assert threading.active_count() == 1
        if files:
            here = set(os.listdir("/proc/self/fd"))
            assert len(here) == len(files) - (sys.argv[1] == "timer"), (files, here)
        kept.expire(0.0); guard.release(); kept.release(); kept.expire(0.0)
        assert threading.active_count() == 1
        mine = Ward(boottime() + 0.1, 0.05)
        protect(dog, mine)
        assert mine.overran.wait(15)
        assert mine.calls == ["wake", "overrun"]
        time.sleep(max(0, ward.deadline + 0.05 - boottime()))
        assert ward.calls == [], "it is the parent's"
        grandchild = os.fork()
        if grandchild == 0:
            protect(dog, own := Ward(boottime(), 0.01))
            os._exit(0 if own.overran.wait(15) else 1)
        assert os.waitpid(grandchild, 0)[1] == 0
        code = 0
    finally:
        os._exit(code)
forked.set()
holder.join()
assert os.waitpid(child, 0)[1] == 0
assert ward.overran.wait(15)
assert ward.calls == ["wake", "overrun"]
"""


@KINDS
def test_a_forked_child_guards_nobody_until_it_has_wards_of_its_own(kind: str) -> None:
    out = run(PREAMBLE + FORK, kind)
    assert out.count("overrun") == 3


CLOSES = """
early = Ward(boottime() + 0.5, 0.3)
if "busy" in sys.argv:
    protect(dog, early)
else:
    dog.start()
    early.overran.set()
time.sleep(0.05)  # the thread sleeps
os.closerange(3, 4096)
reader, writer = os.pipe()
os.write(writer, b"not yours")
if "reused" in sys.argv and sys.argv[1] == "timer":
    reader = os.dup2(reader, dog._patrol._alarm._timer)
if os.fork() == 0:
    protect(dog, mine := Ward(boottime() + 0.1, 0.05))
    os._exit(0 if mine.overran.wait(15) else 1)
assert os.wait()[1] == 0
late = Ward(boottime() + 0.1, 0.05)
protect(dog, late)
assert late.overran.wait(15)
assert early.overran.wait(15)
assert late.calls == ["wake", "overrun"]
assert early.calls == (["wake", "overrun"] if "busy" in sys.argv else [])
protect(dog, last := Ward(boottime() + 0.1, 0.05))
assert last.overran.wait(15)
assert os.read(reader, 100) == b"not yours"
dog.close()
os.close(reader)
"""


@KINDS
@pytest.mark.parametrize("when", ["idle", "busy"])
@pytest.mark.parametrize("number", ["free", "reused"])
def test_a_process_that_closes_all_its_descriptors_is_watched_over_as_before(kind: str, when: str, number: str) -> None:
    run(PREAMBLE + CLOSES, kind, when, number)


RESUMED = """
import signal
from pathlib import Path
dog.start()
time.sleep(0.05)  # the thread sleeps
number = dog._patrol._alarm._timer
os.closerange(3, 4096)
protect(dog, Ward(boottime() + 3600, 1.0))
assert dog._patrol._alarm._timer == number, "another thread sleeps by the same number"
parent = os.getpid()
if os.fork() == 0:
    os.kill(parent, signal.SIGSTOP)
    while Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.001)
    os.kill(parent, signal.SIGCONT)
    os._exit(0)
os.wait()
for _ in range(5):
    protect(dog, ward := Ward(boottime() + 0.02, 0.01))
    assert ward.overran.wait(15)
"""


@NO_TIMER
def test_a_process_that_has_closed_all_its_descriptors_and_is_stopped_and_continued_is_watched_over_as_before() -> None:
    run(PREAMBLE + RESUMED, "timer")


def test_the_thread_may_fork_itself() -> None:
    code = """
class Forking(Ward):
    def overrun(self):
        self.child = os.fork()
        if self.child == 0:
            protect(dog, mine := Ward(boottime(), 0.01))
            os._exit(0 if mine.overran.wait(15) else 1)
        super().overrun()
ward = Forking(boottime(), 0.01)
protect(dog, ward)
assert ward.overran.wait(15)
assert os.waitpid(ward.child, 0)[1] == 0
"""
    run(PREAMBLE + code, "polling")


@KINDS
@pytest.mark.parametrize(
    "code",
    [
        "protect(dog, Ward(boottime() + 3600, 1.0))",
        "protect(dog, Ward(boottime() + 0.01, 0.001)); protect(dog, Ward(boottime() + 0.02, 0.001))",
        "Ward.remaining = lambda self: self.drain + 1e-5\nfor _ in range(200): protect(dog, Ward(0, 1.0))",
    ],
    ids=["sleeping", "about to call", "busy"],
)
def test_a_process_ends_at_once_and_silently_with_wards_still_guarded(kind: str, code: str) -> None:
    run(PREAMBLE + "Ward.wake = Ward.overrun = lambda self: None\n" + code, kind)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no signals that stop")
@KINDS
def test_a_process_that_was_stopped_past_the_deadline_is_woken_at_once_and_overrun_a_drain_later(kind: str) -> None:
    drain = 0.5
    code = f"""
ward = Ward(boottime() + 1.0, {drain})
protect(dog, ward)
print(ward.deadline, flush=True)
assert ward.overran.wait(15)
"""
    command = [sys.executable, "-W", "error", "-c", PREAMBLE + code, kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            deadline = float(process.stdout.readline())
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            stopped = boottime()
            if stopped >= deadline - drain:
                pytest.skip("this machine stood still longer than the process was meant to")
            while boottime() < deadline + 0.2:
                time.sleep(0.01)
            continued = boottime()
            process.send_signal(signal.SIGCONT)
            said = dict(line.split() for line in process.stdout)
        finally:
            process.kill()
    woken, overrun = float(said["woken"]), float(said["overrun"])
    assert continued <= woken < continued + PATIENCE
    assert overrun >= woken + drain - 0.01
