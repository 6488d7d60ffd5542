"""How a term ends: the ways to lose, and everything that a body may do about it.

None of these ends in an ``ExceptionGroup``, and none leaves a znode or a task behind: see ``Scene``'s fixture.
"""

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest
import uvloop

import aioelect
from aioelect import LossReason, events
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.zookeeper import ZooKeeperServer
from tests import elections
from tests.elections import PATIENCE, Connect, Contending, Intercept, T, Tape, eventually, expire, queue, soon

admin, client, connect = elections.admin, elections.client, elections.connect
embedded, hosts, intercept = elections.embedded, elections.hosts, elections.intercept

Body = Callable[[aioelect.Leader], Awaitable[Any]]


async def forever() -> None:
    await asyncio.Event().wait()


class Scene:
    """A client that contends, and an administrator who takes its leadership away."""

    def __init__(self, client: aioelect.Client, admin: aioelect.Client, path: str) -> None:
        self.client = client
        self.admin = admin
        self.path = path
        self.tasks: set[asyncio.Task[None]] = set()

    def contend(self, below: str = "", **options: Any) -> AbstractAsyncContextManager[aioelect.Leader, bool]:
        return aioelect.leadership(self.client, self.path + below, **options)

    async def lead(self, body: Body, **options: Any) -> Any:
        async with self.contend(**options) as leader:
            return await body(leader)

    def campaign(self, work: Body) -> Coroutine[Any, Any, Any]:
        return aioelect.campaign(self.client, self.path, work)

    def strike(self, leader: aioelect.Leader) -> None:
        """Deletes the leader's znode, soon."""
        task = asyncio.create_task(self.admin.delete(leader.path, force=True))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def wait_until_lost(self, leader: aioelect.Leader) -> None:
        """Waits for the loss in spite of the one cancellation that comes with it."""
        self.strike(leader)
        try:
            await soon(forever())
        except asyncio.CancelledError:
            assert not leader.is_leader

    async def wait_until_led(self) -> None:
        async def led() -> bool:
            return len(await queue(self.admin, self.path)) > 0

        await eventually(led)


@pytest.fixture
async def scene(client: aioelect.Client, admin: aioelect.Client, path: str) -> AsyncIterator[Scene]:
    """Fails a test that leaves a znode behind."""
    scene = Scene(client, admin, path)
    yield scene
    assert await queue(admin, path) == await queue(admin, f"{path}/inner") == []
    assert not client.dependents


# The ways to lose


@pytest.mark.parametrize("cause", list(LossReason)[:4])
async def test_loss_cancels_the_body_and_lets_it_clean_up(
    intercept: Intercept, connect: Connect, admin: aioelect.Client, path: str, cause: LossReason
) -> None:
    proxy = await intercept()
    client = await connect(proxy.hosts)
    cleaned = cancelled = False
    tasks = []
    loop = asyncio.get_running_loop()

    async def strike(leader: aioelect.Leader) -> None:
        match cause:
            case LossReason.SESSION_EXPIRED:
                await expire(client)
            case LossReason.DEADLINE_PASSED:
                proxy.blackhole()
            case LossReason.NODE_DELETED:
                await admin.delete(leader.path, force=True)
            case LossReason.CLIENT_CLOSED:
                await client.close()

    async def body() -> None:
        nonlocal cleaned, cancelled
        async with aioelect.leadership(client, path) as leader:
            tasks.append(asyncio.create_task(strike(leader)))
            try:
                await soon(forever())
            except asyncio.CancelledError:
                cancelled = True
                left, at = leader.remaining(), loop.time()
                raise
            finally:
                await asyncio.sleep(client.session.timing.drain / 4)
                if cause in (LossReason.DEADLINE_PASSED, LossReason.CLIENT_CLOSED):
                    assert left > client.session.timing.drain / 4  # it was told in time
                    assert leader.is_leader == (loop.time() < at + left)
                cleaned = True
                token.append(leader.token)

    token: list[int] = []
    with pytest.raises(aioelect.LeadershipLost) as lost:
        await body()
    assert cancelled
    assert cleaned
    assert (lost.value.reason, lost.value.election) == (cause, path)
    assert [lost.value.token] == token
    assert cause.describe() in str(lost.value)
    await soon(asyncio.wait(tasks))
    proxy.heal()

    async def gone() -> bool:
        return await queue(admin, path) == []

    await eventually(gone)


async def test_second_contender_leads_only_after_the_body_of_a_leader_that_was_cut_off_has_ended(
    intercept: Intercept, connect: Connect, path: str
) -> None:
    proxy = await intercept()
    client = await connect(proxy.hosts)
    ended = proven = 0.0
    second: Contending

    async def lead() -> None:
        nonlocal ended, proven, second
        async with aioelect.leadership(client, path) as leader:
            second = Contending(await connect(), path, "second")
            await second.tape.wait(events.NextInLine)
            proxy.blackhole()
            try:
                while True:
                    leader.check()
                    proven = time.monotonic()
                    await asyncio.sleep(0.005)
            finally:
                await asyncio.sleep(0.02)
                ended = time.monotonic()

    with pytest.raises(aioelect.LeadershipLost):
        await soon(lead())
    leader = await second.elected()
    assert proven < ended < leader.since
    await second.leave()
    proxy.heal()


async def test_closing_the_client_waits_for_the_body_and_takes_the_znode_along(scene: Scene) -> None:
    steps = []

    async def body(leader: aioelect.Leader) -> None:
        closing.append(asyncio.create_task(scene.client.close()))
        closing[0].add_done_callback(lambda _: steps.append("closed"))
        try:
            await forever()
        finally:
            await asyncio.sleep(0.05)
            assert len(await queue(scene.admin, scene.path)) == 1
            steps.append("body ended")

    closing: list[asyncio.Task[None]] = []
    with pytest.raises(aioelect.LeadershipLost) as lost:
        await scene.lead(body)
    await soon(asyncio.wait(closing))
    assert lost.value.reason is LossReason.CLIENT_CLOSED
    assert steps == ["body ended", "closed"]
    assert await queue(scene.admin, scene.path) == []


async def test_closing_the_client_from_inside_the_body(connect: Connect, admin: aioelect.Client, path: str) -> None:
    """The closing waits in vain for the body that waits for it, so the session is left to expire."""
    client = await connect()

    async def lead() -> None:
        async with aioelect.leadership(client, path):
            await client.close()
            await forever()

    with pytest.raises(aioelect.LeadershipLost) as lost:
        await soon(lead())
    assert lost.value.reason is LossReason.CLIENT_CLOSED

    async def gone() -> bool:
        return await queue(admin, path) == []

    await eventually(gone)


async def test_body_that_does_not_end_keeps_the_session_of_a_closed_client(
    connect: Connect, admin: aioelect.Client, path: str
) -> None:
    client = await connect()
    swallowed = 0

    async def lead() -> None:
        nonlocal swallowed
        async with aioelect.leadership(client, path):
            closing = asyncio.create_task(client.close())
            while not closing.done():
                try:
                    await asyncio.wait([closing])
                except asyncio.CancelledError:
                    swallowed += 1

    begun = time.monotonic()
    with pytest.raises(aioelect.LeadershipLost) as lost:
        await soon(lead())
    assert lost.value.reason is LossReason.CLIENT_CLOSED
    assert time.monotonic() - begun < T
    assert swallowed > 1
    assert len(await queue(admin, path)) == 1

    async def expired() -> bool:
        return await queue(admin, path) == []

    await eventually(expired)


# The body's answer


async def test_clean_up_is_cancelled_for_good_when_drain_is_over(scene: Scene) -> None:
    waits: list[float] = []

    async def body(leader: aioelect.Leader) -> None:
        scene.strike(leader)
        try:
            await forever()
        finally:
            begun = time.monotonic()
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                waits.append(time.monotonic() - begun)
                try:
                    await asyncio.sleep(PATIENCE)
                finally:
                    waits.append(time.monotonic() - begun)

    with pytest.raises(aioelect.LeadershipLost):
        await scene.lead(body, drain=0.25)
    assert 0.2 < waits[0] <= waits[1] < 2


async def test_body_that_swallows_one_cancellation(scene: Scene) -> None:
    async def body(leader: aioelect.Leader) -> str:
        await scene.wait_until_lost(leader)
        await asyncio.sleep(0)
        return "ignored"

    with pytest.raises(aioelect.LeadershipLost) as lost:
        await scene.lead(body)
    assert lost.value.reason is LossReason.NODE_DELETED


async def test_body_that_swallows_every_cancellation_for_a_while(scene: Scene) -> None:
    swallowed = 0

    async def body(leader: aioelect.Leader) -> None:
        nonlocal swallowed
        scene.strike(leader)
        while swallowed < 5:
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                swallowed += 1

    with pytest.raises(aioelect.LeadershipLost):
        await scene.lead(body, drain=0.05)
    assert swallowed == 5


async def test_return_from_inside_the_block(scene: Scene) -> None:
    async def work() -> str:
        async with scene.contend() as leader:
            assert leader.is_leader
            return "done"
        return "not reached"

    assert await work() == "done"


async def test_break_out_of_the_block(scene: Scene) -> None:
    for _ in range(2):
        async with scene.contend():
            break
    assert await queue(scene.admin, scene.path) == []


async def test_return_from_inside_the_block_after_the_loss(scene: Scene) -> None:
    async def work() -> str:
        async with scene.contend() as leader:
            await scene.wait_until_lost(leader)
            return "ignored"
        return "not reached"

    with pytest.raises(aioelect.LeadershipLost):
        await work()


async def test_break_out_of_the_block_after_the_loss(scene: Scene) -> None:
    async def work() -> None:
        while True:
            async with scene.contend() as leader:
                await scene.wait_until_lost(leader)
                break

    with pytest.raises(aioelect.LeadershipLost):
        await work()


async def test_error_of_the_body_comes_out_as_itself(scene: Scene) -> None:
    mine = ValueError("mine")

    async def body(leader: aioelect.Leader) -> None:
        raise mine

    with pytest.raises(ValueError, match="mine") as raised:
        await scene.lead(body)
    assert raised.value is mine
    assert not hasattr(mine, "__notes__")


async def test_error_of_the_body_beside_a_loss_comes_out_with_a_note(scene: Scene) -> None:
    async def body(leader: aioelect.Leader) -> None:
        await scene.wait_until_lost(leader)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as raised:
        await scene.lead(body)
    (note,) = raised.value.__notes__
    assert "was lost: somebody deleted its znode" in note


async def test_error_out_of_the_clean_up_after_a_loss_comes_out_with_a_note(scene: Scene) -> None:
    async def body(leader: aioelect.Leader) -> None:
        scene.strike(leader)
        try:
            await forever()
        finally:
            raise OSError("clean-up failed")

    with pytest.raises(OSError, match="clean-up failed") as raised:
        await scene.lead(body)
    assert len(raised.value.__notes__) == 1


async def test_check_in_the_body_after_a_loss(scene: Scene) -> None:
    async def body(leader: aioelect.Leader) -> None:
        await scene.wait_until_lost(leader)
        leader.check()

    with pytest.raises(aioelect.LeadershipLost) as lost:
        await scene.lead(body)
    assert lost.value.reason is LossReason.NODE_DELETED


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_exceptions_that_end_programs_pass(embedded: EmbeddedServer, error: type[BaseException]) -> None:
    async with aioelect.connect(embedded.hosts, session_timeout=T) as client:

        async def lead() -> None:
            async with aioelect.leadership(client, "/election"):
                raise error

        leading = lead()
        with pytest.raises(error):
            await leading
        assert embedded.tree.node("/election").stat().children == 0


@pytest.mark.parametrize("reason", [LossReason.NODE_DELETED, LossReason.RESIGNED])
@pytest.mark.parametrize("awaits", [False, True], ids=["at once", "later"])
async def test_term_that_ended_before_the_body_began(
    scene: Scene, reason: LossReason, awaits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No cancellation hits a body, or what comes after it, that has ended before it could notice."""
    honest = aioelect.Leader._begin

    def begin(self: aioelect.Leader) -> None:
        honest(self)
        self._end(reason)

    monkeypatch.setattr(aioelect.Leader, "_begin", begin)

    async def body(leader: aioelect.Leader) -> str:
        if awaits:
            await forever()
        return "done"

    if reason is LossReason.RESIGNED:
        assert await soon(scene.lead(body)) == (None if awaits else "done")
    else:
        with pytest.raises(aioelect.LeadershipLost):
            await soon(scene.lead(body))
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


# Cancellation from outside


async def test_outer_cancellation_while_waiting(scene: Scene) -> None:
    rival = Contending(scene.admin, scene.path, "rival")
    await rival.elected()
    tape = Tape()
    waiting = asyncio.create_task(scene.lead(lambda leader: forever(), on_event=tape))
    await tape.wait(events.NextInLine)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(await queue(scene.admin, scene.path)) == 1
    await rival.leave()


async def test_outer_cancellation_while_leading(scene: Scene) -> None:
    contender = Contending(scene.client, scene.path, "cancelled")
    await contender.elected()
    contender.task.cancel("from outside")
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await contender.task
    assert cancelled.value.__context__ is None
    assert contender.tape.names == ["Queued", "Elected", "Released"]


async def test_asyncio_timeout_fires_while_waiting(scene: Scene) -> None:
    rival = Contending(scene.admin, scene.path, "rival")
    await rival.elected()

    async def work() -> None:
        async with asyncio.timeout(0.1):
            await scene.lead(lambda leader: forever())

    with pytest.raises(TimeoutError) as raised:
        await work()
    assert not isinstance(raised.value, aioelect.ElectionTimeout)
    await rival.leave()


async def test_asyncio_timeout_fires_while_leading(scene: Scene) -> None:
    async def work() -> None:
        async with asyncio.timeout(0.1):
            await scene.lead(lambda leader: forever())

    with pytest.raises(TimeoutError):
        await work()


async def test_asyncio_timeout_around_a_loss_lets_it_pass(scene: Scene) -> None:
    async def work() -> None:
        async with asyncio.timeout(PATIENCE):
            await scene.lead(scene.wait_until_lost)

    with pytest.raises(aioelect.LeadershipLost):
        await work()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_loss_and_outer_cancellation_at_once_is_a_cancellation(scene: Scene) -> None:
    contender = Contending(scene.client, scene.path, "both")
    leader = await contender.elected()
    contender.task.cancel()
    leader._end(LossReason.NODE_DELETED)
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await contender.task
    assert isinstance(cancelled.value.__context__, aioelect.LeadershipLost)


@pytest.mark.parametrize("first", ["cancellation", "loss"])
async def test_outer_cancellation_at_once_with_a_loss_ends_a_campaign_whose_body_swallows_both(
    scene: Scene, first: str
) -> None:
    """asyncio makes one of the two, and a body may swallow the one that tells it of a loss."""
    terms: list[aioelect.Leader] = []

    async def work(leader: aioelect.Leader) -> None:
        terms.append(leader)
        with contextlib.suppress(asyncio.CancelledError):
            await forever()

    campaigning = asyncio.create_task(scene.campaign(work))
    await eventually(lambda: bool(terms))
    await asyncio.sleep(0)
    acts: list[Callable[[], object]] = [campaigning.cancel, lambda: terms[0]._end(LossReason.NODE_DELETED)]
    for act in acts if first == "cancellation" else acts[::-1]:
        act()
    with pytest.raises(asyncio.CancelledError):
        await soon(campaigning)
    assert len(terms) == 1


async def test_outer_cancellation_while_the_body_drains(scene: Scene) -> None:
    draining = asyncio.Event()

    async def body(leader: aioelect.Leader) -> None:
        scene.strike(leader)
        try:
            await forever()
        finally:
            draining.set()
            await forever()

    task = asyncio.create_task(scene.lead(body))
    await soon(draining.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_task_that_lost_can_be_cancelled_and_timed_as_ever(scene: Scene) -> None:
    """No cancellation of ours stays behind in the task's count."""
    with pytest.raises(aioelect.LeadershipLost):
        await scene.lead(scene.wait_until_lost)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await forever()
    with anyio.move_on_after(0.01) as scope:
        await forever()
    assert scope.cancelled_caught
    await asyncio.sleep(0)


# Nested elections


async def test_nested_elections_lost_together_raise_the_outermost_loss(scene: Scene) -> None:
    leaders = []

    async def work() -> None:
        async with scene.contend() as outer, scene.contend("/inner") as inner:
            leaders.extend([outer, inner])
            await expire(scene.client)
            await soon(forever())

    with pytest.raises(aioelect.LeadershipLost) as lost:
        await work()
    outer, inner = leaders
    assert (lost.value.token, lost.value.election) == (outer.token, outer.election)
    assert isinstance(lost.value.__context__, aioelect.LeadershipLost)
    assert (lost.value.__context__.token, lost.value.__context__.election) == (inner.token, inner.election)


async def test_inner_election_lost_alone(scene: Scene) -> None:
    tape = Tape()

    async def work() -> None:
        async with scene.contend(on_event=tape) as outer:
            try:
                async with scene.contend("/inner") as inner:
                    scene.strike(inner)
                    await soon(forever())
            finally:
                assert outer.is_leader

    with pytest.raises(aioelect.LeadershipLost) as lost:
        await work()
    assert lost.value.election == f"{scene.path}/inner"
    assert tape.names == ["Queued", "Elected", "Released"]


async def test_outer_election_lost_alone_cancels_through_the_inner_one(scene: Scene) -> None:
    tape = Tape()

    async def work() -> None:
        async with scene.contend() as outer, scene.contend("/inner", on_event=tape):
            scene.strike(outer)
            await soon(forever())

    with pytest.raises(aioelect.LeadershipLost) as lost:
        await work()
    assert lost.value.election == scene.path
    assert tape.names == ["Queued", "Elected", "Released"]


# Resigning


async def test_resign_from_the_body(scene: Scene) -> None:
    cleaned = False

    async def body(leader: aioelect.Leader) -> None:
        nonlocal cleaned
        leader.resign()
        leader.resign()
        try:
            await forever()
        finally:
            await asyncio.sleep(0.01)
            assert leader.is_leader  # as long as the body runs
            cleaned = True

    assert await scene.lead(body) is None
    assert cleaned


async def test_resign_from_a_signal_handler(scene: Scene) -> None:
    async def body(leader: aioelect.Leader) -> None:
        before = signal.signal(signal.SIGUSR1, lambda *_: leader.resign())
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            await forever()
        finally:
            signal.signal(signal.SIGUSR1, before)

    await soon(scene.lead(body))


async def test_resign_from_another_thread(scene: Scene) -> None:
    async def body(leader: aioelect.Leader) -> None:
        thread = threading.Thread(target=leader.resign)
        thread.start()
        try:
            await forever()
        finally:
            thread.join()

    await soon(scene.lead(body))


async def test_resign_from_another_task(scene: Scene) -> None:
    contender = Contending(scene.client, scene.path, "resigns")
    (await contender.elected()).resign()
    await soon(contender.task)


async def test_resign_and_return(scene: Scene) -> None:
    async def body(leader: aioelect.Leader) -> str:
        leader.resign()
        return "done"

    assert await scene.lead(body) == "done"


async def test_resign_after_the_block(scene: Scene) -> None:
    async with scene.contend() as leader:
        pass
    leader.resign()
    await asyncio.sleep(0)
    assert not leader.is_leader


async def test_resign_and_swallow(scene: Scene) -> None:
    async def body(leader: aioelect.Leader) -> str:
        leader.resign()
        try:
            await forever()
        except asyncio.CancelledError:
            pass
        return "swallowed"

    assert await scene.lead(body) == "swallowed"


async def test_resign_and_drain_for_too_long(scene: Scene) -> None:
    async def body(leader: aioelect.Leader) -> None:
        leader.resign()
        try:
            await forever()
        finally:
            await asyncio.sleep(PATIENCE)

    begun = time.monotonic()
    await scene.lead(body, drain=0.1)
    assert time.monotonic() - begun < PATIENCE / 2


async def test_resign_and_fail(scene: Scene) -> None:
    async def body(leader: aioelect.Leader) -> None:
        leader.resign()
        try:
            await forever()
        finally:
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as raised:
        await scene.lead(body)
    assert not hasattr(raised.value, "__notes__")


async def test_resign_and_outer_cancellation_at_once_is_a_cancellation(scene: Scene) -> None:
    contender = Contending(scene.client, scene.path, "both")
    (await contender.elected()).resign()
    contender.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await contender.task


# Task groups


async def test_task_group_inside_the_body(scene: Scene) -> None:
    async def body(leader: aioelect.Leader) -> None:
        scene.strike(leader)
        async with asyncio.TaskGroup() as group:
            group.create_task(forever())
            group.create_task(forever())

    with pytest.raises(aioelect.LeadershipLost):
        await soon(scene.lead(body))


async def test_anyio_task_group_inside_the_body(scene: Scene) -> None:
    async def body(leader: aioelect.Leader) -> None:
        scene.strike(leader)
        async with anyio.create_task_group() as group:
            group.start_soon(forever)
            group.start_soon(forever)

    with pytest.raises(aioelect.LeadershipLost):
        await soon(scene.lead(body))


async def test_anyio_scope_and_asyncio_timeout_inside_the_body_do_not_take_the_loss_for_theirs(scene: Scene) -> None:
    async def body(leader: aioelect.Leader) -> None:
        scene.strike(leader)
        with anyio.move_on_after(PATIENCE):
            async with asyncio.timeout(PATIENCE):
                await forever()

    with pytest.raises(aioelect.LeadershipLost):
        await scene.lead(body)


async def test_timeouts_inside_the_body_work_as_ever(scene: Scene) -> None:
    async with scene.contend() as leader:
        with anyio.move_on_after(0.01) as scope:
            await forever()
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await forever()
        assert leader.is_leader


async def test_sibling_in_a_task_group_that_fails_cancels_the_leader(scene: Scene) -> None:
    contender_ended = asyncio.Event()

    async def lead() -> None:
        try:
            await scene.lead(lambda leader: forever())
        finally:
            contender_ended.set()

    async def fail() -> None:
        await scene.wait_until_led()
        raise ValueError("sibling")

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(lead())
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as raised:
        await work()
    assert [type(error) for error in raised.value.exceptions] == [ValueError]
    assert contender_ended.is_set()


async def test_block_inside_a_task_group_is_cancelled_by_a_child_that_fails(scene: Scene) -> None:
    async def fail() -> None:
        raise ValueError("child")

    async def work() -> None:
        async with asyncio.TaskGroup() as group, scene.contend():
            group.create_task(fail())
            await forever()

    with pytest.raises(ExceptionGroup) as raised:
        await soon(work())
    assert [type(error) for error in raised.value.exceptions] == [ValueError]


@pytest.mark.parametrize("leading", [False, True], ids=["waiting", "leading"])
async def test_anyio_scope_around_is_cancelled(scene: Scene, leading: bool) -> None:
    rival = None
    if not leading:
        rival = Contending(scene.admin, scene.path, "rival")
        await rival.elected()
    cleaned = False
    with anyio.move_on_after(0.1) as scope:
        async with scene.contend():
            try:
                await forever()
            finally:
                cleaned = True
    assert scope.cancelled_caught
    assert cleaned is leading
    if rival is not None:
        await rival.leave()


async def test_anyio_task_group_around_a_loss(scene: Scene) -> None:
    async def lead() -> None:
        with pytest.raises(aioelect.LeadershipLost):
            await scene.lead(scene.wait_until_lost)

    async with anyio.create_task_group() as group:
        group.start_soon(lead)


async def test_anyio_scope_around_cancelled_while_the_body_drains(scene: Scene) -> None:
    async def body(leader: aioelect.Leader) -> None:
        scene.strike(leader)
        try:
            await forever()
        finally:
            scope.cancel()
            await asyncio.sleep(PATIENCE)

    with anyio.CancelScope() as scope:
        await scene.lead(body)
    assert scope.cancelled_caught


# Kinds of event loop


async def _life(hosts: str, path: str) -> list[str]:
    """One of each: a takeover, a loss, a resignation, a cancellation, an error of the body."""
    ends = []
    async with (
        aioelect.connect(hosts, session_timeout=T) as client,
        aioelect.connect(hosts, session_timeout=T) as admin,
    ):
        scene = Scene(client, admin, path)
        rival = Contending(admin, path, "rival")
        await rival.elected()
        tape = Tape()
        waiting = asyncio.create_task(scene.lead(scene.wait_until_lost, on_event=tape))
        await tape.wait(events.NextInLine)
        await rival.leave()
        try:
            await waiting
        except aioelect.LeadershipLost as e:
            ends.append(str(e.reason))

        async with scene.contend() as leader:
            leader.resign()
            try:
                await forever()
            finally:
                await asyncio.sleep(0.01)
                ends.append("resigned")

        try:
            async with asyncio.timeout(0.1), scene.contend():
                await forever()
        except TimeoutError:
            ends.append("timeout")

        with anyio.move_on_after(0.1):
            async with scene.contend():
                await forever()
        ends.append("moved on")

        try:
            async with scene.contend():
                raise ValueError("mine")
        except ValueError as e:
            ends.append(str(e))
        ends.extend(await queue(admin, path))
    return ends


def _eagerly(main: Callable[[], Coroutine[Any, Any, list[str]]]) -> list[str]:
    async def eager() -> list[str]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        return await main()

    return asyncio.run(eager())


def _on_uvloop(main: Callable[[], Coroutine[Any, Any, list[str]]]) -> list[str]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda main: asyncio.run(main()), id="asyncio"),
        *([pytest.param(_eagerly, id="eager")] if sys.version_info >= (3, 12) else []),
        pytest.param(_on_uvloop, id="uvloop"),
        pytest.param(lambda main: anyio.run(main), id="anyio"),
        pytest.param(lambda main: anyio.run(main, backend_options={"use_uvloop": True}), id="anyio-uvloop"),
    ],
)
@pytest.mark.parametrize("server", ["embedded", "zookeeper"])
def test_kinds_of_event_loop(request: pytest.FixtureRequest, path: str, run: Any, server: str) -> None:
    async def on_embedded() -> list[str]:
        async with EmbeddedServer(tick_time=0.2) as embedded:
            return await _life(embedded.hosts, path)

    main = on_embedded
    if server == "zookeeper":
        main = functools.partial(_life, request.getfixturevalue("zookeeper").hosts, path)
    with ThreadPoolExecutor(1) as pool:  # away from the event loop of the tests
        ends = pool.submit(run, main).result()
    assert ends == ["node_deleted", "resigned", "timeout", "moved on", "mine"]


# Time that nobody saw


async def test_body_that_blocks_the_loop_past_the_deadline_and_returns(
    connect: Connect, admin: aioelect.Client, path: str
) -> None:
    client = await connect(session_timeout=0.8)
    checked = None

    async def lead() -> None:
        nonlocal checked
        async with aioelect.leadership(client, path) as leader:
            time.sleep(leader.remaining() + 0.05)  # noqa: ASYNC251  # that is the mistake
            try:
                leader.check()
            except aioelect.LeadershipLost as e:
                checked = e.reason

    with pytest.raises(aioelect.LeadershipLost) as lost:
        await lead()
    assert lost.value.reason is checked is LossReason.DEADLINE_PASSED

    async def gone() -> bool:
        return await queue(admin, path) == []

    await eventually(gone)


_STOPPED = """
import asyncio, os, signal, sys
import aioelect

async def main():
    hosts, path = sys.argv[1:]
    async with aioelect.connect(hosts, session_timeout=1.0) as client:
        try:
            async with aioelect.leadership(client, path, identity="stopped") as leader:
                leader.check()
                print("leads", flush=True)
                os.kill(os.getpid(), signal.SIGSTOP)
                try:
                    leader.check()
                except aioelect.LeadershipLost as e:
                    print("refused:", e.reason, leader.is_leader, leader.remaining(), flush=True)
                await asyncio.Event().wait()
        except aioelect.LeadershipLost as e:
            print("lost:", e.reason in ("deadline_passed", "session_expired"), flush=True)

asyncio.run(main())
"""


async def test_leader_process_stopped_past_its_session_knows_at_once(zookeeper: ZooKeeperServer, path: str) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220  # its output is read in a thread
        [sys.executable, "-c", _STOPPED, zookeeper.hosts, path], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "leads\n"
        async with (
            aioelect.connect(zookeeper.hosts, session_timeout=T) as client,
            aioelect.leadership(client, path, timeout=PATIENCE) as leader,
        ):
            process.send_signal(signal.SIGCONT)
            said, _ = await asyncio.to_thread(process.communicate, timeout=PATIENCE)
            assert leader.is_leader
        assert said.splitlines() == ["refused: deadline_passed False 0.0", "lost: True"]
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_forked_child_does_not_lead(embedded: EmbeddedServer) -> None:
    async with (
        aioelect.connect(embedded.hosts, session_timeout=T) as client,
        aioelect.leadership(client, "/election") as leader,
    ):
        child = os.fork()
        if child == 0:
            try:
                leader.check()
            except aioelect.LeadershipLost:
                os._exit(7 if not leader.is_leader and leader.remaining() == 0 else 8)
            finally:
                os._exit(9)
        _, status = os.waitpid(child, 0)  # noqa: ASYNC222  # it ends at once
        assert os.waitstatus_to_exitcode(status) == 7
        leader.check()
