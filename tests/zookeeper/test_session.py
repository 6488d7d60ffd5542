"""The session against real servers: connections come and go, the session stays. T is the session timeout."""

from __future__ import annotations

import asyncio
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aiozk import exc, protocol

from aioelect import (
    Client,
    ClientClosed,
    ConnectionLoss,
    ConnectTimeout,
    Executed,
    Leader,
    LossReason,
    ServerSilent,
    SessionExpired,
    campaign,
    connect,
)
from aioelect import events as ev
from aioelect.ports import Address, World, dial_tcp
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.proxy import CREATE_SESSION, FaultProxy
from aioelect.testing.zookeeper import ZooKeeperEnsemble, ZooKeeperServer, free_ports
from aioelect.zookeeper import wire
from aioelect.zookeeper.handshake import Handshake
from aioelect.zookeeper.states import States
from tests import refusals
from tests.conftest import Logged

from .conftest import Open, Record, lead, until, until_gone

T = 3.0
read_only = refusals.read_only
CREATE2, EXISTS, SET_WATCHES, CLOSE = 15, 3, 101, -11
CREATED, DELETED = protocol.WatchEvent.CREATED, protocol.WatchEvent.DELETED
DATA_CHANGED, CHILDREN_CHANGED = protocol.WatchEvent.DATA_CHANGED, protocol.WatchEvent.CHILDREN_CHANGED
SLACK = 0.5
"""Seconds that a loaded machine may add to a bound."""


def hosts_of(proxies: Sequence[FaultProxy]) -> str:
    return ",".join(proxy.hosts for proxy in proxies)


def current(client: Client, proxies: Sequence[FaultProxy]) -> FaultProxy:
    """The proxy that the client is connected through."""
    assert client.session.conn is not None
    port = client.session.conn.port
    return next(proxy for proxy in proxies if proxy.port == port)


# A connection that ends


@pytest.mark.parametrize("end", [FaultProxy.sever, FaultProxy.reset], ids=["fin", "rst"])
async def test_the_end_of_a_connection_is_noticed_at_once(
    proxy: FaultProxy, open_client: Open, record: Record, end: Callable[[FaultProxy], None]
) -> None:
    client = await open_client(proxy.hosts, on_event=record)
    session_id = client.session.session_id
    delays = []
    for count in range(1, 10):
        began = time.monotonic()
        end(proxy)
        delays.append((await record.wait(ev.Disconnected, count)).at - began)
        await record.wait(ev.Reconnected, count)
        await asyncio.sleep(1.1)  # connections that hold for less count as failed attempts
        if count == 3 and max(delays) < 0.05:
            break
    assert statistics.median(delays) < 0.05
    assert client.session.session_id == session_id
    assert not record.of(ev.Expired)


@pytest.mark.parametrize("end", [FaultProxy.sever, FaultProxy.reset], ids=["fin", "rst"])
async def test_pending_requests_fail_and_say_whether_they_can_have_been_executed(
    proxy: FaultProxy, open_client: Open, path: str, end: Callable[[FaultProxy], None]
) -> None:
    client = await open_client(proxy.hosts)
    proxy.freeze("down")
    read = client.session.submit(protocol.ExistsRequest(path="/", watch=False))
    write = client.session.submit(protocol.DeleteRequest(path=path, version=-1))
    end(proxy)
    with pytest.raises(ConnectionLoss) as of_read:
        await asyncio.wait_for(read, 5)
    with pytest.raises(ConnectionLoss) as of_write:
        await asyncio.wait_for(write, 5)
    assert of_read.value.executed is Executed.NO
    assert of_write.value.executed is Executed.UNKNOWN
    assert str(proxy.port) in str(of_write.value)
    with pytest.raises(ConnectionLoss) as unsent:
        await client.session.submit(protocol.DeleteRequest(path=path, version=-1))
    assert unsent.value.executed is Executed.NO


async def test_reads_are_repeated_on_the_next_connection(proxy: FaultProxy, open_client: Open) -> None:
    client = await open_client(proxy.hosts)
    lost = proxy.lose_reply(EXISTS)
    assert await client.exists("/")
    assert lost.is_set()


async def test_a_write_is_not_repeated(proxy: FaultProxy, open_client: Open, other: Client, path: str) -> None:
    client = await open_client(proxy.hosts)
    proxy.lose_reply(CREATE2)
    with pytest.raises(ConnectionLoss) as caught:
        await client.create(f"{path}-", sequential=True)
    assert caught.value.executed is Executed.UNKNOWN
    made = [name for name in await other.get_children("/") if name.startswith(f"{path}-"[1:])]
    assert len(made) == 1


async def test_a_write_waits_for_a_connection_while_it_is_unsent(
    proxy: FaultProxy, open_client: Open, path: str
) -> None:
    client = await open_client(proxy.hosts)
    proxy.cut()
    await until(lambda: not client.session.connected)
    creating = asyncio.create_task(client.create(path, ephemeral=True))
    await asyncio.sleep(0.1)
    proxy.heal()
    assert await creating == path


async def test_every_request_has_a_deadline(proxy: FaultProxy, open_client: Open, path: str) -> None:
    client = await open_client(proxy.hosts, request_timeout=0.5)
    proxy.freeze("down")
    with pytest.raises(ConnectionLoss) as sent:
        await asyncio.wait_for(client.create(path), 5)
    assert sent.value.executed is Executed.UNKNOWN
    proxy.refuse()
    proxy.reset()
    await until(lambda: not client.session.connected)
    with pytest.raises(ConnectionLoss) as unsent:
        await asyncio.wait_for(client.create(path), 5)
    assert unsent.value.executed is Executed.NO


async def test_another_member_takes_the_session_over_within_half_a_second(
    proxies: tuple[FaultProxy, ...], open_client: Open, record: Record
) -> None:
    client = await open_client(hosts_of(proxies), on_event=record)
    session_id = client.session.session_id
    away = []
    for count in range(1, 8):
        proxy = current(client, proxies)
        began = time.monotonic()
        proxy.cut()
        back = await record.wait(ev.Reconnected, count)
        away.append(back.at - began)
        assert current(client, proxies) is not proxy
        assert await client.exists("/")
        proxy.heal()
        await asyncio.sleep(1.1)  # connections that hold for less count as failed attempts
    assert statistics.median(away) < 0.5
    assert client.session.session_id == session_id
    assert not record.of(ev.Expired)


async def test_the_session_survives_kill_9_of_its_member(
    ensemble: ZooKeeperEnsemble, open_client: Open, record: Record, path: str
) -> None:
    client = await open_client(ensemble.hosts, session_timeout=10.0, on_event=record)
    other = await open_client(ensemble.hosts, session_timeout=10.0)
    await client.create(path, ephemeral=True)
    assert client.session.conn is not None
    index = next(i for i, member in enumerate(ensemble.members) if member.port == client.session.conn.port)
    session_id = client.session.session_id
    ensemble.members[index].kill()
    began = time.monotonic()
    assert (await record.wait(ev.Disconnected)).at - began < SLACK
    await record.wait(ev.Reconnected)
    assert client.session.session_id == session_id
    assert await other.exists(path)


# A server that falls silent


@pytest.mark.parametrize("asking", [False, True], ids=["idle", "asking"])
async def test_a_silent_server_is_given_up_after_two_thirds_of_the_timeout(
    proxy: FaultProxy, open_client: Open, record: Record, asking: bool
) -> None:
    client = await open_client(proxy.hosts, on_event=record)
    await client.exists("/")
    began = time.monotonic()
    proxy.blackhole()
    answer = client.session.submit(protocol.ExistsRequest(path="/", watch=False)) if asking else None
    given_up = await record.wait(ev.Disconnected)
    assert given_up.at - began < T * 2 / 3 + SLACK
    if answer is not None:
        assert given_up.at - began < T / 3 + SLACK
        with pytest.raises(ServerSilent):
            await answer


async def test_a_frozen_member_is_left_for_another(
    ensemble: ZooKeeperEnsemble, open_client: Open, record: Record
) -> None:
    follower = ensemble.members[ensemble.followers()[0]]
    client = await open_client(follower.hosts, on_event=record)
    session_id = client.session.session_id
    client.session._servers.hosts = (await open_client(ensemble.hosts)).session.hosts
    follower.freeze()
    began = time.monotonic()
    assert (await record.wait(ev.Disconnected)).at - began < T * 2 / 3 + SLACK
    back = await record.wait(ev.Reconnected)
    assert back.at - began < T
    assert client.session.session_id == session_id


async def test_a_server_that_was_only_paused_is_not_given_up(
    proxy: FaultProxy, open_client: Open, record: Record
) -> None:
    client = await open_client(proxy.hosts, on_event=record)
    proxy.freeze()
    answer = client.session.submit(protocol.ExistsRequest(path="/", watch=False))
    await asyncio.sleep(T / 6)
    proxy.thaw()
    await answer
    assert not record.of(ev.Disconnected)


async def test_a_blocked_loop_does_not_blame_the_server(
    zookeeper: ZooKeeperServer, open_client: Open, other: Client, record: Record, path: str
) -> None:
    client = await open_client(zookeeper.hosts, on_event=record)
    await ask_and_block(client, other, path)
    assert not record.of(ev.Disconnected)


async def ask_and_block(client: Client, other: Client, path: str) -> None:
    """Blocks the loop with a request pending: from within a read, after which uvloop runs timers before it reads again."""
    answers = []

    def block(_: str) -> None:
        answers.append(client.session.submit(protocol.ExistsRequest(path="/", watch=False)))
        time.sleep(T / 2)

    await other.create(path)
    client.session.add_watch_callback(DELETED, path, block)
    await client.exists(path, watch=True)
    await other.delete(path)
    await until(lambda: answers)
    await answers[0]
    client.session.remove_watch_callback(DELETED, path, block)


# Connecting


async def test_connecting_past_a_black_hole_and_a_frozen_member_takes_less_than_two_seconds(
    ensemble: ZooKeeperEnsemble, proxies: tuple[FaultProxy, ...], open_client: Open
) -> None:
    frozen, dark = ensemble.followers()
    healthy = ensemble.members[ensemble.leader_index()]
    ensemble.members[frozen].freeze()
    proxies[dark].blackhole()
    hosts = f"{ensemble.members[frozen].hosts},{proxies[dark].hosts},{healthy.hosts}"
    for seed in range(4):  # the order of attempts is random
        began = time.monotonic()
        client = await open_client(hosts, world=World(random=random.Random(seed)))
        assert time.monotonic() - began < 2
        assert client.session.conn is not None
        assert client.session.conn.port == healthy.port


async def test_connecting_past_a_dropped_syn(zookeeper: ZooKeeperServer, open_client: Open) -> None:
    [dark] = free_ports(1)

    async def dial(protocol: asyncio.Protocol, address: Address, **tls: Any) -> asyncio.Transport:
        if address[1] == dark:
            await asyncio.Event().wait()
        return await dial_tcp(protocol, address, **tls)

    began = time.monotonic()
    for seed in range(4):
        await open_client(f"127.0.0.1:{dark},{zookeeper.hosts}", world=World(dial=dial, random=random.Random(seed)))
    assert time.monotonic() - began < 4 * 1.0


async def test_connecting_does_not_wait_for_the_threads_of_the_loop(
    zookeeper: ZooKeeperServer, open_client: Open
) -> None:
    busy = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        work = asyncio.get_running_loop().run_in_executor(None, busy.wait)
        try:
            for host in ("127.0.0.1", "localhost"):
                assert await (await open_client(f"{host}:{zookeeper.port}", timeout=5)).exists("/")
        finally:
            busy.set()
            await work


@pytest.mark.parametrize("late", [0.5, 5.0])
async def test_a_server_that_comes_up_late_is_found_within_about_a_second(
    open_client: Open, record: Record, late: float
) -> None:
    [port] = free_ports(1)
    connecting = asyncio.create_task(open_client(f"127.0.0.1:{port}", on_event=record))
    await asyncio.sleep(late)
    async with EmbeddedServer(port):
        up = time.monotonic()
        client = await connecting
        assert record.of(ev.Connected)[0].at - up < 1 + SLACK
        await client.close()
    assert 3 <= len(record.of(ev.Unreachable)) < 12 + late


async def test_a_server_that_refuses_is_asked_again_at_once_and_then_ever_more_rarely(
    proxy: FaultProxy, open_client: Open, record: Record
) -> None:
    client = await open_client(proxy.hosts, on_event=record, session_timeout=10.0)
    session_id = client.session.session_id
    before = proxy.connections
    proxy.cut()
    await until(lambda: proxy.connections > before, timeout=0.25)
    await record.wait(ev.Unreachable, 8)
    pauses = [event.retry_in for event in record.of(ev.Unreachable)]
    assert 0.025 <= pauses[0] <= 0.05
    assert all(
        bound / 2 <= pause <= bound for pause, bound in zip(pauses, [0.05, 0.1, 0.2, 0.4, 0.8, 1, 1, 1], strict=False)
    )
    assert proxy.connections - before == len(pauses)
    assert "the server closed it" in record.of(ev.Unreachable)[0].why
    proxy.heal()
    await record.wait(ev.Reconnected)
    assert client.session.session_id == session_id


async def test_a_server_that_takes_the_session_and_drops_it_is_no_busy_loop(
    proxy: FaultProxy, open_client: Open, record: Record
) -> None:
    client = await open_client(proxy.hosts, on_event=record)
    client.session.add_watch_callback(protocol.WatchEvent.DELETED, "/", print)
    await client.exists("/", watch=True)
    before = proxy.connections
    proxy.lose_reply(SET_WATCHES, count=1000)
    proxy.sever()
    await asyncio.sleep(2)
    assert 3 <= proxy.connections - before <= 12
    proxy.heal()
    await record.wait(ev.Reconnected)
    assert not record.of(ev.Expired)


async def test_connections_that_never_hold_are_no_busy_loop(proxy: FaultProxy, open_client: Open) -> None:
    drops = 0

    def drop(event: ev.Event) -> None:
        nonlocal drops
        if isinstance(event, (ev.Connected, ev.Reconnected)):
            drops += 1
            asyncio.get_running_loop().call_later(0.01, proxy.sever)

    client = await open_client(proxy.hosts, on_event=drop)
    session_id = client.session.session_id
    await asyncio.sleep(2)
    assert 4 <= drops <= 12
    assert client.session.session_id == session_id


async def test_connecting_gives_up_after_its_timeout_and_says_why(proxy: FaultProxy) -> None:
    proxy.refuse()
    [closed] = free_ports(1)
    began = time.monotonic()
    with pytest.raises(ConnectTimeout) as caught:
        await connect(f"{proxy.hosts},127.0.0.1:{closed}", timeout=0.7)
    assert 0.6 < time.monotonic() - began < 0.7 + SLACK
    assert isinstance(caught.value, TimeoutError)
    assert f"{proxy.hosts}: the server closed it" in str(caught.value)
    assert f"127.0.0.1:{closed}: [Errno" in str(caught.value)


# What costs a retry, and what ends a session


async def test_a_server_behind_our_zxid_costs_a_retry(proxy: FaultProxy, open_client: Open, record: Record) -> None:
    client = await open_client(proxy.hosts, on_event=record)
    session_id, zxid = client.session.session_id, client.session.last_zxid
    client.session.last_zxid = 2**62
    proxy.sever()
    await record.wait(ev.Unreachable, 2)
    client.session.last_zxid = zxid
    await record.wait(ev.Reconnected)
    assert client.session.session_id == session_id
    assert not record.of(ev.Expired)


async def test_an_ensemble_without_a_quorum_costs_retries(
    ensemble: ZooKeeperEnsemble, open_client: Open, record: Record, path: str
) -> None:
    client = await open_client(ensemble.hosts, on_event=record, session_timeout=4.0)
    await client.create(path, ephemeral=True)
    session_id = client.session.session_id
    assert client.session.conn is not None
    stay = next(member for member in ensemble.members if member.port == client.session.conn.port)
    others = [member for member in ensemble.members if member is not stay]
    for member in others:
        member.kill()
    await record.wait(ev.Unreachable, 3)
    for member in others:
        member.launch()
    await record.wait(ev.Reconnected)
    assert client.session.session_id == session_id
    assert await client.exists(path)
    assert not record.of(ev.Expired)


class Witness:
    """An observer that keeps a list."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def session_suspended(self) -> None:
        self.seen.append("suspended")

    def session_resumed(self) -> None:
        self.seen.append("resumed")

    def session_ended(self) -> None:
        self.seen.append("ended")

    def session_opened(self) -> None:
        self.seen.append("opened")

    def session_closed(self) -> None:
        self.seen.append("closed")


async def test_an_expired_session_is_learned_once_and_a_new_one_opened(
    proxy: FaultProxy, open_client: Open, other: Client, record: Record, path: str
) -> None:
    client = await open_client(proxy.hosts, session_timeout=0.6, on_event=record)
    witness = Witness()
    client.session.observe(witness)
    first = client.session.session_id
    await client.create(path, ephemeral=True)
    proxy.cut()
    await until_gone(other, path)
    lost = client.session.state.wait_for("lost")
    assert client.session.session_id == first  # nobody has said so yet
    proxy.heal()
    second = (await record.wait(ev.Connected, 2)).session_id
    assert witness.seen == ["suspended", "ended", "opened"]
    assert [event.session_id for event in record.of(ev.Expired)] == [first]
    assert lost.done()
    assert client.session.session_id == second != first
    with pytest.raises(SessionExpired):
        await client.session.ask(protocol.ExistsRequest(path="/", watch=False), session_id=first)
    assert await client.exists("/")
    client.session.unobserve(witness)


async def test_a_wiped_server_costs_the_session_after_three_timeouts(open_client: Open, record: Record) -> None:
    timeout = 0.6
    async with ZooKeeperServer() as server:
        client = await open_client(server.hosts, session_timeout=timeout, on_event=record)
        await client.create("/some")
        for _ in range(50):  # the wiped server is to stay behind what we have seen
            await client.set_data("/some", b"")
        await server.arestart(wipe=True)
        expired = await record.wait(ev.Expired)
        assert expired.at - record.of(ev.Disconnected)[-1].at >= 3 * timeout
        await record.wait(ev.Connected, 2)
        assert not await client.exists("/some")
        assert len(record.of(ev.Expired)) == 1
        await client.close()


async def test_an_observer_that_fails_hinders_nobody(
    proxy: FaultProxy, open_client: Open, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(Witness):
        def session_suspended(self) -> None:
            raise ZeroDivisionError

    client = await open_client(proxy.hosts)
    faulty, witness = Faulty(), Witness()
    client.session.observe(faulty)
    client.session.observe(witness)
    proxy.sever()
    await until(lambda: witness.seen == ["suspended", "resumed"])
    assert faulty.seen == ["resumed"]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_an_event_handler_that_fails_hinders_nobody(
    proxy: FaultProxy, open_client: Open, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """Also with what the result of a cancelled future raises, which would end the session's own task."""

    def handler(event: ev.Event) -> None:
        raise error

    client = await open_client(proxy.hosts, on_event=handler)
    first = client.session.conn
    proxy.sever()
    await until(lambda: client.session.conn is not first)
    second = client.session.conn
    proxy.sever()
    await until(lambda: client.session.conn not in (first, second))
    assert await client.exists("/")
    assert error.__name__ in caplog.text


# Servers that are read-only


async def test_a_read_only_server_is_left_for_one_that_is_not(record: Record, read_only: set[str], path: str) -> None:
    """For whoever wants to write, and would wait for ever. Of the others, that one is tried first."""
    async with EmbeddedServer() as first, EmbeddedServer() as second, EmbeddedServer() as third:
        hosts = [first.hosts, second.hosts, third.hosts]
        read_only.update(hosts)
        async with Client(",".join(hosts), session_timeout=T, allow_read_only=True, on_event=record) as client:
            session, conn = client.session, client.session.conn
            assert session.state.current_state == States.READ_ONLY
            assert conn is not None
            leading = asyncio.create_task(lead(client, path, Record()))
            writable = next(server for server in (first, second, third) if server.hosts != conn.server)
            read_only.remove(writable.hosts)
            await asyncio.wait_for(leading, 10)
            assert session.connected
            assert list(writable.sessions) == [session.session_id]
            assert [event.why for event in record.of(ev.Disconnected)] == ["it is read-only, and another server is not"]


async def test_the_look_for_a_writable_server_is_bounded_in_rate_and_ends_with_the_client(
    read_only: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inquiries = list[float]()
    inquire = Handshake.inquire

    async def count(self: Handshake, *arguments: Any) -> wire.ConnectReply:
        inquiries.append(time.monotonic())
        return await inquire(self, *arguments)

    monkeypatch.setattr(Handshake, "inquire", count)
    async with EmbeddedServer() as first, EmbeddedServer() as second:
        read_only.update((first.hosts, second.hosts))
        began = time.monotonic()
        async with Client(f"{first.hosts},{second.hosts}", session_timeout=T, allow_read_only=True) as client:
            await until(lambda: len(inquiries) == 5)
            assert inquiries[-1] - began > (0.05 + 0.1 + 0.2 + 0.4 + 0.8) / 2
            assert client.session.state.current_state == States.READ_ONLY


# Watches


@pytest.mark.parametrize("when", ["away", "back"])
async def test_all_watches_survive_a_reconnect(
    proxy: FaultProxy, open_client: Open, other: Client, record: Record, path: str, when: str
) -> None:
    client = await open_client(proxy.hosts, on_event=record)
    for name in ("", "/doomed", "/changed", "/parent", "/quiet"):
        await other.create(path + name)
    waits = {
        name: client.wait_for_events([kind], path + name)
        for name, kind in [
            ("/doomed", DELETED),
            ("/changed", DATA_CHANGED),
            ("/parent", CHILDREN_CHANGED),
            ("/unborn", CREATED),
            ("/quiet", DELETED),
        ]
    }
    await client.exists(f"{path}/doomed", watch=True)
    await client.get(f"{path}/changed", watch=True)
    await client.get_children(f"{path}/parent", watch=True)
    assert not await client.exists(f"{path}/unborn", watch=True)
    await client.exists(f"{path}/quiet", watch=True)
    proxy.cut()
    if when == "back":
        proxy.heal()
        await record.wait(ev.Reconnected)
    await other.delete(f"{path}/doomed")
    await other.set_data(f"{path}/changed", b"new")
    await other.create(f"{path}/parent/child")
    await other.create(f"{path}/unborn")
    proxy.heal()
    quiet = waits.pop("/quiet")
    await asyncio.wait_for(asyncio.gather(*waits.values()), 10)
    assert not quiet.done()
    await other.delete(f"{path}/quiet")
    await asyncio.wait_for(quiet, 10)


@pytest.mark.parametrize("ending", ["fin", "rst", "half", "silence"])
async def test_a_second_drop_before_the_watches_are_set_costs_nothing(
    proxy: FaultProxy, open_client: Open, other: Client, record: Record, path: str, ending: str
) -> None:
    client = await open_client(proxy.hosts, on_event=record)
    await other.create(path)
    gone = client.wait_for_events([DELETED], path)
    await client.exists(path, watch=True)
    lost = proxy.lose_reply(SET_WATCHES, then=ending, count=2)  # type: ignore[arg-type]  # one of its literals
    proxy.sever()
    await other.delete(path)
    await asyncio.wait_for(lost.wait(), 20)
    await asyncio.wait_for(gone, 20)
    assert len(record.of(ev.Reconnected)) == 1
    assert not record.of(ev.Expired)


async def test_a_deletion_is_seen_although_a_change_has_used_the_watch_up(
    zookeeper: ZooKeeperServer, open_client: Open, other: Client, path: str
) -> None:
    client = await open_client(zookeeper.hosts)
    await other.create(path)
    gone = client.wait_for_events([DELETED], path)
    await client.exists(path, watch=True)
    await other.set_data(path, b"1")
    await other.set_data(path, b"2")
    await other.delete(path)
    await asyncio.wait_for(gone, 10)


async def test_a_watch_that_could_not_be_set_again_is_set_on_the_next_connection(
    proxy: FaultProxy, open_client: Open, other: Client, record: Record, path: str
) -> None:
    client = await open_client(proxy.hosts, on_event=record)
    await other.create(path)
    gone = client.wait_for_events([DELETED], path)
    await client.exists(path, watch=True)
    lost = proxy.lose_request(EXISTS)
    await other.set_data(path, b"1")
    await asyncio.wait_for(lost.wait(), 10)
    await record.wait(ev.Reconnected)
    await other.delete(path)
    await asyncio.wait_for(gone, 10)


@pytest.mark.parametrize("away", [False, True], ids=["connected", "away"])
async def test_a_deletion_is_seen_although_the_znode_was_made_again(
    proxy: FaultProxy, open_client: Open, other: Client, path: str, away: bool
) -> None:
    client = await open_client(proxy.hosts)
    await other.create(path)
    seen: list[int] = []
    for kind in (DELETED, CREATED):
        client.session.add_watch_callback(kind, path, lambda _, kind=kind: seen.append(kind))  # type: ignore[misc]
    await client.exists(path, watch=True)
    if away:
        proxy.cut()
    else:
        proxy.freeze("up")  # the watch that a change has used up can't be set again in time
    await other.set_data(path, b"1")
    await other.delete(path)
    await other.create(path)
    proxy.heal()
    await until(lambda: len(seen) == 2)
    assert seen == [DELETED, CREATED]
    await other.delete(path)
    await until(lambda: len(seen) == 3)
    assert seen == [DELETED, CREATED, DELETED]


async def test_watches_outlive_the_session(
    proxy: FaultProxy, open_client: Open, other: Client, record: Record, path: str
) -> None:
    client = await open_client(proxy.hosts, session_timeout=0.6, on_event=record)
    await client.create(f"{path}-own", ephemeral=True)
    await other.create(path)
    own = client.wait_for_events([DELETED], f"{path}-own")
    gone = client.wait_for_events([DELETED], path)
    born = client.wait_for_events([CREATED, DELETED], f"{path}-new")
    for name in (path, f"{path}-own", f"{path}-new"):
        await client.exists(name, watch=True)
    proxy.cut()
    await until_gone(other, f"{path}-own")
    proxy.heal()
    await record.wait(ev.Connected, 2)
    await asyncio.wait_for(own, 10)
    assert not gone.done()
    assert not born.done()
    await other.delete(path)
    await other.create(f"{path}-new")
    await asyncio.wait_for(gone, 10)
    await asyncio.wait_for(born, 10)


async def test_thousands_of_long_watches_are_set_again_in_small_requests(
    proxy: FaultProxy, open_client: Open, other: Client, record: Record, path: str
) -> None:
    client = await open_client(proxy.hosts, session_timeout=10.0, on_event=record)
    paths = [f"{path}-{number:04}-{'x' * 400}" for number in range(3000)]
    waits = [client.wait_for_events([CREATED], each) for each in paths]
    await asyncio.gather(*(client.exists(each, watch=True) for each in paths))
    proxy.requests.clear()
    proxy.sever()
    await record.wait(ev.Reconnected)
    sent = [request for request in proxy.requests if request.opcode == SET_WATCHES]
    assert 1.2e6 / (128 * 1024) < len(sent) < 15
    for number in (0, 1500, 2999):
        await other.create(paths[number])
        await asyncio.wait_for(waits[number], 10)
    assert sum(wait.done() for wait in waits) == 3
    for wait in waits:
        wait.cancel()


async def test_a_listener_that_left_is_not_called_by_the_event_that_drove_it_out(
    zookeeper: ZooKeeperServer, open_client: Open, other: Client, path: str
) -> None:
    client = await open_client(zookeeper.hosts)
    await other.create(path)
    called: list[str] = []

    def first(_: str) -> None:
        called.append("first")
        client.session.remove_watch_callback(DELETED, path, second)

    def second(_: str) -> None:
        called.append("second")

    client.session.add_watch_callback(DELETED, path, first)
    client.session.add_watch_callback(DELETED, path, second)
    await client.exists(path, watch=True)
    await other.delete(path)
    await until(lambda: called)
    assert called == ["first"]


# Closing


async def test_close_ends_the_session_at_once(zookeeper: ZooKeeperServer, other: Client, path: str) -> None:
    client = await connect(zookeeper.hosts)
    await client.create(path, ephemeral=True)
    gone = other.wait_for_events([DELETED], path)
    await other.exists(path, watch=True)
    began = time.monotonic()
    await client.close()
    await asyncio.wait_for(gone, 5)
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("fault", ["frozen", "unreachable", "refusing"])
async def test_close_returns_within_a_second_or_so_when_the_server_is_away(
    proxy: FaultProxy, fault: str, record: Record
) -> None:
    client = await connect(proxy.hosts, session_timeout=10.0, on_event=record)
    {"frozen": proxy.freeze, "unreachable": proxy.blackhole, "refusing": proxy.cut}[fault]()
    asking = asyncio.create_task(client.exists("/"))
    await asyncio.sleep(0)
    began = time.monotonic()
    await client.close()
    assert time.monotonic() - began < 1 + SLACK
    assert len(record.of(ev.Closed)) == 1
    with pytest.raises((ClientClosed, ConnectionLoss)):
        await asyncio.wait_for(asking, 1)


async def test_close_returns_when_no_server_was_ever_reached() -> None:
    [port] = free_ports(1)
    client = Client(f"127.0.0.1:{port}")
    await client.close()
    starting = asyncio.create_task(client.start())
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await client.close()
    assert time.monotonic() - began < SLACK
    with pytest.raises(ClientClosed):
        await starting


async def test_close_ends_the_session_on_the_next_member_when_its_own_is_cut_off(
    proxies: tuple[FaultProxy, ...], ensemble: ZooKeeperEnsemble, open_client: Open, path: str
) -> None:
    other = await open_client(ensemble.hosts, session_timeout=10.0)
    client = await connect(hosts_of(proxies), session_timeout=10.0)
    await client.create(path, ephemeral=True)
    gone = other.wait_for_events([DELETED], path)
    await other.exists(path, watch=True)
    proxy = current(client, proxies)
    proxy.lose_request(CLOSE, then="rst")
    began = time.monotonic()
    await client.close()
    await asyncio.wait_for(gone, 5)
    assert time.monotonic() - began < 2


async def test_a_session_that_was_closed_without_an_answer_is_not_reported_as_expired(
    proxy: FaultProxy, record: Record
) -> None:
    client = await connect(proxy.hosts, on_event=record)
    witness = Witness()
    client.session.observe(witness)
    lost = proxy.lose_reply(CLOSE)
    await client.close()
    assert lost.is_set()
    assert witness.seen == ["closed"]
    assert [type(event) for event in record] == [ev.Connected, ev.Closed]


async def test_requests_after_close_fail_at_once(zookeeper: ZooKeeperServer) -> None:
    client = await connect(zookeeper.hosts)
    await client.close()
    await client.close()
    began = time.monotonic()
    for request in (client.exists("/"), client.create("/x"), client.session.ensure_safe_state()):
        with pytest.raises(ClientClosed):
            await request
    with pytest.raises(ClientClosed):
        client.session.submit(protocol.ExistsRequest(path="/", watch=False))
    assert time.monotonic() - began < 0.2


async def test_waiting_requests_fail_when_the_client_is_closed(proxy: FaultProxy) -> None:
    client = await connect(proxy.hosts)
    proxy.cut()
    await until(lambda: not client.session.connected)
    asking = [asyncio.create_task(client.exists("/")) for _ in range(3)]
    await asyncio.sleep(0.01)
    await client.close()
    for task in asking:
        with pytest.raises(ClientClosed):
            await asyncio.wait_for(task, 1)


async def test_closing_twice_at_once_waits_for_the_end_twice(
    zookeeper: ZooKeeperServer, other: Client, path: str
) -> None:
    client = await connect(zookeeper.hosts)
    await client.create(path, ephemeral=True)
    await asyncio.gather(client.close(), client.close())
    assert not await other.exists(path)


async def test_a_cancelled_close_still_ends_the_session(zookeeper: ZooKeeperServer, other: Client, path: str) -> None:
    for steps in range(8):
        client = await connect(zookeeper.hosts)
        await client.create(path, ephemeral=True)
        closing = asyncio.create_task(client.close())
        for _ in range(steps):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        if steps:  # at step 0 it has not begun
            assert not await other.exists(path)
        await client.close()


async def test_start_can_be_cancelled_at_any_step(proxy: FaultProxy) -> None:
    for steps in (*range(30), 40, 60, 90, 130, 200, 300, 500, 800):
        client = Client(f"{proxy.hosts}/chroot-of-a-cancelled-start")
        starting = asyncio.create_task(client.start())
        for _ in range(steps):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        if starting.cancelled():
            assert not client.session.started
        await client.close()
    await until(lambda: not proxy._links)


async def test_a_closed_client_can_be_started_again(zookeeper: ZooKeeperServer) -> None:
    client = await connect(zookeeper.hosts)
    first = client.session.session_id
    await client.close()
    await client.start()
    assert client.session.session_id != first
    assert await client.exists("/")
    await client.close()


# Event loops


async def test_another_event_loop_is_refused(zookeeper: ZooKeeperServer, open_client: Open) -> None:
    client = await open_client(zookeeper.hosts)
    errors: list[BaseException] = []

    async def use() -> None:
        for call in (
            lambda: client.exists("/"),
            lambda: client.create("/x"),
            lambda: client.start(),
            lambda: client.close(),
            lambda: client.session.ensure_safe_state(),
        ):
            try:
                await call()
            except Exception as e:
                errors.append(e)
        try:
            client.wait_for_events([DELETED], "/")
        except Exception as e:
            errors.append(e)

    thread = threading.Thread(target=asyncio.run, args=(use(),))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert [type(error) for error in errors] == [RuntimeError] * 6, errors
    assert "another event loop" in str(errors[0])
    assert await client.exists("/")


def test_a_loop_of_uvloop_does_as_well(zookeeper: ZooKeeperServer, path: str) -> None:
    import uvloop

    uvloop.run(live(zookeeper.hosts, path))


@pytest.mark.parametrize("eager", [False, True] if hasattr(asyncio, "eager_task_factory") else [False])
def test_a_loop_with_eager_tasks_does_as_well(zookeeper: ZooKeeperServer, path: str, eager: bool) -> None:
    with asyncio.Runner() as runner:
        if eager:
            runner.get_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        runner.run(live(zookeeper.hosts, path))


async def live(hosts: str, path: str) -> None:
    """A short life: drops, silence, watches, a blocked loop, cancellation, close."""
    record = Record()
    async with FaultProxy(hosts) as proxy, connect(hosts, session_timeout=T) as other:
        async with connect(proxy.hosts, session_timeout=T, on_event=record) as client:
            await client.create(path, ephemeral=True)
            gone = other.wait_for_events([DELETED], path)
            await other.exists(path, watch=True)
            await other.create(f"{path}-b")
            deleted = client.wait_for_events([DELETED], f"{path}-b")
            await client.exists(f"{path}-b", watch=True)
            proxy.reset()
            await other.delete(f"{path}-b")
            await asyncio.wait_for(deleted, 10)
            conn = other.session.conn
            await ask_and_block(other, client, f"{path}-d")
            assert other.session.conn is conn
            proxy.blackhole()
            await record.wait(ev.Disconnected, 2)
            proxy.heal()
            await record.wait(ev.Reconnected, 2)
            creating = asyncio.create_task(client.create(f"{path}-c"))
            await asyncio.sleep(0)
            creating.cancel()
            await asyncio.wait([creating])
            assert not await other.exists(f"{path}-c")
        await asyncio.wait_for(gone, 5)
        with pytest.raises(exc.InvalidClientState):
            await client.exists("/")
    assert CREATE_SESSION in [request.opcode for request in proxy.requests]
    assert not record.of(ev.Expired)
    assert asyncio.all_tasks() == {asyncio.current_task()}


# What the servers grant


async def test_a_session_timeout_that_was_cut_short_is_a_warning_where_it_still_works(
    zookeeper: ZooKeeperServer, open_client: Open, logged: Logged
) -> None:
    client = await open_client(zookeeper.hosts, session_timeout=60.0)
    assert client.session.timeout == 20.0
    (warning,) = (record.getMessage() for record in logged())
    assert warning.startswith(
        f"asked for a session timeout of 60 s, {zookeeper.hosts} granted 20 s: outages of 5 s are"
    )


async def test_a_session_timeout_that_is_granted_is_no_warning(
    zookeeper: ZooKeeperServer, open_client: Open, logged: Logged
) -> None:
    await open_client(zookeeper.hosts, session_timeout=20.0)
    assert logged() == []


async def test_a_session_timeout_that_was_cut_too_short_for_the_timing_is_an_error(
    zookeeper: ZooKeeperServer, open_client: Open
) -> None:
    with pytest.raises(
        ValueError, match=r"session_timeout=20 less tick_time=10.* must be more than twice renew_every=6"
    ):
        await open_client(zookeeper.hosts, session_timeout=60.0, renew_every=6.0)


async def test_a_server_that_grants_too_little_later_costs_the_session_and_not_the_client(
    open_client: Open, record: Record, path: str
) -> None:
    """Its timeout is shorter from then on, on whatever server. Nobody is to lead before the body has ended: so it expires."""
    terms, losses = list[str](), Record()

    async with EmbeddedServer(tick_time=0.2, max_session_timeout=4.0) as server:
        client = await open_client(server.hosts, session_timeout=4.0, renew_every=0.5, on_event=record)
        other = await open_client(server.hosts, session_timeout=4.0)

        async def work(leader: Leader) -> None:
            terms.append(leader.path)
            try:
                await asyncio.Event().wait()
            finally:
                assert await other.exists(leader.path)

        campaigning = asyncio.create_task(campaign(client, path, work, on_event=losses))
        await until(lambda: terms)
        server._max_timeout = 2.0
        client.session.drop("a member of the ensemble that grants less is next")
        assert "must be more than twice renew_every=0.5" in (await record.wait(ev.Unreachable)).why
        assert (await losses.wait(ev.Losing)).reason is LossReason.SESSION_EXPIRED
        await record.wait(ev.Unreachable, 3)
        assert len(server.sessions) <= 3  # ours of before, the other's, and one that is just being tried
        server._max_timeout = 4.0
        await record.wait(ev.Connected, 2)
        await until(lambda: len(terms) == 2)
        assert len(record.of(ev.Expired)) == 1
        assert await client.get_children(path) == [terms[1].rpartition("/")[2]]
        campaigning.cancel()
        await asyncio.wait([campaigning])


async def test_leaders_are_not_told_that_the_user_closed_a_client_that_has_failed(
    zookeeper: ZooKeeperServer, open_client: Open, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a campaign ends with what no retry can mend."""
    client = await open_client(zookeeper.hosts)
    led, losses = asyncio.Event(), Record()

    async def work(leader: Leader) -> None:
        led.set()
        await asyncio.Event().wait()

    async def fail(*_: object) -> None:
        raise RuntimeError("no retry can mend it")

    campaigning = asyncio.create_task(campaign(client, path, work, on_event=losses))
    await led.wait()
    monkeypatch.setattr(client.session._servers, "find", fail)
    client.session.drop("now")
    with pytest.raises(RuntimeError, match="no retry can mend it"):
        await asyncio.wait_for(campaigning, 10)
    assert [event.reason for event in losses.of(ev.Losing)] == [LossReason.SESSION_EXPIRED]
