"""``leader.transaction()``: what a leader writes, and what a deposed one can't."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from aiozk import ACL, exc

import aioelect
from aioelect import LossReason, fencing
from aioelect.fencing import Fence
from aioelect.testing import jute
from aioelect.testing.datatree import MultiRefused, Refused
from aioelect.testing.embedded import EmbeddedServer
from aioelect.zookeeper.multi import Set, commit
from tests import elections, refusals
from tests.elections import Connect, queue, soon

admin, client, connect = elections.admin, elections.client, elections.connect
embedded, hosts, intercept = elections.embedded, elections.hosts, elections.intercept
refuse = refusals.refuse


async def writers(admin: aioelect.Client, path: str) -> list[str]:
    """Whose name stands in the fence."""
    return await admin.get_children(f"{path}-fence")


async def write(leader: aioelect.Leader, path: str, data: bytes) -> None:
    async with leader.transaction() as txn:
        txn.set(path, data)


@pytest.fixture
async def register(admin: aioelect.Client, path: str) -> str:
    """A znode to write to."""
    return await admin.create(f"{path}-register", b"0")


async def test_results_come_in_order_with_stats(
    client: aioelect.Client, admin: aioelect.Client, register: str, path: str
) -> None:
    async with aioelect.leadership(client, path) as leader:
        async with leader.transaction() as txn:
            txn.check(register, version=0)
            txn.set(register, b"1", version=0)
            txn.create(f"{register}/item-", b"x", sequential=True)
            txn.create(f"{register}/gone")
            txn.delete(f"{register}/gone")
        checked, written, created, _, deleted = txn.results
        assert checked.path == register
        assert written.stat is not None
        assert written.stat.version == 1
        assert created.path == f"{register}/item-0000000000"
        assert created.stat is None  # in a multi, ZooKeeper answers create2 as create
        assert deleted.path == f"{register}/gone"
    assert await admin.get_data(register) == b"1"
    assert await admin.get_children(register) == ["item-0000000000"]


async def test_refused_by_an_own_condition_nothing_is_written_and_leadership_goes_on(
    client: aioelect.Client, admin: aioelect.Client, register: str, path: str
) -> None:
    async with aioelect.leadership(client, path) as leader:
        with pytest.raises(aioelect.TransactionRefused) as refused:
            async with leader.transaction() as txn:
                txn.set(register, b"1")
                txn.check(register, version=7)
        assert (refused.value.index, refused.value.path) == (1, register)
        assert isinstance(refused.value.error, exc.BadVersion)
        assert leader.is_leader
    assert await admin.get_data(register) == b"0"


async def test_an_error_in_the_block_sends_nothing(
    client: aioelect.Client, admin: aioelect.Client, register: str, path: str
) -> None:
    async with aioelect.leadership(client, path) as leader:
        with pytest.raises(KeyError):
            async with leader.transaction() as txn:
                txn.set(register, b"1")
                raise KeyError
    assert await admin.get_data(register) == b"0"


async def test_the_fence_holds_one_name_the_newest_writers(
    connect: Connect, admin: aioelect.Client, register: str, path: str
) -> None:
    names = []
    for _ in range(3):
        async with aioelect.leadership(await connect(), path) as leader:
            await write(leader, register, b"1")
            await write(leader, register, b"2")
            assert await writers(admin, path) == [f"{leader.token:016x}"]
            names.append(f"{leader.token:016x}")
    assert names == sorted(set(names))


async def test_writers_of_one_leader_at_once(client: aioelect.Client, register: str, path: str) -> None:
    async with aioelect.leadership(client, path) as leader:
        await asyncio.gather(*(write(leader, register, b"%d" % number) for number in range(10)))
        _, stat = await client.get(register)
        assert stat.version == 10


async def test_deposed_by_a_wiped_folder_where_the_own_name_belongs_to_another(
    connect: Connect, client: aioelect.Client, admin: aioelect.Client, register: str, path: str
) -> None:
    """What a leader that has heard of nothing would send: the check of its own path passes, the fence refuses."""
    async with contextlib.AsyncExitStack() as stack:
        candidate = await aioelect.Candidate.enter(client, path)
        leader = await candidate.wait_elected()
        assert client.session.session_id is not None
        claimed, unclaimed = (
            Fence(client, path, leader.path, leader.token, client.session.session_id, client.make_access())
            for _ in range(2)
        )
        await claimed.commit([Set(register, b"1")])
        await admin.deleteall(path)
        await candidate.withdraw()
        other = await stack.enter_async_context(aioelect.leadership(await connect(), path))
        assert other.path == leader.path
        await write(other, register, b"2")
        for fence in (claimed, unclaimed):
            with pytest.raises(aioelect.Deposed):
                await fence.commit([Set(register, b"1")])
        assert await admin.get_data(register) == b"2"
        assert other.is_leader


async def test_deposed_by_the_deletion_of_its_znode_ends_the_term(
    client: aioelect.Client, admin: aioelect.Client, register: str, path: str
) -> None:
    with pytest.raises(aioelect.LeadershipLost) as lost:
        async with aioelect.leadership(client, path) as leader:
            await write(leader, register, b"1")
            (own,) = await queue(admin, path)
            await admin.delete(f"{path}/{own}", force=True)
            try:
                await write(leader, register, b"2")
            except aioelect.Deposed:
                assert not leader.is_leader
            await asyncio.Event().wait()
    assert lost.value.reason is LossReason.NODE_DELETED
    assert await admin.get_data(register) == b"1"


@pytest.mark.parametrize("claimed", [False, True])
async def test_a_server_that_refuses_everything_for_a_moment_deposes_nobody(
    embedded: EmbeddedServer, refuse: refusals.Refuse, path: str, claimed: bool
) -> None:
    """THROTTLEDOP comes in the header of an answer, whatever the request was."""
    # It renews so seldom that no renewal is refused in place of the transaction.
    async with aioelect.connect(embedded.hosts, session_timeout=4.0, renew_every=0.5, tick_time=0.2) as client:
        register = await client.create(f"{path}-register", b"0")
        async with aioelect.leadership(client, path) as leader:
            if claimed:
                await write(leader, register, b"1")
            refused = refuse(jute.Multi, refusals.THROTTLED)
            with pytest.raises(exc.ResponseError) as error:
                await write(leader, register, b"2")
            assert error.value.error_code == refusals.THROTTLED
            assert len(refused[0].operations) > 1
            assert leader.is_leader
            await write(leader, register, b"3")
        assert (await client.get(register))[1].version == claimed + 1


@pytest.mark.parametrize("claimed", [False, True])
async def test_an_own_znode_that_may_not_be_read_any_more_deposes_nobody(
    client: aioelect.Client, admin: aioelect.Client, register: str, path: str, claimed: bool
) -> None:
    async with aioelect.leadership(client, path) as leader:
        if claimed:
            await write(leader, register, b"1")
        await admin.set_acl(leader.path, [ACL.make("world", "anyone", admin=True)], force=True)
        with pytest.raises(exc.NoAuth):
            await write(leader, register, b"2")
        assert leader.is_leader
        await admin.set_acl(leader.path, [ACL.make("world", "anyone", read=True, admin=True)], force=True)
        await write(leader, register, b"3")


async def test_deposed_by_the_end_of_its_session_that_an_operation_is_refused_with(
    embedded: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """A leader of servers looks for the session with each operation; whoever serves the client may not know yet."""

    def expired(operations: Sequence[Any], *_: Any) -> Any:
        raise MultiRefused(Refused(refusals.SESSION_EXPIRED, path), 0, len(operations))

    async with aioelect.connect(embedded.hosts, session_timeout=elections.T) as client:
        with pytest.raises(aioelect.LeadershipLost):
            async with aioelect.leadership(client, path) as leader:
                monkeypatch.setattr(embedded.tree, "multi", expired)
                with pytest.raises(aioelect.Deposed):
                    await write(leader, path, b"1")
                assert not leader.is_leader


async def test_a_lost_answer_is_an_unknown_outcome_and_never_repeated(
    client: aioelect.Client, register: str, path: str
) -> None:
    async with aioelect.leadership(client, path) as leader:
        await write(leader, register, b"1")
        writing = asyncio.ensure_future(write(leader, register, b"2"))
        await asyncio.sleep(0)  # it is on its way
        client.session.drop("by the test")
        with pytest.raises(aioelect.OutcomeUnknown, match="was done or it was not"):
            await soon(writing)
        assert leader.is_leader
        _, stat = await client.get(register)
        assert stat.version in (1, 2)


async def test_a_claim_whose_answer_was_lost_is_looked_at_again(
    client: aioelect.Client, admin: aioelect.Client, register: str, path: str
) -> None:
    async with aioelect.leadership(client, path) as leader:
        for _ in range(20):
            writing = asyncio.ensure_future(write(leader, register, b"1"))
            await asyncio.sleep(0)
            client.session.drop("by the test")
            with contextlib.suppress(aioelect.OutcomeUnknown):
                await soon(writing)
        await write(leader, register, b"2")
        assert await writers(admin, path) == [f"{leader.token:016x}"]


async def test_the_next_leader_passes_a_fence_that_somebody_has_emptied(
    connect: Connect, admin: aioelect.Client, register: str, path: str
) -> None:
    async with aioelect.leadership(await connect(), path) as leader:
        await write(leader, register, b"1")
    for name in await writers(admin, path):
        await admin.delete(f"{path}-fence/{name}", force=True)
    async with aioelect.leadership(await connect(), path) as leader:
        await write(leader, register, b"2")
        assert await writers(admin, path) == [f"{leader.token:016x}"]


async def test_after_the_block_nothing_is_written(
    client: aioelect.Client, admin: aioelect.Client, register: str, path: str
) -> None:
    async with aioelect.leadership(client, path) as leader:
        pass
    with pytest.raises(aioelect.Deposed):
        await write(leader, register, b"1")
    assert await admin.get_data(register) == b"0"


async def test_bad_operations_are_refused_at_the_call(client: aioelect.Client, path: str) -> None:
    async with aioelect.leadership(client, path) as leader:
        async with leader.transaction() as txn:
            with pytest.raises(ValueError, match="'no-slash'"):
                txn.delete("no-slash")
            with pytest.raises(TypeError, match="int"):
                txn.set("/x", 7)  # type: ignore[arg-type]
        assert txn.results == ()


SEALED = [ACL.make("world", "anyone", read=True, admin=True)]
"""Nobody may make or delete children."""


async def test_a_fence_that_must_not_be_made_is_an_error_and_leadership_goes_on(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    await admin.ensure_path(f"{path}/election")
    await admin.set_acl(path, SEALED, force=True)
    async with aioelect.leadership(client, f"{path}/election") as leader:
        with pytest.raises(exc.NoAuth) as refused:
            await soon(write(leader, path, b"1"))
        assert refused.value.__notes__ == [
            f"no transaction is possible: {path}/election-fence can't be made or changed"
        ]
        assert leader.is_leader


@pytest.mark.parametrize("obstacle", ["acl", "child"])
async def test_a_fence_that_can_not_be_changed_is_an_error_and_leadership_goes_on(
    connect: Connect, admin: aioelect.Client, register: str, path: str, obstacle: str
) -> None:
    async with aioelect.leadership(await connect(), path) as leader:
        await write(leader, register, b"1")
    (first,) = await writers(admin, path)
    if obstacle == "acl":
        await admin.set_acl(f"{path}-fence", SEALED, force=True)
    else:
        await admin.create(f"{path}-fence/{first}/child")
    async with aioelect.leadership(await connect(), path) as leader:
        with pytest.raises(exc.NoAuth if obstacle == "acl" else exc.NotEmpty):
            await soon(write(leader, register, b"2"))
        assert leader.is_leader
    assert await writers(admin, path) == [first]
    assert await admin.get_data(register) == b"1"


@pytest.mark.parametrize("names", [0, 1])
async def test_whoever_claims_between_the_look_and_the_claim_of_another_is_looked_at_again(
    client: aioelect.Client,
    admin: aioelect.Client,
    register: str,
    path: str,
    names: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``names``: how many stand in the fence at the first look."""
    faster = [f"{0:016x}", f"{1:016x}"]

    async def overtaken(*arguments: Any) -> Any:
        if faster:
            name = faster.pop(0)
            await admin.ensure_path(f"{path}-fence")
            for other in await writers(admin, path):
                await admin.delete(f"{path}-fence/{other}", force=True)
            await admin.create(f"{path}-fence/{name}")
        return await commit(*arguments)

    if names:
        await admin.ensure_path(f"{path}-fence")
        await admin.create(f"{path}-fence/none")
    monkeypatch.setattr(fencing, "commit", overtaken)
    async with aioelect.leadership(client, path) as leader:
        await soon(write(leader, register, b"1"))
        assert await writers(admin, path) == [f"{leader.token:016x}"]
    assert not faster
