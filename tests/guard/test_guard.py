"""What the guard does when its process dies, in whatever way, and that it does nothing while that lives."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import aioelect
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.proxy import FaultProxy
from aioelect.testing.zookeeper import ZooKeeperEnsemble, ZooKeeperServer
from tests.elections import eventually, queue, soon
from tests.guard.guarded import (
    FAST,
    T,
    check_takes_over,
    end_session,
    gone,
    guarded,
    guards_of,
    is_over,
    is_running,
    is_there,
    resume_frame,
    settled_rss,
    shown_of,
    successor,
)


@pytest.fixture
async def client(zookeeper: ZooKeeperServer) -> AsyncIterator[aioelect.Client]:
    """That of the next in line."""
    async with aioelect.connect(zookeeper.hosts, session_timeout=T) as client:
        yield client


async def is_free(client: aioelect.Client, path: str) -> bool:
    return not await queue(client, path)


# Death


@pytest.mark.parametrize("guard", ["yes", "strict"])
@pytest.mark.parametrize("options", [(), ("--uvloop",), ("--thread",)], ids="".join)
async def test_the_next_one_leads_at_once_when_the_leader_is_killed(
    zookeeper: ZooKeeperServer, client: aioelect.Client, path: str, guard: str, options: tuple[str, ...]
) -> None:
    async with guarded(zookeeper.hosts, path, T, guard, *options) as program:
        pid = await program.leads()
        await check_takes_over(client, path, program.kill)
        await gone(pid)


async def test_it_does_so_on_an_ensemble(ensemble: ZooKeeperEnsemble, path: str) -> None:
    async with (
        aioelect.connect(ensemble.hosts, session_timeout=T) as client,
        guarded(ensemble.hosts, path, T) as program,
    ):
        await program.leads()
        await check_takes_over(client, path, program.kill)


async def test_it_does_so_on_the_embedded_server(path: str) -> None:
    async with (
        EmbeddedServer(tick_time=0.5) as server,
        aioelect.connect(server.hosts, session_timeout=T) as client,
        guarded(server.hosts, path, T) as program,
    ):
        await program.leads()
        await check_takes_over(client, path, program.kill)


async def test_it_finds_another_server_when_its_own_goes_with_the_process(
    ensemble: ZooKeeperEnsemble, path: str
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(FaultProxy(member.hosts)) for member in ensemble.members]
        client = await stack.enter_async_context(aioelect.connect(ensemble.hosts, session_timeout=T))
        home, *others = proxies
        for proxy in others:
            proxy.refuse()
        program = await stack.enter_async_context(guarded(",".join(proxy.hosts for proxy in proxies), path, T))
        await program.leads()
        for proxy in others:
            proxy.heal()

        def both() -> float:
            home.refuse()
            home.reset()
            return program.kill()

        await check_takes_over(client, path, both)


async def test_credentials_go_before_the_close(zookeeper: ZooKeeperServer, client: aioelect.Client, path: str) -> None:
    async with (
        FaultProxy(zookeeper.hosts) as proxy,
        guarded(proxy.hosts, path, T, "yes", "--auth", "Digest") as program,
    ):
        await program.leads()
        before = len(proxy.requests)
        await check_takes_over(client, path, program.kill)
        opcodes = [request.opcode for request in proxy.requests[before:] if request.opcode != 11]
        sequences = [opcodes[at : at + 3] for at in range(len(opcodes))]
        assert [-10, 100, -11] in sequences, opcodes  # beside what the process itself was just asking


async def test_a_session_that_replaced_another_is_closed(
    zookeeper: ZooKeeperServer, client: aioelect.Client, path: str
) -> None:
    async with guarded(zookeeper.hosts, path, T) as program:
        first = await program.hear("Leads")
        await end_session(zookeeper, first["session"], bytes.fromhex(first["password"]))
        assert (await program.hear("Leads", 2))["session"] != first["session"]
        await check_takes_over(client, path, program.kill)


@pytest.mark.parametrize("seed", range(12))
async def test_a_process_may_be_killed_at_any_moment(
    zookeeper: ZooKeeperServer, client: aioelect.Client, path: str, seed: int
) -> None:
    chance = random.Random(seed)
    async with guarded(zookeeper.hosts, path, T) as program:
        await program.hear("Starts")
        if seed % 2:
            await program.leads()
            program.order("drop")  # dies while it reconnects
        await asyncio.sleep(chance.uniform(0, 0.03))
        helpers = guards_of(program.pid)
        program.kill()
        async with asyncio.timeout(FAST):
            while not await is_free(client, path):
                await asyncio.sleep(0.01)
            for pid in helpers:
                await gone(pid)
        assert await is_free(client, path)


async def test_late_connect_requests_of_the_dead_process_change_nothing(ensemble: ZooKeeperEnsemble, path: str) -> None:
    async with (
        aioelect.connect(ensemble.hosts, session_timeout=T) as client,
        guarded(ensemble.hosts, path, T) as program,
        contextlib.AsyncExitStack() as stack,
    ):
        led = await program.hear("Leads")
        late = resume_frame(led["session"], bytes.fromhex(led["password"]))
        chance = random.Random(1)

        async def arrive(member: ZooKeeperServer) -> None:
            await asyncio.sleep(chance.uniform(0, 0.01))
            host, port = member.hosts.split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
            writer.write(late)
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await reader.readexactly(4)

        program.kill()
        await asyncio.gather(*(arrive(member) for member in ensemble.members * 3))
        async with asyncio.timeout(FAST):
            await gone(led["guard"])
        assert await is_free(client, path)
        assert await is_over(ensemble.members[0], late)


# What is no death


async def test_closing_all_descriptors_is_no_death(
    zookeeper: ZooKeeperServer, client: aioelect.Client, path: str
) -> None:
    async with guarded(zookeeper.hosts, path, T) as program:
        pid = await program.leads()
        async with successor(client, path) as next_one:
            program.order("close")
            await program.hear("Closed")
            await asyncio.sleep(0.5)  # it would have acted long before
            assert not next_one.leads
            assert is_running(pid)
            at = program.kill()
            assert await next_one.led() - at < FAST


async def test_the_death_of_a_forked_child_is_none_and_its_life_hides_none(
    zookeeper: ZooKeeperServer, client: aioelect.Client, path: str
) -> None:
    async with guarded(zookeeper.hosts, path, T) as program:
        pid = await program.leads()
        async with successor(client, path) as next_one:
            program.order("fork")
            program.order("fork")
            await program.hear("Forked", 2)
            victim = (await program.hear("Forked"))["pid"]
            os.kill(victim, signal.SIGKILL)
            await gone(victim)
            await asyncio.sleep(0.3)  # it would have acted long before
            assert not next_one.leads
            assert is_running(pid)
            at = program.kill()
            assert await next_one.led() - at < FAST


async def test_a_daemon_that_leaves_its_first_process_is_dead(
    zookeeper: ZooKeeperServer, client: aioelect.Client, path: str
) -> None:
    async with guarded(zookeeper.hosts, path, T) as program:
        await program.leads()

        def leave() -> float:
            program.order("leave")
            return asyncio.get_running_loop().time()

        await check_takes_over(client, path, leave)
        assert (await program.hear("Forked"))["pid"] != program.pid


@pytest.mark.parametrize("guard", ["yes", "strict"])
async def test_after_an_exec_the_session_expires_and_the_other_program_lives(
    zookeeper: ZooKeeperServer, path: str, guard: str
) -> None:
    async with (
        aioelect.connect(zookeeper.hosts, session_timeout=1) as client,
        guarded(zookeeper.hosts, path, 1, guard) as program,
    ):
        pid = await program.leads()
        async with successor(client, path) as next_one:
            program.order("exec")
            await program.hear("Another")
            assert not next_one.leads
            await next_one.led()
        await gone(pid)
        assert program.process.returncode is None


async def test_a_stopped_process_is_not_dead(zookeeper: ZooKeeperServer, path: str) -> None:
    async with (
        aioelect.connect(zookeeper.hosts, session_timeout=2) as client,
        guarded(zookeeper.hosts, path, 2) as program,
    ):
        pid = await program.leads()
        async with successor(client, path) as next_one:
            at = program.kill(signal.SIGSTOP)
            assert await next_one.led() - at > 1  # its session has expired
        assert is_running(pid)
        program.kill(signal.SIGCONT)
        await program.hear("Stops")
        await program.hear("Leads", 2)


# Signals


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGUSR1"])
async def test_it_ignores_what_ends_others(
    zookeeper: ZooKeeperServer, client: aioelect.Client, path: str, name: str
) -> None:
    async with guarded(zookeeper.hosts, path, T) as program:
        pid = await program.leads()
        os.kill(pid, getattr(signal, name))
        await check_takes_over(client, path, program.kill)


async def test_it_outlives_the_group_of_its_process(
    zookeeper: ZooKeeperServer, client: aioelect.Client, path: str
) -> None:
    async with guarded(zookeeper.hosts, path, T) as program:
        pid = await program.leads()
        assert os.getpgid(pid) != os.getpgid(program.pid)
        assert os.getsid(pid) != os.getsid(program.pid)

        def end_group() -> float:
            os.killpg(program.pid, signal.SIGTERM)
            return asyncio.get_running_loop().time()

        await check_takes_over(client, path, end_group)


async def test_it_ignores_signals_from_its_first_moment(
    zookeeper: ZooKeeperServer, client: aioelect.Client, path: str
) -> None:
    async with guarded(zookeeper.hosts, path, T) as program:
        await program.hear("Starts")
        helpers: list[int] = []
        while not helpers:
            await asyncio.sleep(0)
            helpers = guards_of(program.pid)
        os.kill(helpers[0], signal.SIGTERM)
        assert await program.leads() == helpers[0]


async def test_an_interrupted_process_leaves_and_its_guard_with_it(
    zookeeper: ZooKeeperServer, client: aioelect.Client, path: str
) -> None:
    async with guarded(zookeeper.hosts, path, T, stderr=PIPE) as program:
        pid = await program.leads()

        def interrupt() -> float:
            os.killpg(program.pid, signal.SIGINT)
            return asyncio.get_running_loop().time()

        await check_takes_over(client, path, interrupt)
        await soon(program.process.wait())
        await gone(pid)


# Life


async def test_a_guard_that_dies_is_replaced(zookeeper: ZooKeeperServer, client: aioelect.Client, path: str) -> None:
    async with guarded(zookeeper.hosts, path, T, stderr=PIPE) as program:
        first = await program.leads()
        os.kill(first, signal.SIGKILL)
        second = first
        while second in (None, first):
            await asyncio.sleep(0.02)
            program.order("tell")
            count = len([said for said in program.said if said["event"] == "State"])
            second = (await program.hear("State", count + 1))["guard"]
        assert not is_there(first)  # no zombie
        await check_takes_over(client, path, program.kill)
        await gone(second)


async def test_a_client_that_is_closed_leaves_nothing(zookeeper: ZooKeeperServer) -> None:
    def descriptors() -> set[str]:
        found = set()
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.add(os.readlink(f"/proc/self/fd/{name}"))
        return {name for name in found if "socket" in name or "memfd" in name or "pidfd" in name}

    before = descriptors()
    for guard in (True, "strict", True):
        async with (
            aioelect.connect(zookeeper.hosts, session_timeout=T, guard=guard) as one,
            aioelect.connect(zookeeper.hosts, session_timeout=T, guard=guard) as two,
        ):
            assert one.guard is not None
            assert two.guard is not None
            pids = {pid for pid in (one.guard.pid, two.guard.pid) if pid is not None}
            assert len(pids) == 2
            await eventually(lambda: len(guards_of(os.getpid())) == 2)  # after their execs
        for pid in pids:
            assert not is_there(pid)
    await asyncio.sleep(0)
    assert descriptors() == before


async def test_a_client_can_be_started_again(zookeeper: ZooKeeperServer) -> None:
    client = await aioelect.connect(zookeeper.hosts, session_timeout=T, guard=True)
    assert client.guard is not None
    first = client.guard.pid
    await client.close()
    assert client.guard.pid is None
    await client.start()
    await eventually(lambda: client.guard is not None and client.guard.pid is not None)
    assert client.guard.pid != first
    await client.close()


async def test_no_guard_is_left_when_no_server_is_found() -> None:
    with pytest.raises(aioelect.ConnectTimeout):
        await aioelect.connect("127.0.0.1:1", timeout=0.2, guard=True)
    assert guards_of(os.getpid()) == []


async def test_a_guard_watches_over_a_body_that_outlives_its_client(zookeeper: ZooKeeperServer, path: str) -> None:
    client = await aioelect.connect(zookeeper.hosts, session_timeout=1, guard=True)
    candidate = await aioelect.Candidate.enter(client, path, drain=0.05)
    await candidate.wait_elected()
    assert client.guard is not None
    pid = client.guard.pid
    assert pid is not None
    await client.close()  # the holder of the candidate does not react
    assert is_running(pid)
    await candidate.withdraw()
    await eventually(lambda: not is_there(pid))  # when the session has expired


async def test_a_process_with_two_clients_has_two_guards(zookeeper: ZooKeeperServer, path: str) -> None:
    async with (
        aioelect.connect(zookeeper.hosts, session_timeout=T) as client,
        guarded(zookeeper.hosts, path, T, "yes", "--twice") as program,
    ):
        await program.leads()
        await program.hear("Twice")
        await eventually(lambda: len(guards_of(program.pid)) == 2)
        assert await client.exists(f"{path}-twice")
        program.kill()
        async with asyncio.timeout(FAST):
            while await client.exists(f"{path}-twice") or not await is_free(client, path):
                await asyncio.sleep(0.01)


async def test_two_guards_of_one_session_do_not_keep_it_alive(ensemble: ZooKeeperEnsemble, path: str) -> None:
    """Each resumes what the other one closes."""
    async with (
        aioelect.connect(ensemble.hosts, session_timeout=T) as client,
        guarded(ensemble.hosts, path, T) as program,
    ):
        led = await program.hear("Leads")
        program.order("double")
        other = (await program.hear("Doubled"))["guard"]
        assert other not in (None, led["guard"])
        await check_takes_over(client, path, program.kill)
        async with asyncio.timeout(FAST):
            await gone(led["guard"])
            await gone(other)
        assert await is_over(ensemble.members[0], resume_frame(led["session"], bytes.fromhex(led["password"])))


async def test_credentials_show_nowhere_and_memory_is_small(zookeeper: ZooKeeperServer) -> None:
    async with aioelect.connect(zookeeper.hosts, session_timeout=T, guard=True) as client:
        assert client.guard is not None
        pid, session_id = client.guard.pid, client.session.session_id
        assert pid is not None
        assert session_id is not None
        size = await settled_rss(pid)
        shown = shown_of(pid)
        assert b"child.py" in shown
        for secret in (client.session.password, session_id.to_bytes(8, "big", signed=True)):
            assert secret not in shown
            assert secret.hex().encode() not in shown
        assert str(session_id).encode() not in shown
        print(f"RSS {size:.1f} MB")
        assert size < 12.5
        assert hard_core_limit(pid) == "0"


def hard_core_limit(pid: int) -> str:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[5] for line in lines if line.startswith("Max core"))
