"""``get_standing()`` and ``observe()``: looking on."""

import asyncio
import contextlib
import os
import socket
import time

import pytest
from aiozk import exc

import aioelect
from aioelect import events
from aioelect.testing.embedded import EmbeddedServer
from tests import elections
from tests.elections import EXISTS, GET_CHILDREN, GET_DATA, Connect, Intercept, T, Tape, contending, expire, soon
from tests.meter import EVENT, Meter

admin, client, connect = elections.admin, elections.client, elections.connect
embedded, hosts, intercept = elections.embedded, elections.hosts, elections.intercept


def identities(standing: aioelect.Standing) -> list[str]:
    return [contender.identity for contender in standing.contenders]


async def until(standings: aioelect.Standings, expected: list[str]) -> aioelect.Standing:
    """The first standing with these contenders."""

    async def look() -> aioelect.Standing:
        async for standing in standings:
            if identities(standing) == expected:
                return standing
        raise AssertionError("it never ends by itself")

    return await soon(look())


async def test_standing_names_the_contenders_in_order(connect: Connect, admin: aioelect.Client, path: str) -> None:
    before = time.time()
    async with contending([await connect() for _ in range(3)], path, data=b"10.0.0.7:8080") as contenders:
        leader = await contenders[0].elected()
        standing = await aioelect.get_standing(admin, path)
        assert identities(standing) == ["c0", "c1", "c2"]
        first = standing.leader
        assert first is standing.contenders[0]
        assert (first.token, first.path, first.data) == (leader.token, leader.path, b"10.0.0.7:8080")
        assert (first.host, first.pid) == (socket.gethostname(), os.getpid())
        assert before - 1 < first.joined < time.time() + 1
        assert [c.token for c in standing.contenders] == sorted({c.token for c in standing.contenders})


async def test_standing_of_no_folder_and_of_an_empty_one(admin: aioelect.Client, path: str) -> None:
    empty = aioelect.Standing()
    assert empty.leader is None
    assert await aioelect.get_standing(admin, path) == empty
    await admin.create(path)
    assert await aioelect.get_standing(admin, path) == empty


async def test_standing_by_hosts_string(hosts: str, client: aioelect.Client, path: str) -> None:
    async with aioelect.leadership(client, path, identity="me"):
        assert identities(await aioelect.get_standing(hosts, path)) == ["me"]
        async with aioelect.observe(hosts, path) as standings:
            await until(standings, ["me"])


async def test_what_others_wrote_is_read_leniently(client: aioelect.Client, admin: aioelect.Client, path: str) -> None:
    written = [
        b"plain text",
        b"",
        b"\xff\xfe",
        b'{"v": 1}',
        b"[" * 100_000,
        b'{"v":9,"identity":"new","pid":"x","more":1}',
    ]
    await client.ensure_path(path)
    for data in written:
        await client.create(f"{path}/n_", data, ephemeral=True, sequential=True)
    standing = await aioelect.get_standing(admin, path)
    assert identities(standing) == ["plain text", "", "��", '{"v": 1}', "[" * 1024, "new"]
    assert [(c.host, c.pid, c.data) for c in standing.contenders] == [(None, None, b"")] * len(written)


async def test_standing_of_a_foreign_folder_is_refused(client: aioelect.Client, path: str) -> None:
    await client.ensure_path(path)
    await client.create(f"{path}/_c_6e0cb5d2-latch-", ephemeral=True, sequential=True)
    with pytest.raises(aioelect.ForeignContender, match="_c_6e0cb5d2-latch-0000000000"):
        await aioelect.get_standing(client, path)
    async with aioelect.observe(client, path) as standings:
        with pytest.raises(aioelect.ForeignContender):
            await anext(standings)
        await client.delete(f"{path}/_c_6e0cb5d2-latch-0000000000")
        assert await soon(anext(standings)) == aioelect.Standing()


async def test_observer_sees_contenders_come_lead_and_go(connect: Connect, admin: aioelect.Client, path: str) -> None:
    """From before the folder exists."""
    async with aioelect.observe(admin, path) as standings:
        assert await soon(anext(standings)) == aioelect.Standing()
        async with contending([await connect()], path) as (first,):
            await until(standings, ["c0"])
            async with contending([await connect()], path):
                await until(standings, ["c0", "c0"])
                await first.leave()
                standing = await until(standings, ["c0"])
                assert standing.leader is not None
                assert standing.leader.path.endswith("n_0000000001")
        await until(standings, [])


async def test_observer_sees_the_folder_deleted_and_made_again(
    connect: Connect, admin: aioelect.Client, path: str
) -> None:
    """The names are the same afterwards, the contenders are not."""
    client = await connect()
    await admin.create(path)
    async with aioelect.observe(admin, path) as standings:
        for identity in ("one", "two", "three"):
            async with aioelect.leadership(client, path, identity=identity) as leader:
                standing = await until(standings, [identity])
                assert standing.leader is not None
                assert (standing.leader.path, standing.leader.token) == (f"{path}/n_0000000000", leader.token)
            # A folder that our contender made is a container: the server may be first.
            with contextlib.suppress(exc.NoNode):
                await admin.delete(path, force=True)
            if identity == "one":  # else it may not even look in between
                await until(standings, [])


async def test_slow_reader_gets_the_newest_alone(client: aioelect.Client, admin: aioelect.Client, path: str) -> None:
    async with aioelect.observe(admin, path) as standings:
        await soon(anext(standings))
        for number in range(5):
            async with aioelect.leadership(client, path, identity=str(number)):
                pass
        async with aioelect.leadership(client, path, identity="last"):
            assert identities(await soon(anext(standings))) == ["last"]
            waiting = asyncio.create_task(standings.__anext__())
            await client.create(f"{path}/readme")  # no contender
            done, _ = await asyncio.wait([waiting], timeout=0.1)
            assert not done, "nothing has changed"
        assert await soon(waiting) == aioelect.Standing()


async def test_a_change_costs_one_list_and_nothing_while_nobody_reads(
    hosts: str, client: aioelect.Client, path: str
) -> None:
    """Beside the news, and a look at who is new. What else was asked has been answered before ``exists``."""
    await client.ensure_path(path)
    async with Meter(hosts) as meter, aioelect.connect(meter.hosts, session_timeout=T) as observer:

        async def spent() -> list[int]:
            await observer.exists(path)
            return [frame.opcode for frame in meter.work() if frame.up or frame.opcode == EVENT]

        async with aioelect.observe(observer, path) as standings:
            assert await soon(anext(standings)) == aioelect.Standing()
            for count in range(1, 4):
                meter.frames.clear()
                reading = asyncio.create_task(standings.__anext__())
                await asyncio.sleep(0)
                await client.create(f"{path}/n_", ephemeral=True, sequential=True)
                assert len((await soon(reading)).contenders) == count
                assert await spent() == [EVENT, GET_CHILDREN, GET_DATA, EXISTS]
            meter.frames.clear()
            for _ in range(5):
                await client.create(f"{path}/n_", ephemeral=True, sequential=True)
                await observer.exists(path)
            assert sorted(await spent()) == [EVENT, *[EXISTS] * 6]  # the news may come just after the first of them
            meter.frames.clear()
            assert len((await soon(anext(standings))).contenders) == 8
            assert await spent() == [GET_CHILDREN, *[GET_DATA] * 5, EXISTS]


async def test_observer_sees_the_last_of_many_changes(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    """Those that come between its list and its next one too."""
    await client.ensure_path(path)
    async with aioelect.observe(admin, path) as standings:
        reading = asyncio.create_task(until(standings, ["last"]))
        for _ in range(30):
            async with aioelect.leadership(client, path):
                pass
        async with aioelect.leadership(client, path, identity="last"):
            await reading


async def test_who_waits_for_a_standing_when_the_block_ends_is_released(client: aioelect.Client, path: str) -> None:
    async def read() -> list[aioelect.Standing]:
        return [standing async for standing in standings]

    async with aioelect.observe(client, path) as standings:
        await soon(anext(standings))
        readers = [asyncio.create_task(read()) for _ in range(2)]
        await asyncio.sleep(0)
    assert await soon(asyncio.gather(*readers)) == [[], []]
    with pytest.raises(StopAsyncIteration):
        await anext(standings)
    assert not client.session.watch_callbacks


async def test_observer_goes_on_after_a_reconnect(
    intercept: Intercept, connect: Connect, client: aioelect.Client, path: str
) -> None:
    proxy = await intercept()
    tape = Tape()
    observer = await connect(proxy.hosts, on_event=tape)
    async with aioelect.observe(observer, path) as standings:
        await soon(anext(standings))
        proxy.cut()
        await tape.wait(events.Disconnected)
        async with aioelect.leadership(client, path, identity="meanwhile"):
            proxy.heal()
            await until(standings, ["meanwhile"])
            proxy.sever()
            await tape.wait(events.Reconnected, 2)
        await until(standings, [])


async def test_observer_goes_on_with_a_new_session(connect: Connect, client: aioelect.Client, path: str) -> None:
    observer = await connect()
    async with aioelect.observe(observer, path) as standings:
        await soon(anext(standings))
        await expire(observer)
        async with aioelect.leadership(client, path, identity="after"):
            await until(standings, ["after"])
            await expire(observer)
        await until(standings, [])


async def test_observer_learns_that_its_client_was_closed(connect: Connect, path: str) -> None:
    client = await connect()
    async with aioelect.observe(client, path) as standings:
        await soon(anext(standings))
        waiting = asyncio.create_task(standings.__anext__())
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(aioelect.ClientClosed):
            await soon(waiting)


async def test_observer_that_was_cancelled_misses_nothing(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    async with aioelect.observe(admin, path) as standings:
        await soon(anext(standings))
        async with aioelect.leadership(client, path, identity="seen late"):
            for _ in range(5):
                reading = asyncio.create_task(standings.__anext__())
                await asyncio.sleep(0)
                reading.cancel()
                await asyncio.wait([reading])
            await until(standings, ["seen late"])


async def test_observer_leaves_no_watch(client: aioelect.Client, path: str) -> None:
    async with aioelect.observe(client, path) as standings:
        await soon(anext(standings))
        assert client.session.watch_callbacks
    assert not client.session.watch_callbacks
    assert not client.session._observers


async def test_observer_of_a_missing_folder_keeps_still(embedded: EmbeddedServer, path: str) -> None:
    """The deletion of the folder uses its watches up; setting them anew must not go on for ever."""
    asked = 0
    real = type(embedded.tree).exists

    async with aioelect.connect(embedded.hosts, session_timeout=T) as client:
        await client.create(path)
        async with aioelect.observe(client, path) as standings:
            await soon(anext(standings))
            await client.delete(path, force=True)

            def exists(*arguments: object) -> object:
                nonlocal asked
                asked += 1
                return real(*arguments)  # type: ignore[arg-type]

            embedded.tree.exists = exists  # type: ignore[assignment,method-assign]
            waiting = asyncio.create_task(standings.__anext__())
            await asyncio.wait([waiting], timeout=0.3)
            waiting.cancel()
            await asyncio.wait([waiting])
    assert asked < 10


@pytest.mark.parametrize("call", [aioelect.get_standing, aioelect.observe])
def test_bad_argument_is_refused_at_the_call(call: object) -> None:
    assert callable(call)
    client = aioelect.Client("127.0.0.1:1")
    with pytest.raises(ValueError, match="'election'"):
        call(client, "election")
    with pytest.raises(TypeError, match="5"):
        call(client, 5)
    with pytest.raises(TypeError, match="5"):
        call(5, "/election")
    with pytest.raises(ValueError, match="nowhere:port"):
        call("nowhere:port", "/election")
