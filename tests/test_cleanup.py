"""``finish``: clean-up that can neither be cancelled half-way nor hang."""

from __future__ import annotations

import asyncio
import time

import anyio
import anyio.lowlevel
import pytest

from aioelect.cleanup import finish


class Work:
    """Clean-up of a few steps."""

    def __init__(self, steps: int = 5) -> None:
        self.steps = steps
        self.done = False
        self.cancelled = False

    async def run(self) -> None:
        try:
            for _ in range(self.steps):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        self.done = True


async def test_work_is_run_to_its_end() -> None:
    work = Work()
    assert await finish(work.run())
    assert work.done


async def test_a_cancellation_comes_out_afterwards() -> None:
    for steps in range(1, 8):
        work = Work()
        task = asyncio.create_task(finish(work.run()))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert work.done
        assert task.cancelled() or (steps >= 6 and task.result())


async def test_many_cancellations_are_one() -> None:
    work = Work(20)
    task = asyncio.create_task(finish(work.run()))
    for _ in range(10):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    assert work.done
    assert task.cancelled()


async def test_work_in_a_cancelled_scope_of_anyio_is_run_to_its_end() -> None:
    work = Work()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await finish(work.run())
        await anyio.lowlevel.checkpoint()
        pytest.fail("the scope's cancellation was lost")
    assert work.done
    assert scope.cancelled_caught


async def test_work_that_hangs_is_cancelled_at_the_bound() -> None:
    ended = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    began = time.monotonic()
    assert not await finish(hang(), 0.05)
    assert ended
    assert 0.04 < time.monotonic() - began < 1


async def test_without_a_bound_it_takes_what_it_takes() -> None:
    assert await finish(asyncio.sleep(0.05), None)


async def test_errors_come_out() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await finish(fail())


async def test_a_cancellation_goes_before_an_error() -> None:
    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise ZeroDivisionError

    task = asyncio.create_task(finish(fail()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
