"""``campaign()``: work for each term won, until the work ends by itself."""

import asyncio
import random

import pytest

import aioelect
from aioelect import LossReason, events
from aioelect.ports import World
from aioelect.testing.embedded import EmbeddedServer
from tests import elections
from tests.elections import Connect, Contending, T, Tape, eventually, expire, queue, soon

admin, client, connect = elections.admin, elections.client, elections.connect
embedded, hosts, intercept = elections.embedded, elections.hosts, elections.intercept


async def forever() -> None:
    await asyncio.Event().wait()


async def test_result_of_the_work(client: aioelect.Client, admin: aioelect.Client, path: str) -> None:
    async def work(leader: aioelect.Leader) -> int:
        assert leader.is_leader
        return leader.token

    assert await aioelect.campaign(client, path, work) is not None
    assert await queue(admin, path) == []


async def test_hosts_string_gives_a_client_for_the_campaign_alone(hosts: str, path: str) -> None:
    async def work(leader: aioelect.Leader) -> str:
        return leader.identity

    assert await aioelect.campaign(hosts, path, work, identity="me") == "me"


@pytest.mark.parametrize("cause", [LossReason.SESSION_EXPIRED, LossReason.NODE_DELETED])
async def test_contends_again_after_a_loss(
    client: aioelect.Client, admin: aioelect.Client, path: str, cause: LossReason
) -> None:
    tokens: list[int] = []
    sessions: list[int | None] = []
    tape = Tape()
    striking: set[asyncio.Task[None]] = set()

    async def work(leader: aioelect.Leader) -> str:
        tokens.append(leader.token)
        sessions.append(client.session.session_id)
        if len(tokens) < 3:
            strike = expire(client) if cause is LossReason.SESSION_EXPIRED else admin.delete(leader.path, force=True)
            striking.add(asyncio.create_task(strike))
            await forever()
        return "third time"

    assert await soon(aioelect.campaign(client, path, work, on_event=tape)) == "third time"
    assert tokens == sorted(set(tokens))
    assert len(set(sessions)) == (3 if cause is LossReason.SESSION_EXPIRED else 1)
    assert [event.reason for event in tape.of(events.Lost)] == [cause] * 2
    assert await queue(admin, path) == []


async def test_contends_again_with_a_random_pause(embedded: EmbeddedServer) -> None:
    class Dice(random.Random):
        def uniform(self, a: float, b: float) -> float:
            drawn.append((a, b))
            return 0.0

    drawn: list[tuple[float, float]] = []
    terms = 0

    async def work(leader: aioelect.Leader) -> None:
        nonlocal terms
        terms += 1
        if terms == 1:
            embedded.expire(client.session.session_id or 0)
            await forever()

    async with aioelect.connect(embedded.hosts, session_timeout=T, world=World(random=Dice())) as client:
        await soon(aioelect.campaign(client, "/election", work))
    assert terms == 2
    assert (0, 0.5) in drawn


async def test_work_that_returned_after_the_loss_is_done_again(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    results: list[int] = []

    async def work(leader: aioelect.Leader) -> int:
        results.append(len(results))
        if len(results) == 1:
            await admin.delete(leader.path, force=True)
            with pytest.raises(asyncio.CancelledError):
                await forever()
        return results[-1]

    assert await soon(aioelect.campaign(client, path, work)) == 1


async def test_error_of_the_work_ends_the_campaign_as_itself(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    mine = ValueError("mine")

    async def work(leader: aioelect.Leader) -> None:
        raise mine

    with pytest.raises(ValueError, match="mine") as raised:
        await aioelect.campaign(client, path, work)
    assert raised.value is mine
    assert await queue(admin, path) == []


async def test_resignation_ends_the_campaign_without_a_result(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    async def work(leader: aioelect.Leader) -> str:
        leader.resign()
        await forever()
        return "not reached"

    assert await soon(aioelect.campaign(client, path, work)) is None
    assert await queue(admin, path) == []


async def test_loss_of_another_election_in_the_work_is_the_works_error(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    async def inner(leader: aioelect.Leader) -> None:
        async with aioelect.leadership(client, f"{path}/inner") as other:
            await admin.delete(other.path, force=True)
            await forever()

    with pytest.raises(aioelect.LeadershipLost) as lost:
        await soon(aioelect.campaign(client, path, inner))
    assert lost.value.election == f"{path}/inner"


async def test_closing_the_client_ends_the_campaign(connect: Connect, path: str) -> None:
    client = await connect()
    closing = []

    async def work(leader: aioelect.Leader) -> None:
        closing.append(asyncio.create_task(client.close()))
        await forever()

    with pytest.raises(aioelect.LeadershipLost) as lost:
        await soon(aioelect.campaign(client, path, work))
    assert lost.value.reason is LossReason.CLIENT_CLOSED
    await soon(closing[0])


@pytest.mark.parametrize("leading", [False, True], ids=["waiting", "leading"])
async def test_outer_cancellation(client: aioelect.Client, admin: aioelect.Client, path: str, leading: bool) -> None:
    rival = None if leading else Contending(admin, path, "rival")
    if rival is not None:
        await rival.elected()
    tape = Tape()
    running = asyncio.create_task(aioelect.campaign(client, path, lambda leader: forever(), on_event=tape))
    await tape.wait(events.Elected if leading else events.NextInLine)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(await queue(admin, path)) == (0 if leading else 1)
    if rival is not None:
        await rival.leave()


async def test_campaigners_take_turns(connect: Connect, admin: aioelect.Client, path: str) -> None:
    """Whoever loses queues behind who waits."""
    terms: list[str] = []
    enough = asyncio.Event()
    clients = [await connect() for _ in range(2)]

    async def rival_waits(identity: str) -> bool:
        standing = await aioelect.get_standing(admin, path)
        return any(contender.identity != identity for contender in standing.contenders)

    async def work(leader: aioelect.Leader) -> None:
        terms.append(leader.identity)
        if len(terms) == 4:
            enough.set()
        await eventually(lambda: rival_waits(leader.identity))
        await expire(clients[int(leader.identity)])
        await forever()

    running = [
        asyncio.create_task(aioelect.campaign(client, path, work, identity=str(number)))
        for number, client in enumerate(clients)
    ]
    await soon(enough.wait())
    for task in running:
        task.cancel()
    await soon(asyncio.wait(running))
    assert terms[:4] in (["0", "1", "0", "1"], ["1", "0", "1", "0"])


def test_work_must_be_callable() -> None:
    with pytest.raises(TypeError, match="'work'"):
        aioelect.campaign("127.0.0.1:1", "/election", "work")  # type: ignore[arg-type,unused-coroutine]
