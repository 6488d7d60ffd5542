"""``step_down()`` and ``hand_over()``: a leader is asked, ends its body, and who was chosen leads."""

import asyncio
import contextlib

import pytest

import aioelect
from aioelect import LossReason, events
from aioelect.control import Request
from tests import elections
from tests.elections import Connect, Contending, Intercept, contending, eventually, knows_requests, queue, soon

admin, client, connect = elections.admin, elections.client, elections.connect
embedded, hosts, intercept = elections.embedded, elections.hosts, elections.intercept


async def pending(admin: aioelect.Client, path: str) -> list[str]:
    """The requests that stand."""
    with contextlib.suppress(aioelect.errors.ZooKeeperError):
        return await admin.get_children(f"{path}-control")
    return []


async def ask(admin: aioelect.Client, path: str, request: Request) -> None:
    """A request that nobody takes back while ``admin`` lives."""
    await admin.ensure_path(f"{path}-control")
    await admin.create(f"{path}-control/{request.prefix}", b"", ephemeral=True, sequential=True)


async def three(connect: Connect) -> list[aioelect.Client]:
    return [await connect() for _ in range(3)]


# Stepping down


async def test_the_leader_steps_down_and_the_next_in_line_leads(
    connect: Connect, admin: aioelect.Client, path: str
) -> None:
    async with contending(await three(connect), path) as (first, second, third):
        await first.elected()
        new = await soon(aioelect.step_down(admin, path))
        assert new is not None
        assert new.identity == second.identity
        assert await first.lost() is LossReason.STEP_DOWN_REQUESTED
        assert (await second.elected()).token == new.token
        assert not third.leads
        assert await pending(admin, path) == []


async def test_the_znode_goes_only_after_the_body_has_ended(
    connect: Connect, admin: aioelect.Client, path: str
) -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    async def body() -> None:
        async with aioelect.leadership(await connect(), path, drain=0.5):
            try:
                began.set()
                await asyncio.Event().wait()
            finally:
                await may_end.wait()

    leading = asyncio.create_task(body())
    await soon(began.wait())
    names = await queue(admin, path)
    asking = asyncio.ensure_future(aioelect.step_down(admin, path))
    await eventually(lambda: leading.cancelling() > 0)
    assert await queue(admin, path) == names
    assert not asking.done()
    may_end.set()
    assert await soon(asking) is None
    with pytest.raises(aioelect.LeadershipLost):
        await leading


async def test_a_campaign_contends_again_behind_the_others(
    connect: Connect, client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    terms: list[int] = []

    async def work(leader: aioelect.Leader) -> None:
        terms.append(leader.token)
        await asyncio.Event().wait()

    campaigning = asyncio.ensure_future(aioelect.campaign(client, path, work))
    await eventually(lambda: len(terms) == 1)
    other = Contending(await connect(), path, "other")
    await other.queued(position=1)
    await soon(aioelect.step_down(admin, path))
    await other.elected()
    await eventually(lambda: _length(admin, path, 2))
    await soon(aioelect.step_down(admin, path))
    await eventually(lambda: len(terms) == 2)
    campaigning.cancel()
    await asyncio.wait([campaigning])
    await other.leave()


async def _length(admin: aioelect.Client, path: str, length: int) -> bool:
    return len(await queue(admin, path)) == length


async def test_a_request_that_names_another_token_does_nothing(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    async with aioelect.leadership(client, path) as leader:
        await ask(admin, path, Request(leader.token - 1))
        await ask(admin, path, Request(leader.token + 1, "n_0000000000"))
        await admin.create(f"{path}-control/n_0000000007")
        await admin.create(f"{path}-control/step-down-now-0000000001")
        await eventually(lambda: knows_requests(client))
        leader.check()


async def test_a_leader_misses_no_request_of_many_that_come_while_it_reads_others(
    connect: Connect, admin: aioelect.Client, path: str
) -> None:
    contender = Contending(await connect(), path, "busy")
    leader = await contender.elected()
    requests = [*map(Request, range(1, 50)), Request(leader.token)]
    await admin.create(f"{path}-control")
    await asyncio.gather(*(ask(admin, path, request) for request in requests))
    assert await contender.lost() is LossReason.STEP_DOWN_REQUESTED


async def test_a_leader_learns_what_was_asked_while_it_was_disconnected(
    connect: Connect, intercept: Intercept, admin: aioelect.Client, path: str
) -> None:
    proxy = await intercept()
    contender = Contending(await connect(proxy.hosts, session_timeout=4.0), path, "cut")
    leader = await contender.elected()
    await eventually(lambda: leader.remaining() > 2.0)
    proxy.reset()
    await ask(admin, path, Request(leader.token))
    assert await contender.lost() is LossReason.STEP_DOWN_REQUESTED


async def test_a_leader_that_can_not_hear_is_reported_and_the_request_taken_back(
    connect: Connect, intercept: Intercept, admin: aioelect.Client, path: str
) -> None:
    proxy = await intercept()
    contender = Contending(await connect(proxy.hosts, session_timeout=4.0), path, "deaf")
    await contender.elected()
    proxy.freeze()
    with pytest.raises(aioelect.SwitchoverTimeout, match=r"'deaf' did not hand over .* within 0.3 s"):
        await aioelect.step_down(admin, path, timeout=0.3)
    assert await pending(admin, path) == []
    proxy.thaw()
    await contender.leave()


async def test_asking_where_nobody_leads_is_an_error_that_says_so(admin: aioelect.Client, path: str) -> None:
    with pytest.raises(aioelect.NoLeader, match=f"nobody contends for {path}"):
        await aioelect.step_down(admin, path)


async def test_bad_arguments_are_refused_at_the_call(admin: aioelect.Client) -> None:
    with pytest.raises(ValueError, match="must start with '/'"):
        await aioelect.step_down(admin, "election")
    with pytest.raises(TypeError, match="42"):
        await aioelect.step_down(42, "/election")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 to 1024 characters"):
        await aioelect.hand_over(admin, "/election", "")


async def test_a_hosts_string_is_enough(connect: Connect, hosts: str, path: str) -> None:
    contender = Contending(await connect(), path, "alone")
    await contender.elected()
    assert await soon(aioelect.step_down(hosts, path)) is None
    assert await contender.lost() is LossReason.STEP_DOWN_REQUESTED


# Handing over


async def test_who_was_chosen_leads_and_those_before_it_give_way(
    connect: Connect, admin: aioelect.Client, path: str
) -> None:
    async with contending(await three(connect), path) as (first, second, third):
        await first.elected()
        new = await soon(aioelect.hand_over(admin, path, third.identity))
        assert new is not None
        assert new.identity == third.identity
        assert (await third.elected()).token == new.token
        assert await first.lost() is LossReason.STEP_DOWN_REQUESTED
        assert not second.leads
        gave_way = await second.tape.wait(events.Lost)
        assert gave_way.reason is LossReason.STEP_DOWN_REQUESTED
        await second.tape.wait(events.Queued, where=lambda event: event.token > new.token)
        assert await pending(admin, path) == []
        await third.leave()
        await second.elected()


async def test_the_next_in_line_is_as_good_as_any(connect: Connect, admin: aioelect.Client, path: str) -> None:
    async with contending(await three(connect), path) as (first, second, third):
        await first.elected()
        standing = await aioelect.get_standing(admin, path)
        new = await soon(aioelect.hand_over(admin, path, standing.contenders[1]))
        assert new == standing.contenders[1]
        assert (await second.elected()).token == standing.contenders[1].token
        assert not third.leads


async def test_handing_over_to_the_leader_does_nothing(connect: Connect, admin: aioelect.Client, path: str) -> None:
    async with contending(await three(connect), path) as (first, *_):
        leader = await first.elected()
        new = await soon(aioelect.hand_over(admin, path, first.identity))
        assert new is not None
        assert new.token == leader.token
        leader.check()


async def test_who_is_not_in_the_queue_can_not_be_chosen(connect: Connect, admin: aioelect.Client, path: str) -> None:
    async with contending(await three(connect), path) as (first, *_):
        leader = await first.elected()
        with pytest.raises(aioelect.NotContending, match=r"'c7' does not contend for .*: 'c0', 'c1', 'c2'"):
            await aioelect.hand_over(admin, path, "c7")
        leader.check()


async def test_a_leader_does_not_step_down_for_somebody_who_has_left(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    async with aioelect.leadership(client, path) as leader:
        await ask(admin, path, Request(leader.token, "n_0000000099"))
        await eventually(lambda: knows_requests(client))
        leader.check()
        assert leader.remaining() > 0


async def test_when_the_chosen_one_leaves_the_others_lead(connect: Connect, admin: aioelect.Client, path: str) -> None:
    """Though the request still stands."""
    async with contending(await three(connect), path) as (first, second, third):
        leader = await first.elected()
        await ask(admin, path, Request(leader.token, (await queue(admin, path))[2]))
        await third.elected()
        await second.queued(position=1)
        await third.leave()
        await second.elected()
        assert len(await pending(admin, path)) == 1


async def test_a_hand_over_that_was_given_up_binds_nobody(connect: Connect, admin: aioelect.Client, path: str) -> None:
    async with contending(await three(connect), path) as (first, second, third):
        await first.elected()
        asking = asyncio.ensure_future(aioelect.hand_over(admin, path, third.identity))
        asking.cancel()
        await asyncio.wait([asking])
        assert await pending(admin, path) == []
        await first.leave()
        winner = await soon(_first_of(second, third))
        assert winner.leader is not None


async def _first_of(*contenders: Contending) -> Contending:
    while True:
        for contender in contenders:
            if contender.leads:
                return contender
        await asyncio.sleep(0.005)


# What it costs


async def test_only_the_leader_and_the_next_in_line_watch_for_requests(connect: Connect, path: str) -> None:
    clients = await three(connect)
    async with contending(clients, path) as (first, *_):
        await first.elected()
        assert [_watches(client) for client in clients] == [True, True, False]
    assert not any(_watches(client) for client in clients)


def _watches(client: aioelect.Client) -> bool:
    return any(where.endswith("-control") for _, where in client.session.watch_callbacks)


@pytest.mark.parametrize("request_", [Request(7), Request(2**63 - 1, "n_0000000012"), Request(1, "n_2147483647")])
def test_the_name_of_a_request_says_it_all(request_: Request) -> None:
    assert Request.parse(f"{request_.prefix}0000000003") == request_


@pytest.mark.parametrize(
    "name", ["", "none", "step-down-7-0000000001", "step-down-" + "0" * 16, "hand-over-x-0000000001"]
)
def test_other_names_are_no_requests(name: str) -> None:
    assert Request.parse(name) is None
