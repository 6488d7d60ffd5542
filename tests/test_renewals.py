"""The stream of renewals: who renews, how often, and what it takes to stop."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiozk import ACL

import aioelect
from aioelect import Candidate, LossReason, events
from aioelect.testing import jute
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.proxy import FaultProxy
from tests import elections, refusals
from tests.elections import MULTI, Connect, Intercept, T, Tape, contending, eventually, expire, soon

admin, client, connect = elections.admin, elections.client, elections.connect
embedded, hosts, intercept = elections.embedded, elections.hosts, elections.intercept
refuse = refusals.refuse


@pytest.fixture
async def proxy(intercept: Intercept) -> AsyncIterator[FaultProxy]:
    """In front of the client that leads."""
    proxy: FaultProxy = await intercept()
    yield proxy
    proxy.heal()


def renewals(proxy: FaultProxy) -> int:
    return sum(request.opcode == MULTI for request in proxy.requests)


def remaining(client: aioelect.Client) -> float:
    return client.session.lease.remaining(client.session.world.clock())


async def test_leader_renews_as_often_as_it_says(proxy: FaultProxy, connect: Connect, path: str) -> None:
    client, tape = await connect(proxy.hosts), Tape()
    async with aioelect.leadership(client, path, on_event=tape) as leader:
        await eventually(lambda: client.session.timing.tick_time == pytest.approx(0.2))
        timing = client.session.timing
        assert timing.renew_every == pytest.approx(T / 10)
        await tape.wait(events.Renewed)
        proxy.requests.clear()
        begun = time.monotonic()
        seen = len(tape.of(events.Renewed))
        await tape.wait(events.Renewed, seen + 5)
        assert 5 <= renewals(proxy) <= (time.monotonic() - begun) / timing.renew_every + 2
        assert leader.remaining() > timing.drain + timing.ride_out / 2
        for event in tape.of(events.Renewed):
            assert 0 < event.remaining <= T
            assert event.token == leader.token


async def test_next_in_line_renews_and_those_behind_do_not(intercept: Intercept, connect: Connect, path: str) -> None:
    proxies = [await intercept() for _ in range(3)]
    async with contending([await connect(proxy.hosts) for proxy in proxies], path) as contenders:
        await contenders[0].tape.wait(events.Renewed, 5)
        await eventually(lambda: renewals(proxies[1]) >= 3)
        assert renewals(proxies[2]) == 0


async def test_stream_ends_with_the_last_who_needs_it(proxy: FaultProxy, connect: Connect, path: str) -> None:
    client = await connect(proxy.hosts)
    for _ in range(2):
        async with aioelect.leadership(client, path):
            await eventually(lambda: renewals(proxy) > 0)
        assert client.renewals._timer is None
        proxy.requests.clear()
        assert await client.exists("/")
        assert renewals(proxy) == 0


async def test_leaders_without_a_handler_are_not_told_of_proofs_and_stay_proven(connect: Connect, path: str) -> None:
    client, tape = await connect(), Tape()
    quiet = [await Candidate.enter(client, f"{path}/{number}") for number in range(3)]
    leaders = [await soon(candidate.wait_elected()) for candidate in quiet]
    async with aioelect.leadership(client, f"{path}/told", on_event=tape):
        told = client.renewals._told
        await eventually(lambda: len(told) == 1)
        begun, seen = time.monotonic(), len(tape.of(events.Renewed))
        while time.monotonic() < begun + 1.5 * client.session.timing.session_timeout:
            seen += 1
            await tape.wait(events.Renewed, seen)
            assert all(leader.is_leader for leader in leaders)
        assert len(told) == 1
    assert not any(leader._reason for leader in leaders)
    for candidate in quiet:
        await candidate.withdraw()
    assert not told


async def test_refused_renewal_passes_to_the_next_znode_at_once(proxy: FaultProxy, connect: Connect, path: str) -> None:
    """Its own znode may be withdrawn while a renewal with it is under way."""
    client, tape = await connect(proxy.hosts), Tape()
    first = await Candidate.enter(client, f"{path}/first")
    await soon(first.wait_elected())
    async with aioelect.leadership(client, f"{path}/second", on_event=tape) as leader:
        await tape.wait(events.Renewed, 2)
        proxy.requests.clear()
        client.renewals.keep("/no/such/znode", None, lambda: False)
        client.renewals._keepers = {"/no/such/znode": None, **client.renewals._keepers}
        await eventually(lambda: renewals(proxy) >= 2)
        refused, repeated = [request.time for request in proxy.requests if request.opcode == MULTI][:2]
        assert repeated - refused < client.session.timing.renew_every / 2
        client.renewals.release("/no/such/znode")
        seen = len(tape.of(events.Renewed))
        await tape.wait(events.Renewed, seen + 1)
        assert leader.is_leader
    await first.withdraw()


async def test_znode_that_may_not_be_read_any_more_costs_no_other_election_its_proof(
    proxy: FaultProxy, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    client, tape = await connect(proxy.hosts), Tape()
    first = await Candidate.enter(client, f"{path}/first")
    leader = await soon(first.wait_elected())
    async with aioelect.leadership(client, f"{path}/second", on_event=tape) as second:
        await admin.set_acl(leader.path, [ACL.make("world", "anyone", admin=True)], force=True)
        seen = len(tape.of(events.Renewed))
        await tape.wait(events.Renewed, seen + 3)
        assert second.is_leader
    await first.withdraw()


async def test_znodes_that_may_not_be_read_are_renewed_with_no_more_often_than_others(
    proxy: FaultProxy, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    client = await connect(proxy.hosts, session_timeout=4.0)
    candidates = [await Candidate.enter(client, f"{path}/{number}") for number in range(2)]
    leaders = [await soon(candidate.wait_elected()) for candidate in candidates]
    for leader in leaders:
        await admin.set_acl(leader.path, [ACL.make("world", "anyone", admin=True)], force=True)
    await eventually(lambda: client.session.timing.tick_time == pytest.approx(0.2))
    begun, before = time.monotonic(), renewals(proxy)
    await eventually(lambda: renewals(proxy) >= before + 4)
    assert time.monotonic() - begun > 2 * client.session.timing.renew_every
    for candidate in candidates:
        await candidate.withdraw()


async def test_renewal_that_fails_when_nobody_waits_for_it_any_more_is_no_error_that_nobody_has_seen(
    embedded: EmbeddedServer, refuse: refusals.Refuse, path: str
) -> None:
    unseen: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    async with aioelect.connect(embedded.hosts, session_timeout=4.0, renew_every=0.5, tick_time=0.2) as client:
        candidate = await Candidate.enter(client, path)
        await soon(candidate.wait_elected())
        refused = refuse(jute.Multi, refusals.THROTTLED)
        client.renewals._renew()
        (own,) = client.renewals._keepers
        client.renewals.release(own)
        await eventually(lambda: len(refused) == 1)
        assert await client.exists(path)  # asked, and so answered, after the renewal
        gc.collect()
        await candidate.withdraw()
    assert not unseen


async def test_tick_of_the_server_is_learned_off_the_critical_path(connect: Connect, path: str) -> None:
    client = await connect()
    assert client.session.timing.tick_time == pytest.approx(T / 2)
    async with aioelect.leadership(client, path):
        await eventually(lambda: client.session.timing.tick_time == pytest.approx(0.2))
        assert client.session.lease.tick == pytest.approx(0.2)


async def test_tick_that_the_user_states_is_not_asked_for(proxy: FaultProxy, connect: Connect, path: str) -> None:
    client, tape = await connect(proxy.hosts, tick_time=0.3), Tape()
    async with aioelect.leadership(client, path, on_event=tape):
        await tape.wait(events.Renewed, 3)
        assert client.session.timing.tick_time == pytest.approx(0.3)
        assert proxy.connections == 1


async def test_tick_that_cannot_be_learned_stays_at_its_bound(proxy: FaultProxy, connect: Connect, path: str) -> None:
    client, tape = await connect(proxy.hosts), Tape()
    proxy.refuse()
    async with aioelect.leadership(client, path, on_event=tape) as leader:
        await eventually(lambda: proxy.connections == 2)
        await tape.wait(events.Renewed, 3)
        assert leader.is_leader
        assert client.session.timing.tick_time == pytest.approx(T / 2)
        assert proxy.connections == 2, "it asks each server once"


async def test_tick_is_asked_for_again_when_the_question_was_broken_off(
    proxy: FaultProxy, connect: Connect, path: str
) -> None:
    client = await connect(proxy.hosts)
    proxy.freeze("up")  # holds new connections back
    proxy.thaw("up")
    async with aioelect.leadership(client, path):
        pass
    assert client.renewals._probe is None or not client.renewals._probe.done()
    async with aioelect.leadership(client, path):
        await eventually(lambda: client.session.timing.tick_time == pytest.approx(0.2))


async def test_idle_client_leads_by_its_last_ping_half_a_tick_later(connect: Connect, path: str) -> None:
    """Pings alone keep the session, and prove nothing; one of them and a renewal do, and after a lapse one more renewal."""
    client, tape = await connect(session_timeout=1.0), Tape()
    await eventually(lambda: remaining(client) == 0)
    async with aioelect.leadership(client, path, on_event=tape) as leader:
        assert leader.remaining() > client.session.timing.drain
        (queued,), (elected,) = tape.of(events.Queued), tape.of(events.Elected)
        assert elected.at - queued.at > 0.05, "a pair after a lapse is confirmed half a tick later"


async def test_cold_lease_is_warmed_before_anyone_leads(connect: Connect, path: str) -> None:
    client, tape = await connect(session_timeout=1.0), Tape()
    client.session.lease.ended()
    async with aioelect.leadership(client, path, on_event=tape) as leader:
        assert leader.remaining() > client.session.timing.drain
        (queued,), (elected,) = tape.of(events.Queued), tape.of(events.Elected)
        assert elected.at - queued.at > 0.2, "a pair needs a tick, and half a tick to be confirmed"


async def test_leader_rides_out_a_broken_connection(proxy: FaultProxy, connect: Connect, path: str) -> None:
    client, tape = await connect(proxy.hosts), Tape()
    async with aioelect.leadership(client, path, on_event=tape) as leader:
        await eventually(lambda: client.session.timing.tick_time == pytest.approx(0.2))
        for number in range(1, 4):
            proxy.sever()
            await tape.wait(events.Resumed, number)
            seen = len(tape.of(events.Renewed))
            await tape.wait(events.Renewed, seen + 1)
            assert leader.is_leader
        assert not tape.of(events.Losing)


async def test_leader_gives_a_silent_server_up_in_time_to_ride_it_out(
    proxy: FaultProxy, connect: Connect, path: str
) -> None:
    client, tape = await connect(proxy.hosts, session_timeout=4.0), Tape()
    async with aioelect.leadership(client, path, on_event=tape) as leader:
        await eventually(lambda: client.session.timing.tick_time == pytest.approx(0.2))
        await tape.wait(events.Renewed, 2)
        lost = proxy.lose_reply(MULTI, then="silence")
        await soon(lost.wait())
        await tape.wait(events.Resumed)
        assert leader.is_leader
        assert not tape.of(events.Losing)


async def test_loss_of_the_session_stops_the_stream_and_a_new_one_starts_it(
    proxy: FaultProxy, connect: Connect, path: str
) -> None:
    client = await connect(proxy.hosts)
    candidate = await Candidate.enter(client, path)
    leader = await soon(candidate.wait_elected())
    await expire(client)
    assert await soon(leader.lost()) is LossReason.SESSION_EXPIRED
    await candidate.withdraw()
    assert not client.renewals._keepers
    tape = Tape()
    async with aioelect.leadership(client, path, on_event=tape):
        await tape.wait(events.Renewed, 2)


async def test_closing_the_client_leaves_no_timer(connect: Connect, path: str) -> None:
    client = await connect()
    candidate = await Candidate.enter(client, path)
    await soon(candidate.wait_elected())
    await client.close()
    assert client.renewals._timer is None
    await candidate.withdraw()
    await asyncio.sleep(0)
    assert client.renewals._probe is None
