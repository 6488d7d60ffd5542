"""``Candidate`` and ``Leader``, without a block around them, and whom they meet in an election folder."""

import asyncio
from typing import Any

import pytest
from aiozk import ACL

import aioelect
from aioelect import Candidate, LossReason, candidacy, events
from aioelect.naming import ZnodeData
from aioelect.succession import Succession
from aioelect.testing import jute
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.proxy import FaultProxy, Request
from aioelect.zookeeper import wire
from aioelect.zookeeper.folder import Folder, Place
from aioelect.zookeeper.states import States
from tests import elections, refusals
from tests.elections import (
    CREATE,
    GET_DATA,
    LIST,
    WATCH_OWN,
    Connect,
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
deny, read_only, refuse = refusals.deny, refusals.read_only, refusals.refuse

KAZOO = "0123456789abcdef0123456789abcdef__lock__"
CURATOR = "_c_6e0cb5d2-1c7f-4b5a-9a0e-0f3b1f6f8a11-latch-"


async def plant(client: aioelect.Client, path: str, prefix: str, ephemeral: bool = True) -> str:
    """A sequential znode that some other program makes; its name."""
    await client.ensure_path(path)
    made = await client.create(f"{path}/{prefix}", b"stranger", ephemeral=ephemeral, sequential=True)
    return made.rpartition("/")[2]


# Life


async def test_enter_elected_lost_withdraw(client: aioelect.Client, admin: aioelect.Client, path: str) -> None:
    candidate = await Candidate.enter(client, path, identity="me", data=b"x")
    assert len(await queue(admin, path)) == 1
    leader = await soon(candidate.wait_elected())
    assert candidate.position == 0
    assert await soon(candidate.wait_elected()) is leader
    await admin.delete(leader.path, force=True)
    assert await soon(leader.lost()) is LossReason.NODE_DELETED
    assert not leader.is_leader
    await candidate.withdraw()
    assert "gone" in repr(candidate)


async def test_candidate_is_entered_in_one_task_and_left_in_another(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    candidate = await asyncio.create_task(Candidate.enter(client, path))
    leader = await asyncio.create_task(candidate.wait_elected())
    leader.check()
    await asyncio.create_task(candidate.withdraw())
    assert not leader.is_leader
    assert await queue(admin, path) == []


async def test_context_manager_enters_and_withdraws(client: aioelect.Client, admin: aioelect.Client, path: str) -> None:
    async with Candidate(client, path) as candidate:
        assert len(await queue(admin, path)) == 1
        leader = await candidate.wait_elected()
    assert await queue(admin, path) == []
    assert await leader.lost() is LossReason.RESIGNED


async def test_position_is_what_it_saw_last(client: aioelect.Client, path: str) -> None:
    candidates = [await Candidate.enter(client, path) for _ in range(3)]
    assert [await candidate.wait_placed() for candidate in candidates] == [0, 1, None]
    assert [candidate.position for candidate in candidates] == [0, 1, None]
    await candidates[0].wait_elected()
    await candidates[0].withdraw()
    await candidates[1].wait_elected()
    assert [candidate.position for candidate in candidates[1:]] == [0, None]
    for candidate in candidates:
        await candidate.withdraw()


async def test_withdraw_is_idempotent_and_may_be_called_by_several(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    tape = Tape()
    candidate = await Candidate.enter(client, path, on_event=tape)
    await asyncio.gather(candidate.withdraw(), candidate.withdraw())
    await candidate.withdraw()
    assert len(tape.of(events.Released)) == 1
    assert await queue(admin, path) == []


async def test_credentials_refused_meanwhile_take_no_cancellation_away(
    embedded: EmbeddedServer, deny: refusals.Deny, path: str
) -> None:
    """Cancelled while the answer to its create is missing, whoever enters looks for what was made while the session lives."""
    async with (
        FaultProxy(embedded.hosts) as proxy,
        aioelect.connect(proxy.hosts, session_timeout=T, auth=aioelect.Digest("u", "p")) as client,
    ):
        lost = proxy.lose_reply(CREATE, then="silence")
        entering = asyncio.create_task(Folder(client, path).enter("n_", b"{}", "nonce"))
        await soon(lost.wait())
        deny()
        entering.cancel()
        await eventually(lambda: len(client.janitor) == 1)
        proxy.sever()
        with pytest.raises(asyncio.CancelledError):
            await soon(entering)
        assert isinstance(client.session.failure, aioelect.AuthenticationFailed)


async def test_a_deletion_that_is_refused_for_a_moment_leaves_nobody_at_the_head_of_the_queue(
    embedded: EmbeddedServer, refuse: refusals.Refuse, path: str
) -> None:
    tape = Tape()
    connecting = [aioelect.connect(embedded.hosts, session_timeout=T) for _ in range(2)]
    async with connecting[0] as client, connecting[1] as other:
        candidate = await Candidate.enter(client, path, on_event=tape)
        await soon(candidate.wait_elected())
        refused = refuse(jute.Delete, refusals.THROTTLED)
        await candidate.withdraw()
        assert len(refused) == 1
        assert tape.of(events.Released)[0].confirmed
        assert await queue(other, path) == []


async def test_a_deletion_that_is_forbidden_is_not_confirmed(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    tape = Tape()
    candidate = await Candidate.enter(client, path, on_event=tape)
    await soon(candidate.wait_elected())
    await admin.set_acl(path, [ACL.make("world", "anyone", read=True, create=True, admin=True)], force=True)
    await soon(candidate.withdraw())
    assert not tape.of(events.Released)[0].confirmed
    assert len(await queue(admin, path)) == 1
    await client.close()
    assert await queue(admin, path) == []


async def test_who_looks_for_its_znode_waits_for_a_server_that_takes_writes(
    embedded: EmbeddedServer, read_only: set[str], path: str
) -> None:
    """Only such a one can be told to catch up before it says what there is."""
    async with (
        FaultProxy(embedded.hosts) as proxy,
        aioelect.Client(proxy.hosts, session_timeout=T, allow_read_only=True) as client,
    ):
        payload = ZnodeData("me", b"", "host", 1, "nonce").encode()
        await client.ensure_path(path)
        lost = proxy.lose_reply(CREATE)
        entering = asyncio.create_task(Folder(client, path).enter("n_", payload, "nonce"))
        await soon(lost.wait())
        read_only.add(embedded.hosts)
        await eventually(lambda: bool(client.session.state.current_state == States.READ_ONLY))
        made = await queue(client, path)
        assert not entering.done()
        read_only.clear()
        client.session.drop("by the test")
        assert [(await soon(entering)).name] == made


async def test_withdraw_before_start_and_waiting_after_withdrawal(client: aioelect.Client, path: str) -> None:
    candidate = Candidate(client, path)
    await candidate.withdraw()
    with pytest.raises(aioelect.ClientClosed, match="has withdrawn"):
        await candidate.wait_elected()
    with pytest.raises(aioelect.ClientClosed, match="has withdrawn"):
        await candidate.start()


async def test_starting_twice_is_refused(client: aioelect.Client, path: str) -> None:
    async with Candidate(client, path) as candidate:
        with pytest.raises(RuntimeError, match="started before"):
            await candidate.start()


async def test_withdrawal_wakes_those_who_wait(client: aioelect.Client, admin: aioelect.Client, path: str) -> None:
    async with contending([admin], path):
        candidate = await Candidate.enter(client, path)
        waiting = asyncio.create_task(candidate.wait_elected())
        await candidate.wait_placed()
        await candidate.withdraw()
        with pytest.raises(aioelect.ClientClosed):
            await soon(waiting)


async def test_closing_the_client_wakes_those_who_wait(connect: Connect, admin: aioelect.Client, path: str) -> None:
    client = await connect()
    async with contending([admin], path):
        candidate = await Candidate.enter(client, path)
        waiting = asyncio.create_task(candidate.wait_elected())
        await candidate.wait_placed()
        await client.close()
        with pytest.raises(aioelect.ClientClosed):
            await soon(waiting)
        await candidate.withdraw()
        assert len(await queue(admin, path)) == 1


async def test_closing_the_client_ends_a_leader_that_no_block_holds(connect: Connect, path: str) -> None:
    client = await connect()
    candidate = await Candidate.enter(client, path)
    leader = await candidate.wait_elected()
    await client.close()
    assert await soon(leader.lost()) is LossReason.CLIENT_CLOSED
    assert not leader.is_leader
    await candidate.withdraw()


async def test_resigning_ends_the_term_and_withdrawal_frees_the_place(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    candidate = await Candidate.enter(client, path)
    leader = await candidate.wait_elected()
    leader.resign()
    assert await soon(leader.lost()) is LossReason.RESIGNED
    assert len(await queue(admin, path)) == 1
    await candidate.withdraw()
    assert await queue(admin, path) == []


async def test_lost_may_be_awaited_by_many_and_given_up(client: aioelect.Client, path: str) -> None:
    candidate = await Candidate.enter(client, path)
    leader = await candidate.wait_elected()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await leader.lost()
    waiting = [asyncio.create_task(leader.lost()) for _ in range(3)]
    await expire(client)
    assert await soon(asyncio.gather(*waiting)) == [LossReason.SESSION_EXPIRED] * 3
    await candidate.withdraw()


async def test_drain_that_the_granted_session_timeout_has_no_room_for_is_refused() -> None:
    """Asked for 10 s, granted 2 s: without a word, it would never be elected."""
    async with EmbeddedServer(tick_time=0.2, max_session_timeout=T) as server:
        election = aioelect.leadership(server.hosts, "/election", drain=1.5)
        with pytest.raises(ValueError, match=r"session_timeout=2 .*drain=1\.5"):
            async with election:
                pytest.fail("there is no time for it")


# One client, several contenders


async def test_contenders_of_one_election_on_one_client(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    async with asyncio.TaskGroup() as group:
        entering = [group.create_task(Candidate.enter(client, path, identity=f"c{n}")) for n in range(5)]
    candidates = [task.result() for task in entering]
    assert len(await queue(admin, path)) == 5
    for left in range(5, 0, -1):
        standing = await aioelect.get_standing(admin, path)
        assert len(standing.contenders) == left
        assert standing.leader is not None
        (first,) = [c for c in candidates if c.identity == standing.leader.identity]
        leader = await soon(first.wait_elected())
        assert leader.token == standing.leader.token
        terms = [c._succession.leader for c in candidates]
        assert sum(term is not None and term.is_leader for term in terms) == 1
        await first.withdraw()


async def test_ghost_of_the_own_session_is_deleted(client: aioelect.Client, admin: aioelect.Client, path: str) -> None:
    """The znode of a create that nobody remembers would be waited for as long as its session lives."""
    for _ in range(2):
        await plant(client, path, "n_")
    async with aioelect.leadership(client, path, timeout=T) as leader:
        assert await queue(admin, path) == [leader.path.rpartition("/")[2]]


async def test_znode_of_another_session_is_no_ghost(client: aioelect.Client, admin: aioelect.Client, path: str) -> None:
    name = await plant(admin, path, "n_")
    with pytest.raises(aioelect.ElectionTimeout):
        async with aioelect.leadership(client, path, timeout=0.2):
            pytest.fail("another is before it")
    assert await queue(admin, path) == [name]


@pytest.mark.parametrize("kind", [jute.Sync, jute.GetEphemerals, jute.GetData])
@pytest.mark.parametrize("given_up", [False, True])
async def test_the_search_for_the_own_znode_goes_on_though_a_server_refuses_it_for_a_moment(
    embedded: EmbeddedServer, refuse: refusals.Refuse, path: str, kind: type, given_up: bool
) -> None:
    """Also when nobody contends with it any more: it would be in everybody's way for as long as its client lives."""
    async with (
        FaultProxy(embedded.hosts) as proxy,
        aioelect.connect(proxy.hosts, session_timeout=T) as client,
        aioelect.connect(embedded.hosts, session_timeout=T) as other,
    ):
        await client.ensure_path(path)
        lost = proxy.lose_reply(CREATE)
        refused = refuse(kind, refusals.THROTTLED, count=3)
        entering = asyncio.create_task(Candidate.enter(client, path))
        await soon(lost.wait())
        if given_up:
            await eventually(lambda: bool(refused))
            entering.cancel()
            await asyncio.wait([entering])
            await eventually(lambda: not len(client.janitor))
        else:
            await (await soon(entering)).withdraw()
        assert len(refused) == 3
        assert await queue(other, path) == []


async def test_two_contenders_of_one_session_that_lose_their_replies_find_a_znode_each(
    intercept: Intercept, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    proxy = await intercept()
    client = await connect(proxy.hosts)
    await client.ensure_path(path)
    proxy.lose_reply(CREATE, then="silence", count=2)
    async with asyncio.TaskGroup() as group:
        entering = [group.create_task(Candidate.enter(client, path)) for _ in range(2)]
    candidates = [task.result() for task in entering]
    places = [candidate._place for candidate in candidates]
    assert all(places)
    assert sorted(place.name for place in places if place) == await queue(admin, path)
    for candidate in candidates:
        await candidate.withdraw()
    assert await queue(admin, path) == []


# Elected, and nobody came for it


async def test_an_election_that_nobody_came_for_does_not_keep_the_session_of_a_closed_client(
    connect: Connect, admin: aioelect.Client, path: str
) -> None:
    """Nobody acts on it, so nobody has to be waited for."""
    tape = Tape()
    client = await connect()
    await Candidate.enter(client, path, on_event=tape)
    await tape.wait(events.Elected)
    await client.close()
    assert await queue(admin, path) == []


async def test_an_election_that_nobody_came_for_is_given_up_when_the_leader_is_asked_to_step_down(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    tape = Tape()
    candidate = await Candidate.enter(client, path, on_event=tape)
    elected = await tape.wait(events.Elected)
    await soon(aioelect.step_down(admin, path))
    lost = await tape.wait(events.Lost)
    assert (lost.token, lost.reason) == (elected.token, LossReason.STEP_DOWN_REQUESTED)
    leader = await soon(candidate.wait_elected())
    assert leader.token > elected.token
    leader.check()
    await candidate.withdraw()


async def test_a_term_that_ended_before_somebody_came_for_it_is_not_handed_out(
    client: aioelect.Client, path: str
) -> None:
    tape = Tape()
    candidate = await Candidate.enter(client, path, on_event=tape)
    elected = await tape.wait(events.Elected)
    over = candidate._succession.leader
    assert over is not None
    over._end(LossReason.DEADLINE_PASSED)
    leader = await soon(candidate.wait_elected())
    assert leader.token > elected.token
    leader.check()
    await candidate.withdraw()


# The next in line, when the news is all that has arrived


def tell_deleted(client: aioelect.Client, path: str) -> None:
    """A packet that says so arrives."""
    assert client.session.conn is not None
    client.session.conn.data_received(wire.deletion_event(path))


async def next_in_line(client: aioelect.Client, admin: aioelect.Client, path: str) -> tuple[Candidate, str, Tape]:
    """With the path of the znode before it, which stays, and what it tells."""
    tape = Tape()
    before = f"{path}/{await plant(admin, path, 'n_')}"
    candidate = await Candidate.enter(client, path, on_event=tape)
    await tape.wait(events.NextInLine)
    await eventually(lambda: is_settled(client))
    return candidate, before, tape


async def test_the_next_in_line_is_elected_before_the_event_is_read(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    candidate, before, tape = await next_in_line(client, admin, path)
    tell_deleted(client, before)
    assert tape.names[-1] == "Elected"
    leader = await soon(candidate.wait_elected())
    await eventually(lambda: is_settled(client))
    leader.check()
    assert tape.names.count("Elected") == 1
    await candidate.withdraw()


async def test_the_next_in_line_whose_own_end_came_just_before_does_not_lead(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    """Both in one turn of the event loop, and nobody has looked at the first."""
    candidate, before, tape = await next_in_line(client, admin, path)
    place = candidate._place
    assert place is not None
    tell_deleted(client, f"{path}/{place.name}")
    tell_deleted(client, before)
    await tape.wait(events.Lost)
    assert "Elected" not in tape.names
    await candidate.withdraw()


async def test_who_leaves_is_not_elected_by_news_that_come_meanwhile(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    candidate, before, tape = await next_in_line(client, admin, path)
    candidate.depart()
    tell_deleted(client, before)
    await candidate.withdraw()
    assert "Elected" not in tape.names
    assert "gone" in repr(candidate)


async def test_an_election_that_fails_ends_the_candidacy_and_not_the_connection(
    client: aioelect.Client, admin: aioelect.Client, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate, before, _ = await next_in_line(client, admin, path)
    connection = client.session.conn

    def fail(self: Succession, place: Place) -> None:
        raise RuntimeError("by the test")

    monkeypatch.setattr(Succession, "claim", fail)
    tell_deleted(client, before)
    with pytest.raises(RuntimeError, match="by the test"):
        await soon(candidate.wait_elected())
    await candidate.withdraw()
    assert client.session.conn is connection


async def test_a_cancellation_out_of_a_handler_leaves_no_leader_that_nobody_hears_of(
    client: aioelect.Client, path: str
) -> None:
    """As of the result of a cancelled future."""

    def handler(event: events.Event) -> None:
        if isinstance(event, events.Elected):
            raise asyncio.CancelledError

    async with aioelect.leadership(client, path, on_event=handler) as leader:
        leader.check()


async def test_who_leaves_in_the_turn_of_its_election_tells_of_that_alone(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    candidate, before, tape = await next_in_line(client, admin, path)
    waiting = asyncio.create_task(candidate.wait_elected())
    await asyncio.sleep(0)
    leaving = asyncio.create_task(candidate.withdraw())
    tell_deleted(client, before)
    with pytest.raises(aioelect.ClientClosed, match="has withdrawn"):
        await soon(waiting)
    await leaving
    assert tape.names[-3:] == ["NextInLine", "Elected", "Released"]


# Strangers in the folder


async def test_a_foreigner_seen_at_once_with_the_predecessors_deletion_lets_no_body_begin(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    tape = Tape()
    name = await plant(admin, path, "n_")
    candidate = await Candidate.enter(client, path, on_event=tape)
    await tape.wait(events.NextInLine)
    machine = candidate._machine
    assert machine.name is not None
    candidate._post(candidacy.Deleted(name))
    candidate._post(candidacy.Listed(machine.entry, (machine.name, f"{KAZOO}0000000009")))
    await tape.wait(events.Lost)
    assert "Elected" not in tape.names
    await candidate.withdraw()


@pytest.mark.parametrize("prefix", [KAZOO, CURATOR, "n_x-", "N_"])
async def test_foreign_contender_is_refused_by_name(
    client: aioelect.Client, admin: aioelect.Client, path: str, prefix: str
) -> None:
    name = await plant(admin, path, prefix)
    with pytest.raises(aioelect.ForeignContender) as refused:
        async with aioelect.leadership(client, path):
            pytest.fail("both may lead")
    assert (refused.value.election, refused.value.name) == (path, name)
    assert name in str(refused.value)
    assert await queue(admin, path) == [name]


async def test_names_without_a_number_are_none_of_ours(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    await admin.ensure_path(f"{path}/readme")
    async with aioelect.leadership(client, path) as leader:
        assert leader.is_leader


async def test_foreign_contender_behind_everyone_ends_the_term_of_who_takes_over_unasked(
    connect: Connect, admin: aioelect.Client, path: str
) -> None:
    async with contending([await connect(), await connect()], path) as (first, second):
        await second.tape.wait(events.NextInLine)
        name = await plant(admin, path, KAZOO)
        await first.leave()
        with pytest.raises(aioelect.LeadershipLost) as lost:
            await soon(second.task)
        assert lost.value.reason is LossReason.FOREIGN_CONTENDER
        assert await queue(admin, path) == [name]
    assert second.tape.names[-4:] == ["Elected", "Losing", "Lost", "Released"]


async def test_foreign_contender_seen_before_the_lease_is_warm(
    connect: Connect, admin: aioelect.Client, path: str
) -> None:
    cold = await connect()
    async with contending([await connect(), cold], path) as (first, second):
        await second.tape.wait(events.NextInLine)
        name = await plant(admin, path, KAZOO)
        cold.session.lease.ended()
        await first.leave()
        with pytest.raises(aioelect.ForeignContender, match=name):
            await soon(second.task)
        assert await queue(admin, path) == [name]
    assert not second.tape.of(events.Elected)


async def test_squatter_that_is_not_ephemeral_is_refused(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    name = await plant(admin, path, "n_", ephemeral=False)
    with pytest.raises(aioelect.ForeignContender) as refused:
        async with aioelect.leadership(client, path):
            pytest.fail("it would wait for ever, or lead beside a stranger")
    assert refused.value.name == name == "n_0000000000"
    assert await queue(admin, path) == [name]


async def test_name_that_nobody_has_is_not_watched(
    intercept: Intercept, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    """It can never appear; a watch set again on the next connection would wait for it all the same."""
    await plant(admin, path, f"candidate-{32 * '0'}-")
    asked: list[int] = []
    lists = asyncio.Event()

    def hold(request: Request) -> None:
        if request.opcode in {CREATE, GET_DATA, LIST}:
            asked.append(request.opcode)
        if asked == [CREATE, WATCH_OWN, GET_DATA, LIST] and not lists.is_set():
            proxy.freeze("up")
            lists.set()

    proxy = await intercept(on_frame=hold)
    client = await connect(proxy.hosts)
    async with Candidate(client, path) as candidate:
        await soon(lists.wait())
        assert {watched for _, watched in client.session.watch_callbacks} == {f"{path}/n_0000000001"}
        proxy.thaw("up")
        assert await soon(candidate.wait_placed()) == 1


async def test_aiozk_leader_election_before_and_behind_ours(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    theirs = admin.recipes.LeaderElection(path)
    await theirs.volunteer()
    await soon(theirs.wait_for_leadership())
    ours = await Candidate.enter(client, path)
    assert await ours.wait_placed() == 1
    await theirs.resign()
    await soon(ours.wait_elected())

    again = admin.recipes.LeaderElection(path)
    await again.volunteer()
    assert not again.has_leadership
    await ours.withdraw()
    await soon(again.wait_for_leadership())
    standing = await aioelect.get_standing(client, path)
    assert [contender.host for contender in standing.contenders] == [None]
    await again.resign()


async def test_counter_near_its_wrap_is_refused(embedded: EmbeddedServer, path: str) -> None:
    async with aioelect.connect(embedded.hosts, session_timeout=T) as client:
        await client.create(path)
        embedded.tree.node(path).creates = 2**31 - 1_000_000
        with pytest.raises(aioelect.SequenceExhausted, match=f"delete {path}") as refused:
            async with aioelect.leadership(client, path):
                pytest.fail("its number is too high")
        assert refused.value.name == "n_2146483648"
        assert await client.get_children(path) == []

        embedded.tree.node(path).creates = 2**31 - 1_000_001
        async with aioelect.leadership(client, path) as leader:
            assert leader.path.endswith("n_2146483647")


async def test_wrapped_numbers_are_refused(embedded: EmbeddedServer, path: str) -> None:
    """They are negative, sort first by name, and have eleven places."""
    async with aioelect.connect(embedded.hosts, session_timeout=T) as client:
        await client.create(path)
        await client.create(f"{path}/n_-2147483648", ephemeral=True)
        with pytest.raises(aioelect.ForeignContender, match="n_-2147483648"):
            async with aioelect.leadership(client, path):
                pytest.fail("a wrapped number is before it")


@pytest.mark.parametrize("arguments", [{"path": "/"}, {"path": "x"}])
def test_candidate_checks_its_path(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="election path"):
        Candidate(aioelect.Client("127.0.0.1:1"), arguments["path"])


async def test_watches_and_renewals_are_given_back(client: aioelect.Client, path: str) -> None:
    first, second = await Candidate.enter(client, path), await Candidate.enter(client, path)
    await first.wait_elected()
    await second.wait_placed()
    await eventually(lambda: len(client.renewals._keepers) == 2)
    await first.withdraw()
    await second.wait_elected()
    assert len(client.renewals._keepers) == 1
    await second.withdraw()
    assert not client.renewals._keepers
    assert not client.session.watch_callbacks
    assert not client.session._observers
    assert not client.dependents
