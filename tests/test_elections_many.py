"""Many elections on one client."""

import asyncio
import gc
import time
import tracemalloc

import pytest

import aioelect
from aioelect import Candidate, LossReason, events
from aioelect.testing.proxy import Request
from aioelect.testing.zookeeper import ZooKeeperServer
from tests import elections
from tests.elections import MULTI, Connect, Intercept, Tape, contending, eventually, expire, is_settled, queue, soon

admin, client, connect = elections.admin, elections.client, elections.connect
embedded, hosts, intercept = elections.embedded, elections.hosts, elections.intercept


async def test_elections_on_one_client_are_independent(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    async with (
        aioelect.leadership(client, f"{path}/a") as a,
        aioelect.leadership(client, f"{path}/b") as b,
        contending([admin], f"{path}/c") as (c,),
    ):
        await c.elected()
        waiting = await Candidate.enter(client, f"{path}/c")
        assert await waiting.wait_placed() == 1
        await c.leave()
        leader = await soon(waiting.wait_elected())
        await waiting.withdraw()
        assert not leader.is_leader
        assert a.is_leader
        assert b.is_leader


async def test_losing_one_znode_of_many_ends_that_term_alone(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    """The renewals must not hang on the znode that was the first."""
    tapes = [Tape() for _ in range(3)]
    candidates = [await Candidate.enter(client, f"{path}/{number}", on_event=tape) for number, tape in enumerate(tapes)]
    leaders = [await soon(candidate.wait_elected()) for candidate in candidates]
    await admin.delete(leaders[0].path, force=True)
    assert await soon(leaders[0].lost()) is LossReason.NODE_DELETED
    seen = len(tapes[1].of(events.Renewed))
    renewals = round(2 * client.session.timing.session_timeout / client.session.timing.renew_every)
    await tapes[1].wait(events.Renewed, seen + renewals)
    assert [leader.is_leader for leader in leaders] == [False, True, True]
    for candidate in candidates:
        await candidate.withdraw()


async def test_lost_session_ends_all_terms(client: aioelect.Client, path: str) -> None:
    candidates = [await Candidate.enter(client, f"{path}/{number}") for number in range(3)]
    leaders = [await soon(candidate.wait_elected()) for candidate in candidates]
    await expire(client)
    reasons = await soon(asyncio.gather(*(leader.lost() for leader in leaders)))
    assert reasons == [LossReason.SESSION_EXPIRED] * 3
    for candidate in candidates:
        await candidate.withdraw()


@pytest.mark.timeout(120)
async def test_thousand_elections_on_one_client(
    intercept: Intercept, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    proxy = await intercept()
    client = await connect(proxy.hosts, session_timeout=4.0)
    tape = Tape()
    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        entering = [
            group.create_task(Candidate.enter(client, f"{path}/{number}", on_event=None if number else tape))
            for number in range(1_000)
        ]
    candidates = [task.result() for task in entering]
    leaders = [await soon(candidate.wait_elected()) for candidate in candidates]
    assert len({leader.token for leader in leaders}) == 1_000

    renewed, sent = len(tape.of(events.Renewed)), count(proxy.requests)
    await tape.wait(events.Renewed, renewed + 5)
    assert count(proxy.requests) - sent <= 7
    assert all(leader.is_leader for leader in leaders)

    async with asyncio.TaskGroup() as group:
        for candidate in candidates:
            group.create_task(candidate.withdraw())
    assert time.monotonic() - begun < 40
    assert not any(leader.is_leader for leader in leaders)
    assert not client.dependents
    assert not client.session.watch_callbacks
    await eventually(lambda: len(client.janitor) == 0)
    assert [await queue(admin, f"{path}/{number}") for number in range(0, 1_000, 100)] == [[]] * 10


async def test_an_election_that_is_led_keeps_no_task_and_little_memory(zookeeper: ZooKeeperServer, path: str) -> None:
    async with aioelect.connect(zookeeper.hosts, session_timeout=4.0) as client:
        candidates = await lead(client, f"{path}/first", 1)  # what is loaded for it is not its own
        before = tasks()
        tracemalloc.start()
        try:
            candidates += await lead(client, f"{path}/others", 100)
            assert tasks() - before < 10
            taken = tracemalloc.get_traced_memory()[0] / 100
        finally:
            tracemalloc.stop()
            await asyncio.gather(*(candidate.withdraw() for candidate in candidates))
        assert taken < 9_000, "it took 7,500 bytes with CPython 3.11"


async def lead(client: aioelect.Client, path: str, number: int) -> list[Candidate]:
    """That many elections, with nothing under way any more."""
    entering = (Candidate.enter(client, f"{path}/{each}") for each in range(number))
    candidates = await soon(asyncio.gather(*entering))
    await soon(asyncio.gather(*(candidate.wait_elected() for candidate in candidates)))
    await eventually(lambda: is_settled(client))
    return candidates


def tasks() -> int:
    """How many there are, done or not."""
    gc.collect()
    return sum(isinstance(each, asyncio.Task) for each in gc.get_objects())


def count(requests: list[Request]) -> int:
    return sum(request.opcode == MULTI for request in requests)
