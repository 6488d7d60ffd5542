"""Cancelled at every step: whoever waits, leads or leaves then leaves no znode, no stuck successor, no task and no watch behind.

A run plays one victim and cancels it at one step; the next run takes the next step, until one ends before its step comes. A step
is an await at which the victim suspends, so that each await of its path is hit exactly once, or a turn of the event loop, so that
the tasks which work for the victim are hit too, in each of their states. A failure tells its step: the same test with
``CANCEL_AT=<step>`` (or ``<step>,<step>``) in the environment plays that run alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import random
import sys
import types
import warnings
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any
from unittest import mock

import anyio
import pytest

import aioelect
from aioelect import Candidate, candidate, events
from aioelect.cleanup import finish
from aioelect.leadership import _Body
from aioelect.lookout import Lookout
from aioelect.ports import World
from aioelect.testing.datatree import Caller
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.jute import Delete
from aioelect.zookeeper.folder import Folder
from tests.elections import PATIENCE, Contending, contending

T = 10.0
"""The session timeout, in seconds: no ghost goes by itself while a test is patient."""

CANCEL_AT = tuple(map(int, os.environ.get("CANCEL_AT", "").split(","))) if "CANCEL_AT" in os.environ else None

GAPS = (1, 8)
"""Turns between two blows: all of them would be too many."""


# Steps

Act = Callable[[], object]


class Steps:
    """Counts the steps of a run from :meth:`begin` on, and acts at some of them."""

    def __init__(self, *, by_turns: bool) -> None:
        self.acts: dict[int, list[Act]] = defaultdict(list)
        self.acted = 0
        self.count = 0
        self._by_turns = by_turns
        self._counts = False

    def begin(self) -> None:
        self._counts = True
        if self._by_turns:
            asyncio.get_running_loop().call_soon(self._turn)

    def end(self) -> None:
        self._counts = False

    def suspended(self) -> None:
        """The victim is about to wait."""
        if self._counts and not self._by_turns:
            self._step()

    def _turn(self) -> None:
        if self._counts:
            asyncio.get_running_loop().call_soon(self._turn)
            self._step()

    def _step(self) -> None:
        acts = self.acts[self.count]
        self.count += 1
        for act in acts:
            self.acted += 1
            act()


@types.coroutine
def counted(coroutine: Coroutine[Any, Any, object], steps: Steps) -> Generator[Any, None, None]:
    """Runs a coroutine, and tells whenever it suspends."""
    error: BaseException | None = None
    try:
        while True:
            try:
                awaited = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration:
                return
            error = None
            steps.suspended()
            try:
                yield awaited
            except BaseException as e:
                error = e
    finally:
        steps.end()


# Ways to be cancelled


class Blow:
    """Cancels the victim; ``fall`` is how."""

    def __init__(self) -> None:
        self.fall: Act
        self.has_fallen = False

    def __call__(self) -> None:
        self.has_fallen = True
        self.fall()


How = Callable[[Awaitable[None], Blow], Coroutine[Any, Any, bool]]
"""Plays the victim in the current task; tells whether it was cancelled, unless it raises ``CancelledError``."""


async def by_task(play: Awaitable[None], blow: Blow) -> bool:
    task = asyncio.current_task()
    assert task is not None
    blow.fall = task.cancel
    await play
    return False


async def by_timeout(play: Awaitable[None], blow: Blow) -> bool:
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(None)
    blow.fall = lambda: limit.reschedule(loop.time())
    try:
        async with limit:
            await play
    except TimeoutError:
        assert limit.expired()
    return limit.expired()


async def by_scope(play: Awaitable[None], blow: Blow) -> bool:
    with anyio.CancelScope() as scope:
        blow.fall = scope.cancel
        await play
    return scope.cancel_called  # a victim whose last wait is shielded may end all the same


class Failed(Exception):
    """What a sibling in a task group fails with."""


async def by_sibling(play: Awaitable[None], blow: Blow) -> bool:
    failing = asyncio.Event()
    blow.fall = failing.set

    async def sibling() -> None:
        await failing.wait()
        raise Failed

    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(sibling())
            await play
            if not failing.is_set():
                task.cancel()
    except* Failed:
        pass
    return failing.is_set()


# The scene


class Impatient(random.Random):
    """Pauses of a random length have none."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Scene:
    """A server, the victim's client, one for who follows it, and two for those who may stand before it."""

    def __init__(self, server: EmbeddedServer, clients: list[aioelect.Client], patience: float) -> None:
        self.server = server
        self.client, self.follower, *self.rivals = self.clients = clients
        self.patience = patience
        self.complaints: list[Any] = []
        self.paths = (f"/election-{number}" for number in itertools.count())

    async def until(self, condition: Callable[[], bool], otherwise: Callable[[], str]) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.patience
        while not condition():
            if loop.time() > end:
                raise AssertionError(otherwise())
            await asyncio.sleep(0)

    async def check_complaints(self) -> None:
        gc.collect()
        await turns(2)
        assert not self.complaints


@contextlib.asynccontextmanager
async def set_scene(patience: float = PATIENCE) -> AsyncIterator[Scene]:
    """Collects what the event loop, the interpreter and ``warnings`` complain of."""
    loop, hook = asyncio.get_running_loop(), sys.unraisablehook
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer(tick_time=0.2))
        clients = [await stack.enter_async_context(connect(server)) for _ in range(4)]
        scene = Scene(server, clients, patience)
        loop.set_exception_handler(lambda _, context: scene.complaints.append(context))
        sys.unraisablehook = lambda unraisable: scene.complaints.append(unraisable.exc_value)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = lambda message, *_, **__: scene.complaints.append(message)
                yield scene
        finally:
            sys.unraisablehook = hook
            loop.set_exception_handler(None)


def connect(server: EmbeddedServer, chroot: str = "") -> AbstractAsyncContextManager[aioelect.Client]:
    return aioelect.connect(server.hosts + chroot, session_timeout=T, world=World(random=Impatient()))


class Run:
    """One run: an election of its own, and what its victim needs."""

    def __init__(self, scene: Scene, steps: Steps) -> None:
        self.scene = scene
        self.client = scene.client
        self.path = next(scene.paths)
        self.begin = steps.begin
        self.stack = contextlib.AsyncExitStack()
        self.follower: Contending | None = None

    # Before begin()

    async def go_ahead(self, count: int) -> list[Contending]:
        """So many contenders, before the victim."""
        return await self.stack.enter_async_context(contending(self.scene.rivals[:count], self.path))

    async def lead(self) -> tuple[Candidate, aioelect.Leader]:
        """A candidate that leads, with a follower behind; it is withdrawn after the run."""
        candidate = await Candidate.enter(self.client, self.path)
        self.stack.push_async_callback(candidate.withdraw)
        leader = await candidate.wait_elected()
        await self.be_followed()
        return candidate, leader

    async def be_ruled(self, client: aioelect.Client, **options: Any) -> None:
        """Somebody else leads, in a task of its own, until that is lost."""
        leading = asyncio.Event()

        async def rule() -> None:
            with contextlib.suppress(aioelect.LeadershipLost):
                async with aioelect.leadership(client, self.path, **options):
                    leading.set()
                    await asyncio.Event().wait()

        task = asyncio.create_task(rule())
        self.stack.push_async_callback(asyncio.wait, [task])
        self.stack.callback(task.cancel)
        await leading.wait()

    async def be_followed(self) -> None:
        self.follow()
        assert self.follower is not None
        await self.follower.queued()

    def follow(self) -> None:
        """A successor queues up."""
        if self.follower is None:
            self.follower = Contending(self.scene.follower, self.path, "follower")

    # From begin() on

    def leadership(self, *, handover_delay: float = 0.0, **when: Act) -> Any:
        """A follower comes as soon as the victim stands in the queue; ``when`` says what else happens at an event."""

        def on_event(event: events.Event) -> None:
            if isinstance(event, events.Queued):
                self.follow()
            if act := when.get(type(event).__name__):
                act()

        return aioelect.leadership(self.client, self.path, handover_delay=handover_delay, on_event=on_event)

    def delete(self, path: str) -> None:
        """Deletes a znode behind everybody's back."""
        self.scene.server.tree.write(Delete(path, -1), Caller(), now=0)

    def lose_answers(self) -> None:
        """The victim's connection breaks after all that it has sent."""
        self.client.session.drop("by the test")

    def lose_requests(self) -> None:
        """All connections break, before what was sent just now arrives."""
        self.scene.server.drop_connections()

    def lose_time(self) -> None:
        """No answer comes before the victim has ended."""
        self.scene.server.pause()

    # After it

    def ghosts(self) -> list[str]:
        """What nobody else has made in the folders of the election."""
        tree = self.scene.server.tree
        others = {client.session.session_id for client in (self.scene.follower, *self.scene.rivals)}
        folders = [folder for folder in (self.path, f"{self.path}-control") if folder in tree]
        paths = [f"{folder}/{name}" for folder in folders for name in tree.node(folder).children]
        return [path for path in paths if tree.node(path).owner not in others]

    async def check(self, tasks: set[asyncio.Task[Any]]) -> None:
        """Nothing is left of the victim: not on the server, not in its client, not in the event loop."""
        scene = self.scene
        await scene.until(lambda: not self.ghosts(), lambda: f"ghosts: {self.ghosts()}")
        self.follow()
        assert self.follower is not None
        try:
            async with asyncio.timeout(scene.patience):
                await self.follower.elected()
        except TimeoutError:
            raise AssertionError("the successor is stuck") from None
        await self.follower.leave()

        def left() -> set[asyncio.Task[Any]]:
            return asyncio.all_tasks() - tasks

        await scene.until(lambda: not left(), lambda: f"tasks: {left()}")
        for client in scene.clients:
            await scene.until(lambda c=client: not len(c.janitor), lambda: "clean-up that does not end")  # type: ignore[misc]
            assert not client.session.watch_callbacks
            assert not client.session._observers
            assert not client.renewals._keepers
            assert not client.dependents
        assert not scene.complaints


Victim = Callable[[Run], Coroutine[Any, Any, object]]
Trouble = Callable[[Run], None]


async def play(
    scene: Scene,
    victim: Victim,
    at: Sequence[int],
    how: How = by_task,
    *,
    by_turns: bool = False,
    trouble: Trouble | None = None,
) -> Steps:
    """One run: the victim is cancelled at each of these steps, or there is ``trouble`` at the first, and then it is cancelled."""
    tasks = asyncio.all_tasks()
    steps, blow = Steps(by_turns=by_turns), Blow()
    run = Run(scene, steps)
    for number, step in enumerate(at):
        steps.acts[step].append(partial(trouble, run) if trouble and number == 0 else blow)

    async def suffer() -> None:
        struck = await how(counted(victim(run), steps), blow)
        assert struck == blow.has_fallen, "a cancellation was swallowed"
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling(), "a cancellation is still counted"

    try:
        async with run.stack:
            task = asyncio.create_task(suffer())
            await asyncio.wait([task], timeout=scene.patience)
            scene.server.resume()
            assert task.done(), "the victim hangs"
            if task.cancelled():
                assert blow.has_fallen, "a cancellation came from nowhere"
            else:
                task.result()
        await run.check(tasks)
    except BaseException as e:
        e.add_note(f"CANCEL_AT={','.join(map(str, at))}")
        raise
    finally:
        if run.follower is not None:
            await run.follower.leave()
    return steps


async def sweep(
    scene: Scene,
    victim: Victim,
    how: How = by_task,
    *,
    by_turns: bool = False,
    trouble: Trouble | None = None,
    gaps: Iterable[int] | None = None,
) -> int:
    """Takes each step in turn, with ``gaps`` and a second one after each of these gaps; how many steps the victim has."""
    options: dict[str, Any] = {"how": how, "by_turns": by_turns, "trouble": trouble}
    if CANCEL_AT is not None:
        await play(scene, victim, CANCEL_AT, **options)
        pytest.skip(f"only the run of CANCEL_AT={CANCEL_AT} was played")
    for first in itertools.count():
        for at in ((first, first + gap) for gap in gaps) if gaps is not None else [(first,)]:
            steps = await play(scene, victim, at, **options)
            if steps.acted == 0:
                await scene.check_complaints()
                return steps.count
            if steps.acted < len(at):
                break
    raise AssertionError


# The victims


async def enters_alone(run: Run) -> None:
    run.begin()
    async with run.leadership():
        await turns(2)


async def waits_as_second(run: Run) -> None:
    (first,) = await run.go_ahead(1)
    run.begin()
    async with run.leadership(NextInLine=first.task.cancel):
        await turns(2)


async def waits_as_third(run: Run) -> None:
    first, second = await run.go_ahead(2)
    run.begin()
    async with run.leadership(Queued=second.task.cancel, NextInLine=first.task.cancel):
        await turns(2)


async def leads(run: Run) -> None:
    async with run.leadership():
        await run.be_followed()
        run.begin()
        await turns(3)


async def leads_on_a_client_of_its_own(run: Run) -> None:
    run.begin()
    async with aioelect.leadership(run.scene.server.hosts, run.path):
        await turns(2)


async def leads_two_elections(run: Run) -> None:
    run.begin()
    async with aioelect.leadership(run.client, f"{run.path}-outer"), run.leadership():
        await turns(2)


async def drains_after_a_loss(run: Run) -> None:
    with contextlib.suppress(aioelect.LeadershipLost):
        async with run.leadership() as leader:
            await run.be_followed()
            run.begin()
            run.delete(leader.path)
            try:
                await asyncio.Event().wait()
            finally:
                await turns(3)


async def drains_after_an_expiry(run: Run) -> None:
    with contextlib.suppress(aioelect.LeadershipLost):
        async with run.leadership():
            await run.be_followed()
            run.begin()
            run.scene.server.expire(run.client.session.session_id or 0)
            try:
                await asyncio.Event().wait()
            finally:
                await turns(3)


async def resigns(run: Run) -> None:
    async with run.leadership() as leader:
        await run.be_followed()
        run.begin()
        leader.resign()
        try:
            await asyncio.Event().wait()
        finally:
            await turns(3)


async def has_no_time(run: Run) -> None:
    await run.go_ahead(1)
    run.begin()
    with contextlib.suppress(aioelect.ElectionTimeout):
        async with aioelect.leadership(run.client, run.path, timeout=0):
            pytest.fail("another leads")


async def enters_as_candidate(run: Run) -> None:
    run.begin()
    candidate = await Candidate.enter(run.client, run.path)
    run.stack.push_async_callback(candidate.withdraw)


async def waits_as_candidate(run: Run) -> None:
    (first,) = await run.go_ahead(1)
    candidate = await Candidate.enter(run.client, run.path)
    run.stack.push_async_callback(candidate.withdraw)
    run.begin()
    await candidate.wait_placed()
    first.task.cancel()
    await candidate.wait_elected()


async def withdraws(run: Run) -> None:
    candidate, _ = await run.lead()
    run.begin()
    await candidate.withdraw()


async def awaits_its_loss(run: Run) -> None:
    _, leader = await run.lead()
    run.begin()
    run.delete(leader.path)
    await leader.lost()


async def campaigns(run: Run) -> None:
    terms = itertools.count()

    async def work(leader: aioelect.Leader) -> None:
        match next(terms):
            case 0:
                run.delete(leader.path)
            case 1:
                run.scene.server.expire(run.client.session.session_id or 0)
            case _:
                return
        await asyncio.Event().wait()

    run.begin()
    await aioelect.campaign(run.client, run.path, work)


async def writes(run: Run) -> None:
    async with run.leadership() as leader:
        await run.be_followed()
        run.begin()
        for number in range(2):
            with contextlib.suppress(aioelect.OutcomeUnknown):
                async with leader.transaction() as txn:
                    txn.create(f"{run.path}-written-{number}")


async def creates(run: Run) -> None:
    await run.client.create(run.path)
    run.begin()
    made = await run.client.create(f"{run.path}/n_", ephemeral=True, sequential=True)
    run.stack.push_async_callback(run.client.delete, made)


async def connects(run: Run) -> None:
    run.begin()
    async with connect(run.scene.server, chroot=f"{run.path}-chroot") as client:
        await client.exists("/")


async def closes(run: Run) -> None:
    run.client = await run.stack.enter_async_context(connect(run.scene.server))
    await run.be_ruled(run.client)
    await run.be_followed()
    run.begin()
    await run.client.close()


async def asks_to_step_down(run: Run) -> None:
    await run.be_ruled(run.scene.rivals[0])
    await run.be_followed()
    run.begin()
    await aioelect.step_down(run.client, run.path)


async def asks_to_hand_over(run: Run) -> None:
    await run.be_ruled(run.scene.rivals[0])
    await run.be_followed()
    run.begin()
    await aioelect.hand_over(run.client, run.path, "follower")


async def is_asked_to_hand_over(run: Run) -> None:
    with contextlib.suppress(aioelect.LeadershipLost):
        async with run.leadership():
            await run.be_followed()
            run.begin()
            asking = asyncio.create_task(aioelect.hand_over(run.scene.rivals[0], run.path, "follower"))
            run.stack.push_async_callback(asyncio.wait, [asking])
            try:
                await asyncio.Event().wait()
            finally:
                await turns(3)


async def waits_out_a_handover_delay(run: Run) -> None:
    (rival, _) = run.scene.rivals
    await run.be_ruled(rival, handover_delay=0.0001)
    run.begin()
    run.scene.server.expire(rival.session.session_id or 0)
    async with run.leadership(handover_delay=0.0001):
        await turns(2)


async def observes(run: Run) -> None:
    (first,) = await run.go_ahead(1)
    run.begin()
    async with aioelect.observe(run.client, run.path) as standings:
        async for standing in standings:
            if standing.leader is None:
                break
            first.task.cancel()


async def looks(run: Run) -> None:
    await run.go_ahead(2)
    run.begin()
    await aioelect.get_standing(run.client, run.path)


# The suite

VICTIMS: dict[Victim, tuple[int, int]] = {
    enters_alone: (6, 30),
    waits_as_second: (6, 20),
    waits_as_third: (7, 30),
    leads: (4, 10),
    leads_on_a_client_of_its_own: (8, 45),
    leads_two_elections: (10, 55),
    drains_after_a_loss: (5, 6),
    drains_after_an_expiry: (5, 12),
    resigns: (5, 10),
    has_no_time: (3, 15),
    enters_as_candidate: (1, 10),
    waits_as_candidate: (2, 8),
    withdraws: (1, 6),
    awaits_its_loss: (1, 3),
    campaigns: (16, 70),
    writes: (8, 20),
    creates: (1, 4),
    connects: (6, 25),
    closes: (1, 15),
    asks_to_step_down: (9, 30),
    asks_to_hand_over: (11, 30),
    is_asked_to_hand_over: (5, 20),
    waits_out_a_handover_delay: (6, 35),
    observes: (4, 12),
    looks: (2, 6),
}
"""The least number of awaits, and of turns, that a run without a cancellation has: a sweep must not miss its victim."""

ALL = pytest.mark.parametrize("victim", VICTIMS)


@ALL
@pytest.mark.parametrize("how", [by_task, by_timeout, by_scope, by_sibling])
async def test_at_every_await(victim: Victim, how: How) -> None:
    async with set_scene() as scene:
        assert await sweep(scene, victim, how) >= VICTIMS[victim][0]


@ALL
@pytest.mark.parametrize("how", [by_task, by_scope])
async def test_at_every_turn(victim: Victim, how: How) -> None:
    async with set_scene() as scene:
        assert await sweep(scene, victim, how, by_turns=True) >= VICTIMS[victim][1]


@ALL
async def test_twice_at_every_two_awaits(victim: Victim) -> None:
    async with set_scene() as scene:
        assert await sweep(scene, victim, gaps=range(1, 100)) >= VICTIMS[victim][0]


@ALL
async def test_twice_within_some_turns(victim: Victim) -> None:
    async with set_scene() as scene:
        assert await sweep(scene, victim, by_turns=True, gaps=GAPS) >= VICTIMS[victim][1]


TROUBLED = pytest.mark.parametrize("victim", [victim for victim in VICTIMS if victim is not creates])
"""Not aiozk's create: it can't find a znode again whose making nobody has confirmed."""

TROUBLES = pytest.mark.parametrize("trouble", [Run.lose_answers, Run.lose_requests])


@TROUBLED
@TROUBLES
async def test_at_every_await_after_the_connection_broke_at_another(victim: Victim, trouble: Trouble) -> None:
    async with set_scene() as scene:
        assert await sweep(scene, victim, trouble=trouble, gaps=range(100)) >= VICTIMS[victim][0]


@TROUBLED
@TROUBLES
async def test_four_turns_after_the_connection_broke_at_any(victim: Victim, trouble: Trouble) -> None:
    async with set_scene() as scene:
        assert await sweep(scene, victim, by_turns=True, trouble=trouble, gaps=[4]) >= VICTIMS[victim][1]


@pytest.mark.parametrize("victim", [enters_alone, waits_as_second, leads, resigns, withdraws, writes, creates])
async def test_while_the_server_is_silent(victim: Victim) -> None:
    """What is not done within the bound of a clean-up is done later."""
    async with set_scene() as scene:
        with mock.patch.object(finish, "__defaults__", (0.02,)), mock.patch.object(candidate, "BOUND", 0.02):
            assert await sweep(scene, victim, trouble=Run.lose_time, gaps=[0]) >= VICTIMS[victim][0]
            assert await sweep(scene, victim, by_turns=True, trouble=Run.lose_time, gaps=[0]) >= VICTIMS[victim][1]


# The suite can fail


async def _nothing(*_: object) -> None: ...


async def _unshielded(work: Coroutine[Any, Any, object] | asyncio.Future[Any], bound: float | None = None) -> bool:
    await asyncio.ensure_future(work)
    return True


def _stay(self: Any) -> None: ...


def _swallow(self: Any, *failure: Any) -> bool:
    _exit(self, *failure)
    return True


_exit = _Body.end


@pytest.mark.parametrize(
    ("target", "name", "mutant", "victim", "by_turns", "complaint"),
    [
        pytest.param(Folder, "_hunt", _nothing, enters_alone, True, "ghosts", id="no hunt for what a create has made"),
        pytest.param(
            candidate, "finish", _unshielded, leads, False, "watch_callbacks", id="withdrawal is not shielded"
        ),
        pytest.param(Lookout, "forget_own", _stay, leads, False, "watch_callbacks", id="own watch stays"),
        pytest.param(Lookout, "forget_predecessor", _stay, waits_as_second, False, "watch_callbacks", id="watch stays"),
        pytest.param(_Body, "end", _swallow, leads, False, "swallowed", id="cancellation is swallowed"),
    ],
)
async def test_mutant_is_caught(
    target: Any, name: str, mutant: Any, victim: Victim, by_turns: bool, complaint: str
) -> None:
    async with set_scene(patience=0.3) as scene:
        with mock.patch.object(target, name, mutant), pytest.raises(AssertionError, match=complaint) as caught:
            await sweep(scene, victim, by_turns=by_turns)
        assert caught.value.__notes__[0].startswith("CANCEL_AT=")
