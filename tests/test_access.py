"""``acl=``: what strangers can do to an election that is protected, and to one that only seems to be."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiozk
import pytest
from aiozk import exc

import aioelect
from aioelect import Digest
from tests import elections
from tests.elections import Connect, contending, eventually, knows_requests, queue, soon

admin, client, connect = elections.admin, elections.client, elections.connect
embedded, hosts, intercept = elections.embedded, elections.hosts, elections.intercept

APP = Digest("app", "secret")
ALL = {"read": True, "write": True, "create": True, "delete": True, "admin": True}


@pytest.fixture
async def app(connect: Connect) -> aioelect.Client:
    """A client with credentials, whose znodes are for those who have them."""
    return await connect(auth=APP, acl="creator")


@pytest.fixture
async def stranger(connect: Connect) -> aioelect.Client:
    return await connect()


@pytest.fixture
async def another(connect: Connect) -> aioelect.Client:
    """Somebody else, with credentials of their own."""
    return await connect(auth=Digest("mallory", "sesame"))


async def act(leader: aioelect.Leader, path: str) -> None:
    """Makes the fence."""
    async with leader.transaction() as txn:
        txn.check(path)


@contextlib.asynccontextmanager
async def protected(app: aioelect.Client, path: str) -> AsyncIterator[aioelect.Leader]:
    """A leader that has used all that goes with an election: fence, note of its term, and a request."""
    async with aioelect.leadership(app, path, data=b"10.0.0.7", handover_delay=0.01) as leader:
        await act(leader, path)
        yield leader


def attempts(path: str, leader: aioelect.Leader) -> dict[str, Callable[[aioelect.Client], Awaitable[Any]]]:
    """What would do harm, or tell what is not for everybody."""
    fence = f"{path}-fence/{leader.token:016x}"
    return {
        "delete the leader's znode": lambda client: client.delete(leader.path, force=True),
        "read a contender's data": lambda client: client.get(leader.path),
        "write a contender's data": lambda client: client.set(leader.path, b"x", -1),
        "list the contenders": lambda client: client.get_children(path),
        "get the standing": lambda client: aioelect.get_standing(client, path),
        "contend": lambda client: aioelect.Candidate.enter(client, path),
        "stand in the election folder": lambda client: client.create(f"{path}/n_0000000000"),
        "open the election folder": lambda client: client.set_acl(path, [aiozk.ACL.make("world", "anyone", **ALL)]),
        "ask the leader to step down": lambda client: aioelect.step_down(client, path),
        "write the fence": lambda client: client.create(f"{path}-fence/ffffffffffffffff"),
        "take down the fence": lambda client: client.delete(fence, force=True),
        "read the fence": lambda client: client.get_children(f"{path}-fence"),
        "write the note of the term": lambda client: client.set(f"{path}-term", b"", -1),
        "read the note of the term": lambda client: client.get(f"{path}-term"),
    }


@pytest.mark.parametrize("who", ["stranger", "another"])
async def test_strangers_can_do_nothing_to_a_protected_election(
    app: aioelect.Client, stranger: aioelect.Client, another: aioelect.Client, path: str, who: str
) -> None:
    intruder = {"stranger": stranger, "another": another}[who]
    async with protected(app, path) as leader:
        for what, attempt in attempts(path, leader).items():
            with pytest.raises(exc.NoAuth):
                await soon(attempt(intruder))
                pytest.fail(f"a stranger could {what}")
        leader.check()
        await act(leader, path)
        assert await queue(app, path) == [leader.path.rpartition("/")[2]]


async def test_strangers_can_not_write_requests(app: aioelect.Client, stranger: aioelect.Client, path: str) -> None:
    async with aioelect.leadership(app, path) as leader:
        await app.ensure_path(f"{path}-control")
        with pytest.raises(exc.NoAuth):
            await stranger.create(f"{path}-control/step-down-{leader.token:016x}-", sequential=True)
        with pytest.raises(exc.NoAuth):
            await stranger.get_children(f"{path}-control")
        leader.check()


async def test_the_election_itself_works(connect: Connect, app: aioelect.Client, path: str) -> None:
    clients = [app, *[await connect(auth=APP, acl="creator") for _ in range(2)]]
    async with contending(clients, path) as (first, second, third):
        await first.elected()
        standing = await aioelect.get_standing(app, path)
        assert [contender.identity for contender in standing.contenders] == ["c0", "c1", "c2"]
        new = await soon(aioelect.hand_over(app, path, "c2"))
        assert new is not None
        await third.elected()
        await third.leave()
        leader = await second.elected()
        await act(leader, path)


async def test_a_request_is_as_well_protected_as_the_election(
    connect: Connect, app: aioelect.Client, stranger: aioelect.Client, path: str
) -> None:
    """Also where whoever asks has the credentials, and has said nothing of ACLs."""
    operator = await connect(auth=APP)
    async with contending([app], path) as (first,):
        await first.elected()
        assert await soon(aioelect.step_down(operator, path)) is None
        with pytest.raises((exc.NoAuth, exc.NoNode)):
            await stranger.get_children(f"{path}-control")


async def test_creator_and_read_lets_others_look(connect: Connect, stranger: aioelect.Client, path: str) -> None:
    app = await connect(auth=APP, acl="creator+read")
    async with aioelect.leadership(app, path, identity="me") as leader:
        standing = await aioelect.get_standing(stranger, path)
        assert standing.leader is not None
        assert standing.leader.identity == "me"
        for attempt in (
            stranger.delete(leader.path, force=True),
            stranger.create(f"{path}/n_0000000007"),
            aioelect.step_down(stranger, path, timeout=0.5),
        ):
            with pytest.raises((exc.NoAuth, aioelect.SwitchoverTimeout)):
                await attempt
        leader.check()


async def test_a_list_is_taken_as_it_is(connect: Connect, stranger: aioelect.Client, path: str) -> None:
    acl = [aiozk.ACL.make("auth", "", **ALL), aiozk.ACL.make("world", "anyone", read=True, create=True)]
    app = await connect(auth=APP)
    async with aioelect.leadership(app, path, acl=acl) as leader:
        assert (await aioelect.get_standing(stranger, path)).leader is not None
        with pytest.raises(exc.NoAuth):
            await stranger.delete(leader.path, force=True)


async def test_an_acl_of_one_election_overrides_the_client_s(
    connect: Connect, app: aioelect.Client, stranger: aioelect.Client, path: str
) -> None:
    async with aioelect.leadership(app, path, acl="open") as leader:
        await stranger.get(leader.path)


# What only seems to be protected


async def test_a_folder_that_others_may_write_to_is_refused(
    app: aioelect.Client, stranger: aioelect.Client, path: str
) -> None:
    await stranger.ensure_path(path)
    with pytest.raises(aioelect.UnexpectedAcl) as refused:
        async with aioelect.leadership(app, path):
            pytest.fail("strangers may delete what is in there")
    assert (refused.value.path, refused.value.found) == (path, "world:'anyone':rwcda")
    assert refused.value.expected == "digest:'app':rwcda"
    assert "secret" not in str(refused.value)
    assert await queue(stranger, path) == []


async def test_requests_from_a_folder_that_others_may_write_to_are_not_followed(
    app: aioelect.Client, stranger: aioelect.Client, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with aioelect.leadership(app, path) as leader:
        await stranger.ensure_path(f"{path}-control")
        await stranger.create(f"{path}-control/step-down-{leader.token:016x}-", ephemeral=True, sequential=True)
        await eventually(lambda: "are not followed" in caplog.text)
        await eventually(lambda: knows_requests(app))
        leader.check()
        await asyncio.sleep(0)


async def test_a_fence_that_others_may_write_to_is_refused(
    app: aioelect.Client, stranger: aioelect.Client, path: str
) -> None:
    await stranger.create(f"{path}-fence")
    await stranger.create(f"{path}-fence/none")
    async with aioelect.leadership(app, path) as leader:
        with pytest.raises(aioelect.UnexpectedAcl, match=f"{path}-fence has the ACL"):
            await act(leader, path)
        leader.check()


async def test_a_note_that_others_may_write_is_refused(
    app: aioelect.Client, stranger: aioelect.Client, path: str
) -> None:
    await stranger.create(f"{path}-term", b'{"v": 1, "token": 7, "ended": true}')
    with pytest.raises(aioelect.UnexpectedAcl, match=f"{path}-term has the ACL"):
        async with aioelect.leadership(app, path, handover_delay=0.1):
            pytest.fail("anybody could have written that")
    assert await queue(app, path) == []


async def test_others_credentials_do_not_make_a_folder_ours(app: aioelect.Client, connect: Connect, path: str) -> None:
    mallory = await connect(auth=Digest("mallory", "sesame"))
    app_too = (await app.get_acl(await app.create(f"{path}-app")))[0]
    await mallory.create(path, acl=[app_too, aiozk.ACL.make("auth", "", **ALL)])
    with pytest.raises(aioelect.UnexpectedAcl, match="mallory"):
        await aioelect.Candidate.enter(app, path)


# Bad input


@pytest.mark.parametrize("acl", ["private", "CREATOR", ""])
async def test_what_is_no_acl_is_refused_at_the_call(acl: Any) -> None:
    with pytest.raises(ValueError, match="acl must be 'open', 'creator', 'creator\\+read' or a list"):
        aioelect.connect("127.0.0.1", auth=APP, acl=acl)


async def test_what_is_no_list_of_acls_is_refused_at_the_call() -> None:
    with pytest.raises(TypeError, match="it holds 'creator'"):
        aioelect.connect("127.0.0.1", auth=APP, acl=["creator"])


@pytest.mark.parametrize("missing", ["read", "create", "delete"])
async def test_too_narrow_an_acl_is_refused_at_the_call(client: aioelect.Client, missing: str) -> None:
    acl = [aiozk.ACL.make("world", "anyone", **ALL | {missing: False})]
    with pytest.raises(ValueError, match=f"acl grants {missing.upper()} to nobody, but"):
        aioelect.leadership(client, "/election", acl=acl)


async def test_creator_without_credentials_is_refused_at_the_call(client: aioelect.Client) -> None:
    with pytest.raises(ValueError, match="give connect\\(\\) credentials by auth="):
        aioelect.connect("127.0.0.1", acl="creator")
    with pytest.raises(ValueError, match="give connect\\(\\) credentials by auth="):
        aioelect.leadership(client, "/election", acl="creator+read")
