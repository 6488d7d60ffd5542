"""``leadership()``: who leads, who waits, who is woken, and what is left behind. On the embedded and on the real server."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import aioelect
from aioelect import events
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.proxy import FaultProxy
from tests import elections
from tests.elections import (
    CREATE,
    DELETE,
    GET_DATA,
    LIST,
    PATIENCE,
    Connect,
    Contending,
    Intercept,
    T,
    Tape,
    contending,
    eventually,
    expire,
    is_settled,
    queue,
    soon,
)

admin, client, connect = elections.admin, elections.client, elections.connect
embedded, hosts, intercept = elections.embedded, elections.hosts, elections.intercept

OTHER = f"candidate-{32 * '0'}-"
"""What the name of a contender of another library begins with."""

WORK = {GET_DATA, LIST, CREATE, DELETE}
"""What contenders ask the server beside renewals, pings, and looks ahead in place of pings."""


async def gone(client: aioelect.Client, path: str) -> None:
    """Waits until the election has no contender."""

    async def empty() -> bool:
        return await queue(client, path) == []

    await eventually(empty)


async def wipe(admin: aioelect.Client, path: str) -> None:
    """Deletes an election folder with all that is in it, at one stroke."""
    transaction = admin.begin_transaction()
    for name in await queue(admin, path):
        transaction.delete(f"{path}/{name}")
    transaction.delete(path)
    await transaction.commit()


# The queue


async def test_one_leads_and_the_others_follow_in_the_order_of_their_znodes(
    connect: Connect, admin: aioelect.Client, path: str
) -> None:
    clients = [await connect() for _ in range(4)]
    async with contending(clients, path) as contenders:
        tokens = []
        for number, contender in enumerate(contenders):
            leader = await contender.elected()
            tokens.append(leader.token)
            assert [c.leads for c in contenders] == [n == number for n in range(4)]
            standing = await aioelect.get_standing(admin, path)
            assert [c.identity for c in standing.contenders] == [f"c{n}" for n in range(number, 4)]
            assert standing.leader is not None
            assert (standing.leader.token, standing.leader.path) == (leader.token, leader.path)
            await contender.leave()
        assert tokens == sorted(set(tokens))
    await gone(admin, path)


async def test_leader_says_who_it_is(client: aioelect.Client, path: str) -> None:
    before = time.monotonic()
    async with aioelect.leadership(client, path, identity="me", data=b"10.0.0.7") as leader:
        assert (leader.identity, leader.election, leader.path) == ("me", path, f"{path}/n_0000000000")
        _, stat = await client.get(leader.path)
        assert leader.token == stat.created_zxid
        assert stat.ephemeral_owner == client.session.session_id
        assert before <= leader.since <= time.monotonic()
        assert leader.is_leader
        assert 0 < leader.remaining() <= client.session.timing.session_timeout
        leader.check()
        assert repr(leader) == f"<Leader 'me' of {path}, token {leader.token:#x}, leading>"
    assert not leader.is_leader
    assert leader.remaining() == 0


async def test_default_identities_tell_contenders_apart(client: aioelect.Client, path: str) -> None:
    async with aioelect.leadership(client, path) as one, aioelect.leadership(client, f"{path}/other") as other:
        assert one.identity != other.identity


@pytest.mark.parametrize("end", ["leaves", "dies"])
async def test_contender_that_goes_from_mid_queue_wakes_exactly_one(
    intercept: Intercept, connect: Connect, path: str, end: str
) -> None:
    proxies = [await intercept() for _ in range(5)]
    clients = [await connect(proxy.hosts) for proxy in proxies]
    async with contending(clients, path) as contenders:
        await eventually(lambda: all(map(is_settled, clients)))
        asked = [len(proxy.requests) for proxy in proxies]

        if end == "leaves":
            await contenders[2].leave()
        else:
            await clients[2].session.close()
        await contenders[3].queued(2)
        await eventually(lambda: is_settled(clients[3]))

        requests = [
            [request.opcode for request in proxy.requests[start:] if request.opcode in WORK]
            for proxy, start in zip(proxies, asked, strict=True)
        ]
        assert requests[3] == [LIST, GET_DATA]
        assert [requests[n] for n in (0, 1, 4)] == [[], [], []]
        assert contenders[0].leads


async def test_next_in_line_takes_over_without_asking_first(intercept: Intercept, connect: Connect, path: str) -> None:
    proxy = await intercept()
    clients = [await connect(), await connect(proxy.hosts)]
    async with contending(clients, path) as (first, second):
        await second.tape.wait(events.NextInLine)
        await eventually(lambda: clients[1].session.lease.remaining(clients[1].session.world.clock()) > 1)
        await eventually(lambda: is_settled(clients[1]))
        proxy.delay(0.3)  # had it to ask anything first, it would take longer than that
        await first.leave()
        await second.elected()
        (elected,) = second.tape.of(events.Elected)
        assert elected.at - elected.trigger < 0.2
        proxy.heal()


# The folder


async def test_who_moves_up_to_the_second_place_learns_that_it_is_next_and_warms_its_lease(
    connect: Connect, path: str
) -> None:
    """No watch tells: it looks in place of an idle ping."""
    async with contending([await connect(session_timeout=1.0) for _ in range(4)], path) as (
        first,
        second,
        third,
        fourth,
    ):
        await first.elected()
        await first.leave()
        await second.elected()
        await third.tape.wait(events.NextInLine)
        assert [queued.position for queued in third.tape.of(events.Queued)] == [None, 1]
        assert not fourth.tape.of(events.NextInLine)
        await second.leave()
        await third.elected()
        await fourth.tape.wait(events.NextInLine)


async def test_path_that_never_existed_nested_below_others(client: aioelect.Client, path: str) -> None:
    async with aioelect.leadership(client, f"{path}/a/b/c") as leader:
        assert leader.path == f"{path}/a/b/c/n_0000000000"
        assert await client.get_children(f"{path}/a/b") == ["c"]


async def test_chroot(hosts: str, connect: Connect, admin: aioelect.Client, path: str) -> None:
    below = await connect(f"{hosts}{path}/app")
    async with aioelect.leadership(below, "/election", identity="below") as leader:
        assert leader.path == "/election/n_0000000000"
        assert await admin.get_children(f"{path}/app/election") == ["n_0000000000"]
        standing = await aioelect.get_standing(below, "/election")
        assert [c.path for c in standing.contenders] == [leader.path]


async def test_election_path_deleted_and_recreated_while_contenders_wait(
    connect: Connect, admin: aioelect.Client, path: str
) -> None:
    async with contending([await connect() for _ in range(3)], path) as (leader, following, waiter):
        await leader.elected()
        token = (await waiter.queued()).token
        await wipe(admin, path)
        await admin.create(path)
        with pytest.raises(aioelect.LeadershipLost) as lost:
            await soon(leader.task)
        assert lost.value.reason is aioelect.LossReason.NODE_DELETED

        again = await waiter.tape.wait(events.Queued, where=lambda event: event.token > token)
        assert [event.token for event in waiter.tape.of(events.Lost)] == [token]
        # Next in line may have heard of its predecessor's end first, and then have led until it heard of its own.
        await following.leave()
        assert (await waiter.elected()).token == again.token


async def test_container_parent_that_was_reaped(embedded: EmbeddedServer, path: str) -> None:
    tokens = []
    async with aioelect.connect(embedded.hosts, session_timeout=T) as client:
        for _ in range(2):
            async with aioelect.leadership(client, path) as leader:
                tokens.append(leader.token)
                assert leader.path == f"{path}/n_0000000000"
            assert path in embedded.reap_containers()
    assert tokens[0] < tokens[1]


async def test_election_path_is_a_container_that_the_server_reaps(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    """The real server of the tests looks for empty containers all the time."""
    async with aioelect.leadership(client, path):
        pass
    async with aioelect.leadership(client, path):
        pass
    await gone(admin, path)


# While waiting


async def test_waiter_that_loses_its_session_queues_again_on_a_new_one(
    connect: Connect, admin: aioelect.Client, path: str
) -> None:
    clients = [await connect(), await connect()]
    async with contending(clients, path) as (first, second):
        was = clients[1].session.session_id
        await expire(clients[1])
        await second.tape.wait(events.Queued, 2)
        lost = await second.tape.wait(events.Lost)
        assert lost.reason is aioelect.LossReason.SESSION_EXPIRED
        assert lost.token == second.tape.of(events.Queued)[0].token
        assert clients[1].session.session_id not in (was, None)
        assert len(await queue(admin, path)) == 2
        await first.leave()
        leader = await second.elected()
        assert leader.token == second.tape.of(events.Queued)[-1].token


async def test_waiter_whose_znode_was_deleted_queues_again(connect: Connect, admin: aioelect.Client, path: str) -> None:
    async with contending([await connect(), await connect()], path) as (first, second):
        await admin.delete((await second.queued()).path, force=True)
        await second.tape.wait(events.Queued, 2)
        assert (await second.tape.wait(events.Lost)).reason is aioelect.LossReason.NODE_DELETED
        await first.leave()
        await second.elected()


@asynccontextmanager
async def leader_and_waiter(
    intercept: Intercept, connect: Connect, path: str
) -> AsyncIterator[tuple[Contending, Contending, FaultProxy]]:
    """Who leads, and who has set both watches and waits for that, behind a proxy. Both are to lose their znodes: in the end the
    waiter leads by another one, and has never led by the first."""
    proxy = await intercept()
    client = await connect(proxy.hosts)
    async with contending([await connect(), client], path) as (leader, waiter):
        token = (await waiter.queued()).token
        await eventually(lambda: is_settled(client))
        yield leader, waiter, proxy
        assert (await waiter.elected()).token > token
        assert [event.token > token for event in waiter.tape.of(events.Elected)] == [True]


async def test_both_znodes_deleted_while_away_do_not_make_the_waiter_lead_on_a_deleted_znode(
    intercept: Intercept, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    """At the reconnect it learns both deletions at once, its predecessor's first or last."""
    async with leader_and_waiter(intercept, connect, path) as (leader, waiter, proxy):
        proxy.cut()
        await waiter.tape.wait(events.Suspended)
        await wipe(admin, path)
        with pytest.raises(aioelect.LeadershipLost):
            await soon(leader.task)
        proxy.heal()


async def test_waiter_whose_znode_was_made_anew_by_another_while_it_was_away_does_not_lead_by_it(
    intercept: Intercept, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    async with leader_and_waiter(intercept, connect, path) as (leader, waiter, proxy):
        proxy.cut()
        await waiter.tape.wait(events.Suspended)
        own = (await waiter.queued()).path
        for name in await queue(admin, path):
            await admin.delete(f"{path}/{name}", force=True)
        await admin.create(own, ephemeral=True)
        with pytest.raises(aioelect.LeadershipLost):
            await soon(leader.task)
        proxy.heal()
        await waiter.tape.wait(events.Queued, 2)
        await admin.delete(own, force=True)


async def test_waiter_whose_znode_was_changed_and_then_deleted_with_its_predecessor_does_not_lead_by_it(
    intercept: Intercept, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    """Nothing has to be asked after the change: no request reaches the server."""
    async with leader_and_waiter(intercept, connect, path) as (leader, waiter, proxy):
        proxy.freeze("up")
        await admin.set_data((await waiter.queued()).path, b"changed")
        transaction = admin.begin_transaction()
        for name in reversed(await queue(admin, path)):
            transaction.delete(f"{path}/{name}")
        await transaction.commit()
        with pytest.raises(aioelect.LeadershipLost):
            await soon(leader.task)
        await waiter.tape.wait(events.Lost)
        proxy.thaw("up")


async def test_servers_that_cannot_be_reached_are_waited_for(
    intercept: Intercept, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    proxy = await intercept()
    tape = Tape()
    client = await connect(proxy.hosts, on_event=tape)
    proxy.cut()
    await tape.wait(events.Disconnected)
    contender = Contending(client, path, "patient")
    await tape.wait(events.Unreachable)
    assert not contender.task.done()
    proxy.heal()
    await contender.elected()
    await contender.leave()
    await gone(admin, path)


# Timeouts


@pytest.mark.parametrize("timeout", [0, 0.3])
async def test_timeout_leaves_no_znode(connect: Connect, admin: aioelect.Client, path: str, timeout: float) -> None:
    late = await connect()
    async with contending([await connect()], path):
        begun = time.monotonic()
        with pytest.raises(TimeoutError) as raised:
            async with aioelect.leadership(late, path, timeout=timeout):
                pytest.fail("it leads beside another")
        took = time.monotonic() - begun
        assert isinstance(raised.value, aioelect.ElectionTimeout)
        assert (raised.value.election, raised.value.timeout, raised.value.position) == (path, timeout, 1)
        assert "1 were before it" in str(raised.value)
        assert timeout <= took < timeout + PATIENCE / 2
        assert await queue(admin, path) == ["n_0000000000"]


@pytest.mark.parametrize(
    ("queued", "left", "position"),
    [
        (["n_", "n_", "n_"], {0, 1, 2}, None),
        (["n_", "n_", "n_"], {1, 2}, None),
        (["n_", "n_", "n_"], {0, 2}, 2),
        (["n_", "n_", "n_"], {2}, 1),
        (["n_", "n_", "n_"], {0}, 1),
        (["n_", "n_", "n_"], set(), 0),
        ([OTHER, "n_"], {0, 1}, 2),
        (["n_", OTHER], {1}, 1),
        ([OTHER], {0}, 1),
        ([OTHER], set(), 0),
    ],
)
async def test_now_or_never_knows_whether_anybody_is_before_it_though_it_may_not_count_them(
    client: aioelect.Client,
    admin: aioelect.Client,
    path: str,
    queued: list[str],
    left: set[int],
    position: int | None,
) -> None:
    await admin.ensure_path(path)
    made = [await admin.create(f"{path}/{prefix}", ephemeral=True, sequential=True) for prefix in queued]
    for number in set(range(len(made))) - left:
        await admin.delete(made[number], force=True)
    election = aioelect.leadership(client, path, timeout=0)
    if position == 0:
        async with election as leader:
            assert leader.is_leader
    else:
        with pytest.raises(aioelect.ElectionTimeout) as raised:
            async with election:
                pytest.fail("it leads beside another")
        assert raised.value.position == position
    assert len(await queue(admin, path)) == len(left)


@pytest.mark.parametrize("timeout", [0, 0.5, None, float("inf")])
async def test_idle_election_is_won_in_time(client: aioelect.Client, path: str, timeout: float | None) -> None:
    async with aioelect.leadership(client, path, timeout=timeout) as leader:
        assert leader.is_leader


async def test_timeout_while_no_server_answers(
    intercept: Intercept, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    proxy = await intercept()
    client = await connect(proxy.hosts)
    proxy.blackhole()
    with pytest.raises(aioelect.ElectionTimeout):
        async with aioelect.leadership(client, path, timeout=0.2):
            pytest.fail("nobody can have elected it")
    proxy.heal()
    await eventually(lambda: client.session.connected and not len(client.janitor))
    await gone(admin, path)


async def test_timeout_error_of_the_body_is_its_own(client: aioelect.Client, path: str) -> None:
    with pytest.raises(TimeoutError) as raised:
        async with aioelect.leadership(client, path, timeout=5):
            raise TimeoutError("mine")
    assert str(raised.value) == "mine"


# Leaving


async def test_hosts_string_gives_a_client_for_the_block_alone(hosts: str, admin: aioelect.Client, path: str) -> None:
    async with aioelect.leadership(hosts, path) as leader:
        assert leader.is_leader
        assert len(await queue(admin, path)) == 1
    assert await queue(admin, path) == []


async def test_leadership_is_void_before_the_znode_is_deleted(
    intercept: Intercept, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    leaders: list[aioelect.Leader] = []
    leading: list[bool] = []

    def look(request: Any) -> None:
        if request.opcode == DELETE:
            leading.append(leaders[0].is_leader)

    proxy = await intercept(on_frame=look)
    client = await connect(proxy.hosts)
    async with aioelect.leadership(client, path) as leader:
        leaders.append(leader)
        assert leader.is_leader
    assert leading == [False]


async def test_znode_stays_until_the_body_has_unwound(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    seen: list[list[str]] = []
    async with aioelect.leadership(client, path) as leader:
        try:
            leader.resign()
            await asyncio.Event().wait()
        finally:
            seen.append(await queue(admin, path))
            await asyncio.sleep(0.05)
            seen.append(await queue(admin, path))
    assert seen == [["n_0000000000"]] * 2
    assert await queue(admin, path) == []


async def test_leaving_a_silent_server_is_bounded_and_the_znode_goes_at_the_next_connection(
    intercept: Intercept, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    proxy = await intercept()
    client = await connect(proxy.hosts, session_timeout=4.0)
    tape = Tape()
    async with aioelect.leadership(client, path, on_event=tape):
        proxy.blackhole()
        begun = time.monotonic()
    assert 0.9 < time.monotonic() - begun < 2
    assert [event.confirmed for event in tape.of(events.Released)] == [False]
    assert await queue(admin, path) == ["n_0000000000"]
    session_id = client.session.session_id
    proxy.heal()
    await gone(admin, path)
    await eventually(lambda: len(client.janitor) == 0)
    assert client.session.session_id == session_id


@pytest.mark.parametrize("ending", ["fin", "rst", "half", "silence"])
async def test_lost_reply_to_the_create_ends_with_exactly_one_znode(
    intercept: Intercept, connect: Connect, admin: aioelect.Client, path: str, ending: Any
) -> None:
    proxy = await intercept()
    client = await connect(proxy.hosts)
    await client.ensure_path(path)
    lost = proxy.lose_reply(CREATE, then=ending)
    async with aioelect.leadership(client, path) as leader:
        assert lost.is_set()
        assert [f"{path}/{name}" for name in await queue(admin, path)] == [leader.path]
        _, stat = await admin.get(leader.path)
        assert (stat.created_zxid, stat.ephemeral_owner) == (leader.token, client.session.session_id)
    await gone(admin, path)


async def test_lost_reply_to_the_create_on_a_server_without_get_ephemerals(
    intercept: Intercept, connect: Connect, admin: aioelect.Client, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioelect.zookeeper.wire.GetEphemeralsRequest.opcode", 9_103)  # no server knows it
    proxy = await intercept()
    client = await connect(proxy.hosts)
    await client.ensure_path(path)
    proxy.lose_reply(CREATE)
    async with aioelect.leadership(client, path) as leader:
        assert [f"{path}/{name}" for name in await queue(admin, path)] == [leader.path]


@pytest.mark.parametrize("ending", ["fin", "rst", "silence"])
async def test_lost_reply_to_the_delete_leaves_nothing(
    intercept: Intercept, connect: Connect, admin: aioelect.Client, path: str, ending: Any
) -> None:
    proxy = await intercept()
    client = await connect(proxy.hosts)
    async with aioelect.leadership(client, path):
        proxy.lose_reply(DELETE, then=ending)
    await gone(admin, path)
    await eventually(lambda: len(client.janitor) == 0)


# Events


async def test_events_of_a_full_life(connect: Connect, path: str) -> None:
    async with contending([await connect(), await connect()], path) as (first, second):
        await first.elected()
        await first.tape.wait(events.Renewed)
        await second.tape.wait(events.NextInLine)
        await first.leave()
        await second.elected()
        await second.leave()
    assert first.tape.names == ["Queued", "Elected", "Released"]
    assert second.tape.names == ["Queued", "NextInLine", "Elected", "Released"]
    for contender in (first, second):
        times = [event.at for event in contender.tape.events]
        assert times == sorted(times)
        assert {(event.election, event.identity) for event in contender.tape.events} == {(path, contender.identity)}
        (elected,) = contender.tape.of(events.Elected)
        assert elected.trigger <= elected.at
        assert [event.position for event in contender.tape.of(events.Queued)] == [int(contender is second)]
        assert [event.confirmed for event in contender.tape.of(events.Released)] == [True]


async def test_events_of_a_broken_connection(intercept: Intercept, connect: Connect, path: str) -> None:
    proxy = await intercept()
    tape = Tape()
    client = await connect(proxy.hosts)
    async with aioelect.leadership(client, path, on_event=tape) as leader:
        proxy.sever()
        await tape.wait(events.Resumed)
        assert leader.is_leader
    assert tape.names == ["Queued", "Elected", "Suspended", "Resumed", "Released"]


async def test_events_of_an_expired_leader(client: aioelect.Client, path: str) -> None:
    contender = Contending(client, path, "expired")
    leader, tape = await contender.elected(), contender.tape
    await expire(client)
    with pytest.raises(aioelect.LeadershipLost):
        await soon(contender.task)
    assert [name for name in tape.names if name not in ("Suspended", "Resumed")] == [
        "Queued",
        "Elected",
        "Losing",
        "Lost",
    ]
    (losing,), (lost,) = tape.of(events.Losing), tape.of(events.Lost)
    assert losing.reason is lost.reason is aioelect.LossReason.SESSION_EXPIRED
    assert losing.token == lost.token == leader.token
    assert losing.drain == client.session.timing.drain


async def test_events_of_a_resignation(client: aioelect.Client, path: str) -> None:
    tape = Tape()
    async with aioelect.leadership(client, path, on_event=tape) as leader:
        leader.resign()
        await asyncio.Event().wait()
    assert tape.names == ["Queued", "Elected", "Losing", "Released"]
    assert tape.of(events.Losing)[0].reason is aioelect.LossReason.RESIGNED


async def test_error_in_a_handler_goes_to_the_loop_and_changes_nothing(client: aioelect.Client, path: str) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def broken(event: events.Event) -> None:
        raise KeyError(type(event).__name__)

    async with aioelect.leadership(client, path, on_event=broken) as leader:
        assert leader.is_leader
    assert [context["exception"].args[0] for context in reported if context["exception"].args[0] != "Renewed"] == [
        "Queued",
        "Elected",
        "Released",
    ]
    assert path in reported[0]["message"]


# Bad input


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"election": "election"}, ValueError, "'election'"),
    ({"election": "/a//b"}, ValueError, "'/a//b'"),
    ({"election": "/"}, ValueError, "'/'"),
    ({"election": "/a/"}, ValueError, "'/a/'"),
    ({"election": None}, TypeError, "None"),
    ({"identity": ""}, ValueError, "''"),
    ({"identity": 7}, TypeError, "7"),
    ({"identity": "\ud800"}, ValueError, "ud800"),
    ({"data": "text"}, TypeError, "'text'"),
    ({"data": bytes(2_000_000)}, ValueError, "2000000 bytes"),
    ({"timeout": -1}, ValueError, "-1"),
    ({"timeout": float("nan")}, ValueError, "nan"),
    ({"timeout": "5"}, TypeError, "'5'"),
    ({"timeout": True}, TypeError, "True"),
    ({"drain": -1}, ValueError, "-1"),
    ({"drain": 60}, ValueError, "drain"),
    ({"drain": "1"}, TypeError, "'1'"),
    ({"on_event": 5}, TypeError, "5"),
    ({"client": "nowhere:port"}, ValueError, "nowhere:port"),
    ({"client": 5}, TypeError, "5"),
]

BAD_CALLS = [
    (call, *case)
    for call, lacks in (
        (aioelect.leadership, set()),
        (aioelect.campaign, {"timeout"}),
        (aioelect.Candidate, {"timeout"}),
    )
    for case in BAD
    if not lacks & case[0].keys() and not (call is aioelect.Candidate and isinstance(case[0].get("client"), str))
]


@pytest.mark.parametrize(("call", "arguments", "error", "named"), BAD_CALLS)
def test_bad_argument_is_refused_at_the_call(
    call: Any, arguments: dict[str, Any], error: type[Exception], named: str
) -> None:
    given = {"client": aioelect.Client("127.0.0.1:1"), "election": "/election", **arguments}
    if call is aioelect.campaign:
        given["work"] = lambda leader: None
    with pytest.raises(error) as raised:
        call(**given)
    assert named in str(raised.value)


async def test_a_block_that_is_entered_twice_is_refused_and_goes_on(client: aioelect.Client, path: str) -> None:
    block = aioelect.leadership(client, path)
    async with block as leader:
        with pytest.raises(
            RuntimeError, match=f"leadership of {path} has been entered before: call leadership\\(\\) anew"
        ):
            await soon(block.__aenter__())
        leader.check()
    with pytest.raises(RuntimeError, match="has been entered before"):
        await block.__aenter__()
